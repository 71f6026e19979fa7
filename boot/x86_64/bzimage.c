/*
 * bzImage, entered at its 64-bit entry point: Linux Documentation/arch/x86/boot.rst, "The Real-Mode
 * Kernel Header" and "64-bit Boot Protocol". In: the file. Out: the protected-mode code in guest
 * memory, the entry point, and the setup header for the zero page. The real-mode code is not used.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "boot/x86_64/load.h"

#define SETUP_OFFSET  0x1f1u /* struct setup_header in the file */
#define SECTOR	      512u
#define BOOT_FLAG     0xaa55u
#define HEADER_MAGIC  0x53726448u /* "HdrS" */
#define MIN_VERSION   0x020cu	  /* xloadflags, init_size, pref_address */
#define ENTRY_64      0x200u	  /* startup_64 is here in the protected-mode code */
#define RELOCATE_BASE 0x100000ull /* where "high" loading begins */

#define FIELD(name) (SETUP_OFFSET + offsetof(struct setup_header, name))

static int check_header(const struct image *k, const struct setup_header *h, struct error *e)
{
	if (h->boot_flag != BOOT_FLAG)
		return image_error(k, -ENOEXEC, FIELD(boot_flag), e,
				   "boot_flag is 0x%04x, not 0xaa55", h->boot_flag);
	if (h->header != HEADER_MAGIC)
		return image_error(k, -ENOEXEC, FIELD(header), e,
				   "the magic \"HdrS\" of a bzImage is missing");
	if (h->version < MIN_VERSION)
		return image_error(k, -ENOEXEC, FIELD(version), e,
				   "boot protocol %u.%02u is older than 2.12, which mvm needs",
				   h->version >> 8, h->version & 0xff);
	if (!(h->loadflags & LOADED_HIGH))
		return image_error(k, -ENOEXEC, FIELD(loadflags), e,
				   "is a zImage (LOADED_HIGH is clear), not a bzImage");
	if (!(h->xloadflags & XLF_KERNEL_64))
		return image_error(k, -ENOEXEC, FIELD(xloadflags), e,
				   "has no 64-bit entry point (XLF_KERNEL_64 is clear); "
				   "is it a 32-bit kernel?");
	if (h->kernel_alignment == 0 || h->kernel_alignment & (h->kernel_alignment - 1))
		return image_error(k, -ENOEXEC, FIELD(kernel_alignment), e,
				   "kernel_alignment 0x%x is not a power of two",
				   h->kernel_alignment);
	return 0;
}

/* Reads and checks the header: its fixed part, then what newer protocols added to it. */
static int read_header(const struct image *k, struct setup_header *h, struct error *e)
{
	uint64_t fixed = offsetof(struct setup_header, handover_offset), end;
	int err;

	memset(h, 0, sizeof(*h));
	err = image_read(k, SETUP_OFFSET, h, fixed, "the setup header", e);
	if (!err)
		err = check_header(k, h, e);
	if (err)
		return err;
	/* It ends where its first instruction, a short jump (0xeb), goes to. */
	end = FIELD(header) + (h->jump >> 8);
	if ((h->jump & 0xff) != 0xeb || end < SETUP_OFFSET + fixed)
		return image_error(k, -ENOEXEC, FIELD(jump), e,
				   "the setup header ends at 0x%" PRIx64
				   ", before its fields for boot protocol 2.12 do (0x%" PRIx64 ")",
				   end, SETUP_OFFSET + fixed);
	if (end > SETUP_OFFSET + sizeof(*h))
		end = SETUP_OFFSET + sizeof(*h);
	return image_read(k, SETUP_OFFSET + fixed, (uint8_t *)h + fixed, end - SETUP_OFFSET - fixed,
			  "the setup header", e);
}

/* Where the protected-mode code lies in the file. */
static int find_code(const struct image *k, const struct setup_header *h, uint64_t *offset,
		     uint64_t *size, struct error *e)
{
	uint64_t code = h->syssize * 16ull, left;

	/* "for backwards compatibility, if the setup_sects field contains 0, the real value is 4"
	 */
	*offset = ((h->setup_sects ? h->setup_sects : 4) + 1ull) * SECTOR;
	if (*offset >= k->size)
		return image_error(k, -ENOEXEC, FIELD(setup_sects), e,
				   "setup_sects %u puts the kernel at 0x%" PRIx64
				   ", past the end of the file (0x%" PRIx64 "); is it truncated?",
				   h->setup_sects, *offset, k->size);
	left = k->size - *offset;
	/* syssize counts paragraphs, so the last one may be short. */
	if (code > left + 15)
		return image_error(k, -ENOEXEC, FIELD(syssize), e,
				   "syssize 0x%x puts the kernel's end at 0x%" PRIx64
				   ", past the end of the file (0x%" PRIx64 "); is it truncated?",
				   h->syssize, *offset + code, k->size);
	if (code <= ENTRY_64)
		return image_error(k, -ENOEXEC, FIELD(syssize), e,
				   "syssize 0x%x leaves no room for the 64-bit entry point",
				   h->syssize);
	/* What follows, e.g. a Secure Boot signature, is not for us. */
	*size = code < left ? code : left;
	return 0;
}

/*
 * Linux runs at pref_address even if it is loaded lower, so that is where it goes; only a kernel
 * that prefers an address below 1 MiB and can be moved is moved up.
 */
static uint64_t choose_address(const struct setup_header *h)
{
	uint64_t align = h->kernel_alignment;

	if (h->pref_address >= RELOCATE_BASE || !h->relocatable_kernel)
		return h->pref_address;
	return (RELOCATE_BASE + align - 1) & ~(align - 1);
}

int bzimage_load(struct boot_load *load, struct error *e)
{
	const struct image *k = &load->kernel;
	struct setup_header *h = &load->header;
	uint64_t offset = 0, size = 0, base;
	int err;

	if (load->config->protocol == BOOT_PVH)
		return image_error(k, -ENOEXEC, FIELD(header), e,
				   "is a bzImage, which has no PVH entry point; --boot=pvh needs "
				   "an ELF vmlinux");
	err = read_header(k, h, e);
	if (!err)
		err = find_code(k, h, &offset, &size, e);
	if (err)
		return err;

	base = choose_address(h);
	if (base & (BOOT_PAGE - 1))
		return image_error(k, -ENOEXEC, FIELD(pref_address), e,
				   "pref_address 0x%" PRIx64 " is not page aligned", base);
	/* The kernel needs init_size bytes from there before it can look at the memory map. */
	err = boot_take(load, base, h->init_size > size ? h->init_size : size, FIELD(init_size), e,
			"the kernel");
	if (err)
		return err;
	err = image_read(k, offset, memory_map(load->memory, base, size, 1), size, "the kernel", e);
	if (err)
		return err;

	load->protocol = BOOT_LINUX64;
	load->entry = base + ENTRY_64;
	load->cmdline_max = h->cmdline_size;
	load->initrd_max = h->initrd_addr_max;
	h->code32_start = (uint32_t)base;
	return 0;
}
