/*
 * Where things are in the headers that the e1000's offloads look at and change: Ethernet, IPv4 (RFC
 * 791), IPv6 (RFC 8200), TCP (RFC 9293), UDP (RFC 768).
 */
#ifndef DEVICES_EMULATED_E1000_INET_H
#define DEVICES_EMULATED_E1000_INET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TYPE_IPV4 0x0800u
#define TYPE_IPV6 0x86ddu
#define PROTO_TCP 6u
#define PROTO_UDP 17u

#define IPV4_HEADER    20u /* at least */
#define IPV4_LENGTH    2u
#define IPV4_ID	       4u
#define IPV4_FRAGMENT  6u
#define IPV4_PROTOCOL  9u
#define IPV4_CHECKSUM  10u
#define IPV4_ADDRESSES 12u
#define FRAGMENT_MASK  0x3fffu /* more fragments, and the offset */

#define IPV6_HEADER    40u
#define IPV6_LENGTH    4u
#define IPV6_NEXT      6u
#define IPV6_ADDRESSES 8u

#define TCP_HEADER   20u /* at least */
#define TCP_SEQUENCE 4u
#define TCP_OFFSET   12u
#define TCP_FLAGS    13u
#define TCP_CHECKSUM 16u
#define TCP_FIN_PSH  0x09u
#define TCP_CWR	     0x80u

#define UDP_HEADER   8u
#define UDP_LENGTH   4u
#define UDP_CHECKSUM 6u

static inline uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static inline void put16(uint8_t *at, size_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static inline uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static inline void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

static inline size_t ipv4_header_len(const uint8_t *l3)
{
	return (l3[0] & 15) * 4u;
}

static inline size_t tcp_header_len(const uint8_t *l4)
{
	return (l4[TCP_OFFSET] >> 4) * 4u;
}

static inline bool is_broadcast(const uint8_t *frame)
{
	static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	return memcmp(frame, all, sizeof(all)) == 0;
}

#endif
