/*
 * The option tests' registry and helpers: see test_options.h.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "test_options.h"

static const struct device_key no_keys[] = { { .name = NULL } };

static const struct device_key keys[] = {
	{ .name = "ro", .type = KEY_BOOL, .fallback = "off", .help = "may only be read" },
	{ .name = "queues",
	  .type = KEY_UINT,
	  .min = 1,
	  .max = 64,
	  .fallback = "1",
	  .help = "number of queues" },
	{ .name = "ring",
	  .type = KEY_ENUM,
	  .choices = "split|packed",
	  .fallback = "split",
	  .help = "layout of the rings" },
	{ .name = "window",
	  .type = KEY_SIZE,
	  .min = 4096,
	  .max = 1ull << 30,
	  .fallback = "1M",
	  .help = "size of the window" },
	{ .name = "limit", .type = KEY_UINT, .min = 2, .help = "no upper end" },
	{ .name = "serial", .type = KEY_STRING, .help = "serial number" },
	{ .name = NULL },
};

static const struct device_row e1000 = {
	.class = CLASS_NET,
	.model = MODEL_EMULATED,
	.hw = "e1000",
	.preferred = true,
	.summary = "a network card",
	.target = "user|TAP",
	.keys = no_keys,
	.capabilities = DEVICE_CAN_PAUSE | DEVICE_CAN_SAVE,
};

static const struct device_row ne2k = {
	.class = CLASS_NET,
	.model = MODEL_EMULATED,
	.hw = "ne2k",
	.summary = "an older network card. With a second sentence, and – beyond ASCII – a dash",
	.target = "user|TAP",
	.keys = keys,
};

static const struct device_row virtio_net = {
	.class = CLASS_NET,
	.model = MODEL_VIRTIO,
	.hw = "virtio-net",
	.preferred = true,
	.summary = "a network card by virtio",
	.target = "user|TAP",
	.keys = keys,
};

static const struct device_row virtio_blk = {
	.class = CLASS_BLK,
	.model = MODEL_VIRTIO,
	.hw = "virtio-blk",
	.preferred = true,
	.summary = "a disk by virtio",
	.target = "IMAGE",
	.target_required = true,
	.keys = keys,
};

static const struct device_row vfio_blk = {
	.class = CLASS_BLK,
	.model = MODEL_VFIO,
	.hw = "vfio-pci",
	.preferred = true,
	.summary = "a function of the host",
	.target = "BDF",
	.target_required = true,
	.keys = no_keys,
};

static const struct device_row console = {
	.class = CLASS_CONSOLE,
	.model = MODEL_EMULATED,
	.hw = "16550",
	.preferred = true,
	.summary = "a serial port",
	.target = "stdio|pty[:LINK]|file:PATH|unix:PATH|null",
	.keys = no_keys,
};

static const struct device_row virtio_console = {
	.class = CLASS_CONSOLE,
	.model = MODEL_VIRTIO,
	.hw = "virtio-console",
	.preferred = true,
	.summary = "a console by virtio",
	.target = "stdio|null",
	.keys = no_keys,
};

static const struct device_row rng = {
	.class = CLASS_RNG,
	.model = MODEL_VIRTIO,
	.hw = "virtio-rng",
	.preferred = true,
	.summary = "a source of random numbers",
	.keys = no_keys,
};

const struct device_row *const test_rows[] = {
	&e1000, &ne2k, &virtio_net, &virtio_blk, &vfio_blk, &console, &virtio_console, &rng, NULL,
};

int test_parse(struct config *config, const char *const *words, struct error *e)
{
	char *argv[MAX_WORDS + 2] = { (char *)"mvm" };
	int argc = 1;

	for (; *words; words++) {
		cr_assert(argc <= MAX_WORDS);
		argv[argc++] = (char *)*words;
	}
	config_init(config);
	config->registry = test_rows;
	return config_parse(config, argc, argv, e);
}

void test_parse_ok(struct config *config, const char *const *words)
{
	struct error e = { .msg = "" };

	cr_assert_eq(test_parse(config, words, &e), 0, "%s", e.msg);
}

char *test_print(const struct config *config)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	cr_assert(out);
	config_print(config, out);
	fclose(out);
	return text;
}

/* The sanitizer's, if it is there. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

void test_no_leaks(void)
{
	if (__lsan_do_recoverable_leak_check)
		cr_assert_eq(__lsan_do_recoverable_leak_check(), 0, "memory was lost");
}

struct test_file test_file(const char *text, size_t len)
{
	struct test_file f = { .fd = memfd_create("mvm-test", MFD_CLOEXEC) };

	cr_assert(f.fd >= 0);
	cr_assert_eq(pwrite(f.fd, text, len, 0), (ssize_t)len);
	snprintf(f.path, sizeof(f.path), "/proc/self/fd/%d", f.fd);
	snprintf(f.option, sizeof(f.option), "--config=%s", f.path);
	return f;
}
