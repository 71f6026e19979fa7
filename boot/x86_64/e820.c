/*
 * Building the memory map: see e820.h. Every range's ends cut the address space into pieces; each
 * piece gets the type of the last range that covers it, and equal neighbours are joined.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "boot/x86_64/e820.h"
#include "boot/x86_64/load.h"

/* RAM regions, the legacy area, ECAM, the platform's own; two cuts each. */
#define INPUT_MAX (MEMORY_MAX_REGIONS + 2 + BOOT_MAX_RANGES)

struct input {
	unsigned n;
	struct boot_range range[INPUT_MAX];
};

static int add(struct input *in, uint64_t base, uint64_t size, uint32_t type, struct error *e)
{
	if (size == 0)
		return 0;
	if (base + size < base || type == 0 || in->n == INPUT_MAX)
		return error_set(e, -EINVAL,
				 "memory map: bad range 0x%" PRIx64 " + 0x%" PRIx64 " of type %u",
				 base, size, type);
	in->range[in->n++] = (struct boot_range){ .base = base, .size = size, .type = type };
	return 0;
}

static int collect(struct input *in, const struct guest_memory *memory,
		   const struct boot_platform *platform, struct error *e)
{
	int err = 0;

	in->n = 0;
	for (unsigned i = 0; i < memory->nregions && !err; i++)
		err = add(in, memory->region[i].gpa, memory->region[i].size, E820_RAM, e);
	/*
	 * The ACPI area stays "reserved", not "ACPI data": a kernel may reclaim the latter once it
	 * has read the tables, but AML reads its parameters for ever.
	 */
	if (!err)
		err = add(in, BOOT_LEGACY_BASE, BOOT_LEGACY_END - BOOT_LEGACY_BASE, E820_RESERVED,
			  e);
	if (!err)
		err = add(in, platform->ecam_base, (uint64_t)platform->ecam_buses << 20,
			  E820_RESERVED, e);
	if (!err && platform->nranges > BOOT_MAX_RANGES)
		err = error_set(e, -EINVAL, "memory map: %u extra ranges", platform->nranges);
	for (unsigned i = 0; !err && i < platform->nranges; i++)
		err = add(in, platform->range[i].base, platform->range[i].size,
			  platform->range[i].type, e);
	return err;
}

/* Insertion into a sorted set. */
static void cut(uint64_t *cuts, unsigned *n, uint64_t at)
{
	unsigned i = 0;

	while (i < *n && cuts[i] < at)
		i++;
	if (i < *n && cuts[i] == at)
		return;
	memmove(&cuts[i + 1], &cuts[i], (*n - i) * sizeof(cuts[0]));
	cuts[i] = at;
	(*n)++;
}

static uint32_t type_at(const struct input *in, uint64_t at)
{
	uint32_t type = 0;

	for (unsigned i = 0; i < in->n; i++)
		if (at - in->range[i].base < in->range[i].size)
			type = in->range[i].type;
	return type;
}

int e820_build(struct e820_map *map, const struct guest_memory *memory,
	       const struct boot_platform *platform, struct error *e)
{
	uint64_t cuts[2 * INPUT_MAX];
	struct input in;
	unsigned n = 0;
	int err;

	_Static_assert(2 * INPUT_MAX <= E820_MAX, "the map holds every piece there can be");
	err = collect(&in, memory, platform, e);
	if (err)
		return err;
	for (unsigned i = 0; i < in.n; i++) {
		cut(cuts, &n, in.range[i].base);
		cut(cuts, &n, in.range[i].base + in.range[i].size);
	}

	map->n = 0;
	for (unsigned i = 0; i + 1 < n; i++) {
		uint64_t size = cuts[i + 1] - cuts[i];
		uint32_t type = type_at(&in, cuts[i]);
		struct boot_range *last = map->n ? &map->entry[map->n - 1] : NULL;

		if (type == 0)
			continue;
		if (last && last->type == type && last->base + last->size == cuts[i])
			last->size += size;
		else
			map->entry[map->n++] = (struct boot_range){ cuts[i], size, type };
	}
	return 0;
}
