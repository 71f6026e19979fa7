/*
 * The clock of a PC: the chip of rtc.h behind its index port 0x70 and data port 0x71, showing the
 * host's UTC until the guest sets it. Bit 7 of the index port masks the NMI, which nothing here
 * sends.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "devices/device.h"
#include "devices/emulated/rtc.h"
#include "vmm/x86_64/layout.h"

#define PORTS	   2u
#define INDEX_MASK 0x7fu
#define LONGEST	   (60 * RTC_SECOND) /* between looks: somebody may set the host's clock */
#define NS_IN_SEC  1000000000u

struct rtc {
	struct device dev;
	/* Guards all below. Order: this, then the interrupt controller's; the timer has none. */
	pthread_mutex_t lock;
	struct rtc_chip chip;
	uint8_t index;
	struct irq_line irq;
	struct event_timer timer;
	int64_t due; /* host time the timer is set for; 0: not set */
};

static int64_t host_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * RTC_SECOND +
	       (int64_t)((uint64_t)ts.tv_nsec * RTC_SECOND / NS_IN_SEC);
}

/* The pin and the timer follow the chip; lock held. */
static void update(struct rtc *rtc, int64_t now)
{
	int64_t wait, due;

	irq_line_set(&rtc->irq, rtc_irq(&rtc->chip, now));
	wait = rtc_next(&rtc->chip, now);
	if (wait > LONGEST)
		wait = LONGEST;
	due = wait ? now + wait : 0;
	if (due == rtc->due)
		return;
	/* No need to cancel: a look too many does no harm. */
	rtc->due = due;
	if (due)
		event_timer_set(&rtc->timer, (uint64_t)wait * NS_IN_SEC / RTC_SECOND + 1);
}

static void timer_due(void *opaque)
{
	struct rtc *rtc = opaque;

	pthread_mutex_lock(&rtc->lock);
	rtc->due = 0;
	update(rtc, host_time());
	pthread_mutex_unlock(&rtc->lock);
}

static uint8_t read_byte(void *opaque, uint64_t offset)
{
	struct rtc *rtc = opaque;
	int64_t now = host_time();
	uint8_t value;

	/* The index port can only be written. */
	if (offset == 0)
		return 0xff;
	value = rtc_read(&rtc->chip, rtc->index, now);
	update(rtc, now);
	return value;
}

static void write_byte(void *opaque, uint64_t offset, uint8_t value)
{
	struct rtc *rtc = opaque;
	int64_t now = host_time();

	if (offset == 0) {
		rtc->index = value & INDEX_MASK;
		return;
	}
	rtc_write(&rtc->chip, rtc->index, value, now);
	update(rtc, now);
}

static uint64_t bus_read_rtc(void *opaque, uint64_t offset, unsigned size)
{
	struct rtc *rtc = opaque;
	uint64_t value;

	pthread_mutex_lock(&rtc->lock);
	value = reg_read_bytewise(rtc, offset, size, read_byte);
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

static void bus_write_rtc(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct rtc *rtc = opaque;

	pthread_mutex_lock(&rtc->lock);
	reg_write_bytewise(rtc, offset, size, value, write_byte);
	pthread_mutex_unlock(&rtc->lock);
}

static const char *bus_name_rtc(void *opaque, uint64_t offset, unsigned size, bool write)
{
	struct rtc *rtc = opaque;
	unsigned index;

	(void)size;
	if (offset == 0)
		return "INDEX";
	pthread_mutex_lock(&rtc->lock);
	index = rtc->index;
	pthread_mutex_unlock(&rtc->lock);
	return reg_name(&rtc_registers, index, write ? REG_WRITE : REG_READ, 0);
}

static const struct bus_ops bus_ops = { .read = bus_read_rtc,
					.write = bus_write_rtc,
					.name = bus_name_rtc };

static void rtc_device_reset(struct device *dev)
{
	struct rtc *rtc = (struct rtc *)dev;
	int64_t now = host_time();

	pthread_mutex_lock(&rtc->lock);
	rtc->index = 0;
	rtc_reset(&rtc->chip, now);
	update(rtc, now);
	pthread_mutex_unlock(&rtc->lock);
}

static void rtc_device_destroy(struct device *dev)
{
	struct rtc *rtc = (struct rtc *)dev;

	bus_remove(dev->host->pio, LAYOUT_RTC_PIO, rtc);
	event_timer_destroy(&rtc->timer);
	irq_line_set(&rtc->irq, false);
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

static const struct device_ops device_ops = {
	.reset = rtc_device_reset,
	.destroy = rtc_device_destroy,
};

static int plug(struct rtc *rtc, struct error *e)
{
	const struct bus_range range = {
		.name = "rtc",
		.base = LAYOUT_RTC_PIO,
		.size = PORTS,
		.ops = &bus_ops,
		.opaque = rtc,
		.account = rtc->dev.account,
	};
	int err;

	rtc->timer.callback = timer_due;
	rtc->timer.opaque = rtc;
	err = event_timer_init(&rtc->timer, rtc->dev.host->loop);
	if (err)
		return error_set_errno(e, err, "cannot make a timer");
	return bus_add(rtc->dev.host->pio, &range, e);
}

static int rtc_create(struct device_host *host, const struct device_config *config,
		      struct device **out, struct error *e)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));
	int err;

	if (!rtc)
		return error_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&rtc->lock, NULL);
	device_init(&rtc->dev, &device_ops, host, config);
	irq_line_init(&rtc->irq, host->irq, LAYOUT_RTC_IRQ);
	rtc->irq.account = rtc->dev.account;
	rtc_init(&rtc->chip, host_time());
	err = plug(rtc, e);
	if (err) {
		rtc_device_destroy(&rtc->dev);
		return err;
	}
	*out = &rtc->dev;
	return 0;
}

static const struct device_key keys[] = { { .name = NULL } };

const struct device_row row_rtc = {
	.class = CLASS_PLATFORM,
	.model = MODEL_EMULATED,
	.hw = "rtc",
	.summary = "CMOS clock and RAM of a PC (MC146818A)",
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = rtc_create,
};
