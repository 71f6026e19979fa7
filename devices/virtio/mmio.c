/*
 * Virtio over MMIO: a page of registers, a doorbell that takes the queue's number, one interrupt
 * line. Virtio 1.2 section 4.2. In: register accesses by vCPUs. Out: the calls of virtio.h, kicks
 * as eventfds, the level of the line, which other devices may share.
 */
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>

#include "devices/registers.h"
#include "devices/virtio/mmio.h"

#define MAGIC	    0x74726976u /* "virt" */
#define VERSION	    2u
#define VENDOR	    0x1af4u
#define QUEUE_RESET 0x0c0u /* not in <linux/virtio_mmio.h> yet */
#define NO_SHM	    0xffffffffu

struct virtio_mmio {
	struct virtio_device *v;
	unsigned slot;
	uint64_t base;
	bool mapped;
	unsigned nkicks; /* added */
	/* A leaf: guards what follows and keeps the line in step with it. */
	pthread_mutex_t interrupt_lock;
	uint32_t interrupt_status;
	struct irq_line line;
};

/* ---- interrupts ------------------------------------------------------------------------------ */

static void interrupt_raise(struct virtio_mmio *m, uint32_t bit)
{
	pthread_mutex_lock(&m->interrupt_lock);
	/*
	 * News that the driver's reset has overtaken is no news: the line would stay high, with
	 * nobody to acknowledge it, for all that share it.
	 */
	if (virtio_get_status(m->v) & VIRTIO_CONFIG_S_DRIVER_OK) {
		m->interrupt_status |= bit;
		irq_line_set(&m->line, true);
	}
	pthread_mutex_unlock(&m->interrupt_lock);
}

static void interrupt_ack(struct virtio_mmio *m, uint32_t bits)
{
	pthread_mutex_lock(&m->interrupt_lock);
	m->interrupt_status &= ~bits;
	irq_line_set(&m->line, m->interrupt_status != 0);
	pthread_mutex_unlock(&m->interrupt_lock);
}

static uint32_t interrupt_status(struct virtio_mmio *m)
{
	uint32_t status;

	pthread_mutex_lock(&m->interrupt_lock);
	status = m->interrupt_status;
	pthread_mutex_unlock(&m->interrupt_lock);
	return status;
}

static void op_queue_interrupt(struct virtio_device *v, struct virtio_queue *q)
{
	(void)q;
	interrupt_raise(v->transport, VIRTIO_MMIO_INT_VRING);
}

/* The line has a level and a status that goes with it: no eventfd can do that. */
static int op_queue_eventfd(struct virtio_device *v, struct virtio_queue *q)
{
	(void)v;
	(void)q;
	return -ENOTSUP;
}

static void op_config_interrupt(struct virtio_device *v)
{
	interrupt_raise(v->transport, VIRTIO_MMIO_INT_CONFIG);
}

/* ---- registers ------------------------------------------------------------------------------- */

enum mmio_reg {
	MAGIC_VALUE = VIRTIO_REG_COUNT,
	MMIO_VERSION,
	DEVICE_ID,
	VENDOR_ID,
	QUEUE_NUM_MAX,
	QUEUE_NOTIFY,
	INTERRUPT_STATUS,
	INTERRUPT_ACK,
	SHM_SEL,
	SHM_LEN,
	SHM_BASE,
};

/* All are 32 bits wide; 64-bit values are two of them. What has a reset value never changes. */
#define REG(id, name_, offset_, access_, ...)                                                      \
	[id] = { .name = name_,                                                                    \
		 .offset = VIRTIO_MMIO_##offset_,                                                  \
		 .width = 4,                                                                       \
		 .access = REG_##access_,                                                          \
		 ##__VA_ARGS__ }

static const struct reg regs[] = {
	REG(QUEUE_NOTIFY, "QueueNotify", QUEUE_NOTIFY, WRITE),
	REG(INTERRUPT_STATUS, "InterruptStatus", INTERRUPT_STATUS, READ),
	REG(INTERRUPT_ACK, "InterruptACK", INTERRUPT_ACK, WRITE),
	REG(MAGIC_VALUE, "MagicValue", MAGIC_VALUE, READ, .reset = MAGIC),
	REG(MMIO_VERSION, "Version", VERSION, READ, .reset = VERSION),
	REG(DEVICE_ID, "DeviceID", DEVICE_ID, READ),
	REG(VENDOR_ID, "VendorID", VENDOR_ID, READ, .reset = VENDOR),
	REG(VIRTIO_REG_DEVICE_FEATURE, "DeviceFeatures", DEVICE_FEATURES, READ),
	REG(VIRTIO_REG_DEVICE_FEATURE_SELECT, "DeviceFeaturesSel", DEVICE_FEATURES_SEL, WRITE),
	REG(VIRTIO_REG_DRIVER_FEATURE, "DriverFeatures", DRIVER_FEATURES, WRITE),
	REG(VIRTIO_REG_DRIVER_FEATURE_SELECT, "DriverFeaturesSel", DRIVER_FEATURES_SEL, WRITE),
	REG(VIRTIO_REG_QUEUE_SELECT, "QueueSel", QUEUE_SEL, WRITE),
	REG(QUEUE_NUM_MAX, "QueueNumMax", QUEUE_NUM_MAX, READ),
	REG(VIRTIO_REG_QUEUE_SIZE, "QueueNum", QUEUE_NUM, WRITE),
	REG(VIRTIO_REG_QUEUE_ENABLE, "QueueReady", QUEUE_READY, RW),
	REG(VIRTIO_REG_DEVICE_STATUS, "Status", STATUS, RW),
	REG(VIRTIO_REG_QUEUE_DESC, "QueueDesc", QUEUE_DESC_LOW, WRITE, .span = 8),
	REG(VIRTIO_REG_QUEUE_DRIVER, "QueueDriver", QUEUE_AVAIL_LOW, WRITE, .span = 8),
	REG(VIRTIO_REG_QUEUE_DEVICE, "QueueDevice", QUEUE_USED_LOW, WRITE, .span = 8),
	REG(SHM_SEL, "SHMSel", SHM_SEL, WRITE),
	/* Of any region: there is none (section 4.2.2). */
	REG(SHM_LEN, "SHMLen", SHM_LEN_LOW, READ, .span = 8, .reset = NO_SHM),
	REG(SHM_BASE, "SHMBase", SHM_BASE_LOW, READ, .span = 8, .reset = NO_SHM),
	REG(VIRTIO_REG_CONFIG_GENERATION, "ConfigGeneration", CONFIG_GENERATION, READ),
	[VIRTIO_REG_QUEUE_RESET] = { .name = "QueueReset",
				     .offset = QUEUE_RESET,
				     .width = 4,
				     .access = REG_RW },
};

static const struct reg_table table = {
	.reg = regs,
	.count = sizeof(regs) / sizeof(regs[0]),
};

static int find(struct virtio_mmio *m, uint64_t offset, unsigned size, unsigned access)
{
	int reg = reg_find(&table, offset, size, access, 0);

	if (reg < 0)
		virtio_misuse(m->v, "register accessed with a wrong width, offset or direction");
	return reg;
}

static uint32_t register_read(struct virtio_mmio *m, int reg, unsigned half)
{
	struct virtio_queue *q;

	if (reg < VIRTIO_REG_COUNT)
		return virtio_reg_read(m->v, reg, half);
	switch (reg) {
	case DEVICE_ID:
		return m->v->id;
	case QUEUE_NUM_MAX:
		q = virtio_selected_queue(m->v);
		return q ? q->max_size : 0;
	case INTERRUPT_STATUS:
		return interrupt_status(m);
	}
	return (uint32_t)regs[reg].reset;
}

static void register_write(struct virtio_mmio *m, int reg, unsigned half, uint32_t value)
{
	struct virtio_queue *q = virtio_selected_queue(m->v);

	/* Here a queue can be stopped as well (section 4.2.2.2). */
	if (reg == VIRTIO_REG_QUEUE_ENABLE && value == 0 && q)
		virtio_queue_disable(q);
	else if (reg < VIRTIO_REG_COUNT)
		virtio_reg_write(m->v, reg, half, value);
}

static uint64_t config_read(struct virtio_mmio *m, uint64_t offset, unsigned size)
{
	if (offset % size == 0)
		return virtio_config_read(m->v, offset, size);
	virtio_misuse(m->v, "configuration space read at an odd place");
	return 0;
}

static void config_write(struct virtio_mmio *m, uint64_t offset, unsigned size, uint64_t value)
{
	if (offset % size == 0)
		virtio_config_write(m->v, offset, size, value);
	else
		virtio_misuse(m->v, "configuration space written at an odd place");
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
	struct virtio_mmio *m = opaque;
	bool config = offset >= VIRTIO_MMIO_CONFIG;
	int reg = config ? -1 : find(m, offset, size, REG_READ);
	uint64_t value = 0;

	if (reg == INTERRUPT_STATUS)
		return interrupt_status(m);
	pthread_mutex_lock(&m->v->lock);
	if (config)
		value = config_read(m, offset - VIRTIO_MMIO_CONFIG, size);
	else if (reg >= 0)
		value = register_read(m, reg, offset != regs[reg].offset);
	pthread_mutex_unlock(&m->v->lock);
	return value;
}

/* Doorbells come here only while no eventfd listens: none was to be had, or no such queue. */
static void notify(struct virtio_mmio *m, uint32_t index)
{
	struct virtio_queue *q = virtio_queue_at(m->v, index);

	if (q)
		virtio_queue_doorbell(q);
	else
		virtio_misuse(m->v, "queue that does not exist notified");
}

static void mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio_mmio *m = opaque;
	bool config = offset >= VIRTIO_MMIO_CONFIG;
	int reg = config ? -1 : find(m, offset, size, REG_WRITE);

	/* These want no lock of the device, which somebody may hold for long to stop a queue. */
	if (reg == QUEUE_NOTIFY) {
		notify(m, (uint32_t)value);
		return;
	}
	if (reg == INTERRUPT_ACK) {
		interrupt_ack(m, (uint32_t)value);
		return;
	}
	pthread_mutex_lock(&m->v->lock);
	if (config)
		config_write(m, offset - VIRTIO_MMIO_CONFIG, size, value);
	else if (reg >= 0)
		register_write(m, reg, offset != regs[reg].offset, (uint32_t)value);
	pthread_mutex_unlock(&m->v->lock);
}

static const char *mmio_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)size;
	return offset >= VIRTIO_MMIO_CONFIG
		       ? "device configuration"
		       : reg_name(&table, offset, write ? REG_WRITE : REG_READ, 0);
}

static const struct bus_ops bus_ops = {
	.read = mmio_read,
	.write = mmio_write,
	.name = mmio_name,
};

/* ---- life cycle ------------------------------------------------------------------------------ */

static struct bus_kick kick_of(const struct virtio_mmio *m, unsigned index)
{
	return (struct bus_kick){
		.addr = m->base + VIRTIO_MMIO_QUEUE_NOTIFY,
		.size = 4,
		.match = true,
		.value = index,
		.fd = m->v->queue[index].kick.fd,
		.peer = m->v->queue[index].kick_peer,
		.account = m->v->dev.account,
	};
}

static void op_device_reset(struct virtio_device *v)
{
	interrupt_ack(v->transport, ~0u);
}

/* The slot is fixed, and reset of the device has put back all else. */
static void op_machine_reset(struct virtio_device *v)
{
	(void)v;
}

static void op_destroy(struct virtio_device *v)
{
	struct virtio_mmio *m = v->transport;
	struct device_host *host = v->dev.host;

	for (unsigned i = 0; i < m->nkicks; i++) {
		struct bus_kick kick = kick_of(m, i);

		bus_kick_remove(host->mmio, &kick);
	}
	if (m->mapped)
		bus_remove(host->mmio, m->base, m);
	host->mmio_slots.used &= ~(1u << m->slot);
	pthread_mutex_destroy(&m->interrupt_lock);
	free(m);
	v->transport = NULL;
	v->transport_ops = NULL;
}

static const struct virtio_transport_ops transport_ops = {
	.queue_interrupt = op_queue_interrupt,
	.queue_eventfd = op_queue_eventfd,
	.config_interrupt = op_config_interrupt,
	.device_reset = op_device_reset,
	.machine_reset = op_machine_reset,
	.destroy = op_destroy,
};

static int map(struct virtio_mmio *m, struct error *e)
{
	struct virtio_device *v = m->v;
	const struct bus_range range = {
		.name = v->dev.name,
		.base = m->base,
		.size = MMIO_SLOT_SIZE,
		.ops = &bus_ops,
		.opaque = m,
		.account = v->dev.account,
	};
	int err = bus_add(v->dev.host->mmio, &range, e);

	if (err)
		return err;
	m->mapped = true;
	for (; m->nkicks < v->nqueues; m->nkicks++) {
		struct bus_kick kick = kick_of(m, m->nkicks);

		err = bus_kick_add(v->dev.host->mmio, &kick);
		if (err)
			return error_set_errno(e, err, "cannot add a doorbell");
	}
	return 0;
}

int virtio_mmio_create(struct virtio_device *v, struct error *e)
{
	struct mmio_slots *slots = &v->dev.host->mmio_slots;
	struct virtio_mmio *m;
	unsigned slot = 0;

	while (slot < slots->count && (slots->used & (1u << slot)))
		slot++;
	if (slot >= slots->count)
		return error_set(e, -ENOSPC,
				 "transport=mmio: no place is left, the machine has %u; more "
				 "devices fit with transport=pci",
				 slots->count);
	m = calloc(1, sizeof(*m));
	if (!m)
		return error_set(e, -ENOMEM, "out of memory");
	slots->used |= 1u << slot;
	m->v = v;
	m->slot = slot;
	m->base = slots->base + (uint64_t)slot * MMIO_SLOT_SIZE;
	pthread_mutex_init(&m->interrupt_lock, NULL);
	irq_line_init(&m->line, v->dev.host->irq, slots->gsi[slot]);
	m->line.account = v->dev.account;
	/* From here on virtio_device_fini() cleans up. */
	v->transport = m;
	v->transport_ops = &transport_ops;
	return map(m, e);
}
