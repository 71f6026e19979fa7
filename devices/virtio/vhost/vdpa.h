/*
 * vDPA: hardware (or a simulation, or a process behind VDUSE) that serves virtio's own rings, under
 * the kernel's control, as /dev/vhost-vdpa-N.
 */
#ifndef DEVICES_VIRTIO_VHOST_VDPA_H
#define DEVICES_VIRTIO_VHOST_VDPA_H

#include "devices/virtio/vhost/vhost.h"

/* What the device says of itself. */
struct vhost_vdpa_info {
	uint32_t id; /* VIRTIO_ID_… */
	unsigned queues;
	unsigned config_len;
	unsigned max_size; /* of a queue */
};

/* Does the flag's target look like one? */
bool vhost_vdpa_is_node(const char *target);
/* Config notifications come on the loop. memory: the guest's; it must be in the device's reach. */
int vhost_vdpa_open(struct vhost **out, const char *node, struct vhost_vdpa_info *info,
		    const struct guest_memory *memory, struct event_loop *loop, struct error *e);

/*
 * Opens the target of the flag and makes the device, which must be of the kind that the flag's
 * class asks for (VIRTIO_ID_…). Refuses the flag's keys that the device decides about itself.
 */
int vhost_vdpa_create(struct device_host *host, const struct device_config *config, uint32_t id,
		      struct device **out, struct error *e);

#endif
