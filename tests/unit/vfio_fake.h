/*
 * A host for devices/vfio that the test makes: a tree with an NVMe function and a NIC, and a kernel
 * that the test plays. Writes to drivers_probe, bind, unbind, driver_override, sriov_numvfs, a
 * type's create and a device's remove do what Linux does; any of them can be made to fail.
 */
#ifndef TESTS_UNIT_VFIO_FAKE_H
#define TESTS_UNIT_VFIO_FAKE_H

#include <sys/types.h>

#include "devices/vfio/host.h"
#include "tests/unit/vfio_tree.h"

#define PCI(bdf, file) "sys/devices/pci0000:00/" bdf "/" file
#define RECORD(bdf)    "run/mvm/vfio/" bdf
#define NVME	       "0000:03:00.0" /* group 7, driver nvme */
#define NIC	       "0000:04:00.0" /* group 8, driver e1000e */
#define UUID	       "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

/* The NVMe controller's secondary controllers, as far as the specification has them remember. */
struct fake_secondary {
	unsigned queues, vectors;
	bool online;
	bool ready; /* it was reset since it got its resources */
};
#define FAKE_VFS 4

struct vfio_fake {
	struct vfio_host host; /* first */
	struct vfio_tree tree;
	int writes, fail_at;	 /* this write fails, counted from 1; 0: none */
	const char *loadable;	 /* a driver that load() can bring */
	bool deaf;		 /* vfio-pci takes nothing */
	const char *held;	 /* a disk or partition that somebody has exclusively */
	int commands, refuse_at; /* this NVMe command ends with a status */
	bool no_virtualization;
	unsigned total, primary, max_each, granularity; /* flexible resources, of both kinds */
	struct fake_secondary secondary[FAKE_VFS];
	bool seen_offline; /* a driver got a VF that was not online */
};

extern struct vfio_fake fake;

void fake_setup(void);
void fake_teardown(void);

/* A process of the fake /proc, and one of its descriptors. */
void fake_process(pid_t pid, const char *comm, char state, unsigned start);
void fake_opens(pid_t pid, int fd, const char *file);
/* Makes NVME, with its controller nvme0, a PF of FAKE_VFS VFs; NIC one of plain ones. */
void fake_sriov(void);

void set_driver(const char *dir, const char *driver);
struct vfio_node node_of(const char *name);
bool recorded(const char *name);

#endif
