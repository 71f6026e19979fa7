/*
 * virtio-console: one port, hvc0 of a Linux guest, over a character backend. Virtio 1.2 section 5.3
 * without MULTIPORT. In: chains of bytes to show, chains of room for bytes that were typed. Out:
 * calls of chardev.h and back.
 *
 * Input is only asked for while there is room in receive buffers; what arrives for a buffer that
 * the driver takes away at that very moment is kept for the next one. Nothing typed is lost.
 *
 * A chain of output stays ours until the backend has taken all of it. But Linux waits for its
 * chains with a spinlock held (put_chars() in its virtio_console.c), so a terminal that nobody
 * reads would stop the guest: when for a second nothing moves at all, output is dropped until the
 * terminal takes some again.
 */
#include <errno.h>
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/chardev.h"
#include "devices/virtio/chain_fifo.h"
#include "devices/virtio/virtio.h"

#define RECEIVEQ  0u
#define TRANSMITQ 1u
#define QUEUES	  2u

#define RECEIVE_MAX 4096u /* bytes taken from the backend at once */
#define PATIENCE_NS 1000000000u

struct console {
	struct virtio_device v; /* first */
	struct chardev *chr;
	bool sized;

	/* Guarded by the receive queue's lock. */
	struct chain_fifo rx;
	uint8_t kept[RECEIVE_MAX]; /* received when the buffers for it had just gone */
	size_t nkept;

	/* Guarded by the transmit queue's lock. */
	struct chain_fifo tx;
	uint64_t sent; /* of the oldest chain, or of the one that will be it after a hold */
	struct event_timer patience; /* runs while a chain is held */
	bool moved;		     /* something went out since it was set */
	bool stuck;
	struct log_limit lost;
};

static struct console *console_of(struct virtio_device *v)
{
	return (struct console *)v; /* first member */
}

/* ---- output; the transmit queue's lock held -------------------------------------------------- */

/* False: the backend takes no more now; it will call writable(). */
static bool show(struct console *c, struct virtq_span *span)
{
	while (span->n > 0) {
		size_t len = span->iov->iov_len;
		size_t taken = chardev_write(c->chr, span->iov->iov_base, len);

		virtq_span_skip(span, taken);
		c->sent += taken;
		c->moved |= taken > 0;
		if (taken < len)
			return false;
	}
	return true;
}

static void show_held(struct console *c, struct virtio_queue *q)
{
	while (c->tx.oldest && (show(c, &c->tx.oldest->readable) || c->stuck)) {
		virtio_queue_push(q, chain_fifo_take(&c->tx), 0);
		c->sent = 0;
	}
}

static void set_patience(struct console *c)
{
	c->moved = false;
	event_timer_set(&c->patience, PATIENCE_NS);
}

static void process_transmit(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	struct console *c = console_of(q->v);

	for (unsigned i = 0; i < n; i++) {
		/* The first after a hold may have gone out in part before it. */
		if (!c->tx.oldest)
			virtq_span_skip(&chains[i]->readable, c->sent);
		chain_fifo_put(&c->tx, chains[i]);
		if (c->tx.oldest != chains[i])
			continue;
		show_held(c, q);
		if (c->tx.oldest)
			set_patience(c);
	}
}

/* ---- input; the receive queue's lock held ---------------------------------------------------- */

static size_t room(const struct console *c)
{
	size_t sum = 0;

	if (c->nkept)
		return 0;
	for (struct virtq_chain *chain = c->rx.oldest; chain && sum < RECEIVE_MAX;
	     chain = chain_link(chain)->newer)
		sum += chain->writable.len < RECEIVE_MAX ? chain->writable.len : RECEIVE_MAX;
	return sum < RECEIVE_MAX ? sum : RECEIVE_MAX;
}

/* How many bytes went into buffers. */
static size_t fill(struct console *c, struct virtio_queue *q, const uint8_t *buf, size_t len)
{
	size_t done = 0;

	while (done < len && c->rx.oldest) {
		struct virtq_chain *chain = chain_fifo_take(&c->rx);
		size_t n = virtq_span_write(&chain->writable, buf + done, len - done);

		done += n;
		virtio_queue_push(q, chain, (uint32_t)n);
	}
	return done;
}

static void keep(struct console *c, const uint8_t *buf, size_t len)
{
	memmove(c->kept, buf, len); /* at most RECEIVE_MAX: can_receive() never said more */
	c->nkept = len;
}

static void process_receive(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	struct console *c = console_of(q->v);

	if (virtio_queue_stock(q, chains, n, &c->rx, 1) && c->nkept) {
		size_t done = fill(c, q, c->kept, c->nkept);

		keep(c, c->kept + done, c->nkept - done);
	}
	chardev_accept_input(c->chr);
}

static void process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	if (q->index == TRANSMITQ)
		process_transmit(q, chains, n);
	else
		process_receive(q, chains, n);
}

static void drain(struct virtio_queue *q)
{
	struct console *c = console_of(q->v);

	chain_fifo_return(q->index == TRANSMITQ ? &c->tx : &c->rx, &q->ring);
	/* Not a hold: what begins again begins at a chain's first byte. */
	if (q->index == TRANSMITQ && !q->running)
		c->sent = 0;
}

/* ---- the backend; the loop's thread ---------------------------------------------------------- */

static bool serving(const struct virtio_queue *q)
{
	return q->running && !q->held;
}

static size_t can_receive(void *opaque)
{
	struct console *c = opaque;
	struct virtio_queue *q = &c->v.queue[RECEIVEQ];
	size_t n;

	pthread_mutex_lock(&q->lock);
	n = serving(q) ? room(c) : 0;
	pthread_mutex_unlock(&q->lock);
	return n;
}

static void receive(void *opaque, const uint8_t *buf, size_t len)
{
	struct console *c = opaque;
	struct virtio_queue *q = &c->v.queue[RECEIVEQ];
	size_t done = 0;

	pthread_mutex_lock(&q->lock);
	if (serving(q)) {
		done = fill(c, q, buf, len);
		virtio_queue_publish(q);
	}
	/* Reset or held since can_receive(): nothing typed is lost. */
	if (done < len)
		keep(c, buf + done, len - done);
	pthread_mutex_unlock(&q->lock);
}

static void writable(void *opaque)
{
	struct console *c = opaque;
	struct virtio_queue *q = &c->v.queue[TRANSMITQ];

	pthread_mutex_lock(&q->lock);
	c->stuck = false;
	if (serving(q)) {
		show_held(c, q);
		virtio_queue_publish(q);
	}
	pthread_mutex_unlock(&q->lock);
}

static void patience_over(void *opaque)
{
	struct console *c = opaque;
	struct virtio_queue *q = &c->v.queue[TRANSMITQ];

	pthread_mutex_lock(&q->lock);
	/* A slow terminal does not say writable() for each byte: ask. */
	if (serving(q))
		show_held(c, q);
	if (serving(q) && c->tx.oldest && !c->moved) {
		c->stuck = true;
		log_guest(&c->lost, "%s: nobody reads the output; it is lost until somebody does",
			  c->v.dev.name);
		show_held(c, q);
	}
	virtio_queue_publish(q);
	if (c->tx.oldest)
		set_patience(c);
	pthread_mutex_unlock(&q->lock);
}

static bool read_size(const struct console *c, __le16 size[2])
{
	struct chardev_size now;

	if (!chardev_size(c->chr, &now))
		return false;
	size[0] = htole16(now.columns);
	size[1] = htole16(now.rows);
	return true;
}

/* Columns and rows are the first two fields of configuration space. */
static void resized(void *opaque)
{
	struct console *c = opaque;
	__le16 size[2];

	if (c->sized && read_size(c, size))
		virtio_config_update(&c->v, 0, size, sizeof(size));
}

static const struct chardev_client client = {
	.can_receive = can_receive,
	.receive = receive,
	.writable = writable,
	.resized = resized,
};

static void user_quits(void *opaque)
{
	struct console *c = opaque;

	c->v.dev.host->request(c->v.dev.host, REQUEST_POWEROFF);
}

/* ---- configuration --------------------------------------------------------------------------- */

/* Section 5.3.4: a byte for a driver that has no queues yet, or none any more. */
static void config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
	uint8_t byte = (uint8_t)value;

	(void)size;
	if (offset != offsetof(struct virtio_console_config, emerg_wr)) {
		virtio_misuse(v, "write to a read-only place of configuration space");
		return;
	}
	chardev_write(console_of(v)->chr, &byte, 1);
}

/* Linux looks at the size when it is told of a change, not before. */
static void driver_ok(struct virtio_device *v)
{
	if (virtio_has(v, VIRTIO_CONSOLE_F_SIZE))
		resized(console_of(v));
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static void reset(struct virtio_device *v)
{
	struct virtio_queue *q = virtio_queue_at(v, TRANSMITQ);

	if (!q)
		return; /* not made yet */
	pthread_mutex_lock(&q->lock);
	console_of(v)->sent = 0;
	pthread_mutex_unlock(&q->lock);
}

static void detach_on_loop(void *arg)
{
	struct console *c = arg;

	chardev_set_client(c->chr, NULL, NULL);
	event_timer_destroy(&c->patience);
}

/* The backend stays for a moment: it still has the guest's last words. */
static void detach(struct virtio_device *v)
{
	event_call(v->dev.host->loop, detach_on_loop, v);
}

static void destroy(struct virtio_device *v)
{
	struct console *c = console_of(v);

	chardev_close(c->chr);
	free(c);
}

static const struct virtio_device_ops console_ops = {
	.process = process,
	.drain = drain,
	.driver_ok = driver_ok,
	.config_write = config_write,
	.reset = reset,
	.detach = detach,
	.destroy = destroy,
};

static int make_device(struct console *c, struct device_host *host,
		       const struct device_config *config, struct error *e)
{
	struct virtio_console_config space = { .max_nr_ports = htole32(1) };
	struct virtio_identity identity = {
		.id = VIRTIO_ID_CONSOLE,
		.features = VIRTIO_BIT(VIRTIO_CONSOLE_F_EMERG_WRITE),
		.nqueues = QUEUES,
		.config_len = sizeof(space),
	};
	uint16_t size = (uint16_t)device_config_uint(config, "queue-size");
	__le16 screen[2] = { 0 };
	int err;

	c->sized = read_size(c, screen);
	if (c->sized)
		identity.features |= VIRTIO_BIT(VIRTIO_CONSOLE_F_SIZE);
	space.cols = screen[0];
	space.rows = screen[1];
	err = virtio_device_init(&c->v, &console_ops, &identity, host, config, e);
	for (unsigned i = 0; i < QUEUES && !err; i++)
		err = virtio_queue_init(&c->v, i, size, sizeof(struct chain_link), host->loop, e);
	if (err)
		return err;
	c->patience.callback = patience_over;
	c->patience.opaque = c;
	err = event_timer_init(&c->patience, host->loop);
	if (err)
		return error_set_errno(e, err, "cannot make a timer");
	virtio_config_set(&c->v, 0, &space, sizeof(space));
	return virtio_transport_create(&c->v, config, e);
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	struct console *c = calloc(1, sizeof(*c));
	const struct chardev_escape escape = { .quit = user_quits, .opaque = c };
	int err;

	if (!c)
		return error_set(e, -ENOMEM, "out of memory");
	err = chardev_open(&c->chr, host->loop, config->target, &escape, e);
	if (err) {
		free(c);
		return err;
	}
	err = make_device(c, host, config, e);
	if (err) {
		virtio_device_fini(&c->v);
		destroy(&c->v);
		return err;
	}
	chardev_set_client(c->chr, &client, c);
	*out = &c->v.dev;
	return 0;
}

static const struct device_key keys[] = {
	VIRTIO_KEYS("64"),
	{ 0 },
};

const struct device_row row_virtio_console = {
	.class = CLASS_CONSOLE,
	.model = MODEL_VIRTIO,
	.hw = "virtio-console",
	.preferred = true,
	.summary = "virtio console (hvc0)",
	.target = "CHARDEV",
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
