/*
 * --print-config: the configuration as --config reads it (see options_file.c for the form). What
 * the user did not give and follows from a device's defaults is written as a comment, so that
 * reading it back gives the same and not more.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/options_internal.h"

/* "NAME = VALUE", in quotes where the plain text would not survive. */
static void print_line(const char *name, const char *value, FILE *out)
{
	size_t len = strlen(value);
	bool quotes = !len || *value == '"' || isspace((unsigned char)*value) ||
		      isspace((unsigned char)value[len - 1]) || strchr(value, '\n');

	fprintf(out, "%s = ", name);
	if (!quotes) {
		fprintf(out, "%s\n", value);
		return;
	}
	putc('"', out);
	for (; *value; value++) {
		if (*value == '\n') {
			fputs("\\n", out);
			continue;
		}
		if (*value == '"' || *value == '\\')
			putc('\\', out);
		putc(*value, out);
	}
	fputs("\"\n", out);
}

static void print_device(const struct device_config *d, FILE *out)
{
	const struct device_row *row = d->row;

	fputs(device_model_name(row->model), out);
	if (d->target) {
		putc(':', out);
		option_print_field(d->target, out);
	}
	if (!row->preferred)
		fprintf(out, ",hw=%s", row->hw);
	option_print_keys(row->keys, d->value, out);
}

static void print_defaults(const struct device_config *d, FILE *out)
{
	const struct device_key *keys = d->row->keys;
	const char *before = "# ";

	for (unsigned i = 0; i < DEVICE_MAX_KEYS && keys[i].name; i++) {
		if (d->value[i].given || !d->value[i].set)
			continue;
		fprintf(out, "%s%s=", before, keys[i].name);
		option_print_value(&keys[i], &d->value[i], out);
		before = " ";
	}
	if (*before == ' ')
		putc('\n', out);
}

static void print_key(const struct config *config, const struct option *o, FILE *out)
{
	const void *field = (const char *)config + o->offset;
	struct device_value value = { .set = true };

	switch (o->key.type) {
	case KEY_STRING:
		fputs(*(char *const *)field, out);
		return;
	case KEY_BOOL:
		value.number = *(const bool *)field;
		break;
	case KEY_SIZE:
		value.number = *(const uint64_t *)field;
		break;
	default:
		value.number = *(const unsigned *)field;
		break;
	}
	option_print_value(&o->key, &value, out);
}

/* By way of a buffer, for only the whole text shows whether it needs quotes. */
static void print_option(const struct config *config, const struct option *o,
			 const struct device_config *d, FILE *out)
{
	char *text = NULL;
	size_t len;
	FILE *buf = open_memstream(&text, &len);

	if (!buf)
		return;
	if (d)
		print_device(d, buf);
	else if (o->type == OPTION_CUSTOM)
		o->print(config, buf);
	else
		print_key(config, o, buf);
	/* One of OPTION_CUSTOM that prints nothing was not chosen. */
	if (fclose(buf) == 0 && (*text || o->type != OPTION_CUSTOM))
		print_line(option_name(o), text, out);
	free(text);
}

/* In their own order, whatever their class: it is that of their slots. */
static void print_devices(const struct config *config, FILE *out)
{
	for (unsigned i = 0; i < config->ndevices; i++) {
		const struct device_config *d = &config->device[i];

		for (const struct option *o = option_table; option_name(o); o++)
			if (o->type == OPTION_DEVICE && o->class == d->row->class)
				print_option(config, o, d, out);
		print_defaults(d, out);
	}
}

void config_print(const struct config *config, FILE *out)
{
	for (const struct option *o = option_table; option_name(o); o++) {
		const void *field = (const char *)config + o->offset;

		if (o->type == OPTION_CUSTOM ||
		    (o->type == OPTION_KEY && (o->key.type != KEY_STRING || *(char *const *)field)))
			print_option(config, o, NULL, out);
	}
	print_devices(config, out);
}
