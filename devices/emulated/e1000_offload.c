/*
 * From what transmit descriptors say to frames: checksums, TCP segmentation, VLAN tags, padding.
 * 317453 sections 3.3.6, 3.3.7, 3.5 and 9.2. In: pieces of the guest's memory and a context. Out:
 * frames for the backend, with a virtio-net header in front, or frames that come back in loopback.
 *
 * What the backend can do is left to it: the context's fields become those of the header. The
 * kernel behind a tap parses what it is to segment, so that is done only for frames that are what
 * the context says, TCP in IPv4 or IPv6; anything else the manual allows (UDP, odd offsets, no
 * backend support) is done here, byte by byte as the manual has it.
 *
 * The guest may change its memory at any time: what is looked at is copied before.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "devices/backend/iov_cursor.h"
#include "devices/backend/net_checksum.h"
#include "devices/emulated/e1000_inet.h"
#include "devices/emulated/e1000_internal.h"

#define IP_MAX 65535u

/* ---- checksums in place ---------------------------------------------------------------------- */

/*
 * Sums data[start … end], end included and 0 for the last byte, and stores the complement at
 * offset. As the manual has it: nothing is inserted if the fields are outside the data.
 */
static void insert_checksum(uint8_t *data, size_t len, size_t start, size_t offset, size_t end)
{
	struct net_sum sum = { 0 };
	uint16_t value;

	if (end == 0 || end >= len)
		end = len - 1;
	if (start >= len || start > end || offset + 2 > len)
		return;
	net_sum_add(&sum, data + start, end - start + 1);
	value = (uint16_t)~net_sum_fold(&sum);
	memcpy(data + offset, &value, sizeof(value));
}

/* ---- one frame ------------------------------------------------------------------------------- */

static uint32_t offloads(const struct e1000 *e)
{
	return e1000_loops(e) ? 0 : e->offload;
}

/* The tag goes in behind the addresses; returns how many bytes that made it longer. */
static size_t insert_tag(struct e1000 *e, uint8_t *frame, size_t len)
{
	const struct e1000_tx_frame *f = &e->tx.frame;

	if (!(f->command & TXD_VLE) || !(e1000_get(e, E1000_CTRL) & CTRL_VME) ||
	    len < 2 * E1000_MAC_LEN)
		return 0;
	memmove(frame + 2 * E1000_MAC_LEN + E1000_VLAN_TAG, frame + 2 * E1000_MAC_LEN,
		len - 2 * E1000_MAC_LEN);
	put16(frame + 2 * E1000_MAC_LEN, e1000_get(e, E1000_VET));
	put16(frame + 2 * E1000_MAC_LEN + 2, f->special);
	return E1000_VLAN_TAG;
}

/* head has `copied` bytes of the frame behind the header; the rest stays in the guest's memory. */
static void set_pieces(struct e1000 *e, size_t head, size_t copied)
{
	struct e1000_tx_frame *f = &e->tx.frame;
	struct e1000_tx_out *out = &e->tx.out;
	struct iov_cursor c = iov_cursor_at(f->iov, f->niov);
	int n;

	out->iov[0] = (struct iovec){ out->head, NET_HEADER + head };
	iov_cursor_skip(&c, copied);
	iov_cursor_take(&c, f->len, out->iov + 1, NET_MAX_IOV - 1, &n);
	out->niov = n + 1;
}

static size_t copy_head(struct e1000 *e, size_t most)
{
	struct iov_cursor c = iov_cursor_at(e->tx.frame.iov, e->tx.frame.niov);
	size_t len = iov_cursor_copy(&c, e->tx.out.head + NET_HEADER, most);

	e1000_account(e, ACCOUNT_COPIED, len);
	return len;
}

static void set_header(struct e1000 *e, const struct virtio_net_hdr_v1 *header)
{
	memcpy(e->tx.out.head, header, NET_HEADER);
}

/* What a frame wants checked, from the first data descriptor and the context. */
struct wanted {
	bool ip, l4;
	size_t ip_start, ip_offset, ip_end;
	size_t start, offset, end;
};

static struct wanted wanted_of(const struct e1000_tx *tx)
{
	const struct e1000_tx_frame *f = &tx->frame;
	const struct e1000_context *c = &tx->context[0];

	if (f->legacy)
		return (struct wanted){
			/* Ignored if out of range (section 3.3.3.1). */
			.l4 = f->command & TXD_IC && f->css < f->len && f->cso + 1u < f->len,
			.start = f->css,
			.offset = f->cso,
		};
	return (struct wanted){
		.ip = f->popts & TXD_IXSM,
		.l4 = f->popts & TXD_TXSM,
		.ip_start = c->ipcss,
		.ip_offset = c->ipcso,
		.ip_end = c->ipcse,
		.start = c->tucss,
		.offset = c->tucso,
		.end = c->tucse,
	};
}

/* Can the backend insert the checksum? It sums to the end of the frame. */
static bool backend_sums(const struct e1000 *e, const struct wanted *w, size_t len, size_t copied)
{
	return offloads(e) & NET_OFFLOAD_CSUM && (w->end == 0 || w->end == len - 1) &&
	       w->start < len && w->offset >= w->start && w->offset + 2 <= copied;
}

static void pad(struct e1000 *e, uint8_t *frame, size_t *len)
{
	if (e1000_get(e, E1000_TCTL) & TCTL_PSP && *len < E1000_MIN_FRAME) {
		memset(frame + *len, 0, E1000_MIN_FRAME - *len);
		*len = E1000_MIN_FRAME;
	}
}

/* What goes out is in tx.bounce, len bytes behind room for the header, its checksums inserted. */
static void finish_linear(struct e1000 *e, size_t len)
{
	struct e1000_tx_out *out = &e->tx.out;
	uint8_t *data = e->tx.bounce + NET_HEADER;

	len += insert_tag(e, data, len);
	pad(e, data, &len);
	memset(e->tx.bounce, 0, NET_HEADER);
	out->iov[0] = (struct iovec){ e->tx.bounce, NET_HEADER + len };
	out->niov = 1;
	out->len = len;
}

/* All of it in tx.bounce, done. */
static void prepare_linear(struct e1000 *e, const struct wanted *w)
{
	struct e1000_tx_frame *f = &e->tx.frame;
	struct iov_cursor c = iov_cursor_at(f->iov, f->niov);
	uint8_t *data = e->tx.bounce + NET_HEADER;
	size_t len = iov_cursor_copy(&c, data, f->len);

	e1000_account(e, ACCOUNT_COPIED, len);
	if (w->ip)
		insert_checksum(data, len, w->ip_start, w->ip_offset, w->ip_end);
	if (w->l4)
		insert_checksum(data, len, w->start, w->offset, w->end);
	finish_linear(e, len);
}

static bool prepare_plain(struct e1000 *e)
{
	struct e1000_tx_frame *f = &e->tx.frame;
	struct e1000_tx_out *out = &e->tx.out;
	struct wanted w = wanted_of(&e->tx);
	struct virtio_net_hdr_v1 header = { 0 };
	size_t copied, head, ip_end;

	if (f->len > E1000_MAX_TX)
		return false;
	copied = copy_head(e, E1000_HEAD_MAX);
	ip_end = w.ip_end ? w.ip_end : f->len - 1;
	if (e1000_loops(e) || (w.ip && ip_end >= copied) ||
	    (w.l4 && !backend_sums(e, &w, f->len, copied))) {
		prepare_linear(e, &w);
		return true;
	}
	if (w.ip)
		insert_checksum(out->head + NET_HEADER, copied, w.ip_start, w.ip_offset, ip_end);
	head = copied + insert_tag(e, out->head + NET_HEADER, copied);
	if (w.l4) {
		header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		header.csum_start = htole16((uint16_t)(w.start + head - copied));
		header.csum_offset = htole16((uint16_t)(w.offset - w.start));
	}
	out->len = f->len + head - copied;
	if (out->len < E1000_MIN_FRAME) {
		size_t padded = head;

		/* All of a frame that short is in head; padding is not summed by anybody. */
		pad(e, out->head + NET_HEADER, &padded);
		out->len += padded - head;
		head = padded;
	}
	set_header(e, &header);
	set_pieces(e, head, copied);
	return true;
}

/* ---- segmentation by the backend ------------------------------------------------------------- */

static bool is_type(const uint8_t *head, size_t l3, unsigned type)
{
	return l3 >= E1000_ETH_HEADER && get16(head + l3 - 2) == type;
}

/* Is the header TCP in IP, with the context's fields where they belong? Its length is hdrlen. */
static bool well_formed(const struct e1000_context *c, const uint8_t *head)
{
	const uint8_t *l3 = head + c->ipcss, *l4 = head + c->tucss;

	if (!(c->tucmd & TXD_TCP) || c->tucss + TCP_HEADER > c->hdrlen ||
	    c->tucso != c->tucss + TCP_CHECKSUM || c->tucse != 0 ||
	    c->tucss + tcp_header_len(l4) != c->hdrlen)
		return false;
	if (c->tucmd & TXD_IP)
		return c->ipcss + IPV4_HEADER <= c->tucss && l3[0] >> 4 == 4 &&
		       c->ipcss + ipv4_header_len(l3) == c->tucss &&
		       l3[IPV4_PROTOCOL] == PROTO_TCP && is_type(head, c->ipcss, TYPE_IPV4) &&
		       c->ipcso == c->ipcss + IPV4_CHECKSUM;
	return c->ipcss + IPV6_HEADER == c->tucss && l3[0] >> 4 == 6 &&
	       l3[IPV6_NEXT] == PROTO_TCP && is_type(head, c->ipcss, TYPE_IPV6);
}

/*
 * The driver left lengths and checksums open, and the length out of the pseudo header's sum: for
 * the kernel they must be those of one long packet (Virtio 1.2 section 5.1.6.2).
 */
static void complete_headers(const struct e1000_context *c, uint8_t *head, size_t len)
{
	struct net_sum sum = { 0 };
	uint16_t value;

	if (c->tucmd & TXD_IP) {
		put16(head + c->ipcss + IPV4_LENGTH, len - c->ipcss);
		put16(head + c->ipcso, 0);
		insert_checksum(head, c->hdrlen, c->ipcss, c->ipcso, c->tucss - 1u);
	} else {
		put16(head + c->ipcss + IPV6_LENGTH, len - c->tucss);
	}
	net_sum_add(&sum, head + c->tucso, 2);
	net_sum_add16(&sum, (uint16_t)(len - c->tucss));
	value = net_sum_fold(&sum);
	memcpy(head + c->tucso, &value, sizeof(value));
}

static bool backend_segments(const struct e1000 *e, const uint8_t *head)
{
	const struct e1000_context *c = &e->tx.context[1];
	uint32_t need = c->tucmd & TXD_IP ? NET_OFFLOAD_TSO4 : NET_OFFLOAD_TSO6;
	const uint8_t all = c->tucmd & TXD_IP ? TXD_IXSM | TXD_TXSM : TXD_TXSM;

	return offloads(e) & need && (e->tx.frame.popts & all) == all &&
	       e->tx.frame.len - c->ipcss <= IP_MAX && well_formed(c, head);
}

static void prepare_gso(struct e1000 *e, size_t payload)
{
	const struct e1000_context *c = &e->tx.context[1];
	struct e1000_tx_out *out = &e->tx.out;
	uint8_t *head = out->head + NET_HEADER;
	struct virtio_net_hdr_v1 header = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM };
	size_t tag, cut = payload % c->mss;

	complete_headers(c, head, e->tx.frame.len);
	tag = insert_tag(e, head, c->hdrlen);
	header.csum_start = htole16((uint16_t)(c->tucss + tag));
	header.csum_offset = htole16(TCP_CHECKSUM);
	out->segments = payload ? (unsigned)((payload + c->mss - 1) / c->mss) : 1;
	if (out->segments > 1) {
		header.gso_type =
			c->tucmd & TXD_IP ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
		header.gso_size = htole16(c->mss);
		header.hdr_len = htole16((uint16_t)(c->hdrlen + tag));
	}
	/* CWR is for the first segment only, which the kernel sees to if it is told. */
	if (out->segments > 1 && head[c->tucss + tag + TCP_FLAGS] & TCP_CWR &&
	    offloads(e) & NET_OFFLOAD_ECN)
		header.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	set_header(e, &header);
	set_pieces(e, c->hdrlen + tag, c->hdrlen);
	out->len = c->hdrlen + tag + (out->segments > 1 ? c->mss : payload);
	out->last = c->hdrlen + tag + (cut || !payload ? cut : c->mss);
}

/* ---- segmentation here ----------------------------------------------------------------------- */

/* Sections 3.5.9.1 to 3.5.9.3: the fields that differ between segments. */
static void segment_headers(const struct e1000_tx *tx, uint8_t *head, size_t len, bool last)
{
	const struct e1000_context *c = &tx->context[1];
	size_t payload = len - c->hdrlen;
	struct net_sum sum = { 0 };
	uint16_t value;

	if (c->tucmd & TXD_IP && c->ipcss + IPV4_HEADER <= len) {
		uint8_t *id = head + c->ipcss + IPV4_ID;

		put16(head + c->ipcss + IPV4_LENGTH, len - c->ipcss);
		put16(id, get16(id) + tx->out.index);
	} else if (!(c->tucmd & TXD_IP) && c->ipcss + IPV6_HEADER <= len) {
		/* By IPv6's own definition, which leaves its header out. */
		put16(head + c->ipcss + IPV6_LENGTH, len - c->ipcss - IPV6_HEADER);
	}
	if (c->tucmd & TXD_TCP && c->tucss + TCP_HEADER <= len) {
		uint8_t *sequence = head + c->tucss + TCP_SEQUENCE;

		put32(sequence, get32(sequence) + (uint32_t)tx->out.done);
		if (!last)
			head[c->tucss + TCP_FLAGS] &= (uint8_t)~TCP_FIN_PSH;
	} else if (!(c->tucmd & TXD_TCP) && c->tucss + UDP_LENGTH + 2u <= len) {
		put16(head + c->tucss + UDP_LENGTH, len - c->tucss);
	}
	/* The sum that is there is the pseudo header's, without the length. */
	if (tx->frame.popts & TXD_TXSM && c->tucso + 2u <= len && c->tucss <= c->hdrlen) {
		net_sum_add(&sum, head + c->tucso, 2);
		net_sum_add16(&sum, (uint16_t)(c->hdrlen - c->tucss + payload));
		value = net_sum_fold(&sum);
		memcpy(head + c->tucso, &value, sizeof(value));
	}
}

/* The next segment into tx.bounce, complete. */
static void build_segment(struct e1000 *e)
{
	const struct e1000_context *c = &e->tx.context[1];
	struct e1000_tx_frame *f = &e->tx.frame;
	struct e1000_tx_out *out = &e->tx.out;
	uint8_t *data = e->tx.bounce + NET_HEADER;
	size_t left = f->len - c->hdrlen - out->done;
	size_t payload = left < c->mss ? left : c->mss, len = c->hdrlen + payload;
	struct iov_cursor cursor = iov_cursor_at(f->iov, f->niov);

	memcpy(data, out->head + NET_HEADER, c->hdrlen);
	iov_cursor_skip(&cursor, c->hdrlen + out->done);
	iov_cursor_copy(&cursor, data + c->hdrlen, payload);
	e1000_account(e, ACCOUNT_COPIED, len);
	segment_headers(&e->tx, data, len, payload == left);
	if (f->popts & TXD_IXSM)
		insert_checksum(data, len, c->ipcss, c->ipcso, c->ipcse);
	if (f->popts & TXD_TXSM)
		insert_checksum(data, len, c->tucss, c->tucso, c->tucse);
	finish_linear(e, len);
}

static bool prepare_segments(struct e1000 *e)
{
	const struct e1000_context *c = &e->tx.context[1];
	struct e1000_tx_frame *f = &e->tx.frame;
	struct e1000_tx_out *out = &e->tx.out;
	size_t payload;

	if (!c->mss || c->hdrlen < E1000_ETH_HEADER || f->len < c->hdrlen ||
	    (size_t)c->hdrlen + c->mss > E1000_MAX_TX || copy_head(e, c->hdrlen) < c->hdrlen) {
		e1000_stat(e, E1000_TSCTFC, 1);
		return false;
	}
	payload = f->len - c->hdrlen;
	e1000_stat(e, E1000_TSCTC, 1);
	if (backend_segments(e, out->head + NET_HEADER)) {
		prepare_gso(e, payload);
		return true;
	}
	out->cutting = true;
	out->done = 0;
	out->index = 0;
	build_segment(e);
	return true;
}

/* ---- sending --------------------------------------------------------------------------------- */

bool e1000_offload_prepare(struct e1000 *e)
{
	struct e1000_tx_out *out = &e->tx.out;

	out->cutting = false;
	out->segments = 1;
	if (e->tx.frame.broken || !e->tx.frame.len)
		return false;
	if (e->tx.frame.segment)
		return prepare_segments(e);
	return prepare_plain(e);
}

static void count_sent(struct e1000 *e, const uint8_t *frame)
{
	const struct e1000_tx_out *out = &e->tx.out;
	unsigned n = out->segments;
	size_t full = out->len + E1000_CRC_LEN, last = n > 1 ? out->last + E1000_CRC_LEN : full;
	uint64_t octets = (uint64_t)full * (n - 1) + last;

	e1000_stat(e, E1000_TPT, n);
	e1000_stat_octets(e, E1000_TOTL, octets);
	e1000_stat_sizes(e, E1000_PTC64, full, n - 1);
	e1000_stat_sizes(e, E1000_PTC64, last, 1);
	e1000_stat(e, E1000_GPTC, n);
	e1000_stat_octets(e, E1000_GOTCL, octets);
	if (frame[0] & 1)
		e1000_stat(e, is_broadcast(frame) ? E1000_BPTC : E1000_MPTC, n);
}

int e1000_offload_send(struct e1000 *e)
{
	struct e1000_tx_out *out = &e->tx.out;
	const uint8_t *frame = (const uint8_t *)out->iov[0].iov_base + NET_HEADER;

	if (e1000_loops(e)) {
		/* The loop may have been closed after the frame was made ready for the backend. */
		if (out->niov == 1)
			e1000_rx_loop(e, frame, out->len);
	} else if (net_send(e->backend, out->iov, out->niov) == -EAGAIN) {
		return -EAGAIN;
	}
	count_sent(e, frame);
	if (!out->cutting)
		return 0;
	out->done += e->tx.context[1].mss;
	out->index++;
	if (out->done >= e->tx.frame.len - e->tx.context[1].hdrlen)
		return 0;
	build_segment(e);
	return -EBUSY;
}
