/* See test_vsock_rig.h. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/registry.h"
#include "tests/unit/test_vsock_rig.h"

#define HEADER ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define SLOT   (128ull << 10)
#define RX     MODEL_HIGH /* one buffer after the other, up to SLOT / 2 long */
#define TX     (MODEL_HIGH + (4ull << 20))
#define SLOTS  16u /* for packets from the guest */

uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 131 + (at >> 8) * 17 + (at >> 16));
}

void vkit_post(struct vkit *k, unsigned n)
{
	while (n--) {
		struct model_buf buf = { RX + (uint64_t)(k->rx_next % SIZE) * (SLOT / 2), k->rx_len,
					 true };
		int id = model_add(&k->rx, &buf, 1, false);

		cr_assert_geq(id, 0);
		k->rx_slot[id] = buf.addr;
		k->rx_next++;
	}
	if (model_must_kick(&k->rx))
		vrig_kick(k->r, VSOCK_RXQ);
}

void vkit_up(struct vkit *k)
{
	uint64_t features = vrig_offered(k->r);
	struct model *q[] = { &k->rx, &k->tx, &k->event };

	cr_assert(vrig_negotiate(k->r, features));
	for (unsigned i = 0; i < VSOCK_QUEUES; i++) {
		model_free(q[i]);
		model_init(q[i], &k->r->memory, VRIG_QUEUE * i, SIZE, features);
		vrig_queue(k->r, i, q[i]);
	}
	vrig_driver_ok(k->r);
	cr_assert_eq(vrig_status(k->r) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}

struct vkit *vkit(const char *keys, uint32_t rx_len)
{
	struct vkit *k = calloc(1, sizeof(*k));
	struct rlimit limit = { 4096, 4096 };

	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_NOFILE, &limit);
	strcpy(k->dir, "/tmp/mvm-vsock-XXXXXX");
	cr_assert_not_null(mkdtemp(k->dir));
	snprintf(k->prefix, sizeof(k->prefix), "%s/v", k->dir);
	k->rx_len = rx_len;
	k->r = vrig_create();
	vrig_plug(k->r, &row_virtio_vsock, k->prefix, keys);
	cr_assert_eq(vrig_read(k->r, k->r->device, 4), GUEST);
	vkit_up(k);
	vkit_post(k, rx_len ? SIZE / 2 : 0);
	return k;
}

void vkit_free(struct vkit *k)
{
	char command[64];

	vrig_destroy(k->r);
	cr_expect_neq(access(k->prefix, F_OK), 0, "the socket stays behind");
	model_free(&k->rx);
	model_free(&k->tx);
	model_free(&k->event);
	snprintf(command, sizeof(command), "rm -r %s", k->dir);
	cr_expect_eq(system(command), 0);
	free(k);
}

struct virtio_vsock_hdr header(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	return (struct virtio_vsock_hdr){
		.src_cid = GUEST,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = guest_port,
		.dst_port = host_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = GUEST_BUF,
	};
}

void send_packet(struct vkit *k, const struct virtio_vsock_hdr *h, uint32_t len, uint64_t at)
{
	uint64_t addr = TX + (uint64_t)(k->tx_next++ % SLOTS) * SLOT;
	struct model_buf buf[2] = { { addr, HEADER, false }, { addr + HEADER, len, false } };
	uint8_t *p = model_at(&k->r->memory, addr, HEADER + len);
	struct model_used used;

	while (k->tx.free_slots < SIZE - SLOTS + 2)
		if (!model_used(&k->tx, &used))
			usleep(100);
	memcpy(p, h, HEADER);
	for (uint32_t i = 0; i < len; i++)
		p[HEADER + i] = pattern(at + i);
	cr_assert_geq(model_add(&k->tx, buf, len ? 2 : 1, false), 0);
	vrig_kick(k->r, VSOCK_TXQ);
}

void send_op(struct vkit *k, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	struct virtio_vsock_hdr h = header(op, guest_port, host_port);

	send_packet(k, &h, 0, 0);
}

struct packet receive(struct vkit *k)
{
	struct model_used used = vrig_wait_used(&k->rx);
	struct packet p = { .len = used.len - HEADER };
	const uint8_t *from = model_at(&k->r->memory, k->rx_slot[used.id], k->rx_len);

	cr_assert_geq(used.len, HEADER);
	cr_assert_leq(used.len, k->rx_len);
	memcpy(&p.h, from, HEADER);
	p.data = from + HEADER;
	cr_assert_eq(p.h.len, p.len);
	cr_assert_eq(p.h.dst_cid, GUEST);
	cr_assert(p.h.op == VIRTIO_VSOCK_OP_RW || p.len == 0);
	/* Its place is used again only when all others have been. */
	if (!k->hold_buffers)
		vkit_post(k, 1);
	return p;
}

struct packet expect(struct vkit *k, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	struct packet p = receive(k);

	cr_assert_eq(p.h.op, op, "op %u instead of %u", p.h.op, op);
	cr_assert_eq(p.h.src_cid, VSOCK_HOST_CID);
	cr_assert_eq(p.h.type, VIRTIO_VSOCK_TYPE_STREAM);
	cr_assert_eq(p.h.dst_port, guest_port);
	cr_assert_eq(p.h.src_port, host_port);
	return p;
}

void expect_silence(struct vkit *k)
{
	struct model_used used;

	usleep(20000);
	cr_assert(!model_used(&k->rx, &used));
}

/* ---- the host's programs --------------------------------------------------------------------- */

static struct sockaddr_un address_of(const struct vkit *k, const char *suffix)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	cr_assert_lt(
		snprintf(address.sun_path, sizeof(address.sun_path), "%s%s", k->prefix, suffix),
		(int)sizeof(address.sun_path));
	return address;
}

int host_listen(struct vkit *k, uint32_t port)
{
	struct sockaddr_un address;
	char suffix[16];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(suffix, sizeof(suffix), "_%u", port);
	address = address_of(k, suffix);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(fd, 4096), 0);
	return fd;
}

int host_connect(struct vkit *k)
{
	struct sockaddr_un address = address_of(k, "");
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

int guest_connect(struct vkit *k, int listener, uint32_t guest_port, uint32_t host_port)
{
	struct packet p;
	int fd;

	send_op(k, VIRTIO_VSOCK_OP_REQUEST, guest_port, host_port);
	p = expect(k, VIRTIO_VSOCK_OP_RESPONSE, guest_port, host_port);
	cr_assert_eq(p.h.buf_alloc, VSOCK_BUFFER);
	cr_assert_eq(p.h.fwd_cnt, 0);
	fd = accept(listener, NULL, NULL);
	cr_assert_geq(fd, 0);
	return fd;
}
