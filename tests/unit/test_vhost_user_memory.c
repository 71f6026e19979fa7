/*
 * Our vhost-user back end while its front end changes memory under rings that run, region by
 * region, as QEMU does it (REM_MEM_REG of what changes, then ADD_MEM_REG): a ring without its
 * memory waits, and goes on where it was when the memory is there again.
 */
#include <criterion/criterion.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/test_vhost_user_fuzz.h"

#define PACKED	  BIT(VIRTIO_F_RING_PACKED)
#define USER_BASE (1ull << 40) /* where we say that we have the guest's memory */
#define NEVER	  0xee
#define RINGS	  2u

/* Slot i of a test's requests; all of it in the upper region. */
#define HEADER(i) (MODEL_HIGH + 0x400000 + 0x20 * (i))
#define STATUS(i) (MODEL_HIGH + 0x410000 + (i))
#define DATA(i)	  (MODEL_HIGH + 0x500000 + 0x1000ull * (i))

/* Ring 0 is in the lower region, ring 1 in the upper one. */
struct front {
	struct vu_files files;
	pid_t pid;
	int sock;
	struct guest_memory memory;
	struct vhost_user_region low, high;
	uint64_t features;
	struct model d[RINGS];
	int kick[RINGS];
};

static void ask(struct front *f, struct vhost_user_msg *m)
{
	cr_assert_eq(vu_ask(f->sock, m), 0, "request %u", m->request);
}

static void ask_state(struct front *f, uint32_t request, unsigned index, unsigned num)
{
	cr_assert_eq(vu_ask_state(f->sock, request, index, num), 0, "request %u", request);
}

static void ask_fd(struct front *f, uint32_t request, unsigned index, int fd)
{
	struct vhost_user_msg m = {
		.request = request, .size = 8, .u64 = index, .nfds = 1, .fd = { fd }
	};

	ask(f, &m);
}

static struct vhost_user_region region_of(const struct memory_region *r)
{
	return (struct vhost_user_region){ .guest_addr = r->gpa,
					   .size = r->size,
					   .user_addr = USER_BASE + r->gpa,
					   .mmap_offset = r->fd_offset };
}

static void add_region(struct front *f, const struct vhost_user_region *r)
{
	struct vhost_user_msg m = {
		.request = VHOST_USER_ADD_MEM_REG,
		.size = sizeof(m.slot),
		.slot = { .region = *r },
		.nfds = 1,
		.fd = { f->memory.fd },
	};

	ask(f, &m);
}

static void remove_region(struct front *f, const struct vhost_user_region *r)
{
	struct vhost_user_msg m = { .request = VHOST_USER_REM_MEM_REG,
				    .size = sizeof(m.slot),
				    .slot = { .region = *r } };

	ask(f, &m);
}

static void start_ring(struct front *f, unsigned i, unsigned base)
{
	struct vhost_user_msg m = {
		.request = VHOST_USER_SET_VRING_ADDR,
		.size = sizeof(m.addr),
		.addr = { .index = i,
			  .desc_user_addr = USER_BASE + f->d[i].config.desc,
			  .avail_user_addr = USER_BASE + f->d[i].config.driver,
			  .used_user_addr = USER_BASE + f->d[i].config.device },
	};

	ask_state(f, VHOST_USER_SET_VRING_NUM, i, f->d[i].size);
	ask_state(f, VHOST_USER_SET_VRING_BASE, i, base);
	ask(f, &m);
	ask_fd(f, VHOST_USER_SET_VRING_KICK, i, f->kick[i]);
	ask_state(f, VHOST_USER_SET_VRING_ENABLE, i, 1);
}

static unsigned stop_ring(struct front *f, unsigned i)
{
	struct vhost_user_msg m = { .request = VHOST_USER_GET_VRING_BASE,
				    .size = 8,
				    .state = { .index = i } };

	cr_assert_eq(vu_call(f->sock, &m), 0);
	return m.state.num;
}

static unsigned base_at_start(const struct front *f)
{
	return f->features & PACKED ? 1u << 15 | 1u << 31 : 0;
}

static void front_create(struct front *f, const char *keys, uint64_t ring, uint16_t size)
{
	uint64_t value = ACK_PROTOCOL | BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);

	f->files = vu_files_create(1 << 20);
	f->features = V1 | ring;
	f->pid = vu_backend(&f->files, keys);
	f->sock = vu_connect(&f->files);
	f->memory = model_memory();
	f->low = region_of(&f->memory.region[0]);
	f->high = region_of(&f->memory.region[1]);
	cr_assert_eq(vu_call_u64(f->sock, VHOST_USER_SET_PROTOCOL_FEATURES, &value), 0);
	value = f->features | BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	cr_assert_eq(vu_call_u64(f->sock, VHOST_USER_SET_FEATURES, &value), 0);
	add_region(f, &f->low);
	add_region(f, &f->high);
	for (unsigned i = 0; i < RINGS; i++) {
		model_init(&f->d[i], &f->memory, i * MODEL_HIGH, size, f->features);
		f->kick[i] = eventfd(0, EFD_CLOEXEC);
		start_ring(f, i, base_at_start(f));
	}
}

static void front_destroy(struct front *f)
{
	for (unsigned i = 0; i < RINGS; i++) {
		model_free(&f->d[i]);
		close(f->kick[i]);
	}
	close(f->sock);
	memory_destroy(&f->memory);
	cr_assert_eq(vu_backend_end(f->pid, SIGTERM), 0);
	vu_files_destroy(&f->files);
}

/* A write of one sector. */
static void add(struct front *f, unsigned ring, unsigned slot)
{
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_OUT, .sector = slot };
	const struct model_buf buf[3] = { { HEADER(slot), 16, false },
					  { DATA(slot), 512, false },
					  { STATUS(slot), 1, true } };
	uint64_t one = 1;

	memory_write(&f->memory, HEADER(slot), &header, sizeof(header));
	memset(model_at(&f->memory, STATUS(slot), 1), NEVER, 1);
	cr_assert_geq(model_add(&f->d[ring], buf, 3, false), 0);
	cr_assert_eq(write(f->kick[ring], &one, sizeof(one)), 8);
}

static uint8_t status_of(struct front *f, unsigned slot)
{
	return *(volatile uint8_t *)model_at(&f->memory, STATUS(slot), 1);
}

static void requests(struct front *f, unsigned ring, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		add(f, ring, i);
		vrig_wait_used(&f->d[ring]);
		cr_assert_eq(status_of(f, i), VIRTIO_BLK_S_OK);
	}
}

static void nothing_is_used(struct front *f, unsigned ring)
{
	struct model_used used;

	usleep(20000);
	cr_assert(!model_used(&f->d[ring], &used), "chain %u, which was done before", used.id);
}

static void goes_and_comes_back(uint64_t ring)
{
	struct front f;

	front_create(&f, "queues=2", ring, 8);
	requests(&f, 0, 5);
	requests(&f, 1, 11);
	remove_region(&f, &f.low);
	add(&f, 0, 20);
	nothing_is_used(&f, 0);
	cr_assert_eq(status_of(&f, 20), NEVER);
	requests(&f, 1, 3); /* it has its memory still */
	/* One after another, as with all regions of a machine. */
	remove_region(&f, &f.high);
	add(&f, 1, 21);
	nothing_is_used(&f, 1);
	add_region(&f, &f.high);
	vrig_wait_used(&f.d[1]);
	cr_assert_eq(status_of(&f, 20), NEVER);
	cr_assert_eq(status_of(&f, 21), VIRTIO_BLK_S_OK);
	add_region(&f, &f.low);
	vrig_wait_used(&f.d[0]);
	cr_assert_eq(status_of(&f, 20), VIRTIO_BLK_S_OK);
	nothing_is_used(&f, 0);
	requests(&f, 0, 20);
	requests(&f, 1, 20);
	front_destroy(&f);
}

Test(vhost_user_memory, a_region_goes_and_comes_back, .timeout = 60)
{
	goes_and_comes_back(0);
	goes_and_comes_back(PACKED);
}

/* What was taken is done while its memory is there; what was not, after it has come back. */
static void goes_while_requests_are_in_flight(uint64_t ring)
{
	struct front f;

	front_create(&f, "queues=2", ring, 32);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned slot = 0; slot < 8; slot++)
			add(&f, 0, slot);
		remove_region(&f, &f.low);
		remove_region(&f, &f.high);
		add_region(&f, &f.high);
		add_region(&f, &f.low);
		for (unsigned slot = 0; slot < 8; slot++)
			vrig_wait_used(&f.d[0]);
		for (unsigned slot = 0; slot < 8; slot++)
			cr_assert_eq(status_of(&f, slot), VIRTIO_BLK_S_OK);
	}
	nothing_is_used(&f, 0);
	front_destroy(&f);
}

Test(vhost_user_memory, a_region_goes_while_requests_are_in_flight, .timeout = 60)
{
	goes_while_requests_are_in_flight(0);
	goes_while_requests_are_in_flight(PACKED);
}

static void stops_without_its_memory(uint64_t ring)
{
	struct front f;
	unsigned at;

	front_create(&f, "queues=2", ring, 8);
	requests(&f, 0, 7);
	remove_region(&f, &f.low);
	at = stop_ring(&f, 0);
	cr_assert_eq(at & 0x7fff, f.d[0].avail);
	if (ring)
		cr_assert_eq(at >> 15 & 1, f.d[0].avail_wrap);
	cr_assert_eq(stop_ring(&f, 0), at, "it stays where it is");
	add_region(&f, &f.low);
	add(&f, 0, 20);
	nothing_is_used(&f, 0);
	start_ring(&f, 0, at);
	vrig_wait_used(&f.d[0]);
	requests(&f, 0, 20);
	front_destroy(&f);
}

Test(vhost_user_memory, a_ring_stops_without_its_memory, .timeout = 60)
{
	stops_without_its_memory(0);
	stops_without_its_memory(PACKED);
}

/* Half a used ring is none: the ring waits for the rest. */
Test(vhost_user_memory, a_region_comes_back_in_part, .timeout = 60)
{
	struct front f;
	struct vhost_user_region part;

	front_create(&f, "queues=2,queue-size=512", 0, 512);
	part = f.low;
	requests(&f, 0, 5);
	remove_region(&f, &f.low);
	part.size = MODEL_DEVICE + 4096;
	add_region(&f, &part);
	add(&f, 0, 20);
	nothing_is_used(&f, 0);
	remove_region(&f, &part);
	add_region(&f, &f.low);
	vrig_wait_used(&f.d[0]);
	requests(&f, 0, 20);
	front_destroy(&f);
}

/* Whoever goes on with a broken ring, after a change of memory too, does nothing again. */
static void broken_ring(uint64_t ring)
{
	const struct model_buf nowhere = { MODEL_HIGH * 4, 16, false };
	struct front f;
	uint16_t at;

	front_create(&f, "queues=2", ring, 32);
	requests(&f, 0, 5);
	at = f.d[0].avail;
	cr_assert_geq(model_add(&f.d[0], &nowhere, 1, false), 0);
	add(&f, 0, 20);
	nothing_is_used(&f, 0);
	remove_region(&f, &f.high);
	add_region(&f, &f.high);
	nothing_is_used(&f, 0);
	cr_assert_eq(stop_ring(&f, 0) & 0x7fff, at);
	front_destroy(&f);
}

Test(vhost_user_memory, a_broken_ring_is_where_it_broke, .timeout = 60)
{
	broken_ring(0);
	broken_ring(PACKED);
}
