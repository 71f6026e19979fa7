/*
 * A made-up VFIO device behind struct vfio_ops, which keeps the kernel's rules and counts whoever
 * breaks them, and a machine without KVM to give it to.
 */
#ifndef TESTS_UNIT_TEST_VFIO_RIG_H
#define TESTS_UNIT_TEST_VFIO_RIG_H

#include "devices/vfio/function.h"
#include "tests/unit/test_pci.h"

#define HW_BAR_SIZE 0x4000u
#define HW_VECTORS  8u
#define HW_MSIX	    0x40u
#define HW_MSI	    0x50u
#define HW_PM	    0x60u
#define HW_EXPRESS  0x80u
#define HW_VENDOR   0xc0u
#define HW_SRIOV    0x100u
#define HW_AER	    0x160u
#define HW_ARI	    0x1b0u
#define HW_SERIAL   0x1c0u

struct vfio_hw {
	struct vfio_device vd; /* first */
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t bar[PCI_BARS][HW_BAR_SIZE] __attribute__((aligned(4096)));
	uint8_t rom[4096];
	unsigned reads, writes; /* of BARs */
	unsigned resets, maps, releases, closes;
	bool no_reset;
	/* interrupts */
	bool no_unmask_eventfd;
	unsigned host_vectors; /* that the host has left */
	unsigned enabled[VFIO_IRQS];
	int32_t fd[VFIO_IRQS][64];
	int32_t unmask_fd;
	unsigned unmasks;
	unsigned refusals; /* calls against the kernel's rules */
};

struct vfio_rig {
	struct rig *pci;
	struct vfio_hw *hw;
	struct device *dev;
	struct vfio_function *vf;
	/* memory slots that are in use */
	struct {
		uint64_t gpa, size;
		void *host;
	} slot[64];
};

/* The hardware that the tests begin with: NVMe-like, all capabilities; not opened yet. */
struct vfio_hw *vfio_hw_make(void);
struct vfio_rig *vfio_rig_make(void);
/* Gives it to the machine; what vfio_function_create() says. */
int vfio_rig_create(struct vfio_rig *r, const struct device_row *row, struct error *e);
void vfio_rig_destroy(struct vfio_rig *r);

/* The guest. */
uint64_t vcfg_read(struct vfio_rig *r, unsigned offset, unsigned size);
void vcfg_write(struct vfio_rig *r, unsigned offset, unsigned size, uint64_t value);
/* What a driver does to one vector: message in, mask bit away. BAR 0 is where place_bar0() put it.
 */
#define BAR0_AT (RIG_MEM32 + 0x10000)
void vfio_place_bar0(struct vfio_rig *r);
void vfio_unmask(struct vfio_rig *r, unsigned vector);
/* The slot that maps this guest address, or NULL: an exit. */
void *vfio_mapped_at(struct vfio_rig *r, uint64_t gpa);

#endif
