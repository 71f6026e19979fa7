/*
 * MSI, for devices that predate MSI-X: with 64-bit address and per-vector masking, or without
 * either where a passed-through device has it so. All of it is in config space; vector n's message
 * is the one data word with n in its low bits. PCI Express Base 5.0 section 7.7.1.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "devices/pci/internal.h"

#define MAX_VECTORS 32u
#define FLAGS	    (PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT)

/* The four shapes that the flags make of the capability. */
static void lay_out(struct pci_msi *m, unsigned at, uint16_t flags)
{
	bool wide = flags & PCI_MSI_FLAGS_64BIT, masks = flags & PCI_MSI_FLAGS_MASKBIT;
	unsigned data = wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32;
	unsigned mask = wide ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32;

	m->capability = (uint8_t)at;
	m->size = (uint8_t)(masks ? mask + 8 : data + 2);
	m->address_high = (uint8_t)(wide ? at + PCI_MSI_ADDRESS_HI : 0);
	m->data = (uint8_t)(at + data);
	m->mask = (uint8_t)(masks ? at + mask : 0);
	m->pending = (uint8_t)(masks ? at + mask + 4 : 0);
}

static void describe(struct pci_function *f, uint16_t flags)
{
	const struct pci_msi *m = &f->msi;
	uint16_t log2 = (uint16_t)__builtin_ctz(m->vectors);

	pci_config_set16(f, m->capability + PCI_MSI_FLAGS, (uint16_t)(flags | log2 << 1));
	pci_config_writable32(f, m->capability,
			      (uint32_t)(PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE) << 16);
	pci_config_writable32(f, m->capability + PCI_MSI_ADDRESS_LO, ~3u);
	pci_config_writable32(f, m->data, 0xffff);
	if (m->address_high)
		pci_config_writable32(f, m->address_high, ~0u);
	if (m->mask)
		pci_config_writable32(f, m->mask, (uint32_t)((1ull << m->vectors) - 1));
}

int pci_add_msi_at(struct pci_function *f, unsigned at, unsigned vectors, uint16_t flags,
		   struct error *e)
{
	struct pci_msi *m = &f->msi;
	struct pci_msi layout = { 0 };
	int err;

	if (f->root || m->vectors || vectors == 0 || vectors > MAX_VECTORS ||
	    (vectors & (vectors - 1)))
		return error_set(e, -EINVAL, "%s: no MSI with %u vectors", f->name, vectors);
	lay_out(&layout, at, flags);
	layout.msi = calloc(vectors, sizeof(*layout.msi));
	if (!layout.msi)
		return error_set(e, -ENOMEM, "%s: no memory for MSI", f->name);
	err = pci_add_capability_at(f, at, PCI_CAP_ID_MSI, layout.size);
	if (err < 0) {
		free(layout.msi);
		return error_set(e, err, "%s: no room for MSI", f->name);
	}
	*m = layout;
	m->vectors = vectors;
	describe(f, flags & FLAGS);
	for (unsigned i = 0; i < vectors; i++) {
		irq_msi_init(&m->msi[i], f->dev->host->irq);
		m->msi[i].account = f->dev->account;
	}
	return 0;
}

int pci_add_msi(struct pci_function *f, unsigned vectors, struct error *e)
{
	return pci_add_msi_at(f, f->next_capability, vectors, FLAGS, e);
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
	const struct pci_msi *m = &f->msi;
	uint32_t mask = 0, data;
	uint64_t address;

	if (!m->vectors)
		return;
	address = pci_config_get32(f, m->capability + PCI_MSI_ADDRESS_LO);
	if (m->address_high)
		address |= (uint64_t)pci_config_get32(f, m->address_high) << 32;
	data = pci_config_get16(f, m->data);
	if (allowed)
		data &= ~(allowed - 1);
	if (m->mask)
		mask = pci_config_get32(f, m->mask);
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
	pci_config_update(f, f->msi.pending, ~0u, pending);
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
