/*
 * mvm as a back end of its own: a process that serves one device to another VMM (or to another
 * mvm) by vhost-user.
 */
#ifndef DEVICES_VIRTIO_VHOST_BACKEND_H
#define DEVICES_VIRTIO_VHOST_BACKEND_H

#include "devices/device.h"

/* The keys of `mvm backend blk IMAGE`; the last has name NULL. */
extern const struct device_key backend_blk_keys[];

#endif
