/*
 * What the guest says of its memory: Virtio 1.2 section 5.5.6.3. The driver hands in a buffer of
 * statistics and leaves it with us; giving it back asks for new ones. In: those buffers, and a
 * timer. Out: the last known numbers.
 */
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "devices/virtio/balloon.h"

#define STATSQ	    2u	/* where it is if it is negotiated */
#define MAX_ENTRIES 64u /* of one buffer; the specification knows of 16 tags */

static const char *const names[] = VIRTIO_BALLOON_S_NAMES;

bool balloon_stats_receive(struct balloon *b, struct virtio_queue *q, struct virtq_chain *chain)
{
	struct virtio_balloon_stat entry;

	(void)q;
	if (b->waiting.oldest)
		return false;
	chain_fifo_put(&b->waiting, chain);
	pthread_mutex_lock(&b->lock);
	for (unsigned i = 0; i < MAX_ENTRIES; i++) {
		unsigned tag;

		if (virtq_span_read(&chain->readable, &entry, sizeof(entry)) < sizeof(entry))
			break;
		tag = le16toh(entry.tag);
		/* A newer driver tells more than we know of (section 5.5.6.3.2). */
		if (tag >= VIRTIO_BALLOON_S_NR)
			continue;
		b->stats.value[tag] = le64toh(entry.val);
		b->stats.known |= 1u << tag;
	}
	b->stats.updates++;
	pthread_mutex_unlock(&b->lock);
	return true;
}

void balloon_stats_ask(struct balloon *b)
{
	struct virtio_queue *q = virtio_queue_at(&b->v, STATSQ);

	pthread_mutex_lock(&q->lock);
	if (q->running && !q->held && b->waiting.oldest) {
		virtio_queue_push(q, chain_fifo_take(&b->waiting), 0);
		virtio_queue_publish(q);
	}
	pthread_mutex_unlock(&q->lock);
}

static void interval_over(void *opaque)
{
	struct balloon *b = opaque;

	balloon_stats_ask(b);
	event_timer_set(&b->timer, b->stats_interval);
}

int balloon_stats_start(struct balloon *b, struct event_loop *loop, uint64_t seconds,
			struct error *e)
{
	int err;

	if (seconds == 0)
		return 0;
	b->timer.callback = interval_over;
	b->timer.opaque = b;
	err = event_timer_init(&b->timer, loop);
	if (err)
		return error_set_errno(e, err, "cannot make a timer");
	b->stats_interval = seconds * 1000000000u;
	event_timer_set(&b->timer, b->stats_interval);
	return 0;
}

void balloon_stats_reset(struct balloon *b)
{
	pthread_mutex_lock(&b->lock);
	b->stats = (struct balloon_stats){ 0 };
	pthread_mutex_unlock(&b->lock);
}

static void line(FILE *to, const char *name, uint64_t value)
{
	fprintf(to, "%s %llu\n", name, (unsigned long long)value);
}

void balloon_print(struct balloon *b, FILE *to)
{
	pthread_mutex_lock(&b->lock);
	line(to, "target", b->target << BALLOON_PAGE_SHIFT);
	line(to, "actual", b->actual << BALLOON_PAGE_SHIFT);
	line(to, "inflated", b->counters.inflated << BALLOON_PAGE_SHIFT);
	line(to, "deflated", b->counters.deflated << BALLOON_PAGE_SHIFT);
	line(to, "reported", b->counters.reported);
	line(to, "discarded", b->counters.discarded);
	line(to, "updates", b->stats.updates);
	for (unsigned tag = 0; tag < VIRTIO_BALLOON_S_NR; tag++)
		if (b->stats.known & 1u << tag)
			line(to, names[tag], b->stats.value[tag]);
	pthread_mutex_unlock(&b->lock);
}
