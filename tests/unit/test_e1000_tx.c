/*
 * What the e1000 sends: descriptors of all types, offloads left to the backend and done by the
 * card, wrap, write-back, loopback.
 */
#include <criterion/criterion.h>
#include <endian.h>
#include <string.h>

#include "devices/backend/net_checksum.h"
#include "tests/unit/test_e1000_rig.h"

#define ALL	 (NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN)
#define LAST	 (TXD_EOP | TXD_IFCS | TXD_RS)
#define DATA	 (TXD_DEXT | TXD_DTYP_DATA << TXD_DTYP_SHIFT)
#define CTX	 TXD_DEXT
#define POPTS(p) ((uint32_t)(p) << 8)

static uint8_t out[FAKE_BUF];

static uint8_t *data(struct erig *r)
{
	return erig_mem(r, ERIG_TX_DATA, 0x80000);
}

/* A context for IPv4 or IPv6 and TCP or UDP behind an Ethernet header. */
static void context(struct erig *r, bool ipv6, bool udp, uint32_t flags, uint32_t paylen,
		    uint32_t mss)
{
	uint32_t l4 = ipv6 ? 54 : 34, header = l4 + (udp ? 8 : 20);
	uint64_t sums = 14ull | (ipv6 ? 0ull : 24ull << 8 | 33ull << 16) | (uint64_t)l4 << 32 |
			(uint64_t)(l4 + (udp ? 6 : 16)) << 40;

	erig_tx(r, sums, CTX | flags | (ipv6 ? 0 : TXD_IP) | (udp ? 0 : TXD_TCP) | paylen,
		header << 8 | mss << 16);
}

/* The checksum field as drivers leave it: the sum of the pseudo header, with a length or without.
 */
static void open_checksums(uint8_t *frame, const struct erig_frame *f, size_t l4_len)
{
	uint8_t *l3 = frame + 14, *l4 = l3 + (f->ipv6 ? 40 : 20);
	struct net_sum sum = { 0 };
	uint16_t value;

	net_sum_add(&sum, f->ipv6 ? l3 + 8 : l3 + 12, f->ipv6 ? 32 : 8);
	net_sum_add16(&sum, f->udp ? 17 : 6);
	net_sum_add16(&sum, (uint16_t)l4_len);
	value = net_sum_fold(&sum);
	memcpy(l4 + (f->udp ? 6 : 16), &value, 2);
	if (!f->ipv6)
		memset(l3 + 10, 0, 2);
}

Test(e1000_tx, legacy_descriptors_in_several_pieces)
{
	struct erig *r = erig_create(ALL, "");
	struct erig_frame f = { .payload = 900, .sequence = 1 };
	size_t len = erig_frame(data(r), &f);

	erig_up(r, 0, 0);
	erig_set(r, E1000_IMS, ICR_TXDW);
	for (unsigned round = 0; round < 3 * ERIG_SIZE; round++) {
		unsigned first = r->tx_tail;

		erig_tx(r, ERIG_TX_DATA, 100, 0);
		erig_tx(r, ERIG_TX_DATA + 100, 1, 0);
		erig_tx(r, 0, 50, 0); /* null: no data */
		erig_tx(r, ERIG_TX_DATA + 101, (uint32_t)(len - 101) | LAST, 0);
		erig_tx_go(r);
		cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + len));
		cr_assert_eq(memcmp(out + NET_HEADER, data(r), len), 0);
		for (unsigned i = 0; i < NET_HEADER; i++)
			cr_assert_eq(out[i], 0);
		vrig_wait(erig_get(r, E1000_TDH) == r->tx_tail);
		cr_assert_eq(erig_tx_at(r, first)->upper & TXD_DD, 0, "DD without RS");
		cr_assert_eq(erig_tx_at(r, (first + 3) % ERIG_SIZE)->upper & TXD_DD, TXD_DD);
		vrig_wait(erig_pin(r));
		cr_assert_eq(erig_get(r, E1000_ICR) & (ICR_TXDW | ICR_TXQE | ICR_TXD_LOW),
			     ICR_TXDW | ICR_TXQE | ICR_TXD_LOW);
		cr_assert(!erig_pin(r));
	}
	cr_assert_eq(erig_get(r, E1000_TPT), 3 * ERIG_SIZE);
	cr_assert_eq(erig_get(r, E1000_TPT), 0, "cleared by reading");
	cr_assert_eq(erig_get(r, E1000_GPTC), 3 * ERIG_SIZE);
	cr_assert_eq(erig_get(r, 0x40e8), 3 * ERIG_SIZE); /* PTC1023 */
	cr_assert_eq(erig_get(r, E1000_GOTCL), 3 * ERIG_SIZE * (len + 4));
	cr_assert_eq(erig_get(r, E1000_GOTCL), 3 * ERIG_SIZE * (len + 4), "cleared with GOTCH");
	cr_assert_eq(erig_get(r, E1000_GOTCH), 0);
	cr_assert_eq(erig_get(r, E1000_GOTCL), 0);
	erig_destroy(r);
}

/* A frame whose end comes later: what is there is taken and written back, as by a FIFO. */
Test(e1000_tx, frames_without_an_end_are_taken_in_pieces)
{
	struct erig *r = erig_create(0, "");
	struct erig_frame f = { .payload = 500 };
	uint8_t copy[1000];
	size_t len = erig_frame(data(r), &f);

	memcpy(copy, data(r), len);
	erig_up(r, 0, 0);
	for (unsigned at = 0; at < 3; at++) {
		erig_tx(r, ERIG_TX_DATA, 100 | TXD_RS, 0);
		memcpy(data(r), copy + 100 * at, 100);
		erig_tx_go(r);
		vrig_wait(__atomic_load_n(&erig_tx_at(r, at)->upper, __ATOMIC_ACQUIRE) & TXD_DD);
		memset(data(r), 0xdd, 100); /* it is the driver's again */
	}
	memcpy(data(r), copy + 300, len - 300);
	erig_tx(r, ERIG_TX_DATA, (uint32_t)(len - 300) | LAST, 0);
	erig_tx_go(r);
	cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + len));
	cr_assert_eq(memcmp(out + NET_HEADER, copy, len), 0);
	erig_destroy(r);
}

Test(e1000_tx, short_frames_are_padded_if_told)
{
	struct erig *r = erig_create(0, "");

	memset(data(r), 0x55, 60);
	erig_up(r, 0, 0);
	erig_tx(r, ERIG_TX_DATA, 20 | LAST, 0);
	erig_tx_go(r);
	cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + 20));
	erig_set(r, E1000_TCTL, TCTL_EN | TCTL_PSP);
	erig_tx(r, ERIG_TX_DATA, 20 | LAST, 0);
	erig_tx_go(r);
	cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + 60));
	cr_assert_eq(out[NET_HEADER + 19], 0x55);
	cr_assert_eq(out[NET_HEADER + 20], 0);
	/* Without IFCS the last four bytes are the driver's own CRC. */
	erig_set(r, E1000_TCTL, TCTL_EN);
	erig_tx(r, ERIG_TX_DATA, 10, 0);
	erig_tx(r, ERIG_TX_DATA, 2 | TXD_EOP, 0);
	erig_tx_go(r);
	cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + 8));
	erig_destroy(r);
}

/* IC of legacy descriptors and TXSM/IXSM of data descriptors, by the backend and by the card. */
Test(e1000_tx, checksums)
{
	for (unsigned way = 0; way < 2 * 2 * 2 * 2; way++) {
		bool backend = way & 1, legacy = way & 2;
		struct erig_frame f = { .ipv6 = way & 4, .udp = way & 8, .payload = 700 };
		struct erig *r = erig_create(backend ? ALL : 0, "");
		size_t len = erig_frame(data(r), &f), l4 = f.ipv6 ? 54 : 34;
		size_t field = l4 + (f.udp ? 6 : 16);
		struct virtio_net_hdr_v1 header;
		uint8_t right[1000];

		memcpy(right, data(r), len);
		open_checksums(data(r), &f, len - l4);
		if (legacy && !f.ipv6)
			memcpy(data(r) + 24, right + 24, 2); /* only one can be had */
		erig_up(r, 0, 0);
		if (legacy) {
			erig_tx(r, ERIG_TX_DATA, 40, (uint32_t)l4 << 8);
			erig_tx(r, ERIG_TX_DATA + 40,
				(uint32_t)(len - 40) | LAST | TXD_IC | (uint32_t)field << 16, 0);
		} else {
			context(r, f.ipv6, f.udp, 0, 0, 0);
			erig_tx(r, ERIG_TX_DATA, 40 | DATA,
				POPTS(f.ipv6 ? TXD_TXSM : TXD_TXSM | TXD_IXSM));
			erig_tx(r, ERIG_TX_DATA + 40, (uint32_t)(len - 40) | DATA | LAST, 0);
		}
		erig_tx_go(r);
		cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + len));
		memcpy(&header, out, sizeof(header));
		if (backend) {
			cr_assert_eq(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
			cr_assert_eq(le16toh(header.csum_start), l4);
			cr_assert_eq(le16toh(header.csum_offset), field - l4);
			memcpy(right + field, data(r) + field, 2);
		} else {
			cr_assert_eq(header.flags, 0);
			cr_assert(erig_checks(out + NET_HEADER, len));
		}
		cr_assert_eq(memcmp(out + NET_HEADER, right, len), 0, "way %u", way);
		erig_destroy(r);
	}
}

/* Fields outside the frame: nothing is inserted (section 3.3.3.1). */
Test(e1000_tx, checksums_out_of_range_are_left_out)
{
	struct erig *r = erig_create(0, "");

	for (unsigned i = 0; i < 200; i++)
		data(r)[i] = (uint8_t)i;
	erig_up(r, 0, 0);
	erig_tx(r, ERIG_TX_DATA, 100 | LAST | TXD_IC | 99u << 16, 20u << 8);
	erig_tx(r, ERIG_TX_DATA, 100 | LAST | TXD_IC | 20u << 16, 100u << 8);
	erig_tx(r, 0xffffffffffffffffull, CTX, 0);
	erig_tx(r, ERIG_TX_DATA, 100 | DATA | LAST, POPTS(TXD_TXSM | TXD_IXSM));
	erig_tx_go(r);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + 100));
		cr_assert_eq(memcmp(out + NET_HEADER, data(r), 100), 0);
	}
	erig_destroy(r);
}

/* One long packet by the driver's rules: lengths 0, checksums open. */
static size_t long_packet(struct erig *r, struct erig_frame *f)
{
	size_t len = erig_frame(data(r), f);

	open_checksums(data(r), f, 0);
	if (f->ipv6)
		memset(data(r) + 18, 0, 2);
	else
		memset(data(r) + 16, 0, 2);
	return len;
}

static void send_long(struct erig *r, const struct erig_frame *f, size_t len, unsigned mss)
{
	uint32_t header = (f->ipv6 ? 54 : 34) + (f->udp ? 8 : 20);

	context(r, f->ipv6, f->udp, TXD_TSE, (uint32_t)len - header, mss);
	erig_tx(r, ERIG_TX_DATA, header | DATA | TXD_TSE,
		POPTS(f->ipv6 ? TXD_TXSM : TXD_TXSM | TXD_IXSM));
	erig_tx(r, ERIG_TX_DATA + header, 3 | DATA | TXD_TSE, 0);
	erig_tx(r, ERIG_TX_DATA + header + 3, (uint32_t)(len - header - 3) | DATA | TXD_TSE | LAST,
		0);
	erig_tx_go(r);
}

Test(e1000_tx, segmentation_by_the_backend)
{
	for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
		struct erig *r = erig_create(ALL, "");
		struct erig_frame f = {
			.ipv6 = ipv6, .payload = 60000, .sequence = 77, .flags = 0x18
		};
		size_t len = long_packet(r, &f), l4 = ipv6 ? 54 : 34;
		struct virtio_net_hdr_v1 header;
		uint8_t *frame = out + NET_HEADER;
		struct net_sum sum = { 0 };

		erig_up(r, 0, 0);
		send_long(r, &f, len, 1448);
		cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + len));
		memcpy(&header, out, sizeof(header));
		cr_assert_eq(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		cr_assert_eq(header.gso_type,
			     ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4);
		cr_assert_eq(le16toh(header.gso_size), 1448);
		cr_assert_eq(le16toh(header.hdr_len), l4 + 20);
		cr_assert_eq(le16toh(header.csum_start), l4);
		cr_assert_eq(le16toh(header.csum_offset), 16);
		/* As one long packet it is right once its checksum is filled in. */
		net_sum_add(&sum, frame + l4, len - l4);
		*(uint16_t *)(void *)(frame + l4 + 16) = (uint16_t)~net_sum_fold(&sum);
		cr_assert(erig_checks(frame, len));
		cr_assert_eq(memcmp(frame + l4 + 20, data(r) + l4 + 20, 60000), 0);
		vrig_wait(erig_get(r, E1000_TDH) == r->tx_tail);
		/* 41 full ones and 632 bytes. */
		cr_assert_eq(erig_get(r, E1000_TPT), 42);
		cr_assert_eq(erig_get(r, E1000_TSCTC), 1);
		cr_assert_eq(erig_get(r, 0x40ec), 41);
		cr_assert_eq(erig_get(r, 0x40e8), 1);
		cr_assert_eq(erig_get(r, E1000_GOTCL), 42 * (l4 + 24) + 60000);
		erig_destroy(r);
	}
}

static void check_segment(const struct erig_frame *f, const uint8_t *frame, size_t len,
			  unsigned index, unsigned mss, const uint8_t *whole, bool last)
{
	size_t l4 = f->ipv6 ? 54 : 34, header = l4 + (f->udp ? 8 : 20);
	uint32_t sequence;

	cr_assert(erig_checks(frame, len), "segment %u", index);
	cr_assert_eq(memcmp(frame + header, whole + header + index * mss, len - header), 0);
	if (!f->ipv6)
		cr_assert_eq(frame[18] << 8 | frame[19], (uint16_t)(f->id + index));
	if (f->udp)
		return;
	memcpy(&sequence, frame + l4 + 4, 4);
	cr_assert_eq(be32toh(sequence), f->sequence + index * mss);
	cr_assert_eq(frame[l4 + 13], last ? f->flags : f->flags & ~0x09);
}

/* Section 3.5.9, field by field; no backend support. */
Test(e1000_tx, segmentation_by_the_card)
{
	for (unsigned way = 0; way < 4; way++) {
		struct erig *r = erig_create(0, "");
		struct erig_frame f = { .ipv6 = way & 1,
					.udp = way & 2,
					.payload = 10001,
					.sequence = 0xfffff000,
					.id = 0xfffe,
					.flags = 0x19 };
		size_t len = long_packet(r, &f), left = f.payload;
		size_t header = (f.ipv6 ? 54 : 34) + (f.udp ? 8 : 20);

		erig_up(r, 0, 0);
		send_long(r, &f, len, 1000);
		for (unsigned i = 0; left > 0; i++) {
			size_t part = left < 1000 ? left : 1000;
			size_t size = header + part;

			cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + size));
			check_segment(&f, out + NET_HEADER, size, i, 1000, data(r), part == left);
			left -= part;
		}
		vrig_wait(erig_get(r, E1000_TDH) == r->tx_tail);
		cr_assert_eq(erig_get(r, E1000_TPT), 11);
		erig_destroy(r);
	}
}

/* A context that makes no sense is lost, counted, and does not stop what follows. */
Test(e1000_tx, senseless_contexts)
{
	static const struct {
		uint32_t header, mss;
	} bad[] = { { 54, 0 }, { 5, 1000 }, { 255, 100 }, { 54, 16300 } };

	struct erig *r = erig_create(ALL, "");

	erig_up(r, 0, 0);
	for (unsigned i = 0; i < 4; i++) {
		erig_tx(r, 0, CTX | TXD_TSE | TXD_TCP | TXD_IP | 40,
			bad[i].header << 8 | bad[i].mss << 16);
		erig_tx(r, ERIG_TX_DATA, 100 | DATA | TXD_TSE | LAST, POPTS(TXD_TXSM));
	}
	erig_tx(r, ERIG_TX_DATA, 100 | LAST, 0);
	erig_tx_go(r);
	cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + 100));
	vrig_wait(erig_get(r, E1000_TDH) == r->tx_tail);
	cr_assert_eq(erig_get(r, E1000_TSCTFC), 4);
	cr_assert_eq(erig_get(r, E1000_TPT), 1);
	erig_destroy(r);
}

Test(e1000_tx, vlan_tags_are_inserted)
{
	struct erig *r = erig_create(ALL, "");
	struct erig_frame f = { .payload = 3000 };
	size_t len = long_packet(r, &f);
	struct virtio_net_hdr_v1 header;

	erig_up(r, 0, 0);
	erig_tx(r, ERIG_TX_DATA, 100 | LAST | TXD_VLE, 0x6005u << 16); /* VME is off */
	erig_tx_go(r);
	cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + 100));
	erig_set(r, E1000_CTRL, erig_get(r, E1000_CTRL) | CTRL_VME);
	erig_tx(r, ERIG_TX_DATA, 100 | LAST | TXD_VLE, 0x6005u << 16);
	erig_tx_go(r);
	cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + 104));
	cr_assert_eq(memcmp(out + NET_HEADER + 12, "\x81\x00\x60\x05\x08\x00", 6), 0);
	cr_assert_eq(memcmp(out + NET_HEADER, data(r), 12), 0);
	cr_assert_eq(memcmp(out + NET_HEADER + 16, data(r) + 12, 88), 0);
	context(r, false, false, TXD_TSE, 3000, 1448);
	erig_tx(r, ERIG_TX_DATA, (uint32_t)len | DATA | TXD_TSE | LAST | TXD_VLE,
		POPTS(TXD_TXSM | TXD_IXSM) | 0x6005u << 16);
	erig_tx_go(r);
	cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + len + 4));
	memcpy(&header, out, sizeof(header));
	cr_assert_eq(le16toh(header.csum_start), 38);
	cr_assert_eq(le16toh(header.hdr_len), 58);
	cr_assert_eq(memcmp(out + NET_HEADER + 12, "\x81\x00\x60\x05\x08\x00", 6), 0);
	erig_destroy(r);
}

/* Nothing is sent without a link, TCTL.EN or bus mastering; it goes on by itself when there is. */
Test(e1000_tx, waits_for_what_it_needs)
{
	struct erig *r = erig_create(0, "");

	erig_up(r, 0, 0);
	for (unsigned i = 0; i < 4; i++) {
		if (i == 0)
			e1000_set_link(r->v->dev, false);
		else if (i == 1)
			erig_set(r, E1000_TCTL, 0);
		else if (i == 2)
			vrig_write(r->v, r->v->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		else
			r->v->dev->ops->pause(r->v->dev);
		erig_tx(r, ERIG_TX_DATA, 100 | LAST, 0);
		erig_tx_go(r);
		erig_settle(r);
		cr_assert_eq(fake_net_take(r->net, 0, out, sizeof(out), 0), -1);
		if (i == 0)
			e1000_set_link(r->v->dev, true);
		else if (i == 1)
			erig_set(r, E1000_TCTL, TCTL_EN);
		else if (i == 2)
			vrig_write(r->v, r->v->config + PCI_COMMAND, 2,
				   PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		else
			r->v->dev->ops->start(r->v->dev, NULL);
		cr_assert_eq(erig_take(r, out), (ssize_t)(NET_HEADER + 100), "case %u", i);
	}
	erig_destroy(r);
}

/* A backend that takes no more: nothing is lost, order is kept. */
Test(e1000_tx, backend_that_is_full)
{
	struct erig *r = erig_create(0, "");
	uint32_t sent = 0, taken = 0;

	erig_up(r, 0, 0);
	while (taken < 3000) {
		/* Fill the ring and what is behind it, then take a few. */
		while (sent - taken < 600 && sent < 3000) {
			uint32_t *at = (void *)(data(r) + 0x2000 * (r->tx_tail % ERIG_SIZE));

			if ((r->tx_tail + 1) % ERIG_SIZE == erig_get(r, E1000_TDH)) {
				if (sent - taken > 2 * ERIG_SIZE)
					break;
				continue;
			}
			memset(at, 0, 0x2000);
			*at = sent++;
			erig_tx(r, ERIG_TX_DATA + 0x2000 * r->tx_tail, 0x2000 | LAST, 0);
			erig_tx_go(r);
		}
		for (unsigned i = 0; i < 20 && taken < sent; i++) {
			uint32_t got;

			cr_assert_eq(erig_take(r, out), NET_HEADER + 0x2000);
			memcpy(&got, out + NET_HEADER, 4);
			cr_assert_eq(got, taken);
			taken++;
		}
	}
	erig_destroy(r);
}

/* PHY and MAC loopback: what is sent is received, whole, and goes nowhere else. */
Test(e1000_tx, loopback)
{
	for (unsigned mac = 0; mac < 2; mac++) {
		struct erig *r = erig_create(ALL, mac ? "" : "link=off");
		struct erig_frame f = { .payload = 2500, .sequence = 5 };
		size_t len = long_packet(r, &f);

		erig_up(r, RCTL_UPE | (mac ? RCTL_LBM_MAC : 0), 0);
		if (!mac)
			erig_set_phy(r, PHY_PCTRL, 0x4140);
		erig_rx(r, 8);
		send_long(r, &f, len, 1448);
		for (unsigned i = 0; i < 2; i++) {
			struct e1000_rx_desc *d = erig_received(r, i);
			size_t part = i ? 2500 - 1448 : 1448;

			cr_assert_eq(d->length, 54 + part + 4);
			cr_assert(d->status & RXD_EOP);
			check_segment(&f, erig_buffer(r, i), 54 + part, i, 1448, data(r), i);
		}
		cr_assert_eq(fake_net_take(r->net, 0, out, sizeof(out), 0), -1);
		/* 200 frames, more than the FIFO would hold, lose nothing while there are buffers.
		 */
		for (unsigned i = 2; i < 200; i++) {
			erig_tx(r, ERIG_TX_DATA, 1024 | LAST, 0);
			erig_tx_go(r);
			cr_assert_eq(erig_received(r, i)->length, 1028);
			erig_rx(r, 1);
		}
		cr_assert_eq(erig_get(r, E1000_MPC), 0);
		cr_assert_eq(erig_get(r, E1000_RNBC), 0);
		erig_destroy(r);
	}
}

/* Without a link nothing can be sent, until it need not leave. */
Test(e1000_tx, loopback_after_waiting_for_the_link)
{
	struct erig *r = erig_create(ALL, "link=off,doorbell=exit");

	erig_up(r, RCTL_UPE, 0);
	erig_rx(r, 8);
	erig_settle(r);
	erig_set(r, E1000_RCTL, erig_get(r, E1000_RCTL) | RCTL_LBM_MAC);
	erig_settle(r);
	erig_tx(r, ERIG_TX_DATA, 1024 | LAST, 0);
	erig_tx_go(r);
	cr_assert_eq(erig_received(r, 0)->length, 1028);
	erig_destroy(r);
}

/* With doorbells that are eventfds, too; and tails that have none. */
Test(e1000_tx, doorbells_as_eventfds)
{
	struct erig *r = erig_create(0, "doorbell=ioeventfd");
	uint64_t kicks = 0;

	erig_up(r, 0, 0);
	/* Each tail value exits until it has its doorbell: a round of them all. */
	for (unsigned i = 0; i < 50 * ERIG_SIZE; i++) {
		if (i % ERIG_SIZE == 0)
			kicks = erig_count(r, ACCOUNT_KICKS);
		erig_tx(r, ERIG_TX_DATA, 100 | LAST, 0);
		erig_tx_go(r);
		cr_assert_eq(erig_take(r, out), NET_HEADER + 100);
		if (erig_count(r, ACCOUNT_KICKS) - kicks == ERIG_SIZE)
			break;
		usleep(1000);
	}
	kicks = erig_count(r, ACCOUNT_KICKS);
	for (unsigned i = 0; i < 5 * ERIG_SIZE; i++) {
		data(r)[0] = (uint8_t)i;
		erig_tx(r, ERIG_TX_DATA, 100 | LAST, 0);
		erig_tx_go(r);
		cr_assert_eq(erig_take(r, out), NET_HEADER + 100);
		cr_assert_eq(out[NET_HEADER], (uint8_t)i);
	}
	cr_assert_eq(erig_count(r, ACCOUNT_KICKS) - kicks, 5 * ERIG_SIZE,
		     "no write came to the card");
	cr_assert_eq(erig_get(r, E1000_TDT), r->tx_tail);
	/* Reading TDT between the doorbell and the loop's hearing of it loses nothing. */
	for (unsigned i = 0; i < 200; i++) {
		erig_tx(r, ERIG_TX_DATA, 100 | LAST, 0);
		erig_tx_go(r);
		cr_assert_eq(erig_get(r, E1000_TDT), r->tx_tail);
		cr_assert_eq(erig_take(r, out), NET_HEADER + 100);
	}
	/* Several at once: the last one counts; a value past the doorbells is a plain write. */
	erig_set(r, E1000_TCTL, 0);
	for (unsigned i = 0; i < 3; i++) {
		erig_tx(r, ERIG_TX_DATA, 100 | LAST, 0);
		erig_tx_go(r);
	}
	cr_assert_eq(erig_get(r, E1000_TDT), r->tx_tail);
	erig_set(r, E1000_TDT, 0x1234);
	cr_assert_eq(erig_get(r, E1000_TDT), 0x1234);
	erig_tx_go(r);
	cr_assert_eq(erig_get(r, E1000_TDT), r->tx_tail);
	erig_set(r, E1000_TCTL, TCTL_EN);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(erig_take(r, out), NET_HEADER + 100);
	/* A reset forgets what was signalled. */
	erig_set(r, E1000_TCTL, 0);
	erig_set(r, E1000_TDT, 7);
	erig_set(r, E1000_CTRL, CTRL_RST);
	cr_assert_eq(erig_get(r, E1000_TDT), 0);
	erig_destroy(r);
}
