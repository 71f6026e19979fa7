/*
 * See vfio_tree.h. Devices lie under sys/devices, and the buses link to them, as in the real one.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/vfio_tree.h"

#define PATH 512

void vfio_tree_make(struct vfio_tree *t)
{
	strcpy(t->root, "/tmp/mvm-vfio-XXXXXX");
	cr_assert(mkdtemp(t->root));
	vfio_tree_dir(t, "sys/bus/pci/devices");
	vfio_tree_dir(t, "sys/kernel/iommu_groups");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void vfio_tree_remove(struct vfio_tree *t)
{
	nftw(t->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void parents(const char *path)
{
	char part[PATH];

	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		cr_assert(mkdir(part, 0755) == 0 || errno == EEXIST, "%s", part);
	}
}

static void full(struct vfio_tree *t, const char *path, char out[PATH])
{
	cr_assert_lt(snprintf(out, PATH, "%s/%s", t->root, path), PATH);
	parents(out);
}

void vfio_tree_dir(struct vfio_tree *t, const char *path)
{
	char p[PATH];

	full(t, path, p);
	cr_assert(mkdir(p, 0755) == 0 || errno == EEXIST, "%s", p);
}

void vfio_tree_file(struct vfio_tree *t, const char *path, const char *text)
{
	char p[PATH];
	FILE *f;

	full(t, path, p);
	f = fopen(p, "w");
	cr_assert(f, "%s", p);
	fputs(text, f);
	fclose(f);
}

void vfio_tree_link(struct vfio_tree *t, const char *path, const char *target)
{
	char p[PATH];

	full(t, path, p);
	unlink(p);
	cr_assert_eq(symlink(target, p), 0, "%s", p);
}

const char *vfio_tree_read(struct vfio_tree *t, const char *path)
{
	static char text[4096];
	char p[PATH];
	FILE *f;

	full(t, path, p);
	f = fopen(p, "r");
	cr_assert(f, "%s", p);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	return text;
}

void vfio_tree_driver(struct vfio_tree *t, const char *bus, const char *driver)
{
	char path[PATH];

	snprintf(path, sizeof(path), "sys/bus/%s/drivers/%s/bind", bus, driver);
	vfio_tree_file(t, path, "");
	snprintf(path, sizeof(path), "sys/bus/%s/drivers/%s/unbind", bus, driver);
	vfio_tree_file(t, path, "");
}

static void put(struct vfio_tree *t, const char *bdf, const char *file, int digits, unsigned value)
{
	char path[PATH], text[64];

	snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/%s", bdf, file);
	snprintf(text, sizeof(text), "0x%0*x\n", digits, value);
	vfio_tree_file(t, path, text);
}

static void join_group(struct vfio_tree *t, const char *device, const char *name, int group)
{
	char path[PATH], target[PATH];

	snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%d/devices/%s", group, name);
	snprintf(target, sizeof(target), "%s/%s", t->root, device);
	vfio_tree_link(t, path, target);
	snprintf(path, sizeof(path), "%s/iommu_group", device);
	snprintf(target, sizeof(target), "%s/sys/kernel/iommu_groups/%d", t->root, group);
	vfio_tree_link(t, path, target);
}

void vfio_tree_pci(struct vfio_tree *t, const char *bdf, unsigned class_code, unsigned vendor,
		   unsigned device, const char *driver, int group)
{
	char path[PATH], target[PATH];

	put(t, bdf, "class", 6, class_code);
	put(t, bdf, "vendor", 4, vendor);
	put(t, bdf, "device", 4, device);
	put(t, bdf, "subsystem_vendor", 4, vendor);
	put(t, bdf, "subsystem_device", 4, 1);
	snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/driver_override", bdf);
	vfio_tree_file(t, path, "(null)\n");
	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s", bdf);
	snprintf(target, sizeof(target), "../../../devices/pci0000:00/%s", bdf);
	vfio_tree_link(t, path, target);
	snprintf(target, sizeof(target), "sys/devices/pci0000:00/%s", bdf);
	if (driver) {
		vfio_tree_driver(t, "pci", driver);
		snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/driver", bdf);
		snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
		vfio_tree_link(t, path, target);
		snprintf(target, sizeof(target), "sys/devices/pci0000:00/%s", bdf);
	}
	if (group >= 0)
		join_group(t, target, bdf, group);
}

void vfio_tree_vf(struct vfio_tree *t, const char *pf, unsigned index, const char *vf)
{
	char path[PATH], target[PATH];

	snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/virtfn%u", pf, index);
	snprintf(target, sizeof(target), "../%s", vf);
	vfio_tree_link(t, path, target);
	snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/physfn", vf);
	snprintf(target, sizeof(target), "../%s", pf);
	vfio_tree_link(t, path, target);
}

void vfio_tree_mdev_type(struct vfio_tree *t, const char *parent, const char *type,
			 const char *available)
{
	char path[PATH], target[PATH];

	snprintf(path, sizeof(path), "sys/class/mdev_bus/%s", parent);
	snprintf(target, sizeof(target), "../../devices/virtual/%s", parent);
	vfio_tree_link(t, path, target);
#define TYPE_FILE(file, text)                                                                      \
	snprintf(path, sizeof(path), "sys/devices/virtual/%s/mdev_supported_types/%s/" file,       \
		 parent, type);                                                                    \
	vfio_tree_file(t, path, text)
	TYPE_FILE("available_instances", available);
	TYPE_FILE("device_api", "vfio-pci\n");
	TYPE_FILE("name", "Dual port serial\n");
	TYPE_FILE("create", "");
	snprintf(path, sizeof(path), "sys/devices/virtual/%s/mdev_supported_types/%s/devices",
		 parent, type);
	vfio_tree_dir(t, path);
}

void vfio_tree_mdev(struct vfio_tree *t, const char *parent, const char *type, const char *uuid,
		    int group)
{
	char device[PATH], path[PATH + 64], target[PATH + 64];

	snprintf(device, sizeof(device), "sys/devices/virtual/%s/%s", parent, uuid);
	vfio_tree_dir(t, device);
	snprintf(path, sizeof(path), "%s/remove", device);
	vfio_tree_file(t, path, "");
	snprintf(path, sizeof(path), "%s/mdev_type", device);
	snprintf(target, sizeof(target), "../mdev_supported_types/%s", type);
	vfio_tree_link(t, path, target);
	snprintf(path, sizeof(path), "sys/devices/virtual/%s/mdev_supported_types/%s/devices/%s",
		 parent, type, uuid);
	snprintf(target, sizeof(target), "../../../%s", uuid);
	vfio_tree_link(t, path, target);
	snprintf(path, sizeof(path), "sys/bus/mdev/devices/%s", uuid);
	snprintf(target, sizeof(target), "../../../devices/virtual/%s/%s", parent, uuid);
	vfio_tree_link(t, path, target);
	if (group >= 0)
		join_group(t, device, uuid, group);
}
