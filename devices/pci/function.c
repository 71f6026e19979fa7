/*
 * A function's life: the type 0 header from its identity, capabilities, its slot on bus 0, reset
 * and removal. PCI Express Base 5.0 sections 7.5.1 (header) and 7.5.3 (PCI Express capability).
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "devices/pci/internal.h"

#define COMMAND_WRITABLE                                                                           \
	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |           \
	 PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE)
#define STATUS_CLEARS                                                                              \
	(PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT | PCI_STATUS_REC_TARGET_ABORT |           \
	 PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY)

#define EXPRESS_SIZE 0x3c /* version 2, all registers */

void pci_function_init(struct pci_function *f, struct device *dev, const struct pci_identity *id,
		       const struct pci_function_ops *ops)
{
	f->dev = dev;
	f->name = dev ? dev->name : "pci-host";
	f->ops = ops;
	f->has_intx = id->intx;
	f->next_capability = PCI_STD_HEADER_SIZEOF;
	pthread_mutex_init(&f->lock, NULL);

	pci_config_set16(f, PCI_VENDOR_ID, id->vendor);
	pci_config_set16(f, PCI_DEVICE_ID, id->device);
	pci_config_set32(f, PCI_CLASS_REVISION, id->class_code << 8 | id->revision);
	pci_config_set16(f, PCI_SUBSYSTEM_VENDOR_ID, id->subsystem_vendor);
	pci_config_set16(f, PCI_SUBSYSTEM_ID, id->subsystem);
	pci_config_writable32(f, PCI_COMMAND, COMMAND_WRITABLE);
	pci_config_clears32(f, PCI_COMMAND, (uint32_t)STATUS_CLEARS << 16);
	pci_config_writable32(f, PCI_CACHE_LINE_SIZE, 0xff);
	if (id->intx) {
		pci_config_set8(f, PCI_INTERRUPT_PIN, 1);
		pci_config_writable32(f, PCI_INTERRUPT_LINE, 0xff);
	}
}

int pci_add_capability_at(struct pci_function *f, unsigned at, uint8_t id, unsigned len)
{
	unsigned link = PCI_CAPABILITY_LIST;

	if (f->root || len < 2 || at < PCI_STD_HEADER_SIZEOF || at % 4 || at > PCI_CFG_SPACE_SIZE ||
	    len > PCI_CFG_SPACE_SIZE - at)
		return -ENOSPC;
	while (pci_config_get8(f, link)) { /* ours, made below: it ends */
		link = pci_config_get8(f, link);
		if (link == at)
			return -ENOSPC;
		link += PCI_CAP_LIST_NEXT;
	}
	pci_config_set8(f, link, (uint8_t)at);
	pci_config_set8(f, at + PCI_CAP_LIST_ID, id);
	pci_config_set16(f, PCI_STATUS, PCI_STATUS_CAP_LIST);
	at = (at + len + 3) & ~3u;
	if (at > f->next_capability)
		f->next_capability = (uint16_t)at;
	return 0;
}

int pci_add_capability(struct pci_function *f, uint8_t id, unsigned len)
{
	unsigned at = f->next_capability;
	int err = pci_add_capability_at(f, at, id, len);

	return err < 0 ? err : (int)at;
}

int pci_add_express(struct pci_function *f)
{
	int at = pci_add_capability(f, PCI_CAP_ID_EXP, EXPRESS_SIZE);
	uint16_t control = PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE |
			   PCI_EXP_DEVCTL_URRE | PCI_EXP_DEVCTL_RELAX_EN |
			   PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ;
	uint32_t status =
		PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD;

	if (at < 0)
		return at;
	pci_config_set16(f, (unsigned)at + PCI_EXP_FLAGS, (uint16_t)(PCI_EXP_TYPE_RC_END << 4 | 2));
	pci_config_set32(f, (unsigned)at + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER);
	pci_config_set16(f, (unsigned)at + PCI_EXP_DEVCTL,
			 PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN |
				 PCI_EXP_DEVCTL_READRQ_512B);
	pci_config_writable32(f, (unsigned)at + PCI_EXP_DEVCTL, control);
	pci_config_clears32(f, (unsigned)at + PCI_EXP_DEVCTL, status << 16);
	return at;
}

void pci_add_flr(struct pci_function *f, unsigned express)
{
	unsigned control = express + PCI_EXP_DEVCTL;

	pci_config_set32(f, express + PCI_EXP_DEVCAP,
			 pci_config_get32(f, express + PCI_EXP_DEVCAP) | PCI_EXP_DEVCAP_FLR);
	pci_config_writable32(f, control,
			      pci_word_load(f->writable, control) | PCI_EXP_DEVCTL_BCR_FLR);
}

/* The bit reads as zero; whoever finds it set has to serve it. */
bool pci_take_flr(struct pci_function *f, unsigned express)
{
	unsigned control = express + PCI_EXP_DEVCTL;
	bool set;

	pthread_mutex_lock(&f->lock);
	set = pci_word_load(f->config, control) & PCI_EXP_DEVCTL_BCR_FLR;
	pci_config_update(f, control, PCI_EXP_DEVCTL_BCR_FLR, 0);
	pthread_mutex_unlock(&f->lock);
	return set;
}

/* The slot's devfn, or -ENOSPC. */
static int free_slot(const struct pci_root *root)
{
	for (int devfn = 0; devfn < PCI_FUNCTIONS; devfn += 8) {
		bool used = false;

		for (int i = 0; i < 8; i++)
			used |= root->function[devfn + i] != NULL;
		if (!used)
			return devfn;
	}
	return -ENOSPC;
}

/* A guest looks past function 0 only if function 0 says so. */
static void mark_multi_function(struct pci_root *root, uint8_t devfn)
{
	unsigned base = devfn & ~7u;
	bool multi = false;

	for (unsigned i = 1; i < 8; i++)
		multi |= root->function[base + i] != NULL;
	for (unsigned i = 0; multi && i < 8; i++) {
		struct pci_function *f = root->function[base + i];

		if (!f)
			continue;
		f->initial[PCI_HEADER_TYPE] |= 0x80;
		pci_config_set8(f, PCI_HEADER_TYPE, f->initial[PCI_HEADER_TYPE]);
	}
}

int pci_function_plug(struct pci_function *f, struct pci_root *root, int devfn, struct error *e)
{
	struct bus_range range = {
		.name = f->name,
		.size = PCI_CONFIG_SIZE,
		.ops = &pci_config_ops,
		.opaque = f,
		.account = f->dev ? f->dev->account : NULL,
	};
	int err = 0;

	pthread_mutex_lock(&root->lock);
	if (devfn < 0)
		devfn = free_slot(root);
	if (devfn < 0)
		err = error_set(e, -ENOSPC, "all %d PCI slots are taken", PCI_DEVICES);
	else if (f->root || devfn >= PCI_FUNCTIONS)
		err = error_set(e, -EINVAL, "%s cannot be plugged there", f->name);
	else if (root->function[devfn])
		err = error_set(e, -EBUSY, "PCI slot %02x.%x is taken by %s", devfn >> 3, devfn & 7,
				root->function[devfn]->name);
	if (err == 0) {
		range.base = (uint64_t)devfn << 12;
		memcpy(f->initial, f->config, PCI_CONFIG_SIZE);
		f->root = root;
		f->devfn = (uint8_t)devfn;
		if (f->has_intx) {
			irq_line_init(&f->intx, root->host->irq,
				      pci_intx_gsi(&root->windows, (unsigned)devfn >> 3, 0));
			f->intx.account = range.account;
		}
		err = bus_add(root->config, &range, e);
		if (err == 0) {
			root->function[devfn] = f;
			mark_multi_function(root, f->devfn);
		} else {
			f->root = NULL;
		}
	}
	pthread_mutex_unlock(&root->lock);
	return err;
}

void pci_function_reset(struct pci_function *f)
{
	if (f->root)
		pthread_mutex_lock(&f->root->lock);
	pthread_mutex_lock(&f->lock);
	if (f->root)
		pci_config_restore(f);
	pci_msix_reset(f);
	pci_msi_reset(f);
	pci_intx_reset(f);
	pthread_mutex_unlock(&f->lock);
	if (f->root) {
		pci_bars_update(f);
		pthread_mutex_unlock(&f->root->lock);
	}
}

void pci_function_vanish(struct pci_function *f)
{
	struct pci_root *root = f->root;

	if (!root)
		return;
	/* root stays set: a vCPU may be inside an access that began before. */
	pthread_mutex_lock(&root->lock);
	f->gone = true;
	bus_remove(root->config, (uint64_t)f->devfn << 12, f);
	pci_bars_unmap(f);
	pthread_mutex_lock(&f->lock);
	pci_intx_reset(f);
	pthread_mutex_unlock(&f->lock);
	pthread_mutex_unlock(&root->lock);
}

void pci_function_destroy(struct pci_function *f)
{
	struct pci_root *root = f->root;

	if (root) {
		pthread_mutex_lock(&root->lock);
		bus_remove(root->config, (uint64_t)f->devfn << 12, f);
		pci_bars_unmap(f);
		root->function[f->devfn] = NULL;
		pthread_mutex_lock(&f->lock);
		pci_intx_reset(f);
		pthread_mutex_unlock(&f->lock);
		f->root = NULL;
		pthread_mutex_unlock(&root->lock);
	}
	pci_msix_destroy(f);
	pci_msi_destroy(f);
	free(f->map);
	f->map = NULL;
	f->maps = 0;
	free(f->kick);
	f->kick = NULL;
	f->kicks = 0;
	pthread_mutex_destroy(&f->lock);
}
