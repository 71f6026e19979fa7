/*
 * virtio-vsock with a model driver that keeps the rules: connections from both sides, streams,
 * credit in both directions, ends of all kinds, reset.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/test_vsock_rig.h"

#define BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

static void send_data(struct vkit *k, uint32_t guest_port, uint32_t host_port, uint32_t len,
		      uint64_t at)
{
	struct virtio_vsock_hdr h = header(VIRTIO_VSOCK_OP_RW, guest_port, host_port);

	h.len = len;
	send_packet(k, &h, len, at);
}

static void send_shutdown(struct vkit *k, uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct virtio_vsock_hdr h = header(VIRTIO_VSOCK_OP_SHUTDOWN, guest_port, host_port);

	h.flags = flags;
	send_packet(k, &h, 0, 0);
}

static void read_pattern(int fd, uint64_t len, uint64_t at)
{
	uint8_t buf[4096];

	while (len > 0) {
		ssize_t n = read(fd, buf, len < sizeof(buf) ? len : sizeof(buf));

		cr_assert_gt(n, 0);
		for (ssize_t i = 0; i < n; i++)
			cr_assert_eq(buf[i], pattern(at + (uint64_t)i));
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
}

static void write_pattern(int fd, uint32_t len, uint64_t at)
{
	uint8_t *buf = malloc(len);

	for (uint32_t i = 0; i < len; i++)
		buf[i] = pattern(at + i);
	cr_assert_eq(write(fd, buf, len), (ssize_t)len);
	free(buf);
}

static bool at_end(int fd)
{
	char c;

	return read(fd, &c, 1) == 0;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void guest_calls(const char *keys)
{
	struct vkit *k = vkit(keys, 4096);
	int listener = host_listen(k, 1234), fd;
	struct packet p;

	fd = guest_connect(k, listener, 50000, 1234);
	send_data(k, 50000, 1234, 5000, 0);
	read_pattern(fd, 5000, 0);
	write_pattern(fd, 10, 7);
	p = expect(k, VIRTIO_VSOCK_OP_RW, 50000, 1234);
	cr_assert_eq(p.len, 10);
	cr_assert_eq(p.h.fwd_cnt, 5000);
	for (unsigned i = 0; i < 10; i++)
		cr_assert_eq(p.data[i], pattern(7 + i));
	send_shutdown(k, 50000, 1234, BOTH);
	expect(k, VIRTIO_VSOCK_OP_RST, 50000, 1234);
	cr_assert(at_end(fd));
	/* The ports are free again. */
	close(fd);
	fd = guest_connect(k, listener, 50000, 1234);
	close(fd);
	close(listener);
	vkit_free(k);
}

Test(virtio_vsock, guest_calls)
{
	guest_calls("");
}

Test(virtio_vsock, guest_calls_packed)
{
	guest_calls("ring=packed,in-order=on");
}

Test(virtio_vsock, guest_calls_on_the_main_loop)
{
	guest_calls("iothread=off");
}

Test(virtio_vsock, nobody_listens)
{
	struct vkit *k = vkit("", 4096);

	send_op(k, VIRTIO_VSOCK_OP_REQUEST, 50000, 1234);
	expect(k, VIRTIO_VSOCK_OP_RST, 50000, 1234);
	vkit_free(k);
}

static uint32_t host_calls(struct vkit *k, int *fd, const char *line, uint32_t guest_port)
{
	char answer[32] = "", wanted[32];
	struct packet p;
	size_t len = 0;

	*fd = host_connect(k);
	cr_assert_eq(write(*fd, line, strlen(line)), (ssize_t)strlen(line));
	p = receive(k);
	cr_assert_eq(p.h.op, VIRTIO_VSOCK_OP_REQUEST);
	cr_assert_eq(p.h.dst_port, guest_port);
	send_op(k, VIRTIO_VSOCK_OP_RESPONSE, guest_port, p.h.src_port);
	snprintf(wanted, sizeof(wanted), "OK %u\n", p.h.src_port);
	while (len == 0 || answer[len - 1] != '\n')
		cr_assert_eq(read(*fd, answer + len++, 1), 1);
	cr_assert_str_eq(answer, wanted);
	return p.h.src_port;
}

Test(virtio_vsock, host_calls)
{
	struct vkit *k = vkit("", 4096);
	uint32_t first, second;
	int a, b;

	first = host_calls(k, &a, "CONNECT 4000\n", 4000);
	/* What follows the line at once is the stream's. */
	second = host_calls(k, &b, "CONNECT 4000\r\nhello", 4000);
	cr_assert_neq(first, second);
	cr_assert_arr_eq(expect(k, VIRTIO_VSOCK_OP_RW, 4000, second).data, "hello", 5);
	send_data(k, 4000, first, 100, 0);
	read_pattern(a, 100, 0);
	send_op(k, VIRTIO_VSOCK_OP_RST, 4000, first);
	cr_assert(at_end(a));
	send_data(k, 4000, second, 100, 0);
	read_pattern(b, 100, 0);
	close(a);
	close(b);
	vkit_free(k);
}

Test(virtio_vsock, guest_refuses)
{
	struct vkit *k = vkit("", 4096);
	struct packet p;
	int fd = host_connect(k);

	cr_assert_eq(write(fd, "CONN", 4), 4);
	usleep(5000);
	cr_assert_eq(write(fd, "ECT 1\n", 6), 6);
	p = receive(k);
	cr_assert_eq(p.h.op, VIRTIO_VSOCK_OP_REQUEST);
	send_op(k, VIRTIO_VSOCK_OP_RST, 1, p.h.src_port);
	cr_assert(at_end(fd));
	close(fd);
	vkit_free(k);
}

Test(virtio_vsock, bad_greetings, .timeout = 30)
{
	static const char *const lines[] = {
		"CONNECT\n",
		"CONNECT \n",
		"CONNECT x\n",
		"CONNECT 1x\n",
		"CONNECT -1\n",
		"connect 1\n",
		"CONNECT 4294967295\n",
		"CONNECT 4294967296\n",
		"CONNECT 99999999999999999\n",
		"\n",
		"CONNECT 1 2\n",
		"CONNECT  1\n",
		"GET / HTTP/1.1 and a lot more without an end",
	};
	struct vkit *k = vkit("", 4096);

	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int fd = host_connect(k);
		char c;

		cr_assert_eq(write(fd, lines[i], strlen(lines[i])), (ssize_t)strlen(lines[i]));
		cr_assert_leq(read(fd, &c, 1), 0, "%s", lines[i]);
		close(fd);
	}
	expect_silence(k);
	/* Without a driver there is nobody to ask. */
	vrig_set_status(k->r, 0);
	int fd = host_connect(k);
	cr_assert_eq(write(fd, "CONNECT 1\n", 10), 10);
	cr_assert(at_end(fd));
	close(fd);
	vkit_free(k);
}

/* ---- streams and credit ---------------------------------------------------------------------- */

/* A guest that reads what it gets, keeps to our credit and tells its own. */
struct guest {
	uint32_t guest_port, host_port;
	uint64_t sent, received;
	uint32_t buf_alloc, fwd_cnt; /* the host's */
	uint64_t updated;	     /* how much of received it knows of */
};

static struct virtio_vsock_hdr guest_header(const struct guest *g, uint16_t op)
{
	struct virtio_vsock_hdr h = header(op, g->guest_port, g->host_port);

	h.fwd_cnt = (uint32_t)g->received;
	return h;
}

static void guest_takes(struct vkit *k, struct guest *g, unsigned n)
{
	struct model_used used;

	/* Any of them. */
	for (;;) {
		uint8_t *p;
		struct virtio_vsock_hdr h;
		struct guest *to = g;

		if (!model_used(&k->rx, &used))
			break;
		p = model_at(&k->r->memory, k->rx_slot[used.id], used.len);
		memcpy(&h, p, sizeof(h));
		while (to < g + n && to->guest_port != h.dst_port)
			to++;
		cr_assert_lt(to - g, n);
		cr_assert(h.op == VIRTIO_VSOCK_OP_RW || h.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE ||
				  h.op == VIRTIO_VSOCK_OP_CREDIT_REQUEST,
			  "op %u", h.op);
		for (uint32_t i = 0; i < h.len; i++)
			cr_assert_eq(p[sizeof(h) + i], pattern(to->received + i));
		to->received += h.len;
		cr_assert_leq(to->received - to->updated, GUEST_BUF, "more than credit");
		to->buf_alloc = h.buf_alloc;
		to->fwd_cnt = h.fwd_cnt;
		vkit_post(k, 1);
		if (to->received - to->updated >= GUEST_BUF / 2 ||
		    h.op == VIRTIO_VSOCK_OP_CREDIT_REQUEST) {
			struct virtio_vsock_hdr u = guest_header(to, VIRTIO_VSOCK_OP_CREDIT_UPDATE);

			to->updated = to->received;
			send_packet(k, &u, 0, 0);
		}
	}
	model_sleep(&k->rx);
}

static void guest_gives(struct vkit *k, struct guest *g, uint64_t total)
{
	uint64_t in_flight = (uint32_t)((uint32_t)g->sent - g->fwd_cnt);
	uint64_t len = g->buf_alloc - in_flight;
	struct virtio_vsock_hdr h = guest_header(g, VIRTIO_VSOCK_OP_RW);

	if (len > total - g->sent)
		len = total - g->sent;
	if (len > 30000)
		len = 30000;
	if (len == 0)
		return;
	h.len = (uint32_t)len;
	g->updated = g->received;
	send_packet(k, &h, (uint32_t)len, g->sent);
	g->sent += len;
}

static void streams(const char *keys, uint32_t rx_len, unsigned n, uint64_t total)
{
	struct vkit *k = vkit(keys, rx_len);
	int listener = host_listen(k, 7), fd[8];
	uint64_t written[8] = { 0 }, seen[8] = { 0 };
	struct guest g[8] = { 0 };
	unsigned done = 0;

	for (unsigned i = 0; i < n; i++) {
		g[i] = (struct guest){ .guest_port = 100 + i,
				       .host_port = 7,
				       .buf_alloc = VSOCK_BUFFER };
		fd[i] = guest_connect(k, listener, 100 + i, 7);
	}
	while (done < n) {
		done = 0;
		for (unsigned i = 0; i < n; i++) {
			uint8_t buf[8192];
			uint64_t want = total - written[i];
			ssize_t got;

			if (want > sizeof(buf))
				want = sizeof(buf);
			for (uint64_t j = 0; j < want; j++)
				buf[j] = pattern(written[i] + j);
			got = want ? send(fd[i], buf, want, MSG_DONTWAIT) : 0;
			written[i] += got > 0 ? (uint64_t)got : 0;
			got = recv(fd[i], buf, sizeof(buf), MSG_DONTWAIT);
			for (ssize_t j = 0; j < got; j++)
				cr_assert_eq(buf[j], pattern(seen[i] + (uint64_t)j));
			seen[i] += got > 0 ? (uint64_t)got : 0;
			guest_gives(k, &g[i], total);
			guest_takes(k, g, n);
			done += seen[i] == total && g[i].received == total;
		}
	}
	for (unsigned i = 0; i < n; i++)
		close(fd[i]);
	close(listener);
	vkit_free(k);
}

Test(virtio_vsock, stream, .timeout = 60)
{
	streams("", 3776, 1, 4 << 20);
}

Test(virtio_vsock, streams, .timeout = 60)
{
	streams("ring=packed", 3776, 8, 1 << 20);
}

Test(virtio_vsock, streams_in_large_buffers, .timeout = 60)
{
	streams("in-order=on,iothread=off", 60000, 4, 2 << 20);
}

Test(virtio_vsock, streams_in_tiny_buffers, .timeout = 60)
{
	streams("", 60, 3, 20000);
}

/* A program that reads nothing: what the credit allows is kept, more is a violation. */
Test(virtio_vsock, slow_reader, .timeout = 30)
{
	struct vkit *k = vkit("", 4096);
	int listener = host_listen(k, 7);
	int fd = guest_connect(k, listener, 100, 7);
	struct guest g = { .guest_port = 100, .host_port = 7, .buf_alloc = VSOCK_BUFFER };
	uint64_t at_rest;

	/* Until the socket and the buffer are full: then nothing more is granted. */
	for (unsigned idle = 0; idle < 100; usleep(1000)) {
		uint64_t before = g.sent;

		guest_gives(k, &g, 64 << 20);
		guest_takes(k, &g, 1);
		idle = g.sent == before ? idle + 1 : 0;
	}
	cr_assert_geq(g.sent, VSOCK_BUFFER);
	at_rest = g.sent;
	/* Reading makes room, and the guest is told. */
	read_pattern(fd, at_rest, 0);
	for (unsigned i = 0; i < 1000 && g.sent == at_rest; i++, usleep(1000)) {
		guest_takes(k, &g, 1);
		guest_gives(k, &g, at_rest + 1000);
	}
	read_pattern(fd, 1000, at_rest);
	close(fd);
	close(listener);
	vkit_free(k);
}

Test(virtio_vsock, guest_has_no_room, .timeout = 30)
{
	struct vkit *k = vkit("", 4096);
	int listener = host_listen(k, 7), fd;
	struct virtio_vsock_hdr h = header(VIRTIO_VSOCK_OP_REQUEST, 100, 7);

	h.buf_alloc = 1000;
	send_packet(k, &h, 0, 0);
	expect(k, VIRTIO_VSOCK_OP_RESPONSE, 100, 7);
	fd = accept(listener, NULL, NULL);
	write_pattern(fd, 5000, 0);
	cr_assert_eq(expect(k, VIRTIO_VSOCK_OP_RW, 100, 7).len, 1000);
	expect(k, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 100, 7);
	expect_silence(k);
	/* Less room than is in use is no room. */
	h = header(VIRTIO_VSOCK_OP_CREDIT_UPDATE, 100, 7);
	h.buf_alloc = 500;
	send_packet(k, &h, 0, 0);
	expect_silence(k);
	h.buf_alloc = 1000;
	h.fwd_cnt = 300;
	send_packet(k, &h, 0, 0);
	cr_assert_eq(expect(k, VIRTIO_VSOCK_OP_RW, 100, 7).len, 300);
	expect(k, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 100, 7);
	/* An older counter is no harm, and no credit. */
	h.fwd_cnt = 200;
	send_packet(k, &h, 0, 0);
	expect_silence(k);
	close(fd);
	close(listener);
	vkit_free(k);
}

Test(virtio_vsock, credit_on_request)
{
	struct vkit *k = vkit("", 4096);
	int listener = host_listen(k, 7);
	int fd = guest_connect(k, listener, 100, 7);
	struct packet p;

	send_data(k, 100, 7, 10, 0);
	read_pattern(fd, 10, 0);
	send_op(k, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 100, 7);
	p = expect(k, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 100, 7);
	cr_assert_eq(p.h.buf_alloc, VSOCK_BUFFER);
	cr_assert_eq(p.h.fwd_cnt, 10);
	close(fd);
	close(listener);
	vkit_free(k);
}

/* ---- ends ------------------------------------------------------------------------------------ */

Test(virtio_vsock, host_closes)
{
	struct vkit *k = vkit("", 4096);
	int listener = host_listen(k, 7);
	int fd = guest_connect(k, listener, 100, 7);
	struct packet p;
	uint32_t flags = 0;

	write_pattern(fd, 5000, 0);
	close(fd);
	/*
	 * The data, and that no more comes and none is read, in whatever steps: that the host reads
	 * no more may be noticed before its last words are sent on.
	 */
	for (uint32_t got = 0; got < 5000 || flags != BOTH;) {
		p = receive(k);
		if (p.h.op == VIRTIO_VSOCK_OP_RW) {
			cr_assert(!(flags & VIRTIO_VSOCK_SHUTDOWN_SEND));
			got += p.len;
		} else {
			cr_assert_eq(p.h.op, VIRTIO_VSOCK_OP_SHUTDOWN);
			cr_assert_eq(p.h.flags & flags, flags);
			flags = p.h.flags;
		}
	}
	/* Data that crosses it is lost without harm. */
	send_data(k, 100, 7, 100, 0);
	send_op(k, VIRTIO_VSOCK_OP_RST, 100, 7);
	expect_silence(k);
	send_data(k, 100, 7, 100, 0);
	expect(k, VIRTIO_VSOCK_OP_RST, 100, 7);
	close(listener);
	vkit_free(k);
}

Test(virtio_vsock, host_closes_half)
{
	struct vkit *k = vkit("", 4096);
	int listener = host_listen(k, 7);
	int fd = guest_connect(k, listener, 100, 7);
	struct packet p;

	write_pattern(fd, 10, 0);
	shutdown(fd, SHUT_WR);
	cr_assert_eq(expect(k, VIRTIO_VSOCK_OP_RW, 100, 7).len, 10);
	p = expect(k, VIRTIO_VSOCK_OP_SHUTDOWN, 100, 7);
	cr_assert_eq(p.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_data(k, 100, 7, 3000, 0);
	read_pattern(fd, 3000, 0);
	send_shutdown(k, 100, 7, BOTH);
	expect(k, VIRTIO_VSOCK_OP_RST, 100, 7);
	cr_assert(at_end(fd));
	close(fd);
	close(listener);
	vkit_free(k);
}

Test(virtio_vsock, guest_closes_half)
{
	struct vkit *k = vkit("", 4096);
	int listener = host_listen(k, 7);
	int fd = guest_connect(k, listener, 100, 7);

	send_data(k, 100, 7, 3000, 0);
	send_shutdown(k, 100, 7, VIRTIO_VSOCK_SHUTDOWN_SEND);
	read_pattern(fd, 3000, 0);
	cr_assert(at_end(fd));
	write_pattern(fd, 10, 0);
	cr_assert_eq(expect(k, VIRTIO_VSOCK_OP_RW, 100, 7).len, 10);
	send_shutdown(k, 100, 7, VIRTIO_VSOCK_SHUTDOWN_RCV);
	expect(k, VIRTIO_VSOCK_OP_RST, 100, 7);
	cr_assert_lt(send(fd, "x", 1, MSG_NOSIGNAL), 0);
	close(fd);
	close(listener);
	vkit_free(k);
}

/* The guest says goodbye with its bytes still in our buffer, and does not wait for the reader. */
Test(virtio_vsock, last_words_are_delivered, .timeout = 30)
{
	struct vkit *k = vkit("", 4096);
	int listener = host_listen(k, 7);
	int fd = guest_connect(k, listener, 100, 7), again;
	struct guest g = { .guest_port = 100, .host_port = 7, .buf_alloc = VSOCK_BUFFER };

	for (unsigned idle = 0; idle < 50; usleep(1000)) {
		uint64_t before = g.sent;

		guest_gives(k, &g, 64 << 20);
		guest_takes(k, &g, 1);
		idle = g.sent == before ? idle + 1 : 0;
	}
	send_shutdown(k, 100, 7, BOTH);
	expect_silence(k);
	send_op(k, VIRTIO_VSOCK_OP_RST, 100, 7);
	/* The same ports again meanwhile. */
	again = guest_connect(k, listener, 100, 7);
	read_pattern(fd, g.sent, 0);
	cr_assert(at_end(fd));
	send_data(k, 100, 7, 10, 5);
	read_pattern(again, 10, 5);
	close(fd);
	close(again);
	close(listener);
	vkit_free(k);
}

Test(virtio_vsock, reset_closes_all)
{
	struct vkit *k = vkit("ring=packed", 4096);
	int listener = host_listen(k, 7);
	int fd = guest_connect(k, listener, 100, 7), greeting = host_connect(k);

	write_pattern(fd, 10, 0);
	expect(k, VIRTIO_VSOCK_OP_RW, 100, 7);
	vrig_set_status(k->r, 0);
	cr_assert(at_end(fd));
	cr_assert(at_end(greeting));
	vkit_up(k);
	vkit_post(k, 8);
	close(fd);
	expect_silence(k);
	fd = guest_connect(k, listener, 100, 7);
	close(fd);
	close(greeting);
	close(listener);
	vkit_free(k);
}

Test(virtio_vsock, pause_keeps_connections)
{
	struct vkit *k = vkit("", 4096);
	int listener = host_listen(k, 7);
	int fd = guest_connect(k, listener, 100, 7);
	struct error e;

	k->r->dev->ops->pause(k->r->dev);
	write_pattern(fd, 10, 0);
	send_data(k, 100, 7, 20, 0);
	expect_silence(k);
	k->r->dev->ops->start(k->r->dev, &e);
	cr_assert_eq(expect(k, VIRTIO_VSOCK_OP_RW, 100, 7).len, 10);
	read_pattern(fd, 20, 0);
	close(fd);
	close(listener);
	vkit_free(k);
}

Test(virtio_vsock, transport_reset)
{
	struct vkit *k = vkit("", 4096);
	struct vsock *s = (struct vsock *)k->r->dev;
	int listener = host_listen(k, 7);
	int fd = guest_connect(k, listener, 100, 7);
	struct model_buf buf = { 0x780000, 4, true };
	bool told = false;

	cr_assert(!vsock_transport_reset(s), "no buffer");
	cr_assert(at_end(fd));
	*(uint32_t *)model_at(&k->r->memory, buf.addr, 4) = 0xffffffff;
	model_add(&k->event, &buf, 1, false);
	vrig_kick(k->r, VSOCK_EVENTQ);
	vrig_wait(told || (told = vsock_transport_reset(s)));
	cr_assert_eq(vrig_wait_used(&k->event).len, 4);
	cr_assert_eq(*(uint32_t *)model_at(&k->r->memory, buf.addr, 4), 0);
	close(fd);
	close(listener);
	vkit_free(k);
}
