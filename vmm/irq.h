/*
 * Interrupts as devices see them: a line that is raised and lowered, or a message (MSI) that is
 * sent or signalled through an eventfd. Whether that ends in KVM's chip, in a split chip or in our
 * own is decided behind this header; devices cannot tell.
 */
#ifndef VMM_IRQ_H
#define VMM_IRQ_H

#include <stdbool.h>
#include <stdint.h>
#include <pthread.h>

#include "vmm/account.h"
#include "vmm/error.h"
#include "vmm/event.h"

#define IRQ_LINES 24 /* inputs of the one I/O APIC: GSI 0-15 ISA, 16-23 PCI INTx */

struct irq_controller;

/*
 * What a chip implementation provides (vmm/x86_64/irq_kvm.c; tests have a recording one). Any
 * thread. set_line: drive GSI; only called on changes. msi: deliver one message now; 0 or -errno.
 * route_*: an eventfd that delivers a message when signalled. NULL where the chip has no such way:
 * then irq.c serves the eventfd from a thread, with the same result.
 */
struct irq_chip_ops {
	void (*set_line)(void *chip, unsigned gsi, bool level);
	int (*msi)(void *chip, uint64_t address, uint32_t data);
	/* Binds the eventfd to the message; again with another message to change it. */
	int (*route_set)(void *chip, unsigned route, int eventfd, uint64_t address, uint32_t data);
	/* Unbinds; the eventfd keeps counting, so nothing signalled meanwhile is lost. */
	int (*route_clear)(void *chip, unsigned route, int eventfd);
	unsigned max_routes;
	bool own; /* messages go to local APICs of ours: accounting tells them apart */
	/*
	 * An eventfd that drives the line: signalled, the line is high; when the guest has served
	 * it (end of interrupt) it is low and resample is signalled. NULL where the chip does not
	 * tell.
	 */
	int (*line_bind)(void *chip, unsigned gsi, int eventfd, int resample);
	int (*line_unbind)(void *chip, unsigned gsi, int eventfd);
	/*
	 * For chips without line_bind: tells ended() from now on when the guest has served lines
	 * (one bit a GSI), before their pins are looked at again. Before any vCPU runs, and with
	 * NULL after. ended() may call set_line. NULL: the chip does not tell.
	 */
	void (*watch_ends)(void *chip, void (*ended)(void *opaque, uint32_t lines), void *opaque);
};

struct irq_controller *irq_create(const struct irq_chip_ops *ops, void *chip, struct error *e);
void irq_destroy(struct irq_controller *ic);

/*
 * One device's pin on a line. Several pins may share a GSI: the line is high while any is (wired
 * OR). Embedded in the device; zero-initialise, then irq_line_init().
 */
struct irq_line {
	struct irq_controller *ic;
	unsigned gsi;
	bool level;
	struct account *account; /* whose interrupts; set after irq_line_init(), or NULL */
};

void irq_line_init(struct irq_line *line, struct irq_controller *ic, unsigned gsi);
void irq_line_set(struct irq_line *line, bool level); /* any thread; calls for one pin serialised */

/*
 * For a pin whose level nobody here knows, because the hardware itself is passed through:
 * signalling trigger raises the line, the guest's end of interrupt lowers it and signals resample,
 * whereupon the owner looks whether the hardware still wants it and signals trigger again. Works
 * beside other pins on the GSI. -ENOTSUP where the chip cannot; the fds stay the caller's.
 */
bool irq_line_can_bind(const struct irq_controller *ic);
int irq_line_bind(struct irq_line *line, int trigger, int resample);
void irq_line_unbind(struct irq_line *line, int trigger); /* the line goes low */

/*
 * One message-signalled interrupt (an MSI or MSI-X vector). Starts masked. While masked, sends are
 * remembered as one pending bit, whether they came by irq_msi_send() or through the eventfd.
 */
struct irq_msi {
	struct irq_controller *ic;
	pthread_mutex_t lock; /* leaf lock: nothing is taken under it but the chip's own */
	uint64_t address;
	uint32_t data;
	bool masked;
	bool pending;
	int eventfd;		    /* -1 until asked for */
	int route;		    /* -1 while none */
	bool bound;		    /* the eventfd is bound to the chip */
	struct event_source served; /* the eventfd where the chip cannot bind it */
	struct account *account;    /* whose interrupts; set after irq_msi_init(), or NULL */
	uint64_t sent;		    /* messages delivered by irq_msi_send() */
};

void irq_msi_init(struct irq_msi *msi, struct irq_controller *ic);
void irq_msi_destroy(struct irq_msi *msi);

/* New address, data and mask state. Unmasking delivers what is pending. */
void irq_msi_configure(struct irq_msi *msi, uint64_t address, uint32_t data, bool masked);
/* Delivers, or sets pending. Any thread. */
void irq_msi_send(struct irq_msi *msi);
/* Is one pending? Looks at the eventfd too. */
bool irq_msi_pending(struct irq_msi *msi);
/* Masked, nothing pending, eventfd drained: the state after reset. */
void irq_msi_reset(struct irq_msi *msi);
/*
 * The eventfd whose signal sends this message; made on first use, owned by msi. A data plane in
 * another thread, process or the kernel writes it. -errno if none can be had.
 */
int irq_msi_eventfd(struct irq_msi *msi);

#endif
