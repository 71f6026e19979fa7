/*
 * `mvm vfio`: the table of its verbs, and binding several functions at once. A call either does all
 * that it was asked for or leaves all as it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registry.h"
#include "devices/vfio/bind.h"
#include "devices/vfio/commands.h"
#include "vmm/log.h"

/* All targets, each found and each once. */
static int find_all(const struct vfio_host *host, char *const *targets, unsigned count,
		    struct vfio_node **out, struct error *e)
{
	struct vfio_node *list = calloc(count, sizeof(*list));
	int err = 0;

	if (!list)
		return error_set_errno(e, -ENOMEM, "cannot look for %u targets", count);
	for (unsigned i = 0; i < count && !err; i++) {
		err = vfio_node_find(host->root, targets[i], &list[i], e);
		if (!err && list[i].kind != VFIO_PCI)
			err = error_set(e, -EINVAL,
					"%s is a mediated device: it has VFIO's driver from the "
					"beginning, and needs no binding",
					list[i].name);
		for (unsigned k = 0; k < i && !err; k++)
			if (strcmp(list[i].name, list[k].name) == 0)
				err = error_set(e, -EINVAL, "%s is named twice", list[i].name);
	}
	if (err) {
		free(list);
		list = NULL;
	}
	*out = list;
	return err;
}

/* Says what keeps a group from being used although what was asked for is bound. */
static void tell_blockers(const struct vfio_host *host, const struct vfio_node *node, FILE *out)
{
	struct vfio_group group;
	char blockers[512];
	struct error ignored;

	if (vfio_group_read(host->root, node->group, &group, &ignored))
		return;
	if (*vfio_group_blockers(&group, blockers, sizeof(blockers)))
		fprintf(out,
			"%s: cannot be used yet: others of its IOMMU group %d have drivers: %s; "
			"bind them too\n",
			node->name, node->group, blockers);
	vfio_group_free(&group);
}

int vfio_bind_all(const struct vfio_host *host, char *const *targets, unsigned count, FILE *out,
		  struct error *e)
{
	bool *had = calloc(count, sizeof(*had));
	struct vfio_node *list = NULL;
	struct error undo;
	unsigned i;
	int err;

	if (!had)
		return error_set_errno(e, -ENOMEM, "cannot bind");
	err = find_all(host, targets, count, &list, e);
	for (i = 0; i < count && !err; i++) {
		had[i] = vfio_is_vfio_driver(list[i].driver);
		err = vfio_bind(host, &list[i], e);
	}
	for (i = err && i ? i - 1 : 0; err && i--;)
		if (!had[i] && vfio_unbind(host, &list[i], &undo))
			log_warn("not undone: %s", undo.msg);
	for (i = 0; i < count && !err; i++) {
		fprintf(out, "%s: %s %s, IOMMU group %d\n", list[i].name,
			had[i] ? "already with" : "bound to", list[i].driver, list[i].group);
		tell_blockers(host, &list[i], out);
	}
	free(list);
	free(had);
	return err;
}

int vfio_unbind_all(const struct vfio_host *host, char *const *targets, unsigned count, FILE *out,
		    struct error *e)
{
	struct vfio_node *list = NULL;
	int err = find_all(host, targets, count, &list, e);

	for (unsigned i = 0; list && i < count && !err; i++) {
		bool had = vfio_is_vfio_driver(list[i].driver);
		err = vfio_unbind(host, &list[i], e);
		if (!err)
			fprintf(out, "%s: %s %s\n", list[i].name,
				had ? "back with" : "not bound to VFIO; has",
				list[i].driver[0] ? list[i].driver : "no driver");
	}
	free(list);
	return err;
}

/* ---- the table ------------------------------------------------------------------------------- */

static int run_list(const struct command_call *call, struct error *e)
{
	return vfio_list(&vfio_this_host, call->argv, call->argc,
			 command_option(call, "all")->number, command_option(call, "json")->number,
			 call->out, e);
}

static int run_bind(const struct command_call *call, struct error *e)
{
	return vfio_bind_all(&vfio_this_host, call->argv, call->argc, call->out, e);
}

static int run_unbind(const struct command_call *call, struct error *e)
{
	return vfio_unbind_all(&vfio_this_host, call->argv, call->argc, call->out, e);
}

static const struct device_key list_options[] = {
	{ .name = "all", .type = KEY_BOOL, .fallback = "off", .help = "bridges as well" },
	{ .name = "json",
	  .type = KEY_BOOL,
	  .fallback = "off",
	  .help = "as JSON, with members of groups and all that is known" },
	{ .name = NULL },
};

static const struct device_key create_options[] = {
	{ .name = "json", .type = KEY_BOOL, .fallback = "off", .help = "the VFs as JSON" },
	{ .name = NULL },
};

static const struct device_key create_keys[] = {
	{ .name = "queues",
	  .type = KEY_UINT,
	  .min = 2,
	  .max = 0xffff,
	  .help = "of NVMe: queue pairs of each VF, the admin queue among them; without it an "
		  "equal share" },
	{ .name = "vectors",
	  .type = KEY_UINT,
	  .min = 1,
	  .max = 0xffff,
	  .help = "of NVMe: interrupts of each VF; without it an equal share" },
	{ .name = NULL },
};

static const struct device_key set_keys[] = {
	{ .name = "mac",
	  .type = KEY_STRING,
	  .help = "its address, from the next start of its driver" },
	{ .name = "vlan",
	  .type = KEY_UINT,
	  .max = 4094,
	  .help = "the VLAN that all of its frames are in, unseen by it; 0 for none" },
	{ .name = "trust",
	  .type = KEY_BOOL,
	  .help = "may it change its address and hear everything?" },
	{ .name = NULL },
};

static const struct command_verb verbs[] = {
	{
		.words = "list",
		.args = "[DEVICE...]",
		.help = "show PCI functions with driver, IOMMU group and VFs, mediated devices, "
			"and "
			"what types of them can be made; a DEVICE is a PCI address, a UUID or a "
			"path "
			"of sysfs",
		.max_args = COMMAND_ANY,
		.options = list_options,
		.complete = "@pci @mdev",
		.run = run_list,
	},
	{
		.words = "bind",
		.args = "FUNCTION...",
		.help = "give functions to VFIO, so that a machine can have them, until unbind or "
			"the "
			"next boot; refused while this machine uses them (a mounted disk, say)",
		.min_args = 1,
		.max_args = COMMAND_ANY,
		.complete = "@pci",
		.run = run_bind,
	},
	{
		.words = "unbind",
		.args = "FUNCTION...",
		.help = "give them back to the drivers that they had; refused while one is open",
		.min_args = 1,
		.max_args = COMMAND_ANY,
		.complete = "@pci",
		.run = run_unbind,
	},
	{
		.words = "vf create",
		.args = "PF N",
		.help = "make N virtual functions (SR-IOV); those of an NVMe controller get queues "
			"and interrupts and come online",
		.min_args = 2,
		.max_args = 2,
		.options = create_options,
		.keys = create_keys,
		.complete = "@pci",
		.run = vfio_run_vf_create,
	},
	{
		.words = "vf destroy",
		.args = "PF",
		.help = "take all of its virtual functions apart; refused while one is in use",
		.min_args = 1,
		.max_args = 1,
		.complete = "@pci",
		.run = vfio_run_vf_destroy,
	},
	{
		.words = "vf set",
		.args = "PF I KEY=VALUE...",
		.help = "set up virtual function number I, from 0, of a network card",
		.min_args = 2,
		.max_args = 2,
		.keys = set_keys,
		.complete = "@pci",
		.run = vfio_run_vf_set,
	},
	{
		.words = "mdev create",
		.args = "PARENT TYPE [UUID]",
		.help = "make a mediated device of a type that list shows, and print its UUID",
		.min_args = 2,
		.max_args = 3,
		.run = vfio_run_mdev_create,
	},
	{
		.words = "mdev destroy",
		.args = "UUID",
		.help = "take it apart; refused while it is open",
		.min_args = 1,
		.max_args = 1,
		.complete = "@mdev",
		.run = vfio_run_mdev_destroy,
	},
	{ .words = NULL },
};

const struct command command_vfio = {
	.name = "vfio",
	.summary = "show and prepare host devices for passthrough: binding, SR-IOV functions, "
		   "mediated devices",
	.verb = verbs,
};
