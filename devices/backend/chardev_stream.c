/*
 * The two directions of a character backend, over descriptors that never block.
 *
 * Out: a ring that any thread fills. The writer itself passes the first byte on; then a timer runs
 * and the loop passes on what has gathered, so a guest that writes byte by byte costs no system
 * call a byte. A descriptor that takes nothing is waited for by the loop.
 *
 * In: read by the loop alone, and only what the client has said it can take (plus the buffer of a
 * terminal). When it can take nothing, reading sleeps until chardev_accept_input().
 *
 * Both sources are one-shot in epoll: a descriptor that has hung up is reported once, not for ever.
 */
#include <errno.h>
#include <string.h>

#include "devices/backend/chardev_impl.h"
#include "devices/backend/chardev_stream.h"
#include "vmm/log.h"

#define GATHER_NS    1000000u  /* how long bytes may wait for company */
#define RETRY_NS     10000000u /* for what epoll cannot wait for */
#define FLUSH_AT     4096u     /* queued bytes that do not wait for the timer */
#define FLUSH_ROUNDS 64u       /* writes under the lock before others get a turn */
#define PUMP_ROUNDS  64u       /* reads before the loop's other sources get a turn */
#define READ_AT_ONCE 1024u

/* ---- output, with the lock held -------------------------------------------------------------- */

static uint32_t used(const struct chardev *chr)
{
	return chr->head - chr->tail;
}

/* Sooner replaces later; nothing is set twice, so this is rarely a system call. */
static void set_tick(struct chardev *chr, enum chardev_tick tick, uint64_t ns)
{
	if (tick <= chr->tick)
		return;
	chr->tick = tick;
	event_timer_set(&chr->timer, ns);
}

static void tick_now(struct chardev *chr)
{
	set_tick(chr, TICK_NOW, 1);
}

static void put(struct chardev *chr, const uint8_t *buf, uint32_t len)
{
	uint32_t at = chr->head % CHARDEV_RING;
	uint32_t first = len < CHARDEV_RING - at ? len : CHARDEV_RING - at;

	memcpy(chr->ring + at, buf, first);
	memcpy(chr->ring, buf + first, len - first);
	chr->head += len;
}

/* For nobody yet: the oldest make room. */
static void put_newest(struct chardev *chr, const uint8_t *buf, size_t len)
{
	if (len > CHARDEV_RING) {
		buf += len - CHARDEV_RING;
		len = CHARDEV_RING;
	}
	put(chr, buf, (uint32_t)len);
	if (used(chr) > CHARDEV_RING)
		chr->tail = chr->head - CHARDEV_RING;
}

static void block(struct chardev *chr)
{
	chr->output = CHARDEV_BLOCKED;
	if (chr->out_pollable)
		event_modify(&chr->out_source, EPOLLOUT | EPOLLONESHOT);
	else
		set_tick(chr, TICK_LATER, RETRY_NS);
}

static void output_error(struct chardev *chr, int err)
{
	/* A full disk may have room later; what was meant for it now is lost. */
	if (err == -ENOSPC || err == -EDQUOT || err == -EFBIG) {
		if (!chr->complained)
			log_warn("console output is lost: %s", strerror(-err));
		chr->complained = true;
		chr->tail = chr->head;
		return;
	}
	chr->output = chr->kind->keeps ? CHARDEV_KEEP : CHARDEV_DISCARD;
	if (!chr->kind->keeps)
		chr->tail = chr->head;
	chr->failed = true;
	tick_now(chr);
}

static void flush(struct chardev *chr)
{
	for (unsigned i = 0; used(chr) > 0; i++) {
		uint32_t at = chr->tail % CHARDEV_RING;
		uint32_t len = used(chr) < CHARDEV_RING - at ? used(chr) : CHARDEV_RING - at;
		ssize_t n = i < FLUSH_ROUNDS ? chardev_fd_write(&chr->out, chr->ring + at, len)
					     : -EAGAIN;

		if (n == -EAGAIN) {
			block(chr);
			return;
		}
		if (n < 0) {
			output_error(chr, (int)n);
			return;
		}
		chr->tail += (uint32_t)n;
	}
}

/* Is the client waiting for room, and is there enough to be worth its while? */
static bool take_writable(struct chardev *chr)
{
	bool room = chr->output == CHARDEV_DISCARD || chr->output == CHARDEV_KEEP ||
		    used(chr) <= CHARDEV_RING / 2;

	if (!chr->refused || !room)
		return false;
	chr->refused = false;
	return true;
}

/* ---- output ---------------------------------------------------------------------------------- */

static void writable(struct chardev *chr)
{
	if (chr->client && chr->client->writable)
		chr->client->writable(chr->client_opaque);
}

bool chardev_flush(struct chardev *chr)
{
	bool tell, left;

	pthread_mutex_lock(&chr->lock);
	if (chr->output == CHARDEV_BLOCKED)
		chr->output = CHARDEV_OPEN;
	if (chr->output == CHARDEV_OPEN)
		flush(chr);
	tell = take_writable(chr);
	pthread_mutex_unlock(&chr->lock);
	if (tell)
		writable(chr);
	pthread_mutex_lock(&chr->lock);
	left = used(chr) > 0 && (chr->output == CHARDEV_BLOCKED || chr->output == CHARDEV_OPEN);
	pthread_mutex_unlock(&chr->lock);
	return left;
}

static void out_ready(void *opaque, uint32_t events)
{
	(void)events;
	chardev_flush(opaque);
}

/* Who takes no output has most likely gone; input that it left must not hide that. */
static void look_for_end(struct chardev *chr)
{
	if (!chr->kind->keeps)
		return;
	chr->in_ending = true;
	chr->in_waiting = false;
}

void chardev_tick(void *opaque)
{
	struct chardev *chr = opaque;
	bool tell, failed;

	pthread_mutex_lock(&chr->lock);
	chr->tick = TICK_NONE;
	if (chr->output == CHARDEV_BLOCKED && !chr->out_pollable)
		chr->output = CHARDEV_OPEN;
	if (chr->output == CHARDEV_OPEN && used(chr) > 0) {
		flush(chr);
		/* More is likely to come: it shall gather, too. */
		if (chr->output == CHARDEV_OPEN)
			set_tick(chr, TICK_LATER, GATHER_NS);
	}
	tell = take_writable(chr);
	failed = chr->failed;
	chr->failed = false;
	pthread_mutex_unlock(&chr->lock);

	if (failed)
		look_for_end(chr);
	if (tell)
		writable(chr);
	chardev_pump(chr);
}

static size_t write_open(struct chardev *chr, const uint8_t *buf, size_t len)
{
	size_t room = CHARDEV_RING - used(chr);
	bool alone = used(chr) == 0 && chr->tick == TICK_NONE;

	if (len > room)
		len = room;
	put(chr, buf, (uint32_t)len);
	if (chr->output == CHARDEV_OPEN && (alone || used(chr) >= FLUSH_AT))
		flush(chr);
	if (chr->output == CHARDEV_OPEN)
		set_tick(chr, TICK_LATER, GATHER_NS);
	return len;
}

size_t chardev_write(struct chardev *chr, const void *buf, size_t len)
{
	size_t taken = len;

	if (len == 0)
		return 0;
	pthread_mutex_lock(&chr->lock);
	if (chr->output == CHARDEV_KEEP)
		put_newest(chr, buf, len);
	else if (chr->output != CHARDEV_DISCARD)
		taken = write_open(chr, buf, len);
	if (taken < len) {
		chr->refused = true;
		/* The flush above may have made room already: then nobody else will say so. */
		if (chr->output != CHARDEV_BLOCKED)
			tick_now(chr);
	}
	pthread_mutex_unlock(&chr->lock);
	return taken;
}

void chardev_say(struct chardev *chr, const char *text)
{
	chardev_write(chr, text, strlen(text));
}

/* ---- input ----------------------------------------------------------------------------------- */

/*
 * `starved` is set before the client is asked: if it makes room right after it said it had none, it
 * finds the flag set and wakes us.
 */
static size_t client_room(struct chardev *chr)
{
	size_t room;

	if (!chr->client)
		return 0;
	pthread_mutex_lock(&chr->lock);
	chr->starved = true;
	pthread_mutex_unlock(&chr->lock);
	room = chr->client->can_receive(chr->client_opaque);
	if (room > 0) {
		pthread_mutex_lock(&chr->lock);
		chr->starved = false;
		pthread_mutex_unlock(&chr->lock);
	}
	return room;
}

void chardev_accept_input(struct chardev *chr)
{
	pthread_mutex_lock(&chr->lock);
	if (chr->starved) {
		chr->starved = false;
		tick_now(chr);
	}
	pthread_mutex_unlock(&chr->lock);
}

/* Hands the client what was read before; the room it has after that. */
static size_t deliver(struct chardev *chr)
{
	for (;;) {
		size_t have = chr->in_head - chr->in_tail;
		size_t room = client_room(chr);
		size_t n = have < room ? have : room;

		if (n == 0)
			return room;
		chr->client->receive(chr->client_opaque, chr->input + chr->in_tail, n);
		chr->in_tail += n;
		if (chr->in_tail == chr->in_head)
			chr->in_tail = chr->in_head = 0;
	}
}

/* One read into the buffer, at most `most` bytes; as chardev_fd_read(). */
static ssize_t read_some(struct chardev *chr, size_t most)
{
	uint8_t raw[READ_AT_ONCE];
	ssize_t n;

	if (chr->in_tail > 0) {
		memmove(chr->input, chr->input + chr->in_tail, chr->in_head - chr->in_tail);
		chr->in_head -= chr->in_tail;
		chr->in_tail = 0;
	}
	if (most > sizeof(raw))
		most = sizeof(raw);
	n = chardev_fd_read(&chr->in, raw, most);
	if (n <= 0)
		return n;
	if (chr->filtering) {
		chr->in_head += chr->kind->filter(chr, raw, (size_t)n, chr->input + chr->in_head);
	} else {
		memcpy(chr->input + chr->in_head, raw, (size_t)n);
		chr->in_head += (size_t)n;
	}
	return n;
}

/*
 * How much to read: what the client can take. But what the buffer can take, whatever the client
 * does, if there are escapes to be seen (each byte may become two), or if the other side has gone
 * and the next one waits for its place.
 */
static size_t want(struct chardev *chr, size_t room)
{
	size_t space = CHARDEV_INPUT - (chr->in_head - chr->in_tail);

	if (chr->filtering)
		return space / 2;
	return room < space && !chr->in_ending ? room : space;
}

void chardev_wait_input(struct chardev *chr, uint32_t events)
{
	if (chr->in_pollable) {
		chr->in_waiting = true;
		event_modify(&chr->in_source, events | EPOLLONESHOT);
		return;
	}
	pthread_mutex_lock(&chr->lock);
	set_tick(chr, TICK_LATER, RETRY_NS);
	pthread_mutex_unlock(&chr->lock);
}

static bool may_read(struct chardev *chr)
{
	return chr->in.fd >= 0 && !chr->in_waiting &&
	       (!chr->kind->may_read || chr->kind->may_read(chr));
}

/* The client takes nothing, so we do not read: a hang-up must be noticed all the same. */
static void watch_for_end(struct chardev *chr)
{
	if (chr->kind->keeps && chr->in_pollable && !chr->in_ending)
		event_modify(&chr->in_source, EPOLLONESHOT);
}

void chardev_pump(struct chardev *chr)
{
	for (unsigned i = 0; i < PUMP_ROUNDS; i++) {
		size_t most;
		ssize_t n;

		if (chr->in_waiting && chr->in_head == chr->in_tail)
			return;
		most = want(chr, deliver(chr));
		if (!may_read(chr))
			return;
		if (most == 0) {
			watch_for_end(chr);
			return;
		}
		n = read_some(chr, most);
		if (n > 0)
			continue;
		if (n == -EAGAIN)
			chardev_wait_input(chr, EPOLLIN);
		else if (chr->kind->hangup)
			chr->kind->hangup(chr);
		else
			chardev_end_input(chr);
		return;
	}
	pthread_mutex_lock(&chr->lock);
	tick_now(chr);
	pthread_mutex_unlock(&chr->lock);
}

static void in_ready(void *opaque, uint32_t events)
{
	struct chardev *chr = opaque;

	chr->in_waiting = false;
	if (events & (EPOLLHUP | EPOLLERR))
		chr->in_ending = true;
	chardev_pump(chr);
}

/* ---- coming and going ------------------------------------------------------------------------ */

/* False if epoll cannot wait for it (a file, /dev/null): always ready, or retried by the timer. */
static int watch(struct chardev *chr, struct event_source *source, int fd, uint32_t events,
		 void (*callback)(void *opaque, uint32_t events), bool *pollable)
{
	int err;

	*source = (struct event_source){
		.fd = fd, .events = events, .callback = callback, .opaque = chr
	};
	err = event_add(chr->loop, source);
	*pollable = err == 0;
	return err == -EPERM ? 0 : err;
}

static void set_carrier(struct chardev *chr, bool present)
{
	if (chr->carrier == present)
		return;
	chr->carrier = present;
	if (chr->client && chr->client->carrier)
		chr->client->carrier(chr->client_opaque, present);
}

int chardev_attach(struct chardev *chr, struct chardev_fd in, struct chardev_fd out)
{
	int err = 0;

	pthread_mutex_lock(&chr->lock);
	chr->in = in;
	chr->out = out;
	chr->failed = false;
	if (out.fd >= 0) {
		err = watch(chr, &chr->out_source, out.fd, EPOLLONESHOT, out_ready,
			    &chr->out_pollable);
		chr->output = CHARDEV_OPEN;
	}
	if (!err && in.fd >= 0)
		err = watch(chr, &chr->in_source, in.fd, EPOLLIN | EPOLLONESHOT, in_ready,
			    &chr->in_pollable);
	chr->in_waiting = chr->in_pollable;
	chr->in_ending = false;
	/* Sends what was kept, and reads what epoll will not tell of. */
	tick_now(chr);
	pthread_mutex_unlock(&chr->lock);
	if (err)
		chardev_detach(chr);
	else
		set_carrier(chr, true);
	return err;
}

void chardev_end_input(struct chardev *chr)
{
	if (chr->in.fd < 0)
		return;
	event_del(&chr->in_source);
	chardev_fd_close(&chr->in);
	chr->in_pollable = chr->in_waiting = false;
}

void chardev_detach(struct chardev *chr)
{
	chardev_end_input(chr);
	pthread_mutex_lock(&chr->lock);
	/* On the loop's own thread this waits for nobody. */
	event_del(&chr->out_source);
	chardev_fd_close(&chr->out);
	chr->output = chr->kind->keeps ? CHARDEV_KEEP : CHARDEV_DISCARD;
	if (chr->output == CHARDEV_DISCARD)
		chr->tail = chr->head;
	if (chr->refused)
		tick_now(chr);
	pthread_mutex_unlock(&chr->lock);
	set_carrier(chr, false);
}
