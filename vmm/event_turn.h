/*
 * When a thread that serves a device gets its turn on a CPU that it shares with the vCPU that rings
 * its doorbell. Patient: once the vCPU has nothing more to do, and then all requests are there.
 * Prompt: at once. Patience is worth ten times the requests where a driver has many to make, and
 * costs half of them where it waits for each, for then the guest goes idle first. Which it is shows
 * only in patience: is there more than one request at a turn? So a prompt thread tries patience now
 * and then, for a few turns. Where a CPU is free none of it makes a difference.
 */
#ifndef VMM_EVENT_TURN_H
#define VMM_EVENT_TURN_H

#include <stdbool.h>

struct event_turn {
	bool prompt;
	unsigned turns, requests; /* since it is patient */
	unsigned left;		  /* requests until it is so again */
	unsigned interval; /* how many that was the last time; 0: it has not been prompt lately */
};

/* It found n > 0 requests at this turn; true: `prompt` has changed. All zero to begin with. */
bool event_turn_took(struct event_turn *t, unsigned n);

#endif
