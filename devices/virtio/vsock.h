/*
 * What the parts of virtio-vsock share: vsock.c (the device), vsock_guest.c (packets from the
 * guest), vsock_rx.c (packets to it), vsock_table.c (the connections), vsock_stream.c (a
 * connection's bytes on their way to the host's program) and vsock_host.c (sockets and their
 * events).
 *
 * Threads and locks: connections are guarded by the receive queue's lock, for most of what happens
 * to one ends in a packet to the guest. All runs on the device's loop, but for reset, which comes
 * from a vCPU; that is why sockets are watched by an epoll set of our own, from which closing a
 * socket takes it on any thread. Lock order: transmit queue, receive queue.
 *
 * Memory: a table of VSOCK_CONNECTIONS, and for each at most VSOCK_BUFFER bytes from the guest that
 * the host's program has not read (the credit we grant; allocated when it first reads too slowly).
 * Nothing towards the guest is buffered: it goes from the socket into the guest's buffers.
 */
#ifndef DEVICES_VIRTIO_VSOCK_H
#define DEVICES_VIRTIO_VSOCK_H

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/unix_listener.h"
#include "devices/virtio/chain_fifo.h"
#include "devices/virtio/virtio.h"

#define VSOCK_CONNECTIONS 1024u
#define VSOCK_BUFFER	  (256u << 10) /* a power of two */
#define VSOCK_MAX_CREDIT  (1u << 30)   /* that we use, so that counters do not go round */
#define VSOCK_RESETS	  64u
#define VSOCK_BUCKETS	  1024u
#define VSOCK_HOST_CID	  2u
#define VSOCK_NONE	  0xffffu /* no connection's index */

enum { VSOCK_RXQ, VSOCK_TXQ, VSOCK_EVENTQ, VSOCK_QUEUES };

enum vsock_state {
	VSOCK_FREE,
	VSOCK_HELLO,	 /* a host's program has come and has not said where to */
	VSOCK_REQUESTED, /* the guest has been asked */
	VSOCK_OPEN,
	VSOCK_ORPHAN, /* the guest is done; the host's program has not read all of it yet */
	VSOCK_CLOSED, /* all that is left is to tell the guest (RST) */
};

/* Packets that a connection has to send. */
#define VSOCK_SEND_REQUEST	  (1u << 0)
#define VSOCK_SEND_RESPONSE	  (1u << 1)
#define VSOCK_SEND_CREDIT	  (1u << 2)
#define VSOCK_SEND_CREDIT_REQUEST (1u << 3)

struct vsock_conn {
	enum vsock_state state;
	int fd;
	uint32_t generation; /* of this place in the table */
	uint32_t guest_port, host_port;
	uint16_t hash_next;
	uint16_t free_next;
	uint64_t deadline; /* ns, CLOCK_MONOTONIC; 0: none */

	/* The round robin of those with something for the guest. */
	bool ready;
	uint16_t ready_next;
	unsigned send; /* VSOCK_SEND_… */

	/* From the host's program to the guest. Counters are free-running, as in packets. */
	bool readable;		 /* until a read says otherwise */
	bool eof;		 /* it will send no more */
	bool deaf;		 /* it will read no more */
	uint32_t told;		 /* SHUTDOWN flags the guest has had */
	bool credit_asked;	 /* since credit ran out */
	uint32_t sent;		 /* bytes */
	uint32_t peer_fwd_cnt;	 /* of them, read by the guest's program */
	uint32_t peer_buf_alloc; /* how far the former may be ahead */

	/* From the guest to the host's program. */
	uint32_t guest_shutdown; /* SHUTDOWN flags from the guest */
	uint32_t received;
	uint32_t forwarded;  /* our fwd_cnt: the rest is in buffer */
	uint32_t advertised; /* fwd_cnt as the guest knows it */
	uint8_t *buffer;     /* VSOCK_BUFFER, a ring; NULL until needed */
};

/* A reset for something that is no connection. */
struct vsock_reset {
	uint64_t host_cid;
	uint32_t guest_port, host_port;
	uint16_t type;
};

struct vsock {
	struct virtio_device v;	 /* first */
	struct event_loop *loop; /* its own, or NULL: the main loop */
	uint64_t guest_cid;
	char *prefix;

	struct unix_listener listener;
	int epoll; /* the connections' sockets, edge-triggered */
	struct event_source sockets;
	struct event_timer timer;

	/* Guarded by the transmit queue's lock. */
	struct chain_fifo tx;

	/* Guarded by the event queue's lock. */
	struct chain_fifo events;

	/* Guarded by the receive queue's lock. */
	struct chain_fifo rx;
	struct vsock_conn *conn; /* VSOCK_CONNECTIONS */
	uint16_t free_head;
	uint16_t ready_head, ready_tail;
	uint16_t bucket[VSOCK_BUCKETS];
	uint32_t next_port;
	bool timer_set;
	bool tx_stalled; /* no room for another reset */
	struct vsock_reset reset[VSOCK_RESETS];
	unsigned reset_first, resets;
	struct log_limit invalid;
};

static inline struct vsock *vsock_of(struct virtio_device *v)
{
	return (struct vsock *)v; /* first member */
}

static inline struct virtio_queue *vsock_rxq(struct vsock *s)
{
	return &s->v.queue[VSOCK_RXQ];
}

/* ---- all below: the receive queue's lock held ---- */

int vsock_table_init(struct vsock *s);
void vsock_table_destroy(struct vsock *s);
/* NULL if there are too many. The connection takes over fd. */
struct vsock_conn *vsock_add(struct vsock *s, enum vsock_state state, int fd);
/* The pair of ports makes it known to vsock_find(). */
void vsock_bind(struct vsock *s, struct vsock_conn *c, uint32_t guest_port, uint32_t host_port);
void vsock_unbind(struct vsock *s, struct vsock_conn *c);
struct vsock_conn *vsock_find(struct vsock *s, uint32_t guest_port, uint32_t host_port);
/* Closes the socket and forgets it, the guest is told nothing. */
void vsock_remove(struct vsock *s, struct vsock_conn *c);
/* Closes the socket and has the guest told. */
void vsock_kill(struct vsock *s, struct vsock_conn *c);
/* All of them; device reset. */
void vsock_clear(struct vsock *s);
/* There may be something to send to the guest: its turn will come. */
void vsock_make_ready(struct vsock *s, struct vsock_conn *c);
struct vsock_conn *vsock_next_ready(struct vsock *s); /* NULL: none */
/* A RST packet for no connection; the caller has seen that there is room. */
void vsock_add_reset(struct vsock *s, const struct vsock_reset *reset);

/* Takes len bytes of the span, which the credit allows. */
void vsock_forward(struct vsock *s, struct vsock_conn *c, struct virtq_span *span, uint32_t len);
/* The socket takes bytes again. */
void vsock_flush(struct vsock *s, struct vsock_conn *c);
/* The guest has said what it will not do any more. */
void vsock_guest_shutdown(struct vsock *s, struct vsock_conn *c, uint32_t flags);

/* How many bytes the guest has room for. */
static inline uint32_t vsock_credit(const struct vsock_conn *c)
{
	uint32_t in_flight = c->sent - c->peer_fwd_cnt;
	uint32_t limit =
		c->peer_buf_alloc < VSOCK_MAX_CREDIT ? c->peer_buf_alloc : VSOCK_MAX_CREDIT;

	return in_flight < limit ? limit - in_flight : 0;
}

static inline uint32_t vsock_buffered(const struct vsock_conn *c)
{
	return c->received - c->forwarded;
}

/* Sends what is waiting, as far as there are buffers. */
void vsock_pump(struct vsock *s);
/* One packet from the guest, the transmit queue's lock held too. Why it is none, or NULL. */
const char *vsock_take_packet(struct vsock *s, struct virtq_chain *chain);

/* A socket that is connected to the program at PREFIX_PORT, or -errno. */
int vsock_connect(struct vsock *s, uint32_t port);
/* The guest has accepted: says so to the host's program. False: it has gone. */
bool vsock_greet(const struct vsock_conn *c);

/* ---- no lock held ---- */

int vsock_host_open(struct vsock *s, struct event_loop *loop, const char *prefix, struct error *e);
/* No program comes in and no socket is looked at any more. */
void vsock_host_stop(struct vsock *s);
/* When the connections are gone. */
void vsock_host_destroy(struct vsock *s);

/*
 * Tells the guest that all its connections are gone (section 5.10.6.7), as after it was restored
 * elsewhere. False: it has left no buffer to say it with.
 */
bool vsock_transport_reset(struct vsock *s);

#endif
