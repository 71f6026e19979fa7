/*
 * Which way the guest finds a virtio device: the `transport` key; or, in a back-end process, the
 * vhost-user server. Devices come in here and know of no transport themselves.
 */
#include "devices/virtio/mmio.h"
#include "devices/virtio/pci.h"
#include "devices/virtio/vhost/server.h"

int virtio_transport_create(struct virtio_device *v, const struct device_config *config,
			    struct error *e)
{
	if (v->dev.host->peer)
		return vhost_user_server_create(v, e);
	return device_config_uint(config, "transport") == 1 ? virtio_mmio_create(v, e)
							    : virtio_pci_create(v, e);
}
