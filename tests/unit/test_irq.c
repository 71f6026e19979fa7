/*
 * Lines (wired OR) and messages (masking, pending, eventfds), against a chip that writes down.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/fake_chip.h"

static void signal_fd(int fd)
{
	uint64_t one = 1;

	cr_assert_eq(write(fd, &one, sizeof(one)), (ssize_t)sizeof(one));
}

Test(irq, a_shared_line_is_high_while_any_pin_is)
{
	struct fake_chip chip = { 0 };
	struct error e;
	struct irq_controller *ic = irq_create(&fake_chip_ops, &chip, &e);
	struct irq_line a, b;

	irq_line_init(&a, ic, 16);
	irq_line_init(&b, ic, 16);
	irq_line_set(&a, true);
	irq_line_set(&a, true);
	cr_assert(chip.level[16]);
	cr_assert_eq(chip.line_changes, 1);
	irq_line_set(&b, true);
	irq_line_set(&a, false);
	cr_assert(chip.level[16], "b still drives it");
	irq_line_set(&b, false);
	cr_assert_not(chip.level[16]);
	cr_assert_eq(chip.line_changes, 2);
	irq_destroy(ic);
}

Test(irq, masked_messages_wait_and_come_once)
{
	struct fake_chip chip = { 0 };
	struct error e;
	struct irq_controller *ic = irq_create(&fake_chip_ops, &chip, &e);
	struct irq_msi m;

	irq_msi_init(&m, ic);
	irq_msi_send(&m);
	irq_msi_send(&m);
	cr_assert_eq(chip.messages, 0);
	cr_assert(irq_msi_pending(&m));
	irq_msi_configure(&m, 0xfee00000, 0x41, false);
	cr_assert_eq(chip.messages, 1);
	cr_assert_eq(chip.data, 0x41);
	cr_assert_not(irq_msi_pending(&m));
	irq_msi_send(&m);
	cr_assert_eq(chip.messages, 2);
	irq_msi_reset(&m);
	irq_msi_send(&m);
	cr_assert_eq(chip.messages, 2, "masked after reset");
	irq_msi_reset(&m);
	cr_assert_not(irq_msi_pending(&m));
	irq_msi_destroy(&m);
	irq_destroy(ic);
}

Test(irq, an_eventfd_is_bound_only_while_unmasked)
{
	struct fake_chip chip = { 0 };
	struct error e;
	struct irq_controller *ic = irq_create(&fake_chip_ops, &chip, &e);
	struct irq_msi m;
	int fd;

	irq_msi_init(&m, ic);
	fd = irq_msi_eventfd(&m);
	cr_assert_geq(fd, 0);
	cr_assert_eq(irq_msi_eventfd(&m), fd, "the same one each time");
	cr_assert_eq(chip.route_sets, 0);
	signal_fd(fd);
	cr_assert(irq_msi_pending(&m), "signalled while masked: pending");
	irq_msi_configure(&m, 0xfee00000, 0x42, false);
	cr_assert_eq(chip.route[0].fd, fd, "KVM delivers what the eventfd has counted");
	cr_assert_eq(chip.route[0].data, 0x42);
	irq_msi_configure(&m, 0xfee01000, 0x43, false);
	cr_assert_eq(chip.route[0].address, 0xfee01000, "moved while unmasked");
	irq_msi_configure(&m, 0xfee01000, 0x43, true);
	cr_assert_eq(chip.route[0].fd, 0);
	irq_msi_destroy(&m);
	cr_assert_eq(chip.route_clears, 1);
	irq_destroy(ic);
}

/* A back end in another process has the open file too, and clears what it likes of its flags. */
Test(irq, an_eventfd_that_would_wait_is_reset, .timeout = 20)
{
	struct fake_chip chip = { 0 };
	struct error e;
	struct irq_controller *ic = irq_create(&fake_chip_ops, &chip, &e);
	struct irq_msi m;
	int fd;

	irq_msi_init(&m, ic);
	fd = irq_msi_eventfd(&m);
	cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
	irq_msi_reset(&m);
	signal_fd(fd);
	irq_msi_reset(&m);
	cr_assert_not(irq_msi_pending(&m));
	irq_msi_destroy(&m);
	irq_destroy(ic);
}

Test(irq, routes_run_out_and_come_back)
{
	struct fake_chip chip = { 0 };
	struct error e;
	struct irq_controller *ic = irq_create(&fake_chip_ops, &chip, &e);
	struct irq_msi m[FAKE_ROUTES + 1];

	for (unsigned i = 0; i <= FAKE_ROUTES; i++)
		irq_msi_init(&m[i], ic);
	for (unsigned i = 0; i < FAKE_ROUTES; i++)
		cr_assert_geq(irq_msi_eventfd(&m[i]), 0);
	cr_assert_eq(irq_msi_eventfd(&m[FAKE_ROUTES]), -ENOSPC);
	irq_msi_destroy(&m[5]);
	cr_assert_geq(irq_msi_eventfd(&m[FAKE_ROUTES]), 0);
	for (unsigned i = 0; i <= FAKE_ROUTES; i++)
		irq_msi_destroy(&m[i]);
	irq_destroy(ic);
}

static void wait_messages(struct fake_chip *chip, unsigned n)
{
	while (__atomic_load_n(&chip->messages, __ATOMIC_SEQ_CST) < n)
		sched_yield();
}

Test(irq, without_irqfd_a_loop_delivers, .timeout = 20)
{
	struct fake_chip chip = { 0 };
	struct error e;
	struct irq_controller *ic = irq_create(&fake_chip_ops_no_fd, &chip, &e);
	struct irq_msi m;
	int fd;

	irq_msi_init(&m, ic);
	irq_msi_configure(&m, 0xfee00000, 0x44, false);
	fd = irq_msi_eventfd(&m);
	cr_assert_geq(fd, 0);
	signal_fd(fd);
	wait_messages(&chip, 1);
	irq_msi_configure(&m, 0xfee00000, 0x44, true);
	signal_fd(fd);
	cr_assert(irq_msi_pending(&m));
	irq_msi_configure(&m, 0xfee00000, 0x45, false);
	wait_messages(&chip, 2);
	cr_assert_eq(chip.data, 0x45);
	irq_msi_destroy(&m);
	irq_destroy(ic);
}

Test(irq, a_line_is_driven_by_an_eventfd_where_the_chip_can)
{
	struct fake_chip chip = { 0 };
	struct error e;
	struct irq_controller *ic = irq_create(&fake_chip_ops, &chip, &e);
	struct irq_line line = { 0 };

	cr_expect_eq(irq_line_bind(&line, 5, 6), -ENOTSUP, "not on any line yet");
	irq_line_init(&line, ic, 19);
	cr_expect(irq_line_can_bind(ic));
	cr_expect_eq(irq_line_bind(&line, 5, 6), 0);
	cr_expect_eq(chip.line[19].trigger, 5);
	cr_expect_eq(chip.line[19].resample, 6);
	irq_line_unbind(&line, 5);
	cr_expect_eq(chip.line[19].trigger, 0);
	irq_destroy(ic);

	ic = irq_create(&fake_chip_ops_no_fd, &chip, &e);
	irq_line_init(&line, ic, 19);
	cr_expect_not(irq_line_can_bind(ic));
	cr_expect_eq(irq_line_bind(&line, 5, 6), -ENOTSUP);
	irq_line_unbind(&line, 5);
	irq_destroy(ic);
}

static void wait_level(struct fake_chip *chip, unsigned gsi)
{
	while (!__atomic_load_n(&chip->level[gsi], __ATOMIC_SEQ_CST))
		sched_yield();
}

static bool is_signalled(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

/* What split and user chips have: no irqfd, but they tell of the end of an interrupt. */
Test(irq, an_eventfd_drives_a_line_where_the_chip_tells_of_ends, .timeout = 20)
{
	struct fake_chip chip = { 0 };
	struct error e;
	struct irq_controller *ic = irq_create(&fake_chip_ops_ends, &chip, &e);
	struct irq_line line, other;
	int trigger = eventfd(0, EFD_NONBLOCK), resample = eventfd(0, EFD_NONBLOCK);

	irq_line_init(&line, ic, 19);
	irq_line_init(&other, ic, 19);
	cr_assert(irq_line_can_bind(ic));
	cr_assert_eq(irq_line_bind(&line, trigger, resample), 0);
	signal_fd(trigger);
	wait_level(&chip, 19);
	cr_expect_not(is_signalled(resample));
	chip.ended(chip.ended_opaque, ~(1u << 19));
	cr_expect(chip.level[19], "another line's end");
	chip.ended(chip.ended_opaque, 1u << 19);
	cr_expect_not(chip.level[19], "low until the owner has looked");
	cr_expect(is_signalled(resample));
	chip.ended(chip.ended_opaque, 1u << 19);
	cr_expect_not(is_signalled(resample), "it was not this pin's");

	/* Beside a pin of another device; what was signalled by then counts no more once unbound.
	 */
	irq_line_set(&other, true);
	signal_fd(trigger);
	irq_line_unbind(&line, trigger);
	cr_expect(chip.level[19], "the other still drives it");
	irq_line_set(&other, false);
	cr_expect_not(chip.level[19]);
	signal_fd(trigger);
	chip.ended(chip.ended_opaque, 1u << 19);
	cr_expect_not(is_signalled(resample));
	close(trigger);
	close(resample);
	irq_destroy(ic);
	cr_expect_null(chip.ended);
}
