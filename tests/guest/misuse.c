/*
 * Misused registers: initialisation out of order, queues set up wrongly or changed while they run,
 * configuration space beyond its end, accesses of widths that a register does not have.
 *
 * mvm: --blk=virtio:@tmp/disk --rng=virtio
 * seconds: 20
 * stderr: any
 */
#include "guest.h"
#include "violation.h"

#define HOLE	0xd8000000ull
#define RAM_END (64ull << 20)

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

/* ---- order ----------------------------------------------------------------------------------- */

static void driver_ok_at_once(void)
{
	victim.transport->set_status(&victim, 0xf);
	vq_kick(&victim_queue);
}

static void driver_ok_alone(void)
{
	victim.transport->set_status(&victim, VIRTIO_DRIVER_OK);
	vq_kick(&victim_queue);
}

static void enable_before_features(void)
{
	victim.transport->set_status(&victim, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	victim.transport->queue_set(&victim, &victim_queue);
	victim.transport->queue_enable(&victim, 0);
	vq_kick(&victim_queue);
}

static void kick_before_driver_ok(void)
{
	good_request();
	offer(0);
	delay_us(1000);
}

static void run_without_queues(void)
{
	virtio_ready(&victim);
	good_request();
	offer(0);
}

static void features_after_ok(void)
{
	victim.transport->set_features(&victim, ~0ull);
}

static void status_bits_taken_back(void)
{
	victim.transport->set_status(&victim, VIRTIO_ACKNOWLEDGE);
}

static void status_wild(void)
{
	victim.transport->set_status(&victim, 0xff);
}

static void driver_failed(void)
{
	victim.transport->set_status(&victim, victim.transport->status(&victim) | VIRTIO_FAILED);
}

static void resets_in_a_row(void)
{
	for (unsigned i = 0; i < 30; i++)
		victim.transport->set_status(&victim, 0);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static void start_with(uint64_t desc, uint64_t avail, uint64_t used)
{
	struct vq q = victim_queue;

	q.desc = (volatile struct vq_desc *)desc;
	q.avail = (volatile struct vq_avail *)avail;
	q.used = (volatile struct vq_used *)used;
	victim.transport->queue_set(&victim, &q);
	victim.transport->queue_enable(&victim, 0);
	virtio_ready(&victim);
	vq_kick(&victim_queue);
}

#define DESC  ((uint64_t)victim_queue.desc)
#define AVAIL ((uint64_t)victim_queue.avail)
#define USED  ((uint64_t)victim_queue.used)

static void desc_in_hole(void)
{
	start_with(HOLE, AVAIL, USED);
}

static void avail_in_hole(void)
{
	start_with(DESC, HOLE, USED);
}

static void used_in_hole(void)
{
	start_with(DESC, AVAIL, HOLE);
}

static void desc_uneven(void)
{
	start_with(DESC + 8, AVAIL, USED);
}

static void avail_uneven(void)
{
	start_with(DESC, AVAIL + 1, USED);
}

static void used_uneven(void)
{
	start_with(DESC, AVAIL, USED + 2);
}

static void desc_over_end(void)
{
	start_with(RAM_END - 16, AVAIL, USED);
}

static void used_over_end(void)
{
	start_with(DESC, AVAIL, RAM_END - 8);
}

static void desc_wraps(void)
{
	start_with(~0ull - 15, AVAIL, USED);
}

static void all_in_one_place(void)
{
	start_with((uint64_t)page, (uint64_t)page, (uint64_t)page);
}

static void sizes_that_cannot_be(void)
{
	static const uint16_t sizes[] = { 0, 3, 0x8000, 0xffff, 257 };

	common16(COMMON_QUEUE_SELECT, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		common16(COMMON_QUEUE_SIZE, sizes[i]);
	check(read16(victim.common + COMMON_QUEUE_SIZE) == 256, "the size is still the largest");
}

static void queue_changed_while_running(void)
{
	uint64_t device;

	common16(COMMON_QUEUE_SELECT, 0);
	common16(COMMON_QUEUE_SIZE, 4);
	common32(COMMON_QUEUE_DESC, HOLE);
	common32(COMMON_QUEUE_DRIVER, HOLE);
	common32(COMMON_QUEUE_DEVICE, HOLE);
	common16(COMMON_QUEUE_ENABLE, 0);
	common16(COMMON_QUEUE_ENABLE, 1);
	device = read32(victim.common + COMMON_QUEUE_DEVICE);
	check(device == USED && read16(victim.common + COMMON_QUEUE_SIZE) == VICTIM_QUEUE,
	      "its registers have not changed");
}

static void queue_that_is_not(void)
{
	common16(COMMON_QUEUE_SELECT, 0xffff);
	check_equal(read16(victim.common + COMMON_QUEUE_SIZE), 0, "queue 65535 has size 0");
	common16(COMMON_QUEUE_SIZE, 16);
	common32(COMMON_QUEUE_DESC, (uint32_t)DESC);
	common16(COMMON_QUEUE_ENABLE, 1);
	common16(COMMON_QUEUE_SELECT, 1);
	common16(COMMON_QUEUE_ENABLE, 1);
}

static void ring_reset_not_agreed(void)
{
	common16(COMMON_QUEUE_SELECT, 0);
	common16(COMMON_SIZE + 2, 1);
}

/* Section 2.6.1: a queue alone is reset, set up anew, and works. */
static void ring_reset(void)
{
	common16(COMMON_QUEUE_SELECT, 0);
	common16(COMMON_SIZE + 2, 1);
	check(wait_for(read16(victim.common + COMMON_SIZE + 2) == 0, 100), "queue_reset reads 0");
	check_equal(read16(victim.common + COMMON_QUEUE_ENABLE), 0, "the queue is off");
	vq_again(&victim_queue);
}

static void vectors_that_are_not(void)
{
	check_equal(virtio_queue_vector(&victim, 0, 0x7ff), VIRTIO_NO_VECTOR, "no such vector");
	virtio_config_vector(&victim, 0x8000);
	msix_control(&victim.pci, MSIX_ENABLE);
	good_request();
	offer(0);
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

/* ---- space ----------------------------------------------------------------------------------- */

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
	for (unsigned at = COMMON_SIZE + 4; at < 0x1000; at += 244) {
		read32(victim.common + at);
		common32(at, 0xffffffff);
	}
}

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
	write8(victim.config + 0xfff, 1);
	read64(victim.config + 0xffc);
}

static void config_written(void)
{
	uint64_t capacity = blk_capacity(&victim);

	for (unsigned at = 0; at < victim.config_size; at += 4)
		if (at != 32) /* wce is there to be written */
			write32(victim.config + at, 0xffffffff);
	check_equal(blk_capacity(&victim), capacity, "the capacity cannot be written");
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

/* ---- the function ---------------------------------------------------------------------------- */

static void decode_off_while_running(void)
{
	good_request();
	offer(0);
	pci_write16(victim.pci.bdf, PCI_COMMAND, 0);
	delay_us(500);
	write16(victim.notify, 0);
	pci_enable(&victim.pci);
}

static void moved_while_running(void)
{
	uint64_t home = victim.pci.bar[0].address;

	good_request();
	offer(0);
	pci_bar_move(&victim.pci, 0, 0xd4000000);
	write16(victim.notify, 0);
	pci_bar_move(&victim.pci, 0, home);
	delay_us(500);
}

static const struct violation violations[] = {
	{ "all status bits at once", driver_ok_at_once, ANYTHING, RESET, 0 },
	{ "DRIVER_OK and nothing else", driver_ok_alone, ANYTHING, RESET, 0 },
	{ "queue enabled before FEATURES_OK", enable_before_features, ANYTHING, RESET, 0 },
	{ "kick before DRIVER_OK", kick_before_driver_ok, ANYTHING, READY, 0 },
	{ "DRIVER_OK without queues", run_without_queues, ANYTHING, AGREED, 0 },
	{ "features after FEATURES_OK", features_after_ok, IGNORED, RUNNING, 0 },
	{ "status bits taken back", status_bits_taken_back, IGNORED, RUNNING, 0 },
	{ "status of all ones", status_wild, ANYTHING, RUNNING, 0 },
	{ "a driver that has failed", driver_failed, ANYTHING, RUNNING, 0 },
	{ "thirty resets in a row", resets_in_a_row, ANYTHING, RUNNING, 0 },
	{ "descriptors where no RAM is", desc_in_hole, BREAKS, AGREED, 0 },
	{ "available ring where no RAM is", avail_in_hole, BREAKS, AGREED, 0 },
	{ "used ring where no RAM is", used_in_hole, BREAKS, AGREED, 0 },
	{ "descriptors not aligned", desc_uneven, BREAKS, AGREED, 0 },
	{ "available ring not aligned", avail_uneven, BREAKS, AGREED, 0 },
	{ "used ring not aligned", used_uneven, BREAKS, AGREED, 0 },
	{ "descriptors over RAM's end", desc_over_end, BREAKS, AGREED, 0 },
	{ "used ring over RAM's end", used_over_end, BREAKS, AGREED, 0 },
	{ "descriptors that wrap", desc_wraps, BREAKS, AGREED, 0 },
	{ "all rings in one place", all_in_one_place, ANYTHING, AGREED, 0 },
	{ "queue sizes that cannot be", sizes_that_cannot_be, ANYTHING, AGREED, 0 },
	{ "queue registers while it runs", queue_changed_while_running, IGNORED, RUNNING, 0 },
	{ "queue that does not exist", queue_that_is_not, IGNORED, RUNNING, 0 },
	{ "queue reset without the feature", ring_reset_not_agreed, IGNORED, RUNNING, 0 },
	{ "queue reset with it", ring_reset, IGNORED, RUNNING, VIRTIO_F_RING_RESET },
	{ "vectors that do not exist", vectors_that_are_not, ANYTHING, RUNNING, 0 },
	{ "doorbells of all widths", odd_kicks, IGNORED, RUNNING, 0 },
	{ "common registers in wrong widths", wrong_widths, IGNORED, RUNNING, 0 },
	{ "past the common registers", past_common, IGNORED, RUNNING, 0 },
	{ "past the configuration", past_config, IGNORED, RUNNING, 0 },
	{ "configuration written", config_written, IGNORED, RUNNING, 0 },
	{ "ISR written", isr_written, IGNORED, RUNNING, 0 },
	{ "MSI-X table and pending bits written", msix_table_abused, IGNORED, RUNNING, 0 },
	{ "window in configuration space", config_window, ANYTHING, RUNNING, 0 },
	{ "decoding off while it runs", decode_off_while_running, ANYTHING, RUNNING, 0 },
	{ "moved while it runs", moved_while_running, ANYTHING, RUNNING, 0 },
};

void main(void)
{
	if (violations_begin())
		violations_run(violations, ARRAY_SIZE(violations));
}
