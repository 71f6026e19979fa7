/*
 * Writing JSON (RFC 8259) to a stream: commas, quotes and escapes are put where they belong, so
 * that any bytes in a text give valid JSON. A member's name is NULL inside a list.
 */
#ifndef VMM_JSON_OUT_H
#define VMM_JSON_OUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json_out {
	FILE *out;
	unsigned depth;
	bool more; /* something stands before, at this depth */
};

void json_begin(struct json_out *j, FILE *out); /* the whole: one object */
void json_end(struct json_out *j);

void json_object(struct json_out *j, const char *name);
void json_object_end(struct json_out *j);
void json_list(struct json_out *j, const char *name);
void json_list_end(struct json_out *j);

/* Bytes that are no UTF-8 become U+FFFD. NULL: null. */
void json_text(struct json_out *j, const char *name, const char *text);
void json_number(struct json_out *j, const char *name, int64_t number);
void json_bool(struct json_out *j, const char *name, bool value);

#endif
