/* See test_block_bench.h. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/test_block_bench.h"

static void completed(void *opaque)
{
	struct bench *b = opaque;

	b->completions++;
}

struct bench *bench_create(struct block *block, bool may_wait)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct block_queue_config config = { .lock = &b->lock,
					     .depth = 64,
					     .completed = completed,
					     .opaque = b,
					     .name = "blk0",
					     .may_wait = may_wait };
	struct error e;

	pthread_mutex_init(&b->lock, NULL);
	b->block = block;
	b->loop = event_loop_create("blk0", &e);
	cr_assert_eq(event_loop_start(b->loop, &e), 0);
	config.loop = b->loop;
	cr_assert_eq(block_queue_create(&b->q, block, &config, &e), 0, "%s", e.msg);
	return b;
}

void bench_destroy(struct bench *b)
{
	pthread_mutex_lock(&b->lock);
	block_queue_drain(b->q);
	pthread_mutex_unlock(&b->lock);
	block_queue_destroy(b->q);
	event_loop_destroy(b->loop);
	block_close(b->block);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static void io_done(struct block_request *r, int result)
{
	struct io *io = (struct io *)r;

	io->done = true;
	io->result = result;
	io->order = ++io->bench->done;
	if (io->then)
		block_queue_submit(io->bench->q, &io->then->r);
}

void io_init(struct bench *b, struct io *io, enum block_op op, uint64_t offset, void *buf,
	     uint64_t len)
{
	*io = (struct io){
		.r = { .op = op, .offset = offset, .length = len, .done = io_done },
		.bench = b,
		.iov = { buf, len },
	};
	if (buf) {
		io->r.iov = &io->iov;
		io->r.niov = 1;
	}
}

void bench_submit(struct bench *b, struct io *io, unsigned n)
{
	pthread_mutex_lock(&b->lock);
	for (unsigned i = 0; i < n; i++)
		block_queue_submit(b->q, &io[i].r);
	for (unsigned i = 0; i < n; i++)
		cr_assert_not(io[i].done, "done() from submit");
	block_queue_kick(b->q);
	pthread_mutex_unlock(&b->lock);
}

void bench_wait(struct bench *b, struct io *io, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		for (unsigned ms = 0; ms < 10000; ms++) {
			bool done;

			pthread_mutex_lock(&b->lock);
			done = io[i].done;
			pthread_mutex_unlock(&b->lock);
			if (done)
				break;
			usleep(1000);
		}
		cr_assert(io[i].done);
	}
}

int bench_run(struct bench *b, enum block_op op, uint64_t offset, void *buf, uint64_t len)
{
	struct io io;

	io_init(b, &io, op, offset, buf, len);
	bench_submit(b, &io, 1);
	bench_wait(b, &io, 1);
	return io.result;
}

void bench_fill(uint8_t *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(i * 31 + seed + (i >> 9));
}
