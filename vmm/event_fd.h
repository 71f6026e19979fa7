/*
 * Eventfds: signals and counts, and what there is to mind where another process has one as well.
 */
#ifndef VMM_EVENT_FD_H
#define VMM_EVENT_FD_H

#include <stdbool.h>

/* Adds 1 to the count; one that is full is signalled already. Any thread, and signal handlers. */
void event_fd_signal(int fd);

/*
 * One that another process has as well. O_NONBLOCK is a flag of the open file, and that is shared:
 * the other process may clear it at any time, and keep the count at 0 or full; read(2) or write(2)
 * then wait for as long as it likes. What follows never waits. Linux: eventfd(2).
 */

/* Takes the count; false: it was 0. (Before Linux 5.8 this is read(2).) Any thread. */
bool event_fd_take(int fd);

/* Zeroed: not made, see event_signal(). */
struct event_signaller {
	unsigned long aio; /* aio_context_t; 0: none */
	int nothing;	   /* an empty file */
};

void event_signaller_init(struct event_signaller *s);
void event_signaller_fini(struct event_signaller *s);
/*
 * Adds 1 to the count of an eventfd; of one that is full, still wakes who waits. Any other file is
 * let alone. One system call, as write(2) is; and it is write(2), which the other process can make
 * wait, where this kernel gave us no asynchronous I/O (CONFIG_AIO, fs.aio-max-nr). s is NULL where
 * there is no other process: event_fd_signal(). Any thread.
 */
void event_signal(struct event_signaller *s, int fd);

#endif
