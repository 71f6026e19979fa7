/*
 * Lets libslirp wait on an event loop. It wants to be asked, before every sleep, which descriptors
 * to poll and how long to sleep at most, and to be told afterwards what is ready. The descriptors
 * go into an epoll set of their own, of which only the differences from one round to the next are
 * told to the kernel; that set and one timer are in the loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/net_user_impl.h"

#define READY_BATCH 64

int64_t user_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- descriptors ----------------------------------------------------------------------------- */

static uint32_t to_epoll(int events)
{
	return (events & SLIRP_POLL_IN ? EPOLLIN : 0u) | (events & SLIRP_POLL_OUT ? EPOLLOUT : 0u) |
	       (events & SLIRP_POLL_PRI ? EPOLLPRI : 0u) |
	       (events & SLIRP_POLL_ERR ? EPOLLERR : 0u) |
	       (events & SLIRP_POLL_HUP ? EPOLLHUP : 0u);
}

static int from_epoll(uint32_t events)
{
	return (events & EPOLLIN ? SLIRP_POLL_IN : 0) | (events & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
	       (events & EPOLLPRI ? SLIRP_POLL_PRI : 0) | (events & EPOLLERR ? SLIRP_POLL_ERR : 0) |
	       (events & EPOLLHUP ? SLIRP_POLL_HUP : 0);
}

/* The entry of a descriptor; there are as many as it takes, at most the limit on open files. */
static struct user_poll_fd *entry_of(struct user_poll *poll, int fd)
{
	unsigned more = poll->nfds ? poll->nfds : 64;
	struct user_poll_fd *grown;

	if (fd < 0)
		return NULL;
	if ((unsigned)fd < poll->nfds)
		return &poll->fds[fd];
	while (more <= (unsigned)fd)
		more *= 2;
	grown = realloc(poll->fds, more * sizeof(*grown));
	if (!grown)
		return NULL;
	memset(grown + poll->nfds, 0, (more - poll->nfds) * sizeof(*grown));
	poll->fds = grown;
	poll->nfds = more;
	return &grown[fd];
}

static int add_poll(int fd, int events, void *opaque)
{
	struct user_poll *poll = &((struct user *)opaque)->poll;
	struct user_poll_fd *entry = entry_of(poll, fd);
	struct epoll_event ev = { .events = to_epoll(events), .data.fd = fd };

	if (!entry)
		return -1;
	entry->round = poll->round;
	if (entry->events != ev.events)
		epoll_ctl(poll->source.fd, entry->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
	entry->events = ev.events;
	return fd;
}

static int get_revents(int index, void *opaque)
{
	struct user_poll *poll = &((struct user *)opaque)->poll;

	if (index < 0 || (unsigned)index >= poll->nfds)
		return 0;
	return from_epoll(poll->fds[index].revents);
}

void user_poll_forget(struct user_poll *poll, int fd)
{
	if (fd < 0 || (unsigned)fd >= poll->nfds || !poll->fds[fd].events)
		return;
	epoll_ctl(poll->source.fd, EPOLL_CTL_DEL, fd, NULL);
	poll->fds[fd].events = 0;
	poll->fds[fd].revents = 0;
}

/* What libslirp no longer asks for would only wake us. */
static void sweep(struct user_poll *poll)
{
	for (unsigned fd = 0; fd < poll->nfds; fd++)
		if (poll->fds[fd].events && poll->fds[fd].round != poll->round)
			user_poll_forget(poll, (int)fd);
}

static void collect(struct user_poll *poll)
{
	struct epoll_event ready[READY_BATCH];
	int n;

	for (unsigned fd = 0; fd < poll->nfds; fd++)
		poll->fds[fd].revents = 0;
	n = epoll_wait(poll->source.fd, ready, READY_BATCH, 0);
	for (int i = 0; i < n; i++)
		if ((unsigned)ready[i].data.fd < poll->nfds)
			poll->fds[ready[i].data.fd].revents = ready[i].events;
}

/* ---- timers ---------------------------------------------------------------------------------- */

/* A callback may set, make or free timers: so after each, from the start, but one time each. */
static void run_timers(struct user *user)
{
	int64_t now = user_now_ms();
	struct user_timer *t;

	for (unsigned left = 16; left > 0; left--) {
		for (t = user->timers; t; t = t->next)
			if (t->due >= 0 && t->due <= now)
				break;
		if (!t)
			return;
		t->due = -1;
		t->callback(t->opaque);
	}
}

static void set_timer(struct user *user, uint32_t timeout)
{
	int64_t now = user_now_ms();
	uint64_t wait = timeout;

	for (struct user_timer *t = user->timers; t; t = t->next) {
		if (t->due < 0)
			continue;
		if (t->due <= now)
			wait = 0;
		else if ((uint64_t)(t->due - now) < wait)
			wait = (uint64_t)(t->due - now);
	}
	event_timer_set(&user->poll.timer, (wait ? wait : 1) * 1000000u);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

void user_poll_refill(struct user *user)
{
	uint32_t timeout = UINT32_MAX;

	user->poll.round++;
	slirp_pollfds_fill(user->slirp, &timeout, add_poll, user);
	sweep(&user->poll);
	set_timer(user, timeout);
}

void user_poll_round(struct user *user)
{
	run_timers(user);
	collect(&user->poll);
	slirp_pollfds_poll(user->slirp, 0, get_revents, user);
	user_poll_refill(user);
	user_throttle(user);
}

/* ---- start and stop -------------------------------------------------------------------------- */

static void ready(void *opaque, uint32_t events)
{
	(void)events;
	user_poll_round(opaque);
}

static void timer_due(void *opaque)
{
	struct user *user = opaque;

	if (!user->stopped)
		user_poll_round(user);
}

int user_poll_init(struct user_poll *poll, struct error *e)
{
	poll->source.fd = epoll_create1(EPOLL_CLOEXEC);
	return poll->source.fd < 0 ? error_set_errno(e, -errno, "epoll") : 0;
}

void user_poll_destroy(struct user_poll *poll)
{
	if (poll->source.fd >= 0)
		close(poll->source.fd);
	free(poll->fds);
}

static void refill_on_loop(void *arg)
{
	user_poll_refill(arg);
}

int user_poll_start(struct user *user, struct error *e)
{
	struct user_poll *poll = &user->poll;
	int err;

	poll->source.events = EPOLLIN;
	poll->source.callback = ready;
	poll->source.opaque = user;
	poll->timer.callback = timer_due;
	poll->timer.opaque = user;
	err = event_timer_init(&poll->timer, user->queue.loop);
	if (err)
		return error_set_errno(e, err, "timer");
	err = event_add(user->queue.loop, &poll->source);
	if (err) {
		event_timer_destroy(&poll->timer);
		return error_set_errno(e, err, "event loop");
	}
	event_call(user->queue.loop, refill_on_loop, user);
	return 0;
}

void user_poll_stop(struct user *user)
{
	event_del(&user->poll.source);
	event_timer_destroy(&user->poll.timer);
}
