/*
 * The back end of the vhost-user protocol: one more transport of a virtio device, whose registers
 * are messages of another VMM (QEMU's docs/interop/vhost-user.rst). In: a connected socket. Out: a
 * device of ours (virtio-blk) served on that VMM's guest memory, by the same code that serves a
 * guest of ours.
 *
 * All of it runs on the main loop's thread, the queues on their own as ever. The front end is not
 * trusted: what it says is checked, and what it gets wrong ends the connection.
 */
#ifndef DEVICES_VIRTIO_VHOST_SERVER_H
#define DEVICES_VIRTIO_VHOST_SERVER_H

#include "devices/virtio/virtio.h"

struct vhost_user_server;

/* In a device_host: its one device is for a front end. Lives as long as the device. */
struct vhost_user_peer {
	/*
	 * A connection has ended and nothing of it is left; why is NULL if the front end hung up
	 * between two messages. Main loop. May attach the next one.
	 */
	void (*closed)(void *opaque, const char *why);
	void *opaque;
	/* The front end started us and we end with it: if it makes us wait, it is its own loss. */
	bool parent;
	struct vhost_user_server *server; /* set when the device is made */
};

/*
 * Becomes v's transport, destroyed with v. The device_host's memory is empty, and filled with what
 * front ends share.
 */
int vhost_user_server_create(struct virtio_device *v, struct error *e);

/* Takes a connected unix stream socket over. -EBUSY while there is one, -errno of epoll_ctl(2). */
int vhost_user_server_attach(struct vhost_user_server *s, int fd);
bool vhost_user_server_connected(const struct vhost_user_server *s);

#endif
