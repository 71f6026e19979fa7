/*
 * Data planes that change hands between us and a vhost-user back end, and a card whose frames one
 * moves. The back ends are devices of ours behind the vhost-user server, in this process.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/registry.h"
#include "devices/virtio/vhost/server.h"
#include "devices/virtio/vhost/user.h"
#include "tests/unit/test_net_rig.h"
#include "tests/unit/test_vhost_rig.h"
#include "tests/unit/test_vhost_user_rig.h"

#define V1     MODEL_BIT(VIRTIO_F_VERSION_1)
#define PACKED MODEL_BIT(VIRTIO_F_RING_PACKED)

/* ---- a back end in this process -------------------------------------------------------------- */

struct server {
	struct device_host host; /* first */
	struct guest_memory memory;
	struct vhost_user_peer peer;
	struct device *dev;
	struct event_source accept;
};

static void wait_for_next(void *opaque, const char *why)
{
	struct server *s = opaque;

	cr_expect_null(why, "%s", why);
	event_modify(&s->accept, EPOLLIN | EPOLLONESHOT);
}

static void accept_one(void *opaque, uint32_t events)
{
	struct server *s = opaque;
	int fd = accept4(s->accept.fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events;
	cr_assert_eq(vhost_user_server_attach(s->peer.server, fd), 0);
}

static struct server *server_create(const struct vu_files *f, const struct device_row *row,
				    const char *keys, vrig_create_fn *create, void *arg)
{
	struct server *s = calloc(1, sizeof(*s));
	struct device_config config;
	struct error e;

	s->memory.fd = -1;
	s->peer = (struct vhost_user_peer){ .closed = wait_for_next, .opaque = s };
	s->host.memory = &s->memory;
	s->host.peer = &s->peer;
	s->host.loop = event_loop_create("server", &e);
	vrig_config(&config, row, NULL, keys);
	cr_assert_eq(create(&s->host, &config, arg, &s->dev, &e), 0, "%s", e.msg);
	vrig_config_free(&config);
	cr_assert_eq(s->dev->ops->start(s->dev, &e), 0);
	s->accept = (struct event_source){
		.fd = vu_listen(f),
		.events = EPOLLIN | EPOLLONESHOT,
		.callback = accept_one,
		.opaque = s,
	};
	cr_assert_eq(event_add(s->host.loop, &s->accept), 0);
	cr_assert_eq(event_loop_start(s->host.loop, &e), 0);
	return s;
}

static void end_on_loop(void *arg)
{
	struct server *s = arg;

	event_del(&s->accept);
	close(s->accept.fd);
	s->dev->ops->destroy(s->dev);
}

static void server_destroy(struct server *s)
{
	event_call(s->host.loop, end_on_loop, s);
	event_loop_destroy(s->host.loop);
	cr_expect_eq(s->memory.nregions, 0, "the front end's memory stays mapped");
	free(s);
}

/* ---- a device that says who served it -------------------------------------------------------- */

struct teller {
	struct virtio_device v; /* first */
	struct vhost_plane plane;
	struct event_loop *loop;
	uint8_t byte;
};

static struct teller *teller_of(struct virtio_device *v)
{
	return (struct teller *)v;
}

static void process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	uint8_t bytes[64];

	memset(bytes, teller_of(q->v)->byte, sizeof(bytes));
	for (unsigned i = 0; i < n; i++)
		virtio_queue_push(q, chains[i],
				  (uint32_t)virtq_span_write(&chains[i]->writable, bytes, 64));
}

static void update(struct virtio_device *v)
{
	vhost_plane_update(&teller_of(v)->plane);
}

static void reset(struct virtio_device *v)
{
	vhost_plane_reset(&teller_of(v)->plane);
}

static void detach(struct virtio_device *v)
{
	vhost_plane_fini(&teller_of(v)->plane);
}

static void destroy(struct virtio_device *v)
{
	event_loop_destroy(teller_of(v)->loop);
	free(v);
}

static const struct virtio_device_ops teller_ops = {
	.process = process,
	.update = update,
	.reset = reset,
	.detach = detach,
	.destroy = destroy,
};

/* backend NULL: it has none. */
static int create(struct device_host *host, const struct device_config *config, void *arg,
		  struct device **out, struct error *e)
{
	static const struct virtio_identity identity = { .id = 63, .nqueues = 2 };
	struct teller *t = calloc(1, sizeof(*t));
	struct vhost *backend = arg;

	t->byte = backend ? BY_US : BY_BACKEND;
	cr_assert_eq(virtio_device_init(&t->v, &teller_ops, &identity, host, config, e), 0);
	if (backend)
		cr_assert_eq(vhost_limit_features(&t->v, backend, VHOST_RING_FEATURES, e), 0);
	t->loop = event_loop_create("teller", e);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(virtio_queue_init(&t->v, i, 64, 0, t->loop, e), 0);
	cr_assert_eq(event_loop_start(t->loop, e), 0);
	if (backend)
		cr_assert_eq(vhost_plane_init(&t->plane, &t->v, backend, 2, host->loop, e), 0);
	cr_assert_eq(virtio_transport_create(&t->v, config, e), 0);
	*out = &t->v.dev;
	return 0;
}

static const struct device_key keys[] = { VIRTIO_KEYS("64"), { 0 } };
static const struct device_row row = {
	.class = CLASS_DEV, .model = MODEL_VHOST, .hw = "teller", .keys = keys
};

/* ---- handing over ---------------------------------------------------------------------------- */

struct pair {
	struct vu_files files;
	struct server *s;
	struct vrig *r;
	struct model d[2];
	unsigned by_us, by_backend, in_flight;
	uint64_t random;
};

static void setup(struct pair *p, const char *device_keys, uint64_t wanted)
{
	struct vhost_user_options options = {
		.name = "teller",
		.timeout_ms = 20000,
		.rings = 2,
		.rings_factor = 1,
		.queue_size = 64,
		.stateless = true,
	};
	struct vhost *backend;
	uint64_t features;
	struct error e;

	*p = (struct pair){ .files = vu_files_create(0), .random = 7 };
	p->s = server_create(&p->files, &row, "ring=packed", create, NULL);
	options.path = p->files.sock;
	cr_assert_eq(vhost_user_open(&backend, &options, &e), 0, "%s", e.msg);
	p->r = vrig_create();
	vrig_plug_with(p->r, &row, device_keys, create, backend);
	features = vrig_offered(p->r) & (wanted | V1);
	cr_assert(vrig_negotiate(p->r, features));
	for (unsigned i = 0; i < 2; i++) {
		model_init(&p->d[i], &p->r->memory, i * VRIG_QUEUE, 32, features);
		vrig_queue(p->r, i, &p->d[i]);
	}
	vrig_driver_ok(p->r);
}

static void teardown(struct pair *p)
{
	vrig_destroy(p->r);
	for (unsigned i = 0; i < 2; i++)
		model_free(&p->d[i]);
	server_destroy(p->s);
	vu_files_destroy(&p->files);
}

static void add(struct pair *p, unsigned queue)
{
	struct model_buf buf[2] = { { MODEL_HIGH, 64, false }, { MODEL_HIGH + 4096, 64, true } };

	buf[1].addr += 64 * (model_random(&p->random) % 64);
	*(uint8_t *)model_at(&p->r->memory, buf[1].addr, 1) = 0;
	if (model_add(&p->d[queue], buf, 2, p->d[queue].indirect) < 0)
		return;
	p->in_flight++;
	vrig_kick(p->r, queue);
}

static void hear(struct pair *p)
{
	struct model_used used;

	for (unsigned i = 0; i < 2; i++)
		while (model_used(&p->d[i], &used)) {
			cr_assert_eq(used.len, 64);
			p->in_flight--;
		}
}

static uint8_t ask(struct pair *p, unsigned queue)
{
	const struct model_buf buf = { MODEL_HIGH + 65536, 64, true };
	uint8_t *bytes = model_at(&p->r->memory, buf.addr, 64);

	bytes[63] = 0;
	cr_assert_geq(model_add(&p->d[queue], &buf, 1, false), 0);
	vrig_kick(p->r, queue);
	vrig_wait_used(&p->d[queue]);
	return bytes[63];
}

static void back_and_forth(const char *device_keys, uint64_t wanted)
{
	struct vhost_plane *plane;
	struct pair p;

	setup(&p, device_keys, wanted);
	plane = &teller_of((struct virtio_device *)p.r->dev)->plane;
	cr_assert_eq(ask(&p, 0), BY_BACKEND);
	vhost_plane_handover(plane, 0);
	cr_assert_eq(ask(&p, 0), BY_US);
	vhost_plane_handover(plane, 1);
	cr_assert_eq(ask(&p, 0), BY_BACKEND);
	cr_assert_eq(ask(&p, 1), BY_US);
	/* Under load: nothing is lost, nothing comes twice (the model would say so). */
	for (unsigned i = 0; i < 200; i++) {
		for (unsigned n = 0; n < 8; n++) {
			add(&p, n % 2);
			hear(&p);
		}
		vhost_plane_handover(plane, (unsigned)(model_random(&p.random) % 3));
	}
	for (unsigned i = 0; i < 20000 && p.in_flight; i++, usleep(250))
		hear(&p);
	cr_assert_eq(p.in_flight, 0);
	teardown(&p);
}

Test(vhost_user_planes, back_and_forth, .timeout = 120)
{
	back_and_forth("", 0);
	back_and_forth("", ~0ull);
	back_and_forth("ring=packed", ~0ull);
}

/* ---- a network card -------------------------------------------------------------------------- */

static int create_net(struct device_host *host, const struct device_config *config, void *arg,
		      struct device **out, struct error *e)
{
	return virtio_net_create(host, config, arg, NULL, out, e);
}

Test(vhost_user_planes, a_card, .timeout = 60)
{
	const struct model_buf in = { NRIG_BUFFERS, 2048, true };
	const struct model_buf out = { NRIG_BUFFERS + 4096, NET_HEADER + 100, false };
	struct vu_files files = vu_files_create(0);
	struct fake_net *far = fake_net_create(1, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
	struct server *s =
		server_create(&files, &row_virtio_net, "ring=packed", create_net, &far->base);
	uint8_t frame[NET_HEADER + 100], got[NET_HEADER + 200];
	struct vrig *r = vrig_create();
	struct model rx, tx;
	uint64_t features;

	vrig_plug(r, &row_vhost_net, files.sock, "mac=52:54:00:01:02:03");
	features = vrig_offered(r);
	cr_expect(features & MODEL_BIT(VIRTIO_NET_F_GUEST_TSO4));
	cr_expect(features & MODEL_BIT(VIRTIO_NET_F_CTRL_VQ), "the control queue is ours");
	cr_expect_not(features & MODEL_BIT(VIRTIO_NET_F_HOST_TSO6), "the back end has it not");
	cr_expect_not(features & MODEL_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
	cr_expect_eq(vrig_read(r, r->device, 1), 0x52);
	features &= V1 | MODEL_BIT(VIRTIO_NET_F_GUEST_CSUM) | MODEL_BIT(VIRTIO_NET_F_GUEST_TSO4);
	cr_assert(vrig_negotiate(r, features));
	model_init(&rx, &r->memory, 0, 16, features);
	model_init(&tx, &r->memory, VRIG_QUEUE, 16, features);
	vrig_queue(r, 0, &rx);
	vrig_queue(r, 1, &tx);
	vrig_driver_ok(r);
	nrig_fill(frame, 100, 7);
	cr_assert_geq(model_add(&rx, &in, 1, false), 0);
	vrig_kick(r, 0);
	fake_net_inject(far, 0, frame, sizeof(frame));
	cr_assert_eq(vrig_wait_used(&rx).len, sizeof(frame));
	cr_assert_eq(memcmp((uint8_t *)model_at(&r->memory, in.addr, 2048) + NET_HEADER,
			    frame + NET_HEADER, 100),
		     0);
	cr_assert_eq(__atomic_load_n(&far->offloads, __ATOMIC_ACQUIRE),
		     NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4, "it was told what the driver takes");
	memory_write(&r->memory, out.addr, frame, sizeof(frame));
	cr_assert_geq(model_add(&tx, &out, 1, false), 0);
	vrig_kick(r, 1);
	vrig_wait_used(&tx);
	cr_assert_eq(fake_net_take(far, 0, got, sizeof(got), 5000), sizeof(frame));
	cr_assert_eq(memcmp(got + NET_HEADER, frame + NET_HEADER, 100), 0);
	vrig_destroy(r);
	model_free(&rx);
	model_free(&tx);
	server_destroy(s);
	vu_files_destroy(&files);
}
