/*
 * Guest RAM in one shared memfd: see memory.h. The memfd is sealed against shrinking and growing,
 * so that no process we share it with (vhost-user) can make our mapping fault.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/memfd.h>

#include "vmm/memory.h"

static const char *page_size_name(uint64_t size)
{
	return size == 1ull << 30 ? "1G" : "2M";
}

static void add_region(struct guest_memory *m, uint64_t gpa, uint64_t size, void *host,
		       uint64_t fd_offset)
{
	m->region[m->nregions++] = (struct memory_region){
		.gpa = gpa,
		.size = size,
		.host = host,
		.fd_offset = fd_offset,
		.map = host,
		.map_size = size,
	};
}

/* Reserves address space with the alignment that huge pages want; only what is mapped over it
 * counts. */
static uint8_t *reserve(uint64_t size, uint64_t align)
{
	uint8_t *area = mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *start;

	if (area == MAP_FAILED)
		return NULL;
	start = (uint8_t *)(((uintptr_t)area + align - 1) & ~(uintptr_t)(align - 1));
	if (start > area)
		munmap(area, (size_t)(start - area));
	if (area + align > start)
		munmap(start + size, (size_t)(area + align - start));
	return start;
}

static int populate(const struct guest_memory *m, struct error *e)
{
	for (unsigned i = 0; i < m->nregions; i++) {
		const struct memory_region *r = &m->region[i];

		if (madvise(r->host, r->size, MADV_POPULATE_WRITE) < 0)
			return error_set_errno(e, -errno,
					       "--memory: cannot preallocate %llu MiB of guest RAM",
					       (unsigned long long)(r->size >> 20));
	}
	return 0;
}

int memory_create(struct guest_memory *m, const struct memory_config *config, uint64_t low_limit,
		  uint64_t high_base, struct error *e)
{
	uint64_t page = config->page_size ? config->page_size : 4096;
	uint64_t align = config->page_size > 2u << 20 ? config->page_size : 2u << 20;
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	uint64_t low;
	uint8_t *host;
	int err;

	*m = (struct guest_memory){ .fd = -1 };
	if (config->size == 0 || config->size % page)
		return error_set(e, -EINVAL,
				 "--memory: %llu bytes is not a multiple of %llu KiB pages",
				 (unsigned long long)config->size, (unsigned long long)page >> 10);
	if (config->page_size)
		flags |= MFD_HUGETLB |
			 (config->page_size == 1ull << 30 ? MFD_HUGE_1GB : MFD_HUGE_2MB);

	m->fd = memfd_create("mvm-ram", flags);
	if (m->fd < 0)
		return error_set_errno(e, -errno, "--memory: cannot make a memfd for guest RAM");
	if (ftruncate(m->fd, (off_t)config->size) < 0) {
		err = error_set_errno(e, -errno, "--memory: cannot size guest RAM to %llu MiB",
				      (unsigned long long)(config->size >> 20));
		goto fail;
	}
	if (fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		err = error_set_errno(e, -errno, "--memory: cannot seal guest RAM");
		goto fail;
	}

	host = reserve(config->size, align);
	if (!host || mmap(host, config->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m->fd,
			  0) == MAP_FAILED) {
		int mmap_errno = errno;

		if (host)
			munmap(host, config->size);
		if (config->page_size)
			err = error_set_errno(
				e, -mmap_errno,
				"--memory: cannot map %llu MiB of %s huge pages; are "
				"that many in "
				"/sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages?",
				(unsigned long long)(config->size >> 20),
				page_size_name(config->page_size),
				(unsigned long long)config->page_size >> 10);
		else
			err = error_set_errno(e, -mmap_errno,
					      "--memory: cannot map %llu MiB of guest RAM",
					      (unsigned long long)(config->size >> 20));
		goto fail;
	}
	/* Guest RAM is large and uninteresting in a core dump, and must not reach children. */
	madvise(host, config->size, MADV_DONTDUMP);
	madvise(host, config->size, MADV_DONTFORK);
	if (!config->page_size)
		madvise(host, config->size, MADV_HUGEPAGE);

	m->size = config->size;
	m->page_size = page;
	low = config->size < low_limit ? config->size : low_limit;
	add_region(m, 0, low, host, 0);
	if (config->size > low)
		add_region(m, high_base, config->size - low, host + low, low);

	if (config->prealloc) {
		err = populate(m, e);
		if (err)
			goto fail;
	}
	return 0;

fail:
	memory_destroy(m);
	return err;
}

void memory_destroy(struct guest_memory *m)
{
	for (unsigned i = 0; i < m->nregions; i++)
		munmap(m->region[i].map, m->region[i].map_size);
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct guest_memory){ .fd = -1 };
}

static const struct memory_region *find(const struct guest_memory *m, uint64_t gpa)
{
	for (unsigned i = 0; i < m->nregions; i++)
		if (gpa - m->region[i].gpa < m->region[i].size)
			return &m->region[i];
	return NULL;
}

void *memory_map(const struct guest_memory *m, uint64_t gpa, uint64_t len, uint64_t align)
{
	const struct memory_region *r = find(m, gpa);
	uint64_t offset;

	if (!r || len == 0 || (gpa & (align - 1)))
		return NULL;
	offset = gpa - r->gpa;
	if (len > r->size - offset)
		return NULL;
	return r->host + offset;
}

int memory_iov(const struct guest_memory *m, uint64_t gpa, uint64_t len, struct iovec *iov, int max)
{
	int n = 0;

	while (len > 0) {
		const struct memory_region *r = find(m, gpa);
		uint64_t offset, part;

		if (!r)
			return -EFAULT;
		if (n == max)
			return -ENOSPC;
		offset = gpa - r->gpa;
		part = len < r->size - offset ? len : r->size - offset;
		iov[n++] = (struct iovec){ .iov_base = r->host + offset, .iov_len = part };
		gpa += part;
		len -= part;
	}
	return n;
}

bool memory_contains(const struct guest_memory *m, uint64_t gpa, uint64_t len)
{
	struct iovec iov[MEMORY_MAX_REGIONS];

	return memory_iov(m, gpa, len, iov, MEMORY_MAX_REGIONS) >= 0;
}

int memory_read(const struct guest_memory *m, uint64_t gpa, void *buf, size_t len)
{
	struct iovec iov[MEMORY_MAX_REGIONS];
	int n = memory_iov(m, gpa, len, iov, MEMORY_MAX_REGIONS);
	uint8_t *to = buf;

	if (n < 0)
		return -EFAULT;
	for (int i = 0; i < n; to += iov[i].iov_len, i++)
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
	return 0;
}

int memory_write(const struct guest_memory *m, uint64_t gpa, const void *buf, size_t len)
{
	struct iovec iov[MEMORY_MAX_REGIONS];
	int n = memory_iov(m, gpa, len, iov, MEMORY_MAX_REGIONS);
	const uint8_t *from = buf;

	if (n < 0)
		return -EFAULT;
	for (int i = 0; i < n; from += iov[i].iov_len, i++)
		memcpy(iov[i].iov_base, from, iov[i].iov_len);
	return 0;
}

int memory_zero(const struct guest_memory *m, uint64_t gpa, size_t len)
{
	struct iovec iov[MEMORY_MAX_REGIONS];
	int n = memory_iov(m, gpa, len, iov, MEMORY_MAX_REGIONS);

	if (n < 0)
		return -EFAULT;
	for (int i = 0; i < n; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
	return 0;
}

static int64_t discard(const struct guest_memory *m, uint64_t fd_offset, uint64_t len)
{
	uint64_t mask = m->page_size - 1;
	uint64_t start = (fd_offset + mask) & ~mask, end = (fd_offset + len) & ~mask;

	if (start >= end)
		return 0;
	/*
	 * The page is the file's, not the mapping's: madvise(MADV_DONTNEED) would only unmap it.
	 * This takes it out of all mappings, ours, KVM's and those of other processes.
	 */
	while (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start,
			 (off_t)(end - start)) < 0)
		if (errno != EINTR)
			return -errno;
	return (int64_t)(end - start);
}

int64_t memory_discard(const struct guest_memory *m, uint64_t gpa, uint64_t len)
{
	int64_t sum = 0;

	if (!memory_contains(m, gpa, len))
		return -EFAULT;
	if (__atomic_load_n(&m->pins, __ATOMIC_ACQUIRE))
		return -EBUSY;
	while (len > 0) {
		const struct memory_region *r = find(m, gpa);
		uint64_t offset = gpa - r->gpa;
		uint64_t part = len < r->size - offset ? len : r->size - offset;
		int64_t n = discard(m, r->fd_offset + offset, part);

		if (n < 0)
			return n;
		sum += n;
		gpa += part;
		len -= part;
	}
	return sum;
}

int64_t memory_discard_host(const struct guest_memory *m, const void *host, uint64_t len)
{
	for (unsigned i = 0; i < m->nregions; i++) {
		const struct memory_region *r = &m->region[i];
		uint64_t offset = (uintptr_t)host - (uintptr_t)r->host;

		if (offset < r->size && len <= r->size - offset)
			return memory_discard(m, r->gpa + offset, len);
	}
	return -EFAULT;
}

void memory_pin(struct guest_memory *m)
{
	__atomic_fetch_add(&m->pins, 1, __ATOMIC_ACQ_REL);
}

void memory_unpin(struct guest_memory *m)
{
	__atomic_fetch_sub(&m->pins, 1, __ATOMIC_ACQ_REL);
}
