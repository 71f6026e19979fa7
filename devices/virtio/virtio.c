/*
 * A virtio device's registers: status and features (Virtio 1.2 sections 2.1, 2.2), configuration
 * space (2.5) and queue set-up (2.6). See virtio.h for threads and locks; serve.c is the other
 * half.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/virtio.h"

#define STATUS_WRITABLE                                                                            \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |        \
	 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

void virtio_misuse(struct virtio_device *v, const char *what)
{
	log_guest(&v->misuse, "%s: driver breaks a rule: %s", v->dev.name, what);
}

/* ---- status ---------------------------------------------------------------------------------- */

uint8_t virtio_get_status(const struct virtio_device *v)
{
	return __atomic_load_n(&v->status, __ATOMIC_ACQUIRE);
}

static void status_add(struct virtio_device *v, uint8_t bits)
{
	__atomic_fetch_or(&v->status, bits, __ATOMIC_ACQ_REL);
}

void virtio_needs_reset(struct virtio_device *v)
{
	status_add(v, VIRTIO_CONFIG_S_NEEDS_RESET);
	/* Section 2.1.2: the driver is told if it has got that far. */
	if (virtio_get_status(v) & VIRTIO_CONFIG_S_DRIVER_OK)
		v->transport_ops->config_interrupt(v);
}

static void queue_registers_reset(struct virtio_queue *q)
{
	q->regs = (struct virtq_config){ .size = q->max_size };
	q->enabled = false;
	q->reconfigurable = false;
	__atomic_store_n(&q->vector, 0xffff, __ATOMIC_RELAXED);
}

/* Nothing touches guest memory when this returns, nor before the driver sets the device up again.
 */
static void device_reset(struct virtio_device *v)
{
	for (unsigned i = 0; i < v->nqueues; i++)
		virtio_serve_stop(&v->queue[i]);
	virtio_update(v);
	for (unsigned i = 0; i < v->nqueues; i++)
		queue_registers_reset(&v->queue[i]);
	v->driver_features = 0;
	v->features = 0;
	v->device_feature_select = 0;
	v->driver_feature_select = 0;
	v->queue_select = 0;
	if (v->ops->reset)
		v->ops->reset(v);
	/* First, so that a transport can tell late interrupts from those of the next driver. */
	__atomic_store_n(&v->status, 0, __ATOMIC_RELEASE);
	if (v->transport_ops)
		v->transport_ops->device_reset(v);
}

/* Section 2.2.2: FEATURES_OK does not stick unless the subset can be. */
static bool features_acceptable(struct virtio_device *v)
{
	uint64_t features = v->driver_features;
	const char *why;

	if (features & ~v->offered)
		why = "features accepted that were not offered";
	else if (!(features & VIRTIO_BIT(VIRTIO_F_VERSION_1)))
		why = "VERSION_1 not accepted";
	else
		why = v->ops->check_features ? v->ops->check_features(v, features) : NULL;
	if (why)
		virtio_misuse(v, why);
	return !why;
}

static void queue_go(struct virtio_queue *q)
{
	struct virtq_config config = q->regs;

	config.features = q->v->features;
	virtio_serve_start(q, &config, q->v->held);
}

static void driver_ok(struct virtio_device *v)
{
	status_add(v, VIRTIO_CONFIG_S_DRIVER_OK);
	if (v->ops->driver_ok)
		v->ops->driver_ok(v);
	for (unsigned i = 0; i < v->nqueues; i++)
		if (v->queue[i].enabled)
			queue_go(&v->queue[i]);
	virtio_update(v);
}

void virtio_set_status(struct virtio_device *v, uint8_t value)
{
	uint8_t old = virtio_get_status(v), added;

	if (value == 0) {
		device_reset(v);
		return;
	}
	if (old & STATUS_WRITABLE & ~value)
		virtio_misuse(v, "status bit cleared");
	added = value & STATUS_WRITABLE & ~old;
	status_add(v, added & (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
			       VIRTIO_CONFIG_S_FAILED));
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && features_acceptable(v)) {
		v->features = v->driver_features;
		status_add(v, VIRTIO_CONFIG_S_FEATURES_OK);
	}
	if (added & VIRTIO_CONFIG_S_DRIVER_OK) {
		if (virtio_get_status(v) & VIRTIO_CONFIG_S_FEATURES_OK)
			driver_ok(v);
		else
			virtio_misuse(v, "DRIVER_OK without FEATURES_OK");
	}
}

const char *virtio_adopt_features(struct virtio_device *v, uint64_t features)
{
	const char *why;

	if (features & ~v->offered)
		return "features accepted that were not offered";
	why = v->ops->check_features ? v->ops->check_features(v, features) : NULL;
	if (why)
		return why;
	v->driver_features = v->features = features;
	status_add(v, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
			      VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	if (v->ops->driver_ok)
		v->ops->driver_ok(v);
	return NULL;
}

void virtio_disown(struct virtio_device *v)
{
	device_reset(v);
}

/* ---- features -------------------------------------------------------------------------------- */

uint32_t virtio_get_offered(const struct virtio_device *v, uint32_t select)
{
	return select < 2 ? (uint32_t)(v->offered >> (32 * select)) : 0;
}

uint32_t virtio_get_driver_features(const struct virtio_device *v, uint32_t select)
{
	return select < 2 ? (uint32_t)(v->driver_features >> (32 * select)) : 0;
}

void virtio_set_driver_features(struct virtio_device *v, uint32_t select, uint32_t value)
{
	unsigned shift = 32 * select;

	if (virtio_get_status(v) & VIRTIO_CONFIG_S_FEATURES_OK)
		virtio_misuse(v, "features written after FEATURES_OK");
	else if (select < 2)
		v->driver_features =
			(v->driver_features & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
	else if (value)
		virtio_misuse(v, "feature bits above 63");
}

/* ---- configuration space --------------------------------------------------------------------- */

uint8_t virtio_get_generation(const struct virtio_device *v)
{
	return __atomic_load_n(&v->generation, __ATOMIC_ACQUIRE);
}

static bool config_inside(const struct virtio_device *v, uint64_t offset, uint64_t size)
{
	return offset <= v->config_len && size <= v->config_len - offset;
}

uint64_t virtio_config_read(struct virtio_device *v, uint64_t offset, unsigned size)
{
	uint8_t bytes[8] = { 0 };
	uint64_t value;

	/* Past the end there are no fields: zeros, also for the rest of one that begins inside. */
	if (size > 8)
		return 0;
	pthread_mutex_lock(&v->config_lock);
	if (config_inside(v, offset, size))
		memcpy(bytes, v->config + offset, size);
	else if (offset < v->config_len)
		memcpy(bytes, v->config + offset, v->config_len - offset);
	pthread_mutex_unlock(&v->config_lock);
	memcpy(&value, bytes, sizeof(value));
	return le64toh(value);
}

void virtio_config_write(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value)
{
	if (config_inside(v, offset, size) && v->ops->config_write)
		v->ops->config_write(v, (unsigned)offset, size, value);
	else
		virtio_misuse(v, "write to a read-only place of configuration space");
}

/*
 * The generation changes under the lock that reads take as well: whoever has seen a new byte sees
 * the new generation after it (section 2.5.1).
 */
static void config_store(struct virtio_device *v, unsigned offset, const void *buf, size_t len,
			 uint8_t generations)
{
	pthread_mutex_lock(&v->config_lock);
	if (len && config_inside(v, offset, len))
		memcpy(v->config + offset, buf, len);
	__atomic_fetch_add(&v->generation, generations, __ATOMIC_ACQ_REL);
	pthread_mutex_unlock(&v->config_lock);
}

void virtio_config_set(struct virtio_device *v, unsigned offset, const void *buf, size_t len)
{
	config_store(v, offset, buf, len, 0);
}

void virtio_config_update(struct virtio_device *v, unsigned offset, const void *buf, size_t len)
{
	config_store(v, offset, buf, len, 1);
	if (virtio_get_status(v) & VIRTIO_CONFIG_S_DRIVER_OK)
		v->transport_ops->config_interrupt(v);
}

/* ---- queue registers ------------------------------------------------------------------------- */

struct virtio_queue *virtio_queue_at(struct virtio_device *v, unsigned index)
{
	return index < v->nqueues ? &v->queue[index] : NULL;
}

/*
 * Queue registers are frozen once the queue is enabled and once the driver is set up: what is being
 * used is not changed under the feet of the thread that uses it.
 */
static bool queue_frozen(struct virtio_queue *q)
{
	bool late = virtio_get_status(q->v) & VIRTIO_CONFIG_S_DRIVER_OK;

	if (!q->enabled && (!late || q->reconfigurable))
		return false;
	virtio_misuse(q->v, q->enabled ? "register of an enabled queue written"
				       : "queue register written after DRIVER_OK");
	return true;
}

void virtio_queue_set_size(struct virtio_queue *q, uint32_t size)
{
	bool packed = q->v->driver_features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);

	if (queue_frozen(q))
		return;
	if (size == 0 || size > q->max_size || (!packed && (size & (size - 1))))
		virtio_misuse(q->v, "queue size that cannot be");
	else
		q->regs.size = (uint16_t)size;
}

static uint64_t *area_register(struct virtq_config *regs, enum virtio_ring_area area)
{
	return area == VIRTIO_AREA_DESC	    ? &regs->desc
	       : area == VIRTIO_AREA_DRIVER ? &regs->driver
					    : &regs->device;
}

void virtio_queue_set_address(struct virtio_queue *q, enum virtio_ring_area area, unsigned half,
			      uint32_t value)
{
	uint64_t *address = area_register(&q->regs, area);
	unsigned shift = half ? 32 : 0;

	if (!queue_frozen(q))
		*address = (*address & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
}

uint32_t virtio_queue_get_address(const struct virtio_queue *q, enum virtio_ring_area area,
				  unsigned half)
{
	struct virtq_config regs = q->regs;

	return (uint32_t)(*area_register(&regs, area) >> (half ? 32 : 0));
}

void virtio_queue_enable(struct virtio_queue *q)
{
	uint8_t status = virtio_get_status(q->v);

	if (queue_frozen(q))
		return;
	if (!(status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		virtio_misuse(q->v, "queue enabled before FEATURES_OK");
		return;
	}
	q->enabled = true;
	q->reconfigurable = false;
	if (status & VIRTIO_CONFIG_S_DRIVER_OK) {
		queue_go(q);
		virtio_update(q->v);
	}
}

/*
 * Started again, it would begin anew while the driver went on; so after DRIVER_OK that takes a
 * reset, of the queue or of the device.
 */
void virtio_queue_disable(struct virtio_queue *q)
{
	if (!q->enabled)
		return;
	virtio_serve_stop(q);
	virtio_update(q->v);
	q->enabled = false;
}

/* Section 2.6.1: done when this returns, so the driver never sees it going on. */
void virtio_queue_reset(struct virtio_queue *q)
{
	if (!(q->v->features & VIRTIO_BIT(VIRTIO_F_RING_RESET))) {
		virtio_misuse(q->v, "queue reset without the feature");
		return;
	}
	virtio_serve_stop(q);
	virtio_update(q->v);
	queue_registers_reset(q);
	q->reconfigurable = true;
}

void virtio_hold(struct virtio_device *v, unsigned reason, bool hold)
{
	unsigned held = hold ? v->held | reason : v->held & ~reason;

	if (held == v->held)
		return;
	v->held = held;
	for (unsigned i = 0; i < v->nqueues; i++)
		virtio_serve_hold(&v->queue[i], held);
	virtio_update(v);
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static struct virtio_device *device_of(struct device *dev)
{
	return (struct virtio_device *)dev; /* first member */
}

static int op_start(struct device *dev, struct error *e)
{
	struct virtio_device *v = device_of(dev);

	(void)e;
	pthread_mutex_lock(&v->lock);
	virtio_hold(v, VIRTIO_HOLD_PAUSE, false);
	pthread_mutex_unlock(&v->lock);
	return 0;
}

static void op_pause(struct device *dev)
{
	struct virtio_device *v = device_of(dev);

	pthread_mutex_lock(&v->lock);
	virtio_hold(v, VIRTIO_HOLD_PAUSE, true);
	pthread_mutex_unlock(&v->lock);
}

static void op_reset(struct device *dev)
{
	struct virtio_device *v = device_of(dev);

	pthread_mutex_lock(&v->lock);
	device_reset(v);
	pthread_mutex_unlock(&v->lock);
	v->transport_ops->machine_reset(v);
}

static void op_destroy(struct device *dev)
{
	struct virtio_device *v = device_of(dev);

	virtio_device_fini(v);
	v->ops->destroy(v);
}

static const struct device_ops device_ops = {
	.start = op_start,
	.pause = op_pause,
	.reset = op_reset,
	.destroy = op_destroy,
};

static uint64_t ring_features(const struct device_config *config)
{
	uint64_t features = VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_F_RING_RESET);

	if (device_config_uint(config, "ring") == 1)
		features |= VIRTIO_BIT(VIRTIO_F_RING_PACKED);
	if (device_config_bool(config, "event-idx"))
		features |= VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX);
	if (device_config_bool(config, "indirect"))
		features |= VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC);
	if (device_config_bool(config, "in-order"))
		features |= VIRTIO_BIT(VIRTIO_F_IN_ORDER);
	return features;
}

int virtio_device_init(struct virtio_device *v, const struct virtio_device_ops *ops,
		       const struct virtio_identity *identity, struct device_host *host,
		       const struct device_config *config, struct error *e)
{
	device_init(&v->dev, &device_ops, host, config);
	pthread_mutex_init(&v->lock, NULL);
	pthread_mutex_init(&v->config_lock, NULL);
	v->ops = ops;
	v->id = identity->id;
	v->offered = identity->features | ring_features(config);
	v->config_len = identity->config_len;
	v->held = VIRTIO_HOLD_PAUSE;
	if (identity->nqueues > VIRTIO_MAX_QUEUES || identity->config_len > VIRTIO_CONFIG_MAX)
		return error_set(e, -EINVAL, "more queues or configuration than there is room for");
	v->queue = calloc(identity->nqueues, sizeof(*v->queue));
	if (!v->queue)
		return error_set(e, -ENOMEM, "out of memory");
	v->nqueues = identity->nqueues;
	for (unsigned i = 0; i < v->nqueues; i++) {
		v->queue[i].v = v;
		v->queue[i].index = i;
		v->queue[i].kick.fd = -1;
		pthread_mutex_init(&v->queue[i].lock, NULL);
	}
	return 0;
}

int virtio_queue_init(struct virtio_device *v, unsigned index, uint16_t max_size,
		      size_t private_size, struct event_loop *loop, struct error *e)
{
	struct virtio_queue *q = &v->queue[index];
	bool packed = v->offered & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
	int err;

	if (!packed && (max_size & (max_size - 1)))
		return error_set(e, -EINVAL,
				 "queue-size=%u is not a power of two, and ring=split "
				 "wants one",
				 max_size);
	q->max_size = max_size;
	q->loop = loop;
	queue_registers_reset(q);
	q->state = virtq_state_reset();
	if (virtq_init(&q->ring, v->dev.host->memory, max_size, private_size))
		return error_set(e, -ENOMEM, "out of memory");
	/*
	 * Edge-triggered and never read: each signal wakes the loop once, which saves a system call
	 * a wake-up. (The count would overflow after 2^64 kicks.)
	 */
	q->kick = (struct event_source){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.events = EPOLLIN | EPOLLET,
		.callback = virtio_serve_kicked,
		.opaque = q,
	};
	err = q->kick.fd < 0 ? -errno : event_add(loop, &q->kick);
	if (!err)
		account_watch_kicks(v->dev.account, q->kick.fd);
	if (loop != v->dev.host->loop)
		event_loop_account(loop, v->dev.account);
	return err ? error_set_errno(e, err, "cannot make a doorbell") : 0;
}

void virtio_device_fini(struct virtio_device *v)
{
	if (v->ops->detach)
		v->ops->detach(v);
	pthread_mutex_lock(&v->lock);
	device_reset(v);
	pthread_mutex_unlock(&v->lock);
	if (v->transport_ops)
		v->transport_ops->destroy(v);
	for (unsigned i = 0; i < v->nqueues; i++) {
		struct virtio_queue *q = &v->queue[i];

		event_del(&q->kick);
		account_unwatch_kicks(v->dev.account, q->kick.fd);
		if (q->kick.fd >= 0)
			close(q->kick.fd);
		virtq_destroy(&q->ring);
		pthread_mutex_destroy(&q->lock);
	}
	event_signaller_fini(&v->peer);
	free(v->queue);
	v->queue = NULL;
	v->nqueues = 0;
	pthread_mutex_destroy(&v->config_lock);
	pthread_mutex_destroy(&v->lock);
}
