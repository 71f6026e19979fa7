/*
 * Misused registers: initialisation out of order, queues set up wrongly or changed while they run,
 * resets of one queue. See violation.h for what must hold after each; what is not a register that
 * both transports have is in registers.c.
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

#define HOLE	0xd8000000ull
#define BEYOND	0x4000000000ull
#define ECAM	0xe0000000ull
#define RAM_END (64ull << 20)

static void set_status(uint8_t status)
{
	virtio_set_status(&victim, status);
}

static void set(enum virtio_register reg, uint32_t value)
{
	virtio_write(&victim, reg, value);
}

/* ---- order ----------------------------------------------------------------------------------- */

static void driver_ok_at_once(void)
{
	set_status(0xf);
	vq_kick(&victim_queue);
}

static void driver_ok_alone(void)
{
	set_status(VIRTIO_DRIVER_OK);
	check(!(virtio_status(&victim) & VIRTIO_DRIVER_OK), "it does not stick");
	vq_kick(&victim_queue);
}

static void features_not_offered(void)
{
	set_status(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	virtio_set_features(&victim, ~0ull);
	set_status(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	check(!(virtio_status(&victim) & VIRTIO_FEATURES_OK), "FEATURES_OK does not stick");
	set_status(0xf);
	virtio_queue_set(&victim, &victim_queue);
	virtio_queue_enable(&victim, 0);
	vq_kick(&victim_queue);
}

static void no_version_1(void)
{
	set_status(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	virtio_set_features(&victim, 0);
	set_status(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	check(!(virtio_status(&victim) & VIRTIO_FEATURES_OK), "FEATURES_OK does not stick");
}

static void enable_before_features(void)
{
	set_status(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	virtio_queue_set(&victim, &victim_queue);
	virtio_queue_enable(&victim, 0);
	vq_kick(&victim_queue);
}

static void kick_before_driver_ok(void)
{
	good_request();
	offer(3);
	delay_us(1000);
}

static void kick_in_reset(void)
{
	for (unsigned i = 0; i < 10; i++)
		vq_kick(&victim_queue);
}

static void run_without_queues(void)
{
	virtio_ready(&victim);
	good_request();
	offer(3);
}

static void features_after_ok(void)
{
	virtio_set_features(&victim, ~0ull);
}

static void feature_words_that_are_not(void)
{
	static const uint32_t select[] = { 2, 3, 32, 0x80000000, 0xffffffff };

	for (unsigned i = 0; i < ARRAY_SIZE(select); i++) {
		set(DEVICE_FEATURE_SELECT, select[i]);
		check_equal(virtio_read(&victim, DEVICE_FEATURE), 0, "word %u has no features",
			    select[i]);
		set(DRIVER_FEATURE_SELECT, select[i]);
		set(DRIVER_FEATURE, ~0u);
	}
}

static void status_bits_taken_back(void)
{
	set_status(VIRTIO_ACKNOWLEDGE);
}

static void status_wild(void)
{
	set_status(0xff);
}

static void status_needs_reset(void)
{
	set_status(virtio_status(&victim) | VIRTIO_NEEDS_RESET);
}

static void driver_ok_again(void)
{
	for (unsigned i = 0; i < 5; i++)
		virtio_ready(&victim);
}

static void driver_failed(void)
{
	set_status(virtio_status(&victim) | VIRTIO_FAILED);
}

static void resets_in_a_row(void)
{
	for (unsigned i = 0; i < 30; i++)
		set_status(0);
}

static void resets_under_requests(void)
{
	static const uint8_t ready = VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK;

	for (unsigned i = 0; i < 10; i++) {
		good_request();
		offer(3);
		virtio_begin(&victim, 0);
		vq_again(&victim_queue);
		set_status(ready | VIRTIO_DRIVER_OK);
	}
}

/* ---- queues ---------------------------------------------------------------------------------- */

static void start_with(uint64_t desc, uint64_t driver, uint64_t device)
{
	struct vq q = victim_queue;

	q.desc_area = desc;
	q.driver_area = driver;
	q.device_area = device;
	virtio_queue_set(&victim, &q);
	virtio_queue_enable(&victim, 0);
	virtio_ready(&victim);
	vq_kick(&victim_queue);
}

#define DESC   victim_queue.desc_area
#define DRIVER victim_queue.driver_area
#define DEVICE victim_queue.device_area

static void desc_in_hole(void)
{
	start_with(HOLE, DRIVER, DEVICE);
}

static void driver_in_hole(void)
{
	start_with(DESC, HOLE, DEVICE);
}

static void device_in_hole(void)
{
	start_with(DESC, DRIVER, HOLE);
}

static void desc_beyond(void)
{
	start_with(BEYOND, DRIVER, DEVICE);
}

static void device_on_ecam(void)
{
	start_with(DESC, DRIVER, ECAM);
}

static void desc_on_registers(void)
{
	start_with(victim.common, DRIVER, DEVICE);
}

static void desc_uneven(void)
{
	start_with(DESC + 8, DRIVER, DEVICE);
}

static void driver_uneven(void)
{
	start_with(DESC, DRIVER + 1, DEVICE);
}

static void device_uneven(void)
{
	start_with(DESC, DRIVER, DEVICE + 2);
}

static void desc_over_end(void)
{
	start_with(RAM_END - 16, DRIVER, DEVICE);
}

static void driver_at_end(void)
{
	start_with(DESC, RAM_END, DEVICE);
}

static void device_over_end(void)
{
	start_with(DESC, DRIVER, vq_is_packed(&victim_queue) ? RAM_END : RAM_END - 8);
}

static void desc_wraps(void)
{
	start_with(~0ull - 15, DRIVER, DEVICE);
}

static void device_wraps(void)
{
	start_with(DESC, DRIVER, ~0ull - 3);
}

static void all_in_one_place(void)
{
	start_with((uint64_t)page, (uint64_t)page, (uint64_t)page);
}

static void at_zero(void)
{
	start_with(0, 0, 0);
}

static void sizes_that_cannot_be(void)
{
	static const uint16_t sizes[] = { 0, 0x8000, 0xffff, 257, 3 };
	/* A packed ring's may be any number. */
	unsigned n = vq_is_packed(&victim_queue) ? 4 : 5;
	struct vq q = victim_queue;

	set(QUEUE_SELECT, 0);
	for (unsigned i = 0; i < n; i++)
		set(QUEUE_SIZE, sizes[i]);
	check_equal(virtio_read(&victim, QUEUE_MAX), 256, "the size is still the largest");
	q.size = 0x8000;
	virtio_queue_set(&victim, &q);
	virtio_queue_enable(&victim, 0);
	virtio_ready(&victim);
	vq_kick(&victim_queue);
}

/* What a running queue uses is not what its registers are told then. */
static void damage_registers(void)
{
	set(QUEUE_SELECT, 0);
	set(QUEUE_SIZE, 4);
	virtio_write_address(&victim, QUEUE_DESC, HOLE);
	virtio_write_address(&victim, QUEUE_DRIVER, HOLE);
	virtio_write_address(&victim, QUEUE_DEVICE, HOLE);
	set(QUEUE_ENABLE, 1);
}

static void changed_while_running(void)
{
	damage_registers();
	check_equal(virtio_read(&victim, QUEUE_ENABLE), 1, "it is enabled");
}

static void changed_before_driver_ok(void)
{
	damage_registers();
	virtio_ready(&victim);
}

static void enabled_late(void)
{
	virtio_ready(&victim);
	vq_again(&victim_queue);
	vq_kick(&victim_queue);
}

static void stopped_while_running(void)
{
	set(QUEUE_SELECT, 0);
	set(QUEUE_ENABLE, 0);
	good_request();
	offer(3);
	delay_us(500);
	damage_registers();
	vq_kick(&victim_queue);
}

static void queue_that_is_not(void)
{
	static const uint32_t select[] = { 0xffff, 1, 64, 0x100 };

	for (unsigned i = 0; i < ARRAY_SIZE(select); i++) {
		check_equal(virtio_queue_max(&victim, select[i]), 0, "queue %u has size 0",
			    select[i]);
		set(QUEUE_SIZE, 16);
		virtio_write_address(&victim, QUEUE_DESC, DESC);
		set(QUEUE_ENABLE, 1);
		check_equal(virtio_read(&victim, QUEUE_ENABLE), 0, "and is not enabled");
		set(QUEUE_RESET, 1);
		set(QUEUE_ENABLE, 0);
	}
}

/* ---- one queue's reset (section 2.6.1) ------------------------------------------------------- */

static void reset_queue(void)
{
	set(QUEUE_SELECT, 0);
	set(QUEUE_RESET, 1);
}

static void reset_not_agreed(void)
{
	reset_queue();
}

static void reset_and_set_up(void)
{
	reset_queue();
	check(wait_for(virtio_read(&victim, QUEUE_RESET) == 0, 100), "queue_reset reads 0");
	check_equal(virtio_read(&victim, QUEUE_ENABLE), 0, "the queue is off");
	vq_again(&victim_queue);
}

static void reset_under_a_request(void)
{
	good_request();
	offer(3);
	reset_and_set_up();
}

static void reset_and_kicked(void)
{
	reset_queue();
	good_request();
	offer(3);
	delay_us(500);
}

static void reset_twice(void)
{
	reset_queue();
	reset_queue();
	vq_again(&victim_queue);
}

static void reset_by_zero(void)
{
	set(QUEUE_SELECT, 0);
	set(QUEUE_RESET, 0);
}

static void reset_then_bad_place(void)
{
	reset_queue();
	virtio_write_address(&victim, QUEUE_DESC, HOLE);
	virtio_write_address(&victim, QUEUE_DRIVER, HOLE);
	virtio_write_address(&victim, QUEUE_DEVICE, HOLE);
	set(QUEUE_ENABLE, 1);
	vq_kick(&victim_queue);
}

static void reset_before_driver_ok(void)
{
	reset_queue();
	vq_again(&victim_queue);
	virtio_ready(&victim);
}

#define RING_RESET VIRTIO_F_RING_RESET

static const struct violation violations[] = {
	{ "all status bits at once", driver_ok_at_once, ANYTHING, RESET, 0, 0 },
	{ "DRIVER_OK and nothing else", driver_ok_alone, ANYTHING, RESET, 0, 0 },
	{ "features that were not offered", features_not_offered, ANYTHING, RESET, 0, 0 },
	{ "no VERSION_1", no_version_1, ANYTHING, RESET, 0, 0 },
	{ "queue enabled before FEATURES_OK", enable_before_features, ANYTHING, RESET, 0, 0 },
	{ "kick before DRIVER_OK", kick_before_driver_ok, ANYTHING, READY, 0, 0 },
	{ "kicks in reset", kick_in_reset, ANYTHING, RESET, 0, 0 },
	{ "DRIVER_OK without queues", run_without_queues, ANYTHING, AGREED, 0, 0 },
	{ "features after FEATURES_OK", features_after_ok, IGNORED, RUNNING, 0, 0 },
	{ "features of words that are not", feature_words_that_are_not, IGNORED, RUNNING, 0, 0 },
	{ "status bits taken back", status_bits_taken_back, IGNORED, RUNNING, 0, 0 },
	{ "status of all ones", status_wild, ANYTHING, RUNNING, 0, 0 },
	{ "DEVICE_NEEDS_RESET written", status_needs_reset, IGNORED, RUNNING, 0, 0 },
	{ "DRIVER_OK again and again", driver_ok_again, IGNORED, RUNNING, 0, 0 },
	{ "a driver that has failed", driver_failed, ANYTHING, RUNNING, 0, 0 },
	{ "thirty resets in a row", resets_in_a_row, ANYTHING, RUNNING, 0, 0 },
	{ "resets under requests", resets_under_requests, IGNORED, RUNNING, 0, 0 },

	{ "descriptors where no RAM is", desc_in_hole, BREAKS, AGREED, 0, 0 },
	{ "driver area where no RAM is", driver_in_hole, BREAKS, AGREED, 0, 0 },
	{ "device area where no RAM is", device_in_hole, BREAKS, AGREED, 0, 0 },
	{ "descriptors beyond RAM", desc_beyond, BREAKS, AGREED, 0, 0 },
	{ "device area on ECAM", device_on_ecam, BREAKS, AGREED, 0, 0 },
	{ "descriptors on its registers", desc_on_registers, BREAKS, AGREED, 0, 0 },
	{ "descriptors not aligned", desc_uneven, BREAKS, AGREED, 0, 0 },
	{ "driver area not aligned", driver_uneven, BREAKS, AGREED, 0, 0 },
	{ "device area not aligned", device_uneven, BREAKS, AGREED, 0, 0 },
	{ "descriptors over RAM's end", desc_over_end, BREAKS, AGREED, 0, 0 },
	{ "driver area at RAM's end", driver_at_end, BREAKS, AGREED, 0, 0 },
	{ "device area over RAM's end", device_over_end, BREAKS, AGREED, 0, 0 },
	{ "descriptors that wrap", desc_wraps, BREAKS, AGREED, 0, 0 },
	{ "device area that wraps", device_wraps, BREAKS, AGREED, 0, 0 },
	{ "all areas in one place", all_in_one_place, ANYTHING, AGREED, 0, 0 },
	{ "all areas at 0", at_zero, ANYTHING, AGREED, 0, 0 },
	{ "queue sizes that cannot be", sizes_that_cannot_be, ANYTHING, AGREED, 0, 0 },
	{ "queue registers after DRIVER_OK", changed_while_running, IGNORED, RUNNING, 0, 0 },
	{ "queue registers of an enabled queue", changed_before_driver_ok, IGNORED, READY, 0, 0 },
	{ "queue set up after DRIVER_OK", enabled_late, ANYTHING, AGREED, 0, 0 },
	{ "queue stopped while it runs", stopped_while_running, ANYTHING, RUNNING, 0, 0 },
	{ "queues that do not exist", queue_that_is_not, IGNORED, RUNNING, 0, 0 },

	{ "queue reset without the feature", reset_not_agreed, IGNORED, RUNNING, 0, 0 },
	{ "queue reset with it", reset_and_set_up, IGNORED, RUNNING, RING_RESET, 0 },
	{ "queue reset under a request", reset_under_a_request, IGNORED, RUNNING, RING_RESET, 0 },
	{ "queue reset and kicked", reset_and_kicked, ANYTHING, RUNNING, RING_RESET, 0 },
	{ "queue reset twice", reset_twice, IGNORED, RUNNING, RING_RESET, 0 },
	{ "queue reset by writing 0", reset_by_zero, IGNORED, RUNNING, RING_RESET, 0 },
	{ "queue reset and put where no RAM is", reset_then_bad_place, BREAKS, RUNNING, RING_RESET,
	  0 },
	{ "queue reset before DRIVER_OK", reset_before_driver_ok, IGNORED, READY, RING_RESET, 0 },
};

void main(void)
{
	if (violations_begin())
		violations_run(violations, ARRAY_SIZE(violations));
}
