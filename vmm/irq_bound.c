/*
 * Lines that eventfds drive: see irq_bound.h. A signal raises the line; the end of the interrupt
 * lowers it before the chip looks at its pin again, and tells the owner, who signals once more if
 * the hardware still wants to be served.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/irq_bound.h"

struct irq_bound {
	struct irq_bounds *bounds;
	struct irq_bound *next;
	struct irq_line pin; /* under the lock, once the source is added */
	int resample;
	struct event_source trigger;
};

void irq_bounds_init(struct irq_bounds *bounds)
{
	bounds->first = NULL;
	pthread_mutex_init(&bounds->lock, NULL);
}

void irq_bounds_destroy(struct irq_bounds *bounds)
{
	pthread_mutex_destroy(&bounds->lock);
}

static void triggered(void *opaque, uint32_t events)
{
	struct irq_bound *b = opaque;
	uint64_t count;

	(void)events;
	pthread_mutex_lock(&b->bounds->lock);
	if (read(b->trigger.fd, &count, sizeof(count)) == sizeof(count))
		irq_line_set(&b->pin, true);
	pthread_mutex_unlock(&b->bounds->lock);
}

int irq_bound_add(struct irq_bounds *bounds, struct event_loop *loop, const struct irq_line *line,
		  int trigger, int resample)
{
	struct irq_bound *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return -ENOMEM;
	b->bounds = bounds;
	b->resample = resample;
	irq_line_init(&b->pin, line->ic, line->gsi);
	b->pin.account = line->account;
	b->trigger = (struct event_source){
		.fd = trigger, .events = EPOLLIN, .callback = triggered, .opaque = b
	};
	pthread_mutex_lock(&bounds->lock);
	err = event_add(loop, &b->trigger);
	if (!err) {
		b->next = bounds->first;
		bounds->first = b;
	}
	pthread_mutex_unlock(&bounds->lock);
	if (err)
		free(b);
	return err;
}

void irq_bound_remove(struct irq_bounds *bounds, int trigger)
{
	struct irq_bound **at, *b;

	pthread_mutex_lock(&bounds->lock);
	for (at = &bounds->first; *at && (*at)->trigger.fd != trigger;)
		at = &(*at)->next;
	b = *at;
	if (b)
		*at = b->next;
	pthread_mutex_unlock(&bounds->lock);
	if (!b)
		return;
	event_del(&b->trigger); /* not under the lock: its callback takes it */
	irq_line_set(&b->pin, false);
	free(b);
}

void irq_bound_ended(struct irq_bounds *bounds, uint32_t lines)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&bounds->lock);
	for (struct irq_bound *b = bounds->first; b; b = b->next) {
		if (!(lines >> b->pin.gsi & 1) || !b->pin.level)
			continue;
		irq_line_set(&b->pin, false);
		if (write(b->resample, &one, sizeof(one)) < 0)
			continue; /* full: signalled already */
	}
	pthread_mutex_unlock(&bounds->lock);
}
