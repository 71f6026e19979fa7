/*
 * Who uses which part of guest memory while a kernel is loaded, so that nothing is put on top of
 * something else and an error can name both.
 */
#ifndef BOOT_PLACES_H
#define BOOT_PLACES_H

#include <stdint.h>

#define PLACES_MAX 96

struct place {
	uint64_t base, size;
	char name[32];
};

struct places {
	unsigned n;
	struct place place[PLACES_MAX];
};

/* The first place that shares a byte with [base, base + size), or NULL. */
const struct place *places_find(const struct places *p, uint64_t base, uint64_t size);

/* Takes a range. The caller has looked with places_find(). -ENOSPC if the table is full. */
int places_add(struct places *p, uint64_t base, uint64_t size, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/*
 * The highest free base, a multiple of align (a power of two), for size bytes inside [min, max).
 * 0 if there is none.
 */
uint64_t places_highest(const struct places *p, uint64_t size, uint64_t align, uint64_t min,
			uint64_t max);

#endif
