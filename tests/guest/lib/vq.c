/*
 * Virtqueues from the driver's side, of either format: see virtio.h.
 */
#include "guest.h"
#include "virtio.h"

#define DEFAULT_MAX 256

void vq_allocate(struct vq *q, const struct virtio *v, unsigned index, uint16_t size)
{
	*q = (struct vq){ .device = v, .index = index, .size = size };
	q->ring = v->features & VIRTIO_F_PACKED ? &vq_packed : &vq_split;
	q->ring->allocate(q);
	q->ring->clear(q);
}

bool vq_setup(struct vq *q, const struct virtio *v, unsigned index, uint16_t size)
{
	uint16_t max = virtio_queue_max(v, index);

	if (size == 0)
		size = max < DEFAULT_MAX ? max : DEFAULT_MAX;
	if (max == 0 || size > max)
		return false;
	vq_allocate(q, v, index, size);
	virtio_queue_set(v, q);
	virtio_queue_enable(v, index);
	return true;
}

void vq_again(struct vq *q)
{
	q->ring->clear(q);
	virtio_queue_set(q->device, q);
	virtio_queue_enable(q->device, q->index);
}

bool vq_is_packed(const struct vq *q)
{
	return q->ring == &vq_packed;
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

void vq_interrupts(struct vq *q, bool wanted)
{
	q->ring->interrupts(q, wanted);
}

void vq_lay(struct vq *q, const struct vq_desc *chain, unsigned n)
{
	q->ring->lay(q, chain, n);
}

void vq_show(struct vq *q)
{
	q->ring->show(q);
}

/* The last two fields are the other way round; a table is used in its order, and has no ids. */
void vq_table(const struct vq *q, struct vq_desc *table, unsigned n)
{
	for (unsigned i = 0; i < n && vq_is_packed(q); i++) {
		table[i].next = table[i].flags & (uint16_t)~VQ_NEXT;
		table[i].flags = 0;
	}
}
