/*
 * The local APIC's timer: see lapic.h. Nothing runs while nobody looks: the count follows from the
 * time that is left.
 */
#include "devices/emulated/lapic_internal.h"

#define PERIOD_MIN                                                                                 \
	100000 /* ns: of a shorter one only interrupts that nobody could serve are lost */

/* log2 of the divisor: 000 is 2, 001 is 4 … 110 is 128, 111 is 1. */
static unsigned divide_shift(uint32_t dcr)
{
	unsigned code = (dcr & 3) | (dcr >> 1 & 4);

	return (code + 1) & 7;
}

static int64_t length(uint32_t count, uint32_t dcr)
{
	return ((int64_t)count << divide_shift(dcr)) * APIC_BUS_CLOCK_NS;
}

uint32_t lapic_timer_count(const struct lapic *l, int64_t now)
{
	int64_t unit = length(1, LAPIC_REG(l, LAPIC_TIMER_DCR));

	if (!l->deadline || now >= l->deadline)
		return 0;
	/* The clock may have been read before another thread set the deadline. */
	int64_t left = (l->deadline - now + unit - 1) / unit;

	return left > LAPIC_REG(l, LAPIC_TIMER_ICR) ? LAPIC_REG(l, LAPIC_TIMER_ICR)
						    : (uint32_t)left;
}

void lapic_timer_write(struct lapic *l, unsigned reg, uint32_t value, int64_t now)
{
	uint32_t left = lapic_timer_count(l, now);

	LAPIC_REG(l, reg) = value;
	if (reg == LAPIC_TIMER_ICR)
		left = value;
	/* With another divisor it counts on from where it is. */
	l->deadline = left ? now + length(left, LAPIC_REG(l, LAPIC_TIMER_DCR)) : 0;
}

void lapic_tick(struct lapic *l, int64_t now)
{
	int64_t period, missed;

	if (!l->deadline || now < l->deadline)
		return;
	if (LAPIC_REG(l, LAPIC_LVT_TIMER) & LVT_PERIODIC) {
		period = length(LAPIC_REG(l, LAPIC_TIMER_ICR), LAPIC_REG(l, LAPIC_TIMER_DCR));
		if (period < PERIOD_MIN)
			period = PERIOD_MIN;
		missed = (now - l->deadline) / period;
		l->deadline += (missed + 1) * period;
	} else {
		l->deadline = 0;
	}
	lapic_raise(l, LAPIC_LVT_TIMER);
}

int64_t lapic_next(const struct lapic *l)
{
	/* What nobody hears of can be found out when somebody looks. */
	return LAPIC_REG(l, LAPIC_LVT_TIMER) & LVT_MASKED ? 0 : l->deadline;
}
