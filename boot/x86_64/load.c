/*
 * boot_load() for x86-64: finds out what the kernel file is, lets that format's loader place it,
 * and does what all have in common: command line, initrd, memory map, ACPI tables, and the
 * structure through which the kernel is told of them. See boot.h and load.h.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "boot/x86_64/acpi.h"
#include "boot/x86_64/load.h"

#define ADDRESS_END 0x100000000ull /* loaders, page tables and 32-bit fields stay below 4 GiB */

/* Files that people give by mistake, by their magic number. */
static const struct known_magic {
	unsigned offset, len;
	const char *magic;
	const char *is;
} known_magics[] = {
	{ 0x38, 4, "ARM\x64", "is for arm64 (an Image), this machine is x86-64" },
	{ 0x38, 4, "RSC\x05", "is for riscv (an Image), this machine is x86-64" },
	{ 4, 4, "zimg", "is an EFI zboot image, which only firmware can start" },
	{ 0, 5, "\xfd\x37zXZ", "is compressed with xz; mvm reads gzip only, so decompress it" },
	{ 0, 4, "\x28\xb5\x2f\xfd",
	  "is compressed with zstd; mvm reads gzip only, so decompress it" },
	{ 0, 3, "BZh", "is compressed with bzip2; mvm reads gzip only, so decompress it" },
	{ 0, 4, "\x02\x21\x4c\x18",
	  "is compressed with lz4; mvm reads gzip only, so decompress it" },
	{ 0, 6, "070701", "is a cpio archive, not a kernel; is it the initrd?" },
};

#define MAGIC_BYTES   0x40u
#define BZIMAGE_MAGIC "HdrS"
#define BZIMAGE_AT    0x202u

static int unknown_format(const struct image *k, const uint8_t *start, struct error *e)
{
	for (size_t i = 0; i < sizeof(known_magics) / sizeof(known_magics[0]); i++) {
		const struct known_magic *m = &known_magics[i];

		if (!memcmp(start + m->offset, m->magic, m->len))
			return image_error(k, -ENOEXEC, m->offset, e, "%s", m->is);
	}
	return image_error(k, -ENOEXEC, 0, e,
			   "is not a kernel: neither an ELF file nor a bzImage (\"HdrS\" at 0x%x)",
			   BZIMAGE_AT);
}

static int kernel_load(struct boot_load *load, struct error *e)
{
	struct image *k = &load->kernel;
	uint8_t start[MAGIC_BYTES] = { 0 };
	uint8_t header[4] = { 0 };
	int err;

	if (k->size == 0)
		return image_error(k, -ENOEXEC, 0, e, "is empty%s",
				   k->data ? " (a pipe can be read only once)" : "");
	err = image_read(k, 0, start, k->size < MAGIC_BYTES ? k->size : MAGIC_BYTES, "its start",
			 e);
	if (err)
		return err;
	if (!memcmp(start, ELFMAG, SELFMAG))
		return elf_load(load, e);
	if (k->size >= BZIMAGE_AT + sizeof(header)) {
		err = image_read(k, BZIMAGE_AT, header, sizeof(header), "its magic", e);
		if (err)
			return err;
	}
	if (!memcmp(header, BZIMAGE_MAGIC, sizeof(header)))
		return bzimage_load(load, e);
	return unknown_format(k, start, e);
}

int boot_take(struct boot_load *load, uint64_t base, uint64_t size, uint64_t offset,
	      struct error *e, const char *fmt, ...)
{
	const struct image *k = &load->kernel;
	const struct place *used;
	char what[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (base >= load->ram_end || size > load->ram_end - base)
		return image_error(k, -ENOMEM, offset, e,
				   "%s needs 0x%" PRIx64 " bytes at 0x%" PRIx64
				   ", but guest RAM ends at 0x%" PRIx64,
				   what, size, base, load->ram_end);
	used = places_find(&load->places, base, size);
	if (used)
		return image_error(k, -ENOEXEC, offset, e,
				   "%s (0x%" PRIx64 "-0x%" PRIx64 ") overlaps %s (0x%" PRIx64
				   "-0x%" PRIx64 ")",
				   what, base, base + size - 1, used->name, used->base,
				   used->base + used->size - 1);
	if (places_add(&load->places, base, size, "%s", what))
		return image_error(k, -ENOEXEC, offset, e, "%s is one part too many", what);
	return 0;
}

/* Our own structures, before anything from a file can claim their place. */
static int reserve_low(struct boot_load *load, struct error *e)
{
	const struct guest_memory *m = load->memory;
	struct places *p = &load->places;
	int err;

	for (unsigned i = 0; i < m->nregions; i++)
		if (m->region[i].gpa == 0)
			load->ram_end = m->region[i].size;
	if (load->ram_end > ADDRESS_END)
		load->ram_end = ADDRESS_END;
	if (load->ram_end < BOOT_LEGACY_END)
		return error_set(e, -ENOMEM,
				 "guest RAM ends at 0x%" PRIx64 "; booting needs at least 1 MiB",
				 load->ram_end);
	err = places_add(p, BOOT_BDA, BOOT_PAGE, "the BIOS data area");
	err |= places_add(p, BOOT_GDT, BOOT_PAGE, "the GDT");
	err |= places_add(p, BOOT_PVH_INFO, BOOT_PAGE, "the PVH start info");
	err |= places_add(p, BOOT_ZERO_PAGE, BOOT_PAGE, "the zero page");
	err |= places_add(p, BOOT_STACK, BOOT_PAGE, "the boot stack");
	err |= places_add(p, BOOT_PAGE_TABLES, BOOT_PAGE_TABLES_NUM * BOOT_PAGE, "the page tables");
	err |= places_add(p, BOOT_CMDLINE, BOOT_CMDLINE_SIZE, "the command line");
	err |= places_add(p, BOOT_LEGACY_BASE, BOOT_LEGACY_END - BOOT_LEGACY_BASE,
			  "the ACPI and BIOS area");
	if (err)
		return error_set(e, -ENOSPC, "too many boot structures");
	memory_zero(m, BOOT_BDA, BOOT_PAGE);
	return 0;
}

static int cmdline_write(struct boot_load *load, struct error *e)
{
	const char *cmdline = load->config->cmdline ? load->config->cmdline : "";
	size_t len = strlen(cmdline);
	uint64_t max = load->cmdline_max;

	if (max > BOOT_CMDLINE_SIZE - 1)
		max = BOOT_CMDLINE_SIZE - 1;
	if (len > max)
		return error_set(
			e, -E2BIG,
			"the kernel's command line has %zu bytes; %s takes at most %" PRIu64, len,
			load->kernel.name, max);
	return memory_write(load->memory, BOOT_CMDLINE, cmdline, len + 1);
}

/* As high as the kernel allows, so that it is out of the way of what the kernel allocates first. */
static int initrd_place(struct boot_load *load, const struct image *initrd, struct error *e)
{
	uint64_t max = load->initrd_max + 1 < load->ram_end ? load->initrd_max + 1 : load->ram_end;
	uint64_t base;
	int err;

	if (initrd->size == 0)
		return image_error(initrd, -ENOEXEC, 0, e, "is empty%s",
				   initrd->data ? " (a pipe can be read only once)" : "");
	base = places_highest(&load->places, initrd->size, BOOT_PAGE, BOOT_LEGACY_END, max);
	if (!base)
		return image_error(initrd, -ENOMEM, 0, e,
				   "0x%" PRIx64 " bytes of initrd do not fit beside the kernel "
				   "below 0x%" PRIx64 "; --memory=SIZE gives the guest more RAM",
				   initrd->size, max);
	load->initrd_base = base;
	load->initrd_size = initrd->size;
	err = places_add(&load->places, base, initrd->size, "the initrd");
	if (err)
		return image_error(initrd, err, 0, e, "too many parts to place");
	return image_read(initrd, 0, memory_map(load->memory, base, initrd->size, 1), initrd->size,
			  "the initrd", e);
}

static int initrd_load(struct boot_load *load, struct error *e)
{
	const struct boot_config *c = load->config;
	struct image initrd;
	int err;

	if (c->initrd_fd < 0)
		return 0;
	err = image_open(&initrd, c->initrd ? c->initrd : "initrd", c->initrd_fd, load->ram_end, e);
	if (err)
		return err;
	err = initrd_place(load, &initrd, e);
	image_close(&initrd);
	return err;
}

/* Everything after the kernel file is open. */
static int load_all(struct boot_load *load, struct error *e)
{
	int err = 0;

	if (image_is_gzip(&load->kernel))
		err = image_gunzip(&load->kernel, load->ram_end, e);
	if (!err)
		err = kernel_load(load, e);
	if (!err)
		err = cmdline_write(load, e);
	if (!err)
		err = initrd_load(load, e);
	if (!err)
		err = e820_build(&load->e820, load->memory, load->config->platform, e);
	if (!err)
		err = acpi_build(load->memory, load->config->platform, &load->rsdp, e);
	if (!err)
		err = load->protocol == BOOT_PVH ? pvh_info_write(load, e)
						 : zero_page_write(load, e);
	if (!err)
		err = cpu_tables_write(load, e);
	if (!err)
		err = reset_vector_write(load, e);
	return err;
}

int boot_load(const struct guest_memory *memory, const struct boot_config *config,
	      struct boot_entry *entry, struct error *e)
{
	struct boot_load load = { .memory = memory, .config = config };
	bool pvh;
	int err;

	err = reserve_low(&load, e);
	if (err)
		return err;
	err = image_open(&load.kernel, config->kernel, config->kernel_fd, load.ram_end, e);
	if (err)
		return err;
	err = load_all(&load, e);
	image_close(&load.kernel);
	if (err)
		return err;

	pvh = load.protocol == BOOT_PVH;
	*entry = (struct boot_entry){
		.protocol = load.protocol,
		.long_mode = !pvh,
		.rip = load.entry,
		.rsi = pvh ? 0 : BOOT_ZERO_PAGE,
		.rbx = pvh ? BOOT_PVH_INFO : 0,
		.rsp = BOOT_STACK + BOOT_PAGE,
		.cr3 = pvh ? 0 : BOOT_PAGE_TABLES,
		.gdt = BOOT_GDT,
	};
	return 0;
}
