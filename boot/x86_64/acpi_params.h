/*
 * The parameter block: what the DSDT learns about this machine only at run time. acpi.c writes it,
 * dsdt.asl reads it through an OperationRegion. Included by both, so it holds nothing but numbers,
 * and both languages' preprocessors must understand it.
 */
#ifndef BOOT_X86_64_ACPI_PARAMS_H
#define BOOT_X86_64_ACPI_PARAMS_H

/* In reserved memory, between the RSDP and the tables. */
#define ACPI_PARAMS_BASE 0xE0100
#define ACPI_PARAMS_SIZE 0x100

/* Byte offsets of its fields. */
#define ACPI_PARAM_MEM64_BASE 0x00
#define ACPI_PARAM_MEM64_SIZE 0x08
#define ACPI_PARAM_MEM32_BASE 0x10
#define ACPI_PARAM_MEM32_SIZE 0x14
#define ACPI_PARAM_IO_BASE    0x18
#define ACPI_PARAM_IO_SIZE    0x1C
#define ACPI_PARAM_ECAM_BASE  0x20
#define ACPI_PARAM_ECAM_BUSES 0x24
#define ACPI_PARAM_ACPI_PIO   0x28
#define ACPI_PARAM_PANIC_PIO  0x2C
#define ACPI_PARAM_UART_PIO   0x30 /* four of two bytes */
#define ACPI_PARAM_UART_IRQ   0x38 /* four of one byte */
#define ACPI_PARAM_VMMIO_BASE 0x3C
#define ACPI_PARAM_VMMIO_MASK 0x40
#define ACPI_PARAM_VMMIO_GSI  0x44

#endif
