/*
 * A hostile IDE driver: 100000 seeded steps of register accesses of every width, commands with any
 * parameters, descriptor tables anywhere and everywhere, resets in between. The machine must live;
 * the sanitizers look on.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test_ide_rig.h"

#define STEPS 100000u

struct hostile {
	struct irig *r;
	uint64_t random;
};

static uint64_t pick(struct hostile *h, uint64_t n)
{
	return model_random(&h->random) % n;
}

static uint32_t somewhere(struct hostile *h)
{
	static const uint64_t places[] = { 0,	       IRIG_TABLE, IRIG_BUFFER,
					   MODEL_LOW,  MODEL_HIGH, VRIG_ECAM,
					   VRIG_MEM32, 0xfffff000, MODEL_HIGH + MODEL_LOW };
	uint64_t at = places[pick(h, sizeof(places) / sizeof(places[0]))];

	return (uint32_t)(at + (pick(h, 9) - 4) * 0x1000 + (pick(h, 3) ? 0 : pick(h, 0x1000)));
}

static void put_table(struct hostile *h)
{
	unsigned n = 1 + (unsigned)pick(h, 40);

	for (unsigned i = 0; i < n; i++)
		irig_prd(h->r, i, pick(h, 4) ? (uint32_t)IRIG_BUFFER : somewhere(h),
			 pick(h, 2) ? (uint32_t)pick(h, 0x10000) : 512u * (uint32_t)pick(h, 16),
			 i == n - 1 && pick(h, 8));
	if (pick(h, 8) == 0)
		irig_bm_out(h->r, BMIDTP, 4, somewhere(h));
}

static void command(struct hostile *h)
{
	static const uint8_t known[] = { 0x06, 0x10, 0x20, 0x24, 0x25, 0x27, 0x29, 0x30,
					 0x34, 0x35, 0x39, 0x3d, 0x40, 0x42, 0x70, 0x90,
					 0x91, 0xb0, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xce,
					 0xe0, 0xe3, 0xe5, 0xe7, 0xea, 0xec, 0xef, 0xf8 };
	uint8_t opcode = pick(h, 16) ? known[pick(h, sizeof(known))] : (uint8_t)pick(h, 256);

	irig_out(h->r, FEATURE, pick(h, 2) ? 1 : (uint8_t)pick(h, 256));
	if (pick(h, 2))
		irig_issue_ext(h->r, opcode, pick(h, IRIG_SECTORS + 10), (uint32_t)pick(h, 300));
	else
		irig_issue(h->r, opcode, pick(h, IRIG_SECTORS + 10), (uint32_t)pick(h, 256));
}

/* Of the channel, in the mode that the driver thinks it to be in. */
static uint64_t block_port(struct hostile *h)
{
	unsigned at = PCI_BASE_ADDRESS_0 + 8 * h->r->channel;

	if (h->r->native)
		return vrig_read(h->r->v, h->r->config + at, 4) & ~3ull;
	return h->r->channel ? 0x170 : 0x1f0;
}

static void data(struct hostile *h)
{
	unsigned n = (unsigned)pick(h, 400);
	uint64_t port = block_port(h), value;

	for (unsigned i = 0; i < n; i++) {
		unsigned width = 1u << pick(h, 4);

		if (n & 1)
			bus_write(h->r->v->host.pio, port, width, model_random(&h->random));
		else
			bus_read(h->r->v->host.pio, port, width, &value);
	}
}

static void touch(struct hostile *h)
{
	uint64_t port = pick(h, 3) ? block_port(h) + pick(h, 9) : h->r->bm + pick(h, 16);
	unsigned width = 1u << pick(h, 4);
	uint64_t value;

	if (pick(h, 2))
		bus_write(h->r->v->host.pio, port, width, model_random(&h->random));
	else
		bus_read(h->r->v->host.pio, port, width, &value);
}

static void reset(struct hostile *h)
{
	vrig_write(h->r->v, h->r->config + 0x40, 4, 0x80008000);
	h->r->native = pick(h, 2);
	vrig_write(h->r->v, h->r->config + IDE_PROGIF, 1, h->r->native ? 5 : 0);
	irig_command_register(h->r, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
	for (unsigned ch = 0; ch < 2; ch++) {
		h->r->channel = ch;
		irig_bm_stop(h->r);
		irig_out(h->r, CONTROL, ATA_SRST);
		irig_out(h->r, CONTROL, (uint8_t)pick(h, 4) & ATA_NIEN);
	}
	irig_select(h->r, (unsigned)pick(h, 2), (unsigned)pick(h, 2));
}

static void step(struct hostile *h)
{
	switch (pick(h, 8)) {
	case 0:
		command(h);
		break;
	case 1:
		put_table(h);
		break;
	case 2:
		irig_bm_start(h->r, pick(h, 2));
		break;
	case 3:
		irig_bm_out(h->r, BMIC, 1, (uint32_t)pick(h, 16));
		break;
	case 4:
		data(h);
		break;
	case 5:
		if (pick(h, 8) == 0)
			reset(h);
		break;
	case 6:
		if (pick(h, 100) == 0)
			irig_command_register(h->r, (uint16_t)pick(h, 8));
		else if (pick(h, 100) == 0)
			vrig_write(h->r->v, h->r->config + IDE_PROGIF, 1, pick(h, 256));
		break;
	case 7:
		touch(h);
		break;
	}
}

static void torment(unsigned disks, const char *keys, uint64_t seed, unsigned steps)
{
	struct hostile h = { .r = irig_create(disks, keys), .random = seed };
	uint16_t word[256];

	for (unsigned i = 0; i < steps; i++) {
		if (i % 200 == 0)
			reset(&h);
		step(&h);
	}
	/* And it still works. */
	reset(&h);
	irig_select(h.r, 0, 0);
	irig_identify(h.r, word);
	cr_assert_eq(word[0], 0x0040);
	irig_destroy(h.r);
}

Test(ide_hostile, random_steps, .timeout = 300)
{
	torment(3, "", 1, STEPS);
}

Test(ide_hostile, on_the_main_loop, .timeout = 300)
{
	torment(1, "iothread=off", 2, STEPS / 10);
}

static void *vcpu(void *arg)
{
	struct hostile *h = arg;

	for (unsigned i = 0; i < STEPS / 20; i++)
		step(h);
	return NULL;
}

Test(ide_hostile, several_vcpus, .timeout = 300)
{
	struct irig *r = irig_create(4, "");
	struct irig copy[3] = { *r, *r, *r };
	struct hostile h[3];
	pthread_t thread[3];

	for (unsigned i = 0; i < 3; i++) {
		copy[i].channel = i % 2; /* their drivers' ideas of the mode differ, too */
		h[i] = (struct hostile){ &copy[i], 10 + i };
		pthread_create(&thread[i], NULL, vcpu, &h[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	irig_destroy(r);
}
