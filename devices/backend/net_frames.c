/*
 * A ring of bytes in which every frame lies in one piece, its length in front. Where a frame does
 * not fit before the end of the ring it goes to the start, and the end is skipped. See
 * net_frames.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/net_frames.h"

#define SKIP UINT32_MAX /* as a length: go on at the start */

static size_t record(size_t len)
{
	return (sizeof(uint32_t) + len + 3) & ~(size_t)3;
}

int net_frames_init(struct net_frames *f, size_t size)
{
	*f = (struct net_frames){ .size = size & ~(size_t)3 };
	f->buf = malloc(f->size);
	return f->buf ? 0 : -ENOMEM;
}

void net_frames_destroy(struct net_frames *f)
{
	free(f->buf);
	*f = (struct net_frames){ 0 };
}

static void put_length(struct net_frames *f, size_t at, uint32_t len)
{
	memcpy(f->buf + at, &len, sizeof(len));
}

static uint32_t get_length(const struct net_frames *f, size_t at)
{
	uint32_t len;

	memcpy(&len, f->buf + at, sizeof(len));
	return len;
}

bool net_frames_put(struct net_frames *f, const void *frame, size_t len)
{
	size_t need, skipped;

	if (len >= f->size)
		return false;
	if (f->count == 0)
		f->head = f->tail = f->used = 0; /* all of it in one piece */
	need = record(len);
	skipped = f->tail + need > f->size ? f->size - f->tail : 0;
	if (need + skipped > f->size - f->used)
		return false;
	if (skipped) {
		put_length(f, f->tail, SKIP);
		f->used += skipped;
		f->tail = 0;
	}
	put_length(f, f->tail, (uint32_t)len);
	memcpy(f->buf + f->tail + sizeof(uint32_t), frame, len);
	f->used += need;
	f->tail = (f->tail + need) % f->size;
	f->count++;
	return true;
}

const uint8_t *net_frames_peek(const struct net_frames *f, size_t *len)
{
	size_t at = f->head;

	if (f->count == 0)
		return NULL;
	if (get_length(f, at) == SKIP)
		at = 0;
	*len = get_length(f, at);
	return f->buf + at + sizeof(uint32_t);
}

void net_frames_drop(struct net_frames *f)
{
	size_t need;

	if (f->count == 0)
		return;
	if (get_length(f, f->head) == SKIP) {
		f->used -= f->size - f->head;
		f->head = 0;
	}
	need = record(get_length(f, f->head));
	f->used -= need;
	f->head = (f->head + need) % f->size;
	f->count--;
}
