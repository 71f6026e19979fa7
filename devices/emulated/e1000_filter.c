/*
 * Which received frames the 82540EM lets in: 317453 sections 3.2.1 (packet address filtering), 9.3
 * (VLAN filtering) and 13.5. Exact addresses come first, then the multicast hash, then the
 * promiscuous bits; the VLAN table has the last word.
 */
#include "devices/emulated/e1000_inet.h"
#include "devices/emulated/e1000_internal.h"

static bool in_receive_addresses(const struct e1000 *e, const uint8_t *frame)
{
	for (unsigned i = 0; i < E1000_RAS; i++) {
		uint32_t low = e1000_get(e, E1000_RA + 8 * i);
		uint32_t high = e1000_get(e, E1000_RA + 8 * i + 4);
		const uint8_t *address = frame;
		uint32_t a, b;

		if (!(high & RAH_AV))
			continue;
		if ((high & RAH_AS) == RAH_AS_SOURCE)
			address = frame + E1000_MAC_LEN;
		else if (high & RAH_AS)
			continue; /* reserved */
		a = address[0] | address[1] << 8 | address[2] << 16 | (uint32_t)address[3] << 24;
		b = address[4] | address[5] << 8;
		if (a == low && b == (high & 0xffff))
			return true;
	}
	return false;
}

static bool in_multicast_table(const struct e1000 *e, const uint8_t *frame)
{
	unsigned offset = e1000_get(e, E1000_RCTL) >> RCTL_MO_SHIFT & 3;
	unsigned shift = offset == 3 ? 0 : 4 - offset;
	unsigned hash = (frame[4] | frame[5] << 8) >> shift & 0xfff;

	return e1000_get(e, E1000_MTA + 4 * (hash >> 5)) >> (hash & 31) & 1;
}

static enum e1000_pass by_address(const struct e1000 *e, const uint8_t *frame)
{
	uint32_t rctl = e1000_get(e, E1000_RCTL);

	if (in_receive_addresses(e, frame))
		return E1000_EXACT;
	if (rctl & RCTL_BAM && is_broadcast(frame))
		return E1000_EXACT;
	if (!(frame[0] & 1))
		return rctl & RCTL_UPE ? E1000_INEXACT : E1000_DROP;
	return rctl & RCTL_MPE || in_multicast_table(e, frame) ? E1000_INEXACT : E1000_DROP;
}

static bool vlan_passes(const struct e1000 *e, const uint8_t *frame)
{
	uint32_t rctl = e1000_get(e, E1000_RCTL);
	unsigned type = get16(frame + 12), tag = get16(frame + 14);
	unsigned vid = tag & 0xfff;

	if (!(rctl & RCTL_VFE) || type != e1000_get(e, E1000_VET))
		return true;
	if (rctl & RCTL_CFIEN && !(tag & 0x1000) != !(rctl & RCTL_CFI))
		return false;
	return e1000_get(e, E1000_VFTA + 4 * (vid >> 5)) >> (vid & 31) & 1;
}

enum e1000_pass e1000_filter(const struct e1000 *e, const uint8_t *frame)
{
	enum e1000_pass pass = by_address(e, frame);

	return pass != E1000_DROP && vlan_passes(e, frame) ? pass : E1000_DROP;
}
