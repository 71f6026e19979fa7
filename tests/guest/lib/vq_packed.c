/*
 * Packed virtqueues (Virtio 1.2 section 2.8): see virtio.h. A request's id is the position of its
 * first descriptor; of each is known only how many descriptors it had, which is what the device
 * skips.
 */
#include "guest.h"
#include "virtio.h"

static void allocate(struct vq *q)
{
	q->packed = alloc(sizeof(*q->packed) * q->size, 16);
	q->driver = alloc(sizeof(*q->driver), 4);
	q->device_event = alloc(sizeof(*q->device_event), 4);
	q->slots = alloc(sizeof(*q->slots) * q->size, 2);
	q->desc_area = (uint64_t)q->packed;
	q->driver_area = (uint64_t)q->driver;
	q->device_area = (uint64_t)q->device_event;
}

static void clear(struct vq *q)
{
	q->next = 0;
	q->seen = 0;
	q->wrap = q->seen_wrap = true;
	memset((void *)q->desc_area, 0, sizeof(*q->packed) * q->size);
	q->driver->off_wrap = 0;
	q->driver->flags = VQ_EVENT_ENABLE;
	q->device_event->flags = VQ_EVENT_ENABLE;
}

/* All but the flags. */
static void describe(struct vq *q, unsigned slot, uint64_t addr, uint32_t len, uint16_t id)
{
	volatile struct vq_packed_desc *d = &q->packed[slot];

	d->addr = addr;
	d->len = len;
	d->id = id;
	barrier_compiler();
}

/* The first descriptor's flags come last: with them the device may take all of it. */
static uint16_t add(struct vq *q, const struct vq_buffer *part, unsigned n)
{
	uint16_t head = q->next, head_flags = 0;

	for (unsigned i = 0; i < n; i++) {
		uint16_t flags =
			(uint16_t)((part[i].write ? VQ_WRITE : 0) | (i + 1 < n ? VQ_NEXT : 0) |
				   (q->wrap ? VQ_AVAIL : VQ_USED));

		describe(q, q->next, part[i].addr, part[i].len, head);
		if (i == 0)
			head_flags = flags;
		else
			q->packed[q->next].flags = flags;
		if (++q->next == q->size) {
			q->next = 0;
			q->wrap = !q->wrap;
		}
	}
	q->slots[head] = (uint16_t)n;
	barrier_compiler();
	q->packed[head].flags = head_flags;
	/* Before the device's event is looked at. */
	barrier_full();
	return head;
}

static bool take(struct vq *q, uint32_t *id, uint32_t *len)
{
	volatile struct vq_packed_desc *d = &q->packed[q->seen];
	uint16_t flags = d->flags;

	if (!!(flags & VQ_AVAIL) != q->seen_wrap || !!(flags & VQ_USED) != q->seen_wrap)
		return false;
	barrier_compiler();
	*id = d->id;
	*len = flags & VQ_WRITE ? d->len : 0;
	if (*id >= q->size)
		return false;
	q->seen = (uint16_t)(q->seen + q->slots[*id]);
	if (q->seen >= q->size) {
		q->seen = (uint16_t)(q->seen - q->size);
		q->seen_wrap = !q->seen_wrap;
	}
	return true;
}

static void lay(struct vq *q, const struct vq_desc *chain, unsigned n)
{
	for (unsigned i = 0; i < n && i < q->size; i++) {
		describe(q, i, chain[i].addr, chain[i].len, 0);
		if (i == 0)
			q->laid_flags = chain[i].flags | VQ_AVAIL;
		else
			q->packed[i].flags = chain[i].flags | VQ_AVAIL;
	}
	q->slots[0] = (uint16_t)n;
	q->next = (uint16_t)(n % q->size);
	q->wrap = n < q->size;
}

static void show(struct vq *q)
{
	barrier_compiler();
	q->packed[0].flags = q->laid_flags;
	barrier_full();
}

static void interrupts(struct vq *q, bool wanted)
{
	q->driver->flags = wanted ? VQ_EVENT_ENABLE : VQ_EVENT_DISABLE;
}

const struct vq_ring vq_packed = {
	.allocate = allocate,
	.clear = clear,
	.add = add,
	.take = take,
	.lay = lay,
	.show = show,
	.interrupts = interrupts,
};
