/* See test_vhost_rig.h. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_vhost_rig.h"

/* ---- the backend ----------------------------------------------------------------------------- */

static struct fake_vhost *fake_of(struct vhost *b)
{
	return (struct fake_vhost *)b;
}

static int note(struct vhost *b, const char *call, int index)
{
	struct fake_vhost *f = fake_of(b);
	size_t len = strlen(f->log);
	char text[32];

	snprintf(text, sizeof(text), index < 0 ? "%s" : "%s%d", call, index);
	snprintf(f->log + len, sizeof(f->log) - len, "%s%s", len ? " " : "", text);
	return f->fail && strcmp(f->fail, text) == 0 ? -EIO : 0;
}

static int set_features(struct vhost *b, uint64_t features)
{
	fake_of(b)->features = features;
	return note(b, "features", -1);
}

static int set_memory(struct vhost *b, const struct guest_memory *memory)
{
	fake_of(b)->memory = memory;
	return note(b, "memory", -1);
}

static int set_vring(struct vhost *b, const struct vhost_vring *ring)
{
	struct fake_vhost *f = fake_of(b);
	struct fake_ring *r = &f->ring[ring->index];
	const struct virtq_config config = {
		.size = ring->size,
		.desc = ring->desc,
		.driver = ring->driver,
		.device = ring->device,
		.features = f->features,
	};
	int err = note(b, "vring", (int)ring->index);

	cr_assert_eq(ring->desc_host, memory_map(f->memory, ring->desc, 16, 1));
	cr_assert_eq(ring->driver_host, memory_map(f->memory, ring->driver, 4, 1));
	cr_assert_eq(ring->device_host, memory_map(f->memory, ring->device, 4, 1));
	cr_assert_eq(ring->packed, !!(f->features & MODEL_BIT(VIRTIO_F_RING_PACKED)));
	cr_assert(!r->set, "ring %u is set up already", ring->index);
	if (err)
		return err;
	pthread_mutex_lock(&f->lock);
	r->vring = *ring;
	cr_assert_eq(virtq_init(&r->q, f->memory, ring->size, 0), 0);
	cr_assert_eq(virtq_start(&r->q, &config, &ring->base), 0, "%s", r->q.error);
	r->set = true;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static int set_call(struct vhost *b, unsigned index, int fd)
{
	struct fake_vhost *f = fake_of(b);

	pthread_mutex_lock(&f->lock);
	f->ring[index].vring.call = fd;
	pthread_mutex_unlock(&f->lock);
	return note(b, "call", (int)index);
}

static int enable(struct vhost *b, unsigned index, bool on)
{
	struct fake_vhost *f = fake_of(b);

	pthread_mutex_lock(&f->lock);
	f->ring[index].enabled = on;
	pthread_mutex_unlock(&f->lock);
	return note(b, on ? "enable" : "disable", (int)index);
}

static int start(struct vhost *b)
{
	struct fake_vhost *f = fake_of(b);

	cr_assert(!f->running);
	pthread_mutex_lock(&f->lock);
	f->running = true;
	pthread_mutex_unlock(&f->lock);
	return note(b, "start", -1);
}

static int stop(struct vhost *b)
{
	struct fake_vhost *f = fake_of(b);

	pthread_mutex_lock(&f->lock);
	f->running = false;
	pthread_mutex_unlock(&f->lock);
	return note(b, "stop", -1);
}

static int get_base(struct vhost *b, unsigned index, struct virtq_state *base)
{
	struct fake_vhost *f = fake_of(b);
	struct fake_ring *r = &f->ring[index];
	int err = note(b, "base", (int)index);

	pthread_mutex_lock(&f->lock);
	*base = virtq_get_state(&r->q);
	if (r->set && !r->vring.packed)
		base->used_idx = 0xdead; /* need not be filled in */
	virtq_destroy(&r->q);
	r->set = false;
	pthread_mutex_unlock(&f->lock);
	return err;
}

static void reset(struct vhost *b)
{
	note(b, "reset", -1);
}

static int get_config(struct vhost *b, unsigned offset, void *buf, size_t len)
{
	cr_assert_leq(offset + len, sizeof(fake_of(b)->config));
	memcpy(buf, fake_of(b)->config + offset, len);
	return 0;
}

static int set_config(struct vhost *b, unsigned offset, const void *buf, size_t len)
{
	cr_assert_leq(offset + len, sizeof(fake_of(b)->config));
	memcpy(fake_of(b)->config + offset, buf, len);
	return note(b, "config", -1);
}

static unsigned tids(struct vhost *b, pid_t *tid, unsigned max)
{
	(void)b;
	cr_assert_geq(max, 1);
	tid[0] = 42;
	return 1;
}

static void close_fake(struct vhost *b)
{
	struct fake_vhost *f = fake_of(b);

	fake_stop_thread(f);
	for (unsigned i = 0; i < FAKE_RINGS; i++)
		virtq_destroy(&f->ring[i].q);
	pthread_mutex_destroy(&f->lock);
	if (f->closed)
		*f->closed = 1;
	free(f);
}

struct fake_vhost *fake_vhost_create(uint64_t features)
{
	struct fake_vhost *f = calloc(1, sizeof(*f));

	f->ops = (struct vhost_ops){
		.live_rings = true,
		.set_features = set_features,
		.set_memory = set_memory,
		.set_vring = set_vring,
		.set_call = set_call,
		.enable = enable,
		.start = start,
		.stop = stop,
		.get_base = get_base,
		.reset = reset,
		.get_config = get_config,
		.set_config = set_config,
		.tids = tids,
		.close = close_fake,
	};
	f->b = (struct vhost){
		.ops = &f->ops,
		.name = "fake",
		.features = features,
		.rings = FAKE_RINGS,
	};
	pthread_mutex_init(&f->lock, NULL);
	return f;
}

void fake_check_log(struct fake_vhost *f, const char *expected)
{
	cr_assert_str_eq(f->log, expected);
	f->log[0] = '\0';
}

struct vhost_vring fake_vring(struct fake_vhost *f, unsigned ring)
{
	struct vhost_vring v;

	pthread_mutex_lock(&f->lock);
	v = f->ring[ring].vring;
	pthread_mutex_unlock(&f->lock);
	return v;
}

static void answer(struct virtq *q, struct virtq_chain *chain, uint8_t who)
{
	uint8_t bytes[64];

	memset(bytes, who, sizeof(bytes));
	virtq_push(q, chain, (uint32_t)virtq_span_write(&chain->writable, bytes, sizeof(bytes)));
}

unsigned fake_serve(struct fake_vhost *f, unsigned ring, unsigned max)
{
	struct fake_ring *r = &f->ring[ring];
	struct virtq_chain *chain;
	uint64_t one = 1;
	unsigned n = 0;

	pthread_mutex_lock(&f->lock);
	while (f->running && r->set && r->enabled && n < max) {
		virtq_disable_kicks(&r->q);
		while (n < max && virtq_pop(&r->q, &chain, 1)) {
			answer(&r->q, chain, BY_BACKEND);
			n++;
		}
		if (virtq_publish(&r->q) == VIRTQ_NOTIFY)
			cr_assert_eq(write(r->vring.call, &one, sizeof(one)), sizeof(one));
		if (!virtq_enable_kicks(&r->q))
			break;
	}
	r->served += n;
	pthread_mutex_unlock(&f->lock);
	return n;
}

/* A kick is the backend's only while the ring is: once stopped, it must not eat the next owner's.
 */
static bool take_kick(struct fake_vhost *f, unsigned ring)
{
	struct fake_ring *r = &f->ring[ring];
	uint64_t count;
	bool taken;

	pthread_mutex_lock(&f->lock);
	taken = f->running && r->set && r->enabled &&
		read(r->vring.kick, &count, sizeof(count)) == sizeof(count);
	pthread_mutex_unlock(&f->lock);
	return taken;
}

static void *serve_thread(void *arg)
{
	struct fake_vhost *f = arg;

	while (!__atomic_load_n(&f->stop, __ATOMIC_ACQUIRE)) {
		struct pollfd p[FAKE_RINGS];

		for (unsigned i = 0; i < FAKE_RINGS; i++)
			p[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
		pthread_mutex_lock(&f->lock);
		for (unsigned i = 0; i < FAKE_RINGS; i++)
			if (f->running && f->ring[i].set && f->ring[i].enabled)
				p[i].fd = f->ring[i].vring.kick;
		pthread_mutex_unlock(&f->lock);
		poll(p, FAKE_RINGS, 1);
		for (unsigned i = 0; i < FAKE_RINGS; i++)
			if (p[i].revents & POLLIN && take_kick(f, i))
				fake_serve(f, i, 3); /* not all of it: stops come in the middle */
		for (unsigned i = 0; i < FAKE_RINGS; i++)
			fake_serve(f, i, 64);
	}
	return NULL;
}

void fake_start_thread(struct fake_vhost *f)
{
	f->threaded = true;
	f->stop = false;
	cr_assert_eq(pthread_create(&f->thread, NULL, serve_thread, f), 0);
}

void fake_stop_thread(struct fake_vhost *f)
{
	if (!f->threaded)
		return;
	__atomic_store_n(&f->stop, true, __ATOMIC_RELEASE);
	pthread_join(f->thread, NULL);
	f->threaded = false;
}

/* ---- the device ------------------------------------------------------------------------------ */

static struct echo *echo_of(struct virtio_device *v)
{
	return (struct echo *)v;
}

static void echo_process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	uint8_t bytes[64];

	memset(bytes, BY_US, sizeof(bytes));
	cr_assert(!q->outside);
	for (unsigned i = 0; i < n; i++) {
		size_t len = virtq_span_write(&chains[i]->writable, bytes, sizeof(bytes));

		virtio_queue_push(q, chains[i], (uint32_t)len);
	}
	__atomic_fetch_add(&echo_of(q->v)->served, n, __ATOMIC_RELAXED);
}

static void echo_update(struct virtio_device *v)
{
	vhost_plane_update(&echo_of(v)->plane);
}

static void echo_config_write(struct virtio_device *v, unsigned offset, unsigned size,
			      uint64_t value)
{
	vhost_plane_store_config(&echo_of(v)->plane, offset, size, value);
}

static void echo_reset(struct virtio_device *v)
{
	vhost_plane_reset(&echo_of(v)->plane);
}

static void echo_detach(struct virtio_device *v)
{
	vhost_plane_fini(&echo_of(v)->plane);
}

static void echo_destroy(struct virtio_device *v)
{
	event_loop_destroy(echo_of(v)->loop);
	free(v);
}

static const struct virtio_device_ops echo_ops = {
	.process = echo_process,
	.update = echo_update,
	.config_write = echo_config_write,
	.reset = echo_reset,
	.detach = echo_detach,
	.destroy = echo_destroy,
};

static void echo_config_changed(struct vhost_plane *p)
{
	vhost_plane_load_config(p, true);
}

static int make_parts(struct echo *echo, struct device_host *host,
		      const struct device_config *config, struct fake_vhost *f, struct error *e)
{
	static const struct virtio_identity identity = {
		.id = 63,
		.features = 3,
		.nqueues = ECHO_RINGS,
		.config_len = sizeof(f->config),
	};
	int err = virtio_device_init(&echo->v, &echo_ops, &identity, host, config, e);

	cr_assert_eq(err, 0);
	err = vhost_limit_features(&echo->v, &f->b, VHOST_RING_FEATURES | 1, e);
	if (err) {
		vhost_close(&f->b);
		return err;
	}
	echo->loop = event_loop_create("echo0", e);
	for (unsigned i = 0; i < ECHO_RINGS; i++)
		cr_assert_eq(virtio_queue_init(&echo->v, i, 64, 0, echo->loop, e), 0, "%s", e->msg);
	cr_assert_eq(event_loop_start(echo->loop, e), 0);
	cr_assert_eq(vhost_plane_init(&echo->plane, &echo->v, &f->b, ECHO_RINGS, host->loop, e), 0);
	echo->plane.config_changed = echo_config_changed;
	cr_assert_eq(vhost_plane_load_config(&echo->plane, false), 0);
	return virtio_transport_create(&echo->v, config, e);
}

static int create(struct device_host *host, const struct device_config *config, void *arg,
		  struct device **out, struct error *e)
{
	struct echo *echo = calloc(1, sizeof(*echo));
	int err = make_parts(echo, host, config, arg, e);

	if (err) {
		virtio_device_fini(&echo->v);
		echo_destroy(&echo->v);
		return err;
	}
	*out = &echo->v.dev;
	return 0;
}

static const struct device_key echo_keys[] = { VIRTIO_KEYS("64"), { 0 } };
static const struct device_row echo_row = {
	.class = CLASS_DEV,
	.model = MODEL_VHOST,
	.hw = "echo",
	.keys = echo_keys,
};

int echo_make(struct vrig *r, struct fake_vhost *f, const char *keys, struct device **out,
	      struct error *e)
{
	struct device_config config;
	int err;

	vrig_config(&config, &echo_row, NULL, keys);
	err = create(&r->host, &config, f, out, e);
	vrig_config_free(&config);
	return err;
}

void echo_plug(struct vrig *r, struct fake_vhost *f, const char *keys)
{
	vrig_plug_with(r, &echo_row, keys, create, f);
}
