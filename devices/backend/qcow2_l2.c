/*
 * From guest clusters to clusters of the file (QEMU's docs/interop/qcow2.txt, "Cluster mapping"):
 * looking up runs of alike clusters, and L2 tables that can be changed.
 */
#include <errno.h>

#include "devices/backend/qcow2_impl.h"

/* ---- decoding -------------------------------------------------------------------------------- */

/* Offset of an L2 table, 0 if there is none; false if the entry is damaged. */
static bool l2_offset(const struct qcow2 *q, uint64_t l1_entry, uint64_t *offset)
{
	*offset = l1_entry & QCOW2_OFFSET_MASK;
	return *offset == 0 || (!(*offset & (q->cluster - 1)) && *offset >> q->bits < q->end &&
				!qcow2_is_fixed(q, *offset, q->cluster));
}

static bool decode_standard(const struct qcow2 *q, uint64_t entry, struct qcow2_run *run)
{
	uint64_t host = entry & QCOW2_OFFSET_MASK;

	run->own = entry & QCOW2_COPIED;
	run->host = host;
	if (host && (host & (q->cluster - 1) || host >> q->bits >= q->end ||
		     qcow2_is_fixed(q, host, q->cluster)))
		return false;
	if (entry & QCOW2_ZERO) {
		run->kind = QCOW2_K_ZERO;
		return q->header.version >= 3;
	}
	run->kind = host ? QCOW2_K_DATA : QCOW2_K_NONE;
	return host || !run->own;
}

/* One entry; false if it cannot be. */
static bool decode(const struct qcow2 *q, uint64_t entry, struct qcow2_run *run)
{
	uint64_t len;

	*run = (struct qcow2_run){ .entry = entry, .count = 1 };
	if (!(entry & QCOW2_COMPRESSED))
		return decode_standard(q, entry, run);
	run->kind = QCOW2_K_COMPRESSED;
	qcow2_compressed_place(q, entry, &run->host, &len);
	return !(entry & QCOW2_COPIED) && run->host >> q->bits < q->end;
}

/* Whether `next`, which is n clusters behind the run's begin, continues it. */
static bool continues(const struct qcow2 *q, const struct qcow2_run *run,
		      const struct qcow2_run *next, uint64_t n)
{
	if (next->kind != run->kind || next->own != run->own)
		return false;
	switch (run->kind) {
	case QCOW2_K_NONE:
		return true;
	case QCOW2_K_ZERO:
	case QCOW2_K_DATA:
		return run->host ? next->host == run->host + (n << q->bits) : next->host == 0;
	case QCOW2_K_COMPRESSED:
		break;
	}
	return false;
}

/* The run that begins at index of a table; false if its first entry is damaged. */
static bool run_at(const struct qcow2 *q, const struct qcow2_table *t, uint64_t index, uint64_t max,
		   struct qcow2_run *run)
{
	uint64_t entries = 1ull << q->l2_bits;
	struct qcow2_run next;

	if (!decode(q, qcow2_get64(t->bytes, index), run))
		return false;
	while (run->count < max && index + run->count < entries &&
	       decode(q, qcow2_get64(t->bytes, index + run->count), &next) &&
	       continues(q, run, &next, run->count))
		run->count++;
	return true;
}

/* ---- looking up ------------------------------------------------------------------------------ */

static void run_of_nothing(const struct qcow2 *q, uint64_t cluster, uint64_t max,
			   struct qcow2_run *run)
{
	uint64_t rest = (1ull << q->l2_bits) - qcow2_l2_index(q, cluster);

	*run = (struct qcow2_run){ .kind = QCOW2_K_NONE, .count = qcow2_min(max, rest) };
}

int qcow2_lookup(struct qcow2 *q, uint64_t cluster, uint64_t max, struct qcow2_run *run)
{
	uint64_t l1_index = cluster >> q->l2_bits, offset;
	struct qcow2_table *t;
	int err;

	if (l1_index >= q->header.l1_size)
		return -EINVAL;
	if (!l2_offset(q, q->l1[l1_index], &offset))
		return qcow2_damaged(q, "L1 entry", l1_index);
	if (offset == 0) {
		run_of_nothing(q, cluster, max, run);
		return 0;
	}
	err = qcow2_cache_get(q, &q->l2_cache, offset, &t);
	if (err)
		return err;
	if (!run_at(q, t, qcow2_l2_index(q, cluster), max, run))
		return qcow2_damaged(q, "L2 entry of guest cluster", cluster);
	/* What a shared table refers to is shared, whatever the table says. */
	run->own &= q->l1[l1_index] >> 63;
	return 0;
}

bool qcow2_lookup_cached(struct qcow2 *q, uint64_t cluster, uint64_t max, struct qcow2_run *run)
{
	uint64_t l1_index = cluster >> q->l2_bits, offset;
	struct qcow2_table *t;

	if (l1_index >= q->header.l1_size || !l2_offset(q, q->l1[l1_index], &offset) || !offset)
		return false;
	t = qcow2_cache_peek(&q->l2_cache, offset);
	/* Through get, so that it counts as used. */
	if (!t || qcow2_cache_get(q, &q->l2_cache, offset, &t))
		return false;
	if (!run_at(q, t, qcow2_l2_index(q, cluster), max, run))
		return false;
	run->own &= q->l1[l1_index] >> 63;
	return true;
}

/* ---- changing -------------------------------------------------------------------------------- */

static void set_l1(struct qcow2 *q, uint32_t index, uint64_t entry)
{
	q->l1[index] = entry;
	if (q->l1_dirty_from == q->l1_dirty_to) {
		q->l1_dirty_from = index;
		q->l1_dirty_to = index + 1;
	} else if (index < q->l1_dirty_from) {
		q->l1_dirty_from = index;
	} else if (index >= q->l1_dirty_to) {
		q->l1_dirty_to = index + 1;
	}
}

/* A table of our own, with the contents of the one at `old`, which others refer to too, if any. */
static int new_l2(struct qcow2 *q, uint32_t l1_index, uint64_t old, struct qcow2_table **out)
{
	struct qcow2_table *t, *from;
	struct qcow2_clusters at;
	int err = qcow2_alloc(q, 1, &at);

	if (err)
		return err;
	err = qcow2_cache_new(q, &q->l2_cache, at.first << q->bits, &t);
	if (!err && old) {
		err = qcow2_cache_get(q, &q->l2_cache, old, &from);
		if (err)
			qcow2_cache_forget(&q->l2_cache, at.first << q->bits);
	}
	if (err) {
		qcow2_unalloc(q, at.first, 1);
		return err;
	}
	if (old) {
		memcpy(t->bytes, from->bytes, q->cluster);
		qcow2_cache_dirty(&q->l2_cache, t, 0, q->cluster);
	}
	set_l1(q, l1_index, t->offset | QCOW2_COPIED);
	if (old)
		qcow2_let_go(q, old >> q->bits, 1);
	return qcow2_cache_get(q, &q->l2_cache, at.first << q->bits, out);
}

int qcow2_l2_writable(struct qcow2 *q, uint64_t cluster, struct qcow2_table **out)
{
	uint64_t l1_index = cluster >> q->l2_bits, entry, offset;

	if (l1_index >= q->header.l1_size)
		return -EINVAL;
	entry = q->l1[l1_index];
	if (!l2_offset(q, entry, &offset))
		return qcow2_damaged(q, "L1 entry", l1_index);
	if (offset && (entry & QCOW2_COPIED))
		return qcow2_cache_get(q, &q->l2_cache, offset, out);
	return new_l2(q, (uint32_t)l1_index, offset, out);
}

void qcow2_l2_set(struct qcow2 *q, struct qcow2_table *t, uint64_t index, uint64_t entry)
{
	qcow2_put64(t->bytes, index, entry);
	qcow2_cache_dirty(&q->l2_cache, t, index * 8, index * 8 + 8);
}
