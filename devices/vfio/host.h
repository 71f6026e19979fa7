/*
 * The machine whose devices the life cycle commands change: its paths, and the things that have an
 * effect outside our memory. Tests put a tree of their own at root and play the kernel in the
 * functions; vfio_this_host is the real one.
 */
#ifndef DEVICES_VFIO_HOST_H
#define DEVICES_VFIO_HOST_H

#include "devices/vfio/sysfs.h"

struct nvme_passthru_cmd;

struct vfio_host {
	const char *root; /* in front of /sys, /proc, /dev and /run */
	/* text to DIR/NAME; 0 or -errno. */
	int (*write)(const struct vfio_host *host, const char *dir, const char *name,
		     const char *text);
	/* Loads a kernel module; 0 or -errno. */
	int (*load)(const struct vfio_host *host, const char *module);
	/* An admin command to a controller, "nvme0": 0, -errno, or an NVMe status. */
	int (*nvme_admin)(const struct vfio_host *host, const char *controller,
			  struct nvme_passthru_cmd *cmd);
	/*
	 * Takes a disk or partition, "nvme0n1p2", for itself and gives it back: 0 or -errno;
	 * -EBUSY: another has it so.
	 */
	int (*claim)(const struct vfio_host *host, const char *disk);
};

extern const struct vfio_host vfio_this_host;

/*
 * host->write() with a message: "PATH: …", and that it needs root where that is why. Returns
 * -errno; never -EINVAL, which means a wrong command line to those above (-EIO instead).
 */
int vfio_host_write(const struct vfio_host *host, const char *dir, const char *name,
		    const char *text, struct error *e);

#endif
