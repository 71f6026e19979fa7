/*
 * Packed virtqueues: one ring of descriptors that both sides write, and two event suppression
 * structures. Virtio 1.2 section 2.8.
 */
#include "devices/virtio/queue_internal.h"
#include "devices/virtio/queue_track.h"

#define F_AVAIL VIRTQ_F_AVAIL
#define F_USED	VIRTQ_F_USED

static int packed_map(struct virtq *q, const struct virtq_config *config)
{
	uint64_t event = sizeof(struct vring_packed_desc_event);

	q->packed.desc = memory_map(q->memory, config->desc, 16ull * q->size, 16);
	q->packed.driver = memory_map(q->memory, config->driver, event, 4);
	q->packed.device = memory_map(q->memory, config->device, event, 4);
	if (!q->packed.desc || !q->packed.driver || !q->packed.device) {
		virtq_break(q, "ring misaligned or outside RAM");
		return -EFAULT;
	}
	return 0;
}

static bool is_available(uint16_t flags, bool wrap)
{
	return !!(flags & F_AVAIL) == wrap && !!(flags & F_USED) != wrap;
}

/* Section 2.8.7: a table's entries are used in order, NEXT means nothing in it. */
static int walk_indirect(struct virtq *q, struct virtq_chain *chain, const struct virtq_desc *d)
{
	unsigned entries;
	const uint8_t *table = virtq_indirect_table(q, d, &entries);

	if (!table)
		return -EINVAL;
	for (unsigned i = 0; i < entries; i++) {
		struct virtq_desc e =
			virtq_desc_load(table + i * sizeof(struct vring_packed_desc), true);
		int err;

		if (e.flags & VRING_DESC_F_INDIRECT)
			return virtq_break(q, "indirect descriptor in an indirect table");
		err = virtq_chain_add(q, chain, e.addr, e.len, e.flags & VRING_DESC_F_WRITE);
		if (err)
			return err;
	}
	return 0;
}

static int add(struct virtq *q, struct virtq_chain *chain, const struct virtq_desc *d)
{
	if (d->flags & VRING_DESC_F_INDIRECT)
		return walk_indirect(q, chain, d);
	return virtq_chain_add(q, chain, d->addr, d->len, d->flags & VRING_DESC_F_WRITE);
}

/* Takes the chain at ring position `at`; the driver made all of it available at once. */
static int walk(struct virtq *q, struct virtq_chain *chain, unsigned at)
{
	unsigned room = q->size - q->in_flight;

	for (unsigned slots = 1; slots <= room; slots++) {
		struct virtq_desc d = virtq_desc_load(&q->packed.desc[at], true);
		int err = add(q, chain, &d);

		if (!err && q->track)
			err = virtq_track_packed_take(q, &d, slots - 1);
		if (err)
			return err;
		if (!(d.flags & VRING_DESC_F_NEXT)) {
			chain->id = d.next;
			chain->slots = (uint16_t)slots;
			return 0;
		}
		at = at + 1 == q->size ? 0 : at + 1;
	}
	return virtq_break(q, "chain longer than the ring");
}

static void advance(const struct virtq *q, uint16_t *idx, bool *wrap, unsigned slots)
{
	unsigned to = *idx + slots;

	if (to >= q->size) {
		to -= q->size;
		*wrap = !*wrap;
	}
	*idx = (uint16_t)to;
}

static unsigned packed_pop(struct virtq *q, struct virtq_chain **chains, unsigned max)
{
	unsigned n;

	for (n = 0; n < max; n++) {
		uint16_t flags = virtq_load16_acquire(&q->packed.desc[q->at.avail_idx].flags);
		struct virtq_chain *chain;

		if (!is_available(flags, q->at.avail_wrap))
			break;
		if (q->in_flight == q->size) {
			virtq_break(q, "more descriptors available than the ring has");
			break;
		}
		chain = virtq_chain_begin(q);
		if (!chain) {
			virtq_break(q, "more chains in flight than the queue has");
			break;
		}
		if (walk(q, chain, q->at.avail_idx) < 0) {
			if (q->track)
				virtq_track_packed_drop(q);
			virtq_chain_abandon(q, chain);
			break;
		}
		if (q->track)
			chain->entry = virtq_track_packed_taken(q);
		virtq_chain_commit(q, chain);
		advance(q, &q->at.avail_idx, &q->at.avail_wrap, chain->slots);
		q->in_flight += chain->slots;
		chains[n] = chain;
	}
	return n;
}

static void packed_unpop(struct virtq *q, const struct virtq_chain *chain)
{
	unsigned back = q->at.avail_idx < chain->slots ? q->size : 0;

	if (q->track)
		virtq_track_packed_untake(q, chain->entry);
	if (back)
		q->at.avail_wrap = !q->at.avail_wrap;
	q->at.avail_idx = (uint16_t)(q->at.avail_idx + back - chain->slots);
	q->in_flight -= chain->slots;
}

static int packed_retake(struct virtq *q, struct virtq_chain *chain, unsigned index)
{
	unsigned at = index;

	for (unsigned slots = 1; slots <= q->size; slots++) {
		struct virtq_desc d = virtq_track_packed_noted(q, &at);
		int err = add(q, chain, &d);

		if (err)
			return err;
		if (!(d.flags & VRING_DESC_F_NEXT)) {
			/* As many as were counted when it was found, or positions would be wrong.
			 */
			if (slots != virtq_track_packed_slots(q, index))
				break;
			chain->id = d.next;
			chain->slots = (uint16_t)slots;
			chain->entry = (uint16_t)index;
			return 0;
		}
	}
	return virtq_break(q, "region of requests in flight is damaged");
}

static int packed_recover(struct virtq *q)
{
	unsigned slots;
	int err = virtq_track_packed_recover(q, &slots);

	if (err)
		return err;
	q->at.avail_idx = q->at.used_idx;
	q->at.avail_wrap = q->at.used_wrap;
	advance(q, &q->at.avail_idx, &q->at.avail_wrap, slots);
	q->published = q->at.used_idx;
	return 0;
}

/* Tracked: one chain after the other, each shown to the driver and then noted as done. */
static void show_tracked(struct virtq *q)
{
	unsigned pos;
	uint16_t flags;

	for (unsigned i = 0; virtq_track_packed_showing(q, i, &pos, &flags); i++) {
		virtq_store16_release(&q->packed.desc[pos].flags, flags);
		virtq_track_packed_shown(q);
	}
	virtq_track_packed_published(q);
}

/*
 * One descriptor says that the whole chain is used; the driver skips the rest of it. It reads in
 * order, so holding back the flags of a batch's first descriptor holds back the batch.
 */
static void packed_put_used(struct virtq *q, const struct virtq_chain *chain, uint32_t written)
{
	struct vring_packed_desc *d = &q->packed.desc[q->at.used_idx];
	uint16_t flags = q->at.used_wrap ? F_AVAIL | F_USED : 0;
	unsigned pos = 0;

	if (written)
		flags |= VRING_DESC_F_WRITE;
	__atomic_store_n(&d->id, htole16(chain->id), __ATOMIC_RELAXED);
	__atomic_store_n(&d->len, htole32(written), __ATOMIC_RELAXED);
	if (q->track)
		pos = q->at.used_idx;
	else if (q->pending)
		virtq_store16_release(&d->flags, flags);
	else
		q->pending_flags = flags;
	q->pending = true;
	q->pending_slots = (uint16_t)(q->pending_slots + chain->slots);
	advance(q, &q->at.used_idx, &q->at.used_wrap, chain->slots);
	q->in_flight -= chain->slots;
	if (q->track)
		virtq_track_packed_used(q, chain, pos, flags);
}

/*
 * Did the driver ask for an event at a position that this batch covers? Positions are counted from
 * the start of our current lap, so the batch begins below zero if it crossed the ring's end, and so
 * does a wish from the lap before.
 */
static bool event_reached(const struct virtq *q, uint16_t off_wrap, int slots)
{
	int event = off_wrap & ~(1u << VRING_PACKED_EVENT_F_WRAP_CTR);
	bool wrap = off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR;
	int end = q->at.used_idx;

	if (wrap != q->at.used_wrap)
		event -= q->size;
	return event >= end - slots && event < end;
}

static enum virtq_notify packed_publish(struct virtq *q)
{
	int slots = q->pending_slots;
	uint32_t event;
	uint16_t flags;
	bool notify;

	if (q->track)
		show_tracked(q);
	else
		virtq_store16_release(&q->packed.desc[q->published].flags, q->pending_flags);
	q->published = q->at.used_idx;
	q->pending_slots = 0;
	/* The driver stores its wish, then looks for used descriptors; we the other way round. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = le32toh(__atomic_load_n((const uint32_t *)(const void *)q->packed.driver,
					__ATOMIC_RELAXED));
	flags = (uint16_t)(event >> 16) & 3;
	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		notify = false;
	else if (flags == VRING_PACKED_EVENT_FLAG_DESC && q->event_idx && q->told)
		notify = event_reached(q, (uint16_t)event, slots);
	else
		notify = true;
	q->told = true;
	return notify ? VIRTQ_NOTIFY : VIRTQ_SUPPRESSED;
}

static void packed_disable_kicks(struct virtq *q)
{
	/* With EVENT_IDX the driver has passed the position it was given, and kicks no more. */
	if (q->event_idx || q->kicks_off)
		return;
	q->kicks_off = true;
	virtq_store16(&q->packed.device->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
}

static bool packed_enable_kicks(struct virtq *q)
{
	if (q->event_idx) {
		uint16_t off_wrap =
			(uint16_t)(q->at.avail_idx | (unsigned)q->at.avail_wrap
							     << VRING_PACKED_EVENT_F_WRAP_CTR);

		virtq_store16(&q->packed.device->off_wrap, off_wrap);
		virtq_store16_release(&q->packed.device->flags, VRING_PACKED_EVENT_FLAG_DESC);
	} else if (q->kicks_off) {
		q->kicks_off = false;
		virtq_store16(&q->packed.device->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
	}
	/* The driver stores a descriptor, then looks whether to kick; we the other way round. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return is_available(virtq_load16(&q->packed.desc[q->at.avail_idx].flags), q->at.avail_wrap);
}

const struct virtq_ring_ops virtq_packed_ops = {
	.map = packed_map,
	.pop = packed_pop,
	.unpop = packed_unpop,
	.put_used = packed_put_used,
	.publish = packed_publish,
	.disable_kicks = packed_disable_kicks,
	.enable_kicks = packed_enable_kicks,
	.recover = packed_recover,
	.retake = packed_retake,
};
