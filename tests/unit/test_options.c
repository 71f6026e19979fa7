/*
 * Command lines, good ones and bad ones: what comes out, and what the message says.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "test_options.h"

/* What --print-config says of a command line; --kernel=k is added in front. */
struct good {
	const char *words[8];
	const char *says[6]; /* whole lines */
};

static const struct good good[] = {
	{ { NULL },
	  { "kernel = k", "memory = 512M", "cpus = 1", "boot = auto", "irqchip = kernel",
	    "no-reboot = off" } },
	{ { "--kernel", "other", "--initrd", "i" }, { "kernel = other", "initrd = i" } },
	{ { "--kernel=a=b" }, { "kernel = a=b" } },
	{ { "--cpus=64" }, { "cpus = 64" } },
	{ { "--cpus=2", "--cpus=0x10" }, { "cpus = 16" } },
	{ { "--boot=pvh", "--irqchip=split" }, { "boot = pvh", "irqchip = split" } },
	{ { "--no-reboot" }, { "no-reboot = on" } },
	{ { "--no-reboot", "--no-reboot=off" }, { "no-reboot = off" } },
	{ { "--no-reboot", "--cpus", "3" }, { "no-reboot = on", "cpus = 3" } },
	/* sizes */
	{ { "--memory=2097152" }, { "memory = 2M" } },
	{ { "--memory=1024K" }, { "memory = 1M" } },
	{ { "--memory=3g" }, { "memory = 3G" } },
	{ { "--memory=1536MiB" }, { "memory = 1536M" } },
	{ { "--memory=1T,prealloc=on" }, { "memory = 1T,prealloc=on" } },
	{ { "--memory", "4M,hugepages=2M" }, { "memory = 4M,hugepages=2M" } },
	{ { "--memory=2G,hugepages=1G,prealloc=off" }, { "memory = 2G,hugepages=1G" } },
	{ { "--memory=4G,prealloc=on", "--memory=1G" }, { "memory = 1G" } },
	{ { "--stats=s.json" }, { "stats = s.json" } },
	{ { "--stats-interval=2" }, { "stats-interval = 2s" } },
	{ { "--stats-interval", "1500ms" }, { "stats-interval = 1500ms" } },
	{ { "--stats-interval=2min" }, { "stats-interval = 120s" } },
	{ { "--trace=text" }, { "trace = text" } },
	{ { "--trace=a,,b,devices=blk0+net0,kicks=exit,limit=1M" },
	  { "trace = a,,b,devices=blk0+net0,kicks=exit,limit=1M" } },
	{ { "--trace=a,devices=blk0", "--trace=b" }, { "trace = b" } },
	/* the guest's command line */
	{ { NULL }, { "cmdline = console=ttyS0" } },
	{ { "--append=a", "--append", "-b c" }, { "cmdline = console=ttyS0 a -b c" } },
	{ { "--append=", "--append=x" }, { "cmdline = console=ttyS0 x" } },
	{ { "--cmdline=only this" }, { "cmdline = only this" } },
	{ { "--cmdline=" }, { "cmdline = \"\"" } },
	{ { "--cmdline=a", "--append=b" }, { "cmdline = a b" } },
	{ { "--append=x", "--console=virtio" }, { "cmdline = console=hvc0 x" } },
	{ { "--append=--double" }, { "cmdline = console=ttyS0 --double" } },
	/* devices */
	{ { NULL }, { "console = emulated" } },
	{ { "--console=emulated:null" }, { "console = emulated:null" } },
	{ { "--blk=virtio:disk.img" }, { "blk = virtio:disk.img" } },
	{ { "--blk", "virtio:disk.img" }, { "blk = virtio:disk.img" } },
	{ { "--blk=virtio:disk.img,ro=on" },
	  { "blk = virtio:disk.img,ro=on", "# queues=1 ring=split window=1M" } },
	{ { "--blk=virtio:a,queues=0x8,ring=packed,window=4K,limit=99,serial=x y" },
	  { "blk = virtio:a,queues=8,ring=packed,window=4K,limit=99,serial=x y", "# ro=off" } },
	{ { "--blk=virtio:a,ro=off" }, { "blk = virtio:a,ro=off" } },
	{ { "--blk=vfio:0000:03:00.1" }, { "blk = vfio:0000:03:00.1" } },
	{ { "--blk=virtio:a,,b,,,ro=on" }, { "blk = virtio:a,,b,,,ro=on" } },
	{ { "--blk=virtio:a,serial=x,,,,y,ro=on" }, { "blk = virtio:a,ro=on,serial=x,,,,y" } },
	{ { "--blk=virtio: lead" }, { "blk = virtio: lead" } },
	{ { "--blk=virtio:trail " }, { "blk = \"virtio:trail \"" } },
	{ { "--blk=virtio:a\nb" }, { "blk = \"virtio:a\\nb\"" } },
	{ { "--blk=virtio:a=b:c" }, { "blk = virtio:a=b:c" } },
	{ { "--net=emulated" }, { "net = emulated" } },
	{ { "--net=emulated,hw=e1000" }, { "net = emulated" } },
	{ { "--net=emulated:tap0,hw=ne2k,ro=on" }, { "net = emulated:tap0,hw=ne2k,ro=on" } },
	{ { "--net=emulated:tap0,ro=on,hw=ne2k" }, { "net = emulated:tap0,hw=ne2k,ro=on" } },
	{ { "--net=virtio,hw=virtio-net" }, { "net = virtio" } },
	{ { "--rng=virtio", "--rng=virtio" }, { "rng = virtio" } },
};

/* Is it a line of the text? */
static bool has_line(const char *text, const char *line)
{
	size_t len = strlen(line);

	for (const char *at = text; (at = strstr(at, line)); at++)
		if ((at == text || at[-1] == '\n') && at[len] == '\n')
			return true;
	return false;
}

Test(options, good_command_lines)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const char *words[MAX_WORDS] = { "--kernel=k" };
		struct error e = { .msg = "" };
		struct config config;
		char *text;

		memcpy(words + 1, good[i].words, sizeof(good[i].words));
		test_parse_ok(&config, words);
		cr_assert_eq(config_complete(&config, &e), 0, "%s", e.msg);
		text = test_print(&config);
		for (size_t s = 0; s < 6 && good[i].says[s]; s++)
			cr_expect(has_line(text, good[i].says[s]), "case %zu: no \"%s\" in:\n%s", i,
				  good[i].says[s], text);
		free(text);
		config_free(&config);
	}
	test_no_leaks();
}

struct bad {
	const char *words[6];
	const char *says[4]; /* the first begins the message, the others are in it */
};

static const struct bad bad[] = {
	/* flags */
	{ { "--kernal=x" }, { "--kernal=x: no such option", "did you mean \"--kernel\"?" } },
	{ { "--KERNEL=x" }, { "--KERNEL=x: ", "\"--kernel\"?" } },
	{ { "--bkl=virtio:x" }, { "--bkl=virtio:x: ", "did you mean \"--blk\"?" } },
	{ { "--mem=1G" }, { "--mem=1G: ", "did you mean \"--memory\"?" } },
	{ { "--frobnicate" }, { "--frobnicate: no such option", "mvm --help" } },
	{ { "--=x" }, { "--=x: no such option" } },
	{ { "--platform=rtc" }, { "--platform=rtc: no such option" } },
	{ { "--kernel" }, { "--kernel: needs a value: --kernel=FILE" } },
	{ { "--kernel", "--cpus=1" }, { "--kernel: needs a value" } },
	{ { "--kernel=" }, { "--kernel=: needs a value" } },
	{ { "--cpus" }, { "--cpus: needs a value: --cpus=N" } },
	{ { "--boot" }, { "--boot: needs a value: --boot=auto|linux64|pvh" } },
	{ { "--version=2" }, { "--version=2: takes no value" } },
	{ { "--print-config=x" }, { "--print-config=x: takes no value" } },
	{ { "--help=blkk" }, { "--help=blkk: no help on that", "\"blk\"?" } },
	{ { "--help=" }, { "--help=: needs a value" } },
	/* stray words */
	{ { "--" }, { "--: there are only options" } },
	{ { "-" }, { "-: stray word" } },
	{ { "" }, { "an empty word" } },
	{ { "-kernel", "x" }, { "-kernel: options begin with two dashes", "\"--kernel\"?" } },
	{ { "-q" }, { "-q: options begin with two dashes" } },
	{ { "disk.img" }, { "disk.img: stray word", "--blk=MODEL:IMAGE" } },
	{ { "/boot/vmlinuz-6" }, { "/boot/vmlinuz-6: stray word", "--kernel=FILE" } },
	{ { "--blk=virtio:a", ",ro=on" }, { ",ro=on: stray word", "no space" } },
	{ { "--no-reboot", "on" }, { "on: stray word" } },
	{ { "cpus=4" }, { "cpus=4: stray word", "two dashes" } },
	/* plain values */
	{ { "--cpus=0" }, { "--cpus=0: must be 1 to 64" } },
	{ { "--cpus=65" }, { "--cpus=65: must be 1 to 64" } },
	{ { "--cpus=-1" }, { "--cpus=-1: not a whole number" } },
	{ { "--cpus=4x" }, { "--cpus=4x: not a whole number" } },
	{ { "--cpus=0x" }, { "--cpus=0x: not a whole number" } },
	{ { "--cpus=99999999999999999999" }, { "--cpus=", "too large a number" } },
	{ { "--boot=pvhh" }, { "--boot=pvhh: must be auto, linux64 or pvh", "\"pvh\"?" } },
	{ { "--irqchip=kern" },
	  { "--irqchip=kern: must be kernel, split or user", "\"kernel\"?" } },
	{ { "--no-reboot=yes" }, { "--no-reboot=yes: must be on or off" } },
	/* sizes */
	{ { "--memory=512" }, { "--memory=512: ", "did you mean 512M?" } },
	{ { "--memory=64K" }, { "--memory=64K: must be 1M to 16T" } },
	{ { "--memory=17T" }, { "--memory=17T: must be 1M to 16T" } },
	{ { "--memory=1.5G" }, { "--memory=1.5G: ", "1536M" } },
	{ { "--memory=2GB" }, { "--memory=2GB: ", "one of K, M, G, T" } },
	{ { "--memory=lots" }, { "--memory=lots: not a size" } },
	{ { "--memory=-1G" }, { "--memory=-1G: not a size" } },
	{ { "--memory=16777216T" }, { "--memory=16777216T: too large a size" } },
	{ { "--memory=18446744073709551616" }, { "--memory=", "too large a size" } },
	{ { "--memory=1048577" }, { "--memory=1048577: SIZE must be a multiple of 4K" } },
	{ { "--memory=3M,hugepages=2M" }, { "--memory=3M,hugepages=2M: SIZE must be", "2M" } },
	{ { "--memory=512M,hugepages=1G" }, { "--memory=", "multiple of 1G" } },
	{ { "--memory=1G,hugepages=4K" }, { "--memory=", "hugepages=4K: must be 2M or 1G" } },
	{ { "--memory=1G,hugepage=2M" }, { "--memory=", "no key \"hugepage\"", "\"hugepages\"?" } },
	{ { "--memory=1G,prealloc=on,prealloc=on" }, { "--memory=", "given twice" } },
	{ { "--stats-interval=soon" }, { "--stats-interval=soon: not a time", "500ms" } },
	{ { "--stats-interval=1h" }, { "--stats-interval=1h: not a time" } },
	{ { "--stats-interval=0" }, { "--stats-interval=0: must be 100ms to 60min" } },
	{ { "--stats-interval=99999999999999999999" },
	  { "--stats-interval=", "must be 100ms to 60min" } },
	{ { "--trace=,kicks=exit" }, { "--trace=,kicks=exit: the value is missing" } },
	{ { "--trace=a,kick=exit" }, { "--trace=", "no key \"kick\"", "\"kicks\"?" } },
	{ { "--trace=a,limit=1" }, { "--trace=", "limit=1: must be 4K to 16T" } },
	{ { "--memory=,prealloc=on" }, { "--memory=,prealloc=on: the value is missing" } },
	/* models and pairs */
	{ { "--blk" }, { "--blk: needs a value: --blk=MODEL[:TARGET]", "--help=blk" } },
	{ { "--blk=" }, { "--blk=: needs a value" } },
	{ { "--blk=:x" }, { "--blk=:x: a model is missing", "--blk=virtio:IMAGE" } },
	{ { "--blk=virtoi:x" },
	  { "--blk=virtoi:x: no model \"virtoi\" for blk; did you mean \"virtio\"?",
	    "--blk=virtio:IMAGE, --blk=vfio:BDF" } },
	{ { "--blk=disk.img" }, { "--blk=disk.img: no model \"disk.img\"", "--blk=virtio:IMAGE" } },
	{ { "--net=vfio:0000:01:00.0" },
	  { "--net=vfio:0000:01:00.0: vfio net is planned",
	    "--net=emulated[:user|TAP], --net=virtio[:user|TAP]" } },
	{ { "--rng=emulated" },
	  { "--rng=emulated: there is no emulated rng", "has --rng=virtio" } },
	{ { "--fs=vhost:/s" }, { "--fs=vhost:/s: vhost fs is planned", "has no fs", "--rng" } },
	{ { "--rng=platform" }, { "--rng=platform: no model" } },
	/* targets */
	{ { "--blk=virtio" }, { "--blk=virtio: virtio blk needs a target: --blk=virtio:IMAGE" } },
	{ { "--blk=virtio:" }, { "--blk=virtio:: virtio blk needs a target" } },
	{ { "--blk=virtio,ro=on" }, { "--blk=virtio,ro=on: virtio blk needs a target" } },
	{ { "--net=virtio:" }, { "--net=virtio:: the target is empty" } },
	{ { "--rng=virtio:/dev/random" }, { "--rng=", "takes no target: --rng=virtio" } },
	/* keys */
	{ { "--blk=virtio:a,r0=on" }, { "--blk=virtio:a,r0=on: no key \"r0\"", "\"ro\"?" } },
	{ { "--blk=virtio:a,b.img" }, { "--blk=", "no key \"b.img\"", "ring", "written twice" } },
	{ { "--blk=virtio:a," }, { "--blk=virtio:a,: a KEY=VALUE is missing" } },
	{ { "--blk=virtio:a,,,,," }, { "--blk=", "KEY=VALUE is missing" } },
	{ { "--blk=virtio:a,ro" }, { "--blk=virtio:a,ro: key \"ro\" needs a value: ro=on|off" } },
	{ { "--blk=virtio:a,ro=" }, { "--blk=virtio:a,ro=: ro=: the value is missing" } },
	{ { "--blk=virtio:a,ro=on,ro=on" }, { "--blk=", "key \"ro\" is given twice" } },
	{ { "--blk=virtio:a,ro=true" }, { "--blk=", "ro=true: must be on or off" } },
	{ { "--blk=virtio:a,queues=0" }, { "--blk=", "queues=0: must be 1 to 64" } },
	{ { "--blk=virtio:a,queues=many" }, { "--blk=", "queues=many: not a whole number" } },
	{ { "--blk=virtio:a,ring=paked" }, { "--blk=", "must be split or packed", "\"packed\"?" } },
	{ { "--blk=virtio:a,window=2G" }, { "--blk=", "window=2G: must be 4K to 1G" } },
	{ { "--blk=virtio:a,limit=1" }, { "--blk=", "limit=1: must be at least 2" } },
	{ { "--blk=virtio:a,=on" }, { "--blk=", "no key \"\"" } },
	{ { "--rng=virtio,ro=on" }, { "--rng=virtio,ro=on: no key \"ro\"; this takes none" } },
	/* hw */
	{ { "--net=emulated,hw=e100" },
	  { "--net=emulated,hw=e100: no hw \"e100\" for emulated net", "\"e1000\"?",
	    "hw=e1000, hw=ne2k" } },
	{ { "--net=emulated,hw" }, { "--net=", "key \"hw\" needs a value", "hw=ne2k" } },
	{ { "--net=emulated,hw=" }, { "--net=", "key \"hw\" needs a value" } },
	{ { "--net=emulated,hw=ne2k,hw=ne2k" }, { "--net=", "key \"hw\" is given twice" } },
	{ { "--net=emulated,hw=virtio-net" }, { "--net=", "no hw \"virtio-net\"" } },
	{ { "--net=emulated,ro=on" }, { "--net=", "no key \"ro\"" } },
	/* files */
	{ { "--config=" }, { "--config=: needs a value: --config=FILE" } },
	{ { "--config" }, { "--config: needs a value" } },
};

Test(options, bad_command_lines)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error e = { .msg = "" };
		struct config config;
		int err = test_parse(&config, bad[i].words, &e);

		cr_expect_eq(err, -EINVAL, "case %zu (%s) returns %d", i, bad[i].words[0], err);
		cr_expect_eq(strncmp(e.msg, bad[i].says[0], strlen(bad[i].says[0])), 0,
			     "case %zu (%s) says: %s", i, bad[i].words[0], e.msg);
		for (size_t s = 1; s < 4 && bad[i].says[s]; s++)
			cr_expect(strstr(e.msg, bad[i].says[s]), "case %zu (%s) says: %s", i,
				  bad[i].words[0], e.msg);
		config_free(&config);
	}
	test_no_leaks();
}

Test(options, a_long_flag_leaves_room_for_the_message)
{
	char word[8192] = "--blk=virtio:";
	const char *words[] = { word, NULL };
	struct error e = { .msg = "" };
	struct config config;

	for (size_t i = strlen(word); i + 10 < sizeof(word); i += 3)
		memcpy(word + i, "€", 4);
	strcat(word, ",ro=1");
	cr_assert_eq(test_parse(&config, words, &e), -EINVAL);
	cr_assert(strstr(e.msg, "…: ro=1: must be on or off"), "%s", e.msg);
	config_free(&config);
}

Test(options, too_many_devices)
{
	struct error e = { .msg = "" };
	struct config config;
	char *argv[CONFIG_MAX_DEVICES + 2] = { (char *)"mvm" };

	for (int i = 1; i <= CONFIG_MAX_DEVICES + 1; i++)
		argv[i] = (char *)"--rng=virtio";
	config_init(&config);
	config.registry = test_rows;
	cr_assert_eq(config_parse(&config, CONFIG_MAX_DEVICES + 2, argv, &e), -EINVAL);
	cr_assert(strstr(e.msg, "at most 32"), "%s", e.msg);
	config_free(&config);
	test_no_leaks();
}

Test(options, actions)
{
	static const struct {
		const char *words[4];
		enum config_action action;
		const char *topic;
	} cases[] = {
		{ { NULL }, ACTION_RUN, NULL },
		{ { "--help" }, ACTION_HELP, NULL },
		{ { "-h", "--nonsense" }, ACTION_HELP, NULL },
		{ { "--help=net" }, ACTION_HELP, "net" },
		{ { "--help=memory" }, ACTION_HELP, "memory" },
		{ { "--help=man" }, ACTION_HELP, "man" },
		{ { "--version", "--nonsense" }, ACTION_VERSION, NULL },
		{ { "--list-devices", "stray" }, ACTION_LIST_DEVICES, NULL },
		{ { "--print-config", "--cpus=2" }, ACTION_PRINT_CONFIG, NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct config config;

		test_parse_ok(&config, cases[i].words);
		cr_expect_eq(config.action, cases[i].action, "case %zu", i);
		cr_expect_eq(!config.topic, !cases[i].topic, "case %zu", i);
		if (config.topic && cases[i].topic)
			cr_expect_str_eq(config.topic, cases[i].topic);
		config_free(&config);
	}
	test_no_leaks();
}

Test(options, a_device_as_its_front_end_reads_it)
{
	const char *words[] = { "--blk=virtio:a,,b,queues=4,ring=packed,serial=s,,1",
				"--blk=vfio:0000:03:00.1", "--rng=virtio", NULL };
	const struct device_config *d;
	struct config config;

	test_parse_ok(&config, words);
	cr_assert_eq(config.ndevices, 3);
	d = &config.device[0];
	cr_assert_str_eq(d->row->hw, "virtio-blk");
	cr_assert_str_eq(d->target, "a,b");
	cr_assert_str_eq(d->flag, words[0]);
	cr_assert_eq(device_config_uint(d, "queues"), 4);
	cr_assert_eq(device_config_uint(d, "ring"), 1);
	cr_assert_eq(device_config_uint(d, "window"), 1 << 20);
	cr_assert_str_eq(device_config_string(d, "serial"), "s,1");
	cr_assert(device_config_given(d, "queues"));
	cr_assert_not(device_config_given(d, "window"));
	cr_assert_not(device_config_bool(d, "ro"));
	cr_assert_eq(d->index, 0);
	cr_assert_eq(config.device[1].index, 1);
	cr_assert_str_eq(config.device[1].target, "0000:03:00.1");
	cr_assert_eq(config.device[2].index, 0);
	cr_assert_null(config.device[2].target);
	config_free(&config);
	config_free(&config);
	test_no_leaks();
}
