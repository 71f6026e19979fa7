/*
 * Received frames before they are stored: 317453 sections 3.2.3 (status), 3.2.9 (checksum offload)
 * and 9.2 (VLAN). In: a frame from the backend, with the virtio-net header that says what is left
 * to do. Out: frames as they would have come over a wire, with everything the descriptor says.
 *
 * From a tap, frames are taken with their checksums open and TCP not yet cut: one read then brings
 * up to 64 KiB. Cutting and summing, which the host's kernel would do otherwise, is done here; a
 * driver sees what a wire carries, whole frames with right checksums and a right CRC.
 */
#include <endian.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <zlib.h>

#include "devices/backend/net_checksum.h"
#include "devices/emulated/e1000_inet.h"
#include "devices/emulated/e1000_internal.h"

/* ---- what a frame holds ---------------------------------------------------------------------- */

struct parsed {
	size_t l3;	 /* 0: no IP */
	size_t l4;	 /* 0: no whole TCP or UDP header, or a fragment */
	size_t end;	 /* of the IP packet: padding may follow */
	size_t checksum; /* of TCP or UDP: where it is */
	uint8_t protocol;
	bool ipv6;
};

static void parse_l4(struct parsed *p, size_t len)
{
	size_t need = p->protocol == PROTO_TCP ? TCP_HEADER : UDP_HEADER;

	if ((p->protocol != PROTO_TCP && p->protocol != PROTO_UDP) || p->end > len ||
	    p->l4 + need > p->end)
		p->l4 = 0;
	else
		p->checksum = p->l4 + (p->protocol == PROTO_TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
}

/* head: the first bytes, size of them; len: of the whole frame. */
static struct parsed parse(const uint8_t *head, size_t size, size_t len)
{
	struct parsed p = { 0 };
	size_t l3 = E1000_ETH_HEADER;
	unsigned type = get16(head + 12);

	if (type == 0x8100 && size >= l3 + E1000_VLAN_TAG) {
		type = get16(head + 16);
		l3 += E1000_VLAN_TAG;
	}
	if (type == TYPE_IPV4 && size >= l3 + IPV4_HEADER && head[l3] >> 4 == 4) {
		size_t ihl = ipv4_header_len(head + l3);

		if (ihl < IPV4_HEADER || l3 + ihl > size)
			return p;
		p.l3 = l3;
		p.l4 = l3 + ihl;
		p.end = l3 + get16(head + l3 + IPV4_LENGTH);
		p.protocol = head[l3 + IPV4_PROTOCOL];
		if (get16(head + l3 + IPV4_FRAGMENT) & FRAGMENT_MASK)
			p.l4 = 0;
	} else if (type == TYPE_IPV6 && size >= l3 + IPV6_HEADER && head[l3] >> 4 == 6) {
		p.ipv6 = true;
		p.l3 = l3;
		p.l4 = l3 + IPV6_HEADER;
		p.end = p.l4 + get16(head + l3 + IPV6_LENGTH);
		p.protocol = head[l3 + IPV6_NEXT];
	} else {
		return p;
	}
	if (p.l4)
		parse_l4(&p, len);
	return p;
}

/* The pseudo header of RFC 9293 section 3.1 and RFC 8200 section 8.1. */
static struct net_sum pseudo(const uint8_t *head, const struct parsed *p)
{
	struct net_sum sum = { 0 };

	if (p->ipv6)
		net_sum_add(&sum, head + p->l3 + IPV6_ADDRESSES, 32);
	else
		net_sum_add(&sum, head + p->l3 + IPV4_ADDRESSES, 8);
	net_sum_add16(&sum, p->protocol);
	net_sum_add16(&sum, (uint16_t)(p->end - p->l4));
	return sum;
}

/* Adds bytes [from, to) of the pieces. */
static void sum_range(struct net_sum *sum, const struct iovec *iov, int niov, size_t from,
		      size_t to)
{
	for (int i = 0; i < niov && to > 0; i++) {
		size_t n = iov[i].iov_len;

		if (from < n)
			net_sum_add(sum, (const uint8_t *)iov[i].iov_base + from,
				    (to < n ? to : n) - from);
		from = from > n ? from - n : 0;
		to = to > n ? to - n : 0;
	}
}

/* ---- cutting what the backend gave ----------------------------------------------------------- */

/* Fills in a checksum that was left open. False: the header makes no sense. */
static bool complete_checksum(uint8_t *frame, size_t len, size_t start, size_t offset)
{
	struct net_sum sum = { 0 };
	uint16_t value;

	if (start >= len || start + offset + 2 > len)
		return false;
	net_sum_add(&sum, frame + start, len - start);
	value = (uint16_t)~net_sum_fold(&sum);
	if (!value)
		value = 0xffff; /* zero would mean "none" to UDP */
	memcpy(frame + start + offset, &value, sizeof(value));
	return true;
}

static bool begin_segments(struct e1000_rx *rx, const struct virtio_net_hdr_v1 *header)
{
	const uint8_t *frame = rx->frame + NET_HEADER;
	size_t l4 = le16toh(header->csum_start), mss = le16toh(header->gso_size);
	unsigned type = header->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

	if ((type != VIRTIO_NET_HDR_GSO_TCPV4 && type != VIRTIO_NET_HDR_GSO_TCPV6) || !mss ||
	    !(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || l4 < E1000_ETH_HEADER + IPV4_HEADER ||
	    l4 + TCP_HEADER > rx->len)
		return false;
	rx->l4 = l4;
	rx->header = l4 + tcp_header_len(frame + l4);
	if (rx->header < l4 + TCP_HEADER || rx->header > rx->len || rx->header > E1000_HEAD_MAX)
		return false;
	rx->mss = mss;
	rx->done = 0;
	rx->index = 0;
	rx->good = true;
	return true;
}

static bool understand(struct e1000_rx *rx)
{
	struct virtio_net_hdr_v1 header;

	memcpy(&header, rx->frame, NET_HEADER);
	rx->good = header.flags & VIRTIO_NET_HDR_F_DATA_VALID;
	rx->mss = 0;
	if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		return begin_segments(rx, &header);
	if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		rx->good =
			complete_checksum(rx->frame + NET_HEADER, rx->len,
					  le16toh(header.csum_start), le16toh(header.csum_offset));
		return rx->good;
	}
	return true;
}

/* IEEE 802.3 annex 31B. True: it was a PAUSE frame and has been dealt with. */
static bool flow_control(struct e1000 *e, const uint8_t *frame, size_t len)
{
	uint32_t low = frame[0] | frame[1] << 8 | frame[2] << 16 | (uint32_t)frame[3] << 24;
	uint32_t high = frame[4] | frame[5] << 8;
	unsigned quanta;

	if (get16(frame + 12) != e1000_get(e, E1000_FCT) || len < 18 ||
	    !(e1000_get(e, E1000_CTRL) & CTRL_RFCE) ||
	    !((low == e1000_get(e, E1000_FCAL) && high == e1000_get(e, E1000_FCAH)) ||
	      (low == e1000_get(e, E1000_RA) && high == (e1000_get(e, E1000_RA + 4) & 0xffff))))
		return false;
	if (get16(frame + 14) != 1) {
		e1000_stat(e, E1000_FCRUC, 1);
		return false;
	}
	quanta = get16(frame + 16);
	e1000_stat(e, quanta ? E1000_XOFFRXC : E1000_XONRXC, 1);
	e1000_irq_pause(e, quanta * 512ull); /* of 512 bit times each */
	if (!quanta)
		e1000_signal(&e->tx.kick);
	return e1000_get(e, E1000_RCTL) & RCTL_DPF;
}

bool e1000_frame_begin(struct e1000 *e, size_t len)
{
	struct e1000_rx *rx = &e->rx;
	const uint8_t *frame = rx->frame + NET_HEADER;
	enum e1000_pass pass;

	rx->len = len;
	if (len < E1000_ETH_HEADER || !understand(rx))
		return false;
	if (len < E1000_MIN_FRAME && !rx->mss) {
		memset(rx->frame + NET_HEADER + len, 0, E1000_MIN_FRAME - len);
		rx->len = E1000_MIN_FRAME;
	}
	if (flow_control(e, frame, len))
		return false;
	pass = e1000_filter(e, frame);
	if (pass == E1000_DROP)
		return false;
	rx->inexact = pass == E1000_INEXACT;
	rx->cutting = true;
	return true;
}

static void segment_head(struct e1000_rx *rx, size_t payload, bool last)
{
	const uint8_t *data = rx->frame + NET_HEADER + rx->header + rx->done;
	struct iovec iov[2] = { { rx->head, rx->header }, { (void *)(uintptr_t)data, payload } };
	size_t len = rx->header + payload;
	uint8_t *tcp = rx->head + rx->l4;
	struct net_sum sum;
	struct parsed p;
	uint16_t value;

	memcpy(rx->head, rx->frame + NET_HEADER, rx->header);
	put32(tcp + TCP_SEQUENCE, get32(tcp + TCP_SEQUENCE) + (uint32_t)rx->done);
	if (!last)
		tcp[TCP_FLAGS] &= (uint8_t)~TCP_FIN_PSH;
	if (rx->index > 0)
		tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
	p = parse(rx->head, rx->header, SIZE_MAX);
	if (!p.l3)
		return; /* a backend that says TCP of what is not even IP */
	if (p.ipv6) {
		put16(rx->head + p.l3 + IPV6_LENGTH, len - p.l3 - IPV6_HEADER);
	} else {
		struct net_sum ip = { 0 };
		uint8_t *h = rx->head + p.l3;

		put16(h + IPV4_LENGTH, len - p.l3);
		put16(h + IPV4_ID, get16(h + IPV4_ID) + rx->index);
		put16(h + IPV4_CHECKSUM, 0);
		net_sum_add(&ip, h, ipv4_header_len(h));
		value = (uint16_t)~net_sum_fold(&ip);
		memcpy(h + IPV4_CHECKSUM, &value, sizeof(value));
	}
	p.protocol = PROTO_TCP;
	p.l4 = rx->l4;
	p.end = len;
	put16(tcp + TCP_CHECKSUM, 0);
	sum = pseudo(rx->head, &p);
	sum_range(&sum, iov, 2, rx->l4, len);
	value = (uint16_t)~net_sum_fold(&sum);
	memcpy(tcp + TCP_CHECKSUM, &value, sizeof(value));
}

void e1000_frame_next(struct e1000 *e, struct iovec iov[2], size_t *len)
{
	struct e1000_rx *rx = &e->rx;
	uint8_t *frame = rx->frame + NET_HEADER;
	size_t left, payload;

	if (!rx->mss) {
		iov[0] = (struct iovec){ frame, rx->len };
		iov[1] = (struct iovec){ frame, 0 };
		*len = rx->len;
		rx->cutting = false;
		return;
	}
	left = rx->len - rx->header - rx->done;
	payload = left < rx->mss ? left : rx->mss;
	segment_head(rx, payload, payload == left);
	iov[0] = (struct iovec){ rx->head, rx->header };
	iov[1] = (struct iovec){ frame + rx->header + rx->done, payload };
	*len = rx->header + payload;
	rx->done += payload;
	rx->index++;
	rx->cutting = payload < left;
}

/* ---- what is stored -------------------------------------------------------------------------- */

static bool ip_checksum_right(const uint8_t *head, const struct parsed *p)
{
	struct net_sum sum = { 0 };

	net_sum_add(&sum, head + p->l3, ipv4_header_len(head + p->l3));
	return net_sum_fold(&sum) == 0xffff;
}

static bool l4_checksum_right(const struct iovec *iov, int niov, const uint8_t *head,
			      const struct parsed *p)
{
	struct net_sum sum = pseudo(head, p);

	sum_range(&sum, iov, niov, p->l4, p->end);
	return net_sum_fold(&sum) == 0xffff;
}

/* Section 3.2.9: what the status says of the checksums. */
static void judge(struct e1000 *e, const struct iovec *iov, int niov, const struct parsed *p,
		  bool good)
{
	struct e1000_packet *packet = &e->rx.packet;
	uint32_t rxcsum = e1000_get(e, E1000_RXCSUM);
	const uint8_t *head = iov[0].iov_base;

	if (!p->l3 || !(rxcsum & (RXCSUM_IPOFLD | RXCSUM_TUOFLD))) {
		packet->status |= RXD_IXSM;
		return;
	}
	if (rxcsum & RXCSUM_IPOFLD && !p->ipv6) {
		packet->status |= RXD_IPCS;
		if (!ip_checksum_right(head, p))
			packet->errors |= RXD_IPE;
	}
	if (!(rxcsum & RXCSUM_TUOFLD) || !p->l4 ||
	    (p->protocol == PROTO_UDP && !get16(head + p->checksum)))
		return;
	packet->status |= RXD_TCPCS;
	if (!good && !l4_checksum_right(iov, niov, head, p))
		packet->errors |= RXD_TCPE;
}

/*
 * The Packet Checksum over the stored bytes from PCSS on. Where TCP or UDP is known to be right,
 * its part is the complement of its pseudo header, and no byte of it needs to be read.
 */
static uint16_t packet_checksum(struct e1000 *e, const uint8_t *head, const struct parsed *p,
				size_t stripped, bool good)
{
	struct e1000_packet *packet = &e->rx.packet;
	size_t start = e1000_get(e, E1000_RXCSUM) & RXCSUM_PCSS, l4 = p->l4 - stripped;
	struct net_sum sum = { 0 };

	if (good && p->l4 && packet->status & RXD_TCPCS && start <= l4 && (l4 - start) % 2 == 0) {
		struct net_sum known = pseudo(head, p);

		sum_range(&sum, packet->iov, packet->niov, start, l4);
		sum.sum += (uint16_t)~net_sum_fold(&known);
		sum.odd = (p->end - p->l4) % 2;
		start = p->end - stripped;
	}
	sum_range(&sum, packet->iov, packet->niov, start, packet->len);
	return be16toh((uint16_t)~net_sum_fold(&sum));
}

static void add_piece(struct e1000_packet *packet, const void *data, size_t len)
{
	if (len == 0)
		return;
	packet->iov[packet->niov++] = (struct iovec){ (void *)(uintptr_t)data, len };
	packet->len += len;
}

static void add_crc(struct e1000_packet *packet, const struct iovec *iov, int niov)
{
	uint32_t crc = 0;

	for (int i = 0; i < niov; i++)
		crc = (uint32_t)crc32(crc, iov[i].iov_base, (unsigned)iov[i].iov_len);
	for (unsigned i = 0; i < E1000_CRC_LEN; i++)
		packet->crc[i] = (uint8_t)(crc >> 8 * i);
	add_piece(packet, packet->crc, E1000_CRC_LEN);
}

void e1000_frame_packet(struct e1000 *e, const struct iovec *iov, int niov, bool good, bool inexact)
{
	struct e1000_packet *packet = &e->rx.packet;
	const uint8_t *head = iov[0].iov_base;
	size_t strip = 0, len = 0;
	struct parsed p;

	for (int i = 0; i < niov; i++)
		len += iov[i].iov_len;
	packet->niov = 0;
	packet->len = packet->done = 0;
	packet->status = inexact ? RXD_PIF : 0;
	packet->errors = 0;
	packet->special = 0;
	p = parse(head, iov[0].iov_len, len);
	judge(e, iov, niov, &p, good);
	if (e1000_get(e, E1000_CTRL) & CTRL_VME && get16(head + 12) == e1000_get(e, E1000_VET) &&
	    iov[0].iov_len >= E1000_ETH_HEADER + E1000_VLAN_TAG) {
		packet->status |= RXD_VP;
		packet->special = get16(head + 14);
		strip = E1000_VLAN_TAG;
		add_piece(packet, head, 2 * E1000_MAC_LEN);
	}
	add_piece(packet, head + (strip ? 2 * E1000_MAC_LEN + strip : 0),
		  iov[0].iov_len - (strip ? 2 * E1000_MAC_LEN + strip : 0));
	for (int i = 1; i < niov; i++)
		add_piece(packet, iov[i].iov_base, iov[i].iov_len);
	if (!(e1000_get(e, E1000_RCTL) & RCTL_SECRC))
		add_crc(packet, iov, niov);
	packet->checksum = packet_checksum(e, head, &p, strip, good);
}
