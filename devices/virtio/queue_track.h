/*
 * What is in flight, noted in memory that outlives us: vhost-user's "inflight I/O tracking"
 * (QEMU's docs/interop/vhost-user.rst), both formats of it. In: chains taken, given back and
 * published. Out: a region from which the next process goes on. The queue core and the ring formats
 * use this, nobody else; see virtq_track() in queue.h.
 *
 * The region is shared with a front end that is not trusted: it is read when a queue starts, once
 * and checked, and only written later.
 */
#ifndef DEVICES_VIRTIO_QUEUE_TRACK_H
#define DEVICES_VIRTIO_QUEUE_TRACK_H

#include "devices/virtio/queue_internal.h"

/* After the rings are mapped: what was in flight before us comes first. 0, or broken. */
int virtq_track_begin(struct virtq *q);
/* Are there chains to be taken once more? */
bool virtq_track_waiting(const struct virtq *q);
unsigned virtq_track_retake(struct virtq *q, struct virtq_chain **chains, unsigned max);

/* Split rings: a chain is noted at its head descriptor. */
int virtq_track_split_recover(struct virtq *q, uint16_t used_idx);
void virtq_track_split_take(struct virtq *q, uint16_t head);
void virtq_track_split_untake(struct virtq *q, uint16_t head);
void virtq_track_split_used(struct virtq *q, uint16_t head);
void virtq_track_split_published(struct virtq *q);

/*
 * Packed rings: used descriptors overwrite others' in the ring, so every descriptor is copied. A
 * chain is noted at the entry of its first one.
 */
int virtq_track_packed_recover(struct virtq *q, unsigned *slots);
/* The i-th descriptor of the chain that is being taken. */
int virtq_track_packed_take(struct virtq *q, const struct virtq_desc *d, unsigned i);
uint16_t virtq_track_packed_taken(struct virtq *q); /* that was all of it */
void virtq_track_packed_drop(struct virtq *q);	    /* it stays in the ring */
void virtq_track_packed_untake(struct virtq *q, uint16_t entry);
void virtq_track_packed_used(struct virtq *q, const struct virtq_chain *chain, unsigned pos,
			     uint16_t flags);
/* The i-th that was used since it was published last, about to be shown; false: no more. */
bool virtq_track_packed_showing(struct virtq *q, unsigned i, unsigned *pos, uint16_t *flags);
void virtq_track_packed_shown(struct virtq *q); /* the one named last */
void virtq_track_packed_published(struct virtq *q);
/* The descriptor noted at *at; *at moves to the next of its chain. */
struct virtq_desc virtq_track_packed_noted(const struct virtq *q, unsigned *at);
unsigned virtq_track_packed_slots(const struct virtq *q, unsigned entry);

#endif
