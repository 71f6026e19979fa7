/*
 * The live table: what each device did in the last interval, per second. In: accounts, read anew
 * each time. Out: text.
 *
 * How it looks depends on where it goes. On a terminal of its own it is redrawn in place, like top.
 * In a file or pipe one table follows the other. On the terminal that the guest's console has (it
 * is raw then) a table would run through the guest's own output, so there each device that did
 * anything gets one whole line; nothing is moved or erased, so the worst that happens is a line
 * between two of the guest's.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "vmm/stats.h"

#define NUMBER 16 /* bytes for a number as people read it */
#define MARGIN 2

struct seen {
	struct account_block sum;
	uint64_t cpu_ns;
};

struct stats_table {
	uint64_t when_ns;
	uint64_t process_ns;
	unsigned nseen;
	struct seen *seen; /* by account id */
	unsigned drawn;	   /* lines on the terminal that the next table replaces */
};

/* A column: its title and what stands in it, from what was counted in the interval. */
struct row {
	const struct account *a;
	const struct account_block *d; /* what came since */
	double seconds;
	uint64_t cpu_ns;
};

struct stats_table *stats_table_create(void)
{
	struct stats_table *t = calloc(1, sizeof(*t));

	if (t)
		t->when_ns = ticks_monotonic_ns();
	return t;
}

void stats_table_destroy(struct stats_table *t)
{
	if (t)
		free(t->seen);
	free(t);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* At most five characters: 0, 7.3, 950, 12.3k, 4.56M. */
static const char *number(double v, char buf[NUMBER])
{
	static const char unit[] = { 0, 'k', 'M', 'G', 'T' };
	unsigned u = 0;

	while (v >= 999.5 && u + 1 < sizeof(unit)) {
		v /= 1000;
		u++;
	}
	if (u == 0)
		snprintf(buf, NUMBER, v > 0 && v < 9.95 ? "%.1f" : "%.0f", v);
	else
		snprintf(buf, NUMBER,
			 v < 9.995   ? "%.2f%c"
			 : v < 99.95 ? "%.1f%c"
				     : "%.0f%c",
			 v, unit[u]);
	return buf;
}

static const char *duration(uint64_t ns, char buf[NUMBER])
{
	double v = (double)ns;

	if (ns == 0)
		return "-";
	if (v < 1e3)
		snprintf(buf, NUMBER, "%.0fns", v);
	else if (v < 1e6)
		snprintf(buf, NUMBER, v < 1e4 ? "%.1fus" : "%.0fus", v / 1e3);
	else if (v < 1e9)
		snprintf(buf, NUMBER, v < 1e7 ? "%.1fms" : "%.0fms", v / 1e6);
	else
		snprintf(buf, NUMBER, "%.1fs", v / 1e9);
	return buf;
}

/* ---- columns --------------------------------------------------------------------------------- */

static const char *per_second(const struct row *r, uint64_t n, char buf[NUMBER])
{
	return number((double)n / r->seconds, buf);
}

static const char *requests(const struct row *r, char buf[NUMBER])
{
	return per_second(r, r->d->value[ACCOUNT_REQUESTS], buf);
}

static const char *out(const struct row *r, char buf[NUMBER])
{
	return per_second(r, r->d->value[ACCOUNT_BYTES_OUT], buf);
}

static const char *in(const struct row *r, char buf[NUMBER])
{
	return per_second(r, r->d->value[ACCOUNT_BYTES_IN], buf);
}

static const char *copied(const struct row *r, char buf[NUMBER])
{
	return per_second(r, r->d->value[ACCOUNT_COPIED] + r->d->value[ACCOUNT_COPIED_KERNEL], buf);
}

static const char *median(const struct row *r, char buf[NUMBER])
{
	return duration(account_latency_ns(r->a, r->d, 50), buf);
}

static const char *p99(const struct row *r, char buf[NUMBER])
{
	return duration(account_latency_ns(r->a, r->d, 99), buf);
}

static const char *exits(const struct row *r, char buf[NUMBER])
{
	return per_second(r, account_exits(r->d), buf);
}

static const char *kicks(const struct row *r, char buf[NUMBER])
{
	return per_second(r, r->d->value[ACCOUNT_KICKS], buf);
}

static const char *irqs(const struct row *r, char buf[NUMBER])
{
	return per_second(r, account_irqs(r->d), buf);
}

static const char *syscalls(const struct row *r, char buf[NUMBER])
{
	return per_second(r, r->d->value[ACCOUNT_SYSCALLS], buf);
}

static const char *cpu(const struct row *r, char buf[NUMBER])
{
	snprintf(buf, NUMBER, "%.0f%%", (double)r->cpu_ns / r->seconds / 1e7);
	return buf;
}

static const struct {
	const char *title;
	const char *(*text)(const struct row *r, char buf[NUMBER]);
} columns[] = {
	{ "req/s", requests }, { "out B/s", out },    { "in B/s", in },	   { "copy B/s", copied },
	{ "p50", median },     { "p99", p99 },	      { "exit/s", exits }, { "kick/s", kicks },
	{ "irq/s", irqs },     { "sys/s", syscalls }, { "cpu", cpu },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

/* ---- what happened since --------------------------------------------------------------------- */

static void subtract(uint64_t *to, const uint64_t *from, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		to[i] -= from[i] < to[i] ? from[i] : to[i];
}

/* *d: since the last call; keeps what is there now. */
static void since(struct seen *seen, struct account *a, struct account_block *d, uint64_t *cpu_ns)
{
	struct account_block now;
	uint64_t total;

	account_read(a, &now);
	account_cpu(a, NULL, 0, &total);
	*d = now;
	subtract(d->value, seen->sum.value, ACCOUNT_COUNTERS);
	subtract(d->latency, seen->sum.latency, ACCOUNT_BUCKETS);
	subtract(d->depth, seen->sum.depth, ACCOUNT_DEPTHS);
	*cpu_ns = total > seen->cpu_ns ? total - seen->cpu_ns : 0;
	*seen = (struct seen){ .sum = now, .cpu_ns = total };
}

static bool is_busy(const struct account_block *d, uint64_t cpu_ns)
{
	for (unsigned i = 0; i < ACCOUNT_COUNTERS; i++)
		if (d->value[i])
			return true;
	return cpu_ns > 1000000;
}

static struct seen *seen_of(struct stats_table *t, unsigned id)
{
	if (id >= t->nseen) {
		struct seen *grown = realloc(t->seen, (id + 1) * sizeof(*grown));

		if (!grown)
			return NULL;
		memset(grown + t->nseen, 0, (id + 1 - t->nseen) * sizeof(*grown));
		t->seen = grown;
		t->nseen = id + 1;
	}
	return &t->seen[id];
}

/* ---- text ------------------------------------------------------------------------------------ */

enum form { FORM_TABLE, FORM_LINES };

static void table_row(const struct row *r, FILE *f)
{
	char buf[NUMBER];

	fprintf(f, "%-10s %-8s", r->a->name, r->a->model ? r->a->model : "");
	for (size_t i = 0; i < COLUMNS; i++)
		fprintf(f, " %8s", columns[i].text(r, buf));
	putc('\n', f);
}

static void line_row(const struct row *r, FILE *f)
{
	char buf[NUMBER];

	fprintf(f, "mvm: %s", r->a->name);
	for (size_t i = 0; i < COLUMNS; i++)
		fprintf(f, "  %s %s", columns[i].title, columns[i].text(r, buf));
	putc('\n', f);
}

static void table_head(double seconds, uint64_t wall_ns, uint64_t cpu_ns, FILE *f)
{
	fprintf(f, "mvm, after %.1f s: in the last %.1f s %.0f%% of a CPU\n", (double)wall_ns / 1e9,
		seconds, (double)cpu_ns / seconds / 1e7);
	fprintf(f, "%-10s %-8s", "device", "model");
	for (size_t i = 0; i < COLUMNS; i++)
		fprintf(f, " %8s", columns[i].title);
	putc('\n', f);
}

static uint64_t process_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void text(struct stats_table *t, struct stats *s, enum form form, FILE *f)
{
	uint64_t now = ticks_monotonic_ns(), used = process_ns();
	struct row r = { .seconds = (double)(now - t->when_ns + 1) / 1e9 };

	if (form == FORM_TABLE)
		table_head(r.seconds, now - s->start_ns, used - t->process_ns, f);
	t->when_ns = now;
	t->process_ns = used;
	for (struct account *a = accounts_first(s->source.accounts); a; a = a->next) {
		struct seen *seen = seen_of(t, a->id);
		struct account_block d;
		bool shown;

		if (!seen)
			return;
		since(seen, a, &d, &r.cpu_ns);
		r.a = a;
		r.d = &d;
		/* The platform's devices only where something happens. */
		shown = form == FORM_TABLE && a->class && strcmp(a->class, "platform") != 0;
		if (!shown && !is_busy(&d, r.cpu_ns))
			continue;
		if (form == FORM_TABLE)
			table_row(&r, f);
		else if (a->class)
			line_row(&r, f);
	}
}

void stats_table_text(struct stats_table *t, struct stats *s, FILE *f)
{
	text(t, s, FORM_TABLE, f);
}

/* ---- on a terminal --------------------------------------------------------------------------- */

static void write_all(int fd, const char *at, size_t len)
{
	while (len) {
		ssize_t n = write(fd, at, len);

		if (n <= 0)
			return; /* nobody reads it: the next one may be seen */
		at += n;
		len -= (size_t)n;
	}
}

/* Over the last one: up, then each line cut to the width and its rest erased. */
static void redraw(struct stats_table *t, int fd, const char *table)
{
	struct winsize size = { 0 };
	unsigned width = 0, height = 0, lines = 0;
	char *buf = NULL;
	size_t len = 0;
	FILE *f;

	if (ioctl(fd, TIOCGWINSZ, &size) == 0) {
		width = size.ws_col;
		height = size.ws_row;
	}
	f = open_memstream(&buf, &len);
	if (!f)
		return;
	if (t->drawn)
		fprintf(f, "\r\033[%uA", t->drawn);
	while (*table && (!height || lines + MARGIN < height)) {
		size_t whole = strcspn(table, "\n");

		fprintf(f, "%.*s\033[K\n", (int)(width && whole > width ? width : whole), table);
		lines++;
		table += whole + (table[whole] == '\n');
	}
	fputs("\033[J", f);
	t->drawn = lines;
	if (fclose(f) == 0)
		write_all(fd, buf, len);
	free(buf);
}

/* The lines with a carriage return each, which a raw terminal wants. */
static void write_raw(int fd, const char *lines)
{
	char *buf = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&buf, &len);

	if (!f)
		return;
	for (; *lines; lines++) {
		if (*lines == '\n')
			putc('\r', f);
		putc(*lines, f);
	}
	if (fclose(f) == 0)
		write_all(fd, buf, len);
	free(buf);
}

void stats_table_show(struct stats_table *t, struct stats *s, int fd)
{
	struct termios tty;
	bool terminal = tcgetattr(fd, &tty) == 0, raw = terminal && !(tty.c_lflag & ICANON);
	char *buf = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&buf, &len);

	if (!f)
		return;
	text(t, s, raw ? FORM_LINES : FORM_TABLE, f);
	if (!terminal)
		putc('\n', f);
	if (fclose(f) == 0) {
		if (raw)
			write_raw(fd, buf);
		else if (terminal)
			redraw(t, fd, buf);
		else
			write_all(fd, buf, len);
	}
	free(buf);
}
