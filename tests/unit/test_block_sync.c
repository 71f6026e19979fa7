/*
 * Syncs that fail: the kernel tells of what it could not write once, and whoever asks again hears
 * that all is well. Here it refuses one thread's syncs, and no others.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/backend/qcow2_impl.h"
#include "tests/unit/qcow2_rig.h"
#include "tests/unit/test_block_bench.h"
#include "tests/unit/test_refuse.h"

TestSuite(block_sync, .init = qrig_begin, .fini = qrig_end, .timeout = 60);

#define SIZE (1u << 20)

static struct block *raw_image(const char *path, enum block_cache cache, enum block_engine engine)
{
	const struct block_config config = { .path = path, .cache = cache, .engine = engine };
	struct error e = { "" };
	struct block *b = NULL;
	uint8_t *zeroes = calloc(1, SIZE);

	qrig_write_file(path, zeroes, SIZE);
	free(zeroes);
	cr_assert_eq(block_open(&b, &config, &e), 0, "%s", e.msg);
	return b;
}

static int flush(struct block *b)
{
	return block_perform(b, &(struct block_request){ .op = BLOCK_FLUSH }, 0);
}

static int write_stable(struct block *b, void *bytes)
{
	struct iovec iov = { bytes, 512 };

	return block_perform(
		b,
		&(struct block_request){
			.op = BLOCK_WRITE, .length = 512, .iov = &iov, .niov = 1, .stable = true },
		0);
}

/* ---- a thread whose syncs fail --------------------------------------------------------------- */

struct unlucky {
	struct block *block;
	struct qcow2 *image;
	int result;
};

static void *flush_in_vain(void *arg)
{
	struct unlucky *u = arg;

	refuse(SYS_fdatasync, EIO);
	u->result = u->image ? qcow2_flush(u->image) : flush(u->block);
	return NULL;
}

static void *write_in_vain(void *arg)
{
	static uint8_t bytes[512];
	struct unlucky *u = arg;

	refuse_if(SYS_pwritev2, 5, RWF_DSYNC, EIO);
	u->result = write_stable(u->block, bytes);
	return NULL;
}

static void fails(void *(*how)(void *), struct unlucky u)
{
	pthread_t thread;

	pthread_create(&thread, NULL, how, &u);
	pthread_join(thread, NULL);
	cr_assert_eq(u.result, -EIO);
}

/* ---- raw ------------------------------------------------------------------------------------- */

Test(block_sync, raw_flush_goes_on_failing)
{
	struct block *b = raw_image(qrig_path("raw"), BLOCK_CACHE_WRITEBACK, BLOCK_ENGINE_THREADS);
	struct bench *bench;

	cr_assert_eq(flush(b), 0);
	fails(flush_in_vain, (struct unlucky){ .block = b });
	bench = bench_create(b, false);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(bench_run(bench, BLOCK_FLUSH, 0, NULL, 0), -EIO);
	bench_destroy(bench);
}

Test(block_sync, raw_flush_goes_on_failing_in_the_ring)
{
	struct block *b = raw_image(qrig_path("raw"), BLOCK_CACHE_WRITEBACK, BLOCK_ENGINE_IO_URING);
	struct bench *bench = bench_create(b, false);

	cr_assert_eq(bench_run(bench, BLOCK_FLUSH, 0, NULL, 0), 0);
	fails(flush_in_vain, (struct unlucky){ .block = b });
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(bench_run(bench, BLOCK_FLUSH, 0, NULL, 0), -EIO);
	bench_destroy(bench);
}

/* Nothing of it is in the page cache: the disk's own answer, each time. */
Test(block_sync, direct_flush_may_succeed_again)
{
	char path[] = "/var/tmp/mvm-sync-XXXXXX";
	struct block *b;

	close(mkstemp(path));
	b = raw_image(path, BLOCK_CACHE_DIRECT, BLOCK_ENGINE_THREADS);
	fails(flush_in_vain, (struct unlucky){ .block = b });
	cr_assert_eq(flush(b), 0);
	block_close(b);
	unlink(path);
}

Test(block_sync, stable_write_tells_which_half_failed)
{
	struct block *b = raw_image(qrig_path("raw"), BLOCK_CACHE_WRITEBACK, BLOCK_ENGINE_THREADS);
	uint8_t bytes[512] = { 0 };

	cr_assert_eq(write_stable(b, NULL), -EFAULT);
	cr_assert_eq(flush(b), 0);
	fails(write_in_vain, (struct unlucky){ .block = b });
	cr_assert_eq(flush(b), -EIO);
	cr_assert_eq(write_stable(b, bytes), 0); /* it is on the disk itself */
	cr_assert_eq(flush(b), -EIO);
	block_close(b);
}

/* ---- qcow2 ----------------------------------------------------------------------------------- */

static void loses_metadata(bool lazy)
{
	const struct qrig_image image = { .version = 3,
					  .cluster_bits = 12,
					  .refcount_order = 4,
					  .size = SIZE,
					  .compatible = lazy ? QCOW2_COMPAT_LAZY : 0 };
	const char *path = qrig_path("image");
	uint8_t *bytes, data[4096];
	struct qcow2 *q;
	uint64_t l1;
	size_t len;

	qrig_make(path, &image);
	q = qrig_open(path, &(struct qcow2_options){ 0 });
	memset(data, 0x5a, sizeof(data));
	cr_assert_eq(qrig_pwrite(q, 0, data, sizeof(data)), 0);
	fails(flush_in_vain, (struct unlucky){ .image = q });
	/* Nothing of it is dirty any more, but nobody knows whether it is on the disk. */
	cr_assert_eq(qcow2_flush(q), -EIO);
	cr_assert_eq(qrig_pwrite(q, 8192, data, sizeof(data)), 0);
	cr_assert_eq(qcow2_flush(q), -EIO);
	cr_assert_eq(qrig_pread(q, 0, data, sizeof(data)), 0);
	cr_assert_eq(data[0], 0x5a);
	l1 = q->header.l1_offset;
	cr_assert_eq(qcow2_close(q), -EIO);

	bytes = qrig_read_file(path, &len);
	cr_assert_eq(qcow2_get64(bytes + l1, 0), 0, "it refers to what may be lost");
	if (lazy)
		cr_assert(qcow2_get64(bytes + QCOW2_AT_INCOMPAT, 0) & QCOW2_INCOMPAT_DIRTY);
	free(bytes);
	qrig_check(path, false);
}

Test(block_sync, qcow2_flush_goes_on_failing)
{
	loses_metadata(false);
}

Test(block_sync, qcow2_stays_dirty)
{
	loses_metadata(true);
}
