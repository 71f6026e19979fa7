/*
 * The e1000's interrupts: causes and masks, the throttle, the timers that put causes off.
 */
#include <criterion/criterion.h>
#include <time.h>

#include "tests/unit/test_e1000_rig.h"

#define LAST (TXD_EOP | TXD_IFCS | TXD_RS)

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

Test(e1000_irq, causes_and_masks)
{
	struct erig *r = erig_create(0, "");

	for (unsigned bit = 0; bit < 17; bit++) {
		uint32_t mask = 1u << bit;

		erig_set(r, E1000_IMC, ~0u);
		erig_set(r, E1000_ICS, mask);
		cr_assert(!erig_pin(r));
		erig_set(r, E1000_IMS, ~mask);
		cr_assert(!erig_pin(r), "another cause's mask");
		erig_set(r, E1000_IMS, mask);
		cr_assert(erig_pin(r), "a cause that was there before its mask");
		erig_set(r, E1000_IMC, mask);
		cr_assert(!erig_pin(r));
		erig_set(r, E1000_IMS, mask);
		cr_assert_eq(erig_get(r, E1000_ICR), mask);
		cr_assert(!erig_pin(r));
		cr_assert_eq(erig_get(r, E1000_ICR), 0);
	}
	cr_assert_eq(erig_get(r, E1000_ICS), 0, "write only");
	cr_assert_eq(erig_get(r, E1000_IMC), 0);
	/* The pin is seen in configuration space, and can be kept in. */
	erig_set(r, E1000_ICS, ICR_LSC);
	cr_assert(vrig_read(r->v, r->v->config + PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	vrig_write(r->v, r->v->config + PCI_COMMAND, 2,
		   PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	cr_assert(!erig_pin(r));
	erig_destroy(r);
}

/*
 * What Linux's driver does in `ethtool -t`, for each of the low ten bits. Two of them are reserved;
 * on the chip they latch like the others.
 */
Test(e1000_irq, self_test_of_the_driver)
{
	struct erig *r = erig_create(0, "");

	erig_set(r, E1000_IMC, ~0u);
	for (unsigned bit = 0; bit < 10; bit++) {
		uint32_t mask = 1u << bit, others = ~mask & 0x7fff;

		erig_set(r, E1000_IMC, mask);
		erig_set(r, E1000_ICS, mask);
		cr_assert(!erig_pin(r), "cause %u is masked", bit);
		erig_set(r, E1000_IMS, mask);
		erig_set(r, E1000_ICS, mask);
		cr_assert(erig_pin(r), "cause %u is not", bit);
		cr_assert(erig_get(r, E1000_ICR) & mask, "cause %u was told", bit);
		cr_assert(!erig_pin(r));
		erig_set(r, E1000_IMC, others);
		erig_set(r, E1000_ICS, others);
		cr_assert(!erig_pin(r), "only cause %u is not masked", bit);
	}
	erig_destroy(r);
}

/* What drivers touch while traffic flows waits for no turn of the rings, which hold the lock. */
Test(e1000_irq, traffic_registers_need_no_lock, .timeout = 30)
{
	struct erig *r = erig_create(0, "");

	erig_up(r, 0, 0);
	pthread_mutex_lock(&r->e->lock);
	erig_set(r, E1000_IMS, ICR_TXDW | ICR_LSC);
	erig_set(r, E1000_ITR, 0);
	erig_set(r, E1000_ICS, ICR_LSC);
	cr_assert(erig_pin(r));
	cr_assert_eq(erig_get(r, E1000_ICR), ICR_LSC);
	erig_set(r, E1000_IMC, ~0u);
	cr_assert_eq(erig_get(r, E1000_STATUS) & (STATUS_LU | STATUS_FD), STATUS_LU | STATUS_FD);
	erig_set(r, E1000_RDT, 1);
	erig_set(r, E1000_TDT, 0);
	cr_assert_eq(erig_get(r, E1000_RDT), 1);
	cr_assert_eq(erig_get(r, E1000_TDT), 0);
	pthread_mutex_unlock(&r->e->lock);
	/* It follows what is set under the lock. */
	e1000_set_link(r->v->dev, false);
	cr_assert_eq(erig_get(r, E1000_STATUS) & STATUS_LU, 0);
	e1000_set_link(r->v->dev, true);
	cr_assert_eq(erig_get(r, E1000_STATUS) & STATUS_LU, STATUS_LU);
	erig_destroy(r);
}

/* Frames that come together are told together, by one interrupt, though nothing delays them. */
Test(e1000_irq, one_for_a_burst)
{
	static uint8_t frame[60] = { 0x52, 0x54, 0x00, 0x6d, 0x76, 0x00 };
	struct erig *r = erig_create(0, "");

	erig_up(r, 0, 0);
	erig_set(r, E1000_IMS, ICR_RXT0 | ICR_TXDW | ICR_RXDMT0);
	/* All of them wait when the card begins. */
	pthread_mutex_lock(&r->e->lock);
	for (unsigned i = 0; i < ERIG_SIZE - 1; i++)
		erig_inject(r, frame, 60);
	erig_rx(r, ERIG_SIZE - 1);
	pthread_mutex_unlock(&r->e->lock);
	erig_received(r, ERIG_SIZE - 2);
	vrig_wait(erig_pin(r));
	cr_assert_eq(erig_get(r, E1000_ICR) & (ICR_RXT0 | ICR_RXDMT0), ICR_RXT0 | ICR_RXDMT0);
	erig_settle(r);
	cr_assert(!erig_pin(r));
	cr_assert_eq(erig_count(r, ACCOUNT_IRQS_LINE), 1);
	erig_destroy(r);
}

/* Never two assertions closer together than the interval: what is too early comes later. */
Test(e1000_irq, throttle)
{
	struct erig *r = erig_create(0, "");
	uint64_t last = 0;

	erig_set(r, E1000_IMS, ICR_LSC);
	erig_set(r, E1000_ITR, 20000); /* 5.12 ms */
	for (unsigned i = 0; i < 20; i++) {
		uint64_t now;

		erig_set(r, E1000_ICS, ICR_LSC);
		vrig_wait(erig_pin(r));
		now = now_us();
		/* A late look at one may be followed by an early one at the next. */
		if (i > 1)
			cr_assert_geq(now - last, 5120 * (uint64_t)(i - 1));
		if (i == 0)
			last = now;
		erig_get(r, E1000_ICR);
		cr_assert(!erig_pin(r));
	}
	cr_assert_eq(erig_count(r, ACCOUNT_IRQS_LINE), 20);
	cr_assert_geq(erig_count(r, ACCOUNT_IRQS_SUPPRESSED), 1);
	/* Masked while it waits: it does not come. */
	erig_set(r, E1000_ICS, ICR_LSC);
	erig_set(r, E1000_IMC, ~0u);
	usleep(20000);
	cr_assert(!erig_pin(r));
	/* Off: at once. */
	erig_get(r, E1000_ICR);
	erig_set(r, E1000_ITR, 0);
	erig_set(r, E1000_IMS, ICR_LSC);
	for (unsigned i = 0; i < 100; i++) {
		erig_set(r, E1000_ICS, ICR_LSC);
		cr_assert(erig_pin(r));
		erig_get(r, E1000_ICR);
	}
	erig_destroy(r);
}

/* RDTR puts RXT0 off until traffic rests, RADV not for ever. */
Test(e1000_irq, receive_timers)
{
	static uint8_t frame[60] = { 0x52, 0x54, 0x00, 0x6d, 0x76, 0x00 };
	struct erig *r = erig_create(0, "");
	uint64_t begin;

	erig_up(r, 0, 0);
	erig_rx(r, ERIG_SIZE - 1);
	erig_set(r, E1000_IMS, ICR_RXT0);
	erig_set(r, E1000_RDTR, 0xffff);
	begin = now_us();
	erig_inject(r, frame, 60);
	erig_received(r, 0);
	vrig_wait(erig_pin(r));
	cr_assert_geq(now_us() - begin, 67107);
	erig_get(r, E1000_ICR);
	/* The absolute timer is quicker. */
	erig_set(r, E1000_RADV, 1000);
	erig_inject(r, frame, 60);
	erig_received(r, 1);
	vrig_wait(erig_pin(r));
	erig_get(r, E1000_ICR);
	usleep(80000);
	cr_assert(!erig_pin(r), "the packet timer went with it");
	/* Flush. */
	erig_set(r, E1000_RADV, 0);
	erig_inject(r, frame, 60);
	erig_received(r, 2);
	erig_set(r, E1000_RDTR, RDTR_FPD | 0xffff);
	cr_assert(erig_pin(r));
	cr_assert_eq(erig_get(r, E1000_RDTR), 0xffff);
	erig_get(r, E1000_ICR);
	/* A small packet does not wait. */
	erig_set(r, E1000_RSRPD, 64);
	erig_inject(r, frame, 60);
	vrig_wait(erig_pin(r));
	cr_assert_eq(erig_get(r, E1000_ICR) & (ICR_SRPD | ICR_RXT0), ICR_SRPD | ICR_RXT0);
	erig_destroy(r);
}

/* IDE puts TXDW off by TIDV, and TADV not for ever. */
Test(e1000_irq, transmit_timers)
{
	static uint8_t out[1000];
	struct erig *r = erig_create(0, "");
	uint64_t begin;

	erig_up(r, 0, 0);
	erig_set(r, E1000_IMS, ICR_TXDW);
	erig_set(r, E1000_TIDV, 0xffff);
	erig_tx(r, ERIG_TX_DATA, 100 | LAST | TXD_IDE, 0);
	begin = now_us();
	erig_tx_go(r);
	erig_take(r, out);
	vrig_wait(erig_pin(r));
	cr_assert_geq(now_us() - begin, 67107);
	cr_assert(erig_tx_at(r, 0)->upper & TXD_DD);
	erig_get(r, E1000_ICR);
	erig_set(r, E1000_TADV, 1000);
	erig_tx(r, ERIG_TX_DATA, 100 | LAST | TXD_IDE, 0);
	erig_tx_go(r);
	vrig_wait(erig_pin(r));
	erig_get(r, E1000_ICR);
	usleep(80000);
	cr_assert(!erig_pin(r));
	/* A delay that is shorter than a thread's sleep: no timer is set for it. */
	erig_set(r, E1000_TIDV, 8);
	erig_set(r, E1000_TADV, 32);
	erig_tx(r, ERIG_TX_DATA, 100 | LAST | TXD_IDE, 0);
	erig_tx_go(r);
	erig_settle(r);
	cr_assert(erig_pin(r));
	cr_assert_eq(r->e->irq.armed, 0);
	erig_get(r, E1000_ICR);
	erig_set(r, E1000_TIDV, 0xffff);
	/* A descriptor without IDE ends the delay of those before. */
	erig_set(r, E1000_TADV, 0);
	erig_tx(r, ERIG_TX_DATA, 100 | LAST | TXD_IDE, 0);
	erig_tx(r, ERIG_TX_DATA, 100 | LAST, 0);
	erig_tx_go(r);
	vrig_wait(erig_pin(r));
	erig_get(r, E1000_ICR);
	usleep(80000);
	cr_assert(!erig_pin(r));
	erig_destroy(r);
}
