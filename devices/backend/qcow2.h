/*
 * qcow2 images, versions 2 and 3, read and written (QEMU's docs/interop/qcow2.txt). Synchronous and
 * thread-safe: an engine calls from as many threads as it likes, and requests on different clusters
 * run in parallel. An image is untrusted input: what its tables say is checked when it is used, and
 * a damaged place fails with -EIO while the rest goes on working.
 *
 * Metadata is written back by qcow2_flush() and qcow2_close(), in an order that leaves the image
 * consistent wherever it is interrupted: data and reference counts first, then what refers to them.
 * An interruption can at worst lose space (clusters counted but not referred to).
 */
#ifndef DEVICES_BACKEND_QCOW2_H
#define DEVICES_BACKEND_QCOW2_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backend/block.h"
#include "devices/backend/block_extent.h"

struct qcow2;

struct qcow2_options {
	bool read_only;
	bool no_backing; /* refuse an image that has a backing file */
	enum block_cache cache;
};

/*
 * Opens and locks the image and its chain of backing files. -EINVAL for what is no qcow2 image or a
 * broken one, -ENOTSUP for features we do not have, -EBUSY if it is in use, -ELOOP for a chain that
 * is too long or in itself.
 */
int qcow2_open(struct qcow2 **out, const char *path, const struct qcow2_options *options,
	       struct error *e);
/* Writes everything back first; 0, or -errno if that failed. The image is closed anyway. */
int qcow2_close(struct qcow2 *image);

uint64_t qcow2_size(const struct qcow2 *image); /* bytes; not always whole sectors */
uint32_t qcow2_cluster_size(const struct qcow2 *image);

/*
 * 0 or -errno. Ranges lie within the image's size; iovecs are as long as the range. Nothing is
 * promised about the bytes of a write that fails, except that those around it stay.
 */
int qcow2_read(struct qcow2 *image, uint64_t offset, const struct iovec *iov, int niov);
int qcow2_write(struct qcow2 *image, uint64_t offset, const struct iovec *iov, int niov);
/* Deallocates whole clusters; a hint. They read as zeroes, or, where that costs space, as before.
 */
int qcow2_discard(struct qcow2 *image, uint64_t offset, uint64_t length);
int qcow2_write_zeroes(struct qcow2 *image, uint64_t offset, uint64_t length, bool unmap);
/* What was complete before is on stable storage after. */
int qcow2_flush(struct qcow2 *image);

/*
 * For engines that transfer data themselves: a range of the disk that lies in one piece in the file
 * and needs no metadata change. Between qcow2_map() and qcow2_unmap() it stays there.
 */
/* False: it is not so, or finding out would take time. Never waits for a disk. */
bool qcow2_map(struct qcow2 *image, bool write, uint64_t offset, uint64_t length,
	       struct block_extent *extent);
void qcow2_unmap(struct qcow2 *image, struct block_extent *extent);
/* System calls on it and on its backing files count there. Before any request. */
void qcow2_account(struct qcow2 *image, struct account *account);
/* The file that extents are in. */
struct block_file *qcow2_file(struct qcow2 *image);

#endif
