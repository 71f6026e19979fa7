/*
 * The machine that the user asked for: what argv (or a --config file) says, checked, before
 * anything is opened. options.c fills it, machine.c reads it.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "boot/boot.h"
#include "devices/device.h"
#include "devices/registry.h"
#include "vmm/memory.h"

#define CONFIG_MAX_CPUS	   64
#define CONFIG_MAX_DEVICES 32

enum config_irqchip { IRQCHIP_KERNEL, IRQCHIP_SPLIT, IRQCHIP_USER };

/* What main() does. */
enum config_action {
	ACTION_RUN,
	ACTION_HELP, /* on config.topic, or NULL */
	ACTION_VERSION,
	ACTION_LIST_DEVICES,
	ACTION_PRINT_CONFIG, /* after config_complete() */
};

struct config {
	device_rows registry; /* device_registry[]; tests put their own here after config_init() */
	enum config_action action;
	char *topic;	       /* of ACTION_HELP: one that help_topic_known() knows, or NULL */
	char *kernel, *initrd; /* paths or NULL: the default guest */
	char *append;	       /* added to the command line; NULL after config_complete() */
	char *cmdline;	       /* replaces the default one; complete after config_complete() */
	char *images;	       /* directory of the default guest, or NULL to search */
	enum boot_protocol boot;
	struct memory_config memory;
	unsigned cpus;
	enum config_irqchip irqchip;
	bool no_reboot;
	char *stats;		    /* where statistics go at the end, or NULL */
	unsigned stats_interval_ms; /* of the live table; 0: none */
	char *trace;		    /* where a trace goes, "text", or NULL */
	char *trace_devices;	    /* "blk0+net0"; NULL: all */
	uint64_t trace_limit;	    /* bytes of it */
	bool trace_kicks;	    /* doorbells come as exits, so that they can be seen */
	unsigned ndevices;
	struct device_config device[CONFIG_MAX_DEVICES];
};

void config_init(struct config *config); /* defaults */
void config_free(struct config *config); /* any number of times */

/*
 * argv → config: 0, or -EINVAL with a message that names the flag and the way out (exit status 2),
 * or -ENOMEM. --config=FILE is read at the place where it stands. Of an option that is repeated the
 * last counts; devices and --append add up. --help, --version and --list-devices end the parsing.
 */
int config_parse(struct config *config, int argc, char **argv, struct error *e);

/*
 * Completes what the user left open and checks it as a whole: finds the default guest's kernel and
 * initrd (--images=DIR, $MVM_IMAGES, the build tree beside the binary, the installed data
 * directory), makes the whole command line in cmdline and adds the default devices (a console).
 * -ENOENT says where it looked, -EINVAL what does not go together (exit status 2).
 */
int config_complete(struct config *config, struct error *e);

/* A device that no flag asked for (the platform's): no target, every key at its default. */
int config_device_defaults(struct device_config *d, const struct device_row *row, struct error *e);

/* Writes it as --config reads it; reading it again gives the same config. */
void config_print(const struct config *config, FILE *out);

#endif
