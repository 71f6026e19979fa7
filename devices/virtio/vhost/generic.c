/*
 * A device that is nothing but its backend's: see generic.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/vhost/generic.h"

struct generic {
	struct virtio_device v; /* first */
	struct vhost_plane plane;
	bool own_config; /* configuration space is ours, and read-only */
	void (*fix_config)(void *config, unsigned nqueues);
};

static struct generic *of(struct virtio_device *v)
{
	return (struct generic *)v;
}

static void update(struct virtio_device *v)
{
	vhost_plane_update(&of(v)->plane);
}

static void config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
	/* A driver may tell us what we have told it (virtio-scsi's sizes). */
	if (of(v)->own_config && virtio_config_read(v, offset, size) == value)
		return;
	if (of(v)->own_config)
		virtio_misuse(v, "write to a read-only place of configuration space");
	else
		vhost_plane_store_config(&of(v)->plane, offset, size, value);
}

static void reset(struct virtio_device *v)
{
	vhost_plane_reset(&of(v)->plane);
}

static void detach(struct virtio_device *v)
{
	vhost_plane_fini(&of(v)->plane);
}

static void destroy(struct virtio_device *v)
{
	free(v);
}

static const struct virtio_device_ops device_ops = {
	.update = update,
	.config_write = config_write,
	.reset = reset,
	.detach = detach,
	.destroy = destroy,
};

static int load_config(struct generic *g, uint8_t config[VIRTIO_CONFIG_MAX])
{
	int err = vhost_plane_get_config(&g->plane, config);

	if (!err && g->fix_config)
		g->fix_config(config, g->v.nqueues);
	return err;
}

/* Backends say so too often rather than too seldom: the driver hears only of what is another. */
static void config_changed(struct vhost_plane *p)
{
	struct generic *g = of(p->v);
	uint8_t config[VIRTIO_CONFIG_MAX];
	bool same;

	if (load_config(g, config))
		return;
	pthread_mutex_lock(&g->v.config_lock);
	same = memcmp(config, g->v.config, g->v.config_len) == 0;
	pthread_mutex_unlock(&g->v.config_lock);
	if (!same)
		virtio_config_update(&g->v, 0, config, g->v.config_len);
}

/* The device so far that its plane can be bound. */
static int make_queues(struct generic *g, struct device_host *host,
		       const struct device_config *config, const struct vhost_generic *what,
		       struct vhost *backend, struct error *e)
{
	const struct virtio_identity identity = {
		.id = what->id,
		.features = what->features,
		.nqueues = what->nqueues,
		.config_len = what->config_len,
	};
	uint16_t size = (uint16_t)device_config_uint(config, "queue-size");
	int err = virtio_device_init(&g->v, &device_ops, &identity, host, config, e);

	if (what->max_size && size > what->max_size)
		size = (uint16_t)what->max_size;
	if (!err)
		err = vhost_limit_features(&g->v, backend, VHOST_RING_FEATURES | what->features, e);
	if (!err && what->nqueues > backend->rings)
		err = error_set(e, -EINVAL, "%u queues, but %s has %u", what->nqueues,
				backend->name, backend->rings);
	for (unsigned i = 0; i < what->nqueues && !err; i++)
		err = virtio_queue_init(&g->v, i, size, 0, host->loop, e);
	return err;
}

static int fill_config(struct generic *g, const struct vhost_generic *what, struct error *e)
{
	uint8_t config[VIRTIO_CONFIG_MAX];
	int err = 0;

	if (what->config) {
		g->own_config = true;
		virtio_config_set(&g->v, 0, what->config, what->config_len);
	} else if (what->config_len) {
		g->fix_config = what->fix_config;
		err = load_config(g, config);
		if (!err)
			virtio_config_set(&g->v, 0, config, what->config_len);
		g->plane.config_changed = config_changed;
	}
	return err ? error_set_errno(e, err, "%s: cannot read its configuration space",
				     g->plane.backend->name)
		   : 0;
}

int vhost_generic_create(struct device_host *host, const struct device_config *config,
			 const struct vhost_generic *what, struct vhost *backend,
			 struct device **out, struct error *e)
{
	struct generic *g = calloc(1, sizeof(*g));
	int err;

	if (!g) {
		vhost_close(backend);
		return error_set(e, -ENOMEM, "out of memory");
	}
	err = make_queues(g, host, config, what, backend, e);
	if (err)
		vhost_close(backend);
	else
		err = vhost_plane_init(&g->plane, &g->v, backend, what->nqueues, host->loop, e);
	if (!err)
		err = fill_config(g, what, e);
	if (!err)
		err = virtio_transport_create(&g->v, config, e);
	if (err) {
		virtio_device_fini(&g->v);
		free(g);
		return err;
	}
	*out = &g->v.dev;
	return 0;
}
