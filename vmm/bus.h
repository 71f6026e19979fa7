/*
 * One dispatcher for the three address spaces a guest can touch: ports, memory-mapped I/O and PCI
 * configuration space (address = ECAM offset: bus << 20 | device << 15 | function << 12 |
 * register). Ranges have a name and an owner and never overlap. Look-ups run on vCPU threads
 * without a lock against an immutable table; a change (a BAR move) publishes a new one and frees
 * the old one when no vCPU is inside a look-up any more.
 */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/account.h"
#include "vmm/error.h"
#include "vmm/event_fd.h"

struct bus;

/* Registers next to each other, from a range's base on; size 0: none. */
struct bus_span {
	uint16_t offset, size;
};
#define BUS_POSTED 2

/*
 * offset is from the range's base; size is 1, 2, 4 or 8 and the access lies wholly in the range.
 * Called from any vCPU thread, concurrently: the owner locks what it needs. May change the bus.
 */
struct bus_ops {
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
	void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
	/* The register's name there, for traces: constant text, or NULL. May be NULL. */
	const char *(*name)(void *opaque, uint64_t offset, unsigned size, bool write);
	/* Whose exit an access there is now, where it is not always the same one's. May be NULL. */
	struct account *(*owner)(void *opaque, uint64_t offset);
	/*
	 * Where writes may be posted: they wait in the kernel, in their order, and come before the
	 * next access that does exit, of any vCPU. So only what they alone cannot make happen
	 * belongs here: parameters.
	 */
	struct bus_span posted[BUS_POSTED];
};

struct bus_range {
	const char *name; /* for traces and errors; not copied, must outlive the range */
	uint64_t base;
	uint64_t size; /* bytes, > 0 */
	const struct bus_ops *ops;
	void *opaque;
	/* Whose exits accesses are, without ops->owner; NULL: the bus's own. */
	struct account *account;
};

/*
 * A register whose write should signal an eventfd instead of calling the owner ("kick"). Where KVM
 * has an ioeventfd for this bus the write does not leave the kernel; where it has not, the bus
 * writes the eventfd itself. size 0: a write of any width matches.
 */
struct bus_kick {
	uint64_t addr;
	unsigned size; /* 0, 1, 2, 4 or 8 */
	bool match;    /* only when the value written equals `value` */
	uint64_t value;
	int fd;			      /* eventfd, owned by the caller */
	struct event_signaller *peer; /* another process has it too: see event_fd.h. NULL: nobody */
	struct account *account;      /* whose doorbell; may be NULL */
};

/* What the kernel takes over; set by the machine. All return 0 or -errno, and may be NULL. */
struct bus_kernel_ops {
	int (*assign)(void *opaque, struct bus *bus, const struct bus_kick *kick);
	int (*deassign)(void *opaque, struct bus *bus, const struct bus_kick *kick);
	/* It holds writes back that lie in these `size` bytes, or no more; where it cannot, they
	 * exit. */
	int (*post)(void *opaque, struct bus *bus, uint64_t addr, uint64_t size);
	int (*unpost)(void *opaque, struct bus *bus, uint64_t addr, uint64_t size);
};

struct bus *bus_create(const char *name);
void bus_destroy(struct bus *bus);
const char *bus_name(const struct bus *bus);
/* Before the first range is added. */
void bus_set_kernel_ops(struct bus *bus, const struct bus_kernel_ops *ops, void *opaque);
/*
 * Accesses count from now on, as these counters, for the range's owner or else for `own`. Set-up.
 */
void bus_set_account(struct bus *bus, struct account *own, enum account_counter reads,
		     enum account_counter writes);

/* -EEXIST if it overlaps another range (named in e), -EINVAL if it wraps or is empty, -ENOMEM. */
int bus_add(struct bus *bus, const struct bus_range *range, struct error *e);
/* Removes the range that starts at base and belongs to opaque; -ENOENT if there is none. */
int bus_remove(struct bus *bus, uint64_t base, const void *opaque);

int bus_kick_add(struct bus *bus, const struct bus_kick *kick);
int bus_kick_remove(struct bus *bus, const struct bus_kick *kick);

/*
 * One access by a guest. Reading where nothing answers gives all ones, writing there does nothing;
 * both return false so that the caller can count it. Accesses that straddle two ranges hit nothing.
 */
bool bus_read(struct bus *bus, uint64_t addr, unsigned size, uint64_t *value);
bool bus_write(struct bus *bus, uint64_t addr, unsigned size, uint64_t value);
/* A write that was held back by the kernel: no exit. */
bool bus_write_posted(struct bus *bus, uint64_t addr, unsigned size, uint64_t value);
/* n of the accesses before were further ones of a string instruction: no exits of their own. */
void bus_repeated(struct bus *bus, uint64_t addr, unsigned size, bool write, uint64_t n);

/* Calls fn for every range, ascending; for --list, traces and tests. Set-up or main thread. */
void bus_for_each(struct bus *bus, void (*fn)(const struct bus_range *range, void *arg), void *arg);

#endif
