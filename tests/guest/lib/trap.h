/*
 * Interrupts and exceptions. An exception that no fixup expects ends the guest with a report. An
 * interrupt is counted by its vector, given to its handler if it has one, and acknowledged at the
 * local APIC.
 */
#ifndef GUEST_TRAP_H
#define GUEST_TRAP_H

#include "cpu.h"

#define VECTOR_UD	6
#define VECTOR_GP	13
#define VECTOR_PF	14
#define VECTOR_FIRST	32 /* not an exception */
#define VECTOR_SPURIOUS 0xff

struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

void trap_init(void); /* the IDT; once */
void trap_load(void); /* on each CPU */

/* How often each vector came, all CPUs together. */
extern volatile uint32_t irq_count[256];
/* Called before the EOI, on the CPU interrupted. NULL: just count. */
void irq_handler(unsigned vector, void (*handler)(void));

/* Lets interrupts in until that many more of a vector have come, or ms passed. */
bool irq_wait(unsigned vector, uint32_t more, unsigned ms);
/* Lets interrupts in for a while; how many of the vector came. */
uint32_t irq_during(unsigned vector, unsigned ms);

/* These return false instead of dying by the #GP. */
bool rdmsr_safe(uint32_t msr, uint64_t *value);
bool wrmsr_safe(uint32_t msr, uint64_t value);

#endif
