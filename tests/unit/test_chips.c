/*
 * The chip set's interrupt controllers and timer on their ports and page: the wiring between them
 * and to what is beyond.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include <criterion/criterion.h>

#include "devices/emulated/chips.h"
#include "tests/unit/emulated_rig.h"
#include "vmm/x86_64/layout.h"

#define PIC1 LAYOUT_PIC1_PIO
#define PIC2 LAYOUT_PIC2_PIO

static struct em_rig rig;
static struct chips *chips;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static unsigned sent, awaited;
static uint32_t last;
static bool intr;

static bool send(void *opaque, const struct apic_msi *msi)
{
	cr_assert_eq(opaque, &rig);
	pthread_mutex_lock(&lock);
	last = msi->data;
	sent++;
	pthread_mutex_unlock(&lock);
	return true;
}

static void await_eoi(void *opaque, unsigned pin, const struct apic_msi *msi)
{
	(void)opaque;
	(void)msi;
	awaited |= 1u << pin;
}

static void set_int(void *opaque, bool level)
{
	(void)opaque;
	__atomic_store_n(&intr, level, __ATOMIC_SEQ_CST);
}

static unsigned messages(void)
{
	unsigned n;

	pthread_mutex_lock(&lock);
	n = sent;
	pthread_mutex_unlock(&lock);
	return n;
}

static void set_up(void)
{
	const struct chips_wiring wiring = { send, await_eoi, set_int, &rig };
	struct error e = { "" };

	em_open(&rig);
	rig.host.mmio = bus_create("mmio");
	sent = awaited = 0;
	intr = false;
	chips = chips_create(&rig.host, &wiring, &e);
	cr_assert(chips, "%s", e.msg);
}

static void tear_down(void)
{
	chips_destroy(chips);
	bus_destroy(rig.host.mmio);
	em_close(&rig);
}

TestSuite(chips, .init = set_up, .fini = tear_down, .timeout = 60);

static void ioapic_out(unsigned reg, uint32_t value)
{
	cr_assert(bus_write(rig.host.mmio, LAYOUT_IOAPIC, 4, reg));
	cr_assert(bus_write(rig.host.mmio, LAYOUT_IOAPIC + 0x10, 4, value));
}

static void pic_init(void)
{
	static const uint8_t words[2][4] = { { 0x11, 0x30, 4, 1 }, { 0x11, 0x38, 2, 1 } };

	for (unsigned unit = 0; unit < 2; unit++)
		for (unsigned i = 0; i < 4; i++)
			em_out(&rig, (unit ? PIC2 : PIC1) + (i > 0), words[unit][i]);
}

Test(chips, a_line_reaches_both_controllers)
{
	pic_init();
	ioapic_out(IOAPIC_REDTBL + 2 * 4, 0x51);
	chips_set_line(chips, 4, true);
	cr_assert_eq(messages(), 1);
	cr_assert_eq(last & 0xff, 0x51);
	cr_assert(intr);
	cr_assert_eq(chips_inta(chips), 0x34);
	cr_assert(!intr);
	chips_set_line(chips, 4, false);
	ioapic_out(IOAPIC_REDTBL + 2 * 20, 0x61 | RTE_LEVEL);
	cr_assert_eq(awaited, 1u << 20);
	chips_set_line(chips, 20, true);
	cr_assert_eq(messages(), 2);
	cr_assert(!intr, "PCI's lines are the I/O APIC's alone");
	cr_assert_eq(chips_eoi(chips, 0x61), 1u << 20);
	cr_assert_eq(messages(), 3);
	chips_set_line(chips, 20, false);
}

static void lower(void *opaque, uint32_t lines)
{
	cr_assert_eq(opaque, &rig);
	cr_assert_eq(lines, 1u << 20);
	chips_set_line(chips, 20, false);
}

/* Who watches may lower a line before its pin would interrupt once more. */
Test(chips, the_end_of_a_level_interrupt_is_told_before_the_pin_is_looked_at)
{
	chips_watch_ends(chips, lower, &rig);
	ioapic_out(IOAPIC_REDTBL + 2 * 20, 0x61 | RTE_LEVEL);
	chips_set_line(chips, 20, true);
	cr_assert_eq(messages(), 1);
	cr_assert_eq(chips_eoi(chips, 0x62), 0, "nobody is told of another's");
	cr_assert_eq(chips_eoi(chips, 0x61), 1u << 20);
	cr_assert_eq(messages(), 1);
	chips_set_line(chips, 20, true);
	cr_assert_eq(messages(), 2);
	chips_watch_ends(chips, NULL, NULL);
	cr_assert_eq(chips_eoi(chips, 0x61), 1u << 20);
	cr_assert_eq(messages(), 3, "nobody lowers it");
	chips_set_line(chips, 20, false);
}

Test(chips, the_mask_and_poll_of_the_8259_drive_int)
{
	pic_init();
	em_out(&rig, PIC1 + 1, 1 << 3);
	chips_set_line(chips, 3, true);
	cr_assert(!intr);
	em_out(&rig, PIC1 + 1, 0);
	cr_assert(intr);
	em_out(&rig, PIC1, 0x0c);
	cr_assert_eq(em_in(&rig, PIC1), 0x83);
	cr_assert(!intr);
	em_out(&rig, LAYOUT_ELCR_PIO, 1 << 3);
	cr_assert_eq(em_in(&rig, LAYOUT_ELCR_PIO), 1 << 3);
	em_out(&rig, PIC1, 0x20);
	cr_assert(intr, "a level now");
	chips_set_line(chips, 3, false);
	cr_assert(!intr);
}

/* A real timer, waited for as a guest does: by looking. */
Test(chips, the_timer_ticks)
{
	pic_init();
	em_out(&rig, PIC1 + 1, 0xfe);
	ioapic_out(IOAPIC_REDTBL, 0x52);
	em_out(&rig, LAYOUT_PIT_PIO + 3, 0x34);
	em_out(&rig, LAYOUT_PIT_PIO, 0);
	em_out(&rig, LAYOUT_PIT_PIO, 0x08);
	while (messages() < 5)
		sched_yield();
	cr_assert(__atomic_load_n(&intr, __ATOMIC_SEQ_CST));
	cr_assert_eq(chips_inta(chips), 0x30);
	/* The shortest there is does not flood. */
	em_out(&rig, LAYOUT_PIT_PIO, 2);
	em_out(&rig, LAYOUT_PIT_PIO, 0);
	unsigned before = messages();
	while (messages() < before + 50)
		sched_yield();
	chips_reset(chips);
	before = messages();
	em_out(&rig, 0x61, 1);
	cr_assert(em_in(&rig, 0x61) & 1);
	cr_assert_eq(messages(), before, "a reset stops it");
}

Test(chips, reset_keeps_lines)
{
	chips_set_line(chips, 20, true);
	chips_reset(chips);
	ioapic_out(IOAPIC_REDTBL + 2 * 20, 0x61 | RTE_LEVEL);
	cr_assert_eq(messages(), 1, "a device still drives it");
	chips_set_line(chips, 20, false);
}

Test(chips, hostile_accesses)
{
	static const uint64_t places[] = { PIC1, PIC2, LAYOUT_ELCR_PIO, LAYOUT_PIT_PIO,
					   LAYOUT_PORT61_PIO };
	uint64_t value;

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		em_torment(&rig, places[i] - 2, 6, 20000);
	srandom(7);
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t at = LAYOUT_IOAPIC + (i % 3 ? random() & 0x10 : random() & 0xfff);

		if (i & 1)
			bus_write(rig.host.mmio, at, 1u << (random() & 3), (uint64_t)random());
		else
			bus_read(rig.host.mmio, at, 1u << (random() & 3), &value);
		if (i % 16 == 0)
			chips_set_line(chips, random() & 31, random() & 1);
		if (i % 64 == 0)
			chips_eoi(chips, (uint8_t)random());
		if (i % 64 == 1)
			chips_inta(chips);
	}
}
