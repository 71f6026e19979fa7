/*
 * The MC146818A as a chip: its registers and what they do, knowing neither bus nor threads nor the
 * host's clock; rtc.c puts it on the bus. Time comes in as an argument and is counted in periods of
 * the chip's crystal, 32.768 kHz, since 1970 (UTC). Names are those of the data sheet: Motorola
 * MC146818A, "Real-Time Clock plus RAM"; register 0x32 is the century, as the FADT says.
 *
 * Nothing runs while nobody looks: flags follow from how much time has passed since the last look.
 */
#ifndef DEVICES_EMULATED_RTC_H
#define DEVICES_EMULATED_RTC_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/registers.h"

#define RTC_HZ_SHIFT 15
#define RTC_SECOND   (1 << RTC_HZ_SHIFT)
#define RTC_BYTES    128u

#define RTC_SECONDS	  0x00u
#define RTC_SECONDS_ALARM 0x01u
#define RTC_MINUTES	  0x02u
#define RTC_MINUTES_ALARM 0x03u
#define RTC_HOURS	  0x04u
#define RTC_HOURS_ALARM	  0x05u
#define RTC_DAY_OF_WEEK	  0x06u
#define RTC_DATE_OF_MONTH 0x07u
#define RTC_MONTH	  0x08u
#define RTC_YEAR	  0x09u
#define RTC_A		  0x0au
#define RTC_B		  0x0bu
#define RTC_C		  0x0cu
#define RTC_D		  0x0du
#define RTC_CENTURY	  0x32u

#define RTC_A_UIP  0x80u
#define RTC_A_DV   0x70u
#define RTC_A_RS   0x0fu
#define RTC_DV_RUN 0x20u /* 32.768 kHz, divider running */

#define RTC_B_SET  0x80u
#define RTC_B_PIE  0x40u
#define RTC_B_AIE  0x20u
#define RTC_B_UIE  0x10u
#define RTC_B_SQWE 0x08u
#define RTC_B_DM   0x04u /* binary, else BCD */
#define RTC_B_24H  0x02u

#define RTC_C_IRQF 0x80u
#define RTC_C_PF   0x40u /* each flag where its enable is in register B */
#define RTC_C_AF   0x20u
#define RTC_C_UF   0x10u

#define RTC_D_VRT 0x80u

/* An update: 244 µs of warning and 1984 µs of work, in crystal periods. UIP is set meanwhile. */
#define RTC_UPDATE (8 + 65)

extern const struct reg_table rtc_registers; /* offset: the register's number */

struct rtc_chip {
	uint8_t ram[RTC_BYTES]; /* time bytes are valid only while the clock is stopped */
	int64_t offset;		/* the guest's time minus the host's */
	int64_t seen;		/* the guest's time up to which UF and AF are known */
	int64_t seen_host;	/* likewise the host's, for PF */
};

void rtc_init(struct rtc_chip *chip, int64_t now);
/* The RESET pin: time, RAM and modes stay. */
void rtc_reset(struct rtc_chip *chip, int64_t now);
uint8_t rtc_read(struct rtc_chip *chip, unsigned reg, int64_t now);
void rtc_write(struct rtc_chip *chip, unsigned reg, uint8_t value, int64_t now);
/* The level of the IRQ pin. */
bool rtc_irq(struct rtc_chip *chip, int64_t now);
/* Crystal periods until the IRQ pin may rise by itself; 0: never as things are. */
int64_t rtc_next(struct rtc_chip *chip, int64_t now);

#endif
