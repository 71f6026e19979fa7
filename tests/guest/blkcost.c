/*
 * What a 4 KiB read of a disk costs, in nanoseconds as this processor's clock sees them: one at a
 * time, and 32 in flight. The processor halts until the device interrupts, as an idle system would.
 * Checked is only that all reads are good; tests/compare/bench puts the models beside one another.
 *
 * mvm: --blk=virtio:@tmp/disk
 * mvm: --blk=vhost:@tmp/disk
 * seconds: 60
 */
#include "apic.h"
#include "guest.h"
#include "trap.h"
#include "virtio.h"

#define VECTOR	0x50
#define DEPTH	32u
#define BLOCK	4096u
#define SOON_MS 5000

static struct virtio disk;
static struct vq queue;
static struct blk_header header[DEPTH];
static volatile uint8_t status[DEPTH];
static uint8_t *buffer;

static bool open_disk(void)
{
	if (!virtio_pci_find(&disk, VIRTIO_BLK, 0) || !virtio_begin(&disk, VIRTIO_F_EVENT_IDX))
		return false;
	lapic_enable();
	irq_handler(VECTOR, NULL);
	msix_control(&disk.pci, MSIX_ENABLE);
	msix_route(&disk.pci, 1, VECTOR, 0);
	return vq_setup(&queue, &disk, 0, 0) && virtio_queue_vector(&disk, 0, 1) == 1;
}

static void submit(unsigned slot, uint64_t block)
{
	struct vq_buffer part[] = {
		{ (uint64_t)&header[slot], sizeof(header[slot]), false },
		{ (uint64_t)(buffer + slot * BLOCK), BLOCK, true },
		{ (uint64_t)&status[slot], 1, true },
	};

	header[slot] =
		(struct blk_header){ .type = BLK_IN, .sector = block * (BLOCK / BLK_SECTOR) };
	status[slot] = 0xff;
	vq_add(&queue, part, 3);
}

/* Takes the next that was used, or asks for an interrupt and halts; that cannot come in between,
 * for interrupts are off. */
static bool await(uint64_t end)
{
	uint32_t id, len;

	while (!vq_take(&queue, &id, &len)) {
		if (now_us() > end)
			return false;
		queue.avail->ring[queue.size] = queue.seen; /* used_event */
		barrier_full();
		if (queue.used->idx == queue.seen)
			asm volatile("sti; hlt; cli" : : : "memory");
	}
	return true;
}

/* All of a batch is shown with one kick, and taken when all of it is there. */
static void reads(unsigned depth, unsigned n)
{
	uint64_t blocks = blk_capacity(&disk) / (BLOCK / BLK_SECTOR);
	uint64_t start = rdtsc(), end = now_us() + SOON_MS * 1000ull + n * 1000ull;
	unsigned good = 0;

	for (unsigned i = 0; i < n; i += depth) {
		for (unsigned slot = 0; slot < depth; slot++)
			submit(slot, (i + slot) * 2654435761u % blocks);
		vq_kick(&queue);
		for (unsigned slot = 0; slot < depth; slot++)
			if (!await(end))
				break;
		for (unsigned slot = 0; slot < depth; slot++)
			good += status[slot] == BLK_S_OK;
	}
	print("# cost: a read, %u in flight %lu ns\n", depth,
	      (rdtsc() - start) * 1000 / (tsc_khz() / 1000) / n);
	check_equal(good, n, "reads, %u in flight", depth);
}

void main(void)
{
	uint64_t n = 512;

	cmdline_number("reads", &n); /* more of them, to measure */
	if (!check(open_disk(), "a disk"))
		return;
	buffer = alloc(DEPTH * BLOCK, BLOCK);
	virtio_ready(&disk);
	reads(1, (unsigned)n);
	reads(DEPTH, (unsigned)n);
}
