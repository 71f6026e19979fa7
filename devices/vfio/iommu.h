/*
 * The IOMMU address space that all passed-through devices of a machine share: guest-physical
 * addresses, with all guest RAM behind them. The first device makes it (device_host.iommu), the
 * last one takes it away. Two ways to the kernel: a VFIO container with groups (type1 version 2),
 * or iommufd with a file per device; which one is chosen at run time. Main thread.
 */
#ifndef DEVICES_VFIO_IOMMU_H
#define DEVICES_VFIO_IOMMU_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/device.h"
#include "devices/vfio/ranges.h"
#include "devices/vfio/sysfs.h"

/* In the order of the key's choices. */
enum vfio_iommu_mode { VFIO_IOMMU_AUTO, VFIO_IOMMU_GROUP, VFIO_IOMMU_IOMMUFD };

#define VFIO_MAX_RANGES 32

struct vfio_open_group {
	int number, fd;
	unsigned users; /* devices opened out of it */
	struct vfio_open_group *next;
};

/* A device that is open. */
struct vfio_attachment {
	struct vfio_iommu *iommu;
	struct vfio_open_group *group; /* NULL with iommufd */
	int fd;
};

struct vfio_iommu_ops {
	const char *name;
	int (*open)(struct vfio_iommu *io, struct error *e);
	/* Fills a->fd, and a->group where there are groups. */
	int (*attach)(struct vfio_iommu *io, const struct vfio_node *t, struct vfio_attachment *a,
		      struct error *e);
	/* a->fd is still open. */
	void (*detach)(struct vfio_iommu *io, struct vfio_attachment *a);
	/* Which addresses devices can reach; how many, or -errno. */
	int (*ranges)(struct vfio_iommu *io, struct vfio_range *range, unsigned max);
	int (*map)(struct vfio_iommu *io, uint64_t iova, uint64_t size, void *host);
	void (*unmap)(struct vfio_iommu *io, uint64_t iova, uint64_t size);
};

struct vfio_iommu {
	const struct vfio_iommu_ops *ops;
	struct device_host *host;
	unsigned users;
	int fd;				/* /dev/vfio/vfio or /dev/iommu */
	bool ready;			/* type1 is set, or the address space allocated */
	uint32_t ioas;			/* of iommufd */
	struct vfio_open_group *groups; /* of the container */
	unsigned mapped;		/* regions of RAM */
};

extern const struct vfio_iommu_ops vfio_iommu_group_ops;
extern const struct vfio_iommu_ops vfio_iommu_fd_ops;

/*
 * Opens the device and gives it the machine's address space, made and filled with guest RAM if it
 * is the first. Its DMA is off until somebody sets Bus Master Enable. On failure nothing is left
 * open.
 */
int vfio_attach(struct device_host *host, enum vfio_iommu_mode mode, const struct vfio_node *t,
		struct vfio_attachment *a, struct error *e);
void vfio_detach(struct vfio_attachment *a);

/*
 * Guest RAM into the address space, and out of it. -ERANGE: the IOMMU does not reach all of it,
 * -ENOMEM: more than may be locked. On failure nothing is mapped.
 */
int vfio_iommu_map_ram(struct vfio_iommu *io, struct error *e);
void vfio_iommu_unmap_ram(struct vfio_iommu *io);

/* For the two ways: opens a VFIO file; e says whom to ask when that is not allowed. */
int vfio_open_file(const char *path, const struct vfio_node *t, struct error *e);
/* -EPERM and -EBUSY of the kernel when a device is to be attached, explained. */
int vfio_attach_error(int err, const struct vfio_node *t, const char *what, struct error *e);

#endif
