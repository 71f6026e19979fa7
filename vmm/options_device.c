/*
 * Device flags: --CLASS=MODEL[:TARGET][,KEY=VALUE]... In: the value of the flag and the registry.
 * Out: one more struct device_config, or a message that says what exists. hw=NAME chooses among
 * the devices that one class has by one model; it picks the row, so it is looked for first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/options_internal.h"

/* "--blk=virtio:IMAGE" for each pair of the class that this build has; false if there is none. */
static bool add_pairs(struct text *t, device_rows rows, enum device_class class)
{
	bool any = false;

	for (; *rows; rows++) {
		const struct device_row *row = *rows;

		if (row->class != class || !row->preferred)
			continue;
		text_add(t, "%s--%s=%s", any ? ", " : "", device_class_name(class),
			 device_model_name(row->model));
		if (row->target)
			text_add(t, row->target_required ? ":%s" : "[:%s]", row->target);
		any = true;
	}
	return any;
}

/* What stands behind every refusal of a pair: the pairs that do exist. */
static int refuse(const struct config *config, enum device_class class, struct text *t,
		  struct error *e)
{
	text_add(t, "%s this build has ", t->buf[t->len - 1] == '?' ? "" : ";");
	if (!add_pairs(t, config->registry, class)) {
		bool any = false;

		text_add(t, "no %s, only ", device_class_name(class));
		for (unsigned c = 0; c < CLASS_PLATFORM; c++) {
			struct text pairs = { .len = 0 };

			if (add_pairs(&pairs, config->registry, c))
				text_add(t, "%s%s", any ? ", " : "", pairs.buf);
			any |= pairs.len > 0;
		}
	}
	return error_set(e, -EINVAL, "%s", t->buf);
}

static int find_model(const struct config *config, enum device_class class, const char *name,
		      size_t len, enum device_model *out, struct error *e)
{
	struct text t = { .len = 0 };
	struct suggest s;

	suggest_start(&s, name, len);
	for (unsigned m = 0; m < MODEL_COUNT; m++) {
		const char *model = device_model_name(m);

		if (strlen(model) == len && memcmp(model, name, len) == 0) {
			*out = m;
			if (device_count_hw(config->registry, class, m))
				return 0;
			text_add(&t,
				 device_planned(class, m) ? "%s %s is planned"
							  : "there is no %s %s",
				 model, device_class_name(class));
			return refuse(config, class, &t, e);
		}
		if (device_count_hw(config->registry, class, m))
			suggest_offer(&s, model);
	}
	if (len == 0)
		text_add(&t, "a model is missing");
	else
		text_add(&t, "no model \"%.*s\" for %s", len > 60 ? 60 : (int)len, name,
			 device_class_name(class));
	text_add_suggestion(&t, &s, "");
	return refuse(config, class, &t, e);
}

static int refuse_hw(const struct config *config, enum device_class class, enum device_model model,
		     const char *hw, struct error *e)
{
	struct text t = { .len = 0 };
	const char *between = "";
	struct suggest s;

	suggest_start(&s, hw, strlen(hw));
	for (device_rows r = config->registry; *r; r++)
		if ((*r)->class == class && (*r)->model == model)
			suggest_offer(&s, (*r)->hw);
	if (*hw)
		text_add(&t, "no hw \"%.60s\" for %s %s", hw, device_model_name(model),
			 device_class_name(class));
	else
		text_add(&t, "key \"hw\" needs a value");
	text_add_suggestion(&t, &s, "");
	text_add(&t, "; there is: ");
	for (device_rows r = config->registry; *r; r++) {
		if ((*r)->class != class || (*r)->model != model)
			continue;
		text_add(&t, "%shw=%s", between, (*r)->hw);
		between = ", ";
	}
	return error_set(e, -EINVAL, "%s", t.buf);
}

/* The row: what hw= says, or the preferred one. */
static int find_row(const struct config *config, enum device_class class, enum device_model model,
		    const char *list, const struct device_row **out, struct error *e)
{
	const struct device_row *row = NULL;
	int err = 0;

	while (list && !err) {
		char *field = option_field(&list);

		if (!field)
			return error_set_errno(e, -ENOMEM, "cannot keep the keys");
		if (strcmp(field, "hw") == 0) {
			err = refuse_hw(config, class, model, "", e);
		} else if (strncmp(field, "hw=", 3) == 0 && row) {
			err = error_set(e, -EINVAL, "key \"hw\" is given twice");
		} else if (strncmp(field, "hw=", 3) == 0) {
			row = device_find_in(config->registry, class, model, field + 3);
			if (!row)
				err = refuse_hw(config, class, model, field + 3, e);
		}
		free(field);
	}
	if (!row && !err)
		row = device_find_in(config->registry, class, model, NULL);
	if (!row && !err) /* no row is preferred, which the unit tests refuse */
		err = refuse_hw(config, class, model, "", e);
	*out = row;
	return err;
}

static int check_target(const struct device_row *row, const char *target, struct error *e)
{
	const char *class = device_class_name(row->class), *model = device_model_name(row->model);

	if (row->target_required && (!target || !*target))
		return error_set(e, -EINVAL, "%s %s needs a target: --%s=%s:%s", model, class,
				 class, model, row->target);
	if (!target)
		return 0;
	if (!row->target)
		return error_set(e, -EINVAL, "%s %s takes no target: --%s=%s", model, class, class,
				 model);
	if (!*target)
		return error_set(e, -EINVAL,
				 "the target is empty; without the colon it is the default one");
	return 0;
}

static unsigned count_class(const struct config *config, enum device_class class)
{
	unsigned n = 0;

	for (unsigned i = 0; i < config->ndevices; i++)
		n += config->device[i].row->class == class;
	return n;
}

int options_device(struct config *config, enum device_class class, const char *value,
		   struct error *e)
{
	struct device_config *d = &config->device[config->ndevices];
	size_t model_len = strcspn(value, ":,");
	const char *list = value[model_len] ? value + model_len + 1 : NULL;
	const struct device_row *row = NULL;
	enum device_model model = MODEL_COUNT;
	char *target = NULL;
	int err;

	err = find_model(config, class, value, model_len, &model, e);
	if (err)
		return err;
	if (config->ndevices == CONFIG_MAX_DEVICES)
		return error_set(e, -EINVAL, "too many devices; a machine has at most %d",
				 CONFIG_MAX_DEVICES);
	if (value[model_len] == ':') {
		target = option_field(&list);
		if (!target)
			return error_set_errno(e, -ENOMEM, "cannot keep the target");
	}
	err = find_row(config, class, model, list, &row, e);
	if (err || !row) {
		free(target);
		return err;
	}
	*d = (struct device_config){
		.row = row,
		.index = count_class(config, class),
		.target = target,
	};
	if (asprintf(&d->flag, "--%s=%s", device_class_name(class), value) < 0) {
		d->flag = NULL;
		err = error_set_errno(e, -ENOMEM, "cannot keep the flag");
	}
	if (!err)
		err = option_parse_keys(row->keys, list, "hw", d->value, e);
	if (!err)
		err = check_target(row, target, e);
	if (err)
		device_config_free(d);
	else
		config->ndevices++;
	return err;
}

int config_device_defaults(struct device_config *d, const struct device_row *row, struct error *e)
{
	int err;

	*d = (struct device_config){ .row = row };
	err = option_parse_keys(row->keys, NULL, NULL, d->value, e);
	if (err)
		device_config_free(d);
	return err;
}
