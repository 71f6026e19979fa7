/*
 * mvm as a back end of its own: a process that serves one device to another VMM (or to another
 * mvm) by vhost-user.
 */
#ifndef DEVICES_VIRTIO_VHOST_BACKEND_H
#define DEVICES_VIRTIO_VHOST_BACKEND_H

#include "vmm/command.h"

extern const struct command command_backend_blk;

#endif
