/* See test_block_stub.h. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test_block_stub.h"

static struct stub_block *stub_of(struct block *b)
{
	return (struct stub_block *)b;
}

static int enter(struct stub_block *s, unsigned flags, unsigned *counter)
{
	int result;

	pthread_mutex_lock(&s->lock);
	s->calls++;
	s->last = pthread_self();
	if (counter)
		++*counter;
	if (flags & BLOCK_NOWAIT) {
		s->nowaits++;
		result = s->no_nowait ? -EOPNOTSUPP : s->cached ? s->fail : -EAGAIN;
		pthread_mutex_unlock(&s->lock);
		return result;
	}
	s->waiting++;
	if (s->waiting > s->most_waiting)
		s->most_waiting = s->waiting;
	pthread_cond_broadcast(&s->changed);
	while (s->closed)
		pthread_cond_wait(&s->changed, &s->lock);
	s->waiting--;
	result = s->fail;
	pthread_mutex_unlock(&s->lock);
	return result;
}

static int stub_read(struct block *b, const struct block_request *r, unsigned flags)
{
	struct stub_block *s = stub_of(b);
	uint64_t at = r->offset;
	int err = enter(s, flags, NULL);

	for (int i = 0; !err && i < r->niov; at += r->iov[i++].iov_len)
		memcpy(r->iov[i].iov_base, s->data + at, r->iov[i].iov_len);
	return err;
}

static int stub_write(struct block *b, const struct block_request *r, unsigned flags)
{
	struct stub_block *s = stub_of(b);
	uint64_t at = r->offset;
	int err = enter(s, flags, r->stable ? &s->stable_writes : NULL);

	for (int i = 0; !err && i < r->niov; at += r->iov[i++].iov_len)
		memcpy(s->data + at, r->iov[i].iov_base, r->iov[i].iov_len);
	return err;
}

static int stub_flush(struct block *b)
{
	return enter(stub_of(b), 0, &stub_of(b)->flushes);
}

static int stub_discard(struct block *b, const struct block_request *r)
{
	(void)r;
	return enter(stub_of(b), 0, &stub_of(b)->discards);
}

static int stub_zero(struct block *b, const struct block_request *r)
{
	struct stub_block *s = stub_of(b);
	int err = enter(s, 0, &s->zeroes);

	if (!err)
		memset(s->data + r->offset, 0, r->length);
	return err;
}

static void stub_close(struct block *b)
{
	struct stub_block *s = stub_of(b);

	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	free(s->data);
	free(s);
}

static const struct block_format_ops stub_ops = {
	.read = stub_read,
	.write = stub_write,
	.flush = stub_flush,
	.discard = stub_discard,
	.write_zeroes = stub_zero,
	.close = stub_close,
};

struct stub_block *stub_block_create(uint64_t size)
{
	struct stub_block *s = calloc(1, sizeof(*s));

	s->block.ops = &stub_ops;
	s->block.info = (struct block_info){
		.size = size,
		.logical_block = 512,
		.physical_block = 4096,
		.can_discard = true,
		.can_write_zeroes = true,
	};
	s->data = calloc(1, size);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	return s;
}

void stub_gate(struct stub_block *s, bool closed)
{
	pthread_mutex_lock(&s->lock);
	s->closed = closed;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

unsigned stub_waiting(struct stub_block *s)
{
	unsigned n;

	pthread_mutex_lock(&s->lock);
	n = s->waiting;
	pthread_mutex_unlock(&s->lock);
	return n;
}
