/*
 * Everything that mvm says about itself, made from the option table and the registry: --help,
 * --list-devices, the man page, bash completion and the README's table.
 */
#ifndef VMM_HELP_H
#define VMM_HELP_H

#include <stdio.h>

#include "devices/registry.h"
#include "vmm/error.h"

/* Is there help on it? 0, or -EINVAL with what was meant (without the flag). */
int help_check_topic(const char *topic, struct error *e);

/* --help (topic NULL) or --help=TOPIC with one that help_check_topic() accepts. */
void help_print(device_rows rows, const char *topic, FILE *out);
void help_version(FILE *out);
void help_list_devices(device_rows rows, FILE *out);

/* `mvm NAME --help`: its verbs. */
void help_command(const struct command *command, FILE *out);

/* The forms for other programs: topics "man", "bash" and "markdown". */
void help_man(device_rows rows, FILE *out);
void help_bash(device_rows rows, FILE *out);
void help_markdown(device_rows rows, FILE *out);

/* What they share. */
struct help_pair {
	const char *term, *text; /* the last has term NULL */
};
extern const struct help_pair help_examples[];	  /* a command line; what it does */
extern const struct help_pair help_exit_status[]; /* a number; what it means */
extern const struct help_pair help_environment[];
extern const struct help_pair help_irqchips[]; /* --irqchip's word; what is whose, and the price */
const char *help_group_title(unsigned group);

struct option;
struct device_key;
/* Everything to say of a key or an option: help, range and default, in one paragraph. */
void help_key_text(const struct device_key *key, char *buf, size_t size);
/* Likewise of a flag; for devices its models. */
void help_option_text(device_rows rows, const struct option *o, char *buf, size_t size);
/* "MODEL[:TARGET]" as the row takes it. */
void help_row_term(const struct device_row *row, char *buf, size_t size);
/* Its hw and summary. */
void help_row_text(device_rows rows, const struct device_row *row, char *buf, size_t size);

#endif
