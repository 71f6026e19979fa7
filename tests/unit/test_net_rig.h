/*
 * A virtio-net card over a fake backend, and its driver: for tests of the device.
 */
#ifndef TESTS_UNIT_TEST_NET_RIG_H
#define TESTS_UNIT_TEST_NET_RIG_H

#include <linux/virtio_net.h>
#include <unistd.h>

#include "devices/registry.h"
#include "devices/virtio/net.h"
#include "devices/virtio/net_internal.h"
#include "tests/unit/test_net_fake.h"
#include "tests/unit/test_virtio_rig.h"

#define NRIG_SIZE    16
#define NRIG_BUFFERS 0x1000000ull /* guest memory for frames: 8 MiB */
#define NRIG_ALL     UINT64_MAX

struct nrig {
	struct vrig *v;
	struct fake_net *net;
	uint32_t closed;
	uint64_t features; /* negotiated */
	unsigned npairs, control;
	struct model queue[2 * FAKE_QUEUES + 1];
	bool have[2 * FAKE_QUEUES + 1];
};

/* A card with that many pairs at the backend; up to vrig_plug(). */
struct nrig *nrig_create(unsigned pairs, uint32_t offloads, const char *keys);
/* Negotiates offered & wanted, sets up the first pair (and the others, with MQ) and control. */
void nrig_up(struct nrig *n, uint64_t wanted, uint16_t size);
/* The same, whose frames a vhost backend moves. */
struct nrig *nrig_create_vhost(unsigned pairs, uint32_t offloads, const char *keys,
			       struct vhost *vhost);
void nrig_destroy(struct nrig *n); /* checks that the backend was closed */

/* A buffer of the driver's, filled with a pattern that tells untouched bytes. */
uint8_t *nrig_at(struct nrig *n, uint64_t addr, size_t len);
/* Makes one chain of it available at a queue and kicks if it has to. */
int nrig_add(struct nrig *n, unsigned queue, const struct model_buf *buf, unsigned nbuf);

/* Sends a command, data after class and command; the answer, or -1 if there is none. */
int nrig_command(struct nrig *n, uint8_t class, uint8_t cmd, const void *data, size_t len);

/* A frame of len bytes (without header) with a number in it; a zero header before it. */
void nrig_fill(uint8_t *buf, size_t len, uint64_t seed);

/* Waits until everything posted to the pair's loop before has been served. */
void nrig_settle(struct nrig *n, unsigned pair);

#endif
