/*
 * NVMe's I/O: commands and their data, PRPs of all shapes. Queues are in test_nvme_queues.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/test_nvme_rig.h"

#define DNR NVME_SC_DNR

/* ---- commands -------------------------------------------------------------------------------- */

static void good_commands(const char *keys)
{
	struct nvrig *r = nvrig_create(keys);
	uint8_t *p = nvrig_at(r, NVRIG_BUFFER, 8192), expected[8192];
	struct nvme_command c;

	nvrig_up(r);
	nvrig_fill(p, 8192, 3);
	memcpy(expected, p, 8192);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_WRITE, 100, 16), NULL), 0);
	memset(p, 0, 8192);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 100, 16), NULL), 0);
	cr_assert_eq(memcmp(p, expected, 8192), 0);
	cr_assert_eq(nvrig_do(r, 1, (struct nvme_command){ .opcode = NVME_FLUSH, .nsid = 1 }, NULL),
		     0);
	cr_assert_eq(nvrig_do(r, 1,
			      (struct nvme_command){ .opcode = NVME_FLUSH, .nsid = NVME_NSID_ALL },
			      NULL),
		     0);
	for (unsigned deac = 0; deac < 2; deac++) {
		c = nvrig_rw(NVME_WRITE_ZEROES, 100 + 8 * deac, 8);
		c.cdw12 |= deac ? NVME_CDW12_DEAC : 0;
		cr_assert_eq(nvrig_do(r, 1, c, NULL), 0);
		memset(p, 1, 4096);
		cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 100 + 8 * deac, 8), NULL), 0);
		cr_assert_eq(p[0] | p[4095], 0);
	}
	/* The last block, the one after it, and ranges that wrap. */
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, NVRIG_SECTORS - 1, 1), NULL), 0);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, NVRIG_SECTORS - 1, 2), NULL),
		     NVME_SC_LBA_RANGE | DNR);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, UINT64_MAX, 8), NULL),
		     NVME_SC_LBA_RANGE | DNR);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_WRITE_ZEROES, UINT64_MAX - 6, 8), NULL),
		     NVME_SC_LBA_RANGE | DNR);
	c = nvrig_rw(NVME_READ, 0, 1);
	c.nsid = 0;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_INVALID_NAMESPACE | DNR);
	c.nsid = NVME_NSID_ALL;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_INVALID_NAMESPACE | DNR);
	c.nsid = 1;
	c.flags = 0x40;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_INVALID_FIELD | DNR);
	c.flags = 0;
	c.opcode = 0x7f;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_INVALID_OPCODE | DNR);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, NVME_MAX_TRANSFER / 512 + 1), NULL),
		     NVME_SC_INVALID_FIELD | DNR);
	nvrig_destroy(r);
}

Test(nvme_io, commands, .timeout = 60)
{
	good_commands("");
	good_commands("doorbell=exit");
	good_commands("doorbell=exit,iothread=off");
	good_commands("doorbell=ioeventfd,iothread=off");
	good_commands("engine=threads");
	good_commands("doorbell=exit,engine=threads");
}

Test(nvme_io, deallocate, .timeout = 30)
{
	struct nvrig *r = nvrig_create("");
	struct nvme_dsm_range *range = (void *)nvrig_at(r, NVRIG_LISTS, 8192);
	uint8_t *p = nvrig_at(r, NVRIG_BUFFER, 8192);
	struct nvme_command c = {
		.opcode = NVME_DSM,
		.nsid = 1,
		.prp1 = NVRIG_LISTS + 4096 - 16, /* the ranges lie across two pages */
		.prp2 = NVRIG_LISTS + 4096,
		.cdw10 = 2,
		.cdw11 = NVME_DSM_AD,
	};

	nvrig_up(r);
	memset(p, 0x66, 8192);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_WRITE, 0, 16), NULL), 0);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_WRITE, 64, 8), NULL), 0);
	range += 255;
	range[0] = (struct nvme_dsm_range){ .slba = 0, .blocks = 8 };
	range[1] = (struct nvme_dsm_range){ .slba = 0, .blocks = 0 };
	range[2] = (struct nvme_dsm_range){ .slba = 64, .blocks = 8 };
	c.cdw11 = 0;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), 0, "hints");
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 8), NULL), 0);
	cr_assert_eq(p[0], 0x66);
	c.cdw11 = NVME_DSM_AD;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), 0);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 16), NULL), 0);
	cr_assert_eq(p[0] | p[4095], 0);
	cr_assert_eq(p[4096], 0x66);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 64, 8), NULL), 0);
	cr_assert_eq(p[0] | p[4095], 0);
	range[1] = (struct nvme_dsm_range){ .slba = NVRIG_SECTORS - 1, .blocks = 2 };
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_LBA_RANGE | DNR);
	range[1] = (struct nvme_dsm_range){ .slba = UINT64_MAX, .blocks = 0xffffffff };
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_LBA_RANGE | DNR);
	c.prp1 = MODEL_LOW;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_DATA_TRANSFER | DNR);
	nvrig_destroy(r);
}

/* FUA and the write cache say which writes are stable before they are done. */
Test(nvme_io, write_cache, .timeout = 30)
{
	struct nvrig *r = nvrig_create_stub("");
	struct nvme_command c = nvrig_rw(NVME_WRITE, 0, 1);
	struct nvme_command cache = { .opcode = NVME_ADMIN_SET_FEATURES,
				      .cdw10 = NVME_FEAT_WRITE_CACHE };

	nvrig_up(r);
	nvrig_do(r, 1, c, NULL);
	cr_assert_eq(r->stub->stable_writes, 0);
	c.cdw12 |= NVME_CDW12_FUA;
	nvrig_do(r, 1, c, NULL);
	cr_assert_eq(r->stub->stable_writes, 1);
	c.cdw12 &= ~NVME_CDW12_FUA;
	nvrig_admin(r, cache);
	nvrig_do(r, 1, c, NULL);
	cr_assert_eq(r->stub->stable_writes, 2);
	cache.cdw11 = 1;
	nvrig_admin(r, cache);
	nvrig_do(r, 1, c, NULL);
	cr_assert_eq(r->stub->stable_writes, 2);
	cr_assert_eq(r->stub->flushes, 0);
	nvrig_do(r, 1, (struct nvme_command){ .opcode = NVME_FLUSH, .nsid = 1 }, NULL);
	cr_assert_eq(r->stub->flushes, 1);
	nvrig_destroy(r);
}

Test(nvme_io, errors_of_the_disk, .timeout = 30)
{
	static const struct {
		int err;
		uint16_t read, write;
	} table[] = {
		{ -EIO, NVME_SC_READ_ERROR, NVME_SC_WRITE_FAULT },
		{ -ENOSPC, NVME_SC_CAPACITY, NVME_SC_CAPACITY },
		{ -EROFS, NVME_SC_WRITE_PROTECTED | DNR, NVME_SC_WRITE_PROTECTED | DNR },
	};
	struct nvrig *r = nvrig_create_stub("");

	nvrig_up(r);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		r->stub->fail = table[i].err;
		cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 1), NULL), table[i].read);
		cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_WRITE, 0, 1), NULL), table[i].write);
	}
	nvrig_destroy(r);
	r = nvrig_create("ro=on");
	nvrig_up(r);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 1), NULL), 0);
	for (unsigned opcode = NVME_WRITE; opcode <= NVME_WRITE_ZEROES; opcode += 7)
		cr_assert_eq(nvrig_do(r, 1, nvrig_rw((uint8_t)opcode, 0, 1), NULL),
			     NVME_SC_WRITE_PROTECTED | DNR);
	nvrig_destroy(r);
}

/* ---- PRPs (section 4.3) ---------------------------------------------------------------------- */

/* Writes through pages in this order and reads back through one range: the bytes tell. */
static void pages_are_taken(struct nvrig *r, const uint64_t *page, unsigned pages, uint32_t len)
{
	uint8_t *flat = nvrig_at(r, MODEL_HIGH, NVME_MAX_TRANSFER);
	uint32_t at = 0;

	for (unsigned i = 0; i < pages; i++) {
		uint32_t n = NVME_PAGE - (uint32_t)(page[i] % NVME_PAGE);

		n = n < len - at ? n : len - at;
		nvrig_fill(nvrig_at(r, page[i], n), n, i);
		at += n;
	}
	cr_assert_eq(at, len);
	cr_assert_eq(nvrig_do(r, 1, nvrig_pages(r, NVME_WRITE, 0, len / 512, page, pages), NULL),
		     0);
	/* Back in other pages. */
	{
		uint64_t other[NVME_MAX_IOV];
		unsigned n = (len + NVME_PAGE - 1) / NVME_PAGE;

		memset(flat, 0, len);
		for (unsigned i = 0; i < n; i++)
			other[i] = MODEL_HIGH + i * NVME_PAGE;
		cr_assert_eq(
			nvrig_do(r, 1, nvrig_pages(r, NVME_READ, 0, len / 512, other, n), NULL), 0);
	}
	at = 0;
	for (unsigned i = 0; at < len; i++) {
		uint32_t n = NVME_PAGE - (uint32_t)(page[i] % NVME_PAGE);

		n = n < len - at ? n : len - at;
		cr_assert_eq(memcmp(flat + at, nvrig_at(r, page[i], n), n), 0, "page %u", i);
		at += n;
	}
}

Test(nvme_io, prps, .timeout = 60)
{
	struct nvrig *r = nvrig_create("");
	uint64_t page[NVME_MAX_IOV];

	nvrig_up(r);
	/* Backwards, so that none joins its neighbour. */
	for (unsigned i = 0; i < NVME_MAX_IOV; i++)
		page[i] = NVRIG_BUFFER + (NVME_MAX_IOV - i) * 2 * NVME_PAGE;
	pages_are_taken(r, page, 1, 512);
	pages_are_taken(r, page, 1, 4096);
	pages_are_taken(r, page, 2, 8192);
	pages_are_taken(r, page, 3, 12288);
	pages_are_taken(r, page, 128, NVME_MAX_TRANSFER);
	page[0] += 512;
	pages_are_taken(r, page, 2, 4096);
	pages_are_taken(r, page, 3, 8192);
	pages_are_taken(r, page, NVME_MAX_IOV, NVME_MAX_TRANSFER);
	page[0] += 4; /* any multiple of 4 */
	pages_are_taken(r, page, NVME_MAX_IOV, NVME_MAX_TRANSFER);
	/* The last bytes of RAM, and all of it joined. */
	page[0] = MODEL_LOW - 4096;
	pages_are_taken(r, page, 1, 4096);
	for (unsigned i = 0; i < 128; i++)
		page[i] = NVRIG_BUFFER + i * NVME_PAGE;
	pages_are_taken(r, page, 128, NVME_MAX_TRANSFER);
	nvrig_destroy(r);
}

/* A list that starts near the end of a page goes on by the link in its last entry. */
Test(nvme_io, prp_lists_are_chained, .timeout = 30)
{
	struct nvrig *r = nvrig_create("");
	uint64_t *list = (void *)nvrig_at(r, NVRIG_LISTS, 8192);
	struct nvme_command c = nvrig_rw(NVME_READ, 0, 40);
	uint8_t *p = nvrig_at(r, NVRIG_BUFFER, 6 * 4096);

	nvrig_up(r);
	nvrig_fill(p, 4096, 9);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_WRITE, 32, 8), NULL), 0);
	c.prp2 = NVRIG_LISTS + 510 * 8;
	list[510] = NVRIG_BUFFER + 1 * 4096;
	list[511] = NVRIG_LISTS + 4096;
	list[512] = NVRIG_BUFFER + 2 * 4096;
	list[513] = NVRIG_BUFFER + 3 * 4096;
	list[514] = NVRIG_BUFFER + 4 * 4096;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), 0);
	cr_assert_eq(memcmp(p + 4 * 4096, (uint8_t[]){ 9, 22, 35 }, 3), 0);
	/* Only a link in the first page. */
	c.prp2 = NVRIG_LISTS + 511 * 8;
	list[512] = NVRIG_BUFFER + 1 * 4096;
	list[513] = NVRIG_BUFFER + 2 * 4096;
	list[514] = NVRIG_BUFFER + 3 * 4096;
	list[515] = NVRIG_BUFFER + 5 * 4096;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), 0);
	cr_assert_eq(memcmp(p + 5 * 4096, (uint8_t[]){ 9, 22, 35 }, 3), 0);
	/* The last entry of a page is data when the transfer ends with it. */
	c = nvrig_rw(NVME_READ, 24, 16);
	c.cdw12 = 23;
	c.prp2 = NVRIG_LISTS + 510 * 8;
	list[511] = NVRIG_BUFFER + 2 * 4096;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), 0);
	/* A list that points at itself. */
	c = nvrig_rw(NVME_READ, 0, NVME_MAX_TRANSFER / 512);
	c.prp2 = NVRIG_LISTS + 511 * 8;
	list[511] = NVRIG_LISTS;
	for (unsigned i = 0; i < 511; i++)
		list[i] = NVRIG_LISTS;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), 0, "data over its own list");
	c.prp2 = NVRIG_LISTS + 511 * 8;
	list[511] = NVRIG_LISTS + 511 * 8;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_PRP_OFFSET | DNR);
	nvrig_destroy(r);
}

Test(nvme_io, prps_that_cannot_be, .timeout = 30)
{
	struct nvrig *r = nvrig_create("");
	uint64_t *list = (void *)nvrig_at(r, NVRIG_LISTS, 8192);
	const uint64_t nowhere[] = {
		MODEL_LOW, MODEL_HIGH - 4096, MODEL_HIGH + MODEL_LOW, VRIG_ECAM, r->bar, ~0xfffull
	};
	struct nvme_command c;

	nvrig_up(r);
	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
		c = nvrig_rw(NVME_READ, 0, 8);
		c.prp1 = nowhere[i];
		cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_DATA_TRANSFER | DNR);
		c = nvrig_rw(NVME_READ, 0, 16);
		c.prp2 = nowhere[i];
		cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_DATA_TRANSFER | DNR);
		c = nvrig_rw(NVME_READ, 0, 24);
		c.prp2 = nowhere[i];
		cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_DATA_TRANSFER | DNR);
		c.prp2 = NVRIG_LISTS;
		list[0] = NVRIG_BUFFER;
		list[1] = nowhere[i];
		cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_DATA_TRANSFER | DNR);
	}
	c = nvrig_rw(NVME_READ, 0, 8);
	c.prp1 += 2;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_PRP_OFFSET | DNR);
	c = nvrig_rw(NVME_READ, 0, 16);
	c.prp2 += 512;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_PRP_OFFSET | DNR);
	c = nvrig_rw(NVME_READ, 0, 24);
	c.prp2 = NVRIG_LISTS + 4;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_PRP_OFFSET | DNR);
	c.prp2 = NVRIG_LISTS;
	list[1] = NVRIG_BUFFER + 8;
	cr_assert_eq(nvrig_do(r, 1, c, NULL), NVME_SC_PRP_OFFSET | DNR);
	nvrig_destroy(r);
}
