/*
 * Guest RAM in the IOMMU: what it cannot reach is refused with the way out, and a failure half way
 * leaves nothing behind.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "devices/vfio/iommu.h"

#define GIB (1ull << 30)

struct fake {
	struct vfio_iommu io; /* first */
	struct device_host host;
	struct guest_memory ram;
	struct vfio_range range[2];
	int nranges; /* or -errno */
	unsigned maps, unmaps, fail_at;
	int fail;
	uint64_t iova[4], size[4];
	void *at[4];
};

static int ranges(struct vfio_iommu *io, struct vfio_range *range, unsigned max)
{
	const struct fake *f = (const struct fake *)io;

	cr_assert_geq(max, 2);
	for (int i = 0; i < f->nranges; i++)
		range[i] = f->range[i];
	return f->nranges;
}

static int map(struct vfio_iommu *io, uint64_t iova, uint64_t size, void *host)
{
	struct fake *f = (struct fake *)io;

	if (f->fail && f->maps == f->fail_at)
		return f->fail;
	f->iova[f->maps] = iova;
	f->size[f->maps] = size;
	f->at[f->maps++] = host;
	return 0;
}

static void unmap(struct vfio_iommu *io, uint64_t iova, uint64_t size)
{
	struct fake *f = (struct fake *)io;

	f->unmaps++;
	cr_expect_eq(f->iova[f->maps - f->unmaps], iova);
	cr_expect_eq(f->size[f->maps - f->unmaps], size);
}

static const struct vfio_iommu_ops ops = { .ranges = ranges, .map = map, .unmap = unmap };

/* 3 GiB below the hole and 2 GiB above it; an IOMMU of 39 bits as VT-d has it. */
static void init(struct fake *f)
{
	*f = (struct fake){
		.ram = { .fd = -1, .size = 5 * GIB, .nregions = 2 },
		.range = { { 0, 0xfedfffff }, { 0xfef00000, (1ull << 39) - 1 } },
		.nranges = 2,
	};
	f->ram.region[0] =
		(struct memory_region){ .gpa = 0, .size = 3 * GIB, .host = (uint8_t *)0x10000000 };
	f->ram.region[1] = (struct memory_region){ .gpa = 4 * GIB,
						   .size = 2 * GIB,
						   .host = (uint8_t *)0x200000000,
						   .fd_offset = 3 * GIB };
	f->host.memory = &f->ram;
	f->io = (struct vfio_iommu){ .ops = &ops, .host = &f->host, .fd = -1 };
}

Test(vfio_iommu, all_ram_is_mapped_where_the_guest_has_it_and_pinned)
{
	struct fake f;
	struct error e;

	init(&f);
	cr_assert_eq(vfio_iommu_map_ram(&f.io, &e), 0);
	cr_expect_eq(f.maps, 2);
	cr_expect_eq(f.iova[1], 4 * GIB);
	cr_expect_eq(f.size[1], 2 * GIB);
	cr_expect_eq(f.at[1], (void *)0x200000000);
	cr_expect_eq(f.ram.pins, 1, "the balloon must not take pages away");
	vfio_iommu_unmap_ram(&f.io);
	cr_expect_eq(f.unmaps, 2);
	cr_expect_eq(f.ram.pins, 0);
	/* A kernel too old to tell which addresses there are. */
	init(&f);
	f.nranges = 0;
	cr_expect_eq(vfio_iommu_map_ram(&f.io, &e), 0);
	vfio_iommu_unmap_ram(&f.io);
}

Test(vfio_iommu, what_it_does_not_reach_is_said)
{
	struct fake f;
	struct error e;

	init(&f);
	f.range[1].last = 5 * GIB - 1;
	cr_expect_eq(vfio_iommu_map_ram(&f.io, &e), -ERANGE);
	cr_expect(strstr(e.msg, "up to 0x13fffffff, guest RAM ends at 0x17fffffff; use less"), "%s",
		  e.msg);
	init(&f);
	f.range[0].last = GIB;
	cr_expect_eq(vfio_iommu_map_ram(&f.io, &e), -ERANGE);
	cr_expect(strstr(e.msg, "reserves addresses inside 0-0xbfffffff"), "%s", e.msg);
	init(&f);
	f.nranges = -ENOTTY;
	cr_expect_eq(vfio_iommu_map_ram(&f.io, &e), -ENOTTY);
	cr_expect_eq(f.maps, 0);
	cr_expect_eq(f.ram.pins, 0);
}

Test(vfio_iommu, a_failure_half_way_leaves_nothing)
{
	struct fake f;
	struct error e;

	init(&f);
	f.fail = -EFAULT;
	f.fail_at = 1;
	cr_expect_eq(vfio_iommu_map_ram(&f.io, &e), -EFAULT);
	cr_expect_eq(f.unmaps, 1);
	cr_expect_eq(f.ram.pins, 0);
	cr_expect_eq(f.io.mapped, 0);
}

Test(vfio_iommu, the_limit_on_locked_memory_is_raised_or_explained)
{
	struct rlimit small = { 8 << 20, 8 << 20 }, now;
	struct fake f;
	struct error e;

	init(&f);
	cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &small), 0);
	f.fail = -ENOMEM;
	cr_expect_eq(vfio_iommu_map_ram(&f.io, &e), -ENOMEM);
	getrlimit(RLIMIT_MEMLOCK, &now);
	if (now.rlim_cur < 5 * GIB)
		cr_expect(strstr(e.msg, "is 8 MiB; raise it to 5242880 KiB"), "%s", e.msg);
	else
		cr_expect(strstr(e.msg, "cannot map 5120 MiB"), "%s", e.msg);
}
