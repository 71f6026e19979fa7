/*
 * The registers of the MC146818A: see rtc.h.
 */
#include <limits.h>
#include <time.h>

#include "devices/emulated/rtc.h"

#define DAY	  86400
#define DONT_CARE 0xc0u /* an alarm byte from here on matches everything */
#define NEVER	  INT64_MAX

static const struct reg registers[] = {
	{ "Register C", RTC_C, .width = 1, .access = REG_READ },
	{ "Register A", RTC_A, .width = 1, .access = REG_RW, .reset = RTC_DV_RUN | 6,
	  .writable = RTC_A_DV | RTC_A_RS },
	{ "Register B", RTC_B, .width = 1, .access = REG_RW, .reset = RTC_B_24H, .writable = 0xff },
	{ "Register D", RTC_D, .width = 1, .access = REG_READ, .reset = RTC_D_VRT },
	{ "Seconds", RTC_SECONDS, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Seconds Alarm", RTC_SECONDS_ALARM, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Minutes", RTC_MINUTES, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Minutes Alarm", RTC_MINUTES_ALARM, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Hours", RTC_HOURS, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Hours Alarm", RTC_HOURS_ALARM, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Day of Week", RTC_DAY_OF_WEEK, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Date of Month", RTC_DATE_OF_MONTH, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Month", RTC_MONTH, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Year", RTC_YEAR, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Century", RTC_CENTURY, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "RAM", 0x0e, 0x24, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "RAM", 0x33, 0x4d, .width = 1, .access = REG_RW, .writable = 0xff },
};

const struct reg_table rtc_registers = { registers, sizeof(registers) / sizeof(registers[0]) };

/* ---- numbers as the modes in register B have them -------------------------------------------- */

static unsigned decode(const struct rtc_chip *chip, uint8_t value)
{
	if (chip->ram[RTC_B] & RTC_B_DM)
		return value;
	return (value >> 4) * 10u + (value & 0x0f);
}

static uint8_t encode(const struct rtc_chip *chip, int value)
{
	if (chip->ram[RTC_B] & RTC_B_DM)
		return (uint8_t)value;
	return (uint8_t)((value / 10) << 4 | value % 10);
}

/* In 12-hour mode midnight is 12 AM, and bit 7 means PM. */
static unsigned decode_hour(const struct rtc_chip *chip, uint8_t value)
{
	if (chip->ram[RTC_B] & RTC_B_24H)
		return decode(chip, value);
	return decode(chip, value & 0x7f) % 12 + (value & 0x80 ? 12 : 0);
}

static uint8_t encode_hour(const struct rtc_chip *chip, int hour)
{
	if (chip->ram[RTC_B] & RTC_B_24H)
		return encode(chip, hour);
	return (uint8_t)(encode(chip, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0));
}

static bool is_time(unsigned reg)
{
	return reg == RTC_SECONDS || reg == RTC_MINUTES || reg == RTC_HOURS ||
	       (reg >= RTC_DAY_OF_WEEK && reg <= RTC_YEAR) || reg == RTC_CENTURY;
}

static uint8_t time_byte(const struct rtc_chip *chip, unsigned reg, const struct tm *tm)
{
	int year = tm->tm_year + 1900;

	/* Before the year 0 a guest gets only by trying. */
	if (year < 0)
		year = 0;
	switch (reg) {
	case RTC_SECONDS:
		return encode(chip, tm->tm_sec);
	case RTC_MINUTES:
		return encode(chip, tm->tm_min);
	case RTC_HOURS:
		return encode_hour(chip, tm->tm_hour);
	case RTC_DAY_OF_WEEK:
		return encode(chip, tm->tm_wday + 1);
	case RTC_DATE_OF_MONTH:
		return encode(chip, tm->tm_mday);
	case RTC_MONTH:
		return encode(chip, tm->tm_mon + 1);
	case RTC_YEAR:
		return encode(chip, year % 100);
	default:
		return encode(chip, year / 100);
	}
}

/* ---- the clock ------------------------------------------------------------------------------- */

static bool divider_runs(const struct rtc_chip *chip)
{
	return (chip->ram[RTC_A] & RTC_A_DV) == RTC_DV_RUN;
}

static bool runs(const struct rtc_chip *chip)
{
	return divider_runs(chip) && !(chip->ram[RTC_B] & RTC_B_SET);
}

static int64_t second(int64_t time)
{
	return time >> RTC_HZ_SHIFT;
}

static struct tm broken_down(int64_t time)
{
	time_t t = second(time);
	struct tm tm = { 0 };

	gmtime_r(&t, &tm);
	return tm;
}

/* Time bytes become what the clock shows. */
static void stop(struct rtc_chip *chip, int64_t now)
{
	struct tm tm = broken_down(now + chip->offset);

	for (unsigned reg = 0; reg < RTC_BYTES; reg++)
		if (is_time(reg))
			chip->ram[reg] = time_byte(chip, reg, &tm);
}

/*
 * The clock goes on from the time bytes; the divider's phase stays. Bytes that are no date are
 * taken as timegm() takes them: the 31st of April is the 1st of May.
 */
static void start(struct rtc_chip *chip, int64_t now)
{
	int64_t phase = (now + chip->offset) & (RTC_SECOND - 1);
	struct tm tm = {
		.tm_sec = (int)decode(chip, chip->ram[RTC_SECONDS]),
		.tm_min = (int)decode(chip, chip->ram[RTC_MINUTES]),
		.tm_hour = (int)decode_hour(chip, chip->ram[RTC_HOURS]),
		.tm_mday = (int)decode(chip, chip->ram[RTC_DATE_OF_MONTH]),
		.tm_mon = (int)decode(chip, chip->ram[RTC_MONTH]) - 1,
		.tm_year = (int)(decode(chip, chip->ram[RTC_CENTURY]) * 100 +
				 decode(chip, chip->ram[RTC_YEAR])) -
			   1900,
	};

	chip->offset = (int64_t)timegm(&tm) * RTC_SECOND + phase - now;
	chip->seen = now + chip->offset;
}

/* Out of divider reset, the first update comes half a second later. */
static void reset_phase(struct rtc_chip *chip, int64_t now)
{
	chip->offset += RTC_SECOND / 2 - ((now + chip->offset) & (RTC_SECOND - 1));
}

/* ---- flags ----------------------------------------------------------------------------------- */

static bool matches(uint8_t alarm, unsigned decoded, unsigned value)
{
	return alarm >= DONT_CARE || decoded == value;
}

/* The first second after `after` at which the alarm goes off. */
static int64_t alarm_after(const struct rtc_chip *chip, int64_t after)
{
	uint8_t ah = chip->ram[RTC_HOURS_ALARM], am = chip->ram[RTC_MINUTES_ALARM],
		as = chip->ram[RTC_SECONDS_ALARM];
	unsigned dh = decode_hour(chip, ah), dm = decode(chip, am), ds = decode(chip, as);
	int64_t from = after + 1, day = from - ((from % DAY) + DAY) % DAY;
	unsigned first = (unsigned)(from - day);

	/* A number that no clock shows never comes, and is not searched for. */
	if ((ah < DONT_CARE && dh > 23) || (am < DONT_CARE && dm > 59) ||
	    (as < DONT_CARE && ds > 59))
		return NEVER;
	/* The rest of today, then tomorrow: at most one pass over each wheel a step. */
	for (unsigned h = first / 3600; h < 48; h++) {
		if (!matches(ah, dh, h % 24))
			continue;
		for (unsigned m = 0; m < 60; m++) {
			if (!matches(am, dm, m) || (h * 60 + m + 1) * 60 <= first)
				continue;
			for (unsigned s = 0; s < 60; s++)
				if (matches(as, ds, s) && (h * 60 + m) * 60 + s >= first)
					return day + (h * 60 + m) * 60 + s;
		}
	}
	return NEVER;
}

/* log2 of the periodic interrupt's period in crystal periods; -1: off. Table 5 of the data sheet.
 */
static int period_shift(const struct rtc_chip *chip)
{
	int rs = chip->ram[RTC_A] & RTC_A_RS;

	if (rs == 0 || !divider_runs(chip))
		return -1;
	return rs <= 2 ? rs + 6 : rs - 1;
}

/* Sets the flags of what has come since the last look. */
static void catch_up(struct rtc_chip *chip, int64_t now)
{
	int64_t time = now + chip->offset;
	int shift = period_shift(chip);

	if (shift >= 0 && now >> shift > chip->seen_host >> shift)
		chip->ram[RTC_C] |= RTC_C_PF;
	chip->seen_host = now;
	if (!runs(chip))
		return;
	if (second(time) > second(chip->seen)) {
		chip->ram[RTC_C] |= RTC_C_UF;
		if (alarm_after(chip, second(chip->seen)) <= second(time))
			chip->ram[RTC_C] |= RTC_C_AF;
	}
	chip->seen = time;
}

static uint8_t raised(const struct rtc_chip *chip)
{
	return chip->ram[RTC_B] & chip->ram[RTC_C] & (RTC_C_PF | RTC_C_AF | RTC_C_UF);
}

bool rtc_irq(struct rtc_chip *chip, int64_t now)
{
	catch_up(chip, now);
	return raised(chip) != 0;
}

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t rtc_next(struct rtc_chip *chip, int64_t now)
{
	int64_t time = now + chip->offset, next = NEVER;
	uint8_t enabled = chip->ram[RTC_B];
	int shift = period_shift(chip);

	catch_up(chip, now);
	/* High already: nothing more to see before register C has been read. */
	if (raised(chip))
		return 0;
	if ((enabled & RTC_B_PIE) && shift >= 0)
		next = (((now >> shift) + 1) << shift) - now;
	if ((enabled & RTC_B_UIE) && runs(chip))
		next = sooner(next, (second(time) + 1) * RTC_SECOND - time);
	if ((enabled & RTC_B_AIE) && runs(chip)) {
		int64_t alarm = alarm_after(chip, second(time));

		if (alarm != NEVER)
			next = sooner(next, alarm * RTC_SECOND - time);
	}
	return next == NEVER ? 0 : next;
}

/* ---- registers ------------------------------------------------------------------------------- */

static uint8_t read_c(struct rtc_chip *chip)
{
	uint8_t value = chip->ram[RTC_C] | (raised(chip) ? RTC_C_IRQF : 0);

	chip->ram[RTC_C] = 0;
	return value;
}

uint8_t rtc_read(struct rtc_chip *chip, unsigned reg, int64_t now)
{
	int64_t time = now + chip->offset;
	struct tm tm;

	if (reg_find(&rtc_registers, reg, 1, REG_READ, 0) < 0)
		return 0xff;
	catch_up(chip, now);
	if (reg == RTC_C)
		return read_c(chip);
	if (!runs(chip))
		return chip->ram[reg];
	if (reg == RTC_A && (time & (RTC_SECOND - 1)) >= RTC_SECOND - RTC_UPDATE)
		return chip->ram[reg] | RTC_A_UIP;
	if (!is_time(reg))
		return chip->ram[reg];
	tm = broken_down(time);
	return time_byte(chip, reg, &tm);
}

/* Registers A and B: what they hold decides whether the clock runs. */
static void write_control(struct rtc_chip *chip, unsigned reg, uint8_t value, int64_t now)
{
	bool ran = runs(chip), divided = divider_runs(chip);

	if (reg == RTC_B && (value & RTC_B_SET))
		value &= (uint8_t)~RTC_B_UIE;
	/* With the old modes, for the guest that changes them has to write the time anew. */
	if (ran && (reg == RTC_B ? (value & RTC_B_SET) != 0 : (value & RTC_A_DV) != RTC_DV_RUN))
		stop(chip, now);
	chip->ram[reg] = value;
	if (!divided && divider_runs(chip))
		reset_phase(chip, now);
	if (!ran && runs(chip))
		start(chip, now);
}

void rtc_write(struct rtc_chip *chip, unsigned reg, uint8_t value, int64_t now)
{
	int i = reg_find(&rtc_registers, reg, 1, REG_WRITE, 0);
	bool set_running;

	if (i < 0)
		return;
	catch_up(chip, now);
	value = (uint8_t)reg_merge(&registers[i], chip->ram[reg], value);
	if (reg == RTC_A || reg == RTC_B) {
		write_control(chip, reg, value, now);
		return;
	}
	/* Allowed while it runs, if unwise: the other bytes are those of this moment. */
	set_running = is_time(reg) && runs(chip);
	if (set_running)
		stop(chip, now);
	chip->ram[reg] = value;
	if (set_running)
		start(chip, now);
}

void rtc_reset(struct rtc_chip *chip, int64_t now)
{
	catch_up(chip, now);
	chip->ram[RTC_B] &= (uint8_t) ~(RTC_B_PIE | RTC_B_AIE | RTC_B_UIE | RTC_B_SQWE);
	chip->ram[RTC_C] = 0;
}

void rtc_init(struct rtc_chip *chip, int64_t now)
{
	*chip = (struct rtc_chip){ .seen = now, .seen_host = now };
	for (unsigned i = 0; i < rtc_registers.count; i++)
		chip->ram[registers[i].offset] = (uint8_t)registers[i].reset;
}
