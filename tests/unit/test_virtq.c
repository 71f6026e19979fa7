/*
 * Virtqueues with a driver that keeps the rules: random traffic through split and packed rings with
 * every combination of features, event suppression from both sides, taking over and handing over.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/test_virtq_model.h"

#define PACKED	 MODEL_BIT(VIRTIO_F_RING_PACKED)
#define EVENT	 MODEL_BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER MODEL_BIT(VIRTIO_F_IN_ORDER)

#define MAXBUFS 48

struct param {
	uint16_t size;
	uint64_t features;
};

/* What the test knows of a chain by its id. */
struct expected {
	bool used; /* waits for its completion */
	unsigned n;
	struct model_buf buf[MAXBUFS];
	uint32_t readable, writable, written;
};

struct traffic {
	struct guest_memory memory;
	struct model driver;
	struct virtq q;
	uint64_t random;
	struct expected *expected; /* by id */
	struct virtq_chain **held; /* by the device */
	unsigned nheld;
	bool driver_sleeps, device_sleeps;
	uint64_t added, completed;
	uint32_t order_next, order_done; /* in order: sequence numbers */
	uint32_t *sequence;
};

static struct traffic *traffic_create(struct param p)
{
	struct traffic *t = calloc(1, sizeof(*t));
	struct virtq_state state = virtq_state_reset();

	t->memory = model_memory();
	t->random = p.size ^ p.features;
	t->expected = calloc(p.size, sizeof(*t->expected));
	t->held = calloc(p.size, sizeof(*t->held));
	t->sequence = calloc(p.size, sizeof(*t->sequence));
	model_init(&t->driver, &t->memory, 0, p.size, p.features);
	cr_assert_eq(virtq_init(&t->q, &t->memory, p.size, 16), 0);
	cr_assert_eq(virtq_start(&t->q, &t->driver.config, &state), 0, "%s", t->q.error);
	/* The device begins by enabling kicks, as serve() does. */
	t->device_sleeps = !virtq_enable_kicks(&t->q);
	t->driver_sleeps = !model_sleep(&t->driver);
	return t;
}

static void traffic_destroy(struct traffic *t)
{
	virtq_stop(&t->q);
	virtq_destroy(&t->q);
	model_free(&t->driver);
	free(t->expected);
	free(t->held);
	free(t->sequence);
	memory_destroy(&t->memory);
	free(t);
}

static uint64_t pick(struct traffic *t, uint64_t below)
{
	return model_random(&t->random) % below;
}

/* A random chain, readable buffers before writable ones. */
static void driver_adds(struct traffic *t)
{
	bool indirect = t->driver.indirect && pick(t, 2);
	unsigned most = indirect ? MAXBUFS : t->driver.size < MAXBUFS ? t->driver.size : MAXBUFS;
	unsigned n = 1 + (unsigned)pick(t, pick(t, 4) ? (most < 4 ? most : 4) : most);
	unsigned readable = (unsigned)pick(t, n + 1);
	struct expected x = { .used = true, .n = n };
	int id;

	for (unsigned i = 0; i < n; i++) {
		x.buf[i] = (struct model_buf){
			.addr = MODEL_HIGH + pick(t, 7 << 20),
			.len = 1 + (uint32_t)pick(t, pick(t, 8) ? 64 : 70000),
			.write = i >= readable,
		};
		if (i < readable)
			x.readable += x.buf[i].len;
		else
			x.writable += x.buf[i].len;
	}
	id = model_add(&t->driver, x.buf, n, indirect);
	if (id < 0)
		return;
	cr_assert(!t->expected[id].used);
	t->expected[id] = x;
	t->sequence[id] = t->order_next++;
	t->added++;
	/* A device that went to sleep must be kicked for the first chain after that. */
	if (model_must_kick(&t->driver))
		t->device_sleeps = false;
	cr_assert(!t->device_sleeps, "the device sleeps and is not kicked");
}

/* The iovecs are the driver's buffers, all of them, nothing else. */
static void check_span(struct traffic *t, const struct virtq_span *span, const struct expected *x,
		       bool write)
{
	unsigned iov = 0;
	uint64_t len = 0;

	for (unsigned i = 0; i < x->n; i++) {
		if (x->buf[i].write != write)
			continue;
		cr_assert_lt(iov, span->n);
		cr_assert_eq(span->iov[iov].iov_len, x->buf[i].len);
		cr_assert_eq(span->iov[iov].iov_base,
			     model_at(&t->memory, x->buf[i].addr, x->buf[i].len));
		len += x->buf[i].len;
		iov++;
	}
	cr_assert_eq(iov, span->n);
	cr_assert_eq(len, span->len);
}

static void device_takes(struct traffic *t)
{
	struct virtq_chain *chains[16];
	unsigned n;

	virtq_disable_kicks(&t->q);
	t->device_sleeps = false;
	n = virtq_pop(&t->q, chains, 1 + (unsigned)pick(t, 16));
	cr_assert_null(t->q.error, "%s", t->q.error);
	for (unsigned i = 0; i < n; i++) {
		struct expected *x = &t->expected[chains[i]->id];

		cr_assert(x->used);
		check_span(t, &chains[i]->readable, x, false);
		check_span(t, &chains[i]->writable, x, true);
		memcpy(virtq_chain_private(chains[i]), &chains[i]->id, 2);
		t->held[t->nheld++] = chains[i];
	}
	if (n && pick(t, 8) == 0) { /* changes its mind about the last one */
		virtq_unpop(&t->q, t->held[--t->nheld]);
		return;
	}
	if (pick(t, 2))
		t->device_sleeps = !virtq_enable_kicks(&t->q);
}

static void device_returns(struct traffic *t)
{
	unsigned n = (unsigned)pick(t, t->nheld + 1);

	for (unsigned i = 0; i < n; i++) {
		unsigned at = (unsigned)pick(t, t->nheld);
		struct virtq_chain *chain = t->held[at];
		struct expected *x = &t->expected[chain->id];

		cr_assert_eq(memcmp(virtq_chain_private(chain), &chain->id, 2), 0);
		t->held[at] = t->held[--t->nheld];
		x->written = (uint32_t)pick(t, (uint64_t)x->writable + 1);
		virtq_push(&t->q, chain, x->written);
	}
	switch (virtq_publish(&t->q)) {
	case VIRTQ_NOTIFY:
		t->driver_sleeps = false;
		break;
	case VIRTQ_SUPPRESSED:
		cr_assert(!t->driver_sleeps, "the driver sleeps and is not interrupted");
		break;
	case VIRTQ_NOTHING:
		break;
	}
}

static void driver_reaps(struct traffic *t)
{
	struct model_used used;

	model_busy(&t->driver);
	t->driver_sleeps = false;
	while (pick(t, 16) && model_used(&t->driver, &used)) {
		struct expected *x = &t->expected[used.id];

		cr_assert(x->used);
		cr_assert_eq(used.len, x->written);
		if (t->q.in_order)
			cr_assert_eq(t->sequence[used.id], t->order_done);
		t->order_done++;
		x->used = false;
		t->completed++;
	}
	if (pick(t, 2))
		t->driver_sleeps = !model_sleep(&t->driver);
}

ParameterizedTestParameters(virtq, random_traffic)
{
	static struct param params[64];
	static const uint16_t split_sizes[] = { 1, 2, 8, 256 };
	static const uint16_t packed_sizes[] = { 1, 2, 3, 7, 256 };
	size_t n = 0;

	for (unsigned f = 0; f < 8; f++) {
		uint64_t features =
			(f & 1 ? EVENT : 0) | (f & 2 ? INDIRECT : 0) | (f & 4 ? IN_ORDER : 0);

		for (unsigned i = 0; i < 3; i++)
			params[n++] = (struct param){ split_sizes[1 + i], features };
		for (unsigned i = 0; i < 4; i++)
			params[n++] = (struct param){ packed_sizes[1 + i], features | PACKED };
	}
	params[n++] = (struct param){ 1, EVENT | INDIRECT };
	params[n++] = (struct param){ 1, EVENT | INDIRECT | PACKED };
	return cr_make_param_array(struct param, params, n);
}

ParameterizedTest(struct param *p, virtq, random_traffic)
{
	struct traffic *t = traffic_create(*p);

	for (unsigned step = 0; step < 20000; step++) {
		switch (pick(t, 4)) {
		case 0:
			driver_adds(t);
			break;
		case 1:
			device_takes(t);
			break;
		case 2:
			device_returns(t);
			break;
		default:
			driver_reaps(t);
		}
	}
	/* Everything comes back. */
	for (unsigned i = 0; i < 100000 && t->completed < t->added; i++) {
		device_takes(t);
		device_returns(t);
		driver_reaps(t);
	}
	cr_assert_eq(t->completed, t->added);
	cr_assert(t->added > 100, "%llu", (unsigned long long)t->added);
	cr_assert_eq(t->q.out, 0);
	traffic_destroy(t);
}

/* More long chains than there are iovec blocks: pop stops, and goes on when some have come back. */
Test(virtq, throttles_and_recovers)
{
	struct traffic *t = traffic_create((struct param){ 256, INDIRECT });
	struct virtq_chain *chains[256];
	struct model_buf buf[MODEL_TABLE];
	unsigned n;

	for (unsigned i = 0; i < MODEL_TABLE; i++)
		buf[i] = (struct model_buf){ .addr = MODEL_HIGH + i * 4096, .len = 4096 };
	for (unsigned i = 0; i < 256; i++)
		cr_assert_geq(model_add(&t->driver, buf, MODEL_TABLE, true), 0);
	n = virtq_pop(&t->q, chains, 256);
	cr_assert_eq(n, VIRTQ_BLOCKS);
	cr_assert(t->q.throttled);
	cr_assert_null(t->q.error);
	cr_assert_eq(virtq_pop(&t->q, chains + n, 256 - n), 0);
	cr_assert(!virtq_has_room_again(&t->q), "to pop again would be to spin");
	virtq_push(&t->q, chains[5], 0);
	cr_assert(virtq_has_room_again(&t->q));
	cr_assert_eq(virtq_pop(&t->q, chains + n, 256 - n), 1);
	cr_assert(t->q.throttled);
	cr_assert_eq(chains[n]->readable.n, MODEL_TABLE);
	traffic_destroy(t);
}

Test(virtq, chains_cross_the_largest_number_of_buffers)
{
	struct traffic *t = traffic_create((struct param){ 2048, 0 });
	struct model_buf *buf = calloc(VIRTQ_MAX_IOV, sizeof(*buf));
	struct virtq_chain *chain;

	for (unsigned i = 0; i < VIRTQ_MAX_IOV; i++)
		buf[i] = (struct model_buf){ MODEL_HIGH + i * 16, 16, i >= VIRTQ_MAX_IOV / 2 };
	model_add(&t->driver, buf, VIRTQ_MAX_IOV, false);
	cr_assert_eq(virtq_pop(&t->q, &chain, 1), 1);
	cr_assert_eq(chain->readable.n, VIRTQ_MAX_IOV / 2);
	cr_assert_eq(chain->writable.n, VIRTQ_MAX_IOV / 2);
	cr_assert_eq(chain->writable.iov[0].iov_base,
		     model_at(&t->memory, buf[VIRTQ_MAX_IOV / 2].addr, 16));
	free(buf);
	traffic_destroy(t);
}

static void one_round(struct model *driver, struct virtq *q)
{
	struct model_buf buf = { MODEL_HIGH, 64, true };
	struct virtq_chain *chain;
	struct model_used used;

	cr_assert_geq(model_add(driver, &buf, 1, false), 0);
	cr_assert_eq(virtq_pop(q, &chain, 1), 1, "%s", q->error);
	virtq_push(q, chain, 64);
	virtq_publish(q);
	cr_assert(model_used(driver, &used));
	cr_assert_eq(used.len, 64);
}

/* What a handover to vhost and back does: another queue object goes on where this one stopped. */
static void hand_over(uint64_t features)
{
	struct traffic *t = traffic_create((struct param){ 8, features });
	struct virtq other;
	struct virtq_state state;

	cr_assert_eq(virtq_init(&other, &t->memory, 8, 0), 0);
	for (unsigned i = 0; i < 70000; i++) {
		one_round(&t->driver, &t->q);
		if (i % 1777)
			continue;
		state = virtq_get_state(&t->q);
		virtq_stop(&t->q);
		cr_assert_eq(virtq_start(&other, &t->driver.config, &state), 0);
		for (unsigned j = 0; j < i % 13; j++)
			one_round(&t->driver, &other);
		state = virtq_get_state(&other);
		virtq_stop(&other);
		cr_assert_eq(virtq_start(&t->q, &t->driver.config, &state), 0);
	}
	/* The same without mapping anew. */
	state = virtq_get_state(&t->q);
	cr_assert_eq(virtq_set_state(&t->q, &state), 0);
	one_round(&t->driver, &t->q);
	virtq_destroy(&other);
	traffic_destroy(t);
}

Test(virtq, state_moves_to_another_data_plane_split)
{
	hand_over(EVENT);
}

Test(virtq, state_moves_to_another_data_plane_packed)
{
	hand_over(EVENT | PACKED);
}

Test(virtq, kicks_are_asked_for_again_after_a_handover)
{
	struct traffic *t = traffic_create((struct param){ 8, 0 });
	struct vring_used *used = model_at(&t->memory, t->driver.config.device, 6);
	struct virtq_state state = virtq_get_state(&t->q);

	used->flags = VRING_USED_F_NO_NOTIFY; /* as another data plane left it */
	cr_assert_eq(virtq_set_state(&t->q, &state), 0);
	cr_assert(!virtq_enable_kicks(&t->q));
	cr_assert_eq(used->flags, 0);
	traffic_destroy(t);
}

Test(virtq, nothing_is_touched_after_stop)
{
	static const uint64_t features[] = { 0, IN_ORDER, PACKED, PACKED | IN_ORDER };

	for (unsigned i = 0; i < 4; i++) {
		struct traffic *t = traffic_create((struct param){ 8, features[i] });
		struct model_buf buf = { MODEL_HIGH, 64, true };
		struct virtq_chain *chain[3];
		struct virtq_state state = virtq_state_reset();
		uint8_t *before = malloc(MODEL_LOW);

		for (unsigned j = 0; j < 3; j++)
			model_add(&t->driver, &buf, 1, false);
		cr_assert_eq(virtq_pop(&t->q, chain, 3), 3);
		virtq_push(&t->q, chain[1], 64); /* in order: waits for chain[0] */
		virtq_stop(&t->q);
		memcpy(before, model_at(&t->memory, 0, MODEL_LOW), MODEL_LOW);
		/* Not while the device holds chains. */
		cr_assert_eq(virtq_start(&t->q, &t->driver.config, &state), -EBUSY);
		virtq_push(&t->q, chain[2], 64);
		virtq_push(&t->q, chain[0], 64);
		cr_assert_eq(virtq_publish(&t->q), VIRTQ_NOTHING);
		cr_assert_eq(virtq_pop(&t->q, chain, 3), 0);
		cr_assert(!virtq_enable_kicks(&t->q));
		virtq_disable_kicks(&t->q);
		cr_assert_eq(memcmp(before, model_at(&t->memory, 0, MODEL_LOW), MODEL_LOW), 0);
		cr_assert_eq(virtq_start(&t->q, &t->driver.config, &state), 0);
		free(before);
		traffic_destroy(t);
	}
}

/* ---- both sides at once ---------------------------------------------------------------------- */

/*
 * Driver and device on threads of their own, each sleeping as the rules allow: a missing barrier or
 * a wrong event decision shows as both sleeping for ever.
 */
struct duel {
	struct model driver;
	struct virtq q;
	sem_t kick, interrupt;
	unsigned rounds;
	unsigned kicks, interrupts;
};

static void sleep_on(sem_t *sem, const char *who)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 20;
	while (sem_timedwait(sem, &limit) < 0)
		cr_assert_eq(errno, EINTR, "%s sleeps for ever", who);
}

static void *duel_device(void *arg)
{
	struct duel *d = arg;
	unsigned done = 0;

	while (done < d->rounds) {
		struct virtq_chain *chain[4];
		unsigned n;

		virtq_disable_kicks(&d->q);
		while ((n = virtq_pop(&d->q, chain, 4)) > 0) {
			for (unsigned i = 0; i < n; i++)
				virtq_push(&d->q, chain[i], 1);
			done += n;
			if (virtq_publish(&d->q) == VIRTQ_NOTIFY) {
				d->interrupts++;
				sem_post(&d->interrupt);
			}
		}
		if (d->q.error)
			break;
		if (done < d->rounds && !virtq_enable_kicks(&d->q))
			sleep_on(&d->kick, "device");
	}
	return NULL;
}

static void duel(uint64_t features, uint16_t size)
{
	struct guest_memory memory = model_memory();
	struct duel d = { .rounds = 100000 };
	struct virtq_state state = virtq_state_reset();
	struct model_buf buf[2] = { { MODEL_HIGH, 8, false }, { MODEL_HIGH + 64, 8, true } };
	struct model_used used;
	unsigned added = 0, reaped = 0;
	pthread_t device;

	model_init(&d.driver, &memory, 0, size, features);
	cr_assert_eq(virtq_init(&d.q, &memory, size, 0), 0);
	cr_assert_eq(virtq_start(&d.q, &d.driver.config, &state), 0);
	sem_init(&d.kick, 0, 0);
	sem_init(&d.interrupt, 0, 0);
	pthread_create(&device, NULL, duel_device, &d);
	while (reaped < d.rounds) {
		model_busy(&d.driver);
		while (added < d.rounds && model_add(&d.driver, buf, 1 + added % 2, false) >= 0) {
			added++;
			if (model_must_kick(&d.driver)) {
				d.kicks++;
				sem_post(&d.kick);
			}
		}
		while (model_used(&d.driver, &used))
			reaped++;
		if (reaped < d.rounds && (added == d.rounds || d.driver.free_slots < 2) &&
		    !model_sleep(&d.driver))
			sleep_on(&d.interrupt, "driver");
	}
	pthread_join(device, NULL);
	cr_assert_null(d.q.error, "%s", d.q.error);
	cr_log_info("%u requests: %u kicks, %u interrupts", d.rounds, d.kicks, d.interrupts);
	virtq_destroy(&d.q);
	model_free(&d.driver);
	memory_destroy(&memory);
}

Test(virtq_threads, split, .timeout = 60)
{
	duel(0, 16);
	duel(0, 2);
}

Test(virtq_threads, split_event_idx, .timeout = 60)
{
	duel(EVENT, 16);
	duel(EVENT, 2);
}

Test(virtq_threads, packed, .timeout = 60)
{
	duel(PACKED, 16);
	duel(PACKED, 3);
}

Test(virtq_threads, packed_event_idx, .timeout = 60)
{
	duel(PACKED | EVENT, 16);
	duel(PACKED | EVENT, 3);
}
