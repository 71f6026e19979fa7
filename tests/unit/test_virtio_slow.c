/* See test_virtio_slow.h. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/pci.h"
#include "tests/unit/test_virtio_slow.h"

static struct slow *slow_of(struct virtio_device *v)
{
	return (struct slow *)v;
}

/* Fills the writable part, as a disk's DMA would, and gives the chain back. */
static void answer(struct virtio_queue *q, struct virtq_chain *chain)
{
	uint32_t len = (uint32_t)chain->writable.len;

	for (unsigned i = 0; i < chain->writable.n; i++)
		memset(chain->writable.iov[i].iov_base, 0xaa, chain->writable.iov[i].iov_len);
	virtio_queue_push(q, chain, len);
}

static void slow_process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	struct slow *s = slow_of(q->v);

	for (unsigned i = 0; i < n; i++) {
		if (q->index == 0 && s->slow)
			s->held[s->nheld++] = chains[i];
		else
			answer(q, chains[i]);
	}
}

/* Waits as for a disk; the test decides how long. */
static void slow_drain(struct virtio_queue *q)
{
	struct slow *s = slow_of(q->v);

	while (s->slow)
		pthread_cond_wait(&s->quick, &q->lock);
	while (s->nheld)
		answer(q, s->held[--s->nheld]);
	virtio_queue_publish(q);
}

static void slow_config_write(struct virtio_device *v, unsigned offset, unsigned size,
			      uint64_t value)
{
	virtio_config_set(v, offset, &value, size);
}

static const char *slow_check(struct virtio_device *v, uint64_t features)
{
	(void)v;
	return features & MODEL_BIT(4) && !(features & OWN_FEATURE) ? "bit 4 needs bit 3" : NULL;
}

static void slow_reset(struct virtio_device *v)
{
	slow_of(v)->resets++;
}

static void slow_destroy(struct virtio_device *v)
{
	event_loop_destroy(slow_of(v)->loop);
	pthread_cond_destroy(&slow_of(v)->quick);
	free(v);
}

static const struct virtio_device_ops slow_ops = {
	.process = slow_process,
	.drain = slow_drain,
	.config_write = slow_config_write,
	.check_features = slow_check,
	.reset = slow_reset,
	.destroy = slow_destroy,
};

static int slow_create(struct device_host *host, const struct device_config *config,
		       struct device **out, struct error *e)
{
	static const struct virtio_identity identity = {
		.id = 63,
		.features = OWN_FEATURE | MODEL_BIT(4),
		.nqueues = 2,
		.config_len = 12,
	};
	struct slow *s = calloc(1, sizeof(*s));

	cr_assert_eq(virtio_device_init(&s->v, &slow_ops, &identity, host, config, e), 0);
	pthread_cond_init(&s->quick, NULL);
	s->loop = event_loop_create("slow0", e);
	cr_assert_eq(virtio_queue_init(&s->v, 0, 64, 0, s->loop, e), 0);
	cr_assert_eq(virtio_queue_init(&s->v, 1, 16, 0, host->loop, e), 0);
	cr_assert_eq(event_loop_start(s->loop, e), 0);
	cr_assert_eq(virtio_pci_create(&s->v, e), 0);
	*out = &s->v.dev;
	return 0;
}

static const struct device_key slow_keys[] = { VIRTIO_KEYS("64"), { 0 } };
const struct device_row slow_row = {
	.class = CLASS_DEV,
	.model = MODEL_VIRTIO,
	.hw = "slow",
	.keys = slow_keys,
	.create = slow_create,
};

struct slow *slow_in(struct vrig *r)
{
	return (struct slow *)r->dev;
}

void slow_set(struct vrig *r, bool slow)
{
	struct slow *s = slow_in(r);

	pthread_mutex_lock(&s->v.queue[0].lock);
	s->slow = slow;
	pthread_cond_broadcast(&s->quick);
	pthread_mutex_unlock(&s->v.queue[0].lock);
}

unsigned slow_held(struct vrig *r)
{
	struct slow *s = slow_in(r);
	unsigned n;

	pthread_mutex_lock(&s->v.queue[0].lock);
	n = s->nheld;
	pthread_mutex_unlock(&s->v.queue[0].lock);
	return n;
}

struct vrig *slow_rig(void)
{
	struct vrig *r = vrig_create();

	vrig_plug(r, &slow_row, NULL, "");
	return r;
}

uint64_t slow_reg(struct vrig *r, unsigned offset, unsigned size)
{
	return vrig_read(r, r->common + offset, size);
}

void slow_set_reg(struct vrig *r, unsigned offset, unsigned size, uint64_t value)
{
	vrig_write(r, r->common + offset, size, value);
}
