/*
 * The bus master: two channels of command, status and descriptor table pointer in BAR 4, and the
 * walk over physical region descriptors (PRDs). Programming Interface for Bus Master IDE Controller
 * 1.0; 82371SB data sheet, section 2.5. A PRD is read from guest memory once, when its turn comes.
 */
#include "devices/emulated/ide.h"

enum { BMIC, BMIS, BMIDTP, REGS };

#define START	0x01u /* BMIC: SSBM */
#define TO_RAM	0x08u /* BMIC: RWCON, the bus master writes memory */
#define ACTIVE	0x01u /* BMIS */
#define FAILED	0x02u
#define SPACING 8u /* between the channels */

#define PRD_LAST  0x80000000u
#define TABLE_MAX (65536u / 8) /* a table does not leave its 64 KiB */

static const struct reg registers[REGS] = {
	[BMIC] = { "BMIC", 0, .width = 1, .access = REG_RW, .writable = START | TO_RAM },
	/* The middle bits say that the drives can do DMA, which firmware finds out. */
	[BMIS] = { "BMIS", 2, .width = 1, .access = REG_RW, .writable = 0x60, .clear = 0x06 },
	[BMIDTP] = { "BMIDTP", 4, .width = 4, .access = REG_RW, .writable = ~3u },
};

const struct reg_table ide_bm_registers = { registers, REGS };

void ide_bm_reset(struct ide_channel *ch)
{
	ch->bm = (struct ide_bm){ 0 };
}

/* ---- descriptors ----------------------------------------------------------------------------- */

static void fail(struct ide_bm *bm)
{
	bm->status = (uint8_t)((bm->status & ~ACTIVE) | FAILED);
	bm->started = false;
}

/* False: there is none. */
static bool next_prd(struct ide_channel *ch)
{
	struct ide_bm *bm = &ch->bm;
	uint32_t prd[2];

	if (bm->last) {
		bm->status &= (uint8_t)~ACTIVE; /* shorter than the transfer: no error, no end */
		bm->started = false;
		return false;
	}
	if (bm->seen++ == TABLE_MAX ||
	    memory_read(ch->ide->dev.host->memory, bm->next, prd, sizeof(prd)) < 0) {
		fail(bm);
		return false;
	}
	/* The table's address wraps inside its 64 KiB. */
	bm->next = (bm->next & ~0xffffull) | ((bm->next + 8) & 0xffff);
	bm->base = prd[0] & ~1u;
	bm->left = prd[1] & 0xfffe;
	if (bm->left == 0)
		bm->left = 0x10000;
	bm->last = prd[1] & PRD_LAST;
	return true;
}

/* Where a piece may end. */
struct mark {
	struct ide_bm bm;
	uint32_t got;
	unsigned n;
	size_t last; /* length of the last iovec */
};

static struct mark mark_here(const struct ide_channel *ch, uint32_t got, const struct iovec *iov,
			     unsigned n)
{
	return (struct mark){ ch->bm, got, n, n ? iov[n - 1].iov_len : 0 };
}

/* False: no room in iov. */
static bool append(struct iovec *iov, unsigned room, unsigned *n, uint8_t *host, uint32_t len)
{
	struct iovec *last = *n ? &iov[*n - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == host) {
		last->iov_len += len;
		return true;
	}
	if (*n == room)
		return false;
	iov[(*n)++] = (struct iovec){ host, len };
	return true;
}

uint32_t ide_bm_take(struct ide_channel *ch, uint32_t max, struct iovec *iov, unsigned room,
		     unsigned *n)
{
	struct ide_bm *bm = &ch->bm;
	struct mark mark = { .got = 0 };
	uint32_t got = 0;

	*n = 0;
	for (;;) {
		uint32_t len = BLOCK_SECTOR - got % BLOCK_SECTOR;
		uint8_t *host;

		if (got % BLOCK_SECTOR == 0)
			mark = mark_here(ch, got, iov, *n);
		if (got == max || (bm->left == 0 && !next_prd(ch)))
			break;
		len = len < bm->left ? len : bm->left;
		host = memory_map(ch->ide->dev.host->memory, bm->base, len, 1);
		if (!host) {
			fail(bm);
			break;
		}
		if (!append(iov, room, n, host, len)) {
			*bm = mark.bm; /* the rest of the sector in the next piece, from its begin
					*/
			break;
		}
		bm->base += len;
		bm->left -= len;
		got += len;
	}
	*n = mark.n;
	if (*n)
		iov[*n - 1].iov_len = mark.last;
	return mark.got;
}

/* ---- the drive's side ------------------------------------------------------------------------ */

bool ide_bm_ready(const struct ide_channel *ch, bool in)
{
	return ch->bm.started && !ch->held && !!(ch->bm.command & TO_RAM) == in;
}

void ide_bm_finished(struct ide_channel *ch)
{
	struct ide_bm *bm = &ch->bm;

	/* With descriptors left over it stays active until it is stopped. */
	if (bm->last && bm->left == 0)
		bm->status &= (uint8_t)~ACTIVE;
	bm->started = false;
}

/* ---- registers ------------------------------------------------------------------------------- */

static void start(struct ide_channel *ch)
{
	struct ide_bm *bm = &ch->bm;

	bm->status |= ACTIVE;
	bm->started = true;
	bm->next = bm->table;
	bm->left = 0;
	bm->last = false;
	bm->seen = 0;
	ide_dma_continue(ch);
}

static void stop(struct ide_channel *ch)
{
	ch->bm.started = false;
	ide_settle(ch);
	ch->bm.status &= (uint8_t)~ACTIVE;
}

static void write_byte(void *opaque, uint64_t offset, uint8_t value)
{
	struct ide_channel *ch = opaque;
	struct ide_bm *bm = &ch->bm;
	unsigned shift = 8 * (offset & 3);
	uint8_t old = bm->command;
	uint32_t table;

	switch (offset) {
	case 0:
		bm->command = (uint8_t)reg_merge(&registers[BMIC], 0, value);
		if (!(old & START) && (value & START))
			start(ch);
		else if ((old & START) && !(value & START))
			stop(ch);
		break;
	case 2:
		bm->status = (uint8_t)reg_merge(&registers[BMIS], bm->status, value);
		break;
	case 4:
	case 5:
	case 6:
	case 7:
		table = (bm->table & ~(0xffu << shift)) | (uint32_t)value << shift;
		bm->table = (uint32_t)reg_merge(&registers[BMIDTP], 0, table);
		break;
	default:
		break;
	}
}

static uint8_t read_byte(void *opaque, uint64_t offset)
{
	struct ide_channel *ch = opaque;

	switch (offset) {
	case 0:
		return ch->bm.command;
	case 2:
		return ch->bm.status;
	case 4:
	case 5:
	case 6:
	case 7:
		return (uint8_t)(ch->bm.table >> 8 * (offset & 3));
	default:
		return 0;
	}
}

static uint64_t bm_read(void *opaque, uint64_t offset, unsigned size)
{
	struct ide *ide = opaque;
	struct ide_channel *ch = &ide->channel[offset / SPACING];
	uint64_t value;

	pthread_mutex_lock(&ch->lock);
	value = reg_read_bytewise(ch, offset % SPACING, size, read_byte);
	pthread_mutex_unlock(&ch->lock);
	return value;
}

static void bm_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct ide *ide = opaque;
	struct ide_channel *ch = &ide->channel[offset / SPACING];

	pthread_mutex_lock(&ch->lock);
	reg_write_bytewise(ch, offset % SPACING, size, value, write_byte);
	pthread_mutex_unlock(&ch->lock);
}

static struct account *bm_owner(void *opaque, uint64_t offset)
{
	struct ide *ide = opaque;

	return ide_channel_account(&ide->channel[offset / SPACING]);
}

static const char *bm_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)size;
	(void)write;
	return reg_name(&ide_bm_registers, offset % SPACING, REG_RW, 0);
}

const struct bus_ops ide_bm_ops = {
	.read = bm_read,
	.write = bm_write,
	.name = bm_name,
	.owner = bm_owner,
	/* The tables' addresses, which are looked at when a transfer starts. */
	.posted = { { .offset = 4, .size = 4 }, { .offset = SPACING + 4, .size = 4 } },
};
