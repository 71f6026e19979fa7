/*
 * Serving queues: from a kick to the device's process(), from its pushes to an interrupt. Runs on
 * the queue's loop with q->lock held; starting, stopping and holding come in from vCPUs and the
 * main thread under the same lock. See virtio.h.
 */
#include "devices/virtio/chain_fifo.h"
#include "devices/virtio/virtio.h"
#include "vmm/trace.h"

/* Chains taken in one pass, and in one turn of the loop before other sources get theirs: a driver
 * that never stops must not keep the loop from its other work. */
#define BATCH  64u
#define BUDGET 256u

static void ring(struct virtio_queue *q, enum account_counter why)
{
	account_add(q->v->dev.account, why, 1);
	account_add(q->v->dev.account, ACCOUNT_SYSCALLS, 1);
	event_signal(q->kick_peer, q->kick.fd);
}

void virtio_queue_kick(struct virtio_queue *q)
{
	ring(q, ACCOUNT_KICKS_OWN);
}

void virtio_queue_doorbell(struct virtio_queue *q)
{
	trace_kick(q->v->dev.account);
	ring(q, ACCOUNT_KICKS_EXIT);
}

/* ---- towards the driver ---------------------------------------------------------------------- */

void virtio_queue_push(struct virtio_queue *q, struct virtq_chain *chain, uint32_t written)
{
	q->stats.bytes += written;
	account_add(q->v->dev.account, ACCOUNT_BYTES_IN, written);
	account_end(q->v->dev.account, chain->taken);
	virtq_push(&q->ring, chain, written);
}

bool virtio_queue_stock(struct virtio_queue *q, struct virtq_chain **chains, unsigned n,
			struct chain_fifo *fifo, size_t least)
{
	bool good = true;

	for (unsigned i = 0; i < n; i++) {
		chains[i]->taken = 0;
		if (good && chains[i]->writable.len < least) {
			virtio_queue_break(q, "buffer too small for what it is for");
			good = false;
		}
		if (good)
			chain_fifo_put(fifo, chains[i]);
		else
			virtio_queue_push(q, chains[i], 0); /* to the pool: the queue is broken */
	}
	return good;
}

void virtio_queue_publish(struct virtio_queue *q)
{
	switch (virtq_publish(&q->ring)) {
	case VIRTQ_NOTIFY:
		q->stats.interrupts++;
		q->v->transport_ops->queue_interrupt(q->v, q);
		break;
	case VIRTQ_SUPPRESSED:
		q->stats.suppressed++;
		account_add(q->v->dev.account, ACCOUNT_IRQS_SUPPRESSED, 1);
		trace_unwanted(q->v->dev.account);
		break;
	case VIRTQ_NOTHING:
		break;
	}
	/* For what a pass had to leave in the ring. */
	if (virtq_has_room_again(&q->ring) && !q->serving)
		virtio_queue_kick(q);
}

static void broken(struct virtio_queue *q)
{
	if (!q->running)
		return;
	q->running = false;
	q->stats.broken++;
	log_guest(&q->broken, "%s: queue %u: %s; it stops until the driver resets the device",
		  q->v->dev.name, q->index, q->ring.error);
	virtio_needs_reset(q->v);
}

void virtio_queue_break(struct virtio_queue *q, const char *why)
{
	virtq_break(&q->ring, why);
	broken(q);
}

/* ---- from the driver ------------------------------------------------------------------------- */

static void take(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	uint64_t now = account_begin(q->v->dev.account, n, q->ring.out), bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		bytes += chains[i]->readable.len;
		chains[i]->taken = now ? now + i : 0;
	}
	q->stats.bytes += bytes;
	q->stats.requests += n;
	account_add(q->v->dev.account, ACCOUNT_BYTES_OUT, bytes);
}

/* One pass over what is available; false: stop here, be it done, broken or another's turn. */
static bool pass(struct virtio_queue *q, unsigned *budget)
{
	struct virtq_chain *chains[BATCH];
	unsigned n;

	virtq_disable_kicks(&q->ring);
	while ((n = virtq_pop(&q->ring, chains, *budget < BATCH ? *budget : BATCH)) > 0) {
		take(q, chains, n);
		q->v->ops->process(q, chains, n);
		virtio_queue_publish(q);
		if (n >= *budget) {
			virtio_queue_kick(q);
			return false;
		}
		*budget -= n;
	}
	if (q->ring.error)
		broken(q);
	return !q->ring.throttled && virtq_enable_kicks(&q->ring);
}

static void serve(struct virtio_queue *q)
{
	unsigned budget = q->v->ops->turn ? q->v->ops->turn : BUDGET;

	if (!virtio_queue_ours(q) || (q->v->ops->pull && q->v->ops->pull(q)))
		return;
	q->serving = true;
	while (pass(q, &budget))
		continue;
	q->serving = false;
	if (q->v->ops->idle)
		q->v->ops->idle(q);
}

void virtio_serve_kicked(void *opaque, uint32_t events)
{
	struct virtio_queue *q = opaque;

	(void)events;
	trace_kick_taken(q->v->dev.account);
	pthread_mutex_lock(&q->lock);
	q->stats.kicks++;
	account_add(q->v->dev.account, ACCOUNT_WAKEUPS, 1);
	serve(q);
	pthread_mutex_unlock(&q->lock);
}

/* ---- control --------------------------------------------------------------------------------- */

static void drain(struct virtio_queue *q)
{
	if (q->ring.out && q->v->ops->drain)
		q->v->ops->drain(q);
}

void virtio_serve_start(struct virtio_queue *q, const struct virtq_config *config, unsigned held)
{
	pthread_mutex_lock(&q->lock);
	q->held = held;
	q->running = true;
	if (virtq_start(&q->ring, config, &q->state) < 0)
		broken(q);
	pthread_mutex_unlock(&q->lock);
	/* The driver may have made chains available before; the loop will look. */
	virtio_queue_kick(q);
}

void virtio_serve_stop(struct virtio_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->running = false;
	virtq_stop(&q->ring); /* what completes from now on is not shown to the driver */
	drain(q);
	q->state = virtq_state_reset();
	pthread_mutex_unlock(&q->lock);
}

void virtio_serve_hold(struct virtio_queue *q, unsigned held)
{
	bool wake;

	pthread_mutex_lock(&q->lock);
	/* Also of a broken queue: its requests must not reach memory any more. */
	if (held && !q->held)
		drain(q); /* what completes now still is shown to the driver */
	q->held = held;
	wake = !held && q->running;
	pthread_mutex_unlock(&q->lock);
	if (wake)
		virtio_queue_kick(q);
}

void virtio_queue_set_outside(struct virtio_queue *q, bool outside)
{
	pthread_mutex_lock(&q->lock);
	if (q->outside != outside) {
		q->outside = outside;
		/* Not taken out of the loop: that would be to wait for it. */
		event_modify(&q->kick, outside ? 0 : EPOLLIN | EPOLLET);
	}
	pthread_mutex_unlock(&q->lock);
}

struct virtq_state virtio_queue_get_state(struct virtio_queue *q)
{
	struct virtq_state state;

	pthread_mutex_lock(&q->lock);
	/* One that broke is where that was: what it did before must not be done again. */
	state = q->ring.started ? virtq_get_state(&q->ring) : q->state;
	pthread_mutex_unlock(&q->lock);
	return state;
}

int virtio_queue_set_state(struct virtio_queue *q, const struct virtq_state *state)
{
	int err = 0;

	pthread_mutex_lock(&q->lock);
	if (q->running)
		err = virtq_set_state(&q->ring, state);
	else
		q->state = *state;
	pthread_mutex_unlock(&q->lock);
	return err;
}
