/*
 * The local APIC against the SDM: registers' reset values and access rules, priorities, acceptance,
 * the local vector table, errors, the timer, and what messages do to the processor.
 */
#include <stdlib.h>

#include <criterion/criterion.h>

#include "devices/emulated/lapic.h"

#define ID     5
#define MS     1000000
#define FIRST  0x40
#define SECOND 0x41
#define HIGHER 0x93

static struct lapic l;
static struct lapic_effect effect;
static int64_t now;

static void put(unsigned reg, uint32_t value)
{
	lapic_write(&l, reg, 4, value, now, &effect);
}

static uint32_t get(unsigned reg)
{
	return lapic_read(&l, reg, 4, now);
}

static void set_up(void)
{
	now = 1000 * MS;
	l = (struct lapic){ 0 };
	lapic_power_on(&l, ID, true);
	put(LAPIC_SVR, SVR_ENABLE | 0xff);
}

TestSuite(lapic, .init = set_up);

static enum lapic_taken message(enum apic_mode mode, uint8_t vector, bool level)
{
	const struct apic_message m = {
		.mode = mode, .vector = vector, .level = level, .assert = true
	};

	return lapic_accept(&l, &m);
}

static enum lapic_taken fixed(uint8_t vector)
{
	return message(APIC_FIXED, vector, false);
}

static bool bit(unsigned base, unsigned vector)
{
	return get(base + vector / 32 * 16) >> vector % 32 & 1;
}

/* The processor takes the vector that is offered. */
static void takes(uint8_t vector)
{
	cr_assert_eq(lapic_pending(&l), vector, "%x is offered", (unsigned)lapic_pending(&l));
	lapic_acknowledge(&l, vector);
}

static int end(void)
{
	put(LAPIC_EOI, 0);
	return effect.ended;
}

Test(lapic, registers_after_power_on)
{
	static const struct {
		unsigned reg;
		uint32_t value;
	} expected[] = {
		{ LAPIC_ID, ID << 24 },
		{ LAPIC_VERSION, 0x00050014 },
		{ LAPIC_TPR, 0 },
		{ LAPIC_APR, 0 },
		{ LAPIC_PPR, 0 },
		{ LAPIC_LDR, 0 },
		{ LAPIC_DFR, 0xffffffff },
		{ LAPIC_SVR, 0xff },
		{ LAPIC_ESR, 0 },
		{ LAPIC_ICR_LOW, 0 },
		{ LAPIC_ICR_HIGH, 0 },
		{ LAPIC_LVT_TIMER, LVT_MASKED },
		{ LAPIC_LVT_THERM, LVT_MASKED },
		{ LAPIC_LVT_PERF, LVT_MASKED },
		{ LAPIC_LVT_LINT0, LVT_MASKED },
		{ LAPIC_LVT_LINT1, LVT_MASKED },
		{ LAPIC_LVT_ERROR, LVT_MASKED },
		{ LAPIC_TIMER_ICR, 0 },
		{ LAPIC_TIMER_CCR, 0 },
		{ LAPIC_TIMER_DCR, 0 },
	};

	lapic_power_on(&l, ID, true);
	for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		cr_assert_eq(get(expected[i].reg), expected[i].value, "%s is %x",
			     reg_name(&lapic_registers, expected[i].reg, REG_RW, 0),
			     get(expected[i].reg));
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(get(LAPIC_ISR + 16 * i) | get(LAPIC_TMR + 16 * i) |
				     get(LAPIC_IRR + 16 * i),
			     0);
}

Test(lapic, what_can_be_written)
{
	static const struct {
		unsigned reg;
		uint32_t value;
	} expected[] = {
		{ LAPIC_ID, ID << 24 },
		{ LAPIC_VERSION, 0x00050014 },
		{ LAPIC_TPR, 0xff },
		{ LAPIC_LDR, 0xff000000 },
		{ LAPIC_DFR, 0xffffffff },
		{ LAPIC_SVR, 0x3ff },
		{ LAPIC_ICR_HIGH, 0xff000000 },
		{ LAPIC_ICR_LOW, 0xccfff },
		{ LAPIC_LVT_TIMER, 0x300ff },
		{ LAPIC_LVT_THERM, 0x107ff },
		{ LAPIC_LVT_PERF, 0x107ff },
		{ LAPIC_LVT_LINT0, 0x1a7ff },
		{ LAPIC_LVT_ERROR, 0x100ff },
		{ LAPIC_TIMER_ICR, 0xffffffff },
		{ LAPIC_TIMER_DCR, 0xb },
		{ LAPIC_ISR, 0 },
		{ LAPIC_TMR + 0x30, 0 },
		{ LAPIC_IRR + 0x70, 0 },
	};

	for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		put(expected[i].reg, 0xffffffff);
		cr_assert_eq(get(expected[i].reg), expected[i].value, "%s is %x",
			     reg_name(&lapic_registers, expected[i].reg, REG_RW, 0),
			     get(expected[i].reg));
	}
	put(LAPIC_DFR, 0);
	cr_assert_eq(get(LAPIC_DFR), 0x0fffffff);
}

Test(lapic, widths)
{
	put(LAPIC_LDR, 0x12000000);
	lapic_write(&l, LAPIC_LDR, 1, 0xff, now, &effect);
	lapic_write(&l, LAPIC_LDR + 3, 1, 0xff, now, &effect);
	lapic_write(&l, LAPIC_LDR, 8, 0xff000000, now, &effect);
	lapic_write(&l, LAPIC_LDR + 4, 4, 0xff000000, now, &effect);
	cr_assert_eq(get(LAPIC_LDR), 0x12000000, "only 32 bits, aligned to 16 bytes, are written");
	cr_assert_eq(lapic_read(&l, LAPIC_LDR + 3, 1, now), 0x12, "parts can be read");
	cr_assert_eq(lapic_read(&l, LAPIC_LDR + 2, 2, now), 0x1200);
	cr_assert_eq(lapic_read(&l, LAPIC_LDR + 2, 4, now), 0);
	cr_assert_eq(lapic_read(&l, LAPIC_LDR, 8, now), 0);
	put(LAPIC_ESR, 0);
	cr_assert_eq(get(LAPIC_ESR), 0, "and none of that is an error");
}

Test(lapic, disabled_by_software)
{
	put(LAPIC_LVT_TIMER, FIRST);
	put(LAPIC_SVR, 0xff);
	cr_assert_eq(get(LAPIC_LVT_TIMER), LVT_MASKED | FIRST, "entries get masked");
	put(LAPIC_LVT_TIMER, FIRST);
	cr_assert_eq(get(LAPIC_LVT_TIMER), LVT_MASKED | FIRST, "and stay so");
	cr_assert_eq(fixed(FIRST), LAPIC_REFUSED);
	cr_assert_eq(message(APIC_NMI, 0, false), LAPIC_NEWS, "NMIs come all the same");
	cr_assert(l.nmi);
	put(LAPIC_SVR, SVR_ENABLE | 0xff);
	cr_assert_eq(get(LAPIC_LVT_TIMER), LVT_MASKED | FIRST, "they do not unmask by themselves");
}

Test(lapic, what_was_requested_stays_while_disabled)
{
	fixed(FIRST);
	put(LAPIC_SVR, 0xff);
	cr_assert(bit(LAPIC_IRR, FIRST));
	cr_assert_eq(lapic_pending(&l), -1);
	put(LAPIC_SVR, SVR_ENABLE | 0xff);
	takes(FIRST);
}

Test(lapic, request_service_end)
{
	cr_assert_eq(lapic_pending(&l), -1);
	cr_assert_eq(fixed(FIRST), LAPIC_NEWS);
	cr_assert(bit(LAPIC_IRR, FIRST) && !bit(LAPIC_ISR, FIRST) && !bit(LAPIC_TMR, FIRST));
	cr_assert_eq(fixed(FIRST), LAPIC_TAKEN, "asked for already");
	takes(FIRST);
	cr_assert(!bit(LAPIC_IRR, FIRST) && bit(LAPIC_ISR, FIRST));
	cr_assert_eq(get(LAPIC_PPR), FIRST & 0xf0);
	cr_assert_eq(fixed(FIRST), LAPIC_TAKEN, "one more may wait while one is in service");
	cr_assert_eq(lapic_pending(&l), -1);
	cr_assert_eq(end(), -1, "an edge: nobody else hears of its end");
	takes(FIRST);
	end();
	cr_assert_eq(get(LAPIC_PPR), 0);
	cr_assert_eq(end(), -1, "an EOI too many");
}

Test(lapic, priorities)
{
	fixed(FIRST);
	cr_assert_eq(fixed(HIGHER), LAPIC_NEWS);
	cr_assert_eq(fixed(SECOND), LAPIC_TAKEN, "the higher one is first anyhow");
	takes(HIGHER);
	cr_assert_eq(lapic_pending(&l), -1);
	cr_assert_eq(fixed(HIGHER + 1), LAPIC_TAKEN, "the same class does not interrupt");
	cr_assert_eq(fixed(0xa0), LAPIC_NEWS);
	takes(0xa0);
	end();
	cr_assert_eq(lapic_pending(&l), -1);
	end();
	takes(HIGHER + 1);
	end();
	takes(SECOND);
	cr_assert_eq(lapic_pending(&l), -1);
	end();
	takes(FIRST);
}

Test(lapic, task_priority)
{
	put(LAPIC_TPR, 0x45);
	cr_assert_eq(get(LAPIC_PPR), 0x45);
	cr_assert_eq(fixed(0x4f), LAPIC_TAKEN);
	cr_assert_eq(lapic_pending(&l), -1);
	cr_assert_eq(fixed(0x50), LAPIC_NEWS);
	takes(0x50);
	cr_assert_eq(get(LAPIC_PPR), 0x50);
	end();
	cr_assert_eq(lapic_cr8(&l), 4);
	lapic_set_cr8(&l, 3);
	cr_assert_eq(get(LAPIC_TPR), 0x30, "CR8 clears the subclass");
	takes(0x4f);
	put(LAPIC_TPR, 0x40);
	cr_assert_eq(get(LAPIC_PPR), 0x40);
	put(LAPIC_TPR, 0x4f);
	cr_assert_eq(get(LAPIC_PPR), 0x4f, "the same class: the task's with its subclass");
}

Test(lapic, levels_tell_their_end)
{
	cr_assert_eq(message(APIC_FIXED, FIRST, true), LAPIC_NEWS);
	cr_assert(bit(LAPIC_TMR, FIRST));
	takes(FIRST);
	cr_assert_eq(end(), FIRST);
	fixed(FIRST);
	cr_assert(!bit(LAPIC_TMR, FIRST), "each acceptance sets the mode");
	takes(FIRST);
	cr_assert_eq(end(), -1);
	fixed(FIRST);
	cr_assert_eq(message(APIC_FIXED, FIRST, true), LAPIC_TAKEN, "an edge is there already");
	takes(FIRST);
	cr_assert_eq(end(), FIRST);
	const struct apic_message gone = { .mode = APIC_FIXED, .vector = FIRST, .level = true };
	cr_assert_eq(lapic_accept(&l, &gone), LAPIC_TAKEN);
	cr_assert_eq(lapic_pending(&l), -1, "de-asserted, it asks for nothing");
}

Test(lapic, errors)
{
	put(LAPIC_LVT_ERROR, 0x70);
	cr_assert_eq(fixed(15), LAPIC_NEWS, "the error's own interrupt");
	cr_assert_eq(get(LAPIC_ESR), 0, "not before ESR is written");
	put(LAPIC_ESR, 0xffffffff);
	cr_assert_eq(get(LAPIC_ESR), ESR_RECV_ILLEGAL);
	takes(0x70);
	end();
	put(LAPIC_ICR_LOW, 15);
	cr_assert(!effect.send);
	put(LAPIC_ESR, 0);
	cr_assert_eq(get(LAPIC_ESR), ESR_SEND_ILLEGAL);
	get(0x040);
	put(0x3f0, 1);
	put(LAPIC_ESR, 0);
	cr_assert_eq(get(LAPIC_ESR), ESR_ILLEGAL_REG);
	put(LAPIC_ESR, 0);
	cr_assert_eq(get(LAPIC_ESR), 0);
	put(LAPIC_LVT_ERROR, 3);
	fixed(2);
	put(LAPIC_ESR, 0);
	cr_assert_eq(get(LAPIC_ESR), ESR_RECV_ILLEGAL, "also if its own vector is illegal");
}

Test(lapic, interprocessor_interrupts)
{
	put(LAPIC_ICR_HIGH, 0x03000000);
	put(LAPIC_ICR_LOW, FIRST | 1 << 11 | 1 << 14);
	cr_assert(effect.send);
	cr_assert_eq(effect.message.dest, 3);
	cr_assert(effect.message.logical);
	cr_assert_eq(effect.message.mode, APIC_FIXED);
	cr_assert_eq(effect.message.vector, FIRST);
	cr_assert_eq(effect.message.shorthand, APIC_NO_SHORTHAND);
	cr_assert_eq(get(LAPIC_ICR_LOW), FIRST | 1 << 11 | 1 << 14, "and is sent at once");
	put(LAPIC_ICR_LOW, APIC_STARTUP << 8 | 0x08 | 3 << 18);
	cr_assert_eq(effect.message.mode, APIC_STARTUP);
	cr_assert_eq(effect.message.vector, 8, "which is no vector");
	cr_assert_eq(effect.message.shorthand, APIC_ALL_BUT_SELF);
	put(LAPIC_ICR_LOW, APIC_INIT << 8 | 1 << 15 | 2 << 18);
	cr_assert(effect.message.level && !effect.message.assert);
	put(LAPIC_ICR_LOW, FIRST | 1 << 15 | 1 << 14);
	cr_assert(!effect.message.level, "only INIT's trigger mode means something");
	put(LAPIC_ICR_LOW, APIC_EXTINT << 8);
	cr_assert(!effect.send);
	put(LAPIC_ICR_LOW, APIC_RESERVED << 8);
	cr_assert(!effect.send);
}

Test(lapic, destinations)
{
	struct apic_message m = { .dest = ID };

	cr_assert(lapic_matches(&l, &m));
	m.dest = ID + 1;
	cr_assert(!lapic_matches(&l, &m));
	m.dest = 0xff;
	cr_assert(lapic_matches(&l, &m));
	m = (struct apic_message){ .dest = 0x24, .logical = true };
	cr_assert(!lapic_matches(&l, &m), "no logical id yet");
	put(LAPIC_LDR, 0x04000000);
	cr_assert(lapic_matches(&l, &m), "flat: any bit in common");
	m.dest = 0xfb;
	cr_assert(!lapic_matches(&l, &m));
	put(LAPIC_DFR, 0);
	put(LAPIC_LDR, 0x24000000);
	m.dest = 0x2c;
	cr_assert(lapic_matches(&l, &m), "cluster 2, a bit in common");
	m.dest = 0x23;
	cr_assert(!lapic_matches(&l, &m));
	m.dest = 0x34;
	cr_assert(!lapic_matches(&l, &m), "another cluster");
	m.dest = 0xf4;
	cr_assert(lapic_matches(&l, &m), "all clusters");
	m.dest = 0xff;
	cr_assert(lapic_matches(&l, &m));
	lapic_enable(&l, false);
	cr_assert(!lapic_matches(&l, &m), "globally disabled, it hears nothing");
}

Test(lapic, init_and_startup)
{
	struct apic_message off = { .mode = APIC_INIT, .level = true };

	cr_assert_eq(message(APIC_STARTUP, 8, false), LAPIC_TAKEN);
	cr_assert_eq(l.startup, -1, "one that runs takes no notice");
	cr_assert_eq(lapic_accept(&l, &off), LAPIC_TAKEN);
	cr_assert(!l.init);
	cr_assert_eq(message(APIC_INIT, 0, false), LAPIC_NEWS);
	cr_assert(l.init);
	cr_assert_eq(message(APIC_STARTUP, 8, false), LAPIC_NEWS, "not lost before INIT is served");
	cr_assert_eq(message(APIC_STARTUP, 9, false), LAPIC_TAKEN);
	cr_assert_eq(l.startup, 8, "the first counts");
	put(LAPIC_TPR, 0x40);
	put(LAPIC_LDR, 0x01000000);
	lapic_init(&l);
	cr_assert_eq(get(LAPIC_TPR) | get(LAPIC_LDR), 0);
	cr_assert_eq(get(LAPIC_SVR), 0xff);
	cr_assert_eq(get(LAPIC_ID), ID << 24, "the id stays");
	cr_assert_eq(l.startup, 8);
	lapic_power_on(&l, 1, false);
	cr_assert(l.waits_for_startup);
	cr_assert_eq(message(APIC_STARTUP, 0x9f, false), LAPIC_NEWS);
	cr_assert_eq(l.startup, 0x9f);
}

Test(lapic, other_modes)
{
	cr_assert_eq(message(APIC_LOWEST, FIRST, false), LAPIC_NEWS);
	takes(FIRST);
	cr_assert_eq(message(APIC_SMI, 0, false), LAPIC_TAKEN);
	cr_assert_eq(message(APIC_EXTINT, 0, false), LAPIC_NEWS);
	cr_assert(lapic_extint(&l));
}

Test(lapic, lint_pins)
{
	lapic_set_lint(&l, 0, true);
	cr_assert(!lapic_extint(&l), "masked");
	put(LAPIC_LVT_LINT0, APIC_EXTINT << LVT_MODE_SHIFT);
	cr_assert(lapic_extint(&l), "external interrupts follow the pin");
	cr_assert_eq(lapic_set_lint(&l, 0, false), LAPIC_TAKEN);
	cr_assert(!lapic_extint(&l));
	cr_assert_eq(lapic_set_lint(&l, 0, true), LAPIC_NEWS);
	put(LAPIC_LVT_LINT1, APIC_NMI << LVT_MODE_SHIFT);
	lapic_set_lint(&l, 1, true);
	cr_assert(l.nmi);
	l.nmi = false;
	lapic_set_lint(&l, 1, true);
	cr_assert(!l.nmi, "an NMI is an edge");
	lapic_set_lint(&l, 1, false);
	put(LAPIC_LVT_LINT1, FIRST);
	lapic_set_lint(&l, 1, true);
	takes(FIRST);
	cr_assert_eq(end(), -1);
}

Test(lapic, a_level_at_lint)
{
	put(LAPIC_LVT_LINT1, FIRST | LVT_LEVEL);
	cr_assert_eq(lapic_set_lint(&l, 1, true), LAPIC_NEWS);
	cr_assert_eq(get(LAPIC_LVT_LINT1), FIRST | LVT_LEVEL | LVT_REMOTE_IRR);
	takes(FIRST);
	cr_assert_eq(end(), FIRST);
	takes(FIRST);
	lapic_set_lint(&l, 1, false);
	end();
	cr_assert_eq(lapic_pending(&l), -1);
	cr_assert_eq(get(LAPIC_LVT_LINT1), FIRST | LVT_LEVEL);
}

Test(lapic, globally_disabled)
{
	fixed(FIRST);
	put(LAPIC_TPR, 0x30);
	lapic_enable(&l, false);
	cr_assert_eq(lapic_pending(&l), -1);
	cr_assert_eq(message(APIC_NMI, 0, false), LAPIC_REFUSED);
	cr_assert_eq(lapic_set_lint(&l, 0, true), LAPIC_NEWS);
	cr_assert(lapic_extint(&l), "LINT0 is the processor's INTR");
	lapic_enable(&l, true);
	cr_assert_eq(get(LAPIC_TPR), 0, "as after power on");
	cr_assert(!lapic_extint(&l));
}

/* ---- the timer ------------------------------------------------------------------------------- */

Test(lapic, one_shot)
{
	put(LAPIC_LVT_TIMER, FIRST);
	put(LAPIC_TIMER_ICR, 1000); /* by 2 */
	cr_assert_eq(get(LAPIC_TIMER_CCR), 1000);
	cr_assert_eq(lapic_next(&l), now + 2000);
	now += 500;
	cr_assert_eq(get(LAPIC_TIMER_CCR), 750);
	now += 1499;
	lapic_tick(&l, now);
	cr_assert_eq(get(LAPIC_TIMER_CCR), 1);
	cr_assert_eq(lapic_pending(&l), -1);
	now++;
	lapic_tick(&l, now);
	takes(FIRST);
	cr_assert_eq(get(LAPIC_TIMER_CCR), 0);
	cr_assert_eq(lapic_next(&l), 0);
	end();
	now += MS;
	lapic_tick(&l, now);
	cr_assert_eq(lapic_pending(&l), -1, "once");
	put(LAPIC_TIMER_ICR, 1000);
	put(LAPIC_TIMER_ICR, 0);
	cr_assert_eq(lapic_next(&l), 0, "0 stops it");
}

Test(lapic, periodic)
{
	put(LAPIC_TIMER_DCR, 0xb);
	put(LAPIC_LVT_TIMER, FIRST | LVT_PERIODIC);
	put(LAPIC_TIMER_ICR, MS); /* by 1 */
	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(lapic_next(&l), now + MS);
		now += MS;
		lapic_tick(&l, now);
		takes(FIRST);
		end();
		cr_assert_eq(get(LAPIC_TIMER_CCR), MS);
	}
	now += 7 * MS + 300;
	lapic_tick(&l, now);
	takes(FIRST);
	end();
	cr_assert_eq(lapic_pending(&l), -1, "those missed are one");
	cr_assert_eq(lapic_next(&l), now + MS - 300, "the phase stays");
	put(LAPIC_LVT_TIMER, FIRST | LVT_PERIODIC | LVT_MASKED);
	cr_assert_eq(lapic_next(&l), 0, "masked, nobody needs to wake");
	now += MS;
	cr_assert_eq(get(LAPIC_TIMER_CCR), MS - 300, "but it counts");
	put(LAPIC_LVT_TIMER, FIRST);
	now += MS;
	lapic_tick(&l, now);
	cr_assert_eq(lapic_next(&l), 0, "one-shot from then on");
}

Test(lapic, divisors)
{
	static const struct {
		uint32_t dcr, divisor;
	} cases[] = { { 0x0, 2 },  { 0x1, 4 },	{ 0x2, 8 },   { 0x3, 16 },
		      { 0x8, 32 }, { 0x9, 64 }, { 0xa, 128 }, { 0xb, 1 } };

	put(LAPIC_LVT_TIMER, FIRST);
	for (unsigned i = 0; i < 8; i++) {
		put(LAPIC_TIMER_DCR, cases[i].dcr);
		put(LAPIC_TIMER_ICR, 1000);
		cr_assert_eq(lapic_next(&l), now + 1000 * cases[i].divisor);
	}
	/* By another divisor it counts on from where it is. */
	put(LAPIC_TIMER_DCR, 0xb);
	put(LAPIC_TIMER_ICR, 1000);
	now += 400;
	put(LAPIC_TIMER_DCR, 0x0);
	cr_assert_eq(get(LAPIC_TIMER_CCR), 600);
	cr_assert_eq(lapic_next(&l), now + 1200);
}

Test(lapic, extreme_timers)
{
	put(LAPIC_TIMER_DCR, 0xa);
	put(LAPIC_LVT_TIMER, FIRST);
	put(LAPIC_TIMER_ICR, 0xffffffff);
	cr_assert_eq(get(LAPIC_TIMER_CCR), 0xffffffff);
	cr_assert_eq(lapic_next(&l), now + 0xffffffffll * 128);
	put(LAPIC_TIMER_DCR, 0xb);
	put(LAPIC_LVT_TIMER, FIRST | LVT_PERIODIC);
	put(LAPIC_TIMER_ICR, 1);
	now += 1000 * MS;
	lapic_tick(&l, now);
	cr_assert_geq(lapic_next(&l), now + 1, "no faster than anybody could serve");
	cr_assert_leq(get(LAPIC_TIMER_CCR), 1);
}

/* ---- anything -------------------------------------------------------------------------------- */

/* Whatever is written and comes, what is offered is above the priority, and EOIs end it all. */
Test(lapic, hostile_pokes)
{
	srandom(0xfee);
	for (unsigned i = 0; i < 100000; i++) {
		unsigned r = (unsigned)random();
		int vector;

		now += r % 5 ? r >> 20 : (int64_t)r;
		switch (r >> 8 & 7) {
		case 0:
		case 1:
			lapic_write(&l, r >> 11 & 0xfff, 1u << (r & 3), (uint32_t)random() * 2, now,
				    &effect);
			break;
		case 2:
			lapic_write(&l, (r >> 11 & 0x3f) * 16, 4, (uint32_t)random() * 2, now,
				    &effect);
			break;
		case 3:
			lapic_read(&l, r >> 11 & 0xfff, 1u << (r & 3), now);
			break;
		case 4:
			message(r >> 12 & 7, (uint8_t)r, r & 0x8000);
			break;
		case 5:
			lapic_set_lint(&l, r & 1, r & 2);
			break;
		case 6:
			lapic_set_cr8(&l, (uint8_t)r);
			lapic_enable(&l, r >> 16 & 31);
			put(LAPIC_SVR, r | SVR_ENABLE);
			break;
		default:
			lapic_tick(&l, now);
			break;
		}
		vector = lapic_pending(&l);
		cr_assert(vector < 0 || (vector & 0xf0) > (lapic_ppr(&l) & 0xf0));
		if (vector >= 0 && (r & 0x10))
			lapic_acknowledge(&l, (uint8_t)vector);
		cr_assert(lapic_next(&l) == 0 || lapic_next(&l) > 0);
	}
	for (unsigned i = 0; i < 256; i++)
		end();
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(get(LAPIC_ISR + 16 * i), 0);
}
