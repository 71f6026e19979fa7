/*
 * The NVMe controller as a device: its row, its PCI function and its life. NVM Express Base 1.4
 * with the PCIe transport; see nvme.h for what is where.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/block_keys.h"
#include "devices/emulated/nvme.h"

enum { DOORBELL_EXIT, DOORBELL_IOEVENTFD };

static struct nvme *nvme_of(struct device *dev)
{
	return (struct nvme *)dev; /* first member */
}

/* ---- PCI ------------------------------------------------------------------------------------- */

static void follow_bus_master(struct nvme *n)
{
	pthread_mutex_lock(&n->lock);
	nvme_hold(n, NVME_HOLD_DMA, !pci_bus_master(&n->f));
	nvme_admin_serve(n);
	pthread_mutex_unlock(&n->lock);
}

static void reset(struct device *dev);

static void config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct nvme *n = nvme_of(f->dev);

	if (offset < PCI_COMMAND + 2 && offset + size > PCI_COMMAND)
		follow_bus_master(n);
	if (pci_take_flr(f, n->express))
		reset(&n->dev);
}

static const struct pci_function_ops function_ops = { .config_written = config_written };

static int add_function(struct nvme *n, struct error *e)
{
	int err = pci_add_bar(&n->f, NVME_BAR, PCI_BAR_MEM64, false, NVME_BAR_SIZE, &nvme_bar_ops,
			      n, e);

	if (err)
		return err;
	err = pci_add_msix(&n->f, n->nqueues + 1, NVME_BAR, NVME_MSIX_TABLE, NVME_MSIX_PBA, e);
	if (err)
		return err;
	err = pci_add_express(&n->f);
	if (err < 0)
		return error_set(e, err, "no room for its PCI capabilities");
	n->express = (unsigned)err;
	pci_add_flr(&n->f, n->express);
	return pci_function_plug(&n->f, n->dev.host->pci, -1, e);
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static int start(struct device *dev, struct error *e)
{
	struct nvme *n = nvme_of(dev);

	(void)e;
	pthread_mutex_lock(&n->lock);
	nvme_hold(n, NVME_HOLD_PAUSE, false);
	nvme_format_go_on(n);
	nvme_admin_serve(n);
	pthread_mutex_unlock(&n->lock);
	return 0;
}

static void pause_device(struct device *dev)
{
	struct nvme *n = nvme_of(dev);

	pthread_mutex_lock(&n->lock);
	nvme_hold(n, NVME_HOLD_PAUSE, true);
	block_queue_drain(n->backend);
	pthread_mutex_unlock(&n->lock);
}

static void reset(struct device *dev)
{
	struct nvme *n = nvme_of(dev);

	pthread_mutex_lock(&n->lock);
	nvme_disable(n);
	nvme_regs_reset(n);
	pthread_mutex_unlock(&n->lock);
	pci_function_reset(&n->f);
	follow_bus_master(n);
}

static void destroy(struct device *dev)
{
	struct nvme *n = nvme_of(dev);

	if (n->backend) {
		pthread_mutex_lock(&n->lock);
		nvme_disable(n);
		pthread_mutex_unlock(&n->lock);
	}
	pci_function_destroy(&n->f);
	nvme_events_destroy(n);
	for (unsigned i = 1; i <= n->nqueues; i++)
		nvme_sq_destroy(&n->sq[i]);
	block_queue_destroy(n->backend);
	for (unsigned i = 0; i <= n->nqueues; i++) {
		pthread_mutex_destroy(&n->sq[i].lock);
		pthread_mutex_destroy(&n->cq[i].lock);
	}
	pthread_mutex_destroy(&n->lock);
	pthread_mutex_destroy(&n->pin_lock);
	pthread_mutex_destroy(&n->errors_lock);
	block_close(n->block);
	free(n);
}

static const struct device_ops device_ops = {
	.start = start,
	.pause = pause_device,
	.reset = reset,
	.destroy = destroy,
};

/* ---- making one ------------------------------------------------------------------------------ */

static void admin_completed(void *opaque)
{
	struct nvme *n = opaque;

	nvme_cq_notify(&n->cq[0]);
}

/* All that destroy() undoes in any case; nothing in here fails. */
static void init(struct nvme *n, struct device_host *host, const struct device_config *config)
{
	static const struct pci_identity identity = {
		.vendor = 0x1b36, /* Red Hat */
		.device = 0x0010, /* NVM Express controller without hardware */
		.subsystem_vendor = 0x1af4,
		.subsystem = 0x1100,
		.revision = 2,
		.class_code = 0x010802,
		.intx = true,
	};

	device_init(&n->dev, &device_ops, host, config);
	n->nqueues = (unsigned)device_config_uint(config, "queues");
	n->inline_doorbells = device_config_uint(config, "doorbell") == DOORBELL_EXIT;
	n->offers_shadow = device_config_bool(config, "shadow");
	n->blocks = block_info(n->block)->size / block_info(n->block)->logical_block;
	n->block_shift = (unsigned)__builtin_ctz(block_info(n->block)->logical_block);
	n->held = NVME_HOLD_PAUSE | NVME_HOLD_DMA;
	n->attention.fd = -1;
	pthread_mutex_init(&n->lock, NULL);
	pthread_mutex_init(&n->pin_lock, NULL);
	pthread_mutex_init(&n->errors_lock, NULL);
	for (unsigned i = 0; i <= n->nqueues; i++) {
		n->sq[i].n = n->cq[i].n = n;
		n->sq[i].id = n->cq[i].id = (uint16_t)i;
		n->sq[i].kick.fd = -1;
		pthread_mutex_init(&n->sq[i].lock, NULL);
		pthread_mutex_init(&n->cq[i].lock, NULL);
	}
	nvme_features_reset(n);
	pci_function_init(&n->f, &n->dev, &identity, &function_ops);
}

static int make(struct nvme *n, const struct device_config *config, struct error *e)
{
	const struct block_queue_config backend = {
		.loop = n->dev.host->loop,
		.lock = &n->lock,
		.depth = 2,
		.completed = admin_completed,
		.opaque = n,
		.name = n->dev.name,
		.account = n->dev.account,
	};
	int err = nvme_events_init(n, e);

	if (!err)
		err = block_queue_create(&n->backend, n->block, &backend, e);
	for (unsigned i = 1; i <= n->nqueues && !err; i++)
		err = nvme_sq_init(n, i, device_config_bool(config, "iothread"), e);
	return err ? err : add_function(n, e);
}

int nvme_create(struct device_host *host, const struct device_config *config, struct block *block,
		struct device **out, struct error *e)
{
	struct nvme *n = calloc(1, sizeof(*n));
	int err;

	if (!n) {
		block_close(block);
		return error_set(e, -ENOMEM, "out of memory");
	}
	err = block_serial_from(config, n->serial, e);
	if (err) {
		free(n);
		block_close(block);
		return err;
	}
	n->block = block;
	init(n, host, config);
	err = make(n, config, e);
	if (err) {
		destroy(&n->dev);
		return err;
	}
	*out = &n->dev;
	return 0;
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	const struct block_config backend = block_config_from(config);
	struct block *block;
	int err = block_open(&block, &backend, e);

	return err ? err : nvme_create(host, config, block, out, e);
}

static const struct device_key keys[] = {
	BLOCK_KEYS,
	BLOCK_SERIAL_KEY,
	{ .name = "queues",
	  .type = KEY_UINT,
	  .fallback = "4",
	  .min = 1,
	  .max = NVME_MAX_QUEUES,
	  .help = "pairs of I/O queues that the guest may make" },
	{ .name = "iothread",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "give each queue a thread of its own, not the main one" },
	{ .name = "doorbell",
	  .type = KEY_ENUM,
	  .fallback = "ioeventfd",
	  .choices = "exit|ioeventfd",
	  .help = "exit: the vCPU that rings serves the queue; ioeventfd: its thread does, and "
		  "once the driver uses shadow doorbells the write does not leave the kernel" },
	{ .name = "shadow",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "offer shadow doorbells (Doorbell Buffer Config): fewer register writes" },
	{ 0 },
};

const struct device_row row_nvme = {
	.class = CLASS_BLK,
	.model = MODEL_EMULATED,
	.hw = "nvme",
	.summary = "NVMe 1.4 controller with one namespace on a disk image",
	.target = "IMAGE",
	.target_required = true,
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
