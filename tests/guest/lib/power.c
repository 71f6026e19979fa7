/*
 * The ways in which a guest ends or restarts its machine. ACPI 6.5 sections 4.8.3.7 (sleep control)
 * and 4.8.3.6 (reset register); the PC's 0xcf9 and keyboard controller; a triple fault; pvpanic
 * (QEMU docs/specs/pvpanic).
 */
#include "acpi.h"
#include "guest.h"

#define SLEEP_ENABLE	 0x20
#define SLEEP_TYPE_SHIFT 2

#define RESET_CONTROL	  0xcf9
#define RESET_SYSTEM	  0x02
#define RESET_CPU	  0x04
#define I8042_COMMAND	  0x64
#define I8042_PULSE_RESET 0xfe
#define PANIC_PORT	  0x505
#define PANICKED	  0x01

#define SERVED_WITHIN_US 2000000 /* the main thread does it, in its own time */

void poweroff(void)
{
	int type = acpi_s5_type();

	print_drain();
	if (type < 0 || !acpi.fadt)
		bail("no \\_S5 or FADT: cannot power off");
	acpi_write(&acpi.fadt->sleep_control, (uint8_t)(type << SLEEP_TYPE_SHIFT | SLEEP_ENABLE));
	delay_us(SERVED_WITHIN_US);
	bail("still alive after power off");
}

void reset_acpi(void)
{
	print_drain();
	acpi_write(&acpi.fadt->reset, acpi.fadt->reset_value);
	delay_us(SERVED_WITHIN_US);
}

void reset_cf9(void)
{
	print_drain();
	out8(RESET_CONTROL, RESET_SYSTEM);
	out8(RESET_CONTROL, RESET_SYSTEM | RESET_CPU);
	delay_us(SERVED_WITHIN_US);
}

void reset_i8042(void)
{
	print_drain();
	out8(I8042_COMMAND, I8042_PULSE_RESET);
	delay_us(SERVED_WITHIN_US);
}

void triple_fault(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = { 0, 0 };

	print_drain();
	asm volatile("lidt %0\n\t"
		     "ud2"
		     :
		     : "m"(none));
	__builtin_unreachable();
}

void panic_notify(void)
{
	print_drain();
	out8(PANIC_PORT, PANICKED);
	delay_us(SERVED_WITHIN_US);
}
