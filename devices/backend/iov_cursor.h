/*
 * A place in an array of iovecs that moves forward as bytes are consumed. Formats cut a request
 * into pieces (by cluster) and each piece takes its bytes from the front, without changing the
 * caller's array.
 */
#ifndef DEVICES_BACKEND_IOV_CURSOR_H
#define DEVICES_BACKEND_IOV_CURSOR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct iov_cursor {
	const struct iovec *iov;
	int left;    /* iovecs, including the current one */
	size_t skip; /* bytes of the current one that are consumed */
};

struct iov_cursor iov_cursor_at(const struct iovec *iov, int niov);

/*
 * Consumes up to len bytes into at most max iovecs of out; *n says how many. Returns the bytes,
 * less than len if out was too small or the end was reached.
 */
size_t iov_cursor_take(struct iov_cursor *c, size_t len, struct iovec *out, int max, int *n);

/* These consume up to len bytes and return how many. */
size_t iov_cursor_fill(struct iov_cursor *c, const void *from, size_t len);
size_t iov_cursor_copy(struct iov_cursor *c, void *to, size_t len);
size_t iov_cursor_zero(struct iov_cursor *c, size_t len);
size_t iov_cursor_skip(struct iov_cursor *c, size_t len);

#endif
