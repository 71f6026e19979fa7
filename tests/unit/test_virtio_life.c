/*
 * The device layer while requests are in flight: resets, pauses, handover, bus mastering, and all
 * of it under load. Through the PCI transport, with the device of test_virtio_slow.h.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_virtio_slow.h"

static const struct model_buf one_buf = { MODEL_HIGH, 64, true };

/* ---- requests in flight ---------------------------------------------------------------------- */

Test(virtio_life, reset_waits_for_what_is_in_flight, .timeout = 30)
{
	static const char *const keys[] = { "", "ring=packed", "in-order=on",
					    "ring=packed,in-order=on" };

	for (unsigned k = 0; k < 4; k++) {
		struct vrig *r = vrig_create();
		struct vrig_resetter t = { .r = r };
		uint8_t *before = malloc(MODEL_LOW);
		struct model d;
		pthread_t thread;

		vrig_plug(r, &slow_row, NULL, keys[k]);
		vrig_msix_enable(r, 3);
		slow_set(r, true);
		vrig_up(r, &d, 8, ~0ull);
		slow_set_reg(r, VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
		for (unsigned i = 0; i < 5; i++)
			model_add(&d, &one_buf, 1, false);
		vrig_kick(r, 0);
		vrig_wait(slow_held(r) == 5);

		pthread_create(&thread, NULL, vrig_reset_thread, &t);
		usleep(30000);
		cr_assert(!__atomic_load_n(&t.done, __ATOMIC_SEQ_CST), "reset did not wait");
		slow_set(r, false);
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

/* The device runs, is slow, and holds one request. */
static struct vrig *holding_one(struct model *d)
{
	struct vrig *r = slow_rig();

	slow_set(r, true);
	vrig_up(r, d, 8, ~0ull);
	model_add(d, &one_buf, 1, false);
	vrig_kick(r, 0);
	vrig_wait(slow_held(r) == 1);
	return r;
}

Test(virtio_life, destroyed_with_requests_in_flight, .timeout = 30)
{
	struct model d;
	struct vrig *r = holding_one(&d);

	slow_set(r, false);
	model_free(&d);
	vrig_destroy(r);
}

static void *quick_later(void *arg)
{
	usleep(30000);
	slow_set(arg, false);
	return NULL;
}

/* Pausing finishes what is in flight and shows it; nothing is taken until it goes on. */
Test(virtio_life, pause_and_go_on, .timeout = 30)
{
	struct model d;
	struct vrig *r = holding_one(&d);
	struct error e;
	pthread_t thread;

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

/* A broken queue's requests are over, too, when nothing may reach memory any more. */
Test(virtio_life, a_broken_queue_is_waited_for, .timeout = 30)
{
	struct model_buf bad = { MODEL_LOW, 64, true };

	for (unsigned way = 0; way < 2; way++) {
		struct model d;
		struct vrig *r = holding_one(&d);
		struct error e;
		pthread_t thread;

		model_add(&d, &bad, 1, false);
		vrig_kick(r, 0);
		vrig_wait(vrig_status(r) & NEEDS_RESET);
		pthread_create(&thread, NULL, quick_later, r);
		if (way)
			r->dev->ops->pause(r->dev);
		else
			vrig_write(r, r->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		cr_assert_eq(slow_held(r), 0);
		pthread_join(thread, NULL);
		if (way)
			cr_assert_eq(r->dev->ops->start(r->dev, &e), 0);
		model_free(&d);
		vrig_destroy(r);
	}
}

Test(virtio_life, a_queue_moves_away_and_back, .timeout = 30)
{
	struct vrig *r = slow_rig();
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

Test(virtio_life, no_dma_without_bus_mastering)
{
	struct vrig *r = slow_rig();
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

Test(virtio_life, machine_reset_forgets_everything)
{
	struct vrig *r = slow_rig();
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

Test(virtio_life, counts)
{
	struct vrig *r = slow_rig();
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
		slow_reg(s->r, VIRTIO_PCI_COMMON_STATUS, 1);
		vrig_read(s->r, s->r->isr, 1);
		usleep(50);
	}
	return NULL;
}

/* One vCPU resets and sets up, another rings doorbells and reads, a third toggles the bus. */
Test(virtio_life, resets_under_load, .timeout = 60)
{
	struct vrig *r = slow_rig();
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
