/*
 * The common configuration structure of virtio over PCI: a table of registers, and what each does.
 * Virtio 1.2 section 4.1.4.3. Called with v->lock held.
 */
#include <linux/virtio_pci.h>

#include "devices/registers.h"
#include "devices/virtio/pci_internal.h"

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
/* NOLINTNEXTLINE(readability-non-const-parameter): written atomically */
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

uint64_t virtio_pci_common_read(struct virtio_pci *p, uint64_t offset, unsigned size)
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

void virtio_pci_common_write(struct virtio_pci *p, uint64_t offset, unsigned size, uint64_t value)
{
	int reg = common_reg_find(p, offset, size, REG_WRITE);

	if (reg < 0)
		return;
	common_reg_write(p, reg, offset != common_regs[reg].offset, (uint32_t)value);
	if (size == 8)
		common_reg_write(p, reg, 1, (uint32_t)(value >> 32));
}
