/*
 * Errors on their way up. A function that can fail while a machine is made takes a `struct error *`
 * last, fills it with a sentence a user can act on and returns -errno; each layer above may put its
 * own words (the flag, the file) in front. Nothing is printed before main.c prints it once.
 */
#ifndef VMM_ERROR_H
#define VMM_ERROR_H

struct error {
	char msg[1024];
};

/* Replaces the message; returns err (a negative errno) so that callers can `return error_set(…)`.
 */
int error_set(struct error *e, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Like error_set(), with ": strerror(-err)" appended. */
int error_set_errno(struct error *e, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts text in front of the message that is there, e.g. error_prefix(e, "--blk=%s: ", arg). */
void error_prefix(struct error *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
