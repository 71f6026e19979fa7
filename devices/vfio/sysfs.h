/*
 * What the kernel says in sysfs about a function that may be given to a guest: who it is, which
 * driver has it, its IOMMU group and who else is in that, its place in SR-IOV, and for a mediated
 * device its parent and type. In: a target as a user writes it. Out: a struct vfio_node, a copy
 * that is checked once and does not change any more.
 *
 * Interface: Linux, Documentation/ABI/testing/sysfs-bus-pci, sysfs-bus-vfio-mdev,
 * sysfs-kernel-iommu_groups, sysfs-devices-vfio-dev.
 *
 * `root` stands in front of every path: "" (or NULL) is this machine; tests put a directory with a
 * sys/ (dev/, proc/, run/) of their own there.
 */
#ifndef DEVICES_VFIO_SYSFS_H
#define DEVICES_VFIO_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"

#define VFIO_NAME_MAX 64
#define VFIO_PATH_MAX 256

enum vfio_kind {
	VFIO_PCI,
	VFIO_MDEV,
	VFIO_OTHER, /* a member of a group that is neither */
};

struct vfio_node {
	enum vfio_kind kind;
	char name[VFIO_NAME_MAX];   /* "0000:03:00.1"; an mdev's UUID, in small letters */
	char path[VFIO_PATH_MAX];   /* ROOT/sys/bus/pci/devices/NAME, ROOT/sys/bus/mdev/devices/NAME
				     */
	char driver[VFIO_NAME_MAX]; /* "": none */
	char cdev[VFIO_NAME_MAX];   /* "vfio3", for /dev/vfio/devices/vfio3; "": none */
	int group;		    /* the IOMMU group's number; -1: it is in none */

	/* VFIO_PCI. A VF's ids are those the kernel made from its PF (its own registers read ffff).
	 */
	uint32_t class_code; /* 24 bits: base class, subclass, interface */
	uint16_t vendor, device, subsystem_vendor, subsystem_device;
	char override[VFIO_NAME_MAX]; /* driver_override; "": none */
	char pf[VFIO_NAME_MAX];	      /* of a VF: its PF; "": this is no VF */
	int vf_index;		      /* of a VF: its number there, from 0; else -1 */
	unsigned totalvfs, numvfs;    /* of a PF; totalvfs 0: no SR-IOV */

	/* VFIO_MDEV */
	char parent[VFIO_NAME_MAX]; /* the device it was made of: "0000:00:02.0", "mtty" */
	char type[VFIO_NAME_MAX];   /* "mtty-2" */
	char api[VFIO_NAME_MAX];    /* "vfio-pci", "vfio-ccw" …; "": unknown */
};

/*
 * A target: PCI address with or without domain (then 0000), UUID, or a path of sysfs that leads to
 * one of those. -EINVAL: it is nothing of that; -ENODEV: there is no such device now. Messages name
 * the target and the way out.
 */
int vfio_node_find(const char *root, const char *target, struct vfio_node *out, struct error *e);

/* Reads one anew by what is known of it: kind and name. -ENODEV when it has vanished. */
int vfio_node_refresh(const char *root, struct vfio_node *node, struct error *e);

/* Is the text one, and which? out: VFIO_NAME_MAX bytes, the name as sysfs has it. */
bool vfio_parse_bdf(const char *text, char *out);
bool vfio_parse_uuid(const char *text, char *out);

/* All of a kind, sorted by name; *out is the caller's to free(). No bus at all is an empty list. */
int vfio_node_list(const char *root, enum vfio_kind kind, struct vfio_node **out, unsigned *count,
		   struct error *e);

/* The VFs of a PF, sorted by index. */
int vfio_node_vfs(const char *root, const struct vfio_node *pf, struct vfio_node **out,
		  unsigned *count, struct error *e);

/* An IOMMU group with all its members, sorted by name. */
struct vfio_group {
	int number;
	unsigned count;
	struct vfio_node *member; /* owned */
};
int vfio_group_read(const char *root, int number, struct vfio_group *out, struct error *e);
void vfio_group_free(struct vfio_group *group);

/* A driver that hands its device to VFIO: vfio-pci and its kin. */
bool vfio_is_vfio_driver(const char *driver);

/*
 * Does it keep its group from being used? So does every driver that is not VFIO's and does DMA of
 * its own (Linux, drivers with driver_managed_dma do not). No driver at all does not.
 */
bool vfio_node_blocks(const struct vfio_node *node);

/* The members that block, "0000:00:1f.0 (lpc_ich), 0000:00:1f.2 (ahci)"; "": the group is viable.
 */
const char *vfio_group_blockers(const struct vfio_group *group, char *buf, size_t size);

/* A type of mediated devices that a parent can make. */
struct vfio_mdev_type {
	char parent[VFIO_NAME_MAX];
	char type[VFIO_NAME_MAX];	 /* the directory's name: "mtty-2" */
	char name[VFIO_NAME_MAX];	 /* for people, may be "" */
	char description[VFIO_PATH_MAX]; /* may be "" */
	char api[VFIO_NAME_MAX];
	unsigned available; /* how many more can be made */
	unsigned instances; /* how many there are */
	char path[VFIO_PATH_MAX];
};
/* All types of all parents, sorted; *out is the caller's to free(). */
int vfio_mdev_types(const char *root, struct vfio_mdev_type **out, unsigned *count,
		    struct error *e);

/* ---- for the files of this layer ------------------------------------------------------------- */

/* ROOT + path into buf; -ENAMETOOLONG. */
int vfio_path(char *buf, size_t size, const char *root, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/*
 * DIR/NAME's first line without its end, printable bytes only, cut to size. Returns its length or
 * -errno (buf is "" then).
 */
int vfio_read_text(const char *dir, const char *name, char *buf, size_t size);
/* DIR/NAME as a number (0x…: hexadecimal) of at most max; -errno, -EINVAL when it is none. */
int vfio_read_number(const char *dir, const char *name, uint64_t max, uint64_t *out);
/* Text for a message or a table: bytes that are no printable ASCII become '?'. Returns text. */
char *vfio_printable(char *text);
/* The last part of the symlink DIR/NAME's target; -errno (buf is "" then). */
int vfio_read_link(const char *dir, const char *name, char *buf, size_t size);
/* One write() of text to DIR/NAME, as sysfs wants it; 0 or -errno. */
int vfio_write_text(const char *dir, const char *name, const char *text);

#endif
