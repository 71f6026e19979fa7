/*
 * The CMOS clock (MC146818A): it shows the host's time, can be set, rolls over, keeps its RAM, and
 * interrupts on GSI 8.
 *
 * mvm:
 * mvm: --irqchip=split
 * mvm: --irqchip=user
 */
#include "apic.h"
#include "guest.h"
#include "trap.h"

#define INDEX 0x70
#define DATA  0x71
#define GSI   8

#define SECONDS 0x00
#define MINUTES 0x02
#define HOURS	0x04
#define WEEKDAY 0x06
#define DAY	0x07
#define MONTH	0x08
#define YEAR	0x09
#define A	0x0a
#define B	0x0b
#define C	0x0c
#define D	0x0d
#define CENTURY 0x32
#define RAM	0x40

#define A_UIP	 0x80
#define A_DV	 0x70
#define A_RUN	 0x20
#define A_STOP	 0x70
#define A_1024	 0x06
#define B_SET	 0x80
#define B_PIE	 0x40
#define B_AIE	 0x20
#define B_UIE	 0x10
#define B_BINARY 0x04
#define B_24H	 0x02
#define C_IRQ	 0x80
#define C_PF	 0x40
#define C_AF	 0x20
#define C_UF	 0x10

#define VECTOR_RTC 0x70

static uint8_t get(uint8_t reg)
{
	out8(INDEX, reg);
	return in8(DATA);
}

static void set(uint8_t reg, uint8_t value)
{
	out8(INDEX, reg);
	out8(DATA, value);
}

static unsigned bcd(uint8_t value)
{
	return (value >> 4) * 10u + (value & 15);
}

/* Days since 1970 of a date in our days. */
static uint64_t days(unsigned year, unsigned month, unsigned day)
{
	static const uint16_t before[12] = {
		0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334
	};
	unsigned leaps = (year - 1969) / 4 + (month > 2 && year % 4 == 0);

	return (year - 1970) * 365ull + leaps + before[month - 1] + day - 1;
}

static void shows_time(void)
{
	uint64_t host = 0, now;
	unsigned year, month;

	/* Long enough for a whole reading, if no update is near. */
	wait_for(!(get(A) & A_UIP), 10);
	year = bcd(get(CENTURY)) * 100 + bcd(get(YEAR));
	month = bcd(get(MONTH));
	if (!check(year >= 2024 && year < 2100 && month >= 1 && month <= 12, "a date: %u-%02u",
		   year, month))
		return;
	now = days(year, month, bcd(get(DAY))) * 86400 + bcd(get(HOURS)) * 3600 +
	      bcd(get(MINUTES)) * 60 + bcd(get(SECONDS));
	cmdline_number("now", &host);
	check(now >= host && now - host < 60, "the host's time (%ld s later)",
	      (int64_t)(now - host));
	check_equal(get(WEEKDAY), (days(year, month, bcd(get(DAY))) + 4) % 7 + 1,
		    "the day of the week");
}

static void registers(void)
{
	check_equal(get(A) & ~A_UIP, A_RUN | A_1024, "register A");
	check_equal(get(B), B_24H, "register B: 24 hours, BCD, no interrupts");
	check_equal(get(D), 0x80, "register D: the RAM is valid");
	set(D, 0);
	check_equal(get(D), 0x80, "register D cannot be written");
	for (unsigned i = 0; i < 8; i++)
		set((uint8_t)(RAM + i), (uint8_t)(0x5a + i));
	check(get(RAM) == 0x5a && get(RAM + 7) == 0x61, "RAM keeps bytes");
	set(0x7f, 0x17);
	check_equal(get(0x7f), 0x17, "the last byte too");
	check_equal(get(0xff), 0x17, "bit 7 of the index is not part of it");
	out16(INDEX, 0x3c00 | RAM);
	check_equal(get(RAM), 0x3c, "index and data by one 16-bit write");
}

static void periodic(void)
{
	irq_init();
	ioapic_route(GSI, VECTOR_RTC, 0, 0);
	get(C);
	set(B, B_24H | B_PIE);
	check(irq_wait(VECTOR_RTC, 1, 500), "the periodic interrupt");
	check_equal(irq_during(VECTOR_RTC, 5), 0, "no other before register C is read");
	check_equal(get(C) & (C_IRQ | C_PF), C_IRQ | C_PF, "register C has the reason");
	check(irq_wait(VECTOR_RTC, 1, 500), "then the next");
	set(B, B_24H);
	get(C);
	check_equal(irq_during(VECTOR_RTC, 5), 0, "disabled, it is quiet");
}

/* Midnight of a leap year's last February day, half a second after the divider starts. */
static void rolls_over(void)
{
	uint8_t c;

	set(A, A_STOP | A_1024);
	set(B, B_24H | B_SET);
	set(CENTURY, 0x20);
	set(YEAR, 0x28);
	set(MONTH, 0x02);
	set(DAY, 0x29);
	set(HOURS, 0x23);
	set(MINUTES, 0x59);
	set(SECONDS, 0x59);
	set(SECONDS + 1, 0x00);
	set(MINUTES + 1, 0x00);
	set(HOURS + 1, 0x00);
	set(B, B_24H | B_UIE | B_AIE);
	get(C);
	check(get(HOURS) == 0x23 && get(SECONDS) == 0x59, "a time that is set stays while stopped");
	set(A, A_RUN | A_1024);
	check(irq_wait(VECTOR_RTC, 1, 2000), "the update interrupt");
	c = get(C);
	check_equal(c & (C_AF | C_UF), C_AF | C_UF, "update and alarm are the reason");
	check(get(SECONDS) == 0 && get(MINUTES) == 0 && get(HOURS) == 0, "midnight");
	check(get(DAY) == 0x01 && get(MONTH) == 0x03 && get(YEAR) == 0x28, "the first of March");
	set(B, B_24H | B_BINARY);
	set(B, B_24H | B_BINARY | B_SET);
	check_equal(get(YEAR), 28, "binary mode");
	set(B, B_24H);
}

void main(void)
{
	registers();
	shows_time();
	periodic();
	rolls_over();
}
