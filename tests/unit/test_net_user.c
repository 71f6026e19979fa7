/*
 * User-mode NAT with a guest in miniature: DHCP, ARP, TCP in and out over the host's loopback, UDP,
 * a guest that does not listen, and one that sends nonsense.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net_user_impl.h"
#include "tests/unit/test_net_guest.h"
#include "tests/unit/test_virtio_rig.h"

#define GUEST	0x0a00020f /* 10.0.2.15 */
#define GATEWAY 0x0a000202

#define IS(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

static struct net *open_user(const struct net_config *config)
{
	struct net *net;
	struct error e;

	cr_assert_eq(net_open(&net, config, &e), 0, "%s", e.msg);
	cr_assert_eq(net_info(net)->queues, 1);
	cr_assert_eq(net_info(net)->offloads, 0);
	return net;
}

/* A port of the loopback that is free now. */
static uint16_t free_port(int type)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(sa);
	int s = socket(AF_INET, type, 0);

	cr_assert_eq(bind(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(getsockname(s, (struct sockaddr *)&sa, &len), 0);
	close(s);
	return ntohs(sa.sin_port);
}

static int connect_to(uint16_t port, int type)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr = { htonl(INADDR_LOOPBACK) },
				  .sin_port = htons(port) };
	struct timeval limit = { .tv_sec = 10 };
	int s = socket(AF_INET, type, 0);

	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	cr_assert_eq(connect(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return s;
}

/* Sends total bytes through the echo at the other end and checks what comes back. */
static void echo(int s, size_t total)
{
	static uint8_t out[8192], in[8192];
	size_t sent = 0, got = 0;

	while (got < total) {
		size_t part = total - sent < sizeof(out) ? total - sent : sizeof(out);

		for (size_t i = 0; i < part; i++)
			out[i] = (uint8_t)((sent + i) * 7 + (sent + i) / 251);
		if (part) {
			cr_assert_eq(send(s, out, part, MSG_NOSIGNAL), (ssize_t)part);
			sent += part;
		}
		while (got < sent) {
			ssize_t n = recv(s, in, sizeof(in), 0);

			cr_assert_gt(n, 0, "after %zu of %zu bytes: %s", got, total,
				     strerror(errno));
			for (ssize_t i = 0; i < n; i++, got++)
				cr_assert_eq(in[i], (uint8_t)(got * 7 + got / 251));
		}
	}
}

Test(net_user, dhcp_and_arp, .timeout = 20)
{
	struct net *net = open_user(&(struct net_config){ .target = NULL });
	struct net_guest g;

	net_guest_start(&g, net);
	net_guest_want(&g, true);
	net_guest_discover(&g);
	vrig_wait(IS(g.offered));
	cr_assert_eq(g.offer, GUEST);
	cr_assert_eq(g.router, GATEWAY);
	cr_assert_eq(g.dns, GATEWAY + 1);
	g.address = GUEST;
	net_guest_ask_arp(&g, GATEWAY);
	vrig_wait(IS(g.arp_answered));
	cr_assert_eq(g.bad, 0);
	net_guest_stop(&g);
}

Test(net_user, another_network, .timeout = 20)
{
	struct net *net = open_user(&(struct net_config){ .target = "user", .net = "10.9.0.0/16" });
	struct net_guest g;

	net_guest_start(&g, net);
	net_guest_want(&g, true);
	net_guest_discover(&g);
	vrig_wait(IS(g.offered));
	cr_assert_eq(g.offer, 0x0a09000f);
	cr_assert_eq(g.router, 0x0a090002);
	net_guest_stop(&g);
}

Test(net_user, tcp_from_the_host, .timeout = 60)
{
	uint16_t port = free_port(SOCK_STREAM);
	struct net_guest g;
	char forward[64];
	struct net *net;
	int s;

	snprintf(forward, sizeof(forward), "tcp::%u-:7", port);
	net = open_user(&(struct net_config){ .hostfwd = forward });
	net_guest_start(&g, net);
	net_guest_want(&g, true);
	g.address = GUEST;
	for (unsigned i = 0; i < 3; i++) {
		s = connect_to(port, SOCK_STREAM);
		echo(s, 300000);
		cr_assert_eq(g.local_port, 7);
		shutdown(s, SHUT_WR);
		vrig_wait(IS(g.closed));
		close(s);
		g.closed = false;
	}
	cr_assert_eq(IS(g.echoed), 900000);
	cr_assert_eq(g.bad, 0);
	cr_assert_eq(net_queue_stats(g.q)->lost, 0);
	net_guest_stop(&g);
}

static int listen_on_loopback(uint16_t *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(sa);
	int s = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_eq(bind(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(listen(s, 4), 0);
	cr_assert_eq(getsockname(s, (struct sockaddr *)&sa, &len), 0);
	*port = ntohs(sa.sin_port);
	return s;
}

static void start_with_arp(struct net_guest *g, struct net *net)
{
	net_guest_start(g, net);
	net_guest_want(g, true);
	g->address = GUEST;
	net_guest_ask_arp(g, GATEWAY);
	vrig_wait(IS(g->arp_answered));
}

Test(net_user, tcp_to_the_host, .timeout = 60)
{
	struct net *net = open_user(&(struct net_config){ .target = "user" });
	struct timeval limit = { .tv_sec = 10 };
	struct net_guest g;
	uint16_t port;
	int listener = listen_on_loopback(&port), s;

	start_with_arp(&g, net);
	net_guest_connect(&g, GATEWAY, port);
	s = accept(listener, NULL, NULL);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	vrig_wait(IS(g.connected));
	echo(s, 300000);
	close(s);
	vrig_wait(IS(g.closed));
	/* Nobody listens there now. */
	close(listener);
	g.connected = false;
	net_guest_connect(&g, GATEWAY, port);
	vrig_wait(IS(g.refused));
	cr_assert_not(IS(g.connected));
	cr_assert_eq(g.bad, 0);
	net_guest_stop(&g);
}

Test(net_user, a_restricted_guest_reaches_nobody, .timeout = 20)
{
	struct net *net = open_user(&(struct net_config){ .target = "user", .restricted = true });
	struct net_guest g;
	uint16_t port;
	int listener = listen_on_loopback(&port);

	start_with_arp(&g, net);
	fcntl(listener, F_SETFL, O_NONBLOCK);
	net_guest_connect(&g, GATEWAY, port);
	usleep(200000);
	cr_assert_eq(accept(listener, NULL, NULL), -1);
	cr_assert_not(IS(g.connected));
	close(listener);
	net_guest_stop(&g);
}

/* Nothing comes from outside faster than the guest takes it; later it flows again. */
Test(net_user, a_guest_that_does_not_listen, .timeout = 60)
{
	uint16_t port = free_port(SOCK_DGRAM);
	static uint8_t datagram[1000];
	struct net_guest g;
	struct user *user;
	char forward[64];
	struct net *net;
	unsigned before;
	int s;

	snprintf(forward, sizeof(forward), "udp::%u-:9", port);
	net = open_user(&(struct net_config){ .hostfwd = forward });
	user = (struct user *)net;
	start_with_arp(&g, net);
	s = connect_to(port, SOCK_DGRAM);
	cr_assert_eq(send(s, datagram, sizeof(datagram), 0), (ssize_t)sizeof(datagram));
	vrig_wait(IS(g.udp_frames) == 1);
	net_guest_want(&g, false);
	for (unsigned i = 0; i < 3000; i++) {
		cr_assert_eq(send(s, datagram, sizeof(datagram), 0), (ssize_t)sizeof(datagram));
		if (i % 50 == 0)
			usleep(1000);
	}
	usleep(50000);
	cr_assert_eq(IS(g.udp_frames), 1, "frames that nobody wanted");
	cr_assert_eq(net_queue_stats(g.q)->lost, 0);
	cr_assert(IS(user->stopped));
	net_guest_want(&g, true);
	vrig_wait(IS(g.udp_frames) > 200);
	vrig_wait(!IS(user->stopped));
	usleep(100000);
	before = IS(g.udp_frames);
	cr_assert_eq(send(s, datagram, sizeof(datagram), 0), (ssize_t)sizeof(datagram));
	vrig_wait(IS(g.udp_frames) > before);
	close(s);
	net_guest_stop(&g);
}

/* Random bytes, and plausible frames with random bytes in them. */
Test(net_user, nonsense_from_the_guest, .timeout = 60)
{
	struct net *net = open_user(&(struct net_config){ .target = "user" });
	static uint8_t frame[NET_HEADER + NET_FRAME_MAX];
	uint64_t random = 3;
	struct net_guest g;

	start_with_arp(&g, net);
	for (unsigned i = 0; i < 5000; i++) {
		size_t len = model_random(&random) % 1600;

		for (size_t b = 0; b < len; b++)
			frame[b] = (uint8_t)model_random(&random);
		if (i % 4 && len > 50) {
			memcpy(frame + 12, g.peer_mac, 6);
			memcpy(frame + 24,
			       i % 4 == 1   ? "\x08\x00"
			       : i % 4 == 2 ? "\x08\x06"
					    : "\x86\xdd",
			       2);
			frame[26] = i % 4 == 3 ? 0x60 : 0x45;
			frame[35] = (uint8_t[]){ 1, 6, 17, 58 }[model_random(&random) % 4];
		}
		net_guest_send(&g, frame, len);
	}
	cr_assert_eq(net_guest_send(&g, frame, 0), -EINVAL);
	cr_assert_eq(net_guest_send(&g, frame, NET_HEADER + 13), -EINVAL);
	cr_assert_eq(net_guest_send(&g, frame, sizeof(frame)), -EMSGSIZE);
	g.arp_answered = false;
	net_guest_ask_arp(&g, GATEWAY);
	vrig_wait(IS(g.arp_answered));
	net_guest_stop(&g);
}

Test(net_user, a_port_in_use_is_refused, .timeout = 20)
{
	struct net *net = NULL;
	char forward[64];
	struct error e;
	uint16_t port;
	int listener = listen_on_loopback(&port);

	snprintf(forward, sizeof(forward), "tcp::%u-:22", port);
	cr_assert_lt(net_open(&net, &(struct net_config){ .hostfwd = forward }, &e), 0);
	cr_assert(strstr(e.msg, "TCP port") && strstr(e.msg, "127.0.0.1"), "%s", e.msg);
	cr_assert_null(net);
	close(listener);
}
