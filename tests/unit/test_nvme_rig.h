/*
 * An NVMe driver of a few lines, for unit tests: registers, the admin queue, I/O queues and PRPs in
 * the RAM of test_virtio_rig.h. One thread plays all vCPUs.
 */
#ifndef TESTS_UNIT_TEST_NVME_RIG_H
#define TESTS_UNIT_TEST_NVME_RIG_H

#include "devices/emulated/nvme.h"
#include "devices/registry.h"
#include "tests/unit/test_block_stub.h"
#include "tests/unit/test_virtio_rig.h"

#define NVRIG_SECTORS 8192u

/* Where things are: queue i has a place of NVRIG_QUEUE bytes for each of its halves. */
#define NVRIG_SQ      0x100000ull
#define NVRIG_CQ      0x200000ull
#define NVRIG_QUEUE   0x10000ull
#define NVRIG_SHADOW  0x300000ull
#define NVRIG_EVENTS  0x301000ull
#define NVRIG_LISTS   0x310000ull
#define NVRIG_BUFFER  0x400000ull
#define NVRIG_ENTRIES 64u

enum {
	CAP = 0,
	VS = 8,
	INTMS = 0xc,
	INTMC = 0x10,
	CC = 0x14,
	CSTS = 0x1c,
	AQA = 0x24,
	ASQ = 0x28,
	ACQ = 0x30
};
#define NVRIG_CC (NVME_CC_EN | 6u << 16 | 4u << 20)

struct nvrig_queue {
	uint64_t sq, cq; /* addresses */
	uint32_t size, tail, head;
	bool phase;
	uint16_t cqid;
	bool shadow;
};

struct nvrig {
	struct vrig *v;
	struct stub_block *stub; /* or NULL */
	struct nvme *n;
	char path[64];
	uint64_t config, bar;
	unsigned msix;
	uint16_t cid;
	struct nvrig_queue queue[NVME_MAX_QUEUES + 1];
};

/* On a file of NVRIG_SECTORS, or on a stub; bus master on, controller not enabled. */
struct nvrig *nvrig_create(const char *keys);
struct nvrig *nvrig_create_stub(const char *keys);
void nvrig_destroy(struct nvrig *r);

uint64_t nvrig_read(struct nvrig *r, unsigned reg, unsigned size);
void nvrig_write(struct nvrig *r, unsigned reg, unsigned size, uint64_t value);
void nvrig_command_register(struct nvrig *r, uint16_t value);
void nvrig_msix_enable(struct nvrig *r);

void nvrig_enable(struct nvrig *r); /* with admin queues of NVRIG_ENTRIES */
void nvrig_disable(struct nvrig *r);
/* Makes the pair: fails the test if the controller will not. */
void nvrig_queue(struct nvrig *r, unsigned id, uint32_t size);
/* Enabled, with one I/O queue pair. */
void nvrig_up(struct nvrig *r);

/* Puts a command into a queue, without the doorbell; its identifier. */
uint16_t nvrig_push(struct nvrig *r, unsigned q, struct nvme_command c);
void nvrig_ring(struct nvrig *r, unsigned q);
/* The next completion, false if there is none yet; the head goes on, without the doorbell. */
bool nvrig_poll(struct nvrig *r, unsigned q, struct nvme_completion *c);
void nvrig_ring_head(struct nvrig *r, unsigned q);
/* Waits, at most 5 s, without and with ringing the head. */
struct nvme_completion nvrig_wait_quietly(struct nvrig *r, unsigned q);
struct nvme_completion nvrig_wait(struct nvrig *r, unsigned q);

/* One command from push to ring; its status without phase and More. */
uint16_t nvrig_do(struct nvrig *r, unsigned q, struct nvme_command c, uint32_t *result);
uint16_t nvrig_admin(struct nvrig *r, struct nvme_command c);

/* A Read or Write of blocks at NVRIG_BUFFER, all of it contiguous. */
struct nvme_command nvrig_rw(uint8_t opcode, uint64_t slba, uint32_t blocks);
/* The same with its list of pages built at NVRIG_LISTS: page[i] are addresses. */
struct nvme_command nvrig_pages(struct nvrig *r, uint8_t opcode, uint64_t slba, uint32_t blocks,
				const uint64_t *page, unsigned pages);
uint8_t *nvrig_at(struct nvrig *r, uint64_t address, uint64_t len);

/* Bytes that tell where they belong. */
void nvrig_fill(uint8_t *p, size_t len, unsigned seed);

#endif
