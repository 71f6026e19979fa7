/*
 * Who plays the machine's interrupt chips (--irqchip): one table for each way there is. The machine
 * makes them before the first vCPU and asks nothing further of them; devices see them through
 * irq.h, vCPU threads through vcpu_irq_ops.
 */
#ifndef VMM_X86_64_IRQCHIP_H
#define VMM_X86_64_IRQCHIP_H

#include "devices/device.h"
#include "vmm/error.h"
#include "vmm/irq.h"
#include "vmm/kvm.h"
#include "vmm/vcpu.h"

struct irqchip_ops {
	/*
	 * Of the host memory, buses and loop are there already; vcpus is still to be made, with
	 * this many. NULL: e says why.
	 */
	void *(*create)(struct kvm *kvm, struct device_host *host, struct vcpu_set *vcpus,
			unsigned cpus, struct error *e);
	/* After all that could interrupt, before the vCPUs. */
	void (*destroy)(void *chip);
	/* As after power on; vCPUs paused. Routes stay. */
	int (*reset)(void *chip, struct error *e);
	const struct irq_chip_ops *irq;
	const struct vcpu_irq_ops *vcpu; /* NULL: KVM does all that */
};

extern const struct irqchip_ops irqchip_kernel; /* all by KVM */
extern const struct irqchip_ops irqchip_split;	/* local APICs by KVM, the others by us */
extern const struct irqchip_ops irqchip_user;	/* all by us */

#endif
