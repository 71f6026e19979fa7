/*
 * The console on a terminal: modes, escapes and job control. The terminal is a pty whose master
 * side the test holds; for job control the test plays the shell.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/chardev_sink.h"

TestSuite(tty, .timeout = 60);

/* A pty with its slave side on stdin and stdout; the master side. */
static int terminal_on_stdio(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	char name[64];
	int slave;

	cr_assert_geq(master, 0);
	cr_assert_eq(grantpt(master), 0);
	cr_assert_eq(unlockpt(master), 0);
	cr_assert_eq(ptsname_r(master, name, sizeof(name)), 0);
	slave = open(name, O_RDWR | O_NOCTTY);
	cr_assert_geq(slave, 0);
	cr_assert_eq(dup2(slave, 0), 0);
	cr_assert_eq(dup2(slave, 1), 1);
	close(slave);
	return master;
}

static bool is_raw(int fd)
{
	struct termios t;

	cr_assert_eq(tcgetattr(fd, &t), 0);
	return !(t.c_lflag & (ICANON | ECHO | ISIG)) && !(t.c_iflag & (ICRNL | IXON));
}

static bool same_modes(int fd, const struct termios *want)
{
	struct termios t;

	cr_assert_eq(tcgetattr(fd, &t), 0);
	return t.c_iflag == want->c_iflag && t.c_oflag == want->c_oflag &&
	       t.c_lflag == want->c_lflag && t.c_cflag == want->c_cflag;
}

Test(tty, is_raw_and_put_back)
{
	int master = terminal_on_stdio();
	struct termios before, during;

	cr_assert_eq(tcgetattr(master, &before), 0);
	struct sink *s = sink_open("stdio", SINK_ALL);
	cr_assert(is_raw(master));
	cr_assert_eq(tcgetattr(master, &during), 0);
	cr_assert_eq(during.c_oflag, before.c_oflag, "newlines still start at the left");
	sink_free(s);
	cr_assert(same_modes(master, &before));
	/* And again. */
	s = sink_open("stdio", SINK_ALL);
	cr_assert(is_raw(master));
	chardev_restore_terminal();
	cr_assert(same_modes(master, &before));
	chardev_restore_terminal();
	sink_free(s);
	cr_assert(same_modes(master, &before));
}

Test(tty, restoring_without_a_terminal_does_nothing)
{
	chardev_restore_terminal();
	close(0);
	sink_free(sink_open("stdio", SINK_ALL));
	chardev_restore_terminal();
}

Test(tty, every_byte_gets_through)
{
	int master = terminal_on_stdio();
	struct sink *s = sink_open("stdio", SINK_ALL);
	char byte;

	for (int c = 0; c < 256; c++) {
		byte = (char)c;
		sink_write_all(master, &byte, 1);
		if (c == 1)
			sink_write_all(master, &byte, 1);
	}
	sink_wait_len(s, 256);
	for (int c = 0; c < 256; c++)
		cr_assert_eq(s->got[c], (char)c);
	sink_free(s);
}

Test(tty, escapes)
{
	int master = terminal_on_stdio();
	struct sink *s = sink_open("stdio", SINK_ALL);

	/* Ctrl-A and a key that means nothing: both are the guest's. */
	sink_write_all(master, "a\001\001b\001ec", 7);
	sink_wait_len(s, 6);
	cr_assert_arr_eq(s->got, "a\001b\001ec", 6);
	sink_write_all(master, "\001b", 2);
	sink_wait_break(s);
	cr_assert_eq(s->quits, 0);
	sink_write_all(master, "\001x", 2);
	sink_wait_quit(s);
	cr_assert_eq(s->len, 6);
	sink_free(s);
}

Test(tty, help)
{
	int master = terminal_on_stdio();
	struct sink *s = sink_open("stdio", SINK_ALL);
	char text[256] = "";
	size_t n = 0;

	sink_write_all(master, "\001h", 2);
	while (!strstr(text, "send Ctrl-A\r\n") && n < sizeof(text) - 1)
		sink_read_all(master, text + n++, 1);
	cr_assert(strstr(text, "Ctrl-A x  quit"));
	sink_free(s);
}

/* A guest that reads nothing does not keep the user in. */
Test(tty, quit_from_a_guest_that_reads_nothing)
{
	int master = terminal_on_stdio();
	struct sink *s = sink_open("stdio", 0);

	for (unsigned i = 0; i < 1000; i++)
		sink_write_all(master, "z", 1);
	sink_write_all(master, "\001x", 2);
	sink_wait_quit(s);
	sink_allow(s, SINK_ALL);
	sink_wait_len(s, 1000);
	sink_free(s);
}

Test(tty, bulk_input_for_a_slow_guest)
{
	int master = terminal_on_stdio();
	struct sink *s = sink_open("stdio", 0);
	static char bulk[65536];
	size_t written = 0;

	sink_pattern(bulk, sizeof(bulk));
	for (size_t i = 0; i < sizeof(bulk); i++)
		if (bulk[i] == 1)
			bulk[i] = 2; /* no escapes */
	fcntl(master, F_SETFL, O_NONBLOCK);
	for (size_t n = 0; n < sizeof(bulk);) {
		ssize_t w = written < sizeof(bulk)
				    ? write(master, bulk + written, sizeof(bulk) - written)
				    : 0;

		if (w > 0)
			written += (size_t)w;
		if (n < written) {
			size_t some = written - n < 16 ? written - n : 16;

			n += some;
			sink_allow(s, some);
			sink_wait_len(s, n);
		}
	}
	cr_assert_arr_eq(s->got, bulk, sizeof(bulk));
	sink_free(s);
}

/* The terminal window was closed. */
Test(tty, hangup)
{
	int master = terminal_on_stdio();
	struct sink *s = sink_open("stdio", SINK_ALL);
	static char bulk[65536];

	sink_write_all(master, "x", 1);
	sink_wait_len(s, 1);
	close(master);
	for (unsigned i = 0; i < 8; i++) {
		unsigned before = __atomic_load_n(&s->writables, __ATOMIC_SEQ_CST);

		if (chardev_write(s->chr, bulk, sizeof(bulk)) < sizeof(bulk))
			sink_wait_writable(s, before + 1);
	}
	sink_free(s);
}

/* ---- job control ----------------------------------------------------------------------------- */

/*
 * What runs in a job: a console that answers in capitals. These processes are not Criterion's, so
 * they check by hand and tell by their exit status.
 */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			dprintf(2, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                 \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

struct job {
	struct event_loop *loop;
	struct chardev *chr;
};

static size_t job_room(void *opaque)
{
	(void)opaque;
	return 16;
}

static void job_receive(void *opaque, const uint8_t *buf, size_t len)
{
	struct job *job = opaque;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)toupper(buf[i]);

		chardev_write(job->chr, &c, 1);
	}
}

static void job_quit(void *opaque)
{
	event_loop_stop(((struct job *)opaque)->loop);
}

static void run_job(void)
{
	static const struct chardev_client client = { .can_receive = job_room,
						      .receive = job_receive };
	struct job job;
	const struct chardev_escape escape = { .quit = job_quit, .opaque = &job };
	struct error e;

	chardev_prepare_process();
	job.loop = event_loop_create("job", &e);
	CHECK(chardev_open(&job.chr, job.loop, "stdio", &escape, &e) == 0);
	chardev_set_client(job.chr, &client, &job);
	CHECK(chardev_write(job.chr, "READY", 5) == 5);
	event_loop_run(job.loop);
	chardev_close(job.chr);
	event_loop_destroy(job.loop);
	_exit(0);
}

/* Reads until `last` comes. */
static void expect(int master, char last)
{
	char c;

	do {
		CHECK(read(master, &c, 1) == 1);
	} while (c != last);
}

static void type(int master, const char *text)
{
	CHECK(write(master, text, strlen(text)) == (ssize_t)strlen(text));
}

static bool job_is_raw(int master)
{
	struct termios t;

	CHECK(tcgetattr(master, &t) == 0);
	return !(t.c_lflag & ICANON);
}

static pid_t start_job(bool foreground)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		setpgid(0, 0);
		signal(SIGTTOU, SIG_IGN);
		if (foreground)
			CHECK(tcsetpgrp(0, getpgrp()) == 0);
		signal(SIGTTOU, SIG_DFL);
		run_job();
	}
	setpgid(pid, pid);
	return pid;
}

static void end_job(int master, pid_t pid)
{
	int status;

	type(master, "\001x");
	CHECK(waitpid(pid, &status, WUNTRACED) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(!job_is_raw(master));
}

static void shell_starts_in_background(int master)
{
	pid_t pid = start_job(false);

	/* It runs and may write, and has neither changed the terminal nor been stopped. */
	expect(master, 'Y');
	CHECK(!job_is_raw(master));
	CHECK(waitpid(pid, NULL, WNOHANG | WUNTRACED) == 0);
	CHECK(tcsetpgrp(0, pid) == 0);
	type(master, "k");
	expect(master, 'K');
	CHECK(job_is_raw(master));
	end_job(master, pid);
}

static void shell_stops_and_continues(int master)
{
	pid_t pid = start_job(true);
	int status;

	expect(master, 'Y');
	for (unsigned i = 0; i < 3; i++) {
		type(master, "k");
		expect(master, 'K');
		CHECK(job_is_raw(master));
		CHECK(kill(-pid, SIGTSTP) == 0);
		CHECK(waitpid(pid, &status, WUNTRACED) == pid);
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
		CHECK(!job_is_raw(master));
		/* As a shell does: its own turn, then the job's. */
		CHECK(tcsetpgrp(0, getpgrp()) == 0);
		CHECK(tcsetpgrp(0, pid) == 0);
		CHECK(kill(-pid, SIGCONT) == 0);
	}
	type(master, "k");
	expect(master, 'K');
	CHECK(job_is_raw(master));
	end_job(master, pid);
}

/* fg after bg: no signal tells the job that it is in front again. */
static void shell_puts_into_background(int master)
{
	pid_t pid = start_job(true);
	int status;

	expect(master, 'Y');
	CHECK(kill(-pid, SIGSTOP) == 0);
	CHECK(waitpid(pid, &status, WUNTRACED) == pid);
	CHECK(tcsetpgrp(0, getpgrp()) == 0);
	CHECK(kill(-pid, SIGCONT) == 0);
	/* For the shell: the job must not touch it, nor be stopped by trying. */
	type(master, "line\n");
	CHECK(waitpid(pid, &status, WNOHANG | WUNTRACED) == 0);
	CHECK(tcsetpgrp(0, pid) == 0);
	type(master, "k");
	expect(master, 'K');
	CHECK(waitpid(pid, &status, WNOHANG | WUNTRACED) == 0);
	end_job(master, pid);
}

/* Runs fn as a session leader whose controlling terminal is on its stdin and stdout. */
static void as_shell(void (*fn)(int master))
{
	int master = terminal_on_stdio(), status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		setsid();
		CHECK(ioctl(0, TIOCSCTTY, 0) == 0);
		signal(SIGTTOU, SIG_IGN);
		fn(master);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
}

Test(tty, started_in_the_background)
{
	as_shell(shell_starts_in_background);
}

Test(tty, stopped_and_continued)
{
	as_shell(shell_stops_and_continues);
}

Test(tty, put_into_the_background)
{
	as_shell(shell_puts_into_background);
}
