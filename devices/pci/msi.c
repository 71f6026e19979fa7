/*
 * MSI with 64-bit address and per-vector masking, for devices that predate MSI-X. All of it is in
 * config space; vector n's message is the one data word with n in its low bits. PCI Express Base
 * 5.0 section 7.7.1.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "devices/pci/internal.h"

#define MAX_VECTORS 32u
#define CAP_SIZE    (PCI_MSI_PENDING_64 + 4)

int pci_add_msi(struct pci_function *f, unsigned vectors, struct error *e)
{
	struct pci_msi *m = &f->msi;
	int capability;
	uint16_t log2;

	if (f->root || m->vectors || vectors == 0 || vectors > MAX_VECTORS ||
	    (vectors & (vectors - 1)))
		return error_set(e, -EINVAL, "%s: no MSI with %u vectors", f->name, vectors);
	m->msi = calloc(vectors, sizeof(*m->msi));
	if (!m->msi)
		return error_set(e, -ENOMEM, "%s: no memory for MSI", f->name);
	capability = pci_add_capability(f, PCI_CAP_ID_MSI, CAP_SIZE);
	if (capability < 0) {
		free(m->msi);
		m->msi = NULL;
		return error_set(e, capability, "%s: no room for MSI", f->name);
	}

	m->vectors = vectors;
	m->capability = (uint8_t)capability;
	log2 = (uint16_t)__builtin_ctz(vectors);
	pci_config_set16(f, m->capability + PCI_MSI_FLAGS,
			 (uint16_t)(PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | log2 << 1));
	pci_config_writable32(f, m->capability,
			      (uint32_t)(PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE) << 16);
	pci_config_writable32(f, m->capability + PCI_MSI_ADDRESS_LO, ~3u);
	pci_config_writable32(f, m->capability + PCI_MSI_ADDRESS_HI, ~0u);
	pci_config_writable32(f, m->capability + PCI_MSI_DATA_64, 0xffff);
	pci_config_writable32(f, m->capability + PCI_MSI_MASK_64,
			      (uint32_t)((1ull << vectors) - 1));
	for (unsigned i = 0; i < vectors; i++) {
		irq_msi_init(&m->msi[i], f->dev->host->irq);
		m->msi[i].account = f->dev->account;
	}
	return 0;
}

unsigned pci_msi_enabled(const struct pci_function *f)
{
	unsigned allowed;
	uint16_t flags;

	if (!f->msi.vectors)
		return 0;
	flags = pci_config_get16(f, f->msi.capability + PCI_MSI_FLAGS);
	if (!(flags & PCI_MSI_FLAGS_ENABLE))
		return 0;
	allowed = 1u << ((flags & PCI_MSI_FLAGS_QSIZE) >> 4);
	return allowed < f->msi.vectors ? allowed : f->msi.vectors;
}

void pci_msi_update(struct pci_function *f)
{
	unsigned allowed = pci_bus_master(f) ? pci_msi_enabled(f) : 0;
	unsigned at = f->msi.capability;
	uint64_t address;
	uint32_t mask, data;

	if (!f->msi.vectors)
		return;
	address = pci_config_get32(f, at + PCI_MSI_ADDRESS_LO) |
		  (uint64_t)pci_config_get32(f, at + PCI_MSI_ADDRESS_HI) << 32;
	data = pci_config_get16(f, at + PCI_MSI_DATA_64);
	if (allowed)
		data &= ~(allowed - 1);
	mask = pci_config_get32(f, at + PCI_MSI_MASK_64);
	for (unsigned i = 0; i < f->msi.vectors; i++)
		irq_msi_configure(&f->msi.msi[i], address, data | i,
				  i >= allowed || (mask >> i & 1));
}

void pci_msi_pending(struct pci_function *f)
{
	uint32_t pending = 0;

	for (unsigned i = 0; i < f->msi.vectors; i++)
		if (irq_msi_pending(&f->msi.msi[i]))
			pending |= 1u << i;
	pci_config_update(f, f->msi.capability + PCI_MSI_PENDING_64, ~0u, pending);
}

void pci_msi_reset(struct pci_function *f)
{
	for (unsigned i = 0; i < f->msi.vectors; i++)
		irq_msi_reset(&f->msi.msi[i]);
}

void pci_msi_destroy(struct pci_function *f)
{
	for (unsigned i = 0; i < f->msi.vectors; i++)
		irq_msi_destroy(&f->msi.msi[i]);
	free(f->msi.msi);
	f->msi = (struct pci_msi){ 0 };
}

void pci_msi_send(struct pci_function *f, unsigned vector)
{
	if (vector < pci_msi_enabled(f))
		irq_msi_send(&f->msi.msi[vector]);
}

int pci_msi_eventfd(struct pci_function *f, unsigned vector)
{
	return vector < f->msi.vectors ? irq_msi_eventfd(&f->msi.msi[vector]) : -EINVAL;
}
