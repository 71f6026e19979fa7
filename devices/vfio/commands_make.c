/*
 * The verbs of `mvm vfio` that make devices and take them apart: see commands.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vfio/commands.h"
#include "devices/vfio/mdev.h"
#include "devices/vfio/sriov.h"
#include "vmm/json.h"
#include "vmm/options_internal.h"

/* ---- virtual functions ----------------------------------------------------------------------- */

static int find_pf(const char *target, struct vfio_node *pf, struct error *e)
{
	int err = vfio_node_find(vfio_this_host.root, target, pf, e);

	if (!err && pf->kind != VFIO_PCI)
		err = error_set(e, -EINVAL, "%s is a mediated device, not a PCI function",
				pf->name);
	return err;
}

static int take_count(const char *text, const char *what, unsigned *out, struct error *e)
{
	uint64_t n;
	int err = option_parse_uint(text, &n, e);

	if (!err && n > 0xffff)
		err = error_set(e, -EINVAL, "\"%.60s\" is too many", text);
	if (err)
		error_prefix(e, "%s: ", what);
	else
		*out = (unsigned)n;
	return err;
}

static void print_vfs(const struct vfio_node *pf, const struct vfio_node *vf, unsigned count,
		      bool json, FILE *out)
{
	struct json j = { .out = out };

	if (json) {
		json_open(&j, NULL, '{');
		json_string(&j, "pf", pf->name);
		json_open(&j, "vfs", '[');
		for (unsigned i = 0; i < count; i++) {
			json_open(&j, NULL, '{');
			json_i64(&j, "index", vf[i].vf_index);
			json_string(&j, "address", vf[i].name);
			json_string(&j, "driver", vf[i].driver[0] ? vf[i].driver : NULL);
			json_close(&j, '}');
		}
		json_close(&j, ']');
		json_close(&j, '}');
		return;
	}
	for (unsigned i = 0; i < count; i++)
		fprintf(out, "%s: VF %d of %s, %s\n", vf[i].name, vf[i].vf_index, pf->name,
			vf[i].driver[0] ? vf[i].driver : "no driver");
}

int vfio_run_vf_create(const struct command_call *call, struct error *e)
{
	const struct vfio_nvme_share share = {
		.queues = (unsigned)command_key(call, "queues")->number,
		.vectors = (unsigned)command_key(call, "vectors")->number,
	};
	struct vfio_node pf, *vf = NULL;
	unsigned count = 0;
	int err = take_count(call->argv[1], "N", &count, e);

	if (!err)
		err = find_pf(call->argv[0], &pf, e);
	if (!err)
		err = vfio_vf_create(&vfio_this_host, &pf, count, &share, e);
	if (!err)
		err = vfio_node_vfs(vfio_this_host.root, &pf, &vf, &count, e);
	if (!err)
		print_vfs(&pf, vf, count, command_option(call, "json")->number, call->out);
	free(vf);
	return err;
}

int vfio_run_vf_destroy(const struct command_call *call, struct error *e)
{
	struct vfio_node pf;
	unsigned had;
	int err = find_pf(call->argv[0], &pf, e);

	if (err)
		return err;
	had = pf.numvfs;
	err = vfio_vf_destroy(&vfio_this_host, &pf, e);
	if (!err)
		fprintf(call->out, "%s: %u VFs gone\n", pf.name, had);
	return err;
}

int vfio_run_vf_set(const struct command_call *call, struct error *e)
{
	const struct device_value *mac = command_key(call, "mac"),
				  *vlan = command_key(call, "vlan");
	const struct device_value *trust = command_key(call, "trust");
	struct vfio_vf_net want = { .has_mac = mac->given,
				    .has_vlan = vlan->given,
				    .vlan = (uint32_t)vlan->number,
				    .has_trust = trust->given,
				    .trust = trust->number };
	struct vfio_node pf;
	unsigned index = 0;
	int err = take_count(call->argv[1], "I", &index, e);

	if (err)
		return err;
	if (!want.has_mac && !want.has_vlan && !want.has_trust)
		return error_set(e, -EINVAL, "what is to be set? mac=, vlan= or trust=");
	if (want.has_mac && !vfio_parse_mac(mac->text, want.mac))
		return error_set(e, -EINVAL,
				 "mac=%.60s is no address of a station; one is 52:54:00:12:34:56",
				 mac->text);
	err = find_pf(call->argv[0], &pf, e);
	return err ? err : vfio_vf_set(&vfio_this_host, &pf, index, &want, e);
}

/* ---- mediated devices ------------------------------------------------------------------------ */

int vfio_run_mdev_create(const struct command_call *call, struct error *e)
{
	struct vfio_node node;
	int err = vfio_mdev_create(&vfio_this_host, call->argv[0], call->argv[1],
				   call->argc > 2 ? call->argv[2] : NULL, &node, e);

	if (!err)
		fprintf(call->out, "%s\n", node.name); /* alone, for scripts */
	return err;
}

int vfio_run_mdev_destroy(const struct command_call *call, struct error *e)
{
	struct vfio_node node;
	int err = vfio_node_find(vfio_this_host.root, call->argv[0], &node, e);

	if (!err)
		err = vfio_mdev_destroy(&vfio_this_host, &node, e);
	if (!err)
		fprintf(call->out, "%s: gone\n", node.name);
	return err;
}
