/*
 * Chains that a device holds for a while, oldest first: receive buffers that wait for data,
 * requests that wait for room. A chain is linked through its private bytes, which begin with a
 * struct chain_link. Guarded by the queue's lock.
 *
 * drain() of such a device is chain_fifo_return(): nothing of a held chain has been used, so it can
 * go back to the driver's side of the ring as if it had never been taken. That needs chains to be
 * given back in the order they came, which a FIFO does.
 */
#ifndef DEVICES_VIRTIO_CHAIN_FIFO_H
#define DEVICES_VIRTIO_CHAIN_FIFO_H

#include "devices/virtio/queue.h"

struct chain_link {
	struct virtq_chain *older, *newer;
};

struct chain_fifo {
	struct virtq_chain *oldest, *newest;
};

static inline struct chain_link *chain_link(struct virtq_chain *chain)
{
	return virtq_chain_private(chain);
}

static inline void chain_fifo_put(struct chain_fifo *fifo, struct virtq_chain *chain)
{
	*chain_link(chain) = (struct chain_link){ .older = fifo->newest };
	if (fifo->newest)
		chain_link(fifo->newest)->newer = chain;
	else
		fifo->oldest = chain;
	fifo->newest = chain;
}

/* Takes the oldest chain out, NULL if there is none; the caller gives it back. */
static inline struct virtq_chain *chain_fifo_take(struct chain_fifo *fifo)
{
	struct virtq_chain *chain = fifo->oldest;

	if (!chain)
		return NULL;
	fifo->oldest = chain_link(chain)->newer;
	if (fifo->oldest)
		chain_link(fifo->oldest)->older = NULL;
	else
		fifo->newest = NULL;
	return chain;
}

/* All go back to where they came from. */
static inline void chain_fifo_return(struct chain_fifo *fifo, struct virtq *q)
{
	struct virtq_chain *older;

	for (struct virtq_chain *chain = fifo->newest; chain; chain = older) {
		older = chain_link(chain)->older;
		virtq_unpop(q, chain);
	}
	*fifo = (struct chain_fifo){ 0 };
}

#endif
