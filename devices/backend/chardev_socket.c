/*
 * The console on a listening unix socket: one client at a time, the next one waits in the queue.
 * A client that only closes its sending side (`printf … | nc -U`) still gets the output.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backend/chardev_impl.h"

#define BACKLOG 8

struct socket_state {
	struct event_source listener;
	struct sockaddr_un address;
	bool bound;
	dev_t dev; /* the file we bound, so that we remove no other */
	ino_t ino;
};

static int attach(struct chardev *chr, int fd)
{
	int out = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (out < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return chardev_attach(chr, chardev_fd_take(fd, CHARDEV_FD_SOCKET),
			      chardev_fd_take(out, CHARDEV_FD_SOCKET));
}

/* One-shot, so the queue is left alone until this client has gone. */
static void listen_on(struct socket_state *s)
{
	event_modify(&s->listener, EPOLLIN | EPOLLONESHOT);
}

static void client_came(void *opaque, uint32_t events)
{
	struct chardev *chr = opaque;
	struct socket_state *s = chr->state;
	int fd = accept4(s->listener.fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events;
	if (fd < 0 || attach(chr, fd) < 0)
		listen_on(s);
}

static void socket_hangup(struct chardev *chr, bool output_failed)
{
	struct socket_state *s = chr->state;
	struct pollfd p = { .fd = chr->in.fd, .events = 0 };

	/* Half closed: no more input, but somebody reads. The full close is told as EPOLLHUP. */
	if (!output_failed && chr->in.fd >= 0 && poll(&p, 1, 0) == 0) {
		chardev_wait_input(chr, 0);
		return;
	}
	chardev_detach(chr);
	listen_on(s);
}

static void socket_close(struct chardev *chr)
{
	struct socket_state *s = chr->state;
	struct stat st;

	event_del(&s->listener);
	if (s->listener.fd >= 0)
		close(s->listener.fd);
	if (s->bound && lstat(s->address.sun_path, &st) == 0 && st.st_dev == s->dev &&
	    st.st_ino == s->ino)
		unlink(s->address.sun_path);
	free(s);
	chr->state = NULL;
}

/* A socket file that nobody listens on any more; anything else is left alone. */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat st;
	int fd, err;

	if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	err = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? errno : 0;
	close(fd);
	return err == ECONNREFUSED;
}

static int try_bind(struct socket_state *s)
{
	const struct sockaddr *address = (const struct sockaddr *)&s->address;

	return bind(s->listener.fd, address, sizeof(s->address)) < 0 ? -errno : 0;
}

static int bind_path(struct socket_state *s)
{
	struct stat st;
	int err;

	/* Whoever connects has the guest's console: nobody but the owner. */
	if (fchmod(s->listener.fd, 0600) < 0)
		return -errno;
	err = try_bind(s);
	if (err == -EADDRINUSE && is_stale(&s->address)) {
		unlink(s->address.sun_path);
		err = try_bind(s);
	}
	if (err)
		return err;
	if (lstat(s->address.sun_path, &st) < 0)
		return -errno;
	s->bound = true;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	return listen(s->listener.fd, BACKLOG) < 0 ? -errno : 0;
}

static int set_up(struct chardev *chr, struct socket_state *s, const char *path)
{
	int err;

	s->listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listener.fd < 0)
		return -errno;
	err = bind_path(s);
	if (err)
		return err;
	chr->label = strdup(path);
	if (!chr->label)
		return -ENOMEM;
	s->listener.events = EPOLLIN | EPOLLONESHOT;
	s->listener.callback = client_came;
	s->listener.opaque = chr;
	return event_add(chr->loop, &s->listener);
}

static int socket_open(struct chardev *chr, const char *path, struct error *e)
{
	struct socket_state *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return error_set(e, -ENOMEM, "out of memory");
	s->listener.fd = -1;
	s->address.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(s->address.sun_path)) {
		free(s);
		return error_set(e, -ENAMETOOLONG, "%s: a socket's path has at most %zu bytes",
				 path, sizeof(s->address.sun_path) - 1);
	}
	strcpy(s->address.sun_path, path);
	chr->state = s;
	err = set_up(chr, s, path);
	if (!err)
		return 0;
	socket_close(chr);
	return error_set_errno(e, err, "cannot listen on %s", path);
}

const struct chardev_kind chardev_socket = {
	.name = "unix",
	.argument = ":PATH",
	.keeps = true,
	.open = socket_open,
	.close = socket_close,
	.hangup = socket_hangup,
};
