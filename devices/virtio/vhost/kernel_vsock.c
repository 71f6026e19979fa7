/*
 * Kernel vhost-vsock: sockets of AF_VSOCK between programs of the guest and of the host, carried by
 * /dev/vhost-vsock. In: the guest's context id, which is the host's address of it, so no two guests
 * may have the same. The kernel has the receive and transmit queues; it runs both or none.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/virtio/vhost/kernel.h"

#define NODE "/dev/vhost-vsock"

struct vhost_vsock {
	struct vhost b; /* first */
	int fd;
	pid_t worker;
};

static int fd_of(struct vhost *b)
{
	return ((struct vhost_vsock *)b)->fd;
}

static int set_features(struct vhost *b, uint64_t features)
{
	return vhost_kernel_set_features(fd_of(b), features);
}

static int set_memory(struct vhost *b, const struct guest_memory *memory)
{
	return vhost_kernel_set_memory(fd_of(b), memory);
}

static int set_vring(struct vhost *b, const struct vhost_vring *ring)
{
	return vhost_kernel_set_vring(fd_of(b), ring->index, ring, false);
}

static int set_call(struct vhost *b, unsigned index, int fd)
{
	return vhost_kernel_set_call(fd_of(b), index, fd);
}

static int set_running(struct vhost *b, int running)
{
	return vhost_kernel_ioctl(fd_of(b), VHOST_VSOCK_SET_RUNNING, &running);
}

static int start(struct vhost *b)
{
	return set_running(b, 1);
}

static int stop(struct vhost *b)
{
	return set_running(b, 0);
}

static int get_base(struct vhost *b, unsigned index, struct virtq_state *base)
{
	return vhost_kernel_get_base(fd_of(b), index, false, base);
}

static unsigned tids(struct vhost *b, pid_t *tid, unsigned max)
{
	pid_t worker = ((struct vhost_vsock *)b)->worker;

	if (!worker || !max)
		return 0;
	tid[0] = worker;
	return 1;
}

static void close_vsock(struct vhost *b)
{
	if (fd_of(b) >= 0)
		close(fd_of(b));
	free(b);
}

static const struct vhost_ops ops = {
	.set_features = set_features,
	.set_memory = set_memory,
	.set_vring = set_vring,
	.set_call = set_call,
	.start = start,
	.stop = stop,
	.get_base = get_base,
	.tids = tids,
	.close = close_vsock,
};

static int set_cid(int fd, uint64_t cid, struct error *e)
{
	__u64 arg = cid;
	int err = vhost_kernel_ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &arg);

	if (err == -EADDRINUSE)
		return error_set(e, err,
				 "cid=%llu is in use by another guest of this host; choose another "
				 "with cid=N",
				 (unsigned long long)cid);
	return err ? error_set_errno(e, err, "%s: cid=%llu", NODE, (unsigned long long)cid) : 0;
}

int vhost_vsock_open(struct vhost **out, uint64_t cid, struct error *e)
{
	struct vhost_vsock *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return error_set(e, -ENOMEM, "out of memory");
	s->fd = -1;
	s->b = (struct vhost){ .ops = &ops, .name = "vhost-vsock", .rings = 2 };
	err = vhost_kernel_open(&s->fd, NODE, "vhost_vsock", e);
	if (!err)
		err = vhost_kernel_own(s->fd, NODE, &s->worker, e);
	if (!err)
		err = vhost_kernel_features(s->fd, NODE, &s->b.features, e);
	if (!err)
		err = set_cid(s->fd, cid, e);
	if (err) {
		close_vsock(&s->b);
		return err;
	}
	*out = &s->b;
	return 0;
}
