/*
 * ELF64 kernels (System V ABI, "Object Files" and "Program Loading"): Linux's vmlinux, or anything
 * else with a PVH entry note. In: the file. Out: its PT_LOAD segments at their physical addresses,
 * and the entry point: the note's (XEN_ELFNOTE_PHYS32_ENTRY, Xen's elfnote.h and pvh.pandoc) or
 * e_entry. Every field of the file is checked before it is used.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "boot/x86_64/load.h"

#define PHDRS_MAX	   64u
#define NOTES_MAX	   (1u << 20) /* bytes of one PT_NOTE segment */
#define XEN_PHYS32_ENTRY   18u
#define XEN_NOTE_NAME	   "Xen"
#define ADDRESS_END	   0x100000000ull /* the identity map and 32-bit entries end here */
#define LINUX_BOOT_FLAG	   0xaa55u
#define LINUX_HEADER_MAGIC 0x53726448u
#define LINUX_VERSION	   0x020cu
#define LINUX_ALIGNMENT	   0x1000000u

#define EHDR(field) offsetof(Elf64_Ehdr, field)

struct elf {
	const struct image *k;
	Elf64_Ehdr eh;
	Elf64_Phdr ph[PHDRS_MAX];
};

static const char *machine_name(unsigned machine)
{
	switch (machine) {
	case EM_386:
		return "32-bit x86";
	case EM_ARM:
		return "32-bit arm";
	case EM_AARCH64:
		return "arm64";
	case EM_RISCV:
		return "riscv";
	case EM_PPC:
	case EM_PPC64:
		return "powerpc";
	case EM_S390:
		return "s390";
	case EM_MIPS:
		return "mips";
	case EM_LOONGARCH:
		return "loongarch";
	default:
		return NULL;
	}
}

static int check_machine(const struct elf *elf, struct error *e)
{
	const Elf64_Ehdr *eh = &elf->eh;
	const char *name;

	if (eh->e_ident[EI_DATA] != ELFDATA2LSB)
		return image_error(elf->k, -ENOEXEC, EI_DATA, e,
				   "is not little-endian (EI_DATA %u), so not for x86-64",
				   eh->e_ident[EI_DATA]);
	/* e_machine lies at the same place in 32-bit files, and says more than EI_CLASS. */
	if (eh->e_machine != EM_X86_64) {
		name = machine_name(eh->e_machine);
		if (name)
			return image_error(elf->k, -ENOEXEC, EHDR(e_machine), e,
					   "is for %s, this machine is x86-64", name);
		return image_error(elf->k, -ENOEXEC, EHDR(e_machine), e,
				   "is for ELF machine %u, this machine is x86-64 (%u)",
				   eh->e_machine, EM_X86_64);
	}
	if (eh->e_ident[EI_CLASS] != ELFCLASS64)
		return image_error(elf->k, -ENOEXEC, EI_CLASS, e,
				   "is not a 64-bit ELF file (EI_CLASS %u)", eh->e_ident[EI_CLASS]);
	return 0;
}

static int read_header(struct elf *elf, struct error *e)
{
	const Elf64_Ehdr *eh = &elf->eh;
	int err = image_read(elf->k, 0, &elf->eh, sizeof(elf->eh), "the ELF header", e);

	if (!err)
		err = check_machine(elf, e);
	if (err)
		return err;
	if (eh->e_ident[EI_VERSION] != EV_CURRENT || eh->e_version != EV_CURRENT)
		return image_error(elf->k, -ENOEXEC, EHDR(e_version), e,
				   "ELF version is %u/%u, not 1", eh->e_ident[EI_VERSION],
				   eh->e_version);
	if (eh->e_type != ET_EXEC)
		return image_error(elf->k, -ENOEXEC, EHDR(e_type), e,
				   "is ELF type %u, not an executable (ET_EXEC, 2)%s", eh->e_type,
				   eh->e_type == ET_REL ? "; is it a kernel module?" : "");
	if (eh->e_ehsize != sizeof(Elf64_Ehdr))
		return image_error(elf->k, -ENOEXEC, EHDR(e_ehsize), e, "e_ehsize is %u, not %zu",
				   eh->e_ehsize, sizeof(Elf64_Ehdr));
	if (eh->e_phentsize != sizeof(Elf64_Phdr))
		return image_error(elf->k, -ENOEXEC, EHDR(e_phentsize), e,
				   "e_phentsize is %u, not %zu", eh->e_phentsize,
				   sizeof(Elf64_Phdr));
	if (eh->e_phnum == 0 || eh->e_phnum > PHDRS_MAX)
		return image_error(elf->k, -ENOEXEC, EHDR(e_phnum), e,
				   "has %u program headers; 1 to %u can be loaded", eh->e_phnum,
				   PHDRS_MAX);
	if (eh->e_phoff < sizeof(Elf64_Ehdr))
		return image_error(elf->k, -ENOEXEC, EHDR(e_phoff), e,
				   "program headers at 0x%" PRIx64 " lie in the ELF header",
				   eh->e_phoff);
	return image_read(elf->k, eh->e_phoff, elf->ph, eh->e_phnum * sizeof(Elf64_Phdr),
			  "the program headers", e);
}

/* Where program header i stands in the file, for messages. */
static uint64_t phdr_offset(const struct elf *elf, unsigned i)
{
	return elf->eh.e_phoff + i * sizeof(Elf64_Phdr);
}

/* What segment i takes from the file is all there. */
static int check_file_range(const struct elf *elf, unsigned i, struct error *e)
{
	const Elf64_Phdr *ph = &elf->ph[i];

	if (ph->p_offset > elf->k->size || ph->p_filesz > elf->k->size - ph->p_offset)
		return image_error(elf->k, -ENOEXEC, phdr_offset(elf, i), e,
				   "program header %u: 0x%" PRIx64 " bytes at 0x%" PRIx64
				   " end past the end of the file (0x%" PRIx64
				   "); is it truncated?",
				   i, ph->p_filesz, ph->p_offset, elf->k->size);
	return 0;
}

static bool is_loaded(const Elf64_Phdr *ph)
{
	return ph->p_type == PT_LOAD && ph->p_memsz > 0;
}

static int take_segments(struct boot_load *load, const struct elf *elf, struct error *e)
{
	unsigned loaded = 0;

	for (unsigned i = 0; i < elf->eh.e_phnum; i++) {
		const Elf64_Phdr *ph = &elf->ph[i];
		int err;

		if (ph->p_type == PT_LOAD && ph->p_filesz > ph->p_memsz)
			return image_error(elf->k, -ENOEXEC, phdr_offset(elf, i), e,
					   "program header %u: p_filesz 0x%" PRIx64
					   " is larger than p_memsz 0x%" PRIx64,
					   i, ph->p_filesz, ph->p_memsz);
		if (!is_loaded(ph))
			continue;
		err = check_file_range(elf, i, e);
		if (!err)
			err = boot_take(load, ph->p_paddr, ph->p_memsz, phdr_offset(elf, i), e,
					"program header %u", i);
		if (err)
			return err;
		loaded++;
	}
	if (!loaded)
		return image_error(elf->k, -ENOEXEC, elf->eh.e_phoff, e,
				   "none of its %u program headers loads anything (PT_LOAD)",
				   elf->eh.e_phnum);
	return 0;
}

static int load_segments(const struct boot_load *load, const struct elf *elf, struct error *e)
{
	for (unsigned i = 0; i < elf->eh.e_phnum; i++) {
		const Elf64_Phdr *ph = &elf->ph[i];
		uint8_t *to;
		int err;

		if (!is_loaded(ph))
			continue;
		to = memory_map(load->memory, ph->p_paddr, ph->p_memsz, 1);
		err = image_read(elf->k, ph->p_offset, to, ph->p_filesz, "a segment", e);
		if (err)
			return err;
		/* After a reset there is something there; a kernel counts on a clear .bss. */
		memset(to + ph->p_filesz, 0, ph->p_memsz - ph->p_filesz);
	}
	return 0;
}

/* Is addr in a loaded segment, counted from its physical (or virtual) start? */
static const Elf64_Phdr *segment_of(const struct elf *elf, uint64_t addr, bool physical)
{
	for (unsigned i = 0; i < elf->eh.e_phnum; i++) {
		const Elf64_Phdr *ph = &elf->ph[i];

		if (is_loaded(ph) && addr - (physical ? ph->p_paddr : ph->p_vaddr) < ph->p_memsz)
			return ph;
	}
	return NULL;
}

/* The PVH entry point in a note's descriptor, 4 or 8 bytes. */
static int pvh_entry(const struct elf *elf, uint64_t offset, const uint8_t *desc, uint32_t size,
		     uint64_t *entry, struct error *e)
{
	uint64_t value = 0;

	if (size != 4 && size != 8)
		return image_error(elf->k, -ENOEXEC, offset, e,
				   "the PVH entry note holds %u bytes, not 4 or 8", size);
	memcpy(&value, desc, size);
	if (value >= ADDRESS_END || !segment_of(elf, value, true))
		return image_error(elf->k, -ENOEXEC, offset, e,
				   "the PVH entry point 0x%" PRIx64 " is in no loaded segment",
				   value);
	*entry = value;
	return 0;
}

/*
 * Walks the notes of one segment. Returns 1 and the entry point if the one we want is there, 0 if
 * not, -ENOEXEC if a note runs out of the segment.
 */
static int walk_notes(const struct elf *elf, const Elf64_Phdr *ph, const uint8_t *notes,
		      uint64_t *entry, struct error *e)
{
	uint64_t align = ph->p_align == 8 ? 8 : 4;
	uint64_t at = 0;

	while (ph->p_filesz - at >= sizeof(Elf64_Nhdr)) {
		uint64_t name = at + sizeof(Elf64_Nhdr);
		uint64_t desc, end;
		Elf64_Nhdr nh;
		int err;

		memcpy(&nh, notes + at, sizeof(nh));
		desc = (name + nh.n_namesz + align - 1) & ~(align - 1);
		end = desc + nh.n_descsz;
		if (name + nh.n_namesz > ph->p_filesz || end > ph->p_filesz)
			return image_error(elf->k, -ENOEXEC, ph->p_offset + at, e,
					   "a note with a name of %u and %u bytes of data runs "
					   "past the end of its segment (0x%" PRIx64 ")",
					   nh.n_namesz, nh.n_descsz, ph->p_offset + ph->p_filesz);
		if (nh.n_type == XEN_PHYS32_ENTRY && nh.n_namesz == sizeof(XEN_NOTE_NAME) &&
		    !memcmp(notes + name, XEN_NOTE_NAME, sizeof(XEN_NOTE_NAME))) {
			err = pvh_entry(elf, ph->p_offset + desc, notes + desc, nh.n_descsz, entry,
					e);
			return err ? err : 1;
		}
		at = (end + align - 1) & ~(align - 1);
		if (at > ph->p_filesz)
			break;
	}
	return 0;
}

static int find_pvh_note(const struct elf *elf, uint64_t *entry, struct error *e)
{
	int found = 0;

	for (unsigned i = 0; i < elf->eh.e_phnum && !found; i++) {
		const Elf64_Phdr *ph = &elf->ph[i];
		uint8_t *notes;

		if (ph->p_type != PT_NOTE || ph->p_filesz == 0)
			continue;
		found = check_file_range(elf, i, e);
		if (found)
			break;
		if (ph->p_filesz > NOTES_MAX)
			return image_error(elf->k, -ENOEXEC, phdr_offset(elf, i), e,
					   "program header %u: 0x%" PRIx64
					   " bytes of notes; at most 0x%x are read",
					   i, ph->p_filesz, NOTES_MAX);
		notes = malloc(ph->p_filesz);
		if (!notes)
			return image_error(elf->k, -ENOMEM, phdr_offset(elf, i), e,
					   "no memory to read the notes");
		found = image_read(elf->k, ph->p_offset, notes, ph->p_filesz, "the notes", e);
		if (!found)
			found = walk_notes(elf, ph, notes, entry, e);
		free(notes);
	}
	return found;
}

/* e_entry is physical in a vmlinux; other ELF files have it virtual, as the ABI wants. */
static int elf_entry(const struct elf *elf, uint64_t *entry, struct error *e)
{
	uint64_t addr = elf->eh.e_entry;
	const Elf64_Phdr *ph;

	if (!segment_of(elf, addr, true)) {
		ph = segment_of(elf, addr, false);
		if (!ph)
			return image_error(elf->k, -ENOEXEC, EHDR(e_entry), e,
					   "the entry point 0x%" PRIx64 " is in no loaded segment",
					   addr);
		addr = addr - ph->p_vaddr + ph->p_paddr;
	}
	*entry = addr;
	return 0;
}

static int choose_entry(struct boot_load *load, const struct elf *elf, struct error *e)
{
	enum boot_protocol wanted = load->config->protocol;
	int found = 0;

	if (wanted != BOOT_LINUX64)
		found = find_pvh_note(elf, &load->entry, e);
	if (found < 0)
		return found;
	if (!found && wanted == BOOT_PVH)
		return image_error(elf->k, -ENOEXEC, elf->eh.e_phoff, e,
				   "has no PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY), which "
				   "--boot=pvh needs; a Linux kernel has it with CONFIG_PVH=y");
	load->protocol = found ? BOOT_PVH : BOOT_LINUX64;
	return found ? 0 : elf_entry(elf, &load->entry, e);
}

int elf_load(struct boot_load *load, struct error *e)
{
	struct elf elf = { .k = &load->kernel };
	int err;

	err = read_header(&elf, e);
	if (!err)
		err = take_segments(load, &elf, e);
	if (!err)
		err = choose_entry(load, &elf, e);
	if (!err)
		err = load_segments(load, &elf, e);
	if (err)
		return err;

	load->cmdline_max = BOOT_CMDLINE_DEFAULT - 1;
	load->initrd_max = BOOT_INITRD_DEFAULT;
	/* A vmlinux carries no setup header; these are the fields it looks at in the zero page. */
	load->header = (struct setup_header){
		.boot_flag = LINUX_BOOT_FLAG,
		.header = LINUX_HEADER_MAGIC,
		.version = LINUX_VERSION,
		.loadflags = LOADED_HIGH,
		.kernel_alignment = LINUX_ALIGNMENT,
		.cmdline_size = BOOT_CMDLINE_DEFAULT - 1,
	};
	return 0;
}
