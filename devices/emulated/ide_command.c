/*
 * Commands: the table of all that the disks know, and those that move no data. ATA/ATAPI-7 volume
 * 1, chapter 6. Everything else is aborted.
 */
#include "devices/emulated/ide.h"

/* ---- how a command ends ---------------------------------------------------------------------- */

void ide_ended(struct ide_drive *d)
{
	account_end(d->account, d->taken);
	d->taken = 0;
}

static void finish(struct ide_drive *d, uint8_t status, uint8_t error)
{
	if (status & ATA_ERR)
		account_add(d->account, ACCOUNT_ERRORS, 1);
	ide_ended(d);
	d->phase = IDE_IDLE;
	d->status = ATA_DRDY | ATA_DSC | status;
	d->error = error;
	ide_interrupt(d);
}

void ide_done(struct ide_drive *d)
{
	finish(d, 0, 0);
}

void ide_fail(struct ide_drive *d, uint8_t error, uint8_t status)
{
	finish(d, ATA_ERR | status, error);
}

void ide_abort_command(struct ide_drive *d)
{
	ide_fail(d, ATA_ABRT, 0);
}

/* ---- commands without data ------------------------------------------------------------------- */

void ide_diagnostic(struct ide_channel *ch)
{
	if (!ch->drive[0].block && !ch->drive[1].block)
		return;
	for (unsigned i = 0; i < IDE_DRIVES; i++)
		ide_signature(&ch->drive[i]);
	ide_select(ch, 0);
	if (ch->drive[0].block)
		ide_interrupt(&ch->drive[0]);
}

static void initialize_parameters(struct ide_drive *d)
{
	unsigned track = d->file.count[0];

	if (track == 0) {
		ide_abort_command(d);
		return;
	}
	d->track = track;
	d->heads = (d->file.device & 0xfu) + 1;
	ide_done(d);
}

static void set_multiple(struct ide_drive *d)
{
	unsigned n = d->file.count[0];

	if (n > IDE_MULTIPLE || (n & (n - 1))) {
		ide_abort_command(d);
		return;
	}
	d->multiple = n;
	ide_done(d);
}

/* PIO default and flow control, multiword and ultra DMA; the count register says which. */
static bool set_mode(struct ide_drive *d)
{
	uint8_t kind = d->file.count[0] >> 3, mode = d->file.count[0] & 7;

	switch (kind) {
	case 0:
		return mode <= 1;
	case 1:
		return mode <= 4;
	case 4:
		if (mode > 2)
			return false;
		d->mwdma = (uint8_t)(mode + 1);
		d->udma = 0;
		return true;
	case 8:
		if (mode > 5)
			return false;
		d->udma = (uint8_t)(mode + 1);
		d->mwdma = 0;
		return true;
	default:
		return false;
	}
}

static bool set_feature(struct ide_drive *d)
{
	switch (d->file.feature[0]) {
	case ATA_FEATURE_WRITE_CACHE_ON:
	case ATA_FEATURE_WRITE_CACHE_OFF:
		d->write_cache = d->file.feature[0] == ATA_FEATURE_WRITE_CACHE_ON;
		return true;
	case ATA_FEATURE_LOOK_AHEAD_ON:
	case ATA_FEATURE_LOOK_AHEAD_OFF:
		d->look_ahead = d->file.feature[0] == ATA_FEATURE_LOOK_AHEAD_ON;
		return true;
	case ATA_FEATURE_TRANSFER_MODE:
		return set_mode(d);
	case ATA_FEATURE_NO_REVERT:
	case ATA_FEATURE_REVERT:
		return true;
	default:
		return false;
	}
}

/* What was written with the cache on is stable before the answer that says it is off. */
static void set_features(struct ide_drive *d)
{
	if (!set_feature(d))
		ide_abort_command(d);
	else if (d->file.feature[0] == ATA_FEATURE_WRITE_CACHE_OFF)
		ide_flush(d);
	else
		ide_done(d);
}

static void standby(struct ide_drive *d)
{
	d->power = ATA_POWER_STANDBY;
	ide_flush(d);
}

static void idle(struct ide_drive *d)
{
	d->power = ATA_POWER_IDLE;
	ide_done(d);
}

static void sleep_now(struct ide_drive *d)
{
	d->asleep = true;
	ide_flush(d);
}

static void check_power(struct ide_drive *d)
{
	d->file.count[0] = d->power;
	ide_done(d);
}

static void seek(struct ide_drive *d)
{
	ide_done(d); /* there is nothing to move */
}

static void read_native_max(struct ide_drive *d)
{
	uint64_t last = d->sectors - 1;

	if (!d->command->ext && last > ATA_LBA28_MAX - 1)
		last = ATA_LBA28_MAX - 1;
	for (unsigned i = 0; i < 3; i++) {
		d->file.lba[i][0] = (uint8_t)(last >> 8 * i);
		d->file.lba[i][1] = d->command->ext ? (uint8_t)(last >> (24 + 8 * i)) : 0;
	}
	if (!d->command->ext)
		d->file.device = (uint8_t)((d->file.device & 0xf0) | (last >> 24 & 0xf));
	ide_done(d);
}

/* ---- the table ------------------------------------------------------------------------------- */

#define PIO(k)                                                                                     \
	{                                                                                          \
		.kind = (k)                                                                        \
	}
#define PIO_EXT(k)                                                                                 \
	{                                                                                          \
		.kind = (k), .ext = true                                                           \
	}
#define MULTI(k)                                                                                   \
	{                                                                                          \
		.kind = (k), .multiple = true                                                      \
	}
#define MULTI_EXT(k)                                                                               \
	{                                                                                          \
		.kind = (k), .multiple = true, .ext = true                                         \
	}
#define DMA(k)                                                                                     \
	{                                                                                          \
		.kind = (k), .dma = true                                                           \
	}
#define DMA_EXT(k)                                                                                 \
	{                                                                                          \
		.kind = (k), .dma = true, .ext = true                                              \
	}

static const struct ide_command commands[256] = {
	[ATA_DATA_SET_MANAGEMENT] = { .run = ide_trim, .dma = true, .ext = true },
	[ATA_RECALIBRATE... ATA_RECALIBRATE + 15] = { .run = seek },
	[ATA_READ_SECTORS] = PIO(IDE_IN),
	[ATA_READ_SECTORS_NORETRY] = PIO(IDE_IN),
	[ATA_READ_SECTORS_EXT] = PIO_EXT(IDE_IN),
	[ATA_READ_DMA_EXT] = DMA_EXT(IDE_IN),
	[ATA_READ_NATIVE_MAX_EXT] = { .run = read_native_max, .ext = true },
	[ATA_READ_MULTIPLE_EXT] = MULTI_EXT(IDE_IN),
	[ATA_WRITE_SECTORS] = PIO(IDE_OUT),
	[ATA_WRITE_SECTORS_NORETRY] = PIO(IDE_OUT),
	[ATA_WRITE_SECTORS_EXT] = PIO_EXT(IDE_OUT),
	[ATA_WRITE_DMA_EXT] = DMA_EXT(IDE_OUT),
	[ATA_WRITE_MULTIPLE_EXT] = MULTI_EXT(IDE_OUT),
	[ATA_WRITE_DMA_FUA_EXT] = { .kind = IDE_OUT, .dma = true, .ext = true, .fua = true },
	[ATA_READ_VERIFY] = PIO(IDE_VERIFY),
	[ATA_READ_VERIFY_NORETRY] = PIO(IDE_VERIFY),
	[ATA_READ_VERIFY_EXT] = PIO_EXT(IDE_VERIFY),
	[ATA_SEEK... ATA_SEEK + 15] = { .run = seek },
	[ATA_INITIALIZE_PARAMETERS] = { .run = initialize_parameters },
	[ATA_STANDBY_IMMEDIATE_OLD] = { .run = standby },
	[ATA_IDLE_IMMEDIATE_OLD] = { .run = idle },
	[ATA_STANDBY_OLD] = { .run = standby },
	[ATA_IDLE_OLD] = { .run = idle },
	[ATA_CHECK_POWER_OLD] = { .run = check_power },
	[ATA_SLEEP_OLD] = { .run = sleep_now },
	[ATA_SMART] = { .run = ide_smart },
	[ATA_READ_MULTIPLE] = MULTI(IDE_IN),
	[ATA_WRITE_MULTIPLE] = MULTI(IDE_OUT),
	[ATA_SET_MULTIPLE] = { .run = set_multiple },
	[ATA_READ_DMA] = DMA(IDE_IN),
	[ATA_READ_DMA_NORETRY] = DMA(IDE_IN),
	[ATA_WRITE_DMA] = DMA(IDE_OUT),
	[ATA_WRITE_DMA_NORETRY] = DMA(IDE_OUT),
	[ATA_WRITE_MULTIPLE_FUA_EXT] = { .kind = IDE_OUT,
					 .multiple = true,
					 .ext = true,
					 .fua = true },
	[ATA_STANDBY_IMMEDIATE] = { .run = standby },
	[ATA_IDLE_IMMEDIATE] = { .run = idle },
	[ATA_STANDBY] = { .run = standby },
	[ATA_IDLE] = { .run = idle },
	[ATA_CHECK_POWER] = { .run = check_power },
	[ATA_SLEEP] = { .run = sleep_now },
	[ATA_FLUSH_CACHE] = { .run = ide_flush },
	[ATA_FLUSH_CACHE_EXT] = { .run = ide_flush, .ext = true },
	[ATA_IDENTIFY_DEVICE] = { .run = ide_identify },
	[ATA_SET_FEATURES] = { .run = set_features },
	[ATA_READ_NATIVE_MAX] = { .run = read_native_max },
};

void ide_execute(struct ide_drive *d, uint8_t opcode)
{
	const struct ide_command *c = &commands[opcode];

	account_add(d->account, ACCOUNT_KICKS_EXIT, 1);
	d->taken = account_begin(d->account, 1, 1);
	d->command = c;
	d->error = 0;
	if (d->asleep || (!c->run && !c->kind)) {
		ide_abort_command(d); /* asleep, only a reset wakes it */
	} else if (c->run) {
		c->run(d);
	} else {
		d->power = ATA_POWER_ACTIVE;
		ide_transfer(d);
	}
}
