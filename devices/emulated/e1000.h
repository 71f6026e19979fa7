/*
 * What a running e1000 can be told from outside, and how tests make one.
 */
#ifndef DEVICES_EMULATED_E1000_H
#define DEVICES_EMULATED_E1000_H

#include <stdbool.h>

#include "devices/backend/net.h"
#include "devices/device.h"

/* Counters of one card, for accounting; each is exact, together they are no snapshot. */
struct e1000_counters {
	uint64_t accesses;   /* register accesses that came to user space */
	uint64_t doorbells;  /* of these, writes of TDT */
	uint64_t kicks;	     /* tail values that came through eventfds instead */
	uint64_t wakeups;    /* of the I/O thread, by doorbells */
	uint64_t interrupts; /* assertions of the pin */
	uint64_t throttled;  /* assertions that ITR put off */
};

/* Plugs the cable in or pulls it. Any thread. */
void e1000_set_link(struct device *dev, bool up);
void e1000_get_counters(struct device *dev, struct e1000_counters *out);

/* The card over a backend, which it owns from here on, also on failure. Tests come in here. */
int e1000_create(struct device_host *host, const struct device_config *config, struct net *net,
		 struct device **out, struct error *e);

#endif
