/*
 * Command and control block registers of a channel, which device answers, soft reset and INTRQ.
 * ATA/ATAPI-7 volume 2, chapters 5 and 9 (state diagrams). A write goes to both devices; a read is
 * answered by the selected one, and by nobody (the bus floats, with a pull-down on DD7) where no
 * device is. Whether the ports are decoded is up to the PCI function.
 */
#include <linux/pci_regs.h>

#include "devices/emulated/ide.h"
#include "vmm/trace.h"

enum {
	DATA,
	ERROR,
	FEATURES,
	SECTOR_COUNT,
	LBA_LOW,
	LBA_MID,
	LBA_HIGH,
	DEVICE,
	STATUS,
	COMMAND,
	ALT_STATUS,
	DEVICE_CONTROL,
	REGS
};

#define CONTROL_BLOCK 0x10u /* where the table has the other port */

static const struct reg registers[REGS] = {
	/* Also by 32 bits, which is two of 16. */
	[DATA] = { "DATA", 0, .width = 2, .access = REG_RW },
	[ERROR] = { "ERROR", 1, .width = 1, .access = REG_READ, .reset = ATA_DIAG },
	[FEATURES] = { "FEATURES", 1, .width = 1, .access = REG_WRITE, .writable = 0xff },
	[SECTOR_COUNT] = { "SECTOR COUNT", 2, .width = 1, .access = REG_RW, .reset = 1,
			   .writable = 0xff },
	[LBA_LOW] = { "LBA LOW", 3, .width = 1, .access = REG_RW, .reset = 1, .writable = 0xff },
	[LBA_MID] = { "LBA MID", 4, .width = 1, .access = REG_RW, .writable = 0xff },
	[LBA_HIGH] = { "LBA HIGH", 5, .width = 1, .access = REG_RW, .writable = 0xff },
	[DEVICE] = { "DEVICE", 6, .width = 1, .access = REG_RW, .reset = ATA_DEV_SET,
		     .writable = 0x5f },
	[STATUS] = { "STATUS", 7, .width = 1, .access = REG_READ, .reset = ATA_DRDY | ATA_DSC },
	[COMMAND] = { "COMMAND", 7, .width = 1, .access = REG_WRITE },
	[ALT_STATUS] = { "ALTERNATE STATUS", CONTROL_BLOCK, .width = 1, .access = REG_READ },
	[DEVICE_CONTROL] = { "DEVICE CONTROL", CONTROL_BLOCK, .width = 1, .access = REG_WRITE,
			     .writable = ATA_NIEN | ATA_SRST | ATA_HOB },
};

const struct reg_table ide_registers = { registers, REGS };

#define FLOATING 0x7fu

/* ---- INTRQ ----------------------------------------------------------------------------------- */

static bool is_native(const struct ide_channel *ch)
{
	return pci_config_get8(&ch->ide->f, IDE_PROGIF) & 1u << 2 * ch->index;
}

/* One pin for all channels in native mode. *by: where a change came from. */
static void update_pin(struct ide *ide, const struct ide_channel *by)
{
	bool level = false;

	pthread_mutex_lock(&ide->pin_lock);
	pci_intx_account(&ide->f, ide_channel_account(by));
	for (unsigned i = 0; i < IDE_CHANNELS; i++)
		level |= is_native(&ide->channel[i]) &&
			 __atomic_load_n(&ide->channel[i].level, __ATOMIC_RELAXED);
	pci_intx_set(&ide->f, level);
	pthread_mutex_unlock(&ide->pin_lock);
}

/* INTRQ is driven by the selected device only, and by that only while nIEN is 0. */
struct account *ide_channel_account(const struct ide_channel *ch)
{
	const struct ide_drive *d = &ch->drive[__atomic_load_n(&ch->selected, __ATOMIC_RELAXED)];

	return d->account ? d->account : ch->drive[0].account;
}

void ide_select(struct ide_channel *ch, unsigned unit)
{
	__atomic_store_n(&ch->selected, unit, __ATOMIC_RELAXED);
}

void ide_update_line(struct ide_channel *ch)
{
	bool level = ch->drive[ch->selected].irq && !(ch->control & ATA_NIEN);

	if (level && !ch->level)
		ch->bm.status |= 0x04; /* the bus master sees the edge */
	__atomic_store_n(&ch->level, level, __ATOMIC_RELAXED);
	ch->line.account = ide_channel_account(ch);
	irq_line_set(&ch->line, level && !is_native(ch));
	update_pin(ch->ide, ch);
}

void ide_interrupt(struct ide_drive *d)
{
	d->irq = true;
	if (d->ch->control & ATA_NIEN) { /* the driver polls */
		account_add(d->account, ACCOUNT_IRQS_SUPPRESSED, 1);
		trace_unwanted(d->account);
	}
	ide_update_line(d->ch);
}

static void acknowledge(struct ide_drive *d)
{
	d->irq = false;
	ide_update_line(d->ch);
}

/* ---- reset ----------------------------------------------------------------------------------- */

/* What a device without the PACKET commands shows after reset and diagnostics (section 9.12). */
void ide_signature(struct ide_drive *d)
{
	struct ide_file *f = &d->file;

	f->count[0] = f->lba[0][0] = 1;
	f->lba[1][0] = f->lba[2][0] = 0;
	f->count[1] = f->lba[0][1] = f->lba[1][1] = f->lba[2][1] = 0;
	f->feature[0] = f->feature[1] = 0;
	f->device = 0;
	d->error = ATA_DIAG;
	d->status = d->block ? ATA_DRDY | ATA_DSC : 0;
}

static void soft_reset(struct ide_channel *ch)
{
	for (unsigned i = 0; i < IDE_DRIVES; i++) {
		struct ide_drive *d = &ch->drive[i];

		ide_cancel(d);
		d->irq = false;
		d->asleep = false;
		d->multiple = 0;
		d->power = ATA_POWER_ACTIVE;
		ide_signature(d);
	}
	ide_select(ch, 0);
	ide_update_line(ch);
}

void ide_channel_reset(struct ide_channel *ch)
{
	ch->control = 0;
	soft_reset(ch);
	for (unsigned i = 0; i < IDE_DRIVES; i++) {
		struct ide_drive *d = &ch->drive[i];

		d->heads = 16;
		d->track = 63;
		d->write_cache = d->look_ahead = d->smart = true;
		d->mwdma = d->udma = 0;
	}
	ide_bm_reset(ch);
}

static void write_control(struct ide_channel *ch, uint8_t value)
{
	uint8_t old = ch->control;

	ch->control = (uint8_t)reg_merge(&registers[DEVICE_CONTROL], 0, value);
	if (!(old & ATA_SRST) && (value & ATA_SRST)) {
		soft_reset(ch);
		for (unsigned i = 0; i < IDE_DRIVES; i++)
			ch->drive[i].status = ch->drive[i].block ? ATA_BSY : 0;
	} else if ((old & ATA_SRST) && !(value & ATA_SRST)) {
		soft_reset(ch);
	}
	ide_update_line(ch);
}

/* ---- the command block ----------------------------------------------------------------------- */

static void push(uint8_t field[2], uint8_t value)
{
	field[1] = field[0];
	field[0] = value;
}

static void write_file(struct ide_drive *d, int reg, uint8_t value)
{
	switch (reg) {
	case FEATURES:
		push(d->file.feature, value);
		break;
	case SECTOR_COUNT:
		push(d->file.count, value);
		break;
	case LBA_LOW:
	case LBA_MID:
	case LBA_HIGH:
		push(d->file.lba[reg - LBA_LOW], value);
		break;
	case DEVICE:
		d->file.device = (uint8_t)reg_merge(&registers[DEVICE], 0, value);
		break;
	default:
		break;
	}
}

static void write_command(struct ide_channel *ch, uint8_t opcode)
{
	struct ide_drive *d = &ch->drive[ch->selected];

	if (opcode == ATA_EXECUTE_DIAGNOSTIC) {
		ide_diagnostic(ch); /* for both, whichever is selected */
		return;
	}
	if (!d->block)
		return;
	acknowledge(d);
	ide_execute(d, opcode);
}

static void write_reg(struct ide_channel *ch, int reg, uint8_t value)
{
	/* A device that is busy, or wants data, takes no parameters (section 9.3). */
	if (ch->drive[ch->selected].status & (ATA_BSY | ATA_DRQ))
		return;
	ch->control &= (uint8_t)~ATA_HOB;
	if (reg == COMMAND) {
		write_command(ch, value);
		return;
	}
	for (unsigned i = 0; i < IDE_DRIVES; i++)
		write_file(&ch->drive[i], reg, value);
	if (reg == DEVICE) {
		ide_select(ch, value & ATA_DEV ? 1 : 0);
		ide_update_line(ch);
	}
}

static uint8_t read_reg(struct ide_channel *ch, int reg)
{
	struct ide_drive *d = &ch->drive[ch->selected];
	unsigned hob = ch->control & ATA_HOB ? 1 : 0;

	if (!d->block) /* device 0 answers for device 1 */
		return ch->drive[0].block ? 0 : FLOATING;
	switch (reg) {
	case ERROR:
		return d->error;
	case SECTOR_COUNT:
		return d->file.count[hob];
	case LBA_LOW:
	case LBA_MID:
	case LBA_HIGH:
		return d->file.lba[reg - LBA_LOW][hob];
	case DEVICE:
		return d->file.device | ATA_DEV_SET;
	case STATUS:
		acknowledge(d);
		return d->status;
	default:
		return d->status;
	}
}

/* ---- accesses -------------------------------------------------------------------------------- */

/* The command register's I/O Space Enable, the channel's IDE Decode Enable, and its mode. */
static bool decoded(const struct ide_channel *ch, bool native)
{
	const struct pci_function *f = &ch->ide->f;

	return (pci_config_get16(f, PCI_COMMAND) & PCI_COMMAND_IO) &&
	       (pci_config_get16(f, IDE_IDETIM + 2 * ch->index) & 0x8000) &&
	       is_native(ch) == native;
}

static uint64_t all_ones(unsigned size)
{
	return ~0ull >> (64 - 8 * size);
}

static uint8_t read_byte(void *opaque, uint64_t offset)
{
	int reg = reg_find(&ide_registers, offset, 1, REG_READ, 0);

	return reg < 0 ? 0xff : read_reg(opaque, reg);
}

static void write_byte(void *opaque, uint64_t offset, uint8_t value)
{
	int reg = reg_find(&ide_registers, offset, 1, REG_WRITE, 0);

	if (reg >= 0)
		write_reg(opaque, reg, value);
}

static uint64_t read_block(struct ide_channel *ch, uint64_t offset, unsigned size)
{
	uint64_t value;

	pthread_mutex_lock(&ch->lock);
	if (offset == 0 && size > 1)
		value = ide_data_read(&ch->drive[ch->selected], size < 4 ? size : 4);
	else
		value = reg_read_bytewise(ch, offset, size, read_byte);
	pthread_mutex_unlock(&ch->lock);
	return value;
}

static void write_block(struct ide_channel *ch, uint64_t offset, unsigned size, uint64_t value)
{
	pthread_mutex_lock(&ch->lock);
	if (offset == 0 && size > 1)
		ide_data_write(&ch->drive[ch->selected], size < 4 ? size : 4, (uint32_t)value);
	else
		reg_write_bytewise(ch, offset, size, value, write_byte);
	pthread_mutex_unlock(&ch->lock);
}

static uint64_t read_alt_status(struct ide_channel *ch)
{
	uint8_t value;

	pthread_mutex_lock(&ch->lock);
	value = read_reg(ch, ALT_STATUS);
	pthread_mutex_unlock(&ch->lock);
	return value;
}

static void write_device_control(struct ide_channel *ch, uint8_t value)
{
	pthread_mutex_lock(&ch->lock);
	write_control(ch, value);
	pthread_mutex_unlock(&ch->lock);
}

/* ---- for accounting and traces --------------------------------------------------------------- */

static struct account *channel_owner(void *opaque, uint64_t offset)
{
	(void)offset;
	return ide_channel_account(opaque);
}

static const char *name_at(uint64_t offset, unsigned size, bool write)
{
	unsigned width = offset == 0 && size > 1 ? 2 : 1;
	int reg = reg_find(&ide_registers, offset, width, write ? REG_WRITE : REG_READ, 0);

	return reg < 0 ? NULL : registers[reg].name;
}

static const char *block_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	return name_at(offset, size, write);
}

static const char *control_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)offset; /* there is one register */
	return name_at(CONTROL_BLOCK, size, write);
}

/* ---- native mode: BARs ----------------------------------------------------------------------- */

static uint64_t block_read(void *opaque, uint64_t offset, unsigned size)
{
	return decoded(opaque, true) ? read_block(opaque, offset, size) : all_ones(size);
}

static void block_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	if (decoded(opaque, true))
		write_block(opaque, offset, size, value);
}

/*
 * From FEATURES to LBA HIGH: they only say what the next command is about. DEVICE also says whose
 * INTRQ is seen, and does it at once.
 */
#define PARAMETERS                                                                                 \
	{                                                                                          \
		{                                                                                  \
			.offset = 1, .size = 5                                                     \
		}                                                                                  \
	}

const struct bus_ops ide_block_ops = {
	.read = block_read,
	.write = block_write,
	.name = block_name,
	.owner = channel_owner,
	.posted = PARAMETERS,
};

#define NATIVE_CONTROL 2u /* in its BAR of 4 bytes; nothing else is there */

static uint64_t control_read(void *opaque, uint64_t offset, unsigned size)
{
	if (!decoded(opaque, true) || offset != NATIVE_CONTROL || size != 1)
		return all_ones(size);
	return read_alt_status(opaque);
}

static void control_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	if (decoded(opaque, true) && offset == NATIVE_CONTROL && size == 1)
		write_device_control(opaque, (uint8_t)value);
}

const struct bus_ops ide_control_ops = {
	.read = control_read,
	.write = control_write,
	.name = control_name,
	.owner = channel_owner,
};

/* ---- compatibility mode: the ports of old ---------------------------------------------------- */

static uint64_t compat_block_read(void *opaque, uint64_t offset, unsigned size)
{
	return decoded(opaque, false) ? read_block(opaque, offset, size) : all_ones(size);
}

static void compat_block_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	if (decoded(opaque, false))
		write_block(opaque, offset, size, value);
}

const struct bus_ops ide_compat_block_ops = {
	.read = compat_block_read,
	.write = compat_block_write,
	.name = block_name,
	.owner = channel_owner,
	.posted = PARAMETERS,
};

/* A range of one byte. */
static uint64_t compat_control_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)offset;
	return decoded(opaque, false) ? read_alt_status(opaque) : all_ones(size);
}

static void compat_control_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset;
	(void)size;
	if (decoded(opaque, false))
		write_device_control(opaque, (uint8_t)value);
}

const struct bus_ops ide_compat_control_ops = {
	.read = compat_control_read,
	.write = compat_control_write,
	.name = control_name,
	.owner = channel_owner,
};
