/*
 * When statistics are told, and where to: see stats.h. A file is replaced as a whole, by way of
 * another beside it, so that whoever reads it never sees half of one.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/log.h"
#include "vmm/stats.h"

/* ---- the file -------------------------------------------------------------------------------- */

/*
 * What cannot be replaced is written to: a terminal, a pipe. So is what is behind a link: replacing
 * /dev/stdout itself would be a nasty surprise.
 */
static bool is_special(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

static int beside(const char *path, char *buf, size_t size)
{
	int n = snprintf(buf, size, "%s.%d.tmp", path, (int)getpid());

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int close_file(FILE *f)
{
	int err = ferror(f) ? -EIO : 0;

	if (fclose(f) != 0 && !err)
		err = -errno;
	return err;
}

static int write_to(struct stats *s, const char *path, const char *why, int status)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return -errno;
	stats_json(s, why, status, f);
	return close_file(f);
}

static int write_file(struct stats *s, const char *why, int status)
{
	char temporary[PATH_MAX];
	int err;

	if (is_special(s->path))
		return write_to(s, s->path, why, status);
	err = beside(s->path, temporary, sizeof(temporary));
	if (!err)
		err = write_to(s, temporary, why, status);
	if (!err && rename(temporary, s->path) < 0)
		err = -errno;
	if (err)
		unlink(temporary);
	return err;
}

/* Can it be written, some time? Better said now than after hours. */
static int check_file(const char *path, struct error *e)
{
	char temporary[PATH_MAX];
	struct stat st;
	FILE *f;
	int err;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return error_set(e, -EISDIR, "--stats=%s: that is a directory", path);
	if (is_special(path)) {
		err = access(path, W_OK) < 0 ? -errno : 0;
	} else {
		err = beside(path, temporary, sizeof(temporary));
		f = err ? NULL : fopen(temporary, "we");
		if (!err && !f)
			err = -errno;
		if (f)
			fclose(f);
		if (!err)
			unlink(temporary);
	}
	return err ? error_set_errno(e, err, "--stats=%s: cannot write there", path) : 0;
}

/* ---- SIGUSR1 --------------------------------------------------------------------------------- */

/* A raw terminal, which a guest's console has, wants a carriage return at the end of a line. */
static void write_text(int fd, const char *text, size_t len)
{
	struct termios t;
	bool raw = tcgetattr(fd, &t) == 0 && !(t.c_oflag & OPOST);

	while (len) {
		const char *end = raw ? memchr(text, '\n', len) : NULL;
		size_t part = end ? (size_t)(end - text) : len;
		ssize_t n = part ? write(fd, text, part) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return; /* nobody reads it */
		text += n;
		len -= (size_t)n;
		if (!end || (size_t)n < part)
			continue;
		if (write(fd, "\r\n", 2) < 0)
			return;
		text++;
		len--;
	}
}

static void write_stderr(struct stats *s)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return;
	stats_json(s, "signal", -1, f);
	if (fclose(f) == 0)
		write_text(STDERR_FILENO, text, len);
	free(text);
}

static void asked(void *opaque, uint32_t events)
{
	struct stats *s = opaque;
	struct signalfd_siginfo info;
	int err;

	(void)events;
	if (read(s->usr1.fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (!s->path) {
		write_stderr(s);
		return;
	}
	err = write_file(s, "signal", -1);
	if (err)
		log_warn("--stats=%s: %s", s->path, strerror(-err));
}

static int catch_usr1(struct stats *s, struct event_loop *loop, struct error *e)
{
	sigset_t set;
	int err;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	s->usr1 = (struct event_source){
		.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
		.events = EPOLLIN,
		.callback = asked,
		.opaque = s,
	};
	err = s->usr1.fd < 0 ? -errno : event_add(loop, &s->usr1);
	return err ? error_set_errno(e, err, "cannot watch for SIGUSR1") : 0;
}

/* ---- the live table -------------------------------------------------------------------------- */

static void tick(void *opaque)
{
	struct stats *s = opaque;

	stats_table_show(s->table, s, STDERR_FILENO);
	event_timer_set(&s->timer, s->interval_ns);
}

static int start_table(struct stats *s, struct event_loop *loop, struct error *e)
{
	int err;

	s->table = stats_table_create();
	if (!s->table)
		return error_set(e, -ENOMEM, "out of memory");
	s->timer.callback = tick;
	s->timer.opaque = s;
	err = event_timer_init(&s->timer, loop);
	if (err)
		return error_set_errno(e, err, "--stats-interval");
	event_timer_set(&s->timer, s->interval_ns);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

int stats_start(struct stats *s, const struct config *config, struct event_loop *loop,
		const struct stats_source *source, struct error *e)
{
	int err = 0;

	s->source = *source;
	s->path = config->stats;
	s->interval_ns = config->stats_interval_ms * 1000000ull;
	s->start_ns = ticks_monotonic_ns();
	s->vm.fd = -1;
	s->usr1.fd = -1;
	if (s->path)
		err = check_file(s->path, e);
	if (!err)
		err = catch_usr1(s, loop, e);
	if (!err && s->interval_ns)
		err = start_table(s, loop, e);
	return err;
}

void stats_attach(struct stats *s)
{
	const struct vcpu_set *vcpus = s->source.vcpus;

	kvm_stats_open(&s->vm, s->source.kvm->vm);
	s->vcpu = calloc(vcpus->count, sizeof(*s->vcpu));
	for (unsigned i = 0; s->vcpu && i < vcpus->count; i++, s->nvcpus++)
		kvm_stats_open(&s->vcpu[i], vcpus->vcpu[i].fd);
}

void stats_finish(struct stats *s, int status)
{
	int err;

	if (s->table)
		stats_table_show(s->table, s, STDERR_FILENO);
	if (!s->path)
		return;
	err = write_file(s, "exit", status);
	if (err)
		log_error("--stats=%s: %s", s->path, strerror(-err));
}

void stats_stop(struct stats *s)
{
	if (s->table) {
		event_timer_destroy(&s->timer);
		stats_table_destroy(s->table);
	}
	event_del(&s->usr1);
	if (s->usr1.loop == NULL && s->usr1.callback && s->usr1.fd >= 0)
		close(s->usr1.fd);
	for (unsigned i = 0; i < s->nvcpus; i++)
		kvm_stats_close(&s->vcpu[i]);
	free(s->vcpu);
	if (s->start_ns)
		kvm_stats_close(&s->vm);
	*s = (struct stats){ 0 };
}
