/*
 * The table of used guest memory ranges: see places.h. A handful of entries, so plain walks.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "boot/places.h"

const struct place *places_find(const struct places *p, uint64_t base, uint64_t size)
{
	for (unsigned i = 0; i < p->n; i++) {
		const struct place *used = &p->place[i];

		/* Written so that neither end can overflow. */
		if (base < used->base ? used->base - base < size : base - used->base < used->size)
			return used;
	}
	return NULL;
}

int places_add(struct places *p, uint64_t base, uint64_t size, const char *fmt, ...)
{
	struct place *place;
	va_list ap;

	if (p->n == PLACES_MAX)
		return -ENOSPC;
	place = &p->place[p->n++];
	place->base = base;
	place->size = size;
	va_start(ap, fmt);
	vsnprintf(place->name, sizeof(place->name), fmt, ap);
	va_end(ap);
	return 0;
}

uint64_t places_highest(const struct places *p, uint64_t size, uint64_t align, uint64_t min,
			uint64_t max)
{
	/* Each step ends below the place it met, so the walk is bounded by their number. */
	for (unsigned step = 0; step <= p->n; step++) {
		const struct place *used;
		uint64_t base;

		if (max < size || size == 0)
			return 0;
		base = (max - size) & ~(align - 1);
		if (base < min)
			return 0;
		used = places_find(p, base, size);
		if (!used)
			return base;
		max = used->base;
	}
	return 0;
}
