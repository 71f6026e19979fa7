/*
 * Rings of the vhost-user server: from the messages that set one up to a queue that is served. A
 * ring starts with SET_VRING_KICK and stops with GET_VRING_BASE; while it is disabled it is held.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/virtio/vhost/server_impl.h"

static struct server_ring *ring_at(struct vhost_user_server *s, uint32_t index, struct error *e)
{
	if (index < s->v->nqueues)
		return &s->ring[index];
	error_set(e, -EINVAL, "ring %u, where there are %u", index, s->v->nqueues);
	return NULL;
}

static bool packed(const struct vhost_user_server *s)
{
	return s->v->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
}

/* ---- start and stop -------------------------------------------------------------------------- */

static int ring_config(const struct vhost_user_server *s, const struct server_ring *ring,
		       struct virtq_config *config, struct error *e)
{
	const uint64_t event = sizeof(struct vring_packed_desc_event);
	uint64_t driver = packed(s) ? event : 6 + 2ull * ring->num;
	uint64_t device = packed(s) ? event : 6 + 8ull * ring->num;

	*config = (struct virtq_config){ .size = (uint16_t)ring->num, .features = s->v->features };
	/* Where a packed ring's event structures are, the message has the other two rings. */
	if (!server_guest_range(s, ring->addr.desc_user_addr, 16ull * ring->num, &config->desc) ||
	    !server_guest_range(s, ring->addr.avail_user_addr, driver, &config->driver) ||
	    !server_guest_range(s, ring->addr.used_user_addr, device, &config->device))
		return error_set(e, -EFAULT, "ring %u is not in the memory that was shared",
				 ring->vq->index);
	return 0;
}

/*
 * Where to go on. A split ring says itself what was used last, as the front end has no way to; a
 * packed one has nothing in flight when it is handed over (see server_get_vring_base()).
 */
static int ring_begin_at(const struct vhost_user_server *s, const struct server_ring *ring,
			 const struct virtq_config *config, struct virtq_state *at, struct error *e)
{
	uint16_t used_idx;

	if (packed(s)) {
		at->avail_idx = at->used_idx = ring->base & 0x7fff;
		at->avail_wrap = at->used_wrap = ring->base >> 15 & 1;
		return 0;
	}
	if (memory_read(s->v->dev.host->memory, config->device + offsetof(struct vring_used, idx),
			&used_idx, sizeof(used_idx)) < 0)
		return error_set(e, -EFAULT, "ring %u is not in the memory that was shared",
				 ring->vq->index);
	at->avail_idx = (uint16_t)ring->base;
	at->used_idx = le16toh(used_idx);
	return 0;
}

static int ring_track(const struct vhost_user_server *s, const struct server_ring *ring,
		      struct error *e)
{
	struct virtio_queue *vq = ring->vq;
	uint8_t *region = NULL;
	int err;

	if (s->inflight && vq->index < s->inflight_queues)
		region = (uint8_t *)s->inflight + vq->index * s->inflight_stride;
	pthread_mutex_lock(&vq->lock);
	err = virtq_track(&vq->ring, region, s->inflight_stride);
	pthread_mutex_unlock(&vq->lock);
	return err ? error_set_errno(e, err, "cannot track requests in flight") : 0;
}

static int ring_start(struct vhost_user_server *s, struct server_ring *ring,
		      const struct virtq_state *at, struct error *e)
{
	struct virtq_state state = virtq_state_reset();
	struct virtq_config config;
	int err = ring_config(s, ring, &config, e);

	if (!err && !at)
		err = ring_begin_at(s, ring, &config, &state, e);
	if (!err)
		err = ring_track(s, ring, e);
	if (err)
		return err;
	virtio_queue_set_state(ring->vq, at ? at : &state);
	virtio_serve_start(ring->vq, &config, ring->enabled ? 0 : VIRTIO_HOLD_OFF);
	/* An interrupt of the back end before us may have been lost with it. */
	pthread_mutex_lock(&ring->vq->lock);
	server_ring_call(s, ring->vq->index);
	pthread_mutex_unlock(&ring->vq->lock);
	return 0;
}

/* Lets what is in flight end, shows it to the driver, and stops. */
static struct virtq_state ring_stop(struct server_ring *ring)
{
	struct virtq_state state;

	virtio_serve_hold(ring->vq, VIRTIO_HOLD_OFF);
	state = virtio_queue_get_state(ring->vq);
	virtio_serve_stop(ring->vq);
	return state;
}

void server_rings_suspend(struct vhost_user_server *s)
{
	for (unsigned i = 0; i < s->v->nqueues; i++) {
		struct server_ring *ring = &s->ring[i];

		/* One that still waits for its memory has its state already. */
		if (!ring->started || ring->suspended)
			continue;
		ring->state = ring_stop(ring);
		ring->suspended = true;
	}
}

int server_rings_resume(struct vhost_user_server *s, struct error *e)
{
	for (unsigned i = 0; i < s->v->nqueues; i++) {
		struct server_ring *ring = &s->ring[i];
		struct virtq_config config;
		struct error waits;
		int err;

		/* Regions change one by one: the ring's own may come back with a later message. */
		if (!ring->suspended || ring_config(s, ring, &config, &waits))
			continue;
		err = ring_start(s, ring, &ring->state, e);
		if (err)
			return err;
		ring->suspended = false;
	}
	return 0;
}

bool server_rings_started(const struct vhost_user_server *s)
{
	for (unsigned i = 0; i < s->v->nqueues; i++)
		if (s->ring[i].started)
			return true;
	return false;
}

/* ---- eventfds -------------------------------------------------------------------------------- */

static void kick_off(struct server_ring *ring)
{
	event_del(&ring->kick);
	if (ring->kick.fd >= 0)
		close(ring->kick.fd);
	ring->kick.fd = -1;
}

/* Without ever waiting; a descriptor that is none of the kind is the front end's loss. */
static void signal_fd(struct vhost_user_server *s, int fd)
{
	if (fd >= 0)
		event_signal(&s->v->peer, fd);
}

void server_ring_call(struct vhost_user_server *s, unsigned index)
{
	signal_fd(s, s->ring[index].call);
}

void server_rings_tell_error(struct vhost_user_server *s)
{
	for (unsigned i = 0; i < s->v->nqueues; i++)
		signal_fd(s, __atomic_load_n(&s->ring[i].err, __ATOMIC_ACQUIRE));
}

/* *fd is replaced by what came with the message, -1 for none. */
static int replace_fd(struct server_ring *ring, int *place, int fd)
{
	int old;

	/* Where event_signal() has to write(2). The front end can clear it again. */
	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	pthread_mutex_lock(&ring->vq->lock);
	old = __atomic_exchange_n(place, fd, __ATOMIC_ACQ_REL);
	pthread_mutex_unlock(&ring->vq->lock);
	if (old >= 0)
		close(old);
	return 0;
}

/* The ring that KICK, CALL or ERR are about, and the descriptor; -1 for none. */
static struct server_ring *ring_and_fd(struct vhost_user_server *s, struct vhost_user_msg *m,
				       int *fd, struct error *e)
{
	bool none = m->u64 & VHOST_USER_VRING_NOFD;
	struct server_ring *ring = ring_at(s, m->u64 & VHOST_USER_VRING_INDEX, e);

	if (ring && none == (m->nfds > 0)) {
		error_set(e, -EPROTO, "an eventfd where none is announced, or none where one is");
		return NULL;
	}
	*fd = ring ? vhost_user_take_fd(m, 0) : -1;
	return ring;
}

int server_set_vring_call(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	int fd;
	struct server_ring *ring = ring_and_fd(s, m, &fd, e);

	return ring ? replace_fd(ring, &ring->call, fd) : -EINVAL;
}

int server_set_vring_err(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	int fd;
	struct server_ring *ring = ring_and_fd(s, m, &fd, e);

	return ring ? replace_fd(ring, &ring->err, fd) : -EINVAL;
}

int server_set_vring_kick(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	int fd, err;
	struct server_ring *ring = ring_and_fd(s, m, &fd, e);

	if (!ring)
		return -EINVAL;
	if (fd < 0)
		return error_set(e, -ENOTSUP, "ring %u is to be polled, which is not done here",
				 ring->vq->index);
	kick_off(ring);
	ring->kick.fd = fd;
	err = event_add(ring->vq->loop, &ring->kick);
	if (err) {
		kick_off(ring);
		return error_set_errno(e, err, "cannot watch the eventfd of ring %u",
				       ring->vq->index);
	}
	if (ring->started)
		return 0;
	if (!s->negotiated || !ring->addressed || !ring->num)
		return error_set(e, -EINVAL,
				 "ring %u is started before its features, size and address are set",
				 ring->vq->index);
	err = ring_start(s, ring, NULL, e);
	ring->started = !err;
	return err;
}

/* ---- the other messages ---------------------------------------------------------------------- */

/* What must not change under the feet of the thread that serves the ring. */
static struct server_ring *stopped_ring(struct vhost_user_server *s, uint32_t index,
					struct error *e)
{
	struct server_ring *ring = ring_at(s, index, e);

	if (!ring || !ring->started)
		return ring;
	error_set(e, -EBUSY, "ring %u is set up while it runs", index);
	return NULL;
}

int server_set_vring_num(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	struct server_ring *ring = stopped_ring(s, m->state.index, e);

	if (!ring)
		return -EINVAL;
	if (m->state.num == 0 || m->state.num > ring->vq->max_size)
		return error_set(e, -EINVAL, "ring %u of %u descriptors, where %u is the most",
				 m->state.index, m->state.num, ring->vq->max_size);
	ring->num = m->state.num;
	return 0;
}

static bool same_addresses(const struct vhost_vring_addr *a, const struct vhost_vring_addr *b)
{
	return a->desc_user_addr == b->desc_user_addr && a->used_user_addr == b->used_user_addr &&
	       a->avail_user_addr == b->avail_user_addr;
}

int server_set_vring_addr(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	struct server_ring *ring = ring_at(s, m->addr.index, e);

	/* Sent again to turn logging on and off; the addresses are what counts here. */
	if (ring && ring->started && same_addresses(&ring->addr, &m->addr))
		return 0;
	ring = stopped_ring(s, m->addr.index, e);
	if (!ring)
		return -EINVAL;
	ring->addr = m->addr;
	ring->addressed = true;
	return 0;
}

int server_set_vring_base(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	struct server_ring *ring = stopped_ring(s, m->state.index, e);

	if (!ring)
		return -EINVAL;
	ring->base = m->state.num;
	return 0;
}

int server_get_vring_base(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	struct server_ring *ring = ring_at(s, m->state.index, e);
	struct virtq_state at;

	if (!ring)
		return -EINVAL;
	if (ring->started) {
		kick_off(ring);
		at = ring->suspended ? ring->state : ring_stop(ring);
		ring->started = ring->suspended = false;
		ring->base = packed(s) ? at.avail_idx | (unsigned)at.avail_wrap << 15 |
						 (unsigned)at.used_idx << 16 |
						 (unsigned)at.used_wrap << 31
				       : at.avail_idx;
	}
	m->state.num = ring->base;
	m->size = sizeof(m->state);
	return 0;
}

static void ring_enable(struct server_ring *ring, bool on)
{
	ring->enabled = on;
	if (ring->started)
		virtio_serve_hold(ring->vq, on ? 0 : VIRTIO_HOLD_OFF);
}

int server_set_vring_enable(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	struct server_ring *ring = ring_at(s, m->state.index, e);

	if (!ring)
		return -EINVAL;
	if (m->state.num > 1)
		return error_set(e, -EINVAL, "ring %u is neither enabled nor disabled",
				 m->state.index);
	ring_enable(ring, m->state.num);
	return 0;
}

void server_rings_enable_all(struct vhost_user_server *s)
{
	for (unsigned i = 0; i < s->v->nqueues; i++)
		ring_enable(&s->ring[i], true);
}

/* ---- life cycle ------------------------------------------------------------------------------ */

void server_rings_reset(struct vhost_user_server *s)
{
	for (unsigned i = 0; i < s->v->nqueues; i++) {
		struct server_ring *ring = &s->ring[i];
		struct virtio_queue *vq = ring->vq;

		kick_off(ring);
		virtio_serve_stop(vq);
		pthread_mutex_lock(&vq->lock);
		virtq_track(&vq->ring, NULL, 0);
		pthread_mutex_unlock(&vq->lock);
		replace_fd(ring, &ring->call, -1);
		replace_fd(ring, &ring->err, -1);
		ring->num = ring->base = 0;
		ring->addressed = ring->enabled = ring->started = ring->suspended = false;
	}
}

int server_rings_create(struct vhost_user_server *s, struct error *e)
{
	s->ring = calloc(s->v->nqueues, sizeof(*s->ring));
	if (!s->ring)
		return error_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < s->v->nqueues; i++) {
		struct virtio_queue *vq = &s->v->queue[i];

		s->ring[i] = (struct server_ring){
			.vq = vq,
			.call = -1,
			.err = -1,
			/* Edge-triggered and never read, like the device's own doorbell. */
			.kick = { .fd = -1,
				  .events = EPOLLIN | EPOLLET,
				  .callback = virtio_serve_kicked,
				  .opaque = vq },
		};
	}
	return 0;
}

void server_rings_destroy(struct vhost_user_server *s)
{
	free(s->ring);
	s->ring = NULL;
}
