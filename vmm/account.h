/*
 * Accounting: what every step of an I/O path costs, counted per device, always on. A device has an
 * account (device->account, made by device_init()); whoever does a step for it, on whatever thread,
 * says account_add(). That is a load, an add and a store: each thread has a block of plain counters
 * of its own in each account it touches, and reading sums them up.
 *
 * Who counts what, so that nobody counts twice:
 * - the bus counts exits, for the owner of the range (struct bus_range.account);
 * - irq counts interrupts, for the owner of the line or message (irq_line/irq_msi.account);
 * - event loops, block engines and net backends count the system calls they make, if they were
 *   given an account (event_loop_account(), block_queue_config.account, net_queue_account()), and
 *   VFIO those that pass on a register access;
 * - a device counts requests (account_begin(), account_end()), bytes, copies and its doorbells:
 *   eventfds that the guest rings by way of KVM are given to account_watch_kicks(), which costs
 *   nothing while it runs.
 *
 * Everything takes a NULL account and does nothing then, so tests need none. Unless it says
 * otherwise a function may be called on any thread.
 */
#ifndef VMM_ACCOUNT_H
#define VMM_ACCOUNT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/ticks.h"

/* The names, units and meanings are in account_counters[]; the order is the order shown. */
enum account_counter {
	ACCOUNT_PIO_READS,
	ACCOUNT_PIO_WRITES,
	ACCOUNT_MMIO_READS,
	ACCOUNT_MMIO_WRITES,
	ACCOUNT_CONFIG_READS,
	ACCOUNT_CONFIG_WRITES,
	ACCOUNT_REPEATS,
	ACCOUNT_POSTED,
	ACCOUNT_KICKS,
	ACCOUNT_KICKS_EXIT,
	ACCOUNT_KICKS_OWN,
	ACCOUNT_KICKS_SUPPRESSED,
	ACCOUNT_WAKEUPS,
	ACCOUNT_IRQS_IRQFD,
	ACCOUNT_IRQS_IOCTL,
	ACCOUNT_IRQS_LINE,
	ACCOUNT_IRQS_OWN,
	ACCOUNT_IRQS_SUPPRESSED,
	ACCOUNT_REQUESTS,
	ACCOUNT_BYTES_OUT,
	ACCOUNT_BYTES_IN,
	ACCOUNT_COPIED,
	ACCOUNT_COPIED_KERNEL,
	ACCOUNT_SYSCALLS,
	ACCOUNT_ERRORS,
	ACCOUNT_COUNTERS
};

struct account_counter_info {
	const char *name;	/* as in the JSON: "mmio_reads" */
	const char *short_name; /* of a column in the live table; NULL: not shown there */
	const char *unit;	/* "", "bytes" */
	const char *help;
};
extern const struct account_counter_info account_counters[ACCOUNT_COUNTERS];

#define ACCOUNT_SLOTS	320 /* threads that count without sharing; the rest share one block */
#define ACCOUNT_BUCKETS 44  /* powers of two: ticks up to hours */
#define ACCOUNT_DEPTHS	17  /* powers of two: 1, 2-3, 4-7 … 65536 and more */

/* What one thread has counted; written by that thread only. */
struct account_block {
	uint64_t value[ACCOUNT_COUNTERS];
	uint64_t latency[ACCOUNT_BUCKETS]; /* [n]: requests that took 2^n … 2^(n+1)-1 ticks */
	uint64_t latency_ticks;		   /* their sum */
	uint64_t depth[ACCOUNT_DEPTHS]; /* [n]: requests that found 2^n … in flight, them too */
};

struct accounts; /* of a machine */
struct account_watch;
struct account_task;
struct trace;

/* One device's, or the machine's own. */
struct account {
	struct accounts *set;
	const struct ticks *ticks;
	struct account *next;
	unsigned id; /* from 0, in the order made; 0 is the machine */
	char name[16];
	const char *class, *model, *hw; /* NULL for the machine */
	struct trace *trace;		/* atomic; NULL: not traced. See trace.h */
	uint64_t trace_kick;		/* atomic; trace.c's */
	/* By the thread's slot. [0] stays NULL: threads without a slot go to `shared`. */
	struct account_block *block[ACCOUNT_SLOTS];
	struct account_block shared; /* added to atomically */
	/* Guarded by the set's lock. */
	struct account_watch *watches;
	struct account_task *tasks;
	uint64_t ended_ns;  /* CPU time of threads that have ended */
	uint64_t unwatched; /* what doorbells that are no longer watched had counted */
};

/* The slot of the calling thread; set by account_thread_begin(), 0 before. Per thread. */
extern _Thread_local unsigned account_slot;

void account_add_shared(struct account *a, enum account_counter c, uint64_t n);

static inline void account_bump(uint64_t *counter, uint64_t n)
{
	/* One writer; atomic so that a reader sees whole values. No locked instruction. */
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline void account_add(struct account *a, enum account_counter c, uint64_t n)
{
	struct account_block *b;

	if (!a)
		return;
	b = a->block[account_slot];
	if (__builtin_expect(b != NULL, 1))
		account_bump(&b->value[c], n);
	else
		account_add_shared(a, c, n); /* also makes the block */
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Now, for account_end(); 0 without an account. */
static inline uint64_t account_now(const struct account *a)
{
	return a ? ticks_now(a->ticks) : 0;
}

/*
 * n requests were taken; depth: how many are in flight with them. The stamp goes to account_end();
 * of several, the i-th has the stamp + i.
 */
uint64_t account_begin(struct account *a, unsigned n, unsigned depth);
/* A request that was taken at `since` is given back; 0: it has no latency worth counting. */
void account_end(struct account *a, uint64_t since);

/* ---- doorbells ------------------------------------------------------------------------------- */

/*
 * An eventfd that the guest rings without leaving the kernel (ioeventfd) and that nobody in this
 * process reads: its count says how often. It is looked at only when somebody wants to know. What
 * mvm rings itself must be told: account_add(…, ACCOUNT_KICKS_OWN or ACCOUNT_KICKS_EXIT, 1).
 * Where somebody does read the eventfd, count what was read as ACCOUNT_KICKS instead.
 */
void account_watch_kicks(struct account *a, int eventfd);
void account_unwatch_kicks(struct account *a, int eventfd); /* before it is closed */

/* ---- threads and processes ------------------------------------------------------------------- */

/*
 * The calling thread serves this account (the machine's: account_machine()) until it ends: its CPU
 * time counts there, and it counts without sharing. Without these calls all is still right.
 */
void account_thread_begin(struct account *a, const char *name);
void account_thread_end(void);

/*
 * Somebody else that serves the account: a kernel thread or a thread that the kernel made in this
 * process (vhost's worker), or a backend's process (process true: with all its threads).
 */
void account_add_task(struct account *a, pid_t id, bool process, const char *name);
void account_remove_task(struct account *a, pid_t id); /* its CPU time so far stays */

/*
 * For kernel threads that appear in this process by a system call (VHOST_SET_OWNER, io_uring): what
 * is there before it, and then those that are new and have a name beginning with `prefix`.
 */
struct account_task_list {
	unsigned count;
	pid_t id[256];
};
void account_tasks_before(struct account_task_list *list);
void account_tasks_after(struct account *a, const struct account_task_list *before,
			 const char *prefix);

/* ---- the machine's --------------------------------------------------------------------------- */

/* Makes the set with the machine's account. NULL: no memory. */
struct accounts *accounts_create(void);
void accounts_destroy(struct accounts *set); /* after all devices and threads */
/* Before the first vCPU runs, once. */
void accounts_calibrate(struct accounts *set);
struct account *account_machine(struct accounts *set); /* NULL for a NULL set */
/* A device's; lives as long as the set. NULL without a set or memory. Main thread. */
struct account *account_create(struct accounts *set, const char *name, const char *class,
			       const char *model, const char *hw);
/* From the machine's account on, in the order made. Main thread. */
struct account *accounts_first(struct accounts *set);
const struct ticks *accounts_ticks(const struct accounts *set);

/* ---- reading --------------------------------------------------------------------------------- */

/* The sum over all threads, with what follows from it (suppressed kicks). */
void account_read(struct account *a, struct account_block *sum);
/* The sum of some of them. */
uint64_t account_exits(const struct account_block *sum); /* to user space, but config space's */
uint64_t account_irqs(const struct account_block *sum);	 /* that reached the guest's chip */
/* Nanoseconds below which `percent` of the requests stayed, between bucket edges; 0: none. */
uint64_t account_latency_ns(const struct account *a, const struct account_block *sum,
			    double percent);

struct account_cpu {
	char name[16];
	pid_t id;
	bool process, ended;
	uint64_t cpu_ns;
};
/* CPU time of each that serves it; returns how many there are, at most max are filled in. */
unsigned account_cpu(struct account *a, struct account_cpu *cpu, unsigned max, uint64_t *total_ns);

#endif
