/*
 * What all devices share: the names on the command line, finding a row of the registry, reading
 * a parsed flag's values and the common part of a device. See device.h and registry.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/device.h"
#include "devices/registry.h"

#define BIT(n) (1u << (n))

/* models: the pairs of the design, for "planned" in messages and tables. */
static const struct {
	const char *name, *summary;
	unsigned models;
} classes[CLASS_COUNT] = {
	[CLASS_NET] = { "net", "network card",
			BIT(MODEL_EMULATED) | BIT(MODEL_VIRTIO) | BIT(MODEL_VHOST) |
				BIT(MODEL_VFIO) },
	[CLASS_BLK] = { "blk", "disk",
			BIT(MODEL_EMULATED) | BIT(MODEL_VIRTIO) | BIT(MODEL_VHOST) |
				BIT(MODEL_VFIO) },
	[CLASS_CONSOLE] = { "console", "serial port or console",
			    BIT(MODEL_EMULATED) | BIT(MODEL_VIRTIO) | BIT(MODEL_VFIO) },
	[CLASS_RNG] = { "rng", "random number generator", BIT(MODEL_VIRTIO) },
	[CLASS_VSOCK] = { "vsock", "socket between guest and host",
			  BIT(MODEL_VIRTIO) | BIT(MODEL_VHOST) },
	[CLASS_BALLOON] = { "balloon", "memory balloon", BIT(MODEL_VIRTIO) },
	[CLASS_FS] = { "fs", "shared directory", BIT(MODEL_VHOST) },
	[CLASS_DEV] = { "dev", "any PCI function of the host", BIT(MODEL_VFIO) },
	[CLASS_PLATFORM] = { "platform", "what every machine has", BIT(MODEL_EMULATED) },
};

static const char *const models[MODEL_COUNT] = {
	[MODEL_EMULATED] = "emulated",
	[MODEL_VIRTIO] = "virtio",
	[MODEL_VHOST] = "vhost",
	[MODEL_VFIO] = "vfio",
};

static const struct {
	unsigned bit;
	const char *name;
} capability_names[] = {
	{ DEVICE_CAN_PAUSE, "pause" },
	{ DEVICE_CAN_SAVE, "save" },
};

const char *device_class_name(enum device_class class)
{
	return classes[class].name;
}

const char *device_class_summary(enum device_class class)
{
	return classes[class].summary;
}

const char *device_model_name(enum device_model model)
{
	return models[model];
}

bool device_planned(enum device_class class, enum device_model model)
{
	return classes[class].models & BIT(model);
}

const char *device_capabilities(unsigned capabilities, char *buf, size_t size)
{
	size_t used = 0;

	snprintf(buf, size, "-");
	for (size_t i = 0; i < sizeof(capability_names) / sizeof(capability_names[0]); i++) {
		if (!(capabilities & capability_names[i].bit) || used >= size)
			continue;
		used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "",
					 capability_names[i].name);
	}
	return buf;
}

const struct device_row *device_find_in(device_rows rows, enum device_class class,
					enum device_model model, const char *hw)
{
	for (; *rows; rows++) {
		const struct device_row *row = *rows;

		if (row->class != class || row->model != model)
			continue;
		if (hw ? strcmp(row->hw, hw) == 0 : row->preferred)
			return row;
	}
	return NULL;
}

const struct device_row *device_find(enum device_class class, enum device_model model,
				     const char *hw)
{
	return device_find_in(device_registry, class, model, hw);
}

unsigned device_count_hw(device_rows rows, enum device_class class, enum device_model model)
{
	unsigned n = 0;

	for (; *rows; rows++)
		n += (*rows)->class == class && (*rows)->model == model;
	return n;
}

/* The type is part of the question: reading a string as a number is the same kind of bug. */
static const struct device_value *find_value(const struct device_config *config, const char *key,
					     unsigned types)
{
	const struct device_key *keys = config->row->keys;

	for (unsigned i = 0; i < DEVICE_MAX_KEYS && keys[i].name; i++)
		if (strcmp(keys[i].name, key) == 0 && (types & BIT(keys[i].type)))
			return &config->value[i];
	fprintf(stderr, "mvm: bug: %s has no key \"%s\" of the type that it was asked for\n",
		config->row->hw, key);
	abort();
}

bool device_config_bool(const struct device_config *config, const char *key)
{
	return find_value(config, key, BIT(KEY_BOOL))->number;
}

uint64_t device_config_uint(const struct device_config *config, const char *key)
{
	return find_value(config, key, BIT(KEY_UINT) | BIT(KEY_SIZE) | BIT(KEY_ENUM))->number;
}

const char *device_config_string(const struct device_config *config, const char *key)
{
	return find_value(config, key, BIT(KEY_STRING))->text;
}

bool device_config_given(const struct device_config *config, const char *key)
{
	return find_value(config, key, ~0u)->given;
}

void device_config_free(struct device_config *config)
{
	free(config->target);
	free(config->flag);
	for (unsigned i = 0; i < DEVICE_MAX_KEYS; i++)
		free(config->value[i].text);
	memset(config, 0, sizeof(*config));
}

void device_init(struct device *dev, const struct device_ops *ops, struct device_host *host,
		 const struct device_config *config)
{
	dev->ops = ops;
	dev->row = config->row;
	dev->host = host;
	dev->next = NULL;
	/* There is one of each of the platform's, and "platform0" would tell nobody anything. */
	if (config->row->class == CLASS_PLATFORM)
		snprintf(dev->name, sizeof(dev->name), "%s", config->row->hw);
	else
		snprintf(dev->name, sizeof(dev->name), "%s%u",
			 device_class_name(config->row->class), config->index);
	dev->account = account_create(host ? host->accounts : NULL, dev->name,
				      device_class_name(config->row->class),
				      device_model_name(config->row->model), config->row->hw);
}
