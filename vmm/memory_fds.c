/*
 * Guest RAM that another process owns, mapped from the files it has sent (a vhost-user memory
 * table): see memory.h. In: parts nobody has checked. Out: a guest_memory like any other.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/memory.h"

#define LARGEST (1ull << 47) /* bytes: more address space than there is */

static int by_gpa(const void *a, const void *b)
{
	const struct memory_part *x = a, *y = b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

static int check(const struct memory_part *p, const struct memory_part *before, struct error *e)
{
	if (p->size == 0 || p->size > LARGEST || p->gpa > UINT64_MAX - p->size ||
	    p->fd_offset > LARGEST)
		return error_set(e, -EINVAL, "memory of a size or address that cannot be");
	if (before && p->gpa - before->gpa < before->size)
		return error_set(e, -EINVAL, "memory regions that overlap");
	return 0;
}

/* A mapping begins at a page of the file's, which may be a huge one. */
static int map_part(struct memory_region *r, const struct memory_part *p, struct error *e)
{
	uint64_t page, skip, size;
	struct stat st;
	void *map;

	if (fstat(p->fd, &st) < 0)
		return error_set_errno(e, -errno, "cannot look at a file of memory");
	if (!S_ISREG(st.st_mode))
		return error_set(e, -EINVAL, "memory in something that is not a file");
	if ((uint64_t)st.st_size < p->fd_offset || (uint64_t)st.st_size - p->fd_offset < p->size)
		return error_set(e, -EINVAL, "a file of memory that is shorter than its region");
	page = st.st_blksize > 4096 && !(st.st_blksize & (st.st_blksize - 1))
		       ? (uint64_t)st.st_blksize
		       : 4096;
	skip = p->fd_offset & (page - 1);
	size = (skip + p->size + page - 1) & ~(page - 1);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, p->fd,
		   (off_t)(p->fd_offset - skip));
	if (map == MAP_FAILED)
		return error_set_errno(e, -errno, "cannot map memory of %llu bytes",
				       (unsigned long long)p->size);
	madvise(map, size, MADV_DONTDUMP);
	*r = (struct memory_region){
		.gpa = p->gpa,
		.size = p->size,
		.host = (uint8_t *)map + skip,
		.fd_offset = p->fd_offset,
		.map = map,
		.map_size = size,
	};
	return 0;
}

int memory_map_fds(struct guest_memory *m, const struct memory_part *part, unsigned n,
		   struct error *e)
{
	struct memory_part sorted[MEMORY_MAX_REGIONS];
	int err = 0;

	*m = (struct guest_memory){ .fd = -1, .page_size = 4096 };
	if (n > MEMORY_MAX_REGIONS)
		return error_set(e, -EINVAL, "more than %u memory regions", MEMORY_MAX_REGIONS);
	if (n == 0)
		return 0; /* a table of nothing: part may be NULL */
	memcpy(sorted, part, n * sizeof(*part));
	qsort(sorted, n, sizeof(*sorted), by_gpa);
	for (unsigned i = 0; i < n && !err; i++) {
		err = check(&sorted[i], i ? &sorted[i - 1] : NULL, e);
		if (!err)
			err = map_part(&m->region[i], &sorted[i], e);
		if (err)
			break;
		m->nregions++;
		m->size += sorted[i].size;
	}
	if (err)
		memory_destroy(m);
	return err;
}
