/*
 * From a flag's target to a backend, and the calls of net.h with what is the same for all of them.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/net_impl.h"

/* ---- opening --------------------------------------------------------------------------------- */

int net_open(struct net **out, const struct net_config *config, struct error *e)
{
	if (!config->target || strcmp(config->target, "user") == 0)
		return net_user_open(out, config, e);
	if (config->hostfwd || config->net || config->restricted)
		return error_set(e, -EINVAL,
				 "hostfwd, net and restrict belong to the target \"user\", not to "
				 "the tap \"%s\"",
				 config->target);
	return net_tap_open(out, config, e);
}

void net_close(struct net *net)
{
	if (net)
		net->ops->close(net);
}

int net_open_flag(struct net **out, const struct device_config *config, unsigned queues,
		  struct error *e)
{
	struct net_config net = {
		.target = config->target,
		.queues = queues,
		.hostfwd = device_config_string(config, "hostfwd"),
		.net = device_config_string(config, "net"),
		.restricted = device_config_bool(config, "restrict"),
	};

	if (device_config_given(config, "mtu"))
		net.mtu = (unsigned)device_config_uint(config, "mtu");
	return net_open(out, &net, e);
}

/* "52:54:00:12:34:56" and nothing else. */
static bool parse_mac(const char *text, uint8_t mac[6])
{
	if (strlen(text) != 17)
		return false;
	for (int i = 0; i < 6; i++) {
		const char *at = text + 3 * i;

		if (!isxdigit((unsigned char)at[0]) || !isxdigit((unsigned char)at[1]) ||
		    at[2] != (i < 5 ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)strtoul(at, NULL, 16);
	}
	return true;
}

int net_flag_mac(const struct device_config *config, uint8_t mac[6], struct error *e)
{
	const char *text = device_config_string(config, "mac");
	const uint8_t ours[6] = { 0x52, 0x54, 0x00, 0x6d, 0x76, (uint8_t)config->index };
	static const uint8_t zero[6];

	if (!text) {
		memcpy(mac, ours, 6);
		return 0;
	}
	if (!parse_mac(text, mac))
		return error_set(e, -EINVAL, "mac=%s is no address like 52:54:00:12:34:56", text);
	if (mac[0] & 1)
		return error_set(e, -EINVAL, "mac=%s is a multicast address; no card can have it",
				 text);
	if (memcmp(mac, zero, 6) == 0)
		return error_set(e, -EINVAL, "mac=%s: all zeros is no address", text);
	return 0;
}

/* ---- calls ----------------------------------------------------------------------------------- */

const struct net_info *net_info(const struct net *net)
{
	return &net->info;
}

int net_set_offloads(struct net *net, uint32_t offloads)
{
	if (offloads & ~net->info.offloads)
		return -EINVAL;
	return net->ops->set_offloads ? net->ops->set_offloads(net, offloads) : 0;
}

int net_set_filter(struct net *net, const uint8_t (*mac)[6], unsigned n, bool allmulti)
{
	return net->ops->set_filter ? net->ops->set_filter(net, mac, n, allmulti) : -EOPNOTSUPP;
}

struct net_queue *net_queue(struct net *net, unsigned index)
{
	return index < net->info.queues ? net->ops->queue(net, index) : NULL;
}

int net_queue_start(struct net_queue *q, struct event_loop *loop, const struct net_client *client,
		    void *opaque, struct error *e)
{
	int err;

	q->loop = loop;
	q->client = client;
	q->opaque = opaque;
	err = q->net->ops->start(q, e);
	if (err)
		q->loop = NULL;
	return err;
}

/* On the loop, so that it is in the middle of nothing. */
static void stop(void *arg)
{
	struct net_queue *q = arg;

	q->net->ops->stop(q);
	q->loop = NULL;
}

void net_queue_stop(struct net_queue *q)
{
	if (q->loop)
		event_call(q->loop, stop, q);
}

int net_queue_enable(struct net_queue *q, bool enable)
{
	if (q->net->ops->enable)
		return q->net->ops->enable(q, enable);
	return enable ? 0 : -EOPNOTSUPP;
}

void net_queue_watch(struct net_queue *q)
{
	if (q->loop && q->net->ops->watch)
		q->net->ops->watch(q);
}

int net_queue_fd(const struct net_queue *q)
{
	return q->net->ops->fd ? q->net->ops->fd(q) : -1;
}

void net_queue_account(struct net_queue *q, struct account *account)
{
	q->account = account;
}

const struct net_stats *net_queue_stats(const struct net_queue *q)
{
	return &q->stats;
}

void net_receive_want(struct net_queue *q, bool want)
{
	if (q->loop)
		q->net->ops->want(q, want);
}

ssize_t net_receive(struct net_queue *q, const struct iovec *iov, int niov)
{
	ssize_t len = q->net->ops->receive(q, iov, niov);

	if (len > 0) {
		q->stats.received++;
		q->stats.received_bytes += (uint64_t)len - NET_HEADER;
	}
	return len;
}

int net_send(struct net_queue *q, const struct iovec *iov, int niov)
{
	ssize_t len = q->net->ops->send(q, iov, niov);

	if (len >= 0) {
		q->stats.sent++;
		q->stats.sent_bytes += (uint64_t)len - NET_HEADER;
		return 0;
	}
	if (len != -EAGAIN) {
		q->stats.refused++;
		account_add(q->account, ACCOUNT_ERRORS, 1);
	}
	return (int)len;
}

void net_flush(struct net_queue *q)
{
	if (q->net->ops->flush)
		q->net->ops->flush(q);
}
