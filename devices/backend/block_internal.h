/*
 * Between block.c, the image formats and the engines; nobody else includes this. A format is
 * synchronous and thread-safe: "do this now". An engine decides on which thread, and when.
 */
#ifndef DEVICES_BACKEND_BLOCK_INTERNAL_H
#define DEVICES_BACKEND_BLOCK_INTERNAL_H

#include "devices/backend/block.h"
#include "devices/backend/block_extent.h"
#include "devices/backend/block_file.h"

#define BLOCK_NOWAIT (1u << 0) /* -EAGAIN rather than wait for a disk; -EOPNOTSUPP if it cannot */

/* Any thread, concurrently. The range has been checked. 0 or -errno; all is done or it failed. */
struct block_format_ops {
	int (*read)(struct block *b, const struct block_request *r, unsigned flags);
	int (*write)(struct block *b, const struct block_request *r, unsigned flags);
	int (*flush)(struct block *b); /* what was complete before is on stable storage after */
	int (*discard)(struct block *b, const struct block_request *r);
	int (*write_zeroes)(struct block *b, const struct block_request *r);
	void (*close)(struct block *b); /* frees b */
	/* Its system calls count there; before any request. */
	void (*account)(struct block *b, struct account *account);
	/*
	 * For engines that transfer READ and WRITE themselves, on block_file_data_fd(b->file). map:
	 * false if it cannot be said at once where that is; else it stays there until unmap. May
	 * both be NULL.
	 */
	bool (*map)(struct block *b, const struct block_request *r, struct block_extent *x);
	void (*unmap)(struct block *b, struct block_extent *x);
};

/* First member of a format's own. */
struct block {
	const struct block_format_ops *ops;
	struct block_info info;
	bool in_memory; /* on tmpfs and the like: nothing ever waits for a disk */
	/* For engines that transfer data themselves: */
	enum block_engine engine; /* which one the user wants */
	struct block_file *file;  /* where the data is; NULL: nowhere in particular */
	bool flush_is_sync;	  /* flush() does no more than sync the file */
	bool said;		  /* that there is no io_uring */
};

struct block_engine_ops {
	/* Starts q->pending; completions it has at once go to block_finish(). */
	void (*kick)(struct block_queue *q);
	/* Waits for at least one completion and hands what there is to block_finish(). */
	void (*wait)(struct block_queue *q);
	void (*destroy)(struct block_queue *q); /* frees q */
};

struct block_list {
	struct block_request *head, **tail;
};

static inline void block_list_init(struct block_list *list)
{
	list->head = NULL;
	list->tail = &list->head;
}

static inline void block_list_add(struct block_list *list, struct block_request *r)
{
	r->next = NULL;
	*list->tail = r;
	list->tail = &r->next;
}

static inline struct block_request *block_list_take(struct block_list *list)
{
	struct block_request *r = list->head;

	if (r) {
		list->head = r->next;
		if (!list->head)
			list->tail = &list->head;
	}
	return r;
}

/* Moves all of one to the end of another. */
static inline void block_list_move(struct block_list *to, struct block_list *from)
{
	if (!from->head)
		return;
	*to->tail = from->head;
	to->tail = from->tail;
	block_list_init(from);
}

/* First member of an engine's own. Guarded by the front end's lock. */
struct block_queue {
	const struct block_engine_ops *ops;
	struct block *block;
	struct block_queue_config config;
	struct block_list pending;  /* submitted, not started */
	struct block_list finished; /* result known, done() not called */
	unsigned in_flight;	    /* with the engine */
	bool delivering;
};

/* Engines: r has its result; done() follows at the end of the current call. Lock held. */
static inline void block_finish(struct block_queue *q, struct block_request *r, int result)
{
	r->result = result;
	block_list_add(&q->finished, r);
}

/* Calls done() for all that is finished, then completed(). Lock held. */
void block_deliver(struct block_queue *q);
/* The request, now, on this thread. */
int block_perform(struct block *b, const struct block_request *r, unsigned flags);

/* Formats: fill *out, as block_open(). */
int block_raw_open(struct block **out, const struct block_config *config, struct error *e);
int block_qcow2_open(struct block **out, const struct block_config *config, struct error *e);

/* Engines. */
int block_threads_create(struct block_queue **out, struct block *block,
			 const struct block_queue_config *config, struct error *e);
/* -ENOSYS, -EPERM or -ENOMEM if the kernel does not let us. */
int block_uring_create(struct block_queue **out, struct block *block,
		       const struct block_queue_config *config, struct error *e);

#endif
