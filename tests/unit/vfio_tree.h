/*
 * A sysfs of the test's own, as far as devices/vfio reads it, in a temporary directory.
 */
#ifndef TESTS_UNIT_VFIO_TREE_H
#define TESTS_UNIT_VFIO_TREE_H

struct vfio_tree {
	char root[64];
};

void vfio_tree_make(struct vfio_tree *t);
void vfio_tree_remove(struct vfio_tree *t);

/* Paths are below the root; directories on the way are made. */
void vfio_tree_dir(struct vfio_tree *t, const char *path);
void vfio_tree_file(struct vfio_tree *t, const char *path, const char *text);
void vfio_tree_link(struct vfio_tree *t, const char *path, const char *target);
/* The file's whole text; static. */
const char *vfio_tree_read(struct vfio_tree *t, const char *path);

/* A driver with its bind and unbind. */
void vfio_tree_driver(struct vfio_tree *t, const char *bus, const char *driver);
/* A function; driver NULL: none; group -1: none. */
void vfio_tree_pci(struct vfio_tree *t, const char *bdf, unsigned class_code, unsigned vendor,
		   unsigned device, const char *driver, int group);
/* Makes the function vf the index-th VF of pf. */
void vfio_tree_vf(struct vfio_tree *t, const char *pf, unsigned index, const char *vf);
void vfio_tree_mdev_type(struct vfio_tree *t, const char *parent, const char *type,
			 const char *available);
void vfio_tree_mdev(struct vfio_tree *t, const char *parent, const char *type, const char *uuid,
		    int group);

#endif
