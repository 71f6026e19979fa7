/*
 * net=emulated: the Intel 82540EM of a PRO/1000 MT Desktop Adapter, on a tap or user-mode NAT.
 * Specification: Intel 317453, "PCI/PCI-X Family of Gigabit Ethernet Controllers Software
 * Developer's Manual", for the 82540EP/EM. This file makes the card and has what its parts share:
 * PCI, the link, reset, statistics. It is conventional PCI and interrupts by INTA#, as the chip is;
 * of its optional parts there are no FLASH, no MSI and no power management (so no wake-up).
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/emulated/e1000_internal.h"
#include "devices/registry.h"
#include "vmm/event_fd.h"

#define BAR_MMIO 0u
#define BAR_IO	 2u

/* What received frames may leave to us. */
#define RECEIVE_OFFLOADS (NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN)

#define YIELDS 100 /* of the loop to those who wait for the lock, at most */

/* ---- for all parts --------------------------------------------------------------------------- */

void e1000_stat(struct e1000 *e, unsigned offset, uint64_t n)
{
	uint32_t *at = &e->reg[offset / 4];

	*at = n > UINT32_MAX - *at ? UINT32_MAX : *at + (uint32_t)n;
}

void e1000_stat_octets(struct e1000 *e, unsigned low, uint64_t n)
{
	uint32_t *at = &e->reg[low / 4];
	uint64_t value = (uint64_t)at[1] << 32 | at[0];

	value = n > UINT64_MAX - value ? UINT64_MAX : value + n;
	at[0] = (uint32_t)value;
	at[1] = (uint32_t)(value >> 32);
}

void e1000_stat_sizes(struct e1000 *e, unsigned size, size_t len, uint64_t n)
{
	unsigned i = 0;

	while (i < 5 && len > (i ? (64u << i) - 1 : 64))
		i++;
	e1000_stat(e, size + 4 * i, n);
}

void e1000_signal(const struct event_source *source)
{
	event_fd_signal(source->fd);
}

void e1000_wake(struct e1000 *e, const struct event_source *source)
{
	e1000_account(e, ACCOUNT_WAKEUPS, 1);
	e1000_account(e, ACCOUNT_SYSCALLS, 1);
	e1000_signal(source);
}

void e1000_turn_end(struct e1000 *e)
{
	e1000_irq_turn_end(e);
	pthread_mutex_unlock(&e->lock);
	for (int i = 0; i < YIELDS && e1000_wanted(e); i++)
		sched_yield();
}

uint64_t e1000_ring(const struct e1000 *e, unsigned bal, uint32_t index)
{
	return ((uint64_t)e1000_get(e, bal + 4) << 32 | e1000_get(e, bal)) +
	       (uint64_t)index * E1000_RING_UNIT;
}

uint32_t e1000_ring_size(const struct e1000 *e, unsigned len)
{
	return e1000_get(e, len) / E1000_RING_UNIT;
}

struct guest_memory *e1000_memory(const struct e1000 *e)
{
	return e->dev.host->memory;
}

bool e1000_may_move(const struct e1000 *e)
{
	return !e->paused && pci_bus_master(&e->f);
}

bool e1000_link_up(const struct e1000 *e)
{
	uint32_t ctrl = e1000_get(e, E1000_CTRL);

	return e->phy.link && ctrl & CTRL_SLU && !(ctrl & CTRL_PHY_RST);
}

bool e1000_loops(const struct e1000 *e)
{
	return e1000_phy_loops(&e->phy) || (e1000_get(e, E1000_RCTL) & RCTL_LBM) == RCTL_LBM_MAC;
}

void e1000_publish_status(struct e1000 *e)
{
	uint32_t ctrl = e1000_get(e, E1000_CTRL), status = 0;
	unsigned speed = e->phy.speed;
	bool full = e->phy.full_duplex;

	if (ctrl & CTRL_FRCSPD)
		speed = (ctrl & CTRL_SPEED) >> 8;
	if (ctrl & CTRL_FRCDPLX)
		full = ctrl & CTRL_FD;
	if (e1000_link_up(e))
		status |= STATUS_LU;
	if (full)
		status |= STATUS_FD;
	status |= speed << STATUS_SPEED_SHIFT | (unsigned)e->phy.speed << STATUS_ASDV_SHIFT;
	__atomic_store_n(&e->status, status, __ATOMIC_SEQ_CST);
}

void e1000_link_changed(struct e1000 *e)
{
	e1000_publish_status(e); /* before its interrupt */
	e1000_irq_cause(e, ICR_LSC);
	e1000_signal(&e->tx.kick);
	e1000_signal(&e->rx.kick);
}

/* ---- reset ----------------------------------------------------------------------------------- */

void e1000_load_eeprom(struct e1000 *e)
{
	const uint16_t *word = e->eeprom.word;

	e->reg[E1000_RA / 4] = (uint32_t)word[1] << 16 | word[0];
	e->reg[E1000_RA / 4 + 1] = RAH_AV | word[2];
}

static void reset_registers(struct e1000 *e)
{
	/* What CTRL.RST leaves alone (section 14.7): PBA, and packet buffer memory. */
	uint32_t pba = e1000_get(e, E1000_PBA);

	memset(e->reg, 0, E1000_CSR_SIZE);
	for (unsigned i = 0; i < e1000_registers.count; i++) {
		const struct reg *r = &e1000_registers.reg[i];

		e->reg[r->offset / 4] = (uint32_t)r->reset;
	}
	if (pba)
		e->reg[E1000_PBA / 4] = pba;
	e1000_load_eeprom(e);
	e1000_publish_status(e);
}

void e1000_reset_mac(struct e1000 *e)
{
	if (e->doorbells)
		e1000_doorbells_drain(e);
	reset_registers(e);
	e1000_irq_reset(e);
	e1000_tx_reset(e);
	e1000_rx_reset(e);
	e1000_signal(&e->rx.kick); /* nothing is wanted of the backend now */
}

/* ---- the cable ------------------------------------------------------------------------------- */

void e1000_set_link(struct device *dev, bool up)
{
	struct e1000 *e = e1000_of(dev);

	e1000_lock(e);
	if (e1000_phy_set_cable(&e->phy, up))
		e1000_link_changed(e);
	e1000_unlock(e);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void take_signal(const struct event_source *source)
{
	uint64_t count;

	if (read(source->fd, &count, sizeof(count)) < 0)
		return; /* EAGAIN: taken already */
}

static void tx_kicked(void *opaque, uint32_t events)
{
	struct e1000 *e = opaque;

	(void)events;
	take_signal(&e->tx.kick);
	e1000_tx_serve(e);
}

static void rx_kicked(void *opaque, uint32_t events)
{
	struct e1000 *e = opaque;

	(void)events;
	take_signal(&e->rx.kick);
	e1000_rx_serve(e);
}

static void readable(void *opaque)
{
	e1000_rx_serve(opaque);
}

static void writable(void *opaque)
{
	e1000_tx_writable(opaque);
}

static void gone(void *opaque)
{
	e1000_set_link(opaque, false); /* the device is its first member */
}

static const struct net_client client = {
	.readable = readable,
	.writable = writable,
	.gone = gone,
};

/* ---- PCI ------------------------------------------------------------------------------------- */

static void config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct e1000 *e = e1000_of(f->dev);

	/* Bus mastering may have been switched. */
	if (offset < PCI_COMMAND + 2 && offset + size > PCI_COMMAND) {
		e1000_signal(&e->tx.kick);
		e1000_signal(&e->rx.kick);
	}
}

static const struct pci_function_ops function_ops = { .config_written = config_written };

static int add_bars(struct e1000 *e, struct error *err)
{
	int ret = pci_add_bar(&e->f, BAR_MMIO, PCI_BAR_MEM32, false, E1000_BAR_SIZE,
			      &e1000_mmio_ops, e, err);

	if (!ret)
		ret = pci_add_bar(&e->f, BAR_IO, PCI_BAR_IO, false, E1000_IO_SIZE, &e1000_io_ops, e,
				  err);
	pci_config_set8(&e->f, PCI_MIN_GNT, 0xff);
	return ret;
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static int start(struct device *dev, struct error *err)
{
	struct e1000 *e = e1000_of(dev);

	(void)err;
	e1000_lock(e);
	e->paused = false;
	e1000_unlock(e);
	e1000_signal(&e->tx.kick);
	e1000_signal(&e->rx.kick);
	return 0;
}

static void pause_card(struct device *dev)
{
	struct e1000 *e = e1000_of(dev);

	e1000_lock(e);
	e->paused = true;
	e1000_unlock(e);
	e1000_signal(&e->rx.kick);
}

static void reset(struct device *dev)
{
	struct e1000 *e = e1000_of(dev);

	pci_function_reset(&e->f);
	e1000_lock(e);
	e->reg[E1000_PBA / 4] = 0;
	e1000_reset_mac(e);
	memset(e->reg + E1000_CSR_SIZE / 4, 0, E1000_BAR_SIZE - E1000_CSR_SIZE);
	e1000_phy_reset(&e->phy);
	e1000_publish_status(e);
	__atomic_store_n(&e->ioaddr, 0, __ATOMIC_RELAXED);
	e1000_unlock(e);
}

static void close_signal(struct event_source *source)
{
	event_del(source);
	if (source->fd >= 0)
		close(source->fd);
}

static void destroy(struct device *dev)
{
	struct e1000 *e = e1000_of(dev);

	e1000_doorbells_stop(e);
	pci_function_destroy(&e->f);
	if (e->started)
		net_queue_stop(e->backend);
	e1000_doorbells_destroy(e);
	e1000_irq_destroy(e);
	close_signal(&e->tx.kick);
	close_signal(&e->rx.kick);
	if (e->own_loop)
		event_loop_destroy(e->loop);
	net_close(e->net);
	net_frames_destroy(&e->rx.fifo);
	free(e->tx.bounce);
	free(e->tx.hold);
	free(e->rx.frame);
	free(e->reg);
	pthread_mutex_destroy(&e->irq.lock);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static const struct device_ops ops = {
	.start = start,
	.pause = pause_card,
	.reset = reset,
	.destroy = destroy,
};

static int make_signal(struct e1000 *e, struct event_source *source,
		       void (*callback)(void *opaque, uint32_t events))
{
	source->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (source->fd < 0)
		return -errno;
	source->events = EPOLLIN;
	source->callback = callback;
	source->opaque = e;
	return event_add(e->loop, source);
}

static int make_memory(struct e1000 *e)
{
	e->reg = calloc(1, E1000_BAR_SIZE);
	e->tx.bounce = malloc(NET_HEADER + E1000_TX_DATA_MAX + E1000_VLAN_TAG + E1000_MIN_FRAME);
	e->tx.hold = malloc(E1000_TX_DATA_MAX);
	e->rx.frame = malloc(NET_HEADER + NET_FRAME_MAX + E1000_MIN_FRAME);
	if (!e->reg || !e->tx.bounce || !e->tx.hold || !e->rx.frame)
		return -ENOMEM;
	return net_frames_init(&e->rx.fifo, 2 * E1000_FIFO_MAX);
}

static int make_loop(struct e1000 *e, const struct device_config *config, struct error *err)
{
	int ret;

	e->loop = e->dev.host->loop;
	if (device_config_bool(config, "iothread")) {
		e->loop = event_loop_create(e->dev.name, err);
		if (!e->loop)
			return -ENOMEM;
		e->own_loop = true;
		event_loop_account(e->loop, e->dev.account);
	}
	ret = make_signal(e, &e->tx.kick, tx_kicked);
	if (!ret)
		ret = make_signal(e, &e->rx.kick, rx_kicked);
	if (!ret)
		ret = e1000_irq_init(e);
	return ret ? error_set_errno(err, ret, "cannot watch its events") : 0;
}

/* From here on destroy() cleans up. */
static int build(struct e1000 *e, const struct device_config *config, struct error *err)
{
	int ret = net_flag_mac(config, e->mac, err);

	if (ret)
		return ret;
	if (make_memory(e))
		return error_set(err, -ENOMEM, "out of memory");
	e1000_registers_map(e->row);
	e1000_eeprom_init(&e->eeprom, e->mac);
	e1000_phy_init(&e->phy, device_config_bool(config, "link"));
	e->tx.idle = true;
	ret = make_loop(e, config, err);
	if (!ret)
		ret = add_bars(e, err);
	if (!ret && device_config_uint(config, "doorbell"))
		ret = e1000_doorbells_create(e, err);
	if (ret)
		return ret;
	reset_registers(e);
	e->offload = device_config_bool(config, "offloads") ? net_info(e->net)->offloads : 0;
	e->backend = net_queue(e->net, 0);
	net_queue_account(e->backend, e->dev.account);
	ret = net_queue_start(e->backend, e->loop, &client, e, err);
	if (ret)
		return ret;
	e->started = true;
	if (net_set_offloads(e->net, e->offload & RECEIVE_OFFLOADS))
		net_set_offloads(e->net, 0);
	if (e->own_loop)
		ret = event_loop_start(e->loop, err);
	return ret ? ret : pci_function_plug(&e->f, e->dev.host->pci, -1, err);
}

int e1000_create(struct device_host *host, const struct device_config *config, struct net *net,
		 struct device **out, struct error *err)
{
	const struct pci_identity identity = {
		.vendor = EEPROM_VENDOR,
		.device = EEPROM_DEVICE,
		.subsystem_vendor = EEPROM_VENDOR,
		.subsystem = EEPROM_SUB_DEVICE,
		.revision = 2,
		.class_code = 0x020000, /* Ethernet controller */
		.intx = true,
	};
	struct e1000 *e = calloc(1, sizeof(*e));
	int ret;

	if (!e) {
		net_close(net);
		return error_set(err, -ENOMEM, "out of memory");
	}
	e->net = net;
	e->paused = true;
	e->tx.kick.fd = e->rx.kick.fd = -1;
	e->irq.timer.source.fd = -1;
	pthread_mutex_init(&e->lock, NULL);
	pthread_mutex_init(&e->irq.lock, NULL);
	device_init(&e->dev, &ops, host, config);
	pci_function_init(&e->f, &e->dev, &identity, &function_ops);
	ret = build(e, config, err);
	if (ret) {
		destroy(&e->dev);
		return ret;
	}
	*out = &e->dev;
	return 0;
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *err)
{
	struct net *net;
	int ret = net_open_flag(&net, config, 1, err);

	return ret ? ret : e1000_create(host, config, net, out, err);
}

static const struct device_key keys[] = {
	NET_KEYS,
	{ .name = "doorbell",
	  .type = KEY_ENUM,
	  .choices = "exit|ioeventfd",
	  .fallback = "exit",
	  .help = "a write of the transmit tail exits to mvm, or signals an eventfd in the "
		  "kernel" },
	{ .name = "iothread",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "serve the rings on a thread of their own, not on the main one" },
	{ .name = "offloads",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "leave checksums and segmentation to the target where it can" },
	{ 0 },
};

const struct device_row row_e1000 = {
	.class = CLASS_NET,
	.model = MODEL_EMULATED,
	.hw = "e1000",
	.preferred = true,
	.summary = "Intel 82540EM (PRO/1000 MT) on user-mode NAT or a tap",
	.target = "user|TAP|fd:N",
	.target_required = false,
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
