/*
 * Waits for keys and says which came: for tests of the command and its console, which start it
 * themselves (command.py). q powers off, p panics, f faults three times, r resets, s sleeps with
 * interrupts off, o prints a lot; all others are answered by <their number>.
 *
 * run: no
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "smp.h"
#include "trap.h"
#include "uart.h"

#define VECTOR_UART 0x60
#define MUCH	    3000 /* lines; more than all buffers on the way hold */

static void spin(void *arg)
{
	(void)arg;
	for (;;)
		in8(COM1 + UART_SCR);
}

static void key(uint8_t c)
{
	static const char line[] = "the quick brown fox jumps over the lazy dog\n";

	switch (c) {
	case 'q':
		print("bye\n");
		poweroff();
	case 'p':
		panic_notify();
		break;
	case 'f':
		triple_fault();
	case 'r':
		reset_acpi();
		break;
	case 's':
		irq_disable();
		for (;;)
			hlt();
	case 'o':
		/* Formatting is what takes long here. */
		for (unsigned i = 0; i < MUCH; i++)
			print_bytes(line, sizeof(line) - 1);
		print("much\n");
		break;
	default:
		print("<%u>\n", c);
		break;
	}
}

void main(void)
{
	/* In the way of whoever wants to end this. */
	smp_start_all();
	for (unsigned i = 1; i < acpi.ncpus; i++)
		smp_post(i, spin, NULL);
	irq_init();
	ioapic_route(COM1_GSI, VECTOR_UART, 0, 0);
	out8(COM1 + UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	out8(COM1 + UART_IER, UART_IER_RX);
	print("ready\n");
	for (;;) {
		/* What arrives between the last look and here still wakes: sti takes effect late.
		 */
		asm volatile("sti\n\thlt\n\tcli" : : : "memory");
		while (in8(COM1 + UART_LSR) & UART_LSR_DR)
			key(in8(COM1 + UART_RBR));
	}
}
