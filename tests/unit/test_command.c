/*
 * Commands: how a call is sorted by a table of verbs, what is refused and with which words, and
 * that help shows the table. With a table of the test's own.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registry.h"
#include "test_options.h"
#include "vmm/command.h"
#include "vmm/help.h"
#include "vmm/machine.h"

static const struct device_key options[] = {
	{ .name = "json", .type = KEY_BOOL, .fallback = "off", .help = "as JSON" },
	{ .name = "size",
	  .type = KEY_SIZE,
	  .fallback = "4K",
	  .min = 1,
	  .max = 1 << 20,
	  .help = "a size" },
	{ .name = NULL },
};
static const struct device_key keys[] = {
	{ .name = "mac", .type = KEY_STRING, .help = "an address" },
	{ .name = "trust", .type = KEY_BOOL, .help = "or not" },
	{ .name = NULL },
};

/* Says all that it was given. */
static int show(const struct command_call *call, struct error *e)
{
	(void)e;
	fprintf(call->out, "%s:", call->verb->words);
	for (unsigned i = 0; i < call->argc; i++)
		fprintf(call->out, " <%s>", call->argv[i]);
	if (call->verb->options)
		fprintf(call->out, " json=%d size=%d", (int)command_option(call, "json")->number,
			(int)command_option(call, "size")->number);
	if (call->verb->keys && command_key(call, "mac")->given)
		fprintf(call->out, " mac=%s", command_key(call, "mac")->text);
	if (call->verb->keys && command_key(call, "trust")->given)
		fprintf(call->out, " trust=%d", (int)command_key(call, "trust")->number);
	return 0;
}

static int fail(const struct command_call *call, struct error *e)
{
	return error_set(e, strcmp(call->argv[0], "usage") ? -EBUSY : -EINVAL, "it is so");
}

static const struct command_verb verbs[] = {
	{ "list", "[--json]", "shows all", 0, 0, options, NULL, NULL, show, NULL },
	{ "vf create", "PF N", "makes", 2, 2, NULL, NULL, "@pci", show, NULL },
	{ "vf set", "PF I KEY=VALUE...", "sets", 2, 2, options, keys, NULL, show, NULL },
	{ "bind", "BDF...", "binds", 1, COMMAND_ANY, options, NULL, "@pci", show, NULL },
	{ "fail", "HOW", "fails", 1, 1, NULL, NULL, NULL, fail, NULL },
	{ .words = NULL },
};
static const struct command command = { "tool", "does things", verbs };

/* Runs "tool" with the words of a line; *says is the output, or the message. */
static int run(const char *line, char **says)
{
	char copy[512], *argv[32], *save = NULL, *text = NULL;
	struct error e = { .msg = "" };
	int argc = 0, status;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	snprintf(copy, sizeof(copy), "tool %s", line);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	argv[argc] = NULL;
	status = command_run(&command, argc, argv, out, &e);
	fclose(out);
	if (status) {
		cr_expect_str_eq(text, "", "%s: output with a failure", line);
		free(text);
		text = strdup(e.msg);
	} else {
		cr_expect_str_eq(e.msg, "");
	}
	*says = text;
	return status;
}

Test(command, words_options_and_keys)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{ "list", "list: json=0 size=4096" },
		{ "list --json", "list: json=1 size=4096" },
		{ "list --json=off --size 8K", "list: json=0 size=8192" },
		{ "vf create 01:00.0 4", "vf create: <01:00.0> <4>" },
		{ "vf set 01:00.0 --json 1 mac=52:54:00:00:00:01 trust=on",
		  "vf set: <01:00.0> <1> json=1 size=4096 mac=52:54:00:00:00:01 trust=1" },
		{ "bind a b c --size=1 d", "bind: <a> <b> <c> <d> json=0 size=1" },
		{ "bind -- --json -x", "bind: <--json> <-x> json=0 size=4096" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *says;

		cr_expect_eq(run(cases[i].line, &says), STATUS_OK, "%s: %s", cases[i].line, says);
		cr_expect_str_eq(says, cases[i].says);
		free(says);
	}
	test_no_leaks();
}

Test(command, refusals)
{
	static const struct {
		const char *line;
		int status;
		const char *says;
	} cases[] = {
		{ "", STATUS_USAGE, "tool needs to know what to do; mvm tool --help" },
		{ "lsit", STATUS_USAGE, "did you mean \"list\"?" },
		{ "xyzzy", STATUS_USAGE, "\"xyzzy\" is nothing that tool does; mvm tool --help" },
		{ "vf", STATUS_USAGE, "tool vf needs to know what to do" },
		{ "vf craete a 1", STATUS_USAGE, "did you mean \"create\"?" },
		{ "v", STATUS_USAGE, "\"v\" is nothing" },
		{ "list all", STATUS_USAGE,
		  "tool list: \"all\" is one word too many; it is: list [--json]" },
		{ "vf create a", STATUS_USAGE, "too few words; it is: vf create PF N" },
		{ "vf create a 1 2", STATUS_USAGE, "one word too many" },
		{ "list --jsno", STATUS_USAGE, "--jsno: no such option; did you mean \"--json\"?" },
		{ "list --size", STATUS_USAGE, "--size needs a value: --size=SIZE" },
		{ "list --size=2M", STATUS_USAGE, "--size: " },
		{ "list --json=maybe", STATUS_USAGE, "--json: " },
		{ "list -json", STATUS_USAGE, "two dashes" },
		{ "vf create a --json 1", STATUS_USAGE, "--json: no such option" },
		{ "vf set a 1 mca=1", STATUS_USAGE, "mca: no such key; did you mean \"mac\"?" },
		{ "vf set a 1 trust=perhaps", STATUS_USAGE, "trust: " },
		{ "fail usage", STATUS_USAGE, "tool fail: it is so" },
		{ "fail badly", STATUS_FAILED, "tool fail: it is so" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *says;

		cr_expect_eq(run(cases[i].line, &says), cases[i].status, "%s", cases[i].line);
		cr_expect(strstr(says, cases[i].says), "%s: %s", cases[i].line, says);
		free(says);
	}
	test_no_leaks();
}

/* Repeated strings are freed, and so are those of a call that is refused afterwards. */
Test(command, no_leaks)
{
	char *says;

	cr_expect_eq(run("vf set a 1 mac=x mac=y", &says), STATUS_OK);
	cr_expect(strstr(says, "mac=y"), "%s", says);
	free(says);
	cr_expect_eq(run("vf set a 1 mac=x trust=7", &says), STATUS_USAGE);
	free(says);
	test_no_leaks();
}

Test(command, help_shows_the_table)
{
	static const char *const lines[] = { "--help", "list --help", "vf create -h",
					     "nonsense --help" };

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char *says;

		cr_expect_eq(run(lines[i], &says), STATUS_OK);
		for (const struct command_verb *v = verbs; v->words; v++) {
			cr_expect(strstr(says, v->words), "%s", v->words);
			cr_expect(strstr(says, v->help), "%s", v->words);
		}
		cr_expect(strstr(says, "--size=SIZE"));
		cr_expect(strstr(says, "mac=TEXT"));
		free(says);
	}
}

Test(command, is_found_by_name)
{
	static const struct command *const rows[] = { &command, NULL };

	cr_expect_eq(command_find(rows, "tool"), &command);
	cr_expect_null(command_find(rows, "too"));
	cr_expect_null(command_find(rows, ""));
}

Test(command, backend_lines_that_are_wrong_say_why)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{ "backend blk", "IMAGE" },
		{ "backend blk image", "--socket=PATH" },
		{ "backend blk --socket=x --fd=3 image", "--socket=PATH" },
		{ "backend blk --sokcet=x image", "did you mean \"--socket\"" },
		{ "backend blk --fd=three image", "--fd" },
		{ "backend blk --socket=x one two", "one word too many" },
		{ "backend blk --socket=x image,rw=on", "no key \"rw\"" },
		{ "backend blk --socket=x image,queues=99", "queues" },
		{ "backend blk --fd=7777 image", "--fd=7777 is no socket" },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char line[100], *argv[8];
		struct error e = { .msg = "" };
		int argc = 0;

		snprintf(line, sizeof(line), "%s", cases[i].line);
		for (char *word = strtok(line, " "); word && argc < 8; word = strtok(NULL, " "))
			argv[argc++] = word;
		cr_expect_eq(command_run(&command_backend, argc, argv, stderr, &e), STATUS_USAGE,
			     "%s", cases[i].line);
		cr_expect(strstr(e.msg, cases[i].says), "%s: %s", cases[i].line, e.msg);
	}
}
