/*
 * The vhost-user protocol on the wire: messages with file descriptors over a unix stream socket, as
 * QEMU's docs/interop/vhost-user.rst has them. Both ends use this, our back end (server.c) and the
 * front end (user.c). In: bytes of a peer that is not trusted. Out: messages whose size and number
 * of descriptors are what their kind allows, within a time.
 */
#ifndef DEVICES_VIRTIO_VHOST_USER_PROTO_H
#define DEVICES_VIRTIO_VHOST_USER_PROTO_H

#include <linux/vhost_types.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/error.h"

enum vhost_user_request {
	VHOST_USER_NONE,
	VHOST_USER_GET_FEATURES,
	VHOST_USER_SET_FEATURES,
	VHOST_USER_SET_OWNER,
	VHOST_USER_RESET_OWNER,
	VHOST_USER_SET_MEM_TABLE,
	VHOST_USER_SET_LOG_BASE,
	VHOST_USER_SET_LOG_FD,
	VHOST_USER_SET_VRING_NUM,
	VHOST_USER_SET_VRING_ADDR,
	VHOST_USER_SET_VRING_BASE,
	VHOST_USER_GET_VRING_BASE,
	VHOST_USER_SET_VRING_KICK,
	VHOST_USER_SET_VRING_CALL,
	VHOST_USER_SET_VRING_ERR,
	VHOST_USER_GET_PROTOCOL_FEATURES,
	VHOST_USER_SET_PROTOCOL_FEATURES,
	VHOST_USER_GET_QUEUE_NUM,
	VHOST_USER_SET_VRING_ENABLE,
	VHOST_USER_SEND_RARP,
	VHOST_USER_NET_SET_MTU,
	VHOST_USER_SET_BACKEND_REQ_FD,
	VHOST_USER_IOTLB_MSG,
	VHOST_USER_SET_VRING_ENDIAN,
	VHOST_USER_GET_CONFIG,
	VHOST_USER_SET_CONFIG,
	VHOST_USER_GET_INFLIGHT_FD = 31,
	VHOST_USER_SET_INFLIGHT_FD,
	VHOST_USER_RESET_DEVICE = 34,
	VHOST_USER_GET_MAX_MEM_SLOTS = 36,
	VHOST_USER_ADD_MEM_REG,
	VHOST_USER_REM_MEM_REG,
	VHOST_USER_SET_STATUS,
	VHOST_USER_GET_STATUS,
	VHOST_USER_COUNT
};

/* What a back end asks of its front end, over a channel of its own (SET_BACKEND_REQ_FD). */
enum vhost_user_backend_request {
	VHOST_USER_BACKEND_IOTLB_MSG = 1,
	VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
};

/* Protocol features, and the device feature that says there are such. */
#define VHOST_USER_F_PROTOCOL_FEATURES		  30
#define VHOST_USER_PROTOCOL_F_MQ		  0
#define VHOST_USER_PROTOCOL_F_REPLY_ACK		  3
#define VHOST_USER_PROTOCOL_F_BACKEND_REQ	  5
#define VHOST_USER_PROTOCOL_F_CONFIG		  9
#define VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD	  12
#define VHOST_USER_PROTOCOL_F_RESET_DEVICE	  13
#define VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS 15
#define VHOST_USER_PROTOCOL_F_STATUS		  16

/* Header flags. */
#define VHOST_USER_VERSION	1u
#define VHOST_USER_VERSION_MASK 3u
#define VHOST_USER_REPLY	(1u << 2)
#define VHOST_USER_NEED_REPLY	(1u << 3)

#define VHOST_USER_MAX_FDS     8u
#define VHOST_USER_MAX_REGIONS 8u
#define VHOST_USER_MAX_CONFIG  256u

/* SET_VRING_KICK, _CALL, _ERR: the queue, and whether no descriptor comes along. */
#define VHOST_USER_VRING_INDEX 0xffu
#define VHOST_USER_VRING_NOFD  0x100u

struct vhost_user_region {
	uint64_t guest_addr, size;
	uint64_t user_addr;   /* where the front end sees it: what ring addresses are in */
	uint64_t mmap_offset; /* where it begins in its file */
};

struct vhost_user_memory {
	uint32_t nregions, padding;
	struct vhost_user_region region[VHOST_USER_MAX_REGIONS];
};

struct vhost_user_slot {
	uint64_t padding;
	struct vhost_user_region region;
};

struct vhost_user_config {
	uint32_t offset, size, flags;
	uint8_t data[VHOST_USER_MAX_CONFIG];
};
#define VHOST_USER_CONFIG_HEADER 12u

struct vhost_user_inflight {
	uint64_t mmap_size, mmap_offset;
	uint16_t nqueues, queue_size;
};

struct vhost_user_msg {
	uint32_t request, flags, size;
	union {
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct vhost_user_memory memory;
		struct vhost_user_slot slot;
		struct vhost_user_config config;
		struct vhost_user_inflight inflight;
		uint8_t bytes[300];
	};
	unsigned nfds;
	int fd[VHOST_USER_MAX_FDS]; /* the receiver's, until it takes one (vhost_user_take_fd()) */
};

/* "SET_MEM_TABLE", or "request 77". buf is used for the latter. */
const char *vhost_user_name(uint32_t request, char buf[16]);

/*
 * All of the message, waiting at most timeout_ms for the peer to take it. 0, -ETIMEDOUT, -EPIPE,
 * or -errno of sendmsg(2), with a message. The descriptors stay the caller's.
 */
int vhost_user_send(int sock, const struct vhost_user_msg *m, unsigned timeout_ms, struct error *e);
/*
 * The next message, whole, within timeout_ms. 0; -ECONNRESET: the peer has hung up; -ETIMEDOUT;
 * -EPROTO: not the protocol (version, size, number of descriptors), and the connection is of no
 * more use. No descriptor is left open after a failure.
 */
int vhost_user_recv(int sock, struct vhost_user_msg *m, unsigned timeout_ms, struct error *e);

/* Size and descriptors are what this request has. -EPROTO with a message. */
int vhost_user_check_request(const struct vhost_user_msg *m, struct error *e);
/* m answers the request, and has the size and descriptors of such an answer. */
int vhost_user_check_reply(const struct vhost_user_msg *m, uint32_t request, struct error *e);
/* Has the request an answer of its own, without REPLY_ACK? */
bool vhost_user_has_reply(uint32_t request);

/* The i-th descriptor, which is the caller's now; -1 if there is none. */
int vhost_user_take_fd(struct vhost_user_msg *m, unsigned i);
/* Closes those that nobody took. */
void vhost_user_close_fds(struct vhost_user_msg *m);

#endif
