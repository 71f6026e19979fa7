/*
 * What mvm says about itself: nothing is left out, nothing is wider than the terminal, the examples
 * work, and the programs that read the generated forms accept them.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "test_options.h"
#include "vmm/help.h"
#include "vmm/options_internal.h"

static char *help(device_rows rows, const char *topic)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	cr_assert(out);
	if (topic && strcmp(topic, "list") == 0)
		help_list_devices(rows, out);
	else
		help_print(rows, topic, out);
	fclose(out);
	return text;
}

static void check_width(const char *text)
{
	for (const char *line = text, *end; *line; line = end + 1) {
		unsigned columns = 0;

		end = strchr(line, '\n');
		cr_assert(end, "the last line does not end");
		for (const char *c = line; c < end; c++)
			columns += (*c & 0xc0) != 0x80;
		cr_expect_leq(columns, 100, "too wide: %.*s", (int)(end - line), line);
		cr_expect(end == line || end[-1] != ' ', "ends in space: %.*s", (int)(end - line),
			  line);
	}
}

Test(help, shows_every_option)
{
	char *text = help(test_rows, NULL);

	check_width(text);
	for (const struct option *o = option_table; option_name(o); o++) {
		char flag[64];

		snprintf(flag, sizeof(flag), "\n  --%s", option_name(o));
		cr_expect(strstr(text, flag), "%s is missing", option_name(o));
		cr_expect(option_help(o) && *option_help(o), "%s has no help", option_name(o));
		cr_expect_eq(option_find(option_name(o), strlen(option_name(o))), o,
			     "%s is there twice", option_name(o));
	}
	free(text);
}

Test(help, every_option_has_a_topic)
{
	for (const struct option *o = option_table; option_name(o); o++) {
		struct error e = { .msg = "" };
		char *text;

		cr_assert_eq(help_check_topic(option_name(o), &e), 0, "%s", e.msg);
		text = help(test_rows, option_name(o));
		check_width(text);
		cr_expect(strstr(text, option_name(o)));
		free(text);
		text = help(device_registry, option_name(o));
		check_width(text);
		free(text);
	}
}

Test(help, a_class_shows_its_models_keys_defaults_and_ranges)
{
	static const char *const says[] = {
		"virtio:IMAGE",		"vfio:BDF",	      "ro=on|off",
		"default off",		"1 to 64; default 1", "split|packed",
		"4K to 1G; default 1M", "serial=TEXT"
	};
	char *text = help(test_rows, "blk");

	for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); i++)
		cr_expect(strstr(text, says[i]), "\"%s\" is not in:\n%s", says[i], text);
	free(text);
	text = help(test_rows, "net");
	cr_expect(strstr(text, "hw=ne2k"));
	cr_expect(strstr(text, "hw=e1000 (default)"));
	free(text);
}

Test(help, lists_every_device)
{
	char *text = help(device_registry, "list");

	for (device_rows r = device_registry; *r; r++)
		cr_expect(strstr(text, (*r)->hw) && strstr(text, (*r)->summary), "%s", (*r)->hw);
	free(text);
}

Test(help, tells_what_each_irqchip_means)
{
	const struct option *o = option_find("irqchip", strlen("irqchip"));
	char *text = help(device_registry, "list"), *words = strdup(o->key.choices), *rest = words;
	const struct help_pair *chip = help_irqchips;

	check_width(strstr(text, "--irqchip:"));
	for (const char *word; (word = strsep(&rest, "|")); chip++) {
		cr_expect_str_eq(chip->term, word);
		cr_expect(strstr(text, word));
	}
	cr_expect_null(chip->term);
	free(words);
	free(text);
}

/* Splits at spaces: the examples need no more. */
Test(help, examples_are_right)
{
	for (const struct help_pair *x = help_examples; x->term; x++) {
		char line[256], *next = line, *argv[MAX_WORDS];
		struct error e = { .msg = "" };
		struct config config;
		int argc = 0;

		snprintf(line, sizeof(line), "%s", x->term);
		while (next && argc < MAX_WORDS)
			argv[argc++] = strsep(&next, " ");
		config_init(&config);
		cr_expect_eq(config_parse(&config, argc, argv, &e), 0, "%s: %s", x->term, e.msg);
		config_free(&config);
	}
}

Test(help, markdown_has_a_row_for_each_class)
{
	char *text = help(test_rows, "markdown");

	cr_expect(strstr(text, "| `--rng` random number generator | – | virtio-rng | – | – |"));
	cr_expect(strstr(text, "vfio-pci `:BDF`"));
	cr_expect(strstr(text, "| *planned* |"));
	free(text);
}

/* Runs a command with the text as its standard input; what it prints, which the caller frees. */
static char *run(const char *command, const char *text, int *status)
{
	struct test_file in = test_file(text, strlen(text));
	char line[256], *out = calloc(1, 65536);
	FILE *pipe;

	snprintf(line, sizeof(line), "(%s) 2>&1 </proc/%d/fd/%d", command, getpid(), in.fd);
	pipe = popen(line, "r"); /* NOLINT(bugprone-command-processor) */
	cr_assert(pipe && out);
	out[fread(out, 1, 65535, pipe)] = '\0';
	*status = pclose(pipe);
	close(in.fd);
	return out;
}

Test(help, man_page_is_clean)
{
	char *page = help(test_rows, "man"), *out;
	int status;

	cr_expect(strstr(page, "\\[u2013]"), "a dash beyond ASCII");
	out = run("command -v mandoc >/dev/null || exit 0; mandoc -T lint -W style", page, &status);
	cr_expect_eq(status, 0, "%s", out);
	free(out);
	out = run("command -v groff >/dev/null || exit 0; groff -mandoc -Tutf8 -ww -z", page,
		  &status);
	cr_expect(status == 0 && !*out, "%s", out);
	free(out);
	free(page);
}

/* What bash would show for a line whose last word is to be completed, sorted, a space apart. */
static char *complete(const char *script, const char *line)
{
	char *text, *out;
	int status;

	cr_assert(asprintf(&text,
			   "%s\ncompopt() { :; }\ncd /proc/self || exit\n"
			   "COMP_LINE='mvm %s' COMP_POINT=${#COMP_LINE}\n_mvm\n"
			   "printf '%%s\\n' \"${COMPREPLY[@]}\" | sort | tr '\\n' ' '\n",
			   script, line) > 0);
	out = run("bash", text, &status);
	cr_assert_eq(status, 0, "%s", out);
	free(text);
	if (*out)
		out[strlen(out) - 1] = '\0';
	return out;
}

Test(help, bash_completes)
{
	static const struct {
		const char *line, *shows; /* bash replaces what is behind the last = or : */
	} cases[] = {
		{ "--ker", "--kernel=" },
		{ "--no", "--no-reboot" },
		{ "--cpus=1 --li", "--list-devices" },
		{ "--boot=", "auto linux64 pvh" },
		{ "--boot=l", "linux64" },
		{ "--boot l", "linux64" },
		{ "--irqchip ", "kernel split user" },
		{ "--memory=1G,h", "1G,hugepages=1G 1G,hugepages=2M" },
		{ "--memory=1G,hugepages=", "1G 2M" },
		{ "--kernel=cmd", "cmdline" },
		{ "--images=fdin", "fdinfo" },
		{ "--blk=", "vfio: virtio:" },
		{ "--blk=virt", "virtio:" },
		{ "--blk=virtio:cmd", "cmdline" },
		{ "--blk virtio:cmd", "cmdline" },
		{ "--blk=virtio:a,r", "a,ring=packed a,ring=split a,ro=off a,ro=on" },
		{ "--blk=virtio:a,ro=on,ring=p", "packed" },
		{ "--net=", "emulated emulated: virtio virtio:" },
		{ "--net=virtio:", "user" },
		{ "--net=emulated,hw=", "e1000 ne2k" },
		{ "--console=emulated:", "file: null pty stdio unix:" },
		{ "--console=emulated:unix:cmd", "cmdline" },
		{ "--rng=virtio:", "" },
		{ "--nonsense=x", "" },
		{ "vf", "vfio" },
		{ "--cpus=1 vf", "" },
		{ "vfio ", "--help bind list mdev unbind vf" },
		{ "vfio un", "unbind" },
		{ "vfio vf ", "create destroy set" },
		{ "vfio list --", "--all --json" },
		{ "vfio vf set a 1 m", "mac=" },
		{ "vfio vf set a 1 trust=", "off on" },
		{ "ba", "backend" },
		{ "backend ", "--help blk" },
		{ "backend blk --so", "--socket=" },
		{ "backend blk --socket=cmd", "cmdline" },
		{ "backend blk cmd", "cmdline" },
		{ "backend blk --socket=s cmd", "cmdline" },
		{ "backend blk a,form", "a,format=qcow2 a,format=raw" },
		{ "backend blk a,ro=on,ring=p", "packed" },
		{ "backend blk a,tran", "" },
		{ "vfio bind a,", "" },
	};
	char *script = help(test_rows, "bash");

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *out = complete(script, cases[i].line);

		cr_expect_str_eq(out, cases[i].shows, "%s shows \"%s\"", cases[i].line, out);
		free(out);
	}
	free(script);
}
