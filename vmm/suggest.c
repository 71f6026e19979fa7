/*
 * Nearest word by the optimal string alignment distance (Damerau-Levenshtein where no part is
 * edited twice), without regard to case: see suggest.h.
 */
#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "vmm/suggest.h"

#define MAX_WORD 32 /* longer ones are no typing slip of an option */

static unsigned min(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static int lower(char c)
{
	return tolower((unsigned char)c);
}

static unsigned distance(const char *a, size_t alen, const char *b, size_t blen)
{
	unsigned row[3][MAX_WORD + 1]; /* rows i - 2, i - 1 and i of the matrix, in turn */

	for (unsigned j = 0; j <= blen; j++)
		row[0][j] = j;
	for (unsigned i = 1; i <= alen; i++) {
		unsigned *now = row[i % 3];
		const unsigned *last = row[(i - 1) % 3];

		now[0] = i;
		for (unsigned j = 1; j <= blen; j++) {
			unsigned wrong = lower(a[i - 1]) != lower(b[j - 1]);

			now[j] = min(min(now[j - 1], last[j]) + 1, last[j - 1] + wrong);
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
			    lower(a[i - 2]) == lower(b[j - 1]))
				now[j] = min(now[j], row[(i - 2) % 3][j - 2] + 1);
		}
	}
	return row[alen % 3][blen];
}

void suggest_start(struct suggest *s, const char *word, size_t len)
{
	*s = (struct suggest){ .word = word, .len = len, .distance = UINT_MAX };
}

void suggest_offer(struct suggest *s, const char *candidate)
{
	size_t len = strlen(candidate);
	unsigned d, limit;

	if (s->len == 0 || s->len > MAX_WORD || len == 0 || len > MAX_WORD)
		return;
	d = distance(s->word, s->len, candidate, len);
	/* A third of the word may be wrong, but never all of it. */
	limit = min((unsigned)(s->len + 1) / 3, 3);
	if (limit == 0 && s->len > 1)
		limit = 1;
	if (d > limit && s->len >= 2 && s->len < len &&
	    strncasecmp(s->word, candidate, s->len) == 0)
		d = limit = 1;
	if (d > limit || d >= s->len || d >= s->distance)
		return;
	s->best = candidate;
	s->distance = d;
}
