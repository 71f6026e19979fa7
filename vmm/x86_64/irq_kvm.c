/*
 * KVM's own chips behind irq.h. GSI 0-23 are the I/O APIC's pins (0-15 the PIC's too), each MSI
 * route is a GSI above. KVM takes the routing table only as a whole, so it is kept here and given
 * anew at each change; changes are rare (a driver setting up its vectors).
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <linux/kvm.h>

#include "vmm/x86_64/irq_kvm.h"
#include "vmm/x86_64/layout.h"

#define MSI_ROUTES 1024 /* of KVM's 4096; bounds what a routing update copies */
#define FIXED_MAX  (IRQ_LINES + 16)

enum { CHIP_PIC_MASTER, CHIP_PIC_SLAVE, CHIP_IOAPIC, CHIPS };

struct irq_kvm {
	struct kvm *kvm;
	/* Guards the table and the ioctl that publishes it. Taken under irq_msi.lock. */
	pthread_mutex_t lock;
	struct kvm_irq_routing *table; /* fixed entries first, then one per used MSI route */
	unsigned nfixed;
	bool bound[MSI_ROUTES]; /* the route's irqfd is assigned */
	/* As after power on. */
	struct kvm_irqchip initial[CHIPS];
	struct kvm_pit_state2 initial_pit;
};

static int publish(struct irq_kvm *chip)
{
	return kvm_vm_ioctl(chip->kvm, KVM_SET_GSI_ROUTING, chip->table);
}

static void add_pin(struct irq_kvm *chip, unsigned gsi, unsigned irqchip, unsigned pin)
{
	chip->table->entries[chip->table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = irqchip, .pin = pin },
	};
}

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

struct irq_kvm *irq_kvm_create(struct kvm *kvm, struct error *e)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity_map = LAYOUT_KVM_IDENTITY_MAP;
	struct irq_kvm *chip = calloc(1, sizeof(*chip));
	int err;

	if (chip)
		chip->table =
			calloc(1, sizeof(*chip->table) + (FIXED_MAX + MSI_ROUTES) *
								 sizeof(chip->table->entries[0]));
	if (!chip || !chip->table) {
		free(chip);
		error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	chip->kvm = kvm;
	pthread_mutex_init(&chip->lock, NULL);

	/* Where Intel's real-mode emulation keeps its pages; refused and unneeded elsewhere. */
	kvm_vm_ioctl(kvm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	kvm_vm_ioctl(kvm, KVM_SET_TSS_ADDR, (void *)LAYOUT_KVM_TSS);

	err = kvm_vm_ioctl(kvm, KVM_CREATE_IRQCHIP, NULL);
	if (!err)
		err = kvm_vm_ioctl(kvm, KVM_CREATE_PIT2, &pit);
	if (!err)
		err = snapshot(chip);
	for (unsigned pin = 0; pin < 16; pin++)
		add_pin(chip, pin, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
			pin % 8);
	for (unsigned pin = 0; pin < IRQ_LINES; pin++)
		add_pin(chip, pin, KVM_IRQCHIP_IOAPIC, pin);
	/*
	 * Not published: it is the table KVM starts with, and publishing waits for an SRCU grace
	 * period (over 10 ms of a start). The first MSI route takes it along.
	 */
	chip->nfixed = chip->table->nr;
	if (err < 0) {
		error_set_errno(e, err, "KVM cannot make its interrupt chips");
		irq_kvm_destroy(chip);
		return NULL;
	}
	return chip;
}

void irq_kvm_destroy(struct irq_kvm *chip)
{
	if (!chip)
		return;
	pthread_mutex_destroy(&chip->lock);
	free(chip->table);
	free(chip);
}

int irq_kvm_reset(struct irq_kvm *chip, struct error *e)
{
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
	struct irq_kvm *chip = opaque;
	struct kvm_msi message = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};
	int ret = kvm_vm_ioctl(chip->kvm, KVM_SIGNAL_MSI, &message);

	return ret < 0 ? ret : 0;
}

static struct kvm_irq_routing_entry *find_route(struct irq_kvm *chip, unsigned gsi)
{
	for (unsigned i = chip->nfixed; i < chip->table->nr; i++)
		if (chip->table->entries[i].gsi == gsi)
			return &chip->table->entries[i];
	return NULL;
}

static int irqfd(struct irq_kvm *chip, unsigned gsi, int eventfd, uint32_t flags)
{
	struct kvm_irqfd arg = { .fd = (uint32_t)eventfd, .gsi = gsi, .flags = flags };

	return kvm_vm_ioctl(chip->kvm, KVM_IRQFD, &arg);
}

static int route_set(void *opaque, unsigned route, int eventfd, uint64_t address, uint32_t data)
{
	struct irq_kvm *chip = opaque;
	struct kvm_irq_routing_entry *entry;
	struct kvm_irq_routing_msi msi_route = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};
	unsigned gsi = IRQ_LINES + route;
	int err = 0;

	pthread_mutex_lock(&chip->lock);
	entry = find_route(chip, gsi);
	/* Publishing waits for readers in the kernel; masking and unmasking need not. */
	if (!entry || memcmp(&entry->u.msi, &msi_route, sizeof(msi_route)) != 0) {
		if (!entry)
			entry = &chip->table->entries[chip->table->nr++];
		*entry = (struct kvm_irq_routing_entry){
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = msi_route,
		};
		err = publish(chip);
	}
	if (!err && !chip->bound[route])
		err = irqfd(chip, gsi, eventfd, 0);
	if (!err)
		chip->bound[route] = true;
	pthread_mutex_unlock(&chip->lock);
	return err;
}

static int route_clear(void *opaque, unsigned route, int eventfd)
{
	struct irq_kvm *chip = opaque;
	int err;

	/* The route stays: nothing refers to it, and most clearing is a mask that is soon undone.
	 */
	pthread_mutex_lock(&chip->lock);
	err = irqfd(chip, IRQ_LINES + route, eventfd, KVM_IRQFD_FLAG_DEASSIGN);
	chip->bound[route] = false;
	pthread_mutex_unlock(&chip->lock);
	return err;
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
	return irqfd(opaque, gsi, eventfd, KVM_IRQFD_FLAG_DEASSIGN);
}

const struct irq_chip_ops irq_kvm_ops = {
	.set_line = set_line,
	.msi = msi,
	.route_set = route_set,
	.route_clear = route_clear,
	.max_routes = MSI_ROUTES,
	.line_bind = line_bind,
	.line_unbind = line_unbind,
};
