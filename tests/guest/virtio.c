/*
 * Virtio as a well-behaved driver uses it: a disk whose bytes are checked on both sides (host.py
 * fills it before and looks at it after), and random numbers.
 *
 * mvm: --blk=virtio:@tmp/disk,serial=tiny --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,serial=tiny,iothread=off --rng=virtio --boot=linux64
 * mvm: --blk=virtio:@tmp/disk,serial=tiny,indirect=off,event-idx=off,queue-size=16 --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,serial=tiny,in-order=on,queues=2 --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,serial=tiny,ro=on --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,serial=tiny,ring=packed --rng=virtio,ring=packed
 * mvm: --blk=virtio:@tmp/disk,serial=tiny,ring=packed,in-order=on,queue-size=24 --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,serial=tiny,transport=mmio --rng=virtio,transport=mmio
 * mvm: --blk=virtio:@tmp/disk,transport=mmio,ring=packed,serial=tiny --rng=virtio --irqchip=user
 * mvm: --blk=vhost:@tmp/disk,serial=tiny --rng=virtio,transport=mmio
 * mvm: --blk=vhost:@tmp/disk,serial=tiny,transport=mmio,ring=packed --rng=virtio,ring=packed
 * mvm: --blk=vhost:@tmp/disk,serial=tiny,engine=threads,queues=2,indirect=off --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,serial=tiny --rng=virtio --irqchip=split
 * mvm: --blk=virtio:@tmp/disk,serial=tiny --rng=virtio --irqchip=user
 * stderr: any
 */
#include "guest.h"
#include "virtio.h"

#define SECTORS	      2048u /* as host.py makes it */
#define KEY_HOST      0x1122334455667788ull
#define KEY_GUEST     0x99aabbccddeeff00ull
#define WRITTEN_FIRST 100u
#define WRITTEN_COUNT 12u
#define WORDS	      (BLK_SECTOR / 8)
#define IN_FLIGHT     8u
#define SOON_MS	      2000

static struct virtio disk, rng;
static struct vq queue, rng_queue;
static uint64_t *buffer; /* of 64 sectors */

/* Each word says where it belongs. */
static void fill(uint64_t *words, uint64_t sector, unsigned count, uint64_t key)
{
	for (unsigned s = 0; s < count; s++)
		for (unsigned i = 0; i < WORDS; i++)
			*words++ = ((sector + s) << 16 | i) ^ key;
}

static bool is_filled(const uint64_t *words, uint64_t sector, unsigned count, uint64_t key)
{
	for (unsigned s = 0; s < count; s++)
		for (unsigned i = 0; i < WORDS; i++)
			if (*words++ != (((sector + s) << 16 | i) ^ key))
				return false;
	return true;
}

static unsigned read_sectors(uint64_t sector, unsigned count)
{
	memset(buffer, 0x5a, count * BLK_SECTOR);
	return blk_request(&queue, BLK_IN, sector, buffer, count * BLK_SECTOR);
}

/* ---- bringing it up -------------------------------------------------------------------------- */

static void initialisation(void)
{
	uint64_t offered;

	if (!check(virtio_find(&disk, VIRTIO_BLK, 0), "a disk by %s",
		   disk.transport ? disk.transport->name : "no transport"))
		return;
	check(disk.config_size >= 8 &&
		      disk.common_size >= (virtio_is_mmio(&disk) ? 0 : COMMON_SIZE),
	      "its structures are as long as they must be");
	check_equal(virtio_status(&disk), 0, "status is 0 after power on");
	offered = virtio_features(&disk);
	check(offered & VIRTIO_F_VERSION_1, "offers VERSION_1: 0x%lx", offered);
	if (!virtio_is_mmio(&disk))
		check_equal(read16(disk.common + COMMON_CONFIG_VECTOR), VIRTIO_NO_VECTOR,
			    "no vector for the configuration");

	virtio_set_status(&disk, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	virtio_set_features(&disk, offered & ~VIRTIO_F_VERSION_1);
	virtio_set_status(&disk, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	check(!(virtio_status(&disk) & VIRTIO_FEATURES_OK), "refuses to be a legacy device");
	check(virtio_reset(&disk), "reset");
	virtio_set_status(&disk, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	virtio_set_features(&disk, VIRTIO_F_VERSION_1 | 1ull << 63);
	virtio_set_status(&disk, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	check(!(virtio_status(&disk) & VIRTIO_FEATURES_OK), "refuses what it has not offered");

	check(virtio_begin(&disk, BLK_F_FLUSH | BLK_F_RO), "agrees to what it has");
	check_equal(blk_capacity(&disk), SECTORS, "capacity");
	check(virtio_queue_max(&disk, 0) > 0, "queue 0 of at most %u", virtio_queue_max(&disk, 0));
	check_equal(virtio_queue_max(&disk, virtio_is_mmio(&disk)
						    ? 64
						    : read16(disk.common + COMMON_NUM_QUEUES)),
		    0, "no queue past the last");
	check(vq_setup(&queue, &disk, 0, 0), "queue set up");
	check_equal(virtio_read(&disk, QUEUE_ENABLE), 1, "and enabled");
	virtio_ready(&disk);
	check_equal(virtio_status(&disk),
		    VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK,
		    "running");
}

/* ---- requests -------------------------------------------------------------------------------- */

static void reads(void)
{
	check_equal(read_sectors(0, 1), BLK_S_OK, "read sector 0");
	check(is_filled(buffer, 0, 1, KEY_HOST), "it holds what the host put there");
	check_equal(read_sectors(SECTORS - 4, 4), BLK_S_OK, "read the last four");
	check(is_filled(buffer, SECTORS - 4, 4, KEY_HOST), "so do they");
	check_equal(read_sectors(600, 24), BLK_S_OK, "read 12 KiB in one buffer");
	check(is_filled(buffer, 600, 24, KEY_HOST), "all of it");
}

/* A request may be cut into buffers anywhere. */
static void framing(void)
{
	static struct blk_header header = { .type = BLK_IN, .sector = 7 };
	uint8_t *to = (uint8_t *)buffer;
	struct vq_buffer odd[] = {
		{ (uint64_t)&header, 5, false },
		{ (uint64_t)&header + 5, 11, false },
		{ (uint64_t)to, 100, true },
		{ (uint64_t)to + 100, 1, true },
		{ (uint64_t)to + 101, 1024 + 1 - 101, true },
	};
	uint32_t len = 0;

	memset(buffer, 0, 3 * BLK_SECTOR);
	to[1024] = 0xff;
	check(vq_request(&queue, odd, ARRAY_SIZE(odd), &len, SOON_MS), "buffers cut anywhere");
	check(to[1024] == BLK_S_OK && is_filled(buffer, 7, 2, KEY_HOST), "the bytes are the same");
	check_equal(len, 2 * BLK_SECTOR + 1, "the length used counts data and status");
}

static void indirect(void)
{
	static struct blk_header header = { .type = BLK_IN, .sector = 40 };
	static volatile uint8_t status = 0xff;
	struct vq_desc *table = alloc(4 * sizeof(*table), 16), whole;
	uint32_t id, len;

	if (!(virtio_features(&disk) & VIRTIO_F_INDIRECT)) {
		print("# no indirect tables: the flags say so\n");
		return;
	}
	if (!check(virtio_begin(&disk, BLK_F_FLUSH | VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX),
		   "with INDIRECT and EVENT_IDX"))
		return;
	vq_again(&queue);
	virtio_ready(&disk);
	table[0] = (struct vq_desc){ (uint64_t)&header, sizeof(header), VQ_NEXT, 1 };
	table[1] = (struct vq_desc){ (uint64_t)buffer, BLK_SECTOR, VQ_NEXT | VQ_WRITE, 2 };
	table[2] = (struct vq_desc){ (uint64_t)&status, 1, VQ_WRITE, 0 };
	vq_table(&queue, table, 3);
	whole = (struct vq_desc){ (uint64_t)table, 3 * sizeof(*table), VQ_INDIRECT, 0 };
	vq_lay(&queue, &whole, 1);
	vq_show(&queue);
	vq_kick(&queue);
	check(wait_for(vq_take(&queue, &id, &len), SOON_MS) && id == 0 && status == BLK_S_OK &&
		      is_filled(buffer, 40, 1, KEY_HOST),
	      "an indirect table");
	check_equal(read_sectors(9, 1), BLK_S_OK, "and a plain chain beside it");
}

static void in_flight(unsigned n)
{
	static struct blk_header header[IN_FLIGHT];
	static volatile uint8_t status[IN_FLIGHT];
	uint32_t id, len;
	unsigned done = 0, good = 0;

	for (unsigned i = 0; i < n; i++) {
		struct vq_buffer part[] = {
			{ (uint64_t)&header[i], sizeof(header[i]), false },
			{ (uint64_t)(buffer + i * WORDS), BLK_SECTOR, true },
			{ (uint64_t)&status[i], 1, true },
		};

		header[i] = (struct blk_header){ .type = BLK_IN, .sector = 1000 + 3 * i };
		status[i] = 0xff;
		vq_add(&queue, part, 3);
	}
	vq_kick(&queue);
	wait_for((done += vq_take(&queue, &id, &len)) == n, SOON_MS);
	for (unsigned i = 0; i < n; i++)
		good += status[i] == BLK_S_OK &&
			is_filled(buffer + i * WORDS, 1000 + 3 * i, 1, KEY_HOST);
	check_equal(done, n, "several requests by one kick");
	check_equal(good, n, "each its own data");
}

static void refusals(void)
{
	char id[BLK_ID_SIZE + 1] = "";

	check_equal(blk_request(&queue, BLK_GET_ID, 0, id, BLK_ID_SIZE), BLK_S_OK, "GET_ID");
	check(!memcmp(id, "tiny", 5), "the serial number is \"%s\"", id);
	check_equal(blk_request(&queue, 0x77, 0, buffer, BLK_SECTOR), BLK_S_UNSUPP,
		    "an unknown request is unsupported");
	check_equal(read_sectors(SECTORS, 1), BLK_S_IOERR, "a read past the end fails");
	check_equal(read_sectors(SECTORS - 1, 2), BLK_S_IOERR, "and over it");
	check_equal(read_sectors(~0ull >> 9, 1), BLK_S_IOERR, "and where bytes would wrap");
	check_equal(read_sectors(~0ull, 1), BLK_S_IOERR, "and sectors");
	check_equal(blk_request(&queue, BLK_IN, 0, buffer, 100), BLK_S_IOERR,
		    "and of no whole sector");
	check_equal(read_sectors(0, 1), BLK_S_OK, "after all that it still reads");
}

static void writes(bool read_only)
{
	fill(buffer, WRITTEN_FIRST, WRITTEN_COUNT, KEY_GUEST);
	check_equal(blk_request(&queue, BLK_OUT, WRITTEN_FIRST, buffer, WRITTEN_COUNT * BLK_SECTOR),
		    read_only ? BLK_S_IOERR : BLK_S_OK, "write 6 KiB%s",
		    read_only ? ": the disk is read-only" : "");
	check_equal(blk_request(&queue, BLK_FLUSH, 0, NULL, 0), BLK_S_OK, "FLUSH");
	check_equal(read_sectors(WRITTEN_FIRST - 1, WRITTEN_COUNT + 2), BLK_S_OK, "read back");
	check(is_filled(buffer + WORDS, WRITTEN_FIRST, WRITTEN_COUNT,
			read_only ? KEY_HOST : KEY_GUEST),
	      read_only ? "nothing was written" : "it is there");
	check(is_filled(buffer, WRITTEN_FIRST - 1, 1, KEY_HOST) &&
		      is_filled(buffer + (WRITTEN_COUNT + 1) * WORDS, WRITTEN_FIRST + WRITTEN_COUNT,
				1, KEY_HOST),
	      "its neighbours are as they were");
	check_equal(blk_request(&queue, BLK_OUT, SECTORS, buffer, BLK_SECTOR), BLK_S_IOERR,
		    "a write past the end fails");
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static void small_queue(void)
{
	bool all = true;

	check(virtio_begin(&disk, BLK_F_FLUSH) && vq_setup(&queue, &disk, 0, 4), "a queue of 4");
	virtio_ready(&disk);
	/* A packed ring's requests lie across its end. */
	for (unsigned i = 0; i < 10; i++)
		all = all && read_sectors(i, 1) == BLK_S_OK && is_filled(buffer, i, 1, KEY_HOST);
	check(all, "goes round and round");
}

/* Once the reset is over, nothing that was asked for before may still arrive. */
static void reset_in_flight(void)
{
	static struct blk_header header = { .type = BLK_IN, .sector = 200 };
	static volatile uint8_t status;
	uint8_t *to = (uint8_t *)buffer;
	bool touched = false;

	for (unsigned round = 0; round < 5; round++) {
		struct vq_buffer part[] = {
			{ (uint64_t)&header, sizeof(header), false },
			{ (uint64_t)to, 32 * BLK_SECTOR, true },
			{ (uint64_t)&status, 1, true },
		};

		vq_add(&queue, part, 3);
		vq_kick(&queue);
		virtio_reset(&disk);
		to[0] = to[32 * BLK_SECTOR - 1] = 0xee;
		status = 0xee;
		delay_us(2000);
		touched = touched || to[0] != 0xee || to[32 * BLK_SECTOR - 1] != 0xee ||
			  status != 0xee;
		virtio_begin(&disk, BLK_F_FLUSH);
		vq_again(&queue);
		virtio_ready(&disk);
	}
	check(!touched, "nothing arrives after a reset");
	check(read_sectors(3, 1) == BLK_S_OK && is_filled(buffer, 3, 1, KEY_HOST),
	      "and it works again");
}

/* A function that may not master the bus does no DMA. */
static void bus_master(void)
{
	static struct blk_header header = { .type = BLK_IN, .sector = 11 };
	static volatile uint8_t status = 0xff;
	struct vq_buffer part[] = {
		{ (uint64_t)&header, sizeof(header), false },
		{ (uint64_t)buffer, BLK_SECTOR, true },
		{ (uint64_t)&status, 1, true },
	};
	uint32_t id, len;

	if (virtio_is_mmio(&disk))
		return;
	pci_write16(disk.pci.bdf, PCI_COMMAND, PCI_COMMAND_MEMORY);
	vq_add(&queue, part, 3);
	vq_kick(&queue);
	check(!wait_for(status != 0xff, 5), "bus master off: the request waits");
	pci_enable(&disk.pci);
	check(wait_for(vq_take(&queue, &id, &len), SOON_MS) && status == BLK_S_OK,
	      "on again: it is served");
}

static void random_numbers(void)
{
	uint64_t a[8] = { 0 }, b[8] = { 0 };
	uint32_t n;
	unsigned same = 0;

	if (!check(virtio_open(&rng, &rng_queue, VIRTIO_RNG, 0, 0), "virtio-rng"))
		return;
	check_equal(rng_request(&rng_queue, a, sizeof(a)), sizeof(a), "64 bytes");
	check_equal(rng_request(&rng_queue, b, sizeof(b)), sizeof(b), "64 more");
	for (unsigned i = 0; i < 8; i++)
		same += a[i] == b[i] || a[i] == 0;
	check_equal(same, 0, "all different");
	memset(a, 0, sizeof(a));
	n = rng_request(&rng_queue, a, 3);
	check(n == 3 && (a[0] & 0xffffff) && !(a[0] >> 24), "3 bytes are 3 bytes");
}

void main(void)
{
	bool read_only;

	buffer = alloc(64 * BLK_SECTOR, 4096);
	initialisation();
	if (check_failures())
		return;
	read_only = disk.features & BLK_F_RO;
	reads();
	framing();
	in_flight(queue.size >= 3 * IN_FLIGHT ? IN_FLIGHT : queue.size / 3);
	refusals();
	writes(read_only);
	indirect();
	small_queue();
	reset_in_flight();
	bus_master();
	random_numbers();
	check(read_sectors(5, 1) == BLK_S_OK, "the disk beside it still reads");
}
