/* See test_net_guest.h. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

#include "tests/unit/test_net_guest.h"

static const uint8_t own_mac[6] = { 0x52, 0x54, 0x00, 0x6d, 0x76, 0x00 };
static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

struct packet {
	uint8_t header[NET_HEADER];
	struct ether_header ether;
	struct iphdr ip;
	union {
		struct tcphdr tcp;
		struct udphdr udp;
	};
	uint8_t rest[GUEST_MTU];
} __attribute__((packed));

#define ETHER_AT offsetof(struct packet, ether)
#define IP_AT	 offsetof(struct packet, ip)
#define L4_AT	 offsetof(struct packet, tcp)

/* ---- sums ------------------------------------------------------------------------------------ */

static uint32_t add(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static uint16_t l4_sum(const struct packet *p, size_t len)
{
	uint32_t sum = add(0, &p->ip.saddr, 8) + p->ip.protocol + (uint32_t)len;

	return fold(add(sum, &p->tcp, len));
}

/* ---- out ------------------------------------------------------------------------------------- */

static void send_now(struct net_guest *g, const void *frame, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)frame, len };

	cr_assert_eq(net_send(g->q, &iov, 1), 0);
	net_flush(g->q);
}

static void send_ip(struct net_guest *g, struct packet *p, const uint8_t mac[6], uint32_t to,
		    uint8_t protocol, size_t l4_len)
{
	memset(p->header, 0, sizeof(p->header));
	memcpy(p->ether.ether_dhost, mac, 6);
	memcpy(p->ether.ether_shost, own_mac, 6);
	p->ether.ether_type = htons(ETHERTYPE_IP);
	p->ip = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = protocol };
	p->ip.tot_len = htons((uint16_t)(sizeof(p->ip) + l4_len));
	p->ip.saddr = htonl(g->address);
	p->ip.daddr = htonl(to);
	p->ip.check = fold(add(0, &p->ip, sizeof(p->ip)));
	if (protocol == IPPROTO_TCP) {
		p->tcp.check = 0;
		p->tcp.check = l4_sum(p, l4_len);
	}
	send_now(g, p, L4_AT + l4_len);
}

static void send_tcp(struct net_guest *g, unsigned flags, const void *data, size_t len)
{
	struct packet p = { 0 };

	p.tcp.source = htons(g->local_port);
	p.tcp.dest = htons(g->remote_port);
	p.tcp.seq = htonl(g->local_seq);
	p.tcp.ack_seq = htonl(g->remote_seq);
	p.tcp.doff = 5;
	p.tcp.syn = !!(flags & TH_SYN);
	p.tcp.ack = !!(flags & TH_ACK);
	p.tcp.fin = !!(flags & TH_FIN);
	p.tcp.psh = len > 0;
	p.tcp.window = htons(60000);
	if (len)
		memcpy((uint8_t *)&p.tcp + 20, data, len);
	send_ip(g, &p, g->peer_mac, g->remote_address, IPPROTO_TCP, 20 + len);
	g->local_seq += (uint32_t)len + p.tcp.syn + p.tcp.fin;
}

struct arp_frame {
	uint8_t header[NET_HEADER];
	struct ether_header ether;
	struct ether_arp arp;
	uint8_t pad[18];
} __attribute__((packed));

static void send_arp(struct net_guest *g, uint16_t op, const uint8_t mac[6], uint32_t address)
{
	const uint32_t sender = htonl(g->address), target = htonl(address);
	struct arp_frame f = { 0 };

	memcpy(f.ether.ether_dhost, mac, 6);
	memcpy(f.ether.ether_shost, own_mac, 6);
	f.ether.ether_type = htons(ETHERTYPE_ARP);
	f.arp.arp_hrd = htons(ARPHRD_ETHER);
	f.arp.arp_pro = htons(ETHERTYPE_IP);
	f.arp.arp_hln = 6;
	f.arp.arp_pln = 4;
	f.arp.arp_op = htons(op);
	memcpy(f.arp.arp_sha, own_mac, 6);
	memcpy(f.arp.arp_spa, &sender, 4);
	if (op == ARPOP_REPLY)
		memcpy(f.arp.arp_tha, mac, 6);
	memcpy(f.arp.arp_tpa, &target, 4);
	send_now(g, &f, sizeof(f));
}

/* ---- in -------------------------------------------------------------------------------------- */

static void got_arp(struct net_guest *g, const uint8_t *frame)
{
	struct arp_frame f;
	uint32_t sender, target;

	memcpy(&f, frame, sizeof(f));
	memcpy(&sender, f.arp.arp_spa, 4);
	memcpy(&target, f.arp.arp_tpa, 4);
	memcpy(g->peer_mac, f.arp.arp_sha, 6);
	if (ntohs(f.arp.arp_op) == ARPOP_REPLY)
		__atomic_store_n(&g->arp_answered, true, __ATOMIC_RELEASE);
	else if (ntohl(target) == g->address)
		send_arp(g, ARPOP_REPLY, f.arp.arp_sha, ntohl(sender));
}

/* RFC 2131: fixed part, magic cookie, options. */
static void got_dhcp(struct net_guest *g, const uint8_t *bootp, size_t len)
{
	if (len < 240 || bootp[0] != 2 || memcmp(bootp + 236, "\x63\x82\x53\x63", 4) != 0)
		return;
	for (size_t i = 240; i + 1 < len && bootp[i] != 255; i += 2 + bootp[i + 1]) {
		uint32_t value;

		memcpy(&value, bootp + i + 2, 4);
		if (bootp[i] == 3)
			g->router = ntohl(value);
		else if (bootp[i] == 6)
			g->dns = ntohl(value);
	}
	memcpy(&g->offer, bootp + 16, 4);
	g->offer = ntohl(g->offer);
	__atomic_store_n(&g->offered, true, __ATOMIC_RELEASE);
}

static void got_data(struct net_guest *g, const uint8_t *data, size_t len)
{
	g->remote_seq += (uint32_t)len;
	send_tcp(g, TH_ACK, data, len);
	__atomic_store_n(&g->echoed, g->echoed + len, __ATOMIC_RELEASE);
}

static void got_tcp(struct net_guest *g, const struct packet *p, size_t l4_len)
{
	size_t header = 4u * p->tcp.doff, len = l4_len - header;
	const uint8_t *data = (const uint8_t *)&p->tcp + header;

	if (p->tcp.rst) {
		__atomic_store_n(&g->refused, true, __ATOMIC_RELEASE);
		return;
	}
	if (p->tcp.syn && !p->tcp.ack) { /* towards us */
		g->remote_address = ntohl(p->ip.saddr);
		g->remote_port = ntohs(p->tcp.source);
		g->local_port = ntohs(p->tcp.dest);
		g->remote_seq = ntohl(p->tcp.seq) + 1;
		g->local_seq = 1000;
		send_tcp(g, TH_SYN | TH_ACK, NULL, 0);
		return;
	}
	if (p->tcp.syn) { /* our own was answered */
		g->remote_seq = ntohl(p->tcp.seq) + 1;
		send_tcp(g, TH_ACK, NULL, 0);
	}
	__atomic_store_n(&g->connected, true, __ATOMIC_RELEASE);
	if (len > 0 && ntohl(p->tcp.seq) == g->remote_seq)
		got_data(g, data, len);
	if (p->tcp.fin && ntohl(p->tcp.seq) + len == g->remote_seq) {
		g->remote_seq++;
		send_tcp(g, TH_ACK | TH_FIN, NULL, 0);
		__atomic_store_n(&g->closed, true, __ATOMIC_RELEASE);
	}
}

static void got_ip(struct net_guest *g, const struct packet *p, size_t len)
{
	size_t total = ntohs(p->ip.tot_len), l4_len = total - sizeof(p->ip);

	if (fold(add(0, &p->ip, sizeof(p->ip))) != 0 || total > len - IP_AT)
		g->bad++;
	else if (p->ip.protocol == IPPROTO_TCP && l4_sum(p, l4_len) != 0)
		g->bad++;
	else if (p->ip.protocol == IPPROTO_TCP)
		got_tcp(g, p, l4_len);
	else if (p->ip.protocol == IPPROTO_UDP && p->udp.dest == htons(68))
		got_dhcp(g, (const uint8_t *)&p->udp + 8, l4_len - 8);
	else if (p->ip.protocol == IPPROTO_UDP)
		__atomic_store_n(&g->udp_frames, g->udp_frames + 1, __ATOMIC_RELEASE);
}

static void readable(void *opaque)
{
	static const uint8_t zero[NET_HEADER];
	struct net_guest *g = opaque;
	struct packet p;
	struct iovec iov[] = { { &p, 7 }, { (uint8_t *)&p + 7, sizeof(p) - 7 } };

	for (unsigned i = 0; i < 16; i++) {
		ssize_t len = net_receive(g->q, iov, 2);

		if (len < 0) {
			cr_assert_eq(len, -EAGAIN);
			return;
		}
		cr_assert_geq(len, (ssize_t)(NET_HEADER + 14));
		cr_assert_arr_eq(p.header, zero, NET_HEADER);
		__atomic_store_n(&g->frames, g->frames + 1, __ATOMIC_RELEASE);
		if (p.ether.ether_type == htons(ETHERTYPE_ARP))
			got_arp(g, (const uint8_t *)&p);
		else if (p.ether.ether_type == htons(ETHERTYPE_IP))
			got_ip(g, &p, (size_t)len);
	}
}

/* ---- from the test's thread ------------------------------------------------------------------ */

struct order {
	struct net_guest *g;
	uint32_t address;
	uint16_t port;
	const void *frame;
	size_t len;
	int result;
	bool want;
};

static void do_want(void *arg)
{
	struct order *o = arg;

	net_receive_want(o->g->q, o->want);
}

void net_guest_want(struct net_guest *g, bool want)
{
	struct order o = { .g = g, .want = want };

	event_call(g->loop, do_want, &o);
}

static void do_discover(void *arg)
{
	struct net_guest *g = ((struct order *)arg)->g;
	struct packet p = { 0 };
	uint8_t *bootp = (uint8_t *)&p.udp + 8;
	static const uint8_t options[] = { 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255 };

	bootp[0] = 1;
	bootp[1] = 1;
	bootp[2] = 6;
	bootp[4] = 0x77;
	memcpy(bootp + 28, own_mac, 6);
	memcpy(bootp + 236, options, sizeof(options));
	p.udp.source = htons(68);
	p.udp.dest = htons(67);
	p.udp.len = htons(8 + 300);
	g->address = 0;
	send_ip(g, &p, broadcast, INADDR_BROADCAST, IPPROTO_UDP, 8 + 300);
}

void net_guest_discover(struct net_guest *g)
{
	struct order o = { .g = g };

	event_call(g->loop, do_discover, &o);
}

static void do_ask_arp(void *arg)
{
	struct order *o = arg;

	send_arp(o->g, ARPOP_REQUEST, broadcast, o->address);
}

void net_guest_ask_arp(struct net_guest *g, uint32_t address)
{
	struct order o = { .g = g, .address = address };

	event_call(g->loop, do_ask_arp, &o);
}

static void do_connect(void *arg)
{
	struct order *o = arg;
	struct net_guest *g = o->g;

	g->remote_address = o->address;
	g->remote_port = o->port;
	g->local_port = (uint16_t)(40000 + g->opened++);
	g->local_seq = 5000;
	g->remote_seq = 0;
	send_tcp(g, TH_SYN, NULL, 0);
}

void net_guest_connect(struct net_guest *g, uint32_t address, uint16_t port)
{
	struct order o = { .g = g, .address = address, .port = port };

	event_call(g->loop, do_connect, &o);
}

static void do_send(void *arg)
{
	struct order *o = arg;
	struct iovec iov = { (void *)(uintptr_t)o->frame, o->len };

	o->result = net_send(o->g->q, &iov, 1);
	net_flush(o->g->q);
}

int net_guest_send(struct net_guest *g, const void *frame, size_t len)
{
	struct order o = { .g = g, .frame = frame, .len = len };

	event_call(g->loop, do_send, &o);
	return o.result;
}

void net_guest_start(struct net_guest *g, struct net *net)
{
	static const struct net_client client = { .readable = readable };
	struct error e;

	*g = (struct net_guest){ .net = net, .q = net_queue(net, 0) };
	g->loop = event_loop_create("guest", &e);
	cr_assert_not_null(g->loop);
	cr_assert_eq(net_queue_start(g->q, g->loop, &client, g, &e), 0, "%s", e.msg);
	cr_assert_eq(event_loop_start(g->loop, &e), 0);
}

void net_guest_stop(struct net_guest *g)
{
	net_queue_stop(g->q);
	event_loop_destroy(g->loop);
	net_close(g->net);
}
