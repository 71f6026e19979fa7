/* See test_net_rig.h. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test_net_rig.h"

#define COMMANDS (NRIG_BUFFERS + 0x700000)

static int create(struct device_host *host, const struct device_config *config, void *arg,
		  struct device **out, struct error *e)
{
	return virtio_net_create(host, config, arg, NULL, out, e);
}

struct vhost_parts {
	struct net *net;
	struct vhost *vhost;
};

static int create_vhost(struct device_host *host, const struct device_config *config, void *arg,
			struct device **out, struct error *e)
{
	struct vhost_parts *parts = arg;

	return virtio_net_create(host, config, parts->net, parts->vhost, out, e);
}

struct nrig *nrig_create_vhost(unsigned pairs, uint32_t offloads, const char *keys,
			       struct vhost *vhost)
{
	struct nrig *n = calloc(1, sizeof(*n));
	struct vhost_parts parts = { .vhost = vhost };

	n->v = vrig_create();
	n->net = fake_net_create(pairs, offloads);
	n->net->closed = &n->closed;
	n->npairs = pairs;
	parts.net = &n->net->base;
	vrig_plug_with(n->v, &row_vhost_net, keys, create_vhost, &parts);
	return n;
}

struct nrig *nrig_create(unsigned pairs, uint32_t offloads, const char *keys)
{
	struct nrig *n = calloc(1, sizeof(*n));

	n->v = vrig_create();
	n->net = fake_net_create(pairs, offloads);
	n->net->closed = &n->closed;
	n->npairs = pairs;
	vrig_plug_with(n->v, &row_virtio_net, keys, create, n->net);
	return n;
}

static void forget_queues(struct nrig *n)
{
	for (unsigned i = 0; i < 2 * FAKE_QUEUES + 1; i++) {
		if (n->have[i])
			model_free(&n->queue[i]);
		n->have[i] = false;
	}
}

static void add_queue(struct nrig *n, unsigned index, uint16_t size)
{
	model_init(&n->queue[index], &n->v->memory, 0xc0000ull * index, size, n->features);
	n->have[index] = true;
	vrig_queue(n->v, index, &n->queue[index]);
}

void nrig_up(struct nrig *n, uint64_t wanted, uint16_t size)
{
	bool mq;

	forget_queues(n);
	/* The model's tables of different queues would be in one place. */
	wanted &= ~MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC);
	n->features = (vrig_offered(n->v) & wanted) | MODEL_BIT(VIRTIO_F_VERSION_1);
	cr_assert(vrig_negotiate(n->v, n->features));
	mq = n->features & MODEL_BIT(VIRTIO_NET_F_MQ);
	n->control = mq ? 2 * n->npairs : 2;
	for (unsigned i = 0; i < n->control; i++)
		add_queue(n, i, size);
	if (n->features & MODEL_BIT(VIRTIO_NET_F_CTRL_VQ))
		add_queue(n, n->control, size < 64 ? size : 64);
	vrig_driver_ok(n->v);
}

void nrig_destroy(struct nrig *n)
{
	forget_queues(n);
	vrig_destroy(n->v);
	cr_assert_eq(n->closed, 1, "the backend was not closed");
	free(n);
}

uint8_t *nrig_at(struct nrig *n, uint64_t addr, size_t len)
{
	return model_at(&n->v->memory, addr, len);
}

int nrig_add(struct nrig *n, unsigned queue, const struct model_buf *buf, unsigned nbuf)
{
	int id = model_add(&n->queue[queue], buf, nbuf, false);

	if (id >= 0 && model_must_kick(&n->queue[queue]))
		vrig_kick(n->v, queue);
	return id;
}

int nrig_command(struct nrig *n, uint8_t class, uint8_t cmd, const void *data, size_t len)
{
	const uint8_t hdr[2] = { class, cmd };
	uint8_t *mem = nrig_at(n, COMMANDS, len + 3);
	const struct model_buf buf[] = {
		{ COMMANDS, 2, false },
		{ COMMANDS + 2, (uint32_t)len, false },
		{ COMMANDS + 2 + len, 1, true },
	};
	const struct model_buf empty[] = { buf[0], buf[2] };
	struct model_used used;

	memcpy(mem, hdr, 2);
	if (len)
		memcpy(mem + 2, data, len);
	mem[2 + len] = 0xee;
	cr_assert_geq(nrig_add(n, n->control, len ? buf : empty, len ? 3 : 2), 0);
	used = vrig_wait_used(&n->queue[n->control]);
	cr_assert_eq(used.len, 1);
	return mem[2 + len] == 0xee ? -1 : mem[2 + len];
}

void nrig_fill(uint8_t *buf, size_t len, uint64_t seed)
{
	memset(buf, 0, NET_HEADER);
	for (size_t i = 0; i < len; i += 8) {
		uint64_t r = model_random(&seed);

		memcpy(buf + NET_HEADER + i, &r, len - i < 8 ? len - i : 8);
	}
	/* A unicast address, no VLAN. */
	if (len >= 14)
		memcpy(buf + NET_HEADER, "\x52\x54\x00\x6d\x76\x00\x52\x54\x00\x00\x00\x01\x08\x00",
		       14);
}

static void nothing(void *arg)
{
	(void)arg;
}

void nrig_settle(struct nrig *n, unsigned pair)
{
	struct virtio_device *v = (struct virtio_device *)n->v->dev;

	/* Messages run before a batch of events: the second comes after what was ready at the
	 * first. */
	for (int i = 0; i < 3; i++) {
		event_call(v->queue[2 * pair].loop, nothing, NULL);
		usleep(1000);
	}
}
