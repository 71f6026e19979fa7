/*
 * Interrupt chips that are all ours: still to come.
 */
#include <errno.h>

#include "vmm/x86_64/irqchip.h"

static void *create(struct kvm *kvm, struct device_host *host, struct vcpu_set *vcpus,
		    unsigned cpus, struct error *e)
{
	(void)kvm;
	(void)host;
	(void)vcpus;
	(void)cpus;
	error_set(e, -ENOTSUP, "--irqchip=user is planned; kernel and split work");
	return NULL;
}

const struct irqchip_ops irqchip_user = { .create = create };
