/*
 * What the files options*.c share. Messages made here are without the flag; the caller that knows
 * it puts it in front.
 */
#ifndef VMM_OPTIONS_INTERNAL_H
#define VMM_OPTIONS_INTERNAL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/options.h"
#include "vmm/suggest.h"

/* Text put together in a fixed buffer; what does not fit is cut, the end is always there. */
struct text {
	char buf[600];
	size_t len;
};
void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "; did you mean "X"?" with before in front of X (dashes), or nothing. */
void text_add_suggestion(struct text *t, const struct suggest *s, const char *before);

/* Files that are being read, innermost first: none is read inside itself. */
struct options_source {
	const struct options_source *up;
	const char *path;
	uint64_t dev, ino;
	unsigned depth;
};

/* --name or --name=value (value NULL: none given) from argv (source NULL) or a file. */
int options_apply(struct config *config, const struct options_source *source, const char *name,
		  size_t len, const char *value, struct error *e);

/* Every line of the file. Its messages are complete: the file and line, or the flag. */
int options_file(struct config *config, const struct options_source *up, const char *path,
		 struct error *e);

/* --CLASS=value. Adds a device. */
int options_device(struct config *config, enum device_class class, const char *value,
		   struct error *e);

/* Prefixes "--NAME=VALUE: " (value NULL: none), cut so that the message behind it has room. */
void options_prefix(struct error *e, const char *name, const char *value);

/*
 * The next field of a list separated by commas, in which ",," stands for one comma. *list moves
 * behind it, and is NULL after the last. The caller frees it; NULL: no memory.
 */
char *option_field(const char **list);
/* The other way round. */
void option_print_field(const char *text, FILE *out);

int option_parse_bool(const char *text, bool *out, struct error *e);
/* Decimal or 0x…; */
int option_parse_uint(const char *text, uint64_t *out, struct error *e);
/* Bytes, or with K, M, G, T (binary; KiB … as well). */
int option_parse_size(const char *text, uint64_t *out, struct error *e);
/* The shortest text that parses to the same; buf is returned. */
const char *option_format_size(uint64_t size, char *buf, size_t len);

/* --stats-interval: "1s", "500ms" … */
int options_set_interval(struct config *config, const char *value, struct error *e);
void options_print_interval(const struct config *config, FILE *out);
/* --trace. */
extern const struct device_key options_trace_keys[];
int options_set_trace(struct config *config, const char *value, struct error *e);
void options_print_trace(const struct config *config, FILE *out);

/* text → *value (set; not given) as the key's type and range have it. Frees a former text. */
int option_parse_value(const struct device_key *key, const char *text, struct device_value *value,
		       struct error *e);
/* How messages and help show what a key takes: "on|off", "N", "SIZE", "TEXT" or its choices. */
const char *option_key_value_text(const struct device_key *key);
/* The index-th of "a|b|c"; len 0 past the end. */
const char *option_choice(const char *choices, unsigned index, size_t *len);

/*
 * KEY=VALUE[,KEY=VALUE]... into values[], which is parallel to keys; list NULL: none. A key that
 * is called ignored (or NULL) is skipped. Defaults are filled in for the rest.
 */
int option_parse_keys(const struct device_key *keys, const char *list, const char *ignored,
		      struct device_value *values, struct error *e);
/* ",KEY=VALUE" for each value that was given. */
void option_print_keys(const struct device_key *keys, const struct device_value *values, FILE *out);
void option_print_value(const struct device_key *key, const struct device_value *value, FILE *out);

#endif
