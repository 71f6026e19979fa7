/* See test_vhost_user_rig.h. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/registry.h"
#include "tests/unit/test_vhost_user_rig.h"
#include "vmm/command.h"

#define SOON 10000u

struct vu_files vu_files_create(uint64_t size)
{
	struct vu_files f = { .dir = "/tmp/mvm-vu-XXXXXX" };
	int fd;

	cr_assert_not_null(mkdtemp(f.dir));
	snprintf(f.image, sizeof(f.image), "%s/image", f.dir);
	snprintf(f.sock, sizeof(f.sock), "%s/x.sock", f.dir);
	fd = open(f.image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_eq(ftruncate(fd, (off_t)size), 0);
	close(fd);
	return f;
}

void vu_files_destroy(struct vu_files *f)
{
	unlink(f->image);
	unlink(f->sock);
	cr_assert_eq(rmdir(f->dir), 0, "something is left in %s", f->dir);
}

static struct sockaddr_un address(const struct vu_files *f)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->sock);
	return a;
}

int vu_connect(const struct vu_files *f)
{
	struct sockaddr_un a = address(f);

	for (unsigned i = 0; i < 4000; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
		close(fd);
		usleep(5000);
	}
	cr_assert_fail("nobody listens at %s", f->sock);
	return -1;
}

int vu_listen(const struct vu_files *f)
{
	struct sockaddr_un a = address(f);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unlink(f->sock);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, 4), 0);
	return fd;
}

pid_t vu_backend(const struct vu_files *f, const char *keys)
{
	char socket_option[96], operand[160];
	char *argv[] = { "mvm", "backend", "blk", socket_option, operand, NULL };
	pid_t pid;

	snprintf(socket_option, sizeof(socket_option), "--socket=%s", f->sock);
	snprintf(operand, sizeof(operand), "%s%s%s", f->image, *keys ? "," : "", keys);
	pid = fork();
	if (pid == 0) {
		struct error e = { .msg = "" };
		int status;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, ~0u, 0);
		status = command_run(command_find(device_commands, argv[1]), 4, argv + 1, stdout,
				     &e);
		if (e.msg[0])
			fprintf(stderr, "backend: %s\n", e.msg);
		_exit(status);
	}
	close(vu_connect(f));
	return pid;
}

int vu_backend_end(pid_t pid, int number)
{
	int status;

	kill(pid, number);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

int vu_call(int sock, struct vhost_user_msg *m)
{
	uint32_t request = m->request;
	struct error e = { .msg = "" };
	bool answer = vhost_user_has_reply(request) || m->flags & VHOST_USER_NEED_REPLY;
	int err = vhost_user_send(sock, m, SOON, &e);

	m->nfds = 0;
	if (!err && answer)
		err = vhost_user_recv(sock, m, SOON, &e);
	if (!err && answer)
		err = vhost_user_check_reply(m, request, &e);
	return err;
}

int vu_call_u64(int sock, uint32_t request, uint64_t *value)
{
	struct vhost_user_msg m = { .request = request };
	int err;

	if (!vhost_user_has_reply(request)) {
		m.u64 = *value;
		m.size = 8;
	}
	err = vu_call(sock, &m);
	*value = m.u64;
	return err;
}

int vu_ask(int sock, struct vhost_user_msg *m)
{
	m->flags = VHOST_USER_NEED_REPLY;
	return vu_call(sock, m) ? -1 : m->u64 != 0;
}

int vu_ask_state(int sock, uint32_t request, unsigned index, unsigned num)
{
	struct vhost_user_msg m = { .request = request,
				    .size = 8,
				    .state = { .index = index, .num = num } };

	return vu_ask(sock, &m);
}
