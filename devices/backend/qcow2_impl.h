/*
 * What the files of the qcow2 room share. Nobody else includes this.
 *
 * Locks, in this order:
 *   flush_lock   one write-back of metadata at a time
 *   lock         all metadata in memory, and the allocation of clusters
 *   range_lock   who works on which guest clusters
 * No file system call is made with range_lock held. `lock` is held while metadata is read, written
 * or synced, and waiting_for_disk then tells qcow2_map() not to queue up for it.
 *
 * Which clusters of the file belong to a guest cluster can only change under `lock` and by a
 * request that has the guest cluster exclusively; so a request that has it in any way may use what
 * it found without the lock.
 */
#ifndef DEVICES_BACKEND_QCOW2_IMPL_H
#define DEVICES_BACKEND_QCOW2_IMPL_H

#include <endian.h>
#include <pthread.h>
#include <string.h>

#include "devices/backend/block_file.h"
#include "devices/backend/iov_cursor.h"
#include "devices/backend/qcow2.h"
#include "devices/backend/qcow2_header.h"
#include "vmm/log.h"

#define QCOW2_COPIED	  (1ull << 63)
#define QCOW2_COMPRESSED  (1ull << 62)
#define QCOW2_ZERO	  (1ull << 0)
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull
#define QCOW2_MAX_OFFSET                                                                           \
	(1ull << 55) /* of a cluster in the file; far below what an entry holds                    \
		      */
#define QCOW2_MAX_CHAIN	  32u
#define QCOW2_IOV	  64
#define QCOW2_L2_CACHE	  (16u << 20) /* bytes */
#define QCOW2_BLOCK_CACHE (4u << 20)
#define QCOW2_MIN_TABLES  6u	/* in a cache: more than any operation has in hand at once */
#define QCOW2_MAX_UNUSED  8192u /* runs of clusters waiting for the next flush */

/* ---- caches of tables (qcow2_cache.c) -------------------------------------------------------- */

/* One cluster of metadata: an L2 table or a refcount block. */
struct qcow2_table {
	uint64_t offset; /* in the file */
	uint8_t *bytes;
	uint32_t dirty_from, dirty_to; /* bytes to write back; none if equal */
	bool unlinked; /* nothing on disk refers to it: it can be written before everything else */
	struct qcow2_table *chain;	   /* of the hash bucket */
	struct qcow2_table *newer, *older; /* by last use */
};

struct qcow2_cache {
	unsigned max, used, ndirty;
	uint32_t nbuckets; /* a power of two */
	struct qcow2_table **bucket;
	struct qcow2_table *newest, *oldest;
};

/* ---- the image ------------------------------------------------------------------------------- */

/* Clusters of the file that nothing in memory refers to, but perhaps something on disk. */
struct qcow2_unused {
	uint64_t first, count;
};

/* A range of bytes of the file that no data cluster may be in. */
struct qcow2_fixed {
	uint64_t offset, len;
};

enum { FIXED_HEADER, FIXED_L1, FIXED_REFTABLE, FIXED_SNAPSHOTS, FIXED_COUNT };

struct qcow2 {
	struct block_file file;
	char *path;
	bool read_only;
	struct qcow2_header header;
	unsigned bits; /* of a cluster */
	uint64_t cluster;
	unsigned l2_bits;    /* entries of an L2 table */
	unsigned block_bits; /* entries of a refcount block */

	/* The backing file, if any: a qcow2 image or a file. */
	struct qcow2 *backing;
	struct block_file backing_file;
	uint64_t backing_size;

	pthread_mutex_t flush_lock;
	pthread_mutex_t lock;	   /* guards what follows */
	unsigned waiting_for_disk; /* atomic to read */
	uint64_t *l1;		   /* entries as numbers */
	uint32_t l1_dirty_from, l1_dirty_to;
	uint64_t *reftable;
	uint64_t reftable_size; /* entries */
	uint64_t reftable_dirty_from, reftable_dirty_to;
	struct qcow2_cache l2_cache, block_cache;
	struct qcow2_fixed fixed[FIXED_COUNT];
	uint64_t end;	 /* clusters: the file's, with what was allocated since */
	uint64_t fresh;	 /* clusters from here on were never written: they read as zeroes */
	uint64_t limit;	 /* clusters: where the file can grow to */
	uint64_t search; /* no free cluster before this one */
	struct qcow2_unused *unused;
	unsigned nunused;
	bool prepared; /* atomic to read: flags on disk say that we write */
	bool lazy;     /* refcounts on disk are not kept up to date while it is open */
	bool dirty;    /* the dirty bit is set on disk */
	struct log_limit complaints;

	pthread_mutex_t range_lock; /* guards the list of requests at work, oldest first */
	pthread_cond_t range_freed;
	struct block_extent *oldest, *newest;
	unsigned nexclusive, nwaiting;

	/* The compressed cluster that was read last, expanded. */
	pthread_mutex_t expanded_lock;
	uint64_t expanded_entry; /* 0: none */
	uint8_t *expanded;
};

/* Says once what is damaged; -EIO. */
int qcow2_damaged(struct qcow2 *q, const char *what, uint64_t where);

/* Around file system calls with `lock` held. */
static inline void qcow2_disk_begin(struct qcow2 *q)
{
	__atomic_add_fetch(&q->waiting_for_disk, 1, __ATOMIC_RELAXED);
}

static inline void qcow2_disk_end(struct qcow2 *q)
{
	__atomic_sub_fetch(&q->waiting_for_disk, 1, __ATOMIC_RELAXED);
}

static inline uint64_t qcow2_get64(const uint8_t *bytes, uint64_t index)
{
	uint64_t v;

	memcpy(&v, bytes + index * 8, sizeof(v));
	return be64toh(v);
}

static inline void qcow2_put64(uint8_t *bytes, uint64_t index, uint64_t v)
{
	v = htobe64(v);
	memcpy(bytes + index * 8, &v, sizeof(v));
}

static inline uint64_t qcow2_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- qcow2_cache.c: all with `lock` held ----------------------------------------------------- */

int qcow2_cache_init(struct qcow2_cache *c, uint64_t bytes, uint64_t cluster, uint64_t useful);
void qcow2_cache_free(struct qcow2_cache *c);
/*
 * The table at offset, read if need be. It stays in memory until QCOW2_MIN_TABLES - 1 others of the
 * same cache have been asked for.
 */
int qcow2_cache_get(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset,
		    struct qcow2_table **out);
struct qcow2_table *qcow2_cache_peek(const struct qcow2_cache *c, uint64_t offset); /* or NULL */
/* A new table of zeroes at offset, unlinked; it takes its space on disk at once. */
int qcow2_cache_new(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset,
		    struct qcow2_table **out);
void qcow2_cache_forget(struct qcow2_cache *c, uint64_t offset);
void qcow2_cache_dirty(struct qcow2_cache *c, struct qcow2_table *t, uint64_t from, uint64_t to);
int qcow2_table_write(struct qcow2 *q, struct qcow2_cache *c, struct qcow2_table *t);
/* All that is dirty, or only unlinked ones. */
int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *c, bool only_unlinked);

/* ---- qcow2_flush.c: `lock` held -------------------------------------------------------------- */

/* Writes metadata in order, without the last sync: what is on disk is consistent at any time. */
int qcow2_write_back(struct qcow2 *q);
/* The same with the sync; then makes clusters that were let go allocatable. */
int qcow2_settle(struct qcow2 *q);
/* Before the first change of anything in the file: flags in the header. */
int qcow2_prepare(struct qcow2 *q);
/* At the end: everything back, flags cleared. */
int qcow2_finish(struct qcow2 *q);

/* ---- qcow2_refcount.c: `lock` held ----------------------------------------------------------- */

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *count);
/* The block must exist, which it does for a cluster whose count is not 0. */
int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count);
uint64_t qcow2_refcount_max(const struct qcow2 *q);
/*
 * The first cluster from `from` on and before `to` that is free; *found is `to` if there is none.
 * Looks at no more than *budget counts, and takes what it looked at off. *block tells whether it
 * has a refcount block.
 */
int qcow2_refcount_find_free(struct qcow2 *q, uint64_t from, uint64_t to, uint64_t *budget,
			     uint64_t *found, bool *block);
/* How many of the clusters from `first` on, up to count, are free; first's block exists. */
int qcow2_refcount_free_run(struct qcow2 *q, uint64_t first, uint64_t count, uint64_t *run);
/* Makes a refcount block for a free cluster that has none, in that cluster. */
int qcow2_refcount_add_block(struct qcow2 *q, uint64_t cluster);
/* Same, in another free cluster that has a block. */
int qcow2_refcount_put_block(struct qcow2 *q, uint64_t cluster, uint64_t where);
uint64_t qcow2_refblock_offset(const struct qcow2 *q, uint64_t cluster); /* 0: none */

/* ---- qcow2_alloc.c: `lock` held -------------------------------------------------------------- */

struct qcow2_clusters {
	uint64_t first, count;
	bool fresh; /* they read as zeroes */
};

/* From 1 up to `want` clusters in a row, with a refcount of 1. -ENOSPC, -EIO. */
int qcow2_alloc(struct qcow2 *q, uint64_t want, struct qcow2_clusters *out);
/* Gives back what nothing has ever referred to. */
void qcow2_unalloc(struct qcow2 *q, uint64_t first, uint64_t count);
/* One reference less to each; takes effect when the disk knows. */
void qcow2_let_go(struct qcow2 *q, uint64_t first, uint64_t count);
/* What an L2 entry refers to. */
void qcow2_let_go_entry(struct qcow2 *q, uint64_t entry);
/* All references that were let go are gone from the disk. */
int qcow2_free_unused(struct qcow2 *q);
bool qcow2_is_fixed(const struct qcow2 *q, uint64_t offset, uint64_t len);

/* ---- qcow2_l2.c: `lock` held ----------------------------------------------------------------- */

enum qcow2_kind { QCOW2_K_NONE, QCOW2_K_ZERO, QCOW2_K_DATA, QCOW2_K_COMPRESSED };

/* Guest clusters that are alike, and one after the other in the file. */
struct qcow2_run {
	enum qcow2_kind kind;
	bool own;	/* the file's clusters can be written: nobody else refers to them */
	uint64_t host;	/* DATA: offset; ZERO: offset of preallocated clusters, or 0 */
	uint64_t entry; /* COMPRESSED: the L2 entry */
	uint64_t count;
};

int qcow2_lookup(struct qcow2 *q, uint64_t cluster, uint64_t max, struct qcow2_run *run);
/* From memory only; false if that is not enough, or damaged. */
bool qcow2_lookup_cached(struct qcow2 *q, uint64_t cluster, uint64_t max, struct qcow2_run *run);
/* The L2 table for a guest cluster, our own and writable; allocates it. */
int qcow2_l2_writable(struct qcow2 *q, uint64_t cluster, struct qcow2_table **out);
static inline uint64_t qcow2_l2_index(const struct qcow2 *q, uint64_t cluster)
{
	return cluster & ((1ull << q->l2_bits) - 1);
}
void qcow2_l2_set(struct qcow2 *q, struct qcow2_table *t, uint64_t index, uint64_t entry);

/* Where a compressed cluster's bytes are. */
void qcow2_compressed_place(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *len);

/* ---- qcow2_range.c --------------------------------------------------------------------------- */

/* Waits until nobody has these clusters who must not. */
void qcow2_range_enter(struct qcow2 *q, struct block_extent *x, uint64_t first, uint64_t last,
		       bool exclusive);
bool qcow2_range_try_shared(struct qcow2 *q, struct block_extent *x, uint64_t first, uint64_t last);
void qcow2_range_leave(struct qcow2 *q, struct block_extent *x);

/* ---- reading (qcow2_read.c, qcow2_compressed.c, qcow2_backing.c) ----------------------------- */

/* Bytes of the disk that lie in a run that begins at guest cluster `cluster`. No lock held. */
int qcow2_read_run(struct qcow2 *q, const struct qcow2_run *run, uint64_t cluster, uint64_t offset,
		   size_t len, struct iov_cursor *to);
/* From offset to end; the range is held, or the image read-only. */
int qcow2_read_cursor(struct qcow2 *q, uint64_t offset, uint64_t end, struct iov_cursor *to);
/* Part of a compressed cluster. */
int qcow2_read_compressed(struct qcow2 *q, uint64_t entry, uint64_t from, size_t len,
			  struct iov_cursor *to);
/* What is under the image; zeroes where nothing is. */
int qcow2_read_backing(struct qcow2 *q, uint64_t offset, size_t len, struct iov_cursor *to);
/* Whether all of it is zeroes because nothing is under the image there. */
static inline bool qcow2_nothing_under(const struct qcow2 *q, uint64_t offset)
{
	return offset >= q->backing_size;
}

struct qcow2_chain;
int qcow2_backing_open(struct qcow2 *q, const struct qcow2_chain *above, struct error *e);
void qcow2_backing_close(struct qcow2 *q);

/* The images above the one that is being opened. */
struct qcow2_chain {
	const struct qcow2 *image;
	const struct qcow2_chain *above;
	unsigned depth;
};

int qcow2_open_in_chain(struct qcow2 **out, const char *path, const struct qcow2_options *options,
			const struct qcow2_chain *above, struct error *e);

/* ---- writing (qcow2_write.c, qcow2_zero.c) --------------------------------------------------- */

int qcow2_write_cursor(struct qcow2 *q, uint64_t offset, uint64_t length, struct iov_cursor *from);

/* ---- qcow2_snapshot.c, qcow2_rebuild.c ------------------------------------------------------- */

/* One L1 table that is not the active one. */
struct qcow2_snapshot {
	uint64_t l1_offset;
	uint32_t l1_size;
};

/* Checks the snapshot table; *bytes is its length in the file; *list, if not NULL, is to free. */
int qcow2_snapshots(struct qcow2 *q, struct qcow2_snapshot **list, uint64_t *bytes,
		    struct error *e);
/* Counts all references anew. While the image is being opened; nobody else is there. */
int qcow2_rebuild(struct qcow2 *q, struct error *e);

#endif
