/*
 * The engines against each other, on raw and qcow2 images, cached and direct: many requests in
 * flight, each checked when it is done; what must not happen after a drain; and no io_uring at all.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/backend/block_internal.h"
#include "devices/backend/qcow2.h"
#include "tests/unit/qcow2_rig.h"
#include "tests/unit/test_block_bench.h"
#include "tests/unit/test_refuse.h"

static void begin(void)
{
	qrig_begin();
}

TestSuite(block_uring, .init = begin, .fini = qrig_end, .timeout = 120);

#define DEPTH	32u
#define REGIONS 64u
#define REGION	(64u << 10) /* requests of one region never overlap in time */
#define SIZE	(REGIONS * (uint64_t)REGION)

/* Both kinds of file system: in memory, and the one of /var/tmp. */
static char elsewhere[64];

static const char *image_path(bool on_disk)
{
	static char path[96];

	if (!on_disk)
		return qrig_path("image");
	snprintf(elsewhere, sizeof(elsewhere), "/var/tmp/mvm-uring-XXXXXX");
	cr_assert_not_null(mkdtemp(elsewhere));
	snprintf(path, sizeof(path), "%s/image", elsewhere);
	return path;
}

static void clean_up(const char *path)
{
	if (path[1] == 'v') {
		unlink(path);
		rmdir(elsewhere);
	}
}

static void make(const char *path, enum block_format format)
{
	const struct qrig_image image = {
		.version = 3, .cluster_bits = 12, .refcount_order = 4, .size = SIZE
	};
	uint8_t *zeroes = calloc(1, SIZE);

	if (format == BLOCK_QCOW2)
		qrig_make(path, &image);
	else
		qrig_write_file(path, zeroes, SIZE);
	free(zeroes);
}

/* ---- a front end ----------------------------------------------------------------------------- */

struct front {
	struct block *block;
	struct block_queue *q;
	struct event_loop *loop;
	pthread_mutex_t lock;
	struct qrig_random random;
	uint8_t *model;
	struct slot *slot;
	bool busy[REGIONS];
	unsigned flying, finished, steps, publications;
	bool misaligned;
	int failed;
};

struct slot {
	struct block_request r; /* first */
	struct front *f;
	unsigned region;
	bool used;
	struct iovec iov[3];
	uint8_t *memory, *at;
};

static void submit_some(struct front *f);

static void done(struct block_request *r, int result)
{
	struct slot *s = (struct slot *)r;
	struct front *f = s->f;

	if (result) {
		f->failed = result;
	} else if (r->op == BLOCK_READ && memcmp(s->at, f->model + r->offset, r->length)) {
		f->failed = -EILSEQ;
	}
	s->used = false;
	f->busy[s->region] = false;
	f->flying--;
	f->finished++;
	submit_some(f);
}

static void fill_slot(struct front *f, struct slot *s)
{
	struct block_request *r = &s->r;
	uint64_t dice = qrig_below(&f->random, 100), n = 1 + qrig_below(&f->random, 24), first;

	if (n < 8 && qrig_below(&f->random, 2))
		n = 8;
	first = qrig_below(&f->random, REGION / 512 - n);
	*r = (struct block_request){ .done = done, .iov = s->iov };
	r->op = dice < 45   ? BLOCK_READ
		: dice < 85 ? BLOCK_WRITE
		: dice < 90 ? BLOCK_FLUSH
		: dice < 95 ? BLOCK_WRITE_ZEROES
			    : BLOCK_READ;
	r->offset = s->region * (uint64_t)REGION + first * 512;
	r->length = r->op == BLOCK_FLUSH ? 0 : n * 512;
	r->stable = dice % 10 == 0;
	r->unmap = dice & 1;
	s->at = s->memory + (f->misaligned ? 1 + qrig_below(&f->random, 511) : 0);
	r->niov = n > 2 && qrig_below(&f->random, 2) ? 2 : 1;
	s->iov[0] = (struct iovec){ s->at, r->niov == 1 ? n * 512 : 512 };
	s->iov[1] = (struct iovec){ s->at + 512, (n - 1) * 512 };
	memset(s->at, 0xa5, n * 512);
	if (r->op == BLOCK_WRITE) {
		qrig_fill(&f->random, s->at, n * 512);
		memcpy(f->model + r->offset, s->at, n * 512);
	} else if (r->op == BLOCK_WRITE_ZEROES) {
		memset(f->model + r->offset, 0, n * 512);
	}
}

static void submit_some(struct front *f)
{
	unsigned want = 1 + (unsigned)qrig_below(&f->random, DEPTH);

	for (unsigned i = 0; i < DEPTH && f->flying < want && f->steps; i++) {
		struct slot *s = &f->slot[i];

		if (s->used)
			continue;
		s->region = (unsigned)qrig_below(&f->random, REGIONS);
		if (f->busy[s->region])
			continue;
		fill_slot(f, s);
		s->used = f->busy[s->region] = true;
		f->flying++;
		f->steps--;
		block_queue_submit(f->q, &s->r);
	}
}

static void completed(void *opaque)
{
	struct front *f = opaque;

	f->publications++;
	if (f->flying == 0 && f->steps == 0)
		event_loop_stop(f->loop);
}

static void front_open(struct front *f, const struct block_config *config, bool may_wait)
{
	struct block_queue_config queue = { .depth = DEPTH,
					    .may_wait = may_wait,
					    .completed = completed,
					    .opaque = f,
					    .name = "test" };
	struct error e = { "" };

	memset(f, 0, sizeof(*f));
	f->random.state = config->format * 7 + config->cache;
	pthread_mutex_init(&f->lock, NULL);
	f->loop = event_loop_create("test", &e);
	cr_assert_eq(block_open(&f->block, config, &e), 0, "%s", e.msg);
	queue.loop = f->loop;
	queue.lock = &f->lock;
	cr_assert_eq(block_queue_create(&f->q, f->block, &queue, &e), 0, "%s", e.msg);
	f->model = calloc(1, SIZE);
	f->slot = calloc(DEPTH, sizeof(*f->slot));
	for (unsigned i = 0; i < DEPTH; i++) {
		f->slot[i].f = f;
		f->slot[i].memory = aligned_alloc(4096, 65536);
	}
}

static void front_close(struct front *f)
{
	pthread_mutex_lock(&f->lock);
	block_queue_drain(f->q);
	pthread_mutex_unlock(&f->lock);
	block_queue_destroy(f->q);
	block_close(f->block);
	event_loop_destroy(f->loop);
	for (unsigned i = 0; i < DEPTH; i++)
		free(f->slot[i].memory);
	free(f->slot);
	free(f->model);
}

static void kick(struct front *f)
{
	pthread_mutex_lock(&f->lock);
	submit_some(f);
	block_queue_kick(f->q);
	pthread_mutex_unlock(&f->lock);
}

static void front_run(struct front *f, unsigned steps)
{
	f->steps = steps;
	kick(f);
	/* Some engines do all of it in the first kick. */
	if (f->flying || f->steps)
		cr_assert_eq(event_loop_run(f->loop), 0);
	cr_assert_eq(f->failed, 0, "%d", f->failed);
	cr_assert_eq(f->flying, 0);
	cr_assert_geq(f->finished, steps);
}

/* The bytes in the file, read by somebody else. */
static void check_bytes(const char *path, const struct block_config *config, const uint8_t *model)
{
	uint8_t *bytes = malloc(SIZE);
	size_t len;

	if (config->format == BLOCK_RAW) {
		free(bytes);
		bytes = qrig_read_file(path, &len);
	} else {
		struct qcow2 *q = qrig_open(path, &(struct qcow2_options){ .read_only = true });

		cr_assert_eq(qrig_pread(q, 0, bytes, SIZE), 0);
		qcow2_close(q);
		qrig_check(path, true);
	}
	cr_assert_eq(memcmp(bytes, model, SIZE), 0);
	free(bytes);
}

/* ---- the engines ----------------------------------------------------------------------------- */

struct shape {
	enum block_engine engine;
	enum block_format format;
	enum block_cache cache;
	bool on_disk, may_wait, misaligned;
};

ParameterizedTestParameters(block_uring, random)
{
	static struct shape shapes[96];
	size_t n = 0;

	for (unsigned i = 0; i < 96; i++) {
		struct shape s = { .engine = i & 1 ? BLOCK_ENGINE_IO_URING : BLOCK_ENGINE_THREADS,
				   .format = i & 2 ? BLOCK_QCOW2 : BLOCK_RAW,
				   .cache = (enum block_cache)(i / 4 % 3),
				   .on_disk = i / 12 & 1,
				   .may_wait = i / 24 & 1,
				   .misaligned = i / 48 & 1 };

		/* Memory matters to O_DIRECT only. */
		if (!s.misaligned || s.cache == BLOCK_CACHE_DIRECT)
			shapes[n++] = s;
	}
	return cr_make_param_array(struct shape, shapes, n);
}

ParameterizedTest(struct shape *s, block_uring, random)
{
	const char *path = image_path(s->on_disk);
	struct block_config config = {
		.path = path, .format = s->format, .cache = s->cache, .engine = s->engine
	};
	struct front f;
	uint8_t *model;

	make(path, s->format);
	front_open(&f, &config, s->may_wait);
	f.misaligned = s->misaligned;
	front_run(&f, s->on_disk ? 400 : 3000);
	model = malloc(SIZE);
	memcpy(model, f.model, SIZE);
	front_close(&f);
	check_bytes(path, &config, model);
	free(model);
	clean_up(path);
}

/* ---- draining -------------------------------------------------------------------------------- */

static void drain_from_here(const char *path, struct block_config *config, bool threaded)
{
	struct front f;
	struct error e;

	front_open(&f, config, true);
	if (threaded)
		cr_assert_eq(event_loop_start(f.loop, &e), 0);
	for (unsigned round = 0; round < 50; round++) {
		pthread_mutex_lock(&f.lock);
		f.steps = 100;
		submit_some(&f);
		block_queue_kick(f.q);
		f.steps = 0; /* done() adds no more */
		block_queue_drain(f.q);
		cr_assert_eq(f.flying, 0);
		cr_assert_eq(f.failed, 0, "%d", f.failed);
		for (unsigned i = 0; i < DEPTH; i++)
			memset(f.slot[i].memory, 0xee, 65536);
		pthread_mutex_unlock(&f.lock);
		usleep(200);
		for (unsigned i = 0; i < DEPTH; i++)
			for (unsigned n = 0; n < 65536; n += 64)
				cr_assert_eq(f.slot[i].memory[n], 0xee);
	}
	front_close(&f);
	/* Nobody holds the lock any more. */
	front_open(&f, config, true);
	front_close(&f);
	(void)path;
}

Test(block_uring, drain)
{
	for (unsigned i = 0; i < 8; i++) {
		const char *path = image_path(i & 1);
		struct block_config config = { .path = path,
					       .format = i & 2 ? BLOCK_QCOW2 : BLOCK_RAW,
					       .cache = BLOCK_CACHE_DIRECT,
					       .engine = BLOCK_ENGINE_IO_URING };

		make(path, config.format);
		drain_from_here(path, &config, i & 4);
		clean_up(path);
	}
}

/* ---- errors ---------------------------------------------------------------------------------- */

static int last_result;

static void note(struct block_request *r, int result)
{
	(void)r;
	last_result = result;
}

static int one(struct front *f, enum block_op op, uint64_t offset, void *buf, size_t len)
{
	struct iovec iov = { buf, len };
	struct block_request r = {
		.op = op, .offset = offset, .length = len, .iov = &iov, .niov = 1, .done = note
	};

	last_result = 1;
	pthread_mutex_lock(&f->lock);
	block_queue_submit(f->q, &r);
	block_queue_drain(f->q);
	pthread_mutex_unlock(&f->lock);
	return last_result;
}

Test(block_uring, errors)
{
	const char *path = qrig_path("image");
	struct block_config config = { .path = path, .engine = BLOCK_ENGINE_IO_URING };
	static uint8_t buf[8192];
	struct front f;

	make(path, BLOCK_RAW);
	front_open(&f, &config, false);
	cr_assert_eq(one(&f, BLOCK_READ, 0, buf, 8192), 0);
	cr_assert_eq(one(&f, BLOCK_READ, SIZE, buf, 512), -EINVAL);
	cr_assert_eq(truncate(path, SIZE - 1024), 0);
	cr_assert_eq(one(&f, BLOCK_READ, SIZE - 8192, buf, 8192), -EIO);
	cr_assert_eq(one(&f, BLOCK_READ, SIZE - 512, buf, 512), -EIO);
	cr_assert_eq(one(&f, BLOCK_WRITE, 0, NULL, 512), -EFAULT);
	cr_assert_eq(one(&f, BLOCK_READ, 0, buf, 512), 0);
	cr_assert_eq(one(&f, BLOCK_FLUSH, 0, NULL, 0), 0);
	front_close(&f);
	config.read_only = true;
	front_open(&f, &config, false);
	cr_assert_eq(one(&f, BLOCK_WRITE, 0, buf, 512), -EROFS);
	cr_assert_eq(one(&f, BLOCK_READ, 0, buf, 512), 0);
	cr_assert_eq(one(&f, BLOCK_FLUSH, 0, NULL, 0), 0);
	front_close(&f);
}

static bool nowhere(struct block *b, const struct block_request *r, struct block_extent *x)
{
	(void)b;
	(void)r;
	(void)x;
	return false;
}

/*
 * A file that the kernel cannot sync, under a format whose own flush succeeds: as after a lost
 * write, which the kernel tells of once.
 */
Test(block_uring, failed_flush_is_not_tried_again)
{
	struct block_file file = BLOCK_FILE_CLOSED;
	struct stub_block *s = stub_block_create(1u << 20);
	struct block_format_ops ops = *s->block.ops;
	struct bench *b;

	ops.map = nowhere;
	s->block.ops = &ops;
	s->block.file = &file;
	s->block.flush_is_sync = true;
	s->block.engine = BLOCK_ENGINE_IO_URING;
	b = bench_create(&s->block, false);
	cr_assert_eq(bench_run(b, BLOCK_FLUSH, 0, NULL, 0), -EBADF);
	cr_assert_eq(s->flushes, 0);
	bench_destroy(b);
}

/* ---- no io_uring ----------------------------------------------------------------------------- */

ParameterizedTestParameters(block_uring, refused)
{
	static int errors[] = { ENOSYS, EPERM, ENOMEM };

	return cr_make_param_array(int, errors, 3);
}

/* The test has a process of its own: the filter goes with it. */
ParameterizedTest(int *err, block_uring, refused)
{
	const char *path = image_path(true);
	struct block_config config = { .path = path };
	struct block_queue_config queue = { .depth = DEPTH, .name = "test" };
	struct block_queue *q = NULL;
	struct error e = { "" };
	struct front f;

	make(path, BLOCK_RAW);
	refuse(__NR_io_uring_setup, *err);
	front_open(&f, &config, false);
	front_run(&f, 500);
	front_close(&f);

	config.engine = BLOCK_ENGINE_IO_URING;
	memset(&f, 0, sizeof(f));
	queue.loop = event_loop_create("test", &e);
	cr_assert_eq(block_open(&f.block, &config, &e), 0);
	cr_assert_eq(block_queue_create(&q, f.block, &queue, &e), -*err);
	cr_assert(strstr(e.msg, "io_uring"), "%s", e.msg);
	cr_assert_null(q);
	block_close(f.block);
	event_loop_destroy(queue.loop);
	clean_up(path);
}

/* A sandbox that closes in later: what is not with the kernel yet goes to threads. */
Test(block_uring, refused_later)
{
	const char *path = qrig_path("image");
	struct block_config config = { .path = path, .engine = BLOCK_ENGINE_IO_URING };
	struct front f;

	make(path, BLOCK_RAW);
	front_open(&f, &config, false);
	front_run(&f, 200);
	f.finished = 0;
	refuse(__NR_io_uring_enter, EPERM);
	front_run(&f, 500);
	front_close(&f);
}
