/*
 * PCI configuration space, BARs and MSI-X: see pci.h.
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "pci.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc
#define CONFIG_ENABLE  0x80000000u

#define BAR_IO	  0x1u
#define BAR_64BIT 0x4u

static void select(pci_address bdf, unsigned offset)
{
	out32(CONFIG_ADDRESS, CONFIG_ENABLE | (uint32_t)bdf << 8 | (offset & 0xfc));
}

uint32_t pci_cf8_read(pci_address bdf, unsigned offset, unsigned size)
{
	uint16_t port = (uint16_t)(CONFIG_DATA + (offset & 3));

	select(bdf, offset);
	return size == 1 ? in8(port) : size == 2 ? in16(port) : in32(port);
}

void pci_cf8_write(pci_address bdf, unsigned offset, unsigned size, uint32_t value)
{
	uint16_t port = (uint16_t)(CONFIG_DATA + (offset & 3));

	select(bdf, offset);
	if (size == 1)
		out8(port, (uint8_t)value);
	else if (size == 2)
		out16(port, (uint16_t)value);
	else
		out32(port, value);
}

uint64_t pci_ecam(pci_address bdf, unsigned offset)
{
	if (!acpi.mcfg)
		bail("no MCFG table");
	return acpi.mcfg->range[0].base + ((uint64_t)bdf << 12) + offset;
}

uint8_t pci_read8(pci_address bdf, unsigned offset)
{
	return read8(pci_ecam(bdf, offset));
}

uint16_t pci_read16(pci_address bdf, unsigned offset)
{
	return read16(pci_ecam(bdf, offset));
}

uint32_t pci_read32(pci_address bdf, unsigned offset)
{
	return read32(pci_ecam(bdf, offset));
}

void pci_write8(pci_address bdf, unsigned offset, uint8_t value)
{
	write8(pci_ecam(bdf, offset), value);
}

void pci_write16(pci_address bdf, unsigned offset, uint16_t value)
{
	write16(pci_ecam(bdf, offset), value);
}

void pci_write32(pci_address bdf, unsigned offset, uint32_t value)
{
	write32(pci_ecam(bdf, offset), value);
}

unsigned pci_capability(pci_address bdf, uint8_t id, unsigned after)
{
	unsigned at;

	if (!(pci_read16(bdf, PCI_STATUS) & PCI_STATUS_CAPS))
		return 0;
	at = pci_read8(bdf, after ? after + 1 : PCI_CAPABILITIES) & 0xfc;
	/* A list cannot have more than 48 members without a loop. */
	for (int left = 48; at && left; left--) {
		if (pci_read8(bdf, at) == id)
			return at;
		at = pci_read8(bdf, at + 1) & 0xfc;
	}
	return 0;
}

/* ---- BARs ------------------------------------------------------------------------------------ */

/* Writes ones and looks which bits stay; 64-bit BARs in both registers. */
static void size_bar(struct pci_function *f, unsigned n)
{
	struct pci_bar *bar = &f->bar[n];
	unsigned reg = PCI_BAR0 + 4 * n;
	uint32_t low = pci_read32(f->bdf, reg), high = 0;
	uint64_t mask;

	pci_write32(f->bdf, reg, 0xffffffff);
	mask = 0xffffffff00000000ull | pci_read32(f->bdf, reg);
	pci_write32(f->bdf, reg, low);
	if ((uint32_t)mask == 0)
		return;
	bar->io = low & BAR_IO;
	bar->flags = low & (bar->io ? 0x3 : 0xf);
	bar->wide = !bar->io && (low & BAR_64BIT);
	if (bar->wide) {
		high = pci_read32(f->bdf, reg + 4);
		pci_write32(f->bdf, reg + 4, 0xffffffff);
		mask = (uint64_t)pci_read32(f->bdf, reg + 4) << 32 | (uint32_t)mask;
		pci_write32(f->bdf, reg + 4, high);
	}
	mask &= ~(bar->io ? 0x3ull : 0xfull);
	bar->size = ~mask + 1;
	if (bar->io)
		bar->size &= 0xffff;
	bar->address = ((uint64_t)high << 32 | low) & ~(bar->io ? 0x3ull : 0xfull);
	if (!bar->io && bar->address >> 32)
		map_physical(bar->address, bar->size);
}

static void probe_msix(struct pci_function *f)
{
	uint32_t table, pba;

	f->msix = pci_capability(f->bdf, PCI_CAP_MSIX, 0);
	if (!f->msix)
		return;
	f->msix_vectors = (pci_read16(f->bdf, f->msix + MSIX_CONTROL) & 0x7ffu) + 1;
	table = pci_read32(f->bdf, f->msix + MSIX_TABLE);
	pba = pci_read32(f->bdf, f->msix + MSIX_PBA);
	f->msix_table = f->bar[table & 7].address + (table & ~7u);
	f->msix_pba = f->bar[pba & 7].address + (pba & ~7u);
}

void pci_probe(pci_address bdf, struct pci_function *f)
{
	uint16_t command = pci_read16(bdf, PCI_COMMAND);

	memset(f, 0, sizeof(*f));
	f->bdf = bdf;
	f->vendor = pci_read16(bdf, PCI_VENDOR);
	f->device = pci_read16(bdf, PCI_DEVICE);
	pci_write16(bdf, PCI_COMMAND, (uint16_t)(command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY)));
	for (unsigned n = 0; n < 6; n += f->bar[n].wide ? 2 : 1)
		size_bar(f, n);
	pci_write16(bdf, PCI_COMMAND, command);
	probe_msix(f);
}

bool pci_find(uint16_t vendor, uint16_t device, unsigned n, struct pci_function *f)
{
	for (unsigned slot = 0; slot < 32; slot++) {
		pci_address bdf = PCI_BDF(0, slot, 0);

		if (pci_read16(bdf, PCI_VENDOR) != vendor ||
		    pci_read16(bdf, PCI_DEVICE) != device || n--)
			continue;
		pci_probe(bdf, f);
		return true;
	}
	return false;
}

void pci_bar_move(struct pci_function *f, unsigned n, uint64_t address)
{
	struct pci_bar *bar = &f->bar[n];

	pci_write32(f->bdf, PCI_BAR0 + 4 * n, (uint32_t)address);
	if (bar->wide)
		pci_write32(f->bdf, PCI_BAR0 + 4 * n + 4, (uint32_t)(address >> 32));
	f->msix_table += f->msix_table - bar->address < bar->size ? address - bar->address : 0;
	f->msix_pba += f->msix_pba - bar->address < bar->size ? address - bar->address : 0;
	bar->address = address;
	if (!bar->io && address >> 32)
		map_physical(address, bar->size);
}

void pci_enable(struct pci_function *f)
{
	pci_write16(f->bdf, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* ---- MSI-X ----------------------------------------------------------------------------------- */

void msix_route(const struct pci_function *f, unsigned n, unsigned vector, uint32_t apic_id)
{
	uint64_t entry = f->msix_table + n * MSIX_ENTRY_SIZE;
	uint64_t address = msi_address(apic_id);

	write32(entry + 12, MSIX_ENTRY_MASKED);
	write32(entry + 0, (uint32_t)address);
	write32(entry + 4, (uint32_t)(address >> 32));
	write32(entry + 8, vector);
	write32(entry + 12, 0);
}

void msix_mask(const struct pci_function *f, unsigned n, bool masked)
{
	write32(f->msix_table + n * MSIX_ENTRY_SIZE + 12, masked ? MSIX_ENTRY_MASKED : 0);
}

bool msix_pending(const struct pci_function *f, unsigned n)
{
	return read64(f->msix_pba + n / 64 * 8) >> n % 64 & 1;
}

void msix_control(const struct pci_function *f, uint16_t bits)
{
	uint16_t now = pci_read16(f->bdf, f->msix + MSIX_CONTROL);

	pci_write16(f->bdf, f->msix + MSIX_CONTROL,
		    (uint16_t)((now & ~(MSIX_ENABLE | MSIX_FUNCTION_MASK)) | bits));
}
