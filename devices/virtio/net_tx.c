/*
 * virtio-net, from the guest: Virtio 1.2 section 5.1.6.2. In: chains of the transmit queue. Out:
 * frames to the backend, written straight from the guest's memory, header and all: the header is
 * read once, by the backend, which checks what it says.
 *
 * Frames that the backend does not take now wait here, in order; while they do, those behind them
 * wait too.
 */
#include <errno.h>

#include "devices/virtio/net_internal.h"

/* ---- frames ---------------------------------------------------------------------------------- */

static const char *frame_fault(const struct virtq_chain *chain)
{
	return chain->readable.len < NET_HEADER ? "frame without a whole header" : NULL;
}

/* The frame is out of the guest's memory or lost; false: the backend takes no more now. */
static bool backend_takes(struct net_pair *p, const struct virtq_chain *chain)
{
	int err;

	if (chain->readable.len > NET_HEADER + NET_FRAME_MAX || !virtio_net_has_link(p->vn))
		err = -EMSGSIZE;
	else
		err = net_send(p->backend, chain->readable.iov, (int)chain->readable.n);
	if (err == -EAGAIN)
		return false;
	if (err)
		p->tx.stats.dropped++;
	return true;
}

void net_tx_process(struct net_pair *p, struct virtq_chain **chains, unsigned n)
{
	struct net_tx *tx = &p->tx;
	unsigned weight = 0;

	for (unsigned i = 0; i < n; i++) {
		const char *fault = frame_fault(chains[i]);

		weight += net_turn_weight(chains[i]->readable.len);
		if (fault)
			virtio_queue_break(p->txq, fault);
		if (p->txq->ring.error) {
			virtio_queue_push(p->txq, chains[i], 0); /* to the pool */
		} else if (tx->fifo.oldest) {
			chain_fifo_put(&tx->fifo, chains[i]);
		} else if (backend_takes(p, chains[i])) {
			virtio_queue_push(p->txq, chains[i], 0);
		} else {
			chain_fifo_put(&tx->fifo, chains[i]);
			tx->stats.blocked++;
		}
	}
	net_flush(p->backend);
	event_loop_took(p->txq->loop, weight);
}

void net_tx_writable(struct net_pair *p)
{
	struct net_tx *tx = &p->tx;

	pthread_mutex_lock(&p->txq->lock);
	while (tx->fifo.oldest && virtio_queue_ours(p->txq)) {
		if (!backend_takes(p, tx->fifo.oldest))
			break;
		virtio_queue_push(p->txq, chain_fifo_take(&tx->fifo), 0);
	}
	net_flush(p->backend);
	virtio_queue_publish(p->txq);
	pthread_mutex_unlock(&p->txq->lock);
}

void net_tx_drain(struct net_pair *p)
{
	chain_fifo_return(&p->tx.fifo, &p->txq->ring);
}
