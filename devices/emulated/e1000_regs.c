/*
 * The register table of the 82540EM: see e1000_regs.h. Where the manual gives no initial value (X)
 * it is zero. Registers of other members of the family are not there; they read as zero and take no
 * writes.
 */
#include <string.h>

#include "devices/emulated/e1000_regs.h"

#define RW(reg, initial, mask)                                                                     \
	{                                                                                          \
		.name = #reg, .offset = E1000_##reg, .width = 4, .access = REG_RW,                 \
		.reset = (initial), .writable = (mask)                                             \
	}
#define RO(reg, initial)                                                                           \
	{                                                                                          \
		.name = #reg, .offset = E1000_##reg, .width = 4, .access = REG_READ,               \
		.reset = (initial)                                                                 \
	}
#define WO(reg)                                                                                    \
	{                                                                                          \
		.name = #reg, .offset = E1000_##reg, .width = 4, .access = REG_WRITE               \
	}
#define ARRAY(reg, bytes, mask)                                                                    \
	{                                                                                          \
		.name = #reg, .offset = E1000_##reg, .span = (bytes), .width = 4,                  \
		.access = REG_RW, .writable = (mask)                                               \
	}
#define STAT(text, at)                                                                             \
	{                                                                                          \
		.name = (text), .offset = (at), .width = 4, .access = REG_READ                     \
	}

static const struct reg registers[] = {
	/* 13.4: general */
	RW(CTRL, CTRL_FD | 2u << 8, 0xdbfc1be9),
	RW(CTRL_DUP, 0, 0),
	RO(STATUS, 0),
	RW(EECD, 0x110, 0x7f), /* EE_PRES, FLASH writes disabled; EE_SIZE: 64 words */
	RW(EERD, 0, 0),
	RW(CTRL_EXT, 0, 0x00c2fff5),
	RW(FLA, 0, 0x2f),
	RW(MDIC, MDIC_R, 0),
	RW(FCAL, 0, ~0u),
	RW(FCAH, 0, 0xffff),
	RW(FCT, 0, 0xffff),
	RW(VET, 0x8100, 0xffff),
	RW(LEDCTL, 0x07068302, 0xcfcfcfef),
	RW(PBA, 0x00100030, PBA_RXA),
	RW(TXCW, 0, 0xc000ffff),
	RO(RXCW, 0),
	/* interrupts */
	RO(ICR, 0),
	RW(ITR, 0, 0xffff),
	WO(ICS),
	RW(IMS, 0, ICR_CAUSES),
	WO(IMC),
	/* receive */
	RW(RCTL, 0, 0x06dfb3fe),
	RW(FCTTV, 0, 0xffff),
	RW(FCRTL, 0, FCRTL_XONE | 0xfff8),
	RW(FCRTH, 0, 0xfff8),
	RW(RDBAL, 0, 0xfffffff0),
	RW(RDBAH, 0, ~0u),
	RW(RDLEN, 0, 0xfff80),
	RW(RDH, 0, 0xffff),
	RW(RDT, 0, 0xffff),
	RW(RDTR, 0, 0xffff),
	RW(RXDCTL, 0x00010000, 0x013f3f3f),
	RW(RADV, 0, 0xffff),
	RW(RSRPD, 0, 0xfff),
	RW(RXCSUM, 0, 0x7ff),
	ARRAY(MTA, 4 * E1000_MTA_WORDS, ~0u),
	ARRAY(RA, 8 * E1000_RAS, ~0u), /* RAH has fewer bits: e1000_mmio.c */
	ARRAY(VFTA, 4 * 128, ~0u),
	/* transmit */
	RW(TCTL, 0, 0x037ffffa),
	RW(TIPG, 0, 0x3fffffff),
	RW(AIFS, 0, 0xffff),
	RW(TDBAL, 0, 0xfffffff0),
	RW(TDBAH, 0, ~0u),
	RW(TDLEN, 0, 0xfff80),
	RW(TDH, 0, 0xffff),
	RW(TDT, 0, 0xffff),
	RW(TIDV, 0, 0xffff),
	RW(TXDCTL, 0, 0xff3f3f3f),
	RW(TADV, 0, 0xffff),
	RW(TSPMT, 0x01000400, ~0u),
	/* 13.6: wake-up; kept, but nothing here sleeps */
	RW(WUC, 0, 0x0b),
	RW(WUFC, 0, 0x000f80ff),
	RO(WUS, 0),
	RW(MANC, 0, 0x0003ffff),
	RW(IPAV, 0, 0x1000f),
	ARRAY(IP4AT, 0x20, ~0u),
	ARRAY(IP6AT, 0x10, ~0u),
	RO(WUPL, 0),
	{ .name = "WUPM", .offset = E1000_WUPM, .span = 0x80, .width = 4, .access = REG_READ },
	ARRAY(FFLT, 0x20, 0x7ff),
	ARRAY(FFMT, 0x400, 0xf),
	ARRAY(FFVT, 0x400, ~0u),
	/* 13.8: diagnostics */
	RW(RDFH, 0, 0x1fff),
	RW(RDFT, 0, 0x1fff),
	RW(RDFHS, 0, 0x1fff),
	RW(RDFTS, 0, 0x1fff),
	RW(RDFPC, 0, 0x1fff),
	RW(TDFH, 0, 0x1fff),
	RW(TDFT, 0, 0x1fff),
	RW(TDFHS, 0, 0x1fff),
	RW(TDFTS, 0, 0x1fff),
	RW(TDFPC, 0, 0x1fff),
	/* 13.7: statistics, cleared when read */
	STAT("CRCERRS", 0x4000),
	STAT("ALGNERRC", 0x4004),
	STAT("SYMERRS", 0x4008),
	STAT("RXERRC", 0x400c),
	STAT("MPC", E1000_MPC),
	STAT("SCC", 0x4014),
	STAT("ECOL", 0x4018),
	STAT("MCC", 0x401c),
	STAT("LATECOL", 0x4020),
	STAT("COLC", 0x4028),
	STAT("DC", 0x4030),
	STAT("TNCRS", 0x4034),
	STAT("SEC", 0x4038),
	STAT("CEXTERR", 0x403c),
	STAT("RLEC", E1000_RLEC),
	STAT("XONRXC", E1000_XONRXC),
	STAT("XONTXC", E1000_XONTXC),
	STAT("XOFFRXC", E1000_XOFFRXC),
	STAT("XOFFTXC", E1000_XOFFTXC),
	STAT("FCRUC", E1000_FCRUC),
	STAT("PRC64", E1000_PRC64),
	STAT("PRC127", 0x4060),
	STAT("PRC255", 0x4064),
	STAT("PRC511", 0x4068),
	STAT("PRC1023", 0x406c),
	STAT("PRC1522", 0x4070),
	STAT("GPRC", E1000_GPRC),
	STAT("BPRC", E1000_BPRC),
	STAT("MPRC", E1000_MPRC),
	STAT("GPTC", E1000_GPTC),
	STAT("GORCL", E1000_GORCL),
	STAT("GORCH", E1000_GORCH),
	STAT("GOTCL", E1000_GOTCL),
	STAT("GOTCH", E1000_GOTCH),
	STAT("RNBC", E1000_RNBC),
	STAT("RUC", E1000_RUC),
	STAT("RFC", 0x40a8),
	STAT("ROC", E1000_ROC),
	STAT("RJC", 0x40b0),
	STAT("MGTPRC", 0x40b4),
	STAT("MGTPDC", 0x40b8),
	STAT("MGTPTC", 0x40bc),
	STAT("TORL", E1000_TORL),
	STAT("TORH", E1000_TORH),
	STAT("TOTL", E1000_TOTL),
	STAT("TOTH", E1000_TOTH),
	STAT("TPR", E1000_TPR),
	STAT("TPT", E1000_TPT),
	STAT("PTC64", E1000_PTC64),
	STAT("PTC127", 0x40dc),
	STAT("PTC255", 0x40e0),
	STAT("PTC511", 0x40e4),
	STAT("PTC1023", 0x40e8),
	STAT("PTC1522", 0x40ec),
	STAT("MPTC", E1000_MPTC),
	STAT("BPTC", E1000_BPTC),
	STAT("TSCTC", E1000_TSCTC),
	STAT("TSCTFC", E1000_TSCTFC),
};

#define ROWS (sizeof(registers) / sizeof(registers[0]))

_Static_assert(ROWS < E1000_NO_ROW, "a row number fits a byte");

const struct reg_table e1000_registers = { registers, ROWS };

void e1000_registers_map(uint8_t *map)
{
	memset(map, E1000_NO_ROW, E1000_CSR_SIZE / 4);
	for (unsigned row = 0; row < ROWS; row++) {
		unsigned span = registers[row].span ? registers[row].span : 4;

		for (unsigned at = 0; at < span; at += 4)
			map[(registers[row].offset + at) / 4] = (uint8_t)row;
	}
}
