/*
 * Guest RAM: one shared memfd, mapped once, seen by the guest below and above the PCI hole; or, in
 * a back-end process, what another VMM has shared (memory_fds.c). The one place where a guest
 * address becomes a pointer: every access names an address and a length and is checked against the
 * regions. Regions do not change while vCPUs run, so readers take no lock.
 */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/error.h"

#define MEMORY_MAX_REGIONS 8

struct memory_region {
	uint64_t gpa;	    /* guest-physical address of the first byte */
	uint64_t size;	    /* bytes */
	uint8_t *host;	    /* where mvm sees it */
	uint64_t fd_offset; /* the same place in the memfd, for vhost-user and VFIO */
	void *map;	    /* what is mapped for it, for munmap(2) */
	uint64_t map_size;
};

struct guest_memory {
	int fd;		    /* -1: of others, see memory_map_fds() */
	uint64_t size;	    /* bytes of RAM over all regions */
	uint64_t page_size; /* of the host's pages behind it */
	unsigned pins;	    /* atomic: see memory_pin() */
	unsigned nregions;
	struct memory_region region[MEMORY_MAX_REGIONS]; /* ascending gpa, no overlap */
};

struct memory_config {
	uint64_t size;	    /* bytes; a multiple of the page size in use */
	uint64_t page_size; /* 0: normal pages; 2 MiB or 1 GiB: hugetlb */
	bool prealloc;	    /* touch every page at start */
};

/*
 * Makes the memfd and maps it. low_limit is the guest address where the PCI hole begins, high_base
 * where RAM goes on above it. -ENOMEM, -EINVAL, -errno of memfd_create(2)/mmap(2).
 */
int memory_create(struct guest_memory *m, const struct memory_config *config, uint64_t low_limit,
		  uint64_t high_base, struct error *e);
void memory_destroy(struct guest_memory *m);

/* RAM of somebody else's guest: where it is in a file. */
struct memory_part {
	uint64_t gpa, size;
	int fd; /* stays the caller's */
	uint64_t fd_offset;
};

/*
 * Maps n parts, in any order, as *m. Nothing about them is trusted: -EINVAL for parts that overlap,
 * wrap or are empty, for files that are not memory or are too short, -errno of mmap(2). What the
 * owner may still do is to truncate a file that is not sealed against it: touching that is a
 * SIGBUS, and whoever maps must see to what follows.
 */
int memory_map_fds(struct guest_memory *m, const struct memory_part *part, unsigned n,
		   struct error *e);

/*
 * [gpa, gpa + len) as one contiguous host pointer, or NULL if any byte of it is not RAM or it
 * spans two regions. align is a power of two that gpa must honour (1: any). len 0 gives NULL.
 */
void *memory_map(const struct guest_memory *m, uint64_t gpa, uint64_t len, uint64_t align);

/*
 * The same as iovecs, where a range may cross from one region into an adjacent one. Returns the
 * number of iovecs written (0 for len 0), -EFAULT if a byte is not RAM, -ENOSPC if max is short.
 */
int memory_iov(const struct guest_memory *m, uint64_t gpa, uint64_t len, struct iovec *iov,
	       int max);

/* Copies; 0 or -EFAULT, in which case nothing was copied. */
int memory_read(const struct guest_memory *m, uint64_t gpa, void *buf, size_t len);
int memory_write(const struct guest_memory *m, uint64_t gpa, const void *buf, size_t len);
int memory_zero(const struct guest_memory *m, uint64_t gpa, size_t len);

/* Is every byte of the range RAM? */
bool memory_contains(const struct guest_memory *m, uint64_t gpa, uint64_t len);

/*
 * Gives the host's pages behind the range back; it reads as zeros afterwards, and a new page is
 * there as soon as somebody writes. Only whole pages inside the range are (so of 4 KiB out of a
 * huge page, none). Returns how many bytes were given back, -EFAULT if a byte is not RAM, -EBUSY
 * while memory is pinned, -errno of fallocate(2).
 */
int64_t memory_discard(const struct guest_memory *m, uint64_t gpa, uint64_t len);
/* The same for a range that memory_iov() or memory_map() returned before. */
int64_t memory_discard_host(const struct guest_memory *m, const void *host, uint64_t len);

/*
 * Somebody has made a device use the pages that are there now (VFIO maps them into an IOMMU): until
 * unpinned, none is discarded, or the device would go on with pages the guest no longer has. Pins
 * are counted.
 */
void memory_pin(struct guest_memory *m);
void memory_unpin(struct guest_memory *m);

#endif
