/*
 * From the doors (entry.S) to main(): reads what the loader left, in either of its two forms, and
 * sets up what every guest wants.
 */
#include "acpi.h"
#include "guest.h"
#include "trap.h"

#define PVH_MAGIC 0x336ec578u

/* Xen's public/arch-x86/hvm/start_info.h */
struct pvh_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct pvh_memmap {
	uint64_t base, size;
	uint32_t type, reserved;
};

/* Linux's Documentation/arch/x86/zero-page.rst: offsets in boot_params. */
#define ZERO_PAGE_RSDP	       0x070
#define ZERO_PAGE_E820_ENTRIES 0x1e8
#define ZERO_PAGE_HEADER       0x202 /* "HdrS" */
#define ZERO_PAGE_RAMDISK      0x218
#define ZERO_PAGE_RAMDISK_SIZE 0x21c
#define ZERO_PAGE_CMDLINE      0x228
#define ZERO_PAGE_E820	       0x2d0
#define HEADER_MAGIC	       0x53726448u

struct e820_entry {
	uint64_t base, size;
	uint32_t type;
} __attribute__((packed));

extern uint64_t boot_info;
extern uint32_t boot_by_pvh;

struct boot boot;

static void add_range(uint64_t base, uint64_t size, uint32_t type)
{
	if (boot.nranges < MEMORY_RANGES)
		boot.range[boot.nranges++] = (struct memory_range){ base, size, type };
}

static void read_pvh(void)
{
	const struct pvh_start_info *info = (const void *)boot_info;
	const struct pvh_memmap *map = (const void *)info->memmap;

	if (info->magic != PVH_MAGIC)
		bail("PVH start info at 0x%lx has magic 0x%x", boot_info, info->magic);
	boot.pvh = true;
	boot.rsdp = info->rsdp;
	boot.cmdline = (const char *)info->cmdline;
	if (info->nr_modules) {
		boot.initrd = ((const uint64_t *)info->modlist)[0];
		boot.initrd_size = ((const uint64_t *)info->modlist)[1];
	}
	for (uint32_t i = 0; info->version >= 1 && i < info->memmap_entries; i++)
		add_range(map[i].base, map[i].size, map[i].type);
}

static void read_zero_page(void)
{
	const struct e820_entry *map = (const void *)(boot_info + ZERO_PAGE_E820);

	if (read32(boot_info + ZERO_PAGE_HEADER) != HEADER_MAGIC)
		bail("boot_params at 0x%lx have no header", boot_info);
	boot.rsdp = read64(boot_info + ZERO_PAGE_RSDP);
	boot.cmdline = (const char *)(uint64_t)read32(boot_info + ZERO_PAGE_CMDLINE);
	boot.initrd = read32(boot_info + ZERO_PAGE_RAMDISK);
	boot.initrd_size = read32(boot_info + ZERO_PAGE_RAMDISK_SIZE);
	for (uint32_t i = 0; i < read8(boot_info + ZERO_PAGE_E820_ENTRIES); i++)
		add_range(map[i].base, map[i].size, map[i].type);
}

/* The first word of the command line that begins like this, and its length; NULL if there is none.
 */
static const char *find_word(const char *start, size_t *len)
{
	size_t n = strlen(start);
	const char *s = boot.cmdline ? boot.cmdline : "";

	while (*s) {
		const char *end = s;

		while (*end && *end != ' ')
			end++;
		*len = (size_t)(end - s);
		if (*len >= n && !memcmp(s, start, n))
			return s;
		for (s = end; *s == ' '; s++)
			;
	}
	return NULL;
}

bool cmdline_has(const char *word)
{
	size_t len;

	return find_word(word, &len) && len == strlen(word);
}

bool cmdline_number(const char *name, uint64_t *value)
{
	size_t len, n = strlen(name);
	const char *word = find_word(name, &len);

	if (!word || len < n + 2 || word[n] != '=')
		return false;
	*value = 0;
	for (size_t i = n + 1; i < len && word[i] >= '0' && word[i] <= '9'; i++)
		*value = *value * 10 + (uint64_t)(word[i] - '0');
	return true;
}

void start_boot_cpu(void) __attribute__((noreturn));
void start_boot_cpu(void)
{
	print_init();
	trap_init();
	trap_load();
	if (boot_by_pvh)
		read_pvh();
	else
		read_zero_page();
	time_init();
	acpi_init();
	main();
	plan();
	poweroff();
}
