/*
 * What a running virtio-net card can be told from outside.
 */
#ifndef DEVICES_VIRTIO_NET_H
#define DEVICES_VIRTIO_NET_H

#include <stdbool.h>

#include "devices/device.h"

/* Plugs the cable in or pulls it; the driver is told. Any thread. */
void virtio_net_set_link(struct device *dev, bool up);
/* Asks the driver to announce its address (after a move to another host). Any thread. */
void virtio_net_announce(struct device *dev);

#endif
