/*
 * Character backends that somebody connects to: pty and unix socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/chardev_sink.h"

#define BULK (64u << 10)

static char dir[] = "/tmp/mvm-peers-XXXXXX";
static char path[64], spec[80];
static char bulk[BULK], back[BULK];

static void set_up(void)
{
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/console", dir);
}

static void tear_down(void)
{
	unlink(path);
	rmdir(dir);
}

TestSuite(peers, .init = set_up, .fini = tear_down, .timeout = 60);

static const char *as(const char *kind)
{
	snprintf(spec, sizeof(spec), "%s:%s", kind, path);
	return spec;
}

static bool exists(void)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* ---- pty ------------------------------------------------------------------------------------- */

Test(peers, pty_both_ways)
{
	struct sink *s = sink_open("pty", SINK_ALL);
	int fd;

	cr_assert_eq(s->carrier, 0, "nobody is there yet");
	cr_assert(chardev_label(s->chr));
	fd = open(chardev_label(s->chr), O_RDWR | O_NOCTTY);
	cr_assert_geq(fd, 0);
	sink_wait_carrier(s, true);
	/* Raw: no echo of it, no line editing, no translation. */
	sink_write_all(fd, "typed\r\003", 7);
	sink_wait_len(s, 7);
	cr_assert_arr_eq(s->got, "typed\r\003", 7);
	cr_assert_eq(chardev_write(s->chr, "shown\r\n", 7), 7);
	sink_read_all(fd, back, 7);
	cr_assert_arr_eq(back, "shown\r\n", 7);
	close(fd);
	sink_wait_carrier(s, false);
	sink_free(s);
}

Test(peers, pty_keeps_output_for_who_comes)
{
	struct sink *s = sink_open("pty", SINK_ALL);
	int fd;

	cr_assert_eq(chardev_write(s->chr, "booting", 7), 7);
	for (unsigned round = 0; round < 3; round++) {
		fd = open(chardev_label(s->chr), O_RDWR | O_NOCTTY);
		sink_wait_carrier(s, true);
		sink_read_all(fd, back, 7);
		cr_assert_arr_eq(back, "booting", 7);
		close(fd);
		sink_wait_carrier(s, false);
		cr_assert_eq(chardev_write(s->chr, "booting", 7), 7);
	}
	sink_free(s);
}

Test(peers, pty_input_for_a_slow_guest)
{
	struct sink *s = sink_open("pty", 0);
	int fd = open(chardev_label(s->chr), O_RDWR | O_NOCTTY | O_NONBLOCK);
	size_t written = 0;

	sink_pattern(bulk, BULK);
	for (size_t n = 0; n < BULK;) {
		ssize_t w = write(fd, bulk + written, BULK - written);

		if (w > 0)
			written += (size_t)w;
		if (n < written) {
			size_t some = written - n < 16 ? written - n : 16;

			n += some;
			sink_allow(s, some);
			sink_wait_len(s, n);
		}
	}
	cr_assert_arr_eq(s->got, bulk, BULK);
	close(fd);
	sink_free(s);
}

Test(peers, pty_output_to_a_slow_reader)
{
	struct sink *s = sink_open("pty", SINK_ALL);
	int fd = open(chardev_label(s->chr), O_RDWR | O_NOCTTY);
	size_t sent = 0, got = 0;

	sink_pattern(bulk, BULK);
	sink_wait_carrier(s, true);
	while (got < BULK) {
		if (sent < BULK)
			sent += chardev_write(s->chr, bulk + sent, BULK - sent);
		ssize_t n = read(fd, back + got, 37);

		cr_assert_gt(n, 0);
		got += (size_t)n;
	}
	cr_assert_arr_eq(back, bulk, BULK);
	close(fd);
	sink_free(s);
}

static void *read_to_the_end(void *arg)
{
	int fd = *(int *)arg;
	size_t got = 0;
	ssize_t n;

	while (got < BULK && (n = read(fd, back + got, 37)) > 0) {
		got += (size_t)n;
		usleep(2000);
	}
	return (void *)got;
}

/* The kernel throws away what is unread when mvm's side goes. */
Test(peers, pty_close_waits_for_a_slow_reader)
{
	struct sink *s = sink_open("pty", SINK_ALL);
	int fd = open(chardev_label(s->chr), O_RDWR | O_NOCTTY);
	pthread_t thread;
	void *got;

	sink_pattern(bulk, BULK);
	sink_wait_carrier(s, true);
	cr_assert_eq(chardev_write(s->chr, bulk, 3000), 3000);
	cr_assert_eq(pthread_create(&thread, NULL, read_to_the_end, &fd), 0);
	sink_close(s);
	pthread_join(thread, &got);
	cr_assert_eq((size_t)got, 3000);
	cr_assert_arr_eq(back, bulk, 3000);
	close(fd);
	sink_free(s);
}

Test(peers, pty_link)
{
	struct sink *s = sink_open(as("pty"), SINK_ALL);
	ssize_t n = readlink(path, back, sizeof(back) - 1);

	cr_assert_gt(n, 0);
	back[n] = '\0';
	cr_assert_str_eq(back, chardev_label(s->chr));
	sink_free(s);
	cr_assert(!exists());
}

Test(peers, pty_link_left_behind_is_replaced)
{
	cr_assert_eq(symlink("/dev/pts/99999", path), 0);
	sink_free(sink_open(as("pty"), SINK_ALL));
	cr_assert(!exists());
}

Test(peers, pty_link_does_not_replace_what_it_should_not)
{
	cr_assert_eq(symlink("/etc/passwd", path), 0);
	cr_assert(strstr(sink_open_fails(as("pty")), path));
	cr_assert(exists());
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	cr_assert(strstr(sink_open_fails(as("pty")), path));
	cr_assert(exists());
}

/* ---- unix socket ----------------------------------------------------------------------------- */

static int try_dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static int dial(void)
{
	int fd = try_dial();

	cr_assert_geq(fd, 0, "connect: %s", strerror(errno));
	return fd;
}

Test(peers, unix_both_ways)
{
	struct sink *s = sink_open(as("unix"), SINK_ALL);
	struct stat st;
	int fd;

	cr_assert_eq(s->carrier, 0);
	cr_assert_str_eq(chardev_label(s->chr), path);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	cr_assert_eq(chardev_write(s->chr, "early ", 6), 6);
	fd = dial();
	sink_wait_carrier(s, true);
	sink_write_all(fd, "typed", 5);
	sink_wait_len(s, 5);
	cr_assert_eq(chardev_write(s->chr, "shown", 5), 5);
	sink_read_all(fd, back, 11);
	cr_assert_arr_eq(back, "early shown", 11);
	close(fd);
	sink_wait_carrier(s, false);
	sink_free(s);
	cr_assert(!exists());
}

Test(peers, unix_clients_take_turns)
{
	struct sink *s = sink_open(as("unix"), SINK_ALL);
	int first = dial(), second = dial();

	sink_write_all(second, "second", 6);
	sink_write_all(first, "first", 5);
	sink_wait_len(s, 5);
	cr_assert_arr_eq(s->got, "first", 5);
	close(first);
	sink_wait_len(s, 11);
	cr_assert_arr_eq(s->got, "firstsecond", 11);
	cr_assert_eq(chardev_write(s->chr, "x", 1), 1);
	sink_read_all(second, back, 1);
	close(second);
	sink_free(s);
}

/* The client waits in the queue, and the loop does not turn for it. */
Test(peers, unix_no_descriptor_left)
{
	struct sink *s = sink_open(as("unix"), SINK_ALL);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct rlimit limit, none;
	struct rusage before, after;
	long long us;

	strcpy(address.sun_path, path);
	getrlimit(RLIMIT_NOFILE, &limit);
	none = (struct rlimit){ 3, limit.rlim_max };
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	getrusage(RUSAGE_SELF, &before);
	usleep(300000);
	getrusage(RUSAGE_SELF, &after);
	cr_assert_eq(s->carrier, 0);
	us = (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000ll + after.ru_stime.tv_usec -
	     before.ru_stime.tv_usec;
	cr_assert_lt(us, 30000, "%lld us of system time", us);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	sink_wait_carrier(s, true);
	close(fd);
	sink_free(s);
}

Test(peers, unix_half_closed_client_still_gets_output)
{
	struct sink *s = sink_open(as("unix"), SINK_ALL);
	int fd = dial();

	sink_write_all(fd, "poweroff\n", 9);
	shutdown(fd, SHUT_WR);
	sink_wait_len(s, 9);
	sink_settle(s);
	cr_assert_eq(s->carrier, 1);
	cr_assert_eq(chardev_write(s->chr, "bye", 3), 3);
	sink_read_all(fd, back, 3);
	close(fd);
	sink_wait_carrier(s, false);
	sink_free(s);
}

/* It must not keep the place while the guest sleeps, and what it typed must not be lost. */
static void leave_behind(struct sink *s, int (*come)(struct sink *s))
{
	int fd = come(s);

	sink_wait_carrier(s, true);
	sink_write_all(fd, "one", 3);
	sink_settle(s);
	close(fd);
	sink_wait_carrier(s, false);
	fd = come(s);
	sink_wait_carrier(s, true);
	sink_write_all(fd, "two", 3);
	close(fd);
	/* Nor does output that finds nobody lose it. */
	for (unsigned i = 0; i < 4; i++)
		chardev_write(s->chr, bulk, BULK);
	sink_wait_carrier(s, false);
	cr_assert_eq(s->len, 0);
	sink_allow(s, SINK_ALL);
	sink_wait_len(s, 6);
	cr_assert_arr_eq(s->got, "onetwo", 6);
	sink_free(s);
}

static int come_by_socket(struct sink *s)
{
	(void)s;
	return dial();
}

static int come_by_pty(struct sink *s)
{
	return open(chardev_label(s->chr), O_RDWR | O_NOCTTY);
}

Test(peers, unix_input_of_a_client_that_left)
{
	leave_behind(sink_open(as("unix"), 0), come_by_socket);
}

Test(peers, pty_input_of_a_client_that_left)
{
	leave_behind(sink_open("pty", 0), come_by_pty);
}

Test(peers, unix_bulk_both_ways)
{
	struct sink *s = sink_open(as("unix"), 0);
	int fd = dial();
	size_t sent = 0, got = 0;

	sink_pattern(bulk, BULK);
	sink_wait_carrier(s, true);
	sink_write_all(fd, bulk, BULK);
	for (size_t n = 0; n < BULK; n += 64) {
		sink_allow(s, 64);
		sink_wait_len(s, n + 64);
	}
	cr_assert_arr_eq(s->got, bulk, BULK);
	while (got < BULK) {
		if (sent < BULK)
			sent += chardev_write(s->chr, bulk + sent, BULK - sent);
		ssize_t n = read(fd, back + got, 1000);

		cr_assert_gt(n, 0);
		got += (size_t)n;
	}
	cr_assert_arr_eq(back, bulk, BULK);
	close(fd);
	sink_free(s);
}

/* The client hangs up with everything full: nothing waits for it, and the next one is served. */
Test(peers, unix_client_leaves_in_the_middle)
{
	struct sink *s = sink_open(as("unix"), SINK_ALL);
	int fd = dial();

	sink_wait_carrier(s, true);
	while (chardev_write(s->chr, bulk, BULK) > 0)
		continue;
	close(fd);
	sink_wait_writable(s, 1);
	sink_wait_carrier(s, false);
	cr_assert_eq(chardev_write(s->chr, "fresh", 5), 5);
	fd = dial();
	sink_wait_carrier(s, true);
	sink_read_all(fd, back, BULK);
	cr_assert_arr_eq(back + BULK - 5, "fresh", 5);
	close(fd);
	sink_free(s);
}

Test(peers, unix_stale_socket_is_replaced)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	cr_assert(exists());
	struct sink *s = sink_open(as("unix"), SINK_ALL);
	close(dial());
	sink_free(s);
	cr_assert(!exists());
}

Test(peers, unix_live_socket_is_not)
{
	struct sink *s = sink_open(as("unix"), SINK_ALL);

	cr_assert(strstr(sink_open_fails(as("unix")), path));
	close(dial());
	sink_free(s);
	cr_assert_lt(try_dial(), 0);
}

Test(peers, unix_does_not_replace_a_file)
{
	char longer[200];

	close(open(path, O_CREAT | O_WRONLY, 0600));
	cr_assert(strstr(sink_open_fails(as("unix")), path));
	cr_assert(exists());
	snprintf(longer, sizeof(longer), "unix:/%0150d", 1);
	cr_assert(strstr(sink_open_fails(longer), "at most 107 bytes"));
}
