/*
 * NVMe from the driver's side, as NVM Express 1.4 has it: registers, enabling, the admin commands
 * and the making of queues. I/O is in test_nvme_io.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/registers.h"
#include "tests/unit/test_nvme_rig.h"

#define DNR NVME_SC_DNR

/* ---- registers (section 3.1) ----------------------------------------------------------------- */

Test(nvme, registers_after_reset)
{
	struct nvrig *r = nvrig_create("");

	/* MQES 1023, CQR, TO 30 s, CSS NVM; DSTRD, MPSMIN, MPSMAX 0 */
	cr_assert_eq(nvrig_read(r, CAP, 8), 0x0000002000000000ull | 60u << 24 | 1 << 16 | 1023);
	cr_assert_eq(nvrig_read(r, CAP + 4, 4), 0x20);
	cr_assert_eq(nvrig_read(r, VS, 4), 0x00010400);
	for (unsigned reg = INTMS; reg < NVME_DOORBELLS; reg += 4)
		cr_assert_eq(nvrig_read(r, reg, 4), 0, "%#x", reg);
	cr_assert_eq(nvrig_read(r, NVME_DOORBELLS, 4), 0);
	cr_assert_eq(vrig_read(r->v, r->config + PCI_CLASS_REVISION, 4) >> 8, 0x010802);
	nvrig_destroy(r);
}

Test(nvme, registers_access)
{
	struct nvrig *r = nvrig_create("");

	for (unsigned reg = 0; reg < 0x40; reg += 4)
		if (reg != CC)
			nvrig_write(r, reg, 4, 0xffffffff);
	cr_assert_eq(nvrig_read(r, CAP, 4), 60u << 24 | 1 << 16 | 1023);
	cr_assert_eq(nvrig_read(r, VS, 4), 0x00010400);
	cr_assert_eq(nvrig_read(r, CSTS, 4), 0);
	cr_assert_eq(nvrig_read(r, AQA, 4), 0x0fff0fff);
	cr_assert_eq(nvrig_read(r, ASQ, 8), 0xfffffffffffff000);
	cr_assert_eq(nvrig_read(r, ACQ, 8), 0xfffffffffffff000);
	cr_assert_eq(nvrig_read(r, 0x20, 4), 0, "no NSSR");
	nvrig_write(r, ASQ + 4, 4, 0x12);
	cr_assert_eq(nvrig_read(r, ASQ, 8), 0x12fffff000);
	/* What is set stays set until cleared, and both show it. */
	nvrig_write(r, INTMC, 4, 0xffffffff);
	nvrig_write(r, INTMS, 4, 0x5);
	nvrig_write(r, INTMS, 4, 0x2);
	cr_assert_eq(nvrig_read(r, INTMS, 4), 7);
	nvrig_write(r, INTMC, 4, 0x3);
	cr_assert_eq(nvrig_read(r, INTMC, 4), 4);
	/* Accesses that no register has. */
	nvrig_write(r, AQA, 2, 0);
	nvrig_write(r, AQA + 1, 4, 0);
	cr_assert_eq(nvrig_read(r, AQA, 4), 0x0fff0fff);
	cr_assert_eq(nvrig_read(r, AQA, 1), 0);
	for (unsigned i = 0; i < nvme_registers.count; i++)
		cr_assert(nvme_registers.reg[i].name && nvme_registers.reg[i].width == 4);
	nvrig_destroy(r);
}

Test(nvme, enable_and_disable)
{
	struct nvrig *r = nvrig_create("");

	nvrig_enable(r);
	cr_assert_eq(nvrig_read(r, CC, 4), NVRIG_CC);
	nvrig_write(r, INTMS, 4, 1);
	nvrig_disable(r);
	/* All but the admin queue's registers is as after reset (7.3.2). */
	cr_assert_eq(nvrig_read(r, CC, 4), 0);
	cr_assert_eq(nvrig_read(r, INTMS, 4), 0);
	cr_assert_eq(nvrig_read(r, ASQ, 8), NVRIG_SQ);
	nvrig_up(r);
	/* Shutdown, by either notification (3.1.6). */
	nvrig_write(r, CC, 4, NVRIG_CC | 1 << 14);
	vrig_wait((nvrig_read(r, CSTS, 4) & NVME_CSTS_SHST) == NVME_CSTS_SHST_DONE);
	nvrig_write(r, CC, 4, NVRIG_CC);
	cr_assert_eq(nvrig_read(r, CSTS, 4), NVME_CSTS_RDY);
	nvrig_write(r, CC, 4, NVRIG_CC | 2 << 14);
	vrig_wait((nvrig_read(r, CSTS, 4) & NVME_CSTS_SHST) == NVME_CSTS_SHST_DONE);
	r->v->dev->ops->reset(r->v->dev);
	cr_assert_eq(r->n->asq, 0);
	nvrig_destroy(r);
}

static void fatal(uint64_t asq, uint64_t acq, uint32_t aqa, uint32_t cc)
{
	struct nvrig *r = nvrig_create("");

	nvrig_write(r, ASQ, 8, asq);
	nvrig_write(r, ACQ, 8, acq);
	nvrig_write(r, AQA, 4, aqa);
	nvrig_write(r, CC, 4, cc);
	cr_assert_eq(nvrig_read(r, CSTS, 4), NVME_CSTS_CFS);
	nvrig_write(r, NVME_DOORBELLS, 4, 1);
	nvrig_write(r, NVME_DOORBELLS + 4, 4, 1);
	/* A reset heals. */
	nvrig_disable(r);
	nvrig_up(r);
	nvrig_destroy(r);
}

Test(nvme, enable_what_cannot_be)
{
	fatal(NVRIG_SQ, NVRIG_CQ, 0x3f003f, NVRIG_CC | 1 << 7);	 /* MPS 8 KiB */
	fatal(NVRIG_SQ, NVRIG_CQ, 0x3f003f, NVRIG_CC | 6 << 4);	 /* CSS */
	fatal(NVRIG_SQ, NVRIG_CQ, 0x3f003f, NVRIG_CC | 1 << 11); /* AMS */
	fatal(NVRIG_SQ, NVRIG_CQ, 0, NVRIG_CC);
	fatal(MODEL_LOW - 0x1000, NVRIG_CQ, 0x3f007f, NVRIG_CC); /* past RAM */
	fatal(VRIG_ECAM, NVRIG_CQ, 0x3f003f, NVRIG_CC);
	fatal(NVRIG_SQ, ~0xfffull, 0x3f003f, NVRIG_CC);
}

/* ---- Identify -------------------------------------------------------------------------------- */

static uint16_t identify(struct nvrig *r, uint32_t cns, uint32_t nsid)
{
	memset(nvrig_at(r, NVRIG_BUFFER, 4096), 0xee, 4096);
	return nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_IDENTIFY,
						     .nsid = nsid,
						     .prp1 = NVRIG_BUFFER,
						     .cdw10 = cns });
}

Test(nvme, identify)
{
	struct nvrig *r = nvrig_create("serial=second");
	const uint8_t *p = nvrig_at(r, NVRIG_BUFFER, 4096);

	nvrig_enable(r);
	cr_assert_eq(identify(r, 1, 0), 0);
	cr_assert_eq(memcmp(p + 4, "second              ", 20), 0);
	cr_assert_eq(memcmp(p + 24, "mvm NVMe disk           ", 24), 0);
	cr_assert_eq(p[77], NVME_MDTS);
	cr_assert_eq(*(const uint32_t *)(const void *)(p + 80), 0x00010400);
	cr_assert_eq(p[111], 1);
	cr_assert_eq(*(const uint16_t *)(const void *)(p + 256), 0x102); /* Format, DBBUF */
	cr_assert_eq(p[259], 3);					 /* AERL */
	cr_assert_eq(p[262], 63);					 /* ELPE */
	cr_assert_eq(p[512], 0x66);
	cr_assert_eq(p[513], 0x44);
	cr_assert_eq(*(const uint32_t *)(const void *)(p + 516), 1);
	cr_assert_eq(*(const uint16_t *)(const void *)(p + 520), 0x1c); /* DSM, zeroes, save */
	cr_assert_eq(p[525], 7);					/* VWC */
	cr_assert_eq(strncmp((const char *)p + 768, "nqn.2014-08.org.nvmexpress:uuid:", 32), 0);

	cr_assert_eq(identify(r, 0, 1), 0);
	cr_assert_eq(*(const uint64_t *)(const void *)p, NVRIG_SECTORS);
	cr_assert_eq(*(const uint64_t *)(const void *)(p + 8), NVRIG_SECTORS);
	cr_assert_eq(p[25], 0);
	cr_assert_eq(*(const uint32_t *)(const void *)(p + 128), 9 << 16);
	cr_assert_eq(p[99], 0);
	cr_assert_eq(identify(r, 0, 2), NVME_SC_INVALID_NAMESPACE | DNR);
	cr_assert_eq(identify(r, 0, NVME_NSID_ALL), NVME_SC_INVALID_NAMESPACE | DNR);

	cr_assert_eq(identify(r, 2, 0), 0);
	cr_assert_eq(*(const uint32_t *)(const void *)p, 1);
	cr_assert_eq(*(const uint32_t *)(const void *)(p + 4), 0);
	cr_assert_eq(identify(r, 2, 1), 0);
	cr_assert_eq(*(const uint32_t *)(const void *)p, 0);
	cr_assert_eq(identify(r, 2, NVME_NSID_ALL), NVME_SC_INVALID_NAMESPACE | DNR);

	cr_assert_eq(identify(r, 3, 1), 0);
	cr_assert_eq(p[0], 3);
	cr_assert_eq(p[1], 16);
	cr_assert_eq(p[4 + 6] >> 4, 8, "UUID version");
	cr_assert_eq(p[20], 0);
	cr_assert_eq(identify(r, 3, 0), NVME_SC_INVALID_NAMESPACE | DNR);
	cr_assert_eq(identify(r, 0x77, 1), NVME_SC_INVALID_FIELD | DNR);
	nvrig_destroy(r);
}

Test(nvme, identify_by_the_keys)
{
	struct nvrig *r = nvrig_create("shadow=off,ro=on");
	const uint8_t *p = nvrig_at(r, NVRIG_BUFFER, 4096);

	nvrig_enable(r);
	identify(r, 1, 0);
	cr_assert_eq(memcmp(p + 4, "mvm-blk-0  ", 11), 0);
	cr_assert_eq(*(const uint16_t *)(const void *)(p + 256), 2);
	identify(r, 0, 1);
	cr_assert_eq(p[99], 1, "write protected");
	cr_assert_eq(nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_DBBUF_CONFIG,
							   .prp1 = NVRIG_SHADOW,
							   .prp2 = NVRIG_EVENTS }),
		     NVME_SC_INVALID_OPCODE | DNR);
	nvrig_destroy(r);
}

/* The buffer where it must not be. */
Test(nvme, admin_data_pointers)
{
	struct nvrig *r = nvrig_create("");
	struct nvme_command c = { .opcode = NVME_ADMIN_IDENTIFY, .cdw10 = 1 };

	nvrig_enable(r);
	c.prp1 = MODEL_LOW;
	cr_assert_eq(nvrig_admin(r, c), NVME_SC_DATA_TRANSFER | DNR);
	c.prp1 = r->bar;
	cr_assert_eq(nvrig_admin(r, c), NVME_SC_DATA_TRANSFER | DNR);
	c.prp1 = NVRIG_BUFFER + 2;
	cr_assert_eq(nvrig_admin(r, c), NVME_SC_PRP_OFFSET | DNR);
	c.prp1 = NVRIG_BUFFER + 0x800;
	c.prp2 = NVRIG_BUFFER + 0x1004;
	cr_assert_eq(nvrig_admin(r, c), NVME_SC_PRP_OFFSET | DNR);
	c.prp2 = NVRIG_BUFFER + 0x1000;
	cr_assert_eq(nvrig_admin(r, c), 0);
	c.flags = 0x40; /* SGL */
	cr_assert_eq(nvrig_admin(r, c), NVME_SC_INVALID_FIELD | DNR);
	c.flags = 1; /* fused */
	cr_assert_eq(nvrig_admin(r, c), NVME_SC_INVALID_FIELD | DNR);
	c.flags = 0;
	c.opcode = 0xc0;
	cr_assert_eq(nvrig_admin(r, c), NVME_SC_INVALID_OPCODE | DNR);
	nvrig_destroy(r);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static uint16_t make(struct nvrig *r, uint8_t opcode, uint32_t cdw10, uint32_t cdw11, uint64_t prp1)
{
	return nvrig_admin(
		r, (struct nvme_command){
			   .opcode = opcode, .prp1 = prp1, .cdw10 = cdw10, .cdw11 = cdw11 });
}

Test(nvme, queues_made_and_deleted)
{
	struct nvrig *r = nvrig_create("queues=2");
	const uint8_t cq = NVME_ADMIN_CREATE_CQ, sq = NVME_ADMIN_CREATE_SQ;
	const uint8_t del_cq = NVME_ADMIN_DELETE_CQ, del_sq = NVME_ADMIN_DELETE_SQ;
	const uint64_t at = NVRIG_BUFFER;

	nvrig_enable(r);
	cr_assert_eq(make(r, cq, 63 << 16, 1, at), NVME_SC_QID_INVALID | DNR);
	cr_assert_eq(make(r, cq, 63 << 16 | 3, 1, at), NVME_SC_QID_INVALID | DNR);
	cr_assert_eq(make(r, cq, 1, 1, at), NVME_SC_QUEUE_SIZE | DNR);
	cr_assert_eq(make(r, cq, 1024 << 16 | 1, 1, at), NVME_SC_QUEUE_SIZE | DNR);
	cr_assert_eq(make(r, cq, 63 << 16 | 1, 0, at), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(make(r, cq, 63 << 16 | 1, 1, at + 8), NVME_SC_PRP_OFFSET | DNR);
	cr_assert_eq(make(r, cq, 63 << 16 | 1, 1, MODEL_LOW), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(make(r, cq, 1023 << 16 | 1, 1, MODEL_LOW - 4096), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(make(r, cq, 63 << 16 | 1, 9 << 16 | 3, at), NVME_SC_INTERRUPT_VECTOR | DNR);
	cr_assert_eq(make(r, cq, 63 << 16 | 1, 1 << 16 | 3, at), NVME_SC_INTERRUPT_VECTOR | DNR,
		     "only the pin is there");
	cr_assert_eq(make(r, sq, 63 << 16 | 1, 1 << 16 | 1, at), NVME_SC_CQ_INVALID | DNR);
	cr_assert_eq(make(r, cq, 1023 << 16 | 1, 1, at), 0);
	cr_assert_eq(make(r, cq, 63 << 16 | 1, 1, at), NVME_SC_QID_INVALID | DNR);
	cr_assert_eq(make(r, sq, 63 << 16 | 1, 0 << 16 | 1, at), NVME_SC_CQ_INVALID | DNR);
	cr_assert_eq(make(r, sq, 63 << 16 | 0, 1 << 16 | 1, at), NVME_SC_QID_INVALID | DNR);
	cr_assert_eq(make(r, sq, 63 << 16 | 1, 1 << 16, at), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(make(r, sq, 63 << 16 | 1, 1 << 16 | 1, at), 0);
	cr_assert_eq(make(r, sq, 63 << 16 | 2, 1 << 16 | 1, at), 0, "two on one");
	cr_assert_eq(make(r, sq, 63 << 16 | 2, 1 << 16 | 1, at), NVME_SC_QID_INVALID | DNR);
	cr_assert_eq(make(r, del_cq, 1, 0, 0), NVME_SC_QUEUE_DELETION | DNR);
	cr_assert_eq(make(r, del_sq, 1, 0, 0), 0);
	cr_assert_eq(make(r, del_sq, 1, 0, 0), NVME_SC_QID_INVALID | DNR);
	cr_assert_eq(make(r, del_sq, 0, 0, 0), NVME_SC_QID_INVALID | DNR);
	cr_assert_eq(make(r, del_cq, 1, 0, 0), NVME_SC_QUEUE_DELETION | DNR);
	cr_assert_eq(make(r, del_sq, 2, 0, 0), 0);
	cr_assert_eq(make(r, del_cq, 1, 0, 0), 0);
	cr_assert_eq(make(r, del_cq, 1, 0, 0), NVME_SC_QID_INVALID | DNR);
	cr_assert_eq(make(r, del_cq, 77, 0, 0), NVME_SC_QID_INVALID | DNR);
	nvrig_msix_enable(r);
	cr_assert_eq(make(r, cq, 63 << 16 | 2, 2 << 16 | 3, at), 0);
	cr_assert_eq(make(r, cq, 63 << 16 | 1, 3 << 16 | 3, at), NVME_SC_INTERRUPT_VECTOR | DNR);
	/* Entry sizes come from CC. */
	nvrig_write(r, CC, 4, NVME_CC_EN | 5 << 20 | 6 << 16);
	cr_assert_eq(make(r, cq, 63 << 16 | 1, 3, at), NVME_SC_QUEUE_SIZE | DNR);
	nvrig_destroy(r);
}

/* ---- features -------------------------------------------------------------------------------- */

static uint16_t set(struct nvrig *r, uint32_t cdw10, uint32_t cdw11, uint32_t *result)
{
	return nvrig_do(r, 0,
			(struct nvme_command){
				.opcode = NVME_ADMIN_SET_FEATURES, .cdw10 = cdw10, .cdw11 = cdw11 },
			result);
}

static uint32_t get(struct nvrig *r, uint32_t cdw10, uint32_t cdw11)
{
	uint32_t result = 0;
	uint16_t status = nvrig_do(r, 0,
				   (struct nvme_command){ .opcode = NVME_ADMIN_GET_FEATURES,
							  .cdw10 = cdw10,
							  .cdw11 = cdw11 },
				   &result);

	return status ? 0x80000000 | status : result;
}

Test(nvme, features)
{
	static const struct {
		uint32_t id, initial, written, kept;
	} plain[] = {
		{ NVME_FEAT_ARBITRATION, 7, 0xffffffff, 0xffffff07 },
		{ NVME_FEAT_POWER, 0, 0, 0 },
		{ NVME_FEAT_TEMPERATURE, 343, 350, 350 },
		{ NVME_FEAT_ERROR_RECOVERY, 0, 0x1234, 0x1234 },
		{ NVME_FEAT_WRITE_CACHE, 1, 0, 0 },
		{ NVME_FEAT_COALESCING, 0, 0x1234, 0x1234 },
		{ NVME_FEAT_ATOMICITY, 0, 1, 1 },
		{ NVME_FEAT_ASYNC_EVENT, 0, 0xff, 0xff },
	};
	struct nvrig *r = nvrig_create("queues=3");
	uint32_t result;

	nvrig_enable(r);
	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
			cr_assert_eq(get(r, plain[i].id, 0), plain[i].initial);
			cr_assert_eq(set(r, plain[i].id, plain[i].written, NULL), 0);
			cr_assert_eq(get(r, plain[i].id, 0), plain[i].kept);
			cr_assert_eq(get(r, plain[i].id | 1 << 8, 0), plain[i].initial, "default");
			cr_assert_eq(get(r, plain[i].id | 2 << 8, 0), plain[i].initial, "saved");
			cr_assert_eq(get(r, plain[i].id | 3 << 8, 0), 4, "changeable");
			cr_assert_eq(set(r, plain[i].id | 1u << 31, 0, NULL),
				     NVME_SC_NOT_SAVEABLE | DNR);
		}
		/* A controller reset brings the defaults back. */
		nvrig_disable(r);
		nvrig_enable(r);
	}
	cr_assert_eq(get(r, 7 | 4 << 8, 0), 0x80000000 | NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(get(r, 0, 0), 0x80000000 | NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(get(r, 0x0e, 0), 0x80000000 | NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(set(r, 0x80, 0, NULL), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(set(r, NVME_FEAT_POWER, 1, NULL), NVME_SC_INVALID_FIELD | DNR);

	cr_assert_eq(set(r, NVME_FEAT_QUEUES, 9 << 16 | 9, &result), 0);
	cr_assert_eq(result, 2 << 16 | 2);
	cr_assert_eq(get(r, NVME_FEAT_QUEUES, 0), 2 << 16 | 2);
	cr_assert_eq(set(r, NVME_FEAT_QUEUES, 0xffff, NULL), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(set(r, NVME_FEAT_QUEUES, 0xffff0000, NULL), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(set(r, NVME_FEAT_VECTOR, 1 << 16 | 3, NULL), 0);
	cr_assert_eq(get(r, NVME_FEAT_VECTOR, 3), 1 << 16 | 3);
	cr_assert_eq(get(r, NVME_FEAT_VECTOR | 1 << 8, 3), 3);
	cr_assert_eq(get(r, NVME_FEAT_VECTOR, 2), 2);
	cr_assert_eq(get(r, NVME_FEAT_VECTOR, 4), 0x80000000 | NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(set(r, NVME_FEAT_VECTOR, 4, NULL), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(set(r, NVME_FEAT_TEMPERATURE, 1 << 16 | 300, NULL),
		     NVME_SC_INVALID_FIELD | DNR, "no sensor 1");
	cr_assert_eq(get(r, NVME_FEAT_TEMPERATURE, 1 << 20), 0);
	nvrig_queue(r, 1, 16);
	cr_assert_eq(set(r, NVME_FEAT_QUEUES, 1, NULL), NVME_SC_SEQUENCE | DNR);
	nvrig_destroy(r);
}

/* ---- log pages ------------------------------------------------------------------------------- */

static uint16_t get_log(struct nvrig *r, uint32_t id, uint32_t bytes, uint64_t offset)
{
	memset(nvrig_at(r, NVRIG_BUFFER, 8192), 0xee, 8192);
	return nvrig_admin(r, (struct nvme_command){
				      .opcode = NVME_ADMIN_GET_LOG_PAGE,
				      .nsid = NVME_NSID_ALL,
				      .prp1 = NVRIG_BUFFER,
				      .prp2 = NVRIG_BUFFER + NVME_PAGE,
				      .cdw10 = id | (bytes / 4 - 1) << 16,
				      .cdw11 = (bytes / 4 - 1) >> 16,
				      .cdw12 = (uint32_t)offset,
				      .cdw13 = (uint32_t)(offset >> 32),
			      });
}

Test(nvme, log_pages)
{
	struct nvrig *r = nvrig_create("");
	const struct nvme_smart_log *smart;
	const struct nvme_error_entry *error;
	const uint8_t *p = nvrig_at(r, NVRIG_BUFFER, 8192);

	smart = (const void *)p;
	error = (const void *)p;
	nvrig_up(r);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_WRITE, i, 8), NULL), 0);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 8), NULL), 0);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, NVRIG_SECTORS, 1), NULL),
		     NVME_SC_LBA_RANGE | DNR);

	cr_assert_eq(get_log(r, NVME_LOG_SMART, 512, 0), 0);
	cr_assert_eq(smart->critical_warning, 0);
	cr_assert_eq(smart->temperature[0] | smart->temperature[1] << 8, NVME_KELVIN);
	cr_assert_eq(smart->spare, 100);
	cr_assert_eq(smart->host_writes[0], 3);
	cr_assert_eq(smart->host_reads[0], 1);
	cr_assert_eq(smart->data_units_written[0], 1);
	cr_assert_eq(smart->error_entries[0], 1);
	cr_assert_eq(p[512], 0xee);
	cr_assert_eq(get_log(r, NVME_LOG_SMART, 8, 32), 0);
	cr_assert_eq(p[0], 1, "data units read, by an offset");
	cr_assert_eq(p[8], 0xee);

	cr_assert_eq(get_log(r, NVME_LOG_ERROR, 128, 0), 0);
	cr_assert_eq(error->count, 1);
	cr_assert_eq(error->sqid, 1);
	cr_assert_eq(error->status, (NVME_SC_LBA_RANGE | DNR) << 1);
	cr_assert_eq(error->lba, NVRIG_SECTORS);
	cr_assert_eq(error[1].count, 0);
	for (unsigned i = 0; i < 70; i++)
		nvrig_do(r, 1, nvrig_rw(NVME_READ, NVRIG_SECTORS + i, 1), NULL);
	get_log(r, NVME_LOG_ERROR, 4096, 0);
	cr_assert_eq(error[0].count, 71);
	cr_assert_eq(error[63].count, 8);

	cr_assert_eq(get_log(r, NVME_LOG_FIRMWARE, 512, 0), 0);
	cr_assert_eq(p[0], 1);
	cr_assert_eq(memcmp(p + 8, MVM_VERSION, strlen(MVM_VERSION)), 0);
	cr_assert_eq(get_log(r, NVME_LOG_CHANGED_NS, 4096, 0), 0);
	cr_assert_eq(p[0], 0);
	cr_assert_eq(get_log(r, NVME_LOG_EFFECTS, 4096, 0), 0);
	cr_assert_eq(p[4 * NVME_ADMIN_FORMAT_NVM] & 3, 3);
	cr_assert_eq(p[1024 + 4 * NVME_READ], 1);
	/* More than the page has: zeroes. */
	cr_assert_eq(get_log(r, NVME_LOG_EFFECTS, 8192, 0), 0);
	cr_assert_eq(p[8191], 0);

	cr_assert_eq(get_log(r, 0x80, 512, 0), NVME_SC_LOG_PAGE | DNR);
	cr_assert_eq(get_log(r, NVME_LOG_SMART, 512, 516), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(get_log(r, NVME_LOG_SMART, 512, 2), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(get_log(r, NVME_LOG_SMART, 512, 1ull << 60), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(get_log(r, NVME_LOG_SMART, NVME_MAX_TRANSFER + 4, 0),
		     NVME_SC_INVALID_FIELD | DNR);
	nvrig_destroy(r);
}

/* ---- asynchronous events --------------------------------------------------------------------- */

static uint16_t ask_event(struct nvrig *r)
{
	uint16_t cid = nvrig_push(r, 0, (struct nvme_command){ .opcode = NVME_ADMIN_ASYNC_EVENT });

	nvrig_ring(r, 0);
	return cid;
}

Test(nvme, asynchronous_events, .timeout = 30)
{
	struct nvrig *r = nvrig_create("queues=2");
	struct nvme_completion c;
	uint16_t cid;

	nvrig_up(r);
	cid = ask_event(r);
	cr_assert(!nvrig_poll(r, 0, &c));
	nvrig_write(r, NVME_DOORBELLS + 8 * 2, 4, 1); /* there is no queue 2 */
	c = nvrig_wait(r, 0);
	cr_assert_eq(c.cid, cid);
	cr_assert_eq(c.status >> 1, 0);
	cr_assert_eq(c.result, NVME_LOG_ERROR << 16 | NVME_EVENT_INVALID_DOORBELL << 8);
	/* Quiet until the log is read; then what came meanwhile. */
	cid = ask_event(r);
	nvrig_write(r, NVME_DOORBELLS + 8 * 1, 4, NVRIG_ENTRIES);
	vrig_wait(__atomic_load_n(&r->n->event[NVME_EVENT_ERROR].pending, __ATOMIC_SEQ_CST));
	cr_assert(!nvrig_poll(r, 0, &c));
	nvrig_push(r, 0,
		   (struct nvme_command){ .opcode = NVME_ADMIN_GET_LOG_PAGE,
					  .prp1 = NVRIG_BUFFER,
					  .cdw10 = NVME_LOG_ERROR | 15 << 16 });
	nvrig_ring(r, 0);
	nvrig_wait(r, 0);
	c = nvrig_wait(r, 0);
	cr_assert_eq(c.cid, cid);
	cr_assert_eq(c.result, NVME_LOG_ERROR << 16 | NVME_EVENT_INVALID_VALUE << 8);
	/* The queue itself is well. */
	r->queue[1].tail = 0;
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 1), NULL), 0);
	/* Heads: past the tail, past the queue, of none. */
	nvrig_write(r, NVME_DOORBELLS + 12, 4, 5);
	nvrig_write(r, NVME_DOORBELLS + 12, 4, 0xffffffff);
	nvrig_write(r, NVME_DOORBELLS + 8 * 16 + 4, 4, 0);
	nvrig_write(r, NVME_DOORBELLS + 0xffc, 4, 0);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 1), NULL), 0);
	nvrig_destroy(r);
}

Test(nvme, temperature_and_abort, .timeout = 30)
{
	struct nvrig *r = nvrig_create("");
	struct nvme_completion c;
	uint32_t result;
	uint16_t cid[5];

	nvrig_enable(r);
	for (unsigned i = 0; i < 4; i++)
		cid[i] = ask_event(r);
	cid[4] = ask_event(r);
	c = nvrig_wait(r, 0);
	cr_assert_eq(c.cid, cid[4]);
	cr_assert_eq(c.status >> 1, NVME_SC_AER_LIMIT);
	/* An event that the driver has not asked to hear of, then one that it has. */
	cr_assert_eq(set(r, NVME_FEAT_TEMPERATURE, 300, NULL), 0);
	cr_assert(!nvrig_poll(r, 0, &c));
	cr_assert_eq(set(r, NVME_FEAT_ASYNC_EVENT, 2, NULL), 0);
	nvrig_push(r, 0,
		   (struct nvme_command){ .opcode = NVME_ADMIN_SET_FEATURES,
					  .cdw10 = NVME_FEAT_TEMPERATURE,
					  .cdw11 = 1 << 20 | 320 });
	nvrig_ring(r, 0);
	c = nvrig_wait(r, 0);
	cr_assert_eq(c.result, NVME_LOG_SMART << 16 | NVME_EVENT_TEMPERATURE << 8 | 1);
	nvrig_wait(r, 0);
	get_log(r, NVME_LOG_SMART, 512, 0);
	cr_assert_eq(*nvrig_at(r, NVRIG_BUFFER, 1), NVME_SMART_TEMPERATURE);
	/* Abort takes a request for events back; the aborted one comes first. */
	nvrig_push(r, 0,
		   (struct nvme_command){ .opcode = NVME_ADMIN_ABORT,
					  .cdw10 = (uint32_t)cid[0] << 16 });
	nvrig_ring(r, 0);
	c = nvrig_wait(r, 0);
	cr_assert_eq(c.cid, cid[0]);
	cr_assert_eq(c.status >> 1, NVME_SC_ABORT_REQUESTED);
	c = nvrig_wait(r, 0);
	cr_assert_eq(c.result, 0);
	cr_assert_eq(nvrig_do(r, 0, (struct nvme_command){ .opcode = NVME_ADMIN_ABORT, .cdw10 = 1 },
			      &result),
		     0);
	cr_assert_eq(result, 1, "not aborted");
	nvrig_destroy(r);
}

/* An event request does not keep the last entry of a small queue from other commands. */
Test(nvme, events_in_a_full_admin_queue, .timeout = 30)
{
	struct nvrig *r = nvrig_create("");

	nvrig_enable(r);
	nvrig_disable(r);
	nvrig_write(r, AQA, 4, 1 << 16 | (NVRIG_ENTRIES - 1));
	nvrig_write(r, CC, 4, NVRIG_CC);
	memset(nvrig_at(r, NVRIG_CQ, 4096), 0, 4096);
	r->queue[0] = (struct nvrig_queue){
		.sq = NVRIG_SQ, .cq = NVRIG_CQ, .size = NVRIG_ENTRIES, .phase = true
	};
	ask_event(r);
	ask_event(r);
	for (unsigned i = 0; i < 3; i++)
		nvrig_push(r, 0, (struct nvme_command){ .opcode = NVME_ADMIN_ABORT });
	nvrig_ring(r, 0);
	r->queue[0].size = 2; /* of the completion queue, from here on */
	for (unsigned i = 0; i < 3; i++)
		nvrig_wait(r, 0);
	nvrig_destroy(r);
}

/* ---- Format NVM ------------------------------------------------------------------------------ */

static struct nvme_command format(uint32_t cdw10)
{
	return (struct nvme_command){ .opcode = NVME_ADMIN_FORMAT_NVM, .nsid = 1, .cdw10 = cdw10 };
}

Test(nvme, format, .timeout = 30)
{
	struct nvrig *r = nvrig_create("");
	uint8_t *p = nvrig_at(r, NVRIG_BUFFER, 8192);
	struct nvme_command c = format(0);

	nvrig_up(r);
	memset(p, 0x77, 4096);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_WRITE, NVRIG_SECTORS - 8, 8), NULL), 0);
	cr_assert_eq(nvrig_admin(r, format(1)), NVME_SC_INVALID_FORMAT | DNR);
	cr_assert_eq(nvrig_admin(r, format(1 << 5)), NVME_SC_INVALID_FORMAT | DNR, "PI");
	cr_assert_eq(nvrig_admin(r, format(2 << 9)), NVME_SC_INVALID_FIELD | DNR, "cryptographic");
	c.nsid = 2;
	cr_assert_eq(nvrig_admin(r, c), NVME_SC_INVALID_NAMESPACE | DNR);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, NVRIG_SECTORS - 8, 8), NULL), 0);
	cr_assert_eq(p[0], 0x77, "nothing of that formats");
	cr_assert_eq(nvrig_admin(r, format(1 << 9)), 0);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, NVRIG_SECTORS - 8, 8), NULL), 0);
	cr_assert_eq(p[0] | p[4095], 0);
	c.nsid = NVME_NSID_ALL;
	cr_assert_eq(nvrig_admin(r, c), 0);
	nvrig_destroy(r);

	r = nvrig_create("ro=on");
	nvrig_enable(r);
	cr_assert_eq(nvrig_admin(r, format(0)), NVME_SC_WRITE_PROTECTED | DNR);
	nvrig_destroy(r);
}

/* While the disk takes its time: I/O is refused, and a reset ends it. */
Test(nvme, format_in_progress, .timeout = 30)
{
	struct nvrig *r = nvrig_create_stub("");
	struct stub_block *s = r->stub;
	struct nvme_completion c;

	s->no_nowait = true;
	nvrig_up(r);
	stub_gate(s, true);
	nvrig_push(r, 0, format(0));
	nvrig_ring(r, 0);
	vrig_wait(stub_waiting(s) == 1);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 1), NULL), NVME_SC_FORMAT_IN_PROGRESS);
	cr_assert_eq(nvrig_admin(r, format(0)), NVME_SC_FORMAT_IN_PROGRESS);
	stub_gate(s, false);
	c = nvrig_wait(r, 0);
	cr_assert_eq(c.status >> 1, 0);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 1), NULL), 0);

	s->fail = -EIO;
	cr_assert_eq(nvrig_admin(r, format(0)), NVME_SC_WRITE_FAULT);
	s->fail = 0;
	nvrig_push(r, 0, format(0));
	nvrig_ring(r, 0);
	nvrig_disable(r);
	nvrig_up(r);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 1), NULL), 0);
	nvrig_destroy(r);
}

static void refused(const char *keys, const char *word)
{
	struct vrig *v = vrig_create();
	struct device_config c;
	struct device *out = NULL;
	struct error e = { 0 };

	vrig_config(&c, &row_nvme, word[0] == '/' ? word : "/etc/hostname", keys);
	cr_assert_lt(row_nvme.create(&v->host, &c, &out, &e), 0);
	cr_assert_null(out);
	cr_assert_not_null(strstr(e.msg, word), "%s", e.msg);
	vrig_config_free(&c);
	vrig_destroy(v);
}

Test(nvme, flags_that_cannot_be)
{
	struct nvrig *r = nvrig_create("");

	refused("", "/nowhere/disk");
	nvrig_destroy(r);
	r = nvrig_create_stub("");
	nvrig_destroy(r);
}
