/* See test_vfio_rig.h. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/registry.h"
#include "tests/unit/test_vfio_rig.h"

static struct vfio_hw *hw_of(struct vfio_device *d)
{
	return (struct vfio_hw *)d; /* first member */
}

static void put16(struct vfio_hw *hw, unsigned at, uint16_t value)
{
	memcpy(hw->config + at, &value, 2);
}

static void put32(struct vfio_hw *hw, unsigned at, uint32_t value)
{
	memcpy(hw->config + at, &value, 4);
}

/* ---- the kernel's side ---- */

static uint8_t *region(struct vfio_hw *hw, unsigned index, uint64_t offset, unsigned len)
{
	static const uint64_t rom = sizeof(hw->rom);

	if (index == VFIO_PCI_CONFIG_REGION_INDEX && offset + len <= hw->vd.region[index].size)
		return hw->config + offset;
	if (index == VFIO_PCI_ROM_REGION_INDEX && offset + len <= rom)
		return hw->rom + offset;
	if (index < PCI_BARS && offset + len <= hw->vd.region[index].size &&
	    offset + len <= HW_BAR_SIZE)
		return hw->bar[index] + offset;
	return NULL;
}

static int hw_read(struct vfio_device *d, unsigned index, uint64_t offset, void *buf, unsigned len)
{
	const uint8_t *from = region(hw_of(d), index, offset, len);

	if (!from || hw_of(d)->releases)
		return -EIO;
	hw_of(d)->reads += index < PCI_BARS;
	memcpy(buf, from, len);
	return 0;
}

/* Bits that the hardware clears when 1 is written. */
static uint8_t clears(unsigned at)
{
	if (at == PCI_STATUS + 1)
		return 0xf9;
	if (at == HW_EXPRESS + PCI_EXP_DEVSTA)
		return 0x0f;
	return 0;
}

static int hw_write(struct vfio_device *d, unsigned index, uint64_t offset, const void *buf,
		    unsigned len)
{
	uint8_t *to = region(hw_of(d), index, offset, len);
	const uint8_t *from = buf;

	if (!to || hw_of(d)->releases)
		return -EIO;
	hw_of(d)->writes += index < PCI_BARS;
	for (unsigned i = 0; i < len; i++) {
		uint8_t clear =
			index == VFIO_PCI_CONFIG_REGION_INDEX ? clears((unsigned)offset + i) : 0;

		to[i] = (uint8_t)((from[i] & ~clear) | (to[i] & clear & ~from[i]));
	}
	return 0;
}

/* One way of interrupting at a time. */
static bool other_enabled(const struct vfio_hw *hw, unsigned index)
{
	for (unsigned i = 0; i <= VFIO_PCI_MSIX_IRQ_INDEX; i++)
		if (i != index && hw->enabled[i])
			return true;
	return false;
}

static int trigger(struct vfio_hw *hw, unsigned index, unsigned start, unsigned count,
		   const int32_t *fd)
{
	bool fixed = hw->vd.irq[index].flags & VFIO_IRQ_INFO_NORESIZE;

	if (!fd && count == 0) {
		hw->refusals += hw->enabled[index] == 0;
		hw->enabled[index] = 0;
		return 0;
	}
	if (index <= VFIO_PCI_MSIX_IRQ_INDEX &&
	    (!fd || other_enabled(hw, index) || start + count > hw->vd.irq[index].count ||
	     (!hw->enabled[index] && start) ||
	     (hw->enabled[index] && fixed && start + count > hw->enabled[index]))) {
		hw->refusals++;
		return -EINVAL;
	}
	if (start + count > hw->host_vectors)
		return -ENOSPC;
	for (unsigned i = 0; i < count; i++)
		hw->fd[index][start + i] = fd[i];
	if (start + count > hw->enabled[index])
		hw->enabled[index] = start + count;
	return 0;
}

static int hw_set_irqs(struct vfio_device *d, unsigned index, unsigned action, unsigned start,
		       unsigned count, const int32_t *fd)
{
	struct vfio_hw *hw = hw_of(d);

	if (hw->releases)
		return -ENOTTY;
	if (action == VFIO_IRQ_SET_ACTION_TRIGGER)
		return trigger(hw, index, start, count, fd);
	if (index != VFIO_PCI_INTX_IRQ_INDEX || action != VFIO_IRQ_SET_ACTION_UNMASK)
		return -EINVAL;
	if (!fd) {
		hw->unmasks++;
		return 0;
	}
	if (hw->no_unmask_eventfd)
		return -ENOTTY;
	hw->unmask_fd = *fd;
	return 0;
}

static int hw_reset(struct vfio_device *d)
{
	hw_of(d)->resets++;
	return hw_of(d)->no_reset ? -ENOTTY : 0;
}

static void *hw_map(struct vfio_device *d, unsigned index, uint64_t offset, uint64_t size)
{
	(void)size;
	hw_of(d)->maps++;
	return hw_of(d)->bar[index] + offset;
}

static void hw_unmap(struct vfio_device *d, void *at, uint64_t size)
{
	(void)at;
	(void)size;
	hw_of(d)->maps--;
}

static void hw_release(struct vfio_device *d)
{
	hw_of(d)->releases++;
}

static void hw_close(struct vfio_device *d)
{
	hw_of(d)->closes++;
}

static const struct vfio_ops hw_ops = {
	.read = hw_read,
	.write = hw_write,
	.set_irqs = hw_set_irqs,
	.reset = hw_reset,
	.map = hw_map,
	.unmap = hw_unmap,
	.release = hw_release,
	.close = hw_close,
};

/* ---- the hardware ---- */

static void make_header(struct vfio_hw *hw)
{
	put16(hw, PCI_VENDOR_ID, 0x1b36);
	put16(hw, PCI_DEVICE_ID, 0x0010);
	put16(hw, PCI_STATUS, PCI_STATUS_CAP_LIST);
	put32(hw, PCI_CLASS_REVISION, 0x01080202);
	put32(hw, PCI_BASE_ADDRESS_0, 0xfe200004);
	put32(hw, PCI_BASE_ADDRESS_2, 0xfe204000);
	put32(hw, PCI_BASE_ADDRESS_3, 0x0000c001);
	put16(hw, PCI_SUBSYSTEM_VENDOR_ID, 0x1af4);
	put16(hw, PCI_SUBSYSTEM_ID, 0x1100);
	hw->config[PCI_CAPABILITY_LIST] = HW_MSIX;
	hw->config[PCI_INTERRUPT_PIN] = 1;
}

static void cap(struct vfio_hw *hw, unsigned at, uint8_t id, unsigned next)
{
	hw->config[at] = id;
	hw->config[at + 1] = (uint8_t)next;
}

static void make_capabilities(struct vfio_hw *hw)
{
	cap(hw, HW_MSIX, PCI_CAP_ID_MSIX, HW_MSI);
	put16(hw, HW_MSIX + PCI_MSIX_FLAGS, HW_VECTORS - 1);
	put32(hw, HW_MSIX + PCI_MSIX_TABLE, 0x2000);
	put32(hw, HW_MSIX + PCI_MSIX_PBA, 0x3000);
	cap(hw, HW_MSI, PCI_CAP_ID_MSI, HW_PM);
	put16(hw, HW_MSI + PCI_MSI_FLAGS, 2 << 1); /* four vectors, 32 bits, no masks */
	cap(hw, HW_PM, PCI_CAP_ID_PM, HW_EXPRESS);
	put16(hw, HW_PM + PCI_PM_PMC, 0xfe03);
	cap(hw, HW_EXPRESS, PCI_CAP_ID_EXP, HW_VENDOR);
	put16(hw, HW_EXPRESS + PCI_EXP_FLAGS, 0x0002);
	put32(hw, HW_EXPRESS + PCI_EXP_DEVCAP, 0x10008fe1);
	put32(hw, HW_EXPRESS + PCI_EXP_LNKCAP, 0x00437c11);
	put32(hw, HW_EXPRESS + PCI_EXP_DEVCAP2, 0x0007081f);
	cap(hw, HW_VENDOR, PCI_CAP_ID_VNDR, 0xd8);
	hw->config[HW_VENDOR + 2] = 0x14;
	cap(hw, 0xd8, PCI_CAP_ID_EA, 0); /* none of ours: hidden */
	put32(hw, HW_SRIOV, 0x10 | 1 << 16 | HW_AER << 20);
	put32(hw, HW_AER, 0x01 | 2 << 16 | HW_ARI << 20);
	put32(hw, HW_ARI, 0x0e | 1 << 16 | HW_SERIAL << 20);
	put32(hw, HW_SERIAL, 0x03 | 1 << 16);
	put32(hw, HW_SERIAL + 4, 0x12345678);
}

struct vfio_hw *vfio_hw_make(void)
{
	struct vfio_hw *hw = aligned_alloc(4096, (sizeof(*hw) + 4095) & ~(size_t)4095);
	uint32_t rw = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;

	cr_assert_not_null(hw);
	memset(hw, 0, sizeof(*hw));
	hw->vd.ops = &hw_ops;
	snprintf(hw->vd.name, sizeof(hw->vd.name), "0000:01:00.0");
	hw->vd.vendor = 0x1b36;
	hw->vd.device = 0x0010;
	hw->vd.region[VFIO_PCI_CONFIG_REGION_INDEX].size = PCI_CONFIG_SIZE;
	hw->vd.region[0] = (struct vfio_region){ .size = HW_BAR_SIZE,
						 .flags = rw | VFIO_REGION_INFO_FLAG_MMAP,
						 .areas = 1,
						 .area = { { 0, HW_BAR_SIZE } } };
	hw->vd.region[2] = (struct vfio_region){ .size = 0x100,
						 .flags = rw | VFIO_REGION_INFO_FLAG_MMAP,
						 .areas = 1,
						 .area = { { 0, 0x100 } } };
	hw->vd.region[3] = (struct vfio_region){ .size = 8, .flags = rw };
	hw->vd.irq[VFIO_PCI_INTX_IRQ_INDEX].count = 1;
	hw->vd.irq[VFIO_PCI_MSI_IRQ_INDEX] = (struct vfio_irq){ 4, VFIO_IRQ_INFO_NORESIZE };
	hw->vd.irq[VFIO_PCI_MSIX_IRQ_INDEX].count = HW_VECTORS;
	hw->vd.irq[VFIO_PCI_ERR_IRQ_INDEX].count = 1;
	hw->vd.irq[VFIO_PCI_REQ_IRQ_INDEX].count = 1;
	hw->host_vectors = 64;
	make_header(hw);
	make_capabilities(hw);
	return hw;
}

/* ---- the machine ---- */

static int set_slot(void *opaque, unsigned slot, uint64_t gpa, uint64_t size, void *host)
{
	struct vfio_rig *r = opaque;

	for (unsigned i = 0; size && i < 64; i++)
		if (r->slot[i].size && gpa < r->slot[i].gpa + r->slot[i].size &&
		    r->slot[i].gpa < gpa + size)
			return -EEXIST;
	r->slot[slot].gpa = gpa;
	r->slot[slot].size = size;
	r->slot[slot].host = host;
	return 0;
}

static const struct mapping_ops slot_ops = { .set = set_slot };

struct vfio_rig *vfio_rig_make(void)
{
	struct vfio_rig *r = calloc(1, sizeof(*r));
	struct error e;

	cr_assert_not_null(r);
	r->pci = rig_create();
	r->pci->host.loop = event_loop_create("main", &e);
	r->pci->host.accounts = accounts_create();
	r->pci->host.mappings = mappings_create(&slot_ops, r, 4, 60);
	r->hw = vfio_hw_make();
	return r;
}

int vfio_rig_create(struct vfio_rig *r, const struct device_row *row, struct error *e)
{
	const struct device_config config = { .row = row };
	int err = vfio_function_create(&r->pci->host, &config, &r->hw->vd, true, &r->dev, e);

	r->vf = (struct vfio_function *)r->dev;
	if (!err)
		r->dev->ops->reset(r->dev);
	return err;
}

void vfio_rig_destroy(struct vfio_rig *r)
{
	if (r->dev)
		r->dev->ops->destroy(r->dev);
	cr_expect_eq(r->hw->closes, 1, "the device is closed once");
	cr_expect_eq(r->hw->maps, 0, "nothing stays mapped");
	for (unsigned i = 0; i < 64; i++)
		cr_expect_eq(r->slot[i].size, 0, "no memory slot stays");
	mappings_destroy(r->pci->host.mappings);
	accounts_destroy(r->pci->host.accounts);
	event_loop_destroy(r->pci->host.loop);
	rig_destroy(r->pci);
	free(r->hw);
	free(r);
}

/* ---- the guest ---- */

static uint64_t config_at(const struct vfio_rig *r)
{
	return RIG_ECAM + ((uint64_t)r->vf->f.devfn << 12);
}

uint64_t vcfg_read(struct vfio_rig *r, unsigned offset, unsigned size)
{
	return mmio_read(r->pci, config_at(r) + offset, size);
}

void vcfg_write(struct vfio_rig *r, unsigned offset, unsigned size, uint64_t value)
{
	mmio_write(r->pci, config_at(r) + offset, size, value);
}

void vfio_place_bar0(struct vfio_rig *r)
{
	vcfg_write(r, PCI_BASE_ADDRESS_0, 8, BAR0_AT);
	vcfg_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void vfio_unmask(struct vfio_rig *r, unsigned vector)
{
	uint64_t entry = BAR0_AT + 0x2000 + 16ull * vector;

	mmio_write(r->pci, entry, 8, 0xfee00000);
	mmio_write(r->pci, entry + 8, 4, 0x40 + vector);
	mmio_write(r->pci, entry + 12, 4, 0);
}

void *vfio_mapped_at(struct vfio_rig *r, uint64_t gpa)
{
	for (unsigned i = 0; i < 64; i++)
		if (gpa - r->slot[i].gpa < r->slot[i].size)
			return (char *)r->slot[i].host + (gpa - r->slot[i].gpa);
	return NULL;
}
