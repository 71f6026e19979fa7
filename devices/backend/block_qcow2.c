/*
 * qcow2 images as a block format: the requests of block.h become calls of qcow2.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/block_internal.h"
#include "devices/backend/qcow2.h"
#include "vmm/log.h"

struct qcow2_block {
	struct block block;
	struct qcow2 *image;
};

static struct qcow2 *image_of(struct block *b)
{
	return ((struct qcow2_block *)b)->image; /* first member */
}

/* What is in one piece in the file, if the kernel need not wait for the disk either. */
static int now_or_never(struct block *b, const struct block_request *r)
{
	struct block_file *f = qcow2_file(image_of(b));
	bool write = r->op == BLOCK_WRITE;
	struct block_extent x;
	int err;

	if (!qcow2_map(image_of(b), write, r->offset, r->length, &x))
		return -EAGAIN;
	err = write ? block_file_writev(f, r->iov, r->niov, x.offset, RWF_NOWAIT)
		    : block_file_readv(f, r->iov, r->niov, x.offset, RWF_NOWAIT);
	qcow2_unmap(image_of(b), &x);
	return err;
}

static int read(struct block *b, const struct block_request *r, unsigned flags)
{
	return flags & BLOCK_NOWAIT ? now_or_never(b, r)
				    : qcow2_read(image_of(b), r->offset, r->iov, r->niov);
}

static int write(struct block *b, const struct block_request *r, unsigned flags)
{
	int err;

	if (flags & BLOCK_NOWAIT)
		return r->stable ? -EAGAIN : now_or_never(b, r);
	err = qcow2_write(image_of(b), r->offset, r->iov, r->niov);
	return err || !r->stable ? err : qcow2_flush(image_of(b));
}

static int flush(struct block *b)
{
	return b->file->unsafe ? 0 : qcow2_flush(image_of(b));
}

static int discard(struct block *b, const struct block_request *r)
{
	return qcow2_discard(image_of(b), r->offset, r->length);
}

static int write_zeroes(struct block *b, const struct block_request *r)
{
	return qcow2_write_zeroes(image_of(b), r->offset, r->length, r->unmap);
}

static void account(struct block *b, struct account *a)
{
	qcow2_account(image_of(b), a);
}

static bool map(struct block *b, const struct block_request *r, struct block_extent *x)
{
	return !r->stable && qcow2_map(image_of(b), r->op == BLOCK_WRITE, r->offset, r->length, x);
}

static void unmap(struct block *b, struct block_extent *x)
{
	qcow2_unmap(image_of(b), x);
}

static void close_image(struct block *b)
{
	if (image_of(b)) {
		int err = qcow2_close(image_of(b));

		if (err)
			log_error("a qcow2 image could not be closed properly: %s", strerror(-err));
	}
	free(b);
}

static const struct block_format_ops ops = {
	.read = read,
	.write = write,
	.flush = flush,
	.discard = discard,
	.write_zeroes = write_zeroes,
	.close = close_image,
	.account = account,
	.map = map,
	.unmap = unmap,
};

int block_qcow2_open(struct block **out, const struct block_config *config, struct error *e)
{
	const struct qcow2_options options = { .read_only = config->read_only,
					       .no_backing = config->no_backing,
					       .cache = config->cache };
	struct qcow2_block *q = calloc(1, sizeof(*q));
	struct block_info *info;
	int err;

	if (!q)
		return error_set(e, -ENOMEM, "out of memory");
	q->block.ops = &ops;
	err = qcow2_open(&q->image, config->path, &options, e);
	if (!err && qcow2_size(q->image) < BLOCK_SECTOR)
		err = error_set(e, -EINVAL, "%s is empty; a disk has at least one sector",
				config->path);
	if (err) {
		close_image(&q->block);
		return err;
	}
	info = &q->block.info;
	info->size = qcow2_size(q->image) / BLOCK_SECTOR * BLOCK_SECTOR;
	info->logical_block = BLOCK_SECTOR;
	info->physical_block = 4096;
	info->read_only = config->read_only;
	info->can_discard = info->can_write_zeroes = !config->read_only;
	q->block.file = qcow2_file(q->image);
	q->block.in_memory = q->block.file->in_memory;
	*out = &q->block;
	return 0;
}
