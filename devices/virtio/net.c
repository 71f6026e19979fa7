/*
 * virtio-net: a network card. Virtio 1.2 section 5.1. In: a backend that sends and receives frames
 * with virtio's own header in front, so that offloads go through unchanged. This file makes the
 * device, agrees on features and keeps configuration space; net_rx.c and net_tx.c move the frames.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/net.h"
#include "devices/virtio/net_internal.h"

/* Configuration space ends where RSS would begin. */
#define CONFIG_LEN   offsetof(struct virtio_net_config, rss_max_key_size)
#define SPEED_MBIT   10000u /* as the kernel says of its taps */
#define CONFIG(name) offsetof(struct virtio_net_config, name)

/* ---- features -------------------------------------------------------------------------------- */

/* What a backend's ability means for what we offer, either way. */
static const struct {
	uint32_t offload;
	unsigned to_host, to_guest;
} offload_features[] = {
	{ NET_OFFLOAD_CSUM, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM },
	{ NET_OFFLOAD_TSO4, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4 },
	{ NET_OFFLOAD_TSO6, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6 },
	{ NET_OFFLOAD_ECN, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_GUEST_ECN },
	{ NET_OFFLOAD_USO, VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO4 },
	{ NET_OFFLOAD_USO, VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO6 },
};

#define OFFLOADS (sizeof(offload_features) / sizeof(offload_features[0]))

/* Section 5.1.3.1: who wants the first must want one of the others. */
static const struct {
	unsigned feature;
	uint64_t one_of;
	const char *fault;
} requirements[] = {
	{ VIRTIO_NET_F_GUEST_TSO4, VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM),
	  "GUEST_TSO4 wants GUEST_CSUM" },
	{ VIRTIO_NET_F_GUEST_TSO6, VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM),
	  "GUEST_TSO6 wants GUEST_CSUM" },
	{ VIRTIO_NET_F_GUEST_USO4, VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM),
	  "GUEST_USO4 wants GUEST_CSUM" },
	{ VIRTIO_NET_F_GUEST_USO6, VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM),
	  "GUEST_USO6 wants GUEST_CSUM" },
	{ VIRTIO_NET_F_GUEST_ECN,
	  VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6),
	  "GUEST_ECN wants GUEST_TSO4 or GUEST_TSO6" },
	{ VIRTIO_NET_F_HOST_TSO4, VIRTIO_BIT(VIRTIO_NET_F_CSUM), "HOST_TSO4 wants CSUM" },
	{ VIRTIO_NET_F_HOST_TSO6, VIRTIO_BIT(VIRTIO_NET_F_CSUM), "HOST_TSO6 wants CSUM" },
	{ VIRTIO_NET_F_HOST_USO, VIRTIO_BIT(VIRTIO_NET_F_CSUM), "HOST_USO wants CSUM" },
	{ VIRTIO_NET_F_HOST_ECN,
	  VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6),
	  "HOST_ECN wants HOST_TSO4 or HOST_TSO6" },
	{ VIRTIO_NET_F_CTRL_RX, VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ), "CTRL_RX wants CTRL_VQ" },
	{ VIRTIO_NET_F_CTRL_VLAN, VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ), "CTRL_VLAN wants CTRL_VQ" },
	{ VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ),
	  "GUEST_ANNOUNCE wants CTRL_VQ" },
	{ VIRTIO_NET_F_MQ, VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ), "MQ wants CTRL_VQ" },
	{ VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ),
	  "CTRL_MAC_ADDR wants CTRL_VQ" },
};

static const char *check_features(struct virtio_device *v, uint64_t features)
{
	(void)v;
	for (size_t i = 0; i < sizeof(requirements) / sizeof(requirements[0]); i++)
		if ((features & VIRTIO_BIT(requirements[i].feature)) &&
		    !(features & requirements[i].one_of))
			return requirements[i].fault;
	return NULL;
}

/*
 * What is left when features go that want what is not there: nobody who takes all of an offer may
 * break a rule by it, and back ends (DPDK's) have the one without the other.
 */
static uint64_t consistent(uint64_t features)
{
	uint64_t before;

	do {
		before = features;
		for (size_t i = 0; i < sizeof(requirements) / sizeof(requirements[0]); i++)
			if (!(features & requirements[i].one_of))
				features &= ~VIRTIO_BIT(requirements[i].feature);
	} while (features != before);
	return features;
}

static uint64_t offered(const struct net_info *info, const struct device_config *config, bool vhost)
{
	uint64_t bits = VIRTIO_BIT(VIRTIO_NET_F_MAC) | VIRTIO_BIT(VIRTIO_NET_F_STATUS) |
			VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX) |
			VIRTIO_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |
			VIRTIO_BIT(VIRTIO_NET_F_SPEED_DUPLEX);

	/* What net_set_filter() cannot do for frames that we do not see. */
	if (!vhost)
		bits |= VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VLAN);
	if (device_config_bool(config, "mergeable"))
		bits |= VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (device_config_given(config, "mtu"))
		bits |= VIRTIO_BIT(VIRTIO_NET_F_MTU);
	if (info->queues > 1)
		bits |= VIRTIO_BIT(VIRTIO_NET_F_MQ);
	if (!info->offloads || !device_config_bool(config, "offloads"))
		return bits;
	for (size_t i = 0; i < OFFLOADS; i++)
		if (info->offloads & offload_features[i].offload)
			bits |= VIRTIO_BIT(offload_features[i].to_host) |
				VIRTIO_BIT(offload_features[i].to_guest);
	return bits | VIRTIO_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
}

uint32_t virtio_net_receive_offloads(uint64_t features)
{
	uint64_t uso = VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6);
	uint32_t offloads = 0;

	if (!(features & VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM)))
		return 0; /* segmentation needs it */
	for (size_t i = 0; i < OFFLOADS; i++)
		if (features & VIRTIO_BIT(offload_features[i].to_guest))
			offloads |= offload_features[i].offload;
	/* Backends know no difference between the two. */
	if ((features & uso) != uso)
		offloads &= ~NET_OFFLOAD_USO;
	return offloads;
}

/* ---- configuration space --------------------------------------------------------------------- */

void virtio_net_set_status(struct virtio_net *vn, uint16_t clear, uint16_t set, bool tell)
{
	uint16_t status, field;

	pthread_mutex_lock(&vn->status_lock);
	status = (uint16_t)((vn->status & ~clear) | set);
	field = htole16(status);
	if (status != vn->status) {
		vn->status = status;
		if (tell)
			virtio_config_update(&vn->v, CONFIG(status), &field, sizeof(field));
		else
			virtio_config_set(&vn->v, CONFIG(status), &field, sizeof(field));
	}
	pthread_mutex_unlock(&vn->status_lock);
}

/* The rings of a pair run while the driver uses it and the cable is in. */
static void want_rings(struct net_pair *p)
{
	struct virtio_net *vn = p->vn;
	bool wanted;

	pthread_mutex_lock(&vn->wanted_lock);
	pthread_mutex_lock(&p->rxq->lock);
	wanted = p->rx.enabled;
	pthread_mutex_unlock(&p->rxq->lock);
	wanted = wanted && virtio_net_has_link(vn);
	vhost_plane_enable(&vn->plane, p->rxq->index, wanted);
	vhost_plane_enable(&vn->plane, p->txq->index, wanted);
	pthread_mutex_unlock(&vn->wanted_lock);
}

static void set_link(struct virtio_net *vn, bool up)
{
	__atomic_store_n(&vn->link, up, __ATOMIC_RELAXED);
	virtio_net_set_status(vn, up ? 0 : VIRTIO_NET_S_LINK_UP, up ? VIRTIO_NET_S_LINK_UP : 0,
			      true);
	for (unsigned i = 0; i < vn->npairs; i++)
		want_rings(&vn->pair[i]);
}

void virtio_net_set_link(struct device *dev, bool up)
{
	struct virtio_net *vn = (struct virtio_net *)dev; /* first member of the first member */

	set_link(vn, up);
	for (unsigned i = 0; i < vn->npairs; i++)
		virtio_queue_kick(vn->pair[i].rxq);
}

void virtio_net_announce(struct device *dev)
{
	virtio_net_set_status((struct virtio_net *)dev, 0, VIRTIO_NET_S_ANNOUNCE, true);
}

static void fill_config(struct virtio_net *vn, const struct device_config *config)
{
	uint16_t mtu = 0;
	struct virtio_net_config c = {
		.status = htole16(vn->status),
		.max_virtqueue_pairs = htole16((uint16_t)vn->npairs),
		.speed = htole32(SPEED_MBIT),
		.duplex = 1,
	};

	if (device_config_given(config, "mtu"))
		mtu = (uint16_t)device_config_uint(config, "mtu");
	c.mtu = htole16(mtu);
	memcpy(c.mac, vn->mac, sizeof(c.mac));
	virtio_config_set(&vn->v, 0, &c, CONFIG_LEN);
}

/* ---- pairs ----------------------------------------------------------------------------------- */

static void set_pair(struct net_pair *p, bool enable)
{
	if (!p->started)
		return; /* the device was not made whole */
	if (enable)
		net_queue_enable(p->backend, true);
	pthread_mutex_lock(&p->rxq->lock);
	p->rx.enabled = enable;
	pthread_mutex_unlock(&p->rxq->lock);
	want_rings(p);
	if (!enable)
		net_queue_enable(p->backend, false);
	virtio_queue_kick(p->rxq); /* its loop begins to listen to the backend, or ends it */
}

void virtio_net_use_pairs(struct virtio_net *vn, unsigned n)
{
	/* The first is always used. */
	for (unsigned i = 1; i < vn->npairs; i++)
		set_pair(&vn->pair[i], i < n);
}

/* Frames that do not come by us are filtered where they come from, as well as that can. */
static void filter_at_source(struct virtio_net *vn)
{
	const struct net_filter *f = &vn->filter;
	uint8_t mac[1 + 2 * NET_FILTER_MACS][NET_MAC_LEN];
	unsigned n = 0;

	if (!f->promisc && !f->unicast.overflow) {
		memcpy(mac[n++], f->mac, NET_MAC_LEN);
		for (unsigned i = 0; i < f->unicast.n; i++)
			memcpy(mac[n++], f->unicast.mac[i], NET_MAC_LEN);
		for (unsigned i = 0; i < f->multicast.n; i++)
			memcpy(mac[n++], f->multicast.mac[i], NET_MAC_LEN);
	}
	net_set_filter(vn->net, (const uint8_t(*)[NET_MAC_LEN])mac, n,
		       f->allmulti || f->multicast.overflow);
}

void virtio_net_publish_filter(struct virtio_net *vn)
{
	if (vn->plane.v)
		filter_at_source(vn);
	for (unsigned i = 0; i < vn->npairs; i++) {
		struct net_pair *p = &vn->pair[i];

		/* With MQ not negotiated, the control queue stands where a pair would be. */
		if (p->rxq->index == __atomic_load_n(&vn->control, __ATOMIC_ACQUIRE))
			break;
		pthread_mutex_lock(&p->rxq->lock);
		p->rx.filter = vn->filter;
		pthread_mutex_unlock(&p->rxq->lock);
	}
}

static void pair_readable(void *opaque)
{
	net_rx_readable(opaque);
}

static void pair_writable(void *opaque)
{
	net_tx_writable(opaque);
}

static void pair_gone(void *opaque)
{
	struct net_pair *p = opaque;

	set_link(p->vn, false);
}

static const struct net_client pair_client = {
	.readable = pair_readable,
	.writable = pair_writable,
	.gone = pair_gone,
};

/* ---- what the virtio layer calls ------------------------------------------------------------- */

static void process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	struct virtio_net *vn = virtio_net_of(q->v);

	if (q->index == __atomic_load_n(&vn->control, __ATOMIC_ACQUIRE)) {
		net_ctrl_process(q, chains, n);
	} else if (q->index % 2 == 1) {
		net_tx_process(&vn->pair[q->index / 2], chains, n);
	} else {
		virtio_queue_break(q, "kick of a queue that has no use");
		for (unsigned i = 0; i < n; i++)
			virtio_queue_push(q, chains[i], 0);
	}
}

static void drain(struct virtio_queue *q)
{
	struct virtio_net *vn = virtio_net_of(q->v);
	unsigned pair = q->index / 2;

	if (pair >= vn->npairs)
		return; /* the control queue keeps nothing */
	if (q->index % 2 == 0)
		net_rx_drain(&vn->pair[pair]);
	else
		net_tx_drain(&vn->pair[pair]);
}

/* Section 5.1.2: where the control queue is depends on whether the driver has accepted MQ. */
static void driver_ok(struct virtio_device *v)
{
	struct virtio_net *vn = virtio_net_of(v);
	unsigned control = virtio_has(v, VIRTIO_NET_F_MQ) ? 2 * vn->npairs : 2;
	uint32_t offloads = virtio_net_receive_offloads(v->features);

	__atomic_store_n(&vn->control, control, __ATOMIC_RELEASE);
	vhost_plane_use(&vn->plane, control); /* those before it */
	vn->filter.vlan = virtio_has(v, VIRTIO_NET_F_CTRL_VLAN);
	for (unsigned i = 0; i < vn->npairs; i++) {
		struct net_pair *p = &vn->pair[i];

		pthread_mutex_lock(&p->rxq->lock);
		p->rx.enabled = i == 0;
		p->rx.mergeable = virtio_has(v, VIRTIO_NET_F_MRG_RXBUF);
		p->rx.checksum = virtio_has(v, VIRTIO_NET_F_GUEST_CSUM);
		p->rx.segment = offloads & ~NET_OFFLOAD_CSUM;
		p->rx.filter = vn->filter;
		pthread_mutex_unlock(&p->rxq->lock);
		want_rings(p);
	}
	net_set_offloads(vn->net, offloads);
}

static void reset(struct virtio_device *v)
{
	struct virtio_net *vn = virtio_net_of(v);

	vhost_plane_reset(&vn->plane);
	net_filter_init(&vn->filter, vn->mac);
	if (vn->plane.v)
		net_set_filter(vn->net, NULL, 0, false);
	net_set_offloads(vn->net, 0);
	virtio_net_set_status(vn, VIRTIO_NET_S_ANNOUNCE, 0, false);
	virtio_config_set(v, CONFIG(mac), vn->mac, sizeof(vn->mac));
	virtio_net_use_pairs(vn, 1);
}

static void update(struct virtio_device *v)
{
	vhost_plane_update(&virtio_net_of(v)->plane);
}

static bool pull(struct virtio_queue *q)
{
	struct virtio_net *vn = virtio_net_of(q->v);

	if (q->index % 2 == 1 || q->index == __atomic_load_n(&vn->control, __ATOMIC_ACQUIRE) ||
	    q->index / 2 >= vn->npairs)
		return false;
	net_rx_pull(&vn->pair[q->index / 2]);
	return true;
}

/* Held first, so that no queue uses a backend that has stopped. */
static void detach(struct virtio_device *v)
{
	struct virtio_net *vn = virtio_net_of(v);

	pthread_mutex_lock(&v->lock);
	virtio_hold(v, VIRTIO_HOLD_PAUSE, true);
	pthread_mutex_unlock(&v->lock);
	for (unsigned i = 0; i < vn->npairs; i++)
		if (vn->pair[i].started)
			net_queue_stop(vn->pair[i].backend);
	vhost_plane_fini(&vn->plane);
}

/* Queues and transport are gone, or were never made. */
static void destroy(struct virtio_device *v)
{
	struct virtio_net *vn = virtio_net_of(v);

	for (unsigned i = 0; i < vn->npairs; i++) {
		event_loop_destroy(vn->pair[i].loop);
		net_rx_destroy(&vn->pair[i]);
	}
	vhost_close(vn->backend);
	net_close(vn->net);
	pthread_mutex_destroy(&vn->wanted_lock);
	pthread_mutex_destroy(&vn->status_lock);
	free(vn);
}

static const struct virtio_device_ops net_ops = {
	.process = process,
	.pull = pull,
	.drain = drain,
	.check_features = check_features,
	.driver_ok = driver_ok,
	.update = update,
	.reset = reset,
	.detach = detach,
	.destroy = destroy,
};

/* ---- life cycle ------------------------------------------------------------------------------ */

static int make_pair(struct virtio_net *vn, unsigned index, const struct device_config *config,
		     struct error *e)
{
	struct virtio_device *v = &vn->v;
	struct net_pair *p = &vn->pair[index];
	uint16_t size = (uint16_t)device_config_uint(config, "queue-size");
	struct event_loop *loop = v->dev.host->loop;
	char name[16];
	int err;

	p->vn = vn;
	p->rxq = &v->queue[2 * index];
	p->txq = &v->queue[2 * index + 1];
	p->backend = net_queue(vn->net, index);
	if (net_rx_init(p))
		return error_set(e, -ENOMEM, "out of memory");
	if (!vn->backend && device_config_bool(config, "iothread")) {
		snprintf(name, sizeof(name), index ? "%.10s.%u" : "%.10s", v->dev.name, index);
		p->loop = event_loop_create(name, e);
		if (!p->loop)
			return -ENOMEM;
		loop = p->loop;
	}
	err = virtio_queue_init(v, 2 * index, size, sizeof(struct chain_link), loop, e);
	if (!err)
		err = virtio_queue_init(v, 2 * index + 1, size, sizeof(struct chain_link), loop, e);
	if (err)
		return err;
	if (index > 0)
		net_queue_enable(p->backend, false);
	net_queue_account(p->backend, v->dev.account);
	err = net_queue_start(p->backend, loop, &pair_client, p, e);
	p->started = !err;
	return err;
}

static int make_queues(struct virtio_net *vn, const struct device_config *config, struct error *e)
{
	uint16_t size = (uint16_t)device_config_uint(config, "queue-size");
	int err = 0;

	for (unsigned i = 0; !err && i < vn->npairs; i++)
		err = make_pair(vn, i, config, e);
	if (!err)
		err = virtio_queue_init(&vn->v, 2 * vn->npairs, size < 64 ? size : 64, 0,
					vn->v.queue[0].loop, e);
	for (unsigned i = 0; !err && i < vn->npairs; i++)
		if (vn->pair[i].loop)
			err = event_loop_start(vn->pair[i].loop, e);
	return err;
}

/* The pairs' queues to whoever moves the frames. */
static int bind_plane(struct virtio_net *vn, struct error *e)
{
	struct vhost *backend = vn->backend;
	unsigned n = 2 * vn->npairs;

	if (!backend)
		return 0;
	if (backend->rings < n)
		return error_set(e, -EINVAL, "queues=%u: %s has %u", vn->npairs, backend->name,
				 backend->rings / 2);
	vn->backend = NULL; /* the plane's from here on */
	net_queue_watch(vn->pair[0].backend);
	return vhost_plane_init(&vn->plane, &vn->v, backend, n, vn->v.dev.host->loop, e);
}

/* What a backend must be able to do itself: the rings, and the header they have in front. */
static int limit_features(struct virtio_net *vn, struct error *e)
{
	uint64_t owned = VHOST_RING_FEATURES | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	int err;

	if (!vn->backend)
		return 0;
	owned |= vn->backend->own;
	/* A queue is reset by stopping it, which all can. */
	err = vhost_limit_features(&vn->v, vn->backend, owned & ~VIRTIO_BIT(VIRTIO_F_RING_RESET),
				   e);
	vn->v.offered = consistent(vn->v.offered);
	return err;
}

static int make_device(struct virtio_net *vn, struct device_host *host,
		       const struct device_config *config, struct error *e)
{
	const struct virtio_identity identity = {
		.id = VIRTIO_ID_NET,
		.features = offered(net_info(vn->net), config, vn->backend),
		.nqueues = 2 * vn->npairs + 1,
		.config_len = CONFIG_LEN,
	};
	int err = virtio_device_init(&vn->v, &net_ops, &identity, host, config, e);

	if (!err)
		err = limit_features(vn, e);
	if (err)
		return err;
	fill_config(vn, config);
	err = make_queues(vn, config, e);
	if (!err)
		err = bind_plane(vn, e);
	return err ? err : virtio_transport_create(&vn->v, config, e);
}

int virtio_net_create(struct device_host *host, const struct device_config *config, struct net *net,
		      struct vhost *vhost, struct device **out, struct error *e)
{
	unsigned npairs = net_info(net)->queues;
	struct virtio_net *vn = calloc(1, sizeof(*vn) + npairs * sizeof(vn->pair[0]));
	int err;

	if (!vn) {
		vhost_close(vhost);
		net_close(net);
		return error_set(e, -ENOMEM, "out of memory");
	}
	vn->net = net;
	vn->backend = vhost;
	vn->npairs = npairs;
	vn->control = 2 * npairs;
	vn->link = device_config_bool(config, "link");
	vn->status = vn->link ? VIRTIO_NET_S_LINK_UP : 0;
	pthread_mutex_init(&vn->status_lock, NULL);
	pthread_mutex_init(&vn->wanted_lock, NULL);
	err = net_flag_mac(config, vn->mac, e);
	if (err) {
		destroy(&vn->v);
		return err;
	}
	net_filter_init(&vn->filter, vn->mac);
	err = make_device(vn, host, config, e);
	if (err) {
		virtio_device_fini(&vn->v);
		destroy(&vn->v);
		return err;
	}
	*out = &vn->v.dev;
	return 0;
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	unsigned queues = 0;
	struct net *net;
	int err;

	if (device_config_given(config, "queues"))
		queues = (unsigned)device_config_uint(config, "queues");
	err = net_open_flag(&net, config, queues, e);
	return err ? err : virtio_net_create(host, config, net, NULL, out, e);
}

static const struct device_key keys[] = {
	NET_KEYS,
	{ .name = "queues",
	  .type = KEY_UINT,
	  .min = 1,
	  .max = NET_MAX_QUEUES,
	  .help = "pairs of queues, each with its own thread; default 1, or one for each fd" },
	{ .name = "iothread",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "serve queues on threads of their own, not on the main one" },
	{ .name = "offloads",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "offer checksum and segmentation offloads that the target has" },
	{ .name = "mergeable",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "offer MRG_RXBUF: a long frame in several small buffers" },
	VIRTIO_KEYS("256"),
	{ 0 },
};

const struct device_row row_virtio_net = {
	.class = CLASS_NET,
	.model = MODEL_VIRTIO,
	.hw = "virtio-net",
	.preferred = true,
	.summary = "virtio network card on user-mode NAT or a tap",
	.target = "user|TAP|fd:N",
	.target_required = false,
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
