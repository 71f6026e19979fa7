/*
 * The 82540EM's internal PHY: an M88E1011 behind the MAC's MDIC register, 317453 chapter 11 and
 * section 13.4.7.1. The link partner at the other end of its cable offers all speeds and flow
 * control. Negotiation takes no time: a guest would only wait for it. It knows no locks.
 */
#ifndef DEVICES_EMULATED_E1000_PHY_H
#define DEVICES_EMULATED_E1000_PHY_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/registers.h"

#define PHY_ADDRESS 1u

/* Registers, by the manual's names */
#define PHY_PCTRL   0u
#define PHY_PSTATUS 1u
#define PHY_PID	    2u
#define PHY_EPID    3u
#define PHY_ANA	    4u
#define PHY_LPA	    5u
#define PHY_ANE	    6u
#define PHY_NPT	    7u
#define PHY_LPN	    8u
#define PHY_GCON    9u
#define PHY_GSTATUS 10u
#define PHY_EPSTAT  15u
#define PHY_PSCON   16u
#define PHY_PSSTAT  17u
#define PHY_PINTE   18u
#define PHY_PINTS   19u
#define PHY_EPSCON1 20u
#define PHY_PREC    21u
#define PHY_REGS    32u

#define PCTRL_LOOPBACK	 (1u << 14)
#define PSTATUS_LINK	 (1u << 2)
#define PSTATUS_ANE_DONE (1u << 5)
#define PSSTAT_LINK	 (1u << 10)

enum phy_speed { PHY_10, PHY_100, PHY_1000 };

struct e1000_phy {
	uint64_t reg[PHY_REGS]; /* by row of phy_registers, which is the register's number */
	bool cable;
	bool link; /* now */
	bool lost; /* since PSTATUS was read, which shows that */
	bool full_duplex;
	enum phy_speed speed;
};

extern const struct reg_table phy_registers;

/* Both negotiate. */
void e1000_phy_init(struct e1000_phy *phy, bool cable);
void e1000_phy_reset(struct e1000_phy *phy);
uint16_t e1000_phy_read(struct e1000_phy *phy, unsigned reg);
/* True if the link went down or came up, or both. */
bool e1000_phy_write(struct e1000_phy *phy, unsigned reg, uint16_t value);
bool e1000_phy_set_cable(struct e1000_phy *phy, bool cable); /* true: as above */

static inline bool e1000_phy_loops(const struct e1000_phy *phy)
{
	return phy->reg[PHY_PCTRL] & PCTRL_LOOPBACK;
}

#endif
