/*
 * virtio-balloon with a model driver: pages that go are given back to the host and no others,
 * statistics, free page reporting, the control socket; drivers that name what is not theirs to
 * give.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/registry.h"
#include "devices/virtio/balloon.h"
#include "tests/unit/test_virtio_rig.h"

#define PAGE	    4096ull
#define LIST	    0x700000ull /* where the model has its requests */
#define ALL	    (~0ull)
#define NO(feature) (~MODEL_BIT(feature))

enum { INFLATE, DEFLATE, STATS, REPORTING };

struct kit {
	struct vrig *r;
	unsigned nqueues;
	struct model q[4];
};

/* Queues without gaps, as Linux numbers them. */
static void up(struct kit *k, uint64_t wanted)
{
	uint64_t features = (vrig_offered(k->r) & wanted) | MODEL_BIT(VIRTIO_F_VERSION_1);

	cr_assert(vrig_negotiate(k->r, features));
	k->nqueues = 2 + !!(features & MODEL_BIT(VIRTIO_BALLOON_F_STATS_VQ)) +
		     !!(features & MODEL_BIT(VIRTIO_BALLOON_F_REPORTING));
	for (unsigned i = 0; i < k->nqueues; i++) {
		model_init(&k->q[i], &k->r->memory, VRIG_QUEUE * i, 16, features);
		vrig_queue(k->r, i, &k->q[i]);
	}
}

static struct kit *kit_with(const char *keys, uint64_t wanted)
{
	struct kit *k = calloc(1, sizeof(*k));

	k->r = vrig_create();
	for (unsigned i = 0; i < k->r->memory.nregions; i++)
		memset(k->r->memory.region[i].host, 0x5a, k->r->memory.region[i].size);
	vrig_plug(k->r, &row_virtio_balloon, NULL, keys);
	up(k, wanted);
	return k;
}

static struct kit *kit(const char *keys)
{
	struct kit *k = kit_with(keys, ALL);

	vrig_driver_ok(k->r);
	return k;
}

static void kit_free(struct kit *k)
{
	vrig_destroy(k->r);
	for (unsigned i = 0; i < k->nqueues; i++)
		model_free(&k->q[i]);
	free(k);
}

static struct balloon *balloon(struct kit *k)
{
	return (struct balloon *)k->r->dev;
}

/* Bytes of RAM that the host has no page for. */
static uint64_t gone(struct kit *k)
{
	struct stat st;

	cr_assert_eq(fstat(k->r->memory.fd, &st), 0);
	return MODEL_MEMORY - (uint64_t)st.st_blocks * 512;
}

static void send_pfns(struct kit *k, unsigned queue, const uint32_t *pfn, unsigned n)
{
	struct model_buf buf = { LIST, 4 * n, false };

	memcpy(model_at(&k->r->memory, LIST, 4ull * n), pfn, 4ull * n);
	model_add(&k->q[queue], &buf, 1, false);
	vrig_kick(k->r, queue);
}

static void expect_broken(struct kit *k)
{
	vrig_wait(vrig_status(k->r) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

Test(virtio_balloon, inflate_and_deflate)
{
	struct kit *k = kit("");
	/* Runs, singles, twice the same, in no order, in both regions. */
	const uint32_t pfn[] = { 0x503, 0x501,	0x502,	0x500, 0x510,
				 0x510, 0x1001, 0x1000, 0x4ff, 0x17ff };

	send_pfns(k, INFLATE, pfn, 10);
	cr_assert_eq(vrig_wait_used(&k->q[INFLATE]).len, 0);
	cr_expect_eq(gone(k), 9 * PAGE);
	cr_expect_eq(*(uint8_t *)model_at(&k->r->memory, 0x4fe * PAGE + 4095, 1), 0x5a);
	cr_expect_eq(*(uint8_t *)model_at(&k->r->memory, 0x504 * PAGE, 1), 0x5a);
	cr_expect_eq(*(uint8_t *)model_at(&k->r->memory, 0x1002 * PAGE, 1), 0x5a);
	cr_expect_eq(balloon(k)->counters.discarded, 9 * PAGE);
	send_pfns(k, DEFLATE, pfn, 10);
	vrig_wait_used(&k->q[DEFLATE]);
	cr_expect_eq(gone(k), 9 * PAGE);
	cr_expect_eq(balloon(k)->counters.inflated, 10);
	cr_expect_eq(balloon(k)->counters.deflated, 10);
	kit_free(k);
}

/* As many as a driver might put in one request, downwards, over more than one chunk. */
Test(virtio_balloon, long_lists)
{
	struct kit *k = kit("ring=packed");
	uint32_t pfn[2000];

	for (unsigned i = 0; i < 2000; i++)
		pfn[i] = 0x1000 + 1999 - i;
	send_pfns(k, INFLATE, pfn, 2000);
	vrig_wait_used(&k->q[INFLATE]);
	cr_expect_eq(gone(k), 2000 * PAGE);
	kit_free(k);
}

/* Each may take long: others get their turn in between. */
Test(virtio_balloon, many_lists_take_several_turns)
{
	struct kit *k = kit("");
	struct virtio_queue *q = &balloon(k)->v.queue[INFLATE];
	struct model_buf buf = { LIST, 4, false };
	const uint32_t pfn = 0x500;

	memcpy(model_at(&k->r->memory, LIST, 4), &pfn, 4);
	pthread_mutex_lock(&q->lock);
	q->stats.kicks = 0;
	for (unsigned i = 0; i < 16; i++)
		model_add(&k->q[INFLATE], &buf, 1, false);
	vrig_kick(k->r, INFLATE);
	pthread_mutex_unlock(&q->lock);
	for (unsigned i = 0; i < 16; i++)
		vrig_wait_used(&k->q[INFLATE]);
	pthread_mutex_lock(&q->lock);
	cr_expect_geq(q->stats.kicks, 4);
	pthread_mutex_unlock(&q->lock);
	kit_free(k);
}

Test(virtio_balloon, pinned_memory_stays)
{
	struct kit *k = kit("");
	const uint32_t pfn = 0x500;

	memory_pin(&k->r->memory);
	send_pfns(k, INFLATE, &pfn, 1);
	vrig_wait_used(&k->q[INFLATE]);
	cr_expect_eq(gone(k), 0);
	cr_expect_eq(balloon(k)->counters.discarded, 0);
	memory_unpin(&k->r->memory);
	kit_free(k);
}

/* ---- what is not a list of pages of RAM ------------------------------------------------------ */

static void refuses(unsigned queue, const uint32_t *pfn, unsigned n)
{
	struct kit *k = kit("");

	send_pfns(k, queue, pfn, n);
	expect_broken(k);
	cr_expect_leq(gone(k), (n - 1) * PAGE);
	/* After a reset it works. */
	for (unsigned i = 0; i < k->nqueues; i++)
		model_free(&k->q[i]);
	up(k, ALL);
	vrig_driver_ok(k->r);
	send_pfns(k, INFLATE, (const uint32_t[]){ 0x600 }, 1);
	vrig_wait_used(&k->q[INFLATE]);
	kit_free(k);
}

Test(virtio_balloon, page_in_the_hole)
{
	refuses(INFLATE, (const uint32_t[]){ 0x800 }, 1);
}

Test(virtio_balloon, page_past_the_end)
{
	refuses(INFLATE, (const uint32_t[]){ 0x500, 0x1800 }, 2);
}

Test(virtio_balloon, page_of_the_last_number)
{
	refuses(DEFLATE, (const uint32_t[]){ 0xffffffff }, 1);
}

static void refuses_length(uint32_t len)
{
	struct kit *k = kit("");
	struct model_buf buf = { MODEL_HIGH, len, false };

	memset(model_at(&k->r->memory, MODEL_HIGH, len), 0, len);
	model_add(&k->q[INFLATE], &buf, 1, false);
	vrig_kick(k->r, INFLATE);
	expect_broken(k);
	cr_expect_eq(gone(k), 0);
	kit_free(k);
}

Test(virtio_balloon, half_a_number)
{
	refuses_length(6);
}

Test(virtio_balloon, endless_list)
{
	refuses_length(4 << 20);
}

Test(virtio_balloon, queue_without_its_feature)
{
	struct kit *k = kit_with("free-page-reporting=on", NO(VIRTIO_BALLOON_F_REPORTING));
	struct model_buf buf = { MODEL_HIGH, PAGE, true };
	struct model extra;

	model_init(&extra, &k->r->memory, VRIG_QUEUE * 3, 16, k->q[0].config.features);
	vrig_queue(k->r, 3, &extra);
	vrig_driver_ok(k->r);
	model_add(&extra, &buf, 1, false);
	vrig_kick(k->r, 3);
	expect_broken(k);
	model_free(&extra);
	kit_free(k);
}

/* ---- free page reporting --------------------------------------------------------------------- */

static void report(struct kit *k, unsigned queue)
{
	struct model_buf buf[2] = { { MODEL_HIGH + PAGE, 16 * PAGE, true },
				    { 0x500000 + 100, 2 * PAGE, true } };

	model_add(&k->q[queue], buf, 2, false);
	vrig_kick(k->r, queue);
	cr_assert_eq(vrig_wait_used(&k->q[queue]).len, 0);
}

Test(virtio_balloon, reporting)
{
	struct kit *k = kit("free-page-reporting=on");

	report(k, REPORTING);
	cr_expect_eq(gone(k), 17 * PAGE, "whole pages only");
	cr_expect_eq(*(uint8_t *)model_at(&k->r->memory, MODEL_HIGH + PAGE - 1, 1), 0x5a);
	cr_expect_eq(balloon(k)->counters.reported, 18 * PAGE);
	kit_free(k);
}

/* Linux without statistics has its reports in the queue before. */
Test(virtio_balloon, reporting_without_statistics)
{
	struct kit *k = kit_with("free-page-reporting=on", NO(VIRTIO_BALLOON_F_STATS_VQ));

	vrig_driver_ok(k->r);
	report(k, 2);
	cr_expect_eq(gone(k), 17 * PAGE);
	kit_free(k);
}

Test(virtio_balloon, poisoned_pages_stay)
{
	struct kit *k = kit_with("free-page-reporting=on", ALL);
	const uint64_t at = k->r->device + offsetof(struct virtio_balloon_config, poison_val);

	vrig_write(k->r, at, 4, 0xaaaaaaaa);
	cr_expect_eq(vrig_read(k->r, at, 4), 0xaaaaaaaa);
	vrig_driver_ok(k->r);
	report(k, REPORTING);
	send_pfns(k, INFLATE, (const uint32_t[]){ 0x600 }, 1);
	vrig_wait_used(&k->q[INFLATE]);
	cr_expect_eq(gone(k), 0);
	kit_free(k);
}

/* ---- configuration and statistics ------------------------------------------------------------ */

Test(virtio_balloon, configuration)
{
	struct kit *k = kit("target=1048576,deflate-on-oom=on");

	cr_expect(k->q[0].config.features & MODEL_BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM));
	cr_expect(!(k->q[0].config.features & MODEL_BIT(VIRTIO_BALLOON_F_REPORTING)));
	cr_expect_eq(vrig_read(k->r, k->r->device, 4), 256);
	vrig_write(k->r, k->r->device + 4, 4, 99);
	cr_expect_eq(vrig_read(k->r, k->r->device + 4, 4), 99);
	cr_expect_eq(balloon(k)->actual, 99);
	/* Not the driver's to write. */
	vrig_write(k->r, k->r->device, 4, 1);
	vrig_write(k->r, k->r->device + 4, 2, 1);
	vrig_write(k->r, k->r->device + 6, 1, 1);
	vrig_write(k->r, k->r->device + 16, 4, 1);
	cr_expect_eq(vrig_read(k->r, k->r->device, 4), 256);
	cr_expect_eq(vrig_read(k->r, k->r->device + 4, 4), 99);
	vrig_set_status(k->r, 0);
	cr_expect_eq(vrig_read(k->r, k->r->device + 4, 4), 0);
	cr_expect_eq(vrig_read(k->r, k->r->device, 4), 256, "the target outlives a reset");
	kit_free(k);
}

static void send_stats(struct kit *k, uint64_t free_memory)
{
	const struct virtio_balloon_stat stat[] = {
		{ VIRTIO_BALLOON_S_MEMTOT, 1 << 30 },
		{ VIRTIO_BALLOON_S_MEMFREE, free_memory },
		{ 0x7fff, 1 },
	};
	/* Half an entry at the end. */
	struct model_buf buf = { LIST, sizeof(stat) + 5, false };

	memcpy(model_at(&k->r->memory, LIST, sizeof(stat)), stat, sizeof(stat));
	model_add(&k->q[STATS], &buf, 1, false);
	vrig_kick(k->r, STATS);
}

static uint64_t updates(struct kit *k)
{
	return __atomic_load_n(&balloon(k)->stats.updates, __ATOMIC_RELAXED);
}

Test(virtio_balloon, statistics_by_interval, .timeout = 30)
{
	struct kit *k = kit("stats-interval=1");

	send_stats(k, 1000);
	vrig_wait(updates(k) == 1);
	vrig_wait_used(&k->q[STATS]);
	send_stats(k, 2000);
	vrig_wait(updates(k) == 2);
	cr_expect_eq(balloon(k)->stats.value[VIRTIO_BALLOON_S_MEMFREE], 2000);
	cr_expect_eq(balloon(k)->stats.known,
		     1u << VIRTIO_BALLOON_S_MEMTOT | 1u << VIRTIO_BALLOON_S_MEMFREE);
	vrig_set_status(k->r, 0);
	cr_expect_eq(updates(k), 0);
	kit_free(k);
}

Test(virtio_balloon, statistics_over_a_pause)
{
	struct kit *k = kit("ring=packed");
	struct error e;

	send_stats(k, 1000);
	vrig_wait(updates(k) == 1);
	k->r->dev->ops->pause(k->r->dev);
	balloon_stats_ask(balloon(k));
	k->r->dev->ops->start(k->r->dev, &e);
	vrig_wait(updates(k) == 2);
	balloon_stats_ask(balloon(k));
	vrig_wait_used(&k->q[STATS]);
	kit_free(k);
}

Test(virtio_balloon, a_second_buffer_of_statistics)
{
	struct kit *k = kit("");

	send_stats(k, 1000);
	vrig_wait(updates(k) == 1);
	send_stats(k, 1000);
	expect_broken(k);
	balloon_stats_ask(balloon(k));
	kit_free(k);
}

/* ---- the control socket ---------------------------------------------------------------------- */

struct control {
	char dir[32], path[64], keys[128];
	int fd;
};

static void control_name(struct control *c)
{
	strcpy(c->dir, "/tmp/mvm-balloon-XXXXXX");
	cr_assert_not_null(mkdtemp(c->dir));
	snprintf(c->path, sizeof(c->path), "%s/sock", c->dir);
	snprintf(c->keys, sizeof(c->keys), "control=%s", c->path);
}

static void control_connect(struct control *c)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(address.sun_path, c->path);
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(connect(c->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

/* The answer up to "ok" or "error", in a buffer that the next call uses again. */
static const char *say(struct control *c, const char *words)
{
	static char answer[4096];
	size_t len = 0;

	cr_assert_eq(write(c->fd, words, strlen(words)), (ssize_t)strlen(words));
	do {
		ssize_t n = read(c->fd, answer + len, sizeof(answer) - 1 - len);

		cr_assert_gt(n, 0, "hung up at %s", words);
		len += (size_t)n;
		answer[len] = '\0';
	} while (answer[len - 1] != '\n' || (!strstr(answer, "ok\n") && !strstr(answer, "error")));
	return answer;
}

Test(virtio_balloon, control, .timeout = 30)
{
	struct control c;
	struct kit *k;
	char byte;

	control_name(&c);
	k = kit(c.keys);
	control_connect(&c);
	send_stats(k, 12345);
	vrig_wait(updates(k) == 1);
	cr_expect_str_eq(say(&c, "target 2M\n"), "ok\n");
	cr_expect_eq(vrig_read(k->r, k->r->device, 4), 512);
	cr_expect_str_eq(say(&c, "target 0\r\n"), "ok\n");
	cr_expect_eq(vrig_read(k->r, k->r->device, 4), 0);
	cr_expect(strstr(say(&c, "target 17M\n"), "error: the guest has only"));
	cr_expect(strstr(say(&c, "target much\n"), "error: not a size"));
	cr_expect(strstr(say(&c, "balloon\n"), "error: not a command"));
	cr_expect(strstr(say(&c, "stats\n"), "\nfree-memory 12345\n"));
	vrig_wait_used(&k->q[STATS]); /* asked for newer ones */
	/* The second client waits for the first; a line without end is cut off. */
	close(c.fd);
	control_connect(&c);
	cr_expect_str_eq(say(&c, "target 4096\n"), "ok\n");
	for (unsigned i = 0; i < 200; i++)
		if (send(c.fd, "x", 1, MSG_NOSIGNAL) < 0)
			break;
	cr_expect_leq(read(c.fd, &byte, 1), 0);
	close(c.fd);
	control_connect(&c);
	kit_free(k);
	close(c.fd);
	cr_expect_neq(access(c.path, F_OK), 0, "the socket stays behind");
	rmdir(c.dir);
}

Test(virtio_balloon, target_larger_than_memory)
{
	struct vrig *r = vrig_create();
	struct device_config config;
	struct device *dev = NULL;
	struct error e;

	vrig_config(&config, &row_virtio_balloon, NULL, "target=33554432");
	cr_expect_eq(config.row->create(&r->host, &config, &dev, &e), -EINVAL);
	cr_expect(strstr(e.msg, "more than the guest's memory"), "%s", e.msg);
	cr_expect_null(dev);
	vrig_config_free(&config);
	vrig_destroy(r);
}
