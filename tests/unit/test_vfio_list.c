/*
 * `mvm vfio list`: that its tables and its JSON tell what a tree has, whatever that is.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vfio/commands.h"
#include "tests/unit/test_options.h"
#include "tests/unit/vfio_fake.h"

TestSuite(vfio_list, .init = fake_setup, .fini = fake_teardown);

static char *listed(bool all, bool json, char *target)
{
	struct error e = { .msg = "" };
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	cr_assert_eq(vfio_list(&fake.host, &target, target ? 1 : 0, all, json, out, &e), 0, "%s",
		     e.msg);
	fclose(out);
	return text;
}

static void everything(void)
{
	vfio_tree_pci(&fake.tree, "0000:00:01.0", 0x060400, 0x1b36, 0xc, "pcieport", 8);
	vfio_tree_pci(&fake.tree, "0000:04:00.1", 0x010601, 0x8086, 0x2922, "ahci", 8);
	vfio_tree_file(&fake.tree, PCI(NVME, "sriov_totalvfs"), "2\n");
	vfio_tree_file(&fake.tree, PCI(NVME, "sriov_numvfs"), "1\n");
	vfio_tree_pci(&fake.tree, "0000:03:00.1", 0x010802, 0x1b36, 0x0010, "vfio-pci", 9);
	vfio_tree_vf(&fake.tree, NVME, 0, "0000:03:00.1");
	vfio_tree_file(&fake.tree, RECORD("0000:03:00.1"),
		       "driver=nvme\noverride=\npid=0\nstart=0\n");
	fake_process(77, "mvm", 'S', 1);
	fake_opens(77, 12, "dev/vfio/9");
	fake_opens(77, 13, "dev/vfio/20");
	vfio_tree_mdev_type(&fake.tree, "mtty", "mtty-2", "11\n");
	vfio_tree_mdev(&fake.tree, "mtty", "mtty-2", UUID, 20);
}

Test(vfio_list, tables)
{
	char *text;

	everything();
	text = listed(false, false, NULL);
	cr_expect_str_eq(
		text, "FUNCTION      CLASS     ID         DRIVER    GROUP  VFS  NOTES\n"
		      "0000:03:00.0  nvme      1b36:0010  nvme      7      1/2\n"
		      "0000:03:00.1  nvme      1b36:0010  vfio-pci  9      -    VF 0 of "
		      "0000:03:00.0; in use "
		      "by mvm (pid 77); was nvme\n"
		      "0000:04:00.0  ethernet  8086:10d3  e1000e    8      -    group has drivers: "
		      "0000:04:00.1 (ahci)\n"
		      "0000:04:00.1  sata      8086:2922  ahci      8      -    group has drivers: "
		      "0000:04:00.0 (e1000e)\n"
		      "\n"
		      "MEDIATED DEVICE                       PARENT  TYPE    GROUP  NOTES\n"
		      "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001  mtty    mtty-2  20     in use by mvm "
		      "(pid 77)\n"
		      "\n"
		      "PARENT  TYPE    API       FREE  MADE  NAME\n"
		      "mtty    mtty-2  vfio-pci  11    1     Dual port serial\n");
	free(text);
	text = listed(true, false, NULL);
	cr_expect(strstr(text, "\n0000:00:01.0  bridge "), "%s", text);
	free(text);
	text = listed(false, false, "03:00.1");
	cr_expect_null(strstr(text, "04:00"), "%s", text);
	cr_expect_null(strstr(text, "mtty"), "%s", text);
	cr_expect(strstr(text, "\n0000:03:00.1"), "%s", text);
	free(text);
	text = listed(false, false, UUID);
	cr_expect_null(strstr(text, "FUNCTION"), "%s", text);
	cr_expect(strstr(text, "\n" UUID), "%s", text);
	free(text);
	test_no_leaks();
}

Test(vfio_list, unknown_targets)
{
	char *target = "0000:0c:00.0";
	struct error e;

	cr_expect_eq(vfio_list(&fake.host, &target, 1, false, false, stderr, &e), -ENODEV);
	target = "eth0";
	cr_expect_eq(vfio_list(&fake.host, &target, 1, false, false, stderr, &e), -EINVAL);
	test_no_leaks();
}

/* Python reads it and finds what there is. */
static void python_agrees(const char *json, const char *expression)
{
	char path[128], command[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/list.json", fake.tree.root);
	f = fopen(path, "w");
	cr_assert(f);
	fputs(json, f);
	fclose(f);
	snprintf(command, sizeof(command),
		 "python3 -c 'import json,sys; j = json.load(open(sys.argv[1])); "
		 "sys.exit(0 if (%s) else 1)' %s",
		 expression, path);
	cr_expect_eq(system(command), 0, "%s\n%s", expression, json);
}

Test(vfio_list, json)
{
	char *text;

	everything();
	text = listed(false, true, NULL);
	python_agrees(
		text,
		"[f[\"address\"] for f in j[\"functions\"]] == [\"0000:00:01.0\", \"" NVME
		"\", \"0000:03:00.1\", \"" NIC "\", \"0000:04:00.1\"] and "
		"j[\"functions\"][2][\"former\"] == {\"driver\": \"nvme\", \"auto\": False, "
		"\"stale\": False} and j[\"functions\"][2][\"in_use_by\"] == \"mvm (pid 77)\" "
		"and not j[\"functions\"][3][\"group\"][\"viable\"] "
		"and len(j[\"functions\"][3][\"group\"][\"members\"]) == 3 "
		"and j[\"functions\"][1][\"vfs_max\"] == 2 "
		"and j[\"mdevs\"][0][\"uuid\"] == \"" UUID "\" "
		"and j[\"mdev_types\"][0][\"free\"] == 11");
	free(text);
}

/* Whatever a driver writes into sysfs: it is valid JSON, and tables keep their lines. */
Test(vfio_list, odd_content)
{
	char *text;

	vfio_tree_mdev_type(&fake.tree, "m\"t\\t,y", "a b\n", "3\n");
	vfio_tree_file(&fake.tree, "sys/devices/virtual/m\"t\\t,y/mdev_supported_types/a b\n/name",
		       "\"quoted\" \\ \x01\x7f\xff\xc3\xa9\n");
	vfio_tree_file(&fake.tree,
		       "sys/devices/virtual/m\"t\\t,y/mdev_supported_types/a b\n/device_api", "");
	vfio_tree_link(&fake.tree, PCI(NIC, "driver"), "../../drivers/e\"1\\0\n");
	text = listed(false, true, NULL);
	python_agrees(text, "j[\"mdev_types\"][0][\"type\"] == \"a b?\"");
	free(text);
	text = listed(false, false, NULL);
	cr_expect_null(strstr(text, "\x01"));
	free(text);
}

/* An empty machine: no IOMMU, no mdev. */
Test(vfio_list, nothing)
{
	char command[160], *text;

	snprintf(command, sizeof(command), "rm -r %s/sys", fake.tree.root);
	cr_assert_eq(system(command), 0);
	text = listed(false, false, NULL);
	cr_expect_str_eq(text, "FUNCTION  CLASS  ID  DRIVER  GROUP  VFS  NOTES\n");
	free(text);
	text = listed(false, true, NULL);
	python_agrees(text, "j == {\"functions\": [], \"mdevs\": [], \"mdev_types\": []}");
	free(text);
	test_no_leaks();
}
