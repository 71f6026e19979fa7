/*
 * See json_out.h.
 */
#include <inttypes.h>
#include <string.h>

#include "vmm/json_out.h"

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

static void quoted(FILE *out, const char *text)
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

static void place(struct json_out *j, const char *name)
{
	fprintf(j->out, "%s\n%*s", j->more ? "," : "", (int)(2 * j->depth), "");
	j->more = true;
	if (name) {
		quoted(j->out, name);
		fputs(": ", j->out);
	}
}

static void open_one(struct json_out *j, char bracket)
{
	putc(bracket, j->out);
	j->depth++;
	j->more = false;
}

static void close_one(struct json_out *j, char bracket)
{
	j->depth--;
	if (j->more)
		fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
	putc(bracket, j->out);
	j->more = true;
}

void json_begin(struct json_out *j, FILE *out)
{
	*j = (struct json_out){ .out = out };
	open_one(j, '{');
}

void json_end(struct json_out *j)
{
	close_one(j, '}');
	putc('\n', j->out);
}

void json_object(struct json_out *j, const char *name)
{
	place(j, name);
	open_one(j, '{');
}

void json_object_end(struct json_out *j)
{
	close_one(j, '}');
}

void json_list(struct json_out *j, const char *name)
{
	place(j, name);
	open_one(j, '[');
}

void json_list_end(struct json_out *j)
{
	close_one(j, ']');
}

void json_text(struct json_out *j, const char *name, const char *text)
{
	place(j, name);
	if (text)
		quoted(j->out, text);
	else
		fputs("null", j->out);
}

void json_number(struct json_out *j, const char *name, int64_t number)
{
	place(j, name);
	fprintf(j->out, "%" PRId64, number);
}

void json_bool(struct json_out *j, const char *name, bool value)
{
	place(j, name);
	fputs(value ? "true" : "false", j->out);
}
