/*
 * virtio-net's data: frames of all sizes both ways over split and packed rings, buffers cut in all
 * ways, too few or too small ones, a backend that is full, and drivers that break the rules.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/test_net_rig.h"

#define BIT(n)	 MODEL_BIT(n)
#define PACKED	 BIT(VIRTIO_F_RING_PACKED)
#define MRG	 BIT(VIRTIO_NET_F_MRG_RXBUF)
#define OFFLOADS (NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6)

static const size_t sizes[] = { 14,   15,   17,	   18,	  19,	 42,	60,   64,   65,
				1499, 1500, 1514,  1515,  2048,	 4095,	9014, 4096, 16384,
				60,   1514, 30000, 65535, 65550, 65553, 14 };

#define NSIZES (sizeof(sizes) / sizeof(sizes[0]))

static const char *const rings[] = { "ring=split",
				     "ring=packed",
				     "ring=split,event-idx=off",
				     "ring=packed,event-idx=off",
				     "ring=split,in-order=on",
				     "ring=split,iothread=off" };

static const unsigned which[] = { 0, 1, 2, 3, 4, 5 };

ParameterizedTestParameters(net_virtio, sends)
{
	return cr_make_param_array(unsigned, (void *)which, sizeof(which) / sizeof(which[0]));
}

ParameterizedTestParameters(net_virtio, receives_mergeable)
{
	return cr_make_param_array(unsigned, (void *)which, sizeof(which) / sizeof(which[0]));
}

/* Cuts len bytes at addr into random pieces. */
static unsigned cut(struct model_buf *buf, unsigned max, uint64_t addr, size_t len, bool write,
		    uint64_t *random)
{
	unsigned n = 0;

	while (len > 0) {
		size_t part = n + 1 == max ? len : 1 + model_random(random) % len;

		buf[n++] = (struct model_buf){ addr, (uint32_t)part, write };
		addr += part;
		len -= part;
	}
	return n;
}

ParameterizedTest(const unsigned *ring, net_virtio, sends, .timeout = 60)
{
	struct nrig *n = nrig_create(1, OFFLOADS, rings[*ring]);
	static uint8_t wanted[FAKE_BUF], got[FAKE_BUF];
	uint64_t random = 1;

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	for (unsigned i = 0; i < 4 * NSIZES; i++) {
		size_t len = NET_HEADER + sizes[i % NSIZES];
		struct model_buf buf[NRIG_SIZE];
		unsigned nbuf;

		nrig_fill(wanted, len - NET_HEADER, i);
		wanted[1] = (uint8_t)i; /* the header goes through as it is */
		memcpy(nrig_at(n, NRIG_BUFFERS, len), wanted, len);
		nbuf = cut(buf, 1 + i % (NRIG_SIZE - 1), NRIG_BUFFERS, len, false, &random);
		cr_assert_geq(nrig_add(n, 1, buf, nbuf), 0);
		cr_assert_eq(fake_net_take(n->net, 0, got, sizeof(got), 5000), (ssize_t)len);
		cr_assert_arr_eq(got, wanted, len);
		cr_assert_eq(vrig_wait_used(&n->queue[1]).len, 0);
	}
	nrig_destroy(n);
}

/* Takes one received frame from its buffers; its length with header. */
static size_t take_received(struct nrig *n, uint8_t *buf, const uint64_t *addr, unsigned *chains)
{
	struct virtio_net_hdr_v1 hdr;
	size_t len = 0;
	unsigned want = 1;

	for (unsigned i = 0; i < want; i++) {
		struct model_used used = vrig_wait_used(&n->queue[0]);

		memcpy(buf + len, nrig_at(n, addr[used.id], used.len), used.len);
		len += used.len;
		if (i > 0)
			continue;
		cr_assert_geq(used.len, NET_HEADER);
		memcpy(&hdr, buf, sizeof(hdr));
		want = hdr.num_buffers;
		cr_assert_geq(want, 1);
	}
	*chains = want;
	memset(buf + offsetof(struct virtio_net_hdr_v1, num_buffers), 0, 2);
	return len;
}

ParameterizedTest(const unsigned *ring, net_virtio, receives_mergeable, .timeout = 60)
{
	static uint8_t wanted[FAKE_BUF], got[FAKE_BUF];
	struct nrig *n = nrig_create(1, OFFLOADS, rings[*ring]);
	uint64_t addr[64], random = 2, at = NRIG_BUFFERS;
	unsigned chains;

	nrig_up(n, NRIG_ALL, 64);
	for (unsigned i = 0; i < 4 * NSIZES; i++) {
		size_t len = NET_HEADER + sizes[i % NSIZES];

		/* As many as there is room for, each in up to three pieces. */
		for (;;) {
			uint32_t room = i < NSIZES ? 4096 : 2000 + model_random(&random) % 2500;
			struct model_buf buf[3];
			unsigned pieces =
				cut(buf, 1 + model_random(&random) % 2, at, room, true, &random);
			int id;

			if (n->queue[0].free_slots < 3)
				break;
			id = nrig_add(n, 0, buf, pieces);
			addr[id] = at;
			at = at + 8192 < NRIG_BUFFERS + 0x700000 ? at + 8192 : NRIG_BUFFERS;
		}
		/* With pieces of any size 64 KiB may not fit the ring: a smaller frame then. */
		if (i >= NSIZES && len > 40000)
			len = 40000;
		nrig_fill(wanted, len - NET_HEADER, i);
		fake_net_inject(n->net, 0, wanted, len);
		cr_assert_eq(take_received(n, got, addr, &chains), len, "%u of %zu bytes", i, len);
		cr_assert_arr_eq(got, wanted, len);
	}
	nrig_destroy(n);
}

/* Buffers of a few bytes each: the headers themselves are spread over several. */
Test(net_virtio, receives_into_tiny_buffers, .timeout = 30)
{
	struct nrig *n = nrig_create(1, 0, "");
	static uint8_t wanted[FAKE_BUF], got[FAKE_BUF];
	uint64_t addr[256];
	unsigned chains;

	nrig_up(n, NRIG_ALL, 256);
	for (unsigned i = 0; i < 20; i++) {
		size_t len = NET_HEADER + 14 + 40 * i;

		while (n->queue[0].free_slots > 0) {
			unsigned at = n->queue[0].free_head;
			const struct model_buf buf = { NRIG_BUFFERS + 64 * at, NET_HEADER + i % 7,
						       true };

			addr[at] = buf.addr;
			cr_assert_eq(nrig_add(n, 0, &buf, 1), (int)at);
		}
		nrig_fill(wanted, len - NET_HEADER, i);
		fake_net_inject(n->net, 0, wanted, len);
		cr_assert_eq(take_received(n, got, addr, &chains), len);
		cr_assert_arr_eq(got, wanted, len);
		cr_assert_gt(chains, i ? 2 : 1);
	}
	nrig_destroy(n);
}

static int add_rx(struct nrig *n, unsigned queue, uint64_t addr, uint32_t len)
{
	const struct model_buf buf = { addr, len, true };

	return nrig_add(n, queue, &buf, 1);
}

/* Nothing is lost while buffers are short: the frame waits, and so do those behind it. */
Test(net_virtio, a_long_frame_waits_for_buffers, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	static uint8_t wanted[2][FAKE_BUF], got[FAKE_BUF];
	uint64_t addr[NRIG_SIZE];
	struct model_used used;
	unsigned chains;

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	for (unsigned i = 0; i < 2; i++) {
		nrig_fill(wanted[i], 10000 + i, i);
		fake_net_inject(n->net, 0, wanted[i], NET_HEADER + 10000 + i);
	}
	for (unsigned i = 0; i < 14; i++) {
		int id = add_rx(n, 0, NRIG_BUFFERS + 0x10000 * i, 1500);

		addr[id] = NRIG_BUFFERS + 0x10000 * i;
		if (i == 5) {
			nrig_settle(n, 0);
			cr_assert_not(model_used(&n->queue[0], &used), "cut");
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(take_received(n, got, addr, &chains), NET_HEADER + 10000 + i);
		cr_assert_arr_eq(got, wanted[i], NET_HEADER + 10000 + i);
		cr_assert_eq(chains, 7);
	}
	nrig_destroy(n);
}

/* A ring that is full of buffers and still too small will never get better. */
Test(net_virtio, a_frame_that_never_fits_is_dropped, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	struct virtio_net *vn = virtio_net_of((struct virtio_device *)n->v->dev);
	static uint8_t wanted[FAKE_BUF], got[FAKE_BUF];
	uint64_t addr[4];
	unsigned chains;

	nrig_up(n, NRIG_ALL, 4);
	for (unsigned i = 0; i < 4; i++) {
		int id = add_rx(n, 0, NRIG_BUFFERS + 0x10000 * i, 1500);

		addr[id] = NRIG_BUFFERS + 0x10000 * i;
	}
	nrig_fill(wanted, 60000, 1);
	fake_net_inject(n->net, 0, wanted, 60012);
	nrig_fill(wanted, 5000, 2);
	fake_net_inject(n->net, 0, wanted, 5012);
	cr_assert_eq(take_received(n, got, addr, &chains), 5012);
	cr_assert_arr_eq(got, wanted, 5012);
	cr_assert_eq(vn->pair[0].rx.stats.dropped, 1);
	nrig_destroy(n);
}

Test(net_virtio, without_mergeable_one_buffer_takes_one_frame, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	struct virtio_net *vn = virtio_net_of((struct virtio_device *)n->v->dev);
	static uint8_t wanted[FAKE_BUF], got[FAKE_BUF];
	uint64_t addr[NRIG_SIZE];
	unsigned chains;

	nrig_up(n, ~MRG, NRIG_SIZE);
	for (unsigned i = 0; i < 4; i++) {
		int id = add_rx(n, 0, NRIG_BUFFERS + 0x20000 * i, i == 3 ? 70000 : 1526);

		addr[id] = NRIG_BUFFERS + 0x20000 * i;
	}
	for (unsigned i = 0; i < 4; i++) {
		/* The third does not fit, and takes no buffer. */
		const size_t len = NET_HEADER + (size_t[]){ 60, 1514, 1515, 100 }[i];

		nrig_fill(wanted, len - NET_HEADER, i);
		fake_net_inject(n->net, 0, wanted, len);
		if (i == 2)
			continue;
		cr_assert_eq(take_received(n, got, addr, &chains), len);
		cr_assert_arr_eq(got, wanted, len);
		cr_assert_eq(chains, 1);
	}
	cr_assert_eq(vn->pair[0].rx.stats.dropped, 1);
	nrig_fill(wanted, 65553, 9);
	fake_net_inject(n->net, 0, wanted, 65565);
	cr_assert_eq(take_received(n, got, addr, &chains), 65565);
	cr_assert_arr_eq(got, wanted, 65565);
	nrig_destroy(n);
}

/* The header says only what the driver has agreed to understand. */
Test(net_virtio, the_header_keeps_to_what_was_negotiated, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	uint64_t guest = BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
			 BIT(VIRTIO_NET_F_GUEST_TSO6);
	static uint8_t frame[FAKE_BUF], got[FAKE_BUF];
	struct virtio_net_hdr_v1 *hdr = (void *)frame;
	uint64_t addr[NRIG_SIZE];
	unsigned chains;

	for (unsigned agreed = 0; agreed < 2; agreed++) {
		nrig_up(n, agreed ? NRIG_ALL : ~guest, NRIG_SIZE);
		cr_assert_eq(n->net->offloads, agreed ? OFFLOADS : 0u);
		for (unsigned i = 0; i < 4; i++)
			addr[add_rx(n, 0, NRIG_BUFFERS + 0x10000 * i, 2000)] =
				NRIG_BUFFERS + 0x10000 * i;
		nrig_fill(frame, 100, 1);
		hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		fake_net_inject(n->net, 0, frame, 112);
		hdr->flags = 0;
		hdr->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		fake_net_inject(n->net, 0, frame, 112);
		hdr->gso_type = 0;
		hdr->flags = VIRTIO_NET_HDR_F_DATA_VALID;
		fake_net_inject(n->net, 0, frame, 112);
		if (agreed) {
			cr_assert_eq(take_received(n, got, addr, &chains), 112);
			cr_assert_eq(got[0], VIRTIO_NET_HDR_F_NEEDS_CSUM);
			cr_assert_eq(take_received(n, got, addr, &chains), 112);
			cr_assert_eq(got[1], VIRTIO_NET_HDR_GSO_TCPV4);
		}
		cr_assert_eq(take_received(n, got, addr, &chains), 112);
		cr_assert_eq(got[0], agreed ? VIRTIO_NET_HDR_F_DATA_VALID : 0);
		cr_assert_eq(got[1], 0);
	}
	nrig_destroy(n);
}

/* A full backend: frames wait in order, all arrive, none twice. */
Test(net_virtio, waits_for_a_full_backend, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	static uint8_t got[FAKE_BUF];
	unsigned sent = 0, taken = 0, done = 0;
	struct model_used used;

	nrig_up(n, NRIG_ALL, 256);
	while (taken < 2000) {
		while (sent < 2000 && n->queue[1].free_slots > 0) {
			uint64_t at = NRIG_BUFFERS + 0x4000 * (sent % 256);
			const struct model_buf buf = { at, NET_HEADER + 15000, false };

			memset(nrig_at(n, at, 64), 0, 64);
			memcpy(nrig_at(n, at + NET_HEADER, 4), &sent, 4);
			cr_assert_geq(nrig_add(n, 1, &buf, 1), 0);
			sent++;
		}
		usleep(100);
		for (unsigned i = 0; i < 200 && taken < sent; i++) {
			unsigned number;

			if (fake_net_take(n->net, 0, got, sizeof(got), 0) < 0)
				break;
			memcpy(&number, got + NET_HEADER, 4);
			cr_assert_eq(number, taken);
			taken++;
		}
		while (model_used(&n->queue[1], &used))
			done++;
	}
	while (done < 2000) {
		vrig_wait_used(&n->queue[1]);
		done++;
	}
	nrig_destroy(n);
}

/* What the backend refuses is lost and counted; the queue goes on. */
Test(net_virtio, a_refused_frame_is_counted, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	struct virtio_net *vn = virtio_net_of((struct virtio_device *)n->v->dev);
	const struct model_buf buf = { NRIG_BUFFERS, 100, false };
	const struct model_buf giant[] = { { NRIG_BUFFERS, 65000, false },
					   { NRIG_BUFFERS, 1000, false } };
	static uint8_t got[FAKE_BUF];

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	__atomic_store_n(&n->net->refuse, EINVAL, __ATOMIC_RELEASE);
	nrig_add(n, 1, &buf, 1);
	vrig_wait_used(&n->queue[1]);
	__atomic_store_n(&n->net->refuse, 0, __ATOMIC_RELEASE);
	nrig_add(n, 1, giant, 2);
	vrig_wait_used(&n->queue[1]);
	cr_assert_eq(vn->pair[0].tx.stats.dropped, 2);
	cr_assert_eq(vn->pair[0].backend->stats.refused, 1);
	nrig_add(n, 1, &buf, 1);
	cr_assert_eq(fake_net_take(n->net, 0, got, sizeof(got), 5000), 100);
	nrig_destroy(n);
}

/* ---- drivers that break the rules ------------------------------------------------------------ */

static void check_broken_then_well(struct nrig *n)
{
	static uint8_t got[FAKE_BUF];
	const struct model_buf buf = { NRIG_BUFFERS, 100, false };

	vrig_wait(vrig_status(n->v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	cr_assert_not(vrig_status(n->v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	nrig_add(n, 1, &buf, 1);
	cr_assert_eq(fake_net_take(n->net, 0, got, sizeof(got), 5000), 100);
}

Test(net_virtio, a_frame_without_a_whole_header_breaks_the_queue, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	const struct model_buf bad[] = { { NRIG_BUFFERS, NET_HEADER - 1, false },
					 { NRIG_BUFFERS + 4096, 4096, true } };

	for (unsigned i = 0; i < 3; i++) {
		nrig_up(n, NRIG_ALL, NRIG_SIZE);
		nrig_add(n, 1, i == 2 ? bad + 1 : bad, i == 1 ? 2 : 1);
		check_broken_then_well(n);
	}
	nrig_destroy(n);
}

Test(net_virtio, a_receive_buffer_without_room_breaks_the_queue, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	const struct model_buf bad[] = { { NRIG_BUFFERS, NET_HEADER - 1, true },
					 { NRIG_BUFFERS, 2000, false } };
	uint8_t frame[100];

	for (unsigned i = 0; i < 4; i++) {
		nrig_up(n, i < 2 ? NRIG_ALL : ~MRG, NRIG_SIZE);
		nrig_fill(frame, 88, 0);
		fake_net_inject(n->net, 0, frame, sizeof(frame));
		nrig_add(n, 0, &bad[i % 2], 1);
		check_broken_then_well(n);
	}
	nrig_destroy(n);
}

/* Rings that point nowhere while frames come. */
Test(net_virtio, a_receive_buffer_outside_ram_breaks_the_queue, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	uint8_t frame[100];

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	nrig_fill(frame, 88, 0);
	add_rx(n, 0, MODEL_LOW - 100, 1000);
	fake_net_inject(n->net, 0, frame, sizeof(frame));
	check_broken_then_well(n);
	nrig_destroy(n);
}

/* ---- reset and pause ------------------------------------------------------------------------- */

Test(net_virtio, after_reset_nothing_touches_guest_memory, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	static uint8_t frame[FAKE_BUF], before[0x20000];

	for (unsigned round = 0; round < 20; round++) {
		nrig_up(n, NRIG_ALL, NRIG_SIZE);
		nrig_fill(frame, 9000, round);
		for (unsigned i = 0; i < NRIG_SIZE; i++)
			add_rx(n, 0, NRIG_BUFFERS + 0x2000 * i, 1600);
		for (unsigned i = 0; i < 5; i++)
			fake_net_inject(n->net, 0, frame, 9012);
		usleep(200 * (round % 5));
		vrig_set_status(n->v, 0);
		memcpy(before, nrig_at(n, NRIG_BUFFERS, sizeof(before)), sizeof(before));
		for (unsigned i = 0; i < 3; i++)
			fake_net_inject(n->net, 0, frame, 1000);
		nrig_settle(n, 0);
		cr_assert_arr_eq(before, nrig_at(n, NRIG_BUFFERS, sizeof(before)), sizeof(before));
	}
	nrig_destroy(n);
}

Test(net_virtio, a_pause_loses_no_frame, .timeout = 30)
{
	struct nrig *n = nrig_create(1, OFFLOADS, "");
	static uint8_t frame[FAKE_BUF], got[FAKE_BUF];
	uint64_t addr[NRIG_SIZE];
	struct model_used used;
	struct error e;
	unsigned chains;

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	for (unsigned i = 0; i < NRIG_SIZE; i++)
		addr[add_rx(n, 0, NRIG_BUFFERS + 0x2000 * i, 1600)] = NRIG_BUFFERS + 0x2000 * i;
	nrig_fill(frame, 1000, 1);
	fake_net_inject(n->net, 0, frame, 1012);
	cr_assert_eq(take_received(n, got, addr, &chains), 1012);
	n->v->dev->ops->pause(n->v->dev);
	for (unsigned i = 0; i < 5; i++) {
		nrig_fill(frame, 1000 + i, i);
		fake_net_inject(n->net, 0, frame, 1012 + i);
	}
	nrig_settle(n, 0);
	cr_assert_not(model_used(&n->queue[0], &used));
	n->v->dev->ops->start(n->v->dev, &e);
	for (unsigned i = 0; i < 5; i++) {
		nrig_fill(frame, 1000 + i, i);
		cr_assert_eq(take_received(n, got, addr, &chains), 1012 + i);
		cr_assert_arr_eq(got, frame, 1012 + i);
	}
	nrig_destroy(n);
}
