/*
 * What the parts of virtio-balloon share: balloon.c (queues and configuration space),
 * balloon_stats.c (what the guest says of its memory) and balloon_control.c (a socket to ask and to
 * order, until there is a control interface for the whole machine).
 */
#ifndef DEVICES_VIRTIO_BALLOON_H
#define DEVICES_VIRTIO_BALLOON_H

#include <linux/virtio_balloon.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "devices/virtio/chain_fifo.h"
#include "devices/virtio/virtio.h"

#define BALLOON_PAGE	   4096u /* bytes, whatever the guest's and the host's pages are */
#define BALLOON_PAGE_SHIFT 12

/* What a queue is for: which ones there are depends on the features (section 5.5.2). */
enum balloon_role { ROLE_INFLATE, ROLE_DEFLATE, ROLE_STATS, ROLE_REPORTING, ROLE_COUNT };

struct balloon_counters {
	uint64_t inflated, deflated; /* pages that went in and out */
	uint64_t reported;	     /* bytes of free pages reported */
	uint64_t discarded;	     /* bytes given back to the host, for either reason */
};

struct balloon_stats {
	uint64_t value[VIRTIO_BALLOON_S_NR];
	uint32_t known; /* a bit for each tag that the driver has sent */
	uint64_t updates;
};

struct balloon_control;

struct balloon {
	struct virtio_device v;	 /* first */
	struct event_loop *loop; /* its own, or NULL: the main loop */
	struct balloon_control *control;

	/* Set when the driver is ready, before queues run: the role of each queue; ROLE_COUNT for
	 * one that the driver should not have. */
	enum balloon_role role[ROLE_COUNT];
	bool poisoned;		  /* freed pages must keep their contents */
	struct log_limit useless; /* pages that could not be given back */

	/* Guards all below; after q->lock. */
	pthread_mutex_t lock;
	uint64_t target; /* pages asked for */
	uint64_t actual; /* pages that the driver says it has given */
	struct balloon_counters counters;
	struct balloon_stats stats;

	/* Guarded by the statistics queue's lock. */
	struct chain_fifo waiting; /* the buffer to ask with */
	uint64_t stats_interval;   /* ns; 0: only when asked */
	struct event_timer timer;
};

/* Bytes to have in the balloon; -EINVAL if there is not so much RAM. Any thread. */
int balloon_set_target(struct balloon *b, uint64_t bytes);

/* A buffer came; false: more than one, which no driver sends. The queue's lock is held. */
bool balloon_stats_receive(struct balloon *b, struct virtio_queue *q, struct virtq_chain *chain);
/* Asks the driver for fresh ones, if it can be asked; the answer takes its time. Any thread. */
void balloon_stats_ask(struct balloon *b);
/* Begins to ask every interval, on loop. */
int balloon_stats_start(struct balloon *b, struct event_loop *loop, uint64_t seconds,
			struct error *e);
void balloon_stats_reset(struct balloon *b);
/* Everything known of the balloon, as lines of "name value". */
void balloon_print(struct balloon *b, FILE *to);

int balloon_control_open(struct balloon *b, const char *path, struct error *e);
void balloon_control_close(struct balloon *b);

#endif
