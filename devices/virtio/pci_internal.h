/*
 * What the two files of the PCI transport share.
 */
#ifndef DEVICES_VIRTIO_PCI_INTERNAL_H
#define DEVICES_VIRTIO_PCI_INTERNAL_H

#include "devices/pci/pci.h"
#include "devices/virtio/virtio.h"

struct virtio_pci {
	struct pci_function f;
	struct virtio_device *v;
	uint16_t config_vector; /* guarded by v->lock; atomic: read by whoever has news */
	unsigned cfg_cap;	/* the PCI configuration access capability */
	/* A leaf: guards isr and keeps INTx in step with it. */
	pthread_mutex_t isr_lock;
	uint8_t isr;
};

/* One access to the structure; v->lock held. Wrong widths read zero and change nothing. */
uint64_t virtio_pci_common_read(struct virtio_pci *p, uint64_t offset, unsigned size);
void virtio_pci_common_write(struct virtio_pci *p, uint64_t offset, unsigned size, uint64_t value);
/* The register there, for traces. No lock needed. */
const char *virtio_pci_common_name(uint64_t offset, bool write);

#endif
