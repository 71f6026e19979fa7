/*
 * Values of the options that measure: durations, and where a trace goes. See options.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/options_internal.h"

#define MS_MIN 100u
#define MS_MAX 3600000u

static const struct {
	const char *name;
	unsigned ms;
} units[] = { { "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "", 1000 } };

int options_set_interval(struct config *config, const char *value, struct error *e)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9')
		return error_set(e, -EINVAL, "not a time; like 1s, 500ms or 2min");
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].name) != 0)
			continue;
		if (n > MS_MAX || n * units[i].ms < MS_MIN || n * units[i].ms > MS_MAX)
			return error_set(e, -EINVAL, "must be 100ms to 60min");
		config->stats_interval_ms = (unsigned)n * units[i].ms;
		return 0;
	}
	return error_set(e, -EINVAL, "not a time; like 1s, 500ms or 2min");
}

void options_print_interval(const struct config *config, FILE *out)
{
	unsigned ms = config->stats_interval_ms;

	if (ms)
		fprintf(out, ms % 1000 ? "%ums" : "%us", ms % 1000 ? ms : ms / 1000);
}

/* ---- traces ---------------------------------------------------------------------------------- */

#define LIMIT_DEFAULT (1ull << 30)

enum { TRACE_DEVICES, TRACE_KICKS, TRACE_LIMIT, TRACE_KEYS };

const struct device_key options_trace_keys[] = {
	[TRACE_DEVICES] = { .name = "devices",
			    .type = KEY_STRING,
			    .help = "only these, joined by +, as in blk0+net0; \"machine\" is what "
				    "belongs to no device" },
	[TRACE_KICKS] = { .name = "kicks",
			  .type = KEY_ENUM,
			  .choices = "kernel|exit",
			  .fallback = "kernel",
			  .help = "exit: doorbells that KVM would take come as exits, slower, so "
				  "that "
				  "the trace has them" },
	[TRACE_LIMIT] = { .name = "limit",
			  .type = KEY_SIZE,
			  .min = 4096,
			  .max = 1ull << 44,
			  .fallback = "1G",
			  .help = "stop writing when it is that long" },
	[TRACE_KEYS] = { .name = NULL },
};

int options_set_trace(struct config *config, const char *value, struct error *e)
{
	struct device_value keys[TRACE_KEYS] = { 0 };
	const char *list = value;
	char *path = option_field(&list);
	int err;

	if (!path)
		return error_set_errno(e, -ENOMEM, "cannot keep the value");
	err = *path ? option_parse_keys(options_trace_keys, list, NULL, keys, e)
		    : error_set(e, -EINVAL, "the value is missing");
	if (err) {
		free(path);
		return err;
	}
	free(config->trace);
	free(config->trace_devices);
	config->trace = path;
	config->trace_devices = keys[TRACE_DEVICES].text;
	config->trace_kicks = keys[TRACE_KICKS].number;
	config->trace_limit = keys[TRACE_LIMIT].number;
	return 0;
}

void options_print_trace(const struct config *config, FILE *out)
{
	struct device_value keys[TRACE_KEYS] = {
		[TRACE_DEVICES] = { .given = config->trace_devices, .text = config->trace_devices },
		[TRACE_KICKS] = { .given = config->trace_kicks, .number = config->trace_kicks },
		[TRACE_LIMIT] = { .given = config->trace_limit != LIMIT_DEFAULT,
				  .number = config->trace_limit },
	};

	if (!config->trace)
		return;
	option_print_field(config->trace, out);
	option_print_keys(options_trace_keys, keys, out);
}
