/*
 * vhost-user, our front end and our back end together: --blk=vhost:SOCKET with a model driver on
 * one side, `mvm backend blk` as a process on the other. Requests, configuration, features, queues;
 * the process killed under load and started again; the driver resetting, the machine pausing.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/registry.h"
#include "tests/unit/test_vhost_user_rig.h"

#define V1	 MODEL_BIT(VIRTIO_F_VERSION_1)
#define PACKED	 MODEL_BIT(VIRTIO_F_RING_PACKED)
#define INDIRECT MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define SECTORS	 4096u
#define NEVER	 0xee

/* Slot i of a test's requests: header, data (up to 4 KiB) and status. */
#define HEADER(i) (0x600000ull + 0x20 * (i))
#define STATUS(i) (0x610000ull + (i))
#define DATA(i)	  (MODEL_HIGH + 0x10000 + 0x1000ull * (i))

struct rig {
	struct vu_files files;
	struct vrig *r;
	struct model d;
	pid_t backend;
};

static struct rig rig_create(const char *backend_keys, const char *keys)
{
	struct rig rig = { .files = vu_files_create(SECTORS * 512ull) };

	rig.backend = vu_backend(&rig.files, backend_keys);
	rig.r = vrig_create();
	vrig_plug(rig.r, &row_vhost_blk, rig.files.sock, keys);
	return rig;
}

static void rig_destroy(struct rig *rig)
{
	int status;

	model_free(&rig->d);
	vrig_destroy(rig->r);
	status = vu_backend_end(rig->backend, SIGTERM);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
	vu_files_destroy(&rig->files);
}

static void put_request(struct rig *rig, unsigned slot, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	uint8_t never = NEVER;

	memory_write(&rig->r->memory, HEADER(slot), &header, sizeof(header));
	memory_write(&rig->r->memory, STATUS(slot), &never, 1);
}

static int add(struct rig *rig, struct model *d, unsigned slot, uint32_t type, uint64_t sector,
	       uint32_t len)
{
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct model_buf buf[3] = { { HEADER(slot), 16, false },
				    { DATA(slot), len, in },
				    { STATUS(slot), 1, true } };

	put_request(rig, slot, type, sector);
	if (len == 0)
		buf[1] = buf[2];
	return model_add(d, buf, len ? 3 : 2, d->indirect);
}

static uint8_t status_of(struct rig *rig, unsigned slot)
{
	return *(uint8_t *)model_at(&rig->r->memory, STATUS(slot), 1);
}

static uint8_t *data(struct rig *rig, unsigned slot)
{
	return model_at(&rig->r->memory, DATA(slot), 4096);
}

static uint8_t request(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len,
		       uint32_t *used)
{
	uint32_t n;

	cr_assert_geq(add(rig, &rig->d, 0, type, sector, len), 0);
	vrig_kick(rig->r, 0);
	n = vrig_wait_used(&rig->d).len;
	if (used)
		*used = n;
	return status_of(rig, 0);
}

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 13 + seed);
}

static void write_and_read(struct rig *rig, uint64_t sector, unsigned seed)
{
	uint8_t expected[4096];
	uint32_t used;

	fill(expected, 4096, seed);
	memcpy(data(rig, 0), expected, 4096);
	cr_assert_eq(request(rig, VIRTIO_BLK_T_OUT, sector, 4096, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(used, 1);
	memset(data(rig, 0), 0, 4096);
	cr_assert_eq(request(rig, VIRTIO_BLK_T_IN, sector, 4096, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(used, 4097);
	cr_assert_eq(memcmp(data(rig, 0), expected, 4096), 0);
}

static void good_requests(const char *backend_keys, const char *keys, uint64_t features)
{
	struct rig rig = rig_create(backend_keys, keys);
	uint8_t on_disk[4096], expected[4096];
	uint32_t used;
	int fd;

	vrig_up(rig.r, &rig.d, 16, features);
	write_and_read(&rig, 100, 5);
	cr_assert_eq(request(&rig, VIRTIO_BLK_T_FLUSH, 0, 0, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(request(&rig, VIRTIO_BLK_T_IN, SECTORS - 1, 512, NULL), VIRTIO_BLK_S_OK);
	cr_assert_eq(request(&rig, VIRTIO_BLK_T_IN, SECTORS, 512, NULL), VIRTIO_BLK_S_IOERR);
	memset(data(&rig, 0), 0xff, 20);
	cr_assert_eq(request(&rig, VIRTIO_BLK_T_GET_ID, 0, 20, &used), VIRTIO_BLK_S_OK);
	cr_assert_str_eq((char *)data(&rig, 0), "disk-of-mine");
	cr_assert_eq(request(&rig, 99, 0, 0, NULL), VIRTIO_BLK_S_UNSUPP);
	fd = open(rig.files.image, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(pread(fd, on_disk, 4096, 100 * 512), 4096);
	close(fd);
	fill(expected, 4096, 5);
	cr_assert_eq(memcmp(on_disk, expected, 4096), 0);
	rig_destroy(&rig);
}

Test(vhost_user, good_requests, .timeout = 120)
{
	good_requests("serial=disk-of-mine", "", ~0ull);
	good_requests("serial=disk-of-mine,ring=split", "", 0);
	good_requests("serial=disk-of-mine", "ring=packed", ~0ull);
	good_requests("serial=disk-of-mine,event-idx=off,iothread=off", "ring=packed",
		      ~0ull & ~INDIRECT);
}

static void read_config(struct rig *rig, struct virtio_blk_config *config)
{
	uint8_t *bytes = (uint8_t *)config;

	for (unsigned i = 0; i < sizeof(*config); i++)
		bytes[i] = (uint8_t)vrig_read(rig->r, rig->r->device + i, 1);
}

/* Offered is what both have; what the back end lacks the guest never sees. */
Test(vhost_user, features_and_configuration, .timeout = 120)
{
	struct rig rig = rig_create("ro=on,queues=4,event-idx=off", "queues=2");
	struct virtio_blk_config config;
	uint64_t offered = vrig_offered(rig.r);

	cr_expect(offered & MODEL_BIT(VIRTIO_BLK_F_RO));
	cr_expect(offered & MODEL_BIT(VIRTIO_BLK_F_MQ));
	cr_expect(offered & INDIRECT);
	cr_expect_not(offered & MODEL_BIT(VIRTIO_RING_F_EVENT_IDX));
	cr_expect_not(offered & PACKED);
	cr_expect_not(offered & MODEL_BIT(VIRTIO_BLK_F_DISCARD));
	cr_expect_not(offered & MODEL_BIT(VHOST_USER_F_PROTOCOL_FEATURES));
	read_config(&rig, &config);
	cr_expect_eq(config.capacity, SECTORS);
	cr_expect_eq(config.num_queues, 2);
	vrig_up(rig.r, &rig.d, 8, ~0ull);
	cr_expect_eq(request(&rig, VIRTIO_BLK_T_OUT, 0, 512, NULL), VIRTIO_BLK_S_IOERR);
	/* The cache's mode is the driver's to write, the rest is not. */
	vrig_write(rig.r, rig.r->device + offsetof(struct virtio_blk_config, wce), 1, 0);
	read_config(&rig, &config);
	cr_expect_eq(config.wce, 0);
	vrig_write(rig.r, rig.r->device, 4, 77);
	read_config(&rig, &config);
	cr_expect_eq(config.wce, 0);
	cr_expect_eq(config.capacity, SECTORS);
	rig_destroy(&rig);
}

Test(vhost_user, several_queues, .timeout = 120)
{
	struct rig rig = rig_create("queues=3", "queues=3,ring=packed");
	uint64_t features = vrig_offered(rig.r) & (V1 | PACKED | MODEL_BIT(VIRTIO_BLK_F_MQ));
	struct model d[3];

	cr_assert(vrig_negotiate(rig.r, features));
	for (unsigned i = 0; i < 3; i++) {
		model_init(&d[i], &rig.r->memory, VRIG_QUEUE * i, 8, features);
		vrig_queue(rig.r, i, &d[i]);
	}
	vrig_driver_ok(rig.r);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 3; i++) {
			fill(data(&rig, i), 4096, round + 100 * i);
			cr_assert_geq(add(&rig, &d[i], i, VIRTIO_BLK_T_OUT, 8 * i, 4096), 0);
			vrig_kick(rig.r, i);
		}
		for (unsigned i = 0; i < 3; i++) {
			vrig_wait_used(&d[i]);
			cr_assert_eq(status_of(&rig, i), VIRTIO_BLK_S_OK);
		}
	}
	for (unsigned i = 0; i < 3; i++)
		model_free(&d[i]);
	model_init(&rig.d, &rig.r->memory, 0, 8, features);
	rig_destroy(&rig);
}

/* The guest reboots, reloads its driver, the machine pauses; each time it goes on. */
Test(vhost_user, resets_and_pauses, .timeout = 120)
{
	static const char *const keys[] = { "", "ring=packed" };

	for (unsigned k = 0; k < 2; k++) {
		struct rig rig = rig_create("", keys[k]);
		struct error e;

		for (unsigned i = 0; i < 5; i++) {
			vrig_up(rig.r, &rig.d, i % 2 ? 8 : 16, ~0ull);
			for (unsigned n = 0; n < 30; n++)
				write_and_read(&rig, 8 * n, n + i);
			rig.r->dev->ops->pause(rig.r->dev);
			cr_assert_geq(add(&rig, &rig.d, 1, VIRTIO_BLK_T_IN, 0, 512), 0);
			vrig_kick(rig.r, 0);
			usleep(2000);
			cr_assert_eq(status_of(&rig, 1), NEVER);
			cr_assert_eq(rig.r->dev->ops->start(rig.r->dev, &e), 0);
			vrig_wait_used(&rig.d);
			cr_assert_eq(status_of(&rig, 1), VIRTIO_BLK_S_OK);
			model_free(&rig.d);
		}
		vrig_up(rig.r, &rig.d, 16, ~0ull);
		rig_destroy(&rig);
	}
}

/* ---- the back end dies ----------------------------------------------------------------------- */

#define SLOTS 8u

/* Each slot writes its own sectors over and over; what was last acknowledged must be there. */
struct load {
	struct rig rig;
	int id[SLOTS]; /* of the chain, or -1: none */
	unsigned round[SLOTS], done;
};

static void load_add(struct load *l, unsigned slot)
{
	l->round[slot]++;
	fill(data(&l->rig, slot), 4096, l->round[slot] * 31 + slot);
	l->id[slot] = add(&l->rig, &l->rig.d, slot, VIRTIO_BLK_T_OUT, slot * 8, 4096);
	cr_assert_geq(l->id[slot], 0);
	vrig_kick(l->rig.r, 0);
}

static void load_hear(struct load *l)
{
	struct model_used used;

	while (model_used(&l->rig.d, &used)) {
		unsigned slot = 0;

		while (slot < SLOTS && l->id[slot] != used.id)
			slot++;
		cr_assert_lt(slot, SLOTS, "a chain is used that was not made available");
		cr_assert_eq(status_of(&l->rig, slot), VIRTIO_BLK_S_OK);
		l->id[slot] = -1;
		l->done++;
	}
}

static void load_run(struct load *l, unsigned requests)
{
	unsigned target = l->done + requests;

	for (unsigned i = 0; i < 40000 && l->done < target; i++) {
		load_hear(l);
		for (unsigned slot = 0; slot < SLOTS; slot++)
			if (l->id[slot] < 0)
				load_add(l, slot);
		usleep(100);
	}
	cr_assert_geq(l->done, target, "requests are lost");
}

static void load_finish(struct load *l)
{
	uint8_t expected[4096], on_disk[4096];
	int fd;

	for (unsigned i = 0; i < SLOTS; i++) {
		for (unsigned n = 0; n < 40000 && l->id[i] >= 0; n++, usleep(250))
			load_hear(l);
		cr_assert_lt(l->id[i], 0, "a request is lost");
	}
	fd = open(l->rig.files.image, O_RDONLY | O_CLOEXEC);
	for (unsigned i = 0; i < SLOTS; i++) {
		fill(expected, 4096, l->round[i] * 31 + i);
		cr_assert_eq(pread(fd, on_disk, 4096, i * 4096), 4096);
		cr_assert_eq(memcmp(on_disk, expected, 4096), 0, "slot %u", i);
	}
	close(fd);
}

static void killed_under_load(const char *keys, uint64_t features, int number)
{
	struct load l = { .rig = rig_create("", keys) };

	vrig_up(l.rig.r, &l.rig.d, 32, features);
	for (unsigned i = 0; i < SLOTS; i++)
		l.id[i] = -1;
	for (unsigned i = 0; i < 6; i++) {
		load_run(&l, 100);
		vu_backend_end(l.rig.backend, number);
		l.rig.backend = vu_backend(&l.rig.files, "");
	}
	load_run(&l, 100);
	load_finish(&l);
	cr_assert_not(vrig_status(l.rig.r) & VIRTIO_CONFIG_S_NEEDS_RESET);
	rig_destroy(&l.rig);
}

Test(vhost_user, killed_and_started_again_under_load, .timeout = 240)
{
	killed_under_load("", ~0ull, SIGKILL);
	killed_under_load("ring=packed", ~0ull, SIGKILL);
	killed_under_load("ring=packed", ~INDIRECT, SIGKILL);
}

Test(vhost_user, ended_and_started_again_under_load, .timeout = 240)
{
	killed_under_load("", 0, SIGTERM);
	killed_under_load("ring=packed", ~0ull, SIGTERM);
}

/* The driver resets while nobody is there; whoever comes begins anew. */
Test(vhost_user, reset_while_it_is_gone, .timeout = 120)
{
	static const char *const keys[] = { "", "ring=packed" };

	for (unsigned k = 0; k < 2; k++) {
		struct rig rig = rig_create("", keys[k]);

		vrig_up(rig.r, &rig.d, 16, ~0ull);
		for (unsigned n = 0; n < 20; n++)
			write_and_read(&rig, n, n);
		vu_backend_end(rig.backend, SIGKILL);
		cr_assert_geq(add(&rig, &rig.d, 1, VIRTIO_BLK_T_IN, 0, 512), 0);
		vrig_kick(rig.r, 0);
		usleep(50000);
		model_free(&rig.d);
		vrig_up(rig.r, &rig.d, 16, ~0ull);
		cr_assert_geq(add(&rig, &rig.d, 2, VIRTIO_BLK_T_IN, 0, 512), 0);
		vrig_kick(rig.r, 0);
		rig.backend = vu_backend(&rig.files, "");
		vrig_wait_used(&rig.d);
		cr_assert_eq(status_of(&rig, 2), VIRTIO_BLK_S_OK);
		cr_assert_eq(status_of(&rig, 1), NEVER);
		write_and_read(&rig, 0, 9);
		rig_destroy(&rig);
	}
}

/* One that comes back with less than the driver uses is not taken. */
Test(vhost_user, comes_back_as_another, .timeout = 120)
{
	struct rig rig = rig_create("", "ring=packed");

	vrig_up(rig.r, &rig.d, 16, ~0ull);
	write_and_read(&rig, 0, 1);
	vu_backend_end(rig.backend, SIGKILL);
	rig.backend = vu_backend(&rig.files, "ring=split");
	cr_assert_geq(add(&rig, &rig.d, 1, VIRTIO_BLK_T_IN, 0, 512), 0);
	vrig_kick(rig.r, 0);
	usleep(300000);
	cr_assert_eq(status_of(&rig, 1), NEVER);
	vu_backend_end(rig.backend, SIGKILL);
	rig.backend = vu_backend(&rig.files, "");
	vrig_wait_used(&rig.d);
	cr_assert_eq(status_of(&rig, 1), VIRTIO_BLK_S_OK);
	rig_destroy(&rig);
}

/* ---- somebody else's back end ---------------------------------------------------------------- */

#define STORAGE_DAEMON "/usr/bin/qemu-storage-daemon"

static pid_t storage_daemon(const struct vu_files *f)
{
	char file[128], export[192];
	pid_t pid;

	snprintf(file, sizeof(file), "driver=file,node-name=f0,filename=%s", f->image);
	snprintf(export, sizeof(export),
		 "type=vhost-user-blk,id=e0,node-name=f0,writable=on,addr.type=unix,addr.path=%s,"
		 "num-queues=2",
		 f->sock);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, ~0u, 0);
		execl(STORAGE_DAEMON, STORAGE_DAEMON, "--blockdev", file, "--export", export,
		      (char *)NULL);
		_exit(127);
	}
	close(vu_connect(f));
	return pid;
}

Test(vhost_user, qemu_storage_daemon, .timeout = 120)
{
	struct rig rig = { .files = vu_files_create(SECTORS * 512ull) };

	if (access(STORAGE_DAEMON, X_OK) < 0) {
		vu_files_destroy(&rig.files);
		cr_skip_test("%s is not installed", STORAGE_DAEMON);
	}
	rig.backend = storage_daemon(&rig.files);
	rig.r = vrig_create();
	vrig_plug(rig.r, &row_vhost_blk, rig.files.sock, "");
	for (unsigned i = 0; i < 3; i++) {
		vrig_up(rig.r, &rig.d, 16, ~0ull);
		for (unsigned n = 0; n < 20; n++)
			write_and_read(&rig, 8 * n, n + i);
		cr_assert_eq(request(&rig, VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_OK);
		rig.r->dev->ops->pause(rig.r->dev);
		cr_assert_eq(rig.r->dev->ops->start(rig.r->dev, &(struct error){ 0 }), 0);
		write_and_read(&rig, 0, i);
		if (i < 2)
			model_free(&rig.d);
	}
	/* It dies and comes back; what it had not answered is asked again. */
	vu_backend_end(rig.backend, SIGKILL);
	cr_assert_geq(add(&rig, &rig.d, 1, VIRTIO_BLK_T_IN, 0, 512), 0);
	vrig_kick(rig.r, 0);
	rig.backend = storage_daemon(&rig.files);
	vrig_wait_used(&rig.d);
	cr_assert_eq(status_of(&rig, 1), VIRTIO_BLK_S_OK);
	model_free(&rig.d);
	vrig_destroy(rig.r);
	vu_backend_end(rig.backend, SIGTERM);
	vu_files_destroy(&rig.files);
}

/* server=on: the machine waits for the back end. */
Test(vhost_user, refusals_say_why, .timeout = 120)
{
	static const struct {
		const char *target, *keys, *says;
	} cases[] = {
		{ "/nonexistent/x.sock", "", "nobody listens there" },
		{ "SOCK", "ro=on", "ro= is for an image" },
		{ "SOCK", "queues=2", "2 queues, but SOCK has 1" },
		{ "SOCK", "ring=packed", "knows only split rings" },
		{ "/nonexistent/y.sock", "server=on", "cannot listen" },
		{ "DIR/z.sock", "server=on,timeout=1", "no back end has connected within 1 s" },
	};
	struct vu_files files = vu_files_create(1 << 20);
	pid_t pid = vu_backend(&files, "ring=split");
	struct vrig *r = vrig_create();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char target[96], says[96];
		struct device_config config;
		struct device *dev;
		struct error e = { .msg = "" };

		snprintf(target, sizeof(target), "%s%s",
			 strncmp(cases[i].target, "DIR", 3) == 0    ? files.dir
			 : strncmp(cases[i].target, "SOCK", 4) == 0 ? files.sock
								    : cases[i].target,
			 strncmp(cases[i].target, "DIR", 3) == 0 ? cases[i].target + 3 : "");
		snprintf(says, sizeof(says), "%s", cases[i].says);
		if (strstr(says, "SOCK"))
			snprintf(says, sizeof(says), "2 queues, but %s has 1", files.sock);
		vrig_config(&config, &row_vhost_blk, target, cases[i].keys);
		cr_expect_lt(row_vhost_blk.create(&r->host, &config, &dev, &e), 0);
		cr_expect(strstr(e.msg, says), "\"%s\" does not say \"%s\"", e.msg, says);
		vrig_config_free(&config);
	}
	vrig_destroy(r);
	vu_backend_end(pid, SIGTERM);
	vu_files_destroy(&files);
}
