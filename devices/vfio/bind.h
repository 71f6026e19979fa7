/*
 * A function's way from its driver to VFIO and back: `mvm vfio bind` and `unbind`, and auto-bind=on
 * of a device flag. What it had before is written down first (state.h), so it gets that back
 * whoever does it, and whatever happens in between.
 *
 * Messages begin with the function's name.
 */
#ifndef DEVICES_VFIO_BIND_H
#define DEVICES_VFIO_BIND_H

#include "devices/vfio/host.h"

/*
 * To vfio-pci, until vfio_unbind(). *node is read anew. 0 if a driver of VFIO has it already.
 * On failure it is back with the driver that it had. -EBUSY: it is in use, or has VFs.
 */
int vfio_bind(const struct vfio_host *host, struct vfio_node *node, struct error *e);

/*
 * Back to the driver that it had before vfio_bind(); without a record of that, to the one that the
 * kernel finds for it. 0 if no driver of VFIO has it. -EBUSY: somebody has it open.
 */
int vfio_unbind(const struct vfio_host *host, struct vfio_node *node, struct error *e);

/* What auto-bind=on holds; zeroed: nothing. */
struct vfio_autobind {
	char name[VFIO_NAME_MAX]; /* "": nothing to put back */
};

/*
 * Binds for as long as this process lives or until vfio_autobind_release(). First, what other mvm
 * that crashed left bound is put back. The node is read anew. A function that VFIO has already
 * stays so at release, unless a crashed mvm had bound it: then it is ours to put back.
 * -EBUSY: another mvm has it, it is in use, or others of its IOMMU group would make it useless.
 */
int vfio_autobind_acquire(const struct vfio_host *host, struct vfio_node *node,
			  struct vfio_autobind *out, struct error *e);

/*
 * Puts it back, after the last of its descriptors is closed. Any number of times. A failure is
 * logged; the record stays, so that the next mvm or `mvm vfio unbind` tries again.
 */
void vfio_autobind_release(const struct vfio_host *host, struct vfio_autobind *held);

/* Puts back what owners that have ended left bound; returns how many. */
unsigned vfio_autobind_recover(const struct vfio_host *host);

#endif
