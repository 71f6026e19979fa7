/*
 * Types of mediated devices and how many of each can still be made: see sysfs.h. Every parent is an
 * entry of ROOT/sys/class/mdev_bus.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vfio/sysfs.h"

#define TYPES_MAX 4096

struct types {
	struct vfio_mdev_type *type;
	unsigned count, room;
};

/* How many entries that are UUIDs a type's devices/ has. */
static unsigned instances(const char *type_path)
{
	char path[VFIO_PATH_MAX + VFIO_NAME_MAX], uuid[VFIO_NAME_MAX];
	struct dirent *d;
	unsigned n = 0;
	DIR *dir;

	if (vfio_path(path, sizeof(path), type_path, "/devices"))
		return 0;
	dir = opendir(path);
	if (!dir)
		return 0;
	while ((d = readdir(dir)))
		n += vfio_parse_uuid(d->d_name, uuid);
	closedir(dir);
	return n;
}

static int add_type(struct types *types, const char *dir, const char *parent, const char *name)
{
	struct vfio_mdev_type *t;
	uint64_t available;

	if (types->count == types->room) {
		unsigned room = types->room ? 2 * types->room : 8;

		t = room <= TYPES_MAX ? realloc(types->type, room * sizeof(*t)) : NULL;
		if (!t)
			return -ENOMEM;
		types->type = t;
		types->room = room;
	}
	t = &types->type[types->count];
	*t = (struct vfio_mdev_type){ .available = 0 };
	if (strlen(parent) >= sizeof(t->parent) || strlen(name) >= sizeof(t->type) ||
	    vfio_path(t->path, sizeof(t->path), dir, "/%s", name))
		return 0; /* no name that the kernel would give */
	memcpy(t->parent, parent, strlen(parent) + 1);
	memcpy(t->type, name, strlen(name) + 1);
	vfio_printable(t->parent);
	vfio_printable(t->type);
	if (vfio_read_number(t->path, "available_instances", UINT32_MAX, &available))
		return 0; /* no type, or gone */
	t->available = (unsigned)available;
	vfio_read_text(t->path, "name", t->name, sizeof(t->name));
	vfio_read_text(t->path, "description", t->description, sizeof(t->description));
	vfio_read_text(t->path, "device_api", t->api, sizeof(t->api));
	t->instances = instances(t->path);
	types->count++;
	return 0;
}

static int add_parent(struct types *types, const char *bus, const char *parent)
{
	char path[VFIO_PATH_MAX];
	struct dirent *d;
	int err = 0;
	DIR *dir;

	if (vfio_path(path, sizeof(path), bus, "/%s/mdev_supported_types", parent))
		return 0;
	dir = opendir(path);
	if (!dir)
		return 0;
	while (!err && (d = readdir(dir)))
		if (d->d_name[0] != '.')
			err = add_type(types, path, parent, d->d_name);
	closedir(dir);
	return err;
}

static int by_parent_and_type(const void *a, const void *b)
{
	const struct vfio_mdev_type *x = a, *y = b;
	int order = strcmp(x->parent, y->parent);

	return order ? order : strcmp(x->type, y->type);
}

int vfio_mdev_types(const char *root, struct vfio_mdev_type **out, unsigned *count, struct error *e)
{
	struct types types = { .count = 0 };
	char path[VFIO_PATH_MAX];
	struct dirent *d;
	DIR *dir;
	int err = vfio_path(path, sizeof(path), root, "/sys/class/mdev_bus");

	*out = NULL;
	*count = 0;
	if (err)
		return error_set_errno(e, err, "%s", path);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : error_set_errno(e, -errno, "cannot read %s", path);
	while (!err && (d = readdir(dir)))
		if (d->d_name[0] != '.')
			err = add_parent(&types, path, d->d_name);
	closedir(dir);
	if (err) {
		free(types.type);
		return error_set_errno(e, err, "cannot list %s", path);
	}
	if (types.count)
		qsort(types.type, types.count, sizeof(*types.type), by_parent_and_type);
	*out = types.type;
	*count = types.count;
	return 0;
}
