/*
 * The IOMMU by iommufd: /dev/iommu holds the address space, /dev/vfio/devices/vfioN is the device.
 * In: a target. Out: the device's fd, bound and attached; RAM mapped into the one address space.
 * Documentation/userspace-api/iommufd.rst, Documentation/driver-api/vfio.rst.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "devices/vfio/iommu.h"
#include "devices/vfio/uapi.h"
#include "devices/vfio/use.h"

static int open_iommufd(struct vfio_iommu *io, struct error *e)
{
	const struct vfio_node none = { .name = "iommufd", .group = -1 };
	struct iommufd_ioas_alloc alloc = { .size = sizeof(alloc) };
	int fd = vfio_open_file("/dev/iommu", &none, e);

	if (fd == -ENOENT || fd == -ENODEV)
		return error_set(e, fd, "this kernel has no iommufd; use iommu=group");
	if (fd < 0)
		return fd;
	if (ioctl(fd, IOMMUFD_IOAS_ALLOC, &alloc) < 0) {
		int err = error_set_errno(e, -errno, "iommufd gives no address space");

		close(fd);
		return err;
	}
	io->fd = fd;
	io->ioas = alloc.out_ioas_id;
	io->ready = true;
	return 0;
}

/* 0 or -errno; then *what was asked for in vain. */
static int bind_device(const struct vfio_iommu *io, int fd, const char **what)
{
	struct cdev_bind bind = { .argsz = sizeof(bind), .iommufd = io->fd };
	struct cdev_attach att = { .argsz = sizeof(att), .pt_id = io->ioas };

	*what = "iommufd does not take it";
	if (ioctl(fd, CDEV_BIND_IOMMUFD, &bind) < 0)
		return -errno;
	*what = "cannot join the other devices' IOMMU";
	return ioctl(fd, CDEV_ATTACH_IOMMUFD, &att) < 0 ? -errno : 0;
}

/* Our own file is closed: one that is open now is somebody else's, and only one may be bound. */
static int bind_error(int err, const struct vfio_node *t, const char *what, struct error *e)
{
	char who[VFIO_NAME_MAX];

	if (err == -EINVAL && vfio_opened(&vfio_this_host, t, who, sizeof(who)))
		err = -EBUSY;
	return vfio_attach_error(err, t, what, e);
}

static int attach(struct vfio_iommu *io, const struct vfio_node *t, struct vfio_attachment *a,
		  struct error *e)
{
	char path[VFIO_NAME_MAX + 32];
	const char *what;
	int err;

	if (!t->cdev[0])
		return error_set(e, -ENODEV, "%s has no VFIO device file; use iommu=group",
				 t->name);
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", t->cdev);
	if (access(path, F_OK))
		return error_set(e, -ENODEV,
				 "%s is not there: this kernel has no VFIO device "
				 "files; use iommu=group",
				 path);
	a->fd = vfio_open_file(path, t, e);
	if (a->fd < 0)
		return a->fd;
	/* Before it is bound: its driver may want to know the VM. */
	if (io->host->vfio_file)
		io->host->vfio_file(io->host, a->fd, true);
	err = bind_device(io, a->fd, &what);
	if (!err)
		return 0;
	if (io->host->vfio_file)
		io->host->vfio_file(io->host, a->fd, false);
	close(a->fd);
	return bind_error(err, t, what, e);
}

static void detach(struct vfio_iommu *io, struct vfio_attachment *a)
{
	if (io->host->vfio_file)
		io->host->vfio_file(io->host, a->fd, false);
	close(a->fd); /* unbinds and detaches */
}

static int ranges(struct vfio_iommu *io, struct vfio_range *range, unsigned max)
{
	struct iommufd_range got[VFIO_MAX_RANGES];
	struct iommufd_iova_ranges arg = {
		.size = sizeof(arg),
		.ioas_id = io->ioas,
		.num_iovas = VFIO_MAX_RANGES,
		.allowed_iovas = (uintptr_t)got,
	};

	/* More than there is room for: the first ones are filled in. */
	if (ioctl(io->fd, IOMMUFD_IOAS_IOVA_RANGES, &arg) < 0 && errno != EMSGSIZE)
		return -errno;
	if (arg.num_iovas < max)
		max = arg.num_iovas;
	for (unsigned i = 0; i < max; i++)
		range[i] = (struct vfio_range){ got[i].start, got[i].last };
	return (int)max;
}

static int map(struct vfio_iommu *io, uint64_t iova, uint64_t size, void *host)
{
	struct iommufd_ioas_map arg = {
		.size = sizeof(arg),
		.flags = IOMMUFD_MAP_FIXED_IOVA | IOMMUFD_MAP_READABLE | IOMMUFD_MAP_WRITEABLE,
		.ioas_id = io->ioas,
		.user_va = (uintptr_t)host,
		.length = size,
		.iova = iova,
	};

	return ioctl(io->fd, IOMMUFD_IOAS_MAP, &arg) < 0 ? -errno : 0;
}

static void unmap(struct vfio_iommu *io, uint64_t iova, uint64_t size)
{
	struct iommufd_ioas_unmap arg = {
		.size = sizeof(arg), .ioas_id = io->ioas, .iova = iova, .length = size
	};

	ioctl(io->fd, IOMMUFD_IOAS_UNMAP, &arg);
}

const struct vfio_iommu_ops vfio_iommu_fd_ops = {
	.name = "iommufd",
	.open = open_iommufd,
	.attach = attach,
	.detach = detach,
	.ranges = ranges,
	.map = map,
	.unmap = unmap,
};
