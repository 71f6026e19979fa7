/*
 * argv → config by way of the option table. In: words. Out: a filled struct config, or one message
 * that begins with the flag as it was written. Nothing is opened but --config files, and nothing is
 * printed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/help.h"
#include "vmm/options_internal.h"

#define MAX_SHOWN 160 /* bytes of a flag in a message */

void options_prefix(struct error *e, const char *name, const char *value)
{
	struct text t = { .len = 0 };
	size_t len;

	text_add(&t, "--%.60s", name);
	if (value) {
		len = strlen(value);
		if (len > MAX_SHOWN)
			for (len = MAX_SHOWN; len && (value[len] & 0xc0) == 0x80;)
				len--; /* not into the middle of a UTF-8 character */
		text_add(&t, "=%.*s%s", (int)len, value, value[len] ? "…" : "");
	}
	error_prefix(e, "%s: ", t.buf);
}

static int unknown_option(const char *name, size_t len, struct error *e)
{
	struct text t = { .len = 0 };
	struct suggest s;

	suggest_start(&s, name, len);
	for (const struct option *o = option_table; option_name(o); o++)
		suggest_offer(&s, option_name(o));
	text_add(&t, "no such option");
	text_add_suggestion(&t, &s, "--");
	if (!s.best)
		text_add(&t, "; mvm --help lists all");
	return error_set(e, -EINVAL, "%s", t.buf);
}

/* What a value must look like: "--kernel=FILE". */
static int missing_value(const struct option *o, struct error *e)
{
	struct text t = { .len = 0 };

	text_add(&t, "needs a value: --%s=%s", option_name(o), option_value_text(o));
	if (o->type == OPTION_DEVICE)
		text_add(&t, "; mvm --help=%s tells more", option_name(o));
	return error_set(e, -EINVAL, "%s", t.buf);
}

static int join(char **to, const char *more, struct error *e)
{
	char *joined;

	if (!*more)
		return 0;
	if (asprintf(&joined, "%s%s%s", *to ? *to : "", *to && **to ? " " : "", more) < 0)
		return error_set_errno(e, -ENOMEM, "cannot keep the value");
	free(*to);
	*to = joined;
	return 0;
}

static int set_text(char **to, const char *text, struct error *e)
{
	char *copy = strdup(text);

	if (!copy)
		return error_set_errno(e, -ENOMEM, "cannot keep the value");
	free(*to);
	*to = copy;
	return 0;
}

static int set_key(struct config *config, const struct option *o, const char *text, struct error *e)
{
	void *field = (char *)config + o->offset;
	struct device_value value = { 0 };
	int err;

	if (o->key.type == KEY_STRING)
		return o->joins ? join(field, text, e) : set_text(field, text, e);
	err = option_parse_value(&o->key, text, &value, e);
	if (err)
		return err;
	switch (o->key.type) {
	case KEY_BOOL:
		*(bool *)field = value.number;
		break;
	case KEY_SIZE:
		*(uint64_t *)field = value.number;
		break;
	default:
		*(unsigned *)field = (unsigned)value.number;
		break;
	}
	return 0;
}

static int set_action(struct config *config, const struct option *o, const char *value,
		      struct error *e)
{
	if (value) {
		int err = help_check_topic(value, e);

		if (err)
			return err;
		err = set_text(&config->topic, value, e);
		if (err)
			return err;
	}
	config->action = o->action;
	return 0;
}

static int apply(struct config *config, const struct options_source *source, const struct option *o,
		 const char *value, struct error *e)
{
	if (source && o->type == OPTION_ACTION)
		return error_set(e, -EINVAL, "only for the command line, not for a file");
	if (value && !option_takes_value(o))
		return error_set(e, -EINVAL, "takes no value");
	if (!value && option_takes_value(o) && !o->value_optional)
		return missing_value(o, e);
	if (value && !*value && !o->empty_ok)
		return missing_value(o, e);
	switch (o->type) {
	case OPTION_KEY:
		return set_key(config, o, value ? value : "on", e);
	case OPTION_CUSTOM:
		return o->set(config, value, e);
	case OPTION_DEVICE:
		return options_device(config, o->class, value, e);
	case OPTION_ACTION:
		return set_action(config, o, value, e);
	case OPTION_FILE:
		break; /* not here: its messages are complete */
	}
	return -EINVAL;
}

int options_apply(struct config *config, const struct options_source *source, const char *name,
		  size_t len, const char *value, struct error *e)
{
	const struct option *o = option_find(name, len);
	char shown[64];
	int err;

	if (o && o->type == OPTION_FILE && value && *value)
		return options_file(config, source, value, e);
	err = o ? apply(config, source, o, value, e) : unknown_option(name, len, e);
	if (err) {
		snprintf(shown, sizeof(shown), "%.*s", len > 60 ? 60 : (int)len, name);
		options_prefix(e, shown, value);
	}
	return err;
}

static bool is_command_slip(const char *word, struct suggest *s)
{
	suggest_start(s, word, strlen(word));
	for (command_rows c = device_commands; *c; c++)
		suggest_offer(s, (*c)->name);
	return s->best != NULL;
}

/* A word that is no option. What was meant can often be told from its looks. */
static int stray_word(const char *word, const char *before, struct error *e)
{
	const char *hint = "every word is an option; mvm --help lists them";
	size_t before_len = strlen(before);
	struct suggest s;

	if (!*word)
		return error_set(e, -EINVAL, "an empty word; every word is an option");
	if (strcmp(word, "--") == 0)
		return error_set(e, -EINVAL,
				 "--: there are only options, so nothing can follow it");
	if (*word == '-' && word[1]) {
		suggest_start(&s, word + 1, strcspn(word + 1, "="));
		for (const struct option *o = option_table; option_name(o); o++)
			suggest_offer(&s, option_name(o));
		if (s.best)
			return error_set(
				e, -EINVAL,
				"%.100s: options begin with two dashes; did you mean \"--%s\"?",
				word, s.best);
		return error_set(e, -EINVAL,
				 "%.100s: options begin with two dashes; mvm --help lists them",
				 word);
	}
	if (*word == ',' || (before_len && before[before_len - 1] == ','))
		hint = "it stands alone, but belongs to the word before it: no space at the comma";
	else if (strstr(word, "Image") || strstr(word, "vmlinu"))
		hint = "a kernel is given by --kernel=FILE";
	else if (strstr(word, ".img") || strstr(word, ".raw") || strstr(word, ".qcow2"))
		hint = "a disk is given by --blk=MODEL:IMAGE";
	else if (is_command_slip(word, &s))
		return error_set(e, -EINVAL,
				 "%.100s: there is no such command; did you mean \"%s\"?", word,
				 s.best);
	else if (strchr(word, '='))
		hint = "an option begins with two dashes; a key follows a comma, without a space";
	return error_set(e, -EINVAL, "%.100s: stray word; %s", word, hint);
}

int config_parse(struct config *config, int argc, char **argv, struct error *e)
{
	for (int i = 1; i < argc; i++) {
		const char *word = strcmp(argv[i], "-h") ? argv[i] : "--help";
		const char *name, *value;
		const struct option *o;
		size_t len;
		int err;

		if (strncmp(word, "--", 2) != 0 || !word[2])
			return stray_word(word, i > 1 ? argv[i - 1] : "", e);
		name = word + 2;
		len = strcspn(name, "=");
		value = name[len] ? name + len + 1 : NULL;
		o = option_find(name, len);
		/* --kernel FILE; a value that begins with -- wants the equals sign. */
		if (o && !value && option_takes_value(o) && !o->value_optional && i + 1 < argc &&
		    strncmp(argv[i + 1], "--", 2) != 0)
			value = argv[++i];
		err = options_apply(config, NULL, name, len, value, e);
		if (err)
			return err;
		if (o && o->type == OPTION_ACTION && o->ends)
			break;
	}
	return 0;
}
