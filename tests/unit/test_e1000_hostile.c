/*
 * An e1000 in the hands of a hostile driver and a hostile backend: whatever they do, mvm lives, and
 * after a reset the card works. Meant for SAN=1. Seeded, so that a failure repeats.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sys/socket.h>
#include <string.h>

#include "tests/unit/test_e1000_rig.h"

#define STEPS 100000

/* Addresses: in RAM, in a ring, at its ends, across the hole, the card's own registers, nowhere. */
static uint64_t some_address(struct erig *r, uint64_t *seed)
{
	const uint64_t places[] = { ERIG_TX,
				    ERIG_RX,
				    ERIG_TX_DATA,
				    ERIG_RX_DATA,
				    0,
				    MODEL_LOW - 64,
				    MODEL_HIGH - 64,
				    r->mmio,
				    VRIG_ECAM,
				    UINT64_MAX - 100,
				    1ull << 32,
				    1ull << 63,
				    MODEL_HIGH + (8 << 20) - 64 };
	uint64_t random = model_random(seed);

	return places[random % 13] + (random >> 32) % 256;
}

static void some_descriptor(struct erig *r, uint64_t *seed)
{
	uint64_t ring = model_random(seed) % 2 ? ERIG_TX : ERIG_RX;
	uint64_t words[2] = { some_address(r, seed), model_random(seed) };

	/* Often short, often of a type that is one. */
	if (model_random(seed) % 2)
		words[1] &= ~0x00ef0000ull;
	if (model_random(seed) % 2)
		words[1] &= ~0xf000ull;
	memcpy(erig_mem(r, ring + 16 * (model_random(seed) % ERIG_SIZE), 16), words, 16);
}

static void some_register(struct erig *r, uint64_t *seed)
{
	static const uint16_t often[] = {
		E1000_TDT,   E1000_RDT,	  E1000_TDT,   E1000_RDT,   E1000_TDH,	 E1000_RDH,
		E1000_TDLEN, E1000_RDLEN, E1000_TDBAL, E1000_RDBAL, E1000_TDBAH, E1000_RDBAH,
		E1000_RCTL,  E1000_TCTL,  E1000_CTRL,  E1000_MDIC,  E1000_EECD,	 E1000_ICS,
		E1000_ITR,   E1000_PBA,	  E1000_TIDV,  E1000_RDTR,  E1000_RADV,	 E1000_RXCSUM,
	};
	uint64_t random = model_random(seed);
	unsigned offset =
		random & 1 ? often[(random >> 8) % 24] : (unsigned)(random >> 8) % E1000_BAR_SIZE;
	uint64_t value = model_random(seed);
	unsigned size = 1u << (random >> 4 & 3);

	switch (random >> 40 & 3) {
	case 0:
		value &= 0xff;
		break;
	case 1:
		value = some_address(r, seed);
		break;
	}
	if (offset == E1000_CTRL && random >> 44 & 15)
		value &= ~(uint64_t)CTRL_RST;
	if (offset + size > E1000_BAR_SIZE)
		return;
	if (random >> 50 & 1)
		vrig_write(r->v, r->mmio + offset, random & 1 ? 4 : size, value);
	else
		vrig_read(r->v, r->mmio + offset, size);
}

static void some_frame(struct erig *r, uint64_t *seed)
{
	uint8_t frame[4000];
	size_t len = model_random(seed) % 8 ? model_random(seed) % 200 : model_random(seed) % 4000;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t random = model_random(seed);

		memcpy(frame + i, &random, len - i < 8 ? len - i : 8);
	}
	/* Headers that are nearly right. */
	if (len > 80 && model_random(seed) % 2) {
		struct virtio_net_hdr_v1 header = {
			.flags = model_random(seed) & 3,
			.gso_type = model_random(seed) % 2 ? model_random(seed) & 0x85 : 0,
			.gso_size = (uint16_t)(model_random(seed) % 100),
			.csum_start = (uint16_t)(model_random(seed) % 80),
			.csum_offset = (uint16_t)(model_random(seed) % 30),
		};
		memcpy(frame, &header, sizeof(header));
		memcpy(frame + 12, "\x52\x54\x00\x6d\x76\x00", 6);
		if (model_random(seed) % 2)
			memcpy(frame + 24, "\x08\x00\x45", 3);
	}
	/* Not if it is full: the card may have stopped listening. */
	if (send(r->net->queue[0].peer, frame, len, MSG_DONTWAIT) < 0)
		return;
}

static void drain(struct erig *r)
{
	static uint8_t buf[FAKE_BUF];

	for (int i = 0; i < 64; i++)
		if (recv(r->net->queue[0].peer, buf, sizeof(buf), MSG_DONTWAIT) < 0)
			break;
}

static void *second_vcpu(void *arg)
{
	struct erig *r = arg;
	uint64_t seed = 99;

	for (unsigned i = 0; i < STEPS / 4; i++)
		some_register(r, &seed);
	return NULL;
}

static void works_after_reset(struct erig *r)
{
	static uint8_t buf[FAKE_BUF];
	uint8_t frame[60] = { 0x52, 0x54, 0x00, 0x6d, 0x76, 0x00 };

	vrig_write(r->v, r->v->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	erig_set(r, E1000_CTRL, CTRL_RST);
	/* The EEPROM may have been overwritten, the PHY switched off, the old frames still there.
	 */
	erig_set(r, E1000_CTRL, CTRL_PHY_RST | CTRL_SLU);
	erig_set(r, E1000_CTRL, CTRL_SLU);
	erig_settle(r);
	erig_set(r, E1000_RA, 0x6d005452);
	erig_set(r, E1000_RA + 4, RAH_AV | 0x76);
	drain(r);
	/* What the card has not read goes, too; it does not listen now. */
	while (recv(r->net->queue[0].fd, buf, sizeof(buf), MSG_DONTWAIT) >= 0)
		continue;
	erig_set(r, E1000_PBA, 0x30);
	erig_up(r, RCTL_UPE | RCTL_MPE | RCTL_LPE, 0);
	erig_tx(r, ERIG_TX_DATA, 1234 | TXD_EOP | TXD_IFCS, 0);
	erig_tx_go(r);
	while (erig_take(r, buf) != NET_HEADER + 1234)
		continue;
	erig_rx(r, ERIG_SIZE - 1);
	erig_inject(r, frame, 60);
	cr_assert_eq(erig_received(r, 0)->length, 64);
}

static void torment(uint32_t offloads, const char *keys, uint64_t seed)
{
	struct erig *r = erig_create(offloads, keys);
	pthread_t other;

	erig_up(r, RCTL_UPE | RCTL_MPE, TCTL_PSP);
	pthread_create(&other, NULL, second_vcpu, r);
	for (unsigned i = 0; i < STEPS; i++) {
		switch (model_random(&seed) % 8) {
		case 0:
		case 1:
		case 2:
			some_descriptor(r, &seed);
			break;
		case 3:
			some_frame(r, &seed);
			break;
		default:
			some_register(r, &seed);
			break;
		}
		if (i % 16 == 0)
			drain(r);
		/* Back to something that works, or all is over early. */
		if (i % 500 == 0) {
			erig_set(r, E1000_TDBAL, (uint32_t)ERIG_TX);
			erig_set(r, E1000_TDBAH, 0);
			erig_set(r, E1000_TDLEN, ERIG_SIZE * 16);
			erig_set(r, E1000_TDH, 0);
			erig_set(r, E1000_RDBAL, (uint32_t)ERIG_RX);
			erig_set(r, E1000_RDBAH, 0);
			erig_set(r, E1000_RDLEN, ERIG_SIZE * 16);
			erig_set(r, E1000_RDH, 0);
			erig_set(r, E1000_CTRL, CTRL_SLU | (i % 1000 ? CTRL_VME : 0));
			erig_set_phy(r, PHY_PCTRL, i % 1500 ? 0x1140 : 0x4140);
			erig_set(r, E1000_RCTL, RCTL_EN | RCTL_UPE | RCTL_MPE);
			erig_set(r, E1000_TCTL, TCTL_EN);
		}
	}
	pthread_join(other, NULL);
	works_after_reset(r);
	erig_destroy(r);
}

Test(e1000_hostile, random_registers_rings_and_frames, .timeout = 300)
{
	torment(NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6, "", 1);
}

Test(e1000_hostile, the_same_without_offloads, .timeout = 300)
{
	torment(0, "iothread=off", 2);
}

Test(e1000_hostile, the_same_with_eventfds, .timeout = 300)
{
	torment(NET_OFFLOAD_CSUM, "doorbell=ioeventfd", 3);
}

/* A ring whose descriptors are its own data, and a receive ring that fills itself. */
Test(e1000_hostile, rings_that_point_at_themselves)
{
	struct erig *r = erig_create(0, "");
	uint8_t frame[1500] = { 0x52, 0x54, 0x00, 0x6d, 0x76, 0x00 };
	static uint8_t buf[FAKE_BUF];

	erig_up(r, 0, 0);
	for (unsigned i = 0; i < ERIG_SIZE - 1; i++)
		erig_tx(r, ERIG_TX, ERIG_SIZE * 16 | TXD_EOP | TXD_RS | TXD_IFCS, 0);
	erig_tx_go(r);
	for (unsigned i = 0; i < ERIG_SIZE - 1; i++)
		cr_assert_eq(erig_take(r, buf), NET_HEADER + ERIG_SIZE * 16);
	for (unsigned i = 0; i < ERIG_SIZE; i++)
		erig_rx_at(r, i)->address = ERIG_RX;
	erig_set(r, E1000_RDT, ERIG_SIZE - 1);
	for (unsigned i = 0; i < 100; i++)
		erig_inject(r, frame, sizeof(frame));
	erig_settle(r);
	works_after_reset(r);
	erig_destroy(r);
}

/* DMA to where no RAM is: device registers, past the end, across it. The card goes on. */
Test(e1000_hostile, dma_to_no_ram)
{
	const uint64_t bad[] = { VRIG_MEM32, VRIG_ECAM,	      MODEL_LOW - 10,  MODEL_LOW,
				 1ull << 40, UINT64_MAX - 10, MODEL_HIGH - 10, UINT64_MAX };
	struct erig *r = erig_create(0, "");
	uint8_t frame[100] = { 0x52, 0x54, 0x00, 0x6d, 0x76, 0x00 };
	static uint8_t buf[FAKE_BUF];

	erig_up(r, 0, 0);
	for (unsigned i = 0; i < 8; i++) {
		erig_tx(r, bad[i], 100 | TXD_EOP | TXD_RS | TXD_IFCS, 0);
		erig_tx(r, ERIG_TX_DATA, 100 | TXD_EOP | TXD_RS | TXD_IFCS, 0);
		erig_tx_go(r);
		/* The bad one is lost but written back, the good one is sent. */
		cr_assert_eq(erig_take(r, buf), NET_HEADER + 100);
		vrig_wait(erig_get(r, E1000_TDH) == r->tx_tail);
	}
	erig_rx(r, ERIG_SIZE - 1);
	for (unsigned i = 0; i < 8; i++)
		erig_rx_at(r, i)->address = bad[i];
	for (unsigned i = 0; i < 9; i++)
		erig_inject(r, frame, 100);
	cr_assert_eq(erig_received(r, 8)->length, 104);
	cr_assert_eq(erig_buffer(r, 8)[0], 0x52);
	cr_assert_eq(erig_received(r, 7)->length, 104);
	/* Rings there, or of no size. */
	for (unsigned i = 0; i < 8; i++) {
		erig_set(r, E1000_TDBAL, (uint32_t)bad[i]);
		erig_set(r, E1000_TDBAH, (uint32_t)(bad[i] >> 32));
		erig_set(r, E1000_TDT, (r->tx_tail + i) % ERIG_SIZE);
		erig_set(r, E1000_RDBAL, (uint32_t)bad[i]);
		erig_set(r, E1000_RDBAH, (uint32_t)(bad[i] >> 32));
		erig_set(r, E1000_RDT, i);
		erig_inject(r, frame, 100);
		erig_settle(r);
	}
	erig_set(r, E1000_TDLEN, 0);
	erig_set(r, E1000_TDT, 5);
	erig_settle(r);
	works_after_reset(r);
	erig_destroy(r);
}

/* A ring that shrinks under a frame that waits for the backend. */
Test(e1000_hostile, ring_that_shrinks)
{
	struct erig *r = erig_create(0, "");

	erig_up(r, 0, 0);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < ERIG_SIZE - 1; i++)
			erig_tx(r, ERIG_TX_DATA, 0x3f00 | TXD_EOP | TXD_RS | TXD_IFCS, 0);
		erig_tx_go(r);
		erig_set(r, E1000_TDLEN, round % 2 ? 128 : ERIG_SIZE * 16);
		erig_set(r, E1000_TDH, round % 3 ? 3 : 200);
		erig_set(r, E1000_RDLEN, round % 2 ? 128 : ERIG_SIZE * 16);
		erig_set(r, E1000_RDH, 13);
		drain(r);
	}
	works_after_reset(r);
	erig_destroy(r);
}
