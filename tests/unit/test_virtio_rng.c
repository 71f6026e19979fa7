/*
 * virtio-rng: bytes come, no more than were asked for, a bounded number a request, and a driver
 * that floods it does not keep the loop it shares from anything else.
 */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "devices/registry.h"
#include "devices/virtio/virtio.h"
#include "tests/unit/test_virtio_rig.h"

static unsigned distinct(const uint8_t *p, unsigned len)
{
	bool seen[256] = { false };
	unsigned n = 0;

	for (unsigned i = 0; i < len; i++) {
		n += !seen[p[i]];
		seen[p[i]] = true;
	}
	return n;
}

Test(virtio_rng, fills_what_it_is_given)
{
	struct vrig *r = vrig_create();
	struct model_buf bufs[3] = { { 0x700000, 7, true },
				     { MODEL_HIGH, 500, true },
				     { 0x701000, 100, true } };
	struct model d;
	uint8_t *p;

	vrig_plug(r, &row_virtio_rng, NULL, "");
	vrig_up(r, &d, 8, ~0ull);
	model_add(&d, bufs, 3, false);
	vrig_kick(r, 0);
	cr_assert_eq(vrig_wait_used(&d).len, 607);
	p = model_at(&r->memory, MODEL_HIGH, 501);
	cr_assert_gt(distinct(p, 500), 100);
	cr_assert_eq(p[500], 0);
	p = model_at(&r->memory, 0x701000, 101);
	cr_assert_gt(distinct(p, 100), 30);
	cr_assert_eq(p[100], 0);
	model_free(&d);
	vrig_destroy(r);
}

Test(virtio_rng, gives_a_bounded_number_of_bytes)
{
	struct vrig *r = vrig_create();
	struct model_buf bufs[2] = { { MODEL_HIGH, 4000, true },
				     { MODEL_HIGH + 8192, 1 << 20, true } };
	struct model d;
	uint32_t len;

	vrig_plug(r, &row_virtio_rng, NULL, "ring=packed");
	vrig_up(r, &d, 7, ~0ull);
	model_add(&d, bufs, 2, true);
	vrig_kick(r, 0);
	len = vrig_wait_used(&d).len;
	cr_assert_geq(len, 4000);
	cr_assert_leq(len, 1 << 16);
	cr_assert_eq(*(uint8_t *)model_at(&r->memory, MODEL_HIGH + 8192 + len, 1), 0);
	model_free(&d);
	vrig_destroy(r);
}

Test(virtio_rng, nothing_to_write_to_breaks_the_queue)
{
	struct vrig *r = vrig_create();
	struct model_buf buf = { MODEL_HIGH, 64, false };
	struct model d;

	vrig_plug(r, &row_virtio_rng, NULL, "");
	vrig_up(r, &d, 8, ~0ull);
	model_add(&d, &buf, 1, false);
	model_add(&d, &buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait(vrig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET);
	cr_assert(!model_sleep(&d));
	model_free(&d);
	vrig_destroy(r);
}

static void answered(void *arg)
{
	*(unsigned *)arg += 1;
}

/* A guest that always has more; the main loop still gets to other things. */
Test(virtio_rng, leaves_the_loop_to_others, .timeout = 30)
{
	struct vrig *r = vrig_create();
	struct model_buf buf = { MODEL_HIGH, 4096, true };
	struct model_used used;
	struct model d;
	unsigned calls = 0;

	vrig_plug(r, &row_virtio_rng, NULL, "queue-size=1024");
	vrig_up(r, &d, 1024, 0);
	for (unsigned i = 0; i < 50; i++) {
		while (model_add(&d, &buf, 1, false) >= 0)
			continue;
		vrig_kick(r, 0);
		event_call(r->loop, answered, &calls);
		while (model_used(&d, &used))
			continue;
	}
	cr_assert_eq(calls, 50);
	model_free(&d);
	vrig_destroy(r);
}
