/*
 * Reading kernel and initrd files: see image.h. Compressed kernels are gzip, RFC 1952, through
 * zlib.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "boot/image.h"

#define FIRST_CAPACITY (1u << 20)
#define INPUT_CHUNK    (64u << 10)
#define READ_CHUNK     (1u << 30) /* read(2) moves at most 0x7ffff000 bytes at once */

int image_error(const struct image *image, int err, uint64_t offset, struct error *e,
		const char *fmt, ...)
{
	char reason[sizeof(e->msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return error_set(e, err, "%s%s: offset 0x%" PRIx64 ": %s", image->name,
			 image->inflated ? " (inflated)" : "", offset, reason);
}

static int read_error(const struct image *image, int err, uint64_t offset, const char *what,
		      struct error *e)
{
	return image_error(image, err, offset, e, "cannot read %s: %s", what, strerror(-err));
}

/* A buffer that grows by doubling up to a limit, and tells when the limit is reached. */
struct buffer {
	uint8_t *data;
	uint64_t size, capacity, limit;
};

/* Makes room for at least one more byte. -ENOSPC at the limit, -ENOMEM. */
static int buffer_grow(struct buffer *b)
{
	uint64_t capacity = b->capacity ? b->capacity * 2 : FIRST_CAPACITY;
	uint8_t *data;

	if (b->size < b->capacity)
		return 0;
	if (b->capacity >= b->limit)
		return -ENOSPC;
	if (capacity > b->limit)
		capacity = b->limit;
	data = realloc(b->data, capacity);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->capacity = capacity;
	return 0;
}

static int too_large(const struct image *image, int err, uint64_t limit, const char *how,
		     struct error *e)
{
	if (err == -ENOSPC)
		return image_error(image, -ENOMEM, limit, e,
				   "%s more than the %" PRIu64 " bytes of RAM it could use", how,
				   limit);
	return image_error(image, err, 0, e, "cannot allocate memory to read it");
}

/* A pipe or the like: there is no size to ask for and no way back. */
static int read_whole(struct image *image, uint64_t limit, struct error *e)
{
	/* One byte over the limit, to tell "just fits" from "does not fit". */
	struct buffer b = { .limit = limit + 1 };
	int err;

	for (;;) {
		uint64_t room;
		ssize_t n;

		err = buffer_grow(&b);
		if (err || b.size > limit) {
			err = too_large(image, err ? err : -ENOSPC, limit, "holds", e);
			break;
		}
		room = b.capacity - b.size;
		n = read(image->fd, b.data + b.size, room < READ_CHUNK ? room : READ_CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err = read_error(image, -errno, b.size, "it", e);
			break;
		}
		if (n == 0) {
			image->data = b.data;
			image->size = b.size;
			return 0;
		}
		b.size += (uint64_t)n;
	}
	free(b.data);
	return err;
}

int image_open(struct image *image, const char *name, int fd, uint64_t limit, struct error *e)
{
	struct stat st;
	off_t end;

	*image = (struct image){ .name = name, .fd = fd };
	if (fstat(fd, &st) < 0)
		return error_set_errno(e, -errno, "%s: cannot read it", name);
	if (S_ISDIR(st.st_mode))
		return error_set(e, -EISDIR, "%s: is a directory", name);
	if (S_ISREG(st.st_mode)) {
		image->size = (uint64_t)st.st_size;
		return 0;
	}
	if (S_ISBLK(st.st_mode)) {
		end = lseek(fd, 0, SEEK_END);
		if (end < 0)
			return error_set_errno(e, -errno, "%s: cannot learn its size", name);
		image->size = (uint64_t)end;
		return 0;
	}
	return read_whole(image, limit, e);
}

void image_close(struct image *image)
{
	free(image->data);
	image->data = NULL;
	image->size = 0;
}

int image_read(const struct image *image, uint64_t offset, void *buf, uint64_t len,
	       const char *what, struct error *e)
{
	uint8_t *to = buf;

	if (offset > image->size || len > image->size - offset)
		return image_error(image, -ENOEXEC, offset, e,
				   "%s (0x%" PRIx64
				   " bytes) ends past the end of the file (0x%" PRIx64
				   "); is it truncated?",
				   what, len, image->size);
	if (image->data) {
		memcpy(to, image->data + offset, len);
		return 0;
	}
	while (len > 0) {
		ssize_t n =
			pread(image->fd, to, len < READ_CHUNK ? len : READ_CHUNK, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return read_error(image, -errno, offset, what, e);
		if (n == 0)
			return image_error(image, -ENOEXEC, offset, e,
					   "the file shrank while %s was read", what);
		to += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

bool image_is_gzip(const struct image *image)
{
	uint8_t magic[3];
	struct error ignored;

	/* ID1, ID2, CM = deflate */
	return image->size >= sizeof(magic) &&
	       image_read(image, 0, magic, sizeof(magic), "magic", &ignored) == 0 &&
	       magic[0] == 0x1f && magic[1] == 0x8b && magic[2] == Z_DEFLATED;
}

/* Refills z's input from the file; 0 bytes left is not an error here. */
static int refill(const struct image *image, z_stream *z, uint8_t *in, uint64_t *offset,
		  struct error *e)
{
	uint64_t left = image->size - *offset;
	uint32_t n = left < INPUT_CHUNK ? (uint32_t)left : INPUT_CHUNK;
	int err = image_read(image, *offset, in, n, "the gzip stream", e);

	if (err)
		return err;
	*offset += n;
	z->next_in = in;
	z->avail_in = n;
	return 0;
}

static int inflate_all(const struct image *image, z_stream *z, uint8_t *in, struct buffer *b,
		       uint64_t limit, struct error *e)
{
	uint64_t offset = 0;
	int ret = Z_OK;

	while (ret != Z_STREAM_END) {
		uint64_t room;
		int err;

		if (z->avail_in == 0 && offset < image->size) {
			err = refill(image, z, in, &offset, e);
			if (err)
				return err;
		}
		err = buffer_grow(b);
		if (err || b->size > limit)
			return too_large(image, err ? err : -ENOSPC, limit, "inflates to", e);
		room = b->capacity - b->size;
		z->next_out = b->data + b->size;
		z->avail_out = room < READ_CHUNK ? (uInt)room : READ_CHUNK;
		ret = inflate(z, Z_NO_FLUSH);
		b->size = (uint64_t)(z->next_out - b->data);
		switch (ret) {
		case Z_OK:
		case Z_STREAM_END:
			break;
		case Z_BUF_ERROR: /* no progress: there is room, so input is what lacks */
			return image_error(image, -ENOEXEC, image->size, e,
					   "the gzip stream ends early; is the file truncated?");
		case Z_MEM_ERROR:
			return image_error(image, -ENOMEM, 0, e, "no memory to inflate it");
		default:
			return image_error(image, -ENOEXEC, offset - z->avail_in, e,
					   "the gzip stream is damaged: %s",
					   z->msg ? z->msg : "bad data");
		}
	}
	if (b->size > limit)
		return too_large(image, -ENOSPC, limit, "inflates to", e);
	if (z->avail_in || offset < image->size)
		return image_error(image, -ENOEXEC, offset - z->avail_in, e,
				   "something follows the end of the gzip stream");
	return 0;
}

int image_gunzip(struct image *image, uint64_t limit, struct error *e)
{
	struct buffer b = { .limit = limit + 1 };
	z_stream z = { 0 };
	uint8_t *in;
	int err;

	in = malloc(INPUT_CHUNK);
	/* 15: the largest window; 16: a gzip header, not a zlib one. */
	if (!in || inflateInit2(&z, 15 + 16) != Z_OK) {
		free(in);
		return image_error(image, -ENOMEM, 0, e, "no memory to inflate it");
	}
	err = inflate_all(image, &z, in, &b, limit, e);
	inflateEnd(&z);
	free(in);
	if (err) {
		free(b.data);
		return err;
	}
	free(image->data);
	image->data = b.data;
	image->size = b.size;
	image->inflated = true;
	return 0;
}
