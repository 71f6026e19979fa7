/*
 * The Microwire EEPROM: see e1000_eeprom.h. Instructions are a start bit, two bits of opcode and
 * six of address (or of a longer opcode), clocked in on the rising edge of SK while CS is high;
 * data follow the same way. A write takes effect when CS falls.
 */
#include <string.h>

#include "devices/emulated/e1000_eeprom.h"

#define COMMAND_BITS 8u /* opcode and address */
#define DATA_BITS    16u

enum { OP_SPECIAL, OP_WRITE, OP_READ, OP_ERASE };

/* Instructions with opcode 00: the two top bits of the address say which. */
enum { SPECIAL_EWDS, SPECIAL_WRAL, SPECIAL_ERAL, SPECIAL_EWEN };

void e1000_eeprom_init(struct e1000_eeprom *ee, const uint8_t mac[6])
{
	uint16_t sum = 0;

	*ee = (struct e1000_eeprom){ .data_out = true };
	for (unsigned i = 0; i < 3; i++)
		ee->word[i] = (uint16_t)(mac[2 * i] | mac[2 * i + 1] << 8);
	ee->word[0x03] = 0x0400;
	ee->word[0x0a] = 0x4408; /* initialization control 1: signature, subsystem from here */
	ee->word[EEPROM_SUBSYSTEM] = EEPROM_SUB_DEVICE;
	ee->word[0x0c] = EEPROM_VENDOR;
	ee->word[0x0d] = EEPROM_DEVICE;
	ee->word[0x0e] = EEPROM_VENDOR;
	ee->word[0x0f] = 0x3040; /* initialization control 2: advertise both PAUSE bits */
	for (unsigned i = 0; i < EEPROM_CHECKSUM; i++)
		sum = (uint16_t)(sum + ee->word[i]);
	ee->word[EEPROM_CHECKSUM] = (uint16_t)(EEPROM_SUM - sum);
}

uint32_t e1000_eeprom_eerd(const struct e1000_eeprom *ee, uint32_t value)
{
	unsigned address = value >> EERD_ADDR_SHIFT & 0xff;
	uint32_t kept = value & (0xffu << EERD_ADDR_SHIFT);

	if (!(value & EERD_START))
		return kept;
	return kept | EERD_DONE | (uint32_t)ee->word[address % EEPROM_WORDS] << EERD_DATA_SHIFT;
}

/* ---- the part -------------------------------------------------------------------------------- */

static void end_transfer(struct e1000_eeprom *ee)
{
	unsigned special = ee->address >> 4;

	if (ee->program && ee->write_enabled) {
		uint16_t data = (uint16_t)ee->shifted;

		if (ee->command == OP_WRITE)
			ee->word[ee->address] = data;
		else if (ee->command == OP_ERASE)
			ee->word[ee->address] = 0xffff;
		else if (special == SPECIAL_ERAL)
			memset(ee->word, 0xff, sizeof(ee->word));
		else
			for (unsigned i = 0; i < EEPROM_WORDS; i++)
				ee->word[i] = data;
	}
	ee->program = false;
	ee->started = false;
	ee->bits = 0;
	ee->shifted = 0;
	ee->data_out = true; /* high impedance with a pull-up; "ready" when selected again */
}

static void command_complete(struct e1000_eeprom *ee)
{
	ee->command = (uint8_t)(ee->shifted >> 6 & 3);
	ee->address = (uint8_t)(ee->shifted & (EEPROM_WORDS - 1));
	ee->shifted = 0;
	switch (ee->command) {
	case OP_READ:
		ee->out = ee->word[ee->address];
		ee->data_out = false; /* the dummy bit */
		break;
	case OP_ERASE:
		ee->program = true;
		break;
	case OP_SPECIAL:
		if (ee->address >> 4 == SPECIAL_EWEN)
			ee->write_enabled = true;
		else if (ee->address >> 4 == SPECIAL_EWDS)
			ee->write_enabled = false;
		else if (ee->address >> 4 == SPECIAL_ERAL)
			ee->program = true;
		break;
	}
}

static bool takes_data(const struct e1000_eeprom *ee)
{
	return ee->command == OP_WRITE ||
	       (ee->command == OP_SPECIAL && ee->address >> 4 == SPECIAL_WRAL);
}

static void data_bit(struct e1000_eeprom *ee, bool in)
{
	if (ee->command == OP_READ) {
		ee->data_out = ee->out & 0x8000;
		ee->out = (uint16_t)(ee->out << 1);
		if ((ee->bits - COMMAND_BITS) % DATA_BITS == 0) {
			/* The next word follows without a dummy bit. */
			ee->address = (ee->address + 1) % EEPROM_WORDS;
			ee->out = ee->word[ee->address];
		}
	} else if (takes_data(ee) && ee->bits <= COMMAND_BITS + DATA_BITS) {
		ee->shifted = ee->shifted << 1 | in;
		ee->program = ee->bits == COMMAND_BITS + DATA_BITS;
	}
}

static void clock_in(struct e1000_eeprom *ee, bool in)
{
	if (!ee->started) {
		ee->started = in;
		return;
	}
	if (ee->bits < COMMAND_BITS) {
		ee->shifted = ee->shifted << 1 | in;
		if (++ee->bits == COMMAND_BITS)
			command_complete(ee);
		return;
	}
	ee->bits = ee->bits == COMMAND_BITS + 2 * DATA_BITS ? COMMAND_BITS + DATA_BITS + 1
							    : ee->bits + 1;
	data_bit(ee, in);
}

void e1000_eeprom_pins(struct e1000_eeprom *ee, uint32_t eecd)
{
	bool cs = eecd & EECD_CS, sk = eecd & EECD_SK;

	if (!cs && ee->cs)
		end_transfer(ee);
	if (cs && ee->cs && sk && !ee->sk)
		clock_in(ee, eecd & EECD_DI);
	ee->cs = cs;
	ee->sk = sk;
}
