/*
 * File descriptors that never make the caller wait, made from descriptors that we do not own.
 * stdin and stdout are usually shared with a shell and other programs: O_NONBLOCK is a flag of the
 * open file description, so setting it there would break them. We open a description of our own
 * where that is possible, and ask poll(2) before each small piece where it is not.
 */
#ifndef DEVICES_BACKEND_CHARDEV_FD_H
#define DEVICES_BACKEND_CHARDEV_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum chardev_fd_mode {
	CHARDEV_FD_DIRECT,	/* does not block: O_NONBLOCK, or a file */
	CHARDEV_FD_SOCKET,	/* MSG_DONTWAIT per call */
	CHARDEV_FD_POLLED_PIPE, /* poll, then at most PIPE_BUF: a ready pipe takes that much */
	CHARDEV_FD_POLLED_BYTE, /* poll, then one byte: all that a ready terminal promises */
};

struct chardev_fd {
	int fd; /* -1: none */
	enum chardev_fd_mode mode;
};

#define CHARDEV_FD_NONE ((struct chardev_fd){ .fd = -1 })

/* A descriptor for the same object as fd; access is O_RDONLY or O_WRONLY. 0 or -errno. */
int chardev_fd_own(struct chardev_fd *out, int fd, int access);
/* Takes over fd, which is non-blocking already or a file. */
struct chardev_fd chardev_fd_take(int fd, enum chardev_fd_mode mode);
void chardev_fd_close(struct chardev_fd *f);

/* Bytes moved (read: 0 is the end), or -errno; -EAGAIN: not now. Never waits. */
ssize_t chardev_fd_read(const struct chardev_fd *f, void *buf, size_t len);
ssize_t chardev_fd_write(const struct chardev_fd *f, const void *buf, size_t len);

#endif
