/*
 * The interrupt line of virtio-mmio (Virtio 1.2 section 4.2.2): a level, high from the first reason
 * until the last is acknowledged, on the GSI that the DSDT names.
 *
 * mvm: --rng=virtio,transport=mmio
 * mvm: --rng=virtio,transport=mmio,ring=packed --irqchip=split
 * mvm: --rng=virtio,transport=mmio,event-idx=off --irqchip=user
 * stderr: any
 */
#include "apic.h"
#include "guest.h"
#include "trap.h"
#include "virtio.h"

#define VECTOR_LINE 0x74
#define QUIET_MS    10
#define SOON_MS	    1000
#define MANY	    20

static struct virtio rng;
static struct vq queue;
static uint8_t bytes[16];
static volatile uint32_t reasons;
static uint32_t ignored, to_ignore;

static bool ask(void)
{
	return rng_request(&queue, bytes, sizeof(bytes)) == sizeof(bytes);
}

static void on_line(void)
{
	if (ignored < to_ignore)
		ignored++;
	else
		reasons |= rng.transport->interrupts(&rng);
}

/* Lets interrupts in until this reason has been given and acknowledged. */
static bool wait_reason(uint8_t reason)
{
	bool came;

	irq_enable();
	came = wait_for(reasons & reason, SOON_MS);
	irq_disable();
	return came;
}

/* What was on its way when the line went down may still come, once; then nothing does. */
static bool is_low(void)
{
	irq_during(VECTOR_LINE, QUIET_MS);
	return irq_during(VECTOR_LINE, QUIET_MS) == 0;
}

static void high_until_acknowledged(void)
{
	ignored = reasons = 0;
	to_ignore = MANY;
	check(ask() && wait_reason(VIRTIO_ISR_QUEUE) && ignored == MANY,
	      "not acknowledged, it comes again and again");
	check_equal(reasons, VIRTIO_ISR_QUEUE, "for the queue");
	check(read32(rng.isr) == 0 && is_low(), "acknowledged, it does not");
	to_ignore = 0;
}

static void one_for_each(void)
{
	unsigned good = 0;

	for (unsigned i = 0; i < MANY; i++) {
		reasons = 0;
		good += ask() && wait_reason(VIRTIO_ISR_QUEUE);
	}
	check_equal(good, MANY, "acknowledged, each request has one");
}

static bool again(void)
{
	if (!virtio_begin(&rng, 0))
		return false;
	vq_again(&queue);
	virtio_ready(&rng);
	return true;
}

static void broken(void)
{
	struct vq_desc nowhere = { 0xd8000000, 16, VQ_WRITE, 0 };

	again();
	reasons = 0;
	vq_lay(&queue, &nowhere, 1);
	vq_show(&queue);
	vq_kick(&queue);
	check(wait_reason(VIRTIO_ISR_CONFIG), "a device that needs a reset says so");
}

/* A reset takes the line down, whoever was to acknowledge it. */
static void reset(void)
{
	check(again() && ask() && (read32(rng.isr) & VIRTIO_ISR_QUEUE), "the line is high");
	check(virtio_reset(&rng) && read32(rng.isr) == 0 && is_low(), "reset, it is low");
}

void main(void)
{
	irq_init();
	if (!check(virtio_mmio_find(&rng, VIRTIO_RNG, 0), "a device by MMIO"))
		return;
	check(!is_ram(rng.common, MMIO_SIZE), "its registers are at 0x%lx", rng.common);
	if (!check(rng.gsi > 0 && rng.gsi < IOAPIC_PINS, "its line is GSI %u", rng.gsi) ||
	    !check(virtio_open(&rng, &queue, VIRTIO_RNG, 0, 0), "it starts"))
		return;
	irq_handler(VECTOR_LINE, on_line);
	ioapic_route(rng.gsi, VECTOR_LINE, 0, IOAPIC_LEVEL);
	high_until_acknowledged();
	one_for_each();
	broken();
	reset();
}
