/*
 * The vhost-user server: see server.h. Here: the connection, features and configuration.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vhost/server_impl.h"

#define TIMEOUT_MS                                                                                 \
	5000u /* for the rest of a message that has begun, and for an answer to leave              \
	       */

#define PROTOCOL_FEATURES                                                                          \
	(VIRTIO_BIT(VHOST_USER_PROTOCOL_F_MQ) | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |      \
	 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIG) |                                                \
	 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |                                        \
	 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                                          \
	 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |                                   \
	 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_STATUS))

static struct vhost_user_server *server_of(const struct virtio_device *v)
{
	return v->transport;
}

/* ---- the transport --------------------------------------------------------------------------- */

static void queue_interrupt(struct virtio_device *v, struct virtio_queue *q)
{
	server_ring_call(server_of(v), q->index);
}

static int queue_eventfd(struct virtio_device *v, struct virtio_queue *q)
{
	(void)v;
	(void)q;
	return -ENOTSUP; /* our queues are served here */
}

static void config_interrupt(struct virtio_device *v)
{
	if (virtio_get_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET)
		server_rings_tell_error(server_of(v));
}

static void nothing(struct virtio_device *v)
{
	(void)v;
}

/* ---- messages -------------------------------------------------------------------------------- */

static int answer_u64(struct vhost_user_msg *m, uint64_t value)
{
	m->u64 = value;
	m->size = sizeof(m->u64);
	return 0;
}

static int get_features(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	(void)e;
	return answer_u64(m, s->v->offered | VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES));
}

static int set_features(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	uint64_t features = m->u64 & ~VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	const char *why = NULL;

	if (server_rings_started(s) && features != s->v->features)
		return error_set(e, -EBUSY, "features are changed while rings run");
	pthread_mutex_lock(&s->v->lock);
	why = virtio_adopt_features(s->v, features);
	pthread_mutex_unlock(&s->v->lock);
	if (why)
		return error_set(e, -EINVAL, "%s", why);
	s->negotiated = true;
	/* "The ring starts directly in the enabled state." */
	if (!(m->u64 & VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES)))
		server_rings_enable_all(s);
	return 0;
}

static int get_protocol_features(struct vhost_user_server *s, struct vhost_user_msg *m,
				 struct error *e)
{
	(void)s;
	(void)e;
	return answer_u64(m, PROTOCOL_FEATURES);
}

static int set_protocol_features(struct vhost_user_server *s, struct vhost_user_msg *m,
				 struct error *e)
{
	if (m->u64 & ~PROTOCOL_FEATURES)
		return error_set(e, -EINVAL, "protocol features accepted that were not offered");
	s->protocol = m->u64;
	return 0;
}

static int nothing_to_do(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	(void)s;
	(void)m;
	(void)e;
	return 0;
}

static int get_queue_num(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	(void)e;
	return answer_u64(m, s->v->nqueues);
}

static int get_max_mem_slots(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	(void)s;
	(void)e;
	return answer_u64(m, VHOST_USER_MAX_REGIONS);
}

static int get_config(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	struct vhost_user_config *c = &m->config;

	(void)e;
	if (c->offset > VIRTIO_CONFIG_MAX || c->size > VIRTIO_CONFIG_MAX - c->offset) {
		m->size = 0; /* how an error is told */
		return 0;
	}
	for (uint32_t i = 0; i < c->size; i++)
		c->data[i] = (uint8_t)virtio_config_read(s->v, c->offset + i, 1);
	return 0;
}

static int set_config(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	const struct vhost_user_config *c = &m->config;
	uint64_t value = 0;

	if (c->size != 1 && c->size != 2 && c->size != 4 && c->size != 8)
		return error_set(e, -EINVAL, "configuration is written %u bytes at once", c->size);
	memcpy(&value, c->data, c->size);
	pthread_mutex_lock(&s->v->lock);
	virtio_config_write(s->v, c->offset, c->size, le64toh(value));
	pthread_mutex_unlock(&s->v->lock);
	if (virtio_config_read(s->v, c->offset, c->size) != value)
		return error_set(e, -EACCES, "a read-only place of configuration space");
	return 0;
}

static void reset_device(struct vhost_user_server *s)
{
	server_rings_reset(s);
	pthread_mutex_lock(&s->v->lock);
	virtio_disown(s->v);
	pthread_mutex_unlock(&s->v->lock);
	s->negotiated = false;
	s->status = 0;
}

static int reset_device_message(struct vhost_user_server *s, struct vhost_user_msg *m,
				struct error *e)
{
	(void)m;
	(void)e;
	reset_device(s);
	return 0;
}

static int set_status(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	if (m->u64 > 0xff)
		return error_set(e, -EINVAL, "status bits above 7");
	if (m->u64 == 0)
		reset_device(s);
	s->status = (uint8_t)m->u64;
	return 0;
}

static int get_status(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	(void)e;
	return answer_u64(m, s->status | (virtio_get_status(s->v) & VIRTIO_CONFIG_S_NEEDS_RESET));
}

static server_handler *const handlers[VHOST_USER_COUNT] = {
	[VHOST_USER_GET_FEATURES] = get_features,
	[VHOST_USER_SET_FEATURES] = set_features,
	[VHOST_USER_SET_OWNER] = nothing_to_do,
	[VHOST_USER_RESET_OWNER] = nothing_to_do, /* deprecated; "recommended to ignore" */
	[VHOST_USER_SET_MEM_TABLE] = server_set_mem_table,
	[VHOST_USER_SET_VRING_NUM] = server_set_vring_num,
	[VHOST_USER_SET_VRING_ADDR] = server_set_vring_addr,
	[VHOST_USER_SET_VRING_BASE] = server_set_vring_base,
	[VHOST_USER_GET_VRING_BASE] = server_get_vring_base,
	[VHOST_USER_SET_VRING_KICK] = server_set_vring_kick,
	[VHOST_USER_SET_VRING_CALL] = server_set_vring_call,
	[VHOST_USER_SET_VRING_ERR] = server_set_vring_err,
	[VHOST_USER_GET_PROTOCOL_FEATURES] = get_protocol_features,
	[VHOST_USER_SET_PROTOCOL_FEATURES] = set_protocol_features,
	[VHOST_USER_GET_QUEUE_NUM] = get_queue_num,
	[VHOST_USER_SET_VRING_ENABLE] = server_set_vring_enable,
	[VHOST_USER_GET_CONFIG] = get_config,
	[VHOST_USER_SET_CONFIG] = set_config,
	[VHOST_USER_GET_INFLIGHT_FD] = server_get_inflight_fd,
	[VHOST_USER_SET_INFLIGHT_FD] = server_set_inflight_fd,
	[VHOST_USER_RESET_DEVICE] = reset_device_message,
	[VHOST_USER_GET_MAX_MEM_SLOTS] = get_max_mem_slots,
	[VHOST_USER_ADD_MEM_REG] = server_add_mem_reg,
	[VHOST_USER_REM_MEM_REG] = server_rem_mem_reg,
	[VHOST_USER_SET_STATUS] = set_status,
	[VHOST_USER_GET_STATUS] = get_status,
};

/* ---- the connection -------------------------------------------------------------------------- */

bool vhost_user_server_connected(const struct vhost_user_server *s)
{
	return s->source.fd >= 0;
}

static void detach(struct vhost_user_server *s)
{
	event_del(&s->source);
	if (s->source.fd >= 0)
		close(s->source.fd);
	s->source.fd = -1;
	reset_device(s);
	server_memory_reset(s);
	s->protocol = 0;
}

/* 0, or what ends the connection. A request that fails is answered where an answer is wanted. */
static int serve(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	bool need_reply = m->flags & VHOST_USER_NEED_REPLY &&
			  s->protocol & VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK);
	bool has_reply = vhost_user_has_reply(m->request);
	char name[16];
	int err = vhost_user_check_request(m, e);

	if (err)
		return err;
	if (!handlers[m->request])
		err = error_set(e, -ENOTSUP, "not offered here");
	else
		err = handlers[m->request](s, m, e);
	if (err)
		error_prefix(e, "%s: ", vhost_user_name(m->request, name));
	if (err && (has_reply || !need_reply))
		return err;
	if (err)
		log_guest(&s->complained, "%s: the front end's %s", s->v->dev.name, e->msg);
	if (!has_reply && !need_reply)
		return 0;
	if (!has_reply) {
		vhost_user_close_fds(m);
		answer_u64(m, err ? 1 : 0);
	}
	m->flags = VHOST_USER_REPLY;
	return vhost_user_send(s->source.fd, m, TIMEOUT_MS, e);
}

static void readable(void *opaque, uint32_t events)
{
	struct vhost_user_server *s = opaque;
	struct vhost_user_msg m;
	struct error e = { .msg = "" };
	char byte;
	int err;

	(void)events;
	if (recv(s->source.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
		detach(s);
		s->peer->closed(s->peer->opaque, NULL);
		return;
	}
	err = vhost_user_recv(s->source.fd, &m, TIMEOUT_MS, &e);
	if (!err) {
		err = serve(s, &m, &e);
		vhost_user_close_fds(&m);
	}
	if (!err)
		return;
	detach(s);
	s->peer->closed(s->peer->opaque, e.msg);
}

int vhost_user_server_attach(struct vhost_user_server *s, int fd)
{
	int err;

	if (vhost_user_server_connected(s))
		return -EBUSY;
	s->source.fd = fd;
	err = event_add(s->v->dev.host->loop, &s->source);
	if (err)
		s->source.fd = -1;
	return err;
}

static void destroy(struct virtio_device *v)
{
	struct vhost_user_server *s = server_of(v);

	if (s->ring)
		detach(s);
	server_rings_destroy(s);
	v->dev.host->peer->server = NULL;
	v->transport_ops = NULL;
	free(s);
}

static const struct virtio_transport_ops transport_ops = {
	.queue_interrupt = queue_interrupt,
	.queue_eventfd = queue_eventfd,
	.config_interrupt = config_interrupt,
	.device_reset = nothing,
	.machine_reset = nothing,
	.destroy = destroy,
};

int vhost_user_server_create(struct virtio_device *v, struct error *e)
{
	struct vhost_user_server *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return error_set(e, -ENOMEM, "out of memory");
	s->v = v;
	s->peer = v->dev.host->peer;
	s->source = (struct event_source){
		.fd = -1,
		.events = EPOLLIN,
		.callback = readable,
		.opaque = s,
	};
	err = server_rings_create(s, e);
	if (err) {
		free(s);
		return err;
	}
	/* Three times what write(2) costs, for each interrupt. */
	if (!s->peer->parent)
		event_signaller_init(&v->peer);
	v->transport = s;
	v->transport_ops = &transport_ops;
	s->peer->server = s;
	return 0;
}
