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

void rig_begin(void); /* makes the directory; in memory if it can be */
void rig_end(void);   /* removes it */
/* NAME in the directory; valid until 16 calls later. */
const char *rig_path(const char *name);
void rig_write_file(const char *path, const void *bytes, size_t len);
uint8_t *rig_read_file(const char *path, size_t *len); /* to free */

/* Runs a shell command, with the directory as $D and in it; its exit status. */
int rig_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Skips the test, with the reason, if there is no qemu-img. */
void rig_need_qemu_img(void);
bool rig_has_qemu_img(void);
/* qemu-img check finds no errors; if leaks is true, lost clusters are none. */
void rig_check(const char *path, bool leaks);

/* ---- the tiny writer ------------------------------------------------------------------------- */

struct rig_image {
	unsigned version, cluster_bits, refcount_order;
	uint64_t size;
	uint64_t incompatible, compatible, autoclear;
	const char *backing, *backing_format;
};

/* An empty image. Header, refcount table, one refcount block and the L1 table, in that order. */
void rig_make(const char *path, const struct rig_image *image);

/* ---- random -------------------------------------------------------------------------------- */

struct rig_random {
	uint64_t state;
};

uint64_t rig_random(struct rig_random *r);
uint64_t rig_below(struct rig_random *r, uint64_t n);
void rig_fill(struct rig_random *r, uint8_t *bytes, size_t len); /* half of it compressible */

/* ---- the model ------------------------------------------------------------------------------- */

struct rig_disk {
	struct qcow2 *image;
	struct qcow2_options options;
	const char *path;
	uint64_t size;
	uint8_t *bytes; /* what it must hold */
	uint64_t max;	/* longest request */
	struct rig_random random;
	unsigned flushes, mapped;
};

void rig_disk_open(struct rig_disk *d); /* path, options, size and bytes are set */
void rig_disk_close(struct rig_disk *d);
void rig_disk_steps(struct rig_disk *d, unsigned n); /* random requests */
void rig_disk_compare(struct rig_disk *d);	     /* all of it */
/* qemu-img says that the image (closed) is sound and has the model's bytes. */
void rig_disk_judge(struct rig_disk *d);

struct qcow2 *rig_open(const char *path, const struct qcow2_options *options);
int rig_pread(struct qcow2 *q, uint64_t offset, void *buf, size_t len);
int rig_pwrite(struct qcow2 *q, uint64_t offset, const void *buf, size_t len);

#endif
