/*
 * Damaged rings: descriptors, indexes, tables and addresses that no driver may produce, in a split
 * or a packed queue. See violation.h for what must hold after each.
 *
 * mvm: --blk=virtio:@tmp/disk --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,ring=packed --rng=virtio,ring=packed
 * mvm: --blk=virtio:@tmp/disk,transport=mmio --rng=virtio,transport=mmio
 * mvm: --blk=virtio:@tmp/disk,transport=mmio,ring=packed --rng=virtio,transport=mmio,ring=packed
 * mvm: --blk=virtio:@tmp/disk,iothread=off --rng=virtio
 * mvm: --blk=virtio:@tmp/disk,iothread=off,in-order=on,ring=packed --rng=virtio
 * mvm: --blk=vhost:@tmp/disk --rng=virtio
 * mvm: --blk=vhost:@tmp/disk,ring=packed --rng=virtio,transport=mmio
 * mvm: --blk=vhost:@tmp/disk,transport=mmio,ring=packed --rng=virtio
 * seconds: 60
 * stderr: any
 */
#include "guest.h"
#include "violation.h"

#define HOLE	 0xd8000000ull /* no RAM */
#define BEYOND	 0x4000000000ull
#define ECAM	 0xe0000000ull
#define IOAPIC	 0xfec00000ull
#define RAM_END	 (64ull << 20)
#define ALL_ONES 0xffffffffu

/* ---- addresses and lengths ------------------------------------------------------------------- */

static void data_at(uint64_t addr, uint32_t len)
{
	good_request();
	chain[1].addr = addr;
	chain[1].len = len;
	offer(3);
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

static void data_on_interrupts(void)
{
	data_at(IOAPIC, BLK_SECTOR);
}

static void data_on_its_own_registers(void)
{
	data_at(victim.common, BLK_SECTOR);
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
	chain[0].addr = HOLE;
	offer(3);
}

static void header_wraps(void)
{
	good_request();
	chain[0].addr = ~0ull - 7;
	offer(3);
}

static void status_in_hole(void)
{
	good_request();
	chain[2].addr = HOLE;
	offer(3);
}

/* ---- chains ---------------------------------------------------------------------------------- */

static void next_out_of_range(void)
{
	good_request();
	chain[1].next = VICTIM_QUEUE;
	offer(3);
}

static void next_far(void)
{
	good_request();
	chain[0].next = 0xffff;
	offer(3);
}

static void loop_to_itself(void)
{
	good_request();
	chain[1].next = 1;
	offer(3);
}

static void loop_to_head(void)
{
	good_request();
	chain[2].flags = VQ_WRITE | VQ_NEXT;
	chain[2].next = 0;
	offer(3);
}

static void longest_chain(void)
{
	for (uint16_t i = 0; i < VICTIM_QUEUE; i++)
		chain[i] = (struct vq_desc){ (uint64_t)page, 16,
					     (uint16_t)(VQ_NEXT | (i ? VQ_WRITE : 0)),
					     (uint16_t)(i + 1) };
	offer(VICTIM_QUEUE);
}

static void readable_after_writable(void)
{
	good_request();
	chain[0].flags = VQ_NEXT | VQ_WRITE;
	chain[1].flags = VQ_NEXT;
	offer(3);
}

static void unknown_flags(void)
{
	good_request();
	chain[1].flags |= 0x7f78;
	offer(3);
}

static void empty_after_full(void)
{
	good_request();
	chain[2].len = 0;
	offer(3);
}

/* One of its values is used, whichever the device reads; neither is both. */
static void changed_while_read(void)
{
	volatile uint64_t *addr = vq_is_packed(&victim_queue) ? &victim_queue.packed[1].addr
							      : &victim_queue.desc[1].addr;
	volatile uint32_t *len = vq_is_packed(&victim_queue) ? &victim_queue.packed[1].len
							     : &victim_queue.desc[1].len;

	good_request();
	offer(3);
	for (unsigned i = 0; i < 2000; i++) {
		*addr = i & 1 ? HOLE : (uint64_t)page;
		*len = i & 2 ? ALL_ONES : BLK_SECTOR;
	}
}

/* ---- the available ring of a split queue ----------------------------------------------------- */

static void two_heads_one_chain(void)
{
	good_request();
	vq_lay(&victim_queue, chain, 3);
	vq_offer(&victim_queue, 0);
	vq_offer(&victim_queue, 0);
	vq_kick(&victim_queue);
}

static void offer_head(uint16_t head)
{
	good_request();
	vq_lay(&victim_queue, chain, 3);
	vq_offer(&victim_queue, head);
	vq_kick(&victim_queue);
}

static void head_out_of_range(void)
{
	offer_head(VICTIM_QUEUE);
}

static void head_far(void)
{
	offer_head(0xffff);
}

static void head_inside_a_chain(void)
{
	offer_head(1);
}

static void index_at(uint16_t idx)
{
	good_request();
	vq_lay(&victim_queue, chain, 3);
	victim_queue.avail->idx = idx;
	vq_kick(&victim_queue);
}

static void index_jumps(void)
{
	index_at(VICTIM_QUEUE + 1);
}

static void index_jumps_far(void)
{
	index_at(0x8000);
}

static void index_goes_back(void)
{
	index_at(0xffff);
}

/* After a request that went well. */
static void index_goes_back_later(void)
{
	uint8_t *sector = page;

	check(blk_request(&victim_queue, BLK_IN, 1, sector, BLK_SECTOR) == BLK_S_OK,
	      "it works at first");
	victim_queue.avail->idx = 0;
	vq_kick(&victim_queue);
}

static void wild_flags(void)
{
	victim_queue.avail->flags = 0xfffe;
	vq_kick(&victim_queue);
}

static void wild_used_event(void)
{
	victim_queue.avail->ring[VICTIM_QUEUE] = 0x7777;
	vq_kick(&victim_queue);
}

/* The used ring is the device's to write, but it lies in the driver's memory. */
static void used_ring_written(void)
{
	victim_queue.used->flags = 0xffff;
	victim_queue.used->ring[0] = (struct vq_used_elem){ ALL_ONES, ALL_ONES };
	victim_queue.used->ring[VICTIM_QUEUE - 1] = (struct vq_used_elem){ ALL_ONES, ALL_ONES };
	vq_kick(&victim_queue);
}

static void kicks_for_nothing(void)
{
	for (unsigned i = 0; i < 50; i++)
		vq_kick(&victim_queue);
}

/* ---- the ring of a packed queue -------------------------------------------------------------- */

static void flags_of_head(uint16_t flags)
{
	good_request();
	vq_lay(&victim_queue, chain, 3);
	victim_queue.packed[0].flags = flags;
	vq_kick(&victim_queue);
	/* As if it had never been. */
	victim_queue.next = 0;
}

static void available_and_used(void)
{
	flags_of_head(VQ_NEXT | VQ_AVAIL | VQ_USED);
}

static void available_next_lap(void)
{
	flags_of_head(VQ_NEXT | VQ_USED);
}

static void neither_available_nor_used(void)
{
	flags_of_head(VQ_NEXT);
}

/* The head is available, and with it all of the chain (section 2.8.1). */
static void tail_not_available(void)
{
	good_request();
	vq_lay(&victim_queue, chain, 3);
	victim_queue.packed[1].flags &= (uint16_t)~VQ_AVAIL;
	victim_queue.packed[2].flags = VQ_WRITE | VQ_USED;
	vq_show(&victim_queue);
	vq_kick(&victim_queue);
}

static void id_out_of_range(void)
{
	good_request();
	vq_lay(&victim_queue, chain, 3);
	for (unsigned i = 0; i < 3; i++)
		victim_queue.packed[i].id = 0xffff;
	vq_show(&victim_queue);
	vq_kick(&victim_queue);
}

static void ids_differ_in_chain(void)
{
	good_request();
	vq_lay(&victim_queue, chain, 3);
	for (unsigned i = 0; i < 3; i++)
		victim_queue.packed[i].id = (uint16_t)(100 * i);
	vq_show(&victim_queue);
	vq_kick(&victim_queue);
}

static void one_id_twice(void)
{
	good_request();
	for (unsigned i = 0; i < 3; i++)
		chain[3 + i] = chain[i];
	offer(6);
}

/* As many as there are, and without a pause as many again, whatever the device has given back. */
static void more_than_there_are(void)
{
	good_request();
	for (unsigned i = 3; i < VICTIM_QUEUE; i++)
		chain[i] = chain[i % 3];
	chain[VICTIM_QUEUE - 1].flags = 0;
	offer(VICTIM_QUEUE);
	for (unsigned i = 0; i < VICTIM_QUEUE; i++)
		victim_queue.packed[i].flags = chain[i].flags | VQ_USED;
	vq_kick(&victim_queue);
}

/* Each is a request of its own, and none is one. */
static void sixteen_scraps(void)
{
	for (unsigned i = 0; i < VICTIM_QUEUE; i++)
		chain[i] = (struct vq_desc){ (uint64_t)page, 16, 0, 0 };
	offer(VICTIM_QUEUE);
}

static void event_of_nowhere(uint16_t off_wrap, uint16_t flags)
{
	victim_queue.driver->off_wrap = off_wrap;
	victim_queue.driver->flags = flags;
	vq_kick(&victim_queue);
}

static void event_offset_wild(void)
{
	event_of_nowhere(0x7fff, VQ_EVENT_DESC);
}

static void event_offset_wild_wrapped(void)
{
	event_of_nowhere(0xffff, VQ_EVENT_DESC);
}

static void event_flags_reserved(void)
{
	event_of_nowhere(0, 0xffff);
}

static void event_not_agreed(void)
{
	event_of_nowhere(3, VQ_EVENT_DESC);
}

static void device_event_written(void)
{
	victim_queue.device_event->off_wrap = 0xffff;
	victim_queue.device_event->flags = 0xffff;
	vq_kick(&victim_queue);
}

/* ---- what the device is asked for ------------------------------------------------------------ */

static void no_status_byte(void)
{
	good_request();
	chain[0].flags = 0;
	offer(1);
}

static void short_header(void)
{
	good_request();
	chain[0].len = 8;
	offer(3);
}

static void header_only_writable(void)
{
	good_request();
	chain[0].flags |= VQ_WRITE;
	offer(3);
}

/* The disk is told to put its data onto the ring it comes from. */
static void data_onto_device_area(void)
{
	data_at(victim_queue.device_area, BLK_SECTOR);
}

static void data_onto_descriptors(void)
{
	data_at(victim_queue.desc_area, VICTIM_QUEUE * 16);
}

static void data_onto_driver_area(void)
{
	data_at(victim_queue.driver_area, BLK_SECTOR);
}

static void status_onto_descriptors(void)
{
	good_request();
	chain[2].addr = victim_queue.desc_area;
	offer(3);
}

#define EVENT_IDX VIRTIO_F_EVENT_IDX

static const struct violation violations[] = {
	{ "data where no RAM is", data_in_hole, BREAKS, RUNNING, 0, 0 },
	{ "data beyond RAM", data_beyond, BREAKS, RUNNING, 0, 0 },
	{ "data over RAM's end", data_over_end, BREAKS, RUNNING, 0, 0 },
	{ "data at RAM's end", data_at_end, BREAKS, RUNNING, 0, 0 },
	{ "data that wraps", data_wraps, BREAKS, RUNNING, 0, 0 },
	{ "data at the highest address", data_at_highest, BREAKS, RUNNING, 0, 0 },
	{ "data on registers", data_on_registers, BREAKS, RUNNING, 0, 0 },
	{ "data on an interrupt chip", data_on_interrupts, BREAKS, RUNNING, 0, 0 },
	{ "data on its own registers", data_on_its_own_registers, BREAKS, RUNNING, 0, 0 },
	{ "data of 4 GiB", data_too_long, BREAKS, RUNNING, 0, 0 },
	{ "data of no length", data_empty, BREAKS, RUNNING, 0, 0 },
	{ "header where no RAM is", header_in_hole, BREAKS, RUNNING, 0, 0 },
	{ "header that wraps", header_wraps, BREAKS, RUNNING, 0, 0 },
	{ "status where no RAM is", status_in_hole, BREAKS, RUNNING, 0, 0 },

	{ "next just out of range", next_out_of_range, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "next far out of range", next_far, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "descriptor that follows itself", loop_to_itself, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "chain that ends at its head", loop_to_head, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "chain of all descriptors and one more", longest_chain, BREAKS, RUNNING, 0, 0 },
	{ "readable after writable", readable_after_writable, BREAKS, RUNNING, 0, 0 },
	{ "flags that do not exist", unknown_flags, ANYTHING, RUNNING, 0, 0 },
	{ "status of no length", empty_after_full, BREAKS, RUNNING, 0, 0 },
	{ "descriptor changed while it is read", changed_while_read, ANYTHING, RUNNING, 0, 0 },

	{ "one chain offered twice", two_heads_one_chain, ANYTHING, RUNNING, 0, ON_SPLIT },
	{ "head just out of range", head_out_of_range, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "head far out of range", head_far, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "head inside a chain", head_inside_a_chain, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "index one too far", index_jumps, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "index far too far", index_jumps_far, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "index that goes back", index_goes_back, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "index that goes back later", index_goes_back_later, BREAKS, RUNNING, 0, ON_SPLIT },
	{ "available flags that do not exist", wild_flags, IGNORED, RUNNING, 0, ON_SPLIT },
	{ "event index of nowhere", wild_used_event, IGNORED, RUNNING, EVENT_IDX, ON_SPLIT },
	{ "used ring written by the driver", used_ring_written, IGNORED, RUNNING, 0, ON_SPLIT },
	{ "fifty kicks for nothing", kicks_for_nothing, IGNORED, RUNNING, 0, 0 },
	{ "fifty kicks with EVENT_IDX", kicks_for_nothing, IGNORED, RUNNING, EVENT_IDX, 0 },

	{ "available and used at once", available_and_used, IGNORED, RUNNING, 0, ON_PACKED },
	{ "available in the next lap", available_next_lap, IGNORED, RUNNING, 0, ON_PACKED },
	{ "neither one", neither_available_nor_used, IGNORED, RUNNING, 0, ON_PACKED },
	{ "tail not available", tail_not_available, ANYTHING, RUNNING, 0, ON_PACKED },
	{ "id out of range", id_out_of_range, ANYTHING, RUNNING, 0, ON_PACKED },
	{ "ids that differ in a chain", ids_differ_in_chain, ANYTHING, RUNNING, 0, ON_PACKED },
	{ "one id for two requests", one_id_twice, ANYTHING, RUNNING, 0, ON_PACKED },
	{ "more descriptors than there are", more_than_there_are, ANYTHING, RUNNING, 0, ON_PACKED },
	{ "a ring full of scraps", sixteen_scraps, BREAKS, RUNNING, 0, ON_PACKED },
	{ "event at 32767", event_offset_wild, IGNORED, RUNNING, EVENT_IDX, ON_PACKED },
	{ "event at 32767, wrapped", event_offset_wild_wrapped, IGNORED, RUNNING, EVENT_IDX,
	  ON_PACKED },
	{ "event flags that do not exist", event_flags_reserved, IGNORED, RUNNING, EVENT_IDX,
	  ON_PACKED },
	{ "event without the feature", event_not_agreed, IGNORED, RUNNING, 0, ON_PACKED },
	{ "device's event written", device_event_written, IGNORED, RUNNING, EVENT_IDX, ON_PACKED },

	{ "request without a status byte", no_status_byte, BREAKS, RUNNING, 0, 0 },
	{ "request with half a header", short_header, BREAKS, RUNNING, 0, 0 },
	{ "request all writable", header_only_writable, BREAKS, RUNNING, 0, 0 },
	{ "data onto the device area", data_onto_device_area, ANYTHING, RUNNING, 0, 0 },
	{ "data onto the descriptors", data_onto_descriptors, ANYTHING, RUNNING, 0, 0 },
	{ "data onto the driver area", data_onto_driver_area, ANYTHING, RUNNING, 0, 0 },
	{ "status onto the descriptors", status_onto_descriptors, ANYTHING, RUNNING, 0, 0 },
};

void main(void)
{
	if (violations_begin())
		violations_run(violations, ARRAY_SIZE(violations));
}
