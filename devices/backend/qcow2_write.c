/*
 * Writing qcow2 images. Clusters that are our own are written in place. For others new ones are
 * allocated, filled (what the request leaves of them comes from where it was: copy on write), and
 * only then referred to: whoever looks sees the old bytes or the new ones.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/backend/qcow2_impl.h"

/* ---- filling clusters ------------------------------------------------------------------------ */

static int write_data(struct qcow2 *q, uint64_t host, uint64_t len, struct iov_cursor *from)
{
	struct iovec iov[QCOW2_IOV];
	int err = 0, n;

	while (len && !err) {
		size_t piece = iov_cursor_take(from, len, iov, QCOW2_IOV, &n);

		if (piece == 0)
			return -EINVAL;
		err = block_file_writev(&q->file, iov, n, host, 0);
		host += piece;
		len -= piece;
	}
	return err;
}

/* Clusters that are being filled for part of a request. */
struct fill {
	struct qcow2_run old;  /* what they are instead of */
	uint64_t cluster;      /* guest's, the first */
	uint64_t host;	       /* where the new ones are */
	bool fresh;	       /* they read as zeroes */
	uint64_t offset, stop; /* the guest's bytes that are written */
	uint64_t edge;	       /* behind the last new cluster, in guest bytes */
};

/* Whether old bytes at an offset are zeroes, and the new cluster has zeroes there already. */
static bool skip(const struct qcow2 *q, const struct fill *f, uint64_t offset)
{
	return f->fresh && (f->old.kind == QCOW2_K_ZERO ||
			    (f->old.kind == QCOW2_K_NONE && qcow2_nothing_under(q, offset)));
}

/* The old bytes of [from, to), in memory; *buffer is NULL if there is nothing to write. */
static int old_bytes(struct qcow2 *q, const struct fill *f, uint64_t from, uint64_t to,
		     void **buffer)
{
	struct qcow2_run run = f->old;
	uint64_t cluster = f->cluster;
	struct iov_cursor c;
	struct iovec iov;
	int err;

	*buffer = NULL;
	if (from == to || skip(q, f, from))
		return 0;
	if (posix_memalign(buffer, 4096, to - from))
		return -ENOMEM;
	iov = (struct iovec){ .iov_base = *buffer, .iov_len = to - from };
	c = iov_cursor_at(&iov, 1);
	err = qcow2_read_run(q, &run, cluster, from, to - from, &c);
	if (err) {
		free(*buffer);
		*buffer = NULL;
	}
	return err;
}

static uint64_t host_of(const struct qcow2 *q, const struct fill *f, uint64_t offset)
{
	return f->host + (offset - (f->cluster << q->bits));
}

/* Head, data and tail in one call if they are few pieces. */
static int write_filled(struct qcow2 *q, const struct fill *f, void *head, void *tail,
			struct iov_cursor *from)
{
	uint64_t begin = f->cluster << q->bits, len = f->stop - f->offset;
	struct iov_cursor before = *from;
	struct iovec iov[QCOW2_IOV + 2];
	uint64_t at = head ? begin : f->offset;
	int n = 0, ndata, err;

	if (head)
		iov[n++] = (struct iovec){ .iov_base = head, .iov_len = f->offset - begin };
	if (iov_cursor_take(from, len, iov + n, QCOW2_IOV, &ndata) == len) {
		n += ndata;
		if (tail)
			iov[n++] = (struct iovec){ tail, f->edge - f->stop };
		return block_file_writev(&q->file, iov, n, host_of(q, f, at), 0);
	}
	*from = before;
	err = write_data(q, host_of(q, f, f->offset), len, from);
	if (!err && head)
		err = block_file_writev(&q->file, iov, 1, host_of(q, f, begin), 0);
	if (!err && tail) {
		iov[0] = (struct iovec){ .iov_base = tail, .iov_len = f->edge - f->stop };
		err = block_file_writev(&q->file, iov, 1, host_of(q, f, f->stop), 0);
	}
	return err;
}

static int fill(struct qcow2 *q, const struct fill *f, struct iov_cursor *from)
{
	void *head, *tail = NULL;
	int err = old_bytes(q, f, f->cluster << q->bits, f->offset, &head);

	if (!err)
		err = old_bytes(q, f, f->stop, f->edge, &tail);
	if (!err)
		err = write_filled(q, f, head, tail, from);
	free(head);
	free(tail);
	return err;
}

/* ---- referring to them ----------------------------------------------------------------------- */

/* `lock` held. *done says how many are referred to, also on failure. */
static int link_clusters(struct qcow2 *q, uint64_t cluster, uint64_t host, uint64_t count,
			 uint64_t *done)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t entry = (host + (i << q->bits)) | QCOW2_COPIED, index, old;
		struct qcow2_table *t;
		int err = qcow2_l2_writable(q, cluster + i, &t);

		*done = i;
		if (err)
			return err;
		index = qcow2_l2_index(q, cluster + i);
		old = qcow2_get64(t->bytes, index);
		qcow2_l2_set(q, t, index, entry);
		/* A preallocated cluster stays what it was. */
		if ((old & QCOW2_OFFSET_MASK) != (entry & QCOW2_OFFSET_MASK) ||
		    (old & QCOW2_COMPRESSED))
			qcow2_let_go_entry(q, old);
	}
	*done = count;
	return 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* New clusters for a run that cannot be written in place; `lock` held. */
static int allocate(struct qcow2 *q, uint64_t cluster, const struct qcow2_run *run, struct fill *f)
{
	struct qcow2_clusters new;
	struct qcow2_table *t;
	int err = qcow2_prepare(q);

	/* The table first, so that a full disk is noticed before anything is written. */
	if (!err)
		err = qcow2_l2_writable(q, cluster, &t);
	if (err)
		return err;
	*f = (struct fill){ .old = *run, .cluster = cluster };
	if (run->kind == QCOW2_K_ZERO && run->host && run->own) {
		f->host = run->host;
		return 0;
	}
	err = qcow2_alloc(q, run->count, &new);
	if (err)
		return err;
	f->host = new.first << q->bits;
	f->old.count = new.count;
	f->fresh = new.fresh;
	return 0;
}

/* *offset moves on over what has been written. */
static int write_new(struct qcow2 *q, uint64_t cluster, const struct qcow2_run *run,
		     uint64_t *offset, uint64_t end, struct iov_cursor *from)
{
	bool preallocated = run->kind == QCOW2_K_ZERO && run->host && run->own;
	uint64_t linked = 0;
	struct fill f;
	int err;

	pthread_mutex_lock(&q->lock);
	err = allocate(q, cluster, run, &f);
	pthread_mutex_unlock(&q->lock);
	if (err)
		return err;
	f.edge = (cluster + f.old.count) << q->bits;
	f.offset = *offset;
	f.stop = qcow2_min(end, f.edge);
	err = fill(q, &f, from);
	pthread_mutex_lock(&q->lock);
	if (!err)
		err = link_clusters(q, cluster, f.host, f.old.count, &linked);
	if (err && !preallocated)
		qcow2_unalloc(q, (f.host >> q->bits) + linked, f.old.count - linked);
	pthread_mutex_unlock(&q->lock);
	*offset = f.stop;
	return err;
}

/* The range is held. -EAGAIN: shared is not enough, and nothing has been done beyond *offset. */
static int write_range(struct qcow2 *q, bool exclusive, uint64_t *offset, uint64_t end,
		       struct iov_cursor *from)
{
	int err = 0;

	while (*offset < end && !err) {
		uint64_t cluster = *offset >> q->bits, stop;
		struct qcow2_run run;

		pthread_mutex_lock(&q->lock);
		err = qcow2_lookup(q, cluster, ((end - 1) >> q->bits) - cluster + 1, &run);
		if (!err)
			err = qcow2_prepare(q);
		pthread_mutex_unlock(&q->lock);
		if (err)
			break;
		if (run.kind != QCOW2_K_DATA || !run.own) {
			if (!exclusive)
				return -EAGAIN;
			err = write_new(q, cluster, &run, offset, end, from);
			continue;
		}
		stop = qcow2_min(end, (cluster + run.count) << q->bits);
		err = write_data(q, run.host + (*offset & (q->cluster - 1)), stop - *offset, from);
		*offset = stop;
	}
	return err;
}

int qcow2_write_cursor(struct qcow2 *q, uint64_t offset, uint64_t length, struct iov_cursor *from)
{
	uint64_t end = offset + length;
	struct block_extent x;
	int err;

	if (length == 0)
		return 0;
	qcow2_range_enter(q, &x, offset >> q->bits, (end - 1) >> q->bits, false);
	err = write_range(q, false, &offset, end, from);
	qcow2_range_leave(q, &x);
	if (err != -EAGAIN)
		return err;
	qcow2_range_enter(q, &x, offset >> q->bits, (end - 1) >> q->bits, true);
	err = write_range(q, true, &offset, end, from);
	qcow2_range_leave(q, &x);
	return err;
}

int qcow2_write(struct qcow2 *q, uint64_t offset, const struct iovec *iov, int niov)
{
	struct iov_cursor from = iov_cursor_at(iov, niov);
	uint64_t len = 0;

	for (int i = 0; i < niov; i++)
		len += iov[i].iov_len;
	if (q->read_only)
		return -EROFS;
	if (offset > q->header.size || len > q->header.size - offset)
		return -EINVAL;
	return qcow2_write_cursor(q, offset, len, &from);
}
