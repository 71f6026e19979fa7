/*
 * Memory slots for memory of the host: who gets which, and what a hypervisor that refuses leaves.
 */
#include <errno.h>

#include <criterion/criterion.h>

#include "vmm/mapping.h"

struct fake {
	uint64_t size[8]; /* by slot */
	int refuse;
	unsigned sets;
};

static int set(void *opaque, unsigned slot, uint64_t gpa, uint64_t size, void *host)
{
	struct fake *f = opaque;

	(void)gpa;
	(void)host;
	f->sets++;
	if (f->refuse)
		return f->refuse;
	f->size[slot] = size;
	return 0;
}

static const struct mapping_ops ops = { .set = set };

Test(mapping, slots_are_taken_in_order_and_given_back)
{
	struct fake f = { .refuse = 0 };
	struct mappings *m = mappings_create(&ops, &f, 4, 3);
	int a = mapping_add(m, 0x1000, 0x1000, &f), b = mapping_add(m, 0x2000, 0x2000, &f);
	int c = mapping_add(m, 0x4000, 0x3000, &f);

	cr_assert(a >= 0 && b >= 0 && c >= 0);
	cr_expect_eq(f.size[3], 0, "below the first slot is RAM");
	cr_expect_eq(f.size[4], 0x1000);
	cr_expect_eq(f.size[6], 0x3000);
	cr_expect_eq(mapping_add(m, 0x8000, 0x1000, &f), -ENOSPC);
	mapping_remove(m, b);
	cr_expect_eq(f.size[5], 0);
	cr_expect_eq(mapping_add(m, 0x8000, 0x5000, &f), b);
	cr_expect_eq(f.size[5], 0x5000);
	mappings_destroy(m);
}

Test(mapping, a_refusal_takes_no_slot)
{
	struct fake f = { .refuse = -EEXIST };
	struct mappings *m = mappings_create(&ops, &f, 4, 1);

	cr_expect_eq(mapping_add(m, 0x1000, 0x1000, &f), -EEXIST);
	mapping_remove(m, 0);
	mapping_remove(m, -EEXIST);
	mapping_remove(m, 7);
	cr_expect_eq(f.sets, 1, "what is not there is not removed");
	f.refuse = 0;
	cr_expect_eq(mapping_add(m, 0x1000, 0x1000, &f), 0);
	mappings_destroy(m);
	mappings_destroy(NULL);
}
