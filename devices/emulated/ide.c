/*
 * IDE disks as devices. The first --blk=emulated flag makes the controller, a PCI function with the
 * ports and lines that IDE has had from the start; the following find it in the root complex and
 * put their disks onto it, four in all. Intel 82801DB data sheet (ICH4), chapter 10; PCI IDE
 * Controller Specification 1.0 for its two modes.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/block_keys.h"
#include "devices/emulated/ide.h"
#include "vmm/x86_64/layout.h"

static const struct {
	uint16_t block, control;
	uint8_t line;
} places[IDE_CHANNELS] = {
	{ LAYOUT_IDE0_PIO, LAYOUT_IDE0_CONTROL, LAYOUT_IDE0_IRQ },
	{ LAYOUT_IDE1_PIO, LAYOUT_IDE1_CONTROL, LAYOUT_IDE1_IRQ },
};

/* What the machine sees of a disk. */
struct ide_disk {
	struct device dev; /* first */
	struct ide *ide;
	struct ide_drive *drive; /* NULL: not on the cable yet */
};

static struct ide_disk *disk_of(struct device *dev)
{
	return (struct ide_disk *)dev; /* first member */
}

/* ---- the controller -------------------------------------------------------------------------- */

/* DMA waits while the machine is paused, or the function may not master the bus. */
static void follow(struct ide *ide)
{
	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		struct ide_channel *ch = &ide->channel[i];

		pthread_mutex_lock(&ch->lock);
		/* Of two vCPUs' writes, the later one counts, whoever comes here first. */
		ch->held = ide->paused || !pci_bus_master(&ide->f);
		if (ch->held)
			ide_settle(ch);
		else
			ide_dma_continue(ch);
		pthread_mutex_unlock(&ch->lock);
	}
}

static void mode_changed(struct ide *ide)
{
	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		struct ide_channel *ch = &ide->channel[i];

		pthread_mutex_lock(&ch->lock);
		ide_update_line(ch);
		pthread_mutex_unlock(&ch->lock);
	}
}

static void config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct ide *ide = (struct ide *)f->dev; /* first member */

	if (offset < PCI_COMMAND + 2 && offset + size > PCI_COMMAND)
		follow(ide);
	if (offset <= IDE_PROGIF && offset + size > IDE_PROGIF)
		mode_changed(ide);
}

static const struct pci_function_ops function_ops = { .config_written = config_written };

static int add_ports(struct ide_channel *ch, struct error *e)
{
	struct bus *pio = ch->ide->dev.host->pio;
	const struct bus_range block = { .name = "ide command block",
					 .base = places[ch->index].block,
					 .size = 8,
					 .ops = &ide_compat_block_ops,
					 .opaque = ch };
	const struct bus_range control = { .name = "ide control block",
					   .base = places[ch->index].control,
					   .size = 1,
					   .ops = &ide_compat_control_ops,
					   .opaque = ch };
	int err = bus_add(pio, &block, e);

	return err ? err : bus_add(pio, &control, e);
}

static int add_channel_bars(struct ide_channel *ch, struct error *e)
{
	struct pci_function *f = &ch->ide->f;
	unsigned bar = 2 * ch->index;
	int err = pci_add_bar(f, bar, PCI_BAR_IO, false, 8, &ide_block_ops, ch, e);

	return err ? err : pci_add_bar(f, bar + 1, PCI_BAR_IO, false, 4, &ide_control_ops, ch, e);
}

/*
 * What firmware would have set up, as drivers expect it, is so out of reset: native mode, channels
 * on, cables of 80 wires.
 */
static void fill_config(struct pci_function *f)
{
	pci_config_writable32(f, PCI_CLASS_REVISION, 0x00000500); /* the channels' mode */
	pci_config_set32(f, IDE_IDETIM, 0x80008000);
	pci_config_writable32(f, IDE_IDETIM, 0xffffffff);
	pci_config_writable32(f, IDE_SIDETIM, 0xff);
	pci_config_writable32(f, IDE_SDMA_CNT, 0x3333000f);
	pci_config_set32(f, IDE_CONFIG, 0x000000f0);
	pci_config_writable32(f, IDE_CONFIG, 0x0000ffff);
}

static int add_function(struct ide *ide, struct error *e)
{
	int err = pci_add_bar(&ide->f, IDE_BM_BAR, PCI_BAR_IO, false, IDE_BM_SIZE, &ide_bm_ops, ide,
			      e);

	fill_config(&ide->f);
	for (unsigned i = 0; i < IDE_CHANNELS && !err; i++)
		err = add_channel_bars(&ide->channel[i], e);
	for (unsigned i = 0; i < IDE_CHANNELS && !err; i++)
		err = add_ports(&ide->channel[i], e);
	return err ? err : pci_function_plug(&ide->f, ide->dev.host->pci, -1, e);
}

static void destroy_controller(struct ide *ide)
{
	struct bus *pio = ide->dev.host->pio;

	pci_function_destroy(&ide->f);
	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		struct ide_channel *ch = &ide->channel[i];

		bus_remove(pio, places[i].block, ch);
		bus_remove(pio, places[i].control, ch);
		irq_line_set(&ch->line, false);
		pthread_mutex_destroy(&ch->lock);
	}
	pthread_mutex_destroy(&ide->pin_lock);
	free(ide);
}

static struct ide *make_controller(struct device_host *host, struct error *e)
{
	static const struct pci_identity identity = {
		.vendor = 0x8086,
		.device = 0x24cb,
		.revision = 1,
		.class_code = 0x01018f, /* bus master; both channels in native mode, and can both */
		.intx = true,
	};
	struct ide *ide = calloc(1, sizeof(*ide));

	if (!ide) {
		error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	ide->dev.host = host;
	snprintf(ide->dev.name, sizeof(ide->dev.name), "ide");
	ide->paused = true;
	pthread_mutex_init(&ide->pin_lock, NULL);
	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		struct ide_channel *ch = &ide->channel[i];

		ch->ide = ide;
		ch->index = i;
		ch->held = true;
		pthread_mutex_init(&ch->lock, NULL);
		irq_line_init(&ch->line, host->irq, places[i].line);
		for (unsigned unit = 0; unit < IDE_DRIVES; unit++) {
			ch->drive[unit].ch = ch;
			ch->drive[unit].unit = unit;
		}
	}
	pci_function_init(&ide->f, &ide->dev, &identity, &function_ops);
	if (add_function(ide, e)) {
		destroy_controller(ide);
		return NULL;
	}
	return ide;
}

struct ide *ide_find(struct device_host *host)
{
	struct pci_function *f = pci_root_find(host->pci, &function_ops);

	return f ? (struct ide *)f->dev : NULL; /* first member */
}

/* ---- life cycle ------------------------------------------------------------------------------ */

/* Of the machine: every disk is told, and the first to hear does it for the controller. */
static int start(struct device *dev, struct error *e)
{
	struct ide *ide = disk_of(dev)->ide;

	(void)e;
	ide->paused = false;
	follow(ide);
	return 0;
}

static void pause_device(struct device *dev)
{
	struct ide *ide = disk_of(dev)->ide;

	ide->paused = true;
	follow(ide);
}

static void reset(struct device *dev)
{
	struct ide *ide = disk_of(dev)->ide;

	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		struct ide_channel *ch = &ide->channel[i];

		pthread_mutex_lock(&ch->lock);
		ide_channel_reset(ch);
		pthread_mutex_unlock(&ch->lock);
	}
	pci_function_reset(&ide->f);
	follow(ide);
}

static void unplug(struct ide_drive *d)
{
	struct ide_channel *ch = d->ch;

	pthread_mutex_lock(&ch->lock);
	ide_cancel(d);
	d->irq = false;
	d->status = 0;
	pthread_mutex_unlock(&ch->lock);
	block_queue_destroy(d->backend);
	event_loop_destroy(d->loop);
	pthread_mutex_lock(&ch->lock);
	d->backend = NULL;
	d->loop = NULL;
	d->block = NULL;
	pthread_mutex_unlock(&ch->lock);
}

static void destroy(struct device *dev)
{
	struct ide_disk *disk = disk_of(dev);
	struct ide *ide = disk->ide;
	struct block *block = disk->drive->block;

	unplug(disk->drive);
	block_close(block);
	if (--ide->disks == 0)
		destroy_controller(ide);
	free(disk);
}

static const struct device_ops device_ops = {
	.start = start,
	.pause = pause_device,
	.reset = reset,
	.destroy = destroy,
};

/* ---- making a disk --------------------------------------------------------------------------- */

/* The next place on the cables: master and slave of the first, then of the second channel. */
static struct ide_drive *free_place(struct ide *ide)
{
	for (unsigned i = 0; i < IDE_CHANNELS * IDE_DRIVES; i++) {
		struct ide_drive *d = &ide->channel[i / IDE_DRIVES].drive[i % IDE_DRIVES];

		if (!d->block)
			return d;
	}
	return NULL;
}

static int plug(struct ide_drive *d, struct block *block, const struct device *dev, bool iothread,
		struct error *e)
{
	struct block_queue_config backend = {
		.loop = d->ch->ide->dev.host->loop,
		.lock = &d->ch->lock,
		.depth = 1,
		.name = dev->name,
		.account = dev->account,
	};
	int err;

	d->block = block;
	d->account = dev->account;
	d->sectors = block_info(block)->size / BLOCK_SECTOR;
	if (iothread) {
		d->loop = event_loop_create(dev->name, e);
		if (!d->loop)
			return -ENOMEM;
		event_loop_account(d->loop, dev->account);
		backend.loop = d->loop;
	}
	err = block_queue_create(&d->backend, block, &backend, e);
	if (err)
		return err;
	return d->loop ? event_loop_start(d->loop, e) : 0;
}

/* Onto a controller that has, or gets, a place for it. */
static int attach(struct ide_disk *disk, struct block *block, const struct device_config *config,
		  struct error *e)
{
	struct ide *ide = disk->ide;
	struct ide_drive *d = free_place(ide);
	int err;

	if (!d)
		return error_set(e, -ENOSPC,
				 "an IDE controller has places for %u disks; hw=nvme takes more",
				 IDE_CHANNELS * IDE_DRIVES);
	err = block_serial_from(config, d->serial, e);
	if (!err)
		err = plug(d, block, &disk->dev, device_config_bool(config, "iothread"), e);
	if (err) {
		unplug(d);
		return err;
	}
	disk->drive = d;
	ide->disks++;
	return 0;
}

static int check_block(const struct block *block, struct error *e)
{
	uint32_t size = block_info(block)->logical_block;

	return size == BLOCK_SECTOR
		       ? 0
		       : error_set(
				 e, -EINVAL,
				 "its sectors have %u bytes, those of an IDE disk %u; use hw=nvme",
				 size, BLOCK_SECTOR);
}

int ide_create(struct device_host *host, const struct device_config *config, struct block *block,
	       struct device **out, struct error *e)
{
	struct ide_disk *disk = calloc(1, sizeof(*disk));
	int err;

	if (!disk) {
		block_close(block);
		return error_set(e, -ENOMEM, "out of memory");
	}
	err = check_block(block, e);
	if (!err) {
		device_init(&disk->dev, &device_ops, host, config);
		disk->ide = ide_find(host);
		if (!disk->ide)
			disk->ide = make_controller(host, e);
		err = disk->ide ? attach(disk, block, config, e) : -EIO; /* e says what */
		if (err && disk->ide && disk->ide->disks == 0)
			destroy_controller(disk->ide);
	}
	if (err) {
		block_close(block);
		free(disk);
		return err;
	}
	*out = &disk->dev;
	return 0;
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	const struct block_config backend = block_config_from(config);
	struct block *block;
	int err = block_open(&block, &backend, e);

	return err ? err : ide_create(host, config, block, out, e);
}

static const struct device_key keys[] = {
	BLOCK_KEYS,
	BLOCK_SERIAL_KEY,
	{ .name = "iothread",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "what the disk takes long for completes on its own thread, not the main one" },
	{ 0 },
};

const struct device_row row_ide = {
	.class = CLASS_BLK,
	.model = MODEL_EMULATED,
	.hw = "ide",
	.preferred = true,
	.summary = "IDE disk on a disk image; up to four share a controller (Intel ICH4)",
	.target = "IMAGE",
	.target_required = true,
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
