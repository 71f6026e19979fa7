/*
 * Damaged indirect tables, in a split or a packed queue. See violation.h for what must hold after
 * each.
 *
 * mvm: --blk=virtio:@tmp/disk --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,ring=packed --rng=virtio,ring=packed
 * mvm: --blk=virtio:@tmp/disk,transport=mmio --rng=virtio,transport=mmio
 * mvm: --blk=virtio:@tmp/disk,transport=mmio,ring=packed --rng=virtio,transport=mmio,ring=packed
 * mvm: --blk=vhost:@tmp/disk --rng=virtio,transport=mmio
 * mvm: --blk=vhost:@tmp/disk,transport=mmio,ring=packed --rng=virtio
 * seconds: 60
 * stderr: any
 */
#include "guest.h"
#include "violation.h"

#define HOLE	     0xd8000000ull /* no RAM */
#define RAM_END	     (64ull << 20)
#define HALF_RAM     (32u << 20)
#define ENTRY	     16u
#define MOST_ENTRIES 1024u /* of a chain: UIO_MAXIOV */

static struct vq_desc *table(void)
{
	return (struct vq_desc *)page;
}

/* A good request in a table, not yet in the queue's format. */
static void good_table(void)
{
	good_request();
	for (unsigned i = 0; i < 3; i++)
		table()[i] = chain[i];
}

static void offer_table(uint64_t addr, uint32_t len, uint16_t flags)
{
	vq_table(&victim_queue, table(), 3);
	chain[0] = (struct vq_desc){ addr, len, flags, 1 };
	offer(1);
}

static void not_negotiated(void)
{
	good_table();
	offer_table((uint64_t)page, 3 * ENTRY, VQ_INDIRECT);
}

static void empty(void)
{
	offer_table((uint64_t)page, 0, VQ_INDIRECT);
}

static void uneven(void)
{
	good_table();
	offer_table((uint64_t)page, 3 * ENTRY + 2, VQ_INDIRECT);
}

static void half_an_entry(void)
{
	good_table();
	offer_table((uint64_t)page, ENTRY / 2, VQ_INDIRECT);
}

static void in_hole(void)
{
	offer_table(HOLE, 3 * ENTRY, VQ_INDIRECT);
}

static void over_end(void)
{
	offer_table(RAM_END - ENTRY, 3 * ENTRY, VQ_INDIRECT);
}

static void wraps(void)
{
	offer_table(~0ull - 15, 3 * ENTRY, VQ_INDIRECT);
}

static void on_its_registers(void)
{
	offer_table(victim.common, 3 * ENTRY, VQ_INDIRECT);
}

static void huge(void)
{
	good_table();
	offer_table((uint64_t)page, 0xfffffff0, VQ_INDIRECT);
}

static void one_entry_too_many(void)
{
	good_table();
	offer_table((uint64_t)page, (MOST_ENTRIES + 1) * ENTRY, VQ_INDIRECT);
}

static void nested(void)
{
	good_table();
	vq_table(&victim_queue, table(), 3);
	if (vq_is_packed(&victim_queue))
		table()[0].next = VQ_INDIRECT; /* where packed entries have their flags */
	else
		table()[0].flags = VQ_INDIRECT;
	table()[0].addr = (uint64_t)page;
	chain[0] = (struct vq_desc){ (uint64_t)page, 3 * ENTRY, VQ_INDIRECT, 0 };
	offer(1);
}

static void with_next(void)
{
	good_table();
	chain[1] = (struct vq_desc){ (uint64_t)page + 1024, 16, VQ_WRITE, 0 };
	vq_table(&victim_queue, table(), 3);
	chain[0] = (struct vq_desc){ (uint64_t)page, 3 * ENTRY, VQ_INDIRECT | VQ_NEXT, 1 };
	offer(2);
}

static void after_a_header(void)
{
	good_table();
	vq_table(&victim_queue, table(), 3);
	chain[1] = (struct vq_desc){ (uint64_t)page + ENTRY, 2 * ENTRY, VQ_INDIRECT, 0 };
	offer(2);
}

static void writable(void)
{
	good_table();
	offer_table((uint64_t)page, 3 * ENTRY, VQ_INDIRECT | VQ_WRITE);
}

static void next_out_of_range(void)
{
	good_table();
	table()[1].next = 3;
	offer_table((uint64_t)page, 3 * ENTRY, VQ_INDIRECT);
}

static void next_far(void)
{
	good_table();
	table()[0].next = 0xffff;
	offer_table((uint64_t)page, 3 * ENTRY, VQ_INDIRECT);
}

static void loops(void)
{
	good_table();
	table()[1].next = 0;
	table()[0].flags = table()[1].flags;
	offer_table((uint64_t)page, 3 * ENTRY, VQ_INDIRECT);
}

static void is_the_ring(void)
{
	offer_table(victim_queue.desc_area, 3 * ENTRY, VQ_INDIRECT);
}

static void at_odd_address(void)
{
	good_table();
	vq_table(&victim_queue, table(), 3);
	memcpy(page + 1001, page, 3 * sizeof(*table()));
	chain[0] = (struct vq_desc){ (uint64_t)page + 1001, 3 * ENTRY, VQ_INDIRECT, 0 };
	offer(1);
}

static void entry_in_hole(void)
{
	good_table();
	table()[1].addr = HOLE;
	offer_table((uint64_t)page, 3 * ENTRY, VQ_INDIRECT);
}

static void entry_empty(void)
{
	good_table();
	table()[1].len = 0;
	offer_table((uint64_t)page, 3 * ENTRY, VQ_INDIRECT);
}

static void entries_readable_last(void)
{
	good_table();
	table()[2].flags = 0;
	offer_table((uint64_t)page, 3 * ENTRY, VQ_INDIRECT);
}

/* Each buffer is RAM, and all together are more than the guest has, and more than 4 GiB. */
static void of_gigabytes(void)
{
	const uint16_t n = 200;

	for (uint16_t i = 0; i < n; i++)
		table()[i] =
			(struct vq_desc){ 0x1000000, HALF_RAM, (uint16_t)(i + 1 < n ? VQ_NEXT : 0),
					  (uint16_t)(i + 1) };
	vq_table(&victim_queue, table(), n);
	chain[0] = (struct vq_desc){ (uint64_t)page, n * ENTRY, VQ_INDIRECT, 0 };
	offer(1);
}

/* The device writes into the table that it reads. */
static void data_onto_the_table(void)
{
	good_table();
	table()[1].addr = (uint64_t)page;
	offer_table((uint64_t)page, 3 * ENTRY, VQ_INDIRECT);
}

static void changed_while_read(void)
{
	volatile struct vq_desc *entry = table() + 1;

	good_table();
	offer_table((uint64_t)page, 3 * ENTRY, VQ_INDIRECT);
	for (unsigned i = 0; i < 2000; i++) {
		entry->addr = i & 1 ? HOLE : (uint64_t)page + 1024;
		entry->next = (uint16_t)(i & 2 ? 0xffff : 2);
	}
}

#define INDIRECT VIRTIO_F_INDIRECT

static const struct violation violations[] = {
	{ "table without the feature", not_negotiated, BREAKS, RUNNING, 0, 0 },
	{ "table of no length", empty, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table of 50 bytes", uneven, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table of half an entry", half_an_entry, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table where no RAM is", in_hole, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table over RAM's end", over_end, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table that wraps", wraps, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table on the device's registers", on_its_registers, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table of 4 GiB", huge, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table of one entry too many", one_entry_too_many, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table in a table", nested, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table with a next", with_next, ANYTHING, RUNNING, INDIRECT, 0 },
	{ "table after a plain header", after_a_header, ANYTHING, RUNNING, INDIRECT, 0 },
	{ "table marked as writable", writable, ANYTHING, RUNNING, INDIRECT, 0 },
	{ "next out of the table", next_out_of_range, BREAKS, RUNNING, INDIRECT, ON_SPLIT },
	{ "next far out of the table", next_far, BREAKS, RUNNING, INDIRECT, ON_SPLIT },
	{ "loop in a table", loops, BREAKS, RUNNING, INDIRECT, ON_SPLIT },
	{ "table that is the ring", is_the_ring, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table at an odd address", at_odd_address, ANYTHING, RUNNING, INDIRECT, 0 },
	{ "entry where no RAM is", entry_in_hole, BREAKS, RUNNING, INDIRECT, 0 },
	{ "entry of no length", entry_empty, BREAKS, RUNNING, INDIRECT, 0 },
	{ "entries with the readable last", entries_readable_last, BREAKS, RUNNING, INDIRECT, 0 },
	{ "table of 6 GiB of buffers", of_gigabytes, BREAKS, RUNNING, INDIRECT, 0 },
	{ "data onto the table", data_onto_the_table, ANYTHING, RUNNING, INDIRECT, 0 },
	{ "table changed while it is read", changed_while_read, ANYTHING, RUNNING, INDIRECT, 0 },
};

void main(void)
{
	if (violations_begin())
		violations_run(violations, ARRAY_SIZE(violations));
}
