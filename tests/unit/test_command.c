/*
 * Commands (mvm WORDS …): which command line is one, what is wrong with one, and its help.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "vmm/command.h"
#include "vmm/help.h"
#include "vmm/machine.h"

#define MAX_ARGS 8

static int split(char *line, char **argv)
{
	int argc = 0;

	for (char *word = strtok(line, " "); word && argc < MAX_ARGS; word = strtok(NULL, " "))
		argv[argc++] = word;
	return argc;
}

static const struct command *find(const char *text)
{
	char line[200], *argv[MAX_ARGS];

	snprintf(line, sizeof(line), "%s", text);
	return command_find(split(line, argv), argv);
}

Test(command, is_found_by_its_words)
{
	for (const struct command *const *c = command_table; *c; c++) {
		char line[100];

		snprintf(line, sizeof(line), "mvm %s", (*c)->words);
		cr_expect_eq(find(line), *c);
		cr_expect((*c)->summary && *(*c)->summary && (*c)->operand && (*c)->run);
	}
	cr_expect_null(find("mvm"));
	cr_expect_null(find("mvm backend"));
	cr_expect_null(find("mvm --backend blk"));
	cr_expect_null(find("mvm backend blk2"));
	cr_expect_null(find("mvm --cpus=2 backend blk"));
}

Test(command, wrong_lines_say_why)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{ "mvm backend blk", "IMAGE is missing" },
		{ "mvm backend blk --socket=x", "IMAGE is missing" },
		{ "mvm backend blk image", "--socket=PATH" },
		{ "mvm backend blk --socket=x --fd=3 image", "--socket=PATH" },
		{ "mvm backend blk --socket image", "needs a value" },
		{ "mvm backend blk --sokcet=x image", "did you mean \"--socket\"" },
		{ "mvm backend blk --socket=x --socket=y image", "given twice" },
		{ "mvm backend blk --fd=three image", "--fd" },
		{ "mvm backend blk --socket=x one two", "there is one IMAGE already" },
		{ "mvm backend blk --socket=x image,rw=on", "no key \"rw\"" },
		{ "mvm backend blk --socket=x image,queues=99", "queues" },
		{ "mvm backend blk --fd=7777 image", "--fd=7777 is no socket" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char line[200], *argv[MAX_ARGS];
		struct error e = { .msg = "" };
		int argc, status;

		snprintf(line, sizeof(line), "%s", cases[i].line);
		argc = split(line, argv);
		status = command_main(command_find(argc, argv), argc, argv, &e);
		cr_expect_neq(status, STATUS_OK, "%s", cases[i].line);
		cr_expect(strstr(e.msg, cases[i].says), "\"%s\" does not say \"%s\"", e.msg,
			  cases[i].says);
		cr_expect_eq(strncmp(e.msg, "backend blk: ", 13), 0, "%s", e.msg);
	}
}

Test(command, help_has_all_of_it)
{
	for (const struct command *const *c = command_table; *c; c++) {
		char *text = NULL, *man = NULL;
		size_t len;
		FILE *out = open_memstream(&text, &len);

		help_command(*c, out);
		fclose(out);
		out = open_memstream(&man, &len);
		help_man(device_registry, out);
		fclose(out);
		cr_expect(strstr(man, (*c)->words), "the man page has no %s", (*c)->words);
		for (const struct device_key *k = (*c)->options; k->name; k++)
			cr_expect(strstr(text, k->name) && strstr(man, k->name), "%s", k->name);
		for (const struct device_key *k = (*c)->keys; k->name; k++)
			cr_expect(strstr(text, k->name), "%s", k->name);
		free(text);
		free(man);
	}
}
