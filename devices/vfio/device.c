/*
 * VFIO's ioctls on a device: see device.h and linux/vfio.h. What the kernel says of regions and
 * interrupts is read once when the device is opened.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "devices/vfio/device.h"

#define MAX_INFO (64u << 10) /* of a region, with its capabilities */

/* ---- what there is --------------------------------------------------------------------------- */

static int add_areas(struct vfio_region *r, const struct vfio_region_info *info, uint32_t at)
{
	const struct vfio_region_info_cap_sparse_mmap *sparse =
		(const void *)((const char *)info + at);
	uint64_t room;

	if (info->argsz - at < sizeof(*sparse))
		return -EINVAL;
	room = (info->argsz - at - sizeof(*sparse)) / sizeof(sparse->areas[0]);
	r->areas = 0;
	for (uint32_t i = 0; i < sparse->nr_areas && i < room && r->areas < VFIO_MAX_AREAS; i++)
		r->area[r->areas++] =
			(struct vfio_area){ sparse->areas[i].offset, sparse->areas[i].size };
	return 0;
}

/* All of it may be mapped, unless a capability says which parts. */
static int take_areas(struct vfio_region *r, const struct vfio_region_info *info)
{
	uint32_t at = info->flags & VFIO_REGION_INFO_FLAG_CAPS ? info->cap_offset : 0;

	if (!(info->flags & VFIO_REGION_INFO_FLAG_MMAP) || !info->size)
		return 0;
	r->area[0] = (struct vfio_area){ .offset = 0, .size = info->size };
	r->areas = 1;
	while (at && at % 8 == 0 && at + sizeof(struct vfio_info_cap_header) <= info->argsz) {
		const struct vfio_info_cap_header *h = (const void *)((const char *)info + at);

		if (h->id == VFIO_REGION_INFO_CAP_SPARSE_MMAP)
			return add_areas(r, info, at);
		if (h->next <= at)
			break; /* the kernel's chains go forward */
		at = h->next;
	}
	return 0;
}

static int read_region(struct vfio_device *d, unsigned index)
{
	struct vfio_region_info head = { .argsz = sizeof(head), .index = index }, *info;
	struct vfio_region *r = &d->region[index];
	int err = 0;

	if (ioctl(d->attachment.fd, VFIO_DEVICE_GET_REGION_INFO, &head) < 0)
		return errno == EINVAL ? 0 : -errno; /* an mdev may lack some */
	if (head.argsz < sizeof(head) || head.argsz > MAX_INFO)
		return -EINVAL;
	info = calloc(1, head.argsz);
	if (!info)
		return -ENOMEM;
	info->argsz = head.argsz;
	info->index = index;
	if (ioctl(d->attachment.fd, VFIO_DEVICE_GET_REGION_INFO, info) < 0)
		err = -errno;
	else if (info->argsz > head.argsz)
		err = -EAGAIN;
	if (!err) {
		r->offset = info->offset;
		r->size = info->size;
		r->flags = info->flags;
		err = take_areas(r, info);
	}
	free(info);
	return err;
}

static int read_irq(struct vfio_device *d, unsigned index)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

	if (ioctl(d->attachment.fd, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0)
		return errno == EINVAL ? 0 : -errno;
	if (info.flags & VFIO_IRQ_INFO_EVENTFD)
		d->irq[index] = (struct vfio_irq){ .count = info.count, .flags = info.flags };
	return 0;
}

static int describe(struct vfio_device *d, struct error *e)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	int err = 0;

	if (ioctl(d->attachment.fd, VFIO_DEVICE_GET_INFO, &info) < 0)
		return error_set_errno(e, -errno, "%s: VFIO does not describe it", d->name);
	d->flags = info.flags;
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI))
		return error_set(e, -ENODEV,
				 "%s is no PCI device, which is all that mvm passes through",
				 d->name);
	for (unsigned i = 0; i < VFIO_REGIONS && i < info.num_regions && !err; i++)
		err = read_region(d, i);
	for (unsigned i = 0; i < VFIO_IRQS && i < info.num_irqs && !err; i++)
		err = read_irq(d, i);
	if (!err && d->region[VFIO_PCI_CONFIG_REGION_INDEX].size < PCI_STD_HEADER_SIZEOF)
		err = -EINVAL;
	return err ? error_set_errno(e, err, "%s: VFIO does not describe it", d->name) : 0;
}

/* ---- using it -------------------------------------------------------------------------------- */

static int fd_read(struct vfio_device *d, unsigned region, uint64_t offset, void *buf, unsigned len)
{
	const struct vfio_region *r = &d->region[region];
	ssize_t n;

	if (offset > r->size || len > r->size - offset)
		return -EINVAL;
	do
		n = pread(d->attachment.fd, buf, len, (off_t)(r->offset + offset));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}

static int fd_write(struct vfio_device *d, unsigned region, uint64_t offset, const void *buf,
		    unsigned len)
{
	const struct vfio_region *r = &d->region[region];
	ssize_t n;

	if (offset > r->size || len > r->size - offset)
		return -EINVAL;
	do
		n = pwrite(d->attachment.fd, buf, len, (off_t)(r->offset + offset));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}

static int fd_set_irqs(struct vfio_device *d, unsigned index, unsigned action, unsigned start,
		       unsigned count, const int32_t *fd)
{
	size_t size = sizeof(struct vfio_irq_set) + (fd ? count * sizeof(*fd) : 0);
	struct vfio_irq_set *set = calloc(1, size);
	int ret;

	if (!set)
		return -ENOMEM;
	*set = (struct vfio_irq_set){
		.argsz = (uint32_t)size,
		.flags = action | (fd ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
		.index = index,
		.start = start,
		.count = count,
	};
	if (fd)
		memcpy(set->data, fd, count * sizeof(*fd));
	ret = ioctl(d->attachment.fd, VFIO_DEVICE_SET_IRQS, set);
	if (ret > 0)
		ret = -ENOSPC; /* the host has fewer vectors left */
	else if (ret < 0)
		ret = -errno;
	free(set);
	return ret;
}

/*
 * Without a function level reset, the kernel's own may be no more than a trip through D3, which
 * leaves some hardware as it was: a reset of its bus is better, where nobody else is on it.
 */
static int fd_reset(struct vfio_device *d)
{
	bool own = d->flags & VFIO_DEVICE_FLAGS_RESET;

	if (!d->flr && !d->mdev) {
		int err = vfio_hot_reset(d);

		if (!err || !own)
			return err;
	}
	if (!own)
		return -ENOTTY;
	return ioctl(d->attachment.fd, VFIO_DEVICE_RESET) < 0 ? -errno : 0;
}

static void *fd_map(struct vfio_device *d, unsigned region, uint64_t offset, uint64_t size)
{
	const struct vfio_region *r = &d->region[region];
	int prot = 0;
	void *at;

	if (r->flags & VFIO_REGION_INFO_FLAG_READ)
		prot |= PROT_READ;
	if (r->flags & VFIO_REGION_INFO_FLAG_WRITE)
		prot |= PROT_WRITE;
	at = mmap(NULL, size, prot, MAP_SHARED, d->attachment.fd, (off_t)(r->offset + offset));
	return at == MAP_FAILED ? NULL : at;
}

static void fd_unmap(struct vfio_device *d, void *at, uint64_t size)
{
	(void)d;
	munmap(at, size);
}

static void fd_release(struct vfio_device *d)
{
	struct vfio_attachment *a = &d->attachment;
	int nothing;

	/* KVM holds on to the file of a device; a group's is another matter. */
	if (!a->group && a->iommu->host->vfio_file)
		a->iommu->host->vfio_file(a->iommu->host, a->fd, false);
	/*
	 * Another vCPU may be about to use the number: it must not become somebody else's. The
	 * kernel lets go of the device when the last access under way returns.
	 */
	nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (nothing < 0)
		return;
	dup3(nothing, a->fd, O_CLOEXEC);
	close(nothing);
}

static void fd_close(struct vfio_device *d)
{
	vfio_detach(&d->attachment);
	vfio_autobind_release(&vfio_this_host, &d->bound);
	free(d);
}

static const struct vfio_ops fd_ops = {
	.read = fd_read,
	.write = fd_write,
	.set_irqs = fd_set_irqs,
	.reset = fd_reset,
	.map = fd_map,
	.unmap = fd_unmap,
	.release = fd_release,
	.close = fd_close,
};

int vfio_device_open(struct device_host *host, enum vfio_iommu_mode mode, const struct vfio_node *t,
		     const struct vfio_autobind *bound, struct vfio_device **out, struct error *e)
{
	struct vfio_device *d = calloc(1, sizeof(*d));
	struct vfio_autobind mine = *bound;
	int err;

	if (!d) {
		vfio_autobind_release(&vfio_this_host, &mine);
		return error_set(e, -ENOMEM, "out of memory");
	}
	d->ops = &fd_ops;
	d->mdev = t->kind == VFIO_MDEV;
	d->vf = t->pf[0];
	d->vendor = t->vendor;
	d->device = t->device;
	d->bound = mine;
	snprintf(d->name, sizeof(d->name), "%s", t->name);
	err = vfio_attach(host, mode, t, &d->attachment, e);
	if (!err)
		err = describe(d, e);
	if (err) {
		fd_close(d);
		return err;
	}
	*out = d;
	return 0;
}

/* ---- reset and abilities --------------------------------------------------------------------- */

/* Those that are reset with it; NULL: the kernel does not say, or there is nothing to reset so. */
static struct vfio_pci_hot_reset_info *reset_info(int fd)
{
	struct vfio_pci_hot_reset_info head = { .argsz = sizeof(head) }, *info;
	size_t size;

	if (ioctl(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &head) == 0 || errno != ENOSPC ||
	    head.count > 256)
		return NULL;
	size = sizeof(head) + head.count * sizeof(head.devices[0]);
	info = calloc(1, size);
	if (!info)
		return NULL;
	info->argsz = (uint32_t)size;
	if (ioctl(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info) < 0) {
		free(info);
		return NULL;
	}
	return info;
}

static int hot_reset_groups(struct vfio_device *d)
{
	struct vfio_pci_hot_reset_info *info = reset_info(d->attachment.fd);
	struct vfio_pci_hot_reset *reset;
	unsigned n = 0;
	int err = 0;

	if (!info)
		return -ENOTTY;
	reset = calloc(1, sizeof(*reset) + info->count * sizeof(reset->group_fds[0]));
	if (!reset) {
		free(info);
		return -ENOMEM;
	}
	/* The kernel checks it again; asking first spares it a reset that cannot be. */
	for (const struct vfio_open_group *g = d->attachment.iommu->groups; g; g = g->next)
		for (unsigned i = 0; i < info->count; i++)
			if (info->devices[i].group_id == (uint32_t)g->number) {
				reset->group_fds[n++] = g->fd;
				break;
			}
	reset->argsz = (uint32_t)(sizeof(*reset) + n * sizeof(reset->group_fds[0]));
	reset->count = n;
	if (ioctl(d->attachment.fd, VFIO_DEVICE_PCI_HOT_RESET, reset) < 0)
		err = -errno;
	free(reset);
	free(info);
	return err;
}

int vfio_hot_reset(struct vfio_device *d)
{
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };

	if (d->attachment.group)
		return hot_reset_groups(d);
	/* With iommufd the kernel knows whose the others are. */
	return ioctl(d->attachment.fd, VFIO_DEVICE_PCI_HOT_RESET, &reset) < 0 ? -errno : 0;
}

static bool can_migrate(const struct vfio_device *d)
{
	struct vfio_device_feature probe = {
		.argsz = sizeof(probe),
		.flags = VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET |
			 VFIO_DEVICE_FEATURE_MIGRATION,
	};

	return ioctl(d->attachment.fd, VFIO_DEVICE_FEATURE, &probe) == 0;
}

const char *vfio_device_abilities(struct vfio_device *d, char *buf, unsigned size)
{
	bool reset = d->flags & VFIO_DEVICE_FLAGS_RESET, migrate = can_migrate(d);

	snprintf(buf, size, "%s%s%s", reset ? "reset" : "", reset && migrate ? ", " : "",
		 migrate ? "migration"
		 : reset ? ""
			 : "neither reset nor migration");
	return buf;
}
