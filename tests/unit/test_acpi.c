/*
 * The ACPI tables as a kernel would walk them: RSDP, XSDT, every table's signature, length and sum.
 */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "boot/x86_64/acpi.h"
#include "boot/x86_64/acpi_params.h"
#include "boot/x86_64/acpi_tables.h"
#include "tests/unit/test_boot.h"

#define HEADER sizeof(struct acpi_header)

static uint8_t sum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t s = 0;

	while (len--)
		s += *p++;
	return s;
}

static uint64_t build(struct boot_rig *rig)
{
	uint64_t rsdp = 0;

	cr_assert_eq(acpi_build(&rig->memory, &rig->platform, &rsdp, &rig->e), 0, "%s", rig->e.msg);
	return rsdp;
}

/* A table, checked; NULL address is a failure. */
static const struct acpi_header *table(const struct boot_rig *rig, uint64_t gpa)
{
	const struct acpi_header *h = memory_map(&rig->memory, gpa, HEADER, 16);

	cr_assert_not_null(h);
	cr_assert_geq(gpa, ACPI_PARAMS_BASE + ACPI_PARAMS_SIZE);
	cr_assert_geq(h->length, HEADER);
	cr_assert_leq(gpa + h->length, ACPI_AREA_END);
	cr_assert_eq(sum(h, h->length), 0, "checksum of %.4s", h->signature);
	return h;
}

static const struct acpi_header *find(const struct boot_rig *rig, uint64_t rsdp_gpa,
				      const char *signature)
{
	const struct acpi_rsdp *rsdp = memory_map(&rig->memory, rsdp_gpa, sizeof(*rsdp), 16);
	const struct acpi_header *xsdt = table(rig, rsdp->xsdt_address);
	const struct acpi_header *found = NULL;

	for (size_t at = HEADER; at < xsdt->length; at += 8) {
		const struct acpi_header *h;
		uint64_t gpa;

		memcpy(&gpa, (const uint8_t *)xsdt + at, sizeof(gpa));
		h = table(rig, gpa);
		if (!memcmp(h->signature, signature, 4))
			found = h;
	}
	cr_assert_not_null(found, "%s", signature);
	return found;
}

Test(acpi, rsdp_is_where_a_kernel_searches)
{
	const struct acpi_rsdp *rsdp;
	struct boot_rig rig;
	uint64_t gpa;

	boot_rig_init(&rig, 2 * MIB);
	gpa = build(&rig);
	cr_assert_geq(gpa, 0xe0000);
	cr_assert_lt(gpa, 0x100000);
	rsdp = memory_map(&rig.memory, gpa, sizeof(*rsdp), 16);
	cr_assert_arr_eq(rsdp->signature, "RSD PTR ", 8);
	cr_assert_eq(rsdp->revision, 2);
	cr_assert_eq(sum(rsdp, 20), 0);
	cr_assert_eq(sum(rsdp, rsdp->length), 0);
	cr_assert_eq(rsdp->length, 36);
	cr_assert_arr_eq(table(&rig, rsdp->xsdt_address)->signature, "XSDT", 4);
	boot_rig_destroy(&rig);
}

Test(acpi, fadt_is_hardware_reduced)
{
	const struct acpi_header *dsdt;
	const struct acpi_fadt *fadt;
	struct boot_rig rig;

	boot_rig_init(&rig, 2 * MIB);
	fadt = (const struct acpi_fadt *)find(&rig, build(&rig), "FACP");
	cr_assert_eq(fadt->header.length, 276);
	cr_assert_eq(fadt->header.revision, 6);
	cr_assert(fadt->flags & ACPI_FADT_HW_REDUCED_ACPI);
	cr_assert(fadt->flags & ACPI_FADT_RESET_REG_SUP);
	cr_assert_eq(fadt->iapc_boot_arch & 2, 0, "no i8042 to probe");
	cr_assert_eq(fadt->iapc_boot_arch & 0x20, 0, "there is a CMOS RTC");
	cr_assert_eq(fadt->sleep_control_reg.address, 0x600);
	cr_assert_eq(fadt->sleep_status_reg.address, 0x601);
	cr_assert_eq(fadt->reset_reg.address, 0x602);
	cr_assert_eq(fadt->reset_reg.address_space_id, 1);
	cr_assert_eq(fadt->reset_reg.register_bit_width, 8);
	cr_assert_eq(fadt->reset_value, 1);

	dsdt = table(&rig, fadt->x_dsdt);
	cr_assert_arr_eq(dsdt->signature, "DSDT", 4);
	cr_assert_eq(dsdt->revision, 2, "64-bit integers");
	boot_rig_destroy(&rig);
}

/* The AML reads its parameters where C writes them. */
Test(acpi, dsdt_names_the_parameter_block)
{
	uint8_t region[] = { 0x5b, 0x80, 'P', 'A', 'R', 'M', 0x00, 0x0c, 0, 0, 0, 0 };
	uint32_t base = ACPI_PARAMS_BASE;
	const struct acpi_fadt *fadt;
	const struct acpi_header *dsdt;
	struct boot_rig rig;

	memcpy(region + 8, &base, sizeof(base));
	boot_rig_init(&rig, 2 * MIB);
	fadt = (const struct acpi_fadt *)find(&rig, build(&rig), "FACP");
	dsdt = table(&rig, fadt->x_dsdt);
	cr_assert_not_null(memmem(dsdt, dsdt->length, region, sizeof(region)));
	boot_rig_destroy(&rig);
}

Test(acpi, parameter_block_holds_the_platform)
{
	struct boot_rig rig;
	const uint8_t *p;
	uint64_t v64;
	uint32_t v32;

	boot_rig_init(&rig, 2 * MIB);
	rig.platform.mem64_base = 0x123400000000;
	rig.platform.mem64_size = 0x5600000000;
	rig.platform.vmmio_base = 0xf0000000;
	rig.platform.vmmio_mask = 0x8001;
	rig.platform.vmmio_gsi[15] = 12;
	rig.platform.uart_pio[2] = 0;
	build(&rig);
	p = memory_map(&rig.memory, ACPI_PARAMS_BASE, ACPI_PARAMS_SIZE, 8);
	memcpy(&v64, p + ACPI_PARAM_MEM64_BASE, 8);
	cr_assert_eq(v64, 0x123400000000);
	memcpy(&v64, p + ACPI_PARAM_MEM64_SIZE, 8);
	cr_assert_eq(v64, 0x5600000000);
	memcpy(&v32, p + ACPI_PARAM_ECAM_BASE, 4);
	cr_assert_eq(v32, 0xe0000000);
	memcpy(&v64, p + ACPI_PARAM_UART_PIO, 8);
	cr_assert_eq(v64, 0x02e8000002f803f8, "no third port");
	memcpy(&v32, p + ACPI_PARAM_UART_IRQ, 4);
	cr_assert_eq(v32, 0x03040304);
	memcpy(&v32, p + ACPI_PARAM_VMMIO_MASK, 4);
	cr_assert_eq(v32, 0x8001);
	cr_assert_eq(p[ACPI_PARAM_VMMIO_GSI + 15], 12);
	boot_rig_destroy(&rig);
}

Test(acpi, mcfg_names_ecam)
{
	const struct acpi_mcfg *mcfg;
	struct boot_rig rig;

	boot_rig_init(&rig, 2 * MIB);
	mcfg = (const struct acpi_mcfg *)find(&rig, build(&rig), "MCFG");
	cr_assert_eq(mcfg->header.length, 60);
	cr_assert_eq(mcfg->base_address, 0xe0000000);
	cr_assert_eq(mcfg->start_bus, 0);
	cr_assert_eq(mcfg->end_bus, 255);
	boot_rig_destroy(&rig);
}

struct madt_count {
	unsigned xapic, x2apic, io_apic, nmi, x2apic_nmi, other;
};

static struct madt_count count(const struct acpi_header *madt)
{
	struct madt_count c = { 0 };
	const uint8_t *p = (const uint8_t *)madt;
	size_t at = sizeof(struct acpi_madt);

	while (at < madt->length) {
		cr_assert_leq(at + 2, madt->length);
		cr_assert_geq(p[at + 1], 2);
		cr_assert_leq(at + p[at + 1], madt->length);
		switch (p[at]) {
		case ACPI_MADT_LOCAL_APIC:
			cr_assert_eq(p[at + 1], 8);
			cr_assert_eq(p[at + 3], c.xapic, "APIC ids count up");
			cr_assert_eq(p[at + 4], 1, "enabled");
			c.xapic++;
			break;
		case ACPI_MADT_X2APIC:
			cr_assert_eq(p[at + 1], 16);
			cr_assert_eq(p[at + 4] | (unsigned)p[at + 5] << 8, c.xapic + c.x2apic);
			c.x2apic++;
			break;
		case ACPI_MADT_IO_APIC:
			cr_assert_eq(p[at + 1], 12);
			c.io_apic++;
			break;
		case ACPI_MADT_LOCAL_APIC_NMI:
			cr_assert_eq(p[at + 1], 6);
			c.nmi++;
			break;
		case ACPI_MADT_X2APIC_NMI:
			cr_assert_eq(p[at + 1], 12);
			c.x2apic_nmi++;
			break;
		default:
			c.other++;
		}
		at += p[at + 1];
	}
	cr_assert_eq(at, madt->length);
	cr_assert_eq(c.other, 0);
	cr_assert_eq(c.io_apic, 1);
	cr_assert_eq(c.nmi, 1);
	return c;
}

Test(acpi, madt_lists_every_cpu)
{
	static const unsigned cpus[] = { 1, 4, 64, 255, 256, 300, 1000 };
	const struct acpi_madt *madt;
	struct madt_count c;
	struct boot_rig rig;

	boot_rig_init(&rig, 2 * MIB);
	for (size_t i = 0; i < sizeof(cpus) / sizeof(cpus[0]); i++) {
		rig.platform.cpus = cpus[i];
		madt = (const struct acpi_madt *)find(&rig, build(&rig), "APIC");
		cr_assert_eq(madt->local_apic_address, 0xfee00000);
		c = count(&madt->header);
		cr_assert_eq(c.xapic + c.x2apic, cpus[i]);
		cr_assert_eq(c.x2apic, cpus[i] > 255 ? cpus[i] - 255 : 0);
		cr_assert_eq(c.x2apic_nmi, cpus[i] > 255);
	}
	boot_rig_destroy(&rig);
}

Test(acpi, refuses_what_it_cannot_describe)
{
	struct boot_platform good;
	struct boot_rig rig;
	uint64_t rsdp;

	boot_rig_init(&rig, 2 * MIB);
	good = rig.platform;
#define REFUSED(err, field, value)                                                                 \
	do {                                                                                       \
		rig.platform = good;                                                               \
		rig.platform.field = (value);                                                      \
		rig.e.msg[0] = '\0';                                                               \
		cr_expect_eq(acpi_build(&rig.memory, &rig.platform, &rsdp, &rig.e), (err),         \
			     #field " " #value);                                                   \
		cr_expect_not_null(strstr(rig.e.msg, "ACPI: "));                                   \
	} while (0)
	REFUSED(-EINVAL, cpus, 0);
	REFUSED(-ENOSPC, cpus, 100000);
	REFUSED(-ENOSPC, cpus, UINT32_MAX);
	REFUSED(-EINVAL, ecam_buses, 0);
	REFUSED(-EINVAL, ecam_buses, 257);
	REFUSED(-EINVAL, ecam_base, 0xf8000000);
	REFUSED(-EINVAL, ecam_base, UINT64_MAX);
	REFUSED(-EINVAL, mem32_size, 0);
	REFUSED(-EINVAL, mem32_size, 0x100000000);
	REFUSED(-EINVAL, mem32_base, UINT64_MAX);
	REFUSED(-EINVAL, io_size, 0);
	REFUSED(-EINVAL, io_size, 0xa001);
	REFUSED(-EINVAL, io_size, UINT32_MAX);
#undef REFUSED
	rig.platform = good;
	rig.platform.mem64_base = UINT64_MAX;
	rig.platform.mem64_size = 2;
	cr_expect_eq(acpi_build(&rig.memory, &rig.platform, &rsdp, &rig.e), -EINVAL);
	boot_rig_destroy(&rig);
}

Test(acpi, needs_ram_below_1_mib)
{
	struct boot_rig rig;
	uint64_t rsdp;

	boot_rig_init(&rig, MIB - 0x1000);
	cr_assert_eq(acpi_build(&rig.memory, &rig.platform, &rsdp, &rig.e), -ENOMEM);
	boot_rig_destroy(&rig);
}
