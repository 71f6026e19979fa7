/*
 * The thread engine of block backends, with a disk that waits when told to.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_block_bench.h"

#define MIB (1u << 20)

TestSuite(block_engine, .timeout = 60);

static struct bench *stub_bench(struct stub_block **s, bool may_wait)
{
	*s = stub_block_create(MIB);
	return bench_create(&(*s)->block, may_wait);
}

Test(block_engine, one_request_alone_is_done_by_the_kicking_thread)
{
	struct stub_block *s;
	struct bench *b = stub_bench(&s, true);
	uint8_t buf[512];

	for (unsigned i = 0; i < 100; i++) {
		cr_assert_eq(bench_run(b, BLOCK_READ, 0, buf, 512), 0);
		cr_assert(pthread_equal(s->last, pthread_self()));
		pthread_mutex_lock(&b->lock);
		block_queue_kick(b->q); /* the front end goes to sleep */
		pthread_mutex_unlock(&b->lock);
	}
	cr_assert_eq(b->completions, 100);
	bench_destroy(b);

	/* Not on a thread that others need. */
	b = stub_bench(&s, false);
	cr_assert_eq(bench_run(b, BLOCK_READ, 0, buf, 512), 0);
	cr_assert_not(pthread_equal(s->last, pthread_self()));
	bench_destroy(b);
}

Test(block_engine, flushes_and_long_requests_go_to_workers)
{
	struct stub_block *s = stub_block_create(4 * MIB);
	struct bench *b = bench_create(&s->block, true);
	uint8_t *buf = malloc(2 * MIB);

	cr_assert_eq(bench_run(b, BLOCK_FLUSH, 0, NULL, 0), 0);
	cr_assert_not(pthread_equal(s->last, pthread_self()));
	cr_assert_eq(bench_run(b, BLOCK_READ, 0, buf, 2 * MIB), 0);
	cr_assert_not(pthread_equal(s->last, pthread_self()));
	free(buf);
	bench_destroy(b);
}

/* Requests that come while one is waited for show that waiting was wrong. */
Test(block_engine, waits_no_more_when_others_come_meanwhile)
{
	struct stub_block *s;
	struct bench *b = stub_bench(&s, true);
	uint8_t buf[2][512];
	struct io io[2];

	s->no_nowait = true;
	cr_assert_eq(bench_run(b, BLOCK_READ, 0, buf[0], 512), 0);
	cr_assert(pthread_equal(s->last, pthread_self()));
	for (unsigned i = 0; i < 20; i++) { /* no sleep in between */
		cr_assert_eq(bench_run(b, BLOCK_READ, 0, buf[0], 512), 0);
		cr_assert_not(pthread_equal(s->last, pthread_self()));
	}
	/* Then they do run at the same time. */
	stub_gate(s, true);
	for (unsigned i = 0; i < 2; i++) {
		io_init(b, &io[i], BLOCK_READ, 0, buf[i], 512);
		bench_submit(b, &io[i], 1);
	}
	for (unsigned i = 0; i < 5000 && stub_waiting(s) < 2; i++)
		usleep(1000);
	cr_assert_eq(stub_waiting(s), 2);
	stub_gate(s, false);
	bench_wait(b, io, 2);
	bench_destroy(b);
}

Test(block_engine, cached_data_needs_no_worker)
{
	struct stub_block *s;
	struct bench *b = stub_bench(&s, false);
	uint8_t buf[8][512];
	struct io io[8];

	s->cached = true;
	stub_gate(s, true);
	for (unsigned i = 0; i < 8; i++)
		io_init(b, &io[i], i % 2 ? BLOCK_WRITE : BLOCK_READ, i * 512, buf[i], 512);
	bench_submit(b, io, 8);
	for (unsigned i = 0; i < 8; i++)
		cr_assert(io[i].done);
	cr_assert_eq(b->completions, 1, "once for all");
	cr_assert_eq(s->nowaits, 8);
	stub_gate(s, false);

	/* A format that cannot is asked once for reads and once for writes. */
	s->no_nowait = true;
	s->nowaits = 0;
	for (unsigned i = 0; i < 8; i++)
		io[i].done = false;
	bench_submit(b, io, 8);
	bench_wait(b, io, 8);
	cr_assert_eq(s->nowaits, 2);
	bench_destroy(b);
}

Test(block_engine, many_at_once_and_completions_in_batches)
{
	struct stub_block *s;
	struct bench *b = stub_bench(&s, true);
	struct io io[64];
	uint8_t *buf = malloc(64 * 512);

	s->no_nowait = true;
	for (unsigned round = 0; round < 50; round++) {
		stub_gate(s, true);
		b->done = 0;
		for (unsigned i = 0; i < 64; i++) {
			bench_fill(buf + i * 512, 512, round + i);
			io_init(b, &io[i], BLOCK_WRITE, (uint64_t)i * 512, buf + i * 512, 512);
		}
		bench_submit(b, io, 64);
		for (unsigned i = 0; i < 5000 && stub_waiting(s) < 8; i++)
			usleep(1000);
		cr_assert_eq(stub_waiting(s), 8);
		stub_gate(s, false);
		bench_wait(b, io, 64);
		for (unsigned i = 0; i < 64; i++)
			cr_assert_eq(io[i].result, 0);
		cr_assert_eq(memcmp(s->data, buf, 64 * 512), 0);
	}
	cr_assert_lt(b->completions, 50 * 64);
	free(buf);
	bench_destroy(b);
}

Test(block_engine, errors_reach_the_request)
{
	struct stub_block *s;
	struct bench *b = stub_bench(&s, true);
	uint8_t buf[512];
	struct io io[4];

	s->fail = -EIO;
	cr_assert_eq(bench_run(b, BLOCK_READ, 0, buf, 512), -EIO);
	cr_assert_eq(bench_run(b, BLOCK_FLUSH, 0, NULL, 0), -EIO);
	s->fail = -ENOSPC;
	for (unsigned i = 0; i < 4; i++)
		io_init(b, &io[i], BLOCK_WRITE, 0, buf, 512);
	bench_submit(b, io, 4);
	bench_wait(b, io, 4);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(io[i].result, -ENOSPC);
	bench_destroy(b);
}

static void *open_gate_later(void *arg)
{
	usleep(30000);
	stub_gate(arg, false);
	return NULL;
}

/* From another thread than the loop's, with the lock held all the time: the loop cannot help. */
Test(block_engine, drain_waits_for_all)
{
	struct stub_block *s;
	struct bench *b = stub_bench(&s, true);
	struct io io[20];
	uint8_t buf[512];
	pthread_t thread;

	stub_gate(s, true);
	for (unsigned i = 0; i < 20; i++)
		io_init(b, &io[i], i % 4 ? BLOCK_READ : BLOCK_FLUSH, 0, i % 4 ? buf : NULL,
			i % 4 ? 512 : 0);
	pthread_mutex_lock(&b->lock);
	for (unsigned i = 0; i < 19; i++)
		block_queue_submit(b->q, &io[i].r);
	block_queue_kick(b->q);
	block_queue_submit(b->q, &io[19].r); /* not even kicked */
	pthread_create(&thread, NULL, open_gate_later, s);
	block_queue_drain(b->q);
	for (unsigned i = 0; i < 20; i++)
		cr_assert(io[i].done);
	pthread_mutex_unlock(&b->lock);
	pthread_join(thread, NULL);
	bench_destroy(b);
}

/* A request whose done() submits the next one: by kick, by the loop, by drain. */
Test(block_engine, done_may_submit)
{
	for (unsigned how = 0; how < 3; how++) {
		struct stub_block *s;
		struct bench *b = stub_bench(&s, how == 0);
		struct io io[10];
		uint8_t buf[512];

		for (unsigned i = 0; i < 10; i++) {
			io_init(b, &io[i], BLOCK_READ, 0, buf, 512);
			io[i].then = i < 9 ? &io[i + 1] : NULL;
		}
		pthread_mutex_lock(&b->lock);
		block_queue_submit(b->q, &io[0].r);
		block_queue_kick(b->q);
		if (how == 2)
			block_queue_drain(b->q);
		pthread_mutex_unlock(&b->lock);
		bench_wait(b, io, 10);
		for (unsigned i = 0; i < 10; i++)
			cr_assert_eq(io[i].order, i + 1);
		bench_destroy(b);
	}
}
