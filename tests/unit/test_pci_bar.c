/*
 * BARs: sizing, decoding, moves, everything a guest can do wrong with them, and doorbells that
 * follow.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/test_pci.h"

#define BOTH (PCI_COMMAND_MEMORY | PCI_COMMAND_IO)

Test(pci_bar, sizing)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 1);

	rig_bar(d, 0, PCI_BAR_MEM32, false, 16);
	rig_bar(d, 1, PCI_BAR_MEM32, true, 1u << 31);
	rig_bar(d, 2, PCI_BAR_IO, false, 64);
	rig_bar(d, 3, PCI_BAR_MEM64, false, 0x4000);
	rig_plug(r, d, -1);
	for (unsigned i = 0; i < 7; i++)
		cfg_write(r, d, PCI_BASE_ADDRESS_0 + 4 * i, 4, 0xffffffff);
	cr_expect_eq(cfg_read(r, d, PCI_BASE_ADDRESS_0, 4), 0xfffffff0);
	cr_expect_eq(cfg_read(r, d, PCI_BASE_ADDRESS_1, 4), 0x80000008);
	cr_expect_eq(cfg_read(r, d, PCI_BASE_ADDRESS_2, 4), 0xffffffc1);
	cr_expect_eq(cfg_read(r, d, PCI_BASE_ADDRESS_3, 4), 0xffffc004);
	cr_expect_eq(cfg_read(r, d, PCI_BASE_ADDRESS_4, 4), 0xffffffff);
	cr_expect_eq(cfg_read(r, d, PCI_BASE_ADDRESS_5, 4), 0, "no such BAR");
	cr_expect_eq(cfg_read(r, d, PCI_CARDBUS_CIS, 4), 0);
	cr_expect_eq(cfg_read(r, d, PCI_ROM_ADDRESS, 4), 0, "no ROM");
	rig_device_destroy(d);

	d = rig_device(r, "blk1", 1);
	rig_bar(d, 0, PCI_BAR_MEM64, true, 8ull << 30);
	rig_plug(r, d, -1);
	cfg_write(r, d, PCI_BASE_ADDRESS_0, 8, ~0ull);
	cr_expect_eq(cfg_read(r, d, PCI_BASE_ADDRESS_0, 8), 0xfffffffe0000000c);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(pci_bar, what_cannot_be_is_refused)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 1);
	struct error e;

	rig_bar(d, 2, PCI_BAR_MEM64, false, 0x1000);
	cr_expect_eq(pci_add_bar(&d->f, 3, PCI_BAR_MEM32, 0, 16, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(pci_add_bar(&d->f, 2, PCI_BAR_MEM32, 0, 16, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(pci_add_bar(&d->f, 1, PCI_BAR_MEM64, 0, 16, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(pci_add_bar(&d->f, 5, PCI_BAR_MEM64, 0, 16, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(pci_add_bar(&d->f, 6, PCI_BAR_MEM32, 0, 16, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(pci_add_bar(&d->f, 0, PCI_BAR_MEM32, 0, 8, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(pci_add_bar(&d->f, 0, PCI_BAR_MEM32, 0, 48, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(pci_add_bar(&d->f, 0, PCI_BAR_MEM32, 0, 1ull << 32, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(pci_add_bar(&d->f, 0, PCI_BAR_IO, 0, 2, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(pci_add_bar(&d->f, 0, PCI_BAR_NONE, 0, 16, NULL, NULL, &e), -EINVAL);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(pci_bar, decode_and_moves)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 7);

	rig_bar(d, 0, PCI_BAR_MEM32, false, 0x1000);
	rig_bar(d, 1, PCI_BAR_IO, false, 32);
	rig_bar(d, 2, PCI_BAR_MEM64, true, 0x10000);
	rig_plug(r, d, -1);
	place(r, d, 0, RIG_MEM32 + 0x5000);
	place(r, d, 1, 0x7000);
	place(r, d, 2, RIG_MEM64 + 0x20000);
	cr_expect_not(answers(r, d, 0, RIG_MEM32 + 0x5000), "decoding is off");
	cr_expect_not(answers(r, d, 1, 0x7000));

	command(r, d, PCI_COMMAND_MEMORY);
	cr_expect(answers(r, d, 0, RIG_MEM32 + 0x5000));
	cr_expect(answers(r, d, 2, RIG_MEM64 + 0x20000), "above 4 GiB");
	cr_expect_not(answers(r, d, 1, 0x7000));
	command(r, d, BOTH);
	cr_expect(answers(r, d, 1, 0x7000));
	cr_expect_eq(mmio_read(r, RIG_MEM32 + 0x4fff, 1), 0xff, "nothing beside it");
	cr_expect_eq(mmio_read(r, RIG_MEM32 + 0x6000, 1), 0xff);

	place(r, d, 0, RIG_MEM32 + 0x9000);
	cr_expect(answers(r, d, 0, RIG_MEM32 + 0x9000), "moved while decoding");
	cr_expect_not(answers(r, d, 0, RIG_MEM32 + 0x5000));
	place(r, d, 2, RIG_MEM32 + 0x30000);
	cr_expect(answers(r, d, 2, RIG_MEM32 + 0x30000), "a 64-bit BAR may lie below, too");
	cfg_write(r, d, PCI_BASE_ADDRESS_1 + 1, 1, 0x80);
	cr_expect(answers(r, d, 1, 0x8000), "one byte of the register");

	mmio_write(r, RIG_MEM32 + 0x9008, 2, 0xbeef);
	cr_expect_eq(d->bar[0].writes, 1);
	cr_expect_eq(d->bar[0].last_offset, 8);
	cr_expect_eq(d->bar[0].last_size, 2);
	cr_expect_eq(d->bar[0].last_value, 0xbeef);

	command(r, d, PCI_COMMAND_IO);
	cr_expect_not(answers(r, d, 0, RIG_MEM32 + 0x9000));
	cr_expect(answers(r, d, 1, 0x8000));
	rig_device_destroy(d);
	cr_expect_eq(pio_read(r, 0x8000, 4), 0xffffffff);
	rig_destroy(r);
}

static void count_range(const struct bus_range *range, void *arg)
{
	(void)range;
	++*(unsigned *)arg;
}

Test(pci_bar, places_that_are_refused)
{
	static const uint64_t bad[] = {
		0,			 /* unassigned */
		0x1000,			 /* RAM */
		RIG_MEM32 - 0x10000,	 /* the end of RAM */
		1ull << 32,		 /* RAM above 4 GiB */
		RIG_ECAM,		 /* config space */
		RIG_ECAM - 0x10000,	 /* between window and ECAM */
		0xfec00000,		 /* IOAPIC */
		0xfee00000,		 /* LAPIC */
		0xfffffffffffff000 << 4, /* the very end */
		0xffff0000,		 /* the sizing pattern */
		RIG_MEM64 + RIG_WINDOW,	 /* behind the window */
		RIG_MEM64 - 0x10000,	 /* before it */
		0x8000000000000000,	 /* no CPU has this */
	};
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 7), *large = rig_device(r, "blk1", 8);
	unsigned before = 0, after = 0;

	rig_bar(d, 0, PCI_BAR_MEM64, true, 0x10000);
	rig_bar(d, 2, PCI_BAR_IO, false, 16);
	rig_plug(r, d, -1);
	bus_for_each(r->host.mmio, count_range, &before);
	command(r, d, BOTH);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		place(r, d, 0, bad[i]);
		cr_expect_not(d->f.bar[0].mapped, "0x%llx", (unsigned long long)bad[i]);
	}
	bus_for_each(r->host.mmio, count_range, &after);
	cr_expect_eq(before, after);
	cr_expect_eq(mmio_read(r, RIG_ECAM, 4), 0x00081b36);
	rig_bar(large, 0, PCI_BAR_MEM64, true, 8ull << 30);
	rig_plug(r, large, -1);
	command(r, large, BOTH);
	place(r, large, 0, RIG_MEM64);
	cr_expect_not(large->f.bar[0].mapped, "larger than the window");
	rig_device_destroy(large);

	place(r, d, 0, RIG_MEM64 + RIG_WINDOW - 0x10000);
	cr_expect(answers(r, d, 0, RIG_MEM64 + RIG_WINDOW - 0x10000), "the last place there is");

	place(r, d, 2, 0xcf8); /* the config ports */
	cr_expect_not(d->f.bar[2].mapped);
	place(r, d, 2, 0x10000);
	cr_expect_not(d->f.bar[2].mapped);
	place(r, d, 2, 0xfffffff0);
	cr_expect_not(d->f.bar[2].mapped);
	place(r, d, 2, 0xfff0);
	cr_expect(answers(r, d, 2, 0xfff0));
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(pci_bar, overlap_heals)
{
	struct rig *r = rig_create();
	struct rig_device *a = rig_device(r, "blk0", 1);
	struct rig_device *b = rig_device(r, "blk1", 2);
	uint64_t x = RIG_MEM32 + 0x10000, y = RIG_MEM32 + 0x20000;

	rig_bar(a, 0, PCI_BAR_MEM32, false, 0x1000);
	rig_bar(b, 0, PCI_BAR_MEM32, false, 0x1000);
	rig_bar(b, 1, PCI_BAR_MEM32, false, 0x4000);
	rig_plug(r, a, -1);
	rig_plug(r, b, -1);
	place(r, a, 0, x);
	place(r, b, 0, x);
	place(r, b, 1, y);
	command(r, a, PCI_COMMAND_MEMORY);
	command(r, b, PCI_COMMAND_MEMORY);
	cr_expect(answers(r, a, 0, x), "first come");
	cr_expect_not(b->f.bar[0].mapped);
	cr_expect(answers(r, b, 1, y), "the others are not affected");

	command(r, a, 0);
	cr_expect(answers(r, b, 0, x), "decode off makes room");
	command(r, a, PCI_COMMAND_MEMORY);
	cr_expect(answers(r, b, 0, x));
	cr_expect_not(a->f.bar[0].mapped);
	place(r, b, 0, y + 0x1000); /* inside its own BAR 1 */
	cr_expect(answers(r, a, 0, x), "a move makes room");
	cr_expect_not(b->f.bar[0].mapped);
	place(r, b, 1, RIG_MEM32 + 0x40000);
	cr_expect(answers(r, b, 0, y + 0x1000));
	cr_expect(answers(r, b, 1, RIG_MEM32 + 0x40000));

	place(r, b, 0, x);
	rig_device_destroy(a);
	cr_expect(answers(r, b, 0, x), "an unplug makes room");
	rig_device_destroy(b);
	rig_destroy(r);
}

Test(pci_bar, swap_while_decoding)
{
	struct rig *r = rig_create();
	struct rig_device *a = rig_device(r, "blk0", 1);
	struct rig_device *b = rig_device(r, "blk1", 2);
	uint64_t x = RIG_MEM64, y = RIG_MEM64 + 0x10000;

	rig_bar(a, 0, PCI_BAR_MEM64, true, 0x10000);
	rig_bar(b, 0, PCI_BAR_MEM64, true, 0x10000);
	rig_plug(r, a, -1);
	rig_plug(r, b, -1);
	place(r, a, 0, x);
	place(r, b, 0, y);
	command(r, a, PCI_COMMAND_MEMORY);
	command(r, b, PCI_COMMAND_MEMORY);
	/* size with decoding on, as some do */
	cfg_write(r, a, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	cr_expect_eq(cfg_read(r, a, PCI_BASE_ADDRESS_0, 4), 0xffff000c);
	cfg_write(r, a, PCI_BASE_ADDRESS_1, 4, 0xffffffff);
	place(r, a, 0, x);
	cr_expect(answers(r, a, 0, x));
	cr_expect_eq(a->f.bar[0].refused.count, 0, "sizing is no mistake");
	place(r, a, 0, y);
	place(r, b, 0, x);
	cr_expect(answers(r, a, 0, y));
	cr_expect(answers(r, b, 0, x));
	rig_device_destroy(a);
	rig_device_destroy(b);
	rig_destroy(r);
}

static uint64_t signalled(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

Test(pci_bar, doorbells_follow)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 1);
	int fd = eventfd(0, EFD_NONBLOCK);
	struct bus_kick kick = { .addr = 0x20, .size = 2, .fd = fd };
	struct bus_kick outside = { .addr = 0xfff, .size = 2, .fd = fd };
	struct bus_kick far = { .addr = ~0ull, .size = 0, .fd = fd };

	rig_bar(d, 0, PCI_BAR_MEM32, false, 0x1000);
	rig_bar(d, 1, PCI_BAR_IO, false, 16);
	cr_expect_eq(pci_kick_add(&d->f, 0, &kick), 0, "before plugging");
	cr_expect_eq(pci_kick_add(&d->f, 0, &outside), -EINVAL);
	cr_expect_eq(pci_kick_add(&d->f, 0, &far), -EINVAL);
	cr_expect_eq(pci_kick_add(&d->f, 2, &kick), -EINVAL);
	cr_expect_eq(pci_kick_add(&d->f, 6, &kick), -EINVAL);
	rig_plug(r, d, -1);
	place(r, d, 0, RIG_MEM32);
	mmio_write(r, RIG_MEM32 + 0x20, 2, 1);
	cr_expect_eq(signalled(fd), 0);
	command(r, d, PCI_COMMAND_MEMORY);
	mmio_write(r, RIG_MEM32 + 0x20, 2, 1);
	cr_expect_eq(signalled(fd), 1);
	cr_expect_eq(d->bar[0].writes, 0, "the eventfd instead of the device");
	mmio_write(r, RIG_MEM32 + 0x20, 4, 1);
	cr_expect_eq(d->bar[0].writes, 1, "another width is another register");

	place(r, d, 0, RIG_MEM32 + 0x8000);
	mmio_write(r, RIG_MEM32 + 0x20, 2, 1);
	cr_expect_eq(signalled(fd), 0, "not where it was");
	mmio_write(r, RIG_MEM32 + 0x8020, 2, 1);
	cr_expect_eq(signalled(fd), 1);
	pci_kick_remove(&d->f, 0, &kick);
	mmio_write(r, RIG_MEM32 + 0x8020, 2, 1);
	cr_expect_eq(signalled(fd), 0);
	cr_expect_eq(d->bar[0].writes, 2);
	pci_kick_remove(&d->f, 0, &kick); /* twice is harmless */

	kick.addr = 4;
	kick.size = 0;
	cr_expect_eq(pci_kick_add(&d->f, 1, &kick), 0);
	place(r, d, 1, 0x6100);
	command(r, d, BOTH);
	pio_write(r, 0x6104, 1, 0);
	cr_expect_eq(signalled(fd), 1);
	for (unsigned i = 0; i < 300; i++) {
		struct bus_kick many = { .addr = 0x100 + 4 * i, .size = 4, .fd = fd };

		cr_expect_eq(pci_kick_add(&d->f, 0, &many), 0);
	}
	place(r, d, 0, RIG_MEM32);
	for (unsigned i = 0; i < 300; i++)
		mmio_write(r, RIG_MEM32 + 0x100 + 4 * i, 4, 0);
	cr_expect_eq(signalled(fd), 300);
	rig_device_destroy(d);
	pio_write(r, 0x6104, 1, 0);
	cr_expect_eq(signalled(fd), 0);
	close(fd);
	rig_destroy(r);
}
