/*
 * PCI Express functions and the root complex they sit in. A function is a 4 KiB configuration space
 * with a write mask per bit, up to six BARs that appear on the buses while decoding is enabled, one
 * INTx pin and an optional MSI-X table. Specification: PCI Express Base 5.0 chapter 7, PCI Firmware
 * 3.2 (ECAM).
 */
#ifndef DEVICES_PCI_PCI_H
#define DEVICES_PCI_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/device.h"
#include "vmm/bus.h"
#include "vmm/irq.h"

#define PCI_CONFIG_SIZE 4096
#define PCI_BARS	6

struct pci_function;

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar {
	enum pci_bar_kind kind;
	bool prefetch;
	uint64_t size;	  /* power of two, ≥ 16 (memory) or ≥ 4 (I/O) */
	uint64_t address; /* where the guest put it */
	bool mapped;	  /* on the bus now */
	struct bus_range range;
};

#define PCI_MAX_KICKS 64

/* A doorbell inside a BAR; follows the BAR when the guest moves it. */
struct pci_kick {
	bool used;
	unsigned bar;
	struct bus_kick kick; /* addr is relative to the BAR here */
};

struct pci_msix {
	unsigned vectors; /* 0: no MSI-X */
	unsigned bar;
	uint32_t table_offset, pba_offset; /* bytes inside the BAR */
	uint8_t capability;		   /* its offset in config space */
	uint32_t *table;		   /* 4 words a vector, as the guest sees it */
	struct irq_msi *msi;
};

struct pci_function_ops {
	/* After the generic code has stored a write to config space; may be NULL. */
	void (*config_written)(struct pci_function *f, unsigned offset, unsigned size);
	/* Before a config read of a range registered with pci_config_hook(); may be NULL. */
	void (*config_reading)(struct pci_function *f, unsigned offset, unsigned size);
};

struct pci_function {
	struct device *dev; /* owner */
	const char *name;
	struct pci_root *root;
	uint8_t devfn; /* device << 3 | function, on bus 0 */
	const struct pci_function_ops *ops;
	/* Guards config, BAR placement and kicks. Order: this, then a bus's own lock. */
	pthread_mutex_t lock;
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE]; /* 1: guest may change the bit */
	uint8_t clears[PCI_CONFIG_SIZE];   /* 1: writing one clears the bit (RW1C) */
	uint8_t initial[PCI_CONFIG_SIZE];  /* after reset; taken by pci_function_plug() */
	uint16_t next_capability;	   /* where the next one goes */
	struct pci_bar bar[PCI_BARS];
	struct pci_kick kick[PCI_MAX_KICKS];
	struct pci_msix msix;
	struct irq_line intx;
	bool intx_wanted; /* level the device drives, before Interrupt Disable */
};

/* What identifies a function (type 0 header). */
struct pci_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint8_t revision;
	uint32_t class_code; /* base << 16 | sub << 8 | interface */
	bool intx;	     /* has a pin (INTA#) */
};

/* Where the root complex lives; addresses from the machine's memory map. */
struct pci_windows {
	uint64_t ecam_base; /* 1 MiB a bus */
	unsigned buses;
	uint64_t mem32_base, mem32_size;
	uint64_t mem64_base, mem64_size;
	uint16_t io_base;
	uint32_t io_size;
};

struct pci_root *pci_root_create(struct device_host *host, const struct pci_windows *windows,
				 struct error *e);
void pci_root_destroy(struct pci_root *root);
/*
 * Firmware's part, at every reset after the functions' own: gives every BAR an address in its
 * window (decoding stays off until the guest's driver turns it on). -ENOSPC names the BAR that does
 * not fit.
 */
int pci_root_assign(struct pci_root *root, struct error *e);

/* Step by step before plugging. Zero-initialised memory; all undone by pci_function_destroy(). */
void pci_function_init(struct pci_function *f, struct device *dev, const struct pci_identity *id,
		       const struct pci_function_ops *ops);
/* ops/opaque serve the BAR's whole size; offset 0 is the BAR's start. */
int pci_add_bar(struct pci_function *f, unsigned bar, enum pci_bar_kind kind, bool prefetch,
		uint64_t size, const struct bus_ops *ops, void *opaque, struct error *e);
/* Adds a capability of len bytes (header included); returns its offset or -ENOSPC. */
int pci_add_capability(struct pci_function *f, uint8_t id, unsigned len);
/*
 * MSI-X with its table and PBA in the given BAR, which must be memory; accesses to that part of the
 * BAR are served here, the rest by the BAR's ops.
 */
int pci_add_msix(struct pci_function *f, unsigned vectors, unsigned bar, uint32_t table_offset,
		 uint32_t pba_offset, struct error *e);
/* The PCI Express capability, as a root-complex integrated endpoint. */
int pci_add_express(struct pci_function *f);
/* Puts it into the slot: devfn -1 takes the next free device number. -EBUSY, -ENOSPC. */
int pci_function_plug(struct pci_function *f, struct pci_root *root, int devfn, struct error *e);
/* Config space, BARs, MSI-X and INTx as after power on. */
void pci_function_reset(struct pci_function *f);
void pci_function_destroy(struct pci_function *f);

void pci_config_set8(struct pci_function *f, unsigned offset, uint8_t value);
void pci_config_set16(struct pci_function *f, unsigned offset, uint16_t value);
void pci_config_set32(struct pci_function *f, unsigned offset, uint32_t value);
/* Bits of a 32-bit register the guest may write. */
void pci_config_writable32(struct pci_function *f, unsigned offset, uint32_t mask);
uint16_t pci_config_get16(const struct pci_function *f, unsigned offset);
uint32_t pci_config_get32(const struct pci_function *f, unsigned offset);

bool pci_bus_master(const struct pci_function *f); /* may it DMA now? */

/* Drives INTA#; the guest may have it disabled. Any thread. */
void pci_intx_set(struct pci_function *f, bool level);

bool pci_msix_enabled(const struct pci_function *f);
/* Vectors past the table are ignored (a guest chooses them). Any thread. */
void pci_msix_send(struct pci_function *f, unsigned vector);
/* For data planes elsewhere: eventfd of the vector, or -errno. */
int pci_msix_eventfd(struct pci_function *f, unsigned vector);

/* Doorbell at BAR offset kick->addr; bound while the BAR is mapped. fd identifies it on removal. */
int pci_kick_add(struct pci_function *f, unsigned bar, const struct bus_kick *kick);
void pci_kick_remove(struct pci_function *f, unsigned bar, const struct bus_kick *kick);

#endif
