/*
 * --help=man: the man page, mdoc(7), made from the same rows as --help. Text goes through plain(),
 * arguments of macros through arg(), so that nothing in a row's help can be taken for a macro.
 */
#include <string.h>

#include "vmm/help.h"
#include "vmm/options_internal.h"

#define MAN_DATE "November 23, 2026" /* of the page's form; fixed, for the same bytes twice */
#define LINE	 70		     /* characters before escaping */
#define TEXT_MAX sizeof(((struct text *)0)->buf)

/* One character of UTF-8 in roff's own spelling; returns its last byte. */
static const char *unicode(const char *s, FILE *out)
{
	unsigned char lead = (unsigned char)*s;
	unsigned more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
	unsigned code = lead & (0x3fu >> more);

	for (; more && (s[1] & 0xc0) == 0x80; more--)
		code = code << 6 | (unsigned char)(*++s & 0x3f);
	fprintf(out, "\\[u%04X]", code);
	return s;
}

/* The first len bytes of s. */
static void escape(const char *s, size_t len, FILE *out)
{
	for (const char *end = s + len; s < end; s++) {
		if (*s & 0x80)
			s = unicode(s, out);
		else if (*s == '\\')
			fputs("\\e", out);
		else if (*s == '-')
			fputs("\\-", out);
		else if (*s == '"')
			fputs("\\(dq", out);
		else
			putc(*s, out);
	}
}

/* Running text: short lines, and a new one for each sentence, as mdoc wants it. */
static void plain(const char *s, FILE *out)
{
	size_t used = 0;

	while (*s) {
		size_t len = strcspn(s, " ");

		if (used && used + len > LINE) {
			putc('\n', out);
			used = 0;
		}
		if (used)
			putc(' ', out);
		else if (*s == '.' || *s == '\'')
			fputs("\\&", out);
		escape(s, len, out);
		used += len + 1;
		if (len && s[len - 1] == '.')
			used = LINE;
		s += len + strspn(s + len, " ");
	}
	putc('\n', out);
}

static void arg(const char *s, FILE *out)
{
	fputs(" \"", out);
	/* A lone mark would be taken for punctuation. */
	if (strlen(s) == 1)
		fputs("\\&", out);
	escape(s, strlen(s), out);
	putc('"', out);
}

static void key_item(const struct device_key *key, FILE *out)
{
	char text[TEXT_MAX];

	fputs(".It Cm", out);
	arg(key->name, out);
	fputs(" Ns = Ns Ar", out);
	arg(option_key_value_text(key), out);
	putc('\n', out);
	help_key_text(key, text, sizeof(text));
	plain(text, out);
}

static void keys_list(const struct device_key *keys, FILE *out)
{
	if (!keys->name)
		return;
	fputs(".Bl -tag -width Ds\n", out);
	for (; keys->name; keys++)
		key_item(keys, out);
	fputs(".El\n", out);
}

static void option_item(device_rows rows, const struct option *o, FILE *out)
{
	const char *value = option_value_text(o);
	char text[TEXT_MAX], name[64];

	snprintf(name, sizeof(name), "-%s", option_name(o));
	fputs(".It Fl", out);
	arg(name, out);
	if (value && o->value_optional)
		fputs(" Ns Op = Ns Ar", out);
	else if (value)
		fputs(" Ns = Ns Ar", out);
	if (value)
		arg(value, out);
	putc('\n', out);
	help_option_text(rows, o, text, sizeof(text));
	plain(text, out);
	if (o->keys)
		keys_list(o->keys, out);
}

static void row_item(device_rows rows, const struct device_row *row, FILE *out)
{
	char text[TEXT_MAX], term[128];

	fputs(".It", out);
	help_row_term(row, term, sizeof(term));
	fputs(" Cm", out);
	arg(term, out);
	putc('\n', out);
	help_row_text(rows, row, text, sizeof(text));
	plain(text, out);
	keys_list(row->keys, out);
}

static void devices(device_rows rows, FILE *out)
{
	fputs(".Sh DEVICES\n"
	      "A device flag is\n"
	      ".Sm off\n"
	      ".Fl -CLASS Cm = Ar MODEL Oo Cm \\&: Ar TARGET Oc Oo Cm \\&, Ar KEY Cm = Ar VALUE Oc "
	      "No "
	      "...\n"
	      ".Sm on\n"
	      "and may be repeated for more devices of its class.\n"
	      "A comma that belongs to a target or value is written twice.\n"
	      "Where a class has several devices by one model,\n"
	      ".Cm hw Ns = Ns Ar NAME\n"
	      "chooses one.\n",
	      out);
	for (const struct option *o = option_table; option_name(o); o++) {
		bool any = false;

		if (o->type != OPTION_DEVICE)
			continue;
		for (device_rows r = rows; *r; r++) {
			if ((*r)->class != o->class)
				continue;
			if (!any) {
				fputs(".Ss", out);
				arg(option_name(o), out);
				fputs("\n.Bl -tag -width Ds\n", out);
			}
			any = true;
			row_item(rows, *r, out);
		}
		if (any)
			fputs(".El\n", out);
	}
}

static void verb_item(const struct command *c, const struct command_verb *v, FILE *out)
{
	char term[128];

	fputs(".It Nm mvm Cm", out);
	snprintf(term, sizeof(term), "%s %s", c->name, v->words);
	arg(term, out);
	if (*v->args) {
		fputs(" Ar", out);
		arg(v->args, out);
	}
	putc('\n', out);
	plain(v->help, out);
	if ((!v->options || !v->options->name) && (!v->keys || !v->keys->name))
		return;
	fputs(".Bl -tag -width Ds\n", out);
	for (const struct device_key *k = v->options; k && k->name; k++) {
		char name[64], text[TEXT_MAX];

		snprintf(name, sizeof(name), "-%s", k->name);
		fputs(".It Fl", out);
		arg(name, out);
		if (k->type != KEY_BOOL) {
			fputs(" Ns = Ns Ar", out);
			arg(option_key_value_text(k), out);
		}
		putc('\n', out);
		help_key_text(k, text, sizeof(text));
		plain(text, out);
	}
	for (const struct device_key *k = v->keys; k && k->name; k++)
		key_item(k, out);
	fputs(".El\n", out);
}

static void commands(FILE *out)
{
	if (!device_commands[0])
		return;
	fputs(".Sh COMMANDS\n", out);
	for (command_rows c = device_commands; *c; c++) {
		fputs(".Ss", out);
		arg((*c)->name, out);
		putc('\n', out);
		plain((*c)->summary, out);
		fputs(".Bl -tag -width Ds\n", out);
		for (const struct command_verb *v = (*c)->verb; v->words; v++)
			verb_item(*c, v, out);
		fputs(".El\n", out);
	}
}

static void pairs(const struct help_pair *pair, const char *macro, FILE *out)
{
	fputs(".Bl -tag -width Ds\n", out);
	for (; pair->term; pair++) {
		fprintf(out, ".It %s", macro);
		arg(pair->term, out);
		putc('\n', out);
		plain(pair->text, out);
	}
	fputs(".El\n", out);
}

static void options(device_rows rows, FILE *out)
{
	fputs(".Sh OPTIONS\n"
	      ".Fl -NAME Ar VALUE\n"
	      "may be written for\n"
	      ".Fl -NAME Ns = Ns Ar VALUE .\n"
	      "Of an option that is repeated the last counts; devices and\n"
	      ".Fl -append\n"
	      "add up.\n"
	      "A\n"
	      ".Ar SIZE\n"
	      "is in bytes, or has one of the units K, M, G and T, where 1K is 1024.\n",
	      out);
	for (unsigned g = 0; g < GROUP_COUNT; g++) {
		fputs(".Ss", out);
		arg(help_group_title(g), out);
		fputs("\n.Bl -tag -width Ds\n", out);
		for (const struct option *o = option_table; option_name(o); o++)
			if (o->group == g)
				option_item(rows, o, out);
		fputs(".El\n", out);
	}
}

void help_man(device_rows rows, FILE *out)
{
	fputs(".Dd " MAN_DATE "\n"
	      ".Dt MVM 1\n"
	      ".Os\n"
	      ".Sh NAME\n"
	      ".Nm mvm\n"
	      ".Nd run a Linux guest on KVM\n"
	      ".Sh SYNOPSIS\n"
	      ".Nm\n"
	      ".Op Ar OPTION ...\n",
	      out);
	if (device_commands[0])
		fputs(".Nm\n.Ar COMMAND VERB\n.Op Ar ARGUMENT ...\n", out);
	fputs(".Sh DESCRIPTION\n"
	      ".Nm\n"
	      "boots a Linux guest in a virtual machine.\n"
	      "Each of its devices is served by the model that its flag names, so that one word\n"
	      "changes who does the work.\n"
	      "Without options it boots the default guest to a shell.\n"
	      ".Pp\n"
	      "On a terminal, Ctrl\\-A x ends the machine and\n"
	      "Ctrl\\-A h shows what else there is.\n",
	      out);
	options(rows, out);
	devices(rows, out);
	commands(out);
	fputs(".Sh CONFIGURATION FILES\n"
	      "A file for\n"
	      ".Fl -config\n"
	      "has one\n"
	      ".Ar NAME\n"
	      "=\n"
	      ".Ar VALUE\n"
	      "a line, with the options' names without dashes; a bare\n"
	      ".Ar NAME\n"
	      "for options that need no value.\n"
	      "Blank lines and lines that begin with # are skipped.\n"
	      "A value in double quotes knows\n"
	      ".Li \\e\\(dq ,\n"
	      ".Li \\e\\e ,\n"
	      ".Li \\en\n"
	      "and\n"
	      ".Li \\et .\n"
	      ".Sh ENVIRONMENT\n",
	      out);
	pairs(help_environment, "Ev", out);
	fputs(".Sh FILES\n"
	      ".Bl -tag -width Ds\n"
	      ".It Pa " MVM_DATADIR "/images\n"
	      "The default guest.\n"
	      ".El\n"
	      ".Sh EXIT STATUS\n",
	      out);
	pairs(help_exit_status, "Li", out);
	fputs(".Sh EXAMPLES\n", out);
	for (const struct help_pair *x = help_examples; x->term; x++) {
		if (x != help_examples)
			fputs(".Pp\n", out);
		plain(x->text, out);
		fputs(".Pp\n.Dl", out);
		arg(x->term, out);
		putc('\n', out);
	}
}
