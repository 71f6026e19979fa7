/*
 * NVMe's queues: doorbells in all modes, full queues, interrupts, and resets while the disk is
 * slow.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_nvme_rig.h"

#define DNR NVME_SC_DNR

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

Test(nvme_queues, shadow_doorbells, .timeout = 60)
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
Test(nvme_queues, ioeventfds_are_bound_with_shadow_doorbells, .timeout = 30)
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

Test(nvme_queues, doorbell_buffers_that_cannot_be, .timeout = 30)
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

/* Pair 1 with 32 entries for commands and so many for completions; r->queue[1] has the former. */
static void enable_with_short_cq(struct nvrig *r, uint32_t entries)
{
	nvrig_msix_enable(r);
	nvrig_enable(r);
	nvrig_queue(r, 1, 32);
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_DELETE_SQ, .cdw10 = 1 });
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_DELETE_CQ, .cdw10 = 1 });
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_CREATE_CQ,
					      .prp1 = NVRIG_CQ + NVRIG_QUEUE,
					      .cdw10 = (entries - 1) << 16 | 1,
					      .cdw11 = 1 << 16 | 3 });
	nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_CREATE_SQ,
					      .prp1 = NVRIG_SQ + NVRIG_QUEUE,
					      .cdw10 = 31 << 16 | 1,
					      .cdw11 = 1 << 16 | 1 });
}

/* More commands than the completion queue has entries: it waits for the head, and loses none. */
static void full_completion_queue(const char *keys, bool shadow)
{
	struct nvrig *r = nvrig_create(keys);
	struct nvme_completion c;
	unsigned seen = 0;

	enable_with_short_cq(r, 4);
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

Test(nvme_queues, full_completion_queue, .timeout = 60)
{
	full_completion_queue("", false);
	full_completion_queue("", true);
	full_completion_queue("doorbell=exit", false);
	full_completion_queue("doorbell=exit", true);
}

/* The driver frees entries while a command completes: it was told to ring, and then no longer. */
static void room_made_meanwhile(const char *keys)
{
	struct nvrig *r = nvrig_create_stub(keys);
	uint32_t *head = (uint32_t *)(void *)nvrig_at(r, NVRIG_SHADOW + 12, 4);

	r->stub->no_nowait = true;
	enable_with_short_cq(r, 2);
	use_shadow(r);
	stub_gate(r->stub, true);
	nvrig_push(r, 1, nvrig_rw(NVME_READ, 0, 1));
	nvrig_push(r, 1, nvrig_rw(NVME_READ, 1, 1));
	nvrig_ring(r, 1);
	vrig_wait(stub_waiting(r->stub) == 1);
	r->queue[1].size = 2; /* of the completion queue: the second one finds no room */
	vrig_wait(__atomic_load_n(&r->n->cq[1].starved, __ATOMIC_SEQ_CST));
	/* As if between the completion and the look at the head: nobody reads it before. */
	__atomic_store_n(head, 1, __ATOMIC_SEQ_CST);
	stub_gate(r->stub, false);
	nvrig_wait_quietly(r, 1);
	nvrig_wait_quietly(r, 1);
	nvrig_destroy(r);
}

Test(nvme_queues, room_made_meanwhile, .timeout = 60)
{
	room_made_meanwhile("");
	room_made_meanwhile("doorbell=exit");
	room_made_meanwhile("iothread=off");
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

Test(nvme_queues, more_commands_than_requests, .timeout = 60)
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

Test(nvme_queues, one_message_for_a_batch, .timeout = 30)
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

Test(nvme_queues, pin, .timeout = 30)
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

Test(nvme_queues, waits_for_bus_mastering_and_the_machine, .timeout = 30)
{
	without_bus_mastering("");
	without_bus_mastering("doorbell=exit");
}

enum way { WAY_DISABLE, WAY_MACHINE_RESET, WAY_FLR, WAY_BUS_MASTER, WAY_DELETE, WAY_PAUSE };

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
	case WAY_PAUSE:
		r->v->dev->ops->pause(r->v->dev);
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

Test(nvme_queues, stops_with_commands_in_flight, .timeout = 60)
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

/* A deallocation of many ranges can take hours: who waits for the queue waits for one of them. */
static void stop_long(enum way way, unsigned status, const char *keys)
{
	struct nvrig *r = nvrig_create_stub(keys);
	struct nvme_dsm_range *range = (void *)nvrig_at(r, NVRIG_LISTS, 4096);
	struct stopper t = { .r = r, .way = way };
	struct nvme_completion c = { 0 };
	pthread_t thread;

	nvrig_up(r);
	for (unsigned i = 0; i < 256; i++)
		range[i] = (struct nvme_dsm_range){ .slba = i, .blocks = 1 };
	stub_gate(r->stub, true);
	nvrig_push(r, 1,
		   (struct nvme_command){ .opcode = NVME_DSM,
					  .nsid = 1,
					  .prp1 = NVRIG_LISTS,
					  .cdw10 = 255,
					  .cdw11 = NVME_DSM_AD });
	nvrig_ring(r, 1);
	vrig_wait(stub_waiting(r->stub) == 1);
	pthread_create(&thread, NULL, stop_thread, &t);
	vrig_wait(__atomic_load_n(&r->n->sq[1].stopping, __ATOMIC_SEQ_CST) ||
		  __atomic_load_n(&r->n->sq[1].held, __ATOMIC_SEQ_CST));
	stub_gate(r->stub, false);
	pthread_join(thread, NULL);
	cr_assert_eq(r->stub->discards, 1);
	cr_assert(nvrig_poll(r, 1, &c));
	cr_assert_eq(c.status >> 1 & ~NVME_SC_MORE, status);
	nvrig_destroy(r);
}

Test(nvme_queues, a_long_deallocation_ends_early, .timeout = 60)
{
	stop_long(WAY_DISABLE, NVME_SC_ABORT_REQUESTED, "");
	stop_long(WAY_DELETE, NVME_SC_ABORT_REQUESTED, "");
	stop_long(WAY_BUS_MASTER, 0, "");
	stop_long(WAY_BUS_MASTER, 0, "doorbell=exit");
	stop_long(WAY_PAUSE, 0, "");
	stop_long(WAY_PAUSE, 0, "iothread=off");
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
					nvrig_fill(nvrig_at(r, where[i], blocks * 512),
						   blocks * 512, round + i);
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

Test(nvme_queues, random_traffic, .timeout = 60)
{
	traffic("", false, 1);
	traffic("", true, 2);
	traffic("doorbell=exit", false, 3);
	traffic("doorbell=exit", true, 4);
	traffic("iothread=off", true, 5);
}
