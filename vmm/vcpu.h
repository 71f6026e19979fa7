/*
 * Virtual CPUs: one thread each, entering the guest and serving its exits through the buses. The
 * main thread starts, pauses and resumes them all; a paused vCPU is outside KVM_RUN with its last
 * exit completed, so its state may be read and set.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "boot/boot.h"
#include "vmm/account.h"
#include "vmm/bus.h"
#include "vmm/error.h"
#include "vmm/kvm.h"

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

struct vcpu {
	struct vcpu_set *set;
	unsigned id; /* also the (x2)APIC id */
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool thread_started;
	bool parked; /* under the set's lock */
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

/* Sum over the vCPUs; exact while paused. */
struct vcpu_counters vcpu_set_counters(const struct vcpu_set *set);

/* ---- x86_64/ --------------------------------------------------------------------------------- */

/* CPUID and power-on state of a new vCPU. */
int vcpu_arch_create(struct vcpu *vcpu, struct error *e);
void vcpu_arch_destroy(struct vcpu *vcpu);
/* Power-on state; entry non-NULL: at the kernel's door. */
int vcpu_arch_reset(struct vcpu *vcpu, const struct boot_entry *entry, struct error *e);
/* Registers and code bytes to stderr, for a crash report. */
void vcpu_arch_dump(struct vcpu *vcpu);

#endif
