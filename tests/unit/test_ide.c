/*
 * IDE from the driver's side, as ATA-7 has it: registers, selection, interrupts, resets, and the
 * commands that move no data or give a page. Sectors are in test_ide_data.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_ide_rig.h"

/* ---- registers ------------------------------------------------------------------------------- */

Test(ide, after_power_on)
{
	struct irig *r = irig_create(1, "");
	const struct reg_table *t = &ide_registers;

	irig_mode(r, true);
	cr_assert_eq(vrig_read(r->v, r->config, 4), 0x24cb8086);
	cr_assert_eq(vrig_read(r->v, r->config + PCI_CLASS_REVISION, 4) >> 8, 0x01018f);
	cr_assert_eq(vrig_read(r->v, r->config + PCI_INTERRUPT_PIN, 1), 1);
	cr_assert_eq(vrig_read(r->v, r->config + IDE_CONFIG, 2), 0x00f0);
	cr_assert_eq(vrig_read(r->v, r->config + 0x40, 4), 0x80008000);
	/* The signature of a device without the PACKET commands. */
	for (unsigned reg = ERROR; reg <= STATUS; reg++) {
		int i = reg_find(t, reg, 1, REG_READ, 0);

		cr_assert_eq(irig_in(r, reg), t->reg[i].reset, "%s", t->reg[i].name);
	}
	cr_assert_eq(irig_in(r, CONTROL), READY);
	cr_assert_eq(irig_bm_in(r, BMIC, 1) | irig_bm_in(r, BMIS, 1), 0);
	cr_assert_not(irig_line(r));
	irig_destroy(r);
}

Test(ide, registers_keep_what_is_written_and_what_was_before)
{
	struct irig *r = irig_create(1, "");

	for (unsigned reg = COUNT; reg <= LBA2; reg++) {
		irig_out(r, reg, (uint8_t)(0x10 + reg));
		irig_out(r, reg, (uint8_t)(0x20 + reg));
	}
	for (unsigned reg = COUNT; reg <= LBA2; reg++)
		cr_assert_eq(irig_in(r, reg), 0x20 + reg);
	irig_out(r, CONTROL, ATA_HOB);
	for (unsigned reg = COUNT; reg <= LBA2; reg++)
		cr_assert_eq(irig_in(r, reg), 0x10 + reg);
	irig_out(r, COUNT, 1); /* any write to the command block ends it */
	cr_assert_eq(irig_in(r, LBA0), 0x20 + LBA0);
	irig_out(r, DEVICE, 0x4f);
	cr_assert_eq(irig_in(r, DEVICE), 0xef);
	/* 16 bits at once, as two registers. */
	bus_write(r->v->host.pio, 0x1f2, 2, 0x5544);
	cr_assert_eq(irig_in(r, COUNT), 0x44);
	cr_assert_eq(irig_in(r, LBA0), 0x55);
	irig_destroy(r);
}

/* Ports answer while the function decodes I/O and the channel is on. */
Test(ide, decoding)
{
	struct irig *r = irig_create(3, "");

	irig_command_register(r, 0);
	cr_assert_eq(irig_in(r, STATUS), 0xff);
	irig_command_register(r, PCI_COMMAND_IO);
	cr_assert_eq(irig_in(r, STATUS), READY);
	vrig_write(r->v, r->config + 0x40, 2, 0);
	cr_assert_eq(irig_in(r, STATUS), 0xff);
	irig_out(r, COUNT, 0x12);
	irig_out(r, CONTROL, ATA_SRST);
	irig_select(r, 1, 0);
	cr_assert_eq(irig_in(r, STATUS), READY);
	vrig_write(r->v, r->config + 0x42, 2, 0);
	cr_assert_eq(irig_in(r, CONTROL), 0xff);
	vrig_write(r->v, r->config + 0x40, 4, 0x80008000);
	cr_assert_eq(irig_in(r, CONTROL), READY);
	irig_select(r, 0, 0);
	cr_assert_eq(irig_in(r, COUNT), 1);
	irig_destroy(r);
}

/* A channel is at its BARs or at its ports, and its interrupt at the pin or at its line. */
Test(ide, modes)
{
	struct irig *r = irig_create(3, "");
	uint16_t word[256];

	irig_out(r, COMMAND, ATA_IDLE_IMMEDIATE);
	cr_assert(irig_line(r));
	irig_mode(r, true);
	cr_assert(irig_line(r), "the interrupt goes along");
	cr_assert_not(r->v->chip.level[14]);
	cr_assert_eq(irig_in(r, STATUS), READY);
	cr_assert_not(irig_line(r));
	irig_identify(r, word);
	cr_assert_eq(word[0], 0x0040);
	r->native = false;
	cr_assert_eq(irig_in(r, STATUS), 0xff);
	r->native = true;
	/* Both channels on one pin. */
	irig_out(r, COMMAND, ATA_IDLE_IMMEDIATE);
	irig_select(r, 1, 0);
	irig_out(r, COMMAND, ATA_IDLE_IMMEDIATE);
	cr_assert_eq(irig_in(r, STATUS), READY);
	cr_assert(irig_line(r));
	irig_select(r, 0, 0);
	cr_assert_eq(irig_in(r, STATUS), READY);
	cr_assert_not(irig_line(r));
	/* One of each. */
	vrig_write(r->v, r->config + IDE_PROGIF, 1, 0x04);
	r->native = false;
	cr_assert_eq(irig_in(r, STATUS), READY);
	irig_select(r, 1, 0);
	cr_assert_eq(irig_in(r, STATUS), 0xff);
	r->native = true;
	cr_assert_eq(irig_in(r, CONTROL), READY);
	irig_out(r, CONTROL, ATA_NIEN);
	irig_destroy(r);
}

Test(ide, who_is_there)
{
	struct irig *r = irig_create(1, "");

	irig_select(r, 0, 1); /* device 0 answers for a slave that is not there */
	cr_assert_eq(irig_in(r, STATUS), 0);
	irig_out(r, COUNT, 0x55);
	cr_assert_eq(irig_in(r, COUNT), 0);
	irig_out(r, COMMAND, ATA_IDENTIFY_DEVICE);
	cr_assert_eq(irig_in(r, STATUS), 0);
	irig_select(r, 1, 0); /* nobody: the bus floats */
	cr_assert_eq(irig_in(r, STATUS) & ATA_BSY, 0);
	irig_out(r, COUNT, 0x55);
	cr_assert_neq(irig_in(r, COUNT), 0x55);
	irig_out(r, COMMAND, ATA_EXECUTE_DIAGNOSTIC);
	cr_assert_not(irig_line(r));
	irig_destroy(r);
}

static void model_and_serial(const uint16_t *word, unsigned words, char *text)
{
	for (unsigned i = 0; i < words; i++) {
		text[2 * i] = (char)(word[i] >> 8);
		text[2 * i + 1] = (char)word[i];
	}
	text[2 * words] = 0;
}

Test(ide, four_disks_on_one_controller)
{
	struct irig *r = irig_create(4, "");
	struct device_config config;
	struct device *out = NULL;
	struct error e = { 0 };
	uint16_t word[256];
	char serial[21];

	for (unsigned i = 0; i < 4; i++) {
		char expected[21];

		irig_select(r, i / 2, i % 2);
		irig_identify(r, word);
		model_and_serial(word + 10, 10, serial);
		snprintf(expected, sizeof(expected), "mvm-blk-%u           ", i);
		cr_assert_str_eq(serial, expected);
	}
	vrig_config(&config, &row_ide, "/etc/hostname", "");
	cr_assert_lt(row_ide.create(&r->v->host, &config, &out, &e), 0);
	vrig_config_free(&config);
	vrig_config(&config, &row_ide, r->path[0], "ro=on");
	cr_assert_eq(row_ide.create(&r->v->host, &config, &out, &e), -EBUSY, "the image is locked");
	vrig_config_free(&config);
	{
		char path[] = "/tmp/mvm-ide-XXXXXX";
		int fd = mkstemp(path);

		cr_assert_eq(ftruncate(fd, 1 << 20), 0);
		close(fd);
		vrig_config(&config, &row_ide, path, "");
		cr_assert_eq(row_ide.create(&r->v->host, &config, &out, &e), -ENOSPC);
		cr_assert_not_null(strstr(e.msg, "hw=nvme"), "%s", e.msg);
		vrig_config_free(&config);
		unlink(path);
	}
	irig_destroy(r);
}

Test(ide, sectors_of_another_size_are_refused)
{
	struct stub_block *s = stub_block_create(1 << 20);
	struct vrig *v = vrig_create();
	struct device_config config;
	struct device *out = NULL;
	struct error e = { 0 };

	s->block.info.logical_block = 4096;
	vrig_config(&config, &row_ide, "x", "");
	cr_assert_eq(ide_create(&v->host, &config, &s->block, &out, &e), -EINVAL);
	cr_assert_not_null(strstr(e.msg, "4096"));
	vrig_config_free(&config);
	s = stub_block_create(1 << 20);
	vrig_config(&config, &row_ide, "x", "serial=123456789012345678901");
	cr_assert_eq(ide_create(&v->host, &config, &s->block, &out, &e), -EINVAL);
	cr_assert_null(ide_find(&v->host), "the controller is gone again");
	vrig_config_free(&config);
	vrig_destroy(v);
}

/* ---- IDENTIFY DEVICE ------------------------------------------------------------------------- */

Test(ide, identify)
{
	struct irig *r = irig_create(1, "serial=second");
	uint16_t word[256];
	char text[41];
	uint8_t sum = 0;

	irig_identify(r, word);
	cr_assert_eq(word[0], 0x0040);
	cr_assert_eq(word[1], IRIG_SECTORS / (16 * 63));
	cr_assert_eq(word[3], 16);
	cr_assert_eq(word[6], 63);
	model_and_serial(word + 10, 10, text);
	cr_assert_str_eq(text, "second              ");
	model_and_serial(word + 27, 20, text);
	cr_assert_eq(strncmp(text, "mvm IDE disk   ", 15), 0);
	cr_assert_eq(word[47], 0x8010);
	cr_assert_eq(word[49] & 0x0300, 0x0300, "LBA and DMA");
	cr_assert_eq(word[59], 0);
	cr_assert_eq(word[60] | (uint32_t)word[61] << 16, IRIG_SECTORS);
	cr_assert_eq(word[63], 0x0007);
	cr_assert_eq(word[83], 0x7400);
	cr_assert_eq(word[85], 0x0069);
	cr_assert_eq(word[88], 0x003f);
	cr_assert_eq(word[93] & 0xe000, 0x6000, "a cable of 80 wires");
	cr_assert_eq(word[100] | (uint32_t)word[101] << 16, IRIG_SECTORS);
	cr_assert_eq(word[106], 0x6003, "8 logical sectors in a physical one");
	cr_assert_eq(word[169], 1, "TRIM");
	for (unsigned i = 0; i < 512; i++)
		sum = (uint8_t)(sum + ((uint8_t *)word)[i]);
	cr_assert_eq(sum, 0);
	cr_assert_eq(word[255] & 0xff, 0xa5);
	irig_destroy(r);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

Test(ide, interrupts)
{
	struct irig *r = irig_create(2, "");

	irig_out(r, COMMAND, ATA_IDLE_IMMEDIATE);
	cr_assert(irig_line(r));
	cr_assert(irig_bm_in(r, BMIS, 1) & 4, "the bus master saw the edge");
	cr_assert_eq(irig_in(r, CONTROL), READY);
	cr_assert(irig_line(r), "Alternate Status leaves it");
	irig_out(r, CONTROL, ATA_NIEN);
	cr_assert_not(irig_line(r));
	irig_out(r, CONTROL, 0);
	cr_assert(irig_line(r));
	irig_select(r, 0, 1); /* the slave has none pending */
	cr_assert_not(irig_line(r));
	irig_select(r, 0, 0);
	cr_assert(irig_line(r));
	cr_assert_eq(irig_in(r, STATUS), READY);
	cr_assert_not(irig_line(r));
	irig_bm_out(r, BMIS, 1, 4);
	cr_assert_eq(irig_bm_in(r, BMIS, 1), 0);
	/* A new command takes the old interrupt away. */
	irig_out(r, COMMAND, ATA_IDLE_IMMEDIATE);
	irig_out(r, CONTROL, ATA_NIEN);
	irig_out(r, COMMAND, ATA_IDENTIFY_DEVICE);
	cr_assert_not(irig_line(r));
	irig_destroy(r);
}

Test(ide, soft_reset)
{
	struct irig *r = irig_create(2, "");

	irig_select(r, 0, 1);
	irig_out(r, COMMAND, ATA_IDENTIFY_DEVICE);
	cr_assert_eq(irig_wait(r), READY | ATA_DRQ);
	cr_assert(irig_line(r));
	irig_out(r, CONTROL, ATA_SRST);
	cr_assert_eq(irig_in(r, CONTROL), ATA_BSY);
	cr_assert_not(irig_line(r));
	irig_out(r, CONTROL, 0);
	cr_assert_eq(irig_in(r, STATUS), READY);
	cr_assert_eq(irig_in(r, ERROR), 1);
	cr_assert_eq(irig_in(r, COUNT), 1);
	cr_assert_eq(irig_in(r, LBA0), 1);
	cr_assert_eq(irig_in(r, LBA1) | irig_in(r, LBA2), 0);
	cr_assert_eq(irig_in(r, DEVICE), ATA_DEV_SET, "device 0 is selected");
	irig_destroy(r);
}

Test(ide, diagnostic)
{
	struct irig *r = irig_create(2, "");

	irig_select(r, 0, 1);
	irig_out(r, COUNT, 0x55);
	irig_out(r, COMMAND, ATA_EXECUTE_DIAGNOSTIC);
	cr_assert(irig_line(r));
	cr_assert_eq(irig_in(r, STATUS), READY);
	cr_assert_eq(irig_in(r, ERROR), 1);
	cr_assert_eq(irig_in(r, COUNT), 1);
	irig_select(r, 0, 1);
	cr_assert_eq(irig_in(r, ERROR), 1);
	irig_destroy(r);
}

/* ---- commands without data ------------------------------------------------------------------- */

Test(ide, every_opcode_answers)
{
	struct irig *r = irig_create(1, "");

	for (unsigned opcode = 0; opcode < 256; opcode++) {
		uint8_t status;

		irig_out(r, CONTROL, ATA_SRST);
		irig_out(r, CONTROL, 0);
		irig_do(r, ATA_SET_MULTIPLE, 0, 4);
		irig_issue_ext(r, (uint8_t)opcode, 0, 1);
		status = irig_wait(r);
		if (opcode != ATA_WRITE_SECTORS && status & ATA_DRQ)
			cr_assert_eq(status & ~ATA_DRQ, READY, "%#x", opcode);
		else if (status & ATA_ERR)
			cr_assert_eq(irig_in(r, ERROR), ATA_ABRT, "%#x", opcode);
	}
	irig_destroy(r);
}

static void aborted(struct irig *r, uint8_t command, uint8_t feature, uint8_t count)
{
	cr_assert_eq(irig_do(r, command, feature, count), READY | ATA_ERR, "%#x", command);
	cr_assert_eq(irig_in(r, ERROR), ATA_ABRT);
}

Test(ide, settings)
{
	struct irig *r = irig_create(1, "");
	uint16_t word[256];

	cr_assert_eq(irig_do(r, ATA_SET_MULTIPLE, 0, 8), READY);
	irig_identify(r, word);
	cr_assert_eq(word[59], 0x0108);
	aborted(r, ATA_SET_MULTIPLE, 0, 3);
	aborted(r, ATA_SET_MULTIPLE, 0, 32);
	cr_assert_eq(irig_do(r, ATA_SET_MULTIPLE, 0, 0), READY);

	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0x03, 0x22), READY); /* MWDMA 2 */
	irig_identify(r, word);
	cr_assert_eq(word[63], 0x0407);
	cr_assert_eq(word[88], 0x003f);
	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0x03, 0x42), READY); /* UDMA 2 */
	irig_identify(r, word);
	cr_assert_eq(word[63], 0x0007);
	cr_assert_eq(word[88], 0x043f);
	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0x03, 0x0c), READY); /* PIO 4 */
	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0x03, 0x00), READY);
	aborted(r, ATA_SET_FEATURES, 0x03, 0x0d);
	aborted(r, ATA_SET_FEATURES, 0x03, 0x23);
	aborted(r, ATA_SET_FEATURES, 0x03, 0x46);
	aborted(r, ATA_SET_FEATURES, 0x03, 0x80);
	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0x82, 0), READY);
	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0x55, 0), READY);
	irig_identify(r, word);
	cr_assert_eq(word[85], 0x0009);
	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0x02, 0), READY);
	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0xaa, 0), READY);
	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0x66, 0), READY);
	cr_assert_eq(irig_do(r, ATA_SET_FEATURES, 0xcc, 0), READY);
	aborted(r, ATA_SET_FEATURES, 0x05, 0); /* no APM */

	irig_out(r, DEVICE, ATA_DEV_SET | 7);
	cr_assert_eq(irig_do(r, ATA_INITIALIZE_PARAMETERS, 0, 17), READY);
	irig_identify(r, word);
	cr_assert_eq(word[55], 8);
	cr_assert_eq(word[56], 17);
	cr_assert_eq(word[54], IRIG_SECTORS / (8 * 17));
	aborted(r, ATA_INITIALIZE_PARAMETERS, 0, 0);
	irig_destroy(r);
}

Test(ide, power)
{
	struct irig *r = irig_create(1, "");
	static const uint8_t check[] = { ATA_CHECK_POWER, ATA_CHECK_POWER_OLD };

	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(irig_do(r, ATA_STANDBY_IMMEDIATE, 0, 0), READY);
		irig_do(r, check[i], 0, 0x55);
		cr_assert_eq(irig_in(r, COUNT), ATA_POWER_STANDBY);
		cr_assert_eq(irig_do(r, ATA_IDLE, 0, 0), READY);
		irig_do(r, check[i], 0, 0x55);
		cr_assert_eq(irig_in(r, COUNT), ATA_POWER_IDLE);
		irig_issue(r, ATA_READ_VERIFY, 0, 1);
		irig_wait(r);
		irig_do(r, check[i], 0, 0x55);
		cr_assert_eq(irig_in(r, COUNT), ATA_POWER_ACTIVE);
	}
	cr_assert_eq(irig_do(r, ATA_SLEEP, 0, 0), READY);
	aborted(r, ATA_CHECK_POWER, 0, 0);
	irig_out(r, CONTROL, ATA_SRST);
	irig_out(r, CONTROL, 0);
	cr_assert_eq(irig_do(r, ATA_CHECK_POWER, 0, 0), READY);
	irig_destroy(r);
}

Test(ide, native_max)
{
	struct irig *r = irig_create(1, "");
	struct irig *huge;

	irig_issue(r, ATA_READ_NATIVE_MAX, 0, 0);
	cr_assert_eq(irig_in(r, STATUS), READY);
	cr_assert_eq(irig_in(r, LBA0) | irig_in(r, LBA1) << 8 | irig_in(r, LBA2) << 16,
		     IRIG_SECTORS - 1);
	irig_issue_ext(r, ATA_READ_NATIVE_MAX_EXT, 0, 0);
	cr_assert_eq(irig_in(r, LBA0) | irig_in(r, LBA1) << 8, 0xffff);
	irig_out(r, CONTROL, ATA_HOB);
	cr_assert_eq(irig_in(r, LBA0), 0);
	irig_destroy(r);
	/* Beyond 28 bits. */
	huge = irig_create(1, "");
	irig_drive(huge)->sectors = 0x123456789;
	irig_issue(huge, ATA_READ_NATIVE_MAX, 0, 0);
	cr_assert_eq(irig_in(huge, LBA0), 0xfe);
	cr_assert_eq(irig_in(huge, DEVICE) & 0xf, 0xf);
	irig_issue_ext(huge, ATA_READ_NATIVE_MAX_EXT, 0, 0);
	cr_assert_eq(irig_in(huge, LBA0), 0x88);
	irig_out(huge, CONTROL, ATA_HOB);
	cr_assert_eq(irig_in(huge, LBA0), 0x23);
	cr_assert_eq(irig_in(huge, LBA1), 0x01);
	irig_destroy(huge);
}

/* ---- SMART ----------------------------------------------------------------------------------- */

static uint8_t smart(struct irig *r, uint8_t feature, uint8_t log)
{
	irig_out(r, LBA0, log);
	irig_out(r, LBA1, 0x4f);
	irig_out(r, LBA2, 0xc2);
	return irig_do(r, ATA_SMART, feature, 1);
}

static void smart_page(struct irig *r, uint8_t feature, uint8_t log, uint8_t page[512])
{
	uint8_t sum = 0;

	cr_assert_eq(smart(r, feature, log), READY | ATA_DRQ);
	irig_take(r, page, 512);
	for (unsigned i = 0; i < 512; i++)
		sum = (uint8_t)(sum + page[i]);
	if (feature != ATA_SMART_READ_LOG || log)
		cr_assert_eq(sum, 0);
}

Test(ide, smart)
{
	struct irig *r = irig_create(1, "");
	uint8_t page[512], limits[512];

	cr_assert_eq(smart(r, ATA_SMART_RETURN_STATUS, 0), READY);
	cr_assert_eq(irig_in(r, LBA1), 0x4f);
	cr_assert_eq(irig_in(r, LBA2), 0xc2);
	smart_page(r, ATA_SMART_READ_DATA, 0, page);
	smart_page(r, ATA_SMART_READ_LIMITS, 0, limits);
	cr_assert_eq(page[2], 5);
	for (unsigned i = 0; i < 30; i++) {
		cr_assert_eq(page[2 + 12 * i], limits[2 + 12 * i], "the same attribute");
		cr_assert(page[2 + 12 * i] == 0 || page[5 + 12 * i] > limits[3 + 12 * i]);
	}
	smart_page(r, ATA_SMART_READ_LOG, 0, page);
	cr_assert_eq(page[2], 1);
	smart_page(r, ATA_SMART_READ_LOG, 1, page);
	cr_assert_eq(smart(r, ATA_SMART_READ_LOG, 0x30), READY | ATA_ERR);
	cr_assert_eq(smart(r, ATA_SMART_AUTOSAVE, 0), READY);
	cr_assert_eq(smart(r, 0xd4, 0), READY | ATA_ERR, "no self-test");
	cr_assert_eq(smart(r, ATA_SMART_DISABLE, 0), READY);
	cr_assert_eq(smart(r, ATA_SMART_RETURN_STATUS, 0), READY | ATA_ERR);
	cr_assert_eq(smart(r, ATA_SMART_ENABLE, 0), READY);
	irig_out(r, LBA1, 0);
	aborted(r, ATA_SMART, ATA_SMART_RETURN_STATUS, 1);
	irig_destroy(r);
}
