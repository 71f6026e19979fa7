/*
 * The transmit ring of the 82540EM: 317453 sections 3.3 and 3.4. In: descriptors between TDH and
 * TDT, of the legacy, context and data types. Out: whole frames for e1000_offload.c, descriptors
 * written back, causes.
 *
 * Descriptors are gathered until a frame is whole and handed over as pieces of the guest's memory;
 * they are written back, and TDH moves, when the backend has taken the frame. Only where a driver
 * leaves a frame without an end, what is there so far is copied first, as the card's FIFO would
 * take it.
 *
 * A write of TDT wakes the I/O thread only if it sleeps: while it is at work it looks at the tail
 * by itself. The vCPU does not send: the backend belongs to the loop, and the guest can go on.
 */
#include <errno.h>
#include <string.h>

#include "devices/backend/iov_cursor.h"
#include "devices/emulated/e1000_internal.h"
#include "vmm/trace.h"

#define BUDGET	     256u /* steps in a turn: descriptors and frames */
#define BUDGET_BYTES (256u << 10)

/* ---- descriptors ----------------------------------------------------------------------------- */

static void *descriptor(struct e1000 *e, uint32_t index)
{
	return memory_map(e1000_memory(e), e1000_ring(e, E1000_TDBAL, index), E1000_RING_UNIT, 16);
}

static uint32_t after(const struct e1000 *e, uint32_t index)
{
	return index + 1 < e1000_ring_size(e, E1000_TDLEN) ? index + 1 : 0;
}

static uint32_t pending(const struct e1000 *e, uint32_t head, uint32_t tail)
{
	return tail >= head ? tail - head : tail + e1000_ring_size(e, E1000_TDLEN) - head;
}

static void set_context(struct e1000_tx *tx, const struct e1000_tx_desc *d)
{
	tx->context[d->lower & TXD_TSE ? 1 : 0] = (struct e1000_context){
		.ipcss = (uint8_t)d->address,
		.ipcso = (uint8_t)(d->address >> 8),
		.ipcse = (uint16_t)(d->address >> 16),
		.tucss = (uint8_t)(d->address >> 32),
		.tucso = (uint8_t)(d->address >> 40),
		.tucse = (uint16_t)(d->address >> 48),
		.paylen = d->lower & 0xfffff,
		.tucmd = d->lower & (TXD_TCP | TXD_IP),
		.hdrlen = (uint8_t)(d->upper >> 8),
		.mss = (uint16_t)(d->upper >> 16),
	};
}

static void add_data(struct e1000 *e, uint64_t address, uint32_t len)
{
	struct e1000_tx_frame *frame = &e->tx.frame;
	const int max = sizeof(frame->iov) / sizeof(frame->iov[0]);
	int n;

	if (!address || !len || frame->broken)
		return;
	n = memory_iov(e1000_memory(e), address, len, frame->iov + frame->niov, max - frame->niov);
	if (n < 0 || frame->len + len > E1000_TX_DATA_MAX) {
		frame->broken = true;
		return;
	}
	frame->niov += n;
	frame->len += len;
}

/* Without IFCS the data end with a CRC of the driver's own, which no backend carries. */
static void drop_crc(struct e1000_tx_frame *frame)
{
	size_t left = E1000_CRC_LEN;

	if (frame->len <= left) {
		frame->broken = true;
		return;
	}
	frame->len -= left;
	while (left > 0) {
		struct iovec *last = &frame->iov[frame->niov - 1];
		size_t part = last->iov_len < left ? last->iov_len : left;

		last->iov_len -= part;
		left -= part;
		if (last->iov_len == 0)
			frame->niov--;
	}
}

static void data_descriptor(struct e1000 *e, const struct e1000_tx_desc *d)
{
	struct e1000_tx_frame *frame = &e->tx.frame;
	bool legacy = !(d->lower & TXD_DEXT);

	if (!frame->open) {
		frame->open = true;
		frame->legacy = legacy;
		frame->css = legacy ? (uint8_t)(d->upper >> 8) : 0;
		frame->popts = legacy ? 0 : (uint8_t)(d->upper >> 8);
		frame->segment = !legacy && d->lower & TXD_TSE;
	}
	add_data(e, d->address, legacy ? d->lower & 0xffff : d->lower & 0xfffff);
	if (d->lower & TXD_EOP) {
		frame->whole = true;
		frame->command = d->lower;
		frame->cso = (uint8_t)(d->lower >> 16);
		frame->special = (uint16_t)(d->upper >> 16);
		if (!(d->lower & TXD_IFCS) && !frame->broken)
			drop_crc(frame);
	}
}

/* ---- writing back ---------------------------------------------------------------------------- */

static void write_back_one(struct e1000 *e, uint32_t index)
{
	uint8_t *at = descriptor(e, index);
	struct e1000_tx_desc d;

	if (!at)
		return;
	memcpy(&d, at, sizeof(d));
	if (!(d.lower & TXD_RS))
		return;
	/* After the data have been read, which the driver may reuse then. */
	__atomic_store_n(at + TXD_STATUS, (uint8_t)(d.upper | TXD_DD), __ATOMIC_RELEASE);
	e1000_irq_sent(e, d.lower & TXD_IDE);
}

/* Everything up to tx.next is done. */
static void write_back(struct e1000 *e)
{
	uint32_t tail = __atomic_load_n(&e->tx.tail, __ATOMIC_ACQUIRE);
	uint32_t low = 8 * (e1000_get(e, E1000_TXDCTL) >> TXDCTL_LWTHRESH_SHIFT);
	uint32_t head = e1000_get(e, E1000_TDH), before = pending(e, head, tail), left;
	uint32_t size = e1000_ring_size(e, E1000_TDLEN);

	/* The driver may have made the ring smaller meanwhile. */
	for (; head < size && e->tx.next < size && head != e->tx.next; head = after(e, head))
		write_back_one(e, head);
	e->reg[E1000_TDH / 4] = e->tx.next;
	left = pending(e, e->tx.next, tail);
	if (before > low && left <= low)
		e1000_irq_hold(e, ICR_TXD_LOW);
	if (!left)
		e1000_irq_hold(e, ICR_TXQE);
}

static void frame_done(struct e1000 *e)
{
	struct e1000_tx_frame *frame = &e->tx.frame;

	write_back(e);
	account_end(e->dev.account, e->tx.out.taken);
	frame->niov = 0;
	frame->len = 0;
	frame->open = frame->whole = frame->broken = false;
	e->tx.out.ready = false;
}

/* No more descriptors, and the frame has no end: take what is there out of the guest's memory. */
static void settle(struct e1000 *e)
{
	struct e1000_tx_frame *frame = &e->tx.frame;
	struct iov_cursor c = iov_cursor_at(frame->iov, frame->niov);
	uint8_t *to = e->tx.hold;

	if (e->tx.next == e1000_get(e, E1000_TDH))
		return;
	if (!frame->broken && frame->niov > 0) {
		/* What lies there already is the beginning. */
		size_t held = frame->iov[0].iov_base == to ? frame->iov[0].iov_len : 0;

		iov_cursor_skip(&c, held);
		iov_cursor_copy(&c, to + held, frame->len - held);
		e1000_account(e, ACCOUNT_COPIED, frame->len - held);
		frame->iov[0] = (struct iovec){ to, frame->len };
		frame->niov = 1;
	}
	write_back(e);
}

/* ---- turns ----------------------------------------------------------------------------------- */

static bool ring_usable(struct e1000 *e, uint32_t tail)
{
	uint32_t size = e1000_ring_size(e, E1000_TDLEN);

	if (tail < size && e->tx.next < size && e1000_get(e, E1000_TDH) < size &&
	    descriptor(e, e->tx.next))
		return true;
	if (size || tail)
		log_guest(&e->bad_ring,
			  "%s: transmit ring of %u at 0x%llx, head %u, tail %u: "
			  "nothing is sent",
			  e->dev.name, size, (unsigned long long)e1000_ring(e, E1000_TDBAL, 0),
			  e->tx.next, tail);
	return false;
}

/* One descriptor; false: there is none. */
static bool step(struct e1000 *e)
{
	uint32_t tail = __atomic_load_n(&e->tx.tail, __ATOMIC_SEQ_CST);
	struct e1000_tx *tx = &e->tx;
	struct e1000_tx_desc d;

	if (tx->next == tail) {
		if (tx->frame.open)
			settle(e);
		return false;
	}
	if (!ring_usable(e, tail))
		return false;
	memcpy(&d, descriptor(e, tx->next), sizeof(d)); /* read once */
	tx->next = after(e, tx->next);
	if (d.lower & TXD_DEXT && (d.lower >> TXD_DTYP_SHIFT & 0xf) == 0) {
		set_context(tx, &d);
		if (!tx->frame.open)
			write_back(e);
	} else if (d.lower & TXD_DEXT && (d.lower >> TXD_DTYP_SHIFT & 0xf) != TXD_DTYP_DATA) {
		if (!tx->frame.open) /* reserved types are passed over */
			write_back(e);
	} else {
		data_descriptor(e, &d);
	}
	if (tx->frame.whole) {
		tx->out.taken = account_begin(e->dev.account, 1, 1);
		e1000_account(e, ACCOUNT_BYTES_OUT, tx->frame.len);
		tx->out.ready = e1000_offload_prepare(e);
		if (!tx->out.ready) {
			e1000_account(e, ACCOUNT_ERRORS, 1);
			frame_done(e);
		}
	}
	return true;
}

static bool can_send(struct e1000 *e)
{
	return e1000_get(e, E1000_TCTL) & TCTL_EN && e1000_may_move(e) && !e->tx.blocked &&
	       (e1000_loops(e) || (e1000_link_up(e) && !e1000_irq_paused(e)));
}

/* True: there is more to do, but it is another's turn. */
static bool turn(struct e1000 *e)
{
	size_t bytes = 0;

	for (unsigned n = 0; n < BUDGET && bytes < BUDGET_BYTES; n++) {
		int err;

		if (!can_send(e))
			return false;
		if (e1000_wanted(e))
			return true;
		if (!e->tx.out.ready) {
			if (!step(e))
				return false;
			continue;
		}
		err = e1000_offload_send(e);
		if (err == -EAGAIN) {
			e->tx.blocked = true;
			return false;
		}
		if (err == -EBUSY)
			continue;
		bytes += e->tx.frame.len;
		frame_done(e);
	}
	return true;
}

/* May the loop sleep? Whoever changes what can_send() asks for wakes it, and the tail does. */
static bool may_sleep(struct e1000 *e)
{
	uint32_t tail;

	if (!can_send(e))
		return true;
	__atomic_store_n(&e->tx.idle, true, __ATOMIC_SEQ_CST);
	tail = __atomic_load_n(&e->tx.tail, __ATOMIC_SEQ_CST);
	return tail == e->tx.next || !ring_usable(e, tail);
}

void e1000_tx_serve(struct e1000 *e)
{
	bool more;

	pthread_mutex_lock(&e->lock);
	trace_kick_taken(e->dev.account);
	if (e->doorbells)
		e1000_doorbells_drain(e);
	do {
		__atomic_store_n(&e->tx.idle, false, __ATOMIC_SEQ_CST);
		more = turn(e);
	} while (!more && !may_sleep(e));
	if (e->started)
		net_flush(e->backend);
	e1000_turn_end(e);
	if (more)
		e1000_signal(&e->tx.kick);
}

void e1000_tx_writable(struct e1000 *e)
{
	pthread_mutex_lock(&e->lock);
	e->tx.blocked = false;
	pthread_mutex_unlock(&e->lock);
	e1000_tx_serve(e);
}

void e1000_tx_tail(struct e1000 *e, uint32_t tail)
{
	__atomic_store_n(&e->tx.tail, tail, __ATOMIC_SEQ_CST);
	if (__atomic_exchange_n(&e->tx.idle, false, __ATOMIC_SEQ_CST)) {
		e1000_wake(e, &e->tx.kick);
	}
}

void e1000_tx_reset(struct e1000 *e)
{
	struct e1000_tx *tx = &e->tx;

	__atomic_store_n(&tx->tail, 0, __ATOMIC_SEQ_CST);
	tx->next = 0;
	tx->frame.niov = 0;
	tx->frame.len = 0;
	tx->frame.open = tx->frame.whole = tx->frame.broken = false;
	tx->out.ready = false;
	memset(tx->context, 0, sizeof(tx->context));
	/* Whether the backend takes frames is not ours to reset: tx->blocked stays. */
}
