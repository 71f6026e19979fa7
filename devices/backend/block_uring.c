/*
 * The io_uring engine: the kernel transfers the data of many requests per system call, and no
 * thread of ours waits for a disk.
 *
 * What the ring gets are READ and WRITE whose place in the file is known at once, and the sync of a
 * FLUSH where that is all a FLUSH does. Everything else needs a format's code or several system
 * calls, and goes to a thread engine inside this one: qcow2 requests that allocate, DISCARD and
 * WRITE_ZEROES and writes into the page cache (which the kernel hands to threads of its own anyway,
 * and those writes to one at a time), iovecs that O_DIRECT does not take as they are. So does
 * whatever the ring returns half done or with an error: the threads do it again, from the begin,
 * and what they say counts. Not so a FLUSH: the kernel tells of data that it could not write once,
 * and then of none.
 *
 * As in the thread engine, a request that is alone is done by the kicking thread if that serves
 * nothing else: it is one system call either way, and none for the completion. Failing that, it is
 * tried with RWF_NOWAIT: for one request on cached bytes that costs a third less than the ring; for
 * several at once the ring costs less.
 *
 * The ring's descriptor itself is in the event loop's epoll set: no eventfd, and nothing to read
 * when completions were collected by a kick already. COOP_TASKRUN keeps the kernel from
 * interrupting a thread for completions. DEFER_TASKRUN would bind the ring to one thread, but a
 * queue is kicked and drained by whichever thread has its lock. The guest's memory is not
 * registered: backends know nothing of it, only of iovecs, and fixed buffers take one at a time.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/backend/block_internal.h"

#define MAX_DEPTH 1024u
#define BUSY_FOR  64u	     /* requests before blocking is tried again */
#define LONG	  (1u << 20) /* bytes whose copying alone keeps others waiting */
#define BATCH	  32u

/* A request in the ring. */
struct uring_op {
	struct block_request *request;
	struct block_extent extent;
	struct uring_op *next; /* free, or not yet with the kernel */
};

struct uring {
	struct block_queue q; /* in_flight: in the ring and with the threads */
	struct block_queue *threads;
	struct io_uring ring;
	bool has_ring, fixed_file;
	bool broken; /* the kernel takes no more: threads only */
	bool kicking;
	unsigned in_ring; /* with the kernel, or queued for it */
	struct event_source source;
	bool blocked_here; /* since the front end last slept */
	unsigned busy;	   /* single requests that are not waited for */
	struct uring_op *free;
	struct uring_op *queued, **queued_tail; /* prepared, not submitted */
	struct uring_op *ops;
};

static struct uring *uring_of(struct block_queue *q)
{
	return (struct uring *)q; /* first member */
}

static void count(struct uring *u)
{
	u->q.in_flight = u->in_ring + u->threads->in_flight;
}

static void to_threads(struct uring *u, struct block_request *r)
{
	block_list_add(&u->threads->pending, r); /* it has been checked */
}

static void give_back(struct uring *u, struct uring_op *op)
{
	if (op->request->op != BLOCK_FLUSH && u->q.block->ops->unmap)
		u->q.block->ops->unmap(u->q.block, &op->extent);
	op->request = NULL;
	op->next = u->free;
	u->free = op;
	u->in_ring--;
}

/* ---- into the ring --------------------------------------------------------------------------- */

static void prepare(struct uring *u, struct io_uring_sqe *sqe, struct uring_op *op)
{
	const struct block_request *r = op->request;
	int fd = u->fixed_file ? 0 : block_file_data_fd(u->q.block->file);

	if (r->op == BLOCK_FLUSH)
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	else if (r->op == BLOCK_READ && r->niov == 1)
		io_uring_prep_read(sqe, fd, r->iov->iov_base, (unsigned)r->iov->iov_len,
				   op->extent.offset);
	else if (r->op == BLOCK_READ)
		io_uring_prep_readv(sqe, fd, r->iov, (unsigned)r->niov, op->extent.offset);
	else if (r->niov == 1)
		io_uring_prep_write(sqe, fd, r->iov->iov_base, (unsigned)r->iov->iov_len,
				    op->extent.offset);
	else
		io_uring_prep_writev(sqe, fd, r->iov, (unsigned)r->niov, op->extent.offset);
	if (r->op == BLOCK_WRITE && r->stable && !u->q.block->file->unsafe)
		sqe->rw_flags = RWF_DSYNC;
	if (u->fixed_file)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, op);
}

static bool fits(const struct uring *u, const struct block_request *r)
{
	const struct block *b = u->q.block;

	switch (r->op) {
	case BLOCK_FLUSH:
		return b->flush_is_sync && !b->file->unsafe && !b->info.read_only;
	case BLOCK_WRITE:
		if (b->file->direct < 0)
			return false;
		/* fall through */
	case BLOCK_READ:
		return r->length <= INT32_MAX && block_file_aligned(b->file, r->iov, r->niov);
	case BLOCK_DISCARD:
	case BLOCK_WRITE_ZEROES:
		break;
	}
	return false;
}

static bool to_ring(struct uring *u, struct block_request *r)
{
	struct uring_op *op = u->free;
	struct io_uring_sqe *sqe;

	if (u->broken || !op || !fits(u, r) || io_uring_sq_space_left(&u->ring) == 0)
		return false;
	if (r->op != BLOCK_FLUSH && !u->q.block->ops->map(u->q.block, r, &op->extent))
		return false;
	sqe = io_uring_get_sqe(&u->ring); /* there is space */
	u->free = op->next;
	op->request = r;
	op->next = NULL;
	*u->queued_tail = op;
	u->queued_tail = &op->next;
	u->in_ring++;
	prepare(u, sqe, op);
	return true;
}

/* ---- out of the ring ------------------------------------------------------------------------- */

/* The ring itself could not; anything else is what the sync has to say, and said once. */
static bool not_done(int res)
{
	return res == -ECANCELED || res == -EOPNOTSUPP || res == -EINVAL;
}

static void complete(struct uring *u, struct uring_op *op, int res)
{
	struct block_request *r = op->request;
	bool flush = r->op == BLOCK_FLUSH;
	bool again = flush ? not_done(res) : res < 0 || (uint64_t)res != r->length;

	give_back(u, op);
	if (again) {
		to_threads(u, r);
		return;
	}
	if (!flush && u->q.block->file->direct < 0)
		account_add(u->q.config.account, ACCOUNT_COPIED_KERNEL, (uint64_t)res);
	block_finish(&u->q, r, flush ? block_file_synced(u->q.block->file, res) : 0);
}

/* No system call, unless completions wait for one. */
static void collect(struct uring *u)
{
	struct io_uring_cqe *cqe[BATCH];
	unsigned n;

	while ((n = io_uring_peek_batch_cqe(&u->ring, cqe, BATCH))) {
		for (unsigned i = 0; i < n; i++)
			complete(u, io_uring_cqe_get_data(cqe[i]), cqe[i]->res);
		io_uring_cq_advance(&u->ring, n);
	}
}

/* What the kernel has not taken goes to the threads; what it has, will still come back. */
static void break_ring(struct uring *u)
{
	u->broken = true;
	while (u->queued) {
		struct uring_op *op = u->queued;
		struct block_request *r = op->request;

		u->queued = op->next;
		give_back(u, op);
		to_threads(u, r);
	}
	u->queued_tail = &u->queued;
}

static void submit(struct uring *u)
{
	for (unsigned tries = 0; u->queued && tries < 8;) {
		int n = io_uring_submit(&u->ring);

		account_add(u->q.config.account, ACCOUNT_SYSCALLS, 1);
		if (n <= 0) {
			if (n != -EAGAIN && n != -EBUSY && n != -EINTR && n != 0)
				break;
			tries++;
			collect(u);
			continue;
		}
		for (; n > 0 && u->queued; n--)
			u->queued = u->queued->next;
		if (!u->queued)
			u->queued_tail = &u->queued;
	}
	if (u->queued)
		break_ring(u);
}

/* ---- the queue ------------------------------------------------------------------------------- */

/* A single request, and the thread is the queue's own. See block_threads.c. */
static bool may_block(struct uring *u, const struct block_request *r, bool alone)
{
	if (!alone || !u->q.config.may_wait || r->op > BLOCK_WRITE || r->stable || r->length > LONG)
		return false;
	if (u->blocked_here)
		u->busy = BUSY_FOR;
	if (u->busy) {
		u->busy--;
		return false;
	}
	u->blocked_here = true;
	return true;
}

static bool try_nowait(struct uring *u, struct block_request *r, bool single)
{
	if (!single || r->op != BLOCK_READ || r->length > LONG || u->q.block->file->direct >= 0 ||
	    block_perform(u->q.block, r, BLOCK_NOWAIT))
		return false;
	block_finish(&u->q, r, 0);
	return true;
}

static void start(struct uring *u)
{
	struct block_queue *q = &u->q;
	bool single = q->pending.head && !q->pending.head->next;
	bool alone = single && q->in_flight == 0;
	struct block_request *r;

	if (!q->pending.head)
		u->blocked_here = false;
	while ((r = block_list_take(&q->pending))) {
		if (may_block(u, r, alone))
			block_finish(q, r, block_perform(q->block, r, 0));
		else if (try_nowait(u, r, single))
			continue;
		else if (!to_ring(u, r))
			to_threads(u, r);
	}
	submit(u);
	collect(u);
}

static void uring_kick(struct block_queue *q)
{
	struct uring *u = uring_of(q);

	if (u->kicking) /* from done(), from below; the loop at the end sees to it */
		return;
	u->kicking = true;
	start(u);
	if (u->threads->pending.head)
		block_queue_kick(u->threads);
	count(u);
	u->kicking = false;
}

/* After done() calls by the threads' queue, which knows nothing of this one. */
static void threads_completed(void *opaque)
{
	struct uring *u = opaque;

	count(u);
	if (u->q.config.completed)
		u->q.config.completed(u->q.config.opaque);
	if (u->q.pending.head && !u->kicking)
		block_queue_kick(&u->q);
}

static void uring_wait(struct block_queue *q)
{
	struct uring *u = uring_of(q);

	if (u->in_ring) {
		struct io_uring_cqe *cqe;

		(void)io_uring_wait_cqe(&u->ring, &cqe);
		collect(u);
	} else if (u->threads->in_flight) {
		u->threads->ops->wait(u->threads);
		block_list_move(&q->finished, &u->threads->finished);
	}
	if (u->threads->pending.head)
		block_queue_kick(u->threads);
	count(u);
}

static void ready(void *opaque, uint32_t events)
{
	struct uring *u = opaque;
	pthread_mutex_t *lock = u->q.config.lock;

	(void)events;
	if (lock)
		pthread_mutex_lock(lock);
	collect(u);
	if (u->threads->pending.head)
		block_queue_kick(u->threads);
	count(u);
	block_deliver(&u->q);
	if (u->q.pending.head)
		block_queue_kick(&u->q);
	if (lock)
		pthread_mutex_unlock(lock);
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static void uring_destroy(struct block_queue *q)
{
	struct uring *u = uring_of(q);

	event_del(&u->source);
	block_queue_destroy(u->threads);
	/* The ring itself goes later, and must not take the image's lock with it. */
	if (u->fixed_file)
		io_uring_unregister_files(&u->ring);
	if (u->has_ring)
		io_uring_queue_exit(&u->ring);
	free(u->ops);
	free(u);
}

static int make_ring(struct uring *u, unsigned depth, struct error *e)
{
	static const unsigned flags[] = { IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL, 0 };
	int err = -EINVAL, fd = block_file_data_fd(u->q.block->file);

	for (unsigned i = 0; i < 2 && err == -EINVAL; i++) { /* -EINVAL: an older kernel */
		struct io_uring_params params = { .flags = flags[i] | IORING_SETUP_CLAMP };

		err = io_uring_queue_init_params(depth, &u->ring, &params);
	}
	if (err)
		return error_set_errno(e, err, "the kernel refuses io_uring");
	u->has_ring = true;
	u->fixed_file = io_uring_register_files(&u->ring, &fd, 1) == 0;
	u->source.fd = u->ring.ring_fd;
	return 0;
}

static int make_ops(struct uring *u, unsigned depth)
{
	u->ops = calloc(depth, sizeof(*u->ops));
	for (unsigned i = 0; u->ops && i < depth; i++) {
		u->ops[i].next = u->free;
		u->free = &u->ops[i];
	}
	return u->ops ? 0 : -ENOMEM;
}

static int set_up(struct uring *u, struct error *e)
{
	struct block_queue_config inner = u->q.config;
	unsigned depth = u->q.config.depth;
	int err;

	if (depth == 0 || depth > MAX_DEPTH)
		depth = MAX_DEPTH; /* more than that wait, or go to the threads */
	err = make_ring(u, depth, e);
	if (err)
		return err;
	inner.may_wait =
		false; /* what must wait is not alone: the ring may hold what it waits for */
	inner.completed = threads_completed;
	inner.opaque = u;
	err = block_threads_create(&u->threads, u->q.block, &inner, e);
	if (err)
		return err;
	err = make_ops(u, depth);
	if (!err)
		err = event_add(u->q.config.loop, &u->source);
	return err ? error_set_errno(e, err, "cannot make a queue for disk requests") : 0;
}

static const struct block_engine_ops uring_ops = {
	.kick = uring_kick,
	.wait = uring_wait,
	.destroy = uring_destroy,
};

int block_uring_create(struct block_queue **out, struct block *block,
		       const struct block_queue_config *config, struct error *e)
{
	struct uring *u = calloc(1, sizeof(*u));
	int err;

	if (!u)
		return error_set(e, -ENOMEM, "out of memory");
	u->q.ops = &uring_ops;
	u->q.block = block;
	u->q.config = *config;
	block_list_init(&u->q.pending);
	block_list_init(&u->q.finished);
	u->queued_tail = &u->queued;
	u->source = (struct event_source){
		.fd = -1, .events = EPOLLIN, .callback = ready, .opaque = u
	};
	err = set_up(u, e);
	if (err)
		uring_destroy(&u->q);
	else
		*out = &u->q;
	return err;
}
