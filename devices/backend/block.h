/*
 * Block backends: the bytes of a disk. One asynchronous interface for every front end (virtio-blk,
 * IDE, NVMe, our vhost-user process) and every format (raw now; qcow2) and engine (threads now;
 * io_uring). Requests carry host iovecs that the front end has already checked against guest RAM.
 *
 * A block has queues. A queue's calls are serialised by a lock of the front end's, and it has an
 * event loop whose thread, with that lock taken, delivers the completions that come later.
 */
#ifndef DEVICES_BACKEND_BLOCK_H
#define DEVICES_BACKEND_BLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/error.h"
#include "vmm/event.h"

#define BLOCK_SECTOR 512u

struct block;
struct block_queue;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

const char *block_op_name(enum block_op op); /* for traces: constant text */

/* Embedded in the front end's request; lives until done() has been called. */
struct block_request {
	enum block_op op;
	uint64_t offset;   /* bytes, a multiple of the logical block */
	uint64_t length;   /* bytes, likewise; for READ and WRITE the sum of the iovecs */
	bool unmap;	   /* WRITE_ZEROES: may deallocate */
	bool stable;	   /* WRITE, WRITE_ZEROES: on stable storage before it is done */
	struct iovec *iov; /* not changed; must live as long as the request */
	int niov;	   /* at most UIO_MAXIOV */
	/*
	 * result: 0, or -errno (-EIO, -ENOSPC, -EROFS, -EINVAL …). Called with the queue's lock
	 * held, from block_queue_kick(), block_queue_drain() or the loop, never from submit. May
	 * submit (and need not kick then).
	 */
	void (*done)(struct block_request *request, int result);
	struct block_request *next; /* the queue's */
	int result;		    /* likewise */
};

enum block_format { BLOCK_RAW, BLOCK_QCOW2 };

enum block_cache {
	BLOCK_CACHE_WRITEBACK, /* the host's page cache; FLUSH reaches the disk */
	BLOCK_CACHE_DIRECT,    /* data passes by the page cache (O_DIRECT) */
	BLOCK_CACHE_UNSAFE,    /* the page cache, and FLUSH does nothing */
};

enum block_engine { BLOCK_ENGINE_AUTO, BLOCK_ENGINE_IO_URING, BLOCK_ENGINE_THREADS };

struct block_config {
	const char *path;
	enum block_format format;
	enum block_cache cache;
	enum block_engine engine;
	bool read_only;
	bool no_backing; /* qcow2: refuse an image that has a backing file */
};

struct block_info {
	uint64_t size;		 /* bytes, a multiple of logical_block: a ragged end is cut off */
	uint32_t logical_block;	 /* bytes, a power of two of at least 512 */
	uint32_t physical_block; /* bytes, a multiple of it */
	bool read_only;
	bool can_discard, can_write_zeroes;
};

/*
 * Opens and locks the image (a second writer is refused, with its path named in e). -EINVAL for
 * what cannot be a disk, -EBUSY if somebody else has it, -ENOTSUP, or errno of open(2).
 */
int block_open(struct block **out, const struct block_config *config, struct error *e);
void block_close(struct block *block); /* all queues gone before; NULL is nothing */
const struct block_info *block_info(const struct block *block);

struct block_queue_config {
	struct event_loop *loop;
	/* Held by whoever calls the queue; NULL where only the loop's thread does. */
	pthread_mutex_t *lock;
	unsigned depth; /* most requests in flight that the front end will have */
	bool may_wait;	/* whoever kicks serves nothing but this queue, and may wait for a disk */
	/* After a run of done() calls, with the lock held: publish them at once. May be NULL. */
	void (*completed)(void *opaque);
	void *opaque;
	const char *name;	 /* for threads: "blk0" */
	struct account *account; /* whom this serves; may be NULL */
};

int block_queue_create(struct block_queue **out, struct block *block,
		       const struct block_queue_config *config, struct error *e);
/* Waits until nothing is in flight; done() has then been called for all. Lock held, any thread. */
void block_queue_drain(struct block_queue *q);
void block_queue_destroy(struct block_queue *q); /* drained; lock not held; NULL is nothing */

/*
 * Queues a request, which starts at the next block_queue_kick(); that starts all that wait with as
 * few system calls as the engine can, and may complete some. READ and WRITE beyond the end or
 * unaligned complete with -EINVAL, what changes a read-only disk with -EROFS, what the format
 * cannot with -ENOTSUP.
 *
 * A kick with nothing submitted says that the front end goes to sleep: nothing came in while it was
 * busy. The engine learns from that whether anybody would mind its blocking.
 */
void block_queue_submit(struct block_queue *q, struct block_request *request);
void block_queue_kick(struct block_queue *q);

#endif
