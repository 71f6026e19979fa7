/*
 * Split virtqueues from the driver's side (Virtio 1.2 section 2.7): see virtio.h. Descriptors are
 * used in turn and never tracked: a test has few requests in flight, and means it when it breaks
 * one.
 */
#include "guest.h"
#include "virtio.h"

#define DEFAULT_MAX 256

static uint16_t split_add(struct vq *q, const struct vq_buffer *part, unsigned n)
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

static bool split_take(struct vq *q, uint32_t *id, uint32_t *len)
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

static const struct vq_ring split = { .add = split_add, .take = split_take };

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

void vq_allocate(struct vq *q, const struct virtio *v, unsigned index, uint16_t size)
{
	*q = (struct vq){ .device = v, .ring = &split, .index = index, .size = size };
	q->desc = alloc(sizeof(*q->desc) * size, 16);
	q->avail = alloc(sizeof(*q->avail) + 2u * size + 2, 2);
	q->used = alloc(sizeof(*q->used) + sizeof(q->used->ring[0]) * size + 2, 4);
}

bool vq_setup(struct vq *q, const struct virtio *v, unsigned index, uint16_t size)
{
	uint16_t max = v->transport->queue_max(v, index);

	if (size == 0)
		size = max < DEFAULT_MAX ? max : DEFAULT_MAX;
	if (max == 0 || size > max)
		return false;
	vq_allocate(q, v, index, size);
	v->transport->queue_set(v, q);
	v->transport->queue_enable(v, index);
	return true;
}

void vq_again(struct vq *q)
{
	q->next = 0;
	q->seen = 0;
	q->avail->flags = 0;
	q->avail->idx = 0;
	q->used->flags = 0;
	q->used->idx = 0;
	q->device->transport->queue_set(q->device, q);
	q->device->transport->queue_enable(q->device, q->index);
}

uint16_t vq_add(struct vq *q, const struct vq_buffer *part, unsigned n)
{
	return q->ring->add(q, part, n);
}

bool vq_take(struct vq *q, uint32_t *id, uint32_t *len)
{
	return q->ring->take(q, id, len);
}

void vq_kick(struct vq *q)
{
	q->device->transport->notify(q->device, q->index);
}

bool vq_request(struct vq *q, const struct vq_buffer *part, unsigned n, uint32_t *len, unsigned ms)
{
	uint32_t id = 0, want = vq_add(q, part, n);

	vq_kick(q);
	return wait_for(vq_take(q, &id, len), ms) && id == want;
}
