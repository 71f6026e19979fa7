/*
 * Terminal modes: see chardev_terminal.h and chardev_restore_terminal() in chardev.h. POSIX.1-2017,
 * General Terminal Interface (chapter 11), job control in 11.1.4.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "devices/backend/chardev.h"
#include "devices/backend/chardev_terminal.h"
#include "vmm/event_fd.h"

/*
 * The one state at file scope: a signal handler gets no argument, and a process has one controlling
 * terminal. Written by the main thread; `raw` also by handlers.
 */
static struct {
	bool claimed;
	bool handlers;
	bool known; /* cooked is valid */
	volatile sig_atomic_t raw;
	int tty;  /* -1: none */
	int wake; /* eventfd */
	struct termios cooked;
	struct sigaction old_tstp, old_cont, old_winch;
} terminal = { .tty = -1, .wake = -1 };

/* A terminal that is not our controlling one knows no background. */
static bool in_foreground(void)
{
	pid_t group = tcgetpgrp(terminal.tty);

	return group < 0 || group == getpgrp();
}

/* TCSANOW: anything else would wait for output that a stuck terminal never takes. */
static void set_modes(const struct termios *modes)
{
	sigset_t ttou, old;

	/* Blocked, it does not stop us should we have lost the foreground this moment. */
	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &ttou, &old);
	tcsetattr(terminal.tty, TCSANOW, modes);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void chardev_restore_terminal(void)
{
	int saved = errno;

	if (terminal.raw) {
		terminal.raw = 0;
		/* In the background the modes are the business of who is in front. */
		if (in_foreground())
			set_modes(&terminal.cooked);
	}
	errno = saved;
}

bool chardev_terminal_raw(void)
{
	struct termios modes;

	if (terminal.tty < 0)
		return true;
	if (!in_foreground())
		return false;
	if (terminal.raw)
		return true;
	/* Remembered once, the first time in front: later they may be the raw ones. */
	if (!terminal.known && tcgetattr(terminal.tty, &terminal.cooked) < 0)
		return true;
	terminal.known = true;
	modes = terminal.cooked;
	/* c_oflag stays: our own lines and the guest's bare newlines still start at the left. */
	modes.c_iflag &=
		~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	modes.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	modes.c_cc[VMIN] = 1;
	modes.c_cc[VTIME] = 0;
	/* Before the change: a signal in between then restores once too often, not too rarely. */
	terminal.raw = 1;
	set_modes(&modes);
	return true;
}

static void wake(void)
{
	/* A full counter has woken the loop already. */
	event_fd_signal(terminal.wake);
}

/* The loop finds out whether we are in front and sets raw mode again. */
static void on_cont(int sig)
{
	int saved = errno;

	(void)sig;
	/* Whoever stopped us may have changed the modes since. */
	terminal.raw = 0;
	wake();
	errno = saved;
}

/* Gives the terminal back and then stops, by the default action, as the shell expects it. */
static void on_tstp(int sig)
{
	struct sigaction stop = { .sa_handler = SIG_DFL }, ours;
	int saved = errno;
	sigset_t set, old;

	chardev_restore_terminal();
	sigaction(sig, &stop, &ours);
	raise(sig);
	sigemptyset(&set);
	sigaddset(&set, sig);
	pthread_sigmask(SIG_UNBLOCK, &set, &old);
	/* … stopped here; or not, if no shell is there to continue us. */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	sigaction(sig, &ours, NULL);
	wake();
	errno = saved;
}

static void on_winch(int sig)
{
	int saved = errno;

	(void)sig;
	wake();
	errno = saved;
}

static void install_handlers(void)
{
	struct sigaction winch = { .sa_handler = on_winch, .sa_flags = SA_RESTART };
	struct sigaction tstp = { .sa_handler = on_tstp, .sa_flags = SA_RESTART };
	struct sigaction cont = { .sa_handler = on_cont, .sa_flags = SA_RESTART };

	sigaction(SIGTSTP, NULL, &terminal.old_tstp);
	/* A parent without job control has it ignored, and so it must stay. */
	if (terminal.old_tstp.sa_handler != SIG_IGN)
		sigaction(SIGTSTP, &tstp, NULL);
	sigaction(SIGCONT, &cont, &terminal.old_cont);
	sigaction(SIGWINCH, &winch, &terminal.old_winch);
	terminal.handlers = true;
}

int chardev_terminal_claim(void)
{
	if (terminal.claimed)
		return -EBUSY;
	terminal.claimed = true;
	return 0;
}

void chardev_terminal_use(int tty, int wake_fd)
{
	terminal.tty = tty;
	terminal.wake = wake_fd;
	install_handlers();
}

void chardev_terminal_release(void)
{
	if (!terminal.claimed)
		return;
	chardev_restore_terminal();
	if (terminal.handlers) {
		sigaction(SIGTSTP, &terminal.old_tstp, NULL);
		sigaction(SIGCONT, &terminal.old_cont, NULL);
		sigaction(SIGWINCH, &terminal.old_winch, NULL);
	}
	terminal.handlers = false;
	terminal.known = false;
	terminal.tty = -1;
	terminal.wake = -1;
	terminal.claimed = false;
}
