/*
 * Writing the ACPI tables: see acpi.h. ACPI 6.5, hardware-reduced (section 4.1): no fixed hardware,
 * only a sleep control, a sleep status and a reset register (4.8.3.6, 4.8.3.7). The DSDT comes from
 * dsdt.asl, unpatched; what it must know of this machine goes into the block of acpi_params.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "boot/x86_64/acpi.h"
#include "boot/x86_64/acpi_params.h"
#include "boot/x86_64/acpi_tables.h"

/* iasl's output defines `unsigned char dsdt_aml_code[]`; here it is ours alone and constant. */
static const
#include "boot/x86_64/dsdt.hex"
	;

#define OEM_ID	     "MVM   "
#define OEM_TABLE_ID "MVM     "
#define CREATOR_ID   "MVM "
#define TABLE_ALIGN  16u
#define TABLES_MAX   4u

#define SLEEP_CONTROL 0u /* offsets from acpi_pio */
#define SLEEP_STATUS  1u

#define XAPIC_IDS 255u /* 255 is the broadcast id; from here on entries are x2APIC's */
#define ALL_CPUS  0xffu
#define NMI_LINT  1u

#define IO_SPACE    0x10000u
#define ADDRESS_END 0x100000000ull

struct acpi_params {
	uint64_t mem64_base, mem64_size;
	uint32_t mem32_base, mem32_size;
	uint32_t io_base, io_size;
	uint32_t ecam_base, ecam_buses;
	uint32_t acpi_pio, panic_pio;
	uint16_t uart_pio[BOOT_UARTS];
	uint8_t uart_irq[BOOT_UARTS];
	uint32_t vmmio_base, vmmio_mask;
	uint8_t vmmio_gsi[BOOT_VMMIO_SLOTS];
};
#define PARAM_IS(field, offset)                                                                    \
	_Static_assert(offsetof(struct acpi_params, field) == (offset), "as the DSDT reads it")
PARAM_IS(mem64_base, ACPI_PARAM_MEM64_BASE);
PARAM_IS(mem64_size, ACPI_PARAM_MEM64_SIZE);
PARAM_IS(mem32_base, ACPI_PARAM_MEM32_BASE);
PARAM_IS(mem32_size, ACPI_PARAM_MEM32_SIZE);
PARAM_IS(io_base, ACPI_PARAM_IO_BASE);
PARAM_IS(io_size, ACPI_PARAM_IO_SIZE);
PARAM_IS(ecam_base, ACPI_PARAM_ECAM_BASE);
PARAM_IS(ecam_buses, ACPI_PARAM_ECAM_BUSES);
PARAM_IS(acpi_pio, ACPI_PARAM_ACPI_PIO);
PARAM_IS(panic_pio, ACPI_PARAM_PANIC_PIO);
PARAM_IS(uart_pio, ACPI_PARAM_UART_PIO);
PARAM_IS(uart_irq, ACPI_PARAM_UART_IRQ);
PARAM_IS(vmmio_base, ACPI_PARAM_VMMIO_BASE);
PARAM_IS(vmmio_mask, ACPI_PARAM_VMMIO_MASK);
PARAM_IS(vmmio_gsi, ACPI_PARAM_VMMIO_GSI);
_Static_assert(sizeof(struct acpi_params) <= ACPI_PARAMS_SIZE, "the parameter block");

/*
 * Tables are appended one after the other. What does not fit is dropped and remembered, so that
 * there is one check at the end.
 */
struct builder {
	uint8_t *area;	/* host address of ACPI_AREA_BASE */
	uint64_t at;	/* offset of the next byte in the area */
	uint64_t start; /* of the table under way */
	bool full;
};

static void append(struct builder *b, const void *data, size_t len)
{
	if (b->full || len > ACPI_AREA_END - ACPI_AREA_BASE - b->at) {
		b->full = true;
		return;
	}
	memcpy(b->area + b->at, data, len);
	b->at += len;
}

static uint8_t checksum(const uint8_t *data, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum += *data++;
	return (uint8_t)-sum;
}

static struct acpi_header header(const char *signature, uint8_t revision)
{
	struct acpi_header h = { .revision = revision, .oem_revision = 1, .creator_revision = 1 };

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_id, OEM_ID, sizeof(h.oem_id));
	memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof(h.oem_table_id));
	memcpy(h.creator_id, CREATOR_ID, sizeof(h.creator_id));
	return h;
}

/* A table's first bytes, header included. */
static void table_begin(struct builder *b, const void *data, size_t len)
{
	b->at = (b->at + TABLE_ALIGN - 1) & ~(uint64_t)(TABLE_ALIGN - 1);
	b->start = b->at;
	append(b, data, len);
}

/* Length and checksum; returns the table's guest address. */
static uint64_t table_end(struct builder *b)
{
	uint8_t *table = b->area + b->start;
	uint32_t len = (uint32_t)(b->at - b->start);

	if (b->full)
		return 0;
	memcpy(table + offsetof(struct acpi_header, length), &len, sizeof(len));
	table[offsetof(struct acpi_header, checksum)] = 0;
	table[offsetof(struct acpi_header, checksum)] = checksum(table, len);
	return ACPI_AREA_BASE + b->start;
}

static struct acpi_address io_register(unsigned port)
{
	return (struct acpi_address){
		.address_space_id = ACPI_SPACE_SYSTEM_IO,
		.register_bit_width = 8,
		.access_size = ACPI_ACCESS_BYTE,
		.address = port,
	};
}

static uint64_t build_fadt(struct builder *b, const struct boot_platform *p, uint64_t dsdt)
{
	struct acpi_fadt fadt = {
		.header = header("FACP", 6),
		.preferred_pm_profile = ACPI_PM_ENTERPRISE_SERVER,
		.iapc_boot_arch = ACPI_BOOT_VGA_NOT_PRESENT | ACPI_BOOT_NO_ASPM,
		.flags = ACPI_FADT_WBINVD | ACPI_FADT_PROC_C1 | ACPI_FADT_PWR_BUTTON |
			 ACPI_FADT_SLP_BUTTON | ACPI_FADT_RESET_REG_SUP | ACPI_FADT_HW_REDUCED_ACPI,
		.reset_reg = io_register(p->acpi_pio + ACPI_RESET_OFFSET),
		.reset_value = ACPI_RESET_VALUE,
		.fadt_minor_version = 5,
		.x_dsdt = dsdt,
		.sleep_control_reg = io_register(p->acpi_pio + SLEEP_CONTROL),
		.sleep_status_reg = io_register(p->acpi_pio + SLEEP_STATUS),
		.hypervisor_vendor_identity = "MVM",
	};

	table_begin(b, &fadt, sizeof(fadt));
	return table_end(b);
}

static void append_cpu(struct builder *b, unsigned id)
{
	struct acpi_madt_local_apic xapic = {
		.type = ACPI_MADT_LOCAL_APIC,
		.length = sizeof(xapic),
		.acpi_processor_uid = (uint8_t)id,
		.apic_id = (uint8_t)id,
		.flags = ACPI_MADT_ENABLED,
	};
	struct acpi_madt_x2apic x2apic = {
		.type = ACPI_MADT_X2APIC,
		.length = sizeof(x2apic),
		.x2apic_id = id,
		.flags = ACPI_MADT_ENABLED,
		.acpi_processor_uid = id,
	};

	if (id < XAPIC_IDS)
		append(b, &xapic, sizeof(xapic));
	else
		append(b, &x2apic, sizeof(x2apic));
}

static uint64_t build_madt(struct builder *b, const struct boot_platform *p)
{
	struct acpi_madt madt = {
		.header = header("APIC", 6),
		.local_apic_address = p->lapic_base,
	};
	struct acpi_madt_io_apic io_apic = {
		.type = ACPI_MADT_IO_APIC,
		.length = sizeof(io_apic),
		.io_apic_address = p->ioapic_base,
	};
	struct acpi_madt_local_apic_nmi nmi = {
		.type = ACPI_MADT_LOCAL_APIC_NMI,
		.length = sizeof(nmi),
		.acpi_processor_uid = ALL_CPUS,
		.local_apic_lint = NMI_LINT,
	};
	struct acpi_madt_x2apic_nmi x2apic_nmi = {
		.type = ACPI_MADT_X2APIC_NMI,
		.length = sizeof(x2apic_nmi),
		.acpi_processor_uid = UINT32_MAX,
		.local_x2apic_lint = NMI_LINT,
	};

	table_begin(b, &madt, sizeof(madt));
	for (unsigned id = 0; id < p->cpus && !b->full; id++)
		append_cpu(b, id);
	append(b, &io_apic, sizeof(io_apic));
	append(b, &nmi, sizeof(nmi));
	if (p->cpus > XAPIC_IDS)
		append(b, &x2apic_nmi, sizeof(x2apic_nmi));
	return table_end(b);
}

static uint64_t build_mcfg(struct builder *b, const struct boot_platform *p)
{
	struct acpi_mcfg mcfg = {
		.header = header("MCFG", 1),
		.base_address = p->ecam_base,
		.end_bus = (uint8_t)(p->ecam_buses - 1),
	};

	table_begin(b, &mcfg, sizeof(mcfg));
	return table_end(b);
}

static uint64_t build_dsdt(struct builder *b)
{
	table_begin(b, dsdt_aml_code, sizeof(dsdt_aml_code));
	return table_end(b);
}

static uint64_t build_xsdt(struct builder *b, const uint64_t *tables, unsigned n)
{
	struct acpi_header h = header("XSDT", 1);

	table_begin(b, &h, sizeof(h));
	append(b, tables, n * sizeof(tables[0]));
	return table_end(b);
}

static void build_rsdp(struct builder *b, uint64_t xsdt)
{
	struct acpi_rsdp rsdp = {
		.revision = 2,
		.length = sizeof(rsdp),
		.xsdt_address = xsdt,
	};

	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.checksum = checksum((uint8_t *)&rsdp, offsetof(struct acpi_rsdp, length));
	rsdp.extended_checksum = checksum((uint8_t *)&rsdp, sizeof(rsdp));
	memcpy(b->area, &rsdp, sizeof(rsdp));
}

static void build_params(struct builder *b, const struct boot_platform *p)
{
	struct acpi_params params = {
		.mem64_base = p->mem64_base,
		.mem64_size = p->mem64_size,
		.mem32_base = (uint32_t)p->mem32_base,
		.mem32_size = (uint32_t)p->mem32_size,
		.io_base = p->io_base,
		.io_size = p->io_size,
		.ecam_base = (uint32_t)p->ecam_base,
		.ecam_buses = p->ecam_buses,
		.acpi_pio = p->acpi_pio,
		.panic_pio = p->panic_pio,
		.vmmio_base = p->vmmio_base,
		.vmmio_mask = p->vmmio_mask,
	};

	memcpy(params.vmmio_gsi, p->vmmio_gsi, sizeof(params.vmmio_gsi));
	memcpy(params.uart_pio, p->uart_pio, sizeof(params.uart_pio));
	memcpy(params.uart_irq, p->uart_irq, sizeof(params.uart_irq));
	memcpy(b->area + ACPI_PARAMS_BASE - ACPI_AREA_BASE, &params, sizeof(params));
}

/* What the tables' field widths, and the DSDT's, can say. */
static int check_platform(const struct boot_platform *p, struct error *e)
{
	uint64_t ecam_size = (uint64_t)p->ecam_buses << 20;

	if (p->cpus == 0)
		return error_set(e, -EINVAL, "ACPI: a machine without CPUs");
	if (p->ecam_buses == 0 || p->ecam_buses > 256 || p->ecam_base > ADDRESS_END - ecam_size)
		return error_set(e, -EINVAL, "ACPI: bad ECAM, %u buses at 0x%" PRIx64,
				 p->ecam_buses, p->ecam_base);
	if (p->mem32_size == 0 || p->mem32_size >= ADDRESS_END ||
	    p->mem32_base > ADDRESS_END - p->mem32_size)
		return error_set(e, -EINVAL,
				 "ACPI: bad 32-bit PCI window 0x%" PRIx64 " + 0x%" PRIx64,
				 p->mem32_base, p->mem32_size);
	if (p->mem64_base + p->mem64_size < p->mem64_base)
		return error_set(e, -EINVAL,
				 "ACPI: bad 64-bit PCI window 0x%" PRIx64 " + 0x%" PRIx64,
				 p->mem64_base, p->mem64_size);
	if (p->io_size == 0 || p->io_size >= IO_SPACE || p->io_base + p->io_size > IO_SPACE)
		return error_set(e, -EINVAL, "ACPI: bad PCI I/O window 0x%x + 0x%x", p->io_base,
				 p->io_size);
	return 0;
}

int acpi_build(const struct guest_memory *memory, const struct boot_platform *platform,
	       uint64_t *rsdp, struct error *e)
{
	struct builder b = { .at = ACPI_PARAMS_BASE + ACPI_PARAMS_SIZE - ACPI_AREA_BASE };
	uint64_t tables[TABLES_MAX];
	unsigned n = 0;
	uint64_t dsdt, xsdt;
	int err;

	err = check_platform(platform, e);
	if (err)
		return err;
	b.area = memory_map(memory, ACPI_AREA_BASE, ACPI_AREA_END - ACPI_AREA_BASE, TABLE_ALIGN);
	if (!b.area)
		return error_set(e, -ENOMEM, "ACPI: there is no guest RAM below 1 MiB");

	dsdt = build_dsdt(&b);
	tables[n++] = build_fadt(&b, platform, dsdt);
	tables[n++] = build_madt(&b, platform);
	tables[n++] = build_mcfg(&b, platform);
	xsdt = build_xsdt(&b, tables, n);
	if (b.full)
		return error_set(e, -ENOSPC, "ACPI: the tables of %u CPUs do not fit below 1 MiB",
				 platform->cpus);
	build_params(&b, platform);
	build_rsdp(&b, xsdt);
	*rsdp = ACPI_AREA_BASE;
	return 0;
}
