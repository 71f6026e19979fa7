/*
 * Packets to the guest: resets, control packets and data, connections taking turns (Virtio 1.2
 * section 5.10.6). Data is read from the socket straight into the guest's buffers, several of them
 * with one system call, behind the place where each one's header goes.
 */
#include <endian.h>
#include <errno.h>
#include <sys/uio.h>

#include "devices/virtio/vsock.h"

#define HEADER	 sizeof(struct virtio_vsock_hdr)
#define MAX_DATA (64u << 10) /* of one packet; Linux takes no more */
#define TURN	 16u	     /* packets of data a turn */
#define TURN_IOV 64u

/* Buffers for one read: capacity[i] bytes behind the header of the i-th oldest chain. */
struct turn {
	struct iovec iov[TURN_IOV];
	unsigned niov, npackets;
	uint32_t capacity[TURN];
	uint32_t total;
};

/* The oldest buffer goes to the guest with this header and len bytes of data that are there. */
static void send_packet(struct vsock *s, struct virtio_vsock_hdr *header, uint32_t len)
{
	struct virtq_chain *chain = chain_fifo_take(&s->rx);

	header->len = htole32(len);
	header->dst_cid = htole64(s->guest_cid);
	virtq_span_write(&chain->writable, header, HEADER);
	virtio_queue_push(vsock_rxq(s), chain, (uint32_t)HEADER + len);
}

static void send_on(struct vsock *s, struct vsock_conn *c, uint16_t op, uint32_t flags,
		    uint32_t len)
{
	struct virtio_vsock_hdr header = {
		.src_cid = htole64(VSOCK_HOST_CID),
		.src_port = htole32(c->host_port),
		.dst_port = htole32(c->guest_port),
		.type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
		.op = htole16(op),
		.flags = htole32(flags),
		.buf_alloc = htole32(VSOCK_BUFFER),
		.fwd_cnt = htole32(c->forwarded),
	};

	c->advertised = c->forwarded;
	c->send &= ~VSOCK_SEND_CREDIT;
	send_packet(s, &header, len);
}

static void send_resets(struct vsock *s)
{
	while (s->rx.oldest && s->resets) {
		const struct vsock_reset *reset = &s->reset[s->reset_first];
		struct virtio_vsock_hdr header = {
			.src_cid = htole64(reset->host_cid),
			.src_port = htole32(reset->host_port),
			.dst_port = htole32(reset->guest_port),
			.type = htole16(reset->type),
			.op = htole16(VIRTIO_VSOCK_OP_RST),
		};

		send_packet(s, &header, 0);
		s->reset_first = (s->reset_first + 1) % VSOCK_RESETS;
		s->resets--;
	}
	if (s->tx_stalled && s->resets < VSOCK_RESETS) {
		s->tx_stalled = false;
		virtio_queue_kick(&s->v.queue[VSOCK_TXQ]);
	}
}

/* ---- data ------------------------------------------------------------------------------------ */

/* Adds what is behind the header of a chain, at most `most` bytes; how many. */
static uint32_t add_chain(struct turn *t, const struct virtq_chain *chain, uint32_t most)
{
	size_t skip = HEADER;
	uint32_t added = 0;

	for (unsigned i = 0; i < chain->writable.n && t->niov < TURN_IOV && added < most; i++) {
		const struct iovec *iov = &chain->writable.iov[i];
		size_t part;

		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		part = iov->iov_len - skip < most - added ? iov->iov_len - skip : most - added;
		t->iov[t->niov++] = (struct iovec){ (uint8_t *)iov->iov_base + skip, part };
		added += (uint32_t)part;
		skip = 0;
	}
	return added;
}

static void gather(struct turn *t, const struct chain_fifo *rx, uint32_t most)
{
	t->niov = t->npackets = 0;
	t->total = 0;
	for (struct virtq_chain *chain = rx->oldest;
	     chain && t->npackets < TURN && t->niov < TURN_IOV && t->total < most;
	     chain = chain_link(chain)->newer) {
		uint32_t left = most - t->total;
		uint32_t added = add_chain(t, chain, left < MAX_DATA ? left : MAX_DATA);

		if (added == 0)
			break;
		t->capacity[t->npackets++] = added;
		t->total += added;
	}
}

static ssize_t read_socket(struct vsock_conn *c, const struct turn *t)
{
	ssize_t n;

	do {
		n = readv(c->fd, t->iov, (int)t->niov);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static bool may_read(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && c->readable &&
	       !(c->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV);
}

static void send_data(struct vsock *s, struct vsock_conn *c)
{
	struct turn t;
	ssize_t n;

	gather(&t, &s->rx, vsock_credit(c));
	if (t.total == 0)
		return;
	n = read_socket(c, &t);
	if (n <= 0) {
		c->readable = false;
		c->eof |= n == 0;
		if (n < 0 && n != -EAGAIN)
			c->eof = c->deaf = true;
		return;
	}
	for (unsigned i = 0; i < t.npackets && n > 0; i++) {
		uint32_t len = (size_t)n < t.capacity[i] ? (uint32_t)n : t.capacity[i];

		c->sent += len;
		n -= len;
		send_on(s, c, VIRTIO_VSOCK_OP_RW, 0, len);
	}
}

/* ---- turns ----------------------------------------------------------------------------------- */

/* SHUTDOWN flags that the guest should know of; data goes first. */
static uint32_t shutdown_flags(const struct vsock_conn *c)
{
	if (c->state != VSOCK_OPEN)
		return 0;
	return (c->eof ? VIRTIO_VSOCK_SHUTDOWN_SEND : 0u) |
	       (c->deaf ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0u);
}

static bool take_bit(struct vsock_conn *c, unsigned bit)
{
	bool set = c->send & bit;

	c->send &= ~bit;
	return set;
}

/* The first of the control packets that wait; false if there was none. */
static bool send_control(struct vsock *s, struct vsock_conn *c)
{
	if (take_bit(c, VSOCK_SEND_REQUEST)) {
		send_on(s, c, VIRTIO_VSOCK_OP_REQUEST, 0, 0);
	} else if (take_bit(c, VSOCK_SEND_RESPONSE)) {
		send_on(s, c, VIRTIO_VSOCK_OP_RESPONSE, 0, 0);
	} else if (shutdown_flags(c) != c->told) {
		c->told = shutdown_flags(c);
		send_on(s, c, VIRTIO_VSOCK_OP_SHUTDOWN, c->told, 0);
	} else if (take_bit(c, VSOCK_SEND_CREDIT_REQUEST)) {
		send_on(s, c, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, 0);
	} else if (take_bit(c, VSOCK_SEND_CREDIT)) {
		send_on(s, c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
	} else {
		return false;
	}
	return true;
}

/* There is a buffer. */
static void take_turn(struct vsock *s, struct vsock_conn *c)
{
	if (c->state == VSOCK_CLOSED) {
		send_on(s, c, VIRTIO_VSOCK_OP_RST, 0, 0);
		vsock_remove(s, c);
		return;
	}
	if (c->state == VSOCK_ORPHAN)
		return;
	if (!send_control(s, c) && may_read(c))
		send_data(s, c);
	/* Once: the answer may be that there is none yet, and a guest tells when there is. */
	if (may_read(c) && vsock_credit(c) == 0 && !c->credit_asked) {
		c->credit_asked = true;
		c->send |= VSOCK_SEND_CREDIT_REQUEST;
	}
	if (c->send || shutdown_flags(c) != c->told || (may_read(c) && vsock_credit(c) > 0))
		vsock_make_ready(s, c);
}

void vsock_pump(struct vsock *s)
{
	struct virtio_queue *q = vsock_rxq(s);
	struct vsock_conn *c;

	if (!q->running || q->held)
		return;
	send_resets(s);
	while (s->rx.oldest && (c = vsock_next_ready(s)))
		take_turn(s, c);
	virtio_queue_publish(q);
}
