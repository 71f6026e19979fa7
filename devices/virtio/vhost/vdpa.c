/*
 * The vhost-vdpa backend: Linux's /dev/vhost-vdpa-N (<linux/vhost.h>). In: rings with guest
 * addresses and a map of the guest's memory, which the device uses as it is (I/O address = guest
 * address).
 *
 * A vDPA device is a virtio device with a driver of its own, which is us: each time the guest's
 * driver starts it, it goes through reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK, rings,
 * DRIVER_OK. To stop it without losing its place takes SUSPEND; where it has none we wait until it
 * has answered all there is, for a device that is reset forgets what it was doing.
 */
#include <errno.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "devices/virtio/vhost/kernel.h"
#include "devices/virtio/vhost/vdpa.h"

#define NODE_PREFIX  "/dev/vhost-vdpa-"
#define QUIET_MS     2000u /* the longest wait for requests in flight */
#define BACKEND_BITS (1ull << VHOST_BACKEND_F_IOTLB_MSG_V2 | 1ull << VHOST_BACKEND_F_SUSPEND)

/* The status bits in the order they are set. */
#define ST_DRIVER      (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define ST_FEATURES_OK (ST_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define ST_DRIVER_OK   (ST_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)

struct vdpa_ring {
	bool set;
	struct vhost_vring vring;
};

struct vdpa {
	struct vhost b; /* first */
	int fd;
	char *name;
	struct vhost_vdpa_info info;
	uint64_t all_features; /* also those that are not virtio's business with the guest */
	bool can_suspend, suspended, packed;
	struct guest_memory *memory; /* while mapped */
	unsigned active;	     /* rings */
	struct event_source config_call;
	struct vdpa_ring ring[VIRTIO_MAX_QUEUES];
};

static struct vdpa *of(struct vhost *b)
{
	return (struct vdpa *)b;
}

/* ---- status ---------------------------------------------------------------------------------- */

static int set_status(struct vdpa *d, uint8_t status)
{
	__u8 arg = status;

	return vhost_kernel_ioctl(d->fd, VHOST_VDPA_SET_STATUS, &arg);
}

static int get_status(struct vdpa *d, uint8_t *status)
{
	__u8 arg = 0;
	int err = vhost_kernel_ioctl(d->fd, VHOST_VDPA_GET_STATUS, &arg);

	*status = arg;
	return err;
}

/* A reset device may have forgotten whom to tell of its configuration (VDUSE does). */
static int reset_device(struct vdpa *d)
{
	int err = set_status(d, 0);

	if (!err)
		err = vhost_kernel_ioctl(d->fd, VHOST_VDPA_SET_CONFIG_CALL, &d->config_call.fd);
	return err == -EOPNOTSUPP ? 0 : err; /* such a device has no news */
}

static int set_features(struct vhost *b, uint64_t features)
{
	struct vdpa *d = of(b);
	uint8_t status;
	int err = reset_device(d);

	d->packed = features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
	/* That addresses go through the map below is between the device and us. */
	features |= d->all_features & VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM);
	if (!err)
		err = set_status(d, ST_DRIVER);
	if (!err)
		err = vhost_kernel_set_features(d->fd, features);
	if (!err)
		err = set_status(d, ST_FEATURES_OK);
	if (!err)
		err = get_status(d, &status);
	if (!err && !(status & VIRTIO_CONFIG_S_FEATURES_OK))
		err = -ENOTSUP;
	d->suspended = false;
	return err;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static int send_map(struct vdpa *d, uint8_t type, const struct memory_region *r)
{
	struct vhost_msg_v2 msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = VHOST_IOTLB_MSG_V2;
	msg.iotlb.type = type;
	msg.iotlb.iova = r->gpa;
	msg.iotlb.size = r->size;
	msg.iotlb.uaddr = (uintptr_t)r->host;
	msg.iotlb.perm = VHOST_ACCESS_RW;
	return write(d->fd, &msg, sizeof(msg)) == sizeof(msg) ? 0 : -errno;
}

static void unmap(struct vdpa *d)
{
	if (!d->memory)
		return;
	for (unsigned i = 0; i < d->memory->nregions; i++)
		send_map(d, VHOST_IOTLB_INVALIDATE, &d->memory->region[i]);
	memory_unpin(d->memory);
	d->memory = NULL;
}

static int set_memory(struct vhost *b, const struct guest_memory *memory)
{
	struct vdpa *d = of(b);
	int err = 0;

	unmap(d);
	d->memory = (struct guest_memory *)(uintptr_t)memory; /* only its pins change */
	memory_pin(d->memory);
	for (unsigned i = 0; i < memory->nregions && !err; i++)
		err = send_map(d, VHOST_IOTLB_UPDATE, &memory->region[i]);
	if (err)
		unmap(d);
	return err;
}

/* ---- rings ----------------------------------------------------------------------------------- */

static int set_vring(struct vhost *b, const struct vhost_vring *ring)
{
	struct vdpa *d = of(b);
	struct vdpa_ring *r = &d->ring[ring->index];
	int err = vhost_kernel_set_vring(d->fd, ring->index, ring, true);

	if (err)
		return err;
	d->active += !r->set;
	*r = (struct vdpa_ring){ .set = true, .vring = *ring };
	return 0;
}

static int set_call(struct vhost *b, unsigned index, int fd)
{
	return vhost_kernel_set_call(of(b)->fd, index, fd);
}

static int enable(struct vhost *b, unsigned index, bool on)
{
	struct vhost_vring_state state = { .index = index, .num = on };

	/* A suspended device is disabled by what follows, the reset; few can do it singly. */
	if (!on)
		return 0;
	return vhost_kernel_ioctl(of(b)->fd, VHOST_VDPA_SET_VRING_ENABLE, &state);
}

static int start(struct vhost *b)
{
	uint8_t status;
	int err = set_status(of(b), ST_DRIVER_OK);

	if (!err)
		err = get_status(of(b), &status);
	return err ? err : status & VIRTIO_CONFIG_S_DRIVER_OK ? 0 : -EIO;
}

/* Has the device answered all that the driver has made available? Only for split rings. */
static bool ring_is_quiet(const struct vdpa_ring *r)
{
	const uint16_t *avail = (const uint16_t *)r->vring.driver_host + 1;
	const uint16_t *used = (const uint16_t *)r->vring.device_host + 1;

	return __atomic_load_n(avail, __ATOMIC_ACQUIRE) == __atomic_load_n(used, __ATOMIC_ACQUIRE);
}

static bool is_quiet(const struct vdpa *d)
{
	for (unsigned i = 0; i < d->info.queues; i++)
		if (d->ring[i].set && !ring_is_quiet(&d->ring[i]))
			return false;
	return true;
}

/* A network card's receive buffers wait for ever, but are used in order: no need to wait. */
static void wait_quiet(const struct vdpa *d)
{
	const struct timespec ms = { .tv_nsec = 1000000 };

	for (unsigned i = 0; i < QUIET_MS && !d->packed && d->info.id != VIRTIO_ID_NET; i++) {
		if (is_quiet(d))
			return;
		nanosleep(&ms, NULL);
	}
}

static int stop(struct vhost *b)
{
	struct vdpa *d = of(b);

	if (d->can_suspend && vhost_kernel_ioctl(d->fd, VHOST_VDPA_SUSPEND, NULL) == 0)
		d->suspended = true;
	else
		wait_quiet(d);
	return 0;
}

/* The last ring to stop takes the device with it. */
static int get_base(struct vhost *b, unsigned index, struct virtq_state *base)
{
	struct vdpa *d = of(b);
	struct vdpa_ring *r = &d->ring[index];
	int err = vhost_kernel_get_base(d->fd, index, d->packed, base);

	/* Where it cannot be stopped, what it has shown to the driver is what it has done. */
	if (!err && !d->suspended && !d->packed && r->set)
		base->avail_idx = le16toh(
			__atomic_load_n((uint16_t *)r->vring.device_host + 1, __ATOMIC_ACQUIRE));
	if (r->set) {
		r->set = false;
		d->active--;
	}
	if (!d->active) {
		reset_device(d);
		unmap(d);
	}
	return err;
}

static void reset(struct vhost *b)
{
	struct vdpa *d = of(b);

	reset_device(d);
	unmap(d);
}

/* ---- configuration space --------------------------------------------------------------------- */

static struct vhost_vdpa_config *config_arg(unsigned offset, size_t len)
{
	struct vhost_vdpa_config *arg = calloc(1, sizeof(*arg) + len);

	if (arg) {
		arg->off = offset;
		arg->len = (__u32)len;
	}
	return arg;
}

static int get_config(struct vhost *b, unsigned offset, void *buf, size_t len)
{
	struct vhost_vdpa_config *arg = config_arg(offset, len);
	int err;

	if (!arg)
		return -ENOMEM;
	err = vhost_kernel_ioctl(of(b)->fd, VHOST_VDPA_GET_CONFIG, arg);
	if (!err)
		memcpy(buf, arg->buf, len);
	free(arg);
	return err;
}

static int set_config(struct vhost *b, unsigned offset, const void *buf, size_t len)
{
	struct vhost_vdpa_config *arg = config_arg(offset, len);
	int err;

	if (!arg)
		return -ENOMEM;
	memcpy(arg->buf, buf, len);
	err = vhost_kernel_ioctl(of(b)->fd, VHOST_VDPA_SET_CONFIG, arg);
	free(arg);
	return err;
}

static void config_called(void *opaque, uint32_t events)
{
	struct vdpa *d = opaque;
	uint64_t count;

	(void)events;
	if (read(d->config_call.fd, &count, sizeof(count)) == sizeof(count))
		vhost_config_changed(&d->b);
}

static int watch_config(struct vdpa *d, struct event_loop *loop)
{
	int err;

	d->config_call = (struct event_source){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.events = EPOLLIN,
		.callback = config_called,
		.opaque = d,
	};
	if (d->config_call.fd < 0)
		return -errno;
	err = event_add(loop, &d->config_call);
	return err ? err : reset_device(d);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void close_vdpa(struct vhost *b)
{
	struct vdpa *d = of(b);

	event_del(&d->config_call);
	if (d->fd >= 0) {
		set_status(d, 0);
		unmap(d);
		close(d->fd);
	}
	if (d->config_call.fd >= 0)
		close(d->config_call.fd);
	free(d->name);
	free(d);
}

static const struct vhost_ops ops = {
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
	.close = close_vdpa,
};

/* What belongs between the kernel and us, or to transports that we do not offer. */
#define NOT_THE_GUESTS                                                                             \
	(VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM) | VIRTIO_BIT(VIRTIO_F_SR_IOV) |                      \
	 VIRTIO_BIT(VIRTIO_F_NOTIFY_ON_EMPTY) | VIRTIO_BIT(VHOST_F_LOG_ALL) | VIRTIO_BIT(30) |     \
	 VIRTIO_BIT(38) /* NOTIFICATION_DATA */ | VIRTIO_BIT(39) /* NOTIF_CONFIG_DATA */ |         \
	 VIRTIO_BIT(41) /* ADMIN_VQ */)

static int ask(struct vdpa *d, const char *node, struct error *e)
{
	__u32 id = 0, size = 0, queues = 0;
	__u16 max = 0;
	__u64 backend = 0;
	int err = vhost_kernel_ioctl(d->fd, VHOST_VDPA_GET_DEVICE_ID, &id);

	if (err)
		return error_set(e, -EINVAL, "%s is not a vDPA device of vhost", node);
	err = vhost_kernel_features(d->fd, node, &d->all_features, e);
	if (err)
		return err;
	err = vhost_kernel_ioctl(d->fd, VHOST_VDPA_GET_VRING_NUM, &max);
	if (!err)
		err = vhost_kernel_ioctl(d->fd, VHOST_VDPA_GET_CONFIG_SIZE, &size);
	if (!err)
		err = vhost_kernel_ioctl(d->fd, VHOST_VDPA_GET_VQS_COUNT, &queues);
	if (!err)
		err = vhost_kernel_ioctl(d->fd, VHOST_GET_BACKEND_FEATURES, &backend);
	if (err)
		return error_set_errno(e, err, "%s: this kernel's vhost-vdpa is too old", node);
	if (!(backend & 1ull << VHOST_BACKEND_F_IOTLB_MSG_V2))
		return error_set(e, -ENOTSUP, "%s does not take maps of guest memory", node);
	backend &= BACKEND_BITS;
	err = vhost_kernel_ioctl(d->fd, VHOST_SET_BACKEND_FEATURES, &backend);
	if (err)
		return error_set_errno(e, err, "%s: cannot agree on how to map memory", node);
	d->can_suspend = backend & 1ull << VHOST_BACKEND_F_SUSPEND;
	d->info = (struct vhost_vdpa_info){
		.id = id,
		.queues = queues,
		.config_len = size < VIRTIO_CONFIG_MAX ? size : VIRTIO_CONFIG_MAX,
		.max_size = max,
	};
	d->b.features = d->all_features & ~NOT_THE_GUESTS;
	return 0;
}

static int check(struct vdpa *d, const char *node, const struct guest_memory *memory,
		 struct error *e)
{
	struct vhost_vdpa_iova_range range = { 0, UINT64_MAX };

	if (d->info.queues == 0 || d->info.queues > VIRTIO_MAX_QUEUES)
		return error_set(e, -ENOTSUP, "%s has %u queues; mvm takes 1 to %u", node,
				 d->info.queues, VIRTIO_MAX_QUEUES);
	vhost_kernel_ioctl(d->fd, VHOST_VDPA_GET_IOVA_RANGE, &range);
	for (unsigned i = 0; i < memory->nregions; i++) {
		const struct memory_region *r = &memory->region[i];

		if (r->gpa < range.first || r->gpa + r->size - 1 > range.last)
			return error_set(
				e, -ENOTSUP,
				"%s reaches addresses %#llx to %#llx only, and the guest has "
				"memory at %#llx; give it less with --memory",
				node, (unsigned long long)range.first,
				(unsigned long long)range.last, (unsigned long long)r->gpa);
	}
	return 0;
}

/*
 * Maps once and lets go: what keeps the guest's memory from the device (a limit on locked memory,
 * as the pages of hardware are pinned) should not come out when the guest loads its driver.
 */
static int try_memory(struct vdpa *d, const char *node, const struct guest_memory *memory,
		      struct error *e)
{
	int err = set_memory(&d->b, memory);

	unmap(d);
	if (err == -ENOMEM)
		return error_set(
			e, err,
			"%s: cannot map the guest's memory; allow %llu KiB of locked memory "
			"(ulimit -l), or give it less with --memory",
			node, (unsigned long long)memory->size >> 10);
	return err ? error_set_errno(e, err, "%s: cannot map the guest's memory", node) : 0;
}

bool vhost_vdpa_is_node(const char *target)
{
	return strncmp(target, NODE_PREFIX, strlen(NODE_PREFIX)) == 0;
}

static int open_failed(int err, const char *node, struct error *e)
{
	if (err == -ENOENT || err == -ENODEV || err == -ENXIO)
		return error_set(e, err,
				 "there is no %s; load the module (modprobe vhost_vdpa) and make a "
				 "device: vdpa dev add name NAME mgmtdev MANAGER",
				 node);
	if (err == -EBUSY)
		return error_set(e, err, "%s is in use by another program; give each its own",
				 node);
	return err; /* said already */
}

int vhost_vdpa_open(struct vhost **out, const char *node, struct vhost_vdpa_info *info,
		    const struct guest_memory *memory, struct event_loop *loop, struct error *e)
{
	struct vdpa *d = calloc(1, sizeof(*d));
	pid_t none;
	int err;

	if (!d)
		return error_set(e, -ENOMEM, "out of memory");
	d->fd = d->config_call.fd = -1;
	d->name = strdup(node);
	d->b = (struct vhost){ .ops = &ops, .name = d->name };
	if (!d->name)
		err = error_set(e, -ENOMEM, "out of memory");
	else
		err = vhost_kernel_open(&d->fd, node, "vhost_vdpa", e);
	if (err)
		err = open_failed(err, node, e);
	if (!err)
		err = ask(d, node, e);
	if (!err)
		err = check(d, node, memory, e);
	if (!err)
		err = vhost_kernel_own(d->fd, node, &none, e);
	if (!err)
		err = try_memory(d, node, memory, e);
	if (!err) {
		err = watch_config(d, loop);
		if (err)
			error_set_errno(e, err, "%s: cannot hear of its configuration", node);
	}
	if (err) {
		close_vdpa(&d->b);
		return err;
	}
	d->b.rings = d->info.queues;
	*info = d->info;
	*out = &d->b;
	return 0;
}
