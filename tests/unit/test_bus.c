/*
 * The dispatcher: look-ups, overlaps, kicks without KVM, and changes while other threads look up.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "vmm/bus.h"

struct recorder {
	uint64_t offset, value;
	unsigned size, reads, writes;
};

static uint64_t record_read(void *opaque, uint64_t offset, unsigned size)
{
	struct recorder *r = opaque;

	r->offset = offset;
	r->size = size;
	__atomic_fetch_add(&r->reads, 1, __ATOMIC_RELAXED);
	return 0x1122334455667788ull;
}

static void record_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct recorder *r = opaque;

	r->offset = offset;
	r->size = size;
	r->value = value;
	r->writes++;
}

static const struct bus_ops recording = { .read = record_read, .write = record_write };

static struct bus_range range(uint64_t base, uint64_t size, struct recorder *r)
{
	return (struct bus_range){
		.name = "test", .base = base, .size = size, .ops = &recording, .opaque = r
	};
}

Test(bus, dispatches_with_offset_and_width)
{
	struct bus *bus = bus_create("mmio");
	struct recorder a = { 0 }, b = { 0 };
	struct bus_range ra = range(0x1000, 0x100, &a), rb = range(0x1100, 0x10, &b);
	struct error e;
	uint64_t v;

	cr_assert_eq(bus_add(bus, &rb, &e), 0);
	cr_assert_eq(bus_add(bus, &ra, &e), 0);
	cr_assert(bus_read(bus, 0x10ff, 1, &v));
	cr_assert_eq(a.offset, 0xff);
	cr_assert_eq(v, 0x88, "cut to the width of the access");
	cr_assert(bus_write(bus, 0x1108, 8, 0xffeeddccbbaa9988ull));
	cr_assert_eq(b.offset, 8);
	cr_assert_eq(b.value, 0xffeeddccbbaa9988ull);
	cr_assert(bus_write(bus, 0x1104, 2, 0xaabbccddull));
	cr_assert_eq(b.value, 0xccdd);
	bus_destroy(bus);
}

Test(bus, nothing_there_reads_all_ones)
{
	struct bus *bus = bus_create("pio");
	struct recorder a = { 0 };
	struct bus_range ra = range(0x60, 1, &a);
	struct error e;
	uint64_t v = 0;

	cr_assert_not(bus_read(bus, 0, 4, &v));
	cr_assert_eq(v, 0xffffffff);
	bus_add(bus, &ra, &e);
	cr_assert_not(bus_read(bus, 0x60, 2, &v), "an access that leaves the range");
	cr_assert_eq(v, 0xffff);
	cr_assert_not(bus_read(bus, 0x5f, 2, &v), "an access that reaches into the range");
	cr_assert_not(bus_write(bus, 0x61, 1, 0));
	cr_assert_not(bus_read(bus, ~0ull, 8, &v), "the end of the address space");
	cr_assert_eq(a.reads, 0);
	bus_destroy(bus);
}

Test(bus, refuses_overlaps_and_nonsense)
{
	struct bus *bus = bus_create("mmio");
	struct recorder a = { 0 };
	struct bus_range r = range(0x1000, 0x1000, &a);
	struct error e;

	cr_assert_eq(bus_add(bus, &r, &e), 0);
	r = range(0x1fff, 2, &a);
	cr_assert_eq(bus_add(bus, &r, &e), -EEXIST);
	cr_assert_not_null(strstr(e.msg, "test"), "names the other one");
	r = range(0xfff, 2, &a);
	cr_assert_eq(bus_add(bus, &r, &e), -EEXIST);
	r = range(0, 1ull << 40, &a);
	cr_assert_eq(bus_add(bus, &r, &e), -EEXIST, "around it");
	r = range(0x5000, 0, &a);
	cr_assert_eq(bus_add(bus, &r, &e), -EINVAL);
	r = range(~0ull, 2, &a);
	cr_assert_eq(bus_add(bus, &r, &e), -EINVAL, "wraps");
	r = range(~0ull, 1, &a);
	cr_assert_eq(bus_add(bus, &r, &e), 0, "the very last byte is fine");
	bus_destroy(bus);
}

Test(bus, remove_takes_only_its_owner)
{
	struct bus *bus = bus_create("mmio");
	struct recorder a = { 0 }, b = { 0 };
	struct bus_range r = range(0x1000, 0x1000, &a);
	struct error e;
	uint64_t v;

	bus_add(bus, &r, &e);
	cr_assert_eq(bus_remove(bus, 0x1000, &b), -ENOENT);
	cr_assert_eq(bus_remove(bus, 0x1001, &a), -ENOENT);
	cr_assert(bus_read(bus, 0x1000, 1, &v));
	cr_assert_eq(bus_remove(bus, 0x1000, &a), 0);
	cr_assert_not(bus_read(bus, 0x1000, 1, &v));
	bus_destroy(bus);
}

static uint64_t signals(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

Test(bus, kicks_signal_instead_of_calling)
{
	struct bus *bus = bus_create("mmio");
	struct recorder a = { 0 };
	struct bus_range r = range(0x1000, 0x100, &a);
	int fd = eventfd(0, EFD_NONBLOCK), fd2 = eventfd(0, EFD_NONBLOCK);
	struct bus_kick any = { .addr = 0x1010, .size = 0, .fd = fd };
	struct bus_kick one = { .addr = 0x1020, .size = 2, .match = true, .value = 7, .fd = fd2 };
	struct error e;

	bus_add(bus, &r, &e);
	cr_assert_eq(bus_kick_add(bus, &any), 0);
	cr_assert_eq(bus_kick_add(bus, &one), 0);
	cr_assert(bus_write(bus, 0x1010, 4, 99));
	cr_assert_eq(signals(fd), 1);
	cr_assert_eq(a.writes, 0);
	bus_write(bus, 0x1020, 2, 6);
	bus_write(bus, 0x1020, 4, 7);
	cr_assert_eq(signals(fd2), 0, "another value, another width");
	cr_assert_eq(a.writes, 2);
	bus_write(bus, 0x1020, 2, 7);
	cr_assert_eq(signals(fd2), 1);
	cr_assert_eq(bus_kick_remove(bus, &any), 0);
	cr_assert_eq(bus_kick_remove(bus, &any), -ENOENT);
	bus_write(bus, 0x1010, 4, 99);
	cr_assert_eq(signals(fd), 0);
	cr_assert_eq(a.writes, 3);
	bus_destroy(bus);
	close(fd);
	close(fd2);
}

struct hammer {
	struct bus *bus;
	bool stop;
	uint64_t hits;
};

static void *hammer(void *arg)
{
	struct hammer *h = arg;
	uint64_t v;

	while (!__atomic_load_n(&h->stop, __ATOMIC_RELAXED))
		if (bus_read(h->bus, 0x1000, 4, &v))
			__atomic_fetch_add(&h->hits, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Under the sanitizers this finds a table freed while somebody reads it. */
Test(bus, look_ups_survive_changes)
{
	struct hammer h[3] = { { 0 } };
	struct bus *bus = bus_create("mmio");
	struct recorder fixed = { 0 }, moving = { 0 };
	struct bus_range r = range(0x1000, 0x100, &fixed);
	pthread_t t[3];
	struct error e;

	bus_add(bus, &r, &e);
	for (int i = 0; i < 3; i++) {
		h[i].bus = bus;
		pthread_create(&t[i], NULL, hammer, &h[i]);
	}
	for (int i = 0; i < 3; i++)
		while (__atomic_load_n(&h[i].hits, __ATOMIC_RELAXED) == 0)
			sched_yield(); /* all are at it before anything changes */
	for (int i = 0; i < 20000; i++) {
		struct bus_range m = range(0x2000 + (uint64_t)(i % 7) * 0x100, 0x100, &moving);

		cr_assert_eq(bus_add(bus, &m, &e), 0, "%s", e.msg);
		cr_assert_eq(bus_remove(bus, m.base, &moving), 0);
	}
	for (int i = 0; i < 3; i++) {
		__atomic_store_n(&h[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(t[i], NULL);
	}
	bus_destroy(bus);
}

/* An owner may change the bus from inside its own callback. */
struct self_mover {
	struct bus *bus;
	uint64_t base;
};

static const struct bus_ops moving_ops;

static void move(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct self_mover *m = opaque;
	struct bus_range r = {
		.name = "mover", .base = value, .size = 0x10, .ops = &moving_ops, .opaque = m
	};
	struct error e;

	(void)offset;
	(void)size;
	bus_remove(m->bus, m->base, m);
	m->base = value;
	bus_add(m->bus, &r, &e);
}

static const struct bus_ops moving_ops = { .write = move };

Test(bus, a_range_can_move_itself)
{
	struct self_mover m = { bus_create("mmio"), 0x1000 };
	struct bus_range r = {
		.name = "mover", .base = 0x1000, .size = 0x10, .ops = &moving_ops, .opaque = &m
	};
	struct error e;

	bus_add(m.bus, &r, &e);
	cr_assert(bus_write(m.bus, 0x1000, 4, 0x5000));
	cr_assert_not(bus_write(m.bus, 0x1000, 4, 0x6000));
	cr_assert(bus_write(m.bus, 0x5000, 4, 0x6000));
	bus_destroy(m.bus);
}

/* ---- posted writes --------------------------------------------------------------------------- */

struct held {
	uint64_t addr, size;
	unsigned posts, unposts;
};

static int hold(void *opaque, struct bus *bus, uint64_t addr, uint64_t size)
{
	struct held *h = opaque;

	(void)bus;
	h->addr = addr;
	h->size = size;
	h->posts++;
	return -ENOSPC; /* nobody minds */
}

static int let_go(void *opaque, struct bus *bus, uint64_t addr, uint64_t size)
{
	struct held *h = opaque;

	(void)bus;
	h->unposts += addr == h->addr && size == h->size;
	return 0;
}

Test(bus, the_kernel_is_told_what_may_be_posted)
{
	static const struct bus_kernel_ops kernel = { .post = hold, .unpost = let_go };
	static const struct bus_ops ops = { .write = record_write, .posted = { { 4, 3 } } };
	struct bus *bus = bus_create("pio");
	struct recorder a = { 0 };
	struct held held = { 0 };
	struct bus_range r = {
		.name = "test", .base = 0x1f0, .size = 8, .ops = &ops, .opaque = &a
	};
	struct error e;

	bus_set_kernel_ops(bus, &kernel, &held);
	cr_assert_eq(bus_add(bus, &r, &e), 0);
	cr_assert_eq(held.posts, 1);
	cr_assert_eq(held.addr, 0x1f4);
	cr_assert_eq(held.size, 3);
	cr_assert_neq(bus_add(bus, &r, &e), 0);
	cr_assert_eq(held.posts, 1, "not for a range that overlaps");
	cr_assert(bus_write_posted(bus, 0x1f5, 1, 0x1234));
	cr_assert_eq(a.value, 0x34);
	cr_assert_eq(a.offset, 5);
	cr_assert_not(bus_write_posted(bus, 0x300, 1, 0), "a range that has gone since");
	cr_assert_eq(bus_remove(bus, 0x1f0, &a), 0);
	cr_assert_eq(held.unposts, 1);
	bus_destroy(bus);
}
