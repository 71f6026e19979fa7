/*
 * Listening on a unix socket in an event loop: one who connects at a time, and none at all while no
 * descriptor is left.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/unix_listener.h"

static char dir[32], path[64];
static struct unix_listener listener;
static struct event_loop *loop;
static unsigned told; /* times; atomic */
static int accepted;  /* the last one, or -errno; atomic */

static void came(void *opaque, uint32_t events)
{
	(void)opaque;
	(void)events;
	__atomic_store_n(&accepted, unix_listener_accept(&listener, 0), __ATOMIC_RELAXED);
	__atomic_add_fetch(&told, 1, __ATOMIC_RELEASE);
}

static void begin(void)
{
	struct error e = { "" };

	strcpy(dir, "/tmp/mvm-listen-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	loop = event_loop_create("test", &e);
	cr_assert_not_null(loop);
	cr_assert_eq(unix_listener_open(&listener, path, 8, &e), 0, "%s", e.msg);
	cr_assert_eq(unix_listener_watch(&listener, loop, came, NULL), 0);
	cr_assert_eq(event_loop_start(loop, &e), 0);
}

static void close_it(void *arg)
{
	unix_listener_close(arg);
}

static void end(void)
{
	event_call(loop, close_it, &listener);
	event_loop_destroy(loop);
	cr_assert_eq(access(path, F_OK), -1);
	rmdir(dir);
}

TestSuite(unix_listener, .init = begin, .fini = end, .timeout = 30);

static void dial(int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(address.sun_path, path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static unsigned times(void)
{
	return __atomic_load_n(&told, __ATOMIC_ACQUIRE);
}

static void wait_for(unsigned n)
{
	while (times() < n)
		usleep(1000);
}

Test(unix_listener, one_at_a_time)
{
	int fd[2];

	for (unsigned i = 0; i < 2; i++) {
		fd[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		dial(fd[i]);
	}
	usleep(50000);
	cr_assert_eq(times(), 0, "not before it is asked for");
	for (unsigned i = 1; i <= 2; i++) {
		unix_listener_wait(&listener);
		wait_for(i);
		cr_assert_geq(accepted, 0);
		close(accepted);
		usleep(50000);
		cr_assert_eq(times(), i);
	}
	close(fd[0]);
	close(fd[1]);
}

Test(unix_listener, no_descriptor_left)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct rlimit limit, none;

	getrlimit(RLIMIT_NOFILE, &limit);
	none = (struct rlimit){ 3, limit.rlim_max };
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	unix_listener_wait(&listener);
	dial(fd);
	wait_for(1);
	cr_assert_eq(accepted, -EMFILE);
	usleep(350000); /* now and then it is tried again */
	cr_assert_geq(times(), 2);
	cr_assert_leq(times(), 8);
	cr_assert_eq(accepted, -EMFILE);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while (__atomic_load_n(&accepted, __ATOMIC_RELAXED) < 0)
		usleep(1000);
	close(accepted);
	close(fd);
}
