/* INTx: level, status, disable, sharing, and silence while messages are enabled. */
#include <criterion/criterion.h>

#include "tests/unit/test_pci.h"

Test(pci_intx, level_status_and_disable)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "net0", 1);

	rig_plug(r, d, 6 << 3);
	pci_intx_set(&d->f, true);
	cr_expect(r->level[16 + 6]);
	cr_expect(cfg_read(r, d, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	cfg_write(r, d, PCI_STATUS, 2, 0xffff);
	cr_expect(cfg_read(r, d, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, "read-only");
	command(r, d, PCI_COMMAND_INTX_DISABLE);
	cr_expect_not(r->level[22]);
	cr_expect(cfg_read(r, d, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, "the device's own level");
	pci_intx_set(&d->f, false);
	cr_expect_not(cfg_read(r, d, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	pci_intx_set(&d->f, true);
	cr_expect_not(r->level[22]);
	command(r, d, 0);
	cr_expect(r->level[22], "still wanted");
	pci_function_reset(&d->f);
	cr_expect_not(r->level[22]);
	cr_expect_not(cfg_read(r, d, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	pci_intx_set(&d->f, true);
	rig_device_destroy(d);
	cr_expect_not(r->level[22], "unplugged");
	rig_destroy(r);
}

Test(pci_intx, a_line_is_shared)
{
	struct rig *r = rig_create();
	struct rig_device *a = rig_device(r, "net0", 1);
	struct rig_device *b = rig_device(r, "net1", 2);
	unsigned edges;

	rig_plug(r, a, 1 << 3);
	rig_plug(r, b, 9 << 3);
	pci_intx_set(&a->f, true);
	edges = r->edges;
	pci_intx_set(&b->f, true);
	pci_intx_set(&b->f, true);
	pci_intx_set(&a->f, false);
	cr_expect(r->level[17]);
	cr_expect_eq(r->edges, edges, "high all the time");
	pci_intx_set(&b->f, false);
	cr_expect_not(r->level[17]);
	rig_device_destroy(a);
	rig_device_destroy(b);
	rig_destroy(r);
}

Test(pci_intx, quiet_while_messages_are_enabled)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "net0", 1);
	struct error e;

	rig_bar(d, 0, PCI_BAR_MEM32, false, 0x1000);
	cr_assert_eq(pci_add_msix(&d->f, 1, 0, 0, 0x800, &e), 0);
	cr_assert_eq(pci_add_msi(&d->f, 1, &e), 0);
	rig_plug(r, d, 1 << 3);
	pci_intx_set(&d->f, true);
	cr_expect(r->level[17]);
	cfg_write(r, d, d->f.msix.capability + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	cr_expect_not(r->level[17]);
	cfg_write(r, d, d->f.msix.capability + PCI_MSIX_FLAGS, 2, 0);
	cr_expect(r->level[17]);
	cfg_write(r, d, d->f.msi.capability + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	cr_expect_not(r->level[17]);
	rig_device_destroy(d);
	rig_destroy(r);
}
