/*
 * ACPI power, panic device, and the clock on its ports.
 */
#include <sched.h>
#include <time.h>

#include <criterion/criterion.h>

#include "devices/registry.h"
#include "tests/unit/emulated_rig.h"
#include "vmm/x86_64/layout.h"

static struct em_rig rig;

static void set_up(void)
{
	em_open(&rig);
}

static void tear_down(void)
{
	em_close(&rig);
}

TestSuite(platform, .init = set_up, .fini = tear_down, .timeout = 20);

/* ---- ACPI ------------------------------------------------------------------------------------ */

#define SLEEP_CONTROL LAYOUT_ACPI_PIO
#define SLEEP_STATUS  (LAYOUT_ACPI_PIO + 1)
#define RESET_REG     (LAYOUT_ACPI_PIO + 2)

Test(platform, acpi_power_off)
{
	struct device *dev = em_device(&rig, &row_acpi_power, 0, NULL);

	cr_assert_eq(em_in(&rig, SLEEP_CONTROL), 0);
	em_out(&rig, SLEEP_CONTROL, 5 << 2);
	cr_assert_eq(em_request(&rig), REQUEST_NONE, "SLP_EN is missing");
	cr_assert_eq(em_in(&rig, SLEEP_CONTROL), 5 << 2);
	em_out(&rig, SLEEP_CONTROL, 3 << 2 | 0x20);
	cr_assert_eq(em_request(&rig), REQUEST_NONE, "another sleep type");
	em_out(&rig, SLEEP_CONTROL, 5 << 2 | 0x20);
	cr_assert_eq(em_request(&rig), REQUEST_POWEROFF);
	cr_assert_eq(em_in(&rig, SLEEP_CONTROL), 5 << 2, "SLP_EN reads as zero");
	dev->ops->reset(dev);
	cr_assert_eq(em_in(&rig, SLEEP_CONTROL), 0);
	em_destroy(dev);
}

Test(platform, acpi_reset)
{
	struct device *dev = em_device(&rig, &row_acpi_power, 0, NULL);

	em_out(&rig, RESET_REG, 0);
	em_out(&rig, RESET_REG, 2);
	cr_assert_eq(em_request(&rig), REQUEST_NONE);
	em_out(&rig, RESET_REG, 1);
	cr_assert_eq(em_request(&rig), REQUEST_RESET);
	em_out(&rig, SLEEP_STATUS, 0x80);
	cr_assert_eq(em_in(&rig, SLEEP_STATUS), 0);
	em_torment(&rig, LAYOUT_ACPI_PIO, 4, 20000);
	em_destroy(dev);
}

/* ---- panic ----------------------------------------------------------------------------------- */

Test(platform, pvpanic)
{
	struct device *dev = em_device(&rig, &row_pvpanic, 0, NULL);

	cr_assert_eq(em_in(&rig, LAYOUT_PANIC_PIO), 3);
	em_out(&rig, LAYOUT_PANIC_PIO, 2);
	cr_assert_eq(em_request(&rig), REQUEST_NONE, "a crash kernel will do the rest");
	em_out(&rig, LAYOUT_PANIC_PIO, 0);
	cr_assert_eq(em_request(&rig), REQUEST_NONE);
	em_out(&rig, LAYOUT_PANIC_PIO, 1);
	cr_assert_eq(em_request(&rig), REQUEST_PANIC);
	em_torment(&rig, LAYOUT_PANIC_PIO - 1, 3, 20000);
	dev->ops->reset(dev);
	em_destroy(dev);
}

/* ---- clock ----------------------------------------------------------------------------------- */

static uint8_t cmos_read(unsigned reg)
{
	em_out(&rig, 0x70, (uint8_t)reg);
	return em_in(&rig, 0x71);
}

static void cmos_write(unsigned reg, uint8_t value)
{
	em_out(&rig, 0x70, (uint8_t)reg);
	em_out(&rig, 0x71, value);
}

static unsigned bcd(uint8_t value)
{
	return (value >> 4) * 10u + (value & 0x0f);
}

/* As a kernel reads it: again if the seconds have moved. */
static time_t guest_time(void)
{
	struct tm tm;
	uint8_t seconds;

	do {
		while (cmos_read(0x0a) & 0x80)
			sched_yield();
		seconds = cmos_read(0x00);
		tm = (struct tm){
			.tm_sec = (int)bcd(seconds),
			.tm_min = (int)bcd(cmos_read(0x02)),
			.tm_hour = (int)bcd(cmos_read(0x04)),
			.tm_mday = (int)bcd(cmos_read(0x07)),
			.tm_mon = (int)bcd(cmos_read(0x08)) - 1,
			.tm_year = (int)(bcd(cmos_read(0x32)) * 100 + bcd(cmos_read(0x09))) - 1900,
		};
	} while (cmos_read(0x00) != seconds);
	return timegm(&tm);
}

Test(platform, rtc_shows_the_hosts_utc)
{
	struct device *dev = em_device(&rig, &row_rtc, 0, NULL);
	struct timespec before, after;
	time_t shown;

	/* Not time(): its clock is that of the last tick, and so up to a tick behind the one that
	 * the device reads. */
	clock_gettime(CLOCK_REALTIME, &before);
	shown = guest_time();
	clock_gettime(CLOCK_REALTIME, &after);
	cr_assert_geq(shown, before.tv_sec);
	cr_assert_leq(shown, after.tv_sec);
	em_destroy(dev);
}

Test(platform, rtc_ports)
{
	struct device *dev = em_device(&rig, &row_rtc, 0, NULL);
	uint64_t value;

	/* The NMI bit is no part of the number, and both ports can be written at once. */
	cmos_write(0x40, 0x12);
	cr_assert_eq(cmos_read(0xc0), 0x12);
	cr_assert(bus_write(rig.host.pio, 0x70, 2, 0x3441));
	cr_assert_eq(cmos_read(0x41), 0x34);
	cr_assert(bus_read(rig.host.pio, 0x70, 2, &value));
	cr_assert_eq(value, 0x34ff);
	dev->ops->reset(dev);
	cr_assert_eq(cmos_read(0x41), 0x34, "a reset keeps the RAM");
	em_destroy(dev);
}

/* A real timer, and the interrupt is waited for as a guest does: by looking. */
Test(platform, rtc_periodic_interrupt)
{
	struct device *dev = em_device(&rig, &row_rtc, 0, NULL);

	cmos_write(0x0a, 0x23);
	cmos_write(0x0b, 0x42);
	for (unsigned i = 0; i < 10; i++) {
		while (!em_line(&rig, LAYOUT_RTC_IRQ))
			sched_yield();
		cr_assert_eq(cmos_read(0x0c) & 0xc0, 0xc0);
		cr_assert(!em_line(&rig, LAYOUT_RTC_IRQ));
	}
	/* Left high, the line is low after a reset. */
	while (!em_line(&rig, LAYOUT_RTC_IRQ))
		sched_yield();
	dev->ops->reset(dev);
	cr_assert(!em_line(&rig, LAYOUT_RTC_IRQ));
	em_destroy(dev);
}

Test(platform, rtc_hostile_accesses)
{
	struct device *dev = em_device(&rig, &row_rtc, 0, NULL);

	em_torment(&rig, 0x70, 2, 100000);
	em_destroy(dev);
}

/* ---- all of them ----------------------------------------------------------------------------- */

Test(platform, a_port_that_is_taken_is_an_error)
{
	static const struct device_row *const rows[] = { &row_rtc, &row_i8042, &row_acpi_power,
							 &row_pvpanic };

	for (unsigned i = 0; i < 4; i++) {
		struct device *dev = em_device(&rig, rows[i], 0, NULL);

		cr_assert_neq(em_device_fails(&rig, rows[i], 1, NULL)[0], '\0');
		em_destroy(dev);
	}
}
