/*
 * The part of a virtqueue that does not depend on the ring format: pools of chains and iovecs, the
 * checks of a single buffer and of an indirect table, order of completion, start and stop. See
 * queue.h.
 */
#include <stdlib.h>

#include "devices/virtio/queue_internal.h"
#include "devices/virtio/queue_track.h"

#include <linux/virtio_config.h>

#define CHAIN_ALIGN 64u

/*
 * Blocks are a little more than their iovecs apart, so that the first lines of different blocks
 * fall into different cache sets.
 */
#define BLOCK_STRIDE (VIRTQ_MAX_IOV + 4u)

int virtq_init(struct virtq *q, const struct guest_memory *memory, uint16_t max_size,
	       size_t private_size)
{
	*q = (struct virtq){ .memory = memory, .max_size = max_size, .at = virtq_state_reset() };
	q->nchains = max_size;
	q->chain_stride = (sizeof(struct virtq_chain) + private_size + CHAIN_ALIGN - 1) &
			  ~(size_t)(CHAIN_ALIGN - 1);
	q->nblocks = max_size < VIRTQ_BLOCKS ? max_size : VIRTQ_BLOCKS;
	q->chains = aligned_alloc(CHAIN_ALIGN, q->nchains * q->chain_stride);
	q->blocks = malloc(q->nblocks * BLOCK_STRIDE * sizeof(struct iovec));
	if (!q->chains || !q->blocks) {
		virtq_destroy(q);
		return -ENOMEM;
	}
	return 0;
}

void virtq_destroy(struct virtq *q)
{
	virtq_track(q, NULL, 0);
	free(q->chains);
	free(q->blocks);
	*q = (struct virtq){ 0 };
}

int virtq_break(struct virtq *q, const char *why)
{
	if (!q->error)
		q->error = why;
	return -EINVAL;
}

/* ---- pools ----------------------------------------------------------------------------------- */

static struct iovec *block_get(struct virtq *q)
{
	struct iovec *block = q->blocks_free;

	if (block)
		q->blocks_free = block[0].iov_base;
	else if (q->blocks_fresh < q->nblocks)
		block = q->blocks + (size_t)q->blocks_fresh++ * BLOCK_STRIDE;
	return block;
}

bool virtq_has_room_again(const struct virtq *q)
{
	return q->throttled && q->blocks_free;
}

static void chain_put(struct virtq *q, struct virtq_chain *chain)
{
	if (chain->block) {
		chain->block[0].iov_base = q->blocks_free;
		q->blocks_free = chain->block;
		chain->block = NULL;
	}
	chain->next = q->chains_free;
	q->chains_free = chain;
}

struct virtq_chain *virtq_chain_begin(struct virtq *q)
{
	struct virtq_chain *chain = q->chains_free;

	if (chain)
		q->chains_free = chain->next;
	else if (q->chains_fresh < q->nchains)
		chain = (void *)(q->chains + q->chains_fresh++ * q->chain_stride);
	else
		return NULL;
	chain->readable = (struct virtq_span){ .iov = chain->inline_iov };
	chain->writable = (struct virtq_span){ .iov = chain->inline_iov };
	chain->niov = 0;
	chain->taken = 0;
	chain->done = false;
	chain->next = NULL;
	chain->block = NULL;
	return chain;
}

void virtq_chain_abandon(struct virtq *q, struct virtq_chain *chain)
{
	chain_put(q, chain);
}

void virtq_chain_commit(struct virtq *q, struct virtq_chain *chain)
{
	struct iovec *iov = chain->block ? chain->block : chain->inline_iov;

	chain->readable.iov = iov;
	chain->writable.iov = iov + chain->readable.n;
	q->out++;
	if (q->in_order) {
		chain->prev = q->newest;
		if (q->newest)
			q->newest->next = chain;
		else
			q->oldest = chain;
		q->newest = chain;
	}
}

/* ---- checks ---------------------------------------------------------------------------------- */

static int chain_grow(struct virtq *q, struct virtq_chain *chain)
{
	struct iovec *block = block_get(q);

	if (!block) {
		q->throttled = true;
		return -EAGAIN;
	}
	for (unsigned i = 0; i < chain->niov; i++)
		block[i] = chain->inline_iov[i];
	chain->block = block;
	return 0;
}

int virtq_chain_add(struct virtq *q, struct virtq_chain *chain, uint64_t addr, uint32_t len,
		    bool writable)
{
	struct virtq_span *span = writable ? &chain->writable : &chain->readable;
	int n;

	if (len == 0)
		return virtq_break(q, "buffer of length 0");
	if (!writable && chain->writable.n > 0)
		return virtq_break(q, "device-readable buffer after a device-writable one");
	if (chain->readable.len + chain->writable.len + len > UINT32_MAX)
		return virtq_break(q, "chain longer than 4 GiB");

	for (;;) {
		struct iovec *iov = chain->block ? chain->block : chain->inline_iov;
		unsigned room = (chain->block ? VIRTQ_MAX_IOV : VIRTQ_INLINE_IOV) - chain->niov;

		n = memory_iov(q->memory, addr, len, iov + chain->niov, (int)room);
		if (n != -ENOSPC)
			break;
		if (chain->block)
			return virtq_break(q, "chain of too many buffers");
		n = chain_grow(q, chain);
		if (n < 0)
			return n;
	}
	if (n < 0)
		return virtq_break(q, "buffer outside RAM");
	chain->niov = (uint16_t)(chain->niov + n);
	span->n += (unsigned)n;
	span->len += len;
	return 0;
}

const uint8_t *virtq_indirect_table(struct virtq *q, const struct virtq_desc *desc,
				    unsigned *entries)
{
	const uint8_t *table;

	if (!q->indirect)
		virtq_break(q, "indirect descriptor without the feature");
	else if (desc->flags & VRING_DESC_F_NEXT)
		virtq_break(q, "indirect descriptor that has a next one");
	else if (desc->len == 0 || desc->len % sizeof(struct vring_desc))
		virtq_break(q, "indirect table of an odd length");
	else if (desc->len / sizeof(struct vring_desc) > VIRTQ_MAX_IOV)
		virtq_break(q, "indirect table too long");
	if (q->error)
		return NULL;
	*entries = (unsigned)(desc->len / sizeof(struct vring_desc));
	table = memory_map(q->memory, desc->addr, desc->len, 1);
	if (!table)
		virtq_break(q, "indirect table outside RAM");
	return table;
}

/* ---- start and stop -------------------------------------------------------------------------- */

static int begin_at(struct virtq *q, const struct virtq_state *state)
{
	bool packed = q->ring == &virtq_packed_ops;

	if (packed && (state->avail_idx >= q->size || state->used_idx >= q->size))
		return virtq_break(q, "ring position out of range");
	q->at = *state;
	q->published = state->used_idx;
	q->pending = false;
	q->pending_slots = 0;
	q->told = false;
	q->kicks_off = true; /* whatever is there: the first virtq_enable_kicks() writes it */
	q->throttled = false;
	q->in_flight = 0;
	q->oldest = q->newest = NULL;
	return 0;
}

int virtq_start(struct virtq *q, const struct virtq_config *config, const struct virtq_state *state)
{
	int err;

	q->error = NULL;
	if (q->out) {
		virtq_break(q, "started while requests are in flight");
		return -EBUSY;
	}
	q->ring = config->features & (1ull << VIRTIO_F_RING_PACKED) ? &virtq_packed_ops
								    : &virtq_split_ops;
	q->event_idx = config->features & (1ull << VIRTIO_RING_F_EVENT_IDX);
	q->indirect = config->features & (1ull << VIRTIO_RING_F_INDIRECT_DESC);
	q->in_order = config->features & (1ull << VIRTIO_F_IN_ORDER);
	if (config->size == 0 || config->size > q->max_size)
		return virtq_break(q, "queue size out of range");
	q->size = config->size;
	err = q->ring->map(q, config);
	if (!err)
		err = begin_at(q, state);
	if (!err && q->track)
		err = virtq_track_begin(q);
	q->started = !err;
	return err;
}

void virtq_stop(struct virtq *q)
{
	struct virtq_chain *next;

	q->started = false;
	/* Given back already, waiting for their turn: nobody else will free them. */
	for (struct virtq_chain *chain = q->oldest; chain; chain = next) {
		next = chain->next;
		if (chain->done)
			chain_put(q, chain);
	}
	q->oldest = q->newest = NULL;
}

struct virtq_state virtq_get_state(const struct virtq *q)
{
	return q->at;
}

int virtq_set_state(struct virtq *q, const struct virtq_state *state)
{
	return q->out ? -EBUSY : begin_at(q, state);
}

/* ---- chains ---------------------------------------------------------------------------------- */

static bool running(const struct virtq *q)
{
	return q->started && !q->error;
}

unsigned virtq_pop(struct virtq *q, struct virtq_chain **chains, unsigned max)
{
	if (!running(q))
		return 0;
	q->throttled = false;
	if (q->track && virtq_track_waiting(q))
		return virtq_track_retake(q, chains, max);
	return q->ring->pop(q, chains, max);
}

static void order_drop(struct virtq *q, struct virtq_chain *chain)
{
	if (chain->prev)
		chain->prev->next = chain->next;
	else
		q->oldest = chain->next;
	if (chain->next)
		chain->next->prev = chain->prev;
	else
		q->newest = chain->prev;
}

void virtq_unpop(struct virtq *q, struct virtq_chain *chain)
{
	q->out--;
	if (q->started && q->in_order)
		order_drop(q, chain);
	if (running(q))
		q->ring->unpop(q, chain);
	chain_put(q, chain);
}

void virtq_push(struct virtq *q, struct virtq_chain *chain, uint32_t written)
{
	q->out--;
	if (!running(q)) {
		/* A broken queue that is still started keeps its order list: see virtq_stop(). */
		if (q->started && q->in_order)
			chain->done = true;
		else
			chain_put(q, chain);
		return;
	}
	if (!q->in_order) {
		q->ring->put_used(q, chain, written);
		chain_put(q, chain);
		return;
	}
	chain->done = true;
	chain->written = written;
	while (q->oldest && q->oldest->done) {
		struct virtq_chain *oldest = q->oldest;

		order_drop(q, oldest);
		q->ring->put_used(q, oldest, oldest->written);
		chain_put(q, oldest);
	}
}

enum virtq_notify virtq_publish(struct virtq *q)
{
	if (!running(q) || !q->pending)
		return VIRTQ_NOTHING;
	q->pending = false;
	return q->ring->publish(q);
}

void virtq_disable_kicks(struct virtq *q)
{
	if (running(q))
		q->ring->disable_kicks(q);
}

bool virtq_enable_kicks(struct virtq *q)
{
	return running(q) && q->ring->enable_kicks(q);
}
