/*
 * The registers of the PC16550D: see uart16550.h. Two things are freer than on silicon:
 *
 * Receiving. The other end behaves as with hardware flow control: it sends while there is room and
 * the guest listens, that is, has the receive interrupt enabled or keeps polling LSR. So neither a
 * full FIFO nor a driver that clears the FIFO while it starts loses a byte. Overrun exists in
 * loopback.
 *
 * Sending. A byte leaves at once unless the other end is stuck. In FIFO mode with its interrupt
 * enabled the emptiness of the transmitter is shown with the next access to another register, after
 * 16 bytes or four character times, whichever is first: one interrupt a burst, as on silicon.
 */
#include <string.h>

#include "devices/emulated/uart16550.h"

#define CLOCK_NS   8681u     /* 16 periods of the 1.8432 MHz crystal: one bit at divisor 1 */
#define ALARM_MAX  10000000u /* ns; slower lines than 4800 baud are not waited for */
#define LISTENS_AT 16u	     /* LSR reads in a row: this is somebody polling for input */

static const struct reg registers[UART_REGS] = {
	[UART_THR] = { "THR", 0, .width = 1, .access = REG_WRITE, .bank = UART_BANK_DATA },
	[UART_RBR] = { "RBR", 0, .width = 1, .access = REG_READ, .bank = UART_BANK_DATA },
	[UART_IER] = { "IER", 1, .width = 1, .access = REG_RW, .bank = UART_BANK_DATA,
		       .writable = 0x0f },
	[UART_IIR] = { "IIR", 2, .width = 1, .access = REG_READ, .reset = UART_IIR_NONE },
	[UART_FCR] = { "FCR", 2, .width = 1, .access = REG_WRITE,
		       .writable = UART_FCR_ENABLE | UART_FCR_DMA | UART_FCR_TRIGGER },
	[UART_LCR] = { "LCR", 3, .width = 1, .access = REG_RW, .writable = 0xff },
	[UART_MCR] = { "MCR", 4, .width = 1, .access = REG_RW, .writable = 0x1f },
	/* Writing LSR and MSR is for factory tests: it does nothing. */
	[UART_LSR] = { "LSR", 5, .width = 1, .access = REG_RW,
		       .reset = UART_LSR_THRE | UART_LSR_TEMT },
	[UART_MSR] = { "MSR", 6, .width = 1, .access = REG_RW,
		       .reset = UART_MSR_CTS | UART_MSR_DSR },
	[UART_SCR] = { "SCR", 7, .width = 1, .access = REG_RW, .writable = 0xff },
	/* 9600 baud; the data sheet leaves them undefined until written. */
	[UART_DLL] = { "DLL", 0, .width = 1, .access = REG_RW, .bank = UART_BANK_DIVISOR,
		       .reset = 12, .writable = 0xff },
	[UART_DLM] = { "DLM", 1, .width = 1, .access = REG_RW, .bank = UART_BANK_DIVISOR,
		       .writable = 0xff },
};

const struct reg_table uart_registers = { registers, UART_REGS };

/* ---- state that follows from registers ------------------------------------------------------- */

static bool fifos(const struct uart_chip *chip)
{
	return chip->reg[UART_FCR] & UART_FCR_ENABLE;
}

static unsigned depth(const struct uart_chip *chip)
{
	return fifos(chip) ? UART_FIFO : 1;
}

static unsigned trigger(const struct uart_chip *chip)
{
	static const uint8_t level[4] = { 1, 4, 8, 14 };

	return fifos(chip) ? level[chip->reg[UART_FCR] >> 6] : 1;
}

static bool loopback(const struct uart_chip *chip)
{
	return chip->reg[UART_MCR] & UART_MCR_LOOP;
}

static bool listening(const struct uart_chip *chip)
{
	return (chip->reg[UART_IER] & UART_IER_ERBFI) || chip->polls >= LISTENS_AT;
}

static uint8_t line_status(const struct uart_chip *chip)
{
	uint8_t lsr = (uint8_t)(chip->reg[UART_LSR] & UART_LSR_ERRORS);

	if (chip->rx.count)
		lsr |= UART_LSR_DR;
	if (!chip->tx_count)
		lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	for (unsigned i = 0; fifos(chip) && i < chip->rx.count; i++)
		if (chip->rx.error[(chip->rx.head + i) % UART_FIFO])
			lsr |= UART_LSR_FIFOE;
	return lsr;
}

/* Table IV: the source of highest priority among those that are enabled. */
static uint8_t interrupt_id(const struct uart_chip *chip)
{
	uint64_t ier = chip->reg[UART_IER];

	if ((ier & UART_IER_ELSI) && (chip->reg[UART_LSR] & UART_LSR_ERRORS))
		return UART_IIR_RLS;
	if ((ier & UART_IER_ERBFI) && chip->rx.count >= trigger(chip))
		return UART_IIR_RDA;
	if ((ier & UART_IER_ERBFI) && chip->timed_out)
		return UART_IIR_CTI;
	if ((ier & UART_IER_ETBEI) && chip->thre_pending)
		return UART_IIR_THRE;
	if ((ier & UART_IER_EDSSI) && (chip->reg[UART_MSR] & 0x0f))
		return UART_IIR_MS;
	return UART_IIR_NONE;
}

/* A PC gates the pin with OUT2, and loopback turns the OUT2 pin off. */
static void update(struct uart_chip *chip)
{
	bool level = interrupt_id(chip) != UART_IIR_NONE && (chip->reg[UART_MCR] & UART_MCR_OUT2) &&
		     !loopback(chip);

	if (level == chip->level)
		return;
	chip->level = level;
	chip->ops->interrupt(chip->opaque, level);
}

/* Four character times: start bit, data, parity, stop bits, at the divisor's rate. */
static void set_alarm(struct uart_chip *chip)
{
	uint64_t lcr = chip->reg[UART_LCR];
	uint64_t divisor = chip->reg[UART_DLM] << 8 | chip->reg[UART_DLL];
	uint64_t bits =
		1 + 5 + (lcr & UART_LCR_WLS) + !!(lcr & UART_LCR_PEN) + 1 + !!(lcr & UART_LCR_STB);
	uint64_t ns = 4 * bits * (divisor ? divisor : 1) * CLOCK_NS;

	if (chip->alarm_set)
		return;
	chip->alarm_set = true;
	chip->ops->alarm(chip->opaque, ns < ALARM_MAX ? ns : ALARM_MAX);
}

/* The inputs CTS, DSR, RI and DCD; in loopback the outputs RTS, DTR, OUT1 and OUT2 (8.7). */
static void update_modem(struct uart_chip *chip)
{
	uint64_t mcr = chip->reg[UART_MCR], old = chip->reg[UART_MSR], lines;

	if (loopback(chip))
		lines = (mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
			(mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
			(mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
			(mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
	else
		lines = UART_MSR_CTS | UART_MSR_DSR | (chip->carrier ? UART_MSR_DCD : 0);
	/* A delta bit lies four below its line; RI counts only when it goes away. */
	chip->reg[UART_MSR] = lines | (old & 0x0f) |
			      ((lines ^ old) & (UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD)) >> 4 |
			      (old & ~lines & UART_MSR_RI) >> 4;
}

/* ---- receiver -------------------------------------------------------------------------------- */

/* The errors of a character show in LSR when it gets to the top of the FIFO. */
static void reveal(struct uart_chip *chip)
{
	if (chip->rx.count)
		chip->reg[UART_LSR] |= chip->rx.error[chip->rx.head];
}

/* The shift register hands over a character. */
static void rx_push(struct uart_chip *chip, uint8_t data, uint8_t error)
{
	unsigned at;

	if (chip->rx.count >= depth(chip)) {
		chip->reg[UART_LSR] |= UART_LSR_OE;
		/* In FIFO mode the newcomer is lost, in 16450 mode what nobody read. */
		if (fifos(chip))
			return;
		chip->rx.count = 0;
	}
	at = (chip->rx.head + chip->rx.count) % UART_FIFO;
	chip->rx.data[at] = data;
	chip->rx.error[at] = error;
	if (chip->rx.count++ == 0)
		reveal(chip);
	/* Nothing follows at once: as if the four character times had passed. */
	chip->timed_out = fifos(chip);
}

static void rx_clear(struct uart_chip *chip)
{
	chip->rx.head = chip->rx.count = 0;
	chip->timed_out = false;
	chip->polls = 0;
}

/* Lets in what is on the line. */
static void rx_fill(struct uart_chip *chip)
{
	unsigned n = 0;

	if (!listening(chip) || loopback(chip))
		return;
	while (n < chip->line_count && chip->rx.count < depth(chip))
		rx_push(chip, chip->line[n++], 0);
	chip->line_count -= n;
	memmove(chip->line, chip->line + n, chip->line_count);
	if (chip->line_break && !chip->line_count && chip->rx.count < depth(chip)) {
		chip->line_break = false;
		rx_push(chip, 0, UART_LSR_BI);
	}
	if (!chip->line_count)
		chip->ops->listen(chip->opaque);
}

static uint8_t read_rbr(struct uart_chip *chip)
{
	if (!chip->rx.count)
		return (uint8_t)chip->reg[UART_RBR];
	chip->reg[UART_RBR] = chip->rx.data[chip->rx.head];
	chip->rx.head = (chip->rx.head + 1) % UART_FIFO;
	chip->rx.count--;
	chip->timed_out = false;
	chip->rx_touched = true;
	reveal(chip);
	if (chip->rx.count < trigger(chip)) {
		/* First low, then perhaps high again: the next character is another edge. */
		update(chip);
		rx_fill(chip);
	}
	if (chip->rx.count && chip->rx.count < trigger(chip) && !chip->timed_out)
		set_alarm(chip);
	return (uint8_t)chip->reg[UART_RBR];
}

static uint8_t read_lsr(struct uart_chip *chip)
{
	uint8_t lsr = line_status(chip);

	chip->reg[UART_LSR] &= ~(uint64_t)UART_LSR_ERRORS;
	if (chip->rx.count)
		chip->rx.error[chip->rx.head] = 0;
	/* Waiting for the transmitter is not listening. */
	if ((lsr & (UART_LSR_DR | UART_LSR_THRE)) == UART_LSR_THRE && chip->polls < LISTENS_AT &&
	    ++chip->polls == LISTENS_AT)
		rx_fill(chip);
	return lsr;
}

/* A write in between: not a loop that waits for input, unless it was one before. */
static void not_polling(struct uart_chip *chip)
{
	if (chip->polls < LISTENS_AT)
		chip->polls = 0;
}

/* ---- transmitter ----------------------------------------------------------------------------- */

/* What was sent is seen to have left: if all of it has, the interrupt is due, if it is enabled. */
static void tx_empty(struct uart_chip *chip)
{
	chip->tx_burst = 0;
	chip->thre_pending = !chip->tx_count && (chip->reg[UART_IER] & UART_IER_ETBEI);
}

static void tx_clear(struct uart_chip *chip)
{
	chip->tx_count = 0;
	tx_empty(chip);
}

/* True if the byte has left; else it waits, and THRE stays 0. */
static bool tx_send(struct uart_chip *chip, uint8_t value)
{
	if (loopback(chip)) {
		rx_push(chip, value, 0);
		return !chip->tx_count;
	}
	if (!chip->tx_count && chip->ops->send(chip->opaque, &value, 1) == 1)
		return true;
	if (chip->tx_count < depth(chip))
		chip->tx[chip->tx_count++] = value;
	else if (!fifos(chip))
		chip->tx[0] = value;
	return false;
}

static void write_thr(struct uart_chip *chip, uint8_t value)
{
	bool sent;

	chip->thre_pending = false;
	sent = tx_send(chip, value);
	/* The way of most bytes: polled output changes no interrupt. */
	if (!loopback(chip) && !(chip->reg[UART_IER] & UART_IER_ETBEI))
		return;
	update(chip);
	if (!sent || !(chip->reg[UART_IER] & UART_IER_ETBEI))
		return;
	if (fifos(chip) && ++chip->tx_burst < UART_FIFO) {
		set_alarm(chip);
		return;
	}
	tx_empty(chip);
	update(chip);
}

/* ---- registers ------------------------------------------------------------------------------- */

static void write_ier(struct uart_chip *chip, uint64_t value)
{
	bool was = chip->reg[UART_IER] & UART_IER_ETBEI;

	chip->reg[UART_IER] = value;
	/* Enabling it while the transmitter is empty asks for an interrupt at once. */
	if (!was || !(value & UART_IER_ETBEI))
		tx_empty(chip);
	rx_fill(chip);
}

static void write_fcr(struct uart_chip *chip, uint8_t value)
{
	bool toggled = (value ^ chip->reg[UART_FCR]) & UART_FCR_ENABLE;

	/* Going in or out of FIFO mode clears both; without bit 0 the others are not programmed. */
	if (!(value & UART_FCR_ENABLE))
		value = 0;
	chip->reg[UART_FCR] = reg_merge(&registers[UART_FCR], 0, value);
	if (toggled || (value & UART_FCR_RESET_R))
		rx_clear(chip);
	if (toggled || (value & UART_FCR_RESET_X))
		tx_clear(chip);
	rx_fill(chip);
}

static unsigned bank(const struct uart_chip *chip)
{
	return chip->reg[UART_LCR] & UART_LCR_DLAB ? UART_BANK_DIVISOR : UART_BANK_DATA;
}

static uint8_t read_register(struct uart_chip *chip, int i)
{
	uint8_t value;

	switch (i) {
	case UART_RBR:
		return read_rbr(chip);
	case UART_LSR:
		return read_lsr(chip);
	case UART_IIR:
		value = interrupt_id(chip);
		if (value == UART_IIR_THRE)
			chip->thre_pending = false;
		return value | (fifos(chip) ? UART_IIR_FIFOS : 0);
	case UART_MSR:
		value = (uint8_t)chip->reg[UART_MSR];
		chip->reg[UART_MSR] &= 0xf0;
		return value;
	default:
		return i < 0 ? 0xff : (uint8_t)chip->reg[i];
	}
}

uint8_t uart_read(struct uart_chip *chip, unsigned offset)
{
	int i = reg_find(&uart_registers, offset, 1, REG_READ, bank(chip));
	uint8_t value;

	if (chip->tx_burst)
		tx_empty(chip);
	value = read_register(chip, i);
	update(chip);
	return value;
}

void uart_write(struct uart_chip *chip, unsigned offset, uint8_t value)
{
	int i = reg_find(&uart_registers, offset, 1, REG_WRITE, bank(chip));

	if (i < 0)
		return;
	not_polling(chip);
	if (i == UART_THR) {
		write_thr(chip, value);
		return;
	}
	if (chip->tx_burst)
		tx_empty(chip);
	if (i == UART_FCR) {
		write_fcr(chip, value);
	} else if (i == UART_IER) {
		write_ier(chip, reg_merge(&registers[i], chip->reg[i], value));
	} else {
		chip->reg[i] = reg_merge(&registers[i], chip->reg[i], value);
		if (i == UART_MCR) {
			update_modem(chip);
			rx_fill(chip);
		}
	}
	update(chip);
}

const char *uart_register_name(const struct uart_chip *chip, unsigned offset, bool write)
{
	return reg_name(&uart_registers, offset, write ? REG_WRITE : REG_READ, bank(chip));
}

/* ---- the world outside ----------------------------------------------------------------------- */

size_t uart_room(const struct uart_chip *chip)
{
	return listening(chip) ? UART_LINE - chip->line_count : 0;
}

void uart_receive(struct uart_chip *chip, const uint8_t *buf, size_t len)
{
	if (len > UART_LINE - chip->line_count)
		len = UART_LINE - chip->line_count;
	memcpy(chip->line + chip->line_count, buf, len);
	chip->line_count += (unsigned)len;
	rx_fill(chip);
	update(chip);
}

void uart_break(struct uart_chip *chip)
{
	chip->line_break = true;
	rx_fill(chip);
	update(chip);
}

void uart_writable(struct uart_chip *chip)
{
	size_t n;

	if (!chip->tx_count)
		return;
	n = chip->ops->send(chip->opaque, chip->tx, chip->tx_count);
	chip->tx_count -= (unsigned)n;
	memmove(chip->tx, chip->tx + n, chip->tx_count);
	if (!chip->tx_count)
		tx_empty(chip);
	update(chip);
}

void uart_carrier(struct uart_chip *chip, bool present)
{
	chip->carrier = present;
	update_modem(chip);
	update(chip);
}

void uart_alarm(struct uart_chip *chip)
{
	chip->alarm_set = false;
	if (chip->tx_burst)
		tx_empty(chip);
	if (chip->rx.count && fifos(chip) && !chip->timed_out) {
		/* Read since: another four character times. */
		if (chip->rx_touched)
			set_alarm(chip);
		else
			chip->timed_out = true;
	}
	chip->rx_touched = false;
	update(chip);
}

void uart_reset(struct uart_chip *chip)
{
	reg_reset(&uart_registers, chip->reg);
	chip->reg[UART_LSR] = 0;
	rx_clear(chip);
	tx_clear(chip);
	update_modem(chip);
	chip->reg[UART_MSR] &= 0xf0;
	update(chip);
}

void uart_init(struct uart_chip *chip, const struct uart_ops *ops, void *opaque)
{
	*chip = (struct uart_chip){ .ops = ops, .opaque = opaque };
	uart_reset(chip);
}
