/*
 * The virtio-mmio transport, version 2 (Virtio 1.2 section 4.2): see virtio.h. Devices are found as
 * the DSDT has them: LNRO0005, sixteen slots. What their methods compute, with no interpreter here,
 * is computed from the same block of parameters, whose address the DSDT's region PARM tells.
 */
#include "acpi.h"
#include "boot/x86_64/acpi_params.h"
#include "guest.h"
#include "virtio.h"

#define MAGIC	0x74726976 /* "virt" */
#define VERSION 2
#define SLOTS	16

#define AML_EXT		 0x5b
#define AML_REGION	 0x80
#define AML_DWORD	 0x0c
#define AML_SYSTEM_SPACE 0

static void notify(const struct virtio *v, unsigned queue)
{
	write32(v->notify, queue);
}

static uint8_t interrupts(const struct virtio *v)
{
	uint32_t status = read32(v->isr);

	write32(v->common + MMIO_INTERRUPT_ACK, status);
	return (uint8_t)status;
}

static const struct virtio_transport mmio_transport = {
	.name = "MMIO",
	.reg = {
		[DEVICE_FEATURE_SELECT] = { 0x14, 4 },
		[DEVICE_FEATURE] = { MMIO_DEVICE_FEATURE, 4 },
		[DRIVER_FEATURE_SELECT] = { 0x24, 4 },
		[DRIVER_FEATURE] = { 0x20, 4 },
		[STATUS] = { 0x70, 4 },
		[GENERATION] = { 0xfc, 4 },
		[QUEUE_SELECT] = { 0x30, 4 },
		[QUEUE_MAX] = { MMIO_QUEUE_MAX, 4 },
		[QUEUE_SIZE] = { 0x38, 4 },
		[QUEUE_ENABLE] = { 0x44, 4 },
		[QUEUE_DESC] = { 0x80, 4 },
		[QUEUE_DRIVER] = { 0x90, 4 },
		[QUEUE_DEVICE] = { 0xa0, 4 },
		[QUEUE_RESET] = { 0xc0, 4 },
	},
	.notify = notify,
	.interrupts = interrupts,
};

bool virtio_is_mmio(const struct virtio *v)
{
	return v->transport == &mmio_transport;
}

/* OperationRegion (PARM, SystemMemory, a DWord, …), section 20.2.5.2 of ACPI; 0: not there. */
static uint64_t parameters(void)
{
	const uint8_t *name;

	if (!acpi.dsdt || !acpi_aml_find("LNRO0005"))
		return 0;
	name = acpi_aml_find("PARM");
	if (!name || name[-2] != AML_EXT || name[-1] != AML_REGION || name[4] != AML_SYSTEM_SPACE ||
	    name[5] != AML_DWORD)
		return 0;
	return read32((uint64_t)name + 6);
}

bool virtio_mmio_find(struct virtio *v, unsigned type, unsigned n)
{
	uint64_t block = parameters();
	uint32_t mask = block ? read32(block + ACPI_PARAM_VMMIO_MASK) : 0;

	for (unsigned slot = 0; slot < SLOTS; slot++) {
		uint64_t base = read32(block + ACPI_PARAM_VMMIO_BASE) + (uint64_t)slot * MMIO_SIZE;

		if (!(mask >> slot & 1) || read32(base + MMIO_MAGIC) != MAGIC ||
		    read32(base + MMIO_VERSION) != VERSION ||
		    read32(base + MMIO_DEVICE_ID) != type || n--)
			continue;
		*v = (struct virtio){
			.transport = &mmio_transport,
			.gsi = read8(block + ACPI_PARAM_VMMIO_GSI + slot),
			.common = base,
			.common_size = MMIO_CONFIG,
			.notify = base + MMIO_QUEUE_NOTIFY,
			.notify_size = 4,
			.isr = base + MMIO_INTERRUPT_STATUS,
			.isr_size = 4,
			.config = base + MMIO_CONFIG,
			.config_size = MMIO_SIZE - MMIO_CONFIG,
		};
		return true;
	}
	return false;
}
