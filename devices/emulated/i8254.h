/*
 * The 8254 timer of a PC as a chip: three counters in six modes, and port 0x61 beside it, which
 * holds counter 2's gate. It knows neither bus nor threads nor clocks: time comes in as an
 * argument, counted in periods of the chip's clock; chips.c puts it on the bus. Names are those of
 * the data sheet (Intel 8254, order number 231164); port 0x61 is "NMI status and control" of the
 * 82371SB (PIIX3), 2.5.
 *
 * Nothing runs while nobody looks: counts and outputs follow from how much time has passed.
 */
#ifndef DEVICES_EMULATED_I8254_H
#define DEVICES_EMULATED_I8254_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/registers.h"

#define I8254_HZ       1193182u
#define I8254_COUNTERS 3u
#define I8254_CONTROL  3u /* the control word's address */

#define I8254_READ_BACK	  0xc0u /* in a control word's SC bits */
#define I8254_RB_NO_COUNT 0x20u
#define I8254_RB_NO_STAT  0x10u
#define I8254_STATUS_OUT  0x80u
#define I8254_STATUS_NULL 0x40u

#define PORT61_GATE2   0x01u
#define PORT61_SPEAKER 0x02u
#define PORT61_REFRESH 0x10u
#define PORT61_OUT2    0x20u

struct i8254_counter {
	uint8_t control; /* RW, M and BCD of the last control word */
	bool gate;
	bool written;	   /* a whole count has come since the control word */
	bool loaded;	   /* the counting element counts, or will from `start` on */
	bool paused;	   /* by the gate; `start` then is relative to now */
	uint32_t count;	   /* the count register: 1 … 65536 or 10000 */
	uint32_t n;	   /* what the counting element was loaded with */
	int64_t start;	   /* when it was */
	int64_t reload_at; /* when the count register goes there (modes 2 and 3); 0: nothing waits
			    */
	uint8_t low;	   /* a count's first byte */
	bool write_high, read_high;
	bool count_latched, status_latched;
	uint16_t latch;
	uint8_t status;
};

struct i8254 {
	struct i8254_counter counter[I8254_COUNTERS];
	uint8_t port61; /* the bits that were written */
	int64_t seen;	/* up to when counter 0's rising edges are known */
	bool out_seen;	/* its OUT then */
};

extern const struct reg_table i8254_registers;	  /* offset: A1 A0 */
extern const struct reg_table i8254_port61_table; /* offset 0 */

void i8254_reset(struct i8254 *pit, int64_t now);
uint8_t i8254_read(struct i8254 *pit, unsigned address, int64_t now);
void i8254_write(struct i8254 *pit, unsigned address, uint8_t value, int64_t now);
uint8_t i8254_port61_read(struct i8254 *pit, int64_t now);
void i8254_port61_write(struct i8254 *pit, uint8_t value, int64_t now);

void i8254_set_gate(struct i8254 *pit, unsigned counter, bool level, int64_t now);
bool i8254_out(struct i8254 *pit, unsigned counter, int64_t now);
/* Has counter 0's OUT risen since the last look? Edges that were missed count as one. */
bool i8254_rose(struct i8254 *pit, int64_t now);
/* Clocks until counter 0's OUT may have to be looked at again; 0: never as things are. */
int64_t i8254_next(struct i8254 *pit, int64_t now);

#endif
