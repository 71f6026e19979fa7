/*
 * The list of all devices, in the order help shows them: see registry.h.
 */
#include "devices/registry.h"

/* One a line, so that a new one is a line of its own. */
/* clang-format off */
const struct device_row *const device_registry[] = {
	&row_e1000,
	&row_virtio_net,
	&row_vhost_net,
	&row_virtio_blk,
	&row_vhost_blk,
	&row_ide,
	&row_nvme,
	&row_uart16550,
	&row_virtio_console,
	&row_virtio_rng,
	&row_virtio_vsock,
	&row_vhost_vsock,
	&row_virtio_balloon,
	&row_vhost_fs,
	&row_vfio_net,
	&row_vfio_blk,
	&row_vfio_console,
	&row_vfio_dev,
	&row_rtc,
	&row_i8042,
	&row_acpi_power,
	&row_pvpanic,
	NULL,
};
/* clang-format on */
