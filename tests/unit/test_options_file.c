/*
 * --config files, --print-config read back, and what config_complete() adds.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "test_options.h"

static int parse_file(struct config *config, const char *text, struct error *e)
{
	struct test_file f = test_file(text, strlen(text));
	const char *words[] = { f.option, NULL };
	int err = test_parse(config, words, e);

	close(f.fd);
	return err;
}

Test(options_file, reads_options_without_dashes)
{
	struct config config;
	struct error e = { .msg = "" };
	int err = parse_file(&config,
			     "# a comment\n"
			     "\n"
			     "kernel=k\r\n"
			     "  cpus  =  3  \n"
			     "append = a # is no comment\n"
			     "append = \" \\\"q\\\"\\\\\\n\\t \"\n"
			     "no-reboot\n"
			     "blk = virtio:a=b,ro=on\n"
			     "   # another\n"
			     "memory = 1G,prealloc=on", /* no newline at the end */
			     &e);

	cr_assert_eq(err, 0, "%s", e.msg);
	cr_assert_str_eq(config.kernel, "k");
	cr_assert_eq(config.cpus, 3);
	cr_assert_str_eq(config.append, "a # is no comment  \"q\"\\\n\t ");
	cr_assert(config.no_reboot);
	cr_assert_eq(config.ndevices, 1);
	cr_assert_str_eq(config.device[0].target, "a=b");
	cr_assert_eq(config.memory.size, 1u << 30);
	cr_assert(config.memory.prealloc);
	config_free(&config);
}

Test(options_file, is_read_where_it_stands)
{
	struct test_file f = test_file("cpus = 2\nkernel = f\n", 20);
	const char *words[] = { "--cpus=8", f.option, "--kernel=after", NULL };
	struct config config;

	test_parse_ok(&config, words);
	cr_assert_eq(config.cpus, 2);
	cr_assert_str_eq(config.kernel, "after");
	config_free(&config);
	close(f.fd);
}

Test(options_file, messages_name_file_and_line)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "\n\nblk = virtoi:x\n", ":3: --blk=virtoi:x: no model \"virtoi\"" },
		{ "kernal = x\n", ":1: --kernal=x: no such option; did you mean" },
		{ "--kernel = x\n", ":1: in a file, options are written without dashes: kernel" },
		{ "= x\n", ":1: an option's name is missing" },
		{ "kernel x\n", ":1: not NAME = VALUE" },
		{ "kernel\n", ":1: --kernel: needs a value" },
		{ "kernel =\n", ":1: --kernel=: needs a value" },
		{ "kernel = \"x\n", ":1: the closing quote is missing" },
		{ "kernel = \"x\" y\n", ":1: text behind the closing quote" },
		{ "kernel = \"\\x\"\n", ":1: in quotes" },
		{ "kernel = \"\\", ":1: in quotes" },
		{ "cpus = 1\ncpus = 99\n", ":2: --cpus=99: must be 1 to 64" },
		{ "help\n", ":1: --help: only for the command line" },
		{ "print-config\n", ":1: --print-config: only for the command line" },
		{ "config = /nonexistent\n", ":1: --config=/nonexistent: cannot open it" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error e = { .msg = "" };
		struct config config;

		cr_expect_lt(parse_file(&config, cases[i].text, &e), 0);
		cr_expect_eq(strncmp(e.msg, "/proc/self/fd/", 14), 0, "%s", e.msg);
		cr_expect(strstr(e.msg, cases[i].says), "case %zu says: %s", i, e.msg);
		config_free(&config);
	}
	test_no_leaks();
}

Test(options_file, refuses_what_is_no_text_file)
{
	static char big[(1u << 20) + 1];
	struct test_file zero = test_file("cpus = 1\0\n", 10), large;
	const char *words[][2] = { { "--config=/nonexistent" },
				   { "--config=/" },
				   { zero.option },
				   { NULL },
				   { "--config=/dev/zero" } };
	static const char *const says[] = { "No such file", "Is a directory", "zero bytes",
					    "larger than 1 MiB", "larger than 1 MiB" };

	memset(big, '\n', sizeof(big));
	large = test_file(big, sizeof(big));
	words[3][0] = large.option;
	for (size_t i = 0; i < 5; i++) {
		struct error e = { .msg = "" };
		struct config config;

		cr_expect_lt(test_parse(&config, words[i], &e), 0);
		cr_expect_eq(strncmp(e.msg, words[i][0], strlen(words[i][0])), 0, "%s", e.msg);
		cr_expect(strstr(e.msg, says[i]), "%s", e.msg);
		config_free(&config);
	}
	close(zero.fd);
	close(large.fd);
	test_no_leaks();
}

Test(options_file, includes_end)
{
	struct test_file a = test_file("", 0), b = test_file("", 0);
	const char *words[] = { a.option, NULL };
	char text[128];
	struct error e = { .msg = "" };
	struct config config;
	int n;

	/* a → b → a */
	n = snprintf(text, sizeof(text), "config = %s\n", b.path);
	cr_assert_eq(pwrite(a.fd, text, (size_t)n, 0), n);
	n = snprintf(text, sizeof(text), "cpus = 2\nconfig = %s\n", a.path);
	cr_assert_eq(pwrite(b.fd, text, (size_t)n, 0), n);
	cr_assert_eq(test_parse(&config, words, &e), -EINVAL);
	cr_assert(strstr(e.msg, "the file includes itself"), "%s", e.msg);
	snprintf(text, sizeof(text), "%s:1: %s:2: --config=", a.path, b.path);
	cr_assert_eq(strncmp(e.msg, text, strlen(text)), 0, "%s", e.msg);
	config_free(&config);

	/* Twice one after the other is no loop. */
	cr_assert_eq(ftruncate(b.fd, 0), 0);
	n = snprintf(text, sizeof(text), "config=%s\nconfig=%s\n", b.path, b.path);
	cr_assert_eq(pwrite(a.fd, text, (size_t)n, 0), n);
	test_parse_ok(&config, words);
	config_free(&config);
	close(a.fd);
	close(b.fd);
	test_no_leaks();
}

Test(options_file, a_printed_configuration_reads_back)
{
	static const char *const lines[][10] = {
		{ "--kernel=k" },
		{ "--kernel=k", "--initrd=with space ", "--append= x  ", "--boot=pvh",
		  "--memory=6M,hugepages=2M,prealloc=on", "--cpus=7", "--irqchip=user",
		  "--no-reboot" },
		{ "--kernel=\"quoted\"", "--cmdline=\"", "--images=#dir", "--append=a\\b\n\"c\"" },
		{ "--kernel=k", "--rng=virtio", "--net=virtio:tap,,0,queues=2",
		  "--blk=virtio:a,serial=,,=", "--net=emulated,hw=ne2k,window=5K",
		  "--console=virtio:null", "--console=emulated", "--blk=vfio:0000:03:00.1",
		  "--blk=virtio:\t\"t\"\r" },
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct error e = { .msg = "" };
		struct config first, second;
		char *once, *twice;

		test_parse_ok(&first, lines[i]);
		cr_assert_eq(config_complete(&first, &e), 0, "%s", e.msg);
		once = test_print(&first);
		cr_assert_eq(parse_file(&second, once, &e), 0, "%s\n%s", e.msg, once);
		cr_assert_eq(second.ndevices, first.ndevices);
		for (unsigned d = 0; d < first.ndevices; d++) {
			const struct device_config *a = &first.device[d], *b = &second.device[d];

			cr_expect_eq(a->row, b->row);
			cr_expect_eq(a->index, b->index);
			cr_expect_eq(!a->target, !b->target);
			if (a->target && b->target)
				cr_expect_str_eq(a->target, b->target);
			for (unsigned k = 0; a->row->keys[k].name; k++)
				cr_expect(a->value[k].given == b->value[k].given &&
					  a->value[k].number == b->value[k].number);
		}
		cr_assert_eq(config_complete(&second, &e), 0, "%s", e.msg);
		twice = test_print(&second);
		cr_expect_str_eq(once, twice);
		free(once);
		free(twice);
		config_free(&first);
		config_free(&second);
	}
	test_no_leaks();
}

/* A directory of its own with empty files of these names. */
static void make_images(char *dir, const char *const *names)
{
	strcpy(dir, "/tmp/mvm-test-XXXXXX");
	cr_assert(mkdtemp(dir));
	for (; *names; names++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/%s", dir, *names);
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	}
}

static void remove_images(const char *dir)
{
	static const char *const all[] = { "vmlinux", "bzImage", "initramfs.cpio",
					   "initramfs.cpio.gz" };

	for (size_t i = 0; i < 4; i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/%s", dir, all[i]);
		unlink(path);
	}
	rmdir(dir);
}

Test(config, finds_the_default_guest)
{
	static const struct {
		const char *files[5], *kernel, *initrd;
		bool by_environment;
	} cases[] = {
		{ { "vmlinux", "bzImage", "initramfs.cpio.gz" },
		  "vmlinux",
		  "initramfs.cpio.gz",
		  false },
		{ { "bzImage", "initramfs.cpio" }, "bzImage", "initramfs.cpio", false },
		{ { "bzImage" }, "bzImage", NULL, false },
		{ { "vmlinux", "initramfs.cpio" }, "vmlinux", "initramfs.cpio", true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char dir[64], option[96], path[128];
		const char *words[] = { NULL, NULL };
		struct error e = { .msg = "" };
		struct config config;

		make_images(dir, cases[i].files);
		snprintf(option, sizeof(option), "--images=%s", dir);
		setenv("MVM_IMAGES", cases[i].by_environment ? dir : "/nonexistent", 1);
		words[0] = cases[i].by_environment ? NULL : option;
		test_parse_ok(&config, words);
		cr_assert_eq(config_complete(&config, &e), 0, "%s", e.msg);
		snprintf(path, sizeof(path), "%s/%s", dir, cases[i].kernel);
		cr_expect_str_eq(config.kernel, path);
		cr_expect_eq(!config.initrd, !cases[i].initrd);
		if (config.initrd) {
			snprintf(path, sizeof(path), "%s/%s", dir, cases[i].initrd);
			cr_expect_str_eq(config.initrd, path);
		}
		config_free(&config);
		remove_images(dir);
	}
	test_no_leaks();
}

Test(config, mixes_the_users_files_with_the_default_guest)
{
	static const char *const files[] = { "vmlinux", "initramfs.cpio", NULL };
	static const char *const own_initrd[] = { "--initrd=mine", NULL };
	static const char *const own_kernel[] = { "--kernel=mine", NULL };
	struct error e = { .msg = "" };
	struct config config;
	char dir[64];

	make_images(dir, files);
	setenv("MVM_IMAGES", dir, 1);
	test_parse_ok(&config, own_initrd);
	cr_assert_eq(config_complete(&config, &e), 0, "%s", e.msg);
	cr_expect(strstr(config.kernel, "/vmlinux"));
	cr_expect_str_eq(config.initrd, "mine");
	config_free(&config);

	test_parse_ok(&config, own_kernel);
	cr_assert_eq(config_complete(&config, &e), 0, "%s", e.msg);
	cr_expect_str_eq(config.kernel, "mine");
	cr_expect_null(config.initrd);
	config_free(&config);
	remove_images(dir);
}

Test(config, says_where_it_looked_for_the_default_guest)
{
	static const char *const none[] = { NULL }, *const images[] = { "--images=/no/such", NULL };
	struct error e = { .msg = "" };
	struct config config;

	setenv("MVM_IMAGES", "/not/there", 1);
	test_parse_ok(&config, none);
	cr_assert_eq(config_complete(&config, &e), -ENOENT);
	cr_expect(strstr(e.msg, "MVM_IMAGES=/not/there"), "%s", e.msg);
	cr_expect(strstr(e.msg, "--kernel=FILE"), "%s", e.msg);
	config_free(&config);

	test_parse_ok(&config, images);
	cr_assert_eq(config_complete(&config, &e), -ENOENT);
	cr_expect(strstr(e.msg, "--images=/no/such"), "%s", e.msg);
	config_free(&config);
	test_no_leaks();
}

Test(config, gives_the_terminal_to_one_console)
{
	static const char *const two[] = { "--kernel=k", "--console=emulated:stdio",
					   "--console=virtio", NULL };
	static const char *const apart[] = { "--kernel=k", "--console=emulated:pty",
					     "--console=virtio", NULL };
	struct error e = { .msg = "" };
	struct config config;

	test_parse_ok(&config, two);
	cr_assert_eq(config_complete(&config, &e), -EINVAL);
	cr_expect(strstr(e.msg, "--console=virtio: the terminal is taken by "
				"--console=emulated:stdio"),
		  "%s", e.msg);
	config_free(&config);

	test_parse_ok(&config, apart);
	cr_assert_eq(config_complete(&config, &e), 0, "%s", e.msg);
	cr_expect_eq(config.ndevices, 2);
	config_free(&config);
	test_no_leaks();
}

Test(config, passed_through_serial_ports_are_no_console)
{
	static char *const argv[] = { "mvm", "--kernel=k",
				      "--console=vfio:83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
				      "--rng=virtio" };
	struct error e = { .msg = "" };
	struct config config;

	config_init(&config);
	cr_assert_eq(config_parse(&config, 4, (char **)argv, &e), 0, "%s", e.msg);
	cr_assert_eq(config_complete(&config, &e), 0, "%s", e.msg);
	cr_assert_eq(config.ndevices, 3);
	cr_expect_eq(config.device[0].row->model, MODEL_EMULATED);
	cr_expect_eq(config.device[0].index, 0, "the guest's first port");
	cr_expect_eq(config.device[1].row->model, MODEL_VFIO);
	cr_expect_eq(config.device[1].index, 1);
	cr_expect_eq(config.device[2].index, 0, "of another class");
	cr_expect_str_eq(config.cmdline, "console=ttyS0");
	config_free(&config);
	test_no_leaks();
}
