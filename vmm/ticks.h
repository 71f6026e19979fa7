/*
 * Time for measuring requests: ticks that cost next to nothing to read, and how many nanoseconds
 * they are. Where the CPU's counter runs steadily (invariant TSC) it is read directly; else ticks
 * are CLOCK_MONOTONIC's nanoseconds.
 */
#ifndef VMM_TICKS_H
#define VMM_TICKS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct ticks {
	bool counter;	      /* ticks are the CPU's, not nanoseconds */
	uint64_t first;	      /* ticks at first_ns */
	uint64_t first_ns;    /* CLOCK_MONOTONIC */
	uint64_t ns_per_tick; /* 32 bits of integer, 32 of fraction */
};

static inline uint64_t ticks_monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t ticks_now(const struct ticks *t)
{
#if defined(__x86_64__)
	if (__builtin_expect(t->counter, 1))
		return __builtin_ia32_rdtsc();
#endif
	(void)t;
	return ticks_monotonic_ns();
}

static inline uint64_t ticks_to_ns(const struct ticks *t, uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * t->ns_per_tick) >> 32);
}

/* CLOCK_MONOTONIC of a tick. */
static inline uint64_t ticks_time_ns(const struct ticks *t, uint64_t at)
{
	return at < t->first ? t->first_ns : t->first_ns + ticks_to_ns(t, at - t->first);
}

/* Begins; the rate is guessed (1 ns) until ticks_calibrate(). */
void ticks_init(struct ticks *t);
/*
 * Learns the rate from the time since ticks_init(): some milliseconds, which making a machine
 * takes, give five digits. Before any other thread uses t.
 */
void ticks_calibrate(struct ticks *t);

#endif
