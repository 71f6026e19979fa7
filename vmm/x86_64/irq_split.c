/*
 * Local APICs by KVM, the chip set's controllers (devices/emulated/chips.h) by us, behind
 * irqchip.h. The I/O APIC's messages go to KVM as MSIs; of level interrupts KVM tells us the end
 * (KVM_EXIT_IOAPIC_EOI) if the pin's message is in the routing table. The 8259A's INT goes to the
 * boot CPU's LINT0 by hand: out of the guest, KVM says whether it would take an external interrupt
 * now, and if so it gets the vector. Documentation/virt/kvm/api.rst: KVM_CAP_SPLIT_IRQCHIP,
 * KVM_INTERRUPT.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/kvm.h>

#include "devices/emulated/chips.h"
#include "vmm/log.h"
#include "vmm/vcpu.h"
#include "vmm/x86_64/irqchip.h"
#include "vmm/x86_64/msi_routes.h"

struct irq_split {
	struct kvm *kvm;
	struct vcpu_set *vcpus;
	struct chips *chips;
	struct msi_routes routes;
	struct log_limit unrouted;
	bool intr; /* the 8259A's INT; written under its lock, read without */
};

/* ---- what the chips are wired to ------------------------------------------------------------- */

static bool send(void *opaque, const struct apic_msi *message)
{
	const struct irq_split *chip = opaque;

	return msi_signal(chip->kvm, message->address, message->data) > 0;
}

static void await_eoi(void *opaque, unsigned pin, const struct apic_msi *message)
{
	struct irq_split *chip = opaque;
	int err = msi_routes_set_pin(&chip->routes, pin, message->address, message->data);

	if (err)
		log_guest(&chip->unrouted, "--irqchip=split: KVM refuses the route of line %u: %s",
			  pin, strerror(-err));
}

static void set_int(void *opaque, bool level)
{
	struct irq_split *chip = opaque;

	__atomic_store_n(&chip->intr, level, __ATOMIC_SEQ_CST);
	if (level && chip->vcpus->count)
		vcpu_kick(&chip->vcpus->vcpu[0]);
}

/* ---- what a vCPU's thread does --------------------------------------------------------------- */

static bool enter(void *opaque, struct vcpu *vcpu)
{
	struct irq_split *chip = opaque;
	struct kvm_run *run = vcpu->run;
	bool wanted = vcpu->id == 0 && __atomic_load_n(&chip->intr, __ATOMIC_SEQ_CST);

	if (wanted && run->ready_for_interrupt_injection) {
		struct kvm_interrupt interrupt = { .irq = chips_inta(chip->chips) };

		ioctl(vcpu->fd, KVM_INTERRUPT, &interrupt);
		run->ready_for_interrupt_injection = 0;
		wanted = __atomic_load_n(&chip->intr, __ATOMIC_SEQ_CST);
	}
	run->request_interrupt_window = wanted;
	return true;
}

static bool exited(void *opaque, struct vcpu *vcpu)
{
	struct irq_split *chip = opaque;

	if (vcpu->run->exit_reason == KVM_EXIT_IOAPIC_EOI)
		chips_eoi(chip->chips, vcpu->run->eoi.vector);
	else
		return vcpu->run->exit_reason == KVM_EXIT_IRQ_WINDOW_OPEN;
	return true;
}

static const struct vcpu_irq_ops vcpu_ops = { .enter = enter, .exited = exited };

/* ---- what devices see ------------------------------------------------------------------------ */

static void set_line(void *opaque, unsigned gsi, bool level)
{
	struct irq_split *chip = opaque;

	chips_set_line(chip->chips, gsi, level);
}

static void watch_ends(void *opaque, void (*ended)(void *opaque, uint32_t lines), void *watcher)
{
	struct irq_split *chip = opaque;

	chips_watch_ends(chip->chips, ended, watcher);
}

static int msi(void *opaque, uint64_t address, uint32_t data)
{
	const struct irq_split *chip = opaque;
	int ret = msi_signal(chip->kvm, address, data);

	return ret < 0 ? ret : 0;
}

static int route_set(void *opaque, unsigned route, int eventfd, uint64_t address, uint32_t data)
{
	struct irq_split *chip = opaque;

	return msi_routes_bind(&chip->routes, route, eventfd, address, data);
}

static int route_clear(void *opaque, unsigned route, int eventfd)
{
	struct irq_split *chip = opaque;

	return msi_routes_unbind(&chip->routes, route, eventfd);
}

static const struct irq_chip_ops irq_ops = {
	.set_line = set_line,
	.msi = msi,
	.route_set = route_set,
	.route_clear = route_clear,
	.max_routes = MSI_ROUTES,
	.watch_ends = watch_ends,
};

/* ---- making and unmaking --------------------------------------------------------------------- */

static void destroy(void *opaque)
{
	struct irq_split *chip = opaque;

	chips_destroy(chip->chips);
	msi_routes_destroy(&chip->routes);
	free(chip);
}

static int make_chips(struct irq_split *chip, struct device_host *host, struct error *e)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { IRQ_LINES } };
	const struct chips_wiring wiring = {
		.send = send,
		.await_eoi = await_eoi,
		.set_int = set_int,
		.opaque = chip,
	};
	int err = kvm_vm_ioctl(chip->kvm, KVM_ENABLE_CAP, &split);

	if (err < 0)
		return error_set_errno(
			e, err,
			"--irqchip=split: this KVM does not split its interrupt chips; "
			"use kernel or user");
	for (unsigned pin = 0; pin < IRQ_LINES; pin++)
		msi_routes_add_message_pin(&chip->routes, pin);
	chip->chips = chips_create(host, &wiring, e);
	return chip->chips ? 0 : -EIO; /* e says what */
}

static void *create(struct kvm *kvm, struct device_host *host, struct vcpu_set *vcpus,
		    unsigned cpus, struct error *e)
{
	struct irq_split *chip = calloc(1, sizeof(*chip));

	(void)cpus;
	if (!chip || msi_routes_init(&chip->routes, kvm)) {
		free(chip);
		error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	chip->kvm = kvm;
	chip->vcpus = vcpus;
	if (make_chips(chip, host, e)) {
		destroy(chip);
		return NULL;
	}
	return chip;
}

static int reset(void *opaque, struct error *e)
{
	struct irq_split *chip = opaque;

	(void)e;
	chips_reset(chip->chips);
	/* Told with an exit of the guest that was. */
	for (unsigned i = 0; i < chip->vcpus->count; i++)
		chip->vcpus->vcpu[i].run->ready_for_interrupt_injection = 0;
	return 0;
}

const struct irqchip_ops irqchip_split = {
	.create = create,
	.destroy = destroy,
	.reset = reset,
	.irq = &irq_ops,
	.vcpu = &vcpu_ops,
};
