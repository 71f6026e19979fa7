/*
 * --vsock=vhost: virtio-vsock whose packets the kernel carries. Virtio 1.2 section 5.10. The event
 * queue stays here: its buffers are kept for the one event there is, that the guest was moved to
 * another host.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>

#include "devices/registry.h"
#include "devices/virtio/chain_fifo.h"
#include "devices/virtio/vhost/kernel.h"

#define KERNELS 2u /* queues: receive and transmit */
#define EVENTQ	2u
#define QUEUES	3u

/* Newer than the headers of Debian 12. */
#ifndef VIRTIO_VSOCK_F_SEQPACKET
#define VIRTIO_VSOCK_F_SEQPACKET 1
#endif

struct vhost_vsock_device {
	struct virtio_device v; /* first */
	struct vhost_plane plane;
	struct chain_fifo events; /* guarded by the event queue's lock */
};

static struct vhost_vsock_device *of(struct virtio_device *v)
{
	return (struct vhost_vsock_device *)v;
}

static void process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (chains[i]->writable.len < sizeof(struct virtio_vsock_event))
			virtio_queue_break(q, "buffer too small for an event");
		if (q->ring.error)
			virtio_queue_push(q, chains[i], 0); /* to the pool */
		else
			chain_fifo_put(&of(q->v)->events, chains[i]);
	}
}

static void drain(struct virtio_queue *q)
{
	if (q->index == EVENTQ)
		chain_fifo_return(&of(q->v)->events, &q->ring);
}

static void update(struct virtio_device *v)
{
	vhost_plane_update(&of(v)->plane);
}

static void reset(struct virtio_device *v)
{
	vhost_plane_reset(&of(v)->plane);
}

static void detach(struct virtio_device *v)
{
	vhost_plane_fini(&of(v)->plane);
}

static void destroy(struct virtio_device *v)
{
	free(v);
}

static const struct virtio_device_ops device_ops = {
	.process = process,
	.drain = drain,
	.update = update,
	.reset = reset,
	.detach = detach,
	.destroy = destroy,
};

static int make_queues(struct vhost_vsock_device *s, const struct device_config *config,
		       struct error *e)
{
	uint16_t size = (uint16_t)device_config_uint(config, "queue-size");
	struct event_loop *loop = s->v.dev.host->loop;
	int err = 0;

	for (unsigned i = 0; i < QUEUES && !err; i++)
		err = virtio_queue_init(&s->v, i, size, sizeof(struct chain_link), loop, e);
	return err;
}

/* Takes the backend over, as vhost_plane_init() does. */
static int make_device(struct vhost_vsock_device *s, struct device_host *host,
		       const struct device_config *config, struct vhost *backend, struct error *e)
{
	const struct virtio_identity identity = {
		.id = VIRTIO_ID_VSOCK,
		.features = VIRTIO_BIT(VIRTIO_VSOCK_F_SEQPACKET),
		.nqueues = QUEUES,
		.config_len = sizeof(struct virtio_vsock_config),
	};
	const struct virtio_vsock_config space = {
		.guest_cid = htole64(device_config_uint(config, "cid")),
	};
	int err = virtio_device_init(&s->v, &device_ops, &identity, host, config, e);

	if (!err)
		err = vhost_limit_features(
			&s->v, backend, VHOST_RING_FEATURES | VIRTIO_BIT(VIRTIO_VSOCK_F_SEQPACKET),
			e);
	if (!err)
		err = make_queues(s, config, e);
	if (err) {
		vhost_close(backend);
		return err;
	}
	virtio_config_set(&s->v, 0, &space, sizeof(space));
	err = vhost_plane_init(&s->plane, &s->v, backend, KERNELS, host->loop, e);
	return err ? err : virtio_transport_create(&s->v, config, e);
}

int vhost_vsock_create(struct device_host *host, const struct device_config *config,
		       struct vhost *backend, struct device **out, struct error *e)
{
	struct vhost_vsock_device *s = calloc(1, sizeof(*s));
	int err;

	if (!s) {
		vhost_close(backend);
		return error_set(e, -ENOMEM, "out of memory");
	}
	err = make_device(s, host, config, backend, e);
	if (err) {
		virtio_device_fini(&s->v);
		free(s);
		return err;
	}
	*out = &s->v.dev;
	return 0;
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	struct vhost *backend;
	int err = vhost_vsock_open(&backend, device_config_uint(config, "cid"), e);

	return err ? err : vhost_vsock_create(host, config, backend, out, e);
}

static const struct device_key keys[] = {
	{ .name = "cid",
	  .type = KEY_UINT,
	  .fallback = "3",
	  .min = 3,
	  .max = UINT32_MAX - 1,
	  .help = "the guest's context id, its address; each guest of the host needs its own" },
	VIRTIO_KEYS("128"),
	{ 0 },
};

const struct device_row row_vhost_vsock = {
	.class = CLASS_VSOCK,
	.model = MODEL_VHOST,
	.hw = "virtio-vsock",
	.preferred = true,
	.summary = "virtio sockets between guest and host, as AF_VSOCK of the host's kernel",
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
