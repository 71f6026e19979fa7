/*
 * Character backends: where a console's bytes go. One interface for terminal, pty, file and unix
 * socket. Output never blocks the caller: it is queued (bounded) and drained by the event loop; the
 * front end asks how much room there is and holds its transmitter while there is none. Input is
 * only read from the outside while the front end has room, so no typed byte is lost. (A terminal is
 * read a little ahead into a buffer, so that Ctrl-A x works with a guest that reads nothing.)
 *
 * Output of single bytes is gathered: the first goes out at once, what follows within a millisecond
 * goes out together. While nobody is connected to a pty or socket, the newest 64 KiB are kept and
 * shown to who comes next.
 */
#ifndef DEVICES_BACKEND_CHARDEV_H
#define DEVICES_BACKEND_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"
#include "vmm/event.h"

struct chardev;

/*
 * What the front end gives. All are called on the loop's thread with no chardev lock held, and
 * never from inside a chardev function called on another thread: so chardev_write() and
 * chardev_accept_input() may be called with a front end's lock held that the callbacks take.
 */
struct chardev_client {
	/* How many bytes receive() would take now; called before any read from outside. */
	size_t (*can_receive)(void *opaque);
	void (*receive)(void *opaque, const uint8_t *buf, size_t len);
	/* There is room again after chardev_write() took less than it was given. May be NULL. */
	void (*writable)(void *opaque);
	/* The other side came or went (sockets, pty). May be NULL. */
	void (*carrier)(void *opaque, bool present);
	/* chardev_size() may say something else now. May be NULL. */
	void (*resized)(void *opaque);
};

struct chardev_size {
	uint16_t columns, rows;
};

/* What Ctrl-A x and Ctrl-A b on a terminal do; called on the loop's thread. */
struct chardev_escape {
	void (*quit)(void *opaque);
	void (*send_break)(void *opaque); /* may be NULL */
	void *opaque;
};

/*
 * spec: "stdio" (terminal in raw mode if it is one; Ctrl-A x quits, Ctrl-A h helps), "pty",
 * "pty:LINK", "file:PATH" (truncated), "unix:PATH" (listens; one client at a time, others wait),
 * "null". NULL means "stdio", which one console can have. escape is copied and may be NULL. Errors
 * name the path.
 */
int chardev_open(struct chardev **out, struct event_loop *loop, const char *spec,
		 const struct chardev_escape *escape, struct error *e);
/* Writes what is queued and what the client still holds (its writable() is called), as long as the
 * reader takes some at least every half second; then restores the terminal. */
void chardev_close(struct chardev *chr);

/* Also tells the client whether the other side is there. NULL: none any more. Main thread. */
void chardev_set_client(struct chardev *chr, const struct chardev_client *client, void *opaque);
/* Takes up to len bytes; returns how many. Never blocks. Any thread. */
size_t chardev_write(struct chardev *chr, const void *buf, size_t len);
/* can_receive() has grown: read from outside again. Any thread. */
void chardev_accept_input(struct chardev *chr);
/* How large the screen is; false if there is none (all kinds but a terminal). Any thread. */
bool chardev_size(const struct chardev *chr, struct chardev_size *size);
/* Something to show the user, e.g. the pty's name; NULL if none. */
const char *chardev_label(const struct chardev *chr);

/*
 * What the process needs before anything opens a file: descriptors 0 to 2 are open (on /dev/null
 * where they were closed, so that no later file becomes "stdout") and SIGPIPE is ignored.
 */
void chardev_prepare_process(void);

/* Undoes raw mode from wherever mvm ends (also on a fatal signal): async-signal-safe. */
void chardev_restore_terminal(void);

#endif
