/*
 * Building error messages: see error.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/error.h"

int error_set(struct error *e, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return err;
}

int error_set_errno(struct error *e, int err, const char *fmt, ...)
{
	va_list ap;
	size_t used;

	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	used = strlen(e->msg);
	snprintf(e->msg + used, sizeof(e->msg) - used, ": %s", strerror(-err));
	return err;
}

void error_prefix(struct error *e, const char *fmt, ...)
{
	char old[sizeof(e->msg)];
	va_list ap;
	size_t used;

	memcpy(old, e->msg, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	used = strlen(e->msg);
	snprintf(e->msg + used, sizeof(e->msg) - used, "%s", old);
}
