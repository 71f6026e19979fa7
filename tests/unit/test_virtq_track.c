/*
 * Requests in flight across the end of a process: a queue is killed at any moment and another one
 * goes on from the region. The driver must see each of its chains used once, none twice, and none
 * must be forgotten. The kill comes between calls, and (by copying region and ring at each of the
 * stores of a publication, in a child that single-steps) between any two stores.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/test_virtq_model.h"

#define PACKED	 MODEL_BIT(VIRTIO_F_RING_PACKED)
#define EVENT	 MODEL_BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER MODEL_BIT(VIRTIO_F_IN_ORDER)
#define SIZE	 16

struct bench {
	struct guest_memory memory;
	struct model driver;
	struct virtq q;
	struct virtq_chain *out[SIZE];
	unsigned nout;
	void *region;
	size_t len;
	unsigned added, used;
	uint64_t random;
};

static void start(struct bench *b)
{
	struct virtq_state state = virtq_state_reset();

	cr_assert_eq(virtq_init(&b->q, &b->memory, SIZE, 0), 0);
	cr_assert_eq(virtq_track(&b->q, b->region, b->len), 0);
	/* Wrong on purpose: the region knows better. */
	if (b->added)
		state.avail_idx = state.used_idx = 3;
	cr_assert_eq(virtq_start(&b->q, &b->driver.config, &state), 0, "%s", b->q.error);
	b->nout = 0;
}

static struct bench *bench_create(uint64_t features, uint64_t seed)
{
	struct bench *b = calloc(1, sizeof(*b));

	b->random = seed;
	b->memory = model_memory();
	model_init(&b->driver, &b->memory, 0, SIZE, features);
	b->len = virtq_track_size(SIZE);
	b->region = mmap(NULL, b->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	start(b);
	return b;
}

static void bench_destroy(struct bench *b)
{
	virtq_destroy(&b->q);
	model_free(&b->driver);
	memory_destroy(&b->memory);
	munmap(b->region, b->len);
	free(b);
}

/* The process is gone; nothing of it is put in order. */
static void die(struct bench *b)
{
	virtq_destroy(&b->q);
	start(b);
}

static unsigned pick(struct bench *b, unsigned n)
{
	return (unsigned)(model_random(&b->random) % n);
}

static void add(struct bench *b)
{
	struct model_buf buf[4];
	unsigned n = 1 + pick(b, 4);

	for (unsigned i = 0; i < n; i++)
		buf[i] = (struct model_buf){ MODEL_HIGH + 64 * i, 64, true };
	b->added += model_add(&b->driver, buf, n, b->driver.indirect && pick(b, 2)) >= 0;
}

static void take(struct bench *b)
{
	b->nout += virtq_pop(&b->q, b->out + b->nout, 1 + pick(b, SIZE - b->nout + 1));
	cr_assert_null(b->q.error, "%s", b->q.error);
}

static void give(struct bench *b)
{
	unsigned i;

	if (!b->nout)
		return;
	i = pick(b, b->nout);
	virtq_push(&b->q, b->out[i], 1);
	b->out[i] = b->out[--b->nout];
}

static void hear(struct bench *b)
{
	struct model_used used;

	while (model_used(&b->driver, &used))
		b->used++;
}

static void finish(struct bench *b)
{
	for (unsigned i = 0; i < 10 * SIZE; i++) {
		take(b);
		while (b->nout)
			give(b);
		virtq_publish(&b->q);
		hear(b);
	}
	cr_assert_eq(b->used, b->added);
	cr_assert_eq(b->driver.free_slots, SIZE);
}

static const uint64_t kinds[] = { 0,	  EVENT,	  INDIRECT,	     IN_ORDER,
				  PACKED, PACKED | EVENT, PACKED | INDIRECT, PACKED | IN_ORDER };

Test(virtq_track, killed_between_calls)
{
	for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		for (uint64_t seed = 1; seed <= 30; seed++) {
			struct bench *b = bench_create(kinds[k], seed);

			for (unsigned i = 0; i < 600; i++) {
				switch (pick(b, 12)) {
				case 0:
				case 1:
				case 2:
				case 3:
					add(b);
					break;
				case 4:
				case 5:
					take(b);
					break;
				case 6:
				case 7:
				case 8:
					give(b);
					break;
				case 9:
					virtq_publish(&b->q);
					break;
				case 10:
					hear(b);
					break;
				case 11:
					if (pick(b, 3) == 0)
						die(b);
				}
			}
			finish(b);
			bench_destroy(b);
		}
	}
}

/* Those that were out come first, in the order they were taken in. */
Test(virtq_track, order_is_kept)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		struct bench *b = bench_create(packed ? PACKED : 0, 1);
		uint16_t id[4];

		for (unsigned i = 0; i < 4; i++) {
			struct model_buf buf = { MODEL_HIGH, 64, true };

			id[i] = (uint16_t)model_add(&b->driver, &buf, 1, false);
			b->added++;
		}
		cr_assert_eq(virtq_pop(&b->q, b->out, 3), 3);
		virtq_push(&b->q, b->out[1], 1);
		virtq_publish(&b->q);
		hear(b);
		die(b);
		cr_assert_eq(virtq_pop(&b->q, b->out, 1), 1);
		cr_assert_eq(b->out[0]->id, id[0]);
		cr_assert_eq(virtq_pop(&b->q, b->out + 1, 8), 1);
		cr_assert_eq(b->out[1]->id, id[2]);
		cr_assert_eq(virtq_pop(&b->q, b->out + 2, 8), 1);
		cr_assert_eq(b->out[2]->id, id[3]);
		b->nout = 3;
		finish(b);
		bench_destroy(b);
	}
}

/*
 * A child takes, gives back and publishes, and dies after so many instructions. Rings and region
 * are shared memory, so they are then as a SIGKILL would leave them.
 */
static void child(struct bench *b)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	b->nout += virtq_pop(&b->q, b->out + b->nout, 2);
	while (b->nout > 1) {
		virtq_push(&b->q, b->out[b->nout - 1], 1);
		b->nout--;
	}
	virtq_publish(&b->q);
	raise(SIGSTOP);
	_exit(0);
}

/* Steps the child n times; false: it had got to the end before. */
static bool kill_after(struct bench *b, unsigned n)
{
	pid_t pid = fork();
	bool killed = true;
	int status;

	if (pid == 0)
		child(b);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	for (unsigned i = 0; i < n && killed; i++) {
		ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		killed = WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return killed;
}

static void kill_anywhere(uint64_t features, unsigned step)
{
	unsigned kills = 0;
	bool more = true;

	for (unsigned n = 0; more; n += step) {
		struct bench *b = bench_create(features, n + 1);

		for (unsigned i = 0; i < b->memory.nregions; i++)
			madvise(b->memory.region[i].map, b->memory.region[i].map_size, MADV_DOFORK);

		/* Somewhere in the ring, with chains out and used before, near the end of a lap. */
		for (unsigned i = 0; i < 40; i++) {
			add(b);
			take(b);
			if (b->nout > 3)
				give(b);
			virtq_publish(&b->q);
			hear(b);
		}
		add(b);
		more = kill_after(b, n);
		kills += more;
		hear(b);
		die(b);
		finish(b);
		bench_destroy(b);
	}
	cr_assert_gt(kills, 30, "only %u of them", kills); /* it was not over at once */
}

Test(virtq_track, killed_at_any_instruction)
{
#if defined(__SANITIZE_ADDRESS__)
	const unsigned step = 97; /* several times as many of them */
#else
	const unsigned step = 7;
#endif
	kill_anywhere(0, step);
	kill_anywhere(PACKED, step);
	kill_anywhere(PACKED | INDIRECT, step);
}

/* The region is shared with a front end, which may write what it likes. */
Test(virtq_track, damaged_regions)
{
	for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		for (uint64_t seed = 1; seed <= 60; seed++) {
			struct virtq_state state = virtq_state_reset();
			struct bench *b = bench_create(kinds[k], seed);
			uint8_t *bytes = b->region;

			for (unsigned i = 0; i < 40; i++) {
				add(b);
				take(b);
				give(b);
				virtq_publish(&b->q);
			}
			virtq_destroy(&b->q);
			for (unsigned i = 0; i < 1 + seed % 5; i++)
				bytes[pick(b, (unsigned)b->len)] ^= (uint8_t)(1u << pick(b, 8));
			cr_assert_eq(virtq_init(&b->q, &b->memory, SIZE, 0), 0);
			cr_assert_eq(virtq_track(&b->q, b->region, b->len), 0);
			b->nout = 0;
			if (virtq_start(&b->q, &b->driver.config, &state) == 0) {
				/* And on while we use it. */
				for (unsigned i = 0; i < 200; i++) {
					bytes[pick(b, (unsigned)b->len)] ^= (uint8_t)pick(b, 256);
					b->nout +=
						virtq_pop(&b->q, b->out + b->nout, SIZE - b->nout);
					give(b);
					virtq_publish(&b->q);
				}
			}
			bench_destroy(b);
		}
	}
}

Test(virtq_track, a_region_must_fit)
{
	struct bench *b = bench_create(0, 1);
	struct virtq_state state = virtq_state_reset();

	cr_assert_eq(virtq_track(&b->q, (uint8_t *)b->region + 4, b->len - 4), -EINVAL);
	cr_assert_eq(virtq_track(&b->q, b->region, 16), -EINVAL);
	cr_assert_eq(virtq_track(&b->q, b->region, virtq_track_size(SIZE - 1)), 0);
	cr_assert_lt(virtq_start(&b->q, &b->driver.config, &state), 0);
	cr_assert(strstr(b->q.error, "too small"));
	bench_destroy(b);
}
