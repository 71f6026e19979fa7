/*
 * PCI: both ways into configuration space show the same, functions describe themselves properly,
 * and BARs can be sized, moved and switched off, with the device answering exactly where it should.
 *
 * mvm: --rng=virtio --blk=virtio:@tmp/disk
 * stderr: not decoded
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "pci.h"
#include "virtio.h"

#define CONFIG_DWORDS 64
#define VIRTIO_VENDOR 0x1af4
#define HOST_BRIDGE   0x0600

static unsigned functions;
static pci_address function[32];

static void enumerate(void)
{
	unsigned differ = 0;

	for (unsigned slot = 0; slot < 32; slot++) {
		pci_address bdf = PCI_BDF(0, slot, 0);
		uint32_t id = pci_read32(bdf, PCI_VENDOR);

		differ += id != pci_cf8_read(bdf, PCI_VENDOR, 4);
		if (id != 0xffffffff)
			function[functions++] = bdf;
	}
	check_equal(differ, 0, "ports and ECAM find the same functions");
	check_equal(functions, 3, "bridge, rng and disk");
	check(function[0] == 0 && pci_read16(0, PCI_CLASS) == HOST_BRIDGE, "the bridge is 00:00.0");
	check_equal(pci_read32(PCI_BDF(0, 1, 1), 0), 0xffffffff, "no function 1");
	check_equal(pci_read32(PCI_BDF(1, 0, 0), 0), 0xffffffff, "nothing on bus 1");
	check_equal(pci_read32(PCI_BDF(255, 31, 7), 0xffc), 0xffffffff, "nor at ECAM's end");
	check_equal(pci_cf8_read(PCI_BDF(255, 31, 7), 0xfc, 4), 0xffffffff, "nor the ports'");
}

static void headers(pci_address bdf)
{
	unsigned at, caps = 0, differ = 0;

	for (unsigned i = 0; i < CONFIG_DWORDS; i++)
		differ += pci_read32(bdf, 4 * i) != pci_cf8_read(bdf, 4 * i, 4);
	check_equal(differ, 0, "%02x: ports and ECAM agree on all of it", bdf >> 3);
	check_equal(pci_read8(bdf, PCI_HEADER), 0, "%02x: type 0, one function", bdf >> 3);
	check(pci_read32(bdf, 0x100) == 0 || (pci_read32(bdf, 0x100) & 0xffff) != 0xffff,
	      "%02x: extended space can be read", bdf >> 3);
	if (!(pci_read16(bdf, PCI_STATUS) & PCI_STATUS_CAPS))
		return;
	for (at = pci_read8(bdf, PCI_CAPABILITIES); at >= 0x40 && !(at & 3) && caps < 48; caps++)
		at = pci_read8(bdf, at + 1);
	check(at == 0, "%02x: the list of %u capabilities ends", bdf >> 3, caps);
}

static void read_only(pci_address bdf)
{
	uint32_t id = pci_read32(bdf, PCI_VENDOR), class = pci_read32(bdf, PCI_REVISION);

	pci_write32(bdf, PCI_VENDOR, ~id);
	pci_write8(bdf, PCI_VENDOR, 0);
	pci_cf8_write(bdf, PCI_DEVICE, 2, 0);
	pci_write32(bdf, PCI_REVISION, 0);
	pci_write8(bdf, PCI_HEADER, 0xff);
	check(pci_read32(bdf, PCI_VENDOR) == id && pci_read32(bdf, PCI_REVISION) == class &&
		      pci_read8(bdf, PCI_HEADER) == 0,
	      "%02x: identity cannot be written", bdf >> 3);
}

static void widths(pci_address bdf)
{
	pci_write8(bdf, PCI_INTERRUPT_LINE, 0x5a);
	check_equal(pci_cf8_read(bdf, PCI_INTERRUPT_LINE, 1), 0x5a, "8 bits by ECAM");
	pci_cf8_write(bdf, PCI_INTERRUPT_LINE, 1, 0xa5);
	check_equal(pci_read8(bdf, PCI_INTERRUPT_LINE), 0xa5, "8 bits by ports");
	pci_cf8_write(bdf, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	check_equal(pci_read16(bdf, PCI_COMMAND), PCI_COMMAND_MASTER, "16 bits by ports");
	pci_write8(bdf, PCI_COMMAND, 0);
	check_equal(pci_cf8_read(bdf, PCI_COMMAND, 2), 0, "the lower half alone");
	pci_write16(bdf, PCI_COMMAND, 0xffff);
	check_equal(pci_read16(bdf, PCI_COMMAND) &
			    ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | 0x0540),
		    0, "command has no bits it should not");
	pci_write16(bdf, PCI_COMMAND, 0);
}

/* ---- BARs ------------------------------------------------------------------------------------ */

/* Does the device answer there? Its MSI-X table is what all of them have: masked, that is 1. */
static bool answers(const struct pci_function *f)
{
	return read32(f->msix_table + 12) == MSIX_ENTRY_MASKED;
}

static bool silent(uint64_t table)
{
	return read32(table + 12) == 0xffffffff;
}

static void sizes(const struct pci_function *f)
{
	for (unsigned n = 0; n < 6; n++) {
		const struct pci_bar *b = &f->bar[n];

		if (!b->size)
			continue;
		check((b->size & (b->size - 1)) == 0 && b->size >= 16, "BAR %u: 0x%lx bytes", n,
		      b->size);
		check(b->address && (b->address & (b->size - 1)) == 0,
		      "BAR %u: assigned, aligned: 0x%lx", n, b->address);
		check(!is_ram(b->address, 1), "BAR %u: not in RAM", n);
	}
}

/* Inside the window above RAM, which has the upper half of what the CPU can address, or begins at
 * 256 GiB. The DSDT tells, but to a reader of AML. */
static uint64_t high_address(void)
{
	unsigned bits = cpuid(0x80000008, 0).eax & 0xff;

	return (bits < 39 ? 1ull << (bits - 1) : 1ull << 38) + (1ull << 30);
}

static unsigned msix_bar(const struct pci_function *f)
{
	return pci_read32(f->bdf, f->msix + MSIX_TABLE) & 7;
}

static void decoding(struct pci_function *f)
{
	pci_write16(f->bdf, PCI_COMMAND, 0);
	check(silent(f->msix_table), "decoding off: nothing there");
	pci_write16(f->bdf, PCI_COMMAND, PCI_COMMAND_MEMORY);
	check(answers(f), "decoding on: the device answers");
	pci_write16(f->bdf, PCI_COMMAND, PCI_COMMAND_IO);
	check(silent(f->msix_table), "I/O decoding does not concern memory");
	pci_write16(f->bdf, PCI_COMMAND, PCI_COMMAND_MEMORY);
	/* Sizing while decoding is on happens, too. */
	pci_write32(f->bdf, PCI_BAR0 + 4 * msix_bar(f), 0xffffffff);
	check(silent(f->msix_table), "sizing with decoding on: gone meanwhile");
	pci_write32(f->bdf, PCI_BAR0 + 4 * msix_bar(f), (uint32_t)f->bar[msix_bar(f)].address);
	check(answers(f), "and back");
}

static void moves(struct pci_function *f)
{
	unsigned n = msix_bar(f);
	struct pci_bar *b = &f->bar[n];
	uint64_t home = b->address, table = f->msix_table;
	uint32_t *ram = alloc(b->size, b->size);

	pci_bar_move(f, n, 0xd0000000);
	check(answers(f) && silent(table), "moved: it answers there and not where it was");
	if (b->wide) {
		pci_bar_move(f, n, high_address());
		check(answers(f), "moved above 4 GiB, to 0x%lx", high_address());
	}
	/* Into RAM: what a bridge does not forward does not reach the device. */
	ram[0] = 0x12345678;
	pci_bar_move(f, n, (uint64_t)ram);
	check_equal(*(volatile uint32_t *)ram, 0x12345678, "moved over RAM: RAM stays RAM");
	pci_bar_move(f, n, 0xfec00000 & ~(b->size - 1));
	check_equal(ioapic_read(IOAPIC_VERSION) >> 16 & 0xff, IOAPIC_PINS - 1,
		    "moved over the I/O APIC: that stays, too");
	pci_bar_move(f, n, acpi.mcfg->range[0].base);
	check(pci_read16(f->bdf, PCI_VENDOR) == VIRTIO_VENDOR, "moved over ECAM: that stays, too");
	pci_bar_move(f, n, home);
	check(answers(f), "home again");
}

/* The other device's BAR on top of this one, and away again: whoever wins, nobody is lost. */
static void overlap(struct pci_function *a, struct pci_function *b)
{
	unsigned n = msix_bar(b);
	uint64_t home = b->bar[n].address;

	pci_write16(b->bdf, PCI_COMMAND, PCI_COMMAND_MEMORY);
	check(answers(a) && answers(b), "two devices, two places");
	pci_bar_move(b, n, a->bar[msix_bar(a)].address);
	check(answers(a), "two at one place: one answers");
	pci_bar_move(b, n, home);
	check(answers(a) && answers(b), "apart again: both do");
	pci_bar_move(b, n, a->bar[msix_bar(a)].address);
	pci_write16(a->bdf, PCI_COMMAND, 0);
	check(answers(b), "at one place, the other switched off: this one answers");
	pci_bar_move(b, n, home);
	pci_write16(a->bdf, PCI_COMMAND, PCI_COMMAND_MEMORY);
	check(answers(a) && answers(b), "and all is as before");
}

void main(void)
{
	struct pci_function rng = { 0 }, disk = { 0 };

	enumerate();
	for (unsigned i = 0; i < functions; i++) {
		headers(function[i]);
		read_only(function[i]);
	}
	if (!check(pci_find(VIRTIO_VENDOR, 0x1040 + VIRTIO_RNG, 0, &rng) &&
			   pci_find(VIRTIO_VENDOR, 0x1040 + VIRTIO_BLK, 0, &disk),
		   "rng and disk by their ids"))
		return;
	widths(rng.bdf);
	sizes(&rng);
	sizes(&disk);
	decoding(&rng);
	moves(&rng);
	overlap(&rng, &disk);
}
