/*
 * The firmware's tables as an operating system finds them: checksums, the hardware-reduced FADT, a
 * processor for each vCPU, ECAM, and where the loader put it all.
 *
 * mvm: --cpus=1
 * mvm: --cpus=3 --boot=linux64
 * mvm: --cpus=64 --memory=128M
 */
#include "acpi.h"
#include "guest.h"

static void reserved(const void *table, uint32_t length, const char *name)
{
	check(!is_ram((uint64_t)table, length), "%s is not in what the map calls RAM", name);
}

static void root(void)
{
	const struct acpi_rsdp *r = acpi.rsdp;

	check(acpi_checksum_ok(r, 20), "RSDP checksum, 1.0 part");
	check(acpi_checksum_ok(r, sizeof(*r)), "RSDP checksum, extended");
	check_equal(r->revision, 2, "RSDP revision");
	check_equal(r->length, sizeof(*r), "RSDP length");
	check((uint64_t)r % 16 == 0, "RSDP is aligned to a paragraph");
	check(r->rsdt == 0, "no RSDT, whose pointers were 32 bits");
	reserved(r, sizeof(*r), "RSDP");
	check(acpi.xsdt && !memcmp(acpi.xsdt->signature, "XSDT", 4), "XSDT");
	check(acpi_checksum_ok(acpi.xsdt, acpi.xsdt->length), "XSDT checksum");
	reserved(acpi.xsdt, acpi.xsdt->length, "XSDT");
	for (unsigned i = 0; i < (acpi.xsdt->length - sizeof(*acpi.xsdt)) / 8; i++) {
		const struct acpi_header *t =
			(const struct acpi_header *)((const uint64_t *)(acpi.xsdt + 1))[i];

		check(acpi_checksum_ok(t, t->length), "%c%c%c%c checksum", t->signature[0],
		      t->signature[1], t->signature[2], t->signature[3]);
		reserved(t, t->length, "it");
	}
}

static void fadt(void)
{
	const struct acpi_fadt *f = acpi.fadt;

	if (!check(f != NULL, "FADT"))
		return;
	check_equal(f->header.length, sizeof(*f), "FADT length");
	check(f->flags & ACPI_FADT_HARDWARE_REDUCED, "hardware-reduced");
	check(f->flags & ACPI_FADT_RESET_SUPPORTED, "reset register supported");
	check(f->reset.space == ACPI_SPACE_IO && f->reset.bits == 8 && f->reset.address,
	      "reset register at port 0x%lx", f->reset.address);
	check(f->sleep_control.space == ACPI_SPACE_IO && f->sleep_control.address,
	      "sleep control at port 0x%lx", f->sleep_control.address);
	check(f->sleep_status.space == ACPI_SPACE_IO && f->sleep_status.address,
	      "sleep status at port 0x%lx", f->sleep_status.address);
	check_equal(in8((uint16_t)f->sleep_status.address) & 0x80, 0, "not woken from sleep");
	check(f->firmware_ctrl == 0 && f->x_firmware_ctrl == 0, "no FACS: hardware-reduced");
	check_equal(f->smi_command, 0, "no SMI command port");
}

static void dsdt(void)
{
	if (!check(acpi.dsdt && !memcmp(acpi.dsdt->signature, "DSDT", 4), "DSDT"))
		return;
	check(acpi_checksum_ok(acpi.dsdt, acpi.dsdt->length), "DSDT checksum");
	check(acpi.dsdt->revision >= 2, "DSDT's integers are 64 bits");
	check(acpi_s5_type() >= 0, "\\_S5 is there, SLP_TYP %d", acpi_s5_type());
	check(acpi_aml_find("PCI0") && acpi_aml_find("_PRT"), "PCI0 with _PRT");
	check(acpi_aml_find("COM1") != NULL, "COM1");
}

static void madt(void)
{
	uint64_t wanted = 0;
	bool in_order = true;

	cmdline_number("cpus", &wanted);
	if (!check(acpi.madt != NULL, "MADT"))
		return;
	check_equal(acpi.ncpus, wanted, "as many processors as --cpus says");
	for (unsigned i = 0; i < acpi.ncpus; i++)
		in_order = in_order && acpi.apic_id[i] == i;
	check(in_order, "their APIC ids are 0, 1, …");
	check_equal(acpi.madt->lapic, 0xfee00000, "local APIC address");
	check_equal(acpi.ioapic, 0xfec00000, "I/O APIC address");
	check_equal(acpi.ioapic_gsi, 0, "I/O APIC's first GSI");
}

static void mcfg(void)
{
	if (!check(acpi.mcfg != NULL, "MCFG"))
		return;
	check_equal(acpi.mcfg->header.length, sizeof(*acpi.mcfg) + sizeof(acpi.mcfg->range[0]),
		    "one range");
	check(acpi.mcfg->range[0].base % (1 << 20) == 0 && acpi.mcfg->range[0].segment == 0,
	      "ECAM at 0x%lx, segment 0", acpi.mcfg->range[0].base);
	check_equal(acpi.mcfg->range[0].first_bus, 0, "from bus 0");
	check_equal(read32(acpi.mcfg->range[0].base) & 0xffff, 0x1b36, "the bridge answers there");
}

void main(void)
{
	root();
	fadt();
	dsdt();
	madt();
	mcfg();
	check(acpi_table("FACP", 1) == NULL && acpi_table("APIC", 1) == NULL, "nothing twice");
}
