/*
 * --blk=vhost:SOCKET with somebody else's back end: QEMU's storage daemon, where it is installed.
 * It has neither STATUS, RESET_DEVICE nor INFLIGHT, so this is the way of the bare protocol:
 * requests, the driver's resets, the daemon killed and started again.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/registry.h"
#include "tests/unit/test_vhost_user_rig.h"

#define DAEMON	"/usr/bin/qemu-storage-daemon"
#define SECTORS 4096u
#define NEVER	0xee

#define HEADER 0x600000ull
#define STATUS 0x610000ull
#define DATA   (MODEL_HIGH + 0x10000)

struct rig {
	struct vu_files files;
	struct vrig *r;
	struct model d;
	pid_t pid;
};

static pid_t start_daemon(const struct rig *rig)
{
	char blockdev[160], export[200];
	pid_t pid;

	snprintf(blockdev, sizeof(blockdev), "driver=file,node-name=f0,filename=%s",
		 rig->files.image);
	snprintf(export, sizeof(export),
		 "type=vhost-user-blk,id=e0,node-name=f0,writable=on,addr.type=unix,addr.path=%s",
		 rig->files.sock);
	unlink(rig->files.sock);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, ~0u, 0);
		execl(DAEMON, DAEMON, "--blockdev", blockdev, "--export", export, NULL);
		_exit(127);
	}
	close(vu_connect(&rig->files));
	return pid;
}

static struct rig rig_create(void)
{
	struct rig rig = { 0 };

	if (access(DAEMON, X_OK) < 0)
		cr_skip_test("there is no " DAEMON);
	rig.files = vu_files_create(SECTORS * 512ull);
	rig.pid = start_daemon(&rig);
	rig.r = vrig_create();
	vrig_plug(rig.r, &row_vhost_blk, rig.files.sock, "");
	return rig;
}

static void rig_destroy(struct rig *rig)
{
	model_free(&rig->d);
	vrig_destroy(rig->r);
	vu_backend_end(rig->pid, SIGTERM);
	vu_files_destroy(&rig->files);
}

static uint8_t status_of(struct rig *rig)
{
	return *(uint8_t *)model_at(&rig->r->memory, STATUS, 1);
}

static void add(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	const struct model_buf buf[3] = {
		{ HEADER, sizeof(header), false },
		{ DATA, len, type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID },
		{ STATUS, 1, true },
	};
	uint8_t never = NEVER;

	memory_write(&rig->r->memory, HEADER, &header, sizeof(header));
	memory_write(&rig->r->memory, STATUS, &never, 1);
	cr_assert_geq(model_add(&rig->d, buf, 3, rig->d.indirect), 0);
	vrig_kick(rig->r, 0);
}

static uint8_t request(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len)
{
	add(rig, type, sector, len);
	vrig_wait_used(&rig->d);
	return status_of(rig);
}

static void write_and_read(struct rig *rig, uint64_t sector, unsigned seed)
{
	uint8_t expected[4096];

	for (unsigned i = 0; i < sizeof(expected); i++)
		expected[i] = (uint8_t)(i * 13 + seed);
	memcpy(model_at(&rig->r->memory, DATA, 4096), expected, 4096);
	cr_assert_eq(request(rig, VIRTIO_BLK_T_OUT, sector, 4096), VIRTIO_BLK_S_OK);
	memset(model_at(&rig->r->memory, DATA, 4096), 0, 4096);
	cr_assert_eq(request(rig, VIRTIO_BLK_T_IN, sector, 4096), VIRTIO_BLK_S_OK);
	cr_assert_eq(memcmp(model_at(&rig->r->memory, DATA, 4096), expected, 4096), 0);
}

/* Driver after driver, as after a reboot or with the module loaded again; and pauses. */
Test(vhost_user_peers, daemon_resets, .timeout = 120)
{
	struct rig rig = rig_create();

	for (unsigned i = 0; i < 5; i++) {
		struct error e;

		vrig_up(rig.r, &rig.d, i % 2 ? 8 : 16, ~0ull);
		for (unsigned n = 0; n < 20; n++)
			write_and_read(&rig, 8 * n, n + i);
		rig.r->dev->ops->pause(rig.r->dev);
		add(&rig, VIRTIO_BLK_T_IN, 0, 512);
		usleep(2000);
		cr_assert_eq(status_of(&rig), NEVER);
		cr_assert_eq(rig.r->dev->ops->start(rig.r->dev, &e), 0, "%s", e.msg);
		vrig_wait_used(&rig.d);
		cr_assert_eq(status_of(&rig), VIRTIO_BLK_S_OK);
		model_free(&rig.d);
	}
	vrig_up(rig.r, &rig.d, 16, ~0ull);
	write_and_read(&rig, 0, 77);
	rig_destroy(&rig);
}

Test(vhost_user_peers, daemon_is_killed, .timeout = 120)
{
	struct rig rig = rig_create();

	vrig_up(rig.r, &rig.d, 16, ~0ull);
	for (unsigned i = 0; i < 3; i++) {
		write_and_read(&rig, 8, i);
		vu_backend_end(rig.pid, SIGKILL);
		add(&rig, VIRTIO_BLK_T_IN, 8, 4096);
		rig.pid = start_daemon(&rig);
		vrig_wait_used(&rig.d);
		cr_assert_eq(status_of(&rig), VIRTIO_BLK_S_OK);
	}
	/* The driver begins anew while nobody is there. */
	vu_backend_end(rig.pid, SIGKILL);
	model_free(&rig.d);
	vrig_up(rig.r, &rig.d, 8, ~0ull);
	rig.pid = start_daemon(&rig);
	write_and_read(&rig, 16, 5);
	rig_destroy(&rig);
}
