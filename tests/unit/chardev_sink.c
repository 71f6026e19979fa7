/*
 * See chardev_sink.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/chardev_sink.h"

static size_t can_receive(void *opaque)
{
	struct sink *s = opaque;
	size_t room;

	pthread_mutex_lock(&s->lock);
	room = s->room == SINK_ALL ? SINK_BYTES - s->len : s->room;
	pthread_mutex_unlock(&s->lock);
	return room;
}

static void receive(void *opaque, const uint8_t *buf, size_t len)
{
	struct sink *s = opaque;

	pthread_mutex_lock(&s->lock);
	if (len > s->room || len > SINK_BYTES - s->len) {
		s->overrun = true;
	} else {
		memcpy(s->got + s->len, buf, len);
		s->len += len;
		if (s->room != SINK_ALL)
			s->room -= len;
	}
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void count(struct sink *s, unsigned *counter)
{
	pthread_mutex_lock(&s->lock);
	++*counter;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void writable(void *opaque)
{
	struct sink *s = opaque;

	count(s, &s->writables);
}

static void quit(void *opaque)
{
	struct sink *s = opaque;

	count(s, &s->quits);
}

static void send_break(void *opaque)
{
	struct sink *s = opaque;

	count(s, &s->breaks);
}

static void carrier(void *opaque, bool present)
{
	struct sink *s = opaque;

	pthread_mutex_lock(&s->lock);
	s->carrier = present;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static const struct chardev_client client = {
	.can_receive = can_receive,
	.receive = receive,
	.writable = writable,
	.carrier = carrier,
};

static struct sink *sink_new(void)
{
	struct sink *s = calloc(1, sizeof(*s));
	struct error e;

	cr_assert(s);
	chardev_prepare_process();
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->carrier = -1;
	s->loop = event_loop_create("sink", &e);
	cr_assert(s->loop);
	cr_assert_eq(event_loop_start(s->loop, &e), 0);
	return s;
}

struct sink *sink_open(const char *spec, size_t room)
{
	struct sink *s = sink_new();
	const struct chardev_escape escape = { quit, send_break, s };
	struct error e = { "" };

	s->room = room;
	cr_assert_eq(chardev_open(&s->chr, s->loop, spec, &escape, &e), 0, "%s", e.msg);
	chardev_set_client(s->chr, &client, s);
	return s;
}

const char *sink_open_fails(const char *spec)
{
	static struct error e;
	struct sink *s = sink_new();
	int err = chardev_open(&s->chr, s->loop, spec, NULL, &e);

	cr_assert_lt(err, 0, "%s", spec);
	cr_assert_null(s->chr);
	sink_close(s);
	sink_free(s);
	return e.msg;
}

void sink_close(struct sink *s)
{
	chardev_close(s->chr);
	s->chr = NULL;
	event_loop_destroy(s->loop);
	s->loop = NULL;
	cr_assert(!s->overrun, "more was received than there was room for");
}

void sink_free(struct sink *s)
{
	if (s->loop)
		sink_close(s);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	free(s);
}

void sink_allow(struct sink *s, size_t more)
{
	pthread_mutex_lock(&s->lock);
	s->room = more == SINK_ALL ? SINK_ALL : s->room + more;
	pthread_mutex_unlock(&s->lock);
	chardev_accept_input(s->chr);
}

#define WAIT(s, condition)                                                                         \
	do {                                                                                       \
		pthread_mutex_lock(&(s)->lock);                                                    \
		while (!(condition))                                                               \
			pthread_cond_wait(&(s)->changed, &(s)->lock);                              \
		pthread_mutex_unlock(&(s)->lock);                                                  \
	} while (0)

void sink_wait_len(struct sink *s, size_t len)
{
	WAIT(s, s->len >= len || s->overrun);
}

void sink_wait_carrier(struct sink *s, bool present)
{
	WAIT(s, s->carrier == (int)present);
}

void sink_wait_writable(struct sink *s, unsigned n)
{
	WAIT(s, s->writables >= n);
}

void sink_wait_quit(struct sink *s)
{
	WAIT(s, s->quits > 0);
}

void sink_wait_break(struct sink *s)
{
	WAIT(s, s->breaks > 0);
}

static void nothing(void *arg)
{
	(void)arg;
}

void sink_settle(struct sink *s)
{
	event_call(s->loop, nothing, NULL);
	event_call(s->loop, nothing, NULL);
}

void sink_write_all(int fd, const void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		cr_assert_gt(n, 0, "write: %s", strerror(errno));
		done += (size_t)n;
	}
}

void sink_read_all(int fd, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		cr_assert_gt(n, 0, "read: %s after %zu", n ? strerror(errno) : "the end", done);
		done += (size_t)n;
	}
}

void sink_pattern(char *buf, size_t len)
{
	uint32_t seed = 1;

	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		buf[i] = (char)(seed >> 24);
	}
}
