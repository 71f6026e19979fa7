/*
 * IDE's data: sectors by the data port and by the bus master, with every kind of address,
 * descriptor tables of all shapes, errors of the disk, and resets while it is slow.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_ide_rig.h"

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 13 + (i >> 9) + seed);
}

/* ---- the data port --------------------------------------------------------------------------- */

/* n sectors in DRQ blocks of so many; each block but a write's first comes with an interrupt. */
static void write_pio(struct irig *r, uint8_t command, bool ext, uint64_t lba, unsigned n,
		      unsigned block, const uint8_t *data)
{
	(ext ? irig_issue_ext : irig_issue)(r, command, lba, n);
	cr_assert_not(irig_line(r));
	for (unsigned at = 0; at < n; at += block) {
		irig_give(r, data + at * 512, (n - at < block ? n - at : block) * 512);
		irig_wait(r);
		vrig_wait(irig_line(r));
		cr_assert_eq(irig_in(r, STATUS), at + block < n ? READY | ATA_DRQ : READY);
	}
}

static void read_pio(struct irig *r, uint8_t command, bool ext, uint64_t lba, unsigned n,
		     unsigned block, uint8_t *data)
{
	(ext ? irig_issue_ext : irig_issue)(r, command, lba, n);
	for (unsigned at = 0; at < n; at += block) {
		irig_wait(r);
		vrig_wait(irig_line(r));
		cr_assert_eq(irig_in(r, STATUS), READY | ATA_DRQ);
		irig_take(r, data + at * 512, (n - at < block ? n - at : block) * 512);
	}
	cr_assert_eq(irig_wait(r), READY);
	cr_assert_not(irig_line(r));
}

static void by_data_port(const char *keys)
{
	struct irig *r = irig_create(2, keys);
	uint8_t *out = malloc(400 * 512), *in = malloc(400 * 512);

	fill(out, 400 * 512, 1);
	irig_select(r, 0, 1);
	cr_assert_eq(irig_do(r, ATA_SET_MULTIPLE, 0, 16), READY);
	write_pio(r, ATA_WRITE_SECTORS, false, 100, 1, 1, out);
	write_pio(r, ATA_WRITE_SECTORS, false, 101, 5, 1, out + 512);
	write_pio(r, ATA_WRITE_MULTIPLE, false, 106, 37, 16, out + 6 * 512);
	write_pio(r, ATA_WRITE_MULTIPLE_EXT, true, 143, 257, 16, out + 43 * 512);
	write_pio(r, ATA_WRITE_SECTORS_EXT, true, 400, 100, 1, out + 300 * 512);
	read_pio(r, ATA_READ_SECTORS, false, 100, 200, 1, in);
	read_pio(r, ATA_READ_MULTIPLE, false, 300, 19, 16, in + 200 * 512);
	read_pio(r, ATA_READ_SECTORS_EXT, true, 319, 31, 1, in + 219 * 512);
	read_pio(r, ATA_READ_MULTIPLE_EXT, true, 350, 150, 16, in + 250 * 512);
	cr_assert_eq(memcmp(in, out, 400 * 512), 0);
	/* Count 0 is 256. */
	read_pio(r, ATA_READ_MULTIPLE, false, 100, 256, 16, in);
	cr_assert_eq(memcmp(in, out, 256 * 512), 0);
	/* The other disk has none of it. */
	irig_select(r, 0, 0);
	read_pio(r, ATA_READ_SECTORS, false, 100, 1, 1, in);
	cr_assert_eq(in[1] | in[511], 0);
	free(out);
	free(in);
	irig_destroy(r);
}

Test(ide_data, data_port, .timeout = 60)
{
	by_data_port("");
	by_data_port("iothread=off");
}

/* 32 bits at once, and nothing where no data is wanted. */
Test(ide_data, data_port_accesses)
{
	struct irig *r = irig_create(1, "");
	uint16_t word[256], again[256];
	uint64_t value;

	bus_read(r->v->host.pio, 0x1f0, 2, &value);
	cr_assert_eq(value, 0xffff);
	bus_write(r->v->host.pio, 0x1f0, 4, 0);
	irig_identify(r, word);
	irig_out(r, COMMAND, ATA_IDENTIFY_DEVICE);
	for (unsigned i = 0; i < 128; i++) {
		bus_read(r->v->host.pio, 0x1f0, 4, &value);
		memcpy(again + 2 * i, &value, 4);
	}
	cr_assert_eq(memcmp(word, again, 512), 0);
	cr_assert_eq(irig_in(r, STATUS), READY);
	irig_destroy(r);
}

static void chs(struct irig *r, uint8_t command, unsigned cylinder, unsigned head, unsigned sector)
{
	irig_out(r, DEVICE, (uint8_t)(ATA_DEV_SET | head));
	irig_out(r, COUNT, 1);
	irig_out(r, LBA0, (uint8_t)sector);
	irig_out(r, LBA1, (uint8_t)cylinder);
	irig_out(r, LBA2, (uint8_t)(cylinder >> 8));
	irig_out(r, COMMAND, command);
}

Test(ide_data, cylinders_heads_sectors)
{
	struct irig *r = irig_create(1, "");
	uint8_t out[512], in[512];

	fill(out, 512, 7);
	write_pio(r, ATA_WRITE_SECTORS, false, (3 * 16 + 5) * 63 + 9, 1, 1, out);
	chs(r, ATA_READ_SECTORS, 3, 5, 10);
	irig_take(r, in, 512);
	cr_assert_eq(memcmp(in, out, 512), 0);
	for (unsigned bad = 0; bad < 3; bad++) {
		chs(r, ATA_READ_SECTORS, bad == 2 ? 0xffff : 0, 0,
		    bad == 0   ? 0
		    : bad == 1 ? 64
			       : 1);
		cr_assert_eq(irig_in(r, STATUS), READY | ATA_ERR);
		cr_assert_eq(irig_in(r, ERROR), ATA_IDNF);
	}
	irig_out(r, DEVICE, ATA_DEV_SET | 1);
	irig_do(r, ATA_INITIALIZE_PARAMETERS, 0, 9);
	chs(r, ATA_READ_SECTORS, 3, 2, 1);
	cr_assert_eq(irig_in(r, ERROR), ATA_IDNF, "there are two heads now");
	irig_destroy(r);
}

static void out_of_range(struct irig *r, uint8_t command, bool ext, uint64_t lba, uint32_t n)
{
	(ext ? irig_issue_ext : irig_issue)(r, command, lba, n);
	cr_assert_eq(irig_in(r, STATUS), READY | ATA_ERR);
	cr_assert_eq(irig_in(r, ERROR), ATA_IDNF);
}

Test(ide_data, out_of_range)
{
	struct irig *r = irig_create(1, "");

	out_of_range(r, ATA_READ_SECTORS, false, IRIG_SECTORS, 1);
	out_of_range(r, ATA_READ_SECTORS, false, IRIG_SECTORS - 1, 2);
	out_of_range(r, ATA_WRITE_DMA, false, IRIG_SECTORS - 255, 0);
	out_of_range(r, ATA_READ_DMA_EXT, true, IRIG_SECTORS - 1, 0);
	out_of_range(r, ATA_READ_DMA_EXT, true, 0xffffffffffff, 1);
	out_of_range(r, ATA_READ_VERIFY_EXT, true, 1ull << 40, 1);
	irig_issue(r, ATA_READ_MULTIPLE, 0, 1);
	cr_assert_eq(irig_in(r, ERROR), ATA_ABRT, "no block size is set");
	irig_issue_ext(r, ATA_READ_VERIFY_EXT, 0, 0);
	cr_assert_eq(irig_wait(r), READY, "all 65536 of them");
	irig_destroy(r);
}

/* ---- the bus master -------------------------------------------------------------------------- */

Test(ide_data, bus_master_registers)
{
	struct irig *r = irig_create(1, "");
	const struct reg_table *t = &ide_bm_registers;

	for (unsigned i = 0; i < t->count; i++)
		cr_assert_eq(irig_bm_in(r, t->reg[i].offset, t->reg[i].width), t->reg[i].reset);
	irig_bm_out(r, BMIDTP, 4, 0xffffffff);
	cr_assert_eq(irig_bm_in(r, BMIDTP, 4), 0xfffffffc);
	irig_bm_out(r, BMIDTP + 1, 1, 0x12);
	cr_assert_eq(irig_bm_in(r, BMIDTP, 4), 0xffff12fc);
	irig_bm_out(r, BMIC, 1, 0xfe);
	cr_assert_eq(irig_bm_in(r, BMIC, 1), 8);
	irig_bm_out(r, BMIS, 1, 0xff);
	cr_assert_eq(irig_bm_in(r, BMIS, 1), 0x60);
	cr_assert_eq(irig_bm_in(r, 1, 1) | irig_bm_in(r, 3, 1), 0);
	/* The other channel has its own. */
	r->channel = 1;
	cr_assert_eq(irig_bm_in(r, BMIDTP, 4) | irig_bm_in(r, BMIS, 1), 0);
	irig_destroy(r);
}

/* Waits for the interrupt, stops, and reads Status: how a driver ends a transfer. */
static uint8_t end_dma(struct irig *r, uint8_t *bm)
{
	vrig_wait(irig_line(r));
	*bm = (uint8_t)irig_bm_in(r, BMIS, 1);
	irig_bm_stop(r);
	irig_bm_out(r, BMIS, 1, 6);
	return irig_in(r, STATUS);
}

/* Through pieces of these sizes; start before or after the command. */
static void dma(struct irig *r, bool ext, uint64_t lba, unsigned sectors, const uint32_t *piece,
		unsigned pieces, bool start_first)
{
	uint8_t *flat = irig_at(r, MODEL_HIGH, sectors * 512), bm;
	uint32_t at = 0;

	for (unsigned round = 0; round < 2; round++) {
		bool in = round == 1;

		at = 0;
		for (unsigned i = 0; i < pieces; i++) {
			/* With gaps, so that none joins its neighbour. */
			uint32_t address = (uint32_t)IRIG_BUFFER + at + 32 * i;

			irig_prd(r, i, address, piece[i], i == pieces - 1);
			if (!in) {
				fill(irig_at(r, address, piece[i]), piece[i], i + (unsigned)lba);
				memcpy(flat + at, irig_at(r, address, piece[i]), piece[i]);
			} else {
				memset(irig_at(r, address, piece[i]), 0, piece[i]);
			}
			at += piece[i];
		}
		cr_assert_eq(at, sectors * 512);
		if (start_first)
			irig_bm_start(r, in);
		(ext ? irig_issue_ext
		     : irig_issue)(r,
				   ext ? (in ? ATA_READ_DMA_EXT : ATA_WRITE_DMA_EXT)
				       : (in ? ATA_READ_DMA : ATA_WRITE_DMA),
				   lba, sectors);
		if (!start_first)
			irig_bm_start(r, in);
		cr_assert_eq(end_dma(r, &bm), READY);
		cr_assert_eq(bm & 7, 4, "interrupt, not active, no error");
	}
	at = 0;
	for (unsigned i = 0; i < pieces; i++) {
		cr_assert_eq(memcmp(irig_at(r, IRIG_BUFFER + at + 32 * i, piece[i]), flat + at,
				    piece[i]),
			     0);
		at += piece[i];
	}
}

static void dma_of_all_shapes(const char *keys, bool native)
{
	struct irig *r = irig_create(4, keys);
	uint32_t words[256], pages[256];

	irig_mode(r, native);
	irig_select(r, 1, 1);
	dma(r, false, 8, 8, (uint32_t[]){ 4096 }, 1, false);
	dma(r, false, 8, 8, (uint32_t[]){ 2, 4092, 2 }, 3, true);
	dma(r, true, 1000, 128, (uint32_t[]){ 65536 }, 1, false);
	dma(r, true, 1000, 2, (uint32_t[]){ 514, 100, 410 }, 3, false);
	for (unsigned i = 0; i < 256; i++)
		words[i] = 2;
	dma(r, true, 77, 1, words, 256, false);
	/* More descriptors than iovecs, and a transfer of several pieces. */
	for (unsigned i = 0; i < 256; i++)
		pages[i] = i % 2 ? 4094 : 4098;
	dma(r, true, 4096, 2048, pages, 256, false);
	for (unsigned i = 0; i < 32; i++)
		pages[i] = 65536;
	dma(r, true, 5, 32 * 128, pages, 32, true);
	irig_select(r, 0, 0);
	dma(r, false, 1, 16, (uint32_t[]){ 4096, 4096 }, 2, false);
	irig_destroy(r);
}

Test(ide_data, dma, .timeout = 60)
{
	dma_of_all_shapes("", false);
	dma_of_all_shapes("", true);
	dma_of_all_shapes("iothread=off", false);
	dma_of_all_shapes("engine=threads", false);
}

/* Longer and shorter descriptor tables than the transfer, as the bus master's document has it. */
Test(ide_data, tables_that_do_not_fit)
{
	struct irig *r = irig_create(1, "");
	uint8_t bm;

	irig_prd(r, 0, IRIG_BUFFER, 8192, true);
	irig_issue(r, ATA_READ_DMA, 0, 8);
	irig_bm_start(r, true);
	cr_assert_eq(end_dma(r, &bm), READY);
	cr_assert_eq(bm & 7, 5, "interrupt, still active");
	cr_assert_eq(irig_bm_in(r, BMIS, 1) & 1, 0, "until it is stopped");
	irig_prd(r, 0, IRIG_BUFFER, 2048, true);
	irig_issue(r, ATA_READ_DMA, 0, 8);
	irig_bm_start(r, true);
	vrig_wait((irig_bm_in(r, BMIS, 1) & 7) == 0); /* no interrupt, not active, no error */
	cr_assert_eq(irig_in(r, CONTROL), READY | ATA_DRQ);
	irig_bm_stop(r);
	/* Another table, and the drive goes on where it was. */
	irig_prd(r, 0, IRIG_BUFFER + 2048, 2048, true);
	irig_bm_start(r, true);
	cr_assert_eq(end_dma(r, &bm), READY);
	cr_assert_eq(bm & 7, 4);
	irig_destroy(r);
}

static void bus_error(uint64_t table, uint32_t address, uint32_t bytes)
{
	struct irig *r = irig_create(1, "");
	uint8_t bm;

	irig_prd(r, 0, address, bytes, true);
	irig_bm_out(r, BMIDTP, 4, (uint32_t)table);
	irig_issue(r, ATA_READ_DMA, 0, 8);
	irig_bm_start(r, true);
	vrig_wait(!(irig_bm_in(r, BMIS, 1) & 1));
	cr_assert_eq(irig_bm_in(r, BMIS, 1) & 7, 2, "error");
	cr_assert_not(irig_line(r));
	irig_bm_stop(r);
	irig_out(r, CONTROL, ATA_SRST);
	irig_out(r, CONTROL, 0);
	irig_prd(r, 0, IRIG_BUFFER, 4096, true);
	irig_issue(r, ATA_READ_DMA, 0, 8);
	irig_bm_start(r, true);
	cr_assert_eq(end_dma(r, &bm), READY);
	irig_destroy(r);
}

Test(ide_data, descriptors_that_cannot_be)
{
	bus_error(IRIG_TABLE, MODEL_LOW, 4096);
	bus_error(IRIG_TABLE, MODEL_LOW - 2048, 4096);
	bus_error(IRIG_TABLE, VRIG_ECAM, 4096);
	bus_error(IRIG_TABLE, 0xfffffffe, 4096);
	bus_error(MODEL_LOW, IRIG_BUFFER, 4096);
	bus_error(0xfffffffc, IRIG_BUFFER, 4096);
}

/* A table without an end goes round in its 64 KiB; descriptors of 2 bytes; the wrong direction. */
Test(ide_data, tables_without_end)
{
	struct irig *r = irig_create(1, "");
	uint8_t bm;

	for (unsigned i = 0; i < 8192; i++)
		irig_prd(r, i, IRIG_BUFFER, 2, false);
	irig_issue_ext(r, ATA_READ_DMA_EXT, 0, 0);
	irig_bm_start(r, true);
	vrig_wait((irig_bm_in(r, BMIS, 1) & 7) == 2);
	irig_bm_stop(r);
	irig_out(r, CONTROL, ATA_SRST);
	irig_out(r, CONTROL, 0);
	irig_prd(r, 0, IRIG_BUFFER, 4096, true);
	irig_issue(r, ATA_READ_DMA, 0, 8);
	irig_bm_start(r, false);
	usleep(10000);
	cr_assert_not(irig_line(r));
	irig_bm_stop(r);
	irig_bm_start(r, true);
	cr_assert_eq(end_dma(r, &bm), READY);
	irig_destroy(r);
}

Test(ide_data, bus_mastering_off_and_pause)
{
	struct irig *r = irig_create(1, "");
	uint8_t bm;

	for (unsigned way = 0; way < 2; way++) {
		if (way == 0)
			irig_command_register(r, PCI_COMMAND_IO);
		else
			r->disk[0]->ops->pause(r->disk[0]);
		memset(irig_at(r, IRIG_BUFFER, 4096), 0x77, 4096);
		irig_prd(r, 0, IRIG_BUFFER, 4096, true);
		irig_issue(r, ATA_READ_DMA, 0, 8);
		irig_bm_start(r, true);
		usleep(10000);
		cr_assert_not(irig_line(r));
		cr_assert_eq(*irig_at(r, IRIG_BUFFER, 1), 0x77);
		if (way == 0)
			irig_command_register(r, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
		else
			r->disk[0]->ops->start(r->disk[0], NULL);
		cr_assert_eq(end_dma(r, &bm), READY);
		cr_assert_eq(*irig_at(r, IRIG_BUFFER, 1), 0);
	}
	irig_destroy(r);
}

/* ---- stable writes, flush, trim -------------------------------------------------------------- */

Test(ide_data, write_cache, .timeout = 30)
{
	struct irig *r = irig_create_stub("");
	uint8_t data[512] = { 1 }, bm;

	write_pio(r, ATA_WRITE_SECTORS, false, 0, 1, 1, data);
	cr_assert_eq(r->stub->stable_writes, 0);
	cr_assert_eq(irig_do(r, ATA_FLUSH_CACHE, 0, 0), READY);
	cr_assert_eq(irig_do(r, ATA_FLUSH_CACHE_EXT, 0, 0), READY);
	cr_assert_eq(r->stub->flushes, 2);
	irig_prd(r, 0, IRIG_BUFFER, 512, true);
	irig_issue_ext(r, ATA_WRITE_DMA_FUA_EXT, 0, 1);
	irig_bm_start(r, false);
	cr_assert_eq(end_dma(r, &bm), READY);
	cr_assert_eq(r->stub->stable_writes, 1);
	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0x82, 0), READY);
	cr_assert_eq(r->stub->flushes, 3, "off: what is in it is written");
	write_pio(r, ATA_WRITE_SECTORS, false, 0, 1, 1, data);
	cr_assert_eq(r->stub->stable_writes, 2);
	irig_destroy(r);
}

Test(ide_data, trim, .timeout = 30)
{
	struct irig *r = irig_create(1, "");
	uint64_t *entry = (void *)irig_at(r, IRIG_BUFFER, 1024);
	uint8_t data[16 * 512], in[16 * 512], bm;

	memset(data, 0x66, sizeof(data));
	write_pio(r, ATA_WRITE_SECTORS, false, 64, 16, 1, data);
	memset(entry, 0, 1024);
	entry[0] = 64 | 8ull << 48;
	entry[127] = 1000 | 16ull << 48;
	irig_prd(r, 0, IRIG_BUFFER, 100, false);
	irig_prd(r, 1, IRIG_BUFFER + 100, 924, true);
	irig_out(r, FEATURE, 0);
	irig_out(r, FEATURE, 1);
	irig_issue_ext(r, ATA_DATA_SET_MANAGEMENT, 0, 2);
	irig_bm_start(r, false);
	cr_assert_eq(end_dma(r, &bm), READY);
	cr_assert_eq(bm & 7, 4);
	read_pio(r, ATA_READ_SECTORS, false, 64, 16, 1, in);
	cr_assert_eq(in[0] | in[8 * 512 - 1], 0);
	cr_assert_eq(in[8 * 512], 0x66);
	/* In more pieces than are taken at once. */
	entry[127] = 72 | 8ull << 48;
	for (unsigned i = 0; i < 512; i++) {
		uint64_t at = IRIG_BUFFER + 0x1000 + 4 * i;

		memcpy(irig_at(r, at, 2), (uint8_t *)entry + 2 * i, 2);
		irig_prd(r, i, (uint32_t)at, 2, i == 511);
	}
	irig_issue_ext(r, ATA_DATA_SET_MANAGEMENT, 0, 2);
	irig_bm_start(r, false);
	cr_assert_eq(end_dma(r, &bm), READY);
	cr_assert_eq(bm & 7, 4);
	read_pio(r, ATA_READ_SECTORS, false, 64, 16, 1, in);
	cr_assert_eq(in[8 * 512], 0);
	irig_prd(r, 0, IRIG_BUFFER, 1024, true);
	entry[1] = (IRIG_SECTORS - 1) | 2ull << 48;
	irig_issue_ext(r, ATA_DATA_SET_MANAGEMENT, 0, 2);
	irig_bm_start(r, false);
	cr_assert_eq(end_dma(r, &bm), READY | ATA_ERR);
	cr_assert_eq(irig_in(r, ERROR), ATA_IDNF);
	irig_issue_ext(r, ATA_DATA_SET_MANAGEMENT, 0, IDE_TRIM_BLOCKS + 1);
	cr_assert_eq(irig_in(r, STATUS), READY | ATA_ERR);
	irig_out(r, FEATURE, 0);
	irig_issue_ext(r, ATA_DATA_SET_MANAGEMENT, 0, 1);
	cr_assert_eq(irig_in(r, STATUS), READY | ATA_ERR);
	irig_destroy(r);
}

/* ---- errors of the disk ---------------------------------------------------------------------- */

Test(ide_data, errors_of_the_disk, .timeout = 30)
{
	struct irig *r = irig_create_stub("");
	uint8_t data[512] = { 0 }, bm;

	r->stub->fail = -EIO;
	irig_issue(r, ATA_READ_SECTORS, 0x123, 1);
	cr_assert_eq(irig_wait(r), READY | ATA_ERR);
	cr_assert_eq(irig_in(r, ERROR), ATA_UNC);
	cr_assert_eq(irig_in(r, LBA0) | irig_in(r, LBA1) << 8, 0x123);
	irig_issue(r, ATA_WRITE_SECTORS, 0, 1);
	irig_give(r, data, 512);
	cr_assert_eq(irig_wait(r), READY | ATA_ERR | ATA_DF);
	irig_prd(r, 0, IRIG_BUFFER, 512, true);
	irig_issue(r, ATA_READ_DMA, 0, 1);
	irig_bm_start(r, true);
	cr_assert_eq(end_dma(r, &bm), READY | ATA_ERR);
	cr_assert_eq(irig_do(r, ATA_FLUSH_CACHE, 0, 0), READY | ATA_ERR | ATA_DF);
	r->stub->fail = 0;
	irig_issue(r, ATA_READ_SECTORS, 0, 1);
	irig_take(r, data, 512);
	irig_destroy(r);
	r = irig_create(1, "ro=on");
	irig_issue(r, ATA_WRITE_SECTORS, 0, 1);
	irig_give(r, data, 512);
	cr_assert_eq(irig_wait(r), READY | ATA_ERR);
	cr_assert_eq(irig_in(r, ERROR), ATA_ABRT);
	irig_destroy(r);
}

/* ---- stopping -------------------------------------------------------------------------------- */

enum way { WAY_SRST, WAY_STOP, WAY_BUS_MASTER, WAY_MACHINE_RESET };

struct stopper {
	struct irig *r;
	enum way way;
	bool done; /* atomic */
};

static void *stop_thread(void *arg)
{
	struct stopper *t = arg;

	switch (t->way) {
	case WAY_SRST:
		irig_out(t->r, CONTROL, ATA_SRST);
		irig_out(t->r, CONTROL, 0);
		break;
	case WAY_STOP:
		irig_bm_stop(t->r);
		break;
	case WAY_BUS_MASTER:
		irig_command_register(t->r, PCI_COMMAND_IO);
		break;
	case WAY_MACHINE_RESET:
		t->r->disk[0]->ops->reset(t->r->disk[0]);
		break;
	}
	__atomic_store_n(&t->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* A DMA read of several pieces is in the disk: the stop waits, and then memory is left alone. */
static void stop_in_flight(enum way way, const char *keys)
{
	struct irig *r = irig_create_stub(keys);
	struct stopper t = { .r = r, .way = way };
	uint8_t *before = malloc(MODEL_LOW);
	pthread_t thread;
	uint8_t bm;

	r->stub->no_nowait = true;
	memset(r->stub->data, 0x55, IRIG_SECTORS * 512);
	for (unsigned i = 0; i < 48; i++)
		irig_prd(r, i, IRIG_BUFFER, 0, i == 47);
	stub_gate(r->stub, true);
	irig_issue_ext(r, ATA_READ_DMA_EXT, 0, 48 * 128);
	irig_bm_start(r, true);
	vrig_wait(stub_waiting(r->stub) == 1);
	pthread_create(&thread, NULL, stop_thread, &t);
	usleep(20000);
	cr_assert_not(__atomic_load_n(&t.done, __ATOMIC_SEQ_CST));
	stub_gate(r->stub, false);
	pthread_join(thread, NULL);
	cr_assert_eq(stub_waiting(r->stub), 0);
	memset(irig_at(r, IRIG_BUFFER, 65536), 0, 65536);
	memcpy(before, irig_at(r, 0, MODEL_LOW), MODEL_LOW);
	usleep(20000);
	cr_assert_eq(memcmp(before, irig_at(r, 0, MODEL_LOW), MODEL_LOW), 0);
	irig_command_register(r, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
	if (way == WAY_MACHINE_RESET) {
		vrig_write(r->v, r->config + PCI_BASE_ADDRESS_4, 4, r->bm);
		irig_mode(r, false);
	} else if (way == WAY_BUS_MASTER) {
		cr_assert_eq(end_dma(r, &bm), READY, "it goes on");
	}
	irig_bm_stop(r);
	irig_out(r, CONTROL, ATA_SRST);
	irig_out(r, CONTROL, 0);
	irig_prd(r, 0, IRIG_BUFFER, 512, true);
	irig_issue(r, ATA_READ_DMA, 0, 1);
	irig_bm_start(r, true);
	cr_assert_eq(end_dma(r, &bm), READY);
	cr_assert_eq(*irig_at(r, IRIG_BUFFER, 1), 0x55);
	free(before);
	irig_destroy(r);
}

Test(ide_data, stops_with_a_transfer_in_flight, .timeout = 60)
{
	stop_in_flight(WAY_SRST, "");
	stop_in_flight(WAY_SRST, "iothread=off");
	stop_in_flight(WAY_STOP, "");
	stop_in_flight(WAY_BUS_MASTER, "");
	stop_in_flight(WAY_MACHINE_RESET, "");
}
