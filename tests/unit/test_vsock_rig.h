/*
 * The guest's side of virtio-vsock for unit tests: packets in and out over the real queues, and
 * unix sockets as the host's programs have them.
 */
#ifndef TESTS_UNIT_TEST_VSOCK_RIG_H
#define TESTS_UNIT_TEST_VSOCK_RIG_H

#include <linux/virtio_vsock.h>

#include "devices/virtio/vsock.h"
#include "tests/unit/test_virtio_rig.h"

#define SIZE	  64u
#define GUEST	  3u
#define GUEST_BUF (64u << 10) /* what the model grants the host */

struct vkit {
	struct vrig *r;
	struct model rx, tx, event;
	char dir[32], prefix[64];
	uint32_t rx_len; /* of a buffer */
	uint64_t rx_slot[SIZE];
	unsigned rx_next, tx_next;
	bool hold_buffers; /* what is received is not given back to the device */
};

struct packet {
	struct virtio_vsock_hdr h;
	uint32_t len;	     /* of the data */
	const uint8_t *data; /* until the next packet */
};

struct vkit *vkit(const char *keys, uint32_t rx_len);
void vkit_free(struct vkit *k);
/* The driver starts, or starts again. */
void vkit_up(struct vkit *k);
void vkit_post(struct vkit *k, unsigned n);

/* A packet from guest_port to host_port; data is a pattern that begins at `at`. */
struct virtio_vsock_hdr header(uint16_t op, uint32_t guest_port, uint32_t host_port);
void send_packet(struct vkit *k, const struct virtio_vsock_hdr *h, uint32_t len, uint64_t at);
void send_op(struct vkit *k, uint16_t op, uint32_t guest_port, uint32_t host_port);
/* The next packet to the guest, waiting for it. */
struct packet receive(struct vkit *k);
/* That it is this one. */
struct packet expect(struct vkit *k, uint16_t op, uint32_t guest_port, uint32_t host_port);
/* That there is none. */
void expect_silence(struct vkit *k);

uint8_t pattern(uint64_t at);

/* Listens on PREFIX_port. */
int host_listen(struct vkit *k, uint32_t port);
/* Connects to PREFIX. */
int host_connect(struct vkit *k);
/* A guest's connection to a program that listens on host_port; the program's end of it. */
int guest_connect(struct vkit *k, int listener, uint32_t guest_port, uint32_t host_port);

#endif
