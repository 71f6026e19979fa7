/*
 * Writing JSON (RFC 8259), indented for people. In: values in order. Out: text on a FILE. Names and
 * strings may be anything; bytes that are no UTF-8 become U+FFFD, so that it is always valid JSON.
 */
#ifndef VMM_JSON_H
#define VMM_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *out;
	unsigned depth;
	bool more;    /* something stands before, in the same object or array */
	bool compact; /* inside json_row(): no new lines */
};

/* name NULL: in an array, or the outermost. open is '{' or '['. */
void json_open(struct json *j, const char *name, char open);
void json_close(struct json *j, char close);
/* As json_open(), and all in it on one line. */
void json_open_row(struct json *j, const char *name, char open);
void json_u64(struct json *j, const char *name, uint64_t value);
void json_i64(struct json *j, const char *name, int64_t value);
void json_double(struct json *j, const char *name, double value); /* nine digits */
void json_bool(struct json *j, const char *name, bool value);
void json_string(struct json *j, const char *name, const char *value); /* NULL: null */
/* Only the quoted text. */
void json_quote(FILE *out, const char *text);

#endif
