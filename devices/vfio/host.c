/*
 * The real host: see host.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <spawn.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/vfio/host.h"

extern char **environ;

static int write_sysfs(const struct vfio_host *host, const char *dir, const char *name,
		       const char *text)
{
	(void)host;
	return vfio_write_text(dir, name, text);
}

/* modprobe knows dependencies, options and blacklists; its words go nowhere, ours are better. */
static int load_module(const struct vfio_host *host, const char *module)
{
	char *argv[] = { "modprobe", "-q", "--", (char *)module, NULL };
	posix_spawn_file_actions_t files;
	int status, err;
	pid_t pid;

	(void)host;
	err = posix_spawn_file_actions_init(&files);
	if (err)
		return -err;
	err = posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	if (!err)
		err = posix_spawn_file_actions_adddup2(&files, 1, 2);
	if (!err)
		err = posix_spawnp(&pid, "modprobe", &files, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	if (err)
		return -err;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOENT;
}

static int nvme_admin(const struct vfio_host *host, const char *controller,
		      struct nvme_passthru_cmd *cmd)
{
	char path[VFIO_PATH_MAX];
	int fd, result, err = vfio_path(path, sizeof(path), host->root, "/dev/%s", controller);

	if (err)
		return err;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	result = ioctl(fd, NVME_IOCTL_ADMIN_CMD, cmd);
	if (result < 0)
		result = -errno;
	close(fd);
	return result;
}

/* Linux, block/bdev.c: bd_prepare_to_claim(). Reading only, so that udev does not hear of it. */
static int claim(const struct vfio_host *host, const char *disk)
{
	char path[VFIO_PATH_MAX];
	int fd, err = vfio_path(path, sizeof(path), host->root, "/dev/%s", disk);

	if (err)
		return err;
	fd = open(path, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

const struct vfio_host vfio_this_host = {
	.root = "",
	.write = write_sysfs,
	.load = load_module,
	.nvme_admin = nvme_admin,
	.claim = claim,
};

int vfio_host_write(const struct vfio_host *host, const char *dir, const char *name,
		    const char *text, struct error *e)
{
	int err = host->write(host, dir, name, text);

	if (!err)
		return 0;
	if (err == -EACCES || err == -EPERM || err == -EROFS)
		return error_set_errno(e, err, "cannot write %s/%s: this needs root", dir, name);
	error_set_errno(e, err, "cannot write \"%.*s\" to %s/%s", (int)strcspn(text, "\n"), text,
			dir, name);
	return err == -EINVAL ? -EIO : err;
}
