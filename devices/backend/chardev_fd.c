/*
 * Descriptors that never make the caller wait: see chardev_fd.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "devices/backend/chardev_fd.h"

struct chardev_fd chardev_fd_take(int fd, enum chardev_fd_mode mode)
{
	return (struct chardev_fd){ .fd = fd, .mode = mode };
}

void chardev_fd_close(struct chardev_fd *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

/* A new open file description of the same pipe or character device; -1 if we may not. */
static int reopen(int fd, int access)
{
	const int flags = access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	char path[32];
	int own;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, flags);
	/* After su(1) the terminal's device node is not ours, but /dev/tty always is. */
	if (own < 0 && isatty(fd) && tcgetsid(fd) == getsid(0))
		own = open("/dev/tty", flags);
	return own;
}

/* Opening the node of a pty's master side would make another pty. */
static bool is_pty_master(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(5, 2);
}

int chardev_fd_own(struct chardev_fd *out, int fd, int access)
{
	enum chardev_fd_mode mode = CHARDEV_FD_DIRECT;
	struct stat st;
	int own = -1;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISSOCK(st.st_mode)) {
		mode = CHARDEV_FD_SOCKET;
	} else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode)) {
		/* Files are left out: a description of our own would have an offset of its own. */
		if (!is_pty_master(&st))
			own = reopen(fd, access);
		mode = own >= 0		      ? CHARDEV_FD_DIRECT
		       : S_ISFIFO(st.st_mode) ? CHARDEV_FD_POLLED_PIPE
					      : CHARDEV_FD_POLLED_BYTE;
	}
	if (own < 0)
		own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		return -errno;
	*out = chardev_fd_take(own, mode);
	return 0;
}

static bool polled(const struct chardev_fd *f)
{
	return f->mode == CHARDEV_FD_POLLED_PIPE || f->mode == CHARDEV_FD_POLLED_BYTE;
}

/* Errors and hang-ups count as ready: the call that follows reports them without waiting. */
static bool ready(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 0) == 1;
}

ssize_t chardev_fd_read(const struct chardev_fd *f, void *buf, size_t len)
{
	ssize_t n;

	if (polled(f) && !ready(f->fd, POLLIN))
		return -EAGAIN;
	do {
		n = f->mode == CHARDEV_FD_SOCKET ? recv(f->fd, buf, len, MSG_DONTWAIT)
						 : read(f->fd, buf, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t chardev_fd_write(const struct chardev_fd *f, const void *buf, size_t len)
{
	ssize_t n;

	if (polled(f)) {
		size_t most = f->mode == CHARDEV_FD_POLLED_PIPE ? PIPE_BUF : 1;

		if (!ready(f->fd, POLLOUT))
			return -EAGAIN;
		if (len > most)
			len = most;
	}
	do {
		n = f->mode == CHARDEV_FD_SOCKET
			    ? send(f->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL)
			    : write(f->fd, buf, len);
	} while (n < 0 && errno == EINTR);
	/* A terminal that is stopped takes nothing and says so with 0. */
	return n < 0 ? -errno : n == 0 && len > 0 ? -EAGAIN : n;
}
