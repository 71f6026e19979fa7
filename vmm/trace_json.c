/*
 * The form that Perfetto (ui.perfetto.dev) and Chrome (chrome://tracing) load: the Trace Event
 * Format as a JSON array, whose end may be missing, so a trace that was cut off loads as well.
 *
 * - "X" slices on the thread that did it: register accesses and other exits, turns of data planes,
 *   interrupts as they are sent;
 * - "b" … "e" a request's life, from taken to used, on a track of its own beside the threads;
 * - arrows ("s", "t", "f"): from a doorbell's exit to the turn that it started ("kick"), and from
 *   where a request was taken by where it was given back to the interrupt that told the driver
 *   ("path"). An arrow binds to the slice around it.
 *
 * Times are microseconds since the machine was made.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/json.h"
#include "vmm/trace_internal.h"

#define PID 1

static void put(struct trace *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct trace *t, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = vfprintf(t->out, fmt, args);
	va_end(args);
	if (n > 0)
		t->written += (uint64_t)n;
}

static double us(const struct trace *t, uint64_t ticks)
{
	return (double)(ticks_time_ns(t->ticks, ticks) - t->ticks->first_ns) / 1e3;
}

/* Up to the time; what is special to the kind follows, then the closing brace. */
static void event_open(struct trace *t, const struct trace_item *item, char phase, uint64_t at)
{
	put(t, ",\n{\"ph\": \"%c\", \"pid\": %d, \"tid\": %d, \"ts\": %.3f", phase, PID,
	    item->ring->tid, us(t, at));
}

static void slice(struct trace *t, const struct trace_item *item, const char *category)
{
	const struct trace_event *e = &item->event;
	uint64_t end = e->end > e->at ? e->end : e->at;

	event_open(t, item, 'X', e->at);
	put(t, ", \"dur\": %.3f, \"cat\": \"%s\"", (double)ticks_to_ns(t->ticks, end - e->at) / 1e3,
	    category);
}

static void arrow(struct trace *t, const struct trace_item *item, char phase, const char *category)
{
	event_open(t, item, phase, item->event.at);
	put(t, ", \"cat\": \"%s\", \"name\": \"%s\", \"id\": \"0x%llx\"%s}", category, category,
	    (unsigned long long)item->event.id, phase == 'f' ? ", \"bp\": \"e\"" : "");
}

/* The request's own track; open. */
static void life(struct trace *t, const struct trace_item *item, char phase, const char *device)
{
	event_open(t, item, phase, item->event.at);
	put(t, ", \"cat\": \"request\", \"name\": \"%s request\", \"id\": \"0x%llx\"", device,
	    (unsigned long long)item->event.id);
}

static void access(struct trace *t, const struct trace_item *item, const char *device)
{
	const struct trace_event *e = &item->event;

	slice(t, item, "access");
	put(t,
	    ", \"name\": \"%s %s %s\", \"args\": {\"value\": \"0x%llx\", \"address\": \"0x%llx\", "
	    "\"size\": %u%s}}",
	    device, e->write ? "write" : "read", e->name ? e->name : "?", (unsigned long long)e->a,
	    (unsigned long long)e->b, e->size, e->posted ? ", \"posted\": true" : "");
}

/* The first event of a thread says its name, and where it stands: vCPUs first. */
static void announce(struct trace *t, struct trace_ring *ring)
{
	bool vcpu = strncmp(ring->name, "vcpu", 4) == 0;

	put(t,
	    ",\n{\"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"name\": \"thread_name\", \"args\": "
	    "{\"name\": ",
	    PID, ring->tid);
	json_quote(t->out, ring->name);
	put(t, "}}");
	put(t,
	    ",\n{\"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"name\": \"thread_sort_index\", "
	    "\"args\": {\"sort_index\": %d}}",
	    PID, ring->tid, vcpu ? (int)strtol(ring->name + 4, NULL, 10) : 1000);
	ring->announced = true;
}

void trace_json_begin(struct trace *t)
{
	put(t,
	    "[\n{\"ph\": \"M\", \"pid\": %d, \"name\": \"process_name\", \"args\": {\"name\": "
	    "\"mvm\"}}",
	    PID);
}

void trace_json_item(struct trace *t, const struct trace_item *item)
{
	const struct trace_event *e = &item->event;
	const struct account *a = trace_account(t, e->account);
	const char *device = a ? a->name : "?";

	if (!item->ring->announced)
		announce(t, (struct trace_ring *)item->ring);
	switch ((enum trace_kind)e->kind) {
	case TRACE_ACCESS:
		access(t, item, device);
		break;
	case TRACE_EXIT:
		slice(t, item, "exit");
		put(t, ", \"name\": \"exit %s\"}", e->name);
		break;
	case TRACE_WORK:
		slice(t, item, "work");
		put(t, ", \"name\": \"%s %s\"}", device, e->name);
		break;
	case TRACE_KICK:
		arrow(t, item, 's', "kick");
		break;
	case TRACE_KICK_TAKEN:
		arrow(t, item, 'f', "kick");
		break;
	case TRACE_TAKEN:
		life(t, item, 'b', device);
		put(t, "}");
		arrow(t, item, 's', "path");
		break;
	case TRACE_DETAIL:
		life(t, item, 'n', device);
		put(t, ", \"args\": {\"operation\": \"%s\", \"offset\": %llu, \"bytes\": %llu}}",
		    e->name, (unsigned long long)e->a, (unsigned long long)e->b);
		break;
	case TRACE_USED:
		life(t, item, 'e', device);
		put(t, "}");
		arrow(t, item, 't', "path");
		break;
	case TRACE_DONE:
		arrow(t, item, 'f', "path");
		break;
	case TRACE_INTERRUPT:
		slice(t, item, "interrupt");
		put(t, ", \"name\": \"%s interrupt\", \"args\": {\"way\": \"%s\", \"what\": %llu}}",
		    device, e->name, (unsigned long long)e->a);
		if (e->id)
			arrow(t, item, 'f', "path");
		break;
	case TRACE_UNWANTED:
		event_open(t, item, 'i', e->at);
		put(t,
		    ", \"s\": \"t\", \"cat\": \"interrupt\", \"name\": \"%s interrupt not "
		    "wanted\"}",
		    device);
		if (e->id)
			arrow(t, item, 'f', "path");
		break;
	}
}

void trace_json_end(struct trace *t)
{
	put(t,
	    ",\n{\"ph\": \"M\", \"pid\": %d, \"name\": \"mvm\", \"args\": {\"events\": %llu, "
	    "\"dropped\": %llu, \"over_limit\": %llu}}\n]\n",
	    PID, (unsigned long long)t->events, (unsigned long long)trace_dropped(t),
	    (unsigned long long)t->lost);
}
