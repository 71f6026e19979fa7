/*
 * The two ways to configuration space: ports 0xcf8 to 0xcff (PCI Local Bus 3.0 section 3.2.2.3.2,
 * configuration mechanism #1) and memory-mapped ECAM (PCI Firmware 3.2 section 4.1). Both end in
 * one access to the root's config bus, whose addresses are ECAM offsets. Port 0xcf9 inside the
 * first is a PC's reset control register.
 */
#include <linux/pci_regs.h>

#include "devices/pci/internal.h"

#define PORTS_BASE 0xcf8u
#define PORTS_SIZE 8u

/* Offsets from PORTS_BASE. */
#define CONFIG_ADDRESS 0u
#define RESET_CONTROL  1u
#define CONFIG_DATA    4u

#define CONFIG_ADDRESS_ENABLE 0x80000000u
#define CONFIG_ADDRESS_BITS   0x80fffffcu /* the others read zero */

#define RESET_CONTROL_RST_CPU 0x04 /* resets when written */
#define RESET_CONTROL_BITS    0x0a /* full reset, system reset: kinds of it, all the same to us */

static uint64_t ones(unsigned size)
{
	return ~0ull >> (64 - 8 * size);
}

/* The ECAM offset that the latch and a data port name; false while the latch is disabled. */
static bool data_address(const struct pci_root *root, uint64_t port, uint64_t *address)
{
	uint32_t latch = __atomic_load_n(&root->config_address, __ATOMIC_RELAXED);

	/* bus 23:16 and devfn 15:8 go up by four bits to make room for 4 KiB each */
	*address = (uint64_t)(latch & 0x00ffff00) << 4 | (latch & 0xfc) | (port - CONFIG_DATA);
	return latch & CONFIG_ADDRESS_ENABLE;
}

static uint64_t ports_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_root *root = opaque;
	uint64_t value = ones(size);
	uint64_t address;

	if (offset >= CONFIG_DATA) {
		if (data_address(root, offset, &address))
			bus_read(root->config, address, size, &value);
	} else if (offset == CONFIG_ADDRESS && size == 4) {
		value = __atomic_load_n(&root->config_address, __ATOMIC_RELAXED);
	} else if (offset == RESET_CONTROL && size == 1) {
		value = __atomic_load_n(&root->reset_control, __ATOMIC_RELAXED);
	}
	return value & ones(size);
}

static void reset_control(struct pci_root *root, uint8_t value)
{
	struct device_host *host = root->host;

	__atomic_store_n(&root->reset_control, value & RESET_CONTROL_BITS, __ATOMIC_RELAXED);
	if ((value & RESET_CONTROL_RST_CPU) && host->request)
		host->request(host, REQUEST_RESET);
}

static void ports_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_root *root = opaque;
	uint64_t address;

	if (offset >= CONFIG_DATA) {
		if (data_address(root, offset, &address))
			bus_write(root->config, address, size, value);
	} else if (offset == CONFIG_ADDRESS && size == 4) {
		__atomic_store_n(&root->config_address, (uint32_t)value & CONFIG_ADDRESS_BITS,
				 __ATOMIC_RELAXED);
	} else if (offset == RESET_CONTROL && size == 1) {
		reset_control(root, (uint8_t)value);
	}
}

static const char *ports_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)write;
	if (offset >= CONFIG_DATA)
		return "CONFIG_DATA";
	return offset == RESET_CONTROL && size == 1 ? "RESET_CONTROL" : "CONFIG_ADDRESS";
}

static const struct bus_ops ports_ops = {
	.read = ports_read,
	.write = ports_write,
	.name = ports_name,
};

static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_root *root = opaque;
	uint64_t value = ones(size);

	bus_read(root->config, offset, size, &value);
	return value & ones(size);
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_root *root = opaque;

	bus_write(root->config, offset, size, value);
}

static const struct bus_ops ecam_ops = { .read = ecam_read, .write = ecam_write };

int pci_ports_add(struct pci_root *root, struct error *e)
{
	struct bus_range ports = { .name = "pci-config-ports",
				   .base = PORTS_BASE,
				   .size = PORTS_SIZE,
				   .ops = &ports_ops,
				   .opaque = root };
	struct bus_range ecam = { .name = "pci-ecam",
				  .base = root->windows.ecam_base,
				  .size = (uint64_t)root->windows.buses << 20,
				  .ops = &ecam_ops,
				  .opaque = root };
	int err = bus_add(root->host->pio, &ports, e);

	if (err < 0)
		return err;
	err = bus_add(root->host->mmio, &ecam, e);
	if (err < 0)
		bus_remove(root->host->pio, PORTS_BASE, root);
	return err;
}

void pci_ports_remove(struct pci_root *root)
{
	bus_remove(root->host->mmio, root->windows.ecam_base, root);
	bus_remove(root->host->pio, PORTS_BASE, root);
}
