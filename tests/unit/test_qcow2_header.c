/*
 * qcow2 headers: each field, right and wrong; features by name; chains of backing files.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/qcow2_rig.h"

TestSuite(qcow2_header, .init = qrig_begin, .fini = qrig_end, .timeout = 120);

static const struct qrig_image plain = {
	.version = 3, .cluster_bits = 16, .refcount_order = 4, .size = 1u << 20
};

/* Opens it; the error, 0 if it could be. */
static int try(const char *path, bool read_only, struct error *e)
{
	const struct qcow2_options options = { .read_only = read_only };
	struct qcow2 *q = NULL;
	int err = qcow2_open(&q, path, &options, e);

	if (!err)
		qcow2_close(q);
	return err;
}

static void patch(const char *path, long offset, const void *bytes, size_t len)
{
	FILE *f = fopen(path, "r+");

	cr_assert_not_null(f);
	cr_assert_eq(fseek(f, offset, SEEK_SET), 0);
	cr_assert_eq(fwrite(bytes, 1, len, f), len);
	fclose(f);
}

static void patch_number(const char *path, long offset, unsigned width, uint64_t v)
{
	uint64_t be = htobe64(v);

	patch(path, offset, (uint8_t *)&be + (8 - width), width);
}

/* ---- fields ---------------------------------------------------------------------------------- */

struct wrong {
	long offset;
	unsigned width;
	uint64_t value;
	int err;
	char word[40]; /* that the message has */
};

ParameterizedTestParameters(qcow2_header, fields)
{
	static struct wrong wrong[] = {
		{ 0, 4, 0x51464900, EINVAL, "no qcow2 image" },
		{ 4, 4, 1, ENOTSUP, "version 1" },
		{ 4, 4, 4, ENOTSUP, "version 4" },
		{ 8, 8, 5, EINVAL, "backing file" },
		{ 8, 8, UINT64_MAX, EINVAL, "backing file" },
		{ 8, 8, 0x20000, EINVAL, "backing file" },
		{ 20, 4, 8, EINVAL, "2^8 bytes" },
		{ 20, 4, 22, EINVAL, "2^22 bytes" },
		{ 20, 4, UINT32_MAX, EINVAL, "clusters" },
		{ 24, 8, UINT64_MAX, EINVAL, "larger" },
		{ 24, 8, 1ull << 50, EINVAL, "L1 table" },
		{ 32, 4, 1, ENOTSUP, "AES" },
		{ 32, 4, 2, ENOTSUP, "LUKS" },
		{ 32, 4, 7, ENOTSUP, "encrypted" },
		{ 36, 4, 0, EINVAL, "L1 table" },
		{ 36, 4, UINT32_MAX, EINVAL, "L1 table" },
		{ 36, 4, 4u << 20, EINVAL, "outside" },
		{ 40, 8, 0, EINVAL, "outside" },
		{ 40, 8, 0x30200, EINVAL, "cluster's begin" },
		{ 40, 8, 1ull << 40, EINVAL, "outside" },
		{ 40, 8, UINT64_MAX & ~0xffffull, EINVAL, "outside" },
		{ 40, 8, 0x10000, EINVAL, "same place" },
		{ 48, 8, 0, EINVAL, "outside" },
		{ 48, 8, 0x10001, EINVAL, "cluster's begin" },
		{ 48, 8, UINT64_MAX & ~0xffffull, EINVAL, "outside" },
		{ 56, 4, 0, EINVAL, "refcount table" },
		{ 56, 4, 1000, EINVAL, "refcount table" },
		{ 56, 4, UINT32_MAX, EINVAL, "refcount table" },
		{ 60, 4, 1, EINVAL, "snapshot table" },
		{ 60, 4, UINT32_MAX, EINVAL, "snapshots" },
		{ 72, 8, 1ull << 1, EINVAL, "corrupt" },
		{ 72, 8, 1ull << 2, ENOTSUP, "another file" },
		{ 72, 8, 1ull << 3, ENOTSUP, "zlib" },
		{ 72, 8, 1ull << 4, ENOTSUP, "subclusters" },
		{ 72, 8, 1ull << 5, ENOTSUP, "bit 5" },
		{ 72, 8, 1ull << 63, ENOTSUP, "bit 63" },
		{ 96, 4, 7, EINVAL, "reference counts" },
		{ 100, 4, 0, EINVAL, "header has" },
		{ 100, 4, 96, EINVAL, "header has" },
		{ 100, 4, 105, EINVAL, "header has" },
		{ 100, 4, UINT32_MAX & ~7u, EINVAL, "header has" },
		{ 104, 8, 0xe2792aca7fffffffull, EINVAL, "does not fit" },
		{ 104, 8, 0xe2792acaffffffffull, EINVAL, "does not fit" },
		{ 104, 8, 0xe2792aca00000010ull, EINVAL, "valid format" },
	};

	return cr_make_param_array(struct wrong, wrong, sizeof(wrong) / sizeof(wrong[0]));
}

ParameterizedTest(struct wrong *w, qcow2_header, fields)
{
	const char *path = qrig_path("image");
	struct error e = { "" };

	qrig_make(path, &plain);
	cr_assert_eq(try(path, false, &e), 0, "%s", e.msg);
	patch_number(path, w->offset, w->width, w->value);
	cr_assert_eq(try(path, false, &e), -w->err, "%ld: %s", w->offset, e.msg);
	cr_assert(strstr(e.msg, w->word), "'%s' is not in: %s", w->word, e.msg);
	cr_assert(strstr(e.msg, path), "no path in: %s", e.msg);
}

Test(qcow2_header, every_length)
{
	const char *path = qrig_path("image");
	struct error e;

	for (unsigned len = 0; len < 4 * 512; len += len < 160 ? 1 : 97) {
		struct qrig_image image = plain;

		image.cluster_bits = 9;
		image.size = 1000;
		qrig_make(path, &image);
		cr_assert_eq(truncate(path, len), 0);
		/* The last cluster is the L1 table's: one entry. */
		cr_assert_eq(try(path, false, &e) == 0, len >= 3 * 512 + 8, "%u", len);
	}
}

/* Each byte of the header, each bit: opened or refused, and nothing worse. */
Test(qcow2_header, every_bit)
{
	struct qrig_image image = plain;
	const char *path = qrig_path("image"), *base = qrig_path("base");
	unsigned good = 0;
	struct error e;
	uint8_t *bytes;
	size_t len;

	image.backing = "base";
	image.backing_format = "raw";
	qrig_make(path, &image);
	qrig_write_file(base, "bytes", 5);
	bytes = qrig_read_file(path, &len);
	for (long at = 0; at < 160; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			uint8_t byte = (uint8_t)(bytes[at] ^ (1u << bit));

			patch(path, at, &byte, 1);
			good += try(path, bit & 1, &e) == 0;
			qrig_write_file(path, bytes, len);
		}
	}
	free(bytes);
	cr_assert_gt(good, 0);
}

Test(qcow2_header, an_unknown_feature_is_named)
{
	static const uint8_t table[8 + 48 + 8] = { 0x68, 0x03, 0xf8, 0x57, 0,	0,   0,	   48, 0,
						   9,	 'w',  'a',  'r',  'p', ' ', '\n', 'x' };
	const char *path = qrig_path("image");
	struct error e;

	qrig_make(path, &plain);
	patch(path, 104, table, sizeof(table));
	patch_number(path, 72, 8, 1u << 9);
	cr_assert_eq(try(path, true, &e), -ENOTSUP);
	cr_assert(strstr(e.msg, "warp ?x"), "%s", e.msg);
}

Test(qcow2_header, corrupt_is_read_only)
{
	struct qrig_image image = plain;
	const char *path = qrig_path("image");
	struct error e;

	image.incompatible = 2;
	qrig_make(path, &image);
	cr_assert_eq(try(path, false, &e), -EINVAL);
	cr_assert_eq(try(path, true, &e), 0);
}

Test(qcow2_header, auto_clear_features_go_with_the_first_write)
{
	struct qrig_image image = plain;
	const char *path = qrig_path("image");
	uint8_t *bytes;
	struct qcow2 *q;
	size_t len;

	image.autoclear = 0x8000000000000001ull;
	qrig_make(path, &image);
	q = qrig_open(path, &(struct qcow2_options){ 0 });
	qcow2_close(q);
	bytes = qrig_read_file(path, &len);
	cr_assert_eq(bytes[95], 1);
	free(bytes);
	q = qrig_open(path, &(struct qcow2_options){ 0 });
	cr_assert_eq(qrig_pwrite(q, 0, "12345678", 8), 0);
	bytes = qrig_read_file(path, &len);
	cr_assert_eq(bytes[95], 0);
	cr_assert_eq(bytes[88], 0);
	free(bytes);
	qcow2_close(q);
}

Test(qcow2_header, a_second_writer_is_refused)
{
	const char *path = qrig_path("image");
	struct qcow2 *q;
	struct error e;

	qrig_make(path, &plain);
	q = qrig_open(path, &(struct qcow2_options){ 0 });
	cr_assert_eq(try(path, false, &e), -EBUSY);
	cr_assert_eq(try(path, true, &e), -EBUSY);
	qcow2_close(q);
	q = qrig_open(path, &(struct qcow2_options){ .read_only = true });
	cr_assert_eq(try(path, true, &e), 0);
	cr_assert_eq(try(path, false, &e), -EBUSY);
	cr_assert_eq(qrig_pwrite(q, 0, "x", 1), -EROFS);
	cr_assert_eq(qcow2_discard(q, 0, 512), -EROFS);
	cr_assert_eq(qcow2_write_zeroes(q, 0, 512, true), -EROFS);
	qcow2_close(q);
}

Test(qcow2_header, ranges)
{
	const char *path = qrig_path("image");
	struct block_extent x;
	uint8_t buf[1024];
	struct qcow2 *q;

	qrig_make(path, &plain);
	q = qrig_open(path, &(struct qcow2_options){ 0 });
	cr_assert_eq(qrig_pread(q, (1u << 20) - 512, buf, 1024), -EINVAL);
	cr_assert_eq(qrig_pread(q, UINT64_MAX - 511, buf, 512), -EINVAL);
	cr_assert_eq(qrig_pwrite(q, UINT64_MAX - 511, buf, 1024), -EINVAL);
	cr_assert_eq(qcow2_discard(q, 512, UINT64_MAX - 511), -EINVAL);
	cr_assert_eq(qcow2_write_zeroes(q, UINT64_MAX, 2, true), -EINVAL);
	cr_assert_not(qcow2_map(q, false, UINT64_MAX - 511, 512, &x));
	cr_assert_eq(qrig_pread(q, 1u << 20, buf, 0), 0);
	qcow2_close(q);
}

/* ---- backing files --------------------------------------------------------------------------- */

static void make_on(const char *name, const char *backing, const char *format)
{
	struct qrig_image image = plain;

	image.backing = backing;
	image.backing_format = format;
	qrig_make(qrig_path(name), &image);
}

static void refused(const char *name, int err, const char *word)
{
	struct error e = { "" };

	cr_assert_eq(try(qrig_path(name), false, &e), -err, "%s: %s", name, e.msg);
	cr_assert(strstr(e.msg, word), "'%s' is not in: %s", word, e.msg);
}

Test(qcow2_header, backing_files_that_cannot_be)
{
	make_on("a", "base", NULL);
	refused("a", EINVAL, "does not state its format");
	make_on("a", "base", "vmdk");
	refused("a", ENOTSUP, "vmdk");
	make_on("a", "base", "raw");
	refused("a", ENOENT, "base");
	make_on("a", "json:{}", "raw");
	refused("a", ENOTSUP, "no file");
	make_on("a", "nbd://host/disk", "raw");
	refused("a", ENOTSUP, "no file");
	make_on("a", "/dev/null", "raw");
	refused("a", EINVAL, "character device");
	make_on("a", ".", "raw");
	refused("a", EINVAL, "directory");
	cr_assert_eq(mkfifo(qrig_path("fifo"), 0600), 0);
	make_on("a", "fifo", "raw");
	refused("a", EINVAL, "fifo");
	qrig_write_file(qrig_path("base"), "no qcow2", 8);
	make_on("a", "base", "qcow2");
	refused("a", EINVAL, "base is no qcow2 image");
}

Test(qcow2_header, backing_off)
{
	const struct qcow2_options options = { .no_backing = true };
	struct qcow2 *q = NULL;
	struct error e;

	qrig_write_file(qrig_path("base"), "bytes", 5);
	make_on("a", "base", "raw");
	cr_assert_eq(qcow2_open(&q, qrig_path("a"), &options, &e), -EINVAL);
	cr_assert(strstr(e.msg, "backing=off"));
}

Test(qcow2_header, loops)
{
	make_on("a", "a", "qcow2");
	refused("a", ELOOP, "itself");
	make_on("a", "a", "raw");
	refused("a", ELOOP, "itself");
	make_on("a", "b", "qcow2");
	make_on("b", "c", "qcow2");
	make_on("c", "a", "qcow2");
	refused("a", ELOOP, "itself");
}

Test(qcow2_header, chains)
{
	char name[16], under[16];
	uint8_t buf[512];
	struct qcow2 *q;

	qrig_write_file(qrig_path("i0"), "bottom", 6);
	for (int i = 1; i < 40; i++) {
		snprintf(name, sizeof(name), "i%d", i);
		snprintf(under, sizeof(under), "i%d", i - 1);
		make_on(name, under, i == 1 ? "raw" : "qcow2");
	}
	q = qrig_open(qrig_path("i30"), &(struct qcow2_options){ 0 });
	cr_assert_eq(qrig_pread(q, 0, buf, 512), 0);
	cr_assert_eq(memcmp(buf, "bottom\0", 8), 0);
	/* Copies the rest of the cluster through all of them. */
	cr_assert_eq(qrig_pwrite(q, 512, buf, 512), 0);
	cr_assert_eq(qrig_pread(q, 0, buf, 512), 0);
	cr_assert_eq(memcmp(buf, "bottom\0", 8), 0);
	qcow2_close(q);
	qrig_check(qrig_path("i30"), true);
	refused("i39", ELOOP, "chain");
}

Test(qcow2_header, relative_to_the_image)
{
	struct qrig_image image = plain;
	uint8_t buf[512];
	struct qcow2 *q;

	cr_assert_eq(mkdir(qrig_path("sub"), 0700), 0);
	image.backing = "../base";
	image.backing_format = "raw";
	qrig_make(qrig_path("sub/image"), &image);
	qrig_write_file(qrig_path("base"), "here", 4);
	cr_assert_eq(chdir("/"), 0);
	q = qrig_open(qrig_path("sub/image"), &(struct qcow2_options){ 0 });
	cr_assert_eq(qrig_pread(q, 0, buf, 512), 0);
	cr_assert_eq(memcmp(buf, "here", 5), 0);
	qcow2_close(q);
}
