/*
 * What an x86 kernel is handed. Linux's 64-bit entry: the zero page (Linux Documentation/arch/x86,
 * zero-page.rst) with identity page tables and a flat GDT (boot.rst, "64-bit Boot Protocol"). PVH:
 * struct hvm_start_info (Xen's public/arch-x86/hvm/start_info.h, docs/misc/pvh.pandoc), no paging.
 */
#include <errno.h>
#include <string.h>

#include "boot/x86_64/acpi.h"
#include "boot/x86_64/load.h"

#define LOADER_UNDEFINED 0xffu /* type_of_loader: no number assigned */
#define VIDEO_NORMAL	 0xffffu

#define PTE_PRESENT  (1ull << 0)
#define PTE_WRITABLE (1ull << 1)
#define PTE_LARGE    (1ull << 7)
#define PTE_ENTRIES  512u
#define LARGE_SHIFT  21
#define MAPPED_GIB   4u

/* Intel SDM volume 3, 3.4.5: flat, present, ring 0, accessed; code is execute/read, data is r/w. */
#define GDT_CODE64 0x00af9b000000ffffull
#define GDT_CODE32 0x00cf9b000000ffffull
#define GDT_DATA   0x00cf93000000ffffull

#define PVH_MAGIC   0x336ec578u
#define PVH_VERSION 1u

struct hvm_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t nr_modules;
	uint64_t modlist_paddr;
	uint64_t cmdline_paddr;
	uint64_t rsdp_paddr;
	uint64_t memmap_paddr;
	uint32_t memmap_entries;
	uint32_t reserved;
};

struct hvm_modlist_entry {
	uint64_t paddr;
	uint64_t size;
	uint64_t cmdline_paddr;
	uint64_t reserved;
};

struct hvm_memmap_table_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type;
	uint32_t reserved;
};

/* The page that BOOT_PVH_INFO names. */
struct pvh_page {
	struct hvm_start_info info;
	struct hvm_modlist_entry initrd;
	struct hvm_memmap_table_entry memmap[E820_MAX];
};
_Static_assert(sizeof(struct pvh_page) <= BOOT_PAGE, "PVH start info fits its page");
_Static_assert(sizeof(struct boot_params) == BOOT_PAGE, "the zero page is a page");
_Static_assert(E820_MAX <= E820_MAX_ENTRIES_ZEROPAGE, "the memory map fits the zero page");

static int put(const struct boot_load *load, uint64_t gpa, const void *data, size_t len,
	       struct error *e)
{
	int err = memory_write(load->memory, gpa, data, len);

	return err ? error_set(e, err, "boot structures at 0x%llx are not in guest RAM",
			       (unsigned long long)gpa)
		   : 0;
}

int zero_page_write(const struct boot_load *load, struct error *e)
{
	struct boot_params bp = {
		.acpi_rsdp_addr = load->rsdp,
		.e820_entries = (uint8_t)load->e820.n,
		.hdr = load->header,
	};

	bp.hdr.type_of_loader = LOADER_UNDEFINED;
	bp.hdr.vid_mode = VIDEO_NORMAL;
	bp.hdr.cmd_line_ptr = BOOT_CMDLINE;
	/* Both below 4 GiB, so ext_ramdisk_* stay 0. */
	bp.hdr.ramdisk_image = (uint32_t)load->initrd_base;
	bp.hdr.ramdisk_size = (uint32_t)load->initrd_size;
	/* A pointer from the file would be followed by the kernel into whatever is there. */
	bp.hdr.setup_data = 0;
	for (unsigned i = 0; i < load->e820.n; i++) {
		bp.e820_table[i].addr = load->e820.entry[i].base;
		bp.e820_table[i].size = load->e820.entry[i].size;
		bp.e820_table[i].type = load->e820.entry[i].type;
	}
	return put(load, BOOT_ZERO_PAGE, &bp, sizeof(bp), e);
}

int pvh_info_write(const struct boot_load *load, struct error *e)
{
	struct pvh_page page = {
		.info = {
			.magic = PVH_MAGIC,
			.version = PVH_VERSION,
			.cmdline_paddr = BOOT_CMDLINE,
			.rsdp_paddr = load->rsdp,
			.memmap_paddr = BOOT_PVH_INFO + offsetof(struct pvh_page, memmap),
			.memmap_entries = load->e820.n,
		},
	};

	if (load->initrd_size) {
		page.info.nr_modules = 1;
		page.info.modlist_paddr = BOOT_PVH_INFO + offsetof(struct pvh_page, initrd);
		page.initrd.paddr = load->initrd_base;
		page.initrd.size = load->initrd_size;
	}
	for (unsigned i = 0; i < load->e820.n; i++) {
		page.memmap[i].addr = load->e820.entry[i].base;
		page.memmap[i].size = load->e820.entry[i].size;
		page.memmap[i].type = load->e820.entry[i].type;
	}
	return put(load, BOOT_PVH_INFO, &page, sizeof(page), e);
}

/* The first 4 GiB, one to one, in 2 MiB pages: 1 GiB pages are not on every CPU. */
static int page_tables_write(const struct boot_load *load, struct error *e)
{
	uint64_t table[BOOT_PAGE_TABLES_NUM][PTE_ENTRIES] = { 0 };
	uint64_t pdpt = BOOT_PAGE_TABLES + BOOT_PAGE, pd = pdpt + BOOT_PAGE;

	table[0][0] = pdpt | PTE_PRESENT | PTE_WRITABLE;
	for (uint64_t i = 0; i < MAPPED_GIB; i++)
		table[1][i] = (pd + i * BOOT_PAGE) | PTE_PRESENT | PTE_WRITABLE;
	for (uint64_t i = 0; i < MAPPED_GIB * PTE_ENTRIES; i++)
		table[2 + i / PTE_ENTRIES][i % PTE_ENTRIES] =
			i << LARGE_SHIFT | PTE_PRESENT | PTE_WRITABLE | PTE_LARGE;
	return put(load, BOOT_PAGE_TABLES, table, sizeof(table), e);
}

int cpu_tables_write(const struct boot_load *load, struct error *e)
{
	bool pvh = load->protocol == BOOT_PVH;
	uint64_t gdt[4] = { [2] = pvh ? GDT_CODE32 : GDT_CODE64, [3] = GDT_DATA };
	int err = put(load, BOOT_GDT, gdt, sizeof(gdt), e);

	if (!err && !pvh)
		err = page_tables_write(load, e);
	return err;
}

/*
 * Linux on hardware-reduced ACPI takes for granted that there is EFI to reboot with (its
 * arch/x86/platform/efi/quirks.c), and where there is none it goes to real mode and jumps to
 * F000:FFF0. So there is a BIOS, of one purpose: it writes the reset register.
 */
int reset_vector_write(const struct boot_load *load, struct error *e)
{
	uint16_t port = (uint16_t)(load->config->platform->acpi_pio + ACPI_RESET_OFFSET);
	/* mov dx, port; mov al, value; out dx, al; then hlt for ever */
	uint8_t code[] = {
		0xba, (uint8_t)port, (uint8_t)(port >> 8), 0xb0, ACPI_RESET_VALUE, 0xee, 0xf4,
		0xeb, 0xfd
	};

	_Static_assert(sizeof(code) <= BOOT_LEGACY_END - BOOT_RESET_VECTOR, "16 bytes to 1 MiB");
	return put(load, BOOT_RESET_VECTOR, code, sizeof(code), e);
}
