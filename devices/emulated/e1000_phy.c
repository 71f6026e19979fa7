/*
 * The PHY's registers and its idea of a link: see e1000_phy.h. Names are those of IEEE 802.3 clause
 * 22 and of the manual.
 */
#include "devices/emulated/e1000_phy.h"

/* PCTRL */
#define PCTRL_RESET	  (1u << 15)
#define PCTRL_SPEED_LOW	  (1u << 13)
#define PCTRL_ANE	  (1u << 12)
#define PCTRL_POWER_DOWN  (1u << 11)
#define PCTRL_ISOLATE	  (1u << 10)
#define PCTRL_RESTART	  (1u << 9)
#define PCTRL_DUPLEX	  (1u << 8)
#define PCTRL_SPEED_HIGH  (1u << 6)
#define PCTRL_INITIAL	  (PCTRL_ANE | PCTRL_DUPLEX | PCTRL_SPEED_HIGH)
#define PCTRL_SELF_CLEARS (PCTRL_RESET | PCTRL_RESTART)

/* ANA and LPA */
#define AN_10_HD    (1u << 5)
#define AN_10_FD    (1u << 6)
#define AN_100_HD   (1u << 7)
#define AN_100_FD   (1u << 8)
#define AN_SELECTOR 1u
#define LPA_ACK	    (1u << 14)
#define PARTNER	    0x0de1u /* all of these, PAUSE and ASM_DIR */

/* GCON and GSTATUS */
#define GCON_1000_FD  (1u << 9)
#define GCON_1000_HD  (1u << 8)
#define GSTATUS_LP_FD (1u << 11)
#define GSTATUS_LP_HD (1u << 10)
#define GSTATUS_OK    (3u << 12) /* both receivers */

#define ANE_PAGE      (1u << 1) /* page received; cleared by reading */
#define ANE_LP_ABLE   (1u << 0)
#define ANE_NEXT_PAGE (1u << 2)

#define PSSTAT_RESOLVED	   (1u << 11)
#define PSSTAT_PAGE	   (1u << 12)
#define PSSTAT_DUPLEX	   (1u << 13)
#define PSSTAT_SPEED_SHIFT 14

#define PINT_LINK (1u << 10)
#define PINT_ANE  (1u << 11)

#define RW(n, text, initial, mask)                                                                 \
	[n] = { .name = (text),                                                                    \
		.offset = (n)*2,                                                                   \
		.width = 2,                                                                        \
		.access = REG_RW,                                                                  \
		.reset = (initial),                                                                \
		.writable = (mask) }
#define RO(n, text, initial)                                                                       \
	[n] = { .name = (text),                                                                    \
		.offset = (n)*2,                                                                   \
		.width = 2,                                                                        \
		.access = REG_READ,                                                                \
		.reset = (initial) }

static const struct reg registers[PHY_REGS] = {
	RW(PHY_PCTRL, "PCTRL", PCTRL_INITIAL, 0xfdc0),
	RO(PHY_PSTATUS, "PSTATUS", 0x7949),
	RO(PHY_PID, "PID", 0x0141),
	RO(PHY_EPID, "EPID", 0x0c24),
	RW(PHY_ANA, "ANA", 0x0de1, 0xbfff),
	RO(PHY_LPA, "LPA", 0),
	RO(PHY_ANE, "ANE", ANE_NEXT_PAGE),
	RW(PHY_NPT, "NPT", 0x2001, 0xbfff),
	RO(PHY_LPN, "LPN", 0),
	RW(PHY_GCON, "GCON", 0x0e00, 0xff00),
	RO(PHY_GSTATUS, "GSTATUS", 0),
	RO(11, "-", 0),
	RO(12, "-", 0),
	RO(13, "-", 0),
	RO(14, "-", 0),
	RO(PHY_EPSTAT, "EPSTAT", 0x3000),
	RW(PHY_PSCON, "PSCON", 0x0360, 0xffff),
	RO(PHY_PSSTAT, "PSSTAT", 0),
	RW(PHY_PINTE, "PINTE", 0, 0xffff),
	RO(PHY_PINTS, "PINTS", 0),
	RW(PHY_EPSCON1, "EPSCON1", 0x0d60, 0xffff),
	RO(PHY_PREC, "PREC", 0),
	RW(22, "22", 0, 0xffff),
	RO(23, "23", 0),
	RW(24, "24", 0x4100, 0xffff),
	RW(25, "25", 0, 0xffff),
	RW(26, "26", 0x000a, 0xffff),
	RO(27, "27", 0x848b),
	RW(28, "28", 0, 0xffff),
	RW(29, "29", 0, 0xffff),
	RW(30, "30", 0, 0xffff),
	RO(31, "31", 0),
};

const struct reg_table phy_registers = { registers, PHY_REGS };

/* ---- the link -------------------------------------------------------------------------------- */

static void set_link(struct e1000_phy *phy, bool link)
{
	unsigned speed = link ? phy->speed : PHY_10;

	if (phy->link != link)
		phy->reg[PHY_PINTS] |= PINT_LINK;
	phy->lost |= phy->link && !link;
	phy->link = link;
	if (link && !phy->lost)
		phy->reg[PHY_PSTATUS] |= PSTATUS_LINK;
	if (!link)
		phy->reg[PHY_PSTATUS] &= ~(uint64_t)(PSTATUS_LINK | PSTATUS_ANE_DONE);
	phy->reg[PHY_PSSTAT] = link ? PSSTAT_LINK | PSSTAT_RESOLVED | speed << PSSTAT_SPEED_SHIFT |
					       (phy->full_duplex ? PSSTAT_DUPLEX : 0)
				    : 0;
}

/* IEEE 802.3 clauses 28.2.3.3 and 40.5: the best that both sides have. */
static bool negotiate(struct e1000_phy *phy)
{
	uint32_t common = (uint32_t)phy->reg[PHY_ANA] & PARTNER;
	uint32_t giga = (uint32_t)phy->reg[PHY_GCON] & (GCON_1000_FD | GCON_1000_HD);

	phy->full_duplex = giga & GCON_1000_FD || (!giga && common & AN_100_FD) ||
			   (!giga && !(common & AN_100_HD) && common & AN_10_FD);
	if (giga)
		phy->speed = PHY_1000;
	else
		phy->speed = common & (AN_100_FD | AN_100_HD) ? PHY_100 : PHY_10;
	phy->reg[PHY_LPA] = PARTNER | LPA_ACK;
	phy->reg[PHY_ANE] |= ANE_PAGE | ANE_LP_ABLE;
	phy->reg[PHY_GSTATUS] = GSTATUS_LP_FD | GSTATUS_LP_HD | (giga ? GSTATUS_OK : 0);
	phy->reg[PHY_PINTS] |= PINT_ANE;
	return giga || common & (AN_100_FD | AN_100_HD | AN_10_FD | AN_10_HD);
}

static bool forced(struct e1000_phy *phy)
{
	uint32_t control = (uint32_t)phy->reg[PHY_PCTRL];

	phy->full_duplex = control & PCTRL_DUPLEX;
	if (control & PCTRL_SPEED_HIGH)
		phy->speed = PHY_1000;
	else
		phy->speed = control & PCTRL_SPEED_LOW ? PHY_100 : PHY_10;
	phy->reg[PHY_LPA] = 0;
	phy->reg[PHY_GSTATUS] = phy->speed == PHY_1000 ? GSTATUS_OK : 0;
	return true;
}

/* Tries to get a link with the settings there are. True if there was or is one. */
static bool bring_up(struct e1000_phy *phy)
{
	uint32_t control = (uint32_t)phy->reg[PHY_PCTRL];
	bool was = phy->link, up = false;

	set_link(phy, false);
	if (phy->cable && !(control & (PCTRL_POWER_DOWN | PCTRL_ISOLATE)))
		up = control & PCTRL_ANE ? negotiate(phy) : forced(phy);
	if (up) {
		set_link(phy, true);
		if (control & PCTRL_ANE)
			phy->reg[PHY_PSTATUS] |= PSTATUS_ANE_DONE;
	}
	return was || up;
}

bool e1000_phy_set_cable(struct e1000_phy *phy, bool cable)
{
	if (phy->cable == cable)
		return false;
	phy->cable = cable;
	return bring_up(phy);
}

/* ---- registers ------------------------------------------------------------------------------- */

static bool restart(struct e1000_phy *phy)
{
	uint64_t control = phy->reg[PHY_PCTRL];

	/* A software reset keeps what takes effect by it (section 11.1.3). */
	reg_reset(&phy_registers, phy->reg);
	phy->reg[PHY_PCTRL] = control & ~(uint64_t)PCTRL_SELF_CLEARS;
	return bring_up(phy);
}

void e1000_phy_reset(struct e1000_phy *phy)
{
	reg_reset(&phy_registers, phy->reg);
	phy->link = phy->lost = false;
	bring_up(phy);
}

void e1000_phy_init(struct e1000_phy *phy, bool cable)
{
	*phy = (struct e1000_phy){ .cable = cable };
	e1000_phy_reset(phy);
}

uint16_t e1000_phy_read(struct e1000_phy *phy, unsigned reg)
{
	uint16_t value = (uint16_t)phy->reg[reg % PHY_REGS];

	switch (reg) {
	case PHY_PSTATUS: /* latched low */
		phy->lost = false;
		if (phy->link)
			phy->reg[PHY_PSTATUS] |= PSTATUS_LINK;
		break;
	case PHY_ANE: /* page received is latched high */
		phy->reg[PHY_ANE] &= ~(uint64_t)ANE_PAGE;
		break;
	case PHY_PINTS:
		phy->reg[PHY_PINTS] = 0;
		break;
	}
	return value;
}

bool e1000_phy_write(struct e1000_phy *phy, unsigned reg, uint16_t value)
{
	const struct reg *r = &registers[reg % PHY_REGS];
	uint64_t old = phy->reg[reg % PHY_REGS];

	if (!(r->access & REG_WRITE))
		return false;
	phy->reg[reg] = reg_merge(r, old, value);
	if (reg != PHY_PCTRL)
		return false;
	if (value & PCTRL_RESET)
		return restart(phy);
	phy->reg[reg] &= ~(uint64_t)PCTRL_SELF_CLEARS;
	if (value & PCTRL_RESTART || (old ^ value) & (PCTRL_POWER_DOWN | PCTRL_ISOLATE))
		return bring_up(phy);
	return false;
}
