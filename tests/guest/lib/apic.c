/*
 * Local and I/O APIC: see apic.h.
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "trap.h"

#define LAPIC_BASE	0xfee00000ull
#define ICR_PENDING	(1u << 12)
#define IOAPIC_SELECT	0x00
#define IOAPIC_WINDOW	0x10
#define PIC_MASTER_DATA 0x21
#define PIC_SLAVE_DATA	0xa1

/* The mode of this CPU; asked anew each time, because tests switch one CPU and not the others. */
bool lapic_is_x2apic(void)
{
	return rdmsr(MSR_APIC_BASE) & APIC_BASE_X2APIC;
}

uint32_t lapic_read(unsigned reg)
{
	if (lapic_is_x2apic())
		return (uint32_t)rdmsr(MSR_X2APIC + reg / 16);
	return read32(LAPIC_BASE + reg);
}

void lapic_write(unsigned reg, uint32_t value)
{
	if (lapic_is_x2apic())
		wrmsr(MSR_X2APIC + reg / 16, value);
	else
		write32(LAPIC_BASE + reg, value);
}

void lapic_eoi(void)
{
	lapic_write(LAPIC_EOI, 0);
}

void lapic_enable(void)
{
	lapic_write(LAPIC_SVR, LAPIC_SVR_ENABLE | VECTOR_SPURIOUS);
}

uint32_t lapic_id(void)
{
	uint32_t id = lapic_read(LAPIC_ID);

	return lapic_is_x2apic() ? id : id >> 24;
}

bool lapic_bit(unsigned reg, unsigned vector)
{
	return lapic_read(reg + vector / 32 * 16) >> vector % 32 & 1;
}

bool lapic_to_x2apic(void)
{
	if (!(cpuid(1, 0).ecx & CPUID1_ECX_X2APIC))
		return false;
	return wrmsr_safe(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
}

void lapic_ipi(uint32_t dest, uint32_t icr)
{
	if (lapic_is_x2apic()) {
		wrmsr(MSR_X2APIC + LAPIC_ICR / 16, (uint64_t)dest << 32 | icr);
		return;
	}
	lapic_write(LAPIC_ICR_HIGH, dest << 24);
	lapic_write(LAPIC_ICR, icr);
	wait_for(!(lapic_read(LAPIC_ICR) & ICR_PENDING), 100);
}

uint32_t ioapic_read(unsigned reg)
{
	write32(acpi.ioapic + IOAPIC_SELECT, reg);
	return read32(acpi.ioapic + IOAPIC_WINDOW);
}

void ioapic_write(unsigned reg, uint32_t value)
{
	write32(acpi.ioapic + IOAPIC_SELECT, reg);
	write32(acpi.ioapic + IOAPIC_WINDOW, value);
}

void ioapic_route(unsigned gsi, unsigned vector, uint32_t apic_id, uint32_t flags)
{
	/* Masked while it is neither the old nor the new route. */
	ioapic_write(IOAPIC_REDIR + 2 * gsi, IOAPIC_MASKED);
	ioapic_write(IOAPIC_REDIR + 2 * gsi + 1, apic_id << 24);
	ioapic_write(IOAPIC_REDIR + 2 * gsi, vector | flags);
}

void ioapic_mask(unsigned gsi)
{
	ioapic_write(IOAPIC_REDIR + 2 * gsi, IOAPIC_MASKED);
}

void irq_init(void)
{
	out8(PIC_MASTER_DATA, 0xff);
	out8(PIC_SLAVE_DATA, 0xff);
	lapic_enable();
}
