/*
 * KVM's own chips behind irqchip.h: PIC pair, I/O APIC, PIT and one LAPIC a vCPU. GSI 0-23 are the
 * I/O APIC's pins (0-15 the PIC's too), each MSI route is a GSI above.
 */
#include <errno.h>
#include <stdlib.h>

#include <linux/kvm.h>

#include "vmm/x86_64/irqchip.h"
#include "vmm/x86_64/layout.h"
#include "vmm/x86_64/msi_routes.h"

enum { CHIP_PIC_MASTER, CHIP_PIC_SLAVE, CHIP_IOAPIC, CHIPS };

struct irq_kvm {
	struct kvm *kvm;
	struct msi_routes routes;
	/* As after power on. */
	struct kvm_irqchip initial[CHIPS];
	struct kvm_pit_state2 initial_pit;
};

static int snapshot(struct irq_kvm *chip)
{
	static const uint32_t ids[CHIPS] = { KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
					     KVM_IRQCHIP_IOAPIC };

	for (unsigned i = 0; i < CHIPS; i++) {
		int err;

		chip->initial[i].chip_id = ids[i];
		err = kvm_vm_ioctl(chip->kvm, KVM_GET_IRQCHIP, &chip->initial[i]);
		if (err < 0)
			return err;
	}
	return kvm_vm_ioctl(chip->kvm, KVM_GET_PIT2, &chip->initial_pit);
}

static int make_chips(struct irq_kvm *chip)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int err = kvm_vm_ioctl(chip->kvm, KVM_CREATE_IRQCHIP, NULL);

	if (!err)
		err = kvm_vm_ioctl(chip->kvm, KVM_CREATE_PIT2, &pit);
	if (!err)
		err = snapshot(chip);
	for (unsigned pin = 0; pin < 16; pin++)
		msi_routes_add_chip_pin(&chip->routes, pin,
					pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
					pin % 8);
	for (unsigned pin = 0; pin < IRQ_LINES; pin++)
		msi_routes_add_chip_pin(&chip->routes, pin, KVM_IRQCHIP_IOAPIC, pin);
	return err;
}

static void destroy(void *opaque)
{
	struct irq_kvm *chip = opaque;

	msi_routes_destroy(&chip->routes);
	free(chip);
}

static void *create(struct kvm *kvm, struct device_host *host, struct vcpu_set *vcpus,
		    unsigned cpus, struct error *e)
{
	struct irq_kvm *chip = calloc(1, sizeof(*chip));
	int err;

	(void)host;
	(void)vcpus;
	(void)cpus;
	if (!chip || msi_routes_init(&chip->routes, kvm)) {
		free(chip);
		error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	chip->kvm = kvm;
	err = make_chips(chip);
	if (err < 0) {
		error_set_errno(e, err, "KVM cannot make its interrupt chips");
		destroy(chip);
		return NULL;
	}
	return chip;
}

static int reset(void *opaque, struct error *e)
{
	struct irq_kvm *chip = opaque;
	int err = 0;

	for (unsigned i = 0; i < CHIPS && err >= 0; i++)
		err = kvm_vm_ioctl(chip->kvm, KVM_SET_IRQCHIP, &chip->initial[i]);
	if (err >= 0)
		err = kvm_vm_ioctl(chip->kvm, KVM_SET_PIT2, &chip->initial_pit);
	return err < 0 ? error_set_errno(e, err, "KVM cannot reset its interrupt chips") : 0;
}

static void set_line(void *opaque, unsigned gsi, bool level)
{
	struct irq_kvm *chip = opaque;
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	kvm_vm_ioctl(chip->kvm, KVM_IRQ_LINE, &line);
}

static int msi(void *opaque, uint64_t address, uint32_t data)
{
	const struct irq_kvm *chip = opaque;
	int ret = msi_signal(chip->kvm, address, data);

	return ret < 0 ? ret : 0;
}

static int route_set(void *opaque, unsigned route, int eventfd, uint64_t address, uint32_t data)
{
	struct irq_kvm *chip = opaque;

	return msi_routes_bind(&chip->routes, route, eventfd, address, data);
}

static int route_clear(void *opaque, unsigned route, int eventfd)
{
	struct irq_kvm *chip = opaque;

	return msi_routes_unbind(&chip->routes, route, eventfd);
}

/* KVM keeps the level of these apart from set_line()'s, and the pin is the OR of both. */
static int line_bind(void *opaque, unsigned gsi, int eventfd, int resample)
{
	struct irq_kvm *chip = opaque;
	struct kvm_irqfd arg = {
		.fd = (uint32_t)eventfd,
		.gsi = gsi,
		.flags = KVM_IRQFD_FLAG_RESAMPLE,
		.resamplefd = (uint32_t)resample,
	};

	return kvm_vm_ioctl(chip->kvm, KVM_IRQFD, &arg);
}

static int line_unbind(void *opaque, unsigned gsi, int eventfd)
{
	struct irq_kvm *chip = opaque;
	struct kvm_irqfd arg = {
		.fd = (uint32_t)eventfd,
		.gsi = gsi,
		.flags = KVM_IRQFD_FLAG_DEASSIGN,
	};

	return kvm_vm_ioctl(chip->kvm, KVM_IRQFD, &arg);
}

static const struct irq_chip_ops irq_ops = {
	.set_line = set_line,
	.msi = msi,
	.route_set = route_set,
	.route_clear = route_clear,
	.max_routes = MSI_ROUTES,
	.line_bind = line_bind,
	.line_unbind = line_unbind,
};

const struct irqchip_ops irqchip_kernel = {
	.create = create,
	.destroy = destroy,
	.reset = reset,
	.irq = &irq_ops,
};
