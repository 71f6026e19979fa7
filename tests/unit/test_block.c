/*
 * Block backends: opening and locking of raw images, requests good and bad, full disks. The engine
 * is in test_block_engine.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/test_block_bench.h"

#define MIB (1u << 20)

/* ---- a directory of the test's own ----------------------------------------------------------- */

static char dir[64];

static void make_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/mvm-block-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
}

static void remove_dir(void)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

static const char *path(const char *name)
{
	static char buf[4][128];
	static unsigned next;
	char *p = buf[next++ % 4];

	snprintf(p, 128, "%s/%s", dir, name);
	return p;
}

static const char *file(const char *name, uint64_t size)
{
	const char *p = path(name);
	int fd = open(p, O_RDWR | O_CREAT | O_TRUNC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, (off_t)size), 0);
	close(fd);
	return p;
}

static struct block *open_raw(const char *p, bool ro)
{
	struct block_config config = { .path = p, .read_only = ro };
	struct block *b = NULL;
	struct error e;

	cr_assert_eq(block_open(&b, &config, &e), 0, "%s", e.msg);
	return b;
}

static void refused(const char *p, bool ro, int err, const char *word)
{
	struct block_config config = { .path = p, .read_only = ro };
	struct block *b = NULL;
	struct error e;

	cr_assert_eq(block_open(&b, &config, &e), err, "%s: %s", p, e.msg);
	cr_assert_null(b);
	cr_assert_not_null(strstr(e.msg, p), "%s does not name %s", e.msg, p);
	cr_assert_not_null(strstr(e.msg, word), "\"%s\" does not say %s", e.msg, word);
}

TestSuite(block, .init = make_dir, .fini = remove_dir, .timeout = 60);

/* ---- opening --------------------------------------------------------------------------------- */

Test(block, refuses_what_is_no_disk)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	refused(path("none"), false, -ENOENT, "No such file");
	mkdir(path("dir"), 0700);
	refused(path("dir"), false, -EISDIR, "directory");
	refused(path("dir"), true, -EINVAL, "directory");
	mkfifo(path("fifo"), 0600);
	refused(path("fifo"), false, -EINVAL, "fifo");
	refused(path("fifo"), true, -EINVAL, "fifo");
	refused("/dev/null", false, -EINVAL, "character device");
	refused("/dev/full", true, -EINVAL, "character device");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path("socket"));
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	refused(path("socket"), false, -ENXIO, "cannot open");
	refused(file("empty", 0), false, -EINVAL, "empty");
	refused(file("small", 511), false, -EINVAL, "too small");
	close(fd);
}

Test(block, opens_a_file)
{
	struct block *b = open_raw(file("disk", MIB), false);

	cr_assert_eq(block_info(b)->size, MIB);
	cr_assert_eq(block_info(b)->logical_block, 512);
	cr_assert_not(block_info(b)->read_only);
	block_close(b);
	block_close(NULL);
}

Test(block, ragged_end_is_cut)
{
	static const unsigned extra[] = { 1, 511, 513 };

	for (unsigned i = 0; i < 3; i++) {
		struct block *b = open_raw(file("ragged", 4096 + extra[i]), false);

		cr_assert_eq(block_info(b)->size, 4096 + extra[i] / 512 * 512);
		block_close(b);
	}
}

Test(block, readers_share_and_a_writer_is_alone)
{
	const char *p = file("disk", MIB);
	struct block *a = open_raw(p, true), *b = open_raw(p, true);

	refused(p, false, -EBUSY, "in use");
	block_close(a);
	refused(p, false, -EBUSY, "in use");
	block_close(b);
	a = open_raw(p, false);
	refused(p, false, -EBUSY, "in use");
	refused(p, true, -EBUSY, "in use");
	block_close(a);
	block_close(open_raw(p, false));
}

/* ---- requests -------------------------------------------------------------------------------- */

static bool all_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static void round_trip(const char *image, bool may_wait)
{
	struct bench *b = bench_create(open_raw(image, false), may_wait);
	uint8_t *out = malloc(MIB), *in = malloc(MIB);
	char cut[8];
	int fd;

	bench_fill(out, MIB, 1);
	cr_assert_eq(bench_run(b, BLOCK_WRITE, 4096, out, MIB - 8192), 0);
	cr_assert_eq(bench_run(b, BLOCK_FLUSH, 0, NULL, 0), 0);
	cr_assert_eq(bench_run(b, BLOCK_READ, 4096, in, MIB - 8192), 0);
	cr_assert_eq(memcmp(in, out, MIB - 8192), 0);
	cr_assert_eq(bench_run(b, BLOCK_READ, 0, in, 4096), 0);
	cr_assert(all_zero(in, 4096));
	/* And that is what is in the file. */
	fd = open(image, O_RDONLY);
	cr_assert_eq(pread(fd, cut, 8, 4096 + 512), 8);
	cr_assert_eq(memcmp(cut, out + 512, 8), 0);
	close(fd);
	free(out);
	free(in);
	bench_destroy(b);
}

Test(block, what_is_written_is_read)
{
	round_trip(file("disk", MIB), true);
	round_trip(file("disk", MIB), false);
	/* In memory, everything is done by the kicking thread. */
	if (access("/dev/shm", W_OK) == 0) {
		char p[64];

		snprintf(p, sizeof(p), "/dev/shm/mvm-block-%d", getpid());
		close(open(p, O_RDWR | O_CREAT, 0600));
		cr_assert_eq(truncate(p, MIB), 0);
		round_trip(p, true);
		round_trip(p, false);
		unlink(p);
	}
}

Test(block, as_many_iovecs_as_there_can_be)
{
	struct bench *b = bench_create(open_raw(file("disk", 4 * MIB), false), true);
	struct iovec iov[1024];
	uint8_t *buf = malloc(MIB), *in = malloc(MIB);
	struct io io;

	bench_fill(buf, MIB, 7);
	for (unsigned i = 0; i < 1024; i++) /* in another order, sizes that straddle sectors */
		iov[i] = (struct iovec){ buf + (i ^ 1) * 1000, 1000 };
	io_init(b, &io, BLOCK_WRITE, 512, NULL, 1024 * 1000);
	io.r.iov = iov;
	io.r.niov = 1024;
	bench_submit(b, &io, 1);
	bench_wait(b, &io, 1);
	cr_assert_eq(io.result, 0);
	cr_assert_eq(bench_run(b, BLOCK_READ, 512, in, 1024 * 1000), 0);
	for (unsigned i = 0; i < 1024; i++)
		cr_assert_eq(memcmp(in + i * 1000, buf + (i ^ 1) * 1000, 1000), 0);
	free(buf);
	free(in);
	bench_destroy(b);
}

Test(block, ranges_that_cannot_be)
{
	static const struct {
		uint64_t offset, length;
	} bad[] = {
		{ MIB, 512 },
		{ MIB - 512, 1024 },
		{ UINT64_MAX - 511, 512 },
		{ UINT64_MAX - 511, 1024 },
		{ 512, UINT64_MAX - 511 },
		{ 1, 512 },
		{ 0, 1 },
		{ 256, 256 },
		{ 2 * MIB, 0 },
	};
	static const enum block_op ops[] = { BLOCK_READ, BLOCK_WRITE, BLOCK_DISCARD,
					     BLOCK_WRITE_ZEROES };
	struct bench *b = bench_create(open_raw(file("disk", MIB), false), true);
	uint8_t buf[1024] = { 0 };

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (unsigned op = 0; op < 4; op++)
			cr_assert_eq(bench_run(b, ops[op], bad[i].offset, buf, bad[i].length),
				     -EINVAL, "%u %u", i, op);
	cr_assert_eq(bench_run(b, BLOCK_READ, MIB - 512, buf, 512), 0);
	cr_assert_eq(bench_run(b, BLOCK_READ, MIB, buf, 0), 0);
	bench_destroy(b);
}

Test(block, read_only_is_not_written)
{
	struct bench *b = bench_create(open_raw(file("disk", MIB), true), true);
	uint8_t buf[512] = { 1 };

	cr_assert(block_info(b->block)->read_only);
	cr_assert_eq(bench_run(b, BLOCK_WRITE, 0, buf, 512), -EROFS);
	cr_assert_eq(bench_run(b, BLOCK_DISCARD, 0, NULL, 512), -EROFS);
	cr_assert_eq(bench_run(b, BLOCK_WRITE_ZEROES, 0, NULL, 512), -EROFS);
	cr_assert_eq(bench_run(b, BLOCK_FLUSH, 0, NULL, 0), 0);
	cr_assert_eq(bench_run(b, BLOCK_READ, 0, buf, 512), 0);
	cr_assert(all_zero(buf, 512));
	bench_destroy(b);
}

Test(block, discard_and_zeroes)
{
	const char *p = file("disk", 4 * MIB);
	struct bench *b = bench_create(open_raw(p, false), true);
	uint8_t *buf = malloc(4 * MIB);
	struct stat st;
	struct io io;

	for (unsigned unmap = 0; unmap < 2; unmap++) {
		bench_fill(buf, 4 * MIB, 3);
		cr_assert_eq(bench_run(b, BLOCK_WRITE, 0, buf, 4 * MIB), 0);
		io_init(b, &io, BLOCK_WRITE_ZEROES, 512, NULL, 3 * MIB);
		io.r.unmap = unmap;
		io.r.stable = unmap;
		bench_submit(b, &io, 1);
		bench_wait(b, &io, 1);
		cr_assert_eq(io.result, 0);
		cr_assert_eq(bench_run(b, BLOCK_READ, 0, buf, 4 * MIB), 0);
		cr_assert_neq(buf[511], 0);
		cr_assert(all_zero(buf + 512, 3 * MIB));
		cr_assert_neq(buf[512 + 3 * MIB + 1], 0);
	}
	if (block_info(b->block)->can_discard) {
		cr_assert_eq(bench_run(b, BLOCK_DISCARD, 0, NULL, 4 * MIB), 0);
		cr_assert_eq(stat(p, &st), 0);
		cr_assert_leq(st.st_blocks * 512, MIB);
		cr_assert_eq(st.st_size, 4 * MIB);
	}
	free(buf);
	bench_destroy(b);
}

Test(block, a_file_that_shrank_is_an_error)
{
	const char *p = file("disk", MIB);
	struct bench *b = bench_create(open_raw(p, false), true);
	uint8_t *buf = malloc(MIB);

	cr_assert_eq(truncate(p, MIB / 2), 0);
	cr_assert_eq(bench_run(b, BLOCK_READ, MIB / 4, buf, MIB / 2), -EIO);
	cr_assert_eq(bench_run(b, BLOCK_READ, MIB / 2, buf, 512), -EIO);
	cr_assert_eq(bench_run(b, BLOCK_READ, 0, buf, MIB / 2), 0);
	free(buf);
	bench_destroy(b);
}

/* ---- full disks ------------------------------------------------------------------------------ */

/* A tmpfs of 1 MiB in a mount namespace of our own; false where that is not allowed. */
static bool small_tmpfs(void)
{
	if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return false;
	mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
	return mount("small", dir, "tmpfs", 0, "size=1m") == 0;
}

Test(block, a_full_disk_is_an_error_and_nothing_more)
{
	struct bench *b;
	uint8_t *buf = malloc(MIB);
	struct io io[4];

	if (!small_tmpfs())
		cr_skip_test("no mount namespace");
	b = bench_create(open_raw(file("disk", 16 * MIB), false), false);
	bench_fill(buf, MIB, 9);
	cr_assert_eq(bench_run(b, BLOCK_WRITE, 0, buf, MIB / 2), 0);
	cr_assert_eq(bench_run(b, BLOCK_WRITE, 4 * MIB, buf, MIB), -ENOSPC);
	for (unsigned i = 0; i < 4; i++)
		io_init(b, &io[i], BLOCK_WRITE, (8 + i) * MIB, buf, MIB);
	bench_submit(b, io, 4);
	bench_wait(b, io, 4);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(io[i].result, -ENOSPC);
	cr_assert_eq(bench_run(b, BLOCK_READ, 4096, buf, 4096), 0);
	cr_assert_neq(buf[1], 0);
	free(buf);
	bench_destroy(b);
	umount(dir);
}

Test(block, a_file_size_limit_is_an_error)
{
	struct bench *b = bench_create(open_raw(file("disk", 4 * MIB), false), true);
	struct rlimit limit = { MIB, MIB };
	uint8_t *buf = malloc(MIB);

	signal(SIGXFSZ, SIG_IGN); /* as main() does */
	bench_fill(buf, MIB, 9);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_assert_eq(bench_run(b, BLOCK_WRITE, MIB / 2, buf, MIB), -EFBIG);
	cr_assert_eq(bench_run(b, BLOCK_WRITE, 0, buf, MIB / 2), 0);
	free(buf);
	bench_destroy(b);
}

/* Random requests on a real file against a copy in memory. Overlaps only one after the other. */
Test(block, random_requests_on_a_file)
{
	enum { SLOTS = 16, SLOT = 64 * 1024 };
	struct bench *b = bench_create(open_raw(file("disk", SLOTS * SLOT), false), true);
	uint8_t *copy = calloc(SLOTS, SLOT), *buf = calloc(SLOTS, SLOT);
	unsigned seed = 4711;

	for (unsigned round = 0; round < 200; round++) {
		struct io io[SLOTS];

		for (unsigned i = 0; i < SLOTS; i++) {
			uint64_t offset = (rand_r(&seed) % 64) * 512;
			uint64_t len = (1 + rand_r(&seed) % 64) * 512;
			bool write = rand_r(&seed) % 2;

			if (write) {
				bench_fill(buf + i * SLOT, len, round * 3 + i);
				memcpy(copy + i * SLOT + offset, buf + i * SLOT, len);
			}
			io_init(b, &io[i], write ? BLOCK_WRITE : BLOCK_READ, i * SLOT + offset,
				buf + i * SLOT, len);
			io[i].r.stable = write && round % 10 == 0;
		}
		bench_submit(b, io, SLOTS);
		bench_wait(b, io, SLOTS);
		for (unsigned i = 0; i < SLOTS; i++) {
			cr_assert_eq(io[i].result, 0);
			cr_assert_eq(memcmp(copy + io[i].r.offset, buf + i * SLOT, io[i].r.length),
				     0);
		}
	}
	free(copy);
	free(buf);
	bench_destroy(b);
}
