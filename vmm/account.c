/*
 * Accounts and their counters: see account.h. In: account_add() from everywhere. Out: sums. What
 * the counters are called and mean is one table here; JSON, live table and man page come from it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/account_internal.h"
#include "vmm/trace.h"

const struct account_counter_info account_counters[ACCOUNT_COUNTERS] = {
	[ACCOUNT_PIO_READS] = { "pio_reads", NULL, "", "port reads that left the kernel" },
	[ACCOUNT_PIO_WRITES] = { "pio_writes", NULL, "", "port writes that left the kernel" },
	[ACCOUNT_MMIO_READS] = { "mmio_reads", NULL, "", "MMIO reads that left the kernel" },
	[ACCOUNT_MMIO_WRITES] = { "mmio_writes", NULL, "", "MMIO writes that left the kernel" },
	[ACCOUNT_CONFIG_READS] = { "config_reads", NULL, "",
				   "reads of its PCI configuration space; their exits count for "
				   "the machine" },
	[ACCOUNT_CONFIG_WRITES] = { "config_writes", NULL, "", "writes of it, likewise" },
	[ACCOUNT_REPEATS] = { "repeats", NULL, "",
			      "further accesses of a string instruction, in one exit" },
	[ACCOUNT_POSTED] = { "posted_writes", NULL, "",
			     "register writes that KVM held back until the next exit" },
	[ACCOUNT_KICKS] = { "kicks_ioeventfd", "kick/s", "",
			    "doorbells rung without leaving the kernel" },
	[ACCOUNT_KICKS_EXIT] = { "kicks_exit", NULL, "", "doorbells that came as an exit" },
	[ACCOUNT_KICKS_OWN] = { "kicks_own", NULL, "",
				"doorbells that mvm rang: another turn, a start" },
	[ACCOUNT_KICKS_SUPPRESSED] = { "kicks_suppressed", NULL, "",
				       "requests that came without a doorbell of their own" },
	[ACCOUNT_WAKEUPS] = { "wakeups", NULL, "", "times a data plane's thread was woken" },
	[ACCOUNT_IRQS_IRQFD] = { "irqs_irqfd", NULL, "", "messages sent through an irqfd by mvm" },
	[ACCOUNT_IRQS_IOCTL] = { "irqs_ioctl", NULL, "", "messages sent by KVM_SIGNAL_MSI" },
	[ACCOUNT_IRQS_LINE] = { "irqs_line", NULL, "", "times a line was raised" },
	[ACCOUNT_IRQS_OWN] = { "irqs_own", NULL, "", "messages sent to mvm's own local APICs" },
	[ACCOUNT_IRQS_SUPPRESSED] = { "irqs_suppressed", NULL, "",
				      "interrupts that the driver did not want" },
	[ACCOUNT_REQUESTS] = { "requests", "req/s", "", "requests, frames or buffers taken" },
	[ACCOUNT_BYTES_OUT] = { "bytes_out", "out/s", "bytes", "from the guest" },
	[ACCOUNT_BYTES_IN] = { "bytes_in", "in/s", "bytes", "to the guest" },
	[ACCOUNT_COPIED] = { "bytes_copied", NULL, "bytes", "copied by mvm on their way" },
	[ACCOUNT_COPIED_KERNEL] = { "bytes_copied_kernel", NULL, "bytes",
				    "copied by the host's kernel in mvm's system calls" },
	[ACCOUNT_SYSCALLS] = { "syscalls", "sys/s", "", "system calls of the data plane" },
	[ACCOUNT_ERRORS] = { "errors", NULL, "", "requests that failed, frames that were lost" },
};

/*
 * A thread belongs to one machine for its whole life, so these are its own and no machine's. What
 * makes counting cheap: the slot is one load away.
 */
_Thread_local unsigned account_slot;

/* ---- counting -------------------------------------------------------------------------------- */

static void add_shared(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* The block of the calling thread, made at its first use; NULL: it has none, use a->shared. */
static __attribute__((noinline)) struct account_block *make_block(struct account *a)
{
	struct account_block *b;

	if (account_slot == 0)
		return NULL;
	b = aligned_alloc(64, (sizeof(*b) + 63) & ~(size_t)63);
	if (!b)
		return NULL;
	memset(b, 0, sizeof(*b));
	__atomic_store_n(&a->block[account_slot], b, __ATOMIC_RELEASE);
	return b;
}

static inline struct account_block *my_block(struct account *a)
{
	struct account_block *b = a->block[account_slot];

	return __builtin_expect(b != NULL, 1) ? b : make_block(a);
}

void account_add_shared(struct account *a, enum account_counter c, uint64_t n)
{
	struct account_block *b = my_block(a);

	if (b)
		account_bump(&b->value[c], n);
	else
		add_shared(&a->shared.value[c], n);
}

/* The power of two below or at n, at most limit - 1. */
static unsigned bucket(uint64_t n, unsigned limit)
{
	unsigned log = 63u - (unsigned)__builtin_clzll(n | 1);

	return log < limit ? log : limit - 1;
}

/* Stamps of requests that are taken together differ by a tick: each names one of them. */
static void trace_taken(struct account *a, unsigned n, uint64_t now)
{
	for (unsigned i = 0; i < n; i++) {
		struct trace_event event = { .kind = TRACE_TAKEN, .at = now, .id = now + i };

		trace_put(a, &event);
	}
}

static void trace_used(struct account *a, uint64_t since, uint64_t now)
{
	struct trace_event event = { .kind = TRACE_USED, .at = now, .id = since };

	event.a = now > since ? now - since : 0;
	trace_put(a, &event);
}

uint64_t account_begin(struct account *a, unsigned n, unsigned depth)
{
	struct account_block *b;
	unsigned at = bucket(depth, ACCOUNT_DEPTHS);
	uint64_t now;

	if (!a)
		return 0;
	b = my_block(a);
	if (b) {
		account_bump(&b->value[ACCOUNT_REQUESTS], n);
		account_bump(&b->depth[at], n);
	} else {
		add_shared(&a->shared.value[ACCOUNT_REQUESTS], n);
		add_shared(&a->shared.depth[at], n);
	}
	now = ticks_now(a->ticks);
	if (trace_on(a))
		trace_taken(a, n, now);
	return now;
}

void account_end(struct account *a, uint64_t since)
{
	struct account_block *b;
	uint64_t ticks, now;
	unsigned at;

	if (!a || !since)
		return;
	now = ticks_now(a->ticks);
	if (trace_on(a))
		trace_used(a, since, now);
	ticks = now - since;
	if (ticks >> 63)
		ticks = 0; /* another CPU's counter is a little behind */
	at = bucket(ticks, ACCOUNT_BUCKETS);
	b = my_block(a);
	if (b) {
		account_bump(&b->latency[at], 1);
		account_bump(&b->latency_ticks, ticks);
	} else {
		add_shared(&a->shared.latency[at], 1);
		add_shared(&a->shared.latency_ticks, ticks);
	}
}

/* ---- the set --------------------------------------------------------------------------------- */

struct accounts *accounts_create(void)
{
	struct accounts *set = calloc(1, sizeof(*set));

	if (!set)
		return NULL;
	pthread_mutex_init(&set->lock, NULL);
	ticks_init(&set->ticks);
	set->last = &set->first;
	if (!account_create(set, "machine", NULL, NULL, NULL)) {
		accounts_destroy(set);
		return NULL;
	}
	return set;
}

static void account_free(struct account *a)
{
	struct account_watch *watch;

	for (unsigned i = 0; i < ACCOUNT_SLOTS; i++)
		free(a->block[i]);
	while ((watch = a->watches)) {
		a->watches = watch->next;
		free(watch);
	}
	account_tasks_free(a);
	free(a);
}

void accounts_destroy(struct accounts *set)
{
	struct account *a;

	if (!set)
		return;
	while ((a = set->first)) {
		set->first = a->next;
		account_free(a);
	}
	pthread_mutex_destroy(&set->lock);
	free(set);
}

void accounts_calibrate(struct accounts *set)
{
	if (set)
		ticks_calibrate(&set->ticks);
}

struct account *account_machine(struct accounts *set)
{
	return set ? set->first : NULL;
}

struct account *accounts_first(struct accounts *set)
{
	return set ? set->first : NULL;
}

const struct ticks *accounts_ticks(const struct accounts *set)
{
	return &set->ticks;
}

struct account *account_create(struct accounts *set, const char *name, const char *class,
			       const char *model, const char *hw)
{
	struct account *a = set ? calloc(1, sizeof(*a)) : NULL;

	if (!a)
		return NULL;
	a->set = set;
	a->ticks = &set->ticks;
	a->id = set->count++;
	a->class = class;
	a->model = model;
	a->hw = hw;
	snprintf(a->name, sizeof(a->name), "%s", name);
	*set->last = a;
	set->last = &a->next;
	return a;
}

/* ---- doorbells ------------------------------------------------------------------------------- */

/* How often an eventfd that nobody reads was signalled: fdinfo tells without touching it. */
static uint64_t eventfd_count(int fd)
{
	char path[48], text[256], *at;
	int info;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	if (info < 0)
		return 0;
	n = read(info, text, sizeof(text) - 1);
	close(info);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strstr(text, "eventfd-count:");
	return at ? strtoull(at + strlen("eventfd-count:"), NULL, 16) : 0;
}

void account_watch_kicks(struct account *a, int eventfd)
{
	struct account_watch *watch = a ? malloc(sizeof(*watch)) : NULL;

	if (!watch)
		return;
	watch->fd = eventfd;
	pthread_mutex_lock(&a->set->lock);
	watch->next = a->watches;
	a->watches = watch;
	pthread_mutex_unlock(&a->set->lock);
}

void account_unwatch_kicks(struct account *a, int eventfd)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->set->lock);
	for (struct account_watch **link = &a->watches; *link; link = &(*link)->next) {
		struct account_watch *watch = *link;

		if (watch->fd != eventfd)
			continue;
		a->unwatched += eventfd_count(eventfd);
		*link = watch->next;
		free(watch);
		break;
	}
	pthread_mutex_unlock(&a->set->lock);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void sum_up(uint64_t *sum, const uint64_t *from, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		sum[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

static void sum_block(struct account_block *sum, const struct account_block *b)
{
	sum_up(sum->value, b->value, ACCOUNT_COUNTERS);
	sum_up(sum->latency, b->latency, ACCOUNT_BUCKETS);
	sum_up(&sum->latency_ticks, &b->latency_ticks, 1);
	sum_up(sum->depth, b->depth, ACCOUNT_DEPTHS);
}

void account_read(struct account *a, struct account_block *sum)
{
	uint64_t rung, ours, kicks;

	memset(sum, 0, sizeof(*sum));
	if (!a)
		return;
	sum_block(sum, &a->shared);
	for (unsigned i = 1; i < ACCOUNT_SLOTS; i++) {
		const struct account_block *b = __atomic_load_n(&a->block[i], __ATOMIC_ACQUIRE);

		if (b)
			sum_block(sum, b);
	}
	pthread_mutex_lock(&a->set->lock);
	rung = a->unwatched;
	for (const struct account_watch *watch = a->watches; watch; watch = watch->next)
		rung += eventfd_count(watch->fd);
	pthread_mutex_unlock(&a->set->lock);
	/* Of those, mvm has counted its own; one that came meanwhile is not there yet. */
	ours = sum->value[ACCOUNT_KICKS_OWN] + sum->value[ACCOUNT_KICKS_EXIT];
	sum->value[ACCOUNT_KICKS] += rung > ours ? rung - ours : 0;
	kicks = sum->value[ACCOUNT_KICKS] + sum->value[ACCOUNT_KICKS_EXIT];
	if (kicks && sum->value[ACCOUNT_REQUESTS] > kicks)
		sum->value[ACCOUNT_KICKS_SUPPRESSED] = sum->value[ACCOUNT_REQUESTS] - kicks;
}

uint64_t account_exits(const struct account_block *sum)
{
	return sum->value[ACCOUNT_PIO_READS] + sum->value[ACCOUNT_PIO_WRITES] +
	       sum->value[ACCOUNT_MMIO_READS] + sum->value[ACCOUNT_MMIO_WRITES];
}

uint64_t account_irqs(const struct account_block *sum)
{
	return sum->value[ACCOUNT_IRQS_IRQFD] + sum->value[ACCOUNT_IRQS_IOCTL] +
	       sum->value[ACCOUNT_IRQS_LINE] + sum->value[ACCOUNT_IRQS_OWN];
}

uint64_t account_latency_ns(const struct account *a, const struct account_block *sum,
			    double percent)
{
	uint64_t total = 0, below = 0;
	double wanted;

	for (unsigned i = 0; i < ACCOUNT_BUCKETS; i++)
		total += sum->latency[i];
	wanted = (double)total * percent / 100;
	for (unsigned i = 0; i < ACCOUNT_BUCKETS; i++) {
		double part, edge = (double)(1ull << i);

		if (sum->latency[i] == 0 || (double)(below + sum->latency[i]) < wanted) {
			below += sum->latency[i];
			continue;
		}
		part = (wanted - (double)below) / (double)sum->latency[i];
		return ticks_to_ns(a->ticks, (uint64_t)(edge + part * edge));
	}
	return 0;
}
