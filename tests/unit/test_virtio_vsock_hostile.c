/*
 * virtio-vsock against a driver that breaks its rules: every field of a header, operations in the
 * wrong state, credit, floods. Each is answered with RST, or ends the queue, and nothing else is
 * disturbed.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/test_vsock_rig.h"

#define PORT  100u
#define OTHER 101u

/* A connection that does what it should in every test. */
struct scene {
	struct vkit *k;
	int listener, fd, other;
};

static struct scene scene(void)
{
	struct scene s = { .k = vkit("", 4096) };

	s.listener = host_listen(s.k, 7);
	s.fd = guest_connect(s.k, s.listener, PORT, 7);
	s.other = guest_connect(s.k, s.listener, OTHER, 7);
	return s;
}

static void scene_end(struct scene *s)
{
	struct virtio_vsock_hdr h = header(VIRTIO_VSOCK_OP_RW, OTHER, 7);
	uint8_t c;

	h.len = 1;
	send_packet(s->k, &h, 1, 9);
	cr_assert_eq(read(s->other, &c, 1), 1);
	cr_assert_eq(c, pattern(9));
	expect_silence(s->k);
	cr_assert_eq(vrig_status(s->k->r) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	close(s->fd);
	close(s->other);
	close(s->listener);
	vkit_free(s->k);
}

struct violation {
	char name[40];
	struct virtio_vsock_hdr h;
	uint32_t len;  /* bytes behind the header */
	bool survives; /* what it names is no connection, so none ends */
};

#define H(op_, ...)                                                                                \
	{                                                                                          \
		.src_cid = GUEST, .dst_cid = VSOCK_HOST_CID, .src_port = PORT, .dst_port = 7,      \
		.type = VIRTIO_VSOCK_TYPE_STREAM, .op = VIRTIO_VSOCK_OP_##op_,                     \
		.buf_alloc = GUEST_BUF, __VA_ARGS__                                                \
	}

ParameterizedTestParameters(virtio_vsock_hostile, one_packet)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Winitializer-overrides"
#pragma GCC diagnostic ignored "-Woverride-init"
	static struct violation all[] = {
		{ "another guest's CID", H(RW, .src_cid = 4, .len = 4), 4, true },
		{ "a CID of 64 bits", H(RW, .src_cid = 1ull << 32 | GUEST, .len = 4), 4, true },
		{ "the host's CID as its own", H(RW, .src_cid = 2, .len = 4), 4, true },
		{ "to the hypervisor", H(RW, .dst_cid = 0, .len = 4), 4, true },
		{ "to another guest", H(REQUEST, .dst_cid = 4), 0, true },
		{ "to itself", H(REQUEST, .dst_cid = GUEST), 0, true },
		{ "to anybody", H(REQUEST, .dst_cid = ~0ull), 0, true },
		{ "seqpacket", H(RW, .type = 2, .len = 4), 4, true },
		{ "type 0", H(RW, .type = 0, .len = 4), 4, true },
		{ "type 0xffff", H(REQUEST, .type = 0xffff), 0, true },
		{ "no such guest port", H(RW, .src_port = 5, .len = 4), 4, true },
		{ "no such host port", H(RW, .dst_port = 8, .len = 4), 4, true },
		{ "shutdown of nothing", H(SHUTDOWN, .src_port = 5, .flags = 3), 0, true },
		{ "response of nothing", H(RESPONSE, .src_port = 5), 0, true },
		{ "request with data", H(REQUEST, .src_port = 5, .len = 4), 4, true },
		{ "operation 0", H(INVALID, .op = 0), 0, false },
		{ "operation 8", H(INVALID, .op = 8), 0, false },
		{ "operation 0xffff", H(INVALID, .op = 0xffff), 0, false },
		{ "operation 0xffff of nothing", H(INVALID, .op = 0xffff, .src_port = 5), 0, true },
		{ "request twice", H(REQUEST), 0, false },
		{ "response to no request", H(RESPONSE), 0, false },
		{ "longer than its buffer", H(RW, .len = 5), 4, false },
		{ "4 GiB long", H(RW, .len = 0xffffffff), 4, false },
		{ "no data at all there", H(RW, .len = 1), 0, false },
		{ "data in a shutdown", H(SHUTDOWN, .flags = 3, .len = 4), 4, false },
		{ "data in a credit update", H(CREDIT_UPDATE, .len = 4), 4, false },
		{ "shutdown of nothing in particular", H(SHUTDOWN, .flags = 0), 0, false },
		{ "unknown shutdown flags", H(SHUTDOWN, .flags = 7), 0, false },
		{ "credit for what was not sent", H(CREDIT_UPDATE, .fwd_cnt = 1), 0, false },
		{ "credit for a lot", H(RW, .fwd_cnt = 0x7fffffff, .len = 4), 4, false },
	};
#pragma GCC diagnostic pop

	return cr_make_param_array(struct violation, all, sizeof(all) / sizeof(all[0]));
}

ParameterizedTest(struct violation *v, virtio_vsock_hostile, one_packet)
{
	struct scene s = scene();
	struct packet p;
	char c;

	send_packet(s.k, &v->h, v->len, 0);
	p = receive(s.k);
	cr_assert_eq(p.h.op, VIRTIO_VSOCK_OP_RST, "%s: op %u", v->name, p.h.op);
	cr_assert_eq(p.h.src_cid, v->h.dst_cid, "%s", v->name);
	cr_assert_eq(p.h.src_port, v->h.dst_port, "%s", v->name);
	cr_assert_eq(p.h.dst_port, v->h.src_port, "%s", v->name);
	cr_assert_eq(p.h.type, v->h.type, "%s", v->name);
	if (v->survives)
		cr_assert_lt(recv(s.fd, &c, 1, MSG_DONTWAIT), 0, "%s: ended", v->name);
	else
		cr_assert_eq(read(s.fd, &c, 1), 0, "%s: not ended", v->name);
	scene_end(&s);
}

Test(virtio_vsock_hostile, a_reset_is_not_answered)
{
	struct scene s = scene();
	struct virtio_vsock_hdr h = header(VIRTIO_VSOCK_OP_RST, 5, 5);

	send_packet(s.k, &h, 0, 0);
	h.src_cid = 77;
	send_packet(s.k, &h, 0, 0);
	h = header(VIRTIO_VSOCK_OP_RST, PORT, 7);
	h.type = 2;
	send_packet(s.k, &h, 0, 0);
	expect_silence(s.k);
	scene_end(&s);
}

Test(virtio_vsock_hostile, data_after_the_end)
{
	struct scene s = scene();
	struct virtio_vsock_hdr h = header(VIRTIO_VSOCK_OP_SHUTDOWN, PORT, 7);

	h.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
	send_packet(s.k, &h, 0, 0);
	h = header(VIRTIO_VSOCK_OP_RW, PORT, 7);
	h.len = 4;
	send_packet(s.k, &h, 4, 0);
	expect(s.k, VIRTIO_VSOCK_OP_RST, PORT, 7);
	scene_end(&s);
}

Test(virtio_vsock_hostile, operation_before_the_response)
{
	struct scene s = scene();
	int fd = host_connect(s.k);
	struct virtio_vsock_hdr h;
	struct packet p;
	char c;

	cr_assert_eq(write(fd, "CONNECT 9\n", 10), 10);
	p = receive(s.k);
	h = header(VIRTIO_VSOCK_OP_RW, 9, p.h.src_port);
	h.len = 4;
	send_packet(s.k, &h, 4, 0);
	expect(s.k, VIRTIO_VSOCK_OP_RST, 9, p.h.src_port);
	cr_assert_eq(read(fd, &c, 1), 0);
	close(fd);
	scene_end(&s);
}

/* Sends without regard to credit until it is reset; our memory stays bounded. */
Test(virtio_vsock_hostile, more_than_credit, .timeout = 30)
{
	struct scene s = scene();
	struct virtio_vsock_hdr h = header(VIRTIO_VSOCK_OP_RW, PORT, 7);
	struct model_used used;
	uint64_t sent = 0;
	bool reset = false;

	h.len = 32768;
	while (!reset && sent < 64 << 20) {
		send_packet(s.k, &h, h.len, sent);
		sent += h.len;
		while (model_used(&s.k->rx, &used)) {
			const struct virtio_vsock_hdr *r =
				model_at(&s.k->r->memory, s.k->rx_slot[used.id], sizeof(*r));

			reset |= r->op == VIRTIO_VSOCK_OP_RST;
			vkit_post(s.k, 1);
		}
	}
	cr_assert(reset);
	usleep(50000);
	while (model_used(&s.k->rx, &used))
		vkit_post(s.k, 1);
	scene_end(&s);
}

/* No buffers for replies: packets wait; with buffers, each gets its reset. */
Test(virtio_vsock_hostile, flood_without_receive_buffers, .timeout = 30)
{
	struct vkit *k = vkit("", 0);
	struct virtio_vsock_hdr h = header(VIRTIO_VSOCK_OP_RW, 0, 7);
	struct model_used used;
	unsigned returned = 0;

	for (unsigned i = 0; i < SIZE; i++) {
		struct model_buf buf = { 0x780000 + 64ull * i, sizeof(h), false };

		h.src_port = i;
		memcpy(model_at(&k->r->memory, buf.addr, sizeof(h)), &h, sizeof(h));
		cr_assert_geq(model_add(&k->tx, &buf, 1, false), 0);
	}
	vrig_kick(k->r, VSOCK_TXQ);
	for (unsigned i = 0; i < SIZE; i++, returned++)
		vrig_wait_used(&k->tx);
	/* The place for resets is full now. */
	for (unsigned i = 0; i < SIZE; i++) {
		struct model_buf buf = { 0x780000 + 64ull * i, sizeof(h), false };

		cr_assert_geq(model_add(&k->tx, &buf, 1, false), 0);
	}
	vrig_kick(k->r, VSOCK_TXQ);
	usleep(50000);
	cr_assert(!model_used(&k->tx, &used));
	k->rx_len = 4096;
	vkit_post(k, SIZE / 2);
	for (unsigned i = 0; i < 2 * SIZE; i++)
		expect(k, VIRTIO_VSOCK_OP_RST, i % SIZE, 7);
	for (unsigned i = 0; i < SIZE; i++)
		vrig_wait_used(&k->tx);
	vkit_free(k);
}

Test(virtio_vsock_hostile, too_many_connections, .timeout = 60)
{
	struct vkit *k = vkit("", 4096);
	int listener = host_listen(k, 7), fd;
	int *all = calloc(VSOCK_CONNECTIONS, sizeof(*all));

	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
		all[i] = guest_connect(k, listener, 1000 + i, 7);
	send_op(k, VIRTIO_VSOCK_OP_REQUEST, 5, 7);
	expect(k, VIRTIO_VSOCK_OP_RST, 5, 7);
	fd = host_connect(k);
	cr_assert_eq(read(fd, &(char){ 0 }, 1), 0);
	close(fd);
	send_op(k, VIRTIO_VSOCK_OP_RST, 1000, 7);
	fd = accept(listener, NULL, NULL); /* of the refused one, closed at once */
	if (fd >= 0)
		close(fd);
	fd = guest_connect(k, listener, 5, 7);
	close(fd);
	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
		close(all[i]);
	free(all);
	close(listener);
	vkit_free(k);
}

static void breaks(unsigned queue, uint64_t addr, uint32_t len, bool write)
{
	struct scene s = scene();
	struct model *q[] = { &s.k->rx, &s.k->tx, &s.k->event };
	struct model_buf buf = { addr, len, write };

	model_add(q[queue], &buf, 1, false);
	vrig_kick(s.k->r, queue);
	vrig_wait(vrig_status(s.k->r) & VIRTIO_CONFIG_S_NEEDS_RESET);
	vkit_up(s.k);
	vkit_post(s.k, 8);
	close(s.fd);
	close(s.other);
	for (int fd; (fd = accept(s.listener, NULL, NULL)) >= 0;)
		close(fd);
	s.fd = guest_connect(s.k, s.listener, PORT, 7);
	s.other = guest_connect(s.k, s.listener, OTHER, 7);
	scene_end(&s);
}

Test(virtio_vsock_hostile, packet_shorter_than_its_header)
{
	breaks(VSOCK_TXQ, 0x780000, sizeof(struct virtio_vsock_hdr) - 1, false);
}

Test(virtio_vsock_hostile, packet_that_is_to_be_written)
{
	breaks(VSOCK_TXQ, 0x780000, 4096, true);
}

Test(virtio_vsock_hostile, receive_buffer_without_room)
{
	breaks(VSOCK_RXQ, 0x780000, sizeof(struct virtio_vsock_hdr), true);
}

Test(virtio_vsock_hostile, receive_buffer_to_read)
{
	breaks(VSOCK_RXQ, 0x780000, 4096, false);
}

Test(virtio_vsock_hostile, event_buffer_without_room)
{
	breaks(VSOCK_EVENTQ, 0x780000, 3, true);
}
