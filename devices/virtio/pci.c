/*
 * Virtio over PCI: registers in one BAR, found through vendor capabilities; a doorbell a queue;
 * MSI-X, or INTx with the ISR register. Virtio 1.2 section 4.1. In: register accesses by vCPUs.
 * Out: the calls of virtio.h, kicks as eventfds, interrupts.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>

#include "devices/pci/pci.h"
#include "devices/registers.h"
#include "devices/virtio/pci.h"

#define BAR 0u

/* The BAR, a page for each structure so that a hypervisor inside the guest could map them apart. */
#define COMMON_OFFSET 0x0000u
#define COMMON_SIZE   0x3cu /* up to and including queue_reset */
#define ISR_OFFSET    0x1000u
#define DEVICE_OFFSET 0x2000u
#define NOTIFY_OFFSET 0x3000u
#define NOTIFY_STRIDE 4u
#define MSIX_OFFSET   0x4000u
#define PBA_OFFSET    0x5000u
#define BAR_SIZE      0x8000u

#define ISR_QUEUE  1u
#define ISR_CONFIG 2u

struct virtio_pci {
	struct pci_function f;
	struct virtio_device *v;
	/* Guarded by v->lock. */
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	uint16_t config_vector; /* atomic: read by whoever has news */
	unsigned cfg_cap;	/* the PCI configuration access capability */
	/* A leaf: guards isr and keeps INTx in step with it. */
	pthread_mutex_t isr_lock;
	uint8_t isr;
};

/* ---- interrupts ------------------------------------------------------------------------------ */

static void isr_set(struct virtio_pci *p, uint8_t bit)
{
	pthread_mutex_lock(&p->isr_lock);
	p->isr |= bit;
	pci_intx_set(&p->f, true);
	pthread_mutex_unlock(&p->isr_lock);
}

static uint8_t isr_take(struct virtio_pci *p)
{
	uint8_t isr;

	pthread_mutex_lock(&p->isr_lock);
	isr = p->isr;
	p->isr = 0;
	pci_intx_set(&p->f, false);
	pthread_mutex_unlock(&p->isr_lock);
	return isr;
}

/*
 * Messages go to the chip directly rather than through the vector's eventfd: one system call either
 * way and about as long (measured here: 420 against 500 ns), but this way needs no route and no
 * thread where the chip is not KVM's.
 */
static void interrupt(struct virtio_pci *p, uint16_t vector, uint8_t isr_bit)
{
	if (!pci_msix_enabled(&p->f))
		isr_set(p, isr_bit);
	else if (vector != VIRTIO_MSI_NO_VECTOR)
		pci_msix_send(&p->f, vector);
}

static void op_queue_interrupt(struct virtio_device *v, struct virtio_queue *q)
{
	interrupt(v->transport, __atomic_load_n(&q->vector, __ATOMIC_RELAXED), ISR_QUEUE);
}

static void op_config_interrupt(struct virtio_device *v)
{
	struct virtio_pci *p = v->transport;

	interrupt(p, __atomic_load_n(&p->config_vector, __ATOMIC_RELAXED), ISR_CONFIG);
}

/* ---- common configuration (section 4.1.4.3) -------------------------------------------------- */

enum common_reg {
	DEVICE_FEATURE_SELECT,
	DEVICE_FEATURE,
	DRIVER_FEATURE_SELECT,
	DRIVER_FEATURE,
	CONFIG_MSIX_VECTOR,
	NUM_QUEUES,
	DEVICE_STATUS,
	CONFIG_GENERATION,
	QUEUE_SELECT,
	QUEUE_SIZE,
	QUEUE_MSIX_VECTOR,
	QUEUE_ENABLE,
	QUEUE_NOTIFY_OFF,
	QUEUE_DESC,
	QUEUE_DRIVER,
	QUEUE_DEVICE,
	QUEUE_NOTIFY_DATA,
	QUEUE_RESET,
};

/* Widths are the natural ones that section 4.1.3.1 demands; 64-bit fields are two halves. */
#define REG(id, offset_, width_, access_)                                                          \
	[id] = { .name = #id, .offset = offset_, .width = width_, .access = access_ }
#define REG64(id, offset_)                                                                         \
	[id] = { .name = #id, .offset = offset_, .span = 8, .width = 4, .access = REG_RW }

static const struct reg common_regs[] = {
	REG(DEVICE_FEATURE_SELECT, VIRTIO_PCI_COMMON_DFSELECT, 4, REG_RW),
	REG(DEVICE_FEATURE, VIRTIO_PCI_COMMON_DF, 4, REG_READ),
	REG(DRIVER_FEATURE_SELECT, VIRTIO_PCI_COMMON_GFSELECT, 4, REG_RW),
	REG(DRIVER_FEATURE, VIRTIO_PCI_COMMON_GF, 4, REG_RW),
	REG(CONFIG_MSIX_VECTOR, VIRTIO_PCI_COMMON_MSIX, 2, REG_RW),
	REG(NUM_QUEUES, VIRTIO_PCI_COMMON_NUMQ, 2, REG_READ),
	REG(DEVICE_STATUS, VIRTIO_PCI_COMMON_STATUS, 1, REG_RW),
	REG(CONFIG_GENERATION, VIRTIO_PCI_COMMON_CFGGENERATION, 1, REG_READ),
	REG(QUEUE_SELECT, VIRTIO_PCI_COMMON_Q_SELECT, 2, REG_RW),
	REG(QUEUE_SIZE, VIRTIO_PCI_COMMON_Q_SIZE, 2, REG_RW),
	REG(QUEUE_MSIX_VECTOR, VIRTIO_PCI_COMMON_Q_MSIX, 2, REG_RW),
	REG(QUEUE_ENABLE, VIRTIO_PCI_COMMON_Q_ENABLE, 2, REG_RW),
	REG(QUEUE_NOTIFY_OFF, VIRTIO_PCI_COMMON_Q_NOFF, 2, REG_READ),
	REG64(QUEUE_DESC, VIRTIO_PCI_COMMON_Q_DESCLO),
	REG64(QUEUE_DRIVER, VIRTIO_PCI_COMMON_Q_AVAILLO),
	REG64(QUEUE_DEVICE, VIRTIO_PCI_COMMON_Q_USEDLO),
	REG(QUEUE_NOTIFY_DATA, VIRTIO_PCI_COMMON_Q_NDATA, 2, REG_READ),
	REG(QUEUE_RESET, VIRTIO_PCI_COMMON_Q_RESET, 2, REG_RW),
};

static const struct reg_table common_table = {
	.reg = common_regs,
	.count = sizeof(common_regs) / sizeof(common_regs[0]),
};

static enum virtio_ring_area area_of(int reg)
{
	return reg == QUEUE_DESC     ? VIRTIO_AREA_DESC
	       : reg == QUEUE_DRIVER ? VIRTIO_AREA_DRIVER
				     : VIRTIO_AREA_DEVICE;
}

static uint32_t queue_reg_read(const struct virtio_queue *q, int reg, unsigned half)
{
	if (!q)
		return 0; /* queue_size 0: there is no such queue */
	switch (reg) {
	case QUEUE_SIZE:
		return q->regs.size;
	case QUEUE_MSIX_VECTOR:
		return q->vector;
	case QUEUE_ENABLE:
		return q->enabled;
	case QUEUE_NOTIFY_OFF:
	case QUEUE_NOTIFY_DATA:
		return q->index;
	case QUEUE_DESC:
	case QUEUE_DRIVER:
	case QUEUE_DEVICE:
		return virtio_queue_get_address(q, area_of(reg), half);
	}
	return 0; /* QUEUE_RESET: over before the driver can look */
}

static uint32_t common_reg_read(struct virtio_pci *p, int reg, unsigned half)
{
	struct virtio_device *v = p->v;

	switch (reg) {
	case DEVICE_FEATURE_SELECT:
		return p->device_feature_select;
	case DEVICE_FEATURE:
		return virtio_get_offered(v, p->device_feature_select);
	case DRIVER_FEATURE_SELECT:
		return p->driver_feature_select;
	case DRIVER_FEATURE:
		return virtio_get_driver_features(v, p->driver_feature_select);
	case CONFIG_MSIX_VECTOR:
		return p->config_vector;
	case NUM_QUEUES:
		return v->nqueues;
	case DEVICE_STATUS:
		return virtio_get_status(v);
	case CONFIG_GENERATION:
		return virtio_get_generation(v);
	case QUEUE_SELECT:
		return p->queue_select;
	}
	return queue_reg_read(virtio_queue_at(v, p->queue_select), reg, half);
}

/* A vector that does not exist reads back as none (section 4.1.5.1.2). */
static void vector_write(struct virtio_pci *p, uint16_t *vector, uint32_t value)
{
	if (value >= p->f.msix.vectors)
		value = VIRTIO_MSI_NO_VECTOR;
	__atomic_store_n(vector, (uint16_t)value, __ATOMIC_RELAXED);
}

static void queue_reg_write(struct virtio_pci *p, struct virtio_queue *q, int reg, unsigned half,
			    uint32_t value)
{
	if (!q) {
		virtio_misuse(p->v, "register of a queue that does not exist written");
		return;
	}
	switch (reg) {
	case QUEUE_SIZE:
		virtio_queue_set_size(q, (uint16_t)value);
		return;
	case QUEUE_MSIX_VECTOR:
		vector_write(p, &q->vector, value);
		return;
	case QUEUE_ENABLE:
		if (value == 1)
			virtio_queue_enable(q);
		else
			virtio_misuse(p->v, "queue_enable written with something else than 1");
		return;
	case QUEUE_RESET:
		if (value == 1)
			virtio_queue_reset(q);
		else
			virtio_misuse(p->v, "queue_reset written with something else than 1");
		return;
	case QUEUE_DESC:
	case QUEUE_DRIVER:
	case QUEUE_DEVICE:
		virtio_queue_set_address(q, area_of(reg), half, value);
		return;
	}
}

static void common_reg_write(struct virtio_pci *p, int reg, unsigned half, uint32_t value)
{
	struct virtio_device *v = p->v;

	switch (reg) {
	case DEVICE_FEATURE_SELECT:
		p->device_feature_select = value;
		return;
	case DRIVER_FEATURE_SELECT:
		p->driver_feature_select = value;
		return;
	case DRIVER_FEATURE:
		virtio_set_driver_features(v, p->driver_feature_select, value);
		return;
	case CONFIG_MSIX_VECTOR:
		vector_write(p, &p->config_vector, value);
		return;
	case DEVICE_STATUS:
		virtio_set_status(v, (uint8_t)value);
		return;
	case QUEUE_SELECT:
		p->queue_select = (uint16_t)value;
		return;
	}
	queue_reg_write(p, virtio_queue_at(v, p->queue_select), reg, half, value);
}

/* Which register an access of this width is for; an 8-byte one is two halves of a 64-bit field. */
static int common_reg_find(struct virtio_pci *p, uint64_t offset, unsigned size, unsigned access)
{
	int reg = reg_find(&common_table, offset, size == 8 ? 4 : size, access, 0);

	if (reg >= 0 && size == 8 &&
	    (common_regs[reg].span != 8 || offset != common_regs[reg].offset))
		reg = -1;
	if (reg < 0)
		virtio_misuse(p->v, "common configuration accessed with a wrong width or offset");
	return reg;
}

static uint64_t common_read(struct virtio_pci *p, uint64_t offset, unsigned size)
{
	int reg = common_reg_find(p, offset, size, REG_READ);
	unsigned half;
	uint64_t value;

	if (reg < 0)
		return 0;
	half = offset != common_regs[reg].offset;
	value = common_reg_read(p, reg, half);
	if (size == 8)
		value |= (uint64_t)common_reg_read(p, reg, 1) << 32;
	return value;
}

static void common_write(struct virtio_pci *p, uint64_t offset, unsigned size, uint64_t value)
{
	int reg = common_reg_find(p, offset, size, REG_WRITE);

	if (reg < 0)
		return;
	common_reg_write(p, reg, offset != common_regs[reg].offset, (uint32_t)value);
	if (size == 8)
		common_reg_write(p, reg, 1, (uint32_t)(value >> 32));
}

/* ---- the BAR --------------------------------------------------------------------------------- */

static uint64_t bar_read(void *opaque, uint64_t offset, unsigned size)
{
	struct virtio_pci *p = opaque;
	uint64_t value = 0;

	if (offset == ISR_OFFSET)
		return isr_take(p);
	pthread_mutex_lock(&p->v->lock);
	if (offset < ISR_OFFSET)
		value = common_read(p, offset, size);
	else if (offset >= DEVICE_OFFSET && offset < NOTIFY_OFFSET)
		value = virtio_config_read(p->v, offset - DEVICE_OFFSET, size);
	pthread_mutex_unlock(&p->v->lock);
	return value;
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio_pci *p = opaque;
	struct virtio_queue *q;

	/* Doorbells come here only while no eventfd listens: BAR on the move, or no more to be had.
	 */
	if (offset >= NOTIFY_OFFSET && offset < MSIX_OFFSET) {
		q = virtio_queue_at(p->v, (unsigned)(offset - NOTIFY_OFFSET) / NOTIFY_STRIDE);
		if (q && offset % NOTIFY_STRIDE == 0)
			virtio_queue_kick(q);
		return;
	}
	pthread_mutex_lock(&p->v->lock);
	if (offset < ISR_OFFSET)
		common_write(p, offset, size, value);
	else if (offset >= DEVICE_OFFSET && offset < NOTIFY_OFFSET)
		virtio_config_write(p->v, offset - DEVICE_OFFSET, size, value);
	pthread_mutex_unlock(&p->v->lock);
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write };

/* ---- configuration space --------------------------------------------------------------------- */

/*
 * Access to the BAR through configuration space, for firmware that has not mapped it (section
 * 4.1.4.9). False unless the capability describes an access that the BAR takes.
 */
static bool cfg_access(const struct virtio_pci *p, uint32_t *offset, uint32_t *length)
{
	const unsigned at = p->cfg_cap;

	*offset = pci_config_get32(&p->f, at + offsetof(struct virtio_pci_cap, offset));
	*length = pci_config_get32(&p->f, at + offsetof(struct virtio_pci_cap, length));
	return pci_config_get8(&p->f, at + offsetof(struct virtio_pci_cap, bar)) == BAR &&
	       (*length == 1 || *length == 2 || *length == 4) && *offset % *length == 0 &&
	       *offset < MSIX_OFFSET;
}

static bool touches(unsigned offset, unsigned size, unsigned at, unsigned len)
{
	return offset < at + len && at < offset + size;
}

static unsigned cfg_data(const struct virtio_pci *p)
{
	return p->cfg_cap + (unsigned)offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
}

static struct virtio_pci *of_function(struct pci_function *f)
{
	return (struct virtio_pci *)f; /* first member */
}

static void config_reading(struct pci_function *f, unsigned offset, unsigned size)
{
	struct virtio_pci *p = of_function(f);
	uint32_t at, length;

	if (touches(offset, size, cfg_data(p), 4) && cfg_access(p, &at, &length))
		pci_config_set32(f, cfg_data(p), (uint32_t)bar_read(p, at, length));
}

static void config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct virtio_pci *p = of_function(f);
	uint32_t at, length;

	if (touches(offset, size, cfg_data(p), 4) && cfg_access(p, &at, &length)) {
		uint32_t value = pci_config_get32(f, cfg_data(p));

		bar_write(p, at, length, length == 4 ? value : value & ((1u << 8 * length) - 1));
	}
	if (touches(offset, size, PCI_COMMAND, 2)) {
		pthread_mutex_lock(&p->v->lock);
		virtio_hold(p->v, VIRTIO_HOLD_DMA, !pci_bus_master(f));
		pthread_mutex_unlock(&p->v->lock);
	}
}

static const struct pci_function_ops function_ops = {
	.config_reading = config_reading,
	.config_written = config_written,
};

static int add_cap(struct virtio_pci *p, uint8_t type, unsigned len, uint32_t offset,
		   uint32_t length)
{
	int at = pci_add_capability(&p->f, PCI_CAP_ID_VNDR, len);
	unsigned cap = (unsigned)at;

	if (at < 0)
		return at;
	pci_config_set8(&p->f, cap + offsetof(struct virtio_pci_cap, cap_len), (uint8_t)len);
	pci_config_set8(&p->f, cap + offsetof(struct virtio_pci_cap, cfg_type), type);
	pci_config_set8(&p->f, cap + offsetof(struct virtio_pci_cap, bar), BAR);
	pci_config_set32(&p->f, cap + offsetof(struct virtio_pci_cap, offset), offset);
	pci_config_set32(&p->f, cap + offsetof(struct virtio_pci_cap, length), length);
	return at;
}

static int add_caps(struct virtio_pci *p)
{
	const unsigned len = sizeof(struct virtio_pci_cap);
	int notify, cfg;

	if (add_cap(p, VIRTIO_PCI_CAP_COMMON_CFG, len, COMMON_OFFSET, COMMON_SIZE) < 0 ||
	    add_cap(p, VIRTIO_PCI_CAP_ISR_CFG, len, ISR_OFFSET, 1) < 0 ||
	    (p->v->config_len &&
	     add_cap(p, VIRTIO_PCI_CAP_DEVICE_CFG, len, DEVICE_OFFSET, p->v->config_len) < 0))
		return -ENOSPC;
	notify = add_cap(p, VIRTIO_PCI_CAP_NOTIFY_CFG, sizeof(struct virtio_pci_notify_cap),
			 NOTIFY_OFFSET, NOTIFY_STRIDE * p->v->nqueues);
	cfg = add_cap(p, VIRTIO_PCI_CAP_PCI_CFG, sizeof(struct virtio_pci_cfg_cap), 0, 0);
	if (notify < 0 || cfg < 0)
		return -ENOSPC;
	pci_config_set32(&p->f, (unsigned)notify + VIRTIO_PCI_NOTIFY_CAP_MULT, NOTIFY_STRIDE);
	p->cfg_cap = (unsigned)cfg;
	pci_config_writable32(&p->f, p->cfg_cap + VIRTIO_PCI_CAP_BAR, 0xff);
	pci_config_writable32(&p->f, p->cfg_cap + VIRTIO_PCI_CAP_OFFSET, ~0u);
	pci_config_writable32(&p->f, p->cfg_cap + VIRTIO_PCI_CAP_LENGTH, ~0u);
	pci_config_writable32(&p->f, cfg_data(p), ~0u);
	return 0;
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static void op_device_reset(struct virtio_device *v)
{
	struct virtio_pci *p = v->transport;

	p->device_feature_select = 0;
	p->driver_feature_select = 0;
	p->queue_select = 0;
	__atomic_store_n(&p->config_vector, VIRTIO_MSI_NO_VECTOR, __ATOMIC_RELAXED);
	isr_take(p);
}

static void op_machine_reset(struct virtio_device *v)
{
	struct virtio_pci *p = v->transport;

	pci_function_reset(&p->f);
	pthread_mutex_lock(&v->lock);
	virtio_hold(v, VIRTIO_HOLD_DMA, !pci_bus_master(&p->f));
	pthread_mutex_unlock(&v->lock);
}

static void op_destroy(struct virtio_device *v)
{
	struct virtio_pci *p = v->transport;

	pci_function_destroy(&p->f);
	pthread_mutex_destroy(&p->isr_lock);
	free(p);
	v->transport = NULL;
	v->transport_ops = NULL;
}

static const struct virtio_transport_ops transport_ops = {
	.queue_interrupt = op_queue_interrupt,
	.config_interrupt = op_config_interrupt,
	.device_reset = op_device_reset,
	.machine_reset = op_machine_reset,
	.destroy = op_destroy,
};

/* What lspci should call it: base class << 16 | sub-class << 8. */
static uint32_t class_code(uint16_t id)
{
	static const struct {
		uint16_t id;
		uint32_t class_code;
	} classes[] = {
		{ VIRTIO_ID_NET, 0x020000 },	 /* Ethernet controller */
		{ VIRTIO_ID_BLOCK, 0x018000 },	 /* mass storage controller, other */
		{ VIRTIO_ID_CONSOLE, 0x078000 }, /* communication controller, other */
		{ VIRTIO_ID_SCSI, 0x010000 },	 /* SCSI controller */
		{ VIRTIO_ID_VSOCK, 0x078000 },	 /* communication controller, other */
		{ VIRTIO_ID_FS, 0x018000 },	 /* mass storage controller, other */
	};

	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		if (classes[i].id == id)
			return classes[i].class_code;
	return 0xff0000; /* unassigned */
}

static int add_registers(struct virtio_pci *p, struct error *e)
{
	struct virtio_device *v = p->v;
	int err = pci_add_bar(&p->f, BAR, PCI_BAR_MEM64, false, BAR_SIZE, &bar_ops, p, e);

	if (err)
		return err;
	err = pci_add_msix(&p->f, v->nqueues + 1, BAR, MSIX_OFFSET, PBA_OFFSET, e);
	if (err)
		return err;
	if (pci_add_express(&p->f) < 0 || add_caps(p) < 0)
		return error_set(e, -ENOSPC, "no room for its PCI capabilities");
	for (unsigned i = 0; i < v->nqueues; i++) {
		/* Any width: the value written may be a queue index or notification data. */
		struct bus_kick kick = {
			.addr = NOTIFY_OFFSET + NOTIFY_STRIDE * i,
			.fd = v->queue[i].kick.fd,
		};

		err = pci_kick_add(&p->f, BAR, &kick);
		if (err)
			return error_set_errno(e, err, "cannot add a doorbell");
	}
	return 0;
}

int virtio_pci_create(struct virtio_device *v, struct error *e)
{
	const struct pci_identity identity = {
		.vendor = 0x1af4,
		.device = (uint16_t)(0x1040 + v->id),
		.subsystem_vendor = 0x1af4,
		.subsystem = (uint16_t)(0x1040 + v->id),
		.revision = 1,
		.class_code = class_code(v->id),
		.intx = true,
	};
	struct virtio_pci *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return error_set(e, -ENOMEM, "out of memory");
	p->v = v;
	p->config_vector = VIRTIO_MSI_NO_VECTOR;
	pthread_mutex_init(&p->isr_lock, NULL);
	pci_function_init(&p->f, &v->dev, &identity, &function_ops);
	/* From here on virtio_device_fini() cleans up. */
	v->transport = p;
	v->transport_ops = &transport_ops;
	err = add_registers(p, e);
	if (err)
		return err;
	pthread_mutex_lock(&v->lock);
	virtio_hold(v, VIRTIO_HOLD_DMA, true); /* bus mastering is off */
	pthread_mutex_unlock(&v->lock);
	return pci_function_plug(&p->f, v->dev.host->pci, -1, e);
}
