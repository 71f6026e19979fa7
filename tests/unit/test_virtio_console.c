/*
 * virtio-console with a model driver: bytes both ways whole and in order, whatever the speed of
 * either side; nobody who reads; a pause in the middle; the size of the screen; hostile drivers.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/registry.h"
#include "devices/virtio/virtio.h"
#include "tests/unit/test_virtio_rig.h"

#define SIZE 16u
#define SLOT 4096u /* memory of a buffer */
#define RX   MODEL_HIGH
#define TX   (MODEL_HIGH + (1ull << 20))

struct kit {
	struct vrig *r;
	struct model rx, tx;
	char dir[32], path[64];
	int fd; /* of the user's side */
	uint64_t rx_slot[SIZE], tx_slot[SIZE];
	unsigned rx_next, tx_next;
};

static void up(struct kit *k, uint64_t wanted)
{
	uint64_t features = (vrig_offered(k->r) & wanted) | MODEL_BIT(VIRTIO_F_VERSION_1);

	cr_assert(vrig_negotiate(k->r, features));
	model_init(&k->rx, &k->r->memory, 0, SIZE, features);
	model_init(&k->tx, &k->r->memory, VRIG_QUEUE, SIZE, features);
	vrig_queue(k->r, 0, &k->rx);
	vrig_queue(k->r, 1, &k->tx);
	vrig_driver_ok(k->r);
}

static void dir(struct kit *k)
{
	strcpy(k->dir, "/tmp/mvm-console-XXXXXX");
	cr_assert_not_null(mkdtemp(k->dir));
	snprintf(k->path, sizeof(k->path), "%s/sock", k->dir);
}

static struct kit *kit(const char *keys)
{
	struct kit *k = calloc(1, sizeof(*k));
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char target[80];

	dir(k);
	signal(SIGPIPE, SIG_IGN);
	k->r = vrig_create();
	snprintf(target, sizeof(target), "unix:%s", k->path);
	vrig_plug(k->r, &row_virtio_console, target, keys);
	strcpy(address.sun_path, k->path);
	k->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(connect(k->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	up(k, ~0ull);
	return k;
}

static void kit_free(struct kit *k)
{
	vrig_destroy(k->r);
	cr_expect_neq(access(k->path, F_OK), 0, "the socket stays behind");
	rmdir(k->dir);
	if (k->fd >= 0)
		close(k->fd);
	model_free(&k->rx);
	model_free(&k->tx);
	free(k);
}

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 131 + (at >> 8) * 17 + (at >> 16));
}

/* Gives the device a buffer of len bytes for input; false if the ring is full. */
static bool post(struct kit *k, uint32_t len)
{
	struct model_buf buf = { RX + (uint64_t)(k->rx_next % SIZE) * SLOT, len, true };
	int id = model_add(&k->rx, &buf, 1, false);

	if (id < 0)
		return false;
	k->rx_slot[id] = buf.addr;
	k->rx_next++;
	if (model_must_kick(&k->rx))
		vrig_kick(k->r, 0);
	return true;
}

/* Sends [at, at + len) of the pattern as a chain of two buffers; false if the ring is full. */
static bool show(struct kit *k, uint64_t at, uint32_t len)
{
	uint64_t addr = TX + (uint64_t)(k->tx_next % SIZE) * SLOT;
	struct model_buf buf[2] = { { addr, len / 2, false },
				    { addr + len / 2, len - len / 2, false } };
	uint8_t *p = model_at(&k->r->memory, addr, len);

	if (k->tx.free_slots < 2)
		return false;
	for (uint32_t i = 0; i < len; i++)
		p[i] = pattern(at + i);
	cr_assert_geq(model_add(&k->tx, buf, 2, false), 0);
	k->tx_next++;
	if (model_must_kick(&k->tx))
		vrig_kick(k->r, 1);
	return true;
}

/* Shows `total` bytes in chains of `len`, reading `pause_us` slower than possible. */
static void show_all(struct kit *k, uint64_t total, uint32_t len, unsigned pause_us)
{
	uint64_t shown = 0, seen = 0;
	struct model_used used;
	uint8_t buf[4096];

	while (seen < total) {
		uint32_t part = total - shown < len ? (uint32_t)(total - shown) : len;
		ssize_t n;

		if (part && show(k, shown, part)) {
			shown += part;
			continue;
		}
		while (model_used(&k->tx, &used))
			continue;
		model_sleep(&k->tx);
		n = recv(k->fd, buf, sizeof(buf), MSG_DONTWAIT);
		for (ssize_t i = 0; i < n; i++)
			cr_assert_eq(buf[i], pattern(seen + (uint64_t)i), "byte %llu",
				     (unsigned long long)seen + (unsigned long long)i);
		seen += n > 0 ? (uint64_t)n : 0;
		usleep(n > 0 ? pause_us : 200);
	}
	vrig_wait(!model_used(&k->tx, &used) && k->tx.free_slots == SIZE);
}

Test(virtio_console, output_is_whole, .timeout = 30)
{
	struct kit *k = kit("");

	show_all(k, 1 << 20, 3000, 0);
	kit_free(k);
}

Test(virtio_console, output_is_whole_packed, .timeout = 30)
{
	struct kit *k = kit("ring=packed,in-order=on");

	show_all(k, 1 << 20, 777, 0);
	kit_free(k);
}

/* Slower than a second for a full ring: it still moves, so nothing is dropped. */
Test(virtio_console, slow_reader_gets_all, .timeout = 60)
{
	struct kit *k = kit("");

	show_all(k, 800 << 10, 4096, 15000);
	kit_free(k);
}

static void type_all(struct kit *k, size_t total, uint32_t room)
{
	uint64_t typed = 0, seen = 0;
	struct model_used used;

	while (seen < total) {
		uint8_t buf[1500];
		ssize_t n;
		size_t want = total - typed < sizeof(buf) ? total - typed : sizeof(buf);

		for (size_t i = 0; i < want; i++)
			buf[i] = pattern(typed + i);
		n = want ? send(k->fd, buf, want, MSG_DONTWAIT) : 0;
		typed += n > 0 ? (uint64_t)n : 0;
		post(k, room);
		while (model_used(&k->rx, &used)) {
			uint8_t *p = model_at(&k->r->memory, k->rx_slot[used.id], used.len);

			cr_assert_leq(used.len, room);
			for (uint32_t i = 0; i < used.len; i++)
				cr_assert_eq(p[i], pattern(seen + i));
			seen += used.len;
		}
	}
	cr_assert_eq(seen, total);
}

Test(virtio_console, input_is_whole, .timeout = 60)
{
	struct kit *k = kit("");

	type_all(k, 256 << 10, 4096);
	kit_free(k);
}

static unsigned latencies(struct kit *k)
{
	struct account_block sum;
	unsigned counted = 0;

	account_read(k->r->dev->account, &sum);
	for (unsigned i = 0; i < ACCOUNT_BUCKETS; i++)
		counted += (unsigned)sum.latency[i];
	return counted;
}

/* What somebody types late makes the device no slower. */
Test(virtio_console, waiting_for_input_is_no_latency, .timeout = 60)
{
	struct kit *k = kit("");
	struct account_block sum;

	type_all(k, 4096, 512);
	account_read(k->r->dev->account, &sum);
	cr_expect_gt(sum.value[ACCOUNT_REQUESTS], 0);
	cr_expect_eq(latencies(k), 0);
	show_all(k, 4096, 512, 0);
	cr_expect_eq(latencies(k), 8, "output has one");
	kit_free(k);
}

Test(virtio_console, input_is_whole_in_small_buffers, .timeout = 60)
{
	struct kit *k = kit("ring=packed");

	type_all(k, 16 << 10, 7);
	kit_free(k);
}

/* Typed while the guest has no driver, and over a reset: it is there for the next driver. */
Test(virtio_console, input_waits_for_a_driver, .timeout = 30)
{
	struct kit *k = kit("");
	struct model_used used;

	cr_assert(post(k, 64));
	usleep(20000);
	vrig_set_status(k->r, 0);
	cr_assert_eq(write(k->fd, "typed", 5), 5);
	usleep(20000);
	model_free(&k->rx);
	model_free(&k->tx);
	up(k, ~0ull);
	post(k, 3);
	post(k, 64);
	used = vrig_wait_used(&k->rx);
	cr_assert_eq(used.len, 3);
	cr_assert_arr_eq(model_at(&k->r->memory, k->rx_slot[used.id], 3), "typ", 3);
	used = vrig_wait_used(&k->rx);
	cr_assert_eq(used.len, 2);
	cr_assert_arr_eq(model_at(&k->r->memory, k->rx_slot[used.id], 2), "ed", 2);
	kit_free(k);
}

/* Nobody reads: for a second the guest waits, then its chains come back; later it is heard again.
 */
Test(virtio_console, nobody_reads, .timeout = 60)
{
	struct kit *k = kit("");
	struct model_used used;
	uint64_t shown = 0, drained = 0;
	uint8_t buf[4096], mark = 0;

	while (shown < 4 << 20) {
		if (show(k, shown, 4096))
			shown += 4096;
		while (model_used(&k->tx, &used))
			continue;
		model_sleep(&k->tx);
	}
	vrig_wait(!model_used(&k->tx, &used) && k->tx.free_slots == SIZE);
	for (unsigned quiet = 0; quiet < 100; quiet++) {
		ssize_t n = recv(k->fd, buf, sizeof(buf), MSG_DONTWAIT);

		for (ssize_t i = 0; i < n; i++)
			drained++;
		if (n > 0)
			quiet = 0;
		usleep(1000);
	}
	cr_assert_gt(drained, 64 << 10);
	cr_assert_lt(drained, 4 << 20);
	cr_assert(show(k, 7, 2));
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(read(k->fd, &mark, 1), 1);
		cr_assert_eq(mark, pattern(7 + i));
	}
	kit_free(k);
}

/* A pause while a chain is half out: the rest follows, nothing twice. */
Test(virtio_console, pause_in_the_middle, .timeout = 60)
{
	struct kit *k = kit("ring=packed");
	uint64_t shown = 0, seen = 0;
	struct model_used used;
	struct error e;
	uint8_t buf[4096];

	for (unsigned idle = 0; idle < 50; usleep(1000)) {
		bool any = show(k, shown, 4095);

		shown += any ? 4095 : 0;
		while (model_used(&k->tx, &used))
			any = true;
		model_sleep(&k->tx);
		idle = any ? 0 : idle + 1;
	}
	cr_assert_lt(k->tx.free_slots, SIZE);
	k->r->dev->ops->pause(k->r->dev);
	usleep(1200000);
	k->r->dev->ops->start(k->r->dev, &e);
	while (seen < shown) {
		ssize_t n = read(k->fd, buf, sizeof(buf));

		cr_assert_gt(n, 0);
		for (ssize_t i = 0; i < n; i++)
			cr_assert_eq(buf[i], pattern(seen + (uint64_t)i));
		seen += (uint64_t)n;
	}
	usleep(20000);
	cr_assert_lt(recv(k->fd, buf, 1, MSG_DONTWAIT), 0, "something came twice");
	kit_free(k);
}

Test(virtio_console, emergency_write, .timeout = 30)
{
	struct kit *k = kit("");
	char c = 0;

	vrig_set_status(k->r, 0);
	cr_assert(vrig_offered(k->r) & MODEL_BIT(VIRTIO_CONSOLE_F_EMERG_WRITE));
	vrig_write(k->r, k->r->device + offsetof(struct virtio_console_config, emerg_wr), 4, '!');
	cr_assert_eq(read(k->fd, &c, 1), 1);
	cr_assert_eq(c, '!');
	/* Not where nothing is to be written. */
	vrig_write(k->r, k->r->device, 2, 'x');
	vrig_write(k->r, k->r->device + 9, 1, 'x');
	usleep(20000);
	cr_assert_lt(recv(k->fd, &c, 1, MSG_DONTWAIT), 0);
	kit_free(k);
}

Test(virtio_console, no_size_without_a_terminal)
{
	struct kit *k = kit("");

	cr_assert(!(vrig_offered(k->r) & MODEL_BIT(VIRTIO_CONSOLE_F_SIZE)));
	kit_free(k);
}

Test(virtio_console, size_of_the_terminal, .timeout = 30)
{
	struct winsize ws = { .ws_row = 33, .ws_col = 101 };
	struct kit *k = calloc(1, sizeof(*k));
	uint64_t isr = 0; /* reading clears it */
	int master, slave;

	/* Every test is a process of its own: stdin may go. */
	cr_assert_eq(openpty(&master, &slave, NULL, NULL, &ws), 0);
	cr_assert_eq(dup2(slave, STDIN_FILENO), STDIN_FILENO);
	k->fd = -1;
	k->r = vrig_create();
	vrig_plug(k->r, &row_virtio_console, "stdio", "");
	up(k, ~0ull);
	cr_assert(k->rx.config.features & MODEL_BIT(VIRTIO_CONSOLE_F_SIZE));
	cr_assert_eq(vrig_read(k->r, k->r->device, 2), 101);
	cr_assert_eq(vrig_read(k->r, k->r->device + 2, 2), 33);
	/* Linux looks only when it is told: one interrupt as soon as the driver is ready. */
	vrig_wait((isr |= vrig_read(k->r, k->r->isr, 1)) & 2);
	isr = 0;
	ws = (struct winsize){ .ws_row = 50, .ws_col = 132 };
	cr_assert_eq(ioctl(master, TIOCSWINSZ, &ws), 0);
	raise(SIGWINCH);
	vrig_wait((isr |= vrig_read(k->r, k->r->isr, 1)) & 2);
	cr_assert_eq(vrig_read(k->r, k->r->device, 4), 50u << 16 | 132);
	kit_free(k);
}

/* ---- drivers that break rules ---------------------------------------------------------------- */

Test(virtio_console, receive_buffer_to_read_breaks_the_queue)
{
	struct kit *k = kit("");
	struct model_buf buf = { RX, 64, false };

	cr_assert(post(k, 64));
	model_add(&k->rx, &buf, 1, false);
	cr_assert(post(k, 64));
	vrig_kick(k->r, 0);
	vrig_wait(vrig_status(k->r) & VIRTIO_CONFIG_S_NEEDS_RESET);
	/* Output goes on, and after a reset so does input. */
	cr_assert(show(k, 0, 2));
	vrig_wait_used(&k->tx);
	model_free(&k->rx);
	model_free(&k->tx);
	up(k, ~0ull);
	cr_assert_eq(write(k->fd, "x", 1), 1);
	cr_assert(post(k, 64));
	cr_assert_eq(vrig_wait_used(&k->rx).len, 1);
	kit_free(k);
}

Test(virtio_console, transmit_buffers_are_not_written)
{
	struct kit *k = kit("");
	struct model_buf buf[2] = { { TX, 1, false }, { TX + 4096, 4096, true } };
	uint8_t *p = model_at(&k->r->memory, TX, 8192);
	char c;

	p[0] = 'a';
	model_add(&k->tx, buf, 2, false);
	vrig_kick(k->r, 1);
	cr_assert_eq(vrig_wait_used(&k->tx).len, 0);
	cr_assert_eq(read(k->fd, &c, 1), 1);
	cr_assert_eq(c, 'a');
	cr_assert_eq(p[4096], 0);
	kit_free(k);
}
