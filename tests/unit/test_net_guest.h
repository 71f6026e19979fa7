/*
 * A guest's TCP/IP in miniature, on the front end's side of a network backend: answers ARP, asks
 * for DHCP, and has one TCP connection that echoes what it gets. It checks every sum it sees.
 */
#ifndef TESTS_UNIT_TEST_NET_GUEST_H
#define TESTS_UNIT_TEST_NET_GUEST_H

#include "devices/backend/net.h"

#define GUEST_MTU 1500

/* All but the constants: the loop's; wait for them with __atomic_load_n(). */
struct net_guest {
	struct net *net;
	struct net_queue *q;
	struct event_loop *loop;
	bool offered;		     /* DHCP */
	uint32_t offer, router, dns; /* host byte order */
	uint32_t address;	     /* ours */
	uint8_t peer_mac[6];	     /* who answered ARP or spoke to us */
	bool arp_answered;
	unsigned frames, udp_frames, bad; /* bad: sums that were wrong */
	/* TCP */
	bool connected, refused, closed;
	uint32_t local_seq, remote_seq;
	uint32_t remote_address;
	uint16_t local_port, remote_port;
	uint64_t echoed;
	unsigned opened; /* active opens so far */
};

/* Starts it on queue 0 of the backend with a loop of its own. */
void net_guest_start(struct net_guest *g, struct net *net);
void net_guest_stop(struct net_guest *g);
void net_guest_want(struct net_guest *g, bool want);

void net_guest_discover(struct net_guest *g);
void net_guest_ask_arp(struct net_guest *g, uint32_t address);
/* An active open, the answer shows in connected or refused. */
void net_guest_connect(struct net_guest *g, uint32_t address, uint16_t port);
/* A frame as it is, with header; what net_send() says. */
int net_guest_send(struct net_guest *g, const void *frame, size_t len);

#endif
