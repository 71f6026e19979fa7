/*
 * Two 8259A in cascade: see i8259.h.
 */
#include <string.h>

#include "devices/emulated/i8259.h"

#define IR7	7u
#define POLL_IR 0x80u /* a poll's answer: there was a request */

static const struct reg registers[] = {
	{ "IRR/ISR", 0, .width = 1, .access = REG_READ },
	{ "ICW1/OCW2/OCW3", 0, .width = 1, .access = REG_WRITE },
	{ "IMR/ICW2-4", 1, .width = 1, .access = REG_RW, .writable = 0xff },
};

/* IRQ 0, 1, 2, 8 and 13 are edge triggered for good: timer, keyboard, cascade, clock, FPU. */
static const struct reg elcr_registers[] = {
	{ "ELCR1", 0, .width = 1, .access = REG_RW, .writable = 0xf8 },
	{ "ELCR2", 1, .width = 1, .access = REG_RW, .writable = 0xde },
};

const struct reg_table i8259_registers = { registers, sizeof(registers) / sizeof(registers[0]) };
const struct reg_table i8259_elcr_registers = { elcr_registers, sizeof(elcr_registers) /
									sizeof(elcr_registers[0]) };

/* ---- one unit -------------------------------------------------------------------------------- */

static bool is_level(const struct i8259_unit *u, unsigned ir)
{
	return (u->icw1 & ICW1_LTIM) || (u->elcr >> ir & 1);
}

static void set_ir(struct i8259_unit *u, unsigned ir, bool level)
{
	uint8_t bit = (uint8_t)(1u << ir);
	bool rises = level && !(u->level & bit);

	u->level = (uint8_t)(level ? u->level | bit : u->level & ~bit);
	/* An edge counts only while its input stays up: else INTA finds the default IR7. */
	if (!level)
		u->irr &= (uint8_t)~bit;
	else if (rises || is_level(u, ir))
		u->irr |= bit;
}

/* The one with the highest priority of a set of IRs; -1 if there is none. */
static int highest(const struct i8259_unit *u, uint8_t set)
{
	for (unsigned i = 1; i <= 8; i++) {
		unsigned ir = (u->lowest + i) & 7;

		if (set >> ir & 1)
			return (int)ir;
	}
	return -1;
}

/* What in service keeps others back; in special mask mode not what is masked. */
static uint8_t blocking(const struct i8259_unit *u)
{
	return u->special_mask ? u->isr & (uint8_t)~u->imr : u->isr;
}

/* Places from the highest priority, 0 … 7. */
static unsigned rank(const struct i8259_unit *u, int ir)
{
	return ((unsigned)ir - u->lowest - 1) & 7;
}

/* The request that makes INT active; -1: none. */
static int request(const struct i8259_unit *u)
{
	int ir = highest(u, u->irr & (uint8_t)~u->imr);
	int served = highest(u, blocking(u));

	if (ir < 0 || served < 0)
		return ir;
	/* A slave may have a more important one while one of its own is in service. */
	if (ir == served && (u->icw4 & ICW4_SFNM) && (u->icw3 >> ir & 1))
		return ir;
	return rank(u, ir) < rank(u, served) ? ir : -1;
}

static void end_of_interrupt(struct i8259_unit *u, int ir, bool rotate)
{
	if (ir < 0)
		return;
	u->isr &= (uint8_t) ~(1u << ir);
	if (rotate)
		u->lowest = (uint8_t)ir;
}

/* The two INTA pulses, as this unit sees them; -1: the request has gone. */
static int acknowledge(struct i8259_unit *u)
{
	int ir = request(u);

	if (ir < 0)
		return -1;
	u->isr |= (uint8_t)(1u << ir);
	if (!is_level(u, (unsigned)ir))
		u->irr &= (uint8_t) ~(1u << ir);
	if (u->icw4 & ICW4_AEOI)
		end_of_interrupt(u, ir, u->rotate_in_aeoi);
	return ir;
}

static void write_icw1(struct i8259_unit *u, uint8_t value)
{
	u->icw1 = value;
	u->expect = 2;
	u->imr = 0;
	u->isr = 0;
	u->lowest = IR7;
	u->special_mask = false;
	u->poll = false;
	u->read_isr = false;
	u->rotate_in_aeoi = false;
	if (!(value & ICW1_IC4))
		u->icw4 = 0;
	/* The edge sense circuits are reset: an input that is up has to fall and rise again. */
	u->irr = value & ICW1_LTIM ? u->level : u->level & u->elcr;
}

/* What follows ICW1 at the other address. */
static void write_icw(struct i8259_unit *u, uint8_t value)
{
	unsigned next = 0;

	switch (u->expect) {
	case 2:
		u->icw2 = value & 0xf8;
		next = 3;
		break;
	case 3:
		u->icw3 = value;
		next = 4;
		break;
	default:
		u->icw4 = value & 0x1f;
		break;
	}
	if (next == 3 && (u->icw1 & ICW1_SNGL))
		next = 4;
	if (next == 4 && !(u->icw1 & ICW1_IC4))
		next = 0;
	u->expect = (uint8_t)next;
}

static void write_ocw2(struct i8259_unit *u, uint8_t value)
{
	int level = value & 7;
	bool rotate = value & OCW2_R;

	switch (value & (OCW2_SL | OCW2_EOI)) {
	case OCW2_EOI:
		end_of_interrupt(u, highest(u, blocking(u)), rotate);
		break;
	case OCW2_EOI | OCW2_SL:
		end_of_interrupt(u, level, rotate);
		break;
	case OCW2_SL:
		if (rotate)
			u->lowest = (uint8_t)level;
		break;
	default:
		u->rotate_in_aeoi = rotate;
		break;
	}
}

static void write_ocw3(struct i8259_unit *u, uint8_t value)
{
	if (value & OCW3_P)
		u->poll = true;
	if (value & OCW3_RR)
		u->read_isr = value & OCW3_RIS;
	if (value & OCW3_ESMM)
		u->special_mask = value & OCW3_SMM;
}

static uint8_t poll(struct i8259_unit *u)
{
	int ir = acknowledge(u);

	u->poll = false;
	return ir < 0 ? 0 : (uint8_t)(POLL_IR | (unsigned)ir);
}

/* ---- the pair -------------------------------------------------------------------------------- */

/* The slave's INT follows what it has to say. */
static void cascade(struct i8259 *pic)
{
	set_ir(&pic->unit[0], I8259_CASCADE, request(&pic->unit[1]) >= 0);
}

void i8259_reset(struct i8259 *pic)
{
	for (unsigned i = 0; i < 2; i++) {
		struct i8259_unit *u = &pic->unit[i];
		uint8_t level = u->level;

		/* What other chips drive the inputs with is not ours to change. */
		memset(u, 0, sizeof(*u));
		u->level = level;
		u->imr = 0xff;
		u->lowest = IR7;
	}
	pic->unit[0].level &= (uint8_t) ~(1u << I8259_CASCADE);
}

void i8259_set_input(struct i8259 *pic, unsigned input, bool level)
{
	if (input >= I8259_INPUTS || input == I8259_CASCADE)
		return;
	set_ir(&pic->unit[input / 8], input % 8, level);
	cascade(pic);
}

bool i8259_int(const struct i8259 *pic)
{
	return request(&pic->unit[0]) >= 0;
}

uint8_t i8259_inta(struct i8259 *pic)
{
	struct i8259_unit *master = &pic->unit[0], *slave = &pic->unit[1];
	int ir = acknowledge(master);

	if (ir != I8259_CASCADE)
		return master->icw2 | (ir < 0 ? IR7 : (uint8_t)ir);
	ir = acknowledge(slave);
	/* INT falls with INTA; what is left to say makes a new edge. */
	set_ir(master, I8259_CASCADE, false);
	cascade(pic);
	return slave->icw2 | (ir < 0 ? IR7 : (uint8_t)ir);
}

uint8_t i8259_read(struct i8259 *pic, unsigned unit, unsigned a0)
{
	struct i8259_unit *u = &pic->unit[unit & 1];
	uint8_t value;

	if (u->poll) {
		value = poll(u);
		if (unit)
			set_ir(&pic->unit[0], I8259_CASCADE, false);
		cascade(pic);
		return value;
	}
	if (a0)
		return u->imr;
	return u->read_isr ? u->isr : u->irr;
}

void i8259_write(struct i8259 *pic, unsigned unit, unsigned a0, uint8_t value)
{
	struct i8259_unit *u = &pic->unit[unit & 1];

	if (!a0 && (value & ICW1))
		write_icw1(u, value);
	else if (!a0 && (value & OCW3))
		write_ocw3(u, value);
	else if (!a0)
		write_ocw2(u, value);
	else if (u->expect)
		write_icw(u, value);
	else
		u->imr = value;
	cascade(pic);
}

uint8_t i8259_elcr_read(const struct i8259 *pic, unsigned unit)
{
	return pic->unit[unit & 1].elcr;
}

void i8259_elcr_write(struct i8259 *pic, unsigned unit, uint8_t value)
{
	struct i8259_unit *u = &pic->unit[unit & 1];

	u->elcr = (uint8_t)reg_merge(&elcr_registers[unit & 1], u->elcr, value);
	u->irr |= u->level & u->elcr;
	cascade(pic);
}
