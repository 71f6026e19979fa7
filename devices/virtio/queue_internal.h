/*
 * What the two ring formats share with the queue core and with nobody else: the chain that is being
 * walked, the pools, and loads from memory that a driver may change at any moment.
 */
#ifndef DEVICES_VIRTIO_QUEUE_INTERNAL_H
#define DEVICES_VIRTIO_QUEUE_INTERNAL_H

#include <endian.h>
#include <errno.h>

#include "devices/virtio/queue.h"

/* One format. All run on the queue's thread with the queue started and not broken. */
struct virtq_ring_ops {
	/* Maps the rings; 0, or a negative errno after virtq_break(). */
	int (*map)(struct virtq *q, const struct virtq_config *config);
	unsigned (*pop)(struct virtq *q, struct virtq_chain **chains, unsigned max);
	void (*unpop)(struct virtq *q, const struct virtq_chain *chain);
	void (*put_used)(struct virtq *q, const struct virtq_chain *chain, uint32_t written);
	enum virtq_notify (*publish)(struct virtq *q);
	void (*disable_kicks)(struct virtq *q);
	bool (*enable_kicks)(struct virtq *q);
	/* q->at, in_flight and q->track from what the region says. 0, or after virtq_break(). */
	int (*recover)(struct virtq *q);
	/* Takes the chain that is noted at `index` once more. 0, -EINVAL, -EAGAIN (throttled). */
	int (*retake)(struct virtq *q, struct virtq_chain *chain, unsigned index);
};

extern const struct virtq_ring_ops virtq_split_ops, virtq_packed_ops;

#define VIRTQ_F_AVAIL ((uint16_t)(1u << VRING_PACKED_DESC_F_AVAIL))
#define VIRTQ_F_USED  ((uint16_t)(1u << VRING_PACKED_DESC_F_USED))

/* A descriptor as read, once. */
struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next; /* split: next descriptor; packed: buffer id */
};

/*
 * Reads 16 bytes in two loads. Unaligned on purpose: the specification asks no alignment of
 * indirect tables. A driver that changes a descriptor meanwhile gets one of its values, checked.
 * The two formats have their last two fields the other way round.
 */
static inline struct virtq_desc virtq_desc_load(const void *desc, bool packed)
{
	typedef uint64_t unaligned_u64 __attribute__((aligned(1), may_alias));
	const volatile unaligned_u64 *word = desc;
	uint64_t addr = le64toh(word[0]), rest = le64toh(word[1]);
	uint16_t third = (uint16_t)(rest >> 32), fourth = (uint16_t)(rest >> 48);

	return (struct virtq_desc){
		.addr = addr,
		.len = (uint32_t)rest,
		.flags = packed ? fourth : third,
		.next = packed ? third : fourth,
	};
}

static inline uint16_t virtq_load16(const uint16_t *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static inline uint16_t virtq_load16_acquire(const uint16_t *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

/* NOLINTNEXTLINE(readability-non-const-parameter): written atomically */
static inline void virtq_store16(uint16_t *p, uint16_t value)
{
	__atomic_store_n(p, htole16(value), __ATOMIC_RELAXED);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): written atomically */
static inline void virtq_store16_release(uint16_t *p, uint16_t value)
{
	__atomic_store_n(p, htole16(value), __ATOMIC_RELEASE);
}

/* An empty chain from the pool; NULL if all are out, which the ring formats have ruled out. */
struct virtq_chain *virtq_chain_begin(struct virtq *q);
/*
 * Appends one buffer after checking it. 0; -EINVAL, the queue is broken; -EAGAIN, throttled: stop
 * here and leave the chain in the ring.
 */
int virtq_chain_add(struct virtq *q, struct virtq_chain *chain, uint64_t addr, uint32_t len,
		    bool writable);
/* Takes part in what the device holds. */
void virtq_chain_commit(struct virtq *q, struct virtq_chain *chain);
/* Back to the pool, without having been committed. */
void virtq_chain_abandon(struct virtq *q, struct virtq_chain *chain);
/* The table that a descriptor with INDIRECT points to; NULL and broken if it is not allowed. */
const uint8_t *virtq_indirect_table(struct virtq *q, const struct virtq_desc *desc,
				    unsigned *entries);

#endif
