/*
 * Reading and writing single files of sysfs, bounded: see sysfs.h. What is read may be anything: a
 * driver out of the tree, a tree made by a test. It is cut to the buffer and to printable bytes, so
 * that it can stand in a message or a table.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "devices/vfio/sysfs.h"

int vfio_path(char *buf, size_t size, const char *root, const char *fmt, ...)
{
	size_t used = (size_t)snprintf(buf, size, "%s", root ? root : "");
	va_list ap;
	int n;

	if (used >= size)
		return -ENAMETOOLONG;
	va_start(ap, fmt);
	n = vsnprintf(buf + used, size - used, fmt, ap);
	va_end(ap);
	return n < 0 || (size_t)n >= size - used ? -ENAMETOOLONG : 0;
}

char *vfio_printable(char *text)
{
	for (char *c = text; *c; c++)
		if (*c < 0x20 || *c >= 0x7f)
			*c = '?';
	return text;
}

int vfio_read_text(const char *dir, const char *name, char *buf, size_t size)
{
	char path[VFIO_PATH_MAX + VFIO_NAME_MAX];
	ssize_t n;
	size_t len;
	int fd, err = vfio_path(path, sizeof(path), dir, "/%s", name);

	*buf = '\0';
	if (err)
		return err;
	/* O_NONBLOCK: what looks like a file may be a FIFO. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	err = n < 0 ? -errno : 0;
	close(fd);
	buf[n < 0 ? 0 : n] = '\0';
	if (err)
		return err;
	len = strcspn(buf, "\n");
	buf[len] = '\0';
	vfio_printable(buf);
	return (int)len;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

int vfio_read_number(const char *dir, const char *name, uint64_t max, uint64_t *out)
{
	unsigned base = 10;
	const char *s;
	uint64_t value = 0;
	char text[32];
	int n = vfio_read_text(dir, name, text, sizeof(text));

	if (n < 0)
		return n;
	s = text;
	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		base = 16;
		s += 2;
	}
	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		unsigned d = (unsigned)digit(*s);

		if (d >= base || d > max || value > (max - d) / base)
			return -EINVAL;
		value = value * base + d;
	}
	*out = value;
	return 0;
}

int vfio_read_link(const char *dir, const char *name, char *buf, size_t size)
{
	char path[VFIO_PATH_MAX + VFIO_NAME_MAX], target[4096];
	const char *last;
	ssize_t n;
	int err = vfio_path(path, sizeof(path), dir, "/%s", name);

	*buf = '\0';
	if (err)
		return err;
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	last = strrchr(target, '/');
	last = last ? last + 1 : target;
	if (strlen(last) >= size)
		return -ENAMETOOLONG;
	memcpy(buf, last, strlen(last) + 1);
	vfio_printable(buf);
	return 0;
}

int vfio_write_text(const char *dir, const char *name, const char *text)
{
	char path[VFIO_PATH_MAX + VFIO_NAME_MAX];
	size_t len = strlen(text);
	ssize_t n;
	int fd, err = vfio_path(path, sizeof(path), dir, "/%s", name);

	if (err)
		return err;
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	err = n < 0 ? -errno : (size_t)n < len ? -EIO : 0;
	close(fd);
	return err;
}
