/*
 * An IDE driver of a few lines, for unit tests: taskfile, data port, bus master and descriptors in
 * the RAM of test_virtio_rig.h. Up to four disks, on files or on a stub.
 */
#ifndef TESTS_UNIT_TEST_IDE_RIG_H
#define TESTS_UNIT_TEST_IDE_RIG_H

#include "devices/emulated/ide.h"
#include "devices/registry.h"
#include "tests/unit/test_block_stub.h"
#include "tests/unit/test_virtio_rig.h"

#define IRIG_SECTORS 65536u
#define IRIG_TABLE   0x100000ull
#define IRIG_BUFFER  0x400000ull

/* Registers of the command block, and the control block's. */
enum { DATA, ERROR, COUNT, LBA0, LBA1, LBA2, DEVICE, STATUS, CONTROL };
#define FEATURE ERROR
#define COMMAND STATUS
enum { BMIC = 0, BMIS = 2, BMIDTP = 4 };

#define READY (ATA_DRDY | ATA_DSC)

struct irig {
	struct vrig *v;
	struct device *disk[4];
	struct stub_block *stub; /* of the first disk, or NULL */
	unsigned disks;
	char path[4][32];
	struct ide *ide;
	uint64_t config;
	uint16_t bm;
	unsigned channel, unit; /* which disk the calls below mean */
	bool native;		/* by the BARs; else by the ports of old */
};

/* Switched to compatibility mode, unless a test switches it back. */
struct irig *irig_create(unsigned disks, const char *keys);
struct irig *irig_create_stub(const char *keys);
void irig_destroy(struct irig *r);
void irig_command_register(struct irig *r, uint16_t value);
void irig_mode(struct irig *r, bool native);

uint8_t irig_in(struct irig *r, unsigned reg);
void irig_out(struct irig *r, unsigned reg, uint8_t value);
uint32_t irig_bm_in(struct irig *r, unsigned reg, unsigned size);
void irig_bm_out(struct irig *r, unsigned reg, unsigned size, uint32_t value);
bool irig_line(struct irig *r);
struct ide_drive *irig_drive(struct irig *r);

void irig_select(struct irig *r, unsigned channel, unsigned unit);
/* Waits, at most 5 s, while BSY is set; the status, by the register that leaves INTRQ alone. */
uint8_t irig_wait(struct irig *r);
/* Parameters and command: 28 bits of address, or 48 for the EXT ones. */
void irig_issue(struct irig *r, uint8_t command, uint64_t lba, uint32_t count);
void irig_issue_ext(struct irig *r, uint8_t command, uint64_t lba, uint32_t count);
/* Issues, waits, reads Status. */
uint8_t irig_do(struct irig *r, uint8_t command, uint8_t feature, uint8_t count);
/* One DRQ block by the data port. */
void irig_take(struct irig *r, void *buf, unsigned len);
void irig_give(struct irig *r, const void *buf, unsigned len);
void irig_identify(struct irig *r, uint16_t word[256]);

/* A descriptor table of n entries at IRIG_TABLE. */
void irig_prd(struct irig *r, unsigned i, uint32_t address, uint32_t bytes, bool last);
void irig_bm_start(struct irig *r, bool to_ram);
void irig_bm_stop(struct irig *r);
uint8_t *irig_at(struct irig *r, uint64_t address, uint64_t len);

#endif
