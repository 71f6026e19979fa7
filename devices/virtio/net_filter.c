/*
 * See net_filter.h. A switch or bridge sends most frames to the right place already, so the common
 * case is one comparison: with promiscuous mode on, or the card's own address.
 */
#include <string.h>

#include "devices/virtio/net_filter.h"

#define ETHERNET_HEADER 14u
#define VLAN_TPID	0x8100u

void net_filter_init(struct net_filter *filter, const uint8_t mac[NET_MAC_LEN])
{
	*filter = (struct net_filter){ .promisc = true };
	memcpy(filter->mac, mac, NET_MAC_LEN);
}

void net_filter_set_vlan(struct net_filter *filter, unsigned vid, bool on)
{
	uint64_t bit = 1ull << (vid % 64);

	if (on)
		filter->vlans[vid / 64] |= bit;
	else
		filter->vlans[vid / 64] &= ~bit;
}

static bool in_table(const struct net_mac_table *table, const uint8_t *mac)
{
	if (table->overflow)
		return true;
	for (unsigned i = 0; i < table->n; i++)
		if (memcmp(table->mac[i], mac, NET_MAC_LEN) == 0)
			return true;
	return false;
}

static bool vlan_passes(const struct net_filter *filter, const uint8_t *frame, size_t len)
{
	unsigned vid;

	if (!filter->vlan || len < ETHERNET_HEADER + 2 ||
	    ((unsigned)frame[12] << 8 | frame[13]) != VLAN_TPID)
		return true;
	vid = ((unsigned)frame[14] << 8 | frame[15]) & 0xfff;
	return filter->vlans[vid / 64] & 1ull << (vid % 64);
}

bool net_filter_passes(const struct net_filter *filter, const uint8_t *frame, size_t len)
{
	static const uint8_t broadcast[NET_MAC_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (filter->promisc || len < ETHERNET_HEADER)
		return true;
	if (!vlan_passes(filter, frame, len))
		return false;
	if (memcmp(frame, broadcast, NET_MAC_LEN) == 0)
		return !filter->nobcast;
	if (frame[0] & 1)
		return !filter->nomulti &&
		       (filter->allmulti || in_table(&filter->multicast, frame));
	return !filter->nouni && (filter->alluni || memcmp(frame, filter->mac, NET_MAC_LEN) == 0 ||
				  in_table(&filter->unicast, frame));
}
