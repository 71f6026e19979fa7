/*
 * qcow2 images that are damaged, disks that are full, writers that are killed, and several threads
 * at once: mvm must survive all of it, and so must what the image promised to keep.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/qcow2_rig.h"

TestSuite(qcow2_damage, .init = qrig_begin, .fini = qrig_end, .timeout = 120);

/* ---- flipped bits ---------------------------------------------------------------------------- */

#define FLIPS qrig_times(2500)

/* A small image with something of everything. */
static uint8_t *make_rich(unsigned bits, size_t *len)
{
	struct qrig_image image = { .version = 3,
				    .cluster_bits = bits,
				    .refcount_order = 4,
				    .size = 300000 / 512 * 512,
				    .compatible = 1,
				    .backing = "base",
				    .backing_format = "raw" };
	struct qrig_disk d = { .path = qrig_path("rich"),
			       .size = image.size,
			       .max = 8192,
			       .bytes = calloc(1, image.size),
			       .random = { bits } };
	uint8_t *bytes;

	qrig_fill(&d.random, d.bytes, 150000);
	qrig_write_file(qrig_path("base"), d.bytes, 150000);
	if (qrig_has_qemu_img()) {
		qrig_write_file(qrig_path("raw"), d.bytes, d.size);
		cr_assert_eq(qrig_run("qemu-img convert -c -f raw -O qcow2 -B base -F raw -o "
				      "lazy_refcounts=on,cluster_size=%u raw rich",
				      1u << bits),
			     0);
		cr_assert_eq(qrig_run("qemu-img snapshot -c before rich"), 0);
	} else {
		qrig_make(d.path, &image);
	}
	qrig_disk_open(&d);
	qrig_disk_steps(&d, 150);
	qrig_disk_close(&d);
	bytes = qrig_read_file(d.path, len);
	free(d.bytes);
	return bytes;
}

/* Whatever it answers, it answers. */
static void use(const char *path, struct qrig_random *r)
{
	const struct qcow2_options options = { .read_only = qrig_below(r, 8) == 0 };
	static uint8_t buf[16384];
	struct qcow2 *q = NULL;
	struct error e;

	if (qcow2_open(&q, path, &options, &e))
		return;
	for (unsigned i = 0; i < 24 && qcow2_size(q) >= 512; i++) {
		uint64_t sectors = qcow2_size(q) / 512, first = qrig_below(r, sectors);
		uint64_t n = 1 + qrig_below(r, 32);

		if (qrig_below(r, 4) && sectors > 580)
			first = qrig_below(r, 580);
		if (n > sectors - first)
			n = sectors - first;
		switch (qrig_below(r, 6)) {
		case 0:
		case 1:
			qrig_pread(q, first * 512, buf, n * 512);
			break;
		case 2:
		case 3:
			qrig_pwrite(q, first * 512, buf, n * 512);
			break;
		case 4:
			if (qrig_below(r, 2))
				qcow2_discard(q, first * 512, n * 512);
			else
				qcow2_write_zeroes(q, first * 512, n * 512, n & 1);
			break;
		default:
			qcow2_flush(q);
		}
	}
	qcow2_close(q);
}

ParameterizedTestParameters(qcow2_damage, flipped_bits)
{
	static unsigned seeds[] = { 1, 2, 3, 4 };

	return cr_make_param_array(unsigned, seeds, 4);
}

ParameterizedTest(unsigned *seed, qcow2_damage, flipped_bits)
{
	struct qrig_random r = { *seed };
	unsigned bits = *seed & 1 ? 9 : 12;
	size_t len;
	uint8_t *bytes = make_rich(bits, &len);
	const char *path = qrig_path("rich");
	int quiet = open("/dev/null", O_WRONLY);

	dup2(quiet, STDERR_FILENO); /* it says of each image that it is damaged */
	for (unsigned i = 0; i < FLIPS; i++) {
		unsigned flips = 1 + (unsigned)qrig_below(&r, 6);
		uint8_t *copy = malloc(len);

		memcpy(copy, bytes, len);
		while (flips--) {
			/* Tables are at the begin, mostly; the header is worth more than that. */
			size_t to = qrig_below(&r, 4) == 0 ? 112
				    : qrig_below(&r, 2)	   ? len / 8
							   : len;

			copy[qrig_below(&r, to)] ^= (uint8_t)(1u << qrig_below(&r, 8));
		}
		qrig_write_file(path, copy, len);
		free(copy);
		use(path, &r);
	}
	free(bytes);
}

/* Whole entries that point where they hurt. */
Test(qcow2_damage, entries_at_bad_places)
{
	static const uint64_t bad[] = { 0,
					0x8000000000000000ull,
					0x8000000000000200ull,
					0x8000000000010000ull, /* the refcount table */
					0x8000000000020000ull, /* a refcount block */
					0x8000000000030000ull, /* the L1 table */
					0x8000000000040000ull,
					0x8000000000040001ull,
					0x80fffffffffffe00ull,
					0x00ffffffffff0000ull,
					0x4000000000000000ull,
					0x7fffffffffffffffull,
					0xffffffffffffffffull,
					0x4fffffffffffff00ull };
	struct qrig_image image = {
		.version = 3, .cluster_bits = 16, .refcount_order = 4, .size = 2u << 20
	};
	const char *path = qrig_path("image");
	struct qrig_random r = { 5 };
	int quiet = open("/dev/null", O_WRONLY);

	dup2(quiet, STDERR_FILENO);
	for (unsigned place = 0; place < 3; place++) {
		for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			uint64_t be = __builtin_bswap64(bad[i]);
			long at = place == 0 ? 0x30000 : place == 1 ? 0x40000 : 0x10000;
			struct qcow2 *q;
			FILE *f;

			qrig_make(path, &image);
			q = qrig_open(path, &(struct qcow2_options){ 0 });
			cr_assert_eq(qrig_pwrite(q, 0, "x", 1), 0);
			cr_assert_eq(qcow2_close(q), 0);
			f = fopen(path, "r+");
			fseek(f, at, SEEK_SET);
			fwrite(&be, 8, 1, f);
			fclose(f);
			for (unsigned n = 0; n < 20; n++)
				use(path, &r);
		}
	}
}

/* A guest must not be able to write itself a header. */
Test(qcow2_damage, data_in_tables_is_refused)
{
	struct qrig_image image = {
		.version = 3, .cluster_bits = 16, .refcount_order = 4, .size = 2u << 20
	};
	const char *path = qrig_path("image");
	int quiet = open("/dev/null", O_WRONLY);

	dup2(quiet, STDERR_FILENO);
	for (uint64_t target = 0; target <= 3; target++) {
		uint64_t be = __builtin_bswap64(0x8000000000000000ull | target << 16);
		uint8_t *before, *after;
		size_t len;
		struct qcow2 *q;
		FILE *f;

		if (target == 2)
			continue; /* a refcount block: the guest can only harm itself */
		qrig_make(path, &image);
		q = qrig_open(path, &(struct qcow2_options){ 0 });
		cr_assert_eq(qrig_pwrite(q, 0, "x", 1), 0);
		cr_assert_eq(qcow2_close(q), 0);
		f = fopen(path, "r+");
		fseek(f, 0x40000, SEEK_SET); /* the L2 table is the first thing allocated */
		fwrite(&be, 8, 1, f);
		fclose(f);
		before = qrig_read_file(path, &len);
		q = qrig_open(path, &(struct qcow2_options){ 0 });
		cr_assert_eq(qrig_pwrite(q, 0, "evil", 4), -EIO);
		cr_assert_eq(qcow2_write_zeroes(q, 0, 65536, true), -EIO);
		qcow2_close(q);
		after = qrig_read_file(path, &len);
		cr_assert_eq(memcmp(before, after, 4u << 16), 0);
		free(before);
		free(after);
	}
}

/* ---- full disks ------------------------------------------------------------------------------ */

static void fill_up(struct qrig_disk *d, int expected)
{
	unsigned failed = 0, good = 0;
	uint8_t buf[65536];

	for (unsigned i = 0; i < 400; i++) {
		uint64_t at = qrig_below(&d->random, (d->size - sizeof(buf)) / 512) * 512;
		int err;

		qrig_fill(&d->random, buf, sizeof(buf));
		err = qrig_pwrite(d->image, at, buf, sizeof(buf));
		if (!err)
			memcpy(d->bytes + at, buf, sizeof(buf));
		else /* partly, perhaps: what is there now is what must stay */
			cr_assert_eq(qrig_pread(d->image, at, d->bytes + at, sizeof(buf)), 0);
		cr_assert(err == 0 || err == expected, "%d", err);
		failed += err != 0;
		good += err == 0;
	}
	cr_assert_gt(good, 5);
	cr_assert_gt(failed, 5);
	qrig_disk_compare(d);
}

static void full(unsigned bits, uint64_t compatible, int expected)
{
	struct qrig_image image = { .version = 3,
				    .cluster_bits = bits,
				    .refcount_order = 4,
				    .compatible = compatible,
				    .size = 8u << 20 };
	struct qrig_disk d = { .path = qrig_path("small/image"),
			       .size = image.size,
			       .bytes = calloc(1, image.size),
			       .random = { bits } };

	qrig_make(d.path, &image);
	qrig_disk_open(&d);
	fill_up(&d, expected);
	/* Space can be given back, and used again. */
	cr_assert_eq(qcow2_write_zeroes(d.image, 0, 4u << 20, true), 0);
	memset(d.bytes, 0, 4u << 20);
	cr_assert_eq(qcow2_flush(d.image), 0);
	cr_assert_eq(qrig_pwrite(d.image, 0, d.bytes + (5u << 20), 65536), 0);
	memcpy(d.bytes, d.bytes + (5u << 20), 65536);
	qrig_disk_close(&d);
	qrig_disk_judge(&d);
	qrig_disk_open(&d);
	qrig_disk_compare(&d);
	qrig_disk_close(&d);
	free(d.bytes);
}

ParameterizedTestParameters(qcow2_damage, full_disk)
{
	static unsigned bits[] = { 9, 12, 16 };

	return cr_make_param_array(unsigned, bits, 3);
}

ParameterizedTest(unsigned *bits, qcow2_damage, full_disk)
{
	cr_assert_eq(qrig_run("mkdir small"), 0);
	if (mount("none", qrig_path("small"), "tmpfs", 0, "size=3M") < 0)
		cr_skip_test("cannot mount a tmpfs (root can)");
	full(*bits, *bits == 12, -ENOSPC);
	umount2(qrig_path("small"), MNT_DETACH);
}

Test(qcow2_damage, file_size_limit)
{
	struct rlimit limit = { 3u << 20, 3u << 20 };
	struct qrig_image image = {
		.version = 3, .cluster_bits = 12, .refcount_order = 4, .size = 8u << 20
	};
	struct qrig_disk d = { .path = qrig_path("image"),
			       .size = image.size,
			       .bytes = calloc(1, image.size),
			       .random = { 77 } };

	signal(SIGXFSZ, SIG_IGN);
	qrig_make(d.path, &image);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	qrig_disk_open(&d);
	fill_up(&d, -EFBIG);
	qrig_disk_close(&d);
	qrig_check(d.path, true);
	free(d.bytes);
}

/* ---- several threads, and a sudden end ------------------------------------------------------- */

#define WRITERS 3u
#define SECTORS 4096u /* of the part where each sector's age is known */
#define SCRATCH (1u << 20)

struct shared {
	uint32_t issued[SECTORS], done[SECTORS], flushed[SECTORS];
};

struct writer {
	struct qcow2 *image;
	struct shared *shared;
	unsigned number, steps;
	struct qrig_random random;
	pthread_t thread;
};

/* A sector says which one it is, and how often it was written. */
static void stamp(uint8_t *sector, uint32_t index, uint32_t age)
{
	uint32_t *words = (uint32_t *)(void *)sector;

	for (unsigned i = 0; i < 128; i += 2) {
		words[i] = index;
		words[i + 1] = age;
	}
}

static void flush_some(struct writer *w)
{
	uint32_t before[SECTORS];

	for (unsigned i = 0; i < SECTORS; i++)
		before[i] = __atomic_load_n(&w->shared->done[i], __ATOMIC_ACQUIRE);
	if (qcow2_flush(w->image))
		abort();
	for (unsigned i = w->number; i < SECTORS; i += WRITERS)
		if (w->shared->flushed[i] < before[i])
			__atomic_store_n(&w->shared->flushed[i], before[i], __ATOMIC_RELEASE);
}

/* Sectors of one cluster belong to all writers in turn, so that they meet. */
static void write_one(struct writer *w)
{
	uint32_t i = (uint32_t)(qrig_below(&w->random, SECTORS / WRITERS) * WRITERS) + w->number;
	uint32_t age = w->shared->issued[i] + 1;
	uint32_t sector[128];

	stamp((uint8_t *)sector, i, age);
	__atomic_store_n(&w->shared->issued[i], age, __ATOMIC_RELEASE);
	if (qrig_pwrite(w->image, i * 512ull, sector, 512))
		abort();
	__atomic_store_n(&w->shared->done[i], age, __ATOMIC_RELEASE);
}

/* Nobody looks at what is in there; it keeps the tables busy. */
static void scratch(struct writer *w)
{
	static uint8_t buf[40000 / 512 * 512];
	uint64_t len = (1 + qrig_below(&w->random, sizeof(buf) / 512)) * 512;
	uint64_t at = SECTORS * 512ull + qrig_below(&w->random, (SCRATCH - len) / 512) * 512;
	int err = 0;

	switch (qrig_below(&w->random, 4)) {
	case 0:
		err = qcow2_discard(w->image, at, len);
		break;
	case 1:
		err = qcow2_write_zeroes(w->image, at, len, len & 512);
		break;
	default:
		err = qrig_pwrite(w->image, at, buf, len);
	}
	if (err)
		abort();
}

static void *write_on(void *arg)
{
	struct writer *w = arg;

	for (unsigned n = 0; n < w->steps; n++) {
		uint64_t dice = qrig_below(&w->random, 100);

		if (dice < 60)
			write_one(w);
		else if (dice < 95)
			scratch(w);
		else
			flush_some(w);
	}
	return NULL;
}

static void start_writers(struct writer *w, struct qcow2 *q, struct shared *s, uint64_t seed,
			  unsigned steps)
{
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){ .image = q,
					.shared = s,
					.number = i,
					.steps = steps,
					.random = { seed * 31 + i } };
		if (pthread_create(&w[i].thread, NULL, write_on, &w[i]))
			abort();
	}
}

static void check_ages(const char *path, const struct shared *s, const uint8_t *base)
{
	struct qcow2 *q = qrig_open(path, &(struct qcow2_options){ 0 });

	for (uint32_t i = 0; i < SECTORS; i++) {
		uint32_t sector[128], expect[128];

		cr_assert_eq(qrig_pread(q, i * 512ull, sector, 512), 0);
		if (memcmp(sector, base + i * 512, 512) == 0) {
			cr_assert_eq(s->flushed[i], 0, "sector %u is old, was flushed", i);
			continue;
		}
		stamp((uint8_t *)expect, i, sector[1]);
		cr_assert_eq(memcmp(sector, expect, 512), 0, "sector %u is nobody's", i);
		cr_assert(sector[1] >= s->flushed[i] && sector[1] <= s->issued[i],
			  "sector %u: %u is not in %u to %u", i, sector[1], s->flushed[i],
			  s->issued[i]);
	}
	cr_assert_eq(qcow2_close(q), 0);
}

static uint8_t *make_aged(const struct qrig_image *image)
{
	struct qrig_random r = { 1234 };
	uint8_t *base = malloc(SECTORS * 512);

	qrig_fill(&r, base, SECTORS * 512);
	qrig_write_file(qrig_path("base"), base, SECTORS * 512);
	qrig_make(qrig_path("image"), image);
	return base;
}

static const struct qrig_image aged[] = {
	{ .version = 3, .cluster_bits = 16, .refcount_order = 4 },
	{ .version = 3, .cluster_bits = 12, .refcount_order = 4 },
	{ .version = 3, .cluster_bits = 9, .refcount_order = 4 },
	{ .version = 3, .cluster_bits = 12, .refcount_order = 4, .compatible = 1 },
	{ .version = 2, .cluster_bits = 10, .refcount_order = 4 },
};

ParameterizedTestParameters(qcow2_damage, threads)
{
	return cr_make_param_array(struct qrig_image, (void *)(uintptr_t)aged, 5);
}

ParameterizedTest(struct qrig_image *param, qcow2_damage, threads)
{
	struct qrig_image image = *param;
	struct shared *s = calloc(1, sizeof(*s));
	struct writer w[WRITERS];
	struct qcow2 *q;
	uint8_t *base;

	image.size = SECTORS * 512ull + SCRATCH;
	image.backing = "base";
	image.backing_format = "raw";
	base = make_aged(&image);
	q = qrig_open(qrig_path("image"), &(struct qcow2_options){ 0 });
	start_writers(w, q, s, image.cluster_bits, 4000);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(w[i].thread, NULL);
	cr_assert_eq(qcow2_close(q), 0);
	memcpy(s->flushed, s->done, sizeof(s->done));
	check_ages(qrig_path("image"), s, base);
	qrig_check(qrig_path("image"), true);
	free(base);
	free(s);
}

ParameterizedTestParameters(qcow2_damage, killed)
{
	return cr_make_param_array(struct qrig_image, (void *)(uintptr_t)aged, 5);
}

static void kill_rounds(const uint8_t *base, bool lazy, uint64_t seed)
{
	struct shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct qrig_random r = { seed };

	for (unsigned round = 0; round < qrig_times(12); round++) {
		pid_t child = fork();

		cr_assert_geq(child, 0);
		if (child == 0) {
			struct qcow2 *q =
				qrig_open(qrig_path("image"), &(struct qcow2_options){ 0 });
			struct writer w[WRITERS];

			start_writers(w, q, s, round + 1, UINT32_MAX);
			pause();
			_exit(0);
		}
		usleep((useconds_t)(3000 + qrig_below(&r, 30000)));
		kill(child, SIGKILL);
		cr_assert_eq(waitpid(child, NULL, 0), child);
		/* With lazy refcounts the counts are wrong until it is opened. */
		if (!lazy)
			qrig_check(qrig_path("image"), false);
		check_ages(qrig_path("image"), s, base);
		qrig_check(qrig_path("image"), lazy);
		/* What is there is what it goes on with. */
		memcpy(s->done, s->flushed, sizeof(s->done));
	}
	munmap(s, sizeof(*s));
}

ParameterizedTest(struct qrig_image *param, qcow2_damage, killed)
{
	struct qrig_image image = *param;
	uint8_t *base;

	image.size = SECTORS * 512ull + SCRATCH;
	image.backing = "base";
	image.backing_format = "raw";
	base = make_aged(&image);
	kill_rounds(base, image.compatible, image.cluster_bits);
	free(base);
}

/* Here each first write of a cluster frees what it was in, which others then want to have. */
Test(qcow2_damage, killed_on_compressed_clusters)
{
	struct qrig_random r = { 4321 };
	uint8_t *base = calloc(1, SECTORS * 512 + SCRATCH);

	qrig_need_qemu_img();
	qrig_fill(&r, base, SECTORS * 512);
	for (unsigned bits = 9; bits <= 15; bits += 3) {
		qrig_write_file(qrig_path("base"), base, SECTORS * 512 + SCRATCH);
		cr_assert_eq(qrig_run("qemu-img convert -c -f raw -O qcow2 -o cluster_size=%u "
				      "base image",
				      1u << bits),
			     0);
		kill_rounds(base, false, bits);
	}
	free(base);
}
