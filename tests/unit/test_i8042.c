/*
 * The keyboard controller: the reset line, and a kernel's probe that finds nothing attached.
 */
#include <criterion/criterion.h>

#include "devices/registry.h"
#include "tests/unit/emulated_rig.h"

#define DATA	0x60
#define COMMAND 0x64
#define OBF	0x01
#define TIMEOUT 0x40

static struct em_rig rig;
static struct device *dev;

static void set_up(void)
{
	em_open(&rig);
	dev = em_device(&rig, &row_i8042, 0, NULL);
}

static void tear_down(void)
{
	em_destroy(dev);
	em_close(&rig);
}

TestSuite(i8042, .init = set_up, .fini = tear_down, .timeout = 20);

static uint8_t status(void)
{
	return em_in(&rig, COMMAND);
}

static void command(uint8_t value)
{
	em_out(&rig, COMMAND, value);
}

static void data(uint8_t value)
{
	em_out(&rig, DATA, value);
}

/* There must be an answer, and only one. */
static uint8_t answer(void)
{
	uint8_t value;

	cr_assert(status() & OBF);
	value = em_in(&rig, DATA);
	cr_assert(!(status() & OBF));
	return value;
}

Test(i8042, pulse_of_the_reset_line)
{
	command(0xfe);
	cr_assert_eq(em_request(&rig), REQUEST_RESET);
	command(0xff);
	cr_assert_eq(em_request(&rig), REQUEST_NONE, "pulses nothing");
	command(0xf0);
	cr_assert_eq(em_request(&rig), REQUEST_RESET);
}

Test(i8042, output_port)
{
	command(0xd0);
	cr_assert_eq(answer() & 3, 3, "not in reset, A20 open");
	command(0xd1);
	data(0x01);
	cr_assert_eq(em_request(&rig), REQUEST_NONE);
	command(0xd0);
	cr_assert_eq(answer() & 3, 1);
	command(0xdf);
	command(0xd0);
	cr_assert_eq(answer() & 3, 3);
	command(0xdd);
	command(0xd0);
	cr_assert_eq(answer() & 3, 1);
	command(0xd1);
	data(0x02);
	cr_assert_eq(em_request(&rig), REQUEST_RESET);
}

/* In the order of Linux' i8042_controller_check() and so on. */
Test(i8042, probe)
{
	uint8_t ctr;

	cr_assert(!(status() & OBF), "nothing to flush");
	command(0xaa);
	cr_assert_eq(answer(), 0x55);
	command(0x20);
	ctr = answer();
	command(0x20);
	cr_assert_eq(answer(), ctr);
	command(0x60);
	data(ctr | 0x10);
	command(0x20);
	cr_assert_eq(answer(), ctr | 0x10);
	/* No auxiliary port: the loop does not come back, and the test finds a stuck line. */
	command(0xd3);
	data(0x5a);
	cr_assert_neq(answer(), 0x5a);
	command(0xa9);
	cr_assert_neq(answer(), 0x00);
	command(0xab);
	cr_assert_eq(answer(), 0x00);
}

Test(i8042, disable_and_enable)
{
	command(0xad);
	command(0xa7);
	command(0x20);
	cr_assert_eq(answer() & 0x30, 0x30);
	command(0xae);
	command(0xa8);
	command(0x20);
	cr_assert_eq(answer() & 0x30, 0x00);
}

/* Nobody waits for a keyboard that is not there. */
Test(i8042, a_missing_keyboard_times_out_at_once)
{
	command(0x60);
	data(0x01); /* its interrupt */
	data(0xf2); /* identify */
	cr_assert(em_line(&rig, 1));
	cr_assert(status() & TIMEOUT);
	cr_assert_eq(answer(), 0xfe);
	cr_assert(!em_line(&rig, 1));
	cr_assert(!(status() & TIMEOUT));
}

Test(i8042, reset_forgets)
{
	command(0x60);
	data(0x01);
	data(0xf2);
	cr_assert(em_line(&rig, 1));
	dev->ops->reset(dev);
	cr_assert(!em_line(&rig, 1));
	cr_assert(!(status() & OBF));
}

/* The speaker's port between the two is not ours. */
Test(i8042, answers_at_its_two_ports_only)
{
	uint64_t value;

	cr_assert(!bus_read(rig.host.pio, 0x61, 1, &value));
	cr_assert(!bus_read(rig.host.pio, 0x60, 2, &value));
	cr_assert(bus_read(rig.host.pio, 0x60, 1, &value));
	cr_assert(bus_read(rig.host.pio, 0x64, 1, &value));
}

Test(i8042, hostile_accesses)
{
	em_torment(&rig, 0x60, 5, 100000);
}
