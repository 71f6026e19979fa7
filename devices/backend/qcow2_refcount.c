/*
 * Reference counts of the clusters of a qcow2 file (QEMU's docs/interop/qcow2.txt, "Host cluster
 * management"): reading and setting them, and making the table and its blocks grow.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/backend/qcow2_impl.h"

/* ---- counts in a block ----------------------------------------------------------------------- */

uint64_t qcow2_refcount_max(const struct qcow2 *q)
{
	return q->header.refcount_order == 6 ? UINT64_MAX
					     : (1ull << (1u << q->header.refcount_order)) - 1;
}

static uint64_t load(const struct qcow2 *q, const uint8_t *block, uint64_t i)
{
	unsigned order = q->header.refcount_order;
	uint16_t v16;
	uint32_t v32;

	switch (order) {
	case 4:
		memcpy(&v16, block + i * 2, sizeof(v16));
		return be16toh(v16);
	case 5:
		memcpy(&v32, block + i * 4, sizeof(v32));
		return be32toh(v32);
	case 6:
		return qcow2_get64(block, i);
	default: { /* 1, 2, 4 or 8 bits; the least significant ones come first */
		unsigned width = 1u << order, shift = (unsigned)(i << order) & 7;

		return (block[(i << order) >> 3] >> shift) & ((1u << width) - 1);
	}
	}
}

static void store(const struct qcow2 *q, uint8_t *block, uint64_t i, uint64_t v)
{
	unsigned order = q->header.refcount_order;
	uint16_t v16 = htobe16((uint16_t)v);
	uint32_t v32 = htobe32((uint32_t)v);

	switch (order) {
	case 4:
		memcpy(block + i * 2, &v16, sizeof(v16));
		break;
	case 5:
		memcpy(block + i * 4, &v32, sizeof(v32));
		break;
	case 6:
		qcow2_put64(block, i, v);
		break;
	default: {
		unsigned width = 1u << order, shift = (unsigned)(i << order) & 7;
		unsigned mask = ((1u << width) - 1) << shift;
		uint8_t *byte = &block[(i << order) >> 3];

		*byte = (uint8_t)((*byte & ~mask) | (unsigned)(v << shift));
	}
	}
}

static void store_dirty(struct qcow2 *q, struct qcow2_table *t, uint64_t i, uint64_t v)
{
	uint64_t at = (i << q->header.refcount_order) >> 3;

	store(q, t->bytes, i, v);
	qcow2_cache_dirty(&q->block_cache, t, at, at + 1);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static uint64_t index_in_block(const struct qcow2 *q, uint64_t cluster)
{
	return cluster & ((1ull << q->block_bits) - 1);
}

uint64_t qcow2_refblock_offset(const struct qcow2 *q, uint64_t cluster)
{
	uint64_t i = cluster >> q->block_bits;

	return i < q->reftable_size ? q->reftable[i] : 0;
}

/* *out is NULL if there is none: all its counts are 0. */
static int get_block(struct qcow2 *q, uint64_t cluster, struct qcow2_table **out)
{
	uint64_t offset = qcow2_refblock_offset(q, cluster);

	*out = NULL;
	if (offset == 0)
		return 0;
	if (offset & (q->cluster - 1) || offset >> q->bits >= q->end ||
	    qcow2_is_fixed(q, offset, q->cluster))
		return qcow2_damaged(q, "refcount table", offset);
	return qcow2_cache_get(q, &q->block_cache, offset, out);
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *count)
{
	struct qcow2_table *t;
	int err = get_block(q, cluster, &t);

	if (!err)
		*count = t ? load(q, t->bytes, index_in_block(q, cluster)) : 0;
	return err;
}

int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	struct qcow2_table *t;
	int err = get_block(q, cluster, &t);

	if (err)
		return err;
	if (!t)
		return qcow2_damaged(q, "refcount of cluster", cluster);
	store_dirty(q, t, index_in_block(q, cluster), count);
	return 0;
}

int qcow2_refcount_find_free(struct qcow2 *q, uint64_t from, uint64_t to, uint64_t *budget,
			     uint64_t *found, bool *block)
{
	uint64_t at = from;

	while (at < to && *budget) {
		uint64_t i = index_in_block(q, at), entries = 1ull << q->block_bits;
		struct qcow2_table *t;
		int err = get_block(q, at, &t);

		if (err)
			return err;
		*block = t;
		*found = at;
		if (!t)
			return 0;
		for (; i < entries && at < to && *budget; i++, at++, --*budget) {
			if (load(q, t->bytes, i) == 0) {
				*found = at;
				return 0;
			}
		}
	}
	*found = at;
	return 0;
}

int qcow2_refcount_free_run(struct qcow2 *q, uint64_t first, uint64_t count, uint64_t *run)
{
	uint64_t i = index_in_block(q, first), entries = 1ull << q->block_bits;
	struct qcow2_table *t;
	int err = get_block(q, first, &t);

	*run = 0;
	if (err || !t)
		return err;
	for (; i < entries && *run < count && load(q, t->bytes, i) == 0; i++)
		++*run;
	return 0;
}

/* ---- growth ---------------------------------------------------------------------------------- */

static void link_block(struct qcow2 *q, uint64_t index, uint64_t offset)
{
	q->reftable[index] = offset;
	if (q->reftable_dirty_from == q->reftable_dirty_to) {
		q->reftable_dirty_from = index;
		q->reftable_dirty_to = index + 1;
	} else if (index < q->reftable_dirty_from) {
		q->reftable_dirty_from = index;
	} else if (index >= q->reftable_dirty_to) {
		q->reftable_dirty_to = index + 1;
	}
}

/*
 * A larger refcount table at `first`, which the present one does not reach. The new table and the
 * blocks that count its own clusters come one after the other:
 *
 *   first … blocks … table …
 *
 * They are on disk before the header refers to them; the old table is let go after that.
 */
struct growth {
	uint64_t first, blocks, clusters; /* of the table */
	uint64_t entries;
	uint64_t *table;
};

static int plan_growth(const struct qcow2 *q, uint64_t first, struct growth *g)
{
	uint64_t per_cluster = q->cluster / 8;
	uint64_t first_block = first >> q->block_bits;
	uint64_t entries = q->reftable_size + q->reftable_size / 2;

	g->first = first;
	g->blocks = 1;
	/* Table and blocks count each other's clusters; each round adds what the last one lacked.
	 */
	for (int round = 0; round < 8; round++) {
		uint64_t last;

		g->clusters = (qcow2_min(entries, QCOW2_MAX_REFTABLE / 8) + per_cluster - 1) /
			      per_cluster;
		g->entries = g->clusters * per_cluster;
		last = (first + g->blocks + g->clusters - 1) >> q->block_bits;
		if (g->blocks == last - first_block + 1 && last < g->entries)
			return g->clusters << q->bits <= QCOW2_MAX_REFTABLE ? 0 : -ENOSPC;
		g->blocks = last - first_block + 1;
		if (entries < last + 2)
			entries = last + 2;
	}
	return -ENOSPC;
}

static int make_growth_blocks(struct qcow2 *q, struct growth *g)
{
	uint64_t end = g->first + g->blocks + g->clusters;

	for (uint64_t b = 0; b < g->blocks; b++) {
		uint64_t index = (g->first >> q->block_bits) + b;
		uint64_t base = index << q->block_bits;
		struct qcow2_table *t;
		int err = qcow2_cache_new(q, &q->block_cache, (g->first + b) << q->bits, &t);

		if (err)
			return err;
		for (uint64_t c = base; c < base + (1ull << q->block_bits); c++)
			if (c >= g->first && c < end)
				store_dirty(q, t, c - base, 1);
		err = qcow2_table_write(q, &q->block_cache, t);
		if (err)
			return err;
		g->table[index] = t->offset;
	}
	return 0;
}

static int write_growth(struct qcow2 *q, struct growth *g)
{
	uint64_t offset = (g->first + g->blocks) << q->bits;
	struct {
		uint64_t offset;
		uint32_t clusters;
	} __attribute__((packed)) pointer = { htobe64(offset), htobe32((uint32_t)g->clusters) };
	uint8_t *bytes = malloc(g->clusters << q->bits);
	int err;

	if (!bytes)
		return -ENOMEM;
	for (uint64_t i = 0; i < g->entries; i++)
		qcow2_put64(bytes, i, g->table[i]);
	err = block_file_write(&q->file, bytes, g->clusters << q->bits, offset);
	free(bytes);
	/* Blocks that the old table does not refer to on disk yet, the new one does. */
	if (!err)
		err = qcow2_cache_write(q, &q->block_cache, false);
	if (!err)
		err = block_file_sync(&q->file);
	if (!err)
		err = block_file_write(&q->file, &pointer, sizeof(pointer), QCOW2_AT_REFTABLE);
	if (err)
		return err;
	/* If that fails the header may refer to it all the same: it stays, and flushes tell. */
	block_file_sync(&q->file);
	return 0;
}

static void forget_growth(struct qcow2 *q, struct growth *g)
{
	for (uint64_t b = 0; b < g->blocks; b++)
		qcow2_cache_forget(&q->block_cache, (g->first + b) << q->bits);
	free(g->table);
}

static int grow(struct qcow2 *q, uint64_t first)
{
	uint64_t old = q->fixed[FIXED_REFTABLE].offset, old_end = q->end;
	uint64_t old_clusters = q->header.reftable_clusters;
	struct growth g;
	int err = plan_growth(q, first, &g);

	if (err)
		return err;
	if (first + g.blocks + g.clusters > q->limit)
		return -ENOSPC;
	g.table = calloc(g.entries, sizeof(*g.table));
	if (!g.table)
		return -ENOMEM;
	memcpy(g.table, q->reftable, q->reftable_size * sizeof(*g.table));
	if (q->end < first + g.blocks + g.clusters)
		q->end = first + g.blocks + g.clusters;
	err = make_growth_blocks(q, &g);
	if (!err) {
		qcow2_disk_begin(q);
		err = write_growth(q, &g);
		qcow2_disk_end(q);
	}
	if (err) {
		q->end = old_end;
		forget_growth(q, &g);
		return err;
	}
	free(q->reftable);
	q->reftable = g.table;
	q->reftable_size = g.entries;
	q->reftable_dirty_from = q->reftable_dirty_to = 0;
	q->header.reftable_clusters = (uint32_t)g.clusters;
	q->header.reftable_offset = (g.first + g.blocks) << q->bits;
	q->fixed[FIXED_REFTABLE] =
		(struct qcow2_fixed){ q->header.reftable_offset, g.clusters << q->bits };
	if (q->fresh < q->end)
		q->fresh = q->end;
	qcow2_let_go(q, old >> q->bits, old_clusters);
	return 0;
}

int qcow2_refcount_put_block(struct qcow2 *q, uint64_t cluster, uint64_t where)
{
	struct qcow2_table *t;
	bool own = cluster >> q->block_bits == where >> q->block_bits;
	int err;

	if (qcow2_is_fixed(q, where << q->bits, q->cluster))
		return qcow2_damaged(q, "free cluster", where);
	err = qcow2_cache_new(q, &q->block_cache, where << q->bits, &t);
	if (err)
		return err;
	if (q->end <= where)
		q->end = where + 1;
	if (q->fresh <= where)
		q->fresh = where + 1;
	if (own) {
		store_dirty(q, t, index_in_block(q, where), 1);
	} else {
		err = qcow2_refcount_set(q, where, 1);
		if (err) {
			qcow2_cache_forget(&q->block_cache, where << q->bits);
			return err;
		}
	}
	link_block(q, cluster >> q->block_bits, where << q->bits);
	return 0;
}

int qcow2_refcount_add_block(struct qcow2 *q, uint64_t cluster)
{
	if (cluster >> q->block_bits >= q->reftable_size)
		return grow(q, cluster);
	if (cluster >= q->limit)
		return -ENOSPC;
	return qcow2_refcount_put_block(q, cluster, cluster);
}
