/*
 * A flag whose target is /dev/vhost-vdpa-N: the device, of the kind that the flag's class asks for.
 * Queues, sizes and addresses are the device's own; whoever makes it (vdpa dev add) decides them.
 */
#include <errno.h>
#include <string.h>

#include "devices/virtio/vhost/generic.h"
#include "devices/virtio/vhost/vdpa.h"

static const char *kind(uint32_t id)
{
	static const struct {
		uint32_t id;
		const char *name;
	} kinds[] = {
		{ VIRTIO_ID_NET, "a network card (--net)" },
		{ VIRTIO_ID_BLOCK, "a disk (--blk)" },
		{ VIRTIO_ID_CONSOLE, "a console" },
		{ VIRTIO_ID_FS, "a shared directory (--fs)" },
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].id == id)
			return kinds[i].name;
	return "something that mvm has no flag for";
}

/* Keys that would contradict the device; "queues" may be said if it is true. */
static int check_keys(const struct device_config *config, const struct vhost_vdpa_info *info,
		      struct error *e)
{
	static const char *const own[] = { "mac",	"mtu", "link",	"offloads",
					   "mergeable", "ro",  "serial" };
	unsigned size = (unsigned)device_config_uint(config, "queue-size"), queues = 0;

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		for (const struct device_key *key = config->row->keys; key->name; key++)
			if (strcmp(key->name, own[i]) == 0 && device_config_given(config, own[i]))
				return error_set(e, -EINVAL,
						 "%s is the vDPA device's own: set it with the "
						 "vdpa tool, where the device is made",
						 own[i]);
	if (device_config_given(config, "queues"))
		queues = (unsigned)device_config_uint(config, "queues");
	/* Receive and transmit queues come in pairs, and there may be one for control. */
	if (info->id == VIRTIO_ID_NET ? queues && queues != info->queues / 2
				      : queues && queues != info->queues)
		return error_set(e, -EINVAL, "queues=%u, but %s has %u queues in all; leave it out",
				 queues, config->target, info->queues);
	if (device_config_given(config, "queue-size") && size > info->max_size)
		return error_set(e, -EINVAL, "queue-size=%u, but %s has at most %u", size,
				 config->target, info->max_size);
	return 0;
}

static int check_device(const struct device_config *config, uint32_t id,
			const struct vhost_vdpa_info *info, struct error *e)
{
	if (info->id != id)
		return error_set(e, -EINVAL, "%s is %s, device id %u; this flag wants %s",
				 config->target, kind(info->id), info->id, kind(id));
	return check_keys(config, info, e);
}

int vhost_vdpa_create(struct device_host *host, const struct device_config *config, uint32_t id,
		      struct device **out, struct error *e)
{
	struct vhost_vdpa_info info;
	struct vhost_generic what;
	struct vhost *backend;
	int err = vhost_vdpa_open(&backend, config->target, &info, host->memory, host->loop, e);

	if (err)
		return err;
	err = check_device(config, id, &info, e);
	if (err) {
		vhost_close(backend);
		return err;
	}
	what = (struct vhost_generic){
		.id = (uint16_t)info.id,
		.features = backend->features & ~VHOST_RING_FEATURES,
		.nqueues = info.queues,
		.config_len = info.config_len,
		.max_size = info.max_size,
	};
	return vhost_generic_create(host, config, &what, backend, out, e);
}
