/*
 * Between the files server*.c; nobody else includes this. Main loop's thread, unless it says
 * otherwise.
 */
#ifndef DEVICES_VIRTIO_VHOST_SERVER_IMPL_H
#define DEVICES_VIRTIO_VHOST_SERVER_IMPL_H

#include "devices/virtio/vhost/server.h"
#include "devices/virtio/vhost/user_proto.h"

/* One ring, as its messages have set it up. */
struct server_ring {
	struct virtio_queue *vq;
	uint32_t num, base;
	struct vhost_vring_addr addr; /* in the front end's addresses */
	bool addressed;		      /* addr is set */
	bool enabled;		      /* SET_VRING_ENABLE */
	bool started;		      /* from SET_VRING_KICK to GET_VRING_BASE */
	bool suspended;		      /* started, but memory changes, or has not all of it */
	struct virtq_state state;     /* where it was suspended */
	struct event_source kick;     /* the front end's eventfd */
	int call, err;		      /* likewise; guarded by vq->lock */
};

struct server_region {
	struct vhost_user_region region;
	int fd;
};

struct vhost_user_server {
	struct virtio_device *v;
	struct vhost_user_peer *peer;
	struct event_source source; /* the connection; fd -1: none */
	uint64_t protocol;	    /* protocol features the front end has taken */
	bool negotiated;	    /* SET_FEATURES has come */
	uint8_t status;		    /* SET_STATUS */
	struct log_limit complained;

	struct server_region region[VHOST_USER_MAX_REGIONS];
	unsigned nregions;

	/* The region of requests in flight: memory that both ends map. */
	void *inflight;
	size_t inflight_size;
	size_t inflight_stride; /* bytes of it for each queue */
	unsigned inflight_queues;

	struct server_ring *ring; /* of v->nqueues */
};

/* Handlers return 0, or -errno with a message. An answer of their own replaces *m. */
typedef int server_handler(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e);

/* server_ring.c */
server_handler server_set_vring_num, server_set_vring_addr, server_set_vring_base,
	server_get_vring_base, server_set_vring_kick, server_set_vring_call, server_set_vring_err,
	server_set_vring_enable;
int server_rings_create(struct vhost_user_server *s, struct error *e);
void server_rings_destroy(struct vhost_user_server *s);
void server_rings_reset(struct vhost_user_server *s); /* as before any message */
void server_rings_enable_all(struct vhost_user_server *s);
bool server_rings_started(const struct vhost_user_server *s);
/*
 * Nothing of ours uses guest memory between the two. A ring that no region covers stays suspended.
 */
void server_rings_suspend(struct vhost_user_server *s);
int server_rings_resume(struct vhost_user_server *s, struct error *e);
/* q->lock held */
void server_ring_call(struct vhost_user_server *s, unsigned index);
/* Tells the front end that the device needs a reset. Any thread. */
void server_rings_tell_error(struct vhost_user_server *s);

/* server_memory.c */
server_handler server_set_mem_table, server_add_mem_reg, server_rem_mem_reg, server_get_inflight_fd,
	server_set_inflight_fd;
/* A front end's range as a guest address; false if no region has all of it. */
bool server_guest_range(const struct vhost_user_server *s, uint64_t user, uint64_t len,
			uint64_t *guest);
void server_memory_reset(struct vhost_user_server *s); /* rings stopped */

#endif
