/*
 * DISCARD and WRITE_ZEROES on qcow2 images: whole clusters change in the tables only, what is left
 * at the edges is written. Version 3 has a flag for clusters of zeroes; in version 2 a cluster
 * reads as zeroes only if it is not allocated and nothing is under it.
 */
#include <errno.h>

#include "devices/backend/qcow2_impl.h"

#define CHUNK (64u << 10)

enum zero_mode {
	MODE_DISCARD, /* give back space; may leave bytes as they are */
	MODE_UNMAP,   /* must be zeroes, give back space */
	MODE_KEEP,    /* must be zeroes, stay allocated */
};

/* ---- whole clusters -------------------------------------------------------------------------- */

/* The entry that replaces another one; false if it stays. -1 in *err if zeroes must be written. */
static bool replacement(const struct qcow2 *q, const struct qcow2_run *run, uint64_t cluster,
			uint64_t i, enum zero_mode mode, uint64_t *entry, bool *by_hand)
{
	bool under = !qcow2_nothing_under(q, (cluster + i) << q->bits);
	bool flag = q->header.version >= 3;

	*by_hand = false;
	*entry = under ? QCOW2_ZERO : 0;
	switch (run->kind) {
	case QCOW2_K_NONE:
		if (!under || mode == MODE_DISCARD)
			return false;
		break;
	case QCOW2_K_ZERO:
		return mode != MODE_KEEP && run->host;
	case QCOW2_K_DATA:
		if (mode == MODE_KEEP && run->own && flag)
			*entry = (run->host + (i << q->bits)) | QCOW2_COPIED | QCOW2_ZERO;
		else if (mode == MODE_KEEP && !flag)
			*by_hand = true;
		break;
	case QCOW2_K_COMPRESSED:
		break;
	}
	if (*entry && !flag)
		*by_hand = true;
	return true;
}

/* `lock` held; the run fits one L2 table. *by_hand: stopped at *done, which must be written. */
static int change_run(struct qcow2 *q, const struct qcow2_run *run, uint64_t cluster,
		      enum zero_mode mode, uint64_t *done, bool *by_hand)
{
	for (*done = 0, *by_hand = false; *done < run->count; ++*done) {
		uint64_t entry, old, index = qcow2_l2_index(q, cluster + *done);
		struct qcow2_table *t;
		int err;

		if (!replacement(q, run, cluster, *done, mode, &entry, by_hand))
			continue;
		if (*by_hand)
			return 0;
		err = qcow2_prepare(q);
		if (!err)
			err = qcow2_l2_writable(q, cluster + *done, &t);
		if (err)
			return err;
		old = qcow2_get64(t->bytes, index);
		qcow2_l2_set(q, t, index, entry);
		if (!(entry & QCOW2_COPIED))
			qcow2_let_go_entry(q, old);
	}
	return 0;
}

static int write_zero_bytes(struct qcow2 *q, uint64_t offset, uint64_t end);

/* Clusters first to last; nobody else has them when the table changes. */
static int change_clusters(struct qcow2 *q, uint64_t first, uint64_t last, enum zero_mode mode)
{
	int err = 0;

	while (first <= last && !err) {
		struct block_extent x;
		struct qcow2_run run;
		bool by_hand = false;
		uint64_t done = 0;

		qcow2_range_enter(q, &x, first, last, true);
		pthread_mutex_lock(&q->lock);
		err = qcow2_lookup(q, first, last - first + 1, &run);
		if (!err)
			err = change_run(q, &run, first, mode, &done, &by_hand);
		pthread_mutex_unlock(&q->lock);
		qcow2_range_leave(q, &x);
		first += done;
		if (!err && by_hand) {
			if (mode != MODE_DISCARD)
				err = write_zero_bytes(
					q, first << q->bits,
					qcow2_min((first + 1) << q->bits, q->header.size));
			first++;
		}
	}
	return err;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* Whether the cluster reads as zeroes already. */
static int is_zero(struct qcow2 *q, uint64_t cluster, bool *zero)
{
	struct qcow2_run run;
	int err;

	pthread_mutex_lock(&q->lock);
	err = qcow2_lookup(q, cluster, 1, &run);
	pthread_mutex_unlock(&q->lock);
	*zero = !err && (run.kind == QCOW2_K_ZERO ||
			 (run.kind == QCOW2_K_NONE && qcow2_nothing_under(q, cluster << q->bits)));
	return err;
}

/* Within one cluster. */
static int write_zero_bytes(struct qcow2 *q, uint64_t offset, uint64_t end)
{
	static const uint8_t zeroes[CHUNK] __attribute__((aligned(4096)));
	bool zero;
	int err = is_zero(q, offset >> q->bits, &zero);

	if (zero)
		return err;
	while (offset < end && !err) {
		struct iovec iov = { .iov_base = (void *)(uintptr_t)zeroes,
				     .iov_len = qcow2_min(CHUNK, end - offset) };
		struct iov_cursor from = iov_cursor_at(&iov, 1);

		err = qcow2_write_cursor(q, offset, iov.iov_len, &from);
		offset += iov.iov_len;
	}
	return err;
}

static int check(const struct qcow2 *q, uint64_t offset, uint64_t length)
{
	if (q->read_only)
		return -EROFS;
	return offset > q->header.size || length > q->header.size - offset ? -EINVAL : 0;
}

/* First and last whole cluster; false if there is none. The disk's last may be cut short. */
static bool whole_clusters(const struct qcow2 *q, uint64_t offset, uint64_t end, uint64_t *first,
			   uint64_t *behind)
{
	*first = (offset + q->cluster - 1) >> q->bits;
	*behind = (end == q->header.size ? end + q->cluster - 1 : end) >> q->bits;
	return *first < *behind;
}

int qcow2_discard(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	uint64_t first, behind;
	int err = check(q, offset, length);

	if (err || !whole_clusters(q, offset, offset + length, &first, &behind))
		return err;
	return change_clusters(q, first, behind - 1, MODE_DISCARD);
}

int qcow2_write_zeroes(struct qcow2 *q, uint64_t offset, uint64_t length, bool unmap)
{
	uint64_t first, behind, end = offset + length;
	int err = check(q, offset, length);

	if (err || length == 0)
		return err;
	if (!whole_clusters(q, offset, end, &first, &behind)) {
		uint64_t edge = qcow2_min(end, first << q->bits);

		if (offset < edge)
			err = write_zero_bytes(q, offset, edge);
		return err || edge == end ? err : write_zero_bytes(q, edge, end);
	}
	if (offset < first << q->bits)
		err = write_zero_bytes(q, offset, first << q->bits);
	if (!err)
		err = change_clusters(q, first, behind - 1, unmap ? MODE_UNMAP : MODE_KEEP);
	if (!err && behind << q->bits < end)
		err = write_zero_bytes(q, behind << q->bits, end);
	return err;
}
