/*
 * A hostile NVMe driver: 100000 seeded steps of register writes of every width, commands of random
 * and of nearly right fields, PRPs anywhere, lists that point at themselves, shadow doorbells full
 * of noise, resets in between. What is tested is that the machine lives; the sanitizers look on.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test_nvme_rig.h"

#define STEPS 100000u

struct hostile {
	struct nvrig *r;
	uint64_t random;
};

static uint64_t pick(struct hostile *h, uint64_t n)
{
	return model_random(&h->random) % n;
}

/* Somewhere in RAM, at its edges, in a device, or anywhere. */
static uint64_t somewhere(struct hostile *h)
{
	static const uint64_t places[] = { 0,
					   NVRIG_SQ,
					   NVRIG_CQ,
					   NVRIG_SHADOW,
					   NVRIG_LISTS,
					   NVRIG_BUFFER,
					   MODEL_LOW,
					   MODEL_HIGH,
					   VRIG_ECAM,
					   VRIG_MEM32,
					   VRIG_MEM64,
					   ~0xfffull,
					   MODEL_HIGH + MODEL_LOW };
	uint64_t at = places[pick(h, sizeof(places) / sizeof(places[0]))];

	at += (pick(h, 9) - 4) * NVME_PAGE;
	return pick(h, 4) ? at : at + pick(h, NVME_PAGE);
}

static struct nvme_command random_command(struct hostile *h, bool admin)
{
	static const uint8_t admins[] = { 0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 0x7c, 0x80 };
	static const uint8_t ios[] = { 0, 1, 2, 8, 9 };
	struct nvme_command c;
	uint32_t *word = (uint32_t *)(void *)&c;

	for (unsigned i = 0; i < 16; i++)
		word[i] = (uint32_t)model_random(&h->random);
	if (pick(h, 16) == 0)
		return c;
	c.flags = pick(h, 32) ? 0 : c.flags;
	c.opcode = admin ? admins[pick(h, sizeof(admins))] : ios[pick(h, sizeof(ios))];
	c.nsid = pick(h, 16) ? 1 : c.nsid;
	c.prp1 = somewhere(h);
	c.prp2 = somewhere(h);
	if (admin) {
		c.cdw10 = pick(h, 4) ? (uint32_t)(pick(h, 70) << 16 | pick(h, 8)) : c.cdw10;
		c.cdw11 = pick(h, 4) ? (uint32_t)(pick(h, 6) << 16 | pick(h, 4)) : c.cdw11;
		c.cdw12 = pick(h, 4) ? 0 : c.cdw12;
		c.cdw13 = pick(h, 4) ? 0 : c.cdw13;
	} else {
		c.cdw10 = (uint32_t)pick(h, NVRIG_SECTORS + 100);
		c.cdw11 = pick(h, 8) ? (uint32_t)pick(h, 8) & 4 : c.cdw11;
		c.cdw12 = (c.cdw12 & 0x7fff0000) | (uint32_t)pick(h, 1200);
	}
	return c;
}

static void put_commands(struct hostile *h)
{
	unsigned q = (unsigned)pick(h, 4);
	struct nvme_command *sq = (void *)nvrig_at(h->r, NVRIG_SQ + q * NVRIG_QUEUE, NVRIG_QUEUE);

	for (unsigned i = 0; i < 8; i++)
		sq[pick(h, NVRIG_ENTRIES)] = random_command(h, q == 0);
	nvrig_write(h->r, NVME_DOORBELLS + 8 * q, 4, pick(h, NVRIG_ENTRIES));
}

static void put_lists(struct hostile *h)
{
	uint64_t *list = (void *)nvrig_at(h->r, NVRIG_LISTS, 4 * NVME_PAGE);

	for (unsigned i = 0; i < 64; i++)
		list[pick(h, 2048)] =
			pick(h, 3) ? NVRIG_LISTS + pick(h, 4) * NVME_PAGE : somewhere(h);
}

static void noise(struct hostile *h)
{
	uint32_t *shadow = (void *)nvrig_at(h->r, NVRIG_SHADOW, 2 * NVME_PAGE);

	for (unsigned i = 0; i < 16; i++)
		__atomic_store_n(&shadow[pick(h, 64)],
				 pick(h, 4) ? (uint32_t)pick(h, 70)
					    : (uint32_t)model_random(&h->random),
				 __ATOMIC_RELAXED);
}

static void touch_registers(struct hostile *h)
{
	unsigned width = 1u << pick(h, 4);
	unsigned reg = (unsigned)(pick(h, 2) ? pick(h, 0x40) : pick(h, NVME_BAR_SIZE - 8));

	if (pick(h, 3))
		nvrig_write(h->r, reg, width, model_random(&h->random) >> pick(h, 64));
	else
		nvrig_read(h->r, reg, width);
}

/* Back to a state in which commands are looked at: queues where put_commands() writes. */
static void bring_up(struct hostile *h)
{
	struct nvrig *r = h->r;

	nvrig_command_register(r, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	nvrig_write(r, CC, 4, 0);
	nvrig_up(r);
	for (unsigned q = 2; q <= 3; q++)
		nvrig_queue(r, q, NVRIG_ENTRIES);
	if (pick(h, 2))
		nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_DBBUF_CONFIG,
						      .prp1 = NVRIG_SHADOW,
						      .prp2 = NVRIG_EVENTS });
}

static void torment(const char *keys, uint64_t seed, unsigned steps)
{
	struct hostile h = { .r = nvrig_create(keys), .random = seed };

	for (unsigned i = 0; i < steps; i++) {
		if (i % 500 == 0)
			bring_up(&h);
		switch (pick(&h, 8)) {
		case 0:
		case 1:
		case 2:
			put_commands(&h);
			break;
		case 3:
			put_lists(&h);
			break;
		case 4:
			noise(&h);
			break;
		case 5:
			nvrig_write(h.r, NVME_DOORBELLS + 4 * (unsigned)pick(&h, 10), 4,
				    pick(&h, 70));
			break;
		case 6:
			if (pick(&h, 20) == 0)
				nvrig_command_register(h.r, (uint16_t)pick(&h, 8) | 2);
			break;
		case 7:
			touch_registers(&h);
			break;
		}
	}
	/* And it still works. */
	bring_up(&h);
	cr_assert_eq(nvrig_admin(h.r, (struct nvme_command){ .opcode = NVME_ADMIN_ABORT }), 0);
	nvrig_destroy(h.r);
}

Test(nvme_hostile, threads, .timeout = 300)
{
	torment("", 1, STEPS / 2);
}

Test(nvme_hostile, exits, .timeout = 300)
{
	torment("doorbell=exit", 2, STEPS / 2);
}

struct ringer {
	struct nvrig *r;
	uint64_t seed;
	bool stop; /* atomic */
};

static void *ring_all(void *arg)
{
	struct ringer *t = arg;
	struct hostile h = { .r = t->r, .random = t->seed };

	while (!__atomic_load_n(&t->stop, __ATOMIC_RELAXED)) {
		nvrig_write(t->r, NVME_DOORBELLS + 4 * (unsigned)pick(&h, 10), 4, pick(&h, 70));
		if (pick(&h, 50) == 0)
			touch_registers(&h);
	}
	return NULL;
}

/* Two more vCPUs ring doorbells and touch registers while one makes queues and resets. */
static void several(const char *keys)
{
	struct hostile h = { .r = nvrig_create(keys), .random = 7 };
	struct ringer t[2] = { { h.r, 8, false }, { h.r, 9, false } };
	pthread_t thread[2];

	for (unsigned i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, ring_all, &t[i]);
	for (unsigned i = 0; i < 2000; i++) {
		if (i % 20 == 0) {
			nvrig_write(h.r, CC, 4, 0);
			nvrig_write(h.r, AQA, 4, 0x3f003f);
			nvrig_write(h.r, ASQ, 8, NVRIG_SQ);
			nvrig_write(h.r, ACQ, 8, NVRIG_CQ);
			nvrig_write(h.r, CC, 4, NVRIG_CC);
		}
		put_commands(&h);
		put_lists(&h);
		noise(&h);
	}
	for (unsigned i = 0; i < 2; i++) {
		__atomic_store_n(&t[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(thread[i], NULL);
	}
	bring_up(&h);
	nvrig_destroy(h.r);
}

Test(nvme_hostile, several_vcpus, .timeout = 300)
{
	several("");
	several("doorbell=exit");
}
