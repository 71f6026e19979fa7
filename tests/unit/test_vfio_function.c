/*
 * A passed-through function's BARs, interrupts and life, against a made-up device that keeps the
 * kernel's rules; and a guest that does anything at all.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/registry.h"
#include "tests/unit/test_vfio_rig.h"

#define INTX VFIO_PCI_INTX_IRQ_INDEX
#define MSI  VFIO_PCI_MSI_IRQ_INDEX
#define MSIX VFIO_PCI_MSIX_IRQ_INDEX

static struct vfio_rig *finish(struct vfio_rig *r)
{
	struct error e = { .msg = "" };

	cr_assert_eq(vfio_rig_create(r, &row_vfio_dev, &e), 0, "%s", e.msg);
	return r;
}

static struct vfio_rig *made(void)
{
	return finish(vfio_rig_make());
}

static void enable_msix(struct vfio_rig *r, bool on)
{
	vcfg_write(r, HW_MSIX + PCI_MSIX_FLAGS, 2, on ? PCI_MSIX_FLAGS_ENABLE : 0);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	cr_assert_eq(write(fd, &one, 8), 8);
}

/* ---- BARs ---- */

Test(vfio_bars, pages_are_mapped_but_for_msix_and_follow_the_bar)
{
	struct vfio_rig *r = made();
	uint64_t moved = RIG_MEM64 + 0x100000;

	cr_expect_eq(r->hw->maps, 1, "one piece before the table");
	vfio_place_bar0(r);
	cr_expect_eq(vfio_mapped_at(r, BAR0_AT), r->hw->bar[0]);
	cr_expect_eq(vfio_mapped_at(r, BAR0_AT + 0x1fff), r->hw->bar[0] + 0x1fff);
	cr_expect_null(vfio_mapped_at(r, BAR0_AT + 0x2000), "the table");
	cr_expect_null(vfio_mapped_at(r, BAR0_AT + 0x3000), "the pending bits");
	vcfg_write(r, PCI_BASE_ADDRESS_0, 8, moved);
	cr_expect_null(vfio_mapped_at(r, BAR0_AT));
	cr_expect_eq(vfio_mapped_at(r, moved + 4), r->hw->bar[0] + 4);
	vcfg_write(r, PCI_COMMAND, 2, 0);
	cr_expect_null(vfio_mapped_at(r, moved));
	vfio_rig_destroy(r);
}

Test(vfio_bars, one_too_large_for_the_window_is_named)
{
	struct vfio_rig *r = vfio_rig_make();
	struct error e = { .msg = "" };

	r->hw->vd.region[VFIO_PCI_BAR0_REGION_INDEX].size = 2 * RIG_WINDOW;
	r->hw->vd.region[VFIO_PCI_BAR0_REGION_INDEX].areas = 0;
	finish(r);
	cr_expect_eq(pci_root_assign(r->pci->root, &e), -ENOSPC);
	cr_expect(strstr(e.msg, "BAR 0: 524288 KiB of address space do not fit"), "%s", e.msg);
	vfio_rig_destroy(r);
}

Test(vfio_bars, what_is_not_mapped_is_read_and_written)
{
	struct vfio_rig *r = made();
	uint64_t at = RIG_MEM32 + 0x4000;
	struct account_block sum;

	vcfg_write(r, PCI_BASE_ADDRESS_2, 4, at);
	vcfg_write(r, PCI_BASE_ADDRESS_3, 4, 0x7000);
	vfio_place_bar0(r);
	vcfg_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	cr_expect_null(vfio_mapped_at(r, at), "smaller than a page");
	mmio_write(r->pci, at + 0xf8, 8, 0x1122334455667788);
	cr_expect_eq(mmio_read(r->pci, at + 0xfc, 4), 0x11223344);
	pio_write(r->pci, 0x7003, 1, 0x5a);
	cr_expect_eq(pio_read(r->pci, 0x7003, 1), 0x5a);
	cr_expect_eq(r->hw->bar[3][3], 0x5a);
	/* Beside the table, in its page. */
	mmio_write(r->pci, BAR0_AT + 0x2800, 4, 0xcafe);
	cr_expect_eq(mmio_read(r->pci, BAR0_AT + 0x2800, 4), 0xcafe);
	cr_expect_eq(r->hw->bar[0][0x2800], 0xfe);
	account_read(r->dev->account, &sum);
	cr_expect_eq(sum.value[ACCOUNT_SYSCALLS], r->hw->reads + r->hw->writes);
	cr_expect_eq(sum.value[ACCOUNT_SYSCALLS], 6, "each is passed on by a call");
	vfio_unmask(r, 1);
	cr_expect_eq(r->hw->bar[0][0x2010], 0, "the table itself is ours");
	vfio_rig_destroy(r);
}

Test(vfio_bars, sparse_areas_and_a_hypervisor_without_slots)
{
	struct vfio_rig *r = vfio_rig_make();

	r->hw->vd.region[0].areas = 2;
	r->hw->vd.region[0].area[0] = (struct vfio_area){ 0x1000, 0x1000 };
	r->hw->vd.region[0].area[1] = (struct vfio_area){ 0x3000, 0x1000 };
	finish(r);
	vfio_place_bar0(r);
	cr_expect_null(vfio_mapped_at(r, BAR0_AT));
	cr_expect_not_null(vfio_mapped_at(r, BAR0_AT + 0x1000));
	cr_expect_null(vfio_mapped_at(r, BAR0_AT + 0x3000));
	vfio_rig_destroy(r);

	r = vfio_rig_make();
	mappings_destroy(r->pci->host.mappings);
	r->pci->host.mappings = NULL;
	finish(r);
	vfio_place_bar0(r);
	mmio_write(r->pci, BAR0_AT + 0x14, 4, 7);
	cr_expect_eq(r->hw->bar[0][0x14], 7, "all of it by exits");
	vfio_rig_destroy(r);
}

Test(vfio_bars, table_and_pending_bits_in_two_bars)
{
	struct vfio_rig *r = vfio_rig_make();
	uint64_t at = RIG_MEM32 + 0x4000, pending;

	r->hw->vd.region[2].size = 0x2000;
	r->hw->vd.region[2].area[0].size = 0x2000;
	r->hw->config[HW_MSIX + PCI_MSIX_PBA] = 2;
	r->hw->config[HW_MSIX + PCI_MSIX_PBA + 1] = 0x10;
	finish(r);
	cr_expect_eq(vcfg_read(r, HW_MSIX + PCI_MSIX_PBA, 4), 0x1002);
	vcfg_write(r, PCI_BASE_ADDRESS_2, 4, at);
	vfio_place_bar0(r);
	cr_expect_not_null(vfio_mapped_at(r, BAR0_AT + 0x3000));
	cr_expect_not_null(vfio_mapped_at(r, at));
	cr_expect_null(vfio_mapped_at(r, at + 0x1000));
	enable_msix(r, true);
	vfio_unmask(r, 1);
	vcfg_write(r, HW_MSIX + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	signal_fd(r->hw->fd[MSIX][1]);
	pending = mmio_read(r->pci, at + 0x1000, 8);
	cr_expect_eq(pending, 2, "what came while masked waits: %#lx", pending);
	mmio_write(r->pci, at + 0x1010, 4, 9);
	cr_expect_eq(r->hw->bar[2][0x1010], 9);
	vfio_rig_destroy(r);
}

Test(vfio_bars, the_rom_is_a_copy)
{
	struct vfio_rig *r = vfio_rig_make();
	uint64_t at = RIG_MEM32 + 0x4000;

	r->hw->vd.region[VFIO_PCI_ROM_REGION_INDEX].size = sizeof(r->hw->rom);
	r->hw->rom[0] = 0x55;
	r->hw->rom[1] = 0xaa;
	r->hw->rom[4095] = 0x42;
	finish(r);
	vcfg_write(r, PCI_ROM_ADDRESS, 4, ~0u);
	cr_expect_eq(vcfg_read(r, PCI_ROM_ADDRESS, 4), 0xfffff001);
	vcfg_write(r, PCI_ROM_ADDRESS, 4, at);
	vcfg_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_expect_eq(mmio_read(r->pci, at, 2), 0xffff, "not switched on");
	vcfg_write(r, PCI_ROM_ADDRESS, 4, at | PCI_ROM_ADDRESS_ENABLE);
	cr_expect_eq(mmio_read(r->pci, at, 2), 0xaa55);
	mmio_write(r->pci, at, 2, 0);
	cr_expect_eq(mmio_read(r->pci, at, 2), 0xaa55);
	cr_expect_eq(mmio_read(r->pci, at + 4095, 1), 0x42);
	vfio_rig_destroy(r);

	r = vfio_rig_make();
	r->hw->vd.region[VFIO_PCI_ROM_REGION_INDEX].size = sizeof(r->hw->rom);
	finish(r);
	cr_expect_eq(vcfg_read(r, PCI_ROM_ADDRESS, 4), 0, "an empty one is none");
	vfio_rig_destroy(r);
}

/* ---- interrupts ---- */

Test(vfio_interrupts, the_line_by_a_pair_of_eventfds)
{
	struct vfio_rig *r = made();
	unsigned gsi = 16 + (r->vf->f.devfn >> 3) % 8;

	cr_expect_eq(r->hw->enabled[INTX], 1);
	cr_expect_eq(r->pci->line[gsi].trigger, r->hw->fd[INTX][0]);
	cr_expect_eq(r->pci->line[gsi].resample, r->hw->unmask_fd);
	vfio_place_bar0(r);
	enable_msix(r, true);
	cr_expect_eq(r->hw->enabled[INTX], 0, "one way at a time");
	cr_expect_eq(r->pci->line[gsi].trigger, 0);
	cr_expect_eq(r->hw->enabled[MSIX], 1, "in MSI-X mode even with nothing unmasked");
	cr_expect_eq(r->hw->fd[MSIX][0], -1);
	enable_msix(r, false);
	cr_expect_eq(r->hw->enabled[MSIX], 0);
	cr_expect_eq(r->hw->enabled[INTX], 1);
	cr_expect_eq(r->hw->refusals, 0);
	vfio_rig_destroy(r);
}

Test(vfio_interrupts, devices_that_are_unmasked_by_hand)
{
	struct vfio_rig *r = vfio_rig_make();

	r->hw->no_unmask_eventfd = true;
	finish(r);
	vfio_place_bar0(r);
	enable_msix(r, true);
	enable_msix(r, false);
	cr_expect_eq(r->hw->enabled[INTX], 1);
	signal_fd(r->vf->irq.resample);
	r->vf->irq.resample_by_hand.callback(r->vf, EPOLLIN);
	cr_expect_eq(r->hw->unmasks, 1);
	/* The guest's next access does not overtake its end of interrupt, which the main thread has
	 * yet to see. */
	signal_fd(r->vf->irq.resample);
	mmio_write(r->pci, BAR0_AT + 0x2800, 4, 1);
	cr_expect_eq(r->hw->unmasks, 2);
	mmio_read(r->pci, BAR0_AT + 0x2800, 4);
	r->vf->irq.resample_by_hand.callback(r->vf, EPOLLIN);
	cr_expect_eq(r->hw->unmasks, 2, "once for each end of interrupt");
	vfio_rig_destroy(r);
}

Test(vfio_interrupts, vectors_are_asked_for_when_unmasked)
{
	struct vfio_rig *r = made();

	vfio_place_bar0(r);
	enable_msix(r, true);
	vfio_unmask(r, 2);
	cr_expect_eq(r->hw->enabled[MSIX], 3);
	cr_expect_eq(r->hw->fd[MSIX][2], pci_msix_eventfd(&r->vf->f, 2));
	vfio_unmask(r, 0);
	cr_expect_eq(r->hw->fd[MSIX][0], pci_msix_eventfd(&r->vf->f, 0));
	signal_fd(r->hw->fd[MSIX][2]);
	rig_deliver(r->pci);
	cr_expect_eq(r->pci->sent, 1);
	cr_expect_eq(r->pci->msg[0].data, 0x42);
	/* Masked by the guest: it waits in the eventfd, and comes when unmasked. */
	mmio_write(r->pci, BAR0_AT + 0x202c, 4, 1);
	signal_fd(r->hw->fd[MSIX][2]);
	rig_deliver(r->pci);
	cr_expect_eq(r->pci->sent, 1);
	cr_expect_eq(mmio_read(r->pci, BAR0_AT + 0x3000, 8), 4);
	mmio_write(r->pci, BAR0_AT + 0x202c, 4, 0);
	rig_deliver(r->pci);
	cr_expect_eq(r->pci->sent, 2);
	cr_expect_eq(r->hw->refusals, 0);
	vfio_rig_destroy(r);
}

Test(vfio_interrupts, unmasked_before_msix_is_enabled)
{
	struct vfio_rig *r = made();

	vfio_place_bar0(r);
	vfio_unmask(r, 5);
	cr_expect_eq(r->hw->enabled[MSIX], 0);
	enable_msix(r, true);
	cr_expect_eq(r->hw->enabled[MSIX], 6);
	cr_expect_eq(r->hw->fd[MSIX][4], -1);
	cr_expect_geq(r->hw->fd[MSIX][5], 0);
	vfio_rig_destroy(r);
}

Test(vfio_interrupts, kernels_that_cannot_add_a_vector_lose_none)
{
	struct vfio_rig *r = vfio_rig_make();

	r->hw->vd.irq[MSIX].flags = VFIO_IRQ_INFO_NORESIZE;
	finish(r);
	vfio_place_bar0(r);
	enable_msix(r, true);
	vfio_unmask(r, 0);
	vfio_unmask(r, 4);
	cr_expect_eq(r->hw->enabled[MSIX], 5);
	rig_deliver(r->pci);
	cr_expect_eq(r->pci->sent, 1, "vector 0 once, in case it was sent in between");
	cr_expect_eq(r->pci->msg[0].data, 0x40);
	cr_expect_eq(r->hw->refusals, 0);
	vfio_rig_destroy(r);
}

Test(vfio_interrupts, a_host_without_vectors_is_told_and_survived)
{
	struct vfio_rig *r = vfio_rig_make();

	r->hw->host_vectors = 2;
	finish(r);
	vfio_place_bar0(r);
	enable_msix(r, true);
	vfio_unmask(r, 0);
	vfio_unmask(r, 3);
	cr_expect_eq(r->vf->irq.failed.count, 1);
	cr_expect_eq(r->hw->enabled[MSIX], 1, "the first one is still there");
	enable_msix(r, false);
	cr_expect_eq(r->hw->refusals, 0);
	vfio_rig_destroy(r);
}

Test(vfio_interrupts, msi_in_the_hardwares_shape)
{
	struct vfio_rig *r = made();

	vfio_place_bar0(r);
	cr_expect_eq(vcfg_read(r, HW_MSI + PCI_MSI_FLAGS, 2), 2 << 1);
	vcfg_write(r, HW_MSI + PCI_MSI_ADDRESS_LO, 4, 0xfee01000);
	vcfg_write(r, HW_MSI + PCI_MSI_DATA_32, 2, 0x60);
	vcfg_write(r, HW_MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 1 << 4);
	cr_expect_eq(r->hw->enabled[MSI], 2, "as many as the guest allows");
	signal_fd(r->hw->fd[MSI][1]);
	rig_deliver(r->pci);
	cr_expect_eq(r->pci->msg[0].address, 0xfee01000);
	cr_expect_eq(r->pci->msg[0].data, 0x61);
	vcfg_write(r, HW_MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 2 << 4);
	cr_expect_eq(r->hw->enabled[MSI], 4);
	vcfg_write(r, HW_MSI + PCI_MSI_FLAGS, 2, 0);
	cr_expect_eq(r->hw->enabled[MSI], 0);
	cr_expect_eq(r->hw->enabled[INTX], 1);
	cr_expect_eq(r->hw->refusals, 0);
	vfio_rig_destroy(r);
}

Test(vfio_interrupts, both_msi_and_msix_is_msix)
{
	struct vfio_rig *r = made();

	vfio_place_bar0(r);
	vcfg_write(r, HW_MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	enable_msix(r, true);
	cr_expect_eq(r->hw->enabled[MSIX], 1);
	enable_msix(r, false);
	cr_expect_eq(r->hw->enabled[MSI], 1);
	cr_expect_eq(r->hw->refusals, 0);
	vfio_rig_destroy(r);
}

/* ---- life ---- */

Test(vfio_function, reset_stops_dma_first_and_at_the_end)
{
	struct vfio_rig *r = made();
	struct vfio_hw *hw = r->hw;

	cr_expect_eq(hw->resets, 1, "at the start");
	vfio_place_bar0(r);
	enable_msix(r, true);
	vfio_unmask(r, 0);
	cr_expect(hw->config[PCI_COMMAND] & PCI_COMMAND_MASTER);
	r->dev->ops->reset(r->dev);
	cr_expect_not(hw->config[PCI_COMMAND] & PCI_COMMAND_MASTER);
	cr_expect_eq(hw->enabled[MSIX], 0);
	cr_expect_eq(hw->enabled[INTX], 1);
	cr_expect_eq(hw->resets, 2);
	r->dev->ops->destroy(r->dev);
	r->dev = NULL;
	cr_expect_eq(hw->resets, 3, "at the exit");
	cr_expect_eq(hw->enabled[INTX], 0);
	vfio_rig_destroy(r);
}

Test(vfio_function, one_that_cannot_be_reset_is_at_least_quiet)
{
	struct vfio_rig *r = vfio_rig_make();

	r->hw->no_reset = true;
	finish(r);
	vfio_place_bar0(r);
	r->dev->ops->reset(r->dev);
	cr_expect_not(r->hw->config[PCI_COMMAND] & PCI_COMMAND_MASTER);
	cr_expect_eq(r->vf->reset_failed.count, 2);
	vfio_rig_destroy(r);
}

Test(vfio_function, taken_back_while_the_guest_runs)
{
	struct vfio_rig *r = made();

	vfio_place_bar0(r);
	enable_msix(r, true);
	vfio_unmask(r, 0);
	signal_fd(r->hw->fd[VFIO_PCI_REQ_IRQ_INDEX][0]);
	r->vf->request.callback(r->vf, EPOLLIN);
	cr_expect_eq(r->hw->releases, 1);
	cr_expect_eq(r->hw->maps, 0);
	cr_expect_eq(vcfg_read(r, 0, 4), 0xffffffff, "an empty slot");
	cr_expect_null(vfio_mapped_at(r, BAR0_AT));
	cr_expect_eq(mmio_read(r->pci, BAR0_AT, 4), 0xffffffff);
	vfio_place_bar0(r);
	r->dev->ops->reset(r->dev);
	cr_expect_eq(vcfg_read(r, 0, 4), 0xffffffff, "also after a reboot");
	signal_fd(r->vf->request.fd);
	r->vf->request.callback(r->vf, EPOLLIN);
	cr_expect_eq(r->hw->releases, 1);
	vfio_rig_destroy(r);
}

Test(vfio_function, a_fatal_error_is_told_and_lived_through)
{
	struct vfio_rig *r = made();

	signal_fd(r->hw->fd[VFIO_PCI_ERR_IRQ_INDEX][0]);
	r->vf->error.callback(r->vf, EPOLLIN);
	cr_expect_eq(vcfg_read(r, 0, 2), 0x1b36);
	vfio_rig_destroy(r);
}

/* ---- a guest that does anything ---- */

static void check_slots(const struct vfio_rig *r)
{
	for (unsigned i = 0; i < 64; i++) {
		uint64_t at = r->slot[i].gpa, size = r->slot[i].size;

		if (!size)
			continue;
		cr_assert((at >= RIG_MEM32 && at + size <= RIG_MEM32 + RIG_WINDOW) ||
				  (at >= RIG_MEM64 && at + size <= RIG_MEM64 + RIG_WINDOW),
			  "memory of the host at %#lx", at);
		cr_assert_eq((uint8_t *)r->slot[i].host, r->hw->bar[0], "and only what may be");
	}
}

static void any_step(struct vfio_rig *r, uint64_t *state)
{
	static const unsigned hot[] = { PCI_COMMAND,	PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_1,
					HW_MSIX + 2,	HW_MSI + 2,	    HW_PM + 4,
					HW_EXPRESS + 8, PCI_ROM_ADDRESS };
	uint64_t x = rig_random(state), value = rig_random(state);
	unsigned size = 1u << (x & 3), at = (unsigned)(x >> 8) % PCI_CONFIG_SIZE;

	if (x & 0x10)
		at = hot[(x >> 8) % 8];
	/* Addresses mostly where a BAR may be. */
	if ((x & 0x60) == 0x60 && at >= PCI_BASE_ADDRESS_0 && at <= PCI_ROM_ADDRESS)
		value = RIG_MEM32 | (value & 0x3ffff);
	if (at + size > PCI_CONFIG_SIZE)
		at = 0;
	/* FLR is slow here: rarely. */
	if (at <= HW_EXPRESS + 9 && at + size > HW_EXPRESS + 9 && (x & 0xf00000))
		value = 0;
	if (x & 0x80)
		mmio_write(r->pci, BAR0_AT + 0x2000 + (value & 0x7c), 4, value >> 32 & (x >> 40));
	else if (x & 0x8000000)
		vcfg_read(r, at, size);
	else
		vcfg_write(r, at, size, value);
}

Test(vfio_function, a_hostile_guest, .timeout = 120)
{
	struct vfio_rig *r = vfio_rig_make();
	uint64_t state = 2026;

	r->hw->vd.region[VFIO_PCI_ROM_REGION_INDEX].size = sizeof(r->hw->rom);
	r->hw->rom[0] = 0x55;
	r->hw->rom[1] = 0xaa;
	finish(r);
	for (unsigned i = 0; i < 100000; i++) {
		any_step(r, &state);
		if (i % 16 == 0)
			check_slots(r);
		if (i % 1000 == 0)
			vfio_place_bar0(r);
		cr_assert(r->hw->config[PCI_COMMAND] & PCI_COMMAND_MEMORY, "the BARs never fault");
		cr_assert_eq(r->hw->refusals, 0, "step %u: against the kernel's rules", i);
	}
	cr_expect_gt(r->hw->resets, 10);
	cr_expect_eq(vcfg_read(r, 0, 4), 0x00101b36);
	r->dev->ops->reset(r->dev);
	vfio_place_bar0(r);
	enable_msix(r, true);
	vfio_unmask(r, 1);
	signal_fd(r->hw->fd[MSIX][1]);
	r->pci->sent = 0;
	rig_deliver(r->pci);
	cr_expect_eq(r->pci->msg[0].data, 0x41, "after all that, it works");
	vfio_rig_destroy(r);
}
