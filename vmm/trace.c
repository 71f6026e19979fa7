/*
 * Collecting events and having them written: see trace.h. A ring has one thread that puts and one,
 * the writer, that takes; head and tail are the only things they share.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "vmm/log.h"
#include "vmm/trace_internal.h"

#define MAX_RINGS 400u
#define PERIOD_NS 20000000u

/*
 * A thread's own, as account_slot is: its ring, in the machine it belongs to, and the request that
 * it gave back last, so that an interrupt that follows is known to be for that.
 */
static _Thread_local struct {
	struct trace_ring *ring;
	struct account *account;
	uint64_t id, at;
} mine;

/* ---- the threads' side ----------------------------------------------------------------------- */

static __attribute__((noinline)) struct trace_ring *make_ring(struct trace *t)
{
	struct trace_ring *ring = NULL;
	int tid = (int)syscall(SYS_gettid);

	pthread_mutex_lock(&t->lock);
	/* One that this thread has had in another life of a trace, or left for another machine's.
	 */
	for (ring = t->rings; ring && ring->tid != tid; ring = ring->next)
		continue;
	if (!ring && t->nrings < MAX_RINGS) {
		ring = calloc(1, sizeof(*ring));
		if (ring) {
			ring->trace = t;
			ring->tid = tid;
			pthread_getname_np(pthread_self(), ring->name, sizeof(ring->name));
			ring->next = t->rings;
			t->rings = ring;
			t->nrings++;
		}
	}
	pthread_mutex_unlock(&t->lock);
	mine.ring = ring;
	return ring;
}

static void hurry(struct trace *t)
{
	pthread_mutex_lock(&t->lock);
	t->hurry = true;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
}

static void put(struct account *a, struct trace_event *event)
{
	struct trace *t = trace_of(a);
	struct trace_ring *ring = mine.ring;
	uint64_t used;

	if (!t)
		return;
	if (!ring || ring->trace != t)
		ring = make_ring(t);
	if (!ring) {
		__atomic_fetch_add(&t->homeless, 1, __ATOMIC_RELAXED);
		return;
	}
	used = ring->head - __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	if (used >= TRACE_RING) {
		account_bump(&ring->dropped, 1);
		return;
	}
	event->account = a->id;
	ring->event[ring->head % TRACE_RING] = *event;
	__atomic_store_n(&ring->head, ring->head + 1, __ATOMIC_RELEASE);
	if (used == TRACE_RING / 2)
		hurry(t);
}

/* The request before had no interrupt of its own: its arrow ends where it was given back. */
static void end_last(void)
{
	struct trace_event done = { .kind = TRACE_DONE, .id = mine.id, .at = mine.at };

	if (mine.id)
		put(mine.account, &done);
	mine.id = 0;
}

void trace_put(struct account *a, struct trace_event *event)
{
	if (!event->at)
		event->at = account_now(a);
	if (event->kind == TRACE_USED || event->kind == TRACE_ACCESS)
		end_last();
	if (event->kind == TRACE_USED) {
		mine.account = a;
		mine.id = event->id;
		mine.at = event->at;
	}
	put(a, event);
}

uint64_t trace_take_last(struct account *a)
{
	uint64_t id = mine.account == a ? mine.id : 0;

	if (id)
		mine.id = 0;
	return id;
}

void trace_work_put(struct account *a, uint64_t begin, const char *name)
{
	struct trace_event event = { .kind = TRACE_WORK, .at = begin, .name = name };

	end_last();
	event.end = account_now(a);
	trace_put(a, &event);
}

void trace_interrupt(struct account *a, uint64_t begin, const char *way, uint64_t what)
{
	struct trace_event event = { .kind = TRACE_INTERRUPT, .at = begin, .name = way, .a = what };

	event.end = account_now(a);
	event.id = trace_take_last(a);
	trace_put(a, &event);
}

void trace_exit(struct account *a, uint64_t begin, const char *why)
{
	struct trace_event event = { .kind = TRACE_EXIT, .at = begin, .name = why };

	event.end = account_now(a);
	trace_put(a, &event);
}

/* Kicks that meet before the work has begun are one: the arrow of the first ends at the second. */
void trace_kick(struct account *a)
{
	struct trace *t = trace_of(a);
	struct trace_event event = { .kind = TRACE_KICK };
	uint64_t met;

	if (!t)
		return;
	event.id = __atomic_add_fetch(&t->last_arrow, 1, __ATOMIC_RELAXED);
	trace_put(a, &event);
	met = __atomic_exchange_n(&a->trace_kick, event.id, __ATOMIC_ACQ_REL);
	event = (struct trace_event){ .kind = TRACE_KICK_TAKEN, .id = met };
	if (met)
		trace_put(a, &event);
}

void trace_kick_taken(struct account *a)
{
	struct trace_event event = { .kind = TRACE_KICK_TAKEN };

	if (!trace_on(a))
		return;
	event.id = __atomic_exchange_n(&a->trace_kick, 0, __ATOMIC_ACQ_REL);
	if (event.id)
		trace_put(a, &event);
}

/* ---- the writer ------------------------------------------------------------------------------ */

const struct account *trace_account(const struct trace *t, uint32_t id)
{
	const struct account *a = accounts_first(t->accounts);

	while (a && a->id != id)
		a = a->next;
	return a;
}

uint64_t trace_dropped(struct trace *t)
{
	uint64_t n = __atomic_load_n(&t->homeless, __ATOMIC_RELAXED);

	pthread_mutex_lock(&t->lock);
	for (const struct trace_ring *ring = t->rings; ring; ring = ring->next)
		n += __atomic_load_n(&ring->dropped, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&t->lock);
	return n;
}

static void collect_ring(struct trace *t, struct trace_ring *ring)
{
	uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE), tail = ring->tail;

	for (; tail != head && t->nbatch < t->room; tail++)
		t->batch[t->nbatch++] = (struct trace_item){
			.event = ring->event[tail % TRACE_RING],
			.ring = ring,
		};
	__atomic_store_n(&ring->tail, tail, __ATOMIC_RELEASE);
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = ((const struct trace_item *)a)->event.at;
	uint64_t y = ((const struct trace_item *)b)->event.at;

	return x < y ? -1 : x > y;
}

static void write_item(struct trace *t, const struct trace_item *item)
{
	if (!t->full && t->limit && t->written >= t->limit) {
		t->full = true;
		log_warn("the trace has reached its limit of %llu bytes; the rest is not written",
			 (unsigned long long)t->limit);
	}
	if (t->full) {
		t->lost++;
		return;
	}
	t->events++;
	if (t->text)
		trace_text_item(t, item);
	else
		trace_json_item(t, item);
}

/* All that is in the rings now; what comes meanwhile is for the next time. */
static void write_all(struct trace *t)
{
	struct trace_ring *first;
	struct termios tty;

	if (t->text) /* the guest's console may have made it raw meanwhile */
		t->raw = tcgetattr(fileno(t->out), &tty) == 0 && !(tty.c_oflag & OPOST);
	pthread_mutex_lock(&t->lock);
	first = t->rings; /* those in front of it later are not looked at */
	pthread_mutex_unlock(&t->lock);
	do {
		t->nbatch = 0;
		for (struct trace_ring *ring = first; ring; ring = ring->next)
			collect_ring(t, ring);
		qsort(t->batch, t->nbatch, sizeof(*t->batch), by_time);
		for (size_t i = 0; i < t->nbatch; i++)
			write_item(t, &t->batch[i]);
	} while (t->nbatch == t->room);
	fflush(t->out);
}

static void *writer(void *arg)
{
	struct trace *t = arg;
	bool stop;

	pthread_setname_np(pthread_self(), "trace");
	do {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += PERIOD_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_mutex_lock(&t->lock);
		while (!t->stop && !t->hurry &&
		       pthread_cond_timedwait(&t->wake, &t->lock, &until) != ETIMEDOUT)
			continue;
		stop = t->stop;
		t->hurry = false;
		pthread_mutex_unlock(&t->lock);
		write_all(t);
	} while (!stop);
	return NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int choose(struct trace *t, const char *devices, struct error *e)
{
	const char *at = devices;

	if (!devices) {
		for (struct account *a = accounts_first(t->accounts); a; a = a->next)
			__atomic_store_n(&a->trace, t, __ATOMIC_RELEASE);
		return 0;
	}
	while (*at) {
		size_t len = strcspn(at, "+");
		struct account *a = accounts_first(t->accounts);

		while (a && (strlen(a->name) != len || memcmp(a->name, at, len) != 0))
			a = a->next;
		if (!a) {
			char names[400] = "";
			size_t used = 0;

			for (a = accounts_first(t->accounts); a && used < sizeof(names);
			     a = a->next)
				used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
							 used ? ", " : "", a->name);
			return error_set(e, -ENOENT,
					 "--trace: there is no device \"%.*s\"; there are: %s",
					 (int)len, at, names);
		}
		__atomic_store_n(&a->trace, t, __ATOMIC_RELEASE);
		at += len + (at[len] == '+');
	}
	return 0;
}

static int open_output(struct trace *t, const char *path, struct error *e)
{
	if (path) {
		t->out = fopen(path, "we");
		if (!t->out)
			return error_set_errno(e, -errno, "--trace=%s: cannot write there", path);
		setvbuf(t->out, NULL, _IOFBF, 1u << 16);
		return 0;
	}
	t->text = true;
	t->out = fdopen(dup(STDERR_FILENO), "w");
	if (!t->out)
		return error_set_errno(e, -errno, "--trace=text: stderr cannot be written to");
	setvbuf(t->out, NULL, _IOFBF, 1u << 16);
	return 0;
}

/* It takes no signals: those are the main thread's. */
static int start_writer(struct trace *t, struct error *e)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = -pthread_create(&t->writer, NULL, writer, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	t->started = !err;
	return err ? error_set_errno(e, err, "cannot start the trace's thread") : 0;
}

int trace_start(struct trace **out, const struct trace_config *config, struct accounts *accounts,
		struct error *e)
{
	struct trace *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;
	int err;

	if (!t)
		return error_set(e, -ENOMEM, "out of memory");
	t->accounts = accounts;
	t->ticks = accounts_ticks(accounts);
	t->limit = config->limit;
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->wake, &attr);
	pthread_condattr_destroy(&attr);
	t->room = 2 * TRACE_RING;
	t->batch = malloc(t->room * sizeof(*t->batch));
	/* The names first: a wrong one must not cost an older trace. */
	err = t->batch ? choose(t, config->devices, e) : error_set(e, -ENOMEM, "out of memory");
	if (!err)
		err = open_output(t, config->path, e);
	if (!err && !t->text)
		trace_json_begin(t);
	if (!err)
		err = start_writer(t, e);
	if (err) {
		trace_stop(t);
		return err;
	}
	*out = t;
	return 0;
}

void trace_stop(struct trace *t)
{
	struct trace_ring *ring;

	if (!t)
		return;
	for (struct account *a = accounts_first(t->accounts); a; a = a->next)
		__atomic_store_n(&a->trace, NULL, __ATOMIC_RELEASE);
	if (t->started) {
		pthread_mutex_lock(&t->lock);
		t->stop = true;
		pthread_cond_signal(&t->wake);
		pthread_mutex_unlock(&t->lock);
		pthread_join(t->writer, NULL);
	}
	if (t->out) {
		if (t->text)
			trace_text_end(t);
		else
			trace_json_end(t);
		if (ferror(t->out) | fclose(t->out))
			log_error("--trace: it could not be written as a whole");
	}
	/* Threads that had a ring must not take it for a new trace's at the same address. */
	mine.ring = NULL;
	while ((ring = t->rings)) {
		t->rings = ring->next;
		free(ring);
	}
	pthread_cond_destroy(&t->wake);
	pthread_mutex_destroy(&t->lock);
	free(t->batch);
	free(t);
}
