/*
 * Event loops: an epoll set with file descriptors, timers and messages from other threads. The main
 * thread runs one; a device that asks for an I/O thread gets one of its own. A source belongs to
 * one loop and its callback runs only on that loop's thread.
 */
#ifndef VMM_EVENT_H
#define VMM_EVENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "vmm/account.h"
#include "vmm/error.h"

struct event_loop;

/* Embedded in its owner; set fd, events (EPOLLIN …), callback and opaque, then event_add(). */
struct event_source {
	int fd;
	uint32_t events;
	void (*callback)(void *opaque, uint32_t events);
	void *opaque;
	struct event_loop *loop; /* set by event_add(), NULL while not in a loop */
};

/* One-shot timer on CLOCK_MONOTONIC. Embedded; set callback and opaque, then event_timer_init(). */
struct event_timer {
	void (*callback)(void *opaque);
	void *opaque;
	struct event_source source;
};

struct event_loop *event_loop_create(const char *name, struct error *e);
/* Its thread serves this account: CPU time and waits count there. Before it runs. */
void event_loop_account(struct event_loop *loop, struct account *account);
/* Stops and joins its thread if it has one. Sources still added are forgotten, not closed. */
void event_loop_destroy(struct event_loop *loop);

/* Runs on the calling thread until event_loop_stop(); 0 or -errno. */
int event_loop_run(struct event_loop *loop);
void event_loop_stop(struct event_loop *loop); /* any thread, also from a callback */
/* Runs it on a thread of its own, named after the loop. */
int event_loop_start(struct event_loop *loop, struct error *e);
bool event_loop_is_current(const struct event_loop *loop);
/*
 * From a callback: a doorbell brought n > 0 requests. Says how soon the loop's own thread is to run
 * when the next one rings, see event_turn.h; a loop without a thread of its own is let alone.
 */
void event_loop_took(struct event_loop *loop, unsigned n);

/* Any thread. After event_del() returns the callback does not run and will not run again. */
int event_add(struct event_loop *loop, struct event_source *source);
int event_modify(struct event_source *source, uint32_t events);
void event_del(struct event_source *source);

int event_timer_init(struct event_timer *timer, struct event_loop *loop);
void event_timer_set(struct event_timer *timer, uint64_t ns_from_now); /* 0 cancels. Any thread. */
void event_timer_destroy(struct event_timer *timer);

/*
 * Runs fn(arg) on the loop's thread and waits for it. On the loop's own thread, or if the loop is
 * not running (set-up and tear-down), calls it directly. The caller must hold no lock that fn or
 * any callback of that loop takes.
 */
void event_call(struct event_loop *loop, void (*fn)(void *arg), void *arg);

/* A message: embedded, posted at most once at a time; posting again while queued does nothing. */
struct event_message {
	void (*fn)(void *arg);
	void *arg;
	bool queued;
	struct event_message *next;
};
void event_post(struct event_loop *loop, struct event_message *message); /* any thread, no wait */

#endif
