/*
 * The thread engine: synchronous formats behind an asynchronous queue.
 *
 * Handing a request to another thread and back costs two context switches and about four system
 * calls (futex, eventfd, two waits); a read from the page cache is one system call. So the thread
 * that kicks does itself what will not wait for a disk:
 *
 * - everything on an image that lives in memory (tmpfs);
 * - reads and writes that the kernel takes with RWF_NOWAIT, which fails instead of waiting;
 * - a single request when nothing else is in flight, if the thread is the queue's own: it may wait,
 *   since with one request at a time (depth 1) there is nobody to be held up. If more requests turn
 * out to have come meanwhile, the guest does have others, and the next ones that would wait go to
 * workers.
 *
 * At depth 1 that leaves one system call for the data, against five or more. The rest goes to up to
 * MAX_WORKERS threads, started as they are needed. Their completions are collected in a list, and
 * only the first into an empty list signals the loop.
 *
 * Locks: the front end's (config.lock), then t->mutex.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/backend/block_internal.h"
#include "vmm/event_fd.h"
#include "vmm/trace.h"

#define MAX_WORKERS  8u
#define WORKER_STACK (256u << 10)
#define BUSY_FOR     64u	/* requests before blocking is tried again */
#define LONG	     (1u << 20) /* bytes whose copying alone keeps others waiting */

struct threads {
	struct block_queue q;
	/* Guarded by the front end's lock. */
	bool blocked_here; /* since the front end last slept */
	unsigned busy;	   /* single requests that still go to workers */
	bool nowait_read, nowait_write;
	struct event_source wake; /* fd: an eventfd, signalled by workers */

	pthread_mutex_t mutex; /* guards the rest */
	pthread_cond_t work, finished;
	struct block_list todo, done;
	unsigned ntodo;
	unsigned idle; /* workers that wait, or were just started: each takes one of todo */
	unsigned nworkers, nnamed;
	bool stop;
	pthread_t worker[MAX_WORKERS];
};

static struct threads *threads_of(struct block_queue *q)
{
	return (struct threads *)q; /* first member */
}

/* ---- workers --------------------------------------------------------------------------------- */

static void signal_loop(struct threads *t)
{
	account_add(t->q.config.account, ACCOUNT_SYSCALLS, 1);
	event_fd_signal(t->wake.fd);
}

static void *worker(void *arg)
{
	struct threads *t = arg;
	char name[16];

	snprintf(name, sizeof(name), "%.10s-io", t->q.config.name);
	account_thread_begin(t->q.config.account, name);
	pthread_mutex_lock(&t->mutex);
	/* Of itself, as that takes no file in /proc, which a sandbox may not have. */
	snprintf(name, sizeof(name), "%.10s-io%u", t->q.config.name, t->nnamed++);
	pthread_setname_np(pthread_self(), name);
	for (;;) {
		struct block_request *r;
		uint64_t begin;
		bool first;

		while (!t->todo.head && !t->stop)
			pthread_cond_wait(&t->work, &t->mutex);
		r = block_list_take(&t->todo);
		if (!r)
			break;
		t->ntodo--;
		t->idle--;
		pthread_mutex_unlock(&t->mutex);
		begin = trace_work_begin(t->q.config.account);
		r->result = block_perform(t->q.block, r, 0);
		trace_work_end(t->q.config.account, begin, "transfers data");
		pthread_mutex_lock(&t->mutex);
		first = !t->done.head;
		block_list_add(&t->done, r);
		t->idle++;
		pthread_cond_signal(&t->finished);
		if (first) {
			pthread_mutex_unlock(&t->mutex);
			signal_loop(t);
			pthread_mutex_lock(&t->mutex);
		}
	}
	pthread_mutex_unlock(&t->mutex);
	account_thread_end();
	return NULL;
}

/* Signals are the main thread's; t->mutex held. */
static bool start_worker(struct threads *t)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int err;

	if (t->nworkers == MAX_WORKERS)
		return false;
	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKER_STACK);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&t->worker[t->nworkers], &attr, worker, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (err)
		return false;
	t->nworkers++;
	t->idle++;
	return true;
}

/* False if there is nobody to do it. */
static bool hand_over(struct threads *t, struct block_list *list, unsigned n)
{
	pthread_mutex_lock(&t->mutex);
	while (t->idle < t->ntodo + n && start_worker(t))
		continue;
	if (t->nworkers == 0) {
		pthread_mutex_unlock(&t->mutex);
		return false;
	}
	block_list_move(&t->todo, list);
	t->ntodo += n;
	for (unsigned wake = 0; wake < n && wake < MAX_WORKERS; wake++)
		pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->mutex);
	t->q.in_flight += n;
	return true;
}

/* ---- the kicking thread ---------------------------------------------------------------------- */

/* Is nobody held up by doing it here, wait or no wait? See the top. */
static bool may_block(struct threads *t, const struct block_request *r, bool alone)
{
	if (r->op > BLOCK_FLUSH || r->length > LONG)
		return false;
	if (t->q.block->in_memory)
		return true;
	if (!alone || !t->q.config.may_wait || r->op == BLOCK_FLUSH || r->stable)
		return false; /* beside a flush, a thread switch is nothing */
	if (t->blocked_here)
		t->busy = BUSY_FOR;
	if (t->busy) {
		t->busy--;
		return false;
	}
	t->blocked_here = true;
	return true;
}

static bool try_nowait(struct threads *t, struct block_request *r)
{
	bool *can = r->op == BLOCK_READ ? &t->nowait_read : &t->nowait_write;
	int result;

	if (r->op > BLOCK_WRITE || r->stable || r->length > LONG || !*can)
		return false;
	result = block_perform(t->q.block, r, BLOCK_NOWAIT);
	if (result == -EOPNOTSUPP)
		*can = false;
	if (result)
		return false; /* a real error comes again in the worker */
	block_finish(&t->q, r, 0);
	return true;
}

static void threads_kick(struct block_queue *q)
{
	struct threads *t = threads_of(q);
	struct block_list rest;
	struct block_request *r;
	bool alone = q->in_flight == 0 && q->pending.head && !q->pending.head->next;
	unsigned n = 0;

	if (!q->pending.head)
		t->blocked_here = false;
	block_list_init(&rest);
	while ((r = block_list_take(&q->pending))) {
		if (may_block(t, r, alone)) {
			block_finish(q, r, block_perform(q->block, r, 0));
		} else if (!try_nowait(t, r)) {
			block_list_add(&rest, r);
			n++;
		}
	}
	if (n && !hand_over(t, &rest, n))
		while ((r = block_list_take(&rest)))
			block_finish(q, r, block_perform(q->block, r, 0));
}

/* ---- completions ----------------------------------------------------------------------------- */

/* What workers have done; t->mutex held, as is the front end's. */
static void collect(struct threads *t)
{
	struct block_request *r;

	while ((r = block_list_take(&t->done))) {
		t->q.in_flight--;
		block_finish(&t->q, r, r->result);
	}
}

static void threads_wait(struct block_queue *q)
{
	struct threads *t = threads_of(q);

	pthread_mutex_lock(&t->mutex);
	while (!t->done.head)
		pthread_cond_wait(&t->finished, &t->mutex);
	collect(t);
	pthread_mutex_unlock(&t->mutex);
}

static void woken(void *opaque, uint32_t events)
{
	struct threads *t = opaque;
	pthread_mutex_t *lock = t->q.config.lock;

	(void)events;
	if (lock)
		pthread_mutex_lock(lock);
	pthread_mutex_lock(&t->mutex);
	collect(t);
	pthread_mutex_unlock(&t->mutex);
	block_deliver(&t->q);
	if (t->q.pending.head)
		block_queue_kick(&t->q);
	if (lock)
		pthread_mutex_unlock(lock);
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static void threads_destroy(struct block_queue *q)
{
	struct threads *t = threads_of(q);

	event_del(&t->wake);
	pthread_mutex_lock(&t->mutex);
	t->stop = true;
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->mutex);
	for (unsigned i = 0; i < t->nworkers; i++)
		pthread_join(t->worker[i], NULL);
	if (t->wake.fd >= 0)
		close(t->wake.fd);
	pthread_cond_destroy(&t->work);
	pthread_cond_destroy(&t->finished);
	pthread_mutex_destroy(&t->mutex);
	free(t);
}

static const struct block_engine_ops threads_ops = {
	.kick = threads_kick,
	.wait = threads_wait,
	.destroy = threads_destroy,
};

int block_threads_create(struct block_queue **out, struct block *block,
			 const struct block_queue_config *config, struct error *e)
{
	struct threads *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return error_set(e, -ENOMEM, "out of memory");
	t->q.ops = &threads_ops;
	t->q.block = block;
	t->q.config = *config;
	block_list_init(&t->q.pending);
	block_list_init(&t->q.finished);
	block_list_init(&t->todo);
	block_list_init(&t->done);
	t->nowait_read = t->nowait_write = true;
	pthread_mutex_init(&t->mutex, NULL);
	pthread_cond_init(&t->work, NULL);
	pthread_cond_init(&t->finished, NULL);
	/* Edge-triggered and never read: see virtio_queue_init(). */
	t->wake = (struct event_source){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.events = EPOLLIN | EPOLLET,
		.callback = woken,
		.opaque = t,
	};
	err = t->wake.fd < 0 ? -errno : event_add(config->loop, &t->wake);
	if (err) {
		threads_destroy(&t->q);
		return error_set_errno(e, err, "cannot make a queue for disk requests");
	}
	*out = &t->q;
	return 0;
}
