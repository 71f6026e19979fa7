/*
 * The list of KEY=VALUE behind a flag, for devices and for options that have keys of their own: see
 * options_internal.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/options_internal.h"

static int unknown_key(const struct device_key *keys, const char *name, size_t len,
		       const char *ignored, struct error *e)
{
	struct text t = { .len = 0 };
	struct suggest s;

	suggest_start(&s, name, len);
	for (const struct device_key *k = keys; k->name; k++)
		suggest_offer(&s, k->name);
	if (ignored)
		suggest_offer(&s, ignored);
	text_add(&t, "no key \"%.*s\"", len > 60 ? 60 : (int)len, name);
	text_add_suggestion(&t, &s, "");
	if (!s.best && keys->name) {
		text_add(&t, "; there are: ");
		for (const struct device_key *k = keys; k->name; k++)
			text_add(&t, "%s%s", k == keys ? "" : ", ", k->name);
	} else if (!s.best) {
		text_add(&t, "; this takes none");
	}
	/* The likeliest reason for a key that has no value: a file's name has a comma in it. */
	if (!s.best && name[len] != '=')
		text_add(&t, " (a comma that belongs to a name is written twice)");
	return error_set(e, -EINVAL, "%s", t.buf);
}

static int parse_key(const struct device_key *keys, const char *field, const char *ignored,
		     struct device_value *values, struct error *e)
{
	size_t len = strcspn(field, "=");
	struct device_value *value;
	unsigned i = 0;
	int err;

	if (!*field)
		return error_set(e, -EINVAL,
				 "a KEY=VALUE is missing next to a comma (no space follows one; "
				 "one that belongs to a name is written twice)");
	while (keys[i].name &&
	       (strlen(keys[i].name) != len || memcmp(keys[i].name, field, len) != 0))
		i++;
	if (!keys[i].name || i >= DEVICE_MAX_KEYS)
		return unknown_key(keys, field, len, ignored, e);
	value = &values[i];
	if (!field[len])
		return error_set(e, -EINVAL, "key \"%s\" needs a value: %s=%s", keys[i].name,
				 keys[i].name, option_key_value_text(&keys[i]));
	if (value->given)
		return error_set(e, -EINVAL, "key \"%s\" is given twice", keys[i].name);
	err = option_parse_value(&keys[i], field + len + 1, value, e);
	if (err) {
		error_prefix(e, "%.60s: ", field);
		return err;
	}
	value->given = true;
	return 0;
}

int option_parse_keys(const struct device_key *keys, const char *list, const char *ignored,
		      struct device_value *values, struct error *e)
{
	int err = 0;

	while (list && !err) {
		char *field = option_field(&list);

		if (!field)
			return error_set_errno(e, -ENOMEM, "cannot keep the keys");
		if (!ignored || strncmp(field, ignored, strlen(ignored)) != 0 ||
		    field[strlen(ignored)] != '=')
			err = parse_key(keys, field, ignored, values, e);
		free(field);
	}
	for (unsigned i = 0; !err && i < DEVICE_MAX_KEYS && keys[i].name; i++) {
		if (values[i].given || !keys[i].fallback)
			continue;
		err = option_parse_value(&keys[i], keys[i].fallback, &values[i], e);
		if (err)
			error_prefix(e, "bug: default of %s: ", keys[i].name);
	}
	return err;
}

void option_print_keys(const struct device_key *keys, const struct device_value *values, FILE *out)
{
	for (unsigned i = 0; i < DEVICE_MAX_KEYS && keys[i].name; i++) {
		if (!values[i].given)
			continue;
		fprintf(out, ",%s=", keys[i].name);
		option_print_value(&keys[i], &values[i], out);
	}
}
