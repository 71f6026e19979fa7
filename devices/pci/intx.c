/*
 * The INTA# pin: a level the device drives and the guest may disable. Interrupt Status shows the
 * device's level whether or not the pin passes it on; while MSI or MSI-X is enabled the pin stays
 * quiet. PCI Express Base 5.0 sections 6.1.4.1 and 7.5.1.1.
 */
#include <errno.h>
#include <linux/pci_regs.h>

#include "devices/pci/internal.h"

unsigned pci_intx_gsi(const struct pci_windows *windows, unsigned device, unsigned pin)
{
	return windows->intx_gsi + (device + pin) % PCI_INTX_LINES;
}

void pci_intx_update(struct pci_function *f)
{
	bool quiet = pci_config_get16(f, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;

	if (!f->has_intx || !f->root)
		return;
	if (pci_msix_enabled(f) || pci_msi_enabled(f))
		quiet = true;
	irq_line_set(&f->intx, f->intx_wanted && !quiet);
}

void pci_intx_reset(struct pci_function *f)
{
	f->intx_wanted = false; /* the status bit went with config space */
	pci_intx_update(f);
}

void pci_intx_set(struct pci_function *f, bool level)
{
	uint32_t status = (uint32_t)PCI_STATUS_INTERRUPT << 16;

	if (!f->has_intx)
		return;
	pthread_mutex_lock(&f->lock);
	if (f->intx_wanted != level) {
		f->intx_wanted = level;
		pci_config_update(f, PCI_COMMAND, status, level ? status : 0);
		pci_intx_update(f);
	}
	pthread_mutex_unlock(&f->lock);
}

void pci_intx_account(struct pci_function *f, struct account *account)
{
	pthread_mutex_lock(&f->lock);
	f->intx.account = account;
	pthread_mutex_unlock(&f->lock);
}

int pci_intx_bind(struct pci_function *f, int trigger, int resample)
{
	int err;

	if (!f->has_intx)
		return -ENOTSUP;
	pthread_mutex_lock(&f->lock);
	err = irq_line_bind(&f->intx, trigger, resample);
	pthread_mutex_unlock(&f->lock);
	return err;
}

void pci_intx_unbind(struct pci_function *f, int trigger)
{
	pthread_mutex_lock(&f->lock);
	irq_line_unbind(&f->intx, trigger);
	pthread_mutex_unlock(&f->lock);
}
