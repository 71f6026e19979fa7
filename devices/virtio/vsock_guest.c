/*
 * Packets from the guest: Virtio 1.2 section 5.10.6. Everything in a header is checked; what does
 * not fit the connection's state, or no connection, is answered with RST. Which is also what ends a
 * connection whose other side breaks the rules of credit.
 */
#include <endian.h>

#include "devices/virtio/vsock.h"

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len, flags, buf_alloc, fwd_cnt;
	uint16_t type, op;
};

static bool read_packet(struct virtq_span *span, struct packet *p)
{
	struct virtio_vsock_hdr h;

	if (virtq_span_read(span, &h, sizeof(h)) < sizeof(h))
		return false;
	*p = (struct packet){
		.src_cid = le64toh(h.src_cid),
		.dst_cid = le64toh(h.dst_cid),
		.src_port = le32toh(h.src_port),
		.dst_port = le32toh(h.dst_port),
		.len = le32toh(h.len),
		.flags = le32toh(h.flags),
		.buf_alloc = le32toh(h.buf_alloc),
		.fwd_cnt = le32toh(h.fwd_cnt),
		.type = le16toh(h.type),
		.op = le16toh(h.op),
	};
	return true;
}

static void refuse(struct vsock *s, const struct packet *p, const char *why)
{
	const struct vsock_reset reset = {
		.host_cid = p->dst_cid,
		.host_port = p->dst_port,
		.guest_port = p->src_port,
		.type = p->type,
	};

	if (why)
		log_guest(&s->invalid, "%s: invalid packet: %s: reset", s->v.dev.name, why);
	/* A reset is not answered with another one. */
	if (p->op != VIRTIO_VSOCK_OP_RST)
		vsock_add_reset(s, &reset);
}

static void violate(struct vsock *s, struct vsock_conn *c, const char *why)
{
	log_guest(&s->invalid, "%s: invalid packet: %s: reset", s->v.dev.name, why);
	vsock_kill(s, c);
}

/* Why it can be of no connection, or NULL. */
static const char *check_address(const struct vsock *s, const struct packet *p)
{
	if (p->src_cid != s->guest_cid)
		return "not the guest's CID";
	if (p->dst_cid != VSOCK_HOST_CID)
		return "not the host's CID";
	if (p->type != VIRTIO_VSOCK_TYPE_STREAM)
		return "unknown type";
	return NULL;
}

static const char *check_length(const struct packet *p, uint64_t there)
{
	if (p->len > there)
		return "longer than its buffers";
	if (p->len > 0 && p->op != VIRTIO_VSOCK_OP_RW)
		return "data in a control packet";
	return NULL;
}

/*
 * Packets of several threads of the guest may come in another order than their counters were read
 * in, so an older fwd_cnt is no violation; one for bytes that were never sent is.
 */
static bool take_credit(struct vsock_conn *c, const struct packet *p)
{
	if ((int32_t)(p->fwd_cnt - c->sent) > 0)
		return false;
	if ((int32_t)(p->fwd_cnt - c->peer_fwd_cnt) > 0)
		c->peer_fwd_cnt = p->fwd_cnt;
	c->peer_buf_alloc = p->buf_alloc;
	if (vsock_credit(c) > 0)
		c->credit_asked = false;
	return true;
}

static void request(struct vsock *s, const struct packet *p)
{
	int fd = vsock_connect(s, p->dst_port);
	struct vsock_conn *c = fd < 0 ? NULL : vsock_add(s, VSOCK_OPEN, fd);
	if (!c) {
		refuse(s, p, NULL); /* nobody listens there */
		return;
	}
	vsock_bind(s, c, p->src_port, p->dst_port);
	take_credit(c, p);
	c->send |= VSOCK_SEND_RESPONSE;
	vsock_make_ready(s, c);
}

/* The guest has gone; what it sent before it said goodbye in order is still delivered. */
static void reset(struct vsock *s, struct vsock_conn *c)
{
	const uint32_t both = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;

	if (c->state == VSOCK_OPEN && c->guest_shutdown == both && vsock_buffered(c) > 0) {
		vsock_unbind(s, c);
		c->state = VSOCK_ORPHAN;
	} else {
		vsock_remove(s, c);
	}
}

static void response(struct vsock *s, struct vsock_conn *c)
{
	if (c->state != VSOCK_REQUESTED) {
		violate(s, c, "response to no request");
		return;
	}
	c->state = VSOCK_OPEN;
	c->deadline = 0;
	if (vsock_greet(c))
		vsock_make_ready(s, c);
	else
		vsock_kill(s, c);
}

static void data(struct vsock *s, struct vsock_conn *c, const struct packet *p,
		 struct virtq_span *span)
{
	if (c->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
		violate(s, c, "data after the end of data");
	else if (p->len > VSOCK_BUFFER - vsock_buffered(c))
		violate(s, c, "more data than credit");
	else
		vsock_forward(s, c, span, p->len);
}

static void end(struct vsock *s, struct vsock_conn *c, const struct packet *p)
{
	const uint32_t known = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;

	if (p->flags & ~known || !p->flags)
		violate(s, c, "unknown flags of a shutdown");
	else
		vsock_guest_shutdown(s, c, p->flags);
}

static void on_open(struct vsock *s, struct vsock_conn *c, const struct packet *p,
		    struct virtq_span *span)
{
	switch (p->op) {
	case VIRTIO_VSOCK_OP_RW:
		data(s, c, p, span);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		end(s, c, p);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->send |= VSOCK_SEND_CREDIT;
		vsock_make_ready(s, c);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		vsock_make_ready(s, c);
		break;
	default:
		violate(s, c, "unknown operation");
	}
}

static void on_connection(struct vsock *s, struct vsock_conn *c, const struct packet *p,
			  struct virtq_span *span)
{
	uint32_t generation = c->generation;
	const char *why = check_length(p, span->len);

	if (p->op == VIRTIO_VSOCK_OP_RST)
		reset(s, c);
	else if (c->state == VSOCK_CLOSED)
		return; /* a reset is on its way */
	else if (why)
		violate(s, c, why);
	else if (!take_credit(c, p))
		violate(s, c, "credit for what was not sent");
	else if (p->op == VIRTIO_VSOCK_OP_RESPONSE)
		response(s, c);
	else if (c->state == VSOCK_OPEN)
		on_open(s, c, p, span);
	else
		violate(s, c, "operation before the response");
	/* Any packet may bring credit. */
	if (c->state == VSOCK_OPEN && c->generation == generation)
		vsock_make_ready(s, c);
}

const char *vsock_take_packet(struct vsock *s, struct virtq_chain *chain)
{
	struct packet p;
	const char *why;
	struct vsock_conn *c;

	if (!read_packet(&chain->readable, &p))
		return "packet shorter than its header";
	why = check_address(s, &p);
	c = why ? NULL : vsock_find(s, p.src_port, p.dst_port);
	if (c)
		on_connection(s, c, &p, &chain->readable);
	else if (!why && p.op == VIRTIO_VSOCK_OP_REQUEST && p.len == 0)
		request(s, &p);
	else
		refuse(s, &p, why);
	return NULL;
}
