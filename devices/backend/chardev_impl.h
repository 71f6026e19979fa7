/*
 * Between the core of the character backends (chardev.c: queues and flow control) and the kinds
 * (terminal, pty, file, socket: what is opened, when somebody is there, what an end means).
 */
#ifndef DEVICES_BACKEND_CHARDEV_IMPL_H
#define DEVICES_BACKEND_CHARDEV_IMPL_H

#include <pthread.h>

#include "devices/backend/chardev.h"
#include "devices/backend/chardev_fd.h"

#define CHARDEV_RING  65536u /* output; a power of two */
#define CHARDEV_INPUT 4096u  /* read ahead from a terminal */

/* All functions run on the loop's thread (or while the loop does not run). */
struct chardev_kind {
	const char *name;
	const char *argument; /* "PATH"; in brackets if it may be left out; NULL: takes none */
	bool keeps;	      /* keeps the newest output while nobody is attached */
	int (*open)(struct chardev *chr, const char *argument, struct error *e);
	void (*close)(struct chardev *chr); /* may be NULL; output has been flushed */
	/* Input is at its end. May attach anew. NULL: just stop reading. */
	void (*hangup)(struct chardev *chr);
	/* May the input be read just now? The kind calls chardev_pump() when that changes. */
	bool (*may_read)(struct chardev *chr);
	/* Takes escapes out of the input, if `filtering`; out has room for 2 × len. */
	size_t (*filter)(struct chardev *chr, const uint8_t *in, size_t len, uint8_t *out);
	/* As chardev_size(). May be NULL. */
	bool (*size)(const struct chardev *chr, struct chardev_size *size);
};

extern const struct chardev_kind chardev_stdio, chardev_pty, chardev_file, chardev_socket,
	chardev_null;

enum chardev_output {
	CHARDEV_DISCARD, /* nobody will ever read it */
	CHARDEV_KEEP,	 /* nobody is there now: keep the newest */
	CHARDEV_OPEN,
	CHARDEV_BLOCKED, /* the descriptor takes nothing; the loop waits for it */
};

enum chardev_tick { TICK_NONE, TICK_LATER, TICK_NOW };

struct chardev {
	const struct chardev_kind *kind;
	void *state; /* the kind's */
	struct event_loop *loop;
	struct chardev_escape escape;
	char *label;

	/* The loop thread's. */
	const struct chardev_client *client;
	void *client_opaque;
	bool carrier;
	struct chardev_fd in;
	struct event_source in_source;
	bool in_pollable;
	bool in_waiting; /* epoll tells when there is something to read */
	bool in_ending;	 /* the other side has gone: read what it left, whatever the client does */
	bool filtering;
	size_t in_head, in_tail;
	uint8_t input[CHARDEV_INPUT];

	/*
	 * Guards all below. Order: a front end's lock, then this; under it only the event loop's
	 * own. No client function is called with it held.
	 */
	pthread_mutex_t lock;
	struct event_timer timer;
	enum chardev_tick tick; /* what the timer is set for */
	bool starved;		/* the client had no room: accept_input() must wake us */
	bool refused;		/* write() took too little: writable() is due */
	bool failed;		/* an output error: look whether the other side has gone */
	bool complained;
	enum chardev_output output;
	struct chardev_fd out;
	struct event_source out_source;
	bool out_pollable;
	uint32_t head, tail; /* free-running; used = head - tail */
	uint8_t ring[CHARDEV_RING];
};

/* Takes over the descriptors (each may be CHARDEV_FD_NONE) and lets bytes flow; 0 or -errno. */
int chardev_attach(struct chardev *chr, struct chardev_fd in, struct chardev_fd out);
/* Closes them. Output is kept or discarded from now on, as the kind has it. */
void chardev_detach(struct chardev *chr);
/* Stops reading, e.g. at the end of stdin; output goes on. */
void chardev_end_input(struct chardev *chr);
/* Nothing to read now: lets epoll wait for these events (0: only the hang-up). */
void chardev_wait_input(struct chardev *chr, uint32_t events);
/* Reads from outside while the client has room. */
void chardev_pump(struct chardev *chr);
/* Bytes of our own for the user, past the client. */
void chardev_say(struct chardev *chr, const char *text);

#endif
