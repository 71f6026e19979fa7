/*
 * What the loaders of boot/x86_64/ share: the fixed places below 1 MiB, the state of one load, and
 * what a loader finds out about its kernel.
 */
#ifndef BOOT_X86_64_LOAD_H
#define BOOT_X86_64_LOAD_H

#include <asm/bootparam.h>

#include "boot/boot.h"
#include "boot/image.h"
#include "boot/places.h"
#include "boot/x86_64/e820.h"

/*
 * Below 1 MiB. The first page is the real-mode vectors and BIOS data area: kernels look there for
 * an EBDA and must find zeros. The memory map says RAM up to BOOT_LEGACY_BASE, where an EBDA would
 * begin, and reserved from there to 1 MiB.
 */
#define BOOT_BDA	     0x0ull
#define BOOT_GDT	     0x1000ull
#define BOOT_PVH_INFO	     0x6000ull
#define BOOT_ZERO_PAGE	     0x7000ull
#define BOOT_STACK	     0x8000ull
#define BOOT_PAGE_TABLES     0x9000ull /* PML4, PDPT, 4 page directories */
#define BOOT_CMDLINE	     0x20000ull
#define BOOT_CMDLINE_SIZE    0x10000ull
#define BOOT_LEGACY_BASE     0x9fc00ull
#define BOOT_RESET_VECTOR    0xffff0ull /* F000:FFF0, 16 bytes */
#define BOOT_LEGACY_END	     0x100000ull
#define BOOT_PAGE	     0x1000ull
#define BOOT_PAGE_TABLES_NUM 6ull

/* COMMAND_LINE_SIZE of x86 kernels since 2.6.28, with the NUL; a bzImage tells its own. */
#define BOOT_CMDLINE_DEFAULT 2048u

/* The kernel's own limit for an initrd (arch/x86/boot/header.S); a bzImage tells its own. */
#define BOOT_INITRD_DEFAULT 0x7fffffffull

/* One load in progress. */
struct boot_load {
	const struct guest_memory *memory;
	const struct boot_config *config;
	struct image kernel;
	struct places places;
	uint64_t ram_end; /* end of the RAM that begins at 0, below 4 GiB */

	/* From the loader of the kernel's format. */
	enum boot_protocol protocol;
	uint64_t entry;
	uint64_t cmdline_max; /* bytes without the NUL */
	uint64_t initrd_max;  /* the highest address its last byte may have */
	struct setup_header header;

	/* From the common part. */
	uint64_t initrd_base, initrd_size;
	uint64_t rsdp;
	struct e820_map e820;
};

/* One per format: checks it, loads it, fills "from the loader" above. */
int bzimage_load(struct boot_load *load, struct error *e);
int elf_load(struct boot_load *load, struct error *e);

/*
 * Checks that a part of the kernel, named by the printf text, is RAM below 4 GiB and free, and
 * takes it. offset is where in the file the address stands.
 */
int boot_take(struct boot_load *load, uint64_t base, uint64_t size, uint64_t offset,
	      struct error *e, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* What the kernel is handed: the zero page or PVH's start info; page tables and GDT. */
int zero_page_write(const struct boot_load *load, struct error *e);
int pvh_info_write(const struct boot_load *load, struct error *e);
int cpu_tables_write(const struct boot_load *load, struct error *e);
/* What a PC has at its reset vector: a kernel jumps there when it knows no better way to reboot. */
int reset_vector_write(const struct boot_load *load, struct error *e);

#endif
