/*
 * BARs: sizing, decoding, moves, everything a guest can do wrong with them, doorbells that follow,
 * what firmware assigns, and vCPUs reading while another moves.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
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
	struct rig_device *d = rig_device(r, "blk0", 7);
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

/* ---- firmware's part ---- */

static uint64_t bar_at(struct rig *r, const struct rig_device *d, unsigned bar)
{
	uint64_t low = cfg_read(r, d, PCI_BASE_ADDRESS_0 + 4 * bar, 4);
	uint64_t high = 0;

	if (d->f.bar[bar].kind == PCI_BAR_MEM64)
		high = cfg_read(r, d, PCI_BASE_ADDRESS_0 + 4 * bar + 4, 4);
	return (high << 32 | low) & ~(d->f.bar[bar].size - 1);
}

Test(pci_bar, assignment)
{
	struct rig *r = rig_create();
	struct rig_device *d[20];
	struct error e = { 0 };

	for (unsigned i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "dev%u", i);
		d[i] = rig_device(r, name, (uint8_t)(i + 1));
		rig_bar(d[i], 0, PCI_BAR_MEM32, false, 16u << i % 5);
		rig_bar(d[i], 1, PCI_BAR_IO, false, 4u << i % 7);
		rig_bar(d[i], 2, PCI_BAR_MEM64, true, 0x1000u << i % 6);
		rig_bar(d[i], 4, PCI_BAR_MEM64, false, 0x1000u << i % 9);
		rig_plug(r, d[i], -1);
	}
	cr_assert_eq(pci_root_assign(r->root, &e), 0, "%s", e.msg);
	for (unsigned i = 0; i < 20; i++) {
		cr_expect_eq(cfg_read(r, d[i], PCI_COMMAND, 2), 0);
		cr_expect_eq(cfg_read(r, d[i], PCI_INTERRUPT_LINE, 1), 16 + (i + 1) % 8);
		command(r, d[i], BOTH);
	}
	for (unsigned i = 0; i < 20; i++) {
		static const unsigned bars[] = { 0, 1, 2, 4 };

		for (unsigned j = 0; j < 4; j++) {
			uint64_t at = bar_at(r, d[i], bars[j]);

			cr_expect(answers(r, d[i], bars[j], at), "no overlap, so all answer");
		}
		cr_expect_geq(bar_at(r, d[i], 2), RIG_MEM64);
		cr_expect_lt(bar_at(r, d[i], 4), 1ull << 32);
		cr_expect_eq(bar_at(r, d[i], 0) % 4096, 0, "a page of its own");
	}
	pci_function_reset(&d[3]->f);
	for (unsigned i = 0; i < 20; i++)
		rig_device_destroy(d[i]);
	rig_destroy(r);
}

Test(pci_bar, assignment_runs_out)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "net3", 1);
	struct error e = { 0 };

	rig_bar(d, 0, PCI_BAR_MEM64, true, RIG_WINDOW);
	rig_bar(d, 2, PCI_BAR_MEM64, true, RIG_WINDOW);
	rig_plug(r, d, -1);
	cr_expect_eq(pci_root_assign(r->root, &e), 0, "one above, one below 4 GiB: %s", e.msg);
	cr_expect_eq(bar_at(r, d, 0), RIG_MEM64);
	cr_expect_eq(bar_at(r, d, 2), RIG_MEM32);
	rig_device_destroy(d);

	d = rig_device(r, "net4", 1);
	rig_bar(d, 3, PCI_BAR_MEM32, true, 2 * RIG_WINDOW);
	rig_plug(r, d, -1);
	cr_expect_eq(pci_root_assign(r->root, &e), -ENOSPC);
	cr_expect_not_null(strstr(e.msg, "net4 BAR 3"), "%s", e.msg);
	rig_device_destroy(d);

	d = rig_device(r, "net5", 1);
	rig_bar(d, 1, PCI_BAR_IO, false, 0x8000);
	rig_bar(d, 2, PCI_BAR_IO, false, 0x8000);
	rig_plug(r, d, -1);
	cr_expect_eq(pci_root_assign(r->root, &e), -ENOSPC);
	cr_expect_not_null(strstr(e.msg, "net5 BAR 2"), "%s", e.msg);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(pci_bar, windows_are_checked)
{
	struct rig *r = rig_create();
	struct pci_windows w = rig_windows();
	struct error e = { 0 };

	w.mem64_base = 1ull << 32; /* where rig has RAM */
	cr_expect_null(pci_root_create(&r->host, &w, &e));
	cr_expect_not_null(strstr(e.msg, "RAM"), "%s", e.msg);
	w = rig_windows();
	w.mem32_base -= 0x1000;
	cr_expect_null(pci_root_create(&r->host, &w, &e));
	w = rig_windows();
	w.intx_gsi = 0; /* forgotten */
	cr_expect_null(pci_root_create(&r->host, &w, &e));
	w = rig_windows();
	cr_expect_null(pci_root_create(&r->host, &w, &e), "the ports are taken");
	rig_destroy(r);
}

/* ---- all at once ---- */

struct hammer {
	struct rig *r;
	struct rig_device *d, *other;
	bool stop;
	uint64_t hits, wrong;
	uint64_t seed;
};

static void *reader(void *arg)
{
	struct hammer *h = arg;
	uint64_t hits = 0, wrong = 0;

	while (!__atomic_load_n(&h->stop, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < 2; i++) {
			uint64_t value = mmio_read(h->r, RIG_MEM32 + 0x1000 * i, 4);

			hits += value == 0x100 || value == 0x200;
			wrong += value != 0x100 && value != 0x200 && value != 0xffffffff;
		}
		pci_bus_master(&h->d->f);
		cfg_read(h->r, h->d, PCI_BASE_ADDRESS_0, 4);
	}
	__atomic_fetch_add(&h->hits, hits, __ATOMIC_RELAXED);
	__atomic_fetch_add(&h->wrong, wrong, __ATOMIC_RELAXED);
	return NULL;
}

static void *mover(void *arg)
{
	struct hammer *h = arg;
	int fd = eventfd(0, EFD_NONBLOCK);
	struct bus_kick kick = { .addr = 0x40, .size = 4, .fd = fd };
	uint64_t seed = 5;

	for (unsigned i = 0; i < 3000; i++) {
		struct rig_device *d = rig_random(&seed) % 2 ? h->d : h->other;

		place(h->r, d, 0, RIG_MEM32 + 0x1000 * (rig_random(&seed) % 3));
		if (i % 16 == 0)
			pci_kick_add(&d->f, 0, &kick);
		else if (i % 16 == 8)
			pci_kick_remove(&d->f, 0, &kick);
		if (i % 32 == 0)
			command(h->r, d, 0);
		command(h->r, d, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		pci_intx_set(&d->f, i & 1);
	}
	for (unsigned i = 0; i < 3000 / 16 + 1; i++) {
		pci_kick_remove(&h->d->f, 0, &kick);
		pci_kick_remove(&h->other->f, 0, &kick);
	}
	close(fd);
	return NULL;
}

Test(pci_bar, reads_while_another_moves, .timeout = 120)
{
	struct rig *r = rig_create();
	struct hammer h = { .r = r, .d = rig_device(r, "a", 1), .other = rig_device(r, "b", 2) };
	pthread_t readers[3], movers[2];

	rig_bar(h.d, 0, PCI_BAR_MEM32, false, 0x1000);
	rig_bar(h.other, 0, PCI_BAR_MEM32, false, 0x1000);
	rig_plug(r, h.d, -1);
	rig_plug(r, h.other, -1);
	for (unsigned i = 0; i < 3; i++)
		pthread_create(&readers[i], NULL, reader, &h);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&movers[i], NULL, mover, &h);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(movers[i], NULL);
	__atomic_store_n(&h.stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(readers[i], NULL);
	cr_expect_eq(h.wrong, 0);
	cr_expect_gt(h.hits, 0);
	place(r, h.d, 0, RIG_MEM32);
	place(r, h.other, 0, RIG_MEM32 + 0x1000);
	cr_expect(answers(r, h.d, 0, RIG_MEM32));
	cr_expect(answers(r, h.other, 0, RIG_MEM32 + 0x1000));
	rig_device_destroy(h.d);
	rig_device_destroy(h.other);
	rig_destroy(r);
}
