/*
 * `mvm vfio list`: functions with drivers, groups and whether they could be used now, VFs, and
 * mediated devices with what could be made more. As tables, or as JSON with all there is.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vfio/commands.h"
#include "devices/vfio/state.h"
#include "devices/vfio/use.h"
#include "vmm/json.h"

struct listing {
	const struct vfio_host *host;
	struct vfio_node *function, *mdev;
	unsigned functions, mdevs;
	char (*opened)[VFIO_NAME_MAX];	    /* parallel to function; "" nobody */
	char (*mdev_opened)[VFIO_NAME_MAX]; /* parallel to mdev */
	struct vfio_mdev_type *type;
	unsigned types;
	bool all;
};

/* PCI Code and ID Assignment Specification, Appendix D of the PCI specification. */
const char *vfio_class_name(uint32_t class_code)
{
	static const struct {
		uint32_t code, mask;
		const char *name;
	} names[] = {
		{ 0x010802, 0xffffff, "nvme" },	       { 0x010600, 0xffff00, "sata" },
		{ 0x010100, 0xffff00, "ide" },	       { 0x010700, 0xffff00, "sas" },
		{ 0x010000, 0xff0000, "storage" },     { 0x020000, 0xffff00, "ethernet" },
		{ 0x020000, 0xff0000, "network" },     { 0x030000, 0xff0000, "display" },
		{ 0x040000, 0xff0000, "multimedia" },  { 0x060000, 0xff0000, "bridge" },
		{ 0x070000, 0xff0000, "serial" },      { 0x080000, 0xff0000, "system" },
		{ 0x0c0300, 0xffff00, "usb" },	       { 0x0c0000, 0xff0000, "bus" },
		{ 0x0d0000, 0xff0000, "wireless" },    { 0x100000, 0xff0000, "crypto" },
		{ 0x120000, 0xff0000, "accelerator" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if ((class_code & names[i].mask) == names[i].code)
			return names[i].name;
	return "other";
}

/* ---- gathering ------------------------------------------------------------------------------- */

/* Those of a list that the targets name; each target must be there. */
static int choose(const struct vfio_host *host, char *const *targets, unsigned count,
		  struct vfio_node *list, unsigned *n, enum vfio_kind kind, struct error *e)
{
	bool *keep = calloc(*n + 1, sizeof(*keep));
	unsigned kept = 0;
	int err = 0;

	if (!keep)
		return error_set_errno(e, -ENOMEM, "cannot choose");
	for (unsigned i = 0; i < count && !err; i++) {
		struct vfio_node node;

		err = vfio_node_find(host->root, targets[i], &node, e);
		for (unsigned k = 0; k < *n && !err; k++)
			if (node.kind == kind && strcmp(node.name, list[k].name) == 0)
				keep[k] = true;
	}
	for (unsigned k = 0; k < *n && !err; k++)
		if (keep[k])
			list[kept++] = list[k];
	free(keep);
	if (!err)
		*n = kept;
	return err;
}

static void drop_bridges(struct listing *l)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < l->functions; i++)
		if (l->function[i].class_code >> 16 != 0x06)
			l->function[kept++] = l->function[i];
	l->functions = kept;
}

static int gather(struct listing *l, char *const *targets, unsigned count, struct error *e)
{
	const char *root = l->host->root;
	int err = vfio_node_list(root, VFIO_PCI, &l->function, &l->functions, e);

	if (!err)
		err = vfio_node_list(root, VFIO_MDEV, &l->mdev, &l->mdevs, e);
	if (!err && count)
		err = choose(l->host, targets, count, l->function, &l->functions, VFIO_PCI, e);
	if (!err && count)
		err = choose(l->host, targets, count, l->mdev, &l->mdevs, VFIO_MDEV, e);
	if (!err && !count)
		err = vfio_mdev_types(root, &l->type, &l->types, e);
	if (err)
		return err;
	if (!count && !l->all)
		drop_bridges(l);
	l->opened = calloc(l->functions + 1, sizeof(*l->opened));
	l->mdev_opened = calloc(l->mdevs + 1, sizeof(*l->mdev_opened));
	if (!l->opened || !l->mdev_opened)
		return error_set_errno(e, -ENOMEM, "cannot list");
	vfio_opened_by(l->host, l->function, l->functions, l->opened);
	vfio_opened_by(l->host, l->mdev, l->mdevs, l->mdev_opened);
	return 0;
}

static void drop(struct listing *l)
{
	free(l->function);
	free(l->mdev);
	free(l->opened);
	free(l->mdev_opened);
	free(l->type);
}

/* Others of its group that keep it from being used; "" if none (or no group). */
static void blockers(const struct listing *l, const struct vfio_node *node, char *buf, size_t size)
{
	struct vfio_group group;
	struct error ignored;

	*buf = '\0';
	if (node->group < 0 || vfio_group_read(l->host->root, node->group, &group, &ignored))
		return;
	for (unsigned i = 0; i < group.count; i++)
		if (strcmp(group.member[i].name, node->name) == 0)
			group.member[i].driver[0] = '\0';
	vfio_group_blockers(&group, buf, size);
	vfio_group_free(&group);
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* One more note, behind a semicolon; what does not fit is cut. */
__attribute__((format(printf, 3, 4))) static void add_note(char *notes, size_t size,
							   const char *fmt, ...)
{
	size_t used = strlen(notes);
	va_list ap;

	if (used)
		used += (size_t)snprintf(notes + used, size - used, "; ");
	if (used >= size)
		return;
	va_start(ap, fmt);
	vsnprintf(notes + used, size - used, fmt, ap);
	va_end(ap);
}

static void notes_on(const struct listing *l, unsigned i, char *notes, size_t size)
{
	const struct vfio_node *node = &l->function[i];
	struct vfio_record record;
	char text[512];

	*notes = '\0';
	if (node->pf[0])
		add_note(notes, size, "VF %d of %s", node->vf_index, node->pf);
	if (l->opened[i][0])
		add_note(notes, size, "in use by %s", l->opened[i]);
	if (vfio_state_read(l->host, node->name, &record) == 0)
		add_note(notes, size, "was %s%s", record.driver[0] ? record.driver : "no driver",
			 !record.pid			      ? ""
			 : vfio_state_owned(l->host, &record) ? ", put back by mvm at its end"
							      : ", left by an mvm that crashed");
	blockers(l, node, text, sizeof(text));
	if (*text)
		add_note(notes, size, "group has drivers: %s", text);
}

static int print_functions(const struct listing *l, FILE *out, struct error *e)
{
	const char *const titles[] = {
		"FUNCTION", "CLASS", "ID", "DRIVER", "GROUP", "VFS", "NOTES"
	};
	struct vfio_table t = { .columns = 7 };

	vfio_table_add(&t, titles);
	for (unsigned i = 0; i < l->functions; i++) {
		const struct vfio_node *node = &l->function[i];
		char id[16], group[16] = "-", vfs[32] = "-", notes[1024];
		const char *const cells[] = { node->name, vfio_class_name(node->class_code),
					      id,	  node->driver[0] ? node->driver : "-",
					      group,	  vfs,
					      notes };

		snprintf(id, sizeof(id), "%04x:%04x", node->vendor, node->device);
		if (node->group >= 0)
			snprintf(group, sizeof(group), "%d", node->group);
		if (node->totalvfs)
			snprintf(vfs, sizeof(vfs), "%u/%u", node->numvfs, node->totalvfs);
		notes_on(l, i, notes, sizeof(notes));
		vfio_table_add(&t, cells);
	}
	return vfio_table_print(&t, out, e);
}

static int print_mdevs(const struct listing *l, FILE *out, struct error *e)
{
	const char *const titles[] = { "MEDIATED DEVICE", "PARENT", "TYPE", "GROUP", "NOTES" };
	struct vfio_table t = { .columns = 5 };

	if (!l->mdevs)
		return 0;
	vfio_table_add(&t, titles);
	for (unsigned i = 0; i < l->mdevs; i++) {
		const struct vfio_node *node = &l->mdev[i];
		char group[16] = "-", notes[VFIO_NAME_MAX + 16] = "";
		const char *const cells[] = { node->name, node->parent, node->type, group, notes };

		if (node->group >= 0)
			snprintf(group, sizeof(group), "%d", node->group);
		if (l->mdev_opened[i][0])
			add_note(notes, sizeof(notes), "in use by %s", l->mdev_opened[i]);
		vfio_table_add(&t, cells);
	}
	putc('\n', out);
	return vfio_table_print(&t, out, e);
}

static int print_types(const struct listing *l, FILE *out, struct error *e)
{
	const char *const titles[] = { "PARENT", "TYPE", "API", "FREE", "MADE", "NAME" };
	struct vfio_table t = { .columns = 6 };

	if (!l->types)
		return 0;
	vfio_table_add(&t, titles);
	for (unsigned i = 0; i < l->types; i++) {
		const struct vfio_mdev_type *type = &l->type[i];
		char available[16], made[16];
		const char *const cells[] = { type->parent, type->type, type->api,
					      available,    made,	type->name };

		snprintf(available, sizeof(available), "%u", type->available);
		snprintf(made, sizeof(made), "%u", type->instances);
		vfio_table_add(&t, cells);
	}
	putc('\n', out);
	return vfio_table_print(&t, out, e);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void text_or_null(struct json *j, const char *name, const char *text)
{
	json_string(j, name, text && *text ? text : NULL);
}

static void hex_text(struct json *j, const char *name, unsigned digits, unsigned value)
{
	char text[16];

	snprintf(text, sizeof(text), "0x%0*x", (int)digits, value);
	json_string(j, name, text);
}

static void json_group(const struct listing *l, struct json *j, const struct vfio_node *node)
{
	struct vfio_group group;
	struct error ignored;
	char blocked[512];

	if (node->group < 0 || vfio_group_read(l->host->root, node->group, &group, &ignored)) {
		json_string(j, "group", NULL);
		return;
	}
	vfio_group_blockers(&group, blocked, sizeof(blocked));
	json_open(j, "group", '{');
	json_i64(j, "number", node->group);
	json_bool(j, "viable", !*blocked);
	json_open(j, "members", '[');
	for (unsigned i = 0; i < group.count; i++) {
		json_open(j, NULL, '{');
		json_string(j, "name", group.member[i].name);
		text_or_null(j, "driver", group.member[i].driver);
		json_bool(j, "blocks", vfio_node_blocks(&group.member[i]));
		json_close(j, '}');
	}
	json_close(j, ']');
	json_close(j, '}');
	vfio_group_free(&group);
}

static void json_former(const struct listing *l, struct json *j, const char *name)
{
	struct vfio_record record;

	if (vfio_state_read(l->host, name, &record)) {
		json_string(j, "former", NULL);
		return;
	}
	json_open(j, "former", '{');
	text_or_null(j, "driver", record.driver);
	json_bool(j, "auto", record.pid != 0);
	json_bool(j, "stale", record.pid != 0 && !vfio_state_owned(l->host, &record));
	json_close(j, '}');
}

static void json_function(const struct listing *l, struct json *j, unsigned i)
{
	const struct vfio_node *node = &l->function[i];

	json_open(j, NULL, '{');
	json_string(j, "address", node->name);
	hex_text(j, "class", 6, node->class_code);
	json_string(j, "class_name", vfio_class_name(node->class_code));
	hex_text(j, "vendor", 4, node->vendor);
	hex_text(j, "device", 4, node->device);
	hex_text(j, "subsystem_vendor", 4, node->subsystem_vendor);
	hex_text(j, "subsystem_device", 4, node->subsystem_device);
	text_or_null(j, "driver", node->driver);
	text_or_null(j, "cdev", node->cdev);
	text_or_null(j, "in_use_by", l->opened[i]);
	text_or_null(j, "pf", node->pf);
	json_i64(j, "vf_index", node->vf_index);
	json_i64(j, "vfs", node->numvfs);
	json_i64(j, "vfs_max", node->totalvfs);
	json_former(l, j, node->name);
	json_group(l, j, node);
	json_close(j, '}');
}

static void json_mdev(const struct listing *l, struct json *j, unsigned i)
{
	const struct vfio_node *node = &l->mdev[i];

	json_open(j, NULL, '{');
	json_string(j, "uuid", node->name);
	json_string(j, "parent", node->parent);
	json_string(j, "type", node->type);
	text_or_null(j, "api", node->api);
	text_or_null(j, "cdev", node->cdev);
	text_or_null(j, "in_use_by", l->mdev_opened[i]);
	json_group(l, j, node);
	json_close(j, '}');
}

static void json_type(struct json *j, const struct vfio_mdev_type *type)
{
	json_open(j, NULL, '{');
	json_string(j, "parent", type->parent);
	json_string(j, "type", type->type);
	json_string(j, "name", type->name);
	json_string(j, "description", type->description);
	text_or_null(j, "api", type->api);
	json_i64(j, "free", type->available);
	json_i64(j, "made", type->instances);
	json_close(j, '}');
}

static void print_json(const struct listing *l, FILE *out)
{
	struct json j = { .out = out };

	json_open(&j, NULL, '{');
	json_open(&j, "functions", '[');
	for (unsigned i = 0; i < l->functions; i++)
		json_function(l, &j, i);
	json_close(&j, ']');
	json_open(&j, "mdevs", '[');
	for (unsigned i = 0; i < l->mdevs; i++)
		json_mdev(l, &j, i);
	json_close(&j, ']');
	json_open(&j, "mdev_types", '[');
	for (unsigned i = 0; i < l->types; i++)
		json_type(&j, &l->type[i]);
	json_close(&j, ']');
	json_close(&j, '}');
}

int vfio_list(const struct vfio_host *host, char *const *targets, unsigned count, bool all,
	      bool json, FILE *out, struct error *e)
{
	struct listing l = { .host = host, .all = all || json };
	int err = gather(&l, targets, count, e);

	if (!err && json) {
		print_json(&l, out);
	} else if (!err) {
		if (l.functions || !count)
			err = print_functions(&l, out, e);
		if (!err)
			err = print_mdevs(&l, out, e);
		if (!err)
			err = print_types(&l, out, e);
	}
	drop(&l);
	return err;
}
