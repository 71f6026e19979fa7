/*
 * Event loops: sources, removal in the middle of a batch, timers, messages and calls across
 * threads.
 */
#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "vmm/event.h"

struct pair {
	struct event_loop *loop;
	struct event_source a, b;
	unsigned calls;
};

static void signal_fd(int fd)
{
	uint64_t one = 1;

	cr_assert_eq(write(fd, &one, sizeof(one)), (ssize_t)sizeof(one));
}

/* Whichever runs first removes the other, whose event is in the same batch. */
static void remove_other(void *opaque, uint32_t events)
{
	struct pair *p = opaque;

	(void)events;
	p->calls++;
	event_del(&p->a);
	event_del(&p->b);
	event_loop_stop(p->loop);
}

Test(event, a_removed_source_is_not_called, .timeout = 20)
{
	struct error e;
	struct pair p = { .loop = event_loop_create("t", &e) };

	p.a = (struct event_source){ eventfd(1, 0), EPOLLIN, remove_other, &p, NULL };
	p.b = (struct event_source){ eventfd(1, 0), EPOLLIN, remove_other, &p, NULL };
	cr_assert_eq(event_add(p.loop, &p.a), 0);
	cr_assert_eq(event_add(p.loop, &p.b), 0);
	cr_assert_eq(event_loop_run(p.loop), 0);
	cr_assert_eq(p.calls, 1);
	close(p.a.fd);
	close(p.b.fd);
	event_loop_destroy(p.loop);
}

static void count_up(void *arg)
{
	__atomic_fetch_add((unsigned *)arg, 1, __ATOMIC_SEQ_CST);
}

Test(event, calls_run_on_the_loop_and_are_waited_for, .timeout = 20)
{
	struct error e;
	struct event_loop *loop = event_loop_create("t", &e);
	unsigned n = 0;

	event_call(loop, count_up, &n);
	cr_assert_eq(n, 1, "not running: called at once");
	cr_assert_eq(event_loop_start(loop, &e), 0);
	for (unsigned i = 0; i < 1000; i++)
		event_call(loop, count_up, &n);
	cr_assert_eq(n, 1001);
	cr_assert_not(event_loop_is_current(loop));
	event_loop_destroy(loop);
}

static void ask_policy(void *arg)
{
	*(int *)arg = sched_getscheduler(0);
}

/* What rings a device's doorbell keeps its CPU. */
Test(event, a_thread_of_its_own_gives_way, .timeout = 20)
{
	int before = sched_getscheduler(0), policy = -1;
	struct event_loop *loop;
	struct error e;

	if (before != SCHED_OTHER)
		cr_skip("this machine runs the tests by another policy");
	loop = event_loop_create("batch", &e);
	cr_assert_not_null(loop);
	cr_assert_eq(event_loop_start(loop, &e), 0);
	event_call(loop, ask_policy, &policy);
	cr_assert_eq(policy, SCHED_BATCH);
	cr_assert_eq(sched_getscheduler(0), before);
	event_loop_destroy(loop);
}

Test(event, messages_run_and_merge, .timeout = 20)
{
	struct error e;
	struct event_loop *loop = event_loop_create("t", &e);
	unsigned n = 0;
	struct event_message m = { .fn = count_up, .arg = &n };

	event_post(loop, &m);
	event_post(loop, &m);
	cr_assert_eq(n, 0);
	cr_assert_eq(event_loop_start(loop, &e), 0);
	while (__atomic_load_n(&n, __ATOMIC_SEQ_CST) == 0)
		sched_yield();
	event_loop_destroy(loop);
	cr_assert_eq(n, 1);
}

struct timed {
	struct event_loop *loop;
	struct event_timer timer, never;
	unsigned fired;
};

static void fired(void *opaque)
{
	struct timed *t = opaque;

	if (++t->fired == 2)
		event_loop_stop(t->loop);
	else
		event_timer_set(&t->timer, 1000);
}

static void not_this(void *opaque)
{
	(void)opaque;
	cr_assert_fail("a cancelled timer fired");
}

Test(event, timers_fire_and_cancel, .timeout = 20)
{
	struct error e;
	struct timed t = { .loop = event_loop_create("t", &e) };

	t.timer.callback = fired;
	t.timer.opaque = &t;
	t.never.callback = not_this;
	cr_assert_eq(event_timer_init(&t.timer, t.loop), 0);
	cr_assert_eq(event_timer_init(&t.never, t.loop), 0);
	event_timer_set(&t.timer, 1000);
	event_timer_set(&t.never, 1);
	event_timer_set(&t.never, 0);
	cr_assert_eq(event_loop_run(t.loop), 0);
	cr_assert_eq(t.fired, 2);
	event_timer_destroy(&t.timer);
	event_timer_destroy(&t.never);
	event_loop_destroy(t.loop);
}

struct busy {
	struct event_source source;
	unsigned calls;
	bool gone;
};

static void busy_cb(void *opaque, uint32_t events)
{
	struct busy *b = opaque;

	(void)events;
	cr_assert_not(__atomic_load_n(&b->gone, __ATOMIC_SEQ_CST), "called after event_del()");
	__atomic_fetch_add(&b->calls, 1, __ATOMIC_SEQ_CST);
}

Test(event, del_from_another_thread_is_final, .timeout = 30)
{
	struct error e;
	struct event_loop *loop = event_loop_create("t", &e);

	cr_assert_eq(event_loop_start(loop, &e), 0);
	for (unsigned i = 0; i < 500; i++) {
		struct busy b = { .source = { eventfd(0, 0), EPOLLIN, busy_cb, NULL, NULL } };

		b.source.opaque = &b;
		cr_assert_eq(event_add(loop, &b.source), 0);
		signal_fd(b.source.fd); /* level-triggered and never read: fires all the time */
		while (i % 2 && __atomic_load_n(&b.calls, __ATOMIC_SEQ_CST) == 0)
			sched_yield();
		event_del(&b.source);
		__atomic_store_n(&b.gone, true, __ATOMIC_SEQ_CST);
		close(b.source.fd);
	}
	event_loop_destroy(loop);
}
