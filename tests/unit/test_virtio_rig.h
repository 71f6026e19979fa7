/*
 * A machine without KVM for tests of virtio devices: RAM, buses, a recording interrupt chip, a PCI
 * root, a main loop on a thread of its own; and the driver's side of the PCI transport.
 */
#ifndef TESTS_UNIT_TEST_VIRTIO_RIG_H
#define TESTS_UNIT_TEST_VIRTIO_RIG_H

#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>

#include "devices/device.h"
#include "devices/pci/pci.h"
#include "tests/unit/fake_chip.h"
#include "tests/unit/test_virtq_model.h"

#define VRIG_MEM32 0xc0000000ull
#define VRIG_MEM64 0x800000000ull
#define VRIG_ECAM  0xe0000000ull
/* Places for transport=mmio; two lines in turn. */
#define VRIG_MMIO     0xf0000000ull
#define VRIG_MMIO_GSI 5u

/* Queue i of a test lives this far up in memory. */
#define VRIG_QUEUE 0x100000ull

struct vrig {
	struct device_host host; /* first */
	struct guest_memory memory;
	struct fake_chip chip;
	struct event_loop *loop;
	struct device *dev;
	uint64_t config; /* address of the function's configuration space */
	uint64_t common, isr, device, notify;
	uint32_t common_len, isr_len, device_len, notify_len, notify_multiplier;
	unsigned pci_cfg; /* offset of the capability in configuration space */
	unsigned msix;	  /* likewise */
};

struct vrig *vrig_create(void);
void vrig_destroy(struct vrig *r);

/*
 * Makes the device and starts it like the machine does: reset, BARs assigned, started; then decodes
 * and masters the bus and reads the capabilities. keys: "key=value,…" or "".
 */
void vrig_plug(struct vrig *r, const struct device_row *row, const char *target, const char *keys);
/* The same with another way of making it. */
typedef int vrig_create_fn(struct device_host *host, const struct device_config *config, void *arg,
			   struct device **out, struct error *e);
void vrig_plug_with(struct vrig *r, const struct device_row *row, const char *keys,
		    vrig_create_fn *create, void *arg);
/* Fills *config as the parser would. */
void vrig_config(struct device_config *config, const struct device_row *row, const char *target,
		 const char *keys);
void vrig_config_free(struct device_config *config);

uint64_t vrig_read(struct vrig *r, uint64_t address, unsigned size);
void vrig_write(struct vrig *r, uint64_t address, unsigned size, uint64_t value);

/* ---- the driver ---- */

uint8_t vrig_status(struct vrig *r);
void vrig_set_status(struct vrig *r, uint8_t status); /* whole byte */
/* A thread that resets the device; done when that has returned. */
struct vrig_resetter {
	struct vrig *r;
	bool done; /* atomic */
};
void *vrig_reset_thread(void *arg);
uint64_t vrig_offered(struct vrig *r);
/* Up to and with FEATURES_OK; whether it stuck. */
bool vrig_negotiate(struct vrig *r, uint64_t features);
/* Sets queue `index` up as the model has it, and enables it. */
void vrig_queue(struct vrig *r, unsigned index, const struct model *d);
void vrig_driver_ok(struct vrig *r);
void vrig_kick(struct vrig *r, unsigned index);
/* All of it, for one queue: model_init() at VRIG_QUEUE * index, features as offered & wanted. */
void vrig_up(struct vrig *r, struct model *d, uint16_t size, uint64_t wanted);
/*
 * All but DRIVER_OK. What is made available before vrig_driver_ok() the device finds at once, by
 * the look that it takes then; afterwards that look may come between any two requests.
 */
void vrig_prepare(struct vrig *r, struct model *d, uint16_t size, uint64_t wanted);

/* Waits for a used chain, at most 5 s; fails the test if none comes. */
struct model_used vrig_wait_used(struct model *d);
/* Waits until the condition holds, at most 5 s. */
#define vrig_wait(condition)                                                                       \
	do {                                                                                       \
		for (unsigned vrig_i = 0; vrig_i < 5000 && !(condition); vrig_i++)                 \
			usleep(1000);                                                              \
		cr_assert(condition);                                                              \
	} while (0)

void vrig_msix_enable(struct vrig *r, unsigned vectors);

#endif
