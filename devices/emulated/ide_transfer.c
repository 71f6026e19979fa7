/*
 * Data between driver and backend: sectors through the buffer and the data port (PIO), or straight
 * between guest memory and the backend (DMA), in pieces, so that stopping never waits long.
 * ATA/ATAPI-7 volume 1, chapter 6 (addresses, counts) and volume 2, chapter 9 (protocols).
 */
#include <errno.h>
#include <string.h>

#include "devices/emulated/ide.h"
#include "vmm/trace.h"

static void busy(struct ide_drive *d)
{
	d->phase = IDE_BUSY;
	d->status = ATA_BSY | ATA_DRDY;
}

/* ---- the backend ----------------------------------------------------------------------------- */

static bool is_stable(const struct ide_drive *d)
{
	return !d->write_cache || d->command->fua;
}

static void submit(struct ide_drive *d, enum block_op op, uint64_t length, int niov,
		   void (*done)(struct block_request *, int))
{
	d->request = (struct block_request){
		.op = op,
		.offset = d->at * BLOCK_SECTOR,
		.length = length,
		.stable = op == BLOCK_WRITE && is_stable(d),
		.iov = d->iov,
		.niov = niov,
		.done = done,
	};
	d->in_flight = true;
	trace_detail(d->account, d->taken, block_op_name(op), d->request.offset, length);
	block_queue_submit(d->backend, &d->request);
	block_queue_kick(d->backend);
}

static void submit_buffer(struct ide_drive *d, enum block_op op, unsigned length,
			  void (*done)(struct block_request *, int))
{
	d->iov[0] = (struct iovec){ d->buffer, length };
	submit(d, op, length, 1, done);
}

static struct ide_drive *drive_of(struct block_request *request)
{
	return (struct ide_drive *)((char *)request - offsetof(struct ide_drive, request));
}

/* Where a transfer has failed: the first sector that is not known to be good. */
static void show_address(struct ide_drive *d)
{
	bool ext = d->command->ext;

	for (unsigned i = 0; i < 3; i++) {
		d->file.lba[i][0] = (uint8_t)(d->at >> 8 * i);
		d->file.lba[i][1] = ext ? (uint8_t)(d->at >> (24 + 8 * i)) : 0;
	}
	if (!ext)
		d->file.device = (uint8_t)((d->file.device & 0xf0) | (d->at >> 24 & 0xf));
}

/* True: go on. */
static bool completed(struct ide_drive *d, int result)
{
	d->in_flight = false;
	if (d->abort)
		return false;
	if (result == 0)
		return true;
	show_address(d);
	if (result == -EROFS || result == -EINVAL || result == -ENOTSUP)
		ide_abort_command(d);
	else if (d->request.op == BLOCK_READ)
		ide_fail(d, ATA_UNC, 0);
	else
		ide_fail(d, ATA_ABRT, ATA_DF);
	return false;
}

static void advance(struct ide_drive *d)
{
	uint32_t sectors = (uint32_t)(d->request.length / BLOCK_SECTOR);

	d->at += sectors;
	d->left -= sectors;
}

/* ---- the data port --------------------------------------------------------------------------- */

static void load(struct ide_drive *d);

/* A DRQ block goes word by word through the buffer. */
static void through_port(struct ide_drive *d, enum account_counter way, unsigned len)
{
	account_add(d->account, way, len);
	account_add(d->account, ACCOUNT_COPIED, len);
}

/* The next DRQ block of what is in the buffer. */
static void offer(struct ide_drive *d)
{
	d->end = d->pos + d->block_size < d->filled ? d->pos + d->block_size : d->filled;
	d->phase = IDE_PIO_IN;
	d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
	through_port(d, ACCOUNT_BYTES_IN, d->end - d->pos);
	ide_interrupt(d);
}

void ide_give(struct ide_drive *d, unsigned len)
{
	d->left = 0;
	d->pos = 0;
	d->filled = d->block_size = len;
	offer(d);
}

static void loaded(struct block_request *request, int result)
{
	struct ide_drive *d = drive_of(request);

	if (!completed(d, result))
		return;
	advance(d);
	d->filled = (unsigned)request->length;
	d->pos = 0;
	offer(d);
}

static unsigned buffer_full(const struct ide_drive *d)
{
	return d->left < IDE_BUFFER / BLOCK_SECTOR ? d->left * BLOCK_SECTOR : IDE_BUFFER;
}

static void load(struct ide_drive *d)
{
	busy(d);
	submit_buffer(d, BLOCK_READ, buffer_full(d), loaded);
}

/* Asks for the next DRQ block. The first one comes without an interrupt. */
static void want(struct ide_drive *d, bool first)
{
	uint32_t rest = d->left < IDE_MULTIPLE ? d->left * BLOCK_SECTOR : d->block_size;

	d->pos = 0;
	d->end = rest < d->block_size ? rest : d->block_size;
	d->phase = IDE_PIO_OUT;
	d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
	if (!first)
		ide_interrupt(d);
}

static void stored(struct block_request *request, int result)
{
	struct ide_drive *d = drive_of(request);

	if (!completed(d, result))
		return;
	advance(d);
	if (d->left)
		want(d, false);
	else
		ide_done(d);
}

uint32_t ide_data_read(struct ide_drive *d, unsigned size)
{
	uint32_t value = 0;

	if (d->phase != IDE_PIO_IN)
		return 0xffffffff >> (32 - 8 * size);
	size = size < d->end - d->pos ? size : d->end - d->pos;
	memcpy(&value, d->buffer + d->pos, size);
	d->pos += size;
	if (d->pos < d->end)
		return value;
	if (d->end < d->filled) {
		offer(d);
	} else if (d->left) {
		load(d);
	} else {
		d->phase = IDE_IDLE; /* the last block ends without an interrupt */
		d->status = ATA_DRDY | ATA_DSC;
		ide_ended(d);
	}
	return value;
}

void ide_data_write(struct ide_drive *d, unsigned size, uint32_t value)
{
	if (d->phase != IDE_PIO_OUT)
		return;
	size = size < d->end - d->pos ? size : d->end - d->pos;
	memcpy(d->buffer + d->pos, &value, size);
	d->pos += size;
	if (d->pos < d->end)
		return;
	through_port(d, ACCOUNT_BYTES_OUT, d->end);
	busy(d);
	submit_buffer(d, BLOCK_WRITE, d->end, stored);
}

/* ---- DMA ------------------------------------------------------------------------------------- */

static void moved(struct block_request *request, int result)
{
	struct ide_drive *d = drive_of(request);

	if (!completed(d, result)) {
		if (!d->abort)
			ide_bm_finished(d->ch);
		return;
	}
	account_add(d->account, request->op == BLOCK_READ ? ACCOUNT_BYTES_IN : ACCOUNT_BYTES_OUT,
		    request->length);
	advance(d);
	if (d->left) {
		ide_dma_continue(d->ch);
		return;
	}
	ide_bm_finished(d->ch);
	ide_done(d);
}

/* A command's parameters, by DMA into the buffer. */
static void collect(struct ide_drive *d, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		memcpy(d->buffer + d->filled, d->iov[i].iov_base, d->iov[i].iov_len);
		d->filled += (unsigned)d->iov[i].iov_len;
	}
	account_add(d->account, ACCOUNT_BYTES_OUT, d->filled - d->pos);
	account_add(d->account, ACCOUNT_COPIED, d->filled - d->pos);
	d->left -= (d->filled - d->pos) / BLOCK_SECTOR;
	d->pos = d->filled;
	if (d->left)
		return;
	ide_bm_finished(d->ch);
	ide_trim_start(d);
}

void ide_dma_continue(struct ide_channel *ch)
{
	struct ide_drive *d = &ch->drive[ch->selected];
	bool in = d->command && d->command->kind == IDE_IN;
	uint64_t max;
	uint32_t len;
	unsigned n;

	while (d->phase == IDE_DMA && !d->in_flight && ide_bm_ready(ch, in)) {
		max = (uint64_t)d->left * BLOCK_SECTOR;
		len = ide_bm_take(ch, max < IDE_PIECE ? (uint32_t)max : IDE_PIECE, d->iov, IDE_IOV,
				  &n);
		if (!len)
			return; /* the bus master's status says why; the drive goes on waiting */
		if (d->command->kind != IDE_NONE) {
			submit(d, in ? BLOCK_READ : BLOCK_WRITE, len, (int)n, moved);
			return;
		}
		collect(d, n);
	}
}

/* ---- beginning ------------------------------------------------------------------------------- */

static uint64_t address(const struct ide_drive *d, bool *good)
{
	const struct ide_file *f = &d->file;
	uint64_t low = f->lba[0][0] | f->lba[1][0] << 8 | f->lba[2][0] << 16;

	*good = true;
	if (d->command->ext)
		return low | (uint64_t)(f->lba[0][1] | f->lba[1][1] << 8) << 24 |
		       (uint64_t)f->lba[2][1] << 40;
	if (f->device & ATA_LBA)
		return low | (uint64_t)(f->device & 0xf) << 24;
	*good = f->lba[0][0] != 0 && f->lba[0][0] <= d->track && (f->device & 0xfu) < d->heads;
	return ((uint64_t)(f->lba[2][0] << 8 | f->lba[1][0]) * d->heads + (f->device & 0xf)) *
		       d->track +
	       f->lba[0][0] - 1;
}

static uint32_t count(const struct ide_drive *d)
{
	uint32_t n = d->file.count[0];

	if (!d->command->ext)
		return n ? n : 256;
	n |= (uint32_t)d->file.count[1] << 8;
	return n ? n : 65536;
}

static void verified(struct block_request *request, int result)
{
	struct ide_drive *d = drive_of(request);

	if (!completed(d, result))
		return;
	advance(d);
	if (d->left)
		submit_buffer(d, BLOCK_READ, buffer_full(d), verified);
	else
		ide_done(d);
}

void ide_transfer(struct ide_drive *d)
{
	const struct ide_command *c = d->command;
	bool good;

	d->at = address(d, &good);
	d->left = count(d);
	if (c->multiple && !d->multiple) {
		ide_abort_command(d);
		return;
	}
	if (!good || d->at > d->sectors || d->left > d->sectors - d->at) {
		ide_fail(d, ATA_IDNF, 0);
		return;
	}
	d->block_size = BLOCK_SECTOR * (c->multiple ? d->multiple : 1);
	if (c->kind == IDE_VERIFY) {
		busy(d);
		submit_buffer(d, BLOCK_READ, buffer_full(d), verified);
	} else if (c->dma) {
		d->phase = IDE_DMA;
		d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
		ide_dma_continue(d->ch);
	} else if (c->kind == IDE_IN) {
		load(d);
	} else {
		want(d, true);
	}
}

static void flushed(struct block_request *request, int result)
{
	struct ide_drive *d = drive_of(request);

	if (completed(d, result))
		ide_done(d);
}

void ide_flush(struct ide_drive *d)
{
	busy(d);
	submit(d, BLOCK_FLUSH, 0, 0, flushed);
}

/* ---- ending ---------------------------------------------------------------------------------- */

void ide_cancel(struct ide_drive *d)
{
	if (d->backend) {
		d->abort = true;
		block_queue_drain(d->backend);
		d->abort = false;
	}
	d->phase = IDE_IDLE;
	d->left = 0;
	d->taken = 0; /* nobody waits for it */
}

void ide_settle(struct ide_channel *ch)
{
	for (unsigned i = 0; i < IDE_DRIVES; i++)
		if (ch->drive[i].backend)
			block_queue_drain(ch->drive[i].backend);
}
