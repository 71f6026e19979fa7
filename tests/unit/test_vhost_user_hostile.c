/*
 * vhost-user with a peer that breaks the rules: our back end before a front end that says anything,
 * and our front end before a back end that answers anything. What is wrong is refused with a
 * reason, nothing crashes, nothing hangs, and the next one who behaves is served.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/registry.h"
#include "tests/unit/test_vhost_user_rig.h"

#define V1     MODEL_BIT(VIRTIO_F_VERSION_1)
#define RAM    (1u << 20)
#define BIT(n) (1ull << (n))

#define ACK_PROTOCOL (BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT(VHOST_USER_PROTOCOL_F_MQ))

/* ---- our back end, by hand ------------------------------------------------------------------- */

static int memory_fd(size_t size)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* Greets and asks for acknowledgement of everything that follows. */
static int greet(const struct vu_files *f)
{
	int sock = vu_connect(f);
	uint64_t value = ACK_PROTOCOL;

	cr_assert_eq(vu_call_u64(sock, VHOST_USER_SET_PROTOCOL_FEATURES, &value), 0);
	value = V1 | BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	cr_assert_eq(vu_call_u64(sock, VHOST_USER_SET_FEATURES, &value), 0);
	return sock;
}

/* 0: accepted; 1: refused; -1: the connection has gone. The descriptors are closed. */
static int ask(int sock, struct vhost_user_msg *m)
{
	unsigned nfds = m->nfds;
	int fd[VHOST_USER_MAX_FDS], err;

	memcpy(fd, m->fd, sizeof(fd));
	m->flags = VHOST_USER_NEED_REPLY;
	err = vu_call(sock, m);
	for (unsigned i = 0; i < nfds; i++)
		close(fd[i]);
	return err ? -1 : m->u64 != 0;
}

static int ask_table(int sock, unsigned n, const struct vhost_user_region *region, int fd)
{
	struct vhost_user_msg m = { .request = VHOST_USER_SET_MEM_TABLE };

	m.memory.nregions = n;
	m.size = (uint32_t)(8 + n * sizeof(*region));
	m.nfds = n;
	for (unsigned i = 0; i < n; i++) {
		m.memory.region[i] = region[i];
		m.fd[i] = dup(fd);
	}
	return ask(sock, &m);
}

static int ask_state(int sock, uint32_t request, unsigned index, unsigned num)
{
	struct vhost_user_msg m = { .request = request,
				    .size = 8,
				    .state = { .index = index, .num = num } };

	return ask(sock, &m);
}

static int ask_addr(int sock, unsigned index, uint64_t at)
{
	struct vhost_user_msg m = {
		.request = VHOST_USER_SET_VRING_ADDR,
		.size = sizeof(m.addr),
		.addr = { .index = index,
			  .desc_user_addr = at,
			  .avail_user_addr = at + 0x1000,
			  .used_user_addr = at + 0x2000 },
	};

	return ask(sock, &m);
}

static int ask_fd(int sock, uint32_t request, unsigned index, int fd)
{
	struct vhost_user_msg m = {
		.request = request,
		.size = 8,
		.u64 = index | (fd < 0 ? VHOST_USER_VRING_NOFD : 0),
		.nfds = fd >= 0,
		.fd = { fd },
	};

	return ask(sock, &m);
}

Test(vhost_user_hostile, memory_tables_are_checked, .timeout = 60)
{
	const struct vhost_user_region good = { 0, RAM / 2, 0x10000, 0 };
	const struct vhost_user_region bad[][2] = {
		{ { 0, RAM / 2, 0x10000, 0 }, { RAM / 4, RAM / 2, 0x900000, RAM / 2 } },
		{ { 0, RAM, 0x10000, RAM / 2 }, { RAM, 4096, 0, 0 } },
		{ { 0, 0, 0x10000, 0 }, { RAM, 4096, 0, 0 } },
		{ { UINT64_MAX - 4095, 8192, 0x10000, 0 }, { 0, 4096, 0, 0 } },
		{ { 0, UINT64_MAX, 0x10000, 4096 }, { RAM, 4096, 0, 0 } },
		{ { 0, 4096, 0x10000, UINT64_MAX - 2047 }, { RAM, 4096, 0, 0 } },
	};
	struct vu_files files = vu_files_create(1 << 20);
	pid_t pid = vu_backend(&files, "");
	int ram = memory_fd(RAM), null = open("/dev/null", O_RDWR | O_CLOEXEC),
	    sock = greet(&files);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_eq(ask_table(sock, 1, &good, ram), 0);
		cr_expect_eq(ask_table(sock, 2, bad[i], ram), 1, "table %zu", i);
	}
	cr_expect_eq(ask_table(sock, 1, &good, null), 1);
	cr_expect_eq(ask_table(sock, 0, &good, ram), 0);
	cr_expect_eq(ask_table(sock, 1, &good, ram), 0);
	close(null);
	close(ram);
	close(sock);
	cr_assert_eq(vu_backend_end(pid, SIGTERM), 0);
	vu_files_destroy(&files);
}

Test(vhost_user_hostile, rings_are_checked, .timeout = 60)
{
	const struct vhost_user_region good = { 0, RAM, 0x10000, 0 };
	struct vu_files files = vu_files_create(1 << 20);
	pid_t pid = vu_backend(&files, "queue-size=64");
	int ram = memory_fd(RAM), sock = greet(&files);

	cr_expect_eq(ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 0), 1);
	cr_expect_eq(ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 65), 1);
	cr_expect_eq(ask_state(sock, VHOST_USER_SET_VRING_NUM, 1, 64), 1);
	cr_expect_eq(ask_state(sock, VHOST_USER_SET_VRING_NUM, 0xffffffff, 64), 1);
	cr_expect_eq(ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 64), 0);
	cr_expect_eq(ask_state(sock, VHOST_USER_SET_VRING_ENABLE, 0, 2), 1);
	cr_expect_eq(ask_fd(sock, VHOST_USER_SET_VRING_KICK, 0, eventfd(0, 0)), 1, "no address");
	cr_expect_eq(ask_addr(sock, 9, 0x10000), 1);
	cr_expect_eq(ask_addr(sock, 0, 0x10000), 0);
	cr_expect_eq(ask_fd(sock, VHOST_USER_SET_VRING_KICK, 0, eventfd(0, 0)), 1, "no memory");
	cr_expect_eq(ask_table(sock, 1, &good, ram), 0);
	cr_expect_eq(ask_addr(sock, 0, 0x10000 + RAM), 0);
	cr_expect_eq(ask_fd(sock, VHOST_USER_SET_VRING_KICK, 0, eventfd(0, 0)), 1, "outside");
	cr_expect_eq(ask_addr(sock, 0, 0x10000), 0);
	cr_expect_eq(ask_fd(sock, VHOST_USER_SET_VRING_KICK, 0, -1), 1, "polling");
	cr_expect_eq(ask_fd(sock, VHOST_USER_SET_VRING_KICK, 0, dup(ram)), 1, "no eventfd");
	cr_expect_eq(ask_fd(sock, VHOST_USER_SET_VRING_KICK, 0, eventfd(0, 0)), 0);
	/* Nothing of a ring that runs may change. */
	cr_expect_eq(ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 32), 1);
	cr_expect_eq(ask_state(sock, VHOST_USER_SET_VRING_BASE, 0, 3), 1);
	cr_expect_eq(ask_addr(sock, 0, 0x20000), 1);
	cr_expect_eq(ask_addr(sock, 0, 0x10000), 0, "the same again is fine");
	/* But memory may: the ring goes with it, or stops. */
	cr_expect_eq(ask_table(sock, 1, &good, ram), 0);
	cr_expect_eq(ask_table(sock, 0, &good, ram), 1);
	close(ram);
	close(sock);
	cr_assert_eq(vu_backend_end(pid, SIGTERM), 0);
	vu_files_destroy(&files);
}

/* The one thing that a front end can do to our process: and only to its own. */
Test(vhost_user_hostile, memory_that_is_taken_away, .timeout = 60)
{
	const struct vhost_user_region good = { 0, RAM, 0x10000, 0 };
	struct vu_files files = vu_files_create(1 << 20);
	pid_t pid = vu_backend(&files, "");
	int ram = memory_fd(RAM), sock = greet(&files), status;

	cr_assert_eq(ask_table(sock, 1, &good, ram), 0);
	cr_assert_eq(ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 64), 0);
	cr_assert_eq(ask_addr(sock, 0, 0x10000), 0);
	cr_assert_eq(ftruncate(ram, 0), 0);
	ask_fd(sock, VHOST_USER_SET_VRING_KICK, 0, eventfd(1, 0));
	ask_state(sock, VHOST_USER_SET_VRING_ENABLE, 0, 1);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "status %#x", status);
	close(ram);
	close(sock);
	/* The socket that it could not remove is no hindrance to the next. */
	pid = vu_backend(&files, "");
	cr_assert_eq(vu_backend_end(pid, SIGTERM), 0);
	vu_files_destroy(&files);
}

/* ---- our back end, at random ----------------------------------------------------------------- */

struct fuzz {
	uint64_t random;
	int sock, ram;
};

static uint64_t pick(struct fuzz *f, uint64_t n)
{
	return model_random(&f->random) % n;
}

static uint64_t value(struct fuzz *f)
{
	static const uint64_t interesting[] = { 0,	    1,		2,
						8,	    64,		0x10000,
						0x11000,    0x7fffffff, 1u << 20,
						1ull << 32, 1ull << 63, ~0ull,
						0x100,	    0x1ff,	BIT(30) | BIT(32),
						0x8000 };

	return pick(f, 3) ? interesting[pick(f, sizeof(interesting) / 8)]
			  : model_random(&f->random);
}

static int some_fd(struct fuzz *f)
{
	int pair[2];

	switch (pick(f, 6)) {
	case 0:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case 1:
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		close(pair[1]);
		return pair[0];
	case 2:
		cr_assert_eq(pipe(pair), 0);
		close(pair[0]);
		return pair[1];
	case 3:
		return dup(f->ram);
	default:
		return eventfd((unsigned)pick(f, 2), 0);
	}
}

/* One message: right in form as a rule, with contents that may be anything. */
static void random_message(struct fuzz *f, struct vhost_user_msg *m)
{
	static const uint8_t sizes[VHOST_USER_COUNT] = {
		[VHOST_USER_SET_FEATURES] = 8,	   [VHOST_USER_SET_PROTOCOL_FEATURES] = 8,
		[VHOST_USER_SET_VRING_NUM] = 8,	   [VHOST_USER_SET_VRING_BASE] = 8,
		[VHOST_USER_GET_VRING_BASE] = 8,   [VHOST_USER_SET_VRING_ENABLE] = 8,
		[VHOST_USER_SET_VRING_ADDR] = 40,  [VHOST_USER_SET_VRING_KICK] = 8,
		[VHOST_USER_SET_VRING_CALL] = 8,   [VHOST_USER_SET_VRING_ERR] = 8,
		[VHOST_USER_SET_STATUS] = 8,	   [VHOST_USER_GET_INFLIGHT_FD] = 24,
		[VHOST_USER_SET_INFLIGHT_FD] = 24, [VHOST_USER_ADD_MEM_REG] = 40,
		[VHOST_USER_REM_MEM_REG] = 40,
	};
	uint64_t *word = (uint64_t *)(void *)m->bytes;

	*m = (struct vhost_user_msg){ .request = (uint32_t)pick(f, VHOST_USER_COUNT + 1) };
	m->size = m->request < VHOST_USER_COUNT ? sizes[m->request] : 0;
	for (unsigned i = 0; i < sizeof(m->bytes) / 8; i++)
		word[i] = value(f);
	switch (m->request) {
	case VHOST_USER_SET_MEM_TABLE:
		m->memory.nregions = m->nfds = (uint32_t)pick(f, 3);
		m->size = 8 + 32 * m->nfds;
		break;
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		m->config.size = (uint32_t)pick(f, 66);
		m->size = 12 + m->config.size;
		break;
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		m->u64 = pick(f, 3) | (pick(f, 5) ? 0 : 0x100);
		m->nfds = !(m->u64 & 0x100);
		break;
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_ENABLE:
		m->state.index = (uint32_t)pick(f, 3);
		break;
	case VHOST_USER_SET_VRING_ADDR:
		m->addr.index = (uint32_t)pick(f, 3);
		break;
	case VHOST_USER_SET_INFLIGHT_FD:
	case VHOST_USER_ADD_MEM_REG:
		m->nfds = 1;
		break;
	case VHOST_USER_SET_FEATURES:
		m->u64 = pick(f, 2) ? V1 | BIT(30) : V1 | BIT(VIRTIO_F_RING_PACKED);
		break;
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		m->u64 = pick(f, 2) ? ACK_PROTOCOL : value(f);
		break;
	}
	if (pick(f, 30) == 0)
		m->size = (uint32_t)pick(f, 64);
	if (pick(f, 30) == 0)
		m->nfds = (unsigned)pick(f, 4);
	if (pick(f, 4) == 0)
		m->flags = VHOST_USER_NEED_REPLY;
	for (unsigned i = 0; i < m->nfds; i++)
		m->fd[i] = some_fd(f);
}

/* A ring that runs, from which chance goes on. */
static void start_ring(struct fuzz *f)
{
	const struct vhost_user_region good = { 0, RAM, 0x10000, 0 };

	ask_table(f->sock, 1, &good, f->ram);
	ask_state(f->sock, VHOST_USER_SET_VRING_NUM, 0, 64);
	ask_addr(f->sock, 0, 0x10000);
	ask_fd(f->sock, VHOST_USER_SET_VRING_CALL, 0, eventfd(0, 0));
	ask_fd(f->sock, VHOST_USER_SET_VRING_KICK, 0, eventfd(1, 0));
	ask_state(f->sock, VHOST_USER_SET_VRING_ENABLE, 0, 1);
}

static void scribble(struct fuzz *f)
{
	uint8_t byte = (uint8_t)value(f);

	for (unsigned i = 0; i < 40; i++)
		cr_assert_eq(pwrite(f->ram, &byte, 1, (off_t)pick(f, 0x3000)), 1);
}

/* Answers that come are read away; false: the back end has hung up. */
static bool drain_answers(int sock)
{
	uint8_t buf[512];
	struct pollfd p = { .fd = sock, .events = POLLIN };

	while (poll(&p, 1, 0) > 0)
		if (recv(sock, buf, sizeof(buf), MSG_DONTWAIT) <= 0)
			return false;
	return true;
}

Test(vhost_user_hostile, a_front_end_that_says_anything, .timeout = 240)
{
	struct vu_files files = vu_files_create(1 << 20);
	pid_t pid = vu_backend(&files, "queues=2");

	for (uint64_t seed = 1; seed <= 150; seed++) {
		struct fuzz f = { .random = seed, .ram = memory_fd(RAM), .sock = greet(&files) };
		uint64_t features = 0;
		int sock;

		if (seed % 2)
			start_ring(&f);
		for (unsigned i = 0; i < 60; i++) {
			struct vhost_user_msg m;
			struct error e;
			int err;

			random_message(&f, &m);
			err = vhost_user_send(f.sock, &m, 2000, &e);
			vhost_user_close_fds(&m);
			scribble(&f);
			if (err || !drain_answers(f.sock))
				break;
		}
		close(f.sock);
		close(f.ram);
		sock = vu_connect(&files);
		cr_assert_eq(vu_call_u64(sock, VHOST_USER_GET_FEATURES, &features), 0, "seed %llu",
			     (unsigned long long)seed);
		close(sock);
	}
	cr_assert_eq(vu_backend_end(pid, SIGTERM), 0);
	vu_files_destroy(&files);
}

/* ---- our front end --------------------------------------------------------------------------- */

/* A back end that plays its part well for so many messages, and then does as `fault` says. */
enum fault {
	FAULT_NONE,
	FAULT_HANGS_UP,
	FAULT_SILENT,
	FAULT_GARBAGE,
	FAULT_OTHER_REQUEST,
	FAULT_NO_REPLY_FLAG,
	FAULT_SIZE,
	FAULT_FDS,
	FAULT_VALUE,
	FAULT_REFUSES,
	FAULTS
};

struct liar {
	struct fuzz f;
	int listener, sock;
	unsigned good; /* messages */
	enum fault fault;
	bool stop;	/* atomic */
	uint32_t asked; /* what was answered wrongly; atomic */
	pthread_t thread;
};

static void good_answer(struct liar *l, struct vhost_user_msg *m)
{
	m->flags = VHOST_USER_REPLY;
	switch (m->request) {
	case VHOST_USER_GET_FEATURES:
		m->u64 = V1 | BIT(VHOST_USER_F_PROTOCOL_FEATURES) | BIT(VIRTIO_BLK_F_MQ);
		m->size = 8;
		break;
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		m->u64 = ACK_PROTOCOL | BIT(VHOST_USER_PROTOCOL_F_CONFIG) |
			 BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |
			 BIT(VHOST_USER_PROTOCOL_F_STATUS);
		m->size = 8;
		break;
	case VHOST_USER_GET_QUEUE_NUM:
		m->u64 = 1;
		m->size = 8;
		break;
	case VHOST_USER_GET_CONFIG:
		memset(m->config.data, 0, sizeof(m->config.data));
		m->config.data[1] = 8;
		break;
	case VHOST_USER_GET_INFLIGHT_FD:
		m->inflight.mmap_size = 65536;
		m->fd[0] = dup(l->f.ram);
		m->nfds = 1;
		break;
	case VHOST_USER_GET_VRING_BASE:
		m->state.num = 0;
		break;
	default:
		m->u64 = 0;
		m->size = 8;
	}
}

/* False: hung up. */
static bool wrong_answer(struct liar *l, struct vhost_user_msg *m)
{
	uint8_t garbage[64];

	__atomic_store_n(&l->asked, m->request, __ATOMIC_RELEASE);
	switch (l->fault) {
	case FAULT_HANGS_UP:
		return false;
	case FAULT_SILENT:
		m->request = 0;
		break;
	case FAULT_GARBAGE:
		for (unsigned i = 0; i < sizeof(garbage); i++)
			garbage[i] = (uint8_t)model_random(&l->f.random);
		if (send(l->sock, garbage, sizeof(garbage), MSG_NOSIGNAL) < 0)
			return false;
		m->request = 0;
		break;
	case FAULT_OTHER_REQUEST:
		m->request++;
		break;
	case FAULT_NO_REPLY_FLAG:
		m->flags = 0;
		break;
	case FAULT_SIZE:
		m->size = pick(&l->f, 2) ? m->size + 1 : m->size - 1;
		break;
	case FAULT_FDS:
		while (m->nfds < 2)
			m->fd[m->nfds++] = some_fd(&l->f);
		break;
	case FAULT_VALUE:
		for (unsigned i = 0; i < m->size / 8; i++)
			((uint64_t *)(void *)m->bytes)[i] = value(&l->f);
		break;
	case FAULT_REFUSES:
		m->u64 = 1;
		break;
	default:
		break;
	}
	return true;
}

/* One connection, until it ends. */
static void lie(struct liar *l)
{
	bool acks = false, on = true;

	while (on && !__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		struct pollfd p = { .fd = l->sock, .events = POLLIN };
		struct vhost_user_msg m;
		struct error e;
		bool answer;

		if (poll(&p, 1, 5) == 0)
			continue;
		if (vhost_user_recv(l->sock, &m, 1000, &e))
			return;
		answer = vhost_user_has_reply(m.request) ||
			 (acks && m.flags & VHOST_USER_NEED_REPLY);
		acks |= m.request == VHOST_USER_SET_PROTOCOL_FEATURES;
		vhost_user_close_fds(&m);
		if (!answer)
			continue;
		good_answer(l, &m);
		if (l->good)
			l->good--;
		else if (l->fault)
			on = wrong_answer(l, &m);
		if (on && m.request)
			on = vhost_user_send(l->sock, &m, 1000, &e) == 0;
		vhost_user_close_fds(&m);
	}
}

static void *liar_thread(void *arg)
{
	struct liar *l = arg;

	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		struct pollfd p = { .fd = l->listener, .events = POLLIN };

		if (poll(&p, 1, 5) == 0)
			continue;
		l->sock = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC);
		lie(l);
		close(l->sock);
	}
	return NULL;
}

/*
 * How long an answer is waited for: short where one is missing (whole or in part), for that is how
 * long the test takes; else so long that a busy machine is not taken for a silent back end.
 */
static const char *patience(enum fault fault)
{
	return fault == FAULT_SILENT || fault == FAULT_GARBAGE || fault == FAULT_SIZE
		       ? "timeout=2"
		       : "timeout=30";
}

/*
 * A machine with that back end: made, brought up by a driver, reset, taken apart. Whether it could
 * be made, and the message if not.
 */
static bool meet(const struct vu_files *files, unsigned good, enum fault fault, uint64_t seed,
		 struct error *e, uint32_t *asked)
{
	struct liar l = { .f = { .random = seed, .ram = memory_fd(65536) },
			  .good = good,
			  .fault = fault };
	struct vrig *r = vrig_create();
	struct device_config config;
	struct model d = { 0 };
	bool made;

	l.listener = vu_listen(files);
	cr_assert_eq(pthread_create(&l.thread, NULL, liar_thread, &l), 0);
	vrig_config(&config, &row_vhost_blk, files->sock, patience(fault));
	made = row_vhost_blk.create(&r->host, &config, &r->dev, e) == 0;
	if (made) {
		struct error ignored;

		r->dev->ops->reset(r->dev);
		cr_assert_eq(pci_root_assign(r->host.pci, &ignored), 0);
		r->dev->ops->start(r->dev, &ignored);
		r->dev->ops->destroy(r->dev);
		r->dev = NULL;
	}
	vrig_config_free(&config);
	__atomic_store_n(&l.stop, true, __ATOMIC_RELEASE);
	pthread_join(l.thread, NULL);
	*asked = l.asked;
	close(l.listener);
	close(l.f.ram);
	model_free(&d);
	vrig_destroy(r);
	return made;
}

Test(vhost_user_hostile, answers_at_the_start, .timeout = 240)
{
	static const struct {
		unsigned good;
		enum fault fault;
		const char *says;
	} cases[] = {
		{ 0, FAULT_HANGS_UP, "GET_FEATURES: the peer has hung up" },
		{ 0, FAULT_SILENT, "GET_FEATURES: the peer did not answer in time" },
		{ 0, FAULT_GARBAGE, "GET_FEATURES: the peer" },
		{ 0, FAULT_OTHER_REQUEST, "answered SET_FEATURES to GET_FEATURES" },
		{ 0, FAULT_NO_REPLY_FLAG, "answered GET_FEATURES to GET_FEATURES" },
		{ 0, FAULT_SIZE, "answered GET_FEATURES with" },
		{ 0, FAULT_FDS, "with 2 file descriptors" },
		{ 1, FAULT_SILENT, "GET_PROTOCOL_FEATURES: the peer did not answer in time" },
		{ 2, FAULT_REFUSES, "it refuses SET_OWNER" },
		{ 3, FAULT_VALUE, "it says that it has" },
		{ 4, FAULT_HANGS_UP, "cannot read its configuration space" },
		{ 4, FAULT_SIZE, "cannot read its configuration space" },
	};
	struct vu_files files = vu_files_create(4096);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error e = { .msg = "" };
		uint32_t asked;

		cr_expect_not(meet(&files, cases[i].good, cases[i].fault, 3, &e, &asked));
		cr_expect(strstr(e.msg, cases[i].says), "case %zu: \"%s\" does not say \"%s\"", i,
			  e.msg, cases[i].says);
		cr_expect(strstr(e.msg, files.sock), "\"%s\" does not name the socket", e.msg);
	}
	vu_files_destroy(&files);
}

static bool needs_reset(struct vrig *r)
{
	return vrig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* At run time: whatever it answers, the machine lives, and goes on when it behaves again. */
Test(vhost_user_hostile, answers_at_run_time, .timeout = 280)
{
	struct vu_files files = vu_files_create(4096);
	unsigned met[VHOST_USER_COUNT] = { 0 };

	for (uint64_t seed = 1; seed <= 60; seed++) {
		enum fault fault = (enum fault)(1 + seed % (FAULTS - 1));
		struct liar l = { .f = { .random = seed, .ram = memory_fd(65536) },
				  .good = 5 + (unsigned)(seed % 17),
				  .fault = fault };
		struct vrig *r;
		struct model d;

		if (fault == FAULT_SILENT && seed > 20)
			fault = l.fault = FAULT_HANGS_UP; /* each costs two seconds */
		l.listener = vu_listen(&files);
		cr_assert_eq(pthread_create(&l.thread, NULL, liar_thread, &l), 0);
		r = vrig_create();
		vrig_plug(r, &row_vhost_blk, files.sock, patience(fault));
		vrig_up(r, &d, 16, ~0ull);
		vrig_write(r, r->device + 32, 1, 0);
		r->dev->ops->pause(r->dev);
		for (unsigned i = 0; i < 3; i++) {
			struct error e;

			cr_assert_eq(r->dev->ops->start(r->dev, &e), 0);
			r->dev->ops->pause(r->dev);
		}
		vrig_set_status(r, 0);
		cr_assert_not(needs_reset(r));
		met[__atomic_load_n(&l.asked, __ATOMIC_ACQUIRE) % VHOST_USER_COUNT]++;
		model_free(&d);
		vrig_destroy(r);
		__atomic_store_n(&l.stop, true, __ATOMIC_RELEASE);
		pthread_join(l.thread, NULL);
		close(l.listener);
		close(l.f.ram);
	}
	/* It was wrong about most of what it can be asked then. */
	cr_assert(met[VHOST_USER_SET_FEATURES] && met[VHOST_USER_SET_MEM_TABLE] &&
		  met[VHOST_USER_GET_INFLIGHT_FD] && met[VHOST_USER_SET_VRING_KICK]);
	vu_files_destroy(&files);
}

/* ---- server=on ------------------------------------------------------------------------------- */

struct caller {
	struct liar l;
	struct vu_files *files;
	unsigned calls; /* atomic */
};

/* Connects again and again; each time it hangs up in the middle of something. */
static void *caller_thread(void *arg)
{
	struct caller *c = arg;

	while (!__atomic_load_n(&c->l.stop, __ATOMIC_ACQUIRE)) {
		c->l.sock = vu_connect(c->files);
		c->l.good = __atomic_load_n(&c->calls, __ATOMIC_ACQUIRE) < 3 ? 14 : 100000;
		__atomic_fetch_add(&c->calls, 1, __ATOMIC_ACQ_REL);
		lie(&c->l);
		close(c->l.sock);
	}
	return NULL;
}

Test(vhost_user_hostile, the_back_end_connects_to_us, .timeout = 60)
{
	struct vu_files files = vu_files_create(4096);
	struct caller c = { .l = { .f = { .ram = memory_fd(65536) }, .fault = FAULT_HANGS_UP },
			    .files = &files };
	struct vrig *r = vrig_create();
	struct model d;

	cr_assert_eq(pthread_create(&c.l.thread, NULL, caller_thread, &c), 0);
	vrig_plug(r, &row_vhost_blk, files.sock, "server=on");
	vrig_up(r, &d, 16, ~0ull);
	vrig_wait(__atomic_load_n(&c.calls, __ATOMIC_ACQUIRE) >= 4);
	cr_assert_not(needs_reset(r));
	__atomic_store_n(&c.l.stop, true, __ATOMIC_RELEASE);
	pthread_join(c.l.thread, NULL);
	model_free(&d);
	vrig_destroy(r);
	cr_assert_lt(access(files.sock, F_OK), 0, "the socket is left behind");
	close(c.l.f.ram);
	vu_files_destroy(&files);
}
