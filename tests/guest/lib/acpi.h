/*
 * The firmware's tables (ACPI 6.5), as far as tests look at them: found through the RSDP, never
 * through fixed addresses.
 */
#ifndef GUEST_ACPI_H
#define GUEST_ACPI_H

#include "cpu.h"

struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct acpi_rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));

/* Generic address structure, section 5.2.3.2. */
struct acpi_address {
	uint8_t space, bits, offset, access;
	uint64_t address;
} __attribute__((packed));

#define ACPI_SPACE_MEMORY 0
#define ACPI_SPACE_IO	  1

struct acpi_fadt {
	struct acpi_header header;
	uint32_t firmware_ctrl, dsdt;
	uint8_t reserved0, profile;
	uint16_t sci;
	uint32_t smi_command;
	uint8_t other[57];
	uint16_t boot_flags;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_address reset;
	uint8_t reset_value;
	uint16_t arm_flags;
	uint8_t minor;
	uint64_t x_firmware_ctrl, x_dsdt;
	struct acpi_address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control,
		x_pm2_control, x_pm_timer, x_gpe0, x_gpe1;
	struct acpi_address sleep_control, sleep_status;
	uint64_t hypervisor;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_fadt) == 276, "ACPI 6.5 table 5.9");

#define ACPI_FADT_RESET_SUPPORTED  (1u << 10)
#define ACPI_FADT_HARDWARE_REDUCED (1u << 20)

struct acpi_madt {
	struct acpi_header header;
	uint32_t lapic, flags;
	uint8_t entries[];
} __attribute__((packed));

struct acpi_mcfg {
	struct acpi_header header;
	uint64_t reserved;
	struct {
		uint64_t base;
		uint16_t segment;
		uint8_t first_bus, last_bus;
		uint32_t reserved;
	} __attribute__((packed)) range[];
} __attribute__((packed));

/* What the tables say, read once. */
struct acpi {
	const struct acpi_rsdp *rsdp;
	const struct acpi_header *xsdt;
	const struct acpi_fadt *fadt;
	const struct acpi_madt *madt;
	const struct acpi_mcfg *mcfg;
	const struct acpi_header *dsdt;
	unsigned ncpus;
	uint32_t apic_id[64]; /* of enabled processors */
	uint64_t ioapic;
	uint32_t ioapic_gsi;
};
extern struct acpi acpi;

/* Bails out where there is no RSDP; tables that are missing are NULL. */
void acpi_init(void);
/* The n-th table with this signature, or NULL. */
const struct acpi_header *acpi_table(const char *signature, unsigned n);
/* Sum of all bytes is zero. */
bool acpi_checksum_ok(const void *table, size_t length);
/* First place of a name in the DSDT's AML, or NULL. */
const uint8_t *acpi_aml_find(const char *name);
/* SLP_TYP for \_S5 out of the DSDT; -1 if it is not there. */
int acpi_s5_type(void);
void acpi_write(const struct acpi_address *a, uint8_t value);

#endif
