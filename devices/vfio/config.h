/*
 * A passed-through function's configuration space, as the guest sees it. Each bit is one of: a copy
 * of what the hardware said when it was opened, fixed by us, kept by us (devices/pci has the
 * value), read from the hardware each time (live), or written through to it (pass). Tables say
 * which, field by field; what no table names is hidden.
 */
#ifndef DEVICES_VFIO_CONFIG_H
#define DEVICES_VFIO_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/pci/pci.h"
#include "devices/vfio/device.h"

struct vfio_function;

struct vfio_config {
	uint8_t hw[PCI_CONFIG_SIZE]; /* as read when it was opened */
	unsigned size;		     /* bytes of it there are: at most 256, or 4096 */
	/* A mask per bit. */
	uint8_t live[PCI_CONFIG_SIZE];
	uint8_t pass[PCI_CONFIG_SIZE];
	uint8_t once[PCI_CONFIG_SIZE]; /* cleared by writing 1: never written back by accident */
	/* Offsets of the bytes and bits whose writing resets the function; 0: none. */
	unsigned express_flr, af_flr;
	unsigned msi, msix; /* capabilities; 0: none */
	struct pci_msix_layout msix_layout;
};

/* Reads the hardware's; fills identity. */
int vfio_config_read(struct vfio_function *vf, struct pci_identity *id, struct error *e);
/* Fills the guest's, after the BARs; adds all capabilities, MSI and MSI-X. */
int vfio_config_build(struct vfio_function *vf, struct error *e);

/* The hooks of devices/pci. */
void vfio_config_reading(struct pci_function *f, unsigned offset, unsigned size);
void vfio_config_writing(struct pci_function *f, unsigned offset, unsigned size, uint32_t value);
void vfio_config_written(struct pci_function *f, unsigned offset, unsigned size);

/* Decoding on, DMA off: how the hardware's command register is between guests. */
int vfio_config_quiet(struct vfio_function *vf);

#endif
