/*
 * Making and destroying VFs: see sriov.h. Linux, Documentation/PCI/pci-iov-howto.rst;
 * sriov_numvfs takes 0 or, coming from 0, any number up to sriov_totalvfs.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/vfio/sriov.h"
#include "devices/vfio/state.h"
#include "devices/vfio/use.h"
#include "vmm/log.h"

static int prefixed(const struct vfio_node *pf, int err, struct error *e)
{
	if (err)
		error_prefix(e, "%s: ", pf->name);
	return err;
}

static int write_count(const struct vfio_host *host, struct vfio_node *pf, unsigned count,
		       struct error *e)
{
	char text[16];
	int err;

	snprintf(text, sizeof(text), "%u", count);
	err = vfio_host_write(host, pf->path, "sriov_numvfs", text, e);
	return err ? err : vfio_node_refresh(host->root, pf, e);
}

static int write_autoprobe(const struct vfio_host *host, const struct vfio_node *pf, bool on,
			   struct error *e)
{
	return vfio_host_write(host, pf->path, "sriov_drivers_autoprobe", on ? "1" : "0", e);
}

/* ---- create ---------------------------------------------------------------------------------- */

static int may_create(const struct vfio_node *pf, unsigned count, struct error *e)
{
	if (pf->pf[0])
		return error_set(e, -EOPNOTSUPP, "it is a VF itself, of %s; VFs are made of that",
				 pf->pf);
	if (!pf->totalvfs)
		return error_set(e, -EOPNOTSUPP,
				 "it has no SR-IOV; mvm vfio list shows who has (VFS)");
	if (count < 1 || count > pf->totalvfs)
		return error_set(e, -ERANGE, "it can have 1 to %u VFs, not %u", pf->totalvfs,
				 count);
	if (pf->numvfs && pf->numvfs != count)
		return error_set(
			e, -EBUSY,
			"it has %u VFs, and the kernel changes their number only from none; "
			"mvm vfio vf destroy %s first",
			pf->numvfs, pf->name);
	if (!pf->driver[0])
		return error_set(
			e, -ENODEV,
			"it has no driver, which SR-IOV needs; give it one: mvm vfio unbind "
			"%s, or modprobe its driver",
			pf->name);
	if (vfio_is_vfio_driver(pf->driver))
		return error_set(
			e, -EBUSY,
			"%s has it, so its own driver cannot look after VFs; mvm vfio unbind "
			"%s first",
			pf->driver, pf->name);
	return 0;
}

/* Lets the kernel find drivers for the VFs, as it would have done by itself. */
static void probe(const struct vfio_host *host, const struct vfio_node *vf, unsigned count)
{
	char path[VFIO_PATH_MAX];
	struct error e;

	if (vfio_path(path, sizeof(path), host->root, "/sys/bus/pci"))
		return;
	for (unsigned i = 0; i < count; i++)
		if (!vf[i].driver[0] &&
		    vfio_host_write(host, path, "drivers_probe", vf[i].name, &e))
			log_warn("%s got no driver: %s", vf[i].name, e.msg);
}

/* NVMe: no driver may see a VF before it is online. */
static int create_nvme(const struct vfio_host *host, struct vfio_node *pf, unsigned count,
		       const char *controller, const struct vfio_nvme_share *share, struct error *e)
{
	struct vfio_node *vf = NULL;
	unsigned found = 0;
	struct error ignored;
	uint64_t autoprobe;
	int err, undo;

	if (vfio_read_number(pf->path, "sriov_drivers_autoprobe", 1, &autoprobe))
		autoprobe = 1;
	vfio_nvme_reclaim(host, controller);
	err = write_autoprobe(host, pf, false, e);
	if (err)
		return err;
	err = write_count(host, pf, count, e);
	if (!err)
		err = vfio_node_vfs(host->root, pf, &vf, &found, e);
	if (!err && found != count)
		err = error_set(e, -EIO, "the kernel made %u VFs, not %u", found, count);
	if (!err)
		err = vfio_nvme_bring_up(host, controller, vf, count, share, e);
	if (err) {
		undo = write_count(host, pf, 0, &ignored);
		if (undo)
			log_warn("%s: VFs are left: %s", pf->name, ignored.msg);
		vfio_nvme_reclaim(host, controller);
	}
	if (write_autoprobe(host, pf, autoprobe, &ignored))
		log_warn("%s", ignored.msg);
	if (!err && autoprobe)
		probe(host, vf, count);
	free(vf);
	return err;
}

static int create_locked(const struct vfio_host *host, struct vfio_node *pf, unsigned count,
			 const struct vfio_nvme_share *share, struct error *e)
{
	char controller[VFIO_NAME_MAX];
	int err = may_create(pf, count, e);

	if (err || pf->numvfs == count)
		return err;
	if (vfio_nvme_manages(host, pf, controller))
		return create_nvme(host, pf, count, controller, share, e);
	if (share->queues || share->vectors)
		return error_set(e, -EOPNOTSUPP,
				 "queues and vectors are for NVMe controllers with virtualization "
				 "management");
	err = write_count(host, pf, count, e);
	if (err == -ENOENT)
		err = error_set(e, err, "its driver %s knows no SR-IOV", pf->driver);
	return err;
}

int vfio_vf_create(const struct vfio_host *host, struct vfio_node *pf, unsigned count,
		   const struct vfio_nvme_share *share, struct error *e)
{
	int lock, err = vfio_state_lock(host, &lock, e);

	if (err)
		return prefixed(pf, err, e);
	err = vfio_node_refresh(host->root, pf, e);
	if (!err)
		err = prefixed(pf, create_locked(host, pf, count, share, e), e);
	close(lock);
	return err;
}

/* ---- destroy --------------------------------------------------------------------------------- */

/* An interface of the VF that is up. */
static bool is_up(const struct vfio_node *vf, char *name, size_t size)
{
	char path[2 * VFIO_PATH_MAX];
	uint64_t flags;

	return vfio_net_interface(vf, name, size) == 0 &&
	       vfio_path(path, sizeof(path), vf->path, "/net/%s", name) == 0 &&
	       vfio_read_number(path, "flags", UINT32_MAX, &flags) == 0 && (flags & 1); /* IFF_UP */
}

static int may_destroy(const struct vfio_host *host, const struct vfio_node *vf, struct error *e)
{
	struct vfio_record record;
	char text[320];

	if (vfio_opened(host, vf, text, sizeof(text)))
		return error_set(e, -EBUSY, "VF %d (%s) is in use: %s has it open; end that first",
				 vf->vf_index, vf->name, text);
	if (vfio_state_read(host, vf->name, &record) == 0 && vfio_state_owned(host, &record))
		return error_set(e, -EBUSY, "VF %d (%s) is in use by mvm (pid %d); end that first",
				 vf->vf_index, vf->name, (int)record.pid);
	if (vfio_host_uses(host, vf, text, sizeof(text)))
		return error_set(e, -EBUSY, "VF %d (%s) is in use: %s", vf->vf_index, vf->name,
				 text);
	if (is_up(vf, text, sizeof(text)))
		return error_set(
			e, -EBUSY,
			"VF %d (%s) is in use: its interface %s is up; ip link set %s down "
			"first",
			vf->vf_index, vf->name, text, text);
	return 0;
}

static int destroy_locked(const struct vfio_host *host, struct vfio_node *pf, struct error *e)
{
	char controller[VFIO_NAME_MAX];
	struct vfio_node *vf;
	unsigned count;
	bool nvme;
	int err;

	if (!pf->totalvfs)
		return error_set(e, -EOPNOTSUPP, "it has no SR-IOV%s%s",
				 pf->pf[0] ? ": a VF of " : "", pf->pf);
	if (!pf->numvfs)
		return 0;
	err = vfio_node_vfs(host->root, pf, &vf, &count, e);
	if (err)
		return err;
	for (unsigned i = 0; i < count && !err; i++)
		err = may_destroy(host, &vf[i], e);
	nvme = vfio_nvme_manages(host, pf, controller);
	if (!err)
		err = write_count(host, pf, 0, e);
	if (!err && nvme)
		vfio_nvme_reclaim(host, controller);
	for (unsigned i = 0; i < count && !err; i++)
		vfio_state_remove(host, vf[i].name);
	free(vf);
	return err;
}

int vfio_vf_destroy(const struct vfio_host *host, struct vfio_node *pf, struct error *e)
{
	int lock, err = vfio_state_lock(host, &lock, e);

	if (err)
		return prefixed(pf, err, e);
	err = vfio_node_refresh(host->root, pf, e);
	if (!err)
		err = prefixed(pf, destroy_locked(host, pf, e), e);
	close(lock);
	return err;
}

/* ---- set ------------------------------------------------------------------------------------- */

int vfio_net_interface(const struct vfio_node *pf, char *name, size_t size)
{
	char path[VFIO_PATH_MAX + 8];
	struct dirent *d;
	DIR *dir;

	*name = '\0';
	if (vfio_path(path, sizeof(path), pf->path, "/net"))
		return -ENODEV;
	dir = opendir(path);
	if (!dir)
		return -ENODEV;
	/* Of several (ports of one function) the first by name. */
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.' && strlen(d->d_name) < size &&
		    (!*name || strcmp(d->d_name, name) < 0))
			memcpy(name, d->d_name, strlen(d->d_name) + 1);
	closedir(dir);
	return *name ? 0 : -ENODEV;
}

static int set(const struct vfio_node *pf, unsigned index, const struct vfio_vf_net *want,
	       struct error *e)
{
	char interface[16];

	if (!pf->totalvfs)
		return error_set(e, -EOPNOTSUPP, "it has no SR-IOV%s%s",
				 pf->pf[0] ? ": a VF of " : "", pf->pf);
	if (!pf->numvfs)
		return error_set(
			e, -ERANGE,
			"it has 0 VFs, so there is no VF %u; mvm vfio vf create %s N makes "
			"some",
			index, pf->name);
	if (index >= pf->numvfs)
		return error_set(e, -ERANGE, "it has VFs 0 to %u, so there is no VF %u",
				 pf->numvfs - 1, index);
	if (vfio_net_interface(pf, interface, sizeof(interface)))
		return error_set(
			e, -ENODEV,
			"it has no network interface%s%s; MAC, VLAN and trust are set through "
			"that of the PF",
			pf->driver[0] ? " by its driver " : " (no driver)", pf->driver);
	return vfio_net_vf_set(interface, index, want, e);
}

int vfio_vf_set(const struct vfio_host *host, const struct vfio_node *pf, unsigned index,
		const struct vfio_vf_net *want, struct error *e)
{
	(void)host;
	return prefixed(pf, set(pf, index, want, e), e);
}

bool vfio_parse_mac(const char *text, uint8_t mac[6])
{
	unsigned byte[6];
	int end = 0;

	if (strlen(text) != 17 || strspn(text, "0123456789abcdefABCDEF:") != 17 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &byte[0], &byte[1], &byte[2], &byte[3],
		   &byte[4], &byte[5], &end) != 6 ||
	    end != 17)
		return false;
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)byte[i];
	return !(mac[0] & 1) && memcmp(mac, "\0\0\0\0\0\0", 6) != 0;
}
