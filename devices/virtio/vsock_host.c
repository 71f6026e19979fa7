/*
 * The host's side of virtio-vsock, by Firecracker's convention. A guest that connects to port P of
 * CID 2 reaches the program that listens on the unix socket PREFIX_P. A program that connects to
 * the unix socket PREFIX and writes "CONNECT P\n" reaches port P of the guest; it is answered "OK
 * HOSTPORT\n" and then has the stream, or the connection is closed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "devices/virtio/vsock.h"

#define BACKLOG	    64
#define ACCEPTS	    64u /* before other sources of the loop get a turn */
#define EVENTS	    64
#define HELLO_MAX   32u		 /* bytes of the CONNECT line */
#define PATIENCE_NS 10000000000u /* for the line, and for the guest's answer */
#define TICK_NS	    1000000000u
#define FIRST_PORT  (1u << 30) /* of the host's ends; above what programs choose */

/* ---- greetings; the receive queue's lock held ------------------------------------------------ */

int vsock_connect(struct vsock *s, uint32_t port)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, n = snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", s->prefix, port);

	if (n < 0 || (size_t)n >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* A unix socket connects at once or not at all. */
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

bool vsock_greet(const struct vsock_conn *c)
{
	char line[32];
	int n;

	n = snprintf(line, sizeof(line), "OK %u\n", c->host_port);
	return send(c->fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) == n;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void set_timer(struct vsock *s)
{
	if (!s->timer_set)
		event_timer_set(&s->timer, TICK_NS);
	s->timer_set = true;
}

static void set_deadline(struct vsock *s, struct vsock_conn *c)
{
	c->deadline = now() + PATIENCE_NS;
	set_timer(s);
}

/* The port that "CONNECT <port>" names; false if the line is another one. */
static bool parse_hello(const char *line, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	const char *digits = line + sizeof(word) - 1;
	unsigned long long value;
	size_t len;

	if (strncmp(line, word, sizeof(word) - 1) != 0)
		return false;
	len = strspn(digits, "0123456789");
	if (len == 0 || len > 10 || digits[len + (digits[len] == '\r')] != '\0')
		return false;
	value = strtoull(digits, NULL, 10);
	*port = (uint32_t)value;
	return value < UINT32_MAX; /* which is VMADDR_PORT_ANY */
}

static uint32_t new_port(struct vsock *s, uint32_t guest_port)
{
	uint32_t port;

	/* Ends: there are more ports than connections. */
	do {
		port = FIRST_PORT + s->next_port++ % FIRST_PORT;
	} while (vsock_find(s, guest_port, port));
	return port;
}

/* Not a byte more than the line is taken: what follows it is the guest's. */
static void read_hello(struct vsock *s, struct vsock_conn *c)
{
	char line[HELLO_MAX + 1], *end;
	ssize_t n = recv(c->fd, line, HELLO_MAX, MSG_PEEK | MSG_DONTWAIT);
	uint32_t port;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	end = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;
	if (!end) {
		if (n <= 0 || n == HELLO_MAX)
			vsock_remove(s, c);
		return;
	}
	if (recv(c->fd, line, (size_t)(end + 1 - line), MSG_DONTWAIT) != end + 1 - line) {
		vsock_remove(s, c);
		return;
	}
	*end = '\0';
	if (!parse_hello(line, &port) || !vsock_rxq(s)->running) {
		vsock_remove(s, c);
		return;
	}
	vsock_bind(s, c, port, new_port(s, port));
	c->state = VSOCK_REQUESTED;
	c->send |= VSOCK_SEND_REQUEST;
	set_deadline(s, c);
	vsock_make_ready(s, c);
}

/* ---- events; the loop's thread --------------------------------------------------------------- */

static void socket_event(struct vsock *s, uint64_t who, uint32_t events)
{
	struct vsock_conn *c = &s->conn[who & 0xffffffffu];

	/* Closed since, or another one's by now. */
	if (c->generation != who >> 32 || c->fd < 0)
		return;
	c->readable = true;
	c->deaf |= (events & (EPOLLHUP | EPOLLERR)) != 0;
	if (c->state == VSOCK_HELLO)
		read_hello(s, c);
	else
		vsock_make_ready(s, c);
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		vsock_flush(s, c);
}

static void sockets_ready(void *opaque, uint32_t events)
{
	struct vsock *s = opaque;
	struct epoll_event event[EVENTS];
	int n;

	(void)events;
	pthread_mutex_lock(&vsock_rxq(s)->lock);
	n = epoll_wait(s->epoll, event, EVENTS, 0);
	for (int i = 0; i < n; i++)
		socket_event(s, event[i].data.u64, event[i].events);
	vsock_pump(s);
	pthread_mutex_unlock(&vsock_rxq(s)->lock);
}

static void program_came(void *opaque, uint32_t events)
{
	struct vsock *s = opaque;
	int fd = 0;

	(void)events;
	pthread_mutex_lock(&vsock_rxq(s)->lock);
	for (unsigned i = 0; i < ACCEPTS && fd >= 0; i++) {
		struct vsock_conn *c;

		fd = unix_listener_accept(&s->listener, SOCK_NONBLOCK);
		c = fd < 0 ? NULL : vsock_add(s, VSOCK_HELLO, fd);
		if (c)
			set_deadline(s, c);
	}
	if (fd >= 0)
		unix_listener_wait(&s->listener);
	pthread_mutex_unlock(&vsock_rxq(s)->lock);
}

static void tick(void *opaque)
{
	struct vsock *s = opaque;
	uint64_t t = now();
	bool more = false;

	pthread_mutex_lock(&vsock_rxq(s)->lock);
	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++) {
		struct vsock_conn *c = &s->conn[i];

		if (c->state != VSOCK_HELLO && c->state != VSOCK_REQUESTED)
			continue;
		if (c->deadline <= t)
			vsock_kill(s, c);
		else
			more = true;
	}
	s->timer_set = more;
	if (more)
		event_timer_set(&s->timer, TICK_NS);
	vsock_pump(s);
	pthread_mutex_unlock(&vsock_rxq(s)->lock);
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static int add_sources(struct vsock *s, struct event_loop *loop)
{
	int err;

	s->sockets = (struct event_source){
		.fd = s->epoll, .events = EPOLLIN, .callback = sockets_ready, .opaque = s
	};
	s->timer.callback = tick;
	s->timer.opaque = s;
	err = event_timer_init(&s->timer, loop);
	if (!err)
		err = event_add(loop, &s->sockets);
	if (!err)
		err = unix_listener_watch(&s->listener, loop, program_came, s);
	if (!err)
		unix_listener_wait(&s->listener);
	return err;
}

int vsock_host_open(struct vsock *s, struct event_loop *loop, const char *prefix, struct error *e)
{
	/* An underscore and a port: what the longest name of a guest's target has besides. */
	size_t most = sizeof(s->listener.address.sun_path) - sizeof("_4294967295");
	int err;

	if (strlen(prefix) > most)
		return error_set(e, -ENAMETOOLONG, "%s: a vsock prefix has at most %zu bytes",
				 prefix, most);
	s->prefix = strdup(prefix);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!s->prefix || s->epoll < 0)
		return error_set_errno(e, s->prefix ? -errno : -ENOMEM, "cannot watch sockets");
	err = unix_listener_open(&s->listener, prefix, BACKLOG, e);
	if (err)
		return err;
	err = add_sources(s, loop);
	return err ? error_set_errno(e, err, "cannot watch sockets") : 0;
}

static void stop_on_loop(void *arg)
{
	struct vsock *s = arg;

	event_del(&s->sockets);
	event_timer_destroy(&s->timer);
	unix_listener_close(&s->listener);
}

void vsock_host_stop(struct vsock *s)
{
	event_call(s->loop ? s->loop : s->v.dev.host->loop, stop_on_loop, s);
}

void vsock_host_destroy(struct vsock *s)
{
	if (s->epoll >= 0)
		close(s->epoll);
	free(s->prefix);
}
