/*
 * The counters of the 8254: see i8254.h.
 */
#include <string.h>

#include "devices/emulated/i8254.h"

#define NEVER INT64_MAX

#define CONTROL_RW   0x30u
#define CONTROL_M    0x0eu
#define CONTROL_BCD  0x01u
#define CONTROL_KEPT (CONTROL_RW | CONTROL_M | CONTROL_BCD)
#define RW_LSB	     0x10u
#define RW_MSB	     0x20u

#define PORT61_KEPT	0x0fu /* gate, speaker, and the two NMI enables */
#define REFRESH_SHIFT	4     /* about as often as DRAM refresh toggles it: each 15 µs */
#define READ_BACK_FIRST 1     /* bit of counter 0 */

static const struct reg registers[] = {
	{ "Counter 0", 0, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Counter 1", 1, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Counter 2", 2, .width = 1, .access = REG_RW, .writable = 0xff },
	{ "Control Word", I8254_CONTROL, .width = 1, .access = REG_WRITE },
};

static const struct reg port61[] = {
	{ "NMI Status and Control", 0, .width = 1, .access = REG_RW, .writable = PORT61_KEPT },
};

const struct reg_table i8254_registers = { registers, sizeof(registers) / sizeof(registers[0]) };
const struct reg_table i8254_port61_table = { port61, 1 };

/* ---- one counter ----------------------------------------------------------------------------- */

static unsigned mode(const struct i8254_counter *c)
{
	unsigned m = (c->control & CONTROL_M) >> 1;

	return m > 5 ? m - 4 : m; /* the high bit of modes 2 and 3 is not looked at */
}

static bool is_periodic(const struct i8254_counter *c)
{
	return mode(c) == 2 || mode(c) == 3;
}

/* Started by the gate's rising edge, not by the count. */
static bool is_triggered(const struct i8254_counter *c)
{
	return mode(c) == 1 || mode(c) == 5;
}

static int64_t elapsed(const struct i8254_counter *c, int64_t now)
{
	return c->paused ? c->start : now - c->start;
}

/* Mode 3: for how many clocks of its period OUT is high. */
static int64_t high_half(uint32_t n)
{
	return ((int64_t)n + 1) / 2;
}

/* A new count of modes 2 and 3 is loaded when the period, or the half period, has come to its end.
 */
static void catch_up(struct i8254_counter *c, int64_t now)
{
	bool at_half;

	if (!c->reload_at || now < c->reload_at)
		return;
	at_half = mode(c) == 3 && (c->reload_at - c->start) % c->n != 0;
	c->n = c->count;
	c->start = c->reload_at - (at_half ? high_half(c->n) : 0);
	c->reload_at = 0;
}

static bool out(const struct i8254_counter *c, int64_t now)
{
	int64_t e = elapsed(c, now);

	/* The control word sets it low in mode 0, high in the others. */
	if (!c->loaded || e < 0)
		return mode(c) != 0;
	switch (mode(c)) {
	case 0:
	case 1:
		return e >= c->n;
	case 2:
		return c->paused || e % c->n != c->n - 1;
	case 3:
		return c->paused || e % c->n < high_half(c->n);
	default:
		return e != c->n;
	}
}

/* The counting element, as a number. */
static uint32_t current(const struct i8254_counter *c, int64_t now)
{
	int64_t modulus = c->control & CONTROL_BCD ? 10000 : 65536;
	int64_t e = elapsed(c, now), left;

	if (!c->loaded)
		return c->written ? c->count : 0;
	if (e < 0)
		return c->n;
	switch (mode(c)) {
	case 2:
		return (uint32_t)(c->n - e % c->n);
	case 3:
		/* By two; an odd count begins at the even number below. */
		e %= c->n;
		if (e >= high_half(c->n))
			e -= high_half(c->n);
		return (uint32_t)((c->n & ~1u) - 2 * e);
	default:
		left = (c->n - e) % modulus;
		return (uint32_t)(left < 0 ? left + modulus : left);
	}
}

static uint16_t to_bcd(uint32_t value)
{
	return (uint16_t)(value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 |
			  value / 1000 % 10 << 12);
}

static uint32_t from_bcd(uint32_t value)
{
	return (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 +
	       (value >> 12 & 15) * 1000;
}

static uint16_t shown(const struct i8254_counter *c, int64_t now)
{
	uint32_t value = current(c, now);

	return c->control & CONTROL_BCD ? to_bcd(value) : (uint16_t)value;
}

static uint8_t status(const struct i8254_counter *c, int64_t now)
{
	bool null = !c->loaded || elapsed(c, now) < 0 || c->reload_at;

	return (uint8_t)(c->control | (out(c, now) ? I8254_STATUS_OUT : 0) |
			 (null ? I8254_STATUS_NULL : 0));
}

/* ---- counting -------------------------------------------------------------------------------- */

/* The count register goes to the counting element with the next clock. */
static void load(struct i8254_counter *c, int64_t now)
{
	c->n = c->count;
	c->loaded = true;
	c->reload_at = 0;
	c->paused = !c->gate && !is_triggered(c);
	/* Paused, the clock that loads it still comes. */
	c->start = c->paused ? 0 : now + 1;
}

static void reload_later(struct i8254_counter *c, int64_t now)
{
	int64_t e = elapsed(c, now), into = e % c->n;
	int64_t end = mode(c) == 3 && into < high_half(c->n) ? high_half(c->n) : c->n;

	c->reload_at = now + end - into;
}

static void count_written(struct i8254_counter *c, unsigned value, int64_t now)
{
	bool first = !c->written;

	c->count = c->control & CONTROL_BCD ? from_bcd(value) : value;
	if (c->count == 0)
		c->count = c->control & CONTROL_BCD ? 10000 : 65536;
	c->written = true;
	if (is_triggered(c))
		return;
	/* While the gate holds them back, or before the first clock, there is no period to end. */
	if (is_periodic(c) && !first && c->loaded && !c->paused && elapsed(c, now) >= 0)
		reload_later(c, now);
	else
		load(c, now);
}

static void write_count(struct i8254_counter *c, uint8_t value, int64_t now)
{
	switch (c->control & CONTROL_RW) {
	case RW_LSB:
		count_written(c, value, now);
		break;
	case RW_MSB:
		count_written(c, (unsigned)value << 8, now);
		break;
	default:
		if (c->write_high) {
			c->write_high = false;
			count_written(c, (unsigned)value << 8 | c->low, now);
			break;
		}
		c->low = value;
		c->write_high = true;
		/* Half a count stops mode 0. */
		if (mode(c) == 0)
			c->loaded = false;
		break;
	}
}

static uint8_t read_count(struct i8254_counter *c, int64_t now)
{
	uint16_t value = c->count_latched ? c->latch : shown(c, now);
	bool high = (c->control & CONTROL_RW) == RW_MSB;
	bool last = true;

	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	if ((c->control & CONTROL_RW) == CONTROL_RW) {
		high = c->read_high;
		last = high;
		c->read_high = !high;
	}
	if (last)
		c->count_latched = false;
	return (uint8_t)(high ? value >> 8 : value);
}

static void latch_count(struct i8254_counter *c, int64_t now)
{
	if (c->count_latched)
		return;
	c->latch = shown(c, now);
	c->count_latched = true;
}

static void write_control(struct i8254_counter *c, uint8_t value)
{
	bool gate = c->gate;

	memset(c, 0, sizeof(*c));
	c->gate = gate;
	c->control = value & CONTROL_KEPT;
}

static void read_back(struct i8254 *pit, uint8_t value, int64_t now)
{
	for (unsigned i = 0; i < I8254_COUNTERS; i++) {
		struct i8254_counter *c = &pit->counter[i];

		if (!(value >> (READ_BACK_FIRST + i) & 1))
			continue;
		catch_up(c, now);
		if (!(value & I8254_RB_NO_COUNT))
			latch_count(c, now);
		if (!(value & I8254_RB_NO_STAT) && !c->status_latched) {
			c->status = status(c, now);
			c->status_latched = true;
		}
	}
}

/* ---- the chip -------------------------------------------------------------------------------- */

uint8_t i8254_read(struct i8254 *pit, unsigned address, int64_t now)
{
	if (address >= I8254_COUNTERS)
		return 0xff;
	catch_up(&pit->counter[address], now);
	return read_count(&pit->counter[address], now);
}

void i8254_write(struct i8254 *pit, unsigned address, uint8_t value, int64_t now)
{
	struct i8254_counter *c;

	if (address == I8254_CONTROL && (value & I8254_READ_BACK) == I8254_READ_BACK) {
		read_back(pit, value, now);
		return;
	}
	c = &pit->counter[address == I8254_CONTROL ? value >> 6 : address];
	catch_up(c, now);
	if (address != I8254_CONTROL)
		write_count(c, value, now);
	else if (!(value & CONTROL_RW))
		latch_count(c, now);
	else
		write_control(c, value);
}

static void gate_rises(struct i8254_counter *c, int64_t now)
{
	if (is_triggered(c) || is_periodic(c)) {
		if (c->written)
			load(c, now);
	} else if (c->loaded && c->paused) {
		c->paused = false;
		c->start = now - c->start;
	}
}

static void gate_falls(struct i8254_counter *c, int64_t now)
{
	if (is_triggered(c) || !c->loaded || c->paused)
		return;
	c->start = elapsed(c, now) < 0 ? 0 : elapsed(c, now);
	c->paused = true;
	c->reload_at = 0;
}

void i8254_set_gate(struct i8254 *pit, unsigned counter, bool level, int64_t now)
{
	struct i8254_counter *c = &pit->counter[counter];

	if (c->gate == level)
		return;
	catch_up(c, now);
	c->gate = level;
	if (level)
		gate_rises(c, now);
	else
		gate_falls(c, now);
}

bool i8254_out(struct i8254 *pit, unsigned counter, int64_t now)
{
	catch_up(&pit->counter[counter], now);
	return out(&pit->counter[counter], now);
}

/* The first rising edge of OUT after a time; NEVER: none as things are. */
static int64_t rise_after(const struct i8254_counter *c, int64_t time)
{
	int64_t e = time - c->start, first;

	if (!c->loaded || c->paused)
		return NEVER;
	if (is_periodic(c)) {
		/* Counts of 1 are not allowed there and give no edges. */
		if (c->n < 2)
			return NEVER;
		return c->start + (e < 0 ? 1 : e / c->n + 1) * c->n;
	}
	first = c->start + c->n + (mode(c) >= 4);
	return first > time ? first : NEVER;
}

bool i8254_rose(struct i8254 *pit, int64_t now)
{
	struct i8254_counter *c = &pit->counter[0];
	bool rose = rise_after(c, pit->seen) <= now, level;

	catch_up(c, now);
	level = out(c, now);
	/* Or because of what was written meanwhile. */
	rose = rose || (level && !pit->out_seen);
	pit->seen = now;
	pit->out_seen = level;
	return rose;
}

int64_t i8254_next(struct i8254 *pit, int64_t now)
{
	struct i8254_counter *c = &pit->counter[0];
	int64_t next, fall;

	catch_up(c, now);
	next = rise_after(c, now);
	if (next == NEVER)
		return 0;
	/* A strobe's low clock is too short to be waited for; one-shots are low beforehand. */
	fall = c->reload_at && c->reload_at < next ? c->reload_at : next;
	return fall - now;
}

uint8_t i8254_port61_read(struct i8254 *pit, int64_t now)
{
	return (uint8_t)(pit->port61 | (now >> REFRESH_SHIFT & 1 ? PORT61_REFRESH : 0) |
			 (i8254_out(pit, 2, now) ? PORT61_OUT2 : 0));
}

void i8254_port61_write(struct i8254 *pit, uint8_t value, int64_t now)
{
	pit->port61 = (uint8_t)reg_merge(&port61[0], pit->port61, value);
	i8254_set_gate(pit, 2, value & PORT61_GATE2, now);
}

void i8254_reset(struct i8254 *pit, int64_t now)
{
	memset(pit, 0, sizeof(*pit));
	for (unsigned i = 0; i < I8254_COUNTERS; i++) {
		/* Undefined until programmed; this is what firmware leaves at 18.2 Hz, but silent.
		 */
		write_control(&pit->counter[i], CONTROL_RW | 3 << 1);
		pit->counter[i].gate = i != 2;
	}
	pit->seen = now;
	pit->out_seen = true;
}
