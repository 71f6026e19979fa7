/*
 * Where a guest's kernel says that it has panicked: one byte of port, with the meaning that Linux'
 * drivers/misc/pvpanic and QEMU's docs/specs/pvpanic give it. Reading tells which events are
 * understood, writing their bits reports them.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/device.h"
#include "devices/registers.h"
#include "vmm/log.h"
#include "vmm/x86_64/layout.h"

#define PANICKED     0x01u
#define CRASH_LOADED 0x02u /* a crash kernel takes over: it will end the machine itself */

static const struct reg registers[] = {
	{ "EVENTS", 0, .width = 1, .access = REG_RW, .reset = PANICKED | CRASH_LOADED },
};

static const struct reg_table table = { registers, 1 };

struct pvpanic {
	struct device dev;
	struct log_limit crash;
};

static uint64_t pvpanic_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque;
	return reg_find(&table, offset, size, REG_READ, 0) < 0 ? 0xff : registers[0].reset;
}

static void pvpanic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pvpanic *panic = opaque;

	if (reg_find(&table, offset, size, REG_WRITE, 0) < 0)
		return;
	if (value & CRASH_LOADED)
		log_guest(&panic->crash, "the kernel has panicked and its crash kernel takes over");
	if (value & PANICKED)
		panic->dev.host->request(panic->dev.host, REQUEST_PANIC);
}

static const char *pvpanic_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)size;
	return reg_name(&table, offset, write ? REG_WRITE : REG_READ, 0);
}

static const struct bus_ops bus_ops = { .read = pvpanic_read,
					.write = pvpanic_write,
					.name = pvpanic_name };

static void pvpanic_reset(struct device *dev)
{
	struct pvpanic *panic = (struct pvpanic *)dev;

	panic->crash = (struct log_limit){ 0 };
}

static void pvpanic_destroy(struct device *dev)
{
	bus_remove(dev->host->pio, LAYOUT_PANIC_PIO, dev);
	free(dev);
}

static const struct device_ops device_ops = {
	.reset = pvpanic_reset,
	.destroy = pvpanic_destroy,
};

static int pvpanic_create(struct device_host *host, const struct device_config *config,
			  struct device **out, struct error *e)
{
	struct pvpanic *panic = calloc(1, sizeof(*panic));
	struct bus_range range = {
		.name = "pvpanic",
		.base = LAYOUT_PANIC_PIO,
		.size = 1,
		.ops = &bus_ops,
		.opaque = panic,
	};
	int err;

	if (!panic)
		return error_set(e, -ENOMEM, "out of memory");
	device_init(&panic->dev, &device_ops, host, config);
	range.account = panic->dev.account;
	err = bus_add(host->pio, &range, e);
	if (err) {
		free(panic);
		return err;
	}
	*out = &panic->dev;
	return 0;
}

static const struct device_key keys[] = { { .name = NULL } };

const struct device_row row_pvpanic = {
	.class = CLASS_PLATFORM,
	.model = MODEL_EMULATED,
	.hw = "pvpanic",
	.summary = "tells mvm that the guest has panicked",
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = pvpanic_create,
};
