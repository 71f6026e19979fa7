/*
 * Reading qcow2 images: run by run, from where each one's bytes are. And finding out that a range
 * needs none of this, so that an engine can read or write the file itself.
 */
#include <errno.h>

#include "devices/backend/qcow2_impl.h"

/* Bytes in one piece of the file. */
static int read_data(struct qcow2 *q, uint64_t host, size_t len, struct iov_cursor *to)
{
	struct iovec iov[QCOW2_IOV];
	int err = 0, n;

	while (len && !err) {
		size_t piece = iov_cursor_take(to, len, iov, QCOW2_IOV, &n);

		if (piece == 0)
			return -EINVAL;
		err = block_file_readv(&q->file, iov, n, host, 0);
		host += piece;
		len -= piece;
	}
	return err;
}

int qcow2_read_run(struct qcow2 *q, const struct qcow2_run *run, uint64_t cluster, uint64_t offset,
		   size_t len, struct iov_cursor *to)
{
	uint64_t in_run = offset - (cluster << q->bits);

	switch (run->kind) {
	case QCOW2_K_NONE:
		return qcow2_read_backing(q, offset, len, to);
	case QCOW2_K_ZERO:
		iov_cursor_zero(to, len);
		return 0;
	case QCOW2_K_DATA:
		return read_data(q, run->host + in_run, len, to);
	case QCOW2_K_COMPRESSED:
		return qcow2_read_compressed(q, run->entry, in_run, len, to);
	}
	return -EIO;
}

int qcow2_read_cursor(struct qcow2 *q, uint64_t offset, uint64_t end, struct iov_cursor *to)
{
	while (offset < end) {
		uint64_t cluster = offset >> q->bits;
		struct qcow2_run run;
		uint64_t stop;
		int err;

		pthread_mutex_lock(&q->lock);
		err = qcow2_lookup(q, cluster, ((end - 1) >> q->bits) - cluster + 1, &run);
		pthread_mutex_unlock(&q->lock);
		if (err)
			return err;
		stop = qcow2_min(end, (cluster + run.count) << q->bits);
		err = qcow2_read_run(q, &run, cluster, offset, stop - offset, to);
		if (err)
			return err;
		offset = stop;
	}
	return 0;
}

static uint64_t sum(const struct iovec *iov, int niov)
{
	uint64_t n = 0;

	for (int i = 0; i < niov; i++)
		n += iov[i].iov_len;
	return n;
}

int qcow2_read(struct qcow2 *q, uint64_t offset, const struct iovec *iov, int niov)
{
	struct iov_cursor to = iov_cursor_at(iov, niov);
	uint64_t len = sum(iov, niov);
	struct block_extent x;
	int err;

	if (offset > q->header.size || len > q->header.size - offset)
		return -EINVAL;
	if (len == 0)
		return 0;
	qcow2_range_enter(q, &x, offset >> q->bits, (offset + len - 1) >> q->bits, false);
	err = qcow2_read_cursor(q, offset, offset + len, &to);
	qcow2_range_leave(q, &x);
	return err;
}

/* ---- extents --------------------------------------------------------------------------------- */

/* `lock` held. */
static bool map_locked(struct qcow2 *q, bool write, uint64_t first, uint64_t last,
		       struct block_extent *x)
{
	uint64_t at = first, host = 0;

	while (at <= last) {
		struct qcow2_run run;

		if (!qcow2_lookup_cached(q, at, last - at + 1, &run) || run.kind != QCOW2_K_DATA ||
		    (write && !run.own))
			return false;
		if (at == first)
			host = run.host;
		else if (run.host != host + ((at - first) << q->bits))
			return false;
		at += run.count;
	}
	x->offset = host;
	return qcow2_range_try_shared(q, x, first, last);
}

bool qcow2_map(struct qcow2 *q, bool write, uint64_t offset, uint64_t length,
	       struct block_extent *x)
{
	bool ok;

	if (length == 0 || offset > q->header.size || length > q->header.size - offset ||
	    (write && (q->read_only || !__atomic_load_n(&q->prepared, __ATOMIC_ACQUIRE))))
		return false;
	if (__atomic_load_n(&q->waiting_for_disk, __ATOMIC_RELAXED))
		return false;
	pthread_mutex_lock(&q->lock);
	ok = map_locked(q, write, offset >> q->bits, (offset + length - 1) >> q->bits, x);
	pthread_mutex_unlock(&q->lock);
	if (ok)
		x->offset += offset & (q->cluster - 1);
	return ok;
}

void qcow2_unmap(struct qcow2 *q, struct block_extent *x)
{
	qcow2_range_leave(q, x);
}
