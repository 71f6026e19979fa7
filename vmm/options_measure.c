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
