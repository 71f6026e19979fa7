/*
 * doorbell=ioeventfd: writes of TDT that do not leave the kernel. In: eventfds signalled by KVM.
 * Out: the tail.
 *
 * A virtio doorbell only says "look"; what there is to do is in memory. TDT is different: the
 * number written is the message. It cannot be found in the descriptors (nothing in them says that
 * they are new), and an eventfd does not carry it. Of what KVM offers, coalesced MMIO keeps the
 * value but tells nobody, and a plain ioeventfd tells but loses the value. So there is one
 * ioeventfd with a datamatch for each tail value: which of them was signalled is the value. That is
 * true to the data sheet with any driver and needs none to be changed.
 *
 * A value gets its doorbell after it has come as an exit, one at a time from the main thread: KVM
 * waits for all vCPUs to have left its tables whenever one is added or removed, some milliseconds
 * each, so a card that is not used should have none. After one round of the ring all are there.
 * Values from DOORBELLS on (rings that are longer), and all of them while the BAR moves or when the
 * kernel or the limit of descriptors refuses more, go on to come as exits and are served as with
 * doorbell=exit.
 *
 * Order: a driver moves the tail forward only, and at most once round, so of several values the
 * farthest from the head is the last one written; an exit takes what eventfds have told before its
 * own value.
 *
 * A write costs what KVM needs to look at the doorbells of one address, one after another: see the
 * figures of tests/compare/bench-net-emulated.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/emulated/e1000_internal.h"

#define DOORBELLS 256
#define BATCH	  16

struct e1000_doorbells {
	pthread_mutex_t lock; /* a leaf: drains come from vCPUs and the loop */
	int epoll;
	struct event_source source; /* the epoll set, in the card's loop */
	int fd[DOORBELLS];	    /* the index is the tail value; -1: none */
	uint64_t wanted[DOORBELLS / 64];
	bool refused;		   /* there are no more to be had */
	struct event_source learn; /* an eventfd in the main loop: some are wanted */
};

static uint32_t distance(const struct e1000 *e, uint32_t value)
{
	/* The head may move meanwhile, but not past a value that has not been seen. */
	uint32_t head = __atomic_load_n(&e->reg[E1000_TDH / 4], __ATOMIC_RELAXED);
	uint32_t size = e1000_ring_size(e, E1000_TDLEN);

	return value >= head ? value - head : value + size - head;
}

bool e1000_doorbells_drain(struct e1000 *e)
{
	struct e1000_doorbells *d = e->doorbells;
	struct epoll_event event[BATCH];
	bool some = false;
	uint32_t last = 0;
	uint64_t count;
	int n = BATCH;

	pthread_mutex_lock(&d->lock);
	/* Each one once: vCPUs that go on ringing would keep it here. */
	for (int round = 0; round < DOORBELLS / BATCH && n == BATCH; round++) {
		n = epoll_wait(d->epoll, event, BATCH, 0);
		for (int i = 0; i < n; i++) {
			uint32_t value = event[i].data.u32;

			if (read(d->fd[value], &count, sizeof(count)) < 0)
				continue;
			e1000_account(e, ACCOUNT_KICKS, count);
			if (!some || distance(e, value) > distance(e, last))
				last = value;
			some = true;
		}
	}
	if (some)
		__atomic_store_n(&e->tx.tail, last, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&d->lock);
	return some;
}

static void signalled(void *opaque, uint32_t events)
{
	struct e1000 *e = opaque;

	(void)events;
	e1000_account(e, ACCOUNT_WAKEUPS, 1);
	e1000_tx_serve(e);
}

/* ---- learning -------------------------------------------------------------------------------- */

static int add(struct e1000 *e, unsigned value)
{
	struct e1000_doorbells *d = e->doorbells;
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = value };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), err;
	struct bus_kick kick = {
		.addr = E1000_TDT,
		.size = 4,
		.match = true,
		.value = value,
		.fd = fd,
	};

	if (fd < 0)
		return -errno;
	pthread_mutex_lock(&d->lock);
	d->fd[value] = fd;
	pthread_mutex_unlock(&d->lock);
	err = epoll_ctl(d->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
	if (!err)
		err = pci_kick_add(&e->f, 0, &kick);
	return err; /* if not 0, destroy() closes it */
}

static int take_wanted(struct e1000_doorbells *d)
{
	int value = -1;

	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < DOORBELLS / 64 && value < 0; i++)
		if (d->wanted[i])
			value = (int)(64 * i) + __builtin_ctzll(d->wanted[i]);
	if (value >= 0)
		d->wanted[value / 64] &= ~(1ull << value % 64);
	pthread_mutex_unlock(&d->lock);
	return value;
}

/* One at a time: the main loop has other things to do. */
static void learn(void *opaque, uint32_t events)
{
	struct e1000 *e = opaque;
	struct e1000_doorbells *d = e->doorbells;
	int value = take_wanted(d), err;
	uint64_t count;

	(void)events;
	if (value < 0) {
		if (read(d->learn.fd, &count, sizeof(count)) < 0)
			return;
		/* What was wanted in between is not to be forgotten. */
		value = take_wanted(d);
		if (value < 0)
			return;
		e1000_signal(&d->learn);
	}
	err = add(e, (unsigned)value);
	if (!err)
		return;
	log_warn("%s: no doorbell for tail %d (%s); writes of it and others exit", e->dev.name,
		 value, strerror(-err));
	__atomic_store_n(&d->refused, true, __ATOMIC_RELAXED);
}

void e1000_doorbells_want(struct e1000 *e, uint32_t value)
{
	struct e1000_doorbells *d = e->doorbells;
	bool wanted;

	if (value >= DOORBELLS || __atomic_load_n(&d->refused, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&d->lock);
	wanted = d->fd[value] < 0;
	if (wanted)
		d->wanted[value / 64] |= 1ull << value % 64;
	pthread_mutex_unlock(&d->lock);
	if (wanted)
		e1000_signal(&d->learn);
}

/* ---- life ------------------------------------------------------------------------------------ */

int e1000_doorbells_create(struct e1000 *e, struct error *err)
{
	struct e1000_doorbells *d = calloc(1, sizeof(*d));

	if (!d)
		return error_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&d->lock, NULL);
	for (unsigned i = 0; i < DOORBELLS; i++)
		d->fd[i] = -1;
	e->doorbells = d;
	d->epoll = epoll_create1(EPOLL_CLOEXEC);
	d->learn.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->epoll < 0 || d->learn.fd < 0)
		return error_set_errno(err, -errno, "cannot make its doorbells");
	d->learn.events = d->source.events = EPOLLIN;
	d->learn.opaque = d->source.opaque = e;
	d->learn.callback = learn;
	d->source.fd = d->epoll;
	d->source.callback = signalled;
	if (event_add(e->loop, &d->source) < 0 || event_add(e->dev.host->loop, &d->learn) < 0)
		return error_set_errno(err, -errno, "cannot watch its doorbells");
	return 0;
}

void e1000_doorbells_stop(struct e1000 *e)
{
	if (e->doorbells)
		event_del(&e->doorbells->learn);
}

void e1000_doorbells_destroy(struct e1000 *e)
{
	struct e1000_doorbells *d = e->doorbells;

	if (!d)
		return;
	event_del(&d->source);
	if (d->learn.fd >= 0)
		close(d->learn.fd);
	for (unsigned i = 0; i < DOORBELLS; i++)
		if (d->fd[i] >= 0)
			close(d->fd[i]);
	if (d->epoll >= 0)
		close(d->epoll);
	pthread_mutex_destroy(&d->lock);
	free(d);
	e->doorbells = NULL;
}
