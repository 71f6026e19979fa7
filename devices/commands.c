/*
 * The list of all commands, in the order help shows them: see registry.h.
 */
#include "devices/registry.h"

const struct command *const device_commands[] = {
	&command_vfio,
	NULL,
};
