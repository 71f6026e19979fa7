/*
 * What devices/vfio reads of sysfs, on trees made for it: targets in all their spellings,
 * functions, VFs, mediated devices, groups and their viability, and trees that no kernel would
 * make.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "devices/vfio/sysfs.h"
#include "tests/unit/vfio_tree.h"

#define UUID "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

static struct vfio_tree tree;

static void setup(void)
{
	vfio_tree_make(&tree);
}

static void teardown(void)
{
	vfio_tree_remove(&tree);
}

TestSuite(vfio_sysfs, .init = setup, .fini = teardown);

static struct vfio_node found(const char *target)
{
	struct vfio_node node;
	struct error e = { .msg = "" };

	cr_assert_eq(vfio_node_find(tree.root, target, &node, &e), 0, "%s: %s", target, e.msg);
	return node;
}

static void refused(const char *target, int err, const char *says)
{
	struct vfio_node node;
	struct error e = { .msg = "" };

	cr_expect_eq(vfio_node_find(tree.root, target, &node, &e), err, "%s", target);
	cr_expect(strstr(e.msg, says), "%s: %s", target, e.msg);
}

Test(vfio_sysfs, bdf_spellings)
{
	static const char *const bad[] = { "",
					   "0",
					   "03:00",
					   "3:00.0",
					   "03:00.8",
					   "03:20.0",
					   "03:0g.0",
					   "003:00.0",
					   "0000:03:00.00",
					   "0000:03:00.0 ",
					   "000:03:00.0",
					   ":03:00.0",
					   "00000:03:00.0",
					   "123456789:03:00.0",
					   "0000:03:00:0",
					   "0000:03:0x.1",
					   "0000:03: 1.1",
					   "0000:03:+1.1" };
	char name[VFIO_NAME_MAX];

	cr_expect(vfio_parse_bdf("0000:03:00.1", name));
	cr_expect_str_eq(name, "0000:03:00.1");
	cr_expect(vfio_parse_bdf("AB:1f.7", name));
	cr_expect_str_eq(name, "0000:ab:1f.7");
	cr_expect(vfio_parse_bdf("10000:e1:00.0", name)); /* a domain of VMD */
	cr_expect_str_eq(name, "10000:e1:00.0");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_not(vfio_parse_bdf(bad[i], name), "\"%s\"", bad[i]);
}

Test(vfio_sysfs, uuid_spellings)
{
	static const char *const bad[] = { "",
					   "83b8f4f2-509f-382f-3c1e-e6bfe0fa100",
					   "83b8f4f2-509f-382f-3c1e-e6bfe0fa10011",
					   "83b8f4f2x509f-382f-3c1e-e6bfe0fa1001",
					   "83b8f4f2-509f-382f-3c1e-e6bfe0fa100g",
					   "83b8f4f25-09f-382f-3c1e-e6bfe0fa1001",
					   "{3b8f4f2-509f-382f-3c1e-e6bfe0fa1001" };
	char name[VFIO_NAME_MAX];

	cr_expect(vfio_parse_uuid("83B8F4F2-509f-382f-3c1e-e6bfe0fa1001", name));
	cr_expect_str_eq(name, UUID);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_not(vfio_parse_uuid(bad[i], name), "\"%s\"", bad[i]);
}

Test(vfio_sysfs, function_by_every_name)
{
	struct vfio_node node;
	char path[160];

	vfio_tree_pci(&tree, "0000:03:00.1", 0x010802, 0x1b36, 0x0010, "nvme", 7);
	vfio_tree_dir(&tree, "sys/devices/pci0000:00/0000:03:00.1/vfio-dev/vfio4");
	for (int i = 0; i < 5; i++) {
		const char *const spelt[] = { "0000:03:00.1", "03:00.1", path, path, path };

		if (i == 2)
			snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/0000:03:00.1",
				 tree.root);
		if (i == 3)
			snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/0000:03:00.1/",
				 tree.root);
		if (i == 4)
			snprintf(path, sizeof(path), "%s/sys/devices/pci0000:00/0000:03:00.1",
				 tree.root);
		node = found(spelt[i]);
		cr_expect_eq(node.kind, VFIO_PCI);
		cr_expect_str_eq(node.name, "0000:03:00.1");
		cr_expect_eq(node.class_code, 0x010802);
		cr_expect_eq(node.vendor, 0x1b36);
		cr_expect_eq(node.device, 0x0010);
		cr_expect_eq(node.subsystem_vendor, 0x1b36);
		cr_expect_eq(node.subsystem_device, 1);
		cr_expect_str_eq(node.driver, "nvme");
		cr_expect_str_eq(node.override, "");
		cr_expect_str_eq(node.cdev, "vfio4");
		cr_expect_eq(node.group, 7);
		cr_expect_str_eq(node.pf, "");
		cr_expect_eq(node.vf_index, -1);
		cr_expect_eq(node.totalvfs, 0);
	}
}

Test(vfio_sysfs, no_driver_no_group)
{
	struct vfio_node node;

	vfio_tree_pci(&tree, "0000:00:1f.0", 0x060100, 0x8086, 0x2918, NULL, -1);
	vfio_tree_file(&tree, "sys/devices/pci0000:00/0000:00:1f.0/driver_override", "vfio-pci\n");
	node = found("00:1f.0");
	cr_expect_str_eq(node.driver, "");
	cr_expect_str_eq(node.override, "vfio-pci");
	cr_expect_str_eq(node.cdev, "");
	cr_expect_eq(node.group, -1);
}

Test(vfio_sysfs, targets_that_are_none)
{
	char path[160];

	vfio_tree_pci(&tree, "0000:03:00.0", 0x010802, 0x1b36, 0x0010, "nvme", 7);
	refused("tap0", -EINVAL, "PCI address");
	refused("", -EINVAL, "PCI address");
	refused("0000:04:00.0", -ENODEV, "mvm vfio list");
	refused(UUID, -ENODEV, "no mediated device");
	refused("/nowhere/0000:03:00.0", -ENODEV, "/nowhere");
	snprintf(path, sizeof(path), "%s/sys/bus/pci", tree.root);
	refused(path, -EINVAL, "is not the directory");
	/* A directory elsewhere that is only called like one. */
	vfio_tree_dir(&tree, "home/0000:03:00.0");
	snprintf(path, sizeof(path), "%s/home/0000:03:00.0", tree.root);
	refused(path, -EINVAL, "is not the device");
}

Test(vfio_sysfs, long_targets_are_cut_in_messages)
{
	char *target = malloc(70001);
	struct vfio_node node;
	struct error e;

	memset(target, 'a', 70000);
	target[70000] = '\0';
	cr_expect_eq(vfio_node_find(tree.root, target, &node, &e), -EINVAL);
	cr_expect(strstr(e.msg, "mvm vfio list"), "%s", e.msg);
	target[0] = '/';
	cr_expect_lt(vfio_node_find(tree.root, target, &node, &e), 0);
	cr_expect_lt(strlen(e.msg), 400);
	free(target);
}

static void pf_with_vfs(void)
{
	vfio_tree_pci(&tree, "0000:01:00.0", 0x020000, 0x8086, 0x10c9, "igb", 1);
	vfio_tree_pci(&tree, "0000:01:10.2", 0x020000, 0x8086, 0x10ca, "igbvf", 3);
	vfio_tree_pci(&tree, "0000:01:10.0", 0x020000, 0x8086, 0x10ca, "vfio-pci", 2);
	vfio_tree_file(&tree, "sys/devices/pci0000:00/0000:01:00.0/sriov_totalvfs", "7\n");
	vfio_tree_file(&tree, "sys/devices/pci0000:00/0000:01:00.0/sriov_numvfs", "2\n");
	vfio_tree_vf(&tree, "0000:01:00.0", 0, "0000:01:10.0");
	vfio_tree_vf(&tree, "0000:01:00.0", 1, "0000:01:10.2");
}

Test(vfio_sysfs, pf_and_vfs)
{
	struct vfio_node node, *vf;
	struct error e;
	unsigned n;

	pf_with_vfs();
	node = found("01:00.0");
	cr_expect_eq(node.totalvfs, 7);
	cr_expect_eq(node.numvfs, 2);
	cr_expect_str_eq(node.pf, "");
	cr_assert_eq(vfio_node_vfs(tree.root, &node, &vf, &n, &e), 0);
	cr_assert_eq(n, 2);
	cr_expect_str_eq(vf[0].name, "0000:01:10.0");
	cr_expect_str_eq(vf[0].pf, "0000:01:00.0");
	cr_expect_eq(vf[0].vf_index, 0);
	cr_expect_str_eq(vf[1].name, "0000:01:10.2");
	cr_expect_eq(vf[1].vf_index, 1);
	free(vf);
	node = found("01:10.2");
	cr_expect_eq(node.vf_index, 1);
	cr_expect_eq(node.totalvfs, 0);
}

Test(vfio_sysfs, mediated_device)
{
	struct vfio_mdev_type *type;
	struct vfio_node node;
	struct error e;
	char path[160];
	unsigned n;

	vfio_tree_mdev_type(&tree, "mtty", "mtty-2", "11\n");
	vfio_tree_mdev_type(&tree, "mtty", "mtty-1", "23\n");
	vfio_tree_mdev(&tree, "mtty", "mtty-2", UUID, 9);
	snprintf(path, sizeof(path), "%s/sys/devices/virtual/mtty/" UUID, tree.root);
	node = found("83B8F4F2-509F-382f-3c1e-e6bfe0fa1001");
	cr_expect_str_eq(node.name, UUID);
	node = found(path);
	cr_expect_eq(node.kind, VFIO_MDEV);
	cr_expect_str_eq(node.name, UUID);
	cr_expect_str_eq(node.parent, "mtty");
	cr_expect_str_eq(node.type, "mtty-2");
	cr_expect_str_eq(node.api, "vfio-pci");
	cr_expect_eq(node.group, 9);

	cr_assert_eq(vfio_mdev_types(tree.root, &type, &n, &e), 0);
	cr_assert_eq(n, 2);
	cr_expect_str_eq(type[0].type, "mtty-1");
	cr_expect_eq(type[0].instances, 0);
	cr_expect_str_eq(type[1].parent, "mtty");
	cr_expect_str_eq(type[1].type, "mtty-2");
	cr_expect_str_eq(type[1].name, "Dual port serial");
	cr_expect_str_eq(type[1].api, "vfio-pci");
	cr_expect_eq(type[1].available, 11);
	cr_expect_eq(type[1].instances, 1);
	free(type);
}

Test(vfio_sysfs, lists_are_sorted)
{
	struct vfio_node *node;
	struct error e;
	unsigned n;

	for (int i = 31; i >= 0; i--) {
		char bdf[16];

		snprintf(bdf, sizeof(bdf), "0000:05:%02x.0", i);
		vfio_tree_pci(&tree, bdf, 0x020000, 0x8086, 0x10d3, NULL, i);
	}
	cr_assert_eq(vfio_node_list(tree.root, VFIO_PCI, &node, &n, &e), 0);
	cr_assert_eq(n, 32);
	for (unsigned i = 0; i < n; i++)
		cr_expect_eq(node[i].group, (int)i);
	free(node);
	cr_expect_eq(vfio_node_list(tree.root, VFIO_MDEV, &node, &n, &e), 0);
	cr_expect_eq(n, 0);
	cr_expect_null(node);
}

Test(vfio_sysfs, viability)
{
	struct vfio_group group;
	struct error e;
	char buf[256];

	/* A port, a function without a driver, one that VFIO has; with the port's driver or not. */
	vfio_tree_pci(&tree, "0000:00:01.0", 0x060400, 0x1b36, 0xc, "pcieport", 5);
	vfio_tree_pci(&tree, "0000:02:00.0", 0x020000, 0x8086, 0x10d3, "vfio-pci", 5);
	vfio_tree_pci(&tree, "0000:02:00.1", 0x020000, 0x8086, 0x10d3, NULL, 5);
	vfio_tree_pci(&tree, "0000:02:00.2", 0x020000, 0x8086, 0x10d3, "pci-stub", 5);
	vfio_tree_pci(&tree, "0000:02:00.3", 0x020000, 0x15b3, 0x101e, "mlx5_vfio_pci", 5);
	cr_assert_eq(vfio_group_read(tree.root, 5, &group, &e), 0, "%s", e.msg);
	cr_expect_eq(group.count, 5);
	cr_expect_str_eq(vfio_group_blockers(&group, buf, sizeof(buf)), "");
	vfio_group_free(&group);

	vfio_tree_pci(&tree, "0000:02:00.4", 0x020000, 0x8086, 0x10d3, "e1000e", 5);
	vfio_tree_pci(&tree, "0000:02:00.5", 0x010601, 0x8086, 0x2922, "ahci", 5);
	vfio_tree_dir(&tree, "sys/devices/platform/serial8250");
	vfio_tree_driver(&tree, "platform", "serial8250");
	vfio_tree_link(&tree, "sys/devices/platform/serial8250/driver",
		       "../../../bus/platform/drivers/serial8250");
	vfio_tree_link(&tree, "sys/kernel/iommu_groups/5/devices/serial8250",
		       "../../../../devices/platform/serial8250");
	cr_assert_eq(vfio_group_read(tree.root, 5, &group, &e), 0, "%s", e.msg);
	cr_expect_eq(group.count, 8);
	cr_expect_str_eq(vfio_group_blockers(&group, buf, sizeof(buf)),
			 "0000:02:00.4 (e1000e), 0000:02:00.5 (ahci), serial8250 (serial8250)");
	/* Too small a buffer is cut, not overrun. */
	memset(buf, 'x', sizeof(buf));
	cr_expect_str_eq(vfio_group_blockers(&group, buf, 10), "0000:02:0");
	cr_expect_eq(buf[10], 'x');
	vfio_group_free(&group);
	cr_expect_eq(vfio_group_read(tree.root, 6, &group, &e), -ENODEV);
	cr_expect(strstr(e.msg, "group 6"), "%s", e.msg);
}

Test(vfio_sysfs, numbers)
{
	static const struct {
		const char *text;
		uint64_t max, value; /* value above max: refused */
	} cases[] = {
		{ "0\n", 0, 0 },
		{ "1\n", 1, 1 },
		{ "7\n", 1, 2 },
		{ "0xf\n", 8, 9 },
		{ "0xFfff\n", 0xffff, 0xffff },
		{ "65536\n", 0xffff, 0x10000 },
		{ "010\n", 99, 10 },
		{ "0x\n", 9, 10 },
		{ "\n", 9, 10 },
		{ " 1\n", 9, 10 },
		{ "1 \n", 9, 10 },
		{ "-1\n", 9, 10 },
		{ "a\n", 99, 100 },
		{ "18446744073709551615", UINT64_MAX, UINT64_MAX },
	};
	uint64_t value;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool good = cases[i].value <= cases[i].max;

		vfio_tree_file(&tree, "number", cases[i].text);
		cr_expect_eq(vfio_read_number(tree.root, "number", cases[i].max, &value),
			     good ? 0 : -EINVAL, "%s", cases[i].text);
		if (good)
			cr_expect_eq(value, cases[i].value, "%s", cases[i].text);
	}
	vfio_tree_file(&tree, "number", "18446744073709551616");
	cr_expect_eq(vfio_read_number(tree.root, "number", UINT64_MAX, &value), -EINVAL);
}

/* What no kernel has: it is left out or read as unknown, and nothing is overrun or waited for. */
Test(vfio_sysfs, odd_content)
{
	struct vfio_mdev_type *type;
	struct vfio_node node, *list;
	char path[160], *longtext = malloc(10001);
	struct error e;
	unsigned n;

	memset(longtext, '7', 10000);
	longtext[10000] = '\0';
	vfio_tree_pci(&tree, "0000:03:00.0", 0x010802, 0x1b36, 0x0010, NULL, -1);
#define IN(file) "sys/devices/pci0000:00/0000:03:00.0/" file
	vfio_tree_file(&tree, IN("class"), longtext);
	vfio_tree_file(&tree, IN("vendor"), "0x12345\n");
	vfio_tree_file(&tree, IN("device"), "");
	vfio_tree_file(&tree, IN("subsystem_vendor"), "-1\n");
	vfio_tree_file(&tree, IN("subsystem_device"), "0x\n");
	vfio_tree_file(&tree, IN("sriov_totalvfs"), "99999999999999999999999999\n");
	vfio_tree_file(&tree, IN("sriov_numvfs"), "3 \n");
	vfio_tree_file(&tree, IN("driver_override"), "a\tb\x1b[31m\xff\n");
	vfio_tree_link(&tree, IN("iommu_group"), "../../../kernel/iommu_groups/99999999999");
	vfio_tree_link(&tree, IN("driver"), "../../x/ev\nil");
	vfio_tree_link(&tree, IN("physfn"), "physfn");
	vfio_tree_dir(&tree,
		      IN("vfio-dev/vfio0123456789012345678901234567890123456789012345678901234"
			 "56789"));
	node = found("03:00.0");
	cr_expect_eq(node.class_code, 0);
	cr_expect_eq(node.vendor, 0);
	cr_expect_eq(node.device, 0);
	cr_expect_eq(node.subsystem_vendor, 0);
	cr_expect_eq(node.subsystem_device, 0);
	cr_expect_eq(node.totalvfs, 0);
	cr_expect_eq(node.numvfs, 0);
	cr_expect_str_eq(node.override, "a?b?[31m?");
	cr_expect_str_eq(node.driver, "ev?il");
	cr_expect_str_eq(node.cdev, "");
	cr_expect_eq(node.group, -1);
	cr_expect_eq(node.vf_index, -1);

	/* A FIFO where a file should be. */
	snprintf(path, sizeof(path), "%s/" IN("device"), tree.root);
	remove(path);
	cr_assert_eq(mkfifo(path, 0600), 0);
	found("03:00.0");

	/* Entries that are no functions: a file, a dangling link, names of other buses. */
	vfio_tree_file(&tree, "sys/bus/pci/devices/0000:03:00.1", "");
	vfio_tree_link(&tree, "sys/bus/pci/devices/0000:03:00.2", "../nowhere");
	vfio_tree_dir(&tree, "sys/bus/pci/devices/usb1");
	vfio_tree_dir(&tree, "sys/bus/pci/devices/0000:0A:00.0");
	vfio_tree_dir(&tree, "sys/bus/pci/devices/" UUID);
	cr_assert_eq(vfio_node_list(tree.root, VFIO_PCI, &list, &n, &e), 0);
	cr_expect_eq(n, 1);
	free(list);

	vfio_tree_mdev_type(&tree, "mtty", "mtty-1", "many\n");
	vfio_tree_file(&tree, "sys/devices/virtual/mtty/mdev_supported_types/README", "text");
	vfio_tree_dir(&tree, "sys/class/mdev_bus/empty");
	cr_assert_eq(vfio_mdev_types(tree.root, &type, &n, &e), 0);
	cr_expect_eq(n, 0);
	free(type);
	free(longtext);
}

Test(vfio_sysfs, vanished)
{
	struct vfio_node node;
	struct error e;
	char path[160];

	vfio_tree_pci(&tree, "0000:03:00.0", 0x010802, 0x1b36, 0x0010, NULL, -1);
	node = found("03:00.0");
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/0000:03:00.0", tree.root);
	cr_assert_eq(remove(path), 0);
	cr_expect_eq(vfio_node_refresh(tree.root, &node, &e), -ENODEV);
	cr_expect(strstr(e.msg, "0000:03:00.0"), "%s", e.msg);
	cr_expect_eq(node.class_code, 0x010802); /* untouched */
}
