/*
 * Finding the verb, sorting its words, calling it: see command.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/command.h"
#include "vmm/help.h"
#include "vmm/machine.h"
#include "vmm/options_internal.h"

const struct command *command_find(command_rows rows, const char *name)
{
	for (; *rows; rows++)
		if (strcmp((*rows)->name, name) == 0)
			return *rows;
	return NULL;
}

static const struct device_value *value_of(const struct device_key *keys,
					   const struct device_value *values, const char *name)
{
	for (unsigned i = 0; keys && keys[i].name; i++)
		if (strcmp(keys[i].name, name) == 0)
			return &values[i];
	abort(); /* not reachable by input: the table lacks it */
}

const struct device_value *command_option(const struct command_call *call, const char *name)
{
	return value_of(call->verb->options, call->option, name);
}

const struct device_value *command_key(const struct command_call *call, const char *name)
{
	return value_of(call->verb->keys, call->key, name);
}

/* ---- the verb -------------------------------------------------------------------------------- */

/* How many of the words a verb has stand at argv: all of them (returned), or 0. */
static int matches(const struct command_verb *verb, int argc, char **argv)
{
	const char *second = strchr(verb->words, ' ');
	size_t len = second ? (size_t)(second - verb->words) : strlen(verb->words);

	if (argc < 1 || strlen(argv[0]) != len || memcmp(argv[0], verb->words, len) != 0)
		return 0;
	if (!second)
		return 1;
	return argc > 1 && strcmp(argv[1], second + 1) == 0 ? 2 : 0;
}

/* Does a verb of two words begin with this one? */
static bool is_first(const struct command *c, const char *word)
{
	size_t len = strlen(word);

	for (const struct command_verb *v = c->verb; v->words; v++)
		if (strncmp(v->words, word, len) == 0 && v->words[len] == ' ')
			return true;
	return false;
}

static int unknown_verb(const struct command *c, int argc, char **argv, struct error *e)
{
	bool first = argc > 0 && is_first(c, argv[0]);
	const char *wrong = argc > (first ? 1 : 0) ? argv[first ? 1 : 0] : NULL;
	struct text t = { .len = 0 };
	struct suggest s;

	suggest_start(&s, wrong ? wrong : "", wrong ? strlen(wrong) : 0);
	if (wrong)
		text_add(&t, "\"%.60s\" is nothing that %s%s%s does", wrong, c->name,
			 first ? " " : "", first ? argv[0] : "");
	else
		text_add(&t, "%s%s%s needs to know what to do", c->name, first ? " " : "",
			 first ? argv[0] : "");
	for (const struct command_verb *v = c->verb; v->words && wrong; v++) {
		size_t len = first ? strlen(argv[0]) : 0;

		if (!first)
			suggest_offer(&s, v->words);
		else if (strncmp(v->words, argv[0], len) == 0 && v->words[len] == ' ')
			suggest_offer(&s, v->words + len + 1);
	}
	if (wrong)
		text_add_suggestion(&t, &s, "");
	text_add(&t, "; mvm %s --help lists all", c->name);
	return error_set(e, -EINVAL, "%s", t.buf);
}

/* ---- its words ------------------------------------------------------------------------------- */

static int unknown_option(const struct command_verb *v, const char *name, size_t len,
			  struct error *e)
{
	struct text t = { .len = 0 };
	struct suggest s;

	suggest_start(&s, name, len);
	for (const struct device_key *k = v->options; k && k->name; k++)
		suggest_offer(&s, k->name);
	text_add(&t, "--%.*s: no such option", (int)(len > 60 ? 60 : len), name);
	text_add_suggestion(&t, &s, "--");
	return error_set(e, -EINVAL, "%s", t.buf);
}

/* --NAME, --NAME=VALUE, or --NAME VALUE with the value at next; *used says whether it was. */
static int take_option(struct command_call *call, const char *word, char *next, bool *used,
		       struct error *e)
{
	const char *name = word + 2;
	size_t len = strcspn(name, "=");
	const char *value = name[len] ? name + len + 1 : NULL;
	unsigned i = 0;
	int err;

	*used = false;
	for (const struct device_key *k = call->verb->options; k && k->name; k++, i++) {
		if (strlen(k->name) != len || memcmp(k->name, name, len) != 0)
			continue;
		if (!value && k->type == KEY_BOOL) {
			value = "on";
		} else if (!value) {
			if (!next)
				return error_set(e, -EINVAL, "--%s needs a value: --%s=%s", k->name,
						 k->name, option_key_value_text(k));
			value = next;
			*used = true;
		}
		err = option_parse_value(k, value, &call->option[i], e);
		if (err)
			error_prefix(e, "--%s: ", k->name);
		call->option[i].given = true;
		return err;
	}
	return unknown_option(call->verb, name, len, e);
}

/* NAME=VALUE of a key that the verb has; 0 if it is something else, 1 if taken. */
static int take_key(struct command_call *call, const char *word, struct error *e)
{
	size_t len = strcspn(word, "=");
	unsigned i = 0;
	int err;

	for (const struct device_key *k = call->verb->keys; k && k->name; k++, i++) {
		if (!word[len] || strlen(k->name) != len || memcmp(k->name, word, len) != 0)
			continue;
		err = option_parse_value(k, word + len + 1, &call->key[i], e);
		if (err) {
			error_prefix(e, "%s: ", k->name);
			return err;
		}
		call->key[i].given = true;
		return 1;
	}
	return 0;
}

static int not_a_key(const struct command_verb *v, const char *word, struct error *e)
{
	size_t len = strcspn(word, "=");
	struct text t = { .len = 0 };
	struct suggest s;

	suggest_start(&s, word, len);
	text_add(&t, "\"%.60s\" is one word too many", word);
	if (v->keys && word[len]) {
		t.len = 0;
		text_add(&t, "%.*s: no such key", (int)(len > 60 ? 60 : len), word);
		for (const struct device_key *k = v->keys; k->name; k++)
			suggest_offer(&s, k->name);
		text_add_suggestion(&t, &s, "");
	}
	text_add(&t, "; it is: %s%s%s", v->words, *v->args ? " " : "", v->args);
	return error_set(e, -EINVAL, "%s", t.buf);
}

/* The defaults of values that were not given. */
static int fill_in(const struct device_key *keys, struct device_value *values, struct error *e)
{
	for (unsigned i = 0; keys && keys[i].name; i++) {
		int err;

		if (values[i].given || !keys[i].fallback)
			continue;
		err = option_parse_value(&keys[i], keys[i].fallback, &values[i], e);
		if (err)
			return err;
	}
	return 0;
}

static int sort_words(struct command_call *call, int argc, char **argv, struct error *e)
{
	const struct command_verb *v = call->verb;
	bool options = true, used;
	int err;

	for (int i = 0; i < argc; i++) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
			continue;
		}
		if (options && strncmp(argv[i], "--", 2) == 0) {
			err = take_option(call, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &used,
					  e);
			if (err)
				return err;
			i += used;
			continue;
		}
		if (options && argv[i][0] == '-' && argv[i][1])
			return error_set(e, -EINVAL, "%.60s: options begin with two dashes",
					 argv[i]);
		err = take_key(call, argv[i], e);
		if (err < 0)
			return err;
		if (err)
			continue;
		if (call->argc == v->max_args)
			return not_a_key(v, argv[i], e);
		call->argv[call->argc++] = argv[i];
	}
	if (call->argc < v->min_args)
		return error_set(e, -EINVAL, "too few words; it is: %s %s", v->words, v->args);
	err = fill_in(v->options, call->option, e);
	return err ? err : fill_in(v->keys, call->key, e);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* "--help" or "-h", before a "--". */
static bool wants_help(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

static int call_verb(struct command_call *call, int argc, char **argv, struct error *e)
{
	int err;

	call->argv = calloc((size_t)argc + 1, sizeof(*call->argv));
	if (!call->argv)
		return error_set_errno(e, -ENOMEM, "cannot sort the words");
	err = sort_words(call, argc, argv, e);
	if (!err)
		err = call->verb->run(call, e);
	for (unsigned i = 0; i < DEVICE_MAX_KEYS; i++) {
		free(call->option[i].text);
		free(call->key[i].text);
	}
	free(call->argv);
	return err;
}

int command_run(const struct command *command, int argc, char **argv, FILE *out, struct error *e)
{
	struct command_call call = { .out = out };
	int err, words = 0;

	e->msg[0] = '\0';
	if (wants_help(argc - 1, argv + 1)) {
		help_command(command, out);
		return STATUS_OK;
	}
	for (const struct command_verb *v = command->verb; v->words && !words; v++) {
		words = matches(v, argc - 1, argv + 1);
		call.verb = v;
	}
	if (!words) {
		err = unknown_verb(command, argc - 1, argv + 1, e);
	} else {
		err = call_verb(&call, argc - 1 - words, argv + 1 + words, e);
		if (err)
			error_prefix(e, "%s %s: ", command->name, call.verb->words);
	}
	return err == 0 ? STATUS_OK : err == -EINVAL ? STATUS_USAGE : STATUS_FAILED;
}
