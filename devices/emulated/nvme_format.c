/*
 * Format NVM: the namespace reads as zeroes afterwards. NVM Express Base 1.4 section 5.23. There is
 * one LBA format, and the two erasures that a file can give (none and user data) are the same. It
 * is done piece by piece on the main loop's block queue; meanwhile I/O commands are answered with
 * Format In Progress, and a reset of the controller ends it where it is.
 */
#include "devices/emulated/nvme.h"

#define PIECE (64ull << 20) /* bytes: what a reset may have to wait for */

#define LBAF(cdw10)    ((cdw10)&0xf)
#define MSET_PI(cdw10) ((cdw10) >> 4 & 0xf)
#define SES(cdw10)     ((cdw10) >> 9 & 7)

static void end(struct nvme *n, uint16_t status)
{
	n->format.busy = false;
	nvme_hold(n, NVME_HOLD_FORMAT, false);
	nvme_admin_complete(n, n->format.cid, status, 0);
}

static void submit(struct nvme *n)
{
	struct nvme_format *f = &n->format;
	uint64_t left = block_info(n->block)->size - f->at;

	f->block.offset = f->at;
	f->block.length = left < PIECE ? left : PIECE;
	f->at += f->block.length;
	block_queue_submit(n->backend, &f->block);
}

static void piece_done(struct block_request *block, int result)
{
	struct nvme_format *f = (struct nvme_format *)block; /* first member */
	struct nvme *n = f->n;

	if (f->stop)
		return;
	if (result || f->at == block_info(n->block)->size)
		end(n, nvme_block_status(BLOCK_WRITE_ZEROES, result));
	else if (n->held & NVME_HOLD_PAUSE)
		f->waiting = true;
	else
		submit(n);
}

void nvme_format_go_on(struct nvme *n)
{
	if (!n->format.waiting)
		return;
	n->format.waiting = false;
	submit(n);
	block_queue_kick(n->backend);
}

uint16_t nvme_format(struct nvme *n, const struct nvme_command *c)
{
	struct nvme_format *f = &n->format;

	if (c->nsid != 1 && c->nsid != NVME_NSID_ALL)
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	if (LBAF(c->cdw10) || MSET_PI(c->cdw10))
		return NVME_SC_INVALID_FORMAT | NVME_SC_DNR;
	if (SES(c->cdw10) > 1)
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	if (block_info(n->block)->read_only)
		return NVME_SC_WRITE_PROTECTED | NVME_SC_DNR;
	if (f->busy)
		return NVME_SC_FORMAT_IN_PROGRESS;
	*f = (struct nvme_format){ .n = n, .busy = true, .cid = c->cid };
	f->block = (struct block_request){
		.op = BLOCK_WRITE_ZEROES,
		.unmap = true,
		.done = piece_done,
	};
	nvme_hold(n, NVME_HOLD_FORMAT, true);
	submit(n);
	block_queue_kick(n->backend);
	return NVME_LATER;
}
