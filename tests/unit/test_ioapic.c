/*
 * The I/O APIC against its data sheet: registers, edges and levels, masks, remote IRR and EOI, and
 * the messages that redirection entries make.
 */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "devices/emulated/ioapic.h"

static struct ioapic ioapic;
static struct apic_msi last, awaited;
static unsigned sent, awaits;
static bool refuse;

static bool send(void *opaque, const struct apic_msi *msi)
{
	(void)opaque;
	last = *msi;
	sent++;
	return !refuse;
}

static void await_eoi(void *opaque, unsigned pin, const struct apic_msi *msi)
{
	(void)opaque;
	cr_assert_lt(pin, IOAPIC_PINS);
	awaited = *msi;
	awaits++;
}

static void set_up(void)
{
	memset(&ioapic, 0, sizeof(ioapic));
	ioapic.send = send;
	ioapic.await_eoi = await_eoi;
	ioapic_reset(&ioapic);
	sent = awaits = 0;
	refuse = false;
}

TestSuite(ioapic, .init = set_up);

static uint32_t in(unsigned reg)
{
	ioapic_write(&ioapic, IOAPIC_IOREGSEL, 4, reg);
	return ioapic_read(&ioapic, IOAPIC_IOWIN, 4);
}

static void out(unsigned reg, uint32_t value)
{
	ioapic_write(&ioapic, IOAPIC_IOREGSEL, 4, reg);
	ioapic_write(&ioapic, IOAPIC_IOWIN, 4, value);
}

static void route(unsigned pin, uint32_t low, uint8_t dest)
{
	out(IOAPIC_REDTBL + 2 * pin + 1, (uint32_t)dest << 24);
	out(IOAPIC_REDTBL + 2 * pin, low);
}

static uint32_t entry(unsigned pin)
{
	return in(IOAPIC_REDTBL + 2 * pin);
}

static void pin_is(unsigned pin, bool level)
{
	ioapic_set_pin(&ioapic, pin, level);
}

Test(ioapic, registers_after_reset)
{
	cr_assert_eq(in(IOAPIC_ID), 0);
	cr_assert_eq(in(IOAPIC_VER), 0x00170011);
	cr_assert_eq(in(IOAPIC_ARB), 0);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		cr_assert_eq(entry(pin), RTE_MASK);
		cr_assert_eq(in(IOAPIC_REDTBL + 2 * pin + 1), 0);
	}
	cr_assert_eq(in(0x03), 0);
	cr_assert_eq(in(0x40), 0, "behind the last entry");
	cr_assert_eq(ioapic_read(&ioapic, 0x20, 4), 0);
}

Test(ioapic, what_can_be_written)
{
	out(IOAPIC_ID, 0xffffffff);
	cr_assert_eq(in(IOAPIC_ID), 0x0f000000);
	cr_assert_eq(in(IOAPIC_ARB), 0x0f000000, "loaded from the ID");
	out(IOAPIC_VER, 0);
	cr_assert_eq(in(IOAPIC_VER), 0x00170011);
	out(IOAPIC_REDTBL + 5, 0xffffffff);
	cr_assert_eq(in(IOAPIC_REDTBL + 5), 0xff000000);
	out(IOAPIC_REDTBL + 4, 0xffffffff);
	cr_assert_eq(in(IOAPIC_REDTBL + 4), 0x1afff, "not delivery status and remote IRR");
	ioapic_write(&ioapic, IOAPIC_IOREGSEL, 4, 0x12345601);
	cr_assert_eq(ioapic_read(&ioapic, IOAPIC_IOREGSEL, 4), 0x01, "8 bits of IOREGSEL");
	ioapic_write(&ioapic, IOAPIC_IOREGSEL, 1, IOAPIC_ID);
	ioapic_write(&ioapic, IOAPIC_IOWIN, 1, 0);
	ioapic_write(&ioapic, IOAPIC_IOWIN, 8, 0);
	cr_assert_eq(ioapic_read(&ioapic, IOAPIC_IOWIN, 4), 0x0f000000, "32 bits at once only");
	cr_assert_eq(ioapic_read(&ioapic, IOAPIC_IOWIN, 2), 0);
}

Test(ioapic, edges)
{
	route(4, 0x51, 3);
	pin_is(4, true);
	cr_assert_eq(sent, 1);
	cr_assert_eq(last.address, 0xfee03000);
	cr_assert_eq(last.data, 0x4051);
	pin_is(4, true);
	pin_is(4, false);
	cr_assert_eq(sent, 1);
	pin_is(4, true);
	cr_assert_eq(sent, 2, "no EOI is needed");
	cr_assert_eq(ioapic_eoi(&ioapic, 0x51), 0);
	pin_is(4, false);
	route(4, 0x51 | RTE_MASK, 3);
	pin_is(4, true);
	route(4, 0x51, 3);
	cr_assert_eq(sent, 2, "an edge at a masked pin is lost");
	cr_assert_eq(awaits, 0);
}

Test(ioapic, levels)
{
	route(17, 0x61 | RTE_LEVEL, 0);
	cr_assert_eq(awaits, 1);
	cr_assert_eq(awaited.data, 0xc061);
	pin_is(17, true);
	cr_assert_eq(sent, 1);
	cr_assert_eq(last.data, 0xc061);
	cr_assert_eq(entry(17), 0x61 | RTE_LEVEL | RTE_REMOTE_IRR);
	pin_is(17, false);
	pin_is(17, true);
	cr_assert_eq(sent, 1, "not before its end");
	cr_assert_eq(ioapic_eoi(&ioapic, 0x60), 0, "another's");
	cr_assert_eq(ioapic_eoi(&ioapic, 0x61), 1u << 17);
	cr_assert_eq(sent, 2, "still up: again");
	pin_is(17, false);
	cr_assert_eq(ioapic_eoi(&ioapic, 0x61), 1u << 17);
	cr_assert_eq(sent, 2);
	cr_assert_eq(entry(17), 0x61 | RTE_LEVEL);
	cr_assert_eq(ioapic_eoi(&ioapic, 0x61), 0);
}

Test(ioapic, a_level_waits_for_the_mask)
{
	pin_is(20, true);
	route(20, 0x61 | RTE_LEVEL | RTE_MASK, 0);
	cr_assert_eq(sent, 0);
	route(20, 0x61 | RTE_LEVEL, 0);
	cr_assert_eq(sent, 1);
	route(20, 0x61 | RTE_LEVEL | RTE_MASK, 0);
	ioapic_eoi(&ioapic, 0x61);
	cr_assert_eq(sent, 1, "ended while masked");
	route(20, 0x61 | RTE_LEVEL, 0);
	cr_assert_eq(sent, 2);
}

Test(ioapic, edge_mode_clears_remote_irr)
{
	route(16, 0x61 | RTE_LEVEL, 0);
	pin_is(16, true);
	route(16, 0x61 | RTE_MASK, 0);
	cr_assert_eq(entry(16), 0x61 | RTE_MASK);
	route(16, 0x61 | RTE_LEVEL, 0);
	cr_assert_eq(sent, 2);
}

Test(ioapic, a_refused_level_is_not_in_service)
{
	refuse = true;
	route(16, 0x61 | RTE_LEVEL, 0);
	pin_is(16, true);
	cr_assert_eq(entry(16), 0x61 | RTE_LEVEL);
	refuse = false;
	route(16, 0x61 | RTE_LEVEL, 0);
	cr_assert_eq(sent, 2);
}

Test(ioapic, pins_may_share_a_vector)
{
	route(16, 0x61 | RTE_LEVEL, 0);
	route(17, 0x61 | RTE_LEVEL, 0);
	pin_is(16, true);
	pin_is(17, true);
	cr_assert_eq(ioapic_eoi(&ioapic, 0x61), 3u << 16);
	cr_assert_eq(sent, 4);
}

Test(ioapic, messages)
{
	static const struct {
		uint32_t low;
		uint64_t address;
		uint32_t data;
	} cases[] = {
		{ 0x45 | RTE_DESTMOD, 0xfeec3004, 0x4045 },
		{ 0x45 | 1 << 8, 0xfeec3000, 0x4145 },
		{ 0x45 | 1 << 8 | RTE_LEVEL, 0xfeec3000, 0xc145 },
		{ 0x00 | 4 << 8 | RTE_LEVEL, 0xfeec3000, 0x4400 }, /* an NMI is an edge */
		{ 0x00 | 5 << 8, 0xfeec3000, 0x4500 },
		{ 0x00 | 7 << 8 | RTE_LEVEL, 0xfeec3000, 0x4700 },
		{ 0x45 | RTE_INTPOL, 0xfeec3000, 0x4045 },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		pin_is(2, false);
		route(2, cases[i].low, 0xc3);
		pin_is(2, true);
		cr_assert_eq(last.address, cases[i].address, "case %u", i);
		cr_assert_eq(last.data, cases[i].data, "case %u: %x", i, last.data);
		cr_assert(!(entry(2) & RTE_REMOTE_IRR) == !(last.data & 0x8000));
	}
}

Test(ioapic, pins_that_are_not_there)
{
	pin_is(IOAPIC_PINS, true);
	pin_is(1000, true);
	cr_assert_eq(sent, 0);
}

/* Remote IRR never without level mode, and the table always as the masks allow. */
Test(ioapic, hostile_pokes)
{
	srandom(82093);
	for (unsigned i = 0; i < 100000; i++) {
		unsigned r = (unsigned)random();

		refuse = r >> 28 & 1;
		switch (r >> 8 & 3) {
		case 0:
			ioapic_write(&ioapic, r & 0x30, 1u << (r >> 10 & 3), (uint32_t)random());
			break;
		case 1:
			ioapic_read(&ioapic, r & 0xff, 1u << (r >> 10 & 3));
			break;
		case 2:
			pin_is(r >> 12 & 31, r & 1);
			break;
		default:
			ioapic_eoi(&ioapic, (uint8_t)r);
			break;
		}
		for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
			uint64_t rte = ioapic.rte[pin];

			cr_assert_eq(rte & 0x00fffffffffe1000ull, 0);
			cr_assert(!(rte & RTE_REMOTE_IRR) || (rte & RTE_LEVEL));
		}
	}
}
