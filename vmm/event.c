/*
 * epoll loops: see event.h. Removing a source is the delicate part: events of one epoll_wait()
 * batch may name a source that an earlier callback of the batch removed, so removal wipes it from
 * the batch; from another thread the loop itself is asked to do it.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/event.h"
#include "vmm/event_fd.h"
#include "vmm/event_turn.h"
#include "vmm/trace.h"

#define EVENT_BATCH 32

struct event_loop {
	char name[16];
	struct account *account; /* whom it serves, or NULL */
	int epoll;
	int wake; /* eventfd: messages or stop */
	bool stop;
	bool threaded;
	pthread_t thread;
	bool may_hurry; /* its thread is of SCHED_BATCH, and so by our own choice */
	struct event_turn turn;
	/* Guards the message list and `runner`; a leaf. */
	pthread_mutex_t lock;
	pthread_cond_t idle; /* runner has gone */
	bool running;
	pthread_t runner;
	struct event_message *head, **tail;
	/* Loop thread only: what is left of the current batch. */
	struct epoll_event batch[EVENT_BATCH];
	int batch_next, batch_count;
};

static void wake(struct event_loop *loop)
{
	event_fd_signal(loop->wake);
}

struct event_loop *event_loop_create(const char *name, struct error *e)
{
	struct event_loop *loop = calloc(1, sizeof(*loop));
	struct epoll_event ev = { .events = EPOLLIN };
	int err;

	if (!loop) {
		error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	snprintf(loop->name, sizeof(loop->name), "%s", name);
	loop->tail = &loop->head;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ev.data.ptr = NULL;
	if (loop->epoll < 0 || loop->wake < 0 ||
	    epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &ev) < 0) {
		err = -errno;
		if (loop->epoll >= 0)
			close(loop->epoll);
		if (loop->wake >= 0)
			close(loop->wake);
		free(loop);
		error_set_errno(e, err, "cannot make an event loop");
		return NULL;
	}
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->idle, NULL);
	return loop;
}

void event_loop_account(struct event_loop *loop, struct account *account)
{
	loop->account = account;
}

void event_loop_destroy(struct event_loop *loop)
{
	if (!loop)
		return;
	if (loop->threaded) {
		event_loop_stop(loop);
		pthread_join(loop->thread, NULL);
	}
	close(loop->epoll);
	close(loop->wake);
	pthread_cond_destroy(&loop->idle);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

static void run_messages(struct event_loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	while (loop->head) {
		struct event_message *m = loop->head;

		loop->head = m->next;
		if (!loop->head)
			loop->tail = &loop->head;
		m->next = NULL;
		m->queued = false;
		pthread_mutex_unlock(&loop->lock);
		m->fn(m->arg);
		pthread_mutex_lock(&loop->lock);
	}
	pthread_mutex_unlock(&loop->lock);
}

static void drain_wake(struct event_loop *loop)
{
	uint64_t count;

	if (read(loop->wake, &count, sizeof(count)) < 0)
		return; /* EAGAIN: somebody else's message was run already */
}

static void call(const struct event_loop *loop, struct event_source *source, uint32_t events)
{
	uint64_t begin = trace_work_begin(loop->account);

	source->callback(source->opaque, events);
	trace_work_end(loop->account, begin, "is woken");
}

static int run_batch(struct event_loop *loop)
{
	int n = epoll_wait(loop->epoll, loop->batch, EVENT_BATCH, -1);

	account_add(loop->account, ACCOUNT_SYSCALLS, 1);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	loop->batch_count = n;
	for (loop->batch_next = 0; loop->batch_next < loop->batch_count;) {
		struct epoll_event *ev = &loop->batch[loop->batch_next++];
		struct event_source *source = ev->data.ptr;

		if (ev->events == 0)
			continue; /* removed meanwhile */
		if (source)
			call(loop, source, ev->events);
		else
			drain_wake(loop);
	}
	loop->batch_count = 0;
	return 0;
}

int event_loop_run(struct event_loop *loop)
{
	int err = 0;

	pthread_mutex_lock(&loop->lock);
	loop->runner = pthread_self();
	loop->running = true;
	pthread_mutex_unlock(&loop->lock);

	while (!err && !__atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE)) {
		run_messages(loop);
		if (!__atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE))
			err = run_batch(loop);
	}

	/*
	 * event_call() posts only while `running`, so what is queued when it goes false is all
	 * there will be from there; it must still be run, for its sender waits.
	 */
	pthread_mutex_lock(&loop->lock);
	while (loop->head) {
		pthread_mutex_unlock(&loop->lock);
		run_messages(loop);
		pthread_mutex_lock(&loop->lock);
	}
	loop->running = false;
	__atomic_store_n(&loop->stop, false, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&loop->idle);
	pthread_mutex_unlock(&loop->lock);
	return err;
}

void event_loop_stop(struct event_loop *loop)
{
	__atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
	wake(loop);
}

static void *loop_thread(void *arg)
{
	struct event_loop *loop = arg;

	pthread_setname_np(pthread_self(), loop->name);
	account_thread_begin(loop->account, loop->name);
	event_loop_run(loop);
	account_thread_end();
	return NULL;
}

static bool set_policy(int from, int to)
{
	const struct sched_param param = { 0 };

	return sched_getscheduler(0) == from && sched_setscheduler(0, to, &param) == 0;
}

/*
 * A thread that serves a device is woken by the vCPU that rings its doorbell. Where that is on the
 * last free CPU, an ordinary thread takes it from the vCPU at once, serves one request, and is
 * woken for the next. One of SCHED_BATCH gets its turn when the vCPU has nothing more to do, and
 * finds all requests there; where a CPU is free it starts there at once, as any other.
 */
static int create_thread(struct event_loop *loop)
{
	int err;

	loop->may_hurry =
		set_policy(SCHED_OTHER, SCHED_BATCH); /* the thread has it from its creator */
	err = -pthread_create(&loop->thread, NULL, loop_thread, loop);
	if (loop->may_hurry)
		set_policy(SCHED_BATCH, SCHED_OTHER);
	return err;
}

void event_loop_took(struct event_loop *loop, unsigned n)
{
	if (loop->may_hurry && event_turn_took(&loop->turn, n))
		set_policy(loop->turn.prompt ? SCHED_BATCH : SCHED_OTHER,
			   loop->turn.prompt ? SCHED_OTHER : SCHED_BATCH);
}

int event_loop_start(struct event_loop *loop, struct error *e)
{
	int err;

	/* Marked running at once: a call made before the thread gets going must wait for it. */
	pthread_mutex_lock(&loop->lock);
	loop->running = true;
	err = create_thread(loop);
	if (err)
		loop->running = false;
	else
		loop->runner = loop->thread;
	loop->threaded = !err;
	pthread_mutex_unlock(&loop->lock);
	return err ? error_set_errno(e, err, "cannot start thread %s", loop->name) : 0;
}

static bool on_loop_thread(const struct event_loop *loop)
{
	return loop->running && pthread_equal(loop->runner, pthread_self());
}

bool event_loop_is_current(const struct event_loop *loop)
{
	struct event_loop *l = (struct event_loop *)loop; /* only for its lock */
	bool current;

	pthread_mutex_lock(&l->lock);
	current = on_loop_thread(l);
	pthread_mutex_unlock(&l->lock);
	return current;
}

int event_add(struct event_loop *loop, struct event_source *source)
{
	struct epoll_event ev = { .events = source->events, .data.ptr = source };

	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, source->fd, &ev) < 0)
		return -errno;
	source->loop = loop;
	return 0;
}

int event_modify(struct event_source *source, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = source };

	if (!source->loop)
		return -EINVAL;
	source->events = events;
	return epoll_ctl(source->loop->epoll, EPOLL_CTL_MOD, source->fd, &ev) < 0 ? -errno : 0;
}

static void del_on_loop(void *arg)
{
	struct event_source *source = arg;
	struct event_loop *loop = source->loop;

	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	for (int i = loop->batch_next; i < loop->batch_count; i++)
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].events = 0;
	source->loop = NULL;
}

void event_del(struct event_source *source)
{
	if (source->loop)
		event_call(source->loop, del_on_loop, source);
}

/* ---- timers ---------------------------------------------------------------------------------- */

static void timer_fired(void *opaque, uint32_t events)
{
	struct event_timer *timer = opaque;
	uint64_t count;

	(void)events;
	/* Cancelled or set anew since epoll_wait() returned: not due. */
	if (read(timer->source.fd, &count, sizeof(count)) < 0)
		return;
	timer->callback(timer->opaque);
}

int event_timer_init(struct event_timer *timer, struct event_loop *loop)
{
	int err;

	timer->source = (struct event_source){
		.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.events = EPOLLIN,
		.callback = timer_fired,
		.opaque = timer,
	};
	if (timer->source.fd < 0)
		return -errno;
	err = event_add(loop, &timer->source);
	if (err) {
		close(timer->source.fd);
		timer->source.fd = -1;
	}
	return err;
}

void event_timer_set(struct event_timer *timer, uint64_t ns_from_now)
{
	struct itimerspec when = {
		.it_value = { .tv_sec = (time_t)(ns_from_now / 1000000000u),
			      .tv_nsec = (long)(ns_from_now % 1000000000u) },
	};

	timerfd_settime(timer->source.fd, 0, &when, NULL);
}

void event_timer_destroy(struct event_timer *timer)
{
	if (!timer->source.loop)
		return;
	event_del(&timer->source);
	close(timer->source.fd);
	timer->source.fd = -1;
}

/* ---- messages -------------------------------------------------------------------------------- */

static bool post_locked(struct event_loop *loop, struct event_message *message)
{
	if (message->queued)
		return false;
	message->queued = true;
	message->next = NULL;
	*loop->tail = message;
	loop->tail = &message->next;
	return true;
}

void event_post(struct event_loop *loop, struct event_message *message)
{
	bool queued;

	pthread_mutex_lock(&loop->lock);
	queued = post_locked(loop, message);
	pthread_mutex_unlock(&loop->lock);
	if (queued)
		wake(loop);
}

struct call {
	struct event_message message;
	void (*fn)(void *arg);
	void *arg;
	struct event_loop *loop;
	pthread_cond_t done_cond;
	bool done;
};

static void run_call(void *arg)
{
	struct call *call = arg;

	call->fn(call->arg);
	pthread_mutex_lock(&call->loop->lock);
	call->done = true;
	pthread_cond_signal(&call->done_cond);
	pthread_mutex_unlock(&call->loop->lock);
}

void event_call(struct event_loop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = {
		.message = { .fn = run_call, .arg = &call },
		.fn = fn,
		.arg = arg,
		.loop = loop,
		.done_cond = PTHREAD_COND_INITIALIZER,
	};

	pthread_mutex_lock(&loop->lock);
	if (!loop->running || on_loop_thread(loop)) {
		pthread_mutex_unlock(&loop->lock);
		fn(arg);
		return;
	}
	post_locked(loop, &call.message);
	wake(loop);
	while (!call.done)
		pthread_cond_wait(&call.done_cond, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
	pthread_cond_destroy(&call.done_cond);
}
