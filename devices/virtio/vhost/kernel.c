/*
 * The calls that all vhost files of the kernel take: see kernel.h. A worker thread of the kernel
 * ("vhost-PID", a thread of ours since Linux 6.4) does the work; it reads and writes guest memory
 * through the addresses it is given here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/virtio/vhost/kernel.h"

#define MAX_TASKS 1024u

int vhost_kernel_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do {
		r = ioctl(fd, request, arg);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

int vhost_kernel_open(int *fd, const char *node, const char *module, struct error *e)
{
	int opened = open(node, O_RDWR | O_CLOEXEC | O_NONBLOCK), err = -errno;
	uint64_t features;

	if (opened >= 0) {
		err = vhost_kernel_ioctl(opened, VHOST_GET_FEATURES, &features);
		if (err == -ENOTTY || err == -EINVAL) {
			close(opened);
			return error_set(e, -EINVAL, "%s is not a vhost device of the kernel",
					 node);
		}
		*fd = opened;
		return 0;
	}
	if (err == -ENOENT || err == -ENODEV || err == -ENXIO)
		return error_set(e, err,
				 "the kernel offers no %s; load its module as root: modprobe %s",
				 node, module);
	if (err == -EACCES || err == -EPERM)
		return error_set(e, err,
				 "you may not open %s; run mvm as a user of its group (ls -l %s), "
				 "or as root",
				 node, node);
	if (err == -EBUSY)
		return error_set(e, err, "%s is in use by another program; give each its own",
				 node);
	return error_set_errno(e, err, "%s", node);
}

/* Threads of ours whose name says that they are the kernel's. */
static unsigned workers(pid_t *tid, unsigned max)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned n = 0;

	while (dir && n < max && (entry = readdir(dir))) {
		char path[300], name[16] = "";
		int fd;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read(fd, name, sizeof(name) - 1) > 0 && strncmp(name, "vhost-", 6) == 0)
			tid[n++] = (pid_t)strtol(entry->d_name, NULL, 10);
		close(fd);
	}
	if (dir)
		closedir(dir);
	return n;
}

static bool among(const pid_t *tid, unsigned n, pid_t one)
{
	for (unsigned i = 0; i < n; i++)
		if (tid[i] == one)
			return true;
	return false;
}

int vhost_kernel_own(int fd, const char *node, pid_t *tid, struct error *e)
{
	pid_t before[MAX_TASKS], after[MAX_TASKS];
	unsigned nbefore = workers(before, MAX_TASKS), nafter;
	int err = vhost_kernel_ioctl(fd, VHOST_SET_OWNER, NULL);

	*tid = 0;
	if (err == -EBUSY)
		return error_set(e, err, "%s has an owner already", node);
	if (err)
		return error_set_errno(e, err, "%s: cannot start its worker", node);
	nafter = workers(after, MAX_TASKS);
	for (unsigned i = 0; i < nafter; i++)
		if (!among(before, nbefore, after[i]))
			*tid = after[i];
	return 0;
}

int vhost_kernel_features(int fd, const char *node, uint64_t *features, struct error *e)
{
	__u64 bits;
	int err = vhost_kernel_ioctl(fd, VHOST_GET_FEATURES, &bits);

	*features = bits;
	return err ? error_set_errno(e, err, "%s: cannot ask for its features", node) : 0;
}

/* ---- set-up ---------------------------------------------------------------------------------- */

int vhost_kernel_set_features(int fd, uint64_t features)
{
	__u64 bits = features;

	return vhost_kernel_ioctl(fd, VHOST_SET_FEATURES, &bits);
}

int vhost_kernel_set_memory(int fd, const struct guest_memory *memory)
{
	size_t size =
		sizeof(struct vhost_memory) + memory->nregions * sizeof(struct vhost_memory_region);
	struct vhost_memory *table = calloc(1, size);
	int err;

	if (!table)
		return -ENOMEM;
	table->nregions = memory->nregions;
	for (unsigned i = 0; i < memory->nregions; i++) {
		const struct memory_region *r = &memory->region[i];

		table->regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = r->gpa,
			.memory_size = r->size,
			.userspace_addr = (uintptr_t)r->host,
		};
	}
	err = vhost_kernel_ioctl(fd, VHOST_SET_MEM_TABLE, table);
	free(table);
	return err;
}

/* ---- rings ----------------------------------------------------------------------------------- */

static int set_file(int fd, unsigned long request, unsigned index, int file)
{
	struct vhost_vring_file arg = { .index = index, .fd = file };

	return vhost_kernel_ioctl(fd, request, &arg);
}

/* Packed rings say all in one word: taken in the lower half, given back in the upper one. */
static unsigned base_word(const struct vhost_vring *ring)
{
	const struct virtq_state *b = &ring->base;

	if (!ring->packed)
		return b->avail_idx;
	return (b->avail_idx | (unsigned)b->avail_wrap << 15) |
	       (b->used_idx | (unsigned)b->used_wrap << 15) << 16;
}

int vhost_kernel_set_vring(int fd, unsigned index, const struct vhost_vring *ring, bool iova)
{
	struct vhost_vring_state num = { .index = index, .num = ring->size };
	struct vhost_vring_state base = { .index = index, .num = base_word(ring) };
	struct vhost_vring_addr addr = {
		.index = index,
		.desc_user_addr = iova ? ring->desc : (uintptr_t)ring->desc_host,
		.avail_user_addr = iova ? ring->driver : (uintptr_t)ring->driver_host,
		.used_user_addr = iova ? ring->device : (uintptr_t)ring->device_host,
	};
	int err = vhost_kernel_ioctl(fd, VHOST_SET_VRING_NUM, &num);

	if (!err)
		err = vhost_kernel_ioctl(fd, VHOST_SET_VRING_ADDR, &addr);
	if (!err)
		err = vhost_kernel_ioctl(fd, VHOST_SET_VRING_BASE, &base);
	if (!err)
		err = set_file(fd, VHOST_SET_VRING_ERR, index, ring->err);
	if (!err)
		err = set_file(fd, VHOST_SET_VRING_CALL, index, ring->call);
	/* Last: from here on it hears the driver. */
	if (!err)
		err = set_file(fd, VHOST_SET_VRING_KICK, index, ring->kick);
	return err;
}

int vhost_kernel_set_call(int fd, unsigned index, int eventfd)
{
	return set_file(fd, VHOST_SET_VRING_CALL, index, eventfd);
}

int vhost_kernel_get_base(int fd, unsigned index, bool packed, struct virtq_state *base)
{
	struct vhost_vring_state state = { .index = index };
	int err = vhost_kernel_ioctl(fd, VHOST_GET_VRING_BASE, &state);

	if (err)
		return err;
	*base = virtq_state_reset();
	if (packed) {
		base->avail_idx = state.num & 0x7fff;
		base->avail_wrap = state.num & 0x8000;
		base->used_idx = state.num >> 16 & 0x7fff;
		base->used_wrap = state.num >> 31;
	} else {
		base->avail_idx = (uint16_t)state.num;
	}
	/* The doorbell and the interrupts are no business of its any more. */
	set_file(fd, VHOST_SET_VRING_KICK, index, VHOST_FILE_UNBIND);
	set_file(fd, VHOST_SET_VRING_CALL, index, VHOST_FILE_UNBIND);
	set_file(fd, VHOST_SET_VRING_ERR, index, VHOST_FILE_UNBIND);
	return 0;
}
