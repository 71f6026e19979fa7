/*
 * The filter of system calls, in a process of its own: what malloc() does in many threads must not
 * be the end of it, and what is not allowed must.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/sandbox.h"

TestSuite(sandbox, .timeout = 60);

#define THREADS 24u

/* What threads and memory take; files and numbers of CPUs are not among it. */
static const char *const allowed[] = {
	"futex",	"sched_yield", "clone3",     "clone",	       "set_robust_list",
	"rseq",		"exit",	       "exit_group", "rt_sigprocmask", "rt_sigaction",
	"rt_sigreturn", "tgkill",      "gettid",     "getpid",	       "munmap",
	"mremap",	"madvise",     "brk",	     "getrandom",      NULL
};

/* How a child of ours that enters the sandbox and does this has ended. */
static int status_of(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		const struct rlimit no_core = { 0, 0 };
		struct error e;

		setrlimit(RLIMIT_CORE, &no_core);
		if (sandbox_filter(allowed, &e))
			_exit(2);
		body();
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static void in_threads(void *(*fn)(void *))
{
	pthread_t thread[THREADS];
	pthread_barrier_t all;

	pthread_barrier_init(&all, NULL, THREADS);
	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, fn, &all))
			_exit(3);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void *allocate(void *barrier)
{
	void *volatile p;

	/* No thread ends before all have begun: each wants an arena. */
	pthread_barrier_wait(barrier);
	p = malloc(5000);
	pthread_barrier_wait(barrier);
	free(p);
	return NULL;
}

static void allocate_in_threads(void)
{
	in_threads(allocate);
}

Test(sandbox, many_threads_may_allocate)
{
	cr_assert_eq(status_of(allocate_in_threads), 0);
}

#define PIECE  (100u << 10) /* too small to be mapped alone */
#define PIECES 64u

static void *give_back(void *barrier)
{
	void *volatile p[PIECES];

	pthread_barrier_wait(barrier);
	for (unsigned i = 0; i < PIECES; i++) {
		p[i] = malloc(PIECE);
		if (p[i])
			memset(p[i], 1, PIECE);
	}
	for (unsigned i = PIECES; i-- > 0;)
		free(p[i]);
	return NULL;
}

static void give_back_in_threads(void)
{
	in_threads(give_back);
}

Test(sandbox, many_threads_may_give_memory_back)
{
	cr_assert_eq(status_of(give_back_in_threads), 0);
}

/* ---- the filter itself ----------------------------------------------------------------------- */

/* Under sanitizers there is none; clang says so in its own way. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
static void make_a_pipe(void)
{
	int fds[2];

	(void)!pipe(fds);
}

Test(sandbox, what_is_not_allowed_is_the_end)
{
	int status = status_of(make_a_pipe);

	cr_assert(WIFSIGNALED(status));
	cr_assert_eq(WTERMSIG(status), SIGSYS);
}
#endif
