/*
 * Eventfds that another process has as well, and does with as it likes: O_NONBLOCK cleared, the
 * count at 0 or full. Whoever takes or signals does not wait.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/event_fd.h"

#define MANY 3000u

static uint64_t count_of(int fd)
{
	uint64_t count;

	cr_assert_eq(read(fd, &count, sizeof(count)), (ssize_t)sizeof(count));
	return count;
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

Test(event_fd, taking_does_not_wait, .timeout = 10)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	cr_assert_not(event_fd_take(fd));
	eventfd_write(fd, 5);
	cr_assert(event_fd_take(fd));
	cr_assert_not(event_fd_take(fd));
	close(fd);
}

Test(event_fd, signalling_does_not_wait, .timeout = 10)
{
	int fd = eventfd(0, EFD_CLOEXEC), end[2];
	struct event_signaller s;

	event_signaller_init(&s);
	cr_assert(s.aio, "this kernel has no asynchronous I/O");
	event_signal(&s, fd);
	cr_assert_eq(count_of(fd), 1);
	eventfd_write(fd, UINT64_MAX - 1);
	for (unsigned i = 0; i < 3; i++)
		event_signal(&s, fd);
	cr_assert(event_fd_take(fd));
	cr_assert_not(event_fd_take(fd));
	cr_assert_eq(pipe(end), 0);
	event_signal(&s, end[1]);
	cr_assert_not(readable(end[0]));
	event_signal(&s, -1);
	event_signaller_fini(&s);
	/* Where it could not be made, it is a write. */
	event_signal(&s, fd);
	cr_assert_eq(count_of(fd), 1);
	close(end[0]);
	close(end[1]);
	close(fd);
}

struct signalling {
	struct event_signaller *s;
	int fd;
};

static void *signal_many(void *arg)
{
	const struct signalling *a = arg;

	for (unsigned i = 0; i < MANY; i++)
		event_signal(a->s, a->fd);
	return NULL;
}

/* More than there is room for results, from several threads: each one counts. */
Test(event_fd, no_signal_is_lost, .timeout = 30)
{
	struct event_signaller s;
	struct signalling a = { &s, eventfd(0, EFD_CLOEXEC) };
	pthread_t thread[3];

	event_signaller_init(&s);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, signal_many, &a), 0);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	cr_assert_eq(count_of(a.fd), 3 * MANY);
	event_signaller_fini(&s);
	close(a.fd);
}
