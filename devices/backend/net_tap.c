/*
 * The tap backend: frames go to and come from a tap device of the kernel, one read or write each,
 * straight from and to the front end's buffers. In: a name or descriptors. Documentation of the
 * interface: Linux, Documentation/networking/tuntap.rst and <linux/if_tun.h>.
 *
 * A tap that is there is used as it is; one that is not is made, brought up, and gone when its last
 * descriptor is closed, however mvm ends: it is never made persistent.
 *
 * The send buffer stays unlimited, as the kernel has it: what a bridge or a qdisc behind the tap
 * cannot take is dropped and counted there. A limit would let one stuck receiver stop all flows of
 * the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net_impl.h"
#include "vmm/log.h"

/* Since Linux 6.2; older headers do not have them. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct tap_queue {
	struct net_queue base; /* first */
	int fd;
	struct event_source source; /* in the loop only while something is wanted */
	bool want_read, want_write;
	bool detached; /* atomic: by net_queue_enable(), from other threads */
	bool lost;     /* receive() met a deleted tap; the client is not told of it inside */
	bool dead;     /* it has been told */
	/* News of interfaces, for a queue that nobody reads; fd 0: none. */
	struct event_source links;
};

struct tap {
	struct net base; /* first */
	char name[IFNAMSIZ];
	struct tap_queue queue[NET_MAX_QUEUES];
};

static struct tap *tap_of(struct net *net)
{
	return (struct tap *)net;
}

static struct tap_queue *queue_of(struct net_queue *q)
{
	return (struct tap_queue *)q;
}

/* ---- what is watched ------------------------------------------------------------------------- */

/*
 * A deleted or detached tap reports an error for ever, even to those who wait for nothing: so the
 * descriptor is in the loop only while something is wanted of it.
 */
static void watch(struct tap_queue *q)
{
	uint32_t events = (q->want_read || q->lost ? EPOLLIN : 0) | (q->want_write ? EPOLLOUT : 0);
	int err = 0;

	if (!events) {
		event_del(&q->source);
	} else if (!q->source.loop) {
		q->source.events = events;
		err = event_add(q->base.loop, &q->source);
	} else if (q->source.events != events) {
		err = event_modify(&q->source, events);
	}
	if (err)
		log_error("%s: cannot watch the tap: %s", q->base.net->info.name, strerror(-err));
}

/* The kernel knows no device behind the descriptor (EBADFD): detached by us, or deleted by others.
 */
static void lost_device(struct tap_queue *q)
{
	q->want_read = q->lost = false;
	watch(q);
	if (q->dead || __atomic_load_n(&q->detached, __ATOMIC_ACQUIRE))
		return;
	q->dead = true;
	log_warn("tap %s was deleted; the guest's cable is unplugged", q->base.net->info.name);
	if (q->base.client->gone)
		q->base.client->gone(q->base.opaque);
}

static void tap_event(void *opaque, uint32_t events)
{
	struct tap_queue *q = opaque;

	if (q->lost) {
		lost_device(q);
		return;
	}
	if (q->want_write && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
		q->want_write = false;
		watch(q);
		q->base.client->writable(q->base.opaque);
	}
	if (q->want_read && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		q->base.client->readable(q->base.opaque);
}

static void tap_want(struct net_queue *queue, bool want)
{
	struct tap_queue *q = queue_of(queue);

	want = want && !q->lost && !q->dead && !__atomic_load_n(&q->detached, __ATOMIC_ACQUIRE);
	if (want != q->want_read) {
		q->want_read = want;
		watch(q);
	}
}

/* ---- frames ---------------------------------------------------------------------------------- */

static ssize_t tap_receive(struct net_queue *queue, const struct iovec *iov, int niov)
{
	struct tap_queue *q = queue_of(queue);
	ssize_t len;

	do {
		account_add(queue->account, ACCOUNT_SYSCALLS, 1);
		len = readv(q->fd, iov, niov);
	} while (len < 0 && errno == EINTR);
	if (len >= (ssize_t)NET_HEADER) {
		account_add(queue->account, ACCOUNT_COPIED_KERNEL, (uint64_t)len);
		return len;
	}
	if (len < 0 && errno == EBADFD) {
		/* Its descriptor is ready for ever: the loop comes back. */
		q->want_read = false;
		q->lost = !q->dead && !__atomic_load_n(&q->detached, __ATOMIC_ACQUIRE);
		watch(q);
	}
	return -EAGAIN;
}

static ssize_t tap_send(struct net_queue *queue, const struct iovec *iov, int niov)
{
	struct tap_queue *q = queue_of(queue);
	ssize_t len;

	do {
		account_add(queue->account, ACCOUNT_SYSCALLS, 1);
		len = writev(q->fd, iov, niov);
	} while (len < 0 && errno == EINTR);
	if (len >= 0) {
		account_add(queue->account, ACCOUNT_COPIED_KERNEL, (uint64_t)len);
		return len;
	}
	if (errno != EAGAIN)
		return -errno;
	q->want_write = true;
	watch(q);
	return -EAGAIN;
}

/* ---- control --------------------------------------------------------------------------------- */

static int set_offloads(int fd, uint32_t offloads)
{
	static const struct {
		uint32_t ours;
		unsigned kernel;
	} map[] = {
		{ NET_OFFLOAD_CSUM, TUN_F_CSUM },
		{ NET_OFFLOAD_TSO4, TUN_F_TSO4 },
		{ NET_OFFLOAD_TSO6, TUN_F_TSO6 },
		{ NET_OFFLOAD_ECN, TUN_F_TSO_ECN },
		{ NET_OFFLOAD_USO, TUN_F_USO4 | TUN_F_USO6 },
	};
	unsigned long flags = 0;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (offloads & map[i].ours)
			flags |= map[i].kernel;
	/* The kernel takes segmentation only together with checksums. */
	if (!(offloads & NET_OFFLOAD_CSUM))
		flags = 0;
	return ioctl(fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

static int tap_set_offloads(struct net *net, uint32_t offloads)
{
	return set_offloads(tap_of(net)->queue[0].fd, offloads);
}

/*
 * The kernel's filter looks at the first few addresses exactly and at others by their hash, where
 * it takes groups only; broadcasts are a group to it.
 */
static int tap_set_filter(struct net *net, const uint8_t (*mac)[6], unsigned n, bool allmulti)
{
	const size_t size = sizeof(struct tun_filter) + (n + 1) * 6;
	struct tun_filter *filter = calloc(1, size);
	int err;

	if (!filter)
		return -ENOMEM;
	filter->flags = allmulti ? TUN_FLT_ALLMULTI : 0;
	if (n) {
		filter->count = (uint16_t)(n + 1);
		memset(filter->addr[0], 0xff, 6);
		memcpy(filter->addr[1], mac, (size_t)n * 6);
	}
	err = ioctl(tap_of(net)->queue[0].fd, TUNSETTXFILTER, filter) < 0 ? -errno : 0;
	free(filter);
	return err;
}

static int tap_enable(struct net_queue *queue, bool enable)
{
	struct tap_queue *q = queue_of(queue);
	struct ifreq ifr = { .ifr_flags = (short)(enable ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE) };

	if (enable == !__atomic_load_n(&q->detached, __ATOMIC_ACQUIRE))
		return 0;
	if (!enable)
		__atomic_store_n(&q->detached, true, __ATOMIC_RELEASE);
	if (ioctl(q->fd, TUNSETQUEUE, &ifr) < 0) {
		int err = -errno;

		__atomic_store_n(&q->detached, !enable, __ATOMIC_RELEASE);
		return enable ? err : 0;
	}
	__atomic_store_n(&q->detached, !enable, __ATOMIC_RELEASE);
	return 0;
}

static int tap_start(struct net_queue *queue, struct error *e)
{
	struct tap_queue *q = queue_of(queue);

	(void)e;
	q->source = (struct event_source){ .fd = q->fd, .callback = tap_event, .opaque = q };
	q->want_read = q->want_write = false;
	return 0;
}

/* Some interface has changed; ours may be gone. */
static void link_news(void *opaque, uint32_t events)
{
	struct tap_queue *q = opaque;
	struct ifreq ifr;
	char news[4096];
	ssize_t n;

	(void)events;
	do {
		n = recv(q->links.fd, news, sizeof(news), 0);
	} while (n > 0 || (n < 0 && (errno == EINTR || errno == ENOBUFS)));
	if (ioctl(q->fd, TUNGETIFF, &ifr) < 0)
		lost_device(q);
}

/*
 * A tap's end wakes only those who wait for frames, and to wait for frames is to be woken by each.
 * So its end is heard of from where interfaces are announced.
 */
static void tap_watch(struct net_queue *queue)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	struct tap_queue *q = queue_of(queue);
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0)
		return;
	q->links = (struct event_source){
		.fd = fd,
		.events = EPOLLIN,
		.callback = link_news,
		.opaque = q,
	};
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    event_add(queue->loop, &q->links) < 0) {
		close(fd);
		q->links.fd = 0;
	}
}

static void tap_stop(struct net_queue *queue)
{
	struct tap_queue *q = queue_of(queue);

	event_del(&q->source);
	event_del(&q->links);
	if (q->links.fd)
		close(q->links.fd);
	q->links.fd = 0;
	q->want_read = q->want_write = q->lost = false;
}

static struct net_queue *tap_queue_at(struct net *net, unsigned index)
{
	return &tap_of(net)->queue[index].base;
}

static int tap_fd(const struct net_queue *queue)
{
	return ((const struct tap_queue *)queue)->fd;
}

static void tap_close(struct net *net)
{
	struct tap *tap = tap_of(net);

	for (unsigned i = 0; i < NET_MAX_QUEUES; i++)
		if (tap->queue[i].fd >= 0)
			close(tap->queue[i].fd);
	free(tap);
}

static const struct net_ops tap_ops = {
	.close = tap_close,
	.set_offloads = tap_set_offloads,
	.set_filter = tap_set_filter,
	.queue = tap_queue_at,
	.start = tap_start,
	.stop = tap_stop,
	.enable = tap_enable,
	.fd = tap_fd,
	.watch = tap_watch,
	.want = tap_want,
	.receive = tap_receive,
	.send = tap_send,
};

/* ---- opening --------------------------------------------------------------------------------- */

static int open_tun(struct error *e)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), err = -errno;

	if (fd >= 0)
		return fd;
	if (err == -ENOENT || err == -ENODEV || err == -ENXIO)
		return error_set(e, err,
				 "this kernel offers no tap devices (no /dev/net/tun); try "
				 "modprobe tun, or the target \"user\", which needs none");
	if (err == -EACCES || err == -EPERM)
		return error_set(e, err,
				 "you may not open /dev/net/tun; ask for access to it, or use "
				 "the target \"user\", which needs none");
	return error_set_errno(e, err, "/dev/net/tun");
}

static int attach_failed(int err, const char *name, bool exists, unsigned queues, struct error *e)
{
	const char *multi = queues > 1 ? " multi_queue" : "";

	switch (err) {
	case -EPERM:
	case -EACCES:
		return error_set(e, err,
				 exists ? "tap %s belongs to somebody else; root can make it "
					  "yours: ip tuntap add dev %s mode tap%s user $USER"
					: "there is no tap %s and making one takes CAP_NET_ADMIN; "
					  "root can make it for you: ip tuntap add dev %s mode "
					  "tap%s user $USER",
				 name, name, multi);
	case -EBUSY:
		return error_set(e, err, "tap %s is in use by another program%s; give each its own",
				 name, queues > 1 ? ", or all its queues are" : "");
	case -EINVAL:
		if (exists && queues > 1)
			return error_set(e, err,
					 "%s is not a tap with several queues; make it with: ip "
					 "tuntap add dev %s mode tap multi_queue, or leave out "
					 "queues=%u",
					 name, name, queues);
		return error_set(e, err,
				 exists ? "%s is a network interface, but not a tap"
					: "the kernel does not take %s as the name of a tap",
				 name);
	default:
		return error_set_errno(e, err, "tap %s", name);
	}
}

/*
 * Attaches a descriptor to the tap; ifr has the name, and gets the one that the kernel gave. Others
 * decide whether an existing tap has several queues, so with one queue both ways are tried.
 */
static int attach(int fd, struct ifreq *ifr, bool multi)
{
	static const short flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	int err;

	ifr->ifr_flags = (short)(flags | (multi ? IFF_MULTI_QUEUE : 0));
	if (ioctl(fd, TUNSETIFF, ifr) == 0)
		return 0;
	err = -errno;
	if (err != -EINVAL || multi)
		return err;
	ifr->ifr_flags = (short)(flags | IFF_MULTI_QUEUE);
	return ioctl(fd, TUNSETIFF, ifr) < 0 ? -errno : 0;
}

static int open_by_name(struct tap *tap, const char *name, unsigned queues, bool *made,
			struct error *e)
{
	struct ifreq ifr = { 0 };
	bool exists;
	int err;

	if (strlen(name) >= IFNAMSIZ || name[0] == '\0' || strchr(name, '/'))
		return error_set(e, -EINVAL,
				 "\"%s\" cannot be the name of a tap (at most %d characters, no "
				 "slash); targets are: user, a tap's name, fd:N",
				 name, IFNAMSIZ - 1);
	exists = if_nametoindex(name) != 0;
	*made = !exists;
	memcpy(ifr.ifr_name, name, strlen(name));
	for (unsigned i = 0; i < queues; i++) {
		int fd = open_tun(e);

		if (fd < 0)
			return fd;
		tap->queue[i].fd = fd;
		err = attach(fd, &ifr, queues > 1);
		if (err)
			return attach_failed(err, name, exists, queues, e);
	}
	memcpy(tap->name, ifr.ifr_name, IFNAMSIZ);
	tap->name[IFNAMSIZ - 1] = '\0';
	return 0;
}

/* A descriptor from whoever started mvm: it must be a tap's, and as we would have opened it. */
static int adopt(struct tap *tap, unsigned index, int fd, struct error *e)
{
	struct ifreq ifr = { 0 };
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return error_set(e, -EBADF, "fd:%d: no such descriptor was passed to mvm", fd);
	if (ioctl(fd, TUNGETIFF, &ifr) < 0)
		return error_set(e, -EINVAL, "fd:%d is not a tap", fd);
	ifr.ifr_name[IFNAMSIZ - 1] = '\0';
	if (!(ifr.ifr_flags & IFF_TAP) || !(ifr.ifr_flags & IFF_VNET_HDR) ||
	    !(ifr.ifr_flags & IFF_NO_PI))
		return error_set(e, -EINVAL,
				 "fd:%d (%s) must be opened with IFF_TAP, IFF_NO_PI and "
				 "IFF_VNET_HDR",
				 fd, ifr.ifr_name);
	if (index > 0 && strcmp(ifr.ifr_name, tap->name) != 0)
		return error_set(e, -EINVAL, "fd:%d is a queue of %s, the others are of %s", fd,
				 ifr.ifr_name, tap->name);
	memcpy(tap->name, ifr.ifr_name, IFNAMSIZ);
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return error_set_errno(e, -errno, "fd:%d", fd);
	tap->queue[index].fd = fd;
	return 0;
}

static int open_by_fd(struct tap *tap, const char *list, unsigned *queues, struct error *e)
{
	unsigned n = 0;
	const char *at = list;
	int err;

	for (;;) {
		char *end;
		unsigned long fd = strtoul(at, &end, 10);

		if (*at < '0' || *at > '9' || fd > 0xffffff || (*end && *end != ':'))
			return error_set(e, -EINVAL,
					 "fd:%s is no list of descriptors like fd:3 or fd:3:4",
					 list);
		if (n == NET_MAX_QUEUES)
			return error_set(e, -EINVAL, "fd:%s: at most %u queues", list,
					 NET_MAX_QUEUES);
		for (unsigned i = 0; i < n; i++)
			if (tap->queue[i].fd == (int)fd)
				return error_set(e, -EINVAL, "fd:%s names %lu twice", list, fd);
		err = adopt(tap, n++, (int)fd, e);
		if (err)
			return err;
		if (!*end)
			break;
		at = end + 1;
	}
	if (*queues && *queues != n)
		return error_set(e, -EINVAL, "queues=%u, but fd:%s has %u", *queues, list, n);
	*queues = n;
	return 0;
}

/* ---- what it can do -------------------------------------------------------------------------- */

static int set_header(const struct tap *tap, int fd, struct error *e)
{
	int size = NET_HEADER, little = 1;

	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
		return error_set_errno(e, -errno, "tap %s: no %u-byte virtio-net header", tap->name,
				       NET_HEADER);
	/* Kernels without the call are of our byte order, and this is for little-endian ones. */
	if (ioctl(fd, TUNSETVNETLE, &little) < 0 && errno != EINVAL && errno != ENOTTY)
		return error_set_errno(e, -errno, "tap %s: no little-endian header", tap->name);
	return 0;
}

static uint32_t find_offloads(int fd)
{
	static const uint32_t all[] = {
		NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN |
			NET_OFFLOAD_USO,
		NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN,
		NET_OFFLOAD_CSUM,
	};
	uint32_t found = 0;

	for (size_t i = 0; !found && i < sizeof(all) / sizeof(all[0]); i++)
		if (set_offloads(fd, all[i]) == 0)
			found = all[i];
	set_offloads(fd, 0);
	return found;
}

/*
 * The interface's MTU and, if we made it, its being up. A tap that others made must have the MTU
 * already: it is theirs.
 */
static int set_up_interface(struct tap *tap, unsigned mtu, bool made, struct error *e)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err = 0;
	struct ifreq ifr = { 0 };

	if (s < 0)
		return 0; /* a host without IPv4: nothing can be asked */
	memcpy(ifr.ifr_name, tap->name, IFNAMSIZ);
	if (made && mtu) {
		ifr.ifr_mtu = (int)mtu;
		if (ioctl(s, SIOCSIFMTU, &ifr) < 0)
			err = error_set_errno(e, -errno, "tap %s: mtu=%u", tap->name, mtu);
	}
	if (!err && ioctl(s, SIOCGIFMTU, &ifr) == 0)
		tap->base.info.mtu = (unsigned)ifr.ifr_mtu;
	if (!err && mtu && tap->base.info.mtu && tap->base.info.mtu < mtu)
		err = error_set(e, -EINVAL,
				"mtu=%u, but tap %s has %u; change it with: ip link set %s mtu %u",
				mtu, tap->name, tap->base.info.mtu, tap->name, mtu);
	if (!err && made && ioctl(s, SIOCGIFFLAGS, &ifr) == 0) {
		ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_UP);
		if (ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
			err = error_set_errno(e, -errno, "cannot bring tap %s up", tap->name);
	}
	close(s);
	return err;
}

int net_tap_open(struct net **out, const struct net_config *config, struct error *e)
{
	struct tap *tap = calloc(1, sizeof(*tap));
	unsigned queues = config->queues;
	bool passed = strncmp(config->target, "fd:", 3) == 0, made = false;
	int err;

	if (!tap)
		return error_set(e, -ENOMEM, "out of memory");
	tap->base.ops = &tap_ops;
	for (unsigned i = 0; i < NET_MAX_QUEUES; i++) {
		tap->queue[i].fd = -1;
		tap->queue[i].base.net = &tap->base;
	}
	if (passed) {
		err = open_by_fd(tap, config->target + 3, &queues, e);
	} else {
		queues = queues ? queues : 1;
		err = queues > NET_MAX_QUEUES
			      ? error_set(e, -EINVAL, "at most %u queues", NET_MAX_QUEUES)
			      : open_by_name(tap, config->target, queues, &made, e);
	}
	for (unsigned i = 0; !err && i < queues; i++)
		err = set_header(tap, tap->queue[i].fd, e);
	/* A passed descriptor may be of another network namespace, where names mean other things.
	 */
	if (!err && !passed)
		err = set_up_interface(tap, config->mtu, made, e);
	if (err) {
		tap_close(&tap->base);
		return err;
	}
	tap->base.info.name = tap->name;
	tap->base.info.queues = queues;
	tap->base.info.offloads = find_offloads(tap->queue[0].fd);
	*out = &tap->base;
	return 0;
}
