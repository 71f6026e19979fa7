/*
 * User-mode NAT: the guest's frames end in libslirp, a TCP/IP stack in this process that speaks to
 * the outside through ordinary sockets of the user who runs mvm. No privilege, no interface, and no
 * offloads. It answers ARP, DHCP (the guest gets place 15 of the network), DNS (place 3, asks the
 * host's servers) and stands for the host (place 2); hostfwd= opens ports of the host to the guest.
 *
 * All of libslirp runs on the queue's loop. Frames for the guest wait in a bounded queue; when it
 * is half full the sockets are left alone, so that a slow guest slows the senders down by TCP's own
 * means.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/net_user_impl.h"

#define FRAMES_SIZE	(512u << 10)
#define ETHERNET_HEADER 14u
#define VLAN_TAG	4u
#define MTU_DEFAULT	1500u
#define SLIRP_API	3 /* of the configuration; enough for what is asked of it */

static struct user *user_of(struct net *net)
{
	return (struct user *)net;
}

static struct user *user_of_queue(struct net_queue *q)
{
	return user_of(q->net);
}

/* Does the rest from the loop: who calls may be in the middle of something. */
static void wake(struct user *user)
{
	uint64_t one = 1;

	if (user->woken || !user->queue.loop)
		return;
	user->woken = write(user->wake.fd, &one, sizeof(one)) == sizeof(one);
}

/* ---- what libslirp calls --------------------------------------------------------------------- */

/* To the guest, once the front end wants it; libslirp is in the middle of something here. */
static ssize_t slirp_sends(const void *buf, size_t len, void *opaque)
{
	struct user *user = opaque;

	if (!net_frames_put(&user->frames, buf, len))
		user->queue.stats.lost++;
	else if (user->want)
		wake(user);
	return (ssize_t)len;
}

static void slirp_complains(const char *msg, void *opaque)
{
	struct user *user = opaque;

	log_guest(&user->guest_error, "user-mode network: %s", msg);
}

static int64_t slirp_clock(void *opaque)
{
	struct timespec now;

	(void)opaque;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void *slirp_timer_new(SlirpTimerCb callback, void *callback_opaque, void *opaque)
{
	struct user_timer *t = calloc(1, sizeof(*t));
	struct user *user = opaque;

	if (!t)
		return NULL;
	*t = (struct user_timer){ .callback = callback, .opaque = callback_opaque, .due = -1 };
	t->next = user->timers;
	user->timers = t;
	return t;
}

static void slirp_timer_free(void *timer, void *opaque)
{
	struct user *user = opaque;

	for (struct user_timer **at = &user->timers; *at; at = &(*at)->next) {
		if (*at == timer) {
			*at = (*at)->next;
			break;
		}
	}
	free(timer);
}

/* Looked at when the next wait begins: libslirp sets timers only while it is being called. */
static void slirp_timer_mod(void *timer, int64_t expire_time, void *opaque)
{
	struct user_timer *t = timer;

	(void)opaque;
	if (t)
		t->due = expire_time < 0 ? 0 : expire_time;
}

static void slirp_registers(int fd, void *opaque)
{
	struct user *user = opaque;

	user_poll_forget(&user->poll, fd); /* a new socket by the number of an old one */
}

static void slirp_unregisters(int fd, void *opaque)
{
	struct user *user = opaque;

	user_poll_forget(&user->poll, fd);
}

static void slirp_notifies(void *opaque)
{
	struct user *user = opaque;

	user->round_due = true;
	wake(user);
}

static const SlirpCb slirp_callbacks = {
	.send_packet = slirp_sends,
	.guest_error = slirp_complains,
	.clock_get_ns = slirp_clock,
	.timer_new = slirp_timer_new,
	.timer_free = slirp_timer_free,
	.timer_mod = slirp_timer_mod,
	.register_poll_fd = slirp_registers,
	.unregister_poll_fd = slirp_unregisters,
	.notify = slirp_notifies,
};

/* ---- towards the guest ----------------------------------------------------------------------- */

/* From more than half full to nearly empty. */
void user_throttle(struct user *user)
{
	if (!user->stopped && user->frames.used > user->frames.size / 2) {
		user->stopped = true;
		event_del(&user->poll.source);
	} else if (user->stopped && user->frames.used < user->frames.size / 8) {
		user->stopped = false;
		event_add(user->queue.loop, &user->poll.source);
		user->round_due = true;
		wake(user);
	}
}

static void later(void *opaque, uint32_t events)
{
	struct user *user = opaque;
	uint64_t count;

	(void)events;
	if (read(user->wake.fd, &count, sizeof(count)) < 0)
		return;
	user->woken = false;
	if (user->round_due && !user->stopped) {
		user->round_due = false;
		user_poll_round(user);
	}
	if (user->want && user->frames.count > 0)
		user->queue.client->readable(user->queue.opaque);
	/* The front end stops now and then to let others have a turn. */
	if (user->want && user->frames.count > 0)
		wake(user);
}

static void user_want(struct net_queue *q, bool want)
{
	struct user *user = user_of_queue(q);

	user->want = want;
	if (want && user->frames.count > 0)
		wake(user);
}

static size_t copy_out(const struct iovec *iov, int niov, size_t offset, const void *from,
		       size_t len)
{
	size_t done = 0;

	for (int i = 0; i < niov && done < len; i++) {
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = iov[i].iov_len - offset;
		if (part > len - done)
			part = len - done;
		memcpy((uint8_t *)iov[i].iov_base + offset, (const uint8_t *)from + done, part);
		done += part;
		offset = 0;
	}
	return done;
}

static ssize_t user_receive(struct net_queue *q, const struct iovec *iov, int niov)
{
	static const uint8_t header[NET_HEADER];
	struct user *user = user_of_queue(q);
	const uint8_t *frame;
	size_t len, done;

	frame = net_frames_peek(&user->frames, &len);
	if (!frame)
		return -EAGAIN;
	done = copy_out(iov, niov, 0, header, NET_HEADER);
	done += copy_out(iov, niov, NET_HEADER, frame, len);
	net_frames_drop(&user->frames);
	/* Into the queue of frames, and out of it. */
	account_add(q->account, ACCOUNT_COPIED, 2 * (uint64_t)len);
	if (user->stopped)
		user_throttle(user);
	return (ssize_t)done;
}

/* ---- from the guest -------------------------------------------------------------------------- */

/*
 * Copies the frame before libslirp looks at it: it reads some fields more than once, and the guest
 * could change them in between.
 */
static ssize_t user_send(struct net_queue *q, const struct iovec *iov, int niov)
{
	struct user *user = user_of_queue(q);
	size_t skip = NET_HEADER, len = 0;

	for (int i = 0; i < niov; i++) {
		size_t part = iov[i].iov_len;

		if (part <= skip) {
			skip -= part;
			continue;
		}
		part -= skip;
		if (part > user->frame_max - len)
			return -EMSGSIZE;
		memcpy(user->frame + len, (const uint8_t *)iov[i].iov_base + skip, part);
		len += part;
		skip = 0;
	}
	if (len < ETHERNET_HEADER)
		return -EINVAL;
	account_add(q->account, ACCOUNT_COPIED, len);
	slirp_input(user->slirp, user->frame, (int)len);
	user->sent = true;
	return (ssize_t)(NET_HEADER + len);
}

static void user_flush(struct net_queue *q)
{
	struct user *user = user_of_queue(q);

	if (!user->sent)
		return;
	user->sent = false;
	user_poll_refill(user);
}

/* ---- life ------------------------------------------------------------------------------------ */

static struct net_queue *user_queue(struct net *net, unsigned index)
{
	(void)index;
	return &user_of(net)->queue;
}

static int user_start(struct net_queue *q, struct error *e)
{
	struct user *user = user_of_queue(q);
	int err;

	user->want = user->woken = user->stopped = false;
	user->wake.events = EPOLLIN;
	user->wake.callback = later;
	user->wake.opaque = user;
	err = event_add(q->loop, &user->wake);
	if (err)
		return error_set_errno(e, err, "event loop");
	err = user_poll_start(user, e);
	if (err)
		event_del(&user->wake);
	return err;
}

static void user_stop(struct net_queue *q)
{
	struct user *user = user_of_queue(q);

	event_del(&user->wake);
	user_poll_stop(user);
}

static void user_close(struct net *net)
{
	struct user *user = user_of(net);

	if (user->slirp)
		slirp_cleanup(user->slirp);
	while (user->timers)
		slirp_timer_free(user->timers, user);
	user_poll_destroy(&user->poll);
	if (user->wake.fd >= 0)
		close(user->wake.fd);
	net_frames_destroy(&user->frames);
	free(user);
}

static const struct net_ops user_ops = {
	.close = user_close,
	.queue = user_queue,
	.start = user_start,
	.stop = user_stop,
	.want = user_want,
	.receive = user_receive,
	.send = user_send,
	.flush = user_flush,
};

/* ---- opening --------------------------------------------------------------------------------- */

static int add_forwards(struct user *user, const char *text, const struct user_network *network,
			struct error *e)
{
	struct user_forward f;
	int more;

	while ((more = user_parse_forward(&text, &f, e)) > 0) {
		char host[INET_ADDRSTRLEN];

		if (f.guest.s_addr &&
		    (f.guest.s_addr & network->mask.s_addr) != network->net.s_addr)
			return error_set(e, -EINVAL, "hostfwd: %s is not in the guest's network",
					 inet_ntop(AF_INET, &f.guest, host, sizeof(host)));
		if (!f.guest.s_addr)
			f.guest = network->dhcp;
		if (slirp_add_hostfwd(user->slirp, f.udp, f.host, f.host_port, f.guest,
				      f.guest_port) < 0)
			return error_set_errno(e, -errno, "hostfwd: %s port %u of %s",
					       f.udp ? "UDP" : "TCP", f.host_port,
					       inet_ntop(AF_INET, &f.host, host, sizeof(host)));
	}
	return more;
}

static int user_set_up(struct user *user, const struct net_config *config, struct error *e)
{
	SlirpConfig slirp = {
		.version = SLIRP_API,
		.restricted = config->restricted,
		.in_enabled = true,
		.in6_enabled = true,
		.vprefix_len = 64,
		.vhostname = "mvm",
		.if_mtu = config->mtu ? config->mtu : MTU_DEFAULT,
		.if_mru = config->mtu ? config->mtu : MTU_DEFAULT,
	};
	struct user_network network;
	int err;

	err = user_parse_network(config->net, &network, e);
	if (!err)
		err = user_poll_init(&user->poll, e);
	if (err)
		return err;
	user->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (user->wake.fd < 0)
		return error_set_errno(e, -errno, "eventfd");
	err = net_frames_init(&user->frames, FRAMES_SIZE);
	if (err)
		return error_set(e, err, "out of memory");
	slirp.vnetwork = network.net;
	slirp.vnetmask = network.mask;
	slirp.vhost = network.host;
	slirp.vnameserver = network.dns;
	slirp.vdhcp_start = network.dhcp;
	inet_pton(AF_INET6, "fec0::", &slirp.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &slirp.vhost6);
	inet_pton(AF_INET6, "fec0::3", &slirp.vnameserver6);
	user->base.info.mtu = (unsigned)slirp.if_mtu;
	user->frame_max = (unsigned)slirp.if_mtu + ETHERNET_HEADER + VLAN_TAG;
	user->slirp = slirp_new(&slirp, &slirp_callbacks, user);
	if (!user->slirp)
		return error_set(e, -EINVAL, "libslirp %s does not take the network's settings",
				 slirp_version_string());
	return config->hostfwd ? add_forwards(user, config->hostfwd, &network, e) : 0;
}

int net_user_open(struct net **out, const struct net_config *config, struct error *e)
{
	struct user *user;
	int err;

	if (config->queues > 1)
		return error_set(e, -EINVAL,
				 "queues=%u: user-mode NAT has one queue; a tap can have several",
				 config->queues);
	user = calloc(1, sizeof(*user));
	if (!user)
		return error_set(e, -ENOMEM, "out of memory");
	user->base.ops = &user_ops;
	user->base.info.name = "user";
	user->base.info.queues = 1;
	user->queue.net = &user->base;
	user->poll.source.fd = user->wake.fd = -1;
	err = user_set_up(user, config, e);
	if (err) {
		user_close(&user->base);
		return err;
	}
	*out = &user->base;
	return 0;
}
