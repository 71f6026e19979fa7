/*
 * Messages between local APICs: shorthands, destinations, arbitration, MSIs, and who is woken.
 */
#include <pthread.h>
#include <stdlib.h>

#include <criterion/criterion.h>

#include "devices/emulated/apic_bus.h"

#define CPUS	  5
#define VECTOR	  0x51
#define MSI(dest) (0xfee00000ull | (dest) << 12)

static struct apic_bus *bus;
static unsigned woken; /* a bit a CPU */

static void wake(void *opaque, unsigned cpu)
{
	cr_assert_eq(opaque, &woken);
	cr_assert_lt(cpu, CPUS);
	/* It may look at its APIC at once. */
	apic_bus_lock(bus, cpu);
	apic_bus_unlock(bus, cpu);
	__atomic_fetch_or(&woken, 1u << cpu, __ATOMIC_SEQ_CST);
}

static void put(unsigned cpu, unsigned reg, uint32_t value)
{
	struct lapic_effect effect;

	lapic_write(apic_bus_lock(bus, cpu), reg, 4, value, 1, &effect);
	apic_bus_unlock(bus, cpu);
	if (effect.send)
		apic_bus_send(bus, cpu, &effect.message);
}

static void set_up(void)
{
	bus = apic_bus_create(CPUS, wake, &woken);
	cr_assert(bus);
	woken = 0;
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		put(cpu, LAPIC_SVR, SVR_ENABLE | 0xff);
		put(cpu, LAPIC_LDR, 1u << (24 + cpu));
	}
}

static void tear_down(void)
{
	apic_bus_destroy(bus);
}

TestSuite(apic_bus, .init = set_up, .fini = tear_down, .timeout = 60);

/* Who has been woken since the last question, and has the vector; acknowledged and ended. */
static unsigned got(uint8_t vector)
{
	unsigned who = 0, awake = woken;

	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		struct lapic *l = apic_bus_lock(bus, cpu);
		bool its = lapic_pending(l) == vector;

		if (its) {
			who |= 1u << cpu;
			lapic_acknowledge(l, vector);
		}
		apic_bus_unlock(bus, cpu);
		if (its)
			put(cpu, LAPIC_EOI, 0);
	}
	cr_assert_eq(who, awake, "%x have it, %x were woken", who, awake);
	woken = 0;
	return who;
}

static void ipi(unsigned from, uint8_t dest, uint32_t icr)
{
	put(from, LAPIC_ICR_HIGH, (uint32_t)dest << 24);
	put(from, LAPIC_ICR_LOW, icr | 1 << 14);
}

Test(apic_bus, ids_are_numbers)
{
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		const struct lapic *l = apic_bus_lock(bus, cpu);

		cr_assert_eq(l->id, cpu);
		cr_assert_eq(l->waits_for_startup, cpu != 0);
		apic_bus_unlock(bus, cpu);
	}
}

Test(apic_bus, destinations)
{
	ipi(0, 3, VECTOR);
	cr_assert_eq(got(VECTOR), 1u << 3);
	ipi(0, 77, VECTOR);
	cr_assert_eq(got(VECTOR), 0);
	ipi(2, 0xff, VECTOR);
	cr_assert_eq(got(VECTOR), 0x1f);
	ipi(2, 0x0d, VECTOR | 1 << 11);
	cr_assert_eq(got(VECTOR), 0x0d, "logical, flat");
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		put(cpu, LAPIC_DFR, 0);
		put(cpu, LAPIC_LDR, ((cpu / 2) << 4 | 1u << cpu % 2) << 24);
	}
	ipi(0, 0x13, VECTOR | 1 << 11);
	cr_assert_eq(got(VECTOR), 0x0c, "logical, cluster 1");
	ipi(0, 0xf1, VECTOR | 1 << 11);
	cr_assert_eq(got(VECTOR), 0x15, "logical, all clusters");
}

Test(apic_bus, shorthands)
{
	ipi(1, 0, VECTOR | APIC_SELF << 18);
	cr_assert_eq(got(VECTOR), 0x02);
	ipi(1, 0, VECTOR | APIC_ALL << 18);
	cr_assert_eq(got(VECTOR), 0x1f);
	ipi(1, 0, VECTOR | APIC_ALL_BUT_SELF << 18);
	cr_assert_eq(got(VECTOR), 0x1d);
}

Test(apic_bus, lowest_priority)
{
	unsigned who = 0;

	/* Among equals each in turn. */
	for (unsigned i = 0; i < CPUS; i++) {
		ipi(0, 0x1f, VECTOR | APIC_LOWEST << 8 | 1 << 11);
		who |= got(VECTOR);
	}
	cr_assert_eq(who, 0x1f);
	for (unsigned cpu = 0; cpu < CPUS; cpu++)
		put(cpu, LAPIC_TPR, cpu == 3 ? 0x10 : 0x20);
	for (unsigned i = 0; i < 3; i++) {
		ipi(0, 0x1f, VECTOR | APIC_LOWEST << 8 | 1 << 11);
		cr_assert_eq(got(VECTOR), 1u << 3, "the least busy");
	}
	put(3, LAPIC_SVR, 0xff);
	ipi(0, 0x18, VECTOR | APIC_LOWEST << 8 | 1 << 11);
	cr_assert_eq(got(VECTOR), 1u << 4, "not one that is disabled");
	ipi(0, 0x08, VECTOR | APIC_LOWEST << 8 | 1 << 11);
	cr_assert_eq(got(VECTOR), 0);
}

Test(apic_bus, messages_of_devices)
{
	const struct apic_msi one = { MSI(2), VECTOR | 1 << 14 }, nobody = { MSI(9), VECTOR },
			      logical = { MSI(0x03) | 4, VECTOR },
			      redirect = { MSI(0x03) | 4 | 8, VECTOR },
			      level = { MSI(4), VECTOR | 3 << 14 };
	struct lapic_effect effect;
	struct lapic *l;

	cr_assert(apic_bus_send_msi(bus, &one));
	cr_assert_eq(got(VECTOR), 1u << 2);
	cr_assert(!apic_bus_send_msi(bus, &nobody));
	cr_assert(apic_bus_send_msi(bus, &logical));
	cr_assert_eq(got(VECTOR), 3);
	cr_assert(apic_bus_send_msi(bus, &redirect));
	cr_assert_eq(__builtin_popcount(got(VECTOR)), 1);
	cr_assert(apic_bus_send_msi(bus, &level));
	l = apic_bus_lock(bus, 4);
	lapic_acknowledge(l, VECTOR);
	lapic_write(l, LAPIC_EOI, 4, 0, 1, &effect);
	apic_bus_unlock(bus, 4);
	cr_assert_eq(effect.ended, VECTOR);
	put(2, LAPIC_SVR, 0xff);
	cr_assert(!apic_bus_send_msi(bus, &one));
}

Test(apic_bus, init_startup_nmi)
{
	struct lapic *l;

	ipi(0, 0, APIC_INIT << 8 | APIC_ALL_BUT_SELF << 18);
	cr_assert_eq(woken, 0x1e);
	ipi(0, 3, APIC_STARTUP << 8 | 0x10);
	l = apic_bus_lock(bus, 3);
	cr_assert(l->init);
	cr_assert_eq(l->startup, 0x10);
	apic_bus_unlock(bus, 3);
	woken = 0;
	ipi(3, 0, APIC_NMI << 8);
	cr_assert_eq(woken, 1);
	l = apic_bus_lock(bus, 0);
	cr_assert(l->nmi);
	apic_bus_unlock(bus, 0);
}

Test(apic_bus, lint0_of_all)
{
	put(0, LAPIC_LVT_LINT0, APIC_EXTINT << LVT_MODE_SHIFT);
	put(3, LAPIC_LVT_LINT0, APIC_EXTINT << LVT_MODE_SHIFT);
	apic_bus_set_lint(bus, 0, true);
	cr_assert_eq(woken, 0x09, "those that take the 8259A's");
	apic_bus_set_lint(bus, 0, false);
	cr_assert(!lapic_extint(apic_bus_lock(bus, 0)));
	apic_bus_unlock(bus, 0);
}

static void *send_a_lot(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint32_t seed = me + 1;

	for (unsigned i = 0; i < 20000; i++) {
		seed = seed * 1664525u + 1013904223u;
		ipi(me, (uint8_t)(seed >> 8 & 7),
		    (seed >> 16 & 0xc0800) | APIC_FIXED << 8 | (0x20 + (seed >> 24) % 0xd0));
		put(me, LAPIC_EOI, 0);
	}
	return NULL;
}

/* Everybody to everybody; the sanitizer builds and the time limit are the check. */
Test(apic_bus, from_all_threads_at_once)
{
	pthread_t thread[CPUS];

	for (uintptr_t i = 0; i < CPUS; i++)
		pthread_create(&thread[i], NULL, send_a_lot, (void *)i);
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(thread[i], NULL);
}
