/*
 * The form for people: a line an event, in order of time, with the thread that did it and the
 * device it was for. Requests have small numbers, so that one can be followed through the lines.
 */
#include <stdarg.h>
#include <string.h>

#include "vmm/trace_internal.h"

static void line(struct trace *t, const struct trace_item *item, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void line(struct trace *t, const struct trace_item *item, const char *fmt, ...)
{
	const struct trace_event *e = &item->event;
	const struct account *a = trace_account(t, e->account);
	double at = (double)(ticks_time_ns(t->ticks, e->at) - t->ticks->first_ns) / 1e9;
	va_list args;
	int n;

	n = fprintf(t->out, "%12.6f  %-10s %-10s ", at, item->ring->name, a ? a->name : "?");
	if (n > 0)
		t->written += (uint64_t)n;
	va_start(args, fmt);
	n = vfprintf(t->out, fmt, args);
	va_end(args);
	if (n > 0)
		t->written += (uint64_t)n;
	if (e->end > e->at)
		fprintf(t->out, "  (%.1f us)", (double)ticks_to_ns(t->ticks, e->end - e->at) / 1e3);
	fputs(t->raw ? "\r\n" : "\n", t->out);
}

static uint64_t begin(struct trace *t, uint64_t id)
{
	struct trace_open *open = trace_open_slot(t, id);

	*open = (struct trace_open){ .id = id, .number = ++t->requests };
	return open->number;
}

/* 0: it was not seen, or too many have come since. */
static uint64_t number(struct trace *t, uint64_t id)
{
	const struct trace_open *open = trace_open_slot(t, id);

	return open->id == id ? open->number : 0;
}

static void access(struct trace *t, const struct trace_item *item)
{
	const struct trace_event *e = &item->event;

	line(t, item, "%s: %s %s %s 0x%llx", e->posted ? "posted" : "exit",
	     e->write ? "writes" : "reads", e->name ? e->name : "?", e->write ? "=" : "->",
	     (unsigned long long)e->a);
}

void trace_text_item(struct trace *t, const struct trace_item *item)
{
	const struct trace_event *e = &item->event;
	unsigned long long n = number(t, e->id);

	switch ((enum trace_kind)e->kind) {
	case TRACE_ACCESS:
		access(t, item);
		break;
	case TRACE_EXIT:
		line(t, item, "exit: %s", e->name);
		break;
	case TRACE_WORK:
		line(t, item, "%s", e->name);
		break;
	case TRACE_KICK:
		line(t, item, "  the doorbell is passed on");
		break;
	case TRACE_KICK_TAKEN:
		line(t, item, "  that was a doorbell");
		break;
	case TRACE_TAKEN:
		line(t, item, "  request %llu is taken", (unsigned long long)begin(t, e->id));
		break;
	case TRACE_DETAIL:
		line(t, item, "  request %llu: %s, %llu bytes at %llu", n, e->name,
		     (unsigned long long)e->b, (unsigned long long)e->a);
		break;
	case TRACE_USED:
		line(t, item, "  request %llu is given back after %.1f us", n,
		     (double)ticks_to_ns(t->ticks, e->a) / 1e3);
		break;
	case TRACE_DONE:
		break; /* only an arrow's end */
	case TRACE_INTERRUPT:
		line(t, item, "  interrupt by %s, %s %llu", e->name,
		     strcmp(e->name, "line") == 0 ? "line" : "vector", (unsigned long long)e->a);
		break;
	case TRACE_UNWANTED:
		line(t, item, "  no interrupt: the driver does not want one");
		break;
	}
}

void trace_text_end(struct trace *t)
{
	unsigned long long dropped = trace_dropped(t), lost = t->lost;

	if (dropped || lost)
		fprintf(t->out,
			"mvm: %llu events are missing: %llu came faster than they could be "
			"written, %llu were over the limit\n",
			dropped + lost, dropped, lost);
}
