/*
 * SMART: enough for a host to learn that the disk is well. ATA/ATAPI-7 volume 1, section 6.53; the
 * attributes' layout and numbers are those that disks and smartmontools have agreed on. There is no
 * self-test, and the data say so.
 */
#include <string.h>

#include "devices/emulated/ide.h"

#define ATTRIBUTES 30u /* places in a table, from byte 2 on, of 12 bytes */

#define PREFAIL 0x01u /* below its threshold the disk is about to fail */
#define ONLINE	0x02u /* kept up to date in operation */

static const struct attribute {
	uint8_t id, flags, threshold;
	uint64_t raw;
} attributes[] = {
	{ 5, PREFAIL | ONLINE, 10, 0 },	  /* reallocated sectors */
	{ 12, ONLINE, 0, 1 },		  /* power cycles */
	{ 194, ONLINE, 0, 40 },		  /* °C */
	{ 197, ONLINE, 0, 0 },		  /* sectors that wait to be reallocated */
	{ 199, PREFAIL | ONLINE, 50, 0 }, /* errors on the cable */
};

#define COUNT (sizeof(attributes) / sizeof(attributes[0]))

_Static_assert(COUNT <= ATTRIBUTES, "they fit");

/* The last byte makes the sum of all 512 zero. */
static void give(struct ide_drive *d)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < BLOCK_SECTOR - 1; i++)
		sum = (uint8_t)(sum + d->buffer[i]);
	d->buffer[BLOCK_SECTOR - 1] = (uint8_t)-sum;
	ide_give(d, BLOCK_SECTOR);
}

static void read_data(struct ide_drive *d)
{
	uint8_t *p = d->buffer;

	memset(p, 0, BLOCK_SECTOR);
	p[0] = 0x10; /* revision */
	for (unsigned i = 0; i < COUNT; i++) {
		uint8_t *a = p + 2 + 12 * i;

		a[0] = attributes[i].id;
		a[1] = attributes[i].flags;
		a[3] = a[4] = 100; /* now, and at its worst */
		for (unsigned byte = 0; byte < 6; byte++)
			a[5 + byte] = (uint8_t)(attributes[i].raw >> 8 * byte);
	}
	p[368] = 0x03; /* saves its data, also by itself */
	p[370] = 0x01; /* keeps an error log */
	give(d);
}

static void read_limits(struct ide_drive *d)
{
	uint8_t *p = d->buffer;

	memset(p, 0, BLOCK_SECTOR);
	p[0] = 0x10;
	for (unsigned i = 0; i < COUNT; i++) {
		p[2 + 12 * i] = attributes[i].id;
		p[3 + 12 * i] = attributes[i].threshold;
	}
	give(d);
}

/* The directory, and a summary error log without errors: what the disk meets are the host's. */
static void read_log(struct ide_drive *d)
{
	uint8_t log = d->file.lba[0][0];

	if (log > 1 || d->file.count[0] != 1) {
		ide_abort_command(d);
		return;
	}
	memset(d->buffer, 0, BLOCK_SECTOR);
	d->buffer[0] = 1; /* version */
	if (log == 0) {
		d->buffer[2] = 1; /* log 1 has one sector; the directory has no sum */
		ide_give(d, BLOCK_SECTOR);
	} else {
		give(d);
	}
}

void ide_smart(struct ide_drive *d)
{
	struct ide_file *f = &d->file;

	if (f->lba[1][0] != ATA_SMART_KEY_MID || f->lba[2][0] != ATA_SMART_KEY_HIGH ||
	    (!d->smart && f->feature[0] != ATA_SMART_ENABLE)) {
		ide_abort_command(d);
		return;
	}
	switch (f->feature[0]) {
	case ATA_SMART_READ_DATA:
		read_data(d);
		break;
	case ATA_SMART_READ_LIMITS:
		read_limits(d);
		break;
	case ATA_SMART_READ_LOG:
		read_log(d);
		break;
	case ATA_SMART_ENABLE:
	case ATA_SMART_DISABLE:
		d->smart = f->feature[0] == ATA_SMART_ENABLE;
		ide_done(d);
		break;
	case ATA_SMART_AUTOSAVE:
	case ATA_SMART_RETURN_STATUS: /* the key stays as it is: no threshold exceeded */
		ide_done(d);
		break;
	default:
		ide_abort_command(d);
	}
}
