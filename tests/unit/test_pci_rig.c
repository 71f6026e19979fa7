/* The machine and devices of the PCI tests: see test_pci.h. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/test_pci.h"

/* ---- the interrupt chip ---- */

static void chip_line(void *chip, unsigned gsi, bool level)
{
	struct rig *r = chip;

	r->level[gsi] = level;
	r->edges++;
}

static int chip_msi(void *chip, uint64_t address, uint32_t data)
{
	struct rig *r = chip;
	unsigned n = __atomic_fetch_add(&r->sent, 1, __ATOMIC_RELAXED);

	r->msg[n % RIG_MSGS].address = address;
	r->msg[n % RIG_MSGS].data = data;
	return 0;
}

static int chip_route_set(void *chip, unsigned route, int eventfd, uint64_t address, uint32_t data)
{
	struct rig *r = chip;

	r->route[route] = (struct rig_route){ eventfd, address, data };
	return 0;
}

static int chip_route_clear(void *chip, unsigned route, int eventfd)
{
	struct rig *r = chip;

	(void)eventfd;
	r->route[route].eventfd = -1;
	return 0;
}

static int chip_line_bind(void *chip, unsigned gsi, int eventfd, int resample)
{
	struct rig *r = chip;

	cr_expect_eq(r->line[gsi].trigger, 0, "bound twice");
	r->line[gsi].trigger = eventfd;
	r->line[gsi].resample = resample;
	return 0;
}

static int chip_line_unbind(void *chip, unsigned gsi, int eventfd)
{
	struct rig *r = chip;

	cr_expect_eq(r->line[gsi].trigger, eventfd, "unbound, but not bound");
	r->line[gsi].trigger = 0;
	return 0;
}

static const struct irq_chip_ops chip_ops = {
	.set_line = chip_line,
	.msi = chip_msi,
	.route_set = chip_route_set,
	.route_clear = chip_route_clear,
	.max_routes = 64,
	.line_bind = chip_line_bind,
	.line_unbind = chip_line_unbind,
};

void rig_deliver(struct rig *r)
{
	for (unsigned i = 0; i < 64; i++) {
		uint64_t count;

		if (r->route[i].eventfd >= 0 && read(r->route[i].eventfd, &count, 8) == 8)
			chip_msi(r, r->route[i].address, r->route[i].data);
	}
}

/* ---- the machine ---- */

static void request(struct device_host *host, enum machine_request what)
{
	struct rig *r = (struct rig *)host; /* first member */

	r->requested = what;
	r->requests++;
}

struct pci_windows rig_windows(void)
{
	return (struct pci_windows){
		.ecam_base = RIG_ECAM,
		.buses = 256,
		.mem32_base = RIG_MEM32,
		.mem32_size = RIG_WINDOW,
		.mem64_base = RIG_MEM64,
		.mem64_size = RIG_WINDOW,
		.io_base = RIG_IO,
		.io_size = 0xa000,
		.intx_gsi = 16,
	};
}

struct rig *rig_create(void)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct pci_windows windows = rig_windows();
	struct error e = { 0 };

	cr_assert_not_null(r);
	for (unsigned i = 0; i < 64; i++)
		r->route[i].eventfd = -1;
	r->memory.nregions = 2;
	r->memory.region[0] = (struct memory_region){ .gpa = 0, .size = RIG_MEM32 };
	r->memory.region[1] = (struct memory_region){ .gpa = 1ull << 32, .size = 1ull << 30 };
	r->host.memory = &r->memory;
	r->host.pio = bus_create("pio");
	r->host.mmio = bus_create("mmio");
	r->host.irq = irq_create(&chip_ops, r, &e);
	r->host.request = request;
	r->root = pci_root_create(&r->host, &windows, &e);
	cr_assert_not_null(r->root, "%s", e.msg);
	r->host.pci = r->root;
	r->config = pci_root_config(r->root);
	return r;
}

void rig_destroy(struct rig *r)
{
	pci_root_destroy(r->root);
	irq_destroy(r->host.irq);
	bus_destroy(r->host.mmio);
	bus_destroy(r->host.pio);
	free(r);
}

/* ---- devices ---- */

static uint64_t bar_read(void *opaque, uint64_t offset, unsigned size)
{
	struct rig_bar *b = opaque;

	(void)offset;
	(void)size;
	__atomic_fetch_add(&b->reads, 1, __ATOMIC_RELAXED);
	return (uint64_t)b->owner->mark << 8 | b->index;
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct rig_bar *b = opaque;

	b->writes++;
	b->last_offset = offset;
	b->last_size = size;
	b->last_value = value;
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write };

static struct rig_device *owner(struct pci_function *f)
{
	return (struct rig_device *)f->dev; /* first member */
}

static void config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	(void)offset;
	(void)size;
	__atomic_fetch_add(&owner(f)->config_writes, 1, __ATOMIC_RELAXED);
	/* A device may come back in here: no lock is held. */
	pci_config_set8(f, 0xffc, pci_config_get8(f, 0xffc));
}

static void config_reading(struct pci_function *f, unsigned offset, unsigned size)
{
	(void)offset;
	(void)size;
	__atomic_fetch_add(&owner(f)->config_reads, 1, __ATOMIC_RELAXED);
}

static const struct pci_function_ops function_ops = {
	.config_written = config_written,
	.config_reading = config_reading,
};

struct rig_device *rig_device(struct rig *r, const char *name, uint8_t mark)
{
	static const struct pci_identity id = { .vendor = 0x1234,
						.device = 0x5678,
						.subsystem_vendor = 0x9abc,
						.subsystem = 0xdef0,
						.revision = 3,
						.class_code = 0x010802,
						.intx = true };
	struct rig_device *d = calloc(1, sizeof(*d));

	cr_assert_not_null(d);
	d->dev.host = &r->host;
	snprintf(d->dev.name, sizeof(d->dev.name), "%s", name);
	d->mark = mark;
	pci_function_init(&d->f, &d->dev, &id, &function_ops);
	return d;
}

void rig_bar(struct rig_device *d, unsigned bar, enum pci_bar_kind kind, bool prefetch,
	     uint64_t size)
{
	struct error e = { 0 };

	d->bar[bar].owner = d;
	d->bar[bar].index = bar;
	cr_assert(pci_add_bar(&d->f, bar, kind, prefetch, size, &bar_ops, &d->bar[bar], &e) == 0,
		  "%s", e.msg);
}

void rig_plug(struct rig *r, struct rig_device *d, int devfn)
{
	struct error e = { 0 };

	cr_assert(pci_function_plug(&d->f, r->root, devfn, &e) == 0, "%s", e.msg);
}

void rig_device_destroy(struct rig_device *d)
{
	pci_function_destroy(&d->f);
	free(d);
}

/* ---- the guest ---- */

static uint64_t config_base(const struct rig_device *d)
{
	return RIG_ECAM + ((uint64_t)d->f.devfn << 12);
}

uint64_t cfg_read(struct rig *r, const struct rig_device *d, unsigned offset, unsigned size)
{
	return mmio_read(r, config_base(d) + offset, size);
}

void cfg_write(struct rig *r, const struct rig_device *d, unsigned offset, unsigned size,
	       uint64_t value)
{
	mmio_write(r, config_base(d) + offset, size, value);
}

void command(struct rig *r, const struct rig_device *d, uint16_t value)
{
	cfg_write(r, d, PCI_COMMAND, 2, value);
}

void place(struct rig *r, const struct rig_device *d, unsigned bar, uint64_t address)
{
	cfg_write(r, d, PCI_BASE_ADDRESS_0 + 4 * bar, 4, (uint32_t)address);
	if (d->f.bar[bar].kind == PCI_BAR_MEM64)
		cfg_write(r, d, PCI_BASE_ADDRESS_0 + 4 * bar + 4, 4, address >> 32);
}

uint64_t mmio_read(struct rig *r, uint64_t address, unsigned size)
{
	uint64_t value = 0;

	bus_read(r->host.mmio, address, size, &value);
	return value;
}

void mmio_write(struct rig *r, uint64_t address, unsigned size, uint64_t value)
{
	bus_write(r->host.mmio, address, size, value);
}

uint64_t pio_read(struct rig *r, uint64_t port, unsigned size)
{
	uint64_t value = 0;

	bus_read(r->host.pio, port, size, &value);
	return value;
}

void pio_write(struct rig *r, uint64_t port, unsigned size, uint64_t value)
{
	bus_write(r->host.pio, port, size, value);
}

bool answers(struct rig *r, const struct rig_device *d, unsigned bar, uint64_t address)
{
	struct bus *bus = d->f.bar[bar].kind == PCI_BAR_IO ? r->host.pio : r->host.mmio;
	uint64_t last = address + d->f.bar[bar].size - 4;
	uint64_t want = (uint64_t)d->mark << 8 | bar;
	uint64_t first_value = 0, last_value = 0;

	bus_read(bus, address, 4, &first_value);
	bus_read(bus, last, 4, &last_value);
	return first_value == want && last_value == want;
}

/* splitmix64: seeded, so that a failure repeats. */
uint64_t rig_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}
