/*
 * See vfio_fake.h.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/vfio/state.h"
#include "tests/unit/vfio_fake.h"

struct vfio_fake fake;

/* ---- the kernel ------------------------------------------------------------------------------ */

void set_driver(const char *dir, const char *driver)
{
	char path[VFIO_PATH_MAX + 16], target[VFIO_PATH_MAX];

	snprintf(path, sizeof(path), "%s/driver", dir);
	unlink(path);
	if (!driver)
		return;
	snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
	cr_assert_eq(symlink(target, path), 0);
}

static bool is_loaded(const char *driver)
{
	char path[VFIO_PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers/%s", fake.tree.root, driver);
	return *driver && stat(path, &st) == 0;
}

/* The driver that it may have: the override, or the one its ids match (file "natural"). */
static void match(const char *dir, char *driver)
{
	if (vfio_read_text(dir, "driver_override", driver, VFIO_NAME_MAX) <= 0 ||
	    strcmp(driver, "(null)") == 0)
		vfio_read_text(dir, "natural", driver, VFIO_NAME_MAX);
}

/* ---- SR-IOV ---------------------------------------------------------------------------------- */

/* "0000:03:00.0" has VFs 0000:03:10.0 … */
static void vf_name(const char *pf, unsigned i, char *out)
{
	snprintf(out, VFIO_NAME_MAX, "%.8s10.%u", pf, i);
}

static bool is_nvme(const char *name)
{
	return strncmp(name, "0000:03", 7) == 0;
}

/* The kernel's own words: a driver finds what is there at that time. */
static void attach(const char *device, const char *driver)
{
	const char *name = strrchr(device, '/') + 1;

	if (is_nvme(name) && strstr(name, ":10."))
		fake.seen_offline |= !fake.secondary[name[11] - '0'].online;
	set_driver(device, driver);
}

static void remove_vf(const char *pf, unsigned i)
{
	char name[VFIO_NAME_MAX], command[512];

	vf_name(pf, i, name);
	snprintf(command, sizeof(command),
		 "cd %s/sys && rm -rf devices/pci0000:00/%s bus/pci/devices/%s "
		 "devices/pci0000:00/%s/virtfn%u kernel/iommu_groups/*/devices/%s",
		 fake.tree.root, name, name, pf, i, name);
	cr_assert_eq(system(command), 0);
	if (is_nvme(pf))
		fake.secondary[i].online = false;
}

static int make_vfs(const char *dir, unsigned count)
{
	const char *pf = strrchr(dir, '/') + 1;
	char name[VFIO_NAME_MAX], path[VFIO_PATH_MAX], text[16];
	uint64_t had, autoprobe;

	cr_assert_eq(vfio_read_number(dir, "sriov_numvfs", 99, &had), 0);
	cr_assert_eq(vfio_read_number(dir, "sriov_drivers_autoprobe", 1, &autoprobe), 0);
	if (had && count)
		return -EBUSY;
	for (unsigned i = 0; i < had; i++)
		remove_vf(pf, i);
	for (unsigned i = 0; i < count; i++) {
		vf_name(pf, i, name);
		vfio_tree_pci(&fake.tree, name, is_nvme(pf) ? 0x010802 : 0x020000, 0x1b36, 0x0010,
			      NULL, 20 + (int)i);
		snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/natural", name);
		vfio_tree_file(&fake.tree, path, is_nvme(pf) ? "nvme\n" : "igbvf\n");
		vfio_tree_vf(&fake.tree, pf, i, name);
		snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s", fake.tree.root, name);
		if (autoprobe)
			attach(path, is_nvme(pf) ? "nvme" : "igbvf");
	}
	snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/sriov_numvfs", pf);
	snprintf(text, sizeof(text), "%u\n", count);
	vfio_tree_file(&fake.tree, path, text);
	return 0;
}

static int reset_vf(const char *dir)
{
	fake.secondary[dir[strlen(dir) - 1] - '0'].ready = true;
	return 0;
}

void fake_sriov(void)
{
	static const char *const pfs[] = { NVME, NIC };
	char path[128];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/sriov_totalvfs", pfs[i]);
		vfio_tree_file(&fake.tree, path, "4\n");
		snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/sriov_numvfs", pfs[i]);
		vfio_tree_file(&fake.tree, path, "0\n");
		snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/sriov_drivers_autoprobe",
			 pfs[i]);
		vfio_tree_file(&fake.tree, path, "1\n");
	}
	vfio_tree_dir(&fake.tree, PCI(NVME, "nvme/nvme0"));
	vfio_tree_driver(&fake.tree, "pci", "igbvf");
	fake.total = 10;
	fake.granularity = 1;
	fake.max_each = 8;
}

/* ---- the NVMe controller -----------------------------------------------------------------------
 */

static void put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)value;
	p[1] = (uint8_t)(value >> 8);
}

static void identify(unsigned cns, uint8_t *page)
{
	unsigned queues = 0, vectors = 0;

	for (unsigned i = 0; i < FAKE_VFS; i++) {
		const struct fake_secondary *s = &fake.secondary[i];
		uint8_t *entry = page + 32 + 32 * i;

		queues += s->queues;
		vectors += s->vectors;
		if (cns != 0x15)
			continue;
		page[0] = FAKE_VFS;
		put16(entry, 10 + i);
		entry[4] = s->online;
		put16(entry + 8, i + 1);
		put16(entry + 10, s->queues);
		put16(entry + 12, s->vectors);
	}
	if (cns == 0x01)
		page[256] = fake.no_virtualization ? 0 : 0x80;
	for (int i = 0; cns == 0x14 && i < 2; i++) {
		uint8_t *p = page + (i ? 64 : 32);

		put16(p, fake.total);
		put16(p + 4, i ? vectors : queues);
		put16(p + 8, fake.primary);
		put16(p + 12, fake.max_each);
		put16(p + 14, fake.granularity);
	}
}

static int virtualize(const struct nvme_passthru_cmd *cmd)
{
	unsigned action = cmd->cdw10 & 0xf, id = cmd->cdw10 >> 16;
	struct fake_secondary *s = id >= 10 && id < 10 + FAKE_VFS ? &fake.secondary[id - 10] : NULL;

	if (!s)
		return 0x4000 | 0x11f; /* Invalid Controller Identifier, Do Not Retry */
	switch (action) {
	case 7:
		s->online = false;
		return 0;
	case 8:
		if (s->online)
			return 0x120; /* Invalid Secondary Controller State */
		*(cmd->cdw10 >> 8 & 7 ? &s->vectors : &s->queues) = cmd->cdw11;
		s->ready = false;
		return 0;
	case 9:
		if (s->queues < 2 || !s->vectors || !s->ready)
			return 0x120;
		s->online = true;
		return 0;
	default:
		return 2;
	}
}

static int fake_nvme(const struct vfio_host *host, const char *controller,
		     struct nvme_passthru_cmd *cmd)
{
	(void)host;
	cr_expect_str_eq(controller, "nvme0");
	if (++fake.commands == fake.refuse_at)
		return 0x120;
	if (cmd->opcode == 6) {
		cr_assert_eq(cmd->data_len, 4096);
		identify(cmd->cdw10, (void *)(uintptr_t)cmd->addr);
		return 0;
	}
	return cmd->opcode == 0x1c ? virtualize(cmd) : 1;
}

/* ---- mediated devices ---------------------------------------------------------------------------
 */

static int make_mdev(const char *dir, const char *uuid)
{
	char parent[VFIO_NAME_MAX] = "", type[VFIO_NAME_MAX], path[128], text[16];
	uint64_t left;

	/* ROOT/sys/class/mdev_bus/PARENT/mdev_supported_types/TYPE */
	cr_assert_eq(sscanf(strstr(dir, "mdev_bus/"), "mdev_bus/%60[^/]/mdev_supported_types/%60s",
			    parent, type),
		     2);
	cr_assert_eq(vfio_read_number(dir, "available_instances", 99, &left), 0);
	snprintf(path, sizeof(path), "sys/bus/mdev/devices/%s/", uuid);
	if (vfio_read_text(fake.tree.root, path, text, sizeof(text)) != -ENOENT)
		return -EEXIST;
	if (!left)
		return -ENOSPC;
	vfio_tree_mdev(&fake.tree, parent, type, uuid, 30);
	snprintf(path, sizeof(path),
		 "sys/devices/virtual/%s/mdev_supported_types/%s/available_instances", parent,
		 type);
	snprintf(text, sizeof(text), "%u\n", (unsigned)left - 1);
	vfio_tree_file(&fake.tree, path, text);
	return 0;
}

static int remove_mdev(const char *dir)
{
	char path[VFIO_PATH_MAX];

	snprintf(path, sizeof(path), "%s", dir);
	return unlink(path) ? -errno : 0;
}

/* ---- writes ---------------------------------------------------------------------------------- */

static int fake_write(const struct vfio_host *host, const char *dir, const char *name,
		      const char *text)
{
	char device[VFIO_PATH_MAX], driver[VFIO_NAME_MAX], now[VFIO_NAME_MAX];

	(void)host;
	if (++fake.writes == fake.fail_at)
		return -EIO;
	if (strcmp(name, "sriov_numvfs") == 0)
		return make_vfs(dir, (unsigned)atoi(text));
	if (strcmp(name, "reset") == 0)
		return reset_vf(dir);
	if (strcmp(name, "create") == 0)
		return make_mdev(dir, text);
	if (strcmp(name, "remove") == 0)
		return remove_mdev(dir);
	if (strcmp(name, "sriov_drivers_autoprobe") == 0)
		return vfio_write_text(dir, name, text);
	if (strcmp(name, "driver_override") == 0)
		return vfio_write_text(dir, name, "                              ")
			       ?: vfio_write_text(dir, name, text);
	snprintf(device, sizeof(device), "%s/sys/bus/pci/devices/%s", fake.tree.root, text);
	if (vfio_read_text(device, "class", driver, sizeof(driver)) < 0)
		return -ENODEV;
	vfio_read_link(device, "driver", now, sizeof(now));
	match(device, driver);
	if (strcmp(name, "unbind") == 0) {
		if (strcmp(strrchr(dir, '/') + 1, now) != 0)
			return -ENODEV;
		set_driver(device, NULL);
		return 0;
	}
	if (strcmp(name, "bind") == 0 && (*now || strcmp(strrchr(dir, '/') + 1, driver) != 0))
		return -ENODEV;
	if (strcmp(driver, "vfio-pci") == 0 && fake.deaf)
		return 0;
	if (!*now && is_loaded(driver))
		attach(device, driver);
	return 0;
}

static int fake_load(const struct vfio_host *host, const char *module)
{
	(void)host;
	if (!fake.loadable || strcmp(fake.loadable, module) != 0)
		return -ENOENT;
	vfio_tree_driver(&fake.tree, "pci", module);
	return 0;
}

static int fake_claim(const struct vfio_host *host, const char *disk)
{
	(void)host;
	return fake.held && strcmp(fake.held, disk) == 0 ? -EBUSY : 0;
}

/* ---- the tree -------------------------------------------------------------------------------- */

void fake_process(pid_t pid, const char *comm, char state, unsigned start)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "proc/%d/stat", (int)pid);
	snprintf(text, sizeof(text),
		 "%d (%s) %c 1 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 %u 1 1 "
		 "18446744073709551615\n",
		 (int)pid, comm, state, start);
	vfio_tree_file(&fake.tree, path, text);
	snprintf(path, sizeof(path), "proc/%d/comm", (int)pid);
	snprintf(text, sizeof(text), "%s\n", comm);
	vfio_tree_file(&fake.tree, path, text);
}

void fake_opens(pid_t pid, int fd, const char *file)
{
	char path[64], target[128];

	snprintf(path, sizeof(path), "proc/%d/fd/%d", (int)pid, fd);
	snprintf(target, sizeof(target), "%s/%s", fake.tree.root, file);
	vfio_tree_link(&fake.tree, path, target);
}

void fake_setup(void)
{
	memset(&fake, 0, sizeof(fake));
	vfio_tree_make(&fake.tree);
	fake.host = (struct vfio_host){ .root = fake.tree.root,
					.write = fake_write,
					.load = fake_load,
					.nvme_admin = fake_nvme,
					.claim = fake_claim };
	vfio_tree_dir(&fake.tree, "run");
	vfio_tree_driver(&fake.tree, "pci", "vfio-pci");
	vfio_tree_pci(&fake.tree, NVME, 0x010802, 0x1b36, 0x0010, "nvme", 7);
	vfio_tree_file(&fake.tree, PCI(NVME, "natural"), "nvme\n");
	vfio_tree_pci(&fake.tree, NIC, 0x020000, 0x8086, 0x10d3, "e1000e", 8);
	vfio_tree_file(&fake.tree, PCI(NIC, "natural"), "e1000e\n");
	fake_process(getpid(), "unit", 'R', 4242);
}

void fake_teardown(void)
{
	vfio_tree_remove(&fake.tree);
}

struct vfio_node node_of(const char *name)
{
	struct vfio_node node;
	struct error e;

	cr_assert_eq(vfio_node_find(fake.tree.root, name, &node, &e), 0, "%s", e.msg);
	return node;
}

bool recorded(const char *name)
{
	struct vfio_record record;

	return vfio_state_read(&fake.host, name, &record) == 0;
}
