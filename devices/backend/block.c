/*
 * What all formats and engines of block backends have in common: opening, the checks of a request,
 * the order of submitting, starting and completing. See block.h.
 */
#include <errno.h>

#include "devices/backend/block_internal.h"
#include "vmm/log.h"

int block_open(struct block **out, const struct block_config *config, struct error *e)
{
	struct block *block = NULL;
	int err = config->format == BLOCK_QCOW2 ? block_qcow2_open(&block, config, e)
						: block_raw_open(&block, config, e);

	if (err)
		return err;
	block->engine = config->engine;
	/* Who asks for an engine wants to see that one, and no short cut past it. */
	if (config->engine == BLOCK_ENGINE_IO_URING)
		block->in_memory = false;
	*out = block;
	return 0;
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

const char *block_op_name(enum block_op op)
{
	static const char *const names[] = {
		[BLOCK_READ] = "read",
		[BLOCK_WRITE] = "write",
		[BLOCK_FLUSH] = "flush",
		[BLOCK_DISCARD] = "discard",
		[BLOCK_WRITE_ZEROES] = "write zeroes",
	};

	return names[op];
}

/* ---- queues ---------------------------------------------------------------------------------- */

/* In memory, the kernel has nothing to wait for: a ring would only be a detour. */
static bool wants_ring(const struct block *block)
{
	return block->file && block->ops->map && !block->in_memory &&
	       block->engine != BLOCK_ENGINE_THREADS;
}

int block_queue_create(struct block_queue **out, struct block *block,
		       const struct block_queue_config *config, struct error *e)
{
	int err;

	if (config->account && block->ops->account)
		block->ops->account(block, config->account);
	if (!wants_ring(block))
		return block_threads_create(out, block, config, e);
	err = block_uring_create(out, block, config, e);
	if (!err || block->engine == BLOCK_ENGINE_IO_URING)
		return err;
	if (!block->said)
		log_info("%s: %s; disk requests are served by threads", config->name, e->msg);
	block->said = true;
	return block_threads_create(out, block, config, e);
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
