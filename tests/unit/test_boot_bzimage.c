/*
 * bzImages: what a good one ends up as in guest memory, and every way its header can lie.
 */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tests/unit/test_boot.h"

#define RAM (32 * MIB)

static const void *at(const struct boot_rig *rig, uint64_t gpa, uint64_t len)
{
	const void *p = memory_map(&rig->memory, gpa, len, 1);

	cr_assert_not_null(p);
	return p;
}

static const struct boot_params *zero_page(const struct boot_rig *rig)
{
	cr_assert_eq(rig->entry.protocol, BOOT_LINUX64);
	return at(rig, rig->entry.rsi, sizeof(struct boot_params));
}

Test(boot_bzimage, loads_at_its_preferred_address)
{
	struct blob k = make_bzimage();
	const struct boot_params *bp;
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	cr_assert(rig.entry.long_mode);
	cr_assert_eq(rig.entry.rip, BZ_ADDRESS + 0x200);
	cr_assert_arr_eq(at(&rig, BZ_ADDRESS, BZ_CODE_SIZE), k.data + BZ_CODE, BZ_CODE_SIZE);

	bp = zero_page(&rig);
	cr_assert_eq(bp->hdr.header, 0x53726448);
	cr_assert_eq(bp->hdr.version, 0x020f);
	cr_assert_eq(bp->hdr.type_of_loader, 0xff);
	cr_assert_eq(bp->hdr.ramdisk_size, 0);
	cr_assert_eq(bp->sentinel, 0);
	cr_assert_str_eq(at(&rig, bp->hdr.cmd_line_ptr, 14), "console=ttyS0");
	cr_assert_arr_eq(at(&rig, bp->acpi_rsdp_addr, 8), "RSD PTR ", 8);
	cr_assert_eq(bp->e820_table[0].addr, 0);
	cr_assert_eq(bp->e820_table[0].type, 1);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

/* What the CPU will find when it walks from CR3: 4 GiB, one to one. */
Test(boot_bzimage, identity_maps_4_gib)
{
	struct blob k = make_bzimage();
	const uint64_t *pml4, *pdpt, *pd, *gdt;
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	pml4 = at(&rig, rig.entry.cr3, 4096);
	cr_assert_eq(pml4[0] & 0xfff, 3);
	cr_assert_eq(pml4[1], 0);
	pdpt = at(&rig, pml4[0] & ~0xfffull, 4096);
	for (uint64_t gib = 0; gib < 4; gib++) {
		cr_assert_eq(pdpt[gib] & 0xfff, 3);
		pd = at(&rig, pdpt[gib] & ~0xfffull, 4096);
		for (uint64_t i = 0; i < 512; i++)
			cr_assert_eq(pd[i], (gib << 30 | i << 21) + 0x83);
	}
	cr_assert_eq(pdpt[4], 0);
	gdt = at(&rig, rig.entry.gdt, 32);
	cr_assert_eq(gdt[2], 0x00af9b000000ffff, "64-bit code");
	cr_assert_eq(gdt[3], 0x00cf93000000ffff, "data");
	blob_free(&k);
	boot_rig_destroy(&rig);
}

static void no_setup_sects(struct setup_header *h)
{
	h->setup_sects = 0; /* means 4, so the code begins at 0xa00 and the file is too short */
}

static void many_setup_sects(struct setup_header *h)
{
	h->setup_sects = 255;
}

static void boot_flag(struct setup_header *h)
{
	h->boot_flag = 0xaa54;
}

static void magic(struct setup_header *h)
{
	h->header++;
}

static void old(struct setup_header *h)
{
	h->version = 0x020b;
}

static void zimage(struct setup_header *h)
{
	h->loadflags = 0;
}

static void only_32_bit(struct setup_header *h)
{
	h->xloadflags = 0;
}

static void short_header(struct setup_header *h)
{
	h->jump = 0x10eb;
}

static void no_jump(struct setup_header *h)
{
	h->jump = 0x6a90;
}

static void no_alignment(struct setup_header *h)
{
	h->kernel_alignment = 0;
}

static void odd_alignment(struct setup_header *h)
{
	h->kernel_alignment = 0x3000;
}

static void large_syssize(struct setup_header *h)
{
	h->syssize = BZ_CODE_SIZE / 16 + 1;
}

static void huge_syssize(struct setup_header *h)
{
	h->syssize = 0xffffffff;
}

static void no_syssize(struct setup_header *h)
{
	h->syssize = 0x20;
}

static void huge_init_size(struct setup_header *h)
{
	h->init_size = 0xffffffff;
}

static void init_size_past_ram(struct setup_header *h)
{
	h->init_size = RAM - BZ_ADDRESS + 1;
}

static void address_past_ram(struct setup_header *h)
{
	h->pref_address = RAM;
}

static void address_wraps(struct setup_header *h)
{
	h->pref_address = 0xfffffffffffff000;
}

static void address_unaligned(struct setup_header *h)
{
	h->pref_address = BZ_ADDRESS + 0x10;
}

static void address_at_zero_page(struct setup_header *h)
{
	h->pref_address = 0x7000;
	h->relocatable_kernel = 0;
}

static void address_into_acpi(struct setup_header *h)
{
	h->pref_address = 0x9d000;
	h->relocatable_kernel = 0;
}

static void alignment_past_ram(struct setup_header *h)
{
	h->pref_address = 0;
	h->kernel_alignment = 0x80000000;
}

static void short_cmdline(struct setup_header *h)
{
	h->cmdline_size = 12;
}

Test(boot_bzimage, refuses_a_damaged_header)
{
	static const struct {
		void (*damage)(struct setup_header *h);
		int err;
		const char *says;
	} cases[] = {
		{ no_setup_sects, -ENOEXEC, "offset 0x1f4: syssize 0x180" },
		{ many_setup_sects, -ENOEXEC, "offset 0x1f1: setup_sects 255" },
		{ boot_flag, -ENOEXEC, "offset 0x1fe: boot_flag is 0xaa54" },
		{ magic, -ENOEXEC, "is not a kernel" },
		{ old, -ENOEXEC, "offset 0x206: boot protocol 2.11" },
		{ zimage, -ENOEXEC, "zImage" },
		{ only_32_bit, -ENOEXEC, "no 64-bit entry" },
		{ short_header, -ENOEXEC, "offset 0x200: the setup header ends at 0x212" },
		{ no_jump, -ENOEXEC, "offset 0x200" },
		{ no_alignment, -ENOEXEC, "kernel_alignment 0x0" },
		{ odd_alignment, -ENOEXEC, "kernel_alignment 0x3000" },
		{ large_syssize, -ENOEXEC, "past the end of the file" },
		{ huge_syssize, -ENOEXEC, "past the end of the file" },
		{ no_syssize, -ENOEXEC, "no room" },
		{ huge_init_size, -ENOMEM, "offset 0x260: the kernel needs 0xffffffff bytes" },
		{ init_size_past_ram, -ENOMEM, "guest RAM ends at 0x2000000" },
		{ address_past_ram, -ENOMEM, "guest RAM ends at 0x2000000" },
		{ address_wraps, -ENOMEM, "guest RAM ends at 0x2000000" },
		{ address_unaligned, -ENOEXEC, "not page aligned" },
		{ address_at_zero_page, -ENOEXEC, "overlaps the zero page" },
		{ address_into_acpi, -ENOEXEC, "overlaps the ACPI and BIOS area" },
		{ alignment_past_ram, -ENOMEM, "at 0x80000000" },
		{ short_cmdline, -E2BIG, "takes at most 12" },
	};
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blob k = make_bzimage();

		cases[i].damage(bzimage_header(&k));
		boot_rig_expect(&rig, boot_rig_load(&rig, &k, NULL), cases[i].err, cases[i].says);
		blob_free(&k);
	}
	boot_rig_destroy(&rig);
}

Test(boot_bzimage, refuses_every_truncation)
{
	struct boot_rig rig;
	struct blob k = make_bzimage();
	size_t whole = k.size;

	boot_rig_init(&rig, RAM);
	for (k.size = 0; k.size < whole; k.size++) {
		/* syssize counts 16 bytes: the last few need not be there. */
		if (k.size + 15 >= whole)
			cr_expect_eq(boot_rig_load(&rig, &k, NULL), 0);
		else
			boot_rig_expect(&rig, boot_rig_load(&rig, &k, NULL), -ENOEXEC, "kernel: ");
	}
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_bzimage, zero_setup_sects_means_four)
{
	struct blob k = make_bzimage();
	struct boot_rig rig;

	bzimage_header(&k)->setup_sects = 0;
	bzimage_header(&k)->syssize = (uint32_t)(k.size - 0xa00) / 16;
	boot_rig_init(&rig, RAM);
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	cr_assert_arr_eq(at(&rig, BZ_ADDRESS, k.size - 0xa00), k.data + 0xa00, k.size - 0xa00);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

/* A signature after the kernel is not loaded. */
Test(boot_bzimage, ignores_what_follows_the_code)
{
	struct blob k = make_bzimage();
	const uint8_t *end;
	struct boot_rig rig;

	bzimage_header(&k)->syssize -= 0x10;
	boot_rig_init(&rig, RAM);
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	end = at(&rig, BZ_ADDRESS + BZ_CODE_SIZE - 0x100, 1);
	cr_assert_eq(*end, 0);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_bzimage, moves_up_from_the_first_mib_if_it_can)
{
	struct blob k = make_bzimage();
	struct boot_rig rig;

	bzimage_header(&k)->pref_address = 0x1000;
	boot_rig_init(&rig, RAM);
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	cr_assert_eq(rig.entry.rip, 2 * MIB + 0x200);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_bzimage, has_no_pvh_entry)
{
	struct blob k = make_bzimage();
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	rig.config.protocol = BOOT_PVH;
	boot_rig_expect(&rig, boot_rig_load(&rig, &k, NULL), -ENOEXEC, "no PVH entry point");
	rig.config.protocol = BOOT_LINUX64;
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_bzimage, command_line_limit_is_exact)
{
	struct blob k = make_bzimage();
	char text[BZ_CMDLINE + 2];
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	memset(text, 'x', sizeof(text));
	text[BZ_CMDLINE] = '\0';
	rig.config.cmdline = text;
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	text[BZ_CMDLINE] = 'x';
	text[BZ_CMDLINE + 1] = '\0';
	boot_rig_expect(&rig, boot_rig_load(&rig, &k, NULL), -E2BIG, "takes at most 100");
	/* A hostile limit does not let it grow over other structures. */
	bzimage_header(&k)->cmdline_size = 0xffffffff;
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	blob_free(&k);
	boot_rig_destroy(&rig);
}
