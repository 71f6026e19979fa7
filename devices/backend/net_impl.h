/*
 * What a network backend provides to net.c (net_tap.c, net_user.c; tests have one of their own).
 */
#ifndef DEVICES_BACKEND_NET_IMPL_H
#define DEVICES_BACKEND_NET_IMPL_H

#include "devices/backend/net.h"

/* As the calls of net.h with the same names; NULL where "may be NULL" is said. */
struct net_ops {
	void (*close)(struct net *net);
	int (*set_offloads)(struct net *net, uint32_t offloads); /* may be NULL: none */
	int (*set_filter)(struct net *net, const uint8_t (*mac)[6], unsigned n,
			  bool allmulti);			     /* may be NULL: none */
	struct net_queue *(*queue)(struct net *net, unsigned index); /* index is in range */
	int (*start)(struct net_queue *q, struct error *e); /* q->loop and client are set */
	void (*stop)(struct net_queue *q);
	int (*enable)(struct net_queue *q, bool enable); /* may be NULL */
	int (*fd)(const struct net_queue *q);		 /* may be NULL: -1 */
	void (*watch)(struct net_queue *q);		 /* may be NULL */
	void (*want)(struct net_queue *q, bool want);
	ssize_t (*receive)(struct net_queue *q, const struct iovec *iov, int niov);
	/* Bytes taken, header included, or -errno. */
	ssize_t (*send)(struct net_queue *q, const struct iovec *iov, int niov);
	void (*flush)(struct net_queue *q); /* may be NULL */
};

/* Embedded first. */
struct net {
	const struct net_ops *ops;
	struct net_info info;
};

/* Embedded first. */
struct net_queue {
	struct net *net;
	struct event_loop *loop; /* NULL while stopped */
	const struct net_client *client;
	void *opaque;
	struct account *account; /* or NULL */
	struct net_stats stats;
};

int net_tap_open(struct net **out, const struct net_config *config, struct error *e);
int net_user_open(struct net **out, const struct net_config *config, struct error *e);

#endif
