/*
 * The command line as a table: one const row per option says how it is spelt, what it takes and
 * where the value goes. Parser, --config files, --print-config, --help, man page, completion and
 * the option tests read these rows. What devices take comes from the rows of the registry.
 */
#ifndef VMM_OPTIONS_H
#define VMM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/config.h"
#include "vmm/error.h"

enum option_group {
	GROUP_GUEST,
	GROUP_MACHINE,
	GROUP_DEVICES,
	GROUP_MEASURE,
	GROUP_CONFIG,
	GROUP_INFO,
	GROUP_COUNT
};

enum option_type {
	OPTION_KEY,    /* one value, of key.type, stored at offset in struct config */
	OPTION_CUSTOM, /* set() takes the value, print() writes it */
	OPTION_DEVICE, /* a device of class */
	OPTION_FILE,   /* reads more options from a file */
	OPTION_ACTION, /* does something else than run a machine */
};

/* What the shell offers to complete the value with, where choices do not say it. */
enum option_hint { HINT_NONE, HINT_FILE, HINT_DIR };

struct option {
	struct device_key key; /* name (NULL for OPTION_DEVICE), fallback, choices, range, help */
	enum option_type type;
	enum option_group group;
	const char *value;   /* how help shows the value: "FILE"; NULL: as choices, or none */
	bool value_optional; /* --NAME alone is right as well */
	bool empty_ok;	     /* --NAME= is a value */
	enum option_hint hint;
	size_t offset;		       /* OPTION_KEY */
	bool joins;		       /* OPTION_KEY, strings: repeated ones add up, by a space */
	enum device_class class;       /* OPTION_DEVICE */
	enum config_action action;     /* OPTION_ACTION */
	bool ends;		       /* OPTION_ACTION: what follows is not looked at */
	const struct device_key *keys; /* OPTION_CUSTOM: of VALUE[,KEY=VALUE]..., or NULL */
	int (*set)(struct config *config, const char *value, struct error *e);
	void (*print)(const struct config *config, FILE *out); /* one line for a file */
};

/* In the order help shows them, by group. The last one's option_name() is NULL. */
extern const struct option option_table[];

/* Without dashes. */
const char *option_name(const struct option *o);
const char *option_help(const struct option *o);
/* What help shows after "--NAME=": "FILE", "auto|linux64|pvh" …; NULL if it takes no value. */
const char *option_value_text(const struct option *o);
bool option_takes_value(const struct option *o);
const struct option *option_find(const char *name, size_t len);

#endif
