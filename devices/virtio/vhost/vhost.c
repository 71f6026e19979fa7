/*
 * A virtio device's queues in the hands of a backend: see vhost.h. In: what the virtio layer wants
 * of queues (vhost_plane_update()), what backends report. Out: calls of struct vhost_ops, states of
 * queues, DEVICE_NEEDS_RESET.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/vhost/vhost.h"

static bool is_packed(const struct vhost_plane *p)
{
	return virtio_has(p->v, VIRTIO_F_RING_PACKED);
}

static unsigned index_of(const struct vhost_queue *vq)
{
	return (unsigned)(vq - vq->plane->queue);
}

/* ---- states ---------------------------------------------------------------------------------- */

/*
 * A split ring tells itself what was shown to the driver. What the driver may have written there
 * instead only moves an index that runs freely.
 */
static uint16_t split_used_idx(const struct virtio_queue *q)
{
	return le16toh(__atomic_load_n(&q->ring.split.used->idx, __ATOMIC_ACQUIRE));
}

/* The next to serve the queue begins at base; unless the driver has reset it, or it broke. */
static void keep_state(struct vhost_queue *vq, struct virtq_state *base)
{
	struct virtio_queue *q = vq->q;

	pthread_mutex_lock(&q->lock);
	if (q->running) {
		if (!is_packed(vq->plane))
			base->used_idx = split_used_idx(q);
		if (virtq_set_state(&q->ring, base) < 0)
			virtio_queue_break(q, "its backend was somewhere outside the ring");
	}
	pthread_mutex_unlock(&q->lock);
}

/* The same when nobody can say where it had got to: what the driver was not shown is done again. */
static void recover_state(struct vhost_queue *vq)
{
	struct vhost *b = vq->plane->backend;
	struct virtio_queue *q = vq->q;
	struct virtq_state base = virtq_state_reset();

	if (b->ops->recover && b->ops->recover(b, index_of(vq), &base) == 0) {
		keep_state(vq, &base);
		return;
	}
	pthread_mutex_lock(&q->lock);
	if (q->running && is_packed(vq->plane)) {
		virtio_queue_break(q, "its backend is gone, and with it the place in the ring");
	} else if (q->running) {
		base.avail_idx = base.used_idx = split_used_idx(q);
		virtq_set_state(&q->ring, &base);
	}
	pthread_mutex_unlock(&q->lock);
}

/* ---- trouble --------------------------------------------------------------------------------- */

/* The backend is no use as it is: all rings are left where they are. */
static void give_up(struct vhost_plane *p, const char *why)
{
	/* The driver could make it fail again and again. */
	if (p->trouble++ == 0)
		log_error("%s: %s: %s%s", p->v->dev.name, p->backend->name, why,
			  p->backend->returns ? "; waiting for it to come back" : "");
	for (unsigned i = 0; i < p->nqueues; i++) {
		struct vhost_queue *vq = &p->queue[i];

		if (vq->active)
			recover_state(vq);
		vq->active = vq->enabled = false;
	}
	p->running = false;
	if (p->backend->returns) {
		p->lost = true;
	} else {
		p->failed = true;
		virtio_needs_reset(p->v);
	}
}

static int failed_call(struct vhost_plane *p, const char *what, int err)
{
	char why[128];

	snprintf(why, sizeof(why), "%s failed: %s", what, strerror(-err));
	give_up(p, why);
	return err;
}

/* ---- interrupts ------------------------------------------------------------------------------ */

/* The vector's own eventfd, or the one that we turn into an interrupt. */
static int call_fd(const struct vhost_queue *vq)
{
	struct virtio_device *v = vq->plane->v;
	int fd = v->transport_ops->queue_eventfd(v, vq->q);

	return fd >= 0 ? fd : vq->called.fd;
}

static void called(void *opaque, uint32_t events)
{
	struct vhost_queue *vq = opaque;
	struct virtio_queue *q = vq->q;

	(void)events;
	if (!event_fd_take(vq->called.fd))
		return;
	pthread_mutex_lock(&q->lock);
	if (q->running && q->outside) {
		q->stats.interrupts++;
		q->v->transport_ops->queue_interrupt(q->v, q);
	}
	pthread_mutex_unlock(&q->lock);
}

static int update_call(struct vhost_queue *vq)
{
	struct vhost_plane *p = vq->plane;
	int fd = call_fd(vq), err;

	if (!vq->active || fd == vq->call)
		return 0;
	err = p->backend->ops->set_call(p->backend, index_of(vq), fd);
	if (err)
		return failed_call(p, "giving it another interrupt", err);
	vq->call = fd;
	return 0;
}

/* ---- rings ----------------------------------------------------------------------------------- */

static int set_enabled(struct vhost_queue *vq, bool on)
{
	struct vhost_plane *p = vq->plane;
	struct vhost *b = p->backend;
	int err = 0;

	if (vq->enabled == on)
		return 0;
	if (b->ops->enable)
		err = b->ops->enable(b, index_of(vq), on);
	if (err)
		return failed_call(p, on ? "enabling a queue" : "disabling a queue", err);
	vq->enabled = on;
	return 0;
}

static int set_ring(struct vhost_queue *vq)
{
	struct vhost_plane *p = vq->plane;
	struct virtio_queue *q = vq->q;
	struct vhost_vring ring = {
		.index = index_of(vq),
		.size = q->regs.size,
		.packed = is_packed(p),
		.desc = q->regs.desc,
		.driver = q->regs.driver,
		.device = q->regs.device,
		.base = virtio_queue_get_state(q),
		.kick = q->kick.fd,
		.call = call_fd(vq),
		.err = vq->err.fd,
	};
	int err;

	if (ring.packed) {
		ring.desc_host = q->ring.packed.desc;
		ring.driver_host = (void *)(uintptr_t)q->ring.packed.driver;
		ring.device_host = q->ring.packed.device;
	} else {
		ring.desc_host = (void *)(uintptr_t)q->ring.split.desc;
		ring.driver_host = (void *)(uintptr_t)q->ring.split.avail;
		ring.device_host = q->ring.split.used;
	}
	err = p->backend->ops->set_vring(p->backend, &ring);
	if (err)
		return failed_call(p, "setting a queue up", err);
	vq->call = ring.call;
	vq->active = true;
	return 0;
}

static int stop_ring(struct vhost_queue *vq)
{
	struct vhost *b = vq->plane->backend;
	struct virtq_state base = virtq_state_reset();
	int err = set_enabled(vq, false);

	if (err)
		return err;
	err = b->ops->get_base(b, index_of(vq), &base);
	if (err)
		return failed_call(vq->plane, "stopping a queue", err);
	vq->active = false;
	keep_state(vq, &base);
	return 0;
}

/* Is the backend to have the ring now? */
static bool due(struct vhost_queue *vq)
{
	bool is;

	if (index_of(vq) >= vq->plane->used)
		return false;
	pthread_mutex_lock(&vq->q->lock);
	is = virtio_queue_due(vq->q);
	pthread_mutex_unlock(&vq->q->lock);
	return is;
}

static unsigned count_active(const struct vhost_plane *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->nqueues; i++)
		n += p->queue[i].active;
	return n;
}

/* Of those that run, all that should not (or all); then the backend itself, if that was all. */
static int stop_rings(struct vhost_plane *p, bool all)
{
	struct vhost *b = p->backend;
	unsigned staying = 0;
	int err = 0;

	for (unsigned i = 0; i < p->nqueues; i++)
		staying += p->queue[i].active && !all && due(&p->queue[i]);
	if (p->running && !staying) {
		p->running = false;
		err = b->ops->stop ? b->ops->stop(b) : 0;
		if (err)
			return failed_call(p, "stopping it", err);
	}
	for (unsigned i = 0; i < p->nqueues && !err; i++) {
		struct vhost_queue *vq = &p->queue[i];

		if (vq->active && (all || !due(vq)))
			err = stop_ring(vq);
	}
	return err;
}

static int begin(struct vhost_plane *p)
{
	struct vhost *b = p->backend;
	int err;

	if (p->running)
		return 0;
	/* One that came back may be another one. */
	if (p->v->features & b->owned & ~b->features) {
		give_up(p, "it has not the features any more that the driver uses");
		return -ENOTSUP;
	}
	err = b->ops->set_features(b, p->v->features & b->owned);
	if (err)
		return failed_call(p, "agreeing on features", err);
	err = b->ops->set_memory(b, p->v->dev.host->memory);
	return err ? failed_call(p, "telling it of the guest's memory", err) : 0;
}

static int start_rings(struct vhost_plane *p)
{
	struct vhost *b = p->backend;
	int err = begin(p);

	for (unsigned i = 0; i < p->nqueues && !err; i++)
		if (!p->queue[i].active && due(&p->queue[i]))
			err = set_ring(&p->queue[i]);
	for (unsigned i = 0; i < p->nqueues && !err; i++)
		if (p->queue[i].active && p->queue[i].wanted)
			err = set_enabled(&p->queue[i], true);
	if (err || p->running)
		return err;
	p->running = true;
	err = b->ops->start ? b->ops->start(b) : 0;
	return err ? failed_call(p, "starting it", err) : 0;
}

/* Chains may have been made available before anybody listened. */
static void kick_all(struct vhost_plane *p)
{
	for (unsigned i = 0; i < p->nqueues; i++)
		if (p->queue[i].active)
			virtio_queue_kick(p->queue[i].q);
}

/* Rings as they should be; p->lock and v->lock held. */
static void settle(struct vhost_plane *p)
{
	bool start = false, stop = false;
	int err = 0;

	for (unsigned i = 0; i < p->nqueues; i++) {
		start |= !p->queue[i].active && due(&p->queue[i]);
		stop |= p->queue[i].active && !due(&p->queue[i]);
	}
	if (p->lost || p->failed) {
		if (start && !(p->lost && p->backend->returns))
			virtio_needs_reset(p->v);
		return;
	}
	if (stop || (start && !p->backend->ops->live_rings && count_active(p)))
		err = stop_rings(p, !p->backend->ops->live_rings);
	for (unsigned i = 0; i < p->nqueues && !err; i++) {
		start |= !p->queue[i].active && due(&p->queue[i]);
		err = update_call(&p->queue[i]);
	}
	if (!err && start && start_rings(p) == 0)
		kick_all(p);
}

/* ---- what a backend reports ------------------------------------------------------------------ */

static void ring_failed(void *opaque, uint32_t events)
{
	struct vhost_queue *vq = opaque;
	struct vhost_plane *p = vq->plane;

	(void)events;
	if (!event_fd_take(vq->err.fd))
		return;
	pthread_mutex_lock(&p->v->lock);
	pthread_mutex_lock(&p->lock);
	if (vq->active) {
		pthread_mutex_lock(&vq->q->lock);
		virtio_queue_break(vq->q, "its backend found it broken");
		pthread_mutex_unlock(&vq->q->lock);
		settle(p);
	}
	pthread_mutex_unlock(&p->lock);
	pthread_mutex_unlock(&p->v->lock);
}

void vhost_lost(struct vhost *b, const char *why)
{
	struct vhost_plane *p = b->plane;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	if (!p->lost) {
		give_up(p, why);
		p->lost = true;
	}
	pthread_mutex_unlock(&p->lock);
}

void vhost_back(struct vhost *b)
{
	struct vhost_plane *p = b->plane;

	if (!p)
		return;
	pthread_mutex_lock(&p->v->lock);
	pthread_mutex_lock(&p->lock);
	p->lost = false;
	p->trouble = 0;
	log_info("%s: %s is there again", p->v->dev.name, b->name);
	settle(p);
	pthread_mutex_unlock(&p->lock);
	pthread_mutex_unlock(&p->v->lock);
}

void vhost_config_changed(struct vhost *b)
{
	struct vhost_plane *p = b->plane;

	if (p && p->config_changed)
		p->config_changed(p);
}

/* ---- what the device wants ------------------------------------------------------------------- */

void vhost_plane_update(struct vhost_plane *p)
{
	if (!p->v)
		return;
	pthread_mutex_lock(&p->lock);
	settle(p);
	pthread_mutex_unlock(&p->lock);
}

void vhost_plane_reset(struct vhost_plane *p)
{
	if (!p->v)
		return;
	pthread_mutex_lock(&p->lock);
	p->failed = false;
	if (p->backend->ops->reset)
		p->backend->ops->reset(p->backend);
	pthread_mutex_unlock(&p->lock);
}

void vhost_plane_use(struct vhost_plane *p, unsigned n)
{
	if (!p->v)
		return;
	pthread_mutex_lock(&p->lock);
	p->used = n;
	for (unsigned i = 0; i < p->nqueues; i++)
		virtio_queue_set_outside(p->queue[i].q, i < n);
	pthread_mutex_unlock(&p->lock);
}

void vhost_plane_handover(struct vhost_plane *p, unsigned n)
{
	struct virtio_device *v = p->v;

	pthread_mutex_lock(&v->lock);
	virtio_hold(v, VIRTIO_HOLD_MOVE, true);
	vhost_plane_use(p, n);
	virtio_hold(v, VIRTIO_HOLD_MOVE, false);
	pthread_mutex_unlock(&v->lock);
}

void vhost_plane_enable(struct vhost_plane *p, unsigned index, bool on)
{
	struct vhost_queue *vq;

	if (!p->v)
		return;
	pthread_mutex_lock(&p->lock);
	vq = &p->queue[index];
	vq->wanted = on;
	if (vq->active && set_enabled(vq, on) == 0 && on)
		virtio_queue_kick(vq->q);
	pthread_mutex_unlock(&p->lock);
}

int vhost_plane_get_config(struct vhost_plane *p, void *config)
{
	int err;

	pthread_mutex_lock(&p->lock);
	err = p->lost ? -ENOTCONN
		      : p->backend->ops->get_config(p->backend, 0, config, p->v->config_len);
	pthread_mutex_unlock(&p->lock);
	return err;
}

int vhost_plane_load_config(struct vhost_plane *p, bool tell)
{
	struct virtio_device *v = p->v;
	uint8_t config[VIRTIO_CONFIG_MAX];
	int err = vhost_plane_get_config(p, config);

	if (err)
		return err;
	if (tell)
		virtio_config_update(v, 0, config, v->config_len);
	else
		virtio_config_set(v, 0, config, v->config_len);
	return 0;
}

void vhost_plane_store_config(struct vhost_plane *p, unsigned offset, unsigned size, uint64_t value)
{
	uint64_t field = htole64(value);
	int err;

	pthread_mutex_lock(&p->lock);
	err = p->lost ? -ENOTCONN : p->backend->ops->set_config(p->backend, offset, &field, size);
	pthread_mutex_unlock(&p->lock);
	if (err)
		virtio_misuse(p->v, "write to a place of configuration space that refuses it");
	else
		virtio_config_set(p->v, offset, &field, size);
}

unsigned vhost_plane_tids(struct vhost_plane *p, pid_t *tid, unsigned max)
{
	unsigned n = 0;

	pthread_mutex_lock(&p->lock);
	if (p->backend->ops->tids)
		n = p->backend->ops->tids(p->backend, tid, max);
	pthread_mutex_unlock(&p->lock);
	return n;
}

/* ---- life ------------------------------------------------------------------------------------ */

int vhost_limit_features(struct virtio_device *v, struct vhost *b, uint64_t owned, struct error *e)
{
	uint64_t missing = owned & ~b->features;

	b->owned = owned;
	if (missing & VIRTIO_BIT(VIRTIO_F_VERSION_1))
		return error_set(e, -ENOTSUP, "%s does not know virtio 1.0 (VERSION_1)", b->name);
	if (v->offered & missing & VIRTIO_BIT(VIRTIO_F_RING_PACKED))
		return error_set(e, -ENOTSUP,
				 "ring=packed: %s knows only split rings; leave it out", b->name);
	v->offered &= ~missing;
	return 0;
}

static int watch(struct event_source *source, void (*callback)(void *opaque, uint32_t events),
		 struct vhost_queue *vq, struct event_loop *loop)
{
	*source = (struct event_source){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.events = EPOLLIN,
		.callback = callback,
		.opaque = vq,
	};
	return source->fd < 0 ? -errno : event_add(loop, source);
}

static void unwatch(struct event_source *source)
{
	event_del(source);
	if (source->fd >= 0)
		close(source->fd);
	source->fd = -1;
}

int vhost_plane_init(struct vhost_plane *p, struct virtio_device *v, struct vhost *b, unsigned n,
		     struct event_loop *loop, struct error *e)
{
	int err = 0;

	p->backend = b;
	p->queue = calloc(n, sizeof(*p->queue));
	if (!p->queue) {
		vhost_close(b);
		p->backend = NULL;
		return error_set(e, -ENOMEM, "out of memory");
	}
	pthread_mutex_init(&p->lock, NULL);
	p->nqueues = n;
	p->v = v;
	for (unsigned i = 0; i < n; i++)
		p->queue[i] = (struct vhost_queue){
			.plane = p,
			.q = &v->queue[i],
			.wanted = true,
			.call = -1,
			.called.fd = -1,
			.err.fd = -1,
		};
	if (b->process)
		event_signaller_init(&v->peer);
	for (unsigned i = 0; i < n && !err; i++) {
		v->queue[i].kick_peer = b->process ? &v->peer : NULL;
		err = watch(&p->queue[i].called, called, &p->queue[i], loop);
		if (!err)
			err = watch(&p->queue[i].err, ring_failed, &p->queue[i], loop);
	}
	if (err) {
		vhost_plane_fini(p);
		return error_set_errno(e, err, "cannot make eventfds for its queues");
	}
	b->plane = p;
	vhost_plane_use(p, n);
	return 0;
}

void vhost_plane_fini(struct vhost_plane *p)
{
	if (!p->v)
		return;
	pthread_mutex_lock(&p->v->lock);
	pthread_mutex_lock(&p->lock);
	if (!p->lost)
		stop_rings(p, true);
	p->used = 0; /* nothing starts any more */
	pthread_mutex_unlock(&p->lock);
	pthread_mutex_unlock(&p->v->lock);
	for (unsigned i = 0; i < p->nqueues; i++) {
		unwatch(&p->queue[i].called);
		unwatch(&p->queue[i].err);
	}
	vhost_close(p->backend); /* and nothing is reported any more */
	pthread_mutex_lock(&p->v->lock);
	free(p->queue);
	pthread_mutex_destroy(&p->lock);
	pthread_mutex_unlock(&p->v->lock);
	*p = (struct vhost_plane){ 0 };
}
