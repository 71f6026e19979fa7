/*
 * The virtio-pci transport, modern interface (Virtio 1.2 section 4.1): see virtio.h.
 */
#include "guest.h"
#include "virtio.h"

#define VENDOR		0x1af4
#define MODERN_DEVICE	0x1040
#define CAP_COMMON	1
#define CAP_NOTIFY	2
#define CAP_ISR		3
#define CAP_DEVICE	4
#define RESET_WITHIN_MS 1000

static uint8_t status(const struct virtio *v)
{
	return read8(v->common + COMMON_STATUS);
}

static void set_status(const struct virtio *v, uint8_t value)
{
	write8(v->common + COMMON_STATUS, value);
}

static uint64_t features(const struct virtio *v)
{
	uint64_t low;

	write32(v->common + COMMON_DEVICE_FEATURE_SELECT, 0);
	low = read32(v->common + COMMON_DEVICE_FEATURE);
	write32(v->common + COMMON_DEVICE_FEATURE_SELECT, 1);
	return low | (uint64_t)read32(v->common + COMMON_DEVICE_FEATURE) << 32;
}

static void set_features(const struct virtio *v, uint64_t value)
{
	write32(v->common + COMMON_DRIVER_FEATURE_SELECT, 0);
	write32(v->common + COMMON_DRIVER_FEATURE, (uint32_t)value);
	write32(v->common + COMMON_DRIVER_FEATURE_SELECT, 1);
	write32(v->common + COMMON_DRIVER_FEATURE, (uint32_t)(value >> 32));
}

static void queue_select(const struct virtio *v, unsigned queue)
{
	write16(v->common + COMMON_QUEUE_SELECT, (uint16_t)queue);
}

static uint16_t queue_max(const struct virtio *v, unsigned queue)
{
	queue_select(v, queue);
	return read16(v->common + COMMON_QUEUE_SIZE);
}

static void write_address(uint64_t reg, uint64_t value)
{
	write32(reg, (uint32_t)value);
	write32(reg + 4, (uint32_t)(value >> 32));
}

static void queue_set(const struct virtio *v, const struct vq *q)
{
	queue_select(v, q->index);
	write16(v->common + COMMON_QUEUE_SIZE, q->size);
	write_address(v->common + COMMON_QUEUE_DESC, (uint64_t)q->desc);
	write_address(v->common + COMMON_QUEUE_DRIVER, (uint64_t)q->avail);
	write_address(v->common + COMMON_QUEUE_DEVICE, (uint64_t)q->used);
}

static void queue_enable(const struct virtio *v, unsigned queue)
{
	queue_select(v, queue);
	write16(v->common + COMMON_QUEUE_ENABLE, 1);
}

static void notify(const struct virtio *v, unsigned queue)
{
	uint32_t offset;

	queue_select(v, queue);
	offset = read16(v->common + COMMON_QUEUE_NOTIFY_OFF) * v->notify_multiplier;
	write16(v->notify + offset, (uint16_t)queue);
}

static const struct virtio_transport pci_transport = {
	.status = status,
	.set_status = set_status,
	.features = features,
	.set_features = set_features,
	.queue_max = queue_max,
	.queue_set = queue_set,
	.queue_enable = queue_enable,
	.notify = notify,
};

/* struct virtio_pci_cap: id, next, length, type, BAR, id, 2 × padding, offset, length. */
static void read_capability(struct virtio *v, unsigned at)
{
	pci_address bdf = v->pci.bdf;
	unsigned bar = pci_read8(bdf, at + 4);
	uint32_t offset = pci_read32(bdf, at + 8), size = pci_read32(bdf, at + 12);
	uint64_t address;

	if (bar > 5)
		return;
	address = v->pci.bar[bar].address + offset;
	switch (pci_read8(bdf, at + 3)) {
	case CAP_COMMON:
		v->common = address;
		v->common_size = size;
		break;
	case CAP_NOTIFY:
		v->notify = address;
		v->notify_size = size;
		v->notify_multiplier = pci_read32(bdf, at + 16);
		break;
	case CAP_ISR:
		v->isr = address;
		v->isr_size = size;
		break;
	case CAP_DEVICE:
		v->config = address;
		v->config_size = size;
		break;
	default:
		break;
	}
}

bool virtio_pci_find(struct virtio *v, unsigned type, unsigned n)
{
	memset(v, 0, sizeof(*v));
	if (!pci_find(VENDOR, (uint16_t)(MODERN_DEVICE + type), n, &v->pci))
		return false;
	v->transport = &pci_transport;
	for (unsigned at = 0; (at = pci_capability(v->pci.bdf, PCI_CAP_VENDOR, at));)
		read_capability(v, at);
	pci_enable(&v->pci);
	return v->common && v->notify && v->isr;
}

uint16_t virtio_queue_vector(const struct virtio *v, unsigned queue, uint16_t entry)
{
	queue_select(v, queue);
	write16(v->common + COMMON_QUEUE_VECTOR, entry);
	return read16(v->common + COMMON_QUEUE_VECTOR);
}

uint16_t virtio_config_vector(const struct virtio *v, uint16_t entry)
{
	write16(v->common + COMMON_CONFIG_VECTOR, entry);
	return read16(v->common + COMMON_CONFIG_VECTOR);
}

/* ---- bringing a device up, by any transport -------------------------------------------------- */

bool virtio_reset(struct virtio *v)
{
	v->transport->set_status(v, 0);
	return wait_for(v->transport->status(v) == 0, RESET_WITHIN_MS);
}

bool virtio_begin(struct virtio *v, uint64_t wanted)
{
	if (!virtio_reset(v))
		return false;
	v->transport->set_status(v, VIRTIO_ACKNOWLEDGE);
	v->transport->set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	v->features = v->transport->features(v) & (wanted | VIRTIO_F_VERSION_1);
	v->transport->set_features(v, v->features);
	v->transport->set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	return v->transport->status(v) & VIRTIO_FEATURES_OK;
}

void virtio_ready(struct virtio *v)
{
	v->transport->set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK |
					    VIRTIO_DRIVER_OK);
}

bool virtio_open(struct virtio *v, struct vq *q, unsigned type, unsigned n, uint64_t wanted)
{
	if (!virtio_pci_find(v, type, n) || !virtio_begin(v, wanted) || !vq_setup(q, v, 0, 0))
		return false;
	virtio_ready(v);
	return true;
}
