/*
 * Our vhost-user back end before a front end that breaks the rules. What is wrong is refused with a
 * reason, nothing crashes, nothing hangs, and the next one who behaves is served.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/registry.h"
#include "tests/unit/test_vhost_user_fuzz.h"

/* ---- our back end, by hand ------------------------------------------------------------------- */

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

/* As vu_ask(); the descriptors are closed. */
static int ask(int sock, struct vhost_user_msg *m)
{
	unsigned nfds = m->nfds;
	int fd[VHOST_USER_MAX_FDS], result;

	memcpy(fd, m->fd, sizeof(fd));
	result = vu_ask(sock, m);
	for (unsigned i = 0; i < nfds; i++)
		close(fd[i]);
	return result;
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
	int ram = fuzz_ram(RAM), null = open("/dev/null", O_RDWR | O_CLOEXEC), sock = greet(&files);

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
	int ram = fuzz_ram(RAM), sock = greet(&files);

	cr_expect_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 0), 1);
	cr_expect_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 65), 1);
	cr_expect_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_NUM, 1, 64), 1);
	cr_expect_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_NUM, 0xffffffff, 64), 1);
	cr_expect_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 64), 0);
	cr_expect_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_ENABLE, 0, 2), 1);
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
	cr_expect_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 32), 1);
	cr_expect_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_BASE, 0, 3), 1);
	cr_expect_eq(ask_addr(sock, 0, 0x20000), 1);
	cr_expect_eq(ask_addr(sock, 0, 0x10000), 0, "the same again is fine");
	/* But memory may: the ring goes with it, or waits. */
	cr_expect_eq(ask_table(sock, 1, &good, ram), 0);
	cr_expect_eq(ask_table(sock, 0, &good, ram), 0);
	cr_expect_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 32), 1);
	close(ram);
	close(sock);
	cr_assert_eq(vu_backend_end(pid, SIGTERM), 0);
	vu_files_destroy(&files);
}

/* Greets, shares the memory; ring 0 has its place there and can be started. */
static int greet_with_ring(const struct vu_files *f, int ram)
{
	const struct vhost_user_region good = { 0, RAM, 0x10000, 0 };
	int sock = greet(f);

	cr_assert_eq(ask_table(sock, 1, &good, ram), 0);
	cr_assert_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_NUM, 0, 64), 0);
	cr_assert_eq(ask_addr(sock, 0, 0x10000), 0);
	return sock;
}

/* Its eventfds are full and wait for room: we do not, and the next one is served. */
Test(vhost_user_hostile, eventfds_that_would_wait, .timeout = 60)
{
	struct vu_files files = vu_files_create(1 << 20);
	pid_t pid = vu_backend(&files, "");
	int ram = fuzz_ram(RAM), sock = greet_with_ring(&files, ram),
	    call = eventfd(0, EFD_CLOEXEC);

	cr_assert_eq(ask_fd(sock, VHOST_USER_SET_VRING_CALL, 0, dup(call)), 0);
	cr_assert_eq(ask_fd(sock, VHOST_USER_SET_VRING_ERR, 0, dup(call)), 0);
	cr_assert_eq(fcntl(call, F_SETFL, 0), 0);
	eventfd_write(call, UINT64_MAX - 1);
	/* A ring that starts calls. */
	cr_assert_eq(ask_fd(sock, VHOST_USER_SET_VRING_KICK, 0, eventfd(1, 0)), 0);
	cr_assert_eq(vu_ask_state(sock, VHOST_USER_SET_VRING_ENABLE, 0, 1), 0);
	close(ram);
	close(sock);
	close(greet(&files));
	close(call);
	cr_assert_eq(vu_backend_end(pid, SIGTERM), 0);
	vu_files_destroy(&files);
}

/* The one thing that a front end can do to our process: and only to its own. */
Test(vhost_user_hostile, memory_that_is_taken_away, .timeout = 60)
{
	struct vu_files files = vu_files_create(1 << 20);
	pid_t pid = vu_backend(&files, "");
	int ram = fuzz_ram(RAM), sock = greet_with_ring(&files, ram), status;

	cr_assert_eq(ftruncate(ram, 0), 0);
	ask_fd(sock, VHOST_USER_SET_VRING_KICK, 0, eventfd(1, 0));
	vu_ask_state(sock, VHOST_USER_SET_VRING_ENABLE, 0, 1);
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

	*m = (struct vhost_user_msg){ .request = (uint32_t)fuzz_pick(f, VHOST_USER_COUNT + 1) };
	m->size = m->request < VHOST_USER_COUNT ? sizes[m->request] : 0;
	for (unsigned i = 0; i < sizeof(m->bytes) / 8; i++)
		word[i] = fuzz_value(f);
	switch (m->request) {
	case VHOST_USER_SET_MEM_TABLE:
		m->memory.nregions = m->nfds = (uint32_t)fuzz_pick(f, 3);
		m->size = 8 + 32 * m->nfds;
		break;
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		m->config.size = (uint32_t)fuzz_pick(f, 66);
		m->size = 12 + m->config.size;
		break;
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		m->u64 = fuzz_pick(f, 3) | (fuzz_pick(f, 5) ? 0 : 0x100);
		m->nfds = !(m->u64 & 0x100);
		break;
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_ENABLE:
		m->state.index = (uint32_t)fuzz_pick(f, 3);
		break;
	case VHOST_USER_SET_VRING_ADDR:
		m->addr.index = (uint32_t)fuzz_pick(f, 3);
		break;
	case VHOST_USER_SET_INFLIGHT_FD:
	case VHOST_USER_ADD_MEM_REG:
		m->nfds = 1;
		break;
	case VHOST_USER_SET_FEATURES:
		m->u64 = fuzz_pick(f, 2) ? V1 | BIT(30) : V1 | BIT(VIRTIO_F_RING_PACKED);
		break;
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		m->u64 = fuzz_pick(f, 2) ? ACK_PROTOCOL : fuzz_value(f);
		break;
	}
	if (fuzz_pick(f, 30) == 0)
		m->size = (uint32_t)fuzz_pick(f, 64);
	if (fuzz_pick(f, 30) == 0)
		m->nfds = (unsigned)fuzz_pick(f, 4);
	if (fuzz_pick(f, 4) == 0)
		m->flags = VHOST_USER_NEED_REPLY;
	for (unsigned i = 0; i < m->nfds; i++)
		m->fd[i] = fuzz_fd(f);
}

/* A ring that runs, from which chance goes on. */
static void start_ring(struct fuzz *f)
{
	const struct vhost_user_region good = { 0, RAM, 0x10000, 0 };

	ask_table(f->sock, 1, &good, f->ram);
	vu_ask_state(f->sock, VHOST_USER_SET_VRING_NUM, 0, 64);
	ask_addr(f->sock, 0, 0x10000);
	ask_fd(f->sock, VHOST_USER_SET_VRING_CALL, 0, eventfd(0, 0));
	ask_fd(f->sock, VHOST_USER_SET_VRING_KICK, 0, eventfd(1, 0));
	vu_ask_state(f->sock, VHOST_USER_SET_VRING_ENABLE, 0, 1);
}

static void scribble(struct fuzz *f)
{
	uint8_t byte = (uint8_t)fuzz_value(f);

	for (unsigned i = 0; i < 40; i++)
		cr_assert_eq(pwrite(f->ram, &byte, 1, (off_t)fuzz_pick(f, 0x3000)), 1);
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
		struct fuzz f = { .random = seed, .ram = fuzz_ram(RAM), .sock = greet(&files) };
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
