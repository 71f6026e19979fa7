/*
 * The console on stdin and stdout. Either may be anything: a terminal, a pipe, a file, /dev/null,
 * closed. The end of stdin ends the input and nothing else. If stdin is a terminal it is put in raw
 * mode, and Ctrl-A begins a word to mvm itself:
 *
 *     Ctrl-A x  quit          Ctrl-A b       send a break (magic SysRq on a serial console)
 *     Ctrl-A h  help          Ctrl-A Ctrl-A  send Ctrl-A
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/backend/chardev_impl.h"
#include "devices/backend/chardev_terminal.h"

#define ESCAPE		   0x01
#define FOREGROUND_POLL_NS 250000000u

struct stdio_state {
	bool tty;
	bool escaped;		  /* Ctrl-A was the last byte */
	struct event_source wake; /* the process was stopped and goes on, or the size changed */
	struct event_timer foreground;
};

static void help(struct chardev *chr)
{
	chardev_say(chr, "\nmvm: Ctrl-A x  quit\n"
			 "     Ctrl-A b  send a break\n"
			 "     Ctrl-A h  this help\n"
			 "     Ctrl-A Ctrl-A  send Ctrl-A\n");
}

/* The byte after Ctrl-A; what goes to the guest is put in out. */
static size_t escape(struct chardev *chr, uint8_t byte, uint8_t *out)
{
	switch (byte) {
	case 'x':
	case 'X':
		if (chr->escape.quit)
			chr->escape.quit(chr->escape.opaque);
		return 0;
	case 'b':
	case 'B':
		if (chr->escape.send_break)
			chr->escape.send_break(chr->escape.opaque);
		return 0;
	case 'h':
	case 'H':
	case '?':
		help(chr);
		return 0;
	case ESCAPE:
		out[0] = ESCAPE;
		return 1;
	default:
		/* Not for us: nothing typed is lost. */
		out[0] = ESCAPE;
		out[1] = byte;
		return 2;
	}
}

static size_t stdio_filter(struct chardev *chr, const uint8_t *in, size_t len, uint8_t *out)
{
	struct stdio_state *s = chr->state;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (s->escaped) {
			s->escaped = false;
			n += escape(chr, in[i], out + n);
		} else if (in[i] == ESCAPE) {
			s->escaped = true;
		} else {
			out[n++] = in[i];
		}
	}
	return n;
}

/* Nobody tells a process that it comes to the front without having been stopped: look now and then.
 */
static bool stdio_may_read(struct chardev *chr)
{
	struct stdio_state *s = chr->state;

	if (!s->tty || chardev_terminal_raw())
		return true;
	event_timer_set(&s->foreground, FOREGROUND_POLL_NS);
	return false;
}

/* Not only when there is input: in line mode, a key alone is none yet. */
static void foreground_due(void *opaque)
{
	struct chardev *chr = opaque;

	if (stdio_may_read(chr))
		chardev_pump(chr);
}

static void woken(void *opaque, uint32_t events)
{
	struct chardev *chr = opaque;
	struct stdio_state *s = chr->state;
	uint64_t count;

	(void)events;
	if (read(s->wake.fd, &count, sizeof(count)) < 0)
		return;
	if (chr->client && chr->client->resized)
		chr->client->resized(chr->client_opaque);
	foreground_due(chr);
}

static bool stdio_size(const struct chardev *chr, struct chardev_size *size)
{
	const struct stdio_state *s = chr->state;
	struct winsize ws;

	if (!s->tty || ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) < 0)
		return false;
	*size = (struct chardev_size){ .columns = ws.ws_col, .rows = ws.ws_row };
	return true;
}

static void stdio_close(struct chardev *chr)
{
	struct stdio_state *s = chr->state;

	chardev_terminal_release();
	event_timer_destroy(&s->foreground);
	event_del(&s->wake);
	if (s->wake.fd >= 0)
		close(s->wake.fd);
	free(s);
	chr->state = NULL;
}

/* What a terminal needs beyond the two descriptors. */
static int open_terminal(struct chardev *chr, struct stdio_state *s)
{
	int err;

	s->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake.fd < 0)
		return -errno;
	s->wake.events = EPOLLIN;
	s->wake.callback = woken;
	s->wake.opaque = chr;
	err = event_add(chr->loop, &s->wake);
	if (err)
		return err;
	s->foreground.callback = foreground_due;
	s->foreground.opaque = chr;
	err = event_timer_init(&s->foreground, chr->loop);
	if (!err)
		chardev_terminal_use(STDIN_FILENO, s->wake.fd);
	return err;
}

/* A closed descriptor is no error: there is no input, or nobody listens. */
static int own_if_open(struct chardev_fd *out, int fd, int access)
{
	int err = chardev_fd_own(out, fd, access);

	return err == -EBADF ? 0 : err;
}

static int attach(struct chardev *chr, struct stdio_state *s)
{
	struct chardev_fd in = CHARDEV_FD_NONE, out = CHARDEV_FD_NONE;
	int err;

	/* A pipe or a file goes through as it is: only a terminal has escapes. */
	chr->filtering = s->tty = isatty(STDIN_FILENO) == 1;
	err = own_if_open(&in, STDIN_FILENO, O_RDONLY);
	if (!err)
		err = own_if_open(&out, STDOUT_FILENO, O_WRONLY);
	if (!err && s->tty)
		err = open_terminal(chr, s);
	if (err) {
		chardev_fd_close(&in);
		chardev_fd_close(&out);
		return err;
	}
	stdio_may_read(chr);
	return chardev_attach(chr, in, out);
}

static int stdio_open(struct chardev *chr, const char *argument, struct error *e)
{
	struct stdio_state *s;
	int err;

	(void)argument;
	if (chardev_terminal_claim())
		return error_set(e, -EBUSY, "stdio is another console's already");
	s = calloc(1, sizeof(*s));
	if (!s) {
		chardev_terminal_release();
		return error_set(e, -ENOMEM, "out of memory");
	}
	s->wake.fd = -1;
	chr->state = s;
	err = attach(chr, s);
	if (!err)
		return 0;
	stdio_close(chr);
	return error_set_errno(e, err, "cannot use stdin and stdout");
}

const struct chardev_kind chardev_stdio = {
	.name = "stdio",
	.open = stdio_open,
	.close = stdio_close,
	.may_read = stdio_may_read,
	.filter = stdio_filter,
	.size = stdio_size,
};
