/*
 * A vhost backend of the tests' own, and a device to put on it. The backend writes down what it is
 * told, can be made to fail, and serves rings with the queue core: on a thread that waits for
 * kicks, as a kernel's worker does, or step by step. The device has two queues and answers each
 * chain with 64 bytes that say who served it.
 */
#ifndef TESTS_UNIT_TEST_VHOST_RIG_H
#define TESTS_UNIT_TEST_VHOST_RIG_H

#include "devices/virtio/vhost/vhost.h"
#include "tests/unit/test_virtio_rig.h"

#define FAKE_RINGS 4 /* the most it can have */
#define ECHO_RINGS 2
#define BY_US	   0x11 /* what is in the answer */
#define BY_BACKEND 0x22

/* Bits the fake has unless a test says otherwise. */
#define FAKE_FEATURES                                                                              \
	(MODEL_BIT(VIRTIO_F_VERSION_1) | MODEL_BIT(VIRTIO_F_RING_PACKED) |                         \
	 MODEL_BIT(VIRTIO_F_RING_RESET) | MODEL_BIT(VIRTIO_RING_F_EVENT_IDX) |                     \
	 MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC))

struct fake_ring {
	bool set, enabled;
	struct vhost_vring vring;
	struct virtq q;
	unsigned served;
};

struct fake_vhost {
	struct vhost b; /* first */
	struct vhost_ops ops;
	const struct guest_memory *memory;
	char log[4096];	  /* "features memory vring0 enable0 start" … */
	const char *fail; /* the call (as logged) that fails */
	uint64_t features;
	bool running;
	uint32_t *closed; /* set to 1 when it is */
	uint8_t config[12];

	pthread_mutex_t lock; /* guards rings against the thread */
	struct fake_ring ring[FAKE_RINGS];
	bool threaded, stop;
	pthread_t thread;
};

/* An echo device on a fake backend; keys as VIRTIO_KEYS. The device owns the fake. */
struct fake_vhost *fake_vhost_create(uint64_t features);
/* Makes the device and starts it; features of the device itself: bit 0 and 1. */
void echo_plug(struct vrig *r, struct fake_vhost *f, const char *keys);
/* Only makes it; for flags that must fail. */
int echo_make(struct vrig *r, struct fake_vhost *f, const char *keys, struct device **out,
	      struct error *e);

struct echo {
	struct virtio_device v; /* first */
	struct vhost_plane plane;
	struct event_loop *loop;
	unsigned served; /* by us; under the queues' locks */
};

static inline struct echo *echo_in(struct vrig *r)
{
	return (struct echo *)r->dev;
}

/* The log since the last time; "" if nothing was said. */
void fake_check_log(struct fake_vhost *f, const char *expected);
/* Takes at most max chains and answers them; how many there were. */
unsigned fake_serve(struct fake_vhost *f, unsigned ring, unsigned max);
/* From now on a thread does, woken by kicks. */
void fake_start_thread(struct fake_vhost *f);
void fake_stop_thread(struct fake_vhost *f);
/* What the ring was given last. */
struct vhost_vring fake_vring(struct fake_vhost *f, unsigned ring);

#endif
