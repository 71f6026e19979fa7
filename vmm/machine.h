/*
 * One virtual machine, made from a config, run until the guest or the user ends it, and taken
 * apart.
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include "vmm/config.h"
#include "vmm/error.h"

/* The exit status of mvm; README and man page list these. */
enum machine_status {
	STATUS_OK = 0,	    /* the guest powered off, or the user quit */
	STATUS_FAILED = 1,  /* the VMM could not start, or failed */
	STATUS_USAGE = 2,   /* the command line is wrong */
	STATUS_CRASHED = 3, /* triple fault, panic device, KVM internal error */
};

/*
 * Makes the machine, runs it, takes it apart. config must be complete (config_complete()). Returns
 * an enum machine_status; e->msg says why it could not start or go on, and is empty otherwise.
 * *signal gets the number of the signal that ended it (SIGTERM …), else 0; all is taken apart by
 * then.
 */
int machine_main(const struct config *config, int *signal, struct error *e);

#endif
