/*
 * Port I/O: every width, string instructions, and ports where nothing answers.
 *
 * mvm:
 */
#include "guest.h"
#include "pci.h"
#include "uart.h"

#define NOBODY	       0x2000 /* below the PCI window, above all fixed ports */
#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc
#define BRIDGE	       0x80000000u

static void unclaimed(void)
{
	uint32_t l[4];
	uint16_t w[8];
	uint8_t b[16];

	check_equal(in8(NOBODY), 0xff, "unclaimed port, 8 bits, reads all ones");
	check_equal(in16(NOBODY), 0xffff, "unclaimed port, 16 bits");
	check_equal(in32(NOBODY), 0xffffffff, "unclaimed port, 32 bits");
	check_equal(in8(0xffff), 0xff, "the last port");
	out8(NOBODY, 0x12);
	out16(NOBODY, 0x1234);
	out32(NOBODY, 0x12345678);
	check_equal(in32(NOBODY), 0xffffffff, "writing there changes nothing");

	memset(b, 0, sizeof(b));
	memset(w, 0, sizeof(w));
	memset(l, 0, sizeof(l));
	ins8(NOBODY, b, 15);
	ins16(NOBODY, w, 7);
	ins32(NOBODY, l, 3);
	check(b[0] == 0xff && b[14] == 0xff && b[15] == 0, "rep insb takes as many as asked");
	check(w[0] == 0xffff && w[6] == 0xffff && w[7] == 0, "rep insw");
	check(l[0] == 0xffffffff && l[2] == 0xffffffff && l[3] == 0, "rep insl");
	b[0] = 0x55;
	ins8(NOBODY, b, 0);
	check_equal(b[0], 0x55, "rep insb of nothing does nothing");
}

/* The PCI bridge's first register is a constant that every width can be held against. */
static void widths(void)
{
	uint32_t id, copy[4];

	out32(CONFIG_ADDRESS, BRIDGE);
	check_equal(in32(CONFIG_ADDRESS), BRIDGE, "a 32-bit register holds what was written");
	out8(CONFIG_ADDRESS, 0x44);
	out16(CONFIG_ADDRESS, 0x4444);
	check_equal(in32(CONFIG_ADDRESS), BRIDGE, "narrow writes are not for that register");
	id = in32(CONFIG_DATA);
	check(id != 0 && id != 0xffffffff, "the bridge has an id: 0x%08x", id);
	check_equal(in16(CONFIG_DATA), id & 0xffff, "16 bits at 0");
	check_equal(in16(CONFIG_DATA + 2), id >> 16, "16 bits at 2");
	for (unsigned i = 0; i < 4; i++)
		check_equal(in8((uint16_t)(CONFIG_DATA + i)), id >> 8 * i & 0xff, "8 bits at %u",
			    i);
	memset(copy, 0, sizeof(copy));
	ins32(CONFIG_DATA, copy, 3);
	check(copy[0] == id && copy[1] == id && copy[2] == id && copy[3] == 0,
	      "rep insl reads the port again and again");
	out32(CONFIG_ADDRESS, 0);
	check_equal(in32(CONFIG_DATA), 0xffffffff, "data port without enable");
}

/* Two ranges, or the end of one, under one access. */
static void straddling(void)
{
	out8(COM1 + UART_SCR, 0x5a);
	check_equal(in8(COM1 + UART_SCR), 0x5a, "8 bits at the end of a device");
	check_equal(in16(COM1 + UART_SCR), 0xffff, "16 bits over its end hit nothing");
	check_equal(in32(COM1 + UART_MSR), 0xffffffff, "32 bits over its end hit nothing");
	out16(COM1 + UART_SCR, 0x1111);
	check_equal(in8(COM1 + UART_SCR), 0x5a, "nor do writes");
	check_equal(in16(COM1 - 1), 0xffff, "16 bits over its beginning hit nothing");
	check_equal(in16(COM1 + UART_MSR) >> 8, 0x5a, "16 bits inside are two registers");
}

/* Through the UART's loop: what goes out by a string instruction comes in by another. */
static void strings(void)
{
	static const char text[] = "0123456789abcdef";
	/* So that the source crosses a page. */
	char *from = (char *)alloc(8192, 4096) + 4096 - 8;
	char *to = (char *)alloc(8192, 4096) + 4096 - 5;

	memcpy(from, text, sizeof(text));
	print_drain();
	out8(COM1 + UART_MCR, UART_MCR_LOOP);
	out8(COM1 + UART_FCR, UART_FCR_ENABLE | UART_FCR_CLEAR_RX);
	outs8(COM1 + UART_THR, from, 16);
	ins8(COM1 + UART_RBR, to, 16);
	print_init();
	check(!memcmp(to, text, 16), "rep outsb and rep insb over a page boundary");

	out8(COM1 + UART_MCR, UART_MCR_LOOP);
	from += 15;
	to += 15;
	{
		size_t n = 16, m = 16;

		asm volatile("std\n\trep outsb\n\tcld"
			     : "+S"(from), "+c"(n)
			     : "d"(COM1)
			     : "memory");
		asm volatile("std\n\trep insb\n\tcld" : "+D"(to), "+c"(m) : "d"(COM1) : "memory");
	}
	print_init();
	check(!memcmp(to + 1, text, 16), "and backwards");
}

void main(void)
{
	unclaimed();
	widths();
	straddling();
	strings();
}
