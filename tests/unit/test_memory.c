/*
 * Guest memory: every way an address and a length can be wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "vmm/memory.h"

#define MIB  (1ull << 20)
#define LOW  (4 * MIB)
#define HIGH (16 * MIB)

static struct guest_memory make(uint64_t size)
{
	struct memory_config config = { .size = size };
	struct guest_memory m;
	struct error e;

	cr_assert_eq(memory_create(&m, &config, LOW, HIGH, &e), 0, "%s", e.msg);
	return m;
}

Test(memory, one_region_when_it_fits_below_the_hole)
{
	struct guest_memory m = make(2 * MIB);

	cr_assert_eq(m.nregions, 1);
	cr_assert_eq(m.region[0].size, 2 * MIB);
	memory_destroy(&m);
}

Test(memory, two_regions_around_the_hole)
{
	struct guest_memory m = make(6 * MIB);

	cr_assert_eq(m.nregions, 2);
	cr_assert_eq(m.region[0].size, LOW);
	cr_assert_eq(m.region[1].gpa, HIGH);
	cr_assert_eq(m.region[1].size, 2 * MIB);
	cr_assert_eq(m.region[1].fd_offset, LOW);
	memory_destroy(&m);
}

Test(memory, map_checks_every_edge)
{
	struct guest_memory m = make(6 * MIB);

	cr_assert_not_null(memory_map(&m, 0, LOW, 1));
	cr_assert_null(memory_map(&m, 0, LOW + 1, 1), "past the region");
	cr_assert_null(memory_map(&m, LOW - 1, 2, 1), "into the hole");
	cr_assert_null(memory_map(&m, LOW, 1, 1), "in the hole");
	cr_assert_null(memory_map(&m, HIGH - 1, 1, 1));
	cr_assert_not_null(memory_map(&m, HIGH, 1, 1));
	cr_assert_not_null(memory_map(&m, HIGH + 2 * MIB - 1, 1, 1));
	cr_assert_null(memory_map(&m, HIGH + 2 * MIB, 1, 1));
	cr_assert_null(memory_map(&m, 0, 0, 1), "nothing is nowhere");
	cr_assert_null(memory_map(&m, 2, 4, 4), "not aligned");
	cr_assert_null(memory_map(&m, ~0ull, 1, 1));
	cr_assert_null(memory_map(&m, ~0ull - 3, 8, 1), "wraps");
	cr_assert_null(memory_map(&m, 8, ~0ull, 1), "wraps by length");
	memory_destroy(&m);
}

Test(memory, iov_and_copies_refuse_what_is_not_ram)
{
	struct guest_memory m = make(6 * MIB);
	struct iovec iov[4];
	char buf[16] = "abcdefghijklmno", back[16] = "";

	cr_assert_eq(memory_iov(&m, 0, 0, iov, 4), 0);
	cr_assert_eq(memory_iov(&m, 0, LOW, iov, 4), 1);
	cr_assert_eq(iov[0].iov_len, LOW);
	cr_assert_eq(memory_iov(&m, 0, 1, iov, 0), -ENOSPC);
	cr_assert_eq(memory_iov(&m, LOW - 8, 16, iov, 4), -EFAULT);
	cr_assert_eq(memory_iov(&m, 0, ~0ull, iov, 4), -EFAULT);
	cr_assert_eq(memory_write(&m, LOW - 16, buf, 16), 0);
	cr_assert_eq(memory_read(&m, LOW - 16, back, 16), 0);
	cr_assert_str_eq(back, buf);
	cr_assert_eq(memory_write(&m, LOW - 8, "XXXXXXXXXXXXXXXX", 16), -EFAULT);
	memory_read(&m, LOW - 16, back, 16);
	cr_assert_str_eq(back, buf, "a refused write must not write its first half");
	cr_assert_eq(memory_zero(&m, LOW - 16, 16), 0);
	memory_read(&m, LOW - 16, back, 16);
	cr_assert_eq(back[0], 0);
	cr_assert(memory_contains(&m, HIGH, 2 * MIB));
	cr_assert_not(memory_contains(&m, HIGH, 2 * MIB + 1));
	memory_destroy(&m);
}

Test(memory, adjacent_regions_are_crossed)
{
	struct memory_config config = { .size = 4 * MIB };
	struct guest_memory m;
	struct iovec iov[2];
	struct error e;
	char buf[32], back[32];

	cr_assert_eq(memory_create(&m, &config, 2 * MIB, 2 * MIB, &e), 0);
	cr_assert_eq(m.nregions, 2);
	memset(buf, 7, sizeof(buf));
	cr_assert_eq(memory_iov(&m, 2 * MIB - 16, 32, iov, 2), 2);
	cr_assert_eq(memory_iov(&m, 2 * MIB - 16, 32, iov, 1), -ENOSPC);
	cr_assert_eq(memory_write(&m, 2 * MIB - 16, buf, 32), 0);
	cr_assert_eq(memory_read(&m, 2 * MIB - 16, back, 32), 0);
	cr_assert_arr_eq(buf, back, 32);
	cr_assert_null(memory_map(&m, 2 * MIB - 16, 32, 1), "not one piece");
	memory_destroy(&m);
}

Test(memory, the_memfd_cannot_be_shrunk_under_us)
{
	struct guest_memory m = make(2 * MIB);

	cr_assert_eq(ftruncate(m.fd, 4096), -1);
	cr_assert_eq(errno, EPERM);
	memory_destroy(&m);
}

Test(memory, bad_sizes_say_so)
{
	struct memory_config config = { .size = 4095 };
	struct guest_memory m;
	struct error e;

	cr_assert_eq(memory_create(&m, &config, LOW, HIGH, &e), -EINVAL);
	cr_assert_not_null(strstr(e.msg, "--memory"));
	config.size = 0;
	cr_assert_eq(memory_create(&m, &config, LOW, HIGH, &e), -EINVAL);
	config.size = 1ull << 60;
	cr_assert_lt(memory_create(&m, &config, LOW, HIGH, &e), 0);
	cr_assert_not_null(strstr(e.msg, "--memory"));
	cr_assert_eq(m.fd, -1, "nothing is left behind");
}

Test(memory, prealloc_touches_all)
{
	struct memory_config config = { .size = 4 * MIB, .prealloc = true };
	struct guest_memory m;
	struct error e;

	cr_assert_eq(memory_create(&m, &config, LOW, HIGH, &e), 0, "%s", e.msg);
	memory_destroy(&m);
}

/* ---- of another process ---------------------------------------------------------------------- */

Test(memory, of_another_process)
{
	const struct memory_part part[] = {
		{ .gpa = HIGH, .size = MIB, .fd_offset = MIB + 8192 },
		{ .gpa = 0, .size = MIB - 4096, .fd_offset = 0 },
	};
	struct memory_part with_fd[2];
	struct guest_memory m;
	struct error e;
	int fd = memfd_create("ram", MFD_CLOEXEC);
	uint32_t mark = 0x12345678, got = 0;

	cr_assert_eq(ftruncate(fd, 4 * MIB), 0);
	cr_assert_eq(pwrite(fd, &mark, 4, MIB + 8192 + 100), 4);
	for (unsigned i = 0; i < 2; i++) {
		with_fd[i] = part[i];
		with_fd[i].fd = fd;
	}
	cr_assert_eq(memory_map_fds(&m, with_fd, 2, &e), 0, "%s", e.msg);
	close(fd);
	cr_assert_eq(m.nregions, 2);
	cr_assert_eq(m.region[0].gpa, 0, "in order");
	cr_assert_eq(m.size, 2 * MIB - 4096);
	cr_assert_eq(memory_read(&m, HIGH + 100, &got, 4), 0);
	cr_assert_eq(got, mark);
	cr_assert_null(memory_map(&m, MIB - 4096, 1, 1), "in the hole");
	cr_assert_lt(memory_discard(&m, 0, 4096), 0, "it is not ours to give back");
	memory_destroy(&m);
	cr_assert_eq(memory_map_fds(&m, NULL, 0, &e), 0);
	cr_assert_not(memory_contains(&m, 0, 1));
	memory_destroy(&m);
	cr_assert_eq(memory_map_fds(&m, with_fd, MEMORY_MAX_REGIONS + 1, &e), -EINVAL);
}
