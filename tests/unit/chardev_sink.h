/*
 * A front end for character backends that writes down what it gets: for unit tests. It takes as
 * many bytes as the test allows, and the test waits for what it expects instead of sleeping.
 */
#ifndef TESTS_UNIT_CHARDEV_SINK_H
#define TESTS_UNIT_CHARDEV_SINK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "devices/backend/chardev.h"

#define SINK_BYTES (256u << 10)
#define SINK_ALL   ((size_t)-1)

struct sink {
	struct event_loop *loop; /* on a thread of its own */
	struct chardev *chr;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	char got[SINK_BYTES];
	size_t len;
	size_t room; /* that is left; SINK_ALL: any amount */
	bool overrun;
	unsigned writables, quits, breaks;
	int carrier; /* -1: not told yet */
};

/* Opens spec with `room`; fails the test if that fails. */
struct sink *sink_open(const char *spec, size_t room);
/* Opens spec and expects it to fail; the message. */
const char *sink_open_fails(const char *spec);
/* Ends the chardev, then the loop; what was received stays readable until sink_free(). */
void sink_close(struct sink *s);
void sink_free(struct sink *s);

/* More room, and the chardev is told. */
void sink_allow(struct sink *s, size_t more);
/* These wait; the test's own time-out ends them. */
void sink_wait_len(struct sink *s, size_t len);
void sink_wait_carrier(struct sink *s, bool present);
void sink_wait_writable(struct sink *s, unsigned count);
void sink_wait_quit(struct sink *s);
void sink_wait_break(struct sink *s);

/* Returns after everything the loop had to do before has been done. */
void sink_settle(struct sink *s);

/* write(2) and read(2) of all, failing the test on errors; reading waits. */
void sink_write_all(int fd, const void *buf, size_t len);
void sink_read_all(int fd, void *buf, size_t len);
/* Bytes with a pattern in which nothing can be lost, doubled or swapped unnoticed. */
void sink_pattern(char *buf, size_t len);

#endif
