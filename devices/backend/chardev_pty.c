/*
 * The console on a new pseudo-terminal, to be opened by a terminal program (screen, minicom,
 * picocom) under the name that chardev_label() gives, or under a symbolic link of the user's
 * choice: pty(7), inotify(7).
 *
 * A master side whose slave side nobody has open hangs up for good, so it is only watched while
 * somebody has; inotify tells when the slave side is opened.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "devices/backend/chardev_impl.h"

#define READER_PATIENCE_MS 500 /* without a byte read */
#define READER_LOOK_MS	   5

struct pty_state {
	int master; /* -1: none */
	char name[64];
	char *link; /* NULL: none made */
	bool attached;
	struct event_source opened; /* inotify on the slave side */
};

static bool somebody_there(const struct pty_state *s)
{
	struct pollfd p = { .fd = s->master, .events = POLLIN };

	return poll(&p, 1, 0) >= 0 && !(p.revents & POLLHUP);
}

/* Two descriptors, for epoll takes each once and the two directions wait on their own. */
static int attach(struct chardev *chr, struct pty_state *s)
{
	int in = fcntl(s->master, F_DUPFD_CLOEXEC, 3);
	int out = fcntl(s->master, F_DUPFD_CLOEXEC, 3);

	if (in < 0 || out < 0) {
		int err = -errno;

		if (in >= 0)
			close(in);
		if (out >= 0)
			close(out);
		return err;
	}
	s->attached = true;
	return chardev_attach(chr, chardev_fd_take(in, CHARDEV_FD_DIRECT),
			      chardev_fd_take(out, CHARDEV_FD_DIRECT));
}

static void look(struct chardev *chr)
{
	struct pty_state *s = chr->state;

	if (!s->attached && somebody_there(s) && attach(chr, s) != 0)
		s->attached = false;
}

static void pty_opened(void *opaque, uint32_t events)
{
	struct chardev *chr = opaque;
	struct pty_state *s = chr->state;
	char drain[sizeof(struct inotify_event) * 16];

	(void)events;
	while (read(s->opened.fd, drain, sizeof(drain)) > 0)
		continue;
	look(chr);
}

static void pty_hangup(struct chardev *chr)
{
	struct pty_state *s = chr->state;

	chardev_detach(chr);
	s->attached = false;
	/* The next one may be there already. */
	look(chr);
}

/* Is path a link of ours, or one that a killed mvm left behind? */
static bool link_is_stale(const char *path, const char *name)
{
	char target[PATH_MAX];
	struct stat st;
	ssize_t len = readlink(path, target, sizeof(target) - 1);

	if (len < 0)
		return false;
	target[len] = '\0';
	if (strcmp(target, name) == 0)
		return true;
	return strncmp(target, "/dev/pts/", 9) == 0 && stat(target, &st) < 0;
}

static int make_link(struct pty_state *s, const char *path, struct error *e)
{
	s->link = strdup(path);
	if (!s->link)
		return error_set(e, -ENOMEM, "out of memory");
	if (symlink(s->name, path) < 0 && (errno != EEXIST || !link_is_stale(path, s->name) ||
					   unlink(path) < 0 || symlink(s->name, path) < 0)) {
		int err = -errno;

		free(s->link);
		s->link = NULL;
		return error_set_errno(e, err, "cannot make the link %s to %s", path, s->name);
	}
	return 0;
}

/*
 * When the master goes, what the reader has not read yet is thrown away (tty_vhangup): it gets the
 * time for that, as long as it does read. The count leaves out what the kernel has not carried from
 * one side to the other yet; poll(2) waits until it has.
 */
static int unread(int slave)
{
	struct pollfd p = { .fd = slave, .events = POLLIN };
	int left = 0;

	if (poll(&p, 1, 0) < 0 || ioctl(slave, FIONREAD, &left) < 0)
		return 0;
	return left;
}

static void let_reader_finish(const struct pty_state *s)
{
	int fd = open(s->name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	int left, before = -1;

	if (fd < 0)
		return;
	for (unsigned ms = 0; (left = unread(fd)) > 0 && ms < READER_PATIENCE_MS;
	     ms += READER_LOOK_MS) {
		if (left != before)
			ms = 0;
		before = left;
		usleep(READER_LOOK_MS * 1000);
	}
	close(fd);
}

static void pty_close(struct chardev *chr)
{
	struct pty_state *s = chr->state;

	if (s->attached)
		let_reader_finish(s);
	if (s->link && link_is_stale(s->link, s->name))
		unlink(s->link);
	free(s->link);
	event_del(&s->opened);
	if (s->opened.fd >= 0)
		close(s->opened.fd);
	if (s->master >= 0)
		close(s->master);
	free(s);
	chr->state = NULL;
}

/*
 * Raw, so that it neither echoes to the guest what the guest writes nor edits lines. Opening and
 * closing it also brings the master side into its usual state: hung up.
 */
static int prepare_slave(const char *name)
{
	int fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios modes;
	int err = 0;

	if (fd < 0)
		return -errno;
	if (tcgetattr(fd, &modes) == 0) {
		cfmakeraw(&modes);
		if (tcsetattr(fd, TCSANOW, &modes) < 0)
			err = -errno;
	}
	close(fd);
	return err;
}

static int make_pty(struct pty_state *s)
{
	int err;

	s->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (s->master < 0 || grantpt(s->master) < 0 || unlockpt(s->master) < 0)
		return -errno;
	err = ptsname_r(s->master, s->name, sizeof(s->name));
	return err ? -err : prepare_slave(s->name);
}

static int watch_slave(struct chardev *chr, struct pty_state *s)
{
	s->opened.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (s->opened.fd < 0 || inotify_add_watch(s->opened.fd, s->name, IN_OPEN) < 0)
		return -errno;
	s->opened.events = EPOLLIN;
	s->opened.callback = pty_opened;
	s->opened.opaque = chr;
	return event_add(chr->loop, &s->opened);
}

static int set_up(struct chardev *chr, struct pty_state *s, const char *link, struct error *e)
{
	int err = make_pty(s);

	if (err)
		return error_set_errno(e, err, "cannot make a pty");
	err = watch_slave(chr, s);
	if (err)
		return error_set_errno(e, err, "cannot watch %s", s->name);
	chr->label = strdup(s->name);
	if (!chr->label)
		return error_set(e, -ENOMEM, "out of memory");
	return link ? make_link(s, link, e) : 0;
}

static int pty_open(struct chardev *chr, const char *link, struct error *e)
{
	struct pty_state *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return error_set(e, -ENOMEM, "out of memory");
	s->master = s->opened.fd = -1;
	chr->state = s;
	err = set_up(chr, s, link, e);
	if (err)
		pty_close(chr);
	return err;
}

const struct chardev_kind chardev_pty = {
	.name = "pty",
	.argument = "[:LINK]",
	.keeps = true,
	.open = pty_open,
	.close = pty_close,
	.hangup = pty_hangup,
};
