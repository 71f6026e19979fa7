/*
 * A unix socket to steer the balloon with while the guest runs (the key control=PATH), one client
 * at a time, the others wait. In: lines. Out: an answer to each, which ends with "ok" or "error:
 * why".
 *
 *     target SIZE   the guest shall give back SIZE of its memory: target 512M
 *     stats         what is known of the balloon and the guest's memory, as lines of "name value"
 * in bytes; the guest is asked for newer numbers, which the next "stats" will show
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/unix_listener.h"
#include "devices/virtio/balloon.h"
#include "vmm/options_internal.h"

#define BACKLOG	    8
#define COMMAND_MAX 128u
#define ANSWER	    2048u

struct balloon_control {
	struct balloon *b;
	struct unix_listener listener;
	struct event_source client; /* fd -1: none */
	char line[COMMAND_MAX];
	size_t len;
};

static void set_target(struct balloon *b, const char *text, FILE *to)
{
	struct error e;
	uint64_t bytes;

	if (option_parse_size(text, &bytes, &e))
		fprintf(to, "error: %s\n", e.msg);
	else if (balloon_set_target(b, bytes))
		fprintf(to, "error: the guest has only %llu bytes\n",
			(unsigned long long)b->v.dev.host->memory->size);
	else
		fprintf(to, "ok\n");
}

static void obey(struct balloon *b, const char *line, FILE *to)
{
	if (strncmp(line, "target ", 7) == 0) {
		set_target(b, line + 7, to);
	} else if (strcmp(line, "stats") == 0) {
		balloon_print(b, to);
		balloon_stats_ask(b);
		fprintf(to, "ok\n");
	} else {
		fprintf(to, "error: not a command; there are: target SIZE, stats\n");
	}
}

/* False: the client does not read what it asks for. */
static bool answer(struct balloon_control *c, const char *line)
{
	char buf[ANSWER];
	FILE *to = fmemopen(buf, sizeof(buf), "w");
	long len;

	if (!to)
		return false;
	obey(c->b, line, to);
	len = ftell(to);
	fclose(to);
	return len > 0 && send(c->client.fd, buf, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) == len;
}

/* Each whole line in the buffer. */
static bool answer_lines(struct balloon_control *c)
{
	char *end;

	while ((end = memchr(c->line, '\n', c->len))) {
		size_t used = (size_t)(end + 1 - c->line);

		*end = '\0';
		if (end > c->line && end[-1] == '\r')
			end[-1] = '\0';
		if (!answer(c, c->line))
			return false;
		c->len -= used;
		memmove(c->line, c->line + used, c->len);
	}
	return c->len < sizeof(c->line);
}

/* The listener is one-shot: the next client is let in when this one has gone. */
static void hang_up(struct balloon_control *c)
{
	event_del(&c->client);
	if (c->client.fd >= 0)
		close(c->client.fd);
	c->client.fd = -1;
	unix_listener_wait(&c->listener);
}

static void client_says(void *opaque, uint32_t events)
{
	struct balloon_control *c = opaque;
	ssize_t n;

	(void)events;
	n = recv(c->client.fd, c->line + c->len, sizeof(c->line) - c->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		c->len += (size_t)n;
	if (n <= 0 || !answer_lines(c))
		hang_up(c);
}

static void client_came(void *opaque, uint32_t events)
{
	struct balloon_control *c = opaque;
	int fd = unix_listener_accept(&c->listener, SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	c->len = 0;
	c->client = (struct event_source){
		.fd = fd, .events = EPOLLIN, .callback = client_says, .opaque = c
	};
	if (event_add(c->b->v.dev.host->loop, &c->client))
		hang_up(c);
}

int balloon_control_open(struct balloon *b, const char *path, struct error *e)
{
	struct balloon_control *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return error_set(e, -ENOMEM, "out of memory");
	c->b = b;
	c->client.fd = -1;
	b->control = c;
	err = unix_listener_open(&c->listener, path, BACKLOG, e);
	if (err)
		return err;
	/* The main loop, whoever serves the queues. */
	err = unix_listener_watch(&c->listener, b->v.dev.host->loop, client_came, c);
	if (err)
		return error_set_errno(e, err, "cannot listen on %s", path);
	unix_listener_wait(&c->listener);
	return 0;
}

void balloon_control_close(struct balloon *b)
{
	struct balloon_control *c = b->control;

	if (!c)
		return;
	event_del(&c->client);
	if (c->client.fd >= 0)
		close(c->client.fd);
	unix_listener_close(&c->listener);
	free(c);
	b->control = NULL;
}
