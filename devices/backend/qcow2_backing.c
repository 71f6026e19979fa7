/*
 * What is under a qcow2 image: a chain of backing files, opened read-only and locked against
 * writers. A backing file's format comes from the image's header extension and is never guessed: a
 * guest that can write a raw image could else make it look like a qcow2 one that names any file.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "devices/backend/qcow2_impl.h"

/* ---- reading --------------------------------------------------------------------------------- */

static int read_raw(const struct block_file *f, uint64_t offset, size_t len, struct iov_cursor *to)
{
	struct iovec iov[QCOW2_IOV];
	int err = 0, n;

	while (len && !err) {
		size_t piece = iov_cursor_take(to, len, iov, QCOW2_IOV, &n);

		if (piece == 0)
			return -EINVAL;
		err = block_file_readv(f, iov, n, offset, 0);
		offset += piece;
		len -= piece;
	}
	return err;
}

int qcow2_read_backing(struct qcow2 *q, uint64_t offset, size_t len, struct iov_cursor *to)
{
	size_t there = offset < q->backing_size ? qcow2_min(len, q->backing_size - offset) : 0;
	int err = 0;

	if (there)
		err = q->backing ? qcow2_read_cursor(q->backing, offset, offset + there, to)
				 : read_raw(&q->backing_file, offset, there, to);
	if (!err)
		iov_cursor_zero(to, len - there);
	return err;
}

void qcow2_account(struct qcow2 *image, struct account *account)
{
	for (struct qcow2 *q = image; q; q = q->backing) {
		q->file.account = account;
		q->backing_file.account = account;
	}
}

/* ---- opening --------------------------------------------------------------------------------- */

/* "proto:…" and "json:…" are how QEMU names what is no file. */
static bool is_file_name(const char *name)
{
	const char *colon = strchr(name, ':'), *slash = strchr(name, '/');

	return !colon || (slash && slash < colon);
}

/* Relative names start at the image's own directory. NULL: out of memory. */
static char *resolve(const char *image, const char *name)
{
	const char *slash = strrchr(image, '/');
	size_t dir = name[0] == '/' || !slash ? 0 : (size_t)(slash - image) + 1;
	size_t len = strlen(name);
	char *path = malloc(dir + len + 1);

	if (path) {
		memcpy(path, image, dir);
		memcpy(path + dir, name, len + 1);
	}
	return path;
}

/* Before it is opened: its lock would only say that somebody has the file. */
static bool in_chain(const char *path, const struct qcow2_chain *chain)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	for (; chain; chain = chain->above) {
		const struct block_file *f = &chain->image->file;

		if (S_ISBLK(st.st_mode)
			    ? f->is_device && f->inode == st.st_rdev
			    : !f->is_device && f->dev == st.st_dev && f->inode == st.st_ino)
			return true;
	}
	return false;
}

static int open_backing(struct qcow2 *q, const char *path, const struct qcow2_chain *chain,
			struct error *e)
{
	/* Through the page cache, whatever the image has: other guests may read the same file. */
	const struct qcow2_options options = { .read_only = true };
	int err;

	if (!strcmp(q->header.backing_format, "qcow2")) {
		err = qcow2_open_in_chain(&q->backing, path, &options, chain, e);
		if (!err)
			q->backing_size = q->backing->header.size;
		return err;
	}
	err = block_file_open(&q->backing_file, path, true, BLOCK_CACHE_WRITEBACK, e);
	if (!err)
		q->backing_size = q->backing_file.size;
	return err;
}

int qcow2_backing_open(struct qcow2 *q, const struct qcow2_chain *above, struct error *e)
{
	const struct qcow2_chain chain = { .image = q,
					   .above = above,
					   .depth = above ? above->depth + 1 : 1 };
	const char *format = q->header.backing_format, *name = q->header.backing_name;
	char *path;
	int err;

	if (!q->header.has_backing)
		return 0;
	if (!format[0])
		return error_set(e, -EINVAL,
				 "has a backing file (%s) but does not state its format; state it "
				 "with: qemu-img rebase -u -b FILE -F FORMAT",
				 name);
	if (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
		return error_set(e, -ENOTSUP,
				 "has a backing file of format %s; raw and qcow2 can be read",
				 format);
	if (!is_file_name(name))
		return error_set(e, -ENOTSUP, "has a backing file that is no file: %s", name);
	path = resolve(q->path, name);
	if (!path)
		return error_set(e, -ENOMEM, "out of memory");
	if (chain.depth >= QCOW2_MAX_CHAIN)
		err = error_set(e, -ELOOP,
				"is the end of a chain of %u images; qemu-img commit or "
				"rebase can shorten it",
				chain.depth);
	else if (in_chain(path, &chain))
		err = error_set(e, -ELOOP,
				"has a backing file that is the image itself, or has it "
				"as its own: %s",
				path);
	else
		err = open_backing(q, path, &chain, e);
	if (err && err != -ELOOP)
		error_prefix(e, "needs its backing file: ");
	free(path);
	return err;
}

void qcow2_backing_close(struct qcow2 *q)
{
	if (q->backing)
		qcow2_close(q->backing);
	q->backing = NULL;
	block_file_close(&q->backing_file);
}
