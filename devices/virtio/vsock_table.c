/*
 * The connections of virtio-vsock: a table of a fixed size, found by their two ports, and the round
 * robin of those that have something for the guest. See vsock.h for the lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "devices/virtio/vsock.h"

static uint16_t index_of(const struct vsock *s, const struct vsock_conn *c)
{
	return (uint16_t)(c - s->conn);
}

int vsock_table_init(struct vsock *s)
{
	s->conn = calloc(VSOCK_CONNECTIONS, sizeof(*s->conn));
	if (!s->conn)
		return -ENOMEM;
	memset(s->bucket, 0xff, sizeof(s->bucket)); /* VSOCK_NONE */
	s->ready_head = s->ready_tail = VSOCK_NONE;
	s->free_head = 0;
	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++) {
		s->conn[i].fd = -1;
		s->conn[i].free_next = i + 1 < VSOCK_CONNECTIONS ? (uint16_t)(i + 1) : VSOCK_NONE;
	}
	return 0;
}

void vsock_table_destroy(struct vsock *s)
{
	vsock_clear(s);
	free(s->conn);
	s->conn = NULL;
}

/* When the table is full, who only waits for a slow reader has waited long enough. */
static void drop_orphan(struct vsock *s)
{
	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++) {
		if (s->conn[i].state == VSOCK_ORPHAN) {
			vsock_remove(s, &s->conn[i]);
			return;
		}
	}
}

static int watch(struct vsock *s, struct vsock_conn *c)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.u64 = (uint64_t)c->generation << 32 | index_of(s, c),
	};

	return epoll_ctl(s->epoll, EPOLL_CTL_ADD, c->fd, &event);
}

struct vsock_conn *vsock_add(struct vsock *s, enum vsock_state state, int fd)
{
	struct vsock_conn *c;

	if (s->free_head == VSOCK_NONE)
		drop_orphan(s);
	if (s->free_head == VSOCK_NONE) {
		close(fd);
		return NULL;
	}
	c = &s->conn[s->free_head];
	s->free_head = c->free_next;
	/* It may still stand in the queue of the ready from its last life, and may as well. */
	*c = (struct vsock_conn){
		.state = state,
		.fd = fd,
		.generation = c->generation + 1,
		.hash_next = VSOCK_NONE,
		.ready = c->ready,
		.ready_next = c->ready_next,
		.readable = true,
	};
	if (watch(s, c) == 0)
		return c;
	vsock_remove(s, c);
	return NULL;
}

/* ---- ports ----------------------------------------------------------------------------------- */

static uint16_t *bucket_of(struct vsock *s, uint32_t guest_port, uint32_t host_port)
{
	uint32_t mixed = (guest_port ^ host_port * 0x9e3779b1u) * 0x85ebca6bu;

	return &s->bucket[mixed >> 16 & (VSOCK_BUCKETS - 1)];
}

void vsock_bind(struct vsock *s, struct vsock_conn *c, uint32_t guest_port, uint32_t host_port)
{
	uint16_t *bucket = bucket_of(s, guest_port, host_port);

	c->guest_port = guest_port;
	c->host_port = host_port;
	c->hash_next = *bucket;
	*bucket = index_of(s, c);
}

/* Nothing happens for one that is not bound. */
void vsock_unbind(struct vsock *s, struct vsock_conn *c)
{
	uint16_t *at = bucket_of(s, c->guest_port, c->host_port);

	while (*at != VSOCK_NONE && *at != index_of(s, c))
		at = &s->conn[*at].hash_next;
	if (*at != VSOCK_NONE)
		*at = c->hash_next;
}

struct vsock_conn *vsock_find(struct vsock *s, uint32_t guest_port, uint32_t host_port)
{
	uint16_t at = *bucket_of(s, guest_port, host_port);

	while (at != VSOCK_NONE) {
		struct vsock_conn *c = &s->conn[at];

		if (c->guest_port == guest_port && c->host_port == host_port)
			return c;
		at = c->hash_next;
	}
	return NULL;
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void let_go(struct vsock_conn *c)
{
	if (c->fd >= 0)
		close(c->fd); /* which takes it out of the epoll set */
	c->fd = -1;
	free(c->buffer);
	c->buffer = NULL;
	c->received = c->forwarded;
}

void vsock_remove(struct vsock *s, struct vsock_conn *c)
{
	vsock_unbind(s, c);
	let_go(c);
	c->state = VSOCK_FREE;
	c->free_next = s->free_head;
	s->free_head = index_of(s, c);
}

void vsock_kill(struct vsock *s, struct vsock_conn *c)
{
	if (c->state != VSOCK_OPEN && c->state != VSOCK_REQUESTED) {
		vsock_remove(s, c); /* the guest does not know it */
		return;
	}
	/* Keeps its place and ports until the guest has heard. */
	let_go(c);
	c->state = VSOCK_CLOSED;
	vsock_make_ready(s, c);
}

void vsock_clear(struct vsock *s)
{
	for (unsigned i = 0; s->conn && i < VSOCK_CONNECTIONS; i++)
		if (s->conn[i].state != VSOCK_FREE)
			vsock_remove(s, &s->conn[i]);
	s->resets = 0;
	s->tx_stalled = false;
}

/* ---- who has something for the guest --------------------------------------------------------- */

void vsock_make_ready(struct vsock *s, struct vsock_conn *c)
{
	if (c->ready)
		return;
	c->ready = true;
	c->ready_next = VSOCK_NONE;
	if (s->ready_tail == VSOCK_NONE)
		s->ready_head = index_of(s, c);
	else
		s->conn[s->ready_tail].ready_next = index_of(s, c);
	s->ready_tail = index_of(s, c);
}

struct vsock_conn *vsock_next_ready(struct vsock *s)
{
	while (s->ready_head != VSOCK_NONE) {
		struct vsock_conn *c = &s->conn[s->ready_head];

		s->ready_head = c->ready_next;
		if (s->ready_head == VSOCK_NONE)
			s->ready_tail = VSOCK_NONE;
		c->ready = false;
		if (c->state != VSOCK_FREE)
			return c;
	}
	return NULL;
}

void vsock_add_reset(struct vsock *s, const struct vsock_reset *reset)
{
	if (s->resets == VSOCK_RESETS)
		return;
	s->reset[(s->reset_first + s->resets++) % VSOCK_RESETS] = *reset;
}
