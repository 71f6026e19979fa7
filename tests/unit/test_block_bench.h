/*
 * A block queue that a test kicks, on a loop with a thread, and requests that tell when and in what
 * order they were done.
 */
#ifndef TESTS_UNIT_TEST_BLOCK_BENCH_H
#define TESTS_UNIT_TEST_BLOCK_BENCH_H

#include "tests/unit/test_block_stub.h"

struct bench {
	struct block *block;
	struct block_queue *q;
	struct event_loop *loop;
	pthread_mutex_t lock;
	unsigned completions; /* calls of completed() */
	unsigned done;
};

struct io {
	struct block_request r; /* first */
	struct bench *bench;
	struct iovec iov;
	bool done;
	int result;
	unsigned order;
	struct io *then; /* submitted by done() */
};

/* Takes the block over. */
struct bench *bench_create(struct block *block, bool may_wait);
void bench_destroy(struct bench *b);
void io_init(struct bench *b, struct io *io, enum block_op op, uint64_t offset, void *buf,
	     uint64_t len);
/* Submits n of them, then kicks. */
void bench_submit(struct bench *b, struct io *io, unsigned n);
void bench_wait(struct bench *b, struct io *io, unsigned n);
/* One request, waited for; its result. */
int bench_run(struct bench *b, enum block_op op, uint64_t offset, void *buf, uint64_t len);
/* Bytes that tell where they belong. */
void bench_fill(uint8_t *buf, size_t len, unsigned seed);

#endif
