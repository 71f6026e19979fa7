/*
 * 8259A pair, I/O APIC and 8254 on their buses: see chips.h.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "devices/emulated/chips.h"
#include "devices/emulated/i8254.h"
#include "devices/emulated/i8259.h"
#include "vmm/x86_64/layout.h"

#define NS_IN_SEC  1000000000u
#define TIMER_GSI  0u
#define TIMER_MIN  119 /* clocks, 100 µs: a shorter period only loses edges, as a slow CPU would */
#define UNIT_PORTS 2u
#define PIT_PORTS  4u

_Static_assert(IRQ_LINES == IOAPIC_PINS, "a line is a pin");

struct unit {
	struct chips *chips;
	unsigned number;
};

struct chips {
	struct device_host *host;
	struct chips_wiring wiring;
	/*
	 * One lock a chip. Order: the timer's, then one of the other two (never both), then the
	 * wiring's. Devices may hold theirs and irq.c's line lock when they come in.
	 */
	pthread_mutex_t pic_lock, ioapic_lock, pit_lock;
	struct i8259 pic;
	bool intr; /* the level of INT that was told */
	struct ioapic ioapic;
	struct i8254 pit;
	struct event_timer timer;
	int64_t due; /* when the timer goes off; 0: not set */
	struct unit unit[2];
	void (*ended)(void *opaque, uint32_t lines); /* set while no vCPU runs */
	void *ended_opaque;
};

/* ---- 8259A ----------------------------------------------------------------------------------- */

/* Lock held. */
static void tell_int(struct chips *chips)
{
	bool level = i8259_int(&chips->pic);

	if (level == chips->intr)
		return;
	chips->intr = level;
	chips->wiring.set_int(chips->wiring.opaque, level);
}

uint8_t chips_inta(struct chips *chips)
{
	uint8_t vector;

	pthread_mutex_lock(&chips->pic_lock);
	vector = i8259_inta(&chips->pic);
	tell_int(chips);
	pthread_mutex_unlock(&chips->pic_lock);
	return vector;
}

static uint8_t pic_read_byte(void *opaque, uint64_t offset)
{
	const struct unit *unit = opaque;

	return i8259_read(&unit->chips->pic, unit->number, (unsigned)offset);
}

static void pic_write_byte(void *opaque, uint64_t offset, uint8_t value)
{
	const struct unit *unit = opaque;

	i8259_write(&unit->chips->pic, unit->number, (unsigned)offset, value);
}

static uint64_t pic_read(void *opaque, uint64_t offset, unsigned size)
{
	struct unit *unit = opaque;
	uint64_t value;

	pthread_mutex_lock(&unit->chips->pic_lock);
	value = reg_read_bytewise(unit, offset, size, pic_read_byte);
	tell_int(unit->chips); /* a poll acknowledges */
	pthread_mutex_unlock(&unit->chips->pic_lock);
	return value;
}

static void pic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct unit *unit = opaque;

	pthread_mutex_lock(&unit->chips->pic_lock);
	reg_write_bytewise(unit, offset, size, value, pic_write_byte);
	tell_int(unit->chips);
	pthread_mutex_unlock(&unit->chips->pic_lock);
}

static uint8_t elcr_read_byte(void *opaque, uint64_t offset)
{
	const struct chips *chips = opaque;

	return i8259_elcr_read(&chips->pic, (unsigned)offset);
}

static void elcr_write_byte(void *opaque, uint64_t offset, uint8_t value)
{
	struct chips *chips = opaque;

	i8259_elcr_write(&chips->pic, (unsigned)offset, value);
}

static uint64_t elcr_read(void *opaque, uint64_t offset, unsigned size)
{
	struct chips *chips = opaque;
	uint64_t value;

	pthread_mutex_lock(&chips->pic_lock);
	value = reg_read_bytewise(chips, offset, size, elcr_read_byte);
	pthread_mutex_unlock(&chips->pic_lock);
	return value;
}

static void elcr_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct chips *chips = opaque;

	pthread_mutex_lock(&chips->pic_lock);
	reg_write_bytewise(chips, offset, size, value, elcr_write_byte);
	tell_int(chips);
	pthread_mutex_unlock(&chips->pic_lock);
}

/* ---- I/O APIC -------------------------------------------------------------------------------- */

static bool ioapic_send(void *opaque, const struct apic_msi *msi)
{
	struct chips *chips = opaque;

	return chips->wiring.send(chips->wiring.opaque, msi);
}

static void ioapic_await_eoi(void *opaque, unsigned pin, const struct apic_msi *msi)
{
	struct chips *chips = opaque;

	if (chips->wiring.await_eoi)
		chips->wiring.await_eoi(chips->wiring.opaque, pin, msi);
}

static uint64_t ioapic_bus_read(void *opaque, uint64_t offset, unsigned size)
{
	struct chips *chips = opaque;
	uint64_t value;

	pthread_mutex_lock(&chips->ioapic_lock);
	value = ioapic_read(&chips->ioapic, offset, size);
	pthread_mutex_unlock(&chips->ioapic_lock);
	return value;
}

static void ioapic_bus_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct chips *chips = opaque;

	pthread_mutex_lock(&chips->ioapic_lock);
	ioapic_write(&chips->ioapic, offset, size, (uint32_t)value);
	pthread_mutex_unlock(&chips->ioapic_lock);
}

uint32_t chips_eoi(struct chips *chips, uint8_t vector)
{
	uint32_t ended;

	if (chips->ended) {
		pthread_mutex_lock(&chips->ioapic_lock);
		ended = ioapic_serving(&chips->ioapic, vector);
		pthread_mutex_unlock(&chips->ioapic_lock);
		if (ended)
			chips->ended(chips->ended_opaque, ended);
	}
	pthread_mutex_lock(&chips->ioapic_lock);
	ended = ioapic_eoi(&chips->ioapic, vector);
	pthread_mutex_unlock(&chips->ioapic_lock);
	return ended;
}

void chips_watch_ends(struct chips *chips, void (*ended)(void *opaque, uint32_t lines),
		      void *opaque)
{
	chips->ended = ended;
	chips->ended_opaque = opaque;
}

void chips_set_line(struct chips *chips, unsigned gsi, bool level)
{
	/* The ISA lines go to both, as on a PC; the kernel of the guest masks one of them. */
	if (gsi < I8259_INPUTS) {
		pthread_mutex_lock(&chips->pic_lock);
		i8259_set_input(&chips->pic, gsi, level);
		tell_int(chips);
		pthread_mutex_unlock(&chips->pic_lock);
	}
	pthread_mutex_lock(&chips->ioapic_lock);
	ioapic_set_pin(&chips->ioapic, gsi, level);
	pthread_mutex_unlock(&chips->ioapic_lock);
}

/* ---- 8254 ------------------------------------------------------------------------------------ */

static int64_t pit_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * I8254_HZ +
	       (int64_t)((uint64_t)ts.tv_nsec * I8254_HZ / NS_IN_SEC);
}

/* The line and the timer follow counter 0; lock held. */
static void pit_update(struct chips *chips, int64_t now)
{
	int64_t wait, due;

	/* An edge is one, however short the level before it was. */
	if (i8254_rose(&chips->pit, now)) {
		chips_set_line(chips, TIMER_GSI, false);
		chips_set_line(chips, TIMER_GSI, true);
	}
	chips_set_line(chips, TIMER_GSI, i8254_out(&chips->pit, 0, now));
	wait = i8254_next(&chips->pit, now);
	if (wait && wait < TIMER_MIN)
		wait = TIMER_MIN;
	due = wait ? now + wait : 0;
	if (due == chips->due)
		return;
	/* No need to cancel: a look too many does no harm. */
	chips->due = due;
	if (due)
		event_timer_set(&chips->timer, (uint64_t)wait * NS_IN_SEC / I8254_HZ + 1);
}

static void pit_timer(void *opaque)
{
	struct chips *chips = opaque;

	pthread_mutex_lock(&chips->pit_lock);
	chips->due = 0;
	pit_update(chips, pit_now());
	pthread_mutex_unlock(&chips->pit_lock);
}

static uint8_t pit_read_byte(void *opaque, uint64_t offset)
{
	struct chips *chips = opaque;

	return i8254_read(&chips->pit, (unsigned)offset, pit_now());
}

static void pit_write_byte(void *opaque, uint64_t offset, uint8_t value)
{
	struct chips *chips = opaque;
	int64_t now = pit_now();

	/* What has happened so far belongs to the old setting. */
	pit_update(chips, now);
	i8254_write(&chips->pit, (unsigned)offset, value, now);
	pit_update(chips, now);
}

static uint64_t pit_read(void *opaque, uint64_t offset, unsigned size)
{
	struct chips *chips = opaque;
	uint64_t value;

	pthread_mutex_lock(&chips->pit_lock);
	value = reg_read_bytewise(chips, offset, size, pit_read_byte);
	pthread_mutex_unlock(&chips->pit_lock);
	return value;
}

static void pit_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct chips *chips = opaque;

	pthread_mutex_lock(&chips->pit_lock);
	reg_write_bytewise(chips, offset, size, value, pit_write_byte);
	pthread_mutex_unlock(&chips->pit_lock);
}

static uint64_t port61_read(void *opaque, uint64_t offset, unsigned size)
{
	struct chips *chips = opaque;
	uint64_t value;

	(void)offset;
	(void)size;
	pthread_mutex_lock(&chips->pit_lock);
	value = i8254_port61_read(&chips->pit, pit_now());
	pthread_mutex_unlock(&chips->pit_lock);
	return value;
}

static void port61_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct chips *chips = opaque;

	(void)offset;
	(void)size;
	pthread_mutex_lock(&chips->pit_lock);
	i8254_port61_write(&chips->pit, (uint8_t)value, pit_now());
	pthread_mutex_unlock(&chips->pit_lock);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static const struct bus_ops pic_bus_ops = { .read = pic_read, .write = pic_write };
static const struct bus_ops elcr_bus_ops = { .read = elcr_read, .write = elcr_write };
static const struct bus_ops pit_bus_ops = { .read = pit_read, .write = pit_write };
static const struct bus_ops port61_bus_ops = { .read = port61_read, .write = port61_write };
static const struct bus_ops ioapic_bus_ops = { .read = ioapic_bus_read, .write = ioapic_bus_write };

void chips_reset(struct chips *chips)
{
	pthread_mutex_lock(&chips->ioapic_lock);
	ioapic_reset(&chips->ioapic);
	pthread_mutex_unlock(&chips->ioapic_lock);
	pthread_mutex_lock(&chips->pic_lock);
	i8259_reset(&chips->pic);
	tell_int(chips);
	pthread_mutex_unlock(&chips->pic_lock);
	pthread_mutex_lock(&chips->pit_lock);
	i8254_reset(&chips->pit, pit_now());
	pit_update(chips, pit_now());
	pthread_mutex_unlock(&chips->pit_lock);
}

static int plug(struct chips *chips, struct error *e)
{
	struct bus *pio = chips->host->pio, *mmio = chips->host->mmio;
	struct {
		struct bus *bus;
		struct bus_range range;
	} ranges[] = {
		{ pio,
		  { .name = "i8259 master",
		    .base = LAYOUT_PIC1_PIO,
		    .size = UNIT_PORTS,
		    .ops = &pic_bus_ops,
		    .opaque = &chips->unit[0] } },
		{ pio,
		  { .name = "i8259 slave",
		    .base = LAYOUT_PIC2_PIO,
		    .size = UNIT_PORTS,
		    .ops = &pic_bus_ops,
		    .opaque = &chips->unit[1] } },
		{ pio,
		  { .name = "elcr",
		    .base = LAYOUT_ELCR_PIO,
		    .size = UNIT_PORTS,
		    .ops = &elcr_bus_ops,
		    .opaque = chips } },
		{ pio,
		  { .name = "i8254",
		    .base = LAYOUT_PIT_PIO,
		    .size = PIT_PORTS,
		    .ops = &pit_bus_ops,
		    .opaque = chips } },
		{ pio,
		  { .name = "port 61",
		    .base = LAYOUT_PORT61_PIO,
		    .size = 1,
		    .ops = &port61_bus_ops,
		    .opaque = chips } },
		{ mmio,
		  { .name = "ioapic",
		    .base = LAYOUT_IOAPIC,
		    .size = IOAPIC_SIZE,
		    .ops = &ioapic_bus_ops,
		    .opaque = chips } },
	};

	for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		int err = bus_add(ranges[i].bus, &ranges[i].range, e);

		if (err)
			return err;
	}
	return 0;
}

static void unplug(struct chips *chips)
{
	bus_remove(chips->host->pio, LAYOUT_PIC1_PIO, &chips->unit[0]);
	bus_remove(chips->host->pio, LAYOUT_PIC2_PIO, &chips->unit[1]);
	bus_remove(chips->host->pio, LAYOUT_ELCR_PIO, chips);
	bus_remove(chips->host->pio, LAYOUT_PIT_PIO, chips);
	bus_remove(chips->host->pio, LAYOUT_PORT61_PIO, chips);
	bus_remove(chips->host->mmio, LAYOUT_IOAPIC, chips);
}

struct chips *chips_create(struct device_host *host, const struct chips_wiring *wiring,
			   struct error *e)
{
	struct chips *chips = calloc(1, sizeof(*chips));
	int err;

	if (!chips) {
		error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	chips->host = host;
	chips->wiring = *wiring;
	pthread_mutex_init(&chips->pic_lock, NULL);
	pthread_mutex_init(&chips->ioapic_lock, NULL);
	pthread_mutex_init(&chips->pit_lock, NULL);
	for (unsigned i = 0; i < 2; i++)
		chips->unit[i] = (struct unit){ .chips = chips, .number = i };
	chips->ioapic.send = ioapic_send;
	chips->ioapic.await_eoi = ioapic_await_eoi;
	chips->ioapic.opaque = chips;
	chips->timer = (struct event_timer){ .callback = pit_timer, .opaque = chips };
	err = event_timer_init(&chips->timer, host->loop);
	if (err)
		error_set_errno(e, err, "cannot make a timer");
	else
		err = plug(chips, e);
	if (err) {
		chips_destroy(chips);
		return NULL;
	}
	chips_reset(chips);
	return chips;
}

void chips_destroy(struct chips *chips)
{
	if (!chips)
		return;
	unplug(chips);
	event_timer_destroy(&chips->timer);
	pthread_mutex_destroy(&chips->pic_lock);
	pthread_mutex_destroy(&chips->ioapic_lock);
	pthread_mutex_destroy(&chips->pit_lock);
	free(chips);
}
