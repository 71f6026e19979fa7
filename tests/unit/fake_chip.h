/*
 * An interrupt chip that writes down what it is told: for unit tests of everything that interrupts.
 */
#ifndef TESTS_UNIT_FAKE_CHIP_H
#define TESTS_UNIT_FAKE_CHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/irq.h"

#define FAKE_ROUTES 64

struct fake_chip {
	bool level[IRQ_LINES];
	unsigned line_changes;
	unsigned messages;
	uint64_t address;
	uint32_t data;
	struct {
		int fd; /* 0: unbound */
		uint64_t address;
		uint32_t data;
	} route[FAKE_ROUTES];
	unsigned route_sets, route_clears;
	struct {
		int trigger, resample; /* 0: unbound */
	} line[IRQ_LINES];
	void (*ended)(void *opaque, uint32_t lines);
	void *ended_opaque;
};

extern const struct irq_chip_ops fake_chip_ops;	      /* binds eventfds */
extern const struct irq_chip_ops fake_chip_ops_no_fd; /* does not */
extern const struct irq_chip_ops fake_chip_ops_ends;  /* nor this one, but tells ends */

#endif
