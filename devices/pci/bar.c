/*
 * Base address registers: what a function answers to on the buses. The register's write mask gives
 * sizing for free; decoding follows the command register and the address, both of which the guest
 * may set to anything at any time. A BAR is decoded only where the host bridge forwards (the PCI
 * windows, so never over RAM or a chip) and where nothing else answers; otherwise it waits, and is
 * tried again whenever another BAR moves away. PCI Express Base 5.0 section 7.5.1.2.1.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/pci/internal.h"

#define ROM_LEAST 0x800u
#define ROM_MOST  (16u << 20)

static unsigned bar_register(unsigned bar)
{
	return bar == PCI_ROM ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4 * bar;
}

static struct bus *bar_bus(struct pci_function *f, const struct pci_bar *bar)
{
	struct device_host *host = f->root->host;

	return bar->kind == PCI_BAR_IO ? host->pio : host->mmio;
}

int pci_add_bar(struct pci_function *f, unsigned bar, enum pci_bar_kind kind, bool prefetch,
		uint64_t size, const struct bus_ops *ops, void *opaque, struct error *e)
{
	uint64_t least = kind == PCI_BAR_IO ? 4 : 16;
	uint64_t most = kind == PCI_BAR_IO	? 1ull << 16
			: kind == PCI_BAR_MEM32 ? 1ull << 31
						: 1ull << 62;
	unsigned slots = kind == PCI_BAR_MEM64 ? 2 : 1;
	uint32_t flags = 0;
	struct pci_bar *b;

	if (f->root || kind == PCI_BAR_NONE || bar + slots > PCI_BARS || f->bar[bar].kind ||
	    (slots == 2 && f->bar[bar + 1].kind) ||
	    (bar > 0 && f->bar[bar - 1].kind == PCI_BAR_MEM64))
		return error_set(e, -EINVAL, "%s: BAR %u is not free", f->name, bar);
	if (size < least || size > most || (size & (size - 1)))
		return error_set(e, -EINVAL, "%s: BAR %u cannot be %llu bytes", f->name, bar,
				 (unsigned long long)size);

	if (kind == PCI_BAR_IO)
		flags = PCI_BASE_ADDRESS_SPACE_IO;
	else if (kind == PCI_BAR_MEM64)
		flags = PCI_BASE_ADDRESS_MEM_TYPE_64;
	if (prefetch && kind != PCI_BAR_IO)
		flags |= PCI_BASE_ADDRESS_MEM_PREFETCH;
	pci_config_set32(f, bar_register(bar), flags);
	pci_config_writable32(f, bar_register(bar), (uint32_t) ~(size - 1));
	if (slots == 2)
		pci_config_writable32(f, bar_register(bar + 1), (uint32_t)(~(size - 1) >> 32));

	b = &f->bar[bar];
	b->kind = kind;
	b->prefetch = prefetch;
	b->size = size;
	b->ops = ops;
	b->opaque = opaque;
	snprintf(b->name, sizeof(b->name), "%.16s BAR %u", f->name, bar);
	return 0;
}

static bool inside(uint64_t address, uint64_t size, uint64_t base, uint64_t window)
{
	return address >= base && size <= window && address - base <= window - size;
}

int pci_add_rom(struct pci_function *f, uint64_t size, const struct bus_ops *ops, void *opaque,
		struct error *e)
{
	struct pci_bar *b = &f->bar[PCI_ROM];

	if (f->root || b->kind || size < ROM_LEAST || size > ROM_MOST || (size & (size - 1)))
		return error_set(e, -EINVAL, "%s: no expansion ROM of %llu bytes", f->name,
				 (unsigned long long)size);
	pci_config_writable32(f, PCI_ROM_ADDRESS, (uint32_t) ~(size - 1) | PCI_ROM_ADDRESS_ENABLE);
	*b = (struct pci_bar){ .kind = PCI_BAR_ROM, .size = size, .ops = ops, .opaque = opaque };
	snprintf(b->name, sizeof(b->name), "%.16s ROM", f->name);
	return 0;
}

int pci_map_host(struct pci_function *f, unsigned bar, uint64_t offset, uint64_t size, void *host,
		 struct error *e)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct pci_host_map *grown;

	if (f->root || bar >= PCI_BARS || f->bar[bar].kind < PCI_BAR_MEM32 || size == 0 ||
	    ((offset | size | (uintptr_t)host) & (page - 1)) ||
	    !inside(offset, size, 0, f->bar[bar].size))
		return error_set(e, -EINVAL, "%s: memory cannot be mapped into BAR %u", f->name,
				 bar);
	grown = realloc(f->map, (f->maps + 1) * sizeof(*grown));
	if (!grown)
		return error_set(e, -ENOMEM, "out of memory");
	f->map = grown;
	f->map[f->maps++] = (struct pci_host_map){
		.bar = bar, .offset = offset, .size = size, .host = host, .handle = -1
	};
	return 0;
}

static uint64_t bar_address(const struct pci_function *f, unsigned bar)
{
	const struct pci_bar *b = &f->bar[bar];
	uint64_t address = pci_config_get32(f, bar_register(bar));

	if (b->kind == PCI_BAR_MEM64)
		address |= (uint64_t)pci_config_get32(f, bar_register(bar + 1)) << 32;
	return address & ~(b->size - 1);
}

static bool bar_enabled(const struct pci_function *f, const struct pci_bar *b)
{
	uint16_t bit = b->kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;

	if (b->kind == PCI_BAR_NONE || f->gone)
		return false;
	if (b->kind == PCI_BAR_ROM &&
	    !(pci_config_get32(f, PCI_ROM_ADDRESS) & PCI_ROM_ADDRESS_ENABLE))
		return false;
	return pci_config_get16(f, PCI_COMMAND) & bit;
}

static bool bar_forwarded(const struct pci_function *f, const struct pci_bar *b)
{
	const struct pci_windows *w = &f->root->windows;

	if (b->kind == PCI_BAR_IO)
		return inside(b->address, b->size, w->io_base, w->io_size);
	return inside(b->address, b->size, w->mem32_base, w->mem32_size) ||
	       inside(b->address, b->size, w->mem64_base, w->mem64_size);
}

/* The pattern a guest writes to learn the size, in either half? Nothing to complain about, then. */
static bool bar_sizing(const struct pci_bar *b)
{
	uint32_t low = (uint32_t) ~(b->size - 1), high = (uint32_t)(~(b->size - 1) >> 32);

	return (low && ((uint32_t)b->address & low) == low) ||
	       (b->kind == PCI_BAR_MEM64 && (b->address >> 32) == high);
}

static void kick_bind(struct pci_function *f, struct pci_kick *k)
{
	const struct pci_bar *b = &f->bar[k->bar];
	struct bus_kick kick = k->kick;

	kick.addr += b->range.base;
	k->bound = bus_kick_add(bar_bus(f, b), &kick) == 0;
	if (!k->bound)
		log_guest(&f->kick_failed, "%s: doorbell at %#llx stays without an eventfd",
			  b->name, (unsigned long long)k->kick.addr);
}

static void kick_unbind(struct pci_function *f, struct pci_kick *k)
{
	const struct pci_bar *b = &f->bar[k->bar];
	struct bus_kick kick = k->kick;

	kick.addr += b->range.base;
	if (k->bound)
		bus_kick_remove(bar_bus(f, b), &kick);
	k->bound = false;
}

static void host_map(struct pci_function *f, struct pci_host_map *m)
{
	const struct pci_bar *b = &f->bar[m->bar];
	struct mappings *mappings = f->root->host->mappings;

	if (!mappings)
		return;
	m->handle = mapping_add(mappings, b->range.base + m->offset, m->size, m->host);
	if (m->handle < 0)
		log_guest(&f->map_failed, "%s: +%#llx is not mapped, every access is an exit: %s",
			  b->name, (unsigned long long)m->offset, strerror(-m->handle));
}

static void host_unmap(struct pci_function *f, struct pci_host_map *m)
{
	if (m->handle >= 0)
		mapping_remove(f->root->host->mappings, m->handle);
	m->handle = -1;
}

/* Who serves the BAR: the device, or MSI-X in front of it. */
static const struct bus_ops *bar_ops(const struct pci_function *f, unsigned bar)
{
	if (f->msix.vectors && f->msix.bar == bar)
		return &pci_msix_bar_ops;
	if (f->msix.vectors && f->msix.pba_bar == bar)
		return &pci_msix_pba_ops;
	return f->bar[bar].ops;
}

static void bar_map(struct pci_function *f, unsigned bar)
{
	struct pci_bar *b = &f->bar[bar];
	const struct bus_ops *ops = bar_ops(f, bar);
	struct error e = { .msg = "outside the PCI windows" };

	b->range = (struct bus_range){
		.name = b->name,
		.base = b->address,
		.size = b->size,
		.ops = ops,
		.opaque = ops == b->ops ? b->opaque : f,
		.account = f->dev->account,
	};
	if (!bar_forwarded(f, b) || bus_add(bar_bus(f, b), &b->range, &e) < 0) {
		if (!bar_sizing(b))
			log_guest(&b->refused, "%s: not decoded at %#llx: %s", b->name,
				  (unsigned long long)b->address, e.msg);
		return;
	}
	b->mapped = true;
	for (unsigned i = 0; i < f->maps; i++)
		if (f->map[i].bar == bar)
			host_map(f, &f->map[i]);
	for (unsigned i = 0; i < f->kicks; i++)
		if (f->kick[i].used && f->kick[i].bar == bar)
			kick_bind(f, &f->kick[i]);
}

static void bar_unmap(struct pci_function *f, unsigned bar)
{
	struct pci_bar *b = &f->bar[bar];

	/* Out of memory: it stays where it was, whole, until the next change tries again. */
	if (bus_remove(bar_bus(f, b), b->range.base, b->range.opaque) == -ENOMEM)
		return;
	for (unsigned i = 0; i < f->maps; i++)
		if (f->map[i].bar == bar)
			host_unmap(f, &f->map[i]);
	for (unsigned i = 0; i < f->kicks; i++)
		if (f->kick[i].used && f->kick[i].bar == bar)
			kick_unbind(f, &f->kick[i]);
	b->mapped = false;
}

/* BARs that wait for their place. At most every BAR and ROM of one bus: 1792. */
static void map_waiting(struct pci_function *f)
{
	for (unsigned i = 0; i < PCI_BAR_SLOTS; i++)
		if (f->bar[i].enabled && !f->bar[i].mapped)
			bar_map(f, i);
}

static void heal(struct pci_root *root)
{
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (root->function[i])
			map_waiting(root->function[i]);
}

void pci_bars_update(struct pci_function *f)
{
	bool left = false;

	for (unsigned i = 0; i < PCI_BAR_SLOTS; i++) {
		struct pci_bar *b = &f->bar[i];
		bool enabled = bar_enabled(f, b);
		uint64_t address;

		if (b->kind == PCI_BAR_NONE)
			continue;
		address = bar_address(f, i);
		if (b->mapped && (!enabled || address != b->range.base)) {
			bar_unmap(f, i);
			left |= !b->mapped;
		}
		b->enabled = enabled;
		b->address = address;
	}
	map_waiting(f);
	if (left)
		heal(f->root);
}

void pci_bars_unmap(struct pci_function *f)
{
	for (unsigned i = 0; i < PCI_BAR_SLOTS; i++) {
		f->bar[i].enabled = false;
		if (f->bar[i].mapped)
			bar_unmap(f, i);
	}
	heal(f->root);
}

void pci_bar_place(struct pci_function *f, unsigned bar, uint64_t address)
{
	uint64_t mask = ~(f->bar[bar].size - 1);

	pthread_mutex_lock(&f->lock);
	pci_config_update(f, bar_register(bar), (uint32_t)mask, (uint32_t)address);
	if (f->bar[bar].kind == PCI_BAR_MEM64)
		pci_config_update(f, bar_register(bar + 1), (uint32_t)(mask >> 32),
				  (uint32_t)(address >> 32));
	pthread_mutex_unlock(&f->lock);
	pci_bars_update(f);
}

/* ---- doorbells ---- */

static void lock_placement(struct pci_function *f)
{
	if (f->root) /* before plugging there is one thread */
		pthread_mutex_lock(&f->root->lock);
}

static void unlock_placement(struct pci_function *f)
{
	if (f->root)
		pthread_mutex_unlock(&f->root->lock);
}

static struct pci_kick *kick_slot(struct pci_function *f)
{
	unsigned more = f->kicks ? 2 * f->kicks : 8;
	struct pci_kick *grown;

	for (unsigned i = 0; i < f->kicks; i++)
		if (!f->kick[i].used)
			return &f->kick[i];
	grown = realloc(f->kick, more * sizeof(*grown));
	if (!grown)
		return NULL;
	for (unsigned i = f->kicks; i < more; i++)
		grown[i] = (struct pci_kick){ 0 };
	f->kick = grown;
	grown += f->kicks;
	f->kicks = more;
	return grown;
}

int pci_kick_add(struct pci_function *f, unsigned bar, const struct bus_kick *kick)
{
	unsigned size = kick->size ? kick->size : 1;
	struct pci_kick *k;

	if (bar >= PCI_BARS || f->bar[bar].kind == PCI_BAR_NONE ||
	    !inside(kick->addr, size, 0, f->bar[bar].size))
		return -EINVAL;
	lock_placement(f);
	k = kick_slot(f);
	if (k) {
		*k = (struct pci_kick){ .used = true, .bar = bar, .kick = *kick };
		k->kick.account = f->dev ? f->dev->account : NULL;
		if (f->bar[bar].mapped)
			kick_bind(f, k);
	}
	unlock_placement(f);
	return k ? 0 : -ENOMEM;
}

static bool same_kick(const struct bus_kick *a, const struct bus_kick *b)
{
	return a->addr == b->addr && a->size == b->size && a->match == b->match &&
	       (!a->match || a->value == b->value) && a->fd == b->fd;
}

void pci_kick_remove(struct pci_function *f, unsigned bar, const struct bus_kick *kick)
{
	lock_placement(f);
	for (unsigned i = 0; i < f->kicks; i++) {
		struct pci_kick *k = &f->kick[i];

		if (!k->used || k->bar != bar || !same_kick(&k->kick, kick))
			continue;
		kick_unbind(f, k);
		k->used = false;
		break;
	}
	unlock_placement(f);
}
