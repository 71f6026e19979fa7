/*
 * Interrupt chips: local APIC (timer in its modes, priorities, self-IPI), I/O APIC (routing, edge,
 * level, masks) fed by the UART's line, and the PIT.
 *
 * mvm: --cpus=1
 * mvm: --cpus=2
 * mvm: --cpus=2 --irqchip=split
 * mvm: --irqchip=user
 * mvm: --cpus=2 --irqchip=user
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "smp.h"
#include "trap.h"
#include "uart.h"

#define VECTOR_TIMER 0x50
#define VECTOR_UART  0x51
#define VECTOR_PIT   0x52
#define VECTOR_LOW   0x60
#define VECTOR_HIGH  0x90

#define PIT_CHANNEL0 0x40
#define PIT_COMMAND  0x43
#define PIT_PERIODIC 0x34 /* channel 0, both bytes, mode 2 */
#define PIT_HZ	     1193182
#define PIT_GSI	     0

#define SOON_MS 5000 /* somebody else may have the processor for a while */

/* What has been asked for before comes now, not when silence is expected. */
static void settle(unsigned vector)
{
	irq_enable();
	wait_for(!lapic_bit(LAPIC_IRR, vector), SOON_MS);
	irq_disable();
}

/* ---- local APIC ------------------------------------------------------------------------------ */

static void lapic_registers(void)
{
	uint32_t version = lapic_read(LAPIC_VERSION);

	check((version & 0xff) >= 0x10 && (version >> 16 & 0xff) >= 4, "version 0x%x", version);
	lapic_write(LAPIC_TPR, 0x20);
	check_equal(lapic_read(LAPIC_TPR), 0x20, "TPR keeps its value");
	lapic_write(LAPIC_TPR, 0);
	check_equal(rdmsr(MSR_APIC_BASE) & ~0xfffull & 0xfffffffffull, 0xfee00000,
		    "APIC base address");
}

/*
 * There are hosts whose KVM has no interrupt in service: it ends each when it delivers it, and does
 * not look for the next at our EOI. What rests on that is not to be had there.
 */
#define NOT_IN_SERVICE "this KVM shows no interrupt in service"

static bool in_service, low_before_high;

static void high_arrived(void)
{
	in_service = lapic_bit(LAPIC_ISR, VECTOR_HIGH);
	low_before_high = irq_count[VECTOR_LOW] != 0;
}

static void priorities(void)
{
	irq_handler(VECTOR_HIGH, high_arrived);
	lapic_ipi(0, ICR_SELF | ICR_ASSERT | VECTOR_LOW);
	lapic_ipi(0, ICR_SELF | ICR_ASSERT | VECTOR_HIGH);
	check(lapic_bit(LAPIC_IRR, VECTOR_LOW) && lapic_bit(LAPIC_IRR, VECTOR_HIGH),
	      "two self-IPIs wait in IRR");
	check(irq_wait(VECTOR_HIGH, 1, SOON_MS) && !low_before_high,
	      "the higher vector comes first");
	if (in_service)
		check(irq_count[VECTOR_LOW] || irq_wait(VECTOR_LOW, 1, SOON_MS),
		      "the lower one after its EOI");
	else
		skip("the lower one after its EOI", NOT_IN_SERVICE);
	check(!lapic_bit(LAPIC_ISR, VECTOR_HIGH), "nothing is in service after the EOI");
	irq_wait(VECTOR_LOW, 1, 1);
	lapic_write(LAPIC_TPR, 0x70);
	lapic_ipi(0, ICR_SELF | ICR_ASSERT | VECTOR_LOW);
	check_equal(irq_during(VECTOR_LOW, 2), 0, "TPR holds a lower vector back");
	lapic_write(LAPIC_TPR, 0);
	check(irq_wait(VECTOR_LOW, 1, SOON_MS), "until it is lowered");
}

static void timer(void)
{
	lapic_write(LAPIC_TIMER_DIV, LAPIC_TIMER_DIV_16);
	lapic_write(LAPIC_LVT_TIMER, LAPIC_TIMER_ONESHOT | VECTOR_TIMER);
	lapic_write(LAPIC_TIMER_INIT, 10000);
	check(lapic_read(LAPIC_TIMER_COUNT) <= 10000, "the timer's counter counts down");
	check(irq_wait(VECTOR_TIMER, 1, SOON_MS), "one-shot timer");
	check_equal(irq_during(VECTOR_TIMER, 5), 0, "once");
	lapic_write(LAPIC_LVT_TIMER, LAPIC_TIMER_PERIODIC | VECTOR_TIMER);
	lapic_write(LAPIC_TIMER_INIT, 100000);
	check(irq_wait(VECTOR_TIMER, 3, SOON_MS), "periodic timer");
	lapic_write(LAPIC_LVT_TIMER, LAPIC_TIMER_PERIODIC | VECTOR_TIMER | LAPIC_LVT_MASKED);
	settle(VECTOR_TIMER);
	check_equal(irq_during(VECTOR_TIMER, 5), 0, "masked, it is quiet");
	lapic_write(LAPIC_TIMER_INIT, 0);
}

static void deadline(void)
{
	uint64_t start;

	if (!(cpuid(1, 0).ecx & CPUID1_ECX_TSC_DEADLINE)) {
		skip("TSC deadline timer", "CPUID does not offer it");
		return;
	}
	lapic_write(LAPIC_LVT_TIMER, LAPIC_TIMER_DEADLINE | VECTOR_TIMER);
	start = rdtsc();
	wrmsr(MSR_TSC_DEADLINE, start + 2 * tsc_khz());
	check(irq_wait(VECTOR_TIMER, 1, SOON_MS), "TSC deadline timer");
	check(rdtsc() - start >= 2 * tsc_khz(), "not before its time");
	check_equal(rdmsr(MSR_TSC_DEADLINE), 0, "the deadline is disarmed");
	wrmsr(MSR_TSC_DEADLINE, start);
	check(irq_wait(VECTOR_TIMER, 1, SOON_MS), "a deadline that has passed fires at once");
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + 3 * tsc_khz());
	wrmsr(MSR_TSC_DEADLINE, 0);
	check_equal(irq_during(VECTOR_TIMER, 6), 0, "a deadline taken back does not");
	lapic_write(LAPIC_LVT_TIMER, LAPIC_LVT_MASKED);
}

/* ---- I/O APIC -------------------------------------------------------------------------------- */

static void ioapic_registers(void)
{
	unsigned masked = 0;

	check_equal((ioapic_read(IOAPIC_VERSION) >> 16 & 0xff) + 1, IOAPIC_PINS, "24 pins");
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		masked += !!(ioapic_read(IOAPIC_REDIR + 2 * i) & IOAPIC_MASKED);
	check_equal(masked, IOAPIC_PINS, "all masked after power on");
	ioapic_write(IOAPIC_REDIR + 2 * 20 + 1, 0x5a000000);
	check_equal(ioapic_read(IOAPIC_REDIR + 2 * 20 + 1) >> 24, 0x5a, "a destination is kept");
	ioapic_write(IOAPIC_REDIR + 2 * 20 + 1, 0);
}

/* The line goes up when the THRE interrupt is enabled and down when IIR is read. */
static void line_up(void)
{
	out8(COM1 + UART_IER, UART_IER_THRE);
}

static void line_down(void)
{
	out8(COM1 + UART_IER, 0);
	in8(COM1 + UART_IIR);
}

static void edge(void)
{
	print_drain();
	out8(COM1 + UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	ioapic_route(COM1_GSI, VECTOR_UART, 0, 0);
	line_up();
	bool once = irq_wait(VECTOR_UART, 1, SOON_MS);
	uint32_t more = irq_during(VECTOR_UART, 3);
	line_down();
	line_up();
	bool again = irq_wait(VECTOR_UART, 1, SOON_MS);
	line_down();
	ioapic_route(COM1_GSI, VECTOR_UART, 0, IOAPIC_MASKED);
	line_up();
	uint32_t masked = irq_during(VECTOR_UART, 3);
	line_down();
	print_init();
	check(once, "an edge interrupts");
	check_equal(more, 0, "a line that stays up does so once");
	check(again, "the next edge interrupts again");
	check_equal(masked, 0, "a masked pin does not");
}

static uint32_t level_seen;
static bool remote_irr;

static void level_arrived(void)
{
	remote_irr = ioapic_read(IOAPIC_REDIR + 2 * COM1_GSI) & IOAPIC_REMOTE_IRR;
	/* The third time the cause goes away. */
	if (++level_seen == 3)
		line_down();
}

static void level(void)
{
	irq_handler(VECTOR_UART, level_arrived);
	print_drain();
	out8(COM1 + UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	ioapic_route(COM1_GSI, VECTOR_UART, 0, IOAPIC_LEVEL);
	line_up();
	bool came = irq_wait(VECTOR_UART, 3, SOON_MS);
	uint32_t more = irq_during(VECTOR_UART, 3);
	bool irr = ioapic_read(IOAPIC_REDIR + 2 * COM1_GSI) & IOAPIC_REMOTE_IRR;
	ioapic_mask(COM1_GSI);
	irq_handler(VECTOR_UART, NULL);
	print_init();
	check(came, "a level that stays up interrupts again after each EOI");
	if (!in_service) {
		skip("until it goes down", NOT_IN_SERVICE);
		skip("remote IRR is set until the EOI", NOT_IN_SERVICE);
		return;
	}
	check_equal(more, 0, "until it goes down");
	check(remote_irr && !irr, "remote IRR is set until the EOI");
}

static void other_cpu(void)
{
	if (acpi.ncpus < 2 || !smp_start(1)) {
		check(acpi.ncpus < 2, "the other processor starts");
		return;
	}
	uint32_t before = irq_count[VECTOR_UART];

	print_drain();
	out8(COM1 + UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	ioapic_route(COM1_GSI, VECTOR_UART, 1, 0);
	line_up();
	/* Interrupts are off here, so it can only be the other one that takes it. */
	bool came = wait_for(irq_count[VECTOR_UART] == before + 1, SOON_MS);
	line_down();
	ioapic_mask(COM1_GSI);
	print_init();
	check(came, "a pin routed to the other processor");
}

static void pit(void)
{
	unsigned count = PIT_HZ / 500;

	ioapic_route(PIT_GSI, VECTOR_PIT, 0, 0);
	out8(PIT_COMMAND, PIT_PERIODIC);
	out8(PIT_CHANNEL0, (uint8_t)count);
	out8(PIT_CHANNEL0, (uint8_t)(count >> 8));
	check(irq_wait(VECTOR_PIT, 3, SOON_MS), "the PIT ticks");
	ioapic_mask(PIT_GSI);
	settle(VECTOR_PIT);
	check_equal(irq_during(VECTOR_PIT, 5), 0, "masked, it is quiet");
}

static void x2apic(void)
{
	check(wrmsr_safe(MSR_APIC_BASE, 0xfee00000 | APIC_BASE_X2APIC) == false,
	      "x2APIC without enable is refused");
	if (!(cpuid(1, 0).ecx & CPUID1_ECX_X2APIC)) {
		check(!lapic_to_x2apic() &&
			      !wrmsr_safe(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC),
		      "x2APIC mode is refused where CPUID does not offer it");
		return;
	}
	check(lapic_to_x2apic() && lapic_id() == 0, "x2APIC mode");
	lapic_write(LAPIC_LVT_TIMER, LAPIC_TIMER_ONESHOT | VECTOR_TIMER);
	lapic_write(LAPIC_TIMER_INIT, 10000);
	check(irq_wait(VECTOR_TIMER, 1, SOON_MS), "the timer in x2APIC mode");
	lapic_ipi(0, ICR_SELF | ICR_ASSERT | VECTOR_LOW);
	check(irq_wait(VECTOR_LOW, 1, SOON_MS), "self-IPI in x2APIC mode");
}

void main(void)
{
	irq_init();
	lapic_registers();
	priorities();
	timer();
	deadline();
	ioapic_registers();
	edge();
	level();
	other_cpu();
	pit();
	x2apic();
}
