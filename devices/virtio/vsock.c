/*
 * virtio-vsock in user space: stream sockets between programs of the guest and of the host. Virtio
 * 1.2 section 5.10. This file is the device: its queues, configuration and life; see vsock.h for
 * the other parts.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "devices/virtio/vsock.h"

/* ---- queues ---------------------------------------------------------------------------------- */

/* Buffers that the driver fills the queue with, for us to keep until there is something to say. */
/*
 * Packets are taken as long as there is room for the reset that each may call for. (Section
 * 5.10.6.1: a device may stop here when the driver gives it no buffers, but not before it has used
 * what it has for that case.)
 */
static void take_packets(struct vsock *s, struct virtio_queue *q)
{
	pthread_mutex_lock(&vsock_rxq(s)->lock);
	while (s->tx.oldest && s->resets < VSOCK_RESETS) {
		struct virtq_chain *chain = chain_fifo_take(&s->tx);
		const char *why = vsock_take_packet(s, chain);

		if (why)
			virtio_queue_break(q, why);
		virtio_queue_push(q, chain, 0);
		if (why)
			break; /* the rest goes back when the driver resets */
		if (s->resets == VSOCK_RESETS)
			vsock_pump(s);
	}
	s->tx_stalled = s->tx.oldest;
	vsock_pump(s);
	pthread_mutex_unlock(&vsock_rxq(s)->lock);
}

static void process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	struct vsock *s = vsock_of(q->v);

	switch (q->index) {
	case VSOCK_RXQ:
		virtio_queue_stock(q, chains, n, &s->rx, sizeof(struct virtio_vsock_hdr) + 1);
		vsock_pump(s);
		break;
	case VSOCK_TXQ:
		for (unsigned i = 0; i < n; i++)
			chain_fifo_put(&s->tx, chains[i]);
		take_packets(s, q);
		break;
	case VSOCK_EVENTQ:
		virtio_queue_stock(q, chains, n, &s->events, sizeof(struct virtio_vsock_event));
		break;
	}
}

/* After a hold no new chain need come for the old ones to move on. */
static void idle(struct virtio_queue *q)
{
	struct vsock *s = vsock_of(q->v);

	if (q->index == VSOCK_RXQ) {
		vsock_pump(s);
	} else if (q->index == VSOCK_TXQ && s->tx.oldest) {
		take_packets(s, q);
		virtio_queue_publish(q);
	}
}

static void drain(struct virtio_queue *q)
{
	struct vsock *s = vsock_of(q->v);
	struct chain_fifo *fifo[] = { &s->rx, &s->tx, &s->events };

	chain_fifo_return(fifo[q->index], &q->ring);
}

bool vsock_transport_reset(struct vsock *s)
{
	const struct virtio_vsock_event event = { htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET) };
	struct virtio_queue *q = &s->v.queue[VSOCK_EVENTQ];
	struct virtq_chain *chain = NULL;

	pthread_mutex_lock(&vsock_rxq(s)->lock);
	vsock_clear(s);
	pthread_mutex_unlock(&vsock_rxq(s)->lock);
	pthread_mutex_lock(&q->lock);
	if (q->running && !q->held)
		chain = chain_fifo_take(&s->events);
	if (chain) {
		virtq_span_write(&chain->writable, &event, sizeof(event));
		virtio_queue_push(q, chain, sizeof(event));
		virtio_queue_publish(q);
	}
	pthread_mutex_unlock(&q->lock);
	return chain;
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static void reset(struct virtio_device *v)
{
	struct vsock *s = vsock_of(v);

	if (!virtio_queue_at(v, VSOCK_RXQ))
		return; /* not made yet */
	pthread_mutex_lock(&vsock_rxq(s)->lock);
	vsock_clear(s);
	pthread_mutex_unlock(&vsock_rxq(s)->lock);
}

static void detach(struct virtio_device *v)
{
	vsock_host_stop(vsock_of(v));
}

static void destroy(struct virtio_device *v)
{
	struct vsock *s = vsock_of(v);

	event_loop_destroy(s->loop);
	vsock_table_destroy(s);
	vsock_host_destroy(s);
	free(s);
}

static const struct virtio_device_ops vsock_ops = {
	.process = process,
	.idle = idle,
	.drain = drain,
	.reset = reset,
	.detach = detach,
	.destroy = destroy,
};

static int make_queues(struct vsock *s, const struct device_config *config, struct error *e)
{
	uint16_t size = (uint16_t)device_config_uint(config, "queue-size");
	struct event_loop *loop = s->v.dev.host->loop;
	int err = 0;

	if (device_config_bool(config, "iothread")) {
		loop = s->loop = event_loop_create(s->v.dev.name, e);
		if (!loop)
			return -ENOMEM;
	}
	for (unsigned i = 0; i < VSOCK_QUEUES && !err; i++)
		err = virtio_queue_init(&s->v, i, size, sizeof(struct chain_link), loop, e);
	if (!err)
		err = vsock_host_open(s, loop, config->target, e);
	if (!err && s->loop)
		err = event_loop_start(s->loop, e);
	return err;
}

static int make_device(struct vsock *s, struct device_host *host,
		       const struct device_config *config, struct error *e)
{
	const struct virtio_identity identity = {
		.id = VIRTIO_ID_VSOCK,
		.nqueues = VSOCK_QUEUES,
		.config_len = sizeof(struct virtio_vsock_config),
	};
	struct virtio_vsock_config space;
	int err = virtio_device_init(&s->v, &vsock_ops, &identity, host, config, e);

	if (err)
		return err;
	s->guest_cid = device_config_uint(config, "cid");
	space.guest_cid = htole64(s->guest_cid);
	virtio_config_set(&s->v, 0, &space, sizeof(space));
	if (vsock_table_init(s))
		return error_set(e, -ENOMEM, "out of memory");
	err = make_queues(s, config, e);
	return err ? err : virtio_transport_create(&s->v, config, e);
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	struct vsock *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return error_set(e, -ENOMEM, "out of memory");
	s->listener = UNIX_LISTENER_NONE;
	s->epoll = -1;
	err = make_device(s, host, config, e);
	if (err) {
		virtio_device_fini(&s->v);
		destroy(&s->v);
		return err;
	}
	*out = &s->v.dev;
	return 0;
}

static const struct device_key keys[] = {
	{ .name = "cid",
	  .type = KEY_UINT,
	  .fallback = "3",
	  .min = 3,
	  .max = UINT32_MAX - 1,
	  .help = "the guest's context id, its address" },
	{ .name = "iothread",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "serve queues on a thread of their own, not on the main one" },
	VIRTIO_KEYS("128"),
	{ 0 },
};

const struct device_row row_virtio_vsock = {
	.class = CLASS_VSOCK,
	.model = MODEL_VIRTIO,
	.hw = "virtio-vsock",
	.preferred = true,
	.summary = "virtio sockets between guest and host, over unix sockets",
	.target = "PREFIX",
	.target_required = true,
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
