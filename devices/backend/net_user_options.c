/*
 * The keys of user-mode NAT: "hostfwd=tcp::2222-:22+udp:0.0.0.0:53-10.0.2.15:53" and
 * "net=10.0.2.0/24".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/net_user_impl.h"

/* Places in the network, as users of this kind of NAT know them. */
#define HOST_PLACE 2u
#define DNS_PLACE  3u
#define DHCP_PLACE 15u

static struct in_addr place(uint32_t net, uint32_t n)
{
	return (struct in_addr){ htonl(net + n) };
}

int user_parse_network(const char *text, struct user_network *network, struct error *e)
{
	const char *slash, *given = text ? text : "10.0.2.0/24";
	char address[INET_ADDRSTRLEN], *end;
	struct in_addr in;
	unsigned long bits;
	uint32_t net, mask;

	slash = strchr(given, '/');
	if (!slash || (size_t)(slash - given) >= sizeof(address))
		goto bad;
	memcpy(address, given, (size_t)(slash - given));
	address[slash - given] = '\0';
	bits = strtoul(slash + 1, &end, 10);
	if (slash[1] < '0' || slash[1] > '9' || *end || inet_pton(AF_INET, address, &in) != 1)
		goto bad;
	if (bits < 8 || bits > 27)
		return error_set(e, -EINVAL,
				 "net=%s: the length must be 8 to 27, so that there is room for "
				 "gateway, DNS and guest",
				 given);
	mask = 0xffffffffu << (32 - bits);
	net = ntohl(in.s_addr);
	if (net & ~mask)
		return error_set(e, -EINVAL, "net=%s has bits after its first %lu", given, bits);
	*network = (struct user_network){
		.net = place(net, 0),
		.mask = place(mask, 0),
		.host = place(net, HOST_PLACE),
		.dns = place(net, DNS_PLACE),
		.dhcp = place(net, DHCP_PLACE),
	};
	return 0;
bad:
	return error_set(e, -EINVAL, "net=%s is no network like 10.0.2.0/24", given);
}

/* Takes an address (or nothing, which leaves *in) up to ':'. */
static bool take_address(const char **at, struct in_addr *in)
{
	const char *colon = strchr(*at, ':');
	char text[INET_ADDRSTRLEN];
	size_t len;

	if (!colon)
		return false;
	len = (size_t)(colon - *at);
	if (len >= sizeof(text))
		return false;
	memcpy(text, *at, len);
	text[len] = '\0';
	if (len > 0 && inet_pton(AF_INET, text, in) != 1)
		return false;
	*at = colon + 1;
	return true;
}

/* A port, which ends at one of the characters of `ends` (or the end of the text). */
static bool take_port(const char **at, uint16_t *port, char ends)
{
	unsigned long value;
	char *end;

	if (**at < '0' || **at > '9')
		return false;
	value = strtoul(*at, &end, 10);
	if (value == 0 || value > 65535 || (*end != ends && !(ends == '+' && *end == '\0')))
		return false;
	*port = (uint16_t)value;
	*at = end;
	return true;
}

int user_parse_forward(const char **text, struct user_forward *forward, struct error *e)
{
	const char *at = *text;

	if (*at == '\0')
		return 0;
	*forward = (struct user_forward){ .host = { htonl(INADDR_LOOPBACK) } };
	if (strncmp(at, "tcp:", 4) != 0 && strncmp(at, "udp:", 4) != 0)
		goto bad;
	forward->udp = at[0] == 'u';
	at += 4;
	if (!take_address(&at, &forward->host) || !take_port(&at, &forward->host_port, '-'))
		goto bad;
	at++;
	if (!take_address(&at, &forward->guest) || !take_port(&at, &forward->guest_port, '+'))
		goto bad;
	*text = *at == '+' ? at + 1 : at;
	if (*at == '+' && (*text)[0] == '\0')
		goto bad;
	return 1;
bad:
	return error_set(e, -EINVAL,
			 "hostfwd: \"%s\" is not like tcp::2222-:22 "
			 "(PROTO:[ADDRESS]:PORT-[ADDRESS]:PORT, several joined by +)",
			 at == *text ? at : *text);
}
