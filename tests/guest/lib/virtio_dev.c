/*
 * Requests to block (Virtio 1.2 section 5.2) and entropy devices (section 5.4).
 */
#include "guest.h"
#include "virtio.h"

#define ANSWER_WITHIN_MS 8000

unsigned blk_request(struct vq *q, uint32_t type, uint64_t sector, void *data, uint32_t len)
{
	static struct blk_header header;
	static volatile uint8_t status;
	struct vq_buffer part[3] = { { (uint64_t)&header, sizeof(header), false } };
	unsigned n = 1;
	uint32_t written;

	header = (struct blk_header){ .type = type, .sector = sector };
	status = 0xff;
	if (len)
		part[n++] = (struct vq_buffer){ (uint64_t)data, len, type != BLK_OUT };
	part[n++] = (struct vq_buffer){ (uint64_t)&status, 1, true };
	if (!vq_request(q, part, n, &written, ANSWER_WITHIN_MS))
		return BLK_TIMEOUT;
	return status;
}

uint64_t blk_capacity(const struct virtio *v)
{
	return read32(v->config) | (uint64_t)read32(v->config + 4) << 32;
}

uint32_t rng_request(struct vq *q, void *buf, uint32_t len)
{
	struct vq_buffer part = { (uint64_t)buf, len, true };
	uint32_t written;

	return vq_request(q, &part, 1, &written, ANSWER_WITHIN_MS) ? written : 0;
}
