/*
 * Listening on a name in the file system: see unix_listener.h. unix(7).
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/unix_listener.h"

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

	if (l->fd >= 0)
		close(l->fd);
	if (l->bound && lstat(l->address.sun_path, &st) == 0 && st.st_dev == l->dev &&
	    st.st_ino == l->ino)
		unlink(l->address.sun_path);
	*l = UNIX_LISTENER_NONE;
}
