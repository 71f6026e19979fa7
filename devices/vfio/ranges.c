/*
 * Address ranges: see ranges.h.
 */
#include <stddef.h>

#include "devices/vfio/ranges.h"

bool vfio_ranges_hold(const struct vfio_range *range, unsigned n, uint64_t start, uint64_t last)
{
	for (;;) {
		const struct vfio_range *r = NULL;

		for (unsigned i = 0; i < n && !r; i++)
			if (range[i].start <= start && start <= range[i].last)
				r = &range[i];
		if (!r)
			return false;
		if (last <= r->last)
			return true;
		start = r->last + 1; /* < last, so it does not wrap: each round leaves one range */
	}
}

/* The end of the piece that begins at `at`: where the next hole begins, or end. */
static uint64_t piece_end(uint64_t at, uint64_t end, const struct vfio_area *hole, unsigned holes,
			  uint64_t page)
{
	for (unsigned i = 0; i < holes; i++) {
		uint64_t first = hole[i].offset & ~(page - 1);

		if (hole[i].size && first >= at && first < end)
			end = first;
	}
	return end;
}

/* Past every hole that covers `at`. */
static uint64_t skip_holes(uint64_t at, const struct vfio_area *hole, unsigned holes, uint64_t page)
{
	for (unsigned i = 0; i < holes; i++) {
		uint64_t first = hole[i].offset & ~(page - 1);
		uint64_t end = (hole[i].offset + hole[i].size + page - 1) & ~(page - 1);

		if (hole[i].size && first <= at && at < end) {
			at = end;
			i = ~0u; /* another one may cover the new place */
		}
	}
	return at;
}

unsigned vfio_areas_without(struct vfio_area *out, unsigned max, const struct vfio_area *in,
			    unsigned n, const struct vfio_area *hole, unsigned holes,
			    uint64_t limit, uint64_t page)
{
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t at, end = limit & ~(page - 1);

		if (in[i].offset >= limit)
			continue;
		at = (in[i].offset + page - 1) & ~(page - 1);
		if (in[i].size < limit - in[i].offset)
			end = (in[i].offset + in[i].size) & ~(page - 1);
		while (found < max && (at = skip_holes(at, hole, holes, page)) < end) {
			uint64_t stop = piece_end(at, end, hole, holes, page);

			out[found++] = (struct vfio_area){ .offset = at, .size = stop - at };
			at = stop;
		}
	}
	return found;
}
