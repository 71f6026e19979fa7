/*
 * The interrupt controllers of a PC/AT: two 8259A, the slave's INT on the master's IR2, and the
 * edge/level control registers (ELCR) that chip sets put beside them. As a chip: it knows neither
 * bus nor locks nor CPUs; chips.c puts it on the bus. Names are those of the data sheet (Intel
 * 8259A, order number 231468); the ELCR is that of the 82371SB (PIIX3), 2.5.
 */
#ifndef DEVICES_EMULATED_I8259_H
#define DEVICES_EMULATED_I8259_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/registers.h"

#define I8259_INPUTS  16u /* 0-7 the master's IR, 8-15 the slave's; 2 is the cascade */
#define I8259_CASCADE 2u

#define ICW1_IC4  0x01u /* ICW4 follows */
#define ICW1_SNGL 0x02u /* no ICW3 */
#define ICW1_LTIM 0x08u /* level triggered */
#define ICW1	  0x10u /* this is ICW1 */
#define ICW4_UPM  0x01u /* 8086 mode */
#define ICW4_AEOI 0x02u
#define ICW4_SFNM 0x10u /* special fully nested mode */
#define OCW2_R	  0x80u
#define OCW2_SL	  0x40u
#define OCW2_EOI  0x20u
#define OCW3	  0x08u /* this is OCW3 */
#define OCW3_ESMM 0x40u
#define OCW3_SMM  0x20u
#define OCW3_P	  0x04u
#define OCW3_RR	  0x02u
#define OCW3_RIS  0x01u

/* One 8259A. */
struct i8259_unit {
	uint8_t irr; /* edge inputs: latched, while the input stays high; level inputs: the input */
	uint8_t imr, isr;
	uint8_t level; /* the inputs */
	uint8_t elcr;  /* inputs that are level triggered */
	uint8_t icw1, icw2, icw3, icw4;
	uint8_t lowest; /* the IR that has the lowest priority */
	uint8_t expect; /* the initialization word that is next: 2, 3, 4; 0: operation */
	bool special_mask, poll, read_isr, rotate_in_aeoi;
};

struct i8259 {
	struct i8259_unit unit[2]; /* master, slave */
};

extern const struct reg_table i8259_registers;	    /* of one unit: offset is A0 */
extern const struct reg_table i8259_elcr_registers; /* offset: the unit */

void i8259_reset(struct i8259 *pic);
void i8259_set_input(struct i8259 *pic, unsigned input, bool level);
/* The master's INT. */
bool i8259_int(const struct i8259 *pic);
/* INTA: the vector. Without a request it is that of IR7, and nothing is in service. */
uint8_t i8259_inta(struct i8259 *pic);

uint8_t i8259_read(struct i8259 *pic, unsigned unit, unsigned a0);
void i8259_write(struct i8259 *pic, unsigned unit, unsigned a0, uint8_t value);
uint8_t i8259_elcr_read(const struct i8259 *pic, unsigned unit);
void i8259_elcr_write(struct i8259 *pic, unsigned unit, uint8_t value);

#endif
