/*
 * The 16550's registers (PC16550D data sheet, section 8) at COM1.
 */
#ifndef GUEST_UART_H
#define GUEST_UART_H

#define COM1	  0x3f8
#define COM1_GSI  4
#define UART_FIFO 16

#define UART_RBR 0
#define UART_THR 0
#define UART_DLL 0
#define UART_IER 1
#define UART_DLM 1
#define UART_IIR 2
#define UART_FCR 2
#define UART_LCR 3
#define UART_MCR 4
#define UART_LSR 5
#define UART_MSR 6
#define UART_SCR 7

#define UART_IER_RX   0x01
#define UART_IER_THRE 0x02
#define UART_IER_LINE 0x04
#define UART_IER_MSR  0x08

#define UART_IIR_NONE	 0x01
#define UART_IIR_ID	 0x0f
#define UART_IIR_MSR	 0x00
#define UART_IIR_THRE	 0x02
#define UART_IIR_RX	 0x04
#define UART_IIR_LINE	 0x06
#define UART_IIR_TIMEOUT 0x0c
#define UART_IIR_FIFOS	 0xc0

#define UART_FCR_ENABLE	    0x01
#define UART_FCR_CLEAR_RX   0x02
#define UART_FCR_CLEAR_TX   0x04
#define UART_FCR_TRIGGER_14 0xc0

#define UART_LCR_8N1  0x03
#define UART_LCR_DLAB 0x80

#define UART_MCR_DTR  0x01
#define UART_MCR_RTS  0x02
#define UART_MCR_OUT1 0x04
#define UART_MCR_OUT2 0x08
#define UART_MCR_LOOP 0x10

#define UART_LSR_DR   0x01
#define UART_LSR_OE   0x02
#define UART_LSR_BI   0x10
#define UART_LSR_THRE 0x20
#define UART_LSR_TEMT 0x40

#define UART_MSR_DCTS 0x01
#define UART_MSR_TERI 0x04
#define UART_MSR_CTS  0x10
#define UART_MSR_DSR  0x20
#define UART_MSR_RI   0x40
#define UART_MSR_DCD  0x80

#endif
