/*
 * Arithmetic on address ranges, free of any device: which addresses an IOMMU can reach, and which
 * parts of a BAR may be mapped.
 */
#ifndef DEVICES_VFIO_RANGES_H
#define DEVICES_VFIO_RANGES_H

#include <stdbool.h>
#include <stdint.h>

/* [start, last], both inside: an address space may end at 2⁶⁴ - 1. */
struct vfio_range {
	uint64_t start, last;
};

/* Is all of [start, last] inside the n ranges, which may touch each other and come in any order? */
bool vfio_ranges_hold(const struct vfio_range *range, unsigned n, uint64_t start, uint64_t last);

struct vfio_area {
	uint64_t offset, size;
};

/*
 * The whole pages of the areas that no hole touches, as at most max pieces; offsets that wrap or
 * lie past limit are cut. Returns how many pieces.
 */
unsigned vfio_areas_without(struct vfio_area *out, unsigned max, const struct vfio_area *in,
			    unsigned n, const struct vfio_area *hole, unsigned holes,
			    uint64_t limit, uint64_t page);

#endif
