/*
 * A block format in memory that does what a test wants: waits at a gate like a slow disk, fails,
 * and writes down who called. For tests of the engine and of front ends.
 */
#ifndef TESTS_UNIT_TEST_BLOCK_STUB_H
#define TESTS_UNIT_TEST_BLOCK_STUB_H

#include <pthread.h>

#include "devices/backend/block_internal.h"

struct stub_block {
	struct block block; /* first */
	uint8_t *data;
	bool no_nowait; /* -EOPNOTSUPP to BLOCK_NOWAIT */
	bool cached;	/* BLOCK_NOWAIT succeeds */

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	bool closed; /* the gate: what does not say NOWAIT waits */
	int fail;    /* result of everything, if not 0 */
	unsigned waiting, most_waiting;
	unsigned calls, flushes, stable_writes, nowaits, discards, zeroes;
	pthread_t last; /* thread of the last call */
};

struct stub_block *stub_block_create(uint64_t size);
void stub_gate(struct stub_block *s, bool closed);
unsigned stub_waiting(struct stub_block *s);

#endif
