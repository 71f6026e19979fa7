/*
 * A model driver and a fake backend with the vhost layer between them: both queues of the device of
 * test_vhost_rig.h brought up, used and taken down.
 */
#ifndef TESTS_UNIT_TEST_VHOST_PAIR_H
#define TESTS_UNIT_TEST_VHOST_PAIR_H

#include "tests/unit/test_vhost_rig.h"

#define V1	    MODEL_BIT(VIRTIO_F_VERSION_1)
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
/* What the backend is told at DRIVER_OK and at a reset. */
#define START_LOG "features memory vring0 vring1 enable0 enable1 start"
#define STOP_LOG  "stop disable0 base0 disable1 base1"

struct pair {
	struct vrig *r;
	struct fake_vhost *f;
	struct model d[ECHO_RINGS];
	uint32_t closed;
};

void pair_setup(struct pair *p, uint64_t features, const char *keys);
void pair_teardown(struct pair *p);
/* Both queues; with vectors 1 and 2 if MSI-X is on. */
void pair_up(struct pair *p, uint64_t wanted);
void pair_down(struct pair *p);
/* One request there and back; the byte that it came back with tells by whom it was served. */
uint8_t pair_request(struct pair *p, unsigned queue);
void pair_set_reg(struct pair *p, unsigned offset, unsigned size, uint64_t value);
void pair_set_vector(struct pair *p, unsigned queue, unsigned vector);
bool pair_signalled(int fd);

#endif
