/*
 * Ticks and their rate: see ticks.h. Intel SDM volume 3, section 18.17 (invariant TSC).
 */
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "vmm/ticks.h"

#define SHORTEST_NS 200000u /* to learn the rate from: an error of one in a thousand */

static bool counter_is_steady(void)
{
#if defined(__x86_64__)
	unsigned a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
#else
	return false;
#endif
}

void ticks_init(struct ticks *t)
{
	*t = (struct ticks){ .counter = counter_is_steady(), .ns_per_tick = 1ull << 32 };
	t->first_ns = ticks_monotonic_ns();
	t->first = ticks_now(t);
}

void ticks_calibrate(struct ticks *t)
{
	uint64_t ns, ticks;

	if (!t->counter)
		return;
	do {
		ns = ticks_monotonic_ns() - t->first_ns;
		ticks = ticks_now(t) - t->first;
	} while (ns < SHORTEST_NS);
	/* A counter that stands still, or runs backwards, is none. */
	if (ticks == 0 || ticks > ns * 64) {
		*t = (struct ticks){ .first = t->first_ns, .first_ns = t->first_ns };
		t->ns_per_tick = 1ull << 32;
		return;
	}
	t->ns_per_tick = (uint64_t)(((unsigned __int128)ns << 32) / ticks);
}
