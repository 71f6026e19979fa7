/*
 * Vhost: the queues of a virtio device served by somebody else – the kernel, another process, vDPA
 * – while registers, features, configuration space and interrupts' masks stay with us.
 *
 * Two halves meet here. A backend (kernel_*.c, vdpa.c, user_*.c) implements struct vhost_ops, in
 * terms of rings. A plane (vhost.c) binds a struct virtio_device to a backend: it starts rings when
 * the driver and the machine let them run, hands the doorbell's eventfd to the backend as kick and
 * the vector's as call (or listens itself where the transport has no such eventfd), stops them and
 * keeps where they had got to, so that whoever serves next, we or another backend, goes on there.
 *
 * Locks. A plane's lock comes after v->lock and the locks of queues that are not the plane's,
 * before those of the queues that are. All operations of a backend are called with it held (but
 * open and close), so a backend needs no lock of its own for them; none of them may wait for an
 * event loop. What a backend reports (vhost_lost() …) it reports from an event loop with no lock
 * held.
 */
#ifndef DEVICES_VIRTIO_VHOST_VHOST_H
#define DEVICES_VIRTIO_VHOST_VHOST_H

#include <sys/types.h>

#include "devices/virtio/virtio.h"

struct vhost;
struct vhost_plane;

/* One ring, ready to run. Addresses are in RAM and aligned; pointers are to the same bytes. */
struct vhost_vring {
	unsigned index;
	uint16_t size;
	bool packed;
	uint64_t desc, driver, device; /* guest addresses */
	void *desc_host, *driver_host, *device_host;
	struct virtq_state base;
	int kick, call, err; /* eventfds; they stay ours */
};

/*
 * What a backend can do. Calls return 0 or -errno and do not wait without end. "May be NULL": there
 * is nothing to be done. Rings are those of the plane, from 0.
 *
 * Starting: set_features, set_memory, then set_vring and enable for each ring that is to run, then
 * start. Stopping: stop, then for each ring enable(false) if it was enabled, and get_base; when
 * that has returned nothing touches the ring or its buffers.
 */
struct vhost_ops {
	/*
	 * Rings may be set up, enabled and stopped while others run. Without it all are stopped and
	 * started again when one comes or goes.
	 */
	bool live_rings;

	int (*set_features)(struct vhost *b, uint64_t features);
	int (*set_memory)(struct vhost *b, const struct guest_memory *memory);
	int (*set_vring)(struct vhost *b, const struct vhost_vring *ring);
	/* Another eventfd for interrupts; also while the ring runs. */
	int (*set_call)(struct vhost *b, unsigned index, int fd);
	/* May be NULL. */
	int (*enable)(struct vhost *b, unsigned index, bool on);
	int (*start)(struct vhost *b); /* may be NULL */
	int (*stop)(struct vhost *b);  /* may be NULL */
	/* Stops the ring. Split rings: only avail_idx need be filled in. */
	int (*get_base)(struct vhost *b, unsigned index, struct virtq_state *base);
	/* The driver has reset the device; no ring runs. Also while it is lost. May be NULL. */
	void (*reset)(struct vhost *b);
	/*
	 * After the backend was lost: where its successor has to begin. NULL, or -ENOTSUP: where
	 * the used ring ends (split), not at all (packed).
	 */
	int (*recover)(struct vhost *b, unsigned index, struct virtq_state *base);
	/* Configuration space of the device; both or neither, for those that are asked for it. */
	int (*get_config)(struct vhost *b, unsigned offset, void *buf, size_t len);
	int (*set_config)(struct vhost *b, unsigned offset, const void *buf, size_t len);
	/* Threads that work for it and are not of this process' making; how many. May be NULL. */
	unsigned (*tids)(struct vhost *b, pid_t *tid, unsigned max);
	/* Frees it; no ring runs and nothing is reported any more. */
	void (*close)(struct vhost *b);
};

/* Embedded first in every backend, which fills in all but what is said to be the plane's. */
struct vhost {
	const struct vhost_ops *ops;
	const char *name;	   /* "vhost-net", "/run/x.sock": for messages */
	uint64_t features;	   /* what it offers, as virtio's bits */
	uint64_t own;		   /* of a network card's: what it does in our stead, if it can */
	unsigned rings;		   /* how many it can have */
	bool process;		   /* another one: it has the queues' eventfds as well */
	bool returns;		   /* when lost it may come back (vhost_back()): wait for it */
	uint64_t owned;		   /* the plane's: see vhost_limit_features() */
	struct vhost_plane *plane; /* the plane's; NULL until bound */
};

static inline void vhost_close(struct vhost *b)
{
	if (b)
		b->ops->close(b);
}

/* ---- what a backend reports ---- */

/*
 * It is gone: hung up, or broke the protocol. Rings stop where they are. If it does not return the
 * driver is told to reset. Calls that fail from then on are no news.
 */
void vhost_lost(struct vhost *b, const char *why);
/* It is there again, with b->features anew: rings start where they have to. */
void vhost_back(struct vhost *b);
/* Its configuration space is another one: the plane's config_changed(). */
void vhost_config_changed(struct vhost *b);

/* ---- planes ---- */

struct vhost_queue {
	struct vhost_plane *plane;
	struct virtio_queue *q;
	bool wanted;		    /* by the device: a pair in use, a cable plugged in */
	bool active;		    /* the backend has the ring */
	bool enabled;		    /* and works on it */
	int call;		    /* the eventfd it has */
	struct event_source called; /* our own, where the transport has none */
	struct event_source err;
};

struct vhost_plane {
	struct virtio_device *v; /* NULL: not set up, or gone */
	struct vhost *backend;
	/* On the loop, no lock held. May be NULL. */
	void (*config_changed)(struct vhost_plane *p);
	pthread_mutex_t lock; /* guards all below */
	unsigned used;	      /* so many of the first queues are the backend's; v->lock too */
	bool running;	      /* the backend was started */
	bool lost;	      /* the backend is not there */
	bool failed;	      /* until the driver resets the device */
	uint64_t trouble;     /* times it failed; only the first is told */
	unsigned nqueues;
	struct vhost_queue *queue;
};

/*
 * The features that v offers from now on: of those in `owned` only what the backend has as well.
 * They are what it will be told of. After virtio_device_init(), before virtio_queue_init().
 * -ENOTSUP names the key of the flag that asks for what the backend has not (ring=packed).
 */
#define VHOST_RING_FEATURES                                                                        \
	(VIRTIO_BIT(VIRTIO_F_RING_PACKED) | VIRTIO_BIT(VIRTIO_F_RING_RESET) |                      \
	 VIRTIO_BIT(VIRTIO_F_IN_ORDER) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) |                     \
	 VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_BIT(VIRTIO_F_VERSION_1))
int vhost_limit_features(struct virtio_device *v, struct vhost *b, uint64_t owned, struct error *e);

/*
 * Binds the first n queues of v to the backend, which the plane owns from here on, also on failure.
 * After virtio_queue_init() of them; *p is zeroed before. The loop listens to errors and, where it
 * has to, to interrupts.
 */
int vhost_plane_init(struct vhost_plane *p, struct virtio_device *v, struct vhost *b, unsigned n,
		     struct event_loop *loop, struct error *e);
/* Stops all and closes the backend. For v->ops->detach(), or after a failure. Main thread. */
void vhost_plane_fini(struct vhost_plane *p);

/* For v->ops->update(). */
void vhost_plane_update(struct vhost_plane *p);
/* For v->ops->reset(). */
void vhost_plane_reset(struct vhost_plane *p);
/*
 * The backend has the first n queues, we have the others. v->lock held, and no queue of the plane
 * is started (driver_ok() is the place).
 */
void vhost_plane_use(struct vhost_plane *p, unsigned n);
/* The same for a running device: the driver does not notice. Any thread, no lock held. */
void vhost_plane_handover(struct vhost_plane *p, unsigned n);
/* Is the ring to be worked on, apart from what driver and machine say? No lock of its queue held.
 */
void vhost_plane_enable(struct vhost_plane *p, unsigned index, bool on);

/* Copies the backend's configuration space, as much as v has. */
int vhost_plane_get_config(struct vhost_plane *p, void *config);
/* … into v's; tell: the driver hears of it. */
int vhost_plane_load_config(struct vhost_plane *p, bool tell);
/* For v->ops->config_write(). */
void vhost_plane_store_config(struct vhost_plane *p, unsigned offset, unsigned size,
			      uint64_t value);

unsigned vhost_plane_tids(struct vhost_plane *p, pid_t *tid, unsigned max);

#endif
