/*
 * virtio-net, from the guest: Virtio 1.2 section 5.1.6.2. In: chains of the transmit queue. Out:
 * frames to the backend, written straight from the guest's memory, header and all: the header is
 * read once, by the backend, which checks what it says.
 *
 * Frames that the backend does not take now wait here, in order; while they do, those behind them
 * wait too.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/virtio/net_internal.h"

/* ---- fifo ------------------------------------------------------------------------------------ */

int net_fifo_init(struct net_fifo *f, unsigned size)
{
	unsigned slots = 1;

	while (slots < size)
		slots *= 2;
	*f = (struct net_fifo){ .mask = slots - 1 };
	f->slot = calloc(slots, sizeof(struct virtq_chain *));
	return f->slot ? 0 : -ENOMEM;
}

void net_fifo_destroy(struct net_fifo *f)
{
	free(f->slot);
	f->slot = NULL;
}

void net_fifo_unpop(struct net_fifo *f, struct virtq *ring)
{
	while (f->count > 0)
		virtq_unpop(ring, net_fifo_at(f, --f->count));
}

/* ---- frames ---------------------------------------------------------------------------------- */

static const char *frame_fault(const struct virtq_chain *chain)
{
	return chain->readable.len < NET_HEADER ? "frame without a whole header" : NULL;
}

/* False: the backend takes no more now. */
static bool send_frame(struct net_pair *p, struct virtq_chain *chain)
{
	int err = 0;

	if (chain->readable.len > NET_HEADER + NET_FRAME_MAX || !virtio_net_has_link(p->vn))
		err = -EMSGSIZE;
	else
		err = net_send(p->backend, chain->readable.iov, (int)chain->readable.n);
	if (err == -EAGAIN)
		return false;
	if (err)
		p->tx.stats.dropped++;
	virtio_queue_push(p->txq, chain, 0);
	return true;
}

void net_tx_process(struct net_pair *p, struct virtq_chain **chains, unsigned n)
{
	struct net_tx *tx = &p->tx;

	for (unsigned i = 0; i < n; i++) {
		const char *fault = frame_fault(chains[i]);

		if (fault)
			virtio_queue_break(p->txq, fault);
		if (p->txq->ring.error)
			virtio_queue_push(p->txq, chains[i], 0); /* to the pool */
		else if (tx->fifo.count > 0)
			net_fifo_put(&tx->fifo, chains[i]);
		else if (!send_frame(p, chains[i])) {
			net_fifo_put(&tx->fifo, chains[i]);
			tx->stats.blocked++;
		}
	}
	net_flush(p->backend);
}

void net_tx_writable(struct net_pair *p)
{
	struct net_tx *tx = &p->tx;

	pthread_mutex_lock(&p->txq->lock);
	while (tx->fifo.count > 0 && p->txq->running && !p->txq->held) {
		if (!send_frame(p, net_fifo_at(&tx->fifo, 0)))
			break;
		net_fifo_get(&tx->fifo);
	}
	net_flush(p->backend);
	virtio_queue_publish(p->txq);
	pthread_mutex_unlock(&p->txq->lock);
}

void net_tx_drain(struct net_pair *p)
{
	net_fifo_unpop(&p->tx.fifo, &p->txq->ring);
}

/* ---- life ------------------------------------------------------------------------------------ */

int net_tx_init(struct net_pair *p, unsigned queue_size)
{
	return net_fifo_init(&p->tx.fifo, queue_size);
}

void net_tx_destroy(struct net_pair *p)
{
	net_fifo_destroy(&p->tx.fifo);
}
