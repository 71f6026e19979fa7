/*
 * The device layer with a device of the test's own, through the PCI transport: status and features,
 * queue registers that freeze, rings that break, resets and pauses with requests in flight.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio/pci.h"
#include "devices/virtio/virtio.h"
#include "tests/unit/test_virtio_rig.h"

#define ACK	    VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER	    VIRTIO_CONFIG_S_DRIVER
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define V1	    MODEL_BIT(VIRTIO_F_VERSION_1)
#define OWN_FEATURE MODEL_BIT(3)

/* ---- a device that can be slow --------------------------------------------------------------- */

struct slow {
	struct virtio_device v;
	struct event_loop *loop;
	bool slow;		       /* keeps chains; guarded by queue 0's lock */
	struct virtq_chain *held[256]; /* of queue 0 */
	unsigned nheld;
	unsigned resets;
	pthread_cond_t quick; /* with queue 0's lock */
};

static struct slow *slow_of(struct virtio_device *v)
{
	return (struct slow *)v;
}

/* Fills the writable part, as a disk's DMA would, and gives the chain back. */
static void answer(struct virtio_queue *q, struct virtq_chain *chain)
{
	uint32_t len = (uint32_t)chain->writable.len;

	for (unsigned i = 0; i < chain->writable.n; i++)
		memset(chain->writable.iov[i].iov_base, 0xaa, chain->writable.iov[i].iov_len);
	virtio_queue_push(q, chain, len);
}

static void slow_process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	struct slow *s = slow_of(q->v);

	for (unsigned i = 0; i < n; i++) {
		if (q->index == 0 && s->slow)
			s->held[s->nheld++] = chains[i];
		else
			answer(q, chains[i]);
	}
}

/* Waits as for a disk; the test decides how long. */
static void slow_drain(struct virtio_queue *q)
{
	struct slow *s = slow_of(q->v);

	while (s->slow)
		pthread_cond_wait(&s->quick, &q->lock);
	while (s->nheld)
		answer(q, s->held[--s->nheld]);
	virtio_queue_publish(q);
}

static void slow_config_write(struct virtio_device *v, unsigned offset, unsigned size,
			      uint64_t value)
{
	virtio_config_set(v, offset, &value, size);
}

static const char *slow_check(struct virtio_device *v, uint64_t features)
{
	(void)v;
	return features & MODEL_BIT(4) && !(features & OWN_FEATURE) ? "bit 4 needs bit 3" : NULL;
}

static void slow_reset(struct virtio_device *v)
{
	slow_of(v)->resets++;
}

static void slow_destroy(struct virtio_device *v)
{
	event_loop_destroy(slow_of(v)->loop);
	pthread_cond_destroy(&slow_of(v)->quick);
	free(v);
}

static const struct virtio_device_ops slow_ops = {
	.process = slow_process,
	.drain = slow_drain,
	.config_write = slow_config_write,
	.check_features = slow_check,
	.reset = slow_reset,
	.destroy = slow_destroy,
};

static int slow_create(struct device_host *host, const struct device_config *config,
		       struct device **out, struct error *e)
{
	static const struct virtio_identity identity = {
		.id = 63,
		.features = OWN_FEATURE | MODEL_BIT(4),
		.nqueues = 2,
		.config_len = 12,
	};
	struct slow *s = calloc(1, sizeof(*s));

	cr_assert_eq(virtio_device_init(&s->v, &slow_ops, &identity, host, config, e), 0);
	pthread_cond_init(&s->quick, NULL);
	s->loop = event_loop_create("slow0", e);
	cr_assert_eq(virtio_queue_init(&s->v, 0, 64, 0, s->loop, e), 0);
	cr_assert_eq(virtio_queue_init(&s->v, 1, 16, 0, host->loop, e), 0);
	cr_assert_eq(event_loop_start(s->loop, e), 0);
	cr_assert_eq(virtio_pci_create(&s->v, e), 0);
	*out = &s->v.dev;
	return 0;
}

static const struct device_key slow_keys[] = { VIRTIO_KEYS("64"), { 0 } };
static const struct device_row slow_row = {
	.class = CLASS_DEV,
	.model = MODEL_VIRTIO,
	.hw = "slow",
	.keys = slow_keys,
	.create = slow_create,
};

static struct slow *slow_in(struct vrig *r)
{
	return (struct slow *)r->dev;
}

static void set_slow(struct vrig *r, bool slow)
{
	struct slow *s = slow_in(r);

	pthread_mutex_lock(&s->v.queue[0].lock);
	s->slow = slow;
	pthread_cond_broadcast(&s->quick);
	pthread_mutex_unlock(&s->v.queue[0].lock);
}

static unsigned held(struct vrig *r)
{
	struct slow *s = slow_in(r);
	unsigned n;

	pthread_mutex_lock(&s->v.queue[0].lock);
	n = s->nheld;
	pthread_mutex_unlock(&s->v.queue[0].lock);
	return n;
}

static struct vrig *rig(void)
{
	struct vrig *r = vrig_create();

	vrig_plug(r, &slow_row, NULL, "");
	return r;
}

static const struct model_buf one_buf = { MODEL_HIGH, 64, true };

static uint64_t reg(struct vrig *r, unsigned offset, unsigned size)
{
	return vrig_read(r, r->common + offset, size);
}

static void set_reg(struct vrig *r, unsigned offset, unsigned size, uint64_t value)
{
	vrig_write(r, r->common + offset, size, value);
}

/* ---- status and features --------------------------------------------------------------------- */

Test(virtio_device, offers_what_it_should)
{
	struct vrig *r = rig();
	uint64_t base = V1 | OWN_FEATURE | MODEL_BIT(4) | MODEL_BIT(VIRTIO_F_RING_RESET);

	cr_assert_eq(vrig_offered(r), base | MODEL_BIT(VIRTIO_RING_F_EVENT_IDX) |
					      MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC));
	vrig_write(r, r->common + VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_DF, 4), 0);
	vrig_destroy(r);

	r = vrig_create();
	vrig_plug(r, &slow_row, NULL, "ring=packed,event-idx=off,indirect=off,in-order=on");
	cr_assert_eq(vrig_offered(r),
		     base | MODEL_BIT(VIRTIO_F_RING_PACKED) | MODEL_BIT(VIRTIO_F_IN_ORDER));
	vrig_destroy(r);
}

Test(virtio_device, features_ok_only_for_a_subset_with_version_1)
{
	struct vrig *r = rig();

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
	struct vrig *r = rig();

	cr_assert(vrig_negotiate(r, V1 | OWN_FEATURE));
	set_reg(r, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	set_reg(r, VIRTIO_PCI_COMMON_GF, 4, 0xffffffff);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_GF, 4), OWN_FEATURE);
	set_reg(r, VIRTIO_PCI_COMMON_GFSELECT, 4, 7);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_GF, 4), 0);
	vrig_destroy(r);
}

Test(virtio_device, status_bits_come_and_only_reset_takes_them)
{
	struct vrig *r = rig();

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
	struct vrig *r = rig();
	struct model d;
	uint8_t before[0x3c], after[0x3c];

	for (unsigned i = 0; i < 2; i++) {
		uint8_t *to = i ? after : before;

		for (unsigned o = 0; o < 0x10; o += 4)
			*(uint32_t *)(void *)(to + o) = (uint32_t)reg(r, o, 4);
		for (unsigned o = 0x10; o < 0x14; o += 2)
			*(uint16_t *)(void *)(to + o) = (uint16_t)reg(r, o, 2);
		to[0x14] = (uint8_t)reg(r, 0x14, 1);
		to[0x15] = (uint8_t)reg(r, 0x15, 1);
		for (unsigned o = 0x16; o < 0x20; o += 2)
			*(uint16_t *)(void *)(to + o) = (uint16_t)reg(r, o, 2);
		for (unsigned o = 0x20; o < 0x38; o += 4)
			*(uint32_t *)(void *)(to + o) = (uint32_t)reg(r, o, 4);
		for (unsigned o = 0x38; o < 0x3c; o += 2)
			*(uint16_t *)(void *)(to + o) = (uint16_t)reg(r, o, 2);
		if (i)
			break;
		vrig_up(r, &d, 8, ~0ull);
		set_reg(r, VIRTIO_PCI_COMMON_MSIX, 2, 1);
		set_reg(r, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
		set_reg(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
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
	set_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, 4);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), d->size);
	for (unsigned i = 0; i < 6; i++) {
		uint64_t was = reg(r, VIRTIO_PCI_COMMON_Q_DESCLO + 4 * i, 4);

		set_reg(r, VIRTIO_PCI_COMMON_Q_DESCLO + 4 * i, 4, 0x12345000);
		cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_DESCLO + 4 * i, 4), was);
	}
	set_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

Test(virtio_device, queue_registers_freeze)
{
	struct vrig *r = rig();
	struct model d;

	cr_assert(vrig_negotiate(r, V1));
	model_init(&d, &r->memory, 0, 8, V1);
	vrig_queue(r, 0, &d);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	check_frozen(r, &d); /* once enabled */
	vrig_driver_ok(r);
	check_frozen(r, &d); /* and in use */
	cr_assert_geq(model_add(&d, &one_buf, 1, false), 0);
	vrig_kick(r, 0);
	cr_assert_eq(vrig_wait_used(&d).len, 64);

	/* A queue that was not enabled in time stays so. */
	vrig_queue(r, 1, &d);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
	vrig_kick(r, 1);
	cr_assert_eq(vrig_status(r) & NEEDS_RESET, 0);
	model_free(&d);
	vrig_destroy(r);
}

Test(virtio_device, queue_sizes_that_cannot_be)
{
	static const uint16_t bad[] = { 0, 3, 63, 65, 128, 0x8000, 0xffff };
	struct vrig *r = rig();

	cr_assert(vrig_negotiate(r, V1));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		set_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, bad[i]);
		cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 64, "%u", bad[i]);
	}
	set_reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, 1);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 1);
	vrig_destroy(r);
}

Test(virtio_device, no_queue_before_features_ok)
{
	struct vrig *r = rig();

	vrig_set_status(r, ACK | DRIVER);
	set_reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	vrig_destroy(r);
}

Test(virtio_device, queues_that_do_not_exist)
{
	struct vrig *r = rig();

	cr_assert(vrig_negotiate(r, V1));
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_NUMQ, 2), 2);
	for (unsigned q = 2; q < 0x10000; q = q * 3 + 1) {
		set_reg(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, q);
		cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_SELECT, 2), q);
		cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
		for (unsigned o = VIRTIO_PCI_COMMON_Q_SIZE; o < 0x3c; o += 2)
			set_reg(r, o, 2, 1);
		for (unsigned o = VIRTIO_PCI_COMMON_Q_DESCLO; o < 0x38; o += 4)
			set_reg(r, o, 4, 0x1000);
	}
	vrig_destroy(r);
}

Test(virtio_device, one_queue_is_reset_and_set_up_anew)
{
	struct vrig *r = rig();
	struct model d, again;
	uint64_t features = V1 | MODEL_BIT(VIRTIO_F_RING_RESET);

	cr_assert(vrig_negotiate(r, features));
	model_init(&d, &r->memory, 0, 8, features);
	vrig_queue(r, 0, &d);
	vrig_driver_ok(r);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait_used(&d);

	set_reg(r, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0); /* nobody listens */

	model_init(&again, &r->memory, VRIG_QUEUE, 16, features);
	vrig_queue(r, 0, &again);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	model_add(&again, &one_buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait_used(&again);
	cr_assert(!model_sleep(&d), "the old ring was touched");
	model_free(&d);
	model_free(&again);

	/* Not without the feature. */
	vrig_up(r, &d, 8, V1);
	set_reg(r, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	cr_assert_eq(reg(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- configuration space --------------------------------------------------------------------- */

Test(virtio_device, configuration_space_has_bounds)
{
	struct vrig *r = rig();

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
	struct vrig *r = rig();
	struct slow *s = slow_in(r);
	uint64_t generation = reg(r, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	struct model d;
	uint32_t news = 0x01020304;

	vrig_msix_enable(r, 3);
	virtio_config_update(&s->v, 4, &news, 4);
	cr_assert_eq(r->chip.messages, 0, "not before DRIVER_OK");
	cr_assert_neq(reg(r, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	generation = reg(r, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	vrig_up(r, &d, 8, V1);
	set_reg(r, VIRTIO_PCI_COMMON_MSIX, 2, 2);
	virtio_config_update(&s->v, 0, &news, 4);
	cr_assert_eq(r->chip.messages, 1);
	cr_assert_eq(r->chip.data, 0x42);
	cr_assert_neq(reg(r, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	cr_assert_eq(vrig_read(r, r->device, 4), news);
	virtio_config_update(&s->v, 10, &news, 4); /* a bug in a device: stays out */
	cr_assert_eq(vrig_read(r, r->device + 8, 4), 0);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- rings that break ------------------------------------------------------------------------ */

Test(virtio_device, a_broken_queue_stops_and_reset_heals)
{
	struct vrig *r = rig();
	struct model_buf bad = { MODEL_LOW, 64, true };
	struct model d[2];

	vrig_msix_enable(r, 3);
	for (unsigned round = 0; round < 3; round++) {
		unsigned messages = r->chip.messages;

		cr_assert(vrig_negotiate(r, V1));
		set_reg(r, VIRTIO_PCI_COMMON_MSIX, 2, 2);
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
	struct vrig *r = rig();
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

/* ---- requests in flight ---------------------------------------------------------------------- */

struct resetter {
	struct vrig *r;
	bool done; /* atomic */
};

static void *reset_thread(void *arg)
{
	struct resetter *t = arg;

	vrig_set_status(t->r, 0);
	__atomic_store_n(&t->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

Test(virtio_device, reset_waits_for_what_is_in_flight, .timeout = 30)
{
	static const char *const keys[] = { "", "ring=packed", "in-order=on",
					    "ring=packed,in-order=on" };

	for (unsigned k = 0; k < 4; k++) {
		struct vrig *r = vrig_create();
		struct resetter t = { .r = r };
		uint8_t *before = malloc(MODEL_LOW);
		struct model d;
		pthread_t thread;

		vrig_plug(r, &slow_row, NULL, keys[k]);
		vrig_msix_enable(r, 3);
		set_slow(r, true);
		vrig_up(r, &d, 8, ~0ull);
		set_reg(r, VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
		for (unsigned i = 0; i < 5; i++)
			model_add(&d, &one_buf, 1, false);
		vrig_kick(r, 0);
		vrig_wait(held(r) == 5);

		pthread_create(&thread, NULL, reset_thread, &t);
		usleep(30000);
		cr_assert(!__atomic_load_n(&t.done, __ATOMIC_SEQ_CST), "reset did not wait");
		set_slow(r, false);
		pthread_join(thread, NULL);
		cr_assert_eq(vrig_status(r), 0);

		/* Nothing was shown to the driver, and from now on nothing is written anywhere. */
		cr_assert(!model_sleep(&d));
		cr_assert_eq(r->chip.messages, 0);
		memset(model_at(&r->memory, one_buf.addr, 64), 0, 64);
		memcpy(before, model_at(&r->memory, 0, MODEL_LOW), MODEL_LOW);
		vrig_kick(r, 0);
		usleep(20000);
		cr_assert_eq(memcmp(before, model_at(&r->memory, 0, MODEL_LOW), MODEL_LOW), 0);
		cr_assert_eq(*(uint8_t *)model_at(&r->memory, one_buf.addr, 64), 0);
		model_free(&d);

		vrig_up(r, &d, 8, ~0ull);
		model_add(&d, &one_buf, 1, false);
		vrig_kick(r, 0);
		vrig_wait_used(&d);
		model_free(&d);
		free(before);
		vrig_destroy(r);
	}
}

Test(virtio_device, destroyed_with_requests_in_flight, .timeout = 30)
{
	struct vrig *r = rig();
	struct model d;

	set_slow(r, true);
	vrig_up(r, &d, 8, ~0ull);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait(held(r) == 1);
	set_slow(r, false);
	model_free(&d);
	vrig_destroy(r);
}

static void *quick_later(void *arg)
{
	usleep(30000);
	set_slow(arg, false);
	return NULL;
}

/* Pausing finishes what is in flight and shows it; nothing is taken until it goes on. */
Test(virtio_device, pause_and_go_on, .timeout = 30)
{
	struct vrig *r = rig();
	struct model d;
	struct error e;
	pthread_t thread;

	set_slow(r, true);
	vrig_up(r, &d, 8, ~0ull);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait(held(r) == 1);
	pthread_create(&thread, NULL, quick_later, r);
	r->dev->ops->pause(r->dev);
	pthread_join(thread, NULL);
	vrig_wait_used(&d);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0);
	usleep(20000);
	cr_assert(!model_sleep(&d), "served while paused");
	cr_assert_eq(r->dev->ops->start(r->dev, &e), 0);
	vrig_wait_used(&d);
	model_free(&d);
	vrig_destroy(r);
}

Test(virtio_device, a_queue_moves_away_and_back, .timeout = 30)
{
	struct vrig *r = rig();
	struct slow *s = slow_in(r);
	struct virtq_state state;
	struct model d;
	struct virtq other; /* another data plane */
	struct virtq_chain *chain;
	struct error e;

	vrig_up(r, &d, 8, ~0ull);
	for (unsigned i = 0; i < 11; i++) {
		model_add(&d, &one_buf, 1, false);
		vrig_kick(r, 0);
		vrig_wait_used(&d);
	}
	r->dev->ops->pause(r->dev);
	state = virtio_queue_get_state(&s->v.queue[0]);
	cr_assert_eq(state.avail_idx, 11);
	cr_assert_eq(virtq_init(&other, &r->memory, 8, 0), 0);
	cr_assert_eq(virtq_start(&other, &d.config, &state), 0);
	for (unsigned i = 0; i < 3; i++) {
		model_add(&d, &one_buf, 1, false);
		cr_assert_eq(virtq_pop(&other, &chain, 1), 1);
		virtq_push(&other, chain, 0);
		virtq_publish(&other);
		vrig_wait_used(&d);
	}
	state = virtq_get_state(&other);
	virtq_destroy(&other);
	cr_assert_eq(virtio_queue_set_state(&s->v.queue[0], &state), 0);
	cr_assert_eq(r->dev->ops->start(r->dev, &e), 0);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0);
	cr_assert_eq(vrig_wait_used(&d).len, 64);
	model_free(&d);
	vrig_destroy(r);
}

Test(virtio_device, no_dma_without_bus_mastering)
{
	struct vrig *r = rig();
	struct model d;

	vrig_up(r, &d, 8, ~0ull);
	vrig_write(r, r->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0);
	usleep(20000);
	cr_assert(!model_sleep(&d));
	vrig_write(r, r->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	vrig_wait_used(&d);
	model_free(&d);
	vrig_destroy(r);
}

Test(virtio_device, machine_reset_forgets_everything)
{
	struct vrig *r = rig();
	struct model d;
	struct error e = { 0 };

	vrig_up(r, &d, 8, ~0ull);
	model_add(&d, &one_buf, 1, false);
	r->dev->ops->pause(r->dev);
	r->dev->ops->reset(r->dev);
	cr_assert_eq(pci_root_assign(r->host.pci, &e), 0);
	cr_assert_eq(r->dev->ops->start(r->dev, &e), 0);
	cr_assert_eq(vrig_read(r, r->config + PCI_COMMAND, 2), 0);
	vrig_write(r, r->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cr_assert_eq(vrig_status(r), 0);
	cr_assert(!model_sleep(&d));
	model_free(&d);
	vrig_up(r, &d, 8, ~0ull);
	model_add(&d, &one_buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait_used(&d);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- accounting ------------------------------------------------------------------------------ */

Test(virtio_device, counts)
{
	struct vrig *r = rig();
	struct slow *s = slow_in(r);
	struct virtio_queue_stats *stats = &s->v.queue[0].stats;
	struct model_buf bufs[2] = { { MODEL_HIGH, 10, false }, { MODEL_HIGH + 64, 20, true } };
	struct model d;

	vrig_up(r, &d, 8, V1); /* no EVENT_IDX: the driver's flags decide */
	for (unsigned i = 0; i < 3; i++) {
		if (i == 2)
			model_busy(&d);
		model_add(&d, bufs, 2, false);
		vrig_kick(r, 0);
		vrig_wait_used(&d);
		pthread_mutex_lock(&s->v.queue[0].lock); /* the turn is over */
		pthread_mutex_unlock(&s->v.queue[0].lock);
	}
	cr_assert_geq(stats->kicks, 3);
	cr_assert_eq(stats->requests, 3);
	cr_assert_eq(stats->bytes, 3 * 30);
	cr_assert_eq(stats->interrupts, 2);
	cr_assert_eq(stats->suppressed, 1);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- everything at once ---------------------------------------------------------------------- */

struct stress {
	struct vrig *r;
	bool stop; /* atomic */
};

static void *kick_thread(void *arg)
{
	struct stress *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		vrig_kick(s->r, 0);
		vrig_kick(s->r, 1);
		reg(s->r, VIRTIO_PCI_COMMON_STATUS, 1);
		vrig_read(s->r, s->r->isr, 1);
		usleep(50);
	}
	return NULL;
}

/* One vCPU resets and sets up, another rings doorbells and reads, a third toggles the bus. */
Test(virtio_device, resets_under_load, .timeout = 60)
{
	struct vrig *r = rig();
	struct stress s = { .r = r };
	pthread_t thread[2];

	for (unsigned i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, kick_thread, &s);
	for (unsigned round = 0; round < 300; round++) {
		struct model d;

		vrig_up(r, &d, 8, round % 2 ? ~0ull : V1);
		for (unsigned i = 0; i < 4; i++)
			model_add(&d, &one_buf, 1, false);
		if (round % 3)
			vrig_wait_used(&d);
		if (round % 7 == 0) {
			uint16_t on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

			vrig_write(r, r->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
			vrig_write(r, r->config + PCI_COMMAND, 2, on);
		}
		vrig_set_status(r, 0);
		model_free(&d);
	}
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	vrig_destroy(r);
}
