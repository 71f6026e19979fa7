/*
 * The ACPI structures that acpi.c fills, as the ACPI 6.5 specification lays them out (its section
 * is named at each). Little-endian, packed; field names are the specification's.
 */
#ifndef BOOT_X86_64_ACPI_TABLES_H
#define BOOT_X86_64_ACPI_TABLES_H

#include <stdint.h>

/* 5.2.5.3 Root System Description Pointer */
struct acpi_rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt_address;
	uint32_t length;
	uint64_t xsdt_address;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));

/* 5.2.6 System Description Table Header */
struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

/* 5.2.3.2 Generic Address Structure */
struct acpi_address {
	uint8_t address_space_id;
	uint8_t register_bit_width;
	uint8_t register_bit_offset;
	uint8_t access_size;
	uint64_t address;
} __attribute__((packed));

#define ACPI_SPACE_SYSTEM_IO 1
#define ACPI_ACCESS_BYTE     1

/* 5.2.9 Fixed ACPI Description Table; with HW_REDUCED_ACPI most of it is ignored and zero */
struct acpi_fadt {
	struct acpi_header header;
	uint32_t firmware_ctrl;
	uint32_t dsdt;
	uint8_t reserved0;
	uint8_t preferred_pm_profile;
	uint8_t fixed_hardware[63]; /* SCI_INT … CENTURY */
	uint16_t iapc_boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_address reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t fadt_minor_version;
	uint64_t x_firmware_ctrl;
	uint64_t x_dsdt;
	struct acpi_address x_fixed_hardware[8]; /* X_PM1a_EVT_BLK … X_GPE1_BLK */
	struct acpi_address sleep_control_reg;
	struct acpi_address sleep_status_reg;
	char hypervisor_vendor_identity[8];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_fadt) == 276, "table 5.9");

#define ACPI_PM_ENTERPRISE_SERVER 4

/* 5.2.9.3: LEGACY_DEVICES, 8042 and MSI-not-supported stay clear; there is a CMOS RTC. */
#define ACPI_BOOT_VGA_NOT_PRESENT (1u << 2)
#define ACPI_BOOT_NO_ASPM	  (1u << 4)

/* Table 5.10 */
#define ACPI_FADT_WBINVD	  (1u << 0)
#define ACPI_FADT_PROC_C1	  (1u << 2)
#define ACPI_FADT_PWR_BUTTON	  (1u << 4) /* no fixed button … */
#define ACPI_FADT_SLP_BUTTON	  (1u << 5) /* … of either kind */
#define ACPI_FADT_RESET_REG_SUP	  (1u << 10)
#define ACPI_FADT_HW_REDUCED_ACPI (1u << 20)

/* 5.2.12 Multiple APIC Description Table, then interrupt controller structures */
struct acpi_madt {
	struct acpi_header header;
	uint32_t local_apic_address;
	uint32_t flags; /* PCAT_COMPAT clear: no 8259 to be masked */
} __attribute__((packed));

#define ACPI_MADT_ENABLED (1u << 0)

struct acpi_madt_local_apic { /* 5.2.12.2, for APIC ids below 255 */
	uint8_t type, length;
	uint8_t acpi_processor_uid;
	uint8_t apic_id;
	uint32_t flags;
} __attribute__((packed));
#define ACPI_MADT_LOCAL_APIC 0

struct acpi_madt_io_apic { /* 5.2.12.3 */
	uint8_t type, length;
	uint8_t io_apic_id;
	uint8_t reserved;
	uint32_t io_apic_address;
	uint32_t global_system_interrupt_base;
} __attribute__((packed));
#define ACPI_MADT_IO_APIC 1

struct acpi_madt_local_apic_nmi { /* 5.2.12.7 */
	uint8_t type, length;
	uint8_t acpi_processor_uid;
	uint16_t flags;
	uint8_t local_apic_lint;
} __attribute__((packed));
#define ACPI_MADT_LOCAL_APIC_NMI 4

struct acpi_madt_x2apic { /* 5.2.12.12 */
	uint8_t type, length;
	uint16_t reserved;
	uint32_t x2apic_id;
	uint32_t flags;
	uint32_t acpi_processor_uid;
} __attribute__((packed));
#define ACPI_MADT_X2APIC 9

struct acpi_madt_x2apic_nmi { /* 5.2.12.13 */
	uint8_t type, length;
	uint16_t flags;
	uint32_t acpi_processor_uid;
	uint8_t local_x2apic_lint;
	uint8_t reserved[3];
} __attribute__((packed));
#define ACPI_MADT_X2APIC_NMI 10

/* PCI Firmware Specification 3.3, 4.1.2: one allocation, segment group 0 */
struct acpi_mcfg {
	struct acpi_header header;
	uint8_t reserved[8];
	uint64_t base_address;
	uint16_t segment_group;
	uint8_t start_bus, end_bus;
	uint32_t reserved1;
} __attribute__((packed));

#endif
