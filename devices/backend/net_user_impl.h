/*
 * User-mode NAT, what its files share: net_user.c is the backend, net_user_poll.c lets libslirp
 * wait on an event loop, net_user_options.c reads hostfwd= and net=.
 */
#ifndef DEVICES_BACKEND_NET_USER_IMPL_H
#define DEVICES_BACKEND_NET_USER_IMPL_H

#include <netinet/in.h>
#include <slirp/libslirp.h>

#include "devices/backend/net_frames.h"
#include "devices/backend/net_impl.h"
#include "vmm/log.h"

/* A descriptor that libslirp may want to be polled. */
struct user_poll_fd {
	uint32_t events;  /* as the epoll set has it; 0: not there */
	uint32_t revents; /* of this round */
	unsigned round;	  /* the last that asked for it */
};

/* All of them, behind an epoll set that is itself one source of the loop. */
struct user_poll {
	struct event_source source; /* the epoll set */
	struct event_timer timer;   /* of libslirp's time-outs and timers */
	struct user_poll_fd *fds;   /* by number */
	unsigned nfds;
	unsigned round;
};

struct user_timer {
	SlirpTimerCb callback;
	void *opaque;
	int64_t due; /* ms of CLOCK_MONOTONIC; -1: not set */
	struct user_timer *next;
};

struct user {
	struct net base; /* first */
	struct net_queue queue;
	Slirp *slirp;
	struct user_poll poll;
	struct user_timer *timers;
	struct net_frames frames; /* for the guest */
	bool want;		  /* the guest takes frames */
	bool stopped;		  /* sockets are left alone until the guest has taken some */
	bool sent;		  /* frames since the last flush */
	struct event_source wake; /* an eventfd: there is something to do for later() */
	bool woken, round_due;
	struct log_limit guest_error;
	unsigned frame_max; /* longest from the guest */
	uint8_t frame[NET_FRAME_MAX];
};

/* ---- net_user_poll.c: on the queue's loop ---- */

int user_poll_init(struct user_poll *poll, struct error *e);
void user_poll_destroy(struct user_poll *poll);
int user_poll_start(struct user *user, struct error *e);
void user_poll_stop(struct user *user);
/* Serves what is ready, then asks libslirp anew what to wait for. */
void user_poll_round(struct user *user);
/* Leaves the sockets alone while too many frames wait for the guest (net_user.c). */
void user_throttle(struct user *user);
/* Only the second half: after frames were given to libslirp. */
void user_poll_refill(struct user *user);
/* libslirp closes it. */
void user_poll_forget(struct user_poll *poll, int fd);

int64_t user_now_ms(void);

/* ---- net_user_options.c ---- */

struct user_network {
	struct in_addr net, mask, host, dns, dhcp;
};

/* text NULL: the default. */
int user_parse_network(const char *text, struct user_network *network, struct error *e);

struct user_forward {
	bool udp;
	struct in_addr host, guest; /* guest 0.0.0.0: the one address that DHCP gives */
	uint16_t host_port, guest_port;
};

/* Reads the first of *text and moves *text on; 1, 0 at the end, or a negative errno. */
int user_parse_forward(const char **text, struct user_forward *forward, struct error *e);

#endif
