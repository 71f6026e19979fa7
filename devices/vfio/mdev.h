/*
 * Mediated devices: made of a parent by a type, one at a time, and taken apart.
 *
 * Messages begin with the parent or the UUID.
 */
#ifndef DEVICES_VFIO_MDEV_H
#define DEVICES_VFIO_MDEV_H

#include "devices/vfio/host.h"

/*
 * Makes one; uuid NULL: a new one is chosen. type is the name of its directory ("mtty-2") or what
 * it is called ("Dual port serial"). out is the device.
 * -ENOSPC: the type is full; -EEXIST: the UUID is taken.
 */
int vfio_mdev_create(const struct vfio_host *host, const char *parent, const char *type,
		     const char *uuid, struct vfio_node *out, struct error *e);

/* -EBUSY: it is open. */
int vfio_mdev_destroy(const struct vfio_host *host, struct vfio_node *node, struct error *e);

#endif
