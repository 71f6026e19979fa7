/*
 * What interrupts cost on these chips, in nanoseconds each as this processor's clock sees them: to
 * oneself, to another processor that runs or halts and back, by a line, by the timer. Checked is
 * only that all of them came.
 *
 * mvm: --cpus=2
 * mvm: --cpus=2 --irqchip=split
 * mvm: --cpus=2 --irqchip=user
 * seconds: 60
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "smp.h"
#include "trap.h"
#include "uart.h"

#define VECTOR_SELF  0x60
#define VECTOR_PING  0x61
#define VECTOR_PONG  0x62
#define VECTOR_UART  0x63
#define VECTOR_TIMER 0x64

#define ROUNDS	 100
#define TIMERS	 50
#define TIMER_NS 200000 /* LAPIC timers here count nanoseconds */
#define SOON_MS	 5000

static volatile bool stop;
static volatile uint64_t fired;

static uint64_t ns(uint64_t tsc)
{
	return tsc * 1000 / (tsc_khz() / 1000);
}

static void cost(const char *what, uint64_t tsc, unsigned n)
{
	print("# cost: %s %lu ns\n", what, ns(tsc) / n);
}

static void to_itself(void)
{
	uint64_t start = rdtsc();
	unsigned came = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		lapic_write(LAPIC_ICR, ICR_SELF | ICR_ASSERT | VECTOR_SELF);
		came += irq_wait(VECTOR_SELF, 1, SOON_MS) || irq_count[VECTOR_SELF] == i + 1;
	}
	cost("an IPI to itself", rdtsc() - start, ROUNDS);
	check_equal(came, ROUNDS, "IPIs to itself");
}

static void pong(void)
{
	lapic_write(LAPIC_ICR_HIGH, 0);
	lapic_write(LAPIC_ICR, ICR_FIXED | ICR_ASSERT | VECTOR_PONG);
}

static void run(void *arg)
{
	(void)arg;
	irq_enable();
	while (!stop)
		cpu_relax();
	irq_disable();
}

static void ping_pong(const char *what)
{
	uint64_t start = rdtsc();
	unsigned came = 0;

	irq_enable();
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t before = irq_count[VECTOR_PONG];

		lapic_write(LAPIC_ICR_HIGH, 1 << 24);
		lapic_write(LAPIC_ICR, ICR_FIXED | ICR_ASSERT | VECTOR_PING);
		came += wait_for(irq_count[VECTOR_PONG] != before, SOON_MS);
	}
	irq_disable();
	cost(what, rdtsc() - start, ROUNDS);
	check_equal(came, ROUNDS, "%s", what);
}

static void another(void)
{
	if (!check(smp_start(1), "the other processor starts"))
		return;
	irq_handler(VECTOR_PING, pong);
	smp_post(1, run, NULL);
	ping_pong("ping-pong with one that runs");
	stop = true;
	wait_for(smp_done(1), SOON_MS);
	ping_pong("ping-pong with one that halts");
}

/* The line goes up when the THRE interrupt is enabled, and down when IIR is read. */
static void line(void)
{
	uint64_t spent = 0;
	unsigned came = 0;

	print_drain();
	out8(COM1 + UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	ioapic_route(COM1_GSI, VECTOR_UART, 0, IOAPIC_LEVEL);
	irq_handler(VECTOR_UART, NULL);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t before = irq_count[VECTOR_UART];
		uint64_t start = rdtsc();

		out8(COM1 + UART_IER, UART_IER_THRE);
		irq_enable();
		came += wait_for(irq_count[VECTOR_UART] != before, SOON_MS);
		irq_disable();
		spent += rdtsc() - start;
		out8(COM1 + UART_IER, 0);
		in8(COM1 + UART_IIR);
	}
	ioapic_mask(COM1_GSI);
	print_init();
	cost("a level, up to its EOI", spent, ROUNDS);
	check_equal(came, ROUNDS, "levels");
}

static void timer_fired(void)
{
	fired = rdtsc();
}

static void timer(void)
{
	uint64_t late = 0;
	unsigned came = 0;

	irq_handler(VECTOR_TIMER, timer_fired);
	lapic_write(LAPIC_TIMER_DIV, 0xb);
	lapic_write(LAPIC_LVT_TIMER, LAPIC_TIMER_ONESHOT | VECTOR_TIMER);
	for (unsigned i = 0; i < TIMERS; i++) {
		uint64_t start = rdtsc();

		lapic_write(LAPIC_TIMER_INIT, TIMER_NS);
		came += irq_wait(VECTOR_TIMER, 1, SOON_MS);
		late += fired - start - tsc_khz() * TIMER_NS / 1000000;
	}
	lapic_write(LAPIC_LVT_TIMER, LAPIC_LVT_MASKED);
	cost("how late a timer is", late, TIMERS);
	check_equal(came, TIMERS, "timers");
}

void main(void)
{
	irq_init();
	to_itself();
	another();
	line();
	timer();
}
