/*
 * Writing a qcow2 image's metadata back, in the order that keeps it consistent:
 *
 *   1. refcount blocks, and L2 tables that nothing on disk refers to
 *      sync
 *   2. refcount table
 *   3. (sync, also for the guest's data)
 *   4. L2 tables and L1 table
 *   5. sync
 *   6. clusters that were let go are taken off their counts
 *
 * So a count on disk is never less than the references on disk. With lazy refcounts 1 (counts) and
 * 2 wait until the image is closed; until then a dirty bit in the header says that the counts are
 * to be made anew after a crash.
 *
 * A sync that failed goes on failing (block_file.h), and each step after one waits for it: what was
 * written before it may be lost though it is clean here, so nothing is written that refers to it,
 * and the dirty bit stays.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/backend/qcow2_impl.h"

static int write_reftable(struct qcow2 *q)
{
	uint64_t from = q->reftable_dirty_from, n = q->reftable_dirty_to - from;
	uint8_t *bytes;
	int err;

	bytes = malloc(n * 8);
	if (!bytes)
		return -ENOMEM;
	for (uint64_t i = 0; i < n; i++)
		qcow2_put64(bytes, i, q->reftable[from + i]);
	err = block_file_write(&q->file, bytes, n * 8, q->header.reftable_offset + from * 8);
	free(bytes);
	if (!err)
		q->reftable_dirty_from = q->reftable_dirty_to = 0;
	return err;
}

static int write_l1(struct qcow2 *q)
{
	uint64_t from = q->l1_dirty_from, n = q->l1_dirty_to - from;
	uint8_t *bytes;
	int err;

	bytes = malloc(n * 8);
	if (!bytes)
		return -ENOMEM;
	for (uint64_t i = 0; i < n; i++)
		qcow2_put64(bytes, i, q->l1[from + i]);
	err = block_file_write(&q->file, bytes, n * 8, q->header.l1_offset + from * 8);
	free(bytes);
	if (err)
		return err;
	q->l1_dirty_from = q->l1_dirty_to = 0;
	for (struct qcow2_table *t = q->l2_cache.newest; t; t = t->older)
		t->unlinked = false;
	return 0;
}

static int write_counts(struct qcow2 *q)
{
	int err = qcow2_cache_write(q, &q->block_cache, false);

	if (err || q->reftable_dirty_from == q->reftable_dirty_to)
		return err;
	err = block_file_sync(&q->file);
	return err ? err : write_reftable(q);
}

static bool mapping_is_dirty(const struct qcow2 *q)
{
	return q->l2_cache.ndirty || q->l1_dirty_from != q->l1_dirty_to;
}

static int write_mapping(struct qcow2 *q)
{
	int err;

	if (!mapping_is_dirty(q))
		return 0;
	err = qcow2_cache_write(q, &q->l2_cache, true);
	if (!err)
		err = block_file_sync(&q->file);
	if (!err)
		err = qcow2_cache_write(q, &q->l2_cache, false);
	if (!err && q->l1_dirty_from != q->l1_dirty_to)
		err = write_l1(q);
	return err;
}

int qcow2_write_back(struct qcow2 *q)
{
	int err = 0;

	if (q->read_only)
		return 0;
	qcow2_disk_begin(q);
	if (!q->lazy)
		err = write_counts(q);
	if (!err)
		err = write_mapping(q);
	qcow2_disk_end(q);
	return err;
}

int qcow2_settle(struct qcow2 *q)
{
	int err = qcow2_write_back(q);

	if (!err) {
		qcow2_disk_begin(q);
		err = block_file_sync(&q->file);
		qcow2_disk_end(q);
	}
	return err ? err : qcow2_free_unused(q);
}

int qcow2_flush(struct qcow2 *q)
{
	bool metadata;
	int err;

	if (q->read_only)
		return 0;
	pthread_mutex_lock(&q->flush_lock);
	pthread_mutex_lock(&q->lock);
	metadata = mapping_is_dirty(q) || q->nunused ||
		   (!q->lazy &&
		    (q->block_cache.ndirty || q->reftable_dirty_from != q->reftable_dirty_to));
	err = metadata ? qcow2_settle(q) : 0;
	pthread_mutex_unlock(&q->lock);
	pthread_mutex_unlock(&q->flush_lock);
	return err || metadata ? err : block_file_sync(&q->file);
}

/* ---- flags in the header --------------------------------------------------------------------- */

static int write_flags(struct qcow2 *q, uint64_t incompatible)
{
	uint64_t value = htobe64(incompatible), none = 0;
	int err;

	qcow2_disk_begin(q);
	err = block_file_write(&q->file, &value, sizeof(value), QCOW2_AT_INCOMPAT);
	if (!err && q->header.autoclear)
		err = block_file_write(&q->file, &none, sizeof(none), QCOW2_AT_AUTOCLEAR);
	if (!err)
		err = block_file_sync(&q->file);
	qcow2_disk_end(q);
	if (!err) {
		q->header.incompatible = incompatible;
		q->header.autoclear = 0;
		q->dirty = incompatible & QCOW2_INCOMPAT_DIRTY;
	}
	return err;
}

/*
 * Auto-clear features are about data that only those keep up to date who know them, and we know
 * none: they go before the first byte is changed.
 */
int qcow2_prepare(struct qcow2 *q)
{
	uint64_t want = q->header.incompatible;
	int err = 0;

	if (q->prepared)
		return 0;
	if (q->lazy)
		want |= QCOW2_INCOMPAT_DIRTY;
	if (want != q->header.incompatible || q->header.autoclear)
		err = write_flags(q, want);
	if (!err)
		__atomic_store_n(&q->prepared, true, __ATOMIC_RELEASE);
	return err;
}

int qcow2_finish(struct qcow2 *q)
{
	int err;

	if (q->read_only)
		return 0;
	err = qcow2_settle(q);
	q->lazy = false;
	if (!err)
		err = qcow2_settle(q); /* and the counts that changed just now */
	if (!err && q->dirty)
		err = write_flags(q, q->header.incompatible & ~QCOW2_INCOMPAT_DIRTY);
	return err;
}
