/*
 * MSI-X and MSI: table and PBA accesses, every way to mask, pending bits through both ways to send,
 * and what is refused.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/test_pci.h"

#define TABLE	0x1000u
#define PBA	0x1800u
#define VECTORS 70u /* the PBA has a second qword, not full */
#define BAR	RIG_MEM32

static struct rig_device *msix_device(struct rig *r)
{
	struct rig_device *d = rig_device(r, "blk0", 9);
	struct error e = { 0 };

	rig_bar(d, 0, PCI_BAR_MEM32, false, 0x2000);
	cr_assert(pci_add_msix(&d->f, VECTORS, 0, TABLE, PBA, &e) == 0, "%s", e.msg);
	rig_plug(r, d, -1);
	place(r, d, 0, BAR);
	command(r, d, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return d;
}

static void flags(struct rig *r, struct rig_device *d, uint16_t value)
{
	cfg_write(r, d, d->f.msix.capability + PCI_MSIX_FLAGS, 2, value);
}

static uint64_t entry(unsigned vector, unsigned offset)
{
	return BAR + TABLE + vector * PCI_MSIX_ENTRY_SIZE + offset;
}

static void program(struct rig *r, unsigned vector, uint32_t data)
{
	mmio_write(r, entry(vector, PCI_MSIX_ENTRY_LOWER_ADDR), 4, 0xfee01000);
	mmio_write(r, entry(vector, PCI_MSIX_ENTRY_UPPER_ADDR), 4, 0);
	mmio_write(r, entry(vector, PCI_MSIX_ENTRY_DATA), 4, data);
	mmio_write(r, entry(vector, PCI_MSIX_ENTRY_VECTOR_CTRL), 4, 0);
}

static void mask(struct rig *r, unsigned vector, bool masked)
{
	mmio_write(r, entry(vector, PCI_MSIX_ENTRY_VECTOR_CTRL), 4, masked);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	cr_assert_eq(write(fd, &one, sizeof(one)), 8);
}

Test(msix, capability)
{
	struct rig *r = rig_create();
	struct rig_device *d = msix_device(r);
	unsigned at = d->f.msix.capability;

	cr_expect_eq(cfg_read(r, d, at, 1), PCI_CAP_ID_MSIX);
	cr_expect_eq(cfg_read(r, d, at + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	cr_expect_eq(cfg_read(r, d, at + PCI_MSIX_TABLE, 4), TABLE);
	cr_expect_eq(cfg_read(r, d, at + PCI_MSIX_PBA, 4), PBA);
	flags(r, d, 0xffff);
	cr_expect_eq(cfg_read(r, d, at + PCI_MSIX_FLAGS, 2), 0xc000 | (VECTORS - 1));
	cr_expect(pci_msix_enabled(&d->f));
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(msix, table_accesses)
{
	struct rig *r = rig_create();
	struct rig_device *d = msix_device(r);

	for (unsigned i = 0; i < VECTORS; i++) {
		cr_expect_eq(mmio_read(r, entry(i, 0), 8), 0);
		cr_expect_eq(mmio_read(r, entry(i, 8), 8), 1ull << 32, "masked after reset");
	}
	mmio_write(r, entry(1, 0), 8, 0x00000001fee0200f);
	mmio_write(r, entry(1, 8), 8, 0xffffffff00004321);
	cr_expect_eq(mmio_read(r, entry(1, 0), 8), 0x00000001fee0200c, "messages are words");
	cr_expect_eq(mmio_read(r, entry(1, 8), 4), 0x4321);
	cr_expect_eq(mmio_read(r, entry(1, 12), 4), 1, "only the mask bit");
	/* narrow and misaligned ones: undefined, so harmless */
	mmio_write(r, entry(1, 8), 1, 0x55);
	mmio_write(r, entry(1, 8), 2, 0x5555);
	mmio_write(r, entry(1, 6), 4, 0x55555555);
	mmio_write(r, entry(1, 4), 8, 0x5555555555555555);
	cr_expect_eq(mmio_read(r, entry(1, 0), 8), 0x00000001fee0200c);
	cr_expect_eq(mmio_read(r, entry(1, 8), 4), 0x4321);
	cr_expect_eq(mmio_read(r, entry(1, 8), 1), 0xff);
	cr_expect_eq(mmio_read(r, entry(1, 4), 8), ~0ull);

	/* the rest of the BAR is the device's */
	mmio_write(r, BAR + TABLE - 4, 4, 0x77);
	cr_expect_eq(d->bar[0].last_offset, TABLE - 4);
	cr_expect_eq(mmio_read(r, BAR + TABLE - 8, 8), 0x900);
	cr_expect_eq(mmio_read(r, entry(VECTORS, 0), 4), 0x900);
	mmio_write(r, entry(VECTORS, 0), 4, 0x78);
	cr_expect_eq(d->bar[0].last_value, 0x78);
	cr_expect_eq(d->bar[0].writes, 2);
	mmio_write(r, BAR + TABLE - 4, 8, 0x79); /* half of it in the table */
	mmio_write(r, entry(VECTORS, 0) - 4, 8, 0x79);
	cr_expect_eq(d->bar[0].writes, 2);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(msix, send_mask_and_pending)
{
	struct rig *r = rig_create();
	struct rig_device *d = msix_device(r);

	program(r, 2, 0x42);
	pci_msix_send(&d->f, 2);
	cr_expect_eq(r->sent, 0, "not enabled");
	cr_expect_eq(mmio_read(r, BAR + PBA, 8), 0, "and so nothing to send later");
	flags(r, d, PCI_MSIX_FLAGS_ENABLE);
	cr_expect_eq(r->sent, 0);
	pci_msix_send(&d->f, 2);
	cr_expect_eq(r->sent, 1);
	cr_expect_eq(r->msg[0].address, 0xfee01000);
	cr_expect_eq(r->msg[0].data, 0x42);

	mask(r, 2, true);
	pci_msix_send(&d->f, 2);
	pci_msix_send(&d->f, 2);
	cr_expect_eq(r->sent, 1);
	cr_expect_eq(mmio_read(r, BAR + PBA, 8), 4);
	cr_expect_eq(mmio_read(r, BAR + PBA, 4), 4);
	mmio_write(r, BAR + PBA, 8, 0);
	cr_expect_eq(mmio_read(r, BAR + PBA, 8), 4, "read-only");
	mask(r, 2, false);
	cr_expect_eq(r->sent, 2, "once");
	cr_expect_eq(mmio_read(r, BAR + PBA, 8), 0);
	mask(r, 2, true);
	mask(r, 2, false);
	cr_expect_eq(r->sent, 2);

	/* a vector that is changed while masked and pending sends the new message */
	mask(r, 2, true);
	pci_msix_send(&d->f, 2);
	mmio_write(r, entry(2, PCI_MSIX_ENTRY_DATA), 8, 0x0000000000000043);
	cr_expect_eq(r->sent, 3);
	cr_expect_eq(r->msg[2].data, 0x43);
	/* and one changed while unmasked sends the new one from then on */
	mmio_write(r, entry(2, PCI_MSIX_ENTRY_DATA), 4, 0x44);
	cr_expect_eq(r->sent, 3);
	pci_msix_send(&d->f, 2);
	cr_expect_eq(r->msg[3].data, 0x44);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(msix, function_mask_enable_and_bus_master)
{
	struct rig *r = rig_create();
	struct rig_device *d = msix_device(r);

	program(r, 0, 0x30);
	program(r, 69, 0x31);
	flags(r, d, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_msix_send(&d->f, 0);
	pci_msix_send(&d->f, 69);
	pci_msix_send(&d->f, 1); /* masked by itself, too */
	cr_expect_eq(r->sent, 0);
	cr_expect_eq(mmio_read(r, BAR + PBA, 8), 3);
	cr_expect_eq(mmio_read(r, BAR + PBA + 8, 8), 1 << 5);
	cr_expect_eq(mmio_read(r, BAR + PBA + 8, 4), 1 << 5);
	cr_expect_eq(mmio_read(r, BAR + PBA + 12, 4), 0);
	flags(r, d, PCI_MSIX_FLAGS_ENABLE);
	cr_expect_eq(r->sent, 2);
	cr_expect_eq(mmio_read(r, BAR + PBA, 8), 2);

	command(r, d, PCI_COMMAND_MEMORY);
	cr_expect_not(pci_bus_master(&d->f));
	pci_msix_send(&d->f, 0);
	cr_expect_eq(r->sent, 2, "a message is DMA");
	command(r, d, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cr_expect(pci_bus_master(&d->f));
	cr_expect_eq(r->sent, 3);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(msix, eventfd)
{
	struct rig *r = rig_create();
	struct rig_device *d = msix_device(r);
	int fd = pci_msix_eventfd(&d->f, 5);

	cr_assert_geq(fd, 0);
	cr_expect_eq(pci_msix_eventfd(&d->f, 5), fd);
	flags(r, d, PCI_MSIX_FLAGS_ENABLE);
	signal_fd(fd);
	rig_deliver(r);
	cr_expect_eq(r->sent, 0);
	cr_expect_eq(mmio_read(r, BAR + PBA, 8), 1 << 5);
	program(r, 5, 0x55);
	rig_deliver(r);
	cr_expect_eq(r->sent, 1);
	cr_expect_eq(r->msg[0].data, 0x55);
	cr_expect_eq(mmio_read(r, BAR + PBA, 8), 0);
	mmio_write(r, entry(5, PCI_MSIX_ENTRY_DATA), 4, 0x56);
	signal_fd(fd);
	rig_deliver(r);
	cr_expect_eq(r->msg[1].data, 0x56, "rebound");
	flags(r, d, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	signal_fd(fd);
	rig_deliver(r);
	cr_expect_eq(r->sent, 2);
	cr_expect_eq(mmio_read(r, BAR + PBA, 4), 1 << 5);
	pci_function_reset(&d->f);
	place(r, d, 0, BAR);
	command(r, d, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cr_expect_eq(mmio_read(r, BAR + PBA, 4), 0, "nothing left over");
	program(r, 5, 0x57);
	flags(r, d, PCI_MSIX_FLAGS_ENABLE);
	rig_deliver(r);
	cr_expect_eq(r->sent, 2);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(msix, reset)
{
	struct rig *r = rig_create();
	struct rig_device *d = msix_device(r);

	program(r, 0, 0x30);
	flags(r, d, PCI_MSIX_FLAGS_ENABLE);
	pci_msix_send(&d->f, 1);
	pci_function_reset(&d->f);
	cr_expect_not(pci_msix_enabled(&d->f));
	pci_msix_send(&d->f, 0);
	cr_expect_eq(r->sent, 0);
	place(r, d, 0, BAR);
	command(r, d, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cr_expect_eq(mmio_read(r, entry(0, 0), 8), 0);
	cr_expect_eq(mmio_read(r, entry(0, 8), 8), 1ull << 32);
	cr_expect_eq(mmio_read(r, BAR + PBA, 8), 0);
	flags(r, d, PCI_MSIX_FLAGS_ENABLE);
	mask(r, 0, false);
	mask(r, 1, false);
	cr_expect_eq(r->sent, 0);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(msix, what_is_refused)
{
	struct rig *r = rig_create();
	struct rig_device *d = msix_device(r);
	struct rig_device *n = rig_device(r, "net0", 1);
	struct error e;

	pci_msix_send(&d->f, VECTORS);
	pci_msix_send(&d->f, 0xffff);
	pci_msix_send(&n->f, 0);
	cr_expect_eq(pci_msix_eventfd(&d->f, VECTORS), -EINVAL);
	cr_expect_eq(pci_msix_eventfd(&n->f, 0), -EINVAL);
	cr_expect_not(pci_msix_enabled(&n->f));

	rig_bar(n, 0, PCI_BAR_IO, false, 0x100);
	rig_bar(n, 1, PCI_BAR_MEM32, false, 0x1000);
	cr_expect_eq(pci_add_msix(&n->f, 1, 0, 0, 0x80, &e), -EINVAL, "I/O BAR");
	cr_expect_eq(pci_add_msix(&n->f, 1, 2, 0, 0x80, &e), -EINVAL, "no BAR");
	cr_expect_eq(pci_add_msix(&n->f, 0, 1, 0, 0x80, &e), -EINVAL);
	cr_expect_eq(pci_add_msix(&n->f, 2049, 1, 0, 0x80, &e), -EINVAL);
	cr_expect_eq(pci_add_msix(&n->f, 256, 1, 0, 0xfe0, &e), -EINVAL, "PBA in the table");
	cr_expect(strstr(e.msg, "PBA at 0xfe0 lies in the table"), "%s", e.msg);
	cr_expect_eq(pci_add_msix(&n->f, 2, 1, 0xff0, 0, &e), -EINVAL, "past the BAR");
	cr_expect(strstr(e.msg, "table at 0xff0 does not fit into BAR 1"), "%s", e.msg);
	cr_expect_eq(pci_add_msix(&n->f, 2, 1, 0, 0x1000, &e), -EINVAL, "PBA past the BAR");
	cr_expect(strstr(e.msg, "PBA at 0x1000 does not fit into BAR 1"), "%s", e.msg);
	cr_expect_eq(pci_add_msix(&n->f, 2, 1, 0xfffffff8, 0, &e), -EINVAL);
	cr_expect_eq(pci_add_msix(&n->f, 2, 1, 4, 0x800, &e), -EINVAL, "alignment");
	cr_expect_eq(pci_add_msix(&n->f, 2, 1, 0, 0x800, &e), 0);
	cr_expect_eq(pci_add_msix(&n->f, 2, 1, 0, 0x800, &e), -EINVAL, "twice");
	rig_device_destroy(n);
	rig_device_destroy(d);
	rig_destroy(r);
}

/* Sends from two threads while a vCPU masks and unmasks: no interrupt is lost at the end. */
struct storm {
	struct rig_device *d;
	bool stop;
};

static void *sender(void *arg)
{
	struct storm *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED))
		for (unsigned i = 0; i < 4; i++)
			pci_msix_send(&s->d->f, i);
	return NULL;
}

Test(msix, storm, .timeout = 60)
{
	struct rig *r = rig_create();
	struct storm s = { .d = msix_device(r) };
	pthread_t t[2];
	unsigned sent;

	for (unsigned i = 0; i < 4; i++)
		program(r, i, 0x20);
	flags(r, s.d, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, sender, &s);
	for (unsigned i = 0; i < 2000; i++) {
		mask(r, i % 4, i & 8);
		flags(r, s.d,
		      (uint16_t)(PCI_MSIX_FLAGS_ENABLE | (i & 1 ? PCI_MSIX_FLAGS_MASKALL : 0)));
		mmio_read(r, BAR + PBA, 8);
	}
	flags(r, s.d, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < 4; i++) {
		pci_msix_send(&s.d->f, i);
		mask(r, i, false);
	}
	cr_expect_eq(mmio_read(r, BAR + PBA, 8), 0xf);
	sent = r->sent;
	flags(r, s.d, PCI_MSIX_FLAGS_ENABLE);
	cr_expect_eq(r->sent, sent + 4);
	rig_device_destroy(s.d);
	rig_destroy(r);
}

/* ---- MSI ---- */

Test(msi, send_mask_and_pending)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "net0", 1);
	struct error e = { 0 };
	unsigned at;

	cr_expect_eq(pci_add_msi(&d->f, 3, &e), -EINVAL);
	cr_expect_eq(pci_add_msi(&d->f, 64, &e), -EINVAL);
	cr_assert(pci_add_msi(&d->f, 4, &e) == 0, "%s", e.msg);
	at = d->f.msi.capability;
	rig_plug(r, d, -1);
	command(r, d, PCI_COMMAND_MASTER);
	cfg_write(r, d, at + PCI_MSI_ADDRESS_LO, 8, 0xfee00000);
	cfg_write(r, d, at + PCI_MSI_DATA_64, 2, 0x4443);
	pci_msi_send(&d->f, 0);
	cr_expect_eq(r->sent, 0);
	cr_expect_eq(pci_msi_enabled(&d->f), 0);
	cfg_write(r, d, at + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 1 << 4);
	cr_expect_eq(pci_msi_enabled(&d->f), 2);
	pci_msi_send(&d->f, 1);
	pci_msi_send(&d->f, 2);
	pci_msi_send(&d->f, 77);
	cr_expect_eq(r->sent, 1, "two were allowed");
	cr_expect_eq(r->msg[0].data, 0x4443);
	pci_msi_send(&d->f, 0);
	cr_expect_eq(r->msg[1].data, 0x4442);
	cfg_write(r, d, at + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 7 << 4);
	cr_expect_eq(pci_msi_enabled(&d->f), 4, "no more than there are");
	pci_msi_send(&d->f, 3);
	cr_expect_eq(r->msg[2].data, 0x4443);
	cr_expect_eq(r->msg[2].address, 0xfee00000);

	cfg_write(r, d, at + PCI_MSI_MASK_64, 4, ~0u);
	cr_expect_eq(cfg_read(r, d, at + PCI_MSI_MASK_64, 4), 0xf);
	pci_msi_send(&d->f, 2);
	cr_expect_eq(cfg_read(r, d, at + PCI_MSI_PENDING_64, 4), 4);
	cfg_write(r, d, at + PCI_MSI_PENDING_64, 4, 0);
	cr_expect_eq(cfg_read(r, d, at + PCI_MSI_PENDING_64, 4), 4, "read-only");
	cfg_write(r, d, at + PCI_MSI_MASK_64, 4, 0xb);
	cr_expect_eq(r->sent, 4);
	cr_expect_eq(r->msg[3].data, 0x4442);
	cr_expect_eq(cfg_read(r, d, at + PCI_MSI_PENDING_64, 4), 0);
	cr_expect_geq(pci_msi_eventfd(&d->f, 0), 0);
	cr_expect_eq(pci_msi_eventfd(&d->f, 4), -EINVAL);
	pci_msi_send(&d->f, 0);
	pci_function_reset(&d->f);
	cr_expect_eq(cfg_read(r, d, at + PCI_MSI_PENDING_64, 4), 0);
	cr_expect_eq(pci_msi_enabled(&d->f), 0);
	rig_device_destroy(d);
	rig_destroy(r);
}
