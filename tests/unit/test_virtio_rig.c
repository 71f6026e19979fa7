/* See test_virtio_rig.h. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_virtio_rig.h"

static void request(struct device_host *host, enum machine_request what)
{
	(void)host;
	(void)what;
}

struct vrig *vrig_create(void)
{
	static const struct pci_windows windows = {
		.ecam_base = VRIG_ECAM,
		.buses = 1,
		.mem32_base = VRIG_MEM32,
		.mem32_size = 0x10000000,
		.mem64_base = VRIG_MEM64,
		.mem64_size = 0x10000000,
		.io_base = 0x6000,
		.io_size = 0xa000,
		.intx_gsi = 16,
	};
	struct vrig *r = calloc(1, sizeof(*r));
	struct error e = { 0 };

	r->memory = model_memory();
	r->loop = event_loop_create("main", &e);
	cr_assert_eq(event_loop_start(r->loop, &e), 0);
	r->host.memory = &r->memory;
	r->host.loop = r->loop;
	r->host.accounts = accounts_create();
	r->host.pio = bus_create("pio");
	r->host.mmio = bus_create("mmio");
	r->host.irq = irq_create(&fake_chip_ops, &r->chip, &e);
	r->host.request = request;
	r->host.mmio_slots = (struct mmio_slots){ .base = VRIG_MMIO, .count = MMIO_SLOTS };
	for (unsigned i = 0; i < MMIO_SLOTS; i++)
		r->host.mmio_slots.gsi[i] = (uint8_t)(VRIG_MMIO_GSI + i % 2);
	r->host.pci = pci_root_create(&r->host, &windows, &e);
	cr_assert_not_null(r->host.pci, "%s", e.msg);
	return r;
}

void vrig_destroy(struct vrig *r)
{
	if (r->dev)
		r->dev->ops->destroy(r->dev);
	pci_root_destroy(r->host.pci);
	irq_destroy(r->host.irq);
	bus_destroy(r->host.mmio);
	bus_destroy(r->host.pio);
	event_loop_destroy(r->loop);
	accounts_destroy(r->host.accounts);
	memory_destroy(&r->memory);
	free(r);
}

/* ---- making a device ------------------------------------------------------------------------- */

static void set_value(struct device_value *v, const struct device_key *key, const char *text)
{
	v->set = true;
	if (key->type == KEY_STRING) {
		free(v->text);
		v->text = strdup(text);
	} else if (key->type == KEY_BOOL) {
		v->number = strcmp(text, "on") == 0;
	} else if (key->type == KEY_ENUM) {
		const char *choice = strstr(key->choices, text);

		cr_assert_not_null(choice);
		v->number = 0;
		for (const char *c = key->choices; c < choice; c++)
			v->number += *c == '|';
	} else {
		v->number = strtoull(text, NULL, 0);
	}
}

void vrig_config(struct device_config *config, const struct device_row *row, const char *target,
		 const char *keys)
{
	char *copy = strdup(keys), *save = NULL;

	*config = (struct device_config){ .row = row, .target = target ? strdup(target) : NULL };
	for (unsigned i = 0; row->keys[i].name; i++)
		if (row->keys[i].fallback)
			set_value(&config->value[i], &row->keys[i], row->keys[i].fallback);
	for (char *kv = strtok_r(copy, ",", &save); kv; kv = strtok_r(NULL, ",", &save)) {
		char *value = strchr(kv, '=');
		unsigned i;

		*value++ = '\0';
		for (i = 0; row->keys[i].name && strcmp(row->keys[i].name, kv) != 0; i++)
			continue;
		cr_assert_not_null(row->keys[i].name, "no key %s", kv);
		set_value(&config->value[i], &row->keys[i], value);
		config->value[i].given = true;
	}
	free(copy);
}

void vrig_config_free(struct device_config *config)
{
	free(config->target);
	for (unsigned i = 0; i < DEVICE_MAX_KEYS; i++)
		free(config->value[i].text);
}

static int create_by_row(struct device_host *host, const struct device_config *config, void *arg,
			 struct device **out, struct error *e)
{
	(void)arg;
	return config->row->create(host, config, out, e);
}

static uint64_t structure(struct vrig *r, unsigned cap, uint32_t *len)
{
	unsigned bar = (unsigned)vrig_read(r, r->config + cap + VIRTIO_PCI_CAP_BAR, 1);
	uint64_t at = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint64_t base = vrig_read(r, r->config + at, 4);

	cr_assert_eq(base & 0xf, PCI_BASE_ADDRESS_MEM_TYPE_64);
	base = (base & ~0xfull) | vrig_read(r, r->config + at + 4, 4) << 32;
	*len = (uint32_t)vrig_read(r, r->config + cap + VIRTIO_PCI_CAP_LENGTH, 4);
	return base + vrig_read(r, r->config + cap + VIRTIO_PCI_CAP_OFFSET, 4);
}

static void read_capabilities(struct vrig *r)
{
	unsigned cap = (unsigned)vrig_read(r, r->config + PCI_CAPABILITY_LIST, 1);

	for (; cap; cap = (unsigned)vrig_read(r, r->config + cap + 1, 1)) {
		unsigned id = (unsigned)vrig_read(r, r->config + cap, 1);

		if (id == PCI_CAP_ID_MSIX)
			r->msix = cap;
		if (id != PCI_CAP_ID_VNDR)
			continue;
		switch (vrig_read(r, r->config + cap + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
		case VIRTIO_PCI_CAP_COMMON_CFG:
			r->common = structure(r, cap, &r->common_len);
			break;
		case VIRTIO_PCI_CAP_ISR_CFG:
			r->isr = structure(r, cap, &r->isr_len);
			break;
		case VIRTIO_PCI_CAP_DEVICE_CFG:
			r->device = structure(r, cap, &r->device_len);
			break;
		case VIRTIO_PCI_CAP_NOTIFY_CFG:
			r->notify = structure(r, cap, &r->notify_len);
			r->notify_multiplier = (uint32_t)vrig_read(
				r, r->config + cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
			break;
		case VIRTIO_PCI_CAP_PCI_CFG:
			r->pci_cfg = cap;
			break;
		}
	}
}

void vrig_plug_with(struct vrig *r, const struct device_row *row, const char *keys,
		    vrig_create_fn *create, void *arg)
{
	struct device_config config;
	struct error e = { 0 };

	vrig_config(&config, row, arg && create == create_by_row ? arg : NULL, keys);
	cr_assert_eq(create(&r->host, &config, arg, &r->dev, &e), 0, "%s", e.msg);
	vrig_config_free(&config);
	r->dev->ops->reset(r->dev);
	cr_assert_eq(pci_root_assign(r->host.pci, &e), 0, "%s", e.msg);
	cr_assert_eq(r->dev->ops->start(r->dev, &e), 0);
	r->config = VRIG_ECAM + (1 << 15);
	vrig_write(r, r->config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	read_capabilities(r);
	cr_assert(r->common && r->isr && r->notify && r->pci_cfg && r->msix);
}

void vrig_plug(struct vrig *r, const struct device_row *row, const char *target, const char *keys)
{
	vrig_plug_with(r, row, keys, create_by_row, (void *)(uintptr_t)target);
}

uint64_t vrig_read(struct vrig *r, uint64_t address, unsigned size)
{
	uint64_t value;

	bus_read(r->host.mmio, address, size, &value);
	return value;
}

void vrig_write(struct vrig *r, uint64_t address, unsigned size, uint64_t value)
{
	bus_write(r->host.mmio, address, size, value);
}

/* ---- the driver ------------------------------------------------------------------------------ */

uint8_t vrig_status(struct vrig *r)
{
	return (uint8_t)vrig_read(r, r->common + VIRTIO_PCI_COMMON_STATUS, 1);
}

void vrig_set_status(struct vrig *r, uint8_t status)
{
	vrig_write(r, r->common + VIRTIO_PCI_COMMON_STATUS, 1, status);
}

void *vrig_reset_thread(void *arg)
{
	struct vrig_resetter *t = arg;

	vrig_set_status(t->r, 0);
	__atomic_store_n(&t->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

uint64_t vrig_offered(struct vrig *r)
{
	uint64_t features = 0;

	for (unsigned i = 0; i < 2; i++) {
		vrig_write(r, r->common + VIRTIO_PCI_COMMON_DFSELECT, 4, i);
		features |= vrig_read(r, r->common + VIRTIO_PCI_COMMON_DF, 4) << (32 * i);
	}
	return features;
}

bool vrig_negotiate(struct vrig *r, uint64_t features)
{
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	vrig_set_status(r, 0);
	cr_assert_eq(vrig_status(r), 0);
	vrig_set_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	vrig_set_status(r, status);
	for (unsigned i = 0; i < 2; i++) {
		vrig_write(r, r->common + VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		vrig_write(r, r->common + VIRTIO_PCI_COMMON_GF, 4,
			   (uint32_t)(features >> (32 * i)));
	}
	vrig_set_status(r, status | VIRTIO_CONFIG_S_FEATURES_OK);
	return vrig_status(r) & VIRTIO_CONFIG_S_FEATURES_OK;
}

void vrig_queue(struct vrig *r, unsigned index, const struct model *d)
{
	const uint64_t address[] = { d->config.desc, d->config.driver, d->config.device };

	vrig_write(r, r->common + VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
	vrig_write(r, r->common + VIRTIO_PCI_COMMON_Q_SIZE, 2, d->size);
	for (unsigned i = 0; i < 6; i++)
		vrig_write(r, r->common + VIRTIO_PCI_COMMON_Q_DESCLO + 4 * i, 4,
			   (uint32_t)(address[i / 2] >> (32 * (i % 2))));
	vrig_write(r, r->common + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

void vrig_driver_ok(struct vrig *r)
{
	vrig_set_status(r, vrig_status(r) | VIRTIO_CONFIG_S_DRIVER_OK);
}

void vrig_kick(struct vrig *r, unsigned index)
{
	vrig_write(r, r->notify + r->notify_multiplier * index, 2, index);
}

void vrig_prepare(struct vrig *r, struct model *d, uint16_t size, uint64_t wanted)
{
	uint64_t features = (vrig_offered(r) & wanted) | MODEL_BIT(VIRTIO_F_VERSION_1);

	cr_assert(vrig_negotiate(r, features));
	model_init(d, &r->memory, 0, size, features);
	vrig_queue(r, 0, d);
}

void vrig_up(struct vrig *r, struct model *d, uint16_t size, uint64_t wanted)
{
	vrig_prepare(r, d, size, wanted);
	vrig_driver_ok(r);
	cr_assert_eq(vrig_status(r), VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
					     VIRTIO_CONFIG_S_FEATURES_OK |
					     VIRTIO_CONFIG_S_DRIVER_OK);
}

struct model_used vrig_wait_used(struct model *d)
{
	struct model_used used = { 0 };
	bool got = false;

	for (unsigned i = 0; i < 20000 && !(got = model_used(d, &used)); i++)
		usleep(250);
	cr_assert(got, "the device answers nothing");
	return used;
}

void vrig_msix_enable(struct vrig *r, unsigned vectors)
{
	uint32_t table = (uint32_t)vrig_read(r, r->config + r->msix + PCI_MSIX_TABLE, 4);
	uint64_t base = (r->common & ~0xfffull) + (table & PCI_MSIX_TABLE_OFFSET);

	for (unsigned i = 0; i < vectors; i++) {
		vrig_write(r, base + 16 * i, 4, 0xfee00000);
		vrig_write(r, base + 16 * i + 4, 4, 0);
		vrig_write(r, base + 16 * i + 8, 4, 0x40 + i);
		vrig_write(r, base + 16 * i + 12, 4, 0);
	}
	vrig_write(r, r->config + r->msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}
