/*
 * Patience of a device's thread: see event_turn.h.
 */
#include "vmm/event_turn.h"

#define FIRST_LOOK 16u /* turns before patience ends for the first time */
#define LOOK	   4u  /* turns of a trial */
#define MIN_INTERVAL                                                                               \
	64u /* requests between trials; twice as many after each that changes nothing */
#define MAX_INTERVAL 256u

static bool begin_patience(struct event_turn *t)
{
	t->prompt = false;
	t->turns = t->requests = 0;
	return true;
}

static bool end_patience(struct event_turn *t)
{
	t->interval = t->interval < MIN_INTERVAL ? MIN_INTERVAL : 2 * t->interval;
	if (t->interval > MAX_INTERVAL)
		t->interval = MAX_INTERVAL;
	t->left = t->interval;
	t->prompt = true;
	return true;
}

bool event_turn_took(struct event_turn *t, unsigned n)
{
	if (t->prompt) {
		t->left -= n < t->left ? n : t->left;
		return t->left == 0 && begin_patience(t);
	}
	t->turns++;
	t->requests += n;
	if (t->turns < (t->interval ? LOOK : FIRST_LOOK))
		return false;
	/* One in eight may have found two. */
	if (t->requests <= t->turns + t->turns / 8)
		return end_patience(t);
	t->turns = t->requests = 0;
	t->interval = 0;
	return false;
}
