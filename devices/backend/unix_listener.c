/*
 * Listening on a name in the file system: see unix_listener.h. unix(7).
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/unix_listener.h"
#include "vmm/log.h"

#define LATER_NS 100000000u

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

static int try_bind(struct unix_listener *l)
{
	const struct sockaddr *address = (const struct sockaddr *)&l->address;

	return bind(l->fd, address, sizeof(l->address)) < 0 ? -errno : 0;
}

static int bind_path(struct unix_listener *l)
{
	struct stat st;
	int err;

	/* Whoever connects is inside: nobody but the owner. */
	if (fchmod(l->fd, 0600) < 0)
		return -errno;
	err = try_bind(l);
	if (err == -EADDRINUSE && is_stale(&l->address)) {
		unlink(l->address.sun_path);
		err = try_bind(l);
	}
	if (err)
		return err;
	if (lstat(l->address.sun_path, &st) < 0)
		return -errno;
	l->bound = true;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return 0;
}

int unix_listener_open(struct unix_listener *l, const char *path, int backlog, struct error *e)
{
	int err;

	*l = UNIX_LISTENER_NONE;
	l->address.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(l->address.sun_path))
		return error_set(e, -ENAMETOOLONG, "%s: a socket's path has at most %zu bytes",
				 path, sizeof(l->address.sun_path) - 1);
	memcpy(l->address.sun_path, path, strlen(path) + 1);
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	err = l->fd < 0 ? -errno : bind_path(l);
	if (!err && listen(l->fd, backlog) < 0)
		err = -errno;
	if (!err)
		return 0;
	unix_listener_close(l);
	return error_set_errno(e, err, "cannot listen on %s", path);
}

void unix_listener_close(struct unix_listener *l)
{
	struct stat st;

	event_timer_destroy(&l->later); /* first: it is what uses the other */
	event_del(&l->source);
	if (l->fd >= 0)
		close(l->fd);
	if (l->bound && lstat(l->address.sun_path, &st) == 0 && st.st_dev == l->dev &&
	    st.st_ino == l->ino)
		unlink(l->address.sun_path);
	*l = UNIX_LISTENER_NONE;
}

/* ---- in an event loop ------------------------------------------------------------------------ */

void unix_listener_wait(struct unix_listener *l)
{
	event_modify(&l->source, EPOLLIN | EPOLLONESHOT);
}

static void try_again(void *opaque)
{
	unix_listener_wait(opaque);
}

int unix_listener_watch(struct unix_listener *l, struct event_loop *loop,
			void (*callback)(void *opaque, uint32_t events), void *opaque)
{
	int err;

	l->source = (struct event_source){
		.fd = l->fd, .events = EPOLLONESHOT, .callback = callback, .opaque = opaque
	};
	l->later = (struct event_timer){ .callback = try_again, .opaque = l };
	err = event_timer_init(&l->later, loop);
	return err ? err : event_add(loop, &l->source);
}

int unix_listener_accept(struct unix_listener *l, int flags)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | flags), err = -errno;

	if (fd >= 0)
		return fd;
	if (err == -EAGAIN || err == -EINTR || err == -ECONNABORTED) {
		unix_listener_wait(l);
		return err;
	}
	if (!l->complained)
		log_warn("%s: cannot accept a connection: %s", l->address.sun_path, strerror(-err));
	l->complained = true;
	event_timer_set(&l->later, LATER_NS);
	return err;
}
