/*
 * Walking over iovecs: see iov_cursor.h.
 */
#include <string.h>

#include "devices/backend/iov_cursor.h"

struct iov_cursor iov_cursor_at(const struct iovec *iov, int niov)
{
	return (struct iov_cursor){ .iov = iov, .left = niov };
}

/* The next piece of memory, of at most len bytes; its length, 0 at the end. */
static size_t next(struct iov_cursor *c, size_t len, uint8_t **at)
{
	size_t n;

	while (c->left > 0 && c->skip == c->iov->iov_len) {
		c->iov++;
		c->left--;
		c->skip = 0;
	}
	if (c->left <= 0)
		return 0;
	n = c->iov->iov_len - c->skip;
	if (n > len)
		n = len;
	*at = (uint8_t *)c->iov->iov_base + c->skip;
	c->skip += n;
	return n;
}

size_t iov_cursor_take(struct iov_cursor *c, size_t len, struct iovec *out, int max, int *n)
{
	size_t total = 0, piece;
	uint8_t *at = NULL;

	*n = 0;
	while (total < len && *n < max && (piece = next(c, len - total, &at))) {
		out[(*n)++] = (struct iovec){ .iov_base = at, .iov_len = piece };
		total += piece;
	}
	return total;
}

size_t iov_cursor_fill(struct iov_cursor *c, const void *from, size_t len)
{
	size_t total = 0, piece;
	uint8_t *at = NULL;

	while (total < len && (piece = next(c, len - total, &at))) {
		memcpy(at, (const uint8_t *)from + total, piece);
		total += piece;
	}
	return total;
}

size_t iov_cursor_copy(struct iov_cursor *c, void *to, size_t len)
{
	size_t total = 0, piece;
	uint8_t *at = NULL;

	while (total < len && (piece = next(c, len - total, &at))) {
		memcpy((uint8_t *)to + total, at, piece);
		total += piece;
	}
	return total;
}

size_t iov_cursor_zero(struct iov_cursor *c, size_t len)
{
	size_t total = 0, piece;
	uint8_t *at = NULL;

	while (total < len && (piece = next(c, len - total, &at))) {
		memset(at, 0, piece);
		total += piece;
	}
	return total;
}

size_t iov_cursor_skip(struct iov_cursor *c, size_t len)
{
	size_t total = 0, piece;
	uint8_t *at = NULL;

	while (total < len && (piece = next(c, len - total, &at)))
		total += piece;
	return total;
}
