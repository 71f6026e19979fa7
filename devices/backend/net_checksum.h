/*
 * The Internet checksum (RFC 1071) over pieces of memory that follow one another. Sums are kept as
 * the words lie in memory, so that a folded sum is stored into a header with memcpy, whatever the
 * byte order of the host.
 */
#ifndef DEVICES_BACKEND_NET_CHECKSUM_H
#define DEVICES_BACKEND_NET_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Zero-initialise. */
struct net_sum {
	uint64_t sum;
	bool odd; /* an odd number of bytes has been added */
};

void net_sum_add(struct net_sum *s, const void *data, size_t len);
/* A 16-bit value of a pseudo header, in host order, at an even place. */
void net_sum_add16(struct net_sum *s, uint16_t value);
/* The sum, to be stored as it lies; its complement is what headers carry. */
uint16_t net_sum_fold(const struct net_sum *s);

#endif
