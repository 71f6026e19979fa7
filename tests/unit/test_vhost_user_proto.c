/*
 * Messages of vhost-user on a socket pair: what arrives as it was sent, what is refused, and that
 * no descriptor is left open whatever a peer does.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vhost/user_proto.h"
#include "tests/unit/test_virtq_model.h"

#define SOON 2000u

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void make_pair(int pair[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

/* Bytes, with n descriptors of /dev/null on the first one. */
static void send_raw(int sock, const void *buf, size_t len, unsigned n)
{
	char control[CMSG_SPACE(64 * sizeof(int))] = { 0 };
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fd[64];

	for (unsigned i = 0; i < n; i++)
		fd[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (n) {
		struct cmsghdr *c;

		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fd, n * sizeof(int));
	}
	cr_assert_eq(sendmsg(sock, &h, 0), (ssize_t)len);
	for (unsigned i = 0; i < n; i++)
		close(fd[i]);
}

static size_t header(uint8_t *buf, uint32_t request, uint32_t flags, uint32_t size)
{
	memcpy(buf, &(uint32_t[3]){ request, flags, size }, 12);
	memset(buf + 12, 0x5a, size > 1000 ? 1000 : size);
	return 12 + size;
}

Test(vhost_user_proto, what_is_sent_arrives)
{
	struct vhost_user_msg m = { .request = VHOST_USER_SET_MEM_TABLE }, got;
	struct error e = { .msg = "" };
	unsigned before = open_fds();
	int pair[2];

	make_pair(pair);
	m.memory.nregions = 8;
	m.size = 8 + 8 * sizeof(m.memory.region[0]);
	m.nfds = 8;
	for (unsigned i = 0; i < 8; i++) {
		m.memory.region[i].guest_addr = i * 77;
		m.fd[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	cr_assert_eq(vhost_user_send(pair[0], &m, SOON, &e), 0, "%s", e.msg);
	cr_assert_eq(vhost_user_recv(pair[1], &got, SOON, &e), 0, "%s", e.msg);
	cr_assert_eq(vhost_user_check_request(&got, &e), 0, "%s", e.msg);
	cr_assert_eq(got.memory.region[7].guest_addr, 539);
	cr_assert_eq(got.nfds, 8);
	close(vhost_user_take_fd(&got, 3));
	cr_assert_eq(vhost_user_take_fd(&got, 3), -1);
	cr_assert_eq(vhost_user_take_fd(&got, 8), -1);
	vhost_user_close_fds(&got);
	vhost_user_close_fds(&m);
	close(pair[0]);
	close(pair[1]);
	cr_assert_eq(open_fds(), before);
}

static void refused(const uint8_t *buf, size_t len, unsigned nfds, int err, const char *says)
{
	struct error e = { .msg = "" };
	unsigned before = open_fds();
	struct vhost_user_msg m;
	int pair[2], got;

	make_pair(pair);
	send_raw(pair[0], buf, len, nfds);
	close(pair[0]);
	got = vhost_user_recv(pair[1], &m, SOON, &e);
	if (!got) {
		got = vhost_user_check_request(&m, &e);
		vhost_user_close_fds(&m);
	}
	cr_expect_eq(got, err, "%d instead of %d: %s", got, err, e.msg);
	cr_expect(strstr(e.msg, says), "\"%s\" does not say \"%s\"", e.msg, says);
	close(pair[1]);
	cr_expect_eq(open_fds(), before, "descriptors are left open after: %s", e.msg);
}

Test(vhost_user_proto, damaged_messages_are_refused)
{
	uint8_t buf[1100] = { 0 };
	uint32_t n;

	refused(buf, 1, 0, -ECONNRESET, "hung up");
	refused(buf, header(buf, VHOST_USER_SET_FEATURES, 1, 8) - 1, 0, -ECONNRESET, "hung up");
	refused(buf, header(buf, VHOST_USER_SET_FEATURES, 2, 8), 0, -EPROTO, "version 1");
	refused(buf, header(buf, VHOST_USER_SET_FEATURES, 0, 8), 2, -EPROTO, "version 1");
	refused(buf, header(buf, VHOST_USER_SET_FEATURES, 1, 1000), 0, -EPROTO, "1000 bytes");
	refused(buf, header(buf, VHOST_USER_SET_FEATURES, 1, 7), 0, -EPROTO, "with 7 bytes");
	refused(buf, header(buf, VHOST_USER_SET_FEATURES, 1, 8), 1, -EPROTO, "1 file desc");
	refused(buf, header(buf, VHOST_USER_GET_FEATURES, 1, 4), 0, -EPROTO, "with 4 bytes");
	refused(buf, header(buf, VHOST_USER_SET_VRING_KICK, 1, 8), 2, -EPROTO, "2 file desc");
	refused(buf, header(buf, VHOST_USER_SET_VRING_KICK, 1, 8), 9, -EPROTO, "too many");
	refused(buf, header(buf, VHOST_USER_SET_VRING_KICK, 1, 8), 60, -EPROTO, "too many");
	refused(buf, header(buf, VHOST_USER_NONE, 1, 0), 0, -EPROTO, "unknown");
	refused(buf, header(buf, 30, 1, 0), 3, -EPROTO, "unknown");
	refused(buf, header(buf, 0xffffffff, 1, 0), 0, -EPROTO, "unknown");
	/* Payloads whose parts do not agree. */
	header(buf, VHOST_USER_SET_MEM_TABLE, 1, 8 + 32);
	n = 2;
	memcpy(buf + 12, &n, 4);
	refused(buf, 12 + 8 + 32, 1, -EPROTO, "SET_MEM_TABLE with 40 bytes");
	n = 0x10000001;
	memcpy(buf + 12, &n, 4);
	refused(buf, 12 + 8 + 32, 1, -EPROTO, "SET_MEM_TABLE");
	n = 1;
	memcpy(buf + 12, &n, 4);
	refused(buf, 12 + 8 + 32, 0, -EPROTO, "0 file desc");
	header(buf, VHOST_USER_GET_CONFIG, 1, 12 + 8);
	n = 9;
	memcpy(buf + 12 + 4, &n, 4);
	refused(buf, 12 + 20, 0, -EPROTO, "GET_CONFIG");
	n = 0xfffffffc;
	memcpy(buf + 12 + 4, &n, 4);
	refused(buf, 12 + 20, 0, -EPROTO, "GET_CONFIG");
}

/* Bytes that dribble in are put together; a peer that stops half-way is waited for no longer. */
Test(vhost_user_proto, short_reads_and_timeouts)
{
	struct error e = { .msg = "" };
	struct vhost_user_msg m;
	uint8_t buf[64];
	size_t len = header(buf, VHOST_USER_SET_FEATURES, 1, 8);
	int pair[2];
	pid_t pid;

	make_pair(pair);
	pid = fork();
	if (pid == 0) {
		for (size_t i = 0; i < len; i++) {
			usleep(500);
			if (write(pair[0], buf + i, 1) != 1)
				_exit(1);
		}
		pause();
	}
	cr_assert_eq(vhost_user_recv(pair[1], &m, SOON, &e), 0, "%s", e.msg);
	cr_assert_eq(m.u64, 0x5a5a5a5a5a5a5a5aull);
	cr_assert_eq(vhost_user_recv(pair[1], &m, 20, &e), -ETIMEDOUT);
	cr_assert(strstr(e.msg, "in time"));
	send_raw(pair[0], buf, 5, 1);
	cr_assert_eq(vhost_user_recv(pair[1], &m, 20, &e), -ETIMEDOUT);
	/* Nobody reads: the socket fills up. */
	m = (struct vhost_user_msg){ .request = VHOST_USER_SET_FEATURES, .size = 8 };
	for (unsigned i = 0; i < 1u << 16; i++)
		if (vhost_user_send(pair[0], &m, 20, &e))
			break;
	cr_assert(strstr(e.msg, "does not read"), "%s", e.msg);
	kill(pid, SIGKILL);
	close(pair[1]);
	cr_assert_eq(vhost_user_send(pair[0], &m, SOON, &e), -EPIPE);
	close(pair[0]);
}

static int reply(uint32_t request, uint32_t flags, uint32_t size, unsigned nfds, uint32_t to)
{
	struct vhost_user_msg m = {
		.request = request, .flags = flags, .size = size, .nfds = nfds
	};
	struct error e;

	return vhost_user_check_reply(&m, to, &e);
}

Test(vhost_user_proto, answers_must_fit_the_question)
{
	const uint32_t r = VHOST_USER_REPLY | 1;

	cr_expect_eq(reply(VHOST_USER_GET_FEATURES, r, 8, 0, VHOST_USER_GET_FEATURES), 0);
	cr_expect_eq(reply(VHOST_USER_SET_FEATURES, r, 8, 0, VHOST_USER_GET_FEATURES), -EPROTO);
	cr_expect_eq(reply(VHOST_USER_GET_FEATURES, 1, 8, 0, VHOST_USER_GET_FEATURES), -EPROTO);
	cr_expect_eq(reply(VHOST_USER_GET_FEATURES, r, 4, 0, VHOST_USER_GET_FEATURES), -EPROTO);
	cr_expect_eq(reply(VHOST_USER_GET_FEATURES, r, 8, 1, VHOST_USER_GET_FEATURES), -EPROTO);
	/* REPLY_ACK */
	cr_expect_eq(reply(VHOST_USER_SET_OWNER, r, 8, 0, VHOST_USER_SET_OWNER), 0);
	cr_expect_eq(reply(VHOST_USER_SET_CONFIG, r, 8, 0, VHOST_USER_SET_CONFIG), 0);
	cr_expect_eq(reply(VHOST_USER_SET_MEM_TABLE, r, 8, 0, VHOST_USER_SET_MEM_TABLE), 0);
	cr_expect_eq(reply(VHOST_USER_SET_OWNER, r, 0, 0, VHOST_USER_SET_OWNER), -EPROTO);
	/* A configuration that is refused is empty. */
	cr_expect_eq(reply(VHOST_USER_GET_CONFIG, r, 0, 0, VHOST_USER_GET_CONFIG), 0);
	cr_expect_eq(reply(VHOST_USER_GET_CONFIG, r, 11, 0, VHOST_USER_GET_CONFIG), -EPROTO);
	cr_expect_eq(reply(VHOST_USER_GET_INFLIGHT_FD, r, 24, 1, VHOST_USER_GET_INFLIGHT_FD), 0);
	cr_expect_eq(reply(VHOST_USER_GET_INFLIGHT_FD, r, 20, 1, VHOST_USER_GET_INFLIGHT_FD), 0);
	cr_expect_eq(reply(VHOST_USER_GET_INFLIGHT_FD, r, 24, 2, VHOST_USER_GET_INFLIGHT_FD),
		     -EPROTO);
}

/* Whatever comes, it ends, and nothing is left open. */
Test(vhost_user_proto, random_bytes)
{
	unsigned before = open_fds();
	uint64_t random = 1;

	for (unsigned i = 0; i < 3000; i++) {
		struct error e = { .msg = "" };
		struct vhost_user_msg m;
		uint8_t buf[400];
		size_t len = 1 + model_random(&random) % sizeof(buf);
		int pair[2];

		for (size_t b = 0; b < len; b++)
			buf[b] = (uint8_t)model_random(&random);
		if (len > 12 && i % 4)
			header(buf, (uint32_t)(model_random(&random) % 42), 1,
			       (uint32_t)(len - 12 - (i % 3)));
		make_pair(pair);
		send_raw(pair[0], buf, len, i % 10);
		close(pair[0]);
		while (vhost_user_recv(pair[1], &m, SOON, &e) == 0) {
			vhost_user_check_request(&m, &e);
			vhost_user_check_reply(&m, m.request, &e);
			vhost_user_close_fds(&m);
		}
		close(pair[1]);
	}
	cr_assert_eq(open_fds(), before);
}
