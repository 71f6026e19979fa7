/*
 * Who has VFIO's files open: see use.h.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/vfio/use.h"

/* ROOT/dev/vfio/GROUP, and ROOT/dev/vfio/devices/CDEV if there is one. */
static bool is_file_of(const struct vfio_host *host, const struct vfio_node *node, const char *path)
{
	char own[VFIO_PATH_MAX];

	if (node->group >= 0 &&
	    vfio_path(own, sizeof(own), host->root, "/dev/vfio/%d", node->group) == 0 &&
	    strcmp(own, path) == 0)
		return true;
	return node->cdev[0] &&
	       vfio_path(own, sizeof(own), host->root, "/dev/vfio/devices/%s", node->cdev) == 0 &&
	       strcmp(own, path) == 0;
}

static void name_process(const char *dir, const char *pid, char *who)
{
	char name[32];

	vfio_read_text(dir, "comm", name, sizeof(name));
	snprintf(who, VFIO_NAME_MAX, "%s (pid %.16s)", name[0] ? name : "a process", pid);
}

/* One process: its descriptors against all nodes. */
static void look_at(const struct vfio_host *host, const char *pid, const struct vfio_node *nodes,
		    unsigned count, char (*who)[VFIO_NAME_MAX])
{
	char dir[VFIO_PATH_MAX], fds[VFIO_PATH_MAX + 4], target[VFIO_PATH_MAX];
	struct dirent *d;
	ssize_t n;
	DIR *fd;

	if (vfio_path(dir, sizeof(dir), host->root, "/proc/%s", pid))
		return;
	snprintf(fds, sizeof(fds), "%s/fd", dir);
	fd = opendir(fds);
	if (!fd)
		return;
	while ((d = readdir(fd))) {
		n = readlinkat(dirfd(fd), d->d_name, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		if (!strstr(target, "/dev/vfio/"))
			continue;
		for (unsigned i = 0; i < count; i++)
			if (!who[i][0] && is_file_of(host, &nodes[i], target))
				name_process(dir, pid, who[i]);
	}
	closedir(fd);
}

void vfio_opened_by(const struct vfio_host *host, const struct vfio_node *nodes, unsigned count,
		    char (*who)[VFIO_NAME_MAX])
{
	char path[VFIO_PATH_MAX];
	struct dirent *d;
	DIR *proc;

	for (unsigned i = 0; i < count; i++)
		who[i][0] = '\0';
	if (vfio_path(path, sizeof(path), host->root, "/proc"))
		return;
	proc = opendir(path);
	if (!proc)
		return;
	while ((d = readdir(proc)))
		if (isdigit((unsigned char)d->d_name[0]))
			look_at(host, d->d_name, nodes, count, who);
	closedir(proc);
}

/* A group opens once; its devices keep it open. Linux, drivers/vfio/group.c. */
static bool refuses_to_open(const struct vfio_host *host, const struct vfio_node *node)
{
	char path[VFIO_PATH_MAX];
	int fd;

	if (node->group < 0 ||
	    vfio_path(path, sizeof(path), host->root, "/dev/vfio/%d", node->group))
		return false;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == EBUSY;
	close(fd);
	return false;
}

bool vfio_opened(const struct vfio_host *host, const struct vfio_node *node, char *who, size_t size)
{
	char found[1][VFIO_NAME_MAX];

	*who = '\0';
	vfio_opened_by(host, node, 1, found);
	if (found[0][0])
		snprintf(who, size, "%s", found[0]);
	else if (refuses_to_open(host, node))
		snprintf(who, size, "another process");
	return *who != '\0';
}
