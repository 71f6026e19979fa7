/*
 * A network backend for tests of front ends: every queue is a pair of sockets that keep frames
 * apart, the test holds the other ends. It behaves like a tap: it fills up, it can be detached.
 */
#ifndef TESTS_UNIT_TEST_NET_FAKE_H
#define TESTS_UNIT_TEST_NET_FAKE_H

#include "devices/backend/net_impl.h"

#define FAKE_QUEUES 4
#define FAKE_BUF    (NET_HEADER + NET_FRAME_MAX + 100)

struct fake_net_queue {
	struct net_queue base; /* first */
	int fd, peer;
	struct event_source source;
	bool want, want_write;
	bool enabled; /* atomic */
};

struct fake_net {
	struct net base; /* first */
	struct fake_net_queue queue[FAKE_QUEUES];
	uint32_t offloads; /* as last set; atomic */
	uint32_t *closed;  /* set to 1 when it is */
	/* As last set; the control queue's answer comes after. */
	unsigned filter;
	uint8_t filter_mac[8][6];
	bool allmulti;
	int refuse; /* atomic: send() fails with this errno */
};

struct fake_net *fake_net_create(unsigned queues, uint32_t offloads);
void fake_net_close(struct fake_net *f); /* if no front end has taken it */

/* A frame for the front end, with its header. */
void fake_net_inject(struct fake_net *f, unsigned queue, const void *frame, size_t len);
/* What the front end sent, waiting up to ms; its length, or -1. */
ssize_t fake_net_take(struct fake_net *f, unsigned queue, void *buf, size_t size, int ms);
/* Frames that the front end has not read yet. */
bool fake_net_pending(struct fake_net *f, unsigned queue);

#endif
