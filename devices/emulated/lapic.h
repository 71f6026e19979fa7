/*
 * A local APIC as a chip, in xAPIC form (registers in a page): priorities, interrupt acceptance,
 * the local vector table, one-shot and periodic timer, errors, and what a message does to the
 * processor (NMI, INIT, startup). It knows neither bus nor locks nor clocks: time comes in as an
 * argument, in nanoseconds; apic_bus.c puts several together. Names are those of the Intel SDM,
 * volume 3, chapter "Advanced Programmable Interrupt Controller (APIC)".
 *
 * Left out, and not offered in CPUID or the version register: x2APIC, the TSC deadline, CMCI and
 * the suppression of EOI broadcasts.
 */
#ifndef DEVICES_EMULATED_LAPIC_H
#define DEVICES_EMULATED_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/registers.h"

#define LAPIC_SIZE 0x1000u /* of its page */
#define LAPIC_REGS 64u	   /* one each 16 bytes */

#define LAPIC_ID	0x020u
#define LAPIC_VERSION	0x030u
#define LAPIC_TPR	0x080u
#define LAPIC_APR	0x090u
#define LAPIC_PPR	0x0a0u
#define LAPIC_EOI	0x0b0u
#define LAPIC_RRD	0x0c0u
#define LAPIC_LDR	0x0d0u
#define LAPIC_DFR	0x0e0u
#define LAPIC_SVR	0x0f0u
#define LAPIC_ISR	0x100u
#define LAPIC_TMR	0x180u
#define LAPIC_IRR	0x200u
#define LAPIC_ESR	0x280u
#define LAPIC_ICR_LOW	0x300u
#define LAPIC_ICR_HIGH	0x310u
#define LAPIC_LVT_TIMER 0x320u
#define LAPIC_LVT_THERM 0x330u
#define LAPIC_LVT_PERF	0x340u
#define LAPIC_LVT_LINT0 0x350u
#define LAPIC_LVT_LINT1 0x360u
#define LAPIC_LVT_ERROR 0x370u
#define LAPIC_TIMER_ICR 0x380u /* initial count */
#define LAPIC_TIMER_CCR 0x390u /* current count */
#define LAPIC_TIMER_DCR 0x3e0u /* divide configuration */

#define SVR_ENABLE (1u << 8)

#define LVT_VECTOR	 0xffu
#define LVT_MODE	 (7u << 8)
#define LVT_MODE_SHIFT	 8
#define LVT_REMOTE_IRR	 (1u << 14)
#define LVT_LEVEL	 (1u << 15)
#define LVT_MASKED	 (1u << 16)
#define LVT_PERIODIC	 (1u << 17)
#define ESR_SEND_ILLEGAL (1u << 5) /* a vector below 16 */
#define ESR_RECV_ILLEGAL (1u << 6)
#define ESR_ILLEGAL_REG	 (1u << 7)

enum apic_mode {
	APIC_FIXED,
	APIC_LOWEST,
	APIC_SMI,
	APIC_RESERVED,
	APIC_NMI,
	APIC_INIT,
	APIC_STARTUP,
	APIC_EXTINT,
};

enum apic_shorthand { APIC_NO_SHORTHAND, APIC_SELF, APIC_ALL, APIC_ALL_BUT_SELF };

/* What goes over the bus between APICs. */
struct apic_message {
	uint8_t dest;
	bool logical;
	bool redirect; /* to the least busy of the destinations */
	enum apic_shorthand shorthand;
	enum apic_mode mode;
	uint8_t vector;
	bool level;  /* trigger mode */
	bool assert; /* level */
};

#define APIC_BUS_CLOCK_NS 1 /* of the clock that the timer divides: 1 GHz, as with KVM */

struct lapic {
	uint8_t id;
	bool enabled; /* IA32_APIC_BASE's global enable */
	uint32_t reg[LAPIC_REGS];
	uint32_t errors;  /* what a write to ESR will show */
	bool lint[2];	  /* the levels of the pins */
	int64_t deadline; /* when the timer's count gets to 0; 0: it does not count */
	/* For the processor to take. */
	bool nmi, init, extint;
	bool waits_for_startup;
	int startup; /* the vector; -1: none */
};

/* What a write does beyond this APIC. */
struct lapic_effect {
	bool send;
	struct apic_message message;
	int ended; /* vector of a level interrupt that has ended, for the I/O APIC; -1: none */
};

/* What a message did. */
enum lapic_taken {
	LAPIC_REFUSED,
	LAPIC_TAKEN, /* nothing for the processor to do about it now */
	LAPIC_NEWS,  /* it must look */
};

extern const struct reg_table lapic_registers;

/* After power on; the boot processor is the one that does not wait to be started. */
void lapic_power_on(struct lapic *l, uint8_t id, bool boot);
/* What INIT does, but to the processor; the id, pins and what waits for the processor stay. */
void lapic_init(struct lapic *l);
/* Globally enabled or disabled by IA32_APIC_BASE: from disabled it comes back as after power on. */
void lapic_enable(struct lapic *l, bool enabled);

/* In the page. 32 bits at multiples of 16; reads of parts of a register work as well. */
uint32_t lapic_read(struct lapic *l, uint64_t offset, unsigned size, int64_t now);
void lapic_write(struct lapic *l, uint64_t offset, unsigned size, uint32_t value, int64_t now,
		 struct lapic_effect *effect);

/* Is it one of the destinations? Shorthands are the sender's to resolve. */
bool lapic_matches(const struct lapic *l, const struct apic_message *m);
enum lapic_taken lapic_accept(struct lapic *l, const struct apic_message *m);
enum lapic_taken lapic_set_lint(struct lapic *l, unsigned pin, bool level);

/* The vector that the processor should be given; -1: none above its priority. */
int lapic_pending(const struct lapic *l);
/* Does the 8259A's INT, or a message in its place, want the processor's INTR? */
bool lapic_extint(const struct lapic *l);
/* The processor takes it: from requested to in service. */
void lapic_acknowledge(struct lapic *l, uint8_t vector);
uint8_t lapic_ppr(const struct lapic *l);
bool lapic_is_software_enabled(const struct lapic *l);

/* Task priority from the processor's side: CR8 is its bits 7-4. */
uint8_t lapic_cr8(const struct lapic *l);
void lapic_set_cr8(struct lapic *l, uint8_t cr8);

/* Raises the timer's interrupt if it is due. */
void lapic_tick(struct lapic *l, int64_t now);
/* When to call lapic_tick(); 0: no need. */
int64_t lapic_next(const struct lapic *l);

#endif
