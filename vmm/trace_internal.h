/*
 * Between trace.c, which collects events, and the two forms that they are written in.
 */
#ifndef VMM_TRACE_INTERNAL_H
#define VMM_TRACE_INTERNAL_H

#include <stdio.h>

#include "vmm/trace.h"

#define TRACE_RING 8192u /* events of a thread; a power of two */
#define TRACE_OPEN 4096u /* requests whose numbers the text form remembers; a power of two */

/* A thread's ring: the thread writes head and events, the writer tail. */
struct trace_ring {
	struct trace_ring *next;
	struct trace *trace;
	int tid;
	char name[16];
	bool announced;	  /* the form has told the thread's name; writer */
	uint64_t dropped; /* written by the thread */
	uint64_t head;	  /* free-running; written by the thread */
	char pad[64];
	uint64_t tail; /* written by the writer */
	struct trace_event event[TRACE_RING];
};

/* An event with the thread it is of, as the forms get them: in order of time within a batch. */
struct trace_item {
	struct trace_event event;
	const struct trace_ring *ring;
};

struct trace_open {
	uint64_t id;
	uint64_t number;
};

struct trace {
	struct accounts *accounts;
	const struct ticks *ticks;
	FILE *out;
	bool text;
	bool raw; /* a terminal that wants carriage returns */
	uint64_t limit, written;
	bool full;	     /* the limit was reached */
	uint64_t lost;	     /* events that were not written for it */
	uint64_t last_arrow; /* atomic: ids of kicks */
	/* Guards the list of rings, which only grows, and stop. A leaf. */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct trace_ring *rings;
	unsigned nrings;
	uint64_t homeless; /* atomic: events of threads that have no ring */
	bool stop, hurry;
	bool started;
	pthread_t writer;
	/* The writer's. */
	struct trace_item *batch;
	size_t nbatch, room;
	/* Of the forms. */
	uint64_t events;
	uint64_t requests;
	struct trace_open open[TRACE_OPEN];
};

const struct account *trace_account(const struct trace *t, uint32_t id);
/* The middle number of people: of a request that TRACE_TAKEN told; 0 if it is forgotten. */
static inline struct trace_open *trace_open_slot(struct trace *t, uint64_t id)
{
	return &t->open[(id * 0x9e3779b97f4a7c15ull) >> 52 & (TRACE_OPEN - 1)];
}

/* What was dropped in all rings, and for want of one. */
uint64_t trace_dropped(struct trace *t);

/* ---- trace_json.c ---- */
void trace_json_begin(struct trace *t);
void trace_json_item(struct trace *t, const struct trace_item *item);
void trace_json_end(struct trace *t);

/* ---- trace_text.c ---- */
void trace_text_item(struct trace *t, const struct trace_item *item);
void trace_text_end(struct trace *t);

#endif
