/*
 * Opening and closing qcow2 images: see qcow2.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/backend/qcow2_impl.h"

int qcow2_damaged(struct qcow2 *q, const char *what, uint64_t where)
{
	log_guest(&q->complaints, "%s: damaged (%s 0x%llx); qemu-img check tells more", q->path,
		  what, (unsigned long long)where);
	return -EIO;
}

static int read_header(struct qcow2 *q, struct error *e)
{
	uint8_t first[128];
	uint8_t *bytes;
	size_t len;
	uint32_t bits;
	int err = block_file_read(&q->file, first, sizeof(first), 0);

	if (err)
		return error_set_errno(e, err, "cannot be read");
	err = qcow2_header_cluster_bits(first, qcow2_min(q->file.size, sizeof(first)), &bits, e);
	if (err)
		return err;
	len = qcow2_min(q->file.size, 1ull << bits);
	bytes = malloc(len);
	if (!bytes)
		return error_set(e, -ENOMEM, "out of memory");
	err = block_file_read(&q->file, bytes, len, 0);
	if (err)
		error_set_errno(e, err, "cannot be read");
	else
		err = qcow2_header_parse(&q->header, bytes, len, q->file.size, e);
	free(bytes);
	return err;
}

static int check_use(const struct qcow2 *q, const struct qcow2_options *options, struct error *e)
{
	if ((q->header.incompatible & QCOW2_INCOMPAT_CORRUPT) && !q->read_only)
		return error_set(e, -EINVAL,
				 "is marked as corrupt; ro=on reads it, qemu-img check -r all may "
				 "repair it");
	if (q->header.has_backing && options->no_backing)
		return error_set(e, -EINVAL, "has a backing file (%s), and backing=off",
				 q->header.backing_name);
	if (q->file.direct >= 0 && q->header.cluster_bits < 12)
		return error_set(e, -ENOTSUP,
				 "has clusters of %u bytes, too small for cache=direct",
				 1u << q->header.cluster_bits);
	return 0;
}

static void set_geometry(struct qcow2 *q)
{
	const struct qcow2_header *h = &q->header;
	uint64_t round;

	q->bits = h->cluster_bits;
	q->cluster = 1ull << q->bits;
	q->l2_bits = q->bits - 3;
	q->block_bits = q->bits + 3 - h->refcount_order;
	round = q->cluster - 1;
	q->end = (q->file.size >> q->bits) + ((q->file.size & round) ? 1 : 0);
	q->limit = QCOW2_MAX_OFFSET >> q->bits;
	if (q->file.is_device)
		q->limit = q->end = q->file.size >> q->bits;
	q->fresh = q->end;
	q->lazy = h->compatible & QCOW2_COMPAT_LAZY;
	q->dirty = h->incompatible & QCOW2_INCOMPAT_DIRTY;
	q->fixed[FIXED_HEADER] = (struct qcow2_fixed){ 0, q->cluster };
	q->fixed[FIXED_L1] = (struct qcow2_fixed){ h->l1_offset, 8ull * h->l1_size };
	q->fixed[FIXED_REFTABLE] =
		(struct qcow2_fixed){ h->reftable_offset,
				      (uint64_t)h->reftable_clusters << q->bits };
}

static int read_table(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t **out,
		      struct error *e)
{
	uint64_t *table = calloc(entries ? entries : 1, sizeof(*table));
	int err;

	if (!table)
		return error_set(e, -ENOMEM, "out of memory");
	err = block_file_read(&q->file, table, entries * 8, offset);
	if (err) {
		free(table);
		return error_set_errno(e, err, "cannot be read");
	}
	for (uint64_t i = 0; i < entries; i++)
		table[i] = be64toh(table[i]);
	*out = table;
	return 0;
}

static int read_tables(struct qcow2 *q, struct error *e)
{
	const struct qcow2_header *h = &q->header;
	uint64_t blocks = (q->end >> q->block_bits) + 8;
	int err = read_table(q, h->l1_offset, h->l1_size, &q->l1, e);

	if (err)
		return err;
	if (qcow2_cache_init(&q->l2_cache, QCOW2_L2_CACHE, q->cluster, h->l1_size))
		return error_set(e, -ENOMEM, "out of memory");
	if (q->read_only)
		return 0;
	q->reftable_size = ((uint64_t)h->reftable_clusters << q->bits) / 8;
	err = read_table(q, h->reftable_offset, q->reftable_size, &q->reftable, e);
	if (err)
		return err;
	q->unused = calloc(QCOW2_MAX_UNUSED, sizeof(*q->unused));
	/* A growing image needs more blocks than there are now; twice is plenty at a time. */
	if (!q->unused ||
	    qcow2_cache_init(&q->block_cache, QCOW2_BLOCK_CACHE, q->cluster, blocks * 2))
		return error_set(e, -ENOMEM, "out of memory");
	return 0;
}

static int set_up(struct qcow2 *q, const struct qcow2_options *options,
		  const struct qcow2_chain *above, struct error *e)
{
	uint64_t snapshots = 0;
	int err = read_header(q, e);

	if (!err)
		err = check_use(q, options, e);
	if (err)
		return err;
	set_geometry(q);
	err = read_tables(q, e);
	if (!err)
		err = qcow2_snapshots(q, NULL, &snapshots, e);
	if (err)
		return err;
	q->fixed[FIXED_SNAPSHOTS] = (struct qcow2_fixed){ q->header.snapshots_offset, snapshots };
	if (!q->read_only && q->dirty)
		err = qcow2_rebuild(q, e);
	return err ? err : qcow2_backing_open(q, above, e);
}

static void destroy(struct qcow2 *q)
{
	qcow2_backing_close(q);
	qcow2_cache_free(&q->l2_cache);
	if (!q->read_only)
		qcow2_cache_free(&q->block_cache);
	free(q->l1);
	free(q->reftable);
	free(q->unused);
	free(q->expanded);
	block_file_close(&q->file);
	pthread_mutex_destroy(&q->flush_lock);
	pthread_mutex_destroy(&q->lock);
	pthread_mutex_destroy(&q->range_lock);
	pthread_mutex_destroy(&q->expanded_lock);
	pthread_cond_destroy(&q->range_freed);
	free(q->path);
	free(q);
}

int qcow2_open_in_chain(struct qcow2 **out, const char *path, const struct qcow2_options *options,
			const struct qcow2_chain *above, struct error *e)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int err;

	if (!q)
		return error_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&q->flush_lock, NULL);
	pthread_mutex_init(&q->lock, NULL);
	pthread_mutex_init(&q->range_lock, NULL);
	pthread_mutex_init(&q->expanded_lock, NULL);
	pthread_cond_init(&q->range_freed, NULL);
	q->file = q->backing_file = BLOCK_FILE_CLOSED;
	q->read_only = options->read_only;
	q->path = strdup(path);
	if (!q->path) {
		destroy(q);
		return error_set(e, -ENOMEM, "out of memory");
	}
	err = block_file_open(&q->file, path, options->read_only, options->cache, e);
	if (!err) {
		q->file.cached = true; /* the metadata always is */
		err = set_up(q, options, above, e);
		if (err)
			error_prefix(e, "%s ", path);
	}
	if (err)
		destroy(q);
	else
		*out = q;
	return err;
}

int qcow2_open(struct qcow2 **out, const char *path, const struct qcow2_options *options,
	       struct error *e)
{
	return qcow2_open_in_chain(out, path, options, NULL, e);
}

int qcow2_close(struct qcow2 *q)
{
	int err;

	pthread_mutex_lock(&q->lock);
	err = qcow2_finish(q);
	pthread_mutex_unlock(&q->lock);
	destroy(q);
	return err;
}

uint64_t qcow2_size(const struct qcow2 *q)
{
	return q->header.size;
}

uint32_t qcow2_cluster_size(const struct qcow2 *q)
{
	return (uint32_t)q->cluster;
}

struct block_file *qcow2_file(struct qcow2 *q)
{
	return &q->file;
}
