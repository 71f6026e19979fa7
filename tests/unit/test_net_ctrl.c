/*
 * virtio-net's control queue and configuration: every command, right and wrong, and what it
 * changes; several pairs; link and announcements. Virtio 1.2 section 5.1.6.5.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/test_net_rig.h"

#define BIT(n) MODEL_BIT(n)
#define OFFLOADS                                                                                   \
	(NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN | NET_OFFLOAD_USO)

static const uint8_t own[6] = { 0x52, 0x54, 0, 0x6d, 0x76, 0 };
static const uint8_t other[6] = { 0x52, 0x54, 0, 1, 2, 3 };
static const uint8_t group[6] = { 1, 0, 0x5e, 0, 0, 5 };
static const uint8_t everybody[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

static struct virtio_net *card(struct nrig *n)
{
	return virtio_net_of((struct virtio_device *)n->v->dev);
}

static void give_buffers(struct nrig *n, unsigned queue)
{
	while (n->queue[queue].free_slots > 0) {
		struct model_buf buf = { NRIG_BUFFERS + 0x1000 * n->queue[queue].free_head, 2000,
					 true };

		nrig_add(n, queue, &buf, 1);
	}
}

/*
 * Does a frame to that address (and with that VLAN, unless 0) get through? One to the card itself,
 * which always does, comes behind it.
 */
static bool passes(struct nrig *n, const uint8_t mac[6], uint16_t vlan, const uint8_t marker[6])
{
	uint8_t frame[100];
	struct model_used used;
	unsigned lens[2], i = 0;

	give_buffers(n, 0);
	nrig_fill(frame, 60, 1);
	memcpy(frame + NET_HEADER, mac, 6);
	if (vlan) {
		frame[NET_HEADER + 12] = 0x81;
		frame[NET_HEADER + 13] = 0;
		frame[NET_HEADER + 14] = (uint8_t)(0xe0 | vlan >> 8);
		frame[NET_HEADER + 15] = (uint8_t)vlan;
	}
	fake_net_inject(n->net, 0, frame, 72);
	nrig_fill(frame, 61, 1);
	memcpy(frame + NET_HEADER, marker, 6);
	fake_net_inject(n->net, 0, frame, 73);
	do {
		used = vrig_wait_used(&n->queue[0]);
		lens[i++] = used.len;
	} while (used.len != 73);
	cr_assert(i == 1 || lens[0] == 72);
	return i == 2;
}

static bool gets(struct nrig *n, const uint8_t mac[6])
{
	return passes(n, mac, 0, own);
}

static int mode(struct nrig *n, uint8_t cmd, uint8_t on)
{
	return nrig_command(n, VIRTIO_NET_CTRL_RX, cmd, &on, 1);
}

Test(net_ctrl, receive_modes, .timeout = 30)
{
	struct nrig *n = nrig_create(1, 0, "");

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	cr_assert(gets(n, other) && gets(n, group) && gets(n, everybody), "promiscuous at first");
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	cr_assert(!gets(n, other) && !gets(n, group) && gets(n, own) && gets(n, everybody));
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_ALLMULTI, 1), VIRTIO_NET_OK);
	cr_assert(!gets(n, other) && gets(n, group));
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_NOMULTI, 1), VIRTIO_NET_OK);
	cr_assert(!gets(n, group) && gets(n, everybody));
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_ALLUNI, 1), VIRTIO_NET_OK);
	cr_assert(gets(n, other));
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_ALLUNI, 0), VIRTIO_NET_OK);
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_NOBCAST, 1), VIRTIO_NET_OK);
	cr_assert_not(gets(n, everybody));
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_NOBCAST, 0), VIRTIO_NET_OK);
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_NOUNI, 1), VIRTIO_NET_OK);
	cr_assert_not(passes(n, own, 0, everybody));
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_PROMISC, 1), VIRTIO_NET_OK);
	cr_assert(gets(n, other) && gets(n, group));
	nrig_destroy(n);
}

static size_t table(uint8_t *at, unsigned entries, const uint8_t mac[6])
{
	uint32_t le = htole32(entries);

	memcpy(at, &le, 4);
	for (unsigned i = 0; i < entries; i++)
		memcpy(at + 4 + 6 * i, mac, 6);
	return 4 + 6 * entries;
}

static int set_tables(struct nrig *n, const void *data, size_t len)
{
	return nrig_command(n, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, len);
}

Test(net_ctrl, address_tables, .timeout = 30)
{
	struct nrig *n = nrig_create(1, 0, "");
	uint8_t data[2000];
	uint32_t many = htole32(0xfffffff0);
	size_t len;

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	mode(n, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	len = table(data, 2, other);
	len += table(data + len, 3, group);
	cr_assert_eq(set_tables(n, data, len), VIRTIO_NET_OK);
	cr_assert(gets(n, other) && gets(n, group));
	/* Wrong ones change nothing. */
	cr_assert_eq(set_tables(n, data, len - 1), VIRTIO_NET_ERR);
	cr_assert_eq(set_tables(n, data, len + 1), VIRTIO_NET_ERR);
	cr_assert_eq(set_tables(n, data, 3), VIRTIO_NET_ERR);
	cr_assert_eq(set_tables(n, data, 0), VIRTIO_NET_ERR);
	memcpy(data, &many, 4);
	cr_assert_eq(set_tables(n, data, len), VIRTIO_NET_ERR);
	cr_assert(gets(n, other) && gets(n, group));
	/* More than we keep: all of that kind pass. */
	len = table(data, 0, other);
	len += table(data + len, NET_FILTER_MACS + 1, everybody);
	cr_assert_eq(set_tables(n, data, len), VIRTIO_NET_OK);
	cr_assert(!gets(n, other) && gets(n, group));
	len = table(data, 0, other);
	len += table(data + len, 0, group);
	cr_assert_eq(set_tables(n, data, len), VIRTIO_NET_OK);
	cr_assert(!gets(n, other) && !gets(n, group) && gets(n, own));
	nrig_destroy(n);
}

static void read_mac(struct nrig *n, uint8_t mac[6])
{
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)vrig_read(n->v, n->v->device + i, 1);
}

Test(net_ctrl, own_address, .timeout = 30)
{
	struct nrig *n = nrig_create(1, 0, "mac=52:54:00:AA:bb:0c");
	static const uint8_t given[6] = { 0x52, 0x54, 0, 0xaa, 0xbb, 0x0c };
	uint8_t mac[6];

	read_mac(n, mac);
	cr_assert_arr_eq(mac, given, 6);
	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	mode(n, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	cr_assert(passes(n, given, 0, everybody) && !passes(n, other, 0, everybody));
	cr_assert_eq(nrig_command(n, 1, 1, group, 6), VIRTIO_NET_ERR);
	cr_assert_eq(nrig_command(n, 1, 1, other, 5), VIRTIO_NET_ERR);
	cr_assert_eq(nrig_command(n, 1, 1, other, 6), VIRTIO_NET_OK);
	cr_assert(!passes(n, given, 0, everybody) && passes(n, other, 0, everybody));
	read_mac(n, mac);
	cr_assert_arr_eq(mac, other, 6);
	vrig_set_status(n->v, 0);
	read_mac(n, mac);
	cr_assert_arr_eq(mac, given, 6, "reset gives the card its own address back");
	nrig_destroy(n);
}

Test(net_ctrl, vlans, .timeout = 30)
{
	struct nrig *n = nrig_create(1, 0, "");
	const uint16_t five = htole16(5), last = htole16(4095), past = htole16(4096);

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	mode(n, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	cr_assert(!passes(n, own, 5, own) && gets(n, own));
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_VLAN, 0, &five, 2), VIRTIO_NET_OK);
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_VLAN, 0, &last, 2), VIRTIO_NET_OK);
	cr_assert(passes(n, own, 5, own) && passes(n, own, 4095, own) && !passes(n, own, 6, own));
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_VLAN, 1, &five, 2), VIRTIO_NET_OK);
	cr_assert_not(passes(n, own, 5, own));
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_VLAN, 0, &past, 2), VIRTIO_NET_ERR);
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_VLAN, 2, &five, 2), VIRTIO_NET_ERR);
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_VLAN, 0, &five, 1), VIRTIO_NET_ERR);
	nrig_up(n, ~BIT(VIRTIO_NET_F_CTRL_VLAN), NRIG_SIZE);
	mode(n, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	cr_assert(passes(n, own, 6, own), "no VLAN filter without the feature");
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_VLAN, 0, &five, 2), VIRTIO_NET_ERR);
	nrig_destroy(n);
}

Test(net_ctrl, offloads, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	uint64_t bits;

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	cr_assert_eq(n->net->offloads, OFFLOADS);
	bits = htole64(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4));
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &bits, 8), VIRTIO_NET_OK);
	cr_assert_eq(n->net->offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
	bits = htole64(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_MRG_RXBUF));
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &bits, 8), VIRTIO_NET_ERR);
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 1, &bits, 8), VIRTIO_NET_ERR);
	cr_assert_eq(n->net->offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
	bits = 0;
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &bits, 8), VIRTIO_NET_OK);
	cr_assert_eq(n->net->offloads, 0);
	nrig_up(n, ~BIT(VIRTIO_NET_F_GUEST_TSO4), NRIG_SIZE);
	cr_assert_eq(n->net->offloads, OFFLOADS & ~NET_OFFLOAD_TSO4);
	bits = htole64(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4));
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &bits, 8), VIRTIO_NET_ERR);
	nrig_destroy(n);
}

/* Features that need others, and what is offered when the backend has less. */
Test(net_ctrl, features, .timeout = 30)
{
	static const uint64_t wrong[] = {
		BIT(VIRTIO_NET_F_GUEST_TSO4),
		BIT(VIRTIO_NET_F_HOST_TSO6),
		BIT(VIRTIO_NET_F_CTRL_RX),
		BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_GUEST_CSUM),
		BIT(VIRTIO_NET_F_GUEST_ANNOUNCE),
		BIT(VIRTIO_NET_F_HOST_USO),
	};
	uint64_t offload_bits = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
				BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |
				BIT(VIRTIO_NET_F_HOST_USO) | BIT(VIRTIO_NET_F_GUEST_USO4) |
				BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	uint64_t first = BIT(VIRTIO_F_VERSION_1);
	struct nrig *n = nrig_create(1, OFFLOADS, "");

	cr_assert_eq(vrig_offered(n->v) & offload_bits, offload_bits);
	cr_assert_not(vrig_offered(n->v) & BIT(VIRTIO_NET_F_MQ), "one queue is never several");
	cr_assert_not(vrig_offered(n->v) & BIT(VIRTIO_NET_F_MTU));
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		cr_assert_not(vrig_negotiate(n->v, first | wrong[i]), "%u", i);
	cr_assert(vrig_negotiate(n->v, first));
	nrig_destroy(n);

	n = nrig_create(1, 0, "mtu=9000,mergeable=off");
	cr_assert_not(vrig_offered(n->v) & offload_bits);
	cr_assert_not(vrig_offered(n->v) & BIT(VIRTIO_NET_F_MRG_RXBUF));
	cr_assert(vrig_offered(n->v) & BIT(VIRTIO_NET_F_MTU));
	cr_assert_eq(vrig_read(n->v, n->v->device + 10, 2), 9000);
	cr_assert_eq(vrig_read(n->v, n->v->device + 8, 2), 1);
	cr_assert_eq(vrig_read(n->v, n->v->device + 6, 2), VIRTIO_NET_S_LINK_UP);
	nrig_destroy(n);

	n = nrig_create(1, OFFLOADS, "offloads=off,link=off");
	cr_assert_not(vrig_offered(n->v) & offload_bits);
	cr_assert_eq(vrig_read(n->v, n->v->device + 6, 2), 0);
	nrig_destroy(n);
}

static bool enabled(struct nrig *n, unsigned pair)
{
	return __atomic_load_n(&n->net->queue[pair].enabled, __ATOMIC_ACQUIRE);
}

static int use_pairs(struct nrig *n, uint16_t pairs)
{
	pairs = htole16(pairs);
	return nrig_command(n, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, 2);
}

Test(net_ctrl, several_pairs, .timeout = 30)
{
	struct nrig *n = nrig_create(3, 0, "");
	const struct model_buf out = { NRIG_BUFFERS + 0x100000, 100, false };
	uint8_t frame[FAKE_BUF];
	struct model_used used;

	cr_assert_eq(vrig_read(n->v, n->v->device + 8, 2), 3);
	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	cr_assert(enabled(n, 0) && !enabled(n, 1) && !enabled(n, 2), "one pair at first");
	cr_assert_eq(use_pairs(n, 0), VIRTIO_NET_ERR);
	cr_assert_eq(use_pairs(n, 4), VIRTIO_NET_ERR);
	cr_assert_eq(use_pairs(n, 3), VIRTIO_NET_OK);
	cr_assert(enabled(n, 0) && enabled(n, 1) && enabled(n, 2));
	for (unsigned i = 0; i < 3; i++) {
		give_buffers(n, 2 * i);
		nrig_fill(frame, 100 + i, i);
		fake_net_inject(n->net, i, frame, 112 + i);
		cr_assert_eq(vrig_wait_used(&n->queue[2 * i]).len, 112 + i);
		nrig_add(n, 2 * i + 1, &out, 1);
		cr_assert_eq(fake_net_take(n->net, i, frame, sizeof(frame), 5000), 100);
		vrig_wait_used(&n->queue[2 * i + 1]);
	}
	cr_assert_eq(use_pairs(n, 2), VIRTIO_NET_OK);
	cr_assert(enabled(n, 1) && !enabled(n, 2));
	nrig_settle(n, 2);
	fake_net_inject(n->net, 2, frame, 112);
	nrig_settle(n, 2);
	cr_assert_not(model_used(&n->queue[4], &used), "the pair is not in use");
	cr_assert_eq(use_pairs(n, 3), VIRTIO_NET_OK);
	cr_assert_eq(vrig_wait_used(&n->queue[4]).len, 112, "it waited");
	vrig_set_status(n->v, 0);
	cr_assert(!enabled(n, 1) && !enabled(n, 2));
	nrig_destroy(n);
}

/* The control queue stands where the second pair would be. */
Test(net_ctrl, a_driver_without_mq, .timeout = 30)
{
	struct nrig *n = nrig_create(3, 0, "");
	const struct model_buf out = { NRIG_BUFFERS, 100, false };
	uint8_t frame[FAKE_BUF];

	nrig_up(n, ~BIT(VIRTIO_NET_F_MQ), NRIG_SIZE);
	cr_assert_eq(n->control, 2);
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	cr_assert_eq(use_pairs(n, 2), VIRTIO_NET_ERR);
	cr_assert(gets(n, own) && !gets(n, other));
	nrig_add(n, 1, &out, 1);
	cr_assert_eq(fake_net_take(n->net, 0, frame, sizeof(frame), 5000), 100);
	/* And with MQ after that. */
	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	cr_assert_eq(n->control, 6);
	cr_assert_eq(use_pairs(n, 2), VIRTIO_NET_OK);
	give_buffers(n, 2);
	nrig_fill(frame, 100, 1);
	fake_net_inject(n->net, 1, frame, 112);
	cr_assert_eq(vrig_wait_used(&n->queue[2]).len, 112);
	nrig_destroy(n);
}

/* Commands that are none, and a command queue that is used as another. */
Test(net_ctrl, malformed_commands, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	static const uint8_t data[16];
	const uint64_t at = NRIG_BUFFERS;
	const struct model_buf bad[][2] = {
		{ { at, 1, false }, { at + 64, 1, true } },   /* half a header */
		{ { at, 3, false }, { at + 64, 10, false } }, /* no answer wanted */
		{ { at, 8, true }, { at + 64, 8, true } },    /* no command */
	};

	for (unsigned class = 0; class < 8; class ++) {
		nrig_up(n, NRIG_ALL, NRIG_SIZE);
		for (unsigned cmd = 0; cmd < 8; cmd++)
			for (size_t len = 0; len < 10; len += 3)
				cr_assert_neq(
					nrig_command(n, (uint8_t) class, (uint8_t)cmd, data, len),
					-1);
	}
	/* None of them without its feature. */
	nrig_up(n, BIT(VIRTIO_NET_F_CTRL_VQ), NRIG_SIZE);
	for (unsigned class = 0; class < 8; class ++)
		for (unsigned cmd = 0; cmd < 8; cmd++)
			for (size_t len = 0; len < 10; len++)
				cr_assert_eq(
					nrig_command(n, (uint8_t) class, (uint8_t)cmd, data, len),
					VIRTIO_NET_ERR);
	cr_assert_eq(nrig_command(n, 1, 0, nrig_at(n, NRIG_BUFFERS, 0x20000), 0x20000),
		     VIRTIO_NET_ERR, "too long");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		nrig_up(n, NRIG_ALL, NRIG_SIZE);
		nrig_add(n, n->control, bad[i], 2);
		vrig_wait(vrig_status(n->v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	}
	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	cr_assert_eq(mode(n, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	nrig_destroy(n);
}

/* Random bytes as commands, while frames come. */
Test(net_ctrl, random_commands, .timeout = 60)
{
	struct nrig *n = nrig_create(2, OFFLOADS, "");
	uint64_t random = 7;
	uint8_t data[600], frame[100];

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	nrig_fill(frame, 88, 1);
	for (unsigned i = 0; i < 3000; i++) {
		size_t len = model_random(&random) % (i % 10 ? 20 : sizeof(data));
		uint64_t r = model_random(&random);

		for (size_t b = 0; b < len; b++)
			data[b] = (uint8_t)model_random(&random);
		if (i % 3 == 0 && len >= 4)
			memset(data + 1, 0, 3); /* a plausible number of entries */
		if (i % 16 == 0 && !fake_net_pending(n->net, 0))
			fake_net_inject(n->net, 0, frame, sizeof(frame));
		if (i % 16 == 0 && n->queue[0].free_slots > 0)
			give_buffers(n, 0);
		cr_assert_neq(nrig_command(n, (uint8_t)(r % 7), (uint8_t)(r >> 8) % 7, data, len),
			      -1);
	}
	cr_assert_not(vrig_status(n->v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	nrig_destroy(n);
}

/* ---- link and announcements ------------------------------------------------------------------ */

static unsigned generation(struct nrig *n)
{
	return (unsigned)vrig_read(n->v, n->v->common + VIRTIO_PCI_COMMON_CFGGENERATION, 1);
}

Test(net_ctrl, link, .timeout = 30)
{
	struct nrig *n = nrig_create(1, 0, "");
	const struct model_buf out = { NRIG_BUFFERS + 0x100000, 100, false };
	uint8_t frame[FAKE_BUF];
	struct model_used used;
	unsigned before;

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	give_buffers(n, 0);
	before = generation(n);
	vrig_read(n->v, n->v->isr, 1);
	virtio_net_set_link(n->v->dev, false);
	cr_assert_eq(vrig_read(n->v, n->v->isr, 1) & 2, 2, "no config interrupt");
	cr_assert_neq(generation(n), before);
	cr_assert_eq(vrig_read(n->v, n->v->device + 6, 2), 0);
	nrig_settle(n, 0);
	nrig_fill(frame, 60, 1);
	fake_net_inject(n->net, 0, frame, 72);
	nrig_add(n, 1, &out, 1);
	vrig_wait_used(&n->queue[1]);
	cr_assert_eq(fake_net_take(n->net, 0, frame, sizeof(frame), 0), -1, "no cable");
	nrig_settle(n, 0);
	cr_assert_not(model_used(&n->queue[0], &used));
	cr_assert_eq(card(n)->pair[0].tx.stats.dropped, 1);
	virtio_net_set_link(n->v->dev, true);
	cr_assert_eq(vrig_read(n->v, n->v->device + 6, 2), VIRTIO_NET_S_LINK_UP);
	cr_assert_eq(vrig_wait_used(&n->queue[0]).len, 72);
	nrig_destroy(n);
}

Test(net_ctrl, announce, .timeout = 30)
{
	struct nrig *n = nrig_create(1, 0, "");

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	virtio_net_announce(n->v->dev);
	cr_assert_eq(vrig_read(n->v, n->v->isr, 1) & 2, 2);
	cr_assert_eq(vrig_read(n->v, n->v->device + 6, 2),
		     VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_ANNOUNCE, 0, "x", 1), VIRTIO_NET_ERR);
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_ANNOUNCE, 0, NULL, 0), VIRTIO_NET_OK);
	cr_assert_eq(vrig_read(n->v, n->v->device + 6, 2), VIRTIO_NET_S_LINK_UP);
	nrig_destroy(n);
}

/* A backend that goes away under a card with traffic. */
Test(net_ctrl, destroyed_under_load, .timeout = 30)
{
	for (unsigned round = 0; round < 10; round++) {
		struct nrig *n = nrig_create(2, OFFLOADS, round % 2 ? "iothread=off" : "");
		const struct model_buf out = { NRIG_BUFFERS + 0x100000, 1000, false };
		uint8_t frame[100];

		nrig_up(n, NRIG_ALL, NRIG_SIZE);
		use_pairs(n, 2);
		nrig_fill(frame, 88, 1);
		for (unsigned i = 0; i < 8; i++) {
			give_buffers(n, 0);
			give_buffers(n, 2);
			fake_net_inject(n->net, i % 2, frame, sizeof(frame));
			nrig_add(n, 1, &out, 1);
			nrig_add(n, 3, &out, 1);
		}
		usleep(100 * round);
		nrig_destroy(n);
	}
}
