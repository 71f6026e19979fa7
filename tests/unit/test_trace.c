/*
 * Traces: nothing is lost without being counted, however many threads put events in; arrows end
 * once; what the forms write is whole.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/trace.h"
#include "vmm/trace_internal.h"

struct rig {
	struct accounts *set;
	struct account *a, *b;
	char path[32];
	struct trace *t;
};

static void begin(struct rig *r, const char *devices, uint64_t limit)
{
	struct trace_config config = { .path = r->path, .devices = devices, .limit = limit };
	struct error e = { .msg = "" };
	int fd;

	r->set = accounts_create();
	r->a = account_create(r->set, "blk0", "blk", "virtio", "virtio-blk");
	r->b = account_create(r->set, "net0", "net", "virtio", "virtio-net");
	strcpy(r->path, "/tmp/mvm-trace-XXXXXX");
	fd = mkstemp(r->path);
	cr_assert_geq(fd, 0);
	close(fd);
	accounts_calibrate(r->set);
	cr_assert_eq(trace_start(&r->t, &config, r->set, &e), 0, "%s", e.msg);
}

/* The file's text; the caller frees it. */
static char *end(struct rig *r)
{
	char *text;
	long size;
	FILE *f;

	trace_stop(r->t);
	f = fopen(r->path, "r");
	cr_assert(f);
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	text = calloc(1, (size_t)size + 1);
	cr_assert_eq(fread(text, 1, (size_t)size, f), (size_t)size);
	fclose(f);
	unlink(r->path);
	accounts_destroy(r->set);
	return text;
}

/* Not by strstr(): a sanitizer's looks at the whole rest of the text at each call. */
static unsigned occurrences(const char *text, const char *what)
{
	size_t len = strlen(what);
	unsigned n = 0;

	for (const char *at = text; *at; at++)
		n += *at == *what && !strncmp(at, what, len);
	return n;
}

static unsigned long long field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	cr_assert(at, "%s", name);
	return strtoull(at + strlen(name), NULL, 10);
}

#define THREADS 6u
#define EVENTS	60000u

static void *flood(void *arg)
{
	struct account *a = arg;

	for (unsigned i = 0; i < EVENTS; i++)
		trace_work_end(a, account_now(a), "floods");
	return NULL;
}

Test(trace, what_is_lost_is_counted)
{
	struct rig r;
	pthread_t thread[THREADS];
	char *text;

	begin(&r, NULL, 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, flood, i % 2 ? r.a : r.b);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	text = end(&r);
	cr_assert_eq(field(text, "\"events\": ") + field(text, "\"dropped\": "), THREADS * EVENTS);
	cr_assert_eq(occurrences(text, "floods"), field(text, "\"events\": "));
	cr_assert_eq(occurrences(text, "thread_name"), THREADS);
	cr_assert(strcmp(text + strlen(text) - 2, "]\n") == 0);
	free(text);
}

Test(trace, stops_writing_at_its_limit)
{
	struct rig r;
	char *text;

	begin(&r, NULL, 5000);
	flood(r.a);
	text = end(&r);
	cr_assert_lt(strlen(text), 5600, "%zu bytes", strlen(text));
	cr_assert_eq(field(text, "\"events\": ") + field(text, "\"over_limit\": ") +
			     field(text, "\"dropped\": "),
		     EVENTS);
	free(text);
}

Test(trace, only_what_was_asked_for)
{
	struct rig r;
	char *text;

	begin(&r, "net0", 0);
	cr_assert(trace_on(r.b) && !trace_on(r.a) && !trace_on(NULL));
	account_end(r.a, account_begin(r.a, 1, 1));
	account_end(r.b, account_begin(r.b, 1, 1));
	text = end(&r);
	cr_assert_eq(occurrences(text, "blk0"), 0);
	cr_assert_eq(occurrences(text, "net0 request"), 2);
	free(text);
}

/* Three requests, one interrupt: it is the last one's, the others' arrows end before. */
Test(trace, each_arrow_ends_once)
{
	struct rig r;
	uint64_t since;
	char *text;

	begin(&r, NULL, 0);
	since = account_begin(r.a, 3, 3);
	for (unsigned i = 0; i < 3; i++)
		account_end(r.a, since + i);
	trace_interrupt(r.a, account_now(r.a), "line", 5);
	trace_interrupt(r.a, account_now(r.a), "line", 5); /* for something else */
	since = account_begin(r.b, 2, 2);
	account_end(r.b, since);
	trace_unwanted(r.b);
	account_end(r.b, since + 1);
	trace_work_end(r.b, account_now(r.b), "ends");
	text = end(&r);
	cr_assert_eq(occurrences(text, "\"ph\": \"s\""), 5);
	cr_assert_eq(occurrences(text, "\"ph\": \"t\""), 5);
	cr_assert_eq(occurrences(text, "\"ph\": \"f\""), 5);
	cr_assert_eq(occurrences(text, "blk0 interrupt"), 2);
	free(text);
}

/* A second doorbell before the first was seen to: both arrows end. */
Test(trace, doorbells_that_meet)
{
	struct rig r;
	char *text;

	begin(&r, NULL, 0);
	trace_kick(r.a);
	trace_kick(r.a);
	trace_kick_taken(r.a);
	trace_kick_taken(r.a); /* of itself: no doorbell */
	text = end(&r);
	cr_assert_eq(occurrences(text, "\"ph\": \"s\""), 2);
	cr_assert_eq(occurrences(text, "\"ph\": \"f\""), 2);
	free(text);
}

Test(trace, a_device_that_is_not_there)
{
	struct accounts *set = accounts_create();
	struct trace_config config = { .path = "/tmp/mvm-no-trace", .devices = "blk0+blk9" };
	struct trace *t = NULL;
	struct error e;

	account_create(set, "blk0", "blk", "virtio", "virtio-blk");
	cr_assert_eq(trace_start(&t, &config, set, &e), -ENOENT);
	cr_assert(strstr(e.msg, "\"blk9\"") && strstr(e.msg, "machine, blk0"), "%s", e.msg);
	cr_assert_null(t);
	cr_assert_neq(access(config.path, F_OK), 0);
	cr_assert(!trace_on(account_machine(set)->next), "none is left half traced");
	accounts_destroy(set);
}
