/* See test_vhost_pair.h. */
#include <criterion/criterion.h>
#include <poll.h>

#include "tests/unit/test_vhost_pair.h"

static const struct model_buf one_buf = { MODEL_HIGH, 64, true };

void pair_setup(struct pair *p, uint64_t features, const char *keys)
{
	*p = (struct pair){ .r = vrig_create(), .f = fake_vhost_create(features) };
	p->f->closed = &p->closed;
	echo_plug(p->r, p->f, keys);
	fake_check_log(p->f, "reset");
}

void pair_set_reg(struct pair *p, unsigned offset, unsigned size, uint64_t value)
{
	vrig_write(p->r, p->r->common + offset, size, value);
}

void pair_set_vector(struct pair *p, unsigned queue, unsigned vector)
{
	pair_set_reg(p, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	pair_set_reg(p, VIRTIO_PCI_COMMON_Q_MSIX, 2, vector);
}

void pair_up(struct pair *p, uint64_t wanted)
{
	uint64_t features = (vrig_offered(p->r) & wanted) | V1;

	cr_assert(vrig_negotiate(p->r, features));
	p->f->log[0] = '\0';
	for (unsigned i = 0; i < ECHO_RINGS; i++) {
		model_init(&p->d[i], &p->r->memory, i * VRIG_QUEUE, 16, features);
		pair_set_vector(p, i, i + 1);
		vrig_queue(p->r, i, &p->d[i]);
	}
	vrig_driver_ok(p->r);
}

void pair_down(struct pair *p)
{
	for (unsigned i = 0; i < ECHO_RINGS; i++)
		model_free(&p->d[i]);
}

void pair_teardown(struct pair *p)
{
	vrig_destroy(p->r);
	cr_assert_eq(p->closed, 1, "the backend was not closed");
}

uint8_t pair_request(struct pair *p, unsigned queue)
{
	uint8_t *answer = model_at(&p->r->memory, one_buf.addr, 64);

	*answer = 0;
	cr_assert_geq(model_add(&p->d[queue], &one_buf, 1, false), 0);
	if (model_must_kick(&p->d[queue]))
		vrig_kick(p->r, queue);
	cr_assert_eq(vrig_wait_used(&p->d[queue]).len, 64);
	return *answer;
}

bool pair_signalled(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}
