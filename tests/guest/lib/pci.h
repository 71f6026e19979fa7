/*
 * PCI from the guest's side: configuration space by both mechanisms, functions, BARs, MSI-X. PCI
 * Express Base 5.0 chapter 7; PCI Local Bus 3.0 section 6.
 */
#ifndef GUEST_PCI_H
#define GUEST_PCI_H

#include "cpu.h"

#define PCI_VENDOR	   0x00
#define PCI_DEVICE	   0x02
#define PCI_COMMAND	   0x04
#define PCI_STATUS	   0x06
#define PCI_REVISION	   0x08
#define PCI_CLASS	   0x0a
#define PCI_HEADER	   0x0e
#define PCI_BAR0	   0x10
#define PCI_SUBSYSTEM	   0x2e
#define PCI_CAPABILITIES   0x34
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN  0x3d

#define PCI_COMMAND_IO	     0x001
#define PCI_COMMAND_MEMORY   0x002
#define PCI_COMMAND_MASTER   0x004
#define PCI_COMMAND_INTX_OFF 0x400
#define PCI_STATUS_INTERRUPT 0x08
#define PCI_STATUS_CAPS	     0x10

#define PCI_CAP_VENDOR	0x09
#define PCI_CAP_EXPRESS 0x10
#define PCI_CAP_MSIX	0x11

#define MSIX_CONTROL	   2
#define MSIX_TABLE	   4
#define MSIX_PBA	   8
#define MSIX_ENABLE	   0x8000
#define MSIX_FUNCTION_MASK 0x4000
#define MSIX_ENTRY_SIZE	   16
#define MSIX_ENTRY_MASKED  1u

/* bus << 8 | device << 3 | function */
typedef uint16_t pci_address;
#define PCI_BDF(bus, device, function) ((pci_address)((bus) << 8 | (device) << 3 | (function)))

/* Mechanism #1, ports 0xcf8 and 0xcfc; offset < 256. */
uint32_t pci_cf8_read(pci_address bdf, unsigned offset, unsigned size);
void pci_cf8_write(pci_address bdf, unsigned offset, unsigned size, uint32_t value);

/* Memory-mapped, where the MCFG table says. */
uint64_t pci_ecam(pci_address bdf, unsigned offset);
uint8_t pci_read8(pci_address bdf, unsigned offset);
uint16_t pci_read16(pci_address bdf, unsigned offset);
uint32_t pci_read32(pci_address bdf, unsigned offset);
void pci_write8(pci_address bdf, unsigned offset, uint8_t value);
void pci_write16(pci_address bdf, unsigned offset, uint16_t value);
void pci_write32(pci_address bdf, unsigned offset, uint32_t value);

struct pci_bar {
	uint64_t address, size; /* size 0: none */
	bool io, wide;		/* wide: 64-bit, takes the next register too */
	uint8_t flags;		/* the low bits of the register */
};

struct pci_function {
	pci_address bdf;
	uint16_t vendor, device;
	struct pci_bar bar[6];
	unsigned msix; /* offset of the capability, 0: none */
	unsigned msix_vectors;
	uint64_t msix_table, msix_pba;
};

/* The n-th function on bus 0 with these ids; false if there is none. */
bool pci_find(uint16_t vendor, uint16_t device, unsigned n, struct pci_function *f);
/* Fills in BARs (sizing them with decoding off) and MSI-X; maps what they cover. */
void pci_probe(pci_address bdf, struct pci_function *f);
/* Moves a BAR; decoding as it was. */
void pci_bar_move(struct pci_function *f, unsigned bar, uint64_t address);
/* Offset of a capability; after: where the last one was, or 0. 0 if there is none. */
unsigned pci_capability(pci_address bdf, uint8_t id, unsigned after);
void pci_enable(struct pci_function *f); /* I/O, memory, bus master */

/* Vector n of the function → interrupt vector on a CPU. */
void msix_route(const struct pci_function *f, unsigned n, unsigned vector, uint32_t apic_id);
void msix_mask(const struct pci_function *f, unsigned n, bool masked);
bool msix_pending(const struct pci_function *f, unsigned n);
/* Whole function: MSIX_ENABLE, MSIX_FUNCTION_MASK or 0. */
void msix_control(const struct pci_function *f, uint16_t bits);

#endif
