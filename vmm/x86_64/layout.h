/*
 * The x86-64 machine's address map, in one place. Everything that must agree on an address (RAM,
 * PCI windows, ACPI tables, boot structures) takes it from here.
 */
#ifndef VMM_X86_64_LAYOUT_H
#define VMM_X86_64_LAYOUT_H

#define LAYOUT_MIB (1ull << 20)
#define LAYOUT_GIB (1ull << 30)

/* RAM is [0, 3 GiB) and [4 GiB, …); between them is the hole for PCI and chips. */
#define LAYOUT_HOLE_BASE 0xc0000000ull
#define LAYOUT_HIGH_RAM	 0x100000000ull

/*
 * Room for 256 buses of 1 MiB; announced are those there are. Linux looks for a device in each slot
 * of each bus it hears of: with 256 buses that is 8192 exits before the first driver.
 */
#define LAYOUT_ECAM_BASE	0xe0000000ull
#define LAYOUT_ECAM_BUSES	1u
#define LAYOUT_MEM32_BASE	0xc0000000ull /* up to ECAM */
#define LAYOUT_MEM32_SIZE	(LAYOUT_ECAM_BASE - LAYOUT_MEM32_BASE)
#define LAYOUT_MMIO_BASE	0xf0000000ull /* virtio-mmio and other fixed devices */
#define LAYOUT_MMIO_SIZE	0x01000000ull
#define LAYOUT_IOAPIC		0xfec00000ull
#define LAYOUT_LAPIC		0xfee00000ull
#define LAYOUT_KVM_IDENTITY_MAP 0xfeffc000ull /* one page, then three of TSS (Intel real mode) */
#define LAYOUT_KVM_TSS		0xfeffd000ull

/* Ports. PCI I/O BARs live above the fixed ones. */
#define LAYOUT_PCI_IO_BASE  0x6000u
#define LAYOUT_PCI_IO_SIZE  0xa000u
#define LAYOUT_UARTS	    4u /* COM1 to COM4, where every PC has them */
#define LAYOUT_UART_PIO(n)  (((n)&2 ? 0x3e8u : 0x3f8u) - ((n)&1 ? 0x100u : 0u))
#define LAYOUT_UART_IRQ(n)  ((n)&1 ? 3u : 4u)
#define LAYOUT_PIC1_PIO	    0x20u
#define LAYOUT_PIC2_PIO	    0xa0u
#define LAYOUT_ELCR_PIO	    0x4d0u
#define LAYOUT_PIT_PIO	    0x40u
#define LAYOUT_PORT61_PIO   0x61u
#define LAYOUT_RTC_PIO	    0x70u
#define LAYOUT_RTC_IRQ	    8u
#define LAYOUT_I8042_PIO    0x60u
#define LAYOUT_IDE0_PIO	    0x1f0u /* both channels of an IDE controller in compatibility mode */
#define LAYOUT_IDE0_CONTROL 0x3f6u
#define LAYOUT_IDE0_IRQ	    14u
#define LAYOUT_IDE1_PIO	    0x170u
#define LAYOUT_IDE1_CONTROL 0x376u
#define LAYOUT_IDE1_IRQ	    15u
#define LAYOUT_PANIC_PIO    0x505u
#define LAYOUT_ACPI_PIO	    0x600u /* sleep control, sleep status, reset: hardware-reduced ACPI */
#define LAYOUT_PCI_INTX_GSI 16u	   /* GSI 16 … 23 for INTx */

#endif
