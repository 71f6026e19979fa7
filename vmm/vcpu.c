/*
 * vCPU threads and the exit loop: see vcpu.h.
 *
 * Pausing: the main thread sets `pause`, then each vCPU's immediate_exit and sends its thread a
 * signal. Whatever the thread was doing it ends up out of KVM_RUN, completes an instruction that is
 * half-done, by more KVM_RUNs that do not enter the guest, and parks.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "vmm/log.h"
#include "vmm/trace.h"
#include "vmm/vcpu.h"

/*
 * In how many exits KVM lets an instruction end: it emulates up to 1024 rounds of a string
 * instruction in one go (Linux, arch/x86/kvm/emulate.c: x86_emulate_insn()), each of which may read
 * and write over a page boundary. The guest cannot make it more.
 */
#define MAX_PARTS (1024 * 4)

/* ---- exits ----------------------------------------------------------------------------------- */

static void serve_pio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	unsigned size = run->io.size;

	/* A string instruction repeats the same port. */
	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		uint64_t value = 0;
		bool claimed;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, size);
			vcpu->counters.pio_writes++;
			claimed = bus_write(vcpu->set->pio, run->io.port, size, value);
		} else {
			vcpu->counters.pio_reads++;
			claimed = bus_read(vcpu->set->pio, run->io.port, size, &value);
			memcpy(data, &value, size);
		}
		vcpu->counters.unclaimed += !claimed;
	}
	if (run->io.count > 1)
		bus_repeated(vcpu->set->pio, run->io.port, size,
			     run->io.direction == KVM_EXIT_IO_OUT, run->io.count - 1);
}

static void serve_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	unsigned size = run->mmio.len;
	uint64_t value = 0;
	bool claimed;

	if (run->mmio.is_write) {
		memcpy(&value, run->mmio.data, size);
		vcpu->counters.mmio_writes++;
		claimed = bus_write(vcpu->set->mmio, run->mmio.phys_addr, size, value);
	} else {
		vcpu->counters.mmio_reads++;
		claimed = bus_read(vcpu->set->mmio, run->mmio.phys_addr, size, &value);
		memcpy(run->mmio.data, &value, size);
	}
	vcpu->counters.unclaimed += !claimed;
}

void vcpu_stop(struct vcpu *vcpu, enum vcpu_stop why)
{
	vcpu_set_request_pause(vcpu->set);
	vcpu->set->stopped(vcpu->set->opaque, why);
}

/* Exits that are over when they are seen. */
static void trace_other(struct vcpu *vcpu)
{
	struct account *machine = account_machine(vcpu->set->accounts);

	if (trace_on(machine))
		trace_exit(machine, account_now(machine),
			   vcpu->run->exit_reason == KVM_EXIT_HLT    ? "halt"
			   : vcpu->run->exit_reason == KVM_EXIT_INTR ? "signal"
								     : "interrupt window");
}

static void serve_exit(struct vcpu *vcpu)
{
	struct vcpu_set *set = vcpu->set;
	struct kvm_run *run = vcpu->run;

	vcpu_posted_serve(set);
	if (set->irq && set->irq->exited(set->irq_chip, vcpu)) {
		vcpu->counters.other++;
		return;
	}
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		serve_pio(vcpu);
		break;
	case KVM_EXIT_MMIO:
		serve_mmio(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_HLT:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		vcpu->counters.other++;
		trace_other(vcpu);
		break;
	case KVM_EXIT_SHUTDOWN:
		log_error("vcpu%u: triple fault", vcpu->id);
		vcpu_arch_dump(vcpu);
		vcpu_stop(vcpu, VCPU_CRASHED);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		log_error("vcpu%u: KVM internal error %u%s", vcpu->id, run->internal.suberror,
			  run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
				  ? " (it cannot emulate this instruction)"
				  : "");
		vcpu_arch_dump(vcpu);
		vcpu_stop(vcpu, VCPU_CRASHED);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		log_error("vcpu%u: the CPU refuses to enter the guest, reason 0x%llx", vcpu->id,
			  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		vcpu_arch_dump(vcpu);
		vcpu_stop(vcpu, VCPU_CRASHED);
		break;
	default:
		log_error("vcpu%u: unexpected KVM exit %u", vcpu->id, run->exit_reason);
		vcpu_arch_dump(vcpu);
		vcpu_stop(vcpu, VCPU_CRASHED);
		break;
	}
}

/* ---- the thread ------------------------------------------------------------------------------ */

void vcpu_complete_access(struct vcpu *vcpu)
{
	for (int part = 0; part < MAX_PARTS; part++) {
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
		if (ioctl(vcpu->fd, KVM_RUN, 0) != 0)
			break;
		serve_exit(vcpu);
	}
}

/* Waits while the set is paused; false: the thread is to end. */
static bool park(struct vcpu *vcpu)
{
	struct vcpu_set *set = vcpu->set;
	bool go_on;

	vcpu_complete_access(vcpu);
	vcpu_posted_serve(set);
	pthread_mutex_lock(&set->lock);
	vcpu->parked = true;
	set->parked++;
	pthread_cond_broadcast(&set->changed);
	while (set->pause && !set->quit)
		pthread_cond_wait(&set->changed, &set->lock);
	set->parked--;
	vcpu->parked = false;
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
	go_on = !set->quit;
	pthread_mutex_unlock(&set->lock);
	return go_on;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	struct vcpu_set *set = vcpu->set;
	char name[16];
	int ret;

	snprintf(name, sizeof(name), "vcpu%u", vcpu->id);
	pthread_setname_np(pthread_self(), name);
	account_thread_begin(account_machine(set->accounts), name);

	for (;;) {
		if (__atomic_load_n(&set->pause, __ATOMIC_ACQUIRE) && !park(vcpu)) {
			account_thread_end();
			return NULL;
		}
		if (set->irq && !vcpu_enter(vcpu))
			continue;
		ret = ioctl(vcpu->fd, KVM_RUN, 0);
		if (set->irq)
			vcpu_leave(vcpu);
		if (ret == 0) {
			serve_exit(vcpu);
		} else if (errno != EINTR && errno != EAGAIN) {
			log_error("vcpu%u: KVM_RUN: %s", vcpu->id, strerror(errno));
			vcpu_arch_dump(vcpu);
			vcpu_stop(vcpu, VCPU_FAILED);
		}
	}
}

/* vCPU threads take the kick signal and no other: the rest is the main thread's. */
static int start_thread(struct vcpu *vcpu)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	sigdelset(&all, vcpu_kick_signal());
	/* Faults are not to be blocked: they must reach the handler that restores the terminal. */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = -pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	vcpu->thread_started = err == 0;
	return err;
}

int vcpu_set_resume(struct vcpu_set *set, struct error *e)
{
	pthread_mutex_lock(&set->lock);
	__atomic_store_n(&set->pause, false, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&set->changed);
	pthread_mutex_unlock(&set->lock);

	for (unsigned i = 0; i < set->count; i++) {
		int err = set->vcpu[i].thread_started ? 0 : start_thread(&set->vcpu[i]);

		if (err) {
			vcpu_set_pause(set);
			return error_set_errno(e, err, "cannot start the thread of vCPU %u", i);
		}
	}
	return 0;
}

void vcpu_set_request_pause(struct vcpu_set *set)
{
	__atomic_store_n(&set->pause, true, __ATOMIC_RELEASE);
}

void vcpu_set_pause(struct vcpu_set *set)
{
	unsigned running = 0;

	pthread_mutex_lock(&set->lock);
	__atomic_store_n(&set->pause, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < set->count; i++) {
		struct vcpu *vcpu = &set->vcpu[i];

		if (!vcpu->thread_started)
			continue;
		running++;
		if (vcpu->parked)
			continue;
		/* The flag serves the thread that has not entered KVM_RUN yet, the signal the rest.
		 */
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vcpu->thread, vcpu_kick_signal());
		sem_post(&vcpu->wake);
	}
	while (set->parked < running)
		pthread_cond_wait(&set->changed, &set->lock);
	pthread_mutex_unlock(&set->lock);
}

/* ---- making and unmaking --------------------------------------------------------------------- */

static int create_one(struct vcpu_set *set, struct vcpu *vcpu, unsigned id, struct error *e)
{
	void *run;

	*vcpu = (struct vcpu){ .set = set, .id = id };
	vcpu->fd = kvm_vm_ioctl(set->kvm, KVM_CREATE_VCPU, (void *)(uintptr_t)id);
	if (vcpu->fd < 0)
		return error_set_errno(e, vcpu->fd, "--cpus: KVM cannot make vCPU %u", id);
	run = mmap(NULL, set->kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED) {
		int err = error_set_errno(e, -errno, "cannot map vCPU %u", id);

		close(vcpu->fd);
		return err;
	}
	vcpu->run = run;
	vcpu_kick_init(vcpu);
	return 0;
}

int vcpu_set_create(struct vcpu_set *set, struct kvm *kvm, unsigned count, struct bus *pio,
		    struct bus *mmio, void (*stopped)(void *opaque, enum vcpu_stop why),
		    void *opaque, struct error *e)
{
	int err;

	*set = (struct vcpu_set){
		.kvm = kvm,
		.pio = pio,
		.mmio = mmio,
		.total = count,
		.stopped = stopped,
		.opaque = opaque,
	};
	pthread_mutex_init(&set->lock, NULL);
	pthread_cond_init(&set->changed, NULL);
	pthread_mutex_init(&set->posted_lock, NULL);
	set->vcpu = calloc(count, sizeof(*set->vcpu));
	if (!set->vcpu) {
		err = error_set(e, -ENOMEM, "out of memory");
		goto fail;
	}
	err = vcpu_kick_install();
	if (err) {
		error_set_errno(e, err, "cannot handle the vCPU signal");
		goto fail;
	}
	for (unsigned i = 0; i < count; i++) {
		err = create_one(set, &set->vcpu[i], i, e);
		if (err)
			goto fail;
		set->count++;
		if (i == 0)
			vcpu_posted_init(set);
		err = vcpu_arch_create(&set->vcpu[i], e);
		if (err)
			goto fail;
	}
	return 0;

fail:
	vcpu_set_destroy(set);
	return err;
}

void vcpu_set_destroy(struct vcpu_set *set)
{
	if (!set->kvm)
		return;
	pthread_mutex_lock(&set->lock);
	set->quit = true;
	pthread_cond_broadcast(&set->changed);
	pthread_mutex_unlock(&set->lock);
	for (unsigned i = 0; i < set->count; i++) {
		struct vcpu *vcpu = &set->vcpu[i];

		if (vcpu->thread_started)
			pthread_join(vcpu->thread, NULL);
		vcpu_arch_destroy(vcpu);
		munmap(vcpu->run, set->kvm->run_size);
		close(vcpu->fd);
		vcpu_kick_destroy(vcpu);
	}
	free(set->vcpu);
	pthread_cond_destroy(&set->changed);
	pthread_mutex_destroy(&set->lock);
	pthread_mutex_destroy(&set->posted_lock);
	*set = (struct vcpu_set){ 0 };
}

int vcpu_set_reset(struct vcpu_set *set, const struct boot_entry *entry, struct error *e)
{
	for (unsigned i = 0; i < set->count; i++) {
		int err = vcpu_arch_reset(&set->vcpu[i], i == 0 ? entry : NULL, e);

		if (err)
			return err;
	}
	return 0;
}

struct vcpu_counters vcpu_set_counters(const struct vcpu_set *set)
{
	struct vcpu_counters sum = { 0 };

	for (unsigned i = 0; i < set->count; i++) {
		const struct vcpu_counters *c = &set->vcpu[i].counters;

		sum.pio_reads += c->pio_reads;
		sum.pio_writes += c->pio_writes;
		sum.mmio_reads += c->mmio_reads;
		sum.mmio_writes += c->mmio_writes;
		sum.unclaimed += c->unclaimed;
		sum.other += c->other;
	}
	return sum;
}
