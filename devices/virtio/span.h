/*
 * A span is what a device sees of a request: a run of guest memory as host iovecs, already checked
 * against RAM, consumed from the front (headers) or cut from the back (status bytes). Drivers may
 * split a request over descriptors anywhere (Virtio 1.2 section 2.7.4, "message framing"), so
 * devices take bytes, never descriptors.
 */
#ifndef DEVICES_VIRTIO_SPAN_H
#define DEVICES_VIRTIO_SPAN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct virtq_span {
	struct iovec *iov; /* belongs to the chain; changed as bytes are consumed */
	unsigned n;
	uint64_t len; /* bytes, the sum of the iovecs */
};

/* Copies up to len bytes from the front and consumes them; returns how many. */
size_t virtq_span_read(struct virtq_span *span, void *buf, size_t len);
size_t virtq_span_write(struct virtq_span *span, const void *buf, size_t len);
/* Consumes without looking; returns how many. */
size_t virtq_span_skip(struct virtq_span *span, size_t len);
/* Zero bytes to the front, consumed; returns how many. */
size_t virtq_span_zero(struct virtq_span *span, size_t len);
/* Takes the last byte off and returns where it is, or NULL if the span is empty. */
uint8_t *virtq_span_cut_last(struct virtq_span *span);

#endif
