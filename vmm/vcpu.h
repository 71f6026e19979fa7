/*
 * Virtual CPUs: one thread each, entering the guest and serving its exits through the buses. The
 * main thread starts, pauses and resumes them all; a paused vCPU is outside KVM_RUN with its last
 * exit completed, so its state may be read and set.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "boot/boot.h"
#include "vmm/account.h"
#include "vmm/bus.h"
#include "vmm/error.h"
#include "vmm/kvm.h"

struct kvm_coalesced_mmio_ring;
struct vcpu_arch; /* the state after power on; x86_64/vcpu_state.c */
struct vcpu_set;

/* Why a vCPU cannot go on; the set's owner is told once, on that vCPU's thread. */
enum vcpu_stop {
	VCPU_CRASHED, /* triple fault, or KVM cannot go on with the guest: its own doing */
	VCPU_FAILED,  /* KVM_RUN fails */
};

/* User exits by what the guest did; plain counters, written by the vCPU's thread only. */
struct vcpu_counters {
	uint64_t pio_reads, pio_writes;
	uint64_t mmio_reads, mmio_writes;
	uint64_t unclaimed; /* accesses that nothing answers */
	uint64_t other;
};

struct vcpu;

/*
 * What a vCPU's thread does for interrupt chips that are not KVM's. Called on that thread, out of
 * the guest; see vcpu_kick().
 */
struct vcpu_irq_ops {
	/* Before the guest is entered: injects. false: not now; look whether to pause, then again.
	 */
	bool (*enter)(void *chip, struct vcpu *vcpu);
	/* KVM_RUN has returned with an exit; true: it was for the chips, and is served. */
	bool (*exited)(void *chip, struct vcpu *vcpu);
};

/* Where a vCPU's thread is, for whoever has something for it. Kept only with vcpu_irq_ops. */
enum vcpu_place { VCPU_OUTSIDE, VCPU_IN_GUEST, VCPU_HALTED };

struct vcpu {
	struct vcpu_set *set;
	unsigned id; /* also the (x2)APIC id */
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool thread_started;
	bool parked; /* under the set's lock */
	bool halted; /* by the chips' ops: it has nothing to execute; its thread's own */
	enum vcpu_place place;
	sem_t wake;    /* for a halted one; may count more than there was reason for */
	timer_t timer; /* kicks it; made by its thread when first set */
	bool have_timer;
	int64_t kick_at; /* what it is set for; 0: nothing. Its thread's, signal handler included */
	struct vcpu_counters counters;
	struct vcpu_arch *arch;
};

struct vcpu_set {
	struct kvm *kvm;
	struct bus *pio, *mmio;
	struct accounts *accounts; /* set before the first start; may be NULL */
	unsigned total;		   /* how many there are to be; known to CPUID from the first on */
	unsigned count;		   /* made so far */
	struct vcpu *vcpu;
	void (*stopped)(void *opaque, enum vcpu_stop why);
	void *opaque;
	const struct vcpu_irq_ops *irq; /* NULL: the interrupt chips are KVM's */
	void *irq_chip;
	/* In the first vCPU's mapping; NULL: nothing is held back. */
	struct kvm_coalesced_mmio_ring *posted;
	uint32_t posted_places;
	pthread_mutex_t posted_lock; /* held around what posted writes do; before owners' locks */
	/* Guards the fields below and every vcpu.parked; a leaf. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool pause; /* read without the lock by vCPU threads, which then look again under it */
	bool quit;
	unsigned parked;
};

/* Makes the vCPUs with CPUID and the state after power on; no thread runs yet. */
int vcpu_set_create(struct vcpu_set *set, struct kvm *kvm, unsigned count, struct bus *pio,
		    struct bus *mmio, void (*stopped)(void *opaque, enum vcpu_stop why),
		    void *opaque, struct error *e);
/* Before they run: their interrupt chips, if those are not KVM's. */
void vcpu_set_irq(struct vcpu_set *set, const struct vcpu_irq_ops *irq, void *chip);
/* Ends the threads, which must be paused or not started. */
void vcpu_set_destroy(struct vcpu_set *set);

/* All vCPUs as after power on, the first one about to enter the kernel. Paused or not started. */
int vcpu_set_reset(struct vcpu_set *set, const struct boot_entry *entry, struct error *e);

/* Starts the threads, the first time, or lets them go on. */
int vcpu_set_resume(struct vcpu_set *set, struct error *e);
/* Waits until every vCPU is out of the guest. Main thread. */
void vcpu_set_pause(struct vcpu_set *set);
/* Asks without waiting; for a vCPU thread whose access ended or reset the machine. */
void vcpu_set_request_pause(struct vcpu_set *set);

/* Cannot go on: tells the owner. On its own thread. */
void vcpu_stop(struct vcpu *vcpu, enum vcpu_stop why);

/*
 * Lets KVM finish the instruction whose access was served, and serves its further ones, without
 * entering the guest. Its own thread.
 */
void vcpu_complete_access(struct vcpu *vcpu);

/* Sum over the vCPUs; exact while paused. */
struct vcpu_counters vcpu_set_counters(const struct vcpu_set *set);

/* ---- kicks: vcpu_kick.c ---------------------------------------------------------------------- */

/*
 * There is something new for the vCPU, which is there to see before: its thread comes out of the
 * guest, or wakes, and calls enter(). Any thread, with any lock held.
 */
void vcpu_kick(struct vcpu *vcpu);
/* From enter(): the same at that time of CLOCK_MONOTONIC. One time a vCPU. */
void vcpu_kick_at(struct vcpu *vcpu, int64_t ns);
/* From enter(), with vcpu->halted: waits for a kick, or until that time (0: none). */
void vcpu_wait(struct vcpu *vcpu, int64_t ns);

/* For vcpu.c. */
int vcpu_kick_signal(void);
int vcpu_kick_install(void); /* the signal's handler; once a process */
void vcpu_kick_init(struct vcpu *vcpu);
void vcpu_kick_destroy(struct vcpu *vcpu);
/* Around KVM_RUN, where there are vcpu_irq_ops; false: not into the guest now. */
bool vcpu_enter(struct vcpu *vcpu);
void vcpu_leave(struct vcpu *vcpu);

/* ---- posted writes: vcpu_posted.c, for vcpu.c ------------------------------------------------ */

void vcpu_posted_init(struct vcpu_set *set); /* once the first vCPU is mapped */
/* Does all that were held back before the exit, or the end, of a vCPU. Its thread. */
void vcpu_posted_serve(struct vcpu_set *set);

/* ---- x86_64/ --------------------------------------------------------------------------------- */

/* CPUID and power-on state of a new vCPU. */
int vcpu_arch_create(struct vcpu *vcpu, struct error *e);
void vcpu_arch_destroy(struct vcpu *vcpu);
/* Power-on state; entry non-NULL: at the kernel's door. */
int vcpu_arch_reset(struct vcpu *vcpu, const struct boot_entry *entry, struct error *e);
/* What INIT and, after it, a startup message do to a vCPU whose local APIC is not KVM's. */
int vcpu_arch_init(struct vcpu *vcpu);
int vcpu_arch_startup(struct vcpu *vcpu, uint8_t vector);
/* Registers and code bytes to stderr, for a crash report. */
void vcpu_arch_dump(struct vcpu *vcpu);

#endif
