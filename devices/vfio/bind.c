/*
 * Binding by driver_override: see bind.h. Linux, Documentation/ABI/testing/sysfs-bus-pci: a driver
 * named there is the only one that the function may have; drivers_probe makes the kernel look.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/vfio/bind.h"
#include "devices/vfio/state.h"
#include "devices/vfio/use.h"
#include "vmm/log.h"

#define VFIO_DRIVER "vfio-pci"

static int drivers_path(const struct vfio_host *host, const char *driver, char path[VFIO_PATH_MAX])
{
	return vfio_path(path, VFIO_PATH_MAX, host->root, "/sys/bus/pci/drivers/%s", driver);
}

static bool have_driver(const struct vfio_host *host, const char *driver)
{
	char path[VFIO_PATH_MAX];
	struct stat st;

	return drivers_path(host, driver, path) == 0 && stat(path, &st) == 0;
}

/* ---- single steps ---------------------------------------------------------------------------- */

static int set_override(const struct vfio_host *host, const struct vfio_node *node,
			const char *driver, struct error *e)
{
	char text[VFIO_NAME_MAX + 1];

	snprintf(text, sizeof(text), "%s\n", driver); /* an empty line clears it */
	return vfio_host_write(host, node->path, "driver_override", text, e);
}

static int take_driver_away(const struct vfio_host *host, struct vfio_node *node, struct error *e)
{
	char path[VFIO_PATH_MAX];
	int err;

	if (!node->driver[0])
		return 0;
	err = drivers_path(host, node->driver, path);
	if (err)
		return error_set_errno(e, err, "driver %s", node->driver);
	err = vfio_host_write(host, path, "unbind", node->name, e);
	return err ? err : vfio_node_refresh(host->root, node, e);
}

/* Lets the kernel look for the driver that the function may have now. */
static int probe(const struct vfio_host *host, struct vfio_node *node, struct error *e)
{
	char path[VFIO_PATH_MAX];
	int err = vfio_path(path, sizeof(path), host->root, "/sys/bus/pci");

	if (!err)
		err = vfio_host_write(host, path, "drivers_probe", node->name, e);
	return err ? err : vfio_node_refresh(host->root, node, e);
}

/* To what the record says, from whatever it has now. */
static int put_back(const struct vfio_host *host, struct vfio_node *node,
		    const struct vfio_record *record, struct error *e)
{
	char path[VFIO_PATH_MAX];
	int err;

	if (vfio_is_vfio_driver(node->driver) && strcmp(node->driver, record->driver) != 0) {
		err = take_driver_away(host, node, e);
		if (err)
			return err;
	}
	err = set_override(host, node, record->override, e);
	if (err || node->driver[0] || !record->driver[0])
		return err;
	if (!have_driver(host, record->driver))
		host->load(host, record->driver);
	if (!have_driver(host, record->driver))
		return error_set(
			e, -ENOENT,
			"its driver %s is not there any more; load it (modprobe %s) and try "
			"again",
			record->driver, record->driver);
	err = drivers_path(host, record->driver, path);
	if (!err)
		err = vfio_host_write(host, path, "bind", node->name, e);
	return err ? err : vfio_node_refresh(host->root, node, e);
}

/* ---- bind ------------------------------------------------------------------------------------ */

/* May it be taken from the driver it has? */
static int may_take(const struct vfio_host *host, const struct vfio_node *node, struct error *e)
{
	char how[320];

	if (node->numvfs)
		return error_set(
			e, -EBUSY,
			"it has %u VFs, which would go with its driver; give one of them to "
			"the guest, or mvm vfio vf destroy %s first",
			node->numvfs, node->name);
	if (vfio_host_uses(host, node, how, sizeof(how)))
		return error_set(e, -EBUSY, "%s", how);
	if (node->class_code >> 16 == 0x06)
		return error_set(e, -EOPNOTSUPP,
				 "it is a bridge; VFIO does not take those, and its group does not "
				 "need it to");
	if (node->group < 0)
		return error_set(e, -ENXIO,
				 "it has no IOMMU group: is the IOMMU on? (firmware set-up; Intel: "
				 "intel_iommu=on on the kernel's command line)");
	return 0;
}

static int need_vfio_driver(const struct vfio_host *host, struct error *e)
{
	if (have_driver(host, VFIO_DRIVER))
		return 0;
	host->load(host, VFIO_DRIVER);
	if (have_driver(host, VFIO_DRIVER))
		return 0;
	return error_set(e, -ENOENT, "this kernel has no driver %s; load it: modprobe %s (as root)",
			 VFIO_DRIVER, VFIO_DRIVER);
}

static int give_to_vfio(const struct vfio_host *host, struct vfio_node *node, struct error *e)
{
	int err = set_override(host, node, VFIO_DRIVER, e);

	if (!err)
		err = take_driver_away(host, node, e);
	if (!err)
		err = probe(host, node, e);
	if (!err && !vfio_is_vfio_driver(node->driver))
		err = error_set(e, -EIO, "%s did not take it; the kernel's log may say why",
				VFIO_DRIVER);
	return err;
}

/* What it is to get back. Somebody who ended between taking its driver and giving it to VFIO has
 * noted that already. */
static void note_former(const struct vfio_host *host, const struct vfio_node *node,
			struct vfio_record *record)
{
	const char *driver = node->driver, *override = node->override;
	struct vfio_record former;

	if (!*driver && vfio_state_read(host, node->name, &former) == 0) {
		driver = former.driver;
		override = former.override;
	} else if (strcmp(override, VFIO_DRIVER) == 0) {
		override = "";
	}
	snprintf(record->name, sizeof(record->name), "%s", node->name);
	snprintf(record->driver, sizeof(record->driver), "%s", driver);
	snprintf(record->override, sizeof(record->override), "%s", override);
}

/* The lock is held; the record's owner is filled in. */
static int bind_locked(const struct vfio_host *host, struct vfio_node *node,
		       struct vfio_record *record, struct error *e)
{
	struct error ignored;
	int err = may_take(host, node, e);

	if (!err)
		err = need_vfio_driver(host, e);
	if (err)
		return err;
	note_former(host, node, record);
	err = vfio_state_write(host, record, e);
	if (err)
		return err;
	err = give_to_vfio(host, node, e);
	if (!err)
		return 0;
	vfio_node_refresh(host->root, node, &ignored);
	if (put_back(host, node, record, &ignored) == 0)
		vfio_state_remove(host, node->name);
	else
		log_warn("%s: %s", node->name, ignored.msg);
	return err;
}

static int prefixed(const struct vfio_node *node, int err, struct error *e)
{
	if (err)
		error_prefix(e, "%s: ", node->name);
	return err;
}

int vfio_bind(const struct vfio_host *host, struct vfio_node *node, struct error *e)
{
	struct vfio_record record;
	int lock, err = vfio_node_refresh(host->root, node, e);

	if (err)
		return err;
	err = vfio_state_lock(host, &lock, e);
	if (err)
		return prefixed(node, err, e);
	if (vfio_is_vfio_driver(node->driver)) {
		/* What an owner would put back at its end, stays now. */
		if (vfio_state_read(host, node->name, &record) == 0 && record.pid) {
			record.pid = 0;
			record.start = 0;
			err = vfio_state_write(host, &record, e);
		}
	} else {
		record = (struct vfio_record){ .pid = 0 };
		err = bind_locked(host, node, &record, e);
	}
	close(lock);
	return prefixed(node, err, e);
}

/* ---- unbind ---------------------------------------------------------------------------------- */

static int unbind_locked(const struct vfio_host *host, struct vfio_node *node,
			 const struct vfio_record *record, struct error *e)
{
	char who[VFIO_NAME_MAX];
	int err;

	/* An mvm that is about to open it, or has just closed it. */
	if (record && record->pid != getpid() && vfio_state_owned(host, record))
		return error_set(e, -EBUSY, "mvm (pid %d) has it; end that first",
				 (int)record->pid);
	if (vfio_is_vfio_driver(node->driver)) {
		if (vfio_opened(host, node, who, sizeof(who)))
			return error_set(e, -EBUSY, "%s has it open; end that first", who);
		if (node->numvfs)
			return error_set(
				e, -EBUSY,
				"it has %u VFs, which would go with its driver; mvm vfio vf "
				"destroy %s first",
				node->numvfs, node->name);
	}
	if (record) {
		err = put_back(host, node, record, e);
	} else {
		err = take_driver_away(host, node, e);
		if (!err)
			err = set_override(host, node, "", e);
		if (!err)
			err = probe(host, node, e);
	}
	if (!err)
		vfio_state_remove(host, node->name);
	return err;
}

int vfio_unbind(const struct vfio_host *host, struct vfio_node *node, struct error *e)
{
	struct vfio_record record;
	bool known;
	int lock, err = vfio_node_refresh(host->root, node, e);

	if (err)
		return err;
	err = vfio_state_lock(host, &lock, e);
	if (err)
		return prefixed(node, err, e);
	known = vfio_state_read(host, node->name, &record) == 0;
	if (known || vfio_is_vfio_driver(node->driver))
		err = unbind_locked(host, node, known ? &record : NULL, e);
	close(lock);
	return prefixed(node, err, e);
}

/* ---- auto-bind ------------------------------------------------------------------------------- */

/* The lock is held. Records of owners that live, or of none, are not touched. */
static unsigned recover_locked(const struct vfio_host *host, const char *except)
{
	struct vfio_record *record;
	unsigned count, done = 0;

	if (vfio_state_list(host, &record, &count))
		return 0;
	for (unsigned i = 0; i < count; i++) {
		struct vfio_node node = { .kind = VFIO_PCI };
		struct error e;

		if (!record[i].pid || vfio_state_owned(host, &record[i]) ||
		    (except && strcmp(record[i].name, except) == 0))
			continue;
		memcpy(node.name, record[i].name, sizeof(node.name));
		if (vfio_node_refresh(host->root, &node, &e) == -ENODEV)
			vfio_state_remove(host, node.name);
		else if (unbind_locked(host, &node, &record[i], &e) == 0)
			done++;
		else
			log_warn("%s was left bound by an mvm that crashed: %s", node.name, e.msg);
	}
	free(record);
	return done;
}

unsigned vfio_autobind_recover(const struct vfio_host *host)
{
	struct error e;
	unsigned done;
	int lock;

	if (vfio_state_lock(host, &lock, &e))
		return 0;
	done = recover_locked(host, NULL);
	close(lock);
	return done;
}

/* Others of the group that would keep it from being used: say so before anything is changed. */
static int group_allows(const struct vfio_host *host, const struct vfio_node *node, struct error *e)
{
	struct vfio_group group;
	char blockers[512];
	int err;

	if (node->group < 0)
		return 0; /* said elsewhere */
	err = vfio_group_read(host->root, node->group, &group, e);
	if (err)
		return err;
	for (unsigned i = 0; i < group.count; i++)
		if (strcmp(group.member[i].name, node->name) == 0)
			group.member[i].driver[0] = '\0';
	vfio_group_blockers(&group, blockers, sizeof(blockers));
	vfio_group_free(&group);
	if (!*blockers)
		return 0;
	return error_set(e, -EBUSY,
			 "others of its IOMMU group %d have drivers: %s; free them with: mvm vfio "
			 "bind",
			 node->group, blockers);
}

static int acquire_locked(const struct vfio_host *host, struct vfio_node *node,
			  struct vfio_autobind *out, struct error *e)
{
	bool ours = vfio_is_vfio_driver(node->driver);
	struct vfio_record record;
	char who[VFIO_NAME_MAX];
	bool known = vfio_state_read(host, node->name, &record) == 0;
	int err;

	if (known && record.pid != getpid() && vfio_state_owned(host, &record))
		return error_set(e, -EBUSY, "another mvm (pid %d) has it", (int)record.pid);
	if (ours && vfio_opened(host, node, who, sizeof(who)))
		return error_set(e, -EBUSY, "%s has it open", who);
	if (ours && !(known && record.pid))
		return 0; /* bound by hand: it stays */
	err = group_allows(host, node, e);
	if (err)
		return err;
	if (!ours) {
		record = (struct vfio_record){ .pid = 0 };
		known = false;
	}
	err = vfio_state_own(host, &record);
	if (err)
		return error_set_errno(e, err, "cannot read /proc/%d/stat", (int)getpid());
	err = known ? vfio_state_write(host, &record, e) : bind_locked(host, node, &record, e);
	if (!err)
		memcpy(out->name, node->name, sizeof(out->name));
	return err;
}

int vfio_autobind_acquire(const struct vfio_host *host, struct vfio_node *node,
			  struct vfio_autobind *out, struct error *e)
{
	int lock, err;

	out->name[0] = '\0';
	if (node->kind != VFIO_PCI)
		return 0; /* a mediated device has VFIO's driver from the beginning */
	err = vfio_state_lock(host, &lock, e);
	if (err)
		return prefixed(node, err, e);
	recover_locked(host, node->name);
	err = vfio_node_refresh(host->root, node, e);
	if (!err)
		err = prefixed(node, acquire_locked(host, node, out, e), e);
	close(lock);
	return err;
}

void vfio_autobind_release(const struct vfio_host *host, struct vfio_autobind *held)
{
	struct vfio_node node = { .kind = VFIO_PCI };
	struct vfio_record record;
	struct error e;
	int lock, err;

	if (!held->name[0])
		return;
	memcpy(node.name, held->name, sizeof(node.name));
	held->name[0] = '\0';
	err = vfio_state_lock(host, &lock, &e);
	if (err) {
		log_warn("%s: %s", node.name, e.msg);
		return;
	}
	/* A record that is not ours any more is another's to look after. */
	if (vfio_state_read(host, node.name, &record) == 0 && record.pid == getpid()) {
		err = vfio_node_refresh(host->root, &node, &e);
		if (!err)
			err = unbind_locked(host, &node, &record, &e);
		if (err == -ENODEV)
			vfio_state_remove(host, node.name);
		if (err)
			log_warn("%s could not be put back: %s; mvm vfio unbind %s does it",
				 node.name, e.msg, node.name);
	}
	close(lock);
}
