/*
 * The tap backend on real taps, in a network namespace of the test's own: opened, made, adopted and
 * refused; frames both ways; several queues; a tap that goes away. Skipped where that is not
 * allowed. (Criterion runs every test in a process of its own.)
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net.h"
#include "tests/unit/test_net_rig.h"

#define NEEDS_TAPS                                                                                 \
	do {                                                                                       \
		if (!enter_namespace())                                                            \
			cr_skip_test("needs root and /dev/net/tun");                               \
	} while (0)

static bool enter_namespace(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false;
	close(fd);
	return unshare(CLONE_NEWNET) == 0;
}

static struct net *open_tap(const char *target, unsigned queues, unsigned mtu)
{
	const struct net_config config = { .target = target, .queues = queues, .mtu = mtu };
	struct net *net = NULL;
	struct error e;

	cr_assert_eq(net_open(&net, &config, &e), 0, "%s", e.msg);
	return net;
}

static void refused(const char *target, unsigned queues, unsigned mtu, const char *says)
{
	const struct net_config config = { .target = target, .queues = queues, .mtu = mtu };
	struct net *net = NULL;
	struct error e;

	cr_assert_lt(net_open(&net, &config, &e), 0);
	cr_assert(strstr(e.msg, says), "%s", e.msg);
	cr_assert_null(net);
}

/* Opens the tap itself, as others would. */
static int raw_tap(const char *name, int flags)
{
	struct ifreq ifr = { 0 };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	strcpy(ifr.ifr_name, name);
	ifr.ifr_flags = (short)flags;
	cr_assert_eq(ioctl(fd, TUNSETIFF, &ifr), 0, "%s", strerror(errno));
	return fd;
}

static void make_persistent(const char *name, int flags)
{
	int fd = raw_tap(name, flags);

	cr_assert_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
}

static short interface_flags(const char *name)
{
	struct ifreq ifr = { 0 };
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	strcpy(ifr.ifr_name, name);
	cr_assert_eq(ioctl(s, SIOCGIFFLAGS, &ifr), 0);
	close(s);
	return ifr.ifr_flags;
}

static void bring_up(const char *name)
{
	struct ifreq ifr = { 0 };
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	strcpy(ifr.ifr_name, name);
	ifr.ifr_flags = IFF_UP;
	cr_assert_eq(ioctl(s, SIOCSIFFLAGS, &ifr), 0);
	close(s);
}

static void delete_interface(const char *name)
{
	struct {
		struct nlmsghdr hdr;
		struct ifinfomsg info;
	} msg = { .hdr = { sizeof(msg), RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0 } };
	struct sockaddr_nl to = { .nl_family = AF_NETLINK };
	int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	char answer[256];

	msg.info.ifi_index = (int)if_nametoindex(name);
	cr_assert_eq(sendto(s, &msg, sizeof(msg), 0, (struct sockaddr *)&to, sizeof(to)),
		     (ssize_t)sizeof(msg));
	cr_assert_gt(recv(s, answer, sizeof(answer), 0), 0);
	close(s);
}

/* ---- opening --------------------------------------------------------------------------------- */

Test(net_tap, one_that_is_not_there_is_made_and_goes, .timeout = 20)
{
	struct net *net;

	NEEDS_TAPS;
	net = open_tap("tapm", 0, 9000);
	cr_assert_neq(if_nametoindex("tapm"), 0);
	cr_assert(interface_flags("tapm") & IFF_UP);
	cr_assert_eq(net_info(net)->queues, 1);
	cr_assert_eq(net_info(net)->mtu, 9000);
	cr_assert_str_eq(net_info(net)->name, "tapm");
	cr_assert(net_info(net)->offloads & NET_OFFLOAD_TSO4);
	cr_assert_geq(net_queue_fd(net_queue(net, 0)), 0);
	cr_assert_null(net_queue(net, 1));
	cr_assert_eq(net_set_offloads(net, net_info(net)->offloads), 0);
	cr_assert_eq(net_set_offloads(net, 0x80000000), -EINVAL);
	net_close(net);
	cr_assert_eq(if_nametoindex("tapm"), 0);
}

Test(net_tap, one_that_is_there_stays, .timeout = 20)
{
	NEEDS_TAPS;
	make_persistent("tapp", IFF_TAP | IFF_NO_PI);
	make_persistent("tapq", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE);
	net_close(open_tap("tapp", 1, 0));
	net_close(open_tap("tapq", 1, 0));
	net_close(open_tap("tapq", 4, 1500));
	cr_assert_neq(if_nametoindex("tapp"), 0);
	cr_assert_not(interface_flags("tapp") & IFF_UP, "it is not ours to bring up");
	refused("tapp", 2, 0, "multi_queue");
	refused("tapp", 1, 9000, "ip link set tapp mtu 9000");
	refused("lo", 1, 0, "not a tap");
}

Test(net_tap, one_in_use_is_refused, .timeout = 20)
{
	struct net *net;

	NEEDS_TAPS;
	net = open_tap("tapb", 1, 0);
	refused("tapb", 1, 0, "in use by another program");
	net_close(net);
}

Test(net_tap, without_permission, .timeout = 20)
{
	NEEDS_TAPS;
	make_persistent("tapp", IFF_TAP | IFF_NO_PI);
	cr_assert_eq(setuid(65534), 0);
	if (access("/dev/net/tun", R_OK | W_OK) != 0) {
		refused("tapp", 1, 0, "/dev/net/tun");
		return;
	}
	refused("tapp", 1, 0, "user $USER");
	refused("tapn", 1, 0, "CAP_NET_ADMIN");
}

Test(net_tap, a_descriptor_that_was_passed, .timeout = 20)
{
	const int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	struct net *net;
	char target[32];
	int a, b, bare;

	NEEDS_TAPS;
	a = raw_tap("tapf", flags);
	b = raw_tap("tapf", flags);
	bare = raw_tap("tapg", IFF_TAP | IFF_NO_PI);
	snprintf(target, sizeof(target), "fd:%d", bare);
	refused(target, 0, 0, "IFF_VNET_HDR");
	snprintf(target, sizeof(target), "fd:%d:%d", a, a);
	refused(target, 0, 0, "twice");
	a = raw_tap("tapf", flags);
	snprintf(target, sizeof(target), "fd:%d:%d", a, b);
	refused(target, 3, 0, "has 2");
	a = raw_tap("tapf", flags);
	b = raw_tap("tapf", flags);
	snprintf(target, sizeof(target), "fd:%d:%d", a, b);
	net = open_tap(target, 0, 0);
	cr_assert_eq(net_info(net)->queues, 2);
	cr_assert(fcntl(a, F_GETFL) & O_NONBLOCK);
	net_close(net);
	cr_assert_eq(fcntl(a, F_GETFL), -1, "it was ours to close");
}

/* ---- frames ---------------------------------------------------------------------------------- */

struct end {
	struct event_loop *loop;
	struct net *net;
	struct net_queue *q;
	int packet; /* a socket that sees the interface's frames */
	unsigned readable, gone;
	bool locked; /* as a card's lock while it receives */
	uint8_t frame[NET_HEADER + NET_FRAME_MAX];
	uint8_t ours[NET_HEADER + NET_FRAME_MAX]; /* the last one that the test sent */
	ssize_t len;				  /* atomic: its length */
};

static void readable(void *opaque)
{
	struct end *end = opaque;
	struct iovec iov[] = { { end->frame, 20 }, { end->frame + 20, sizeof(end->frame) - 20 } };

	ssize_t len;

	end->locked = true;
	len = net_receive(end->q, iov, 2);
	end->locked = false;
	__atomic_fetch_add(&end->readable, 1, __ATOMIC_RELEASE);
	/* The kernel has things of its own to say to an interface that comes up. */
	if (len < 0 || memcmp(end->frame + NET_HEADER + 12, "\x88\xb5", 2) != 0)
		return;
	memcpy(end->ours, end->frame, (size_t)len);
	__atomic_store_n(&end->len, len, __ATOMIC_RELEASE);
}

static void gone(void *opaque)
{
	struct end *end = opaque;

	cr_assert(!end->locked, "it would wait for itself");
	__atomic_fetch_add(&end->gone, 1, __ATOMIC_RELEASE);
}

static const struct net_client client = { .readable = readable, .gone = gone };

static void end_start(struct end *end, struct net *net, unsigned queue)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(0x88b5) };
	struct timeval limit = { .tv_sec = 5 };
	struct error e;

	*end = (struct end){ .net = net, .q = net_queue(net, queue) };
	end->loop = event_loop_create("tap", &e);
	cr_assert_eq(event_loop_start(end->loop, &e), 0);
	cr_assert_eq(net_queue_start(end->q, end->loop, &client, end, &e), 0);
	end->packet = socket(AF_PACKET, SOCK_RAW, htons(0x88b5));
	ll.sll_ifindex = (int)if_nametoindex(net_info(net)->name);
	cr_assert_eq(bind(end->packet, (struct sockaddr *)&ll, sizeof(ll)), 0);
	setsockopt(end->packet, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

static void end_stop(struct end *end)
{
	net_queue_stop(end->q);
	event_loop_destroy(end->loop);
	close(end->packet);
}

struct order {
	struct end *end;
	bool want;
	const struct iovec *iov;
	int niov, result;
};

static void do_want(void *arg)
{
	struct order *o = arg;

	net_receive_want(o->end->q, o->want);
}

static void want(struct end *end, bool on)
{
	struct order o = { .end = end, .want = on };

	event_call(end->loop, do_want, &o);
}

static void do_send(void *arg)
{
	struct order *o = arg;

	o->result = net_send(o->end->q, o->iov, o->niov);
}

static int send_frame(struct end *end, const struct iovec *iov, int niov)
{
	struct order o = { .end = end, .iov = iov, .niov = niov };

	event_call(end->loop, do_send, &o);
	return o.result;
}

/* The local experimental EtherType, which nobody else here uses. */
static void fill(uint8_t *frame, size_t len, unsigned seed)
{
	nrig_fill(frame, len, seed);
	memcpy(frame + NET_HEADER + 12, "\x88\xb5", 2);
}

#define LEN(end) __atomic_load_n(&(end)->len, __ATOMIC_ACQUIRE)

Test(net_tap, frames_both_ways, .timeout = 30)
{
	static uint8_t frame[NET_HEADER + NET_FRAME_MAX], got[NET_FRAME_MAX];
	static struct end end;

	NEEDS_TAPS;
	end_start(&end, open_tap("tapx", 1, 9000), 0);
	for (size_t len = 14; len <= 9014; len += 250) {
		struct iovec iov[] = { { frame, 5 },
				       { frame + 5, 20 },
				       { frame + 25, NET_HEADER + len - 25 } };
		const uint8_t *payload = frame + NET_HEADER;

		fill(frame, len, (unsigned)len);
		cr_assert_eq(send_frame(&end, iov, 3), 0);
		cr_assert_eq(recv(end.packet, got, sizeof(got), 0), (ssize_t)len);
		cr_assert_arr_eq(got, payload, len);

		want(&end, true);
		__atomic_store_n(&end.len, 0, __ATOMIC_RELEASE);
		cr_assert_eq(send(end.packet, payload, len, 0), (ssize_t)len);
		vrig_wait(LEN(&end) == (ssize_t)(NET_HEADER + len));
		cr_assert_arr_eq(end.ours + NET_HEADER, payload, len);
		want(&end, false);
	}
	cr_assert_eq(net_queue_stats(end.q)->sent, 37);
	cr_assert_geq(net_queue_stats(end.q)->received, 37);
	end_stop(&end);
	net_close(end.net);
}

/* Nothing is read that nobody wants, and the kernel keeps it meanwhile. */
Test(net_tap, unwanted_frames_wait, .timeout = 30)
{
	static uint8_t frame[200];
	static struct end end;

	NEEDS_TAPS;
	end_start(&end, open_tap("tapx", 1, 0), 0);
	fill(frame, 100, 1);
	for (unsigned i = 0; i < 10; i++)
		cr_assert_eq(send(end.packet, frame + NET_HEADER, 100, 0), 100);
	usleep(20000);
	cr_assert_eq(end.readable, 0);
	want(&end, true);
	vrig_wait(__atomic_load_n(&net_queue_stats(end.q)->received, __ATOMIC_ACQUIRE) >= 10);
	want(&end, false);
	end_stop(&end);
	net_close(end.net);
}

/* What a header promises and does not hold is refused, not passed on. */
Test(net_tap, a_bad_header_is_refused, .timeout = 30)
{
	static uint8_t frame[NET_HEADER + 2000];
	struct iovec iov = { frame, NET_HEADER + 1000 };
	struct virtio_net_hdr_v1 *hdr = (void *)frame;
	static struct end end;

	NEEDS_TAPS;
	end_start(&end, open_tap("tapx", 1, 0), 0);
	fill(frame, 1000, 1);
	hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	hdr->csum_start = 2000;
	hdr->csum_offset = 16;
	cr_assert_eq(send_frame(&end, &iov, 1), -EINVAL);
	hdr->flags = 0;
	hdr->gso_type = 77;
	cr_assert_eq(send_frame(&end, &iov, 1), -EINVAL);
	hdr->gso_type = 0;
	iov.iov_len = NET_HEADER + 5;
	cr_assert_eq(send_frame(&end, &iov, 1), -EINVAL);
	iov.iov_len = NET_HEADER + 1000;
	cr_assert_eq(send_frame(&end, &iov, 1), 0);
	cr_assert_eq(net_queue_stats(end.q)->refused, 3);
	end_stop(&end);
	net_close(end.net);
}

Test(net_tap, queues_out_of_use, .timeout = 30)
{
	static uint8_t frame[200];
	struct iovec iov = { frame, 112 };
	static struct end a, b;
	struct net *net;
	unsigned before;

	NEEDS_TAPS;
	net = open_tap("tapx", 2, 0);
	end_start(&a, net, 0);
	end_start(&b, net, 1);
	want(&a, true);
	want(&b, true);
	cr_assert_eq(net_queue_enable(b.q, false), 0);
	cr_assert_eq(net_queue_enable(b.q, false), 0);
	usleep(20000);
	before = __atomic_load_n(&b.readable, __ATOMIC_ACQUIRE);
	usleep(50000);
	cr_assert_leq(__atomic_load_n(&b.readable, __ATOMIC_ACQUIRE), before + 1, "it spins");
	fill(frame, 100, 1);
	for (unsigned i = 0; i < 20; i++)
		cr_assert_eq(send(a.packet, frame + NET_HEADER, 100, 0), 100);
	vrig_wait(__atomic_load_n(&net_queue_stats(a.q)->received, __ATOMIC_ACQUIRE) >= 20);
	cr_assert_eq(net_queue_enable(b.q, true), 0);
	cr_assert_eq(send_frame(&b, &iov, 1), 0);
	cr_assert_eq(a.gone + b.gone, 0);
	end_stop(&a);
	end_stop(&b);
	net_close(net);
}

Test(net_tap, one_that_goes_away, .timeout = 30)
{
	static struct end end;
	unsigned before;

	NEEDS_TAPS;
	end_start(&end, open_tap("tapx", 1, 0), 0);
	want(&end, true);
	bring_up("tapx");
	delete_interface("tapx");
	vrig_wait(__atomic_load_n(&end.gone, __ATOMIC_ACQUIRE) == 1);
	before = __atomic_load_n(&end.readable, __ATOMIC_ACQUIRE);
	want(&end, true);
	usleep(50000);
	cr_assert_eq(__atomic_load_n(&end.readable, __ATOMIC_ACQUIRE), before, "it spins");
	cr_assert_eq(end.gone, 1);
	end_stop(&end);
	net_close(end.net);
}

/* ---- frames that do not come by us ------------------------------------------------------------
 */

/* Does a frame to that address come through the tap? */
static bool passes(struct end *end, const char mac[6])
{
	uint8_t frame[NET_HEADER + 60];

	for (unsigned i = 0; i < 2; i++) {
		/* The second one is for the card: when it is there, the first one would have been.
		 */
		fill(frame, 60, i);
		memcpy(frame + NET_HEADER, i ? "\x52\x54\x00\x6d\x76\x00" : mac, 6);
		__atomic_store_n(&end->len, 0, __ATOMIC_RELEASE);
		cr_assert_eq(send(end->packet, frame + NET_HEADER, 60, 0), 60);
		if (i)
			vrig_wait(LEN(end) > 0);
		else
			usleep(10000);
		if (!i && LEN(end) > 0)
			return true;
	}
	return false;
}

Test(net_tap, the_kernels_filter, .timeout = 60)
{
	static const uint8_t mac[20][6] = {
		{ 0x52, 0x54, 0x00, 0x6d, 0x76, 0x00 },
		{ 0x02, 0x00, 0x00, 0x00, 0x00, 0x01 },
		{ 0x01, 0x00, 0x5e, 0x01, 0x02, 0x03 },
	};
	static struct end end;

	NEEDS_TAPS;
	end_start(&end, open_tap("tapx", 1, 0), 0);
	want(&end, true);
	cr_assert(passes(&end, "\x02\0\0\0\0\x09"), "all, until told otherwise");
	cr_assert_eq(net_set_filter(end.net, mac, 3, false), 0);
	cr_assert(passes(&end, "\x52\x54\x00\x6d\x76\x00"));
	cr_assert(passes(&end, "\x02\0\0\0\0\x01"));
	cr_assert(passes(&end, "\x01\x00\x5e\x01\x02\x03"));
	cr_assert(passes(&end, "\xff\xff\xff\xff\xff\xff"), "broadcasts");
	cr_assert(!passes(&end, "\x02\0\0\0\0\x09"));
	cr_assert(!passes(&end, "\x01\x00\x5e\x01\x02\x04"));
	cr_assert_eq(net_set_filter(end.net, mac, 1, true), 0);
	cr_assert(passes(&end, "\x01\x00\x5e\x01\x02\x04"), "all groups");
	cr_assert(!passes(&end, "\x02\0\0\0\0\x01"));
	/* More than it looks at one by one: better too many frames than too few. */
	cr_assert_eq(net_set_filter(end.net, mac, 20, false), 0);
	cr_assert(passes(&end, "\x02\0\0\0\0\x01"));
	cr_assert_eq(net_set_filter(end.net, NULL, 0, false), 0);
	cr_assert(passes(&end, "\x02\0\0\0\0\x09"));
	end_stop(&end);
	net_close(end.net);
}

/* Nobody reads it, and still its end is heard of, once. */
Test(net_tap, one_that_is_watched_goes_away, .timeout = 30)
{
	static struct end end;

	NEEDS_TAPS;
	end_start(&end, open_tap("tapx", 1, 0), 0);
	net_queue_watch(end.q);
	bring_up("tapx");
	usleep(20000);
	cr_assert_eq(__atomic_load_n(&end.gone, __ATOMIC_ACQUIRE), 0);
	delete_interface("tapx");
	vrig_wait(__atomic_load_n(&end.gone, __ATOMIC_ACQUIRE) == 1);
	usleep(50000);
	cr_assert_eq(end.gone, 1);
	cr_assert_eq(end.readable, 0, "nothing was wanted");
	end_stop(&end);
	net_close(end.net);
}
