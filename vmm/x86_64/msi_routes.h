/*
 * KVM's GSI routing table where local APICs are KVM's: a route for each message that an eventfd
 * (irqfd) is to deliver, above those of the lines. KVM takes the table only as a whole, so it is
 * kept here and given anew at each change; changes are rare (a driver setting up its vectors).
 */
#ifndef VMM_X86_64_MSI_ROUTES_H
#define VMM_X86_64_MSI_ROUTES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/irq.h"
#include "vmm/kvm.h"

#define MSI_ROUTES 1024 /* of KVM's 4096; bounds what a routing update copies */

struct msi_routes {
	const struct kvm *kvm;
	/* Guards the table and the ioctl that publishes it. Taken under irq_msi.lock; a leaf. */
	pthread_mutex_t lock;
	struct kvm_irq_routing *table; /* the lines' entries first */
	unsigned nfixed;	       /* how many those are */
	bool bound[MSI_ROUTES];	       /* the route's irqfd is assigned */
};

/* 0 or -ENOMEM; destroy works on one that is all zero, too. */
int msi_routes_init(struct msi_routes *routes, const struct kvm *kvm);
void msi_routes_destroy(struct msi_routes *routes);

/*
 * Set-up: a line goes to this pin of one of KVM's chips. Not published: KVM starts with the same
 * table, and publishing waits for an SRCU grace period (over 10 ms of a start). The first route
 * takes it along.
 */
void msi_routes_add_chip_pin(struct msi_routes *routes, unsigned gsi, unsigned irqchip,
			     unsigned pin);
/* Set-up: room for a line that sends a message of its own. */
void msi_routes_add_message_pin(struct msi_routes *routes, unsigned gsi);
/* … and the message; published if it is another than before. */
int msi_routes_set_pin(struct msi_routes *routes, unsigned gsi, uint64_t address, uint32_t data);

/* As irq_chip_ops.route_set and route_clear. */
int msi_routes_bind(struct msi_routes *routes, unsigned route, int eventfd, uint64_t address,
		    uint32_t data);
int msi_routes_unbind(struct msi_routes *routes, unsigned route, int eventfd);

/* One message now: how many local APICs took it, or -errno. */
int msi_signal(const struct kvm *kvm, uint64_t address, uint32_t data);

#endif
