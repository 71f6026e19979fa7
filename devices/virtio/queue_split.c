/*
 * Split virtqueues: descriptor table, available ring, used ring. Virtio 1.2 section 2.7.
 */
#include "devices/virtio/queue_internal.h"
#include "devices/virtio/queue_track.h"

/* The driver's used_event and our avail_event live behind the rings (section 2.7.7, 2.7.10). */
static const uint16_t *used_event(const struct virtq *q)
{
	return &q->split.avail->ring[q->size];
}

static uint16_t *avail_event(const struct virtq *q)
{
	return (uint16_t *)(void *)&q->split.used->ring[q->size];
}

static int split_map(struct virtq *q, const struct virtq_config *config)
{
	uint64_t size = q->size;

	if (size & (size - 1))
		return virtq_break(q, "queue size is not a power of two");
	q->split.desc = memory_map(q->memory, config->desc, 16 * size, VRING_DESC_ALIGN_SIZE);
	q->split.avail =
		memory_map(q->memory, config->driver, 6 + 2 * size, VRING_AVAIL_ALIGN_SIZE);
	q->split.used = memory_map(q->memory, config->device, 6 + 8 * size, VRING_USED_ALIGN_SIZE);
	if (!q->split.desc || !q->split.avail || !q->split.used) {
		virtq_break(q, "ring misaligned or outside RAM");
		return -EFAULT;
	}
	return 0;
}

/*
 * Follows a chain from descriptor `index` of a table. A chain can visit each entry once, so more
 * steps than entries mean a loop.
 */
static int walk(struct virtq *q, struct virtq_chain *chain, const uint8_t *table, unsigned entries,
		unsigned index, bool nested)
{
	for (unsigned steps = 0; steps < entries; steps++) {
		struct virtq_desc d;
		int err;

		if (index >= entries)
			return virtq_break(q, "descriptor index out of range");
		d = virtq_desc_load(table + index * sizeof(struct vring_desc), false);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (nested)
				return virtq_break(q, "indirect descriptor in an indirect table");
			table = virtq_indirect_table(q, &d, &entries);
			return table ? walk(q, chain, table, entries, 0, true) : -EINVAL;
		}
		err = virtq_chain_add(q, chain, d.addr, d.len, d.flags & VRING_DESC_F_WRITE);
		if (err)
			return err;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		index = d.next;
	}
	return virtq_break(q, "loop in a chain of descriptors");
}

static unsigned split_pop(struct virtq *q, struct virtq_chain **chains, unsigned max)
{
	uint16_t idx = virtq_load16_acquire(&q->split.avail->idx);
	unsigned available = (uint16_t)(idx - q->at.avail_idx), n;

	/* What is available and what is in flight take a descriptor each at least. */
	if (available + q->in_flight > q->size) {
		virtq_break(q, "available index runs ahead of the queue");
		return 0;
	}
	for (n = 0; n < available && n < max; n++) {
		uint16_t head =
			virtq_load16(&q->split.avail->ring[q->at.avail_idx & (q->size - 1)]);
		struct virtq_chain *chain = virtq_chain_begin(q);

		if (!chain) {
			virtq_break(q, "more chains in flight than the queue has");
			break;
		}
		chain->id = head;
		chain->slots = 1;
		if (walk(q, chain, (const uint8_t *)q->split.desc, q->size, head, false) < 0) {
			virtq_chain_abandon(q, chain);
			break;
		}
		virtq_chain_commit(q, chain);
		if (q->track)
			virtq_track_split_take(q, head);
		q->at.avail_idx++;
		q->in_flight++;
		chains[n] = chain;
	}
	return n;
}

static int split_retake(struct virtq *q, struct virtq_chain *chain, unsigned index)
{
	chain->id = (uint16_t)index;
	chain->slots = 1;
	return walk(q, chain, (const uint8_t *)q->split.desc, q->size, index, false);
}

static int split_recover(struct virtq *q)
{
	return virtq_track_split_recover(q, virtq_load16_acquire(&q->split.used->idx));
}

static void split_unpop(struct virtq *q, const struct virtq_chain *chain)
{
	if (q->track)
		virtq_track_split_untake(q, chain->id);
	q->at.avail_idx--;
	q->in_flight--;
}

static void split_put_used(struct virtq *q, const struct virtq_chain *chain, uint32_t written)
{
	struct vring_used_elem *elem = &q->split.used->ring[q->at.used_idx & (q->size - 1)];

	__atomic_store_n(&elem->id, htole32(chain->id), __ATOMIC_RELAXED);
	__atomic_store_n(&elem->len, htole32(written), __ATOMIC_RELAXED);
	q->at.used_idx++;
	q->in_flight--;
	q->pending = true;
	if (q->track)
		virtq_track_split_used(q, chain->id);
}

static enum virtq_notify split_publish(struct virtq *q)
{
	uint16_t old = q->published;
	bool notify;

	virtq_store16_release(&q->split.used->idx, q->at.used_idx);
	q->published = q->at.used_idx;
	if (q->track)
		virtq_track_split_published(q);
	/* The driver stores its wish, then looks at idx; we the other way round (§2.7.7.2). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->event_idx)
		notify = !q->told ||
			 vring_need_event(virtq_load16(used_event(q)), q->published, old);
	else
		notify = !(virtq_load16(&q->split.avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	q->told = true;
	return notify ? VIRTQ_NOTIFY : VIRTQ_SUPPRESSED;
}

static void split_disable_kicks(struct virtq *q)
{
	/* With EVENT_IDX the driver has passed avail_event by now, and kicks no more. */
	if (q->event_idx || q->kicks_off)
		return;
	q->kicks_off = true;
	virtq_store16(&q->split.used->flags, VRING_USED_F_NO_NOTIFY);
}

static bool split_enable_kicks(struct virtq *q)
{
	if (q->event_idx) {
		virtq_store16(avail_event(q), q->at.avail_idx);
	} else if (q->kicks_off) {
		q->kicks_off = false;
		virtq_store16(&q->split.used->flags, 0);
	}
	/* The driver stores idx, then looks whether to kick; we the other way round. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return virtq_load16(&q->split.avail->idx) != q->at.avail_idx;
}

const struct virtq_ring_ops virtq_split_ops = {
	.map = split_map,
	.pop = split_pop,
	.unpop = split_unpop,
	.put_used = split_put_used,
	.publish = split_publish,
	.disable_kicks = split_disable_kicks,
	.enable_kicks = split_enable_kicks,
	.recover = split_recover,
	.retake = split_retake,
};
