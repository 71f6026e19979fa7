/*
 * The tables of config_tables.h. PCI Express Base 5.0 chapter 7, PCI Bus Power Management 1.2.
 *
 * The function shows as a root-complex integrated endpoint, for there is no port above it in the
 * guest: so it has no link and no slot, and their registers read zero. What belongs to the host
 * stays with it: power (the kernel would stop the BARs in D3), error reporting, latency and
 * ordering on the way to memory beyond what a driver may tune. Not in the tables, so hidden:
 * SR-IOV, ARI, ATS, PRI, PASID, Resizable BAR, ACS, LTR, L1 substates, DPC, enhanced allocation,
 * hot plug.
 */
#include <stdbool.h>
#include <stddef.h>

#include <linux/pci_regs.h>

#include "devices/vfio/config_tables.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define STATUS_ERRORS                                                                              \
	(PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT | PCI_STATUS_REC_TARGET_ABORT |           \
	 PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY)

/* Decoding stays on in the hardware; whether the guest sees the BARs is decided on its buses. */
#define COMMAND_PASSED (PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)

const struct vfio_field vfio_header_fields[] = {
	{ .name = "Command",
	  .offset = PCI_COMMAND,
	  .width = 2,
	  .pass = COMMAND_PASSED,
	  .fixed = 0xffff },
	{ .name = "Status",
	  .offset = PCI_STATUS,
	  .width = 2,
	  .live = STATUS_ERRORS | PCI_STATUS_INTERRUPT,
	  .pass = STATUS_ERRORS,
	  .once = STATUS_ERRORS,
	  .fixed = PCI_STATUS_CAP_LIST },
	{ .name = "Min_Gnt, Max_Lat", .offset = PCI_MIN_GNT, .width = 2 },
};
const unsigned vfio_header_nfields = COUNT(vfio_header_fields);

/* ---- capabilities ---------------------------------------------------------------------------- */

/* D0 and D3hot that change nothing in the hardware; no PME. */
static const struct vfio_field power_fields[] = {
	{ .name = "PMC",
	  .offset = PCI_PM_PMC,
	  .width = 2,
	  .fixed = PCI_PM_CAP_PME_MASK | PCI_PM_CAP_D1 | PCI_PM_CAP_D2 | PCI_PM_CAP_AUX_POWER |
		   PCI_PM_CAP_PME_CLOCK },
	{ .name = "PMCSR",
	  .offset = PCI_PM_CTRL,
	  .width = 2,
	  .kept = PCI_PM_CTRL_STATE_MASK,
	  .fixed = 0xffff,
	  .value = PCI_PM_CTRL_NO_SOFT_RESET },
};

#define DEVCAP_KEPT                                                                                \
	(PCI_EXP_DEVCAP_PAYLOAD | PCI_EXP_DEVCAP_EXT_TAG | PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR)
#define DEVCTL_PASSED (PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ)
#define DEVCTL_KEPT                                                                                \
	(PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE | PCI_EXP_DEVCTL_URRE)
#define DEVSTA_ERRORS                                                                              \
	(PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD)

static const struct vfio_field express_fields[] = {
	{ .name = "Capabilities",
	  .offset = PCI_EXP_FLAGS,
	  .width = 2,
	  .fixed = 0xffff & ~PCI_EXP_FLAGS_VERS,
	  .value = PCI_EXP_TYPE_RC_END << 4 },
	{ .name = "Device Capabilities",
	  .offset = PCI_EXP_DEVCAP,
	  .width = 4,
	  .fixed = ~(uint32_t)DEVCAP_KEPT },
	{ .name = "Device Control",
	  .offset = PCI_EXP_DEVCTL,
	  .width = 2,
	  .live = DEVCTL_PASSED,
	  .pass = DEVCTL_PASSED,
	  .kept = DEVCTL_KEPT,
	  .fixed = DEVCTL_KEPT },
	{ .name = "Device Status",
	  .offset = PCI_EXP_DEVSTA,
	  .width = 2,
	  .live = DEVSTA_ERRORS | PCI_EXP_DEVSTA_TRPND,
	  .pass = DEVSTA_ERRORS,
	  .once = DEVSTA_ERRORS },
	{ .name = "Device Capabilities 2",
	  .offset = PCI_EXP_DEVCAP2,
	  .width = 4,
	  .fixed = ~0x1fu }, /* completion timeouts remain */
	{ .name = "Device Control 2",
	  .offset = PCI_EXP_DEVCTL2,
	  .width = 2,
	  .kept = 0x1f,
	  .fixed = 0xffff & ~0x1f },
};

/* Advanced error reporting: what happened may be read and cleared; masks are only remembered. */
static const struct vfio_field aer_fields[] = {
	{ .name = "Uncorrectable Error Status",
	  .offset = PCI_ERR_UNCOR_STATUS,
	  .width = 4,
	  .live = ~0u,
	  .pass = ~0u,
	  .once = ~0u },
	{ .name = "Uncorrectable Error Mask",
	  .offset = PCI_ERR_UNCOR_MASK,
	  .width = 4,
	  .kept = ~0u },
	{ .name = "Uncorrectable Error Severity",
	  .offset = PCI_ERR_UNCOR_SEVER,
	  .width = 4,
	  .kept = ~0u },
	{ .name = "Correctable Error Status",
	  .offset = PCI_ERR_COR_STATUS,
	  .width = 4,
	  .live = ~0u,
	  .pass = ~0u,
	  .once = ~0u },
	{ .name = "Correctable Error Mask", .offset = PCI_ERR_COR_MASK, .width = 4, .kept = ~0u },
	{ .name = "Capabilities and Control",
	  .offset = PCI_ERR_CAP,
	  .width = 4,
	  .kept = PCI_ERR_CAP_ECRC_GENE | PCI_ERR_CAP_ECRC_CHKE },
	{ .name = "Header Log 0", .offset = PCI_ERR_HEADER_LOG, .width = 4, .live = ~0u },
	{ .name = "Header Log 1", .offset = PCI_ERR_HEADER_LOG + 4, .width = 4, .live = ~0u },
	{ .name = "Header Log 2", .offset = PCI_ERR_HEADER_LOG + 8, .width = 4, .live = ~0u },
	{ .name = "Header Log 3", .offset = PCI_ERR_HEADER_LOG + 12, .width = 4, .live = ~0u },
};

#define FIXED(n)  .length_kind = VFIO_LENGTH_FIXED, .length = (n)
#define FIELDS(a) .fields = (a), .nfields = COUNT(a)

static const struct vfio_capability capabilities[] = {
	{ PCI_CAP_ID_PM, "power management", FIXED(PCI_PM_SIZEOF), FIELDS(power_fields) },
	{ PCI_CAP_ID_VPD, "vital product data", FIXED(PCI_CAP_VPD_SIZEOF), .raw = true },
	{ PCI_CAP_ID_PCIX, "PCI-X", FIXED(PCI_CAP_PCIX_SIZEOF_V0), .raw = true, .read_only = true },
	{ PCI_CAP_ID_VNDR, "vendor", VFIO_LENGTH_BYTE, .raw = true },
	{ PCI_CAP_ID_SSVID, "bridge subsystem", FIXED(8), .raw = true, .read_only = true },
	{ PCI_CAP_ID_EXP, "PCI Express", VFIO_LENGTH_EXPRESS, FIELDS(express_fields) },
	{ PCI_CAP_ID_SATA, "SATA", FIXED(PCI_SATA_SIZEOF_LONG), .raw = true },
	{ PCI_CAP_ID_AF, "advanced features", FIXED(PCI_CAP_AF_SIZEOF), .raw = true },
};

static const struct vfio_capability ext_capabilities[] = {
	{ PCI_EXT_CAP_ID_ERR, "advanced error reporting", FIXED(0x48), FIELDS(aer_fields) },
	{ PCI_EXT_CAP_ID_DSN, "serial number", FIXED(PCI_EXT_CAP_DSN_SIZEOF), .raw = true,
	  .read_only = true },
	{ PCI_EXT_CAP_ID_VNDR, "vendor", VFIO_LENGTH_VENDOR_EXT, .raw = true },
	{ PCI_EXT_CAP_ID_DVSEC, "designated vendor", VFIO_LENGTH_VENDOR_EXT, .raw = true,
	  .read_only = true },
};

const struct vfio_capability *vfio_capability_find(uint8_t id)
{
	for (unsigned i = 0; i < COUNT(capabilities); i++)
		if (capabilities[i].id == id)
			return &capabilities[i];
	return NULL;
}

const struct vfio_capability *vfio_ext_capability_find(uint16_t id)
{
	for (unsigned i = 0; i < COUNT(ext_capabilities); i++)
		if (ext_capabilities[i].id == id)
			return &ext_capabilities[i];
	return NULL;
}
