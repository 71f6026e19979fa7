/*
 * The 8254 against its data sheet: the six modes with their outputs and counts, gates, how counts
 * are written, latched and read back. The test counts the clocks.
 */
#include <stdlib.h>

#include <criterion/criterion.h>

#include "devices/emulated/i8254.h"

#define LSB	0x10
#define MSB	0x20
#define BOTH	0x30
#define BCD	0x01
#define MODE(m) ((m) << 1)
#define SC(c)	((c) << 6)

static struct i8254 pit;
static int64_t now;

static void set_up(void)
{
	now = 1000000;
	i8254_reset(&pit, now);
}

TestSuite(i8254, .init = set_up);

static void out(unsigned address, unsigned value)
{
	i8254_write(&pit, address, (uint8_t)value, now);
}

static unsigned in(unsigned address)
{
	return i8254_read(&pit, address, now);
}

static void program(unsigned counter, unsigned mode, unsigned count)
{
	out(I8254_CONTROL, SC(counter) | BOTH | MODE(mode));
	out(counter, count & 0xff);
	out(counter, count >> 8);
}

static unsigned count(unsigned counter)
{
	unsigned low;

	out(I8254_CONTROL, SC(counter));
	low = in(counter);
	return low | in(counter) << 8;
}

static bool level(unsigned counter)
{
	return i8254_out(&pit, counter, now);
}

/* OUT for the next clocks as the data sheet draws it: one character a clock. */
static void draws(unsigned counter, const char *wave)
{
	for (unsigned i = 0; wave[i]; i++) {
		now++;
		cr_assert_eq(level(counter), wave[i] == '-', "clock %u of %s", i + 1, wave);
	}
}

static void gate(unsigned counter, bool on)
{
	i8254_set_gate(&pit, counter, on, now);
}

Test(i8254, mode_0_interrupt_on_terminal_count)
{
	out(I8254_CONTROL, BOTH | MODE(0));
	cr_assert(!level(0), "the control word sets OUT low");
	program(0, 0, 4);
	draws(0, "____-----");
	cr_assert_eq(count(0), 0xfffc, "it goes on counting");
	program(0, 0, 3);
	draws(0, "__");
	out(0, 2);
	draws(0, "____");
	out(0, 0); /* the other half */
	draws(0, "__--");
}

Test(i8254, mode_0_gate)
{
	program(2, 0, 4);
	draws(2, "____");
	cr_assert_eq(count(2), 4, "the gate is low");
	gate(2, true);
	draws(2, "__");
	gate(2, false);
	cr_assert_eq(count(2), 2);
	draws(2, "_____");
	cr_assert_eq(count(2), 2, "it holds the count");
	gate(2, true);
	draws(2, "_--");
}

Test(i8254, mode_1_retriggerable_one_shot)
{
	program(2, 1, 3);
	draws(2, "---");
	gate(2, true);
	draws(2, "___-");
	gate(2, false);
	draws(2, "--");
	gate(2, true);
	draws(2, "__");
	gate(2, false);
	gate(2, true);
	draws(2, "___--");
	/* A new count waits for the next trigger. */
	gate(2, false);
	gate(2, true);
	draws(2, "_");
	out(2, 5);
	out(2, 0);
	draws(2, "__--");
	gate(2, false);
	gate(2, true);
	draws(2, "_____--");
}

Test(i8254, mode_2_rate_generator)
{
	program(0, 2, 4);
	draws(0, "---_---_---_");
	/* A new count takes effect after the period. */
	out(0, 2);
	out(0, 0);
	draws(0, "-_-_-_");
}

Test(i8254, mode_2_gate)
{
	program(2, 2, 3);
	draws(2, "----");
	gate(2, true);
	draws(2, "--_--_");
	gate(2, false);
	cr_assert(level(2), "low, it sets OUT high at once");
	draws(2, "---");
	gate(2, true);
	draws(2, "--_--_");
}

Test(i8254, mode_3_square_wave)
{
	program(0, 3, 4);
	draws(0, "--__--__--__");
	program(0, 3, 5);
	draws(0, "---__---__---__");
	/* After the half period that is under way. */
	program(0, 3, 8);
	draws(0, "--");
	out(0, 4);
	out(0, 0);
	draws(0, "--__--__");
}

Test(i8254, mode_3_counts_by_two)
{
	program(0, 3, 8);
	now++;
	for (unsigned i = 0; i < 16; i++, now++)
		cr_assert_eq(count(0), 8 - 2 * (i % 4));
	program(0, 3, 5);
	now++;
	static const unsigned odd[] = { 4, 2, 0, 4, 2, 4, 2, 0, 4, 2 };
	for (unsigned i = 0; i < 10; i++, now++)
		cr_assert_eq(count(0), odd[i], "clock %u: %u", i, count(0));
}

Test(i8254, mode_4_software_strobe)
{
	program(0, 4, 3);
	draws(0, "---_----");
	cr_assert_eq(count(0), 0xfffc);
	program(0, 4, 3);
	draws(0, "--");
	out(0, 2);
	out(0, 0);
	draws(0, "--_---");
}

Test(i8254, mode_5_hardware_strobe)
{
	program(2, 5, 3);
	draws(2, "-----");
	gate(2, true);
	draws(2, "---_--");
	gate(2, false);
	gate(2, true);
	draws(2, "--");
	gate(2, false);
	gate(2, true);
	draws(2, "---_--");
}

Test(i8254, modes_6_and_7_are_2_and_3)
{
	program(0, 6, 3);
	draws(0, "--_--_");
	program(0, 7, 2);
	draws(0, "-_-_");
}

Test(i8254, bytes_of_a_count)
{
	out(I8254_CONTROL, LSB | MODE(2));
	out(0, 0x34);
	now++;
	cr_assert_eq(in(0), 0x34);
	cr_assert_eq(in(0), 0x34);
	out(I8254_CONTROL, MSB | MODE(2));
	out(0, 0x12);
	now++;
	cr_assert_eq(in(0), 0x12, "a count of 0x1200");
	now++;
	cr_assert_eq(in(0), 0x11);
	program(0, 2, 0);
	now++;
	cr_assert_eq(count(0), 0, "0 means 65536");
	now++;
	cr_assert_eq(count(0), 0xffff);
	program(0, 2, 0x1234);
	now++;
	cr_assert_eq(in(0), 0x34);
	now += 2;
	cr_assert_eq(in(0), 0x12, "low byte, then high");
	cr_assert_eq(in(0), 0x32);
}

Test(i8254, bcd)
{
	out(I8254_CONTROL, BOTH | MODE(0) | BCD);
	out(0, 0x00);
	out(0, 0x10);
	now++;
	cr_assert_eq(count(0), 0x1000);
	now++;
	cr_assert_eq(count(0), 0x0999);
	now += 999;
	cr_assert_eq(count(0), 0);
	cr_assert(level(0));
	now++;
	cr_assert_eq(count(0), 0x9999);
	out(0, 0);
	out(0, 0);
	now += 2;
	cr_assert_eq(count(0), 0x9999, "0 means 10000");
}

Test(i8254, counter_latch)
{
	program(0, 2, 0x2000);
	now++;
	out(I8254_CONTROL, SC(0));
	now += 100;
	out(I8254_CONTROL, SC(0));
	cr_assert_eq(in(0), 0x00, "a second latch does nothing before the first is read");
	now += 10;
	cr_assert_eq(in(0), 0x20);
	cr_assert_eq(in(0), (0x2000 - 110) & 0xff, "then it is live again");
}

Test(i8254, read_back)
{
	program(0, 2, 0x3000);
	program(2, 3, 7);
	out(I8254_CONTROL, I8254_READ_BACK | I8254_RB_NO_COUNT | 1 << 1);
	cr_assert_eq(in(0), I8254_STATUS_OUT | I8254_STATUS_NULL | BOTH | MODE(2),
		     "the count is not loaded yet");
	now++;
	/* Status and count of two counters at once. */
	out(I8254_CONTROL, I8254_READ_BACK | 1 << 1 | 1 << 3);
	now += 50;
	cr_assert_eq(in(0), I8254_STATUS_OUT | BOTH | MODE(2), "status first");
	cr_assert_eq(in(0), 0x00);
	cr_assert_eq(in(0), 0x30);
	cr_assert_eq(in(2), I8254_STATUS_OUT | BOTH | MODE(3));
	out(I8254_CONTROL, BOTH | MODE(0));
	out(I8254_CONTROL, I8254_READ_BACK | I8254_RB_NO_COUNT | 1 << 1);
	cr_assert_eq(in(0), I8254_STATUS_NULL | BOTH | MODE(0));
	out(I8254_CONTROL, I8254_READ_BACK | I8254_RB_NO_COUNT | I8254_RB_NO_STAT | 0xe);
	cr_assert_eq(in(I8254_CONTROL), 0xff, "the control word cannot be read");
}

Test(i8254, port_61)
{
	program(2, 0, 1000);
	i8254_port61_write(&pit, 0xff, now);
	cr_assert_eq(i8254_port61_read(&pit, now) & 0x2f, 0x0f,
		     "gate, speaker, NMI masks; OUT low");
	now += 1001;
	cr_assert(i8254_port61_read(&pit, now) & PORT61_OUT2);
	bool refresh = i8254_port61_read(&pit, now) & PORT61_REFRESH;
	cr_assert_neq(!!(i8254_port61_read(&pit, now + 16) & PORT61_REFRESH), refresh,
		      "the refresh bit toggles");
	i8254_port61_write(&pit, 0, now);
	cr_assert_eq(i8254_port61_read(&pit, now) & PORT61_GATE2, 0);
}

/* Looks only when next() says so, as the device does, and sees every edge all the same. */
Test(i8254, rising_edges_are_seen)
{
	unsigned edges = 0;

	cr_assert(!i8254_rose(&pit, now));
	cr_assert_eq(i8254_next(&pit, now), 0, "nothing is programmed");
	program(0, 2, 1000);
	for (int64_t start = now, wait; (wait = i8254_next(&pit, now)) && now < start + 10500;) {
		now += wait;
		edges += i8254_rose(&pit, now);
	}
	cr_assert_eq(edges, 11);
	now += 5000;
	cr_assert(i8254_rose(&pit, now), "missed ones count");
	cr_assert(!i8254_rose(&pit, now), "as one");
	program(0, 0, 300);
	cr_assert(!i8254_rose(&pit, now));
	cr_assert_eq(i8254_next(&pit, now), 301);
	now += 301;
	cr_assert(i8254_rose(&pit, now));
	cr_assert_eq(i8254_next(&pit, now), 0);
	program(0, 4, 300);
	cr_assert(!i8254_rose(&pit, now));
	cr_assert_eq(i8254_next(&pit, now), 302, "the strobe's end");
	program(0, 1, 300);
	cr_assert_eq(i8254_next(&pit, now), 0, "nobody triggers counter 0");
}

Test(i8254, registers_are_declared)
{
	cr_assert_str_eq(reg_name(&i8254_registers, 3, REG_WRITE, 0), "Control Word");
	cr_assert_str_eq(reg_name(&i8254_registers, 3, REG_READ, 0), "?");
	cr_assert_str_eq(reg_name(&i8254_port61_table, 0, REG_RW, 0), "NMI Status and Control");
}

/* Every order of accesses at every time, hours apart too. */
Test(i8254, hostile_pokes)
{
	srandom(8254);
	for (unsigned i = 0; i < 100000; i++) {
		unsigned r = (unsigned)random();
		int64_t wait;

		now += r % 7 ? r >> 24 : (int64_t)r << 8;
		switch (r >> 8 & 7) {
		case 0:
		case 1:
		case 2:
			out(r >> 16 & 3, r);
			break;
		case 3:
			in(r >> 16 & 3);
			break;
		case 4:
			i8254_port61_write(&pit, (uint8_t)r, now);
			break;
		case 5:
			i8254_port61_read(&pit, now);
			break;
		default:
			gate(r % 3, r & 0x10);
			break;
		}
		i8254_rose(&pit, now);
		wait = i8254_next(&pit, now);
		cr_assert(wait >= 0 && wait <= 2 * 65536 + 2, "%lld", (long long)wait);
		for (unsigned c = 0; c < I8254_COUNTERS; c++)
			level(c);
	}
}
