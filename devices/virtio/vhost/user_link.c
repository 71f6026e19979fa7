/*
 * The connection to a vhost-user backend: made first while the machine is, then looked after by a
 * thread of its own, which reports its end, makes another one and reports that. See user.h, and
 * user_impl.h for who may touch what.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "devices/virtio/vhost/user_impl.h"

#define DELAY_MIN_MS 20u
#define DELAY_MAX_MS 2000u
/* A connection that lasted so long was a good one: the next is tried at once. */
#define GOOD_MS 5000u

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- getting a socket ------------------------------------------------------------------------ */

static int connect_path(const char *path, int *sock, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, err;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(e, -ENAMETOOLONG, "a socket's path has at most %zu bytes",
				 sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path) + 1);
	/* Non-blocking: with its queue of connections full, a server would hold us up. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set_errno(e, -errno, "cannot make a socket");
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		err = -errno;
		close(fd);
		if (err == -ECONNREFUSED || err == -ENOENT)
			return error_set(
				e, err,
				"nobody listens there; start the back end first, or let it "
				"connect here with server=on");
		return error_set_errno(e, err, "cannot connect");
	}
	*sock = fd;
	return 0;
}

static int accept_first(struct vhost_user *u, int *sock, struct error *e)
{
	struct pollfd p = { .fd = u->listener.fd, .events = POLLIN };
	uint64_t deadline = now_ms() + u->options.timeout_ms;

	for (;;) {
		uint64_t now = now_ms();
		int n = now < deadline ? poll(&p, 1, (int)(deadline - now)) : 0;

		if (n == 0)
			return error_set(e, -ETIMEDOUT, "no back end has connected within %u s",
					 u->options.timeout_ms / 1000);
		*sock = accept4(u->listener.fd, NULL, NULL, SOCK_CLOEXEC);
		if (*sock >= 0)
			return 0;
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			return error_set_errno(e, -errno, "cannot accept a connection");
	}
}

static int get_socket(struct vhost_user *u, int *sock, struct error *e)
{
	if (u->child)
		return vhost_user_child_start(u, sock, e);
	if (u->options.server)
		return accept_first(u, sock, e);
	return connect_path(u->path, sock, e);
}

/* ---- a connection ---------------------------------------------------------------------------- */

static void drop(struct event_source *source)
{
	event_del(source);
	if (source->fd >= 0)
		close(source->fd);
	source->fd = -1;
}

static void disconnect(struct vhost_user *u)
{
	pthread_mutex_lock(&u->lock);
	drop(&u->hangup);
	drop(&u->asks);
	pthread_mutex_unlock(&u->lock);
	vhost_user_child_end(u);
}

/* Takes sock over, also on failure. */
static int begin(struct vhost_user *u, int sock, struct error *e)
{
	int err;

	pthread_mutex_lock(&u->lock);
	u->hangup.fd = sock;
	u->protocol = 0;
	u->active = 0;
	u->kept = u->inflight_fd >= 0;
	__atomic_store_n(&u->broken, false, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&u->lock);
	err = vhost_user_greet(u, e);
	/* No word of data: what arrives is for the operations. */
	if (!err)
		err = event_add(u->loop, &u->hangup);
	if (!err && u->asks.fd >= 0)
		err = event_add(u->loop, &u->asks);
	if (err)
		disconnect(u);
	else
		u->since_ms = now_ms();
	return err;
}

static void try_later(struct vhost_user *u)
{
	event_timer_set(&u->retry, u->delay_ms * 1000000ull);
	u->delay_ms = u->delay_ms * 2 < DELAY_MAX_MS ? u->delay_ms * 2 : DELAY_MAX_MS;
}

/* On the loop: the device has no connection, and shall have one. */
static void come_back(struct vhost_user *u, int sock)
{
	struct error e = { .msg = "" };

	if (begin(u, sock, &e)) {
		if (!__atomic_exchange_n(&u->complained, true, __ATOMIC_RELAXED))
			log_warn("%s: %s", u->b.name, e.msg);
		u->delay_ms = DELAY_MAX_MS; /* it is there, and no good */
		try_later(u);
		return;
	}
	vhost_back(&u->b);
	vhost_config_changed(&u->b);
}

static void retry(void *opaque)
{
	struct vhost_user *u = opaque;
	struct error e;
	int sock = -1, err;

	if (u->options.server) {
		unix_listener_wait(&u->listener);
		return;
	}
	err = u->child ? vhost_user_child_start(u, &sock, &e) : connect_path(u->path, &sock, &e);
	if (err)
		try_later(u);
	else
		come_back(u, sock);
}

static void accepted(void *opaque, uint32_t events)
{
	struct vhost_user *u = opaque;
	int sock = unix_listener_accept(&u->listener, 0);

	(void)events;
	if (sock >= 0)
		come_back(u, sock);
}

static void hung_up(void *opaque, uint32_t events)
{
	struct vhost_user *u = opaque;

	(void)events;
	vhost_lost(&u->b, "it has hung up");
	disconnect(u);
	if (now_ms() - u->since_ms >= GOOD_MS) {
		u->delay_ms = DELAY_MIN_MS;
		__atomic_store_n(&u->complained, false, __ATOMIC_RELAXED);
	}
	try_later(u);
}

/* What it asks of us: that we look at its configuration space again, is all we know. */
static void asked(void *opaque, uint32_t events)
{
	struct vhost_user *u = opaque;
	struct vhost_user_msg m;
	struct error e;

	(void)events;
	/* A whole message, or it is no good: it must not hold this thread up. */
	if (vhost_user_recv(u->asks.fd, &m, 100, &e)) {
		drop(&u->asks);
		return;
	}
	vhost_user_close_fds(&m);
	if (m.request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG)
		vhost_config_changed(&u->b);
	if (!(m.flags & VHOST_USER_NEED_REPLY))
		return;
	m.u64 = m.request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG ? 0 : 1;
	m.size = sizeof(m.u64);
	m.flags = VHOST_USER_REPLY;
	if (vhost_user_send(u->asks.fd, &m, 100, &e))
		drop(&u->asks);
}

/* ---- life ------------------------------------------------------------------------------------ */

static int listen_on_path(struct vhost_user *u, struct error *e)
{
	int err = unix_listener_open(&u->listener, u->path, 4, e);

	if (err)
		return err;
	log_info("%s: waiting for a back end to connect", u->path);
	return unix_listener_watch(&u->listener, u->loop, accepted, u);
}

int vhost_user_link(struct vhost_user *u, struct error *e)
{
	int sock = -1, err;

	u->loop = event_loop_create(u->name, e);
	if (!u->loop)
		return -ENOMEM;
	u->hangup = (struct event_source){
		.fd = -1, .events = EPOLLRDHUP, .callback = hung_up, .opaque = u
	};
	u->asks = (struct event_source){
		.fd = -1, .events = EPOLLIN, .callback = asked, .opaque = u
	};
	u->retry.callback = retry;
	u->retry.opaque = u;
	u->delay_ms = DELAY_MIN_MS;
	err = event_timer_init(&u->retry, u->loop);
	if (err)
		return error_set_errno(e, err, "cannot make a timer");
	if (u->options.server)
		err = listen_on_path(u, e);
	if (!err)
		err = get_socket(u, &sock, e);
	if (!err)
		err = begin(u, sock, e);
	if (!err)
		err = event_loop_start(u->loop, e);
	if (err)
		error_prefix(e, "%s: ", u->path);
	return err;
}

static void end(void *arg)
{
	struct vhost_user *u = arg;

	disconnect(u);
	unix_listener_close(&u->listener);
	event_timer_destroy(&u->retry);
}

void vhost_user_unlink(struct vhost_user *u)
{
	if (!u->loop)
		return;
	/* On its thread, between two callbacks: afterwards there is none left to be called. */
	event_call(u->loop, end, u);
	event_loop_destroy(u->loop);
	u->loop = NULL;
}
