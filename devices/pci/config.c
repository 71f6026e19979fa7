/*
 * A function's configuration space: 4 KiB in which every bit is read-only, writable or cleared by
 * writing one. Guests come in through the root's config bus with any width and alignment; a write
 * is stored word by word under the masks, then has its standard effects (decoding, INTx, MSI,
 * MSI-X), then the device hears of it. PCI Express Base 5.0 section 7.5.
 *
 * Registers are little-endian and so is every host with KVM that mvm runs on; words are used as
 * they lie in memory.
 */
#include <linux/pci_regs.h>

#include "devices/pci/internal.h"
#include "devices/registers.h"

#define BARS_SIZE (PCI_BARS * 4)

void pci_config_update(struct pci_function *f, unsigned offset, uint32_t mask, uint32_t value)
{
	uint32_t old = pci_word_load(f->config, offset);

	pci_word_store(f->config, offset, (old & ~mask) | (value & mask));
}

void pci_config_restore(struct pci_function *f)
{
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i += 4)
		pci_word_store(f->config, i, pci_word_load(f->initial, i));
}

/* What a guest's write does to one word; mask covers the bytes written. */
static void write_word(struct pci_function *f, unsigned offset, uint32_t mask, uint32_t value)
{
	uint32_t writable = pci_word_load(f->writable, offset) & mask;
	uint32_t clears = pci_word_load(f->clears, offset) & mask & value;

	pci_config_update(f, offset, writable | clears, value & ~clears);
}

/* Splits bytes [offset, offset + size) into words. */
static void write_words(struct pci_function *f, unsigned offset, unsigned size, uint64_t value)
{
	while (size > 0) {
		unsigned first = offset & 3;
		unsigned n = size < 4 - first ? size : 4 - first;
		uint32_t mask = (uint32_t)(((1ull << (8 * n)) - 1) << (8 * first));

		write_word(f, offset, mask, (uint32_t)(value << (8 * first)));
		offset += n;
		size -= n;
		value >>= 8 * n;
	}
}

static void written(struct pci_function *f, unsigned offset, unsigned size, uint16_t old_command)
{
	if (pci_overlaps(offset, size, PCI_COMMAND, 2)) {
		uint16_t changed = old_command ^ pci_config_get16(f, PCI_COMMAND);

		pci_intx_update(f);
		/* A message is a write to memory: without bus mastering it has to wait. */
		if (changed & PCI_COMMAND_MASTER) {
			pci_msix_update(f);
			pci_msi_update(f);
		}
	}
	if (f->msix.vectors && pci_overlaps(offset, size, f->msix.capability + PCI_MSIX_FLAGS, 2)) {
		pci_msix_update(f);
		pci_intx_update(f);
	}
	if (f->msi.vectors && pci_overlaps(offset, size, f->msi.capability, f->msi.size)) {
		pci_msi_update(f);
		pci_intx_update(f);
	}
}

static void config_write_one(struct pci_function *f, unsigned offset, unsigned size, uint32_t value)
{
	/* BARs of several functions may depend on one another; their lock comes first. */
	bool placement = pci_overlaps(offset, size, PCI_COMMAND, 2) ||
			 pci_overlaps(offset, size, PCI_ROM_ADDRESS, 4) ||
			 pci_overlaps(offset, size, PCI_BASE_ADDRESS_0, BARS_SIZE);
	uint16_t command;

	if (f->ops && f->ops->config_writing)
		f->ops->config_writing(f, offset, size, value);
	if (placement)
		pthread_mutex_lock(&f->root->lock);
	pthread_mutex_lock(&f->lock);
	command = pci_config_get16(f, PCI_COMMAND);
	write_words(f, offset, size, value);
	written(f, offset, size, command);
	pthread_mutex_unlock(&f->lock);
	if (placement) {
		pci_bars_update(f);
		pthread_mutex_unlock(&f->root->lock);
	}
	if (f->ops && f->ops->config_written)
		f->ops->config_written(f, offset, size);
}

static void config_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_function *f = opaque;

	if (size == 8) {
		config_write_one(f, (unsigned)offset, 4, (uint32_t)value);
		config_write_one(f, (unsigned)offset + 4, 4, (uint32_t)(value >> 32));
	} else {
		config_write_one(f, (unsigned)offset, size, (uint32_t)value);
	}
}

static uint32_t config_read_one(struct pci_function *f, unsigned offset, unsigned size)
{
	unsigned first = offset & 3;
	uint64_t value;

	if (f->ops && f->ops->config_reading)
		f->ops->config_reading(f, offset, size);

	pthread_mutex_lock(&f->lock);
	if (f->msi.pending && pci_overlaps(offset, size, f->msi.pending, 4))
		pci_msi_pending(f);
	value = pci_word_load(f->config, offset);
	if (first + size > 4)
		value |= (uint64_t)pci_word_load(f->config, offset + 4) << 32;
	pthread_mutex_unlock(&f->lock);

	return (uint32_t)((value >> (8 * first)) & ((1ull << (8 * size)) - 1));
}

static uint64_t config_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_function *f = opaque;
	uint64_t low;

	if (size != 8)
		return config_read_one(f, (unsigned)offset, size);
	low = config_read_one(f, (unsigned)offset, 4);
	return low | (uint64_t)config_read_one(f, (unsigned)offset + 4, 4) << 32;
}

/* Names only: what they do is in write masks. PCI Express Base 5.0 section 7.5.1.2. */
#define CONFIG_REG(name_, offset_, width_)                                                         \
	{                                                                                          \
		.name = name_, .offset = offset_, .width = width_, .access = REG_RW                \
	}

static const struct reg header_regs[] = {
	CONFIG_REG("Vendor ID", PCI_VENDOR_ID, 2),
	CONFIG_REG("Device ID", PCI_DEVICE_ID, 2),
	CONFIG_REG("Command", PCI_COMMAND, 2),
	CONFIG_REG("Status", PCI_STATUS, 2),
	CONFIG_REG("Revision and Class", PCI_CLASS_REVISION, 4),
	CONFIG_REG("Header Type", PCI_HEADER_TYPE, 1),
	{ .name = "BAR", .offset = PCI_BASE_ADDRESS_0, .span = 24, .width = 4, .access = REG_RW },
	CONFIG_REG("Subsystem ID", PCI_SUBSYSTEM_VENDOR_ID, 4),
	CONFIG_REG("Expansion ROM", PCI_ROM_ADDRESS, 4),
	CONFIG_REG("Capabilities", PCI_CAPABILITY_LIST, 1),
	CONFIG_REG("Interrupt Line", PCI_INTERRUPT_LINE, 1),
	CONFIG_REG("Interrupt Pin", PCI_INTERRUPT_PIN, 1),
};

static const struct reg_table header_table = {
	.reg = header_regs,
	.count = sizeof(header_regs) / sizeof(header_regs[0]),
};

static const char *config_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)size;
	if (offset >= PCI_STD_HEADER_SIZEOF)
		return offset < PCI_CFG_SPACE_SIZE ? "a capability" : "an extended capability";
	return reg_name(&header_table, offset, write ? REG_WRITE : REG_READ, 0);
}

const struct bus_ops pci_config_ops = {
	.read = config_read,
	.write = config_write,
	.name = config_name,
};

/* ---- the device's side ---- */

static void config_set(struct pci_function *f, unsigned offset, uint32_t mask, uint32_t value)
{
	unsigned shift = 8 * (offset & 3);

	if (offset >= PCI_CONFIG_SIZE)
		return;
	pthread_mutex_lock(&f->lock);
	pci_config_update(f, offset, mask << shift, value << shift);
	pthread_mutex_unlock(&f->lock);
}

void pci_config_set8(struct pci_function *f, unsigned offset, uint8_t value)
{
	config_set(f, offset, 0xff, value);
}

void pci_config_set16(struct pci_function *f, unsigned offset, uint16_t value)
{
	config_set(f, offset, 0xffff, value);
}

void pci_config_set32(struct pci_function *f, unsigned offset, uint32_t value)
{
	config_set(f, offset, 0xffffffff, value);
}

uint8_t pci_config_get8(const struct pci_function *f, unsigned offset)
{
	return (uint8_t)(pci_word_load(f->config, offset) >> (8 * (offset & 3)));
}

uint16_t pci_config_get16(const struct pci_function *f, unsigned offset)
{
	return (uint16_t)(pci_word_load(f->config, offset) >> (8 * (offset & 2)));
}

uint32_t pci_config_get32(const struct pci_function *f, unsigned offset)
{
	return pci_word_load(f->config, offset);
}

void pci_config_writable32(struct pci_function *f, unsigned offset, uint32_t mask)
{
	pci_word_store(f->writable, offset, mask);
}

void pci_config_clears32(struct pci_function *f, unsigned offset, uint32_t mask)
{
	pci_word_store(f->clears, offset, mask);
}

bool pci_bus_master(const struct pci_function *f)
{
	return pci_config_get16(f, PCI_COMMAND) & PCI_COMMAND_MASTER;
}
