/*
 * An e1000 over a fake backend, and what its driver does: for tests of the card.
 */
#ifndef TESTS_UNIT_TEST_E1000_RIG_H
#define TESTS_UNIT_TEST_E1000_RIG_H

#include <linux/virtio_net.h>
#include <unistd.h>

#include "devices/emulated/e1000_internal.h"
#include "devices/registry.h"
#include "tests/unit/test_net_fake.h"
#include "tests/unit/test_virtio_rig.h"

/* Where the rings and frames lie; all below the memory's hole. */
#define ERIG_TX	     0x100000ull
#define ERIG_RX	     0x200000ull
#define ERIG_TX_DATA 0x300000ull
#define ERIG_RX_DATA 0x400000ull /* buffer i: 16 KiB each */
#define ERIG_SIZE    16u	 /* descriptors of each ring */

struct erig {
	struct vrig *v;
	struct fake_net *net;
	struct e1000 *e;
	uint32_t closed;
	uint64_t mmio, io;
	uint32_t tx_tail, rx_tail;
	unsigned gsi;
};

/* A card that is plugged, decodes and masters the bus; nothing of its own is set. */
struct erig *erig_create(uint32_t offloads, const char *keys);
void erig_destroy(struct erig *r);
/* As a driver: rings, link, all the filters open or the card's own address only. */
void erig_up(struct erig *r, uint32_t rctl, uint32_t tctl);

uint32_t erig_get(struct erig *r, unsigned offset);
void erig_set(struct erig *r, unsigned offset, uint32_t value);
uint16_t erig_phy(struct erig *r, unsigned reg);
void erig_set_phy(struct erig *r, unsigned reg, uint16_t value);
bool erig_pin(struct erig *r);
/* What the card's account says. */
uint64_t erig_count(struct erig *r, enum account_counter counter);

/* One descriptor into the ring, without telling the card. */
void erig_tx(struct erig *r, uint64_t address, uint32_t lower, uint32_t upper);
void erig_tx_go(struct erig *r); /* writes TDT */
struct e1000_tx_desc *erig_tx_at(struct erig *r, unsigned index);
/* Gives the card n more buffers. */
void erig_rx(struct erig *r, unsigned n);
struct e1000_rx_desc *erig_rx_at(struct erig *r, unsigned index);
/* Waits until descriptor index is done. */
struct e1000_rx_desc *erig_received(struct erig *r, unsigned index);
uint8_t *erig_mem(struct erig *r, uint64_t address, size_t len);
uint8_t *erig_buffer(struct erig *r, unsigned index);

/* Frames: an Ethernet header to the card, then IPv4 or IPv6 and TCP or UDP with right checksums. */
struct erig_frame {
	bool ipv6, udp, vlan;
	size_t payload;
	uint16_t id;
	uint32_t sequence;
	uint8_t flags;
};
size_t erig_frame(uint8_t *at, const struct erig_frame *f);
/* Are the IP and TCP or UDP checksums of a frame right? */
bool erig_checks(const uint8_t *frame, size_t len);
/* Sends a frame to the card, zero header in front. */
void erig_inject(struct erig *r, const uint8_t *frame, size_t len);
/* Takes one from it, with header; the whole length. */
ssize_t erig_take(struct erig *r, uint8_t *buf);
/* All that was told to the card's loop before has been done. */
void erig_settle(struct erig *r);

#endif
