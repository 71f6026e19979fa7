/*
 * What the PCI tests share: a machine without KVM (buses, a recording interrupt chip, fake RAM) and
 * a device whose BARs answer with a mark, so that a test sees who answered.
 */
#ifndef TESTS_UNIT_TEST_PCI_H
#define TESTS_UNIT_TEST_PCI_H

#include <linux/pci_regs.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/pci/pci.h"

#define RIG_ECAM   0xe0000000ull
#define RIG_MEM32  0xc0000000ull
#define RIG_MEM64  0x800000000ull
#define RIG_WINDOW 0x10000000ull /* size of both */
#define RIG_IO	   0x6000u
#define RIG_MSGS   4096

struct rig_route {
	int eventfd; /* -1: not bound */
	uint64_t address;
	uint32_t data;
};

struct rig {
	struct device_host host;
	struct guest_memory memory; /* regions only; nothing is mapped */
	struct pci_root *root;
	struct bus *config;
	enum machine_request requested;
	unsigned requests;
	/* the chip */
	bool level[IRQ_LINES];
	unsigned edges;
	unsigned sent;
	struct {
		uint64_t address;
		uint32_t data;
	} msg[RIG_MSGS];
	struct rig_route route[64];
	struct {
		int trigger, resample; /* 0: unbound */
	} line[IRQ_LINES];
};

struct rig *rig_create(void);
void rig_destroy(struct rig *r);
/* The windows rig_create() uses. */
struct pci_windows rig_windows(void);
/* What the kernel would do: eventfds that are bound and signalled become messages. */
void rig_deliver(struct rig *r);

struct rig_device;

/* One BAR of a test device. */
struct rig_bar {
	struct rig_device *owner;
	unsigned index;
	uint64_t last_offset, last_value;
	unsigned last_size;
	unsigned reads, writes;
};

struct rig_device {
	struct device dev;
	struct pci_function f;
	struct rig_bar bar[PCI_BARS];
	uint8_t mark; /* reads answer mark << 8 | bar */
	unsigned config_writes, config_reads;
};

/* Made and initialised, not plugged. */
struct rig_device *rig_device(struct rig *r, const char *name, uint8_t mark);
/* Adds a BAR answering with the device's mark; fails the test on error. */
void rig_bar(struct rig_device *d, unsigned bar, enum pci_bar_kind kind, bool prefetch,
	     uint64_t size);
void rig_plug(struct rig *r, struct rig_device *d, int devfn);
void rig_device_destroy(struct rig_device *d);

/* Config space as a guest sees it, through ECAM. */
uint64_t cfg_read(struct rig *r, const struct rig_device *d, unsigned offset, unsigned size);
void cfg_write(struct rig *r, const struct rig_device *d, unsigned offset, unsigned size,
	       uint64_t value);
void command(struct rig *r, const struct rig_device *d, uint16_t value);
void place(struct rig *r, const struct rig_device *d, unsigned bar, uint64_t address);

uint64_t mmio_read(struct rig *r, uint64_t address, unsigned size);
void mmio_write(struct rig *r, uint64_t address, unsigned size, uint64_t value);
uint64_t pio_read(struct rig *r, uint64_t port, unsigned size);
void pio_write(struct rig *r, uint64_t port, unsigned size, uint64_t value);

/* Does this device's BAR answer at the address? */
bool answers(struct rig *r, const struct rig_device *d, unsigned bar, uint64_t address);

uint64_t rig_random(uint64_t *state);

#endif
