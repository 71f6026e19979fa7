/*
 * What lies where: the table of used ranges, the initrd's place, the memory map.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "boot/places.h"
#include "boot/x86_64/e820.h"
#include "tests/unit/test_boot.h"

#define GIB 0x40000000ull

Test(boot_places, find_checks_both_ends)
{
	struct places p = { 0 };

	cr_assert_eq(places_add(&p, 0x1000, 0x1000, "part %d", 1), 0);
	cr_assert_null(places_find(&p, 0, 0x1000));
	cr_assert_not_null(places_find(&p, 0, 0x1001));
	cr_assert_not_null(places_find(&p, 0x1fff, 1));
	cr_assert_null(places_find(&p, 0x2000, UINT64_MAX));
	cr_assert_not_null(places_find(&p, 0, UINT64_MAX));
	cr_assert_str_eq(places_find(&p, 0x1800, 1)->name, "part 1");
}

Test(boot_places, table_is_bounded)
{
	struct places p = { 0 };

	for (unsigned i = 0; i < PLACES_MAX; i++)
		cr_assert_eq(places_add(&p, i, 1, "x"), 0);
	cr_assert_eq(places_add(&p, PLACES_MAX, 1, "x"), -ENOSPC);
}

Test(boot_places, highest_goes_below_what_is_in_the_way)
{
	struct places p = { 0 };

	cr_assert_eq(places_highest(&p, 0x1001, 0x1000, 0x1000, 0x10000), 0xe000);
	cr_assert_eq(places_add(&p, 0xf800, 0x100, "a"), 0);
	cr_assert_eq(places_highest(&p, 0x1000, 0x1000, 0x1000, 0x10000), 0xe000);
	cr_assert_eq(places_highest(&p, 0x700, 0x1000, 0x1000, 0x10000), 0xf000);
	cr_assert_eq(places_add(&p, 0x2000, 0xd000, "b"), 0);
	cr_assert_eq(places_highest(&p, 0x1000, 0x1000, 0x1000, 0x10000), 0x1000);
	cr_assert_eq(places_highest(&p, 0x1001, 0x1000, 0x1000, 0x10000), 0);
	cr_assert_eq(places_highest(&p, UINT64_MAX, 0x1000, 0x1000, 0x10000), 0);
	cr_assert_eq(places_highest(&p, 0, 0x1000, 0x1000, 0x10000), 0);
}

static const struct boot_params *load(struct boot_rig *rig, const struct blob *k, size_t initrd)
{
	struct blob b = { .data = calloc(1, initrd), .size = initrd };

	cr_assert_not_null(b.data);
	cr_assert_eq(boot_rig_load(rig, k, &b), 0, "%s", rig->e.msg);
	blob_free(&b);
	return memory_map(&rig->memory, rig->entry.rsi, sizeof(struct boot_params), 1);
}

Test(boot_initrd, highest_page_below_every_limit)
{
	struct blob k = make_bzimage();
	const struct boot_params *bp;
	struct boot_rig rig;

	boot_rig_init(&rig, 32 * MIB);
	bp = load(&rig, &k, 0x1001);
	cr_assert_eq(bp->hdr.ramdisk_image, 32 * MIB - 0x2000, "the end of RAM");
	cr_assert_eq(bp->hdr.ramdisk_size, 0x1001);
	bzimage_header(&k)->initrd_addr_max = 16 * MIB - 1;
	bp = load(&rig, &k, 0x1000);
	cr_assert_eq(bp->hdr.ramdisk_image, 16 * MIB - 0x1000, "the header's limit");
	bzimage_header(&k)->initrd_addr_max = BZ_ADDRESS + 0x2000;
	bp = load(&rig, &k, 0x1000);
	cr_assert_eq(bp->hdr.ramdisk_image, BZ_ADDRESS - 0x1000, "below the kernel");
	boot_rig_destroy(&rig);

	/* RAM goes on above 4 GiB, but only the part below the hole counts. */
	boot_rig_init(&rig, 4 * GIB);
	bzimage_header(&k)->initrd_addr_max = 0xffffffff;
	bp = load(&rig, &k, 0x1000);
	cr_assert_eq(bp->hdr.ramdisk_image, 3 * GIB - 0x1000);
	cr_assert_eq(bp->ext_ramdisk_image, 0);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_initrd, refuses_what_does_not_fit)
{
	struct blob k = make_bzimage();
	struct blob initrd = { .data = calloc(1, 40 * MIB), .size = 40 * MIB };
	struct boot_rig rig;

	boot_rig_init(&rig, 32 * MIB);
	boot_rig_expect(&rig, boot_rig_load(&rig, &k, &initrd), -ENOMEM,
			"initrd: offset 0x0: 0x2800000 bytes of initrd do not fit");
	initrd.size = 30 * MIB;
	boot_rig_expect(&rig, boot_rig_load(&rig, &k, &initrd), -ENOMEM, "do not fit");
	initrd.size = 30 * MIB - BZ_INIT_SIZE;
	cr_assert_eq(boot_rig_load(&rig, &k, &initrd), 0, "%s", rig.e.msg);
	bzimage_header(&k)->initrd_addr_max = 0;
	boot_rig_expect(&rig, boot_rig_load(&rig, &k, &initrd), -ENOMEM, "below 0x1;");
	initrd.size = 0;
	boot_rig_expect(&rig, boot_rig_load(&rig, &k, &initrd), -ENOEXEC, "initrd: ");
	blob_free(&initrd);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_places, needs_the_first_mib)
{
	struct blob k = make_bzimage();
	struct boot_rig rig;

	boot_rig_init(&rig, MIB - 0x1000);
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), -ENOMEM);
	cr_assert_str_eq(rig.e.msg, "guest RAM ends at 0xff000; booting needs at least 1 MiB");
	blob_free(&k);
	boot_rig_destroy(&rig);
}

static void expect_sorted(const struct e820_map *map)
{
	for (unsigned i = 0; i < map->n; i++) {
		cr_assert_gt(map->entry[i].size, 0);
		cr_assert_neq(map->entry[i].type, 0);
		if (i > 0)
			cr_assert_leq(map->entry[i - 1].base + map->entry[i - 1].size,
				      map->entry[i].base);
	}
}

Test(boot_e820, ram_hole_and_reserved_ranges)
{
	static const struct boot_range expected[] = {
		{ 0, 0x9fc00, 1 },	     { 0x9fc00, 0x60400, 2 },
		{ 0x100000, 0xbff00000, 1 }, { 0xe0000000, 0x10000000, 2 },
		{ 0xfeffc000, 0x4000, 2 },   { 0x100000000, 0x40000000, 1 },
	};
	struct boot_rig rig;
	struct e820_map map;

	boot_rig_init(&rig, 4 * GIB);
	rig.platform.nranges = 1;
	rig.platform.range[0] = (struct boot_range){ 0xfeffc000, 0x4000, 2 };
	cr_assert_eq(e820_build(&map, &rig.memory, &rig.platform, &rig.e), 0, "%s", rig.e.msg);
	expect_sorted(&map);
	cr_assert_eq(map.n, 6);
	for (unsigned i = 0; i < map.n; i++) {
		cr_assert_eq(map.entry[i].base, expected[i].base);
		cr_assert_eq(map.entry[i].size, expected[i].size);
		cr_assert_eq(map.entry[i].type, expected[i].type);
	}
	boot_rig_destroy(&rig);
}

/* Ranges in any order, overlapping RAM and each other, as many as there may be. */
Test(boot_e820, any_ranges_give_a_sorted_map)
{
	struct boot_rig rig;
	struct e820_map map;

	boot_rig_init(&rig, 32 * MIB);
	srand(7);
	for (int round = 0; round < 1000; round++) {
		rig.platform.nranges = (unsigned)rand() % (BOOT_MAX_RANGES + 1);
		for (unsigned i = 0; i < rig.platform.nranges; i++)
			rig.platform.range[i] = (struct boot_range){
				.base = (uint64_t)(rand() % 64) << 19,
				.size = (uint64_t)(rand() % 16) << 18,
				.type = 2 + (uint32_t)rand() % 3,
			};
		cr_assert_eq(e820_build(&map, &rig.memory, &rig.platform, &rig.e), 0);
		expect_sorted(&map);
	}
	rig.platform.nranges = 1;
	rig.platform.range[0] = (struct boot_range){ UINT64_MAX, 2, 2 };
	cr_assert_eq(e820_build(&map, &rig.memory, &rig.platform, &rig.e), -EINVAL);
	rig.platform.nranges = BOOT_MAX_RANGES + 1;
	cr_assert_eq(e820_build(&map, &rig.memory, &rig.platform, &rig.e), -EINVAL);
	boot_rig_destroy(&rig);
}
