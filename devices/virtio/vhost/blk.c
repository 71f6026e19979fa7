/*
 * --blk=vhost: a disk whose requests somebody else serves. The target says who: "naa.…" is a target
 * of the kernel's vhost-scsi, which makes it a virtio-scsi controller to the guest (Virtio 1.2
 * section 5.6); /dev/vhost-vdpa-N is a vDPA device; a socket or an image is user_blk.c's.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_scsi.h>
#include <string.h>

#include "devices/backend/block_keys.h"
#include "devices/registry.h"
#include "devices/virtio/vhost/generic.h"
#include "devices/virtio/vhost/kernel.h"
#include "devices/virtio/vhost/user.h"
#include "devices/virtio/vhost/vdpa.h"

#define MAX_QUEUES     16u
#define CONTROL_QUEUES 2u /* virtio-scsi: control and event */

/* Request header and response take a descriptor each; in an indirect table there is more room. */
static uint32_t seg_max(unsigned queue_size)
{
	return queue_size > 130 ? 128 : queue_size > 3 ? queue_size - 2 : 1;
}

static int create_scsi(struct device_host *host, const struct device_config *config,
		       struct device **out, struct error *e)
{
	unsigned queues = 1, size = (unsigned)device_config_uint(config, "queue-size");
	struct virtio_scsi_config space = {
		.seg_max = htole32(seg_max(size)),
		.max_sectors = htole32(0xffff),
		.cmd_per_lun = htole32(size < 128 ? size : 128),
		.event_info_size = htole32(sizeof(struct virtio_scsi_event)),
		.sense_size = htole32(VIRTIO_SCSI_SENSE_SIZE),
		.cdb_size = htole32(VIRTIO_SCSI_CDB_SIZE),
		.max_target = htole16(255),
		.max_lun = htole32(16383),
	};
	struct vhost_generic what = {
		.id = VIRTIO_ID_SCSI,
		.features = VIRTIO_BIT(VIRTIO_SCSI_F_HOTPLUG),
		.config_len = sizeof(space),
		.config = &space,
	};
	struct vhost *backend;
	int err;

	if (device_config_given(config, "queues"))
		queues = (unsigned)device_config_uint(config, "queues");
	space.num_queues = htole32(queues);
	what.nqueues = CONTROL_QUEUES + queues;
	err = vhost_scsi_open(&backend, config->target, host->memory, e);
	return err ? err : vhost_generic_create(host, config, &what, backend, out, e);
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	bool scsi = strncmp(config->target, "naa.", 4) == 0;
	bool vdpa = vhost_vdpa_is_node(config->target);
	int err = scsi || vdpa ? vhost_user_blk_no_image(config, e) : 0;

	if (err)
		return err;
	if (scsi)
		return create_scsi(host, config, out, e);
	if (vdpa)
		return vhost_vdpa_create(host, config, VIRTIO_ID_BLOCK, out, e);
	return vhost_user_blk_create(host, config, out, e);
}

static const struct device_key keys[] = {
	BLOCK_KEYS,
	{ .name = "serial",
	  .type = KEY_STRING,
	  .help = "serial number of an image, at most 20 bytes" },
	{ .name = "iothread",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "an image's queues are served on threads of their own" },
	{ .name = "queues",
	  .type = KEY_UINT,
	  .min = 1,
	  .max = MAX_QUEUES,
	  .help = "request queues; default 1, or what the target has" },
	VHOST_USER_KEYS,
	VIRTIO_KEYS("256"),
	{ 0 },
};

const struct device_row row_vhost_blk = {
	.class = CLASS_BLK,
	.model = MODEL_VHOST,
	.hw = "virtio-blk",
	.preferred = true,
	.summary = "disk served by a process of its own (ours on an image, another's at a socket), "
		   "by the kernel's vhost-scsi (as virtio-scsi) or by vDPA",
	.target = "IMAGE|SOCKET|naa.NAME|/dev/vhost-vdpa-N",
	.target_required = true,
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
