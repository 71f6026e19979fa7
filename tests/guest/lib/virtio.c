/*
 * Bringing a virtio device up, by any transport: see virtio.h. Virtio 1.2 sections 2.1, 2.2, 3.1.
 */
#include "guest.h"
#include "virtio.h"

#define RESET_WITHIN_MS 1000

/* ---- registers ------------------------------------------------------------------------------- */

uint32_t virtio_read(const struct virtio *v, enum virtio_register reg)
{
	uint64_t at = v->common + v->transport->reg[reg].offset;

	switch (v->transport->reg[reg].width) {
	case 1:
		return read8(at);
	case 2:
		return read16(at);
	default:
		return read32(at);
	}
}

void virtio_write(const struct virtio *v, enum virtio_register reg, uint32_t value)
{
	uint64_t at = v->common + v->transport->reg[reg].offset;

	switch (v->transport->reg[reg].width) {
	case 1:
		write8(at, (uint8_t)value);
		break;
	case 2:
		write16(at, (uint16_t)value);
		break;
	default:
		write32(at, value);
		break;
	}
}

void virtio_write_address(const struct virtio *v, enum virtio_register reg, uint64_t value)
{
	uint64_t at = v->common + v->transport->reg[reg].offset;

	write32(at, (uint32_t)value);
	write32(at + 4, (uint32_t)(value >> 32));
}

uint8_t virtio_status(const struct virtio *v)
{
	return (uint8_t)virtio_read(v, STATUS);
}

void virtio_set_status(const struct virtio *v, uint8_t status)
{
	virtio_write(v, STATUS, status);
}

uint64_t virtio_features(const struct virtio *v)
{
	uint64_t low;

	virtio_write(v, DEVICE_FEATURE_SELECT, 0);
	low = virtio_read(v, DEVICE_FEATURE);
	virtio_write(v, DEVICE_FEATURE_SELECT, 1);
	return low | (uint64_t)virtio_read(v, DEVICE_FEATURE) << 32;
}

void virtio_set_features(const struct virtio *v, uint64_t features)
{
	virtio_write(v, DRIVER_FEATURE_SELECT, 0);
	virtio_write(v, DRIVER_FEATURE, (uint32_t)features);
	virtio_write(v, DRIVER_FEATURE_SELECT, 1);
	virtio_write(v, DRIVER_FEATURE, (uint32_t)(features >> 32));
}

uint16_t virtio_queue_max(const struct virtio *v, unsigned queue)
{
	virtio_write(v, QUEUE_SELECT, queue);
	return (uint16_t)virtio_read(v, QUEUE_MAX);
}

void virtio_queue_set(const struct virtio *v, const struct vq *q)
{
	virtio_write(v, QUEUE_SELECT, q->index);
	virtio_write(v, QUEUE_SIZE, q->size);
	virtio_write_address(v, QUEUE_DESC, q->desc_area);
	virtio_write_address(v, QUEUE_DRIVER, q->driver_area);
	virtio_write_address(v, QUEUE_DEVICE, q->device_area);
}

void virtio_queue_enable(const struct virtio *v, unsigned queue)
{
	virtio_write(v, QUEUE_SELECT, queue);
	virtio_write(v, QUEUE_ENABLE, 1);
}

/* ---- steps ----------------------------------------------------------------------------------- */

bool virtio_find(struct virtio *v, unsigned type, unsigned n)
{
	return virtio_pci_find(v, type, n) || virtio_mmio_find(v, type, n);
}

bool virtio_reset(struct virtio *v)
{
	virtio_set_status(v, 0);
	return wait_for(virtio_status(v) == 0, RESET_WITHIN_MS);
}

bool virtio_begin(struct virtio *v, uint64_t wanted)
{
	if (!virtio_reset(v))
		return false;
	virtio_set_status(v, VIRTIO_ACKNOWLEDGE);
	virtio_set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	v->features = virtio_features(v) & (wanted | VIRTIO_F_VERSION_1 | VIRTIO_F_PACKED);
	virtio_set_features(v, v->features);
	virtio_set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	return virtio_status(v) & VIRTIO_FEATURES_OK;
}

void virtio_ready(struct virtio *v)
{
	virtio_set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK |
				     VIRTIO_DRIVER_OK);
}

bool virtio_open(struct virtio *v, struct vq *q, unsigned type, unsigned n, uint64_t wanted)
{
	if (!virtio_find(v, type, n) || !virtio_begin(v, wanted) || !vq_setup(q, v, 0, 0))
		return false;
	virtio_ready(v);
	return true;
}
