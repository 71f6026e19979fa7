/*
 * Virtual functions and mediated devices made and taken apart, on a host that the test makes
 * (vfio_fake.h), whose NVMe controller answers as the specification has it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/vfio/bind.h"
#include "devices/vfio/mdev.h"
#include "devices/vfio/sriov.h"
#include "tests/unit/test_options.h"
#include "tests/unit/vfio_fake.h"

#define VF0 "0000:03:10.0"
#define VF1 "0000:03:10.1"

static void setup(void)
{
	fake_setup();
	fake_sriov();
}

TestSuite(vfio_sriov, .init = setup, .fini = fake_teardown);
TestSuite(vfio_mdev, .init = fake_setup, .fini = fake_teardown);

static int create(const char *name, unsigned count, unsigned queues, unsigned vectors,
		  struct error *e)
{
	const struct vfio_nvme_share share = { queues, vectors };
	struct vfio_node pf = node_of(name);

	e->msg[0] = '\0';
	fake.commands = fake.writes = 0;
	return vfio_vf_create(&fake.host, &pf, count, &share, e);
}

static void created(const char *name, unsigned count, unsigned queues, unsigned vectors)
{
	struct error e;

	cr_assert_eq(create(name, count, queues, vectors, &e), 0, "%s", e.msg);
	cr_expect_eq(node_of(name).numvfs, count);
}

static void refused(const char *name, unsigned count, int err, const char *says)
{
	struct error e;
	unsigned had = node_of(name).numvfs;

	cr_expect_eq(create(name, count, 0, 0, &e), err, "%s", e.msg);
	cr_expect(strncmp(e.msg, name, strlen(name)) == 0 && strstr(e.msg, says), "%s", e.msg);
	cr_expect_eq(node_of(name).numvfs, had);
}

static int destroy(const char *name, struct error *e)
{
	struct vfio_node pf = node_of(name);

	e->msg[0] = '\0';
	return vfio_vf_destroy(&fake.host, &pf, e);
}

/* ---- plain VFs ------------------------------------------------------------------------------- */

Test(vfio_sriov, there_and_back)
{
	struct vfio_node *vf, pf;
	struct error e;
	unsigned n;

	created(NIC, 3, 0, 0);
	pf = node_of(NIC);
	cr_assert_eq(vfio_node_vfs(fake.tree.root, &pf, &vf, &n, &e), 0);
	cr_assert_eq(n, 3);
	cr_expect_str_eq(vf[2].driver, "igbvf");
	free(vf);
	created(NIC, 3, 0, 0); /* just as many: nothing to do */
	refused(NIC, 2, -EBUSY, "mvm vfio vf destroy " NIC);
	cr_expect_eq(destroy(NIC, &e), 0, "%s", e.msg);
	cr_expect_eq(node_of(NIC).numvfs, 0);
	cr_expect_eq(destroy(NIC, &e), 0, "%s", e.msg);
	cr_expect_eq(fake.commands, 0); /* no NVMe here */
	test_no_leaks();
}

Test(vfio_sriov, refusals)
{
	struct error e;

	refused(NIC, 0, -ERANGE, "1 to 4 VFs, not 0");
	refused(NIC, 5, -ERANGE, "1 to 4 VFs, not 5");
	cr_expect_eq(create(NIC, 2, 4, 0, &e), -EOPNOTSUPP);
	cr_expect(strstr(e.msg, "for NVMe"), "%s", e.msg);
	set_driver(node_of(NIC).path, NULL);
	refused(NIC, 2, -ENODEV, "no driver");
	set_driver(node_of(NIC).path, "vfio-pci");
	refused(NIC, 2, -EBUSY, "mvm vfio unbind " NIC);
	vfio_tree_pci(&fake.tree, "0000:05:00.0", 0x020000, 0x8086, 0x10d3, "e1000e", 5);
	refused("0000:05:00.0", 1, -EOPNOTSUPP, "no SR-IOV");
	cr_expect_eq(destroy("0000:05:00.0", &e), -EOPNOTSUPP);
	created(NVME, 1, 0, 0);
	refused(VF0, 1, -EOPNOTSUPP, "a VF itself, of " NVME);
}

/* Whatever holds one VF, none is destroyed. */
Test(vfio_sriov, vfs_in_use_stay)
{
	struct vfio_node vf;
	struct error e;

	created(NVME, 2, 0, 0);
	vf = node_of(VF1);
	cr_assert_eq(vfio_bind(&fake.host, &vf, &e), 0, "%s", e.msg);
	fake_process(77, "qemu", 'S', 1);
	fake_opens(77, 9, "dev/vfio/21");
	cr_expect_eq(destroy(NVME, &e), -EBUSY);
	cr_expect(strstr(e.msg, "VF 1 (" VF1 ") is in use: qemu (pid 77)"), "%s", e.msg);
	cr_expect_eq(node_of(NVME).numvfs, 2);
	fake_opens(77, 9, "dev/null");

	vfio_tree_file(&fake.tree, RECORD(VF1), "driver=nvme\noverride=\npid=77\nstart=1\n");
	cr_expect_eq(destroy(NVME, &e), -EBUSY);
	cr_expect(strstr(e.msg, "mvm (pid 77)"), "%s", e.msg);
	vfio_tree_file(&fake.tree, RECORD(VF1), "driver=nvme\noverride=\npid=0\nstart=0\n");

	vfio_tree_file(&fake.tree, PCI(VF0, "nvme/nvme1/nvme1n1/dev"), "259:5\n");
	vfio_tree_link(&fake.tree, "sys/block/nvme1n1",
		       "../devices/pci0000:00/" VF0 "/nvme/nvme1/nvme1n1");
	vfio_tree_file(&fake.tree, "proc/self/mountinfo", "1 2 259:5 / /srv rw - ext4 x rw\n");
	cr_expect_eq(destroy(NVME, &e), -EBUSY);
	cr_expect(strstr(e.msg, "nvme1n1 is mounted on /srv"), "%s", e.msg);
	vfio_tree_file(&fake.tree, "proc/self/mountinfo", "");

	vfio_tree_file(&fake.tree, PCI(VF0, "net/eth7/flags"), "0x1003\n");
	cr_expect_eq(destroy(NVME, &e), -EBUSY);
	cr_expect(strstr(e.msg, "ip link set eth7 down"), "%s", e.msg);
	vfio_tree_file(&fake.tree, PCI(VF0, "net/eth7/flags"), "0x1002\n");

	/* Bound, but not open: it may go, and what it was before is forgotten. */
	cr_expect_eq(destroy(NVME, &e), 0, "%s", e.msg);
	cr_expect_not(recorded(VF1));
	test_no_leaks();
}

/* ---- NVMe ------------------------------------------------------------------------------------ */

static void share_is(unsigned vf, unsigned queues, unsigned vectors, bool online)
{
	cr_expect_eq(fake.secondary[vf].queues, queues, "VF %u: %u queues", vf,
		     fake.secondary[vf].queues);
	cr_expect_eq(fake.secondary[vf].vectors, vectors, "VF %u: %u vectors", vf,
		     fake.secondary[vf].vectors);
	cr_expect_eq(fake.secondary[vf].online, online, "VF %u", vf);
}

Test(vfio_sriov, nvme_vfs_come_online_before_their_driver)
{
	struct error e;

	created(NVME, 2, 0, 0);
	share_is(0, 5, 5, true);
	share_is(1, 5, 5, true);
	share_is(2, 0, 0, false);
	cr_expect_not(fake.seen_offline);
	cr_expect_str_eq(node_of(VF1).driver, "nvme");
	cr_expect_eq(*vfio_tree_read(&fake.tree, PCI(NVME, "sriov_drivers_autoprobe")), '1');
	cr_expect_eq(destroy(NVME, &e), 0, "%s", e.msg);
	for (unsigned i = 0; i < FAKE_VFS; i++)
		share_is(i, 0, 0, false);
	test_no_leaks();
}

Test(vfio_sriov, nvme_without_autoprobe)
{
	vfio_tree_file(&fake.tree, PCI(NVME, "sriov_drivers_autoprobe"), "0\n");
	created(NVME, 1, 0, 0);
	share_is(0, 8, 8, true); /* as much as one may have */
	cr_expect_str_eq(node_of(VF0).driver, "");
	cr_expect_eq(*vfio_tree_read(&fake.tree, PCI(NVME, "sriov_drivers_autoprobe")), '0');
}

Test(vfio_sriov, nvme_shares)
{
	struct error e;

	created(NVME, 2, 3, 1);
	share_is(1, 3, 1, true);
	destroy(NVME, &e);
	fake.granularity = 4;
	created(NVME, 2, 0, 0);
	share_is(1, 4, 4, true);
	destroy(NVME, &e);
	fake.primary = 4; /* the controller itself has some */
	created(NVME, 3, 0, 0);
	share_is(2, 2, 2, true);
	destroy(NVME, &e);
	refused(NVME, 4, -ENOSPC, "of its 10 flexible queue pairs 6 are free");
	cr_expect_eq(create(NVME, 1, 9, 0, &e), -ENOSPC);
	fake.primary = 0;
	cr_expect_eq(create(NVME, 1, 9, 0, &e), -ERANGE);
	cr_expect(strstr(e.msg, "8 queue pairs at most"), "%s", e.msg);
	cr_expect_eq(node_of(NVME).numvfs, 0);
	fake.total = 0;
	refused(NVME, 1, -ENOSPC, "0 are free");
}

/* What another tool, or a crash, left with VFs that are not there is taken back first. */
Test(vfio_sriov, nvme_leftovers)
{
	fake.secondary[3] = (struct fake_secondary){ .queues = 8, .vectors = 9 };
	created(NVME, 2, 0, 0);
	share_is(1, 5, 5, true);
	share_is(3, 0, 0, false);
}

Test(vfio_sriov, nvme_without_virtualization_management)
{
	struct error e;

	fake.no_virtualization = true;
	created(NVME, 2, 0, 0);
	share_is(0, 0, 0, false);
	cr_expect_eq(destroy(NVME, &e), 0);
	cr_expect_eq(create(NVME, 2, 2, 0, &e), -EOPNOTSUPP);
}

/* Whichever command or write fails: no VF, no resource with one, and autoprobe as it was. */
static void all_undone(int n)
{
	cr_expect_eq(node_of(NVME).numvfs, 0, "%d", n);
	cr_expect_eq(*vfio_tree_read(&fake.tree, PCI(NVME, "sriov_drivers_autoprobe")), '1', "%d",
		     n);
	for (unsigned i = 0; i < FAKE_VFS; i++)
		share_is(i, 0, 0, false);
}

Test(vfio_sriov, nvme_failures_are_undone)
{
	struct error e;
	int n, failures = 0;

	for (n = 2; n < 100; n++) { /* 1: whether it manages at all */
		fake.refuse_at = n;
		if (create(NVME, 2, 0, 0, &e) == 0) {
			if (fake.commands < n)
				break;
			destroy(NVME, &e); /* a refusal before the VFs, which does no harm */
			continue;
		}
		failures++;
		cr_expect(strstr(e.msg, "NVMe status 0x120"), "%s", e.msg);
		all_undone(n);
	}
	cr_expect_eq(failures, 8); /* two lists, and three commands for each VF */
	fake.refuse_at = 0;
	destroy(NVME, &e);
	for (n = 1, failures = 0; n < 100; n++) {
		fake.fail_at = n;
		if (create(NVME, 2, 0, 0, &e) == 0) {
			if (fake.writes < n)
				break;
			fake.fail_at = 0;
			vfio_tree_file(&fake.tree, PCI(NVME, "sriov_drivers_autoprobe"), "1\n");
			destroy(NVME, &e);
			continue;
		}
		fake.fail_at = 0;
		failures++;
		all_undone(n);
	}
	cr_expect_eq(failures, 4); /* autoprobe, the number, a reset of each VF */
	test_no_leaks();
}

/* ---- settings -------------------------------------------------------------------------------- */

Test(vfio_sriov, mac_spellings)
{
	static const char *const bad[] = { "",
					   "52:54:00:12:34",
					   "52:54:00:12:34:56:78",
					   "52-54-00-12-34-56",
					   "52:54:00:12:34:5g",
					   "525:4:00:12:34:56",
					   "52:54:00:12:34:5",
					   "01:00:5e:00:00:01",
					   "ff:ff:ff:ff:ff:ff",
					   "00:00:00:00:00:00",
					   "52:54:00:12:34:+6" };
	uint8_t mac[6];

	cr_expect(vfio_parse_mac("52:54:00:aB:34:56", mac));
	cr_expect_arr_eq(mac, ((uint8_t[]){ 0x52, 0x54, 0, 0xab, 0x34, 0x56 }), 6);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_not(vfio_parse_mac(bad[i], mac), "%s", bad[i]);
}

Test(vfio_sriov, set_refusals)
{
	const struct vfio_vf_net want = { .has_vlan = true, .vlan = 5 };
	struct vfio_node pf = node_of(NIC);
	struct error e;

	cr_expect_eq(vfio_vf_set(&fake.host, &pf, 0, &want, &e), -ERANGE);
	cr_expect(strstr(e.msg, "it has 0 VFs, so there is no VF 0; mvm vfio vf create " NIC " N"),
		  "%s", e.msg);
	created(NIC, 2, 0, 0);
	pf = node_of(NIC);
	cr_expect_eq(vfio_vf_set(&fake.host, &pf, 2, &want, &e), -ERANGE);
	cr_expect(strstr(e.msg, "it has VFs 0 to 1, so there is no VF 2"), "%s", e.msg);
	cr_expect_eq(vfio_vf_set(&fake.host, &pf, 1, &want, &e), -ENODEV);
	cr_expect(strstr(e.msg, "no network interface by its driver e1000e"), "%s", e.msg);
	/* An interface that the kernel does not have, and one that has no VFs. */
	vfio_tree_dir(&fake.tree, PCI(NIC, "net/mvm-none"));
	cr_expect_lt(vfio_vf_set(&fake.host, &pf, 1, &want, &e), 0);
	cr_expect(strstr(e.msg, "mvm-none"), "%s", e.msg);
	vfio_tree_dir(&fake.tree, PCI(NIC, "net/lo"));
	cr_expect_eq(vfio_vf_set(&fake.host, &pf, 1, &want, &e), -ENOENT);
	cr_expect(strstr(e.msg, "lo does not tell of VF 1"), "%s", e.msg);
	cr_expect_neq(vfio_net_vf_set("lo", 1, &want, &e), -EINVAL);
}

/* ---- mediated devices ------------------------------------------------------------------------ */

Test(vfio_mdev, there_and_back)
{
	struct vfio_node node;
	struct error e;

	vfio_tree_mdev_type(&fake.tree, "mtty", "mtty-1", "3\n");
	vfio_tree_mdev_type(&fake.tree, "mtty", "mtty-2", "1\n");
	vfio_tree_file(&fake.tree, "proc/sys/kernel/random/uuid", UUID "\n");
	cr_assert_eq(vfio_mdev_create(&fake.host, "mtty", "mtty-2", NULL, &node, &e), 0, "%s",
		     e.msg);
	cr_expect_str_eq(node.name, UUID);
	cr_expect_str_eq(node.type, "mtty-2");
	cr_expect_str_eq(node.parent, "mtty");

	cr_expect_eq(vfio_mdev_create(&fake.host, "mtty", "mtty-2", NULL, &node, &e), -ENOSPC);
	cr_expect(strstr(e.msg, "no more mtty-2 can be made (1 are there)"), "%s", e.msg);
	cr_expect_eq(vfio_mdev_create(&fake.host, "mtty", "mtty-1", UUID, &node, &e), -EEXIST);
	cr_expect(strstr(e.msg, UUID), "%s", e.msg);

	fake_process(77, "mvm", 'S', 1);
	fake_opens(77, 3, "dev/vfio/30");
	cr_expect_eq(vfio_mdev_destroy(&fake.host, &node, &e), -EBUSY);
	cr_expect(strstr(e.msg, "mvm (pid 77)"), "%s", e.msg);
	fake_opens(77, 3, "dev/vfio/31");
	cr_expect_eq(vfio_mdev_destroy(&fake.host, &node, &e), 0, "%s", e.msg);
	cr_expect_eq(vfio_node_refresh(fake.tree.root, &node, &e), -ENODEV);
	test_no_leaks();
}

Test(vfio_mdev, refusals)
{
	struct vfio_node node;
	struct error e;

	cr_expect_eq(vfio_mdev_create(&fake.host, "mtty", "mtty-1", UUID, &node, &e), -ENODEV);
	cr_expect(strstr(e.msg, "is its driver loaded?"), "%s", e.msg);
	vfio_tree_mdev_type(&fake.tree, "mtty", "mtty-1", "3\n");
	vfio_tree_mdev_type(&fake.tree, "mtty", "mtty-2", "0\n");
	vfio_tree_mdev_type(&fake.tree, NIC, "a-1", "1\n");
	cr_expect_eq(vfio_mdev_create(&fake.host, "xtty", "mtty-1", UUID, &node, &e), -ENODEV);
	cr_expect(strstr(e.msg, "these do: " NIC ", mtty"), "%s", e.msg);
	cr_expect_eq(vfio_mdev_create(&fake.host, "mtty", "mtty-9", UUID, &node, &e), -ENODEV);
	cr_expect(strstr(e.msg, "it makes mtty-1 (3 free), mtty-2 (0 free)"), "%s", e.msg);
	cr_expect_eq(vfio_mdev_create(&fake.host, "mtty", "mtty-1", "12", &node, &e), -EINVAL);
	cr_expect_eq(vfio_mdev_create(&fake.host, "mtty", "mtty-1", NULL, &node, &e), -ENOENT);
	fake.fail_at = 1;
	cr_expect_eq(vfio_mdev_create(&fake.host, "mtty", "mtty-1", UUID, &node, &e), -EIO);
	fake.fail_at = 0;
	/* By the name for people, and by a parent's short address. */
	cr_expect_eq(vfio_mdev_create(&fake.host, "mtty", "Dual port serial", UUID, &node, &e), 0);
	cr_expect_str_eq(node.type, "mtty-1");
	cr_expect_eq(vfio_mdev_create(&fake.host, "04:00.0", "a-2", UUID, &node, &e), -ENODEV);
	cr_expect(strstr(e.msg, "it makes a-1 (1 free)"), "%s", e.msg);
	node = node_of(NVME);
	cr_expect_eq(vfio_mdev_destroy(&fake.host, &node, &e), -EINVAL);
	test_no_leaks();
}
