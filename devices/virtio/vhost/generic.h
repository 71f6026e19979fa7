/*
 * A virtio device all of whose queues are a vhost backend's: what it is, which features it has of
 * its own and what is in its configuration space is told here; the rest is the backend's.
 */
#ifndef DEVICES_VIRTIO_VHOST_GENERIC_H
#define DEVICES_VIRTIO_VHOST_GENERIC_H

#include "devices/virtio/vhost/vhost.h"

struct vhost_generic {
	uint16_t id; /* VIRTIO_ID_… */
	/* Of the device type: offered if the backend has them. */
	uint64_t features;
	unsigned nqueues;
	unsigned config_len;
	unsigned max_size; /* the most that the backend has for a queue; 0: any */
	/* What is in configuration space, read-only; NULL: the backend says, and takes writes. */
	const void *config;
	/* Of what the backend says, makes what we show. May be NULL. */
	void (*fix_config)(void *config, unsigned nqueues);
};

/* Takes the backend over, also on failure. The flag's row has VIRTIO_KEYS. */
int vhost_generic_create(struct device_host *host, const struct device_config *config,
			 const struct vhost_generic *what, struct vhost *backend,
			 struct device **out, struct error *e);

#endif
