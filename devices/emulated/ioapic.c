/*
 * The I/O APIC: see ioapic.h.
 */
#include <string.h>

#include "devices/emulated/ioapic.h"

#define VERSION 0x11u

#define MSI_ADDRESS	    0xfee00000ull
#define MSI_DEST_SHIFT	    12
#define MSI_DEST_LOGICAL    (1u << 2)
#define MSI_DATA_ASSERT	    (1u << 14)
#define MSI_DATA_LEVEL	    (1u << 15)
#define RTE_WRITABLE_LOW    0x1afffu /* not delivery status and remote IRR */
#define RTE_WRITABLE_HIGH   0xff000000u
#define DELMOD_LOWEST	    1u
#define DELMOD(rte)	    ((unsigned)((rte) >> 8) & 7)
#define IS_HIGH_HALF(index) ((index)&1)

enum { ID, VER, ARB, REDTBL };

static const struct reg registers[] = {
	[ID] = { "IOAPICID", IOAPIC_ID, .width = 1, .access = REG_RW, .writable = 0x0f000000 },
	[VER] = { "IOAPICVER", IOAPIC_VER, .width = 1, .access = REG_READ,
		  .reset = VERSION | (IOAPIC_PINS - 1) << 16 },
	[ARB] = { "IOAPICARB", IOAPIC_ARB, .width = 1, .access = REG_READ },
	[REDTBL] = { "IOREDTBL", IOAPIC_REDTBL, 2 * IOAPIC_PINS, .width = 1, .access = REG_RW,
		     .reset = RTE_MASK },
};

const struct reg_table ioapic_registers = { registers, sizeof(registers) / sizeof(registers[0]) };

/* ---- messages -------------------------------------------------------------------------------- */

static bool is_level(uint64_t rte)
{
	/* The other modes are edges, whatever the trigger bit says. */
	return (rte & RTE_LEVEL) && DELMOD(rte) <= DELMOD_LOWEST;
}

static struct apic_msi message(uint64_t rte)
{
	return (struct apic_msi){
		.address = MSI_ADDRESS | (rte >> RTE_DEST_SHIFT) << MSI_DEST_SHIFT |
			   (rte & RTE_DESTMOD ? MSI_DEST_LOGICAL : 0),
		.data = (uint32_t)(rte & (RTE_VECTOR | RTE_DELMOD)) | MSI_DATA_ASSERT |
			(is_level(rte) ? MSI_DATA_LEVEL : 0),
	};
}

static void deliver(struct ioapic *ioapic, unsigned pin)
{
	uint64_t *rte = &ioapic->rte[pin];
	struct apic_msi msi = message(*rte);

	if (ioapic->send(ioapic->opaque, &msi) && is_level(*rte))
		*rte |= RTE_REMOTE_IRR;
}

/* A level pin that is up interrupts again as long as nobody is at it. */
static void serve_level(struct ioapic *ioapic, unsigned pin)
{
	uint64_t rte = ioapic->rte[pin];

	if (is_level(rte) && (ioapic->level >> pin & 1) && !(rte & (RTE_MASK | RTE_REMOTE_IRR)))
		deliver(ioapic, pin);
}

void ioapic_set_pin(struct ioapic *ioapic, unsigned pin, bool level)
{
	uint32_t bit;

	if (pin >= IOAPIC_PINS)
		return;
	bit = 1u << pin;
	if (!!(ioapic->level & bit) == level)
		return;
	ioapic->level ^= bit;
	/* An edge on a masked pin is lost; a level waits. */
	if (is_level(ioapic->rte[pin]))
		serve_level(ioapic, pin);
	else if (level && !(ioapic->rte[pin] & RTE_MASK))
		deliver(ioapic, pin);
}

uint32_t ioapic_serving(const struct ioapic *ioapic, uint8_t vector)
{
	uint32_t pins = 0;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		if ((ioapic->rte[pin] & RTE_REMOTE_IRR) &&
		    (ioapic->rte[pin] & RTE_VECTOR) == vector)
			pins |= 1u << pin;
	return pins;
}

uint32_t ioapic_eoi(struct ioapic *ioapic, uint8_t vector)
{
	uint32_t ended = ioapic_serving(ioapic, vector);

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		if (!(ended >> pin & 1))
			continue;
		ioapic->rte[pin] &= ~RTE_REMOTE_IRR;
		serve_level(ioapic, pin);
	}
	return ended;
}

/* ---- registers ------------------------------------------------------------------------------- */

static void write_rte(struct ioapic *ioapic, unsigned index, uint32_t value)
{
	unsigned pin = index / 2;
	uint64_t *rte = &ioapic->rte[pin];
	struct apic_msi msi;

	if (IS_HIGH_HALF(index)) {
		*rte = (*rte & UINT32_MAX) | (uint64_t)(value & RTE_WRITABLE_HIGH) << 32;
	} else {
		*rte = (*rte & ~(uint64_t)RTE_WRITABLE_LOW) | (value & RTE_WRITABLE_LOW);
		/* The way drivers end a level interrupt whose vector they have lost. */
		if (!is_level(*rte))
			*rte &= ~RTE_REMOTE_IRR;
	}
	if (!is_level(*rte) || (*rte & RTE_MASK))
		return;
	msi = message(*rte);
	if (ioapic->await_eoi)
		ioapic->await_eoi(ioapic->opaque, pin, &msi);
	serve_level(ioapic, pin);
}

static void write_window(struct ioapic *ioapic, uint32_t value)
{
	int reg = reg_find(&ioapic_registers, ioapic->select, 1, REG_WRITE, 0);

	if (reg == ID)
		ioapic->id = (uint32_t)reg_merge(&registers[ID], ioapic->id, value);
	else if (reg == REDTBL)
		write_rte(ioapic, ioapic->select - IOAPIC_REDTBL, value);
}

static uint32_t read_window(const struct ioapic *ioapic)
{
	unsigned index = ioapic->select - IOAPIC_REDTBL;

	switch (reg_find(&ioapic_registers, ioapic->select, 1, REG_READ, 0)) {
	case ID:
	case ARB: /* takes its value from the ID */
		return ioapic->id;
	case VER:
		return (uint32_t)registers[VER].reset;
	case REDTBL:
		return (uint32_t)(ioapic->rte[index / 2] >> (IS_HIGH_HALF(index) ? 32 : 0));
	default:
		return 0;
	}
}

uint32_t ioapic_read(const struct ioapic *ioapic, uint64_t offset, unsigned size)
{
	if (size != 4)
		return 0;
	if (offset == IOAPIC_IOREGSEL)
		return ioapic->select;
	return offset == IOAPIC_IOWIN ? read_window(ioapic) : 0;
}

void ioapic_write(struct ioapic *ioapic, uint64_t offset, unsigned size, uint32_t value)
{
	/* Of IOREGSEL only the low byte is there. */
	if (offset == IOAPIC_IOREGSEL)
		ioapic->select = (uint8_t)value;
	else if (offset == IOAPIC_IOWIN && size == 4)
		write_window(ioapic, value);
}

void ioapic_reset(struct ioapic *ioapic)
{
	ioapic->select = 0;
	ioapic->id = 0;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic->rte[pin] = registers[REDTBL].reset;
}
