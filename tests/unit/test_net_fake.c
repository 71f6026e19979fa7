/* See test_net_fake.h. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/test_net_fake.h"

static struct fake_net *fake_of(struct net *net)
{
	return (struct fake_net *)net;
}

static struct fake_net_queue *queue_of(struct net_queue *q)
{
	return (struct fake_net_queue *)q;
}

static void watch(struct fake_net_queue *q)
{
	uint32_t events = (q->want ? EPOLLIN : 0) | (q->want_write ? EPOLLOUT : 0);

	cr_assert(event_loop_is_current(q->base.loop));
	if (q->source.loop)
		event_del(&q->source);
	q->source.events = events;
	if (events)
		cr_assert_eq(event_add(q->base.loop, &q->source), 0);
}

static void ready(void *opaque, uint32_t events)
{
	struct fake_net_queue *q = opaque;

	if (q->want_write && (events & EPOLLOUT)) {
		q->want_write = false;
		watch(q);
		q->base.client->writable(q->base.opaque);
	}
	if (q->want && (events & EPOLLIN))
		q->base.client->readable(q->base.opaque);
}

static void fake_close(struct net *net)
{
	struct fake_net *f = fake_of(net);

	for (unsigned i = 0; i < net->info.queues; i++) {
		close(f->queue[i].fd);
		close(f->queue[i].peer);
	}
	if (f->closed)
		*f->closed = 1;
	free(f);
}

static int fake_set_offloads(struct net *net, uint32_t offloads)
{
	__atomic_store_n(&fake_of(net)->offloads, offloads, __ATOMIC_RELEASE);
	return 0;
}

static int fake_set_filter(struct net *net, const uint8_t (*mac)[6], unsigned n, bool allmulti)
{
	struct fake_net *f = fake_of(net);

	cr_assert_leq(n, 8);
	if (n)
		memcpy(f->filter_mac, mac, 6 * n);
	f->filter = n;
	f->allmulti = allmulti;
	return 0;
}

static struct net_queue *fake_queue(struct net *net, unsigned index)
{
	return &fake_of(net)->queue[index].base;
}

static int fake_start(struct net_queue *queue, struct error *e)
{
	struct fake_net_queue *q = queue_of(queue);

	(void)e;
	q->source = (struct event_source){ .fd = q->fd, .callback = ready, .opaque = q };
	return 0;
}

static void fake_stop(struct net_queue *queue)
{
	event_del(&queue_of(queue)->source);
}

static int fake_enable(struct net_queue *queue, bool enable)
{
	__atomic_store_n(&queue_of(queue)->enabled, enable, __ATOMIC_RELEASE);
	return 0;
}

static void fake_want(struct net_queue *queue, bool want)
{
	queue_of(queue)->want = want;
	watch(queue_of(queue));
}

static ssize_t fake_receive(struct net_queue *queue, const struct iovec *iov, int niov)
{
	ssize_t len = readv(queue_of(queue)->fd, iov, niov);

	return len < 0 ? -errno : len;
}

static ssize_t fake_send(struct net_queue *queue, const struct iovec *iov, int niov)
{
	struct fake_net_queue *q = queue_of(queue);
	int refuse = __atomic_load_n(&fake_of(queue->net)->refuse, __ATOMIC_ACQUIRE);
	ssize_t len;

	if (refuse)
		return -refuse;
	len = writev(q->fd, iov, niov);
	if (len >= 0)
		return len;
	if (errno == EAGAIN) {
		q->want_write = true;
		watch(q);
	}
	return -errno;
}

static const struct net_ops fake_ops = {
	.close = fake_close,
	.set_offloads = fake_set_offloads,
	.set_filter = fake_set_filter,
	.queue = fake_queue,
	.start = fake_start,
	.stop = fake_stop,
	.enable = fake_enable,
	.want = fake_want,
	.receive = fake_receive,
	.send = fake_send,
};

struct fake_net *fake_net_create(unsigned queues, uint32_t offloads)
{
	struct fake_net *f = calloc(1, sizeof(*f));
	int size = 4 << 20;

	f->base.ops = &fake_ops;
	f->base.info = (struct net_info){
		.name = "fake", .queues = queues, .offloads = offloads, .mtu = 1500
	};
	for (unsigned i = 0; i < queues; i++) {
		int fds[2];

		cr_assert_eq(
			socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
			0);
		for (int n = 0; n < 2; n++)
			setsockopt(fds[n], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		f->queue[i].base.net = &f->base;
		f->queue[i].fd = fds[0];
		f->queue[i].peer = fds[1];
		f->queue[i].enabled = true;
	}
	return f;
}

void fake_net_close(struct fake_net *f)
{
	fake_close(&f->base);
}

void fake_net_inject(struct fake_net *f, unsigned queue, const void *frame, size_t len)
{
	struct pollfd pfd = { .fd = f->queue[queue].peer, .events = POLLOUT };

	cr_assert_eq(poll(&pfd, 1, 5000), 1);
	cr_assert_eq(write(f->queue[queue].peer, frame, len), (ssize_t)len);
}

ssize_t fake_net_take(struct fake_net *f, unsigned queue, void *buf, size_t size, int ms)
{
	struct pollfd pfd = { .fd = f->queue[queue].peer, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1 ? read(pfd.fd, buf, size) : -1;
}

bool fake_net_pending(struct fake_net *f, unsigned queue)
{
	struct pollfd pfd = { .fd = f->queue[queue].fd, .events = POLLIN };

	return poll(&pfd, 1, 0) == 1;
}
