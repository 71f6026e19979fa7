/*
 * A kernel and its tables into guest memory. In: files, a command line, what the machine looks
 * like. Out: where the first vCPU starts and with which registers. Knows no device.
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"
#include "vmm/memory.h"

enum boot_protocol {
	BOOT_AUTO,    /* what the file is; ELF: PVH if it carries the note, else 64-bit */
	BOOT_LINUX64, /* Documentation/arch/x86/boot.rst, 64-bit entry: bzImage or ELF vmlinux */
	BOOT_PVH,     /* Xen's x86 HVM direct boot ABI, ELF with XEN_ELFNOTE_PHYS32_ENTRY */
};
const char *boot_protocol_name(enum boot_protocol protocol); /* "auto", "linux64", "pvh" */

/* Reserved or special guest-physical ranges for the memory map besides RAM (E820 types). */
struct boot_range {
	uint64_t base, size;
	uint32_t type; /* 1 RAM, 2 reserved, 3 ACPI, 4 NVS */
};

#define BOOT_MAX_RANGES 16

/* virtio-mmio slots that the ACPI tables can announce: 4 KiB of registers and a line each. */
#define BOOT_VMMIO_SLOTS 16
#define BOOT_UARTS	 4

/* What the kernel is told of the machine; filled by vmm/ from its memory map and config. */
struct boot_platform {
	unsigned cpus;	    /* vCPU n has APIC id n (x2APIC id likewise) */
	uint64_t ecam_base; /* PCI segment 0, buses 0 … ecam_buses - 1 */
	unsigned ecam_buses;
	uint64_t mem32_base, mem32_size; /* PCI windows */
	uint64_t mem64_base, mem64_size;
	uint16_t io_base;
	uint32_t io_size;
	uint32_t ioapic_base, lapic_base;
	uint16_t acpi_pio; /* base of sleep control (+0), sleep status (+1), reset (+2) registers */
	uint16_t panic_pio;	       /* pvpanic's port */
	uint16_t uart_pio[BOOT_UARTS]; /* COM1 and up, 0: there is none */
	uint8_t uart_irq[BOOT_UARTS];
	uint32_t vmmio_base; /* slot n has its registers at vmmio_base + n * 0x1000 */
	uint32_t vmmio_mask; /* bit n: slot n is there */
	uint8_t vmmio_gsi[BOOT_VMMIO_SLOTS];
	unsigned nranges; /* extra reserved ranges */
	struct boot_range range[BOOT_MAX_RANGES];
};

struct boot_config {
	const char *kernel;  /* path, for messages */
	int kernel_fd;	     /* open for reading; kept open by the caller for later resets */
	const char *initrd;  /* path or NULL */
	int initrd_fd;	     /* or -1 */
	const char *cmdline; /* complete */
	enum boot_protocol protocol;
	const struct boot_platform *platform;
};

/*
 * Opens a kernel or initrd for boot_load(): what is not a regular file is read to its end, up to
 * limit bytes, so that a reset can load it again. A descriptor for the caller to close, or -errno.
 */
int boot_open(const char *path, uint64_t limit, struct error *e);

/* How the boot CPU starts. */
struct boot_entry {
	enum boot_protocol protocol; /* the one chosen; never BOOT_AUTO */
	bool long_mode; /* linux64: 64-bit with identity page tables; pvh: 32-bit, no paging */
	uint64_t rip, rsi, rbx, rsp;
	uint64_t cr3; /* page tables if long_mode */
	uint64_t gdt; /* guest address of a GDT with flat code 0x10 and data 0x18 (4 entries) */
};

/*
 * Loads kernel, initrd, command line, memory map and ACPI tables. Every length and offset taken
 * from the files is checked; errors name file, offset and reason. -ENOEXEC (not a kernel, damaged),
 * -ENOMEM (does not fit in RAM), -E2BIG (command line), -errno of read(2).
 */
int boot_load(const struct guest_memory *memory, const struct boot_config *config,
	      struct boot_entry *entry, struct error *e);

#endif
