/*
 * A backend that is one file of the kernel with all the rings and one worker (vhost-scsi and
 * vhost-vsock): all of its operations but starting and stopping it. See kernel.h.
 */
#include <stdlib.h>
#include <unistd.h>

#include "devices/virtio/vhost/kernel.h"

static int fd_of(struct vhost *b)
{
	return vhost_kernel_file_of(b)->fd;
}

int vhost_kernel_file_set_features(struct vhost *b, uint64_t features)
{
	return vhost_kernel_set_features(fd_of(b), features);
}

int vhost_kernel_file_set_memory(struct vhost *b, const struct guest_memory *memory)
{
	return vhost_kernel_set_memory(fd_of(b), memory);
}

int vhost_kernel_file_set_vring(struct vhost *b, const struct vhost_vring *ring)
{
	return vhost_kernel_set_vring(fd_of(b), ring->index, ring, false);
}

int vhost_kernel_file_set_call(struct vhost *b, unsigned index, int fd)
{
	return vhost_kernel_set_call(fd_of(b), index, fd);
}

int vhost_kernel_file_get_base(struct vhost *b, unsigned index, struct virtq_state *base)
{
	return vhost_kernel_get_base(fd_of(b), index, false, base);
}

unsigned vhost_kernel_file_tids(struct vhost *b, pid_t *tid, unsigned max)
{
	pid_t worker = vhost_kernel_file_of(b)->worker;

	if (!worker || !max)
		return 0;
	tid[0] = worker;
	return 1;
}

void vhost_kernel_file_close(struct vhost *b)
{
	if (fd_of(b) >= 0)
		close(fd_of(b));
	free(b);
}

int vhost_kernel_file_open(struct vhost_kernel_file *f, const char *node, const char *module,
			   struct error *e)
{
	int err;

	f->fd = -1;
	err = vhost_kernel_open(&f->fd, node, module, e);
	if (!err)
		err = vhost_kernel_own(f->fd, node, &f->worker, e);
	return err ? err : vhost_kernel_features(f->fd, node, &f->b.features, e);
}
