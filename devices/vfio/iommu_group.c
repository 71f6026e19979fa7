/*
 * The IOMMU by container and groups: /dev/vfio/vfio and /dev/vfio/GROUP. Devices that an IOMMU
 * cannot tell apart are one group, which is given away whole or not at all. In: a target. Out: the
 * device's fd, RAM mapped by type1 version 2. Documentation/driver-api/vfio.rst.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "devices/vfio/iommu.h"

static int open_container(struct vfio_iommu *io, struct error *e)
{
	const struct vfio_node none = { .name = "the VFIO container", .group = -1 };
	int fd = vfio_open_file("/dev/vfio/vfio", &none, e);

	if (fd < 0)
		return fd;
	if (ioctl(fd, VFIO_GET_API_VERSION) != VFIO_API_VERSION ||
	    ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1) {
		close(fd);
		return error_set(e, -ENODEV,
				 "VFIO offers no type1 IOMMU; load it: modprobe vfio_iommu_type1");
	}
	io->fd = fd;
	return 0;
}

/* ---- groups ---- */

static void drop_group(struct vfio_iommu *io, struct vfio_open_group *g)
{
	struct vfio_open_group **link = &io->groups;

	if (g->users)
		return;
	while (*link != g)
		link = &(*link)->next;
	*link = g->next;
	if (io->host->vfio_file)
		io->host->vfio_file(io->host, g->fd, false);
	ioctl(g->fd, VFIO_GROUP_UNSET_CONTAINER);
	if (!io->groups)
		io->ready = false; /* the container forgets its IOMMU with its last group */
	close(g->fd);
	free(g);
}

static int join(struct vfio_iommu *io, const struct vfio_node *t, int fd, struct error *e)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };

	if (ioctl(fd, VFIO_GROUP_GET_STATUS, &status) < 0)
		return error_set_errno(e, -errno, "IOMMU group %d", t->group);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return vfio_attach_error(-EBUSY, t, "its IOMMU group is not viable", e);
	if (ioctl(fd, VFIO_GROUP_SET_CONTAINER, &io->fd) < 0)
		return vfio_attach_error(-errno, t, "cannot join the other devices' IOMMU", e);
	if (!io->ready && ioctl(io->fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0) {
		int err = -errno;

		ioctl(fd, VFIO_GROUP_UNSET_CONTAINER);
		return vfio_attach_error(err, t, "the IOMMU refuses it", e);
	}
	io->ready = true;
	return 0;
}

static struct vfio_open_group *find_group(struct vfio_iommu *io, int number)
{
	struct vfio_open_group *g = io->groups;

	while (g && g->number != number)
		g = g->next;
	return g;
}

static int add_group(struct vfio_iommu *io, const struct vfio_node *t, struct error *e)
{
	struct vfio_open_group *g = calloc(1, sizeof(*g));
	char path[64];
	int err;

	if (!g)
		return error_set(e, -ENOMEM, "out of memory");
	snprintf(path, sizeof(path), "/dev/vfio/%d", t->group);
	g->number = t->group;
	g->fd = vfio_open_file(path, t, e);
	err = g->fd < 0 ? g->fd : join(io, t, g->fd, e);
	if (err < 0) {
		if (g->fd >= 0)
			close(g->fd);
		free(g);
		return err;
	}
	g->next = io->groups;
	io->groups = g;
	/* Before the device is opened: its driver may want to know the VM. */
	if (io->host->vfio_file)
		io->host->vfio_file(io->host, g->fd, true);
	return 0;
}

static int attach(struct vfio_iommu *io, const struct vfio_node *t, struct vfio_attachment *a,
		  struct error *e)
{
	int err = find_group(io, t->group) ? 0 : add_group(io, t, e);

	if (err)
		return err;
	a->group = find_group(io, t->group);
	a->fd = ioctl(a->group->fd, VFIO_GROUP_GET_DEVICE_FD, t->name);
	if (a->fd < 0) {
		err = -errno;
		drop_group(io, a->group);
		return vfio_attach_error(err, t, "VFIO does not open it", e);
	}
	a->group->users++;
	return 0;
}

static void detach(struct vfio_iommu *io, struct vfio_attachment *a)
{
	close(a->fd);
	a->group->users--;
	drop_group(io, a->group);
}

/* ---- addresses ---- */

/* The capability chain's entry with this id that has at least `least` bytes, or NULL. */
static const struct vfio_info_cap_header *find_cap(const void *info, uint32_t argsz, uint32_t at,
						   uint16_t id, uint32_t least)
{
	while (at && at % 8 == 0 && at + sizeof(struct vfio_info_cap_header) <= argsz) {
		const struct vfio_info_cap_header *h = (const void *)((const char *)info + at);

		if (h->id == id && least <= argsz - at)
			return h;
		if (h->next <= at)
			return NULL; /* the kernel's chains go forward */
		at = h->next;
	}
	return NULL;
}

static int take_ranges(const struct vfio_iommu_type1_info *info, struct vfio_range *range,
		       unsigned max)
{
	const struct vfio_iommu_type1_info_cap_iova_range *cap =
		(const void *)find_cap(info, info->argsz, info->cap_offset,
				       VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, sizeof(*cap));
	uint64_t room;
	unsigned n = 0;

	if (!cap)
		return 0;
	room = (info->argsz - (uint64_t)((const char *)cap->iova_ranges - (const char *)info)) /
	       sizeof(cap->iova_ranges[0]);
	for (; n < cap->nr_iovas && n < room && n < max; n++)
		range[n] =
			(struct vfio_range){ cap->iova_ranges[n].start, cap->iova_ranges[n].end };
	return (int)n;
}

static int ranges(struct vfio_iommu *io, struct vfio_range *range, unsigned max)
{
	struct vfio_iommu_type1_info head = { .argsz = sizeof(head) }, *info;
	int n = 0;

	if (ioctl(io->fd, VFIO_IOMMU_GET_INFO, &head) < 0)
		return -errno;
	if (head.argsz <= sizeof(head))
		return 0;
	info = calloc(1, head.argsz);
	if (!info)
		return -ENOMEM;
	info->argsz = head.argsz;
	if (ioctl(io->fd, VFIO_IOMMU_GET_INFO, info) < 0)
		n = -errno;
	else if (info->argsz > head.argsz)
		n = -EAGAIN; /* it grew between the two calls */
	else if (info->flags & VFIO_IOMMU_INFO_CAPS)
		n = take_ranges(info, range, max);
	free(info);
	return n;
}

static int map(struct vfio_iommu *io, uint64_t iova, uint64_t size, void *host)
{
	struct vfio_iommu_type1_dma_map arg = {
		.argsz = sizeof(arg),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)host,
		.iova = iova,
		.size = size,
	};

	return ioctl(io->fd, VFIO_IOMMU_MAP_DMA, &arg) < 0 ? -errno : 0;
}

static void unmap(struct vfio_iommu *io, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap arg = { .argsz = sizeof(arg),
						  .iova = iova,
						  .size = size };

	ioctl(io->fd, VFIO_IOMMU_UNMAP_DMA, &arg);
}

const struct vfio_iommu_ops vfio_iommu_group_ops = {
	.name = "group",
	.open = open_container,
	.attach = attach,
	.detach = detach,
	.ranges = ranges,
	.map = map,
	.unmap = unmap,
};
