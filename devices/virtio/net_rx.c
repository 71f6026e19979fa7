/*
 * virtio-net, towards the guest: Virtio 1.2 section 5.1.6.3 and 5.1.6.4. In: frames from the
 * backend. Out: used buffers of the receive queue.
 *
 * A frame is read straight into the guest's buffers. How long it is, is known only afterwards, so
 * as many buffers are gathered as recent frames took, with memory of ours behind them: what was
 * not foreseen goes there and is copied, and when buffers are short it waits there for more. So no
 * frame is cut, and few buffers are looked at for short frames. The first bytes (both headers) are
 * read into memory of ours, looked at, and copied.
 *
 * Unlike other queues this one is not emptied at a kick: buffers are taken from the ring when
 * frames come, and the driver's kicks stay off until there are none left. A driver that refills in
 * time never leaves the guest for that.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/net_internal.h"

#define FETCH	   32u	/* buffers from the ring at once */
#define BUDGET	   64u	/* frames in a turn, before others get theirs */
#define PEAK_MIN   512u /* frames are expected to be at least that long */
#define PEAK_DECAY 64u

/* ---- buffers --------------------------------------------------------------------------------- */

static const char *buffer_fault(const struct net_rx *rx, const struct virtq_chain *chain)
{
	/* Section 5.1.6.3.1: room for the header; without MRG_RXBUF, for a whole frame. */
	if (chain->writable.len < (rx->mergeable ? NET_HEADER : NET_RX_HEAD))
		return "receive buffer that is too small";
	if (chain->writable.n > NET_MAX_IOV - 2)
		return "receive buffer in too many pieces";
	return NULL;
}

static void fetch(struct net_pair *p)
{
	struct virtq_chain *chains[FETCH];
	struct virtio_queue *q = p->rxq;
	unsigned n = virtq_pop(&q->ring, chains, FETCH);

	q->stats.requests += n;
	account_add(q->v->dev.account, ACCOUNT_REQUESTS, n);
	for (unsigned i = 0; i < n; i++) {
		const char *fault = buffer_fault(&p->rx, chains[i]);

		chain_fifo_put(&p->rx.fifo, chains[i]);
		if (fault && !q->ring.error)
			virtq_break(&q->ring, fault);
	}
	if (q->ring.error)
		virtio_queue_break(q, q->ring.error);
}

static struct virtq_chain *after(const struct net_rx *rx, struct virtq_chain *chain)
{
	return chain ? chain_link(chain)->newer : rx->fifo.oldest;
}

/* The buffer behind the last one in use; NULL if the driver has given no more. */
static struct virtq_chain *next_buffer(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;

	if (!after(rx, rx->last))
		fetch(p);
	return p->rxq->running ? after(rx, rx->last) : NULL;
}

/* Its iovecs to the end of the list, less what the head covers. */
static void append(struct net_rx *rx, struct virtq_chain *chain)
{
	for (unsigned i = 0; i < chain->writable.n; i++) {
		struct iovec iov = chain->writable.iov[i];

		if (rx->capacity < NET_RX_HEAD) {
			size_t part = NET_RX_HEAD - rx->capacity;

			if (part > iov.iov_len)
				part = iov.iov_len;
			rx->front[rx->nfront++] = (struct iovec){ iov.iov_base, part };
			rx->capacity += part;
			iov.iov_base = (uint8_t *)iov.iov_base + part;
			iov.iov_len -= part;
		}
		if (iov.iov_len > 0)
			rx->iov[rx->niov++] = iov;
		rx->capacity += iov.iov_len;
	}
	rx->last = chain;
}

/* Room for the next frame; false: there are not enough buffers for anything. */
static bool gather(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;

	rx->iov[0] = (struct iovec){ rx->head, NET_RX_HEAD };
	rx->niov = 1;
	rx->nfront = 0;
	rx->last = NULL;
	rx->capacity = 0;
	do {
		struct virtq_chain *chain = next_buffer(p);

		if (!chain || (unsigned)rx->niov + chain->writable.n > NET_MAX_IOV - 1)
			break;
		append(rx, chain);
	} while (rx->mergeable && rx->capacity < rx->peak);
	rx->iov[rx->niov++] = (struct iovec){ rx->tail, NET_FRAME_MAX };
	return rx->capacity >= NET_RX_HEAD;
}

/* ---- one frame ------------------------------------------------------------------------------- */

static void copy_front(struct net_rx *rx, size_t len)
{
	const uint8_t *from = rx->head;

	for (int i = 0; i < rx->nfront && len > 0; i++) {
		size_t part = rx->front[i].iov_len < len ? rx->front[i].iov_len : len;

		memcpy(rx->front[i].iov_base, from, part);
		from += part;
		len -= part;
	}
}

/* The frame is in place but for the head: complete it and give the buffers back. */
static void finish(struct net_pair *p, size_t len)
{
	struct net_rx *rx = &p->rx;
	struct virtq_chain *chain = NULL;
	struct virtio_net_hdr_v1 header;
	unsigned used = 0;

	for (size_t room = 0; room < len; used++) {
		chain = after(rx, chain);
		room += chain->writable.len;
	}
	memcpy(&header, rx->head, sizeof(header));
	header.num_buffers = htole16((uint16_t)used);
	if (!rx->checksum)
		header.flags = 0; /* section 5.1.6.4.1 */
	memcpy(rx->head, &header, sizeof(header));
	copy_front(rx, len < NET_RX_HEAD ? len : NET_RX_HEAD);
	account_add(p->rxq->v->dev.account, ACCOUNT_COPIED, len < NET_RX_HEAD ? len : NET_RX_HEAD);
	while (len > 0) {
		size_t part;

		chain = chain_fifo_take(&rx->fifo);
		part = chain->writable.len < len ? chain->writable.len : len;
		virtio_queue_push(p->rxq, chain, (uint32_t)part);
		len -= part;
	}
	rx->last = NULL;
}

static void copy_in(struct virtq_chain *chain, const uint8_t *from, size_t len)
{
	for (unsigned i = 0; i < chain->writable.n && len > 0; i++) {
		const struct iovec *iov = &chain->writable.iov[i];
		size_t part = iov->iov_len < len ? iov->iov_len : len;

		memcpy(iov->iov_base, from, part);
		from += part;
		len -= part;
	}
}

/* What the guest's buffers had no room for, into more buffers. False: there are none now. */
static bool place_tail(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;

	while (rx->tail_done < rx->tail_len) {
		struct virtq_chain *chain = next_buffer(p);
		size_t part = rx->tail_len - rx->tail_done;

		if (!chain)
			return false;
		if (part > chain->writable.len)
			part = chain->writable.len;
		copy_in(chain, rx->tail + rx->tail_done, part);
		rx->stats.copied += part;
		account_add(p->rxq->v->dev.account, ACCOUNT_COPIED, part);
		rx->tail_done += part;
		rx->last = chain;
	}
	return true;
}

/* The driver has given all it can, so waiting for more would be for ever. */
static bool ring_exhausted(const struct net_pair *p)
{
	const struct virtq *ring = &p->rxq->ring;

	return ring->in_flight >= ring->size || ring->throttled;
}

/* False: it waits for buffers. */
static bool deliver_long(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;
	size_t len = rx->waiting;

	if (!place_tail(p)) {
		if (p->rxq->running && !ring_exhausted(p))
			return false;
		rx->waiting = 0;
		rx->last = NULL;
		rx->stats.dropped++;
		return true;
	}
	rx->waiting = 0;
	finish(p, len);
	return true;
}

/* Could this driver read it? Not what was queued for one before it that had more features. */
static bool readable_by_driver(const struct net_rx *rx)
{
	struct virtio_net_hdr_v1 header;

	memcpy(&header, rx->head, sizeof(header));
	return (rx->checksum || !(header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)) &&
	       (rx->segment || header.gso_type == VIRTIO_NET_HDR_GSO_NONE);
}

/* A frame of len bytes has been read. */
static void take_frame(struct net_pair *p, size_t len)
{
	struct net_rx *rx = &p->rx;

	if (!net_filter_passes(&rx->filter, rx->head + NET_HEADER, len - NET_HEADER)) {
		rx->stats.filtered++;
		return;
	}
	if (len > rx->peak)
		rx->peak = len;
	else if (rx->peak > PEAK_MIN)
		rx->peak -= (rx->peak - len) / PEAK_DECAY;
	if (!readable_by_driver(rx) || (len > rx->capacity && !rx->mergeable)) {
		rx->stats.dropped++;
		return;
	}
	if (len <= rx->capacity) {
		finish(p, len);
		return;
	}
	rx->waiting = len;
	rx->tail_len = len - rx->capacity;
	rx->tail_done = 0;
	deliver_long(p);
}

/* ---- turns ----------------------------------------------------------------------------------- */

static bool can_receive(const struct net_pair *p)
{
	return virtio_queue_ours(p->rxq) && p->rx.enabled && virtio_net_has_link(p->vn);
}

/* Out of buffers: ask for a kick. True if some came before the driver could see that. */
static bool ask_for_buffers(struct net_pair *p)
{
	if (virtq_enable_kicks(&p->rxq->ring)) {
		virtq_disable_kicks(&p->rxq->ring);
		return true;
	}
	p->rx.stats.starved++;
	return false;
}

/* Frames until there are no more, or no buffers, or it is another's turn. How much came, see
 * net_turn_weight(). */
static unsigned turn(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;
	unsigned came = 0;

	for (unsigned n = 0; n < BUDGET && can_receive(p); n++) {
		ssize_t len;

		if (rx->waiting ? !deliver_long(p) : !gather(p)) {
			if (ask_for_buffers(p))
				continue;
			net_receive_want(p->backend, false);
			return came;
		}
		if (!rx->last)
			continue; /* what waited is delivered */
		len = net_receive(p->backend, rx->iov, rx->niov);
		if (len < 0)
			return came;
		came += net_turn_weight((size_t)len);
		if (len >= (ssize_t)NET_HEADER)
			take_frame(p, (size_t)len);
	}
	if (!can_receive(p))
		net_receive_want(p->backend, false);
	return came;
}

static void serve(struct net_pair *p)
{
	unsigned came;

	p->rxq->serving = true;
	came = turn(p);
	virtio_queue_publish(p->rxq);
	p->rxq->serving = false;
	if (came)
		event_loop_took(p->rxq->loop, came);
}

void net_rx_readable(struct net_pair *p)
{
	pthread_mutex_lock(&p->rxq->lock);
	serve(p);
	pthread_mutex_unlock(&p->rxq->lock);
}

/* New buffers, or the queue was started, enabled or released: frames may come again. */
void net_rx_pull(struct net_pair *p)
{
	if (!can_receive(p)) {
		net_receive_want(p->backend, false);
		return;
	}
	virtq_disable_kicks(&p->rxq->ring);
	net_receive_want(p->backend, true);
	if (p->rx.waiting)
		serve(p);
}

void net_rx_drain(struct net_pair *p)
{
	if (p->rx.waiting)
		p->rx.stats.dropped++;
	p->rx.waiting = 0;
	p->rx.last = NULL;
	chain_fifo_return(&p->rx.fifo, &p->rxq->ring);
}

/* ---- life ------------------------------------------------------------------------------------ */

int net_rx_init(struct net_pair *p)
{
	p->rx.peak = PEAK_MIN;
	p->rx.tail = malloc(NET_FRAME_MAX);
	return p->rx.tail ? 0 : -ENOMEM;
}

void net_rx_destroy(struct net_pair *p)
{
	free(p->rx.tail);
}
