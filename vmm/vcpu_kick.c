/*
 * Getting hold of a vCPU's thread: the signal that brings it out of KVM_RUN, and, where interrupt
 * chips are not KVM's, kicks. Nothing of this may be lost in the moment between a thread's last
 * look at what there is to do and its KVM_RUN: the thread tells its place before that look, and
 * KVM_RUN looks at immediate_exit.
 */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "vmm/vcpu.h"

#define NS_IN_SEC 1000000000

int vcpu_kick_signal(void)
{
	return SIGRTMIN;
}

/* Its effect is that KVM_RUN returns EINTR; the sender of a kick has set immediate_exit himself. */
static void on_kick(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	if (info->si_code == SI_TIMER) {
		struct vcpu *vcpu = info->si_value.sival_ptr;

		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
		/* It has gone off, whatever the clock says that the thread reads next. */
		__atomic_store_n(&vcpu->kick_at, 0, __ATOMIC_RELAXED);
	}
}

int vcpu_kick_install(void)
{
	/* Restart: what a device calls on this thread goes on; KVM_RUN ends all the same. */
	struct sigaction action = { .sa_sigaction = on_kick, .sa_flags = SA_SIGINFO | SA_RESTART };

	return sigaction(vcpu_kick_signal(), &action, NULL) < 0 ? -errno : 0;
}

void vcpu_kick_init(struct vcpu *vcpu)
{
	sem_init(&vcpu->wake, 0, 0);
}

void vcpu_kick_destroy(struct vcpu *vcpu)
{
	if (vcpu->have_timer)
		timer_delete(vcpu->timer);
	sem_destroy(&vcpu->wake);
}

void vcpu_set_irq(struct vcpu_set *set, const struct vcpu_irq_ops *irq, void *chip)
{
	set->irq = irq;
	set->irq_chip = chip;
}

/* ---- kicks ----------------------------------------------------------------------------------- */

static void set_place(struct vcpu *vcpu, enum vcpu_place place)
{
	__atomic_store_n(&vcpu->place, place, __ATOMIC_SEQ_CST);
}

bool vcpu_enter(struct vcpu *vcpu)
{
	struct vcpu_set *set = vcpu->set;

	set_place(vcpu, vcpu->halted ? VCPU_HALTED : VCPU_IN_GUEST);
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&set->pause, __ATOMIC_SEQ_CST) && set->irq->enter(set->irq_chip, vcpu))
		return true;
	set_place(vcpu, VCPU_OUTSIDE);
	return false;
}

void vcpu_leave(struct vcpu *vcpu)
{
	set_place(vcpu, VCPU_OUTSIDE);
}

void vcpu_kick(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	switch (__atomic_load_n(&vcpu->place, __ATOMIC_SEQ_CST)) {
	case VCPU_IN_GUEST:
		pthread_kill(vcpu->thread, vcpu_kick_signal());
		break;
	case VCPU_HALTED:
		sem_post(&vcpu->wake);
		break;
	case VCPU_OUTSIDE:
		break; /* it looks before it goes in */
	}
}

static struct timespec timespec_of(int64_t ns)
{
	return (struct timespec){ .tv_sec = ns / NS_IN_SEC, .tv_nsec = ns % NS_IN_SEC };
}

void vcpu_kick_at(struct vcpu *vcpu, int64_t ns)
{
	struct itimerspec when = { .it_value = timespec_of(ns) };
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = vcpu_kick_signal(),
		.sigev_value = { .sival_ptr = vcpu },
	};

	if (ns == __atomic_load_n(&vcpu->kick_at, __ATOMIC_RELAXED))
		return;
	if (!vcpu->have_timer) {
		event._sigev_un._tid = gettid();
		vcpu->have_timer = timer_create(CLOCK_MONOTONIC, &event, &vcpu->timer) == 0;
	}
	if (!vcpu->have_timer)
		return;
	__atomic_store_n(&vcpu->kick_at, ns, __ATOMIC_RELAXED);
	timer_settime(vcpu->timer, TIMER_ABSTIME, &when, NULL);
}

void vcpu_wait(struct vcpu *vcpu, int64_t ns)
{
	struct timespec until = timespec_of(ns);

	/* However it returns, somebody looks again. */
	if (ns)
		sem_clockwait(&vcpu->wake, CLOCK_MONOTONIC, &until);
	else
		sem_wait(&vcpu->wake);
}
