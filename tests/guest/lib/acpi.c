/*
 * Walking the firmware's tables: see acpi.h. Nothing is checked here; the acpi guest does that.
 */
#include "acpi.h"
#include "guest.h"

#define MADT_LAPIC   0
#define MADT_IOAPIC  1
#define MADT_X2APIC  9
#define MADT_ENABLED 1u

#define AML_PACKAGE 0x12
#define AML_BYTE    0x0a

struct acpi acpi;

bool acpi_checksum_ok(const void *table, size_t length)
{
	const uint8_t *p = table;
	uint8_t sum = 0;

	for (size_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + p[i]);
	return sum == 0;
}

const struct acpi_header *acpi_table(const char *signature, unsigned n)
{
	const uint64_t *entry;
	unsigned count;

	if (!acpi.xsdt)
		return NULL;
	entry = (const uint64_t *)(acpi.xsdt + 1);
	count = (acpi.xsdt->length - sizeof(*acpi.xsdt)) / sizeof(*entry);
	for (unsigned i = 0; i < count; i++) {
		const struct acpi_header *t = (const struct acpi_header *)entry[i];

		if (!memcmp(t->signature, signature, 4) && n-- == 0)
			return t;
	}
	return NULL;
}

static void add_cpu(uint32_t apic_id, uint32_t flags)
{
	if ((flags & MADT_ENABLED) && acpi.ncpus < ARRAY_SIZE(acpi.apic_id))
		acpi.apic_id[acpi.ncpus++] = apic_id;
}

static void read_madt(void)
{
	const uint8_t *p = acpi.madt->entries;
	const uint8_t *end = (const uint8_t *)acpi.madt + acpi.madt->header.length;

	for (; p + 2 <= end && p[1] >= 2; p += p[1]) {
		uint64_t at = (uint64_t)p;

		switch (p[0]) {
		case MADT_LAPIC:
			add_cpu(p[3], read32(at + 4));
			break;
		case MADT_X2APIC:
			add_cpu(read32(at + 4), read32(at + 8));
			break;
		case MADT_IOAPIC:
			acpi.ioapic = read32(at + 4);
			acpi.ioapic_gsi = read32(at + 8);
			break;
		default:
			break;
		}
	}
}

void acpi_init(void)
{
	memset(&acpi, 0, sizeof(acpi));
	acpi.rsdp = (const struct acpi_rsdp *)boot.rsdp;
	if (!acpi.rsdp || memcmp(acpi.rsdp->signature, "RSD PTR ", 8) != 0)
		bail("no RSDP at 0x%lx", boot.rsdp);
	acpi.xsdt = (const struct acpi_header *)acpi.rsdp->xsdt;
	acpi.fadt = (const struct acpi_fadt *)acpi_table("FACP", 0);
	acpi.madt = (const struct acpi_madt *)acpi_table("APIC", 0);
	acpi.mcfg = (const struct acpi_mcfg *)acpi_table("MCFG", 0);
	if (acpi.fadt)
		acpi.dsdt = (const struct acpi_header *)(acpi.fadt->x_dsdt ? acpi.fadt->x_dsdt
									   : acpi.fadt->dsdt);
	if (acpi.madt)
		read_madt();
}

const uint8_t *acpi_aml_find(const char *name)
{
	const uint8_t *p = (const uint8_t *)(acpi.dsdt + 1);
	const uint8_t *end = (const uint8_t *)acpi.dsdt + acpi.dsdt->length;
	size_t len = strlen(name);

	for (; p + len <= end; p++)
		if (*p == (uint8_t)*name && !memcmp(p, name, len))
			return p;
	return NULL;
}

int acpi_s5_type(void)
{
	const uint8_t *p = acpi.dsdt ? acpi_aml_find("_S5_") : NULL;

	if (!p || p[4] != AML_PACKAGE)
		return -1;
	/* Package: its length in one to four bytes, the number of elements, the elements. */
	p += 5;
	p += (*p >> 6) + 2;
	if (*p == AML_BYTE)
		return p[1];
	return *p <= 1 ? *p : -1; /* ZeroOp, OneOp */
}

void acpi_write(const struct acpi_address *a, uint8_t value)
{
	if (a->space == ACPI_SPACE_IO)
		out8((uint16_t)a->address, value);
	else if (a->space == ACPI_SPACE_MEMORY)
		write8(a->address, value);
}
