/*
 * "Did you mean …?": offer every word that would have been right, take the nearest. Near is few
 * typing slips (a letter too many, too few, wrong, or two swapped) for the word's length, or the
 * beginning of a candidate. Allocates nothing.
 */
#ifndef VMM_SUGGEST_H
#define VMM_SUGGEST_H

#include <stddef.h>

struct suggest {
	const char *word;
	size_t len;	  /* of word, which need not be terminated there */
	const char *best; /* one of those offered, or NULL if none is near */
	unsigned distance;
};

void suggest_start(struct suggest *s, const char *word, size_t len);
/* The candidate must live as long as best is used. The first of equally near ones wins. */
void suggest_offer(struct suggest *s, const char *candidate);

#endif
