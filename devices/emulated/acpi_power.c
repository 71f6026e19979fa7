/*
 * Power off and reset of a hardware-reduced ACPI machine: the sleep control and sleep status
 * registers (ACPI 6.5, 4.8.3.7, named by the FADT) and the reset register (4.8.3.6). The DSDT's
 * \_S5 gives SLP_TYP 5.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/device.h"
#include "devices/registers.h"
#include "vmm/log.h"
#include "vmm/x86_64/layout.h"

enum { SLEEP_CONTROL, SLEEP_STATUS, RESET, REGS };

#define SLP_EN	      0x20u
#define SLP_TYP_SHIFT 2
#define SLP_TYP_MASK  0x1cu
#define WAK_STS	      0x80u
#define S5_SLP_TYP    5u
#define RESET_VALUE   1u /* as the FADT has it */

static const struct reg registers[REGS] = {
	/* SLP_EN reads as zero. */
	[SLEEP_CONTROL] = { "SLEEP_CONTROL_REG", 0, .width = 1, .access = REG_RW,
			    .writable = SLP_TYP_MASK },
	[SLEEP_STATUS] = { "SLEEP_STATUS_REG", 1, .width = 1, .access = REG_RW, .clear = WAK_STS },
	[RESET] = { "RESET_REG", 2, .width = 1, .access = REG_RW },
};

static const struct reg_table table = { registers, REGS };

struct acpi_power {
	struct device dev;
	uint8_t reg[REGS]; /* read and written whole: no lock */
	struct log_limit no_sleep;
};

static uint8_t read_byte(void *opaque, uint64_t offset)
{
	struct acpi_power *power = opaque;
	int i = reg_find(&table, offset, 1, REG_READ, 0);

	return i < 0 ? 0xff : __atomic_load_n(&power->reg[i], __ATOMIC_RELAXED);
}

static void sleep_now(struct acpi_power *power, unsigned type)
{
	if (type == S5_SLP_TYP)
		power->dev.host->request(power->dev.host, REQUEST_POWEROFF);
	else
		log_guest(&power->no_sleep, "asks for sleep type %u; there is only power-off (%u)",
			  type, S5_SLP_TYP);
}

static void write_byte(void *opaque, uint64_t offset, uint8_t value)
{
	struct acpi_power *power = opaque;
	int i = reg_find(&table, offset, 1, REG_WRITE, 0);
	uint8_t old;

	if (i < 0)
		return;
	old = __atomic_load_n(&power->reg[i], __ATOMIC_RELAXED);
	__atomic_store_n(&power->reg[i], (uint8_t)reg_merge(&registers[i], old, value),
			 __ATOMIC_RELAXED);
	if (i == SLEEP_CONTROL && (value & SLP_EN))
		sleep_now(power, (value & SLP_TYP_MASK) >> SLP_TYP_SHIFT);
	else if (i == RESET && value == RESET_VALUE)
		power->dev.host->request(power->dev.host, REQUEST_RESET);
}

static uint64_t power_read(void *opaque, uint64_t offset, unsigned size)
{
	return reg_read_bytewise(opaque, offset, size, read_byte);
}

static void power_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	reg_write_bytewise(opaque, offset, size, value, write_byte);
}

static const char *power_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)size;
	return reg_name(&table, offset, write ? REG_WRITE : REG_READ, 0);
}

static const struct bus_ops bus_ops = { .read = power_read,
					.write = power_write,
					.name = power_name };

static void power_reset(struct device *dev)
{
	struct acpi_power *power = (struct acpi_power *)dev;

	for (unsigned i = 0; i < REGS; i++)
		__atomic_store_n(&power->reg[i], (uint8_t)registers[i].reset, __ATOMIC_RELAXED);
}

static void power_destroy(struct device *dev)
{
	bus_remove(dev->host->pio, LAYOUT_ACPI_PIO, dev);
	free(dev);
}

static const struct device_ops device_ops = {
	.reset = power_reset,
	.destroy = power_destroy,
};

static int power_create(struct device_host *host, const struct device_config *config,
			struct device **out, struct error *e)
{
	struct acpi_power *power = calloc(1, sizeof(*power));
	struct bus_range range = {
		.name = "acpi-power",
		.base = LAYOUT_ACPI_PIO,
		.size = REGS,
		.ops = &bus_ops,
		.opaque = power,
	};
	int err;

	if (!power)
		return error_set(e, -ENOMEM, "out of memory");
	device_init(&power->dev, &device_ops, host, config);
	power_reset(&power->dev);
	range.account = power->dev.account;
	err = bus_add(host->pio, &range, e);
	if (err) {
		free(power);
		return err;
	}
	*out = &power->dev;
	return 0;
}

static const struct device_key keys[] = { { .name = NULL } };

const struct device_row row_acpi_power = {
	.class = CLASS_PLATFORM,
	.model = MODEL_EMULATED,
	.hw = "acpi-power",
	.summary = "ACPI power-off and reset",
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = power_create,
};
