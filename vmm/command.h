/*
 * Commands: what mvm does beside running a machine, `mvm NAME VERB [ARGUMENT]...`. One const table
 * a command says its verbs, what they take and what they do; parser, --help, man page and
 * completion read it. The tables stand with what they are about (devices/), listed in
 * device_commands[] of devices/registry.h.
 */
#ifndef VMM_COMMAND_H
#define VMM_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "devices/device.h"
#include "vmm/error.h"

#define COMMAND_ANY ((unsigned)-1) /* max_args: no limit */

struct command_call;

struct command_verb {
	const char *words; /* "list", "vf create": one word or two */
	const char *args;  /* as help shows them: "PF N"; "" for none */
	const char *help;
	unsigned min_args, max_args;	  /* how many words that are no option and no key */
	const struct device_key *options; /* --NAME[=VALUE], anywhere; NULL: none */
	const struct device_key *keys;	  /* NAME=VALUE words; NULL: none */
	/* What the shell offers beside: words, "@pci", "@mdev", "@file", "--NAME=@file"; NULL */
	const char *complete;
	/* 0, or -errno with a message: -EINVAL is exit status 2, others 1. */
	int (*run)(const struct command_call *call, struct error *e);
	/* For the shell: ",NAME=VALUE" behind a word, which run() parses; NULL: none */
	const struct device_key *word_keys;
};

struct command {
	const char *name;
	const char *summary;
	const struct command_verb *verb; /* the last has words NULL */
};

/* A verb as it was called; checked against its table. */
struct command_call {
	const struct command_verb *verb;
	unsigned argc;
	char **argv; /* the words that are no option and no key, argc of them */
	FILE *out;
	struct device_value option[DEVICE_MAX_KEYS]; /* parallel to verb->options */
	struct device_value key[DEVICE_MAX_KEYS];    /* parallel to verb->keys */
};

/* The value of one that the table has; asking for another is a bug and aborts. */
const struct device_value *command_option(const struct command_call *call, const char *name);
const struct device_value *command_key(const struct command_call *call, const char *name);

/* A NULL-terminated list of them; device_commands[] is one. */
typedef const struct command *const *command_rows;

/* NULL: there is none of that name. */
const struct command *command_find(command_rows rows, const char *name);

/*
 * argv[0] is the command's name. What it has to say goes to out. Returns an exit status (enum
 * machine_status); e->msg says what went wrong.
 */
int command_run(const struct command *command, int argc, char **argv, FILE *out, struct error *e);

#endif
