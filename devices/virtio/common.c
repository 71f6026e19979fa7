/*
 * The registers that every transport has, whatever their places and widths: features, status,
 * configuration generation and the queue that is selected. Virtio 1.2 sections 4.1.4.3 (PCI's
 * common configuration structure) and 4.2.2 (MMIO). Called with v->lock held.
 */
#include "devices/virtio/virtio.h"

static enum virtio_ring_area area_of(int reg)
{
	return reg == VIRTIO_REG_QUEUE_DESC	? VIRTIO_AREA_DESC
	       : reg == VIRTIO_REG_QUEUE_DRIVER ? VIRTIO_AREA_DRIVER
						: VIRTIO_AREA_DEVICE;
}

static uint32_t queue_reg_read(const struct virtio_queue *q, int reg, unsigned half)
{
	if (!q)
		return 0; /* size 0: there is no such queue */
	switch (reg) {
	case VIRTIO_REG_QUEUE_SIZE:
		return q->regs.size;
	case VIRTIO_REG_QUEUE_ENABLE:
		return q->enabled;
	case VIRTIO_REG_QUEUE_DESC:
	case VIRTIO_REG_QUEUE_DRIVER:
	case VIRTIO_REG_QUEUE_DEVICE:
		return virtio_queue_get_address(q, area_of(reg), half);
	}
	return 0; /* QUEUE_RESET: over before the driver can look */
}

uint32_t virtio_reg_read(struct virtio_device *v, int reg, unsigned half)
{
	switch (reg) {
	case VIRTIO_REG_DEVICE_FEATURE_SELECT:
		return v->device_feature_select;
	case VIRTIO_REG_DEVICE_FEATURE:
		return virtio_get_offered(v, v->device_feature_select);
	case VIRTIO_REG_DRIVER_FEATURE_SELECT:
		return v->driver_feature_select;
	case VIRTIO_REG_DRIVER_FEATURE:
		return virtio_get_driver_features(v, v->driver_feature_select);
	case VIRTIO_REG_DEVICE_STATUS:
		return virtio_get_status(v);
	case VIRTIO_REG_CONFIG_GENERATION:
		return virtio_get_generation(v);
	case VIRTIO_REG_QUEUE_SELECT:
		return v->queue_select;
	}
	return queue_reg_read(virtio_selected_queue(v), reg, half);
}

static void queue_reg_write(struct virtio_queue *q, int reg, unsigned half, uint32_t value)
{
	switch (reg) {
	case VIRTIO_REG_QUEUE_SIZE:
		virtio_queue_set_size(q, value);
		return;
	case VIRTIO_REG_QUEUE_ENABLE:
		if (value == 1)
			virtio_queue_enable(q);
		else
			virtio_misuse(q->v, "queue enabled with something else than 1");
		return;
	case VIRTIO_REG_QUEUE_RESET:
		if (value == 1)
			virtio_queue_reset(q);
		else
			virtio_misuse(q->v, "queue reset with something else than 1");
		return;
	case VIRTIO_REG_QUEUE_DESC:
	case VIRTIO_REG_QUEUE_DRIVER:
	case VIRTIO_REG_QUEUE_DEVICE:
		virtio_queue_set_address(q, area_of(reg), half, value);
		return;
	}
}

void virtio_reg_write(struct virtio_device *v, int reg, unsigned half, uint32_t value)
{
	struct virtio_queue *q;

	switch (reg) {
	case VIRTIO_REG_DEVICE_FEATURE_SELECT:
		v->device_feature_select = value;
		return;
	case VIRTIO_REG_DRIVER_FEATURE_SELECT:
		v->driver_feature_select = value;
		return;
	case VIRTIO_REG_DRIVER_FEATURE:
		virtio_set_driver_features(v, v->driver_feature_select, value);
		return;
	case VIRTIO_REG_DEVICE_STATUS:
		/* Wider than the status where the register is: 0x100 is no reset. */
		if (value <= 0xff)
			virtio_set_status(v, (uint8_t)value);
		else
			virtio_misuse(v, "status bits above 7");
		return;
	case VIRTIO_REG_QUEUE_SELECT:
		v->queue_select = value;
		return;
	}
	q = virtio_selected_queue(v);
	if (q)
		queue_reg_write(q, reg, half, value);
	else
		virtio_misuse(v, "register of a queue that does not exist written");
}
