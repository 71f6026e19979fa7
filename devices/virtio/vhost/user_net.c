/*
 * --net=vhost:SOCKET: a card whose frames a vhost-user-net back end moves (a switch, DPDK). The
 * card is devices/virtio/net.c with its control queue, and a network backend that moves nothing
 * itself. Virtio 1.2 section 5.1.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/backend/net_impl.h"
#include "devices/virtio/net_internal.h"
#include "devices/virtio/vhost/user.h"

/* What it must do itself, and so be told of: how frames in the rings look. */
#define OWN                                                                                        \
	(VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) |                     \
	 VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) |                 \
	 VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) |                 \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN) |                \
	 VIRTIO_BIT(VIRTIO_NET_F_HOST_USO) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4) |                 \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))

#define OFFLOADS                                                                                   \
	(NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN | NET_OFFLOAD_USO)

/* ---- the network backend that is elsewhere --------------------------------------------------- */

struct elsewhere {
	struct net net; /* first */
	struct net_queue queue[NET_MAX_QUEUES];
};

static void close_net(struct net *net)
{
	free(net); /* first member */
}

static struct net_queue *queue(struct net *net, unsigned index)
{
	return &((struct elsewhere *)net)->queue[index];
}

static int start(struct net_queue *q, struct error *e)
{
	(void)q;
	(void)e;
	return 0;
}

static void stop(struct net_queue *q)
{
	(void)q;
}

static int enable(struct net_queue *q, bool on)
{
	(void)q;
	(void)on;
	return 0;
}

static void want(struct net_queue *q, bool on)
{
	(void)q;
	(void)on;
}

static ssize_t receive(struct net_queue *q, const struct iovec *iov, int niov)
{
	(void)q;
	(void)iov;
	(void)niov;
	return -EAGAIN;
}

static ssize_t send_frame(struct net_queue *q, const struct iovec *iov, int niov)
{
	(void)q;
	(void)iov;
	(void)niov;
	return -ENETDOWN;
}

static const struct net_ops net_ops = {
	.close = close_net,
	.queue = queue,
	.start = start,
	.stop = stop,
	.enable = enable,
	.want = want,
	.receive = receive,
	.send = send_frame,
};

static struct net *net_elsewhere(const char *name, unsigned queues)
{
	struct elsewhere *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->net.ops = &net_ops;
	x->net.info = (struct net_info){ .name = name, .queues = queues, .offloads = OFFLOADS };
	for (unsigned i = 0; i < queues; i++)
		x->queue[i].net = &x->net;
	return &x->net;
}

/* ---- the card -------------------------------------------------------------------------------- */

int vhost_user_net_create(struct device_host *host, const struct device_config *config,
			  struct device **out, struct error *e)
{
	unsigned queues = 1;
	char name[16];
	const struct vhost_user_options options = {
		.name = name,
		.path = config->target,
		.server = device_config_bool(config, "server"),
		.timeout_ms = (unsigned)device_config_uint(config, "timeout") * 1000,
		.rings = 2,
		.rings_factor = 2,
		.queue_size = (uint16_t)device_config_uint(config, "queue-size"),
		.stateless = true,
	};
	struct vhost *backend = NULL;
	struct net *net;
	int err;

	if (device_config_given(config, "queues"))
		queues = (unsigned)device_config_uint(config, "queues");
	snprintf(name, sizeof(name), "net%u.vhost", config->index % 1000);
	err = vhost_user_open(&backend, &options, e);
	if (err)
		return err;
	backend->own = OWN;
	/* There is no message by which the driver's changes could be passed on. */
	backend->features &= ~VIRTIO_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	net = net_elsewhere(backend->name, queues);
	if (!net) {
		vhost_close(backend);
		return error_set(e, -ENOMEM, "out of memory");
	}
	return virtio_net_create(host, config, net, backend, out, e);
}
