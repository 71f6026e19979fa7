/*
 * Addresses out of layout.h put together for one machine: see platform.h.
 */
#include <string.h>

#include <linux/kvm.h>

#include "vmm/x86_64/platform.h"
#include "vmm/x86_64/layout.h"

/* Beyond this nobody needs it, and below 1 TiB − 12 GiB lies AMD's HyperTransport range untouched.
 */
#define MEM64_MAX (256 * LAYOUT_GIB)

void platform_prepare(const struct kvm *kvm)
{
	uint64_t identity_map = LAYOUT_KVM_IDENTITY_MAP;

	/* Refused and unneeded elsewhere than on Intel. */
	kvm_vm_ioctl(kvm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	kvm_vm_ioctl(kvm, KVM_SET_TSS_ADDR, (void *)LAYOUT_KVM_TSS);
}

struct pci_windows platform_windows(const struct guest_memory *memory, unsigned physical_bits)
{
	uint64_t limit = 1ull << physical_bits;
	uint64_t size = limit / 2 < MEM64_MAX ? limit / 2 : MEM64_MAX;
	const struct memory_region *last = &memory->region[memory->nregions - 1];
	uint64_t ram_end = last->gpa + last->size;
	uint64_t base;

	if (ram_end < LAYOUT_HIGH_RAM)
		ram_end = LAYOUT_HIGH_RAM;
	/* Naturally aligned, so that one BAR as large as the window fits; smaller if RAM is large.
	 */
	for (;; size /= 2) {
		base = (ram_end + size - 1) & ~(size - 1);
		if (base < limit && size <= limit - base)
			break;
		if (size <= LAYOUT_GIB) {
			base = 0;
			size = 0;
			break;
		}
	}
	return (struct pci_windows){
		.ecam_base = LAYOUT_ECAM_BASE,
		.buses = LAYOUT_ECAM_BUSES,
		.mem32_base = LAYOUT_MEM32_BASE,
		.mem32_size = LAYOUT_MEM32_SIZE,
		.mem64_base = base,
		.mem64_size = size,
		.io_base = LAYOUT_PCI_IO_BASE,
		.io_size = LAYOUT_PCI_IO_SIZE,
		.intx_gsi = LAYOUT_PCI_INTX_GSI,
	};
}

/*
 * ISA lines that no chip of ours drives; where there are more devices than lines, they share. Not
 * 8 (clock), 14 and 15 (IDE), nor those of 16550, i8042 and timer.
 */
struct mmio_slots platform_mmio_slots(void)
{
	static const uint8_t lines[] = { 5, 6, 7, 9, 10, 11, 12, 13 };
	struct mmio_slots slots = { .base = LAYOUT_MMIO_BASE, .count = MMIO_SLOTS };

	for (unsigned i = 0; i < MMIO_SLOTS; i++)
		slots.gsi[i] = lines[i % sizeof(lines)];
	return slots;
}

struct lookup {
	uint64_t base;
	bool found;
};

static void match(const struct bus_range *range, void *arg)
{
	struct lookup *l = arg;

	if (range->base == l->base)
		l->found = true;
}

static bool answers(struct bus *bus, uint64_t base)
{
	struct lookup l = { .base = base };

	bus_for_each(bus, match, &l);
	return l.found;
}

struct boot_platform platform_describe(const struct pci_windows *windows, unsigned cpus,
				       struct bus *pio, const struct mmio_slots *slots)
{
	struct boot_platform platform = {
		.cpus = cpus,
		.ecam_base = windows->ecam_base,
		.ecam_buses = windows->buses,
		.mem32_base = windows->mem32_base,
		.mem32_size = windows->mem32_size,
		.mem64_base = windows->mem64_base,
		.mem64_size = windows->mem64_size,
		.io_base = windows->io_base,
		.io_size = windows->io_size,
		.ioapic_base = LAYOUT_IOAPIC,
		.lapic_base = LAYOUT_LAPIC,
		.acpi_pio = LAYOUT_ACPI_PIO,
		.panic_pio = LAYOUT_PANIC_PIO,
		.nranges = 3,
		.range = { { LAYOUT_IOAPIC, 0x1000, 2 },
			   { LAYOUT_LAPIC, 0x1000, 2 },
			   { LAYOUT_KVM_IDENTITY_MAP, 0x4000, 2 } },
		.vmmio_base = (uint32_t)slots->base,
		.vmmio_mask = slots->used,
	};

	_Static_assert(BOOT_VMMIO_SLOTS == MMIO_SLOTS, "ACPI has a node for each slot");
	_Static_assert(MMIO_SLOTS * MMIO_SLOT_SIZE <= LAYOUT_MMIO_SIZE, "slots fit");
	memcpy(platform.vmmio_gsi, slots->gsi, sizeof(platform.vmmio_gsi));
	_Static_assert(BOOT_UARTS == LAYOUT_UARTS, "ACPI has a node for each serial port");
	for (unsigned i = 0; i < LAYOUT_UARTS; i++) {
		if (answers(pio, LAYOUT_UART_PIO(i)))
			platform.uart_pio[i] = LAYOUT_UART_PIO(i);
		platform.uart_irq[i] = LAYOUT_UART_IRQ(i);
	}
	return platform;
}
