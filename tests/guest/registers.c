/*
 * Misused registers that only one transport has, and the room between and behind registers:
 * accesses of widths that a register does not have, past the end of a structure, to what cannot be
 * written; MSI-X; the function itself switched off and moved. See violation.h for what must hold
 * after each.
 *
 * mvm: --blk=virtio:@tmp/disk --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,ring=packed --rng=virtio,ring=packed
 * mvm: --blk=virtio:@tmp/disk,transport=mmio --rng=virtio,transport=mmio
 * mvm: --blk=virtio:@tmp/disk,transport=mmio,ring=packed --rng=virtio,transport=mmio,ring=packed
 * mvm: --blk=vhost:@tmp/disk --rng=virtio
 * mvm: --blk=vhost:@tmp/disk,transport=mmio,ring=packed --rng=virtio,transport=mmio
 * seconds: 60
 * stderr: any
 */
#include "guest.h"
#include "violation.h"

#define HOLE 0xd8000000ull
#define WCE  32 /* of the disk's configuration: there to be written */

static void common8(unsigned reg, uint8_t value)
{
	write8(victim.common + reg, value);
}

static void common16(unsigned reg, uint16_t value)
{
	write16(victim.common + reg, value);
}

static void common32(unsigned reg, uint32_t value)
{
	write32(victim.common + reg, value);
}

/* ---- configuration space --------------------------------------------------------------------- */

static void past_config(void)
{
	uint64_t end = victim.config + victim.config_size;

	read8(end - 1);
	read16(end - 1);
	read64(end - 1);
	read64(end - 4);
	read8(end);
	read64(end + 8);
	write64(end - 4, ~0ull);
	write64(end, ~0ull);
	write8(victim.config + 0xeff, 1);
	read64(victim.config + 0xef8);
	write64(victim.config + 0xef8, ~0ull);
}

static void config_written(void)
{
	uint64_t capacity = blk_capacity(&victim);

	for (unsigned at = 0; at < victim.config_size; at += 4)
		if (at != WCE)
			write32(victim.config + at, 0xffffffff);
	check_equal(blk_capacity(&victim), capacity, "the capacity cannot be written");
}

static void config_in_odd_widths(void)
{
	uint64_t capacity = blk_capacity(&victim);

	for (unsigned at = 0; at < WCE; at++) {
		read8(victim.config + at);
		read16(victim.config + at);
		read32(victim.config + at);
		read64(victim.config + at);
		write8(victim.config + at, 0xff);
		write16(victim.config + at, 0xffff);
		write32(victim.config + at, 0xffffffff);
	}
	check_equal(blk_capacity(&victim), capacity, "the capacity is as it was");
}

/* Write-back cache: a byte that takes 0 and 1, and only with the feature. */
static void cache_mode_wild(void)
{
	write8(victim.config + WCE, 0x7f);
	write8(victim.config + WCE, 0xff);
	write32(victim.config + WCE, 0xffffffff);
	read8(victim.config + WCE);
}

static void generation_written(void)
{
	uint32_t was = virtio_read(&victim, GENERATION);

	virtio_write(&victim, GENERATION, was + 1);
	check_equal(virtio_read(&victim, GENERATION), was, "the generation cannot be written");
}

/* ---- PCI: the BAR ---------------------------------------------------------------------------- */

static void vectors_that_are_not(void)
{
	check_equal(virtio_queue_vector(&victim, 0, 0x7ff), VIRTIO_NO_VECTOR, "no such vector");
	virtio_config_vector(&victim, 0x8000);
	msix_control(&victim.pci, MSIX_ENABLE);
	good_request();
	offer(3);
	delay_us(500);
	msix_control(&victim.pci, 0);
}

/* Kicks of every width, to the doorbell and around it. */
static void odd_kicks(void)
{
	uint64_t bell = victim.notify;

	write8(bell, 0);
	write16(bell, 0xffff);
	write32(bell, 0xffffffff);
	write64(bell, ~0ull);
	write8(bell + 1, 0);
	write16(bell + 1, 0);
	write16(bell + 2, 0);
	write32(bell - 2, 0);
	for (uint64_t at = 0; at < 64; at += 4)
		write16(bell + at, 0);
	read8(bell);
	read64(bell);
}

static void wrong_widths(void)
{
	common8(COMMON_QUEUE_SELECT, 0);
	common32(COMMON_QUEUE_SELECT, 0x00100000);
	common8(COMMON_QUEUE_DESC, 0xff);
	common16(COMMON_DRIVER_FEATURE, 0xffff);
	common32(COMMON_STATUS, 0);
	common16(COMMON_STATUS, 0);
	write64(victim.common + COMMON_STATUS, 0);
	write32(victim.common + COMMON_QUEUE_DESC + 2, HOLE);
	write64(victim.common + COMMON_QUEUE_DESC + 4, HOLE);
	for (unsigned at = 0; at < COMMON_SIZE + 8; at++) {
		read8(victim.common + at);
		read16(victim.common + at);
		read32(victim.common + at);
		read64(victim.common + at);
	}
	common16(COMMON_QUEUE_SELECT, 0);
}

static void past_common(void)
{
	for (unsigned at = COMMON_SIZE; at < 0x1000; at += 244) {
		read32(victim.common + at);
		common32(at, 0xffffffff);
	}
}

static void isr_written(void)
{
	write8(victim.isr, 0xff);
	write32(victim.isr, 0xffffffff);
	read64(victim.isr);
}

static void msix_table_abused(void)
{
	uint64_t table = victim.pci.msix_table, pba = victim.pci.msix_pba;

	write8(table + 1, 0xff);
	write16(table + 2, 0xffff);
	write64(table + 4, ~0ull << 32);
	write32(table + victim.pci.msix_vectors * 16, 0);
	write32(table + 0xffc, 0);
	write64(pba, ~0ull);
	check(!msix_pending(&victim.pci, 0), "pending bits cannot be written");
	read64(pba + 0xff8);
	write32(table + 4, 0);
}

static void whole_bar(void)
{
	const struct pci_bar *bar = &victim.pci.bar[0];

	for (uint64_t at = 0; at < bar->size; at += 4)
		if (at < victim.isr - bar->address || at >= victim.pci.msix_table - bar->address)
			read32(bar->address + at);
	read64(bar->address + bar->size - 4);
	write64(bar->address + bar->size - 4, ~0ull);
	write32(bar->address + bar->size, ~0u);
	read32(bar->address + bar->size - 2);
}

/* ---- PCI: the function ----------------------------------------------------------------------- */

/* The window into the BAR in configuration space (section 4.1.4.9), pointed anywhere. */
static void config_window(void)
{
	pci_address bdf = victim.pci.bdf;
	unsigned cap = 0;
	static const uint32_t offsets[] = { 0x14, 0xfff, 0x7ffe, 0x8000, 0xfffffffc, 0xffffffff };

	while ((cap = pci_capability(bdf, PCI_CAP_VENDOR, cap)) && pci_read8(bdf, cap + 3) != 5)
		;
	if (!check(cap, "the capability is there"))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++)
		for (uint32_t len = 0; len < 9; len++) {
			pci_write8(bdf, cap + 4, (uint8_t)(len == 8 ? 5 : 0));
			pci_write32(bdf, cap + 8, offsets[i]);
			pci_write32(bdf, cap + 12, len);
			pci_read32(bdf, cap + 16);
			if (offsets[i] != 0x14)
				pci_write32(bdf, cap + 16, 0xffffffff);
		}
	pci_write8(bdf, cap + 4, 0);
	pci_write32(bdf, cap + 8, COMMON_NUM_QUEUES);
	pci_write32(bdf, cap + 12, 2);
	check_equal(pci_read16(bdf, cap + 16), read16(victim.common + COMMON_NUM_QUEUES),
		    "it shows the number of queues");
}

static void decode_off_while_running(void)
{
	good_request();
	offer(3);
	pci_write16(victim.pci.bdf, PCI_COMMAND, 0);
	delay_us(500);
	write16(victim.notify, 0);
	pci_enable(&victim.pci);
}

static void moved_while_running(void)
{
	uint64_t home = victim.pci.bar[0].address;

	good_request();
	offer(3);
	pci_bar_move(&victim.pci, 0, 0xd4000000);
	write16(victim.notify, 0);
	pci_bar_move(&victim.pci, 0, home);
	delay_us(500);
}

static void dma_off_while_running(void)
{
	pci_write16(victim.pci.bdf, PCI_COMMAND, PCI_COMMAND_MEMORY);
	good_request();
	offer(3);
	delay_us(500);
	virtio_reset(&victim);
	pci_enable(&victim.pci);
}

static void header_written(void)
{
	pci_address bdf = victim.pci.bdf;
	uint32_t id = pci_read32(bdf, PCI_VENDOR);

	for (unsigned at = 0; at < 0x1000; at += 4)
		if (at != PCI_COMMAND && (at < PCI_BAR0 || at >= PCI_BAR0 + 8))
			pci_write32(bdf, at, 0xffffffff);
	check_equal(pci_read32(bdf, PCI_VENDOR), id, "the ids cannot be written");
	for (unsigned at = 0; at < 0x1000; at += 4)
		if (at != PCI_COMMAND && (at < PCI_BAR0 || at >= PCI_BAR0 + 8))
			pci_write32(bdf, at, 0);
}

/* ---- MMIO ------------------------------------------------------------------------------------ */

/* Section 4.2.2.2: registers are 32 bits wide and aligned. */
static void mmio_wrong_widths(void)
{
	for (unsigned at = 0; at < MMIO_CONFIG; at++) {
		read8(victim.common + at);
		read16(victim.common + at);
		read64(victim.common + at);
		common8(at, 0);
		common16(at, 0);
		write64(victim.common + at, 0);
		if (at % 4) {
			read32(victim.common + at);
			common32(at, 0);
		}
	}
	check_equal(virtio_status(&victim), 0xf, "the status is as it was");
}

static void mmio_read_only_written(void)
{
	static const uint16_t fixed[] = { MMIO_MAGIC,		MMIO_VERSION,	MMIO_DEVICE_ID,
					  MMIO_VENDOR_ID,	MMIO_QUEUE_MAX, MMIO_DEVICE_FEATURE,
					  MMIO_INTERRUPT_STATUS };

	for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++) {
		uint32_t was = read32(victim.common + fixed[i]);

		common32(fixed[i], ~was);
		check_equal(read32(victim.common + fixed[i]), was, "0x%x is as it was", fixed[i]);
	}
}

static void mmio_write_only_read(void)
{
	static const uint16_t silent[] = { 0x14, 0x20, 0x24, 0x30, 0x38, 0x50, 0x64,
					   0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0xac };
	uint32_t heard = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(silent); i++)
		heard |= read32(victim.common + silent[i]);
	check_equal(heard, 0, "what is only written reads as 0");
}

/* Version 1 had these (section 4.2.4); a driver that took us for that writes a page number. */
static void mmio_legacy_registers(void)
{
	common32(0x28, 4096);
	common32(0x3c, 4096);
	common32(0x40, 0x12345);
	check_equal(read32(victim.common + 0x40), 0, "QueuePFN is not there");
	common32(0x40, 0);
}

static void mmio_reserved_registers(void)
{
	static const uint16_t reserved[] = { 0x18, 0x1c, 0x2c, 0x48, 0x4c, 0x54, 0x58, 0x5c, 0x68,
					     0x6c, 0x74, 0x7c, 0x88, 0x98, 0xa8, 0xc4, 0xe0, 0xf8 };

	for (unsigned i = 0; i < ARRAY_SIZE(reserved); i++) {
		common32(reserved[i], 0xffffffff);
		read32(victim.common + reserved[i]);
	}
}

static void mmio_notify_others(void)
{
	static const uint32_t queue[] = { 1, 2, 0xff, 0xffff, 0x10000, 0x80000000, 0xffffffff };

	for (unsigned i = 0; i < ARRAY_SIZE(queue); i++)
		common32(MMIO_QUEUE_NOTIFY, queue[i]);
	common8(MMIO_QUEUE_NOTIFY, 0);
	common16(MMIO_QUEUE_NOTIFY, 0);
	write64(victim.common + MMIO_QUEUE_NOTIFY, 0);
	write32(victim.common + MMIO_QUEUE_NOTIFY + 1, 0);
}

static void mmio_wild_acknowledge(void)
{
	for (unsigned i = 0; i < 10; i++)
		common32(MMIO_INTERRUPT_ACK, i & 1 ? 0xffffffff : 0xfffffffc);
	check_equal(read32(victim.isr), 0, "nothing is to be acknowledged");
}

/* Bits above the eight that the status has. */
static void mmio_wide_status(void)
{
	common32(0x70, 0xffffff00);
	check_equal(virtio_status(&victim), 0xf, "the status is as it was");
}

static void mmio_shared_memory(void)
{
	for (uint32_t id = 0; id < 300; id += 100) {
		common32(MMIO_SHM_SELECT, id);
		for (unsigned at = 0; at < 16; at += 4)
			check_equal(read32(victim.common + MMIO_SHM_LENGTH + at), 0xffffffff,
				    "no shared memory %u", id);
	}
	common32(MMIO_SHM_LENGTH, 0);
}

static void mmio_over_the_end(void)
{
	uint64_t end = victim.common + MMIO_SIZE;

	read64(end - 4);
	write64(end - 4, ~0ull);
	read32(end - 2);
	write32(end - 2, ~0u);
	/* Over into configuration space. */
	read64(victim.common + MMIO_CONFIG - 4);
	write64(victim.common + MMIO_CONFIG - 4, ~0ull);
	read32(victim.common - 2);
	write32(victim.common - 2, ~0u);
}

/* The interrupt that nobody acknowledges. */
static void mmio_never_acknowledged(void)
{
	good_request();
	offer(3);
	check(wait_for(read32(victim.isr) & VIRTIO_ISR_QUEUE, 1000), "it interrupts");
}

static const struct violation violations[] = {
	{ "past the configuration", past_config, IGNORED, RUNNING, 0, 0 },
	{ "configuration written", config_written, IGNORED, RUNNING, 0, 0 },
	{ "configuration in odd widths", config_in_odd_widths, IGNORED, RUNNING, 0, 0 },
	{ "cache mode that does not exist", cache_mode_wild, IGNORED, RUNNING, 0, 0 },
	{ "generation written", generation_written, IGNORED, RUNNING, 0, 0 },

	{ "vectors that do not exist", vectors_that_are_not, ANYTHING, RUNNING, 0, ON_PCI },
	{ "doorbells of all widths", odd_kicks, IGNORED, RUNNING, 0, ON_PCI },
	{ "common registers in wrong widths", wrong_widths, IGNORED, RUNNING, 0, ON_PCI },
	{ "past the common registers", past_common, IGNORED, RUNNING, 0, ON_PCI },
	{ "ISR written", isr_written, IGNORED, RUNNING, 0, ON_PCI },
	{ "MSI-X table and pending bits written", msix_table_abused, IGNORED, RUNNING, 0, ON_PCI },
	{ "all of the BAR and over its end", whole_bar, IGNORED, RUNNING, 0, ON_PCI },
	{ "window in configuration space", config_window, ANYTHING, RUNNING, 0, ON_PCI },
	{ "header and capabilities written", header_written, IGNORED, RUNNING, 0, ON_PCI },
	{ "decoding off while it runs", decode_off_while_running, ANYTHING, RUNNING, 0, ON_PCI },
	{ "bus master off while it runs", dma_off_while_running, ANYTHING, RUNNING, 0, ON_PCI },
	{ "moved while it runs", moved_while_running, ANYTHING, RUNNING, 0, ON_PCI },

	{ "registers in wrong widths", mmio_wrong_widths, IGNORED, RUNNING, 0, ON_MMIO },
	{ "read-only registers written", mmio_read_only_written, IGNORED, RUNNING, 0, ON_MMIO },
	{ "write-only registers read", mmio_write_only_read, IGNORED, RUNNING, 0, ON_MMIO },
	{ "registers of version 1", mmio_legacy_registers, IGNORED, RUNNING, 0, ON_MMIO },
	{ "registers that do not exist", mmio_reserved_registers, IGNORED, RUNNING, 0, ON_MMIO },
	{ "other queues' doorbells", mmio_notify_others, IGNORED, RUNNING, 0, ON_MMIO },
	{ "acknowledging what was not said", mmio_wild_acknowledge, IGNORED, RUNNING, 0, ON_MMIO },
	{ "a status wider than it is", mmio_wide_status, IGNORED, RUNNING, 0, ON_MMIO },
	{ "shared memory that is not", mmio_shared_memory, IGNORED, RUNNING, 0, ON_MMIO },
	{ "over the end of its registers", mmio_over_the_end, IGNORED, RUNNING, 0, ON_MMIO },
	{ "an interrupt never acknowledged", mmio_never_acknowledged, ANYTHING, RUNNING, 0,
	  ON_MMIO },
};

void main(void)
{
	if (violations_begin())
		violations_run(violations, ARRAY_SIZE(violations));
}
