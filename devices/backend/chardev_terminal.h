/*
 * The modes of the terminal on stdin: raw while a guest's console is on it, as they were whenever
 * mvm is not in the foreground or not running. For chardev_stdio.c.
 */
#ifndef DEVICES_BACKEND_CHARDEV_TERMINAL_H
#define DEVICES_BACKEND_CHARDEV_TERMINAL_H

#include <stdbool.h>

/* stdio is ours from now on; -EBUSY: another console has it. */
int chardev_terminal_claim(void);
/*
 * The terminal whose modes to change, and an eventfd to signal after the process was stopped and
 * goes on, or the terminal's size has changed. Both stay the caller's and must live until the
 * release.
 */
void chardev_terminal_use(int tty, int wake);
/* Restores and lets go. */
void chardev_terminal_release(void);
/*
 * Raw mode, if we are in the terminal's foreground; false if not. In the background it must be
 * neither read nor changed: the kernel would stop the process.
 */
bool chardev_terminal_raw(void);

#endif
