/*
 * The PCI transport: a virtio device as a PCI Express function. Virtio 1.2 section 4.1, without the
 * legacy interface.
 */
#ifndef DEVICES_VIRTIO_PCI_H
#define DEVICES_VIRTIO_PCI_H

#include "devices/virtio/virtio.h"

/*
 * Makes the function and plugs it into host->pci, in the next free slot. The device and all its
 * queues are initialised before. Undone by virtio_device_fini().
 */
int virtio_pci_create(struct virtio_device *v, struct error *e);

#endif
