/*
 * What mvm does beside running a machine: "mvm WORDS OPTIONS OPERAND". One const row a command says
 * what it takes; parsing, its --help, and the sections of mvm --help and the man page come from it.
 */
#ifndef VMM_COMMAND_H
#define VMM_COMMAND_H

#include <stdio.h>

#include "devices/device.h"
#include "vmm/error.h"

/* A command line as parsed; everything in it lives until run() returns. */
struct command_line {
	struct device_value option[DEVICE_MAX_KEYS]; /* parallel to the row's options */
	char *operand;				     /* without its keys */
	struct device_value key[DEVICE_MAX_KEYS];    /* parallel to the row's keys */
};

struct command {
	const char *words;		  /* "backend blk" */
	const char *summary;		  /* a sentence */
	const char *operand;		  /* how help shows it: "IMAGE"; it is required */
	const struct device_key *options; /* --NAME=VALUE; ends with name NULL */
	const struct device_key *keys;	  /* of OPERAND[,KEY=VALUE]...; likewise */
	/* Returns the exit status (enum machine_status); with a message in e if it is not 0. */
	int (*run)(const struct command_line *line, struct error *e);
};

/* NULL-terminated, in the order help shows them. devices/commands.c. */
extern const struct command *const command_table[];

/* The command that argv names, or NULL: then it is an ordinary command line. */
const struct command *command_find(int argc, char **argv);
/* Parses, and runs it or prints its help. The exit status, with a message in e if it is not 0. */
int command_main(const struct command *c, int argc, char **argv, struct error *e);

/* "mvm WORDS [--OPTION=VALUE]... OPERAND[,KEY=VALUE]..." */
void command_usage(const struct command *c, char *buf, size_t size);

#endif
