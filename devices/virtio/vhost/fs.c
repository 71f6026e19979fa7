/*
 * --fs=vhost: a directory of the host, shared by virtiofsd. Virtio 1.2 section 5.11. The back end
 * has all the queues and keeps what the guest has open, so another one cannot go on where it was:
 * when it is gone, the driver has to begin anew.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_fs.h>
#include <stdio.h>
#include <string.h>

#include "devices/registry.h"
#include "devices/virtio/vhost/generic.h"
#include "devices/virtio/vhost/user.h"

#define QUEUES 2u /* one for what cannot wait, one for requests */

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	const char *tag = device_config_string(config, "tag");
	struct virtio_fs_config space = { .num_request_queues = htole32(QUEUES - 1) };
	char name[16];
	const struct vhost_user_options options = {
		.name = name,
		.path = config->target,
		.server = device_config_bool(config, "server"),
		.timeout_ms = (unsigned)device_config_uint(config, "timeout") * 1000,
		.rings = QUEUES,
		.rings_factor = 1,
		.queue_size = (uint16_t)device_config_uint(config, "queue-size"),
	};
	const struct vhost_generic what = {
		.id = VIRTIO_ID_FS,
		.nqueues = QUEUES,
		.config_len = sizeof(space),
		.config = &space,
	};
	struct vhost *backend = NULL;
	int err;

	if (!tag || !*tag)
		return error_set(e, -EINVAL,
				 "tag=NAME, by which the guest mounts it, is missing: mount -t "
				 "virtiofs NAME /mnt");
	if (strlen(tag) > sizeof(space.tag))
		return error_set(e, -EINVAL, "tag=%.60s is longer than %zu bytes", tag,
				 sizeof(space.tag));
	memcpy(space.tag, tag, strlen(tag)); /* ends with a 0 only if it is shorter */
	snprintf(name, sizeof(name), "fs%u.vhost", config->index % 1000);
	err = vhost_user_open(&backend, &options, e);
	if (err)
		return err;
	return vhost_generic_create(host, config, &what, backend, out, e);
}

static const struct device_key keys[] = {
	{ .name = "tag", .type = KEY_STRING, .help = "the name by which the guest mounts it" },
	VHOST_USER_KEYS,
	VIRTIO_KEYS("128"),
	{ 0 },
};

const struct device_row row_vhost_fs = {
	.class = CLASS_FS,
	.model = MODEL_VHOST,
	.hw = "virtio-fs",
	.preferred = true,
	.summary = "virtio file system served by virtiofsd",
	.target = "SOCKET",
	.target_required = true,
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
