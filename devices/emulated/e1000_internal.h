/*
 * The e1000, what its files share. e1000.c makes the card; e1000_mmio.c decodes accesses;
 * e1000_irq.c has interrupts and their timers; e1000_tx.c walks the transmit ring and
 * e1000_offload.c turns what it finds into frames; e1000_rx.c fills the receive ring,
 * e1000_rx_frame.c cuts and checks what comes in, e1000_filter.c decides what is let in;
 * e1000_doorbell.c is for doorbell=ioeventfd; e1000_regs.c, e1000_eeprom.c and e1000_phy.c are
 * parts that know nothing of the others.
 *
 * Threads and locks. One event loop, by default an I/O thread of the card's own, moves frames in
 * both directions and runs the timers. vCPU threads access registers. `lock` guards the register
 * file and all of both rings' state; the I/O thread holds it for one turn, which is bounded. What a
 * driver touches while traffic flows goes round it, so that no vCPU waits for a turn to end: the
 * interrupt registers have a lock of their own, and the tails and STATUS, which drivers read to
 * flush their writes, are atomics. Order: lock, irq.lock, then those of PCI (devices/pci/pci.h).
 * Backends are called with `lock` held and call back without.
 */
#ifndef DEVICES_EMULATED_E1000_INTERNAL_H
#define DEVICES_EMULATED_E1000_INTERNAL_H

#include <pthread.h>

#include "devices/backend/net_frames.h"
#include "devices/emulated/e1000.h"
#include "devices/emulated/e1000_eeprom.h"
#include "devices/emulated/e1000_phy.h"
#include "devices/emulated/e1000_regs.h"
#include "devices/pci/pci.h"

#define E1000_MAC_LEN	  6u
#define E1000_ETH_HEADER  14u
#define E1000_VLAN_TAG	  4u
#define E1000_CRC_LEN	  4u
#define E1000_MIN_FRAME	  60u	 /* on the wire, without CRC */
#define E1000_MAX_FRAME	  1522u	 /* with CRC and a VLAN tag, unless RCTL.LPE */
#define E1000_MAX_LONG	  16384u /* with it */
#define E1000_MAX_TX	  16288u /* one frame in the transmit FIFO */
#define E1000_FIFO_MAX	  (64u << 10)
#define E1000_HEAD_MAX	  512u /* bytes of a frame that are copied to be looked at and changed */
#define E1000_TX_DATA_MAX (256u << 10) /* of one TCP segmentation */

/* ---- interrupts and timers ---- */

enum e1000_timer {
	E1000_TIMER_TIDV,
	E1000_TIMER_TADV,
	E1000_TIMER_RDTR,
	E1000_TIMER_RADV,
	E1000_TIMER_ITR,
	E1000_TIMER_XOFF, /* the partner has told us to be quiet */
	E1000_TIMERS
};

struct e1000_irq {
	pthread_mutex_t lock; /* guards all but `held` */
	uint32_t icr, ims, itr;
	uint32_t held; /* causes that come at the end of the turn; the card's lock guards it */
	bool level;
	uint64_t asserted;		 /* when, in ns */
	uint64_t deadline[E1000_TIMERS]; /* 0: not running */
	uint64_t armed;			 /* when `timer` fires; 0: it does not */
	struct event_timer timer;
};

/* ---- transmit ---- */

struct e1000_context {
	uint8_t ipcss, ipcso, tucss, tucso, hdrlen;
	uint16_t ipcse, tucse, mss;
	uint32_t paylen, tucmd;
};

/* A frame as its descriptors say it; the data are still in the guest's memory. */
struct e1000_tx_frame {
	struct iovec iov[NET_MAX_IOV - 8];
	int niov;
	size_t len;
	bool open;    /* has a first data descriptor */
	bool whole;   /* and the last */
	bool broken;  /* too long, in too many pieces, or not in RAM: it is lost */
	bool segment; /* TSE */
	bool legacy;
	uint8_t popts, css, cso;
	uint32_t command; /* of the last descriptor */
	uint16_t special;
};

/* What goes to the backend. head is the virtio-net header, then what was copied of the frame. */
struct e1000_tx_out {
	bool ready;
	uint8_t head[NET_HEADER + E1000_HEAD_MAX + E1000_VLAN_TAG];
	struct iovec iov[NET_MAX_IOV];
	int niov;
	size_t len;	   /* on the wire, without CRC; of each segment for the backend's TSO */
	unsigned segments; /* that the backend makes of it */
	size_t last;	   /* length of the last of them */
	/* segmenting here */
	bool cutting;
	size_t done; /* payload bytes */
	uint32_t index;
	uint64_t taken; /* account_begin()'s stamp */
};

struct e1000_tx {
	uint32_t tail; /* atomic: TDT */
	bool idle;     /* atomic: nothing looks at the tail unless it is told to */
	uint32_t next; /* the next descriptor to look at; TDH is the oldest not yet written back */
	bool blocked;  /* by the backend */
	struct e1000_context context[2]; /* checksum, segmentation */
	struct e1000_tx_frame frame;
	struct e1000_tx_out out;
	uint8_t *bounce;	  /* E1000_TX_DATA_MAX: frames that have to be in one piece */
	uint8_t *hold;		  /* likewise: data of a frame whose end is not there yet */
	struct event_source kick; /* an eventfd */
};

/* ---- receive ---- */

/* One frame on its way into the ring. */
struct e1000_packet {
	struct iovec iov[6]; /* as it is stored: without a tag that was stripped, with the CRC */
	int niov;
	size_t len;
	size_t done;
	uint8_t status, errors;
	uint16_t checksum, special;
	uint8_t crc[E1000_CRC_LEN];
};

struct e1000_rx {
	uint32_t tail; /* atomic: RDT */
	bool starved;  /* atomic: a write of RDT is waited for */
	bool busy;     /* packet is being stored */
	bool from_fifo;
	bool counted; /* as RNBC */
	bool xoff;    /* we have stopped the partner */
	struct e1000_packet packet;
	struct net_frames fifo; /* each: one byte of flags, then the frame */

	uint8_t hold[E1000_MAX_LONG]; /* the packet, while it waits and others are read */

	/* What was received last; the backend may leave segmentation to us. */
	uint8_t *frame;		      /* NET_HEADER + NET_FRAME_MAX */
	size_t len;		      /* without header */
	bool cutting;		      /* there are frames in it still */
	bool inexact;		      /* passed by hash or promiscuous mode */
	bool good;		      /* its checksum is known to be right */
	size_t l4, header, mss, done; /* of the segmentation; mss 0: one frame */
	uint32_t index;
	uint8_t head[E1000_HEAD_MAX];
	struct event_source kick; /* an eventfd */
};

struct e1000_doorbells;

struct e1000 {
	struct device dev; /* first */
	struct pci_function f;
	struct net *net;
	struct net_queue *backend;
	struct event_loop *loop;
	bool own_loop, started, offloads;
	uint32_t offload; /* NET_OFFLOAD_… of the backend that are used */
	uint8_t mac[E1000_MAC_LEN];

	pthread_mutex_t lock;
	unsigned waiters; /* atomic: vCPUs that want it; turns end early for them */
	uint32_t *reg; /* E1000_BAR_SIZE / 4: the registers by offset, and packet buffer memory */
	uint8_t row[E1000_CSR_SIZE / 4];
	uint32_t ioaddr;
	uint32_t status; /* atomic: STATUS, all but TXOFF */
	bool paused;
	struct e1000_eeprom eeprom;
	struct e1000_phy phy;
	struct e1000_tx tx;
	struct e1000_rx rx;

	struct e1000_irq irq;
	struct e1000_doorbells *doorbells; /* NULL: doorbell=exit */
	struct log_limit bad_ring;
};

static inline struct e1000 *e1000_of(struct device *dev)
{
	return (struct e1000 *)dev; /* first member */
}

static inline uint32_t e1000_get(const struct e1000 *e, unsigned offset)
{
	return e->reg[offset / 4];
}

/* For vCPUs and the main thread: a turn gives way. */
static inline void e1000_lock(struct e1000 *e)
{
	__atomic_fetch_add(&e->waiters, 1, __ATOMIC_RELAXED);
	pthread_mutex_lock(&e->lock);
	__atomic_fetch_sub(&e->waiters, 1, __ATOMIC_RELAXED);
}

static inline void e1000_unlock(struct e1000 *e)
{
	pthread_mutex_unlock(&e->lock);
}

static inline bool e1000_wanted(const struct e1000 *e)
{
	return __atomic_load_n(&e->waiters, __ATOMIC_RELAXED) != 0;
}

static inline void e1000_account(struct e1000 *e, enum account_counter counter, uint64_t n)
{
	account_add(e->dev.account, counter, n);
}

/* Statistics: they stick at their maximum. Lock held. */
void e1000_stat(struct e1000 *e, unsigned offset, uint64_t n);
void e1000_stat_octets(struct e1000 *e, unsigned low, uint64_t n);
/* Frames of this length, CRC included; size is the register of those of 64 bytes. */
void e1000_stat_sizes(struct e1000 *e, unsigned size, size_t len, uint64_t n);

/* Signals an eventfd of ours. Any thread. */
void e1000_signal(const struct event_source *source);
/* The same for a doorbell that came as an exit: the loop is woken by it. */
void e1000_wake(struct e1000 *e, const struct event_source *source);
/* For the loop: the lock is let go, and those who waited for it get it. */
void e1000_turn_end(struct e1000 *e);

/* Lock held, all of these. */
bool e1000_may_move(const struct e1000 *e); /* not paused, and may master the bus */
bool e1000_link_up(const struct e1000 *e);  /* STATUS.LU: the MAC may send and receive */
bool e1000_loops(const struct e1000 *e);    /* what is sent comes back, in the PHY or the MAC */
void e1000_reset_mac(struct e1000 *e);	    /* CTRL.RST */
void e1000_load_eeprom(struct e1000 *e);    /* what the card takes from it by itself */
uint64_t e1000_ring(const struct e1000 *e, unsigned bal, uint32_t index);
uint32_t e1000_ring_size(const struct e1000 *e, unsigned len);
struct guest_memory *e1000_memory(const struct e1000 *e);

/* CTRL or the PHY may have changed what STATUS says: it is to say so. */
void e1000_publish_status(struct e1000 *e);
/* The PHY's link has changed: STATUS, LSC, and frames may move again. */
void e1000_link_changed(struct e1000 *e);

/* ---- e1000_mmio.c ---- */

extern const struct bus_ops e1000_mmio_ops, e1000_io_ops;

/* ---- e1000_irq.c ---- */

int e1000_irq_init(struct e1000 *e);
void e1000_irq_destroy(struct e1000 *e);
void e1000_irq_reset(struct e1000 *e);
void e1000_irq_cause(struct e1000 *e, uint32_t causes); /* any thread */
/* The same at the end of the turn. Lock held. */
static inline void e1000_irq_hold(struct e1000 *e, uint32_t causes)
{
	e->irq.held |= causes;
}

uint32_t e1000_irq_read(struct e1000 *e, unsigned offset);
void e1000_irq_write(struct e1000 *e, unsigned offset, uint32_t value);
/* A frame was stored, or a descriptor with RS was written back. Lock held. */
void e1000_irq_received(struct e1000 *e, size_t len);
void e1000_irq_sent(struct e1000 *e, bool delay);
void e1000_irq_flush_rx(struct e1000 *e); /* RDTR.FPD */
void e1000_irq_turn_end(struct e1000 *e); /* held causes come, timers that started are set */
/* The partner's PAUSE: be quiet for so long; 0: no longer. Lock held. */
void e1000_irq_pause(struct e1000 *e, uint64_t ns);
bool e1000_irq_paused(struct e1000 *e);

/* ---- e1000_tx.c ---- */

void e1000_tx_reset(struct e1000 *e);
void e1000_tx_tail(struct e1000 *e, uint32_t tail); /* TDT is written. No lock. */
void e1000_tx_serve(struct e1000 *e);		    /* on the loop */
void e1000_tx_writable(struct e1000 *e);

/* ---- e1000_offload.c ---- */

/* frame → out; false: it cannot be sent and is lost. Lock held. */
bool e1000_offload_prepare(struct e1000 *e);
/* The next part of it: 0 when all is sent or lost, -EAGAIN, or -EBUSY when there is more. */
int e1000_offload_send(struct e1000 *e);

/* ---- e1000_rx.c ---- */

void e1000_rx_reset(struct e1000 *e);
void e1000_rx_tail(struct e1000 *e, uint32_t tail); /* as for transmit */
void e1000_rx_serve(struct e1000 *e);
/* A frame of our own that comes back. Lock held. */
void e1000_rx_loop(struct e1000 *e, const uint8_t *frame, size_t len);

/* ---- e1000_rx_frame.c ---- */

/* Looks at the frame of len bytes (without header) in rx->frame; false: it is none for us. */
bool e1000_frame_begin(struct e1000 *e, size_t len);
/* The next frame of it, whole: length into *len, pieces into iov (2). */
void e1000_frame_next(struct e1000 *e, struct iovec iov[2], size_t *len);
/* Makes the packet that is stored of it. good: its checksums need no check. */
void e1000_frame_packet(struct e1000 *e, const struct iovec *iov, int niov, bool good,
			bool inexact);

/* ---- e1000_filter.c ---- */

enum e1000_pass { E1000_DROP, E1000_EXACT, E1000_INEXACT };

/* frame has at least 18 bytes. Lock held. */
enum e1000_pass e1000_filter(const struct e1000 *e, const uint8_t *frame);

/* ---- e1000_doorbell.c ---- */

int e1000_doorbells_create(struct e1000 *e, struct error *err);
void e1000_doorbells_stop(struct e1000 *e);    /* no more are added */
void e1000_doorbells_destroy(struct e1000 *e); /* after the function is gone from PCI */
/* This tail value has come as an exit; it shall not again. Any thread. */
void e1000_doorbells_want(struct e1000 *e, uint32_t value);
/*
 * What eventfds have told goes into tx.tail. True if they have told something: then the loop may
 * never hear of it, and is to be woken. Any thread; no lock of ours held, or `lock`.
 */
bool e1000_doorbells_drain(struct e1000 *e);

#endif
