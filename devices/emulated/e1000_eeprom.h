/*
 * The serial EEPROM of the card: 64 words in a Microwire part (93C46), as in 317453 chapter 5. It
 * is read by the card's own sequencer (EERD) or by software that moves the part's pins (EECD). It
 * knows no locks and no bus.
 */
#ifndef DEVICES_EMULATED_E1000_EEPROM_H
#define DEVICES_EMULATED_E1000_EEPROM_H

#include <stdbool.h>
#include <stdint.h>

#define EEPROM_WORDS	  64u
#define EEPROM_SUBSYSTEM  0x0bu /* word that holds the subsystem ID */
#define EEPROM_CHECKSUM	  0x3fu
#define EEPROM_SUM	  0xbabau /* of all words */
#define EEPROM_SUB_DEVICE 0x001eu /* PRO/1000 MT Desktop Adapter */
#define EEPROM_VENDOR	  0x8086u
#define EEPROM_DEVICE	  0x100eu

/* EECD: the pins, and who has them */
#define EECD_SK	 (1u << 0)
#define EECD_CS	 (1u << 1)
#define EECD_DI	 (1u << 2)
#define EECD_DO	 (1u << 3)
#define EECD_REQ (1u << 6)
#define EECD_GNT (1u << 7)

/* EERD */
#define EERD_START	(1u << 0)
#define EERD_DONE	(1u << 4)
#define EERD_ADDR_SHIFT 8
#define EERD_DATA_SHIFT 16

struct e1000_eeprom {
	uint16_t word[EEPROM_WORDS];
	bool write_enabled; /* EWEN … EWDS */
	/* the transfer that goes on while CS is high */
	bool cs, sk, data_out;
	bool started;	  /* the start bit was seen */
	unsigned bits;	  /* after the start bit */
	uint32_t shifted; /* what came in */
	uint16_t out;	  /* what goes out, the next bit on top */
	uint8_t address;
	uint8_t command; /* opcode, once complete */
	bool program;	 /* a write is complete and begins when CS falls */
};

/* A fresh part, with the card's address and a right checksum. */
void e1000_eeprom_init(struct e1000_eeprom *ee, const uint8_t mac[6]);
/* What EERD holds after value is written to it. */
uint32_t e1000_eeprom_eerd(const struct e1000_eeprom *ee, uint32_t value);
/* Moves the pins as EECD says; the value of EECD_DO is in ee->data_out. */
void e1000_eeprom_pins(struct e1000_eeprom *ee, uint32_t eecd);

#endif
