/*
 * Allocating clusters of a qcow2 file, and letting them go. What is let go may still be referred to
 * by tables on disk; it stays counted until those have been written and synced, or a power failure
 * in between could show a guest cluster the bytes of another one.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/backend/qcow2_impl.h"

/* Counts that one allocation looks at: bounds its time on an image that is full or damaged. */
#define SEARCH_BUDGET (1u << 20)

bool qcow2_is_fixed(const struct qcow2 *q, uint64_t offset, uint64_t len)
{
	for (unsigned i = 0; i < FIXED_COUNT; i++) {
		const struct qcow2_fixed *f = &q->fixed[i];

		if (offset < f->offset + f->len && f->offset < offset + len)
			return true;
	}
	return false;
}

/* ---- allocating ------------------------------------------------------------------------------ */

/* A free cluster from `from` on, which gets a refcount block if it has none. */
static int find_in(struct qcow2 *q, uint64_t from, uint64_t to, uint64_t *found)
{
	uint64_t budget = SEARCH_BUDGET;

	for (;;) {
		bool block = false;
		int err = qcow2_refcount_find_free(q, from, to, &budget, found, &block);

		if (err)
			return err;
		if (*found >= to || budget == 0)
			return -ENOENT;
		if (block)
			return 0;
		err = qcow2_refcount_add_block(q, *found);
		if (err)
			return err;
		from = *found; /* taken now, but what is behind it is not */
		budget--;
	}
}

static int find(struct qcow2 *q, uint64_t *found)
{
	int err = -ENOENT;

	while (err == -ENOENT && q->search < q->end) {
		err = find_in(q, q->search, q->end, found);
		if (err && err != -ENOENT)
			return err;
		q->search = *found;
		if (q->end < q->limit)
			break; /* if the budget is used up, we go on from here another time */
	}
	if (err == -ENOENT)
		err = find_in(q, q->end, q->limit, found);
	if (err == -ENOENT)
		return q->end >= q->limit ? -ENOSPC
					  : qcow2_damaged(q, "refcounts behind the end", q->end);
	return err;
}

static int take(struct qcow2 *q, uint64_t first, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		int err = qcow2_refcount_set(q, first + i, 1);

		if (err) {
			while (i--)
				(void)qcow2_refcount_set(q, first + i, 0);
			return err;
		}
	}
	return 0;
}

static int alloc(struct qcow2 *q, uint64_t want, struct qcow2_clusters *out)
{
	int err = find(q, &out->first);

	if (err)
		return err;
	err = qcow2_refcount_free_run(q, out->first, qcow2_min(want, q->limit - out->first),
				      &out->count);
	if (err)
		return err;
	if (out->count == 0 || qcow2_is_fixed(q, out->first << q->bits, out->count << q->bits))
		return qcow2_damaged(q, "refcount of cluster", out->first);
	err = take(q, out->first, out->count);
	if (err)
		return err;
	out->fresh = out->first >= q->fresh && !q->file.is_device;
	if (q->fresh < out->first + out->count)
		q->fresh = out->first + out->count;
	if (q->search == out->first)
		q->search += out->count;
	if (q->end < out->first + out->count)
		q->end = out->first + out->count;
	return 0;
}

int qcow2_alloc(struct qcow2 *q, uint64_t want, struct qcow2_clusters *out)
{
	int err = alloc(q, want, out);

	/* A device that is full: what was let go may be what we need. */
	if (err == -ENOSPC && q->nunused && qcow2_settle(q) == 0)
		err = alloc(q, want, out);
	return err;
}

void qcow2_unalloc(struct qcow2 *q, uint64_t first, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		if (qcow2_refcount_set(q, first + i, 0))
			return; /* lost until a repair, but harmless */
	if (q->search > first)
		q->search = first;
}

/* ---- letting go ------------------------------------------------------------------------------ */

void qcow2_let_go(struct qcow2 *q, uint64_t first, uint64_t count)
{
	if (q->nunused > 0) {
		struct qcow2_unused *last = &q->unused[q->nunused - 1];

		if (last->first + last->count == first) {
			last->count += count;
			return;
		}
	}
	if (q->nunused == QCOW2_MAX_UNUSED && qcow2_settle(q))
		return; /* the disk fails: these clusters are lost until a repair */
	q->unused[q->nunused++] = (struct qcow2_unused){ first, count };
}

void qcow2_compressed_place(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *len)
{
	unsigned x = 62 - (q->bits - 8);
	uint64_t sectors = (entry & ~(QCOW2_COMPRESSED | QCOW2_COPIED)) >> x;

	*offset = entry & ((1ull << x) - 1);
	*len = (sectors + 1) * 512 - (*offset & 511);
}

void qcow2_let_go_entry(struct qcow2 *q, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK, len;

	if (entry & QCOW2_COMPRESSED) {
		qcow2_compressed_place(q, entry, &offset, &len);
		qcow2_let_go(q, offset >> q->bits,
			     ((offset + len - 1) >> q->bits) - (offset >> q->bits) + 1);
	} else if (offset) {
		qcow2_let_go(q, offset >> q->bits, 1);
	}
}

/* Takes one reference off; *freed tells whether it was the last one. */
static int release(struct qcow2 *q, uint64_t cluster, bool *freed)
{
	uint64_t count;
	int err = qcow2_refcount_get(q, cluster, &count);

	*freed = false;
	if (err)
		return err;
	if (count == 0 || qcow2_is_fixed(q, cluster << q->bits, q->cluster))
		return qcow2_damaged(q, "refcount of cluster", cluster);
	*freed = count == 1;
	if (*freed) {
		qcow2_cache_forget(&q->l2_cache, cluster << q->bits);
		qcow2_cache_forget(&q->block_cache, cluster << q->bits);
	}
	return qcow2_refcount_set(q, cluster, count - 1);
}

static void release_run(struct qcow2 *q, uint64_t first, uint64_t count)
{
	uint64_t run = 0; /* freed clusters right before the current one */

	for (uint64_t c = first; c <= first + count; c++) {
		bool freed = false;

		if (c < first + count && release(q, c, &freed))
			freed = false;
		if (freed) {
			run++;
			continue;
		}
		if (run) {
			if (q->search > c - run)
				q->search = c - run;
			/* The host gets the space back; it does not matter if it cannot. */
			(void)block_file_punch(&q->file, (c - run) << q->bits, run << q->bits);
		}
		run = 0;
	}
}

int qcow2_free_unused(struct qcow2 *q)
{
	qcow2_disk_begin(q);
	for (unsigned i = 0; i < q->nunused; i++)
		release_run(q, q->unused[i].first, q->unused[i].count);
	qcow2_disk_end(q);
	q->nunused = 0;
	return 0;
}
