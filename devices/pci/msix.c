/*
 * MSI-X: a table of address, data and mask per vector, and an array of pending bits, both inside a
 * memory BAR of the device. A vector's own bookkeeping (pending, eventfd) is behind irq_msi; here
 * is what the guest sees, and when a vector is masked: by its own bit, by Function Mask, by MSI-X
 * Enable, or while the function may not master the bus. PCI Express Base 5.0 sections 6.1.4, 7.7.2.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "devices/pci/internal.h"

#define ENTRY_WORDS (PCI_MSIX_ENTRY_SIZE / 4)
#define MAX_VECTORS (PCI_MSIX_FLAGS_QSIZE + 1)

static uint32_t table_size(const struct pci_msix *m)
{
	return m->vectors * PCI_MSIX_ENTRY_SIZE;
}

static uint32_t pba_size(const struct pci_msix *m)
{
	return (m->vectors + 63) / 64 * 8;
}

static uint16_t control(const struct pci_function *f)
{
	return pci_config_get16(f, f->msix.capability + PCI_MSIX_FLAGS);
}

static bool fits(const struct pci_function *f, unsigned bar, uint32_t offset, uint32_t size)
{
	return offset % 8 == 0 && (uint64_t)offset + size <= f->bar[bar].size;
}

static int check_layout(const struct pci_function *f, struct error *e)
{
	const struct pci_msix *m = &f->msix;

	if (!fits(f, m->bar, m->table_offset, table_size(m)))
		return error_set(e, -EINVAL, "%s: MSI-X table at 0x%x does not fit into BAR %u",
				 f->name, m->table_offset, m->bar);
	if (!fits(f, m->pba_bar, m->pba_offset, pba_size(m)))
		return error_set(e, -EINVAL, "%s: MSI-X PBA at 0x%x does not fit into BAR %u",
				 f->name, m->pba_offset, m->pba_bar);
	if (m->bar == m->pba_bar &&
	    pci_overlaps(m->table_offset, table_size(m), m->pba_offset, pba_size(m)))
		return error_set(e, -EINVAL, "%s: MSI-X PBA at 0x%x lies in the table", f->name,
				 m->pba_offset);
	return 0;
}

static bool memory_bar(const struct pci_function *f, unsigned bar)
{
	return bar < PCI_BARS && f->bar[bar].kind >= PCI_BAR_MEM32;
}

int pci_add_msix_at(struct pci_function *f, const struct pci_msix_layout *l, struct error *e)
{
	struct pci_msix *m = &f->msix;
	int err;

	if (f->root || m->vectors || l->vectors == 0 || l->vectors > MAX_VECTORS)
		return error_set(e, -EINVAL, "%s: no MSI-X table of %u vectors", f->name,
				 l->vectors);
	if (!memory_bar(f, l->table_bar) || !memory_bar(f, l->pba_bar))
		return error_set(e, -EINVAL, "%s: MSI-X needs a memory BAR", f->name);
	*m = (struct pci_msix){ .vectors = l->vectors,
				.bar = l->table_bar,
				.pba_bar = l->pba_bar,
				.table_offset = l->table_offset,
				.pba_offset = l->pba_offset };
	err = check_layout(f, e);
	if (err) {
		*m = (struct pci_msix){ 0 };
		return err;
	}
	err = pci_add_capability_at(f, l->at, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	m->table = calloc(l->vectors, PCI_MSIX_ENTRY_SIZE);
	m->msi = calloc(l->vectors, sizeof(*m->msi));
	if (err < 0 || !m->table || !m->msi) {
		free(m->table);
		free(m->msi);
		*m = (struct pci_msix){ 0 };
		return error_set(e, err < 0 ? err : -ENOMEM, "%s: no room for MSI-X", f->name);
	}

	m->capability = (uint8_t)l->at;
	pci_config_set16(f, m->capability + PCI_MSIX_FLAGS, (uint16_t)(l->vectors - 1));
	pci_config_set32(f, m->capability + PCI_MSIX_TABLE, l->table_offset | l->table_bar);
	pci_config_set32(f, m->capability + PCI_MSIX_PBA, l->pba_offset | l->pba_bar);
	pci_config_writable32(f, m->capability,
			      (uint32_t)(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) << 16);
	for (unsigned i = 0; i < l->vectors; i++) {
		irq_msi_init(&m->msi[i], f->dev->host->irq);
		m->msi[i].account = f->dev->account;
	}
	pci_msix_reset(f);
	return 0;
}

int pci_add_msix(struct pci_function *f, unsigned vectors, unsigned bar, uint32_t table_offset,
		 uint32_t pba_offset, struct error *e)
{
	const struct pci_msix_layout layout = {
		.at = f->next_capability,
		.vectors = vectors,
		.table_bar = bar,
		.pba_bar = bar,
		.table_offset = table_offset,
		.pba_offset = pba_offset,
	};

	return pci_add_msix_at(f, &layout, e);
}

void pci_msix_reset(struct pci_function *f)
{
	struct pci_msix *m = &f->msix;

	m->live = false;
	for (unsigned i = 0; i < m->vectors; i++) {
		uint32_t *entry = m->table + i * ENTRY_WORDS;

		entry[0] = entry[1] = entry[2] = 0;
		entry[3] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		irq_msi_reset(&m->msi[i]);
	}
}

void pci_msix_destroy(struct pci_function *f)
{
	struct pci_msix *m = &f->msix;

	for (unsigned i = 0; i < m->vectors; i++)
		irq_msi_destroy(&m->msi[i]);
	free(m->table);
	free(m->msi);
	*m = (struct pci_msix){ 0 };
}

/* ---- state to irq ---- */

static bool entry_masked(const struct pci_msix *m, unsigned vector)
{
	return m->table[vector * ENTRY_WORDS + 3] & PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static void configure(struct pci_msix *m, unsigned vector)
{
	const uint32_t *entry = m->table + vector * ENTRY_WORDS;
	uint64_t address = (uint64_t)entry[1] << 32 | entry[0];

	irq_msi_configure(&m->msi[vector], address, entry[2], !m->live || entry_masked(m, vector));
}

void pci_msix_update(struct pci_function *f)
{
	struct pci_msix *m = &f->msix;
	uint16_t flags;
	bool live;

	if (!m->vectors)
		return;
	flags = control(f);
	live = (flags & PCI_MSIX_FLAGS_ENABLE) && !(flags & PCI_MSIX_FLAGS_MASKALL) &&
	       pci_bus_master(f);
	if (live == m->live)
		return;
	m->live = live;
	for (unsigned i = 0; i < m->vectors; i++)
		if (!entry_masked(m, i)) /* the others stay masked either way */
			configure(m, i);
}

/* ---- the guest's side: table and PBA ---- */

static void table_store(struct pci_msix *m, unsigned word, uint32_t value)
{
	if (word % ENTRY_WORDS == 0)
		value &= ~3u; /* messages are whole words */
	else if (word % ENTRY_WORDS == 3)
		value &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	m->table[word] = value;
}

static void table_write(struct pci_function *f, uint32_t offset, unsigned size, uint64_t value)
{
	struct pci_msix *m = &f->msix;
	unsigned word = offset / 4;
	unsigned vector = offset / PCI_MSIX_ENTRY_SIZE;
	bool was_masked, unmasked;

	pthread_mutex_lock(&f->lock);
	was_masked = entry_masked(m, vector);
	table_store(m, word, (uint32_t)value);
	if (size == 8)
		table_store(m, word + 1, (uint32_t)(value >> 32));
	/* Masked before and after: irq hears of it all when it is unmasked. */
	if (m->live && !(was_masked && entry_masked(m, vector)))
		configure(m, vector);
	unmasked = was_masked && !entry_masked(m, vector);
	pthread_mutex_unlock(&f->lock);
	if (unmasked && f->ops && f->ops->vector_unmasked)
		f->ops->vector_unmasked(f, vector);
}

static uint64_t table_read(struct pci_function *f, uint32_t offset, unsigned size)
{
	const uint32_t *word = f->msix.table + offset / 4;
	uint64_t value;

	pthread_mutex_lock(&f->lock);
	value = word[0];
	if (size == 8)
		value |= (uint64_t)word[1] << 32;
	pthread_mutex_unlock(&f->lock);
	return value;
}

static uint64_t pba_read(struct pci_function *f, uint32_t offset, unsigned size)
{
	struct pci_msix *m = &f->msix;
	unsigned first = offset * 8;
	uint64_t value = 0;

	for (unsigned i = 0; i < size * 8 && first + i < m->vectors; i++)
		if (irq_msi_pending(&m->msi[first + i]))
			value |= 1ull << i;
	return value;
}

/* Whole aligned words only; the specification leaves the rest undefined. */
static bool access_good(uint64_t offset, unsigned size)
{
	return (size == 4 || size == 8) && offset % size == 0;
}

/* The table and the PBA may be in two BARs. */
static bool in_table(const struct pci_msix *m, unsigned bar, uint64_t offset, unsigned size)
{
	return bar == m->bar && pci_overlaps(offset, size, m->table_offset, table_size(m));
}

static bool in_pba(const struct pci_msix *m, unsigned bar, uint64_t offset, unsigned size)
{
	return bar == m->pba_bar && pci_overlaps(offset, size, m->pba_offset, pba_size(m));
}

static uint64_t read_bar(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size)
{
	const struct pci_msix *m = &f->msix;
	const struct pci_bar *b = &f->bar[bar];
	bool table = in_table(m, bar, offset, size);

	if (!table && !in_pba(m, bar, offset, size))
		return b->ops ? b->ops->read(b->opaque, offset, size) : 0;
	if (!access_good(offset, size))
		return ~0ull >> (64 - 8 * size);
	return table ? table_read(f, (uint32_t)offset - m->table_offset, size)
		     : pba_read(f, (uint32_t)offset - m->pba_offset, size);
}

static void write_bar(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
		      uint64_t value)
{
	const struct pci_msix *m = &f->msix;
	const struct pci_bar *b = &f->bar[bar];

	if (in_table(m, bar, offset, size)) {
		if (access_good(offset, size))
			table_write(f, (uint32_t)offset - m->table_offset, size, value);
	} else if (!in_pba(m, bar, offset, size) && b->ops) {
		b->ops->write(b->opaque, offset, size, value);
	}
}

static uint64_t bar_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_function *f = opaque;

	return read_bar(f, f->msix.bar, offset, size);
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_function *f = opaque;

	write_bar(f, f->msix.bar, offset, size, value);
}

static uint64_t pba_bar_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_function *f = opaque;

	return read_bar(f, f->msix.pba_bar, offset, size);
}

static void pba_bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_function *f = opaque;

	write_bar(f, f->msix.pba_bar, offset, size, value);
}

/* What a trace calls a register in one of the two BARs that MSI-X has a part of. */
static const char *name_in_bar(const struct pci_function *f, unsigned bar, uint64_t offset,
			       unsigned size, bool write)
{
	const struct pci_msix *m = &f->msix;
	const struct pci_bar *b = &f->bar[bar];

	if (bar == m->bar && pci_overlaps(offset, size, m->table_offset, table_size(m)))
		return "MSI-X table";
	if (bar == m->pba_bar && pci_overlaps(offset, size, m->pba_offset, pba_size(m)))
		return "MSI-X pending bits";
	return b->ops && b->ops->name ? b->ops->name(b->opaque, offset, size, write) : NULL;
}

static const char *bar_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	const struct pci_function *f = opaque;

	return name_in_bar(f, f->msix.bar, offset, size, write);
}

static const char *pba_bar_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	const struct pci_function *f = opaque;

	return name_in_bar(f, f->msix.pba_bar, offset, size, write);
}

const struct bus_ops pci_msix_bar_ops = {
	.read = bar_read,
	.write = bar_write,
	.name = bar_name,
};
const struct bus_ops pci_msix_pba_ops = {
	.read = pba_bar_read,
	.write = pba_bar_write,
	.name = pba_bar_name,
};

/* ---- the device's side ---- */

bool pci_msix_enabled(const struct pci_function *f)
{
	return f->msix.vectors && (control(f) & PCI_MSIX_FLAGS_ENABLE);
}

bool pci_msix_masked(struct pci_function *f, unsigned vector)
{
	bool masked = true;

	pthread_mutex_lock(&f->lock);
	if (vector < f->msix.vectors)
		masked = entry_masked(&f->msix, vector);
	pthread_mutex_unlock(&f->lock);
	return masked;
}

void pci_msix_send(struct pci_function *f, unsigned vector)
{
	if (vector < f->msix.vectors && pci_msix_enabled(f))
		irq_msi_send(&f->msix.msi[vector]);
}

int pci_msix_eventfd(struct pci_function *f, unsigned vector)
{
	return vector < f->msix.vectors ? irq_msi_eventfd(&f->msix.msi[vector]) : -EINVAL;
}
