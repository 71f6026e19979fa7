/*
 * A rig for the boot tests: a machine of RAM only, and small but complete kernel files made in
 * memory, which each test damages in its own way.
 */
#ifndef TESTS_UNIT_TEST_BOOT_H
#define TESTS_UNIT_TEST_BOOT_H

#include <elf.h>
#include <asm/bootparam.h>

#include "boot/boot.h"

#define MIB 0x100000ull

struct blob {
	uint8_t *data;
	size_t size;
};

struct boot_rig {
	struct guest_memory memory;
	struct boot_platform platform;
	struct boot_config config; /* protocol and cmdline are the test's to change */
	struct boot_entry entry;
	struct error e;
};

void boot_rig_init(struct boot_rig *rig, uint64_t ram);
void boot_rig_destroy(struct boot_rig *rig);
/* boot_load() of these bytes as a file named "kernel", and "initrd" (NULL: none). */
int boot_rig_load(struct boot_rig *rig, const struct blob *kernel, const struct blob *initrd);
/* The error is err and its message names the file and contains text. */
void boot_rig_expect(const struct boot_rig *rig, int got, int err, const char *text);

/* A file descriptor of a memfd with these bytes. */
int blob_fd(const struct blob *b);
void blob_free(struct blob *b);
struct blob blob_gzip(const struct blob *b);

/* 64-bit relocatable bzImage, protocol 2.15: setup_sects 1, code at BZ_CODE in the file. */
#define BZ_CODE	     0x400u
#define BZ_CODE_SIZE 0x1800u
#define BZ_ADDRESS   (2 * MIB) /* pref_address */
#define BZ_INIT_SIZE 0x4000u
#define BZ_CMDLINE   100u
struct blob make_bzimage(void);
struct setup_header *bzimage_header(const struct blob *b);

/* ELF64 vmlinux: two PT_LOAD segments and, as header 2, a PT_NOTE inside the first. */
#define ELF_TEXT       (1 * MIB)
#define ELF_TEXT_FILE  0x1000u
#define ELF_TEXT_SIZE  0x2000u
#define ELF_DATA       (2 * MIB)
#define ELF_DATA_FILE  0x3000u
#define ELF_DATA_SIZE  0x800u
#define ELF_DATA_MEM   0x3000u
#define ELF_VIRTUAL    0xffffffff80000000ull
#define ELF_ENTRY      (ELF_TEXT + 0x100)
#define ELF_PVH_ENTRY  (ELF_TEXT + 0x200)
#define ELF_NOTES      0x2000u /* offset in the file */
#define ELF_NOTES_SIZE 0x2cu   /* another note, then ours */
#define ELF_NOTE_NHDR  0x14u   /* ours in the notes */
#define ELF_NOTE_DESC  0x24u
struct blob make_elf(void);
Elf64_Ehdr *elf_ehdr(const struct blob *b);
Elf64_Phdr *elf_phdr(const struct blob *b, unsigned i);

#endif
