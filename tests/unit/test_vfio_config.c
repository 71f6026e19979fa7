/*
 * Configuration space of a passed-through function: what of the hardware's the guest sees and what
 * of its writes arrives there.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "devices/registry.h"
#include "tests/unit/test_vfio_rig.h"

static struct vfio_rig *made(void)
{
	struct vfio_rig *r = vfio_rig_make();
	struct error e = { .msg = "" };

	cr_assert_eq(vfio_rig_create(r, &row_vfio_dev, &e), 0, "%s", e.msg);
	return r;
}

static uint16_t hw16(struct vfio_rig *r, unsigned at)
{
	return (uint16_t)(r->hw->config[at] | r->hw->config[at + 1] << 8);
}

Test(vfio_config, identity_and_bars)
{
	struct vfio_rig *r = made();

	cr_expect_eq(vcfg_read(r, PCI_VENDOR_ID, 4), 0x00101b36);
	cr_expect_eq(vcfg_read(r, PCI_CLASS_REVISION, 4), 0x01080202);
	cr_expect_eq(vcfg_read(r, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
	cr_expect_eq(vcfg_read(r, PCI_INTERRUPT_PIN, 1), 1);
	cr_expect_eq(vcfg_read(r, PCI_BASE_ADDRESS_0, 4), 4, "no address of the host shows");
	vcfg_write(r, PCI_BASE_ADDRESS_0, 8, ~0ull);
	cr_expect_eq(vcfg_read(r, PCI_BASE_ADDRESS_0, 8), 0xffffffffffffc004);
	vcfg_write(r, PCI_BASE_ADDRESS_2, 4, ~0u);
	cr_expect_eq(vcfg_read(r, PCI_BASE_ADDRESS_2, 4), 0xffffff00);
	vcfg_write(r, PCI_BASE_ADDRESS_3, 4, ~0u);
	cr_expect_eq(vcfg_read(r, PCI_BASE_ADDRESS_3, 4), 0xfffffff9);
	cr_expect_eq(r->hw->config[PCI_BASE_ADDRESS_0 + 3], 0xfe, "the hardware keeps its own");
	vfio_rig_destroy(r);
}

Test(vfio_config, a_vf_is_what_its_pf_says_and_has_no_line)
{
	struct vfio_rig *r = vfio_rig_make();
	struct error e;

	r->hw->vd.vf = true;
	r->hw->vd.vendor = 0x8086;
	r->hw->vd.device = 0x10ca;
	memset(r->hw->config, 0xff, 4);
	cr_assert_eq(vfio_rig_create(r, &row_vfio_blk, &e), 0);
	cr_expect_eq(vcfg_read(r, PCI_VENDOR_ID, 4), 0x10ca8086);
	cr_expect_eq(vcfg_read(r, PCI_INTERRUPT_PIN, 1), 0);
	cr_expect_eq(r->hw->enabled[VFIO_PCI_INTX_IRQ_INDEX], 0);
	/* Its hardware has no Memory Space Enable; the guest's own works all the same. */
	vfio_place_bar0(r);
	cr_expect_eq(vcfg_read(r, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cr_expect_not_null(vfio_mapped_at(r, BAR0_AT));
	vfio_rig_destroy(r);
}

static void put_hw32(struct vfio_rig *r, unsigned at, uint32_t value)
{
	memcpy(r->hw->config + at, &value, 4);
}

/* Hardware with this PBA, of these ids; what the guest is told of it, or the refusal. */
static uint32_t pba_shown(uint16_t vendor, uint16_t device, uint32_t pba, struct error *e)
{
	struct vfio_rig *r = vfio_rig_make();
	uint32_t shown = 0;
	int err;

	r->hw->vd.vf = true;
	r->hw->vd.vendor = vendor;
	r->hw->vd.device = device;
	memset(r->hw->config, 0xff, 4);
	r->hw->vd.region[0].size = r->hw->vd.region[0].area[0].size = 0x10000;
	put_hw32(r, HW_MSIX + PCI_MSIX_TABLE, 0);
	put_hw32(r, HW_MSIX + PCI_MSIX_PBA, pba);
	err = vfio_rig_create(r, &row_vfio_dev, e);
	if (!err) {
		shown = (uint32_t)vcfg_read(r, HW_MSIX + PCI_MSIX_PBA, 4);
		cr_expect_eq(r->vf->config.msix_layout.pba_offset, shown,
			     "and so is what is mapped");
	} else {
		cr_expect_eq(err, -EINVAL);
	}
	vfio_rig_destroy(r);
	return shown;
}

Test(vfio_config, a_pba_that_is_known_to_be_wrong_is_put_right)
{
	struct error e;

	cr_expect_eq(pba_shown(0x1425, 0x5801, 0x18000, &e), 0x1000, "Chelsio T5");
	cr_expect_eq(pba_shown(0x1d22, 0x3685, 0x460000, &e), 0xb400, "Baidu Kunlun");
	cr_expect_eq(pba_shown(0x1425, 0x5801, 0x8000, &e), 0x8000, "one that can be right stays");
	cr_expect_eq(pba_shown(0x1425, 0x5401, 0x18000, &e), 0, "a PF");
	cr_expect(strstr(e.msg, "PBA at 0x18000 does not fit into BAR 0"), "%s", e.msg);
	cr_expect_eq(pba_shown(0x1425, 0x5801, 0x18007, &e), 0, "there is no BAR 7");
}

Test(vfio_config, the_list_of_capabilities)
{
	static const uint8_t want[][2] = { { HW_MSIX, PCI_CAP_ID_MSIX },
					   { HW_MSI, PCI_CAP_ID_MSI },
					   { HW_PM, PCI_CAP_ID_PM },
					   { HW_EXPRESS, PCI_CAP_ID_EXP },
					   { HW_VENDOR, PCI_CAP_ID_VNDR } };
	struct vfio_rig *r = made();
	unsigned at = (unsigned)vcfg_read(r, PCI_CAPABILITY_LIST, 1);

	for (unsigned i = 0; i < 5; i++) {
		cr_expect_eq(at, want[i][0], "at its own place");
		cr_expect_eq(vcfg_read(r, at, 1), want[i][1]);
		at = (unsigned)vcfg_read(r, at + 1, 1);
	}
	cr_expect_eq(at, 0, "what no table names is hidden");
	vfio_rig_destroy(r);
}

Test(vfio_config, the_extended_list_hides_what_is_the_hosts)
{
	struct vfio_rig *r = made();

	cr_expect_eq(vcfg_read(r, 0x100, 4), 1u << 16 | HW_AER << 20, "SR-IOV: an empty header");
	cr_expect_eq(vcfg_read(r, 0x108, 4), 0);
	cr_expect_eq(vcfg_read(r, HW_AER, 4), 0x01 | 2 << 16 | HW_SERIAL << 20, "ARI is skipped");
	cr_expect_eq(vcfg_read(r, HW_SERIAL, 4), 0x03 | 1 << 16);
	cr_expect_eq(vcfg_read(r, HW_SERIAL + 4, 4), 0x12345678);
	vcfg_write(r, HW_SRIOV + 0x10, 2, 4);
	cr_expect_eq(hw16(r, HW_SRIOV + 0x10), 0, "no VFs by a guest");
	vfio_rig_destroy(r);
}

Test(vfio_config, lists_that_run_in_circles_end)
{
	struct vfio_rig *r = vfio_rig_make();
	struct error e;

	r->hw->config[HW_VENDOR + 1] = HW_MSIX;
	r->hw->config[HW_SERIAL + 3] = 0x10; /* back to 0x100 */
	r->hw->config[HW_SERIAL + 2] = 0x01;
	cr_assert_eq(vfio_rig_create(r, &row_vfio_dev, &e), 0, "%s", e.msg);
	cr_expect_eq(vcfg_read(r, HW_VENDOR + 1, 1), 0);
	cr_expect_eq(vcfg_read(r, HW_SERIAL, 4) >> 20, 0);
	vfio_rig_destroy(r);

	r = vfio_rig_make();
	r->hw->config[HW_PM + 1] = 0xfc; /* a capability that cannot be whole */
	r->hw->config[0xfc] = PCI_CAP_ID_EXP;
	memset(r->hw->config + 0x100, 0xff, 4);
	cr_assert_eq(vfio_rig_create(r, &row_vfio_dev, &e), 0, "%s", e.msg);
	cr_expect_eq(vcfg_read(r, 0x100, 4), 0);
	vfio_rig_destroy(r);
}

Test(vfio_config, random_hardware_does_no_harm)
{
	uint64_t state = 6;

	for (unsigned n = 0; n < 300; n++) {
		struct vfio_rig *r = vfio_rig_make();
		struct error e;

		for (unsigned i = 0x34; i < PCI_CONFIG_SIZE; i++)
			if (i >= 0x40 || i == 0x34)
				r->hw->config[i] = (uint8_t)rig_random(&state);
		if (vfio_rig_create(r, &row_vfio_dev, &e) == 0)
			for (unsigned i = 0; i < PCI_CONFIG_SIZE; i += 4)
				vcfg_read(r, i, 4);
		vfio_rig_destroy(r);
	}
}

Test(vfio_config, express_without_link_and_power_without_effect)
{
	struct vfio_rig *r = made();

	cr_expect_eq(vcfg_read(r, HW_EXPRESS + PCI_EXP_FLAGS, 2), PCI_EXP_TYPE_RC_END << 4 | 2);
	cr_expect_eq(vcfg_read(r, HW_EXPRESS + PCI_EXP_DEVCAP, 4), 0x10008021);
	cr_expect_eq(vcfg_read(r, HW_EXPRESS + PCI_EXP_LNKCAP, 4), 0);
	cr_expect_eq(vcfg_read(r, HW_EXPRESS + PCI_EXP_DEVCAP2, 4), 0x1f);
	cr_expect_eq(vcfg_read(r, HW_PM + PCI_PM_PMC, 2), 3, "no PME");
	vcfg_write(r, HW_PM + PCI_PM_CTRL, 2, 0x8103);
	cr_expect_eq(vcfg_read(r, HW_PM + PCI_PM_CTRL, 2), PCI_PM_CTRL_NO_SOFT_RESET | 3);
	cr_expect_eq(hw16(r, HW_PM + PCI_PM_CTRL), 0, "the hardware stays awake");
	vfio_rig_destroy(r);
}

Test(vfio_config, of_the_command_register_only_dma_and_the_line_arrive)
{
	struct vfio_rig *r = made();
	uint16_t decode = PCI_COMMAND_MEMORY | PCI_COMMAND_IO;

	cr_expect_eq(hw16(r, PCI_COMMAND), decode, "the hardware decodes, the guest does not");
	cr_expect_eq(vcfg_read(r, PCI_COMMAND, 2), 0);
	vcfg_write(r, PCI_COMMAND, 2, 0xffff);
	cr_expect_eq(hw16(r, PCI_COMMAND), decode | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	vcfg_write(r, PCI_COMMAND, 2, 0);
	cr_expect_eq(hw16(r, PCI_COMMAND), decode);
	vcfg_write(r, PCI_COMMAND + 1, 1, PCI_COMMAND_INTX_DISABLE >> 8);
	cr_expect_eq(hw16(r, PCI_COMMAND), decode | PCI_COMMAND_INTX_DISABLE, "by bytes");
	vfio_rig_destroy(r);
}

Test(vfio_config, status_bits_are_live_and_cleared_on_purpose_only)
{
	struct vfio_rig *r = made();

	r->hw->config[PCI_STATUS + 1] = 0x20;
	r->hw->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
	r->hw->config[HW_EXPRESS + PCI_EXP_DEVSTA] = 0x29;
	cr_expect_eq(vcfg_read(r, PCI_STATUS, 2),
		     0x2000 | PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT);
	cr_expect_eq(vcfg_read(r, HW_EXPRESS + PCI_EXP_DEVSTA, 2), 0x29);
	vcfg_write(r, PCI_COMMAND, 4, PCI_COMMAND_MASTER);
	vcfg_write(r, HW_EXPRESS + PCI_EXP_DEVCTL, 4, 0x2010);
	cr_expect_eq(r->hw->config[PCI_STATUS + 1], 0x20);
	cr_expect_eq(r->hw->config[HW_EXPRESS + PCI_EXP_DEVSTA], 0x29);
	cr_expect_eq(hw16(r, HW_EXPRESS + PCI_EXP_DEVCTL), 0x2010);
	vcfg_write(r, HW_EXPRESS + PCI_EXP_DEVSTA, 2, 0x01);
	cr_expect_eq(r->hw->config[HW_EXPRESS + PCI_EXP_DEVSTA], 0x28);
	vcfg_write(r, PCI_STATUS, 2, 0x2000);
	cr_expect_eq(r->hw->config[PCI_STATUS + 1], 0);
	vfio_rig_destroy(r);
}

Test(vfio_config, vendor_registers_go_through_at_any_width)
{
	struct vfio_rig *r = made();

	vcfg_write(r, HW_VENDOR + 4, 4, 0x11223344);
	vcfg_write(r, HW_VENDOR + 5, 1, 0xaa);
	vcfg_write(r, HW_VENDOR + 7, 2, 0xbbcc);
	cr_expect_eq(hw16(r, HW_VENDOR + 4), 0xaa44);
	cr_expect_eq(r->hw->config[HW_VENDOR + 8], 0xbb);
	r->hw->config[HW_VENDOR + 9] = 0x77;
	cr_expect_eq(vcfg_read(r, HW_VENDOR + 7, 4), 0x0077bbcc);
	vcfg_write(r, HW_VENDOR, 2, 0);
	cr_expect_eq(vcfg_read(r, HW_VENDOR, 1), PCI_CAP_ID_VNDR, "its header stays");
	vfio_rig_destroy(r);
}

Test(vfio_config, the_guests_own_reset)
{
	struct vfio_rig *r = made();
	unsigned resets = r->hw->resets;

	vfio_place_bar0(r);
	vcfg_write(r, HW_MSIX + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	vfio_unmask(r, 3);
	cr_expect_eq(r->hw->enabled[VFIO_PCI_MSIX_IRQ_INDEX], 4);
	vcfg_write(r, HW_EXPRESS + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	cr_expect_eq(r->hw->resets, resets + 1);
	cr_expect_eq(vcfg_read(r, PCI_COMMAND, 2), 0);
	cr_expect_eq(vcfg_read(r, PCI_BASE_ADDRESS_0, 4), 4);
	cr_expect_eq(vcfg_read(r, HW_MSIX + PCI_MSIX_FLAGS, 2), HW_VECTORS - 1);
	cr_expect_eq(r->hw->enabled[VFIO_PCI_MSIX_IRQ_INDEX], 0);
	cr_expect_null(vfio_mapped_at(r, BAR0_AT));
	vfio_place_bar0(r);
	vcfg_write(r, HW_MSIX + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	vfio_unmask(r, 0);
	cr_expect_eq(r->hw->enabled[VFIO_PCI_MSIX_IRQ_INDEX], 1, "and it works again");
	cr_expect_eq(r->hw->refusals, 0);
	vfio_rig_destroy(r);
}

Test(vfio_config, classes_must_fit)
{
	static const struct {
		const struct device_row *row;
		const char *words; /* NULL: fits */
	} cases[] = {
		{ &row_vfio_blk, NULL },
		{ &row_vfio_dev, NULL },
		{ &row_vfio_net, "is no network controller" },
		{ &row_vfio_console, "is no serial controller" },
	};

	for (unsigned i = 0; i < 4; i++) {
		struct vfio_rig *r = vfio_rig_make();
		struct error e = { .msg = "" };
		int err = vfio_rig_create(r, cases[i].row, &e);

		cr_expect_eq(err, cases[i].words ? -EINVAL : 0);
		if (cases[i].words) {
			cr_expect(strstr(e.msg, cases[i].words), "%s", e.msg);
			cr_expect(strstr(e.msg, "--blk=vfio:0000:01:00.0"), "%s", e.msg);
		}
		vfio_rig_destroy(r);
	}
}

Test(vfio_config, bridges_are_refused)
{
	struct vfio_rig *r = vfio_rig_make();
	struct error e;

	r->hw->config[PCI_HEADER_TYPE] = 0x81;
	cr_expect_eq(vfio_rig_create(r, &row_vfio_dev, &e), -EINVAL);
	cr_expect(strstr(e.msg, "bridge"), "%s", e.msg);
	vfio_rig_destroy(r);
}

Test(vfio_config, an_mdev_with_less_than_256_bytes)
{
	struct vfio_rig *r = vfio_rig_make();
	struct error e = { .msg = "" };

	r->hw->vd.mdev = true;
	r->hw->vd.region[VFIO_PCI_CONFIG_REGION_INDEX].size = 0xff; /* the kernel's mtty */
	cr_assert_eq(vfio_rig_create(r, &row_vfio_dev, &e), 0, "%s", e.msg);
	cr_expect_eq(vcfg_read(r, HW_VENDOR, 1), PCI_CAP_ID_VNDR);
	cr_expect_eq(vcfg_read(r, 0xfc, 4), 0);
	cr_expect_eq(vcfg_read(r, 0x100, 4), 0);
	vcfg_write(r, 0xfe, 4, ~0u);
	vfio_rig_destroy(r);
}
