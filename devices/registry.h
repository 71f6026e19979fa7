/*
 * The table of all devices and what reads it. A device's file defines its row; it is declared here
 * and listed in registry.c, and nothing else has to change for it to be parsed, helped with,
 * listed, completed and tested.
 */
#ifndef DEVICES_REGISTRY_H
#define DEVICES_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>

#include "devices/device.h"
#include "vmm/command.h"

/* NULL-terminated; device_registry[] is one. */
typedef const struct device_row *const *device_rows;

/* What every machine has. */
extern const struct device_row row_rtc;
extern const struct device_row row_i8042;
extern const struct device_row row_acpi_power;
extern const struct device_row row_pvpanic;

extern const struct device_row row_uart16550;
extern const struct device_row row_e1000;
extern const struct device_row row_virtio_net;
extern const struct device_row row_virtio_blk;
extern const struct device_row row_ide;
extern const struct device_row row_nvme;
extern const struct device_row row_virtio_rng;
extern const struct device_row row_virtio_console;
extern const struct device_row row_virtio_vsock;
extern const struct device_row row_virtio_balloon;
extern const struct device_row row_vfio_net;
extern const struct device_row row_vfio_blk;
extern const struct device_row row_vfio_console;
extern const struct device_row row_vfio_dev;
extern const struct device_row row_vhost_net;
extern const struct device_row row_vhost_blk;
extern const struct device_row row_vhost_fs;
extern const struct device_row row_vhost_vsock;

extern const struct command command_vfio;
extern const struct command command_backend;

/* NULL-terminated: what mvm does with devices beside giving them to a machine; see vmm/command.h.
 */
extern const struct command *const device_commands[];

/* device_find() in another table than device_registry[]. */
const struct device_row *device_find_in(device_rows rows, enum device_class class,
					enum device_model model, const char *hw);
/* How many hw a class has by this model; 0: the pair does not exist in this build. */
unsigned device_count_hw(device_rows rows, enum device_class class, enum device_model model);

/* Is the pair part of mvm's design, whether this build has it or not? */
bool device_planned(enum device_class class, enum device_model model);

/* DEVICE_CAN_… as words, "pause, save"; "-" for none. buf is returned. */
const char *device_capabilities(unsigned capabilities, char *buf, size_t size);

/* Frees what the config owns and zeroes it. */
void device_config_free(struct device_config *config);

#endif
