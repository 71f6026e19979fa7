/*
 * What the option tests share: a registry of their own, so that they say what parsing does and not
 * which devices a build happens to have.
 */
#ifndef TESTS_UNIT_TEST_OPTIONS_H
#define TESTS_UNIT_TEST_OPTIONS_H

#include "vmm/config.h"

#define MAX_WORDS 16

/* net emulated (e1000, ne2k) and virtio; blk virtio and vfio; console emulated; rng virtio. */
extern const struct device_row *const test_rows[];

/* A config with test_rows[], parsed from words that end with NULL (argv[0] is added). */
int test_parse(struct config *config, const char *const *words, struct error *e);
/* The same, that must succeed. */
void test_parse_ok(struct config *config, const char *const *words);

/* What config_print() writes; the caller frees it. */
char *test_print(const struct config *config);

/* A file of the test's own under /proc/self/fd with this text; close(fd) ends it. */
struct test_file {
	int fd;
	char path[32];
	char option[48]; /* --config=path */
};
struct test_file test_file(const char *text, size_t len);

/*
 * Fails if something was lost; for the end of a test. What the leak checker (SAN=1) says after that
 * does not reach Criterion's verdict.
 */
void test_no_leaks(void);

#endif
