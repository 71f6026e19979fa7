/*
 * virtio-blk from the driver's side: requests and their answers on a real image, requests that are
 * none, configuration, and resets while the disk is slow.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/registry.h"
#include "devices/virtio/blk.h"
#include "tests/unit/test_block_stub.h"
#include "tests/unit/test_virtio_rig.h"

#define V1	 MODEL_BIT(VIRTIO_F_VERSION_1)
#define INDIRECT MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define PACKED	 MODEL_BIT(VIRTIO_F_RING_PACKED)
#define SECTORS	 2048u
#define NEVER	 0xee /* what a status byte holds before */

/* Where a request's parts are. */
#define HEADER 0x600000ull
#define STATUS 0x610000ull
#define DATA   (MODEL_HIGH + 0x10000)

static int create_on_stub(struct device_host *host, const struct device_config *config, void *arg,
			  struct device **out, struct error *e)
{
	return virtio_blk_create(host, config, arg, out, e);
}

static struct vrig *stub_rig(struct stub_block *s, const char *keys)
{
	struct vrig *r = vrig_create();

	vrig_plug_with(r, &row_virtio_blk, keys, create_on_stub, &s->block);
	return r;
}

struct image {
	char path[64];
};

static struct image image_create(void)
{
	struct image image = { "/tmp/mvm-vblk-XXXXXX" };
	int fd = mkstemp(image.path);

	cr_assert_eq(ftruncate(fd, SECTORS * 512), 0);
	close(fd);
	return image;
}

/* ---- a request ------------------------------------------------------------------------------- */

static void set_header(struct vrig *r, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	uint8_t never = NEVER;

	memory_write(&r->memory, HEADER, &header, sizeof(header));
	memory_write(&r->memory, STATUS, &never, 1);
}

static uint8_t status_of(struct vrig *r)
{
	return *(uint8_t *)model_at(&r->memory, STATUS, 1);
}

/* Sends what is in the buffers and waits; the status, used length in *used. */
static uint8_t send(struct vrig *r, struct model *d, const struct model_buf *buf, unsigned n,
		    uint32_t *used)
{
	uint32_t len;

	cr_assert_geq(model_add(d, buf, n, n > d->size), 0);
	vrig_kick(r, 0);
	len = vrig_wait_used(d).len;
	if (used)
		*used = len;
	return status_of(r);
}

static uint8_t request(struct vrig *r, struct model *d, uint32_t type, uint64_t sector,
		       uint32_t len, uint32_t *used)
{
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct model_buf buf[3] = { { HEADER, 16, false }, { DATA, len, in }, { STATUS, 1, true } };

	set_header(r, type, sector);
	if (len == 0)
		buf[1] = buf[2];
	return send(r, d, buf, len ? 3 : 2, used);
}

static uint8_t *data(struct vrig *r, uint64_t len)
{
	return model_at(&r->memory, DATA, len);
}

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 13 + seed);
}

/* ---- good requests --------------------------------------------------------------------------- */

static void good_requests(const char *keys, uint64_t features)
{
	struct image image = image_create();
	struct vrig *r = vrig_create();
	uint8_t expected[4096], *p;
	struct model d;
	uint32_t used;

	vrig_plug(r, &row_virtio_blk, image.path, keys);
	vrig_up(r, &d, 8, features);
	p = data(r, 4096);
	fill(p, 4096, 5);
	memcpy(expected, p, 4096);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_OUT, 100, 4096, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(used, 1);
	memset(p, 0, 4096);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_IN, 100, 4096, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(used, 4097);
	cr_assert_eq(memcmp(p, expected, 4096), 0);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_FLUSH, 0, 0, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(used, 1);
	/* The last sector, and the one after it. */
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_IN, SECTORS - 1, 512, NULL), VIRTIO_BLK_S_OK);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_IN, SECTORS, 512, &used), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(used, 1);
	memset(p, 0xff, 20);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_GET_ID, 0, 20, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(used, 21);
	cr_assert_str_eq((char *)p, "mvm-blk-0");
	model_free(&d);
	vrig_destroy(r);
	unlink(image.path);
}

Test(virtio_blk, good_requests)
{
	good_requests("", ~0ull);
	good_requests("", 0);
	good_requests("ring=packed", ~0ull);
	good_requests("iothread=off", ~0ull);
	good_requests("in-order=on,event-idx=off", ~0ull);
}

/* Section 2.7.4: a device makes no assumption about where a driver cuts a request. */
Test(virtio_blk, framing_is_free)
{
	struct image image = image_create();
	struct vrig *r = vrig_create();
	struct model_buf write[] = { { HEADER, 3, false },	 { HEADER + 3, 13, false },
				     { DATA, 1, false },	 { DATA + 1, 1000, false },
				     { DATA + 1001, 23, false }, { STATUS, 1, true } };
	/* Header and data in one; data and status in one. */
	struct model_buf write2[] = { { DATA - 16, 16 + 1024, false }, { STATUS, 1, true } };
	struct model_buf read[] = { { HEADER, 16, false },
				    { DATA, 511, true },
				    { DATA + 511, 514, true } };
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_OUT, .sector = 9 };
	uint8_t expected[1024];
	struct model d;
	uint8_t *p;
	uint32_t used;

	vrig_plug(r, &row_virtio_blk, image.path, "");
	vrig_up(r, &d, 8, 0);
	p = data(r, 2048);
	fill(p, 1024, 77);
	memcpy(expected, p, 1024);
	set_header(r, VIRTIO_BLK_T_OUT, 7);
	cr_assert_eq(send(r, &d, write, 6, NULL), VIRTIO_BLK_S_OK);
	memory_write(&r->memory, DATA - 16, &header, sizeof(header));
	set_header(r, 0, 0);
	cr_assert_eq(send(r, &d, write2, 2, NULL), VIRTIO_BLK_S_OK);
	for (unsigned sector = 7; sector <= 9; sector += 2) {
		memset(p, 0, 1024);
		p[1024] = NEVER;
		set_header(r, VIRTIO_BLK_T_IN, sector);
		send(r, &d, read, 3, &used);
		cr_assert_eq(used, 1025);
		cr_assert_eq(p[1024], VIRTIO_BLK_S_OK);
		cr_assert_eq(memcmp(p, expected, 1024), 0);
	}
	model_free(&d);
	vrig_destroy(r);
	unlink(image.path);
}

Test(virtio_blk, discard_and_write_zeroes)
{
	struct stub_block *s = stub_block_create(SECTORS * 512);
	struct vrig *r = stub_rig(s, "");
	struct virtio_blk_discard_write_zeroes seg = { .sector = 8, .num_sectors = 8 };
	struct model d;

	vrig_up(r, &d, 8, ~0ull);
	memset(s->data, 1, SECTORS * 512);
	memcpy(data(r, 16), &seg, 16);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), VIRTIO_BLK_S_OK);
	cr_assert_eq(s->data[8 * 512], 0);
	cr_assert_eq(s->data[16 * 512 - 1], 0);
	cr_assert_eq(s->data[8 * 512 - 1] & s->data[16 * 512], 1);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_DISCARD, 0, 16, NULL), VIRTIO_BLK_S_OK);
	cr_assert_eq(s->discards, 1);
	/* Unmap is for zeroes only; other flags are for nobody. */
	seg.flags = 1;
	memcpy(data(r, 16), &seg, 16);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), VIRTIO_BLK_S_OK);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_DISCARD, 0, 16, NULL), VIRTIO_BLK_S_UNSUPP);
	seg.flags = 2;
	memcpy(data(r, 16), &seg, 16);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), VIRTIO_BLK_S_UNSUPP);
	/* Ranges. */
	seg = (struct virtio_blk_discard_write_zeroes){ .sector = SECTORS - 1, .num_sectors = 2 };
	memcpy(data(r, 16), &seg, 16);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_DISCARD, 0, 16, NULL), VIRTIO_BLK_S_IOERR);
	seg = (struct virtio_blk_discard_write_zeroes){ .sector = UINT64_MAX, .num_sectors = 1 };
	memcpy(data(r, 16), &seg, 16);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), VIRTIO_BLK_S_IOERR);
	seg = (struct virtio_blk_discard_write_zeroes){ .sector = 0, .num_sectors = UINT32_MAX };
	memcpy(data(r, 16), &seg, 16);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_DISCARD, 0, 16, NULL), VIRTIO_BLK_S_IOERR);
	/* One segment, whole. */
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_DISCARD, 0, 32, NULL), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_DISCARD, 0, 15, NULL), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_DISCARD, 0, 0, NULL), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(s->discards, 1);
	model_free(&d);
	/* Not negotiated: not supported. */
	vrig_up(r, &d, 8, V1);
	seg = (struct virtio_blk_discard_write_zeroes){ .num_sectors = 1 };
	memcpy(data(r, 16), &seg, 16);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_DISCARD, 0, 16, NULL), VIRTIO_BLK_S_UNSUPP);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, NULL), VIRTIO_BLK_S_UNSUPP);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- requests that cannot be ----------------------------------------------------------------- */

Test(virtio_blk, requests_that_fail_with_an_answer)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		uint8_t status;
	} bad[] = {
		{ VIRTIO_BLK_T_IN, 0, 511, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, 0, 1, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, 0, 513, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, SECTORS - 1, 1024, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, SECTORS, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, UINT64_MAX, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, UINT64_MAX / 512, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, 512, VIRTIO_BLK_S_IOERR },
		{ 2, 0, 512, VIRTIO_BLK_S_UNSUPP },
		{ 3, 0, 512, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_SECURE_ERASE, 0, 512, VIRTIO_BLK_S_UNSUPP },
		{ 0x80000001, 0, 512, VIRTIO_BLK_S_UNSUPP },
		{ UINT32_MAX, 0, 512, VIRTIO_BLK_S_UNSUPP },
	};
	struct image image = image_create();
	struct vrig *r = vrig_create();
	struct model d;

	vrig_plug(r, &row_virtio_blk, image.path, "");
	vrig_up(r, &d, 8, ~0ull);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(request(r, &d, bad[i].type, bad[i].sector, bad[i].len, NULL),
			     bad[i].status, "%u", i);
		cr_assert_eq(vrig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	}
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
	model_free(&d);
	vrig_destroy(r);
	unlink(image.path);
}

Test(virtio_blk, chains_that_are_no_requests_break_the_queue)
{
	static const struct {
		const char *what;
		unsigned n;
		struct model_buf buf[3];
	} bad[] = {
		{ "no status", 1, { { HEADER, 16, false } } },
		{ "status not writable", 2, { { HEADER, 16, false }, { STATUS, 1, false } } },
		{ "no header", 1, { { STATUS, 1, true } } },
		{ "short header", 2, { { HEADER, 15, false }, { STATUS, 1, true } } },
		{ "header writable", 2, { { HEADER, 16, true }, { STATUS, 1, true } } },
		{ "very short header", 2, { { HEADER, 1, false }, { DATA, 513, true } } },
	};
	struct image image = image_create();
	struct vrig *r = vrig_create();

	vrig_plug(r, &row_virtio_blk, image.path, "");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct model_buf good[] = { { HEADER, 16, false },
						  { DATA, 512, true },
						  { STATUS, 1, true } };
		struct model d;

		vrig_up(r, &d, 8, ~0ull);
		set_header(r, VIRTIO_BLK_T_IN, 0);
		model_add(&d, bad[i].buf, bad[i].n, false);
		model_add(&d, good, 3, false);
		vrig_kick(r, 0);
		vrig_wait(vrig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET);
		usleep(1000);
		cr_assert(!model_sleep(&d), "%s", bad[i].what);
		cr_assert_eq(status_of(r), NEVER, "%s", bad[i].what);
		model_free(&d);
		vrig_up(r, &d, 8, ~0ull);
		cr_assert_eq(request(r, &d, VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
		model_free(&d);
	}
	vrig_destroy(r);
	unlink(image.path);
}

Test(virtio_blk, errors_of_the_disk_reach_the_guest)
{
	struct stub_block *s = stub_block_create(SECTORS * 512);
	struct vrig *r = stub_rig(s, "");
	struct model d;

	vrig_up(r, &d, 8, ~0ull);
	for (unsigned i = 0; i < 2; i++) {
		s->fail = i ? -EIO : -ENOSPC;
		cr_assert_eq(request(r, &d, VIRTIO_BLK_T_OUT, 0, 512, NULL), VIRTIO_BLK_S_IOERR);
		cr_assert_eq(request(r, &d, VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_IOERR);
	}
	s->fail = 0;
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_OUT, 0, 512, NULL), VIRTIO_BLK_S_OK);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- configuration --------------------------------------------------------------------------- */

static uint64_t config(struct vrig *r, size_t offset, unsigned size)
{
	return vrig_read(r, r->device + offset, size);
}

#define CONFIG(r, field)                                                                           \
	config(r, offsetof(struct virtio_blk_config, field),                                       \
	       sizeof(((struct virtio_blk_config *)0)->field))

Test(virtio_blk, configuration)
{
	struct image image = image_create();
	struct vrig *r = vrig_create();

	vrig_plug(r, &row_virtio_blk, image.path,
		  "queues=3,queue-size=64,serial=12345678901234567890");
	cr_assert_eq(r->device_len, sizeof(struct virtio_blk_config));
	cr_assert_eq(CONFIG(r, capacity), SECTORS);
	cr_assert_eq(CONFIG(r, seg_max), 62);
	cr_assert_eq(CONFIG(r, blk_size), 512);
	cr_assert_eq(CONFIG(r, num_queues), 3);
	cr_assert_eq(CONFIG(r, max_discard_seg), 1);
	cr_assert_eq(CONFIG(r, wce), 1);
	cr_assert_eq(vrig_read(r, r->common + VIRTIO_PCI_COMMON_NUMQ, 2), 3);
	cr_assert(vrig_offered(r) & MODEL_BIT(VIRTIO_BLK_F_MQ));
	cr_assert(vrig_offered(r) & MODEL_BIT(VIRTIO_BLK_F_FLUSH));
	cr_assert_not(vrig_offered(r) & MODEL_BIT(VIRTIO_BLK_F_RO));
	vrig_write(r, r->device, 8, 1);
	cr_assert_eq(CONFIG(r, capacity), SECTORS);
	vrig_destroy(r);

	r = vrig_create();
	vrig_plug(r, &row_virtio_blk, image.path, "ro=on");
	cr_assert(vrig_offered(r) & MODEL_BIT(VIRTIO_BLK_F_RO));
	cr_assert_not(vrig_offered(r) & MODEL_BIT(VIRTIO_BLK_F_MQ));
	cr_assert_not(vrig_offered(r) &
		      (MODEL_BIT(VIRTIO_BLK_F_DISCARD) | MODEL_BIT(VIRTIO_BLK_F_WRITE_ZEROES)));
	vrig_destroy(r);
	unlink(image.path);
}

Test(virtio_blk, several_queues)
{
	struct image image = image_create();
	struct vrig *r = vrig_create();
	struct model d[3];

	vrig_plug(r, &row_virtio_blk, image.path, "queues=3,queue-size=64");
	cr_assert(vrig_negotiate(r, V1 | MODEL_BIT(VIRTIO_BLK_F_MQ)));
	for (unsigned i = 0; i < 3; i++) {
		model_init(&d[i], &r->memory, i * VRIG_QUEUE, 64, V1);
		vrig_queue(r, i, &d[i]);
	}
	vrig_driver_ok(r);
	set_header(r, VIRTIO_BLK_T_IN, 0);
	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < 3; i++) {
			const struct model_buf buf[] = { { HEADER, 16, false },
							 { DATA + i * 4096, 4096, true },
							 { STATUS, 1, true } };

			model_add(&d[i], buf, 3, false);
			vrig_kick(r, i);
		}
		for (unsigned i = 0; i < 3; i++)
			cr_assert_eq(vrig_wait_used(&d[i]).len, 4097);
	}
	for (unsigned i = 0; i < 3; i++)
		model_free(&d[i]);
	vrig_destroy(r);
	unlink(image.path);
}

/* A driver that knows no flush gets a disk that needs none; one that knows WCE chooses. */
Test(virtio_blk, writethrough)
{
	struct stub_block *s = stub_block_create(SECTORS * 512);
	struct vrig *r = stub_rig(s, "");
	const uint64_t flush = MODEL_BIT(VIRTIO_BLK_F_FLUSH),
		       wce = MODEL_BIT(VIRTIO_BLK_F_CONFIG_WCE);
	const size_t at = offsetof(struct virtio_blk_config, wce);
	struct model d;

	vrig_up(r, &d, 8, flush);
	request(r, &d, VIRTIO_BLK_T_OUT, 0, 512, NULL);
	cr_assert_eq(s->stable_writes, 0);
	vrig_write(r, r->device + at, 1, 0); /* not negotiated */
	cr_assert_eq(CONFIG(r, wce), 1);
	model_free(&d);

	vrig_up(r, &d, 8, 0);
	request(r, &d, VIRTIO_BLK_T_OUT, 0, 512, NULL);
	cr_assert_eq(s->stable_writes, 1);
	model_free(&d);

	vrig_up(r, &d, 8, flush | wce);
	request(r, &d, VIRTIO_BLK_T_OUT, 0, 512, NULL);
	cr_assert_eq(s->stable_writes, 1);
	vrig_write(r, r->device + at, 1, 0);
	cr_assert_eq(CONFIG(r, wce), 0);
	request(r, &d, VIRTIO_BLK_T_OUT, 0, 512, NULL);
	cr_assert_eq(s->stable_writes, 2);
	vrig_write(r, r->device + at, 1, 2); /* neither */
	vrig_write(r, r->device + at, 2, 1);
	cr_assert_eq(CONFIG(r, wce), 0);
	vrig_write(r, r->device + at, 1, 1);
	request(r, &d, VIRTIO_BLK_T_OUT, 0, 512, NULL);
	cr_assert_eq(s->stable_writes, 2);
	vrig_write(r, r->device + at, 1, 0);
	model_free(&d);

	vrig_set_status(r, 0);
	cr_assert_eq(CONFIG(r, wce), 1, "reset restores it");
	vrig_destroy(r);
}

static void refused(const char *target, const char *keys, const char *word)
{
	struct vrig *r = vrig_create();
	struct device_config c;
	struct device *out = NULL;
	struct error e = { 0 };

	vrig_config(&c, &row_virtio_blk, target, keys);
	cr_assert_lt(row_virtio_blk.create(&r->host, &c, &out, &e), 0);
	cr_assert_null(out);
	cr_assert_not_null(strstr(e.msg, word), "%s", e.msg);
	vrig_config_free(&c);
	vrig_destroy(r);
}

Test(virtio_blk, flags_that_cannot_be)
{
	struct image image = image_create();

	refused("/nowhere/disk", "", "/nowhere/disk");
	refused(image.path, "serial=123456789012345678901", "20 bytes");
	refused(image.path, "queue-size=100", "power of two");
	refused(image.path, "queues=4,queue-size=100", "power of two");
	/* Nothing is left behind: the image is not locked. */
	refused(image.path, "queue-size=100", "power of two");
	unlink(image.path);
}

/* ---- slow disks ------------------------------------------------------------------------------ */

/* n requests wait in the disk (or one in the I/O thread itself); reset waits for them all. */
static void reset_in_flight(unsigned n, const char *keys)
{
	struct stub_block *s = stub_block_create(SECTORS * 512);
	struct vrig *r = stub_rig(s, keys);
	struct vrig_resetter t = { .r = r };
	const bool *running = &((struct virtio_device *)r->dev)->queue[0].running;
	const struct model_buf buf[] = { { HEADER, 16, false },
					 { DATA, 512, true },
					 { STATUS, 1, true } };
	uint8_t *before = malloc(MODEL_LOW);
	struct model d;
	pthread_t thread;

	s->no_nowait = true;
	memset(s->data, 0x55, SECTORS * 512);
	vrig_prepare(r, &d, 256, ~0ull);
	stub_gate(s, true);
	set_header(r, VIRTIO_BLK_T_IN, 0);
	for (unsigned i = 0; i < n; i++)
		model_add(&d, buf, 3, false);
	vrig_driver_ok(r);
	vrig_wait(stub_waiting(s) == (n < 8 ? n : 8));

	pthread_create(&thread, NULL, vrig_reset_thread, &t);
	if (n > 1)
		vrig_wait(!__atomic_load_n(running, __ATOMIC_SEQ_CST));
	usleep(20000);
	cr_assert_not(__atomic_load_n(&t.done, __ATOMIC_SEQ_CST));
	stub_gate(s, false);
	pthread_join(thread, NULL);

	cr_assert_eq(stub_waiting(s), 0);
	/* One that the I/O thread itself waited for is answered before reset gets its turn. */
	if (n > 1)
		cr_assert(!model_sleep(&d), "completed after reset");
	memset(data(r, 512), 0, 512);
	memcpy(before, model_at(&r->memory, 0, MODEL_LOW), MODEL_LOW);
	usleep(20000);
	cr_assert_eq(memcmp(before, model_at(&r->memory, 0, MODEL_LOW), MODEL_LOW), 0);
	cr_assert_eq(*data(r, 1), 0);
	model_free(&d);

	vrig_up(r, &d, 8, ~0ull);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
	cr_assert_eq(*data(r, 1), 0x55);
	model_free(&d);
	free(before);
	vrig_destroy(r);
}

Test(virtio_blk, reset_with_requests_in_flight, .timeout = 60)
{
	reset_in_flight(1, "");
	reset_in_flight(5, "");
	reset_in_flight(64, "");
	reset_in_flight(64, "ring=packed");
	reset_in_flight(64, "in-order=on");
	reset_in_flight(1, "iothread=off");
	reset_in_flight(20, "iothread=off");
}

/* The queue breaks while good requests are in the disk: they finish, unseen, and reset heals. */
Test(virtio_blk, breaks_with_requests_in_flight, .timeout = 60)
{
	struct stub_block *s = stub_block_create(SECTORS * 512);
	struct vrig *r = stub_rig(s, "");
	const struct model_buf good[] = { { HEADER, 16, false },
					  { DATA, 512, true },
					  { STATUS, 1, true } };
	const struct model_buf bad = { HEADER, 16, false };
	struct model d;

	s->no_nowait = true;
	vrig_prepare(r, &d, 64, ~0ull);
	stub_gate(s, true);
	set_header(r, VIRTIO_BLK_T_IN, 0);
	for (unsigned i = 0; i < 3; i++)
		model_add(&d, good, 3, false);
	model_add(&d, &bad, 1, false);
	vrig_driver_ok(r);
	vrig_wait(vrig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET);
	stub_gate(s, false);
	vrig_set_status(r, 0);
	cr_assert(!model_sleep(&d));
	cr_assert_eq(status_of(r), NEVER);
	model_free(&d);
	vrig_up(r, &d, 8, ~0ull);
	cr_assert_eq(request(r, &d, VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- random traffic -------------------------------------------------------------------------- */

/* Requests on sectors of their own, many in flight, answers checked against a copy. */
static void traffic(const char *keys, uint64_t features, uint64_t random)
{
	enum { SLOTS = 32, SLOT = 32 };
	struct image image = image_create();
	struct vrig *r = vrig_create();
	uint8_t *copy = calloc(SECTORS, 512), *p;
	struct model d;

	vrig_plug(r, &row_virtio_blk, image.path, keys);
	vrig_up(r, &d, 128, features);
	for (unsigned round = 0; round < 100; round++) {
		unsigned slot_of[256], written[SLOTS];

		for (unsigned i = 0; i < SLOTS; i++) {
			uint64_t header = HEADER + i * 64, status = STATUS + i,
				 at = DATA + i * SLOT * 512;
			uint32_t sectors = 1 + (uint32_t)(model_random(&random) % SLOT);
			bool out = model_random(&random) % 2;
			struct virtio_blk_outhdr h = { .type = out, .sector = i * SLOT };
			struct model_buf buf[] = { { header, 16, false },
						   { at, sectors * 512, !out },
						   { status, 1, true } };
			int id;

			memory_write(&r->memory, header, &h, sizeof(h));
			if (out) {
				fill(model_at(&r->memory, at, sectors * 512), sectors * 512,
				     round + i);
				memcpy(copy + i * SLOT * 512,
				       model_at(&r->memory, at, sectors * 512), sectors * 512);
			}
			id = model_add(&d, buf, 3, d.indirect && model_random(&random) % 2);
			cr_assert_geq(id, 0);
			slot_of[id] = i;
			written[i] = out ? 1 : sectors * 512 + 1;
			if (model_random(&random) % 4 == 0 || i == SLOTS - 1)
				vrig_kick(r, 0);
		}
		for (unsigned i = 0; i < SLOTS; i++) {
			struct model_used used = vrig_wait_used(&d);
			unsigned slot = slot_of[used.id];

			cr_assert_eq(used.len, written[slot]);
			cr_assert_eq(*(uint8_t *)model_at(&r->memory, STATUS + slot, 1),
				     VIRTIO_BLK_S_OK);
			if (used.len == 1)
				continue;
			p = model_at(&r->memory, DATA + slot * SLOT * 512, used.len - 1);
			cr_assert_eq(memcmp(p, copy + slot * SLOT * 512, used.len - 1), 0);
		}
	}
	model_free(&d);
	free(copy);
	vrig_destroy(r);
	unlink(image.path);
}

Test(virtio_blk, random_traffic, .timeout = 60)
{
	traffic("", ~0ull, 1);
	traffic("", 0, 2);
	traffic("ring=packed", ~0ull, 3);
	traffic("ring=packed,in-order=on", PACKED | INDIRECT | MODEL_BIT(VIRTIO_F_IN_ORDER), 4);
	traffic("in-order=on,iothread=off", ~0ull, 5);
}
