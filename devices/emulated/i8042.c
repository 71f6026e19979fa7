/*
 * The keyboard controller of a PC, with no keyboard or mouse on it: Intel UPI-41/42 with the
 * command set of the IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
 * Device Controller". What matters is the line it drives: pulsing bit 0 of its output port resets
 * the machine. The rest answers a kernel's probe at once, so that it does not wait for a keyboard.
 *
 * Port 0x61, in between, is not part of it (speaker and timer gate).
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/device.h"
#include "devices/registers.h"
#include "vmm/x86_64/layout.h"

enum { DATA, STATUS, COMMAND, REGS };

#define COMMAND_PORT 4u /* from the data port */
#define KEYBOARD_IRQ 1u

/* Status */
#define OBF	 0x01u /* output buffer full: there is a byte to read */
#define SYS	 0x04u /* self-test passed */
#define CMD	 0x08u /* the last write was a command */
#define UNLOCKED 0x10u
#define TIMEOUT	 0x40u /* the device did not answer */

/* Controller command byte (CTR) */
#define CTR_KBDINT 0x01u
#define CTR_SYS	   0x04u
#define CTR_KBDDIS 0x10u
#define CTR_AUXDIS 0x20u

/* Output port */
#define PORT_RESET 0x01u /* low resets */
#define PORT_A20   0x02u

#define NO_ANSWER 0xfeu /* what the controller puts in a device's place after the time-out */

static const struct reg registers[REGS] = {
	[DATA] = { "DATA", 0, .width = 1, .access = REG_RW },
	[STATUS] = { "STATUS", COMMAND_PORT, .width = 1, .access = REG_READ, .reset = UNLOCKED },
	[COMMAND] = { "COMMAND", COMMAND_PORT, .width = 1, .access = REG_WRITE },
};

static const struct reg_table table = { registers, REGS };

struct i8042 {
	struct device dev;
	pthread_mutex_t lock; /* guards all below; the interrupt controller's come after it */
	uint8_t data;
	uint8_t status;
	uint8_t port;	 /* the output port */
	uint8_t ram[32]; /* of the controller; byte 0 is CTR */
	uint8_t expects; /* the command that the next data byte belongs to; 0: none */
	struct irq_line irq;
};

/* ---- the controller; lock held --------------------------------------------------------------- */

static void update_irq(struct i8042 *kbc)
{
	irq_line_set(&kbc->irq, (kbc->status & OBF) && (kbc->ram[0] & CTR_KBDINT));
}

static void answer(struct i8042 *kbc, uint8_t value, uint8_t flags)
{
	kbc->data = value;
	kbc->status = (uint8_t)((kbc->status & ~TIMEOUT) | OBF | flags);
}

/* Bit 0 low is the reset line. */
static enum machine_request set_port(struct i8042 *kbc, uint8_t value)
{
	kbc->port = value;
	return value & PORT_RESET ? REQUEST_NONE : REQUEST_RESET;
}

static void set_ctr_bit(struct i8042 *kbc, uint8_t bit, bool on)
{
	kbc->ram[0] = on ? kbc->ram[0] | bit : (uint8_t)(kbc->ram[0] & ~bit);
}

static void set_a20(struct i8042 *kbc, bool on)
{
	kbc->port = on ? kbc->port | PORT_A20 : (uint8_t)(kbc->port & ~PORT_A20);
}

static enum machine_request command(struct i8042 *kbc, uint8_t value)
{
	kbc->expects = 0;
	kbc->status |= CMD;
	switch (value) {
	case 0x20 ... 0x3f: /* read RAM */
		answer(kbc, kbc->ram[value & 0x1f], 0);
		break;
	case 0x60 ... 0x7f: /* write RAM */
	case 0xd1:	    /* write the output port */
	case 0xd2:	    /* write to the output buffer, as if from the keyboard */
	case 0xd3:	    /* … as if from the auxiliary device */
	case 0xd4:	    /* write to the auxiliary device */
		kbc->expects = value;
		break;
	case 0xa7:
	case 0xa8:
		set_ctr_bit(kbc, CTR_AUXDIS, value == 0xa7);
		break;
	case 0xad:
	case 0xae:
		set_ctr_bit(kbc, CTR_KBDDIS, value == 0xad);
		break;
	case 0xa9: /* test the auxiliary interface: clock line stuck low, there is none */
		answer(kbc, 0x01, 0);
		break;
	case 0xaa: /* self-test */
		kbc->status |= SYS;
		kbc->ram[0] |= CTR_SYS;
		answer(kbc, 0x55, 0);
		break;
	case 0xab: /* test the keyboard interface: no error */
		answer(kbc, 0x00, 0);
		break;
	case 0xc0: /* read the input port: keyboard not inhibited */
		answer(kbc, 0x80, 0);
		break;
	case 0xd0:
		answer(kbc, kbc->port, 0);
		break;
	case 0xdd:
	case 0xdf:
		set_a20(kbc, value == 0xdf);
		break;
	case 0xe0: /* read the test inputs */
		answer(kbc, 0x00, 0);
		break;
	case 0xf0 ... 0xff: /* pulse low those lines whose bit is 0 */
		return value & PORT_RESET ? REQUEST_NONE : REQUEST_RESET;
	}
	return REQUEST_NONE;
}

static enum machine_request data(struct i8042 *kbc, uint8_t value)
{
	uint8_t expects = kbc->expects;

	kbc->expects = 0;
	kbc->status &= (uint8_t)~CMD;
	switch (expects) {
	case 0x60 ... 0x7f:
		kbc->ram[expects & 0x1f] = value;
		break;
	case 0xd1:
		return set_port(kbc, value);
	case 0xd2:
		answer(kbc, value, 0);
		break;
	case 0xd3:
		/* A looped byte that comes back is how a probe finds an auxiliary port. */
		answer(kbc, (uint8_t)~value, 0);
		break;
	default: /* to a device that is not there */
		answer(kbc, NO_ANSWER, TIMEOUT);
		break;
	}
	return REQUEST_NONE;
}

/* ---- the bus --------------------------------------------------------------------------------- */

static uint8_t read_at(struct i8042 *kbc, uint64_t offset)
{
	int i = reg_find(&table, offset, 1, REG_READ, 0);
	uint8_t value = 0xff;

	pthread_mutex_lock(&kbc->lock);
	if (i == STATUS) {
		value = kbc->status;
	} else if (i == DATA) {
		value = kbc->data;
		kbc->status &= (uint8_t) ~(OBF | TIMEOUT);
		update_irq(kbc);
	}
	pthread_mutex_unlock(&kbc->lock);
	return value;
}

static void write_at(struct i8042 *kbc, uint64_t offset, uint8_t value)
{
	int i = reg_find(&table, offset, 1, REG_WRITE, 0);
	enum machine_request request = REQUEST_NONE;

	pthread_mutex_lock(&kbc->lock);
	if (i == COMMAND)
		request = command(kbc, value);
	else if (i == DATA)
		request = data(kbc, value);
	update_irq(kbc);
	pthread_mutex_unlock(&kbc->lock);
	if (request != REQUEST_NONE)
		kbc->dev.host->request(kbc->dev.host, request);
}

/* Each port is a range of its own, one byte wide: the bus lets only byte accesses through. */
static uint64_t read_data(void *opaque, uint64_t offset, unsigned size)
{
	(void)size;
	return read_at(opaque, offset);
}

static void write_data(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)size;
	write_at(opaque, offset, (uint8_t)value);
}

static uint64_t read_status(void *opaque, uint64_t offset, unsigned size)
{
	(void)size;
	return read_at(opaque, offset + COMMAND_PORT);
}

static void write_command(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)size;
	write_at(opaque, offset + COMMAND_PORT, (uint8_t)value);
}

static const char *name_data(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)size;
	return reg_name(&table, offset, write ? REG_WRITE : REG_READ, 0);
}

static const char *name_command(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)size;
	return reg_name(&table, offset + COMMAND_PORT, write ? REG_WRITE : REG_READ, 0);
}

static const struct bus_ops data_ops = { .read = read_data,
					 .write = write_data,
					 .name = name_data };
static const struct bus_ops command_ops = { .read = read_status,
					    .write = write_command,
					    .name = name_command };

/* ---- life cycle ------------------------------------------------------------------------------ */

static void i8042_reset(struct device *dev)
{
	struct i8042 *kbc = (struct i8042 *)dev;

	pthread_mutex_lock(&kbc->lock);
	kbc->data = 0;
	kbc->status = (uint8_t)registers[STATUS].reset;
	kbc->port = PORT_RESET | PORT_A20;
	kbc->expects = 0;
	for (unsigned i = 0; i < sizeof(kbc->ram); i++)
		kbc->ram[i] = 0;
	kbc->ram[0] = CTR_KBDDIS | CTR_AUXDIS;
	update_irq(kbc);
	pthread_mutex_unlock(&kbc->lock);
}

static void i8042_destroy(struct device *dev)
{
	struct i8042 *kbc = (struct i8042 *)dev;

	bus_remove(dev->host->pio, LAYOUT_I8042_PIO, kbc);
	bus_remove(dev->host->pio, LAYOUT_I8042_PIO + COMMAND_PORT, kbc);
	irq_line_set(&kbc->irq, false);
	pthread_mutex_destroy(&kbc->lock);
	free(kbc);
}

static const struct device_ops device_ops = {
	.reset = i8042_reset,
	.destroy = i8042_destroy,
};

static int plug(struct i8042 *kbc, struct error *e)
{
	struct bus *pio = kbc->dev.host->pio;
	const struct bus_range data_range = {
		.name = "i8042 data",
		.base = LAYOUT_I8042_PIO,
		.size = 1,
		.ops = &data_ops,
		.opaque = kbc,
		.account = kbc->dev.account,
	};
	const struct bus_range command_range = {
		.name = "i8042 command",
		.base = LAYOUT_I8042_PIO + COMMAND_PORT,
		.size = 1,
		.ops = &command_ops,
		.opaque = kbc,
		.account = kbc->dev.account,
	};
	int err = bus_add(pio, &data_range, e);

	return err ? err : bus_add(pio, &command_range, e);
}

static int i8042_create(struct device_host *host, const struct device_config *config,
			struct device **out, struct error *e)
{
	struct i8042 *kbc = calloc(1, sizeof(*kbc));
	int err;

	if (!kbc)
		return error_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&kbc->lock, NULL);
	device_init(&kbc->dev, &device_ops, host, config);
	irq_line_init(&kbc->irq, host->irq, KEYBOARD_IRQ);
	kbc->irq.account = kbc->dev.account;
	i8042_reset(&kbc->dev);
	err = plug(kbc, e);
	if (err) {
		i8042_destroy(&kbc->dev);
		return err;
	}
	*out = &kbc->dev;
	return 0;
}

static const struct device_key keys[] = { { .name = NULL } };

const struct device_row row_i8042 = {
	.class = CLASS_PLATFORM,
	.model = MODEL_EMULATED,
	.hw = "i8042",
	.summary = "PC keyboard controller: only its reset line is connected",
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = i8042_create,
};
