/*
 * The emulated e1000 on the real /dev/kvm, with a driver as small as can be: the card is found and
 * reset through its I/O window, has its address in its EEPROM, and exchanges ARP with user-mode NAT
 * through several rounds of its rings, by doorbells that exit and by ioeventfds. Then its registers
 * and descriptors are poked at random, and after a reset it works again.
 *
 * mvm: --net=emulated
 * mvm: --net=emulated,doorbell=ioeventfd --append=seed=2
 * seconds: 40
 * stderr: any
 */
#include "guest.h"
#include "pci.h"

#define CTRL   0x0000u
#define STATUS 0x0008u
#define EERD   0x0014u
#define ICR    0x00c0u
#define ICS    0x00c8u
#define IMS    0x00d0u
#define RCTL   0x0100u
#define TCTL   0x0400u
#define RDBAL  0x2800u
#define RDLEN  0x2808u
#define RDH    0x2810u
#define RDT    0x2818u
#define TDBAL  0x3800u
#define TDLEN  0x3808u
#define TDH    0x3810u
#define TDT    0x3818u
#define RAL    0x5400u

#define RING  16u
#define SPACE 0x20000u

struct desc {
	uint64_t address;
	uint16_t length, checksum;
	uint8_t status, command, low, high; /* receive: status, errors; transmit: see below */
};

static struct pci_function card;
static uint64_t mmio;
static volatile struct desc *tx, *rx;
static uint8_t *tx_data, *rx_data;
static unsigned tx_tail, rx_next;

static uint32_t get(unsigned offset)
{
	return read32(mmio + offset);
}

static void set(unsigned offset, uint32_t value)
{
	write32(mmio + offset, value);
}

static uint16_t eeprom(unsigned word)
{
	set(EERD, word << 8 | 1);
	return (uint16_t)(get(EERD) >> 16);
}

static void reset(void)
{
	uint16_t port = (uint16_t)card.bar[2].address;

	out32(port, CTRL);
	out32(port + 4, 1u << 26);
	memset((void *)tx, 0, RING * sizeof(*tx));
	memset((void *)rx, 0, RING * sizeof(*rx));
	for (unsigned i = 0; i < RING; i++)
		rx[i].address = (uint64_t)rx_data + 2048 * i;
	/* The storm may have left anything in EEPROM and PHY. */
	set(RAL, 0x6d005452);
	set(RAL + 4, 0x80000076);
	set(CTRL, 1u << 31 | 0x40);
	set(CTRL, 0x40);
	set(0x1000, 48);
	set(TDBAL, (uint32_t)(uint64_t)tx);
	set(TDBAL + 4, 0);
	set(TDLEN, RING * 16);
	set(RDBAL, (uint32_t)(uint64_t)rx);
	set(RDBAL + 4, 0);
	set(RDLEN, RING * 16);
	set(RDT, RING - 1);
	set(TCTL, 2 | 8);
	set(RCTL, 2);
	tx_tail = rx_next = 0;
}

static void send(size_t len)
{
	volatile struct desc *d = &tx[tx_tail];

	d->address = (uint64_t)tx_data;
	d->length = (uint16_t)len;
	/* CSO 0, CMD: EOP, IFCS, RS; STA 0 */
	*(volatile uint32_t *)&d->checksum = 0x0b00;
	*(volatile uint32_t *)((uint64_t)d + 12) = 0;
	tx_tail = (tx_tail + 1) % RING;
	barrier_full();
	set(TDT, tx_tail);
}

/* Who has 10.0.2.2? Its answer, or nothing within a few seconds. */
static bool arp(void)
{
	static const uint8_t ask[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0x6d, 0x76, 0x00, 0x08, 0x06,
		0,    1,    8,	  0,	6,    4,    0,	  1,	0x52, 0x54, 0x00, 0x6d, 0x76, 0x00,
		10,   0,    2,	  15,	0,    0,    0,	  0,	0,    0,    10,	  0,	2,    2,
	};
	unsigned sent = tx_tail;

	memcpy(tx_data, ask, sizeof(ask));
	send(sizeof(ask));
	if (!wait_for(*((volatile uint8_t *)&tx[sent] + 12) & 1, 5000))
		return false;
	/* Others may come first: the answer is one whose sender is 10.0.2.2. */
	for (unsigned tries = 0; tries < 200; tries++) {
		volatile struct desc *d = &rx[rx_next];
		const uint8_t *frame = rx_data + 2048 * rx_next;
		bool answer;

		if (!wait_for(d->status & 1, 5000))
			return false;
		answer = d->length >= 64 && frame[13] == 6 && frame[21] == 2 && frame[31] == 2;
		d->status = 0;
		set(RDT, rx_next);
		rx_next = (rx_next + 1) % RING;
		if (answer)
			return true;
	}
	return false;
}

static void works(const char *when)
{
	unsigned rounds = 0;

	reset();
	check(wait_for(get(STATUS) & 2, 1000), "%s: the link is up", when);
	while (rounds < 5 * RING && arp())
		rounds++;
	check_equal(rounds, 5 * RING, "%s: ARP is answered, five times round the rings", when);
	check_equal(get(TDT), tx_tail, "%s: TDT reads back", when);
	set(IMS, 4);
	set(ICS, 4);
	check(get(ICR) & 4, "%s: a cause that is set shows", when);
}

static uint64_t place(uint64_t r)
{
	const uint64_t places[] = {
		(uint64_t)tx, (uint64_t)rx,	  (uint64_t)tx_data, (uint64_t)rx_data,
		mmio,	      0xffffffffffffff00, 1ull << 40,	     0
	};

	/* Not the bottom of RAM, where this guest is. */
	return places[r & 7] ? places[r & 7] + (r >> 8 & 0xff) : 1ull << 39;
}

static void storm(uint64_t seed, unsigned steps)
{
	static const uint16_t often[] = { TDT,	RDT,  TDH,  RDH, TDLEN, RDLEN,	RCTL,	TCTL,
					  CTRL, 0x20, 0x10, ICS, 0xc4,	0x3820, 0x2820, 0x5000 };

	for (unsigned i = 0; i < steps; i++) {
		uint64_t r = random64(&seed), v = random64(&seed);
		unsigned offset = r & 1 ? often[r >> 8 & 15] : (unsigned)(r >> 8) % SPACE & ~3u;

		switch (r >> 1 & 3) {
		case 0: {
			volatile struct desc *ring = r & 64 ? tx : rx;
			volatile uint64_t *d = (volatile uint64_t *)&ring[r >> 8 & 15];

			/* Receive buffers only where nothing is lost by it. */
			d[0] = place(v);
			d[1] = r & 128 ? v : v & 0x0fff00000fff;
			break;
		}
		case 1:
			read32(mmio + offset);
			break;
		default:
			/* What is received stays in memory of its own. */
			if (offset == RDLEN)
				v &= RING * 16;
			if (offset == TDBAL || offset == RDBAL)
				v = place(v) & 0xffffffff;
			if (offset == RDBAL && v < (uint64_t)tx)
				v = (uint64_t)rx;
			write32(mmio + offset, r & 8 ? (uint32_t)v : (uint32_t)v & 15);
			break;
		}
		if (i % 300 == 0)
			reset();
	}
}

void main(void)
{
	uint64_t seed = 1, steps = 10000;
	uint16_t sum = 0;

	cmdline_number("seed", &seed);
	cmdline_number("steps", &steps);
	if (!check(pci_find(0x8086, 0x100e, 0, &card), "an 82540EM is there"))
		return;
	check_equal(card.bar[0].size, 0x20000, "128 KiB of registers");
	check(card.bar[2].io && card.bar[2].size == 8, "a window of two ports");
	pci_enable(&card);
	mmio = card.bar[0].address;
	tx = alloc(0x1000, 0x1000);
	rx = alloc(0x1000, 0x1000);
	tx_data = alloc(0x8000, 0x1000);
	rx_data = alloc(0x10000, 0x1000);
	for (unsigned i = 0; i < 64; i++)
		sum = (uint16_t)(sum + eeprom(i));
	check_equal(sum, 0xbaba, "the EEPROM's checksum");
	check(eeprom(0) == 0x5452 && eeprom(2) == 0x0076, "the card's address is in it");
	works("fresh");
	storm(seed * 0x9e3779b97f4a7c15ull, (unsigned)steps);
	pci_enable(&card);
	works("after the storm");
}
