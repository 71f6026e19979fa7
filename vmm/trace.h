/*
 * Tracing: what happens, in order, with times. Each thread that touches a traced device puts events
 * into a ring of its own; a writer thread empties the rings into a file that Perfetto and Chrome
 * load (--trace=FILE), or says the same in lines for people (--trace=text). A ring that is full
 * loses events and counts them: whatever a guest does, memory and the guest's pace stay bounded.
 *
 * The hooks are where accounting counts already, so a device that has an account is traced without
 * a line of its own: bus accesses with the register's name (bus_ops.name), requests
 * (account_begin(), account_end()), interrupts, the turns of its event loops. Off, each costs one
 * branch on account->trace.
 */
#ifndef VMM_TRACE_H
#define VMM_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/account.h"
#include "vmm/error.h"

enum trace_kind {
	TRACE_ACCESS,	  /* a register; slice; a: value, b: address, name: register */
	TRACE_EXIT,	  /* another exit of a vCPU; slice; name */
	TRACE_WORK,	  /* a turn of a data plane; slice; name */
	TRACE_KICK,	  /* a doorbell that came as an exit; id: of the arrow */
	TRACE_KICK_TAKEN, /* …and where it led; id */
	TRACE_TAKEN,	  /* a request; id */
	TRACE_DETAIL,	  /* what it asks for; id, name, a: offset, b: bytes */
	TRACE_USED,	  /* the request is given back; id, a: ticks since it was taken */
	TRACE_DONE,	  /* the arrow of a request that ends without an interrupt of its own; id */
	TRACE_INTERRUPT,  /* slice; id: the request that was given back last, or 0; a: message or
			     line, name: the way */
	TRACE_UNWANTED,	  /* an interrupt that the driver suppressed; id as above */
};

/* 64 bytes. */
struct trace_event {
	uint64_t at, end; /* ticks; end 0: an instant */
	uint64_t id, a, b;
	const char *name; /* constant text, or NULL */
	uint32_t account; /* its id */
	uint8_t kind, size;
	bool write, posted;
	uint8_t pad[8];
};

struct trace_config {
	const char *path;    /* NULL: text for people, to stderr */
	const char *devices; /* "blk0+net0"; NULL: all */
	uint64_t limit;	     /* bytes of output, then nothing more is written; 0: no limit */
};

struct trace;

/*
 * Opens the file and traces the accounts that are there and named. -ENOENT names one that is not.
 * Main thread, the devices made, no vCPU running.
 */
int trace_start(struct trace **out, const struct trace_config *config, struct accounts *accounts,
		struct error *e);
/* Writes what is left and closes; vCPUs and devices are paused. NULL is nothing. */
void trace_stop(struct trace *t);

/* Is it traced? */
static inline struct trace *trace_of(const struct account *a)
{
	return a ? __atomic_load_n(&a->trace, __ATOMIC_RELAXED) : NULL;
}

static inline bool trace_on(const struct account *a)
{
	return __builtin_expect(trace_of(a) != NULL, 0);
}

/* Of an account that is traced; fills in account. Copies the event. Any thread. */
void trace_put(struct account *a, struct trace_event *event);
/* What the last request that was given back to this account on this thread was; forgets it. */
uint64_t trace_take_last(struct account *a);

/* ---- for devices ---- */

/* What the request asks for that account_begin() stamped `since`: "read", where, how much. */
static inline void trace_detail(struct account *a, uint64_t since, const char *what,
				uint64_t offset, uint64_t bytes)
{
	struct trace_event event = { .kind = TRACE_DETAIL, .id = since, .name = what };

	if (!trace_on(a))
		return;
	event.a = offset;
	event.b = bytes;
	trace_put(a, &event);
}

/* A doorbell came as an exit, on this thread; and here its work begins. */
void trace_kick(struct account *a);
void trace_kick_taken(struct account *a);

/* The driver wants no interrupt for what was given back. */
static inline void trace_unwanted(struct account *a)
{
	struct trace_event event = { .kind = TRACE_UNWANTED };

	if (!trace_on(a))
		return;
	event.id = trace_take_last(a);
	trace_put(a, &event);
}

/* An interrupt that was sent from `begin` until now; what: its line or vector. */
void trace_interrupt(struct account *a, uint64_t begin, const char *way, uint64_t what);
/* Another exit of a vCPU, served from `begin` until now. */
void trace_exit(struct account *a, uint64_t begin, const char *why);

/* Around a piece of work: begin's result goes to end, which records nothing if it is 0. */
static inline uint64_t trace_work_begin(const struct account *a)
{
	return trace_on(a) ? account_now(a) : 0;
}

void trace_work_put(struct account *a, uint64_t begin, const char *name);

static inline void trace_work_end(struct account *a, uint64_t begin, const char *name)
{
	if (__builtin_expect(begin != 0, 0))
		trace_work_put(a, begin, name);
}

#endif
