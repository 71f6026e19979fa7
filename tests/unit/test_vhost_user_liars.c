/*
 * Our vhost-user front end before a back end that answers anything, or not at all: what is wrong is
 * refused with a reason, the machine lives, and goes on when the back end behaves again.
 */
#include <criterion/criterion.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/registry.h"
#include "tests/unit/test_vhost_user_fuzz.h"

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
		m->size = fuzz_pick(&l->f, 2) ? m->size + 1 : m->size - 1;
		break;
	case FAULT_FDS:
		while (m->nfds < 2)
			m->fd[m->nfds++] = fuzz_fd(&l->f);
		break;
	case FAULT_VALUE:
		for (unsigned i = 0; i < m->size / 8; i++)
			((uint64_t *)(void *)m->bytes)[i] = fuzz_value(&l->f);
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
	struct liar l = { .f = { .random = seed, .ram = fuzz_ram(65536) },
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

Test(vhost_user_liars, answers_at_the_start, .timeout = 240)
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
Test(vhost_user_liars, answers_at_run_time, .timeout = 280)
{
	struct vu_files files = vu_files_create(4096);
	unsigned met[VHOST_USER_COUNT] = { 0 };

	for (uint64_t seed = 1; seed <= 60; seed++) {
		enum fault fault = (enum fault)(1 + seed % (FAULTS - 1));
		struct liar l = { .f = { .random = seed, .ram = fuzz_ram(65536) },
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

Test(vhost_user_liars, the_back_end_connects_to_us, .timeout = 60)
{
	struct vu_files files = vu_files_create(4096);
	struct caller c = { .l = { .f = { .ram = fuzz_ram(65536) }, .fault = FAULT_HANGS_UP },
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
