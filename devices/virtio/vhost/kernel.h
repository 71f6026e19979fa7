/*
 * What backends that are a file of the kernel have in common: /dev/vhost-net, /dev/vhost-vsock,
 * /dev/vhost-scsi and, for rings, /dev/vhost-vdpa-N. Interface: <linux/vhost.h>.
 */
#ifndef DEVICES_VIRTIO_VHOST_KERNEL_H
#define DEVICES_VIRTIO_VHOST_KERNEL_H

#include <linux/vhost.h>

#include "devices/virtio/vhost/vhost.h"

/* Opens the node; errors say what is missing: the module, the right, or that it is another node. */
int vhost_kernel_open(int *fd, const char *node, const char *module, struct error *e);
/*
 * Makes us its owner, so that its worker begins to exist: *tid is that thread's, 0 if the kernel
 * does not let us see it. Main thread, one at a time.
 */
int vhost_kernel_own(int fd, const char *node, pid_t *tid, struct error *e);
int vhost_kernel_features(int fd, const char *node, uint64_t *features, struct error *e);

/* 0 or -errno. */
int vhost_kernel_ioctl(int fd, unsigned long request, void *arg);
int vhost_kernel_set_features(int fd, uint64_t features);
int vhost_kernel_set_memory(int fd, const struct guest_memory *memory);
/* `index` is the file's own number of the ring; iova: it is told guest addresses, not ours. */
int vhost_kernel_set_vring(int fd, unsigned index, const struct vhost_vring *ring, bool iova);
int vhost_kernel_set_call(int fd, unsigned index, int eventfd);
int vhost_kernel_get_base(int fd, unsigned index, bool packed, struct virtq_state *base);

/* ---- a backend that is one file, which has all the rings and one worker ---- */

/* First in such a backend, or all of it; in memory of its own. */
struct vhost_kernel_file {
	struct vhost b; /* first */
	int fd;
	pid_t worker;
};

static inline struct vhost_kernel_file *vhost_kernel_file_of(struct vhost *b)
{
	return (struct vhost_kernel_file *)b; /* first member */
}

/*
 * Opens the node, owns it and asks for its features; name, ops and rings are the caller's to fill
 * in before. A failure leaves it to be closed by vhost_kernel_file_close(), as a success does.
 */
int vhost_kernel_file_open(struct vhost_kernel_file *f, const char *node, const char *module,
			   struct error *e);

int vhost_kernel_file_set_features(struct vhost *b, uint64_t features);
int vhost_kernel_file_set_memory(struct vhost *b, const struct guest_memory *memory);
int vhost_kernel_file_set_vring(struct vhost *b, const struct vhost_vring *ring);
int vhost_kernel_file_set_call(struct vhost *b, unsigned index, int fd);
int vhost_kernel_file_get_base(struct vhost *b, unsigned index, struct virtq_state *base);
unsigned vhost_kernel_file_tids(struct vhost *b, pid_t *tid, unsigned max);
void vhost_kernel_file_close(struct vhost *b);

/* Of its struct vhost_ops, all but start and stop. */
#define VHOST_KERNEL_FILE_OPS                                                                      \
	.set_features = vhost_kernel_file_set_features,                                            \
	.set_memory = vhost_kernel_file_set_memory, .set_vring = vhost_kernel_file_set_vring,      \
	.set_call = vhost_kernel_file_set_call, .get_base = vhost_kernel_file_get_base,            \
	.tids = vhost_kernel_file_tids, .close = vhost_kernel_file_close

/* ---- backends ---- */

struct net;

/* /dev/vhost-net, once for each queue of the tap; the tap stays ours. */
int vhost_net_open(struct vhost **out, struct net *net, struct error *e);
/* /dev/vhost-vsock; two rings, receive and transmit. */
int vhost_vsock_open(struct vhost **out, uint64_t cid, struct error *e);
/* /dev/vhost-scsi; rings as virtio-scsi's queues. memory: the guest's. */
int vhost_scsi_open(struct vhost **out, const char *wwpn, const struct guest_memory *memory,
		    struct error *e);

/* --vsock=vhost over a backend, which it takes over; tests have one of their own. */
int vhost_vsock_create(struct device_host *host, const struct device_config *config,
		       struct vhost *backend, struct device **out, struct error *e);

#endif
