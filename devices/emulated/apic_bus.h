/*
 * The local APICs of a machine and the bus between them: who a message is for, and giving it to
 * them. A lock an APIC; whoever has something for the processor behind one is told to wake it.
 */
#ifndef DEVICES_EMULATED_APIC_BUS_H
#define DEVICES_EMULATED_APIC_BUS_H

#include "devices/emulated/ioapic.h"
#include "devices/emulated/lapic.h"

struct apic_bus;

/* wake: the processor must look at its APIC. Called with no lock of the bus held. NULL: no memory.
 */
struct apic_bus *apic_bus_create(unsigned cpus, void (*wake)(void *opaque, unsigned cpu),
				 void *opaque);
void apic_bus_destroy(struct apic_bus *bus);
/* All as after power on, the first one the boot processor's. */
void apic_bus_reset(struct apic_bus *bus);

/* A leaf lock: nothing else is taken while it is held, and no message sent. */
struct lapic *apic_bus_lock(struct apic_bus *bus, unsigned cpu);
void apic_bus_unlock(struct apic_bus *bus, unsigned cpu);

/* From a processor, whose shorthand is resolved. Any thread. */
void apic_bus_send(struct apic_bus *bus, unsigned from, const struct apic_message *m);
/* From an I/O APIC or a device; false: nobody took it. */
bool apic_bus_send_msi(struct apic_bus *bus, const struct apic_msi *msi);
/* LINT0 or LINT1 of all. */
void apic_bus_set_lint(struct apic_bus *bus, unsigned pin, bool level);

#endif
