/*
 * A listening unix stream socket with a name in the file system. Nobody but its owner may connect.
 * A socket file that nobody listens on any more (of a process that was killed) is replaced,
 * anything else that is in the way is an error; at the end the file is removed if it is still ours.
 *
 * In an event loop it is one-shot: its owner is told of one who connects, and of the next when it
 * has asked for that. While no descriptor is left for a connection, nobody is told: the connection
 * stays in the queue, and the loop would turn for it again and again.
 */
#ifndef DEVICES_BACKEND_UNIX_LISTENER_H
#define DEVICES_BACKEND_UNIX_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

#include "vmm/error.h"
#include "vmm/event.h"

struct unix_listener {
	int fd; /* non-blocking; -1: none */
	bool bound;
	struct sockaddr_un address;
	dev_t dev; /* the file we bound, so that we remove no other */
	ino_t ino;
	struct event_source source;
	struct event_timer later; /* when there may be descriptors again */
	bool complained;
};

#define UNIX_LISTENER_NONE ((struct unix_listener){ .fd = -1 })

/* 0, or -errno with a message that names the path; then nothing is left to close. */
int unix_listener_open(struct unix_listener *l, const char *path, int backlog, struct error *e);
/* Also of UNIX_LISTENER_NONE. On the loop's thread, or when that does not run. */
void unix_listener_close(struct unix_listener *l);

/* callback is called on the loop's thread, but not before the first unix_listener_wait(). */
int unix_listener_watch(struct unix_listener *l, struct event_loop *loop,
			void (*callback)(void *opaque, uint32_t events), void *opaque);
/* For the next one who connects. */
void unix_listener_wait(struct unix_listener *l);
/*
 * From the callback: accept4(2), close-on-exec and with these flags. If that fails, -errno, and the
 * listener waits again: at once, or in a while if it is for want of descriptors or memory.
 */
int unix_listener_accept(struct unix_listener *l, int flags);

#endif
