/*
 * Between the files user*.c but user_proto.c; nobody else includes this.
 *
 * Threads: the loop's thread connects, watches for the end and reports; operations come from any
 * thread. A call has the lock until its answer is there, and so has who changes the connection. The
 * lock comes after the plane's.
 */
#ifndef DEVICES_VIRTIO_VHOST_USER_IMPL_H
#define DEVICES_VIRTIO_VHOST_USER_IMPL_H

#include "devices/backend/unix_listener.h"
#include "devices/virtio/vhost/user.h"
#include "devices/virtio/vhost/user_proto.h"

struct vhost_user {
	struct vhost b; /* first */
	struct vhost_user_options options;
	char **child; /* argv, owned; NULL: none */
	char *path, *name;
	pid_t pid; /* of the child; 0: none runs */

	struct event_loop *loop;
	pthread_mutex_t lock;	       /* guards hangup.fd, protocol and asks.fd */
	struct unix_listener listener; /* waits while server=on and nobody is there */
	struct event_source hangup;    /* the connection; fd -1: none */
	struct event_source asks;      /* what the process asks of us (BACKEND_REQ); likewise */
	struct event_timer retry;
	unsigned delay_ms;
	uint64_t since_ms; /* when the connection was made */

	uint64_t protocol; /* protocol features both have */
	bool complained;   /* said what is wrong, since it was good last. Atomic */
	bool broken;	   /* an operation failed: the connection is of no more use. Atomic */

	/* The region of requests in flight, which only the other side looks into; fd -1: none. */
	int inflight_fd;
	struct vhost_user_inflight inflight;
	unsigned active; /* rings that run */
	bool kept;	 /* the region is that of a process that was lost */
	struct virtq_state base[VIRTIO_MAX_QUEUES]; /* where each ring was started or lost last */
};

static inline struct vhost_user *vhost_user_of(struct vhost *b)
{
	return (struct vhost_user *)b; /* first member */
}

static inline bool vhost_user_can(const struct vhost_user *u, unsigned protocol_feature)
{
	return u->protocol & VIRTIO_BIT(protocol_feature);
}

/*
 * user.c. Sends the request and, where it has an answer (or REPLY_ACK lets us ask for one), waits
 * for it, into *m. 0 or -errno with a message; after a failure of the connection it is shut down,
 * so that the loop hears of it. -EIO: the process says it cannot.
 */
int vhost_user_call(struct vhost_user *u, struct vhost_user_msg *m, struct error *e);
int vhost_user_call_u64(struct vhost_user *u, uint32_t request, uint64_t *value, struct error *e);

/* user_link.c. The first connection; then the loop's thread looks after it. */
int vhost_user_link(struct vhost_user *u, struct error *e);
void vhost_user_unlink(struct vhost_user *u);

/* user_child.c. */
int vhost_user_child_start(struct vhost_user *u, int *sock, struct error *e);
void vhost_user_child_end(struct vhost_user *u);
unsigned vhost_user_child_tids(struct vhost *b, pid_t *tid, unsigned max);

/* user.c: what is said first on a connection. */
int vhost_user_greet(struct vhost_user *u, struct error *e);

extern const struct vhost_ops vhost_user_ops;

#endif
