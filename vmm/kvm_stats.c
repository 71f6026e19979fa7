/*
 * Reading KVM's statistics files: see kvm_stats.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "vmm/kvm_stats.h"

#define MAX_STATS 4096u
#define MAX_NAME  4096u
#define MAX_DATA  (1u << 20)

static bool read_at(int fd, void *buf, size_t len, uint64_t offset)
{
	return pread(fd, buf, len, (off_t)offset) == (ssize_t)len;
}

static const struct kvm_stats_desc *descriptor(const struct kvm_stats *s, uint32_t i)
{
	return (const void *)(s->descriptors + i * s->descriptor_size);
}

static bool load(struct kvm_stats *s)
{
	struct kvm_stats_header h;

	if (!read_at(s->fd, &h, sizeof(h), 0) || h.num_desc > MAX_STATS || h.name_size > MAX_NAME)
		return false;
	s->count = h.num_desc;
	s->name_size = h.name_size;
	s->data_offset = h.data_offset;
	s->descriptor_size = sizeof(struct kvm_stats_desc) + h.name_size;
	s->descriptors = malloc(s->count * s->descriptor_size);
	if (!s->descriptors ||
	    !read_at(s->fd, s->descriptors, s->count * s->descriptor_size, h.desc_offset))
		return false;
	for (uint32_t i = 0; i < s->count; i++) {
		const struct kvm_stats_desc *d = descriptor(s, i);
		size_t end = d->offset + d->size * sizeof(uint64_t);

		if (d->offset % sizeof(uint64_t) || end > MAX_DATA)
			return false;
		s->descriptors[i * s->descriptor_size + s->descriptor_size - 1] = '\0';
		if (end > s->data_size)
			s->data_size = end;
	}
	s->data = malloc(s->data_size ? s->data_size : 1);
	return s->data;
}

void kvm_stats_open(struct kvm_stats *s, int fd)
{
	*s = (struct kvm_stats){ .fd = ioctl(fd, KVM_GET_STATS_FD, 0) };
	if (s->fd < 0)
		return;
	fcntl(s->fd, F_SETFD, FD_CLOEXEC);
	if (!load(s))
		kvm_stats_close(s);
}

void kvm_stats_close(struct kvm_stats *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->descriptors);
	free(s->data);
	*s = (struct kvm_stats){ .fd = -1 };
}

static const char *unit_name(uint32_t flags)
{
	switch (flags & KVM_STATS_UNIT_MASK) {
	case KVM_STATS_UNIT_BYTES:
		return "bytes";
	case KVM_STATS_UNIT_SECONDS:
		return "seconds";
	case KVM_STATS_UNIT_CYCLES:
		return "cycles";
	default:
		return "";
	}
}

int kvm_stats_read(struct kvm_stats *s, void (*fn)(const struct kvm_stat *stat, void *arg),
		   void *arg)
{
	if (s->fd < 0)
		return -ENOENT;
	if (!read_at(s->fd, s->data, s->data_size, s->data_offset))
		return -EIO;
	for (uint32_t i = 0; i < s->count; i++) {
		const struct kvm_stats_desc *d = descriptor(s, i);
		uint32_t type = d->flags & KVM_STATS_TYPE_MASK;
		struct kvm_stat stat = {
			.name = d->name,
			.unit = unit_name(d->flags),
			.exponent = d->exponent,
			.count = d->size,
			.linear = type == KVM_STATS_TYPE_LINEAR_HIST,
			.bucket = d->bucket_size,
			.value = s->data + d->offset / sizeof(uint64_t),
		};

#ifdef KVM_STATS_UNIT_BOOLEAN
		stat.boolean = (d->flags & KVM_STATS_UNIT_MASK) == KVM_STATS_UNIT_BOOLEAN;
#endif
		if (stat.count)
			fn(&stat, arg);
	}
	return 0;
}
