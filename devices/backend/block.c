/*
 * What all formats and engines of block backends have in common: opening, the checks of a request,
 * the order of submitting, starting and completing. See block.h.
 */
#include <errno.h>

#include "devices/backend/block_internal.h"

int block_open(struct block **out, const struct block_config *config, struct error *e)
{
	switch (config->format) {
	case BLOCK_RAW:
		return block_raw_open(out, config, e);
	case BLOCK_QCOW2:
		break;
	}
	return error_set(e, -ENOTSUP, "%s: only raw images can be opened yet", config->path);
}

void block_close(struct block *block)
{
	if (block)
		block->ops->close(block);
}

const struct block_info *block_info(const struct block *block)
{
	return &block->info;
}

int block_perform(struct block *b, const struct block_request *r, unsigned flags)
{
	int err;

	switch (r->op) {
	case BLOCK_READ:
		return b->ops->read(b, r, flags);
	case BLOCK_WRITE:
		return b->ops->write(b, r, flags);
	case BLOCK_FLUSH:
		return b->ops->flush(b);
	case BLOCK_DISCARD:
		return b->ops->discard(b, r);
	case BLOCK_WRITE_ZEROES:
		err = b->ops->write_zeroes(b, r);
		return err || !r->stable ? err : b->ops->flush(b);
	}
	return -EINVAL;
}

/* ---- queues ---------------------------------------------------------------------------------- */

int block_queue_create(struct block_queue **out, struct block *block,
		       const struct block_queue_config *config, struct error *e)
{
	struct block_queue *q;
	int err = block_threads_create(&q, block, config, e);

	if (!err)
		*out = q;
	return err;
}

void block_queue_destroy(struct block_queue *q)
{
	if (q)
		q->ops->destroy(q);
}

/* 0, or why the request cannot be. Overflow-safe: the guest chose offset and length. */
static int check(const struct block *b, const struct block_request *r)
{
	const struct block_info *info = &b->info;

	if (r->op == BLOCK_FLUSH)
		return 0;
	if (r->op != BLOCK_READ && info->read_only)
		return -EROFS;
	if ((r->op == BLOCK_DISCARD && !info->can_discard) ||
	    (r->op == BLOCK_WRITE_ZEROES && !info->can_write_zeroes))
		return -ENOTSUP;
	if (r->offset > info->size || r->length > info->size - r->offset)
		return -EINVAL;
	return (r->offset | r->length) & (info->logical_block - 1) ? -EINVAL : 0;
}

void block_queue_submit(struct block_queue *q, struct block_request *request)
{
	int err = check(q->block, request);

	if (err || (request->op != BLOCK_FLUSH && request->length == 0))
		block_finish(q, request, err);
	else
		block_list_add(&q->pending, request);
}

void block_deliver(struct block_queue *q)
{
	struct block_request *r;

	if (q->delivering || !q->finished.head)
		return;
	q->delivering = true;
	while ((r = block_list_take(&q->finished)))
		r->done(r, r->result);
	q->delivering = false;
	if (q->config.completed)
		q->config.completed(q->config.opaque);
}

void block_queue_kick(struct block_queue *q)
{
	do {
		q->ops->kick(q);
		block_deliver(q);
	} while (q->pending.head && !q->delivering); /* done() may have submitted */
}

void block_queue_drain(struct block_queue *q)
{
	block_queue_kick(q);
	while (q->in_flight) {
		q->ops->wait(q);
		block_deliver(q);
		if (q->pending.head)
			block_queue_kick(q);
	}
}
