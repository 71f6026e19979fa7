/*
 * Damaged rings: descriptors, indexes, tables and addresses that no driver may produce, on a split
 * queue. See violation.h for what must hold after each.
 *
 * mvm: --blk=virtio:@tmp/disk --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,iothread=off --rng=virtio
 * mvm: --blk=vhost:@tmp/disk --rng=virtio
 * seconds: 20
 * stderr: any
 */
#include "guest.h"
#include "violation.h"

#define HOLE	 0xd8000000ull /* no RAM */
#define BEYOND	 0x4000000000ull
#define ECAM	 0xe0000000ull
#define RAM_END	 (64ull << 20)
#define ALL_ONES 0xffffffffu
#define INDIRECT VIRTIO_F_INDIRECT

static volatile struct vq_desc *descriptor(unsigned i)
{
	return &victim_queue.desc[i];
}

static struct vq_desc *table(void)
{
	return (struct vq_desc *)page;
}

/* ---- addresses and lengths ------------------------------------------------------------------- */

static void data_at(uint64_t addr, uint32_t len)
{
	good_request();
	descriptor(1)->addr = addr;
	descriptor(1)->len = len;
	offer(0);
}

static void data_in_hole(void)
{
	data_at(HOLE, BLK_SECTOR);
}

static void data_beyond(void)
{
	data_at(BEYOND, BLK_SECTOR);
}

static void data_over_end(void)
{
	data_at(RAM_END - 256, BLK_SECTOR);
}

static void data_at_end(void)
{
	data_at(RAM_END, BLK_SECTOR);
}

static void data_wraps(void)
{
	data_at(~0ull - 255, BLK_SECTOR);
}

static void data_at_highest(void)
{
	data_at(~0ull, 1);
}

static void data_on_registers(void)
{
	data_at(ECAM, BLK_SECTOR);
}

static void data_too_long(void)
{
	data_at((uint64_t)page, ALL_ONES);
}

static void data_empty(void)
{
	data_at((uint64_t)page, 0);
}

static void header_in_hole(void)
{
	good_request();
	descriptor(0)->addr = HOLE;
	offer(0);
}

static void status_in_hole(void)
{
	good_request();
	descriptor(2)->addr = HOLE;
	offer(0);
}

/* ---- chains ---------------------------------------------------------------------------------- */

static void next_out_of_range(void)
{
	good_request();
	descriptor(1)->next = VICTIM_QUEUE;
	offer(0);
}

static void next_far(void)
{
	good_request();
	descriptor(0)->next = 0xffff;
	offer(0);
}

static void loop_to_itself(void)
{
	good_request();
	descriptor(1)->next = 1;
	offer(0);
}

static void loop_to_head(void)
{
	good_request();
	descriptor(2)->flags = VQ_WRITE | VQ_NEXT;
	descriptor(2)->next = 0;
	offer(0);
}

static void longest_chain(void)
{
	for (uint16_t i = 0; i < VICTIM_QUEUE; i++)
		vq_describe(&victim_queue, i, (uint64_t)page, 16,
			    (uint16_t)(VQ_NEXT | (i ? VQ_WRITE : 0)), (uint16_t)(i + 1));
	offer(0);
}

static void readable_after_writable(void)
{
	good_request();
	descriptor(0)->flags = VQ_NEXT | VQ_WRITE;
	descriptor(1)->flags = VQ_NEXT;
	offer(0);
}

static void unknown_flags(void)
{
	good_request();
	descriptor(1)->flags |= 0xfff8;
	offer(0);
}

static void two_heads_one_chain(void)
{
	good_request();
	vq_offer(&victim_queue, 0);
	offer(0);
}

/* ---- the available ring ---------------------------------------------------------------------- */

static void head_out_of_range(void)
{
	good_request();
	offer(VICTIM_QUEUE);
}

static void head_far(void)
{
	offer(0xffff);
}

static void index_jumps(void)
{
	good_request();
	victim_queue.avail->idx = VICTIM_QUEUE + 1;
	vq_kick(&victim_queue);
}

static void index_jumps_far(void)
{
	victim_queue.avail->idx = 0x8000;
	vq_kick(&victim_queue);
}

static void index_goes_back(void)
{
	victim_queue.avail->idx = 0xffff;
	vq_kick(&victim_queue);
}

static void wild_flags(void)
{
	good_request();
	victim_queue.avail->flags = 0xfffe;
	vq_kick(&victim_queue);
}

static void wild_used_event(void)
{
	victim_queue.avail->ring[VICTIM_QUEUE] = 0x7777;
	vq_kick(&victim_queue);
}

static void kicks_for_nothing(void)
{
	for (unsigned i = 0; i < 50; i++)
		vq_kick(&victim_queue);
}

/* ---- indirect tables ------------------------------------------------------------------------- */

static void good_table(void)
{
	good_request();
	for (unsigned i = 0; i < 3; i++)
		table()[i] = victim_queue.desc[i];
}

static void offer_table(uint64_t addr, uint32_t len, uint16_t flags)
{
	vq_describe(&victim_queue, 4, addr, len, flags, 5);
	offer(4);
}

static void table_not_negotiated(void)
{
	good_table();
	offer_table((uint64_t)page, 48, VQ_INDIRECT);
}

static void table_empty(void)
{
	offer_table((uint64_t)page, 0, VQ_INDIRECT);
}

static void table_uneven(void)
{
	good_table();
	offer_table((uint64_t)page, 50, VQ_INDIRECT);
}

static void table_in_hole(void)
{
	offer_table(HOLE, 48, VQ_INDIRECT);
}

static void table_wraps(void)
{
	offer_table(~0ull - 15, 48, VQ_INDIRECT);
}

static void table_huge(void)
{
	good_table();
	offer_table((uint64_t)page, 0xfffffff0, VQ_INDIRECT);
}

static void table_nested(void)
{
	good_table();
	table()[0] = (struct vq_desc){ (uint64_t)page, 48, VQ_INDIRECT, 0 };
	offer_table((uint64_t)page, 48, VQ_INDIRECT);
}

static void table_with_next(void)
{
	good_table();
	vq_describe(&victim_queue, 5, (uint64_t)page + 1024, 16, VQ_WRITE, 0);
	offer_table((uint64_t)page, 48, VQ_INDIRECT | VQ_NEXT);
}

static void table_next_out_of_range(void)
{
	good_table();
	table()[1].next = 3;
	offer_table((uint64_t)page, 48, VQ_INDIRECT);
}

static void table_loops(void)
{
	good_table();
	table()[1].next = 0;
	table()[0].flags = table()[1].flags;
	offer_table((uint64_t)page, 48, VQ_INDIRECT);
}

static void table_is_the_ring(void)
{
	good_request();
	offer_table((uint64_t)victim_queue.desc, 48, VQ_INDIRECT);
}

/* ---- what the device is asked for ------------------------------------------------------------ */

static void no_status_byte(void)
{
	good_request();
	descriptor(0)->flags = 0;
	offer(0);
}

static void short_header(void)
{
	good_request();
	descriptor(0)->len = 8;
	offer(0);
}

static void header_only_writable(void)
{
	good_request();
	descriptor(0)->flags |= VQ_WRITE;
	offer(0);
}

/* The disk is told to put its data onto the ring it comes from. */
static void data_onto_used(void)
{
	data_at((uint64_t)victim_queue.used & ~1ull, BLK_SECTOR);
}

static void data_onto_descriptors(void)
{
	data_at((uint64_t)victim_queue.desc, VICTIM_QUEUE * 16);
}

static void data_onto_available(void)
{
	data_at((uint64_t)victim_queue.avail, BLK_SECTOR);
}

static const struct violation violations[] = {
	{ .name = "data where no RAM is", .commit = data_in_hole },
	{ .name = "data beyond RAM", .commit = data_beyond },
	{ .name = "data over RAM's end", .commit = data_over_end },
	{ .name = "data at RAM's end", .commit = data_at_end },
	{ .name = "data that wraps", .commit = data_wraps },
	{ .name = "data at the highest address", .commit = data_at_highest },
	{ .name = "data on registers", .commit = data_on_registers },
	{ .name = "data of 4 GiB", .commit = data_too_long },
	{ .name = "data of no length", .commit = data_empty, .outcome = ANYTHING },
	{ .name = "header where no RAM is", .commit = header_in_hole },
	{ .name = "status where no RAM is", .commit = status_in_hole },
	{ .name = "next just out of range", .commit = next_out_of_range },
	{ .name = "next far out of range", .commit = next_far },
	{ .name = "descriptor that follows itself", .commit = loop_to_itself },
	{ .name = "chain that ends at its head", .commit = loop_to_head },
	{ .name = "chain of all descriptors and one more", .commit = longest_chain },
	{ .name = "readable after writable", .commit = readable_after_writable },
	{ .name = "flags that do not exist", .commit = unknown_flags, .outcome = ANYTHING },
	{ .name = "one chain offered twice", .commit = two_heads_one_chain, .outcome = ANYTHING },
	{ .name = "head just out of range", .commit = head_out_of_range },
	{ .name = "head far out of range", .commit = head_far },
	{ .name = "index one too far", .commit = index_jumps },
	{ .name = "index far too far", .commit = index_jumps_far },
	{ .name = "index that goes back", .commit = index_goes_back },
	{ .name = "available flags that do not exist", .commit = wild_flags, .outcome = IGNORED },
	{ .name = "event index of nowhere",
	  .commit = wild_used_event,
	  .outcome = IGNORED,
	  .features = VIRTIO_F_EVENT_IDX },
	{ .name = "fifty kicks for nothing", .commit = kicks_for_nothing, .outcome = IGNORED },
	{ .name = "indirect table without the feature", .commit = table_not_negotiated },
	{ .name = "indirect table of no length", .commit = table_empty, .features = INDIRECT },
	{ .name = "indirect table of 50 bytes", .commit = table_uneven, .features = INDIRECT },
	{ .name = "indirect table where no RAM is", .commit = table_in_hole, .features = INDIRECT },
	{ .name = "indirect table that wraps", .commit = table_wraps, .features = INDIRECT },
	{ .name = "indirect table of 4 GiB", .commit = table_huge, .features = INDIRECT },
	{ .name = "indirect table in another", .commit = table_nested, .features = INDIRECT },
	{ .name = "indirect table with a next",
	  .commit = table_with_next,
	  .outcome = ANYTHING,
	  .features = INDIRECT },
	{ .name = "next out of the indirect table",
	  .commit = table_next_out_of_range,
	  .features = INDIRECT },
	{ .name = "loop in an indirect table", .commit = table_loops, .features = INDIRECT },
	{ .name = "indirect table that is the ring",
	  .commit = table_is_the_ring,
	  .outcome = ANYTHING,
	  .features = INDIRECT },
	{ .name = "request without a status byte", .commit = no_status_byte },
	{ .name = "request with half a header", .commit = short_header },
	{ .name = "request all writable", .commit = header_only_writable },
	{ .name = "data onto the used ring", .commit = data_onto_used, .outcome = ANYTHING },
	{ .name = "data onto the descriptors",
	  .commit = data_onto_descriptors,
	  .outcome = ANYTHING },
	{ .name = "data onto the available ring",
	  .commit = data_onto_available,
	  .outcome = ANYTHING },
};

void main(void)
{
	if (violations_begin())
		violations_run(violations, ARRAY_SIZE(violations));
}
