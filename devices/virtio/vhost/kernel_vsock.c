/*
 * Kernel vhost-vsock: sockets of AF_VSOCK between programs of the guest and of the host, carried by
 * /dev/vhost-vsock. In: the guest's context id, which is the host's address of it, so no two guests
 * may have the same. The kernel has the receive and transmit queues; it runs both or none.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/virtio/vhost/kernel.h"

#define NODE "/dev/vhost-vsock"

static int set_running(struct vhost *b, int running)
{
	return vhost_kernel_ioctl(vhost_kernel_file_of(b)->fd, VHOST_VSOCK_SET_RUNNING, &running);
}

static int start(struct vhost *b)
{
	return set_running(b, 1);
}

static int stop(struct vhost *b)
{
	return set_running(b, 0);
}

static const struct vhost_ops ops = {
	VHOST_KERNEL_FILE_OPS,
	.start = start,
	.stop = stop,
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
	struct vhost_kernel_file *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return error_set(e, -ENOMEM, "out of memory");
	s->b = (struct vhost){ .ops = &ops, .name = "vhost-vsock", .rings = 2 };
	err = vhost_kernel_file_open(s, NODE, "vhost_vsock", e);
	if (!err)
		err = set_cid(s->fd, cid, e);
	if (err) {
		vhost_close(&s->b);
		return err;
	}
	*out = &s->b;
	return 0;
}
