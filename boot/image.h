/*
 * A file given by the user, read with bounds. It may be hostile, truncated, shrink while it is read
 * (so it is never mapped) or be a pipe (then it is read whole, up to a limit, once). Every error
 * names the file, the offset and the reason.
 */
#ifndef BOOT_IMAGE_H
#define BOOT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"

struct image {
	const char *name; /* for messages; the caller's */
	int fd;		  /* the caller's; image_close() leaves it open */
	uint64_t size;	  /* bytes image_read() can give */
	uint8_t *data;	  /* the whole content if it came from a pipe or was inflated, else NULL */
	bool inflated;	  /* offsets in messages are then not those of the file itself */
};

/*
 * Starts reading at offset 0 of a regular file or block device. Anything else is read to its end
 * now; more than limit bytes is -ENOMEM. Also -EISDIR, -errno of read(2).
 */
int image_open(struct image *image, const char *name, int fd, uint64_t limit, struct error *e);
void image_close(struct image *image);

/* Is it a gzip file (RFC 1952)? */
bool image_is_gzip(const struct image *image);
/*
 * Inflates a gzip file in place: from here on, offsets are of the inflated content. -ENOEXEC if the
 * stream is damaged or ends early, -ENOMEM if it holds more than limit bytes.
 */
int image_gunzip(struct image *image, uint64_t limit, struct error *e);

/*
 * Reads exactly len bytes, which the message calls what. -ENOEXEC if they are not all there,
 * -errno of pread(2).
 */
int image_read(const struct image *image, uint64_t offset, void *buf, uint64_t len,
	       const char *what, struct error *e);

/* "NAME: offset 0x…: …", or "NAME (inflated): offset 0x…: …"; returns err. */
int image_error(const struct image *image, int err, uint64_t offset, struct error *e,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#endif
