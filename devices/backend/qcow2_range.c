/*
 * Who works on which guest clusters of a qcow2 image. Reads and writes in place share clusters;
 * what changes their place in the file has them alone. Requests are served in the order in which
 * they came, so nobody waits for ever, and each is in the list at most once, so nobody waits in a
 * circle.
 */
#include "devices/backend/qcow2_impl.h"

static bool conflict(const struct block_extent *a, const struct block_extent *b)
{
	return (a->exclusive || b->exclusive) && a->first <= b->last && b->first <= a->last;
}

static void append(struct qcow2 *q, struct block_extent *x)
{
	x->next = NULL;
	x->prev = q->newest;
	*(q->newest ? &q->newest->next : &q->oldest) = x;
	q->newest = x;
	q->nexclusive += x->exclusive;
}

static bool must_wait(const struct qcow2 *q, const struct block_extent *x)
{
	if (!x->exclusive && q->nexclusive == 0)
		return false;
	for (const struct block_extent *other = x->prev; other; other = other->prev)
		if (conflict(x, other))
			return true;
	return false;
}

void qcow2_range_enter(struct qcow2 *q, struct block_extent *x, uint64_t first, uint64_t last,
		       bool exclusive)
{
	x->first = first;
	x->last = last;
	x->exclusive = exclusive;
	pthread_mutex_lock(&q->range_lock);
	append(q, x);
	q->nwaiting++;
	while (must_wait(q, x))
		pthread_cond_wait(&q->range_freed, &q->range_lock);
	q->nwaiting--;
	pthread_mutex_unlock(&q->range_lock);
}

static void detach(struct qcow2 *q, struct block_extent *x)
{
	*(x->prev ? &x->prev->next : &q->oldest) = x->next;
	*(x->next ? &x->next->prev : &q->newest) = x->prev;
	q->nexclusive -= x->exclusive;
}

bool qcow2_range_try_shared(struct qcow2 *q, struct block_extent *x, uint64_t first, uint64_t last)
{
	bool ok;

	x->first = first;
	x->last = last;
	x->exclusive = false;
	pthread_mutex_lock(&q->range_lock);
	append(q, x);
	ok = !must_wait(q, x);
	if (!ok)
		detach(q, x);
	pthread_mutex_unlock(&q->range_lock);
	return ok;
}

void qcow2_range_leave(struct qcow2 *q, struct block_extent *x)
{
	pthread_mutex_lock(&q->range_lock);
	detach(q, x);
	if (q->nwaiting)
		pthread_cond_broadcast(&q->range_freed);
	pthread_mutex_unlock(&q->range_lock);
}
