/*
 * --config=FILE: the options of the command line without their dashes, one `name = value` a line; a
 * bare `name` for those that take no value. Blank lines and lines that begin with # are skipped. A
 * value that begins with a double quote ends with one and knows \" \\ \n and \t, so that any value
 * can be written. Paths mean what they mean on the command line. Messages begin with FILE:LINE.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/options_internal.h"

#define MAX_FILE  (1u << 20)
#define MAX_DEPTH 8

/* The file, zero-terminated, and what identifies it. The caller frees it. */
static int slurp(const char *path, struct options_source *source, char **out, struct error *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t len = 0;
	struct stat st;
	char *buf;
	ssize_t n;
	int err = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err = error_set_errno(e, -errno, "cannot open it");
		if (fd >= 0)
			close(fd);
		return err;
	}
	source->dev = st.st_dev;
	source->ino = st.st_ino;
	buf = malloc(MAX_FILE + 1);
	if (!buf) {
		close(fd);
		return error_set_errno(e, -ENOMEM, "cannot read it");
	}
	while (!err && len <= MAX_FILE) {
		n = read(fd, buf + len, MAX_FILE + 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = error_set_errno(e, -errno, "cannot read it");
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	close(fd);
	if (!err && len > MAX_FILE)
		err = error_set(e, -EINVAL, "larger than 1 MiB, so it is no configuration file");
	if (!err && memchr(buf, '\0', len))
		err = error_set(e, -EINVAL, "has zero bytes, so it is no configuration file");
	if (err) {
		free(buf);
		return err;
	}
	buf[len] = '\0';
	*out = buf;
	return 0;
}

static char *trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return s;
}

/* Takes the quotes off, in place. */
static int unquote(char *s, struct error *e)
{
	char *out = s;

	for (char *in = s + 1; *in; in++) {
		if (*in == '"') {
			*out = '\0';
			return in[1] ? error_set(e, -EINVAL, "text behind the closing quote") : 0;
		}
		if (*in == '\\') {
			in++;
			if (!*in || !strchr("\\\"nt", *in))
				return error_set(e, -EINVAL,
						 "in quotes there are only \\\" \\\\ \\n and \\t");
			*out++ = *in == 'n' ? '\n' : *in == 't' ? '\t' : *in;
		} else {
			*out++ = *in;
		}
	}
	return error_set(e, -EINVAL, "the closing quote is missing");
}

static int apply_line(struct config *config, const struct options_source *source, char *line,
		      struct error *e)
{
	char *name, *value = NULL, *equals;
	int err;

	line = trim(line);
	if (!*line || *line == '#')
		return 0;
	equals = strchr(line, '=');
	if (equals) {
		*equals = '\0';
		value = trim(equals + 1);
		err = *value == '"' ? unquote(value, e) : 0;
		if (err)
			return err;
	}
	name = trim(line);
	if (*name == '-')
		return error_set(e, -EINVAL, "in a file, options are written without dashes: %.60s",
				 name + strspn(name, "-"));
	if (!*name)
		return error_set(e, -EINVAL, "an option's name is missing before \"=\"");
	if (strpbrk(name, " \t"))
		return error_set(e, -EINVAL, "not NAME = VALUE: \"%.60s\"", name);
	return options_apply(config, source, name, strlen(name), value, e);
}

static int check_nesting(const struct options_source *source, struct error *e)
{
	if (source->depth > MAX_DEPTH)
		return error_set(e, -EINVAL, "files include each other more than %d deep",
				 MAX_DEPTH);
	for (const struct options_source *up = source->up; up; up = up->up)
		if (up->dev == source->dev && up->ino == source->ino)
			return error_set(e, -EINVAL, "the file includes itself");
	return 0;
}

int options_file(struct config *config, const struct options_source *up, const char *path,
		 struct error *e)
{
	struct options_source source = { .up = up, .path = path, .depth = up ? up->depth + 1 : 1 };
	unsigned number = 0;
	char *buf = NULL, *next, *line;
	int err = slurp(path, &source, &buf, e);

	if (!err)
		err = check_nesting(&source, e);
	if (err) {
		options_prefix(e, "config", path);
		free(buf);
		return err;
	}
	for (next = buf; !err && (line = strsep(&next, "\n"));) {
		number++;
		err = apply_line(config, &source, line, e);
	}
	if (err)
		error_prefix(e, "%s%.200s:%u: ", strlen(path) > 200 ? "…" : "",
			     strlen(path) > 200 ? path + strlen(path) - 200 : path, number);
	free(buf);
	return err;
}
