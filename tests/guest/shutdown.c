/*
 * Power off through ACPI's sleep control register: mvm ends with status 0.
 *
 * mvm:
 * mvm: --boot=linux64
 */
#include "guest.h"

void main(void)
{
	check(true, "entered by %s", boot.pvh ? "pvh" : "linux64");
	check(boot.nranges > 1, "a memory map of %u ranges", boot.nranges);
	check(is_ram(0x100000, 32 << 20), "RAM from 1 MiB on");
	check(boot.cmdline && *boot.cmdline, "a command line: %s", boot.cmdline);
}
