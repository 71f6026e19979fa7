/*
 * The vhost layer while a fake backend serves: where interrupts go, who goes on where after a
 * handover, and what happens when the backend fails, is gone, or comes back.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/test_vhost_pair.h"

static const struct model_buf one_buf = { MODEL_HIGH, 64, true };

/* ---- interrupts ------------------------------------------------------------------------------ */

static uint64_t table(struct pair *p, unsigned vector)
{
	struct vrig *r = p->r;
	uint32_t offset = (uint32_t)vrig_read(r, r->config + r->msix + PCI_MSIX_TABLE, 4);

	return (r->common & ~0xfffull) + (offset & PCI_MSIX_TABLE_OFFSET) + 16 * vector;
}

static bool pending(struct pair *p, unsigned vector)
{
	struct vrig *r = p->r;
	uint32_t offset = (uint32_t)vrig_read(r, r->config + r->msix + PCI_MSIX_PBA, 4);

	return vrig_read(r, (r->common & ~0xfffull) + (offset & PCI_MSIX_PBA_OFFSET), 8) >> vector &
	       1;
}

static int route_of(struct pair *p, int fd)
{
	for (int i = 0; i < FAKE_ROUTES; i++)
		if (p->r->chip.route[i].fd == fd)
			return i;
	return -1;
}

Test(vhost_run, the_vectors_eventfd_is_the_backends_call, .timeout = 30)
{
	struct pair p;
	int call, route;

	pair_setup(&p, FAKE_FEATURES, "");
	vrig_msix_enable(p.r, 3);
	pair_up(&p, V1);
	call = fake_vring(p.f, 0).call;
	route = route_of(&p, call);
	cr_assert_geq(route, 0, "not bound to the chip");
	cr_assert_eq(p.r->chip.route[route].data, 0x41);
	model_add(&p.d[0], &one_buf, 1, false);
	cr_assert_eq(fake_serve(p.f, 0, 64), 1);
	cr_assert(pair_signalled(call));
	cr_assert_eq(p.r->chip.messages, 0, "the chip gets it without us");

	/* Masked: unbound, and what comes is pending. The backend need not know. */
	cr_assert_eq(read(call, &(uint64_t){ 0 }, 8), 8);
	p.f->log[0] = '\0';
	vrig_write(p.r, table(&p, 1) + 12, 4, 1);
	cr_assert_eq(route_of(&p, call), -1);
	cr_assert(!pending(&p, 1));
	model_add(&p.d[0], &one_buf, 1, false);
	fake_serve(p.f, 0, 64);
	cr_assert(pending(&p, 1));
	vrig_write(p.r, table(&p, 1) + 12, 4, 0);
	cr_assert_geq(route_of(&p, call), 0);
	cr_assert(pair_signalled(call), "it waits in the eventfd for the chip");
	fake_check_log(p.f, "");
	pair_down(&p);
	pair_teardown(&p);
}

Test(vhost_run, another_vector_while_it_runs, .timeout = 30)
{
	struct pair p;
	int before, after;

	pair_setup(&p, FAKE_FEATURES, "");
	vrig_msix_enable(p.r, 3);
	pair_up(&p, V1);
	before = fake_vring(p.f, 0).call;
	p.f->log[0] = '\0';
	pair_set_vector(&p, 0, 0);
	fake_check_log(p.f, "call0");
	after = fake_vring(p.f, 0).call;
	cr_assert_neq(before, after);
	cr_assert_eq(p.r->chip.route[route_of(&p, after)].data, 0x40);
	/* None: nobody is interrupted, and nothing breaks. */
	pair_set_vector(&p, 0, 0xffff);
	fake_check_log(p.f, "call0");
	model_add(&p.d[0], &one_buf, 1, false);
	fake_serve(p.f, 0, 64);
	vrig_wait(!pair_signalled(fake_vring(p.f, 0).call));
	cr_assert_eq(p.r->chip.messages, 0);
	cr_assert_eq(vrig_read(p.r, p.r->isr, 1), 0);
	pair_down(&p);
	pair_teardown(&p);
}

Test(vhost_run, the_pin_where_there_are_no_messages, .timeout = 30)
{
	struct pair p;

	pair_setup(&p, FAKE_FEATURES, "");
	pair_up(&p, V1);
	for (unsigned i = 0; i < 3; i++) {
		model_add(&p.d[0], &one_buf, 1, false);
		fake_serve(p.f, 0, 64);
		vrig_wait(__atomic_load_n(&p.r->chip.level[17], __ATOMIC_SEQ_CST));
		cr_assert_eq(vrig_read(p.r, p.r->isr, 1), 1);
		cr_assert(!p.r->chip.level[17]);
	}
	/* Messages are turned on under way. */
	p.f->log[0] = '\0';
	vrig_msix_enable(p.r, 3);
	pair_set_vector(&p, 0, 1);
	pair_set_vector(&p, 1, 2);
	fake_check_log(p.f, "call0 call1");
	model_add(&p.d[0], &one_buf, 1, false);
	fake_serve(p.f, 0, 64);
	cr_assert(pair_signalled(fake_vring(p.f, 0).call));
	cr_assert(!p.r->chip.level[17]);
	/* And off again. */
	vrig_write(p.r, p.r->config + p.r->msix + PCI_MSIX_FLAGS, 2, 0);
	fake_check_log(p.f, "call0 call1");
	model_add(&p.d[0], &one_buf, 1, false);
	fake_serve(p.f, 0, 64);
	vrig_wait(__atomic_load_n(&p.r->chip.level[17], __ATOMIC_SEQ_CST));
	pair_down(&p);
	pair_teardown(&p);
}

static void mmio_set(struct vrig *r, unsigned offset, uint32_t value)
{
	vrig_write(r, VRIG_MMIO + offset, 4, value);
}

Test(vhost_run, the_line_of_the_mmio_transport, .timeout = 30)
{
	const uint32_t begun =
		VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
	struct vrig *r = vrig_create();
	struct fake_vhost *f = fake_vhost_create(FAKE_FEATURES);
	struct error e = { 0 };
	struct model d;

	cr_assert_eq(echo_make(r, f, "transport=mmio", &r->dev, &e), 0, "%s", e.msg);
	r->dev->ops->reset(r->dev);
	cr_assert_eq(r->dev->ops->start(r->dev, &e), 0);
	mmio_set(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	mmio_set(r, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	mmio_set(r, VIRTIO_MMIO_STATUS, begun);
	model_init(&d, &r->memory, 0, 16, V1);
	mmio_set(r, VIRTIO_MMIO_QUEUE_NUM, 16);
	mmio_set(r, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)d.config.desc);
	mmio_set(r, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)d.config.driver);
	mmio_set(r, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)d.config.device);
	mmio_set(r, VIRTIO_MMIO_QUEUE_READY, 1);
	mmio_set(r, VIRTIO_MMIO_STATUS, begun | VIRTIO_CONFIG_S_DRIVER_OK);
	fake_start_thread(f);
	for (unsigned i = 0; i < 3; i++) {
		model_add(&d, &one_buf, 1, false);
		mmio_set(r, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		vrig_wait_used(&d);
		vrig_wait(__atomic_load_n(&r->chip.level[VRIG_MMIO_GSI], __ATOMIC_SEQ_CST));
		cr_assert_eq(vrig_read(r, VRIG_MMIO + VIRTIO_MMIO_INTERRUPT_STATUS, 4), 1);
		mmio_set(r, VIRTIO_MMIO_INTERRUPT_ACK, 1);
		cr_assert(!r->chip.level[VRIG_MMIO_GSI]);
	}
	f->log[0] = '\0';
	mmio_set(r, VIRTIO_MMIO_QUEUE_READY, 0);
	fake_check_log(f, "stop disable0 base0");
	model_free(&d);
	vrig_destroy(r);
}

/* ---- handover -------------------------------------------------------------------------------- */

Test(vhost_run, a_queue_goes_to_us_and_back, .timeout = 30)
{
	static const char *const keys[] = { "", "ring=packed" };

	for (unsigned k = 0; k < 2; k++) {
		struct pair p;

		pair_setup(&p, FAKE_FEATURES, keys[k]);
		pair_up(&p, ~0ull);
		fake_start_thread(p.f);
		for (unsigned i = 0; i < 21; i++)
			cr_assert_eq(pair_request(&p, 0), BY_BACKEND);
		p.f->log[0] = '\0';
		vhost_plane_handover(&echo_in(p.r)->plane, 0);
		fake_check_log(p.f, STOP_LOG);
		for (unsigned i = 0; i < 21; i++)
			cr_assert_eq(pair_request(&p, 0), BY_US);
		vhost_plane_handover(&echo_in(p.r)->plane, 1);
		fake_check_log(p.f, "features memory vring0 enable0 start");
		cr_assert_eq(pair_request(&p, 0), BY_BACKEND);
		cr_assert_eq(pair_request(&p, 1), BY_US);
		vhost_plane_handover(&echo_in(p.r)->plane, 2);
		cr_assert_eq(pair_request(&p, 0), BY_BACKEND);
		cr_assert_eq(pair_request(&p, 1), BY_BACKEND);
		cr_assert_eq(vrig_status(p.r) & NEEDS_RESET, 0);
		pair_down(&p);
		pair_teardown(&p);
	}
}

struct mover {
	struct pair *p;
	bool stop; /* atomic */
	unsigned moves;
};

static void *move_thread(void *arg)
{
	struct mover *m = arg;
	uint64_t seed = 5;

	while (!__atomic_load_n(&m->stop, __ATOMIC_ACQUIRE)) {
		vhost_plane_handover(&echo_in(m->p->r)->plane, (unsigned)model_random(&seed) % 3);
		usleep((useconds_t)(model_random(&seed) % 2000));
		m->moves++;
	}
	return NULL;
}

/*
 * The driver keeps queues full and sleeps on interrupts while they change hands: every request is
 * used once (the model checks), none is forgotten, and no interrupt is lost.
 */
static void load(struct pair *p, unsigned rounds)
{
	unsigned out[ECHO_RINGS] = { 0 };
	uint64_t seed = 9;

	for (unsigned i = 0; i < rounds; i++) {
		unsigned q = i % ECHO_RINGS, n = 1 + (unsigned)model_random(&seed) % 8;
		struct model_used used;

		while (n-- && model_add(&p->d[q], &one_buf, 1, false) >= 0)
			out[q]++;
		if (model_must_kick(&p->d[q]))
			vrig_kick(p->r, q);
		while (model_used(&p->d[q], &used))
			out[q]--;
		if (out[q] < 8)
			continue;
		for (unsigned ms = 0; !model_sleep(&p->d[q]); ms++) {
			cr_assert_lt(ms, 5000, "queue %u stands still", q);
			usleep(1000);
		}
		model_busy(&p->d[q]);
	}
	for (unsigned q = 0; q < ECHO_RINGS; q++)
		for (; out[q]; out[q]--)
			vrig_wait_used(&p->d[q]);
}

Test(vhost_run, queues_change_hands_under_load, .timeout = 120)
{
	static const struct {
		const char *keys;
		uint64_t wanted;
		bool live;
	} cases[] = { { "", V1, true },
		      { "", ~0ull, true },
		      { "ring=packed", ~0ull, true },
		      { "ring=packed,event-idx=off", ~0ull, false } };

	for (unsigned c = 0; c < 4; c++) {
		struct pair p;
		struct mover m = { .p = &p };
		pthread_t thread;
		unsigned total;

		pair_setup(&p, FAKE_FEATURES, cases[c].keys);
		p.f->ops.live_rings = cases[c].live;
		pair_up(&p, cases[c].wanted);
		fake_start_thread(p.f);
		pthread_create(&thread, NULL, move_thread, &m);
		load(&p, 4000);
		__atomic_store_n(&m.stop, true, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
		cr_assert_eq(vrig_status(p.r) & NEEDS_RESET, 0);
		fake_stop_thread(p.f);
		total = p.f->ring[0].served + p.f->ring[1].served;
		cr_expect_gt(m.moves, 3);
		cr_expect_gt(total, 100, "%u by the backend", total);
		cr_expect_gt(echo_in(p.r)->served, 100, "%u by us", echo_in(p.r)->served);
		pair_down(&p);
		pair_teardown(&p);
	}
}

/* ---- trouble --------------------------------------------------------------------------------- */

Test(vhost_run, a_ring_the_backend_finds_broken_needs_reset, .timeout = 30)
{
	struct pair p;
	uint64_t one = 1;

	pair_setup(&p, FAKE_FEATURES, "");
	pair_up(&p, V1);
	fake_start_thread(p.f);
	pair_request(&p, 0);
	p.f->log[0] = '\0';
	cr_assert_eq(write(fake_vring(p.f, 0).err, &one, 8), 8);
	vrig_wait(vrig_status(p.r) & NEEDS_RESET);
	vrig_wait(strcmp(p.f->log, "disable0 base0") == 0);
	cr_assert_eq(pair_request(&p, 1), BY_BACKEND, "the other queue goes on");
	pair_down(&p);
	pair_up(&p, V1);
	cr_assert_eq(vrig_status(p.r) & NEEDS_RESET, 0);
	cr_assert_eq(pair_request(&p, 0), BY_BACKEND);
	pair_down(&p);
	pair_teardown(&p);
}

Test(vhost_run, a_call_that_fails_needs_reset, .timeout = 30)
{
	static const char *const calls[] = { "features", "memory", "vring1", "enable0", "start" };

	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct pair p;

		pair_setup(&p, FAKE_FEATURES, "");
		p.f->fail = calls[i];
		pair_up(&p, V1);
		cr_assert(vrig_status(p.r) & NEEDS_RESET, "%s", calls[i]);
		vrig_kick(p.r, 0);
		/* Not tried again before the driver says so. */
		p.f->log[0] = '\0';
		vrig_write(p.r, p.r->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		vrig_write(p.r, p.r->config + PCI_COMMAND, 2,
			   PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		fake_check_log(p.f, "");
		pair_down(&p);
		pair_teardown(&p);
	}
}

Test(vhost_run, a_backend_that_is_gone_needs_reset, .timeout = 30)
{
	struct pair p;

	pair_setup(&p, FAKE_FEATURES, "");
	pair_up(&p, V1);
	vhost_lost(&p.f->b, "hung up");
	cr_assert(vrig_status(p.r) & NEEDS_RESET);
	p.f->log[0] = '\0';
	vrig_kick(p.r, 0);
	vrig_set_status(p.r, 0);
	fake_check_log(p.f, "reset");
	/* Each driver hears of it, and the VM lives. */
	pair_down(&p);
	for (unsigned i = 0; i < FAKE_RINGS; i++)
		virtq_destroy(&p.f->ring[i].q);
	pair_up(&p, V1);
	cr_assert(vrig_status(p.r) & NEEDS_RESET);
	fake_check_log(p.f, "");
	pair_down(&p);
	pair_teardown(&p);
}

static void forget_rings(struct fake_vhost *f)
{
	pthread_mutex_lock(&f->lock);
	f->running = false;
	for (unsigned i = 0; i < FAKE_RINGS; i++) {
		virtq_destroy(&f->ring[i].q);
		f->ring[i] = (struct fake_ring){ 0 };
	}
	pthread_mutex_unlock(&f->lock);
}

Test(vhost_run, a_backend_that_returns_goes_on, .timeout = 30)
{
	struct pair p;
	struct virtq_chain *chain;

	pair_setup(&p, FAKE_FEATURES, "");
	p.f->b.returns = true;
	pair_up(&p, V1);
	for (unsigned i = 0; i < 3; i++) {
		model_add(&p.d[0], &one_buf, 1, false);
		fake_serve(p.f, 0, 64);
	}
	/* It dies with one request taken, and one not seen yet. */
	model_add(&p.d[0], &one_buf, 1, false);
	cr_assert_eq(virtq_pop(&p.f->ring[0].q, &chain, 1), 1);
	model_add(&p.d[0], &one_buf, 1, false);
	forget_rings(p.f);
	vhost_lost(&p.f->b, "hung up");
	cr_assert_eq(vrig_status(p.r) & NEEDS_RESET, 0, "the driver waits and need not know");
	vrig_kick(p.r, 0);
	p.f->log[0] = '\0';
	vhost_back(&p.f->b);
	fake_check_log(p.f, START_LOG);
	cr_assert_eq(fake_vring(p.f, 0).base.avail_idx, 3);
	cr_assert_eq(fake_serve(p.f, 0, 64), 2);
	for (unsigned i = 0; i < 5; i++)
		vrig_wait_used(&p.d[0]);

	/* It is away while the driver resets and begins anew. */
	forget_rings(p.f);
	vhost_lost(&p.f->b, "hung up");
	vrig_set_status(p.r, 0);
	pair_down(&p);
	pair_up(&p, V1);
	fake_check_log(p.f, "");
	cr_assert_eq(vrig_status(p.r) & NEEDS_RESET, 0);
	vhost_back(&p.f->b);
	fake_check_log(p.f, START_LOG);
	fake_start_thread(p.f);
	pair_request(&p, 0);
	pair_down(&p);
	pair_teardown(&p);
}

Test(vhost_run, one_that_returns_with_less_needs_reset)
{
	struct pair p;

	pair_setup(&p, FAKE_FEATURES, "");
	p.f->b.returns = true;
	pair_up(&p, ~0ull);
	forget_rings(p.f);
	vhost_lost(&p.f->b, "hung up");
	p.f->b.features = V1;
	p.f->b.returns = false;
	p.f->log[0] = '\0';
	vhost_back(&p.f->b);
	cr_assert(vrig_status(p.r) & NEEDS_RESET);
	fake_check_log(p.f, "");
	pair_down(&p);
	pair_teardown(&p);
}

/* Without a record of what was in flight nobody knows where a packed ring was left. */
Test(vhost_run, a_packed_ring_is_lost_with_its_backend)
{
	struct pair p;

	pair_setup(&p, FAKE_FEATURES, "ring=packed");
	p.f->b.returns = true;
	pair_up(&p, ~0ull);
	forget_rings(p.f);
	vhost_lost(&p.f->b, "hung up");
	cr_assert(vrig_status(p.r) & NEEDS_RESET);
	pair_down(&p);
	pair_teardown(&p);
}

static int recover_at_7(struct vhost *b, unsigned index, struct virtq_state *base)
{
	(void)b;
	(void)index;
	*base = (struct virtq_state){ 7, 7, true, true };
	return 0;
}

static int recover_outside(struct vhost *b, unsigned index, struct virtq_state *base)
{
	(void)b;
	(void)index;
	*base = (struct virtq_state){ 99, 7, true, true };
	return 0;
}

Test(vhost_run, a_backend_may_know_where_to_go_on)
{
	struct pair p;

	pair_setup(&p, FAKE_FEATURES, "ring=packed");
	p.f->b.returns = true;
	p.f->ops.recover = recover_at_7;
	pair_up(&p, ~0ull);
	forget_rings(p.f);
	vhost_lost(&p.f->b, "hung up");
	cr_assert_eq(vrig_status(p.r) & NEEDS_RESET, 0);
	vhost_back(&p.f->b);
	cr_assert_eq(fake_vring(p.f, 0).base.avail_idx, 7);
	/* What it says is checked. */
	p.f->ops.recover = recover_outside;
	forget_rings(p.f);
	vhost_lost(&p.f->b, "hung up");
	cr_assert(vrig_status(p.r) & NEEDS_RESET);
	pair_down(&p);
	pair_teardown(&p);
}

/* ---- a process that does not mean well ------------------------------------------------------- */

/* It has the open files of our eventfds, and with them their flags and counts. */
static void make_wait(int fd, uint64_t count)
{
	cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
	if (count)
		eventfd_write(fd, count);
}

Test(vhost_run, kicks_do_not_wait_for_a_process, .timeout = 30)
{
	struct pair p = { .r = vrig_create(), .f = fake_vhost_create(FAKE_FEATURES) };
	struct error e;

	p.f->b.process = true;
	p.f->closed = &p.closed;
	echo_plug(p.r, p.f, "");
	pair_up(&p, V1);
	for (unsigned i = 0; i < ECHO_RINGS; i++)
		make_wait(fake_vring(p.f, i).kick, UINT64_MAX - 1 - 1000);
	eventfd_write(fake_vring(p.f, 0).kick, 990);
	for (unsigned i = 0; i < 20; i++) {
		p.r->dev->ops->pause(p.r->dev);
		cr_assert_eq(p.r->dev->ops->start(p.r->dev, &e), 0);
		vrig_kick(p.r, 0);
	}
	cr_assert(pair_signalled(fake_vring(p.f, 0).kick));
	fake_start_thread(p.f);
	cr_assert_eq(pair_request(&p, 0), BY_BACKEND);
	fake_stop_thread(p.f);
	pair_down(&p);
	pair_teardown(&p);
}

struct teaser {
	int fd;
	bool stop; /* atomic */
};

static void *tease(void *arg)
{
	struct teaser *t = arg;

	while (!__atomic_load_n(&t->stop, __ATOMIC_ACQUIRE)) {
		eventfd_write(t->fd, 1);
		event_fd_take(t->fd);
	}
	return NULL;
}

static void nothing(void *arg)
{
	(void)arg;
}

/* Signals that are taken back before we look. */
Test(vhost_run, a_signal_that_is_taken_back, .timeout = 30)
{
	struct pair p;
	struct teaser t = { 0 };
	pthread_t thread;

	pair_setup(&p, FAKE_FEATURES, "");
	pair_up(&p, V1);
	t.fd = dup(fake_vring(p.f, 0).call);
	make_wait(t.fd, 0);
	cr_assert_eq(pthread_create(&thread, NULL, tease, &t), 0);
	for (unsigned i = 0; i < 2000; i++) {
		event_call(p.r->loop, nothing, NULL);
		usleep(50);
	}
	__atomic_store_n(&t.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	close(t.fd);
	pair_down(&p);
	pair_teardown(&p);
}
