/*
 * The 82540EM's registers as data: offsets and bits by the names of Intel's "PCI/PCI-X Family of
 * Gigabit Ethernet Controllers Software Developer's Manual" (317453), chapter 13. The table in
 * e1000_regs.c says what each one holds after reset and which of its bits can be written.
 */
#ifndef DEVICES_EMULATED_E1000_REGS_H
#define DEVICES_EMULATED_E1000_REGS_H

#include "devices/registers.h"

#define E1000_BAR_SIZE	0x20000u /* memory-mapped */
#define E1000_CSR_SIZE	0x10000u /* of which registers; above: packet buffer memory (13.8.13) */
#define E1000_IO_SIZE	8u	 /* IOADDR and IODATA */
#define E1000_IO_ADDR	0u
#define E1000_IO_DATA	4u
#define E1000_RING_UNIT 16u /* bytes of a descriptor */

#define E1000_CTRL     0x0000u
#define E1000_CTRL_DUP 0x0004u
#define E1000_STATUS   0x0008u
#define E1000_EECD     0x0010u
#define E1000_EERD     0x0014u
#define E1000_CTRL_EXT 0x0018u
#define E1000_FLA      0x001cu
#define E1000_MDIC     0x0020u
#define E1000_FCAL     0x0028u
#define E1000_FCAH     0x002cu
#define E1000_FCT      0x0030u
#define E1000_VET      0x0038u
#define E1000_ICR      0x00c0u
#define E1000_ITR      0x00c4u
#define E1000_ICS      0x00c8u
#define E1000_IMS      0x00d0u
#define E1000_IMC      0x00d8u
#define E1000_RCTL     0x0100u
#define E1000_FCTTV    0x0170u
#define E1000_TXCW     0x0178u
#define E1000_RXCW     0x0180u
#define E1000_TCTL     0x0400u
#define E1000_TIPG     0x0410u
#define E1000_AIFS     0x0458u
#define E1000_LEDCTL   0x0e00u
#define E1000_PBA      0x1000u
#define E1000_FCRTL    0x2160u
#define E1000_FCRTH    0x2168u
#define E1000_RDFH     0x2410u
#define E1000_RDFT     0x2418u
#define E1000_RDFHS    0x2420u
#define E1000_RDFTS    0x2428u
#define E1000_RDFPC    0x2430u
#define E1000_RDBAL    0x2800u
#define E1000_RDBAH    0x2804u
#define E1000_RDLEN    0x2808u
#define E1000_RDH      0x2810u
#define E1000_RDT      0x2818u
#define E1000_RDTR     0x2820u
#define E1000_RXDCTL   0x2828u
#define E1000_RADV     0x282cu
#define E1000_RSRPD    0x2c00u
#define E1000_TDFH     0x3410u
#define E1000_TDFT     0x3418u
#define E1000_TDFHS    0x3420u
#define E1000_TDFTS    0x3428u
#define E1000_TDFPC    0x3430u
#define E1000_TDBAL    0x3800u
#define E1000_TDBAH    0x3804u
#define E1000_TDLEN    0x3808u
#define E1000_TDH      0x3810u
#define E1000_TDT      0x3818u
#define E1000_TIDV     0x3820u
#define E1000_TXDCTL   0x3828u
#define E1000_TADV     0x382cu
#define E1000_TSPMT    0x3830u
#define E1000_CRCERRS  0x4000u /* first of the statistics */
#define E1000_MPC      0x4010u
#define E1000_RLEC     0x4040u
#define E1000_XONRXC   0x4048u
#define E1000_XONTXC   0x404cu
#define E1000_XOFFRXC  0x4050u
#define E1000_XOFFTXC  0x4054u
#define E1000_FCRUC    0x4058u
#define E1000_PRC64    0x405cu /* then 127, 255, 511, 1023, 1522 */
#define E1000_GPRC     0x4074u
#define E1000_BPRC     0x4078u
#define E1000_MPRC     0x407cu
#define E1000_GPTC     0x4080u
#define E1000_GORCL    0x4088u
#define E1000_GORCH    0x408cu
#define E1000_GOTCL    0x4090u
#define E1000_GOTCH    0x4094u
#define E1000_RNBC     0x40a0u
#define E1000_RUC      0x40a4u
#define E1000_ROC      0x40acu
#define E1000_TORL     0x40c0u
#define E1000_TORH     0x40c4u
#define E1000_TOTL     0x40c8u
#define E1000_TOTH     0x40ccu
#define E1000_TPR      0x40d0u
#define E1000_TPT      0x40d4u
#define E1000_PTC64    0x40d8u /* then 127, 255, 511, 1023, 1522 */
#define E1000_MPTC     0x40f0u
#define E1000_BPTC     0x40f4u
#define E1000_TSCTC    0x40f8u
#define E1000_TSCTFC   0x40fcu /* last of the statistics */
#define E1000_RXCSUM   0x5000u
#define E1000_MTA      0x5200u
#define E1000_RA       0x5400u
#define E1000_VFTA     0x5600u
#define E1000_WUC      0x5800u
#define E1000_WUFC     0x5808u
#define E1000_WUS      0x5810u
#define E1000_MANC     0x5820u
#define E1000_IPAV     0x5838u
#define E1000_IP4AT    0x5840u
#define E1000_IP6AT    0x5880u
#define E1000_WUPL     0x5900u
#define E1000_WUPM     0x5a00u
#define E1000_FFLT     0x5f00u
#define E1000_FFMT     0x9000u
#define E1000_FFVT     0x9800u

#define E1000_MTA_WORDS 128u
#define E1000_RAS	16u

/* CTRL */
#define CTRL_FD	     (1u << 0)
#define CTRL_SLU     (1u << 6)
#define CTRL_SPEED   (3u << 8)
#define CTRL_FRCSPD  (1u << 11)
#define CTRL_FRCDPLX (1u << 12)
#define CTRL_RST     (1u << 26)
#define CTRL_RFCE    (1u << 27)
#define CTRL_TFCE    (1u << 28)
#define CTRL_VME     (1u << 30)
#define CTRL_PHY_RST (1u << 31)

/* STATUS */
#define STATUS_FD	   (1u << 0)
#define STATUS_LU	   (1u << 1)
#define STATUS_TXOFF	   (1u << 4)
#define STATUS_SPEED_SHIFT 6
#define STATUS_ASDV_SHIFT  8

/* CTRL_EXT */
#define CTRL_EXT_ASDCHK (1u << 12)
#define CTRL_EXT_EE_RST (1u << 13)

/* MDIC */
#define MDIC_DATA      0xffffu
#define MDIC_REG_SHIFT 16
#define MDIC_PHY_SHIFT 21
#define MDIC_OP_WRITE  (1u << 26)
#define MDIC_OP_READ   (2u << 26)
#define MDIC_OP	       (3u << 26)
#define MDIC_R	       (1u << 28)
#define MDIC_I	       (1u << 29)
#define MDIC_E	       (1u << 30)

/* ICR, ICS, IMS, IMC */
#define ICR_TXDW    (1u << 0)
#define ICR_TXQE    (1u << 1)
#define ICR_LSC	    (1u << 2)
#define ICR_RXDMT0  (1u << 4)
#define ICR_RXO	    (1u << 6)
#define ICR_RXT0    (1u << 7)
#define ICR_MDAC    (1u << 9)
#define ICR_TXD_LOW (1u << 15)
#define ICR_SRPD    (1u << 16)
/* Reserved ones latch like the others: Linux's self-test raises each of the low ten. */
#define ICR_CAUSES 0x0001ffffu

/* RCTL */
#define RCTL_EN		 (1u << 1)
#define RCTL_UPE	 (1u << 3)
#define RCTL_MPE	 (1u << 4)
#define RCTL_LPE	 (1u << 5)
#define RCTL_LBM	 (3u << 6)
#define RCTL_LBM_MAC	 (1u << 6)
#define RCTL_RDMTS_SHIFT 8
#define RCTL_MO_SHIFT	 12
#define RCTL_BAM	 (1u << 15)
#define RCTL_BSIZE_SHIFT 16
#define RCTL_VFE	 (1u << 18)
#define RCTL_CFIEN	 (1u << 19)
#define RCTL_CFI	 (1u << 20)
#define RCTL_DPF	 (1u << 22)
#define RCTL_BSEX	 (1u << 25)
#define RCTL_SECRC	 (1u << 26)

/* TCTL, TXDCTL, RDTR, FCRTL, PBA, RXCSUM, RAH */
#define TCTL_EN		      (1u << 1)
#define TCTL_PSP	      (1u << 3)
#define TXDCTL_LWTHRESH_SHIFT 25
#define RDTR_FPD	      (1u << 31)
#define FCRTL_XONE	      (1u << 31)
#define PBA_RXA		      0x7fu
#define PBA_TOTAL	      64u /* KiB */
#define RXCSUM_PCSS	      0xffu
#define RXCSUM_IPOFLD	      (1u << 8)
#define RXCSUM_TUOFLD	      (1u << 9)
#define RAH_AS		      (3u << 16)
#define RAH_AS_SOURCE	      (1u << 16)
#define RAH_AV		      (1u << 31)
#define RAH_WRITABLE	      0x8003ffffu

/* ---- descriptors, sections 3.2.3 and 3.3 ---- */

struct e1000_rx_desc {
	uint64_t address;
	uint16_t length, checksum;
	uint8_t status, errors;
	uint16_t special;
};

#define RXD_DD	  0x01u
#define RXD_EOP	  0x02u
#define RXD_IXSM  0x04u
#define RXD_VP	  0x08u
#define RXD_TCPCS 0x20u
#define RXD_IPCS  0x40u
#define RXD_PIF	  0x80u
#define RXD_TCPE  0x20u /* errors */
#define RXD_IPE	  0x40u

struct e1000_tx_desc {
	uint64_t address; /* or the checksum fields of a context */
	uint32_t lower;	  /* length, CSO or DTYP, CMD */
	uint32_t upper;	  /* STA, CSS or POPTS, special; or STA, HDRLEN, MSS */
};

#define TXD_EOP	       (1u << 24)
#define TXD_IFCS       (1u << 25)
#define TXD_IC	       (1u << 26) /* legacy */
#define TXD_TSE	       (1u << 26) /* data and context */
#define TXD_RS	       (1u << 27)
#define TXD_DEXT       (1u << 29)
#define TXD_VLE	       (1u << 30)
#define TXD_IDE	       (1u << 31)
#define TXD_TCP	       (1u << 24) /* context */
#define TXD_IP	       (1u << 25) /* context */
#define TXD_DTYP_SHIFT 20
#define TXD_DTYP_DATA  1u
#define TXD_IXSM       0x01u /* POPTS */
#define TXD_TXSM       0x02u
#define TXD_STATUS     12u /* where STA is */
#define TXD_DD	       0x01u

/* Offsets are 32 bits apart; which row of the table a register is. 0xff: none. */
#define E1000_NO_ROW 0xffu

extern const struct reg_table e1000_registers;

/* Fills map[E1000_CSR_SIZE / 4] with rows. */
void e1000_registers_map(uint8_t *map);

#endif
