/*
 * NVMe reset under load, as drivers do it: three queues are kept full by threads of their own, with
 * shadow doorbells and MSI-X, while the controller is disabled in each of the ways there are and
 * brought up again. After each reset all queues go on, and nothing of before shows in them.
 */
#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_nvme_rig.h"

#define QUEUES 3u
#define DEEP   32u
#define RESETS 40u

/* One queue's driver. */
struct load {
	struct nvrig *r;
	unsigned id;
	pthread_t thread;
	pthread_mutex_t lock; /* guards the queue and the rest */
	bool sent[65536];     /* by command identifier */
	unsigned outstanding;
	uint64_t done; /* atomic */
	bool stop;     /* atomic */
};

static void submit(struct load *l)
{
	unsigned n = DEEP - l->outstanding;

	for (unsigned i = 0; i < n; i++) {
		struct nvme_command c = nvrig_rw(NVME_READ, 16 * i, 8 << i % 2);

		l->sent[nvrig_push(l->r, l->id, c)] = true;
		l->outstanding++;
	}
	if (n)
		nvrig_ring(l->r, l->id);
}

static void reap(struct load *l)
{
	struct nvme_completion c;
	bool some = false;

	while (nvrig_poll(l->r, l->id, &c)) {
		some = true;
		cr_assert(l->sent[c.cid], "queue %u: command %u was not sent", l->id, c.cid);
		cr_assert_eq(c.sqid, l->id);
		cr_assert_eq(c.status >> 1, 0);
		l->sent[c.cid] = false;
		l->outstanding--;
		__atomic_fetch_add(&l->done, 1, __ATOMIC_RELAXED);
	}
	if (some)
		nvrig_ring_head(l->r, l->id);
}

static void *drive(void *arg)
{
	struct load *l = arg;

	while (!__atomic_load_n(&l->stop, __ATOMIC_RELAXED)) {
		pthread_mutex_lock(&l->lock);
		submit(l);
		reap(l);
		pthread_mutex_unlock(&l->lock);
		usleep(50);
	}
	return NULL;
}

/* Until it has got n more completions. */
static void goes_on(struct load *l, uint64_t n)
{
	uint64_t goal = __atomic_load_n(&l->done, __ATOMIC_RELAXED) + n;

	for (unsigned i = 0; i < 40000; i++) {
		if (__atomic_load_n(&l->done, __ATOMIC_RELAXED) >= goal)
			return;
		usleep(250);
	}
	cr_assert_fail("queue %u stands still", l->id);
}

/* ---- down and up ----------------------------------------------------------------------------- */

static void delete_queues(struct nvrig *r)
{
	static const uint8_t opcode[] = { NVME_ADMIN_DELETE_SQ, NVME_ADMIN_DELETE_CQ };

	for (unsigned i = 0; i < 2; i++)
		for (unsigned id = 1; id <= QUEUES; id++)
			cr_assert_eq(nvrig_admin(r, (struct nvme_command){ .opcode = opcode[i],
									   .cdw10 = id }),
				     0);
}

/* As the kernel saves and restores around it. */
static void function_level_reset(struct nvrig *r)
{
	uint64_t bar = vrig_read(r->v, r->config + PCI_BASE_ADDRESS_0, 8);

	vrig_write(r->v, r->config + r->n->express + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	vrig_write(r->v, r->config + PCI_BASE_ADDRESS_0, 4, (uint32_t)bar);
	vrig_write(r->v, r->config + PCI_BASE_ADDRESS_1, 4, bar >> 32);
	nvrig_command_register(r, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cr_assert_eq(nvrig_read(r, CSTS, 4), 0);
}

static void take_down(struct nvrig *r, unsigned way)
{
	switch (way) {
	case 0: /* as Linux does it */
		delete_queues(r);
		nvrig_disable(r);
		break;
	case 1: /* all at once */
		nvrig_disable(r);
		break;
	case 2:
		function_level_reset(r);
		break;
	case 3: /* with a farewell, and no DMA any more */
		nvrig_write(r, CC, 4, NVRIG_CC | 1 << 14);
		for (unsigned i = 0; i < 20000; i++) {
			if ((nvrig_read(r, CSTS, 4) & NVME_CSTS_SHST) == NVME_CSTS_SHST_DONE)
				break;
			usleep(250);
		}
		cr_assert_eq(nvrig_read(r, CSTS, 4) & NVME_CSTS_SHST, NVME_CSTS_SHST_DONE);
		nvrig_command_register(r, PCI_COMMAND_MEMORY);
		nvrig_disable(r);
		break;
	}
	vrig_write(r->v, r->config + r->msix + PCI_MSIX_FLAGS, 2, 0);
	nvrig_command_register(r, PCI_COMMAND_MEMORY);
}

static void bring_up(struct nvrig *r)
{
	memset(nvrig_at(r, NVRIG_SHADOW, 8192), 0, 8192); /* and NVRIG_EVENTS */
	nvrig_command_register(r, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	nvrig_msix_enable(r);
	nvrig_enable(r);
	for (unsigned id = 1; id <= QUEUES; id++)
		nvrig_queue(r, id, NVRIG_ENTRIES);
	cr_assert_eq(nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_DBBUF_CONFIG,
							   .prp1 = NVRIG_SHADOW,
							   .prp2 = NVRIG_EVENTS }),
		     0);
	for (unsigned id = 1; id <= QUEUES; id++)
		r->queue[id].shadow = true;
}

static void hold(struct load *load, bool held)
{
	for (unsigned i = 0; i < QUEUES; i++) {
		if (held)
			pthread_mutex_lock(&load[i].lock);
		else
			pthread_mutex_unlock(&load[i].lock);
	}
}

static void forget(struct load *l)
{
	l->outstanding = 0;
	memset(l->sent, 0, sizeof(l->sent));
}

static void under_load(const char *keys)
{
	static struct load load[QUEUES];
	struct nvrig *r = nvrig_create(keys);

	memset(load, 0, sizeof(load));
	bring_up(r);
	for (unsigned i = 0; i < QUEUES; i++) {
		load[i].r = r;
		load[i].id = i + 1;
		pthread_mutex_init(&load[i].lock, NULL);
		pthread_create(&load[i].thread, NULL, drive, &load[i]);
	}
	for (unsigned n = 0; n < RESETS; n++) {
		for (unsigned i = 0; i < QUEUES; i++)
			goes_on(&load[i], 2 * DEEP);
		hold(load, true);
		for (unsigned i = 0; i < QUEUES; i++)
			submit(&load[i]); /* some are in flight for sure */
		take_down(r, n % 4);
		bring_up(r);
		for (unsigned i = 0; i < QUEUES; i++)
			forget(&load[i]);
		hold(load, false);
	}
	for (unsigned i = 0; i < QUEUES; i++) {
		goes_on(&load[i], 2 * DEEP);
		__atomic_store_n(&load[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(load[i].thread, NULL);
		pthread_mutex_destroy(&load[i].lock);
	}
	nvrig_destroy(r);
}

Test(nvme_reset, under_load_threads, .timeout = 120)
{
	under_load("");
}

Test(nvme_reset, under_load_exits, .timeout = 120)
{
	under_load("doorbell=exit");
}

Test(nvme_reset, under_load_main_loop, .timeout = 120)
{
	under_load("iothread=off,engine=threads");
}
