/*
 * IDENTIFY DEVICE. ATA/ATAPI-7 volume 1, section 6.17; words 69, 105, 106, 169 and 217 as later
 * standards have them.
 */
#include <string.h>

#include "devices/emulated/ide.h"

/* Strings have the first character in a word's upper byte, and are padded with blanks. */
static void put_text(uint16_t *word, unsigned words, const char *text)
{
	for (unsigned i = 0; i < words; i++) {
		uint8_t high = *text ? (uint8_t)*text++ : ' ';
		uint8_t low = *text ? (uint8_t)*text++ : ' ';

		word[i] = (uint16_t)(high << 8 | low);
	}
}

static void put_number(uint16_t *word, unsigned words, uint64_t value)
{
	for (unsigned i = 0; i < words; i++)
		word[i] = (uint16_t)(value >> 16 * i);
}

/* By the translation that is set; drivers of today take LBA. */
static void put_geometry(const struct ide_drive *d, uint16_t *word)
{
	uint64_t cylinders = d->sectors / (16 * 63);
	uint64_t current = d->sectors / (d->heads * d->track);

	cylinders = cylinders < 16383 ? cylinders : 16383;
	current = current < 65535 ? current : 65535;
	word[1] = (uint16_t)cylinders;
	word[3] = 16;
	word[6] = 63;
	word[54] = (uint16_t)current;
	word[55] = (uint16_t)d->heads;
	word[56] = (uint16_t)d->track;
	put_number(&word[57], 2, current * d->heads * d->track);
}

static void put_modes(const struct ide_drive *d, uint16_t *word)
{
	word[49] = 0x2f00; /* standby timer, IORDY, LBA, DMA */
	word[50] = 0x4000;
	word[51] = 0x0200; /* PIO mode 2 without more */
	word[53] = 0x0007; /* words 54-58, 64-70 and 88 hold */
	word[63] = (uint16_t)(0x0007 | (d->mwdma ? 0x80 << d->mwdma : 0));
	word[64] = 0x0003;				 /* PIO 3 and 4 */
	word[65] = word[66] = word[67] = word[68] = 120; /* ns */
	word[88] = (uint16_t)(0x003f | (d->udma ? 0x80 << d->udma : 0));
	word[93] = d->unit ? 0x6b00 : 0x600b; /* 80 wires; reset: passed, number by jumper */
}

static void put_commands(const struct ide_drive *d, uint16_t *word)
{
	word[80] = 0x00f0; /* ATA-4 … ATA-7 */
	word[82] = 0x0069; /* look-ahead, write cache, power management, SMART */
	word[83] = 0x7400; /* FLUSH CACHE (EXT), LBA48 */
	word[84] = 0x4041; /* FUA, SMART error log */
	word[85] = (uint16_t)(0x0008 | (d->smart ? 0x01 : 0) | (d->write_cache ? 0x20 : 0) |
			      (d->look_ahead ? 0x40 : 0));
	word[86] = 0x3400;
	word[87] = 0x4041;
}

static void put_capacity(const struct ide_drive *d, uint16_t *word)
{
	const struct block_info *info = block_info(d->block);
	unsigned ratio = info->physical_block / info->logical_block;

	put_number(&word[60], 2, d->sectors < ATA_LBA28_MAX ? d->sectors : ATA_LBA28_MAX);
	put_number(&word[100], 4, d->sectors);
	word[106] = (uint16_t)(ratio > 1 ? 0x6000 | __builtin_ctz(ratio) : 0x4000);
	word[209] = 0x4000;
	if (info->can_discard) {
		word[105] = IDE_TRIM_BLOCKS;
		word[169] = 0x0001;
	}
	word[217] = 1; /* does not rotate */
}

/* Word 255: a mark, and what makes the sum of all bytes 0. */
static void put_checksum(uint16_t *word)
{
	uint8_t sum = 0xa5;

	for (unsigned i = 0; i < 255; i++)
		sum = (uint8_t)(sum + (word[i] & 0xff) + (word[i] >> 8));
	word[255] = (uint16_t)((uint8_t)-sum << 8 | 0xa5);
}

void ide_identify(struct ide_drive *d)
{
	uint16_t word[256] = { 0x0040 }; /* ATA, fixed */

	put_geometry(d, word);
	put_text(&word[10], 10, d->serial);
	put_text(&word[23], 4, MVM_VERSION);
	put_text(&word[27], 20, "mvm IDE disk");
	word[47] = 0x8000 | IDE_MULTIPLE;
	word[59] = (uint16_t)(d->multiple ? 0x0100 | d->multiple : 0);
	put_modes(d, word);
	put_commands(d, word);
	put_capacity(d, word);
	put_checksum(word);
	memcpy(d->buffer, word, sizeof(word));
	ide_give(d, sizeof(word));
}
