/*
 * mvm backend blk: a process that serves one disk image by vhost-user. In: a path to listen on, or
 * a connected socket (what `--blk=vhost:IMAGE` gives its child). Out: virtio-blk of ours, with
 * requests served by the same code as in a machine of ours. It ends on SIGTERM, and one with a
 * socket of its own when the other side has gone.
 *
 * A front end may truncate memory it shares while we use it, if it has not sealed it; that is the
 * end of this process (SIGBUS, with a message), which is nobody's but that front end's.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/block.h"
#include "devices/backend/block_keys.h"
#include "devices/backend/unix_listener.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/vhost/backend.h"
#include "devices/virtio/vhost/server.h"
#include "devices/registry.h"
#include "vmm/log.h"
#include "vmm/machine.h"
#include "vmm/options_internal.h"
#include "vmm/sandbox.h"

enum { OPTION_SOCKET, OPTION_FD };

static const struct device_key options[] = {
	[OPTION_SOCKET] = { .name = "socket",
			    .type = KEY_STRING,
			    .help = "listen on this path, for one front end after the other" },
	[OPTION_FD] = { .name = "fd",
			.type = KEY_UINT,
			.max = 1u << 20,
			.help = "the front end is at the other end of this open socket; ends when "
				"it goes" },
	{ .name = NULL },
};

const struct device_key backend_blk_keys[] = {
	BLOCK_KEYS,
	VIRTIO_BLK_KEYS,
	VIRTIO_RING_KEYS("packed", "256"),
	{ 0 },
};

/* Not in the registry: no flag makes it. */
static const struct device_row row = {
	.class = CLASS_BLK,
	.model = MODEL_VHOST,
	.hw = "vhost-user-blk",
	.keys = backend_blk_keys,
};

struct backend {
	struct device_host host;
	struct guest_memory memory;
	struct vhost_user_peer peer;
	struct device *dev;
	struct unix_listener listener;
	struct event_source signals;
	int status;
	struct error *error;
};

/* ---- connections ----------------------------------------------------------------------------- */

static void closed(void *opaque, const char *why)
{
	struct backend *b = opaque;

	if (why)
		log_warn("the front end is cut off: %s", why);
	if (b->peer.parent) {
		b->status = why ? STATUS_FAILED : STATUS_OK;
		if (why)
			error_set(b->error, -EPROTO, "%s", why);
		event_loop_stop(b->host.loop);
	} else {
		unix_listener_wait(&b->listener);
	}
}

/* The next one waits in the queue until this one has gone. */
static void accept_one(void *opaque, uint32_t events)
{
	struct backend *b = opaque;
	int fd = unix_listener_accept(&b->listener, 0);

	(void)events;
	if (fd < 0 || vhost_user_server_attach(b->peer.server, fd) == 0)
		return;
	close(fd);
	unix_listener_wait(&b->listener);
}

static int take_socket(const struct command_call *call, struct error *e)
{
	int fd = (int)call->option[OPTION_FD].number;
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
		return error_set(e, -EINVAL, "--fd=%d is no socket", fd);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

/* Nobody is let in before all is set up. */
static int listen_on(struct backend *b, const char *path, struct error *e)
{
	int err = unix_listener_open(&b->listener, path, 8, e);

	if (err)
		return err;
	err = unix_listener_watch(&b->listener, b->host.loop, accept_one, b);
	return err ? error_set_errno(e, err, "cannot wait for front ends") : 0;
}

static int listen_or_attach(struct backend *b, const struct command_call *call, struct error *e)
{
	int err = 0;

	if (b->peer.parent)
		err = vhost_user_server_attach(b->peer.server, (int)call->option[OPTION_FD].number);
	else
		unix_listener_wait(&b->listener);
	return err ? error_set_errno(e, err, "cannot serve the socket") : 0;
}

/* ---- signals --------------------------------------------------------------------------------- */

static void signal_arrived(void *opaque, uint32_t events)
{
	struct backend *b = opaque;

	(void)events;
	event_loop_stop(b->host.loop);
}

static void memory_gone(int number)
{
	static const char text[] =
		"mvm: backend blk: memory or image file has been truncated while in use\n";

	(void)number;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(STATUS_FAILED);
	_exit(STATUS_FAILED);
}

static int catch_signals(struct backend *b, struct error *e)
{
	sigset_t set;
	int err;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	if (b->peer.parent) { /* a child of mvm's: ^C is for mvm, whose end is ours */
		signal(SIGINT, SIG_IGN);
		signal(SIGQUIT, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
	} else {
		sigaddset(&set, SIGINT);
		sigaddset(&set, SIGHUP);
	}
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGBUS, memory_gone);
	b->signals = (struct event_source){
		.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
		.events = EPOLLIN,
		.callback = signal_arrived,
		.opaque = b,
	};
	err = b->signals.fd < 0 ? -errno : event_add(b->host.loop, &b->signals);
	return err ? error_set_errno(e, err, "cannot watch for signals") : 0;
}

/* ---- sandbox --------------------------------------------------------------------------------- */

static void isolate(const struct backend *b)
{
	char path[sizeof(b->listener.address.sun_path)];

	memcpy(path, b->listener.address.sun_path, sizeof(path));
	sandbox_isolate(b->peer.parent ? NULL : dirname(path));
}

static const char *const system_calls[] = {
	/* data */
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2",
	"pwritev2", "lseek", "fsync", "fdatasync", "fallocate", "ftruncate", "io_uring_enter",
	"io_uring_register", "io_submit", "io_getevents", "io_destroy",
	/* the front end */
	"accept4", "recvmsg", "recvfrom", "sendmsg", "fcntl", "fstat", "newfstatat", "memfd_create",
	/* loops and threads */
	"epoll_wait", "epoll_pwait", "epoll_ctl", "poll", "ppoll", "timerfd_settime", "futex",
	"sched_yield", "clone3", "clone", "set_robust_list", "rseq", "exit", "exit_group",
	"rt_sigreturn", "rt_sigprocmask", "rt_sigaction", "tgkill", "gettid", "getpid",
	"restart_syscall", "clock_gettime", "clock_nanosleep", "prctl",
	/* memory */
	"munmap", "mremap", "madvise", "brk", "getrandom",
	/* the end */
	"close", "unlink", NULL
};

/* ---- life ------------------------------------------------------------------------------------ */

static void request(struct device_host *host, enum machine_request why)
{
	(void)host;
	(void)why;
}

/*
 * Of a process like us that was killed a moment ago the kernel may still be cleaning up (io_uring),
 * and the image is in use for so long.
 */
static int open_image(struct block **block, const struct block_config *image, struct error *e)
{
	const struct timespec step = { .tv_nsec = 20 * 1000 * 1000 };
	int err = block_open(block, image, e);

	for (unsigned i = 0; i < 100 && err == -EBUSY; i++) {
		nanosleep(&step, NULL);
		e->msg[0] = '\0';
		err = block_open(block, image, e);
	}
	return err;
}

/* What needs names of files, and the one thread that may leave its namespaces. */
static int open_all(struct backend *b, const struct command_call *call,
		    const struct device_config *config, struct block **block, struct error *e)
{
	const struct block_config image = block_config_from(config);
	int err = b->peer.parent ? take_socket(call, e) : 0;

	if (err < 0)
		return err;
	b->host.loop = event_loop_create("main", e);
	if (!b->host.loop)
		return -ENOMEM;
	err = catch_signals(b, e);
	if (!err)
		err = open_image(block, &image, e);
	if (!err && !b->peer.parent)
		err = listen_on(b, call->option[OPTION_SOCKET].text, e);
	return err;
}

static int start(struct backend *b, const struct command_call *call,
		 const struct device_config *config, struct error *e)
{
	struct block *block = NULL;
	int err = open_all(b, call, config, &block, e);

	if (err) {
		block_close(block);
		return err;
	}
	isolate(b);
	err = virtio_blk_create(&b->host, config, block, &b->dev, e);
	if (!err)
		err = b->dev->ops->start(b->dev, e);
	if (!err)
		err = sandbox_filter(system_calls, e);
	return err ? err : listen_or_attach(b, call, e);
}

static void end(struct backend *b)
{
	unix_listener_close(&b->listener);
	if (b->dev)
		b->dev->ops->destroy(b->dev);
	memory_destroy(&b->memory);
	event_del(&b->signals);
	if (b->signals.fd >= 0)
		close(b->signals.fd);
	event_loop_destroy(b->host.loop);
}

/* "IMAGE[,KEY=VALUE]...", as after --blk=vhost: */
static int parse_image(struct device_config *config, const char *text, struct error *e)
{
	int err;

	config->target = option_field(&text);
	if (!config->target)
		return error_set(e, -ENOMEM, "out of memory");
	err = option_parse_keys(backend_blk_keys, text, NULL, config->value, e);
	if (err)
		error_prefix(e, "%.200s: ", config->target);
	return err;
}

static int run(const struct command_call *call, struct error *e)
{
	struct backend b = {
		.host = { .memory = &b.memory, .peer = &b.peer, .request = request },
		.memory = { .fd = -1 },
		.peer = { .closed = closed, .opaque = &b, .parent = call->option[OPTION_FD].given },
		.listener = UNIX_LISTENER_NONE,
		.signals = { .fd = -1 },
		.error = e,
	};
	struct device_config config = { .row = &row };
	int err;

	if (call->option[OPTION_SOCKET].given == call->option[OPTION_FD].given)
		return error_set(e, -EINVAL, "--socket=PATH, where front ends connect, is missing");
	err = parse_image(&config, call->argv[0], e);
	if (!err)
		err = start(&b, call, &config, e);
	if (!err)
		err = event_loop_run(b.host.loop);
	end(&b);
	device_config_free(&config);
	return err ? err : b.status == STATUS_OK ? 0 : -EIO;
}

static const struct command_verb verbs[] = {
	{
		.words = "blk",
		.args = "IMAGE[,KEY=VALUE]...",
		.help = "serve a disk image to another VMM as a vhost-user-blk device, until "
			"SIGTERM; the keys are those of --blk=vhost:IMAGE",
		.min_args = 1,
		.max_args = 1,
		.options = options,
		.word_keys = backend_blk_keys,
		.complete = "@file --socket=@file",
		.run = run,
	},
	{ .words = NULL },
};

const struct command command_backend = {
	.name = "backend",
	.summary = "serve a device to another VMM, by vhost-user",
	.verb = verbs,
};
