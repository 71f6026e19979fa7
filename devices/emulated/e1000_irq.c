/*
 * Interrupts of the 82540EM: cause and mask registers, the throttle, and the timers that put causes
 * off. 317453 sections 3.2.7 (receive), 3.4.4 (transmit) and 13.4.17 to 13.4.21. In: causes from
 * both rings, accesses by vCPUs. Out: the INTA# pin.
 *
 * All timers share one timerfd. A timer that is restarted with every frame only moves its deadline;
 * what is due is looked for with every frame and at the end of a turn, when the timerfd is set for
 * the rest. If it fires too early it is set again. So a stream of frames costs no system call each.
 * Delays that would be over by the time the thread has gone to sleep and been woken end with the
 * turn: Linux's driver asks for 8 us.
 */
#include <time.h>

#include "devices/emulated/e1000_internal.h"

#define TIMER_NS 1024u /* of RDTR, RADV, TIDV, TADV */
#define ITR_NS	 256u
#define WAKE_NS	 10000u /* what sleeping and waking costs, about */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- irq.lock held --------------------------------------------------------------------------- */

static void arm(struct e1000_irq *irq, uint64_t now)
{
	uint64_t first = 0;

	for (unsigned i = 0; i < E1000_TIMERS; i++)
		if (irq->deadline[i] && (!first || irq->deadline[i] < first))
			first = irq->deadline[i];
	if (!first || (irq->armed && irq->armed <= first))
		return;
	irq->armed = first;
	event_timer_set(&irq->timer, first > now ? first - now : 1);
}

static void drive(struct e1000 *e, bool level)
{
	if (e->irq.level == level)
		return;
	e->irq.level = level;
	pci_intx_set(&e->f, level);
}

/* Brings the pin to what causes, mask and throttle say. */
static void update(struct e1000 *e)
{
	struct e1000_irq *irq = &e->irq;
	uint64_t now, earliest;

	if (!(irq->icr & irq->ims)) {
		irq->deadline[E1000_TIMER_ITR] = 0;
		drive(e, false);
		return;
	}
	if (irq->level)
		return;
	if (irq->itr) {
		now = now_ns();
		earliest = irq->asserted + (uint64_t)irq->itr * ITR_NS;
		if (irq->asserted && now < earliest) {
			if (!irq->deadline[E1000_TIMER_ITR])
				e1000_account(e, ACCOUNT_IRQS_SUPPRESSED, 1);
			irq->deadline[E1000_TIMER_ITR] = earliest;
			arm(irq, now);
			return;
		}
		irq->asserted = now;
	}
	irq->deadline[E1000_TIMER_ITR] = 0;
	drive(e, true);
}

static void cause(struct e1000 *e, uint32_t causes)
{
	e->irq.icr |= causes;
	update(e);
}

static void stop_pair(struct e1000_irq *irq, enum e1000_timer a, enum e1000_timer b)
{
	irq->deadline[a] = 0;
	irq->deadline[b] = 0;
}

/* The packet timer starts again with each frame, the absolute one with the first. */
static void start_pair(struct e1000_irq *irq, uint64_t now, enum e1000_timer packet,
		       uint32_t packet_delay, enum e1000_timer absolute, uint32_t absolute_delay)
{
	irq->deadline[packet] = now + (uint64_t)packet_delay * TIMER_NS;
	if (absolute_delay && !irq->deadline[absolute])
		irq->deadline[absolute] = now + (uint64_t)absolute_delay * TIMER_NS;
}

static bool due(const struct e1000_irq *irq, enum e1000_timer timer, uint64_t now)
{
	return irq->deadline[timer] && irq->deadline[timer] <= now;
}

/* Either of a pair ends both. */
static bool take_pair(struct e1000_irq *irq, enum e1000_timer a, enum e1000_timer b, uint64_t now)
{
	if (!due(irq, a, now) && !due(irq, b, now))
		return false;
	stop_pair(irq, a, b);
	return true;
}

/* ---- timers ---------------------------------------------------------------------------------- */

/* early: by how much delays may end too soon. True: the partner's pause has ended. */
static bool run_timers(struct e1000 *e, uint64_t early)
{
	struct e1000_irq *irq = &e->irq;
	uint64_t now = now_ns();
	uint32_t causes = 0;
	bool resume = false;

	if (take_pair(irq, E1000_TIMER_TIDV, E1000_TIMER_TADV, now + early))
		causes |= ICR_TXDW;
	if (take_pair(irq, E1000_TIMER_RDTR, E1000_TIMER_RADV, now + early))
		causes |= ICR_RXT0;
	if (due(irq, E1000_TIMER_XOFF, now)) {
		irq->deadline[E1000_TIMER_XOFF] = 0;
		resume = true;
	}
	if (due(irq, E1000_TIMER_ITR, now))
		irq->deadline[E1000_TIMER_ITR] = 0;
	cause(e, causes);
	arm(irq, now);
	return resume;
}

static void fired(void *opaque)
{
	struct e1000 *e = opaque;
	bool resume;

	pthread_mutex_lock(&e->irq.lock);
	e->irq.armed = 0;
	resume = run_timers(e, 0);
	pthread_mutex_unlock(&e->irq.lock);
	if (resume)
		e1000_tx_serve(e);
}

/*
 * Frames of one turn are told together, at its end: they come in bursts of up to 64 KiB, and a
 * guest that is woken by the first of them takes the processor from the others.
 */
void e1000_irq_turn_end(struct e1000 *e)
{
	struct e1000_irq *irq = &e->irq;
	bool any = irq->held != 0;

	pthread_mutex_lock(&irq->lock);
	irq->icr |= irq->held;
	irq->held = 0;
	for (unsigned i = 0; i < E1000_TIMERS; i++)
		any |= irq->deadline[i] != 0;
	if (any && run_timers(e, WAKE_NS))
		e1000_signal(&e->tx.kick);
	pthread_mutex_unlock(&irq->lock);
}

void e1000_irq_received(struct e1000 *e, size_t len)
{
	uint32_t delay = e1000_get(e, E1000_RDTR), small = e1000_get(e, E1000_RSRPD);
	struct e1000_irq *irq = &e->irq;
	uint64_t now;

	if (!delay && !small) {
		e1000_irq_hold(e, ICR_RXT0);
		return;
	}
	pthread_mutex_lock(&irq->lock);
	if (small && len <= small) {
		stop_pair(irq, E1000_TIMER_RDTR, E1000_TIMER_RADV);
		e1000_irq_hold(e, ICR_SRPD | ICR_RXT0);
	} else if (!delay) {
		e1000_irq_hold(e, ICR_RXT0);
	} else {
		now = now_ns();
		if (take_pair(irq, E1000_TIMER_RDTR, E1000_TIMER_RADV, now))
			e1000_irq_hold(e, ICR_RXT0);
		start_pair(irq, now, E1000_TIMER_RDTR, delay, E1000_TIMER_RADV,
			   e1000_get(e, E1000_RADV));
	}
	pthread_mutex_unlock(&irq->lock);
}

void e1000_irq_sent(struct e1000 *e, bool delay)
{
	uint32_t tidv = e1000_get(e, E1000_TIDV);
	struct e1000_irq *irq = &e->irq;
	uint64_t now;

	pthread_mutex_lock(&irq->lock);
	if (delay && tidv) {
		now = now_ns();
		if (take_pair(irq, E1000_TIMER_TIDV, E1000_TIMER_TADV, now))
			e1000_irq_hold(e, ICR_TXDW);
		start_pair(irq, now, E1000_TIMER_TIDV, tidv, E1000_TIMER_TADV,
			   e1000_get(e, E1000_TADV));
	} else {
		stop_pair(irq, E1000_TIMER_TIDV, E1000_TIMER_TADV);
		e1000_irq_hold(e, ICR_TXDW);
	}
	pthread_mutex_unlock(&irq->lock);
}

void e1000_irq_flush_rx(struct e1000 *e)
{
	pthread_mutex_lock(&e->irq.lock);
	stop_pair(&e->irq, E1000_TIMER_RDTR, E1000_TIMER_RADV);
	cause(e, ICR_RXT0);
	pthread_mutex_unlock(&e->irq.lock);
}

void e1000_irq_pause(struct e1000 *e, uint64_t ns)
{
	uint64_t now = now_ns();

	pthread_mutex_lock(&e->irq.lock);
	e->irq.deadline[E1000_TIMER_XOFF] = ns ? now + ns : 0;
	arm(&e->irq, now);
	pthread_mutex_unlock(&e->irq.lock);
}

bool e1000_irq_paused(struct e1000 *e)
{
	/* A stale answer is as good: whoever ends the pause wakes the transmitter. */
	return __atomic_load_n(&e->irq.deadline[E1000_TIMER_XOFF], __ATOMIC_RELAXED) != 0;
}

/* ---- registers ------------------------------------------------------------------------------- */

void e1000_irq_cause(struct e1000 *e, uint32_t causes)
{
	pthread_mutex_lock(&e->irq.lock);
	cause(e, causes);
	pthread_mutex_unlock(&e->irq.lock);
}

uint32_t e1000_irq_read(struct e1000 *e, unsigned offset)
{
	struct e1000_irq *irq = &e->irq;
	uint32_t value = 0;

	pthread_mutex_lock(&irq->lock);
	switch (offset) {
	case E1000_ICR: /* clears all causes, masked or not, and so the pin */
		value = irq->icr;
		irq->icr = 0;
		update(e);
		break;
	case E1000_IMS:
		value = irq->ims;
		break;
	case E1000_ITR:
		value = irq->itr;
		break;
	}
	pthread_mutex_unlock(&irq->lock);
	return value;
}

void e1000_irq_write(struct e1000 *e, unsigned offset, uint32_t value)
{
	struct e1000_irq *irq = &e->irq;

	pthread_mutex_lock(&irq->lock);
	switch (offset) {
	case E1000_ICS:
		irq->icr |= value & ICR_CAUSES;
		break;
	case E1000_IMS:
		irq->ims |= value & ICR_CAUSES;
		break;
	case E1000_IMC:
		irq->ims &= ~value;
		break;
	case E1000_ITR:
		irq->itr = value & 0xffff;
		break;
	}
	update(e);
	pthread_mutex_unlock(&irq->lock);
}

/* ---- life ------------------------------------------------------------------------------------ */

int e1000_irq_init(struct e1000 *e)
{
	e->irq.timer.callback = fired;
	e->irq.timer.opaque = e;
	return event_timer_init(&e->irq.timer, e->loop);
}

void e1000_irq_destroy(struct e1000 *e)
{
	event_timer_destroy(&e->irq.timer);
}

void e1000_irq_reset(struct e1000 *e)
{
	struct e1000_irq *irq = &e->irq;

	pthread_mutex_lock(&irq->lock);
	irq->icr = irq->ims = irq->itr = irq->held = 0;
	irq->asserted = 0;
	for (unsigned i = 0; i < E1000_TIMERS; i++)
		irq->deadline[i] = 0;
	drive(e, false);
	pthread_mutex_unlock(&irq->lock);
}
