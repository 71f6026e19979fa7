/*
 * Virtqueues from the device's side. In: the addresses a driver chose, and kicks. Out: chains, each
 * one request with its device-readable and device-writable bytes as checked host iovecs, taken in
 * batches and given back in any order. Split and packed rings (Virtio 1.2 sections 2.7 and 2.8) are
 * two implementations behind the same calls; devices see neither descriptors nor guest addresses.
 *
 * The driver is hostile: every field it controls is read once and the copy is checked. The first
 * violation breaks the queue: it says why, hands out no more chains and publishes nothing more.
 *
 * A queue is used by one thread at a time. Nothing here allocates after virtq_init(), and all
 * that is there is bounded by the size given to it.
 */
#ifndef DEVICES_VIRTIO_QUEUE_H
#define DEVICES_VIRTIO_QUEUE_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/virtio/span.h"
#include "vmm/memory.h"

#define VIRTQ_MAX_SIZE	 32768u
#define VIRTQ_MAX_IOV	 1024u /* per chain: UIO_MAXIOV, so that a chain is one preadv(2) */
#define VIRTQ_INLINE_IOV 8u    /* without touching another cache line pool */
#define VIRTQ_BLOCKS	 64u   /* chains with more iovecs than that in flight at once */

/* One request. The device's private bytes (virtq_chain_private()) follow. */
struct virtq_chain {
	struct virtq_span readable; /* driver → device */
	struct virtq_span writable; /* device → driver */
	uint16_t id;		    /* split: head descriptor; packed: buffer id */
	uint16_t slots;		    /* ring descriptors it takes (packed) */
	uint16_t niov;
	bool done; /* in order: given back, waits for those before it */
	uint32_t written;
	uint64_t taken;		  /* for the one who counts latencies: when, or 0 */
	uint16_t entry;		  /* packed and tracked: where it is noted */
	struct virtq_chain *next; /* in order: made available after this one; else the pool's */
	struct virtq_chain *prev; /* in order: before this one */
	struct iovec *block;	  /* VIRTQ_MAX_IOV iovecs, or NULL */
	struct iovec inline_iov[VIRTQ_INLINE_IOV];
} __attribute__((aligned(16)));

static inline void *virtq_chain_private(struct virtq_chain *chain)
{
	return chain + 1;
}

/* What the driver decided, from the transport's registers; driver/device are the names of 1.2 §2.8
 * ("driver area", "device area": available and used ring of a split queue). */
struct virtq_config {
	uint16_t size;
	uint64_t desc, driver, device; /* guest addresses */
	uint64_t features;	       /* negotiated */
};

/*
 * Where the device has got to, for taking a queue over from or handing it to another data plane
 * (vhost's get and set base) and for saved state. All zero is not the state after reset:
 * virtq_state_reset() is.
 */
struct virtq_state {
	uint16_t avail_idx;	    /* next to take; split: free-running, packed: ring position */
	uint16_t used_idx;	    /* next to publish, likewise */
	bool avail_wrap, used_wrap; /* packed only */
};

static inline struct virtq_state virtq_state_reset(void)
{
	return (struct virtq_state){ .avail_wrap = true, .used_wrap = true };
}

struct virtq_ring_ops;
struct virtq_track;

struct virtq {
	const struct guest_memory *memory;
	const struct virtq_ring_ops *ring;
	bool started;
	bool event_idx, indirect, in_order;
	bool throttled;	   /* pop stopped for want of blocks: see virtq_has_room_again() */
	const char *error; /* the violation that broke it, or NULL */
	uint16_t max_size, size;

	struct virtq_state at;
	uint16_t published;	/* used_idx as the driver knows it */
	uint16_t pending_slots; /* packed: ring descriptors given back since published */
	uint16_t pending_flags; /* packed: flags of the first of them, written last */
	bool pending;		/* anything pushed since published */
	bool told;		/* published at least once: the driver's event index can be used */
	bool kicks_off;		/* what we last told the driver (not EVENT_IDX) */
	unsigned in_flight;	/* split: chains; packed: ring descriptors */
	unsigned out;		/* chains the device holds */

	/* The rings in guest memory. */
	union {
		struct {
			const struct vring_desc *desc;
			const struct vring_avail *avail;
			struct vring_used *used;
		} split;
		struct {
			struct vring_packed_desc *desc;
			const struct vring_packed_desc_event *driver;
			struct vring_packed_desc_event *device;
		} packed;
	};

	struct virtq_track *track; /* NULL: nobody wants to know what is in flight */

	/* In order: all chains taken and not published, oldest first. */
	struct virtq_chain *oldest, *newest;

	/* Pools. Never-used ones come last, so that memory is touched only as far as needed. */
	uint8_t *chains;
	size_t chain_stride;
	unsigned chains_fresh, nchains;
	struct virtq_chain *chains_free;
	struct iovec *blocks;
	unsigned blocks_fresh, nblocks;
	struct iovec *blocks_free;
};

/* private: bytes a device wants in every chain. -ENOMEM. */
int virtq_init(struct virtq *q, const struct guest_memory *memory, uint16_t max_size,
	       size_t private_size);
void virtq_destroy(struct virtq *q); /* also of a zeroed one */

/*
 * Maps the rings and begins at state. -EINVAL (size, alignment), -EFAULT (not RAM); q->error says
 * which. -EBUSY while the device still holds chains from before.
 */
int virtq_start(struct virtq *q, const struct virtq_config *config,
		const struct virtq_state *state);
/*
 * From here on guest memory is not touched: chains that the device still holds are taken back
 * without being published. What was pushed and not published is lost: publish before, or not.
 */
void virtq_stop(struct virtq *q);
/* Valid while nothing is in flight, also after virtq_stop(). */
struct virtq_state virtq_get_state(const struct virtq *q);
/* Goes on from there, the rings staying where they are. -EBUSY while chains are out, -EINVAL. */
int virtq_set_state(struct virtq *q, const struct virtq_state *state);

/*
 * What is in flight is noted in `region`, memory that outlives this process, as vhost-user's
 * INFLIGHT_SHMFD has it: if we are killed, whoever starts the queue with the same region goes on
 * from there, and the chains that were out come first again. The state given to virtq_start()
 * counts only for a region that is all zero. Called before virtq_start(), with nothing in flight;
 * region NULL ends it. Not for devices that unpop. -ENOMEM, -EINVAL (region too small or
 * misaligned).
 */
int virtq_track(struct virtq *q, void *region, size_t len);
/* Bytes that a queue of so many descriptors needs, in either format. */
size_t virtq_track_size(unsigned queue_size);

/*
 * Takes up to max chains that the driver has made available, in one pass. 0: none, broken, or
 * throttled (too many long chains in flight: pop again after pushing some).
 */
unsigned virtq_pop(struct virtq *q, struct virtq_chain **chains, unsigned max);
/*
 * Gives chains back that were just popped, so that they are available again; the newest first.
 * For devices that find they cannot use what they took (a receive buffer with no packet).
 */
void virtq_unpop(struct virtq *q, struct virtq_chain *chain);
/* Gives a chain back as used with `written` bytes stored from the front of its writable part. */
void virtq_push(struct virtq *q, struct virtq_chain *chain, uint32_t written);

/* Did pop stop for want of blocks of which some have come back? Then pop again. */
bool virtq_has_room_again(const struct virtq *q);

enum virtq_notify { VIRTQ_NOTHING, VIRTQ_SUPPRESSED, VIRTQ_NOTIFY };

/* Shows the driver all that was pushed; does it want to be interrupted for that? */
enum virtq_notify virtq_publish(struct virtq *q);

/* Asks the driver not to kick; a hint, and free with EVENT_IDX. */
void virtq_disable_kicks(struct virtq *q);
/* Asks for kicks again; true if chains were made available meanwhile: pop before sleeping. */
bool virtq_enable_kicks(struct virtq *q);

/* Breaks the queue for a reason the device found; the first reason stays. Returns -EINVAL. */
int virtq_break(struct virtq *q, const char *why);

#endif
