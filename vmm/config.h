/*
 * The machine that the user asked for: what argv (or a --config file) says, checked, before
 * anything is opened. options.c fills it, machine.c reads it.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/boot.h"
#include "devices/device.h"
#include "vmm/memory.h"

#define CONFIG_MAX_CPUS	   64
#define CONFIG_MAX_DEVICES 32

enum config_irqchip { IRQCHIP_KERNEL, IRQCHIP_SPLIT, IRQCHIP_USER };

/* What main() does. */
enum config_action { ACTION_RUN, ACTION_DONE /* help and the like: printed, exit 0 */ };

struct config {
	enum config_action action;
	char *kernel, *initrd; /* paths or NULL: the default guest */
	char *append;	       /* added to the default command line */
	char *cmdline;	       /* replaces it */
	char *images;	       /* directory of the default guest, or NULL to search */
	enum boot_protocol boot;
	struct memory_config memory;
	unsigned cpus;
	enum config_irqchip irqchip;
	bool no_reboot;
	unsigned ndevices;
	struct device_config device[CONFIG_MAX_DEVICES];
};

void config_init(struct config *config); /* defaults */
void config_free(struct config *config);

/*
 * argv → config: 0, or -EINVAL with a message that names the flag and the way out (exit status 2).
 * --config=FILE is read at the place where it stands.
 */
int config_parse(struct config *config, int argc, char **argv, struct error *e);

/*
 * Completes what the user left open and checks it as a whole: finds the default guest's kernel and
 * initrd (--images=DIR, $MVM_IMAGES, the build tree beside the binary, the installed data
 * directory) and adds the default devices (a console). -ENOENT says where it looked.
 */
int config_complete(struct config *config, struct error *e);

#endif
