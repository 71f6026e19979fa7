/*
 * qcow2 images, read and written at random and compared with an array of bytes; at the end QEMU's
 * own tool says whether the image is sound and equal.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/qcow2_rig.h"

TestSuite(qcow2, .init = qrig_begin, .fini = qrig_end, .timeout = 120);

#define STEPS qrig_times(6000) /* and a third of it for each shape of a long list */

enum under { UNDER_NOTHING, UNDER_RAW, UNDER_QCOW2, UNDER_COUNT };
enum begin { BEGIN_EMPTY, BEGIN_COMPRESSED, BEGIN_SNAPSHOT, BEGIN_COUNT };

static uint64_t size_for(unsigned bits)
{
	uint64_t cluster = 1ull << bits;
	uint64_t size = cluster * 20 > 3u << 20 ? cluster * 20 : 3u << 20;

	return size - cluster + 512 * 3; /* the last cluster is cut short */
}

static void make_under(enum under under, struct qrig_disk *d, struct qrig_random *r)
{
	uint64_t len = d->size / 2 / 512 * 512 + 512;

	memset(d->bytes, 0, d->size);
	if (under == UNDER_NOTHING)
		return;
	qrig_fill(r, d->bytes, len);
	if (under == UNDER_RAW)
		len -= 100; /* ragged */
	memset(d->bytes + len, 0, d->size - len);
	qrig_write_file(qrig_path("base.raw"), d->bytes, len);
	if (under == UNDER_QCOW2) {
		cr_assert_eq(qrig_run("qemu-img convert -f raw -O qcow2 base.raw base.qcow2"), 0);
		cr_assert_eq(
			qrig_run("qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 mid.qcow2"),
			0);
		memset(d->bytes + 12345, 0x77, 70000);
		cr_assert_eq(
			qrig_run("qemu-io -f qcow2 -c 'write -q -P 0x77 12345 70000' mid.qcow2"),
			0);
	}
}

static void make_image(unsigned version, unsigned bits, enum under under, const char *more,
		       struct qrig_disk *d)
{
	static const char *const backing[] = { "", "-F raw -b base.raw", "-F qcow2 -b mid.qcow2" };

	cr_assert_eq(qrig_run("qemu-img create -q -f qcow2 -o compat=%s,cluster_size=%u%s %s image "
			      "%llu",
			      version == 2 ? "0.10" : "1.1", 1u << bits, more, backing[under],
			      (unsigned long long)d->size),
		     0);
}

static void compress(unsigned version, unsigned bits, enum under under, struct qrig_disk *d,
		     struct qrig_random *r)
{
	/* Only every other piece, so that holes let the backing file through. */
	for (uint64_t at = 0; at + 40000 < d->size && under == UNDER_NOTHING; at += 90000)
		qrig_fill(r, d->bytes + at, 40000);
	qrig_write_file(qrig_path("full.raw"), d->bytes, d->size);
	cr_assert_eq(qrig_run("qemu-img convert -c -f raw -O qcow2 -o compat=%s,cluster_size=%u "
			      "full.raw image",
			      version == 2 ? "0.10" : "1.1", 1u << bits),
		     0);
}

static void run(unsigned version, unsigned bits, enum under under, enum begin begin,
		const char *more, enum block_cache cache, unsigned steps)
{
	struct qrig_disk d = { .path = qrig_path("image"),
			       .options = { .cache = cache },
			       .size = size_for(bits),
			       .random = { version * 1000 + bits * 10 + under * 3 + begin } };
	struct qrig_random r = { bits };
	uint8_t *before = malloc(d.size);

	d.bytes = malloc(d.size);
	d.max = (1ull << bits) * 3 < 100000 ? 100000 : (1ull << bits) * 3;
	make_under(under, &d, &r);
	if (begin == BEGIN_COMPRESSED)
		compress(version, bits, under, &d, &r);
	else
		make_image(version, bits, under, more, &d);
	if (begin == BEGIN_SNAPSHOT) {
		qrig_disk_open(&d);
		qrig_disk_steps(&d, 500);
		qrig_disk_close(&d);
		memcpy(before, d.bytes, d.size);
		cr_assert_eq(qrig_run("qemu-img snapshot -c before image"), 0);
	}
	qrig_disk_open(&d);
	qrig_disk_steps(&d, steps);
	qrig_disk_compare(&d);
	qrig_disk_close(&d);
	qrig_disk_judge(&d);
	cr_assert_gt(d.mapped, 10);
	if (begin == BEGIN_SNAPSHOT) {
		cr_assert_eq(qrig_run("qemu-img snapshot -a before image"), 0);
		memcpy(d.bytes, before, d.size);
		qrig_disk_judge(&d);
	}
	free(d.bytes);
	free(before);
}

struct shape {
	unsigned version, bits;
	enum under under;
	enum begin begin;
};

ParameterizedTestParameters(qcow2, random)
{
	static struct shape shapes[2 * 4 * UNDER_COUNT * BEGIN_COUNT];
	static const unsigned bits[] = { 9, 12, 16, 21 };
	size_t n = 0;

	for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct shape shape = { .version = 2 + i % 2,
				       .bits = bits[i / 2 % 4],
				       .under = (enum under)(i / 8 % UNDER_COUNT),
				       .begin = (enum begin)(i / 8 / UNDER_COUNT) };

		/* A compressed image is whole; version 2 differs little between cluster sizes. */
		if ((shape.begin == BEGIN_COMPRESSED && shape.under != UNDER_NOTHING) ||
		    (shape.version == 2 && shape.bits != 9 && shape.bits != 16))
			continue;
		shapes[n++] = shape;
	}
	return cr_make_param_array(struct shape, shapes, n);
}

ParameterizedTest(struct shape *s, qcow2, random)
{
	qrig_need_qemu_img();
	run(s->version, s->bits, s->under, s->begin, "", BLOCK_CACHE_WRITEBACK,
	    s->bits > 16 ? STEPS / 12 : STEPS / 3);
}

Test(qcow2, lazy_refcounts)
{
	qrig_need_qemu_img();
	run(3, 12, UNDER_RAW, BEGIN_EMPTY, ",lazy_refcounts=on", BLOCK_CACHE_WRITEBACK, STEPS);
}

Test(qcow2, lazy_refcounts_with_a_snapshot)
{
	qrig_need_qemu_img();
	run(3, 9, UNDER_NOTHING, BEGIN_SNAPSHOT, ",lazy_refcounts=on", BLOCK_CACHE_WRITEBACK,
	    STEPS);
}

Test(qcow2, direct)
{
	qrig_need_qemu_img();
	run(3, 16, UNDER_RAW, BEGIN_EMPTY, "", BLOCK_CACHE_DIRECT, STEPS);
}

Test(qcow2, unsafe)
{
	qrig_need_qemu_img();
	run(3, 12, UNDER_QCOW2, BEGIN_EMPTY, "", BLOCK_CACHE_UNSAFE, STEPS);
}

ParameterizedTestParameters(qcow2, refcount_widths)
{
	static unsigned orders[] = { 0, 1, 2, 3, 4, 5, 6 };

	return cr_make_param_array(unsigned, orders, 7);
}

ParameterizedTest(unsigned *order, qcow2, refcount_widths)
{
	char more[32];

	qrig_need_qemu_img();
	snprintf(more, sizeof(more), ",refcount_bits=%u", 1u << *order);
	run(3, 9, UNDER_NOTHING, BEGIN_EMPTY, more, BLOCK_CACHE_WRITEBACK, STEPS);
}

/* ---- without qemu-img ------------------------------------------------------------------------ */

ParameterizedTestParameters(qcow2, own_images)
{
	static struct qrig_image images[] = {
		{ .version = 2, .cluster_bits = 9, .size = 3u << 20 },
		{ .version = 2, .cluster_bits = 16, .size = (3u << 20) + 512 },
		{ .version = 3, .cluster_bits = 9, .refcount_order = 4, .size = 3u << 20 },
		{ .version = 3, .cluster_bits = 9, .refcount_order = 6, .size = 3u << 20 },
		{ .version = 3, .cluster_bits = 10, .refcount_order = 0, .size = 2u << 20 },
		{ .version = 3, .cluster_bits = 12, .refcount_order = 5, .size = 3u << 20 },
		{ .version = 3,
		  .cluster_bits = 16,
		  .refcount_order = 4,
		  .size = 3u << 20,
		  .compatible = 1 },
		{ .version = 3, .cluster_bits = 21, .refcount_order = 4, .size = 40u << 20 },
	};

	return cr_make_param_array(struct qrig_image, images, sizeof(images) / sizeof(images[0]));
}

ParameterizedTest(struct qrig_image *image, qcow2, own_images)
{
	struct qrig_disk d = { .path = qrig_path("own"),
			       .size = image->size,
			       .max = 200000,
			       .bytes = calloc(1, image->size),
			       .random = { image->cluster_bits } };

	qrig_make(d.path, image);
	qrig_disk_open(&d);
	qrig_disk_steps(&d, STEPS);
	qrig_disk_compare(&d);
	qrig_disk_close(&d);
	qrig_disk_judge(&d);
	free(d.bytes);
}
