/*
 * The root complex: bus 0 with its slots, the host bridge in the first of them, and the part that
 * firmware plays on a PC: giving every BAR an address before the guest starts. In: the machine's
 * address map; out: a config bus that functions plug into. PCI Express Base 5.0 section 1.3.1.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "devices/pci/internal.h"

#define LEAST_MEMORY_ALIGN 4096u /* no two memory BARs on one page: pass-through maps pages */

struct window {
	uint64_t next, end;
};

static const struct pci_identity bridge_identity = {
	.vendor = 0x1b36, /* Red Hat */
	.device = 0x0008, /* generic PCI Express host bridge */
	.class_code = 0x060000,
};

static bool covers_ram(const struct guest_memory *m, uint64_t base, uint64_t size)
{
	for (unsigned i = 0; m && size && i < m->nregions; i++)
		if (pci_overlaps(base, size, m->region[i].gpa, m->region[i].size))
			return true;
	return false;
}

static int check_windows(const struct device_host *host, const struct pci_windows *w,
			 struct error *e)
{
	if (w->intx_gsi == 0 || w->intx_gsi + PCI_INTX_LINES > IRQ_LINES)
		return error_set(e, -EINVAL, "PCI: no INTx lines from GSI %u", w->intx_gsi);
	if (w->buses == 0 || w->buses > 256 || w->io_base + w->io_size > 0x10000 ||
	    w->mem32_base + w->mem32_size > 1ull << 32 ||
	    w->mem64_base + w->mem64_size < w->mem64_base)
		return error_set(e, -EINVAL, "PCI: impossible address map");
	if (covers_ram(host->memory, w->mem32_base, w->mem32_size) ||
	    covers_ram(host->memory, w->mem64_base, w->mem64_size))
		return error_set(e, -EINVAL, "PCI: a window for BARs covers guest RAM");
	return 0;
}

struct pci_root *pci_root_create(struct device_host *host, const struct pci_windows *windows,
				 struct error *e)
{
	struct pci_root *root;

	if (check_windows(host, windows, e) < 0)
		return NULL;
	root = calloc(1, sizeof(*root));
	if (!root) {
		error_set(e, -ENOMEM, "PCI: no memory");
		return NULL;
	}
	root->host = host;
	root->windows = *windows;
	pthread_mutex_init(&root->lock, NULL);
	root->config = bus_create("pci-config");
	pci_function_init(&root->bridge, NULL, &bridge_identity, NULL);
	if (!root->config) {
		error_set(e, -ENOMEM, "PCI: no memory");
		goto fail;
	}
	if (pci_function_plug(&root->bridge, root, 0, e) < 0 || pci_ports_add(root, e) < 0)
		goto fail;
	return root;

fail:
	pci_function_destroy(&root->bridge);
	if (root->config)
		bus_destroy(root->config);
	pthread_mutex_destroy(&root->lock);
	free(root);
	return NULL;
}

void pci_root_destroy(struct pci_root *root)
{
	if (!root)
		return;
	pci_ports_remove(root);
	pci_function_destroy(&root->bridge);
	bus_destroy(root->config);
	pthread_mutex_destroy(&root->lock);
	free(root);
}

struct bus *pci_root_config(struct pci_root *root)
{
	return root->config;
}

struct pci_function *pci_root_find(struct pci_root *root, const struct pci_function_ops *ops)
{
	struct pci_function *found = NULL;

	pthread_mutex_lock(&root->lock);
	for (unsigned i = 0; i < PCI_FUNCTIONS && !found; i++)
		if (root->function[i] && root->function[i]->ops == ops)
			found = root->function[i];
	pthread_mutex_unlock(&root->lock);
	return found;
}

/* ---- BAR assignment ---- */

struct claim {
	struct pci_function *f;
	unsigned bar;
};

/* Big first: with natural alignment that leaves no holes. Then by slot, so that it is repeatable.
 */
static int compare_claims(const void *pa, const void *pb)
{
	const struct claim *a = pa, *b = pb;
	uint64_t asize = a->f->bar[a->bar].size, bsize = b->f->bar[b->bar].size;

	if (asize != bsize)
		return asize > bsize ? -1 : 1;
	if (a->f->devfn != b->f->devfn)
		return a->f->devfn < b->f->devfn ? -1 : 1;
	return (int)a->bar - (int)b->bar;
}

static unsigned collect_claims(struct pci_root *root, struct claim *claim)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		for (unsigned bar = 0; root->function[i] && bar < PCI_BAR_SLOTS; bar++)
			if (root->function[i]->bar[bar].kind != PCI_BAR_NONE)
				claim[n++] = (struct claim){ root->function[i], bar };
	qsort(claim, n, sizeof(*claim), compare_claims);
	return n;
}

/* 0 is never given out: a BAR there counts as unassigned to guests. */
static uint64_t take(struct window *w, uint64_t size, uint64_t align)
{
	uint64_t at = (w->next + align - 1) & ~(align - 1);

	if (at == 0)
		at = align;
	if (at < w->next || at >= w->end || size > w->end - at)
		return 0;
	w->next = at + size;
	return at;
}

static uint64_t place(const struct pci_bar *b, struct window *io, struct window *mem32,
		      struct window *mem64)
{
	uint64_t align = b->size < LEAST_MEMORY_ALIGN ? LEAST_MEMORY_ALIGN : b->size;
	bool high = b->kind == PCI_BAR_MEM64 && b->prefetch;
	uint64_t at;

	if (b->kind == PCI_BAR_IO)
		return take(io, b->size, b->size);
	at = take(high ? mem64 : mem32, b->size, align);
	if (!at && b->kind == PCI_BAR_MEM64)
		at = take(high ? mem32 : mem64, b->size, align);
	return at;
}

static int assign_bars(struct pci_root *root, struct claim *claim, struct error *e)
{
	const struct pci_windows *w = &root->windows;
	struct window io = { w->io_base, (uint64_t)w->io_base + w->io_size };
	struct window mem32 = { w->mem32_base, w->mem32_base + w->mem32_size };
	struct window mem64 = { w->mem64_base, w->mem64_base + w->mem64_size };
	unsigned n = collect_claims(root, claim);

	for (unsigned i = 0; i < n; i++) {
		const struct pci_bar *b = &claim[i].f->bar[claim[i].bar];
		uint64_t at = place(b, &io, &mem32, &mem64);

		if (!at)
			return error_set(e, -ENOSPC,
					 "%s: %llu KiB of %s do not fit into the PCI window; use "
					 "fewer devices or smaller BARs",
					 b->name, (unsigned long long)(b->size + 1023) / 1024,
					 b->kind == PCI_BAR_IO ? "I/O ports" : "address space");
		pci_bar_place(claim[i].f, claim[i].bar, at);
	}
	return 0;
}

/* The line register is a note to drivers that do not read ACPI. */
static void note_lines(struct pci_root *root)
{
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (root->function[i] && root->function[i]->has_intx)
			pci_config_set8(root->function[i], PCI_INTERRUPT_LINE,
					(uint8_t)pci_intx_gsi(&root->windows, i >> 3, 0));
}

int pci_root_assign(struct pci_root *root, struct error *e)
{
	struct claim *claim = calloc(PCI_FUNCTIONS * PCI_BAR_SLOTS, sizeof(*claim));
	int err;

	if (!claim)
		return error_set(e, -ENOMEM, "PCI: no memory");
	__atomic_store_n(&root->config_address, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&root->reset_control, 0, __ATOMIC_RELAXED);
	pci_function_reset(&root->bridge);

	pthread_mutex_lock(&root->lock);
	err = assign_bars(root, claim, e);
	note_lines(root);
	pthread_mutex_unlock(&root->lock);
	free(claim);
	return err;
}
