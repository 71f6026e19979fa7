/*
 * The PC16550D as a chip: its registers and what they do, knowing neither bus nor threads. Bytes
 * and the interrupt pin go through uart_ops; uart16550.c puts it on the bus. All names are those of
 * the data sheet: TI (National) PC16550D, "Universal Asynchronous Receiver/Transmitter with FIFOs",
 * section 8.0.
 */
#ifndef DEVICES_EMULATED_UART16550_H
#define DEVICES_EMULATED_UART16550_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/registers.h"

#define UART_PORTS 8
#define UART_FIFO  16u

/* IER */
#define UART_IER_ERBFI 0x01u /* received data available, character timeout */
#define UART_IER_ETBEI 0x02u /* transmitter holding register empty */
#define UART_IER_ELSI  0x04u /* receiver line status */
#define UART_IER_EDSSI 0x08u /* modem status */

/* IIR: bits 0-3 */
#define UART_IIR_NONE  0x01u
#define UART_IIR_RLS   0x06u
#define UART_IIR_RDA   0x04u
#define UART_IIR_CTI   0x0cu
#define UART_IIR_THRE  0x02u
#define UART_IIR_MS    0x00u
#define UART_IIR_FIFOS 0xc0u /* FIFOs are enabled */

/* FCR */
#define UART_FCR_ENABLE	 0x01u
#define UART_FCR_RESET_R 0x02u
#define UART_FCR_RESET_X 0x04u
#define UART_FCR_DMA	 0x08u
#define UART_FCR_TRIGGER 0xc0u

/* LCR */
#define UART_LCR_WLS  0x03u
#define UART_LCR_STB  0x04u
#define UART_LCR_PEN  0x08u
#define UART_LCR_DLAB 0x80u

/* MCR */
#define UART_MCR_DTR  0x01u
#define UART_MCR_RTS  0x02u
#define UART_MCR_OUT1 0x04u
#define UART_MCR_OUT2 0x08u
#define UART_MCR_LOOP 0x10u

/* LSR */
#define UART_LSR_DR	0x01u
#define UART_LSR_OE	0x02u
#define UART_LSR_PE	0x04u
#define UART_LSR_FE	0x08u
#define UART_LSR_BI	0x10u
#define UART_LSR_THRE	0x20u
#define UART_LSR_TEMT	0x40u
#define UART_LSR_FIFOE	0x80u /* an error somewhere in the receive FIFO */
#define UART_LSR_ERRORS (UART_LSR_OE | UART_LSR_PE | UART_LSR_FE | UART_LSR_BI)

/* MSR */
#define UART_MSR_DCTS 0x01u
#define UART_MSR_DDSR 0x02u
#define UART_MSR_TERI 0x04u
#define UART_MSR_DDCD 0x08u
#define UART_MSR_CTS  0x10u
#define UART_MSR_DSR  0x20u
#define UART_MSR_RI   0x40u
#define UART_MSR_DCD  0x80u

/* Indexes of uart_registers; the one that is hit most comes first. */
enum uart_reg {
	UART_THR,
	UART_LSR,
	UART_RBR,
	UART_IIR,
	UART_IER,
	UART_FCR,
	UART_LCR,
	UART_MCR,
	UART_MSR,
	UART_SCR,
	UART_DLL,
	UART_DLM,
	UART_REGS
};

extern const struct reg_table uart_registers;

/* Banks of uart_registers: the state of LCR bit 7. */
#define UART_BANK_DATA	  1u
#define UART_BANK_DIVISOR 2u

/* What the chip's pins are connected to. Called with the chip's owner's lock held. */
struct uart_ops {
	size_t (*send)(void *opaque, const uint8_t *buf, size_t len); /* how many were taken */
	void (*interrupt)(void *opaque, bool level);
	void (*listen)(void *opaque);		  /* uart_room() has grown */
	void (*alarm)(void *opaque, uint64_t ns); /* call uart_alarm() then; one at a time */
};

/* Bytes that have arrived but are not in the receiver yet: the line itself. */
#define UART_LINE 64u

struct uart_chip {
	const struct uart_ops *ops;
	void *opaque;
	uint64_t reg[UART_REGS]; /* LSR: only the error bits; MSR: lines and deltas */

	uint8_t line[UART_LINE];
	unsigned line_count;
	bool line_break; /* and then a break */
	bool carrier;

	struct {
		uint8_t data[UART_FIFO];
		uint8_t error[UART_FIFO]; /* the LSR bits of that character */
		unsigned head, count;
	} rx;
	bool timed_out;	 /* character timeout is indicated */
	bool rx_touched; /* the FIFO was read since the alarm was set */
	unsigned polls;	 /* LSR reads in a row that found nothing */

	uint8_t tx[UART_FIFO]; /* what the other end had no room for */
	unsigned tx_count;
	bool thre_pending; /* the THRE interrupt */
	unsigned tx_burst; /* bytes sent whose THRE interrupt is still to come */

	bool alarm_set;
	bool level;
};

void uart_init(struct uart_chip *chip, const struct uart_ops *ops, void *opaque);
/* The MR pin. What is on the line stays there. */
void uart_reset(struct uart_chip *chip);

uint8_t uart_read(struct uart_chip *chip, unsigned offset);
void uart_write(struct uart_chip *chip, unsigned offset, uint8_t value);

/* How many bytes uart_receive() takes now: none while the guest does not listen. */
size_t uart_room(const struct uart_chip *chip);
void uart_receive(struct uart_chip *chip, const uint8_t *buf, size_t len);
void uart_break(struct uart_chip *chip);
/* ops->send has room again. */
void uart_writable(struct uart_chip *chip);
void uart_carrier(struct uart_chip *chip, bool present);
void uart_alarm(struct uart_chip *chip);

/* For traces: the name of the register that an access would hit now. */
const char *uart_register_name(const struct uart_chip *chip, unsigned offset, bool write);

#endif
