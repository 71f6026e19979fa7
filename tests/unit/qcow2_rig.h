/*
 * For the tests of qcow2 images: a directory that goes away, qemu-img as the judge, a tiny writer
 * of images of our own, and a disk in an array of bytes that an image must be equal to.
 */
#ifndef TESTS_UNIT_QCOW2_RIG_H
#define TESTS_UNIT_QCOW2_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backend/qcow2.h"

/* ---- files ----------------------------------------------------------------------------------- */

void qrig_begin(void); /* makes the directory; in memory if it can be */
void qrig_end(void);   /* removes it */
/* NAME in the directory; valid until 16 calls later. */
const char *qrig_path(const char *name);
void qrig_write_file(const char *path, const void *bytes, size_t len);
uint8_t *qrig_read_file(const char *path, size_t *len); /* to free */

/* Runs a shell command, with the directory as $D and in it; its exit status. */
int qrig_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Skips the test, with the reason, if there is no qemu-img. */
void qrig_need_qemu_img(void);
bool qrig_has_qemu_img(void);
/* qemu-img check finds no errors; if leaks is true, lost clusters are none. */
void qrig_check(const char *path, bool leaks);

/* How often a test with random steps goes on: n times, or $QCOW2_TIMES times that. A long run finds
 * what a short one does not, but is not for every commit. */
unsigned qrig_times(unsigned n);

/* ---- the tiny writer ------------------------------------------------------------------------- */

struct qrig_image {
	unsigned version, cluster_bits, refcount_order;
	uint64_t size;
	uint64_t incompatible, compatible, autoclear;
	const char *backing, *backing_format;
};

/* An empty image. Header, refcount table, one refcount block and the L1 table, in that order. */
void qrig_make(const char *path, const struct qrig_image *image);

/* ---- random -------------------------------------------------------------------------------- */

struct qrig_random {
	uint64_t state;
};

uint64_t qrig_random(struct qrig_random *r);
uint64_t qrig_below(struct qrig_random *r, uint64_t n);
void qrig_fill(struct qrig_random *r, uint8_t *bytes, size_t len); /* half of it compressible */

/* ---- the model ------------------------------------------------------------------------------- */

struct qrig_disk {
	struct qcow2 *image;
	struct qcow2_options options;
	const char *path;
	uint64_t size;
	uint8_t *bytes; /* what it must hold */
	uint64_t max;	/* longest request */
	struct qrig_random random;
	unsigned flushes, mapped;
};

void qrig_disk_open(struct qrig_disk *d); /* path, options, size and bytes are set */
void qrig_disk_close(struct qrig_disk *d);
void qrig_disk_steps(struct qrig_disk *d, unsigned n); /* random requests */
void qrig_disk_compare(struct qrig_disk *d);	       /* all of it */
/* qemu-img says that the image (closed) is sound and has the model's bytes. */
void qrig_disk_judge(struct qrig_disk *d);

struct qcow2 *qrig_open(const char *path, const struct qcow2_options *options);
int qrig_pread(struct qcow2 *q, uint64_t offset, void *buf, size_t len);
int qrig_pwrite(struct qcow2 *q, uint64_t offset, const void *buf, size_t len);

#endif
