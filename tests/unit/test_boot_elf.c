/*
 * ELF kernels: both entry points, and every field that can be wrong.
 */
#include <errno.h>
#include <stdlib.h>
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

static void expect_loaded(const struct boot_rig *rig, const struct blob *k)
{
	const uint8_t *bss = at(rig, ELF_DATA + ELF_DATA_SIZE, ELF_DATA_MEM - ELF_DATA_SIZE);

	cr_assert_arr_eq(at(rig, ELF_TEXT, ELF_TEXT_SIZE), k->data + ELF_TEXT_FILE, ELF_TEXT_SIZE);
	cr_assert_arr_eq(at(rig, ELF_DATA, ELF_DATA_SIZE), k->data + ELF_DATA_FILE, ELF_DATA_SIZE);
	for (size_t i = 0; i < ELF_DATA_MEM - ELF_DATA_SIZE; i++)
		cr_assert_eq(bss[i], 0);
}

Test(boot_elf, note_chooses_pvh)
{
	struct blob k = make_elf();
	struct boot_rig rig;
	const uint32_t *info;
	const uint64_t *info64, *gdt;

	boot_rig_init(&rig, RAM);
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	cr_assert_eq(rig.entry.protocol, BOOT_PVH);
	cr_assert_not(rig.entry.long_mode);
	cr_assert_eq(rig.entry.rip, ELF_PVH_ENTRY);
	expect_loaded(&rig, &k);

	info = at(&rig, rig.entry.rbx, 56);
	info64 = (const uint64_t *)info;
	cr_assert_eq(info[0], 0x336ec578, "magic");
	cr_assert_eq(info[1], 1, "version with a memory map");
	cr_assert_eq(info[3], 0, "modules");
	cr_assert_str_eq(at(&rig, info64[3], 14), "console=ttyS0");
	cr_assert_arr_eq(at(&rig, info64[4], 8), "RSD PTR ", 8);
	cr_assert_gt(info[12], 2, "memory map entries");
	info64 = at(&rig, info64[5], 24 * info[12]);
	cr_assert_eq(info64[0], 0);
	cr_assert_eq((uint32_t)info64[2], 1, "RAM");
	gdt = at(&rig, rig.entry.gdt, 32);
	cr_assert_eq(gdt[2], 0x00cf9b000000ffff, "32-bit code");
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_elf, pvh_initrd_is_a_module)
{
	struct blob k = make_elf(), initrd = { .data = k.data, .size = 0x1801 };
	struct boot_rig rig;
	const uint64_t *info;

	boot_rig_init(&rig, RAM);
	cr_assert_eq(boot_rig_load(&rig, &k, &initrd), 0, "%s", rig.e.msg);
	info = at(&rig, rig.entry.rbx, 56);
	cr_assert_eq(info[1] >> 32, 1, "modules");
	info = at(&rig, info[2], 32);
	cr_assert_eq(info[0], RAM - 0x2000);
	cr_assert_eq(info[1], 0x1801);
	cr_assert_arr_eq(at(&rig, info[0], 0x1801), initrd.data, 0x1801);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_elf, linux64_when_forced_or_without_a_note)
{
	struct blob k = make_elf();
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	rig.config.protocol = BOOT_LINUX64;
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	cr_assert_eq(rig.entry.protocol, BOOT_LINUX64);
	cr_assert_eq(rig.entry.rip, ELF_ENTRY);
	expect_loaded(&rig, &k);

	rig.config.protocol = BOOT_AUTO;
	elf_ehdr(&k)->e_phnum = 2;
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	cr_assert_eq(rig.entry.protocol, BOOT_LINUX64);

	elf_ehdr(&k)->e_entry = ELF_VIRTUAL + ELF_ENTRY;
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	cr_assert_eq(rig.entry.rip, ELF_ENTRY, "a virtual entry point is translated");

	rig.config.protocol = BOOT_PVH;
	boot_rig_expect(&rig, boot_rig_load(&rig, &k, NULL), -ENOEXEC, "no PVH entry note");
	blob_free(&k);
	boot_rig_destroy(&rig);
}

/* Linux without EFI reboots by a jump to F000:FFF0: that must write the FADT's reset register. */
Test(boot_elf, reset_vector_writes_the_reset_register)
{
	static const uint8_t wanted[] = { 0xba, 0x02, 0x06, 0xb0, 0x01, 0xee };
	struct blob k = make_elf();
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	rig.platform.acpi_pio = 0x600;
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	cr_assert_arr_eq(memory_map(&rig.memory, 0xffff0, 16, 1), wanted, sizeof(wanted));
	blob_free(&k);
	boot_rig_destroy(&rig);
}

/* A second boot finds memory as the first left it. */
Test(boot_elf, clears_bss_on_reload)
{
	struct blob k = make_elf();
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	for (int i = 0; i < 2; i++) {
		memset(memory_map(&rig.memory, 0, RAM, 1), 0xee, RAM);
		cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
		expect_loaded(&rig, &k);
		cr_assert_eq(*(const uint16_t *)at(&rig, 0x40e, 2), 0, "no EBDA");
	}
	blob_free(&k);
	boot_rig_destroy(&rig);
}

/* Each case sets one field, given by offset and width, of the headers at the file's start. */
#define E(field) offsetof(Elf64_Ehdr, field), sizeof(((Elf64_Ehdr *)0)->field)
#define P(n, field)                                                                                \
	sizeof(Elf64_Ehdr) + (n) * sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, field),               \
		sizeof(((Elf64_Phdr *)0)->field)
#define NOTE(at, width) ELF_NOTES + (at), width

Test(boot_elf, refuses_damaged_fields)
{
	static const struct {
		size_t offset, width;
		uint64_t value;
		int err;
		const char *says;
	} cases[] = {
		{ EI_CLASS, 1, ELFCLASS32, -ENOEXEC, "offset 0x4: is not a 64-bit" },
		{ EI_DATA, 1, ELFDATA2MSB, -ENOEXEC, "offset 0x5: is not little-endian" },
		{ EI_VERSION, 1, 0, -ENOEXEC, "ELF version" },
		{ E(e_version), 2, -ENOEXEC, "ELF version" },
		{ E(e_machine), EM_AARCH64, -ENOEXEC, "offset 0x12: is for arm64" },
		{ E(e_machine), EM_386, -ENOEXEC, "is for 32-bit x86" },
		{ E(e_machine), EM_RISCV, -ENOEXEC, "is for riscv" },
		{ E(e_machine), 0x7777, -ENOEXEC, "is for ELF machine 30583" },
		{ E(e_type), ET_REL, -ENOEXEC, "kernel module" },
		{ E(e_type), ET_CORE, -ENOEXEC, "ELF type 4" },
		{ E(e_ehsize), 52, -ENOEXEC, "e_ehsize is 52" },
		{ E(e_phentsize), 32, -ENOEXEC, "e_phentsize is 32" },
		{ E(e_phnum), 0, -ENOEXEC, "0 program headers" },
		{ E(e_phnum), 65, -ENOEXEC, "65 program headers" },
		{ E(e_phnum), 0xffff, -ENOEXEC, "65535 program headers" },
		{ E(e_phoff), 0, -ENOEXEC, "lie in the ELF header" },
		{ E(e_phoff), 0x3800, -ENOEXEC, "offset 0x3800: the program headers" },
		{ E(e_phoff), 0x3799, -ENOEXEC, "past the end of the file (0x3800)" },
		{ E(e_phoff), UINT64_MAX - 8, -ENOEXEC, "past the end of the file (0x3800)" },
		{ P(0, p_filesz), ELF_TEXT_SIZE + 1, -ENOEXEC, "is larger than p_memsz" },
		{ P(0, p_offset), 0x1801, -ENOEXEC, "offset 0x40: program header 0: 0x2000 bytes" },
		{ P(0, p_offset), UINT64_MAX, -ENOEXEC, "past the end of the file (0x3800)" },
		{ P(1, p_paddr), ELF_TEXT + 0x1fff, -ENOEXEC,
		  "offset 0x78: program header 1 (0x101fff-0x104ffe) overlaps program header 0 "
		  "(0x100000-0x101fff)" },
		{ P(1, p_paddr), ELF_TEXT - 1, -ENOEXEC, "program header 1" },
		{ P(0, p_paddr), 0x7000, -ENOEXEC, "overlaps the zero page" },
		{ P(0, p_paddr), 0x9000, -ENOEXEC, "overlaps the page tables" },
		{ P(0, p_paddr), 0x1f000, -ENOEXEC, "overlaps the command line" },
		{ P(0, p_paddr), 0xff000, -ENOEXEC, "overlaps the ACPI and BIOS area" },
		{ P(0, p_paddr), 0, -ENOEXEC, "overlaps the BIOS data area" },
		{ P(1, p_paddr), RAM - ELF_DATA_MEM + 1, -ENOMEM, "guest RAM ends at 0x2000000" },
		{ P(1, p_paddr), UINT64_MAX, -ENOMEM, "guest RAM ends at 0x2000000" },
		{ P(1, p_memsz), RAM, -ENOMEM, "guest RAM ends at 0x2000000" },
		{ P(1, p_memsz), UINT64_MAX, -ENOMEM, "guest RAM ends at 0x2000000" },
		{ P(2, p_filesz), 0x3000, -ENOEXEC, "program header 2: 0x3000 bytes" },
		{ P(2, p_filesz), 0x1ffff0, -ENOEXEC, "past the end of the file" },
		{ P(2, p_filesz), ELF_NOTES_SIZE - 1, -ENOEXEC, "offset 0x2014: a note" },
		{ NOTE(0, 4), 0xffffffff, -ENOEXEC, "offset 0x2000: a note" },
		{ NOTE(4, 4), 0xffffffff, -ENOEXEC, "offset 0x2000: a note" },
		{ NOTE(ELF_NOTE_NHDR, 4), 0x1000, -ENOEXEC, "offset 0x2014: a note" },
		{ NOTE(ELF_NOTE_NHDR + 4, 4), 0x1000, -ENOEXEC, "offset 0x2014: a note" },
		{ NOTE(ELF_NOTE_NHDR + 4, 4), 7, -ENOEXEC, "holds 7 bytes" },
		{ NOTE(ELF_NOTE_NHDR + 4, 4), 0, -ENOEXEC, "holds 0 bytes" },
		{ NOTE(ELF_NOTE_DESC, 8), ELF_TEXT - 1, -ENOEXEC, "is in no loaded segment" },
		{ NOTE(ELF_NOTE_DESC + 4, 4), 1, -ENOEXEC, "is in no loaded segment" },
	};
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blob k = make_elf();

		memcpy(k.data + cases[i].offset, &cases[i].value, cases[i].width);
		boot_rig_expect(&rig, boot_rig_load(&rig, &k, NULL), cases[i].err, cases[i].says);
		blob_free(&k);
	}
	boot_rig_destroy(&rig);
}

Test(boot_elf, refuses_bad_entry_points_and_nothing_to_load)
{
	struct blob k = make_elf();
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	rig.config.protocol = BOOT_LINUX64;
	elf_ehdr(&k)->e_entry = 0x7777;
	boot_rig_expect(&rig, boot_rig_load(&rig, &k, NULL), -ENOEXEC,
			"offset 0x18: the entry point 0x7777");
	elf_phdr(&k, 0)->p_type = PT_NULL;
	elf_phdr(&k, 1)->p_memsz = elf_phdr(&k, 1)->p_filesz = 0;
	boot_rig_expect(&rig, boot_rig_load(&rig, &k, NULL), -ENOEXEC, "loads anything");
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_elf, refuses_too_many_bytes_of_notes)
{
	struct blob k = make_elf(), large = { .size = 4 * MIB };
	struct boot_rig rig;

	large.data = calloc(1, large.size);
	cr_assert_not_null(large.data);
	memcpy(large.data, k.data, k.size);
	elf_phdr(&large, 2)->p_filesz = MIB + 1;
	boot_rig_init(&rig, RAM);
	boot_rig_expect(&rig, boot_rig_load(&rig, &large, NULL), -ENOEXEC,
			"0x100001 bytes of notes");
	blob_free(&k);
	blob_free(&large);
	boot_rig_destroy(&rig);
}

Test(boot_elf, entry_note_of_4_bytes)
{
	struct blob k = make_elf();
	uint32_t four = 4;
	struct boot_rig rig;

	memcpy(k.data + ELF_NOTES + ELF_NOTE_NHDR + 4, &four, sizeof(four));
	boot_rig_init(&rig, RAM);
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	cr_assert_eq(rig.entry.rip, ELF_PVH_ENTRY);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_elf, refuses_every_truncation)
{
	struct boot_rig rig;
	struct blob k = make_elf();
	size_t whole = k.size;

	boot_rig_init(&rig, RAM);
	for (k.size = 0; k.size < whole; k.size++)
		boot_rig_expect(&rig, boot_rig_load(&rig, &k, NULL), -ENOEXEC, "kernel: ");
	k.size = whole;
	cr_assert_eq(boot_rig_load(&rig, &k, NULL), 0, "%s", rig.e.msg);
	blob_free(&k);
	boot_rig_destroy(&rig);
}
