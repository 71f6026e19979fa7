/*
 * --help=bash: completion for bash. A list of words for each place of a command line, made from the
 * tables, and one function that finds the place. "@file" and "@dir" in a list stand for names of
 * files, and may have text in front: "unix:@file"; "@pci" and "@mdev" for devices of those buses.
 */
#include <ctype.h>
#include <string.h>

#include "vmm/help.h"
#include "vmm/options_internal.h"

static const char head[] = "# bash completion for mvm; made by: mvm --help=bash\n"
			   "\n"
			   "# What can stand in a place: --, NAME= (\"memory\"), the keys of a "
			   "NAME (\"memory,\"), the\n"
			   "# target of a model (\"blk:virtio\") and its keys (\"blk:virtio,\").\n"
			   "_mvm_words()\n"
			   "{\n"
			   "\tcase $1 in\n";

/* bash has split the line at = and : already and replaces only what is behind the last of them. */
static const char tail[] =
	"\t*) return 1 ;;\n"
	"\tesac\n"
	"}\n"
	"\n"
	"_mvm_names()\n"
	"{\n"
	"\tcase $1 in\n"
	"\tpci | mdev) compgen -W \"$(cd \"/sys/bus/$1/devices\" 2>/dev/null && echo *)\" -- "
	"\"$2\" ;;\n"
	"\t*) compgen -A \"$1\" -- \"$2\" ;;\n"
	"\tesac\n"
	"}\n"
	"\n"
	"_mvm()\n"
	"{\n"
	"\tlocal line=${COMP_LINE:0:COMP_POINT}\n"
	"\tlocal cur=${line##*[[:space:]]}\n"
	"\tlocal before=${line%\"$cur\"} name='' value='' piece words word fixed reply\n"
	"\tlocal breaks=${COMP_WORDBREAKS//[[:space:]\\\"\\']/}\n"
	"\tlocal strip=${cur%\"${cur##*[\"$breaks\"]}\"}\n"
	"\n"
	"\tlocal -a typed\n"
	"\tread -ra typed <<<\"$before\"\n"
	"\tlocal verb=${typed[*]:1:3}\n"
	"\n"
	"\tCOMPREPLY=()\n"
	"\tif [[ $verb ]] && words=$(_mvm_words \"${typed[1]} \"); then # a command\n"
	"\t\tuntil words=$(_mvm_words \"$verb \"); do verb=${verb% *}; done\n"
	"\t\tpiece=$cur name=\n"
	"\t\tif [[ $cur != -* && $cur == *,* ]]; then # FILE,KEY=VALUE\n"
	"\t\t\twords=$(_mvm_words \"$verb ,\") || words=' '\n"
	"\t\t\tpiece=${cur##*,}\n"
	"\t\telif [[ $cur != *= ]]; then\n"
	"\t\t\tcompopt +o nospace 2>/dev/null\n"
	"\t\tfi\n"
	"\telif [[ $cur == --*=* ]]; then\n"
	"\t\tname=${cur%%=*} value=${cur#*=}\n"
	"\telif [[ $cur != -* ]]; then # --NAME VALUE\n"
	"\t\tbefore=${before%\"${before##*[![:space:]]}\"}\n"
	"\t\tname=${before##*[[:space:]]} value=$cur\n"
	"\t\t[[ $name == --* && $name != *=* ]] || name=\n"
	"\tfi\n"
	"\tname=${name#--}\n"
	"\tlocal model=${value%%[:,]*}\n"
	"\tif [[ $words ]]; then\n"
	"\t\t:\n"
	"\telif [[ $name && $value == *,* ]] &&\n"
	"\t\t{ words=$(_mvm_words \"$name:$model,\") || words=$(_mvm_words \"$name,\"); }; then\n"
	"\t\tpiece=${value##*,}\n"
	"\telif [[ $name && $value == *:* ]] && words=$(_mvm_words \"$name:$model\"); then\n"
	"\t\tpiece=${value#*:}\n"
	"\telif [[ $name ]] && words=$(_mvm_words \"$name\"); then\n"
	"\t\tpiece=$value\n"
	"\telif [[ $cur != *=* ]]; then\n"
	"\t\twords=$(_mvm_words --) piece=$cur\n"
	"\t\t[[ $verb ]] || words+=$(_mvm_words .)\n"
	"\tfi\n"
	"\tfor word in $words; do\n"
	"\t\tfixed=${word%%@*}\n"
	"\t\tif [[ $word == *@* && $piece == \"$fixed\"* ]]; then\n"
	"\t\t\t[[ $word == *@pci || $word == *@mdev ]] || compopt -o filenames 2>/dev/null\n"
	"\t\t\twhile IFS= read -r reply; do\n"
	"\t\t\t\tCOMPREPLY+=(\"$fixed$reply\")\n"
	"\t\t\tdone < <(_mvm_names \"${word##*@}\" \"${piece#\"$fixed\"}\")\n"
	"\t\telif [[ $fixed && $fixed == \"$piece\"* ]]; then\n"
	"\t\t\tCOMPREPLY+=(\"$fixed\")\n"
	"\t\tfi\n"
	"\tdone\n"
	"\tlocal lead=${cur%\"$piece\"} i\n"
	"\tfor i in \"${!COMPREPLY[@]}\"; do\n"
	"\t\treply=$lead${COMPREPLY[i]}\n"
	"\t\tCOMPREPLY[i]=${reply#\"$strip\"}\n"
	"\tdone\n"
	"}\n"
	"complete -o nospace -F _mvm mvm\n";

static void begin(FILE *out, const char *name, const char *model, const char *keys)
{
	fprintf(out, "\t%s%s%s%s) echo \"", name, model ? ":" : "", model ? model : "", keys);
}

static void end(FILE *out)
{
	fputs("\" ;;\n", out);
}

/* "PREFIXa PREFIXb" for "a|b". */
static void choices(const char *prefix, const char *text, FILE *out)
{
	const char *choice;
	size_t len;

	for (unsigned i = 0; choice = option_choice(text, i, &len), len; i++)
		fprintf(out, " %s%.*s", prefix, (int)len, choice);
}

/* The words of a target as help shows it: small letters stand for themselves. */
static void targets(const char *text, FILE *out)
{
	static const char *const files[] = { "FILE", "IMAGE", "PATH", "SOCK", "LINK" };
	const char *choice;
	size_t len;

	for (unsigned i = 0; choice = option_choice(text, i, &len), len; i++) {
		char alternative[64];
		const char *named = "";
		size_t fixed;

		snprintf(alternative, sizeof(alternative), "%.*s", (int)len, choice);
		for (fixed = 0; alternative[fixed] && alternative[fixed] != '['; fixed++)
			if (!islower((unsigned char)alternative[fixed]) &&
			    !strchr(":-/0123456789", alternative[fixed]))
				break;
		for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++)
			if (alternative[fixed] != '[' && strstr(alternative + fixed, files[f]))
				named = "@file";
		fprintf(out, " %.*s%s", (int)fixed, alternative, named);
	}
}

static void keys_words(const struct device_key *keys, FILE *out)
{
	char prefix[64];

	for (; keys->name; keys++) {
		snprintf(prefix, sizeof(prefix), "%s=", keys->name);
		if (keys->type == KEY_ENUM || keys->type == KEY_BOOL)
			choices(prefix, option_key_value_text(keys), out);
		else
			fprintf(out, " %s", prefix);
	}
}

static void device_words(device_rows rows, const struct option *o, FILE *out)
{
	const char *class = option_name(o);
	const struct device_row *row;

	begin(out, class, NULL, "");
	for (unsigned m = 0; m < MODEL_COUNT; m++) {
		row = device_find_in(rows, o->class, m, NULL);
		if (row && !row->target_required)
			fprintf(out, " %s", device_model_name(m));
		if (row && row->target)
			fprintf(out, " %s:", device_model_name(m));
	}
	end(out);
	for (unsigned m = 0; m < MODEL_COUNT; m++) {
		const char *model = device_model_name(m);

		row = device_find_in(rows, o->class, m, NULL);
		if (!row)
			continue;
		if (row->target) {
			begin(out, class, model, "");
			targets(row->target, out);
			end(out);
		}
		begin(out, class, model, ",");
		keys_words(row->keys, out);
		for (device_rows r = rows; *r; r++)
			if ((*r)->class == o->class && (*r)->model == (enum device_model)m &&
			    device_count_hw(rows, o->class, m) > 1)
				fprintf(out, " hw=%s", (*r)->hw);
		end(out);
	}
}

static void option_words(const struct option *o, FILE *out)
{
	static const char *const hints[] = {
		[HINT_NONE] = NULL,
		[HINT_FILE] = "@file",
		[HINT_DIR] = "@directory",
	};

	if (o->keys) {
		begin(out, option_name(o), NULL, ",");
		keys_words(o->keys, out);
		end(out);
	}
	if (hints[o->hint]) {
		begin(out, option_name(o), NULL, "");
		fputs(hints[o->hint], out);
		end(out);
	} else if (o->type == OPTION_KEY && (o->key.type == KEY_ENUM || o->key.type == KEY_BOOL)) {
		begin(out, option_name(o), NULL, "");
		choices("", option_key_value_text(&o->key), out);
		end(out);
	} else if (o->type == OPTION_ACTION && o->action == ACTION_HELP) {
		begin(out, option_name(o), NULL, "");
		for (const struct option *t = option_table; option_name(t); t++)
			fprintf(out, " %s", option_name(t));
		end(out);
	}
}

/* Is this verb the first of the command that begins with its first word? */
static bool first_of_its_word(const struct command *c, const struct command_verb *verb)
{
	size_t len = strcspn(verb->words, " ");

	for (const struct command_verb *v = c->verb; v != verb; v++)
		if (strcspn(v->words, " ") == len && memcmp(v->words, verb->words, len) == 0)
			return false;
	return true;
}

/* Has the verb's own list "--NAME=@file" of this option? */
static bool completed_otherwise(const struct command_verb *v, const char *name)
{
	char word[64];

	snprintf(word, sizeof(word), "--%s=@", name);
	return v->complete && strstr(v->complete, word);
}

/*
 * What may follow each beginning of a call: "vfio ", "vfio vf ", "vfio vf create "; with a comma at
 * its end, the comma in a word of it.
 */
static void command_words(const struct command *c, FILE *out)
{
	fprintf(out, "\t\"%s \") echo \"--help", c->name);
	for (const struct command_verb *v = c->verb; v->words; v++)
		if (first_of_its_word(c, v))
			fprintf(out, " %.*s", (int)strcspn(v->words, " "), v->words);
	end(out);
	for (const struct command_verb *v = c->verb; v->words; v++) {
		int len = (int)strcspn(v->words, " ");

		if (v->words[len] && first_of_its_word(c, v)) {
			fprintf(out, "\t\"%s %.*s \") echo \"", c->name, len, v->words);
			for (const struct command_verb *w = v; w->words; w++)
				if (strncmp(w->words, v->words, (size_t)len + 1) == 0)
					fprintf(out, " %s", w->words + len + 1);
			end(out);
		}
		fprintf(out, "\t\"%s %s \") echo \"%s", c->name, v->words,
			v->complete ? v->complete : "");
		for (const struct device_key *k = v->options; k && k->name; k++)
			if (!completed_otherwise(v, k->name))
				fprintf(out, " --%s%s", k->name, k->type == KEY_BOOL ? "" : "=");
		if (v->keys)
			keys_words(v->keys, out);
		end(out);
		if (v->word_keys) {
			fprintf(out, "\t\"%s %s ,\") echo \"", c->name, v->words);
			keys_words(v->word_keys, out);
			end(out);
		}
	}
}

void help_bash(device_rows rows, FILE *out)
{
	fputs(head, out);
	begin(out, "--", NULL, "");
	for (const struct option *o = option_table; option_name(o); o++)
		fprintf(out, " --%s%s", option_name(o),
			option_takes_value(o) && !o->value_optional ? "=" : "");
	end(out);
	for (const struct option *o = option_table; option_name(o); o++) {
		if (o->type == OPTION_DEVICE)
			device_words(rows, o, out);
		else
			option_words(o, out);
	}
	fputs("\t.) echo \"", out);
	for (command_rows c = device_commands; *c; c++)
		fprintf(out, " %s", (*c)->name);
	end(out);
	for (command_rows c = device_commands; *c; c++)
		command_words(*c, out);
	fputs(tail, out);
}
