/*
 * Lines and messages in front of whichever chip the machine has: see irq.h. Where a chip cannot
 * bind an eventfd to a message (no in-kernel LAPIC) or to a line (no in-kernel I/O APIC), an event
 * loop here serves the eventfd instead: slower, the same result.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/event.h"
#include "vmm/event_fd.h"
#include "vmm/irq.h"
#include "vmm/irq_bound.h"
#include "vmm/trace.h"

#define ROUTE_WORDS 64

struct irq_controller {
	const struct irq_chip_ops *ops;
	void *chip;
	/* Guards the line counts; held while the chip is told, so that levels arrive in order. */
	pthread_mutex_t line_lock;
	unsigned high[IRQ_LINES]; /* pins that drive the line */
	/* Guards the route map only; a leaf. */
	pthread_mutex_t route_lock;
	uint64_t used[ROUTE_WORDS];
	struct event_loop *served; /* runs only where the chip binds no eventfds */
	struct irq_bounds bounds;
};

static void lines_ended(void *opaque, uint32_t lines)
{
	struct irq_controller *ic = opaque;

	irq_bound_ended(&ic->bounds, lines);
}

struct irq_controller *irq_create(const struct irq_chip_ops *ops, void *chip, struct error *e)
{
	struct irq_controller *ic = calloc(1, sizeof(*ic));

	if (!ic) {
		error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	ic->ops = ops;
	ic->chip = chip;
	pthread_mutex_init(&ic->line_lock, NULL);
	pthread_mutex_init(&ic->route_lock, NULL);
	irq_bounds_init(&ic->bounds);
	if (!ops->route_set || ops->watch_ends) {
		ic->served = event_loop_create("irq", e);
		if (!ic->served || event_loop_start(ic->served, e)) {
			irq_destroy(ic);
			return NULL;
		}
	}
	if (ops->watch_ends)
		ops->watch_ends(chip, lines_ended, ic);
	return ic;
}

void irq_destroy(struct irq_controller *ic)
{
	if (!ic)
		return;
	if (ic->ops->watch_ends)
		ic->ops->watch_ends(ic->chip, NULL, NULL);
	event_loop_destroy(ic->served);
	irq_bounds_destroy(&ic->bounds);
	pthread_mutex_destroy(&ic->line_lock);
	pthread_mutex_destroy(&ic->route_lock);
	free(ic);
}

/* ---- lines ----------------------------------------------------------------------------------- */

void irq_line_init(struct irq_line *line, struct irq_controller *ic, unsigned gsi)
{
	*line = (struct irq_line){ .ic = ic, .gsi = gsi % IRQ_LINES };
}

void irq_line_set(struct irq_line *line, bool level)
{
	struct irq_controller *ic = line->ic;
	uint64_t begin;
	unsigned *high;

	/* A pin's own level is only changed here, and its calls are serialised by its device. */
	if (!ic || line->level == level)
		return;
	line->level = level;
	if (level)
		account_add(line->account, ACCOUNT_IRQS_LINE, 1);
	begin = level ? trace_work_begin(line->account) : 0;
	high = &ic->high[line->gsi];
	pthread_mutex_lock(&ic->line_lock);
	if (level ? (*high)++ == 0 : --(*high) == 0)
		ic->ops->set_line(ic->chip, line->gsi, level);
	pthread_mutex_unlock(&ic->line_lock);
	if (begin)
		trace_interrupt(line->account, begin, "line", line->gsi);
}

bool irq_line_can_bind(const struct irq_controller *ic)
{
	return ic->ops->line_bind || ic->ops->watch_ends;
}

int irq_line_bind(struct irq_line *line, int trigger, int resample)
{
	struct irq_controller *ic = line->ic;

	if (!ic || !irq_line_can_bind(ic))
		return -ENOTSUP;
	if (!ic->ops->line_bind)
		return irq_bound_add(&ic->bounds, ic->served, line, trigger, resample);
	return ic->ops->line_bind(ic->chip, line->gsi, trigger, resample);
}

void irq_line_unbind(struct irq_line *line, int trigger)
{
	struct irq_controller *ic = line->ic;

	if (ic && ic->ops->line_unbind)
		ic->ops->line_unbind(ic->chip, line->gsi, trigger);
	else if (ic)
		irq_bound_remove(&ic->bounds, trigger);
}

/* ---- messages -------------------------------------------------------------------------------- */

void irq_msi_init(struct irq_msi *msi, struct irq_controller *ic)
{
	*msi = (struct irq_msi){ .ic = ic, .masked = true, .eventfd = -1, .route = -1 };
	pthread_mutex_init(&msi->lock, NULL);
}

static int route_alloc(struct irq_controller *ic)
{
	unsigned max = ic->ops->max_routes;
	int route = -ENOSPC;

	if (max > ROUTE_WORDS * 64)
		max = ROUTE_WORDS * 64;
	pthread_mutex_lock(&ic->route_lock);
	for (unsigned i = 0; i < max; i++) {
		if (ic->used[i / 64] & (1ull << (i % 64)))
			continue;
		ic->used[i / 64] |= 1ull << (i % 64);
		route = (int)i;
		break;
	}
	pthread_mutex_unlock(&ic->route_lock);
	return route;
}

static void route_free(struct irq_controller *ic, int route)
{
	pthread_mutex_lock(&ic->route_lock);
	ic->used[route / 64] &= ~(1ull << (route % 64));
	pthread_mutex_unlock(&ic->route_lock);
}

/* A back end in another process may have it too (vhost-user). */
static bool eventfd_drain(int fd)
{
	return fd >= 0 && event_fd_take(fd);
}

static bool eventfd_signalled(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return fd >= 0 && poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

static void send_locked(struct irq_msi *msi)
{
	uint64_t begin;

	if (msi->masked) {
		msi->pending = true;
		return;
	}
	msi->sent++;
	if (msi->ic->ops->own) {
		account_add(msi->account, ACCOUNT_IRQS_OWN, 1);
	} else {
		account_add(msi->account, ACCOUNT_IRQS_IOCTL, 1);
		account_add(msi->account, ACCOUNT_SYSCALLS, 1);
	}
	begin = trace_work_begin(msi->account);
	msi->ic->ops->msi(msi->ic->chip, msi->address, msi->data);
	if (begin)
		trace_interrupt(msi->account, begin,
				msi->ic->ops->own ? "own APIC" : "KVM_SIGNAL_MSI",
				msi->data & 0xff);
}

/* Makes the chip (or our loop) agree with masked/address/data. */
static void bind_locked(struct irq_msi *msi)
{
	const struct irq_chip_ops *ops = msi->ic->ops;

	if (msi->eventfd < 0)
		return;
	if (msi->served.loop) {
		/* Level-triggered: what was signalled while masked is served on unmasking. */
		event_modify(&msi->served, msi->masked ? 0 : EPOLLIN);
	} else if (!msi->masked) {
		msi->bound = ops->route_set(msi->ic->chip, (unsigned)msi->route, msi->eventfd,
					    msi->address, msi->data) == 0;
	} else if (msi->bound) {
		ops->route_clear(msi->ic->chip, (unsigned)msi->route, msi->eventfd);
		msi->bound = false;
	}
}

/* Signalled with no chip to bind to: deliver by hand. Runs on the loop that serves it. */
static void eventfd_served(void *opaque, uint32_t events)
{
	struct irq_msi *msi = opaque;

	(void)events;
	pthread_mutex_lock(&msi->lock);
	if (!msi->masked && eventfd_drain(msi->eventfd))
		send_locked(msi);
	pthread_mutex_unlock(&msi->lock);
}

/* The eventfd's way to the chip: a route of its own, or our loop. */
static int eventfd_connect(struct irq_msi *msi)
{
	struct irq_controller *ic = msi->ic;

	if (ic->ops->route_set) {
		msi->route = route_alloc(ic);
		return msi->route < 0 ? msi->route : 0;
	}
	msi->served = (struct event_source){
		.fd = msi->eventfd,
		.events = 0,
		.callback = eventfd_served,
		.opaque = msi,
	};
	return event_add(ic->served, &msi->served);
}

void irq_msi_destroy(struct irq_msi *msi)
{
	if (!msi->ic)
		return;
	irq_msi_reset(msi);
	event_del(&msi->served); /* not under the lock: its callback takes it */
	if (msi->route >= 0)
		route_free(msi->ic, msi->route);
	if (msi->eventfd >= 0)
		close(msi->eventfd);
	pthread_mutex_destroy(&msi->lock);
	*msi = (struct irq_msi){ .eventfd = -1, .route = -1 };
}

void irq_msi_configure(struct irq_msi *msi, uint64_t address, uint32_t data, bool masked)
{
	pthread_mutex_lock(&msi->lock);
	if (msi->address != address || msi->data != data || msi->masked != masked) {
		msi->address = address;
		msi->data = data;
		msi->masked = masked;
		/* Binding delivers what the eventfd counted while it was unbound. */
		bind_locked(msi);
		if (!masked && msi->pending) {
			msi->pending = false;
			send_locked(msi);
		}
	}
	pthread_mutex_unlock(&msi->lock);
}

void irq_msi_send(struct irq_msi *msi)
{
	pthread_mutex_lock(&msi->lock);
	send_locked(msi);
	pthread_mutex_unlock(&msi->lock);
}

bool irq_msi_pending(struct irq_msi *msi)
{
	bool pending;

	pthread_mutex_lock(&msi->lock);
	pending = msi->pending || (msi->masked && eventfd_signalled(msi->eventfd));
	pthread_mutex_unlock(&msi->lock);
	return pending;
}

void irq_msi_reset(struct irq_msi *msi)
{
	pthread_mutex_lock(&msi->lock);
	msi->masked = true;
	bind_locked(msi);
	msi->pending = false;
	eventfd_drain(msi->eventfd);
	msi->address = 0;
	msi->data = 0;
	pthread_mutex_unlock(&msi->lock);
}

int irq_msi_eventfd(struct irq_msi *msi)
{
	int fd, err;

	pthread_mutex_lock(&msi->lock);
	if (msi->eventfd < 0) {
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		msi->eventfd = fd < 0 ? -1 : fd;
		err = fd < 0 ? -errno : eventfd_connect(msi);
		if (err) {
			if (fd >= 0)
				close(fd);
			msi->eventfd = -1;
			msi->route = -1;
			pthread_mutex_unlock(&msi->lock);
			return err;
		}
		bind_locked(msi);
	}
	fd = msi->eventfd;
	pthread_mutex_unlock(&msi->lock);
	return fd;
}
