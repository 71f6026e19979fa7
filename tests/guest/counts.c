/*
 * Known work, for what mvm counts: host.py compares --stats with the numbers below. The second
 * serial port is touched by nobody else, and neither is the second source of random numbers, whose
 * registers are read and written here by hand.
 *
 * mvm: --blk=virtio:@tmp/disk --rng=virtio --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,iothread=off --rng=virtio --rng=virtio --cpus=2
 * mvm: --blk=virtio:@tmp/disk,engine=threads,queues=2 --rng=virtio --rng=virtio
 */
#include "guest.h"
#include "virtio.h"

#define SCRATCH 0x2ff /* COM2's */
#define VECTOR	0x50

#define PIO_WRITES  100u
#define PIO_READS   50u
#define STRING	    64u
#define MMIO_READS  40u
#define MMIO_WRITES 12u
#define SINGLE	    20u /* disk writes with a kick each */
#define BATCH	    8u	/* disk reads with one kick */
#define RANDOM	    16u /* requests with interrupts suppressed */

static struct virtio disk, rng, other;
static struct vq queue, rng_queue;

static void ports(void)
{
	static uint8_t bytes[STRING] __attribute__((aligned(STRING)));

	for (unsigned i = 0; i < PIO_WRITES; i++)
		out8(SCRATCH, (uint8_t)i);
	for (unsigned i = 0; i < PIO_READS; i++)
		in8(SCRATCH);
	ins8(SCRATCH, bytes, STRING);
	check_equal(bytes[STRING - 1], PIO_WRITES - 1, "the scratch register holds what came last");
}

static void registers(void)
{
	if (!check(virtio_pci_find(&other, VIRTIO_RNG, 1), "another source"))
		return;
	for (unsigned i = 0; i < MMIO_READS; i++)
		read8(other.common + COMMON_STATUS);
	for (unsigned i = 0; i < MMIO_WRITES; i++)
		write16(other.common + COMMON_QUEUE_SELECT, (uint16_t)i);
}

/* By message, for a line would stay high. Nobody takes them: interrupts are off. */
static bool open_disk(void)
{
	struct pci_function *f = &disk.pci;

	if (!virtio_pci_find(&disk, VIRTIO_BLK, 0) || !virtio_begin(&disk, 0))
		return false;
	msix_control(f, MSIX_ENABLE);
	msix_route(f, 1, VECTOR, 0);
	return vq_setup(&queue, &disk, 0, 0) && virtio_queue_vector(&disk, 0, 1) == 1;
}

static void disk_requests(void)
{
	static struct blk_header header[BATCH];
	static volatile uint8_t status[BATCH];
	uint8_t *buffer = alloc(BATCH * BLK_SECTOR, 4096);
	unsigned good = 0, done = 0;
	uint64_t single = SINGLE;
	uint32_t id, len;

	cmdline_number("single", &single); /* more of them, to measure what counting costs */
	if (!check(open_disk(), "a disk"))
		return;
	virtio_ready(&disk);
	for (unsigned i = 0; i < single; i++)
		good += blk_request(&queue, BLK_OUT, i % 64, buffer, BLK_SECTOR) == BLK_S_OK;
	check_equal(good, single, "sectors written");
	for (unsigned i = 0; i < BATCH; i++) {
		struct vq_buffer part[] = {
			{ (uint64_t)&header[i], sizeof(header[i]), false },
			{ (uint64_t)(buffer + i * BLK_SECTOR), BLK_SECTOR, true },
			{ (uint64_t)&status[i], 1, true },
		};

		header[i] = (struct blk_header){ .type = BLK_IN, .sector = i };
		vq_add(&queue, part, 3);
	}
	vq_kick(&queue);
	check(wait_for((done += vq_take(&queue, &id, &len)) == BATCH, 5000), "sectors read");
}

static void random_requests(void)
{
	static uint64_t word;
	unsigned good = 0;

	if (!check(virtio_pci_find(&rng, VIRTIO_RNG, 0) && virtio_begin(&rng, 0) &&
			   vq_setup(&rng_queue, &rng, 0, 0),
		   "a source of random numbers"))
		return;
	vq_interrupts(&rng_queue, false);
	virtio_ready(&rng);
	for (unsigned i = 0; i < RANDOM; i++)
		good += rng_request(&rng_queue, &word, sizeof(word)) == sizeof(word);
	check_equal(good, RANDOM, "random numbers");
}

void main(void)
{
	ports();
	registers();
	disk_requests();
	random_requests();
}
