/*
 * A listening unix stream socket with a name in the file system. Nobody but its owner may connect.
 * A socket file that nobody listens on any more (of a process that was killed) is replaced,
 * anything else that is in the way is an error; at the end the file is removed if it is still ours.
 */
#ifndef DEVICES_BACKEND_UNIX_LISTENER_H
#define DEVICES_BACKEND_UNIX_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

#include "vmm/error.h"

struct unix_listener {
	int fd; /* non-blocking; -1: none */
	bool bound;
	struct sockaddr_un address;
	dev_t dev; /* the file we bound, so that we remove no other */
	ino_t ino;
};

#define UNIX_LISTENER_NONE ((struct unix_listener){ .fd = -1 })

/* 0, or -errno with a message that names the path; then nothing is left to close. */
int unix_listener_open(struct unix_listener *l, const char *path, int backlog, struct error *e);
void unix_listener_close(struct unix_listener *l); /* also of UNIX_LISTENER_NONE */

#endif
