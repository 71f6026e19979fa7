/*
 * Values as text: numbers, sizes, words and the KEY=VALUE lists behind a flag, both ways. In: text
 * from the command line or a file. Out: struct device_value, or a message without the flag.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/options_internal.h"

#define SIZE_UNITS "KMGT"

void text_add(struct text *t, const char *fmt, ...)
{
	size_t room = sizeof(t->buf) - t->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->buf + t->len, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->len += (size_t)n < room ? (size_t)n : room - 1;
}

void text_add_suggestion(struct text *t, const struct suggest *s, const char *before)
{
	if (s->best)
		text_add(t, "; did you mean \"%s%s\"?", before, s->best);
}

char *option_field(const char **list)
{
	const char *in = *list;
	char *field = malloc(strlen(in) + 1);
	char *out = field;

	if (!field)
		return NULL;
	*list = NULL;
	for (; *in; in++) {
		if (*in == ',' && *++in != ',') {
			*list = in; /* maybe at the end: "a," is a and an empty field */
			break;
		}
		*out++ = *in;
	}
	*out = '\0';
	return field;
}

void option_print_field(const char *text, FILE *out)
{
	for (; *text; text++) {
		if (*text == ',')
			putc(',', out);
		putc(*text, out);
	}
}

int option_parse_bool(const char *text, bool *out, struct error *e)
{
	if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
		return error_set(e, -EINVAL, "must be on or off");
	*out = text[1] == 'n';
	return 0;
}

/* Digits of the base at *text, which moves behind them. -ERANGE: more than 64 bits. */
static int parse_digits(const char **text, unsigned base, uint64_t *out)
{
	uint64_t number = 0;
	bool overflow = false;

	for (; isxdigit((unsigned char)**text); (*text)++) {
		int c = tolower((unsigned char)**text);
		unsigned digit = (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);

		if (digit >= base)
			break;
		overflow |= __builtin_mul_overflow(number, base, &number);
		overflow |= __builtin_add_overflow(number, digit, &number);
	}
	*out = number;
	return overflow ? -ERANGE : 0;
}

int option_parse_uint(const char *text, uint64_t *out, struct error *e)
{
	bool hex = text[0] == '0' && tolower((unsigned char)text[1]) == 'x';
	const char *start = hex ? text + 2 : text;
	const char *end = start;
	int err = parse_digits(&end, hex ? 16 : 10, out);

	if (end == start || *end)
		return error_set(e, -EINVAL, "not a whole number (digits, or 0x and hex digits)");
	if (err)
		return error_set(e, -EINVAL, "too large a number");
	return 0;
}

int option_parse_size(const char *text, uint64_t *out, struct error *e)
{
	const char *end = text, *unit;
	int err = parse_digits(&end, 10, out);

	if (end == text || (*end && !strchr(SIZE_UNITS ".", toupper((unsigned char)*end))))
		return error_set(e, -EINVAL,
				 "not a size; write bytes, or a number with K, M, G or T: 512M");
	if (*end == '.')
		return error_set(e, -EINVAL,
				 "a size is a whole number; write 1536M instead of 1.5G");
	if (*end) {
		unit = strchr(SIZE_UNITS, toupper((unsigned char)*end));
		end += strcasecmp(end + 1, "iB") == 0 ? 3 : 1;
		if (*end)
			return error_set(e, -EINVAL,
					 "not a size; the unit is one of K, M, G, T (1K is 1024)");
		for (const char *u = SIZE_UNITS; u <= unit; u++)
			if (__builtin_mul_overflow(*out, 1024u, out))
				err = -ERANGE;
	}
	if (err)
		return error_set(e, -EINVAL, "too large a size");
	return 0;
}

const char *option_format_size(uint64_t size, char *buf, size_t len)
{
	size_t units = 0;

	while (size && size % 1024 == 0 && units < strlen(SIZE_UNITS)) {
		size /= 1024;
		units++;
	}
	snprintf(buf, len, "%llu%.1s", (unsigned long long)size,
		 units ? &SIZE_UNITS[units - 1] : "");
	return buf;
}

const char *option_choice(const char *choices, unsigned index, size_t *len)
{
	for (; index; index--) {
		choices += strcspn(choices, "|");
		if (!*choices) {
			*len = 0;
			return choices;
		}
		choices++;
	}
	*len = strcspn(choices, "|");
	return choices;
}

static int parse_choice(const struct device_key *key, const char *text, uint64_t *out,
			struct error *e)
{
	struct suggest s;
	struct text t = { .len = 0 };
	char words[16][32]; /* suggest wants them terminated */
	const char *choice;
	size_t len;

	suggest_start(&s, text, strlen(text));
	text_add(&t, "must be ");
	for (unsigned i = 0; choice = option_choice(key->choices, i, &len), len; i++) {
		bool last = choice[len] == '\0';

		if (strlen(text) == len && memcmp(text, choice, len) == 0) {
			*out = i;
			return 0;
		}
		text_add(&t, "%s%.*s", i == 0 ? "" : last ? " or " : ", ", (int)len, choice);
		if (i < sizeof(words) / sizeof(words[0])) {
			snprintf(words[i], sizeof(words[i]), "%.*s", (int)len, choice);
			suggest_offer(&s, words[i]);
		}
	}
	text_add_suggestion(&t, &s, "");
	return error_set(e, -EINVAL, "%s", t.buf);
}

static int check_range(const struct device_key *key, uint64_t number, struct error *e)
{
	char low[32], high[32];
	bool open = key->max == 0 || key->max == UINT64_MAX;

	if (number >= key->min && (open || number <= key->max))
		return 0;
	snprintf(low, sizeof(low), "%llu", (unsigned long long)key->min);
	snprintf(high, sizeof(high), "%llu", (unsigned long long)key->max);
	if (key->type == KEY_SIZE) {
		option_format_size(key->min, low, sizeof(low));
		option_format_size(key->max, high, sizeof(high));
	}
	if (open)
		return error_set(e, -EINVAL, "must be at least %s", low);
	return error_set(e, -EINVAL, "must be %s to %s", low, high);
}

int option_parse_value(const struct device_key *key, const char *text, struct device_value *value,
		       struct error *e)
{
	bool on = false;
	char *copy;
	int err = 0;

	if (!*text)
		return error_set(e, -EINVAL, "the value is missing");
	switch (key->type) {
	case KEY_BOOL:
		err = option_parse_bool(text, &on, e);
		value->number = on;
		break;
	case KEY_UINT:
		err = option_parse_uint(text, &value->number, e);
		break;
	case KEY_SIZE:
		err = option_parse_size(text, &value->number, e);
		break;
	case KEY_ENUM:
		err = parse_choice(key, text, &value->number, e);
		break;
	case KEY_STRING:
		copy = strdup(text);
		if (!copy)
			return error_set_errno(e, -ENOMEM, "cannot keep the value");
		free(value->text);
		value->text = copy;
		break;
	}
	if (!err && (key->type == KEY_UINT || key->type == KEY_SIZE))
		err = check_range(key, value->number, e);
	if (!err)
		value->set = true;
	return err;
}

const char *option_key_value_text(const struct device_key *key)
{
	static const char *const texts[] = {
		[KEY_BOOL] = "on|off",
		[KEY_UINT] = "N",
		[KEY_SIZE] = "SIZE",
		[KEY_STRING] = "TEXT",
	};

	return key->type == KEY_ENUM ? key->choices : texts[key->type];
}

void option_print_value(const struct device_key *key, const struct device_value *value, FILE *out)
{
	char size[32];
	const char *choice;
	size_t len;

	switch (key->type) {
	case KEY_BOOL:
		fputs(value->number ? "on" : "off", out);
		break;
	case KEY_UINT:
		fprintf(out, "%llu", (unsigned long long)value->number);
		break;
	case KEY_SIZE:
		fputs(option_format_size(value->number, size, sizeof(size)), out);
		break;
	case KEY_ENUM:
		choice = option_choice(key->choices, (unsigned)value->number, &len);
		fwrite(choice, 1, len, out);
		break;
	case KEY_STRING:
		option_print_field(value->text, out);
		break;
	}
}
