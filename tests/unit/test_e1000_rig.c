/* See test_e1000_rig.h. */
#include <criterion/criterion.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/net_checksum.h"
#include "tests/unit/test_e1000_rig.h"

static int create(struct device_host *host, const struct device_config *config, void *arg,
		  struct device **out, struct error *e)
{
	return e1000_create(host, config, arg, out, e);
}

struct erig *erig_create(uint32_t offloads, const char *keys)
{
	struct erig *r = calloc(1, sizeof(*r));
	struct device_config config;
	struct error e = { 0 };
	uint64_t cfg = VRIG_ECAM + (1 << 15);

	r->v = vrig_create();
	bus_set_account(r->v->host.mmio, NULL, ACCOUNT_MMIO_READS, ACCOUNT_MMIO_WRITES);
	r->net = fake_net_create(1, offloads);
	r->net->closed = &r->closed;
	vrig_config(&config, &row_e1000, NULL, keys);
	cr_assert_eq(create(&r->v->host, &config, r->net, &r->v->dev, &e), 0, "%s", e.msg);
	vrig_config_free(&config);
	r->e = e1000_of(r->v->dev);
	r->v->dev->ops->reset(r->v->dev);
	cr_assert_eq(pci_root_assign(r->v->host.pci, &e), 0, "%s", e.msg);
	cr_assert_eq(r->v->dev->ops->start(r->v->dev, &e), 0);
	r->v->config = cfg;
	vrig_write(r->v, cfg + PCI_COMMAND, 2,
		   PCI_COMMAND_MEMORY | PCI_COMMAND_IO | PCI_COMMAND_MASTER);
	r->mmio = vrig_read(r->v, cfg + PCI_BASE_ADDRESS_0, 4) & ~0xfull;
	r->io = vrig_read(r->v, cfg + PCI_BASE_ADDRESS_2, 4) & ~3ull;
	r->gsi = 16 + 1; /* slot 1, pin A */
	return r;
}

void erig_destroy(struct erig *r)
{
	vrig_destroy(r->v);
	cr_assert_eq(r->closed, 1, "the backend was not closed");
	free(r);
}

/* ---- registers ------------------------------------------------------------------------------- */

uint32_t erig_get(struct erig *r, unsigned offset)
{
	return (uint32_t)vrig_read(r->v, r->mmio + offset, 4);
}

void erig_set(struct erig *r, unsigned offset, uint32_t value)
{
	vrig_write(r->v, r->mmio + offset, 4, value);
}

uint16_t erig_phy(struct erig *r, unsigned reg)
{
	erig_set(r, E1000_MDIC, MDIC_OP_READ | 1u << MDIC_PHY_SHIFT | reg << MDIC_REG_SHIFT);
	cr_assert(erig_get(r, E1000_MDIC) & MDIC_R);
	return (uint16_t)erig_get(r, E1000_MDIC);
}

void erig_set_phy(struct erig *r, unsigned reg, uint16_t value)
{
	erig_set(r, E1000_MDIC,
		 MDIC_OP_WRITE | 1u << MDIC_PHY_SHIFT | reg << MDIC_REG_SHIFT | value);
}

uint64_t erig_count(struct erig *r, enum account_counter counter)
{
	struct account_block sum;

	account_read(r->v->dev->account, &sum);
	return sum.value[counter];
}

bool erig_pin(struct erig *r)
{
	return __atomic_load_n(&r->v->chip.level[r->gsi], __ATOMIC_SEQ_CST);
}

void erig_up(struct erig *r, uint32_t rctl, uint32_t tctl)
{
	memset(erig_mem(r, ERIG_TX, ERIG_SIZE * 16), 0, ERIG_SIZE * 16);
	memset(erig_mem(r, ERIG_RX, ERIG_SIZE * 16), 0, ERIG_SIZE * 16);
	r->tx_tail = r->rx_tail = 0;
	erig_set(r, E1000_CTRL, CTRL_SLU | CTRL_FD | (2u << 8));
	erig_set(r, E1000_TDBAL, (uint32_t)ERIG_TX);
	erig_set(r, E1000_TDBAH, 0);
	erig_set(r, E1000_TDLEN, ERIG_SIZE * 16);
	erig_set(r, E1000_TDH, 0);
	erig_set(r, E1000_TDT, 0);
	erig_set(r, E1000_TCTL, tctl | TCTL_EN);
	erig_set(r, E1000_RDBAL, (uint32_t)ERIG_RX);
	erig_set(r, E1000_RDBAH, 0);
	erig_set(r, E1000_RDLEN, ERIG_SIZE * 16);
	erig_set(r, E1000_RDH, 0);
	erig_set(r, E1000_RDT, 0);
	erig_set(r, E1000_RCTL, rctl | RCTL_EN);
	erig_settle(r);
	erig_get(r, E1000_ICR);
}

static void nothing(void *arg)
{
	(void)arg;
}

void erig_settle(struct erig *r)
{
	/* Messages run before a batch of events: the second comes after what was ready at the
	 * first. */
	for (int i = 0; i < 4; i++) {
		event_call(r->e->loop, nothing, NULL);
		usleep(500);
	}
}

/* ---- rings ----------------------------------------------------------------------------------- */

uint8_t *erig_mem(struct erig *r, uint64_t address, size_t len)
{
	return model_at(&r->v->memory, address, len);
}

struct e1000_tx_desc *erig_tx_at(struct erig *r, unsigned index)
{
	return (void *)erig_mem(r, ERIG_TX + 16 * index, 16);
}

void erig_tx(struct erig *r, uint64_t address, uint32_t lower, uint32_t upper)
{
	*erig_tx_at(r, r->tx_tail) = (struct e1000_tx_desc){ address, lower, upper };
	r->tx_tail = (r->tx_tail + 1) % ERIG_SIZE;
}

void erig_tx_go(struct erig *r)
{
	erig_set(r, E1000_TDT, r->tx_tail);
}

struct e1000_rx_desc *erig_rx_at(struct erig *r, unsigned index)
{
	return (void *)erig_mem(r, ERIG_RX + 16 * (index % ERIG_SIZE), 16);
}

uint8_t *erig_buffer(struct erig *r, unsigned index)
{
	return erig_mem(r, ERIG_RX_DATA + (uint64_t)(index % ERIG_SIZE) * 0x4000, 0x4000);
}

void erig_rx(struct erig *r, unsigned n)
{
	while (n-- > 0) {
		*erig_rx_at(r, r->rx_tail) =
			(struct e1000_rx_desc){ .address = ERIG_RX_DATA + r->rx_tail * 0x4000ull };
		memset(erig_buffer(r, r->rx_tail), 0xee, 0x4000);
		r->rx_tail = (r->rx_tail + 1) % ERIG_SIZE;
	}
	erig_set(r, E1000_RDT, r->rx_tail);
}

struct e1000_rx_desc *erig_received(struct erig *r, unsigned index)
{
	struct e1000_rx_desc *d = erig_rx_at(r, index);

	vrig_wait(__atomic_load_n(&d->status, __ATOMIC_ACQUIRE) & RXD_DD);
	return d;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static void store(uint8_t *at, const struct net_sum *sum)
{
	uint16_t value = (uint16_t)~net_sum_fold(sum);

	memcpy(at, &value, 2);
}

static struct net_sum pseudo(const uint8_t *l3, bool ipv6, uint8_t protocol, size_t len)
{
	struct net_sum sum = { 0 };

	if (ipv6)
		net_sum_add(&sum, l3 + 8, 32);
	else
		net_sum_add(&sum, l3 + 12, 8);
	net_sum_add16(&sum, protocol);
	net_sum_add16(&sum, (uint16_t)len);
	return sum;
}

size_t erig_frame(uint8_t *at, const struct erig_frame *f)
{
	size_t l4_header = f->udp ? 8 : 20, l4_len = l4_header + f->payload;
	uint8_t protocol = f->udp ? 17 : 6, *l3 = at + 14, *l4;
	struct net_sum sum = { 0 };

	memcpy(at, "\x52\x54\x00\x6d\x76\x00\x52\x54\x00\x00\x00\x01\x08\x00", 14);
	if (f->vlan) {
		memcpy(at + 12, "\x81\x00\x60\x05\x08\x00", 6);
		l3 += 4;
	}
	if (f->ipv6) {
		l3[-2] = 0x86;
		l3[-1] = 0xdd;
		memset(l3, 0, 40);
		l3[0] = 0x60;
		l3[4] = (uint8_t)(l4_len >> 8);
		l3[5] = (uint8_t)l4_len;
		l3[6] = protocol;
		l3[7] = 64;
		memset(l3 + 8, 0x11, 16);
		memset(l3 + 24, 0x22, 16);
		l4 = l3 + 40;
	} else {
		size_t total = 20 + l4_len;

		memset(l3, 0, 20);
		l3[0] = 0x45;
		l3[2] = (uint8_t)(total >> 8);
		l3[3] = (uint8_t)total;
		l3[4] = (uint8_t)(f->id >> 8);
		l3[5] = (uint8_t)f->id;
		l3[8] = 64;
		l3[9] = protocol;
		memcpy(l3 + 12, "\x0a\x00\x02\x02\x0a\x00\x02\x0f", 8);
		net_sum_add(&sum, l3, 20);
		store(l3 + 10, &sum);
		l4 = l3 + 20;
	}
	memset(l4, 0, l4_header);
	memcpy(l4, "\x13\x88\x00\x07", 4);
	if (f->udp) {
		l4[4] = (uint8_t)(l4_len >> 8);
		l4[5] = (uint8_t)l4_len;
	} else {
		uint32_t sequence = htobe32(f->sequence);

		memcpy(l4 + 4, &sequence, 4);
		l4[12] = 0x50;
		l4[13] = f->flags;
		l4[14] = 0xff;
	}
	for (size_t i = 0; i < f->payload; i++)
		l4[l4_header + i] = (uint8_t)(i * 7 + i / 251);
	sum = pseudo(l3, f->ipv6, protocol, l4_len);
	net_sum_add(&sum, l4, l4_len);
	store(l4 + (f->udp ? 6 : 16), &sum);
	return (size_t)(l4 - at) + l4_len;
}

bool erig_checks(const uint8_t *frame, size_t len)
{
	size_t l3 = frame[12] == 0x81 ? 18 : 14, l4;
	bool ipv6 = frame[l3] >> 4 == 6;
	struct net_sum sum = { 0 };
	uint8_t protocol = ipv6 ? frame[l3 + 6] : frame[l3 + 9];

	if (!ipv6) {
		size_t total = (size_t)frame[l3 + 2] << 8 | frame[l3 + 3];

		net_sum_add(&sum, frame + l3, 20);
		if (net_sum_fold(&sum) != 0xffff || l3 + total > len)
			return false;
		len = l3 + total;
	} else if (l3 + 40 + ((size_t)frame[l3 + 4] << 8 | frame[l3 + 5]) != len) {
		return false;
	}
	l4 = l3 + (ipv6 ? 40 : 20);
	sum = pseudo(frame + l3, ipv6, protocol, len - l4);
	net_sum_add(&sum, frame + l4, len - l4);
	return net_sum_fold(&sum) == 0xffff;
}

void erig_inject(struct erig *r, const uint8_t *frame, size_t len)
{
	uint8_t *buf = calloc(1, NET_HEADER + len);

	memcpy(buf + NET_HEADER, frame, len);
	fake_net_inject(r->net, 0, buf, NET_HEADER + len);
	free(buf);
}

ssize_t erig_take(struct erig *r, uint8_t *buf)
{
	return fake_net_take(r->net, 0, buf, FAKE_BUF, 5000);
}
