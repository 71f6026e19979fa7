/*
 * The front end of the vhost-user protocol: a backend (vhost.h) that is another process, at the
 * other end of a unix socket. QEMU's docs/interop/vhost-user.rst.
 *
 * The process is given the guest's RAM and the queues' eventfds, and nothing else of ours; its
 * answers are checked and waited for only so long. When it hangs up it may come back: a connection
 * is tried again and again (or waited for, or the child started anew), and queues go on, with the
 * requests that were in flight if the process can tell them (INFLIGHT_SHMFD).
 */
#ifndef DEVICES_VIRTIO_VHOST_USER_H
#define DEVICES_VIRTIO_VHOST_USER_H

#include "devices/virtio/vhost/vhost.h"

/* Keys of rows whose target may be a socket. */
#define VHOST_USER_KEYS                                                                            \
	{ .name = "server",                                                                        \
	  .type = KEY_BOOL,                                                                        \
	  .fallback = "off",                                                                       \
	  .help = "listen on the socket, and wait for the back end to connect to it" },            \
	{                                                                                          \
		.name = "timeout", .type = KEY_UINT, .fallback = "30", .min = 1, .max = 3600,      \
		.help = "seconds to wait for an answer of the back end"                            \
	}

struct vhost_user_options {
	const char *name;      /* of its thread: "blk0.vhost" */
	const char *path;      /* the socket; NULL: `child` says whom to start */
	bool server;	       /* listen on path, instead of connecting to it */
	char *const *child;    /* argv of a process of ours, which finds its socket at fd 3 */
	unsigned timeout_ms;   /* for an answer, and for the first connection */
	unsigned rings;	       /* how many it has if it cannot be asked (no MQ) */
	unsigned rings_factor; /* rings for each "queue" it counts: network cards count pairs */
	uint16_t queue_size;   /* the most descriptors a ring of the device has */
	bool config;	       /* it must have the configuration space (CONFIG) */
	bool stateless;	       /* another one can go on where it was (not a file system) */
};

/*
 * Connects and agrees on features. Strings and argv are copied. -errno with a message that names
 * the path: nobody there, hung up, another protocol, too late, lacks what is asked for.
 */
int vhost_user_open(struct vhost **out, const struct vhost_user_options *options, struct error *e);

/* user_net.c: the card of a flag whose target is a socket. */
int vhost_user_net_create(struct device_host *host, const struct device_config *config,
			  struct device **out, struct error *e);
/* user_blk.c: the disk of a flag whose target is a socket or an image. */
int vhost_user_blk_create(struct device_host *host, const struct device_config *config,
			  struct device **out, struct error *e);
/* -EINVAL if the flag has keys that only an image can have. */
int vhost_user_blk_no_image(const struct device_config *config, struct error *e);

#endif
