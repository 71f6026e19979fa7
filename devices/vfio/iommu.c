/*
 * What both ways to the IOMMU have in common: choosing one, guest RAM, the limit on locked memory,
 * and who comes and goes. See iommu.h and Documentation/driver-api/vfio.rst.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "devices/vfio/iommu.h"
#include "devices/vfio/use.h"

#define MIB (1ull << 20)

static int in_use(const struct vfio_node *t, int err, struct error *e)
{
	char who[VFIO_NAME_MAX] = "another process";

	if (t->group >= 0)
		vfio_opened(&vfio_this_host, t, who, sizeof(who));
	return error_set(e, err, "%s is in use: %s has it", t->name, who);
}

int vfio_open_file(const char *path, const struct vfio_node *t, struct error *e)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	switch (errno) {
	case EBUSY:
		return in_use(t, -EBUSY, e);
	case EACCES:
	case EPERM:
		return error_set(e, -errno,
				 "no permission to open %s; run as root, or: chown $USER %s", path,
				 path);
	case ENOENT:
	case ENODEV:
		return error_set(e, -errno,
				 "%s is not there; load VFIO's modules: modprobe vfio-pci", path);
	default:
		return error_set_errno(e, -errno, "cannot open %s", path);
	}
}

int vfio_attach_error(int err, const struct vfio_node *t, const char *what, struct error *e)
{
	struct vfio_group group;
	char blockers[512] = "";
	struct error ignored;

	if (vfio_group_read(NULL, t->group, &group, &ignored) == 0) {
		vfio_group_blockers(&group, blockers, sizeof(blockers));
		vfio_group_free(&group);
	}
	if (blockers[0])
		return error_set(
			e, err,
			"IOMMU group %d is not viable: it also holds %s, whose DMA nothing "
			"keeps apart; give all of the group to VFIO (mvm vfio bind)",
			t->group, blockers);
	if (err == -EPERM)
		return error_set(
			e, err,
			"no interrupt remapping, without which a guest can forge the host's "
			"interrupts; switch it on in the firmware (x2APIC, VT-d, AMD-Vi) and "
			"leave intremap=off away");
	if (err == -EBUSY)
		return in_use(t, err, e);
	return error_set_errno(e, err, "%s: %s", t->name, what);
}

/* ---- locked memory ---- */

/* As far as this process may; whether it was enough shows when RAM is mapped. */
static void raise_limit(uint64_t need)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY ||
	    limit.rlim_cur >= need)
		return;
	limit.rlim_cur = need;
	if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < need) {
		rlim_t max = limit.rlim_max;

		limit.rlim_max = need; /* root may */
		if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0)
			return;
		limit.rlim_cur = limit.rlim_max = max;
	}
	setrlimit(RLIMIT_MEMLOCK, &limit);
}

static int map_error(int err, const struct guest_memory *ram, struct error *e)
{
	struct rlimit limit = { 0 };

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (err == -ENOMEM && limit.rlim_cur < ram->size)
		return error_set(
			e, err,
			"guest RAM of %llu MiB must be locked, the limit (RLIMIT_MEMLOCK) is "
			"%llu MiB; raise it to %llu KiB (ulimit -l, or memlock in "
			"/etc/security/limits.conf), use less --memory, or run as root",
			(unsigned long long)(ram->size / MIB),
			(unsigned long long)(limit.rlim_cur / MIB),
			(unsigned long long)(ram->size / 1024));
	return error_set_errno(e, err, "the IOMMU cannot map %llu MiB of guest RAM",
			       (unsigned long long)(ram->size / MIB));
}

/* ---- guest RAM ---- */

static int check_ranges(struct vfio_iommu *io, struct error *e)
{
	const struct guest_memory *ram = io->host->memory;
	struct vfio_range range[VFIO_MAX_RANGES];
	uint64_t top = 0;
	int n = io->ops->ranges(io, range, VFIO_MAX_RANGES);

	if (n < 0)
		return error_set_errno(e, n, "cannot ask the IOMMU which addresses it reaches");
	for (int i = 0; i < n; i++)
		if (range[i].last > top)
			top = range[i].last;
	/* n is 0 where the kernel is too old to tell: then mapping will. */
	for (unsigned i = 0; n && i < ram->nregions; i++) {
		const struct memory_region *r = &ram->region[i];
		uint64_t last = r->gpa + r->size - 1;

		if (vfio_ranges_hold(range, (unsigned)n, r->gpa, last))
			continue;
		if (last > top)
			return error_set(
				e, -ERANGE,
				"the IOMMU reaches addresses up to %#llx, guest RAM ends at "
				"%#llx; use less --memory",
				(unsigned long long)top, (unsigned long long)last);
		return error_set(e, -ERANGE,
				 "the host reserves addresses inside %#llx-%#llx, where guest RAM "
				 "is; see reserved_regions of the IOMMU group",
				 (unsigned long long)r->gpa, (unsigned long long)last);
	}
	return 0;
}

void vfio_iommu_unmap_ram(struct vfio_iommu *io)
{
	const struct guest_memory *ram = io->host->memory;

	while (io->mapped > 0) {
		const struct memory_region *r = &ram->region[--io->mapped];

		io->ops->unmap(io, r->gpa, r->size);
	}
	memory_unpin(io->host->memory);
}

int vfio_iommu_map_ram(struct vfio_iommu *io, struct error *e)
{
	struct guest_memory *ram = io->host->memory;
	int err = check_ranges(io, e);

	if (err)
		return err;
	raise_limit(ram->size);
	memory_pin(ram);
	for (unsigned i = 0; i < ram->nregions; i++) {
		const struct memory_region *r = &ram->region[i];

		err = io->ops->map(io, r->gpa, r->size, r->host);
		if (err) {
			vfio_iommu_unmap_ram(io);
			return map_error(err, ram, e);
		}
		io->mapped++;
	}
	return 0;
}

/* ---- who comes and goes ---- */

/* The device's own file and iommufd, where this kernel has both. */
static bool has_iommufd(const struct vfio_node *t)
{
	char path[VFIO_NAME_MAX + 32];

	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", t->cdev);
	return t->cdev[0] && access("/dev/iommu", F_OK) == 0 && access(path, F_OK) == 0;
}

static int check_driver(const struct vfio_node *t, struct error *e)
{
	if (t->group < 0)
		return error_set(
			e, -ENODEV,
			"no IOMMU keeps its DMA inside the guest; switch VT-d or AMD-Vi on in "
			"the firmware and in the kernel (intel_iommu=on)");
	if (t->cdev[0] || t->kind == VFIO_MDEV || vfio_is_vfio_driver(t->driver))
		return 0;
	if (t->driver[0])
		return error_set(e, -EBUSY, "driver %s holds it; free it with: mvm vfio bind %s",
				 t->driver, t->name);
	return error_set(e, -EBUSY, "no driver holds it; give it to VFIO with: mvm vfio bind %s",
			 t->name);
}

/* NULL: e says why. */
static struct vfio_iommu *make(struct device_host *host, enum vfio_iommu_mode mode,
			       const struct vfio_node *t, struct error *e)
{
	struct vfio_iommu *io = calloc(1, sizeof(*io));

	if (!io) {
		error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	if (mode == VFIO_IOMMU_AUTO)
		mode = has_iommufd(t) ? VFIO_IOMMU_IOMMUFD : VFIO_IOMMU_GROUP;
	io->host = host;
	io->fd = -1;
	io->ops = mode == VFIO_IOMMU_GROUP ? &vfio_iommu_group_ops : &vfio_iommu_fd_ops;
	if (io->ops->open(io, e) < 0) {
		free(io);
		return NULL;
	}
	host->iommu = io;
	return io;
}

static void put(struct vfio_iommu *io)
{
	if (io->users)
		return;
	io->host->iommu = NULL;
	close(io->fd);
	free(io);
}

static int same_mode(const struct vfio_iommu *io, enum vfio_iommu_mode mode, struct error *e)
{
	bool group = io->ops == &vfio_iommu_group_ops;

	if (mode == VFIO_IOMMU_AUTO || (mode == VFIO_IOMMU_GROUP) == group)
		return 0;
	return error_set(e, -EINVAL,
			 "the vfio devices before it use iommu=%s, and one machine has one; give "
			 "them all the same",
			 group ? "group" : "iommufd");
}

int vfio_attach(struct device_host *host, enum vfio_iommu_mode mode, const struct vfio_node *t,
		struct vfio_attachment *a, struct error *e)
{
	struct vfio_iommu *io = host->iommu;
	int err = check_driver(t, e);

	if (!err && io)
		err = same_mode(io, mode, e);
	if (err)
		return err;
	if (!io)
		io = make(host, mode, t, e);
	if (!io)
		return -EIO;
	*a = (struct vfio_attachment){ .iommu = io, .fd = -1 };
	err = io->ops->attach(io, t, a, e);
	if (err) {
		*a = (struct vfio_attachment){ .fd = -1 };
		put(io);
		return err;
	}
	io->users++;
	if (io->users == 1) {
		err = vfio_iommu_map_ram(io, e);
		if (err)
			vfio_detach(a);
	}
	return err;
}

void vfio_detach(struct vfio_attachment *a)
{
	struct vfio_iommu *io = a->iommu;

	if (!io)
		return;
	io->users--;
	if (io->users == 0 && io->mapped)
		vfio_iommu_unmap_ram(io);
	io->ops->detach(io, a);
	put(io);
	*a = (struct vfio_attachment){ .fd = -1 };
}
