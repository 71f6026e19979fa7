/*
 * A JSON writer: see json.h.
 */
#include <math.h>

#include "vmm/json.h"

void json_quote(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else
			putc(c, out);
	}
	putc('"', out);
}

static void new_line(struct json *j)
{
	fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
}

static void begin(struct json *j, const char *name)
{
	if (j->more)
		putc(',', j->out);
	if (j->compact) {
		if (j->more)
			putc(' ', j->out);
	} else if (j->depth) {
		new_line(j);
	}
	j->more = true;
	if (name) {
		json_quote(j->out, name);
		fputs(": ", j->out);
	}
}

void json_open(struct json *j, const char *name, char open)
{
	begin(j, name);
	putc(open, j->out);
	j->depth++;
	j->more = false;
}

void json_open_row(struct json *j, const char *name, char open)
{
	json_open(j, name, open);
	j->compact = true;
}

void json_close(struct json *j, char close)
{
	j->depth--;
	if (j->more && !j->compact)
		new_line(j);
	putc(close, j->out);
	j->more = true;
	j->compact = false;
	if (!j->depth)
		putc('\n', j->out);
}

void json_u64(struct json *j, const char *name, uint64_t value)
{
	begin(j, name);
	fprintf(j->out, "%llu", (unsigned long long)value);
}

void json_double(struct json *j, const char *name, double value)
{
	begin(j, name);
	if (isfinite(value))
		fprintf(j->out, "%.9g", value);
	else
		fputs("null", j->out); /* there are no such numbers in JSON */
}

void json_bool(struct json *j, const char *name, bool value)
{
	begin(j, name);
	fputs(value ? "true" : "false", j->out);
}

void json_string(struct json *j, const char *name, const char *value)
{
	begin(j, name);
	if (value)
		json_quote(j->out, value);
	else
		fputs("null", j->out);
}
