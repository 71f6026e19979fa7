/*
 * What a vhost-user backend is told, and what it answers: see user.h. The operations of struct
 * vhost_ops as messages.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vhost/user_impl.h"

/* What we use of the protocol where the other side has it. */
#define PROTOCOL_FEATURES                                                                          \
	(VIRTIO_BIT(VHOST_USER_PROTOCOL_F_MQ) | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |      \
	 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |                                           \
	 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIG) |                                                \
	 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |                                        \
	 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                                          \
	 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_STATUS))

/* Addresses of rings are "user addresses": any that the memory table explains. Not our own ones. */
#define USER_BASE (1ull << 44)

#define INFLIGHT_MAX (64ull << 20)
#define MAX_RINGS    1024u

/* ---- calls ----------------------------------------------------------------------------------- */

/* u->lock held, or the plane's: the socket cannot be another one. */
static int broken(struct vhost_user *u, int err)
{
	if (!__atomic_exchange_n(&u->broken, true, __ATOMIC_ACQ_REL))
		shutdown(u->hangup.fd, SHUT_RDWR); /* the loop hears of it */
	return err;
}

static int call(struct vhost_user *u, struct vhost_user_msg *m, struct error *e)
{
	uint32_t request = m->request;
	bool answer = vhost_user_has_reply(request);
	bool ack = !answer && vhost_user_can(u, VHOST_USER_PROTOCOL_F_REPLY_ACK);
	char name[16];
	int err;

	if (u->hangup.fd < 0 || __atomic_load_n(&u->broken, __ATOMIC_ACQUIRE))
		return error_set(e, -ENOTCONN, "it is not connected");
	m->flags = ack ? VHOST_USER_NEED_REPLY : 0;
	err = vhost_user_send(u->hangup.fd, m, u->options.timeout_ms, e);
	m->nfds = 0; /* they stay the caller's */
	if (!err && (answer || ack)) {
		err = vhost_user_recv(u->hangup.fd, m, u->options.timeout_ms, e);
		if (!err)
			err = vhost_user_check_reply(m, request, e);
	}
	if (err) {
		vhost_user_close_fds(m);
		error_prefix(e, "%s: ", vhost_user_name(request, name));
		return broken(u, err);
	}
	if (ack && m->u64)
		return error_set(e, -EIO, "it refuses %s", vhost_user_name(request, name));
	return 0;
}

int vhost_user_call(struct vhost_user *u, struct vhost_user_msg *m, struct error *e)
{
	int err;

	pthread_mutex_lock(&u->lock);
	err = call(u, m, e);
	pthread_mutex_unlock(&u->lock);
	return err;
}

int vhost_user_call_u64(struct vhost_user *u, uint32_t request, uint64_t *value, struct error *e)
{
	struct vhost_user_msg m = { .request = request };
	int err;

	if (!vhost_user_has_reply(request)) {
		m.u64 = *value;
		m.size = sizeof(m.u64);
	}
	err = vhost_user_call(u, &m, e);
	if (!err && vhost_user_has_reply(request))
		*value = m.u64;
	return err;
}

static int set_u64(struct vhost_user *u, uint32_t request, uint64_t value, struct error *e)
{
	return vhost_user_call_u64(u, request, &value, e);
}

static int set_state(struct vhost_user *u, uint32_t request, unsigned index, unsigned num,
		     struct error *e)
{
	struct vhost_user_msg m = {
		.request = request,
		.size = sizeof(m.state),
		.state = { .index = index, .num = num },
	};

	return vhost_user_call(u, &m, e);
}

static int set_fd(struct vhost_user *u, uint32_t request, unsigned index, int fd, struct error *e)
{
	struct vhost_user_msg m = {
		.request = request,
		.size = sizeof(m.u64),
		.u64 = index | (fd < 0 ? VHOST_USER_VRING_NOFD : 0),
		.nfds = fd >= 0,
		.fd = { fd },
	};

	return vhost_user_call(u, &m, e);
}

/*
 * The plane says which step failed; the details are said here. One that refuses what a device must
 * have is no more use than one that has hung up: both are connected to anew.
 */
static int report(struct vhost_user *u, int err, const struct error *e)
{
	if (!err || err == -ENOTCONN)
		return err;
	if (!__atomic_exchange_n(&u->complained, true, __ATOMIC_RELAXED))
		log_warn("%s: %s", u->b.name, e->msg);
	return broken(u, err);
}

/* ---- the beginning of a connection ----------------------------------------------------------- */

static int greet_protocol(struct vhost_user *u, struct error *e)
{
	uint64_t theirs = 0;
	int err = vhost_user_call_u64(u, VHOST_USER_GET_PROTOCOL_FEATURES, &theirs, e);

	if (err)
		return err;
	theirs &= PROTOCOL_FEATURES;
	/* Asked for acknowledgement only once both know of it. */
	err = set_u64(u, VHOST_USER_SET_PROTOCOL_FEATURES, theirs, e);
	u->protocol = theirs;
	return err;
}

static int greet_rings(struct vhost_user *u, struct error *e)
{
	uint64_t queues = 0;
	int err;

	u->b.rings = u->options.rings;
	if (!vhost_user_can(u, VHOST_USER_PROTOCOL_F_MQ))
		return 0;
	err = vhost_user_call_u64(u, VHOST_USER_GET_QUEUE_NUM, &queues, e);
	if (err)
		return err;
	if (queues == 0 || queues > MAX_RINGS)
		return error_set(e, -EPROTO, "it says that it has %llu queues",
				 (unsigned long long)queues);
	u->b.rings = (unsigned)queues * u->options.rings_factor;
	return 0;
}

/* A channel on which it may tell that its configuration space has changed. */
static int greet_asks(struct vhost_user *u, struct error *e)
{
	struct vhost_user_msg m = { .request = VHOST_USER_SET_BACKEND_REQ_FD };
	int pair[2], err;

	if (!vhost_user_can(u, VHOST_USER_PROTOCOL_F_BACKEND_REQ) ||
	    !vhost_user_can(u, VHOST_USER_PROTOCOL_F_CONFIG))
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return error_set_errno(e, -errno, "cannot make a socket");
	/* Blocking, as every back end expects it. */
	fcntl(pair[1], F_SETFL, 0);
	m.fd[0] = pair[1];
	m.nfds = 1;
	err = vhost_user_call(u, &m, e);
	close(pair[1]);
	if (err)
		close(pair[0]);
	else
		u->asks.fd = pair[0];
	return err;
}

int vhost_user_greet(struct vhost_user *u, struct error *e)
{
	uint64_t features = 0;
	int err = vhost_user_call_u64(u, VHOST_USER_GET_FEATURES, &features, e);

	u->protocol = 0;
	if (!err && features & VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES))
		err = greet_protocol(u, e);
	if (!err) {
		struct vhost_user_msg m = { .request = VHOST_USER_SET_OWNER };

		err = vhost_user_call(u, &m, e);
	}
	if (!err)
		err = greet_rings(u, e);
	if (!err && u->options.config && !vhost_user_can(u, VHOST_USER_PROTOCOL_F_CONFIG))
		err = error_set(e, -ENOTSUP,
				"it has no configuration space (protocol feature CONFIG)");
	if (!err)
		err = greet_asks(u, e);
	features &= ~VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	/* The region of requests in flight would not know that one ring begins anew. */
	if (vhost_user_can(u, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD))
		features &= ~VIRTIO_BIT(VIRTIO_F_RING_RESET);
	u->b.features = features;
	return err;
}

/* ---- operations ------------------------------------------------------------------------------ */

static int set_features(struct vhost *b, uint64_t features)
{
	struct vhost_user *u = vhost_user_of(b);
	struct error e;
	int err;

	/* Without the bit, rings would be enabled when they are started. */
	if (u->protocol)
		features |= VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	err = set_u64(u, VHOST_USER_SET_FEATURES, features, &e);
	if (!err && vhost_user_can(u, VHOST_USER_PROTOCOL_F_STATUS))
		err = set_u64(u, VHOST_USER_SET_STATUS,
			      VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
				      VIRTIO_CONFIG_S_FEATURES_OK,
			      &e);
	return report(u, err, &e);
}

static int set_memory(struct vhost *b, const struct guest_memory *memory)
{
	struct vhost_user *u = vhost_user_of(b);
	struct vhost_user_msg m = { .request = VHOST_USER_SET_MEM_TABLE };
	struct error e;

	m.memory.nregions = memory->nregions;
	m.size = (uint32_t)(offsetof(struct vhost_user_memory, region) +
			    memory->nregions * sizeof(m.memory.region[0]));
	for (unsigned i = 0; i < memory->nregions; i++) {
		const struct memory_region *r = &memory->region[i];

		m.memory.region[i] = (struct vhost_user_region){
			.guest_addr = r->gpa,
			.size = r->size,
			.user_addr = USER_BASE + r->gpa,
			.mmap_offset = r->fd_offset,
		};
		m.fd[i] = memory->fd;
	}
	m.nfds = memory->nregions;
	return report(u, vhost_user_call(u, &m, &e), &e);
}

static void drop_inflight(struct vhost_user *u)
{
	if (u->inflight_fd >= 0)
		close(u->inflight_fd);
	u->inflight_fd = -1;
	u->kept = false;
}

/* The region for requests in flight: theirs, kept by us, given back to whoever comes next. */
static int get_inflight(struct vhost_user *u, struct error *e)
{
	struct vhost_user_msg m = {
		.request = VHOST_USER_GET_INFLIGHT_FD,
		.size = sizeof(m.inflight),
		.inflight = { .nqueues = (uint16_t)u->b.plane->nqueues,
			      .queue_size = u->options.queue_size },
	};
	int err = vhost_user_call(u, &m, e);

	if (err)
		return err;
	u->inflight_fd = vhost_user_take_fd(&m, 0);
	if (u->inflight_fd < 0 || m.inflight.mmap_size == 0 ||
	    m.inflight.mmap_size > INFLIGHT_MAX) {
		drop_inflight(u);
		return broken(u,
			      error_set(e, -EPROTO, "it gives no region for requests in flight"));
	}
	u->inflight = (struct vhost_user_inflight){
		.mmap_size = m.inflight.mmap_size,
		.mmap_offset = m.inflight.mmap_offset,
		.nqueues = (uint16_t)u->b.plane->nqueues,
		.queue_size = u->options.queue_size,
	};
	return 0;
}

static int set_inflight(struct vhost_user *u, struct error *e)
{
	struct vhost_user_msg m = {
		.request = VHOST_USER_SET_INFLIGHT_FD,
		.size = sizeof(m.inflight),
		.nfds = 1,
	};
	int err = u->inflight_fd < 0 ? get_inflight(u, e) : 0;

	if (err)
		return err;
	m.inflight = u->inflight;
	m.fd[0] = u->inflight_fd;
	return vhost_user_call(u, &m, e);
}

/*
 * The region of one that was lost is for where it was lost. If somebody else has served the ring
 * meanwhile (a handover), nothing of it is true any more.
 */
static bool moved_on(const struct vhost_user *u, const struct vhost_vring *ring)
{
	const struct virtq_state *a = &u->base[ring->index], *b = &ring->base;

	return u->kept &&
	       (a->avail_idx != b->avail_idx || a->used_idx != b->used_idx ||
		(ring->packed && (a->avail_wrap != b->avail_wrap || a->used_wrap != b->used_wrap)));
}

static int set_addr(struct vhost_user *u, const struct vhost_vring *ring, struct error *e)
{
	struct vhost_user_msg m = {
		.request = VHOST_USER_SET_VRING_ADDR,
		.size = sizeof(m.addr),
		.addr = { .index = ring->index,
			  .desc_user_addr = USER_BASE + ring->desc,
			  .avail_user_addr = USER_BASE + ring->driver,
			  .used_user_addr = USER_BASE + ring->device },
	};

	return vhost_user_call(u, &m, e);
}

/* The kick comes last: it starts the ring. */
static int set_ring(struct vhost_user *u, const struct vhost_vring *ring, struct error *e)
{
	unsigned i = ring->index;
	unsigned base = ring->base.avail_idx;
	int err;

	if (ring->packed)
		base |= (unsigned)ring->base.avail_wrap << 15 |
			(unsigned)ring->base.used_idx << 16 | (unsigned)ring->base.used_wrap << 31;
	err = set_state(u, VHOST_USER_SET_VRING_NUM, i, ring->size, e);
	if (!err)
		err = set_state(u, VHOST_USER_SET_VRING_BASE, i, base, e);
	if (!err)
		err = set_addr(u, ring, e);
	if (!err)
		err = set_fd(u, VHOST_USER_SET_VRING_CALL, i, ring->call, e);
	if (!err)
		err = set_fd(u, VHOST_USER_SET_VRING_ERR, i, ring->err, e);
	return err ? err : set_fd(u, VHOST_USER_SET_VRING_KICK, i, ring->kick, e);
}

static int set_vring(struct vhost *b, const struct vhost_vring *ring)
{
	struct vhost_user *u = vhost_user_of(b);
	bool moved = moved_on(u, ring);
	struct error e;
	int err = 0;

	if (moved)
		drop_inflight(u);
	if (moved && u->active)
		err = error_set(&e, -ESTALE, "its requests in flight are of another time");
	else if (!u->active && vhost_user_can(u, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD))
		err = set_inflight(u, &e);
	if (!err)
		err = set_ring(u, ring, &e);
	u->active += !err;
	u->base[ring->index] = ring->base;
	return report(u, err, &e);
}

static int set_call(struct vhost *b, unsigned index, int fd)
{
	struct vhost_user *u = vhost_user_of(b);
	struct error e;

	return report(u, set_fd(u, VHOST_USER_SET_VRING_CALL, index, fd, &e), &e);
}

static int enable(struct vhost *b, unsigned index, bool on)
{
	struct vhost_user *u = vhost_user_of(b);
	struct error e;

	if (!u->protocol)
		return 0;
	return report(u, set_state(u, VHOST_USER_SET_VRING_ENABLE, index, on, &e), &e);
}

static int start(struct vhost *b)
{
	struct vhost_user *u = vhost_user_of(b);
	struct error e;

	if (!vhost_user_can(u, VHOST_USER_PROTOCOL_F_STATUS))
		return 0;
	return report(u,
		      set_u64(u, VHOST_USER_SET_STATUS,
			      VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
				      VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK,
			      &e),
		      &e);
}

static int get_base(struct vhost *b, unsigned index, struct virtq_state *base)
{
	struct vhost_user *u = vhost_user_of(b);
	struct vhost_user_msg m = {
		.request = VHOST_USER_GET_VRING_BASE,
		.size = sizeof(m.state),
		.state = { .index = index },
	};
	struct error e;
	int err = vhost_user_call(u, &m, &e);

	if (!err && m.state.index != index)
		err = broken(u, error_set(&e, -EPROTO, "it tells the state of another queue"));
	if (err)
		return report(u, err, &e);
	/*
	 * Nothing is in flight in a ring that has stopped, so both places are one; not every back
	 * end says the second one.
	 */
	base->avail_idx = (uint16_t)m.state.num;
	if (u->b.plane->v->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED)) {
		base->avail_idx = base->used_idx = m.state.num & 0x7fff;
		base->avail_wrap = base->used_wrap = m.state.num >> 15 & 1;
	}
	/* Nothing is in flight: whoever goes on leaves the region behind. */
	if (u->active && --u->active == 0)
		drop_inflight(u);
	return 0;
}

/* What is in flight is forgotten: the next driver begins with a new region. */
static void reset(struct vhost *b)
{
	struct vhost_user *u = vhost_user_of(b);
	struct error e = { .msg = "" };
	int err = 0;

	drop_inflight(u);
	if (vhost_user_can(u, VHOST_USER_PROTOCOL_F_STATUS)) {
		err = set_u64(u, VHOST_USER_SET_STATUS, 0, &e);
	} else if (vhost_user_can(u, VHOST_USER_PROTOCOL_F_RESET_DEVICE)) {
		struct vhost_user_msg m = { .request = VHOST_USER_RESET_DEVICE };

		err = vhost_user_call(u, &m, &e);
	}
	report(u, err, &e);
}

/*
 * Of a split ring, what the driver was not shown is not done. Of a packed one only who has the
 * region knows; what we say counts only if it had not begun.
 */
static int recover(struct vhost *b, unsigned index, struct virtq_state *base)
{
	struct vhost_user *u = vhost_user_of(b);
	const struct virtio_queue *q = b->plane->queue[index].q;

	if (!(b->plane->v->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED)))
		u->base[index].avail_idx = u->base[index].used_idx =
			le16toh(__atomic_load_n(&q->ring.split.used->idx, __ATOMIC_ACQUIRE));
	else if (u->inflight_fd < 0)
		return -ENOTSUP;
	*base = u->base[index];
	return 0;
}

static int get_config(struct vhost *b, unsigned offset, void *buf, size_t len)
{
	struct vhost_user *u = vhost_user_of(b);
	struct vhost_user_msg m = {
		.request = VHOST_USER_GET_CONFIG,
		.size = (uint32_t)(VHOST_USER_CONFIG_HEADER + len),
		.config = { .offset = offset, .size = (uint32_t)len },
	};
	struct error e;
	int err;

	if (len > VHOST_USER_MAX_CONFIG)
		return -EINVAL;
	err = vhost_user_call(u, &m, &e);
	if (!err && m.size == 0)
		err = error_set(&e, -EIO, "it refuses GET_CONFIG");
	if (!err && (m.config.size != len || m.config.offset != offset))
		err = broken(u,
			     error_set(&e, -EPROTO, "it tells another part of its configuration"));
	if (!err)
		memcpy(buf, m.config.data, len);
	return err;
}

static int set_config(struct vhost *b, unsigned offset, const void *buf, size_t len)
{
	struct vhost_user *u = vhost_user_of(b);
	struct vhost_user_msg m = {
		.request = VHOST_USER_SET_CONFIG,
		.size = (uint32_t)(VHOST_USER_CONFIG_HEADER + len),
		.config = { .offset = offset, .size = (uint32_t)len },
	};
	struct error e;

	if (len > VHOST_USER_MAX_CONFIG)
		return -EINVAL;
	memcpy(m.config.data, buf, len);
	return vhost_user_call(u, &m, &e); /* refused: the driver's fault */
}

static void close_user(struct vhost *b)
{
	struct vhost_user *u = vhost_user_of(b);

	vhost_user_unlink(u);
	drop_inflight(u);
	for (unsigned i = 0; u->child && u->child[i]; i++)
		free(u->child[i]);
	free(u->child);
	free(u->path);
	free(u->name);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

const struct vhost_ops vhost_user_ops = {
	/* Not live: the region of requests in flight is for all rings. */
	.set_features = set_features, .set_memory = set_memory, .set_vring = set_vring,
	.set_call = set_call,	      .enable = enable,		.start = start,
	.get_base = get_base,	      .reset = reset,		.recover = recover,
	.get_config = get_config,     .set_config = set_config, .tids = vhost_user_child_tids,
	.close = close_user,
};

/* ---- making ---------------------------------------------------------------------------------- */

static bool copy_child(struct vhost_user *u, char *const *argv)
{
	unsigned n = 0;

	while (argv[n])
		n++;
	u->child = calloc(n + 1, sizeof(*u->child));
	for (unsigned i = 0; u->child && i < n; i++) {
		u->child[i] = strdup(argv[i]);
		if (!u->child[i])
			return false;
	}
	return u->child;
}

int vhost_user_open(struct vhost **out, const struct vhost_user_options *options, struct error *e)
{
	struct vhost_user *u = calloc(1, sizeof(*u));
	int err;

	if (!u)
		return error_set(e, -ENOMEM, "out of memory");
	u->options = *options;
	pthread_mutex_init(&u->lock, NULL);
	u->listener = UNIX_LISTENER_NONE;
	u->hangup.fd = u->asks.fd = u->inflight_fd = -1;
	u->retry.source.fd = -1;
	u->name = strdup(options->name);
	u->path = strdup(options->path ? options->path : "its own back end");
	u->b = (struct vhost){
		.ops = &vhost_user_ops,
		.name = u->path,
		.process = true,
		.returns = options->stateless,
	};
	if (!u->name || !u->path || (options->child && !copy_child(u, options->child)))
		err = error_set(e, -ENOMEM, "out of memory");
	else
		err = vhost_user_link(u, e);
	if (err) {
		close_user(&u->b);
		return err;
	}
	*out = &u->b;
	return 0;
}
