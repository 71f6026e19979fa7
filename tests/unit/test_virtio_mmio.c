/*
 * The MMIO transport: the register map by width, status and features, queues of both rings, the
 * interrupt line and its acknowledgement, doorbells, slots, reset, and random accesses everywhere.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "devices/registry.h"
#include "devices/virtio/virtio.h"
#include "tests/unit/test_virtio_rig.h"
#include "vmm/x86_64/layout.h"
#include "vmm/x86_64/platform.h"

#define V1	    MODEL_BIT(VIRTIO_F_VERSION_1)
#define RESET_BIT   MODEL_BIT(VIRTIO_F_RING_RESET)
#define QUEUE_RESET 0x0c0u
#define LINE	    VRIG_MMIO_GSI /* of slot 0 */

#define BEGUN (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define READY (BEGUN | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)

static const struct model_buf one_buf = { MODEL_HIGH, 64, true };

/* ---- the driver ------------------------------------------------------------------------------ */

static uint32_t get(struct vrig *r, unsigned offset)
{
	return (uint32_t)vrig_read(r, VRIG_MMIO + offset, 4);
}

static void set(struct vrig *r, unsigned offset, uint32_t value)
{
	vrig_write(r, VRIG_MMIO + offset, 4, value);
}

static int make(struct vrig *r, const struct device_row *row, const char *keys, struct device **out,
		struct error *e)
{
	struct device_config config;
	int err;

	vrig_config(&config, row, NULL, keys);
	err = row->create(&r->host, &config, out, e);
	vrig_config_free(&config);
	return err;
}

static void plug(struct vrig *r, const struct device_row *row, const char *keys)
{
	struct error e = { 0 };

	cr_assert_eq(make(r, row, keys, &r->dev, &e), 0, "%s", e.msg);
	r->dev->ops->reset(r->dev);
	cr_assert_eq(r->dev->ops->start(r->dev, &e), 0);
}

static struct vrig *rig(const char *keys)
{
	struct vrig *r = vrig_create();

	plug(r, &row_virtio_rng, keys);
	return r;
}

static uint64_t offered(struct vrig *r)
{
	uint64_t features = 0;

	for (unsigned i = 0; i < 2; i++) {
		set(r, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
		features |= (uint64_t)get(r, VIRTIO_MMIO_DEVICE_FEATURES) << (32 * i);
	}
	return features;
}

static bool negotiate(struct vrig *r, uint64_t features)
{
	set(r, VIRTIO_MMIO_STATUS, 0);
	cr_assert_eq(get(r, VIRTIO_MMIO_STATUS), 0);
	set(r, VIRTIO_MMIO_STATUS, BEGUN);
	for (unsigned i = 0; i < 2; i++) {
		set(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		set(r, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * i)));
	}
	set(r, VIRTIO_MMIO_STATUS, BEGUN | VIRTIO_CONFIG_S_FEATURES_OK);
	return get(r, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static void set_queue(struct vrig *r, unsigned index, const struct model *d)
{
	const uint64_t address[] = { d->config.desc, d->config.driver, d->config.device };

	set(r, VIRTIO_MMIO_QUEUE_SEL, index);
	cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_READY), 0);
	set(r, VIRTIO_MMIO_QUEUE_NUM, d->size);
	for (unsigned i = 0; i < 3; i++) {
		set(r, VIRTIO_MMIO_QUEUE_DESC_LOW + 0x10 * i, (uint32_t)address[i]);
		set(r, VIRTIO_MMIO_QUEUE_DESC_HIGH + 0x10 * i, (uint32_t)(address[i] >> 32));
	}
	set(r, VIRTIO_MMIO_QUEUE_READY, 1);
	cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_READY), 1);
}

static void up(struct vrig *r, struct model *d, uint16_t size, uint64_t wanted)
{
	uint64_t features = (offered(r) & wanted) | V1;

	cr_assert(negotiate(r, features));
	model_init(d, &r->memory, 0, size, features);
	set_queue(r, 0, d);
	set(r, VIRTIO_MMIO_STATUS, READY);
	cr_assert_eq(get(r, VIRTIO_MMIO_STATUS), READY);
}

static void request(struct vrig *r, struct model *d)
{
	cr_assert_geq(model_add(d, &one_buf, 1, false), 0);
	set(r, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	cr_assert_eq(vrig_wait_used(d).len, 64);
}

/* ---- registers ------------------------------------------------------------------------------- */

Test(virtio_mmio, identity)
{
	struct vrig *r = rig("transport=mmio");

	cr_assert_eq(get(r, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	cr_assert_eq(get(r, VIRTIO_MMIO_VERSION), 2);
	cr_assert_eq(get(r, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_RNG);
	cr_assert_neq(get(r, VIRTIO_MMIO_VENDOR_ID), 0);
	for (uint32_t id = 0; id < 3; id++) {
		set(r, VIRTIO_MMIO_SHM_SEL, id);
		for (unsigned at = VIRTIO_MMIO_SHM_LEN_LOW; at <= VIRTIO_MMIO_SHM_BASE_HIGH;
		     at += 4)
			cr_assert_eq(get(r, at), ~0u, "no shared memory");
	}
	cr_assert_eq(vrig_read(r, VRIG_ECAM + (1 << 15), 4), 0xffffffff, "and no PCI function");
	vrig_destroy(r);
}

static bool readable(unsigned offset)
{
	static const uint16_t at[] = { 0x00, 0x04, 0x08, 0x0c, 0x10, 0x34, 0x44, 0x60,
				       0x70, 0xb0, 0xb4, 0xb8, 0xbc, 0xc0, 0xfc };

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		if (at[i] == offset)
			return true;
	return false;
}

Test(virtio_mmio, registers_only_by_aligned_words)
{
	struct vrig *r = rig("transport=mmio");
	struct model d;

	up(r, &d, 8, 0);
	for (unsigned offset = 0; offset < 0x100; offset++) {
		for (unsigned size = 1; size <= 8; size *= 2) {
			if (size == 4 && readable(offset))
				continue;
			cr_assert_eq(vrig_read(r, VRIG_MMIO + offset, size), 0, "%#x by %u", offset,
				     size);
			if (size != 4 || offset % 4)
				vrig_write(r, VRIG_MMIO + offset, size, 0);
		}
	}
	cr_assert_eq(get(r, VIRTIO_MMIO_STATUS), READY);
	cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_READY), 1);
	request(r, &d);
	/* What cannot be written does not change. */
	for (unsigned offset = 0; offset < 0x100; offset += 4) {
		uint32_t was = get(r, offset);

		if (!readable(offset) || offset == 0x44 || offset == 0x70 || offset == 0xc0 ||
		    offset == 0x60)
			continue;
		set(r, offset, ~was);
		cr_assert_eq(get(r, offset), was, "%#x", offset);
	}
	model_free(&d);
	vrig_destroy(r);
}

Test(virtio_mmio, configuration_space_by_any_aligned_width)
{
	struct vrig *r = vrig_create();
	const unsigned actual = offsetof(struct virtio_balloon_config, actual);
	const uint64_t config = VRIG_MMIO + VIRTIO_MMIO_CONFIG;
	uint64_t whole;

	plug(r, &row_virtio_balloon, "transport=mmio,target=4194304");
	whole = vrig_read(r, config, 8);
	cr_assert_eq((uint32_t)whole, 1024);
	vrig_write(r, config + actual, 4, 0x01020304);
	whole = vrig_read(r, config, 8);
	cr_assert_eq(whole, 0x0102030400000400ull);
	for (unsigned size = 1; size <= 8; size *= 2) {
		for (unsigned at = 0; at + size <= 8; at++) {
			uint64_t want = whole >> (8 * at);

			if (size < 8)
				want &= (1ull << (8 * size)) - 1;
			cr_assert_eq(vrig_read(r, config + at, size), at % size ? 0 : want,
				     "%u by %u", at, size);
		}
	}
	vrig_write(r, config + actual + 1, 4, ~0u);
	vrig_write(r, config, 4, ~0u); /* num_pages: the device's */
	vrig_write(r, config + 0xefc, 4, ~0u);
	cr_assert_eq(vrig_read(r, config, 8), whole);
	cr_assert_eq(vrig_read(r, config + 0xef8, 8), 0);
	vrig_destroy(r);
}

Test(virtio_mmio, status_and_features)
{
	struct vrig *r = rig("transport=mmio,ring=packed");
	uint64_t all = offered(r);

	cr_assert(all & V1 && all & MODEL_BIT(VIRTIO_F_RING_PACKED) && all & RESET_BIT);
	set(r, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	cr_assert_eq(get(r, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	cr_assert(!negotiate(r, 0), "without VERSION_1");
	cr_assert(!negotiate(r, V1 | MODEL_BIT(63)), "not offered");
	cr_assert(negotiate(r, all));
	/* Later they stay as they are. */
	set(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set(r, VIRTIO_MMIO_DRIVER_FEATURES, 0);
	cr_assert_eq(((struct virtio_device *)r->dev)->features, all);
	/* Bits above the status' are no reset. */
	set(r, VIRTIO_MMIO_STATUS, 0x100);
	cr_assert_eq(get(r, VIRTIO_MMIO_STATUS), BEGUN | VIRTIO_CONFIG_S_FEATURES_OK);
	set(r, VIRTIO_MMIO_STATUS, 0);
	cr_assert_eq(get(r, VIRTIO_MMIO_STATUS), 0);
	set(r, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_DRIVER_OK);
	cr_assert_eq(get(r, VIRTIO_MMIO_STATUS), 0, "DRIVER_OK without FEATURES_OK");
	vrig_destroy(r);
}

/* ---- queues ---------------------------------------------------------------------------------- */

Test(virtio_mmio, requests_on_both_rings)
{
	static const char *const keys[] = { "transport=mmio", "transport=mmio,ring=packed" };

	for (unsigned i = 0; i < 2; i++) {
		struct vrig *r = rig(keys[i]);
		struct model d;

		up(r, &d, 8, ~0ull);
		cr_assert_eq(d.packed, i);
		for (unsigned n = 0; n < 40; n++)
			request(r, &d);
		model_free(&d);
		vrig_destroy(r);
	}
}

static struct virtio_queue *queue0(struct vrig *r)
{
	return &((struct virtio_device *)r->dev)->queue[0];
}

Test(virtio_mmio, queues_that_cannot_be)
{
	struct vrig *r = rig("transport=mmio");

	cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_NUM_MAX), 8);
	set(r, VIRTIO_MMIO_QUEUE_READY, 1);
	cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_READY), 0, "before FEATURES_OK");
	cr_assert(negotiate(r, V1));
	static const uint32_t sizes[] = { 0, 3, 16, 0x10004, 0x80000000, ~0u };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		set(r, VIRTIO_MMIO_QUEUE_NUM, sizes[i]);
		cr_assert_eq(queue0(r)->regs.size, 8, "%#x", sizes[i]);
	}
	static const uint32_t missing[] = { 1, 64, 0x10000, ~0u };

	for (unsigned i = 0; i < 4; i++) {
		set(r, VIRTIO_MMIO_QUEUE_SEL, missing[i]);
		cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
		set(r, VIRTIO_MMIO_QUEUE_NUM, 4);
		set(r, VIRTIO_MMIO_QUEUE_READY, 1);
		cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_READY), 0);
		set(r, VIRTIO_MMIO_QUEUE_READY, 0);
		set(r, QUEUE_RESET, 1);
		set(r, VIRTIO_MMIO_QUEUE_NOTIFY, missing[i]);
	}
	set(r, VIRTIO_MMIO_QUEUE_SEL, 0);
	set(r, VIRTIO_MMIO_QUEUE_READY, 2);
	cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_READY), 0);
	cr_assert_eq(queue0(r)->regs.size, 8);
	vrig_destroy(r);
}

Test(virtio_mmio, queue_registers_freeze)
{
	struct vrig *r = rig("transport=mmio");
	struct virtq_config was;
	struct model d;

	up(r, &d, 8, RESET_BIT);
	was = queue0(r)->regs;
	set(r, VIRTIO_MMIO_QUEUE_NUM, 4);
	for (unsigned at = VIRTIO_MMIO_QUEUE_DESC_LOW; at <= VIRTIO_MMIO_QUEUE_USED_HIGH; at += 4)
		set(r, at, 0x1000);
	cr_assert_eq(queue0(r)->regs.size, was.size);
	cr_assert_eq(queue0(r)->regs.desc, was.desc);
	cr_assert_eq(queue0(r)->regs.driver, was.driver);
	cr_assert_eq(queue0(r)->regs.device, was.device);
	request(r, &d);
	/* Stopped: no answer, and it does not start again by itself. */
	set(r, VIRTIO_MMIO_QUEUE_READY, 0);
	cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_READY), 0);
	set(r, VIRTIO_MMIO_QUEUE_NUM, 4);
	set(r, VIRTIO_MMIO_QUEUE_READY, 1);
	cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_READY), 0);
	cr_assert_eq(queue0(r)->regs.size, 8);
	/* After a reset of the queue it does. */
	set(r, QUEUE_RESET, 1);
	cr_assert_eq(get(r, QUEUE_RESET), 0);
	cr_assert_eq(queue0(r)->regs.desc, 0);
	model_free(&d);
	model_init(&d, &r->memory, 0, 4, V1);
	set_queue(r, 0, &d);
	request(r, &d);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

Test(virtio_mmio, line_is_high_until_all_is_acknowledged)
{
	struct vrig *r = rig("transport=mmio");
	struct virtio_device *v = (struct virtio_device *)r->dev;
	struct model d;

	virtio_config_update(v, 0, NULL, 0);
	cr_assert(!r->chip.level[LINE], "before DRIVER_OK");
	up(r, &d, 8, 0);
	for (unsigned i = 0; i < 3; i++) {
		request(r, &d);
		vrig_wait(get(r, VIRTIO_MMIO_INTERRUPT_STATUS) == VIRTIO_MMIO_INT_VRING);
		cr_assert(r->chip.level[LINE], "reading does not lower it");
		set(r, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
		cr_assert(!r->chip.level[LINE]);
		cr_assert_eq(get(r, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	}
	request(r, &d);
	vrig_wait(r->chip.level[LINE]);
	virtio_config_update(v, 0, NULL, 0);
	cr_assert_eq(get(r, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	set(r, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	cr_assert(r->chip.level[LINE], "one is left");
	set(r, VIRTIO_MMIO_INTERRUPT_ACK, 0xfffffffc);
	cr_assert_eq(get(r, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	set(r, VIRTIO_MMIO_STATUS, 0);
	cr_assert(!r->chip.level[LINE], "reset lowers the line");
	cr_assert_eq(get(r, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	virtio_config_update(v, 0, NULL, 0);
	cr_assert(!r->chip.level[LINE], "and it stays low");
	cr_assert_eq(r->chip.messages, 0);
	model_free(&d);
	vrig_destroy(r);
}

static void *raise_often(void *arg)
{
	for (unsigned i = 0; i < 20000; i++)
		virtio_config_update(arg, 0, NULL, 0);
	return NULL;
}

/* However raising and acknowledging meet, line and status agree in the end. */
Test(virtio_mmio, raised_and_acknowledged_at_once, .timeout = 60)
{
	struct vrig *r = rig("transport=mmio");
	pthread_t thread;
	struct model d;
	uint32_t status;

	up(r, &d, 8, 0);
	cr_assert_eq(pthread_create(&thread, NULL, raise_often, r->dev), 0);
	for (unsigned i = 0; i < 20000; i++)
		set(r, VIRTIO_MMIO_INTERRUPT_ACK, get(r, VIRTIO_MMIO_INTERRUPT_STATUS));
	pthread_join(thread, NULL);
	status = get(r, VIRTIO_MMIO_INTERRUPT_STATUS);
	cr_assert_eq(r->chip.level[LINE], status != 0);
	set(r, VIRTIO_MMIO_INTERRUPT_ACK, status);
	cr_assert(!r->chip.level[LINE]);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- doorbells ------------------------------------------------------------------------------- */

struct kicks {
	struct bus_kick kick[8];
	unsigned n, removed;
	int result;
};

static int record(void *opaque, struct bus *bus, const struct bus_kick *kick)
{
	struct kicks *k = opaque;

	(void)bus;
	k->kick[k->n++] = *kick;
	return k->result;
}

static int forget(void *opaque, struct bus *bus, const struct bus_kick *kick)
{
	struct kicks *k = opaque;

	(void)bus;
	(void)kick;
	k->removed++;
	return 0;
}

/* A kernel that takes the doorbells, and writes that come as exits all the same. */
Test(virtio_mmio, doorbells_match_the_queues_number)
{
	static const struct bus_kernel_ops ops = { .assign = record, .deassign = forget };
	struct vrig *r = vrig_create();
	struct kicks kicks = { 0 };
	struct virtio_device *v;
	struct model d;

	bus_set_kernel_ops(r->host.mmio, &ops, &kicks);
	plug(r, &row_virtio_balloon, "transport=mmio");
	v = (struct virtio_device *)r->dev;
	cr_assert_eq(kicks.n, v->nqueues);
	for (unsigned i = 0; i < kicks.n; i++) {
		cr_assert_eq(kicks.kick[i].addr, VRIG_MMIO + VIRTIO_MMIO_QUEUE_NOTIFY);
		cr_assert_eq(kicks.kick[i].size, 4);
		cr_assert(kicks.kick[i].match);
		cr_assert_eq(kicks.kick[i].value, i);
		cr_assert_eq(kicks.kick[i].fd, v->queue[i].kick.fd);
	}
	r->dev->ops->destroy(r->dev);
	r->dev = NULL;
	cr_assert_eq(kicks.removed, kicks.n);

	kicks.n = 0;
	plug(r, &row_virtio_rng, "transport=mmio");
	up(r, &d, 8, 0);
	request(r, &d);
	model_free(&d);
	vrig_destroy(r);
}

/* ---- slots ----------------------------------------------------------------------------------- */

Test(virtio_mmio, sixteen_slots_that_are_given_back)
{
	struct vrig *r = vrig_create();
	struct device *dev[MMIO_SLOTS], *one_more = NULL;
	struct error e = { 0 };

	for (unsigned i = 0; i < MMIO_SLOTS; i++) {
		cr_assert_eq(make(r, &row_virtio_rng, "transport=mmio", &dev[i], &e), 0, "%s",
			     e.msg);
		cr_assert_eq(get(r, i * MMIO_SLOT_SIZE), 0x74726976);
	}
	cr_assert_eq(r->host.mmio_slots.used, 0xffff);
	cr_assert_eq(make(r, &row_virtio_rng, "transport=mmio", &one_more, &e), -ENOSPC);
	cr_assert(strstr(e.msg, "transport=pci"), "%s", e.msg);
	dev[5]->ops->reset(dev[5]);
	cr_assert_eq(r->host.mmio_slots.used, 0xffff);
	dev[5]->ops->destroy(dev[5]);
	cr_assert_eq(r->host.mmio_slots.used, 0xffdf);
	cr_assert_eq(vrig_read(r, VRIG_MMIO + 5 * MMIO_SLOT_SIZE, 4), 0xffffffff);
	cr_assert_eq(make(r, &row_virtio_rng, "transport=mmio", &dev[5], &e), 0);
	cr_assert_eq(get(r, 5 * MMIO_SLOT_SIZE), 0x74726976);
	for (unsigned i = 0; i < MMIO_SLOTS; i++)
		dev[i]->ops->destroy(dev[i]);
	cr_assert_eq(r->host.mmio_slots.used, 0);
	vrig_destroy(r);
}

/* What is not free: timer, cascade, COM2, COM1, clock, keyboard, and PCI's from 16 on. */
Test(virtio_mmio, acpi_is_told)
{
	static const uint16_t busy = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8;
	const struct pci_windows windows = { 0 };
	struct mmio_slots slots = platform_mmio_slots();
	struct bus *pio = bus_create("pio");
	struct boot_platform platform;

	slots.used = 0x8003;
	platform = platform_describe(&windows, 1, pio, &slots);
	cr_assert_eq(platform.vmmio_base, LAYOUT_MMIO_BASE);
	cr_assert_eq(platform.vmmio_mask, 0x8003);
	for (unsigned i = 0; i < MMIO_SLOTS; i++) {
		cr_assert_eq(platform.vmmio_gsi[i], slots.gsi[i]);
		cr_assert_lt(slots.gsi[i], 16);
		cr_assert(!(busy & 1 << slots.gsi[i]));
		for (unsigned j = 0; j < i && i < 8; j++)
			cr_assert_neq(slots.gsi[i], slots.gsi[j], "lines are left");
	}
	bus_destroy(pio);
}

/* ---- reset and anything else ----------------------------------------------------------------- */

Test(virtio_mmio, works_again_after_every_reset)
{
	struct vrig *r = rig("transport=mmio");
	struct error e = { 0 };
	struct model d;

	for (unsigned i = 0; i < 20; i++) {
		up(r, &d, 8, ~0ull);
		request(r, &d);
		model_free(&d);
		set(r, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
		if (i % 2) {
			r->dev->ops->pause(r->dev);
			r->dev->ops->reset(r->dev);
			cr_assert_eq(r->dev->ops->start(r->dev, &e), 0);
		} else {
			set(r, VIRTIO_MMIO_STATUS, 0);
		}
		cr_assert_eq(get(r, VIRTIO_MMIO_STATUS), 0);
		cr_assert_eq(get(r, VIRTIO_MMIO_QUEUE_READY), 0);
		cr_assert_eq(get(r, VIRTIO_MMIO_DEVICE_FEATURES) & 1, offered(r) & 1);
		cr_assert(!r->chip.level[LINE]);
	}
	vrig_destroy(r);
}

static void throw_at(struct vrig *r, uint64_t *random)
{
	static const unsigned sizes[] = { 4, 4, 4, 4, 1, 2, 4, 8 };
	uint64_t x = model_random(random);
	unsigned size = sizes[x % 8];
	uint64_t value = x & 0x100 ? model_random(random) : model_random(random) % 64;
	uint64_t offset = (x >> 16) % (x & 0x200 ? 0x100 : MMIO_SLOT_SIZE + 8);

	if (x & 0x400)
		offset &= ~3ull;
	if (x & 0x10)
		vrig_read(r, VRIG_MMIO + offset, size);
	else
		vrig_write(r, VRIG_MMIO + offset, size, value);
}

Test(virtio_mmio, survives_random_accesses, .timeout = 60)
{
	for (unsigned run = 0; run < 10; run++) {
		struct vrig *r = rig(run % 2 ? "transport=mmio,ring=packed" : "transport=mmio");
		uint64_t random = run;
		struct model d;

		for (unsigned i = 0; i < 5000; i++)
			throw_at(r, &random);
		up(r, &d, 8, ~0ull);
		request(r, &d);
		model_free(&d);
		vrig_destroy(r);
	}
}
