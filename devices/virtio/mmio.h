/*
 * The MMIO transport: a virtio device as a page of registers and an interrupt line, which ACPI
 * tells the guest of. Virtio 1.2 section 4.2, without the legacy interface.
 */
#ifndef DEVICES_VIRTIO_MMIO_H
#define DEVICES_VIRTIO_MMIO_H

#include "devices/virtio/virtio.h"

/*
 * Puts the registers into the next free one of host->mmio_slots. The device and all its queues are
 * initialised before. Undone by virtio_device_fini().
 */
int virtio_mmio_create(struct virtio_device *v, struct error *e);

#endif
