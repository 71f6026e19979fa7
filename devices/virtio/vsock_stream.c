/*
 * A connection's bytes from the guest to the host's program: straight from guest memory into the
 * socket while it takes them, else through a buffer as large as the credit we grant (Virtio 1.2
 * section 5.10.6.3). Bytes count as forwarded when the socket has them.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "devices/virtio/vsock.h"

#define DIRECT_IOV 64u

/* How many bytes the socket took, 0 if none now; a program that has gone takes all and forgets it.
 */
static uint32_t send_now(struct vsock *s, struct vsock_conn *c, struct iovec *iov, unsigned n,
			 uint32_t len)
{
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t sent;

	if (c->deaf)
		return len;
	do {
		sent = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return (uint32_t)sent;
	if (errno == EAGAIN)
		return 0;
	/* What it has sent us before it went still has to be read. */
	c->deaf = true;
	vsock_make_ready(s, c);
	return len;
}

/*
 * The guest learns of room in packets that go its way anyhow; a packet of its own is worth it when
 * the guest thinks that little is left, and there is more by a quarter, or all of it.
 */
static void consider_credit(struct vsock *s, struct vsock_conn *c)
{
	uint32_t news = c->forwarded - c->advertised;
	uint32_t known = VSOCK_BUFFER - (c->received - c->advertised);

	if (c->state != VSOCK_OPEN || known > VSOCK_BUFFER / 2)
		return;
	if (news >= VSOCK_BUFFER / 4 || (news > 0 && vsock_buffered(c) == 0)) {
		c->send |= VSOCK_SEND_CREDIT;
		vsock_make_ready(s, c);
	}
}

/* What the guest wants to end, ends when its last byte is out. May remove the connection. */
static void consider_end(struct vsock *s, struct vsock_conn *c)
{
	const uint32_t both = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;

	if (vsock_buffered(c) > 0)
		return;
	if (c->state == VSOCK_ORPHAN || c->guest_shutdown == both)
		vsock_kill(s, c);
	else if (c->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
		shutdown(c->fd, SHUT_WR);
}

void vsock_flush(struct vsock *s, struct vsock_conn *c)
{
	uint32_t len;

	if (vsock_buffered(c) == 0)
		return;
	while ((len = vsock_buffered(c)) > 0) {
		uint32_t at = c->forwarded % VSOCK_BUFFER;
		uint32_t first = len < VSOCK_BUFFER - at ? len : VSOCK_BUFFER - at;
		struct iovec iov[2] = { { c->buffer + at, first }, { c->buffer, len - first } };
		uint32_t sent = send_now(s, c, iov, 2, len);

		if (sent == 0)
			break;
		c->forwarded += sent;
	}
	consider_credit(s, c);
	consider_end(s, c);
}

/* As much as goes straight from guest memory to the socket; consumes it. */
static uint32_t send_direct(struct vsock *s, struct vsock_conn *c, struct virtq_span *span,
			    uint32_t len)
{
	struct iovec iov[DIRECT_IOV];
	uint32_t total = 0, sent;
	unsigned n = 0;

	while (n < span->n && n < DIRECT_IOV && total < len) {
		iov[n] = span->iov[n];
		if (iov[n].iov_len > len - total)
			iov[n].iov_len = len - total;
		total += (uint32_t)iov[n++].iov_len;
	}
	sent = send_now(s, c, iov, n, total);
	virtq_span_skip(span, sent);
	return sent;
}

static bool keep(struct vsock_conn *c, struct virtq_span *span, uint32_t len)
{
	uint32_t at = c->received % VSOCK_BUFFER;
	uint32_t first = len < VSOCK_BUFFER - at ? len : VSOCK_BUFFER - at;

	if (!c->buffer)
		c->buffer = malloc(VSOCK_BUFFER);
	if (!c->buffer)
		return false;
	virtq_span_read(span, c->buffer + at, first);
	virtq_span_read(span, c->buffer, len - first);
	return true;
}

void vsock_forward(struct vsock *s, struct vsock_conn *c, struct virtq_span *span, uint32_t len)
{
	while (len > 0 && vsock_buffered(c) == 0) {
		uint32_t sent = send_direct(s, c, span, len);

		if (sent == 0)
			break;
		c->received += sent;
		c->forwarded += sent;
		len -= sent;
	}
	if (len > 0 && !keep(c, span, len)) {
		vsock_kill(s, c);
		return;
	}
	c->received += len;
	consider_credit(s, c);
}

void vsock_guest_shutdown(struct vsock *s, struct vsock_conn *c, uint32_t flags)
{
	c->guest_shutdown |= flags;
	if (c->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)
		shutdown(c->fd, SHUT_RD);
	consider_end(s, c);
}
