/*
 * A passed-through function's BARs and expansion ROM. In: the regions VFIO describes. Out: BARs in
 * devices/pci whose pages the guest reaches without an exit, but for those with the MSI-X table or
 * its pending bits, those that VFIO does not let us map, and BARs smaller than a page or of ports:
 * there each access is an exit, and a read(2) or write(2) of the region.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "devices/vfio/function.h"
#include "vmm/account.h"

#define ROM_MOST (16u << 20) /* what a ROM's register can name */

/* ---- accesses that are exits ----------------------------------------------------------------- */

static uint64_t region_read(void *opaque, uint64_t offset, unsigned size)
{
	const struct vfio_bar *b = opaque;
	struct vfio_device *vd = b->vf->vd;
	uint64_t value = 0;

	vfio_interrupts_settle(b->vf);
	account_add(b->vf->dev.account, ACCOUNT_SYSCALLS, 1);
	if (vd->ops->read(vd, b->region, offset, &value, size))
		return ~0ull;
	return value;
}

static void region_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	const struct vfio_bar *b = opaque;
	struct vfio_device *vd = b->vf->vd;

	vfio_interrupts_settle(b->vf);
	account_add(b->vf->dev.account, ACCOUNT_SYSCALLS, 1);
	vd->ops->write(vd, b->region, offset, &value, size);
}

static const struct bus_ops region_ops = { .read = region_read, .write = region_write };

/* ---- expansion ROM --------------------------------------------------------------------------- */

static uint64_t rom_read(void *opaque, uint64_t offset, unsigned size)
{
	const struct vfio_bars *bars = opaque;
	uint64_t value = ~0ull;

	if (offset < bars->rom_size && size <= bars->rom_size - offset)
		memcpy(&value, bars->rom + offset, size);
	return value;
}

static void rom_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque;
	(void)offset;
	(void)size;
	(void)value;
}

static const struct bus_ops rom_ops = { .read = rom_read, .write = rom_write };

static uint64_t power_of_two(uint64_t size)
{
	uint64_t power = 2048;

	while (power < size)
		power *= 2;
	return power;
}

/* A ROM that the host cannot read (there is none in it, or it is shadowed) is no ROM. */
static int create_rom(struct vfio_function *vf, struct error *e)
{
	struct vfio_bars *bars = &vf->bars;
	uint64_t size = vf->vd->region[VFIO_PCI_ROM_REGION_INDEX].size, at = 0;

	if (size == 0 || size > ROM_MOST)
		return 0;
	bars->rom = malloc(size);
	if (!bars->rom)
		return error_set(e, -ENOMEM, "out of memory");
	while (at < size) {
		unsigned len = size - at < 4096 ? (unsigned)(size - at) : 4096;

		if (vf->vd->ops->read(vf->vd, VFIO_PCI_ROM_REGION_INDEX, at, bars->rom + at, len))
			break;
		at += len;
	}
	if (at < 2 || bars->rom[0] != 0x55 || bars->rom[1] != 0xaa) {
		free(bars->rom);
		bars->rom = NULL;
		return 0;
	}
	bars->rom_size = at;
	return pci_add_rom(&vf->f, power_of_two(size), &rom_ops, bars, e);
}

/* ---- BARs ------------------------------------------------------------------------------------ */

static uint32_t hw_bar(const struct vfio_function *vf, unsigned bar)
{
	uint32_t value;

	memcpy(&value, vf->config.hw + PCI_BASE_ADDRESS_0 + 4 * (size_t)bar, 4);
	return value;
}

static enum pci_bar_kind bar_kind(uint32_t value)
{
	if (value & PCI_BASE_ADDRESS_SPACE_IO)
		return PCI_BAR_IO;
	if ((value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64)
		return PCI_BAR_MEM64;
	return PCI_BAR_MEM32;
}

int vfio_bars_create(struct vfio_function *vf, bool rom, struct error *e)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint64_t size = vf->vd->region[VFIO_PCI_BAR0_REGION_INDEX + i].size;
		enum pci_bar_kind kind = bar_kind(hw_bar(vf, i));
		int err;

		if (!size)
			continue;
		vf->bars.bar[i] = (struct vfio_bar){ vf, VFIO_PCI_BAR0_REGION_INDEX + i };
		err = pci_add_bar(&vf->f, i, kind, hw_bar(vf, i) & PCI_BASE_ADDRESS_MEM_PREFETCH,
				  size, &region_ops, &vf->bars.bar[i], e);
		if (err)
			return err;
		if (kind == PCI_BAR_MEM64)
			i++;
	}
	return rom ? create_rom(vf, e) : 0;
}

/* What the guest must not reach by itself: MSI-X, which is ours. */
static unsigned holes_in(const struct vfio_function *vf, unsigned bar, struct vfio_area *hole)
{
	const struct pci_msix *m = &vf->f.msix;
	unsigned n = 0;

	if (m->vectors && m->bar == bar)
		hole[n++] = (struct vfio_area){ m->table_offset,
						(uint64_t)m->vectors * PCI_MSIX_ENTRY_SIZE };
	if (m->vectors && m->pba_bar == bar)
		hole[n++] = (struct vfio_area){ m->pba_offset, (m->vectors + 63) / 64 * 8 };
	return n;
}

static int map_piece(struct vfio_function *vf, unsigned bar, const struct vfio_area *piece,
		     struct error *e)
{
	struct vfio_bars *bars = &vf->bars;
	void *at;

	if (bars->mappings == VFIO_MAX_MAPPINGS)
		return 0; /* the rest by exits */
	at = vf->vd->ops->map(vf->vd, VFIO_PCI_BAR0_REGION_INDEX + bar, piece->offset, piece->size);
	if (!at)
		return 0; /* likewise */
	bars->mapping[bars->mappings++] = (struct vfio_mapping){ at, piece->size };
	return pci_map_host(&vf->f, bar, piece->offset, piece->size, at, e);
}

int vfio_bars_map(struct vfio_function *vf, struct error *e)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	for (unsigned bar = 0; bar < PCI_BARS; bar++) {
		const struct vfio_region *r = &vf->vd->region[VFIO_PCI_BAR0_REGION_INDEX + bar];
		struct vfio_area piece[2 * VFIO_MAX_AREAS], hole[2];
		unsigned holes = holes_in(vf, bar, hole), n;

		if (vf->f.bar[bar].kind != PCI_BAR_MEM32 && vf->f.bar[bar].kind != PCI_BAR_MEM64)
			continue;
		n = vfio_areas_without(piece, 2 * VFIO_MAX_AREAS, r->area, r->areas, hole, holes,
				       r->size, page);
		for (unsigned i = 0; i < n; i++) {
			int err = map_piece(vf, bar, &piece[i], e);

			if (err)
				return err;
		}
	}
	return 0;
}

void vfio_bars_unmap(struct vfio_function *vf)
{
	struct vfio_bars *bars = &vf->bars;

	while (bars->mappings > 0) {
		const struct vfio_mapping *m = &bars->mapping[--bars->mappings];

		vf->vd->ops->unmap(vf->vd, m->at, m->size);
	}
}

void vfio_bars_destroy(struct vfio_function *vf)
{
	vfio_bars_unmap(vf);
	free(vf->bars.rom);
}
