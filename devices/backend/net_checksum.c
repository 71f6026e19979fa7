/*
 * Ones' complement sums: see net_checksum.h. Four bytes at a time into 64 bits, which compilers
 * turn into vector code; carries are folded at the end.
 */
#include <endian.h>
#include <string.h>

#include "devices/backend/net_checksum.h"

static uint16_t fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* len is at most what a frame can be, so the sum of 32-bit words does not overflow. */
static uint64_t sum_words(const uint8_t *data, size_t len)
{
	uint64_t sum = 0;
	uint32_t word;

	for (; len >= sizeof(word); data += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		sum += word;
	}
	if (len > 0) {
		word = 0;
		memcpy(&word, data, len);
		sum += word;
	}
	return sum;
}

void net_sum_add(struct net_sum *s, const void *data, size_t len)
{
	uint16_t part = fold(sum_words(data, len));

	s->sum += s->odd ? __builtin_bswap16(part) : part;
	s->odd ^= len & 1;
}

void net_sum_add16(struct net_sum *s, uint16_t value)
{
	s->sum += htobe16(value);
}

uint16_t net_sum_fold(const struct net_sum *s)
{
	return fold(s->sum);
}
