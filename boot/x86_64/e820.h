/*
 * The memory map as firmware would report it (ACPI 6.5 section 15, the INT 15h E820 types): sorted,
 * without overlaps, for the zero page and for PVH alike.
 */
#ifndef BOOT_X86_64_E820_H
#define BOOT_X86_64_E820_H

#include "boot/boot.h"

#define E820_RAM      1u
#define E820_RESERVED 2u
#define E820_MAX      64u /* fewer than the zero page's 128 */

struct e820_map {
	unsigned n;
	struct boot_range entry[E820_MAX];
};

/* RAM without what is reserved in it. -EINVAL if a range of the platform wraps or has no type. */
int e820_build(struct e820_map *map, const struct guest_memory *memory,
	       const struct boot_platform *platform, struct error *e);

#endif
