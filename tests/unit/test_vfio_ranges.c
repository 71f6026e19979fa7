/*
 * Address arithmetic of devices/vfio: what an IOMMU reaches, which parts of a BAR may be mapped.
 */
#include <criterion/criterion.h>

#include "devices/vfio/ranges.h"

#define PAGE 4096u

Test(vfio_ranges, ram_must_be_reached_whole)
{
	static const struct vfio_range r[] = {
		{ 0xfef00000, 0x7fffffffff },
		{ 0, 0xfedfffff },
	};
	static const struct vfio_range touching[] = { { 0x1000, 0x1fff }, { 0, 0xfff } };
	static const struct vfio_range all[] = { { 0, ~0ull } };

	cr_expect(vfio_ranges_hold(r, 2, 0, 0xbfffffff));
	cr_expect(vfio_ranges_hold(r, 2, 0x100000000, 0x7fffffffff));
	cr_expect_not(vfio_ranges_hold(r, 2, 0x100000000, 0x8000000000), "past the width");
	cr_expect_not(vfio_ranges_hold(r, 2, 0, 0xfee00000), "over the hole");
	cr_expect_not(vfio_ranges_hold(r, 2, 0xfedff000, 0xfef00fff), "around the hole");
	cr_expect_not(vfio_ranges_hold(r, 0, 0, 0));
	cr_expect(vfio_ranges_hold(touching, 2, 0x800, 0x17ff), "two that touch are as one");
	cr_expect_not(vfio_ranges_hold(touching, 2, 0x800, 0x2000));
	cr_expect(vfio_ranges_hold(all, 1, 0, ~0ull), "nothing wraps");
}

static void expect(const struct vfio_area *in, unsigned n, const struct vfio_area *hole,
		   unsigned holes, uint64_t limit, const struct vfio_area *want, unsigned wants)
{
	struct vfio_area out[8];
	unsigned got = vfio_areas_without(out, 8, in, n, hole, holes, limit, PAGE);

	cr_assert_eq(got, wants, "%u pieces, not %u", got, wants);
	for (unsigned i = 0; i < got; i++) {
		cr_expect_eq(out[i].offset, want[i].offset, "piece %u at %#lx", i, out[i].offset);
		cr_expect_eq(out[i].size, want[i].size, "piece %u of %#lx", i, out[i].size);
	}
}

#define A(...)	  ((const struct vfio_area[]){ __VA_ARGS__ })
#define NONE	  NULL, 0
#define ONE(o, s) A({ o, s }), 1

Test(vfio_ranges, pages_around_the_holes)
{
	expect(ONE(0, 0x4000), NONE, 0x4000, ONE(0, 0x4000));
	expect(ONE(0, 0x4000), ONE(0x2000, 0x80), 0x4000, A({ 0, 0x2000 }, { 0x3000, 0x1000 }), 2);
	expect(ONE(0, 0x4000), A({ 0x2000, 0x410 }, { 0x3000, 8 }), 2, 0x4000, ONE(0, 0x2000));
	expect(ONE(0, 0x4000), A({ 0x3000, 8 }, { 0x2000, 0x410 }), 2, 0x4000, ONE(0, 0x2000));
	expect(ONE(0, 0x4000), ONE(0, 0x10), 0x4000, ONE(0x1000, 0x3000));
	expect(ONE(0, 0x4000), ONE(0xff0, 0x20), 0x4000, ONE(0x2000, 0x2000));
	expect(ONE(0, 0x1000), ONE(0x800, 8), 0x1000, NONE);
	expect(ONE(0, 0x4000), ONE(0x1000, 0), 0x4000, ONE(0, 0x4000));
}

Test(vfio_ranges, what_the_kernel_says_is_cut_to_what_can_be)
{
	expect(ONE(0, 0x100), NONE, 0x100, NONE); /* smaller than a page */
	expect(ONE(0x800, 0x2000), NONE, 0x4000, ONE(0x1000, 0x1000));
	expect(ONE(0x1000, ~0ull), NONE, 0x4000, ONE(0x1000, 0x3000));
	expect(ONE(~0ull - 0xfff, 0x2000), NONE, 0x4000, NONE);
	expect(ONE(0x1000, 0x1000), NONE, 0x1800, NONE); /* the second page is not whole */
	expect(A({ 0, 0x1000 }, { 0x2000, 0x1000 }), 2, NONE, 0x4000,
	       A({ 0, 0x1000 }, { 0x2000, 0x1000 }), 2);
}

Test(vfio_ranges, no_more_pieces_than_there_is_room_for)
{
	struct vfio_area hole[8], out[4];

	for (unsigned i = 0; i < 8; i++)
		hole[i] = (struct vfio_area){ 0x2000 * i, 1 };
	cr_expect_eq(vfio_areas_without(out, 4, A({ 0, 0x10000 }), 1, hole, 8, 0x10000, PAGE), 4);
	cr_expect_eq(out[3].offset, 0x7000);
}
