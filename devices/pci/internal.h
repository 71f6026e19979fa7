/*
 * What the files of this room share with each other and with nobody else. See pci.h for the lock
 * order; each function says which lock its caller holds.
 */
#ifndef DEVICES_PCI_INTERNAL_H
#define DEVICES_PCI_INTERNAL_H

#include "devices/pci/pci.h"

#define PCI_FUNCTIONS 256 /* on one bus */
#define PCI_DEVICES   32

struct pci_root {
	struct device_host *host;
	struct pci_windows windows;
	struct bus *config;
	/* Guards function[], and every function's BAR placement and doorbells. */
	pthread_mutex_t lock;
	struct pci_function *function[PCI_FUNCTIONS];
	struct pci_function bridge;
	uint32_t config_address; /* the latch at 0xcf8; atomic */
	uint8_t reset_control;	 /* at 0xcf9; atomic */
};

/* ---- config.c ---- */

extern const struct bus_ops pci_config_ops; /* opaque: the function */

/* A register's whole word; the only way config space changes once a function is plugged. */
static inline uint32_t pci_word_load(const uint8_t *space, unsigned offset)
{
	return __atomic_load_n((const uint32_t *)(const void *)(space + (offset & ~3u)),
			       __ATOMIC_RELAXED);
}

static inline void pci_word_store(uint8_t *space, unsigned offset, uint32_t value)
{
	void *word = space + (offset & ~3u);

	__atomic_store_n((uint32_t *)word, value, __ATOMIC_RELAXED);
}

/* Replaces the bits of mask in the word at offset. f->lock held, or not plugged. */
void pci_config_update(struct pci_function *f, unsigned offset, uint32_t mask, uint32_t value);
/* Back to what it was when plugged. f->lock held. */
void pci_config_restore(struct pci_function *f);

/* ---- bar.c; root->lock held ---- */

/* Brings the buses in line with the command register and BARs; retries BARs that were refused. */
void pci_bars_update(struct pci_function *f);
/* Takes all of them off the buses. */
void pci_bars_unmap(struct pci_function *f);
/* As a guest would write it; takes f->lock. Decoding must be off. */
void pci_bar_place(struct pci_function *f, unsigned bar, uint64_t address);

/* ---- intx.c; f->lock held ---- */

void pci_intx_update(struct pci_function *f); /* the pin, from what the device and guest want */
void pci_intx_reset(struct pci_function *f);

/* ---- msix.c, msi.c; f->lock held except destroy ---- */

extern const struct bus_ops pci_msix_bar_ops; /* opaque: the function */
extern const struct bus_ops pci_msix_pba_ops; /* of the PBA's BAR, where that is another one */

void pci_msix_update(
	struct pci_function *f); /* after its control or the command register changed */
void pci_msix_reset(struct pci_function *f);
void pci_msix_destroy(struct pci_function *f);

void pci_msi_update(struct pci_function *f);  /* after any of its registers or command changed */
void pci_msi_pending(struct pci_function *f); /* fills in the pending bits, before a read */
void pci_msi_reset(struct pci_function *f);
void pci_msi_destroy(struct pci_function *f);

/* ---- ports.c ---- */

int pci_ports_add(struct pci_root *root, struct error *e); /* CF8/CFC and ECAM */
void pci_ports_remove(struct pci_root *root);

/* ---- helpers ---- */

static inline bool pci_overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	return a < b + blen && b < a + alen; /* offsets in a BAR or config space: no wrap */
}

#endif
