/*
 * The receive ring of the 82540EM: 317453 sections 3.2 and 8.8 (flow control). In: frames from the
 * backend, or our own in loopback. Out: descriptors between RDH and RDT filled and written back,
 * causes.
 *
 * A frame that finds no descriptor waits, and is counted as RNBC. What becomes of those behind it
 * depends on the driver, as on the card: with CTRL.TFCE the partner is told to stop, so they stay
 * where they are, in the backend; without, they fill the card's packet buffer (PBA) and are lost
 * when it is full, counted as MPC and told as RXO.
 */
#include <errno.h>
#include <string.h>

#include "devices/emulated/e1000_inet.h"
#include "devices/emulated/e1000_internal.h"

#define BUDGET 128u /* frames stored or read in a turn */

#define FIFO_GOOD    1u /* flags of a frame in the FIFO: its checksum is right */
#define FIFO_INEXACT 2u

/* ---- the ring -------------------------------------------------------------------------------- */

static size_t buffer_size(const struct e1000 *e)
{
	uint32_t rctl = e1000_get(e, E1000_RCTL);
	size_t size = 2048u >> (rctl >> RCTL_BSIZE_SHIFT & 3);

	/* With BSEX sixteen times that; 00 is reserved then. */
	return rctl & RCTL_BSEX && size < 2048 ? 16 * size : size;
}

static uint32_t free_descriptors(const struct e1000 *e, uint32_t head, uint32_t tail)
{
	uint32_t size = e1000_ring_size(e, E1000_RDLEN);

	return tail >= head ? tail - head : tail + size - head;
}

static struct e1000_rx_desc *descriptor(struct e1000 *e)
{
	uint32_t size = e1000_ring_size(e, E1000_RDLEN), head = e1000_get(e, E1000_RDH);
	uint32_t tail = __atomic_load_n(&e->rx.tail, __ATOMIC_SEQ_CST);
	struct e1000_rx_desc *at;

	if (head == tail)
		return NULL;
	at = head < size && tail < size
		     ? memory_map(e1000_memory(e), e1000_ring(e, E1000_RDBAL, head),
				  E1000_RING_UNIT, 16)
		     : NULL;
	if (!at)
		log_guest(&e->bad_ring,
			  "%s: receive ring of %u at 0x%llx, head %u, tail %u: nothing is received",
			  e->dev.name, size, (unsigned long long)e1000_ring(e, E1000_RDBAL, 0),
			  head, tail);
	return at;
}

/* The next bytes of the packet, to guest memory or, where there is none, nowhere. */
static size_t store(struct e1000 *e, uint64_t address, size_t most)
{
	struct e1000_packet *packet = &e->rx.packet;
	size_t skip = packet->done, n = packet->len - packet->done, left;
	uint8_t *to;

	if (n > most)
		n = most;
	packet->done += n;
	to = memory_map(e1000_memory(e), address, n, 1);
	left = n;
	for (int i = 0; i < packet->niov && left > 0; i++) {
		const struct iovec *iov = &packet->iov[i];
		size_t part = iov->iov_len > skip ? iov->iov_len - skip : 0;

		if (part > left)
			part = left;
		if (part > 0) {
			const uint8_t *from = (const uint8_t *)iov->iov_base + skip;

			if (to)
				memcpy(to + (n - left), from, part);
			else /* across two regions, or not RAM: a master abort loses it */
				memory_write(e1000_memory(e), address + (n - left), from, part);
		}
		left -= part;
		skip = skip > iov->iov_len ? skip - iov->iov_len : 0;
	}
	return n;
}

static void low_on_descriptors(struct e1000 *e, uint32_t before, uint32_t left)
{
	uint32_t size = e1000_ring_size(e, E1000_RDLEN);
	uint32_t shift = (e1000_get(e, E1000_RCTL) >> RCTL_RDMTS_SHIFT & 3) + 1;
	uint32_t threshold = size >> shift;

	if (before > threshold && left <= threshold)
		e1000_irq_hold(e, ICR_RXDMT0);
}

/* Fills one descriptor. */
static void fill(struct e1000 *e, struct e1000_rx_desc *at)
{
	struct e1000_packet *packet = &e->rx.packet;
	uint32_t head = e1000_get(e, E1000_RDH), size = e1000_ring_size(e, E1000_RDLEN);
	uint32_t tail = __atomic_load_n(&e->rx.tail, __ATOMIC_ACQUIRE);
	uint64_t address = __atomic_load_n(&at->address, __ATOMIC_RELAXED), word;
	struct e1000_rx_desc d = { .status = RXD_DD };

	if (packet->done == 0)
		d.checksum = packet->checksum;
	d.length = (uint16_t)store(e, address, buffer_size(e));
	if (packet->done == packet->len) {
		d.status |= RXD_EOP | packet->status;
		d.errors = packet->errors;
		d.special = packet->special;
	}
	/* Everything but the address in one store, DD with it, after the data. */
	memcpy(&word, &d.length, sizeof(word));
	__atomic_store_n((uint64_t *)(void *)at + 1, word, __ATOMIC_RELEASE);
	e->reg[E1000_RDH / 4] = head + 1 < size ? head + 1 : 0;
	low_on_descriptors(e, free_descriptors(e, head, tail),
			   free_descriptors(e, e1000_get(e, E1000_RDH), tail));
}

/* ---- statistics ------------------------------------------------------------------------------ */

/* A frame of len bytes, CRC included, has passed the filter. */
static void count_received(struct e1000 *e, const uint8_t *frame, size_t len)
{
	e1000_stat(e, E1000_GPRC, 1);
	e1000_stat_octets(e, E1000_GORCL, len);
	e1000_stat_sizes(e, E1000_PRC64, len, 1);
	if (is_broadcast(frame))
		e1000_stat(e, E1000_BPRC, 1);
	else if (frame[0] & 1)
		e1000_stat(e, E1000_MPRC, 1);
}

static void count_total(struct e1000 *e, size_t len)
{
	e1000_stat(e, E1000_TPR, 1);
	e1000_stat_octets(e, E1000_TORL, len);
}

static bool too_long(struct e1000 *e, size_t len)
{
	size_t most = e1000_get(e, E1000_RCTL) & RCTL_LPE ? E1000_MAX_LONG : E1000_MAX_FRAME;

	if (len <= most)
		return false;
	e1000_stat(e, E1000_ROC, 1);
	e1000_stat(e, E1000_RLEC, 1);
	return true;
}

/* ---- the FIFO -------------------------------------------------------------------------------- */

static void missed(struct e1000 *e)
{
	e1000_stat(e, E1000_MPC, 1);
	e1000_account(e, ACCOUNT_ERRORS, 1);
	e1000_irq_cause(e, ICR_RXO);
}

/* Takes a frame that finds no descriptor, or loses it. */
static void to_fifo(struct e1000 *e, const struct iovec *iov, int niov, size_t len, uint8_t flags)
{
	size_t room = (size_t)(e1000_get(e, E1000_PBA) & PBA_RXA) << 10;
	struct e1000_rx *rx = &e->rx;
	uint8_t buf[1 + E1000_MAX_LONG];
	size_t at = 1;

	if (len > E1000_MAX_LONG || rx->fifo.used + len > room) {
		missed(e);
		return;
	}
	buf[0] = flags;
	for (int i = 0; i < niov; i++) {
		memcpy(buf + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	if (!net_frames_put(&rx->fifo, buf, at)) {
		missed(e);
	} else if (e1000_get(e, E1000_RDH) == __atomic_load_n(&rx->tail, __ATOMIC_SEQ_CST)) {
		e1000_stat(e, E1000_RNBC, 1);
	}
}

static void rest_to_fifo(struct e1000 *e)
{
	struct e1000_rx *rx = &e->rx;
	uint8_t flags = (rx->good ? FIFO_GOOD : 0) | (rx->inexact ? FIFO_INEXACT : 0);
	struct iovec iov[2];
	size_t len;

	while (rx->cutting) {
		e1000_frame_next(e, iov, &len);
		count_total(e, len + E1000_CRC_LEN);
		if (!too_long(e, len + E1000_CRC_LEN))
			to_fifo(e, iov, 2, len, flags);
	}
}

/* ---- one frame ------------------------------------------------------------------------------- */

static void begin_packet(struct e1000 *e, const struct iovec *iov, int niov, bool good,
			 bool inexact)
{
	e->rx.busy = true;
	e1000_frame_packet(e, iov, niov, good, inexact);
}

/* The next frame to be stored, the oldest first; false: there is none here. */
static bool next_packet(struct e1000 *e)
{
	struct e1000_rx *rx = &e->rx;
	const uint8_t *held;
	struct iovec iov[2];
	size_t len;

	if (rx->busy)
		return true;
	rx->counted = false;
	held = net_frames_peek(&rx->fifo, &len);
	if (held) {
		iov[0] = (struct iovec){ (void *)(uintptr_t)(held + 1), len - 1 };
		rx->from_fifo = rx->counted = true;
		begin_packet(e, iov, 1, held[0] & FIFO_GOOD, held[0] & FIFO_INEXACT);
		return true;
	}
	while (rx->cutting) {
		e1000_frame_next(e, iov, &len);
		count_total(e, len + E1000_CRC_LEN);
		if (too_long(e, len + E1000_CRC_LEN))
			continue;
		rx->from_fifo = false;
		begin_packet(e, iov, iov[1].iov_len ? 2 : 1, rx->good, rx->inexact);
		return true;
	}
	return false;
}

/* False: descriptors are wanted. */
static bool store_packet(struct e1000 *e)
{
	struct e1000_rx *rx = &e->rx;
	struct e1000_packet *packet = &rx->packet;
	size_t crc = e1000_get(e, E1000_RCTL) & RCTL_SECRC ? E1000_CRC_LEN : 0;
	size_t tag = packet->status & RXD_VP ? E1000_VLAN_TAG : 0;

	while (packet->done < packet->len) {
		struct e1000_rx_desc *at = descriptor(e);

		if (!at)
			return false;
		fill(e, at);
	}
	count_received(e, packet->iov[0].iov_base, packet->len + crc + tag);
	e1000_account(e, ACCOUNT_REQUESTS, 1);
	e1000_account(e, ACCOUNT_BYTES_IN, packet->len);
	e1000_account(e, ACCOUNT_COPIED, packet->len);
	rx->busy = false;
	if (rx->from_fifo)
		net_frames_drop(&rx->fifo);
	e1000_irq_received(e, packet->len);
	return true;
}

/* ---- turns ----------------------------------------------------------------------------------- */

static bool enabled(const struct e1000 *e)
{
	return e1000_get(e, E1000_RCTL) & RCTL_EN && e1000_may_move(e);
}

/* Does what comes over the cable come in? */
static bool listening(const struct e1000 *e)
{
	return enabled(e) && e1000_link_up(e) && !e1000_loops(e);
}

static void set_xoff(struct e1000 *e, bool xoff)
{
	if (e->rx.xoff == xoff)
		return;
	e->rx.xoff = xoff;
	if (xoff)
		e1000_stat(e, E1000_XOFFTXC, 1);
	else if (e1000_get(e, E1000_FCRTL) & FCRTL_XONE)
		e1000_stat(e, E1000_XONTXC, 1);
}

/* The packet gets memory of its own, as the next frame is to be read to where it lies. */
static void hold_packet(struct e1000_rx *rx)
{
	struct e1000_packet *packet = &rx->packet;
	size_t at = 0;

	if (!rx->busy || rx->from_fifo || packet->iov[0].iov_base == rx->hold)
		return;
	for (int i = 0; i < packet->niov; i++) {
		memcpy(rx->hold + at, packet->iov[i].iov_base, packet->iov[i].iov_len);
		at += packet->iov[i].iov_len;
	}
	packet->iov[0] = (struct iovec){ rx->hold, packet->len };
	packet->niov = 1;
}

/* A frame waits for descriptors. True: those behind it are to be read all the same. */
static bool without_descriptors(struct e1000 *e)
{
	struct e1000_rx *rx = &e->rx;

	if (!rx->counted)
		e1000_stat(e, E1000_RNBC, 1);
	rx->counted = true;
	__atomic_store_n(&rx->starved, true, __ATOMIC_SEQ_CST);
	if (e1000_get(e, E1000_CTRL) & CTRL_TFCE) {
		set_xoff(e, true);
		return false;
	}
	hold_packet(rx);
	rest_to_fifo(e);
	return true;
}

void e1000_rx_loop(struct e1000 *e, const uint8_t *frame, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)frame, len };
	enum e1000_pass pass;

	if (!(e1000_get(e, E1000_RCTL) & RCTL_EN) || len < E1000_ETH_HEADER + E1000_VLAN_TAG)
		return;
	pass = e1000_filter(e, frame);
	if (pass == E1000_DROP)
		return;
	count_total(e, len + E1000_CRC_LEN);
	if (!too_long(e, len + E1000_CRC_LEN))
		to_fifo(e, &iov, 1, len, pass == E1000_INEXACT ? FIFO_INEXACT : 0);
	/* As fast as it is sent: nothing of it is to pile up while there are descriptors. */
	while (enabled(e) && next_packet(e))
		if (!store_packet(e)) {
			without_descriptors(e);
			break;
		}
}

static bool read_frame(struct e1000 *e)
{
	struct e1000_rx *rx = &e->rx;
	struct iovec iov = { rx->frame, NET_HEADER + NET_FRAME_MAX };
	ssize_t len = net_receive(e->backend, &iov, 1);

	if (len < 0)
		return false;
	if (len > (ssize_t)NET_HEADER)
		e1000_frame_begin(e, (size_t)len - NET_HEADER);
	return true;
}

/* True: there is more, but it is another's turn. */
static bool turn(struct e1000 *e)
{
	bool stuck = false;

	for (unsigned n = 0; n < BUDGET; n++) {
		if (!enabled(e))
			return false;
		if (e1000_wanted(e))
			return true;
		if (!stuck && next_packet(e)) {
			if (store_packet(e)) {
				set_xoff(e, false);
				continue;
			}
			stuck = true;
			if (!without_descriptors(e))
				return false;
		}
		if (!listening(e) || !read_frame(e))
			return false;
		if (stuck)
			rest_to_fifo(e);
	}
	return true;
}

void e1000_rx_serve(struct e1000 *e)
{
	bool more;

	pthread_mutex_lock(&e->lock);
	do {
		__atomic_store_n(&e->rx.starved, false, __ATOMIC_SEQ_CST);
		more = turn(e);
		/* Starved, but the driver was quicker than our saying so? */
	} while (!more && __atomic_load_n(&e->rx.starved, __ATOMIC_SEQ_CST) && enabled(e) &&
		 descriptor(e));
	if (e->started)
		net_receive_want(e->backend, listening(e) && !e->rx.xoff);
	e1000_turn_end(e);
	if (more)
		e1000_signal(&e->rx.kick);
}

void e1000_rx_tail(struct e1000 *e, uint32_t tail)
{
	__atomic_store_n(&e->rx.tail, tail, __ATOMIC_SEQ_CST);
	if (__atomic_exchange_n(&e->rx.starved, false, __ATOMIC_SEQ_CST)) {
		e1000_wake(e, &e->rx.kick);
	}
}

void e1000_rx_reset(struct e1000 *e)
{
	struct e1000_rx *rx = &e->rx;

	__atomic_store_n(&rx->tail, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&rx->starved, false, __ATOMIC_SEQ_CST);
	rx->busy = rx->cutting = rx->xoff = false;
	while (rx->fifo.count > 0)
		net_frames_drop(&rx->fifo);
}
