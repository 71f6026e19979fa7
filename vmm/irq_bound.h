/*
 * Lines that eventfds drive where no chip in the kernel does it (irq_line_bind): what KVM's irqfd
 * with a resample eventfd does, done by an event loop and by the chip's word that the guest has
 * served a line.
 */
#ifndef VMM_IRQ_BOUND_H
#define VMM_IRQ_BOUND_H

#include <pthread.h>
#include <stdint.h>

#include "vmm/irq.h"

struct irq_bound;

struct irq_bounds {
	pthread_mutex_t lock; /* before the line lock of irq.c */
	struct irq_bound *first;
};

void irq_bounds_init(struct irq_bounds *bounds);
void irq_bounds_destroy(struct irq_bounds *bounds);
/* The pin is one of its own on the line's GSI. The loop must run. 0 or -errno. */
int irq_bound_add(struct irq_bounds *bounds, struct event_loop *loop, const struct irq_line *line,
		  int trigger, int resample);
void irq_bound_remove(struct irq_bounds *bounds, int trigger);
/* The guest has served these lines (one bit a GSI): they go low, and their owners look again. */
void irq_bound_ended(struct irq_bounds *bounds, uint32_t lines);

#endif
