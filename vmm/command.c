/*
 * Commands: see command.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/command.h"
#include "vmm/help.h"
#include "vmm/machine.h"
#include "vmm/options_internal.h"

/* How many of argv's words (from 1 on) the command's name is; 0: it is another. */
static int words_matched(const struct command *c, int argc, char **argv)
{
	const char *at = c->words;
	int n = 0;

	while (*at) {
		size_t len = strcspn(at, " ");

		if (n + 1 >= argc || strlen(argv[n + 1]) != len ||
		    memcmp(argv[n + 1], at, len) != 0)
			return 0;
		n++;
		at += len + strspn(at + len, " ");
	}
	return n;
}

const struct command *command_find(int argc, char **argv)
{
	for (const struct command *const *c = command_table; *c; c++)
		if (words_matched(*c, argc, argv))
			return *c;
	return NULL;
}

void command_usage(const struct command *c, char *buf, size_t size)
{
	struct text t = { .len = 0 };

	text_add(&t, "mvm %s", c->words);
	for (const struct device_key *o = c->options; o->name; o++)
		text_add(&t, " [--%s=%s]", o->name, option_key_value_text(o));
	text_add(&t, " %s%s", c->operand, c->keys->name ? "[,KEY=VALUE]..." : "");
	snprintf(buf, size, "%s", t.buf);
}

static int option(const struct command *c, struct command_line *line, const char *arg,
		  struct error *e)
{
	size_t len = strcspn(arg, "=");
	struct text t = { .len = 0 };
	struct suggest s;

	suggest_start(&s, arg, len);
	for (unsigned i = 0; c->options[i].name; i++) {
		struct device_value *value = &line->option[i];
		int err;

		suggest_offer(&s, c->options[i].name);
		if (strlen(c->options[i].name) != len || memcmp(arg, c->options[i].name, len) != 0)
			continue;
		if (value->given)
			return error_set(e, -EINVAL, "--%s is given twice", c->options[i].name);
		if (!arg[len])
			return error_set(e, -EINVAL, "--%s needs a value: --%s=%s",
					 c->options[i].name, c->options[i].name,
					 option_key_value_text(&c->options[i]));
		err = option_parse_value(&c->options[i], arg + len + 1, value, e);
		if (err)
			error_prefix(e, "--%s: ", c->options[i].name);
		value->given = !err;
		return err;
	}
	text_add(&t, "no option --%.60s", arg);
	text_add_suggestion(&t, &s, "--");
	return error_set(e, -EINVAL, "%s", t.buf);
}

static int operand(const struct command *c, struct command_line *line, const char *arg,
		   struct error *e)
{
	const char *list = arg;
	int err;

	if (line->operand)
		return error_set(e, -EINVAL, "\"%.100s\": there is one %s already", arg,
				 c->operand);
	line->operand = option_field(&list);
	if (!line->operand)
		return error_set(e, -ENOMEM, "out of memory");
	err = option_parse_keys(c->keys, list, NULL, line->key, e);
	if (err)
		error_prefix(e, "%.200s: ", arg);
	return err;
}

static int parse(const struct command *c, struct command_line *line, int argc, char **argv,
		 bool *help, struct error *e)
{
	int err = 0;

	*help = false;
	for (int i = words_matched(c, argc, argv) + 1; i < argc && !err && !*help; i++) {
		if (strcmp(argv[i], "--help") == 0)
			*help = true;
		else if (strncmp(argv[i], "--", 2) == 0)
			err = option(c, line, argv[i] + 2, e);
		else
			err = operand(c, line, argv[i], e);
	}
	if (!err && !*help && !line->operand)
		err = error_set(e, -EINVAL, "%s is missing; mvm %s --help says more", c->operand,
				c->words);
	return err;
}

static void values_free(struct device_value values[DEVICE_MAX_KEYS])
{
	for (unsigned i = 0; i < DEVICE_MAX_KEYS; i++)
		free(values[i].text);
}

int command_main(const struct command *c, int argc, char **argv, struct error *e)
{
	struct command_line line = { .operand = NULL };
	int status = STATUS_OK;
	bool help;

	if (parse(c, &line, argc, argv, &help, e)) {
		status = STATUS_USAGE;
	} else if (help) {
		help_command(c, stdout);
		if (fflush(stdout) != 0 || ferror(stdout)) {
			error_set_errno(e, -errno, "cannot write to standard output");
			status = STATUS_FAILED;
		}
	} else {
		status = c->run(&line, e);
	}
	if (status != STATUS_OK)
		error_prefix(e, "%s: ", c->words);
	values_free(line.option);
	values_free(line.key);
	free(line.operand);
	return status;
}
