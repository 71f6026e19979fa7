/*
 * The common configuration structure of virtio over PCI: a table of registers, and what those do
 * that only PCI has. Virtio 1.2 section 4.1.4.3. Called with v->lock held.
 */
#include <linux/virtio_pci.h>

#include "devices/registers.h"
#include "devices/virtio/pci_internal.h"

/* Besides those of virtio.h. */
enum common_reg {
	CONFIG_MSIX_VECTOR = VIRTIO_REG_COUNT,
	NUM_QUEUES,
	QUEUE_MSIX_VECTOR,
	QUEUE_NOTIFY_OFF,
	QUEUE_NOTIFY_DATA,
};

/* Widths are the natural ones that section 4.1.3.1 demands; 64-bit fields are two halves. */
#define REG(id, offset_, width_, access_)                                                          \
	[id] = { .name = #id, .offset = offset_, .width = width_, .access = access_ }
#define SHARED(id, offset_, width_, access_)                                                       \
	[VIRTIO_REG_##id] = { .name = #id, .offset = offset_, .width = width_, .access = access_ }
#define SHARED64(id, offset_)                                                                      \
	[VIRTIO_REG_##                                                                             \
		id] = { .name = #id, .offset = offset_, .span = 8, .width = 4, .access = REG_RW }

static const struct reg common_regs[] = {
	SHARED(DEVICE_FEATURE_SELECT, VIRTIO_PCI_COMMON_DFSELECT, 4, REG_RW),
	SHARED(DEVICE_FEATURE, VIRTIO_PCI_COMMON_DF, 4, REG_READ),
	SHARED(DRIVER_FEATURE_SELECT, VIRTIO_PCI_COMMON_GFSELECT, 4, REG_RW),
	SHARED(DRIVER_FEATURE, VIRTIO_PCI_COMMON_GF, 4, REG_RW),
	REG(CONFIG_MSIX_VECTOR, VIRTIO_PCI_COMMON_MSIX, 2, REG_RW),
	REG(NUM_QUEUES, VIRTIO_PCI_COMMON_NUMQ, 2, REG_READ),
	SHARED(DEVICE_STATUS, VIRTIO_PCI_COMMON_STATUS, 1, REG_RW),
	SHARED(CONFIG_GENERATION, VIRTIO_PCI_COMMON_CFGGENERATION, 1, REG_READ),
	SHARED(QUEUE_SELECT, VIRTIO_PCI_COMMON_Q_SELECT, 2, REG_RW),
	SHARED(QUEUE_SIZE, VIRTIO_PCI_COMMON_Q_SIZE, 2, REG_RW),
	REG(QUEUE_MSIX_VECTOR, VIRTIO_PCI_COMMON_Q_MSIX, 2, REG_RW),
	SHARED(QUEUE_ENABLE, VIRTIO_PCI_COMMON_Q_ENABLE, 2, REG_RW),
	REG(QUEUE_NOTIFY_OFF, VIRTIO_PCI_COMMON_Q_NOFF, 2, REG_READ),
	SHARED64(QUEUE_DESC, VIRTIO_PCI_COMMON_Q_DESCLO),
	SHARED64(QUEUE_DRIVER, VIRTIO_PCI_COMMON_Q_AVAILLO),
	SHARED64(QUEUE_DEVICE, VIRTIO_PCI_COMMON_Q_USEDLO),
	REG(QUEUE_NOTIFY_DATA, VIRTIO_PCI_COMMON_Q_NDATA, 2, REG_READ),
	SHARED(QUEUE_RESET, VIRTIO_PCI_COMMON_Q_RESET, 2, REG_RW),
};

static const struct reg_table common_table = {
	.reg = common_regs,
	.count = sizeof(common_regs) / sizeof(common_regs[0]),
};

const char *virtio_pci_common_name(uint64_t offset, bool write)
{
	return reg_name(&common_table, offset, write ? REG_WRITE : REG_READ, 0);
}

static uint32_t common_reg_read(struct virtio_pci *p, int reg, unsigned half)
{
	const struct virtio_queue *q = virtio_selected_queue(p->v);

	if (reg < VIRTIO_REG_COUNT)
		return virtio_reg_read(p->v, reg, half);
	switch (reg) {
	case CONFIG_MSIX_VECTOR:
		return p->config_vector;
	case NUM_QUEUES:
		return p->v->nqueues;
	case QUEUE_MSIX_VECTOR:
		return q ? q->vector : 0;
	}
	return q ? q->index : 0; /* QUEUE_NOTIFY_OFF, QUEUE_NOTIFY_DATA */
}

/* A vector that does not exist reads back as none (section 4.1.5.1.2). */
/* NOLINTNEXTLINE(readability-non-const-parameter): written atomically */
static void vector_write(struct virtio_pci *p, uint16_t *vector, uint32_t value)
{
	if (value >= p->f.msix.vectors)
		value = VIRTIO_MSI_NO_VECTOR;
	__atomic_store_n(vector, (uint16_t)value, __ATOMIC_RELAXED);
}

static void queue_vector_write(struct virtio_pci *p, struct virtio_queue *q, uint32_t value)
{
	vector_write(p, &q->vector, value);
	virtio_update(p->v);
}

static void common_reg_write(struct virtio_pci *p, int reg, unsigned half, uint32_t value)
{
	struct virtio_queue *q = virtio_selected_queue(p->v);

	if (reg < VIRTIO_REG_COUNT)
		virtio_reg_write(p->v, reg, half, value);
	else if (reg == CONFIG_MSIX_VECTOR)
		vector_write(p, &p->config_vector, value);
	else if (q) /* QUEUE_MSIX_VECTOR: the others are read-only */
		queue_vector_write(p, q, value);
	else
		virtio_misuse(p->v, "vector of a queue that does not exist written");
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
