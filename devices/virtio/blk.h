/*
 * virtio-blk on a block backend that is open already.
 */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

#include "devices/virtio/virtio.h"

struct block;

#define VIRTIO_BLK_MAX_QUEUES 16u

/* Its own keys; those of the image and of virtio come beside them. */
#define VIRTIO_BLK_KEYS                                                                            \
	BLOCK_SERIAL_KEY,                                                                          \
		{ .name = "queues",                                                                \
		  .type = KEY_UINT,                                                                \
		  .fallback = "1",                                                                 \
		  .min = 1,                                                                        \
		  .max = VIRTIO_BLK_MAX_QUEUES,                                                    \
		  .help = "request queues, each with its own thread" },                            \
	{                                                                                          \
		.name = "iothread", .type = KEY_BOOL, .fallback = "on",                            \
		.help = "serve queues on threads of their own, not on the main one"                \
	}

/*
 * config is of a row with VIRTIO_BLK_KEYS and the keys of virtio; its target is not looked at.
 * Takes the block over: it is closed with the device, or here if that fails.
 */
int virtio_blk_create(struct device_host *host, const struct device_config *config,
		      struct block *block, struct device **out, struct error *e);

#endif
