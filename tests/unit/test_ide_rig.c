/* See test_ide_rig.h. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_ide_rig.h"

static void plug(struct irig *r, unsigned i, const char *keys)
{
	struct device_config config;
	struct error e = { 0 };
	int fd;

	strcpy(r->path[i], "/tmp/mvm-ide-XXXXXX");
	fd = mkstemp(r->path[i]);
	cr_assert_eq(ftruncate(fd, IRIG_SECTORS * 512), 0);
	close(fd);
	vrig_config(&config, &row_ide, r->path[i], keys);
	config.index = i;
	if (r->stub)
		cr_assert_eq(ide_create(&r->v->host, &config, &r->stub->block, &r->disk[i], &e), 0,
			     "%s", e.msg);
	else
		cr_assert_eq(row_ide.create(&r->v->host, &config, &r->disk[i], &e), 0, "%s", e.msg);
	vrig_config_free(&config);
}

static struct irig *create(unsigned disks, const char *keys, struct stub_block *stub)
{
	struct irig *r = calloc(1, sizeof(*r));
	struct error e = { 0 };

	r->v = vrig_create();
	bus_set_account(r->v->host.pio, account_machine(r->v->host.accounts), ACCOUNT_PIO_READS,
			ACCOUNT_PIO_WRITES);
	r->stub = stub;
	r->disks = disks;
	for (unsigned i = 0; i < disks; i++)
		plug(r, i, keys);
	r->config = VRIG_ECAM + (1 << 15);
	for (unsigned i = 0; i < disks; i++)
		r->disk[i]->ops->reset(r->disk[i]);
	cr_assert_eq(pci_root_assign(r->v->host.pci, &e), 0, "%s", e.msg);
	for (unsigned i = 0; i < disks; i++)
		cr_assert_eq(r->disk[i]->ops->start(r->disk[i], &e), 0);
	r->bm = (uint16_t)(vrig_read(r->v, r->config + PCI_BASE_ADDRESS_4, 4) & ~3ull);
	r->ide = ide_find(&r->v->host);
	cr_assert_not_null(r->ide);
	irig_command_register(r, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
	irig_mode(r, false);
	return r;
}

struct irig *irig_create(unsigned disks, const char *keys)
{
	return create(disks, keys, NULL);
}

struct irig *irig_create_stub(const char *keys)
{
	return create(1, keys, stub_block_create(IRIG_SECTORS * 512));
}

static void none_left(const struct bus_range *range, void *arg)
{
	(void)arg;
	cr_assert(strncmp(range->name, "ide", 3) != 0, "%s is still on the bus", range->name);
}

void irig_destroy(struct irig *r)
{
	/* As the machine does it: the last made first. */
	for (unsigned i = r->disks; i-- > 0;) {
		r->disk[i]->ops->destroy(r->disk[i]);
		unlink(r->path[i]);
	}
	bus_for_each(r->v->host.pio, none_left, NULL);
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++)
		cr_assert(!r->v->chip.level[gsi]);
	vrig_destroy(r->v);
	free(r);
}

void irig_command_register(struct irig *r, uint16_t value)
{
	vrig_write(r->v, r->config + PCI_COMMAND, 2, value);
}

void irig_mode(struct irig *r, bool native)
{
	vrig_write(r->v, r->config + IDE_PROGIF, 1, native ? 0xff : 0);
	cr_assert_eq(vrig_read(r->v, r->config + IDE_PROGIF, 1), native ? 0x8f : 0x8a);
	r->native = native;
}

/* ---- registers ------------------------------------------------------------------------------- */

static uint16_t port(struct irig *r, unsigned reg)
{
	unsigned bar = 2 * r->channel + (reg == CONTROL);

	if (r->native)
		return (uint16_t)((vrig_read(r->v, r->config + PCI_BASE_ADDRESS_0 + 4 * bar, 4) &
				   ~3ull) +
				  (reg == CONTROL ? 2 : reg));
	if (reg == CONTROL)
		return r->channel ? 0x376 : 0x3f6;
	return (uint16_t)((r->channel ? 0x170 : 0x1f0) + reg);
}

uint8_t irig_in(struct irig *r, unsigned reg)
{
	uint64_t value;

	bus_read(r->v->host.pio, port(r, reg), 1, &value);
	return (uint8_t)value;
}

void irig_out(struct irig *r, unsigned reg, uint8_t value)
{
	bus_write(r->v->host.pio, port(r, reg), 1, value);
}

uint32_t irig_bm_in(struct irig *r, unsigned reg, unsigned size)
{
	uint64_t value;

	bus_read(r->v->host.pio, r->bm + 8 * r->channel + reg, size, &value);
	return (uint32_t)value;
}

void irig_bm_out(struct irig *r, unsigned reg, unsigned size, uint32_t value)
{
	bus_write(r->v->host.pio, r->bm + 8 * r->channel + reg, size, value);
}

bool irig_line(struct irig *r)
{
	/* INTA# of device 1 is GSI 17. */
	return __atomic_load_n(&r->v->chip.level[r->native ? 17 : 14 + r->channel],
			       __ATOMIC_SEQ_CST);
}

/* The structure behind the disk that is meant. */
struct ide_drive *irig_drive(struct irig *r)
{
	return &r->ide->channel[r->channel].drive[r->unit];
}

void irig_select(struct irig *r, unsigned channel, unsigned unit)
{
	r->channel = channel;
	r->unit = unit;
	irig_out(r, DEVICE, (uint8_t)(ATA_DEV_SET | ATA_LBA | unit << 4));
}

uint8_t irig_wait(struct irig *r)
{
	uint8_t status = irig_in(r, CONTROL);

	for (unsigned i = 0; i < 20000 && (status & ATA_BSY); i++) {
		usleep(250);
		status = irig_in(r, CONTROL);
	}
	cr_assert_eq(status & ATA_BSY, 0, "the disk stays busy");
	return status;
}

void irig_issue(struct irig *r, uint8_t command, uint64_t lba, uint32_t count)
{
	irig_out(r, DEVICE, (uint8_t)(ATA_DEV_SET | ATA_LBA | r->unit << 4 | (lba >> 24 & 0xf)));
	irig_out(r, COUNT, (uint8_t)count);
	for (unsigned i = 0; i < 3; i++)
		irig_out(r, LBA0 + i, (uint8_t)(lba >> 8 * i));
	irig_out(r, COMMAND, command);
}

void irig_issue_ext(struct irig *r, uint8_t command, uint64_t lba, uint32_t count)
{
	irig_out(r, DEVICE, (uint8_t)(ATA_DEV_SET | ATA_LBA | r->unit << 4));
	irig_out(r, COUNT, (uint8_t)(count >> 8));
	irig_out(r, COUNT, (uint8_t)count);
	for (unsigned i = 0; i < 3; i++) {
		irig_out(r, LBA0 + i, (uint8_t)(lba >> (24 + 8 * i)));
		irig_out(r, LBA0 + i, (uint8_t)(lba >> 8 * i));
	}
	irig_out(r, COMMAND, command);
}

uint8_t irig_do(struct irig *r, uint8_t command, uint8_t feature, uint8_t count)
{
	irig_out(r, FEATURE, feature);
	irig_out(r, COUNT, count);
	irig_out(r, COMMAND, command);
	irig_wait(r);
	return irig_in(r, STATUS);
}

void irig_take(struct irig *r, void *buf, unsigned len)
{
	uint16_t *word = buf;

	cr_assert(irig_wait(r) & ATA_DRQ);
	for (unsigned i = 0; i < len / 2; i++) {
		uint64_t value;

		bus_read(r->v->host.pio, port(r, DATA), 2, &value);
		word[i] = (uint16_t)value;
	}
}

void irig_give(struct irig *r, const void *buf, unsigned len)
{
	const uint16_t *word = buf;

	cr_assert(irig_wait(r) & ATA_DRQ);
	for (unsigned i = 0; i < len / 2; i++)
		bus_write(r->v->host.pio, port(r, DATA), 2, word[i]);
}

void irig_identify(struct irig *r, uint16_t word[256])
{
	irig_out(r, COMMAND, ATA_IDENTIFY_DEVICE);
	irig_take(r, word, 512);
	cr_assert_eq(irig_in(r, STATUS), READY);
}

/* ---- bus master ------------------------------------------------------------------------------ */

void irig_prd(struct irig *r, unsigned i, uint32_t address, uint32_t bytes, bool last)
{
	const uint32_t prd[2] = { address, (bytes & 0xffff) | (last ? 0x80000000u : 0) };

	cr_assert_eq(memory_write(&r->v->memory, IRIG_TABLE + 8 * i, prd, 8), 0);
	irig_bm_out(r, BMIDTP, 4, IRIG_TABLE);
}

void irig_bm_start(struct irig *r, bool to_ram)
{
	irig_bm_out(r, BMIS, 1, 0x06);
	irig_bm_out(r, BMIC, 1, to_ram ? 8 : 0);
	irig_bm_out(r, BMIC, 1, to_ram ? 9 : 1);
}

void irig_bm_stop(struct irig *r)
{
	irig_bm_out(r, BMIC, 1, 0);
}

uint8_t *irig_at(struct irig *r, uint64_t address, uint64_t len)
{
	return model_at(&r->v->memory, address, len);
}
