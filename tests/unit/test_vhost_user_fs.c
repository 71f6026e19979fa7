/*
 * --fs=vhost with the real virtiofsd and a driver in miniature: the session is begun, a file looked
 * up, opened and read, through the rings. Virtio 1.2 section 5.11; the requests are fuse(4)'s.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/registry.h"
#include "tests/unit/test_vhost_user_rig.h"

#define VIRTIOFSD "/usr/lib/qemu/virtiofsd"
#define V1	  MODEL_BIT(VIRTIO_F_VERSION_1)
#define IN	  MODEL_HIGH
#define OUT	  (MODEL_HIGH + 0x10000)
#define OUT_LEN	  8192u
#define TEXT	  "from the host\n"

/* Is somebody there, not only a name yet? It serves one connection in its life: not to be tried. */
static bool listens(const char *path)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[256], name[128];
	unsigned flags;
	bool found = false;

	cr_assert(f);
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*s %*s %*s %x %*s %*s %*s %127s", &flags, name) == 2 &&
			(flags & 0x10000) && strcmp(name, path) == 0;
	fclose(f);
	return found;
}

static pid_t virtiofsd(const struct vu_files *f)
{
	char socket_path[96], source[64];
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, ~0u, 0);
		snprintf(socket_path, sizeof(socket_path), "--socket-path=%s", f->sock);
		snprintf(source, sizeof(source), "source=%s", f->dir);
		execl(VIRTIOFSD, VIRTIOFSD, socket_path, "-o", source, "-o", "sandbox=chroot",
		      (char *)NULL);
		_exit(127);
	}
	for (unsigned i = 0; i < 4000 && !listens(f->sock); i++)
		usleep(2500);
	return pid;
}

struct session {
	struct vrig *r;
	struct model d[2];
	uint64_t unique;
};

/* One request on the request queue; what follows the answer's header, or NULL with its error. */
static void *ask(struct session *s, uint32_t opcode, uint64_t node, const void *arg, uint32_t len,
		 int *error)
{
	struct fuse_in_header header = {
		.len = (uint32_t)sizeof(header) + len,
		.opcode = opcode,
		.unique = ++s->unique,
		.nodeid = node,
	};
	const struct model_buf buf[] = { { IN, sizeof(header), false },
					 { IN + 4096, len, false },
					 { OUT, OUT_LEN, true } };
	struct fuse_out_header *out = model_at(&s->r->memory, OUT, OUT_LEN);

	memory_write(&s->r->memory, IN, &header, sizeof(header));
	memory_write(&s->r->memory, IN + 4096, arg, len);
	memset(out, 0, OUT_LEN);
	cr_assert_geq(model_add(&s->d[1], buf, 3, false), 0);
	vrig_kick(s->r, 1);
	vrig_wait_used(&s->d[1]);
	cr_assert_eq(out->unique, header.unique);
	*error = out->error;
	return out->error ? NULL : out + 1;
}

static void up(struct session *s)
{
	uint64_t features = vrig_offered(s->r) & V1;

	cr_assert(vrig_negotiate(s->r, features));
	for (unsigned i = 0; i < 2; i++) {
		model_init(&s->d[i], &s->r->memory, i * VRIG_QUEUE, 16, features);
		vrig_queue(s->r, i, &s->d[i]);
	}
	vrig_driver_ok(s->r);
}

static void down(struct session *s)
{
	vrig_set_status(s->r, 0);
	for (unsigned i = 0; i < 2; i++)
		model_free(&s->d[i]);
}

static void read_a_file(struct session *s)
{
	const struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = 31 };
	const struct fuse_open_in open_in = { .flags = O_RDONLY };
	struct fuse_read_in read_in = { .size = 4096 };
	const struct fuse_init_out *hello;
	const struct fuse_open_out *opened;
	const struct fuse_entry_out *entry;
	uint64_t node;
	const char *text;
	int error;

	hello = ask(s, FUSE_INIT, 0, &init, sizeof(init), &error);
	cr_assert_not_null(hello, "FUSE_INIT: %d", error);
	cr_assert_eq(hello->major, FUSE_KERNEL_VERSION);
	cr_assert_null(ask(s, FUSE_LOOKUP, FUSE_ROOT_ID, "nothing", 8, &error));
	cr_assert_eq(error, -ENOENT);
	entry = ask(s, FUSE_LOOKUP, FUSE_ROOT_ID, "image", 6, &error);
	cr_assert_not_null(entry, "FUSE_LOOKUP: %d", error);
	cr_assert_eq(entry->attr.size, strlen(TEXT));
	node = entry->nodeid;
	opened = ask(s, FUSE_OPEN, node, &open_in, sizeof(open_in), &error);
	cr_assert_not_null(opened, "FUSE_OPEN: %d", error);
	read_in.fh = opened->fh;
	text = ask(s, FUSE_READ, node, &read_in, sizeof(read_in), &error);
	cr_assert_not_null(text, "FUSE_READ: %d", error);
	cr_assert_str_eq(text, TEXT);
}

Test(vhost_user_fs, virtiofsd, .timeout = 120)
{
	struct vu_files files;
	struct session s = { 0 };
	pid_t pid;
	int fd, status;

	if (access(VIRTIOFSD, X_OK) < 0 || geteuid() != 0)
		cr_skip_test("%s is not installed, or this is not root", VIRTIOFSD);
	files = vu_files_create(0);
	fd = open(files.image, O_WRONLY | O_CLOEXEC);
	cr_assert_eq(write(fd, TEXT, strlen(TEXT)), (ssize_t)strlen(TEXT));
	close(fd);
	pid = virtiofsd(&files);
	s.r = vrig_create();
	vrig_plug(s.r, &row_vhost_fs, files.sock, "tag=shared");
	cr_assert_eq(vrig_read(s.r, s.r->device, 1), 's');
	cr_assert_eq(vrig_read(s.r, s.r->device + 36, 4), 1, "request queues");
	/* The second time as after a reboot. */
	for (unsigned i = 0; i < 2; i++) {
		up(&s);
		read_a_file(&s);
		down(&s);
	}
	/* Another one cannot go on with the session: the driver hears of it, and the machine lives.
	 */
	up(&s);
	read_a_file(&s);
	kill(pid, SIGKILL);
	vrig_wait(vrig_status(s.r) & VIRTIO_CONFIG_S_NEEDS_RESET);
	waitpid(pid, &status, 0);
	down(&s);
	pid = virtiofsd(&files);
	for (unsigned i = 0; i < 200; i++) {
		up(&s);
		if (!(vrig_status(s.r) & VIRTIO_CONFIG_S_NEEDS_RESET))
			break;
		down(&s);
		usleep(50000);
	}
	read_a_file(&s);
	down(&s);
	vrig_destroy(s.r);
	waitpid(pid, &status, 0); /* its only connection has gone */
	vu_files_destroy(&files);
}
