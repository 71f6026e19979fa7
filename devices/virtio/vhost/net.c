/*
 * --net=vhost: a virtio-net card whose frames somebody else moves. The target says who: a tap means
 * the kernel's vhost-net, a socket a vhost-user back end (user_net.c), /dev/vhost-vdpa-N a vDPA
 * device. Cards of the first two kinds are devices/virtio/net.c with another data plane, so that
 * control queue, filters and offloads are the same.
 */
#include <errno.h>
#include <string.h>

#include "devices/backend/net.h"
#include "devices/registry.h"
#include "devices/virtio/net_internal.h"
#include "devices/virtio/vhost/kernel.h"
#include "devices/virtio/vhost/user.h"
#include "devices/virtio/vhost/vdpa.h"

static int create_on_tap(struct device_host *host, const struct device_config *config,
			 struct device **out, struct error *e)
{
	struct net_config want = { .target = config->target };
	struct vhost *vhost;
	struct net *net;
	int err;

	if (strcmp(config->target, "user") == 0)
		return error_set(e, -EINVAL,
				 "vhost-net works on a tap, not on user-mode NAT; for that there "
				 "is --net=virtio:user");
	if (device_config_given(config, "queues"))
		want.queues = (unsigned)device_config_uint(config, "queues");
	if (device_config_given(config, "mtu"))
		want.mtu = (unsigned)device_config_uint(config, "mtu");
	err = net_open(&net, &want, e);
	if (err)
		return err;
	err = vhost_net_open(&vhost, net, e);
	if (err) {
		net_close(net);
		return err;
	}
	return virtio_net_create(host, config, net, vhost, out, e);
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	if (vhost_vdpa_is_node(config->target))
		return vhost_vdpa_create(host, config, VIRTIO_ID_NET, out, e);
	/* No tap has a slash in its name. */
	if (strchr(config->target, '/') || device_config_bool(config, "server"))
		return vhost_user_net_create(host, config, out, e);
	return create_on_tap(host, config, out, e);
}

static const struct device_key keys[] = {
	NET_CARD_KEYS,
	{ .name = "queues",
	  .type = KEY_UINT,
	  .min = 1,
	  .max = NET_MAX_QUEUES,
	  .help = "pairs of queues, each with a worker of its own; default 1, or what the target "
		  "has" },
	{ .name = "offloads",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "offer checksum and segmentation offloads that the target has" },
	{ .name = "mergeable",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "offer MRG_RXBUF: a long frame in several small buffers" },
	VHOST_USER_KEYS,
	VIRTIO_KEYS("256"),
	{ 0 },
};

const struct device_row row_vhost_net = {
	.class = CLASS_NET,
	.model = MODEL_VHOST,
	.hw = "virtio-net",
	.preferred = true,
	.summary = "virtio network card served by the kernel's vhost-net, by the process at a "
		   "socket or by vDPA",
	.target = "TAP|fd:N|SOCKET|/dev/vhost-vdpa-N",
	.target_required = true,
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};
