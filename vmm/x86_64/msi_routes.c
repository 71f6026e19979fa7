/*
 * The GSI routing table: see msi_routes.h. Documentation/virt/kvm/api.rst, KVM_SET_GSI_ROUTING,
 * KVM_IRQFD and KVM_SIGNAL_MSI.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/kvm.h>

#include "vmm/x86_64/msi_routes.h"

#define FIXED_MAX (IRQ_LINES + 16)

int msi_routes_init(struct msi_routes *routes, const struct kvm *kvm)
{
	*routes = (struct msi_routes){ .kvm = kvm };
	pthread_mutex_init(&routes->lock, NULL);
	routes->table =
		calloc(1, sizeof(*routes->table) +
				  (FIXED_MAX + MSI_ROUTES) * sizeof(routes->table->entries[0]));
	return routes->table ? 0 : -ENOMEM;
}

void msi_routes_destroy(struct msi_routes *routes)
{
	if (!routes->kvm)
		return;
	pthread_mutex_destroy(&routes->lock);
	free(routes->table);
	*routes = (struct msi_routes){ 0 };
}

static int publish(struct msi_routes *routes)
{
	return kvm_vm_ioctl(routes->kvm, KVM_SET_GSI_ROUTING, routes->table);
}

void msi_routes_add_chip_pin(struct msi_routes *routes, unsigned gsi, unsigned irqchip,
			     unsigned pin)
{
	routes->table->entries[routes->table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = irqchip, .pin = pin },
	};
	routes->nfixed = routes->table->nr;
}

void msi_routes_add_message_pin(struct msi_routes *routes, unsigned gsi)
{
	routes->table->entries[routes->table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
	};
	routes->nfixed = routes->table->nr;
}

static struct kvm_irq_routing_entry *find(struct msi_routes *routes, unsigned first, unsigned gsi)
{
	for (unsigned i = first; i < routes->table->nr; i++)
		if (routes->table->entries[i].gsi == gsi)
			return &routes->table->entries[i];
	return NULL;
}

/* Publishing waits for readers in the kernel; masking and unmasking need not. */
static int set_message(struct msi_routes *routes, struct kvm_irq_routing_entry *entry, unsigned gsi,
		       uint64_t address, uint32_t data)
{
	struct kvm_irq_routing_msi message = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};

	if (entry && memcmp(&entry->u.msi, &message, sizeof(message)) == 0)
		return 0;
	if (!entry)
		entry = &routes->table->entries[routes->table->nr++];
	*entry = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = message,
	};
	return publish(routes);
}

int msi_routes_set_pin(struct msi_routes *routes, unsigned gsi, uint64_t address, uint32_t data)
{
	struct kvm_irq_routing_entry *entry;
	int err;

	pthread_mutex_lock(&routes->lock);
	entry = find(routes, 0, gsi);
	err = entry ? set_message(routes, entry, gsi, address, data) : -EINVAL;
	pthread_mutex_unlock(&routes->lock);
	return err;
}

static int irqfd(const struct msi_routes *routes, unsigned gsi, int eventfd, uint32_t flags)
{
	struct kvm_irqfd arg = { .fd = (uint32_t)eventfd, .gsi = gsi, .flags = flags };

	return kvm_vm_ioctl(routes->kvm, KVM_IRQFD, &arg);
}

int msi_routes_bind(struct msi_routes *routes, unsigned route, int eventfd, uint64_t address,
		    uint32_t data)
{
	unsigned gsi = IRQ_LINES + route;
	int err;

	pthread_mutex_lock(&routes->lock);
	err = set_message(routes, find(routes, routes->nfixed, gsi), gsi, address, data);
	if (!err && !routes->bound[route])
		err = irqfd(routes, gsi, eventfd, 0);
	if (!err)
		routes->bound[route] = true;
	pthread_mutex_unlock(&routes->lock);
	return err;
}

int msi_routes_unbind(struct msi_routes *routes, unsigned route, int eventfd)
{
	int err;

	/* The route stays: nothing refers to it, and most clearing is a mask that is soon undone.
	 */
	pthread_mutex_lock(&routes->lock);
	err = irqfd(routes, IRQ_LINES + route, eventfd, KVM_IRQFD_FLAG_DEASSIGN);
	routes->bound[route] = false;
	pthread_mutex_unlock(&routes->lock);
	return err;
}

int msi_signal(const struct kvm *kvm, uint64_t address, uint32_t data)
{
	struct kvm_msi message = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};

	return kvm_vm_ioctl(kvm, KVM_SIGNAL_MSI, &message);
}
