/*
 * Lines on stderr: see log.h. One write(2) a line, so that threads do not mix.
 */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/log.h"

static void __attribute__((format(printf, 2, 0)))
log_line(const char *kind, const char *fmt, va_list ap)
{
	char line[1200];
	int len = snprintf(line, sizeof(line), "mvm: %s", kind);
	int more = vsnprintf(line + len, sizeof(line) - (size_t)len - 1, fmt, ap);

	if (more > 0)
		len += more;
	if (len > (int)sizeof(line) - 2)
		len = (int)sizeof(line) - 2;
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)len) < 0)
		return; /* nowhere left to say it */
}

void log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line("", fmt, ap);
	va_end(ap);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line("warning: ", fmt, ap);
	va_end(ap);
}

void log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line("", fmt, ap);
	va_end(ap);
}

void log_guest(struct log_limit *limit, const char *fmt, ...)
{
	va_list ap;

	if (__atomic_fetch_add(&limit->count, 1, __ATOMIC_RELAXED) != 0)
		return;
	va_start(ap, fmt);
	log_line("guest: ", fmt, ap);
	va_end(ap);
}
