/*
 * DATA SET MANAGEMENT with the TRIM bit: a list of ranges that come by DMA and are discarded one
 * after another. ATA8-ACS-2 section 7.5. Offered where the backend can discard.
 */
#include <string.h>

#include "devices/emulated/ide.h"
#include "vmm/trace.h"

#define TRIM 0x01u /* of the Features register */

void ide_trim(struct ide_drive *d)
{
	uint32_t blocks = d->file.count[0] | (uint32_t)d->file.count[1] << 8;

	if (!block_info(d->block)->can_discard || d->file.feature[0] != TRIM || blocks == 0 ||
	    blocks > IDE_TRIM_BLOCKS) {
		ide_abort_command(d);
		return;
	}
	d->left = blocks;
	d->filled = d->pos = 0;
	d->phase = IDE_DMA;
	d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
	ide_dma_continue(d->ch);
}

static void discarded(struct block_request *request, int result);

/* Entries of no sectors are padding. */
static void next(struct ide_drive *d)
{
	while (d->trim < d->trims) {
		uint64_t entry, at, n;

		memcpy(&entry, d->buffer + 8ul * d->trim++, sizeof(entry));
		at = entry & 0xffffffffffff;
		n = entry >> 48;
		if (n == 0)
			continue;
		if (at > d->sectors || n > d->sectors - at) {
			ide_fail(d, ATA_IDNF, 0);
			return;
		}
		d->request = (struct block_request){
			.op = BLOCK_DISCARD,
			.offset = at * BLOCK_SECTOR,
			.length = n * BLOCK_SECTOR,
			.done = discarded,
		};
		d->in_flight = true;
		trace_detail(d->account, d->taken, block_op_name(BLOCK_DISCARD), d->request.offset,
			     d->request.length);
		block_queue_submit(d->backend, &d->request);
		block_queue_kick(d->backend);
		return;
	}
	ide_done(d);
}

static void discarded(struct block_request *request, int result)
{
	struct ide_drive *d =
		(struct ide_drive *)((char *)request - offsetof(struct ide_drive, request));

	d->in_flight = false;
	if (d->abort)
		return;
	if (result)
		ide_fail(d, ATA_ABRT, ATA_DF);
	else
		next(d);
}

void ide_trim_start(struct ide_drive *d)
{
	d->phase = IDE_BUSY;
	d->status = ATA_BSY | ATA_DRDY;
	d->trim = 0;
	d->trims = d->filled / 8;
	next(d);
}
