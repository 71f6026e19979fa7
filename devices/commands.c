/*
 * The commands there are, in the order help shows them: see vmm/command.h.
 */
#include "devices/virtio/vhost/backend.h"
#include "vmm/command.h"

const struct command *const command_table[] = {
	&command_backend_blk,
	NULL,
};
