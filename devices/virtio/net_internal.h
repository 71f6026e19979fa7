/*
 * virtio-net, what its files share: net.c makes the device and agrees on features, net_rx.c and
 * net_tx.c move frames, net_ctrl.c serves the control queue, net_filter.c decides what passes.
 *
 * Threads. A pair of queues (receive 2i, transmit 2i + 1) is served by one event loop, by default
 * an I/O thread of its own: frames of one flow then stay on one thread and its cache, pairs share
 * nothing they write, and the pair's backend queue needs no lock. The state of each direction is
 * guarded by its virtqueue's lock, as vCPUs stop and reset queues.
 *
 * Or all pairs are in the hands of a vhost backend, and only the control queue is served here.
 *
 * Lock order: v->lock, the control queue's lock, wanted_lock, the plane's, a receive queue's lock;
 * the transmit queues' locks are not taken together with another queue's.
 */
#ifndef DEVICES_VIRTIO_NET_INTERNAL_H
#define DEVICES_VIRTIO_NET_INTERNAL_H

#include <linux/virtio_net.h>

#include "devices/backend/net.h"
#include "devices/virtio/chain_fifo.h"
#include "devices/virtio/net_filter.h"
#include "devices/virtio/vhost/vhost.h"
#include "devices/virtio/virtio.h"

/* Newer than the headers of Debian 12. */
#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO	56
#endif

struct virtio_net;
struct net_pair;

/* What is read into memory of ours first: the two headers that are looked at. */
#define NET_RX_PEEK 18u /* Ethernet and a VLAN tag */
#define NET_RX_HEAD (NET_HEADER + NET_RX_PEEK)

struct net_rx_stats {
	uint64_t filtered; /* not for this card */
	uint64_t dropped;  /* no buffers they would fit, or no driver that could read them */
	uint64_t starved;  /* times there was no buffer */
	uint64_t copied;   /* bytes that had to go through memory of ours */
};

/* Guarded by the receive queue's lock. */
struct net_rx {
	bool enabled;	/* the driver uses this pair */
	bool mergeable; /* MRG_RXBUF */
	bool checksum;	/* GUEST_CSUM: the driver completes checksums */
	bool segment;	/* … and segments */
	struct net_filter filter;
	struct chain_fifo fifo; /* buffers taken from the ring and not used yet */

	/*
	 * Where the next frame goes: our `head`, then the guest's buffers, then our `tail` for what
	 * does not fit them. `front` is where the head goes in the guest's memory.
	 */
	uint8_t head[NET_RX_HEAD];
	uint8_t *tail;
	struct iovec iov[NET_MAX_IOV];
	struct iovec front[NET_RX_HEAD];
	int niov, nfront;
	struct virtq_chain *last; /* of the buffers in use for it; NULL: none are */
	size_t capacity;	  /* bytes that fit the guest's buffers */
	size_t peak;		  /* how long frames are lately: what to have room for */

	/* A frame that waits for more buffers; 0: none. */
	size_t waiting;
	size_t tail_done, tail_len;

	struct net_rx_stats stats;
};

struct net_tx_stats {
	uint64_t dropped; /* refused by the backend, too long, or sent without a cable */
	uint64_t blocked; /* times the backend took no more */
};

/* Guarded by the transmit queue's lock. */
struct net_tx {
	struct chain_fifo fifo; /* wait for the backend */
	struct net_tx_stats stats;
};

struct net_pair {
	struct virtio_net *vn;
	struct virtio_queue *rxq, *txq;
	struct net_queue *backend;
	struct event_loop *loop; /* its own, or NULL: the main loop */
	bool started;
	struct net_rx rx;
	struct net_tx tx;
};

struct virtio_net {
	struct virtio_device v; /* first */
	struct net *net;
	struct vhost *backend;	  /* who moves the frames; NULL: we do. Until `plane` owns it */
	struct vhost_plane plane; /* empty without a backend */
	pthread_mutex_t
		wanted_lock; /* which rings of the plane are enabled follows link and pairs */
	bool link;	     /* atomic: the cable is plugged in */
	pthread_mutex_t status_lock; /* a leaf but for config_lock: guards status */
	uint16_t status;
	uint8_t mac[NET_MAC_LEN]; /* of the card */
	unsigned control;	  /* atomic: index of the control queue */
	struct net_filter filter; /* guarded by the control queue's lock, or no queue runs */
	unsigned npairs;
	struct net_pair pair[]; /* npairs */
};

static inline struct virtio_net *virtio_net_of(struct virtio_device *v)
{
	return (struct virtio_net *)v; /* first member */
}

static inline bool virtio_net_has_link(const struct virtio_net *vn)
{
	return __atomic_load_n(&vn->link, __ATOMIC_RELAXED);
}

/*
 * What a frame counts for event_loop_took(): of a stream a single long one has a train of segments
 * in it, and more behind it.
 */
static inline unsigned net_turn_weight(size_t len)
{
	return 1 + (unsigned)(len / 2048);
}

/* ---- net_rx.c ---- */

int net_rx_init(struct net_pair *p);
void net_rx_destroy(struct net_pair *p);
void net_rx_pull(struct net_pair *p); /* lock held: there may be buffers */
void net_rx_readable(struct net_pair *p);
void net_rx_drain(struct net_pair *p); /* lock held */

/* ---- net_tx.c ---- */

void net_tx_process(struct net_pair *p, struct virtq_chain **chains, unsigned n);
void net_tx_writable(struct net_pair *p);
void net_tx_drain(struct net_pair *p); /* lock held */

/* ---- net_ctrl.c ---- */

void net_ctrl_process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n);

/* ---- net.c ---- */

/*
 * The device over net, and with vhost (may be NULL) to move the frames; it owns both from here on,
 * also on failure. Tests come in here.
 */
int virtio_net_create(struct device_host *host, const struct device_config *config, struct net *net,
		      struct vhost *vhost, struct device **out, struct error *e);

/* GUEST_… feature bits → what the backend may send us. */
uint32_t virtio_net_receive_offloads(uint64_t features);
/* Uses the first n pairs. The control queue's lock held, or no queue runs. */
void virtio_net_use_pairs(struct virtio_net *vn, unsigned n);
/* Gives every receive queue the filter. As above. */
void virtio_net_publish_filter(struct virtio_net *vn);
/* Changes bits of the status field and tells the driver. Any thread. */
void virtio_net_set_status(struct virtio_net *vn, uint16_t clear, uint16_t set, bool tell);

#endif
