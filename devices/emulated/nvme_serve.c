/*
 * I/O submission queues: from a doorbell, by register or by shadow, to commands being executed; the
 * threads that do it, and the reasons not to. NVM Express Base 1.4 sections 4.1 and 7.13.
 *
 * A doorbell's value is not in an eventfd's signal. So a register write signals an eventfd inside
 * the kernel only while the driver keeps the value in memory too (Doorbell Buffer Config); until it
 * does, and for drivers that never do, each write exits with its value, whatever doorbell= says.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/emulated/nvme.h"
#include "vmm/event_fd.h"
#include "vmm/trace.h"

/* Commands between two kicks of the backend, and in one turn of a loop or exit of a vCPU. */
#define BATCH  64u
#define BUDGET 256u

static void account(struct nvme_sq *sq, enum account_counter counter, uint64_t n)
{
	account_add(sq->n->dev.account, counter, n);
}

static void signal_loop(struct nvme_sq *sq)
{
	account(sq, ACCOUNT_SYSCALLS, 1);
	event_fd_signal(sq->kick.fd);
}

void nvme_sq_wake(struct nvme_sq *sq)
{
	account(sq, ACCOUNT_KICKS_OWN, 1);
	signal_loop(sq);
}

void nvme_sq_wake_all(struct nvme *n)
{
	for (unsigned i = 1; i <= n->nqueues; i++)
		nvme_sq_wake(&n->sq[i]);
}

void nvme_sq_complete(struct nvme_sq *sq, uint16_t cid, uint16_t status)
{
	nvme_cq_post(sq->cq, sq->id, sq->head, cid, status, 0);
}

/* After a run of completions; the backend's callback, lock held. */
static void completed(void *opaque)
{
	struct nvme_sq *sq = opaque;

	nvme_cq_notify(sq->cq);
	if (sq->throttled && !sq->serving)
		nvme_sq_wake(sq);
}

/* ---- the tail -------------------------------------------------------------------------------- */

static void set_event(struct nvme_sq *sq, uint32_t value)
{
	__atomic_store_n(sq->event, value, __ATOMIC_RELAXED);
}

/* Takes the driver's word where the queue ends now, if it can be. */
static void look_at_tail(struct nvme_sq *sq)
{
	uint32_t tail = sq->shadow_tail ? __atomic_load_n(sq->shadow_tail, __ATOMIC_ACQUIRE)
					: __atomic_load_n(&sq->doorbell, __ATOMIC_ACQUIRE);

	if (tail < sq->size)
		sq->tail = tail;
	else
		nvme_bad_doorbell(sq->n, NVME_EVENT_INVALID_VALUE);
}

/* True if commands came while the driver was being told to ring again. */
static bool more_after_event(struct nvme_sq *sq)
{
	if (!sq->shadow_tail)
		return false;
	set_event(sq, sq->tail);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	look_at_tail(sq);
	return sq->head != sq->tail;
}

/* ---- fetching -------------------------------------------------------------------------------- */

static void fetch(struct nvme_sq *sq)
{
	struct nvme_command c;

	memcpy(&c, &sq->entry[sq->head], sizeof(c));
	if (++sq->head == sq->size)
		sq->head = 0;
	nvme_io_start(sq, &c);
}

/* Up to n commands; how many. *stopped: it cannot go on before something else has ended. */
static unsigned fetch_some(struct nvme_sq *sq, unsigned n, bool *stopped)
{
	unsigned i;

	for (i = 0; i < n && sq->head != sq->tail; i++) {
		sq->throttled = !sq->free;
		*stopped = sq->throttled || !nvme_cq_reserve(sq->cq);
		if (*stopped)
			break;
		fetch(sq);
	}
	return i;
}

/* All there is, or what the budget allows; true if more came at the last moment. */
static bool pass(struct nvme_sq *sq, unsigned *budget)
{
	bool stopped = false;

	while (sq->head != sq->tail) {
		*budget -= fetch_some(sq, *budget < BATCH ? *budget : BATCH, &stopped);
		block_queue_kick(sq->backend);
		nvme_cq_notify(sq->cq);
		if (stopped || *budget == 0)
			return false;
		look_at_tail(sq);
	}
	return more_after_event(sq);
}

static bool may_serve(const struct nvme_sq *sq)
{
	return sq->live && !(sq->held & (NVME_HOLD_PAUSE | NVME_HOLD_DMA));
}

static unsigned serve(struct nvme_sq *sq)
{
	unsigned budget = BUDGET;

	if (!may_serve(sq))
		return 0;
	sq->serving = true;
	sq->throttled = false;
	look_at_tail(sq);
	/* While it is awake it need not be rung: the place that must be told of stays behind. */
	if (sq->shadow_tail)
		set_event(sq, sq->head ? sq->head - 1 : sq->size - 1);
	while (pass(sq, &budget))
		continue;
	sq->serving = false;
	if (budget == 0 || (sq->throttled && sq->free))
		nvme_sq_wake(sq);
	else
		block_queue_kick(sq->backend); /* nothing more came */
	return BUDGET - budget;
}

/* How many commands it took. */
static unsigned serve_now(struct nvme_sq *sq)
{
	unsigned took;

	trace_kick_taken(sq->n->dev.account);
	pthread_mutex_lock(&sq->lock);
	took = serve(sq);
	pthread_mutex_unlock(&sq->lock);
	return took;
}

static void kicked(void *opaque, uint32_t events)
{
	struct nvme_sq *sq = opaque;
	unsigned took;

	(void)events;
	account(sq, ACCOUNT_WAKEUPS, 1);
	took = serve_now(sq);
	if (took && sq->loop)
		event_loop_took(sq->loop, took);
}

void nvme_sq_ring(struct nvme_sq *sq, uint32_t value)
{
	if (!__atomic_load_n(&sq->live, __ATOMIC_ACQUIRE)) {
		nvme_bad_doorbell(sq->n, NVME_EVENT_INVALID_DOORBELL);
		return;
	}
	account(sq, ACCOUNT_KICKS_EXIT, 1);
	trace_kick(sq->n->dev.account);
	__atomic_store_n(&sq->doorbell, value, __ATOMIC_RELEASE);
	if (sq->n->inline_doorbells)
		serve_now(sq);
	else
		signal_loop(sq);
}

/* ---- starting, stopping, holding ------------------------------------------------------------- */

static int make_pool(struct nvme_sq *sq)
{
	unsigned depth = sq->size - 1 < NVME_DEPTH ? sq->size - 1 : NVME_DEPTH;

	sq->pool = calloc(depth, sizeof(*sq->pool));
	if (!sq->pool)
		return -ENOMEM;
	sq->free = NULL;
	for (unsigned i = 0; i < depth; i++) {
		sq->pool[i].next = sq->free;
		sq->free = &sq->pool[i];
	}
	return 0;
}

int nvme_sq_start(struct nvme_sq *sq, const struct nvme_command *entry, uint32_t size,
		  struct nvme_cq *cq)
{
	int err;

	pthread_mutex_lock(&sq->lock);
	sq->size = size;
	sq->head = sq->tail = 0;
	sq->entry = entry;
	sq->cq = cq;
	sq->shadow_tail = sq->event = NULL;
	sq->throttled = false;
	sq->in_flight = 0;
	sq->held = sq->n->held;
	__atomic_store_n(&sq->doorbell, 0, __ATOMIC_RELAXED);
	err = make_pool(sq);
	sq->stopping = false;
	__atomic_store_n(&sq->live, !err, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&sq->lock);
	return err;
}

void nvme_sq_shadow(struct nvme_sq *sq, uint32_t *tail, uint32_t *event)
{
	pthread_mutex_lock(&sq->lock);
	/* The register's word up to here; from here on the shadow's. */
	__atomic_store_n(tail, sq->tail, __ATOMIC_RELAXED);
	__atomic_store_n(event, sq->tail, __ATOMIC_RELAXED);
	sq->shadow_tail = tail;
	sq->event = event;
	pthread_mutex_unlock(&sq->lock);
}

void nvme_sq_stop(struct nvme_sq *sq)
{
	pthread_mutex_lock(&sq->lock);
	if (sq->live) {
		sq->stopping = true;
		block_queue_drain(sq->backend);
		__atomic_store_n(&sq->live, false, __ATOMIC_RELEASE);
		free(sq->pool);
		sq->pool = sq->free = NULL;
		sq->shadow_tail = sq->event = NULL;
	}
	pthread_mutex_unlock(&sq->lock);
}

void nvme_hold(struct nvme *n, unsigned reason, bool hold)
{
	n->held = hold ? n->held | reason : n->held & ~reason;
	for (unsigned i = 1; i <= n->nqueues; i++) {
		struct nvme_sq *sq = &n->sq[i];
		bool news;

		pthread_mutex_lock(&sq->lock);
		news = n->held & ~sq->held;
		sq->held = n->held; /* first: what is long ends early */
		if (sq->live && news)
			block_queue_drain(sq->backend); /* what completes now still is told of */
		pthread_mutex_unlock(&sq->lock);
		if (!hold)
			nvme_sq_wake(sq);
	}
}

struct nvme_counts nvme_counts(struct nvme *n)
{
	struct nvme_counts sum = { 0 };

	for (unsigned i = 1; i <= n->nqueues; i++) {
		struct nvme_sq *sq = &n->sq[i];

		pthread_mutex_lock(&sq->lock);
		sum.reads += sq->counts.reads;
		sum.writes += sq->counts.writes;
		sum.bytes_read += sq->counts.bytes_read;
		sum.bytes_written += sq->counts.bytes_written;
		sum.media_errors += sq->counts.media_errors;
		pthread_mutex_unlock(&sq->lock);
	}
	return sum;
}

/* ---- life ------------------------------------------------------------------------------------ */

int nvme_sq_init(struct nvme *n, unsigned id, bool iothread, struct error *e)
{
	struct nvme_sq *sq = &n->sq[id];
	struct block_queue_config backend = {
		.loop = n->dev.host->loop,
		.lock = &sq->lock,
		.depth = NVME_DEPTH,
		.completed = completed,
		.opaque = sq,
		.name = n->dev.name,
		.account = n->dev.account,
	};
	char name[16];
	int err;

	snprintf(name, sizeof(name), id > 1 ? "%.10s.%u" : "%.10s", n->dev.name, id - 1);
	if (iothread) {
		sq->loop = event_loop_create(name, e);
		if (!sq->loop)
			return -ENOMEM;
		event_loop_account(sq->loop, n->dev.account);
		backend.loop = sq->loop;
		backend.may_wait = !n->inline_doorbells;
	}
	/* Edge-triggered and never read. */
	sq->kick = (struct event_source){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.events = EPOLLIN | EPOLLET,
		.callback = kicked,
		.opaque = sq,
	};
	err = sq->kick.fd < 0 ? -errno : event_add(backend.loop, &sq->kick);
	if (err)
		return error_set_errno(e, err, "cannot make a doorbell");
	/* Only there does the guest ring it. */
	if (!n->inline_doorbells)
		account_watch_kicks(n->dev.account, sq->kick.fd);
	err = block_queue_create(&sq->backend, n->block, &backend, e);
	if (err)
		return err;
	return sq->loop ? event_loop_start(sq->loop, e) : 0;
}

void nvme_sq_destroy(struct nvme_sq *sq)
{
	event_del(&sq->kick);
	account_unwatch_kicks(sq->n->dev.account, sq->kick.fd);
	block_queue_destroy(sq->backend);
	event_loop_destroy(sq->loop);
	if (sq->kick.fd >= 0)
		close(sq->kick.fd);
	free(sq->pool);
}
