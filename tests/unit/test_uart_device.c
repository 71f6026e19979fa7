/*
 * The serial port on its bus, with a real backend behind it and the main loop on its own thread.
 * The test's thread is the vCPU: it drives the port as a guest's driver does.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/emulated/uart16550.h"
#include "devices/registry.h"
#include "tests/unit/chardev_sink.h"
#include "tests/unit/emulated_rig.h"

enum { THR = 0, RBR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6 };

#define COM1 0x3f8
#define BULK (64u << 10)

static struct em_rig rig;
static char bulk[BULK], back[BULK];

static void set_up(void)
{
	em_open(&rig);
	sink_pattern(bulk, BULK);
}

static void tear_down(void)
{
	em_close(&rig);
}

TestSuite(uart_device, .init = set_up, .fini = tear_down, .timeout = 60);

static uint8_t in(unsigned reg)
{
	return em_in(&rig, COM1 + reg);
}

static void out(unsigned reg, uint8_t value)
{
	em_out(&rig, COM1 + reg, value);
}

static struct device *open_stdio(int *to_stdin, int *from_stdout)
{
	int i[2], o[2];

	cr_assert_eq(pipe(i), 0);
	cr_assert_eq(pipe(o), 0);
	dup2(i[0], 0);
	dup2(o[1], 1);
	close(i[0]);
	close(o[1]);
	*to_stdin = i[1];
	*from_stdout = o[0];
	return em_device(&rig, &row_uart16550, 0, NULL);
}

/* As printk does: wait for THRE, write. */
static void print(const char *buf, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		while (!(in(LSR)&UART_LSR_THRE))
			sched_yield();
		out(THR, (uint8_t)buf[i]);
	}
}

/* ---- places ---------------------------------------------------------------------------------- */

Test(uart_device, com1_to_com4)
{
	static const struct {
		uint16_t port;
		unsigned irq;
	} want[] = { { 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 4 }, { 0x2e8, 3 } };
	struct device *dev[4];

	for (unsigned i = 0; i < 4; i++)
		dev[i] = em_device(&rig, &row_uart16550, i, "null");
	for (unsigned i = 0; i < 4; i++) {
		em_out(&rig, want[i].port + MCR, UART_MCR_OUT2);
		em_out(&rig, want[i].port + IER, UART_IER_ETBEI);
		cr_assert(em_line(&rig, want[i].irq));
		cr_assert_eq(em_in(&rig, want[i].port + IIR), UART_IIR_THRE);
		cr_assert(!em_line(&rig, want[i].irq));
	}
	cr_assert(strstr(em_device_fails(&rig, &row_uart16550, 4, "null"), "4 serial ports"));
	cr_assert(strstr(em_device_fails(&rig, &row_uart16550, 0, "null"), "uart0"));
	cr_assert(strstr(em_device_fails(&rig, &row_uart16550, 0, "blah"), "blah"));
	for (unsigned i = 0; i < 4; i++)
		em_destroy(dev[i]);
}

Test(uart_device, wide_accesses_are_bytes)
{
	struct device *dev = em_device(&rig, &row_uart16550, 0, "null");
	uint64_t value;

	out(IER, 0x05);
	bus_write(rig.host.pio, COM1 + LCR, 2, 0x0b03);
	cr_assert_eq(in(LCR), 0x03);
	cr_assert_eq(in(MCR), 0x0b);
	cr_assert(bus_read(rig.host.pio, COM1, 8, &value));
	cr_assert_eq(value >> 8 & 0xff, 0x05);
	cr_assert_eq(value >> 24 & 0xff, 0x03);
	cr_assert_eq(value >> 40 & 0xff, UART_LSR_THRE | UART_LSR_TEMT);
	em_torment(&rig, COM1, 8, 200000);
	dev->ops->reset(dev);
	cr_assert_eq(in(LCR), 0);
	cr_assert_eq(in(LSR), UART_LSR_THRE | UART_LSR_TEMT);
	em_destroy(dev);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

struct reader {
	int fd;
	size_t chunk; /* read so many at a time */
};

static void *read_slowly(void *arg)
{
	struct reader *r = arg;

	for (size_t got = 0; got < BULK;) {
		ssize_t n = read(r->fd, back + got, r->chunk < BULK - got ? r->chunk : BULK - got);

		if (n <= 0)
			break;
		got += (size_t)n;
		sched_yield();
	}
	return NULL;
}

static void bulk_out(int fd)
{
	struct reader r = { .fd = fd, .chunk = 13 };
	pthread_t thread;

	memset(back, 0, BULK);
	pthread_create(&thread, NULL, read_slowly, &r);
	print(bulk, BULK);
	pthread_join(thread, NULL);
	cr_assert_arr_eq(back, bulk, BULK);
}

Test(uart_device, bulk_output_through_a_pipe)
{
	int to, from;
	struct device *dev = open_stdio(&to, &from);

	bulk_out(from);
	em_destroy(dev);
}

Test(uart_device, bulk_output_through_a_pty)
{
	char link[] = "/tmp/mvm-uart-XXXXXX", path[64], spec[80];
	struct device *dev;
	int fd;

	cr_assert(mkdtemp(link));
	snprintf(path, sizeof(path), "%s/tty", link);
	snprintf(spec, sizeof(spec), "pty:%s", path);
	dev = em_device(&rig, &row_uart16550, 0, spec);
	cr_assert(!(in(MSR)&UART_MSR_DCD));
	fd = open(path, O_RDWR | O_NOCTTY);
	cr_assert_geq(fd, 0);
	while (!(in(MSR)&UART_MSR_DCD))
		sched_yield();
	bulk_out(fd);
	close(fd);
	while (in(MSR)&UART_MSR_DCD)
		sched_yield();
	em_destroy(dev);
	rmdir(link);
}

static void *feed(void *arg)
{
	sink_write_all(*(int *)arg, bulk, BULK);
	return NULL;
}

/* A driver that polls: `fcr` as it likes it. */
static void bulk_in_polled(uint8_t fcr)
{
	int to, from;
	struct device *dev = open_stdio(&to, &from);
	pthread_t thread;

	pthread_create(&thread, NULL, feed, &to);
	out(FCR, fcr);
	for (size_t n = 0; n < BULK; n++) {
		while (!(in(LSR)&UART_LSR_DR))
			sched_yield();
		cr_assert_eq((char)in(RBR), bulk[n], "byte %zu", n);
	}
	pthread_join(thread, NULL);
	em_destroy(dev);
}

Test(uart_device, bulk_input_polled_with_fifos)
{
	bulk_in_polled(UART_FCR_ENABLE);
}

Test(uart_device, bulk_input_polled_in_character_mode)
{
	bulk_in_polled(0);
}

/*
 * A driver that only moves when the interrupt line rises, as with an edge-triggered input: it
 * serves what IIR says and goes to sleep again. `batch`: bytes it reads for one IIR.
 */
static void bulk_in_by_interrupt(uint8_t fcr, unsigned batch)
{
	int to, from;
	struct device *dev = open_stdio(&to, &from);
	pthread_t thread;
	size_t n = 0;

	pthread_create(&thread, NULL, feed, &to);
	out(FCR, fcr);
	out(MCR, UART_MCR_OUT2);
	out(IER, UART_IER_ERBFI);
	while (n < BULK) {
		while (!em_line(&rig, 4))
			sched_yield();
		uint8_t id = in(IIR)&0x0f;

		cr_assert(id == UART_IIR_RDA || id == UART_IIR_CTI, "IIR %x", id);
		for (unsigned i = 0; i < batch && (i == 0 || (in(LSR)&UART_LSR_DR)); i++) {
			cr_assert_eq((char)in(RBR), bulk[n], "byte %zu", n);
			n++;
		}
	}
	pthread_join(thread, NULL);
	em_destroy(dev);
}

Test(uart_device, bulk_input_by_interrupt)
{
	bulk_in_by_interrupt(UART_FCR_ENABLE | 0x80, 64);
}

Test(uart_device, bulk_input_by_interrupt_at_trigger_14)
{
	bulk_in_by_interrupt(UART_FCR_ENABLE | 0xc0, 14);
}

Test(uart_device, bulk_input_by_interrupt_in_character_mode)
{
	bulk_in_by_interrupt(0, 1);
}

/* Typed before the guest runs, and while its driver starts and clears the FIFO: all of it arrives.
 */
Test(uart_device, input_before_the_driver_is_ready)
{
	int to, from;
	struct device *dev = open_stdio(&to, &from);
	static const char text[] = "echo hello; poweroff\n";

	sink_write_all(to, text, sizeof(text) - 1);
	close(to);
	print("early console", 13);
	for (unsigned i = 0; i < 3; i++) {
		out(FCR, UART_FCR_ENABLE);
		out(FCR, UART_FCR_ENABLE | UART_FCR_RESET_R | UART_FCR_RESET_X);
		out(FCR, 0);
		in(LSR);
		in(RBR);
		in(IIR);
		in(MSR);
	}
	out(FCR, UART_FCR_ENABLE);
	out(IER, UART_IER_ERBFI);
	for (const char *p = text; *p; p++) {
		while (!(in(LSR)&UART_LSR_DR))
			sched_yield();
		cr_assert_eq((char)in(RBR), *p);
	}
	em_destroy(dev);
}

/* ---- a stuck console ------------------------------------------------------------------------- */

/* A driver that does not look at THRE is not stopped either; one that does sees it is stuck. */
Test(uart_device, stuck_output_stops_nobody)
{
	int to, from;
	struct device *dev = open_stdio(&to, &from);
	size_t sent = 0;

	out(FCR, UART_FCR_ENABLE);
	while (in(LSR)&UART_LSR_THRE) {
		cr_assert_lt(sent, 10 * BULK);
		out(THR, (uint8_t)bulk[sent % BULK]);
		sent++;
	}
	for (unsigned i = 0; i < 1000; i++)
		out(THR, '!');
	cr_assert(!(in(LSR)&UART_LSR_TEMT));
	/* Somebody reads again: the transmitter empties, its interrupt comes. */
	out(FCR, UART_FCR_ENABLE | UART_FCR_RESET_X);
	out(THR, '?');
	out(MCR, UART_MCR_OUT2);
	out(IER, UART_IER_ETBEI);
	cr_assert(!em_line(&rig, 4));
	for (size_t got = 0; got < sent - 1; got++) {
		char c;

		sink_read_all(from, &c, 1);
		cr_assert_eq(c, bulk[got % BULK]);
	}
	while (!em_line(&rig, 4))
		sched_yield();
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_THRE);
	em_destroy(dev);
}

Test(uart_device, destroy_with_a_stuck_console)
{
	int to, from;
	struct device *dev = open_stdio(&to, &from);

	while (in(LSR)&UART_LSR_THRE)
		out(THR, 'x');
	em_destroy(dev);
}

/* ---- the user -------------------------------------------------------------------------------- */

static int terminal(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
	char name[64];

	grantpt(master);
	unlockpt(master);
	ptsname_r(master, name, sizeof(name));
	slave = open(name, O_RDWR | O_NOCTTY);
	cr_assert_geq(slave, 0);
	dup2(slave, 0);
	dup2(slave, 1);
	close(slave);
	return master;
}

Test(uart_device, ctrl_a_x_powers_off)
{
	int master = terminal();
	struct device *dev = em_device(&rig, &row_uart16550, 0, "stdio");

	sink_write_all(master, "ignored by the guest \001x", 23);
	cr_assert_eq(em_wait_request(&rig), REQUEST_POWEROFF);
	em_destroy(dev);
}

Test(uart_device, ctrl_a_b_breaks)
{
	int master = terminal();
	struct device *dev = em_device(&rig, &row_uart16550, 0, "stdio");

	out(FCR, UART_FCR_ENABLE);
	out(MCR, UART_MCR_OUT2);
	out(IER, UART_IER_ERBFI | UART_IER_ELSI);
	sink_write_all(master, "\001b", 2);
	while (!em_line(&rig, 4))
		sched_yield();
	cr_assert_eq(in(IIR)&0x0f, UART_IIR_RLS);
	cr_assert(in(LSR)&UART_LSR_BI);
	cr_assert_eq(in(RBR), 0);
	em_destroy(dev);
}
