/*
 * --help, --help=TOPIC, --version and --list-devices for a terminal: aligned in two columns and
 * wrapped.
 */
#include <errno.h>
#include <string.h>

#include "vmm/help.h"
#include "vmm/options_internal.h"

#define WIDTH  98
#define COLUMN 32

/* The forms that help_print() hands to others. */
static const struct {
	const char *topic;
	void (*print)(device_rows rows, FILE *out);
} forms[] = {
	{ "man", help_man },
	{ "bash", help_bash },
	{ "markdown", help_markdown },
};
#define FORMS (sizeof(forms) / sizeof(forms[0]))

int help_check_topic(const char *topic, struct error *e)
{
	struct text t = { .len = 0 };
	struct suggest s;

	suggest_start(&s, topic, strlen(topic));
	if (option_find(topic, strlen(topic)))
		return 0;
	for (const struct option *o = option_table; option_name(o); o++)
		suggest_offer(&s, option_name(o));
	for (size_t i = 0; i < FORMS; i++) {
		if (strcmp(topic, forms[i].topic) == 0)
			return 0;
		suggest_offer(&s, forms[i].topic);
	}
	if (command_find(device_commands, topic))
		return 0;
	for (command_rows c = device_commands; *c; c++)
		suggest_offer(&s, (*c)->name);
	text_add(&t, "no help on that");
	text_add_suggestion(&t, &s, "");
	if (!s.best)
		text_add(&t, "; mvm --help shows what there is");
	return error_set(e, -EINVAL, "%s", t.buf);
}

/* Columns that a text takes: characters, not bytes. */
static unsigned columns(const char *text, size_t len)
{
	unsigned n = 0;

	for (; len; len--, text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

/* The text from column at on, wrapped, when the line is filled up to column used. */
static void wrap(FILE *out, unsigned used, unsigned at, const char *text)
{
	bool first = true;

	for (;;) {
		size_t len = strcspn(text, " ");
		unsigned width = columns(text, len);

		if (!first && used + 1 + width > WIDTH) {
			putc('\n', out);
			used = 0;
			first = true;
		}
		if (first)
			fprintf(out, "%*s", used < at ? (int)(at - used) : 0, "");
		else
			putc(' ', out);
		used = (first ? (used < at ? at : used) : used + 1) + width;
		fwrite(text, 1, len, out);
		first = false;
		text += len;
		if (!*text)
			break;
		text += strspn(text, " ");
	}
	putc('\n', out);
}

/* One term with its text in the second column. */
static void entry(FILE *out, unsigned indent, const char *term, const char *text)
{
	unsigned used = indent + columns(term, strlen(term));

	fprintf(out, "%*s%s", (int)indent, "", term);
	if (used + 2 > COLUMN) {
		putc('\n', out);
		used = 0;
	}
	wrap(out, used, COLUMN, text);
}

static void option_term(const struct option *o, bool short_form, char *buf, size_t size)
{
	const char *value = option_value_text(o);

	if (o->type == OPTION_DEVICE && short_form)
		value = "MODEL…";
	if (!value)
		snprintf(buf, size, "--%s", option_name(o));
	else
		snprintf(buf, size, o->value_optional ? "--%s[=%s]" : "--%s=%s", option_name(o),
			 value);
}

static void keys_entries(FILE *out, unsigned indent, const struct device_key *keys)
{
	char term[128], text[sizeof(((struct text *)0)->buf)];

	for (; keys->name; keys++) {
		snprintf(term, sizeof(term), "%s=%s", keys->name, option_key_value_text(keys));
		help_key_text(keys, text, sizeof(text));
		entry(out, indent, term, text);
	}
}

static void option_entry(device_rows rows, const struct option *o, FILE *out)
{
	char term[128], text[sizeof(((struct text *)0)->buf)];

	option_term(o, true, term, sizeof(term));
	help_option_text(rows, o, text, sizeof(text));
	entry(out, 2, term, text);
	if (o->keys)
		keys_entries(out, 4, o->keys);
}

static void group(device_rows rows, unsigned g, FILE *out)
{
	fprintf(out, "\n%s%s:\n", help_group_title(g),
		g == GROUP_DEVICES ? ", --CLASS=MODEL[:TARGET][,KEY=VALUE]..., any number of them"
				   : "");
	for (const struct option *o = option_table; option_name(o); o++)
		if (o->group == g)
			option_entry(rows, o, out);
}

static void pairs(const char *title, const struct help_pair *pair, FILE *out)
{
	fprintf(out, "\n%s:\n", title);
	for (; pair->term; pair++)
		entry(out, 2, pair->term, pair->text);
}

static void commands(FILE *out)
{
	if (!device_commands[0])
		return;
	fputs("\nCommands, mvm NAME VERB...:\n", out);
	for (command_rows c = device_commands; *c; c++)
		entry(out, 2, (*c)->name, (*c)->summary);
}

static void overview(device_rows rows, FILE *out)
{
	fprintf(out, "usage: mvm [OPTION]...\n%s\n",
		device_commands[0] ? "       mvm COMMAND VERB [ARGUMENT]...\n" : "");
	fputs("Boots a Linux guest on KVM. Each device is served by the model that its flag "
	      "names.\n",
	      out);
	for (unsigned g = 0; g < GROUP_COUNT; g++)
		group(rows, g, out);
	fputs("\n--NAME VALUE may be written for --NAME=VALUE. A comma in a target or value is "
	      "written twice.\nA SIZE is in bytes, or with K, M, G or T (1K is 1024). "
	      "--help=CLASS lists targets and keys.\n",
	      out);
	commands(out);
	pairs("Environment", help_environment, out);
	pairs("Exit status", help_exit_status, out);
	fputs("\nExamples:\n", out);
	for (const struct help_pair *x = help_examples; x->term; x++) {
		fprintf(out, "  %s\n", x->term);
		wrap(out, 0, 6, x->text);
	}
}

static void class_topic(device_rows rows, const struct option *o, FILE *out)
{
	char term[128], text[sizeof(((struct text *)0)->buf)];
	bool any = false;

	fprintf(out, "--%s=%s\n", option_name(o), option_value_text(o));
	help_option_text(rows, o, text, sizeof(text));
	wrap(out, 0, 0, text);
	for (device_rows r = rows; *r; r++) {
		const struct device_row *row = *r;

		if (row->class != o->class)
			continue;
		putc('\n', out);
		help_row_term(row, term, sizeof(term));
		help_row_text(rows, row, text, sizeof(text));
		entry(out, 2, term, text);
		keys_entries(out, 4, row->keys);
		any = true;
	}
	if (!any)
		fputs("\nNone in this build; mvm --list-devices shows what there is.\n", out);
}

static void verb_options(FILE *out, const struct device_key *keys)
{
	char term[128], text[sizeof(((struct text *)0)->buf)];

	for (; keys && keys->name; keys++) {
		if (keys->type == KEY_BOOL)
			snprintf(term, sizeof(term), "--%s", keys->name);
		else
			snprintf(term, sizeof(term), "--%s=%s", keys->name,
				 option_key_value_text(keys));
		help_key_text(keys, text, sizeof(text));
		entry(out, 4, term, text);
	}
}

void help_command(const struct command *command, FILE *out)
{
	char term[128];

	fprintf(out, "usage: mvm %s VERB [ARGUMENT]...\n\n", command->name);
	wrap(out, 0, 0, command->summary);
	putc('\n', out);
	for (const struct command_verb *v = command->verb; v->words; v++) {
		snprintf(term, sizeof(term), "%s%s%s", v->words, *v->args ? " " : "", v->args);
		entry(out, 2, term, v->help);
		verb_options(out, v->options);
		if (v->keys)
			keys_entries(out, 4, v->keys);
	}
}

void help_print(device_rows rows, const char *topic, FILE *out)
{
	const struct option *o = topic ? option_find(topic, strlen(topic)) : NULL;

	for (size_t i = 0; topic && i < FORMS; i++) {
		if (strcmp(topic, forms[i].topic) == 0) {
			forms[i].print(rows, out);
			return;
		}
	}
	if (!o && topic && command_find(device_commands, topic))
		help_command(command_find(device_commands, topic), out);
	else if (!o)
		overview(rows, out);
	else if (o->type == OPTION_DEVICE)
		class_topic(rows, o, out);
	else
		option_entry(rows, o, out);
}

void help_version(FILE *out)
{
	fprintf(out, "mvm %s\n", MVM_VERSION);
}

/* Cells of a line of --list-devices. */
enum { CLASS, MODEL, HW, TARGET, CAPABILITIES, SUMMARY, CELLS };

static void cells(const struct device_row *row, const char *cell[CELLS], char *can, size_t size)
{
	cell[CLASS] = device_class_name(row->class);
	cell[MODEL] = device_model_name(row->model);
	cell[HW] = row->hw;
	cell[TARGET] = row->target ? row->target : "-";
	cell[CAPABILITIES] = device_capabilities(row->capabilities, can, size);
	cell[SUMMARY] = row->summary;
}

static void line(const char *const cell[CELLS], const unsigned width[CELLS], FILE *out)
{
	for (unsigned i = 0; i < SUMMARY; i++)
		fprintf(out, "%s%*s", cell[i],
			(int)(width[i] - columns(cell[i], strlen(cell[i])) + 2), "");
	fprintf(out, "%s\n", cell[SUMMARY]);
}

void help_list_devices(device_rows rows, FILE *out)
{
	const char *cell[CELLS] = { "CLASS", "MODEL", "HW", "TARGET", "CAN", "SUMMARY" };
	const char *title[CELLS];
	unsigned width[CELLS] = { 0 };
	char can[64];

	memcpy(title, cell, sizeof(title));
	for (unsigned i = 0; i < CELLS; i++)
		width[i] = columns(title[i], strlen(title[i]));
	for (device_rows r = rows; *r; r++) {
		cells(*r, cell, can, sizeof(can));
		for (unsigned i = 0; i < CELLS; i++)
			if (columns(cell[i], strlen(cell[i])) > width[i])
				width[i] = columns(cell[i], strlen(cell[i]));
	}
	line(title, width, out);
	for (device_rows r = rows; *r; r++) {
		cells(*r, cell, can, sizeof(can));
		line(cell, width, out);
	}
	fputs("\nAll of them work on each --irqchip:\n", out);
	for (const struct help_pair *chip = help_irqchips; chip->term; chip++)
		entry(out, 2, chip->term, chip->text);
}
