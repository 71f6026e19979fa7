/*
 * Network backends: where the frames of a network card go. One small interface for every front end
 * (virtio-net, e1000, vhost-net through the tap's descriptor) over a tap device or user-mode NAT.
 *
 * A frame travels with NET_HEADER bytes in front of it, in both directions: struct
 * virtio_net_hdr_v1, little-endian (Virtio 1.2 section 5.1.6), which says what is left to do:
 * checksum, segmentation. A front end without offloads sends zeros there. Its last field,
 * num_buffers, is the front end's own: backends neither read nor write it.
 *
 * A backend has queues, one for each pair of the front end's. A queue is used on one event loop
 * only, after net_queue_start(); calls that may come from another thread say so. Nothing is read
 * from the outside before the front end wants frames, so a slow guest is the problem of the
 * kernel's queue (which counts what it drops) or of TCP's window, not of mvm's memory.
 */
#ifndef DEVICES_BACKEND_NET_H
#define DEVICES_BACKEND_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "devices/device.h"
#include "vmm/error.h"
#include "vmm/event.h"

#define NET_HEADER     12u
#define NET_FRAME_MAX  65553u /* Ethernet header, a VLAN tag, 65535 bytes of IP */
#define NET_MAX_QUEUES 31u
#define NET_MAX_IOV    1024 /* UIO_MAXIOV */

struct net;
struct net_queue;

/* What the one who gets a frame can deal with. */
#define NET_OFFLOAD_CSUM (1u << 0) /* a checksum that is not there yet */
#define NET_OFFLOAD_TSO4 (1u << 1) /* TCP segments longer than the MTU */
#define NET_OFFLOAD_TSO6 (1u << 2)
#define NET_OFFLOAD_ECN	 (1u << 3) /* … with ECN bits */
#define NET_OFFLOAD_USO	 (1u << 4) /* UDP datagrams to be cut, IPv4 and IPv6 */

struct net_info {
	const char *name; /* of the tap, or "user": for messages */
	unsigned queues;
	uint32_t offloads; /* NET_OFFLOAD_… of sent frames, and the most of received ones */
	unsigned mtu;	   /* 0: unknown */
};

struct net_config {
	const char *target; /* NULL or "user", a tap's name, "fd:N[:N…]" */
	unsigned queues;    /* 0: what the target has, or 1 */
	unsigned mtu;	    /* 0: leave it */
	/* Of the target "user", else they must be unset. */
	const char *hostfwd; /* PROTO:[ADDRESS]:PORT-[ADDRESS]:PORT, several joined by + */
	const char *net;     /* ADDRESS/LENGTH; NULL: 10.0.2.0/24 */
	bool restricted;     /* the guest reaches nobody, except by hostfwd */
};

/* What a front end is told, on the queue's loop, never from inside a call of its own. */
struct net_client {
	/* Frames wait: call net_receive(). Comes again until none waits or none is wanted. */
	void (*readable)(void *opaque);
	/* After net_send() said -EAGAIN: try again. */
	void (*writable)(void *opaque);
	/* The other side is gone for good (the tap was deleted). May be NULL. */
	void (*gone)(void *opaque);
};

/* Plain counters, written on the queue's loop. */
struct net_stats {
	uint64_t sent, sent_bytes;	   /* frames, without header */
	uint64_t received, received_bytes; /* likewise */
	uint64_t refused;		   /* frames the other side would not take: lost */
	uint64_t lost;			   /* frames to the guest that had no room here */
};

/* Errors name the target and the way out. */
int net_open(struct net **out, const struct net_config *config, struct error *e);
void net_close(struct net *net); /* all queues stopped before */
const struct net_info *net_info(const struct net *net);
/*
 * What received frames may ask of the front end from now on (a subset of info->offloads); none at
 * first. Any thread. -EINVAL, or what the kernel says.
 */
int net_set_offloads(struct net *net, uint32_t offloads);

/*
 * For frames that go past the front end (vhost): only those to one of n addresses, or to any group
 * if allmulti, come from now on; n = 0: all do. A hint, better too many than too few. Any thread.
 */
int net_set_filter(struct net *net, const uint8_t (*mac)[6], unsigned n, bool allmulti);

struct net_queue *net_queue(struct net *net, unsigned index); /* NULL past the last */

/* Gives it a loop and a client; it wants nothing yet. Main thread, once or after a stop. */
int net_queue_start(struct net_queue *q, struct event_loop *loop, const struct net_client *client,
		    void *opaque, struct error *e);
/* When it returns no callback runs, and none will. Main thread. */
void net_queue_stop(struct net_queue *q);
/*
 * Takes a queue of several out of use, so that no flow is steered to it, and back. All are in use
 * at first. Any thread.
 */
int net_queue_enable(struct net_queue *q, bool enable);
/* Tells gone() although the front end wants no frames: they go elsewhere. Main thread. */
void net_queue_watch(struct net_queue *q);
/* The tap's descriptor, for a data plane elsewhere (vhost-net); it stays ours. -1: has none. */
int net_queue_fd(const struct net_queue *q);
const struct net_stats *net_queue_stats(const struct net_queue *q);

/* Whom it serves: system calls and copies count there. Before it starts. */
void net_queue_account(struct net_queue *q, struct account *account);

/* Does the front end want to hear of frames? */
void net_receive_want(struct net_queue *q, bool want);
/*
 * Takes one frame, header first; returns the bytes with the header, or -EAGAIN. A frame that is
 * longer than the buffers is cut: have room for NET_HEADER + NET_FRAME_MAX.
 */
ssize_t net_receive(struct net_queue *q, const struct iovec *iov, int niov);
/*
 * Sends one frame, header first. 0; -EAGAIN: keep it, writable() will tell; any other error: it is
 * lost, and counted. The buffers may be written by a guest at any moment.
 */
int net_send(struct net_queue *q, const struct iovec *iov, int niov);
/* After a batch of net_send(). */
void net_flush(struct net_queue *q);

/* ---- keys of a network card's flag ---- */

/* Keys of every card. */
#define NET_CARD_KEYS                                                                              \
	{ .name = "mac",                                                                           \
	  .type = KEY_STRING,                                                                      \
	  .help = "the card's address; default 52:54:00:6d:76:NN, NN the number of the card" },    \
		{ .name = "mtu",                                                                   \
		  .type = KEY_UINT,                                                                \
		  .min = 68,                                                                       \
		  .max = 65520,                                                                    \
		  .help = "largest packet, told to guest and backend" },                           \
	{                                                                                          \
		.name = "link", .type = KEY_BOOL, .fallback = "on",                                \
		.help = "is the cable plugged in at the start?"                                    \
	}

/* Keys that every row with a backend of this kind has. */
#define NET_KEYS                                                                                   \
	NET_CARD_KEYS,                                                                             \
		{ .name = "hostfwd",                                                               \
		  .type = KEY_STRING,                                                              \
		  .help = "user: host port to guest, as tcp::2222-:22 or "                         \
			  "udp:0.0.0.0:53-10.0.2.15:53; several joined by +; host address "        \
			  "127.0.0.1 if none is given" },                                          \
		{ .name = "net",                                                                   \
		  .type = KEY_STRING,                                                              \
		  .help = "user: the guest's network; default 10.0.2.0/24" },                      \
	{                                                                                          \
		.name = "restrict", .type = KEY_BOOL, .fallback = "off",                           \
		.help = "user: the guest reaches nothing but what hostfwd allows"                  \
	}

/* net_open() with what such a flag says. queues as in struct net_config. */
int net_open_flag(struct net **out, const struct device_config *config, unsigned queues,
		  struct error *e);
/* The card's address, from the flag or its place. -EINVAL for what is none. */
int net_flag_mac(const struct device_config *config, uint8_t mac[6], struct error *e);

#endif
