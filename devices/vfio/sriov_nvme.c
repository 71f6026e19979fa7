/*
 * Resources of NVMe VFs: see sriov.h. NVM Express Base Specification 2.0, 8.26 (virtualization
 * enhancements): a primary controller hands flexible queue pairs (VQ) and interrupts (VI) out to
 * secondary controllers, one for each VF, and takes them on- and offline. Identify CNS 14h
 * (5.17.2.12) and 15h (5.17.2.13), Virtualization Management command (5.28).
 */
#include <dirent.h>
#include <errno.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vfio/sriov.h"
#include "vmm/log.h"

#define OPCODE_IDENTIFY 0x06
#define OPCODE_VIRT	0x1c
#define TIMEOUT_MS	30000

#define CNS_CONTROLLER 0x01
#define CNS_PRIMARY    0x14
#define CNS_SECONDARY  0x15

#define OACS_VIRTUALIZATION (1u << 7)

enum action { SECONDARY_OFFLINE = 7, SECONDARY_ASSIGN = 8, SECONDARY_ONLINE = 9 };
enum resource { VQ, VI };

#define SECONDARY_MAX 127 /* entries of one list */

struct secondary {
	uint16_t id;
	bool online;
	uint16_t vf; /* from 1; 0: it is no VF */
	uint16_t queues, vectors;
};

struct flexible {
	uint32_t total, assigned;
	uint16_t primary, max_each, granularity;
};

static uint16_t le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

/* ---- commands -------------------------------------------------------------------------------- */

static int failed(const char *controller, int result, const char *what, struct error *e)
{
	if (result == -EACCES || result == -EPERM)
		return error_set_errno(e, result, "cannot %s through /dev/%s: this needs root",
				       what, controller);
	if (result < 0) {
		error_set_errno(e, result, "cannot %s through /dev/%s", what, controller);
		return result == -EINVAL ? -EIO : result;
	}
	return error_set(e, -EIO, "the controller %s refused to %s (NVMe status 0x%x)", controller,
			 what, (unsigned)result & 0x7ff);
}

static int identify(const struct vfio_host *host, const char *controller, unsigned cns,
		    uint8_t page[4096], struct error *e)
{
	struct nvme_passthru_cmd cmd = {
		.opcode = OPCODE_IDENTIFY,
		.addr = (uintptr_t)page,
		.data_len = 4096,
		.cdw10 = cns,
		.timeout_ms = TIMEOUT_MS,
	};
	int result;

	memset(page, 0, 4096);
	result = host->nvme_admin(host, controller, &cmd);
	return result ? failed(controller, result, "tell of its resources", e) : 0;
}

static int manage(const struct vfio_host *host, const char *controller, enum action action,
		  enum resource resource, unsigned id, unsigned count, struct error *e)
{
	static const char *const names[] = {
		[SECONDARY_OFFLINE] = "take a VF offline",
		[SECONDARY_ASSIGN] = "give a VF its resources",
		[SECONDARY_ONLINE] = "bring a VF online",
	};
	struct nvme_passthru_cmd cmd = {
		.opcode = OPCODE_VIRT,
		.cdw10 = id << 16 | (uint32_t)resource << 8 | (uint32_t)action,
		.cdw11 = count,
		.timeout_ms = TIMEOUT_MS,
	};
	int result = host->nvme_admin(host, controller, &cmd);

	return result ? failed(controller, result, names[action], e) : 0;
}

/* ---- what there is --------------------------------------------------------------------------- */

/* PATH/nvme/nvme0: the controller of a function. */
static bool controller_of(const struct vfio_node *pf, char *name)
{
	char path[VFIO_PATH_MAX + 8];
	struct dirent *d;
	DIR *dir;

	*name = '\0';
	if (vfio_path(path, sizeof(path), pf->path, "/nvme"))
		return false;
	dir = opendir(path);
	if (!dir)
		return false;
	while ((d = readdir(dir)))
		if (strncmp(d->d_name, "nvme", 4) == 0 && strlen(d->d_name) < VFIO_NAME_MAX)
			memcpy(name, d->d_name, strlen(d->d_name) + 1);
	closedir(dir);
	return *name;
}

bool vfio_nvme_manages(const struct vfio_host *host, const struct vfio_node *pf, char *controller)
{
	uint8_t page[4096];
	struct error ignored;

	return controller_of(pf, controller) &&
	       identify(host, controller, CNS_CONTROLLER, page, &ignored) == 0 &&
	       (le16(page + 256) & OACS_VIRTUALIZATION);
}

static int secondaries(const struct vfio_host *host, const char *controller,
		       struct secondary out[SECONDARY_MAX], unsigned *count, struct error *e)
{
	uint8_t page[4096];
	int err = identify(host, controller, CNS_SECONDARY, page, e);

	if (err)
		return err;
	*count = page[0] < SECONDARY_MAX ? page[0] : SECONDARY_MAX;
	for (unsigned i = 0; i < *count; i++) {
		const uint8_t *entry = page + 32 + i * 32;

		out[i] = (struct secondary){
			.id = le16(entry),
			.online = entry[4] & 1,
			.vf = le16(entry + 8),
			.queues = le16(entry + 10),
			.vectors = le16(entry + 12),
		};
	}
	return 0;
}

/* Queue fields begin at byte 32 of the page, those of interrupts at 64. */
static struct flexible flexible(const uint8_t *page, enum resource resource)
{
	const uint8_t *p = page + (resource == VQ ? 32 : 64);

	return (struct flexible){
		.total = le32(p),
		.assigned = le32(p + 4),
		.primary = le16(p + 8),
		.max_each = le16(p + 12),
		.granularity = le16(p + 14),
	};
}

/* How many of a resource each of count VFs gets. */
static int share_of(const struct flexible *f, unsigned count, unsigned wanted, unsigned least,
		    const char *what, unsigned *out, struct error *e)
{
	uint64_t taken = (uint64_t)f->assigned + f->primary;
	uint64_t left = f->total > taken ? f->total - taken : 0;
	uint64_t each = wanted ? wanted : left / count;

	if (!wanted && f->max_each && each > f->max_each)
		each = f->max_each;
	if (!wanted && f->granularity > 1 && each > f->granularity)
		each -= each % f->granularity;
	if (each > 0xffff)
		each = 0xffff;
	if (each < least || each * count > left)
		return error_set(
			e, -ENOSPC,
			"of its %u flexible %s %u are free, too few for %u VFs with %u each; "
			"make fewer VFs%s",
			f->total, what, (unsigned)left, count,
			(unsigned)(each < least ? least : each),
			f->primary ? ", or take them from the controller itself (nvme "
				     "virt-mgmt -a 1)"
				   : "");
	if (f->max_each && each > f->max_each)
		return error_set(e, -ERANGE, "a VF can have %u %s at most, not %u", f->max_each,
				 what, (unsigned)each);
	*out = (unsigned)each;
	return 0;
}

/* ---- giving and taking ----------------------------------------------------------------------- */

void vfio_nvme_reclaim(const struct vfio_host *host, const char *controller)
{
	struct secondary list[SECONDARY_MAX];
	struct error e;
	unsigned count;
	int err = secondaries(host, controller, list, &count, &e);

	for (unsigned i = 0; !err && i < count; i++) {
		if (list[i].online || !list[i].vf)
			continue;
		if (list[i].queues)
			err = manage(host, controller, SECONDARY_ASSIGN, VQ, list[i].id, 0, &e);
		if (!err && list[i].vectors)
			err = manage(host, controller, SECONDARY_ASSIGN, VI, list[i].id, 0, &e);
	}
	if (err)
		log_warn("resources of VFs stay with them: %s", e.msg);
}

static int bring_up_one(const struct vfio_host *host, const char *controller,
			const struct vfio_node *vf, const struct secondary *s,
			const struct vfio_nvme_share *share, struct error *e)
{
	int err = 0;

	if (s->online)
		err = manage(host, controller, SECONDARY_OFFLINE, VQ, s->id, 0, e);
	if (!err)
		err = manage(host, controller, SECONDARY_ASSIGN, VQ, s->id, share->queues, e);
	if (!err)
		err = manage(host, controller, SECONDARY_ASSIGN, VI, s->id, share->vectors, e);
	/* What was given counts from the next reset of the function. */
	if (!err)
		err = vfio_host_write(host, vf->path, "reset", "1", e);
	if (!err)
		err = manage(host, controller, SECONDARY_ONLINE, VQ, s->id, 0, e);
	if (err)
		error_prefix(e, "VF %d (%s): ", vf->vf_index, vf->name);
	return err;
}

int vfio_nvme_bring_up(const struct vfio_host *host, const char *controller,
		       const struct vfio_node *vf, unsigned count,
		       const struct vfio_nvme_share *share, struct error *e)
{
	struct secondary list[SECONDARY_MAX];
	struct flexible queues, vectors;
	struct vfio_nvme_share each;
	uint8_t page[4096];
	unsigned n = 0;
	int err = identify(host, controller, CNS_PRIMARY, page, e);

	if (!err)
		err = secondaries(host, controller, list, &n, e);
	if (err)
		return err;
	queues = flexible(page, VQ);
	vectors = flexible(page, VI);
	/* An admin queue and one for I/O; one interrupt does for both. */
	err = share_of(&queues, count, share->queues, 2, "queue pairs", &each.queues, e);
	if (!err)
		err = share_of(&vectors, count, share->vectors, 1, "interrupts", &each.vectors, e);
	for (unsigned i = 0; i < count && !err; i++) {
		unsigned k;

		for (k = 0; k < n && list[k].vf != (unsigned)vf[i].vf_index + 1;)
			k++;
		if (k == n)
			return error_set(e, -EIO,
					 "the controller %s has no secondary controller for VF %d",
					 controller, vf[i].vf_index);
		err = bring_up_one(host, controller, &vf[i], &list[k], &each, e);
	}
	return err;
}
