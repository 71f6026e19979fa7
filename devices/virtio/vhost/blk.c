/*
 * --blk=vhost: a disk whose requests somebody else serves. The target says who: "naa.…" is a target
 * of the kernel's vhost-scsi, which makes it a virtio-scsi controller to the guest (Virtio 1.2
 * section 5.6); /dev/vhost-vdpa-N is a vDPA device.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_scsi.h>
#include <string.h>

#include "devices/registry.h"
#include "devices/virtio/vhost/generic.h"
#include "devices/virtio/vhost/kernel.h"
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
	err = vhost_scsi_open(&backend, config->target, e);
	return err ? err : vhost_generic_create(host, config, &what, backend, out, e);
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	if (strncmp(config->target, "naa.", 4) == 0)
		return create_scsi(host, config, out, e);
	if (vhost_vdpa_is_node(config->target))
		return vhost_vdpa_create(host, config, VIRTIO_ID_BLOCK, out, e);
	return error_set(e, -EINVAL,
			 "\"%s\" is none of naa.NAME (vhost-scsi) and /dev/vhost-vdpa-N (vDPA)",
			 config->target);
}

static const struct device_key keys[] = {
	{ .name = "queues",
	  .type = KEY_UINT,
	  .min = 1,
	  .max = MAX_QUEUES,
	  .help = "request queues; default 1, or what the target has" },
	VIRTIO_KEYS("256"),
	{ 0 },
};

const struct device_row row_vhost_blk = {
	.class = CLASS_BLK,
	.model = MODEL_VHOST,
	.hw = "virtio-blk",
	.preferred = true,
	.summary = "disk served by the kernel's vhost-scsi (as virtio-scsi) or by vDPA",
	.target = "naa.NAME|/dev/vhost-vdpa-N",
	.target_required = true,
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
