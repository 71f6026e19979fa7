/*
 * virtio-net's control queue: Virtio 1.2 section 5.1.6.5. In: commands, each a class, a command and
 * data, with a byte for the answer. Out: what passes the filter, how many pairs are used, what the
 * backend may leave for the driver to do.
 */
#include <endian.h>
#include <string.h>

#include "devices/virtio/net_internal.h"

#define COMMAND_MAX 65536u /* bytes; the longest is a table of addresses */

/* Exactly that many bytes, and no more after them. */
static bool take_all(struct virtq_span *data, void *buf, size_t len)
{
	return data->len == len && virtq_span_read(data, buf, len) == len;
}

/* ---- filter ---------------------------------------------------------------------------------- */

static bool set_mode(struct virtio_net *vn, uint8_t cmd, struct virtq_span *data)
{
	struct net_filter *f = &vn->filter;
	bool *const modes[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &f->promisc,
		[VIRTIO_NET_CTRL_RX_ALLMULTI] = &f->allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &f->alluni,
		[VIRTIO_NET_CTRL_RX_NOMULTI] = &f->nomulti,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &f->nouni,
		[VIRTIO_NET_CTRL_RX_NOBCAST] = &f->nobcast,
	};
	unsigned feature = cmd <= VIRTIO_NET_CTRL_RX_ALLMULTI ? VIRTIO_NET_F_CTRL_RX
							      : VIRTIO_NET_F_CTRL_RX_EXTRA;
	uint8_t on;

	if (cmd >= sizeof(modes) / sizeof(modes[0]) || !virtio_has(&vn->v, feature) ||
	    !take_all(data, &on, 1))
		return false;
	*modes[cmd] = on;
	virtio_net_publish_filter(vn);
	return true;
}

/* A number of addresses and the addresses; those that do not fit the table make it pass all. */
static bool read_table(struct virtq_span *data, struct net_mac_table *table)
{
	uint32_t entries;

	if (virtq_span_read(data, &entries, sizeof(entries)) != sizeof(entries))
		return false;
	entries = le32toh(entries);
	if (entries > data->len / NET_MAC_LEN)
		return false;
	*table = (struct net_mac_table){ .overflow = entries > NET_FILTER_MACS };
	for (uint32_t i = 0; i < entries; i++) {
		uint8_t mac[NET_MAC_LEN];

		virtq_span_read(data, mac, sizeof(mac));
		if (!table->overflow)
			memcpy(table->mac[table->n++], mac, sizeof(mac));
	}
	return true;
}

static bool set_tables(struct virtio_net *vn, struct virtq_span *data)
{
	struct net_mac_table unicast, multicast;

	if (!virtio_has(&vn->v, VIRTIO_NET_F_CTRL_RX) || !read_table(data, &unicast) ||
	    !read_table(data, &multicast) || data->len > 0)
		return false;
	vn->filter.unicast = unicast;
	vn->filter.multicast = multicast;
	virtio_net_publish_filter(vn);
	return true;
}

static bool set_address(struct virtio_net *vn, struct virtq_span *data)
{
	uint8_t mac[NET_MAC_LEN];

	if (!virtio_has(&vn->v, VIRTIO_NET_F_CTRL_MAC_ADDR) || !take_all(data, mac, sizeof(mac)) ||
	    (mac[0] & 1))
		return false;
	memcpy(vn->filter.mac, mac, sizeof(mac));
	virtio_config_set(&vn->v, offsetof(struct virtio_net_config, mac), mac, sizeof(mac));
	virtio_net_publish_filter(vn);
	return true;
}

static bool set_vlan(struct virtio_net *vn, uint8_t cmd, struct virtq_span *data)
{
	uint16_t vid;

	if (!virtio_has(&vn->v, VIRTIO_NET_F_CTRL_VLAN) || cmd > VIRTIO_NET_CTRL_VLAN_DEL ||
	    !take_all(data, &vid, sizeof(vid)))
		return false;
	vid = le16toh(vid);
	if (vid >= 4096)
		return false;
	net_filter_set_vlan(&vn->filter, vid, cmd == VIRTIO_NET_CTRL_VLAN_ADD);
	virtio_net_publish_filter(vn);
	return true;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static bool set_pairs(struct virtio_net *vn, struct virtq_span *data)
{
	uint16_t n;

	if (!virtio_has(&vn->v, VIRTIO_NET_F_MQ) || !take_all(data, &n, sizeof(n)))
		return false;
	n = le16toh(n);
	if (n < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN || n > vn->npairs)
		return false;
	virtio_net_use_pairs(vn, n);
	return true;
}

/* Section 5.1.6.5.6.1: only what was negotiated can be turned on. */
static bool set_offloads(struct virtio_net *vn, struct virtq_span *data)
{
	static const uint64_t guest =
		VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) |
		VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN) |
		VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6);
	uint64_t bits;

	if (!virtio_has(&vn->v, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
	    !take_all(data, &bits, sizeof(bits)))
		return false;
	bits = le64toh(bits);
	if (bits & ~(guest & vn->v.features))
		return false;
	return net_set_offloads(vn->net, virtio_net_receive_offloads(bits)) == 0;
}

static bool acknowledge_announce(struct virtio_net *vn, const struct virtq_span *data)
{
	if (!virtio_has(&vn->v, VIRTIO_NET_F_GUEST_ANNOUNCE) || data->len > 0)
		return false;
	virtio_net_set_status(vn, VIRTIO_NET_S_ANNOUNCE, 0, false);
	return true;
}

static bool execute(struct virtio_net *vn, struct virtio_net_ctrl_hdr hdr, struct virtq_span *data)
{
	switch (hdr.class) {
	case VIRTIO_NET_CTRL_RX:
		return set_mode(vn, hdr.cmd, data);
	case VIRTIO_NET_CTRL_MAC:
		return hdr.cmd == VIRTIO_NET_CTRL_MAC_TABLE_SET	 ? set_tables(vn, data)
		       : hdr.cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET ? set_address(vn, data)
								 : false;
	case VIRTIO_NET_CTRL_VLAN:
		return set_vlan(vn, hdr.cmd, data);
	case VIRTIO_NET_CTRL_ANNOUNCE:
		return hdr.cmd == VIRTIO_NET_CTRL_ANNOUNCE_ACK && acknowledge_announce(vn, data);
	case VIRTIO_NET_CTRL_MQ:
		return hdr.cmd == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET && set_pairs(vn, data);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		return hdr.cmd == VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET && set_offloads(vn, data);
	default:
		return false;
	}
}

/* False: it is no command at all, and there is nowhere to say so. */
static bool command(struct virtio_queue *q, struct virtq_chain *chain)
{
	struct virtio_net *vn = virtio_net_of(q->v);
	uint8_t ack = VIRTIO_NET_ERR;
	struct virtio_net_ctrl_hdr hdr;

	if (virtq_span_read(&chain->readable, &hdr, sizeof(hdr)) != sizeof(hdr) ||
	    chain->writable.len < sizeof(ack))
		return false;
	if (chain->readable.len <= COMMAND_MAX && execute(vn, hdr, &chain->readable))
		ack = VIRTIO_NET_OK;
	virtq_span_write(&chain->writable, &ack, sizeof(ack));
	virtio_queue_push(q, chain, sizeof(ack));
	return true;
}

void net_ctrl_process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	bool good = true;

	for (unsigned i = 0; i < n; i++) {
		if (good && !command(q, chains[i])) {
			virtio_queue_break(q,
					   "command without a whole header and a byte to answer");
			good = false;
		}
		if (!good)
			virtio_queue_push(q, chains[i], 0); /* to the pool: the queue is broken */
	}
}
