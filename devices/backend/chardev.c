/*
 * Opening, closing and the calls of front ends: see chardev.h. The bytes themselves move in
 * chardev_stream.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/chardev_impl.h"
#include "devices/backend/chardev_stream.h"

#define CLOSE_PATIENCE_MS 500 /* without a byte moved */

static const struct chardev_kind *const kinds[] = {
	&chardev_stdio, &chardev_pty, &chardev_file, &chardev_socket, &chardev_null,
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int unknown_spec(const char *spec, struct error *e)
{
	char list[128] = "";
	size_t used = 0;

	for (size_t i = 0; i < KINDS && used < sizeof(list); i++) {
		const char *between = i == 0 ? "" : i + 1 < KINDS ? ", " : " or ";
		const char *argument = kinds[i]->argument ? kinds[i]->argument : "";

		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s%s", between,
					 kinds[i]->name, argument);
	}
	return error_set(e, -EINVAL, "unknown character device '%s': use %s", spec, list);
}

/* Splits spec into kind and argument; the argument is NULL if none is given. */
static int parse(const char *spec, const struct chardev_kind **kind, const char **argument,
		 struct error *e)
{
	size_t len = strcspn(spec, ":");

	for (size_t i = 0; i < KINDS; i++) {
		if (strlen(kinds[i]->name) != len || memcmp(kinds[i]->name, spec, len) != 0)
			continue;
		*kind = kinds[i];
		*argument = spec[len] == ':' && spec[len + 1] ? spec + len + 1 : NULL;
		if (*argument && !kinds[i]->argument)
			return error_set(e, -EINVAL, "%s takes nothing after it", kinds[i]->name);
		if (!*argument && kinds[i]->argument && kinds[i]->argument[0] != '[')
			return error_set(e, -EINVAL, "%s needs a path: %s%s", kinds[i]->name,
					 kinds[i]->name, kinds[i]->argument);
		return 0;
	}
	return unknown_spec(spec, e);
}

struct open_call {
	struct chardev *chr;
	const char *argument;
	struct error *e;
	int err;
};

static void open_on_loop(void *arg)
{
	struct open_call *call = arg;
	struct chardev *chr = call->chr;

	call->err = chr->kind->open(chr, call->argument, call->e);
	if (call->err)
		chardev_detach(chr);
}

static void chardev_free(struct chardev *chr)
{
	event_timer_destroy(&chr->timer);
	pthread_mutex_destroy(&chr->lock);
	free(chr->label);
	free(chr);
}

int chardev_open(struct chardev **out, struct event_loop *loop, const char *spec,
		 const struct chardev_escape *escape, struct error *e)
{
	struct open_call call = { .e = e };
	const struct chardev_kind *kind = NULL;
	struct chardev *chr;
	int err = parse(spec ? spec : "stdio", &kind, &call.argument, e);

	if (err)
		return err;
	chr = calloc(1, sizeof(*chr));
	if (!chr)
		return error_set(e, -ENOMEM, "out of memory");
	chr->kind = kind;
	chr->loop = loop;
	if (escape)
		chr->escape = *escape;
	chr->in = chr->out = CHARDEV_FD_NONE;
	chr->output = kind->keeps ? CHARDEV_KEEP : CHARDEV_DISCARD;
	pthread_mutex_init(&chr->lock, NULL);
	chr->timer.callback = chardev_tick;
	chr->timer.opaque = chr;
	err = event_timer_init(&chr->timer, loop);
	if (err) {
		chardev_free(chr);
		return error_set_errno(e, err, "cannot make a timer");
	}
	call.chr = chr;
	event_call(loop, open_on_loop, &call);
	if (call.err) {
		chardev_free(chr);
		return call.err;
	}
	*out = chr;
	return 0;
}

static int ms_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int)((now.tv_sec - start->tv_sec) * 1000 +
		     (now.tv_nsec - start->tv_nsec) / 1000000);
}

static uint32_t written(struct chardev *chr)
{
	uint32_t tail;

	pthread_mutex_lock(&chr->lock);
	tail = chr->tail;
	pthread_mutex_unlock(&chr->lock);
	return tail;
}

/* The last words of the guest, those that its device still holds too: to a reader that is slow, but
 * not to one that takes nothing. */
static void flush_patiently(struct chardev *chr)
{
	uint32_t now, before = written(chr);
	struct timespec start;
	int waited = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (chardev_flush(chr) && waited < CLOSE_PATIENCE_MS) {
		struct pollfd p = { .fd = chr->out.fd, .events = POLLOUT };

		now = written(chr);
		if (now != before)
			clock_gettime(CLOCK_MONOTONIC, &start);
		before = now;
		poll(&p, 1, CLOSE_PATIENCE_MS - waited);
		waited = ms_since(&start);
	}
}

static void close_on_loop(void *arg)
{
	struct chardev *chr = arg;

	flush_patiently(chr);
	chr->client = NULL;
	if (chr->kind->close)
		chr->kind->close(chr);
	chardev_detach(chr);
	event_timer_destroy(&chr->timer);
}

void chardev_close(struct chardev *chr)
{
	if (!chr)
		return;
	event_call(chr->loop, close_on_loop, chr);
	chardev_free(chr);
}

struct client_call {
	struct chardev *chr;
	const struct chardev_client *client;
	void *opaque;
};

static void set_client_on_loop(void *arg)
{
	struct client_call *call = arg;
	struct chardev *chr = call->chr;

	chr->client = call->client;
	chr->client_opaque = call->opaque;
	if (!chr->client)
		return;
	if (chr->client->carrier)
		chr->client->carrier(chr->client_opaque, chr->carrier);
	chardev_pump(chr);
}

void chardev_set_client(struct chardev *chr, const struct chardev_client *client, void *opaque)
{
	struct client_call call = { .chr = chr, .client = client, .opaque = opaque };

	event_call(chr->loop, set_client_on_loop, &call);
}

bool chardev_size(const struct chardev *chr, struct chardev_size *size)
{
	return chr->kind->size && chr->kind->size(chr, size);
}

const char *chardev_label(const struct chardev *chr)
{
	return chr->label;
}

void chardev_prepare_process(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	sigaction(SIGPIPE, &ignore, NULL);
}
