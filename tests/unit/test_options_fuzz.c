/*
 * Junk: command lines and files put together from pieces of good ones and from noise. Nothing may
 * crash, leak (SAN=1) or fail without a message, and what is taken must print and read back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "test_options.h"

#define ROUNDS 20000

/* clang-format off */
static const char *const pieces[] = {
	"--", "-", "=", ",", ",,", ":", "\"", "\\", "#", "\n", " ", "\t", "kernel", "initrd",
	"append", "cmdline", "boot", "images", "memory", "cpus", "irqchip", "no-reboot", "net",
	"blk", "rng", "console", "fs", "dev", "version", "help", "print-config", "list-devices",
	"pvh", "512M", "1G", "0x10", "99999999999999999999999", "-1", "1.5G", "on", "off", "ro",
	"queues", "ring", "window", "serial", "hw", "ne2k", "virtio", "emulated", "vfio",
	"vhost", "packed", "prealloc", "hugepages", "2M", "%s%n", "€", "\xff\xfe", "stdio",
	"null", "a.img", "0000:03:00.1", "trace", "stats", "stats-interval", "devices", "1s"
};
/* clang-format on */
/* Right ones, so that the wrong ones are not always the first that is looked at. */
static const char *const whole[] = {
	"--blk=virtio:a",   "--net=emulated,hw=ne2k",  "--memory=1G", "--cpus=3", "--rng=virtio",
	"--append=a \"b\"", "--console=emulated:null", "--no-reboot"
};
#define PIECES (sizeof(pieces) / sizeof(pieces[0]))

/* xorshift64*: the same junk everywhere. */
static unsigned rnd(uint64_t *state, unsigned below)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (unsigned)((*state * 0x2545f4914f6cdd1dull) >> 33) % below;
}

static void make_word(uint64_t *seed, char *word, size_t size)
{
	unsigned parts = rnd(seed, 9);
	size_t len = 0;

	*word = '\0';
	if (rnd(seed, 3) == 0) {
		snprintf(word, size, "%s", whole[rnd(seed, sizeof(whole) / sizeof(whole[0]))]);
		return;
	}
	if (rnd(seed, 4))
		len = (size_t)snprintf(word, size, "--");
	for (unsigned i = 0; i < parts && len + 80 < size; i++) {
		if (rnd(seed, 12) == 0) {
			word[len++] = (char)(1 + rnd(seed, 255));
			word[len] = '\0';
		} else {
			len += (size_t)snprintf(word + len, size - len, "%s",
						pieces[rnd(seed, PIECES)]);
		}
	}
}

/* Taken, so it must survive being printed and read. */
static void check_round_trip(struct config *first)
{
	struct error e = { .msg = "" };
	struct config second;
	char *once, *twice;
	struct test_file f;
	const char *words[2] = { NULL, NULL };

	if (!first->kernel)
		first->kernel = strdup("k");
	if (config_complete(first, &e))
		return; /* two consoles on the terminal */
	once = test_print(first);
	f = test_file(once, strlen(once));
	words[0] = f.option;
	cr_assert_eq(test_parse(&second, words, &e), 0, "%s\n%s", e.msg, once);
	cr_assert_eq(config_complete(&second, &e), 0, "%s\n%s", e.msg, once);
	twice = test_print(&second);
	cr_assert_str_eq(once, twice);
	free(once);
	free(twice);
	config_free(&second);
	close(f.fd);
}

Test(options_fuzz, junk_argv)
{
	uint64_t seed = 0x6d766d2d66757a7aull;
	unsigned taken = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		char word[4][1024];
		const char *words[5] = { NULL };
		struct error e = { .msg = "" };
		struct config config;
		unsigned n = 1 + rnd(&seed, 4);
		int err;

		for (unsigned i = 0; i < n; i++) {
			make_word(&seed, word[i], sizeof(word[i]));
			words[i] = word[i];
		}
		err = test_parse(&config, words, &e);
		cr_assert(err == 0 || e.msg[0], "round %u fails without a word", round);
		cr_assert(err == 0 || err == -EINVAL, "round %u: %d %s", round, err, e.msg);
		if (err == 0 && config.action == ACTION_RUN) {
			taken++;
			check_round_trip(&config);
		}
		config_free(&config);
	}
	cr_assert_gt(taken, ROUNDS / 20, "only %u of the junk was good", taken);
	test_no_leaks();
}

/* Good words, damaged a little: deeper into the parser than noise gets. */
Test(options_fuzz, damaged_argv)
{
	static const char *const good[] = {
		"--blk=virtio:disk.img,queues=4,ring=packed,window=64K,serial=a,,b,ro=on",
		"--net=emulated:tap0,hw=ne2k,limit=9",
		"--memory=4G,hugepages=2M,prealloc=on",
		"--console=emulated:unix:/tmp/x",
		"--append=console=ttyS0 quiet",
		"--irqchip=kernel",
	};
	uint64_t seed = 42;

	for (unsigned round = 0; round < ROUNDS; round++) {
		char word[256];
		const char *words[2] = { word, NULL };
		struct error e = { .msg = "" };
		struct config config;
		unsigned edits = 1 + rnd(&seed, 3);
		int err;

		snprintf(word, sizeof(word), "%s", good[rnd(&seed, 6)]);
		for (unsigned i = 0; i < edits; i++) {
			size_t len = strlen(word), at = rnd(&seed, (unsigned)len);

			if (rnd(&seed, 2) && len > 4)
				memmove(word + at, word + at + 1, len - at);
			else
				word[at] = ",=:|-x0"[rnd(&seed, 7)];
		}
		err = test_parse(&config, words, &e);
		cr_assert(err == 0 || e.msg[0], "round %u fails without a word", round);
		if (err == 0)
			check_round_trip(&config);
		config_free(&config);
	}
	test_no_leaks();
}

Test(options_fuzz, junk_files)
{
	uint64_t seed = 7;

	for (unsigned round = 0; round < ROUNDS / 10; round++) {
		char text[4096] = "", word[1024];
		const char *words[2] = { NULL, NULL };
		struct error e = { .msg = "" };
		struct config config;
		struct test_file f;
		size_t len = 0;

		while (rnd(&seed, 6) && len + 2 * sizeof(word) < sizeof(text)) {
			make_word(&seed, word, sizeof(word));
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s = ",
						word[0] ? word + 2 * (word[0] == '-') : "");
			make_word(&seed, word, sizeof(word));
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s\n", word);
		}
		f = test_file(text, len);
		words[0] = f.option;
		if (test_parse(&config, words, &e))
			cr_assert(e.msg[0]);
		else
			check_round_trip(&config);
		config_free(&config);
		close(f.fd);
	}
	test_no_leaks();
}
