/*
 * Which way the guest finds a virtio device: the `transport` key. Devices come in here and know of
 * no transport themselves.
 */
#include "devices/virtio/mmio.h"
#include "devices/virtio/pci.h"

int virtio_transport_create(struct virtio_device *v, const struct device_config *config,
			    struct error *e)
{
	bool mmio = device_config_uint(config, "transport") == 1;

	return mmio ? virtio_mmio_create(v, e) : virtio_pci_create(v, e);
}
