/*
 * Split virtqueues (Virtio 1.2 section 2.7): see virtio.h. Descriptors are used in turn and never
 * tracked: a test has few requests in flight, and means it when it breaks one.
 */
#include "guest.h"
#include "virtio.h"

static void allocate(struct vq *q)
{
	q->desc = alloc(sizeof(*q->desc) * q->size, 16);
	q->avail = alloc(sizeof(*q->avail) + 2u * q->size + 2, 2);
	q->used = alloc(sizeof(*q->used) + sizeof(q->used->ring[0]) * q->size + 2, 4);
	q->desc_area = (uint64_t)q->desc;
	q->driver_area = (uint64_t)q->avail;
	q->device_area = (uint64_t)q->used;
}

static void clear(struct vq *q)
{
	q->next = 0;
	q->seen = 0;
	q->avail->flags = 0;
	q->avail->idx = 0;
	q->avail->ring[q->size] = 0; /* used_event */
	q->used->flags = 0;
	q->used->idx = 0;
}

void vq_describe(struct vq *q, uint16_t slot, uint64_t addr, uint32_t len, uint16_t flags,
		 uint16_t next)
{
	volatile struct vq_desc *d = &q->desc[slot];

	d->addr = addr;
	d->len = len;
	d->flags = flags;
	d->next = next;
}

void vq_offer(struct vq *q, uint16_t head)
{
	q->avail->ring[q->avail->idx % q->size] = head;
	barrier_compiler();
	q->avail->idx++;
	/* Before the device's event index or flags are looked at. */
	barrier_full();
}

static uint16_t add(struct vq *q, const struct vq_buffer *part, unsigned n)
{
	uint16_t head = q->next;

	if (head + n > q->size)
		head = 0;
	for (unsigned i = 0; i < n; i++) {
		uint16_t flags =
			(uint16_t)((part[i].write ? VQ_WRITE : 0) | (i + 1 < n ? VQ_NEXT : 0));

		vq_describe(q, (uint16_t)(head + i), part[i].addr, part[i].len, flags,
			    (uint16_t)(head + i + 1));
	}
	q->next = (uint16_t)((head + n) % q->size);
	vq_offer(q, head);
	return head;
}

static bool take(struct vq *q, uint32_t *id, uint32_t *len)
{
	volatile struct vq_used_elem *e = &q->used->ring[q->seen % q->size];

	if (q->used->idx == q->seen)
		return false;
	barrier_compiler();
	*id = e->id;
	*len = e->len;
	q->seen++;
	return true;
}

static void lay(struct vq *q, const struct vq_desc *chain, unsigned n)
{
	for (unsigned i = 0; i < n && i < q->size; i++)
		vq_describe(q, (uint16_t)i, chain[i].addr, chain[i].len, chain[i].flags,
			    chain[i].next);
	q->next = (uint16_t)(n % q->size);
}

static void show(struct vq *q)
{
	vq_offer(q, 0);
}

static void interrupts(struct vq *q, bool wanted)
{
	q->avail->flags = wanted ? 0 : VQ_NO_INTERRUPT;
}

const struct vq_ring vq_split = {
	.allocate = allocate,
	.clear = clear,
	.add = add,
	.take = take,
	.lay = lay,
	.show = show,
	.interrupts = interrupts,
};
