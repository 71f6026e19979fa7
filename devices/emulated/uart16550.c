/*
 * A serial port of a PC: the chip of uart16550.h on its ports and interrupt, in front of a
 * character backend. vCPU threads touch the registers; the backend calls from the main thread.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/backend/chardev.h"
#include "devices/device.h"
#include "devices/emulated/uart16550.h"
#include "vmm/x86_64/layout.h"

struct uart {
	struct device dev;
	/*
	 * Guards the chip. Order: this, then what the backend, the interrupt controller and the
	 * timer lock inside; none of them calls back from there.
	 */
	pthread_mutex_t lock;
	struct uart_chip chip;
	struct irq_line irq;
	struct chardev *chr;
	struct event_timer alarm;
	uint16_t port;
};

static const char *const names[LAYOUT_UARTS] = { "uart0", "uart1", "uart2", "uart3" };

/* ---- the chip's pins; lock held -------------------------------------------------------------- */

static size_t pin_send(void *opaque, const uint8_t *buf, size_t len)
{
	struct uart *uart = opaque;

	return chardev_write(uart->chr, buf, len);
}

static void pin_interrupt(void *opaque, bool level)
{
	struct uart *uart = opaque;

	irq_line_set(&uart->irq, level);
}

static void pin_listen(void *opaque)
{
	struct uart *uart = opaque;

	chardev_accept_input(uart->chr);
}

static void pin_alarm(void *opaque, uint64_t ns)
{
	struct uart *uart = opaque;

	event_timer_set(&uart->alarm, ns);
}

static const struct uart_ops pins = {
	.send = pin_send,
	.interrupt = pin_interrupt,
	.listen = pin_listen,
	.alarm = pin_alarm,
};

/* ---- the bus; vCPU threads ------------------------------------------------------------------- */

static uint8_t read_byte(void *opaque, uint64_t offset)
{
	struct uart *uart = opaque;

	return uart_read(&uart->chip, (unsigned)offset);
}

static void write_byte(void *opaque, uint64_t offset, uint8_t value)
{
	struct uart *uart = opaque;

	uart_write(&uart->chip, (unsigned)offset, value);
}

static uint64_t bus_read_uart(void *opaque, uint64_t offset, unsigned size)
{
	struct uart *uart = opaque;
	uint64_t value;

	pthread_mutex_lock(&uart->lock);
	value = reg_read_bytewise(uart, offset, size, read_byte);
	pthread_mutex_unlock(&uart->lock);
	return value;
}

static void bus_write_uart(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct uart *uart = opaque;

	pthread_mutex_lock(&uart->lock);
	reg_write_bytewise(uart, offset, size, value, write_byte);
	pthread_mutex_unlock(&uart->lock);
}

static const char *bus_name_uart(void *opaque, uint64_t offset, unsigned size, bool write)
{
	struct uart *uart = opaque;
	const char *name;

	(void)size;
	pthread_mutex_lock(&uart->lock);
	name = uart_register_name(&uart->chip, (unsigned)offset, write);
	pthread_mutex_unlock(&uart->lock);
	return name;
}

static const struct bus_ops bus_ops = { .read = bus_read_uart,
					.write = bus_write_uart,
					.name = bus_name_uart };

/* ---- the backend; main thread ---------------------------------------------------------------- */

static size_t can_receive(void *opaque)
{
	struct uart *uart = opaque;
	size_t room;

	pthread_mutex_lock(&uart->lock);
	room = uart_room(&uart->chip);
	pthread_mutex_unlock(&uart->lock);
	return room;
}

static void receive(void *opaque, const uint8_t *buf, size_t len)
{
	struct uart *uart = opaque;

	pthread_mutex_lock(&uart->lock);
	uart_receive(&uart->chip, buf, len);
	pthread_mutex_unlock(&uart->lock);
}

static void writable(void *opaque)
{
	struct uart *uart = opaque;

	pthread_mutex_lock(&uart->lock);
	uart_writable(&uart->chip);
	pthread_mutex_unlock(&uart->lock);
}

static void carrier(void *opaque, bool present)
{
	struct uart *uart = opaque;

	pthread_mutex_lock(&uart->lock);
	uart_carrier(&uart->chip, present);
	pthread_mutex_unlock(&uart->lock);
}

static const struct chardev_client client = {
	.can_receive = can_receive,
	.receive = receive,
	.writable = writable,
	.carrier = carrier,
};

static void alarm_due(void *opaque)
{
	struct uart *uart = opaque;

	pthread_mutex_lock(&uart->lock);
	uart_alarm(&uart->chip);
	pthread_mutex_unlock(&uart->lock);
}

static void user_quits(void *opaque)
{
	struct uart *uart = opaque;

	uart->dev.host->request(uart->dev.host, REQUEST_POWEROFF);
}

static void user_breaks(void *opaque)
{
	struct uart *uart = opaque;

	pthread_mutex_lock(&uart->lock);
	uart_break(&uart->chip);
	pthread_mutex_unlock(&uart->lock);
}

/* ---- life cycle ------------------------------------------------------------------------------ */

static void uart_device_reset(struct device *dev)
{
	struct uart *uart = (struct uart *)dev;

	pthread_mutex_lock(&uart->lock);
	uart_reset(&uart->chip);
	pthread_mutex_unlock(&uart->lock);
}

static void uart_device_destroy(struct device *dev)
{
	struct uart *uart = (struct uart *)dev;

	bus_remove(dev->host->pio, uart->port, uart);
	chardev_close(uart->chr);
	event_timer_destroy(&uart->alarm);
	irq_line_set(&uart->irq, false);
	pthread_mutex_destroy(&uart->lock);
	free(uart);
}

static const struct device_ops device_ops = {
	.reset = uart_device_reset,
	.destroy = uart_device_destroy,
};

static int plug(struct uart *uart, const struct device_config *config, struct error *e)
{
	struct device_host *host = uart->dev.host;
	const struct chardev_escape escape = {
		.quit = user_quits,
		.send_break = user_breaks,
		.opaque = uart,
	};
	const struct bus_range range = {
		.name = names[config->index],
		.base = uart->port,
		.size = UART_PORTS,
		.ops = &bus_ops,
		.opaque = uart,
		.account = uart->dev.account,
	};
	int err;

	uart->alarm.callback = alarm_due;
	uart->alarm.opaque = uart;
	err = event_timer_init(&uart->alarm, host->loop);
	if (err)
		return error_set_errno(e, err, "cannot make a timer");
	err = chardev_open(&uart->chr, host->loop, config->target, &escape, e);
	if (err)
		return err;
	/* The client last: it is then that bytes may arrive. */
	err = bus_add(host->pio, &range, e);
	if (!err)
		chardev_set_client(uart->chr, &client, uart);
	return err;
}

static int uart_create(struct device_host *host, const struct device_config *config,
		       struct device **out, struct error *e)
{
	struct uart *uart;
	int err;

	if (config->index >= LAYOUT_UARTS)
		return error_set(e, -ENOSPC, "a PC has %u serial ports and no more", LAYOUT_UARTS);
	uart = calloc(1, sizeof(*uart));
	if (!uart)
		return error_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&uart->lock, NULL);
	device_init(&uart->dev, &device_ops, host, config);
	uart->port = LAYOUT_UART_PIO(config->index);
	irq_line_init(&uart->irq, host->irq, LAYOUT_UART_IRQ(config->index));
	uart->irq.account = uart->dev.account;
	uart_init(&uart->chip, &pins, uart);
	err = plug(uart, config, e);
	if (err) {
		uart_device_destroy(&uart->dev);
		return err;
	}
	uart_device_reset(&uart->dev);
	*out = &uart->dev;
	return 0;
}

static const struct device_key keys[] = { { .name = NULL } };

const struct device_row row_uart16550 = {
	.class = CLASS_CONSOLE,
	.model = MODEL_EMULATED,
	.hw = "16550",
	.preferred = true,
	.summary = "serial port of a PC (16550A)",
	.target = "stdio|pty[:LINK]|file:PATH|unix:PATH|null",
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = uart_create,
};
