/*
 * Giving pages of guest RAM back to the host: what goes, what stays, what is refused.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/memory.h"

#define LOW  (8ull << 20)
#define HIGH (16ull << 20)
#define SIZE (16ull << 20)

static struct guest_memory filled(void)
{
	struct memory_config config = { .size = SIZE };
	struct guest_memory m;
	struct error e;

	cr_assert_eq(memory_create(&m, &config, LOW, HIGH, &e), 0, "%s", e.msg);
	for (unsigned i = 0; i < m.nregions; i++)
		memset(m.region[i].host, 0x5a, m.region[i].size);
	return m;
}

/* Pages that the host has behind the memfd, in bytes. */
static uint64_t held(const struct guest_memory *m)
{
	struct stat st;

	cr_assert_eq(fstat(m->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static uint8_t at(const struct guest_memory *m, uint64_t gpa)
{
	uint8_t byte;

	cr_assert_eq(memory_read(m, gpa, &byte, 1), 0);
	return byte;
}

Test(memory_discard, frees_and_reads_as_zero)
{
	struct guest_memory m = filled();

	cr_assert_eq(held(&m), SIZE);
	cr_expect_eq(memory_discard(&m, 1 << 20, 2 << 20), 2 << 20);
	cr_expect_eq(held(&m), SIZE - (2 << 20));
	cr_expect_eq(at(&m, (1 << 20) - 1), 0x5a);
	cr_expect_eq(at(&m, 1 << 20), 0);
	cr_expect_eq(at(&m, (3 << 20) - 1), 0);
	cr_expect_eq(at(&m, 3 << 20), 0x5a);
	memset(memory_map(&m, 1 << 20, 4096, 1), 1, 4096);
	cr_expect_eq(at(&m, 1 << 20), 1, "a discarded page can be used again");
	memory_destroy(&m);
}

Test(memory_discard, takes_whole_pages_only)
{
	struct guest_memory m = filled();

	cr_expect_eq(memory_discard(&m, 4096 + 1, 4096), 0);
	cr_expect_eq(memory_discard(&m, 4096 + 1, 3 * 4096 - 1), 2 * 4096);
	cr_expect_eq(at(&m, 4096), 0x5a);
	cr_expect_eq(at(&m, 2 * 4096), 0);
	cr_expect_eq(memory_discard(&m, 0, 0), 0);
	m.page_size = 2 << 20; /* as if they were huge */
	cr_expect_eq(memory_discard(&m, 2 << 20, 4096), 0);
	cr_expect_eq(memory_discard(&m, (2 << 20) + 4096, 4 << 20), 2 << 20);
	memory_destroy(&m);
}

Test(memory_discard, second_region)
{
	struct guest_memory m = filled();

	cr_expect_eq(memory_discard(&m, HIGH + 4096, 4096), 4096);
	cr_expect_eq(at(&m, HIGH), 0x5a);
	cr_expect_eq(at(&m, HIGH + 4096), 0);
	cr_expect_eq(at(&m, 4096), 0x5a, "the same offset of the other region");
	memory_destroy(&m);
}

Test(memory_discard, refuses_what_is_not_ram)
{
	struct guest_memory m = filled();
	uint8_t mine[4096];

	cr_expect_eq(memory_discard(&m, LOW - 4096, 8192), -EFAULT);
	cr_expect_eq(memory_discard(&m, LOW, 4096), -EFAULT);
	cr_expect_eq(memory_discard(&m, HIGH + LOW, 4096), -EFAULT);
	cr_expect_eq(memory_discard(&m, UINT64_MAX - 4095, 8192), -EFAULT);
	cr_expect_eq(memory_discard(&m, 0, UINT64_MAX), -EFAULT);
	cr_expect_eq(memory_discard_host(&m, mine, sizeof(mine)), -EFAULT);
	cr_expect_eq(memory_discard_host(&m, m.region[0].host, LOW + 1), -EFAULT);
	cr_expect_eq(memory_discard_host(&m, m.region[0].host - 1, 4096), -EFAULT);
	cr_expect_eq(held(&m), SIZE);
	memory_destroy(&m);
}

Test(memory_discard, by_host_address)
{
	struct guest_memory m = filled();

	cr_expect_eq(memory_discard_host(&m, m.region[1].host + 8192, 4096), 4096);
	cr_expect_eq(held(&m), SIZE - 4096); /* reading would bring it back */
	cr_expect_eq(at(&m, HIGH + 8192), 0);
	memory_destroy(&m);
}

Test(memory_discard, not_while_pinned)
{
	struct guest_memory m = filled();

	memory_pin(&m);
	memory_pin(&m);
	memory_unpin(&m);
	cr_expect_eq(memory_discard(&m, 0, 4096), -EBUSY);
	cr_expect_eq(held(&m), SIZE);
	memory_unpin(&m);
	cr_expect_eq(memory_discard(&m, 0, 4096), 4096);
	memory_destroy(&m);
}
