/*
 * The keys that every disk on an image of ours takes, whoever serves it: one list, so that flipping
 * the model keeps them. A front end puts BLOCK_KEYS into its row's keys and calls
 * block_config_from() before block_open().
 */
#ifndef DEVICES_BACKEND_BLOCK_KEYS_H
#define DEVICES_BACKEND_BLOCK_KEYS_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/backend/block.h"
#include "devices/device.h"

/* Choices in the order of enum block_format, block_cache and block_engine. */
#define BLOCK_KEYS                                                                                 \
	{ .name = "ro", .type = KEY_BOOL, .fallback = "off", .help = "the guest may only read" },  \
		{ .name = "format",                                                                \
		  .type = KEY_ENUM,                                                                \
		  .fallback = "raw",                                                               \
		  .choices = "raw|qcow2",                                                          \
		  .help = "the image's format; never guessed from what is in it" },                \
		{ .name = "backing",                                                               \
		  .type = KEY_BOOL,                                                                \
		  .fallback = "on",                                                                \
		  .help = "a qcow2 image may name other files to read from" },                     \
		{ .name = "cache",                                                                 \
		  .type = KEY_ENUM,                                                                \
		  .fallback = "writeback",                                                         \
		  .choices = "writeback|direct|unsafe",                                            \
		  .help = "direct passes by the page cache; unsafe ignores the guest's flushes" }, \
	{                                                                                          \
		.name = "engine", .type = KEY_ENUM, .fallback = "auto",                            \
		.choices = "auto|io_uring|threads",                                                \
		.help = "how the host's files are read and written"                                \
	}

static inline struct block_config block_config_from(const struct device_config *config)
{
	return (struct block_config){
		.path = config->target,
		.format = (enum block_format)device_config_uint(config, "format"),
		.cache = (enum block_cache)device_config_uint(config, "cache"),
		.engine = (enum block_engine)device_config_uint(config, "engine"),
		.read_only = device_config_bool(config, "ro"),
		.no_backing = !device_config_bool(config, "backing"),
	};
}

/* virtio, NVMe and ATA all have room for this many bytes. */
#define BLOCK_SERIAL_MAX 20

#define BLOCK_SERIAL_KEY                                                                           \
	{                                                                                          \
		.name = "serial", .type = KEY_STRING, .help = "serial number, at most 20 bytes"    \
	}

/* The disk's serial number: the flag's, or by its place; whoever serves it. */
static inline int block_serial_from(const struct device_config *config,
				    char serial[BLOCK_SERIAL_MAX + 1], struct error *e)
{
	const char *given = device_config_string(config, "serial");

	if (given && strlen(given) > BLOCK_SERIAL_MAX)
		return error_set(e, -EINVAL, "serial=%s is longer than %d bytes", given,
				 BLOCK_SERIAL_MAX);
	if (given)
		snprintf(serial, BLOCK_SERIAL_MAX + 1, "%s", given);
	else
		snprintf(serial, BLOCK_SERIAL_MAX + 1, "mvm-blk-%u", config->index);
	return 0;
}

#endif
