/*
 * A model driver: the other side of a virtqueue, as Virtio 1.2 sections 2.7 and 2.8 tell drivers to
 * behave. Split and packed, over real guest memory, for tests of the queue core and of devices.
 */
#ifndef TESTS_UNIT_TEST_VIRTQ_MODEL_H
#define TESTS_UNIT_TEST_VIRTQ_MODEL_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/queue.h"
#include "vmm/memory.h"

#define MODEL_BIT(n) (1ull << (n))

/* RAM of tests: [0, 8 MiB) and [16 MiB, 24 MiB). */
#define MODEL_LOW    (8ull << 20)
#define MODEL_HIGH   (16ull << 20)
#define MODEL_MEMORY (16ull << 20)

/* Where a queue's parts are unless a test moves them. */
#define MODEL_DESC   0x10000ull
#define MODEL_DRIVER 0x90000ull
#define MODEL_DEVICE 0xb0000ull
#define MODEL_TABLES 0x400000ull
#define MODEL_TABLE  64u /* entries of an indirect table */

struct model_buf {
	uint64_t addr;
	uint32_t len;
	bool write; /* the device may write to it */
};

struct model_used {
	uint16_t id; /* what model_add() returned */
	uint32_t len;
};

struct model {
	const struct guest_memory *memory;
	bool packed, event_idx, indirect;
	uint16_t size;
	struct virtq_config config; /* for virtq_start() */
	unsigned free_slots;
	/* split: idx free-running; packed: positions with wrap counters */
	uint16_t avail, used;
	bool avail_wrap, used_wrap;
	uint16_t kick_from;  /* split: avail when kicks were last considered */
	unsigned kick_slots; /* packed: slots made available since */
	uint16_t *next;	     /* split: free list; packed: free ids */
	uint16_t free_head;  /* split; packed: how many free ids */
	unsigned *slots;     /* of an id */
};

struct guest_memory model_memory(void);

/* base is added to all MODEL_… addresses. The rings are zeroed. */
void model_init(struct model *d, const struct guest_memory *memory, uint64_t base, uint16_t size,
		uint64_t features);
void model_free(struct model *d);

/* Makes a chain available; its id, or -1 if the ring has no room. */
int model_add(struct model *d, const struct model_buf *buf, unsigned n, bool indirect);
/* The next used chain, false if none. */
bool model_used(struct model *d, struct model_used *used);

/* Must the driver kick for what it added since it last asked? */
bool model_must_kick(struct model *d);
/* No interrupts, please (a hint). */
void model_busy(struct model *d);
/* Interrupts again; true if something is used already: look before sleeping. */
bool model_sleep(struct model *d);

/* Guest memory as a pointer; fails the test if it is not RAM. */
void *model_at(const struct guest_memory *memory, uint64_t addr, uint64_t len);

/* splitmix64 */
uint64_t model_random(uint64_t *state);

#endif
