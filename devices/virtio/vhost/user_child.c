/*
 * A back end that is a child of ours: `--blk=vhost:IMAGE` starts mvm once more. It has one end of a
 * socket pair, and ends when ours is closed, so that not even our being killed leaves it behind.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "devices/virtio/vhost/user_impl.h"

#define CHILD_FD      3
#define END_STEP_NS   (5 * 1000 * 1000)
#define END_STEPS_MAX 6000 /* half a minute: an image may have much to write out */

extern char **environ;

static int spawn(struct vhost_user *u, int fd)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none;
	int err;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	/* First out of the way of the others, then to where it is looked for. */
	posix_spawn_file_actions_adddup2(&files, fd, CHILD_FD);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	err = -posix_spawn(&u->pid, "/proc/self/exe", &files, &attr, u->child, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	if (err)
		u->pid = 0;
	return err;
}

int vhost_user_child_start(struct vhost_user *u, int *sock, struct error *e)
{
	int pair[2], err;

	vhost_user_child_end(u);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set_errno(e, -errno, "cannot make a socket");
	err = spawn(u, pair[1]);
	close(pair[1]);
	if (err) {
		close(pair[0]);
		return error_set_errno(e, err, "cannot start a back end");
	}
	*sock = pair[0];
	return 0;
}

/* Its socket is closed already: it writes out what it has to and ends; or is made to. */
void vhost_user_child_end(struct vhost_user *u)
{
	const struct timespec step = { .tv_nsec = END_STEP_NS };

	for (unsigned i = 0; u->pid > 0; i++) {
		pid_t pid = waitpid(u->pid, NULL, i < END_STEPS_MAX ? WNOHANG : 0);

		if (pid == u->pid || (pid < 0 && errno != EINTR))
			u->pid = 0;
		else if (i == END_STEPS_MAX - 1)
			kill(u->pid, SIGKILL);
		else
			nanosleep(&step, NULL);
	}
}

unsigned vhost_user_child_tids(struct vhost *b, pid_t *tid, unsigned max)
{
	struct vhost_user *u = vhost_user_of(b);
	char path[64];
	struct dirent *d;
	unsigned n = 0;
	DIR *dir;

	if (u->pid <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)u->pid);
	dir = opendir(path);
	while (dir && n < max && (d = readdir(dir)))
		if (d->d_name[0] != '.')
			tid[n++] = (pid_t)strtol(d->d_name, NULL, 10);
	if (dir)
		closedir(dir);
	return n;
}
