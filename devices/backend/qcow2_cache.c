/*
 * Caches of qcow2's second-level tables (L2 tables, refcount blocks): a bounded number of clusters,
 * least recently used out first, written back when qcow2_flush.c says so.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/backend/qcow2_impl.h"

#define SECTOR 512u

int qcow2_cache_init(struct qcow2_cache *c, uint64_t bytes, uint64_t cluster, uint64_t useful)
{
	uint64_t max = bytes / cluster;

	if (max > useful)
		max = useful;
	if (max < QCOW2_MIN_TABLES)
		max = QCOW2_MIN_TABLES;
	*c = (struct qcow2_cache){ .max = (unsigned)max, .nbuckets = 16 };
	while (c->nbuckets < max)
		c->nbuckets *= 2;
	c->bucket = calloc(c->nbuckets, sizeof(*c->bucket));
	return c->bucket ? 0 : -ENOMEM;
}

void qcow2_cache_free(struct qcow2_cache *c)
{
	struct qcow2_table *t, *next;

	for (t = c->newest; t; t = next) {
		next = t->older;
		free(t->bytes);
		free(t);
	}
	free(c->bucket);
	memset(c, 0, sizeof(*c));
}

/* ---- order of use ---------------------------------------------------------------------------- */

static void unlink_use(struct qcow2_cache *c, struct qcow2_table *t)
{
	*(t->newer ? &t->newer->older : &c->newest) = t->older;
	*(t->older ? &t->older->newer : &c->oldest) = t->newer;
}

static void make_newest(struct qcow2_cache *c, struct qcow2_table *t)
{
	t->newer = NULL;
	t->older = c->newest;
	*(c->newest ? &c->newest->newer : &c->oldest) = t;
	c->newest = t;
}

static struct qcow2_table **bucket_of(const struct qcow2_cache *c, uint64_t offset)
{
	/* Offsets are multiples of 512 up to 2 MiB: fold the upper bits down. */
	uint64_t h = (offset >> 9) * 0x9e3779b97f4a7c15ull;

	return &c->bucket[(h >> 32) & (c->nbuckets - 1)];
}

static void remove_from_bucket(struct qcow2_cache *c, struct qcow2_table *t)
{
	struct qcow2_table **p = bucket_of(c, t->offset);

	while (*p != t)
		p = &(*p)->chain;
	*p = t->chain;
}

static void add_to_bucket(struct qcow2_cache *c, struct qcow2_table *t)
{
	struct qcow2_table **p = bucket_of(c, t->offset);

	t->chain = *p;
	*p = t;
}

struct qcow2_table *qcow2_cache_peek(const struct qcow2_cache *c, uint64_t offset)
{
	struct qcow2_table *t = *bucket_of(c, offset);

	while (t && t->offset != offset)
		t = t->chain;
	return t;
}

/* ---- dirt ------------------------------------------------------------------------------------ */

void qcow2_cache_dirty(struct qcow2_cache *c, struct qcow2_table *t, uint64_t from, uint64_t to)
{
	from &= ~(uint64_t)(SECTOR - 1); /* clusters are whole sectors */
	to = (to + SECTOR - 1) & ~(uint64_t)(SECTOR - 1);
	if (t->dirty_from == t->dirty_to) {
		t->dirty_from = (uint32_t)from;
		t->dirty_to = (uint32_t)to;
		c->ndirty++;
		return;
	}
	if (from < t->dirty_from)
		t->dirty_from = (uint32_t)from;
	if (to > t->dirty_to)
		t->dirty_to = (uint32_t)to;
}

static void clean(struct qcow2_cache *c, struct qcow2_table *t)
{
	if (t->dirty_from != t->dirty_to)
		c->ndirty--;
	t->dirty_from = t->dirty_to = 0;
}

int qcow2_table_write(struct qcow2 *q, struct qcow2_cache *c, struct qcow2_table *t)
{
	int err;

	if (t->dirty_from == t->dirty_to)
		return 0;
	qcow2_disk_begin(q);
	err = block_file_write(&q->file, t->bytes + t->dirty_from, t->dirty_to - t->dirty_from,
			       t->offset + t->dirty_from);
	qcow2_disk_end(q);
	if (!err)
		clean(c, t);
	return err;
}

int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *c, bool only_unlinked)
{
	int err = 0;

	for (struct qcow2_table *t = c->newest; t && c->ndirty && !err; t = t->older)
		if (!only_unlinked || t->unlinked)
			err = qcow2_table_write(q, c, t);
	return err;
}

/* ---- coming and going ------------------------------------------------------------------------ */

/*
 * A refcount block may be written at any time: the counts in memory are never lower than what the
 * disk needs. An L2 table must come after the counts of what it refers to, unless nothing refers to
 * it yet.
 */
static int make_clean(struct qcow2 *q, struct qcow2_cache *c, struct qcow2_table *t)
{
	if (t->dirty_from == t->dirty_to)
		return 0;
	if (c == &q->l2_cache && !t->unlinked)
		return qcow2_write_back(q);
	return qcow2_table_write(q, c, t);
}

/* An entry that nobody uses, in no bucket and not in the order of use. */
static int take_slot(struct qcow2 *q, struct qcow2_cache *c, struct qcow2_table **out)
{
	struct qcow2_table *t;
	int err;

	if (c->used < c->max) {
		t = calloc(1, sizeof(*t));
		if (t)
			t->bytes = aligned_alloc(SECTOR, q->cluster);
		if (t && t->bytes) {
			c->used++;
			*out = t;
			return 0;
		}
		free(t);
		if (c->used < QCOW2_MIN_TABLES)
			return -ENOMEM;
	}
	t = c->oldest;
	err = make_clean(q, c, t);
	if (err)
		return err;
	unlink_use(c, t);
	remove_from_bucket(c, t);
	t->unlinked = false;
	*out = t;
	return 0;
}

static void drop(struct qcow2_cache *c, struct qcow2_table *t)
{
	c->used--;
	free(t->bytes);
	free(t);
}

int qcow2_cache_get(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset,
		    struct qcow2_table **out)
{
	struct qcow2_table *t = qcow2_cache_peek(c, offset);
	int err;

	if (t) {
		if (t != c->newest) {
			unlink_use(c, t);
			make_newest(c, t);
		}
		*out = t;
		return 0;
	}
	err = take_slot(q, c, &t);
	if (err)
		return err;
	qcow2_disk_begin(q);
	err = block_file_read(&q->file, t->bytes, q->cluster, offset);
	qcow2_disk_end(q);
	if (err) {
		drop(c, t);
		return err;
	}
	t->offset = offset;
	add_to_bucket(c, t);
	make_newest(c, t);
	*out = t;
	return 0;
}

int qcow2_cache_new(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset,
		    struct qcow2_table **out)
{
	struct qcow2_table *t;
	int err;

	qcow2_cache_forget(c, offset);
	err = take_slot(q, c, &t);
	if (err)
		return err;
	memset(t->bytes, 0, q->cluster);
	t->offset = offset;
	t->unlinked = true;
	/* So that a full disk is noticed by this request, and not by a flush. */
	qcow2_disk_begin(q);
	err = block_file_write(&q->file, t->bytes, q->cluster, offset);
	qcow2_disk_end(q);
	if (err) {
		drop(c, t);
		return err;
	}
	add_to_bucket(c, t);
	make_newest(c, t);
	*out = t;
	return 0;
}

void qcow2_cache_forget(struct qcow2_cache *c, uint64_t offset)
{
	struct qcow2_table *t = qcow2_cache_peek(c, offset);

	if (!t)
		return;
	clean(c, t);
	unlink_use(c, t);
	remove_from_bucket(c, t);
	drop(c, t);
}
