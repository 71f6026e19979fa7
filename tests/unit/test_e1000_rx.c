/*
 * What the e1000 receives: filters, buffers, status, checksums, what backends leave to it, and what
 * happens when there are no descriptors.
 */
#include <criterion/criterion.h>
#include <endian.h>
#include <string.h>
#include <zlib.h>

#include "devices/backend/net_checksum.h"
#include "tests/unit/test_e1000_rig.h"

#define ALL (NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN)

static uint8_t frame[FAKE_BUF];

/* Waits until a counter, which reading clears, has come so far. */
static void count_to(struct erig *r, unsigned offset, uint32_t n)
{
	uint32_t seen = 0;

	for (unsigned i = 0; i < 5000 && seen < n; i++) {
		seen += erig_get(r, offset);
		if (seen < n)
			usleep(1000);
	}
	cr_assert_eq(seen, n);
}

static bool crc_right(const uint8_t *at, size_t len)
{
	uint32_t crc = (uint32_t)crc32(0, at, (unsigned)len - 4), stored;

	memcpy(&stored, at + len - 4, 4);
	return le32toh(stored) == crc;
}

Test(e1000_rx, frames_arrive_with_their_crc)
{
	struct erig *r = erig_create(0, "");

	erig_up(r, 0, 0);
	erig_set(r, E1000_IMS, ICR_RXT0);
	erig_rx(r, ERIG_SIZE - 1);
	for (unsigned i = 0; i < 5 * ERIG_SIZE; i++) {
		struct erig_frame f = { .payload = i * 17 % 1400, .sequence = i };
		size_t len = erig_frame(frame, &f), wire = len < 60 ? 60 : len;
		struct e1000_rx_desc *d;

		erig_inject(r, frame, len);
		d = erig_received(r, i);
		cr_assert_eq(d->length, wire + 4);
		cr_assert_eq(d->status, RXD_DD | RXD_EOP | RXD_IXSM);
		cr_assert_eq(d->errors, 0);
		cr_assert_eq(memcmp(erig_buffer(r, i), frame, len), 0);
		cr_assert(crc_right(erig_buffer(r, i), d->length));
		cr_assert_eq(erig_buffer(r, i)[d->length], 0xee, "written past its end");
		vrig_wait(erig_pin(r));
		cr_assert_eq(erig_get(r, E1000_ICR) & ICR_RXT0, ICR_RXT0);
		erig_rx(r, 1);
	}
	cr_assert_eq(erig_get(r, E1000_GPRC), 5 * ERIG_SIZE);
	cr_assert_eq(erig_get(r, E1000_TPR), 5 * ERIG_SIZE);
	cr_assert_eq(erig_get(r, E1000_MPRC), 0);
	/* SECRC: without it. */
	erig_set(r, E1000_RCTL, RCTL_EN | RCTL_SECRC);
	erig_inject(r, frame, 100);
	cr_assert_eq(erig_received(r, 5 * ERIG_SIZE)->length, 100);
	erig_destroy(r);
}

/* Sizes as they are counted: 64, 65 … 127, 128 … 255 and so on, CRC included. */
Test(e1000_rx, sizes_are_counted)
{
	static const unsigned sizes[] = { 60, 61, 123, 124, 251, 252, 507, 508, 1019, 1020, 1514 };

	struct erig *r = erig_create(0, "");

	memcpy(frame, "\x52\x54\x00\x6d\x76\x00", 6);
	erig_up(r, 0, 0);
	erig_rx(r, ERIG_SIZE - 1);
	for (unsigned i = 0; i < 11; i++) {
		erig_inject(r, frame, sizes[i]);
		erig_received(r, i);
	}
	cr_assert_eq(erig_get(r, 0x405c), 1);
	cr_assert_eq(erig_get(r, 0x4060), 2);
	cr_assert_eq(erig_get(r, 0x4064), 2);
	cr_assert_eq(erig_get(r, 0x4068), 2);
	cr_assert_eq(erig_get(r, 0x406c), 2);
	cr_assert_eq(erig_get(r, 0x4070), 2);
	erig_destroy(r);
}

/* Everything that BSIZE and BSEX can say, frames over several buffers. */
Test(e1000_rx, buffer_sizes)
{
	static const struct {
		uint32_t rctl;
		size_t size;
	} sizes[] = {
		{ 0, 2048 },
		{ 1u << 16, 1024 },
		{ 2u << 16, 512 },
		{ 3u << 16, 256 },
		{ RCTL_BSEX | 1u << 16, 16384 },
		{ RCTL_BSEX | 2u << 16, 8192 },
		{ RCTL_BSEX | 3u << 16, 4096 },
	};

	for (unsigned s = 0; s < 7; s++) {
		struct erig *r = erig_create(0, "");
		size_t len = sizes[s].size < 1024 ? 3000 : 9000, at = 0;
		unsigned n = 0;

		for (size_t i = 0; i < len; i++)
			frame[i] = (uint8_t)(i * 3);
		memcpy(frame, "\x52\x54\x00\x6d\x76\x00", 6);
		erig_up(r, RCTL_LPE | sizes[s].rctl, 0);
		erig_rx(r, ERIG_SIZE - 1);
		erig_inject(r, frame, len);
		while (at < len + 4) {
			struct e1000_rx_desc *d = erig_received(r, n);
			size_t want = len + 4 - at < sizes[s].size ? len + 4 - at : sizes[s].size;

			cr_assert_eq(d->length, want);
			cr_assert_eq(!!(d->status & RXD_EOP), at + want == len + 4);
			if (at + want <= len)
				cr_assert_eq(memcmp(erig_buffer(r, n), frame + at, want), 0);
			at += want;
			n++;
		}
		cr_assert_eq(erig_get(r, E1000_RDH), n);
		erig_destroy(r);
	}
}

Test(e1000_rx, too_long_frames_are_counted)
{
	struct erig *r = erig_create(0, "");

	memset(frame, 0, sizeof(frame));
	memcpy(frame, "\x52\x54\x00\x6d\x76\x00", 6);
	erig_up(r, 0, 0);
	erig_rx(r, ERIG_SIZE - 1);
	erig_inject(r, frame, 1518); /* 1522 with CRC: the longest */
	erig_received(r, 0);
	erig_inject(r, frame, 1519);
	erig_settle(r);
	cr_assert_eq(erig_get(r, E1000_ROC), 1);
	cr_assert_eq(erig_get(r, E1000_RLEC), 1);
	erig_set(r, E1000_RCTL, RCTL_EN | RCTL_LPE);
	erig_inject(r, frame, 16380);
	erig_received(r, 1);
	erig_inject(r, frame, 16381);
	erig_settle(r);
	cr_assert_eq(erig_get(r, E1000_ROC), 1);
	cr_assert_eq(erig_get(r, E1000_GPRC), 2);
	erig_destroy(r);
}

/* ---- filters --------------------------------------------------------------------------------- */

/* Was a frame to this address let in, and how? */
static enum e1000_pass passes(struct erig *r, unsigned *n, const char *to)
{
	struct e1000_rx_desc *d = erig_rx_at(r, *n);
	uint8_t own[64] = { 0x52, 0x54, 0x00, 0x6d, 0x76, 0x00 };
	bool inexact;

	memset(frame, 0, 64);
	memcpy(frame, to, 6);
	memcpy(frame + 6, "\x02\x00\x00\x00\x00\x99", 6);
	erig_inject(r, frame, 60);
	/* Behind it, one that is told apart by its type and that always passes. */
	own[12] = 0x99;
	erig_inject(r, own, 60);
	erig_received(r, *n);
	if (erig_buffer(r, *n)[12] == 0x99) {
		*n += 1;
		erig_rx(r, 1);
		return E1000_DROP;
	}
	erig_received(r, *n + 1);
	inexact = d->status & RXD_PIF;
	*n += 2;
	erig_rx(r, 2);
	return inexact ? E1000_INEXACT : E1000_EXACT;
}

Test(e1000_rx, address_filters)
{
	static const char own[] = "\x52\x54\x00\x6d\x76\x00", other[] = "\x52\x54\x00\x6d\x76\x01",
			  all[] = "\xff\xff\xff\xff\xff\xff", multi[] = "\x01\x00\x5e\x12\x34\x56";
	struct erig *r = erig_create(0, "");
	unsigned n = 0;

	erig_up(r, 0, 0);
	erig_rx(r, ERIG_SIZE - 1);
	cr_assert_eq(passes(r, &n, own), E1000_EXACT);
	cr_assert_eq(passes(r, &n, other), E1000_DROP);
	cr_assert_eq(passes(r, &n, all), E1000_DROP);
	cr_assert_eq(passes(r, &n, multi), E1000_DROP);
	erig_set(r, E1000_RCTL, RCTL_EN | RCTL_BAM);
	cr_assert_eq(passes(r, &n, all), E1000_EXACT);
	cr_assert_eq(passes(r, &n, multi), E1000_DROP);
	erig_set(r, E1000_RCTL, RCTL_EN | RCTL_UPE);
	cr_assert_eq(passes(r, &n, other), E1000_INEXACT);
	cr_assert_eq(passes(r, &n, own), E1000_EXACT);
	cr_assert_eq(passes(r, &n, multi), E1000_DROP);
	erig_set(r, E1000_RCTL, RCTL_EN | RCTL_MPE);
	cr_assert_eq(passes(r, &n, multi), E1000_INEXACT);
	cr_assert_eq(passes(r, &n, other), E1000_DROP);
	/* The last receive address; valid or not; by source. */
	erig_set(r, E1000_RCTL, RCTL_EN);
	erig_set(r, E1000_RA + 8 * 15, 0x6d005452);
	erig_set(r, E1000_RA + 8 * 15 + 4, 0x0176);
	cr_assert_eq(passes(r, &n, other), E1000_DROP);
	erig_set(r, E1000_RA + 8 * 15 + 4, RAH_AV | 0x0176);
	cr_assert_eq(passes(r, &n, other), E1000_EXACT);
	erig_set(r, E1000_RA + 8 * 15, 0x00000002);
	erig_set(r, E1000_RA + 8 * 15 + 4, RAH_AV | RAH_AS_SOURCE | 0x9900);
	cr_assert_eq(passes(r, &n, other), E1000_EXACT);
	erig_set(r, E1000_RA + 8 * 15 + 4, 0);
	cr_assert_eq(erig_get(r, E1000_BPRC), 1);
	cr_assert_eq(erig_get(r, E1000_MPRC), 1);
	/* The hash: bits 47:36, 46:35, 45:34, 43:32 of the address, by MO. */
	for (unsigned mo = 0; mo < 4; mo++) {
		static const unsigned hash[] = { 0x563, 0xac6, 0x58d, 0x634 };

		erig_set(r, E1000_RCTL, RCTL_EN | mo << RCTL_MO_SHIFT);
		cr_assert_eq(passes(r, &n, multi), E1000_DROP);
		erig_set(r, E1000_MTA + 4 * (hash[mo] >> 5), 1u << (hash[mo] & 31));
		cr_assert_eq(passes(r, &n, multi), E1000_INEXACT, "MO %u", mo);
		erig_set(r, E1000_MTA + 4 * (hash[mo] >> 5), ~(1u << (hash[mo] & 31)));
		cr_assert_eq(passes(r, &n, multi), E1000_DROP, "MO %u", mo);
		erig_set(r, E1000_MTA + 4 * (hash[mo] >> 5), 0);
	}
	erig_destroy(r);
}

Test(e1000_rx, vlan_filter_and_stripping)
{
	struct erig *r = erig_create(0, "");
	struct erig_frame f = { .vlan = true, .payload = 100 };
	size_t len = erig_frame(frame, &f);
	struct e1000_rx_desc *d;

	erig_up(r, 0, 0);
	erig_rx(r, ERIG_SIZE - 1);
	erig_inject(r, frame, len);
	d = erig_received(r, 0);
	cr_assert_eq(d->length, len + 4);
	cr_assert_eq(d->status & RXD_VP, 0);
	erig_set(r, E1000_CTRL, erig_get(r, E1000_CTRL) | CTRL_VME);
	erig_set(r, E1000_RXCSUM, RXCSUM_IPOFLD | RXCSUM_TUOFLD | 14);
	erig_inject(r, frame, len);
	d = erig_received(r, 1);
	cr_assert_eq(d->length, len);
	cr_assert_eq(d->status, RXD_DD | RXD_EOP | RXD_VP | RXD_IPCS | RXD_TCPCS);
	cr_assert_eq(d->special, 0x6005);
	cr_assert_eq(memcmp(erig_buffer(r, 1), frame, 12), 0);
	cr_assert_eq(memcmp(erig_buffer(r, 1) + 12, frame + 16, len - 16), 0);
	/* The table: VLAN 5 is not in it, then is. */
	erig_set(r, E1000_RCTL, RCTL_EN | RCTL_VFE);
	erig_inject(r, frame, len);
	erig_settle(r);
	cr_assert_eq(erig_get(r, E1000_RDH), 2);
	erig_set(r, E1000_VFTA, 1u << 5);
	erig_inject(r, frame, len);
	erig_received(r, 2);
	/* CFI: 0 in the frame. */
	erig_set(r, E1000_RCTL, RCTL_EN | RCTL_VFE | RCTL_CFIEN | RCTL_CFI);
	erig_inject(r, frame, len);
	erig_settle(r);
	cr_assert_eq(erig_get(r, E1000_RDH), 3);
	erig_set(r, E1000_RCTL, RCTL_EN | RCTL_VFE | RCTL_CFIEN);
	erig_inject(r, frame, len);
	erig_received(r, 3);
	erig_destroy(r);
}

/* ---- checksums ------------------------------------------------------------------------------- */

static uint16_t packet_sum(const uint8_t *at, size_t len)
{
	struct net_sum sum = { 0 };

	net_sum_add(&sum, at, len);
	return be16toh((uint16_t)~net_sum_fold(&sum));
}

Test(e1000_rx, checksum_status)
{
	static const uint8_t both = RXD_IPCS | RXD_TCPCS;

	for (unsigned way = 0; way < 4; way++) {
		struct erig *r = erig_create(0, "");
		struct erig_frame f = { .ipv6 = way & 1, .udp = way & 2, .payload = 333 };
		size_t len = erig_frame(frame, &f), l4 = f.ipv6 ? 54 : 34;
		uint8_t good = f.ipv6 ? RXD_TCPCS : both;
		struct e1000_rx_desc *d;
		unsigned n = 0;

		erig_up(r, 0, 0);
		erig_rx(r, ERIG_SIZE - 1);
		erig_set(r, E1000_RXCSUM, RXCSUM_IPOFLD | RXCSUM_TUOFLD | 14);
		erig_inject(r, frame, len);
		d = erig_received(r, n);
		cr_assert_eq(d->status, RXD_DD | RXD_EOP | good);
		cr_assert_eq(d->errors, 0);
		cr_assert_eq(d->checksum, packet_sum(erig_buffer(r, n) + 14, len + 4 - 14));
		n++;
		frame[l4 + 30] ^= 1;
		erig_inject(r, frame, len);
		d = erig_received(r, n++);
		cr_assert_eq(d->status, RXD_DD | RXD_EOP | good);
		cr_assert_eq(d->errors, RXD_TCPE);
		frame[l4 + 30] ^= 1;
		if (!f.ipv6) {
			frame[22] ^= 1; /* time to live */
			erig_inject(r, frame, len);
			cr_assert_eq(erig_received(r, n++)->errors, RXD_IPE);
			frame[22] ^= 1;
			frame[20] |= 0x20; /* more fragments: TCP is not looked at */
			erig_inject(r, frame, len);
			d = erig_received(r, n++);
			cr_assert_eq(d->status, RXD_DD | RXD_EOP | RXD_IPCS);
			frame[20] &= ~0x20;
		}
		if (f.udp && !f.ipv6) {
			memset(frame + l4 + 6, 0, 2); /* no checksum */
			erig_inject(r, frame, len);
			cr_assert_eq(erig_received(r, n)->status & RXD_TCPCS, 0);
			cr_assert_eq(erig_received(r, n++)->errors, 0);
		}
		frame[12] = 0x08;
		frame[13] = 0x06; /* not IP */
		erig_inject(r, frame, len);
		d = erig_received(r, n++);
		cr_assert_eq(d->status, RXD_DD | RXD_EOP | RXD_IXSM);
		erig_set(r, E1000_RXCSUM, 3); /* the packet checksum from an odd place */
		erig_inject(r, frame, len);
		d = erig_received(r, n);
		cr_assert_eq(d->checksum, packet_sum(erig_buffer(r, n) + 3, len + 4 - 3));
		erig_destroy(r);
	}
}

/* The backend leaves the checksum open: the driver gets a right one. */
Test(e1000_rx, open_checksums_are_filled_in)
{
	struct erig *r = erig_create(ALL, "");
	struct erig_frame f = { .payload = 1000, .udp = true };
	size_t len = erig_frame(frame + NET_HEADER, &f);
	struct virtio_net_hdr_v1 header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = htole16(34),
		.csum_offset = htole16(6),
	};
	struct net_sum sum = { 0 };
	uint16_t partial;
	struct e1000_rx_desc *d;

	cr_assert_eq(r->net->offloads, ALL);
	net_sum_add(&sum, frame + NET_HEADER + 26, 8);
	net_sum_add16(&sum, 17);
	net_sum_add16(&sum, 1008);
	partial = net_sum_fold(&sum);
	memcpy(frame + NET_HEADER + 40, &partial, 2);
	memcpy(frame, &header, sizeof(header));
	erig_up(r, 0, 0);
	erig_rx(r, ERIG_SIZE - 1);
	erig_set(r, E1000_RXCSUM, RXCSUM_IPOFLD | RXCSUM_TUOFLD | 14);
	fake_net_inject(r->net, 0, frame, NET_HEADER + len);
	d = erig_received(r, 0);
	cr_assert_eq(d->status, RXD_DD | RXD_EOP | RXD_IPCS | RXD_TCPCS);
	cr_assert(erig_checks(erig_buffer(r, 0), len));
	cr_assert_eq(d->checksum, packet_sum(erig_buffer(r, 0) + 14, len + 4 - 14));
	/* A header that points outside is no frame. */
	header.csum_start = htole16(2000);
	memcpy(frame, &header, sizeof(header));
	fake_net_inject(r->net, 0, frame, NET_HEADER + len);
	erig_settle(r);
	cr_assert_eq(erig_get(r, E1000_RDH), 1);
	erig_destroy(r);
}

/* Long TCP packets from the backend become what a wire carries. */
Test(e1000_rx, long_packets_are_cut)
{
	for (unsigned way = 0; way < 4; way++) {
		struct erig *r = erig_create(ALL, "");
		bool vlan = way & 2;
		struct erig_frame f = { .ipv6 = way & 1,
					.vlan = vlan,
					.payload = 10000,
					.sequence = 0xfffffff0,
					.id = 0xffff,
					.flags = 0x99 };
		size_t len = erig_frame(frame + NET_HEADER, &f);
		size_t l4 = (f.ipv6 ? 54 : 34) + (vlan ? 4 : 0), mss = 1401;
		struct virtio_net_hdr_v1 header = {
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = (f.ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4) |
				    VIRTIO_NET_HDR_GSO_ECN,
			.hdr_len = htole16((uint16_t)(l4 + 20)),
			.gso_size = htole16((uint16_t)mss),
			.csum_start = htole16((uint16_t)l4),
			.csum_offset = htole16(16),
		};

		memcpy(frame, &header, sizeof(header));
		erig_up(r, 0, 0);
		erig_rx(r, ERIG_SIZE - 1);
		erig_set(r, E1000_RXCSUM, RXCSUM_IPOFLD | RXCSUM_TUOFLD | 14);
		fake_net_inject(r->net, 0, frame, NET_HEADER + len);
		for (unsigned i = 0; i < 8; i++) {
			size_t part = i < 7 ? mss : 10000 - 7 * mss, size = l4 + 20 + part;
			struct e1000_rx_desc *d = erig_received(r, i);
			const uint8_t *at = erig_buffer(r, i);
			uint32_t sequence;

			cr_assert_eq(d->length, size + 4);
			cr_assert_eq(d->errors, 0);
			cr_assert(d->status & RXD_TCPCS);
			cr_assert(erig_checks(at, size), "way %u, segment %u", way, i);
			cr_assert(crc_right(at, size + 4));
			cr_assert_eq(d->checksum, packet_sum(at + 14, size + 4 - 14));
			memcpy(&sequence, at + l4 + 4, 4);
			cr_assert_eq(be32toh(sequence), (uint32_t)(f.sequence + i * mss));
			if (!f.ipv6)
				cr_assert_eq((uint16_t)(at[l4 - 16] << 8 | at[l4 - 15]),
					     (uint16_t)(f.id + i));
			/* CWR in the first, FIN and PSH in the last. */
			cr_assert_eq(at[l4 + 13], 0x10 | (i == 0 ? 0x80 : 0) | (i == 7 ? 0x09 : 0));
			cr_assert_eq(
				memcmp(at + l4 + 20, frame + NET_HEADER + l4 + 20 + i * mss, part),
				0);
		}
		cr_assert_eq(erig_get(r, E1000_GPRC), 8);
		erig_destroy(r);
	}
}

/* ---- no descriptors -------------------------------------------------------------------------- */

static void numbered(struct erig *r, unsigned n)
{
	struct erig_frame f = { .payload = 1400, .sequence = n };
	size_t len = erig_frame(frame, &f);

	erig_inject(r, frame, len);
}

static unsigned number(struct erig *r, unsigned index)
{
	uint32_t sequence;

	erig_received(r, index);
	memcpy(&sequence, erig_buffer(r, index) + 38, 4);
	return be32toh(sequence);
}

/* With flow control the partner is stopped, and nothing is lost. */
Test(e1000_rx, waits_with_flow_control)
{
	struct erig *r = erig_create(0, "");

	erig_up(r, 0, 0);
	erig_set(r, E1000_CTRL, erig_get(r, E1000_CTRL) | CTRL_TFCE);
	erig_set(r, E1000_FCRTL, FCRTL_XONE);
	for (unsigned i = 0; i < 100; i++)
		numbered(r, i);
	count_to(r, E1000_XOFFTXC, 1);
	erig_settle(r);
	cr_assert(fake_net_pending(r->net, 0));
	cr_assert_eq(erig_get(r, E1000_RNBC), 1);
	cr_assert_eq(erig_get(r, E1000_MPC), 0);
	for (unsigned i = 0; i < 100; i++) {
		erig_rx(r, 1);
		cr_assert_eq(number(r, i), i);
	}
	cr_assert_geq(erig_get(r, E1000_XONTXC), 1);
	cr_assert_eq(erig_get(r, E1000_MPC), 0);
	cr_assert_eq(erig_get(r, E1000_GPRC), 100);
	erig_destroy(r);
}

/* Without, the packet buffer fills up, and what does not fit is missed, counted and told. */
Test(e1000_rx, misses_without_flow_control)
{
	struct erig *r = erig_create(0, "");
	unsigned missed, first, kept;

	erig_up(r, 0, 0);
	erig_set(r, E1000_IMS, ICR_RXO);
	for (unsigned i = 0; i < 100; i++)
		numbered(r, i);
	vrig_wait(!fake_net_pending(r->net, 0));
	erig_settle(r);
	cr_assert(erig_pin(r));
	missed = erig_get(r, E1000_MPC);
	kept = 100 - missed;
	/* 48 KiB of 1454 bytes, and the one on its way. */
	cr_assert(kept >= 30 && kept <= 36, "%u kept", kept);
	cr_assert_eq(erig_get(r, E1000_RNBC), kept);
	cr_assert_eq(erig_get(r, E1000_GPRC), 0);
	for (unsigned i = 0; i < kept; i++) {
		erig_rx(r, 1);
		first = number(r, i);
		cr_assert_eq(first, i);
	}
	numbered(r, 1000);
	erig_rx(r, 1);
	cr_assert_eq(number(r, kept), 1000);
	cr_assert_eq(erig_get(r, E1000_TPR), 101);
	cr_assert_eq(erig_get(r, E1000_GPRC), kept + 1);
	erig_destroy(r);
}

/* A frame over several buffers may have to wait in the middle of it. */
Test(e1000_rx, waits_inside_a_frame)
{
	for (unsigned tfce = 0; tfce < 2; tfce++) {
		struct erig *r = erig_create(0, "");

		erig_up(r, 3u << 16, 0); /* 256-byte buffers */
		if (tfce)
			erig_set(r, E1000_CTRL, erig_get(r, E1000_CTRL) | CTRL_TFCE);
		erig_rx(r, 2);
		numbered(r, 7);
		numbered(r, 8);
		erig_received(r, 1);
		erig_settle(r);
		erig_rx(r, 10);
		for (unsigned i = 0; i < 12; i++) {
			struct e1000_rx_desc *d = erig_received(r, i);

			cr_assert_eq(d->length, i % 6 < 5 ? 256 : 1454 + 4 - 5 * 256);
			cr_assert_eq(!!(d->status & RXD_EOP), i % 6 == 5);
		}
		cr_assert_eq(number(r, 0), 7);
		cr_assert_eq(number(r, 6), 8);
		erig_destroy(r);
	}
}

/* RXDMT0 when the free descriptors fall to a half, a quarter, an eighth. */
Test(e1000_rx, minimum_threshold)
{
	for (unsigned rdmts = 0; rdmts < 3; rdmts++) {
		struct erig *r = erig_create(0, "");
		unsigned threshold = ERIG_SIZE >> (rdmts + 1);

		erig_up(r, rdmts << RCTL_RDMTS_SHIFT, 0);
		erig_rx(r, ERIG_SIZE - 1);
		for (unsigned i = 0; i < ERIG_SIZE - 1; i++) {
			unsigned left = ERIG_SIZE - 2 - i;

			numbered(r, i);
			erig_received(r, i);
			erig_settle(r);
			cr_assert_eq(!!(erig_get(r, E1000_ICR) & ICR_RXDMT0), left == threshold,
				     "RDMTS %u, %u left", rdmts, left);
		}
		erig_destroy(r);
	}
}

/* PAUSE frames from the partner stop the transmitter, if RFCE. */
Test(e1000_rx, pause_frames)
{
	uint8_t pause[60] = { 0x01, 0x80, 0xc2, 0,    0, 0x01, 0, 0,	0,
			      0,    0,	  1,	0x88, 8, 0,    1, 0xff, 0xff };
	struct erig *r = erig_create(0, "");

	erig_up(r, RCTL_DPF, 0);
	erig_rx(r, ERIG_SIZE - 1);
	erig_set(r, E1000_FCAL, 0x00c28001);
	erig_set(r, E1000_FCAH, 0x0100);
	erig_set(r, E1000_FCT, 0x8808);
	erig_inject(r, pause, 60);
	erig_settle(r);
	cr_assert_eq(erig_get(r, E1000_XOFFRXC), 0);
	erig_set(r, E1000_CTRL, erig_get(r, E1000_CTRL) | CTRL_RFCE);
	erig_inject(r, pause, 60);
	count_to(r, E1000_XOFFRXC, 1);
	/* 33 ms of silence, which XON ends. */
	pause[16] = pause[17] = 0;
	erig_tx(r, ERIG_TX_DATA, 100 | TXD_EOP | TXD_IFCS, 0);
	erig_tx_go(r);
	erig_inject(r, pause, 60);
	count_to(r, E1000_XONRXC, 1);
	cr_assert_eq(erig_take(r, frame), NET_HEADER + 100);
	pause[17] = 1;
	erig_inject(r, pause, 60);
	count_to(r, E1000_XOFFRXC, 1);
	erig_tx(r, ERIG_TX_DATA, 100 | TXD_EOP | TXD_IFCS, 0);
	erig_tx_go(r);
	cr_assert_eq(erig_take(r, frame), NET_HEADER + 100, "the pause ends by itself");
	cr_assert_eq(erig_get(r, E1000_RDH), 0, "DPF: they are not passed on");
	erig_destroy(r);
}

Test(e1000_rx, off_until_enabled)
{
	struct erig *r = erig_create(0, "");

	erig_up(r, 0, 0);
	erig_set(r, E1000_RCTL, 0);
	erig_rx(r, 4);
	numbered(r, 1);
	erig_settle(r);
	cr_assert_eq(erig_get(r, E1000_RDH), 0);
	erig_set(r, E1000_RCTL, RCTL_EN);
	cr_assert_eq(number(r, 0), 1);
	r->v->dev->ops->pause(r->v->dev);
	numbered(r, 2);
	erig_settle(r);
	cr_assert_eq(erig_get(r, E1000_RDH), 1);
	r->v->dev->ops->start(r->v->dev, NULL);
	cr_assert_eq(number(r, 1), 2);
	/* After a reset the old ring is not touched. */
	erig_set(r, E1000_CTRL, CTRL_RST);
	numbered(r, 3);
	erig_settle(r);
	cr_assert_eq(erig_rx_at(r, 2)->status, 0);
	erig_destroy(r);
}
