/*
 * The device layer with a device of the test's own, through the PCI transport: status and features,
 * queue registers that freeze, configuration space, rings that break. What takes time is in
 * test_virtio_life.c.
 */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_virtio_slow.h"

static const struct model_buf one_buf = { MODEL_HIGH, 64, true };

/* ---- status and features --------------------------------------------------------------------- */

Test(virtio_device, offers_what_it_should)
{
	struct vrig *r = slow_rig();
	uint64_t base = V1 | OWN_FEATURE | MODEL_BIT(4) | MODEL_BIT(VIRTIO_F_RING_RESET);

	cr_assert_eq(vrig_offered(r), base | MODEL_BIT(VIRTIO_RING_F_EVENT_IDX) |
					      MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC));
	vrig_write(r, r->common + VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_DF, 4), 0);
	vrig_destroy(r);

	r = vrig_create();
	vrig_plug(r, &slow_row, NULL, "ring=packed,event-idx=off,indirect=off,in-order=on");
	cr_assert_eq(vrig_offered(r),
		     base | MODEL_BIT(VIRTIO_F_RING_PACKED) | MODEL_BIT(VIRTIO_F_IN_ORDER));
	vrig_destroy(r);
}

Test(virtio_device, features_ok_only_for_a_subset_with_version_1)
{
	struct vrig *r = slow_rig();

	cr_assert(vrig_negotiate(r, V1));
	cr_assert(vrig_negotiate(r, vrig_offered(r)));
	cr_assert(!vrig_negotiate(r, 0));
	cr_assert(!vrig_negotiate(r, OWN_FEATURE));
	cr_assert(!vrig_negotiate(r, V1 | MODEL_BIT(VIRTIO_F_RING_PACKED)));
	cr_assert(!vrig_negotiate(r, V1 | MODEL_BIT(0)));
	cr_assert(!vrig_negotiate(r, V1 | MODEL_BIT(63)));
	cr_assert(!vrig_negotiate(r, V1 | MODEL_BIT(4)), "the device itself says no");
	cr_assert(vrig_negotiate(r, V1 | MODEL_BIT(4) | OWN_FEATURE));
	vrig_destroy(r);
}

Test(virtio_device, driver_features_are_frozen_by_features_ok)
{
	struct vrig *r = slow_rig();

	cr_assert(vrig_negotiate(r, V1 | OWN_FEATURE));
	slow_set_reg(r, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	slow_set_reg(r, VIRTIO_PCI_COMMON_GF, 4, 0xffffffff);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_GF, 4), OWN_FEATURE);
	slow_set_reg(r, VIRTIO_PCI_COMMON_GFSELECT, 4, 7);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_GF, 4), 0);
	vrig_destroy(r);
}

Test(virtio_device, status_bits_come_and_only_reset_takes_them)
{
	struct vrig *r = slow_rig();

	cr_assert_eq(vrig_status(r), 0);
	vrig_set_status(r, ACK);
	vrig_set_status(r, DRIVER); /* ACK cleared: it stays */
	cr_assert_eq(vrig_status(r), ACK | DRIVER);
	vrig_set_status(r, ACK | DRIVER | DRIVER_OK); /* without FEATURES_OK */
	cr_assert_eq(vrig_status(r), ACK | DRIVER);
	vrig_set_status(r, ACK | DRIVER | 0x30); /* bits there are not */
	cr_assert_eq(vrig_status(r), ACK | DRIVER);
	vrig_set_status(r, ACK | DRIVER | NEEDS_RESET); /* not the driver's to set */
	cr_assert_eq(vrig_status(r), ACK | DRIVER);
	vrig_set_status(r, ACK | DRIVER | VIRTIO_CONFIG_S_FAILED);
	cr_assert_eq(vrig_status(r), ACK | DRIVER | VIRTIO_CONFIG_S_FAILED);
	vrig_set_status(r, 0);
	cr_assert_eq(vrig_status(r), 0);
	/* All at once, as nobody should, still needs FEATURES_OK to be acceptable. */
	vrig_set_status(r, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
	cr_assert_eq(vrig_status(r), ACK | DRIVER);
	vrig_destroy(r);
}

Test(virtio_device, reset_restores_every_register)
{
	struct vrig *r = slow_rig();
	struct model d;
	uint8_t before[0x3c], after[0x3c];

	for (unsigned i = 0; i < 2; i++) {
		uint8_t *to = i ? after : before;

		for (unsigned o = 0; o < 0x10; o += 4)
			*(uint32_t *)(void *)(to + o) = (uint32_t)slow_reg(r, o, 4);
		for (unsigned o = 0x10; o < 0x14; o += 2)
			*(uint16_t *)(void *)(to + o) = (uint16_t)slow_reg(r, o, 2);
		to[0x14] = (uint8_t)slow_reg(r, 0x14, 1);
		to[0x15] = (uint8_t)slow_reg(r, 0x15, 1);
		for (unsigned o = 0x16; o < 0x20; o += 2)
			*(uint16_t *)(void *)(to + o) = (uint16_t)slow_reg(r, o, 2);
		for (unsigned o = 0x20; o < 0x38; o += 4)
			*(uint32_t *)(void *)(to + o) = (uint32_t)slow_reg(r, o, 4);
		for (unsigned o = 0x38; o < 0x3c; o += 2)
			*(uint16_t *)(void *)(to + o) = (uint16_t)slow_reg(r, o, 2);
		if (i)
			break;
		vrig_up(r, &d, 8, ~0ull);
		slow_set_reg(r, VIRTIO_PCI_COMMON_MSIX, 2, 1);
		slow_set_reg(r, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
		slow_set_reg(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
		vrig_set_status(r, 0);
		model_free(&d);
	}
	cr_assert_eq(memcmp(before, after, sizeof(before)), 0);
	cr_assert_geq(slow_in(r)->resets, 2);
	vrig_destroy(r);
}

/* ---- queue registers ------------------------------------------------------------------------- */

static void check_frozen(struct vrig *r, const struct model *d)
{
	slow_set_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, 4);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), d->size);
	for (unsigned i = 0; i < 6; i++) {
		uint64_t was = slow_reg(r, VIRTIO_PCI_COMMON_Q_DESCLO + 4 * i, 4);

		slow_set_reg(r, VIRTIO_PCI_COMMON_Q_DESCLO + 4 * i, 4, 0x12345000);
		cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_DESCLO + 4 * i, 4), was);
	}
	slow_set_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

Test(virtio_device, queue_registers_freeze)
{
	struct vrig *r = slow_rig();
	struct model d;

	cr_assert(vrig_negotiate(r, V1));
	model_init(&d, &r->memory, 0, 8, V1);
	vrig_queue(r, 0, &d);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	check_frozen(r, &d); /* once enabled */
	vrig_driver_ok(r);
	check_frozen(r, &d); /* and in use */
	cr_assert_geq(model_add(&d, &one_buf, 1, false), 0);
	vrig_kick(r, 0);
	cr_assert_eq(vrig_wait_used(&d).len, 64);

	/* A queue that was not enabled in time stays so. */
	vrig_queue(r, 1, &d);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
	vrig_kick(r, 1);
	cr_assert_eq(vrig_status(r) & NEEDS_RESET, 0);
	model_free(&d);
	vrig_destroy(r);
}

Test(virtio_device, queue_sizes_that_cannot_be)
{
	static const uint16_t bad[] = { 0, 3, 63, 65, 128, 0x8000, 0xffff };
	struct vrig *r = slow_rig();

	cr_assert(vrig_negotiate(r, V1));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		slow_set_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, bad[i]);
		cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 64, "%u", bad[i]);
	}
	slow_set_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, 1);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 1);
	vrig_destroy(r);
}

Test(virtio_device, no_queue_before_features_ok)
{
	struct vrig *r = slow_rig();

	vrig_set_status(r, ACK | DRIVER);
	slow_set_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	vrig_destroy(r);
}

Test(virtio_device, queues_that_do_not_exist)
{
	struct vrig *r = slow_rig();

	cr_assert(vrig_negotiate(r, V1));
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_NUMQ, 2), 2);
	for (unsigned q = 2; q < 0x10000; q = q * 3 + 1) {
		slow_set_reg(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, q);
		cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_SELECT, 2), q);
		cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
		for (unsigned o = VIRTIO_PCI_COMMON_Q_SIZE; o < 0x3c; o += 2)
			slow_set_reg(r, o, 2, 1);
		for (unsigned o = VIRTIO_PCI_COMMON_Q_DESCLO; o < 0x38; o += 4)
			slow_set_reg(r, o, 4, 0x1000);
	}
	vrig_destroy(r);
}

Test(virtio_device, one_queue_is_reset_and_set_up_anew)
{
	struct vrig *r = slow_rig();
	struct model d, again;
	uint64_t features = V1 | MODEL_BIT(VIRTIO_F_RING_RESET);

	cr_assert(vrig_negotiate(r, features));
	model_init(&d, &r->memory, 0, 8, features);
	vrig_queue(r, 0, &d);
	vrig_driver_ok(r);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait_used(&d);

	slow_set_reg(r, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0); /* nobody listens */

	model_init(&again, &r->memory, VRIG_QUEUE, 16, features);
	vrig_queue(r, 0, &again);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	model_add(&again, &one_buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait_used(&again);
	cr_assert(!model_sleep(&d), "the old ring was touched");
	model_free(&d);
	model_free(&again);

	/* Not without the feature. */
	vrig_up(r, &d, 8, V1);
	slow_set_reg(r, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	cr_assert_eq(slow_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- configuration space --------------------------------------------------------------------- */

Test(virtio_device, configuration_space_has_bounds)
{
	struct vrig *r = slow_rig();

	cr_assert_eq(r->device_len, 12);
	vrig_write(r, r->device, 4, 0x44332211);
	vrig_write(r, r->device + 8, 4, 0x88776655);
	cr_assert_eq(vrig_read(r, r->device, 4), 0x44332211);
	cr_assert_eq(vrig_read(r, r->device + 1, 2), 0x3322);
	cr_assert_eq(vrig_read(r, r->device + 11, 1), 0x88);
	cr_assert_eq(vrig_read(r, r->device + 11, 2), 0x88, "the rest reads as zero");
	cr_assert_eq(vrig_read(r, r->device + 8, 8), 0x88776655);
	cr_assert_eq(vrig_read(r, r->device + 12, 4), 0);
	cr_assert_eq(vrig_read(r, r->device + 0xff8, 8), 0);
	vrig_write(r, r->device + 11, 2, 0xffff); /* reaches past the end: not at all */
	cr_assert_eq(vrig_read(r, r->device + 11, 1), 0x88);
	vrig_write(r, r->device + 12, 4, 0xffffffff);
	vrig_write(r, r->device + 0xffc, 4, 0xffffffff);
	cr_assert_eq(vrig_read(r, r->device + 12, 4), 0);
	vrig_destroy(r);
}

Test(virtio_device, news_change_the_generation_and_interrupt)
{
	struct vrig *r = slow_rig();
	struct slow *s = slow_in(r);
	uint64_t generation = slow_reg(r, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	struct model d;
	uint32_t news = 0x01020304;

	vrig_msix_enable(r, 3);
	virtio_config_update(&s->v, 4, &news, 4);
	cr_assert_eq(r->chip.messages, 0, "not before DRIVER_OK");
	cr_assert_neq(slow_reg(r, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	generation = slow_reg(r, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	vrig_up(r, &d, 8, V1);
	slow_set_reg(r, VIRTIO_PCI_COMMON_MSIX, 2, 2);
	virtio_config_update(&s->v, 0, &news, 4);
	cr_assert_eq(r->chip.messages, 1);
	cr_assert_eq(r->chip.data, 0x42);
	cr_assert_neq(slow_reg(r, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	cr_assert_eq(vrig_read(r, r->device, 4), news);
	virtio_config_update(&s->v, 10, &news, 4); /* a bug in a device: stays out */
	cr_assert_eq(vrig_read(r, r->device + 8, 4), 0);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- rings that break ------------------------------------------------------------------------ */

Test(virtio_device, a_broken_queue_stops_and_reset_heals)
{
	struct vrig *r = slow_rig();
	struct model_buf bad = { MODEL_LOW, 64, true };
	struct model d[2];

	vrig_msix_enable(r, 3);
	for (unsigned round = 0; round < 3; round++) {
		unsigned messages = r->chip.messages;

		cr_assert(vrig_negotiate(r, V1));
		slow_set_reg(r, VIRTIO_PCI_COMMON_MSIX, 2, 2);
		for (unsigned i = 0; i < 2; i++) {
			model_init(&d[i], &r->memory, i * VRIG_QUEUE, 8, V1);
			vrig_queue(r, i, &d[i]);
		}
		vrig_driver_ok(r);
		model_add(&d[0], &bad, 1, false);
		vrig_kick(r, 0);
		vrig_wait(vrig_status(r) & NEEDS_RESET);
		cr_assert(vrig_status(r) & DRIVER_OK);
		vrig_wait(__atomic_load_n(&r->chip.messages, __ATOMIC_SEQ_CST) == messages + 1);
		cr_assert_eq(r->chip.data, 0x42, "the configuration vector");
		/* This queue is dead, the other one is not. */
		model_add(&d[0], &one_buf, 1, false);
		vrig_kick(r, 0);
		model_add(&d[1], &one_buf, 1, false);
		vrig_kick(r, 1);
		vrig_wait_used(&d[1]);
		cr_assert(!model_sleep(&d[0]));
		model_free(&d[0]);
		model_free(&d[1]);
		cr_assert_eq(slow_in(r)->v.queue[0].stats.broken, round + 1);
	}
	vrig_up(r, &d[0], 8, V1);
	model_add(&d[0], &one_buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait_used(&d[0]);
	model_free(&d[0]);
	vrig_destroy(r);
}

Test(virtio_device, a_ring_that_cannot_be_mapped_needs_reset)
{
	struct vrig *r = slow_rig();
	struct model d;

	cr_assert(vrig_negotiate(r, V1));
	model_init(&d, &r->memory, 0, 8, V1);
	d.config.device = MODEL_LOW;
	vrig_queue(r, 0, &d);
	cr_assert_eq(vrig_status(r) & NEEDS_RESET, 0);
	vrig_driver_ok(r);
	cr_assert(vrig_status(r) & NEEDS_RESET);
	vrig_kick(r, 0);
	model_free(&d);
	vrig_up(r, &d, 8, V1);
	cr_assert_eq(vrig_status(r) & NEEDS_RESET, 0);
	model_free(&d);
	vrig_destroy(r);
}
