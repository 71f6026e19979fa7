/*
 * See mdev.h. Linux, Documentation/driver-api/vfio-mediated-device.rst: a UUID written to a type's
 * "create" makes a device, 1 written to the device's "remove" ends it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vfio/mdev.h"
#include "devices/vfio/use.h"

struct types {
	struct vfio_mdev_type *type;
	unsigned count;
};

/* " a, b": the parents, or (parent given) its types with how many are free. */
static void name_all(const struct types *t, const char *parent, char *buf, size_t size)
{
	size_t used = 0;

	*buf = '\0';
	for (unsigned i = 0; i < t->count && used < size; i++) {
		const struct vfio_mdev_type *y = &t->type[i];
		const char *between = used ? ", " : "";

		if (parent && strcmp(y->parent, parent) == 0)
			used += (size_t)snprintf(buf + used, size - used, "%s%s (%u free)", between,
						 y->type, y->available);
		else if (!parent && (i == 0 || strcmp(y->parent, y[-1].parent) != 0))
			used += (size_t)snprintf(buf + used, size - used, "%s%s", between,
						 y->parent);
	}
}

/* The parent as sysfs calls it: a PCI address may be short, and a path may lead to it. */
static void parent_name(const char *text, char name[VFIO_NAME_MAX])
{
	const char *last = strrchr(text, '/');

	last = last ? last + 1 : text;
	if (!vfio_parse_bdf(last, name))
		snprintf(name, VFIO_NAME_MAX, "%.60s", last);
}

static const struct vfio_mdev_type *find(const struct types *t, const char *parent,
					 const char *type, struct error *e)
{
	bool known = false;
	char all[512];

	for (unsigned i = 0; i < t->count; i++) {
		const struct vfio_mdev_type *y = &t->type[i];

		if (strcmp(y->parent, parent) != 0)
			continue;
		known = true;
		if (strcmp(y->type, type) == 0 || (*y->name && strcmp(y->name, type) == 0))
			return y;
	}
	name_all(t, known ? parent : NULL, all, sizeof(all));
	if (known)
		error_set(e, -ENODEV, "%s makes no \"%.60s\"; it makes %s", parent, type, all);
	else if (*all)
		error_set(e, -ENODEV, "%s makes no mediated devices; these do: %s", parent, all);
	else
		error_set(e, -ENODEV,
			  "%s makes no mediated devices, and nothing here does; is its driver "
			  "loaded?",
			  parent);
	return NULL;
}

static int make(const struct vfio_host *host, const struct vfio_mdev_type *type, const char *uuid,
		struct error *e)
{
	int err;

	if (!type->available)
		return error_set(
			e, -ENOSPC,
			"%s: no more %s can be made (%u are there); free one: mvm vfio mdev "
			"destroy UUID, or take another type: mvm vfio list",
			type->parent, type->type, type->instances);
	err = vfio_host_write(host, type->path, "create", uuid, e);
	/* Another may have been quicker, or the driver keeps one count for several types. */
	if (err == -ENOSPC || err == -EUSERS)
		err = error_set(e, -ENOSPC,
				"no more %s can be made; free one: mvm vfio mdev destroy UUID",
				type->type);
	if (err == -EEXIST)
		return error_set(e, err,
				 "%s: there is a mediated device of that UUID; mvm vfio list "
				 "shows it",
				 uuid);
	if (err)
		error_prefix(e, "%s: ", type->parent);
	return err;
}

int vfio_mdev_create(const struct vfio_host *host, const char *parent, const char *type,
		     const char *uuid, struct vfio_node *out, struct error *e)
{
	struct types types;
	const struct vfio_mdev_type *found;
	char name[VFIO_NAME_MAX], id[VFIO_NAME_MAX], text[VFIO_NAME_MAX];
	char random[VFIO_PATH_MAX];
	int err;

	parent_name(parent, name);
	if (uuid && !vfio_parse_uuid(uuid, id))
		return error_set(e, -EINVAL,
				 "\"%.60s\" is no UUID; one is "
				 "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001, and without it mvm chooses",
				 uuid);
	if (!uuid) {
		err = vfio_path(random, sizeof(random), host->root, "/proc/sys/kernel/random");
		if (!err)
			err = vfio_read_text(random, "uuid", text, sizeof(text));
		if (err < 0 || !vfio_parse_uuid(text, id))
			return error_set(e, err < 0 ? err : -EBADMSG, "%s/uuid gives none", random);
	}
	err = vfio_mdev_types(host->root, &types.type, &types.count, e);
	if (err)
		return err;
	found = find(&types, name, type, e);
	err = found ? make(host, found, id, e) : -ENODEV;
	free(types.type);
	return err ? err : vfio_node_find(host->root, id, out, e);
}

int vfio_mdev_destroy(const struct vfio_host *host, struct vfio_node *node, struct error *e)
{
	char who[VFIO_NAME_MAX];
	int err;

	if (node->kind != VFIO_MDEV)
		return error_set(e, -EINVAL, "%s is no mediated device", node->name);
	/* remove waits until nobody has it open: ask before. */
	if (vfio_opened(host, node, who, sizeof(who)))
		return error_set(e, -EBUSY, "%s: %s has it open; end that first", node->name, who);
	err = vfio_host_write(host, node->path, "remove", "1", e);
	if (err)
		error_prefix(e, "%s: ", node->name);
	return err;
}
