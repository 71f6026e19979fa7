/*
 * The virtio-pci transport, modern interface (Virtio 1.2 section 4.1): see virtio.h.
 */
#include "guest.h"
#include "virtio.h"

#define VENDOR	      0x1af4
#define MODERN_DEVICE 0x1040
#define CAP_COMMON    1
#define CAP_NOTIFY    2
#define CAP_ISR	      3
#define CAP_DEVICE    4

static void notify(const struct virtio *v, unsigned queue)
{
	uint32_t offset;

	virtio_write(v, QUEUE_SELECT, queue);
	offset = read16(v->common + COMMON_QUEUE_NOTIFY_OFF) * v->notify_multiplier;
	write16(v->notify + offset, (uint16_t)queue);
}

/* Reading clears it. */
static uint8_t interrupts(const struct virtio *v)
{
	return read8(v->isr);
}

static const struct virtio_transport pci_transport = {
	.name = "PCI",
	.reg = {
		[DEVICE_FEATURE_SELECT] = { COMMON_DEVICE_FEATURE_SELECT, 4 },
		[DEVICE_FEATURE] = { COMMON_DEVICE_FEATURE, 4 },
		[DRIVER_FEATURE_SELECT] = { COMMON_DRIVER_FEATURE_SELECT, 4 },
		[DRIVER_FEATURE] = { COMMON_DRIVER_FEATURE, 4 },
		[STATUS] = { COMMON_STATUS, 1 },
		[GENERATION] = { COMMON_GENERATION, 1 },
		[QUEUE_SELECT] = { COMMON_QUEUE_SELECT, 2 },
		[QUEUE_MAX] = { COMMON_QUEUE_SIZE, 2 },
		[QUEUE_SIZE] = { COMMON_QUEUE_SIZE, 2 },
		[QUEUE_ENABLE] = { COMMON_QUEUE_ENABLE, 2 },
		[QUEUE_DESC] = { COMMON_QUEUE_DESC, 4 },
		[QUEUE_DRIVER] = { COMMON_QUEUE_DRIVER, 4 },
		[QUEUE_DEVICE] = { COMMON_QUEUE_DEVICE, 4 },
		[QUEUE_RESET] = { COMMON_QUEUE_RESET, 2 },
	},
	.notify = notify,
	.interrupts = interrupts,
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
	virtio_write(v, QUEUE_SELECT, queue);
	write16(v->common + COMMON_QUEUE_VECTOR, entry);
	return read16(v->common + COMMON_QUEUE_VECTOR);
}

uint16_t virtio_config_vector(const struct virtio *v, uint16_t entry)
{
	write16(v->common + COMMON_CONFIG_VECTOR, entry);
	return read16(v->common + COMMON_CONFIG_VECTOR);
}
