/*
 * The PCI transport: identity and capabilities, registers by width, access through configuration
 * space, interrupts by INTx and MSI-X, and random accesses everywhere.
 */
#include <criterion/criterion.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/registry.h"
#include "devices/virtio/virtio.h"
#include "tests/unit/test_virtio_rig.h"

#define V1 MODEL_BIT(VIRTIO_F_VERSION_1)

static struct vrig *rig(void)
{
	struct vrig *r = vrig_create();

	vrig_plug(r, &row_virtio_rng, NULL, "");
	return r;
}

static const struct model_buf one_buf = { MODEL_HIGH, 64, true };

static uint64_t cfg(struct vrig *r, unsigned offset, unsigned size)
{
	return vrig_read(r, r->config + offset, size);
}

static void set_cfg(struct vrig *r, unsigned offset, unsigned size, uint64_t value)
{
	vrig_write(r, r->config + offset, size, value);
}

Test(virtio_pci, identity)
{
	struct vrig *r = rig();

	cr_assert_eq(cfg(r, PCI_VENDOR_ID, 2), 0x1af4);
	cr_assert_eq(cfg(r, PCI_DEVICE_ID, 2), 0x1044);
	cr_assert_geq(cfg(r, PCI_REVISION_ID, 1), 1);
	cr_assert_geq(cfg(r, PCI_SUBSYSTEM_ID, 2), 0x40);
	cr_assert_eq(cfg(r, PCI_INTERRUPT_PIN, 1), 1);
	vrig_destroy(r);
}

Test(virtio_pci, structures_lie_in_the_bar_and_apart)
{
	struct vrig *r = rig();
	uint64_t base = r->common & ~0x7fffull;
	const struct {
		uint64_t at;
		uint32_t len;
	} part[] = { { r->common, r->common_len },
		     { r->isr, r->isr_len },
		     { r->notify, r->notify_len } };

	cr_assert_eq(r->common_len, 0x3c);
	cr_assert_eq(r->isr_len, 1);
	cr_assert_eq(r->notify_len, 4);
	cr_assert_eq(r->notify_multiplier, 4);
	cr_assert_eq(r->device, 0, "an rng has no configuration");
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(part[i].at >= base && part[i].at + part[i].len <= base + 0x4000);
		for (unsigned j = 0; j < i; j++)
			cr_assert(part[i].at >= part[j].at + part[j].len ||
				  part[j].at >= part[i].at + part[i].len);
	}
	cr_assert_eq(r->common % 4, 0);
	cr_assert_eq(r->notify % 4, 0);
	vrig_destroy(r);
}

/* Section 4.1.3.1: natural widths; a 64-bit field in halves, and here also whole. */
static unsigned natural_width(unsigned offset, bool *wide)
{
	static const uint8_t widths[0x3c] = {
		[0x00] = 4, [0x04] = 4, [0x08] = 4, [0x0c] = 4, [0x10] = 2, [0x12] = 2, [0x14] = 1,
		[0x15] = 1, [0x16] = 2, [0x18] = 2, [0x1a] = 2, [0x1c] = 2, [0x1e] = 2, [0x20] = 4,
		[0x24] = 4, [0x28] = 4, [0x2c] = 4, [0x30] = 4, [0x34] = 4, [0x38] = 2, [0x3a] = 2,
	};

	*wide = offset == 0x20 || offset == 0x28 || offset == 0x30;
	return offset < sizeof(widths) ? widths[offset] : 0;
}

Test(virtio_pci, registers_only_by_their_width)
{
	struct vrig *r = rig();

	cr_assert(vrig_negotiate(r, V1));
	vrig_write(r, r->common + VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	vrig_write(r, r->common + VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	for (unsigned i = 0; i < 3; i++)
		vrig_write(r, r->common + VIRTIO_PCI_COMMON_Q_DESCLO + 8 * i, 8,
			   0xa1b2c3d4e5f60000ull);
	cr_assert_eq(vrig_read(r, r->common + VIRTIO_PCI_COMMON_Q_DESCHI, 4), 0xa1b2c3d4);
	cr_assert_eq(vrig_read(r, r->common + VIRTIO_PCI_COMMON_Q_DESCLO, 8),
		     0xa1b2c3d4e5f60000ull);
	for (unsigned offset = 0; offset < 0x40; offset++) {
		for (unsigned size = 1; size <= 8; size *= 2) {
			bool wide;
			unsigned natural = natural_width(offset, &wide);

			if (size == natural || (size == 8 && wide))
				continue;
			cr_assert_eq(vrig_read(r, r->common + offset, size), 0, "%#x by %u", offset,
				     size);
		}
	}
	/* Wrong writes change nothing: the status survives whatever is thrown at it. */
	for (unsigned offset = 0; offset < 0x40; offset++) {
		for (unsigned size = 1; size <= 8; size *= 2) {
			bool wide;
			unsigned natural = natural_width(offset, &wide);

			if (size != natural && !(size == 8 && wide))
				vrig_write(r, r->common + offset, size, 0);
		}
	}
	cr_assert_neq(vrig_status(r), 0);
	cr_assert_eq(vrig_read(r, r->common + VIRTIO_PCI_COMMON_DF, 4), 0x1 | 1u << 8);
	cr_assert_eq(vrig_read(r, r->common + VIRTIO_PCI_COMMON_Q_USEDHI, 4), 0xa1b2c3d4);
	vrig_destroy(r);
}

Test(virtio_pci, read_only_registers)
{
	static const struct {
		unsigned offset, size;
	} reg[] = { { VIRTIO_PCI_COMMON_DF, 4 },
		    { VIRTIO_PCI_COMMON_NUMQ, 2 },
		    { VIRTIO_PCI_COMMON_CFGGENERATION, 1 },
		    { VIRTIO_PCI_COMMON_Q_NOFF, 2 },
		    { VIRTIO_PCI_COMMON_Q_NDATA, 2 } };
	struct vrig *r = rig();

	for (unsigned i = 0; i < sizeof(reg) / sizeof(reg[0]); i++) {
		uint64_t was = vrig_read(r, r->common + reg[i].offset, reg[i].size);

		vrig_write(r, r->common + reg[i].offset, reg[i].size, ~was);
		cr_assert_eq(vrig_read(r, r->common + reg[i].offset, reg[i].size), was);
	}
	vrig_destroy(r);
}

Test(virtio_pci, vectors_that_do_not_exist_read_back_as_none)
{
	static const unsigned reg[] = { VIRTIO_PCI_COMMON_MSIX, VIRTIO_PCI_COMMON_Q_MSIX };
	struct vrig *r = rig();

	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(vrig_read(r, r->common + reg[i], 2), VIRTIO_MSI_NO_VECTOR);
		vrig_write(r, r->common + reg[i], 2, 1);
		cr_assert_eq(vrig_read(r, r->common + reg[i], 2), 1);
		vrig_write(r, r->common + reg[i], 2, 2); /* there are two: 0 and 1 */
		cr_assert_eq(vrig_read(r, r->common + reg[i], 2), VIRTIO_MSI_NO_VECTOR);
	}
	vrig_destroy(r);
}

/* ---- configuration access -------------------------------------------------------------------- */

#define CAP(field) (r->pci_cfg + (unsigned)offsetof(struct virtio_pci_cap, field))
#define CAP_DATA   (r->pci_cfg + (unsigned)offsetof(struct virtio_pci_cfg_cap, pci_cfg_data))

static void window(struct vrig *r, unsigned bar, uint32_t offset, uint32_t length)
{
	set_cfg(r, CAP(bar), 1, bar);
	set_cfg(r, CAP(offset), 4, offset);
	set_cfg(r, CAP(length), 4, length);
}

/* A driver that never maps the BAR, like firmware. */
Test(virtio_pci, whole_device_through_configuration_space)
{
	struct vrig *r = rig();
	uint64_t bar = r->common & ~0x7fffull;
	uint32_t status = (uint32_t)(r->common - bar) + VIRTIO_PCI_COMMON_STATUS;
	struct model d;

	window(r, 0, status, 1);
	set_cfg(r, CAP_DATA, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	cr_assert_eq(cfg(r, CAP_DATA, 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	cr_assert_eq(vrig_status(r), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	/* A wider write through a window of one byte is a write of one byte. */
	set_cfg(r, CAP_DATA, 4, 0xffffff00 | VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	cr_assert_eq(vrig_status(r), VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);

	window(r, 0, (uint32_t)(r->common - bar) + VIRTIO_PCI_COMMON_Q_SIZE, 2);
	cr_assert_eq(cfg(r, CAP_DATA, 2), 8);
	window(r, 0, (uint32_t)(r->common - bar) + VIRTIO_PCI_COMMON_GF, 4);
	set_cfg(r, CAP_DATA, 4, 0x12345678);
	cr_assert_eq(vrig_read(r, r->common + VIRTIO_PCI_COMMON_GF, 4), 0x12345678);

	/* Doorbell and ISR. */
	vrig_up(r, &d, 8, 0);
	model_add(&d, &one_buf, 1, false);
	window(r, 0, (uint32_t)(r->notify - bar), 2);
	set_cfg(r, CAP_DATA, 2, 0);
	vrig_wait_used(&d);
	window(r, 0, (uint32_t)(r->isr - bar), 1);
	vrig_wait(r->chip.level[17]);
	cr_assert_eq(cfg(r, CAP_DATA, 1), 1);
	cr_assert_eq(cfg(r, CAP_DATA, 1), 0);
	model_free(&d);
	vrig_destroy(r);
}

Test(virtio_pci, windows_that_cannot_be)
{
	static const struct {
		uint32_t bar, offset, length;
	} bad[] = {
		{ 1, 0x14, 1 },	      { 6, 0x14, 1 },	    { 255, 0x14, 1 }, { 0, 0x14, 0 },
		{ 0, 0x14, 3 },	      { 0, 0x14, 8 },	    { 0, 0x14, ~0u }, { 0, 0x15, 2 },
		{ 0, 0x16, 4 },	      { 0, 0x4000, 4 },	    { 0, 0x7ffc, 4 }, { 0, 0x8000, 4 },
		{ 0, 0xfffffffc, 4 }, { 0, 0x80000014, 1 },
	};
	struct vrig *r = rig();

	vrig_set_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		window(r, bad[i].bar, bad[i].offset, bad[i].length);
		set_cfg(r, CAP_DATA, 4, 0);
		cr_assert_eq(cfg(r, CAP_DATA, 4), 0);
		cr_assert_eq(vrig_status(r), VIRTIO_CONFIG_S_ACKNOWLEDGE, "%u", i);
	}
	vrig_destroy(r);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

static unsigned messages(struct vrig *r)
{
	return __atomic_load_n(&r->chip.messages, __ATOMIC_SEQ_CST);
}

/* The line that slot 1's INTA# is on. */
#define LINE 17

Test(virtio_pci, intx_with_the_isr_register)
{
	struct vrig *r = rig();
	struct model d;

	vrig_up(r, &d, 8, 0);
	for (unsigned i = 0; i < 3; i++) {
		model_add(&d, &one_buf, 1, false);
		vrig_kick(r, 0);
		vrig_wait_used(&d);
		vrig_wait(r->chip.level[LINE]);
		cr_assert(cfg(r, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
		cr_assert_eq(vrig_read(r, r->isr, 1), 1);
		cr_assert(!r->chip.level[LINE]);
		cr_assert_eq(vrig_read(r, r->isr, 1), 0);
	}
	virtio_config_update((struct virtio_device *)r->dev, 0, NULL, 0);
	cr_assert(r->chip.level[LINE]);
	cr_assert_eq(vrig_read(r, r->isr, 1), 2);
	virtio_config_update((struct virtio_device *)r->dev, 0, NULL, 0);
	vrig_set_status(r, 0);
	cr_assert(!r->chip.level[LINE], "reset lowers the line");
	cr_assert_eq(vrig_read(r, r->isr, 1), 0);
	cr_assert_eq(messages(r), 0);
	model_free(&d);
	vrig_destroy(r);
}

Test(virtio_pci, msix_by_queue_and_configuration_vector)
{
	struct vrig *r = rig();
	struct model d;

	vrig_msix_enable(r, 2);
	vrig_up(r, &d, 8, 0);
	vrig_write(r, r->common + VIRTIO_PCI_COMMON_MSIX, 2, 0);
	for (unsigned vector = 0; vector < 3; vector++) {
		unsigned was = messages(r);

		/* The last one: none, and no interrupt. */
		vrig_write(r, r->common + VIRTIO_PCI_COMMON_Q_MSIX, 2,
			   vector < 2 ? vector : VIRTIO_MSI_NO_VECTOR);
		model_add(&d, &one_buf, 1, false);
		vrig_kick(r, 0);
		vrig_wait_used(&d);
		if (vector < 2) {
			vrig_wait(messages(r) == was + 1);
			cr_assert_eq(r->chip.data, 0x40 + vector);
		} else {
			usleep(10000);
			cr_assert_eq(messages(r), was);
		}
	}
	virtio_config_update((struct virtio_device *)r->dev, 0, NULL, 0);
	cr_assert_eq(messages(r), 3);
	cr_assert_eq(r->chip.data, 0x40);
	cr_assert_eq(r->chip.line_changes, 0, "no INTx beside MSI-X");
	cr_assert_eq(vrig_read(r, r->isr, 1), 0);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- doorbells ------------------------------------------------------------------------------- */

Test(virtio_pci, doorbells_of_any_width_also_while_the_bar_moves)
{
	struct vrig *r = rig();
	struct model d;

	vrig_up(r, &d, 8, 0);
	for (unsigned size = 1; size <= 4; size *= 2) {
		model_add(&d, &one_buf, 1, false);
		vrig_write(r, r->notify, size, 0);
		vrig_wait_used(&d);
	}
	vrig_write(r, r->notify + 1, 1, 0); /* beside it */
	vrig_write(r, r->notify + 4, 4, 0); /* a queue there is not */
	vrig_write(r, r->notify + 0xffc, 4, 0);
	/* Moved to another place: the doorbell moves along. */
	set_cfg(r, PCI_BASE_ADDRESS_0, 4, VRIG_MEM32 + 0x1000000);
	set_cfg(r, PCI_BASE_ADDRESS_1, 4, 0);
	r->notify = VRIG_MEM32 + 0x1000000 + (r->notify & 0x7fff);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait_used(&d);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- anything goes --------------------------------------------------------------------------- */

static void throw_at(struct vrig *r, uint64_t *random)
{
	static const unsigned sizes[] = { 1, 2, 4, 8 };
	uint64_t bar = r->common & ~0x7fffull, x = model_random(random);
	unsigned size = sizes[x % 4];
	uint64_t value = x & 0x100 ? model_random(random) : model_random(random) % 64;
	uint64_t address = bar + (x & 0x200 ? (x >> 16) % 0x40 : (x >> 16) % 0x8000);

	if ((x & 0xfc00) == 0) /* now and then configuration space, but BARs stay */
		address = r->config + 0x40 + (x >> 16) % 0xc0;
	if (x & 0x10)
		vrig_read(r, address, size);
	else
		vrig_write(r, address, size, value);
}

Test(virtio_pci, survives_random_accesses, .timeout = 60)
{
	for (unsigned run = 0; run < 20; run++) {
		struct vrig *r = rig();
		uint64_t random = run;
		struct model d;

		for (unsigned i = 0; i < 20000; i++)
			throw_at(r, &random);
		set_cfg(r, r->msix + PCI_MSIX_FLAGS, 2, 0);
		set_cfg(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		vrig_up(r, &d, 8, 0);
		model_add(&d, &one_buf, 1, false);
		vrig_kick(r, 0);
		cr_assert_eq(vrig_wait_used(&d).len, 64);
		model_free(&d);
		vrig_destroy(r);
	}
}
