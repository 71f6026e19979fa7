/*
 * A JSON writer: see json.h.
 */
#include <math.h>

#include "vmm/json.h"

/* Bytes of the UTF-8 character at s; 0: it is none (RFC 3629: no surrogates, no long forms). */
static unsigned utf8(const unsigned char *s)
{
	unsigned n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;

	if (n == 1)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

void json_quote(FILE *out, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	putc('"', out);
	while (*s) {
		unsigned n = utf8(s);

		if (!n)
			fputs("\\ufffd", out);
		else if (*s < 0x20 || *s == 0x7f)
			fprintf(out, "\\u%04x", *s);
		else if (*s == '"' || *s == '\\')
			fprintf(out, "\\%c", *s);
		else
			fwrite(s, 1, n, out);
		s += n ? n : 1;
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

void json_i64(struct json *j, const char *name, int64_t value)
{
	begin(j, name);
	fprintf(j->out, "%lld", (long long)value);
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
