/*
 * BARs on the move: random placements of several functions against the rule that everything which
 * can answer does, and vCPUs reading while others move.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/test_pci.h"

#define FUNCTIONS 4
#define SIZE	  0x1000u

static bool overlaps(uint64_t a, uint64_t asize, uint64_t b, uint64_t bsize)
{
	return a < b + bsize && b < a + asize;
}

/* Does a mapped BAR of any function stand in the way of this one? */
static bool blocked(struct rig_device *const *d, const struct pci_bar *wanted)
{
	for (unsigned i = 0; i < FUNCTIONS; i++)
		for (unsigned bar = 0; bar < PCI_BARS; bar++) {
			const struct pci_bar *b = &d[i]->f.bar[bar];

			if (b->mapped &&
			    overlaps(b->range.base, b->size, wanted->address, wanted->size))
				return true;
		}
	return false;
}

/* The one rule: on the bus ⇔ enabled, in the window, and nobody else was there first. */
static void check_all(struct rig *r, struct rig_device *const *d)
{
	for (unsigned i = 0; i < FUNCTIONS; i++)
		for (unsigned bar = 0; bar < PCI_BARS; bar++) {
			const struct pci_bar *b = &d[i]->f.bar[bar];
			bool forwarded;

			if (b->kind == PCI_BAR_NONE)
				continue;
			forwarded = b->address >= RIG_MEM32 &&
				    b->address + b->size <= RIG_MEM32 + RIG_WINDOW;
			if (b->mapped) {
				cr_assert(b->enabled && forwarded);
				cr_assert_eq(b->range.base, b->address);
				cr_assert(answers(r, d[i], bar, b->address));
			} else {
				cr_assert(!b->enabled || !forwarded || blocked(d, b));
			}
		}
}

Test(pci_moves, what_can_answer_answers, .timeout = 60)
{
	struct rig *r = rig_create();
	struct rig_device *d[FUNCTIONS];
	uint64_t seed = 77;
	unsigned mapped = 0, waiting = 0;

	for (unsigned i = 0; i < FUNCTIONS; i++) {
		d[i] = rig_device(r, "dev0", (uint8_t)(i + 1));
		rig_bar(d[i], 0, PCI_BAR_MEM32, false, SIZE);
		rig_bar(d[i], 1, PCI_BAR_MEM32, false, SIZE << i);
		rig_bar(d[i], 2, PCI_BAR_MEM64, true, SIZE * 2);
		rig_plug(r, d[i], -1);
	}
	for (unsigned i = 0; i < 20000; i++) {
		struct rig_device *one = d[rig_random(&seed) % FUNCTIONS];
		/* few places and one of them RAM, so that collisions are the rule */
		uint64_t at = RIG_MEM32 - SIZE + SIZE * (rig_random(&seed) % 24);

		switch (rig_random(&seed) % 8) {
		case 0:
			command(r, one, rig_random(&seed) % 2 ? PCI_COMMAND_MEMORY : 0);
			break;
		case 1:
			cfg_write(r, one, PCI_BASE_ADDRESS_3, 4, rig_random(&seed) % 2);
			break;
		default:
			place(r, one, (unsigned)(rig_random(&seed) % 3), at);
			break;
		}
		check_all(r, d);
		for (unsigned j = 0; j < FUNCTIONS; j++) {
			mapped += d[j]->f.bar[0].mapped;
			waiting += d[j]->f.bar[0].enabled && !d[j]->f.bar[0].mapped;
		}
	}
	cr_expect_gt(mapped, 1000);
	cr_expect_gt(waiting, 1000);
	for (unsigned i = 0; i < FUNCTIONS; i++)
		rig_device_destroy(d[i]);
	rig_destroy(r);
}

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
	uint64_t wrong = 0;

	while (!__atomic_load_n(&h->stop, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < 2; i++) {
			uint64_t value = mmio_read(h->r, RIG_MEM32 + 0x1000 * i, 4);

			if (value == 0x100 || value == 0x200)
				__atomic_fetch_add(&h->hits, 1, __ATOMIC_RELAXED);
			wrong += value != 0x100 && value != 0x200 && value != 0xffffffff;
		}
		pci_bus_master(&h->d->f);
		cfg_read(h->r, h->d, PCI_BASE_ADDRESS_0, 4);
	}
	__atomic_fetch_add(&h->wrong, wrong, __ATOMIC_RELAXED);
	return NULL;
}

static void *mover(void *arg)
{
	struct hammer *h = arg;
	int fd = eventfd(0, EFD_NONBLOCK);
	struct bus_kick kick = { .addr = 0x40, .size = 4, .fd = fd };
	uint64_t seed = 5;
	unsigned i;

	/* The readers may not have had a CPU yet. */
	for (i = 0; i < 3000 || !__atomic_load_n(&h->hits, __ATOMIC_RELAXED); i++) {
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
	for (unsigned k = 0; k < i / 16 + 1; k++) {
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
