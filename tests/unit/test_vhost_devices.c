/*
 * Devices on a vhost backend: which queues are whose, what the guest is offered, and what happens
 * to rings and filters when the driver or the cable says so. And what is said when there is no
 * backend.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio/vhost/generic.h"
#include "devices/virtio/vhost/kernel.h"
#include "devices/virtio/vhost/vdpa.h"
#include "tests/unit/test_net_rig.h"
#include "tests/unit/test_vhost_rig.h"

#define V1	    MODEL_BIT(VIRTIO_F_VERSION_1)
#define MRG	    MODEL_BIT(VIRTIO_NET_F_MRG_RXBUF)
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

/* ---- net ------------------------------------------------------------------------------------- */

static struct nrig *card(struct fake_vhost **f, unsigned pairs, uint64_t features)
{
	*f = fake_vhost_create(features);
	return nrig_create_vhost(pairs, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4, "", &(*f)->b);
}

static bool has(struct nrig *n, unsigned feature)
{
	return vrig_offered(n->v) & MODEL_BIT(feature);
}

Test(vhost_net, offers_what_tap_and_backend_have)
{
	struct fake_vhost *f;
	struct nrig *n = card(&f, 1, V1 | MRG);

	cr_assert(has(n, VIRTIO_NET_F_MRG_RXBUF));
	cr_assert(has(n, VIRTIO_NET_F_HOST_TSO4) && has(n, VIRTIO_NET_F_GUEST_CSUM));
	cr_assert(has(n, VIRTIO_NET_F_CTRL_VQ) && has(n, VIRTIO_NET_F_CTRL_RX));
	/* No one looks at each frame. */
	cr_assert(!has(n, VIRTIO_NET_F_CTRL_VLAN) && !has(n, VIRTIO_NET_F_CTRL_RX_EXTRA));
	cr_assert(!has(n, VIRTIO_RING_F_EVENT_IDX) && !has(n, VIRTIO_NET_F_MQ));
	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	cr_assert_eq(f->features, V1 | MRG, "it hears of its own features only");
	nrig_destroy(n);

	n = card(&f, 1, V1);
	cr_assert(!has(n, VIRTIO_NET_F_MRG_RXBUF));
	nrig_destroy(n);
}

/* As DPDK's, which has no segmentation unless told, but ECN for it. */
Test(vhost_net, offers_nothing_that_wants_what_is_not_offered)
{
	const uint64_t ecn = MODEL_BIT(VIRTIO_NET_F_HOST_ECN) | MODEL_BIT(VIRTIO_NET_F_GUEST_ECN);
	const uint64_t tso = MODEL_BIT(VIRTIO_NET_F_HOST_TSO4) | MODEL_BIT(VIRTIO_NET_F_GUEST_TSO4);
	const uint64_t csum = MODEL_BIT(VIRTIO_NET_F_CSUM) | MODEL_BIT(VIRTIO_NET_F_GUEST_CSUM);
	static const struct {
		bool has_csum, has_tso;
	} cases[] = { { true, true }, { true, false }, { false, true }, { false, false } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fake_vhost *f =
			fake_vhost_create(FAKE_FEATURES | ecn | (cases[i].has_csum ? csum : 0) |
					  (cases[i].has_tso ? tso : 0));
		uint64_t offered, expected = 0;
		struct nrig *n;

		f->b.own = ecn | tso | csum;
		n = nrig_create_vhost(1, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_ECN, "",
				      &f->b);
		offered = vrig_offered(n->v);
		if (cases[i].has_csum)
			expected = csum | (cases[i].has_tso ? tso | ecn : 0);
		cr_expect_eq(offered & (ecn | tso | csum), expected, "case %zu: %#llx", i,
			     (unsigned long long)offered);
		cr_expect(vrig_negotiate(n->v, offered), "case %zu", i);
		nrig_destroy(n);
	}
}

Test(vhost_net, pairs_the_driver_uses_run, .timeout = 30)
{
	struct fake_vhost *f;
	struct nrig *n = card(&f, 2, FAKE_FEATURES);
	uint16_t pairs;

	f->log[0] = '\0';
	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	fake_check_log(f,
		       "reset features memory vring0 vring1 vring2 vring3 enable0 enable1 start");
	pairs = 2;
	cr_assert_eq(
		nrig_command(n, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, 2),
		VIRTIO_NET_OK);
	fake_check_log(f, "enable2 enable3");
	cr_assert(n->net->queue[1].enabled, "the tap's queue as well");
	pairs = 1;
	cr_assert_eq(
		nrig_command(n, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, 2),
		VIRTIO_NET_OK);
	fake_check_log(f, "disable2 disable3");
	cr_assert(!n->net->queue[1].enabled);
	vrig_set_status(n->v, 0);
	fake_check_log(f, "stop disable0 base0 disable1 base1 base2 base3 reset");

	/* Without MQ the control queue stands where the second pair would be. */
	nrig_up(n, NRIG_ALL & ~MODEL_BIT(VIRTIO_NET_F_MQ), NRIG_SIZE);
	fake_check_log(f, "reset features memory vring0 vring1 enable0 enable1 start");
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI,
				  &(uint8_t){ 1 }, 1),
		     VIRTIO_NET_OK);
	fake_check_log(f, "");
	nrig_destroy(n);
}

Test(vhost_net, the_cable, .timeout = 30)
{
	struct fake_vhost *f;
	struct nrig *n = card(&f, 2, FAKE_FEATURES);

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	f->log[0] = '\0';
	virtio_net_set_link(n->v->dev, false);
	fake_check_log(f, "disable0 disable1");
	cr_assert_eq(vrig_read(n->v, n->v->device + 6, 2) & VIRTIO_NET_S_LINK_UP, 0);
	virtio_net_set_link(n->v->dev, true);
	fake_check_log(f, "enable0 enable1");
	nrig_destroy(n);
}

static int set_mode(struct nrig *n, uint8_t mode, uint8_t on)
{
	return nrig_command(n, VIRTIO_NET_CTRL_RX, mode, &on, 1);
}

Test(vhost_net, filters_where_the_frames_come_from, .timeout = 30)
{
	static const uint8_t tables[] = { 1, 0, 0, 0, 2, 0, 0,	  0, 0, 5, /* one unicast */
					  1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 9 };
	uint8_t many[8 + 6 * 65] = { 65 };
	struct fake_vhost *f;
	struct nrig *n = card(&f, 1, FAKE_FEATURES);

	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	cr_assert_eq(n->net->filter, 0, "promiscuous until told otherwise");
	cr_assert_eq(set_mode(n, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	cr_assert_eq(n->net->filter, 1);
	cr_assert_arr_eq(n->net->filter_mac[0], "\x52\x54\x00\x6d\x76\x00", 6);
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables,
				  sizeof(tables)),
		     VIRTIO_NET_OK);
	cr_assert_eq(n->net->filter, 3);
	cr_assert_arr_eq(n->net->filter_mac[1], tables + 4, 6);
	cr_assert_arr_eq(n->net->filter_mac[2], tables + 14, 6);
	cr_assert_eq(set_mode(n, VIRTIO_NET_CTRL_RX_ALLMULTI, 1), VIRTIO_NET_OK);
	cr_assert_eq(n->net->allmulti, true);
	/* More than we keep: all pass. */
	cr_assert_eq(nrig_command(n, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, many,
				  sizeof(many)),
		     VIRTIO_NET_OK);
	cr_assert_eq(n->net->filter, 0);
	/* What nobody can do is not offered, and refused. */
	cr_assert_eq(set_mode(n, VIRTIO_NET_CTRL_RX_NOBCAST, 1), VIRTIO_NET_ERR);
	vrig_set_status(n->v, 0);
	cr_assert(!n->net->allmulti && n->net->filter == 0);
	nrig_destroy(n);
}

/* Frames by the backend, by us, and by the backend again; the driver has the same queues. */
Test(vhost_net, frames_go_another_way_and_back, .timeout = 30)
{
	const struct model_buf buf = { NRIG_BUFFERS, 2048, true };
	uint8_t frame[NET_HEADER + 100];
	struct fake_vhost *f;
	struct nrig *n = card(&f, 1, FAKE_FEATURES | MRG);
	struct virtio_net *vn = virtio_net_of((struct virtio_device *)n->v->dev);

	nrig_fill(frame, 100, 7);
	nrig_up(n, NRIG_ALL, NRIG_SIZE);
	fake_start_thread(f);
	nrig_add(n, 0, &buf, 1);
	cr_assert_eq(vrig_wait_used(&n->queue[0]).len, 64, "by the backend");
	vhost_plane_handover(&vn->plane, 0);
	nrig_add(n, 0, &buf, 1);
	nrig_add(n, 0, &buf, 1);
	fake_net_inject(n->net, 0, frame, sizeof(frame));
	cr_assert_eq(vrig_wait_used(&n->queue[0]).len, sizeof(frame), "by us");
	/* A buffer that we had taken goes back, and on. */
	vhost_plane_handover(&vn->plane, 2);
	cr_assert_eq(vrig_wait_used(&n->queue[0]).len, 64, "by the backend");
	fake_net_inject(n->net, 0, frame, sizeof(frame));
	nrig_settle(n, 0);
	cr_assert(fake_net_pending(n->net, 0), "we read the backend's frames");
	fake_stop_thread(f);
	nrig_destroy(n);
}

/* ---- vsock ----------------------------------------------------------------------------------- */

static int create_vsock(struct device_host *host, const struct device_config *config, void *arg,
			struct device **out, struct error *e)
{
	return vhost_vsock_create(host, config, arg, out, e);
}

Test(vhost_vsock, the_event_queue_is_ours, .timeout = 30)
{
	const struct model_buf event = { MODEL_HIGH, sizeof(struct virtio_vsock_event), true };
	const struct model_buf tiny = { MODEL_HIGH, 1, true };
	struct fake_vhost *f = fake_vhost_create(FAKE_FEATURES | MODEL_BIT(1));
	struct vrig *r = vrig_create();
	struct model d[3];

	f->ops.live_rings = false;
	vrig_plug_with(r, &row_vhost_vsock, "cid=77", create_vsock, &f->b);
	cr_assert(vrig_offered(r) & MODEL_BIT(1), "SEQPACKET, as the backend has it");
	cr_assert_eq(vrig_read(r, r->device, 8), 77);
	cr_assert(vrig_negotiate(r, V1));
	f->log[0] = '\0';
	for (unsigned i = 0; i < 3; i++) {
		model_init(&d[i], &r->memory, i * VRIG_QUEUE, 8, V1);
		vrig_queue(r, i, &d[i]);
	}
	vrig_driver_ok(r);
	fake_check_log(f, "features memory vring0 vring1 enable0 enable1 start");
	model_add(&d[2], &event, 1, false);
	vrig_kick(r, 2);
	usleep(20000);
	cr_assert(!model_sleep(&d[2]), "kept for an event");
	cr_assert_eq(vrig_status(r) & NEEDS_RESET, 0);
	model_add(&d[2], &tiny, 1, false);
	vrig_kick(r, 2);
	vrig_wait(vrig_status(r) & NEEDS_RESET);
	for (unsigned i = 0; i < 3; i++)
		model_free(&d[i]);
	vrig_destroy(r);
}

/* ---- devices that are their backend's ---------------------------------------------------------
 */

static int create_generic(struct device_host *host, const struct device_config *config, void *arg,
			  struct device **out, struct error *e)
{
	static const uint8_t space[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	const struct vhost_generic what = {
		.id = VIRTIO_ID_SCSI,
		.features = 6,
		.nqueues = 3,
		.config_len = sizeof(space),
		.max_size = 32,
		.config = space,
	};

	return vhost_generic_create(host, config, &what, arg, out, e);
}

Test(vhost_generic, a_device_with_configuration_of_ours)
{
	struct fake_vhost *f = fake_vhost_create(FAKE_FEATURES | MODEL_BIT(1));
	struct vrig *r = vrig_create();

	vrig_plug_with(r, &row_vhost_blk, "queue-size=256", create_generic, &f->b);
	cr_assert_eq(vrig_offered(r) & 0xff, 2);
	cr_assert_eq(vrig_read(r, r->device + 4, 4), 0x08070605);
	f->log[0] = '\0';
	vrig_write(r, r->device + 4, 4, 0x08070605);
	vrig_write(r, r->device, 4, 9);
	cr_assert_eq(vrig_read(r, r->device, 4), 0x04030201);
	fake_check_log(f, "");
	cr_assert_eq(((struct virtio_device *)r->dev)->queue[0].max_size, 32,
		     "no longer than the backend has them");
	vrig_destroy(r);
}

Test(vhost_generic, more_queues_than_the_backend_has)
{
	struct fake_vhost *f = fake_vhost_create(FAKE_FEATURES);
	struct vrig *r = vrig_create();
	struct device_config config;
	struct device *dev;
	struct error e = { 0 };
	uint32_t closed = 0;

	f->b.rings = 2;
	f->closed = &closed;
	vrig_config(&config, &row_vhost_blk, NULL, "");
	cr_assert_eq(create_generic(&r->host, &config, &f->b, &dev, &e), -EINVAL);
	cr_assert_str_eq(e.msg, "3 queues, but fake has 2");
	cr_assert_eq(closed, 1);
	vrig_config_free(&config);
	vrig_destroy(r);
}

/* ---- no backend ------------------------------------------------------------------------------ */

static const char *refused(const struct device_row *row, const char *target, const char *keys)
{
	static struct error e;
	struct vrig *r = vrig_create();
	struct device_config config;
	struct device *dev;

	vrig_config(&config, row, target, keys);
	cr_assert_lt(row->create(&r->host, &config, &dev, &e), 0, "%s", target);
	vrig_config_free(&config);
	vrig_destroy(r);
	return e.msg;
}

Test(vhost_open, says_what_is_missing)
{
	struct error e = { 0 };
	int fd;

	cr_assert_lt(vhost_kernel_open(&fd, "/dev/no-such-vhost", "vhost_x", &e), 0);
	cr_assert_str_eq(e.msg, "the kernel offers no /dev/no-such-vhost; load its module as root: "
				"modprobe vhost_x");
	cr_assert_lt(vhost_kernel_open(&fd, "/dev/null", "vhost_x", &e), 0);
	cr_assert_str_eq(e.msg, "/dev/null is not a vhost device of the kernel");
	cr_assert(strstr(refused(&row_vhost_net, "/dev/vhost-vdpa-987", ""),
			 "there is no /dev/vhost-vdpa-987; load the module (modprobe vhost_vdpa)"));
	cr_assert(strstr(refused(&row_vhost_net, "user", ""), "--net=virtio:user"));
	cr_assert(strstr(refused(&row_vhost_blk, "disk.nowhere", ""), "naa.NAME"));
}

/* A vhost device of another kind under the name, or of another class than the flag's. */
Test(vhost_open, knows_a_vdpa_node)
{
	cr_assert(vhost_vdpa_is_node("/dev/vhost-vdpa-0"));
	cr_assert(!vhost_vdpa_is_node("/dev/vhost-net"));
	cr_assert(!vhost_vdpa_is_node("tap0"));
}
