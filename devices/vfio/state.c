/*
 * Records of bindings: see state.h. The directory is root's own, yet what is read is checked: a
 * driver's name becomes part of a path.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/vfio/state.h"

#define DIRECTORY   "/run/mvm/vfio"
#define RECORDS_MAX 65536

static int make_directory(const struct vfio_host *host, char path[VFIO_PATH_MAX], struct error *e)
{
	static const char *const parts[] = { "/run/mvm", DIRECTORY };

	for (int i = 0; i < 2; i++) {
		int err = vfio_path(path, VFIO_PATH_MAX, host->root, "%s", parts[i]);

		if (!err && mkdir(path, i ? 0700 : 0755) && errno != EEXIST)
			err = -errno;
		if (err)
			return error_set_errno(e, err, "cannot make %s%s", path,
					       err == -EACCES ? ": this needs root" : "");
	}
	return 0;
}

int vfio_state_lock(const struct vfio_host *host, int *fd, struct error *e)
{
	char dir[VFIO_PATH_MAX], path[VFIO_PATH_MAX + 8];
	int err = make_directory(host, dir, e);

	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/lock", dir);
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0)
		return error_set_errno(e, -errno, "cannot open %s%s", path,
				       errno == EACCES ? ": this needs root" : "");
	while (flock(*fd, LOCK_EX)) {
		if (errno == EINTR)
			continue;
		err = error_set_errno(e, -errno, "cannot lock %s", path);
		close(*fd);
		return err;
	}
	return 0;
}

/* ---- one record ------------------------------------------------------------------------------ */

/* As the kernel and people name drivers; nothing that leads elsewhere in a path. */
static bool is_driver_name(const char *s)
{
	if (*s == '.')
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("-_.+:", *s))
			return false;
	return true;
}

static int take_line(struct vfio_record *r, char *line)
{
	char *value = strchr(line, '='), *end = "";

	if (!value)
		return -EBADMSG;
	*value++ = '\0';
	if (strcmp(line, "driver") == 0 || strcmp(line, "override") == 0) {
		char *to = *line == 'd' ? r->driver : r->override;

		if (strlen(value) >= VFIO_NAME_MAX || !is_driver_name(value))
			return -EBADMSG;
		memcpy(to, value, strlen(value) + 1);
	} else if (strcmp(line, "pid") == 0 || strcmp(line, "start") == 0) {
		unsigned long long n;

		errno = 0;
		n = strtoull(value, &end, 10);
		if (errno || end == value || *end || !isdigit((unsigned char)*value) ||
		    (*line == 'p' && n > INT32_MAX))
			return -EBADMSG;
		if (*line == 'p')
			r->pid = (pid_t)n;
		else
			r->start = n;
	}
	return 0; /* words of a later version do no harm */
}

int vfio_state_read(const struct vfio_host *host, const char *name, struct vfio_record *out)
{
	char path[VFIO_PATH_MAX], text[512], *line, *save = NULL;
	int fd, err = vfio_path(path, sizeof(path), host->root, DIRECTORY "/%s", name);
	ssize_t n;

	if (err)
		return err;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0 || memchr(text, 0, (size_t)n) || text[n - 1] != '\n')
		return -EBADMSG;
	text[n] = '\0';
	*out = (struct vfio_record){ .pid = 0 };
	snprintf(out->name, sizeof(out->name), "%s", name);
	for (line = strtok_r(text, "\n", &save); line && !err; line = strtok_r(NULL, "\n", &save))
		err = take_line(out, line);
	return err;
}

int vfio_state_write(const struct vfio_host *host, const struct vfio_record *r, struct error *e)
{
	char dir[VFIO_PATH_MAX], path[VFIO_PATH_MAX + VFIO_NAME_MAX], new[sizeof(path) + 4];
	char text[512];
	int fd, len, err = make_directory(host, dir, e);
	ssize_t n;

	if (err)
		return err;
	len = snprintf(text, sizeof(text), "driver=%s\noverride=%s\npid=%d\nstart=%" PRIu64 "\n",
		       r->driver, r->override, (int)r->pid, r->start);
	snprintf(path, sizeof(path), "%s/%s", dir, r->name);
	snprintf(new, sizeof(new), "%s.new", path);
	fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set_errno(e, -errno, "cannot make %s", new);
	n = write(fd, text, (size_t)len);
	err = n == len ? 0 : n < 0 ? -errno : -ENOSPC;
	close(fd);
	if (!err && rename(new, path))
		err = -errno;
	if (err) {
		unlink(new);
		error_set_errno(e, err, "cannot write %s", path);
	}
	return err;
}

void vfio_state_remove(const struct vfio_host *host, const char *name)
{
	char path[VFIO_PATH_MAX];

	if (vfio_path(path, sizeof(path), host->root, DIRECTORY "/%s", name) == 0)
		unlink(path);
}

int vfio_state_list(const struct vfio_host *host, struct vfio_record **out, unsigned *count)
{
	char path[VFIO_PATH_MAX], name[VFIO_NAME_MAX];
	struct vfio_record *list = NULL, *more;
	unsigned n = 0, room = 0;
	struct dirent *d;
	int err = vfio_path(path, sizeof(path), host->root, DIRECTORY);
	DIR *dir;

	*out = NULL;
	*count = 0;
	if (err)
		return err;
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((d = readdir(dir)) && n < RECORDS_MAX) {
		if (!vfio_parse_bdf(d->d_name, name))
			continue;
		if (n == room) {
			room = room ? 2 * room : 8;
			more = realloc(list, room * sizeof(*list));
			if (!more) {
				err = -ENOMEM;
				break;
			}
			list = more;
		}
		if (vfio_state_read(host, name, &list[n]) == 0)
			n++;
	}
	closedir(dir);
	if (err) {
		free(list);
		return err;
	}
	*out = list;
	*count = n;
	return 0;
}

/* ---- owners ---------------------------------------------------------------------------------- */

/* Field 22 of /proc/PID/stat; the second one, in brackets, may have anything in it. */
static int start_time(const struct vfio_host *host, pid_t pid, uint64_t *out)
{
	char dir[VFIO_PATH_MAX], text[1024], *s, *end;
	int n = vfio_path(dir, sizeof(dir), host->root, "/proc/%d", (int)pid);

	if (!n)
		n = vfio_read_text(dir, "stat", text, sizeof(text));
	if (n < 0)
		return n;
	s = strrchr(text, ')');
	if (!s)
		return -EBADMSG;
	if (s[1] == ' ' && (s[2] == 'Z' || s[2] == 'X'))
		return -ESRCH; /* ended, only not yet waited for */
	for (int field = 2; s && field < 22; field++)
		s = strchr(s + 1, ' ');
	if (!s)
		return -EBADMSG;
	*out = strtoull(s + 1, &end, 10);
	return end == s + 1 ? -EBADMSG : 0;
}

int vfio_state_own(const struct vfio_host *host, struct vfio_record *record)
{
	record->pid = getpid();
	return start_time(host, record->pid, &record->start);
}

bool vfio_state_owned(const struct vfio_host *host, const struct vfio_record *record)
{
	uint64_t start;

	return record->pid && start_time(host, record->pid, &start) == 0 && start == record->start;
}
