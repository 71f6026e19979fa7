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
#include <unistd.h>

#include "devices/backend/chardev_impl.h"
#include "devices/backend/unix_listener.h"

#define BACKLOG 8

struct socket_state {
	struct unix_listener listener; /* left alone while there is a client */
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

static void client_came(void *opaque, uint32_t events)
{
	struct chardev *chr = opaque;
	struct socket_state *s = chr->state;
	int fd = unix_listener_accept(&s->listener, 0);

	(void)events;
	if (fd >= 0 && attach(chr, fd) < 0)
		unix_listener_wait(&s->listener);
}

static void socket_hangup(struct chardev *chr)
{
	struct socket_state *s = chr->state;
	struct pollfd p = { .fd = chr->in.fd, .events = 0 };

	/* Half closed: no more input, but somebody reads. The full close is told as EPOLLHUP. */
	if (poll(&p, 1, 0) == 0) {
		chardev_wait_input(chr, 0);
		return;
	}
	chardev_detach(chr);
	unix_listener_wait(&s->listener);
}

static void socket_close(struct chardev *chr)
{
	struct socket_state *s = chr->state;

	unix_listener_close(&s->listener);
	free(s);
	chr->state = NULL;
}

static int watch(struct chardev *chr, struct socket_state *s, const char *path, struct error *e)
{
	int err;

	chr->label = strdup(path);
	if (!chr->label)
		return error_set(e, -ENOMEM, "out of memory");
	err = unix_listener_watch(&s->listener, chr->loop, client_came, chr);
	if (err)
		return error_set_errno(e, err, "cannot listen on %s", path);
	unix_listener_wait(&s->listener);
	return 0;
}

static int socket_open(struct chardev *chr, const char *path, struct error *e)
{
	struct socket_state *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return error_set(e, -ENOMEM, "out of memory");
	chr->state = s;
	err = unix_listener_open(&s->listener, path, BACKLOG, e);
	if (!err)
		err = watch(chr, s, path, e);
	if (err)
		socket_close(chr);
	return err;
}

const struct chardev_kind chardev_socket = {
	.name = "unix",
	.argument = ":PATH",
	.keeps = true,
	.open = socket_open,
	.close = socket_close,
	.hangup = socket_hangup,
};
