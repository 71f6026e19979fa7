/*
 * See emulated_rig.h.
 */
#include <string.h>

#include <criterion/criterion.h>

#include "devices/backend/chardev.h"
#include "tests/unit/emulated_rig.h"

static void on_request(struct device_host *host, enum machine_request request)
{
	struct em_rig *rig = (struct em_rig *)host;

	pthread_mutex_lock(&rig->lock);
	rig->request = request;
	rig->requests++;
	pthread_cond_broadcast(&rig->asked);
	pthread_mutex_unlock(&rig->lock);
}

void em_open(struct em_rig *rig)
{
	struct error e = { "" };

	memset(rig, 0, sizeof(*rig));
	chardev_prepare_process();
	pthread_mutex_init(&rig->lock, NULL);
	pthread_cond_init(&rig->asked, NULL);
	rig->host.pio = bus_create("pio");
	rig->host.irq = irq_create(&fake_chip_ops, &rig->chip, &e);
	rig->host.loop = event_loop_create("main", &e);
	rig->host.request = on_request;
	cr_assert(rig->host.pio && rig->host.irq && rig->host.loop, "%s", e.msg);
	cr_assert_eq(event_loop_start(rig->host.loop, &e), 0, "%s", e.msg);
}

static void none_left(const struct bus_range *range, void *arg)
{
	(void)arg;
	cr_assert_fail("%s is still on the bus", range->name);
}

void em_close(struct em_rig *rig)
{
	bus_for_each(rig->host.pio, none_left, NULL);
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++)
		cr_assert(!rig->chip.level[gsi], "line %u is left high", gsi);
	event_loop_destroy(rig->host.loop);
	irq_destroy(rig->host.irq);
	bus_destroy(rig->host.pio);
	pthread_mutex_destroy(&rig->lock);
	pthread_cond_destroy(&rig->asked);
}

static int create(struct em_rig *rig, const struct device_row *row, unsigned index,
		  const char *target, struct device **dev, struct error *e)
{
	struct device_config config = {
		.row = row,
		.index = index,
		.target = (char *)target,
	};

	e->msg[0] = '\0';
	return row->create(&rig->host, &config, dev, e);
}

struct device *em_device(struct em_rig *rig, const struct device_row *row, unsigned index,
			 const char *target)
{
	struct device *dev = NULL;
	struct error e;

	cr_assert_eq(create(rig, row, index, target, &dev, &e), 0, "%s", e.msg);
	cr_assert(dev);
	return dev;
}

const char *em_device_fails(struct em_rig *rig, const struct device_row *row, unsigned index,
			    const char *target)
{
	static struct error e;
	struct device *dev = NULL;

	cr_assert_lt(create(rig, row, index, target, &dev, &e), 0);
	cr_assert_null(dev);
	return e.msg;
}

void em_destroy(struct device *dev)
{
	dev->ops->destroy(dev);
}

uint8_t em_in(struct em_rig *rig, uint64_t port)
{
	uint64_t value;

	bus_read(rig->host.pio, port, 1, &value);
	return (uint8_t)value;
}

void em_out(struct em_rig *rig, uint64_t port, uint8_t value)
{
	bus_write(rig->host.pio, port, 1, value);
}

bool em_line(struct em_rig *rig, unsigned gsi)
{
	return __atomic_load_n(&rig->chip.level[gsi], __ATOMIC_SEQ_CST);
}

enum machine_request em_request(struct em_rig *rig)
{
	enum machine_request request;

	pthread_mutex_lock(&rig->lock);
	request = rig->request;
	rig->request = REQUEST_NONE;
	pthread_mutex_unlock(&rig->lock);
	return request;
}

enum machine_request em_wait_request(struct em_rig *rig)
{
	pthread_mutex_lock(&rig->lock);
	while (rig->requests == 0)
		pthread_cond_wait(&rig->asked, &rig->lock);
	pthread_mutex_unlock(&rig->lock);
	return em_request(rig);
}

void em_torment(struct em_rig *rig, uint64_t base, uint64_t size, unsigned steps)
{
	uint32_t seed = 7;
	uint64_t value;

	for (unsigned i = 0; i < steps; i++) {
		seed = seed * 1664525u + 1013904223u;
		uint64_t at = base + (seed >> 8) % size;
		unsigned width = 1u << ((seed >> 5) & 3);

		if (seed & 0x80000000)
			bus_write(rig->host.pio, at, width, (uint64_t)seed * seed);
		else
			bus_read(rig->host.pio, at, width, &value);
	}
}
