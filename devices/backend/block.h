/*
 * Block backends: the bytes of a disk. One asynchronous interface for every front end (virtio-blk,
 * IDE, NVMe, our vhost-user process) and every format (raw now; qcow2) and engine (threads now;
 * io_uring). Requests carry host iovecs that the front end has already checked against guest RAM.
 *
 * A block has queues; a queue belongs to one thread (event loop) which submits and gets
 * completions.
 */
#ifndef DEVICES_BACKEND_BLOCK_H
#define DEVICES_BACKEND_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/error.h"
#include "vmm/event.h"

#define BLOCK_SECTOR 512u

struct block;
struct block_queue;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

/* Embedded in the front end's request; lives until done() has been called. */
struct block_request {
	enum block_op op;
	uint64_t offset;   /* bytes, a multiple of 512 */
	uint64_t length;   /* bytes; for READ and WRITE the sum of the iovecs */
	bool unmap;	   /* WRITE_ZEROES: may deallocate */
	struct iovec *iov; /* not changed; must live as long as the request */
	int niov;
	/* result: 0, or -errno (-EIO, -ENOSPC, -EROFS, -EINVAL). On the queue's thread. */
	void (*done)(struct block_request *request, int result);
	struct block_request *next; /* the engine's */
};

enum block_format { BLOCK_RAW, BLOCK_QCOW2 };

struct block_config {
	const char *path;
	enum block_format format;
	bool read_only;
};

struct block_info {
	uint64_t size; /* bytes, a multiple of 512 (the rest of a ragged file is cut off) */
	uint32_t logical_block;	 /* bytes, 512 or 4096 */
	uint32_t physical_block; /* bytes */
	bool read_only;
	bool can_discard, can_write_zeroes;
};

/* Opens and locks the image (a second writer is refused, with its path named in e). */
int block_open(struct block **out, const struct block_config *config, struct error *e);
void block_close(struct block *block); /* all queues gone before */
const struct block_info *block_info(const struct block *block);

/* depth: how many requests may be in flight at most. Completions run on loop's thread. */
int block_queue_create(struct block_queue **out, struct block *block, struct event_loop *loop,
		       unsigned depth, struct error *e);
/* Waits until nothing is in flight; done() has then been called for all. */
void block_queue_drain(struct block_queue *q);
void block_queue_destroy(struct block_queue *q);

/*
 * Queues a request; it may start at once or at block_queue_kick(), which starts all that wait with
 * as few system calls as the engine can. done() is never called from inside submit. READ/WRITE
 * beyond the end, unaligned or a WRITE on read-only complete with -EINVAL / -EROFS.
 */
void block_queue_submit(struct block_queue *q, struct block_request *request);
void block_queue_kick(struct block_queue *q);

#endif
