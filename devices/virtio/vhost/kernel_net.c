/*
 * Kernel vhost-net: frames go between a tap and the guest's buffers without us. In: a tap with its
 * queues. Out: one /dev/vhost-net for each pair of rings, with a worker thread each, so that pairs
 * share nothing. The tap has our header (12 bytes) and says which offloads there are; the control
 * queue stays in user space.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/backend/net.h"
#include "devices/virtio/vhost/kernel.h"

#define NODE "/dev/vhost-net"

struct vhost_net {
	struct vhost b; /* first */
	unsigned npairs;
	struct {
		int fd, tap;
		pid_t worker;
	} pair[];
};

static struct vhost_net *of(struct vhost *b)
{
	return (struct vhost_net *)b;
}

static int set_features(struct vhost *b, uint64_t features)
{
	int err = 0;

	for (unsigned i = 0; i < of(b)->npairs && !err; i++)
		err = vhost_kernel_set_features(of(b)->pair[i].fd, features);
	return err;
}

static int set_memory(struct vhost *b, const struct guest_memory *memory)
{
	int err = 0;

	for (unsigned i = 0; i < of(b)->npairs && !err; i++)
		err = vhost_kernel_set_memory(of(b)->pair[i].fd, memory);
	return err;
}

static int set_vring(struct vhost *b, const struct vhost_vring *ring)
{
	return vhost_kernel_set_vring(of(b)->pair[ring->index / 2].fd, ring->index % 2, ring,
				      false);
}

static int set_call(struct vhost *b, unsigned index, int fd)
{
	return vhost_kernel_set_call(of(b)->pair[index / 2].fd, index % 2, fd);
}

/* With a tap behind it the ring runs; without, and all is done when the call returns, it rests. */
static int enable(struct vhost *b, unsigned index, bool on)
{
	struct vhost_vring_file file = {
		.index = index % 2,
		.fd = on ? of(b)->pair[index / 2].tap : -1,
	};

	return vhost_kernel_ioctl(of(b)->pair[index / 2].fd, VHOST_NET_SET_BACKEND, &file);
}

static int get_base(struct vhost *b, unsigned index, struct virtq_state *base)
{
	return vhost_kernel_get_base(of(b)->pair[index / 2].fd, index % 2, false, base);
}

static unsigned tids(struct vhost *b, pid_t *tid, unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; i < of(b)->npairs && n < max; i++)
		if (of(b)->pair[i].worker)
			tid[n++] = of(b)->pair[i].worker;
	return n;
}

static void close_net(struct vhost *b)
{
	for (unsigned i = 0; i < of(b)->npairs; i++)
		if (of(b)->pair[i].fd >= 0)
			close(of(b)->pair[i].fd);
	free(b);
}

static const struct vhost_ops ops = {
	.live_rings = true,
	.set_features = set_features,
	.set_memory = set_memory,
	.set_vring = set_vring,
	.set_call = set_call,
	.enable = enable,
	.get_base = get_base,
	.tids = tids,
	.close = close_net,
};

static int open_pair(struct vhost_net *vn, unsigned index, struct error *e)
{
	int err = vhost_kernel_open(&vn->pair[index].fd, NODE, "vhost_net", e);

	if (!err)
		err = vhost_kernel_own(vn->pair[index].fd, NODE, &vn->pair[index].worker, e);
	return err ? err : vhost_kernel_features(vn->pair[index].fd, NODE, &vn->b.features, e);
}

int vhost_net_open(struct vhost **out, struct net *net, struct error *e)
{
	const struct net_info *info = net_info(net);
	struct vhost_net *vn = calloc(1, sizeof(*vn) + info->queues * sizeof(vn->pair[0]));
	int err = 0;

	if (!vn)
		return error_set(e, -ENOMEM, "out of memory");
	vn->npairs = info->queues;
	vn->b = (struct vhost){ .ops = &ops, .name = "vhost-net", .rings = 2 * info->queues };
	for (unsigned i = 0; i < vn->npairs; i++) {
		vn->pair[i].fd = -1;
		vn->pair[i].tap = net_queue_fd(net_queue(net, i));
	}
	for (unsigned i = 0; i < vn->npairs && !err; i++)
		err = open_pair(vn, i, e);
	if (err) {
		close_net(&vn->b);
		return err;
	}
	*out = &vn->b;
	return 0;
}
