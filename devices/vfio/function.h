/*
 * A passed-through function inside this room: what the guest has (devices/pci) and what the host
 * has (device.h), and the parts between: configuration space, BARs, interrupts.
 */
#ifndef DEVICES_VFIO_FUNCTION_H
#define DEVICES_VFIO_FUNCTION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/pci/pci.h"
#include "devices/vfio/config.h"
#include "devices/vfio/device.h"

struct vfio_function;

/* ---- interrupts.c ---------------------------------------------------------------------------- */

enum vfio_irq_mode { VFIO_IRQ_NONE, VFIO_IRQ_INTX, VFIO_IRQ_MSI, VFIO_IRQ_MSIX };

struct vfio_interrupts {
	/* A device's own lock: before those of devices/pci. Guards the rest, and what VFIO has. */
	pthread_mutex_t lock;
	enum vfio_irq_mode mode;
	unsigned enabled; /* vectors that VFIO has */
	bool *used;	  /* of MSI-X: the guest has unmasked it since it enabled MSI-X */
	int32_t *fd;	  /* room for all vectors of a call */
	unsigned vectors; /* size of both */
	/* INTx */
	int trigger, resample; /* eventfds; -1: no pin */
	bool by_hand;	       /* atomic: VFIO does not take an eventfd to unmask */
	struct event_source resample_by_hand;
	struct log_limit failed;
};

int vfio_interrupts_create(struct vfio_function *vf, struct error *e); /* after config and BARs */
void vfio_interrupts_destroy(struct vfio_function *vf);
/* Makes VFIO agree with what the guest has enabled. Any thread, no lock held. */
void vfio_interrupts_update(struct vfio_function *vf);
/* None, whatever the guest wants. */
void vfio_interrupts_disable(struct vfio_function *vf);
void vfio_interrupts_unmasked(struct vfio_function *vf, unsigned vector);
/*
 * Before an access of the guest's that is an exit: its end of interrupt, which came before, has
 * unmasked the line. What a device raises while VFIO has the line masked may be lost: mtty, for
 * one, does not look again when it is unmasked.
 */
void vfio_interrupts_settle(struct vfio_function *vf);

/* ---- bars.c ---------------------------------------------------------------------------------- */

struct vfio_bar {
	struct vfio_function *vf;
	unsigned region;
};

struct vfio_mapping {
	void *at;
	uint64_t size;
};

#define VFIO_MAX_MAPPINGS 64

struct vfio_bars {
	struct vfio_bar bar[PCI_BAR_SLOTS];
	uint8_t *rom; /* a copy: the hardware's may only be read while nothing else is decoded */
	uint64_t rom_size;
	unsigned mappings;
	struct vfio_mapping mapping[VFIO_MAX_MAPPINGS];
};

/* From the configuration space that was read; before capabilities are added. */
int vfio_bars_create(struct vfio_function *vf, bool rom, struct error *e);
/* Maps what may be mapped; after MSI-X is known. */
int vfio_bars_map(struct vfio_function *vf, struct error *e);
/* Both after pci_function_vanish() or _destroy(): the guest reaches none of it any more. */
void vfio_bars_unmap(struct vfio_function *vf);
void vfio_bars_destroy(struct vfio_function *vf);

/* ---- function.c ------------------------------------------------------------------------------ */

struct vfio_function {
	struct device dev; /* first */
	struct pci_function f;
	bool f_made; /* pci_function_init() was called */
	struct vfio_device *vd;
	struct vfio_config config;
	struct vfio_bars bars;
	struct vfio_interrupts irq;
	bool gone; /* main thread sets it, any reads it */
	struct event_source error, request;
	struct log_limit reset_failed;
};

/*
 * Makes the guest's function out of an open device and plugs it. vd is the function's from now on,
 * also on failure. Its PCI class must be that of the flag's class.
 */
int vfio_function_create(struct device_host *host, const struct device_config *config,
			 struct vfio_device *vd, bool rom, struct device **out, struct error *e);

/* Function level reset, asked for by the guest through a capability. */
void vfio_function_guest_reset(struct vfio_function *vf);

static inline struct vfio_function *vfio_function_of(struct pci_function *f)
{
	return (struct vfio_function *)f->dev; /* first member */
}

#endif
