/*
 * ACPI 6.5 tables of a hardware-reduced machine, in the BIOS area of guest memory. In: what the
 * machine looks like. Out: RSDP, XSDT, FADT, MADT, MCFG and DSDT, and the block of parameters that
 * the DSDT reads.
 */
#ifndef BOOT_X86_64_ACPI_H
#define BOOT_X86_64_ACPI_H

#include "boot/boot.h"

/* All of it is inside; the RSDP comes first, where a kernel that must search looks (5.2.5.1). */
#define ACPI_AREA_BASE 0xe0000ull
#define ACPI_AREA_END  0xffff0ull /* the CPU's reset vector follows */

/* The reset register, from the platform's acpi_pio, and what a write of resets the machine. */
#define ACPI_RESET_OFFSET 2u
#define ACPI_RESET_VALUE  1u

/* -EINVAL if the platform cannot be described, -ENOSPC if the tables do not fit the area. */
int acpi_build(const struct guest_memory *memory, const struct boot_platform *platform,
	       uint64_t *rsdp, struct error *e);

#endif
