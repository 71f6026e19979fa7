/*
 * virtio-blk on a block backend that is open already.
 */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

#include "devices/virtio/virtio.h"

struct block;

/*
 * config is that of row_virtio_blk; its target is not looked at. Takes the block over: it is closed
 * with the device, or here if that fails.
 */
int virtio_blk_create(struct device_host *host, const struct device_config *config,
		      struct block *block, struct device **out, struct error *e);

#endif
