/*
 * A bounded queue of frames: user-mode NAT makes them when it likes, the guest takes them when it
 * can. One thread.
 */
#ifndef DEVICES_BACKEND_NET_FRAMES_H
#define DEVICES_BACKEND_NET_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct net_frames {
	uint8_t *buf;
	size_t size;	   /* bytes of buf */
	size_t head, tail; /* of the oldest frame; where the next one goes */
	size_t used;	   /* bytes, of frames with their lengths and of a skipped end */
	unsigned count;
};

int net_frames_init(struct net_frames *f, size_t size); /* -ENOMEM */
void net_frames_destroy(struct net_frames *f);

/* Copies a frame in; false if there is no room. */
bool net_frames_put(struct net_frames *f, const void *frame, size_t len);
/* The oldest frame, or NULL; it stays until net_frames_drop(). */
const uint8_t *net_frames_peek(const struct net_frames *f, size_t *len);
void net_frames_drop(struct net_frames *f);

#endif
