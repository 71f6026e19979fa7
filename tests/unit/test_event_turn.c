/*
 * Patience of a device's thread (vmm/event_turn.h): which way it decides, how soon, and what its
 * trials cost.
 */
#include <criterion/criterion.h>

#include "vmm/event_turn.h"

/* So many requests, `depth` at a time: a patient thread finds them all, a prompt one each by
 * itself. Turns it was patient. */
static unsigned work(struct event_turn *t, unsigned requests, unsigned depth)
{
	unsigned patient = 0;

	while (requests) {
		unsigned n = t->prompt ? 1 : requests < depth ? requests : depth;

		patient += !t->prompt;
		requests -= n;
		event_turn_took(t, n);
	}
	return patient;
}

Test(event_turn, one_at_a_time_is_served_promptly)
{
	struct event_turn t = { 0 };

	work(&t, 15, 1);
	cr_assert_not(t.prompt, "not at once");
	work(&t, 1, 1);
	cr_assert(t.prompt);
	work(&t, 10000, 1); /* the trials get rare */
	cr_assert_leq(work(&t, 100000, 1), 1600);
}

Test(event_turn, many_at_a_time_are_waited_for)
{
	struct event_turn t = { 0 };

	for (unsigned depth = 2; depth <= 64; depth *= 2) {
		work(&t, 10000, depth);
		cr_assert_not(t.prompt, "%u", depth);
	}
}

Test(event_turn, it_changes_with_the_work)
{
	struct event_turn t = { 0 };

	for (unsigned i = 0; i < 20; i++) {
		work(&t, 20000, 1);
		/* In the worst case it has just begun to be prompt for a long time. */
		work(&t, 256 + 4 * 32, 32);
		cr_assert_not(t.prompt);
		work(&t, 16, 1);
		work(&t, 16, 1);
		cr_assert(t.prompt, "and as soon as in the beginning");
	}
}

/* A driver that mostly waits for each. */
Test(event_turn, now_and_then_two)
{
	struct event_turn t = { 0 };
	unsigned prompt = 0;

	for (unsigned i = 0; i < 10000; i++) {
		work(&t, i % 16 == 0 ? 2 : 1, 2);
		prompt += t.prompt;
	}
	cr_assert_gt(prompt, 8000);
}
