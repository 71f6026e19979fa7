/*
 * PCI Express functions and the root complex they sit in. A function is a 4 KiB configuration space
 * with a write mask per bit, up to six BARs that appear on the buses while decoding is enabled, one
 * INTx pin and optional MSI and MSI-X. Specification: PCI Express Base 5.0 chapter 7, PCI Local Bus
 * 3.0 chapter 6, PCI Firmware 3.2 (ECAM).
 *
 * Locks, in the order they are taken: a device's own, the root's (where BARs and doorbells are on
 * the buses), a function's (config space, MSI-X table, INTx level), then the leaf locks of irq and
 * bus. A device is never called with a lock of this room held, so it may take its own and call
 * anything here from any callback and any BAR access.
 */
#ifndef DEVICES_PCI_PCI_H
#define DEVICES_PCI_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/device.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/log.h"

#define PCI_CONFIG_SIZE 4096
#define PCI_BARS	6
#define PCI_ROM		6 /* the expansion ROM's place behind the BARs */
#define PCI_BAR_SLOTS	7
#define PCI_INTX_LINES	8 /* GSIs that the INTx pins are spread over */

struct pci_function;

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64, PCI_BAR_ROM };

/* Set by pci_add_bar() or pci_add_rom(); placement is guarded by the root's lock. */
struct pci_bar {
	enum pci_bar_kind kind;
	bool prefetch;
	uint64_t size;		   /* power of two, ≥ 16 (memory) or ≥ 4 (I/O) */
	const struct bus_ops *ops; /* the device's; NULL: nothing but MSI-X in it */
	void *opaque;
	uint64_t address; /* where the guest put it */
	bool enabled;	  /* the guest wants it decoded */
	bool mapped;	  /* on the bus now */
	struct bus_range range;
	char name[32]; /* "blk0 BAR 4" */
	struct log_limit refused;
};

/* A doorbell inside a BAR; follows the BAR when the guest moves it. Guarded by the root's lock. */
struct pci_kick {
	bool used;
	bool bound; /* the bus has it */
	unsigned bar;
	struct bus_kick kick; /* addr is relative to the BAR here */
};

/* Memory of the host that answers to a part of a BAR. Guarded by the root's lock. */
struct pci_host_map {
	unsigned bar;
	uint64_t offset, size; /* inside the BAR; whole pages */
	void *host;
	int handle; /* of the mapping; < 0: not there now */
};

struct pci_msix {
	unsigned vectors; /* 0: no MSI-X */
	unsigned bar, pba_bar;
	uint32_t table_offset, pba_offset; /* bytes inside the BAR */
	uint8_t capability;		   /* its offset in config space */
	bool live;			   /* enabled, function not masked, may master the bus */
	uint32_t *table;		   /* 4 words a vector, as the guest sees it */
	struct irq_msi *msi;
};

struct pci_msi {
	unsigned vectors; /* 0: no MSI */
	/* Offsets in config space, and the capability's size; 0: not there. */
	uint8_t capability, size, address_high, data, mask, pending;
	struct irq_msi *msi;
};

/* All run on the thread of the vCPU that made the access, with no lock held. */
struct pci_function_ops {
	/*
	 * After a guest's write to config space was stored and has had its standard effects; may be
	 * NULL. size is 1, 2 or 4 and the bytes may span registers: compare ranges. Two vCPUs may
	 * be in here at once: look at what config space holds now.
	 */
	void (*config_written)(struct pci_function *f, unsigned offset, unsigned size);
	/* Before a guest's read: bring config space up to date with pci_config_set*(). Or NULL. */
	void (*config_reading)(struct pci_function *f, unsigned offset, unsigned size);
	/* A guest's write as it comes, before anything of it is stored; size as above. Or NULL. */
	void (*config_writing)(struct pci_function *f, unsigned offset, unsigned size,
			       uint32_t value);
	/* The guest cleared the mask bit of an MSI-X vector. Or NULL. */
	void (*vector_unmasked)(struct pci_function *f, unsigned vector);
};

struct pci_function {
	struct device *dev; /* owner; NULL only for the host bridge */
	const char *name;
	struct pci_root *root; /* NULL until plugged */
	uint8_t devfn;	       /* device << 3 | function, on bus 0 */
	const struct pci_function_ops *ops;
	/*
	 * Guards changes of config, MSI and MSI-X, and intx. Config is changed a 32-bit word at a
	 * time, so that single registers are read without it.
	 */
	pthread_mutex_t lock;
	uint8_t config[PCI_CONFIG_SIZE] __attribute__((aligned(8)));
	uint8_t writable[PCI_CONFIG_SIZE] __attribute__((aligned(8))); /* 1: guest may change it */
	uint8_t clears[PCI_CONFIG_SIZE] __attribute__((aligned(8)));   /* 1: RW1C */
	uint8_t initial[PCI_CONFIG_SIZE] __attribute__((aligned(8)));  /* after reset */
	uint16_t next_capability;				       /* where the next one goes */
	bool gone;						       /* root's lock */
	struct pci_bar bar[PCI_BAR_SLOTS];
	struct pci_host_map *map;
	unsigned maps;
	struct log_limit map_failed;
	struct pci_kick *kick;
	unsigned kicks; /* slots in it */
	struct log_limit kick_failed;
	struct pci_msix msix;
	struct pci_msi msi;
	bool has_intx;
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

/*
 * Where the root complex lives; addresses from the machine's memory map. BARs are decoded only
 * inside the windows, as by a host bridge, so these must not cover RAM or chips.
 */
struct pci_windows {
	uint64_t ecam_base; /* 1 MiB a bus */
	unsigned buses;
	uint64_t mem32_base, mem32_size;
	uint64_t mem64_base, mem64_size; /* size 0: none */
	uint16_t io_base;
	uint32_t io_size;
	unsigned intx_gsi; /* first of PCI_INTX_LINES */
};

/*
 * Takes the config ports and the ECAM range and plugs the host bridge 00:00.0. The caller puts it
 * into host->pci. -EINVAL for windows that cannot be, -EEXIST, -ENOMEM.
 */
struct pci_root *pci_root_create(struct device_host *host, const struct pci_windows *windows,
				 struct error *e);
void pci_root_destroy(struct pci_root *root); /* after all functions */
/*
 * Firmware's part, at every reset after the functions' own: resets the root's registers and gives
 * every BAR an address in its window (decoding stays off until the guest's driver turns it on).
 * -ENOSPC names the BAR that does not fit.
 */
int pci_root_assign(struct pci_root *root, struct error *e);
/*
 * The first function that these ops serve, or NULL: how several flags share one controller. Set-up.
 */
struct pci_function *pci_root_find(struct pci_root *root, const struct pci_function_ops *ops);
/* Configuration space of the whole machine; addresses are ECAM offsets. */
struct bus *pci_root_config(struct pci_root *root);
/* The GSI of a pin (0: INTA#) of a device; the _PRT must say the same. */
unsigned pci_intx_gsi(const struct pci_windows *windows, unsigned device, unsigned pin);

/* Step by step before plugging. Zero-initialised memory; all undone by pci_function_destroy(). */
void pci_function_init(struct pci_function *f, struct device *dev, const struct pci_identity *id,
		       const struct pci_function_ops *ops);
/* ops/opaque serve the BAR's whole size; offset 0 is the BAR's start. MEM64 takes bar + 1 too. */
int pci_add_bar(struct pci_function *f, unsigned bar, enum pci_bar_kind kind, bool prefetch,
		uint64_t size, const struct bus_ops *ops, void *opaque, struct error *e);
/* The expansion ROM; ops serve its whole size (a power of two, ≥ 2 KiB), while the guest has it on.
 */
int pci_add_rom(struct pci_function *f, uint64_t size, const struct bus_ops *ops, void *opaque,
		struct error *e);
/*
 * Lets the guest reach memory of the host at [offset, offset + size) of a memory BAR without an
 * exit, wherever the BAR is moved. The BAR's ops serve the rest, and all of it where the hypervisor
 * has no slot left. -EINVAL unless all are whole pages inside the BAR.
 */
int pci_map_host(struct pci_function *f, unsigned bar, uint64_t offset, uint64_t size, void *host,
		 struct error *e);
/* Adds a capability of len bytes (header included); returns its offset or -ENOSPC. */
int pci_add_capability(struct pci_function *f, uint8_t id, unsigned len);
/* The same at a place of the caller's choice, last in the list. 0 or -ENOSPC. */
int pci_add_capability_at(struct pci_function *f, unsigned at, uint8_t id, unsigned len);
/*
 * MSI-X with its table and PBA in the given BAR, which must be memory; accesses to that part of the
 * BAR are served here, the rest by the BAR's ops.
 */
int pci_add_msix(struct pci_function *f, unsigned vectors, unsigned bar, uint32_t table_offset,
		 uint32_t pba_offset, struct error *e);
/* As some real device has it: capability, table and PBA where they are there. */
struct pci_msix_layout {
	unsigned at; /* in config space */
	unsigned vectors;
	unsigned table_bar, pba_bar;
	uint32_t table_offset, pba_offset;
};
int pci_add_msix_at(struct pci_function *f, const struct pci_msix_layout *layout, struct error *e);
/* MSI: 1, 2, 4 … 32 vectors, 64-bit address, per-vector masking. */
int pci_add_msi(struct pci_function *f, unsigned vectors, struct error *e);
/* The same at a place of the caller's; flags: which of PCI_MSI_FLAGS_64BIT and _MASKBIT it has. */
int pci_add_msi_at(struct pci_function *f, unsigned at, unsigned vectors, uint16_t flags,
		   struct error *e);
/* The PCI Express capability, as a root-complex integrated endpoint; its offset or -ENOSPC. */
int pci_add_express(struct pci_function *f);
/*
 * Offers function-level reset in the PCI Express capability at `express`. The device asks in
 * config_written() whether one was initiated, and then resets itself and the function.
 */
void pci_add_flr(struct pci_function *f, unsigned express);
bool pci_take_flr(struct pci_function *f, unsigned express);
/* Puts it into the slot: devfn -1 takes the next free device number. -EBUSY, -ENOSPC. */
int pci_function_plug(struct pci_function *f, struct pci_root *root, int devfn, struct error *e);
/* Config space, BARs, MSI, MSI-X and INTx as after power on. Doorbells stay the device's. */
void pci_function_reset(struct pci_function *f);
void pci_function_destroy(struct pci_function *f);
/*
 * Pulls it out while the guest runs: config space and BARs read all ones from now on, and memory of
 * the host behind them is no longer reached. It keeps its slot; only destroying is left to do.
 */
void pci_function_vanish(struct pci_function *f);

/*
 * Config space from the device's side: no write mask, no side effects. Any thread once plugged.
 * offset is a multiple of the width.
 */
void pci_config_set8(struct pci_function *f, unsigned offset, uint8_t value);
void pci_config_set16(struct pci_function *f, unsigned offset, uint16_t value);
void pci_config_set32(struct pci_function *f, unsigned offset, uint32_t value);
uint8_t pci_config_get8(const struct pci_function *f, unsigned offset);
uint16_t pci_config_get16(const struct pci_function *f, unsigned offset);
uint32_t pci_config_get32(const struct pci_function *f, unsigned offset);
/* Bits of a 32-bit register the guest may write, and those it clears by writing 1. Set-up. */
void pci_config_writable32(struct pci_function *f, unsigned offset, uint32_t mask);
void pci_config_clears32(struct pci_function *f, unsigned offset, uint32_t mask);

bool pci_bus_master(const struct pci_function *f); /* may it DMA now? */

/* Drives INTA#; the guest may have it disabled. Any thread. */
void pci_intx_set(struct pci_function *f, bool level);
/* Whose interrupts they are from now on; at first the function's device's. */
void pci_intx_account(struct pci_function *f, struct account *account);

/* Hands the pin to a pair of eventfds, see irq_line_bind(); the guest's Disable bit is not seen. */
int pci_intx_bind(struct pci_function *f, int trigger, int resample);
void pci_intx_unbind(struct pci_function *f, int trigger);

/* Is the vector's own mask bit set? Past the table: yes. */
bool pci_msix_masked(struct pci_function *f, unsigned vector);
bool pci_msix_enabled(const struct pci_function *f);
/* Does nothing for vectors past the table (a guest chooses them) or while disabled. Any thread. */
void pci_msix_send(struct pci_function *f, unsigned vector);
/* For data planes elsewhere: eventfd of the vector, or -errno (-EINVAL past the table). */
int pci_msix_eventfd(struct pci_function *f, unsigned vector);

/* How many vectors the guest allowed; 0 while MSI is disabled. */
unsigned pci_msi_enabled(const struct pci_function *f);
/* As for MSI-X; vectors the guest did not allow do nothing. */
void pci_msi_send(struct pci_function *f, unsigned vector);
int pci_msi_eventfd(struct pci_function *f, unsigned vector);

/*
 * Doorbell at BAR offset kick->addr; bound while the BAR is mapped. Any thread. While a BAR is
 * being moved, or if the kernel refuses one more, the write comes to the BAR's ops instead: serve
 * it there too. -EINVAL outside the BAR, -ENOMEM. Removal wants the same contents.
 */
int pci_kick_add(struct pci_function *f, unsigned bar, const struct bus_kick *kick);
void pci_kick_remove(struct pci_function *f, unsigned bar, const struct bus_kick *kick);

#endif
