/*
 * The I/O APIC as a chip: 24 pins, each with a redirection entry that says which message a change
 * of the pin sends. Messages leave in the form of an MSI, which is what a PC's chip set makes of
 * them, so that KVM's local APICs and ours take the same. It knows neither bus nor locks. Names are
 * those of the data sheet (Intel 82093AA, order number 290566).
 *
 * Levels mean "asserted": the polarity bit is kept but not looked at, as with KVM's own I/O APIC.
 */
#ifndef DEVICES_EMULATED_IOAPIC_H
#define DEVICES_EMULATED_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/registers.h"

#define IOAPIC_PINS 24u

#define IOAPIC_IOREGSEL 0x00u /* offsets in the chip's page */
#define IOAPIC_IOWIN	0x10u
#define IOAPIC_SIZE	0x1000u

#define IOAPIC_ID     0x00u /* numbers for IOREGSEL */
#define IOAPIC_VER    0x01u
#define IOAPIC_ARB    0x02u
#define IOAPIC_REDTBL 0x10u /* two of 32 bits a pin, low half first */

#define RTE_VECTOR     0xffull
#define RTE_DELMOD     (7ull << 8)
#define RTE_DESTMOD    (1ull << 11) /* logical */
#define RTE_DELIVS     (1ull << 12)
#define RTE_INTPOL     (1ull << 13)
#define RTE_REMOTE_IRR (1ull << 14)
#define RTE_LEVEL      (1ull << 15)
#define RTE_MASK       (1ull << 16)
#define RTE_DEST_SHIFT 56

/* An interrupt message: Intel SDM volume 3, "Message Signalled Interrupts". */
struct apic_msi {
	uint64_t address;
	uint32_t data;
};

struct ioapic {
	uint8_t select;
	uint32_t id;
	uint32_t level; /* the pins */
	uint64_t rte[IOAPIC_PINS];
	/* Delivers; false if no local APIC took it. */
	bool (*send)(void *opaque, const struct apic_msi *msi);
	/* A level pin will use this message: its EOI is waited for. May be NULL. */
	void (*await_eoi)(void *opaque, unsigned pin, const struct apic_msi *msi);
	void *opaque;
};

extern const struct reg_table ioapic_registers; /* offset: the number that IOREGSEL takes */

/* send, await_eoi and opaque stay. */
void ioapic_reset(struct ioapic *ioapic);
void ioapic_set_pin(struct ioapic *ioapic, unsigned pin, bool level);
/* The pins whose level interrupt of this vector is being served, one bit each. */
uint32_t ioapic_serving(const struct ioapic *ioapic, uint8_t vector);
/* A local APIC has ended a level interrupt; the pins that it was for, one bit each. */
uint32_t ioapic_eoi(struct ioapic *ioapic, uint8_t vector);

/* Of the page, by bytes' offset; only the two registers answer, to 32 bits. */
uint32_t ioapic_read(const struct ioapic *ioapic, uint64_t offset, unsigned size);
void ioapic_write(struct ioapic *ioapic, uint64_t offset, unsigned size, uint32_t value);

#endif
