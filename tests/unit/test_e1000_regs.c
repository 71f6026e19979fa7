/*
 * The e1000's registers against the data sheet (Intel 317453): what they hold after reset, which
 * bits can be written, what reading and writing does; EEPROM, PHY, the I/O window and PCI.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/test_e1000_rig.h"

/* Chapter 13, typed in again from the manual: value after reset, and what sticks of all ones. */
static const struct {
	uint32_t offset, reset, ones;
} expected[] = {
	{ 0x0000, 0x00000201, 0 /* not with all ones: RST */ },
	{ 0x0008, 0x00000281, 0x00000281 }, /* STATUS: read only; no link before SLU */
	{ 0x0010, 0x00000118, 0 },	    /* EECD: tested below */
	{ 0x0028, 0, 0xffffffff },	    /* FCAL */
	{ 0x002c, 0, 0x0000ffff },	    /* FCAH */
	{ 0x0030, 0, 0x0000ffff },	    /* FCT */
	{ 0x0038, 0x8100, 0x0000ffff },	    /* VET */
	{ 0x00c0, 0, 0 },		    /* ICR: read only */
	{ 0x00c4, 0, 0x0000ffff },	    /* ITR */
	{ 0x00d0, 0, 0x0001ffff },	    /* IMS */
	{ 0x0100, 0, 0x06dfb3fe },	    /* RCTL */
	{ 0x0170, 0, 0x0000ffff },	    /* FCTTV */
	{ 0x0178, 0, 0xc000ffff },	    /* TXCW */
	{ 0x0180, 0, 0 },		    /* RXCW */
	{ 0x0400, 0, 0x037ffffa },	    /* TCTL */
	{ 0x0410, 0, 0x3fffffff },	    /* TIPG */
	{ 0x0458, 0, 0x0000ffff },	    /* AIFS */
	{ 0x1000, 0x00100030, 0x0001007f - 0x10000 + ((0x40 - 0x7f) % 64u << 16) },
	{ 0x2160, 0, 0x8000fff8 }, /* FCRTL */
	{ 0x2168, 0, 0x0000fff8 }, /* FCRTH */
	{ 0x2800, 0, 0xfffffff0 }, /* RDBAL */
	{ 0x2804, 0, 0xffffffff }, /* RDBAH */
	{ 0x2808, 0, 0x000fff80 }, /* RDLEN */
	{ 0x2810, 0, 0x0000ffff }, /* RDH */
	{ 0x2818, 0, 0x0000ffff }, /* RDT */
	{ 0x2820, 0, 0x0000ffff }, /* RDTR: FPD clears itself */
	{ 0x2828, 0x00010000, 0x013f3f3f },
	{ 0x282c, 0, 0x0000ffff }, /* RADV */
	{ 0x2c00, 0, 0x00000fff }, /* RSRPD */
	{ 0x3800, 0, 0xfffffff0 }, /* TDBAL */
	{ 0x3804, 0, 0xffffffff },
	{ 0x3808, 0, 0x000fff80 },
	{ 0x3810, 0, 0x0000ffff },
	{ 0x3818, 0, 0x0000ffff },
	{ 0x3820, 0, 0x0000ffff }, /* TIDV */
	{ 0x3828, 0, 0xff3f3f3f }, /* TXDCTL */
	{ 0x382c, 0, 0x0000ffff }, /* TADV */
	{ 0x5000, 0, 0x000007ff }, /* RXCSUM */
	{ 0x5200, 0, 0xffffffff }, /* MTA */
	{ 0x53fc, 0, 0xffffffff },
	{ 0x5400, 0x6d005452, 0xffffffff }, /* RAL0: from the EEPROM */
	{ 0x5404, 0x80000076, 0x8003ffff },
	{ 0x547c, 0, 0x8003ffff }, /* RAH15 */
	{ 0x5600, 0, 0xffffffff }, /* VFTA */
	{ 0x57fc, 0, 0xffffffff },
	{ 0x4074, 0, 0 }, /* a statistic */
	{ 0x5c00, 0, 0 }, /* nothing there */
};

#define EXPECTED (sizeof(expected) / sizeof(expected[0]))

static void check_reset(struct erig *r)
{
	for (size_t i = 0; i < EXPECTED; i++)
		cr_expect_eq(erig_get(r, expected[i].offset), expected[i].reset,
			     "%s (0x%x) is 0x%x after reset, not 0x%x",
			     reg_name(&e1000_registers, expected[i].offset, REG_RW, 0),
			     expected[i].offset, erig_get(r, expected[i].offset),
			     expected[i].reset);
}

Test(e1000_regs, hold_what_the_manual_says)
{
	struct erig *r = erig_create(0, "");

	check_reset(r);
	for (size_t i = 0; i < EXPECTED; i++) {
		if (expected[i].offset == 0 || expected[i].offset == 0x10)
			continue;
		erig_set(r, expected[i].offset, 0xffffffff);
		cr_expect_eq(erig_get(r, expected[i].offset), expected[i].ones,
			     "0x%x: 0x%x of all ones, not 0x%x", expected[i].offset,
			     erig_get(r, expected[i].offset), expected[i].ones);
		erig_set(r, expected[i].offset, 0);
	}
	erig_destroy(r);
}

Test(e1000_regs, reset_restores_all_but_the_packet_buffer_split)
{
	struct erig *r = erig_create(0, "");

	for (size_t i = 0; i < EXPECTED; i++)
		if (expected[i].offset != 0 && expected[i].offset != 0x10)
			erig_set(r, expected[i].offset, 0x00000f00);
	erig_set(r, E1000_PBA, 0x28);
	erig_set(r, E1000_CTRL, CTRL_RST);
	cr_assert_eq(erig_get(r, E1000_PBA), 0x00180028);
	erig_set(r, E1000_PBA, 0x30);
	check_reset(r);
	cr_assert(!erig_pin(r));
	r->v->dev->ops->reset(r->v->dev);
	erig_destroy(r);
}

/* Every row of the table, so that none is unreachable or shares its place. */
Test(e1000_regs, every_row_is_where_it_says)
{
	uint8_t map[E1000_CSR_SIZE / 4];

	e1000_registers_map(map);
	for (unsigned row = 0; row < e1000_registers.count; row++) {
		const struct reg *reg = &e1000_registers.reg[row];
		unsigned span = reg->span ? reg->span : 4;

		cr_expect_eq(reg->width, 4);
		cr_expect_eq(reg->reset & ~0xffffffffull, 0);
		for (unsigned at = 0; at < span; at += 4)
			cr_expect_eq(map[(reg->offset + at) / 4], row, "%s", reg->name);
	}
}

Test(e1000_regs, width_and_alignment)
{
	struct erig *r = erig_create(0, "");

	erig_set(r, E1000_VET, 0x1234);
	vrig_write(r->v, r->mmio + E1000_VET, 2, 0x5678); /* ignored */
	vrig_write(r->v, r->mmio + E1000_VET, 1, 0x99);
	cr_assert_eq(erig_get(r, E1000_VET), 0x1234);
	cr_assert_eq(vrig_read(r->v, r->mmio + E1000_VET, 1), 0x34);
	cr_assert_eq(vrig_read(r->v, r->mmio + E1000_VET + 1, 1), 0x12);
	cr_assert_eq(vrig_read(r->v, r->mmio + E1000_VET, 2), 0x1234);
	vrig_write(r->v, r->mmio + E1000_RDBAL, 8, 0x1122334455667788ull);
	cr_assert_eq(erig_get(r, E1000_RDBAL), 0x55667780);
	cr_assert_eq(erig_get(r, E1000_RDBAH), 0x11223344);
	cr_assert_eq(vrig_read(r->v, r->mmio + E1000_RDBAL, 8), 0x1122334455667780ull);
	erig_set(r, E1000_CTRL_DUP, CTRL_SLU);
	cr_assert_eq(erig_get(r, E1000_CTRL), CTRL_SLU);
	erig_set(r, 0x10004, 0xabcd0123); /* packet buffer memory */
	cr_assert_eq(erig_get(r, 0x10004), 0xabcd0123);
	erig_destroy(r);
}

static uint64_t port_read(struct erig *r, unsigned offset, unsigned size)
{
	uint64_t value;

	bus_read(r->v->host.pio, r->io + offset, size, &value);
	return value;
}

Test(e1000_regs, io_window)
{
	struct erig *r = erig_create(0, "");
	struct bus *pio = r->v->host.pio;

	bus_write(pio, r->io, 4, E1000_FCAL);
	bus_write(pio, r->io + 4, 4, 0xdeadbeef);
	cr_assert_eq(erig_get(r, E1000_FCAL), 0xdeadbeef);
	cr_assert_eq(port_read(r, 0, 4), E1000_FCAL);
	cr_assert_eq(port_read(r, 4, 4), 0xdeadbeef);
	cr_assert_eq(port_read(r, 5, 1), 0xbe);
	bus_write(pio, r->io, 2, E1000_FCT); /* too narrow: ignored */
	bus_write(pio, r->io + 4, 2, 0x1111);
	cr_assert_eq(port_read(r, 0, 4), E1000_FCAL);
	cr_assert_eq(erig_get(r, E1000_FCAL), 0xdeadbeef);
	bus_write(pio, r->io, 4, E1000_BAR_SIZE); /* past everything */
	bus_write(pio, r->io + 4, 4, 1);
	cr_assert_eq(port_read(r, 4, 4), 0);
	/* A reset through the window, as Linux's driver does it. */
	bus_write(pio, r->io, 4, E1000_CTRL);
	bus_write(pio, r->io + 4, 4, CTRL_RST);
	cr_assert_eq(erig_get(r, E1000_FCAL), 0);
	cr_assert_eq(erig_get(r, E1000_CTRL) & CTRL_RST, 0);
	erig_destroy(r);
}

Test(e1000_regs, pci_header)
{
	struct erig *r = erig_create(0, "");
	uint64_t cfg = r->v->config;

	cr_assert_eq(vrig_read(r->v, cfg, 4), 0x100e8086);
	cr_assert_eq(vrig_read(r->v, cfg + PCI_CLASS_REVISION, 4), 0x02000002);
	cr_assert_eq(vrig_read(r->v, cfg + PCI_SUBSYSTEM_VENDOR_ID, 4), 0x001e8086);
	cr_assert_eq(vrig_read(r->v, cfg + PCI_INTERRUPT_PIN, 1), 1);
	cr_assert_eq(vrig_read(r->v, cfg + PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, 0);
	vrig_write(r->v, cfg + PCI_COMMAND, 2, 0);
	vrig_write(r->v, cfg + PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	vrig_write(r->v, cfg + PCI_BASE_ADDRESS_2, 4, 0xffffffff);
	cr_assert_eq(vrig_read(r->v, cfg + PCI_BASE_ADDRESS_0, 4), 0xfffe0000);
	cr_assert_eq(vrig_read(r->v, cfg + PCI_BASE_ADDRESS_2, 4), 0xfffffff9);
	erig_destroy(r);
}

/* ---- EEPROM ---------------------------------------------------------------------------------- */

static uint16_t eerd(struct erig *r, unsigned word)
{
	uint32_t value;

	erig_set(r, E1000_EERD, word << EERD_ADDR_SHIFT | EERD_START);
	value = erig_get(r, E1000_EERD);
	cr_assert(value & EERD_DONE);
	return (uint16_t)(value >> EERD_DATA_SHIFT);
}

/* By the pins: bits from the highest down. */
static void shift_out(struct erig *r, uint32_t value, unsigned bits)
{
	while (bits-- > 0) {
		uint32_t pins = EECD_REQ | EECD_CS | (value >> bits & 1 ? EECD_DI : 0);

		erig_set(r, E1000_EECD, pins);
		erig_set(r, E1000_EECD, pins | EECD_SK);
	}
	erig_set(r, E1000_EECD, EECD_REQ | EECD_CS);
}

static uint16_t shift_in(struct erig *r)
{
	uint16_t value = 0;

	for (int i = 0; i < 16; i++) {
		erig_set(r, E1000_EECD, EECD_REQ | EECD_CS | EECD_SK);
		value = (uint16_t)(value << 1 | !!(erig_get(r, E1000_EECD) & EECD_DO));
		erig_set(r, E1000_EECD, EECD_REQ | EECD_CS);
	}
	return value;
}

static void begin(struct erig *r)
{
	erig_set(r, E1000_EECD, EECD_REQ);
	cr_assert(erig_get(r, E1000_EECD) & EECD_GNT);
	erig_set(r, E1000_EECD, EECD_REQ | EECD_CS);
}

static void end(struct erig *r)
{
	erig_set(r, E1000_EECD, EECD_REQ);
	erig_set(r, E1000_EECD, 0);
	cr_assert(!(erig_get(r, E1000_EECD) & EECD_GNT));
}

static uint16_t pins_read(struct erig *r, unsigned word)
{
	uint16_t value;

	begin(r);
	shift_out(r, 6u << 6 | word, 9);
	cr_assert(!(erig_get(r, E1000_EECD) & EECD_DO), "the dummy bit");
	value = shift_in(r);
	end(r);
	return value;
}

static void command(struct erig *r, uint32_t bits, unsigned n, uint32_t data, unsigned ndata)
{
	begin(r);
	shift_out(r, bits, n);
	if (ndata)
		shift_out(r, data, ndata);
	end(r);
}

Test(e1000_eeprom, has_the_address_and_a_right_checksum)
{
	struct erig *r = erig_create(0, "mac=02:11:22:33:44:55");
	uint16_t sum = 0;

	cr_assert_eq(eerd(r, 0), 0x1102);
	cr_assert_eq(eerd(r, 1), 0x3322);
	cr_assert_eq(eerd(r, 2), 0x5544);
	cr_assert_eq(eerd(r, 0x0d), 0x100e);
	for (unsigned i = 0; i < 64; i++) {
		uint16_t word = eerd(r, i);

		cr_assert_eq(pins_read(r, i), word, "word %u by the pins", i);
		sum = (uint16_t)(sum + word);
	}
	cr_assert_eq(sum, 0xbaba);
	cr_assert(!(erig_get(r, E1000_EECD) & 0x200), "64 words");
	cr_assert_eq(erig_get(r, E1000_RA), 0x33221102);
	cr_assert_eq(erig_get(r, E1000_RA + 4), 0x80005544);
	erig_destroy(r);
}

Test(e1000_eeprom, sequential_read_and_pins_without_a_grant)
{
	struct erig *r = erig_create(0, "");

	begin(r);
	shift_out(r, 6u << 6 | 62, 9);
	cr_assert_eq(shift_in(r), eerd(r, 62));
	cr_assert_eq(shift_in(r), eerd(r, 63));
	cr_assert_eq(shift_in(r), eerd(r, 0)); /* round */
	cr_assert_eq(shift_in(r), eerd(r, 1));
	end(r);
	/* Without REQ the pins do not move. */
	for (unsigned i = 0; i < 9; i++) {
		erig_set(r, E1000_EECD, EECD_CS | (6u << 6 >> (8 - i) & 1 ? EECD_DI : 0));
		erig_set(r, E1000_EECD, EECD_CS | EECD_SK);
	}
	cr_assert(erig_get(r, E1000_EECD) & EECD_DO);
	erig_destroy(r);
}

Test(e1000_eeprom, writes_need_to_be_enabled)
{
	struct erig *r = erig_create(0, "");

	command(r, 5u << 6 | 0x21, 9, 0xabcd, 16); /* WRITE, disabled */
	cr_assert_eq(eerd(r, 0x21), 0);
	command(r, 4u << 6 | 0x30, 9, 0, 0); /* EWEN */
	command(r, 5u << 6 | 0x21, 9, 0xabcd, 16);
	cr_assert_eq(eerd(r, 0x21), 0xabcd);
	command(r, 5u << 6 | 0x22, 9, 0x0abc, 12); /* broken off: no write */
	cr_assert_eq(eerd(r, 0x22), 0);
	command(r, 7u << 6 | 0x21, 9, 0, 0); /* ERASE */
	cr_assert_eq(eerd(r, 0x21), 0xffff);
	command(r, 4u << 6 | 0x10, 9, 0x5a5a, 16); /* WRAL */
	cr_assert_eq(eerd(r, 0x3f), 0x5a5a);
	command(r, 4u << 6 | 0x20, 9, 0, 0); /* ERAL */
	cr_assert_eq(eerd(r, 0), 0xffff);
	command(r, 4u << 6, 9, 0, 0); /* EWDS */
	command(r, 5u << 6 | 0x21, 9, 0x1111, 16);
	cr_assert_eq(eerd(r, 0x21), 0xffff);
	/* What is written is loaded by a reset. */
	cr_assert_eq(erig_get(r, E1000_RA), 0x6d005452);
	erig_set(r, E1000_CTRL_EXT, CTRL_EXT_EE_RST);
	cr_assert_eq(erig_get(r, E1000_RA), 0xffffffff);
	cr_assert_eq(erig_get(r, E1000_CTRL_EXT), 0);
	erig_destroy(r);
}

/* ---- PHY and link ---------------------------------------------------------------------------- */

Test(e1000_phy, registers_after_reset)
{
	struct erig *r = erig_create(0, "");

	cr_assert_eq(erig_phy(r, PHY_PCTRL), 0x1140);
	cr_assert_eq(erig_phy(r, PHY_PSTATUS), 0x796d); /* link, negotiated */
	cr_assert_eq(erig_phy(r, PHY_PID), 0x0141);
	cr_assert_eq(erig_phy(r, PHY_EPID) & ~15, 0x0c20);
	cr_assert_eq(erig_phy(r, PHY_ANA), 0x0de1);
	cr_assert_eq(erig_phy(r, PHY_LPA), 0x4de1);
	cr_assert_eq(erig_phy(r, PHY_ANE), 7);
	cr_assert_eq(erig_phy(r, PHY_ANE), 5); /* page received: once */
	cr_assert_eq(erig_phy(r, PHY_GSTATUS), 0x3c00);
	cr_assert_eq(erig_phy(r, PHY_EPSTAT), 0x3000);
	cr_assert_eq(erig_phy(r, PHY_PSSTAT), 0xac00);
	erig_set_phy(r, PHY_PID, 0xffff); /* read only */
	cr_assert_eq(erig_phy(r, PHY_PID), 0x0141);
	/* Another address: no PHY there. */
	erig_set(r, E1000_MDIC, MDIC_OP_READ | 2u << MDIC_PHY_SHIFT);
	cr_assert_eq(erig_get(r, E1000_MDIC) & (MDIC_R | MDIC_E), MDIC_R | MDIC_E);
	erig_set(r, E1000_IMS, ICR_MDAC);
	erig_set(r, E1000_MDIC, MDIC_OP_READ | 1u << MDIC_PHY_SHIFT | MDIC_I);
	cr_assert(erig_pin(r));
	erig_destroy(r);
}

Test(e1000_phy, link_follows_cable_and_settings)
{
	struct erig *r = erig_create(0, "link=off");

	erig_set(r, E1000_IMS, ICR_LSC);
	erig_set(r, E1000_CTRL, CTRL_SLU);
	cr_assert_eq(erig_get(r, E1000_STATUS) & STATUS_LU, 0);
	cr_assert_eq(erig_phy(r, PHY_PSTATUS) & 0x24, 0);
	erig_get(r, E1000_ICR);
	e1000_set_link(r->v->dev, true);
	cr_assert(erig_pin(r));
	cr_assert_eq(erig_get(r, E1000_ICR) & ICR_LSC, ICR_LSC);
	cr_assert_eq(erig_get(r, E1000_STATUS), 0x283);
	/* A link that was lost shows once. */
	e1000_set_link(r->v->dev, false);
	e1000_set_link(r->v->dev, true);
	cr_assert_eq(erig_phy(r, PHY_PSTATUS) & 4, 0);
	cr_assert_eq(erig_phy(r, PHY_PSTATUS) & 4, 4);
	/* Only 100 full is offered, then negotiated. */
	erig_set_phy(r, PHY_GCON, 0);
	erig_set_phy(r, PHY_ANA, 0x0101);
	erig_set_phy(r, PHY_PCTRL, 0x1340);
	cr_assert_eq(erig_get(r, E1000_STATUS), 0x143);
	/* 10 half, forced. */
	erig_set_phy(r, PHY_PCTRL, 0x8000);
	cr_assert_eq(erig_get(r, E1000_STATUS), 0x002);
	/* The MAC may be forced, too. */
	erig_set(r, E1000_CTRL, CTRL_SLU | CTRL_FRCSPD | CTRL_FRCDPLX | CTRL_FD | 2u << 8);
	cr_assert_eq(erig_get(r, E1000_STATUS) & 0xc3, 0x83);
	/* Powered down. */
	erig_set_phy(r, PHY_PCTRL, 0x1940);
	cr_assert_eq(erig_get(r, E1000_STATUS) & STATUS_LU, 0);
	erig_set_phy(r, PHY_PCTRL, 0x1140);
	cr_assert_eq(erig_get(r, E1000_STATUS) & STATUS_LU, STATUS_LU);
	/* The PHY's reset through the MAC. */
	erig_set(r, E1000_CTRL, CTRL_SLU | CTRL_PHY_RST);
	cr_assert_eq(erig_get(r, E1000_STATUS) & STATUS_LU, 0);
	erig_set(r, E1000_CTRL, CTRL_SLU);
	cr_assert_eq(erig_get(r, E1000_STATUS), 0x283);
	erig_destroy(r);
}
