/*
 * Registers are data: a device declares each register once (offset, width, access, reset value,
 * name) and its decoder, reset, write masks and trace names all come from that table. What a
 * register does when it is touched stays in the device, in a switch over the table's indexes.
 */
#ifndef DEVICES_REGISTERS_H
#define DEVICES_REGISTERS_H

#include <stdint.h>

#define REG_READ  1u
#define REG_WRITE 2u
#define REG_RW	  (REG_READ | REG_WRITE)

struct reg {
	const char *name; /* the data sheet's */
	uint16_t offset;
	uint16_t span; /* bytes it answers at: an array of `width`; 0: just width */
	uint8_t width; /* bytes of one access: 1, 2, 4 or 8 */
	uint8_t access;
	uint8_t bank;	   /* bit mask of the banks that show it; 0: all of them */
	uint64_t reset;	   /* value after reset */
	uint64_t writable; /* bits a write changes; the others keep their value */
	uint64_t clear;	   /* bits that are cleared by writing 1 to them */
};

/* Several registers may share an offset if their access or bank differs. */
struct reg_table {
	const struct reg *reg;
	unsigned count;
};

/* The register at offset that may be accessed so; -1 if there is none. */
int reg_find(const struct reg_table *table, uint64_t offset, unsigned width, unsigned access,
	     unsigned bank);

/* For traces and messages; "?" where nothing answers. */
const char *reg_name(const struct reg_table *table, uint64_t offset, unsigned access,
		     unsigned bank);

/* Fills value[0 … count - 1] with the reset values. */
void reg_reset(const struct reg_table *table, uint64_t *value);

/* What the register holds after `value` is written over `old`. */
static inline uint64_t reg_merge(const struct reg *reg, uint64_t old, uint64_t value)
{
	return ((old & ~reg->writable) | (value & reg->writable)) & ~(value & reg->clear);
}

/*
 * Chips with an 8-bit data bus: wider accesses become that many byte accesses, lowest address
 * first, as the bus bridge of a PC does it. size is 1 … 8.
 */
uint64_t reg_read_bytewise(void *opaque, uint64_t offset, unsigned size,
			   uint8_t (*read)(void *opaque, uint64_t offset));
void reg_write_bytewise(void *opaque, uint64_t offset, unsigned size, uint64_t value,
			void (*write)(void *opaque, uint64_t offset, uint8_t value));

#endif
