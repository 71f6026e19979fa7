/*
 * Giving rights up, for processes of ours that serve another one: what is open stays usable,
 * nothing else of the host can be reached. Linux: namespaces(7), landlock(7), seccomp(2).
 */
#ifndef VMM_SANDBOX_H
#define VMM_SANDBOX_H

#include "vmm/error.h"

/*
 * While there is one thread, and files and sockets are open: no new privileges by exec, namespaces
 * without network or IPC, no access to files by name, but that of removing one from `directory`
 * (NULL: not even that). What this kernel does not let us have is left out: these are second walls.
 */
void sandbox_isolate(const char *directory);

/*
 * When all is set up: any system call but those named (NULL-terminated) kills the process, in all
 * its threads; no file is opened by name, and memory is never made executable. Threads may allocate
 * and free memory as they like. -errno with a message.
 */
int sandbox_filter(const char *const *allowed, struct error *e);

#endif
