/*
 * Configuration space: header, masks, RW1C, capabilities, widths, both ways in, and 100 000 random
 * accesses against a model that knows only bytes.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test_pci.h"

Test(pci_config, header_is_the_identity)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 1);

	rig_plug(r, d, -1);
	cr_expect_eq(d->f.devfn, 1 << 3, "the host bridge has slot 0");
	cr_expect_eq(cfg_read(r, d, PCI_VENDOR_ID, 4), 0x56781234);
	cr_expect_eq(cfg_read(r, d, PCI_REVISION_ID, 1), 3);
	cr_expect_eq(cfg_read(r, d, PCI_CLASS_PROG, 1), 0x02);
	cr_expect_eq(cfg_read(r, d, PCI_CLASS_DEVICE, 2), 0x0108);
	cr_expect_eq(cfg_read(r, d, PCI_SUBSYSTEM_VENDOR_ID, 4), 0xdef09abc);
	cr_expect_eq(cfg_read(r, d, PCI_INTERRUPT_PIN, 1), 1);
	cr_expect_eq(cfg_read(r, d, PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_NORMAL);
	cr_expect_eq(cfg_read(r, d, PCI_COMMAND, 4), 0);
	cr_expect_eq(d->config_reads, 8);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(pci_config, widths_and_straddles)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 1);
	uint64_t base;

	pci_config_writable32(&d->f, 0x100, 0xffffffff);
	pci_config_writable32(&d->f, 0x104, 0xffffffff);
	pci_config_writable32(&d->f, 0xffc, 0xffffffff);
	rig_plug(r, d, -1);
	cfg_write(r, d, 0x100, 8, 0x8877665544332211);
	cr_expect_eq(cfg_read(r, d, 0x100, 8), 0x8877665544332211);
	for (unsigned i = 0; i < 8; i++)
		cr_expect_eq(cfg_read(r, d, 0x100 + i, 1), 0x11 * (i + 1));
	cr_expect_eq(cfg_read(r, d, 0x103, 2), 0x5544);
	cr_expect_eq(cfg_read(r, d, 0x102, 4), 0x66554433);
	cr_expect_eq(cfg_read(r, d, 0x101, 8), 0x0088776655443322);
	cfg_write(r, d, 0x103, 2, 0xbbaa);
	cr_expect_eq(cfg_read(r, d, 0x100, 8), 0x887766bbaa332211);
	cfg_write(r, d, 0x105, 1, 0xcc);
	cr_expect_eq(cfg_read(r, d, 0x104, 4), 0x8877ccbb);

	/* past the end of the function: nobody answers */
	base = RIG_ECAM + ((uint64_t)d->f.devfn << 12);
	cfg_write(r, d, 0xffc, 4, 0x01020304);
	cfg_write(r, d, 0xffe, 4, 0);
	cr_expect_eq(cfg_read(r, d, 0xffc, 4), 0x01020304);
	cr_expect_eq(mmio_read(r, base + 0xffe, 4), 0xffffffff);
	cr_expect_eq(mmio_read(r, base + 0xffc, 8), ~0ull);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(pci_config, write_one_to_clear)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 1);

	pci_config_clears32(&d->f, 0x80, 0xff00);
	pci_config_writable32(&d->f, 0x80, 0x00ff);
	rig_plug(r, d, -1);
	pci_config_set32(&d->f, 0x80, 0xaaaaaaaa);
	cfg_write(r, d, 0x80, 4, 0x0000f055);
	cr_expect_eq(cfg_read(r, d, 0x80, 4), 0xaaaa0a55);
	cfg_write(r, d, 0x80, 1, 0xff);
	cr_expect_eq(cfg_read(r, d, 0x80, 4), 0xaaaa0aff, "bytes not written clear nothing");
	cfg_write(r, d, 0x81, 1, 0x0a);
	cr_expect_eq(cfg_read(r, d, 0x80, 4), 0xaaaa00ff);

	pci_config_set16(&d->f, PCI_STATUS, PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_PARITY);
	cfg_write(r, d, PCI_STATUS, 2, PCI_STATUS_REC_MASTER_ABORT);
	cr_expect_eq(cfg_read(r, d, PCI_STATUS, 2), PCI_STATUS_PARITY);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(pci_config, capabilities_form_a_list)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 1);
	int express, vendor;

	cr_expect_not(pci_config_get16(&d->f, PCI_STATUS) & PCI_STATUS_CAP_LIST);
	vendor = pci_add_capability(&d->f, PCI_CAP_ID_VNDR, 17);
	express = pci_add_express(&d->f);
	cr_expect_eq(vendor, 0x40);
	cr_expect_eq(express, 0x54, "the next whole word");
	rig_plug(r, d, -1);
	cr_expect(cfg_read(r, d, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	cr_expect_eq(cfg_read(r, d, PCI_CAPABILITY_LIST, 1), 0x40);
	cr_expect_eq(cfg_read(r, d, 0x40, 2), 0x5400 | PCI_CAP_ID_VNDR);
	cr_expect_eq(cfg_read(r, d, 0x54, 2), PCI_CAP_ID_EXP);
	cr_expect_eq(cfg_read(r, d, 0x56, 2), 0x92, "version 2, root complex integrated endpoint");
	cr_expect_eq(cfg_read(r, d, 0x54 + PCI_EXP_DEVCTL, 2), 0x2810, "as after reset");
	cr_expect_eq(cfg_read(r, d, 0x100, 4), 0, "no extended capability");
	cr_expect_eq(pci_add_capability(&d->f, PCI_CAP_ID_VNDR, 4), -ENOSPC, "plugged: too late");
	rig_device_destroy(d);

	d = rig_device(r, "blk1", 1);
	cr_expect_eq(pci_add_capability(&d->f, PCI_CAP_ID_VNDR, 0xbd), 0x40);
	cr_expect_eq(pci_add_capability(&d->f, PCI_CAP_ID_VNDR, 4), -ENOSPC);
	cr_expect_eq(pci_add_express(&d->f), -ENOSPC);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(pci_config, ports)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 1);
	uint32_t latch;

	pci_config_writable32(&d->f, 0x40, 0xffffffff);
	rig_plug(r, d, 5 << 3);
	latch = 0x80000000u | 5 << 11;

	cr_expect_eq(pio_read(r, 0xcfc, 4), 0xffffffff, "not enabled");
	pio_write(r, 0xcf8, 4, latch);
	cr_expect_eq(pio_read(r, 0xcf8, 4), latch);
	cr_expect_eq(pio_read(r, 0xcfc, 4), 0x56781234);
	cr_expect_eq(pio_read(r, 0xcfe, 2), 0x5678);
	cr_expect_eq(pio_read(r, 0xcfd, 1), 0x12);
	cr_expect_eq(pio_read(r, 0xcfd, 2), 0x7812);

	/* narrow writes to the latch are other registers' business */
	pio_write(r, 0xcf8, 1, 0x55);
	pio_write(r, 0xcf8, 2, 0x5555);
	pio_write(r, 0xcfb, 1, 0x01);
	pio_write(r, 0xcfa, 2, 0x0101);
	cr_expect_eq(pio_read(r, 0xcf8, 4), latch);
	cr_expect_eq(pio_read(r, 0xcf8, 1), 0xff);
	cr_expect_eq(pio_read(r, 0xcfa, 2), 0xffff);

	/* straddling latch and data, or running out of the dword */
	cr_expect_eq(pio_read(r, 0xcfb, 2), 0xffff);
	cr_expect_eq(pio_read(r, 0xcfa, 4), 0xffffffff);
	cr_expect_eq(pio_read(r, 0xcfd, 4), 0xffffffff);
	cr_expect_eq(pio_read(r, 0xcff, 2), 0xffff);

	pio_write(r, 0xcf8, 4, 0xffffffff);
	cr_expect_eq(pio_read(r, 0xcf8, 4), 0x80fffffc, "reserved bits read zero");

	pio_write(r, 0xcf8, 4, latch | 0x40);
	pio_write(r, 0xcfe, 2, 0xabcd);
	pio_write(r, 0xcfc, 1, 0x12);
	cr_expect_eq(cfg_read(r, d, 0x40, 4), 0xabcd0012, "the same space as ECAM's");
	pio_write(r, 0xcf8, 4, (latch & ~0x80000000u) | 0x40);
	pio_write(r, 0xcfc, 4, 0);
	cr_expect_eq(cfg_read(r, d, 0x40, 4), 0xabcd0012, "disabled");

	/* absent functions and buses */
	pio_write(r, 0xcf8, 4, 0x80000000u | 6 << 11);
	cr_expect_eq(pio_read(r, 0xcfc, 4), 0xffffffff);
	pio_write(r, 0xcf8, 4, 0x80010000u);
	cr_expect_eq(pio_read(r, 0xcfc, 2), 0xffff);
	pio_write(r, 0xcfc, 4, 0);
	cr_expect_eq(mmio_read(r, RIG_ECAM + (1 << 20), 4), 0xffffffff);
	cr_expect_eq(mmio_read(r, RIG_ECAM + (256 << 20) - 8, 8), ~0ull);
	rig_device_destroy(d);
	rig_destroy(r);
}

Test(pci_config, reset_control)
{
	struct rig *r = rig_create();

	cr_expect_eq(pio_read(r, 0xcf9, 1), 0);
	pio_write(r, 0xcf9, 1, 0x02);
	cr_expect_eq(pio_read(r, 0xcf9, 1), 0x02);
	pio_write(r, 0xcf9, 2, 0x0606);
	cr_expect_eq(r->requests, 0, "only a byte write resets");
	pio_write(r, 0xcf8, 4, 0x0600);
	cr_expect_eq(r->requests, 0);
	pio_write(r, 0xcf9, 1, 0x06);
	cr_expect_eq(r->requests, 1);
	cr_expect_eq(r->requested, REQUEST_RESET);
	rig_destroy(r);
}

Test(pci_config, host_bridge_and_multi_function)
{
	struct rig *r = rig_create();
	struct rig_device *a = rig_device(r, "net0", 1);
	struct rig_device *b = rig_device(r, "net1", 2);
	struct rig_device *c = rig_device(r, "net2", 3);
	struct error e;

	cr_expect_eq(mmio_read(r, RIG_ECAM, 4), 0x00081b36);
	cr_expect_eq(mmio_read(r, RIG_ECAM + PCI_CLASS_DEVICE, 2), 0x0600);
	rig_plug(r, b, (3 << 3) | 1);
	cr_expect_eq(cfg_read(r, b, PCI_HEADER_TYPE, 1), 0x80);
	rig_plug(r, a, 3 << 3);
	cr_expect_eq(cfg_read(r, a, PCI_HEADER_TYPE, 1), 0x80);
	pci_function_reset(&a->f);
	cr_expect_eq(cfg_read(r, a, PCI_HEADER_TYPE, 1), 0x80, "after reset, too");
	cr_expect_eq(pci_function_plug(&c->f, r->root, 3 << 3, &e), -EBUSY);
	cr_expect(strstr(e.msg, "03.0") && strstr(e.msg, "net0"), "%s", e.msg);
	cr_expect_eq(pci_function_plug(&c->f, r->root, 256, &e), -EINVAL);
	rig_plug(r, c, -1);
	cr_expect_eq(c->f.devfn, 1 << 3);
	cr_expect_eq(pci_function_plug(&c->f, r->root, -1, &e), -EINVAL, "already plugged");
	rig_device_destroy(a);
	rig_device_destroy(b);
	rig_device_destroy(c);
	rig_destroy(r);
}

Test(pci_config, all_slots_taken)
{
	struct rig *r = rig_create();
	struct rig_device *d[32];
	struct error e;

	for (unsigned i = 1; i < 32; i++) {
		d[i] = rig_device(r, "rng0", 1);
		rig_plug(r, d[i], -1);
		cr_expect_eq(d[i]->f.devfn, i << 3);
	}
	d[0] = rig_device(r, "rng0", 1);
	cr_expect_eq(pci_function_plug(&d[0]->f, r->root, -1, &e), -ENOSPC);
	for (unsigned i = 0; i < 32; i++)
		rig_device_destroy(d[i]);
	rig_destroy(r);
}

Test(pci_config, reset_restores)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 1);
	uint8_t before[PCI_CONFIG_SIZE];

	rig_bar(d, 0, PCI_BAR_MEM64, true, 0x4000);
	pci_add_express(&d->f);
	pci_config_writable32(&d->f, 0x200, ~0u);
	rig_plug(r, d, -1);
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
		before[i] = (uint8_t)cfg_read(r, d, i, 1);
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i += 4)
		cfg_write(r, d, i, 4, 0xffffffff);
	place(r, d, 0, RIG_MEM64);
	cr_expect(answers(r, d, 0, RIG_MEM64));
	pci_function_reset(&d->f);
	cr_expect_not(answers(r, d, 0, RIG_MEM64));
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
		cr_expect_eq(cfg_read(r, d, i, 1), before[i], "byte 0x%x", i);
	rig_device_destroy(d);
	rig_destroy(r);
}

/* ---- random accesses against a model ---- */

struct model {
	uint8_t value[PCI_CONFIG_SIZE], rw[PCI_CONFIG_SIZE], w1c[PCI_CONFIG_SIZE];
	uint32_t latch;
};

static void model32(struct model *m, unsigned offset, uint32_t value, uint32_t rw, uint32_t w1c)
{
	memcpy(m->value + offset, &value, 4);
	memcpy(m->rw + offset, &rw, 4);
	memcpy(m->w1c + offset, &w1c, 4);
}

/* From the specification, by hand. */
static void model_init(struct model *m)
{
	model32(m, 0x00, 0x56781234, 0, 0);
	model32(m, 0x04, 0x00100000, 0x00000547, 0xf9000000);
	model32(m, 0x08, 0x01080203, 0, 0);
	model32(m, 0x0c, 0, 0xff, 0);
	model32(m, 0x10, 0x00000000, 0xfffff000, 0); /* 4 KiB, 32 bits */
	model32(m, 0x14, 0x00000001, 0xffffffe0, 0); /* 32 ports */
	model32(m, 0x18, 0x0000000c, 0xfe000000, 0); /* 32 MiB, 64 bits */
	model32(m, 0x1c, 0x00000000, 0xffffffff, 0);
	model32(m, 0x20, 0x0000000c, 0x00000000, 0); /* 8 GiB, 64 bits */
	model32(m, 0x24, 0x00000000, 0xfffffffe, 0);
	model32(m, 0x2c, 0xdef09abc, 0, 0);
	model32(m, 0x34, 0x40, 0, 0);
	model32(m, 0x3c, 0x0100, 0xff, 0);
	model32(m, 0x40, 0x00024c11, 0xc0000000, 0); /* MSI-X, 3 vectors */
	model32(m, 0x44, 0x00000000, 0, 0);
	model32(m, 0x48, 0x00000800, 0, 0);
	model32(m, 0x4c, 0x01846405, 0x00710000, 0); /* MSI, 4 vectors */
	model32(m, 0x50, 0, 0xfffffffc, 0);
	model32(m, 0x54, 0, 0xffffffff, 0);
	model32(m, 0x58, 0, 0xffff, 0);
	model32(m, 0x5c, 0, 0xf, 0);
	model32(m, 0x64, 0x00920010, 0, 0); /* PCI Express */
	model32(m, 0x68, 0x00008000, 0, 0);
	model32(m, 0x6c, 0x2810, 0x0000781f, 0x000f0000);
	model32(m, 0x300, 0x12345678, 0x0f0f0f0f, 0xf0000000); /* the device's own */
}

static void model_write(struct model *m, uint64_t offset, unsigned size, uint64_t value)
{
	for (unsigned i = 0; i < size; i++, value >>= 8) {
		uint8_t *v = &m->value[offset + i], rw = m->rw[offset + i];

		*v = (uint8_t)((*v & ~rw) | (value & rw));
		*v &= (uint8_t) ~(value & m->w1c[offset + i]);
	}
}

static uint64_t model_read(const struct model *m, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, m->value + offset, size);
	return value;
}

/* Addresses that matter come up often; the rest is noise. */
static uint64_t fuzz_value(uint64_t *seed)
{
	uint64_t noise = rig_random(seed);

	switch (rig_random(seed) % 5) {
	case 0:
		return RIG_MEM32 + (noise & 0x0ffff000);
	case 1:
		return noise & 0x0407; /* command */
	case 2:
		return ~0ull;
	default:
		return noise;
	}
}

static void fuzz_ecam(struct rig *r, struct rig_device *d, struct model *m, uint64_t *seed)
{
	unsigned size = 1u << rig_random(seed) % 4;
	unsigned range = rig_random(seed) % 4 ? 0x80 : PCI_CONFIG_SIZE;
	unsigned offset = (unsigned)(rig_random(seed) % range);
	uint64_t value = fuzz_value(seed);
	bool inside = offset + size <= PCI_CONFIG_SIZE;

	if (rig_random(seed) % 2) {
		cfg_write(r, d, offset, size, value);
		if (inside)
			model_write(m, offset, size, value);
	} else {
		value = cfg_read(r, d, offset, size);
		cr_assert_eq(value, inside ? model_read(m, offset, size) : ~0ull >> (64 - 8 * size),
			     "read of %u at 0x%x gave 0x%llx", size, offset,
			     (unsigned long long)value);
	}
}

static void fuzz_ports(struct rig *r, struct rig_device *d, struct model *m, uint64_t *seed)
{
	unsigned size = 1u << rig_random(seed) % 3;
	unsigned port = 0xcf8 + (unsigned)(rig_random(seed) % 8);
	bool write = rig_random(seed) % 2;
	uint64_t value = fuzz_value(seed);
	bool data = port >= 0xcfc && port + size <= 0xd00;
	bool ours = (m->latch & 0x80000000) && (m->latch & 0x00ffff00) >> 8 == d->f.devfn;
	unsigned offset = (m->latch & 0xfc) + (port & 3);
	uint64_t expected = ~0ull >> (64 - 8 * size);

	if (port == 0xcf8 && size == 4 && write) {
		value = rig_random(seed) & 0xfe; /* mostly our function, the header and MSI */
		value |= rig_random(seed) % 8 ? 0x80000000 | (uint64_t)d->f.devfn << 8
					      : rig_random(seed);
		pio_write(r, port, size, value);
		m->latch = (uint32_t)value & 0x80fffffc;
	} else if (write && (port != 0xcf9 || size != 1)) {
		pio_write(r, port, size, value);
		if (data && ours)
			model_write(m, offset, size, value);
	} else if (!write) {
		if (data && ours)
			expected = model_read(m, offset, size);
		else if (data && (m->latch & 0x80ffff00) == 0x80000000)
			return; /* the host bridge's */
		else if (port == 0xcf8 && size == 4)
			expected = m->latch;
		else if (port == 0xcf9 && size == 1)
			expected = 0;
		cr_assert_eq(pio_read(r, port, size), expected, "read of %u at port 0x%x", size,
			     port);
	}
}

/* What is on the bus is what config space says, inside the windows. */
static void check_bars(const struct rig_device *d)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *b = &d->f.bar[i];
		uint64_t low = b->kind == PCI_BAR_IO ? RIG_IO : RIG_MEM32;
		uint64_t address = pci_config_get32(&d->f, PCI_BASE_ADDRESS_0 + 4 * i);

		if (!b->mapped)
			continue;
		if (b->kind == PCI_BAR_MEM64)
			address |= (uint64_t)pci_config_get32(&d->f, PCI_BASE_ADDRESS_0 + 4 * i + 4)
				   << 32;
		cr_assert_eq(b->range.base, address & ~0xfull);
		cr_assert_geq(address, low);
		cr_assert(b->enabled);
	}
}

Test(pci_config, random_accesses_match_a_model, .timeout = 60)
{
	struct rig *r = rig_create();
	struct rig_device *d = rig_device(r, "blk0", 1);
	struct model *m = calloc(1, sizeof(*m));
	struct error e = { 0 };
	uint64_t seed = 20240601;
	unsigned mapped = 0;

	rig_bar(d, 0, PCI_BAR_MEM32, false, 0x1000);
	rig_bar(d, 1, PCI_BAR_IO, false, 32);
	rig_bar(d, 2, PCI_BAR_MEM64, true, 32 << 20);
	rig_bar(d, 4, PCI_BAR_MEM64, true, 8ull << 30);
	cr_assert(pci_add_msix(&d->f, 3, 0, 0, 0x800, &e) == 0, "%s", e.msg);
	cr_assert(pci_add_msi(&d->f, 4, &e) == 0, "%s", e.msg);
	cr_assert_eq(pci_add_express(&d->f), 0x64);
	pci_config_set32(&d->f, 0x300, 0x12345678);
	pci_config_writable32(&d->f, 0x300, 0x0f0f0f0f);
	pci_config_clears32(&d->f, 0x300, 0xf0000000);
	rig_plug(r, d, 7 << 3);
	model_init(m);

	for (unsigned i = 0; i < 100000; i++) {
		if (rig_random(&seed) % 2)
			fuzz_ecam(r, d, m, &seed);
		else
			fuzz_ports(r, d, m, &seed);
		if (i % 64 == 0) { /* the device's side */
			bool level = rig_random(&seed) % 2;

			pci_intx_set(&d->f, level);
			m->value[6] = (uint8_t)((m->value[6] & ~8) | (level ? 8 : 0));
			pci_config_set8(&d->f, 0x303, 0xf0);
			m->value[0x303] = 0xf0;
		}
		check_bars(d);
		mapped += d->f.bar[0].mapped || d->f.bar[1].mapped || d->f.bar[2].mapped;
	}
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
		cr_assert_eq(cfg_read(r, d, i, 1), m->value[i], "byte 0x%x", i);
	cr_expect_gt(mapped, 1000, "the test should have moved BARs about, not only refused them");
	cr_expect_eq(r->requests, 0);
	free(m);
	rig_device_destroy(d);
	rig_destroy(r);
}
