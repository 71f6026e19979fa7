/* The root complex: what firmware assigns, windows that run out, windows that cannot be. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/test_pci.h"

#define BOTH (PCI_COMMAND_MEMORY | PCI_COMMAND_IO)

static uint64_t bar_at(struct rig *r, const struct rig_device *d, unsigned bar)
{
	uint64_t low = cfg_read(r, d, PCI_BASE_ADDRESS_0 + 4 * bar, 4);
	uint64_t high = 0;

	if (d->f.bar[bar].kind == PCI_BAR_MEM64)
		high = cfg_read(r, d, PCI_BASE_ADDRESS_0 + 4 * bar + 4, 4);
	return (high << 32 | low) & ~(d->f.bar[bar].size - 1);
}

Test(pci_bar, assignment)
{
	struct rig *r = rig_create();
	struct rig_device *d[20];
	struct error e = { 0 };

	for (unsigned i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "dev%u", i);
		d[i] = rig_device(r, name, (uint8_t)(i + 1));
		rig_bar(d[i], 0, PCI_BAR_MEM32, false, 16u << i % 5);
		rig_bar(d[i], 1, PCI_BAR_IO, false, 4u << i % 7);
		rig_bar(d[i], 2, PCI_BAR_MEM64, true, 0x1000u << i % 6);
		rig_bar(d[i], 4, PCI_BAR_MEM64, false, 0x1000u << i % 9);
		rig_plug(r, d[i], -1);
	}
	cr_assert_eq(pci_root_assign(r->root, &e), 0, "%s", e.msg);
	for (unsigned i = 0; i < 20; i++) {
		cr_expect_eq(cfg_read(r, d[i], PCI_COMMAND, 2), 0);
		cr_expect_eq(cfg_read(r, d[i], PCI_INTERRUPT_LINE, 1), 16 + (i + 1) % 8);
		command(r, d[i], BOTH);
	}
	for (unsigned i = 0; i < 20; i++) {
		static const unsigned bars[] = { 0, 1, 2, 4 };

		for (unsigned j = 0; j < 4; j++) {
			uint64_t at = bar_at(r, d[i], bars[j]);

			cr_expect(answers(r, d[i], bars[j], at), "no overlap, so all answer");
		}
		cr_expect_geq(bar_at(r, d[i], 2), RIG_MEM64);
		cr_expect_lt(bar_at(r, d[i], 4), 1ull << 32);
		cr_expect_eq(bar_at(r, d[i], 0) % 4096, 0, "a page of its own");
	}
	pci_function_reset(&d[3]->f);
	for (unsigned i = 0; i < 20; i++)
		rig_device_destroy(d[i]);
	rig_destroy(r);
}

Test(pci_bar, assignment_runs_out)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "net3", 1);
	struct error e = { 0 };

	rig_bar(d, 0, PCI_BAR_MEM64, true, RIG_WINDOW);
	rig_bar(d, 2, PCI_BAR_MEM64, true, RIG_WINDOW);
	rig_plug(r, d, -1);
	cr_expect_eq(pci_root_assign(r->root, &e), 0, "one above, one below 4 GiB: %s", e.msg);
	cr_expect_eq(bar_at(r, d, 0), RIG_MEM64);
	cr_expect_eq(bar_at(r, d, 2), RIG_MEM32);
	rig_device_destroy(d);

	d = rig_device(r, "net4", 1);
	rig_bar(d, 3, PCI_BAR_MEM32, true, 2 * RIG_WINDOW);
	rig_plug(r, d, -1);
	cr_expect_eq(pci_root_assign(r->root, &e), -ENOSPC);
	cr_expect_not_null(strstr(e.msg, "net4 BAR 3"), "%s", e.msg);
	rig_device_destroy(d);

	d = rig_device(r, "net6", 1);
	rig_bar(d, 3, PCI_BAR_MEM32, true, 1u << 31); /* its alignment leads past the window */
	rig_plug(r, d, -1);
	cr_expect_eq(pci_root_assign(r->root, &e), -ENOSPC);
	rig_device_destroy(d);

	d = rig_device(r, "net5", 1);
	rig_bar(d, 1, PCI_BAR_IO, false, 0x8000);
	rig_bar(d, 2, PCI_BAR_IO, false, 0x8000);
	rig_plug(r, d, -1);
	cr_expect_eq(pci_root_assign(r->root, &e), -ENOSPC);
	cr_expect_not_null(strstr(e.msg, "net5 BAR 2"), "%s", e.msg);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(pci_bar, windows_are_checked)
{
	struct rig *r = rig_create();
	struct pci_windows w = rig_windows();
	struct error e = { 0 };

	w.mem64_base = 1ull << 32; /* where rig has RAM */
	cr_expect_null(pci_root_create(&r->host, &w, &e));
	cr_expect_not_null(strstr(e.msg, "RAM"), "%s", e.msg);
	w = rig_windows();
	w.mem32_base -= 0x1000;
	cr_expect_null(pci_root_create(&r->host, &w, &e));
	w = rig_windows();
	w.intx_gsi = 0; /* forgotten */
	cr_expect_null(pci_root_create(&r->host, &w, &e));
	w = rig_windows();
	cr_expect_null(pci_root_create(&r->host, &w, &e), "the ports are taken");
	rig_destroy(r);
}
