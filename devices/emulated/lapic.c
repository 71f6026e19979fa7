/*
 * The local APIC's registers and interrupts: see lapic.h. The timer is in lapic_timer.c.
 */
#include <string.h>

#include "devices/emulated/lapic_internal.h"

#define VERSION		 0x14u
#define MAX_LVT		 5u /* the number of the last entry */
#define FIRST_LEGAL	 16u
#define LDR_SHIFT	 24
#define DFR_FLAT	 0xfu
#define DFR_SHIFT	 28
#define BROADCAST	 0xffu
#define CLUSTER_ALL	 0xfu
#define ICR_LOGICAL	 (1u << 11)
#define ICR_ASSERT	 (1u << 14)
#define ICR_LEVEL	 (1u << 15)
#define ICR_SHORT_SHIFT	 18
#define LINT_BITS	 0x1a7ffu
#define VECTOR_WORDS	 8u
#define PRIORITY(vector) ((unsigned)(vector)&0xf0u)

#define R(which, number, ...)                                                                      \
	{                                                                                          \
		which, number, .width = 4, __VA_ARGS__                                             \
	}

static const struct reg registers[] = {
	R("End Of Interrupt", LAPIC_EOI, .access = REG_WRITE),
	R("Interrupt Command 0-31", LAPIC_ICR_LOW, .access = REG_RW, .writable = 0xccfff),
	R("Interrupt Command 32-63", LAPIC_ICR_HIGH, .access = REG_RW, .writable = 0xff000000),
	R("Timer Initial Count", LAPIC_TIMER_ICR, .access = REG_RW, .writable = 0xffffffff),
	R("Timer Current Count", LAPIC_TIMER_CCR, .access = REG_READ),
	R("Task Priority", LAPIC_TPR, .access = REG_RW, .writable = 0xff),
	R("LVT Timer", LAPIC_LVT_TIMER, .access = REG_RW, .reset = LVT_MASKED,
	  .writable = LVT_VECTOR | LVT_MASKED | LVT_PERIODIC),
	R("LVT Thermal Sensor", LAPIC_LVT_THERM, .access = REG_RW, .reset = LVT_MASKED,
	  .writable = LVT_VECTOR | LVT_MODE | LVT_MASKED),
	R("LVT Performance Monitoring", LAPIC_LVT_PERF, .access = REG_RW, .reset = LVT_MASKED,
	  .writable = LVT_VECTOR | LVT_MODE | LVT_MASKED),
	R("LVT LINT0", LAPIC_LVT_LINT0, .access = REG_RW, .reset = LVT_MASKED,
	  .writable = LINT_BITS),
	R("LVT LINT1", LAPIC_LVT_LINT1, .access = REG_RW, .reset = LVT_MASKED,
	  .writable = LINT_BITS),
	R("LVT Error", LAPIC_LVT_ERROR, .access = REG_RW, .reset = LVT_MASKED,
	  .writable = LVT_VECTOR | LVT_MASKED),
	R("Local APIC ID", LAPIC_ID, .access = REG_READ),
	R("Local APIC Version", LAPIC_VERSION, .access = REG_READ,
	  .reset = VERSION | MAX_LVT << 16),
	R("Arbitration Priority", LAPIC_APR, .access = REG_READ),
	R("Processor Priority", LAPIC_PPR, .access = REG_READ),
	R("Remote Read", LAPIC_RRD, .access = REG_READ),
	R("Logical Destination", LAPIC_LDR, .access = REG_RW, .writable = 0xff000000),
	R("Destination Format", LAPIC_DFR, .access = REG_RW, .reset = 0xffffffff,
	  .writable = 0xf0000000),
	R("Spurious Interrupt Vector", LAPIC_SVR, .access = REG_RW, .reset = 0xff,
	  .writable = 0x3ff),
	{ "In-Service", LAPIC_ISR, VECTOR_WORDS * 16, .width = 4, .access = REG_READ },
	{ "Trigger Mode", LAPIC_TMR, VECTOR_WORDS * 16, .width = 4, .access = REG_READ },
	{ "Interrupt Request", LAPIC_IRR, VECTOR_WORDS * 16, .width = 4, .access = REG_READ },
	R("Error Status", LAPIC_ESR, .access = REG_RW),
	R("Divide Configuration", LAPIC_TIMER_DCR, .access = REG_RW, .writable = 0xb),
};

const struct reg_table lapic_registers = { registers, sizeof(registers) / sizeof(registers[0]) };

/* ---- vectors --------------------------------------------------------------------------------- */

static bool get_bit(const struct lapic *l, unsigned base, unsigned vector)
{
	return l->reg[LAPIC_AT(base) + vector / 32] >> vector % 32 & 1;
}

static void set_bit(struct lapic *l, unsigned base, unsigned vector, bool on)
{
	uint32_t *word = &l->reg[LAPIC_AT(base) + vector / 32];
	uint32_t bit = 1u << vector % 32;

	*word = on ? *word | bit : *word & ~bit;
}

static int highest(const struct lapic *l, unsigned base)
{
	for (int i = VECTOR_WORDS - 1; i >= 0; i--) {
		uint32_t word = l->reg[LAPIC_AT(base) + (unsigned)i];

		if (word)
			return i * 32 + 31 - __builtin_clz(word);
	}
	return -1;
}

uint8_t lapic_ppr(const struct lapic *l)
{
	uint32_t tpr = LAPIC_REG(l, LAPIC_TPR);
	int served = highest(l, LAPIC_ISR);

	if (served < 0 || PRIORITY(tpr) >= PRIORITY(served))
		return (uint8_t)tpr;
	return (uint8_t)PRIORITY(served);
}

bool lapic_is_software_enabled(const struct lapic *l)
{
	return l->enabled && (LAPIC_REG(l, LAPIC_SVR) & SVR_ENABLE);
}

int lapic_pending(const struct lapic *l)
{
	int vector = highest(l, LAPIC_IRR);

	if (vector < 0 || !lapic_is_software_enabled(l))
		return -1;
	return PRIORITY(vector) > PRIORITY(lapic_ppr(l)) ? vector : -1;
}

void lapic_acknowledge(struct lapic *l, uint8_t vector)
{
	set_bit(l, LAPIC_IRR, vector, false);
	set_bit(l, LAPIC_ISR, vector, true);
}

static enum lapic_taken request(struct lapic *l, uint8_t vector, bool level)
{
	if (!lapic_is_software_enabled(l))
		return LAPIC_REFUSED;
	if (vector < FIRST_LEGAL) {
		lapic_error(l, ESR_RECV_ILLEGAL);
		return LAPIC_NEWS;
	}
	/* Also of one that waits as an edge: the I/O APIC of a level wants to hear of its end. */
	set_bit(l, LAPIC_TMR, vector, level);
	if (get_bit(l, LAPIC_IRR, vector))
		return LAPIC_TAKEN;
	set_bit(l, LAPIC_IRR, vector, true);
	return lapic_pending(l) == vector ? LAPIC_NEWS : LAPIC_TAKEN;
}

/* ---- the local vector table ------------------------------------------------------------------ */

enum lapic_taken lapic_raise(struct lapic *l, unsigned lvt)
{
	uint32_t entry = LAPIC_REG(l, lvt);
	struct apic_message m = {
		.mode = (entry & LVT_MODE) >> LVT_MODE_SHIFT,
		.vector = entry & LVT_VECTOR,
		.assert = true,
	};

	if (entry & LVT_MASKED)
		return LAPIC_REFUSED;
	/* The others are not allowed here. */
	if (m.mode != APIC_FIXED && m.mode != APIC_NMI && m.mode != APIC_SMI && m.mode != APIC_INIT)
		return LAPIC_REFUSED;
	return lapic_accept(l, &m);
}

void lapic_error(struct lapic *l, uint32_t error)
{
	bool again = l->errors & error;

	l->errors |= error;
	/* Its own vector may be the illegal one. */
	if (!again)
		lapic_raise(l, LAPIC_LVT_ERROR);
}

static enum lapic_taken serve_level(struct lapic *l, unsigned pin)
{
	uint32_t *entry = &LAPIC_REG(l, LAPIC_LVT_LINT0 + 16 * pin);
	enum lapic_taken taken;

	if (!l->lint[pin] || (*entry & (LVT_MASKED | LVT_REMOTE_IRR)))
		return LAPIC_REFUSED;
	taken = request(l, *entry & LVT_VECTOR, true);
	if (taken != LAPIC_REFUSED)
		*entry |= LVT_REMOTE_IRR;
	return taken;
}

static bool is_level(uint32_t entry)
{
	return (entry & LVT_LEVEL) && (entry & LVT_MODE) >> LVT_MODE_SHIFT == APIC_FIXED;
}

enum lapic_taken lapic_set_lint(struct lapic *l, unsigned pin, bool level)
{
	uint32_t entry = LAPIC_REG(l, LAPIC_LVT_LINT0 + 16 * pin);
	bool rises = level && !l->lint[pin];

	l->lint[pin] = level;
	if (is_level(entry))
		return serve_level(l, pin);
	if (!rises)
		return LAPIC_TAKEN;
	if ((entry & LVT_MODE) >> LVT_MODE_SHIFT == APIC_EXTINT || !l->enabled)
		return lapic_extint(l) ? LAPIC_NEWS : LAPIC_TAKEN;
	return lapic_raise(l, LAPIC_LVT_LINT0 + 16 * pin);
}

bool lapic_extint(const struct lapic *l)
{
	/* Without its APIC, the processor's INTR pin is LINT0. */
	if (!l->enabled)
		return l->lint[0];
	for (unsigned pin = 0; pin < 2; pin++) {
		uint32_t entry = LAPIC_REG(l, LAPIC_LVT_LINT0 + 16 * pin);

		if (l->lint[pin] && !(entry & LVT_MASKED) &&
		    (entry & LVT_MODE) >> LVT_MODE_SHIFT == APIC_EXTINT)
			return true;
	}
	return l->extint;
}

/* ---- messages -------------------------------------------------------------------------------- */

bool lapic_matches(const struct lapic *l, const struct apic_message *m)
{
	uint8_t ldr = (uint8_t)(LAPIC_REG(l, LAPIC_LDR) >> LDR_SHIFT);
	uint8_t cluster = m->dest >> 4;

	if (!l->enabled)
		return false;
	if (m->dest == BROADCAST)
		return true;
	if (!m->logical)
		return m->dest == l->id;
	if (LAPIC_REG(l, LAPIC_DFR) >> DFR_SHIFT == DFR_FLAT)
		return m->dest & ldr;
	return (cluster == ldr >> 4 || cluster == CLUSTER_ALL) && (m->dest & ldr & 0xf);
}

enum lapic_taken lapic_accept(struct lapic *l, const struct apic_message *m)
{
	if (!l->enabled)
		return LAPIC_REFUSED;
	switch (m->mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		/* The end of a level is not for a local APIC. */
		return m->level && !m->assert ? LAPIC_TAKEN : request(l, m->vector, m->level);
	case APIC_NMI:
		l->nmi = true;
		return LAPIC_NEWS;
	case APIC_INIT:
		/* De-asserted, it only sets arbitration ids, which a bus of today has not. */
		if (m->level && !m->assert)
			return LAPIC_TAKEN;
		l->init = true;
		l->startup = -1;
		return LAPIC_NEWS;
	case APIC_STARTUP:
		/* One that runs takes no notice, nor does a second one count. */
		if (!(l->init || l->waits_for_startup) || l->startup >= 0)
			return LAPIC_TAKEN;
		l->startup = m->vector;
		return LAPIC_NEWS;
	case APIC_EXTINT:
		l->extint = true;
		return LAPIC_NEWS;
	default:
		return LAPIC_TAKEN; /* there is no system management mode to enter */
	}
}

/* ---- registers ------------------------------------------------------------------------------- */

static void write_icr(struct lapic *l, uint32_t value, struct lapic_effect *effect)
{
	struct apic_message m = {
		.dest = (uint8_t)(LAPIC_REG(l, LAPIC_ICR_HIGH) >> LDR_SHIFT),
		.logical = value & ICR_LOGICAL,
		.shorthand = value >> ICR_SHORT_SHIFT & 3,
		.mode = (value & LVT_MODE) >> LVT_MODE_SHIFT,
		.vector = value & LVT_VECTOR,
		.level = value & ICR_LEVEL,
		.assert = value & ICR_ASSERT,
	};

	if (m.mode <= APIC_LOWEST && m.vector < FIRST_LEGAL) {
		lapic_error(l, ESR_SEND_ILLEGAL);
		return;
	}
	/* Reserved; an APIC does not send external interrupts. */
	if (m.mode == APIC_RESERVED || m.mode == APIC_EXTINT)
		return;
	/* The trigger bit means something only for the INIT that is de-asserted. */
	if (m.mode != APIC_INIT)
		m.level = false;
	effect->message = m;
	effect->send = true;
}

static void write_eoi(struct lapic *l, struct lapic_effect *effect)
{
	int vector = highest(l, LAPIC_ISR);

	if (vector < 0)
		return;
	set_bit(l, LAPIC_ISR, (unsigned)vector, false);
	if (!get_bit(l, LAPIC_TMR, (unsigned)vector))
		return;
	effect->ended = vector;
	for (unsigned pin = 0; pin < 2; pin++) {
		uint32_t *entry = &LAPIC_REG(l, LAPIC_LVT_LINT0 + 16 * pin);

		if (!(*entry & LVT_REMOTE_IRR) || (*entry & LVT_VECTOR) != (unsigned)vector)
			continue;
		*entry &= ~LVT_REMOTE_IRR;
		serve_level(l, pin);
	}
}

static void write_lvt(struct lapic *l, unsigned reg, uint32_t value)
{
	/* Disabled by software, all stay masked. */
	if (!(LAPIC_REG(l, LAPIC_SVR) & SVR_ENABLE))
		value |= LVT_MASKED;
	LAPIC_REG(l, reg) = value;
	if (reg != LAPIC_LVT_LINT0 && reg != LAPIC_LVT_LINT1)
		return;
	if (is_level(value))
		serve_level(l, (reg - LAPIC_LVT_LINT0) / 16);
	else
		LAPIC_REG(l, reg) &= ~LVT_REMOTE_IRR;
}

static void write_svr(struct lapic *l, uint32_t value)
{
	LAPIC_REG(l, LAPIC_SVR) = value;
	if (value & SVR_ENABLE)
		return;
	for (unsigned reg = LAPIC_LVT_TIMER; reg <= LAPIC_LVT_ERROR; reg += 16)
		LAPIC_REG(l, reg) |= LVT_MASKED;
}

void lapic_write(struct lapic *l, uint64_t offset, unsigned size, uint32_t value, int64_t now,
		 struct lapic_effect *effect)
{
	int i = offset % 16 ? -1 : reg_find(&lapic_registers, offset, size, REG_WRITE, 0);
	unsigned reg;

	*effect = (struct lapic_effect){ .ended = -1 };
	if (i < 0) {
		/* Only for what is no register at all. */
		if (reg_find(&lapic_registers, offset & ~15ull, 4, REG_RW, 0) < 0)
			lapic_error(l, ESR_ILLEGAL_REG);
		return;
	}
	reg = registers[i].offset;
	value = (uint32_t)reg_merge(&registers[i], LAPIC_REG(l, reg), value);
	lapic_tick(l, now);
	switch (reg) {
	case LAPIC_EOI:
		write_eoi(l, effect);
		break;
	case LAPIC_ICR_LOW:
		LAPIC_REG(l, reg) = value;
		write_icr(l, value, effect);
		break;
	case LAPIC_SVR:
		write_svr(l, value);
		break;
	case LAPIC_ESR:
		LAPIC_REG(l, reg) = l->errors;
		l->errors = 0;
		break;
	case LAPIC_LVT_TIMER ... LAPIC_LVT_ERROR:
		write_lvt(l, reg, value);
		break;
	case LAPIC_TIMER_ICR:
	case LAPIC_TIMER_DCR:
		lapic_timer_write(l, reg, value, now);
		break;
	default:
		LAPIC_REG(l, reg) = value;
		break;
	}
}

uint32_t lapic_read(struct lapic *l, uint64_t offset, unsigned size, int64_t now)
{
	unsigned shift = offset % 16 * 8;
	unsigned reg = (unsigned)offset & 0xff0;
	uint32_t value;

	if (reg_find(&lapic_registers, reg, 4, REG_RW, 0) < 0) {
		lapic_error(l, ESR_ILLEGAL_REG);
		return 0;
	}
	if (shift + size * 8 > 32 || offset >= LAPIC_SIZE)
		return 0;
	switch (reg) {
	case LAPIC_PPR:
		value = lapic_ppr(l);
		break;
	case LAPIC_EOI:
		value = 0;
		break;
	case LAPIC_TIMER_CCR:
		lapic_tick(l, now);
		value = lapic_timer_count(l, now);
		break;
	default:
		value = LAPIC_REG(l, reg);
		break;
	}
	return value >> shift & (uint32_t)(~0ull >> (64 - size * 8));
}

/* ---- from the processor ---------------------------------------------------------------------- */

uint8_t lapic_cr8(const struct lapic *l)
{
	return (uint8_t)(LAPIC_REG(l, LAPIC_TPR) >> 4);
}

void lapic_set_cr8(struct lapic *l, uint8_t cr8)
{
	LAPIC_REG(l, LAPIC_TPR) = (uint32_t)(cr8 & 0xf) << 4;
}

void lapic_init(struct lapic *l)
{
	memset(l->reg, 0, sizeof(l->reg));
	for (unsigned i = 0; i < lapic_registers.count; i++)
		LAPIC_REG(l, registers[i].offset) = (uint32_t)registers[i].reset;
	LAPIC_REG(l, LAPIC_ID) = (uint32_t)l->id << LDR_SHIFT;
	l->errors = 0;
	l->deadline = 0;
	l->extint = false;
}

void lapic_power_on(struct lapic *l, uint8_t id, bool boot)
{
	bool lint[2] = { l->lint[0], l->lint[1] };

	*l = (struct lapic){
		.id = id,
		.enabled = true,
		.lint = { lint[0], lint[1] },
		.waits_for_startup = !boot,
		.startup = -1,
	};
	lapic_init(l);
}

void lapic_enable(struct lapic *l, bool enabled)
{
	if (enabled == l->enabled)
		return;
	l->enabled = enabled;
	lapic_init(l);
}
