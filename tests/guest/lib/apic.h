/*
 * Local APIC, in xAPIC or x2APIC mode behind the same calls, and I/O APIC. Intel SDM volume 3
 * chapter 11; 82093AA data sheet.
 */
#ifndef GUEST_APIC_H
#define GUEST_APIC_H

#include "cpu.h"

#define LAPIC_ID	  0x020
#define LAPIC_VERSION	  0x030
#define LAPIC_TPR	  0x080
#define LAPIC_EOI	  0x0b0
#define LAPIC_LDR	  0x0d0
#define LAPIC_SVR	  0x0f0
#define LAPIC_ISR	  0x100
#define LAPIC_TMR	  0x180
#define LAPIC_IRR	  0x200
#define LAPIC_ESR	  0x280
#define LAPIC_ICR	  0x300
#define LAPIC_ICR_HIGH	  0x310
#define LAPIC_LVT_TIMER	  0x320
#define LAPIC_LVT_LINT0	  0x350
#define LAPIC_LVT_LINT1	  0x360
#define LAPIC_LVT_ERROR	  0x370
#define LAPIC_TIMER_INIT  0x380
#define LAPIC_TIMER_COUNT 0x390
#define LAPIC_TIMER_DIV	  0x3e0

#define LAPIC_SVR_ENABLE     (1u << 8)
#define LAPIC_LVT_MASKED     (1u << 16)
#define LAPIC_TIMER_ONESHOT  (0u << 17)
#define LAPIC_TIMER_PERIODIC (1u << 17)
#define LAPIC_TIMER_DEADLINE (2u << 17)
#define LAPIC_TIMER_DIV_16   0x3

#define ICR_FIXED	 (0u << 8)
#define ICR_NMI		 (4u << 8)
#define ICR_INIT	 (5u << 8)
#define ICR_STARTUP	 (6u << 8)
#define ICR_ASSERT	 (1u << 14)
#define ICR_SELF	 (1u << 18)
#define ICR_ALL		 (2u << 18)
#define ICR_ALL_BUT_SELF (3u << 18)

#define MSR_APIC_BASE	  0x1b
#define APIC_BASE_BSP	  (1u << 8)
#define APIC_BASE_X2APIC  (1u << 10)
#define APIC_BASE_ENABLED (1u << 11)
#define MSR_TSC_DEADLINE  0x6e0
#define MSR_X2APIC	  0x800

#define CPUID1_ECX_X2APIC	(1u << 21)
#define CPUID1_ECX_TSC_DEADLINE (1u << 24)

uint32_t lapic_read(unsigned reg);
void lapic_write(unsigned reg, uint32_t value);
void lapic_enable(void); /* this CPU's, software enable */
void lapic_eoi(void);
uint32_t lapic_id(void);
/* Is the vector's bit set in one of the 256-bit registers (LAPIC_ISR, …)? */
bool lapic_bit(unsigned reg, unsigned vector);
/* This CPU into x2APIC mode; there is no way back but by disabling it. */
bool lapic_to_x2apic(void);
bool lapic_is_x2apic(void);
/* shorthand | delivery mode | vector; dest is used without a shorthand. Waits until it is sent. */
void lapic_ipi(uint32_t dest, uint32_t icr);

#define IOAPIC_ID	  0x00
#define IOAPIC_VERSION	  0x01
#define IOAPIC_REDIR	  0x10
#define IOAPIC_PINS	  24
#define IOAPIC_LEVEL	  (1u << 15)
#define IOAPIC_REMOTE_IRR (1u << 14)
#define IOAPIC_LOW	  (1u << 13)
#define IOAPIC_MASKED	  (1u << 16)

uint32_t ioapic_read(unsigned reg);
void ioapic_write(unsigned reg, uint32_t value);
/* Pin → vector on a CPU; flags of IOAPIC_LEVEL, IOAPIC_LOW, IOAPIC_MASKED. */
void ioapic_route(unsigned gsi, unsigned vector, uint32_t apic_id, uint32_t flags);
void ioapic_mask(unsigned gsi);

/* What a guest with interrupts begins with: PICs masked, this CPU's local APIC enabled. */
void irq_init(void);

/* A message for irq delivery to one CPU by MSI. */
static inline uint64_t msi_address(uint32_t apic_id)
{
	return 0xfee00000ull | (uint64_t)(apic_id & 0xff) << 12;
}

#endif
