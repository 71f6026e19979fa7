/*
 * The 16550 at COM1: registers, loopback, interrupt identification, and 64 KiB typed by the host as
 * fast as it can, echoed through the interrupt on GSI 4. What is typed is known here: nothing may
 * be lost, doubled or swapped.
 *
 * mvm:
 * mvm: --irqchip=user
 * mvm: --console=emulated:unix:@tmp/console
 * mvm: --console=emulated:pty:@tmp/console
 * seconds: 20
 */
#include "apic.h"
#include "guest.h"
#include "trap.h"
#include "uart.h"

#define VECTOR_UART 0x60
#define TYPED_MAX   65536u
#define SEED	    0x6d766d2d75617274ull
#define STALLED_MS  4000
#define TRIGGER	    14

static uint8_t inr(unsigned reg)
{
	return in8((uint16_t)(COM1 + reg));
}

static void outr(unsigned reg, uint8_t value)
{
	out8((uint16_t)(COM1 + reg), value);
}

static void registers(void)
{
	uint8_t iir, ier, mcr, dll, dlm, ier_behind, lcr;

	print_drain();
	outr(UART_FCR, 0);
	iir = inr(UART_IIR);
	outr(UART_IER, 0xff);
	ier = inr(UART_IER);
	outr(UART_IER, 0);
	outr(UART_MCR, 0xf0);
	mcr = inr(UART_MCR);
	outr(UART_MCR, 0);
	outr(UART_LCR, UART_LCR_DLAB | UART_LCR_8N1);
	outr(UART_DLL, 0x34);
	outr(UART_DLM, 0x12);
	dll = inr(UART_DLL);
	dlm = inr(UART_DLM);
	outr(UART_LCR, UART_LCR_8N1);
	lcr = inr(UART_LCR);
	ier_behind = inr(UART_IER);
	outr(UART_LCR, UART_LCR_DLAB | UART_LCR_8N1);
	outr(UART_DLL, 1);
	outr(UART_DLM, 0);
	outr(UART_SCR, 0xa5);
	print_init();

	check_equal(iir, UART_IIR_NONE, "without FIFOs IIR says so, and no interrupt");
	check_equal(ier, 0x0f, "IER has four bits");
	check_equal(mcr, UART_MCR_LOOP, "MCR has five");
	check(dll == 0x34 && dlm == 0x12, "the divisor behind DLAB");
	check_equal(ier_behind, 0, "does not touch IER");
	check_equal(lcr, UART_LCR_8N1, "LCR keeps its value");
	check_equal(inr(UART_SCR), 0xa5, "so does the scratch register");
	check_equal(inr(UART_IIR), UART_IIR_FIFOS | UART_IIR_NONE, "with FIFOs IIR says so");
}

/* Outputs come back as inputs; deltas say what changed since the last look. */
static void loop_lines(void)
{
	uint8_t none, cts, all, gone, still;

	print_drain();
	outr(UART_MCR, UART_MCR_LOOP);
	inr(UART_MSR);
	none = inr(UART_MSR);
	outr(UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	cts = inr(UART_MSR);
	outr(UART_MCR, UART_MCR_LOOP | UART_MCR_RTS | UART_MCR_DTR | UART_MCR_OUT1 | UART_MCR_OUT2);
	all = inr(UART_MSR);
	outr(UART_MCR, UART_MCR_LOOP);
	gone = inr(UART_MSR);
	still = inr(UART_MSR);
	print_init();

	check_equal(none, 0, "loopback: no line is up");
	check_equal(cts, UART_MSR_CTS | UART_MSR_DCTS, "loopback: RTS is CTS, and new");
	check_equal(all & 0xf0, UART_MSR_CTS | UART_MSR_DSR | UART_MSR_RI | UART_MSR_DCD,
		    "loopback: DTR, OUT1 and OUT2 are DSR, RI and DCD");
	check(gone == 0x0f, "loopback: all gone, trailing edge of RI among them");
	check_equal(still, 0, "loopback: reading MSR clears the deltas");
}

static void loop_data(void)
{
	static const char text[] = "0123456789abcdefX";
	uint8_t got[16], full, iir, again, empty, last;

	print_drain();
	outr(UART_MCR, UART_MCR_LOOP);
	outr(UART_FCR, UART_FCR_ENABLE | UART_FCR_CLEAR_RX);
	outr(UART_IER, UART_IER_RX | UART_IER_THRE | UART_IER_LINE);
	outs8(COM1, text, 17);
	iir = inr(UART_IIR);
	full = inr(UART_LSR);
	again = inr(UART_LSR);
	ins8(COM1, got, 16);
	empty = inr(UART_LSR);
	outr(UART_IER, 0);
	outr(UART_FCR, 0);
	outs8(COM1, text, 2);
	last = inr(UART_RBR);
	print_init();

	check_equal(iir & UART_IIR_ID, UART_IIR_LINE, "line status has the highest priority");
	check(full & UART_LSR_DR && full & UART_LSR_OE, "the 17th byte overruns the FIFO");
	check(!(again & UART_LSR_OE), "which is said once");
	check(!memcmp(got, text, 16), "the 16 before it are whole");
	check(!(empty & UART_LSR_DR), "then it is empty");
	check_equal(last, '1', "without FIFO the second byte replaces the first");
}

static void identification(void)
{
	uint8_t thre, none, rx, after_rx, msr;

	print_drain();
	outr(UART_FCR, UART_FCR_ENABLE | UART_FCR_CLEAR_RX);
	outr(UART_IER, UART_IER_THRE);
	thre = inr(UART_IIR);
	none = inr(UART_IIR);
	outr(UART_IER, 0);
	outr(UART_MCR, UART_MCR_LOOP);
	inr(UART_MSR);
	outr(UART_IER, UART_IER_RX | UART_IER_MSR);
	outr(UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	outr(UART_THR, 'x');
	rx = inr(UART_IIR);
	inr(UART_RBR);
	after_rx = inr(UART_IIR);
	inr(UART_MSR);
	msr = inr(UART_IIR);
	print_init();

	check_equal(thre & UART_IIR_ID, UART_IIR_THRE, "an empty transmitter interrupts");
	check_equal(none & UART_IIR_ID, UART_IIR_NONE, "reading IIR takes that back");
	check((rx & UART_IIR_ID) == UART_IIR_RX || (rx & UART_IIR_ID) == UART_IIR_TIMEOUT,
	      "a received byte comes before modem status");
	check_equal(after_rx & UART_IIR_ID, UART_IIR_MSR, "then modem status");
	check_equal(msr & UART_IIR_ID, UART_IIR_NONE, "until MSR is read");
}

/* ---- 64 KiB of typing ------------------------------------------------------------------------ */

static uint8_t *typed;
static uint32_t to_come = TYPED_MAX;
static volatile uint32_t arrived;
static uint32_t timeouts, spurious;

static void take(uint32_t n)
{
	if (n > to_come - arrived)
		n = to_come - arrived;
	ins8(COM1 + UART_RBR, typed + arrived, n);
	arrived += n;
}

/* All causes, until IIR says there is none: on an edge nothing else would come. */
static void uart_interrupt(void)
{
	for (unsigned turn = 0;; turn++) {
		uint8_t id = inr(UART_IIR) & UART_IIR_ID;

		if (id == UART_IIR_RX) {
			/* At least as many as the trigger level. */
			take(TRIGGER);
		} else if (id == UART_IIR_TIMEOUT) {
			timeouts++;
			while ((inr(UART_LSR) & UART_LSR_DR) && arrived < to_come)
				take(1);
		} else {
			spurious += turn == 0;
			return;
		}
		if (arrived == to_come)
			return;
	}
}

static void echo(uint32_t from, uint32_t to)
{
	while (from < to) {
		uint32_t n = to - from < UART_FIFO ? to - from : UART_FIFO;

		while (!(inr(UART_LSR) & UART_LSR_THRE))
			cpu_relax();
		outs8(COM1 + UART_THR, typed + from, n);
		from += n;
	}
}

static bool as_typed(void)
{
	const uint64_t *word = (const uint64_t *)typed;
	uint64_t state = SEED;

	for (unsigned i = 0; i < to_come / 8; i++)
		if (word[i] != random64(&state)) {
			print("# differs in the 8 bytes at %u\n", i * 8);
			return false;
		}
	return true;
}

static void typing(void)
{
	uint32_t echoed = 0;
	uint64_t given;

	if (cmdline_number("typed", &given) && given <= TYPED_MAX)
		to_come = (uint32_t)given & ~7u;
	typed = alloc(to_come, 8);
	irq_init();
	irq_handler(VECTOR_UART, uart_interrupt);
	ioapic_route(COM1_GSI, VECTOR_UART, 0, 0);
	outr(UART_FCR, UART_FCR_ENABLE | UART_FCR_TRIGGER_14);
	outr(UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	print("# type\n");
	outr(UART_IER, UART_IER_RX);
	while (echoed < to_come) {
		uint32_t now;

		irq_enable();
		if (!wait_for(arrived > echoed, STALLED_MS))
			break;
		irq_disable();
		now = arrived;
		echo(echoed, now);
		echoed = now;
	}
	irq_disable();
	print_init();
	ioapic_mask(COM1_GSI);
	check_equal(arrived, to_come, "all that is typed arrives");
	check(as_typed(), "as it was typed");
	print("# %u interrupts, %u of them timeouts, %u without a cause\n", irq_count[VECTOR_UART],
	      timeouts, spurious);
	check(irq_count[VECTOR_UART] < to_come / 4, "many bytes an interrupt");
}

void main(void)
{
	registers();
	loop_lines();
	loop_data();
	identification();
	typing();
	plan();
	/* A pty forgets what nobody has read when its other end closes: not before we are told. */
	wait_for(inr(UART_LSR) & UART_LSR_DR, STALLED_MS);
	poweroff();
}
