/*
 * Messages between APICs: see apic_bus.h. Intel SDM volume 3, "Issuing Interprocessor Interrupts"
 * and "Message Signalled Interrupts".
 */
#include <pthread.h>
#include <stdlib.h>

#include "devices/emulated/apic_bus.h"

#define MSI_DEST_SHIFT 12
#define MSI_REDIRECT   (1u << 3)
#define MSI_LOGICAL    (1u << 2)
#define DATA_ASSERT    (1u << 14)
#define DATA_LEVEL     (1u << 15)

/* A cache line each at least, so that processors do not fight over them. */
struct node {
	pthread_mutex_t lock; /* a leaf */
	struct lapic lapic;
} __attribute__((aligned(64)));

struct apic_bus {
	unsigned cpus;
	void (*wake)(void *opaque, unsigned cpu);
	void *opaque;
	unsigned last; /* who got the last message with a choice; no lock: a hint */
	struct node node[];
};

struct apic_bus *apic_bus_create(unsigned cpus, void (*wake)(void *opaque, unsigned cpu),
				 void *opaque)
{
	size_t size = sizeof(struct apic_bus) + cpus * sizeof(struct node);
	struct apic_bus *bus = aligned_alloc(64, (size + 63) & ~(size_t)63);

	if (!bus)
		return NULL;
	*bus = (struct apic_bus){ .cpus = cpus, .wake = wake, .opaque = opaque };
	for (unsigned i = 0; i < cpus; i++) {
		bus->node[i].lapic = (struct lapic){ 0 };
		pthread_mutex_init(&bus->node[i].lock, NULL);
	}
	apic_bus_reset(bus);
	return bus;
}

void apic_bus_destroy(struct apic_bus *bus)
{
	if (!bus)
		return;
	for (unsigned i = 0; i < bus->cpus; i++)
		pthread_mutex_destroy(&bus->node[i].lock);
	free(bus);
}

struct lapic *apic_bus_lock(struct apic_bus *bus, unsigned cpu)
{
	pthread_mutex_lock(&bus->node[cpu].lock);
	return &bus->node[cpu].lapic;
}

void apic_bus_unlock(struct apic_bus *bus, unsigned cpu)
{
	pthread_mutex_unlock(&bus->node[cpu].lock);
}

void apic_bus_reset(struct apic_bus *bus)
{
	for (unsigned i = 0; i < bus->cpus; i++) {
		lapic_power_on(apic_bus_lock(bus, i), (uint8_t)i, i == 0);
		apic_bus_unlock(bus, i);
	}
}

/* ---- delivery -------------------------------------------------------------------------------- */

static bool give(struct apic_bus *bus, unsigned cpu, const struct apic_message *m)
{
	enum lapic_taken taken = lapic_accept(apic_bus_lock(bus, cpu), m);

	apic_bus_unlock(bus, cpu);
	if (taken == LAPIC_NEWS)
		bus->wake(bus->opaque, cpu);
	return taken != LAPIC_REFUSED;
}

static bool matches(struct apic_bus *bus, unsigned cpu, const struct apic_message *m)
{
	bool yes = lapic_matches(apic_bus_lock(bus, cpu), m);

	apic_bus_unlock(bus, cpu);
	return yes;
}

/* The priority it works at, if it is one of those who may take the message; -1: it is not. */
static int priority(struct apic_bus *bus, unsigned cpu, const struct apic_message *m)
{
	const struct lapic *l = apic_bus_lock(bus, cpu);
	int result = -1;

	if (lapic_matches(l, m) && lapic_is_software_enabled(l))
		result = lapic_ppr(l);
	apic_bus_unlock(bus, cpu);
	return result;
}

/* One of several: the least busy; among equals each in turn. */
static bool give_lowest(struct apic_bus *bus, const struct apic_message *m)
{
	unsigned last = __atomic_load_n(&bus->last, __ATOMIC_RELAXED), best = 0;
	int lowest = INT32_MAX;

	for (unsigned i = 1; i <= bus->cpus; i++) {
		unsigned cpu = (last + i) % bus->cpus;
		int its = priority(bus, cpu, m);

		if (its >= 0 && its < lowest) {
			lowest = its;
			best = cpu;
		}
	}
	if (lowest == INT32_MAX)
		return false;
	__atomic_store_n(&bus->last, best, __ATOMIC_RELAXED);
	return give(bus, best, m);
}

static bool send(struct apic_bus *bus, const struct apic_message *m)
{
	bool taken = false;

	if (m->redirect || m->mode == APIC_LOWEST)
		return give_lowest(bus, m);
	/* Ids are numbers of processors: nearly all messages are for one of them. */
	if (!m->logical && m->dest < bus->cpus)
		return matches(bus, m->dest, m) && give(bus, m->dest, m);
	for (unsigned cpu = 0; cpu < bus->cpus; cpu++)
		if (matches(bus, cpu, m))
			taken = give(bus, cpu, m) || taken;
	return taken;
}

void apic_bus_send(struct apic_bus *bus, unsigned from, const struct apic_message *m)
{
	switch (m->shorthand) {
	case APIC_NO_SHORTHAND:
		send(bus, m);
		break;
	case APIC_SELF:
		give(bus, from, m);
		break;
	case APIC_ALL:
	case APIC_ALL_BUT_SELF:
		for (unsigned cpu = 0; cpu < bus->cpus; cpu++)
			if (m->shorthand == APIC_ALL || cpu != from)
				give(bus, cpu, m);
		break;
	}
}

bool apic_bus_send_msi(struct apic_bus *bus, const struct apic_msi *msi)
{
	const struct apic_message m = {
		.dest = (uint8_t)(msi->address >> MSI_DEST_SHIFT),
		.logical = msi->address & MSI_LOGICAL,
		.redirect = msi->address & MSI_REDIRECT,
		.mode = (msi->data & LVT_MODE) >> LVT_MODE_SHIFT,
		.vector = msi->data & LVT_VECTOR,
		.level = msi->data & DATA_LEVEL,
		.assert = msi->data & DATA_ASSERT,
	};

	return send(bus, &m);
}

void apic_bus_set_lint(struct apic_bus *bus, unsigned pin, bool level)
{
	for (unsigned cpu = 0; cpu < bus->cpus; cpu++) {
		enum lapic_taken taken = lapic_set_lint(apic_bus_lock(bus, cpu), pin, level);

		apic_bus_unlock(bus, cpu);
		if (taken == LAPIC_NEWS)
			bus->wake(bus->opaque, cpu);
	}
}
