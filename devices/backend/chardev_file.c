/*
 * Output only: into a file (or a named pipe or serial port), or nowhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/chardev_impl.h"

static int file_open(struct chardev *chr, const char *path, struct error *e)
{
	/* O_NONBLOCK is for what turns out not to be a file: nothing may wait for its reader. */
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
	int err;

	if (fd < 0 && errno == ENXIO)
		return error_set(e, -ENXIO, "%s: nobody reads this pipe yet", path);
	if (fd < 0)
		return error_set_errno(e, -errno, "cannot open %s", path);
	err = chardev_attach(chr, CHARDEV_FD_NONE, chardev_fd_take(fd, CHARDEV_FD_DIRECT));
	return err ? error_set_errno(e, err, "cannot wait for %s", path) : 0;
}

const struct chardev_kind chardev_file = {
	.name = "file",
	.argument = ":PATH",
	.open = file_open,
};

static int null_open(struct chardev *chr, const char *argument, struct error *e)
{
	struct chardev_fd none = CHARDEV_FD_NONE;

	(void)argument, (void)e;
	return chardev_attach(chr, none, none);
}

const struct chardev_kind chardev_null = {
	.name = "null",
	.open = null_open,
};
