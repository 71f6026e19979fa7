/*
 * What mvm says on stderr while it runs: one line each, "mvm: …". A guest must not be able to flood
 * the log, so anything a guest can provoke goes through log_guest(), which is counted and limited.
 */
#ifndef VMM_LOG_H
#define VMM_LOG_H

#include <stdbool.h>
#include <stdint.h>

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* One per thing that a guest can do wrong; zero-initialised, lives in the device. */
struct log_limit {
	uint64_t count;
};

/* Logs the first time only and counts the rest. Any thread. */
void log_guest(struct log_limit *limit, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
