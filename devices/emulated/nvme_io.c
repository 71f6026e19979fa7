/*
 * I/O commands: Read, Write, Flush, Write Zeroes, Dataset Management. NVM Express Base 1.4 chapter
 * 6. In: a copy of a submission queue entry. Out: a request to the block backend whose iovecs are
 * the command's pages, or a status at once. sq->lock is held throughout.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/emulated/nvme.h"
#include "vmm/trace.h"

/* One discard for the backend, so that a reset never waits long. In bytes. */
#define MAX_DISCARD (1ull << 30)

uint16_t nvme_block_status(enum block_op op, int result)
{
	switch (result) {
	case 0:
		return NVME_SC_SUCCESS;
	case -ENOSPC:
	case -EFBIG:
		return NVME_SC_CAPACITY;
	case -EROFS:
		return NVME_SC_WRITE_PROTECTED | NVME_SC_DNR;
	case -ENOTSUP:
		return NVME_SC_INVALID_OPCODE | NVME_SC_DNR;
	default:
		return op == BLOCK_READ ? NVME_SC_READ_ERROR : NVME_SC_WRITE_FAULT;
	}
}

/* The request's last word; it may be used again. */
static void finish(struct nvme_request *r, uint16_t status)
{
	struct nvme_sq *sq = r->sq;

	if (status) {
		status = nvme_error_note(sq->n, sq->id, r->cid, status, r->nsid, r->slba);
		account_add(sq->n->dev.account, ACCOUNT_ERRORS, 1);
	}
	sq->in_flight--;
	r->next = sq->free;
	sq->free = r;
	account_end(sq->n->dev.account, r->taken);
	nvme_sq_complete(sq, r->cid, status);
}

/* Data that went its way, for the driver's log and for ours. */
static void moved(struct nvme_sq *sq, uint64_t *bytes, enum account_counter counter, uint64_t n)
{
	*bytes += n;
	account_add(sq->n->dev.account, counter, n);
}

static void done(struct block_request *block, int result)
{
	struct nvme_request *r = (struct nvme_request *)block; /* first member */
	struct nvme_counts *counts = &r->sq->counts;
	uint64_t length = result ? 0 : block->length;

	if (result)
		counts->media_errors++;
	if (block->op == BLOCK_READ) {
		counts->reads++;
		moved(r->sq, &counts->bytes_read, ACCOUNT_BYTES_IN, length);
	} else if (block->op == BLOCK_WRITE) {
		counts->writes++;
		moved(r->sq, &counts->bytes_written, ACCOUNT_BYTES_OUT, length);
	}
	finish(r, nvme_block_status(block->op, result));
}

static void submit(struct nvme_request *r)
{
	trace_detail(r->sq->n->dev.account, r->taken, block_op_name(r->block.op), r->block.offset,
		     r->block.length);
	block_queue_submit(r->sq->backend, &r->block);
}

static bool in_namespace(const struct nvme *n, uint64_t slba, uint64_t blocks)
{
	return slba <= n->blocks && blocks <= n->blocks - slba;
}

/* ---- commands: a status, or NVME_LATER ------------------------------------------------------- */

/* The range that Read, Write and Write Zeroes share: SLBA in dwords 10 and 11, NLB in 12. */
static uint16_t set_range(struct nvme_request *r, const struct nvme_command *c)
{
	const struct nvme *n = r->sq->n;
	uint64_t blocks = (c->cdw12 & 0xffff) + 1ull;

	r->slba = (uint64_t)c->cdw11 << 32 | c->cdw10;
	if (!in_namespace(n, r->slba, blocks))
		return NVME_SC_LBA_RANGE | NVME_SC_DNR;
	r->block.offset = r->slba << n->block_shift;
	r->block.length = blocks << n->block_shift;
	r->block.stable =
		(c->cdw12 & NVME_CDW12_FUA) || __atomic_load_n(&n->write_through, __ATOMIC_RELAXED);
	return NVME_SC_SUCCESS;
}

static uint16_t read_or_write(struct nvme_request *r, const struct nvme_command *c,
			      enum block_op op)
{
	uint16_t status = set_range(r, c);

	if (status)
		return status;
	if (r->block.length > NVME_MAX_TRANSFER)
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	status = nvme_prp_iov(r->sq->n->dev.host->memory, c->prp1, c->prp2,
			      (uint32_t)r->block.length, r->iov, NVME_MAX_IOV, &r->block.niov);
	if (status)
		return status | NVME_SC_DNR;
	r->block.op = op;
	r->block.iov = r->iov;
	submit(r);
	return NVME_LATER;
}

static uint16_t write_zeroes(struct nvme_request *r, const struct nvme_command *c)
{
	uint16_t status = set_range(r, c);

	if (status)
		return status;
	r->block.op = BLOCK_WRITE_ZEROES;
	r->block.unmap = c->cdw12 & NVME_CDW12_DEAC;
	submit(r);
	return NVME_LATER;
}

static uint16_t flush(struct nvme_request *r)
{
	r->block.op = BLOCK_FLUSH;
	submit(r);
	return NVME_LATER;
}

/* Reads the range that follows, once; 0 or a status. */
static uint16_t next_range(struct nvme_request *r)
{
	struct nvme_dsm_range range = { 0 };
	size_t at = r->range++ * sizeof(range);
	uint8_t *p = (uint8_t *)&range;

	for (size_t i = 0; i < sizeof(range); i++, at++) {
		const struct iovec *iov = &r->iov[at >= r->iov[0].iov_len];

		p[i] = ((const uint8_t *)iov->iov_base)[iov == r->iov ? at : at - r->iov->iov_len];
	}
	if (!in_namespace(r->sq->n, range.slba, range.blocks))
		return NVME_SC_LBA_RANGE | NVME_SC_DNR;
	r->slba = range.slba;
	r->at = range.slba << r->sq->n->block_shift;
	r->rest = (uint64_t)range.blocks << r->sq->n->block_shift;
	return NVME_SC_SUCCESS;
}

/* The next piece of a Dataset Management command; its status at the end. */
static uint16_t trim_more(struct nvme_request *r)
{
	while (r->rest == 0) {
		uint16_t status = r->range == r->ranges ? NVME_SC_SUCCESS : next_range(r);

		if (status || (r->rest == 0 && r->range == r->ranges))
			return status;
	}
	r->block.offset = r->at;
	r->block.length = r->rest < MAX_DISCARD ? r->rest : MAX_DISCARD;
	r->at += r->block.length;
	r->rest -= r->block.length;
	submit(r);
	return NVME_LATER;
}

static void trimmed(struct block_request *block, int result)
{
	struct nvme_request *r = (struct nvme_request *)block; /* first member */
	uint16_t status = nvme_block_status(block->op, result);

	/*
	 * At a reset nobody waits for the rest. Who else drains the queue may not wait for it
	 * either, it can be hours; and it is a hint.
	 */
	if (!status && r->sq->stopping)
		status = NVME_SC_ABORT_REQUESTED;
	else if (!status && !r->sq->held)
		status = trim_more(r);
	if (status != NVME_LATER)
		finish(r, status);
}

static uint16_t manage(struct nvme_request *r, const struct nvme_command *c)
{
	const struct nvme *n = r->sq->n;
	uint16_t status;
	int niov;

	r->ranges = (uint16_t)((c->cdw10 & 0xff) + 1);
	status =
		nvme_prp_iov(n->dev.host->memory, c->prp1, c->prp2,
			     r->ranges * (uint32_t)sizeof(struct nvme_dsm_range), r->iov, 2, &niov);
	if (status)
		return status | NVME_SC_DNR;
	/* Everything but deallocation is a hint, and so is deallocation. */
	if (!(c->cdw11 & NVME_DSM_AD) || !block_info(n->block)->can_discard)
		return block_info(n->block)->read_only && (c->cdw11 & NVME_DSM_AD)
			       ? NVME_SC_WRITE_PROTECTED | NVME_SC_DNR
			       : NVME_SC_SUCCESS;
	r->block.op = BLOCK_DISCARD;
	r->block.done = trimmed;
	return trim_more(r);
}

/* ---- dispatch -------------------------------------------------------------------------------- */

static uint16_t check(const struct nvme_sq *sq, const struct nvme_command *c)
{
	if (c->flags & (NVME_FLAGS_FUSE | NVME_FLAGS_PSDT))
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	if (c->nsid != 1 && !(c->nsid == NVME_NSID_ALL && c->opcode == NVME_FLUSH))
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	return sq->held & NVME_HOLD_FORMAT ? NVME_SC_FORMAT_IN_PROGRESS : NVME_SC_SUCCESS;
}

static uint16_t execute(struct nvme_request *r, const struct nvme_command *c)
{
	switch (c->opcode) {
	case NVME_READ:
		return read_or_write(r, c, BLOCK_READ);
	case NVME_WRITE:
		return read_or_write(r, c, BLOCK_WRITE);
	case NVME_FLUSH:
		return flush(r);
	case NVME_WRITE_ZEROES:
		return write_zeroes(r, c);
	case NVME_DSM:
		return manage(r, c);
	default:
		return NVME_SC_INVALID_OPCODE | NVME_SC_DNR;
	}
}

void nvme_io_start(struct nvme_sq *sq, const struct nvme_command *c)
{
	struct nvme_request *r = sq->free;
	uint16_t status;

	sq->free = r->next;
	r->block = (struct block_request){ .done = done };
	r->sq = sq;
	r->taken = account_begin(sq->n->dev.account, 1, ++sq->in_flight);
	r->cid = c->cid;
	r->nsid = c->nsid;
	r->slba = 0;
	r->range = r->ranges = 0;
	r->rest = r->at = 0;
	status = check(sq, c);
	if (!status)
		status = execute(r, c);
	if (status != NVME_LATER)
		finish(r, status);
}
