/*
 * Which received frames a card passes on: Virtio 1.2 sections 5.1.6.5.1 to 5.1.6.5.3 (receive
 * modes, MAC addresses, VLANs). A plain value: each receive queue has its own copy.
 */
#ifndef DEVICES_VIRTIO_NET_FILTER_H
#define DEVICES_VIRTIO_NET_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_MAC_LEN	6u
#define NET_FILTER_MACS 64u /* of each kind; with more, all of that kind pass */

struct net_mac_table {
	unsigned n;
	bool overflow;
	uint8_t mac[NET_FILTER_MACS][NET_MAC_LEN];
};

struct net_filter {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool vlan; /* only the VLANs below, and untagged frames */
	uint8_t mac[NET_MAC_LEN];
	struct net_mac_table unicast, multicast;
	uint64_t vlans[4096 / 64];
};

/* After reset: everything passes, as for a driver that has no control queue. */
void net_filter_init(struct net_filter *filter, const uint8_t mac[NET_MAC_LEN]);
void net_filter_set_vlan(struct net_filter *filter, unsigned vid, bool on); /* vid < 4096 */
/* frame: at least 18 bytes, or all of it. */
bool net_filter_passes(const struct net_filter *filter, const uint8_t *frame, size_t len);

#endif
