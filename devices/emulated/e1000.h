/*
 * What a running e1000 can be told from outside, and how tests make one.
 */
#ifndef DEVICES_EMULATED_E1000_H
#define DEVICES_EMULATED_E1000_H

#include <stdbool.h>

#include "devices/backend/net.h"
#include "devices/device.h"

/* Plugs the cable in or pulls it. Any thread. */
void e1000_set_link(struct device *dev, bool up);

/* The card over a backend, which it owns from here on, also on failure. Tests come in here. */
int e1000_create(struct device_host *host, const struct device_config *config, struct net *net,
		 struct device **out, struct error *e);

#endif
