/*
 * Other processors: started by INIT and startup IPI (Intel SDM volume 3, 9.4), then each waits for
 * work on its own stack.
 */
#ifndef GUEST_SMP_H
#define GUEST_SMP_H

#include "cpu.h"

#define SMP_MAX 64

/* Starts one and waits until it has arrived; false if it does not. */
bool smp_start(uint32_t apic_id);
/* Starts all the MADT lists but this one; how many came. */
unsigned smp_start_all(void);
/* How many application processors are there. */
unsigned smp_arrived(void);
/* Runs fn(arg) on the processor and waits until it is done, at most ms. */
bool smp_call(uint32_t apic_id, void (*fn)(void *arg), void *arg, unsigned ms);
/* As above without waiting; smp_done() tells. */
void smp_post(uint32_t apic_id, void (*fn)(void *arg), void *arg);
bool smp_done(uint32_t apic_id);

#endif
