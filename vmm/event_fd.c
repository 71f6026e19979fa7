/*
 * Eventfds: see event_fd.h. A signal that cannot wait is one that
 * the kernel gives: here for the end of an asynchronous read of nothing, which is at once. (A write
 * cannot be told not to wait: eventfds know no RWF_NOWAIT for it; and looking first does not help,
 * as the count can change before the write.)
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/event_fd.h"

#define ROOM 64 /* results that nobody has fetched; the kernel makes it more */

void event_fd_signal(int fd)
{
	uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		continue;
}

bool event_fd_take(int fd)
{
	uint64_t count;
	struct iovec iov = { .iov_base = &count, .iov_len = sizeof(count) };
	ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

	if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
		n = read(fd, &count, sizeof(count));
	return n == sizeof(count);
}

void event_signaller_init(struct event_signaller *s)
{
	aio_context_t aio = 0;

	*s = (struct event_signaller){ .nothing = memfd_create("mvm-nothing", MFD_CLOEXEC) };
	if (s->nothing >= 0 && syscall(SYS_io_setup, ROOM, &aio) == 0)
		s->aio = aio;
	else if (s->nothing >= 0)
		close(s->nothing);
}

void event_signaller_fini(struct event_signaller *s)
{
	if (s->aio) {
		syscall(SYS_io_destroy, s->aio);
		close(s->nothing);
	}
	*s = (struct event_signaller){ 0 };
}

void event_signal(struct event_signaller *s, int fd)
{
	struct iocb read_nothing = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)fd,
	};
	struct iocb *list = &read_nothing;
	struct io_event ended[ROOM];

	if (!s || !s->aio) {
		event_fd_signal(fd);
		return;
	}
	read_nothing.aio_fildes = (uint32_t)s->nothing;
	/* Full of results, which are of no interest. Other threads may fill it at the same time. */
	for (unsigned tries = 0; syscall(SYS_io_submit, s->aio, 1, &list) < 0; tries++) {
		if (errno != EAGAIN || tries == 100)
			return;
		syscall(SYS_io_getevents, s->aio, 0, ROOM, ended, NULL);
	}
}
