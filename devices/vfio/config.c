/*
 * Configuration space of a passed-through function: see config.h; the tables are in
 * config_tables.c. In: what the hardware has, when opened and later; the guest's accesses. Out: the
 * guest's configuration space in devices/pci, with capabilities at the places where the hardware
 * has them, since drivers may know these. PCI Express Base 5.0 sections 7.5 and 7.6.
 */
#include <errno.h>
#include <string.h>

#include "devices/vfio/config_tables.h"
#include "devices/vfio/function.h"

#include <linux/pci_regs.h>

#define MAX_CAPABILITIES     48	 /* of 4 bytes each, in 192 bytes */
#define MAX_EXT_CAPABILITIES 960 /* likewise, in 3840 */
#define CONFIG		     VFIO_PCI_CONFIG_REGION_INDEX

static uint16_t hw16(const struct vfio_config *c, unsigned at)
{
	return (uint16_t)(c->hw[at] | c->hw[at + 1] << 8);
}

static uint32_t hw32(const struct vfio_config *c, unsigned at)
{
	return hw16(c, at) | (uint32_t)hw16(c, at + 2) << 16;
}

static int hw_read(struct vfio_function *vf, unsigned at, unsigned size, uint32_t *value)
{
	uint8_t byte[4] = { 0 };
	int err = vf->vd->ops->read(vf->vd, CONFIG, at, byte, size);

	*value = byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 |
		 (uint32_t)byte[3] << 24;
	return err;
}

static int hw_write(struct vfio_function *vf, unsigned at, unsigned size, uint32_t value)
{
	uint8_t byte[4] = { (uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
			    (uint8_t)(value >> 24) };

	return vf->vd->ops->write(vf->vd, CONFIG, at, byte, size);
}

/* ---- making it ------------------------------------------------------------------------------- */

int vfio_config_read(struct vfio_function *vf, struct pci_identity *id, struct error *e)
{
	struct vfio_config *c = &vf->config;
	uint64_t size = vf->vd->region[CONFIG].size;

	/* Some mdev have a little less than a conventional function. */
	if (size >= PCI_CONFIG_SIZE)
		c->size = PCI_CONFIG_SIZE;
	else
		c->size = size < PCI_CFG_SPACE_SIZE ? (unsigned)size & ~3u : PCI_CFG_SPACE_SIZE;
	for (unsigned i = 0; i < c->size; i += 4) {
		uint32_t word;
		int err = hw_read(vf, i, 4, &word);

		if (err)
			return error_set_errno(e, err, "%s: its configuration space cannot be read",
					       vf->vd->name);
		memcpy(c->hw + i, &word, 4);
	}
	if ((c->hw[PCI_HEADER_TYPE] & 0x7f) != PCI_HEADER_TYPE_NORMAL)
		return error_set(e, -EINVAL,
				 "%s is a bridge, which cannot be given to a guest; give it the "
				 "functions behind it",
				 vf->vd->name);
	*id = (struct pci_identity){
		.vendor = hw16(c, PCI_VENDOR_ID),
		.device = hw16(c, PCI_DEVICE_ID),
		.subsystem_vendor = hw16(c, PCI_SUBSYSTEM_VENDOR_ID),
		.subsystem = hw16(c, PCI_SUBSYSTEM_ID),
		.revision = c->hw[PCI_REVISION_ID],
		.class_code = hw32(c, PCI_CLASS_REVISION) >> 8,
	};
	/* A VF's own registers read all ones: it is what its PF says. */
	if (id->vendor == 0xffff && vf->vd->vendor) {
		id->vendor = vf->vd->vendor;
		id->device = vf->vd->device;
	}
	id->intx = c->hw[PCI_INTERRUPT_PIN] && !vf->vd->vf &&
		   vf->vd->irq[VFIO_PCI_INTX_IRQ_INDEX].count &&
		   irq_line_can_bind(vf->dev.host->irq);
	return 0;
}

static void apply_field(struct vfio_function *vf, unsigned base, const struct vfio_field *field)
{
	struct vfio_config *c = &vf->config;

	for (unsigned i = 0; i < field->width; i++) {
		unsigned at = base + field->offset + i, shift = 8 * i;
		uint8_t fixed = (uint8_t)(field->fixed >> shift);
		uint8_t value = (uint8_t)((c->hw[at] & ~fixed) |
					  ((uint8_t)(field->value >> shift) & fixed));

		c->live[at] = (uint8_t)(field->live >> shift);
		c->pass[at] = (uint8_t)(field->pass >> shift);
		c->once[at] = (uint8_t)(field->once >> shift);
		vf->f.writable[at] |= (uint8_t)(field->kept >> shift);
		/* What devices/pci put there (the bit that there are capabilities) stays. */
		pci_config_set8(&vf->f, at, value | pci_config_get8(&vf->f, at));
	}
}

/* All of [at, at + len) but a header of `skip` bytes. */
static void apply_raw(struct vfio_function *vf, unsigned at, unsigned len, unsigned skip,
		      bool read_only)
{
	struct vfio_config *c = &vf->config;

	for (unsigned i = at + skip; i < at + len; i++) {
		pci_config_set8(&vf->f, i, c->hw[i]);
		c->live[i] = 0xff;
		c->pass[i] = read_only ? 0 : 0xff;
	}
}

static void apply(struct vfio_function *vf, unsigned at, unsigned len, unsigned header,
		  const struct vfio_capability *cap)
{
	if (cap->raw)
		apply_raw(vf, at, len, header, cap->read_only);
	for (unsigned i = 0; i < cap->nfields; i++)
		if (cap->fields[i].offset + cap->fields[i].width <= len)
			apply_field(vf, at, &cap->fields[i]);
}

static unsigned length_of(const struct vfio_config *c, unsigned at,
			  const struct vfio_capability *cap)
{
	switch (cap->length_kind) {
	case VFIO_LENGTH_BYTE:
		return c->hw[at + 2];
	case VFIO_LENGTH_EXPRESS:
		/* Version 1 ends where the device has no link; version 2 has all registers. */
		return (hw16(c, at + PCI_EXP_FLAGS) & PCI_EXP_FLAGS_VERS) < 2
			       ? PCI_CAP_EXP_ENDPOINT_SIZEOF_V1
			       : PCI_CAP_EXP_ENDPOINT_SIZEOF_V2 + 8;
	case VFIO_LENGTH_VENDOR_EXT:
		return hw32(c, at + 4) >> 20;
	case VFIO_LENGTH_FIXED:
		break;
	}
	return cap->length;
}

static int add_msi(struct vfio_function *vf, unsigned at, struct error *e)
{
	uint16_t flags = hw16(&vf->config, at + PCI_MSI_FLAGS);
	unsigned log2 = (flags & PCI_MSI_FLAGS_QMASK) >> 1;

	if (!vf->vd->irq[VFIO_PCI_MSI_IRQ_INDEX].count || log2 > 5 || vf->config.msi)
		return 0;
	vf->config.msi = at;
	return pci_add_msi_at(&vf->f, at, 1u << log2,
			      flags & (PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT), e);
}

/* VFs whose hardware states a PBA that is not in its BAR, and where it is. */
static const struct {
	uint16_t vendor, device, mask;
	uint32_t offset;
} pba_places[] = {
	{ 0x1425, 0x5800, 0xff00, 0x1000 }, /* Chelsio T5 */
	{ 0x1d22, 0x3685, 0xffff, 0xb400 }, /* Baidu Kunlun */
};

static void correct_pba(const struct pci_function *f, struct pci_msix_layout *l)
{
	uint16_t vendor = pci_config_get16(f, PCI_VENDOR_ID);
	uint16_t device = pci_config_get16(f, PCI_DEVICE_ID);

	if (l->pba_bar >= PCI_BARS || l->pba_offset < f->bar[l->pba_bar].size)
		return;
	for (unsigned i = 0; i < sizeof(pba_places) / sizeof(pba_places[0]); i++)
		if (vendor == pba_places[i].vendor &&
		    (device & pba_places[i].mask) == pba_places[i].device)
			l->pba_offset = pba_places[i].offset;
}

static int add_msix(struct vfio_function *vf, unsigned at, struct error *e)
{
	struct vfio_config *c = &vf->config;
	uint32_t table = hw32(c, at + PCI_MSIX_TABLE), pba = hw32(c, at + PCI_MSIX_PBA);

	if (!vf->vd->irq[VFIO_PCI_MSIX_IRQ_INDEX].count || c->msix)
		return 0;
	c->msix = at;
	c->msix_layout = (struct pci_msix_layout){
		.at = at,
		.vectors = (hw16(c, at + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1u,
		.table_bar = table & PCI_MSIX_TABLE_BIR,
		.table_offset = table & PCI_MSIX_TABLE_OFFSET,
		.pba_bar = pba & PCI_MSIX_PBA_BIR,
		.pba_offset = pba & PCI_MSIX_PBA_OFFSET,
	};
	correct_pba(&vf->f, &c->msix_layout);
	return pci_add_msix_at(&vf->f, &c->msix_layout, e);
}

static int add_capability(struct vfio_function *vf, unsigned at, struct error *e)
{
	struct vfio_config *c = &vf->config;
	uint8_t id = c->hw[at];
	const struct vfio_capability *cap = vfio_capability_find(id);
	unsigned len;

	if (id == PCI_CAP_ID_MSI)
		return add_msi(vf, at, e);
	if (id == PCI_CAP_ID_MSIX)
		return add_msix(vf, at, e);
	if (!cap)
		return 0;
	len = length_of(c, at, cap);
	if (len > PCI_CFG_SPACE_SIZE - at)
		len = PCI_CFG_SPACE_SIZE - at;
	/* One that cannot be right is left out: the guest is better off without it. */
	if (len < PCI_CAP_SIZEOF || pci_add_capability_at(&vf->f, at, id, len) < 0)
		return 0;
	apply(vf, at, len, PCI_CAP_SIZEOF, cap);
	if (id == PCI_CAP_ID_EXP && (hw32(c, at + PCI_EXP_DEVCAP) & PCI_EXP_DEVCAP_FLR))
		c->express_flr = at + PCI_EXP_DEVCTL + 1;
	if (id == PCI_CAP_ID_AF && (c->hw[at + PCI_AF_CAP] & PCI_AF_CAP_FLR))
		c->af_flr = at + PCI_AF_CTRL;
	return 0;
}

static int add_capabilities(struct vfio_function *vf, struct error *e)
{
	const struct vfio_config *c = &vf->config;
	unsigned at = c->hw[PCI_CAPABILITY_LIST] & ~3u;

	if (!(hw16(c, PCI_STATUS) & PCI_STATUS_CAP_LIST))
		return 0;
	/* A list that runs in a circle ends by the count; no place is taken twice. */
	for (unsigned n = 0; n < MAX_CAPABILITIES && at >= PCI_STD_HEADER_SIZEOF; n++) {
		int err = at <= PCI_CFG_SPACE_SIZE - 4 ? add_capability(vf, at, e) : 0;

		if (err)
			return err;
		at = c->hw[at + PCI_CAP_LIST_NEXT] & ~3u;
	}
	return 0;
}

/* A header at 0x100 must be there if any other is to be found: an empty one, if need be. */
static void add_ext_capabilities(struct vfio_function *vf)
{
	struct vfio_config *c = &vf->config;
	unsigned at = PCI_CFG_SPACE_SIZE, last = 0;

	for (unsigned n = 0;
	     n < MAX_EXT_CAPABILITIES && at >= PCI_CFG_SPACE_SIZE && at <= c->size - 8; n++) {
		uint32_t header = hw32(c, at);
		const struct vfio_capability *cap = NULL;
		unsigned len;

		if (header == 0 || header == ~0u)
			break;
		cap = vfio_ext_capability_find(PCI_EXT_CAP_ID(header));
		len = cap ? length_of(c, at, cap) : 0;
		if (len > c->size - at)
			len = c->size - at;
		/* One that begins inside another, or again, has its bytes taken already. */
		if (len >= 8 && pci_config_get32(&vf->f, at) == 0 && c->live[at] == 0) {
			pci_config_set32(&vf->f, at, header & 0x000fffff);
			if (last)
				pci_config_set32(&vf->f, last,
						 pci_config_get32(&vf->f, last) | at << 20);
			else if (at != PCI_CFG_SPACE_SIZE)
				pci_config_set32(&vf->f, PCI_CFG_SPACE_SIZE, at << 20 | 1u << 16);
			last = at;
			apply(vf, at, len, 4, cap);
		}
		at = PCI_EXT_CAP_NEXT(header) & ~3u;
	}
}

int vfio_config_build(struct vfio_function *vf, struct error *e)
{
	int err;

	for (unsigned i = 0; i < vfio_header_nfields; i++)
		apply_field(vf, 0, &vfio_header_fields[i]);
	err = add_capabilities(vf, e);
	if (!err && vf->config.size > PCI_CFG_SPACE_SIZE)
		add_ext_capabilities(vf);
	vf->vd->flr = vf->config.express_flr || vf->config.af_flr;
	return err;
}

int vfio_config_quiet(struct vfio_function *vf)
{
	return hw_write(vf, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
}

/* ---- the guest's accesses -------------------------------------------------------------------- */

/* The masks of size bytes as a number. */
static uint32_t masks(const uint8_t *mask, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)mask[offset + i] << (8 * i);
	return value;
}

void vfio_config_reading(struct pci_function *f, unsigned offset, unsigned size)
{
	struct vfio_function *vf = vfio_function_of(f);
	uint32_t live = masks(vf->config.live, offset, size), value;

	if (!live || hw_read(vf, offset, size, &value))
		return;
	for (unsigned i = 0; i < size; i++) {
		uint8_t mask = (uint8_t)(live >> (8 * i)), old = pci_config_get8(f, offset + i);
		uint8_t now = (uint8_t)((old & ~mask) | ((uint8_t)(value >> (8 * i)) & mask));

		if (now != old)
			pci_config_set8(f, offset + i, now);
	}
}

static bool asks_reset(const struct vfio_config *c, unsigned offset, unsigned size, uint32_t value)
{
	unsigned flr = c->express_flr, af = c->af_flr;

	if (flr && offset <= flr && flr < offset + size &&
	    (value >> (8 * (flr - offset)) & (PCI_EXP_DEVCTL_BCR_FLR >> 8)))
		return true;
	return af && offset <= af && af < offset + size &&
	       (value >> (8 * (af - offset)) & PCI_AF_CTRL_FLR);
}

void vfio_config_writing(struct pci_function *f, unsigned offset, unsigned size, uint32_t value)
{
	struct vfio_function *vf = vfio_function_of(f);
	const struct vfio_config *c = &vf->config;
	uint32_t pass = masks(c->pass, offset, size), once = masks(c->once, offset, size);
	uint32_t all = size == 4 ? ~0u : (1u << (8 * size)) - 1, hw = 0;

	if (asks_reset(c, offset, size, value)) {
		vfio_function_guest_reset(vf);
		return;
	}
	if (!pass || (pass != all && hw_read(vf, offset, size, &hw)))
		return;
	hw_write(vf, offset, size, (hw & ~pass & ~once) | (value & pass));
}

void vfio_config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct vfio_function *vf = vfio_function_of(f);
	const struct vfio_config *c = &vf->config;

	if ((c->msix && offset < c->msix + 4 && c->msix < offset + size) ||
	    (c->msi && offset < c->msi + 4 && c->msi < offset + size))
		vfio_interrupts_update(vf);
}
