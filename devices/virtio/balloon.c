/*
 * virtio-balloon: memory that the guest gives back. Virtio 1.2 section 5.5. In: numbers of pages
 * that the guest will not use (inflate), that it uses again (deflate), and ranges that are free
 * just now (reporting). Out: the pages, to the host; a page used again is simply faulted in, so
 * deflating needs nothing done.
 *
 * Page numbers are sorted and adjacent ones go to the host in one piece. Where a freed page must
 * keep its contents (PAGE_POISON with a value other than 0) or memory is pinned or in huge pages,
 * it stays, and the balloon is only bookkeeping.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/balloon.h"

/* Page numbers in one request, so that it is served in good time; Linux sends 256. */
#define MAX_PFNS 16384u
#define CHUNK	 1024u
#define TURN	 4u /* requests; each of their pages may be a call of its own */

static struct balloon *balloon_of(struct virtio_device *v)
{
	return (struct balloon *)v; /* first member */
}

/* ---- pages; the queue's lock held ------------------------------------------------------------ */

static void account_discard(struct balloon *b, int64_t bytes)
{
	if (bytes > 0) {
		pthread_mutex_lock(&b->lock);
		b->counters.discarded += (uint64_t)bytes;
		pthread_mutex_unlock(&b->lock);
	} else if (bytes < 0) {
		log_guest(&b->useless, "%s: pages from the guest cannot be given back: %s",
			  b->v.dev.name, strerror((int)-bytes));
	}
}

/* Shell sort: no allocation, and next to nothing where numbers come in order, as they mostly do. */
static void sort(uint32_t *pfn, unsigned n)
{
	static const unsigned gaps[] = { 301, 132, 57, 23, 10, 4, 1 };

	for (unsigned g = 0; g < sizeof(gaps) / sizeof(gaps[0]); g++) {
		for (unsigned i = gaps[g]; i < n; i++) {
			uint32_t value = pfn[i];
			unsigned at = i;

			for (; at >= gaps[g] && pfn[at - gaps[g]] > value; at -= gaps[g])
				pfn[at] = pfn[at - gaps[g]];
			pfn[at] = value;
		}
	}
}

static void discard_pages(struct balloon *b, uint32_t *pfn, unsigned n)
{
	const struct guest_memory *memory = b->v.dev.host->memory;

	sort(pfn, n);
	for (unsigned i = 0, run; i < n; i += run) {
		uint64_t pages = 1;

		/* The same number twice is the same page. */
		for (run = 1; i + run < n && pfn[i + run] - pfn[i] <= pages; run++)
			pages = pfn[i + run] - pfn[i] + 1ull;
		account_discard(b, memory_discard(memory, (uint64_t)pfn[i] << BALLOON_PAGE_SHIFT,
						  pages * BALLOON_PAGE));
	}
}

static bool read_pfns(struct balloon *b, struct virtq_span *span, uint32_t *pfn, unsigned n)
{
	const struct guest_memory *memory = b->v.dev.host->memory;

	virtq_span_read(span, pfn, n * sizeof(*pfn));
	for (unsigned i = 0; i < n; i++) {
		pfn[i] = le32toh(pfn[i]);
		if (!memory_contains(memory, (uint64_t)pfn[i] << BALLOON_PAGE_SHIFT, BALLOON_PAGE))
			return false;
	}
	return true;
}

/* Why the request is none, or NULL. */
static const char *in_or_out(struct balloon *b, struct virtq_chain *chain, bool inflate)
{
	struct virtq_span *span = &chain->readable;
	uint64_t pages = span->len / sizeof(uint32_t);
	uint32_t pfn[CHUNK];

	if (span->len % sizeof(uint32_t) || pages > MAX_PFNS)
		return "list of pages of an impossible length";
	while (span->len > 0) {
		unsigned n = span->len < sizeof(pfn) ? (unsigned)(span->len / sizeof(*pfn)) : CHUNK;

		if (!read_pfns(b, span, pfn, n))
			return "page that is not RAM";
		if (inflate && !b->poisoned)
			discard_pages(b, pfn, n);
	}
	pthread_mutex_lock(&b->lock);
	if (inflate)
		b->counters.inflated += pages;
	else
		b->counters.deflated += pages;
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

/* Section 5.5.6.7: the buffers themselves are the free pages. */
static void report(struct balloon *b, struct virtq_chain *chain)
{
	const struct virtq_span *span = &chain->writable;

	for (unsigned i = 0; i < span->n && !b->poisoned; i++)
		account_discard(b, memory_discard_host(b->v.dev.host->memory, span->iov[i].iov_base,
						       span->iov[i].iov_len));
	pthread_mutex_lock(&b->lock);
	b->counters.reported += span->len;
	pthread_mutex_unlock(&b->lock);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static const char *serve(struct virtio_queue *q, struct virtq_chain *chain, bool *held)
{
	struct balloon *b = balloon_of(q->v);
	const char *why = NULL;

	switch (b->role[q->index]) {
	case ROLE_INFLATE:
	case ROLE_DEFLATE:
		why = in_or_out(b, chain, b->role[q->index] == ROLE_INFLATE);
		break;
	case ROLE_STATS:
		*held = balloon_stats_receive(b, q, chain);
		if (!*held)
			why = "a second buffer of statistics";
		break;
	case ROLE_REPORTING:
		report(b, chain);
		break;
	case ROLE_COUNT:
		why = "queue of a feature that was not negotiated";
		break;
	}
	return why;
}

static void process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	bool good = true;

	for (unsigned i = 0; i < n; i++) {
		bool held = false;
		const char *why = good ? serve(q, chains[i], &held) : NULL;

		if (why) {
			virtio_queue_break(q, why);
			good = false;
		}
		if (!held)
			virtio_queue_push(q, chains[i], 0);
	}
}

static void drain(struct virtio_queue *q)
{
	/* Statistics are the only thing held; read again after a hold, they are the same. */
	chain_fifo_return(&balloon_of(q->v)->waiting, &q->ring);
}

/* ---- configuration --------------------------------------------------------------------------- */

#define CONFIG_AT(field) offsetof(struct virtio_balloon_config, field)

int balloon_set_target(struct balloon *b, uint64_t bytes)
{
	uint32_t pages;

	if (bytes > b->v.dev.host->memory->size)
		return -EINVAL;
	pthread_mutex_lock(&b->lock);
	b->target = bytes >> BALLOON_PAGE_SHIFT;
	pages = htole32((uint32_t)b->target);
	virtio_config_update(&b->v, CONFIG_AT(num_pages), &pages, sizeof(pages));
	pthread_mutex_unlock(&b->lock);
	return 0;
}

static void config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
	struct balloon *b = balloon_of(v);
	uint32_t field = htole32((uint32_t)value);

	if (size != sizeof(field) ||
	    (offset != CONFIG_AT(actual) &&
	     (offset != CONFIG_AT(poison_val) || !virtio_has(v, VIRTIO_BALLOON_F_PAGE_POISON)))) {
		virtio_misuse(v, "write to a read-only place of configuration space");
		return;
	}
	virtio_config_set(v, offset, &field, sizeof(field));
	if (offset != CONFIG_AT(actual))
		return;
	pthread_mutex_lock(&b->lock);
	b->actual = (uint32_t)value;
	pthread_mutex_unlock(&b->lock);
}

/*
 * Linux numbers the queues it uses without gaps, so a feature that the driver does not take shifts
 * those behind it. (Section 5.5.2 can be read both ways.)
 */
static void assign_roles(struct balloon *b)
{
	unsigned n = 0;

	b->role[n++] = ROLE_INFLATE;
	b->role[n++] = ROLE_DEFLATE;
	if (virtio_has(&b->v, VIRTIO_BALLOON_F_STATS_VQ))
		b->role[n++] = ROLE_STATS;
	if (virtio_has(&b->v, VIRTIO_BALLOON_F_REPORTING))
		b->role[n++] = ROLE_REPORTING;
	while (n < ROLE_COUNT)
		b->role[n++] = ROLE_COUNT;
}

/* Section 5.5.6.5: poison_val is written before DRIVER_OK. */
static void driver_ok(struct virtio_device *v)
{
	struct balloon *b = balloon_of(v);

	assign_roles(b);
	b->poisoned = virtio_has(v, VIRTIO_BALLOON_F_PAGE_POISON) &&
		      virtio_config_read(v, CONFIG_AT(poison_val), sizeof(uint32_t)) != 0;
}

/* All pages are the next driver's; the target stays, and it will find it. */
static void reset(struct virtio_device *v)
{
	struct balloon *b = balloon_of(v);
	uint32_t none = 0;

	virtio_config_set(v, CONFIG_AT(actual), &none, sizeof(none));
	virtio_config_set(v, CONFIG_AT(poison_val), &none, sizeof(none));
	pthread_mutex_lock(&b->lock);
	b->actual = 0;
	pthread_mutex_unlock(&b->lock);
	balloon_stats_reset(b);
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static void detach_on_loop(void *arg)
{
	struct balloon *b = arg;

	balloon_control_close(b);
	event_timer_destroy(&b->timer);
}

static void detach(struct virtio_device *v)
{
	event_call(v->dev.host->loop, detach_on_loop, v);
}

static void destroy(struct virtio_device *v)
{
	struct balloon *b = balloon_of(v);

	event_loop_destroy(b->loop);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static const struct virtio_device_ops balloon_ops = {
	.process = process,
	.turn = TURN,
	.drain = drain,
	.driver_ok = driver_ok,
	.config_write = config_write,
	.reset = reset,
	.detach = detach,
	.destroy = destroy,
};

static uint64_t features(const struct device_config *config)
{
	uint64_t bits =
		VIRTIO_BIT(VIRTIO_BALLOON_F_STATS_VQ) | VIRTIO_BIT(VIRTIO_BALLOON_F_PAGE_POISON);

	if (device_config_bool(config, "deflate-on-oom"))
		bits |= VIRTIO_BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	if (device_config_bool(config, "free-page-reporting"))
		bits |= VIRTIO_BIT(VIRTIO_BALLOON_F_REPORTING);
	return bits;
}

static int make_queues(struct balloon *b, const struct device_config *config, struct error *e)
{
	uint16_t size = (uint16_t)device_config_uint(config, "queue-size");
	struct event_loop *loop = b->v.dev.host->loop;
	int err = 0;

	if (device_config_bool(config, "iothread")) {
		loop = b->loop = event_loop_create(b->v.dev.name, e);
		if (!loop)
			return -ENOMEM;
	}
	for (unsigned i = 0; i < b->v.nqueues && !err; i++)
		err = virtio_queue_init(&b->v, i, size, sizeof(struct chain_link), loop, e);
	if (!err && b->loop)
		err = event_loop_start(b->loop, e);
	return err;
}

static int make_device(struct balloon *b, struct device_host *host,
		       const struct device_config *config, struct error *e)
{
	const struct virtio_identity identity = {
		.id = VIRTIO_ID_BALLOON,
		.features = features(config),
		.nqueues = device_config_bool(config, "free-page-reporting") ? 4 : 3,
		.config_len = sizeof(struct virtio_balloon_config),
	};
	uint64_t target = device_config_uint(config, "target");
	const char *control = device_config_string(config, "control");
	int err = virtio_device_init(&b->v, &balloon_ops, &identity, host, config, e);

	if (!err)
		err = make_queues(b, config, e);
	if (!err)
		err = virtio_transport_create(&b->v, config, e);
	if (!err && balloon_set_target(b, target))
		err = error_set(e, -EINVAL, "target=%lluM is more than the guest's memory",
				(unsigned long long)target >> 20);
	if (!err)
		err = balloon_stats_start(b, host->loop,
					  device_config_uint(config, "stats-interval"), e);
	if (!err && control)
		err = balloon_control_open(b, control, e);
	return err;
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	struct balloon *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return error_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&b->lock, NULL);
	err = make_device(b, host, config, e);
	if (err) {
		virtio_device_fini(&b->v);
		destroy(&b->v);
		return err;
	}
	*out = &b->v.dev;
	return 0;
}

static const struct device_key keys[] = {
	{ .name = "target",
	  .type = KEY_SIZE,
	  .fallback = "0",
	  .max = UINT64_MAX,
	  .help = "memory that the guest shall give back from the start" },
	{ .name = "control",
	  .type = KEY_STRING,
	  .help = "unix socket that takes \"target SIZE\" and \"stats\" while the guest runs" },
	{ .name = "deflate-on-oom",
	  .type = KEY_BOOL,
	  .fallback = "off",
	  .help = "the guest may take pages back before it runs out of memory" },
	{ .name = "free-page-reporting",
	  .type = KEY_BOOL,
	  .fallback = "off",
	  .help = "the guest gives back what it happens not to use, all the time" },
	{ .name = "stats-interval",
	  .type = KEY_UINT,
	  .fallback = "0",
	  .max = 86400,
	  .help = "seconds between questions for the guest's memory statistics; 0: only when "
		  "asked" },
	{ .name = "iothread",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "serve queues on a thread of their own, not on the main one" },
	VIRTIO_KEYS("128"),
	{ 0 },
};

const struct device_row row_virtio_balloon = {
	.class = CLASS_BALLOON,
	.model = MODEL_VIRTIO,
	.hw = "virtio-balloon",
	.preferred = true,
	.summary = "virtio memory balloon",
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
