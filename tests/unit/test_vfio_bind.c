/*
 * Binding, unbinding and auto-bind, on a host that the test makes (vfio_fake.h).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/vfio/bind.h"
#include "devices/vfio/commands.h"
#include "devices/vfio/state.h"
#include "tests/unit/test_options.h"
#include "tests/unit/vfio_fake.h"

TestSuite(vfio_bind, .init = fake_setup, .fini = fake_teardown);

/* Has the function this driver, and that override? */
static void has(const char *name, const char *driver, const char *override)
{
	struct vfio_node node = node_of(name);

	cr_expect_str_eq(node.driver, driver);
	cr_expect_str_eq(node.override, override);
}

static bool record_of(const char *name, struct vfio_record *r)
{
	return vfio_state_read(&fake.host, name, r) == 0;
}

static void bound(const char *name)
{
	struct vfio_node node = node_of(name);
	struct error e;

	cr_assert_eq(vfio_bind(&fake.host, &node, &e), 0, "%s", e.msg);
	cr_expect_str_eq(node.driver, "vfio-pci");
}

static void unbound(const char *name)
{
	struct vfio_node node = node_of(name);
	struct error e;

	cr_assert_eq(vfio_unbind(&fake.host, &node, &e), 0, "%s", e.msg);
}

/* Binding is refused with these words, and changes nothing. */
static void refused(const char *name, int err, const char *says)
{
	struct vfio_node node = node_of(name);
	struct error e = { .msg = "" };
	char driver[VFIO_NAME_MAX];

	memcpy(driver, node.driver, sizeof(driver));
	cr_expect_eq(vfio_bind(&fake.host, &node, &e), err, "%s", e.msg);
	cr_expect(strstr(e.msg, says), "%s", e.msg);
	cr_expect(strncmp(e.msg, name, strlen(name)) == 0, "%s", e.msg);
	cr_expect_str_eq(node_of(name).driver, driver);
	cr_expect_not(recorded(name));
}

/* ---- bind and unbind ------------------------------------------------------------------------- */

Test(vfio_bind, there_and_back)
{
	struct vfio_record r;

	bound(NVME);
	has(NVME, "vfio-pci", "vfio-pci");
	cr_assert(record_of(NVME, &r));
	cr_expect_str_eq(r.driver, "nvme");
	cr_expect_str_eq(r.override, "");
	cr_expect_eq(r.pid, 0);
	bound(NVME); /* again: nothing to do, and the record stays */
	cr_assert(record_of(NVME, &r));
	cr_expect_str_eq(r.driver, "nvme");
	unbound(NVME);
	has(NVME, "nvme", "");
	cr_expect_not(recorded(NVME));
	unbound(NVME); /* again: it is not bound */
	has(NVME, "nvme", "");
	test_no_leaks();
}

Test(vfio_bind, the_former_driver_is_not_always_the_natural_one)
{
	vfio_tree_driver(&fake.tree, "pci", "uio_pci_generic");
	set_driver(node_of(NVME).path, "uio_pci_generic");
	vfio_tree_file(&fake.tree, PCI(NVME, "driver_override"), "uio_pci_generic\n");
	bound(NVME);
	unbound(NVME);
	has(NVME, "uio_pci_generic", "uio_pci_generic");
}

Test(vfio_bind, no_driver_before_none_after)
{
	set_driver(node_of(NVME).path, NULL);
	bound(NVME);
	unbound(NVME);
	has(NVME, "", "");
}

Test(vfio_bind, bound_by_others)
{
	set_driver(node_of(NVME).path, "vfio-pci");
	vfio_tree_file(&fake.tree, PCI(NVME, "driver_override"), "vfio-pci\n");
	unbound(NVME);
	has(NVME, "nvme", "");
}

Test(vfio_bind, loads_modules)
{
	struct vfio_node node = node_of(NVME);
	char path[160];
	struct error e;

	snprintf(path, sizeof(path), "rm -r %s/sys/bus/pci/drivers/vfio-pci", fake.tree.root);
	cr_assert_eq(system(path), 0);
	refused(NVME, -ENOENT, "modprobe vfio-pci");
	fake.loadable = "vfio-pci";
	bound(NVME);
	/* The former driver's module was removed meanwhile. */
	snprintf(path, sizeof(path), "rm -r %s/sys/bus/pci/drivers/nvme", fake.tree.root);
	cr_assert_eq(system(path), 0);
	cr_expect_eq(vfio_unbind(&fake.host, &node, &e), -ENOENT);
	cr_expect(strstr(e.msg, "modprobe nvme"), "%s", e.msg);
	cr_expect(recorded(NVME));
	fake.loadable = "nvme";
	unbound(NVME);
	has(NVME, "nvme", "");
}

/* Whichever write fails: the function has the driver that it had, and there is no record. */
Test(vfio_bind, failures_are_undone)
{
	int n;

	for (n = 1;; n++) {
		struct vfio_node node = node_of(NVME);
		struct error e = { .msg = "" };

		fake.writes = 0;
		fake.fail_at = n;
		if (vfio_bind(&fake.host, &node, &e) == 0)
			break;
		cr_expect(strstr(e.msg, NVME), "%s", e.msg);
		has(NVME, "nvme", "");
		cr_expect_not(recorded(NVME), "write %d", n);
	}
	cr_expect_eq(n, 4); /* override, unbind, probe */
	fake.fail_at = 0;
	unbound(NVME);
	fake.deaf = true;
	refused(NVME, -EIO, "did not take it");
	has(NVME, "nvme", "");
	test_no_leaks();
}

/* An unbind that fails may be tried again: the record is there until all is done. */
Test(vfio_bind, unbind_goes_on_where_it_failed)
{
	for (int n = 1; n <= 3; n++) {
		struct vfio_node node;
		struct error e;

		bound(NVME);
		node = node_of(NVME);
		fake.writes = 0;
		fake.fail_at = n;
		cr_expect_eq(vfio_unbind(&fake.host, &node, &e), -EIO, "write %d", n);
		cr_expect(recorded(NVME));
		fake.fail_at = 0;
		unbound(NVME);
		has(NVME, "nvme", "");
		cr_expect_not(recorded(NVME));
	}
}

/* mvm died between taking the driver and giving the function to VFIO. */
Test(vfio_bind, goes_on_from_half)
{
	struct vfio_record r;

	bound(NVME);
	set_driver(node_of(NVME).path, NULL);
	bound(NVME);
	cr_assert(record_of(NVME, &r));
	cr_expect_str_eq(r.driver, "nvme");
	set_driver(node_of(NVME).path, NULL);
	unbound(NVME);
	has(NVME, "nvme", "");
}

Test(vfio_bind, refusals)
{
	vfio_tree_file(&fake.tree, PCI(NIC, "sriov_totalvfs"), "7\n");
	vfio_tree_file(&fake.tree, PCI(NIC, "sriov_numvfs"), "2\n");
	refused(NIC, -EBUSY, "mvm vfio vf destroy " NIC);
	vfio_tree_pci(&fake.tree, "0000:00:01.0", 0x060400, 0x1b36, 0xc, "pcieport", 5);
	refused("0000:00:01.0", -EOPNOTSUPP, "bridge");
	vfio_tree_pci(&fake.tree, "0000:05:00.0", 0x020000, 0x8086, 0x10d3, "e1000e", -1);
	refused("0000:05:00.0", -ENXIO, "intel_iommu=on");
}

/* A disk with a partition, under the function's own directory, and one of another's. */
static void make_disks(void)
{
	vfio_tree_file(&fake.tree, PCI(NVME, "nvme/nvme0/nvme0n1/dev"), "259:0\n");
	vfio_tree_file(&fake.tree, PCI(NVME, "nvme/nvme0/nvme0n1/nvme0n1p2/dev"), "259:2\n");
	vfio_tree_file(&fake.tree, PCI(NVME, "nvme/nvme0/nvme0n1/nvme0n1p2/partition"), "2\n");
	vfio_tree_link(&fake.tree, "sys/block/nvme0n1",
		       "../devices/pci0000:00/" NVME "/nvme/nvme0/nvme0n1");
	vfio_tree_file(&fake.tree, "sys/block/vda/dev", "254:0\n");
}

Test(vfio_bind, disks_in_use)
{
	make_disks();
	vfio_tree_file(&fake.tree, "proc/swaps",
		       "Filename Type Size Used Priority\n/dev/vda partition 1 0 -2\n");
	vfio_tree_file(&fake.tree, "proc/self/mountinfo",
		       "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
		       "23 22 259:2 / /srv rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n");
	refused(NVME, -EBUSY, "nvme0n1p2 is mounted on /srv");
	vfio_tree_file(&fake.tree, "proc/self/mountinfo",
		       "23 22 0:55 / /home rw shared:1 - btrfs /dev/nvme0n1 rw\n");
	refused(NVME, -EBUSY, "nvme0n1 is mounted on /home");
	vfio_tree_file(&fake.tree, "proc/self/mountinfo", "23 22\n\n - \n");
	vfio_tree_file(&fake.tree, "proc/swaps", "Filename\n/dev/nvme0n1p2 partition 1 0 -2\n");
	refused(NVME, -EBUSY, "swapoff");
	vfio_tree_file(&fake.tree, "proc/swaps", "");
	vfio_tree_file(&fake.tree, PCI(NVME, "nvme/nvme0/nvme0n1/holders/dm-0/dev"), "253:0\n");
	refused(NVME, -EBUSY, "part of dm-0");
	bound(NIC); /* another's disk is nothing to it */
}

/* Whoever holds it where sysfs and this mount namespace do not tell. */
Test(vfio_bind, disks_that_are_held)
{
	make_disks();
	fake.held = "nvme0n1p2";
	refused(NVME, -EBUSY, "disk nvme0n1p2 is held by");
	fake.held = "nvme0n1";
	refused(NVME, -EBUSY, "disk nvme0n1 is held by");
	/* What says more comes first. */
	vfio_tree_file(&fake.tree, "proc/self/mountinfo",
		       "23 22 259:2 / /srv rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n");
	refused(NVME, -EBUSY, "nvme0n1p2 is mounted on /srv");
	vfio_tree_file(&fake.tree, "proc/self/mountinfo", "");
	fake.held = "vda";
	bound(NVME);
}

/* Multipath: the disk is not below the function; it stays as long as one controller leads there. */
Test(vfio_bind, nvme_subsystem_in_use)
{
	vfio_tree_dir(&fake.tree, PCI(NVME, "nvme/nvme0"));
	vfio_tree_link(&fake.tree, "sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0",
		       "../../../pci0000:00/" NVME "/nvme/nvme0");
	vfio_tree_file(&fake.tree, "sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/dev",
		       "259:1\n");
	vfio_tree_link(&fake.tree, "sys/class/nvme-subsystem/nvme-subsys0",
		       "../../devices/virtual/nvme-subsystem/nvme-subsys0");
	vfio_tree_link(&fake.tree, "sys/block/nvme0n1",
		       "../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1");
	vfio_tree_file(&fake.tree, "proc/self/mountinfo",
		       "23 22 259:1 / /srv rw - ext4 /dev/nvme0n1 rw\n");
	refused(NVME, -EBUSY, "mounted on /srv");
	vfio_tree_dir(&fake.tree, "sys/devices/pci0000:00/0000:03:00.1/nvme/nvme1");
	vfio_tree_link(&fake.tree, "sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme1",
		       "../../../pci0000:00/0000:03:00.1/nvme/nvme1");
	bound(NVME);
}

Test(vfio_bind, networks_in_use)
{
	vfio_tree_file(&fake.tree, PCI(NIC, "net/eth1/address"), "52:54:00:00:00:01\n");
	vfio_tree_file(
		&fake.tree, "proc/net/route",
		"Iface\tDestination\tGateway\neth0\t00000000\t0202000A\neth1\t0002000A\t00000000\n"
		"eth1\t00000000\t0202000A\n");
	refused(NIC, -EBUSY, "ip route del default dev eth1");
	vfio_tree_file(&fake.tree, "proc/net/route", "Iface\nxeth1\t00000000\neth1\n");
	vfio_tree_link(&fake.tree, PCI(NIC, "net/eth1/master"), "../../../virtual/net/br0");
	refused(NIC, -EBUSY, "part of br0");
}

#define ANY6 "00000000000000000000000000000000"

Test(vfio_bind, networks_in_use_by_ipv6_alone)
{
	vfio_tree_file(&fake.tree, PCI(NIC, "net/eth1/address"), "52:54:00:00:00:01\n");
	vfio_tree_file(&fake.tree, "proc/net/ipv6_route",
		       ANY6 " 00 " ANY6 " 00 fe800000000000000000000000000002 00000400 00000001 "
			    "00000000 00000003     eth1\n");
	refused(NIC, -EBUSY, "ip -6 route del default dev eth1");
	vfio_tree_file(&fake.tree, "proc/net/ipv6_route",
		       "fe80" ANY6 "\n" ANY6 " 08 " ANY6 " 00 " ANY6
		       " 00000100 00000001 00000000 00000001     eth1\n" ANY6 " 00 " ANY6
		       " 00 " ANY6 " ffffffff 00000001 00000000 00200200       lo\n");
	bound(NIC);
}

/* A VLAN, a macvlan and the like: what they are used for, the NIC is used for. */
Test(vfio_bind, networks_in_use_through_stacked_interfaces)
{
	vfio_tree_file(&fake.tree, PCI(NIC, "net/eth1/address"), "52:54:00:00:00:01\n");
	vfio_tree_link(&fake.tree, PCI(NIC, "net/eth1/upper_eth1.100"),
		       "../../../../virtual/net/eth1.100");
	vfio_tree_link(&fake.tree, "sys/class/net/eth1.100/upper_mv0", "../mv0");
	vfio_tree_link(&fake.tree, "sys/class/net/mv0/upper_eth1.100", "../eth1.100"); /* no end */
	vfio_tree_file(&fake.tree, "proc/net/route", "Iface\tDestination\neth1.100\t00000000\n");
	refused(NIC, -EBUSY, "through its interface eth1.100; ip route del default dev eth1.100");
	vfio_tree_file(&fake.tree, "proc/net/route", "Iface\tDestination\nmv0\t00000000\n");
	refused(NIC, -EBUSY, "ip route del default dev mv0");
	vfio_tree_file(&fake.tree, "proc/net/route", "");
	vfio_tree_link(&fake.tree, "sys/class/net/eth1.100/master", "../br0");
	refused(NIC, -EBUSY, "its interface eth1.100 is part of br0");
}

Test(vfio_bind, open_functions_are_not_unbound)
{
	struct vfio_node node;
	struct error e;

	bound(NVME);
	fake_process(77, "qemu", 'S', 1);
	fake_opens(77, 12, "dev/vfio/7");
	node = node_of(NVME);
	cr_expect_eq(vfio_unbind(&fake.host, &node, &e), -EBUSY);
	cr_expect(strstr(e.msg, "qemu (pid 77) has it open"), "%s", e.msg);
	has(NVME, "vfio-pci", "vfio-pci");
	/* By the cdev; and another group's file is nothing to it. */
	fake_opens(77, 12, "dev/vfio/devices/vfio3");
	vfio_tree_dir(&fake.tree, PCI(NVME, "vfio-dev/vfio3"));
	node = node_of(NVME);
	cr_expect_eq(vfio_unbind(&fake.host, &node, &e), -EBUSY);
	fake_opens(77, 12, "dev/vfio/77");
	unbound(NVME);
}

Test(vfio_bind, several_all_or_none)
{
	char *targets[] = { NVME, "04:00.0" }, *twice[] = { NVME, "03:00.0" }, *text = NULL;
	char *none[] = { NVME, "0000:09:00.0" };
	struct error e;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	cr_expect_eq(vfio_bind_all(&fake.host, twice, 2, out, &e), -EINVAL);
	cr_expect(strstr(e.msg, "twice"), "%s", e.msg);
	cr_expect_eq(vfio_bind_all(&fake.host, none, 2, out, &e), -ENODEV);
	has(NVME, "nvme", "");
	fake.fail_at = 6; /* the second one's probe */
	cr_expect_eq(vfio_bind_all(&fake.host, targets, 2, out, &e), -EIO);
	cr_expect(strncmp(e.msg, NIC, strlen(NIC)) == 0, "%s", e.msg);
	has(NVME, "nvme", "");
	has(NIC, "e1000e", "");
	cr_expect_not(recorded(NVME));
	/* One that was bound before the call stays bound. */
	bound(NVME);
	fake.writes = 0;
	fake.fail_at = 2;
	cr_expect_eq(vfio_bind_all(&fake.host, targets, 2, out, &e), -EIO);
	has(NVME, "vfio-pci", "vfio-pci");
	cr_expect_eq(ftell(out), 0);
	fake.fail_at = 0;
	vfio_tree_pci(&fake.tree, "0000:04:00.1", 0x020000, 0x8086, 0x10d3, "e1000e", 8);
	cr_expect_eq(vfio_bind_all(&fake.host, targets, 2, out, &e), 0);
	cr_expect_eq(vfio_unbind_all(&fake.host, targets, 2, out, &e), 0);
	fclose(out);
	cr_expect_str_eq(text,
			 NVME ": already with vfio-pci, IOMMU group 7\n" NIC
			      ": bound to vfio-pci, IOMMU group 8\n" NIC
			      ": cannot be used yet: others of its IOMMU group 8 have drivers: "
			      "0000:04:00.1 (e1000e); bind them too\n" NVME ": back with nvme\n" NIC
			      ": back with e1000e\n");
	free(text);
	test_no_leaks();
}

/* ---- records --------------------------------------------------------------------------------- */

Test(vfio_bind, damaged_records)
{
	static const char *const bad[] = {
		"",
		"driver=nvme",
		"nvme\n",
		"driver=../../../../tmp/x\noverride=\npid=0\nstart=0\n",
		"driver=.\n",
		"driver=n v\n",
		"driver=nvme\npid=-1\n",
		"driver=nvme\npid=99999999999999999999\n",
		"driver=nvme\npid=1x\n",
		"driver=nvme\npid=\n",
		"driver=0123456789012345678901234567890123456789012345678901234567890123456789\n",
		"driver=nvme\noverride=\n\001\n",
	};
	struct vfio_record r;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		vfio_tree_file(&fake.tree, RECORD(NVME), bad[i]);
		cr_expect_eq(vfio_state_read(&fake.host, NVME, &r), -EBADMSG, "%zu", i);
	}
	/* It is as if there was none. */
	bound(NVME);
	cr_assert(record_of(NVME, &r));
	vfio_tree_file(&fake.tree, RECORD(NVME), "???");
	unbound(NVME);
	has(NVME, "nvme", "");
	/* Words of a later version do no harm. */
	vfio_tree_file(&fake.tree, RECORD(NVME), "driver=nvme\nnew=1\n");
	cr_expect(record_of(NVME, &r));
}

/* ---- auto-bind ------------------------------------------------------------------------------- */

static int acquire(const char *name, struct vfio_autobind *held, struct error *e)
{
	struct vfio_node node = node_of(name);
	int err = vfio_autobind_acquire(&fake.host, &node, held, e);

	if (!err)
		cr_expect_str_eq(node.driver, "vfio-pci");
	return err;
}

Test(vfio_bind, auto_there_and_back)
{
	struct vfio_autobind held = { .name = "" };
	struct vfio_record r;
	struct error e;

	cr_assert_eq(acquire(NVME, &held, &e), 0, "%s", e.msg);
	has(NVME, "vfio-pci", "vfio-pci");
	cr_assert(record_of(NVME, &r));
	cr_expect_eq(r.pid, getpid());
	cr_expect_eq(r.start, 4242);
	cr_expect_str_eq(held.name, NVME);
	vfio_autobind_release(&fake.host, &held);
	has(NVME, "nvme", "");
	cr_expect_not(recorded(NVME));
	vfio_autobind_release(&fake.host, &held);
	test_no_leaks();
}

Test(vfio_bind, auto_leaves_what_was_bound_by_hand)
{
	struct vfio_autobind held;
	struct error e;

	bound(NVME);
	cr_assert_eq(acquire(NVME, &held, &e), 0);
	vfio_autobind_release(&fake.host, &held);
	has(NVME, "vfio-pci", "vfio-pci");
	cr_expect(recorded(NVME));
}

/* `mvm vfio bind` while a machine has it: it stays bound when that ends. */
Test(vfio_bind, by_hand_after_auto)
{
	struct vfio_autobind held;
	struct error e;

	cr_assert_eq(acquire(NVME, &held, &e), 0);
	bound(NVME);
	vfio_autobind_release(&fake.host, &held);
	has(NVME, "vfio-pci", "vfio-pci");
	unbound(NVME);
	has(NVME, "nvme", "");
}

Test(vfio_bind, auto_after_a_crash)
{
	struct vfio_autobind held, other;
	struct error e;
	pid_t me = getpid();

	/* Owned by a process whose pid is another's now; then by one that is a zombie; then none.
	 */
	for (int i = 0; i < 3; i++) {
		fake_process(me, "unit", 'R', 4242);
		cr_assert_eq(acquire(NVME, &held, &e), 0, "%s", e.msg);
		cr_assert_eq(acquire(NIC, &other, &e), 0, "%s", e.msg);
		fake_process(me, "un) it", i == 1 ? 'Z' : 'R', i == 0 ? 4243 : 4242);
		if (i == 2) {
			vfio_tree_file(&fake.tree, RECORD(NVME),
				       "driver=nvme\noverride=\npid=999999\nstart=4242\n");
			vfio_tree_file(&fake.tree, RECORD(NIC),
				       "driver=e1000e\noverride=\npid=999999\nstart=4242\n");
		}
		if (i == 1)
			fake_process(me, "unit", 'R', 4244);
		/* The next start takes the one over and puts the other back. */
		cr_assert_eq(acquire(NVME, &held, &e), 0, "%s", e.msg);
		has(NVME, "vfio-pci", "vfio-pci");
		has(NIC, "e1000e", "");
		cr_expect_not(recorded(NIC));
		vfio_autobind_release(&fake.host, &held);
		has(NVME, "nvme", "");
	}
	vfio_tree_file(&fake.tree, RECORD("0000:0b:00.0"),
		       "driver=e1000e\noverride=\npid=999999\nstart=4242\n"); /* unplugged since */
	cr_expect_eq(vfio_autobind_recover(&fake.host), 0);
	cr_expect_not(recorded("0000:0b:00.0"));
	test_no_leaks();
}

Test(vfio_bind, auto_refusals)
{
	struct vfio_autobind held;
	struct vfio_node node;
	struct error e;

	fake_process(88, "mvm", 'S', 99);
	vfio_tree_file(&fake.tree, RECORD(NVME), "driver=nvme\noverride=\npid=88\nstart=99\n");
	cr_expect_eq(acquire(NVME, &held, &e), -EBUSY);
	cr_expect(strstr(e.msg, "another mvm (pid 88)"), "%s", e.msg);
	node = node_of(NVME);
	cr_expect_eq(vfio_unbind(&fake.host, &node, &e), -EBUSY);
	cr_expect(strstr(e.msg, "mvm (pid 88) has it"), "%s", e.msg);
	cr_expect_str_eq(held.name, "");

	vfio_tree_pci(&fake.tree, "0000:04:00.1", 0x020000, 0x8086, 0x10d3, "e1000e", 8);
	cr_expect_eq(acquire(NIC, &held, &e), -EBUSY);
	cr_expect(strstr(e.msg, "group 8 have drivers: 0000:04:00.1 (e1000e)"), "%s", e.msg);
	has(NIC, "e1000e", "");

	bound(NIC);
	fake_process(89, "qemu", 'S', 99);
	fake_opens(89, 3, "dev/vfio/8");
	cr_expect_eq(acquire(NIC, &held, &e), -EBUSY);
	cr_expect(strstr(e.msg, "qemu (pid 89)"), "%s", e.msg);
	cr_expect_str_eq(held.name, "");
}

/* Another has put it back, or taken it over, since: it is theirs. */
Test(vfio_bind, auto_release_of_what_is_not_ours_any_more)
{
	struct vfio_autobind held;
	struct error e;

	cr_assert_eq(acquire(NVME, &held, &e), 0);
	vfio_tree_file(&fake.tree, RECORD(NVME), "driver=nvme\noverride=\npid=88\nstart=99\n");
	vfio_autobind_release(&fake.host, &held);
	has(NVME, "vfio-pci", "vfio-pci");
	cr_expect(recorded(NVME));
}
