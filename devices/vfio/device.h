/*
 * One VFIO device that is open: its regions, its interrupts, its reset. The rest of this room sees
 * the kernel only through `struct vfio_ops`, so that tests can put a made-up device there.
 */
#ifndef DEVICES_VFIO_DEVICE_H
#define DEVICES_VFIO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/vfio.h>

#include "devices/vfio/bind.h"
#include "devices/vfio/iommu.h"
#include "devices/vfio/ranges.h"
#include "vmm/error.h"

#define VFIO_REGIONS   VFIO_PCI_NUM_REGIONS
#define VFIO_IRQS      VFIO_PCI_NUM_IRQS
#define VFIO_MAX_AREAS 16

struct vfio_region {
	uint64_t offset; /* in the device's fd */
	uint64_t size;	 /* 0: not there */
	uint32_t flags;	 /* VFIO_REGION_INFO_FLAG_… */
	/* Which parts may be mapped; none without VFIO_REGION_INFO_FLAG_MMAP. */
	unsigned areas;
	struct vfio_area area[VFIO_MAX_AREAS];
};

struct vfio_irq {
	uint32_t count; /* 0: not there */
	uint32_t flags; /* VFIO_IRQ_INFO_… */
};

struct vfio_device;

/* All return -errno; any thread. */
struct vfio_ops {
	/* Exactly len bytes of a region, or an error. */
	int (*read)(struct vfio_device *d, unsigned region, uint64_t offset, void *buf,
		    unsigned len);
	int (*write)(struct vfio_device *d, unsigned region, uint64_t offset, const void *buf,
		     unsigned len);
	/* VFIO_DEVICE_SET_IRQS; fd has count entries, or is NULL for VFIO_IRQ_SET_DATA_NONE. */
	int (*set_irqs)(struct vfio_device *d, unsigned index, unsigned action, unsigned start,
			unsigned count, const int32_t *fd);
	int (*reset)(struct vfio_device *d);
	void *(*map)(struct vfio_device *d, unsigned region, uint64_t offset, uint64_t size);
	void (*unmap)(struct vfio_device *d, void *at, uint64_t size);
	/* Gives the device back to the host while accesses may be under way: they fail from now on.
	 */
	void (*release)(struct vfio_device *d);
	void (*close)(struct vfio_device *d);
};

struct vfio_device {
	const struct vfio_ops *ops;
	char name[VFIO_NAME_MAX];
	bool mdev, vf;
	uint16_t vendor, device; /* what sysfs says; 0 for an mdev */
	uint32_t flags;		 /* VFIO_DEVICE_FLAGS_… */
	bool flr; /* it has a function level reset; known once config space is read */
	struct vfio_region region[VFIO_REGIONS];
	struct vfio_irq irq[VFIO_IRQS];
	struct vfio_attachment attachment;
	struct vfio_autobind bound; /* what is to be put back when it is closed */
};

/*
 * Opens a target; *out is closed by ops->close(). bound: what auto-bind=on has taken from its
 * driver, the device's to put back from now on, also on failure.
 */
int vfio_device_open(struct device_host *host, enum vfio_iommu_mode mode, const struct vfio_node *t,
		     const struct vfio_autobind *bound, struct vfio_device **out, struct error *e);

/* "reset, migration": what it can do, or "nothing"; for messages. */
const char *vfio_device_abilities(struct vfio_device *d, char *buf, unsigned size);

/* Reset together with the others of its bus or slot, if all of those are the machine's. */
int vfio_hot_reset(struct vfio_device *d);

#endif
