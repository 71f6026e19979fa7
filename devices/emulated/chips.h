/*
 * The interrupt controllers and the timer that a PC's chip set holds – 8259A pair, I/O APIC, 8254 –
 * on their ports and page, wired to each other. For machines whose chips KVM does not emulate; what
 * they are wired to beyond (local APICs, a CPU's INTR pin) is the caller's. Any thread.
 */
#ifndef DEVICES_EMULATED_CHIPS_H
#define DEVICES_EMULATED_CHIPS_H

#include "devices/device.h"
#include "devices/emulated/ioapic.h"

struct chips;

/* Called with the chips' locks held; must not call back. */
struct chips_wiring {
	/* A message from the I/O APIC; false: no local APIC took it. */
	bool (*send)(void *opaque, const struct apic_msi *msi);
	/* A level pin will use this message: chips_eoi() is wanted for its vector. May be NULL. */
	void (*await_eoi)(void *opaque, unsigned pin, const struct apic_msi *msi);
	/* The 8259A's INT has changed. */
	void (*set_int)(void *opaque, bool level);
	void *opaque;
};

/* Uses the host's buses and loop; not its interrupts, which this serves. NULL: e says why. */
struct chips *chips_create(struct device_host *host, const struct chips_wiring *wiring,
			   struct error *e);
void chips_destroy(struct chips *chips);
/* As after power on; lines keep the levels that devices drive. */
void chips_reset(struct chips *chips);

void chips_set_line(struct chips *chips, unsigned gsi, bool level);
/* The CPU acknowledges the 8259A's INT: the vector. */
uint8_t chips_inta(struct chips *chips);
/* A local APIC has ended a level interrupt; the lines (one bit a GSI) that it was for. */
uint32_t chips_eoi(struct chips *chips, uint8_t vector);
/*
 * ended() hears of these lines first, while their pins are not looked at yet, and may set lines.
 * While no vCPU runs; NULL: nobody does.
 */
void chips_watch_ends(struct chips *chips, void (*ended)(void *opaque, uint32_t lines),
		      void *opaque);

#endif
