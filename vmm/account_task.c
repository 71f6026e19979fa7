/*
 * Who serves an account: threads of ours, which have a slot to count in while they live, kernel
 * threads and backend processes, of which only the CPU time is known. CPU time comes from CPU
 * clocks, in nanoseconds: clock_getcpuclockid(3), and for threads of this process
 * pthread_getcpuclockid(3), whose clock ids the kernel makes from the thread's id (clock_gettime(2)
 * in Linux: ~id << 3, with 4 for "one thread" and 2 for "by the scheduler's books").
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/account_internal.h"

struct account_task {
	struct account_task *next;
	pid_t id;
	bool process;
	clockid_t clock;
	char name[16];
};

/* What the calling thread is to account_thread_end(); a thread's own, see account_slot. */
static _Thread_local struct account *serves;

/* ---- CPU clocks ------------------------------------------------------------------------------ */

static clockid_t thread_clock(pid_t id)
{
	return (clockid_t)((~(unsigned)id << 3) | 4 | 2);
}

static bool clock_works(clockid_t clock)
{
	struct timespec ts;

	return clock_gettime(clock, &ts) == 0;
}

/* A thread of this process, or the process (of one thread: a kernel thread) with that id. */
static clockid_t find_clock(pid_t id, bool process)
{
	clockid_t clock = thread_clock(id);

	if ((process || !clock_works(clock)) && clock_getcpuclockid(id, &clock))
		clock = thread_clock(id);
	return clock;
}

static bool cpu_ns(clockid_t clock, uint64_t *ns)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts))
		return false; /* it is gone */
	*ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	return true;
}

/* ---- the list -------------------------------------------------------------------------------- */

static void add_task(struct account *a, pid_t id, bool process, const char *name)
{
	struct account_task *task = calloc(1, sizeof(*task)), **end;

	if (!task)
		return;
	task->id = id;
	task->process = process;
	task->clock = find_clock(id, process);
	snprintf(task->name, sizeof(task->name), "%s", name);
	pthread_mutex_lock(&a->set->lock);
	for (end = &a->tasks; *end; end = &(*end)->next)
		continue;
	*end = task;
	pthread_mutex_unlock(&a->set->lock);
}

/* set->lock held. */
static void remove_task(struct account *a, pid_t id)
{
	uint64_t ns;

	for (struct account_task **link = &a->tasks; *link; link = &(*link)->next) {
		struct account_task *task = *link;

		if (task->id != id)
			continue;
		if (cpu_ns(task->clock, &ns))
			a->ended_ns += ns;
		*link = task->next;
		free(task);
		return;
	}
}

void account_tasks_free(struct account *a)
{
	struct account_task *task;

	while ((task = a->tasks)) {
		a->tasks = task->next;
		free(task);
	}
}

void account_add_task(struct account *a, pid_t id, bool process, const char *name)
{
	if (a && id > 0)
		add_task(a, id, process, name);
}

void account_remove_task(struct account *a, pid_t id)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->set->lock);
	remove_task(a, id);
	pthread_mutex_unlock(&a->set->lock);
}

/* ---- threads of ours ------------------------------------------------------------------------- */

/* 0: all are taken. set->lock held. */
static unsigned take_slot(struct accounts *set)
{
	for (unsigned i = 1; i < ACCOUNT_SLOTS; i++) {
		if (set->taken[i / 64] & (1ull << (i % 64)))
			continue;
		set->taken[i / 64] |= 1ull << (i % 64);
		return i;
	}
	return 0;
}

void account_thread_begin(struct account *a, const char *name)
{
	if (!a || serves)
		return;
	serves = a;
	add_task(a, (pid_t)syscall(SYS_gettid), false, name);
	pthread_mutex_lock(&a->set->lock);
	account_slot = take_slot(a->set);
	pthread_mutex_unlock(&a->set->lock);
}

void account_thread_end(void)
{
	struct account *a = serves;

	if (!a)
		return;
	pthread_mutex_lock(&a->set->lock);
	remove_task(a, (pid_t)syscall(SYS_gettid));
	/* The lock hands the slot's blocks to the next thread that gets it. */
	a->set->taken[account_slot / 64] &= ~(1ull << (account_slot % 64));
	account_slot = 0;
	pthread_mutex_unlock(&a->set->lock);
	serves = NULL;
}

/* ---- kernel threads in this process ---------------------------------------------------------- */

/* Calls fn for every thread of this process. */
static void each_thread(void (*fn)(pid_t id, void *arg), void *arg)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		long id = strtol(entry->d_name, NULL, 10);

		if (id > 0)
			fn((pid_t)id, arg);
	}
	closedir(dir);
}

static void note(pid_t id, void *arg)
{
	struct account_task_list *list = arg;

	if (list->count < sizeof(list->id) / sizeof(list->id[0]))
		list->id[list->count++] = id;
}

void account_tasks_before(struct account_task_list *list)
{
	list->count = 0;
	each_thread(note, list);
}

static bool name_of(pid_t id, char *name, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/comm", (int)id);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, name, size - 1);
	close(fd);
	if (n <= 0)
		return false;
	name[n] = '\0';
	name[strcspn(name, "\n")] = '\0';
	return true;
}

void account_tasks_after(struct account *a, const struct account_task_list *before,
			 const char *prefix)
{
	struct account_task_list now;
	char name[16];

	if (!a)
		return;
	account_tasks_before(&now);
	for (unsigned i = 0; i < now.count; i++) {
		bool old = false;

		for (unsigned j = 0; j < before->count && !old; j++)
			old = before->id[j] == now.id[i];
		if (!old && name_of(now.id[i], name, sizeof(name)) &&
		    strncmp(name, prefix, strlen(prefix)) == 0)
			add_task(a, now.id[i], false, name);
	}
}

/* ---- reading --------------------------------------------------------------------------------- */

unsigned account_cpu(struct account *a, struct account_cpu *cpu, unsigned max, uint64_t *total_ns)
{
	unsigned n = 0;

	*total_ns = 0;
	if (!a)
		return 0;
	pthread_mutex_lock(&a->set->lock);
	*total_ns = a->ended_ns;
	for (const struct account_task *task = a->tasks; task; task = task->next, n++) {
		struct account_cpu c = { .id = task->id, .process = task->process };

		c.ended = !cpu_ns(task->clock, &c.cpu_ns);
		memcpy(c.name, task->name, sizeof(c.name));
		*total_ns += c.cpu_ns;
		if (n < max)
			cpu[n] = c;
	}
	pthread_mutex_unlock(&a->set->lock);
	return n;
}
