/*
 * A virtio device of the tests' own on the PCI transport: two queues, requests that it keeps as
 * long as it is told to, as a slow disk would.
 */
#ifndef TESTS_UNIT_TEST_VIRTIO_SLOW_H
#define TESTS_UNIT_TEST_VIRTIO_SLOW_H

#include <pthread.h>

#include "devices/virtio/virtio.h"
#include "tests/unit/test_virtio_rig.h"

#define ACK	    VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER	    VIRTIO_CONFIG_S_DRIVER
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define V1	    MODEL_BIT(VIRTIO_F_VERSION_1)
#define OWN_FEATURE MODEL_BIT(3)

struct slow {
	struct virtio_device v;
	struct event_loop *loop;
	bool slow;		       /* keeps chains; guarded by queue 0's lock */
	struct virtq_chain *held[256]; /* of queue 0 */
	unsigned nheld;
	unsigned resets;
	pthread_cond_t quick; /* with queue 0's lock */
};

extern const struct device_row slow_row;

struct vrig *slow_rig(void);
struct slow *slow_in(struct vrig *r);
/* Queue 0 keeps what it takes; or gives it back when it is drained next. */
void slow_set(struct vrig *r, bool slow);
/* How many chains it keeps. */
unsigned slow_held(struct vrig *r);
/* A register of the common configuration. */
uint64_t slow_reg(struct vrig *r, unsigned offset, unsigned size);
void slow_set_reg(struct vrig *r, unsigned offset, unsigned size, uint64_t value);

#endif
