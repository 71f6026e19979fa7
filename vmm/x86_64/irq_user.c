/*
 * All interrupt chips ours, behind irqchip.h: the chip set's (devices/emulated/chips.h) and one
 * local APIC a vCPU on a bus between them (devices/emulated/apic_bus.h). KVM gives each vCPU the
 * bare pins: an interrupt goes in by KVM_INTERRUPT when it says that one would be taken now, an NMI
 * by KVM_NMI, and HLT comes out as an exit, so that halting, INIT and waiting for a startup message
 * are ours too.
 *
 * CR8 and IA32_APIC_BASE live in KVM and are told with each exit; CR8 goes back with each entry.
 * Documentation/virt/kvm/api.rst: KVM_RUN, "struct kvm_run"; KVM_INTERRUPT; KVM_NMI.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>

#include <linux/kvm.h>

#include "devices/emulated/apic_bus.h"
#include "devices/emulated/chips.h"
#include "vmm/log.h"
#include "vmm/vcpu.h"
#include "vmm/x86_64/irqchip.h"
#include "vmm/x86_64/layout.h"

#define APIC_BASE_BSP	  (1u << 8)
#define APIC_BASE_ENABLED (1u << 11)
#define APIC_BASE_PAGE	  (~0xfffull)

#define NS_IN_SEC 1000000000

/* What KVM and we believe of a vCPU; its thread's own. */
struct cpu {
	uint64_t apic_base;
	uint64_t cr8; /* as given at the last entry */
	bool started;
};

struct irq_user {
	struct kvm *kvm;
	struct vcpu_set *vcpus;
	struct chips *chips;
	struct apic_bus *apics;
	unsigned cpus;
	struct cpu cpu[];
};

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NS_IN_SEC + ts.tv_nsec;
}

/* ---- between the chips ----------------------------------------------------------------------- */

static void wake(void *opaque, unsigned cpu)
{
	struct irq_user *chip = opaque;

	if (cpu < chip->vcpus->count)
		vcpu_kick(&chip->vcpus->vcpu[cpu]);
}

static bool send(void *opaque, const struct apic_msi *message)
{
	struct irq_user *chip = opaque;

	return apic_bus_send_msi(chip->apics, message);
}

static void set_int(void *opaque, bool level)
{
	struct irq_user *chip = opaque;

	apic_bus_set_lint(chip->apics, 0, level);
}

/* ---- INIT and startup ------------------------------------------------------------------------ */

/* The state that KVM told with the last exit is another processor's, so to say. */
static void forget(struct irq_user *chip, struct vcpu *vcpu)
{
	vcpu->run->ready_for_interrupt_injection = 0;
	vcpu->run->if_flag = 0;
	vcpu->run->cr8 = 0;
	chip->cpu[vcpu->id].cr8 = 0;
}

static void failed(struct vcpu *vcpu, const char *what, int err)
{
	log_error("vcpu%u: %s: %s", vcpu->id, what, strerror(-err));
	vcpu_stop(vcpu, VCPU_FAILED);
}

/* With INIT pending, or waiting to be started; the APIC locked, and unlocked on return. */
static void serve_startup(struct irq_user *chip, struct vcpu *vcpu, struct lapic *l)
{
	bool init = l->init, boot = chip->cpu[vcpu->id].apic_base & APIC_BASE_BSP;
	int startup = init ? -1 : l->startup, err = 0;

	if (init) {
		l->init = false;
		l->nmi = false;
		l->waits_for_startup = !boot;
		lapic_init(l);
	} else if (startup >= 0) {
		l->startup = -1;
		l->waits_for_startup = false;
	}
	apic_bus_unlock(chip->apics, vcpu->id);
	if (init) {
		/* Else KVM would finish it in the new state. */
		vcpu_complete_access(vcpu);
		forget(chip, vcpu);
		vcpu->halted = !boot;
		err = vcpu_arch_init(vcpu);
	} else if (startup >= 0) {
		vcpu->halted = false;
		err = vcpu_arch_startup(vcpu, (uint8_t)startup);
	} else if (vcpu->halted) {
		vcpu_wait(vcpu, 0);
	} else {
		vcpu->halted = true;
	}
	if (err)
		failed(vcpu, init ? "INIT" : "startup", err);
}

/* ---- a vCPU's thread ------------------------------------------------------------------------- */

/* What the guest did to CR8 and APIC base since the last entry; the APIC locked. */
static void take_over(struct irq_user *chip, const struct vcpu *vcpu, struct lapic *l)
{
	const struct kvm_run *run = vcpu->run;
	struct cpu *cpu = &chip->cpu[vcpu->id];

	if (run->cr8 != cpu->cr8) {
		cpu->cr8 = run->cr8;
		lapic_set_cr8(l, (uint8_t)run->cr8);
	}
	if (run->apic_base != cpu->apic_base) {
		cpu->apic_base = run->apic_base;
		lapic_enable(l, run->apic_base & APIC_BASE_ENABLED);
	}
}

/* The vector goes to KVM, which delivers it when the guest is entered. */
static void inject(struct irq_user *chip, struct vcpu *vcpu, int vector)
{
	struct kvm_interrupt interrupt = { .irq = vector < 0 ? chips_inta(chip->chips)
							     : (unsigned)vector };

	if (ioctl(vcpu->fd, KVM_INTERRUPT, &interrupt) < 0)
		failed(vcpu, "KVM_INTERRUPT", -errno);
	vcpu->run->ready_for_interrupt_injection = 0;
}

/* Halted: goes on, or waits. */
static bool serve_halt(struct vcpu *vcpu, bool nmi, bool wanted, int64_t next)
{
	if (nmi || (wanted && vcpu->run->if_flag))
		vcpu->halted = false;
	else
		vcpu_wait(vcpu, next);
	return false;
}

static void first_entry(struct cpu *cpu)
{
	cpu->started = true;
	/* A guest's timer is as exact as the host's, not 50 µs late whenever it waits for it. */
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

static bool enter(void *opaque, struct vcpu *vcpu)
{
	struct irq_user *chip = opaque;
	struct kvm_run *run = vcpu->run;
	struct cpu *cpu = &chip->cpu[vcpu->id];
	struct lapic *l = apic_bus_lock(chip->apics, vcpu->id);
	bool nmi, extint, wanted, now = false;
	int64_t next;
	int vector;

	if (!cpu->started)
		first_entry(cpu);
	take_over(chip, vcpu, l);
	if (l->deadline)
		lapic_tick(l, now_ns());
	if (l->init || l->waits_for_startup) {
		serve_startup(chip, vcpu, l);
		return false;
	}
	nmi = l->nmi;
	l->nmi = false;
	extint = lapic_extint(l);
	vector = lapic_pending(l);
	wanted = extint || vector >= 0;
	if (wanted && !vcpu->halted && run->ready_for_interrupt_injection) {
		/* As KVM's own: the 8259A first. */
		now = true;
		if (extint)
			l->extint = false;
		else
			lapic_acknowledge(l, (uint8_t)vector);
		wanted = lapic_extint(l) || lapic_pending(l) >= 0;
	}
	run->request_interrupt_window = wanted;
	run->cr8 = cpu->cr8 = lapic_cr8(l);
	next = lapic_next(l);
	apic_bus_unlock(chip->apics, vcpu->id);

	if (nmi)
		ioctl(vcpu->fd, KVM_NMI, 0);
	if (vcpu->halted)
		return serve_halt(vcpu, nmi, wanted, next);
	if (now)
		inject(chip, vcpu, extint ? -1 : vector);
	if (next)
		vcpu_kick_at(vcpu, next);
	return true;
}

static void access(struct irq_user *chip, struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint64_t offset = run->mmio.phys_addr & ~APIC_BASE_PAGE;
	struct lapic_effect effect = { .ended = -1 };
	struct lapic *l = apic_bus_lock(chip->apics, vcpu->id);
	uint64_t value = 0;

	take_over(chip, vcpu, l);
	if (run->mmio.is_write) {
		memcpy(&value, run->mmio.data, run->mmio.len);
		lapic_write(l, offset, run->mmio.len, (uint32_t)value, now_ns(), &effect);
	} else {
		value = lapic_read(l, offset, run->mmio.len, now_ns());
		memcpy(run->mmio.data, &value, run->mmio.len);
	}
	apic_bus_unlock(chip->apics, vcpu->id);
	if (effect.ended >= 0)
		chips_eoi(chip->chips, (uint8_t)effect.ended);
	if (effect.send)
		apic_bus_send(chip->apics, vcpu->id, &effect.message);
}

static bool exited(void *opaque, struct vcpu *vcpu)
{
	struct irq_user *chip = opaque;
	const struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		if (!(run->apic_base & APIC_BASE_ENABLED) ||
		    (run->mmio.phys_addr ^ run->apic_base) & APIC_BASE_PAGE)
			return false;
		access(chip, vcpu);
		return true;
	case KVM_EXIT_HLT:
		vcpu->halted = true;
		return true;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
		return true; /* enter() sees to it */
	default:
		return false;
	}
}

static const struct vcpu_irq_ops vcpu_ops = { .enter = enter, .exited = exited };

/* ---- what devices see ------------------------------------------------------------------------ */

static void set_line(void *opaque, unsigned gsi, bool level)
{
	struct irq_user *chip = opaque;

	chips_set_line(chip->chips, gsi, level);
}

static void watch_ends(void *opaque, void (*ended)(void *opaque, uint32_t lines), void *watcher)
{
	struct irq_user *chip = opaque;

	chips_watch_ends(chip->chips, ended, watcher);
}

static int msi(void *opaque, uint64_t address, uint32_t data)
{
	const struct apic_msi message = { .address = address, .data = data };
	struct irq_user *chip = opaque;

	apic_bus_send_msi(chip->apics, &message);
	return 0;
}

/* No routes: irqfds need KVM's local APICs. irq.c's thread serves eventfds. */
static const struct irq_chip_ops irq_ops = {
	.set_line = set_line, .msi = msi, .own = true, .watch_ends = watch_ends
};

/* ---- making and unmaking --------------------------------------------------------------------- */

static void destroy(void *opaque)
{
	struct irq_user *chip = opaque;

	chips_destroy(chip->chips);
	apic_bus_destroy(chip->apics);
	free(chip);
}

/* What a processor's counters would interrupt with is KVM's local APIC. */
static void without_performance_counters(const struct kvm *kvm)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_PMU_CAPABILITY,
				      .args = { KVM_PMU_CAP_DISABLE } };

	kvm_vm_ioctl(kvm, KVM_ENABLE_CAP, &cap); /* older ones have no such switch */
}

static void *create(struct kvm *kvm, struct device_host *host, struct vcpu_set *vcpus,
		    unsigned cpus, struct error *e)
{
	struct irq_user *chip = calloc(1, sizeof(*chip) + cpus * sizeof(chip->cpu[0]));
	const struct chips_wiring wiring = { .send = send, .set_int = set_int, .opaque = chip };

	if (!chip) {
		error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	chip->kvm = kvm;
	chip->vcpus = vcpus;
	chip->cpus = cpus;
	chip->apics = apic_bus_create(cpus, wake, chip);
	if (chip->apics)
		chip->chips = chips_create(host, &wiring, e);
	else
		error_set(e, -ENOMEM, "out of memory");
	if (!chip->chips) {
		destroy(chip);
		return NULL;
	}
	kvm->without_lapic = true;
	without_performance_counters(kvm);
	return chip;
}

/* What firmware would have done: the 8259A interrupts the boot processor, NMI reaches all at LINT1.
 */
static void firmware_setup(struct irq_user *chip)
{
	for (unsigned i = 0; i < chip->cpus; i++) {
		struct lapic *l = apic_bus_lock(chip->apics, i);

		if (i == 0)
			l->reg[LAPIC_LVT_LINT0 >> 4] = APIC_EXTINT << LVT_MODE_SHIFT;
		l->reg[LAPIC_LVT_LINT1 >> 4] = APIC_NMI << LVT_MODE_SHIFT;
		apic_bus_unlock(chip->apics, i);
	}
}

static int reset(void *opaque, struct error *e)
{
	struct irq_user *chip = opaque;

	(void)e;
	apic_bus_reset(chip->apics);
	firmware_setup(chip);
	chips_reset(chip->chips);
	for (unsigned i = 0; i < chip->vcpus->count; i++) {
		struct vcpu *vcpu = &chip->vcpus->vcpu[i];

		forget(chip, vcpu);
		vcpu->halted = false;
		vcpu->run->apic_base =
			LAYOUT_LAPIC | APIC_BASE_ENABLED | (i == 0 ? APIC_BASE_BSP : 0);
		chip->cpu[i].apic_base = vcpu->run->apic_base;
	}
	return 0;
}

const struct irqchip_ops irqchip_user = {
	.create = create,
	.destroy = destroy,
	.reset = reset,
	.irq = &irq_ops,
	.vcpu = &vcpu_ops,
};
