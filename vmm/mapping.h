/*
 * Memory of the host, other than RAM, that the guest reaches without an exit: registers of a device
 * that is passed through. Each mapping takes one of the hypervisor's memory slots; the machine says
 * how many there are and how one is set.
 */
#ifndef VMM_MAPPING_H
#define VMM_MAPPING_H

#include <stdint.h>

struct mappings;

/* Puts [host, host + size) at gpa under the number slot; size 0 takes it away. 0 or -errno. */
struct mapping_ops {
	int (*set)(void *opaque, unsigned slot, uint64_t gpa, uint64_t size, void *host);
};

/* The slots are first … first + count - 1. NULL: out of memory. */
struct mappings *mappings_create(const struct mapping_ops *ops, void *opaque, unsigned first,
				 unsigned count);
void mappings_destroy(struct mappings *m);

/*
 * Any thread. All three are multiples of the page size; the range holds no RAM and no other mapping
 * (-EEXIST). Returns a handle ≥ 0, -ENOSPC when all slots are taken, or -errno of the hypervisor.
 */
int mapping_add(struct mappings *m, uint64_t gpa, uint64_t size, void *host);
/* After this no vCPU reaches the memory any more. */
void mapping_remove(struct mappings *m, int handle);

#endif
