/*
 * The vhost layer between a model driver and a fake backend: when rings start and stop, what the
 * backend is given, features, configuration space. Interrupts, handover and trouble are in
 * test_vhost_run.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_vhost_pair.h"

static const struct model_buf one_buf = { MODEL_HIGH, 64, true };

/* ---- start and stop -------------------------------------------------------------------------- */

Test(vhost, rings_start_at_driver_ok_and_stop_at_reset, .timeout = 30)
{
	static const char *const keys[] = { "", "ring=packed" };

	for (unsigned k = 0; k < 2; k++) {
		struct pair p;
		struct vhost_vring ring;

		pair_setup(&p, FAKE_FEATURES, keys[k]);
		pair_up(&p, ~0ull);
		fake_check_log(p.f, START_LOG);
		cr_assert_eq(p.f->features, (FAKE_FEATURES & vrig_offered(p.r)) | V1);
		for (unsigned i = 0; i < ECHO_RINGS; i++) {
			ring = fake_vring(p.f, i);
			cr_assert_eq(ring.size, 16);
			cr_assert_eq(ring.base.avail_idx, 0);
			cr_assert_eq(ring.base.avail_wrap, true);
			cr_assert_eq(ring.kick, echo_in(p.r)->v.queue[i].kick.fd);
			cr_assert(pair_signalled(ring.kick),
				  "what is there already must be looked at");
		}
		fake_start_thread(p.f);
		for (unsigned i = 0; i < 40; i++)
			cr_assert_eq(pair_request(&p, i % 2), BY_BACKEND);
		fake_stop_thread(p.f);
		cr_assert_eq(echo_in(p.r)->served, 0);
		vrig_set_status(p.r, 0);
		fake_check_log(p.f, STOP_LOG " reset");

		/* From the beginning, not from where it was. */
		pair_down(&p);
		pair_up(&p, ~0ull);
		fake_check_log(p.f, START_LOG);
		cr_assert_eq(fake_vring(p.f, 0).base.avail_idx, 0);
		pair_down(&p);
		pair_teardown(&p);
	}
}

Test(vhost, a_queue_the_driver_does_not_use_stays_out)
{
	struct pair p;

	pair_setup(&p, FAKE_FEATURES, "");
	cr_assert(vrig_negotiate(p.r, V1));
	p.f->log[0] = '\0';
	model_init(&p.d[1], &p.r->memory, 0, 16, V1);
	vrig_queue(p.r, 1, &p.d[1]);
	vrig_driver_ok(p.r);
	fake_check_log(p.f, "features memory vring1 enable1 start");
	vrig_set_status(p.r, 0);
	fake_check_log(p.f, "stop disable1 base1 reset");
	model_free(&p.d[1]);
	pair_teardown(&p);
}

Test(vhost, a_ring_outside_ram_never_gets_there)
{
	struct pair p;

	pair_setup(&p, FAKE_FEATURES, "");
	cr_assert(vrig_negotiate(p.r, V1));
	p.f->log[0] = '\0';
	model_init(&p.d[0], &p.r->memory, 0, 16, V1);
	p.d[0].config.device = MODEL_LOW;
	vrig_queue(p.r, 0, &p.d[0]);
	vrig_driver_ok(p.r);
	cr_assert(vrig_status(p.r) & NEEDS_RESET);
	fake_check_log(p.f, "");
	model_free(&p.d[0]);
	pair_teardown(&p);
}

Test(vhost, pause_and_bus_mastering_hold_the_backend, .timeout = 30)
{
	struct pair p;
	struct error e;

	pair_setup(&p, FAKE_FEATURES, "");
	pair_up(&p, V1);
	fake_start_thread(p.f);
	for (unsigned i = 0; i < 5; i++)
		pair_request(&p, 1);
	p.f->log[0] = '\0';
	p.r->dev->ops->pause(p.r->dev);
	fake_check_log(p.f, STOP_LOG);
	model_add(&p.d[1], &one_buf, 1, false);
	vrig_kick(p.r, 1);
	usleep(20000);
	cr_assert(!model_sleep(&p.d[1]), "served while paused");
	/* A second reason, and the first one goes: nothing happens. */
	vrig_write(p.r, p.r->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_assert_eq(p.r->dev->ops->start(p.r->dev, &e), 0);
	fake_check_log(p.f, "");
	vrig_write(p.r, p.r->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	fake_check_log(p.f, START_LOG);
	cr_assert_eq(fake_vring(p.f, 1).base.avail_idx, 5);
	cr_assert_eq(fake_vring(p.f, 1).base.used_idx, 5);
	vrig_wait_used(&p.d[1]);
	cr_assert_eq(pair_request(&p, 1), BY_BACKEND);
	pair_down(&p);
	pair_teardown(&p);
}

Test(vhost, one_queue_is_reset_while_the_other_runs, .timeout = 30)
{
	struct pair p;

	pair_setup(&p, FAKE_FEATURES, "");
	pair_up(&p, V1 | MODEL_BIT(VIRTIO_F_RING_RESET));
	fake_start_thread(p.f);
	pair_request(&p, 0);
	p.f->log[0] = '\0';
	pair_set_reg(&p, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	pair_set_reg(&p, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	fake_check_log(p.f, "disable0 base0");
	pair_request(&p, 1);
	model_free(&p.d[0]);
	model_init(&p.d[0], &p.r->memory, 0, 8, p.f->features);
	vrig_queue(p.r, 0, &p.d[0]);
	fake_check_log(p.f, "vring0 enable0");
	cr_assert_eq(fake_vring(p.f, 0).size, 8);
	cr_assert_eq(pair_request(&p, 0), BY_BACKEND);
	pair_down(&p);
	pair_teardown(&p);
}

/* A backend that starts and stops as a whole. */
Test(vhost, one_queue_is_reset_and_all_begin_again, .timeout = 30)
{
	struct pair p;

	pair_setup(&p, FAKE_FEATURES, "");
	p.f->ops.live_rings = false;
	pair_up(&p, V1 | MODEL_BIT(VIRTIO_F_RING_RESET));
	fake_start_thread(p.f);
	pair_request(&p, 1);
	p.f->log[0] = '\0';
	pair_set_reg(&p, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	pair_set_reg(&p, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	fake_check_log(p.f, STOP_LOG " features memory vring1 enable1 start");
	cr_assert_eq(fake_vring(p.f, 1).base.avail_idx, 1);
	pair_request(&p, 1);
	model_free(&p.d[0]);
	model_init(&p.d[0], &p.r->memory, 0, 8, p.f->features);
	vrig_queue(p.r, 0, &p.d[0]);
	fake_check_log(p.f, "stop disable1 base1 " START_LOG);
	pair_request(&p, 0);
	pair_request(&p, 1);
	pair_down(&p);
	pair_teardown(&p);
}

Test(vhost, rings_the_device_does_not_want_are_not_enabled, .timeout = 30)
{
	struct pair p;

	pair_setup(&p, FAKE_FEATURES, "");
	vhost_plane_enable(&echo_in(p.r)->plane, 1, false);
	pair_up(&p, V1);
	fake_check_log(p.f, "features memory vring0 vring1 enable0 start");
	vhost_plane_enable(&echo_in(p.r)->plane, 1, true);
	fake_check_log(p.f, "enable1");
	vhost_plane_enable(&echo_in(p.r)->plane, 0, false);
	fake_check_log(p.f, "disable0");
	fake_start_thread(p.f);
	cr_assert_eq(pair_request(&p, 1), BY_BACKEND);
	vrig_set_status(p.r, 0);
	fake_check_log(p.f, "stop base0 disable1 base1 reset");
	pair_down(&p);
	pair_teardown(&p);
}

/* ---- features -------------------------------------------------------------------------------- */

Test(vhost, the_guest_sees_what_both_have)
{
	const uint64_t ring =
		MODEL_BIT(VIRTIO_F_RING_RESET) | MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC);
	struct pair p;

	/* Bit 0 is the backend's to have, bit 1 ours alone; bit 5 the backend's alone. */
	pair_setup(&p, V1 | ring | MODEL_BIT(5), "");
	cr_assert_eq(vrig_offered(p.r), V1 | ring | MODEL_BIT(1));
	pair_up(&p, ~0ull);
	cr_assert_eq(p.f->features, V1 | ring);
	pair_down(&p);
	pair_teardown(&p);

	pair_setup(&p, V1 | MODEL_BIT(0), "indirect=off");
	cr_assert_eq(vrig_offered(p.r), V1 | 3);
	pair_teardown(&p);
}

Test(vhost, packed_rings_only_where_the_backend_has_them)
{
	struct vrig *r = vrig_create();
	struct device *dev;
	struct error e = { 0 };
	uint32_t closed = 0;
	struct fake_vhost *f = fake_vhost_create(V1);

	f->closed = &closed;
	cr_assert_eq(echo_make(r, f, "ring=packed", &dev, &e), -ENOTSUP);
	cr_assert_str_eq(e.msg, "ring=packed: fake knows only split rings; leave it out");
	cr_assert_eq(closed, 1);
	f = fake_vhost_create(0);
	cr_assert_eq(echo_make(r, f, "", &dev, &e), -ENOTSUP);
	vrig_destroy(r);
}

/* ---- configuration --------------------------------------------------------------------------- */

Test(vhost, configuration_space_of_the_backend)
{
	struct pair p;
	pid_t tid[4];

	pair_setup(&p, FAKE_FEATURES, "");
	cr_assert_eq(vrig_read(p.r, p.r->device, 4), 0);
	vrig_msix_enable(p.r, 3);
	pair_up(&p, V1);
	pair_set_reg(&p, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	memset(p.f->config, 0x5a, sizeof(p.f->config));
	vhost_config_changed(&p.f->b);
	cr_assert_eq(vrig_read(p.r, p.r->device + 8, 4), 0x5a5a5a5a);
	cr_assert_eq(p.r->chip.messages, 1);
	cr_assert_eq(p.r->chip.data, 0x40);
	vrig_write(p.r, p.r->device + 4, 2, 0x1234);
	cr_assert_eq(p.f->config[4], 0x34);
	cr_assert_eq(vrig_read(p.r, p.r->device + 4, 4), 0x5a5a1234);
	p.f->fail = "config";
	vrig_write(p.r, p.r->device + 4, 1, 0x99);
	cr_assert_eq(vrig_read(p.r, p.r->device + 4, 1), 0x34, "refused, and unchanged");
	cr_assert_eq(vhost_plane_tids(&echo_in(p.r)->plane, tid, 4), 1);
	cr_assert_eq(tid[0], 42);
	pair_down(&p);
	pair_teardown(&p);
}
