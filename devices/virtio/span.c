/*
 * Consuming a request's bytes: see span.h. The one loop over iovecs that copies.
 */
#include <string.h>

#include "devices/virtio/span.h"

enum span_copy { SPAN_READ, SPAN_WRITE, SPAN_ZERO, SPAN_SKIP };

static size_t span_copy(struct virtq_span *span, enum span_copy how, uint8_t *to,
			const uint8_t *from, size_t len)
{
	size_t done = 0;

	while (done < len && span->n > 0) {
		struct iovec *iov = span->iov;
		size_t part = iov->iov_len < len - done ? iov->iov_len : len - done;

		if (how == SPAN_READ)
			memcpy(to + done, iov->iov_base, part);
		else if (how == SPAN_WRITE)
			memcpy(iov->iov_base, from + done, part);
		else if (how == SPAN_ZERO)
			memset(iov->iov_base, 0, part);
		done += part;
		iov->iov_base = (uint8_t *)iov->iov_base + part;
		iov->iov_len -= part;
		if (iov->iov_len == 0) {
			span->iov++;
			span->n--;
		}
	}
	span->len -= done;
	return done;
}

size_t virtq_span_read(struct virtq_span *span, void *buf, size_t len)
{
	return span_copy(span, SPAN_READ, buf, NULL, len);
}

size_t virtq_span_write(struct virtq_span *span, const void *buf, size_t len)
{
	return span_copy(span, SPAN_WRITE, NULL, buf, len);
}

size_t virtq_span_zero(struct virtq_span *span, size_t len)
{
	return span_copy(span, SPAN_ZERO, NULL, NULL, len);
}

size_t virtq_span_skip(struct virtq_span *span, size_t len)
{
	return span_copy(span, SPAN_SKIP, NULL, NULL, len);
}

uint8_t *virtq_span_cut_last(struct virtq_span *span)
{
	struct iovec *last;

	if (span->n == 0)
		return NULL;
	last = &span->iov[span->n - 1];
	last->iov_len--;
	span->len--;
	if (last->iov_len == 0)
		span->n--;
	return (uint8_t *)last->iov_base + last->iov_len;
}
