/*
 * The 16550 as a chip against its data sheet (TI PC16550D; section numbers are of 8.0 REGISTERS),
 * with nothing around it: pins are recorded, time passes when the test says so.
 */
#include <string.h>

#include <criterion/criterion.h>

#include "devices/emulated/uart16550.h"

enum { THR = 0, RBR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

struct bench {
	struct uart_chip chip;
	char sent[256];
	size_t nsent;
	size_t room; /* what the other end takes */
	bool level;
	unsigned edges; /* low to high */
	unsigned listens;
	unsigned alarms;
	uint64_t alarm_ns;
};

static size_t on_send(void *opaque, const uint8_t *buf, size_t len)
{
	struct bench *b = opaque;

	if (len > b->room)
		len = b->room;
	b->room -= len;
	memcpy(b->sent + b->nsent, buf, len);
	b->nsent += len;
	return len;
}

static void on_interrupt(void *opaque, bool level)
{
	struct bench *b = opaque;

	b->edges += level && !b->level;
	b->level = level;
}

static void on_listen(void *opaque)
{
	((struct bench *)opaque)->listens++;
}

static void on_alarm(void *opaque, uint64_t ns)
{
	struct bench *b = opaque;

	b->alarms++;
	b->alarm_ns = ns;
}

static const struct uart_ops ops = { on_send, on_interrupt, on_listen, on_alarm };

static struct bench bench;

static void set_up(void)
{
	memset(&bench, 0, sizeof(bench));
	bench.room = sizeof(bench.sent);
	uart_init(&bench.chip, &ops, &bench);
}

TestSuite(uart, .init = set_up, .timeout = 20);

static uint8_t in(unsigned reg)
{
	return uart_read(&bench.chip, reg);
}

static void out(unsigned reg, uint8_t value)
{
	uart_write(&bench.chip, reg, value);
}

/* With FIFOs, all of `ier`, and OUT2 so that the pin is connected. */
static void enable(uint8_t fcr, uint8_t ier)
{
	out(MCR, UART_MCR_OUT2);
	out(FCR, fcr);
	out(IER, ier);
}

static void arrive(const char *text)
{
	uart_receive(&bench.chip, (const uint8_t *)text, strlen(text));
}

static void time_passes(void)
{
	cr_assert(bench.chip.alarm_set);
	uart_alarm(&bench.chip);
}

/* ---- reset and decoding ---------------------------------------------------------------------- */

/* Table III, and the table of the chip itself. */
Test(uart, reset_values)
{
	cr_assert_eq(in(IER), 0);
	cr_assert_eq(in(IIR), UART_IIR_NONE);
	cr_assert_eq(in(LCR), 0);
	cr_assert_eq(in(MCR), 0);
	cr_assert_eq(in(LSR), UART_LSR_THRE | UART_LSR_TEMT);
	cr_assert_eq(in(MSR)&0x0f, 0);
	cr_assert_eq(in(SCR), 0);
	for (unsigned i = 0; i < uart_registers.count; i++) {
		const struct reg *r = &uart_registers.reg[i];

		if (!(r->access & REG_READ))
			continue;
		out(LCR, r->bank == UART_BANK_DIVISOR ? UART_LCR_DLAB : 0);
		cr_assert_eq(in(r->offset), r->reset, "%s", r->name);
		out(LCR, 0);
	}
}

Test(uart, reset_after_use)
{
	enable(0xc1, 0x0f);
	arrive("some input");
	out(THR, 'x');
	out(SCR, 0x55);
	uart_reset(&bench.chip);
	cr_assert(!bench.level);
	cr_assert_eq(in(IER), 0);
	cr_assert_eq(in(IIR), UART_IIR_NONE);
	cr_assert_eq(in(LSR), UART_LSR_THRE | UART_LSR_TEMT);
	cr_assert_eq(in(MCR), 0);
}

Test(uart, names_for_traces)
{
	cr_assert_str_eq(uart_register_name(&bench.chip, 0, false), "RBR");
	cr_assert_str_eq(uart_register_name(&bench.chip, 0, true), "THR");
	cr_assert_str_eq(uart_register_name(&bench.chip, 2, false), "IIR");
	cr_assert_str_eq(uart_register_name(&bench.chip, 2, true), "FCR");
	out(LCR, UART_LCR_DLAB);
	cr_assert_str_eq(uart_register_name(&bench.chip, 0, true), "DLL");
	cr_assert_str_eq(uart_register_name(&bench.chip, 1, true), "DLM");
	cr_assert_str_eq(uart_register_name(&bench.chip, 8, true), "?");
}

/* 8.1: DLAB switches the first two registers to the divisor. */
Test(uart, divisor_latch)
{
	out(LCR, UART_LCR_DLAB | 3);
	out(0, 0x34);
	out(1, 0x12);
	cr_assert_eq(in(0), 0x34);
	cr_assert_eq(in(1), 0x12);
	out(LCR, 3);
	cr_assert_eq(in(IER), 0);
	cr_assert_eq(bench.nsent, 0);
	out(LCR, UART_LCR_DLAB);
	cr_assert_eq(in(0), 0x34);
	cr_assert_eq(in(1), 0x12);
}

/* Bits that do not exist stay zero; SCR has no influence; LSR and MSR are not for writing. */
Test(uart, writable_bits)
{
	out(IER, 0xff);
	cr_assert_eq(in(IER), 0x0f);
	out(MCR, 0xff);
	cr_assert_eq(in(MCR), 0x1f);
	out(MCR, 0);
	out(LCR, 0x7f);
	cr_assert_eq(in(LCR), 0x7f);
	out(SCR, 0xa5);
	cr_assert_eq(in(SCR), 0xa5);
	out(LSR, 0xff);
	cr_assert_eq(in(LSR), UART_LSR_THRE | UART_LSR_TEMT);
	in(MSR);
	out(MSR, 0xff);
	cr_assert_eq(in(MSR), UART_MSR_CTS | UART_MSR_DSR);
}

/* 8.5: FCR bit 0 must be set while the others are programmed. */
Test(uart, fifo_enable_shows_in_iir)
{
	cr_assert_eq(in(IIR)&UART_IIR_FIFOS, 0);
	out(FCR, UART_FCR_TRIGGER);
	cr_assert_eq(in(IIR)&UART_IIR_FIFOS, 0);
	out(FCR, UART_FCR_ENABLE);
	cr_assert_eq(in(IIR)&UART_IIR_FIFOS, UART_IIR_FIFOS);
	out(FCR, 0);
	cr_assert_eq(in(IIR)&UART_IIR_FIFOS, 0);
}

/* ---- receiver -------------------------------------------------------------------------------- */

Test(uart, character_mode_holds_one)
{
	enable(0, UART_IER_ERBFI);
	arrive("ab");
	cr_assert(bench.level);
	cr_assert_eq(in(IIR), UART_IIR_RDA);
	cr_assert(in(LSR)&UART_LSR_DR);
	cr_assert_eq(in(RBR), 'a');
	/* The next one is another edge, not one level over both. */
	cr_assert_eq(bench.edges, 2);
	cr_assert_eq(in(RBR), 'b');
	cr_assert(!bench.level);
	cr_assert(!(in(LSR)&UART_LSR_DR));
	cr_assert_eq(in(RBR), 'b', "reading an empty receiver gives the last character");
}

/* 8.5 and "FIFO interrupt mode operation": RDA at the trigger level, off below it. */
Test(uart, trigger_levels)
{
	static const struct {
		uint8_t bits;
		unsigned level;
	} want[] = { { 0x00, 1 }, { 0x40, 4 }, { 0x80, 8 }, { 0xc0, 14 } };

	for (unsigned i = 0; i < 4; i++) {
		set_up();
		enable(UART_FCR_ENABLE | want[i].bits, UART_IER_ERBFI);
		for (unsigned n = 1; n <= want[i].level; n++) {
			arrive("x");
			cr_assert_eq(in(IIR)&0x0f, n < want[i].level ? UART_IIR_CTI : UART_IIR_RDA,
				     "level %u with %u", want[i].level, n);
		}
		in(RBR);
		cr_assert_neq(in(IIR)&0x0f, UART_IIR_RDA);
	}
}

/* The time-out: cleared by reading, back four character times later. */
Test(uart, character_timeout)
{
	enable(UART_FCR_ENABLE | 0xc0, UART_IER_ERBFI);
	arrive("abc");
	cr_assert(bench.level);
	cr_assert_eq(in(IIR), UART_IIR_CTI | UART_IIR_FIFOS);
	cr_assert_eq(in(RBR), 'a');
	cr_assert(!bench.level);
	cr_assert_eq(in(IIR), UART_IIR_NONE | UART_IIR_FIFOS);
	time_passes(); /* since the last read: it was read in this time */
	time_passes();
	cr_assert(bench.level);
	cr_assert_eq(in(IIR), UART_IIR_CTI | UART_IIR_FIFOS);
	in(RBR);
	in(RBR);
	cr_assert(!bench.level);
	time_passes();
	cr_assert(!bench.level);
	cr_assert(!bench.chip.alarm_set);
}

Test(uart, timeout_follows_the_line_settings)
{
	enable(UART_FCR_ENABLE | 0xc0, UART_IER_ERBFI);
	out(LCR, UART_LCR_DLAB | 3);
	out(0, 1);
	out(LCR, 3);
	arrive("ab");
	in(RBR);
	/* 8N1 at 115200: ten bits, four times. */
	cr_assert_eq(bench.alarm_ns / 1000, 347);
	out(LCR, UART_LCR_DLAB);
	out(0, 0xff);
	out(1, 0xff);
	out(LCR, 0);
	time_passes();
	cr_assert_leq(bench.alarm_ns, 10000000);
}

Test(uart, nothing_is_taken_before_the_guest_listens)
{
	out(FCR, UART_FCR_ENABLE);
	cr_assert_eq(uart_room(&bench.chip), 0);
	out(IER, UART_IER_ERBFI);
	cr_assert_gt(uart_room(&bench.chip), 0);
	cr_assert_gt(bench.listens, 0);
	out(IER, 0);
	cr_assert_eq(uart_room(&bench.chip), 0);
}

/* A guest that polls has no interrupt enabled; one that waits for its transmitter also reads LSR.
 */
Test(uart, polling_lsr_is_listening)
{
	for (unsigned i = 0; i < 100; i++) {
		cr_assert(in(LSR)&UART_LSR_THRE);
		out(THR, '.');
	}
	cr_assert_eq(uart_room(&bench.chip), 0);
	for (unsigned i = 0; i < 100; i++)
		in(LSR);
	cr_assert_gt(uart_room(&bench.chip), 0);
	arrive("k");
	cr_assert(in(LSR)&UART_LSR_DR);
	cr_assert_eq(in(RBR), 'k');
	out(THR, 'k');
	cr_assert_gt(uart_room(&bench.chip), 0, "still listening");
}

/* Some look at the modem's lines in between (Windows' debugger, EDK2). */
Test(uart, polling_may_look_at_other_registers)
{
	for (unsigned i = 0; i < 100; i++) {
		in(LSR);
		in(MSR);
		in(MCR);
		in(IIR);
	}
	cr_assert_gt(uart_room(&bench.chip), 0);
}

/* The race: room was offered, then the guest took it away. Nothing that arrives is dropped. */
Test(uart, what_is_on_the_line_survives_a_fifo_reset)
{
	char got[64];
	size_t n = 0;

	enable(UART_FCR_ENABLE | 0x80, UART_IER_ERBFI);
	out(IER, 0);
	arrive("typed while the driver starts");
	out(FCR, UART_FCR_ENABLE | UART_FCR_RESET_R | UART_FCR_RESET_X);
	out(FCR, 0);
	out(FCR, UART_FCR_ENABLE);
	cr_assert(!(in(LSR)&UART_LSR_DR));
	out(IER, UART_IER_ERBFI);
	while (in(LSR)&UART_LSR_DR)
		got[n++] = (char)in(RBR);
	got[n] = '\0';
	cr_assert_str_eq(got, "typed while the driver starts");
}

Test(uart, receiver_reset_clears_the_fifo)
{
	enable(UART_FCR_ENABLE, UART_IER_ERBFI);
	arrive("stale");
	out(FCR, UART_FCR_ENABLE | UART_FCR_RESET_R);
	cr_assert(!(in(LSR)&UART_LSR_DR));
	cr_assert_eq(in(IIR), UART_IIR_NONE | UART_IIR_FIFOS);
	cr_assert(!bench.level);
}

/* 8.4 and 8.5: a break is a character with BI, shown when it gets to the top of the FIFO. */
Test(uart, break_condition)
{
	enable(UART_FCR_ENABLE, UART_IER_ERBFI | UART_IER_ELSI);
	arrive("a");
	uart_break(&bench.chip);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_RDA, "not at the top yet");
	cr_assert_eq(in(LSR) & (UART_LSR_BI | UART_LSR_FIFOE), UART_LSR_FIFOE);
	cr_assert_eq(in(RBR), 'a');
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_RLS);
	cr_assert_eq(in(LSR) & (UART_LSR_BI | UART_LSR_FIFOE | UART_LSR_DR),
		     UART_LSR_BI | UART_LSR_FIFOE | UART_LSR_DR);
	cr_assert_eq(in(LSR) & (UART_LSR_BI | UART_LSR_FIFOE), 0, "reading LSR clears it");
	cr_assert_eq(in(RBR), 0);
	cr_assert(!(in(LSR)&UART_LSR_DR));
}

/* ---- transmitter ----------------------------------------------------------------------------- */

Test(uart, bytes_go_out_in_order)
{
	for (const char *p = "hello"; *p; p++) {
		cr_assert(in(LSR)&UART_LSR_THRE);
		out(THR, (uint8_t)*p);
	}
	cr_assert_eq(bench.nsent, 5);
	cr_assert_arr_eq(bench.sent, "hello", 5);
	cr_assert_eq(bench.edges, 0);
	cr_assert_eq(bench.alarms, 0, "polled output sets no timer");
}

/* Table IV: set when THR becomes empty, reset by reading IIR (if it is the source) or writing THR.
 */
Test(uart, thre_interrupt)
{
	enable(0, UART_IER_ETBEI);
	cr_assert(bench.level, "enabling it with an empty transmitter asks at once");
	cr_assert_eq(in(IIR), UART_IIR_THRE);
	cr_assert(!bench.level);
	cr_assert_eq(in(IIR), UART_IIR_NONE);
	cr_assert(in(LSR)&UART_LSR_THRE, "the status is not the interrupt");

	out(THR, 'a');
	cr_assert(bench.level);
	cr_assert_eq(bench.edges, 2);
	/* A driver that only writes gets an edge for each byte. */
	out(THR, 'b');
	cr_assert(bench.level);
	cr_assert_eq(bench.edges, 3);

	out(IER, 0);
	cr_assert(!bench.level);
	out(IER, UART_IER_ETBEI);
	cr_assert_eq(in(IIR), UART_IIR_THRE, "asserted again when enabled again");
}

Test(uart, thre_stays_pending_behind_a_higher_source)
{
	enable(UART_FCR_ENABLE, UART_IER_ETBEI | UART_IER_ERBFI);
	arrive("r");
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_RDA);
	in(RBR);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_THRE);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_NONE);
}

/* In FIFO mode a burst gives one interrupt, whatever the driver does after it. */
Test(uart, thre_interrupt_per_burst)
{
	enable(UART_FCR_ENABLE, UART_IER_ETBEI);
	in(IIR);
	cr_assert_eq(bench.edges, 1);
	for (unsigned i = 0; i < UART_FIFO; i++)
		out(THR, 'a');
	cr_assert_eq(bench.edges, 2, "16 bytes");
	in(IIR);
	for (unsigned i = 0; i < 5; i++)
		out(THR, 'b');
	cr_assert_eq(bench.edges, 2);
	time_passes();
	cr_assert_eq(bench.edges, 3, "fewer, and nothing after them");
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_THRE);
	out(THR, 'c');
	cr_assert(in(LSR)&UART_LSR_THRE);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_THRE, "fewer, and a look at the status");
	/* A driver that never reads IIR. */
	out(THR, 'd');
	time_passes();
	unsigned before = bench.edges;
	out(THR, 'e');
	time_passes();
	cr_assert_eq(bench.edges, before + 1);
}

Test(uart, a_stuck_line_holds_thre)
{
	enable(UART_FCR_ENABLE, UART_IER_ETBEI);
	in(IIR);
	bench.room = 2;
	for (const char *p = "abcdef"; *p; p++)
		out(THR, (uint8_t)*p);
	cr_assert_eq(bench.nsent, 2);
	cr_assert_eq(in(LSR) & (UART_LSR_THRE | UART_LSR_TEMT), 0);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_NONE);
	if (bench.chip.alarm_set)
		time_passes();
	cr_assert(!bench.level);

	bench.room = 1;
	uart_writable(&bench.chip);
	cr_assert_eq(in(LSR)&UART_LSR_THRE, 0);
	bench.room = 100;
	uart_writable(&bench.chip);
	cr_assert(bench.level);
	cr_assert_eq(in(LSR) & (UART_LSR_THRE | UART_LSR_TEMT), UART_LSR_THRE | UART_LSR_TEMT);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_THRE);
	cr_assert_eq(bench.nsent, 6);
	cr_assert_arr_eq(bench.sent, "abcdef", 6);
}

Test(uart, writing_a_full_transmitter_loses_only_that)
{
	bench.room = 0;
	out(FCR, UART_FCR_ENABLE);
	for (unsigned i = 0; i < 1000; i++)
		out(THR, (uint8_t)i);
	bench.room = 100;
	uart_writable(&bench.chip);
	cr_assert_eq(bench.nsent, UART_FIFO);
	for (unsigned i = 0; i < UART_FIFO; i++)
		cr_assert_eq(bench.sent[i], (char)i);
	set_up();
	bench.room = 0;
	out(THR, 'a');
	out(THR, 'b');
	bench.room = 100;
	uart_writable(&bench.chip);
	cr_assert_eq(bench.nsent, 1);
	cr_assert_eq(bench.sent[0], 'b', "in character mode THR is overwritten");
}

Test(uart, transmitter_reset)
{
	bench.room = 0;
	enable(UART_FCR_ENABLE, 0);
	out(THR, 'a');
	cr_assert_eq(in(LSR)&UART_LSR_THRE, 0);
	out(FCR, UART_FCR_ENABLE | UART_FCR_RESET_X);
	cr_assert(in(LSR)&UART_LSR_THRE);
	bench.room = 100;
	uart_writable(&bench.chip);
	cr_assert_eq(bench.nsent, 0);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

/* Table IV: line status, then data, then transmitter, then modem. */
Test(uart, priorities)
{
	enable(UART_FCR_ENABLE, 0);
	out(MCR, UART_MCR_LOOP);
	for (unsigned i = 0; i < UART_FIFO + 1; i++)
		out(THR, 'x');
	out(MCR, UART_MCR_OUT2);
	out(IER, 0x0f);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_RLS);
	cr_assert(in(LSR)&UART_LSR_OE);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_RDA);
	out(FCR, UART_FCR_ENABLE | UART_FCR_RESET_R);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_THRE);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_MS, "the modem lines came back from loopback");
	cr_assert(bench.level);
	in(MSR);
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_NONE);
	cr_assert(!bench.level);
}

Test(uart, disabled_sources_are_silent)
{
	out(MCR, UART_MCR_OUT2 | UART_MCR_LOOP);
	for (unsigned i = 0; i < 20; i++)
		out(THR, 'x');
	out(MCR, UART_MCR_OUT2);
	cr_assert_eq(in(IIR), UART_IIR_NONE);
	cr_assert_eq(bench.edges, 0);
}

/* On a PC the pin goes through a gate that OUT2 opens. */
Test(uart, out2_gates_the_pin)
{
	out(IER, UART_IER_ETBEI);
	cr_assert(!bench.level);
	out(MCR, UART_MCR_OUT2);
	cr_assert(bench.level);
	out(MCR, UART_MCR_OUT2 | UART_MCR_LOOP);
	cr_assert(!bench.level, "loopback turns the OUT2 pin off");
	out(MCR, 0);
	cr_assert(!bench.level);
	cr_assert_eq(in(IIR), UART_IIR_THRE, "the register shows it all the same");
}

/* ---- modem lines and loopback ---------------------------------------------------------------- */

Test(uart, carrier_follows_the_other_end)
{
	enable(0, UART_IER_EDSSI);
	uart_carrier(&bench.chip, true);
	cr_assert(bench.level);
	cr_assert_eq(in(IIR), UART_IIR_MS);
	cr_assert_eq(in(MSR), UART_MSR_DCD | UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DDCD);
	cr_assert(!bench.level);
	cr_assert_eq(in(MSR), UART_MSR_DCD | UART_MSR_CTS | UART_MSR_DSR);
	uart_carrier(&bench.chip, false);
	cr_assert_eq(in(MSR), UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DDCD);
}

/* 8.7: DTR, RTS, OUT1 and OUT2 come back as DSR, CTS, RI and DCD. */
Test(uart, loopback_modem_lines)
{
	static const struct {
		uint8_t mcr, line, delta;
	} want[] = {
		{ UART_MCR_DTR, UART_MSR_DSR, UART_MSR_DDSR },
		{ UART_MCR_RTS, UART_MSR_CTS, UART_MSR_DCTS },
		{ UART_MCR_OUT1, UART_MSR_RI, 0 },
		{ UART_MCR_OUT2, UART_MSR_DCD, UART_MSR_DDCD },
	};

	out(MCR, UART_MCR_LOOP);
	in(MSR);
	for (unsigned i = 0; i < 4; i++) {
		out(MCR, UART_MCR_LOOP | want[i].mcr);
		cr_assert_eq(in(MSR), want[i].line | want[i].delta);
		out(MCR, UART_MCR_LOOP);
		/* The ring indicator counts when it ends. */
		cr_assert_eq(in(MSR), want[i].line == UART_MSR_RI ? UART_MSR_TERI : want[i].delta);
	}
}

Test(uart, loopback_data)
{
	out(FCR, UART_FCR_ENABLE);
	out(MCR, UART_MCR_LOOP);
	out(THR, 0x5a);
	cr_assert_eq(bench.nsent, 0, "nothing leaves");
	cr_assert(in(LSR)&UART_LSR_DR);
	cr_assert_eq(in(RBR), 0x5a);
}

/* What comes from outside waits until loopback is over. */
Test(uart, loopback_disconnects_the_input)
{
	enable(UART_FCR_ENABLE, UART_IER_ERBFI);
	out(MCR, UART_MCR_LOOP);
	arrive("outside");
	cr_assert(!(in(LSR)&UART_LSR_DR));
	out(THR, 'i');
	cr_assert_eq(in(RBR), 'i');
	out(MCR, 0);
	for (const char *p = "outside"; *p; p++)
		cr_assert_eq(in(RBR), *p);
}

Test(uart, loopback_overrun_with_fifos)
{
	out(FCR, UART_FCR_ENABLE);
	out(MCR, UART_MCR_LOOP);
	for (unsigned i = 0; i < UART_FIFO; i++)
		out(THR, (uint8_t)i);
	cr_assert(!(in(LSR)&UART_LSR_OE));
	out(THR, 0xff);
	cr_assert(in(LSR)&UART_LSR_OE);
	cr_assert(!(in(LSR)&UART_LSR_OE));
	for (unsigned i = 0; i < UART_FIFO; i++)
		cr_assert_eq(in(RBR), i, "the FIFO is intact, the newcomer lost");
	cr_assert(!(in(LSR)&UART_LSR_DR));
}

Test(uart, loopback_overrun_in_character_mode)
{
	out(MCR, UART_MCR_LOOP);
	out(THR, 'a');
	out(THR, 'b');
	cr_assert(in(LSR)&UART_LSR_OE);
	cr_assert_eq(in(RBR), 'b', "the older one is overwritten");
	cr_assert(!(in(LSR)&UART_LSR_DR));
}

/* ---- a hostile guest ------------------------------------------------------------------------- */

/* Any access in any order: the sanitizers watch, and input still arrives in order after a reset. */
Test(uart, random_accesses)
{
	uint32_t seed = 12345;

	for (unsigned i = 0; i < 200000; i++) {
		seed = seed * 1664525u + 1013904223u;
		if (seed & 0x100)
			out((seed >> 12) & 15, (uint8_t)(seed >> 20));
		else
			in((seed >> 12) & 15);
		bench.nsent = 0;
		bench.room = (seed >> 16) & 3;
		if ((seed >> 28) == 0)
			arrive("input");
		if ((seed >> 28) == 1)
			uart_writable(&bench.chip);
		if ((seed >> 28) == 2)
			uart_break(&bench.chip);
		if ((seed >> 28) == 3 && bench.chip.alarm_set)
			uart_alarm(&bench.chip);
		if ((seed >> 28) == 4)
			uart_carrier(&bench.chip, seed & 0x200);
		cr_assert_leq(bench.chip.rx.count, UART_FIFO);
		cr_assert_leq(bench.chip.tx_count, UART_FIFO);
		cr_assert_leq(bench.chip.line_count, UART_LINE);
	}
}
