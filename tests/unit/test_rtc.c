/*
 * The MC146818 as a chip: time comes from the test.
 */
#include <stdio.h>

#include <criterion/criterion.h>

#include "devices/emulated/rtc.h"

/* Thursday, 2026-01-15 13:45:58 UTC */
#define START 1768484758ll

static struct rtc_chip chip;
static int64_t now;

static void set_up(void)
{
	now = START * RTC_SECOND;
	rtc_init(&chip, now);
}

TestSuite(rtc, .init = set_up, .timeout = 20);

static uint8_t get(unsigned reg)
{
	return rtc_read(&chip, reg, now);
}

static void set(unsigned reg, unsigned value)
{
	rtc_write(&chip, reg, (uint8_t)value, now);
}

static void seconds_pass(int64_t n)
{
	now += n * RTC_SECOND;
}

/* All eight, most significant first, as text. */
static const char *shown(void)
{
	static char text[64];

	snprintf(text, sizeof(text), "%02x%02x-%02x-%02x %02x:%02x:%02x (%02x)", get(RTC_CENTURY),
		 get(RTC_YEAR), get(RTC_MONTH), get(RTC_DATE_OF_MONTH), get(RTC_HOURS),
		 get(RTC_MINUTES), get(RTC_SECONDS), get(RTC_DAY_OF_WEEK));
	return text;
}

Test(rtc, reset_values)
{
	cr_assert_eq(get(RTC_A), 0x26);
	cr_assert_eq(get(RTC_B), RTC_B_24H);
	cr_assert_eq(get(RTC_C), 0);
	cr_assert_eq(get(RTC_D), RTC_D_VRT);
	cr_assert_eq(rtc_next(&chip, now), 0, "an idle clock wakes nobody");
	cr_assert_eq(reg_find(&rtc_registers, RTC_C, 1, REG_WRITE, 0), -1);
	cr_assert_str_eq(reg_name(&rtc_registers, RTC_CENTURY, REG_READ, 0), "Century");
	for (unsigned i = 0; i < RTC_BYTES; i++)
		cr_assert_geq(reg_find(&rtc_registers, i, 1, REG_READ, 0), 0, "%02x", i);
}

Test(rtc, shows_utc_in_bcd)
{
	cr_assert_str_eq(shown(), "2026-01-15 13:45:58 (05)");
	seconds_pass(2);
	cr_assert_str_eq(shown(), "2026-01-15 13:46:00 (05)");
	seconds_pass(86400 * 17);
	cr_assert_str_eq(shown(), "2026-02-01 13:46:00 (01)");
}

Test(rtc, shows_utc_in_binary)
{
	set(RTC_B, RTC_B_24H | RTC_B_DM);
	cr_assert_str_eq(shown(), "141a-01-0f 0d:2d:3a (05)");
}

Test(rtc, twelve_hour_mode)
{
	set(RTC_B, 0);
	cr_assert_eq(get(RTC_HOURS), 0x81);
	seconds_pass(10 * 3600);
	cr_assert_eq(get(RTC_HOURS), 0x91);
	seconds_pass(3600);
	cr_assert_eq(get(RTC_HOURS), 0x12, "midnight is 12 AM");
	seconds_pass(12 * 3600);
	cr_assert_eq(get(RTC_HOURS), 0x92, "noon is 12 PM");
	set(RTC_B, RTC_B_DM);
	cr_assert_eq(get(RTC_HOURS), 0x8c);
}

/* In the last 2.2 ms of each second, and never while the clock is stopped. */
Test(rtc, update_in_progress)
{
	cr_assert_eq(get(RTC_A) & RTC_A_UIP, 0);
	now += RTC_SECOND - RTC_UPDATE - 1;
	cr_assert_eq(get(RTC_A) & RTC_A_UIP, 0);
	now += 1;
	cr_assert_eq(get(RTC_A) & RTC_A_UIP, RTC_A_UIP);
	cr_assert_eq(get(RTC_SECONDS), 0x58);
	set(RTC_A, 0xff & ~RTC_A_DV);
	cr_assert_eq(get(RTC_A) & RTC_A_UIP, 0);
	set(RTC_A, 0x26);
	set(RTC_B, RTC_B_SET | RTC_B_24H);
	cr_assert_eq(get(RTC_A) & RTC_A_UIP, 0);
	set(RTC_B, RTC_B_24H);
	now += RTC_UPDATE;
	cr_assert_eq(get(RTC_A) & RTC_A_UIP, 0);
}

Test(rtc, setting_the_time_keeps_an_offset)
{
	set(RTC_B, RTC_B_SET | RTC_B_24H);
	seconds_pass(100);
	cr_assert_str_eq(shown(), "2026-01-15 13:45:58 (05)", "stopped");
	set(RTC_CENTURY, 0x19);
	set(RTC_YEAR, 0x99);
	set(RTC_MONTH, 0x12);
	set(RTC_DATE_OF_MONTH, 0x31);
	set(RTC_HOURS, 0x23);
	set(RTC_MINUTES, 0x59);
	set(RTC_SECONDS, 0x57);
	set(RTC_B, RTC_B_24H);
	cr_assert_str_eq(shown(), "1999-12-31 23:59:57 (06)");
	seconds_pass(3);
	cr_assert_str_eq(shown(), "2000-01-01 00:00:00 (07)");
	/* A reset of the machine does not touch it. */
	rtc_reset(&chip, now);
	seconds_pass(60);
	cr_assert_str_eq(shown(), "2000-01-01 00:01:00 (07)");
}

/* The way Linux does it: SET, divider reset, time, SET off, divider on: then half a second. */
Test(rtc, divider_reset_sets_the_phase)
{
	now += 12345;
	set(RTC_B, RTC_B_SET | RTC_B_24H);
	set(RTC_A, 0x76);
	set(RTC_SECONDS, 0x10);
	set(RTC_B, RTC_B_24H);
	seconds_pass(5);
	cr_assert_eq(get(RTC_SECONDS), 0x10, "still stopped");
	set(RTC_A, 0x26);
	now += RTC_SECOND / 2 - 1;
	cr_assert_eq(get(RTC_SECONDS), 0x10);
	now += 1;
	cr_assert_eq(get(RTC_SECONDS), 0x11);
}

Test(rtc, writing_one_byte_while_it_runs)
{
	set(RTC_MINUTES, 0x07);
	cr_assert_str_eq(shown(), "2026-01-15 13:07:58 (05)");
	seconds_pass(2);
	cr_assert_str_eq(shown(), "2026-01-15 13:08:00 (05)");
}

Test(rtc, ram_is_ram)
{
	for (unsigned i = 0x0e; i < RTC_BYTES; i++)
		if (i != RTC_CENTURY)
			set(i, i ^ 0xff);
	rtc_reset(&chip, now);
	for (unsigned i = 0x0e; i < RTC_BYTES; i++)
		if (i != RTC_CENTURY)
			cr_assert_eq(get(i), i ^ 0xff);
	cr_assert_eq(get(RTC_BYTES), 0xff);
	cr_assert_eq(get(RTC_D), RTC_D_VRT);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

/* Lets the time pass that the chip asks for; the pin must rise then and not before. */
static int64_t until_interrupt(void)
{
	int64_t wait = rtc_next(&chip, now);

	cr_assert_gt(wait, 0);
	now += wait - 1;
	cr_assert(!rtc_irq(&chip, now));
	now += 1;
	cr_assert(rtc_irq(&chip, now));
	return wait;
}

Test(rtc, update_ended_interrupt)
{
	now += 1000;
	set(RTC_B, RTC_B_24H | RTC_B_UIE);
	cr_assert_eq(until_interrupt(), RTC_SECOND - 1000);
	cr_assert_eq(rtc_next(&chip, now), 0, "no more before register C is read");
	cr_assert_eq(get(RTC_C), RTC_C_IRQF | RTC_C_UF | RTC_C_PF);
	cr_assert(!rtc_irq(&chip, now));
	cr_assert_eq(get(RTC_C), 0);
	cr_assert_eq(until_interrupt(), RTC_SECOND);
}

/* "SET … clears UIE", and there are no updates while it is 1. */
Test(rtc, set_stops_updates)
{
	set(RTC_B, RTC_B_24H | RTC_B_UIE);
	set(RTC_B, RTC_B_24H | RTC_B_UIE | RTC_B_SET);
	cr_assert_eq(get(RTC_B), RTC_B_24H | RTC_B_SET);
	seconds_pass(10);
	cr_assert_eq(get(RTC_C), RTC_C_PF, "the divider runs on");
}

Test(rtc, flags_without_enables)
{
	seconds_pass(1);
	cr_assert(!rtc_irq(&chip, now));
	cr_assert_eq(get(RTC_C), RTC_C_PF | RTC_C_UF);
	/* Enabling what is flagged already interrupts at once. */
	seconds_pass(1);
	get(RTC_A);
	set(RTC_B, RTC_B_24H | RTC_B_UIE);
	cr_assert(rtc_irq(&chip, now));
}

/* Table 5: from 122 µs to 500 ms. */
Test(rtc, periodic_rates)
{
	static const int want[16] = { 0,   128, 256, 4,	   8,	 16,   32,   64,
				      128, 256, 512, 1024, 2048, 4096, 8192, 16384 };

	for (unsigned rs = 0; rs < 16; rs++) {
		set_up();
		set(RTC_A, RTC_DV_RUN | rs);
		set(RTC_B, RTC_B_24H | RTC_B_PIE);
		if (rs == 0) {
			cr_assert_eq(rtc_next(&chip, now), 0);
			continue;
		}
		cr_assert_eq(until_interrupt(), want[rs], "rate %u", rs);
		cr_assert_eq(get(RTC_C) & (RTC_C_IRQF | RTC_C_PF), RTC_C_IRQF | RTC_C_PF);
		cr_assert_eq(until_interrupt(), want[rs], "rate %u", rs);
	}
	set(RTC_A, 0x70 | 6);
	cr_assert_eq(rtc_next(&chip, now), 0, "no periods while the divider is in reset");
}

static int64_t alarm_in(unsigned h, unsigned m, unsigned s)
{
	set(RTC_HOURS_ALARM, h);
	set(RTC_MINUTES_ALARM, m);
	set(RTC_SECONDS_ALARM, s);
	get(RTC_C);
	set(RTC_B, get(RTC_B) | RTC_B_AIE);
	return rtc_next(&chip, now) / RTC_SECOND;
}

/* It is 13:45:58. */
Test(rtc, alarm)
{
	cr_assert_eq(alarm_in(0x13, 0x46, 0x00), 2);
	cr_assert_eq(alarm_in(0x13, 0x45, 0x58), 86400, "now is too late");
	cr_assert_eq(alarm_in(0x13, 0x45, 0x57), 86399);
	cr_assert_eq(alarm_in(0x00, 0x00, 0x00), 10 * 3600 + 14 * 60 + 2);
	cr_assert_eq(alarm_in(0xff, 0xff, 0xff), 1, "every second");
	cr_assert_eq(alarm_in(0xff, 0xff, 0x30), 32, "every minute");
	cr_assert_eq(alarm_in(0xc0, 0x10, 0x00), 24 * 60 + 2, "every hour");
	cr_assert_eq(alarm_in(0x14, 0xff, 0xff), 14 * 60 + 2);
	cr_assert_eq(alarm_in(0x24, 0x00, 0x00), 0, "never");
	cr_assert_eq(alarm_in(0xff, 0x60, 0xff), 0, "never");
	cr_assert_eq(alarm_in(0xff, 0xff, 0x99), 0, "never");
	set(RTC_B, RTC_B_24H | RTC_B_DM);
	cr_assert_eq(alarm_in(13, 46, 0), 2);
	set(RTC_B, 0);
	cr_assert_eq(alarm_in(0x81, 0x46, 0x00), 2, "1 PM");
	cr_assert_eq(alarm_in(0x01, 0x46, 0x00), 12 * 3600 + 2, "1 AM");
}

Test(rtc, alarm_interrupt)
{
	alarm_in(0x13, 0x46, 0x05);
	cr_assert_eq(until_interrupt(), 7 * RTC_SECOND);
	cr_assert_eq(get(RTC_C) & (RTC_C_IRQF | RTC_C_AF), RTC_C_IRQF | RTC_C_AF);
	cr_assert(!rtc_irq(&chip, now));
	/* Nobody looked for three days: one alarm is flagged all the same. */
	seconds_pass(3 * 86400);
	cr_assert(rtc_irq(&chip, now));
	cr_assert(get(RTC_C) & RTC_C_AF);
	cr_assert_eq(get(RTC_C), 0);
}

Test(rtc, reset_clears_enables_and_flags)
{
	set(RTC_B, 0x7f);
	seconds_pass(1);
	cr_assert(rtc_irq(&chip, now));
	rtc_reset(&chip, now);
	cr_assert(!rtc_irq(&chip, now));
	cr_assert_eq(get(RTC_B), RTC_B_24H | RTC_B_DM | 1);
	cr_assert_eq(get(RTC_C), 0);
}

/* The host's clock is set while a guest runs. */
Test(rtc, the_host_clock_may_jump)
{
	set(RTC_B, RTC_B_24H | RTC_B_UIE);
	seconds_pass(-100000);
	get(RTC_C);
	cr_assert_eq(until_interrupt(), RTC_SECOND);
	seconds_pass(10000000);
	cr_assert(rtc_irq(&chip, now));
}

Test(rtc, random_accesses)
{
	uint32_t seed = 99;

	for (unsigned i = 0; i < 300000; i++) {
		seed = seed * 1664525u + 1013904223u;
		unsigned reg = (seed >> 12) & (seed & 0x800 ? 0x0f : 0xff);

		if (seed & 0x100)
			set(reg, seed >> 20);
		else
			get(reg);
		rtc_irq(&chip, now);
		cr_assert_geq(rtc_next(&chip, now), 0);
		now += (seed >> 16) & 0x3fff;
	}
}
