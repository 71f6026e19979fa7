/* See test_vhost_user_fuzz.h. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/test_vhost_user_fuzz.h"

int fuzz_ram(size_t size)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, (off_t)size), 0);
	return fd;
}

uint64_t fuzz_pick(struct fuzz *f, uint64_t n)
{
	return model_random(&f->random) % n;
}

uint64_t fuzz_value(struct fuzz *f)
{
	static const uint64_t interesting[] = { 0,	    1,		2,
						8,	    64,		0x10000,
						0x11000,    0x7fffffff, 1u << 20,
						1ull << 32, 1ull << 63, ~0ull,
						0x100,	    0x1ff,	BIT(30) | BIT(32),
						0x8000 };

	return fuzz_pick(f, 3) ? interesting[fuzz_pick(f, sizeof(interesting) / 8)]
			       : model_random(&f->random);
}

int fuzz_fd(struct fuzz *f)
{
	int pair[2];

	switch (fuzz_pick(f, 6)) {
	case 0:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case 1:
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		close(pair[1]);
		return pair[0];
	case 2:
		cr_assert_eq(pipe(pair), 0);
		close(pair[0]);
		return pair[1];
	case 3:
		return dup(f->ram);
	default:
		return eventfd((unsigned)fuzz_pick(f, 2), 0);
	}
}
