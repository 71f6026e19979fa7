/*
 * --help=markdown: the README's table of what exists, class by model.
 */
#include "vmm/help.h"
#include "vmm/options_internal.h"

/* What one cell says: each hw with its target, "planned", or a dash for what is not meant to be. */
static void cell(device_rows rows, enum device_class class, enum device_model model, FILE *out)
{
	const char *before = " ";

	for (; *rows; rows++) {
		const struct device_row *row = *rows;

		if (row->class != class || row->model != model)
			continue;
		fprintf(out, "%s%s", before, row->hw);
		if (row->target) {
			fputs(row->target_required ? " `:" : " `[:", out);
			for (const char *c = row->target; *c; c++)
				fprintf(out, *c == '|' ? "\\%c" : "%c", *c);
			fputs(row->target_required ? "`" : "]`", out);
		}
		before = ", ";
	}
	if (*before == ',')
		fputs(" |", out);
	else
		fputs(device_planned(class, model) ? " *planned* |" : " – |", out);
}

void help_markdown(device_rows rows, FILE *out)
{
	fputs("| |", out);
	for (unsigned m = 0; m < MODEL_COUNT; m++)
		fprintf(out, " %s |", device_model_name(m));
	fputs("\n| --- |", out);
	for (unsigned m = 0; m < MODEL_COUNT; m++)
		fputs(" --- |", out);
	putc('\n', out);
	for (const struct option *o = option_table; option_name(o); o++) {
		if (o->type != OPTION_DEVICE)
			continue;
		fprintf(out, "| `--%s` %s |", option_name(o), option_help(o));
		for (unsigned m = 0; m < MODEL_COUNT; m++)
			cell(rows, o->class, m, out);
		putc('\n', out);
	}
}
