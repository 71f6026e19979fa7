/*
 * Virtio over PCI: registers in one BAR, found through vendor capabilities; a doorbell a queue;
 * MSI-X, or INTx with the ISR register. Virtio 1.2 section 4.1. In: register accesses by vCPUs.
 * Out: the calls of virtio.h, kicks as eventfds, interrupts. The common configuration structure is
 * in pci_common.c.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/pci.h"
#include "devices/virtio/pci_internal.h"

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

static int op_queue_eventfd(struct virtio_device *v, struct virtio_queue *q)
{
	struct virtio_pci *p = v->transport;
	uint16_t vector = __atomic_load_n(&q->vector, __ATOMIC_RELAXED);

	if (!pci_msix_enabled(&p->f) || vector == VIRTIO_MSI_NO_VECTOR)
		return -ENOTSUP;
	return pci_msix_eventfd(&p->f, vector);
}

static void op_config_interrupt(struct virtio_device *v)
{
	struct virtio_pci *p = v->transport;

	interrupt(p, __atomic_load_n(&p->config_vector, __ATOMIC_RELAXED), ISR_CONFIG);
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
		value = virtio_pci_common_read(p, offset, size);
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
			virtio_queue_doorbell(q);
		return;
	}
	pthread_mutex_lock(&p->v->lock);
	if (offset < ISR_OFFSET)
		virtio_pci_common_write(p, offset, size, value);
	else if (offset >= DEVICE_OFFSET && offset < NOTIFY_OFFSET)
		virtio_config_write(p->v, offset - DEVICE_OFFSET, size, value);
	pthread_mutex_unlock(&p->v->lock);
}

static const char *bar_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)size;
	if (offset < ISR_OFFSET)
		return virtio_pci_common_name(offset, write);
	if (offset == ISR_OFFSET)
		return "ISR";
	if (offset < DEVICE_OFFSET || offset >= MSIX_OFFSET)
		return NULL;
	return offset < NOTIFY_OFFSET ? "device configuration" : "doorbell";
}

static const struct bus_ops bar_ops = {
	.read = bar_read,
	.write = bar_write,
	.name = bar_name,
};

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
	/* Interrupts may be messages now, or a pin. */
	if (touches(offset, size, f->msix.capability + PCI_MSIX_FLAGS, 2)) {
		pthread_mutex_lock(&p->v->lock);
		virtio_update(p->v);
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
	.queue_eventfd = op_queue_eventfd,
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
			.peer = v->queue[i].kick_peer,
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
