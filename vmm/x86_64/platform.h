/*
 * The x86-64 machine's shape for this much RAM and these vCPUs: where the PCI windows are, what the
 * firmware tables say.
 */
#ifndef VMM_X86_64_PLATFORM_H
#define VMM_X86_64_PLATFORM_H

#include "boot/boot.h"
#include "devices/pci/pci.h"
#include "vmm/kvm.h"
#include "vmm/memory.h"

/* Gives KVM the pages where its real-mode emulation for Intel lives. Before the first vCPU. */
void platform_prepare(const struct kvm *kvm);

struct pci_windows platform_windows(const struct guest_memory *memory, unsigned physical_bits);

/* All free. */
struct mmio_slots platform_mmio_slots(void);

/* pio tells which of the fixed devices are there, slots which devices ACPI must name. */
struct boot_platform platform_describe(const struct pci_windows *windows, unsigned cpus,
				       struct bus *pio, const struct mmio_slots *slots);

#endif
