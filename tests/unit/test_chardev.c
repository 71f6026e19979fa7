/*
 * Character backends on pipes, files and closed descriptors; the terminal is in test_chardev_tty.c,
 * pty and socket in test_chardev_peers.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/backend/chardev_fd.h"
#include "tests/unit/chardev_sink.h"

#define BULK (64u << 10)

TestSuite(chardev, .timeout = 60);

static char bulk[BULK], back[2 * BULK];

/* stdin from a pipe and stdout into one; the ends that are left to the test. */
static void pipes(int *to_stdin, int *from_stdout)
{
	int in[2], out[2];

	cr_assert_eq(pipe(in), 0);
	cr_assert_eq(pipe(out), 0);
	cr_assert_eq(dup2(in[0], 0), 0);
	cr_assert_eq(dup2(out[1], 1), 1);
	close(in[0]);
	close(out[1]);
	*to_stdin = in[1];
	*from_stdout = out[0];
}

/* Writes all, waiting for writable() when less is taken. */
static void send_all(struct sink *s, const char *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		unsigned before = __atomic_load_n(&s->writables, __ATOMIC_SEQ_CST);
		size_t n = chardev_write(s->chr, buf + done, len - done);

		done += n;
		if (done < len)
			sink_wait_writable(s, before + 1);
	}
}

/* ---- specs ----------------------------------------------------------------------------------- */

Test(chardev, wrong_specs_say_what_is_right)
{
	cr_assert_str_eq(sink_open_fails("tty"),
			 "unknown character device 'tty': use stdio, pty[:LINK], file:PATH, "
			 "unix:PATH or null");
	cr_assert_str_eq(sink_open_fails("file"), "file needs a path: file:PATH");
	cr_assert_str_eq(sink_open_fails("unix:"), "unix needs a path: unix:PATH");
	cr_assert_str_eq(sink_open_fails("null:x"), "null takes nothing after it");
	cr_assert(strstr(sink_open_fails("file:/no/such/dir/log"), "/no/such/dir/log"));
	cr_assert(strstr(sink_open_fails("unix:/no/such/dir/sock"), "/no/such/dir/sock"));
	cr_assert(strstr(sink_open_fails("pty:/no/such/dir/link"), "/no/such/dir/link"));
	cr_assert(strstr(sink_open_fails(""), "unknown"));
}

Test(chardev, null_takes_everything)
{
	struct sink *s = sink_open("null", SINK_ALL);

	for (unsigned i = 0; i < 100; i++)
		cr_assert_eq(chardev_write(s->chr, bulk, BULK), BULK);
	cr_assert_eq(s->carrier, 1);
	cr_assert_null(chardev_label(s->chr));
	sink_free(s);
}

/* ---- stdio that is no terminal --------------------------------------------------------------- */

Test(chardev, one_console_has_stdio)
{
	int to, from;

	pipes(&to, &from);
	struct sink *s = sink_open("stdio", SINK_ALL);
	cr_assert(strstr(sink_open_fails("stdio"), "another console"));
	sink_close(s);
	sink_free(s);
	/* … at a time. */
	sink_free(sink_open(NULL, SINK_ALL));
}

Test(chardev, closed_stdin_and_stdout)
{
	close(0);
	close(1);
	struct sink *s = sink_open("stdio", SINK_ALL);
	cr_assert_eq(chardev_write(s->chr, bulk, BULK), BULK);
	cr_assert_eq(chardev_write(s->chr, bulk, BULK), BULK);
	sink_free(s);
}

/* Even if nobody has put /dev/null there. */
Test(chardev, descriptors_that_get_closed_later)
{
	struct event_loop *loop;
	struct chardev *chr;
	struct error e;

	chardev_prepare_process();
	loop = event_loop_create("t", &e);
	close(0);
	close(1);
	cr_assert_eq(chardev_open(&chr, loop, "stdio", NULL, &e), 0, "%s", e.msg);
	cr_assert_eq(chardev_write(chr, "x", 1), 1);
	chardev_close(chr);
	event_loop_destroy(loop);
}

Test(chardev, prepare_fills_the_first_three_descriptors)
{
	int fd;

	close(0);
	close(1);
	chardev_prepare_process();
	fd = open("/dev/null", O_RDONLY);
	cr_assert_gt(fd, 2);
	close(fd);
}

Test(chardev, the_end_of_stdin_ends_only_the_input)
{
	int to, from;
	char answer[8];

	pipes(&to, &from);
	struct sink *s = sink_open("stdio", SINK_ALL);
	sink_write_all(to, "last words", 10);
	close(to);
	sink_wait_len(s, 10);
	cr_assert_arr_eq(s->got, "last words", 10);
	sink_settle(s);
	cr_assert_eq(s->quits, 0);
	cr_assert_eq(chardev_write(s->chr, "still on", 8), 8);
	sink_read_all(from, answer, 8);
	cr_assert_arr_eq(answer, "still on", 8);
	sink_free(s);
}

/* Ctrl-A is a byte like any other if it does not come from a terminal. */
Test(chardev, a_pipe_has_no_escapes)
{
	int to, from;

	pipes(&to, &from);
	struct sink *s = sink_open("stdio", SINK_ALL);
	sink_write_all(to, "\001x\001\001b", 5);
	sink_wait_len(s, 5);
	cr_assert_arr_eq(s->got, "\001x\001\001b", 5);
	cr_assert_eq(s->quits, 0);
	sink_free(s);
}

Test(chardev, input_waits_for_a_slow_reader)
{
	int to, from;

	pipes(&to, &from);
	sink_pattern(bulk, BULK);
	struct sink *s = sink_open("stdio", 0);
	/* A pipe holds 64 KiB: the whole of it is there before anybody reads. */
	sink_write_all(to, bulk, BULK);
	close(to);
	for (size_t n = 0; n < BULK; n += 16) {
		sink_allow(s, 16);
		sink_wait_len(s, n + 16);
	}
	cr_assert_eq(s->len, BULK);
	cr_assert_arr_eq(s->got, bulk, BULK);
	sink_free(s);
}

Test(chardev, output_waits_for_a_slow_reader)
{
	int to, from;
	size_t sent = 0, n;

	pipes(&to, &from);
	sink_pattern(bulk, BULK);
	struct sink *s = sink_open("stdio", SINK_ALL);
	/* Nobody reads: the pipe fills, then the queue, and no call waits for anything. */
	while ((n = chardev_write(s->chr, bulk + sent % BULK, BULK - sent % BULK)) > 0)
		sent += n;
	cr_assert_geq(sent, 2 * BULK);
	cr_assert_leq(sent, 3 * BULK);
	cr_assert_eq(chardev_write(s->chr, "x", 1), 0);
	for (size_t got = 0; got < sent; got += n) {
		n = sent - got < BULK ? sent - got : BULK;
		sink_read_all(from, back, n);
		for (size_t i = 0; i < n; i++)
			cr_assert_eq(back[i], bulk[(got + i) % BULK]);
	}
	sink_wait_writable(s, 1);
	cr_assert_eq(chardev_write(s->chr, "x", 1), 1);
	sink_read_all(from, back, 1);
	cr_assert_eq(back[0], 'x');
	sink_free(s);
}

Test(chardev, bytes_one_by_one_arrive_in_order)
{
	int to, from;

	pipes(&to, &from);
	sink_pattern(bulk, BULK);
	struct sink *s = sink_open("stdio", SINK_ALL);
	for (size_t i = 0; i < BULK; i++)
		cr_assert_eq(chardev_write(s->chr, bulk + i, 1), 1);
	sink_read_all(from, back, BULK);
	cr_assert_arr_eq(back, bulk, BULK);
	sink_free(s);
}

Test(chardev, nobody_reads_stdout_any_more)
{
	int to, from;

	pipes(&to, &from);
	struct sink *s = sink_open("stdio", SINK_ALL);
	close(from);
	/* No SIGPIPE, and no transmitter that waits for ever. */
	for (unsigned i = 0; i < 8; i++)
		send_all(s, bulk, BULK);
	sink_write_all(to, "in", 2);
	sink_wait_len(s, 2);
	sink_free(s);
}

Test(chardev, close_flushes)
{
	int to, from;

	pipes(&to, &from);
	sink_pattern(bulk, BULK);
	struct sink *s = sink_open("stdio", SINK_ALL);
	cr_assert_eq(chardev_write(s->chr, "a", 1), 1);
	cr_assert_eq(chardev_write(s->chr, bulk, 3000), 3000);
	sink_close(s);
	sink_read_all(from, back, 3001);
	cr_assert_arr_eq(back + 1, bulk, 3000);
	sink_free(s);
}

/* A device that holds bytes back until it is told that there is room, as a transmitter's FIFO does.
 */
struct holder {
	struct chardev *chr;
	size_t held;
};

static void holder_writable(void *opaque)
{
	struct holder *h = opaque;

	h->held -= chardev_write(h->chr, "hhhhhhhhhhhhhhhh", h->held);
}

struct slow_reader {
	int fd;
	size_t got, held; /* of them */
};

static void *read_slowly(void *arg)
{
	struct slow_reader *r = arg;
	char part[4096];
	ssize_t n;

	while ((n = read(r->fd, part, sizeof(part))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			r->held += part[i] == 'h';
		r->got += (size_t)n;
		usleep(10000);
	}
	return NULL;
}

Test(chardev, close_waits_for_a_reader_that_is_slow)
{
	static const struct chardev_client client = { .writable = holder_writable };
	int to, from;
	size_t sent = 0, n;
	pthread_t thread;

	pipes(&to, &from);
	memset(bulk, 'b', BULK);
	struct sink *s = sink_open("stdio", SINK_ALL);
	struct holder h = { .chr = s->chr, .held = 16 };
	struct slow_reader r = { .fd = from };
	chardev_set_client(s->chr, &client, &h);
	while ((n = chardev_write(s->chr, bulk, BULK)) > 0)
		sent += n;
	cr_assert_eq(pthread_create(&thread, NULL, read_slowly, &r), 0);
	sink_close(s);
	close(1);
	pthread_join(thread, NULL);
	cr_assert_eq(r.got, sent + 16, "%zu of %zu", r.got, sent + 16);
	cr_assert_eq(r.held, 16);
	sink_free(s);
}

Test(chardev, close_does_not_hang_on_a_stuck_reader)
{
	int to, from;

	pipes(&to, &from);
	struct sink *s = sink_open("stdio", SINK_ALL);
	while (chardev_write(s->chr, bulk, BULK) > 0)
		continue;
	sink_free(s);
}

/* They belong to the shell, too. */
Test(chardev, shared_descriptors_keep_their_flags)
{
	int to, from;

	pipes(&to, &from);
	struct sink *s = sink_open("stdio", SINK_ALL);
	cr_assert_eq(fcntl(0, F_GETFL) & O_NONBLOCK, 0);
	cr_assert_eq(fcntl(1, F_GETFL) & O_NONBLOCK, 0);
	sink_free(s);
	cr_assert_eq(fcntl(0, F_GETFL) & O_NONBLOCK, 0);
	cr_assert_eq(fcntl(1, F_GETFL) & O_NONBLOCK, 0);
}

Test(chardev, sockets_as_stdio)
{
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	dup2(pair[0], 0);
	dup2(pair[0], 1);
	close(pair[0]);
	struct sink *s = sink_open("stdio", SINK_ALL);
	sink_write_all(pair[1], "in", 2);
	sink_wait_len(s, 2);
	while (chardev_write(s->chr, bulk, BULK) > 0)
		continue;
	cr_assert_eq(fcntl(1, F_GETFL) & O_NONBLOCK, 0);
	close(pair[1]);
	sink_wait_writable(s, 1);
	cr_assert_eq(chardev_write(s->chr, bulk, BULK), BULK);
	sink_free(s);
}

Test(chardev, files_as_stdio)
{
	char in[] = "/tmp/mvm-in-XXXXXX", out[] = "/tmp/mvm-out-XXXXXX";
	int in_fd = mkstemp(in), out_fd = mkstemp(out);

	sink_pattern(bulk, BULK);
	sink_write_all(in_fd, bulk, BULK);
	lseek(in_fd, 0, SEEK_SET);
	sink_write_all(out_fd, "before ", 7);
	dup2(in_fd, 0);
	dup2(out_fd, 1);
	struct sink *s = sink_open("stdio", 10);
	sink_wait_len(s, 10);
	sink_allow(s, SINK_ALL);
	sink_wait_len(s, BULK);
	cr_assert_arr_eq(s->got, bulk, BULK);
	send_all(s, bulk, BULK);
	sink_free(s);
	/* The file's offset is shared with who else writes there. */
	sink_write_all(1, "after", 5);
	cr_assert_eq(pread(out_fd, back, sizeof(back), 0), BULK + 12);
	cr_assert_arr_eq(back, "before ", 7);
	cr_assert_arr_eq(back + 7, bulk, BULK);
	unlink(in);
	unlink(out);
}

Test(chardev, dev_null_as_stdio)
{
	int fd = open("/dev/null", O_RDWR);

	dup2(fd, 0);
	dup2(fd, 1);
	struct sink *s = sink_open("stdio", SINK_ALL);
	cr_assert_eq(chardev_write(s->chr, bulk, BULK), BULK);
	sink_settle(s);
	cr_assert_eq(s->len, 0);
	cr_assert_eq(s->quits, 0);
	sink_free(s);
}

/* ---- file ------------------------------------------------------------------------------------ */

Test(chardev, file_is_truncated_and_written)
{
	char path[] = "/tmp/mvm-file-XXXXXX", spec[64];
	int fd = mkstemp(path);

	sink_write_all(fd, "what was there", 14);
	snprintf(spec, sizeof(spec), "file:%s", path);
	struct sink *s = sink_open(spec, SINK_ALL);
	for (const char *p = "hello"; *p; p++)
		cr_assert_eq(chardev_write(s->chr, p, 1), 1);
	sink_free(s);
	cr_assert_eq(pread(fd, back, sizeof(back), 0), 5);
	cr_assert_arr_eq(back, "hello", 5);
	unlink(path);
}

Test(chardev, full_disk_is_no_end)
{
	struct sink *s = sink_open("file:/dev/full", SINK_ALL);

	for (unsigned i = 0; i < 8; i++)
		send_all(s, bulk, BULK);
	sink_free(s);
}

/* ---- descriptors that cannot be reopened ----------------------------------------------------- */

Test(chardev, a_full_pipe_is_not_waited_for)
{
	struct chardev_fd f;
	int p[2];
	ssize_t n;

	cr_assert_eq(pipe(p), 0);
	f = chardev_fd_take(p[1], CHARDEV_FD_POLLED_PIPE);
	while ((n = chardev_fd_write(&f, bulk, BULK)) > 0)
		cr_assert_leq(n, 4096);
	cr_assert_eq(n, -EAGAIN);
	sink_read_all(p[0], back, 4096);
	cr_assert_gt(chardev_fd_write(&f, bulk, BULK), 0);
	f = chardev_fd_take(p[0], CHARDEV_FD_POLLED_PIPE);
	while ((n = chardev_fd_read(&f, back, BULK)) > 0)
		continue;
	cr_assert_eq(n, -EAGAIN);
	close(p[1]);
	cr_assert_eq(chardev_fd_read(&f, back, BULK), 0);
	close(p[0]);
}

Test(chardev, a_reader_that_left_is_told)
{
	struct chardev_fd f;
	int p[2];

	chardev_prepare_process();
	cr_assert_eq(pipe(p), 0);
	close(p[0]);
	f = chardev_fd_take(p[1], CHARDEV_FD_POLLED_PIPE);
	cr_assert_eq(chardev_fd_write(&f, bulk, BULK), -EPIPE);
	close(p[1]);
}
