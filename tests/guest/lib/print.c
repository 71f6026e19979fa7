/*
 * Text to COM1 without interrupts: a line is formatted into a buffer and goes out in pieces of a
 * transmit FIFO each, by one string instruction. And TAP on top of it.
 */
#include "guest.h"
#include "uart.h"

#define LINE 512

static char line[LINE];
static unsigned line_len;
static unsigned checks, failures;

void print_init(void)
{
	out8(COM1 + UART_LCR, UART_LCR_8N1);
	out8(COM1 + UART_IER, 0);
	/* Not the receiver's clear bit: what was typed stays. */
	out8(COM1 + UART_FCR, UART_FCR_ENABLE);
	out8(COM1 + UART_MCR, UART_MCR_DTR | UART_MCR_RTS);
}

void print_bytes(const char *s, size_t n)
{
	while (n) {
		size_t part = n < UART_FIFO ? n : UART_FIFO;

		while (!(in8(COM1 + UART_LSR) & UART_LSR_THRE))
			cpu_relax();
		outs8(COM1 + UART_THR, s, part);
		s += part;
		n -= part;
	}
}

void print_drain(void)
{
	while (!(in8(COM1 + UART_LSR) & UART_LSR_TEMT))
		cpu_relax();
}

static void put(char c)
{
	line[line_len++] = c;
	if (c == '\n' || line_len == LINE) {
		print_bytes(line, line_len);
		line_len = 0;
	}
}

static void put_number(uint64_t value, unsigned base, unsigned width, char pad)
{
	char digits[20];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	for (; width > n; width--)
		put(pad);
	while (n)
		put(digits[--n]);
}

/* %s %c %% and d u x with l, 0 and a width. */
static void vprint(const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		unsigned width = 0;
		char pad = ' ';
		bool wide = false;
		uint64_t value;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		fmt++;
		if (*fmt == '0')
			pad = *fmt++;
		while (*fmt >= '0' && *fmt <= '9')
			width = width * 10 + (unsigned)(*fmt++ - '0');
		while (*fmt == 'l' || *fmt == 'z') {
			wide = true;
			fmt++;
		}
		switch (*fmt) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put(*s);
			break;
		case 'c':
			put((char)va_arg(ap, int));
			break;
		case 'd':
			value = wide ? va_arg(ap, uint64_t) : (uint64_t)(int64_t)va_arg(ap, int);
			if ((int64_t)value < 0) {
				put('-');
				value = -value;
			}
			put_number(value, 10, width, pad);
			break;
		case 'u':
		case 'x':
			value = wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);
			put_number(value, *fmt == 'x' ? 16 : 10, width, pad);
			break;
		default:
			put(*fmt);
			break;
		}
	}
}

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
}

static void result(bool ok, const char *name, va_list ap)
{
	checks++;
	if (!ok)
		failures++;
	print("%sok %u - ", ok ? "" : "not ", checks);
	vprint(name, ap);
	print("\n");
}

void check_result(bool ok, const char *name, ...)
{
	va_list ap;

	va_start(ap, name);
	result(ok, name, ap);
	va_end(ap);
}

bool check_equal(uint64_t got, uint64_t want, const char *name, ...)
{
	va_list ap;

	va_start(ap, name);
	result(got == want, name, ap);
	va_end(ap);
	if (got != want)
		print("# got 0x%lx, want 0x%lx\n", got, want);
	return got == want;
}

void skip(const char *name, const char *why)
{
	print("ok %u - %s # SKIP %s\n", ++checks, name, why);
}

unsigned check_failures(void)
{
	return failures;
}

void plan(void)
{
	print("1..%u\n", checks);
	print_drain();
}

void bail(const char *fmt, ...)
{
	va_list ap;

	if (line_len)
		print("\n");
	print("Bail out! ");
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	print("\n");
	print_drain();
	panic_notify();
	irq_disable();
	for (;;)
		hlt();
}
