/*
 * Virtqueues with a driver that breaks the rules. Each case damages a ring that holds one good
 * chain behind the damage; the queue must say what is wrong, hand out nothing, publish nothing and
 * stay that way. Then random damage: bits flipped all over a ring at work, where all that counts is
 * that every iovec lies in RAM and every loop ends.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test_virtq_model.h"

#define PACKED	 MODEL_BIT(VIRTIO_F_RING_PACKED)
#define EVENT	 MODEL_BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER MODEL_BIT(VIRTIO_F_IN_ORDER)

#define NEXT  VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define IND   VRING_DESC_F_INDIRECT

#define SIZE 8
#define DATA (MODEL_HIGH + 0x1000)
#define TAB  MODEL_TABLES

struct bench {
	struct guest_memory memory;
	struct model driver;
	struct virtq q;
};

static struct bench *bench_create(uint64_t features, uint16_t size)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct virtq_state state = virtq_state_reset();

	b->memory = model_memory();
	model_init(&b->driver, &b->memory, 0, size, features);
	cr_assert_eq(virtq_init(&b->q, &b->memory, size, 0), 0);
	cr_assert_eq(virtq_start(&b->q, &b->driver.config, &state), 0);
	return b;
}

static void bench_destroy(struct bench *b)
{
	virtq_stop(&b->q);
	virtq_destroy(&b->q);
	model_free(&b->driver);
	memory_destroy(&b->memory);
	free(b);
}

/* Descriptor i of the ring, or of a table in guest memory. */
static void put(struct bench *b, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
		uint16_t flags, uint16_t next)
{
	bool packed = b->q.ring && (b->driver.packed);
	uint64_t at = table + 16ull * i;

	if (packed) {
		struct vring_packed_desc d = { addr, len, next, flags };

		memory_write(&b->memory, at, &d, sizeof(d));
	} else {
		struct vring_desc d = { addr, len, flags, next };

		memory_write(&b->memory, at, &d, sizeof(d));
	}
}

#define RING MODEL_DESC

static void avail(struct bench *b, unsigned slot, uint16_t head, uint16_t idx)
{
	memory_write(&b->memory, MODEL_DRIVER + 4 + 2 * slot, &head, 2);
	memory_write(&b->memory, MODEL_DRIVER + 2, &idx, 2);
}

/* Flags that make a packed descriptor available in the first lap. */
#define AV (1u << VRING_PACKED_DESC_F_AVAIL)

struct hostile {
	const char *what;
	uint64_t features;
	void (*damage)(struct bench *b);
	const char *error;
};

/* ---- split ---- */

static void index_jumps(struct bench *b)
{
	put(b, RING, 0, DATA, 16, 0, 0);
	avail(b, 0, 0, SIZE + 1);
}

static void index_goes_back(struct bench *b)
{
	put(b, RING, 0, DATA, 16, 0, 0);
	avail(b, 0, 0, 0xffff);
}

static void head_outside(struct bench *b)
{
	avail(b, 0, SIZE, 1);
}

static void head_far_outside(struct bench *b)
{
	avail(b, 0, 0xffff, 1);
}

static void next_outside(struct bench *b)
{
	put(b, RING, 0, DATA, 16, NEXT, SIZE);
	avail(b, 0, 0, 1);
}

static void loop_of_one(struct bench *b)
{
	put(b, RING, 0, DATA, 16, NEXT, 0);
	avail(b, 0, 0, 1);
}

static void loop_of_all(struct bench *b)
{
	for (unsigned i = 0; i < SIZE; i++)
		put(b, RING, i, DATA, 16, NEXT, (uint16_t)((i + 1) % SIZE));
	avail(b, 0, 3, 1);
}

static void loop_of_indirect(struct bench *b)
{
	put(b, RING, 0, TAB, 32, IND, 0);
	put(b, TAB, 0, DATA, 16, NEXT, 1);
	put(b, TAB, 1, DATA, 16, NEXT, 0);
	avail(b, 0, 0, 1);
}

static void indirect_next_outside(struct bench *b)
{
	put(b, RING, 0, TAB, 32, IND, 0);
	put(b, TAB, 0, DATA, 16, NEXT, 2);
	put(b, TAB, 2, DATA, 16, 0, 0);
	avail(b, 0, 0, 1);
}

/* ---- both: the chain begins at descriptor 0 ---- */

static void go(struct bench *b)
{
	if (!b->driver.packed)
		avail(b, 0, 0, 1);
}

/* A single descriptor; packed rings see it at once. */
static void one(struct bench *b, uint64_t addr, uint32_t len, uint16_t flags)
{
	put(b, RING, 0, addr, len, (uint16_t)(flags | (b->driver.packed ? AV : 0)), 0);
	go(b);
}

static void two(struct bench *b, uint16_t flags0, uint32_t len0, uint16_t flags1, uint32_t len1)
{
	uint16_t av = b->driver.packed ? AV : 0;

	put(b, RING, 1, DATA, len1, flags1 | av, 0);
	put(b, RING, 0, DATA, len0, flags0 | NEXT | av, 1);
	go(b);
}

static void readable_after_writable(struct bench *b)
{
	two(b, WRITE, 16, 0, 16);
}

static void length_zero(struct bench *b)
{
	one(b, DATA, 0, 0);
}

static void later_length_zero(struct bench *b)
{
	two(b, 0, 16, WRITE, 0);
}

static void above_ram(struct bench *b)
{
	one(b, MODEL_HIGH + (MODEL_MEMORY - MODEL_LOW), 1, 0);
}

static void in_the_hole(struct bench *b)
{
	one(b, MODEL_LOW, 1, WRITE);
}

static void into_the_hole(struct bench *b)
{
	one(b, MODEL_LOW - 8, 9, 0);
}

static void past_the_end(struct bench *b)
{
	one(b, MODEL_HIGH + (MODEL_MEMORY - MODEL_LOW) - 16, 17, 0);
}

static void address_wraps(struct bench *b)
{
	one(b, UINT64_MAX - 7, 64, 0);
}

static void length_enormous(struct bench *b)
{
	one(b, 0, UINT32_MAX, 0);
}

static void indirect_not_offered(struct bench *b)
{
	put(b, TAB, 0, DATA, 16, 0, 0);
	one(b, TAB, 16, IND);
}

static void indirect_and_next(struct bench *b)
{
	put(b, TAB, 0, DATA, 16, 0, 0);
	put(b, RING, 1, DATA, 16, b->driver.packed ? AV : 0, 0);
	one(b, TAB, 16, IND | NEXT);
}

static void indirect_in_indirect(struct bench *b)
{
	put(b, TAB, 0, TAB, 16, IND, 0);
	one(b, TAB, 16, IND);
}

static void indirect_odd_length(struct bench *b)
{
	one(b, TAB, 17, IND);
}

static void indirect_no_length(struct bench *b)
{
	one(b, TAB, 0, IND);
}

static void indirect_too_long(struct bench *b)
{
	one(b, TAB, 16 * (VIRTQ_MAX_IOV + 1), IND);
}

static void indirect_outside_ram(struct bench *b)
{
	one(b, MODEL_LOW - 16, 32, IND);
}

static void indirect_wraps(struct bench *b)
{
	one(b, UINT64_MAX - 15, 32, IND);
}

static void indirect_buffer_outside_ram(struct bench *b)
{
	put(b, TAB, 0, DATA, 16, NEXT, 1);
	put(b, TAB, 1, MODEL_LOW, 16, 0, 0);
	one(b, TAB, 32, IND);
}

/* 1024 buffers of 8 MiB are more than 4 GiB, and all of them are RAM. */
static void longer_than_4g(struct bench *b)
{
	for (unsigned i = 0; i < 1024; i++)
		put(b, TAB, i, 0, MODEL_LOW, i < 1023 ? NEXT : 0, (uint16_t)(i + 1));
	one(b, TAB, 16 * 1024, IND);
}

/* ---- packed ---- */

static void packed_endless(struct bench *b)
{
	for (unsigned i = 0; i < SIZE; i++)
		put(b, RING, i, DATA, 16, AV | NEXT, 0);
}

static const struct hostile cases[] = {
	{ "avail idx jumps ahead", 0, index_jumps, "available index runs ahead of the queue" },
	{ "avail idx goes back", 0, index_goes_back, "available index runs ahead of the queue" },
	{ "head = size", 0, head_outside, "descriptor index out of range" },
	{ "head = 65535", 0, head_far_outside, "descriptor index out of range" },
	{ "next = size", 0, next_outside, "descriptor index out of range" },
	{ "loop of one", 0, loop_of_one, "loop in a chain of descriptors" },
	{ "loop of all", 0, loop_of_all, "loop in a chain of descriptors" },
	{ "loop in a table", INDIRECT, loop_of_indirect, "loop in a chain of descriptors" },
	{ "next outside the table", INDIRECT, indirect_next_outside,
	  "descriptor index out of range" },
	{ "endless packed chain", PACKED, packed_endless, "chain longer than the ring" },
#define BOTH(name, feature, fn, why)                                                               \
	{ name, feature, fn, why },                                                                \
	{                                                                                          \
		name " (packed)", (feature) | PACKED, fn, why                                      \
	}
	BOTH("readable after writable", 0, readable_after_writable,
	     "device-readable buffer after a device-writable one"),
	BOTH("length 0", 0, length_zero, "buffer of length 0"),
	BOTH("length 0 later", 0, later_length_zero, "buffer of length 0"),
	BOTH("just above RAM", 0, above_ram, "buffer outside RAM"),
	BOTH("in the PCI hole", 0, in_the_hole, "buffer outside RAM"),
	BOTH("reaches into the hole", 0, into_the_hole, "buffer outside RAM"),
	BOTH("one byte past the end", 0, past_the_end, "buffer outside RAM"),
	BOTH("address wraps", 0, address_wraps, "buffer outside RAM"),
	BOTH("4 GiB - 1 from 0", 0, length_enormous, "buffer outside RAM"),
	BOTH("indirect without the feature", 0, indirect_not_offered,
	     "indirect descriptor without the feature"),
	BOTH("indirect and next", INDIRECT, indirect_and_next,
	     "indirect descriptor that has a next one"),
	BOTH("indirect in a table", INDIRECT, indirect_in_indirect,
	     "indirect descriptor in an indirect table"),
	BOTH("table of 17 bytes", INDIRECT, indirect_odd_length, "indirect table of an odd length"),
	BOTH("table of 0 bytes", INDIRECT, indirect_no_length, "indirect table of an odd length"),
	BOTH("table of 1025", INDIRECT, indirect_too_long, "indirect table too long"),
	BOTH("table reaches out of RAM", INDIRECT, indirect_outside_ram,
	     "indirect table outside RAM"),
	BOTH("table wraps", INDIRECT, indirect_wraps, "indirect table outside RAM"),
	BOTH("table names what is no RAM", INDIRECT, indirect_buffer_outside_ram,
	     "buffer outside RAM"),
	BOTH("longer than 4 GiB", INDIRECT, longer_than_4g, "chain longer than 4 GiB"),
};

ParameterizedTestParameters(virtq_hostile, broken)
{
	static unsigned index[sizeof(cases) / sizeof(cases[0])];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		index[i] = i;
	return cr_make_param_array(unsigned, index, sizeof(cases) / sizeof(cases[0]));
}

ParameterizedTest(unsigned *index, virtq_hostile, broken)
{
	for (unsigned in_order = 0; in_order < 2; in_order++) {
		const struct hostile *h = &cases[*index];
		struct bench *b = bench_create(h->features | (in_order ? IN_ORDER : 0), SIZE);
		uint8_t *before = malloc(MODEL_LOW);
		struct virtq_state state = virtq_state_reset();
		struct virtq_chain *chain[4];
		struct model_buf buf = { DATA, 16, true };

		h->damage(b);
		memcpy(before, model_at(&b->memory, 0, MODEL_LOW), MODEL_LOW);
		for (unsigned i = 0; i < 3; i++) {
			cr_assert_eq(virtq_pop(&b->q, chain, 4), 0, "%s", h->what);
			cr_assert_str_eq(b->q.error, h->error, "%s: %s", h->what, b->q.error);
		}
		cr_assert_eq(b->q.out, 0, "%s", h->what);
		cr_assert_eq(virtq_publish(&b->q), VIRTQ_NOTHING);
		cr_assert(!virtq_enable_kicks(&b->q));
		cr_assert_eq(memcmp(before, model_at(&b->memory, 0, MODEL_LOW), MODEL_LOW), 0, "%s",
			     h->what);

		/* A reset, and all is well. */
		virtq_stop(&b->q);
		model_free(&b->driver);
		model_init(&b->driver, &b->memory, 0, SIZE, h->features);
		cr_assert_eq(virtq_start(&b->q, &b->driver.config, &state), 0);
		cr_assert_geq(model_add(&b->driver, &buf, 1, false), 0);
		cr_assert_eq(virtq_pop(&b->q, chain, 4), 1, "%s: %s", h->what, b->q.error);
		virtq_push(&b->q, chain[0], 1);
		virtq_publish(&b->q);
		free(before);
		bench_destroy(b);
	}
}

/* The chains before the damage were taken; they can be given back and are not shown. */
Test(virtq_hostile, breaks_with_chains_out)
{
	static const uint64_t features[] = { 0, IN_ORDER, PACKED, PACKED | IN_ORDER };

	for (unsigned i = 0; i < 4; i++) {
		struct bench *b = bench_create(features[i], SIZE);
		struct model_buf good = { DATA, 16, true }, bad = { MODEL_LOW, 16, true };
		struct virtq_chain *chain[4];
		struct model_used used;

		model_add(&b->driver, &good, 1, false);
		model_add(&b->driver, &good, 1, false);
		model_add(&b->driver, &bad, 1, false);
		cr_assert_eq(virtq_pop(&b->q, chain, 4), 2);
		cr_assert_str_eq(b->q.error, "buffer outside RAM");
		virtq_push(&b->q, chain[1], 16);
		virtq_push(&b->q, chain[0], 16);
		cr_assert_eq(virtq_publish(&b->q), VIRTQ_NOTHING);
		cr_assert(!model_used(&b->driver, &used));
		cr_assert_eq(b->q.out, 0);
		bench_destroy(b);
	}
}

/* What holds chains gives them back unused, whatever became of the others: none is lost. */
Test(virtq_hostile, breaks_with_unused_chains_out)
{
	static const uint64_t features[] = { 0, IN_ORDER, PACKED, PACKED | IN_ORDER };

	for (unsigned i = 0; i < 4; i++) {
		struct bench *b = bench_create(features[i], SIZE);
		struct model_buf good = { DATA, 16, true }, bad = { MODEL_LOW, 16, true };
		struct virtq_chain *chain[4], *c;
		unsigned n = 0;

		for (unsigned k = 0; k < 4; k++)
			model_add(&b->driver, k < 3 ? &good : &bad, 1, false);
		cr_assert_eq(virtq_pop(&b->q, chain, 4), 3);
		virtq_push(&b->q, chain[2], 16);
		virtq_unpop(&b->q, chain[1]);
		virtq_unpop(&b->q, chain[0]);
		cr_assert_eq(b->q.out, 0);
		virtq_stop(&b->q);
		for (c = b->q.chains_free; c; c = c->next)
			n++;
		cr_assert_eq(n, b->q.chains_fresh);
		bench_destroy(b);
	}
}

/* The same descriptors made available again while the device has them. */
Test(virtq_hostile, more_in_flight_than_there_are_descriptors)
{
	struct bench *b = bench_create(0, SIZE);
	struct virtq_chain *chain[2 * SIZE];

	put(b, RING, 0, DATA, 16, 0, 0);
	avail(b, 0, 0, SIZE);
	cr_assert_eq(virtq_pop(&b->q, chain, 2 * SIZE), SIZE);
	avail(b, 0, 0, SIZE + 1);
	cr_assert_eq(virtq_pop(&b->q, chain + SIZE, SIZE), 0);
	cr_assert_str_eq(b->q.error, "available index runs ahead of the queue");
	bench_destroy(b);
}

Test(virtq_hostile, more_in_flight_than_there_are_descriptors_packed)
{
	struct bench *b = bench_create(PACKED, SIZE);
	struct virtq_chain *chain[2 * SIZE];

	for (unsigned i = 0; i < SIZE; i++)
		put(b, RING, i, DATA, 16, AV, 0);
	cr_assert_eq(virtq_pop(&b->q, chain, 2 * SIZE), SIZE);
	for (unsigned i = 0; i < SIZE; i++) /* available in the second lap */
		put(b, RING, i, DATA, 16, 1u << VRING_PACKED_DESC_F_USED, 0);
	cr_assert_eq(virtq_pop(&b->q, chain + SIZE, SIZE), 0);
	cr_assert_str_eq(b->q.error, "more descriptors available than the ring has");
	bench_destroy(b);
}

Test(virtq_hostile, too_many_buffers_in_a_direct_chain)
{
	struct bench *b = bench_create(0, 2048);
	struct model_buf *buf = calloc(VIRTQ_MAX_IOV + 1, sizeof(*buf));
	struct virtq_chain *chain;

	for (unsigned i = 0; i <= VIRTQ_MAX_IOV; i++)
		buf[i] = (struct model_buf){ DATA, 1, false };
	model_add(&b->driver, buf, VIRTQ_MAX_IOV + 1, false);
	cr_assert_eq(virtq_pop(&b->q, &chain, 1), 0);
	cr_assert_str_eq(b->q.error, "chain of too many buffers");
	free(buf);
	bench_destroy(b);
}

/* ---- rings that cannot be ---- */

struct bad_start {
	const char *what;
	struct virtq_config config;
	struct virtq_state state;
	int err;
};

#define GOOD .desc = MODEL_DESC, .driver = MODEL_DRIVER, .device = MODEL_DEVICE
#define ZERO                                                                                       \
	{                                                                                          \
		.avail_wrap = true                                                                 \
	}

static const struct bad_start starts[] = {
	{ "size 0", { .size = 0, GOOD }, ZERO, -EINVAL },
	{ "size above the maximum", { .size = 512, GOOD }, ZERO, -EINVAL },
	{ "size no power of two", { .size = 6, GOOD }, ZERO, -EINVAL },
	{ "descriptors misaligned",
	  { .size = 8, .desc = 0x1008, .driver = 0x2000, .device = 0x3000 },
	  ZERO,
	  -EFAULT },
	{ "available ring misaligned",
	  { .size = 8, .desc = 0x1000, .driver = 0x2001, .device = 0x3000 },
	  ZERO,
	  -EFAULT },
	{ "used ring misaligned",
	  { .size = 8, .desc = 0x1000, .driver = 0x2000, .device = 0x3002 },
	  ZERO,
	  -EFAULT },
	{ "descriptors outside RAM",
	  { .size = 8, .desc = MODEL_LOW, .driver = 0x2000, .device = 0x3000 },
	  ZERO,
	  -EFAULT },
	{ "descriptors half outside RAM",
	  { .size = 8, .desc = MODEL_LOW - 64, .driver = 0x2000, .device = 0x3000 },
	  ZERO,
	  -EFAULT },
	{ "available ring's event outside RAM",
	  { .size = 8, .desc = 0x1000, .driver = MODEL_LOW - 20, .device = 0x3000 },
	  ZERO,
	  -EFAULT },
	{ "used ring's event outside RAM",
	  { .size = 8, .desc = 0x1000, .driver = 0x2000, .device = MODEL_LOW - 68 },
	  ZERO,
	  -EFAULT },
	{ "used ring wraps",
	  { .size = 8, .desc = 0x1000, .driver = 0x2000, .device = UINT64_MAX - 3 },
	  ZERO,
	  -EFAULT },
	{ "packed descriptors misaligned",
	  { .size = 8, .desc = 0x1008, .driver = 0x2000, .device = 0x3000, .features = PACKED },
	  ZERO,
	  -EFAULT },
	{ "packed event misaligned",
	  { .size = 8, .desc = 0x1000, .driver = 0x2002, .device = 0x3000, .features = PACKED },
	  ZERO,
	  -EFAULT },
	{ "packed event outside RAM",
	  { .size = 8, .desc = 0x1000, .driver = 0x2000, .device = MODEL_LOW, .features = PACKED },
	  ZERO,
	  -EFAULT },
	{ "packed position outside the ring",
	  { .size = 6, GOOD, .features = PACKED },
	  { .avail_idx = 6, .avail_wrap = true, .used_wrap = true },
	  -EINVAL },
};

Test(virtq_hostile, rings_that_cannot_be)
{
	struct guest_memory memory = model_memory();
	struct virtq q;

	cr_assert_eq(virtq_init(&q, &memory, 256, 0), 0);
	for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		const struct bad_start *s = &starts[i];
		struct virtq_chain *chain;

		cr_assert_eq(virtq_start(&q, &s->config, &s->state), s->err, "%s", s->what);
		cr_assert_not_null(q.error, "%s", s->what);
		cr_assert_eq(virtq_pop(&q, &chain, 1), 0, "%s", s->what);
		virtq_stop(&q);
	}
	virtq_destroy(&q);
	memory_destroy(&memory);
}

/* ---- random damage ---- */

static bool inside_ram(const struct guest_memory *m, const struct iovec *iov)
{
	const uint8_t *p = iov->iov_base;

	for (unsigned i = 0; i < m->nregions; i++) {
		const struct memory_region *r = &m->region[i];

		if (p >= r->host && iov->iov_len <= r->size &&
		    (size_t)(p - r->host) <= r->size - iov->iov_len)
			return true;
	}
	return false;
}

static void flip(struct bench *b, uint64_t *random)
{
	static const struct {
		uint64_t base, len;
	} places[] = { { MODEL_DESC, 16 * SIZE },
		       { MODEL_DRIVER, 6 + 2 * SIZE },
		       { MODEL_TABLES, 16 * 32 } };
	unsigned place = (unsigned)(model_random(random) % 3);
	uint64_t at = places[place].base + model_random(random) % places[place].len;
	uint8_t byte;

	memory_read(&b->memory, at, &byte, 1);
	byte ^= (uint8_t)(1u << (model_random(random) % 8));
	memory_write(&b->memory, at, &byte, 1);
}

static void check_iovs(struct bench *b, const struct virtq_chain *chain)
{
	const struct virtq_span *spans[] = { &chain->readable, &chain->writable };

	cr_assert_gt(chain->readable.n + chain->writable.n, 0);
	for (unsigned s = 0; s < 2; s++) {
		uint64_t len = 0;

		for (unsigned i = 0; i < spans[s]->n; i++) {
			cr_assert(inside_ram(&b->memory, &spans[s]->iov[i]));
			cr_assert_gt(spans[s]->iov[i].iov_len, 0);
			len += spans[s]->iov[i].iov_len;
		}
		cr_assert_eq(len, spans[s]->len);
	}
}

/* A few good chains, then damage, then everything the device does. */
static unsigned damaged_round(struct bench *b, uint64_t *random, struct virtq_chain **held,
			      unsigned nheld)
{
	struct model_buf buf[4] = {
		{ DATA, 64, false }, { 0x1000, 4096, false }, { DATA, 8, true }, { DATA, 1, true }
	};
	struct virtq_chain *chains[SIZE];
	unsigned n;

	for (unsigned i = 0; i < 3; i++)
		model_add(&b->driver, buf, 1 + (unsigned)(model_random(random) % 4),
			  b->driver.indirect && model_random(random) % 2);
	for (unsigned i = 0; i < model_random(random) % 3; i++)
		flip(b, random);
	n = virtq_pop(&b->q, chains, SIZE);
	for (unsigned i = 0; i < n; i++) {
		check_iovs(b, chains[i]);
		held[nheld++] = chains[i];
	}
	while (nheld && model_random(random) % 4)
		virtq_push(&b->q, held[--nheld], (uint32_t)model_random(random));
	virtq_publish(&b->q);
	virtq_enable_kicks(&b->q);
	return nheld;
}

static void random_damage(uint64_t features)
{
	uint64_t random = features;

	for (unsigned run = 0; run < 3000; run++) {
		struct virtq_chain *held[2 * SIZE];
		unsigned nheld = 0;
		struct bench *b = bench_create(features, SIZE);

		for (unsigned i = 0; i < 20 && !b->q.error; i++) {
			nheld = damaged_round(b, &random, held, nheld);
			/* The driver's own bookkeeping does not survive the damage. */
			b->driver.free_slots = SIZE;
			b->driver.free_head = b->driver.packed ? SIZE : 0;
			for (unsigned j = 0; j < SIZE; j++)
				b->driver.next[j] =
					(uint16_t)(b->driver.packed ? j : (j + 1) % SIZE);
		}
		virtq_stop(&b->q);
		while (nheld)
			virtq_push(&b->q, held[--nheld], 1);
		cr_assert_eq(b->q.out, 0);
		bench_destroy(b);
	}
}

Test(virtq_hostile, random_damage_split)
{
	random_damage(INDIRECT);
	random_damage(INDIRECT | EVENT | IN_ORDER);
}

Test(virtq_hostile, random_damage_packed)
{
	random_damage(INDIRECT | PACKED);
	random_damage(INDIRECT | PACKED | EVENT | IN_ORDER);
}
