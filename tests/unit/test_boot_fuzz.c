/*
 * Random damage, the same every time: whatever the file says, a load ends in a sane entry point or
 * in an error that names the file. Runs under ASan and UBSan with `make SAN=1 unit`.
 */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tests/unit/test_boot.h"

#define RAM	  (8 * MIB)
#define ROUNDS	  20000
#define HEADERS	  0x280u /* most damage goes where the fields are */
#define MAX_FLIPS 8u

static void damage(struct blob *b, unsigned *seed)
{
	unsigned flips = 1 + (unsigned)rand_r(seed) % MAX_FLIPS;

	for (unsigned i = 0; i < flips; i++) {
		size_t range = rand_r(seed) % 4 && b->size > HEADERS ? HEADERS : b->size;

		b->data[(size_t)rand_r(seed) % range] = (uint8_t)rand_r(seed);
	}
	if (rand_r(seed) % 8 == 0)
		b->size = (size_t)rand_r(seed) % b->size;
}

static void expect_sane(const struct boot_rig *rig)
{
	const struct boot_entry *entry = &rig->entry;

	cr_assert(entry->protocol == BOOT_LINUX64 || entry->protocol == BOOT_PVH);
	cr_assert_lt(entry->rip, RAM);
	/* Nothing was loaded over what the kernel is handed. */
	cr_assert_arr_eq(memory_map(&rig->memory, 0xe0000, 8, 1), "RSD PTR ", 8);
	if (entry->protocol == BOOT_PVH)
		cr_assert_arr_eq(memory_map(&rig->memory, entry->rbx, 4, 1), "\x78\xc5\x6e\x33", 4);
	else
		cr_assert_arr_eq(memory_map(&rig->memory, entry->rsi + 0x202, 4, 1), "HdrS", 4);
}

static void fuzz(const struct blob *good, unsigned seed)
{
	struct blob b = { .data = malloc(good->size) };
	unsigned loaded = 0;
	struct boot_rig rig;

	cr_assert_not_null(b.data);
	boot_rig_init(&rig, RAM);
	for (unsigned i = 0; i < ROUNDS; i++) {
		b.size = good->size;
		memcpy(b.data, good->data, good->size);
		damage(&b, &seed);
		rig.config.protocol = (enum boot_protocol)(rand_r(&seed) % 3);
		if (boot_rig_load(&rig, &b, i % 2 ? good : NULL) == 0) {
			loaded++;
			expect_sane(&rig);
		} else {
			cr_assert(strstr(rig.e.msg, "kernel") || strstr(rig.e.msg, "initrd"),
				  "round %u: \"%s\"", i, rig.e.msg);
		}
	}
	/* Both ways are taken, or the damage is not worth the name. */
	cr_expect_gt(loaded, 0);
	cr_expect_lt(loaded, ROUNDS);
	blob_free(&b);
	boot_rig_destroy(&rig);
}

Test(boot_fuzz, bzimage, .timeout = 300)
{
	struct blob k = make_bzimage();

	fuzz(&k, 1);
	blob_free(&k);
}

Test(boot_fuzz, elf, .timeout = 300)
{
	struct blob k = make_elf();

	fuzz(&k, 2);
	blob_free(&k);
}

Test(boot_fuzz, gzip, .timeout = 300)
{
	struct blob k = make_elf(), gz = blob_gzip(&k);

	fuzz(&gz, 3);
	blob_free(&gz);
	blob_free(&k);
}
