/*
 * The boot tests' rig: see test_boot.h.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <criterion/criterion.h>

#include "tests/unit/test_boot.h"
#include "vmm/x86_64/layout.h"

void boot_rig_init(struct boot_rig *rig, uint64_t ram)
{
	struct memory_config config = { .size = ram };

	*rig = (struct boot_rig){
		.platform = {
			.cpus = 2,
			.ecam_base = LAYOUT_ECAM_BASE,
			.ecam_buses = 256,
			.mem32_base = LAYOUT_MEM32_BASE,
			.mem32_size = LAYOUT_MEM32_SIZE,
			.io_base = LAYOUT_PCI_IO_BASE,
			.io_size = LAYOUT_PCI_IO_SIZE,
			.ioapic_base = LAYOUT_IOAPIC,
			.lapic_base = LAYOUT_LAPIC,
			.acpi_pio = LAYOUT_ACPI_PIO,
			.panic_pio = LAYOUT_PANIC_PIO,
			.uart_pio = { LAYOUT_UART_PIO(0), LAYOUT_UART_PIO(1), LAYOUT_UART_PIO(2),
				      LAYOUT_UART_PIO(3) },
			.uart_irq = { LAYOUT_UART_IRQ(0), LAYOUT_UART_IRQ(1), LAYOUT_UART_IRQ(2),
				      LAYOUT_UART_IRQ(3) },
		},
		.config = {
			.kernel = "kernel",
			.initrd_fd = -1,
			.cmdline = "console=ttyS0",
		},
	};
	rig->config.platform = &rig->platform;
	cr_assert_eq(
		memory_create(&rig->memory, &config, LAYOUT_HOLE_BASE, LAYOUT_HIGH_RAM, &rig->e), 0,
		"%s", rig->e.msg);
}

void boot_rig_destroy(struct boot_rig *rig)
{
	memory_destroy(&rig->memory);
}

int blob_fd(const struct blob *b)
{
	int fd = memfd_create("blob", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(pwrite(fd, b->data, b->size, 0), (ssize_t)b->size);
	return fd;
}

void blob_free(struct blob *b)
{
	free(b->data);
	*b = (struct blob){ 0 };
}

static struct blob blob_new(size_t size)
{
	struct blob b = { .data = calloc(1, size), .size = size };

	cr_assert_not_null(b.data);
	return b;
}

struct blob blob_gzip(const struct blob *b)
{
	z_stream z = { 0 };
	struct blob out;

	cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	out = blob_new(deflateBound(&z, b->size));
	z.next_in = b->data;
	z.avail_in = (uInt)b->size;
	z.next_out = out.data;
	z.avail_out = (uInt)out.size;
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	out.size = z.total_out;
	deflateEnd(&z);
	return out;
}

int boot_rig_load(struct boot_rig *rig, const struct blob *kernel, const struct blob *initrd)
{
	int err;

	rig->e.msg[0] = '\0';
	rig->config.kernel_fd = blob_fd(kernel);
	rig->config.initrd = initrd ? "initrd" : NULL;
	rig->config.initrd_fd = initrd ? blob_fd(initrd) : -1;
	err = boot_load(&rig->memory, &rig->config, &rig->entry, &rig->e);
	close(rig->config.kernel_fd);
	if (initrd)
		close(rig->config.initrd_fd);
	return err;
}

void boot_rig_expect(const struct boot_rig *rig, int got, int err, const char *text)
{
	cr_expect_eq(got, err, "%d, not %d: %s", got, err, rig->e.msg);
	cr_expect_not_null(strstr(rig->e.msg, text), "\"%s\" lacks \"%s\"", rig->e.msg, text);
	cr_expect(strstr(rig->e.msg, "kernel") || strstr(rig->e.msg, "initrd"), "%s", rig->e.msg);
}

static void fill(struct blob *b, size_t offset, size_t len)
{
	for (size_t i = 0; i < len; i++)
		b->data[offset + i] = (uint8_t)(i * 7 + 1);
}

struct setup_header *bzimage_header(const struct blob *b)
{
	return (struct setup_header *)(b->data + 0x1f1);
}

struct blob make_bzimage(void)
{
	struct blob b = blob_new(BZ_CODE + BZ_CODE_SIZE);

	*bzimage_header(&b) = (struct setup_header){
		.setup_sects = 1,
		.syssize = BZ_CODE_SIZE / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb, /* to the end of the header, 0x26c */
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 2 * MIB,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = BZ_CMDLINE,
		.pref_address = BZ_ADDRESS,
		.init_size = BZ_INIT_SIZE,
	};
	fill(&b, BZ_CODE, BZ_CODE_SIZE);
	return b;
}

Elf64_Ehdr *elf_ehdr(const struct blob *b)
{
	return (Elf64_Ehdr *)b->data;
}

Elf64_Phdr *elf_phdr(const struct blob *b, unsigned i)
{
	return (Elf64_Phdr *)(b->data + sizeof(Elf64_Ehdr)) + i;
}

static void make_notes(uint8_t *at)
{
	Elf64_Nhdr other = { .n_namesz = 4, .n_descsz = 2, .n_type = 1 };
	Elf64_Nhdr pvh = { .n_namesz = 4, .n_descsz = 8, .n_type = 18 };
	uint64_t entry = ELF_PVH_ENTRY;

	memcpy(at, &other, sizeof(other));
	memcpy(at + sizeof(other), "GNU", 4); /* name, 2 bytes of data, 2 of padding */
	memcpy(at + ELF_NOTE_NHDR, &pvh, sizeof(pvh));
	memcpy(at + ELF_NOTE_NHDR + sizeof(pvh), "Xen", 4);
	memcpy(at + ELF_NOTE_DESC, &entry, sizeof(entry));
}

struct blob make_elf(void)
{
	struct blob b = blob_new(ELF_DATA_FILE + ELF_DATA_SIZE);

	*elf_ehdr(&b) = (Elf64_Ehdr){
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = ELF_ENTRY,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 3,
	};
	*elf_phdr(&b, 0) = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = ELF_TEXT_FILE,
		.p_vaddr = ELF_VIRTUAL + ELF_TEXT,
		.p_paddr = ELF_TEXT,
		.p_filesz = ELF_TEXT_SIZE,
		.p_memsz = ELF_TEXT_SIZE,
		.p_align = 0x1000,
	};
	*elf_phdr(&b, 1) = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = ELF_DATA_FILE,
		.p_vaddr = ELF_VIRTUAL + ELF_DATA,
		.p_paddr = ELF_DATA,
		.p_filesz = ELF_DATA_SIZE,
		.p_memsz = ELF_DATA_MEM,
		.p_align = 0x1000,
	};
	*elf_phdr(&b, 2) = (Elf64_Phdr){
		.p_type = PT_NOTE,
		.p_offset = ELF_NOTES,
		.p_vaddr = ELF_VIRTUAL + ELF_TEXT + ELF_NOTES - ELF_TEXT_FILE,
		.p_paddr = ELF_TEXT + ELF_NOTES - ELF_TEXT_FILE,
		.p_filesz = ELF_NOTES_SIZE,
		.p_memsz = ELF_NOTES_SIZE,
		.p_align = 4,
	};
	fill(&b, ELF_TEXT_FILE, ELF_TEXT_SIZE);
	fill(&b, ELF_DATA_FILE, ELF_DATA_SIZE);
	make_notes(b.data + ELF_NOTES);
	return b;
}
