/*
 * Messages of the vhost-user protocol: see user_proto.h.
 */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "devices/virtio/vhost/user_proto.h"

#define HEADER 12u /* request, flags, size */

/* ---- what each message has ------------------------------------------------------------------- */

struct kind {
	const char *name;
	uint16_t size_min, size_max; /* payload of the request */
	uint8_t fds_min, fds_max;
	uint16_t reply_min, reply_max; /* 0: has no answer of its own */
	uint8_t reply_fds;
};

#define U64	sizeof(uint64_t)
#define STATE	sizeof(struct vhost_vring_state)
#define ADDR	sizeof(struct vhost_vring_addr)
#define REGIONS offsetof(struct vhost_user_memory, region)
#define SLOT	sizeof(struct vhost_user_slot)
#define CONFIG	VHOST_USER_CONFIG_HEADER
/* Ends in padding that not everybody sends. */
#define INFLIGHT_MIN 20u
#define INFLIGHT     sizeof(struct vhost_user_inflight)

_Static_assert(INFLIGHT == 24 && SLOT == 40 && ADDR == 40, "sizes on the wire");

/* Without and with a payload, with descriptors; the answer comes behind, where there is one. */
#define EMPTY(request)		 .name = (request)
#define SIZED(request, min, max) .name = (request), .size_min = (min), .size_max = (max)
#define FDS(min, max)		 .fds_min = (min), .fds_max = (max)
#define ANSWER(min, max)	 .reply_min = (min), .reply_max = (max)

static const struct kind kinds[VHOST_USER_COUNT] = {
	[VHOST_USER_GET_FEATURES] = { EMPTY("GET_FEATURES"), ANSWER(U64, U64) },
	[VHOST_USER_SET_FEATURES] = { SIZED("SET_FEATURES", U64, U64) },
	[VHOST_USER_SET_OWNER] = { EMPTY("SET_OWNER") },
	[VHOST_USER_RESET_OWNER] = { EMPTY("RESET_OWNER") },
	[VHOST_USER_SET_MEM_TABLE] = { SIZED("SET_MEM_TABLE", REGIONS,
					     sizeof(struct vhost_user_memory)),
				       FDS(0, VHOST_USER_MAX_FDS) },
	[VHOST_USER_SET_LOG_BASE] = { SIZED("SET_LOG_BASE", U64, 2 * U64), FDS(0, 1) },
	[VHOST_USER_SET_LOG_FD] = { SIZED("SET_LOG_FD", 0, U64), FDS(0, 1) },
	[VHOST_USER_SET_VRING_NUM] = { SIZED("SET_VRING_NUM", STATE, STATE) },
	[VHOST_USER_SET_VRING_ADDR] = { SIZED("SET_VRING_ADDR", ADDR, ADDR) },
	[VHOST_USER_SET_VRING_BASE] = { SIZED("SET_VRING_BASE", STATE, STATE) },
	[VHOST_USER_GET_VRING_BASE] = { SIZED("GET_VRING_BASE", STATE, STATE),
					ANSWER(STATE, STATE) },
	[VHOST_USER_SET_VRING_KICK] = { SIZED("SET_VRING_KICK", U64, U64), FDS(0, 1) },
	[VHOST_USER_SET_VRING_CALL] = { SIZED("SET_VRING_CALL", U64, U64), FDS(0, 1) },
	[VHOST_USER_SET_VRING_ERR] = { SIZED("SET_VRING_ERR", U64, U64), FDS(0, 1) },
	[VHOST_USER_GET_PROTOCOL_FEATURES] = { EMPTY("GET_PROTOCOL_FEATURES"), ANSWER(U64, U64) },
	[VHOST_USER_SET_PROTOCOL_FEATURES] = { SIZED("SET_PROTOCOL_FEATURES", U64, U64) },
	[VHOST_USER_GET_QUEUE_NUM] = { EMPTY("GET_QUEUE_NUM"), ANSWER(U64, U64) },
	[VHOST_USER_SET_VRING_ENABLE] = { SIZED("SET_VRING_ENABLE", STATE, STATE) },
	[VHOST_USER_SEND_RARP] = { SIZED("SEND_RARP", U64, U64) },
	[VHOST_USER_NET_SET_MTU] = { SIZED("NET_SET_MTU", U64, U64) },
	[VHOST_USER_SET_BACKEND_REQ_FD] = { SIZED("SET_BACKEND_REQ_FD", 0, U64), FDS(1, 1) },
	[VHOST_USER_SET_VRING_ENDIAN] = { SIZED("SET_VRING_ENDIAN", STATE, STATE) },
	[VHOST_USER_GET_CONFIG] = { SIZED("GET_CONFIG", CONFIG, sizeof(struct vhost_user_config)),
				    ANSWER(CONFIG, sizeof(struct vhost_user_config)) },
	[VHOST_USER_SET_CONFIG] = { SIZED("SET_CONFIG", CONFIG, sizeof(struct vhost_user_config)) },
	[VHOST_USER_GET_INFLIGHT_FD] = { SIZED("GET_INFLIGHT_FD", INFLIGHT_MIN, INFLIGHT),
					 ANSWER(INFLIGHT_MIN, INFLIGHT), .reply_fds = 1 },
	[VHOST_USER_SET_INFLIGHT_FD] = { SIZED("SET_INFLIGHT_FD", INFLIGHT_MIN, INFLIGHT),
					 FDS(1, 1) },
	[VHOST_USER_RESET_DEVICE] = { EMPTY("RESET_DEVICE") },
	[VHOST_USER_GET_MAX_MEM_SLOTS] = { EMPTY("GET_MAX_MEM_SLOTS"), ANSWER(U64, U64) },
	[VHOST_USER_ADD_MEM_REG] = { SIZED("ADD_MEM_REG", SLOT, SLOT), FDS(1, 1) },
	/* "A file descriptor … the back end MUST close it without using it otherwise." */
	[VHOST_USER_REM_MEM_REG] = { SIZED("REM_MEM_REG", SLOT, SLOT), FDS(0, 1) },
	[VHOST_USER_SET_STATUS] = { SIZED("SET_STATUS", U64, U64) },
	[VHOST_USER_GET_STATUS] = { EMPTY("GET_STATUS"), ANSWER(U64, U64) },
};

static const struct kind *kind_of(uint32_t request)
{
	return request < VHOST_USER_COUNT && kinds[request].name ? &kinds[request] : NULL;
}

const char *vhost_user_name(uint32_t request, char buf[16])
{
	const struct kind *kind = kind_of(request);

	if (kind)
		return kind->name;
	snprintf(buf, 16, "request %u", request > 99999 ? 99999 : request);
	return buf;
}

bool vhost_user_has_reply(uint32_t request)
{
	const struct kind *kind = kind_of(request);

	return kind && kind->reply_max;
}

/* Payloads that say themselves how long they are. */
static bool size_agrees(const struct vhost_user_msg *m)
{
	switch (m->request) {
	case VHOST_USER_SET_MEM_TABLE:
		return m->memory.nregions <= VHOST_USER_MAX_REGIONS &&
		       m->size == REGIONS + m->memory.nregions * sizeof(m->memory.region[0]);
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		return m->config.size <= VHOST_USER_MAX_CONFIG &&
		       m->size == CONFIG + m->config.size;
	}
	return true;
}

int vhost_user_check_request(const struct vhost_user_msg *m, struct error *e)
{
	const struct kind *kind = kind_of(m->request);
	char name[16];

	if (!kind)
		return error_set(e, -EPROTO, "the peer sent %s, which is unknown here",
				 vhost_user_name(m->request, name));
	if (m->size < kind->size_min || m->size > kind->size_max || !size_agrees(m))
		return error_set(e, -EPROTO, "the peer sent %s with %u bytes", kind->name, m->size);
	if (m->nfds < kind->fds_min || m->nfds > kind->fds_max ||
	    (m->request == VHOST_USER_SET_MEM_TABLE && m->nfds != m->memory.nregions))
		return error_set(e, -EPROTO, "the peer sent %s with %u file descriptors",
				 kind->name, m->nfds);
	return 0;
}

int vhost_user_check_reply(const struct vhost_user_msg *m, uint32_t request, struct error *e)
{
	const struct kind *kind = kind_of(request);
	unsigned min, max, fds;
	char name[16];

	if (m->request != request || !(m->flags & VHOST_USER_REPLY) || !kind)
		return error_set(e, -EPROTO, "the peer answered %s to %s",
				 vhost_user_name(m->request, name), kind ? kind->name : "nothing");
	/* Without an answer of its own it is that of REPLY_ACK: 0, or not. */
	min = kind->reply_max ? kind->reply_min : U64;
	max = kind->reply_max ? kind->reply_max : U64;
	fds = kind->reply_fds;
	/* An empty configuration is how a back end says that it has none. */
	if (request == VHOST_USER_GET_CONFIG && m->size == 0)
		min = 0;
	if (m->size < min || m->size > max || (kind->reply_max && m->size && !size_agrees(m)))
		return error_set(e, -EPROTO, "the peer answered %s with %u bytes", kind->name,
				 m->size);
	if (m->nfds > fds)
		return error_set(e, -EPROTO, "the peer answered %s with %u file descriptors",
				 kind->name, m->nfds);
	return 0;
}

/* ---- descriptors ----------------------------------------------------------------------------- */

int vhost_user_take_fd(struct vhost_user_msg *m, unsigned i)
{
	int fd = i < m->nfds ? m->fd[i] : -1;

	if (fd >= 0)
		m->fd[i] = -1;
	return fd;
}

void vhost_user_close_fds(struct vhost_user_msg *m)
{
	for (unsigned i = 0; i < m->nfds; i++)
		if (m->fd[i] >= 0)
			close(m->fd[i]);
	m->nfds = 0;
}

/*
 * Takes what came into m. False: more than any message has, or cut; those that did come are in m,
 * to be closed.
 */
static bool collect_fds(struct vhost_user_msg *m, struct msghdr *h)
{
	bool good = !(h->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		unsigned n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (m->nfds < VHOST_USER_MAX_FDS) {
				m->fd[m->nfds++] = fd;
			} else {
				close(fd);
				good = false;
			}
		}
	}
	return good;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Until the socket can do it, or the deadline. 0 or -errno. */
static int wait_for(int sock, short events, uint64_t deadline)
{
	for (;;) {
		uint64_t now = now_ms();
		struct pollfd p = { .fd = sock, .events = events };
		int n = now < deadline ? poll(&p, 1, (int)(deadline - now)) : 0;

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static bool try_again(int err)
{
	return err == -EINTR || err == -EAGAIN;
}

/* One recvmsg(2) of up to len bytes. Bytes, 0 at the end, -EBADMSG for too many descriptors. */
static ssize_t receive_some(int sock, struct vhost_user_msg *m, void *buf, size_t len)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr h = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n = recvmsg(sock, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -errno;
	return collect_fds(m, &h) ? n : -EBADMSG;
}

static int receive(int sock, struct vhost_user_msg *m, void *buf, size_t len, uint64_t deadline,
		   struct error *e)
{
	uint8_t *at = buf;

	while (len) {
		ssize_t n = receive_some(sock, m, at, len);
		int err = (int)n;

		if (n == 0 || err == -ECONNRESET)
			return error_set(e, -ECONNRESET, "the peer has hung up");
		if (err == -EBADMSG)
			return error_set(e, -EPROTO, "the peer sent too many file descriptors");
		if (n < 0 && !try_again(err))
			return error_set_errno(e, err, "cannot receive from the peer");
		if (n < 0)
			err = wait_for(sock, POLLIN, deadline);
		if (n < 0 && err == -ETIMEDOUT)
			return error_set(e, err, "the peer did not answer in time");
		if (n < 0)
			continue;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int vhost_user_recv(int sock, struct vhost_user_msg *m, unsigned timeout_ms, struct error *e)
{
	uint64_t deadline = now_ms() + timeout_ms;
	uint32_t header[3] = { 0 };
	int err;

	memset(m, 0, sizeof(*m));
	err = receive(sock, m, header, sizeof(header), deadline, e);
	m->request = header[0];
	m->flags = header[1];
	m->size = header[2];
	if (!err && (m->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION)
		err = error_set(e, -EPROTO, "the peer does not speak vhost-user version 1");
	if (!err && m->size > sizeof(m->bytes))
		err = error_set(e, -EPROTO, "the peer sent a message of %u bytes", m->size);
	if (!err)
		err = receive(sock, m, m->bytes, m->size, deadline, e);
	if (err)
		vhost_user_close_fds(m);
	return err;
}

/* One sendmsg(2), with the descriptors if there are any. Bytes or -errno. */
static ssize_t send_some(int sock, void *buf, size_t len, const int *fd, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (nfds) {
		struct cmsghdr *c;

		h.msg_control = control.bytes;
		h.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fd, nfds * sizeof(int));
	}
	n = sendmsg(sock, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

int vhost_user_send(int sock, const struct vhost_user_msg *m, unsigned timeout_ms, struct error *e)
{
	uint64_t deadline = now_ms() + timeout_ms;
	uint8_t buf[HEADER + sizeof(m->bytes)];
	size_t len = HEADER + m->size, sent = 0;
	unsigned nfds = m->nfds;

	memcpy(buf, &(const uint32_t[3]){ m->request, m->flags | VHOST_USER_VERSION, m->size },
	       HEADER);
	memcpy(buf + HEADER, m->bytes, m->size);
	while (sent < len) {
		ssize_t n = send_some(sock, buf + sent, len - sent, m->fd, nfds);
		int err = (int)n;

		if (n >= 0) {
			sent += (size_t)n;
			nfds = 0; /* they went with the first byte */
			continue;
		}
		if (try_again(err))
			err = wait_for(sock, POLLOUT, deadline);
		if (err == -ETIMEDOUT)
			return error_set(e, err, "the peer does not read");
		if (err == -EPIPE || err == -ECONNRESET)
			return error_set(e, -EPIPE, "the peer has hung up");
		if (err)
			return error_set_errno(e, err, "cannot send to the peer");
	}
	return 0;
}
