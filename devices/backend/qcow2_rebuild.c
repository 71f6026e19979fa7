/*
 * Counting the references to a qcow2 file's clusters anew: what the dirty bit of lazy refcounts
 * asks for before such an image is written again (QEMU's docs/interop/qcow2.txt, incompatible
 * feature bit 0). Everything that can refer to a cluster is walked: the header's tables, the active
 * mapping and that of each snapshot. A table that several snapshots share is read once and counts
 * for each, so the time is bounded by the file's size.
 *
 * This repairs counts that were not written, and nothing else: tables that lie in one another are
 * left to qemu-img check.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/backend/qcow2_impl.h"

#define MAX_CLUSTERS	(1ull << 26)
#define MAX_L1_ENTRIES	(64ull << 20) /* of all snapshots together */
#define MAX_TABLE_BYTES (8ull << 30)

struct census {
	struct qcow2 *q;
	uint64_t clusters;    /* of the file, when it was opened */
	uint32_t *references; /* to each */
	uint32_t *as_table;   /* of those, as an L2 table */
	struct qcow2_snapshot *snapshot;
	uint64_t snapshot_bytes;
	uint64_t l1_entries;
};

/* -EINVAL if they are outside of the file, or too often referred to. */
static int count(struct census *c, uint64_t first, uint64_t n, uint64_t times)
{
	if (first >= c->clusters || n > c->clusters - first)
		return -EINVAL;
	for (uint64_t i = first; i < first + n; i++) {
		if (times > UINT32_MAX - c->references[i])
			return -EINVAL;
		c->references[i] += (uint32_t)times;
	}
	return 0;
}

static int count_bytes(struct census *c, uint64_t offset, uint64_t len)
{
	const struct qcow2 *q = c->q;

	if (len == 0)
		return 0;
	if (offset > QCOW2_MAX_OFFSET || len > QCOW2_MAX_OFFSET)
		return -EINVAL;
	return count(c, offset >> q->bits,
		     ((offset + len - 1) >> q->bits) - (offset >> q->bits) + 1, 1);
}

/* ---- counting -------------------------------------------------------------------------------- */

static int count_l1(struct census *c, const uint64_t *l1, uint32_t entries)
{
	for (uint32_t i = 0; i < entries; i++) {
		uint64_t offset = l1[i] & QCOW2_OFFSET_MASK;

		if (offset == 0)
			continue;
		if (offset & (c->q->cluster - 1) || count(c, offset >> c->q->bits, 1, 1))
			return -EINVAL;
		c->as_table[offset >> c->q->bits]++;
	}
	return 0;
}

static int count_snapshot(struct census *c, const struct qcow2_snapshot *s)
{
	uint64_t bytes = 8ull * s->l1_size;
	uint64_t *l1;
	int err;

	c->l1_entries += s->l1_size;
	if (bytes > QCOW2_MAX_L1_BYTES || c->l1_entries > MAX_L1_ENTRIES ||
	    s->l1_offset & (c->q->cluster - 1))
		return -EINVAL;
	err = count_bytes(c, s->l1_offset, bytes);
	if (err || bytes == 0)
		return err;
	l1 = malloc(bytes);
	if (!l1)
		return -ENOMEM;
	err = block_file_read(&c->q->file, l1, bytes, s->l1_offset);
	for (uint32_t i = 0; i < s->l1_size && !err; i++)
		l1[i] = be64toh(l1[i]);
	if (!err)
		err = count_l1(c, l1, s->l1_size);
	free(l1);
	return err;
}

static int count_fixed(struct census *c)
{
	struct qcow2 *q = c->q;
	int err = 0;

	for (unsigned i = 0; i < FIXED_COUNT && !err; i++)
		err = count_bytes(c, q->fixed[i].offset, q->fixed[i].len);
	for (uint64_t i = 0; i < q->reftable_size && !err; i++) {
		uint64_t offset = q->reftable[i];

		if (offset)
			err = offset & (q->cluster - 1) ? -EINVAL
							: count(c, offset >> q->bits, 1, 1);
	}
	return err;
}

static int count_entry(struct census *c, uint64_t entry, uint64_t times)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK, len;

	if (entry & QCOW2_COMPRESSED) {
		qcow2_compressed_place(c->q, entry, &offset, &len);
		return count(c, offset >> c->q->bits,
			     ((offset + len - 1) >> c->q->bits) - (offset >> c->q->bits) + 1,
			     times);
	}
	if (offset == 0)
		return 0;
	return offset & (c->q->cluster - 1) ? -EINVAL : count(c, offset >> c->q->bits, 1, times);
}

static int count_l2_tables(struct census *c)
{
	struct qcow2 *q = c->q;
	uint64_t read = 0;
	uint8_t *bytes = malloc(q->cluster);
	int err = bytes ? 0 : -ENOMEM;

	for (uint64_t t = 0; t < c->clusters && !err; t++) {
		if (!c->as_table[t])
			continue;
		read += q->cluster;
		err = read > MAX_TABLE_BYTES
			      ? -EFBIG
			      : block_file_read(&q->file, bytes, q->cluster, t << q->bits);
		for (uint64_t i = 0; i < 1ull << q->l2_bits && !err; i++)
			err = count_entry(c, qcow2_get64(bytes, i), c->as_table[t]);
	}
	free(bytes);
	return err;
}

/* ---- checking -------------------------------------------------------------------------------- */

static int once(const struct census *c, uint64_t offset, uint64_t len)
{
	if (len == 0)
		return 0;
	for (uint64_t i = offset >> c->q->bits; i <= (offset + len - 1) >> c->q->bits; i++)
		if (c->references[i] != 1)
			return -EINVAL;
	return 0;
}

/* Nothing else may be where a table is. */
static int check_overlaps(const struct census *c)
{
	const struct qcow2 *q = c->q;
	int err = 0;

	for (unsigned i = 0; i < FIXED_COUNT && !err; i++)
		err = once(c, q->fixed[i].offset, q->fixed[i].len);
	for (uint64_t i = 0; i < q->reftable_size && !err; i++)
		if (q->reftable[i])
			err = once(c, q->reftable[i], q->cluster);
	for (uint64_t i = 0; i < c->clusters && !err; i++)
		if (c->as_table[i] && (c->references[i] != c->as_table[i]))
			err = -EINVAL;
	return err;
}

/* ---- setting --------------------------------------------------------------------------------- */

static int set_count(struct census *c, uint64_t cluster)
{
	uint64_t want = cluster < c->clusters ? c->references[cluster] : 0, have;
	int err = qcow2_refcount_get(c->q, cluster, &have);

	if (err || have == want)
		return err;
	return want > qcow2_refcount_max(c->q) ? -EINVAL : qcow2_refcount_set(c->q, cluster, want);
}

static bool block_is_needed(const struct census *c, uint64_t base)
{
	uint64_t end = qcow2_min(base + (1ull << c->q->block_bits), c->clusters);

	for (uint64_t i = base; i < end; i++)
		if (c->references[i])
			return true;
	return false;
}

static int add_block(struct census *c, uint64_t base)
{
	struct qcow2_clusters at;
	int err = qcow2_alloc(c->q, 1, &at);

	if (err)
		return err;
	if (qcow2_refblock_offset(c->q, base)) /* the allocation itself needed it */
		qcow2_unalloc(c->q, at.first, 1);
	else
		err = qcow2_refcount_put_block(c->q, base, at.first);
	return err;
}

static int set_counts(struct census *c)
{
	struct qcow2 *q = c->q;
	uint64_t per_block = 1ull << q->block_bits;
	uint64_t blocks = q->reftable_size;
	int err = 0;

	for (uint64_t b = 0; b < blocks && !err; b++)
		for (uint64_t i = 0; q->reftable[b] && i < per_block && !err; i++)
			err = set_count(c, b * per_block + i);
	/* Those without a block; allocations only look behind what was counted. */
	q->search = q->end;
	for (uint64_t base = 0; base < c->clusters && !err; base += per_block) {
		bool missing = !qcow2_refblock_offset(q, base);

		if (!missing || !block_is_needed(c, base))
			continue;
		err = add_block(c, base);
		for (uint64_t i = 0; i < per_block && base + i < c->clusters && !err; i++)
			err = set_count(c, base + i);
	}
	q->search = 0;
	return err;
}

/* ---- the COPIED flags ------------------------------------------------------------------------ */

static bool single(const struct census *c, uint64_t offset)
{
	return c->references[offset >> c->q->bits] == 1;
}

static int set_l2_flags(struct census *c, uint64_t table)
{
	struct qcow2 *q = c->q;
	struct qcow2_table *t;
	int err = qcow2_cache_get(q, &q->l2_cache, table, &t);

	for (uint64_t i = 0; i < 1ull << q->l2_bits && !err; i++) {
		uint64_t entry = qcow2_get64(t->bytes, i), offset = entry & QCOW2_OFFSET_MASK;
		uint64_t want = entry & ~QCOW2_COPIED;

		if (!(entry & QCOW2_COMPRESSED) && offset && single(c, offset))
			want |= QCOW2_COPIED;
		if (want != entry)
			qcow2_l2_set(q, t, i, want);
	}
	return err;
}

static int set_flags(struct census *c)
{
	struct qcow2 *q = c->q;
	int err = 0;

	for (uint32_t i = 0; i < q->header.l1_size && !err; i++) {
		uint64_t offset = q->l1[i] & QCOW2_OFFSET_MASK, want;

		if (offset == 0)
			continue;
		want = offset | (single(c, offset) ? QCOW2_COPIED : 0);
		if (want != q->l1[i]) {
			q->l1[i] = want;
			q->l1_dirty_from = 0;
			q->l1_dirty_to = q->header.l1_size;
		}
		if (single(c, offset))
			err = set_l2_flags(c, offset);
	}
	return err;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int take_census(struct census *c)
{
	struct qcow2 *q = c->q;
	int err = count_fixed(c);

	if (!err)
		err = count_l1(c, q->l1, q->header.l1_size);
	for (uint32_t i = 0; i < q->header.nb_snapshots && !err; i++)
		err = count_snapshot(c, &c->snapshot[i]);
	if (!err)
		err = count_l2_tables(c);
	return err ? err : check_overlaps(c);
}

static int apply(struct census *c)
{
	struct qcow2 *q = c->q;
	bool lazy = q->lazy;
	int err = set_counts(c);

	if (!err)
		err = set_flags(c);
	q->lazy = false;
	if (!err)
		err = qcow2_settle(q);
	q->lazy = lazy;
	return err;
}

int qcow2_rebuild(struct qcow2 *q, struct error *e)
{
	struct census c = { .q = q, .clusters = q->end };
	int err;

	if (q->header.has_bitmaps || q->end > MAX_CLUSTERS)
		return error_set(e, -ENOTSUP,
				 "was not closed properly and %s; repair it with: "
				 "qemu-img check -r all",
				 q->header.has_bitmaps ? "has bitmaps" : "is very large");
	err = qcow2_snapshots(q, &c.snapshot, &c.snapshot_bytes, e);
	if (err) {
		free(c.snapshot);
		return err;
	}
	c.references = calloc(q->end + 1, sizeof(*c.references));
	c.as_table = calloc(q->end + 1, sizeof(*c.as_table));
	err = c.references && c.as_table ? take_census(&c) : -ENOMEM;
	if (!err)
		err = apply(&c);
	free(c.references);
	free(c.as_table);
	free(c.snapshot);
	if (err == -EINVAL || err == -EIO)
		return error_set(e, err,
				 "was not closed properly and its tables are damaged; repair it "
				 "with: qemu-img check -r all");
	if (err)
		return error_set_errno(e, err, "was not closed properly and cannot be repaired");
	log_info("%s was not closed properly; its reference counts are repaired", q->path);
	return 0;
}
