/*
 * NVMe's I/O: commands and their data, PRPs of all shapes, doorbells in all modes, full queues,
 * interrupts, and resets while the disk is slow.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_nvme_rig.h"

#define DNR NVME_SC_DNR

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 13 + (i >> 9) + seed);
}

/* ---- commands -------------------------------------------------------------------------------- */

static void good_commands(const char *keys)
{
	struct nvrig *r = nvrig_create(keys);
	uint8_t *p = nvrig_at(r, NVRIG_BUFFER, 8192), expected[8192];
	struct nvme_command c;

	nvrig_up(r);
	fill(p, 8192, 3);
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
		fill(nvrig_at(r, page[i], n), n, i);
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
	fill(p, 4096, 9);
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

/* ---- doorbells ------------------------------------------------------------------------------- */

static uint16_t dbbuf(struct nvrig *r, uint64_t shadow, uint64_t events)
{
	return nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_DBBUF_CONFIG,
						     .prp1 = shadow,
						     .prp2 = events });
}

/* From here on the driver keeps its doorbells in memory. */
static void use_shadow(struct nvrig *r)
{
	cr_assert_eq(dbbuf(r, NVRIG_SHADOW, NVRIG_EVENTS), 0);
	for (unsigned i = 1; i <= NVME_MAX_QUEUES; i++)
		r->queue[i].shadow = true;
}

static void many(struct nvrig *r, unsigned q, unsigned rounds)
{
	for (unsigned round = 0; round < rounds; round++) {
		unsigned n = 1 + round * 7 % 20;

		for (unsigned i = 0; i < n; i++) {
			nvrig_push(r, q, nvrig_rw(NVME_READ, i, 8));
			nvrig_ring(r, q);
		}
		for (unsigned i = 0; i < n; i++)
			cr_assert_eq(nvrig_wait(r, q).status >> 1, 0);
	}
}

static void shadow_doorbells(const char *keys, bool msix)
{
	struct nvrig *r = nvrig_create(keys);

	if (msix)
		nvrig_msix_enable(r);
	nvrig_up(r);
	many(r, 1, 3);
	memset(nvrig_at(r, NVRIG_SHADOW, 8192), 0x5a, 8192);
	use_shadow(r);
	many(r, 1, 60);
	nvrig_queue(r, 2, 8);
	r->queue[2].shadow = true;
	for (unsigned i = 0; i < 50; i++)
		cr_assert_eq(nvrig_do(r, 2, nvrig_rw(NVME_WRITE, i, 8), NULL), 0);
	/* The admin queue by shadow too, and by register alone. */
	for (unsigned i = 0; i < 200; i++) {
		r->queue[0].shadow = i < 100;
		cr_assert_eq(nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_ABORT }),
			     0);
	}
	nvrig_disable(r);
	nvrig_up(r);
	cr_assert_not(r->queue[1].shadow);
	many(r, 1, 3);
	nvrig_destroy(r);
}

Test(nvme_io, shadow_doorbells, .timeout = 60)
{
	shadow_doorbells("", true);
	shadow_doorbells("", false);
	shadow_doorbells("doorbell=exit", true);
	shadow_doorbells("doorbell=exit", false);
	shadow_doorbells("iothread=off", true);
}

static unsigned kicks_bound(struct nvrig *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->n->f.kicks; i++)
		n += r->n->f.kick[i].used && r->n->f.kick[i].bound;
	return n;
}

/* Only while the value is in memory may the register's write be swallowed. */
Test(nvme_io, ioeventfds_are_bound_with_shadow_doorbells, .timeout = 30)
{
	struct nvrig *r = nvrig_create("queues=3");

	nvrig_up(r);
	nvrig_queue(r, 2, 8);
	cr_assert_eq(kicks_bound(r), 0);
	use_shadow(r);
	cr_assert_eq(kicks_bound(r), 2);
	nvrig_queue(r, 3, 8);
	r->queue[3].shadow = true;
	cr_assert_eq(kicks_bound(r), 3);
	cr_assert_eq(nvrig_do(r, 3, nvrig_rw(NVME_READ, 0, 1), NULL), 0);
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_DELETE_SQ, .cdw10 = 3 });
	cr_assert_eq(kicks_bound(r), 2);
	nvrig_disable(r);
	cr_assert_eq(kicks_bound(r), 0);
	nvrig_destroy(r);
	r = nvrig_create("doorbell=exit");
	nvrig_up(r);
	use_shadow(r);
	cr_assert_eq(kicks_bound(r), 0);
	nvrig_destroy(r);
}

Test(nvme_io, doorbell_buffers_that_cannot_be, .timeout = 30)
{
	struct nvrig *r = nvrig_create("");

	nvrig_up(r);
	cr_assert_eq(dbbuf(r, NVRIG_SHADOW + 8, NVRIG_EVENTS), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(dbbuf(r, NVRIG_SHADOW, NVRIG_EVENTS + 4), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(dbbuf(r, NVRIG_SHADOW, NVRIG_SHADOW), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(dbbuf(r, MODEL_LOW, NVRIG_EVENTS), NVME_SC_INVALID_FIELD | DNR);
	cr_assert_eq(dbbuf(r, NVRIG_SHADOW, VRIG_ECAM), NVME_SC_INVALID_FIELD | DNR);
	many(r, 1, 2);
	/* Nonsense in the shadow: the value before it counts on, the queue lives. */
	use_shadow(r);
	*(uint32_t *)(void *)nvrig_at(r, NVRIG_SHADOW + 8, 4) = 0xffffffff;
	nvrig_write(r, NVME_DOORBELLS + 8, 4, 0);
	*(uint32_t *)(void *)nvrig_at(r, NVRIG_SHADOW + 12, 4) = 63;
	*(uint32_t *)(void *)nvrig_at(r, NVRIG_SHADOW + 8, 4) = r->queue[1].tail;
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 1), NULL), 0);
	nvrig_destroy(r);
}

/* ---- full queues ----------------------------------------------------------------------------- */

/* More commands than the completion queue has entries: it waits for the head, and loses none. */
static void full_completion_queue(const char *keys, bool shadow)
{
	struct nvrig *r = nvrig_create(keys);
	struct nvme_completion c;
	unsigned seen = 0;

	nvrig_msix_enable(r);
	nvrig_enable(r);
	nvrig_queue(r, 1, 32);
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_DELETE_SQ, .cdw10 = 1 });
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_DELETE_CQ, .cdw10 = 1 });
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_CREATE_CQ,
					      .prp1 = NVRIG_CQ + NVRIG_QUEUE,
					      .cdw10 = 3 << 16 | 1,
					      .cdw11 = 1 << 16 | 3 });
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_CREATE_SQ,
					      .prp1 = NVRIG_SQ + NVRIG_QUEUE,
					      .cdw10 = 31 << 16 | 1,
					      .cdw11 = 1 << 16 | 1 });
	if (shadow)
		use_shadow(r);
	for (unsigned i = 0; i < 30; i++)
		nvrig_push(r, 1, nvrig_rw(NVME_READ, i, 1));
	nvrig_ring(r, 1);
	r->queue[1].size = 4; /* of the completion queue */
	while (seen < 30) {
		unsigned got;

		nvrig_wait_quietly(r, 1);
		for (got = 1; nvrig_poll(r, 1, &c); got++)
			continue;
		cr_assert_leq(got, 3);
		seen += got;
		usleep(1000);
		if (nvrig_poll(r, 1, &c))
			cr_assert(++seen && ++got <= 3, "overrun");
		nvrig_ring_head(r, 1);
	}
	cr_assert_eq(seen, 30);
	nvrig_destroy(r);
}

Test(nvme_io, full_completion_queue, .timeout = 60)
{
	full_completion_queue("", false);
	full_completion_queue("", true);
	full_completion_queue("doorbell=exit", false);
	full_completion_queue("doorbell=exit", true);
}

/* More commands than requests: the rest is fetched as they complete. */
static void more_than_depth(const char *keys)
{
	struct nvrig *r = nvrig_create_stub(keys);
	struct nvme_completion c;

	r->stub->no_nowait = true;
	nvrig_enable(r);
	nvrig_queue(r, 1, 1024);
	stub_gate(r->stub, true);
	for (unsigned i = 0; i < 1000; i++)
		nvrig_push(r, 1, nvrig_rw(NVME_READ, i, 1));
	nvrig_ring(r, 1);
	vrig_wait(stub_waiting(r->stub) > 0);
	cr_assert(!nvrig_poll(r, 1, &c));
	stub_gate(r->stub, false);
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_eq(nvrig_wait(r, 1).status >> 1, 0);
	nvrig_destroy(r);
}

Test(nvme_io, more_commands_than_requests, .timeout = 60)
{
	more_than_depth("");
	more_than_depth("doorbell=exit");
	more_than_depth("iothread=off");
}

/* ---- interrupts ------------------------------------------------------------------------------ */

static unsigned messages(struct nvrig *r)
{
	return __atomic_load_n(&r->v->chip.messages, __ATOMIC_SEQ_CST);
}

Test(nvme_io, one_message_for_a_batch, .timeout = 30)
{
	struct nvrig *r = nvrig_create("doorbell=exit");
	unsigned before;

	nvrig_msix_enable(r);
	nvrig_up(r);
	before = messages(r);
	for (unsigned i = 0; i < 20; i++)
		nvrig_push(r, 1, nvrig_rw(NVME_READ, i, 9999));
	nvrig_ring(r, 1);
	cr_assert_eq(messages(r), before + 1);
	cr_assert_eq(r->v->chip.data, 0x41);
	for (unsigned i = 0; i < 20; i++)
		nvrig_wait(r, 1);
	/* A queue without interrupts. */
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_CREATE_CQ,
					      .prp1 = NVRIG_CQ + 2 * NVRIG_QUEUE,
					      .cdw10 = 7 << 16 | 2,
					      .cdw11 = 2 << 16 | 1 });
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_CREATE_SQ,
					      .prp1 = NVRIG_SQ + 2 * NVRIG_QUEUE,
					      .cdw10 = 7 << 16 | 2,
					      .cdw11 = 2 << 16 | 1 });
	before = messages(r);
	nvrig_write(r, NVME_DOORBELLS + 16, 4, 1);
	vrig_wait(r->n->cq[2].tail == 1);
	cr_assert_eq(messages(r), before);
	nvrig_destroy(r);
}

static bool pin(struct nvrig *r)
{
	for (unsigned gsi = 16; gsi < IRQ_LINES; gsi++)
		if (__atomic_load_n(&r->v->chip.level[gsi], __ATOMIC_SEQ_CST))
			return true;
	return false;
}

static void by_pin(bool shadow)
{
	struct nvrig *r = nvrig_create("");

	nvrig_up(r);
	if (shadow)
		use_shadow(r);
	cr_assert(!pin(r));
	for (unsigned i = 0; i < 3; i++) {
		nvrig_push(r, 1, nvrig_rw(NVME_READ, 0, 1));
		nvrig_ring(r, 1);
		vrig_wait(pin(r));
		nvrig_write(r, INTMS, 4, 1);
		cr_assert(!pin(r));
		nvrig_write(r, INTMC, 4, 1);
		cr_assert(pin(r));
		nvrig_wait_quietly(r, 1);
		cr_assert(pin(r));
		nvrig_ring_head(r, 1);
		cr_assert(!pin(r));
	}
	nvrig_push(r, 1, nvrig_rw(NVME_READ, 0, 1));
	nvrig_ring(r, 1);
	vrig_wait(pin(r));
	nvrig_disable(r);
	cr_assert(!pin(r));
	nvrig_destroy(r);
}

Test(nvme_io, pin, .timeout = 30)
{
	by_pin(false);
	by_pin(true);
}

/* ---- holding and stopping -------------------------------------------------------------------- */

static void without_bus_mastering(const char *keys)
{
	struct nvrig *r = nvrig_create(keys);
	struct nvme_completion c;

	nvrig_up(r);
	nvrig_command_register(r, PCI_COMMAND_MEMORY);
	nvrig_push(r, 1, nvrig_rw(NVME_READ, 0, 1));
	nvrig_ring(r, 1);
	nvrig_push(r, 0, (struct nvme_command){ .opcode = NVME_ADMIN_ABORT });
	nvrig_ring(r, 0);
	usleep(10000);
	cr_assert(!nvrig_poll(r, 1, &c));
	cr_assert(!nvrig_poll(r, 0, &c));
	nvrig_command_register(r, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cr_assert_eq(nvrig_wait(r, 1).status >> 1, 0);
	cr_assert_eq(nvrig_wait(r, 0).status >> 1, 0);
	r->v->dev->ops->pause(r->v->dev);
	nvrig_push(r, 1, nvrig_rw(NVME_READ, 0, 1));
	nvrig_ring(r, 1);
	usleep(10000);
	cr_assert(!nvrig_poll(r, 1, &c));
	r->v->dev->ops->start(r->v->dev, NULL);
	cr_assert_eq(nvrig_wait(r, 1).status >> 1, 0);
	nvrig_destroy(r);
}

Test(nvme_io, waits_for_bus_mastering_and_the_machine, .timeout = 30)
{
	without_bus_mastering("");
	without_bus_mastering("doorbell=exit");
}

enum way { WAY_DISABLE, WAY_MACHINE_RESET, WAY_FLR, WAY_BUS_MASTER, WAY_DELETE };

struct stopper {
	struct nvrig *r;
	enum way way;
	bool done; /* atomic */
};

static void *stop_thread(void *arg)
{
	struct stopper *t = arg;
	struct nvrig *r = t->r;

	switch (t->way) {
	case WAY_DISABLE:
		nvrig_write(r, CC, 4, 0);
		break;
	case WAY_MACHINE_RESET:
		r->v->dev->ops->reset(r->v->dev);
		break;
	case WAY_FLR:
		vrig_write(r->v, r->config + r->n->express + PCI_EXP_DEVCTL, 2,
			   PCI_EXP_DEVCTL_BCR_FLR);
		break;
	case WAY_BUS_MASTER:
		nvrig_command_register(r, PCI_COMMAND_MEMORY);
		break;
	case WAY_DELETE:
		nvrig_push(r, 0,
			   (struct nvme_command){ .opcode = NVME_ADMIN_DELETE_SQ, .cdw10 = 1 });
		nvrig_ring(r, 0);
		break;
	}
	__atomic_store_n(&t->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* n reads are in the disk: the stop waits for them, and afterwards memory is left alone. */
static void stop_in_flight(enum way way, unsigned n, const char *keys)
{
	struct nvrig *r = nvrig_create_stub(keys);
	struct stopper t = { .r = r, .way = way };
	uint8_t *before = malloc(MODEL_LOW);
	pthread_t thread;

	r->stub->no_nowait = true;
	memset(r->stub->data, 0x55, NVRIG_SECTORS * 512);
	nvrig_up(r);
	stub_gate(r->stub, true);
	for (unsigned i = 0; i < n; i++)
		nvrig_push(r, 1, nvrig_rw(NVME_READ, i, 8));
	nvrig_ring(r, 1);
	vrig_wait(stub_waiting(r->stub) == (n < 8 ? n : 8));
	pthread_create(&thread, NULL, stop_thread, &t);
	usleep(20000);
	cr_assert_not(__atomic_load_n(&t.done, __ATOMIC_SEQ_CST));
	stub_gate(r->stub, false);
	pthread_join(thread, NULL);
	cr_assert_eq(stub_waiting(r->stub), 0);
	memset(nvrig_at(r, NVRIG_BUFFER, 4096), 0, 4096);
	memcpy(before, nvrig_at(r, 0, MODEL_LOW), MODEL_LOW);
	usleep(20000);
	cr_assert_eq(memcmp(before, nvrig_at(r, 0, MODEL_LOW), MODEL_LOW), 0);
	nvrig_command_register(r, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	if (way == WAY_MACHINE_RESET || way == WAY_FLR) {
		cr_assert_eq(vrig_read(r->v, r->config + r->n->express + PCI_EXP_DEVCTL, 2) &
				     PCI_EXP_DEVCTL_BCR_FLR,
			     0);
		vrig_write(r->v, r->config + PCI_BASE_ADDRESS_0, 8, r->bar);
		cr_assert_eq(nvrig_read(r, ASQ, 8), 0);
	}
	nvrig_write(r, CC, 4, 0);
	nvrig_up(r);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 1), NULL), 0);
	cr_assert_eq(*nvrig_at(r, NVRIG_BUFFER, 1), 0x55);
	free(before);
	nvrig_destroy(r);
}

Test(nvme_io, stops_with_commands_in_flight, .timeout = 60)
{
	stop_in_flight(WAY_DISABLE, 1, "");
	stop_in_flight(WAY_DISABLE, 40, "");
	stop_in_flight(WAY_DISABLE, 40, "doorbell=exit");
	stop_in_flight(WAY_DISABLE, 20, "iothread=off");
	stop_in_flight(WAY_MACHINE_RESET, 40, "");
	stop_in_flight(WAY_FLR, 40, "");
	stop_in_flight(WAY_FLR, 40, "doorbell=exit");
	stop_in_flight(WAY_BUS_MASTER, 40, "");
	stop_in_flight(WAY_BUS_MASTER, 40, "doorbell=exit");
	stop_in_flight(WAY_DELETE, 40, "");
}

/* ---- random traffic -------------------------------------------------------------------------- */

/* Several queues, blocks of their own, many in flight, answers checked against a copy. */
static void traffic(const char *keys, bool shadow, uint64_t random)
{
	enum { QUEUES = 3, SLOTS = 24, SLOT = 24 };
	struct nvrig *r = nvrig_create(keys);
	uint8_t *copy = calloc(NVRIG_SECTORS, 512);

	nvrig_msix_enable(r);
	nvrig_enable(r);
	for (unsigned q = 1; q <= QUEUES; q++)
		nvrig_queue(r, q, NVRIG_ENTRIES);
	if (shadow)
		use_shadow(r);
	for (unsigned round = 0; round < 60; round++) {
		for (unsigned q = 1; q <= QUEUES; q++) {
			uint16_t first = (uint16_t)(r->cid + 1);
			uint64_t where[SLOTS], lba[SLOTS];
			uint32_t size[SLOTS];

			for (unsigned i = 0; i < SLOTS; i++) {
				bool out = model_random(&random) % 2;
				uint32_t blocks = 1 + (uint32_t)(model_random(&random) % 16);
				struct nvme_command c;

				lba[i] = (q * SLOTS + i) * SLOT;
				where[i] = NVRIG_BUFFER + i * 2 * NVME_PAGE;
				size[i] = out ? 0 : blocks * 512;
				if (out) {
					fill(nvrig_at(r, where[i], blocks * 512), blocks * 512,
					     round + i);
					memcpy(copy + lba[i] * 512,
					       nvrig_at(r, where[i], blocks * 512), blocks * 512);
				}
				c = nvrig_rw(out ? NVME_WRITE : NVME_READ, lba[i], blocks);
				c.prp1 = where[i];
				c.prp2 = where[i] + NVME_PAGE;
				nvrig_push(r, q, c);
				if (model_random(&random) % 4 == 0 || i == SLOTS - 1)
					nvrig_ring(r, q);
			}
			for (unsigned n = 0; n < SLOTS; n++) {
				struct nvme_completion c = nvrig_wait(r, q);
				unsigned i = (uint16_t)(c.cid - first);

				cr_assert_lt(i, SLOTS);
				cr_assert_eq(c.status >> 1, 0);
				cr_assert_eq(memcmp(nvrig_at(r, where[i], size[i] + 1),
						    copy + lba[i] * 512, size[i]),
					     0);
			}
		}
	}
	free(copy);
	nvrig_destroy(r);
}

Test(nvme_io, random_traffic, .timeout = 60)
{
	traffic("", false, 1);
	traffic("", true, 2);
	traffic("doorbell=exit", false, 3);
	traffic("doorbell=exit", true, 4);
	traffic("iothread=off", true, 5);
}
